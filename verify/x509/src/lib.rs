//! Certificate paths to a root of ours, at a given time.
//!
//! The search and the signatures are webpki's; this crate asks it the right questions and turns a refusal
//! into a sentence about one certificate. Beside it are thin readers of certificates and of revocation lists, for
//! judges whose makers bind evidence to them. Left out: host names, and OCSP.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod blame;
mod certificate;
mod crl;
pub mod der;
mod error;
mod paths;
mod purpose;
pub mod signed;

#[cfg(test)]
mod tests;

use std::time::Duration;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::aws_lc_rs as algorithms;
use webpki::{EndEntityCert, anchor_from_trusted_cert};

pub use blame::Which;
pub use certificate::{Certificate, pem_certificates};
pub use crl::Crl;
pub use error::CertificateError;
pub use paths::Paths;
pub use purpose::Purpose;

/// What may sign certificates: RSA (PKCS #1 and PSS) from 2048 bits, ECDSA on P-256 and P-384.
static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// Why there is no path.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PathError {
    /// No certificate was given.
    #[error("no certificate was sent")]
    NoCertificate,
    /// No root is configured.
    #[error("no trust anchor is configured")]
    NoAnchor,
    /// The time is before 1970.
    #[error("the time {0} is not one at which certificates can be valid")]
    Time(i64),
    /// A certificate cannot be read.
    #[error("{which} is not a certificate: {why}")]
    Malformed {
        /// Which.
        which: Which,
        /// Why not.
        why: String,
    },
    /// A certificate's time has passed.
    #[error("{which} expired at {since}; the time is {at}")]
    Expired {
        /// Which.
        which: Which,
        /// Since when (RFC 3339).
        since: String,
        /// The time asked about.
        at: String,
    },
    /// A certificate's time has not come.
    #[error("{which} is valid only from {from}; the time is {at}")]
    NotYetValid {
        /// Which.
        which: Which,
        /// From when (RFC 3339).
        from: String,
        /// The time asked about.
        at: String,
    },
    /// Nobody who is trusted or was sent issued a certificate.
    #[error("the issuer of {which}, {issuer:?}, is neither a trust anchor nor among the certificates sent")]
    UnknownIssuer {
        /// Which.
        which: Which,
        /// The issuer's name.
        issuer: String,
    },
    /// An issuer's name is right and its key is not.
    #[error("the signature on {which} is not by the key of its issuer {issuer:?}")]
    Signature {
        /// Which.
        which: Which,
        /// The issuer's name.
        issuer: String,
    },
    /// A certificate is for another purpose.
    #[error("{which} is not for the purpose {expected}; it is for {found}")]
    Purpose {
        /// Which.
        which: Which,
        /// The purposes that would do.
        expected: String,
        /// The purposes found.
        found: String,
    },
    /// Any other rule of RFC 5280.
    #[error("the certificates make no path: {0}")]
    Rule(String),
}

/// The end of a verified path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The leaf's key as `SubjectPublicKeyInfo` in DER.
    pub spki_der: Vec<u8>,
    /// Which of the anchors the path ends at.
    pub anchor: usize,
}

/// Finds a path from the first certificate to one of the anchors.
///
/// The first certificate must itself name one of the purposes, if any are asked for; those above it may name none.
pub fn verify_path(
    leaf_first: &[Vec<u8>],
    anchors: &[Vec<u8>],
    purposes: &[Purpose],
    at: i64,
) -> Result<Leaf, PathError> {
    let seconds = u64::try_from(at).map_err(|_| PathError::Time(at))?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let sent: Vec<CertificateDer<'_>> =
        leaf_first.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let roots: Vec<CertificateDer<'_>> =
        anchors.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let (first, intermediates) = sent.split_first().ok_or(PathError::NoCertificate)?;
    if roots.is_empty() {
        return Err(PathError::NoAnchor);
    }

    let mut trusted = Vec::new();
    for (index, root) in roots.iter().enumerate() {
        let malformed = |why: webpki::Error| PathError::Malformed {
            which: Which::anchor(index, root),
            why: why.to_string(),
        };
        trusted.push(anchor_from_trusted_cert(root).map_err(malformed)?);
    }
    let malformed =
        |why: webpki::Error| PathError::Malformed { which: Which::sent(0, first), why: why.to_string() };
    let leaf = EndEntityCert::try_from(first).map_err(malformed)?;
    let path = leaf
        .verify_for_usage(ALGORITHMS, &trusted, intermediates, time, purpose::AnyOf(purposes), None, None)
        .map_err(|cause| blame::explain(&cause, &sent, &roots, purposes, time))?;

    blame::check_purpose(first, purposes, time)?;
    let anchor = place_of(path.anchor(), &trusted)?;
    // RFC 5280 leaves the anchor's own validity open. An installation that sets an end means it.
    if let Some(root) = roots.get(anchor) {
        blame::check_validity(root, || Which::anchor(anchor, root), time)?;
    }
    Ok(Leaf { spki_der: leaf.subject_public_key_info().to_vec(), anchor })
}

/// The anchor's number. Callers give anchors different trust, so one that is not found is never taken for another.
fn place_of(anchor: &TrustAnchor<'_>, trusted: &[TrustAnchor<'_>]) -> Result<usize, PathError> {
    let place = trusted.iter().position(|one| one == anchor);
    place.ok_or_else(|| PathError::Rule("the path ends at none of the trust anchors".to_owned()))
}
