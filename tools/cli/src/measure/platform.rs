//! Predictions for TEE hardware, from the files that its launcher will load.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use anyhow::{Context as _, Result, anyhow, bail};
use coffer_core_digest::Digest;
use coffer_core_launch::sgx::{Pinned, SgxLaunch, predict_sgx};
use coffer_core_launch::snp::{CpuType, SnpIgvmLaunch, SnpKernel, SnpLaunch, predict_snp, predict_snp_igvm};
use coffer_core_launch::tdx::{
    self, AcpiTables, PageOrder, TdxKernel, TdxLaunch, predict_tdx, predict_tdx_igvm,
};
use coffer_core_launch::{ReferenceValues, snp};

use super::Machine;

/// What a launcher loads, and how it launches.
#[derive(clap::Args)]
#[command(next_help_heading = "snp, tdx and sgx")]
pub(super) struct Artifacts {
    /// The firmware that is measured, as in OVMF.amdsev.fd or OVMF.inteltdx.fd.
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// The kernel that the launcher loads; without one, no kernel is measured at launch.
    #[arg(long, value_name = "FILE", requires = "firmware")]
    kernel: Option<PathBuf>,
    /// The initrd.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// The kernel's command line, as it is given to the launcher.
    #[arg(long, value_name = "TEXT", requires = "kernel", default_value = "", hide_default_value = true)]
    command_line: String,
    /// The guest as an IGVM file, instead of firmware and kernel.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["firmware", "kernel"])]
    igvm: Option<PathBuf>,
    /// The launcher: qemu, gce, or for snp also ec2 and ec2-2026 (what EC2 launches since then).
    #[arg(long, value_name = "NAME", default_value = "qemu")]
    vmm: String,
    /// snp: the processor's type, as in EPYC-Milan, EPYC-Genoa, EPYC-Turin.
    #[arg(long, value_name = "TYPE", default_value = "EPYC-Milan")]
    cpu_type: String,
    /// snp: SEV_FEATURES in hexadecimal. 1 is SNP alone; KVM of newer kernels adds debug register swapping, 21.
    #[arg(long, value_name = "HEX", default_value = "1", value_parser = hexadecimal)]
    guest_features: u64,
    /// tdx: a folder with QEMU's files `table-loader`, `rsdp` and `tables` (fw_cfg etc/table-loader, etc/acpi/…).
    ///
    /// CPUS,MIB,DIR gives those of a machine of another shape, by which a difference can be explained.
    #[arg(long, value_name = "DIR|CPUS,MIB,DIR", value_parser = Acpi::parse)]
    acpi: Vec<Acpi>,
    /// tdx: the launcher adds all pages of a section before it measures them, as KVM trees with QEMU 8 do.
    #[arg(long)]
    pages_added_first: bool,
    /// sgx: the enclave as a stream of its pages (.sgxs).
    #[arg(long, value_name = "FILE")]
    enclave: Option<PathBuf>,
    /// sgx: its SIGSTRUCT, which says signer and versions.
    #[arg(long, value_name = "FILE")]
    sigstruct: Option<PathBuf>,
    /// sgx: accept any enclave of the SIGSTRUCT's signer, of its product and at least its version.
    #[arg(long, requires = "sigstruct")]
    any_of_signer: bool,
}

/// A folder with a machine's ACPI tables.
#[derive(Clone, Debug)]
struct Acpi {
    shape: Option<(u32, u32)>,
    folder: PathBuf,
}

impl Acpi {
    fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.splitn(3, ',').collect();
        match *parts.as_slice() {
            [cpus, memory, folder] => {
                let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
                Ok(Self { shape: Some((number(cpus)?, number(memory)?)), folder: folder.into() })
            }
            _ => Ok(Self { shape: None, folder: text.into() }),
        }
    }
}

fn hexadecimal(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).map_err(|_| "expected hexadecimal".to_owned())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// The kernel's files.
struct Kernel {
    kernel: Vec<u8>,
    initrd: Vec<u8>,
}

impl Artifacts {
    /// The guest of `coffer run` has its files in one place, so none are named for it.
    pub(super) fn only_elsewhere(&self) -> Result<()> {
        if self.firmware.is_some() || self.igvm.is_some() || self.enclave.is_some() {
            bail!(
                "with --platform tpm the built guest is measured; --firmware, --igvm and --enclave are for the others"
            );
        }
        Ok(())
    }

    fn firmware(&self, platform: &str) -> Result<Vec<u8>> {
        let path = self.firmware.as_ref().ok_or_else(|| {
            anyhow!("--platform {platform} needs the firmware that is measured (--firmware), or an IGVM file (--igvm)")
        })?;
        read(path)
    }

    fn kernel(&self) -> Result<Option<Kernel>> {
        let Some(kernel) = &self.kernel else { return Ok(None) };
        let initrd = self.initrd.as_deref().map(read).transpose()?.unwrap_or_default();
        Ok(Some(Kernel { kernel: read(kernel)?, initrd }))
    }

    pub(super) fn snp(&self, machine: &Machine, init_data: Option<Digest>) -> Result<ReferenceValues> {
        let vmm = snp::Vmm::from_str(&self.vmm)?;
        if let Some(igvm) = &self.igvm {
            return Ok(predict_snp_igvm(&SnpIgvmLaunch { igvm: &read(igvm)?, vmm, init_data })?);
        }
        let (firmware, kernel) = (self.firmware("snp")?, self.kernel()?);
        if kernel.is_none() {
            eprintln!("no --kernel is named: the kernel that runs will be whatever the disk holds");
        }
        Ok(predict_snp(&SnpLaunch {
            firmware: &firmware,
            kernel: kernel.as_ref().map(|files| SnpKernel {
                kernel: &files.kernel,
                initrd: &files.initrd,
                command_line: &self.command_line,
            }),
            vcpus: machine.cpus,
            cpu: CpuType::from_str(&self.cpu_type)?,
            guest_features: self.guest_features,
            vmm,
            init_data,
        })?)
    }

    pub(super) fn tdx(&self, machine: &Machine, init_data: Option<Digest>) -> Result<ReferenceValues> {
        let prediction = match &self.igvm {
            Some(igvm) => predict_tdx_igvm(&read(igvm)?, init_data)?,
            None => self.tdx_firmware(machine, init_data)?,
        };
        for left in &prediction.left_out {
            eprintln!("{} is not predicted: {}", left.register, left.why);
        }
        Ok(prediction.values)
    }

    fn tdx_firmware(&self, machine: &Machine, init_data: Option<Digest>) -> Result<tdx::TdxPrediction> {
        let (firmware, kernel) = (self.firmware("tdx")?, self.kernel()?);
        let mut tables = Vec::new();
        for acpi in &self.acpi {
            let file = |name: &str| read(&acpi.folder.join(name));
            let shape = acpi.shape.unwrap_or((machine.cpus, machine.memory));
            tables.push((shape, [file("table-loader")?, file("rsdp")?, file("tables")?]));
        }
        let acpi: Vec<AcpiTables<'_>> = tables
            .iter()
            .map(|((vcpus, memory_mib), [loader, rsdp, tables])| AcpiTables {
                vcpus: *vcpus,
                memory_mib: *memory_mib,
                loader,
                rsdp,
                tables,
            })
            .collect();
        Ok(predict_tdx(&TdxLaunch {
            firmware: &firmware,
            kernel: kernel.as_ref().map(|files| TdxKernel {
                kernel: &files.kernel,
                initrd: &files.initrd,
                command_line: &self.command_line,
            }),
            memory_mib: machine.memory,
            vcpus: machine.cpus,
            vmm: tdx::Vmm::from_str(&self.vmm)?,
            page_order: if self.pages_added_first { PageOrder::AddedFirst } else { PageOrder::Interleaved },
            acpi: &acpi,
            init_data,
        })?)
    }

    pub(super) fn sgx(&self, init_data: Option<Digest>) -> Result<ReferenceValues> {
        let sigstruct = self.sigstruct.as_deref().map(read).transpose()?;
        let Some(enclave) = &self.enclave else {
            bail!("--platform sgx needs the enclave's pages (--enclave)")
        };
        Ok(predict_sgx(&SgxLaunch {
            enclave: &read(enclave)?,
            sigstruct: sigstruct.as_deref(),
            pinned: if self.any_of_signer { Pinned::Signer } else { Pinned::Enclave },
            init_data,
        })?)
    }
}
