//! From an authorized container to a root directory and a process.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use coffer_core_digest::Digest;
use coffer_core_oci::config::MAX_CONFIG;
use coffer_core_oci::{ImageConfig, SealedBlock};
use coffer_guest_attest::Keys;
use coffer_guest_gate::{Authorized, Container};

use crate::source::{BlobSource, read_blob};
use crate::workshop::{Progress, Workshop};
use crate::{Found, ImageError, ImageFault, Integrity, Process, layers, sealed};

/// Makes images ready.
pub struct ImageStore(Workshop);

/// An image that is ready to run.
pub struct Prepared {
    /// Its root directory, writable.
    pub root: PathBuf,
    /// What runs in it.
    pub process: Process,
    /// Watches the image's blocks, where it is sealed.
    pub integrity: Option<Integrity>,
}

impl ImageStore {
    /// A store in `place`, an empty directory in the guest's memory. `disks` are the blobs that the host says it
    /// attached, by serial number. Without `keys` only images that are not encrypted can be made ready.
    #[must_use]
    pub fn new(place: PathBuf, disks: HashMap<Digest, String>, keys: Option<Arc<dyn Keys>>) -> Self {
        Self(Workshop { place, disks, keys })
    }

    /// Fetches, verifies, decrypts and mounts what the gate authorized.
    ///
    /// # Errors
    /// Says what is wrong with the image, its key or the machine.
    pub async fn prepare(
        &self,
        source: &dyn BlobSource,
        found: &Found,
        authorized: &Authorized<Container>,
        progress: &dyn Progress,
    ) -> Result<Prepared, ImageError> {
        let container = authorized.get();
        let manifest = found.authorized(&container.manifest)?;
        let config = read_blob(source, &manifest.config, "the image's configuration", MAX_CONFIG).await?;
        let config = ImageConfig::parse(&config)?;
        let process = Process::of(&config.config, container)?;
        let workshop = &self.0;
        let place = &workshop.place;
        fs::create_dir_all(place).map_err(|cause| ImageFault::file("making", place, cause))?;
        let (root, integrity) = match SealedBlock::from_manifest(manifest)? {
            Some((layer, block)) => {
                let (root, integrity) =
                    sealed::mount_sealed(workshop, source, layer, &block, progress).await?;
                (root, Some(integrity))
            }
            None => (layers::unpack(workshop, source, manifest, progress).await?, None),
        };
        Ok(Prepared { root, process, integrity })
    }
}
