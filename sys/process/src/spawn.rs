//! Children that cannot outlive the thread that started them, and the descriptors they get.

use crate::ProcessError;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Spawns a child that the kernel kills when the calling thread ends, however it ends.
///
/// The kernel ties the death signal to the *thread* that spawned, not to its process: call this from a thread that
/// lives as long as the child is wanted (the main thread, or the one of a current-thread runtime), never from a
/// pool. The signal is also lost when the child changes its user or executes a set-user-id program.
///
/// # Errors
/// As `Command::spawn`; and `ESRCH` if this process died before the child could ask for the signal.
pub fn spawn_guarded(command: &mut Command) -> io::Result<Child> {
    guard(command).spawn()
}

/// Prepares a command so that its child dies with the thread that spawns it; see [`spawn_guarded`].
///
/// For runtimes with their own spawn (`tokio::process::Command::as_std_mut`).
pub fn guard(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    // SAFETY: the closure runs in the forked child before exec. It allocates nothing and calls only `prctl` and
    // `getppid`, which are async-signal-safe; it captures one integer by value.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died between fork and prctl; then no signal will ever come. A parent outside
            // this process's PID namespace reads as 0: for the first process of a new namespace this check can say
            // nothing, and it must notice by a pipe whose other end only the parent holds.
            let now = libc::getppid();
            if now != 0 && now.cast_unsigned() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        })
    }
}

/// Asks the kernel to kill this process when the thread that spawned it ends.
///
/// Needed again after a change of user, which clears the request.
///
/// # Errors
/// When the kernel refuses.
pub fn die_with_parent() -> Result<(), ProcessError> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .map_err(|e| ProcessError::new("asking to die with the parent", e))
}

/// Gives the child each descriptor under the stated number, open across exec.
///
/// Numbers must be above 2 and distinct, and below any descriptor that is passed (the kernel's numbers are
/// duplicated upwards first, so that no target overwrites a source).
pub fn pass_descriptors(command: &mut Command, descriptors: Vec<(OwnedFd, RawFd)>) -> &mut Command {
    // SAFETY: the closure runs in the forked child before exec and calls only `fcntl` and `dup2`, which are
    // async-signal-safe. The owned descriptors live in the closure, so they are open when it runs.
    unsafe {
        command.pre_exec(move || {
            let mut lifted = [-1; 8];
            if descriptors.len() > lifted.len() {
                return Err(io::Error::from_raw_os_error(libc::EMFILE));
            }
            for (slot, (source, _)) in lifted.iter_mut().zip(&descriptors) {
                *slot = libc::fcntl(source.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 64);
                if *slot < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            for (slot, (_, target)) in lifted.iter().zip(&descriptors) {
                if libc::dup2(*slot, *target) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        })
    }
}

/// Marks every descriptor above the standard three to close at exec.
///
/// # Errors
/// When the kernel refuses.
pub fn close_others_at_exec() -> Result<(), ProcessError> {
    // SAFETY: `close_range` with CLOSE_RANGE_CLOEXEC touches no memory and closes nothing now; it only sets a flag
    // on descriptors from 3 upwards, so no owner in this process is invalidated.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(ProcessError::last("marking descriptors to close at exec")) }
}
