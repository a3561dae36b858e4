//! The agent's side: starting a container and following it to its end.

use crate::cgroup::Group;
use crate::message::{Command as Order, MAX_SPEC, Report, line};
use crate::{ContainerError, ContainerSpec, Failure, Input, Output, PROGRAM, monitor};
use coffer_core_channel::Winsize;
use coffer_sys_process::{End, Size, pass_descriptors, receive_descriptor, resize, spawn_guarded};
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// The longest line the monitor sends.
const MAX_LINE: usize = 64 << 10;

/// The container runtime.
#[derive(Debug)]
pub struct Container;

/// A running container. Dropping it kills every process of the container.
#[derive(Debug)]
pub struct Running {
    /// The workload's standard input; drop it to end the input. `None` once taken.
    pub stdin: Option<Input>,
    /// Its standard output; with a terminal, all it writes. `None` once taken.
    pub stdout: Option<Output>,
    /// Its standard error; `None` with a terminal, or once taken.
    pub stderr: Option<Output>,
    reports: BufReader<UnixStream>,
    partial: Vec<u8>,
    /// How the workload ended, once the monitor said so.
    end: Option<End>,
    controller: Controller,
    monitor: Child,
    group: Option<Group>,
}

/// Sends signals and sizes to a running container; may be cloned and kept beside [`Running::wait`].
#[derive(Clone, Debug)]
pub struct Controller {
    orders: Arc<Socket>,
    terminal: Option<Arc<OwnedFd>>,
}

/// How a workload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; 128 and the signal's number when a signal killed it.
    pub code: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Whether the kernel killed processes of it for want of memory.
    pub out_of_memory: bool,
}

/// The ends of the standard streams that the agent keeps.
enum Ours {
    Pipes { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
    Terminal { console: Socket },
}

impl Container {
    /// Starts a container and returns once the workload runs, or with the reason why it does not.
    ///
    /// Call it on a thread that lives as long as the container: the kernel kills the container when that thread
    /// ends. In a current-thread runtime that is the runtime's own.
    ///
    /// # Errors
    /// [`ContainerError::NotStarted`] when the specification or the image does not allow a start; others when the
    /// sandbox itself is at fault.
    pub async fn start(spec: &ContainerSpec) -> Result<Running, ContainerError> {
        let group = spec.cgroup.as_ref().map(Group::create).transpose()?;
        let failed = ContainerError::monitor;
        let (ours, theirs) = Socket::pair().map_err(failed("making its socket"))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(PROGRAM).arg(monitor::ROLE).env_clear().current_dir("/");
        let mut passed = vec![(theirs.into(), monitor::CONTROL)];
        let streams = standard_streams(&mut command, &mut passed, spec.terminal.is_some())
            .map_err(failed("making streams"))?;
        pass_descriptors(&mut command, passed);
        let child = spawn_guarded(&mut command).map_err(failed("starting it"))?;
        // The command holds the monitor's ends of pipes and sockets.
        drop(command);

        ours.set_nonblocking(true).map_err(failed("preparing its socket"))?;
        let orders = Arc::new(ours.try_clone().map_err(failed("preparing its socket"))?);
        let socket = UnixStream::from_std(ours).map_err(failed("preparing its socket"))?;
        let mut running = Running {
            stdin: None,
            stdout: None,
            stderr: None,
            reports: BufReader::new(socket),
            partial: Vec::new(),
            end: None,
            controller: Controller { orders, terminal: None },
            monitor: child,
            group,
        };
        running.send(spec).await?;
        match running.report().await? {
            Report::Started => {}
            Report::Failed(failure) => {
                running.reap().await;
                return Err(failure.into());
            }
            Report::Exited(_) | Report::Killed(_) => return Err(ContainerError::Lost),
        }
        running.connect(streams).map_err(failed("connecting streams"))?;
        Ok(running)
    }
}

impl Running {
    /// Waits for the workload's end. May be dropped and called again.
    ///
    /// # Errors
    /// [`ContainerError::Lost`] when the monitor was killed; the container died with it.
    pub async fn wait(&mut self) -> Result<Exit, ContainerError> {
        let end = match self.end {
            Some(end) => end,
            None => match self.report().await? {
                Report::Exited(code) => End::Exited(code),
                Report::Killed(signal) => End::Killed(signal),
                Report::Started | Report::Failed(_) => return Err(ContainerError::Lost),
            },
        };
        // Kept before the next point at which this may be dropped: the monitor says it once.
        self.end = Some(end);
        self.reap().await;
        let out_of_memory = self.group.take().is_some_and(|group| group.ran_out_of_memory());
        let signal = match end {
            End::Exited(_) => None,
            End::Killed(signal) => Some(signal),
        };
        Ok(Exit { code: end.code(), signal, out_of_memory })
    }

    /// A handle for signals and sizes.
    #[must_use]
    pub fn controller(&self) -> Controller {
        self.controller.clone()
    }

    async fn send(&mut self, spec: &ContainerSpec) -> Result<(), ContainerError> {
        let failed = ContainerError::monitor;
        let bytes = serde_json::to_vec(spec).map_err(|e| failed("writing the specification")(e.into()))?;
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MAX_SPEC);
        let length = length.ok_or_else(|| {
            Failure::spec(format!("the specification has {} bytes, more than {MAX_SPEC}", bytes.len()))
        })?;
        let length = length.to_be_bytes();
        let socket = self.reports.get_mut();
        socket.write_all(&length).await.map_err(failed("sending the specification"))?;
        socket.write_all(&bytes).await.map_err(failed("sending the specification"))
    }

    async fn report(&mut self) -> Result<Report, ContainerError> {
        // What was read before a dropped `wait` is kept in `partial`.
        self.reports
            .read_until(b'\n', &mut self.partial)
            .await
            .map_err(ContainerError::monitor("listening to it"))?;
        let text = std::mem::take(&mut self.partial);
        if !text.ends_with(b"\n") || text.len() > MAX_LINE {
            return Err(ContainerError::Lost);
        }
        serde_json::from_slice(&text).map_err(|_| ContainerError::Lost)
    }

    /// Lets the monitor end and takes its process entry, unless PID 1's reaping has taken it already.
    async fn reap(&mut self) {
        let mut rest = Vec::new();
        let _closed_either_way = self.reports.read_until(b'\n', &mut rest).await;
        let _reaped_by_pid_1 = self.monitor.wait();
    }

    fn connect(&mut self, streams: Ours) -> io::Result<()> {
        match streams {
            Ours::Pipes { stdin, stdout, stderr } => {
                self.stdin = Some(Input::new(stdin)?);
                self.stdout = Some(Output::new(stdout)?);
                self.stderr = Some(Output::new(stderr)?);
            }
            Ours::Terminal { console } => {
                let master = receive_descriptor(&console).map_err(io::Error::other)?;
                self.stdin = Some(Input::new(master.try_clone()?)?);
                self.stdout = Some(Output::new(master.try_clone()?)?);
                self.controller.terminal = Some(Arc::new(master));
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The monitor kills the container at the end of its orders, whoever still holds a controller.
        let _already_gone = self.controller.orders.shutdown(Shutdown::Both);
        // Only an empty control group can be removed.
        let _reaped_by_pid_1 = self.monitor.wait();
    }
}

impl Controller {
    /// Sends the workload a signal by number. As PID 1 of its namespace it ignores those it does not handle, but
    /// not `SIGKILL`.
    ///
    /// # Errors
    /// When the container has ended.
    pub fn signal(&self, number: i32) -> Result<(), ContainerError> {
        let mut socket = &*self.orders;
        socket.write_all(&line(&Order::Signal(number))).map_err(ContainerError::monitor("sending a signal"))
    }

    /// Tells the workload's terminal its size; without a terminal it does nothing.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn resize(&self, size: Winsize) -> Result<(), ContainerError> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        resize(terminal, Size { rows: size.rows, cols: size.cols }).map_err(|e| ContainerError::Monitor {
            step: "resizing the terminal",
            source: io::Error::other(e),
        })
    }
}

fn standard_streams(
    command: &mut Command,
    passed: &mut Vec<(OwnedFd, i32)>,
    terminal: bool,
) -> io::Result<Ours> {
    use std::process::Stdio;
    if terminal {
        let (ours, theirs) = Socket::pair()?;
        passed.push((theirs.into(), monitor::CONSOLE));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        return Ok(Ours::Terminal { console: ours });
    }
    let (stdin_reader, stdin) = io::pipe()?;
    let (stdout, stdout_writer) = io::pipe()?;
    let (stderr, stderr_writer) = io::pipe()?;
    command.stdin(stdin_reader).stdout(stdout_writer).stderr(stderr_writer);
    Ok(Ours::Pipes { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_wait_that_is_dropped_after_the_monitors_last_word_loses_nothing() {
        let (ours, mut monitor) = Socket::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut running = Running {
            stdin: None,
            stdout: None,
            stderr: None,
            controller: Controller { orders: Arc::new(ours.try_clone().unwrap()), terminal: None },
            reports: BufReader::new(UnixStream::from_std(ours).unwrap()),
            partial: Vec::new(),
            end: None,
            monitor: Command::new("true").spawn().unwrap(),
            group: None,
        };
        monitor.write_all(&line(&Report::Killed(15))).unwrap();
        // The monitor lives on for a moment: the wait is dropped in that moment.
        tokio::time::timeout(Duration::from_millis(50), running.wait()).await.unwrap_err();
        drop(monitor);
        let exit = running.wait().await.unwrap();
        assert_eq!((exit.code, exit.signal, exit.out_of_memory), (143, Some(15), false));
    }
}
