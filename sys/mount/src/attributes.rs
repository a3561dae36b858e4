//! Attributes of mounts that the older interface cannot set (mount_setattr(2), open_tree(2)).

use crate::MountError;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;
/// `AT_RECURSIVE` of linux/fcntl.h.
const AT_RECURSIVE: libc::c_int = 0x8000;

/// This process's own program file on a detached, read-only mount.
///
/// A container whose first process was started from it finds nothing to write to through `/proc/self/exe`, even
/// as root. Execute it as `/proc/self/fd/N`; the descriptor closes at exec.
///
/// # Errors
/// When the kernel refuses (before Linux 5.12, or without privilege).
pub fn program_on_read_only_mount() -> Result<OwnedFd, MountError> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let program = Path::new("/proc/self/exe");
    // SAFETY: `open_tree` reads a NUL-terminated path that outlives the call and returns a new descriptor.
    let tree = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            c"/proc/self/exe".as_ptr(),
            OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned(),
        )
    };
    let number = i32::try_from(tree).unwrap_or(-1);
    if number < 0 {
        return Err(last("cloning the mount of", program));
    }
    // SAFETY: the kernel just returned this descriptor and nothing else owns it.
    let tree = unsafe { OwnedFd::from_raw_fd(number) };
    let attributes = Attributes { set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, ..Attributes::default() };
    set_attributes(tree.as_raw_fd(), c"", libc::AT_EMPTY_PATH, &attributes)
        .map_err(|_| last("making read-only the mount of", program))?;
    Ok(tree)
}

/// Takes the effect from all device files on the mount at `target` and on every mount below it.
///
/// Mounts that are made later are not concerned.
///
/// # Errors
/// When the kernel refuses, or `target` is no mount point.
pub fn forbid_devices_below(target: &Path) -> Result<(), MountError> {
    let what = "forbidding devices below";
    let path = CString::new(target.as_os_str().as_bytes()).map_err(|e| MountError::Path {
        step: what,
        path: target.to_owned(),
        source: e.into(),
    })?;
    let attributes = Attributes { set: MOUNT_ATTR_NODEV, ..Attributes::default() };
    set_attributes(libc::AT_FDCWD, &path, AT_RECURSIVE, &attributes).map_err(|_| last(what, target))
}

fn set_attributes(
    directory: libc::c_int,
    path: &std::ffi::CStr,
    flags: libc::c_int,
    attributes: &Attributes,
) -> Result<(), ()> {
    // SAFETY: the path is NUL-terminated, the structure has the layout of `struct mount_attr` and its stated size,
    // and both outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory,
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<Attributes>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(()) }
}

fn last(step: &'static str, path: &Path) -> MountError {
    MountError::Path { step, path: path.to_owned(), source: io::Error::last_os_error() }
}
