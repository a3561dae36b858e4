//! What a machine is, in types: everything that its command line says, and nothing else.
//!
//! Paths here are the owner's; the machine itself is given descriptors ([`MachineSpec::files`]).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSpec {
    /// What protects the machine from its host.
    pub kind: Kind,
    /// What runs its instructions.
    pub accelerator: Accelerator,
    /// Whose processor the host has; under emulation it does not matter.
    pub vendor: Vendor,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The firmware.
    pub firmware: Firmware,
    /// The kernel that the firmware starts; none for a machine that boots from a disk.
    pub linux: Option<LinuxBoot>,
    /// The control socket of a running software TPM.
    pub tpm: Option<PathBuf>,
    /// Disks, in the order in which the guest sees them.
    pub disks: Vec<Disk>,
    /// Slots for disks that are attached while it runs, up to [`MachineSpec::MAX_HOT_PLUG_SLOTS`]. Each is a PCIe root
    /// port, which the guest's firmware sees; a machine without slots is the one that measurements are predicted for.
    pub hot_plug_slots: u8,
    /// User-mode networking, if the machine has a network.
    pub network: Option<UserNetwork>,
    /// The channel between host and guest, if there is one.
    pub channel: Option<Channel>,
    /// The file that the guest's serial console is written to.
    pub console_log: Option<PathBuf>,
}

/// What protects the machine from its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing. With a software TPM the guest is measured, but its host can read and change it.
    Plain,
    /// Intel TDX.
    Tdx(TdxGuest),
    /// AMD SEV-SNP.
    Snp(SnpGuest),
}

/// The fields of a TDX guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxGuest {
    /// `MRCONFIGID`: the digest of the init-data, padded to 48 bytes.
    pub mr_config_id: [u8; 48],
    /// The service that turns the guest's reports into quotes.
    pub quotes: QuoteService,
}

/// Where the quote generation service listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuoteService {
    /// On a unix socket.
    Unix(PathBuf),
    /// On a vsock port.
    Vsock {
        /// The service's context identifier.
        cid: u32,
        /// Its port.
        port: u32,
    },
}

/// The fields of an SEV-SNP guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpGuest {
    /// `HOST_DATA`: the digest of the init-data.
    pub host_data: [u8; 32],
    /// The guest policy (SEV-SNP firmware ABI, section 4.3). Bit 17 is always set, bit 19 allows debugging.
    pub policy: u64,
    /// The position of the encryption bit (CPUID 8000001F, EBX bits 5 to 0).
    pub cbit_position: u8,
    /// Physical address bits lost to encryption (CPUID 8000001F, EBX bits 11 to 6).
    pub reduced_phys_bits: u8,
    /// The ID block and its authentication information, in base64, if the owner signed one.
    pub id_block: Option<(String, String)>,
}

/// What runs the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The kernel's virtualization.
    Kvm,
    /// QEMU's translator: slow, and it runs anywhere.
    SoftwareEmulation,
}

/// Whose processor the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Intel.
    Intel,
    /// AMD.
    Amd,
}

impl Vendor {
    /// Of this machine; Intel where it is neither.
    pub fn of_this_machine() -> Self {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if text.lines().any(|line| line.starts_with("vendor_id") && line.contains("AuthenticAMD")) {
            Self::Amd
        } else {
            Self::Intel
        }
    }
}

/// What the machine starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// QEMU's own BIOS. It measures nothing: only for trials.
    Bios,
    /// UEFI firmware in flash, with a private copy of its variables.
    Flash {
        /// The code, never written.
        code: PathBuf,
        /// The variables, written by the machine.
        variables: PathBuf,
    },
    /// UEFI firmware loaded as a whole, as confidential machines need it.
    Image(PathBuf),
}

/// A Linux kernel and what it starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinuxBoot {
    /// The kernel, a bzImage.
    pub kernel: PathBuf,
    /// The initial file system.
    pub initrd: Option<PathBuf>,
    /// The command line. The kernel's EFI stub measures it with ` initrd=initrd` appended.
    pub command_line: String,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Where its bytes are.
    pub content: Content,
    /// The serial number by which the guest finds it: at most 20 letters, digits, `-`, `_` or `.`.
    pub serial: String,
    /// Whether the guest may write it.
    pub read_only: bool,
}

/// Where a disk's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In a file.
    File(PathBuf),
    /// Behind a unix socket on which somebody serves a network block device, already listening.
    Nbd(PathBuf),
}

/// User-mode networking: the guest reaches out, and is reached only through `forwards`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserNetwork {
    /// Ports of the host that lead into the guest.
    pub forwards: Vec<Forward>,
}

/// A TCP port of the host that leads to a port of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Where the host listens.
    pub host: SocketAddr,
    /// The guest's port.
    pub guest_port: u16,
}

/// The channel between host and guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// vsock through the kernel's vhost-vsock.
    Vsock {
        /// The guest's context identifier, from 3 up, used by no other machine.
        cid: u32,
    },
    /// A virtio-serial port named [`MachineSpec::CHANNEL_PORT`]; its host end is [`crate::Machine::take_channel`].
    VirtioSerial,
}

/// A file of the machine and how it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MachineFile<'a> {
    pub(crate) path: &'a Path,
    pub(crate) writable: bool,
    /// What it is, for errors: `firmware`, `kernel`, …
    pub(crate) what: &'static str,
}

impl MachineSpec {
    /// The name of the virtio-serial port that is the channel.
    pub const CHANNEL_PORT: &'static str = "coffer.channel";
    /// More slots than these do not fit beside the other devices of the machine's one bus.
    pub const MAX_HOT_PLUG_SLOTS: u8 = 16;

    /// The files that the machine gets as descriptors, in the order of their numbers.
    pub(crate) fn files(&self) -> Vec<MachineFile<'_>> {
        let mut files = Vec::new();
        let mut add = |path, writable, what| files.push(MachineFile { path, writable, what });
        match &self.firmware {
            Firmware::Bios => {}
            Firmware::Flash { code, variables } => {
                add(code.as_path(), false, "firmware");
                add(variables.as_path(), true, "firmware variables");
            }
            Firmware::Image(image) => add(image.as_path(), false, "firmware"),
        }
        if let Some(linux) = &self.linux {
            add(linux.kernel.as_path(), false, "kernel");
            if let Some(initrd) = &linux.initrd {
                add(initrd.as_path(), false, "initial file system");
            }
        }
        for disk in &self.disks {
            if let Content::File(path) = &disk.content {
                add(path.as_path(), !disk.read_only, "disk");
            }
        }
        files
    }
}
