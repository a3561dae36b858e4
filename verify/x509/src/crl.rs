//! Revocation lists (RFC 5280, section 5), complete ones of one issuer.
//!
//! Reading believes nothing; [`Crl::verify_signed_by`] does. Left out: deltas and indirect lists, which are refused
//! by their critical extensions.

use std::collections::BTreeSet;

use crate::certificate::{Certificate, extensions};
use crate::der::{self, DerError, Reader, tag};
use crate::error::CertificateError;
use crate::signed;

/// Far more than any maker of processors has revoked.
const MAX_CRL: usize = 8 << 20;
const CRL_NUMBER: &str = "2.5.29.20";
/// A list for one kind of certificates is complete for what we ask of it only if we are of that kind; AMD marks its
/// lists so, Intel does not.
const ISSUING_DISTRIBUTION_POINT: &str = "2.5.29.28";

/// A revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    tbs: Vec<u8>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
    issuer: Vec<u8>,
    this_update: i64,
    next_update: Option<i64>,
    number: Option<Vec<u8>>,
    revoked: BTreeSet<Vec<u8>>,
}

impl Crl {
    /// Reads one list in DER, with nothing behind it.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_CRL {
            return Err(CertificateError::TooLong(der.len()));
        }
        let mut outer = Reader::new(der);
        let mut list = outer.sequence("the revocation list")?;
        outer.end("the revocation list")?;
        let tbs = list.expect(tag::SEQUENCE, "tbsCertList")?;
        let algorithm = list.expect(tag::SEQUENCE, "signatureAlgorithm")?;
        let signature = list.bits("signatureValue")?;
        list.end("the signature")?;

        let mut body = Reader::new(tbs.content);
        body.optional(tag::INTEGER, "version")?;
        if body.expect(tag::SEQUENCE, "signature")?.whole != algorithm.whole {
            return Err(DerError::Value("signature").into());
        }
        let issuer = body.expect(tag::SEQUENCE, "issuer")?.whole.to_vec();
        let this_update = der::time(&body.any("thisUpdate")?, "thisUpdate")?;
        let next_update = match body.peek() {
            Some(tag::UTC_TIME | tag::GENERALIZED_TIME) => {
                Some(der::time(&body.any("nextUpdate")?, "nextUpdate")?)
            }
            _ => None,
        };
        let mut revoked = BTreeSet::new();
        if let Some(entries) = body.optional(tag::SEQUENCE, "revokedCertificates")? {
            let mut entries = Reader::new(entries.content);
            while !entries.is_empty() {
                let mut entry = entries.sequence("a revoked certificate")?;
                let serial = entry.expect(tag::INTEGER, "userCertificate")?.content;
                der::time(&entry.any("revocationDate")?, "revocationDate")?;
                if let Some(more) = entry.optional(tag::SEQUENCE, "crlEntryExtensions")? {
                    known(more.whole, &[])?;
                }
                entry.end("a revoked certificate")?;
                revoked.insert(serial.to_vec());
            }
        }
        let number = match body.optional(0xa0, "crlExtensions")? {
            Some(wrapped) => known(wrapped.content, &[CRL_NUMBER, ISSUING_DISTRIBUTION_POINT])?,
            None => None,
        };
        body.end("tbsCertList")?;
        Ok(Self {
            tbs: tbs.whole.to_vec(),
            algorithm: algorithm.whole.to_vec(),
            signature: signature.to_vec(),
            issuer,
            this_update,
            next_update,
            number,
            revoked,
        })
    }

    /// The issuer's name in DER.
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// When it was made, in seconds since 1970.
    pub const fn this_update(&self) -> i64 {
        self.this_update
    }

    /// When the next one is due, in seconds since 1970.
    pub const fn next_update(&self) -> Option<i64> {
        self.next_update
    }

    /// Its number, without leading zeros, if it has one.
    pub fn number(&self) -> Option<&[u8]> {
        self.number.as_deref()
    }

    /// The number of revoked certificates.
    pub fn revoked_count(&self) -> usize {
        self.revoked.len()
    }

    /// Whether a certificate of this list's issuer is revoked, by its serial number as encoded.
    pub fn revokes(&self, serial: &[u8]) -> bool {
        self.revoked.contains(serial)
    }

    /// Whether the issuer of this name and key signed the list.
    pub fn verify_signed_by(&self, issuer: &Certificate) -> Result<(), CertificateError> {
        if self.issuer != issuer.subject_der() {
            return Err(CertificateError::Signature);
        }
        signed::verify(issuer.spki_der(), &self.algorithm, &self.tbs, &self.signature)
    }
}

/// Refuses critical extensions that are not among `understood`; gives the list's number, if there is one.
fn known(encoded: &[u8], understood: &[&str]) -> Result<Option<Vec<u8>>, DerError> {
    let understood: Vec<Vec<u8>> = understood.iter().filter_map(|oid| der::oid(oid)).collect();
    let number = der::oid(CRL_NUMBER);
    let mut found = None;
    for (id, critical, value) in extensions(encoded, encoded)? {
        let (id, value) = (encoded.get(id).unwrap_or_default(), encoded.get(value).unwrap_or_default());
        if critical && !understood.iter().any(|known| known == id) {
            return Err(DerError::Value("a critical extension of the list"));
        }
        if number.as_deref() == Some(id) {
            found = Some(Reader::new(value).unsigned("cRLNumber")?.to_vec());
        }
    }
    Ok(found)
}
