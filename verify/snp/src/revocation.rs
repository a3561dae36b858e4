//! AMD's revocation lists, which its roots sign: they name authorities, for chips' keys all have the serial number 0.

use std::sync::Arc;

use coffer_core_digest::Digest;
use coffer_verify_api::{Check, Collateral, CollateralKey, Document, Timestamp};
use coffer_verify_x509::{Crl, der};

use crate::SnpJudge;
use crate::roots::{Authority, signed_parts};

const SOURCE: &str = "AMD 57230, section 4.3; RFC 5280, section 5";

/// Whether authorities are looked up in the revocation list of their product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Nobody looks.
    NotChecked,
    /// A list that is at hand is heeded; that there is none is no reason to refuse.
    WhenPresent,
    /// Without a list nothing is judged.
    Required,
}

/// A list whose signature was verified, and the key that it was verified with.
#[derive(Debug)]
pub(crate) struct List {
    crl: Crl,
    signer: Vec<u8>,
}

impl SnpJudge {
    /// Looks an authority up, and tells whether the list was past its end. The key is that of the list that is missing.
    pub(crate) fn revocation(
        &self,
        authority: &Authority,
        product: &str,
        collateral: &dyn Collateral,
        at: Timestamp,
    ) -> Result<(Vec<Check>, Option<bool>), CollateralKey> {
        let key = CollateralKey::AmdCrl(product.to_owned());
        let found = match self.revocation {
            Revocation::NotChecked => return Ok((vec![not_checked("it was not asked for")], None)),
            Revocation::WhenPresent => collateral.find(&key),
            Revocation::Required => Some(collateral.find(&key).ok_or(key)?),
        };
        let Some(document) = found else { return Ok((vec![not_checked("no list is at hand")], None)) };
        let list = match self.list(&document, authority) {
            Ok(list) => list,
            Err(refused) => return Ok((vec![*refused], None)),
        };
        let is_stale = list.crl.next_update().is_some_and(|until| at.as_second() > until);
        Ok((vec![validity(&list.crl, self.stale_seconds, at), revoked(&list.crl, authority)], Some(is_stale)))
    }

    fn list(&self, document: &Document, authority: &Authority) -> Result<Arc<List>, Box<Check>> {
        let signer = authority.ark.der();
        let name = Digest::sha256(&[document.digest().as_bytes(), signer].concat());
        if let Some(list) = self.lists.get(&name).filter(|list| list.signer == signer) {
            return Ok(list);
        }
        let crl = Crl::parse(document.body()).map_err(|cause| {
            let failed = Check::failed("snp.crl.format", "The revocation list cannot be read");
            Box::new(failed.expected("a CRL in DER").found(cause.to_string()).source(SOURCE))
        })?;
        if crl.issuer_der() != authority.ark.subject_der() || !is_signed(document.body(), authority) {
            let failed =
                Check::failed("snp.crl.signature", "The product's root did not sign the revocation list")
                    .expected(format!("a signature by {}", authority.ark.subject_cn()))
                    .found("a list that is not by this key")
                    .source(SOURCE)
                    .remedy("fetch the list again from AMD");
            return Err(Box::new(failed));
        }
        Ok(self.lists.keep(name, List { crl, signer: signer.to_vec() }))
    }
}

/// AMD signs lists as it signs certificates, so the parts are taken from the DER.
fn is_signed(crl: &[u8], authority: &Authority) -> bool {
    let verify = || {
        let mut list = der::Reader::new(crl).sequence("the list").ok()?;
        let tbs = list.expect(der::tag::SEQUENCE, "tbsCertList").ok()?;
        let algorithm = list.expect(der::tag::SEQUENCE, "signatureAlgorithm").ok()?;
        let signature = list.bits("signatureValue").ok()?;
        Some(signed_parts(algorithm.whole, tbs.whole, signature, &authority.ark))
    };
    verify().unwrap_or(false)
}

fn not_checked(why: &str) -> Check {
    Check::informational("snp.ask.revoked", format!("The authority was not looked up in a list: {why}"))
        .source(SOURCE)
}

fn validity(crl: &Crl, stale_seconds: i64, at: Timestamp) -> Check {
    const CODE: &str = "snp.crl.validity";
    let (from, until, now) = (crl.this_update(), crl.next_update(), at.as_second());
    let said =
        |second: i64| Timestamp::from_second(second).map_or_else(|_| second.to_string(), |at| at.to_string());
    let found = format!(
        "a list of {} until {}; the time is {at}",
        said(from),
        until.map_or_else(|| "further notice".to_owned(), said)
    );
    let failed = |title: &str| Check::failed(CODE, title).found(found.clone()).source(SOURCE);
    match until {
        _ if now < from => {
            failed("The revocation list is of a time to come").remedy("correct the broker's clock")
        }
        Some(until) if now > until.saturating_add(stale_seconds) => {
            failed("The revocation list is too old").remedy("fetch the list again from AMD")
        }
        _ => Check::passed(CODE, "The revocation list is current").found(found).source(SOURCE),
    }
}

fn revoked(crl: &Crl, authority: &Authority) -> Check {
    const CODE: &str = "snp.ask.revoked";
    let certificate = &authority.certificate;
    let name = format!("{}, serial {}", certificate.subject_cn(), hex::encode(certificate.serial()));
    match crl.revokes(certificate.serial()) || crl.revokes(authority.ark.serial()) {
        false => Check::passed(CODE, "The authority is not revoked").found(name).source(SOURCE),
        true => Check::failed(CODE, "AMD revoked the authority that certified the key")
            .expected("an authority that is not on the revocation list")
            .found(name)
            .source(SOURCE),
    }
}
