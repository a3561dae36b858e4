//! Why there is no machine, or a machine does not do what it should.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::qmp::QmpError;

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The program is not there.
    #[error("{program} is not installed. Install QEMU (Debian: apt-get install qemu-system-x86)")]
    NotInstalled {
        /// The program.
        program: PathBuf,
    },
    /// A file of the machine cannot be opened.
    #[error("cannot open the machine's {what} {path}: {source}")]
    File {
        /// What the file is.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process could not be started or watched.
    #[error("cannot run the machine: {0}")]
    Process(#[from] io::Error),
    /// It ended while it was starting.
    #[error("the machine's process ended at its start ({status}): {errors}")]
    Ended {
        /// How.
        status: String,
        /// Its last errors.
        errors: String,
    },
    /// Every slot for disks has one.
    #[error("the machine's {slots} slots for disks are taken; detach one, or give the machine more slots")]
    NoSlot {
        /// How many slots there are.
        slots: usize,
    },
    /// The guest keeps a disk.
    #[error("the guest did not let the disk go within {} s; unmount it there and try again", waited.as_secs())]
    NotDetached {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The monitor failed.
    #[error(transparent)]
    Monitor(#[from] QmpError),
}
