//! Mounting and unmounting.

use crate::MountError;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::statvfs::statvfs;
use nix::unistd::syncfs;
use std::fs::File;
use std::io;
use std::ops::BitOr;
use std::path::Path;

/// How a file system is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u64);

impl Flags {
    /// Nothing special: writable, with devices and set-user-id programs.
    pub const NONE: Self = Self(0);
    /// No writes.
    pub const READ_ONLY: Self = Self(MsFlags::MS_RDONLY.bits());
    /// Device files have no effect.
    pub const NO_DEVICES: Self = Self(MsFlags::MS_NODEV.bits());
    /// No program on it can be executed.
    pub const NO_EXEC: Self = Self(MsFlags::MS_NOEXEC.bits());
    /// Set-user-id bits have no effect.
    pub const NO_SUID: Self = Self(MsFlags::MS_NOSUID.bits());
    /// Reading leaves access times alone.
    pub const NO_ACCESS_TIME: Self = Self(MsFlags::MS_NOATIME.bits());
    /// Access times only grow past change times.
    pub const RELATIVE_ACCESS_TIME: Self = Self(MsFlags::MS_RELATIME.bits());
    /// Access times are always written.
    pub const STRICT_ACCESS_TIME: Self = Self(MsFlags::MS_STRICTATIME.bits());
    /// Kernel file systems and temporary ones: no devices, programs or set-user-id bits.
    pub const INERT: Self = Self(Self::NO_DEVICES.0 | Self::NO_EXEC.0 | Self::NO_SUID.0);

    fn with(self, more: MsFlags) -> MsFlags {
        MsFlags::from_bits_retain(self.0) | more
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Mounts a file system of a type; `data` holds its options, or is empty.
///
/// # Errors
/// Says what could not be mounted where, and what the kernel answered.
pub fn mount(source: &str, target: &Path, fstype: &str, flags: Flags, data: &str) -> Result<(), MountError> {
    let data = (!data.is_empty()).then_some(data);
    let what = || if source == fstype { fstype.to_owned() } else { format!("{fstype} of {source}") };
    nix::mount::mount(Some(source), target, Some(fstype), flags.with(MsFlags::empty()), data)
        .map_err(|e| refused(what(), target, e))
}

/// Makes a file or directory appear at another place also; with `recursive`, with all that is mounted below it.
///
/// # Errors
/// As [`mount`].
pub fn bind(source: &Path, target: &Path, recursive: bool) -> Result<(), MountError> {
    let flags = if recursive { MsFlags::MS_BIND | MsFlags::MS_REC } else { MsFlags::MS_BIND };
    nix::mount::mount(Some(source), target, None::<&str>, flags, None::<&str>)
        .map_err(|e| refused(source.display().to_string(), target, e))
}

/// Changes the flags of one mount, not of the file system behind it.
///
/// # Errors
/// As [`mount`].
pub fn remount(target: &Path, flags: Flags) -> Result<(), MountError> {
    let all = flags.with(MsFlags::MS_REMOUNT | MsFlags::MS_BIND);
    nix::mount::mount(None::<&str>, target, None::<&str>, all, None::<&str>)
        .map_err(|e| refused("the same again with other flags".to_owned(), target, e))
}

/// Bounds how much more than now a mounted tmpfs may hold, in bytes. `flags` are those that it has.
///
/// # Errors
/// As [`mount`]; also when it cannot be asked what it holds.
pub fn bound_tmpfs(target: &Path, flags: Flags, more: u64) -> Result<(), MountError> {
    let now = statvfs(target).map_err(|e| MountError::Path {
        step: "measuring",
        path: target.to_owned(),
        source: e.into(),
    })?;
    let held = now.blocks().saturating_sub(now.blocks_free()).saturating_mul(now.fragment_size());
    let data = format!("size={}", held.saturating_add(more));
    let flags = flags.with(MsFlags::MS_REMOUNT);
    nix::mount::mount(None::<&str>, target, None::<&str>, flags, Some(data.as_str()))
        .map_err(|e| refused(format!("the same again with {data}"), target, e))
}

/// Cuts a mount and all below it off from other mount namespaces, both ways.
///
/// # Errors
/// As [`mount`].
pub fn make_private(target: &Path) -> Result<(), MountError> {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
        .map_err(|e| refused("privately what is there".to_owned(), target, e))
}

/// Writes down what was written to the file system that the path is on, and waits for the device to say that it is.
///
/// # Errors
/// When the path cannot be opened, or the device failed.
pub fn sync_file_system(path: &Path) -> Result<(), MountError> {
    let synced = File::open(path).and_then(|place| syncfs(&place).map_err(io::Error::from));
    synced.map_err(|source| MountError::Path { step: "syncing", path: path.to_owned(), source })
}

/// Unmounts what is mounted last at the target. Does not follow a symbolic link there.
///
/// # Errors
/// When nothing is mounted there, or it is in use.
pub fn unmount(target: &Path) -> Result<(), MountError> {
    take_away(target, MntFlags::UMOUNT_NOFOLLOW)
}

/// Takes the mount out of the tree now and frees it when nobody uses it any more.
///
/// # Errors
/// When nothing is mounted there.
pub fn unmount_lazily(target: &Path) -> Result<(), MountError> {
    take_away(target, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH)
}

fn take_away(target: &Path, flags: MntFlags) -> Result<(), MountError> {
    umount2(target, flags).map_err(|e| MountError::Unmount { target: target.to_owned(), source: e.into() })
}

fn refused(what: String, target: &Path, error: nix::errno::Errno) -> MountError {
    MountError::Mount { what, target: target.to_owned(), source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_takes_so_much_more_and_no_more() {
        let place = std::env::temp_dir().join(format!("coffer-tmpfs-{}", std::process::id()));
        std::fs::create_dir_all(&place).expect("directory");
        if let Err(why) = mount("tmpfs", &place, "tmpfs", Flags::NO_DEVICES, "size=64m") {
            return println!("skipped: {why}");
        }
        let write = |name: &str, length: usize| std::fs::write(place.join(name), vec![1; length]);
        write("before", 1 << 20).expect("room");
        bound_tmpfs(&place, Flags::NO_DEVICES, 1 << 20).expect("bounded");
        let (fits, beyond) = (write("within", 1 << 19), write("beyond", 1 << 20));
        let table = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        unmount(&place).expect("unmounted");
        std::fs::remove_dir(&place).expect("removed");
        assert!(fits.is_ok() && beyond.is_err(), "{fits:?} {beyond:?}");
        let line = table.lines().find(|line| line.contains(&*place.to_string_lossy())).expect("a line");
        assert!(line.contains("nodev"), "{line}");
    }
}
