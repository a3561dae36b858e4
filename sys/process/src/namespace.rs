//! Namespaces and the root directory.

use crate::ProcessError;
use nix::mount::{MntFlags, umount2};
use nix::sched::CloneFlags;
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
