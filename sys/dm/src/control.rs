//! Requests to the kernel's device mapper.

use crate::table::{self, READ_ONLY, Target};
use crate::{Access, DmError, Mapped};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The commands that are used, as `_IOWR(0xfd, n, struct dm_ioctl)` numbers them.
#[derive(Clone, Copy)]
enum Command {
    Version = 0,
    Create = 3,
    Remove = 4,
    Suspend = 6,
    LoadTable = 9,
    TableStatus = 12,
}

impl Command {
    fn number(self) -> libc::c_ulong {
        let (read_and_write, kind) = (3 << 30, 0xfd << 8);
        read_and_write | ((table::HEADER as libc::c_ulong) << 16) | kind | self as libc::c_ulong
    }
}

impl Access {
    const fn flags(self) -> u32 {
        match self {
            Self::ReadOnly => READ_ONLY,
            Self::ReadWrite => 0,
        }
    }
}

/// Bytes kept for a target's status, which is short.
const STATUS_ROOM: usize = 4096;

/// The open control device.
pub(crate) struct Control(File);

impl Control {
    pub(crate) fn open() -> Result<Self, DmError> {
        let missing = |source| DmError::NoDeviceMapper { source };
        let path = Path::new("/dev/mapper/control");
        if !path.exists() {
            make_control_node(path).map_err(missing)?;
        }
        OpenOptions::new().read(true).write(true).open(path).map(Self).map_err(missing)
    }

    pub(crate) fn version(&self) -> Result<(u32, u32, u32), DmError> {
        let mut request = table::encode("version", 0, None, 0)?;
        self.send(Command::Version, "asking the version for", "version", &mut request)?;
        Ok(table::version_of(&request))
    }

    /// Creates a device with one target and starts it. Leaves nothing behind when a step fails.
    pub(crate) fn map(&self, name: &str, access: Access, target: &Target<'_>) -> Result<Mapped, DmError> {
        let flags = access.flags();
        let mut request = table::encode(name, flags, None, 0)?;
        self.send(Command::Create, "creating", name, &mut request)?;
        let (major, minor) = table::device_of(&request);
        let start = || {
            let mut request = table::encode(name, flags, Some(target), 0)?;
            self.send(Command::LoadTable, "loading the table of", name, &mut request)?;
            let mut request = table::encode(name, flags, None, 0)?;
            self.send(Command::Suspend, "starting", name, &mut request)?;
            device_node(major, minor)
        };
        match start() {
            Ok(path) => Ok(Mapped { name: name.to_owned(), path }),
            Err(error) => {
                // The first error is the one to tell.
                let _first_error_counts = self.remove(name);
                Err(error)
            }
        }
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), DmError> {
        let mut request = table::encode(name, 0, None, 0)?;
        self.send(Command::Remove, "removing", name, &mut request)
    }

    /// The status text of a mapping's one target.
    pub(crate) fn status(&self, name: &str) -> Result<String, DmError> {
        let mut request = table::encode(name, 0, None, STATUS_ROOM)?;
        self.send(Command::TableStatus, "asking the status of", name, &mut request)?;
        Ok(table::status_of(&request))
    }

    fn send(
        &self,
        command: Command,
        step: &'static str,
        name: &str,
        request: &mut [u8],
    ) -> Result<(), DmError> {
        // SAFETY: the descriptor is the open control device; the request begins with `struct dm_ioctl`, whose
        // `data_size` is the slice's length, and the kernel reads and writes no further than that.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), command.number(), request.as_mut_ptr()) };
        if done >= 0 {
            return Ok(());
        }
        Err(DmError::Refused { step, name: name.to_owned(), source: io::Error::last_os_error() })
    }
}

/// Makes the control node from the number that the kernel lists, where no `devtmpfs` did.
fn make_control_node(path: &Path) -> io::Result<()> {
    let minor = fs::read_to_string("/proc/misc")?
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .find(|(_, name)| *name == "device-mapper")
        .and_then(|(number, _)| number.parse().ok())
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    /// `MISC_MAJOR` of linux/major.h.
    const MISC: u64 = 10;
    Ok(mknod(path, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, makedev(MISC, minor))?)
}

/// The node of a mapped device, made if `devtmpfs` has not.
fn device_node(major: u32, minor: u32) -> Result<PathBuf, DmError> {
    let path = PathBuf::from(format!("/dev/dm-{minor}"));
    let exists = fs::symlink_metadata(&path).is_ok_and(|m| m.file_type().is_block_device());
    if !exists {
        let number = makedev(u64::from(major), u64::from(minor));
        mknod(&path, SFlag::S_IFBLK, Mode::S_IRUSR | Mode::S_IWUSR, number)
            .map_err(|e| DmError::Node { path: path.clone(), source: e.into() })?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_the_numbers_of_the_header() {
        assert_eq!(Command::Version.number(), 0xc138_fd00);
        assert_eq!(Command::Create.number(), 0xc138_fd03);
        assert_eq!(Command::Remove.number(), 0xc138_fd04);
        assert_eq!(Command::Suspend.number(), 0xc138_fd06);
        assert_eq!(Command::LoadTable.number(), 0xc138_fd09);
    }
}
