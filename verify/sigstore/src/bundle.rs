//! A bundle as it is sent (sigstore/protobuf-specs, `sigstore_bundle.proto` and `sigstore_rekor.proto`, v0.3).
//!
//! Reading believes nothing. Members that are not known are ignored, as ProtoJSON's readers do, except for the other
//! arms of a choice: a bundle that makes two choices is refused.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::SigstoreError;
use crate::limits::{MAX_BUNDLE, MAX_ENTRIES};
use crate::wire::{Bytes, Hash, Integer, shown};

/// A tree of 2^64 leaves has no longer path.
const MAX_PATH: usize = 64;
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A bundle: a signature with what is needed to verify it.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The signer's certificate in DER.
    pub(crate) certificate: Vec<u8>,
    /// One to [`MAX_ENTRIES`].
    pub(crate) entries: Vec<Entry>,
    pub(crate) content: Content,
}

/// What is signed, and the signature.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A DSSE envelope.
    Envelope { payload: Vec<u8>, payload_type: String, signature: Vec<u8> },
    /// A signature over the artifact itself, of which only the SHA-256 is here.
    Message { digest: [u8; 32], signature: Vec<u8> },
}

/// An entry of a transparency log.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// Over all shards of the log.
    #[serde(default)]
    pub(crate) log_index: Integer,
    pub(crate) log_id: LogId,
    pub(crate) kind_version: KindVersion,
    /// Seconds since 1970.
    #[serde(default)]
    pub(crate) integrated_time: Integer,
    #[serde(default)]
    pub(crate) inclusion_promise: Option<Promise>,
    pub(crate) inclusion_proof: Proof,
    pub(crate) canonicalized_body: Bytes,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogId {
    pub(crate) key_id: Hash,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct KindVersion {
    pub(crate) kind: String,
    pub(crate) version: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Promise {
    pub(crate) signed_entry_timestamp: Bytes,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Proof {
    /// Within the tree, which is one shard of the log.
    #[serde(default)]
    pub(crate) log_index: Integer,
    pub(crate) root_hash: Hash,
    pub(crate) tree_size: Integer,
    #[serde(default)]
    pub(crate) hashes: Vec<Hash>,
    pub(crate) checkpoint: Checkpoint,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) envelope: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Media {
    media_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
    message_signature: Option<MessageSignature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    certificate: Option<Certificate>,
    public_key: Option<IgnoredAny>,
    x509_certificate_chain: Option<IgnoredAny>,
    #[serde(default)]
    tlog_entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    raw_bytes: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: Bytes,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageSignature {
    message_digest: MessageDigest,
    signature: Bytes,
}

#[derive(Deserialize)]
struct MessageDigest {
    algorithm: String,
    digest: Hash,
}

impl Bundle {
    /// Reads a bundle of at most [`MAX_BUNDLE`] bytes.
    ///
    /// # Errors
    /// `sigstore.bundle.size`, `sigstore.bundle.media-type`, `sigstore.bundle.entries`, and
    /// `sigstore.bundle.malformed` for all else.
    pub fn parse(json: &[u8]) -> Result<Self, SigstoreError> {
        if json.len() > MAX_BUNDLE {
            return Err(SigstoreError::BundleSize { found: json.len() });
        }
        // The type comes first: of another version, nothing else can be said to be wrong.
        let media: Media = serde_json::from_slice(json).map_err(malformed)?;
        if media.media_type != MEDIA_TYPE {
            let found = shown(&media.media_type);
            return Err(SigstoreError::BundleMediaType { expected: MEDIA_TYPE, found });
        }
        let document: Document = serde_json::from_slice(json).map_err(malformed)?;
        let material = document.verification_material;
        let certificate = match (material.certificate, material.public_key, material.x509_certificate_chain) {
            (Some(certificate), None, None) => certificate.raw_bytes.0,
            _ => return Err(refused("expected verificationMaterial with certificate and no other key")),
        };
        let found = material.tlog_entries.len();
        if !(1..=MAX_ENTRIES).contains(&found) {
            return Err(SigstoreError::Entries { found });
        }
        if material.tlog_entries.iter().any(|entry| entry.inclusion_proof.hashes.len() > MAX_PATH) {
            return Err(refused("an inclusion proof has more than 64 hashes"));
        }
        let content = match (document.dsse_envelope, document.message_signature) {
            (Some(envelope), None) => of_envelope(envelope)?,
            (None, Some(message)) => of_message(message)?,
            _ => return Err(refused("expected one of dsseEnvelope and messageSignature")),
        };
        Ok(Self { certificate, entries: material.tlog_entries, content })
    }
}

fn of_envelope(envelope: Envelope) -> Result<Content, SigstoreError> {
    let Ok([signature]) = <[Signature; 1]>::try_from(envelope.signatures) else {
        return Err(refused("expected exactly one signature in dsseEnvelope"));
    };
    Ok(Content::Envelope {
        payload: envelope.payload.0,
        payload_type: envelope.payload_type,
        signature: signature.sig.0,
    })
}

fn of_message(message: MessageSignature) -> Result<Content, SigstoreError> {
    if message.message_digest.algorithm != "SHA2_256" {
        return Err(refused("expected messageDigest.algorithm SHA2_256"));
    }
    Ok(Content::Message { digest: message.message_digest.digest.0, signature: message.signature.0 })
}

fn malformed(cause: serde_json::Error) -> SigstoreError {
    // The message can quote the document's own text.
    refused(&shown(&cause.to_string()))
}

fn refused(why: &str) -> SigstoreError {
    SigstoreError::Bundle(why.to_owned())
}
