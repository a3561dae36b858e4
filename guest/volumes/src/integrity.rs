//! Volumes whose sectors have MACs: dm-integrity keeps them, dm-crypt checks them.
//!
//! The host can write any superblock of dm-integrity; what is read of it here only says how many sectors there are, and
//! what the kernel reads decides where they lie: MACs cover a sector's number, so that a sector of another place is an
//! error. Left out: a sector that is put back together with its MAC is not told from the newest one.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use coffer_core_ext4::{self as ext4, Journal, Making};
use coffer_core_luks::{SUPERBLOCK, provided_sectors};
use coffer_core_secret::Secret;
use coffer_sys_dm::{IntegrityTable, Mapped, forget_cached, map_authenticated, map_integrity, unmap};

use crate::VolumeError;

/// Whether the volume is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// What is there.
    Kept,
    /// Disk and broker agree that it was never opened: it has neither MACs nor a file system yet.
    New,
}

/// Maps a volume with MACs; what lies on top comes first. `key` is the cipher's, then the MACs'.
pub(crate) fn map(
    name: &str,
    part: &IntegrityTable,
    key: &[u8],
    content: Content,
) -> Result<Vec<Mapped>, VolumeError> {
    let failed = |why| VolumeError::Map { name: name.to_owned(), why };
    let below = format!("coffer-mac-{name}");
    if content == Content::New {
        clear(name, part)?;
        // The kernel formats a device with an empty superblock, and only then says how many sectors it has.
        let smallest = IntegrityTable { sectors: u64::from(part.sector_size) / 512, ..part.clone() };
        map_integrity(&below, &smallest).and_then(|mapped| unmap(&mapped.name)).map_err(failed)?;
    }
    let sectors = provided(name, part)?;
    let macs = map_integrity(&below, &IntegrityTable { sectors, ..part.clone() }).map_err(failed)?;
    let above = IntegrityTable { device: macs.path.clone(), offset: 0, sectors, ..part.clone() };
    let made = map_authenticated(&format!("coffer-vol-{name}"), &above, key).map_err(failed);
    let mapped = match made {
        Ok(crypt) => vec![crypt, macs],
        Err(why) => {
            undo(&[macs]);
            return Err(why);
        }
    };
    let made = match (content, mapped.first()) {
        (Content::New, Some(device)) => make(name, device, sectors.saturating_mul(512)),
        _ => Ok(()),
    };
    made.map(|()| mapped.clone()).inspect_err(|_| undo(&mapped))
}

/// The first error is the one to tell.
pub(crate) fn undo(mapped: &[Mapped]) {
    for one in mapped {
        let _first_error_counts = unmap(&one.name);
    }
}

fn clear(name: &str, part: &IntegrityTable) -> Result<(), VolumeError> {
    let failed = |source| VolumeError::Disk { name: name.to_owned(), step: "formatting", source };
    let mut file = File::options().write(true).open(&part.device).map_err(failed)?;
    file.seek(SeekFrom::Start(part.offset.saturating_mul(512)))
        .and_then(|_| file.write_all(&[0; SUPERBLOCK]))
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

/// The sectors that a superblock says are provided.
fn provided(name: &str, part: &IntegrityTable) -> Result<u64, VolumeError> {
    let failed = |source| VolumeError::Disk { name: name.to_owned(), step: "reading", source };
    let mut bytes = [0; SUPERBLOCK];
    let mut file = File::open(&part.device).map_err(failed)?;
    // Who formatted it was the kernel, past what it cached.
    forget_cached(&file).map_err(failed)?;
    let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
    file.seek(SeekFrom::Start(part.offset.saturating_mul(512)))
        .and_then(|_| file.read_exact(&mut bytes))
        .map_err(failed)?;
    let room = (length / 512).saturating_sub(part.offset);
    provided_sectors(&bytes, part.sector_size)
        .filter(|sectors| *sectors <= room)
        .ok_or_else(|| VolumeError::NotFormatted { name: name.to_owned() })
}

/// Makes the file system. What is not written here has no valid MAC; a file system without need reads nothing of it.
fn make(name: &str, device: &Mapped, size: u64) -> Result<(), VolumeError> {
    let random = |_| VolumeError::NoNext { name: name.to_owned() };
    let failed = |source| VolumeError::Disk { name: name.to_owned(), step: "formatting", source };
    let making = Making {
        size: size.min(ext4::MOST_SIZE),
        uuid: *Secret::random().map_err(random)?.expose(),
        hash_seed: *Secret::random().map_err(random)?.expose(),
        label: name,
        time: 0,
        owner: (0, 0),
        journal: Journal::Kept,
    };
    let mut file = File::options().write(true).open(&device.path).map_err(failed)?;
    ext4::make(&making, &mut |block, bytes| {
        file.seek(SeekFrom::Start(block.saturating_mul(ext4::BLOCK as u64)))?;
        file.write_all(bytes)
    })
    .map_err(|why| match why {
        ext4::MakeError::Size { found } => VolumeError::TooSmall { name: name.to_owned(), found },
        why => failed(std::io::Error::other(why.to_string())),
    })?;
    // Before the counter moves, from when on it is not made again.
    file.sync_all().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> [u8; SUPERBLOCK] {
        let mut bytes = [0; SUPERBLOCK];
        bytes[..8].copy_from_slice(b"integrt\0");
        bytes[10] = 32;
        bytes[16..24].copy_from_slice(&100_000_u64.to_le_bytes());
        bytes[28] = 3;
        bytes
    }

    #[test]
    fn superblock_that_is_gone_or_says_more_than_the_disk_has_is_refused() {
        let disk = tempfile::NamedTempFile::new().unwrap();
        let access = coffer_sys_dm::Access::ReadWrite;
        let part =
            IntegrityTable { device: disk.path().into(), offset: 8, sectors: 8, sector_size: 4096, access };
        let code = || provided("v", &part).map_err(|why| why.code());
        disk.as_file().set_len(8192).unwrap();
        assert_eq!(code(), Err("volume.not-formatted"));
        let whole = [[0; SUPERBLOCK], superblock()].concat();
        std::fs::write(disk.path(), whole).unwrap();
        assert_eq!(code(), Err("volume.not-formatted"), "longer than the disk");
        disk.as_file().set_len(100 << 20).unwrap();
        assert_eq!(code(), Ok(100_000));
        clear("v", &part).unwrap();
        assert_eq!(code(), Err("volume.not-formatted"));
        disk.as_file().set_len(4096 + 100).unwrap();
        assert_eq!(code(), Err("volume.io"));
    }
}
