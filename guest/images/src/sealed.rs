//! Sealed blocks: dm-verity over the ciphertext, dm-crypt over that, EROFS, and an overlay in memory.
//!
//! The ciphertext is a disk of the host's, a device whose reads are ranges of the registry, or, from a source that has
//! neither, in memory. What runs cannot tell which.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_core_digest::Digest;
use coffer_core_oci::{Descriptor, SealedBlock};
use coffer_core_secret::SecretBytes;
use coffer_guest_sealed_block::{self as sealed_block, OpenError};
use coffer_sys_dm::{Loop, LoopOptions, attach_loop};
use coffer_sys_mount::{Flags, block_device_by_serial, mount};

use crate::lazy::Lazy;
use crate::source::{BlobSource, save_blob};
use crate::workshop::{Progress, Workshop};
use crate::{ImageError, ImageFault, kmsg};

/// How long an attached disk may take to come up.
const DISK_PATIENCE: Duration = Duration::from_secs(10);
const VERITY: &str = "coffer-verity";
const CRYPT: &str = "coffer-crypt";

/// Watches a mounted sealed image: whether the kernel met a block that is not what was sealed.
#[derive(Debug)]
pub struct Integrity {
    mapping: String,
    root: Digest,
    ciphertext: Ciphertext,
}

/// Where the ciphertext is.
#[derive(Debug)]
enum Ciphertext {
    /// A disk that the host attached.
    Disk(PathBuf),
    /// In a file that only this loop device holds.
    Memory(Loop),
    /// With the registry.
    Remote(Lazy),
}

impl Ciphertext {
    fn path(&self) -> &Path {
        match self {
            Self::Disk(path) => path,
            Self::Memory(device) => device.path(),
            Self::Remote(device) => device.path(),
        }
    }
}

impl Integrity {
    /// The corruption that the kernel met so far, if it met any.
    #[must_use]
    pub fn corruption(&self) -> Option<ImageError> {
        match coffer_sys_dm::verity_is_corrupt(&self.mapping) {
            Ok(true) => Some(Box::new(ImageFault::Corrupt { block: kmsg::corrupt_block(), root: self.root })),
            Ok(false) => None,
            // A mapping that cannot be asked is judged by the kernel's log.
            Err(_) => kmsg::corrupt_block()
                .map(|block| Box::new(ImageFault::Corrupt { block: Some(block), root: self.root })),
        }
    }

    /// Data that a read needed and that could not be had, since this was last asked. The reader got an I/O error.
    #[must_use]
    pub fn missing(&self) -> Option<ImageError> {
        match &self.ciphertext {
            Ciphertext::Remote(device) => device.failure(),
            Ciphertext::Disk(_) | Ciphertext::Memory(_) => None,
        }
    }

    /// The corruption or the missing data behind a failure, or the failure itself.
    fn cause_of(&self, failure: ImageError) -> ImageError {
        self.corruption().or_else(|| self.missing()).unwrap_or(failure)
    }
}

/// Mounts a sealed image and gives the writable root directory over it.
pub(crate) async fn mount_sealed(
    workshop: &Workshop,
    source: &dyn BlobSource,
    layer: &Descriptor,
    block: &SealedBlock,
    progress: &dyn Progress,
) -> Result<(PathBuf, Integrity), ImageError> {
    let key = workshop.key(&block.key).await?;
    progress.step("key", format!("{} released", block.key));
    let ciphertext = ciphertext(workshop, source, layer, progress).await?;
    let (place, block, digest) = (workshop.place.clone(), block.clone(), layer.digest);
    let mounted = tokio::task::spawn_blocking(move || map_and_mount(&place, ciphertext, &block, &key)).await;
    let mounted = mounted.map_err(|cause| {
        ImageFault::file("mounting", &workshop.place, io::Error::other(cause.to_string()))
    })??;
    progress.step("image", format!("{digest} mapped under its root hash and mounted"));
    Ok(mounted)
}

/// The ciphertext as a block device.
async fn ciphertext(
    workshop: &Workshop,
    source: &dyn BlobSource,
    layer: &Descriptor,
    progress: &dyn Progress,
) -> Result<Ciphertext, ImageError> {
    if let Some(serial) = workshop.disks.get(&layer.digest).cloned() {
        let found = tokio::task::spawn_blocking(move || block_device_by_serial(&serial, DISK_PATIENCE)).await;
        let found = found.map_err(|cause| {
            ImageFault::file(
                "finding a disk below",
                Path::new("/sys/block"),
                io::Error::other(cause.to_string()),
            )
        })??;
        return Ok(Ciphertext::Disk(found));
    }
    if let Some(parts) = source.parts(layer).await? {
        match Lazy::attach(parts) {
            Ok(device) => {
                progress.step(
                    "image",
                    format!("{} bytes of ciphertext are fetched as they are read", layer.size),
                );
                return Ok(Ciphertext::Remote(device));
            }
            // A kernel without such devices costs memory and time, and nothing else.
            Err(why) => progress.step("image", format!("the ciphertext is fetched whole: {why}")),
        }
    }
    let path = workshop.place.join("sealed");
    save_blob(source, layer, "the sealed image", &path).await?;
    progress.step("image", format!("{} bytes of ciphertext match {}", layer.size, layer.digest));
    let failed = |cause| ImageFault::file("opening", &path, cause);
    let file = File::open(&path).map_err(failed)?;
    let attached = attach_loop(&file, LoopOptions { read_only: true, direct_io: false })?;
    fs::remove_file(&path).map_err(failed)?;
    Ok(Ciphertext::Memory(attached))
}

fn map_and_mount(
    place: &Path,
    ciphertext: Ciphertext,
    block: &SealedBlock,
    key: &SecretBytes,
) -> Result<(PathBuf, Integrity), ImageError> {
    let integrity = Integrity { mapping: VERITY.to_owned(), root: block.root_hash, ciphertext };
    let opened = sealed_block::open([VERITY, CRYPT], integrity.ciphertext.path(), block, key);
    let opened = opened.map_err(|why| integrity.missing().unwrap_or_else(|| refused(why, block)))?;
    let mounted = mount_over(place, &opened.crypt.path);
    mounted.map_err(|failure| integrity.cause_of(failure)).map(|root| (root, integrity))
}

fn refused(why: OpenError, block: &SealedBlock) -> ImageError {
    match why {
        OpenError::KeyLength { .. } | OpenError::WrongKey => {
            Box::new(ImageFault::WrongKey { key: block.key.clone(), why: why.to_string() })
        }
        OpenError::Corrupt => {
            Box::new(ImageFault::Corrupt { block: kmsg::corrupt_block(), root: block.root_hash })
        }
        OpenError::Read(cause) => ImageFault::file("reading", Path::new(CRYPT), cause),
        OpenError::Map(why) => why.into(),
    }
}

/// Mounts the file system, and a writable one over it.
fn mount_over(place: &Path, device: &Path) -> Result<PathBuf, ImageError> {
    let [lower, upper, work, root] = ["lower", "upper", "work", "root"].map(|name| place.join(name));
    for directory in [&lower, &upper, &work, &root] {
        fs::create_dir_all(directory).map_err(|cause| ImageFault::file("making", directory, cause))?;
    }
    let flags = Flags::READ_ONLY | Flags::NO_DEVICES;
    mount(&device.display().to_string(), &lower, "erofs", flags, "")?;
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    mount("overlay", &root, "overlay", Flags::NO_DEVICES, &options)?;
    Ok(root)
}
