//! The words host and guest exchange over their one channel.
//!
//! The channel carries yamux streams. Each stream begins with one [`Open`] frame that says what it is for.
//! Host and guest distrust each other: every frame is bounded, and what the guest needs to believe is checked
//! against signed or measured values elsewhere. Nothing here is secret; a workload's output is the workload's own.
//! Left out: the transport (`sys/transport`) and multiplexing (the programs).

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod frame;
mod message;

pub use frame::{Frame, FrameError, FrameReader, Kind, MAX_FRAME};
pub use message::{
    BlobReply, BlobRequest, Event, ImageSource, Input, Network, Open, Refusal, RunRequest, SCRATCH_SERIAL,
    Winsize, volume_serial,
};
