//! Published tokens: of TF-RMM, Veraison and Trustee.

use std::path::PathBuf;

use coffer_core_cose::cbor::{self, Map};

use super::*;
use crate::{AnchorError, ClaimError, Collection, PlatformClaims, RealmClaims};

fn read(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let read = std::fs::read(PathBuf::from(folder).join(name)).ok();
    if read.is_none() {
        println!("skipped: no vectors ({name})");
    }
    read
}

/// The challenge that a published token answers; what is under test is everything else.
fn challenge(token: &[u8]) -> Digest {
    let realm = Collection::parse(token).unwrap().realm;
    let realm = coffer_core_cose::Sign1::parse(&realm).unwrap();
    whole(&RealmClaims::parse(realm.payload()).unwrap().challenge)
}

const TOKENS: [(&str, &str, &str, usize, u16); 5] = [
    ("rustccatoken_cca-token-01.cbor", "rustccatoken_ta-tfa.json", "sha256:0000", 4, 0x3003),
    ("tfrmm_cca_token.cbor", "rustccatoken_ta-tfa.json", "sha256:0000", 4, 0x3003),
    ("rustccatoken_cca-token-02.cbor", "rustccatoken_ta-02-ok.json", "sha512:4343", 1, 0x3000),
    ("rustccatoken_cca-token-draft-ffm-00.cbor", "rustccatoken_ta-tfa.json", "sha256:3113", 13, 0x3003),
    ("trustee_cca-example-token.cbor", "rustccatoken_cpak.json", "sha512:ae87", 13, 0x3003),
];

#[test]
fn published_tokens_are_accepted_with_the_listed_facts() {
    for (name, anchors, rim, components, lifecycle) in TOKENS {
        let (Some(token), Some(anchors)) = (read(&format!("cca/{name}")), read(&format!("cca/{anchors}")))
        else {
            return;
        };
        let verified = accepted(ask(&judge(&anchors), &token, challenge(&token), None));
        let claims = verified.get();
        assert!(claims.registers["rim"].to_string().starts_with(rim), "{name}: {}", claims.registers["rim"]);
        let platform = &claims.json["platform"];
        assert_eq!(platform["cca-platform-sw-components"].as_array().unwrap().len(), components, "{name}");
        assert_eq!(platform["cca-platform-lifecycle"], lifecycle);
        assert_eq!(claims.posture.debug, Some(false));
        let stale = causes(ask(&judge(&anchors), &token, Digest::sha256(b"another challenge"), None));
        assert_eq!(stale, ["cca.realm.freshness"]);
        for end in 0..token.len() {
            let cut = causes(ask(&judge(&anchors), &token[..end], Digest::sha256(b""), None));
            assert_eq!(cut, ["cca.token.format"]);
        }
    }
}

#[test]
fn one_changed_bit_of_a_published_token_is_refused() {
    for (name, anchors, ..) in TOKENS {
        let (Some(token), Some(anchors)) = (read(&format!("cca/{name}")), read(&format!("cca/{anchors}")))
        else {
            return;
        };
        let (judge, challenge) = (judge(&anchors), challenge(&token));
        for at in 0..token.len() {
            let mut changed = token.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(!causes(ask(&judge, &changed, challenge, None)).is_empty(), "{name} byte {at}");
        }
    }
}

#[test]
fn the_platforms_key_is_read_in_each_published_form() {
    let Some(token) = read("cca/tfrmm_cca_token.cbor") else { return };
    let (Some(pem), Some(jwk)) = (read("cca/tfrmm_cca_platform.pub"), read("cca/trustee_cpak-pub.json"))
    else {
        return;
    };
    let pem = TrustAnchors::from_pem(&String::from_utf8(pem).unwrap()).unwrap();
    assert_eq!(pem, TrustAnchors::from_json(&jwk).unwrap());
    accepted(ask(&CcaJudge::new(pem), &token, challenge(&token), None));
}

#[test]
fn the_claims_have_the_names_and_forms_of_trustees() {
    let Some(expected) = read("cca/trustee_cca-claims.json") else { return };
    let (Some(token), Some(cpak)) =
        (read("cca/rustccatoken_cca-token-02.cbor"), read("cca/rustccatoken_ta-02-ok.json"))
    else {
        return;
    };
    let verified = accepted(ask(&judge(&cpak), &token, challenge(&token), None));
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let ours = &verified.get().json;
    for part in ["platform", "realm"] {
        for name in expected[part].as_object().unwrap().keys() {
            let (theirs, ours) = (&expected[part][name], &ours[part][name]);
            assert_eq!(std::mem::discriminant(theirs), std::mem::discriminant(ours), "{part}.{name}");
        }
    }
    // The realm of that list is the one of this token.
    assert_eq!(ours["realm"], expected["realm"]);
    assert_eq!(ours["platform"]["cca-platform-config"], expected["platform"]["cca-platform-config"]);
    let component = &ours["platform"]["cca-platform-sw-components"][0];
    let theirs = &expected["platform"]["cca-platform-sw-components"][0];
    assert_eq!(component["measurement-value"], theirs["measurement-value"]);
    assert_eq!(component["signer-id"], theirs["signer-id"]);
}

#[test]
fn a_realm_that_the_platform_does_not_vouch_for_is_refused() {
    let (Some(token), Some(anchors)) =
        (read("cca/rustccatoken_bug-33-repro.cbor"), read("cca/rustccatoken_ta-tfa.json"))
    else {
        return;
    };
    assert_eq!(causes(ask(&judge(&anchors), &token, challenge(&token), None)), ["cca.realm.chain"]);
}

#[test]
fn platform_and_realm_of_two_tokens_do_not_go_together() {
    let (Some(one), Some(other)) =
        (read("cca/rustccatoken_cca-token-02.cbor"), read("cca/rustccatoken_cca-token-01.cbor"))
    else {
        return;
    };
    let Some(anchors) = read("cca/rustccatoken_ta-02-ok.json") else { return };
    let (platform, realm) =
        (Collection::parse(&one).unwrap().platform, Collection::parse(&other).unwrap().realm);
    let mixed = Map::new().with(44234, platform).with(44241, realm);
    let mixed = cbor::encode(&cbor::Value::tag(399, mixed));
    assert_eq!(causes(ask(&judge(&anchors), &mixed, challenge(&mixed), None)), ["cca.realm.chain"]);
}

#[test]
fn a_trust_anchor_off_its_curve_is_refused_when_it_is_read() {
    let Some(bad) = read("cca/rustccatoken_ta-02-bad.json") else { return };
    let refused = TrustAnchors::from_json(&bad).expect_err("accepted");
    assert!(matches!(refused, AnchorError::Key { at: 0, .. }), "{refused}");
    assert_eq!(refused.to_string(), "anchor 0: the key is not a point on P-256");
    let Some(other) = read("cca/rustccatoken_ta.json") else { return };
    let (Some(token), other) = (read("cca/rustccatoken_cca-token-01.cbor"), judge(&other)) else { return };
    assert_eq!(causes(ask(&other, &token, challenge(&token), None)), ["cca.platform.anchor"]);
}

#[test]
fn published_claims_sets_are_read_or_refused_as_listed() {
    let Some(platform) = read("cca/rustccatoken_platform-claims.cbor") else { return };
    let platform = PlatformClaims::parse(&platform).unwrap();
    assert_eq!((platform.components.len(), platform.lifecycle.state()), (2, "secured"));
    for (name, good) in [
        ("realm-claims", true),
        ("realm-claims+spurious-numeric-key", true),
        ("realm-claims+spurious-text-key", true),
        ("realm-claims-missing-challenge", false),
    ] {
        let Some(claims) = read(&format!("cca/rustccatoken_{name}.cbor")) else { return };
        match RealmClaims::parse(&claims) {
            Ok(claims) => assert!(good && claims.challenge == [0xab; 64], "{name}"),
            Err(ClaimError::Claim { claim, .. }) => assert!(!good && claim == "challenge", "{name}"),
            Err(other) => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn published_identifiers_are_those_of_the_anchors() {
    let (Some(instance), Some(implementation)) =
        (read("cca/rustccatoken_inst-id.bin"), read("cca/rustccatoken_impl-id.bin"))
    else {
        return;
    };
    let Some(anchors) = read("cca/rustccatoken_ta.json") else { return };
    let anchors = TrustAnchors::from_json(&anchors).unwrap();
    let anchor = anchors.get(0).unwrap();
    assert_eq!(anchor.instance_id.unwrap().as_slice(), instance);
    assert_eq!(anchor.implementation_id.unwrap().as_slice(), implementation);
}
