//! Growing a mounted ext4 (linux/fs/ext4/ext4.h, `EXT4_IOC_RESIZE_FS`).

use crate::MountError;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// `_IOW('f', 16, __u64)`.
const RESIZE: libc::c_ulong = (1 << 30) | (8 << 16) | ((b'f' as libc::c_ulong) << 8) | 16;

/// Lets a mounted ext4 take up so many of its own blocks, which its device must have. It never gets smaller by this.
///
/// # Errors
/// When the path cannot be opened, or the kernel refuses: the device is smaller, or the file system has errors.
pub fn grow_ext4(target: &Path, blocks: u64) -> Result<(), MountError> {
    let failed = |source| MountError::Path { step: "growing", path: target.to_owned(), source };
    let place = File::open(target).map_err(failed)?;
    // SAFETY: the descriptor is open for the call; the kernel reads one u64 behind the pointer, which outlives it.
    match unsafe { libc::ioctl(place.as_raw_fd(), RESIZE, &raw const blocks) } {
        0 => Ok(()),
        _ => Err(failed(io::Error::last_os_error())),
    }
}
