//! Attaching a socket to a free device, and the thread that the driver runs in.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::NbdError;

/// The block size that devices have, in bytes.
pub const BLOCK: u64 = 4096;

// linux/nbd.h: `_IO(0xab, n)`.
const SET_SOCK: libc::c_ulong = 0xab00;
const SET_BLKSIZE: libc::c_ulong = 0xab01;
const DO_IT: libc::c_ulong = 0xab03;
const CLEAR_SOCK: libc::c_ulong = 0xab04;
const SET_SIZE_BLOCKS: libc::c_ulong = 0xab07;
const DISCONNECT: libc::c_ulong = 0xab08;
const SET_FLAGS: libc::c_ulong = 0xab0a;
const HAS_FLAGS: libc::c_ulong = 1;
const READ_ONLY: libc::c_ulong = 2;
/// So many devices the driver makes when it is loaded (`nbds_max`).
const DEVICES: usize = 16;
/// How long a device may take to come up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked for meanwhile.
const PAUSE: Duration = Duration::from_millis(2);

/// An attached device. The kernel frees it when this is dropped.
#[derive(Debug)]
pub struct Device {
    path: PathBuf,
    open: File,
    driver: Option<JoinHandle<()>>,
}

impl Device {
    /// Its device node.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let [_disconnected, _cleared] =
            [DISCONNECT, CLEAR_SOCK].map(|command| control(&self.open, command, 0));
        if let Some(driver) = self.driver.take() {
            let _ended_either_way = driver.join();
        }
    }
}

/// Makes a read-only device of `size` bytes whose requests go over `socket`.
///
/// # Errors
/// When there is no free device (module `nbd`), or the kernel refuses the socket.
pub fn attach(socket: OwnedFd, size: u64) -> Result<Device, NbdError> {
    if size == 0 || !size.is_multiple_of(BLOCK) {
        return Err(NbdError::Size { size });
    }
    let (path, open) = free_device(&socket)?;
    let blocks = libc::c_ulong::try_from(size / BLOCK).map_err(|_| NbdError::Size { size })?;
    let block = libc::c_ulong::try_from(BLOCK).map_err(|_| NbdError::Size { size })?;
    let steps = [
        (SET_BLKSIZE, block, "setting its block size"),
        (SET_SIZE_BLOCKS, blocks, "setting its size"),
        (SET_FLAGS, HAS_FLAGS | READ_ONLY, "making it read-only"),
    ];
    for (command, argument, step) in steps {
        control(&open, command, argument).map_err(|source| NbdError::Refused { step, source })?;
    }
    let lent = open.try_clone().map_err(|source| NbdError::Refused { step: "keeping it open", source })?;
    let driver = thread::Builder::new()
        .name("nbd".into())
        .spawn(move || drive(&lent, socket))
        .map_err(|source| NbdError::Refused { step: "starting its thread", source })?;
    // From here on, leaving drops the device and so ends the thread.
    let device = Device { path, open, driver: Some(driver) };
    device.wait_until_up(size)?;
    Ok(device)
}

impl Device {
    fn wait_until_up(&self, size: u64) -> Result<(), NbdError> {
        let name = self.path.file_name().unwrap_or_default();
        // In units of 512 bytes, whatever the block size (Linux, Documentation/ABI/stable/sysfs-block).
        let file = Path::new("/sys/block").join(name).join("size");
        let running = file.with_file_name("pid");
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let found = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<u64>().ok());
            if running.exists() && found == Some(size / 512) {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        Err(NbdError::NotUp { seconds: PATIENCE.as_secs() })
    }
}

/// The first device that takes the socket.
fn free_device(socket: &OwnedFd) -> Result<(PathBuf, File), NbdError> {
    let failed = |step| move |source| NbdError::Refused { step, source };
    let mut found = 0;
    for number in 0..DEVICES {
        let path = PathBuf::from(format!("/dev/nbd{number}"));
        let device = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(device) => device,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => continue,
            Err(error) => return Err(failed("opening a device")(error)),
        };
        found += 1;
        let argument = libc::c_ulong::try_from(socket.as_raw_fd())
            .map_err(|_| failed("giving it the socket")(io::Error::from_raw_os_error(libc::EBADF)))?;
        match control(&device, SET_SOCK, argument) {
            Ok(()) => return Ok((path, device)),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(failed("giving it the socket")(error)),
        }
    }
    match found {
        0 => Err(NbdError::NoDevices),
        count => Err(NbdError::AllInUse { count }),
    }
}

/// Lends this thread to the driver until the device is disconnected.
fn drive(device: &File, socket: OwnedFd) {
    block_signals();
    // How it ended is seen by whoever reads the device.
    let _ended = control(device, DO_IT, 0);
    drop(socket);
}

/// Keeps signals from this thread: the driver takes one for the order to end (`wait_event_interruptible`).
fn block_signals() {
    // SAFETY: all zeroes is a valid `sigset_t`; `sigfillset` writes the set that it is given, and `pthread_sigmask` reads
    // it and touches this thread's mask only; its third argument may be null (pthread_sigmask(3)).
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
}

fn control(device: &File, command: libc::c_ulong, argument: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the descriptor is an open network block device; its commands take a number, never a pointer.
    match unsafe { libc::ioctl(device.as_raw_fd(), command, argument) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn device_of_no_whole_blocks_is_refused_before_the_kernel_is_asked() {
        for size in [0, 1, BLOCK + 512] {
            let (end, _other) = UnixStream::pair().expect("sockets");
            assert!(matches!(attach(end.into(), size), Err(NbdError::Size { size: found }) if found == size));
        }
    }

    #[test]
    fn driver_s_thread_takes_no_signal() {
        let blocked = thread::spawn(|| {
            block_signals();
            fs::read_to_string("/proc/thread-self/status").expect("status")
        });
        let status = blocked.join().expect("ended");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).expect("a mask").trim();
        let mask = u64::from_str_radix(mask, 16).expect("a number");
        // What libc keeps for itself (32, 33) and what cannot be blocked may stay open.
        let child = 1 << (libc::SIGCHLD - 1);
        let terminate = 1 << (libc::SIGTERM - 1);
        assert_eq!(mask & (child | terminate), child | terminate, "{mask:x}");
    }
}
