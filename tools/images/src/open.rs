//! One way to read from all sources.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use coffer_core_digest::{Digest, Hasher};
use coffer_core_oci::simple_signing::signature_tag;
use coffer_core_oci::{Descriptor, Document, Manifest, Platform, Reference, media};
use tempfile::TempDir;

use crate::error::{ImageError, at};
use crate::layout::{Layout, changed};
use crate::place::Source;
use crate::progress::Progress;
use crate::registry::Registry;
use crate::{archive, folder};

/// An image, found.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest's bytes, as they were signed.
    pub bytes: Vec<u8>,
}

impl Resolved {
    /// Writes a new image's configuration and manifest into a layout that has its layers; without a tag.
    pub(crate) fn write(layout: &Layout, config: &[u8], layers: Vec<Descriptor>) -> Result<Self, ImageError> {
        let manifest = Manifest::new(layout.put(media::OCI_CONFIG, config)?, layers);
        let bytes = manifest.to_bytes()?;
        let digest = layout.put(media::OCI_MANIFEST, &bytes)?.digest;
        Ok(Self { digest, manifest, bytes })
    }

    /// A descriptor of the manifest.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.manifest.stored_as(), self.digest, self.bytes.len() as u64)
    }
}

/// An opened source.
pub(crate) enum Store {
    Registry(Registry),
    Layout { layout: Layout, name: Option<String>, _temporary: Option<TempDir> },
}

impl Store {
    pub(crate) async fn open(source: &Source) -> Result<Self, ImageError> {
        Ok(match source {
            Source::Registry(reference, transport) => Self::Registry(Registry::new(reference, *transport)),
            Source::Layout(directory, name) => {
                Self::Layout { layout: Layout::open(directory)?, name: name.clone(), _temporary: None }
            }
            Source::Folder(folder, config) => {
                let (folder, config) = (folder.clone(), config.clone());
                let (layout, temporary) =
                    blocking(move || folder::import(&folder, config.as_deref())).await?;
                Self::Layout { layout, name: None, _temporary: Some(temporary) }
            }
            Source::Archive(file) => {
                let file = file.clone();
                let (layout, temporary) = blocking(move || archive::import(&file)).await?;
                Self::Layout { layout, name: None, _temporary: Some(temporary) }
            }
        })
    }

    /// The image for our guests' platform.
    pub(crate) async fn resolve(&self) -> Result<Resolved, ImageError> {
        let (bytes, digest) = match self {
            Self::Registry(registry) => self.named(registry.reference()).await?,
            Self::Layout { layout, name, .. } => {
                let entry = layout.find(name.as_deref())?;
                (layout.document(&entry.digest)?, entry.digest)
            }
        };
        let (manifest, bytes, digest) = match Document::parse(&bytes)? {
            Document::Manifest(manifest) => (manifest, bytes, digest),
            Document::Index(index) => {
                let entry = index.select(&Platform::linux_amd64())?;
                let (bytes, digest) = self.document(&entry.digest).await?;
                (Manifest::parse(&bytes)?, bytes, digest)
            }
        };
        Ok(Resolved { digest, manifest, bytes })
    }

    async fn document(&self, digest: &Digest) -> Result<(Vec<u8>, Digest), ImageError> {
        match self {
            Self::Registry(registry) => self.named(&registry.reference().with_digest(*digest)).await,
            Self::Layout { layout, .. } => Ok((layout.document(digest)?, *digest)),
        }
    }

    async fn named(&self, reference: &Reference) -> Result<(Vec<u8>, Digest), ImageError> {
        let Self::Registry(registry) = self else {
            return Err(ImageError::Interrupted("a layout has no references".into()));
        };
        registry.manifest(reference).await?.ok_or_else(|| ImageError::NotFound {
            name: reference.to_string(),
            place: format!("docker://{}", reference.registry()),
            found: Vec::new(),
        })
    }

    /// The signature artifact of a manifest, if there is one.
    pub(crate) async fn signatures(&self, manifest: &Digest) -> Result<Option<Resolved>, ImageError> {
        let (bytes, digest) = match self {
            Self::Registry(registry) => {
                let reference = registry.reference().with_tag(&signature_tag(manifest))?;
                match registry.manifest(&reference).await? {
                    Some(found) => found,
                    None => return Ok(None),
                }
            }
            Self::Layout { layout, .. } => match layout.signatures(manifest)? {
                Some(entry) => (layout.document(&entry.digest)?, entry.digest),
                None => return Ok(None),
            },
        };
        Ok(Some(Resolved { digest, manifest: Manifest::parse(&bytes)?, bytes }))
    }

    /// A small blob, checked.
    pub(crate) async fn small(&self, blob: &Descriptor) -> Result<Vec<u8>, ImageError> {
        match self {
            Self::Registry(registry) => registry.small(blob).await,
            Self::Layout { layout, .. } => layout.document(&blob.digest),
        }
    }

    /// A blob that checks itself while it is read.
    pub(crate) async fn blob(
        &self,
        blob: &Descriptor,
        directory: &Path,
        progress: &Progress,
    ) -> Result<Blob, ImageError> {
        let (file, path) = match self {
            Self::Registry(registry) => {
                (registry.blob(blob, directory, progress).await?, directory.to_path_buf())
            }
            Self::Layout { layout, .. } => {
                let path = layout.blob_path(&blob.digest);
                (File::open(&path).map_err(at(&path))?, path)
            }
        };
        let hasher = Hasher::new(blob.digest.algorithm());
        Ok(Blob { file, path, descriptor: blob.clone(), hasher, size: 0 })
    }
}

/// A blob that is hashed while it is read; [`Blob::finish`] says whether it was the right one.
pub(crate) struct Blob {
    file: File,
    path: PathBuf,
    descriptor: Descriptor,
    hasher: Hasher,
    size: u64,
}

impl Blob {
    /// The file, for a reader that checks what it reads by another root than the blob's digest.
    pub(crate) fn into_file(self) -> File {
        self.file
    }

    /// Reads what is left and compares. What was made of the blob counts only after this.
    pub(crate) fn finish(mut self) -> Result<(), ImageError> {
        io::copy(&mut self, &mut io::sink()).map_err(at(&self.path))?;
        let Descriptor { digest, size: expected, .. } = self.descriptor;
        if self.size != expected {
            return Err(ImageError::Size { digest: Box::new(digest), expected, found: self.size });
        }
        let found = self.hasher.finish();
        if found == digest { Ok(()) } else { Err(changed(&digest, found)) }
    }

    /// Does work that reads the blob. If the blob is not the right one, that is the error, whatever the work
    /// made of it.
    pub(crate) fn checked<T>(
        mut self,
        work: impl FnOnce(&mut Self) -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        match work(&mut self) {
            Err(error @ (ImageError::DiskFull { .. } | ImageError::Limit { .. })) => Err(error),
            result => {
                self.finish()?;
                result
            }
        }
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.size += read as u64;
        Ok(read)
    }
}

/// Runs work that blocks off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ImageError::Interrupted(error.to_string()))?
}
