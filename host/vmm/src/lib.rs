//! Virtual machines: from a typed [`MachineSpec`] to a process that cannot outlive its owner.
//!
//! Holds true: a machine's command line is a pure function of its specification; every file goes to the machine
//! as a descriptor that its owner opened; a machine dies with its owner, however the owner ends.
//! Left out: what a guest is for (`host/sandbox`), and any judgement of it: this zone is not trusted.

pub mod accelerator;
pub mod doctor;
mod error;
mod hotplug;
mod lasting;
mod process;
pub mod qemu;
mod qmp;
mod spec;

pub use error::MachineError;
pub use hotplug::Attached;
pub use lasting::{lasting, on_lasting_thread};
pub use process::{Machine, Qemu, Running, Vmm};
pub use qmp::{Qmp, QmpError, Status};
pub use spec::{
    Accelerator, Channel, Content, Disk, Firmware, Forward, Kind, LinuxBoot, MachineSpec, QuoteService,
    SnpGuest, TdxGuest, UserNetwork, Vendor,
};
