//! From a folder to a sealed one.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use coffer_core_digest::Digest;
use coffer_core_protocol::uri::ResourceUri;
use coffer_core_sealed_stream::{
    ArtifactError, ArtifactId, AssociatedData, FileEntry, Key, Manifest, Sealer, SegmentSize, Signature,
    Statement, StreamError,
};
use coffer_guest_models::{BLOBS, ENVELOPE, MANIFEST};
use zeroize::Zeroizing;

use crate::error::{SealError, at, of};
use crate::fresh::Fresh;
use crate::tree::{self, Source};
use crate::work::{Counter, Progress, each};

/// What to seal with.
pub struct Options<'a> {
    /// The key.
    pub key: &'a Key,
    /// Where guests will ask for it.
    pub key_uri: ResourceUri,
    /// How much is read at once at the least.
    pub segment_size: SegmentSize,
}

/// A model that was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedModel {
    /// Its id.
    pub artifact: ArtifactId,
    /// The digest of its statement, for policies that mean this one and no other.
    pub statement: Digest,
    /// How many files.
    pub files: usize,
    /// Bytes of plaintext.
    pub size: u64,
    /// Bytes of ciphertext, with the manifest.
    pub sealed_size: u64,
}

/// How many files below `folder` would be sealed, and how many bytes; or what of it cannot be.
///
/// To be asked before a key is made that would be left without use.
pub fn survey(folder: &Path) -> Result<(usize, u64), SealError> {
    let sources = tree::read(folder)?;
    Ok((sources.len(), sources.iter().map(|source| source.size).sum()))
}

/// Seals every file below `folder` and writes the artifact to `destination`, which must not exist.
///
/// `sign` gets the statement when everything else is written.
pub fn seal(
    folder: &Path,
    destination: &Path,
    options: Options<'_>,
    sign: impl FnOnce(&Statement) -> Result<Signature, SealError>,
    progress: &Progress<'_>,
) -> Result<SealedModel, SealError> {
    let refused = |source| SealError::Artifact { folder: destination.into(), source };
    let artifact = ArtifactId::random().map_err(|error| refused(StreamError::from(error).into()))?;
    let sources = tree::read(folder)?;
    let fresh = Fresh::create(destination)?;
    let blobs = fresh.path().join(BLOBS);
    fs::create_dir(&blobs).map_err(at(&blobs))?;
    let counter = Counter::new(sources.iter().map(|source| source.size).sum(), progress);
    let entries = each(&sources, |source| seal_file(source, &artifact, &blobs, &options, &counter))?;
    File::open(&blobs).and_then(|folder| folder.sync_all()).map_err(at(&blobs))?;
    let size = entries.iter().map(|entry| entry.layout().size()).sum();
    let sealed_size: u64 = entries.iter().map(|entry| entry.layout().sealed_size()).sum();
    let files = entries.len();
    let manifest =
        Manifest::new(artifact, options.key_uri, options.segment_size, entries).map_err(refused)?;
    let (sealed_manifest, statement) = manifest.seal(options.key).map_err(refused)?;
    write(&fresh.path().join(MANIFEST), &sealed_manifest)?;
    let envelope = statement.envelope(&[sign(&statement)?]).map_err(refused)?;
    write(&fresh.path().join(ENVELOPE), &envelope)?;
    public(&blobs)?;
    public(fresh.path())?;
    fresh.commit()?;
    let statement = Digest::sha256(&statement.to_bytes().map_err(refused)?);
    let sealed_size = sealed_size + sealed_manifest.len() as u64;
    Ok(SealedModel { artifact, statement, files, size, sealed_size })
}

fn seal_file(
    source: &Source,
    artifact: &ArtifactId,
    blobs: &Path,
    options: &Options<'_>,
    counter: &Counter<'_>,
) -> Result<FileEntry, SealError> {
    let name = source.path.as_str();
    let mut reader = File::open(&source.file).map_err(at(&source.file))?;
    let mut blob = tempfile::Builder::new().prefix(".").tempfile_in(blobs).map_err(at(blobs))?;
    let place = blob.path().to_path_buf();
    let data = AssociatedData::file(artifact, &source.path);
    let mut sealer = Sealer::new(blob.as_file_mut(), options.key, &data, options.segment_size)
        .map_err(of(name, &place))?;
    let mut piece = Zeroizing::new(vec![0; options.segment_size.bytes() as usize]);
    loop {
        let read = match reader.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(at(&source.file)(error)),
        };
        sealer.write_all(&piece[..read]).map_err(StreamError::from_read).map_err(of(name, &place))?;
        counter.add(read);
    }
    let (sealed, _) = sealer.finish().map_err(of(name, &place))?;
    blob.as_file().sync_all().map_err(at(&place))?;
    readable(blob.as_file(), &place)?;
    let own = blobs.join(sealed.digest.hex());
    blob.persist(&own).map_err(|error| at(&own)(error.error))?;
    let entry = FileEntry::new(source.path.clone(), source.executable, options.segment_size, &sealed);
    entry.map_err(|source: ArtifactError| SealError::File { file: name.into(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), SealError> {
    let mut file = File::create_new(path).map_err(at(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(path))?;
    readable(&file, path)
}

/// Ciphertext is for everybody; temporary files and folders are made for their owner alone.
fn readable(file: &File, path: &Path) -> Result<(), SealError> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(at(path))
}

fn public(folder: &Path) -> Result<(), SealError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(at(folder))
}
