//! Block devices by the serial number that the machine gave them.

use crate::MountError;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long between two looks: sysfs tells nobody when a disk appears.
const PAUSE: Duration = Duration::from_millis(5);

/// The device node of the disk with this serial number, waiting for it no longer than `within`.
///
/// virtio-blk keeps 20 bytes of a serial number; ask for no longer ones.
///
/// # Errors
/// When no such disk came up in time; the error names those that did.
pub fn block_device_by_serial(serial: &str, within: Duration) -> Result<PathBuf, MountError> {
    find(Path::new("/sys/block"), serial, within)
}

fn find(sys_block: &Path, serial: &str, within: Duration) -> Result<PathBuf, MountError> {
    let start = Instant::now();
    loop {
        let disks = serials(sys_block);
        if let Some(name) = disks.get(serial) {
            return Ok(Path::new("/dev").join(name));
        }
        let waited = start.elapsed();
        if waited >= within {
            let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            let found = disks.into_keys().collect();
            return Err(MountError::NoDevice { serial: serial.to_owned(), found, waited_ms });
        }
        std::thread::sleep(PAUSE);
    }
}

fn serials(sys_block: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(sys_block).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let serial = fs::read_to_string(entry.path().join("serial")).ok()?;
            let serial = serial.trim_matches(['\0', '\n', ' ']);
            let name = entry.file_name().into_string().ok()?;
            (!serial.is_empty()).then(|| (serial.to_owned(), name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysfs() -> PathBuf {
        let root = std::env::temp_dir().join(format!("coffer-serial-{}", std::process::id()));
        for (disk, serial) in [("vda", "coffer-initdata\n"), ("vdb", "0123456789abcdef0123")] {
            fs::create_dir_all(root.join(disk)).expect("directory");
            fs::write(root.join(disk).join("serial"), serial).expect("file");
        }
        fs::create_dir_all(root.join("loop0")).expect("directory");
        root
    }

    #[test]
    fn disk_is_found_by_serial_and_an_unknown_serial_names_those_found() {
        let root = sysfs();
        let none = Duration::ZERO;
        assert_eq!(find(&root, "coffer-initdata", none).expect("found"), Path::new("/dev/vda"));
        assert_eq!(find(&root, "0123456789abcdef0123", none).expect("found"), Path::new("/dev/vdb"));
        let error = find(&root, "coffer", none).expect_err("a prefix is not the serial");
        assert!(error.to_string().contains("coffer-initdata"), "{error}");
        fs::remove_dir_all(root).expect("removed");
    }
}
