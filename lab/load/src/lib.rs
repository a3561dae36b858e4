//! Guests by the thousand: a load generator for brokers, and what breaks them.
//!
//! Holds true: a guest's outcome is its key, a refusal, or an error that says to come again, and each is counted by its
//! status and code. What is hostile is bounded in count and time and goes to loopback addresses only.
//! Left out: judging the figures, which a person does, and starting brokers, which `lab/broker` does.

mod admin;
mod arguments;
mod dice;
mod ending;
mod endpoint;
mod flow;
mod guests;
mod histogram;
pub mod hostile;
mod link;
mod process;
mod report;
mod route;
mod run;
mod tally;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use admin::{Admin, Terms};
pub use arguments::Arguments;
pub use dice::Dice;
pub use ending::{Ended, Step};
pub use endpoint::{Endpoint, Loopback, Protocol, Tls};
pub use flow::{Carry, Visit, visit};
pub use guests::Guests;
pub use histogram::Histogram;
pub use link::{Answer, Call, CallError, Link};
pub use process::{Memory, cpu, memory, raise_descriptors, signature_time};
pub use report::{Report, ServerReport, StepReport};
pub use route::{Patience, Route};
pub use run::{Comes, Connections, Finished, Pace, Plan, Until, run};
pub use tally::Tally;
