//! The parts of a guest that a measurement can be laid to, and the changes of one part that are computed beforehand.

use std::collections::BTreeMap;
use std::fmt;

use coffer_core_digest::Digest;
use serde::{Deserialize, Serialize};

/// The part of a guest that an event measures, or the parameter of its machine that a register depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Component {
    /// The firmware's code, as it is for the machine's shape.
    Firmware,
    /// The firmware's boot settings.
    FirmwareSettings,
    /// The secure boot variables.
    SecureBoot,
    /// The kernel.
    Kernel,
    /// The kernel's command line.
    CommandLine,
    /// The initial RAM disk.
    Initrd,
    /// The init-data.
    InitData,
    /// The steps of the boot itself: separators and actions.
    BootSequence,
    /// The number of processors.
    Vcpus,
    /// The size of memory, or the map of it.
    Memory,
    /// The processor type that the launcher names.
    Cpu,
    /// The features that a guest's processors run with.
    GuestFeatures,
    /// The launcher: what differs from one VMM to another.
    Vmm,
    /// The tables by which the host describes its devices to the firmware.
    AcpiTables,
    /// The hashes of kernel, initrd and command line that the launcher puts beside the firmware.
    KernelHashes,
    /// The pages and page attributes of an enclave.
    Enclave,
    /// The key that signed an enclave or an ID block.
    Signer,
}

impl Component {
    /// The name, as in the check code `measurement.command-line`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::FirmwareSettings => "firmware-settings",
            Self::SecureBoot => "secure-boot",
            Self::Kernel => "kernel",
            Self::CommandLine => "command-line",
            Self::Initrd => "initrd",
            Self::InitData => "init-data",
            Self::BootSequence => "boot-sequence",
            Self::Vcpus => "vcpus",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::GuestFeatures => "guest-features",
            Self::Vmm => "vmm",
            Self::AcpiTables => "acpi-tables",
            Self::KernelHashes => "kernel-hashes",
            Self::Enclave => "enclave",
            Self::Signer => "signer",
        }
    }

    /// The name in a sentence.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::FirmwareSettings => "firmware's boot settings",
            Self::SecureBoot => "secure boot state",
            Self::Kernel => "kernel",
            Self::CommandLine => "kernel's command line",
            Self::Initrd => "initrd",
            Self::InitData => "init-data",
            Self::BootSequence => "sequence of the boot",
            Self::Vcpus => "number of processors",
            Self::Memory => "memory size",
            Self::Cpu => "processor type",
            Self::GuestFeatures => "guest features",
            Self::Vmm => "launcher",
            Self::AcpiTables => "ACPI tables",
            Self::KernelHashes => "kernel hashes",
            Self::Enclave => "enclave's pages",
            Self::Signer => "signer",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One event that will be in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictedEvent {
    /// The register's index as in the log: of a PCR its number, in a CCEL 1 for RTMR0.
    /// [`crate::register_name`] gives the name.
    pub register: u32,
    /// The event type by its specified name, as in `EV_EVENT_TAG`.
    pub kind: String,
    /// What is measured.
    pub component: Component,
    /// The digest that is extended.
    pub digest: Digest,
    /// For a person. For the command line it is the measured text itself.
    pub detail: String,
}

/// What the registers would be if one thing were different. Computed with the prediction, while the files are at
/// hand, so that a register that differs can be explained without them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variation {
    /// The part or parameter that is different.
    pub component: Component,
    /// The difference, as in `2 vCPUs instead of 4`.
    pub detail: String,
    /// The registers that are then different, with the values they then have.
    pub registers: BTreeMap<String, Digest>,
    /// The events that are then different, by their digests. Together with a second difference the registers have
    /// values that nothing explains; the events still do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Digest>,
}
