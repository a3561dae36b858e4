//! The checks: who signed, for which challenge and key, with which init-data.

use coffer_core_cose::{PublicKey, Sign1};
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ReportData;
use coffer_verify_api::{Check, Timestamp};
use coffer_verify_x509::{PathError, Paths};

use crate::document::Document;
use crate::{BoundField, SPECIFIED};

/// The first register that an enclave may extend itself.
const INIT_DATA_PCR: u8 = 16;

/// The path from the document's certificate to one of our roots, and the key that it certifies.
pub(crate) fn chain(document: &Document, paths: &Paths, at: Timestamp) -> (Check, Option<PublicKey>) {
    const SOURCE: &str = "AWS, \"Verifying the root of trust\", validation process; RFC 5280, section 6";
    // Leaf first; the document has the root first.
    let mut sent = vec![document.certificate.clone()];
    sent.extend(document.cabundle.iter().rev().cloned());
    let (code, found, remedy) = match paths.verify(&sent, &[], at.as_second()) {
        Ok(leaf) => match PublicKey::from_spki_der(&leaf.spki_der) {
            Ok(key) => {
                let title = "AWS's root certifies the key of the document";
                return (Check::passed("nitro.certificate.chain", title).source(SOURCE), Some(key));
            }
            Err(cause) => {
                ("nitro.certificate.key", cause.to_string(), "send the document of a Nitro enclave")
            }
        },
        Err(cause) => {
            let (code, remedy) = match cause {
                PathError::Expired { .. } => {
                    ("nitro.certificate.expired", "ask for a new document; its certificate lives three hours")
                }
                PathError::NotYetValid { .. } => {
                    ("nitro.certificate.not-yet-valid", "correct the broker's clock")
                }
                PathError::NoAnchor => {
                    ("nitro.certificate.chain", "add the partition's root to the broker's Nitro roots")
                }
                _ => (
                    "nitro.certificate.chain",
                    "if the enclave runs in another partition of AWS, add that partition's root to the broker's Nitro roots",
                ),
            };
            (code, cause.to_string(), remedy)
        }
    };
    let failed = Check::failed(code, "No root certifies the key of the document")
        .expected("a certificate path to a root for Nitro Enclaves, valid now, of a P-384 key")
        .found(found)
        .source(SOURCE)
        .remedy(remedy);
    (failed, None)
}

/// The signature by the certified key.
pub(crate) fn signature(signed: &Sign1, key: Option<&PublicKey>) -> Check {
    const CODE: &str = "nitro.document.signature";
    const SOURCE: &str = "RFC 9052, section 4.4";
    let Some(key) = key else {
        return Check::unavailable(CODE, "Not told, because no key is certified").source(SOURCE);
    };
    match signed.verify(key, &[]) {
        Ok(()) => Check::passed(CODE, "The certified key signed the document").source(SOURCE),
        Err(cause) => Check::failed(CODE, "The certified key did not sign the document")
            .expected("an ES384 signature by the key in certificate")
            .found(cause.to_string())
            .source(SOURCE),
    }
}

/// That the document was made for this challenge, and for the key that secrets will be encrypted to.
pub(crate) fn freshness_and_binding(
    document: &Document,
    field: BoundField,
    report_data: &ReportData,
) -> [Check; 2] {
    const FRESHNESS: &str = "nitro.document.freshness";
    const BINDING: &str = "nitro.key.binding";
    const SOURCE: &str = "KBS protocol, report data; placed in user_data by verify/nitro";
    let long: [u8; 64] = report_data.field();
    let short = report_data.digest().as_bytes();
    let bound = bound(document, field);
    let (wanted, found) = (hex::encode(short), bound.map_or_else(|| "nothing".to_owned(), hex::encode));
    // Padded to 64 bytes as other platforms have it, or as it is. Both hold the whole hash.
    if bound.is_some_and(|bound| bound == long || bound == short) {
        let fresh = Check::passed(FRESHNESS, "The document was made for this challenge");
        let bound = Check::passed(
            BINDING,
            "The document is bound to the key that secrets will be encrypted to: its data hashes that key",
        );
        return [fresh.expected(wanted).found(found).source(SOURCE), bound.source(SOURCE)];
    }
    let stale = Check::failed(FRESHNESS, "The document was made for another challenge or another key")
        .expected(wanted)
        .found(found)
        .source(SOURCE)
        .remedy("attest again, with the nonce of this challenge and the key of this session");
    [stale, Check::unavailable(BINDING, "Not told, because the document holds another hash").source(SOURCE)]
}

/// What stands in the field.
pub(crate) fn bound(document: &Document, field: BoundField) -> Option<&[u8]> {
    match field {
        BoundField::UserData => document.user_data.as_deref(),
        BoundField::Nonce => document.nonce.as_deref(),
    }
}

/// The register that the enclave extended by its init-data and locked. Nitro has no field for it at launch.
pub(crate) fn init_data(document: &Document, digest: &Digest) -> Check {
    const CODE: &str = "nitro.init-data.binding";
    let expected = Digest::zero(Algorithm::Sha384).extend(digest.as_bytes());
    let Some(found) = document.pcrs.get(&INIT_DATA_PCR) else {
        return Check::failed(CODE, "Nothing in the document shows which init-data the enclave was given")
            .expected(format!("PCR16 {expected}"))
            .found("PCR16 is not in the document")
            .source(SPECIFIED)
            .remedy("extend PCR16 by the init-data's digest and lock it before attesting");
    };
    let title = match expected == *found {
        true => "The init-data sent is the one that the enclave was given",
        false => "The enclave was given other init-data than the one sent",
    };
    Check::equal(CODE, title, &expected.to_string(), &found.to_string()).source(SPECIFIED)
}
