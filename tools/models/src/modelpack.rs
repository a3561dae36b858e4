//! A sealed folder as a CNCF ModelPack artifact, for registries.
//!
//! SPEC: CNCF model-spec, `docs/spec.md`, `docs/config.md` and `docs/annotations.md`; `docs/formats/sealed-stream.md`,
//! section 4. Layers are named as in a sealed folder, so tools that unpack artifacts by these names make one again.

use std::fs;
use std::path::{Path, PathBuf};

use coffer_core_digest::Digest;
use coffer_core_oci::{Descriptor, Manifest};
use coffer_guest_models::{BLOBS, ENVELOPE, FILE_PATH, MANIFEST, MODEL_ARTIFACT};
use serde_json::json;

use crate::SealError;
use crate::error::at;

const CONFIG: &str = "application/vnd.cncf.model.config.v1+json";
const WEIGHT: &str = "application/vnd.cncf.model.weight.v1.raw";
const WEIGHT_CONFIG: &str = "application/vnd.cncf.model.weight.config.v1.raw";
/// Where the broker has the key. A hint for people and tools: readers take it from the signed statement.
const KEY: &str = "io.coffer.sealed-stream.key";
/// The digest of the signed statement, likewise.
const STATEMENT: &str = "io.coffer.sealed-stream.statement";

/// What is to be written to a registry.
pub struct ModelPack {
    /// The manifest.
    pub manifest: Manifest,
    /// The bytes of its configuration.
    pub config: Vec<u8>,
    /// Each layer and where it is.
    pub files: Vec<(Descriptor, PathBuf)>,
}

/// Describes a folder that was just sealed.
pub fn model_pack(sealed: &Path, key: &str, statement: &Digest) -> Result<ModelPack, SealError> {
    let mut files = Vec::new();
    for (name, kind) in [(ENVELOPE, WEIGHT_CONFIG), (MANIFEST, WEIGHT_CONFIG)] {
        let path = sealed.join(name);
        let bytes = fs::read(&path).map_err(at(&path))?;
        files.push((named(Descriptor::of(kind, &bytes), name.into()), path));
    }
    let folder = sealed.join(BLOBS);
    let mut blobs = Vec::new();
    for entry in fs::read_dir(&folder).map_err(at(&folder))? {
        let path = entry.map_err(at(&folder))?.path();
        let hex = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let refuse = |why: String| SealError::Entry { path: path.clone(), why };
        // A blob is named by the digest that its sealer computed.
        let digest: Digest = format!("sha256:{hex}").parse().map_err(|why| refuse(format!("{why}")))?;
        let size = fs::metadata(&path).map_err(at(&path))?.len();
        blobs.push((named(Descriptor::new(WEIGHT, digest, size), format!("{BLOBS}/{hex}")), path));
    }
    // In the order of their names: the order of the files in the model is nobody's business.
    blobs.sort_by(|(_, one), (_, other)| one.cmp(other));
    files.append(&mut blobs);
    let digests: Vec<String> = files.iter().map(|(layer, _)| layer.digest.to_string()).collect();
    let config = json!({"descriptor": {}, "modelfs": {"type": "layers", "diffIds": digests}, "config": {}});
    let config = config.to_string().into_bytes();
    let layers = files.iter().map(|(layer, _)| layer.clone()).collect();
    let mut manifest = Manifest::new(Descriptor::of(CONFIG, &config), layers);
    manifest.artifact_type = Some(MODEL_ARTIFACT.into());
    manifest.annotations.insert(KEY.into(), key.into());
    manifest.annotations.insert(STATEMENT.into(), statement.to_string());
    Ok(ModelPack { manifest, config, files })
}

fn named(mut layer: Descriptor, name: String) -> Descriptor {
    layer.annotations.insert(FILE_PATH.into(), name);
    layer
}
