//! The cache as its users see it.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use coffer_core_digest::Digest;
use coffer_core_oci::Reference;

use crate::blob::{Inner, blocking};
use crate::folder::{Entry, Folder, Opened, digest_of};
use crate::patience::Patience;
use crate::remote::Remote;
use crate::settings::Registries;
use crate::{Blob, CacheError};

/// The size of a piece, in bytes, unless somebody chooses another.
pub const PIECE: u64 = 2 << 20;
/// How much a cache holds, in bytes, unless somebody chooses another bound.
pub const BOUND: u64 = 20 << 30;

/// What a cache is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its folder, on a local file system.
    pub folder: PathBuf,
    /// How many bytes it may hold.
    pub bound: u64,
    /// Bytes in a piece: the unit that is fetched, counted and resumed.
    pub piece: u64,
    /// How many pieces of one blob are fetched at once.
    pub parallel: usize,
    /// How registries are reached.
    pub registries: Registries,
    /// How long and how often they are asked.
    pub patience: Patience,
}

impl Settings {
    /// The usual settings for a folder.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            bound: BOUND,
            piece: PIECE,
            parallel: 4,
            registries: Registries::default(),
            patience: Patience::default(),
        }
    }
}

/// A cache of blobs.
#[derive(Clone)]
pub struct Cache(Arc<Shared>);

struct Shared {
    folder: Arc<Folder>,
    settings: Settings,
    /// Blobs that tasks of this process have, so that these share a download without asking the kernel.
    live: Mutex<HashMap<(Digest, u64), Weak<Inner>>>,
    transferred: Arc<AtomicU64>,
}

impl Cache {
    /// Opens a cache, and makes its folder if it is not there.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(settings: Settings) -> Result<Self, CacheError> {
        let folder = Arc::new(Folder::open(&settings.folder, settings.bound)?);
        let settings =
            Settings { piece: settings.piece.max(4096), parallel: settings.parallel.max(1), ..settings };
        Ok(Self(Arc::new(Shared { folder, settings, live: Mutex::default(), transferred: Arc::default() })))
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.0.folder.root()
    }

    /// How many bytes registries sent through this value, refused and repeated ones included.
    pub fn transferred(&self) -> u64 {
        self.0.transferred.load(Ordering::Relaxed)
    }

    /// The repository of a reference, at its registry and at its mirrors.
    ///
    /// # Errors
    /// When the settings for it cannot be used.
    pub fn remote(&self, reference: &Reference, plain_http: bool) -> Result<Arc<Remote>, CacheError> {
        let Settings { registries, patience, .. } = &self.0.settings;
        let remote =
            Remote::new(reference, plain_http, registries, patience, Arc::clone(&self.0.transferred))?;
        Ok(Arc::new(remote))
    }

    /// Takes hold of a blob, whole or not; nothing is fetched yet.
    ///
    /// # Errors
    /// When there is no room for it.
    pub async fn blob(&self, remote: &Arc<Remote>, digest: &Digest, size: u64) -> Result<Blob, CacheError> {
        let (shared, remote, digest) = (Arc::clone(&self.0), Arc::clone(remote), *digest);
        blocking(move || {
            let mut live = shared.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.retain(|_, blob| blob.strong_count() > 0);
            let known = live.get(&(digest, size)).and_then(Weak::upgrade);
            if let Some(known) = known.filter(|known| !known.is_discarded()) {
                return Ok(Blob::of(known));
            }
            let Settings { piece, parallel, .. } = shared.settings;
            let opened = shared.folder.open_blob(&digest, size, piece)?;
            let blob = Blob::new(Arc::clone(&shared.folder), digest, size, opened, Some(remote), parallel);
            live.insert((digest, size), Arc::downgrade(blob.inner()));
            Ok(blob)
        })
        .await
    }

    /// A small document by its digest: from the cache if it is there and right, else from the registry.
    pub(crate) async fn document(
        &self,
        remote: &Remote,
        path: &str,
        what: &str,
        digest: &Digest,
    ) -> Result<(Blob, Vec<u8>), CacheError> {
        let (shared, wanted) = (Arc::clone(&self.0), *digest);
        let there = blocking(move || {
            let Some(file) = shared.folder.whole(&wanted)? else { return Ok(None) };
            match read_document(&file, &wanted) {
                Some(bytes) => Ok(Some((file, bytes))),
                None => {
                    tracing::warn!(digest = %wanted, "a document of the cache changed on the disk and is fetched again");
                    shared.folder.remove_whole(&wanted).map(|()| None)
                }
            }
        })
        .await?;
        let (file, bytes) = match there {
            Some(there) => there,
            None => {
                let bytes = remote.document(path, what, Some(digest)).await?;
                self.put(digest, bytes).await?
            }
        };
        Ok((self.held(digest, bytes.len() as u64, file), bytes))
    }

    /// Puts a document in and takes hold of it.
    ///
    /// # Errors
    /// When there is no room for it.
    pub async fn hold_document(&self, bytes: &[u8]) -> Result<Blob, CacheError> {
        let digest = Digest::sha256(bytes);
        let (file, bytes) = self.put(&digest, bytes.to_vec()).await?;
        Ok(self.held(&digest, bytes.len() as u64, file))
    }

    /// Puts a document in whose digest is known to be right.
    pub(crate) async fn put(&self, digest: &Digest, bytes: Vec<u8>) -> Result<(File, Vec<u8>), CacheError> {
        let (shared, digest) = (Arc::clone(&self.0), *digest);
        blocking(move || Ok((shared.folder.put(&digest, &bytes)?, bytes))).await
    }

    pub(crate) fn held(&self, digest: &Digest, size: u64, file: File) -> Blob {
        Blob::new(Arc::clone(&self.0.folder), *digest, size, Opened::Whole(file), None, 1)
    }

    /// What is in the cache, the last used first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>, CacheError> {
        self.0.folder.list(self.0.settings.piece)
    }

    /// Removes what nobody holds, the longest unused first, until not more than `bound` bytes are left; tells what.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn prune(&self, bound: u64) -> Result<Vec<Digest>, CacheError> {
        self.0.folder.prune(bound)
    }

    /// Compares every whole blob with its digest and removes those that differ; tells which.
    ///
    /// # Errors
    /// When one cannot be read or removed.
    pub fn verify(&self) -> Result<Vec<Digest>, CacheError> {
        let mut wrong = Vec::new();
        for entry in self.list()?.into_iter().filter(|entry| entry.present == entry.size) {
            let Some(file) = self.0.folder.whole(&entry.digest)? else { continue };
            let found = digest_of(&file, entry.digest.algorithm(), entry.size)
                .map_err(CacheError::file("read", &self.0.folder.blob_path(&entry.digest)))?;
            if found != entry.digest {
                self.0.folder.remove_whole(&entry.digest)?;
                wrong.push(entry.digest);
            }
        }
        Ok(wrong)
    }
}

/// A document that is not too long and has its digest.
fn read_document(file: &File, digest: &Digest) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let limit = coffer_core_oci::manifest::MAX_DOCUMENT as u64;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= limit && Digest::of(digest.algorithm(), &bytes) == *digest).then_some(bytes)
}
