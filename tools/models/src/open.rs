//! From a sealed folder to its contents, or to the knowledge that they are what was sealed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use coffer_core_digest::{Algorithm, Digest, Hasher};
use coffer_core_oci::cosign::PublicKey;
use coffer_core_sealed_stream::{
    Artifact, ArtifactError, FileEntry, Key, MAX_ENVELOPE, MAX_MANIFEST, StreamError, Unverified, Verified,
};
use zeroize::Zeroizing;

use crate::error::{ModelError, at, of};
use crate::fresh::Fresh;
use crate::work::{Counter, Progress, each};
use crate::{BLOBS, ENVELOPE, MANIFEST};

/// A folder whose envelope somebody known signed. Nothing of it was decrypted yet.
pub struct Signed {
    folder: PathBuf,
    verified: Verified,
    sealed_manifest: Vec<u8>,
}

impl Signed {
    /// Reads envelope and sealed manifest and verifies them with one of `keys`.
    pub fn read(folder: &Path, keys: &[PublicKey]) -> Result<Self, ModelError> {
        let refused = |source| ModelError::Artifact { folder: folder.into(), source };
        let envelope = bounded(folder, ENVELOPE, MAX_ENVELOPE as u64)?;
        let verified =
            Unverified::parse(&envelope).and_then(|envelope| envelope.verify(keys)).map_err(refused)?;
        let sealed_manifest = bounded(folder, MANIFEST, MAX_MANIFEST)?;
        let (expected, found) = (*verified.statement().manifest_digest(), Digest::sha256(&sealed_manifest));
        if expected != found {
            let (expected, found) = (Box::new(expected), Box::new(found));
            return Err(refused(ArtifactError::Digest { expected, found }));
        }
        Ok(Self { folder: folder.into(), verified, sealed_manifest })
    }

    /// What was verified.
    #[must_use]
    pub const fn verified(&self) -> &Verified {
        &self.verified
    }

    /// Opens the manifest.
    pub fn open(self, key: Key) -> Result<Model, ModelError> {
        let artifact = Artifact::open(self.verified, &self.sealed_manifest, key);
        match artifact {
            Ok(artifact) => Ok(Model { folder: self.folder, artifact }),
            Err(source) => Err(ModelError::Artifact { folder: self.folder, source }),
        }
    }
}

/// A sealed folder whose manifest is open.
pub struct Model {
    folder: PathBuf,
    artifact: Artifact,
}

impl Model {
    /// The manifest and the way to its files.
    #[must_use]
    pub const fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    /// Where a file's stream is.
    #[must_use]
    pub fn blob(&self, file: &FileEntry) -> PathBuf {
        self.folder.join(BLOBS).join(file.digest().hex())
    }

    /// Opens every file and keeps nothing of it.
    pub fn check(&self, progress: &Progress<'_>) -> Result<(), ModelError> {
        let counter = self.counter(progress);
        let nowhere = |_: &FileEntry| Ok(io::sink());
        each(self.artifact.manifest().files(), |file| self.copy(file, nowhere, &counter).map(drop))?;
        Ok(())
    }

    /// Writes every file below `destination`, which must not exist; it appears when everything was verified.
    pub fn unpack(&self, destination: &Path, progress: &Progress<'_>) -> Result<(), ModelError> {
        let fresh = Fresh::create(destination)?;
        let counter = self.counter(progress);
        let create = |file: &FileEntry| {
            let path = fresh.path().join(file.path().as_str());
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(at(folder))?;
            }
            let mode = if file.executable() { 0o755 } else { 0o644 };
            fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(at(&path))
        };
        each(self.artifact.manifest().files(), |file| {
            let (written, path) = (self.copy(file, create, &counter)?, file.path().as_str());
            written.sync_all().map_err(at(&destination.join(path)))
        })?;
        fresh.commit()
    }

    fn counter<'a>(&self, progress: &'a Progress<'a>) -> Counter<'a> {
        let sizes = self.artifact.manifest().files().iter().map(|file| file.layout().size());
        Counter::new(sizes.fold(0, u64::saturating_add), progress)
    }

    fn copy<W: Write>(
        &self,
        file: &FileEntry,
        create: impl Fn(&FileEntry) -> Result<W, ModelError>,
        counter: &Counter<'_>,
    ) -> Result<W, ModelError> {
        let (path, blob) = (file.path().as_str(), self.blob(file));
        let sealed = match File::open(&blob) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ModelError::Missing { file: path.into(), blob });
            }
            Err(error) => return Err(at(&blob)(error)),
        };
        let mut hashed = Hashed { inner: sealed, hasher: Hasher::new(Algorithm::Sha256) };
        let refused = |source| ModelError::File { file: path.into(), source };
        let mut opener = match self.artifact.opener(path, &mut hashed) {
            Ok(opener) => opener,
            Err(ArtifactError::Stream(error)) => return Err(of(path, &blob)(error)),
            Err(error) => return Err(refused(error)),
        };
        let mut writer = create(file)?;
        let segment = file.layout().segment_size().bytes() as usize;
        let mut piece = Zeroizing::new(vec![0; segment]);
        loop {
            match opener.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => {
                    writer.write_all(&piece[..read]).map_err(at(Path::new(path)))?;
                    counter.add(read);
                }
                Err(error) => return Err(of(path, &blob)(StreamError::from_read(error))),
            }
        }
        drop(opener);
        let found = hashed.hasher.finish();
        if found != *file.digest() {
            let (expected, found) = (Box::new(*file.digest()), Box::new(found));
            return Err(ModelError::Replaced { file: path.into(), expected, found });
        }
        Ok(writer)
    }
}

/// Hashes what is read.
struct Hashed {
    inner: File,
    hasher: Hasher,
}

impl Read for &mut Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// A file of the sealed folder; one byte over the bound is read, so that its reader can refuse it.
fn bounded(folder: &Path, name: &'static str, most: u64) -> Result<Vec<u8>, ModelError> {
    let path = folder.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ModelError::NotSealed { folder: folder.into(), name });
        }
        Err(error) => return Err(at(&path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(at(&path))?;
    Ok(bytes)
}
