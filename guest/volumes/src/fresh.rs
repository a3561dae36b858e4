//! Disks under a key that is drawn here and kept nowhere: formatted at each start, gone with the machine.
//!
//! Nothing that the disk holds is read before it was written, and its length is only a bound. Left out: integrity. A
//! host can turn what was written into noise or an older block; the kernel reads ext4 from it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use coffer_core_channel::{SCRATCH_SERIAL, volume_serial};
use coffer_core_ext4::{self as ext4, Journal, MakeError, Making};
use coffer_core_initdata::{Ephemeral, Volume};
use coffer_core_secret::Secret;
use coffer_sys_dm::{CryptTable, Mapped, map_scratch, unmap};
use coffer_sys_mount::{Flags, block_device_by_serial, mount};

use crate::{One, VolumeError, blocking, place};

/// How long an attached disk may take to come up.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the scratch disk is called in errors.
const SCRATCH: &str = "scratch disk";
const BLOCK: u64 = ext4::BLOCK as u64;
/// What no other volume begins with (LUKS2 On-Disk Format Specification, 2.1).
const LUKS: [u8; 6] = *b"LUKS\xba\xbe";
/// Freed blocks go back to the host; inode tables are not written before they are used; nobody waits for the disk, which
/// outlasts nothing.
const OPTIONS: &str = "discard,noinit_itable,nobarrier";

/// Makes and mounts an ephemeral volume below the container's root.
pub(crate) async fn open(
    volume: &Volume,
    with: Ephemeral,
    root: &Path,
) -> Result<(One, String), VolumeError> {
    let (name, at, root) = (volume.name.clone(), volume.path.clone(), root.to_owned());
    blocking(&volume.name, move || {
        let serial = volume_serial(&name);
        let found = block_device_by_serial(&serial, PATIENCE);
        let device = found.map_err(|why| VolumeError::Missing { name: name.clone(), serial, why })?;
        let (mapped, size) = format(&name, &format!("coffer-vol-{name}"), &device, with.owner)?;
        let mounted = place::make(&name, &root, &at)
            .and_then(|target| mount_fresh(&name, &mapped, &target, Flags::NO_SUID).map(|()| target));
        let target = mounted.inspect_err(|_| {
            // The first error is the one to tell.
            let _first_error_counts = unmap(&mapped.name);
        })?;
        Ok((One { name, mapped: vec![mapped], target, verity: None }, format!("{size} bytes, empty")))
    })
    .await
}

/// Mounts the scratch disk, which stays until the machine ends: what images are unpacked onto, and what the workload
/// writes beside its volumes. Gives its bytes.
///
/// # Errors
/// When the host attached none, or one that cannot be used.
pub async fn mount_scratch(place: &Path) -> Result<u64, VolumeError> {
    let place = place.to_owned();
    blocking(SCRATCH, move || {
        let found = block_device_by_serial(SCRATCH_SERIAL, PATIENCE);
        let device = found.map_err(|why| VolumeError::NoScratch { why })?;
        let (mapped, size) = format(SCRATCH, "coffer-scratch", &device, (0, 0))?;
        std::fs::create_dir_all(&place).map_err(failed(SCRATCH, "making a folder for the"))?;
        // The image's own set-user-id programs are on it, where it is unpacked.
        mount_fresh(SCRATCH, &mapped, &place, Flags::NONE)?;
        Ok(size)
    })
    .await
}

fn mount_fresh(name: &str, mapped: &Mapped, target: &Path, flags: Flags) -> Result<(), VolumeError> {
    let device = mapped.path.display().to_string();
    mount(&device, target, "ext4", flags | Flags::NO_DEVICES, OPTIONS)
        .map_err(|why| VolumeError::Mount { name: name.to_owned(), why })
}

/// Maps a disk under a new key and makes an empty file system on it. Gives the mapping, and the file system's bytes.
fn format(name: &str, mapping: &str, device: &Path, owner: (u32, u32)) -> Result<(Mapped, u64), VolumeError> {
    let size = usable(name, device)?;
    let random =
        |why: coffer_core_secret::NoRandomness| VolumeError::NoNext { name: format!("{name} ({why})") };
    let key = Secret::<[u8; 64]>::random().map_err(random)?;
    let table = CryptTable { device: device.to_owned(), sectors: size / 512 };
    let mapped = map_scratch(mapping, &table, key.expose())
        .map_err(|why| VolumeError::Map { name: name.to_owned(), why })?;
    let made = || {
        let uuid = *Secret::random().map_err(random)?.expose();
        let hash_seed = *Secret::random().map_err(random)?.expose();
        let (label, journal) = ("scratch", Journal::None);
        let making = Making { size, uuid, hash_seed, label, time: 0, owner, journal };
        write(name, &making, &mapped.path)
    };
    match made() {
        Ok(()) => Ok((mapped, size)),
        Err(why) => {
            // The first error is the one to tell.
            let _first_error_counts = unmap(&mapped.name);
            Err(why)
        }
    }
}

/// The bytes of a disk that are used: whole blocks, and no more than a file system can have.
fn usable(name: &str, device: &Path) -> Result<u64, VolumeError> {
    let mut file = File::options().read(true).write(true).open(device).map_err(failed(name, "opening"))?;
    let length = file.seek(SeekFrom::End(0)).map_err(failed(name, "measuring"))?;
    if length < ext4::LEAST_SIZE {
        return Err(VolumeError::TooSmall { name: name.to_owned(), found: length });
    }
    let mut magic = [0; LUKS.len()];
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_exact(&mut magic))
        .map_err(failed(name, "reading"))?;
    // An owner's mistake: the host could write over the volume without us.
    if magic == LUKS {
        return Err(VolumeError::NotEmpty { name: name.to_owned() });
    }
    Ok(length.min(ext4::MOST_SIZE) & !(BLOCK - 1))
}

fn write(name: &str, making: &Making<'_>, device: &Path) -> Result<(), VolumeError> {
    let mut file = File::options().write(true).open(device).map_err(failed(name, "opening"))?;
    let made = ext4::make(making, &mut |block, bytes| {
        file.seek(SeekFrom::Start(block.saturating_mul(BLOCK)))?;
        file.write_all(bytes)
    });
    made.map_err(|why| match why {
        MakeError::Io(source) => failed(name, "formatting")(source),
        MakeError::Size { found } => VolumeError::TooSmall { name: name.to_owned(), found },
        why @ MakeError::Label { .. } => failed(name, "formatting")(io::Error::other(why.to_string())),
    })
}

fn failed<'a>(name: &'a str, step: &'static str) -> impl Fn(io::Error) -> VolumeError + 'a {
    move |source| VolumeError::Disk { name: name.to_owned(), step, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_s_length_is_a_bound_and_a_volume_is_not_written_over() {
        let disk = tempfile::NamedTempFile::new().unwrap();
        let usable = |length: u64| {
            disk.as_file().set_len(length).unwrap();
            usable("v", disk.path()).map_err(|why| why.code())
        };
        assert_eq!(usable(0), Err("volume.too-small"));
        assert_eq!(usable(ext4::LEAST_SIZE - 1), Err("volume.too-small"));
        assert_eq!(usable(ext4::LEAST_SIZE + 4095), Ok(ext4::LEAST_SIZE));
        // Sparse, and larger than any file system that is made here.
        assert_eq!(usable(ext4::MOST_SIZE + 4096), Ok(ext4::MOST_SIZE));
        disk.as_file().write_all(&LUKS).unwrap();
        assert_eq!(usable(64 << 20), Err("volume.not-empty"));
    }
}
