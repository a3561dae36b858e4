//! The body of a log entry: that the log took this certificate's signature over this content, and no other.
//!
//! Kinds are Rekor's `hashedrekord` 0.0.1 for messages and `dsse` 0.0.1 for envelopes. The log's hash of the whole
//! envelope is not compared: it is over JSON that the bundle does not keep, and payload, signature and certificate are.

use coffer_verify_x509::{Certificate, pem_certificates};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::bundle::{Content, Entry};
use crate::error::SigstoreError;
use crate::key::sha256;
use crate::wire::{Bytes, shown};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    api_version: String,
    kind: String,
}

#[derive(Deserialize)]
struct Body<T> {
    spec: T,
}

#[derive(Deserialize)]
struct HashedRekord {
    data: Data,
    signature: MessageSignature,
}

#[derive(Deserialize)]
struct Data {
    hash: Hash,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageSignature {
    content: Bytes,
    public_key: PublicKey,
}

#[derive(Deserialize)]
struct PublicKey {
    content: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse {
    payload_hash: Hash,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    signature: Bytes,
    verifier: Bytes,
}

/// What an entry of either kind says.
struct Said {
    hash: Hash,
    signature: Vec<u8>,
    /// A certificate in PEM.
    verifier: Vec<u8>,
}

/// Verifies that the entry's body is about the certificate and the content.
pub(crate) fn verify(entry: &Entry, leaf: &Certificate, content: &Content) -> Result<(), SigstoreError> {
    let (said, hash, signature) = match content {
        Content::Message { digest, signature } => {
            let said: HashedRekord = spec(entry, "hashedrekord 0.0.1")?;
            let (content, verifier) = (said.signature.content.0, said.signature.public_key.content.0);
            (Said { hash: said.data.hash, signature: content, verifier }, *digest, signature)
        }
        Content::Envelope { payload, signature, .. } => {
            let said: Dsse = spec(entry, "dsse 0.0.1")?;
            let Ok([one]) = <[EnvelopeSignature; 1]>::try_from(said.signatures) else {
                return Err(SigstoreError::Entry("expected exactly one signature".to_owned()));
            };
            let (content, verifier) = (one.signature.0, one.verifier.0);
            (Said { hash: said.payload_hash, signature: content, verifier }, sha256(payload), signature)
        }
    };
    let expected = hex::encode(hash);
    if said.hash.algorithm != "sha256" || said.hash.value != expected {
        let found = shown(&format!("{}:{}", said.hash.algorithm, said.hash.value));
        return Err(SigstoreError::EntryHash { expected: format!("sha256:{expected}"), found });
    }
    if said.signature != *signature {
        return Err(SigstoreError::EntrySignature);
    }
    match pem_certificates(&said.verifier).as_deref() {
        Ok([one]) if one == leaf.der() => Ok(()),
        _ => Err(SigstoreError::EntryCertificate),
    }
}

/// The entry's content, if it is of the kind, in the body and in the bundle.
fn spec<T: DeserializeOwned>(entry: &Entry, expected: &'static str) -> Result<T, SigstoreError> {
    let body = entry.canonicalized_body.0.as_slice();
    let malformed = |cause: serde_json::Error| SigstoreError::Entry(shown(&cause.to_string()));
    let kind: Kind = serde_json::from_slice(body).map_err(malformed)?;
    let said = format!("{} {}", entry.kind_version.kind, entry.kind_version.version);
    for found in [format!("{} {}", kind.kind, kind.api_version), said] {
        if found != expected {
            return Err(SigstoreError::EntryKind { expected, found: shown(&found) });
        }
    }
    Ok(serde_json::from_slice::<Body<T>>(body).map_err(malformed)?.spec)
}
