//! The attestation key: what it may sign, and who vouches for it.

use coffer_core_evidence::wire::TpmEvidence;
use coffer_verify_api::{Check, Timestamp};
use coffer_verify_x509::{PathError, Paths, Purpose};

use crate::Parts;

/// Only a restricted key cannot be made to sign what looks like a quote and is none.
///
/// TRUST: the public area is the attester's own word: nothing but the key's certificate vouches for it. So this
/// check finds mistakes, as a quote by a key that was made without care; that an authority certifies restricted
/// keys only is what its trust anchor was configured for.
pub(crate) fn restricted(parts: &Parts) -> Check {
    const CODE: &str = "tpm.key.restricted";
    const SOURCE: &str = "TPM 2.0 Library, Part 1, 25.1.6; Part 2, 8.3";
    let Some(public) = &parts.public else {
        return Check::informational(
            CODE,
            "The key's attributes were not sent; its certificate must vouch for them",
        )
        .source(SOURCE);
    };
    let same_key = public.to_spki_der().is_ok_and(|der| der == parts.wire.ak_public);
    match (same_key, public.is_restricted_signing()) {
        (true, true) => Check::passed(CODE, "The key signs only what its own TPM generated").source(SOURCE),
        (true, false) => Check::failed(CODE, "The key can sign anything, so its quotes prove nothing")
            .expected("fixedTPM, restricted, sign, not decrypt")
            .found(format!("object attributes {:#010x}", public.attributes.0))
            .source(SOURCE)
            .remedy("attest with the platform's attestation key"),
        (false, _) => Check::failed(CODE, "ak_tpmt_public is another key than ak_public")
            .expected(hex::encode(&parts.wire.ak_public))
            .found(public.to_spki_der().map_or_else(|cause| cause.to_string(), hex::encode))
            .source(SOURCE),
    }
}

/// The path from the key's certificate to one of our anchors, and which of them it is.
///
/// Google's platforms certify attestation keys with the purpose of endorsement keys. Ordinary endorsement keys
/// decrypt and cannot sign, so that purpose is accepted from an attester that also says what its key may do.
pub(crate) fn chain(
    wire: &TpmEvidence,
    paths: &Paths,
    said_restricted: bool,
    at: Timestamp,
) -> (Check, Option<usize>) {
    const CODE: &str = "tpm.key.chain";
    const SOURCE: &str = "RFC 5280, section 6; TCG EK Credential Profile";
    let purposes: &[Purpose] = match said_restricted {
        true => &[Purpose::ATTESTATION_KEY, Purpose::ENDORSEMENT_KEY],
        false => &[Purpose::ATTESTATION_KEY],
    };
    match paths.verify(&wire.ak_certificates, purposes, at.as_second()) {
        Ok(leaf) if leaf.spki_der == wire.ak_public => {
            let passed = Check::passed(CODE, "A trust anchor certifies the attestation key").source(SOURCE);
            (passed, Some(leaf.anchor))
        }
        Ok(leaf) => {
            let failed = Check::failed(CODE, "The certificate is for another key than the one sent")
                .expected(hex::encode(&wire.ak_public))
                .found(hex::encode(leaf.spki_der))
                .source(SOURCE);
            (failed, None)
        }
        Err(cause) => {
            let remedy = match cause {
                PathError::NoAnchor => "add the platform's root to the broker's TPM trust anchors",
                PathError::NoCertificate => "attest with a key whose certificates the platform provides",
                PathError::UnknownIssuer { .. } | PathError::Signature { .. } => {
                    "if this platform is to be trusted, add its root to the broker's TPM trust anchors"
                }
                PathError::Expired { .. } | PathError::NotYetValid { .. } => {
                    "renew the certificate, or correct the broker's clock"
                }
                _ => "ask the platform's provider for a certificate of its attestation key",
            };
            let failed = Check::failed(CODE, "No trust anchor certifies the attestation key")
                .expected("a certificate path to a configured trust anchor")
                .found(cause.to_string())
                .source(SOURCE)
                .remedy(remedy);
            (failed, None)
        }
    }
}
