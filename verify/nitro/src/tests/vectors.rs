//! Documents of real enclaves, and the files that somebody broke.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Algorithm;

use super::*;
use crate::AWS_ROOT_G1;

fn read(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let read = std::fs::read(PathBuf::from(folder).join(name)).ok();
    if read.is_none() {
        println!("skipped: no vectors ({name})");
    }
    read
}

fn ask(document: &[u8], report_data: Digest, at: &str) -> Judgement {
    let evidence = serde_json::json!({ "attestation_document": STANDARD.encode(document) });
    let at = at.parse::<Timestamp>().unwrap().as_second();
    Asked { report_data, init_data: None, at }.about(&NitroJudge::aws(), &evidence)
}

/// The enclaves put a hash, or nothing at all, in 64 bytes.
fn nothing() -> Digest {
    Digest::zero(Algorithm::Sha512)
}

#[test]
fn the_root_is_the_published_one() {
    let expected = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b";
    assert_eq!(Digest::sha256(AWS_ROOT_G1).hex(), expected);
}

#[test]
fn documents_of_real_enclaves_are_accepted_at_their_time_and_at_no_other() {
    for (name, report_data, at, pcr0, debug) in [
        (
            "dstack_attest_nitro_attestation.cose",
            Digest::sha256(b""),
            "2025-12-25T16:04:19Z",
            "eb7d0dab08ff",
            false,
        ),
        (
            "dstack_nsm-attest_nitro_attestation.cose",
            nothing(),
            "2025-12-25T13:15:37Z",
            "5cb702954321",
            false,
        ),
        ("dstack_attest_nitro_attestation_dbg.cose", nothing(), "2025-12-25T08:20:46Z", "000000000000", true),
    ] {
        let Some(document) = read(&format!("nitro/{name}")) else { return };
        let verified = accepted(ask(&document, report_data, at));
        let claims = verified.get();
        assert_eq!(claims.posture.debug, Some(debug), "{name}");
        assert_eq!(claims.registers.len(), 16);
        assert_eq!(&claims.registers["pcr0"].hex()[..12], pcr0);
        assert_ne!(claims.registers["pcr4"], Digest::zero(Algorithm::Sha384));
        let made = claims.json["timestamp"].as_i64().unwrap() / 1000;
        assert_eq!(Timestamp::from_second(made).unwrap().to_string(), at);

        assert_eq!(
            causes(ask(&document, report_data, "2025-12-25T20:00:00Z")),
            ["nitro.certificate.expired"]
        );
        assert_eq!(
            causes(ask(&document, report_data, "2026-11-20T00:00:00Z")),
            ["nitro.certificate.expired"]
        );
        let early = causes(ask(&document, report_data, "2025-12-25T07:00:00Z"));
        assert_eq!(early, ["nitro.certificate.not-yet-valid"]);
        let stale = causes(ask(&document, Digest::sha256(b"another challenge"), at));
        assert_eq!(stale, ["nitro.document.freshness"]);
        for end in 0..document.len() {
            assert_eq!(causes(ask(&document[..end], report_data, at)), ["nitro.document.envelope"]);
        }
    }
}

#[test]
fn the_facts_listed_for_a_document_are_claimed() {
    let Some(document) = read("nitro/dstack_attest_nitro_attestation.cose") else { return };
    let verified = accepted(ask(&document, Digest::sha256(b""), "2025-12-25T16:04:19Z"));
    let claims = verified.get();
    assert!(claims.registers["pcr1"].hex().starts_with("0343b056cd84"));
    assert!(claims.registers["pcr2"].hex().starts_with("d7b0a76788c1"));
    assert_eq!(claims.json["module_id"], "i-0827e799ec9232d44-enc019b5640fdf630d6");
    assert!(!claims.json.contains_key("public_key") && !claims.json.contains_key("nonce"));
}

#[test]
fn each_file_that_was_broken_on_purpose_is_refused_for_its_reason() {
    for (name, code) in [
        ("nitro_pcr0_flip.cose", "nitro.document.signature"),
        ("nitro_sig_flip.cose", "nitro.document.signature"),
        ("nitro_alg_es256.cose", "nitro.document.algorithm"),
        ("nitro_no_root.cose", "nitro.document.signature"),
    ] {
        let Some(document) = read(&format!("adversarial/{name}")) else { return };
        assert_eq!(causes(ask(&document, Digest::sha256(b""), "2025-12-25T16:04:19Z")), [code], "{name}");
    }
    // The payload of the debug enclave under the signature of the other; both were alive at no one time.
    let Some(document) = read("adversarial/nitro_swapped_payload.cose") else { return };
    let found = causes(ask(&document, nothing(), "2025-12-25T08:20:46Z"));
    assert_eq!(found, ["nitro.document.signature"]);
}

#[test]
fn a_real_document_with_one_changed_bit_is_refused_for_what_was_changed() {
    let Some(document) = read("nitro/dstack_attest_nitro_attestation.cose") else { return };
    let judge = NitroJudge::aws();
    let at = "2025-12-25T16:04:19Z".parse::<Timestamp>().unwrap().as_second();
    let asked = Asked { report_data: Digest::sha256(b""), init_data: None, at };
    let refused = |document: &[u8]| {
        let evidence = serde_json::json!({ "attestation_document": STANDARD.encode(document) });
        causes(asked.about(&judge, &evidence))
    };
    let flipped = |at: usize| {
        let mut changed = document.clone();
        changed[at] ^= 1 << (at % 8);
        changed
    };
    for at in (0..document.len()).step_by(11) {
        assert!(!refused(&flipped(at)).is_empty(), "byte {at}");
    }
    let signed = coffer_core_cose::Sign1::parse(&document).unwrap();
    let content = crate::Document::parse(signed.payload()).unwrap();
    let place = |part: &[u8]| document.windows(part.len()).position(|window| window == part).unwrap();
    // The end of a certificate is its signature. The root's is not needed, because the root is ours.
    let certificates = content.cabundle.iter().skip(1).chain([&content.certificate]);
    for certificate in certificates {
        let end = place(certificate) + certificate.len() - 1;
        assert_eq!(refused(&flipped(end)), ["nitro.certificate.chain"]);
    }
    let root = place(&content.cabundle[0]) + content.cabundle[0].len() - 1;
    assert_eq!(refused(&flipped(root)), ["nitro.document.signature"]);
    for pcr in [0, 1, 2, 4] {
        let at = place(content.pcrs[&pcr].as_bytes()) + 20;
        assert_eq!(refused(&flipped(at)), ["nitro.document.signature"], "PCR{pcr}");
    }
    for part in [content.module_id.as_bytes(), signed.signature()] {
        assert_eq!(refused(&flipped(place(part) + 10)), ["nitro.document.signature"]);
    }
    let user_data = content.user_data.unwrap();
    let both = refused(&flipped(place(&user_data) + 63));
    assert_eq!(both, ["nitro.document.signature", "nitro.document.freshness"]);
}
