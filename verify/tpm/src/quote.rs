//! The quote: who signed it, for which challenge, over which registers.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{self as sig, UnparsedPublicKey, VerificationAlgorithm};
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::eventlog::init_data_in_bank;
use coffer_core_evidence::tpm::{
    Attest, AttestBody, Curve, KeyKind, PcrSelection, Scheme, Signature, pcr_digest,
};
use coffer_verify_api::Check;

use crate::Parts;

/// Quoted registers by number. They exist only if the quote's digest covers them.
pub(crate) type Registers = BTreeMap<u8, Digest>;

/// The register that init-data is extended into (KBS protocol, "init-data").
const INIT_DATA_PCR: u8 = 8;

/// Verifies the signature with the key that was sent.
pub(crate) fn signature(parts: &Parts) -> Check {
    const CODE: &str = "tpm.quote.signature";
    let form = format!("{} with {}", parts.signature.scheme().name(), parts.signature.hash());
    let failed = |found: String| {
        Check::failed(CODE, "The attestation key did not sign the quote")
            .expected("a signature by the key in ak_public over the quote")
            .found(found)
            .source("TPM 2.0 Library, Part 3, TPM2_Quote")
    };
    let Some(kind) = KeyKind::of_spki(&parts.wire.ak_public) else {
        return failed("a key that is neither RSA nor ECC on P-256 or P-384".into());
    };
    let Some(algorithm) = algorithm(kind, &parts.signature) else {
        return failed(format!("{form}, which does not go with the key or is too weak"));
    };
    let key = UnparsedPublicKey::new(algorithm, &parts.wire.ak_public);
    match key.verify(&parts.wire.tpm_quote.message, &parts.signature.encoded()) {
        Ok(()) => Check::passed(CODE, format!("The attestation key signed the quote ({form})")),
        Err(_) => failed(format!("{form}, not by this key or not over this quote")),
    }
}

fn algorithm(kind: KeyKind, signature: &Signature) -> Option<&'static dyn VerificationAlgorithm> {
    use Algorithm::{Sha256, Sha384, Sha512};
    use KeyKind::{Ecc, Rsa};
    Some(match (kind, signature.scheme(), signature.hash()) {
        (Rsa, Scheme::RsaSsa, Sha256) => &sig::RSA_PKCS1_2048_8192_SHA256,
        (Rsa, Scheme::RsaSsa, Sha384) => &sig::RSA_PKCS1_2048_8192_SHA384,
        (Rsa, Scheme::RsaSsa, Sha512) => &sig::RSA_PKCS1_2048_8192_SHA512,
        (Rsa, Scheme::RsaPss, Sha256) => &sig::RSA_PSS_2048_8192_SHA256,
        (Rsa, Scheme::RsaPss, Sha384) => &sig::RSA_PSS_2048_8192_SHA384,
        (Rsa, Scheme::RsaPss, Sha512) => &sig::RSA_PSS_2048_8192_SHA512,
        (Ecc(Curve::P256), Scheme::Ecdsa, Sha256) => &sig::ECDSA_P256_SHA256_ASN1,
        (Ecc(Curve::P256), Scheme::Ecdsa, Sha384) => &sig::ECDSA_P256_SHA384_ASN1,
        (Ecc(Curve::P384), Scheme::Ecdsa, Sha256) => &sig::ECDSA_P384_SHA256_ASN1,
        (Ecc(Curve::P384), Scheme::Ecdsa, Sha384) => &sig::ECDSA_P384_SHA384_ASN1,
        _ => return None,
    })
}

/// One comparison proves two things, because the report data hashes the challenge's nonce together with the
/// key that will receive secrets: an old quote has another nonce, a foreign one another key. When it fails,
/// nobody can tell which of the two differs, so only freshness is said to have failed.
pub(crate) fn freshness_and_binding(attest: &Attest, expected: &[Vec<u8>]) -> [Check; 2] {
    const SOURCE: &str = "KBS protocol 0.4, report data; TPM 2.0 Library, Part 3, TPM2_Quote";
    let found = match attest.extra_data.is_empty() {
        true => "no qualifying data".into(),
        false => hex::encode(&attest.extra_data),
    };
    let wanted = expected.first().map(hex::encode).unwrap_or_default();
    if expected.contains(&attest.extra_data) {
        let fresh = Check::passed("tpm.quote.freshness", "The quote was made for this challenge")
            .expected(wanted)
            .found(found)
            .source(SOURCE);
        let bound = Check::passed(
            "tpm.key.binding",
            "The quote is bound to the key that secrets will be encrypted to: its qualifying data hashes that key",
        )
        .source(SOURCE);
        return [fresh, bound];
    }
    let stale =
        Check::failed("tpm.quote.freshness", "The quote was made for another challenge or another key")
            .expected(wanted)
            .found(found)
            .source(SOURCE)
            .remedy("attest again, with the nonce of this challenge and the key of this session");
    let unbound =
        Check::unavailable("tpm.key.binding", "Not told, because the qualifying data is another hash")
            .source(SOURCE);
    [stale, unbound]
}

/// The registers that the quote covers, or the checks that say why there are none.
pub(crate) fn registers(parts: &Parts) -> (Option<Registers>, Vec<Check>) {
    let AttestBody::Quote { selections, pcr_digest: quoted } = &parts.attest.body;
    let selection = match bank(selections, parts.wire.pcr_bank) {
        Ok(selection) => selection,
        Err(refused) => return (None, vec![*refused]),
    };
    let used = Check::passed("tpm.quote.bank", format!("The {} bank was quoted", selection.bank));

    const CODE: &str = "tpm.pcrs.digest";
    const SOURCE: &str = "TPM 2.0 Library, Part 2, 10.12.1";
    let values: Registers = match parts.wire.registers() {
        Ok(values) => (0..).zip(values).collect(),
        Err(cause) => {
            let failed = Check::failed(CODE, "The registers sent cannot be read").found(cause.to_string());
            return (None, vec![used, failed.source(SOURCE)]);
        }
    };
    let digest = match pcr_digest(parts.signature.hash(), selection, &values) {
        Ok(digest) => digest,
        Err(pcr) => {
            let failed = Check::failed(CODE, "A quoted register was not sent").expected(format!("PCR {pcr}"));
            return (None, vec![used, failed.source(SOURCE)]);
        }
    };
    if digest.as_bytes() != quoted {
        let failed = Check::failed(CODE, "The registers sent are not the quoted ones")
            .expected(hex::encode(quoted))
            .found(digest.hex())
            .source(SOURCE);
        return (None, vec![used, failed]);
    }
    let passed = Check::passed(CODE, "The registers sent are the quoted ones").source(SOURCE);
    let covered = values.into_iter().filter(|(pcr, _)| selection.pcrs.contains(pcr)).collect();
    (Some(covered), vec![used, passed])
}

/// The one bank that was quoted, if it is strong enough and the one that the evidence names.
fn bank(selections: &[PcrSelection], named: Algorithm) -> Result<&PcrSelection, Box<Check>> {
    let used: Vec<&PcrSelection> = selections.iter().filter(|selection| !selection.pcrs.is_empty()).collect();
    let failed = |title: &str, found: String| {
        let failed = Check::failed("tpm.quote.bank", title)
            .expected(format!("registers of the {named} bank alone"))
            .found(found)
            .source("TPM 2.0 Library, Part 2, 10.9.7")
            .remedy("quote the SHA-256 or SHA-384 bank, and name it in pcr_bank");
        Box::new(failed)
    };
    let names =
        |used: &[&PcrSelection]| used.iter().map(|one| one.bank.name()).collect::<Vec<_>>().join(", ");
    match used.as_slice() {
        [] => Err(failed("The quote covers no register", "nothing".into())),
        [one] if one.bank == Algorithm::Sha1 => {
            Err(failed("SHA-1 registers can be forged, so the bank proves nothing", "sha1".into()))
        }
        [one] if one.bank != named => Err(failed("Another bank was quoted than named", one.bank.to_string())),
        [one] => Ok(one),
        several => Err(failed("The quote mixes banks", names(several))),
    }
}

/// The register holds init-data's digest and nothing else.
pub(crate) fn init_data(digest: &Digest, registers: Option<&Registers>) -> Check {
    const CODE: &str = "tpm.init-data.binding";
    const SOURCE: &str = "KBS protocol, init-data; PCR 8";
    let Some(registers) = registers else {
        return Check::unavailable(CODE, "Not told, because no register is proven").source(SOURCE);
    };
    let Some(found) = registers.get(&INIT_DATA_PCR) else {
        return Check::failed(CODE, "The quote does not cover the register of the init-data")
            .expected("PCR 8")
            .found("not quoted")
            .source(SOURCE);
    };
    let bank = found.algorithm();
    let expected = Digest::zero(bank).extend(init_data_in_bank(digest, bank).as_bytes());
    let title = match expected == *found {
        true => "The init-data sent is the one that the guest was started with",
        false => "The guest was started with other init-data than the one sent",
    };
    Check::equal(CODE, title, &expected.to_string(), &found.to_string()).source(SOURCE)
}
