//! Persistent encrypted volumes: opened before the workload starts, closed after it ended.
//!
//! INVARIANT: a volume is mounted only if init-data names it, the broker released its key, and, where roll-back is
//! detected, its generation agrees with the broker's counter and both were moved. Left out: making volumes, and
//! integrity within a mount.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod agree;
mod disk;
mod error;
mod place;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coffer_core_initdata::{Rollback, Volume, VolumeAccess};
use coffer_core_protocol::counter::{Counter, MoveCounter};
use coffer_core_protocol::uri::{ResourcePath, ResourceUri};
use coffer_guest_attest::Keys;
use coffer_sys_dm::{Mapped, unmap};
use coffer_sys_mount::{Flags, mount, sync_file_system, unmount, unmount_lazily};

use crate::disk::{Disk, Opened};
pub use error::VolumeError;

/// How long a mapping may be in use after its file system was unmounted: the container's mounts go with its last
/// process, which the kernel tidies up after its end was told.
const CLOSING: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// The volumes of one container, mounted. To be closed; dropped, they stay as they are.
#[derive(Debug, Default)]
pub struct Mounted(Vec<One>);

#[derive(Debug)]
struct One {
    name: String,
    mapped: Mapped,
    target: PathBuf,
}

impl Mounted {
    /// Opens all volumes below the container's root, or none: the first that fails closes those before it. `told` gets
    /// a line for each.
    ///
    /// # Errors
    /// Says which volume, and why: [`VolumeError::refusal`].
    pub async fn open(
        volumes: &[Volume],
        root: &Path,
        keys: &dyn Keys,
        told: &(dyn Fn(String) + Sync),
    ) -> Result<Self, VolumeError> {
        let mut mounted = Self::default();
        for volume in volumes {
            match open(volume, root, keys).await {
                Ok((one, how)) => {
                    told(format!("{} opened at {}: {how}", volume.name, volume.path));
                    mounted.0.push(one);
                }
                Err(why) => {
                    // The first error is the one to tell.
                    let _first_error_counts = mounted.close().await;
                    return Err(why);
                }
            }
        }
        Ok(mounted)
    }

    /// Writes down what is still in memory, and takes all volumes away.
    ///
    /// # Errors
    /// When a device failed to take what was written. All volumes are tried.
    pub async fn close(self) -> Result<(), VolumeError> {
        let work = move || self.0.into_iter().rev().map(close).fold(Ok(()), Result::and);
        blocking("", work).await
    }
}

async fn open(volume: &Volume, root: &Path, keys: &dyn Keys) -> Result<(One, String), VolumeError> {
    let name = volume.name.clone();
    let uri: Result<ResourceUri, _> = volume.key.parse();
    let path = uri.map_err(|why| VolumeError::Key { name, why: why.to_string() })?.path().clone();
    let disk = {
        let volume = volume.clone();
        blocking(&volume.name.clone(), move || Disk::find(&volume)).await?
    };
    let released = keys.resource(&path).await;
    let key =
        released.map_err(|why| VolumeError::Broker { name: volume.name.clone(), why: Box::new(why) })?;
    let opened = blocking(&volume.name, move || disk.unlock(&key)).await?;
    let (opened, how) = match volume.rollback {
        Rollback::InsecureNotDetected => (opened, "old copies are not detected".to_owned()),
        Rollback::Detected => count(volume, &path, opened, keys).await?,
    };
    let (volume, root) = (volume.clone(), root.to_owned());
    let one = blocking(&volume.name.clone(), move || map_and_mount(&volume, &opened, &root)).await?;
    Ok((one, how))
}

/// Compares disk and broker, and moves both; the disk first, durably.
async fn count(
    volume: &Volume,
    path: &ResourcePath,
    opened: Opened,
    keys: &dyn Keys,
) -> Result<(Opened, String), VolumeError> {
    let name = &volume.name;
    let broker = |why| VolumeError::Broker { name: name.clone(), why: Box::new(why) };
    let counter = keys.counter(path).await.map_err(broker)?;
    let record = opened.record()?;
    let base = agree::base(name, &record, &counter)?;
    if volume.access == VolumeAccess::ReadOnly {
        // Nothing changes, so there is nothing to tell apart later.
        return Ok((opened, format!("generation {}, read only", base.number)));
    }
    let next = agree::next(name, &base)?;
    let opened = blocking(name, move || opened.write_record(&next).map(|()| opened)).await?;
    let asked = MoveCounter { from: agree::counter(&base), mark: hex::encode(next.mark) };
    let moved: Counter = keys.move_counter(path, &asked).await.map_err(broker)?;
    if moved != agree::counter(&next) {
        return Err(VolumeError::CounterReply { name: name.clone() });
    }
    Ok((opened, format!("generation {}", next.number)))
}

fn map_and_mount(volume: &Volume, opened: &Opened, root: &Path) -> Result<One, VolumeError> {
    let mapped = opened.map()?;
    let mounted = mount_ext4(volume, &mapped, root);
    let target = mounted.inspect_err(|_| {
        // The first error is the one to tell.
        let _first_error_counts = unmap(&mapped.name);
    })?;
    Ok(One { name: volume.name.clone(), mapped, target })
}

fn mount_ext4(volume: &Volume, mapped: &Mapped, root: &Path) -> Result<PathBuf, VolumeError> {
    let target = place::make(&volume.name, root, &volume.path)?;
    let flags = Flags::NO_DEVICES | Flags::NO_SUID;
    let flags = match volume.access {
        VolumeAccess::ReadWrite => flags,
        VolumeAccess::ReadOnly => flags | Flags::READ_ONLY,
    };
    mount(&mapped.path.display().to_string(), &target, "ext4", flags, "")
        .map_err(|why| VolumeError::Mount { name: volume.name.clone(), why })?;
    Ok(target)
}

fn close(one: One) -> Result<(), VolumeError> {
    let failed = |why| VolumeError::Mount { name: one.name.clone(), why };
    let synced = sync_file_system(&one.target).map_err(failed);
    // Whoever still holds the mount loses its name; what was written is on the disk.
    if unmount(&one.target).is_err() {
        unmount_lazily(&one.target).map_err(failed)?;
    }
    let until = Instant::now().checked_add(CLOSING);
    loop {
        match unmap(&one.mapped.name) {
            Ok(()) => return synced,
            Err(_) if until.is_some_and(|until| Instant::now() < until) => std::thread::sleep(PAUSE),
            // It goes with the machine.
            Err(why) => return synced.and(Err(VolumeError::Map { name: one.name, why })),
        }
    }
}

/// Runs what waits for disks where it holds up nobody.
async fn blocking<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|why| VolumeError::Disk {
        name: name.to_owned(),
        step: "working on",
        source: std::io::Error::other(why.to_string()),
    })?
}
