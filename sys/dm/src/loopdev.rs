//! Loop devices: a file as a block device (linux/loop.h).

use crate::DmError;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// How a file is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopOptions {
    /// The device refuses writes.
    pub read_only: bool,
    /// Reads and writes go past the page cache of the file's own file system.
    pub direct_io: bool,
}

/// An attached loop device. The kernel frees it when this is dropped and nobody else has it open, mounted or mapped.
#[derive(Debug)]
pub struct Loop {
    path: PathBuf,
    _open: File,
}

impl Loop {
    /// Its device node.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Info>() == 232 && size_of::<Config>() == 304);

const CTL_GET_FREE: libc::c_ulong = 0x4c82;
const CONFIGURE: libc::c_ulong = 0x4c0a;
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;
/// How often another process may take the free device first.
const ATTEMPTS: usize = 64;

/// Attaches a file to a free loop device.
///
/// # Errors
/// When there are no loop devices (module `loop`), or the kernel refuses the file.
pub fn attach_loop(file: &File, options: LoopOptions) -> Result<Loop, DmError> {
    let failed = |step| move |source| DmError::Loop { step, source };
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .map_err(failed("opening /dev/loop-control (is the module loop loaded?)"))?;
    let mut flags = AUTOCLEAR;
    if options.read_only {
        flags |= READ_ONLY;
    }
    if options.direct_io {
        flags |= DIRECT_IO;
    }
    for _ in 0..ATTEMPTS {
        // SAFETY: the descriptor is the open loop control device; the command takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), CTL_GET_FREE) };
        if number < 0 {
            return Err(failed("finding a free device")(io::Error::last_os_error()));
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = OpenOptions::new()
            .read(true)
            .write(!options.read_only)
            .open(&path)
            .map_err(failed("opening the free device"))?;
        let config = Config::of(file, flags);
        // SAFETY: the descriptor is an open loop device; the kernel reads one `struct loop_config`, whose size is
        // asserted above, and takes its own reference to the file's descriptor.
        let done = unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, &raw const config) };
        if done == 0 {
            return Ok(Loop { path, _open: device });
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EBUSY) {
            return Err(failed("giving it the file")(error));
        }
    }
    Err(failed("finding a free device")(io::Error::from_raw_os_error(libc::EBUSY)))
}

impl Config {
    fn of(file: &File, flags: u32) -> Self {
        let info = Info {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        };
        Self { fd: file.as_raw_fd().cast_unsigned(), block_size: 0, info, reserved: [0; 8] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, SeekFrom, Write};

    #[test]
    fn file_reads_back_through_a_loop_device_that_refuses_writes() {
        let path = std::env::temp_dir().join(format!("coffer-loop-{}", std::process::id()));
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).expect("file");
        file.write_all(&[0x5a; 8192]).expect("written");
        let attached = attach_loop(&file, LoopOptions { read_only: true, direct_io: false });
        std::fs::remove_file(&path).expect("removed");
        let attached = match attached {
            Ok(attached) => attached,
            Err(error) => {
                println!("skipped: {error}");
                return;
            }
        };
        let mut device = File::open(attached.path()).expect("device");
        device.seek(SeekFrom::Start(4096)).expect("sought");
        let mut bytes = [0; 4096];
        device.read_exact(&mut bytes).expect("read");
        assert_eq!(bytes, [0x5a; 4096]);
        let written =
            OpenOptions::new().write(true).open(attached.path()).and_then(|mut d| d.write_all(b"x"));
        assert!(written.is_err());
    }
}
