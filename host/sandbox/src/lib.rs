//! One sandbox on the untrusted node: disks, machine, channel, ports, clean-up.
//!
//! Holds true: whatever ends a sandbox (its workload, a refusal, an error, a signal, a kill), no process, socket or
//! file of it stays; what a killed owner left, the next sandbox sweeps. Nothing here is trusted by the guest or by
//! the owner: the guest checks every blob, and the broker checks the guest.
//! Left out: building the guest (`tools/guest-image`), measuring it (`core/launch`), choosing what to run.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod blobs;
mod config;
mod console;
mod error;
mod link;
mod parts;
mod record;
mod rundir;
mod sandbox;

pub use config::{
    ChannelKind, ConsoleLog, GuestFiles, INIT_DATA_SERIAL, SandboxConfig, ScratchDisk, SealedContent,
    SealedDisk, VolumeDisk, base_command_line, disk_serial, network,
};
pub use error::{SandboxError, Tail};
pub use sandbox::{Sandbox, SandboxEvent, SandboxInput, Side, Step};
