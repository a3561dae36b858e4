//! The monitor: parent of the container's first process, outside its PID namespace.
//!
//! It can signal the workload without a race, because only it reaps it, and it reports how the workload ended. It
//! dies with the agent, and the container dies with it.

use crate::message::{Command as Order, MAX_SPEC, Report, line};
use crate::{ContainerSpec, Failure, PROGRAM, error, init};
use coffer_sys_mount::program_on_read_only_mount;
use coffer_sys_process::{
    End, Namespaces, close_others_at_exec, kill_process, pass_descriptors, spawn_guarded,
    take_inherited_descriptor, unshare, wait_without_reaping,
};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Its word on the command line.
pub(crate) const ROLE: &str = "monitor";
/// The descriptor of the socket to the agent.
pub(crate) const CONTROL: i32 = 3;
/// The descriptor of the socket through which the init sends the agent its terminal.
pub(crate) const CONSOLE: i32 = 4;

const KILL: i32 = nix::sys::signal::SIGKILL as i32;

/// The container's first process, between its start and its reaping, and whether the agent wants it dead.
#[derive(Default)]
struct Target {
    pid: Option<u32>,
    doomed: bool,
}

type Shared = Arc<Mutex<Target>>;

pub(crate) fn main() -> ExitCode {
    let Ok(control) = take_inherited_descriptor(CONTROL) else { return ExitCode::from(error::SETUP_FAILED) };
    let control = Socket::from(control);
    let mut reports = match control.try_clone() {
        Ok(reports) => reports,
        Err(_) => return ExitCode::from(error::SETUP_FAILED),
    };
    let last = match start(control) {
        Ok((mut child, target)) => {
            let _agent_gone_means_killed = reports.write_all(&line(&Report::Started));
            follow(&mut child, &target)
        }
        Err(failure) => Report::Failed(failure),
    };
    let _agent_gone = reports.write_all(&line(&last));
    ExitCode::SUCCESS
}

fn start(mut control: Socket) -> Result<(Child, Shared), Failure> {
    let failed = |step: &'static str| move |e: io::Error| Failure::setup(step, e);
    let spec = read_spec(&mut control).map_err(failed("reading the specification"))?;
    let terminal = serde_json::from_slice::<ContainerSpec>(&spec)
        .map_err(|e| Failure::spec(format!("the specification does not read: {e}")))?
        .terminal
        .is_some();
    let program = program_on_read_only_mount()?;
    let target = Shared::default();
    // A process whose children go to another PID namespace can start no more threads (clone(2), CLONE_THREAD).
    obey(control, Arc::clone(&target));
    unshare(Namespaces::PID)?;
    let (spec_reader, mut spec_writer) = io::pipe().map_err(failed("making a pipe"))?;
    let (mut status_reader, status_writer) = io::pipe().map_err(failed("making a pipe"))?;
    let mut passed: Vec<(OwnedFd, i32)> =
        vec![(spec_reader.into(), init::SPEC), (status_writer.into(), init::STATUS)];
    if terminal {
        passed
            .push((take_inherited_descriptor(CONSOLE).map_err(failed("taking the console"))?, init::CONSOLE));
    }
    close_others_at_exec()?;
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.arg0(PROGRAM).arg(init::ROLE).env_clear();
    let child = spawn_guarded(pass_descriptors(&mut command, passed)).map_err(failed("starting the init"))?;
    drop(command);
    set_target(&target, child.id());
    let started = let_go_of_standard_streams()
        .and_then(|()| spec_writer.write_all(&spec))
        .map_err(failed("sending the specification on"));
    drop(spec_writer);

    let mut status = Vec::new();
    status_reader.read_to_end(&mut status).map_err(failed("listening to the init"))?;
    match status.split_first() {
        // The pipe closed at exec, after the byte that says all is done.
        Some((&init::READY, [])) => started.map(|()| (child, target)),
        Some((_, _)) => {
            let text = status.strip_prefix(&[init::READY]).unwrap_or(&status);
            Err(serde_json::from_slice(text).unwrap_or_else(|e| Failure::setup("reading the init's word", e)))
        }
        None => Err(Failure::setup("starting the init", "it was killed before the workload began")),
    }
}

fn read_spec(control: &mut Socket) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    control.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > MAX_SPEC {
        return Err(io::Error::other(format!("it has {length} bytes, more than {MAX_SPEC}")));
    }
    let mut spec = Vec::new();
    control.take(u64::from(length)).read_to_end(&mut spec)?;
    Ok(spec)
}

/// The streams are the workload's: a copy kept here would hide their end from the agent.
fn let_go_of_standard_streams() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

/// Carries out the agent's orders until there is no agent any more, and then kills the container.
fn obey(control: Socket, target: Shared) {
    std::thread::spawn(move || {
        for order in BufReader::new(control).split(b'\n').map_while(Result::ok) {
            if let Ok(Order::Signal(number)) = serde_json::from_slice(&order) {
                send(&lock(&target), number);
            }
        }
        let mut target = lock(&target);
        target.doomed = true;
        send(&target, KILL);
    });
}

fn set_target(target: &Shared, pid: u32) {
    let mut target = lock(target);
    target.pid = Some(pid);
    if target.doomed {
        send(&target, KILL);
    }
}

fn send(target: &Target, signal: i32) {
    if let Some(pid) = target.pid {
        // The agent learns from the report whether the workload still runs; a bad number changes nothing.
        let _ended_meanwhile = kill_process(pid, signal);
    }
}

fn lock(target: &Shared) -> MutexGuard<'_, Target> {
    target.lock().unwrap_or_else(PoisonError::into_inner)
}

fn follow(child: &mut Child, target: &Shared) -> Report {
    let end = wait_without_reaping(child.id());
    lock(target).pid = None;
    let _ended = child.wait();
    match end {
        Ok(End::Exited(code)) => Report::Exited(code),
        Ok(End::Killed(signal)) => Report::Killed(signal),
        Err(error) => Report::Failed(Failure::setup("waiting for the workload", error)),
    }
}
