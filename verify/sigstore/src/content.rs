//! The signature itself, and what it is over: an in-toto statement in a DSSE envelope, or the artifact.

use std::collections::BTreeMap;

use coffer_core_digest::Digest;
use serde::Deserialize;

use crate::bundle::Content;
use crate::error::SigstoreError;
use crate::key::{Key, Kind};
use crate::wire::shown;

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The in-toto attestation framework's `Statement`, v1 and v0.1.
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];

/// An in-toto statement about the artifact, as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub(crate) predicate_type: String,
    pub(crate) payload: Vec<u8>,
}

impl Statement {
    /// What kind of predicate it makes.
    #[must_use]
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// The whole statement in JSON.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

/// Verifies that the key signed the content, and that it is about the artifact, which is named by SHA-256.
pub(crate) fn verify(
    content: &Content,
    key: &Key,
    artifact: &Digest,
) -> Result<Option<Statement>, SigstoreError> {
    match content {
        Content::Message { digest, signature } => message(digest, signature, key, artifact).map(|()| None),
        Content::Envelope { payload, payload_type, signature } => {
            if payload_type != PAYLOAD_TYPE {
                let found = shown(payload_type);
                return Err(SigstoreError::PayloadType { expected: PAYLOAD_TYPE, found });
            }
            if !key.has_signed(&pre_authentication_encoding(payload_type, payload), signature) {
                return Err(SigstoreError::Signature { key: key.kind().name() });
            }
            statement(payload, artifact).map(Some)
        }
    }
}

fn message(digest: &[u8; 32], signature: &[u8], key: &Key, artifact: &Digest) -> Result<(), SigstoreError> {
    if artifact.as_bytes() != digest {
        let found = format!("sha256:{}", hex::encode(digest));
        return Err(SigstoreError::Artifact { expected: artifact.to_string(), found });
    }
    // Ed25519 signs messages (RFC 8032, section 5.1.6), and only the artifact's hash is at hand.
    if key.kind() == Kind::Ed25519 {
        let expected =
            "ECDSA P-256, ECDSA P-384 or RSA, whose signatures can be verified by the artifact's hash";
        return Err(SigstoreError::Key { expected, found: key.kind().name().to_owned() });
    }
    match key.has_signed_sha256(digest, signature) {
        true => Ok(()),
        false => Err(SigstoreError::Signature { key: key.kind().name() }),
    }
}

/// PAE of the DSSE protocol, "Signature Definition".
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

fn statement(payload: &[u8], artifact: &Digest) -> Result<Statement, SigstoreError> {
    let malformed = |cause: serde_json::Error| SigstoreError::Statement(shown(&cause.to_string()));
    let document: Document = serde_json::from_slice(payload).map_err(malformed)?;
    if !STATEMENTS.contains(&document.kind.as_str()) {
        let [v1, v0] = STATEMENTS;
        let found = shown(&document.kind);
        return Err(SigstoreError::Statement(format!("expected _type {v1:?} or {v0:?}, found {found:?}")));
    }
    let hex = artifact.hex();
    let is_artifact = |one: &Subject| one.digest.get("sha256") == Some(&hex);
    if !document.subject.iter().any(is_artifact) {
        let found = format!("a statement about {} other subjects", document.subject.len());
        return Err(SigstoreError::Artifact { expected: artifact.to_string(), found });
    }
    Ok(Statement { predicate_type: document.predicate_type, payload: payload.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_that_of_the_protocol_s_example() {
        // DSSE protocol, "Signature Definition" and the test vector of its repository.
        let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }
}
