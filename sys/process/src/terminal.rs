//! Pseudo-terminals, and descriptors sent to another process.

use crate::ProcessError;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// A new pseudo-terminal.
#[derive(Debug)]
pub struct Terminal {
    /// The side that plays the person: it reads output and writes input.
    pub master: OwnedFd,
    /// The side that programs use.
    pub slave: File,
    /// The program side's path under the `devpts` mount.
    pub path: PathBuf,
}

nix::ioctl_write_ptr_bad!(set_lock, libc::TIOCSPTLCK, libc::c_int);
nix::ioctl_read_bad!(get_number, libc::TIOCGPTN, libc::c_uint);
nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, libc::winsize);
nix::ioctl_write_int_bad!(set_controlling, libc::TIOCSCTTY);

/// Opens a new pseudo-terminal of the `devpts` mounted at `devpts`.
///
/// # Errors
/// When the mount has no `ptmx`, or no terminals are left.
pub fn open_terminal(devpts: &Path, size: Option<Size>) -> Result<Terminal, ProcessError> {
    let open = |path: &Path| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags((OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).bits())
            .open(path)
            .map_err(|e| ProcessError::new(format!("opening {}", path.display()), e))
    };
    let master = open(&devpts.join("ptmx"))?;
    let mut number = 0;
    // SAFETY: the descriptor is an open `ptmx`; the ioctl writes one `unsigned int` to a live variable.
    unsafe { get_number(master.as_raw_fd(), &raw mut number) }
        .map_err(|e| ProcessError::new("numbering a terminal", e))?;
    // SAFETY: the descriptor is an open `ptmx`; the ioctl reads one `int` from a live constant.
    unsafe { set_lock(master.as_raw_fd(), &0) }.map_err(|e| ProcessError::new("unlocking a terminal", e))?;
    let path = devpts.join(number.to_string());
    let slave = open(&path)?;
    let master = OwnedFd::from(master);
    if let Some(size) = size {
        resize(&master, size)?;
    }
    Ok(Terminal { master, slave, path })
}

/// Tells a terminal, and the programs on it, its size.
///
/// # Errors
/// When the descriptor is no terminal.
pub fn resize(master: &OwnedFd, size: Size) -> Result<(), ProcessError> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open for the borrow's life; the ioctl reads one `struct winsize` from it.
    unsafe { set_size(master.as_raw_fd(), &raw const size) }
        .map(|_| ())
        .map_err(|e| ProcessError::new("resizing a terminal", e))
}

/// Starts a session with this terminal as the controlling one and as standard input, output and error.
///
/// # Errors
/// When the process already leads a group, or the terminal belongs to another session.
pub fn take_terminal(slave: &File) -> Result<(), ProcessError> {
    nix::unistd::setsid().map_err(|e| ProcessError::new("starting a session", e))?;
    // SAFETY: the descriptor is an open terminal; the ioctl takes an integer argument and touches no memory.
    unsafe { set_controlling(slave.as_raw_fd(), 0) }
        .map_err(|e| ProcessError::new("taking the terminal", e))?;
    let put = |e: Errno| ProcessError::new("putting the terminal in place of standard streams", e);
    nix::unistd::dup2_stdin(slave).map_err(put)?;
    nix::unistd::dup2_stdout(slave).map_err(put)?;
    nix::unistd::dup2_stderr(slave).map_err(put)
}

/// Sends one descriptor over a Unix socket, with a byte to carry it.
///
/// # Errors
/// When the other end is gone.
pub fn send_descriptor(socket: &impl AsRawFd, descriptor: BorrowedFd<'_>) -> Result<(), ProcessError> {
    let numbers = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&numbers)];
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(b"d")], &rights, MsgFlags::MSG_NOSIGNAL, None)
        .map(|_| ())
        .map_err(|e| ProcessError::new("sending a descriptor", e))
}

/// Receives one descriptor that [`send_descriptor`] sent.
///
/// # Errors
/// When the message carries no descriptor, or more than one.
pub fn receive_descriptor(socket: &impl AsRawFd) -> Result<OwnedFd, ProcessError> {
    const WHAT: &str = "receiving a descriptor";
    let mut byte = [0_u8; 1];
    let mut slices = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let message =
        recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
            .map_err(|e| ProcessError::new(WHAT, e))?;
    let mut found = Vec::new();
    for control in message.cmsgs().map_err(|e| ProcessError::new(WHAT, e))? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel has just installed these descriptors for this message; nothing else owns them.
            found.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(ProcessError::new(WHAT, io::Error::from(io::ErrorKind::InvalidData))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptor_arrives_at_the_other_end() {
        let (left, right) = UnixStream::pair().expect("socket pair");
        let file = File::open("/proc/self/stat").expect("file");
        send_descriptor(&left, file.as_fd()).expect("sent");
        let got = File::from(receive_descriptor(&right).expect("received"));
        let text = std::io::read_to_string(got).expect("readable");
        assert!(text.starts_with(&std::process::id().to_string()));
    }

    #[test]
    fn message_without_descriptor_is_refused() {
        use std::io::Write;
        let (mut left, right) = UnixStream::pair().expect("socket pair");
        left.write_all(b"d").expect("written");
        assert!(receive_descriptor(&right).is_err());
    }

    #[test]
    fn new_terminal_carries_bytes_and_a_size() {
        let Ok(terminal) = open_terminal(Path::new("/dev/pts"), Some(Size { rows: 10, cols: 33 })) else {
            println!("skipped: no devpts here");
            return;
        };
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is an open terminal; the ioctl writes one `struct winsize` to a live variable.
        let done = unsafe { libc::ioctl(terminal.slave.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
        assert_eq!((done, size.ws_row, size.ws_col), (0, 10, 33));
    }
}
