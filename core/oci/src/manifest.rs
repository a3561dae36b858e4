//! Manifests, indexes and descriptors (OCI image specification 1.1; Docker's v2 schema 2 has the same shape).
//!
//! A document that has both `layers` and `manifests` could be read in two ways by two programs, one of which
//! checked a signature; it is refused (image-spec, `manifest.md`, on media type confusion).

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use serde::{Deserialize, Serialize};

use crate::media;

/// No manifest or index is read beyond this; registries enforce the same 4 MiB.
pub const MAX_DOCUMENT: usize = 4 << 20;
/// No manifest has more layers than any runtime can stack.
pub const MAX_LAYERS: usize = 1024;

/// Annotations of a descriptor, manifest or index.
pub type Annotations = BTreeMap<String, String>;

/// Why bytes are not a manifest or an index that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// More bytes than any honest document has.
    #[error("the manifest has {found} bytes; the limit is {MAX_DOCUMENT}")]
    TooLarge {
        /// The size found.
        found: usize,
    },
    /// Not JSON, or a member of the wrong type.
    #[error("the manifest is not readable: {0}")]
    Json(#[from] serde_json::Error),
    /// Neither `layers` nor `manifests`, or both.
    #[error("the document is {0}; expected exactly one of an image manifest and an image index")]
    Ambiguous(&'static str),
    /// `schemaVersion` is not 2.
    #[error("manifest schema version {0}; expected 2")]
    Schema(u32),
    /// `mediaType` says something else than the members do.
    #[error("the document says that it is {found:?}; expected {expected}")]
    MediaType {
        /// What the members say.
        expected: &'static str,
        /// What `mediaType` says.
        found: String,
    },
    /// A descriptor's digest is of an algorithm that OCI does not register.
    #[error("a descriptor's digest is {0}; expected SHA-256, SHA-384 or SHA-512")]
    Algorithm(Algorithm),
    /// More layers than can be stacked.
    #[error("the manifest has {0} layers; the limit is {MAX_LAYERS}")]
    Layers(usize),
    /// The index has no image for the platform.
    #[error("no image for {wanted}; the index has: {}", .found.join(", "))]
    Platform {
        /// The platform asked for, as in `linux/amd64`.
        wanted: String,
        /// The platforms that the index has.
        found: Vec<String>,
    },
}

/// The machine that an image is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `linux`, …
    pub os: String,
    /// `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform of our guests.
    pub fn linux_amd64() -> Self {
        Self { architecture: "amd64".into(), os: "linux".into(), variant: None }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// A reference to content by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size: u64,
    /// The machine that the content is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of an artifact manifest, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub annotations: Annotations,
}

impl Descriptor {
    /// A descriptor of `content`.
    pub fn of(media_type: &str, content: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256(content), content.len() as u64)
    }

    /// A descriptor of content that was hashed elsewhere.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }

    fn check(&self) -> Result<(), ManifestError> {
        match self.digest.algorithm() {
            Algorithm::Sha1 => Err(ManifestError::Algorithm(Algorithm::Sha1)),
            _ => Ok(()),
        }
    }
}

/// An image manifest: one configuration and its layers, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// What the document says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image's configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub annotations: Annotations,
}

impl Manifest {
    /// A new OCI manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media::OCI_MANIFEST.into()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Reads an image manifest; an index is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        match Document::parse(bytes)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(ManifestError::Ambiguous("an image index")),
        }
    }

    /// The manifest's bytes. The same manifest always gives the same bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// The media type under which a registry stores the manifest.
    pub fn stored_as(&self) -> &str {
        self.media_type.as_deref().unwrap_or(media::OCI_MANIFEST)
    }
}

/// An image index: one image for several platforms, or a layout's list of images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// What the document says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub annotations: Annotations,
}

impl Index {
    /// A new OCI index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media::OCI_INDEX.into()),
            manifests,
            annotations: BTreeMap::new(),
        }
    }

    /// The first image for `wanted`, without regard to the variant unless `wanted` names one.
    pub fn select(&self, wanted: &Platform) -> Result<&Descriptor, ManifestError> {
        let fits = |found: &Platform| {
            found.os == wanted.os
                && found.architecture == wanted.architecture
                && (wanted.variant.is_none() || found.variant == wanted.variant)
        };
        self.manifests.iter().find(|entry| entry.platform.as_ref().is_some_and(fits)).ok_or_else(|| {
            ManifestError::Platform {
                wanted: wanted.to_string(),
                found: self
                    .manifests
                    .iter()
                    .filter_map(|entry| entry.platform.as_ref().map(Platform::to_string))
                    .take(32)
                    .collect(),
            }
        })
    }
}

/// What a registry answers when it is asked for a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one is alive at a time, and is matched at once")]
pub enum Document {
    /// One image or artifact.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

/// Only the member names, to decide what the document is before it is read as that.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: u32,
    media_type: Option<String>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads an OCI or Docker manifest or index from hostile bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_DOCUMENT {
            return Err(ManifestError::TooLarge { found: bytes.len() });
        }
        let shape: Shape = serde_json::from_slice(bytes)?;
        if shape.schema_version != 2 {
            return Err(ManifestError::Schema(shape.schema_version));
        }
        let image = shape.layers.is_some() || shape.config.is_some();
        match (image, shape.manifests.is_some()) {
            (true, true) => Err(ManifestError::Ambiguous("a manifest and an index at once")),
            (false, false) => Err(ManifestError::Ambiguous("neither a manifest nor an index")),
            (true, false) => {
                agree(shape.media_type, [media::OCI_MANIFEST, media::DOCKER_MANIFEST])?;
                let manifest: Manifest = serde_json::from_slice(bytes)?;
                if manifest.layers.len() > MAX_LAYERS {
                    return Err(ManifestError::Layers(manifest.layers.len()));
                }
                manifest.config.check()?;
                manifest.layers.iter().try_for_each(Descriptor::check)?;
                Ok(Self::Manifest(manifest))
            }
            (false, true) => {
                agree(shape.media_type, [media::OCI_INDEX, media::DOCKER_LIST])?;
                let index: Index = serde_json::from_slice(bytes)?;
                index.manifests.iter().try_for_each(Descriptor::check)?;
                Ok(Self::Index(index))
            }
        }
    }
}

fn agree(found: Option<String>, expected: [&'static str; 2]) -> Result<(), ManifestError> {
    match found {
        Some(found) if !expected.contains(&found.as_str()) => {
            Err(ManifestError::MediaType { expected: expected[0], found: found.chars().take(128).collect() })
        }
        _ => Ok(()),
    }
}

/// Go programs write `null` for an empty map.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
