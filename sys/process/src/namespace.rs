//! Namespaces, the root directory, and the program file that enters a container.

use crate::ProcessError;
use nix::mount::{MntFlags, umount2};
use nix::sched::CloneFlags;
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Kinds of namespaces to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespaces(CloneFlags);

impl Namespaces {
    /// Mounts.
    pub const MOUNT: Self = Self(CloneFlags::CLONE_NEWNS);
    /// Process ids, for the children spawned from now on.
    pub const PID: Self = Self(CloneFlags::CLONE_NEWPID);
    /// Host and domain name.
    pub const UTS: Self = Self(CloneFlags::CLONE_NEWUTS);
    /// System V and POSIX message queues, semaphores, shared memory.
    pub const IPC: Self = Self(CloneFlags::CLONE_NEWIPC);
    /// The view of the control group tree.
    pub const CGROUP: Self = Self(CloneFlags::CLONE_NEWCGROUP);
    /// Network devices, addresses and ports.
    pub const NETWORK: Self = Self(CloneFlags::CLONE_NEWNET);
}

impl std::ops::BitOr for Namespaces {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Moves the calling thread into new namespaces of these kinds.
///
/// # Errors
/// When the kernel refuses (no privilege, or no such kind).
pub fn unshare(kinds: Namespaces) -> Result<(), ProcessError> {
    nix::sched::unshare(kinds.0).map_err(|e| ProcessError::new("entering new namespaces", e))
}

/// Sets the host name of this UTS namespace.
///
/// # Errors
/// When the name is too long for the kernel (64 bytes), or without privilege.
pub fn set_host_name(name: &str) -> Result<(), ProcessError> {
    nix::unistd::sethostname(name).map_err(|e| ProcessError::new("setting the host name", e))
}

/// Makes the mount at `root` the root of this mount namespace and lets go of the old tree.
///
/// `root` must be a mount point, and the present root must not be the initial ramfs itself (see
/// `coffer_sys_mount::leave_initramfs`). Afterwards no path leads to what was mounted before; the working
/// directory is `/`.
///
/// # Errors
/// When the kernel refuses a step.
pub fn change_root_to(root: &Path) -> Result<(), ProcessError> {
    let failed =
        |step: &str, e: nix::errno::Errno| ProcessError::new(format!("{step} {}", root.display()), e);
    nix::unistd::chdir(root).map_err(|e| failed("entering", e))?;
    // pivot_root(2), NOTES: with both arguments "." the old root is stacked on the new one, and one unmount of
    // "." removes it; no directory for it has to exist in the image.
    nix::unistd::pivot_root(".", ".").map_err(|e| failed("changing the root to", e))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(|e| failed("letting go of the old root after entering", e))?;
    nix::unistd::chdir("/").map_err(|e| failed("entering the root of", e))
}

/// This process's own program file on a detached, read-only mount.
///
/// A container whose first process was started from it finds nothing to write to through `/proc/self/exe`, even
/// as root. Execute it as `/proc/self/fd/N`; the descriptor closes at exec.
///
/// # Errors
/// When the kernel refuses (before Linux 5.12, or without privilege).
pub fn program_on_read_only_mount() -> Result<OwnedFd, ProcessError> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    const MOUNT_ATTR_RDONLY: u64 = 1;
    const MOUNT_ATTR_NOSUID: u64 = 2;
    /// `struct mount_attr` of linux/mount.h.
    #[repr(C)]
    struct MountAttributes {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    let program = CString::new("/proc/self/exe").map_err(|e| ProcessError::new("own program", e))?;
    // SAFETY: `open_tree` reads a NUL-terminated path that outlives the call and returns a new descriptor.
    let tree = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            program.as_ptr(),
            OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned(),
        )
    };
    let number = i32::try_from(tree).unwrap_or(-1);
    if number < 0 {
        return Err(ProcessError::last("cloning the mount of the own program"));
    }
    // SAFETY: the kernel just returned this descriptor and nothing else owns it.
    let tree = unsafe { OwnedFd::from_raw_fd(number) };
    let attributes =
        MountAttributes { set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, clear: 0, propagation: 0, userns: 0 };
    // SAFETY: the path is an empty NUL-terminated string, the structure has the layout of `struct mount_attr` and
    // its stated size, and both outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if done == 0 { Ok(tree) } else { Err(ProcessError::last("making the own program's mount read-only")) }
}
