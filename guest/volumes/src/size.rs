//! A file system and the disk under it: the host makes files longer and shorter as it likes.
//!
//! What is longer is taken up; what is shorter than the file system is refused before anything is written.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use coffer_core_ext4::{Extent, extent};
use coffer_sys_mount::grow_ext4;

use crate::VolumeError;

/// Refuses a device that is shorter than its file system. What is no ext4, the kernel refuses when it is mounted.
pub(crate) fn check(name: &str, device: &Path) -> Result<(), VolumeError> {
    match read(name, device)? {
        (length, Some(extent)) if extent.bytes() > length => {
            Err(VolumeError::Shrunk { name: name.to_owned(), expected: extent.bytes(), found: length })
        }
        _ => Ok(()),
    }
}

/// Lets a mounted file system take up its device, and says so. One that cannot grow is as good as before.
pub(crate) fn grow(name: &str, device: &Path, target: &Path) -> Option<String> {
    let (length, Some(extent)) = read(name, device).ok()? else { return None };
    let blocks = length.checked_div(extent.block)?;
    if blocks <= extent.blocks {
        return None;
    }
    Some(match grow_ext4(target, blocks).map(|()| read(name, device).ok().and_then(|read| read.1)) {
        Ok(Some(now)) if now.blocks > extent.blocks => {
            format!(", grown from {} to {} bytes", extent.bytes(), now.bytes())
        }
        // Less than a group of blocks is not taken up.
        Ok(_) => return None,
        Err(why) => format!(", not grown: {why}"),
    })
}

/// A device's length, and what its file system says of itself.
fn read(name: &str, device: &Path) -> Result<(u64, Option<Extent>), VolumeError> {
    let failed = |source| VolumeError::Disk { name: name.to_owned(), step: "measuring", source };
    let mut start = Vec::new();
    let mut file = File::open(device).map_err(failed)?;
    let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    file.take(2048).read_to_end(&mut start).map_err(failed)?;
    Ok((length, extent(&start)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use coffer_core_ext4::{BLOCK, Journal, Making, make};
    use coffer_sys_dm::{Loop, LoopOptions, attach_loop};
    use coffer_sys_mount::{Flags, mount, unmount};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn file_system(size: u64) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        let (uuid, hash_seed) = ([0x41; 16], [7; 16]);
        let making =
            Making { size, uuid, hash_seed, label: "v", time: 1, owner: (0, 0), journal: Journal::Kept };
        make(&making, &mut |block, bytes| {
            file.seek(SeekFrom::Start(block * BLOCK as u64))?;
            file.write_all(bytes)
        })
        .unwrap();
        file
    }

    fn device(file: &tempfile::NamedTempFile) -> Option<Loop> {
        let options = LoopOptions { read_only: false, direct_io: false };
        let open = File::options().read(true).write(true).open(file.path()).unwrap();
        attach_loop(&open, options).map_err(|why| println!("skipped: {why}")).ok()
    }

    #[test]
    fn file_system_takes_up_what_the_disk_gained_and_keeps_its_files() {
        let (file, place) = (file_system(64 * MIB), tempfile::tempdir().unwrap());
        // The last size needs more group descriptors than a block has.
        for (size, said) in
            [(64 * MIB, false), (300 * MIB, true), (300 * MIB + 4096, false), (17_408 * MIB, true)]
        {
            file.as_file().set_len(size).unwrap();
            let Some(device) = device(&file) else { return };
            check("v", device.path()).unwrap();
            let source = device.path().display().to_string();
            if let Err(why) = mount(&source, place.path(), "ext4", Flags::NO_DEVICES, "") {
                return println!("skipped: {why}");
            }
            let grown = grow("v", device.path(), place.path());
            std::fs::write(place.path().join(size.to_string()), "there").unwrap();
            let kept = std::fs::read(place.path().join((64 * MIB).to_string()));
            unmount(place.path()).unwrap();
            let grown = grown.unwrap_or_default();
            if grown.contains("not permitted") {
                // The end-to-end test does it in a guest.
                return println!("skipped: no permission to grow file systems (CAP_SYS_RESOURCE)");
            }
            assert_eq!(grown.contains("grown from"), said, "{size}: {grown}");
            assert_eq!(kept.unwrap(), b"there");
            drop(device);
            let checked = Command::new("/usr/sbin/e2fsck").arg("-fn").arg(file.path()).output();
            let checked = checked.map_err(|why| println!("skipped: e2fsck (package e2fsprogs): {why}"));
            if let Ok(output) = checked {
                assert!(output.status.success(), "{size}: {}", String::from_utf8_lossy(&output.stdout));
            }
        }
    }

    #[test]
    fn disk_that_is_shorter_than_its_file_system_is_refused() {
        let file = file_system(64 * MIB);
        assert!(check("v", file.path()).is_ok());
        file.as_file().set_len(64 * MIB - 4096).unwrap();
        let refused = check("v", file.path()).unwrap_err();
        assert_eq!(refused.code(), "volume.shrunk");
        let told = refused.refusal();
        assert_eq!(told.expected.as_deref(), Some("67108864 bytes or more"));
        assert_eq!(told.found.as_deref(), Some("67104768 bytes"));
        // What is no file system is not judged here.
        assert!(check("v", &std::env::current_exe().unwrap()).is_ok());
    }
}
