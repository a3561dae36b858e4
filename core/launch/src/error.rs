//! Why a measurement cannot be predicted.

use coffer_core_digest::Digest;

/// Why a measurement cannot be predicted.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum LaunchError {
    /// The firmware file is not one whose memory layout is known.
    #[error(
        "the firmware {found} has no profile, so register 0 cannot be predicted; known: {known}. \
         Use one of these, or add a profile as core/launch/src/firmware.rs tells"
    )]
    UnknownFirmware {
        /// The file's digest.
        found: Digest,
        /// The names of the known builds.
        known: String,
    },
    /// The firmware file does not have the form that its profile says.
    #[error("the firmware file is damaged: {0}")]
    Firmware(&'static str),
    /// The kernel is not a bzImage that a PC boots.
    #[error("the kernel is not an x86 bzImage with an EFI stub: {0}")]
    Kernel(&'static str),
    /// The machine has too little memory, or more than is predicted.
    #[error("{found} MiB of memory: predicted from {least} to {most} MiB")]
    Memory {
        /// The memory asked for.
        found: u32,
        /// The least that is predicted.
        least: u32,
        /// The most that is predicted.
        most: u32,
    },
    /// The number of processors is out of range.
    #[error("{found} processors: predicted from 1 to {most}")]
    Processors {
        /// The number asked for.
        found: u32,
        /// The most that is predicted.
        most: u32,
    },
    /// The physical address width is out of range.
    #[error("a physical address width of {found} bits: predicted from 36 to 47")]
    AddressWidth {
        /// The width asked for.
        found: u8,
    },
    /// The command line has something that changes what is measured in a way that is not predicted.
    #[error("the command line {0}")]
    CommandLine(&'static str),
    /// The initrd does not fit below the end of memory, or there is none.
    #[error("an initrd of {size} bytes does not fit into {memory} bytes of low memory")]
    Initrd {
        /// The initrd's size.
        size: usize,
        /// Memory below 4 GiB.
        memory: u64,
    },
}
