//! The machine's process: started with descriptors, watched, ended.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};

use crate::error::MachineError;
use crate::hotplug::{Attached, Slots};
use crate::qemu;
use crate::qmp::{Qmp, Status};
use crate::spec::{Channel, Disk, MachineSpec};

/// How long QEMU may take to answer on its monitor.
const MONITOR_PATIENCE: Duration = Duration::from_secs(20);
/// How much of QEMU's own errors is kept for people.
const ERRORS_KEPT: u64 = 4096;

/// A maker of machines.
pub trait Vmm: Send + Sync {
    /// Starts a machine.
    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, MachineError>;
}

/// A machine. When it is dropped, it is killed and reaped.
pub trait Machine: Send {
    /// The process that runs it.
    fn process_id(&self) -> u32;
    /// The host's end of a virtio-serial channel, once.
    fn take_channel(&mut self) -> Option<UnixStream>;
    /// How it is.
    fn status(&mut self) -> Result<Status, MachineError>;
    /// Presses the power button; the guest may ignore it.
    fn power_down(&mut self) -> Result<(), MachineError>;
    /// Attaches a disk while it runs, in a slot that its specification has for that.
    fn attach(&mut self, disk: &Disk) -> Result<Attached, MachineError>;
    /// Takes a disk away. The guest lets it go; one that does not within `patience` keeps it.
    fn detach(&mut self, disk: &Attached, patience: Duration) -> Result<(), MachineError>;
    /// Its end, if it has ended.
    fn try_wait(&mut self) -> Result<Option<ExitStatus>, MachineError>;
    /// Waits for its end, at most so long.
    fn wait(&mut self, patience: Duration) -> Result<Option<ExitStatus>, MachineError>;
    /// Ends it at once and reaps it.
    fn kill(&mut self);
    /// The last lines that the machine's process (not the guest) wrote as errors.
    fn errors(&mut self) -> String;
}

/// QEMU.
#[derive(Clone, Debug)]
pub struct Qemu {
    program: PathBuf,
}

impl Default for Qemu {
    fn default() -> Self {
        Self { program: PathBuf::from("qemu-system-x86_64") }
    }
}

impl Qemu {
    /// QEMU at a place of its own.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// The program.
    pub fn program(&self) -> &std::path::Path {
        &self.program
    }

    /// The first line of its own version text.
    pub fn version(&self) -> Result<String, MachineError> {
        let output =
            Command::new(&self.program).arg("--version").output().map_err(|e| self.not_started(e))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    fn not_started(&self, source: io::Error) -> MachineError {
        match source.kind() {
            io::ErrorKind::NotFound => MachineError::NotInstalled { program: self.program.clone() },
            _ => source.into(),
        }
    }

    /// Starts a machine and waits until its monitor answers.
    ///
    /// The machine ends with the calling *thread*: call this through [`crate::lasting`] unless that is wanted.
    pub fn start(&self, spec: &MachineSpec) -> Result<Running, MachineError> {
        let (monitor, machine_monitor) = UnixStream::pair()?;
        let mut mappings = vec![mapping(machine_monitor.into(), qemu::QMP_DESCRIPTOR)];
        let mut channel = None;
        if spec.channel == Some(Channel::VirtioSerial) {
            let (host, machine) = UnixStream::pair()?;
            mappings.push(mapping(machine.into(), qemu::CHANNEL_DESCRIPTOR));
            channel = Some(host);
        }
        for (number, file) in (qemu::first_file(spec)..).zip(spec.files()) {
            let open = OpenOptions::new().read(true).write(file.writable).open(file.path);
            let open = open.map_err(|source| MachineError::File {
                what: file.what,
                path: file.path.to_owned(),
                source,
            })?;
            mappings.push(mapping(open.into(), number));
        }
        let mut errors = tempfile::tempfile()?;
        let mut command = Command::new(&self.program);
        command
            .args(qemu::command_line(spec))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors.try_clone()?)
            .fd_mappings(mappings)
            .map_err(|_| io::Error::other("two files of the machine have one descriptor number"))?;
        // A group of its own: a terminal's Ctrl-C is for the owner to handle, not for the machine.
        command.process_group(0);
        let mut child = coffer_sys_process::spawn_guarded(&mut command).map_err(|e| self.not_started(e))?;
        // The command holds the machine's ends of the sockets; without them QEMU's end is seen as end of file.
        drop(command);
        match Qmp::connect(monitor, MONITOR_PATIENCE) {
            Ok(monitor) => {
                Ok(Running { child, monitor, channel, errors, ended: None, slots: Slots::of(spec) })
            }
            Err(_) => {
                // Killing it changes nothing where it has ended already; its status and its errors say why.
                let _ = child.kill();
                let status = child.wait()?;
                Err(MachineError::Ended { status: status.to_string(), errors: tail(&mut errors) })
            }
        }
    }
}

impl Vmm for Qemu {
    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, MachineError> {
        Ok(Box::new(Self::start(self, spec)?))
    }
}

/// A running QEMU.
pub struct Running {
    child: Child,
    monitor: Qmp,
    channel: Option<UnixStream>,
    errors: File,
    ended: Option<ExitStatus>,
    slots: Slots,
}

impl Machine for Running {
    fn process_id(&self) -> u32 {
        self.child.id()
    }

    fn take_channel(&mut self) -> Option<UnixStream> {
        self.channel.take()
    }

    fn status(&mut self) -> Result<Status, MachineError> {
        Ok(self.monitor.status()?)
    }

    fn power_down(&mut self) -> Result<(), MachineError> {
        Ok(self.monitor.power_down()?)
    }

    fn attach(&mut self, disk: &Disk) -> Result<Attached, MachineError> {
        self.slots.attach(&mut self.monitor, disk)
    }

    fn detach(&mut self, disk: &Attached, patience: Duration) -> Result<(), MachineError> {
        self.slots.detach(&mut self.monitor, disk, patience)
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>, MachineError> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    fn wait(&mut self, patience: Duration) -> Result<Option<ExitStatus>, MachineError> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(Some(status));
            }
            if start.elapsed() >= patience {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn kill(&mut self) {
        if self.ended.is_none() {
            // Errors mean that it has ended already; either way it is reaped next.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    fn errors(&mut self) -> String {
        tail(&mut self.errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn mapping(parent_fd: OwnedFd, child_fd: i32) -> FdMapping {
    FdMapping { parent_fd, child_fd }
}

fn tail(errors: &mut File) -> String {
    let mut text = Vec::new();
    let read = errors.seek(SeekFrom::End(0)).and_then(|end| {
        errors.seek(SeekFrom::Start(end.saturating_sub(ERRORS_KEPT)))?;
        errors.take(ERRORS_KEPT).read_to_end(&mut text)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&text).trim().to_owned(),
        Err(error) => format!("(its errors cannot be read: {error})"),
    }
}
