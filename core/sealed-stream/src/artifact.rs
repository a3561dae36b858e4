//! An artifact whose manifest was verified and opened: the one way to its files.

use std::io::Read;

use coffer_core_digest::Digest;

use crate::path::shown;
use crate::{
    ArtifactError, AssociatedData, FileEntry, Header, Key, Layout, MAX_MANIFEST, Manifest, Opener, ReadAt,
    SeekReader, SegmentOpener, SegmentSize, SharedReader, StreamError, Verified,
};

/// A signed manifest, opened, and the key of its files.
pub struct Artifact {
    verified: Verified,
    manifest: Manifest,
    key: Key,
}

impl Artifact {
    /// Opens the sealed manifest of a statement that was verified.
    pub fn open(verified: Verified, sealed: &[u8], key: Key) -> Result<Self, ArtifactError> {
        let statement = verified.statement();
        let found = sealed.len() as u64;
        if found > MAX_MANIFEST {
            return Err(ArtifactError::ManifestTooLarge { found });
        }
        let found = Digest::sha256(sealed);
        if found != *statement.manifest_digest() || sealed.len() as u64 != statement.manifest_size() {
            return Err(ArtifactError::Digest {
                expected: Box::new(*statement.manifest_digest()),
                found: Box::new(found),
            });
        }
        let data = AssociatedData::manifest(statement.artifact());
        let refused = |error: std::io::Error| ArtifactError::Manifest(StreamError::from_read(error));
        let mut opener =
            Opener::new(sealed, &key, &data, SegmentSize::KIB_64).map_err(ArtifactError::Manifest)?;
        let mut plain = Vec::new();
        opener.read_to_end(&mut plain).map_err(refused)?;
        let manifest = Manifest::parse(&plain)?;
        if manifest.artifact() != statement.artifact() {
            return Err(ArtifactError::Contradiction("artifacts"));
        }
        if manifest.key() != statement.key() {
            return Err(ArtifactError::Contradiction("keys"));
        }
        Ok(Self { verified, manifest, key })
    }

    /// The list of files.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The signed statement.
    #[must_use]
    pub const fn verified(&self) -> &Verified {
        &self.verified
    }

    /// Opens a file from beginning to end. `reader` gives its ciphertext.
    pub fn opener<R: Read>(&self, path: &str, reader: R) -> Result<Opener<R>, ArtifactError> {
        let file = self.listed(path)?;
        Ok(Opener::expecting(reader, &self.key, &self.data(file), file.layout(), file.root())?)
    }

    /// Opens a file to read from anywhere. `source` has its ciphertext.
    ///
    /// Each segment is authenticated; that they are all of the stream that the manifest names, [`Artifact::check_root`]
    /// says.
    pub fn reader<S: ReadAt>(&self, path: &str, source: S) -> Result<SeekReader<S>, ArtifactError> {
        let file = self.listed(path)?;
        Ok(SeekReader::new(source, &self.key, &self.data(file), *file.layout())?)
    }

    /// Opens a file to read from anywhere by several threads, as [`Artifact::reader`] does.
    pub fn shared<S: ReadAt>(&self, path: &str, source: S) -> Result<SharedReader<S>, ArtifactError> {
        let file = self.listed(path)?;
        Ok(SharedReader::new(source, &self.key, &self.data(file), *file.layout())?)
    }

    /// Opens single segments of a file whose stream has this header.
    pub fn segments(&self, path: &str, header: Header) -> Result<SegmentOpener, ArtifactError> {
        let file = self.listed(path)?;
        Ok(SegmentOpener::new(&self.key, header, &self.data(file), *file.layout())?)
    }

    /// Checks header and tags of a file against the manifest, without opening it: 16 bytes are read for each segment.
    pub fn check_root<S: ReadAt>(&self, path: &str, source: &S) -> Result<(), ArtifactError> {
        let file = self.listed(path)?;
        let found = crate::random::root_of(source, file.layout())?;
        if found == *file.root() {
            return Ok(());
        }
        Err(StreamError::Root { expected: Box::new(*file.root()), found: Box::new(found) }.into())
    }

    /// The shape of a file's stream.
    pub fn layout(&self, path: &str) -> Result<Layout, ArtifactError> {
        Ok(*self.listed(path)?.layout())
    }

    fn data(&self, file: &FileEntry) -> AssociatedData {
        AssociatedData::file(self.manifest.artifact(), file.path())
    }

    fn listed(&self, path: &str) -> Result<&FileEntry, ArtifactError> {
        self.manifest.file(path).ok_or_else(|| ArtifactError::NotListed { path: shown(path) })
    }
}
