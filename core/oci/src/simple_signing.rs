//! The simple-signing payload that cosign signs (containers/image, `docs/atomic-signature.md`; cosign's
//! signature specification), the tag under which signatures are kept, and why one is refused.

use coffer_core_digest::{Algorithm, Digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The value of `critical.type`.
pub const TYPE: &str = "cosign container image signature";
/// The annotation of the signature layer that holds the signature.
pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// No payload is read beyond this.
pub const MAX_PAYLOAD: usize = 64 << 10;

/// Why a signature does not show that an image is signed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignatureError {
    /// The signature was made by another key, or over other bytes.
    #[error("the signature was not made by key {key}")]
    WrongKey {
        /// The fingerprint of the key that was expected: SHA-256 of its SubjectPublicKeyInfo.
        key: String,
    },
    /// The signature is good, but over another image.
    #[error("the signature is for another image: expected {expected}, found {found}")]
    WrongDigest {
        /// The manifest that should be signed.
        expected: Box<Digest>,
        /// The manifest that is signed.
        found: Box<Digest>,
    },
    /// The signature or payload is not readable.
    #[error("the signature is malformed: {0}")]
    Malformed(String),
    /// The public key is not readable or of a kind that is not accepted.
    #[error("the public key cannot be used: {0}")]
    Key(String),
    /// There is no signature at all.
    #[error("the image has no signature")]
    Missing,
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// What the signature is about.
    pub critical: Critical,
    /// Informative members.
    #[serde(default)]
    pub optional: Option<Value>,
}

/// What the signature is about. A member that is not known could narrow its meaning, so it is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Critical {
    /// The name under which the image was signed.
    #[serde(default)]
    pub identity: Identity,
    /// The manifest.
    pub image: Image,
    /// [`TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
}

/// The name under which an image was signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// As in `registry.example/app`.
    #[serde(default, rename = "docker-reference")]
    pub docker_reference: String,
}

/// The manifest that was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its digest.
    #[serde(rename = "docker-manifest-digest")]
    pub docker_manifest_digest: Digest,
}

impl Payload {
    /// The payload for `manifest`, signed under `name` (may be empty).
    pub fn new(manifest: Digest, name: &str) -> Self {
        Self {
            critical: Critical {
                identity: Identity { docker_reference: name.into() },
                image: Image { docker_manifest_digest: manifest },
                kind: TYPE.into(),
            },
            optional: None,
        }
    }

    /// Reads a payload from hostile bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignatureError> {
        if bytes.len() > MAX_PAYLOAD {
            return Err(SignatureError::Malformed("the payload is larger than 64 KiB".into()));
        }
        let payload: Self = serde_json::from_slice(bytes)
            .map_err(|error| SignatureError::Malformed(format!("the payload is not readable: {error}")))?;
        if payload.critical.kind != TYPE {
            let found: String = payload.critical.kind.chars().take(64).collect();
            return Err(SignatureError::Malformed(format!(
                "the payload's type is {found:?}; expected {TYPE:?}"
            )));
        }
        Ok(payload)
    }

    /// The bytes to sign.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SignatureError> {
        serde_json::to_vec(self)
            .map_err(|error| SignatureError::Malformed(format!("the payload cannot be written: {error}")))
    }
}

/// The tag of a manifest's signatures: `sha256-<hex>.sig`.
pub fn signature_tag(manifest: &Digest) -> String {
    format!("{}-{}.sig", manifest.algorithm(), manifest.hex())
}

/// The manifest that a signature tag is about, if the tag is one.
pub fn signed_by_tag(tag: &str) -> Option<Digest> {
    let (algorithm, hex) = tag.strip_suffix(".sig")?.split_once('-')?;
    let algorithm: Algorithm = algorithm.parse().ok()?;
    format!("{algorithm}:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_has_the_form_that_cosign_writes() {
        let payload = Payload::new(Digest::sha256(b""), "registry.example/app");
        let text = String::from_utf8(payload.to_bytes().unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"critical":{"identity":{"docker-reference":"registry.example/app"},"image":{"docker-manifest-digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},"type":"cosign container image signature"},"optional":null}"#
        );
        assert_eq!(Payload::parse(text.as_bytes()).unwrap(), payload);
    }

    #[test]
    fn other_type_and_unknown_critical_member_are_refused() {
        let good = String::from_utf8(Payload::new(Digest::sha256(b""), "").to_bytes().unwrap()).unwrap();
        for twin in [
            good.replace(TYPE, "atomic container signature"),
            good.replace("\"critical\":{", "\"critical\":{\"only-in\":\"staging\","),
            good.replace("docker-manifest-digest", "digest"),
        ] {
            assert!(matches!(Payload::parse(twin.as_bytes()), Err(SignatureError::Malformed(_))), "{twin}");
        }
    }

    #[test]
    fn signature_tag_names_the_manifest() {
        let digest = Digest::sha256(b"");
        assert_eq!(signed_by_tag(&signature_tag(&digest)), Some(digest));
        assert_eq!(signed_by_tag("sha256-00.sig"), None);
        assert_eq!(signed_by_tag("latest"), None);
    }
}
