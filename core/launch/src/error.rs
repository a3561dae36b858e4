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
    /// The firmware's own description of itself is missing or damaged.
    #[error("the firmware cannot be measured: {0}")]
    Metadata(&'static str),
    /// A kernel is given, and the firmware has no page for its hash.
    #[error(
        "the firmware has no page for kernel hashes, so a kernel that the launcher loads would not be measured; \
         use a build with one (OVMF's AmdSev), or predict without a kernel"
    )]
    NoKernelHashes,
    /// The processor type is not known.
    #[error(
        "the processor type {found:?} is not known; known: {known}, or family/model/stepping as in 25/1/1"
    )]
    CpuType {
        /// The name asked for.
        found: String,
        /// The known names.
        known: String,
    },
    /// The launcher is not known.
    #[error("the launcher {found:?} is not known; known: {known}")]
    Vmm {
        /// The name asked for.
        found: String,
        /// The known names.
        known: &'static str,
    },
    /// A key or its authentication information has not the form.
    #[error("the ID key cannot be read: {0}")]
    IdKey(&'static str),
    /// An IGVM file cannot be read.
    #[error("the IGVM file cannot be measured: {0}")]
    Igvm(&'static str),
    /// The ID block in a file is for another launch.
    #[error("the ID block is for the measurement {found}, but the file measures to {expected}")]
    IdBlock {
        /// The measurement computed.
        expected: Box<Digest>,
        /// The measurement in the block.
        found: Box<Digest>,
    },
    /// An enclave's page stream cannot be measured.
    #[error("the enclave cannot be measured: {0}")]
    Enclave(&'static str),
    /// A SIGSTRUCT cannot be read or believed.
    #[error("the SIGSTRUCT is refused: {0}")]
    Sigstruct(&'static str),
    /// The enclave is not the one that was signed.
    #[error("the SIGSTRUCT is for the enclave {found}, but the file measures to {expected}")]
    OtherEnclave {
        /// The measurement computed.
        expected: Box<Digest>,
        /// The measurement signed.
        found: Box<Digest>,
    },
}
