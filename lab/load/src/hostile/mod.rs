//! What breaks brokers: floods, slow senders, idle connections, long bodies, bombs of headers and frames.
//!
//! Each is bounded in count and time by its caller and by the constants here, whichever is less, and each takes a
//! [`Loopback`](crate::Loopback). What is reported is what the broker did, never whether that was good.

mod bodies;
mod flood;
mod frames;
mod headers;
mod idle;
mod raw;
mod slow;

use std::collections::BTreeMap;
use std::time::Duration;

pub use bodies::{Bodies, BodyEnd, big_bodies};
pub use flood::{Flood, FloodReport, flood_auth};
pub use frames::{FrameBomb, frame_bomb};
pub use headers::{HeaderBomb, header_bomb};
pub use idle::{Idle, IdleConnections, idle_connections};
pub use slow::{Slow, SlowReport, slow_senders};

/// No hostile run is longer.
pub const LONGEST: Duration = Duration::from_secs(600);
/// No hostile run opens more connections.
pub const MOST_CONNECTIONS: usize = 20_000;

/// How connections or calls ended, and how often.
pub type Ends = BTreeMap<String, u64>;
