//! The list of an artifact's files.
//!
//! SPEC: `docs/formats/sealed-stream.md`, section 2. INVARIANT: a [`Manifest`] has valid paths, in order, none twice
//! and none the folder of another, and sizes that agree. That somebody known wrote it, only `Artifact` says.

use std::collections::BTreeSet;
use std::io::Write;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_protocol::jcs;
use coffer_core_protocol::uri::ResourceUri;
use serde::{Deserialize, Serialize};

use crate::bound::{MAX_FILES, MAX_MANIFEST};
use crate::path::shown;
use crate::wire::{VERSION, key, parse_version};
use crate::{
    ArtifactError, ArtifactId, AssociatedData, FilePath, Key, Layout, Sealed, Sealer, SegmentSize, Statement,
    StreamError,
};

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    path: FilePath,
    executable: bool,
    layout: Layout,
    root: Digest,
    digest: Digest,
}

impl FileEntry {
    /// A file as its sealer left it.
    pub fn new(
        path: FilePath,
        executable: bool,
        segment: SegmentSize,
        sealed: &Sealed,
    ) -> Result<Self, ArtifactError> {
        let layout = Layout::new(segment, sealed.size)?;
        if layout.sealed_size() != sealed.sealed_size {
            let (expected, found) = (layout.sealed_size(), sealed.sealed_size);
            return Err(ArtifactError::SealedSize { path: shown(path.as_str()), expected, found });
        }
        Ok(Self { path, executable, layout, root: sealed.root, digest: sealed.digest })
    }

    /// Where it is in its folder.
    #[must_use]
    pub fn path(&self) -> &FilePath {
        &self.path
    }

    /// Whether its owner may execute it. No other mode bits are kept.
    #[must_use]
    pub const fn executable(&self) -> bool {
        self.executable
    }

    /// Its sizes and segments.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// SHA-256 over the header and all tags.
    #[must_use]
    pub const fn root(&self) -> &Digest {
        &self.root
    }

    /// SHA-256 over the ciphertext, which is also its name in a folder or registry.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// The files of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    artifact: ArtifactId,
    key: ResourceUri,
    segment_size: SegmentSize,
    files: Vec<FileEntry>,
}

/// The members, in canonical order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    artifact: String,
    files: Vec<WireFile>,
    key: String,
    segment_size: u64,
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFile {
    digest: Digest,
    executable: bool,
    path: String,
    root: Digest,
    sealed_size: u64,
    size: u64,
}

impl Manifest {
    /// Lists files that were sealed for `artifact` with the key that the broker has at `key`.
    pub fn new(
        artifact: ArtifactId,
        key: ResourceUri,
        segment_size: SegmentSize,
        mut files: Vec<FileEntry>,
    ) -> Result<Self, ArtifactError> {
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let own = Self { artifact, key, segment_size, files };
        own.check()?;
        Ok(own)
    }

    /// Reads a manifest from its canonical JSON.
    pub fn parse(bytes: &[u8]) -> Result<Self, ArtifactError> {
        const WHAT: &str = "manifest";
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(ArtifactError::ManifestTooLarge { found: bytes.len() as u64 });
        }
        let wire: Wire = parse_version(WHAT, bytes)?;
        let segment_size = SegmentSize::new(wire.segment_size)?;
        let files = wire.files.into_iter().map(|file| file.read(segment_size)).collect::<Result<_, _>>()?;
        let own = Self { artifact: wire.artifact.parse()?, key: key(WHAT, &wire.key)?, segment_size, files };
        own.check()?;
        if own.to_bytes()? == bytes { Ok(own) } else { Err(ArtifactError::NotCanonical { what: WHAT }) }
    }

    /// The canonical JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ArtifactError> {
        let files = self.files.iter().map(WireFile::of).collect();
        let wire = Wire {
            artifact: self.artifact.to_string(),
            files,
            key: self.key.to_string(),
            segment_size: self.segment_size.long(),
            version: VERSION,
        };
        jcs::canonical(&wire)
            .map_err(|error| ArtifactError::Form { what: "manifest", why: error.to_string() })
    }

    /// Seals the manifest itself. What is returned beside the ciphertext is to be signed.
    pub fn seal(&self, key: &Key) -> Result<(Vec<u8>, Statement), ArtifactError> {
        let data = AssociatedData::manifest(&self.artifact);
        let mut sealer = Sealer::new(Vec::new(), key, &data, SegmentSize::KIB_64)?;
        sealer.write_all(&self.to_bytes()?).map_err(StreamError::from_read)?;
        let (sealed, bytes) = sealer.finish()?;
        if sealed.sealed_size > MAX_MANIFEST {
            return Err(ArtifactError::ManifestTooLarge { found: sealed.sealed_size });
        }
        Ok((bytes, Statement::new(self.artifact, self.key.clone(), sealed.digest, sealed.sealed_size)))
    }

    /// The artifact's id.
    #[must_use]
    pub const fn artifact(&self) -> &ArtifactId {
        &self.artifact
    }

    /// The key's name at the broker.
    #[must_use]
    pub const fn key(&self) -> &ResourceUri {
        &self.key
    }

    /// The segment size of all files.
    #[must_use]
    pub const fn segment_size(&self) -> SegmentSize {
        self.segment_size
    }

    /// The files, by path.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// One file.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&FileEntry> {
        let place = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files.get(place)
    }

    fn check(&self) -> Result<(), ArtifactError> {
        if self.files.len() > MAX_FILES {
            return Err(ArtifactError::TooManyFiles { found: self.files.len() });
        }
        let refuse = |path: &FilePath, why| Err(ArtifactError::Paths { path: shown(path.as_str()), why });
        let mut paths = BTreeSet::new();
        let mut before: Option<&FilePath> = None;
        for file in &self.files {
            match before.map(|before| before.cmp(&file.path)) {
                Some(std::cmp::Ordering::Equal) => return refuse(&file.path, "is there twice"),
                Some(std::cmp::Ordering::Greater) => return refuse(&file.path, "is not in order"),
                _ => {}
            }
            before = Some(&file.path);
            paths.insert(file.path.as_str());
            if file.layout.segment_size() != self.segment_size {
                return Err(ArtifactError::Contradiction("segment sizes"));
            }
            for (what, digest) in [("root", &file.root), ("digest", &file.digest)] {
                if digest.algorithm() != Algorithm::Sha256 {
                    let (path, found) = (shown(file.path.as_str()), digest.algorithm());
                    return Err(ArtifactError::Algorithm { path, what, found });
                }
            }
        }
        for file in &self.files {
            if file.path.folders().any(|folder| paths.contains(folder)) {
                return refuse(&file.path, "is inside what is also a file");
            }
        }
        Ok(())
    }
}

impl WireFile {
    fn of(file: &FileEntry) -> Self {
        Self {
            digest: file.digest,
            executable: file.executable,
            path: file.path.to_string(),
            root: file.root,
            sealed_size: file.layout.sealed_size(),
            size: file.layout.size(),
        }
    }

    fn read(self, segment: SegmentSize) -> Result<FileEntry, ArtifactError> {
        let path: FilePath = self.path.parse()?;
        let sealed =
            Sealed { size: self.size, sealed_size: self.sealed_size, root: self.root, digest: self.digest };
        FileEntry::new(path, self.executable, segment, &sealed)
    }
}
