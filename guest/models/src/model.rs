//! From a source to a verified manifest, and from there to files.

use std::io;
use std::sync::Arc;

use coffer_core_digest::Digest;
use coffer_core_oci::cosign::PublicKey;
use coffer_core_sealed_stream::{
    Artifact, ArtifactError, Key, ReadAt, SharedReader, StreamError, Unverified, Verified,
};

use crate::pipeline::{self, Job, Sealed};
use crate::workplace::Workplace;
use crate::{Destination, ENVELOPE, MANIFEST, ModelError, Object, Partial, SourceError, Store};

/// A source whose envelope somebody known signed. Nothing of it was decrypted yet.
pub struct Signed {
    store: Arc<dyn Store>,
    verified: Verified,
    sealed_manifest: Vec<u8>,
}

impl Signed {
    /// Reads envelope and sealed manifest and verifies them with one of `keys`.
    pub fn read(store: Arc<dyn Store>, keys: &[PublicKey]) -> Result<Self, ModelError> {
        let refused = |source| ModelError::Artifact { place: store.name(), source };
        let named = |name: &'static str| {
            let place = store.name();
            move |error| match error {
                SourceError::NotFound { .. } => ModelError::NotSealed { place, name },
                error => ModelError::Source(error),
            }
        };
        let envelope = store.envelope().map_err(named(ENVELOPE))?;
        let verified =
            Unverified::parse(&envelope).and_then(|envelope| envelope.verify(keys)).map_err(refused)?;
        let statement = verified.statement();
        let (expected, size) = (*statement.manifest_digest(), statement.manifest_size());
        let found = size.min(coffer_core_sealed_stream::MAX_MANIFEST);
        if found < size {
            return Err(refused(ArtifactError::ManifestTooLarge { found: size }));
        }
        let sealed_manifest = store.manifest(&expected, size).map_err(named(MANIFEST))?;
        let found = Digest::sha256(&sealed_manifest);
        if expected != found {
            let (expected, found) = (Box::new(expected), Box::new(found));
            return Err(refused(ArtifactError::Digest { expected, found }));
        }
        Ok(Self { store, verified, sealed_manifest })
    }

    /// What was verified.
    #[must_use]
    pub const fn verified(&self) -> &Verified {
        &self.verified
    }

    /// Opens the manifest.
    pub fn open(self, key: Key) -> Result<Model, ModelError> {
        match Artifact::open(self.verified, &self.sealed_manifest, key) {
            Ok(artifact) => Ok(Model { store: self.store, artifact }),
            Err(source) => Err(ModelError::Artifact { place: self.store.name(), source }),
        }
    }
}

/// A sealed model whose manifest is open.
pub struct Model {
    pub(crate) store: Arc<dyn Store>,
    artifact: Artifact,
}

impl Model {
    /// The manifest and the way to its files.
    #[must_use]
    pub const fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    /// Opens every file and keeps nothing of it.
    pub fn check(&self, job: &Job<'_>) -> Result<(), ModelError> {
        pipeline::run(&self.sealed(), None, job)
    }

    /// Writes every file to `destination`.
    pub fn unpack(
        &self,
        destination: &Destination,
        partial: Partial,
        job: &Job<'_>,
    ) -> Result<(), ModelError> {
        let (manifest, statement) = (self.artifact.manifest(), self.artifact.verified().digest());
        let mut place = Workplace::enter(destination, partial, statement, manifest)?;
        let kept = place.done();
        let mut result = pipeline::run(&self.sealed(), Some(&place), job);
        if kept > 0 && result.as_ref().is_err_and(|error| !error.is_passing()) {
            // What was kept may be what is bad: once more without it.
            place.begin_anew(statement)?;
            result = pipeline::run(&self.sealed(), Some(&place), job);
        }
        match result {
            Ok(()) => place.commit(manifest),
            Err(error) => {
                place.keep_if(error.is_passing());
                Err(error)
            }
        }
    }

    /// A file of the model, to read from anywhere and by several threads; make a `SeekReader` of it for loaders that
    /// want `Read + Seek`.
    ///
    /// Each segment is authenticated; that they are all of the stream that the manifest names, `Artifact::check_root`
    /// says.
    pub fn reader(&self, path: &str) -> Result<SharedReader<Arc<dyn Object>>, ModelError> {
        let listed = self.artifact.manifest().file(path);
        let Some(file) = listed else {
            let missing = ArtifactError::NotListed { path: path.chars().take(200).collect() };
            return Err(ModelError::File { file: path.chars().take(200).collect(), source: missing });
        };
        let object = self.sealed().object(file)?;
        self.artifact.shared(path, object).map_err(|error| ModelError::of_artifact(file, error))
    }

    /// Compares header and tags of every file with the manifest, without opening one: 16 bytes are read for each
    /// segment, by requests of their own, so this is for sources that are near.
    pub fn check_roots(&self) -> Result<(), ModelError> {
        for file in self.artifact.manifest().files() {
            let object = self.sealed().object(file)?;
            let checked = self.artifact.check_root(file.path().as_str(), &object);
            checked.map_err(|error| ModelError::of_artifact(file, error))?;
        }
        Ok(())
    }

    /// Whether reading waits for a network.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.store.is_remote()
    }

    fn sealed(&self) -> Sealed<'_> {
        Sealed { store: &*self.store, artifact: &self.artifact }
    }
}

/// Fills `buffer` with the plaintext from `offset` on, by as many threads; returns less than its length only at the
/// end of the stream. For engines that load a whole file at once.
pub fn fill_parallel<S: ReadAt + Sync>(
    reader: &SharedReader<S>,
    buffer: &mut [u8],
    offset: u64,
    threads: usize,
) -> io::Result<usize> {
    let layout = *reader.layout();
    let there = usize::try_from(layout.size().saturating_sub(offset)).unwrap_or(usize::MAX);
    let wanted = buffer.len().min(there);
    let share = wanted.div_ceil(threads.max(1)).max(1);
    // Cut where segments begin, so that none is opened twice.
    let cut = |at: usize| {
        let segment = layout.segment_at(offset + at as u64);
        let begins = segment.and_then(|own| layout.plain_range(own)).map_or(0, |range| range.start);
        usize::try_from(begins.saturating_sub(offset)).unwrap_or(at).min(wanted)
    };
    let mut cuts: Vec<usize> = (1..threads.max(1)).map(|part| cut((part * share).min(wanted))).collect();
    cuts.push(wanted);
    let mut rest = buffer.get_mut(..wanted).unwrap_or_default();
    let mut at = 0_usize;
    let failed = std::thread::scope(|scope| {
        let mut running = Vec::new();
        for cut in cuts {
            let (part, behind) = std::mem::take(&mut rest).split_at_mut(cut.saturating_sub(at).min(wanted));
            let begins = offset + at as u64;
            at += part.len();
            rest = behind;
            running.push(scope.spawn(move || match reader.read_at(part, begins) {
                Ok(read) if read == part.len() => Ok(()),
                Ok(_) => Err(StreamError::Io(io::ErrorKind::UnexpectedEof.into())),
                Err(error) => Err(error),
            }));
        }
        let ends = running.into_iter().map(|thread| thread.join().unwrap_or(Err(StreamError::Failed)));
        // All are joined before the first error is returned.
        ends.collect::<Vec<_>>().into_iter().find_map(Result::err)
    });
    match failed {
        Some(StreamError::Io(error)) => Err(error),
        Some(error) => Err(error.into()),
        None => Ok(wanted),
    }
}
