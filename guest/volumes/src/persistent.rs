//! Volumes that outlast the guest: LUKS2 with ext4, and a generation that disk and broker agree on.

use std::path::{Path, PathBuf};

use coffer_core_initdata::{Persistent, Rollback, Volume, VolumeAccess};
use coffer_core_luks::{Generation, Integrity};
use coffer_core_protocol::counter::{Counter, MoveCounter};
use coffer_core_protocol::uri::ResourcePath;
use coffer_guest_attest::Keys;
use coffer_sys_dm::Mapped;
use coffer_sys_mount::{Flags, mount};

use crate::disk::{Disk, Opened};
use crate::integrity::{self, Content};
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
    let base = match with.rollback {
        Rollback::InsecureNotDetected => None,
        Rollback::Detected => Some(compare(&name, &path, &opened, keys).await?),
    };
    // Only what disk and broker agree on says that a volume is new: a host that clears one must not make it empty.
    let content = match base {
        Some(Generation { number: 0, .. }) if with.access == VolumeAccess::ReadWrite => Content::New,
        _ => Content::Kept,
    };
    let (opened, mapped) = blocking(&name, move || {
        let mapped = opened.map(content)?;
        // Before anything is counted: what the host shortened is not an opening.
        size::check(opened.name(), top(opened.name(), &mapped)?).map_err(|why| undone(&mapped, why))?;
        Ok((opened, mapped))
    })
    .await?;
    let integrity = opened.integrity();
    let counted = match (base, with.access) {
        (None, _) => Ok("old copies are not detected".to_owned()),
        // Nothing changes, so there is nothing to tell apart later.
        (Some(base), VolumeAccess::ReadOnly) => Ok(format!("generation {}, read only", base.number)),
        (Some(base), VolumeAccess::ReadWrite) => advance(&name, &path, base, opened, keys).await,
    };
    let how = counted.map_err(|why| undone(&mapped, why))?;
    let (at, access, root) = (volume.path.clone(), with.access, root.to_owned());
    let work = move || {
        let device = top(&name, &mapped)?;
        let target = mount_ext4(&name, &at, access, device, &root).map_err(|why| undone(&mapped, why))?;
        let more = match (access, integrity) {
            (VolumeAccess::ReadWrite, Integrity::None) => size::grow(&name, device, &target),
            (_, Integrity::HmacSha256) => Some(", each sector with a MAC".to_owned()),
            (VolumeAccess::ReadOnly, Integrity::None) => None,
        };
        Ok((One { name, mapped, target, verity: None }, more.unwrap_or_default()))
    };
    let (one, more) = blocking(&volume.name, work).await?;
    Ok((one, format!("{how}{more}")))
}

/// The device that is mounted.
fn top<'a>(name: &str, mapped: &'a [Mapped]) -> Result<&'a Path, VolumeError> {
    let none = || VolumeError::NotFormatted { name: name.to_owned() };
    mapped.first().map(|mapped| mapped.path.as_path()).ok_or_else(none)
}

/// The first error is the one to tell.
fn undone(mapped: &[Mapped], why: VolumeError) -> VolumeError {
    integrity::undo(mapped);
    why
}

/// The generation that disk and broker agree on.
async fn compare(
    name: &str,
    path: &ResourcePath,
    opened: &Opened,
    keys: &dyn Keys,
) -> Result<Generation, VolumeError> {
    let broker = |why| VolumeError::Broker { name: name.to_owned(), why: Box::new(why) };
    let counter = keys.counter(path).await.map_err(broker)?;
    agree::base(name, &opened.record()?, &counter)
}

/// Moves both; the disk first, durably.
async fn advance(
    name: &str,
    path: &ResourcePath,
    base: Generation,
    opened: Opened,
    keys: &dyn Keys,
) -> Result<String, VolumeError> {
    let broker = |why| VolumeError::Broker { name: name.to_owned(), why: Box::new(why) };
    let next = agree::next(name, &base)?;
    blocking(name, move || opened.write_record(&next)).await?;
    let asked = MoveCounter { from: agree::counter(&base), mark: hex::encode(next.mark) };
    let moved: Counter = keys.move_counter(path, &asked).await.map_err(broker)?;
    if moved != agree::counter(&next) {
        return Err(VolumeError::CounterReply { name: name.to_owned() });
    }
    Ok(format!("generation {}", next.number))
}

/// Mounts, and gives the place.
fn mount_ext4(
    name: &str,
    at: &str,
    access: VolumeAccess,
    device: &Path,
    root: &Path,
) -> Result<PathBuf, VolumeError> {
    let target = place::make(name, root, at)?;
    let flags = Flags::NO_DEVICES | Flags::NO_SUID;
    let flags = match access {
        VolumeAccess::ReadWrite => flags,
        VolumeAccess::ReadOnly => flags | Flags::READ_ONLY,
    };
    mount(&device.display().to_string(), &target, "ext4", flags, "")
        .map_err(|why| VolumeError::Mount { name: name.to_owned(), why })?;
    Ok(target)
}
