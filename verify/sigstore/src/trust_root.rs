//! The trust root: whose logs and authorities are believed, and when (sigstore/protobuf-specs,
//! `sigstore_trustroot.proto`).
//!
//! Logs with keys of kinds that are not used here are left out, so what they say is not believed. What is left in
//! must be well-formed. Left out: timestamp authorities.

use coffer_verify_x509::Certificate;
use serde::Deserialize;

use crate::error::SigstoreError;
use crate::key::{Key, Kind};
use crate::limits::MAX_TRUST_ROOT;
use crate::wire::{Bytes, Hash, shown};

const MAX_LOGS: usize = 64;
const MAX_AUTHORITIES: usize = 16;
const MAX_CHAIN: usize = 8;
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot+json;version=0.1";

/// The logs and authorities that are believed.
#[derive(Clone, Debug)]
pub struct TrustRoot {
    pub(crate) logs: Vec<Log>,
    pub(crate) authorities: Vec<Authority>,
    pub(crate) ct_logs: Vec<Log>,
}

/// A transparency log's or CT log's key.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) id: [u8; 32],
    pub(crate) key: Key,
    pub(crate) window: Window,
}

/// A certification authority that identifies signers.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    pub(crate) anchor: Certificate,
    pub(crate) intermediates: Vec<Certificate>,
    pub(crate) window: Window,
}

/// When something is believed, both ends included.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Window {
    start: Option<jiff::Timestamp>,
    end: Option<jiff::Timestamp>,
}

impl Window {
    /// Whether the time, in milliseconds since 1970, lies within.
    pub(crate) fn holds_millis(&self, at: i64) -> bool {
        self.start.is_none_or(|start| start.as_millisecond() <= at)
            && self.end.is_none_or(|end| at <= end.as_millisecond())
    }

    /// Whether the time, in seconds since 1970, lies within.
    pub(crate) fn holds(&self, at: i64) -> bool {
        self.holds_millis(at.saturating_mul(1000))
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end =
            |one: Option<jiff::Timestamp>| one.map_or_else(|| "any time".to_owned(), |at| at.to_string());
        write!(f, "the window from {} to {}", end(self.start), end(self.end))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Media {
    media_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    tlogs: Vec<LogInstance>,
    #[serde(default)]
    certificate_authorities: Vec<AuthorityInstance>,
    #[serde(default)]
    ctlogs: Vec<LogInstance>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogInstance {
    #[serde(default)]
    base_url: String,
    hash_algorithm: String,
    public_key: PublicKey,
    log_id: LogId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublicKey {
    raw_bytes: Bytes,
    key_details: String,
    #[serde(default)]
    valid_for: Window,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    key_id: Hash,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorityInstance {
    cert_chain: Chain,
    #[serde(default)]
    valid_for: Window,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<RawCertificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCertificate {
    raw_bytes: Bytes,
}

impl TrustRoot {
    /// Reads a trust root of at most [`MAX_TRUST_ROOT`] bytes.
    ///
    /// # Errors
    /// `sigstore.trust-root.size`, `sigstore.trust-root.media-type`, and `sigstore.trust-root.malformed` for all else.
    pub fn parse(json: &[u8]) -> Result<Self, SigstoreError> {
        if json.len() > MAX_TRUST_ROOT {
            return Err(SigstoreError::TrustRootSize { found: json.len() });
        }
        let malformed = |cause: serde_json::Error| refused(&shown(&cause.to_string()));
        let media: Media = serde_json::from_slice(json).map_err(malformed)?;
        if media.media_type != MEDIA_TYPE {
            let found = shown(&media.media_type);
            return Err(SigstoreError::TrustRootMediaType { expected: MEDIA_TYPE, found });
        }
        let document: Document = serde_json::from_slice(json).map_err(malformed)?;
        let authorities = document.certificate_authorities;
        if document.tlogs.len() > MAX_LOGS || document.ctlogs.len() > MAX_LOGS {
            return Err(refused(&format!("expected at most {MAX_LOGS} logs of each kind")));
        }
        if authorities.len() > MAX_AUTHORITIES {
            return Err(refused(&format!("expected at most {MAX_AUTHORITIES} authorities")));
        }
        Ok(Self {
            logs: logs(document.tlogs, &[Kind::P256, Kind::Ed25519])?,
            authorities: authorities.into_iter().map(authority).collect::<Result<_, _>>()?,
            // RFC 6962, section 2.1.4, without RSA.
            ct_logs: logs(document.ctlogs, &[Kind::P256])?,
        })
    }
}

fn logs(instances: Vec<LogInstance>, kinds: &[Kind]) -> Result<Vec<Log>, SigstoreError> {
    let mut found = Vec::new();
    for one in instances {
        let kind = match one.public_key.key_details.as_str() {
            "PKIX_ECDSA_P256_SHA_256" => Kind::P256,
            "PKIX_ED25519" => Kind::Ed25519,
            _ => continue,
        };
        if !kinds.contains(&kind) || one.hash_algorithm != "SHA2_256" {
            continue;
        }
        let key = Key::from_spki(&one.public_key.raw_bytes.0);
        let key =
            key.map_err(|why| refused(&format!("the key of the log {}: {why}", shown(&one.base_url))))?;
        if key.kind() != kind {
            let (named, is) = (kind.name(), key.kind().name());
            return Err(refused(&format!(
                "the key of the log {}: said to be {named}, is {is}",
                shown(&one.base_url)
            )));
        }
        found.push(Log { id: one.log_id.key_id.0, key, window: one.public_key.valid_for });
    }
    Ok(found)
}

fn authority(instance: AuthorityInstance) -> Result<Authority, SigstoreError> {
    let certificates = instance.cert_chain.certificates;
    if !(1..=MAX_CHAIN).contains(&certificates.len()) {
        return Err(refused(&format!("expected 1 to {MAX_CHAIN} certificates in the chain of an authority")));
    }
    let parse = |one: &RawCertificate| Certificate::parse(&one.raw_bytes.0);
    let chain: Result<Vec<_>, _> = certificates.iter().map(parse).collect();
    let mut chain = chain.map_err(|cause| refused(&format!("the certificate of an authority: {cause}")))?;
    // The anchor is the one that issued itself, or else the last: trust roots that are in use have either order.
    let itself = chain.iter().position(|one| one.subject_der() == one.issuer_der());
    let anchor = chain.remove(itself.unwrap_or_else(|| chain.len().saturating_sub(1)));
    Ok(Authority { anchor, intermediates: chain, window: instance.valid_for })
}

fn refused(why: &str) -> SigstoreError {
    SigstoreError::TrustRoot(why.to_owned())
}
