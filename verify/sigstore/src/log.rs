//! What a transparency log says of an entry: when it took it, and that the entry is in its tree.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_protocol::jcs;
use serde::Serialize;

use crate::bundle::Entry;
use crate::checkpoint;
use crate::error::SigstoreError;
use crate::merkle;
use crate::trust_root::{Log, TrustRoot};

/// What the log signs as its promise (Rekor's OpenAPI, `LogEntry.verification.signedEntryTimestamp`): its RFC 8785
/// form.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Promised {
    body: String,
    integrated_time: u64,
    #[serde(rename = "logID")]
    log_id: String,
    log_index: u64,
}

/// Verifies an entry and returns the time at which the log took it, in seconds since 1970.
pub(crate) fn verify(entry: &Entry, root: &TrustRoot) -> Result<i64, SigstoreError> {
    let id = entry.log_id.key_id.0;
    let at = i64::try_from(entry.integrated_time.0).unwrap_or(i64::MAX);
    let unknown = || SigstoreError::LogUnknown { found: hex::encode(id) };
    let same: Vec<&Log> = root.logs.iter().filter(|log| log.id == id).collect();
    let first = same.first().ok_or_else(unknown)?;
    // One log can stand there twice, with a window for each.
    let log = same.iter().find(|log| log.window.holds(at));
    let outside = || SigstoreError::LogWindow { at: time(at), window: first.window.to_string() };
    let log = log.ok_or_else(outside)?;
    verify_promise(entry, log)?;
    verify_inclusion(entry, log)?;
    Ok(at)
}

fn verify_promise(entry: &Entry, log: &Log) -> Result<(), SigstoreError> {
    let promise = entry.inclusion_promise.as_ref().ok_or(SigstoreError::PromiseMissing)?;
    let refused = || SigstoreError::PromiseSignature { log: hex::encode(log.id) };
    let promised = Promised {
        body: STANDARD.encode(&entry.canonicalized_body.0),
        integrated_time: entry.integrated_time.0,
        log_id: hex::encode(log.id),
        log_index: entry.log_index.0,
    };
    let message = jcs::canonical(&promised).map_err(|_| refused())?;
    match log.key.has_signed(&message, &promise.signed_entry_timestamp.0) {
        true => Ok(()),
        false => Err(refused()),
    }
}

fn verify_inclusion(entry: &Entry, log: &Log) -> Result<(), SigstoreError> {
    let proof = &entry.inclusion_proof;
    let (size, expected) = (proof.tree_size.0, proof.root_hash.0);
    let leaf = merkle::leaf(&entry.canonicalized_body.0);
    let found = merkle::root(leaf, proof.log_index.0, size, &proof.hashes)?;
    if found != expected {
        let (expected, found) = (hex::encode(expected), hex::encode(found));
        return Err(SigstoreError::InclusionRoot { expected, found });
    }
    let head = checkpoint::open(&proof.checkpoint.envelope, log)?;
    if head.size != size {
        return Err(SigstoreError::CheckpointSize { expected: size, found: head.size });
    }
    if head.root != expected {
        let (expected, found) = (hex::encode(expected), hex::encode(head.root));
        return Err(SigstoreError::CheckpointRoot { expected, found });
    }
    Ok(())
}

/// A time for an error's message: RFC 3339 if the calendar holds it.
pub(crate) fn time(at: i64) -> String {
    jiff::Timestamp::from_second(at).map_or_else(|_| at.to_string(), |stamp| stamp.to_string())
}
