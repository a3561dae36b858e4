//! The mounts that PID 1 makes before anything else.

use crate::{Flags, MountError, bind, mount};
use nix::mount::MsFlags;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Leaves the initial ramfs as root, keeping its contents: the root becomes a mount that has a parent.
///
/// `pivot_root(2)` refuses a root that is the initial ramfs itself, so no container could change its root. A bind
/// mount of the same tree, moved over `/`, has a parent and costs no copy. Call it first, before any other mount.
///
/// # Errors
/// When the kernel refuses a step.
pub fn leave_initramfs() -> Result<(), MountError> {
    let place = Path::new("/.root");
    let failed = |step| move |source| MountError::Path { step, path: place.to_owned(), source };
    fs::create_dir_all(place).map_err(failed("making"))?;
    bind(Path::new("/"), place, false)?;
    std::env::set_current_dir(place).map_err(failed("entering"))?;
    nix::mount::mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).map_err(|e| {
        MountError::Mount {
            what: "the tree of the initial ramfs".to_owned(),
            target: "/".into(),
            source: e.into(),
        }
    })?;
    std::os::unix::fs::chroot(".").map_err(failed("taking as root"))?;
    std::env::set_current_dir("/").map_err(failed("entering the root after"))?;
    fs::remove_dir(place).map_err(failed("removing"))
}

/// Mounts the kernel's file systems: `/proc`, `/sys`, `/dev`, `/dev/pts`, `/dev/shm`, `/run`, `/tmp`,
/// `/sys/fs/cgroup` (version 2) and `/sys/kernel/security`.
///
/// # Errors
/// At the first that the kernel refuses.
pub fn mount_early() -> Result<(), MountError> {
    let inert = Flags::INERT;
    let devices = Flags::NO_EXEC | Flags::NO_SUID;
    let temporary = Flags::NO_DEVICES | Flags::NO_SUID;
    let table: [(&str, &str, Flags, &str); 9] = [
        ("/proc", "proc", inert, ""),
        ("/sys", "sysfs", inert, ""),
        ("/dev", "devtmpfs", devices, "mode=0755"),
        ("/dev/pts", "devpts", devices, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ("/dev/shm", "tmpfs", inert, "mode=1777"),
        ("/run", "tmpfs", temporary, "mode=0755"),
        ("/tmp", "tmpfs", temporary, "mode=1777"),
        ("/sys/fs/cgroup", "cgroup2", inert, ""),
        ("/sys/kernel/security", "securityfs", inert, ""),
    ];
    for (target, fstype, flags, data) in table {
        let target = Path::new(target);
        // Directories below /sys are the kernel's own and exist.
        if !target.exists() {
            fs::create_dir_all(target).map_err(|source| MountError::Path {
                step: "making",
                path: target.to_owned(),
                source,
            })?;
        }
        mount(fstype, target, fstype, flags, data)?;
    }
    for (link, to) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        // devtmpfs has no such links; a second call finds them made.
        let _already = symlink(to, link);
    }
    Ok(())
}
