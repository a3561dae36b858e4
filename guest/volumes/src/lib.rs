//! Volumes: opened before the workload starts, closed after it ended; and the disk under a container's writable layer.
//!
//! INVARIANT: a volume is mounted only if init-data names it. One that outlasts the guest, only if the broker released
//! its key, and, where roll-back is detected, its generation agrees with the broker's counter and both were moved; a
//! sealed one, only under the root that init-data pins; an ephemeral one, only empty, under a key that was drawn here.
//! Left out: making volumes that outlast the guest, and integrity within a mount that is written.

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
mod fresh;
mod integrity;
mod persistent;
mod place;
mod sealed;
mod size;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coffer_core_initdata::{Volume, VolumeKind};
use coffer_core_protocol::uri::{ResourcePath, ResourceUri};
use coffer_core_secret::SecretBytes;
use coffer_guest_attest::Keys;
use coffer_sys_dm::{Mapped, unmap, verity_is_corrupt};
use coffer_sys_mount::{sync_file_system, unmount, unmount_lazily};

pub use error::VolumeError;
pub use fresh::mount_scratch;

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
    /// What is mounted first, then what is below it.
    mapped: Vec<Mapped>,
    target: PathBuf,
    /// The mapping that knows whether the disk was changed, if there is one.
    verity: Option<String>,
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
        keys: Option<&dyn Keys>,
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
    /// When a device failed to take what was written, or a sealed one gave other bytes than were sealed; whoever read
    /// those got an I/O error. All volumes are tried.
    pub async fn close(self) -> Result<(), VolumeError> {
        let work = move || self.0.into_iter().rev().map(close).fold(Ok(()), Result::and);
        blocking("", work).await
    }
}

async fn open(volume: &Volume, root: &Path, keys: Option<&dyn Keys>) -> Result<(One, String), VolumeError> {
    match &volume.kind {
        VolumeKind::Persistent(with) => {
            persistent::open(volume, with, root, keys.ok_or(VolumeError::NoKeys)?).await
        }
        VolumeKind::Ephemeral(with) => fresh::open(volume, *with, root).await,
        VolumeKind::Sealed(with) => sealed::open(volume, with, root, keys.ok_or(VolumeError::NoKeys)?).await,
    }
}

/// A volume's key, and where the broker has it.
async fn key_of(name: &str, uri: &str, keys: &dyn Keys) -> Result<(ResourcePath, SecretBytes), VolumeError> {
    let parsed: Result<ResourceUri, _> = uri.parse();
    let path = parsed
        .map_err(|why| VolumeError::Key { name: name.to_owned(), why: why.to_string() })?
        .path()
        .clone();
    let released = keys.resource(&path).await;
    let key = released.map_err(|why| VolumeError::Broker { name: name.to_owned(), why: Box::new(why) })?;
    Ok((path, key))
}

fn close(one: One) -> Result<(), VolumeError> {
    let failed = |why| VolumeError::Mount { name: one.name.clone(), why };
    let synced = sync_file_system(&one.target).map_err(failed);
    let synced = match &one.verity {
        Some(mapping) if verity_is_corrupt(mapping).is_ok_and(|corrupt| corrupt) => {
            Err(VolumeError::Corrupt { name: one.name.clone() })
        }
        _ => synced,
    };
    // Whoever still holds the mount loses its name; what was written is on the disk.
    if unmount(&one.target).is_err() {
        unmount_lazily(&one.target).map_err(failed)?;
    }
    one.mapped.iter().fold(synced, |before, mapped| before.and(take_away(&one.name, mapped)))
}

fn take_away(name: &str, mapped: &Mapped) -> Result<(), VolumeError> {
    let until = Instant::now().checked_add(CLOSING);
    loop {
        match unmap(&mapped.name) {
            Ok(()) => return Ok(()),
            Err(_) if until.is_some_and(|until| Instant::now() < until) => std::thread::sleep(PAUSE),
            // It goes with the machine.
            Err(why) => return Err(VolumeError::Map { name: name.to_owned(), why }),
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
