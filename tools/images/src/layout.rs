//! An OCI image layout on disk (image-spec 1.1, `image-layout.md`), written atomically.
//!
//! INVARIANT: `index.json` changes by one rename under a lock, after every blob that it leads to is complete
//! and on the disk; a blob appears under its digest only when it has that digest. Temporary files stand in
//! `.coffer/`, each locked by its writer, so that those of a killed program are known and swept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use coffer_core_digest::{Algorithm, Digest, Hasher};
use coffer_core_oci::manifest::MAX_DOCUMENT;
use coffer_core_oci::simple_signing::{signature_tag, signed_by_tag};
use coffer_core_oci::{Descriptor, Document, Index, media};
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

use crate::error::{ImageError, at};

/// The annotation of an index entry that holds its tag.
const TAG: &str = "org.opencontainers.image.ref.name";
const WORK: &str = ".coffer";

/// An OCI image layout.
#[derive(Clone, Debug)]
pub struct Layout {
    directory: PathBuf,
}

impl Layout {
    /// Opens a layout that is there.
    pub fn open(directory: &Path) -> Result<Self, ImageError> {
        let refuse = |why: String| ImageError::Layout { directory: directory.into(), why };
        let text = match fs::read(directory.join("oci-layout")) {
            Ok(text) if text.len() <= 4096 => text,
            Ok(_) => return Err(refuse("its file oci-layout is not one".into())),
            Err(error) => return Err(refuse(format!("oci-layout: {error}"))),
        };
        let marker: Value =
            serde_json::from_slice(&text).map_err(|error| refuse(format!("oci-layout: {error}")))?;
        match marker.get("imageLayoutVersion").and_then(Value::as_str) {
            Some("1.0.0") => Ok(Self { directory: directory.into() }),
            other => Err(refuse(format!("layout version {other:?}; expected 1.0.0"))),
        }
    }

    /// Opens a layout, or makes one where there is nothing yet.
    pub fn create(directory: &Path) -> Result<Self, ImageError> {
        let marker = directory.join("oci-layout");
        if !marker.exists() {
            let occupied = fs::read_dir(directory).is_ok_and(|mut entries| {
                entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != WORK))
            });
            if occupied && !directory.join("blobs").exists() {
                let why = "the directory holds other files".into();
                return Err(ImageError::Layout { directory: directory.into(), why });
            }
            let layout = Self { directory: directory.into() };
            let _lock = layout.lock()?;
            fs::create_dir_all(directory.join("blobs/sha256")).map_err(at(directory))?;
            let index = directory.join("index.json");
            if !index.exists() {
                layout.replace(&index, empty_index().to_string().as_bytes())?;
            }
            layout.replace(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        let layout = Self::open(directory)?;
        layout.sweep()?;
        Ok(layout)
    }

    /// An empty layout that goes away with what is returned beside it.
    pub(crate) fn create_temporary() -> Result<(Self, TempDir), ImageError> {
        let parent = std::env::temp_dir();
        let temporary = tempfile::Builder::new().prefix("coffer-image-").tempdir().map_err(at(&parent))?;
        Ok((Self::create(temporary.path())?, temporary))
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a blob is, if the layout has it.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// The list of images.
    pub fn index(&self) -> Result<Index, ImageError> {
        let path = self.directory.join("index.json");
        let bytes = read_bounded(&path, MAX_DOCUMENT as u64)?;
        match Document::parse(&bytes)? {
            Document::Index(index) => Ok(index),
            Document::Manifest(_) => {
                let why = "index.json is a manifest".into();
                Err(ImageError::Layout { directory: self.directory.clone(), why })
            }
        }
    }

    /// The tags, signatures excepted.
    pub fn tags(&self) -> Result<Vec<String>, ImageError> {
        let index = self.index()?;
        Ok(index
            .manifests
            .iter()
            .filter_map(|entry| entry.annotations.get(TAG))
            .filter(|tag| signed_by_tag(tag).is_none())
            .cloned()
            .collect())
    }

    /// The entry with a tag or digest; without a name, the only image.
    pub fn find(&self, name: Option<&str>) -> Result<Descriptor, ImageError> {
        let index = self.index()?;
        let tag = |entry: &Descriptor| entry.annotations.get(TAG).cloned();
        let is_image = |entry: &Descriptor| tag(entry).is_none_or(|tag| signed_by_tag(&tag).is_none());
        let found = match name {
            Some(name) => index
                .manifests
                .iter()
                .find(|entry| tag(entry).as_deref() == Some(name))
                .or_else(|| index.manifests.iter().find(|entry| entry.digest.to_string() == name)),
            None => {
                let mut images = index.manifests.iter().filter(|entry| is_image(entry));
                images.next().filter(|first| images.all(|other| other.digest == first.digest))
            }
        };
        found.cloned().ok_or_else(|| ImageError::NotFound {
            name: name.unwrap_or("(no tag given)").into(),
            place: format!("oci:{}", self.directory.display()),
            found: index.manifests.iter().filter(|entry| is_image(entry)).filter_map(tag).take(16).collect(),
        })
    }

    /// The signature artifact of a manifest, if there is one.
    pub fn signatures(&self, manifest: &Digest) -> Result<Option<Descriptor>, ImageError> {
        match self.find(Some(&signature_tag(manifest))) {
            Ok(found) => Ok(Some(found)),
            Err(ImageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a small blob whole and checks its digest.
    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let path = self.blob_path(digest);
        let bytes = read_bounded(&path, MAX_DOCUMENT as u64)?;
        let found = Digest::of(digest.algorithm(), &bytes);
        if found == *digest { Ok(bytes) } else { Err(changed(digest, found)) }
    }

    /// Whether the blob is there with the right size and content.
    pub fn has(&self, descriptor: &Descriptor) -> Result<bool, ImageError> {
        let path = self.blob_path(&descriptor.digest);
        let Ok(mut file) = File::open(&path) else { return Ok(false) };
        if file.metadata().map_err(at(&path))?.len() != descriptor.size {
            return Ok(false);
        }
        Ok(hash(descriptor.digest.algorithm(), &mut file).map_err(at(&path))? == descriptor.digest)
    }

    /// Begins a blob that will have a SHA-256 digest.
    pub fn writer(&self) -> Result<BlobWriter, ImageError> {
        self.writer_with(Algorithm::Sha256)
    }

    /// Begins a blob.
    pub(crate) fn writer_with(&self, algorithm: Algorithm) -> Result<BlobWriter, ImageError> {
        let _lock = self.lock()?;
        let file = self.temporary()?;
        Ok(BlobWriter { layout: self.clone(), file, hasher: Hasher::new(algorithm), size: 0 })
    }

    /// Writes a small blob.
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, ImageError> {
        let mut writer = self.writer()?;
        writer.write_all(bytes).map_err(at(&self.directory))?;
        let (digest, size) = writer.commit(None)?;
        Ok(Descriptor::new(media_type, digest, size))
    }

    /// Gives a manifest a tag, which it takes from whatever had it.
    pub fn tag(&self, manifest: &Descriptor, tag: &str) -> Result<(), ImageError> {
        let _lock = self.lock()?;
        let path = self.directory.join("index.json");
        let bytes = read_bounded(&path, MAX_DOCUMENT as u64)?;
        let refuse = |why: String| ImageError::Layout { directory: self.directory.clone(), why };
        // Edited as JSON, so that what other tools wrote beside it stays.
        let mut index: Value =
            serde_json::from_slice(&bytes).map_err(|error| refuse(format!("index.json: {error}")))?;
        let entries = index
            .get_mut("manifests")
            .and_then(Value::as_array_mut)
            .ok_or_else(|| refuse("index.json has no list of manifests".into()))?;
        entries.retain(|entry| {
            let other = entry.get("annotations").and_then(|all| all.get(TAG)).and_then(Value::as_str);
            other != Some(tag)
        });
        let mut entry = manifest.clone();
        entry.annotations.insert(TAG.into(), tag.into());
        entries.push(serde_json::to_value(entry).map_err(|error| refuse(error.to_string()))?);
        self.replace(&path, index.to_string().as_bytes())
    }

    fn lock(&self) -> Result<File, ImageError> {
        let work = self.directory.join(WORK);
        fs::create_dir_all(&work).map_err(at(&work))?;
        let path = work.join("lock");
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
        file.lock().map_err(at(&path))?;
        Ok(file)
    }

    /// A temporary file, locked; the caller holds the layout's lock.
    fn temporary(&self) -> Result<NamedTempFile, ImageError> {
        let work = self.directory.join(WORK);
        let file = tempfile::Builder::new().prefix("part-").tempfile_in(&work).map_err(at(&work))?;
        file.as_file().lock().map_err(at(file.path()))?;
        Ok(file)
    }

    /// Deletes what programs that were killed left behind.
    fn sweep(&self) -> Result<(), ImageError> {
        let _lock = self.lock()?;
        let work = self.directory.join(WORK);
        for entry in fs::read_dir(&work).map_err(at(&work))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("part-") {
                let path = entry.path();
                let abandoned = File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
                if abandoned {
                    fs::remove_file(&path).map_err(at(&path))?;
                }
            }
        }
        Ok(())
    }

    /// Replaces a file in one step; the caller holds the layout's lock.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
        let mut file = self.temporary()?;
        file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(at(path))?;
        publish(file, path)
    }
}

fn publish(file: NamedTempFile, path: &Path) -> Result<(), ImageError> {
    set_readable(file.as_file()).map_err(at(path))?;
    file.persist(path).map_err(|error| at(path)(error.error))?;
    match path.parent() {
        Some(parent) => File::open(parent).and_then(|directory| directory.sync_all()).map_err(at(parent)),
        None => Ok(()),
    }
}

/// Temporary files are private; a layout is ciphertext and public words, which other programs read.
fn set_readable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

fn empty_index() -> Value {
    json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [] })
}

pub(crate) fn changed(expected: &Digest, found: Digest) -> ImageError {
    ImageError::Digest { expected: Box::new(*expected), found: Box::new(found) }
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(at(path))?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(at(path))?;
    if bytes.len() as u64 > limit {
        let source = io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes"));
        return Err(ImageError::File { path: path.into(), source });
    }
    Ok(bytes)
}

pub(crate) fn hash(algorithm: Algorithm, reader: &mut dyn Read) -> io::Result<Digest> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A blob that is being written. Dropped before [`BlobWriter::commit`], it leaves nothing.
pub struct BlobWriter {
    layout: Layout,
    file: NamedTempFile,
    hasher: Hasher,
    size: u64,
}

impl BlobWriter {
    /// Puts the blob under its digest, in place of whatever was there.
    pub fn commit(self, expected: Option<&Digest>) -> Result<(Digest, u64), ImageError> {
        let found = self.hasher.finish();
        if let Some(expected) = expected
            && *expected != found
        {
            return Err(changed(expected, found));
        }
        let path = self.layout.blob_path(&found);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        self.file.as_file().sync_all().map_err(at(&path))?;
        publish(self.file, &path)?;
        Ok((found, self.size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
