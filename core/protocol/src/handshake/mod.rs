//! The handshake, as one state machine for each end. Bytes and time in, bytes out.
//!
//! INVARIANT: report data is made only here, over the nonce, the key and the device evidence together
//! (KBS protocol, "report data"), and both ends use the same function.
//! Left out: retries, sockets and cookies' transport, which are the programs'.

pub mod attester;
pub mod challenge;
pub mod relying_party;

#[cfg(test)]
mod tests;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ReportData;
use serde_json::{Map, Value};

use crate::b64;
use crate::jcs::{self, NotCanonical};
use crate::wire::RuntimeData;

/// The hash where no other was selected.
pub const DEFAULT_HASH: Algorithm = Algorithm::Sha384;

/// The hash algorithms that both our ends know, best known first.
pub const HASHES: [Algorithm; 3] = [Algorithm::Sha384, Algorithm::Sha512, Algorithm::Sha256];

/// What is hashed, as a JSON value: with device evidence for the machine's TEE, without it for the devices.
fn runtime_claims(runtime: &RuntimeData, additional: Option<&str>) -> Value {
    let mut members = Map::new();
    members.insert("nonce".into(), runtime.nonce.clone().into());
    members.insert("tee-pubkey".into(), runtime.tee_pubkey.clone());
    if let Some(additional) = additional {
        // The member is there even when the text is empty, so that leaving evidence out cannot go unseen.
        members.insert("additional-evidence".into(), additional.into());
    }
    Value::Object(members)
}

fn report_data(hash: Algorithm, claims: &Value) -> Result<ReportData, NotCanonical> {
    Ok(ReportData::from_runtime_hash(jcs::digest(hash, claims)?))
}

/// What recorded evidence must be bound to, given the runtime data that was sent with it: for the machine's TEE with
/// the devices' evidence, for devices without.
pub fn recorded_report_data(
    hash: Algorithm,
    runtime: &RuntimeData,
    additional: Option<&str>,
) -> Result<ReportData, NotCanonical> {
    report_data(hash, &runtime_claims(runtime, additional))
}

/// The name of an attempt: 32 hexadecimal digits that both ends and the log derive from the nonce.
pub fn attempt_id(nonce: &str) -> String {
    let bytes = b64::from_std(nonce).unwrap_or_else(|_| nonce.as_bytes().to_vec());
    Digest::sha256(&bytes).hex().chars().take(32).collect()
}
