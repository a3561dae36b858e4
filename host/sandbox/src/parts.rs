//! What a sandbox holds while it lives: run directory, TPM, machine. Made in order, and ended in the reverse order.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coffer_core_channel::{SCRATCH_SERIAL, volume_serial};
use coffer_host_cache::{Blob, Served};
use coffer_host_vmm::{
    Accelerator, Channel, Content, Disk, Firmware, Kind, LinuxBoot, Machine, MachineError, MachineSpec, Qemu,
    Vendor, Vmm,
};
use coffer_host_vtpm::{RunningVtpm, Vtpm, VtpmCa};
use tokio::runtime::Handle;

use crate::config::{
    ChannelKind, ConsoleLog, INIT_DATA_SERIAL, SandboxConfig, ScratchDisk, SealedContent, SealedDisk,
    disk_serial,
};
use crate::console;
use crate::error::{SandboxError, Tail};
use crate::rundir::RunDir;

/// What QEMU needs beside the guest's memory, in MiB.
const MACHINE_OVERHEAD_MIB: u64 = 96;
/// What software emulation needs on top, in MiB: its cache of translated code.
const EMULATION_OVERHEAD_MIB: u64 = 128;
/// What a run directory may take, in MiB: firmware variables, TPM state, init-data, console.
const RUN_DIRECTORY_MIB: u64 = 16;
/// The name of the console that a failed sandbox leaves beside its run directory.
const FAILED_CONSOLE: &str = "last-failure-console.log";
/// How often another vsock address is tried.
const CID_TRIALS: u32 = 16;

/// Fields are dropped in order: the machine before its TPM and its disks, all before their directory.
pub(crate) struct Parts {
    pub(crate) machine: Box<dyn Machine>,
    vtpm: RunningVtpm,
    _served: Vec<Served>,
    _held: Vec<Blob>,
    _scratch: Vec<File>,
    run_dir: RunDir,
    console: PathBuf,
    keeps_console: bool,
    /// The machine's vsock address, if that is its channel.
    pub(crate) cid: Option<u32>,
    /// Steps of the start and when they were done.
    pub(crate) steps: Vec<(&'static str, String, Instant)>,
    pub(crate) record: Option<File>,
}

impl Parts {
    /// Makes and starts everything. To be called on a thread that lasts: the machine ends with it. Disks that are not
    /// whole yet are served on `runtime`.
    pub(crate) fn start(config: &SandboxConfig, runtime: &Handle) -> Result<Self, SandboxError> {
        check_memory(config)?;
        check_ports(config)?;
        let record = config.record_channel.as_deref().map(open_record).transpose()?;
        let run_dir = RunDir::create(config.run_dir_root.as_deref())?;
        check_disk(run_dir.path())?;
        let mut steps = Vec::new();
        let (mut spec, served) = machine_spec(config, run_dir.path(), runtime)?;
        let mut files = Vec::new();
        for scratch in &config.scratch {
            spec.disks.push(scratch_disk(scratch, &mut files)?);
        }
        steps.push((
            "prepare",
            "private run directory, firmware variables, init-data disk".into(),
            Instant::now(),
        ));

        let ca = VtpmCa::load_or_create(&config.vtpm_ca)?;
        let name = run_dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let made = Vtpm::manufacture(&ca, run_dir.path().join("tpm"), &name)?;
        let vtpm = made.start(run_dir.path().join("tpm.sock"))?;
        steps.push(("tpm", "software TPM with a certified attestation key".into(), Instant::now()));

        let mut spec = MachineSpec { tpm: vtpm.control_socket().map(Path::to_owned), ..spec };
        let machine = start_machine(&mut spec)?;
        steps.push((
            "qemu",
            format!("machine started, {} MiB, {} cpu", spec.memory_mib, spec.cpus),
            Instant::now(),
        ));
        let cid = match spec.channel {
            Some(Channel::Vsock { cid }) => Some(cid),
            _ => None,
        };
        let console = spec.console_log.unwrap_or_default();
        let keeps_console = matches!(config.console, ConsoleLog::Keep(_));
        let held = held(config);
        Ok(Self {
            machine,
            vtpm,
            _served: served,
            _held: held,
            _scratch: files,
            run_dir,
            console,
            keeps_console,
            cid,
            steps,
            record,
        })
    }

    /// The end of the console for an error, and a copy of all of it that stays.
    pub(crate) fn console_tail(&self) -> Tail {
        let lines = console::tail(&self.console);
        let file = if self.keeps_console {
            Some(self.console.clone())
        } else {
            let kept = self.run_dir.beside(FAILED_CONSOLE);
            fs::copy(&self.console, &kept).ok().map(|_| kept)
        };
        Tail { lines, file }
    }

    /// Why a machine that is silent now is so.
    pub(crate) fn diagnose(&mut self, reason: String, patience: Duration) -> SandboxError {
        let ended = self.machine.wait(patience);
        let console = self.console_tail();
        if let Some(reason) = console::panic_reason(&self.console) {
            return SandboxError::GuestPanicked { reason, console };
        }
        match ended {
            Ok(Some(status)) => {
                let errors = match self.machine.errors() {
                    errors if errors.is_empty() => String::new(),
                    errors => format!(" It said: {errors}."),
                };
                SandboxError::MachineEnded { status: status.to_string(), errors, console }
            }
            Ok(None) => SandboxError::Channel { reason, console },
            Err(error) => error.into(),
        }
    }

    /// The processes of the sandbox, for tests of their end.
    pub(crate) fn processes(&self) -> [u32; 2] {
        [self.machine.process_id(), self.vtpm.id()]
    }

    pub(crate) fn run_dir(&self) -> &Path {
        self.run_dir.path()
    }
}

fn start_machine(spec: &mut MachineSpec) -> Result<Box<dyn Machine>, SandboxError> {
    let mut trial = 0;
    loop {
        match Vmm::start(&Qemu::default(), spec) {
            Err(MachineError::Ended { errors, .. })
                if errors.contains("unable to set guest cid") && trial < CID_TRIALS =>
            {
                trial = trial.saturating_add(1);
                spec.channel = Some(Channel::Vsock { cid: choose_cid(trial) });
            }
            other => return Ok(other?),
        }
    }
}

/// An address that other machines of this host hardly have; the kernel refuses one that is taken.
fn choose_cid(trial: u32) -> u32 {
    let own = std::process::id().wrapping_mul(64).wrapping_add(trial);
    (own & 0x3fff_ffff) | 0x1000
}

/// Every blob of the cache that the sandbox needs.
fn held(config: &SandboxConfig) -> Vec<Blob> {
    let disks = config.disks.iter().filter_map(|disk| match &disk.content {
        SealedContent::Cached(blob) => Some(blob.clone()),
        SealedContent::File(_) => None,
    });
    config.documents.iter().cloned().chain(disks).collect()
}

/// A sealed block as the machine gets it: its file, or while it is not whole what serves it.
fn disk(
    disk: &SealedDisk,
    socket: &Path,
    runtime: &Handle,
    served: &mut Vec<Served>,
) -> Result<Disk, SandboxError> {
    let (content, shown, size) = match &disk.content {
        SealedContent::File(path) => {
            let size = fs::metadata(path).map_err(SandboxError::file("look at", path))?.len();
            (Content::File(path.clone()), path.clone(), size)
        }
        SealedContent::Cached(blob) => match blob.path() {
            Some(path) => (Content::File(path.clone()), path, blob.size()),
            None => {
                served.push(blob.serve(runtime, socket)?);
                (Content::Nbd(socket.to_owned()), socket.to_owned(), blob.size())
            }
        },
    };
    if size == 0 || !size.is_multiple_of(512) {
        return Err(SandboxError::DiskSize { path: shown, size });
    }
    Ok(Disk { content, serial: disk_serial(&disk.digest), read_only: true })
}

/// A sparse file that has no name, so that nobody has to remove it: the machine gets its descriptor.
fn scratch_disk(scratch: &ScratchDisk, files: &mut Vec<File>) -> Result<Disk, SandboxError> {
    let made = || {
        let file = tempfile::tempfile_in(&scratch.folder)?;
        file.set_len(scratch.size.next_multiple_of(512))?;
        Ok(file)
    };
    let file: File = made().map_err(SandboxError::file("make a scratch disk in", &scratch.folder))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    files.push(file);
    let serial = scratch.volume.as_deref().map_or(SCRATCH_SERIAL.into(), volume_serial);
    Ok(Disk { content: Content::File(path), serial, read_only: false })
}

fn machine_spec(
    config: &SandboxConfig,
    run_dir: &Path,
    runtime: &Handle,
) -> Result<(MachineSpec, Vec<Served>), SandboxError> {
    let variables = run_dir.join("firmware-variables");
    fs::copy(&config.guest.variables, &variables)
        .map_err(SandboxError::file("copy the firmware's variables from", &config.guest.variables))?;
    // A template is often read-only, and a copy keeps its mode.
    fs::set_permissions(&variables, fs::Permissions::from_mode(0o600))
        .map_err(SandboxError::file("make writable", &variables))?;
    let init_data = run_dir.join("init-data");
    write_private(&init_data, &config.init_data_disk)?;

    let content = Content::File(init_data);
    let mut disks = vec![Disk { content, serial: INIT_DATA_SERIAL.into(), read_only: true }];
    let mut served = Vec::new();
    for (index, sealed) in config.disks.iter().enumerate() {
        disks.push(disk(sealed, &run_dir.join(format!("disk{index}.sock")), runtime, &mut served)?);
    }
    for volume in &config.volumes {
        let path = volume.path.clone();
        let size = fs::metadata(&path).map_err(SandboxError::file("look at", &path))?.len();
        if size == 0 || !size.is_multiple_of(512) {
            return Err(SandboxError::DiskSize { path, size });
        }
        disks.push(Disk {
            content: Content::File(path),
            serial: volume_serial(&volume.name),
            read_only: volume.read_only,
        });
    }
    let console = match &config.console {
        ConsoleLog::Temporary => run_dir.join("console.log"),
        ConsoleLog::Keep(path) => path.clone(),
    };
    write_private(&console, b"")?;
    let spec = MachineSpec {
        kind: Kind::Plain,
        accelerator: config.accelerator,
        vendor: Vendor::of_this_machine(),
        cpus: config.cpus,
        memory_mib: config.memory_mib,
        firmware: Firmware::Flash { code: config.guest.firmware.clone(), variables },
        linux: Some(LinuxBoot {
            kernel: config.guest.kernel.clone(),
            initrd: Some(config.guest.initrd.clone()),
            command_line: config.command_line.clone(),
        }),
        tpm: None,
        disks,
        hot_plug_slots: 0,
        network: config.network.clone(),
        channel: Some(match config.channel {
            ChannelKind::Vsock => Channel::Vsock { cid: choose_cid(0) },
            ChannelKind::VirtioSerial => Channel::VirtioSerial,
        }),
        console_log: Some(console),
    };
    Ok((spec, served))
}

fn write_private(path: &Path, content: &[u8]) -> Result<(), SandboxError> {
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    written.and_then(|mut file| file.write_all(content)).map_err(SandboxError::file("write", path))
}

fn open_record(path: &Path) -> Result<File, SandboxError> {
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    opened.map_err(SandboxError::file("record the channel to", path))
}

fn check_ports(config: &SandboxConfig) -> Result<(), SandboxError> {
    for forward in config.network.iter().flat_map(|network| &network.forwards) {
        let address = forward.host;
        // Bound and let go at once: QEMU binds it again. This is for a good message, not for holding the port.
        TcpListener::bind(address).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => SandboxError::PortInUse { address },
            _ => SandboxError::Port { address, source },
        })?;
    }
    Ok(())
}

fn check_memory(config: &SandboxConfig) -> Result<(), SandboxError> {
    let emulation = match config.accelerator {
        Accelerator::Kvm => 0,
        Accelerator::SoftwareEmulation => EMULATION_OVERHEAD_MIB,
    };
    let needed_mib =
        u64::from(config.memory_mib).saturating_add(MACHINE_OVERHEAD_MIB).saturating_add(emulation);
    match coffer_host_vmm::doctor::available_memory_mib() {
        Some(available_mib) if available_mib < needed_mib => {
            Err(SandboxError::NotEnoughMemory { needed_mib, available_mib })
        }
        _ => Ok(()),
    }
}

fn check_disk(run_dir: &Path) -> Result<(), SandboxError> {
    match coffer_host_vmm::doctor::available_disk_mib(run_dir) {
        Some(available_mib) if available_mib < RUN_DIRECTORY_MIB => Err(SandboxError::NotEnoughDisk {
            path: run_dir.to_owned(),
            needed_mib: RUN_DIRECTORY_MIB,
            available_mib,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_disk_is_sparse_has_its_size_and_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let (place, mut files) = (folder.path().to_owned(), Vec::new());
        let scratch = ScratchDisk { volume: None, size: (1 << 30) + 1, folder: place.clone() };
        let disk = scratch_disk(&scratch, &mut files).unwrap();
        assert_eq!((disk.serial.as_str(), disk.read_only), ("coffer-scratch", false));
        let Content::File(path) = &disk.content else { panic!("{disk:?}") };
        // The machine's starter opens it by this path.
        assert_eq!(File::open(path).unwrap().metadata().unwrap().len(), (1 << 30) + 512);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
        let named = ScratchDisk { volume: Some("tmp".into()), ..scratch.clone() };
        assert_eq!(scratch_disk(&named, &mut files).unwrap().serial, "vol-tmp");
        let nowhere = ScratchDisk { folder: place.join("none"), ..scratch };
        assert!(matches!(scratch_disk(&nowhere, &mut files), Err(SandboxError::File { .. })));
    }
}
