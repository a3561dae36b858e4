//! The registers of an Intel TDX guest that begins in TDVF (OVMF) or as an IGVM file says.
//!
//! | register | measured | depends on |
//! |---|---|---|
//! | MRTD | firmware volumes and the pages of its metadata | firmware file; order of adding and extending |
//! | MRCONFIGID | set by the launcher | init-data |
//! | RTMR0 | memory map, variable store, secure boot, ACPI tables, boot options | memory, processors and devices (by the ACPI tables), firmware file |
//! | RTMR1 | the kernel's Authenticode hash, steps of the boot | kernel; memory and initrd size, which QEMU writes into its header |
//! | RTMR2 | command line and initrd, by Linux's boot stub | command line, initrd |
//!
//! The launcher's ACPI tables are its own work and differ with its version and devices, so they are an input: the
//! three files of `fw_cfg` that QEMU makes for that machine. A register that cannot be computed from what is given is
//! left out and said to be ([`TdxPrediction::left_out`]); values without it affirm nobody.
//!
//! Compared with: recorded event logs of QEMU and Google guests (memory map, variable store, boot options), and logs
//! that Debian's firmware builds made of the same kernel, initrd, command line and tables.

mod boot_options;
mod hob;
mod machine;
mod mrtd;
mod variables;

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;

use machine::{Machine, replayed};

use crate::igvm::{Platform, steps};
use crate::ovmf::{Ovmf, TdxSection};
use crate::reference::Prediction;
use crate::{Artifacts, Component, LaunchError, ReferenceValues, Variation, kernel};

const BANK: Algorithm = Algorithm::Sha384;
const MRTD: &str = "mrtd";
const MEMORY_MIB: (u32, u32) = (256, 4 << 20);
const MOST_PROCESSORS: u32 = 512;

/// The launcher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Vmm {
    /// QEMU with KVM, a `q35` machine.
    #[default]
    Qemu,
    /// Google Compute Engine.
    Gce,
}

impl Vmm {
    /// The name, as in `qemu`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Gce => "gce",
        }
    }
}

impl std::str::FromStr for Vmm {
    type Err = LaunchError;

    fn from_str(text: &str) -> Result<Self, LaunchError> {
        [Self::Qemu, Self::Gce]
            .into_iter()
            .find(|vmm| vmm.name() == text)
            .ok_or_else(|| LaunchError::Vmm { found: text.chars().take(64).collect(), known: "qemu, gce" })
    }
}

/// How the launcher adds pages. MRTD differs between the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PageOrder {
    /// Each page is added and then extended: Linux 6.16 and later, and its predecessors since 2024.
    #[default]
    Interleaved,
    /// All pages of a section are added, then extended: KVM trees with QEMU 8.
    AddedFirst,
}

/// The kernel that the launcher loads.
#[derive(Clone, Copy)]
pub struct TdxKernel<'a> {
    /// The kernel, a bzImage.
    pub kernel: &'a [u8],
    /// The initrd.
    pub initrd: &'a [u8],
    /// The command line as it is given to the launcher.
    pub command_line: &'a str,
}

/// The files by which QEMU describes one machine to its firmware.
#[derive(Clone, Copy)]
pub struct AcpiTables<'a> {
    /// The machine's processors.
    pub vcpus: u32,
    /// The machine's memory in MiB.
    pub memory_mib: u32,
    /// `etc/table-loader`.
    pub loader: &'a [u8],
    /// `etc/acpi/rsdp`.
    pub rsdp: &'a [u8],
    /// `etc/acpi/tables`.
    pub tables: &'a [u8],
}

/// The inputs of a launch.
#[derive(Clone)]
pub struct TdxLaunch<'a> {
    /// The firmware file, with its variables, as in `OVMF.inteltdx.fd`.
    pub firmware: &'a [u8],
    /// The kernel, if the launcher loads one.
    pub kernel: Option<TdxKernel<'a>>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub vcpus: u32,
    /// The launcher.
    pub vmm: Vmm,
    /// How it adds pages.
    pub page_order: PageOrder,
    /// The machine's tables. Those of machines of another shape serve to explain a difference.
    pub acpi: &'a [AcpiTables<'a>],
    /// The init-data's digest, if the guest is given any.
    pub init_data: Option<Digest>,
}

/// A register that could not be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The register, as in `rtmr0`.
    pub register: &'static str,
    /// Why, and what would help.
    pub why: &'static str,
}

/// What could be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxPrediction {
    /// The reference values.
    pub values: ReferenceValues,
    /// The registers that they lack.
    pub left_out: Vec<LeftOut>,
}

/// Predicts MRTD, MRCONFIGID and RTMR0 to RTMR2, as far as the inputs go.
pub fn predict_tdx(launch: &TdxLaunch<'_>) -> Result<TdxPrediction, LaunchError> {
    check(launch)?;
    let ovmf = Ovmf::parse(launch.firmware)?;
    let sections = ovmf.tdx_sections()?;
    let machine = Machine::read(launch, &ovmf, &sections)?;
    let mrtd = mrtd::of_sections(&sections, launch.page_order, false);
    let (events, left_out) = machine.events(&machine.shape);
    let prediction = Prediction {
        platform: Tee::Tdx,
        bank: BANK,
        measured: BTreeMap::from([(MRTD.to_owned(), mrtd)]),
        replayed: replayed(&left_out),
        versions: BTreeMap::new(),
        events,
        artifacts: artifacts(launch),
        init_data: launch.init_data,
    };
    let found = [machine.variations(), mrtd_variations(launch, &sections)].concat();
    Ok(TdxPrediction { values: prediction.finish(found), left_out })
}

/// Predicts MRTD and MRCONFIGID of a guest that an IGVM file describes. What it measures later is its own affair.
pub fn predict_tdx_igvm(igvm: &[u8], init_data: Option<Digest>) -> Result<TdxPrediction, LaunchError> {
    const WHY: &str = "what a guest from an IGVM file measures as it runs is not known";
    let mrtd = mrtd::of_steps(&steps(igvm, Platform::Tdx)?);
    let left_out = ["rtmr0", "rtmr1", "rtmr2"].map(|register| LeftOut { register, why: WHY });
    let prediction = Prediction {
        platform: Tee::Tdx,
        bank: BANK,
        measured: BTreeMap::from([(MRTD.to_owned(), mrtd)]),
        replayed: Vec::new(),
        versions: BTreeMap::new(),
        events: Vec::new(),
        artifacts: Artifacts { igvm: Some(Digest::sha256(igvm)), ..Artifacts::default() },
        init_data,
    };
    Ok(TdxPrediction { values: prediction.finish([]), left_out: left_out.into() })
}

/// The digest of the memory map that the launcher hands to this firmware: the first event of RTMR0.
pub fn memory_map_digest(firmware: &[u8], memory_mib: u32, vmm: Vmm) -> Result<Digest, LaunchError> {
    let sections = Ovmf::parse(firmware)?.tdx_sections()?;
    Ok(Digest::of(BANK, &hob::list(&sections, memory_mib, vmm)))
}

fn check(launch: &TdxLaunch<'_>) -> Result<(), LaunchError> {
    let (least, most) = MEMORY_MIB;
    if !(least..=most).contains(&launch.memory_mib) {
        return Err(LaunchError::Memory { found: launch.memory_mib, least, most });
    }
    if !(1..=MOST_PROCESSORS).contains(&launch.vcpus) {
        return Err(LaunchError::Processors { found: launch.vcpus, most: MOST_PROCESSORS });
    }
    launch.kernel.map_or(Ok(()), |kernel| kernel::check_command_line(kernel.command_line))
}

fn artifacts(launch: &TdxLaunch<'_>) -> Artifacts {
    Artifacts {
        firmware: Some(Digest::sha256(launch.firmware)),
        kernel: launch.kernel.map(|kernel| Digest::sha256(kernel.kernel)),
        initrd: launch.kernel.map(|kernel| Digest::sha256(kernel.initrd)),
        command_line: launch.kernel.map(|kernel| kernel.command_line.to_owned()),
        memory_mib: Some(launch.memory_mib),
        vcpus: Some(launch.vcpus),
        vmm: Some(launch.vmm.name().to_owned()),
        ..Artifacts::default()
    }
}

/// Firmware loaded in another way.
fn mrtd_variations(launch: &TdxLaunch<'_>, sections: &[TdxSection<'_>]) -> Vec<Variation> {
    let other = match launch.page_order {
        PageOrder::Interleaved => PageOrder::AddedFirst,
        PageOrder::AddedFirst => PageOrder::Interleaved,
    };
    let tries = [
        (other, false, "pages added and extended in the other order, as another version of KVM does"),
        (launch.page_order, true, "all sections extended, as Google's hypervisor once did"),
    ];
    let tries = tries.map(|(order, everything, detail)| Variation {
        component: Component::Vmm,
        detail: detail.to_owned(),
        registers: BTreeMap::from([(MRTD.to_owned(), mrtd::of_sections(sections, order, everything))]),
        events: Vec::new(),
    });
    tries.into()
}

#[cfg(test)]
mod tests;
