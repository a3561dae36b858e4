//! What a sandbox is made of, and the constants that measurements depend on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_core_channel::{Network, RunRequest};
use coffer_core_digest::Digest;
use coffer_host_cache::Blob;
use coffer_host_vmm::{Accelerator, UserNetwork, qemu};

/// The serial number of the disk that carries the init-data.
pub const INIT_DATA_SERIAL: &str = "coffer-initdata";
/// The longest serial number that a virtio disk can have.
const SERIAL_LENGTH: usize = 20;

/// Everything that a sandbox is started with.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// The guest's firmware, kernel and initial file system.
    pub guest: GuestFiles,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// Memory in MiB. Measured: the firmware's register depends on it.
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// The kernel's command line; [`base_command_line`] unless a trial needs another. Measured.
    pub command_line: String,
    /// How host and guest talk.
    pub channel: ChannelKind,
    /// The init-data as disk content (`InitData::to_disk`).
    pub init_data_disk: Vec<u8>,
    /// Sealed blocks, as disks.
    pub disks: Vec<SealedDisk>,
    /// Volumes, as disks.
    pub volumes: Vec<VolumeDisk>,
    /// Empty disks that go with the sandbox.
    pub scratch: Vec<ScratchDisk>,
    /// The OCI layout whose blobs the guest may ask for.
    pub layout: Option<PathBuf>,
    /// Blobs of the host's cache that the guest may ask for. They stay in the cache while the sandbox lives.
    pub documents: Vec<Blob>,
    /// User-mode networking and forwarded ports; none for a guest without network.
    pub network: Option<UserNetwork>,
    /// Where the guest's serial console goes.
    pub console: ConsoleLog,
    /// Where run directories are made; the user's own runtime directory by default.
    pub run_dir_root: Option<PathBuf>,
    /// The directory of this installation's TPM certificate authority.
    pub vtpm_ca: PathBuf,
    /// A file that gets every byte of the channel, both ways: for the test that looks for plaintext on the host.
    pub record_channel: Option<PathBuf>,
    /// How long the guest may take to answer on the channel.
    pub start_timeout: Duration,
    /// What the guest is asked to run. An absent network is filled in where the machine has one.
    pub run: RunRequest,
}

/// The files that make the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFiles {
    /// UEFI firmware code.
    pub firmware: PathBuf,
    /// The template of the firmware's variables; each sandbox writes a copy of its own.
    pub variables: PathBuf,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial file system.
    pub initrd: PathBuf,
}

/// A sealed block and the digest by which the manifest names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedDisk {
    /// The blob's digest.
    pub digest: Digest,
    /// The blob: ciphertext.
    pub content: SealedContent,
}

/// Where a sealed block's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealedContent {
    /// In a file.
    File(PathBuf),
    /// In the host's cache, where they stay while the sandbox lives. What is not there yet is fetched as the guest
    /// reads it.
    Cached(Blob),
}

/// A volume's disk and the name by which init-data knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeDisk {
    /// The volume's name.
    pub name: String,
    /// The file: ciphertext.
    pub path: PathBuf,
    /// Whether the guest may write it. What it only reads, several guests can have at once.
    pub read_only: bool,
}

/// An empty disk, in a file without a name: nothing of it outlasts the machine, however that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScratchDisk {
    /// The ephemeral volume that it is for; none for the container's writable layer.
    pub volume: Option<String>,
    /// Its bytes. The file is sparse.
    pub size: u64,
    /// The folder whose file system holds it.
    pub folder: PathBuf,
}

/// Where the guest's serial console goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsoleLog {
    /// Into the run directory; shown in errors and removed with it.
    Temporary,
    /// To a file that stays.
    Keep(PathBuf),
}

/// How host and guest talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelKind {
    /// vsock through the kernel's vhost-vsock.
    Vsock,
    /// A virtio-serial port.
    VirtioSerial,
}

impl ChannelKind {
    /// The channel that this machine can have.
    pub fn detect() -> Self {
        if Path::new("/dev/vhost-vsock").exists() { Self::Vsock } else { Self::VirtioSerial }
    }
}

/// The kernel command line of every guest. It is constant because it is measured; `coffer measure` predicts with it.
pub fn base_command_line(channel: ChannelKind) -> String {
    let channel = match channel {
        ChannelKind::Vsock => "vsock",
        ChannelKind::VirtioSerial => "virtio",
    };
    format!("console=ttyS0 panic=-1 quiet coffer.channel={channel}")
}

/// The serial number of a sealed block's disk: as much of the digest as a serial number can hold.
pub fn disk_serial(digest: &Digest) -> String {
    let mut serial = digest.hex();
    serial.truncate(SERIAL_LENGTH);
    serial
}

/// The address that a guest has in the machine's user-mode network.
pub fn network() -> Network {
    Network {
        address: qemu::GUEST_ADDRESS.into(),
        gateway: qemu::GATEWAY.into(),
        dns: qemu::NAME_SERVER.into(),
    }
}
