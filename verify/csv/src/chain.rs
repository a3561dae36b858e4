//! From Hygon's root to the key that signs reports: HRK, HSK, CEK, PEK.
//!
//! Hygon's certificates have no dates and no revocation, so a chain that was verified once stays verified; those are
//! remembered by their bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use coffer_core_digest::Digest;
use coffer_verify_api::Check;

use crate::certificate::{Certificate, CertificateError, Usage};

const SOURCE: &str = "Hygon CSV, certificates of HRK, HSK, CEK and PEK";
/// A platform has one.
const MAX_KEPT: usize = 1024;

/// Certificates as bytes.
pub(crate) struct Sent<'a> {
    pub(crate) hsk: &'a [u8],
    pub(crate) cek: &'a [u8],
    pub(crate) pek: &'a [u8],
}

/// Chains that were verified before, by the digest of their certificates. The roots never change.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<VecDeque<Digest>>);

impl Known {
    fn has(&self, name: &Digest) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    fn keep(&self, name: Digest) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KEPT {
            known.pop_front();
        }
        known.push_back(name);
    }
}

/// Verifies each link. Codes: `csv.chain.hsk`, `csv.chain.cek`, `csv.chain.pek`, and `csv.certificate.chain` for all.
pub(crate) fn verify(roots: &[Vec<u8>], sent: &Sent<'_>, pek: &Certificate, known: &Known) -> Check {
    const CODE: &str = "csv.certificate.chain";
    const TITLE: &str = "Hygon's root certifies the key that signs reports";
    // The three have fixed lengths, checked when they were read; a wrong length is never kept.
    let name = Digest::sha256(&[sent.hsk, sent.cek, sent.pek].concat());
    if known.has(&name) {
        return Check::passed(CODE, TITLE).source(SOURCE);
    }
    let links = links(roots, sent, pek);
    let check = Check::group(CODE, TITLE, links).source(SOURCE);
    if !check.has_failed() {
        known.keep(name);
    }
    check
}

fn links(roots: &[Vec<u8>], sent: &Sent<'_>, pek: &Certificate) -> Vec<Check> {
    let trusted: Vec<Certificate> = roots
        .iter()
        .filter_map(|root| Certificate::parse_ca(root).ok())
        .filter(|root| root.is_for(Usage::Root) && root.is_signed_by(root))
        .collect();
    if trusted.is_empty() {
        return vec![
            Check::failed("csv.chain.hrk", "No root key is configured that certifies itself")
                .expected("a certificate of HRK, 832 bytes, signed by itself")
                .found(format!("{} configured, none of them valid", roots.len()))
                .remedy("configure Hygon's root certificate, or leave the built-in one"),
        ];
    }
    let hsk = read("csv.chain.hsk", Usage::Signing, Certificate::parse_ca(sent.hsk));
    let cek = read("csv.chain.cek", Usage::Chip, Certificate::parse_chip(sent.cek));
    let issuers: Vec<&Certificate> = trusted.iter().collect();
    let mut checks = Vec::new();
    match &hsk {
        Err(check) => checks.push((**check).clone()),
        Ok(hsk) => checks.push(link("csv.chain.hsk", Usage::Root, &issuers, Usage::Signing, hsk)),
    }
    match (&hsk, &cek) {
        (_, Err(check)) => checks.push((**check).clone()),
        (Ok(hsk), Ok(cek)) => checks.push(link("csv.chain.cek", Usage::Signing, &[hsk], Usage::Chip, cek)),
        (Err(_), Ok(_)) => {}
    }
    if let Ok(cek) = &cek {
        checks.push(link("csv.chain.pek", Usage::Chip, &[cek], Usage::Platform, pek));
    }
    checks
}

fn read(
    code: &'static str,
    usage: Usage,
    parsed: Result<Certificate, CertificateError>,
) -> Result<Certificate, Box<Check>> {
    let malformed = |found: String| {
        Box::new(
            Check::failed(code, format!("The certificate of {} cannot be used", usage.name()))
                .expected(format!("a certificate with usage {:#x}", usage.number()))
                .found(found)
                .source(SOURCE),
        )
    };
    match parsed {
        Ok(certificate) if certificate.is_for(usage) => Ok(certificate),
        Ok(certificate) => Err(malformed(format!("usage {:#x}", certificate.usage()))),
        Err(cause) => Err(malformed(cause.to_string())),
    }
}

fn link(
    code: &'static str,
    above: Usage,
    issuers: &[&Certificate],
    usage: Usage,
    certificate: &Certificate,
) -> Check {
    let by = |issuer: &&Certificate| certificate.is_signed_by(issuer);
    match certificate.is_for(usage) && issuers.iter().any(by) {
        true => Check::passed(code, format!("{} certifies {}", above.name(), usage.name())).source(SOURCE),
        false => Check::failed(code, format!("{} does not certify {}", above.name(), usage.name()))
            .expected(format!("a signature by {} over the certificate of {}", above.name(), usage.name()))
            .found("no signature slot with one that is valid")
            .source(SOURCE)
            .remedy("send the certificates of this platform; HSK and CEK belong to the chip's serial number"),
    }
}
