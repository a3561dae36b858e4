//! An OCI image layout that holds a ModelPack artifact (image-spec 1.1, `image-layout.md`; CNCF model-spec).
//!
//! The envelope is found by its annotation; everything else by its digest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_oci::manifest::MAX_DOCUMENT;
use coffer_core_oci::{Descriptor, Document, Manifest};
use coffer_core_sealed_stream::MAX_ENVELOPE;

use super::{Object, Store, folder};
use crate::{ENVELOPE, FILE_PATH, MODEL_ARTIFACT, SourceError};

const TAG: &str = "org.opencontainers.image.ref.name";

pub(crate) struct Layout {
    folder: PathBuf,
    envelope: Descriptor,
}

impl Layout {
    pub(crate) fn open(path: &Path, tag: Option<&str>) -> Result<Self, SourceError> {
        let place = format!("oci:{}", path.display());
        let refuse =
            |what: &str, why: String| SourceError::Document { place: place.clone(), what: what.into(), why };
        let text = folder::bounded(&path.join("index.json"), MAX_DOCUMENT as u64)?;
        let index = match Document::parse(&text) {
            Ok(Document::Index(index)) => index,
            Ok(Document::Manifest(_)) => return Err(refuse("index.json", "it is a manifest".into())),
            Err(why) => return Err(refuse("index.json", why.to_string())),
        };
        let mut entries = index
            .manifests
            .iter()
            .filter(|entry| tag.is_none_or(|tag| entry.annotations.get(TAG).is_some_and(|own| own == tag)));
        let entry = match (entries.next(), entries.next()) {
            (Some(entry), None) => entry,
            (None, _) => {
                let what = tag.map_or("artifact".into(), |tag| format!("tag {tag}"));
                return Err(SourceError::NotFound { place, what });
            }
            _ => return Err(refuse("index.json", "it has several artifacts; name the tag".into())),
        };
        let bytes = folder::bounded(&blob(path, &entry.digest), MAX_DOCUMENT as u64)?;
        if Digest::of(entry.digest.algorithm(), &bytes) != entry.digest {
            return Err(refuse("the manifest", "its digest is not the one in the index".into()));
        }
        let envelope = envelope_of(&bytes).map_err(|why| refuse("the manifest", why))?;
        Ok(Self { folder: path.into(), envelope })
    }
}

impl Store for Layout {
    fn name(&self) -> String {
        format!("oci:{}", self.folder.display())
    }

    fn envelope(&self) -> Result<Vec<u8>, SourceError> {
        folder::bounded(&blob(&self.folder, &self.envelope.digest), MAX_ENVELOPE as u64)
    }

    fn manifest(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, SourceError> {
        folder::bounded(&blob(&self.folder, digest), size)
    }

    fn stream(&self, digest: &Digest, size: u64) -> Result<Arc<dyn Object>, SourceError> {
        folder::whole(&blob(&self.folder, digest), size)
    }

    fn is_remote(&self) -> bool {
        false
    }
}

/// A digest has a known algorithm and hexadecimal digits, so the path cannot leave the folder.
fn blob(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("blobs").join(digest.algorithm().name()).join(digest.hex())
}

/// Where the envelope is, according to a ModelPack manifest.
pub(super) fn envelope_of(bytes: &[u8]) -> Result<Descriptor, String> {
    let manifest = Manifest::parse(bytes).map_err(|why| why.to_string())?;
    let kind = manifest.artifact_type.as_deref().unwrap_or("none");
    if kind != MODEL_ARTIFACT {
        return Err(format!("its artifact type is {kind}; expected {MODEL_ARTIFACT}"));
    }
    let named = |layer: &&Descriptor| layer.annotations.get(FILE_PATH).is_some_and(|name| name == ENVELOPE);
    let found = manifest.layers.iter().find(named).ok_or(format!("no layer of it is named {ENVELOPE}"))?;
    if found.digest.algorithm() != Algorithm::Sha256 {
        return Err(format!("the envelope's digest is {}; expected sha256", found.digest.algorithm()));
    }
    Ok(found.clone())
}
