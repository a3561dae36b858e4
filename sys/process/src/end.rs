//! How processes end: waiting, reaping, signals, and the end of the machine.

use crate::ProcessError;
use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

impl End {
    /// The exit code as a shell gives it: 128 and the signal's number for a killed process.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

/// A reaped child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its process id; free for others from now on.
    pub pid: u32,
    /// How it ended.
    pub end: End,
}

/// Takes one ended child, if there is one: the duty of PID 1, to which every orphan falls.
///
/// Returns at once. Call it until it gives `None` whenever `SIGCHLD` came. It also takes children that a
/// `std::process::Child` stands for, whose `wait` then fails with `ECHILD`.
///
/// # Errors
/// When the kernel refuses; having no children is not an error.
pub fn reap() -> Result<Option<Child>, ProcessError> {
    loop {
        return match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(status) => match ended(status) {
                Some(child) => Ok(Some(child)),
                None if status == WaitStatus::StillAlive => Ok(None),
                None => continue,
            },
            Err(Errno::ECHILD) => Ok(None),
            Err(Errno::EINTR) => continue,
            Err(e) => Err(ProcessError::new("reaping children", e)),
        };
    }
}

/// Blocks until the child has ended and leaves it unreaped, so that its id stays its own.
///
/// # Errors
/// When there is no such child.
pub fn wait_without_reaping(pid: u32) -> Result<End, ProcessError> {
    let child = Pid::from_raw(pid.cast_signed());
    loop {
        match waitid(Id::Pid(child), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            Ok(status) => {
                if let Some(child) = ended(status) {
                    return Ok(child.end);
                }
            }
            Err(Errno::EINTR) => {}
            Err(e) => return Err(ProcessError::new(format!("waiting for process {pid}"), e)),
        }
    }
}

fn ended(status: WaitStatus) -> Option<Child> {
    match status {
        WaitStatus::Exited(pid, code) => {
            Some(Child { pid: pid.as_raw().cast_unsigned(), end: End::Exited(code) })
        }
        WaitStatus::Signaled(pid, signal, _) => {
            Some(Child { pid: pid.as_raw().cast_unsigned(), end: End::Killed(signal as i32) })
        }
        _ => None,
    }
}

/// Sends a signal by number to one process.
///
/// # Errors
/// When the number is no signal, or the process does not exist or may not be signalled.
pub fn kill_process(pid: u32, signal: i32) -> Result<(), ProcessError> {
    let what = || format!("sending signal {signal} to process {pid}");
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(Errno::ESRCH);
    let pid = pid.map_err(|e| ProcessError::new(what(), e))?;
    if signal <= 0 {
        return Err(ProcessError::new(what(), Errno::EINVAL));
    }
    // SAFETY: `kill` takes two integers and touches no memory. Realtime signals have no name in `nix`, hence the
    // direct call.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(ProcessError::last(what())) }
}

/// Writes what is cached to the disks and powers the machine off. Returns only when the kernel refuses.
pub fn power_off() -> ProcessError {
    end_machine(RebootMode::RB_POWER_OFF, "powering off")
}

/// Writes what is cached to the disks and restarts the machine. Returns only when the kernel refuses.
pub fn restart() -> ProcessError {
    end_machine(RebootMode::RB_AUTOBOOT, "restarting")
}

fn end_machine(mode: RebootMode, what: &str) -> ProcessError {
    nix::unistd::sync();
    match reboot(mode) {
        Ok(never) => match never {},
        Err(e) => ProcessError::new(what, e),
    }
}

/// Microseconds since the kernel started, also counting time in which the machine was suspended.
#[must_use]
pub fn uptime_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `struct timespec` to a live variable.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let (seconds, nanoseconds) = (time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned());
    seconds.saturating_mul(1_000_000).saturating_add(nanoseconds / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn killed_process_ends_with_128_and_the_signal() {
        assert_eq!(End::Killed(9).code(), 137);
        assert_eq!(End::Exited(3).code(), 3);
    }

    #[test]
    fn waiting_without_reaping_leaves_the_child_to_its_owner() {
        let mut child = Command::new("/bin/sh").args(["-c", "exit 5"]).spawn().expect("a shell");
        assert_eq!(wait_without_reaping(child.id()).expect("end"), End::Exited(5));
        assert_eq!(child.wait().expect("still ours").code(), Some(5));
    }

    #[test]
    fn signal_to_process_zero_is_refused() {
        assert!(kill_process(0, 15).is_err());
        assert!(kill_process(std::process::id(), 0).is_err());
    }

    #[test]
    fn uptime_grows() {
        let first = uptime_us();
        assert!(first > 0);
        assert!(uptime_us() >= first);
    }
}
