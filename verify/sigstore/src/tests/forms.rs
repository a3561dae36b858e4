//! Bundles and trust roots that are refused before anything is verified.

use proptest::prelude::*;

use super::*;
use crate::{MAX_BUNDLE, MAX_TRUST_ROOT};

#[test]
fn a_bundle_with_more_entries_than_allowed_or_none_is_refused() {
    let mut case = Case::of(Of::Message);
    let entry = case.entry().clone();
    case.bundle["verificationMaterial"]["tlogEntries"] = json!(vec![entry; 5]);
    assert_eq!(case.code(), "sigstore.bundle.entries");
    case.bundle["verificationMaterial"]["tlogEntries"] = json!([]);
    assert_eq!(case.code(), "sigstore.bundle.entries");
}

#[test]
fn a_bundle_of_another_version_is_refused() {
    let mut case = Case::of(Of::Message);
    case.bundle["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.2");
    assert_eq!(case.code(), "sigstore.bundle.media-type");
}

#[test]
fn a_bundle_that_is_too_long_is_refused() {
    let refused = Bundle::parse(&vec![b' '; MAX_BUNDLE + 1]).unwrap_err();
    assert_eq!(refused.code(), "sigstore.bundle.size");
    let refused = TrustRoot::parse(&vec![b' '; MAX_TRUST_ROOT + 1]).unwrap_err();
    assert_eq!(refused.code(), "sigstore.trust-root.size");
}

#[test]
fn a_bundle_with_no_choice_or_two_is_refused() {
    let changes: [fn(&mut Value); 8] = [
        |bundle| bundle["verificationMaterial"]["publicKey"] = json!({"hint": "x"}),
        |bundle| bundle["verificationMaterial"]["x509CertificateChain"] = json!({}),
        |bundle| bundle["verificationMaterial"]["certificate"] = Value::Null,
        |bundle| bundle["messageSignature"] = Value::Null,
        |bundle| bundle["messageSignature"]["messageDigest"]["algorithm"] = json!("SHA2_512"),
        |bundle| bundle["messageSignature"]["messageDigest"]["digest"] = json!("AAAA"),
        |bundle| bundle["messageSignature"]["signature"] = json!("?"),
        |bundle| {
            let hashes = &mut bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["hashes"];
            *hashes = json!(vec![hashes[0].clone(); 65]);
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut case = Case::of(Of::Message);
        change(&mut case.bundle);
        assert_eq!(case.code(), "sigstore.bundle.malformed", "{number}");
    }
    let mut case = Case::of(Of::Envelope);
    let message = case.fixture.message(&case.signer, ARTIFACT);
    case.bundle["messageSignature"] = message["messageSignature"].clone();
    assert_eq!(case.code(), "sigstore.bundle.malformed");
    let mut case = Case::of(Of::Envelope);
    let one = case.bundle["dsseEnvelope"]["signatures"][0].clone();
    case.bundle["dsseEnvelope"]["signatures"] = json!([one, one]);
    assert_eq!(case.code(), "sigstore.bundle.malformed");
}

#[test]
fn members_of_other_makers_do_not_matter() {
    let mut case = Case::of(Of::Envelope);
    case.bundle["verificationMaterial"]["timestampVerificationData"] = json!({"rfc3161Timestamps": []});
    case.bundle["dsseEnvelope"]["signatures"][0]["keyid"] = json!("");
    case.verify().unwrap();
}

#[test]
fn a_trust_root_that_cannot_be_read_is_refused() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 8] = [
        ("sigstore.trust-root.media-type", |root| root["mediaType"] = json!("application/json")),
        ("sigstore.trust-root.malformed", |root| root["tlogs"][0]["publicKey"]["rawBytes"] = json!("MAA=")),
        ("sigstore.trust-root.malformed", |root| flip(&mut root["tlogs"][0]["publicKey"]["rawBytes"])),
        ("sigstore.trust-root.malformed", |root| {
            root["tlogs"][0]["publicKey"]["keyDetails"] = json!("PKIX_ED25519");
        }),
        ("sigstore.trust-root.malformed", |root| root["tlogs"] = json!(vec![root["tlogs"][0].clone(); 65])),
        ("sigstore.trust-root.malformed", |root| {
            root["certificateAuthorities"][0]["certChain"]["certificates"] = json!([]);
        }),
        ("sigstore.trust-root.malformed", |root| {
            root["certificateAuthorities"][0]["certChain"]["certificates"][0]["rawBytes"] = json!("MAA=");
        }),
        ("sigstore.trust-root.malformed", |root| {
            root["certificateAuthorities"][0]["validFor"]["start"] = json!("yesterday");
        }),
    ];
    for (number, (code, change)) in changes.into_iter().enumerate() {
        let mut case = Case::of(Of::Message);
        change(&mut case.root);
        assert_eq!(case.code(), code, "{number}");
    }
}

#[test]
fn logs_with_keys_of_other_kinds_are_left_out() {
    let mut case = Case::of(Of::Message);
    let mut other = case.root["tlogs"][0].clone();
    other["publicKey"]["keyDetails"] = json!("PKCS1_RSA_PKCS1V5");
    case.root["tlogs"].as_array_mut().unwrap().push(other.clone());
    case.verify().unwrap();
    case.root["tlogs"] = json!([other]);
    assert_eq!(case.code(), "sigstore.log.unknown");
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes: Vec<u8>) {
        let _ = Bundle::parse(&bytes);
        let _ = TrustRoot::parse(&bytes);
    }
}
