//! Complete tokens made by this test, and their refusal twins: the same with one named defect.

use coffer_core_cose::cbor::{self, Map, NULL, Value as Cbor};
use coffer_core_cose::{Curve, SigningKey};
use coffer_lab_testpki::{CcaFixture, CcaProfile};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::AnchorError;

const PROFILES: [CcaProfile; 3] = [CcaProfile::First, CcaProfile::Of2023, CcaProfile::Of2024];

fn hash() -> Digest {
    Digest::of(Algorithm::Sha384, b"nonce and key")
}

fn challenge() -> [u8; 64] {
    ReportData::from_runtime_hash(hash()).field()
}

fn fixture() -> CcaFixture {
    CcaFixture::new(CcaProfile::Of2023)
}

fn own(fixture: &CcaFixture) -> CcaJudge {
    judge(&fixture.anchors())
}

/// The causes for a platform with changed claims, correctly signed.
fn platform(profile: CcaProfile, change: impl FnOnce(Map) -> Map) -> Vec<String> {
    let fixture = CcaFixture::new(profile);
    let token = fixture.token(change(fixture.platform()), fixture.realm(&challenge()));
    causes(ask(&own(&fixture), &token, hash(), None))
}

/// The causes for a realm with changed claims, correctly signed.
fn realm(profile: CcaProfile, change: impl FnOnce(Map) -> Map) -> Vec<String> {
    let fixture = CcaFixture::new(profile);
    let token = fixture.token(fixture.platform(), change(fixture.realm(&challenge())));
    causes(ask(&own(&fixture), &token, hash(), None))
}

fn without(map: &Map, label: i64) -> Map {
    let others = map.iter().filter(|(key, _)| key.as_i64() != Some(label));
    others.fold(Map::new(), |map, (key, value)| map.with(key.clone(), value.clone()))
}

/// The parts of a collection, to be put together in another way.
fn parts(token: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let collection = crate::Collection::parse(token).unwrap();
    (collection.platform, collection.realm)
}

fn collect(platform: Vec<u8>, realm: Vec<u8>) -> Vec<u8> {
    cbor::encode(&Cbor::tag(399, Map::new().with(44234, platform).with(44241, realm)))
}

#[test]
fn tokens_of_every_profile_and_curve_are_accepted() {
    for profile in PROFILES {
        for (cpak, rak) in
            [(Curve::P384, Curve::P384), (Curve::P256, Curve::P384), (Curve::P521, Curve::P256)]
        {
            let fixture = CcaFixture::on(profile, cpak, rak);
            let verified = accepted(ask_value(&own(&fixture), &fixture.evidence(&challenge()), hash(), None));
            let claims = verified.get();
            assert!(claims.hardware);
            assert_eq!(claims.posture.debug, Some(false));
            assert_eq!(claims.posture.chip.as_deref(), Some("01".repeat(33).as_str()));
            assert_eq!(claims.posture.generation.as_deref(), Some("7f".repeat(32).as_str()));
            assert_eq!(claims.registers.len(), 7);
            assert_eq!(claims.registers["rim"], Digest::from_bytes(Algorithm::Sha256, &[0x52; 32]).unwrap());
            assert_eq!(claims.registers["rem3"], Digest::from_bytes(Algorithm::Sha256, &[3; 32]).unwrap());
            assert_eq!(claims.registers["rpv"], Digest::zero(Algorithm::Sha512));
            let platform = &claims.json["platform"];
            assert_eq!(platform["cca-platform-lifecycle"], 0x3003);
            assert_eq!(platform["cca-platform-sw-components"][1]["measurement-type"], "RMM");
            assert_eq!(claims.json["report_data"], hex::encode(challenge()));
            assert_eq!(platform["cca-platform-client-id"].as_i64().is_some(), profile == CcaProfile::Of2024);
        }
    }
}

#[test]
fn other_software_of_the_platform_is_another_register() {
    let fixture = fixture();
    let register = |platform: Map| {
        let token = fixture.token(platform, fixture.realm(&challenge()));
        accepted(ask(&own(&fixture), &token, hash(), None)).get().registers["platform"]
    };
    let genuine = fixture.platform();
    let expected = register(genuine.clone());
    assert_eq!(register(genuine.clone()), expected);
    let list = genuine.at(2399).unwrap().as_array().unwrap().to_vec();
    let monitor = list[1].as_map().unwrap().clone();
    let with = |components: Vec<Cbor>| register(genuine.clone().with(2399, Cbor::Array(components)));
    // A management monitor of the host's own, one by another signer, one more, one less, another order, another name.
    for other in [
        with(vec![list[0].clone(), monitor.clone().with(2, &[0x66; 32][..]).into()]),
        with(vec![list[0].clone(), monitor.clone().with(5, &[0x66; 32][..]).into()]),
        with(vec![list[0].clone(), list[1].clone(), list[1].clone()]),
        with(vec![list[0].clone()]),
        with(vec![list[1].clone(), list[0].clone()]),
        with(vec![list[0].clone(), monitor.with(1, "RMN").into()]),
        register(genuine.clone().with(2401, &[0xce; 4][..])),
    ] {
        assert_ne!(other, expected);
    }
}

#[test]
fn the_collection_may_be_tagged_or_not_and_may_hold_more() {
    let fixture = fixture();
    let (platform, realm) = parts(&fixture.token(fixture.platform(), fixture.realm(&challenge())));
    let map = Map::new().with(44234, platform.clone()).with(44241, realm.clone());
    for token in
        [Cbor::from(map.clone()), Cbor::tag(399, map.clone()), Cbor::tag(907, map.with("__cmwc_t", "x"))]
    {
        accepted(ask(&own(&fixture), &cbor::encode(&token), hash(), None));
    }
    let other = cbor::encode(&Cbor::tag(398, Map::new().with(44234, platform).with(44241, realm)));
    assert_eq!(causes(ask(&own(&fixture), &other, hash(), None)), ["cca.token.format"]);
}

#[test]
fn another_challenge_is_refused() {
    let fixture = fixture();
    let mut other = challenge();
    other[63] = 1;
    for other in [other, [0; 64]] {
        let judgement = ask_value(&own(&fixture), &fixture.evidence(&other), hash(), None);
        assert_eq!(causes(judgement), ["cca.realm.freshness"]);
    }
}

#[test]
fn each_signature_must_fit_and_be_by_the_right_key() {
    for profile in PROFILES {
        let fixture = CcaFixture::new(profile);
        let judge = own(&fixture);
        let (platform, realm) = parts(&fixture.token(fixture.platform(), fixture.realm(&challenge())));
        let flip = |part: &[u8], at: usize| {
            let mut part = part.to_vec();
            part[at] ^= 1;
            part
        };
        let end = |part: &[u8]| part.len() - 1;
        let broken = collect(flip(&platform, end(&platform)), realm.clone());
        assert_eq!(causes(ask(&judge, &broken, hash(), None)), ["cca.platform.signature"]);
        let broken = collect(platform.clone(), flip(&realm, end(&realm)));
        assert_eq!(causes(ask(&judge, &broken, hash(), None)), ["cca.realm.signature"]);
        // A measurement of the RMM, and the realm's own.
        let rmm = platform.windows(32).position(|window| window == [4; 32]).unwrap();
        let broken = collect(flip(&platform, rmm), realm.clone());
        assert_eq!(causes(ask(&judge, &broken, hash(), None)), ["cca.platform.signature"]);
        let rim = realm.windows(32).position(|window| window == [0x52; 32]).unwrap();
        let broken = collect(platform.clone(), flip(&realm, rim));
        assert_eq!(causes(ask(&judge, &broken, hash(), None)), ["cca.realm.signature"]);

        // Keys exchanged: a thief signs as the platform, and as the realm.
        let thief = SigningKey::generate(Curve::P384).unwrap();
        let as_platform =
            CcaFixture { platform_key: thief, realm_key: other_key(), ..CcaFixture::new(profile) };
        let token = as_platform.token(as_platform.platform(), as_platform.realm(&challenge()));
        assert_eq!(causes(ask(&judge, &token, hash(), None)), ["cca.platform.signature"]);
        let (_, foreign) = parts(&token);
        let swapped = collect(platform.clone(), foreign);
        assert_eq!(causes(ask(&judge, &swapped, hash(), None)), ["cca.realm.chain"]);
        let signed_by_thief = CcaFixture { realm_key: other_key(), ..CcaFixture::new(profile) };
        let (_, foreign) = parts(&signed_by_thief.token(fixture.platform(), fixture.realm(&challenge())));
        let swapped = collect(platform, foreign);
        assert_eq!(causes(ask(&judge, &swapped, hash(), None)), ["cca.realm.signature"]);
    }
}

fn other_key() -> SigningKey {
    SigningKey::generate(Curve::P384).unwrap()
}

#[test]
fn a_platform_token_that_was_verified_before_is_believed_only_byte_for_byte() {
    let fixture = fixture();
    let judge = own(&fixture);
    let token = fixture.token(fixture.platform(), fixture.realm(&challenge()));
    accepted(ask(&judge, &token, hash(), None));
    accepted(ask(&judge, &token, hash(), None));
    let (platform, realm) = parts(&token);
    for at in 0..platform.len() {
        let mut changed = platform.clone();
        changed[at] ^= 1;
        let judgement = ask(&judge, &collect(changed, realm.clone()), hash(), None);
        assert!(!causes(judgement).is_empty(), "byte {at}");
    }
    // Another judge with another key never saw it.
    let stranger = super::judge(&fixture.anchors_with(other_key().public()));
    assert_eq!(causes(ask(&stranger, &token, hash(), None)), ["cca.platform.signature"]);
}

#[test]
fn only_configured_platforms_are_believed() {
    let fixture = fixture();
    let evidence = fixture.evidence(&challenge());
    let nobody = CcaJudge::new(TrustAnchors::default());
    assert_eq!(causes(ask_value(&nobody, &evidence, hash(), None)), ["cca.platform.anchor"]);
    let other = CcaFixture { instance_id: [1; 33].map(|_| 1), ..CcaFixture::new(CcaProfile::Of2023) };
    let mut named: Value = serde_json::from_slice(&other.anchors()).unwrap();
    named[0]["instance-id"] = format!("01{}", "22".repeat(32)).into();
    let elsewhere = judge(&serde_json::to_vec(&named).unwrap());
    assert_eq!(causes(ask_value(&elsewhere, &evidence, hash(), None)), ["cca.platform.anchor"]);

    let mut anchors: Value = serde_json::from_slice(&fixture.anchors()).unwrap();
    anchors[0]["implementation-id"] = "00".repeat(32).into();
    let of_other_kind = judge(&serde_json::to_vec(&anchors).unwrap());
    assert_eq!(causes(ask_value(&of_other_kind, &evidence, hash(), None)), ["cca.platform.implementation"]);

    // A bare key is believed for every platform, and one that is marked protects nothing.
    let bare = judge(&serde_json::to_vec(&anchors[0]["pkey"]).unwrap());
    accepted(ask_value(&bare, &evidence, hash(), None));
    let mut emulated: Value = serde_json::from_slice(&fixture.anchors()).unwrap();
    emulated[0]["hardware"] = false.into();
    let emulated = judge(&serde_json::to_vec(&emulated[0]).unwrap());
    assert!(!accepted(ask_value(&emulated, &evidence, hash(), None)).get().hardware);
    let both = TrustAnchors::from_json(&other.anchors()).unwrap();
    let both = both.and(TrustAnchors::from_json(&fixture.anchors()).unwrap());
    assert_eq!(both.len(), 2);
    accepted(ask_value(&CcaJudge::new(both), &evidence, hash(), None));
}

#[test]
fn what_holds_no_trust_anchors_is_refused_with_its_reason() {
    let good: Value = serde_json::from_slice(&fixture().anchors()).unwrap();
    let refused = |change: fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed[0]);
        TrustAnchors::from_json(&serde_json::to_vec(&changed).unwrap()).expect_err("accepted")
    };
    assert!(matches!(
        refused(|anchor| anchor["instance-id"] = "01".into()),
        AnchorError::Identifier { length: 33, .. }
    ));
    assert!(matches!(
        refused(|anchor| anchor["implementation-id"] = "zz".into()),
        AnchorError::Identifier { .. }
    ));
    assert!(matches!(refused(|anchor| anchor["pkey"]["x"] = "AA".into()), AnchorError::Key { at: 0, .. }));
    assert!(matches!(refused(|anchor| anchor["pkey"]["y"] = "*".into()), AnchorError::Key { .. }));
    assert!(matches!(refused(|anchor| anchor["pkey"]["crv"] = "P-256".into()), AnchorError::Key { .. }));
    assert!(matches!(refused(|anchor| anchor["pkey"]["kty"] = "RSA".into()), AnchorError::Key { .. }));
    assert!(matches!(refused(|anchor| anchor["pkey"] = json!({})), AnchorError::Json(_)));
    assert!(TrustAnchors::from_json(b"no JSON").is_err() && TrustAnchors::from_pem("no PEM").is_err());
    assert!(TrustAnchors::from_json(b"[]").unwrap().is_empty());
}

#[test]
fn a_platform_that_is_not_secured_is_genuine_and_is_said_to_be_debugged() {
    for (lifecycle, state, debug) in [
        (0x3000, "secured", false),
        (0x30ff, "secured", false),
        (0x0000, "unknown", true),
        (0x1000, "assembly-and-test", true),
        (0x2000, "cca-platform-rot-provisioning", true),
        (0x4001, "non-cca-platform-rot-debug", true),
        (0x5000, "recoverable-cca-platform-rot-debug", true),
        (0x60ff, "decommissioned", true),
    ] {
        let fixture = fixture();
        let token = fixture.token(fixture.platform().with(2395, lifecycle), fixture.realm(&challenge()));
        let verified = accepted(ask(&own(&fixture), &token, hash(), None));
        assert_eq!(verified.get().posture.debug, Some(debug), "{lifecycle:#x}");
        assert_eq!(verified.get().json["platform"]["cca-platform-lifecycle-state"], state);
    }
    for unknown in [0x0100, 0x3100, 0x6100, 0x1_3000] {
        assert_eq!(platform(CcaProfile::First, |map| map.with(2395, unknown)), ["cca.platform.format"]);
    }
}

#[test]
fn init_data_must_be_the_realms_personalization_value() {
    let fixture = fixture();
    for init_data in
        [Digest::sha256(b"i"), Digest::of(Algorithm::Sha384, b"i"), Digest::of(Algorithm::Sha512, b"i")]
    {
        let field: [u8; 64] = ReportData::from_runtime_hash(init_data).field();
        let with = |value: &[u8]| {
            let token = fixture.token(fixture.platform(), fixture.realm(&challenge()).with(44235, value));
            ask(&own(&fixture), &token, hash(), Some(&init_data))
        };
        let verified = accepted(with(&field));
        assert_eq!(verified.get().json["init_data"], hex::encode(field));
        assert_eq!(verified.get().registers["rpv"].as_bytes(), field);
        assert_eq!(causes(with(&[0; 64])), ["cca.init-data.binding"]);
        let mut other = field;
        other[63] ^= 1;
        assert_eq!(causes(with(&other)), ["cca.init-data.binding"]);
    }
}

#[test]
fn each_claim_of_the_platform_that_is_missing_or_wrong_is_refused() {
    const FORMAT: [&str; 1] = ["cca.platform.format"];
    for profile in PROFILES {
        for label in [10, 256, 265, 2395, 2396, 2399, 2401, 2402] {
            assert_eq!(platform(profile, |map| without(&map, label)), FORMAT, "without {label}");
            assert_eq!(platform(profile, |map| map.with(Cbor::from(label), NULL)), FORMAT, "null {label}");
        }
        assert_eq!(platform(profile, |map| map.with(256, &[2; 33][..])), FORMAT);
        assert_eq!(platform(profile, |map| map.with(256, &[1; 32][..])), FORMAT);
        assert_eq!(platform(profile, |map| map.with(2396, &[1; 31][..])), FORMAT);
        assert_eq!(platform(profile, |map| map.with(10, &[1; 33][..])), FORMAT);
        assert_eq!(platform(profile, |map| map.with(2399, Cbor::Array(Vec::new()))), FORMAT);
        assert_eq!(platform(profile, |map| map.with(2399, Cbor::Array(vec![Map::new().into()]))), FORMAT);
        assert_eq!(platform(profile, |map| map.with(2400, 1)), FORMAT);
        assert_eq!(platform(profile, |map| map.with(265, "tag:arm.com,2030:x")), ["cca.platform.profile"]);
    }
    // What the second specification adds, in it and not before.
    for (label, value) in [
        (2394, Cbor::from(2)),
        (2403, Cbor::Bytes(Vec::new())),
        (2404, Cbor::Array(vec![Map::new().with(5, "spdm-1.2.0").with(7, "x").into()])),
        (2405, Cbor::Array(vec![Map::new().with(1, "DM").into()])),
        (2406, Cbor::from("x")),
    ] {
        let changed = |profile| {
            let fixture = CcaFixture::new(profile);
            let claims = fixture.platform().with(Cbor::from(label), value.clone());
            ask(&own(&fixture), &fixture.token(claims, fixture.realm(&challenge())), hash(), None)
        };
        assert_eq!(causes(changed(CcaProfile::Of2024)), FORMAT, "{label}");
        accepted(changed(CcaProfile::Of2023));
    }
    assert_eq!(platform(CcaProfile::Of2024, |map| without(&map, 2394)), FORMAT);
}

#[test]
fn each_claim_of_the_realm_that_is_missing_or_wrong_is_refused() {
    const FORMAT: [&str; 1] = ["cca.realm.format"];
    for profile in PROFILES {
        for label in [10, 44235, 44236, 44237, 44238, 44239, 44240] {
            assert_eq!(realm(profile, |map| without(&map, label)), FORMAT, "without {label}");
            assert_eq!(realm(profile, |map| map.with(Cbor::from(label), NULL)), FORMAT, "null {label}");
        }
        assert_eq!(realm(profile, |map| map.with(10, &[0; 63][..])), FORMAT);
        assert_eq!(realm(profile, |map| map.with(44235, &[0; 65][..])), FORMAT);
        assert_eq!(realm(profile, |map| map.with(44238, &[0; 20][..])), FORMAT);
        let three = Cbor::Array(vec![vec![0; 32].into(); 3]);
        assert_eq!(realm(profile, |map| map.with(44239, three)), FORMAT);
        assert_eq!(realm(profile, |map| map.with(265, "tag:arm.com,2030:x")), ["cca.realm.profile"]);
        assert_eq!(realm(profile, |map| map.with(44240, "sha-1")), ["cca.realm.chain"]);
        assert_eq!(realm(profile, |map| map.with(44240, "sha-384")), ["cca.realm.chain"]);
    }
    assert_eq!(realm(CcaProfile::Of2024, |map| without(&map, 44243)), FORMAT);
    assert_eq!(realm(CcaProfile::Of2024, |map| map.with(44243, "public")), FORMAT);
}

#[test]
fn a_realm_key_that_is_none_is_refused() {
    let point = fixture().realm_key.public().as_bytes().to_vec();
    let mut off = point.clone();
    off[50] ^= 1;
    assert_eq!(realm(CcaProfile::First, |map| map.with(44237, off)), ["cca.realm.key"]);
    assert_eq!(realm(CcaProfile::First, |map| map.with(44237, &point[..96])), ["cca.realm.format"]);
    // A point where the profile has a COSE_Key.
    assert_eq!(realm(CcaProfile::Of2023, |map| map.with(44237, point)), ["cca.realm.format"]);
    let wrong = cbor::encode(&Map::new().with(1, 2).with(-1, 2).with(-2, &[1; 48][..]).into());
    assert_eq!(realm(CcaProfile::Of2023, |map| map.with(44237, wrong)), ["cca.realm.key"]);
}

#[test]
fn what_is_no_token_is_refused() {
    let fixture = fixture();
    let judge = own(&fixture);
    for evidence in [json!({}), json!({ "token": "*" }), json!({ "token": [256] }), json!(null)] {
        assert_eq!(causes(ask_value(&judge, &evidence, hash(), None)), ["cca.evidence.format"]);
    }
    let token = fixture.token(fixture.platform(), fixture.realm(&challenge()));
    for end in 0..token.len() {
        assert_eq!(causes(ask(&judge, &token[..end], hash(), None)), ["cca.token.format"], "cut at {end}");
    }
    assert_eq!(causes(ask(&judge, &[&token[..], &[0]].concat(), hash(), None)), ["cca.token.format"]);
    let (platform, realm) = parts(&token);
    for map in [
        Map::new().with(44234, platform.clone()),
        Map::new().with(44241, realm.clone()),
        Map::new().with(44234, 1).with(44241, realm.clone()),
        Map::new().with(44234, Cbor::Array(vec![263.into()])).with(44241, realm.clone()),
    ] {
        let token = cbor::encode(&Cbor::tag(399, map));
        assert_eq!(causes(ask(&judge, &token, hash(), None)), ["cca.token.format"]);
    }
    let cut = |part: &[u8]| part[..part.len() - 1].to_vec();
    let broken = collect(cut(&platform), realm.clone());
    assert_eq!(causes(ask(&judge, &broken, hash(), None)), ["cca.platform.format"]);
    let broken = collect(platform, cut(&realm));
    assert_eq!(causes(ask(&judge, &broken, hash(), None)), ["cca.realm.format"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_changed_token_never_panics_and_is_never_accepted(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let fixture = fixture();
        let mut token = fixture.token(fixture.platform(), fixture.realm(&challenge()));
        let at = at.index(token.len());
        token[at] ^= 1 << bit;
        prop_assert!(!causes(ask(&own(&fixture), &token, hash(), None)).is_empty());
    }
}
