//! From an authorized container to a root directory and a process.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use coffer_core_digest::Digest;
use coffer_core_oci::config::MAX_CONFIG;
use coffer_core_oci::{ImageConfig, SealedBlock};
use coffer_core_protocol::uri::ResourceUri;
use coffer_core_secret::SecretBytes;
use coffer_guest_attest::Keys;
use coffer_guest_gate::{Authorized, Container};

use crate::source::{BlobSource, read_blob};
use crate::{Found, ImageError, ImageFault, Integrity, Process, layers, sealed};

/// Where steps of the timeline go.
pub trait Progress: Send + Sync {
    /// Notes a step. The text is public.
    fn step(&self, step: &str, detail: String);
}

/// Makes images ready.
pub struct ImageStore {
    pub(crate) place: PathBuf,
    pub(crate) disks: HashMap<Digest, String>,
    keys: Option<Arc<dyn Keys>>,
}

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
        Self { place, disks, keys }
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
        fs::create_dir_all(&self.place).map_err(|cause| ImageFault::file("making", &self.place, cause))?;
        let (root, integrity) = match SealedBlock::from_manifest(manifest)? {
            Some((layer, block)) => {
                let (root, integrity) = sealed::mount_sealed(self, source, layer, &block, progress).await?;
                (root, Some(integrity))
            }
            None => (layers::unpack(self, source, manifest, progress).await?, None),
        };
        Ok(Prepared { root, process, integrity })
    }

    /// A key of the broker, by the name that the image gives it.
    pub(crate) async fn key(&self, name: &str) -> Result<SecretBytes, ImageError> {
        let short = || name.chars().take(128).collect::<String>();
        let uri: ResourceUri = name
            .parse()
            .map_err(|why| Box::new(ImageFault::KeyName { key: short(), why: format!("{why}") }))?;
        let Some(keys) = &self.keys else {
            return Err(Box::new(ImageFault::NoBroker { key: short() }));
        };
        let key = keys.resource(uri.path()).await;
        key.map_err(|cause| Box::new(ImageFault::Key { key: short(), cause: Box::new(cause) }))
    }
}
