//! The swtpm process: started with sockets that are open already, ended with the value that holds it.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coffer_sys_tpm::Tpm;

use crate::VtpmError;

/// `sockaddr_un.sun_path` without its final zero.
const MAX_SOCKET_PATH: usize = 107;
/// The descriptor that swtpm gets.
const DESCRIPTOR: i32 = 3;

/// A running swtpm. Dropped, it is ended and its socket file removed.
#[derive(Debug)]
pub struct RunningVtpm {
    child: Child,
    control_socket: Option<PathBuf>,
    log: PathBuf,
}

impl RunningVtpm {
    /// The control socket for QEMU. None for a TPM that only this process uses.
    pub fn control_socket(&self) -> Option<&Path> {
        self.control_socket.as_deref()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end after the connection was closed, so that its state is on disk.
    pub fn wait(mut self) -> Result<(), VtpmError> {
        const PATIENCE: Duration = Duration::from_secs(20);
        let begun = Instant::now();
        let failed = |log: &Path, why| VtpmError::Swtpm { what: "end in good order", why, log: log.into() };
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(failed(&self.log, status.to_string())),
                Ok(None) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(2)),
                Ok(None) => return Err(failed(&self.log, "it is still running".into())),
                Err(cause) => return Err(failed(&self.log, cause.to_string())),
            }
        }
    }
}

impl Drop for RunningVtpm {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, and waiting takes its exit status.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(path) = &self.control_socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

pub(crate) fn start(state: &Path, control_socket: &Path) -> Result<RunningVtpm, VtpmError> {
    let found = control_socket.as_os_str().as_bytes().len();
    if found > MAX_SOCKET_PATH {
        return Err(VtpmError::SocketPath { path: control_socket.into(), limit: MAX_SOCKET_PATH, found });
    }
    // Bound here and passed on, so that QEMU can connect as soon as this returns.
    let bind = || {
        match std::fs::remove_file(control_socket) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let listener = UnixListener::bind(control_socket)?;
        std::fs::set_permissions(control_socket, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    let listener =
        bind().map_err(|cause| VtpmError::File { what: "listen at", path: control_socket.into(), cause })?;
    let control = format!("type=unixio,fd={DESCRIPTOR}");
    let log = log_of(state);
    let child = spawn(state, &log, listener.into(), &["--ctrl", &control, "--terminate"])?;
    let running = RunningVtpm { child, control_socket: Some(control_socket.into()), log };
    // It ends at once if its state is damaged or in use. Better said here than by QEMU.
    match probe(control_socket) {
        Ok(()) => Ok(running),
        Err(cause) => {
            let log = running.log.clone();
            Err(VtpmError::Swtpm { what: "answer at its control socket", why: cause.to_string(), log })
        }
    }
}

/// Asks for the control channel's capabilities: a command without effect, answered before any other.
fn probe(control_socket: &Path) -> std::io::Result<()> {
    const CMD_GET_CAPABILITY: u32 = 1;
    let mut control = UnixStream::connect(control_socket)?;
    control.set_read_timeout(Some(Duration::from_secs(20)))?;
    control.write_all(&CMD_GET_CAPABILITY.to_be_bytes())?;
    control.read_exact(&mut [0; 8])
}

/// Where swtpm writes what it has to say.
pub(crate) fn log_of(state: &Path) -> PathBuf {
    state.join("swtpm.log")
}

pub(crate) fn connect(state: &Path, log: &Path) -> Result<(RunningVtpm, Tpm), VtpmError> {
    let pair = UnixStream::pair();
    let (own, its) =
        pair.map_err(|cause| VtpmError::File { what: "make a socket for", path: state.into(), cause })?;
    let descriptor = DESCRIPTOR.to_string();
    let arguments = ["--fd", &descriptor, "--flags", "not-need-init,startup-clear", "--terminate"];
    let log = log_of(log);
    let child = spawn(state, &log, its.into(), &arguments)?;
    Ok((RunningVtpm { child, control_socket: None, log }, Tpm::from_stream(own)?))
}

fn spawn(state: &Path, log: &Path, descriptor: OwnedFd, arguments: &[&str]) -> Result<Child, VtpmError> {
    let file = |what, path: &Path| {
        let path = path.to_path_buf();
        move |cause| VtpmError::File { what, path, cause }
    };
    let output = OpenOptions::new().create(true).append(true).mode(0o600).open(log);
    let output = output.map_err(file("open", log))?;
    let output_too = output.try_clone().map_err(file("open", log))?;
    // The state is the working directory: no path of the user's can be taken for an option of swtpm.
    let mut command = Command::new("swtpm");
    command
        .args(["socket", "--tpm2", "--tpmstate", "dir=.,mode=0600"])
        .args(arguments)
        .current_dir(state)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(output_too)
        // An interrupt at the terminal is the owner's to handle, not the TPM's.
        .process_group(0);
    coffer_sys_process::pass_descriptors(&mut command, vec![(descriptor, DESCRIPTOR)]);
    match coffer_sys_process::spawn_guarded(&mut command) {
        Ok(child) => Ok(child),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Err(VtpmError::NotInstalled),
        Err(cause) => Err(VtpmError::Swtpm { what: "start", why: cause.to_string(), log: log.into() }),
    }
}
