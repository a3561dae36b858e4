//! Children that cannot outlive the thread that started them, and the descriptors they get.

use crate::ProcessError;
use nix::sys::signal::{self, SigHandler, SigSet, Signal};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};

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

/// Takes ownership of a descriptor that the parent gave under this number by [`pass_descriptors`].
///
/// Call it at the start of the program, before it opens anything. It closes at exec from now on.
///
/// # Errors
/// When the number is none of 3 to 9, was taken before, or is not open.
pub fn take_inherited_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    if !(3..10).contains(&number) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let bit = 1 << number;
    if TAKEN.fetch_or(bit, Ordering::SeqCst) & bit != 0 {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists));
    }
    // SAFETY: `fcntl` with F_SETFD takes integers and fails with EBADF for a number that is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open (checked above), the parent opened it for this program, and the mask hands
    // each number out once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Becomes another program; returns only with the reason why it could not.
///
/// As the kernel does it: no search, and no shell for a file that is no program. Signals are as a new program
/// expects them, also `SIGPIPE`, which Rust programs ignore.
pub fn execute(program: &Path, arguments: &[String], environment: &[String]) -> io::Error {
    let strings =
        |list: &[String]| list.iter().map(|text| CString::new(text.as_str())).collect::<Result<Vec<_>, _>>();
    let program = CString::new(program.as_os_str().as_bytes());
    let (program, arguments, environment) = match (program, strings(arguments), strings(environment)) {
        (Ok(program), Ok(arguments), Ok(environment)) => (program, arguments, environment),
        _ => return io::Error::from(io::ErrorKind::InvalidInput),
    };
    // SAFETY: setting a signal to its default action installs no handler.
    let default = unsafe { signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) }.map(|_| ());
    let started = default
        .and_then(|()| SigSet::empty().thread_set_mask())
        .and_then(|()| nix::unistd::execve(&program, &arguments, &environment));
    match started {
        Ok(never) => match never {},
        Err(error) => error.into(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_without_reaping;
    use std::io::Read;

    #[test]
    fn guarded_child_dies_with_the_thread_that_spawned_it() {
        let (mut reader, writer) = io::pipe().expect("pipe");
        let mut child = std::thread::spawn(move || {
            let mut command = Command::new("/bin/sleep");
            command.arg("600").stdout(writer);
            spawn_guarded(&mut command).expect("spawned")
        })
        .join()
        .expect("thread");
        assert_eq!(wait_without_reaping(child.id()).expect("end"), crate::End::Killed(libc::SIGKILL));
        child.wait().expect("reaped");
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).expect("end of file: nobody holds the pipe");
    }

    #[test]
    fn passed_descriptors_have_their_numbers_and_no_others_are_open() {
        let (mut reader, writer) = io::pipe().expect("pipe");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo to-five >&5"]);
        let status = pass_descriptors(&mut command, vec![(writer.into(), 5)]).status().expect("a shell");
        drop(command);
        assert!(status.success());
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        assert_eq!(text, "to-five\n");
    }

    #[test]
    fn descriptors_that_were_not_passed_cannot_be_taken() {
        for number in [-1, 0, 2, 10] {
            assert!(take_inherited_descriptor(number).is_err());
        }
    }
}
