//! The Network Block Device protocol, as a server of one read-only export, without I/O.
//!
//! [`Server`] takes a client's bytes, gives the reads that it asks for, and collects what is to be sent. Who serves
//! answers reads in any order ([`Server::answer`]). Numbers and names are of the protocol's own document
//! (NetworkBlockDevice/nbd, `doc/proto.md`). Left out: structured replies, TLS and everything that writes.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod export;
mod negotiation;
mod request;
mod server;
#[cfg(test)]
mod tests;

pub use export::{Export, MAX_NAME};
pub use negotiation::{MAX_OPTION, MAX_OPTIONS};
pub use request::{Command, Errno, MAX_READ, REQUEST_LENGTH, Request};
pub use server::{Event, Read, Server};

/// Why a client's bytes end the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NbdError {
    /// The client's first word is not the protocol's.
    #[error("expected {expected} ({wanted:#x}), found {found:#x}; this is no NBD client")]
    Magic {
        /// Which number belongs here.
        expected: &'static str,
        /// Its value.
        wanted: u64,
        /// What came.
        found: u64,
    },
    /// The client does not speak the fixed newstyle negotiation, or has flags that nobody defined.
    #[error("the client's flags are {0:#x}; expected fixed newstyle (1), at most with no-zeroes (2)")]
    Flags(u32),
    /// An option's data are longer than any that this server knows.
    #[error("an option of {0} bytes; at most {MAX_OPTION} are read")]
    OptionLength(u32),
    /// The client negotiates without end.
    #[error("{MAX_OPTIONS} options and no export chosen")]
    Options,
    /// The client asks, in the one option that has no error reply, for an export that is not served.
    #[error("there is no export of the name that the client asks for")]
    Unknown,
    /// A write whose payload is longer than the protocol lets any server expect.
    #[error("a payload of {0} bytes; at most {MAX_READ} are read")]
    Payload(u32),
}
