//! The launch measurement of an AMD SEV-SNP guest that begins in OVMF, or as an IGVM file says.
//!
//! The measurement covers the firmware, the pages that its metadata asks for, the hashes of kernel, initrd and
//! command line where the firmware has a page for them, and one page of initial state for each processor. So it
//! depends on the processors' number and type, on their features, and on the launcher. Memory size and devices
//! change nothing.
//!
//! A guest without kernel hashes measures no kernel: whoever wants its kernel known must learn it from the disk,
//! by other means. Left out: SEV and SEV-ES without SNP, and the module that SVSM starts beside the firmware (an
//! SVSM comes as an IGVM file).

mod cpu;
mod digest;
mod hashes;
mod idblock;
mod igvm;
mod vmsa;

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;

pub use cpu::CpuType;
pub use idblock::{AuthBlock, IdBlock, key_digest};
pub use igvm::{SnpIgvmLaunch, predict_snp_igvm};

pub(crate) use digest::{LaunchDigest, PageKind};
use hashes::KernelHashes;

use crate::ovmf::{Ovmf, SevSection};
use crate::reference::Prediction;
use crate::{Artifacts, Component, LaunchError, MAX_VARIATIONS, ReferenceValues, Variation};

/// What KVM uses for the state page's address, whatever the processor: -1 without the bits that no address has.
const VMSA_GPA: u64 = 0xffff_ffff_f000;
/// The same on processors with four more address bits, as Google's hypervisor has it.
const VMSA_GPA_52: u64 = 0xf_ffff_ffff_f000;
const MOST_PROCESSORS: u32 = 512;
/// The name of the only register that firmware and processors decide on.
const MEASUREMENT: &str = "measurement";

/// SEV_FEATURES: only SNP, and SNP with debug register swapping, which KVM of Linux 6.x sets by itself.
const FEATURES: [(u64, &str); 2] = [(0x1, "SNP alone"), (0x21, "SNP with debug register swapping")];

/// The launcher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Vmm {
    /// QEMU with KVM.
    #[default]
    Qemu,
    /// Amazon EC2, as it launched guests until the spring of 2026.
    Ec2,
    /// Amazon EC2 since then: RDX holds what KVM sets at reset. Guests that were launched before keep the other.
    Ec2Since2026,
    /// Google Compute Engine.
    Gce,
}

impl Vmm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Qemu, Self::Ec2, Self::Ec2Since2026, Self::Gce];

    /// The name, as in `qemu`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Ec2 => "ec2",
            Self::Ec2Since2026 => "ec2-2026",
            Self::Gce => "gce",
        }
    }

    const fn is_ec2(self) -> bool {
        matches!(self, Self::Ec2 | Self::Ec2Since2026)
    }
}

impl std::str::FromStr for Vmm {
    type Err = LaunchError;

    fn from_str(text: &str) -> Result<Self, LaunchError> {
        Self::ALL.into_iter().find(|vmm| vmm.name() == text).ok_or_else(|| LaunchError::Vmm {
            found: text.chars().take(64).collect(),
            known: "qemu, ec2, ec2-2026, gce",
        })
    }
}

/// The kernel that the launcher loads.
#[derive(Clone, Copy)]
pub struct SnpKernel<'a> {
    /// The kernel file.
    pub kernel: &'a [u8],
    /// The initrd; empty if there is none.
    pub initrd: &'a [u8],
    /// The command line as it is given to the launcher.
    pub command_line: &'a str,
}

/// The inputs of a launch.
#[derive(Clone)]
pub struct SnpLaunch<'a> {
    /// The firmware file, as in `OVMF.amdsev.fd`.
    pub firmware: &'a [u8],
    /// The kernel, if the launcher loads one and gives its hashes to the firmware (`kernel-hashes=on`).
    pub kernel: Option<SnpKernel<'a>>,
    /// Processors that the launcher measures.
    pub vcpus: u32,
    /// Their type.
    pub cpu: CpuType,
    /// SEV_FEATURES.
    pub guest_features: u64,
    /// The launcher.
    pub vmm: Vmm,
    /// The init-data's digest, if the guest is given any.
    pub init_data: Option<Digest>,
}

/// Predicts the launch measurement and HOST_DATA.
pub fn predict_snp(launch: &SnpLaunch<'_>) -> Result<ReferenceValues, LaunchError> {
    if !(1..=MOST_PROCESSORS).contains(&launch.vcpus) {
        return Err(LaunchError::Processors { found: launch.vcpus, most: MOST_PROCESSORS });
    }
    let ovmf = Ovmf::parse(launch.firmware)?;
    let machine = Machine {
        sections: ovmf.sev_sections()?,
        hashes_at: ovmf.kernel_hashes(),
        reset_address: ovmf.reset_address(),
        firmware: firmware_digest(&ovmf),
    };
    let shape = Shape {
        vcpus: launch.vcpus,
        cpu: launch.cpu.clone(),
        features: launch.guest_features,
        vmm: launch.vmm,
        hashes: launch.kernel.map(|kernel| KernelHashes {
            kernel: Digest::sha256(kernel.kernel),
            initrd: Digest::sha256(kernel.initrd),
            command_line: KernelHashes::command_line(kernel.command_line),
        }),
    };
    let measurement = machine.measure(&shape)?;
    let artifacts = Artifacts {
        firmware: Some(Digest::sha256(launch.firmware)),
        kernel: shape.hashes.map(|hashes| hashes.kernel),
        initrd: launch.kernel.filter(|kernel| !kernel.initrd.is_empty()).and(shape.hashes.map(|h| h.initrd)),
        command_line: launch.kernel.map(|kernel| kernel.command_line.to_owned()),
        vcpus: Some(launch.vcpus),
        cpu: Some(launch.cpu.name().to_owned()),
        guest_features: Some(launch.guest_features),
        vmm: Some(launch.vmm.name().to_owned()),
        ..Artifacts::default()
    };
    let variations = variations(&machine, &shape, launch.kernel.map(|kernel| kernel.command_line));
    Ok(prediction(measurement, artifacts, launch.init_data).finish(variations))
}

fn prediction(measurement: Digest, artifacts: Artifacts, init_data: Option<Digest>) -> Prediction {
    Prediction {
        platform: Tee::Snp,
        bank: Algorithm::Sha384,
        measured: BTreeMap::from([(MEASUREMENT.to_owned(), measurement)]),
        replayed: Vec::new(),
        versions: BTreeMap::new(),
        events: Vec::new(),
        artifacts,
        init_data,
    }
}

/// The digest after the firmware's own pages.
fn firmware_digest(ovmf: &Ovmf<'_>) -> LaunchDigest {
    let mut digest = LaunchDigest::new();
    digest.data(ovmf.gpa(), ovmf.bytes());
    digest
}

/// What the firmware file decides.
struct Machine {
    sections: Vec<SevSection>,
    hashes_at: Option<u64>,
    reset_address: Option<u64>,
    firmware: LaunchDigest,
}

/// What the launch decides.
#[derive(Clone)]
struct Shape {
    vcpus: u32,
    cpu: CpuType,
    features: u64,
    vmm: Vmm,
    hashes: Option<KernelHashes>,
}

impl Machine {
    fn measure(&self, shape: &Shape) -> Result<Digest, LaunchError> {
        let mut digest = self.firmware;
        if shape.hashes.is_some() && !self.has_hashes() {
            return Err(LaunchError::NoKernelHashes);
        }
        for section in &self.sections {
            self.section(&mut digest, section, shape)?;
        }
        // Amazon's launcher adds this page last.
        if shape.vmm.is_ec2() {
            for section in self.sections.iter().filter(|section| section.kind == SevSection::CPUID) {
                digest.page(PageKind::Cpuid, section.gpa);
            }
        }
        self.processors(&mut digest, shape)?;
        Ok(digest.value())
    }

    fn has_hashes(&self) -> bool {
        self.hashes_at.is_some()
            && self.sections.iter().any(|section| section.kind == SevSection::KERNEL_HASHES)
    }

    fn section(
        &self,
        digest: &mut LaunchDigest,
        section: &SevSection,
        shape: &Shape,
    ) -> Result<(), LaunchError> {
        let SevSection { gpa, size, kind } = *section;
        match (kind, shape.vmm) {
            (SevSection::MEMORY, Vmm::Gce) => digest.pages(PageKind::Unmeasured, gpa, size),
            (SevSection::MEMORY | SevSection::SVSM_CAA, _) => digest.pages(PageKind::Zero, gpa, size),
            (SevSection::SECRETS, _) => digest.page(PageKind::Secrets, gpa),
            (SevSection::CPUID, vmm) if vmm.is_ec2() => {}
            (SevSection::CPUID, _) => digest.page(PageKind::Cpuid, gpa),
            (SevSection::KERNEL_HASHES, _) => match (&shape.hashes, self.hashes_at) {
                (Some(hashes), Some(at)) => {
                    const WRONG: LaunchError =
                        LaunchError::Metadata("its table of kernel hashes is not in their page");
                    let offset = at.checked_sub(gpa).and_then(|offset| usize::try_from(offset).ok());
                    let page = offset.and_then(|offset| hashes.page(offset)).ok_or(WRONG)?;
                    digest.data(gpa, &page);
                }
                _ => digest.pages(PageKind::Zero, gpa, size),
            },
            _ => return Err(LaunchError::Metadata("its SEV metadata has a section of unknown kind")),
        }
        Ok(())
    }

    fn processors(&self, digest: &mut LaunchDigest, shape: &Shape) -> Result<(), LaunchError> {
        let gpa = match shape.vmm {
            Vmm::Gce if shape.cpu.has_wide_addresses() => VMSA_GPA_52,
            _ => VMSA_GPA,
        };
        let page = |address| vmsa::page(shape.vmm, &shape.cpu, address, shape.features);
        digest.contents(PageKind::Vmsa, gpa, &page(vmsa::RESET_VECTOR));
        if shape.vcpus > 1 {
            let address = self.reset_address.ok_or(LaunchError::Metadata(
                "its table does not say where processors other than the first begin",
            ))?;
            let other = page(address);
            for _ in 1..shape.vcpus {
                digest.contents(PageKind::Vmsa, gpa, &other);
            }
        }
        Ok(())
    }
}

/// Launches that differ in one thing from the one predicted.
fn variations(machine: &Machine, shape: &Shape, command_line: Option<&str>) -> Vec<Variation> {
    let mut found = Vec::new();
    let mut add = |component, detail: String, other: Shape| {
        if found.len() < MAX_VARIATIONS
            && let Ok(measurement) = machine.measure(&other)
        {
            let registers = BTreeMap::from([(MEASUREMENT.to_owned(), measurement)]);
            found.push(Variation { component, detail, registers, events: Vec::new() });
        }
    };
    for vcpus in crate::variations::vcpus(shape.vcpus, MOST_PROCESSORS) {
        let detail = crate::variations::vcpus_detail(vcpus, shape.vcpus);
        add(Component::Vcpus, detail, Shape { vcpus, ..shape.clone() });
    }
    for (features, name) in FEATURES.into_iter().filter(|(features, _)| *features != shape.features) {
        let detail = format!("guest features {features:#x} ({name}) instead of {:#x}", shape.features);
        add(Component::GuestFeatures, detail, Shape { features, ..shape.clone() });
    }
    for cpu in CpuType::known().filter(|cpu| cpu.signature() != shape.cpu.signature()) {
        let detail = format!("processor type {cpu} instead of {}", shape.cpu);
        add(Component::Cpu, detail, Shape { cpu, ..shape.clone() });
    }
    for vmm in Vmm::ALL.into_iter().filter(|vmm| *vmm != shape.vmm) {
        let detail = format!("launched by {} instead of {}", vmm.name(), shape.vmm.name());
        add(Component::Vmm, detail, Shape { vmm, ..shape.clone() });
    }
    if let Some(hashes) = shape.hashes {
        let detail = "no hashes of kernel, initrd and command line (kernel-hashes=off)".to_owned();
        add(Component::KernelHashes, detail, Shape { hashes: None, ..shape.clone() });
        let none = KernelHashes { initrd: Digest::sha256(&[]), ..hashes };
        add(Component::Initrd, "no initrd".to_owned(), Shape { hashes: Some(none), ..shape.clone() });
        for (text, detail) in crate::variations::command_lines(command_line.unwrap_or_default()) {
            let hashes = KernelHashes { command_line: KernelHashes::command_line(&text), ..hashes };
            add(Component::CommandLine, detail, Shape { hashes: Some(hashes), ..shape.clone() });
        }
    }
    found
}
