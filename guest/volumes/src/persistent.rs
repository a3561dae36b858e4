//! Volumes that outlast the guest: LUKS2 with ext4, and a generation that disk and broker agree on.

use std::path::Path;

use coffer_core_initdata::{Persistent, Rollback, Volume, VolumeAccess};
use coffer_core_protocol::counter::{Counter, MoveCounter};
use coffer_core_protocol::uri::ResourcePath;
use coffer_guest_attest::Keys;
use coffer_sys_dm::{Mapped, unmap};
use coffer_sys_mount::{Flags, mount};

use crate::disk::{Disk, Opened};
use crate::{One, VolumeError, agree, blocking, key_of, place, size};

/// Opens one, and says how.
pub(crate) async fn open(
    volume: &Volume,
    with: &Persistent,
    root: &Path,
    keys: &dyn Keys,
) -> Result<(One, String), VolumeError> {
    let name = volume.name.clone();
    let disk = {
        let (name, access) = (name.clone(), with.access);
        blocking(&volume.name, move || Disk::find(&name, access)).await?
    };
    let (path, key) = key_of(&name, &with.key, keys).await?;
    let opened = blocking(&name, move || disk.unlock(&key)).await?;
    let (opened, mapped) = blocking(&name, move || {
        let mapped = opened.map()?;
        // Before anything is counted: what the host shortened is not an opening.
        size::check(opened.name(), &mapped.path).map_err(|why| undone(&mapped, why))?;
        Ok((opened, mapped))
    })
    .await?;
    let counted = match with.rollback {
        Rollback::InsecureNotDetected => Ok("old copies are not detected".to_owned()),
        Rollback::Detected => count(&name, with.access, &path, opened, keys).await,
    };
    let how = counted.map_err(|why| undone(&mapped, why))?;
    let (at, access, root) = (volume.path.clone(), with.access, root.to_owned());
    let work = move || {
        mount_ext4(&name, &at, access, &mapped, &root).map_err(|why| undone(&mapped, why)).map(
            |(target, grown)| {
                (One { name, mapped: vec![mapped], target, verity: None }, grown.unwrap_or_default())
            },
        )
    };
    let (one, grown) = blocking(&volume.name, work).await?;
    Ok((one, format!("{how}{grown}")))
}

/// The first error is the one to tell.
fn undone(mapped: &Mapped, why: VolumeError) -> VolumeError {
    let _first_error_counts = unmap(&mapped.name);
    why
}

/// Compares disk and broker, and moves both; the disk first, durably.
async fn count(
    name: &str,
    access: VolumeAccess,
    path: &ResourcePath,
    opened: Opened,
    keys: &dyn Keys,
) -> Result<String, VolumeError> {
    let broker = |why| VolumeError::Broker { name: name.to_owned(), why: Box::new(why) };
    let counter = keys.counter(path).await.map_err(broker)?;
    let record = opened.record()?;
    let base = agree::base(name, &record, &counter)?;
    if access == VolumeAccess::ReadOnly {
        // Nothing changes, so there is nothing to tell apart later.
        return Ok(format!("generation {}, read only", base.number));
    }
    let next = agree::next(name, &base)?;
    blocking(name, move || opened.write_record(&next)).await?;
    let asked = MoveCounter { from: agree::counter(&base), mark: hex::encode(next.mark) };
    let moved: Counter = keys.move_counter(path, &asked).await.map_err(broker)?;
    if moved != agree::counter(&next) {
        return Err(VolumeError::CounterReply { name: name.to_owned() });
    }
    Ok(format!("generation {}", next.number))
}

/// Mounts, and grows the file system where the disk has become larger. Gives the place, and what there is to say of
/// growing.
fn mount_ext4(
    name: &str,
    at: &str,
    access: VolumeAccess,
    mapped: &Mapped,
    root: &Path,
) -> Result<(std::path::PathBuf, Option<String>), VolumeError> {
    let target = place::make(name, root, at)?;
    let flags = Flags::NO_DEVICES | Flags::NO_SUID;
    let flags = match access {
        VolumeAccess::ReadWrite => flags,
        VolumeAccess::ReadOnly => flags | Flags::READ_ONLY,
    };
    mount(&mapped.path.display().to_string(), &target, "ext4", flags, "")
        .map_err(|why| VolumeError::Mount { name: name.to_owned(), why })?;
    let grown = match access {
        VolumeAccess::ReadOnly => None,
        VolumeAccess::ReadWrite => size::grow(name, &mapped.path, &target),
    };
    Ok((target, grown))
}
