//! Complete documents made by this test, and their refusal twins: the same with one named defect.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_core_cose::cbor::{self, Map, NULL};
use coffer_core_cose::{Curve, Sign1, SigningKey};
use coffer_core_digest::Algorithm;
use coffer_lab_testpki::{Authority, BasicConstraints, IsCa, Leaf, NitroFixture};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::BoundField;

fn hash() -> Digest {
    Digest::of(Algorithm::Sha384, b"nonce and key")
}

fn padded() -> Vec<u8> {
    ReportData::from_runtime_hash(hash()).field::<64>().to_vec()
}

const fn asked<'a>(report_data: Digest) -> Asked<'a> {
    Asked { report_data, init_data: None, at: NOW }
}

fn judge(fixture: &NitroFixture) -> NitroJudge {
    NitroJudge::new(vec![fixture.root_der()])
}

fn wire(document: &[u8]) -> Value {
    json!({ "attestation_document": STANDARD.encode(document) })
}

fn leaf() -> Leaf {
    Leaf { purposes: Vec::new(), ..Leaf::default() }
}

/// The causes for a document with changed content, correctly signed.
fn changed(change: impl FnOnce(Map) -> Map) -> Vec<String> {
    let fixture = NitroFixture::default();
    let document = fixture.sign(change(fixture.payload(&padded())));
    causes(asked(hash()).about(&judge(&fixture), &wire(&document)))
}

#[test]
fn a_document_of_a_certified_key_for_this_challenge_is_accepted() {
    let fixture = NitroFixture::default();
    for user_data in [padded(), hash().as_bytes().to_vec()] {
        let verified = accepted(asked(hash()).about(&judge(&fixture), &fixture.evidence(&user_data)));
        let claims = verified.get();
        assert!(claims.hardware);
        assert_eq!(claims.posture.debug, Some(false));
        assert_eq!(claims.registers.len(), 16);
        assert_eq!(claims.registers["pcr4"], Digest::from_bytes(Algorithm::Sha384, &[5; 48]).unwrap());
        assert_eq!(claims.json["pcr0"], "01".repeat(48));
        assert_eq!(claims.json["module_id"], "i-0123456789abcdef0-enc0123456789abcdef");
        assert_eq!(claims.json["report_data"], hex::encode(&user_data));
        assert!(!claims.json.contains_key("nonce"));
    }
}

#[test]
fn the_tag_of_cose_may_be_there_and_members_may_be_absent_or_unknown() {
    let fixture = NitroFixture::default();
    let tagged = [&[0xd2][..], &fixture.sign(fixture.payload(&padded()))].concat();
    accepted(asked(hash()).about(&judge(&fixture), &wire(&tagged)));
    let Some(cbor::Value::Map(map)) = cbor::decode(&cbor::encode(&fixture.payload(&padded()).into())).ok()
    else {
        panic!("a map")
    };
    let members = map.iter().filter(|(key, _)| !matches!(key.as_text(), Some("nonce" | "public_key")));
    let without = members.fold(Map::new(), |map, (key, value)| map.with(key.clone(), value.clone()));
    let document = fixture.sign(without.with("later", 1));
    accepted(asked(hash()).about(&judge(&fixture), &wire(&document)));
}

#[test]
fn another_challenge_or_key_is_refused_wherever_it_stands() {
    let fixture = NitroFixture::default();
    let ask = |payload: Map| causes(asked(hash()).about(&judge(&fixture), &wire(&fixture.sign(payload))));
    for user_data in [vec![], hash().as_bytes()[..47].to_vec(), vec![0; 64], [padded(), vec![0]].concat()] {
        assert_eq!(ask(fixture.payload(&user_data)), ["nitro.document.freshness"]);
    }
    let nothing = fixture.payload(&[]).with("user_data", NULL);
    assert_eq!(ask(nothing.clone()), ["nitro.document.freshness"]);
    // Strangers may name the nonce, so that it holds the hash proves nothing by itself.
    let in_nonce = nothing.with("nonce", padded()).with("public_key", padded());
    assert_eq!(ask(in_nonce.clone()), ["nitro.document.freshness"]);
    let judge = judge(&fixture).bound_in(BoundField::Nonce);
    accepted(asked(hash()).about(&judge, &wire(&fixture.sign(in_nonce))));
    assert_eq!(
        causes(asked(hash()).about(&judge, &fixture.evidence(&padded()))),
        ["nitro.document.freshness"]
    );
}

#[test]
fn a_changed_document_is_refused_and_so_is_one_that_another_enclave_signed() {
    let (fixture, thief) = (NitroFixture::default(), NitroFixture::default());
    let document = fixture.sign(fixture.payload(&padded()));
    let ask = |document: &[u8]| causes(asked(hash()).about(&judge(&fixture), &wire(document)));
    let mut flipped = document.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(ask(&flipped), ["nitro.document.signature"]);
    // A byte of PCR4, and one of the time, which no other check looks at.
    let mut altered = document.clone();
    let at = altered.windows(48).position(|window| window == [5; 48]).unwrap();
    altered[at + 9] ^= 0x10;
    assert_eq!(ask(&altered), ["nitro.document.signature"]);
    // The thief signs what the victim's certificate stands in.
    assert_eq!(ask(&thief.sign(fixture.payload(&padded()))), ["nitro.document.signature"]);
    // The thief's own certificates, under a root that nobody configured.
    assert_eq!(ask(&thief.sign(thief.payload(&padded()))), ["nitro.certificate.chain"]);
    // One genuine document's content under another's signature.
    let (one, other) = (Sign1::parse(&document).unwrap(), Sign1::parse(&later(&fixture)).unwrap());
    let swapped = [one.header().clone().into(), Map::new().into()];
    let parts = vec![
        cbor::encode(&swapped[0]).into(),
        swapped[1].clone(),
        other.payload().into(),
        one.signature().into(),
    ];
    assert_eq!(ask(&cbor::encode(&cbor::Value::Array(parts))), ["nitro.document.signature"]);
}

/// Another document of the same enclave for the same challenge.
fn later(fixture: &NitroFixture) -> Vec<u8> {
    fixture.sign(fixture.payload(&padded()).with("timestamp", cbor::Value::Unsigned(1)))
}

#[test]
fn another_algorithm_is_refused_by_name() {
    let fixture = NitroFixture::default();
    let document = fixture.sign(fixture.payload(&padded()));
    for id in [0x26_u8, 0x27] {
        let mut other = document.clone();
        // The header is a1 01 38 22, ES384.
        let header = [vec![0x43, 0xa1, 0x01, id], document[6..].to_vec()].concat();
        other.truncate(1);
        other.extend(header);
        assert_eq!(
            causes(asked(hash()).about(&judge(&fixture), &wire(&other))),
            ["nitro.document.algorithm"]
        );
    }
    let p256 = NitroFixture::with_key(&leaf(), SigningKey::generate(Curve::P256).unwrap());
    let found = causes(asked(hash()).about(&judge(&p256), &p256.evidence(&padded())));
    assert_eq!(found, ["nitro.document.algorithm"]);
    // A P-256 key under a header that says ES384.
    let map = p256.payload(&padded());
    let other = NitroFixture::default();
    let document = other.sign(map);
    assert_eq!(causes(asked(hash()).about(&judge(&p256), &wire(&document))), ["nitro.document.signature"]);
}

#[test]
fn each_link_of_the_chain_must_hold_at_the_time_asked() {
    let ask = |fixture: &NitroFixture, at: i64| {
        let question = Asked { at, ..asked(hash()) };
        question.about(&judge(fixture), &fixture.evidence(&padded()))
    };
    let second = |at: i64| u64::try_from(at).unwrap();
    let short = Leaf { from: second(NOW - 60), until: second(NOW + 3 * 3600), ..leaf() };
    let fixture = NitroFixture::with_leaf(&short);
    // The same judge, asked in any order: a path that held once holds only while its certificates do.
    let judge = judge(&fixture);
    for (at, expected) in [
        (NOW, None),
        (NOW + 3 * 3600 + 1, Some("nitro.certificate.expired")),
        (NOW - 61, Some("nitro.certificate.not-yet-valid")),
        (NOW + 3600, None),
    ] {
        let judgement = Asked { at, ..asked(hash()) }.about(&judge, &fixture.evidence(&padded()));
        match expected {
            None => drop(accepted(judgement)),
            Some(code) => assert_eq!(causes(judgement), [code]),
        }
    }
    let authority = Leaf { is_ca: IsCa::Ca(BasicConstraints::Unconstrained), ..leaf() };
    assert_eq!(causes(ask(&NitroFixture::with_leaf(&authority), NOW)), ["nitro.certificate.chain"]);

    // Each certificate of the bundle taken out, and exchanged for that of another authority of the same name.
    let fixture = NitroFixture::default();
    let (bundle, other) = (fixture.bundle(), NitroFixture::default().bundle());
    let with = |bundle: Vec<Vec<u8>>| {
        let bundle = cbor::Value::Array(bundle.into_iter().map(cbor::Value::Bytes).collect());
        let document = fixture.sign(fixture.payload(&padded()).with("cabundle", bundle));
        asked(hash()).about(&NitroJudge::new(vec![fixture.root_der()]), &wire(&document))
    };
    for at in 1..bundle.len() {
        let mut short = bundle.clone();
        short.remove(at);
        assert_eq!(causes(with(short)), ["nitro.certificate.chain"], "without {at}");
        let mut foreign = bundle.clone();
        foreign[at] = other[at].clone();
        assert_eq!(causes(with(foreign)), ["nitro.certificate.chain"], "foreign {at}");
        let mut broken = bundle.clone();
        let end = broken[at].len() - 1;
        broken[at][end] ^= 1;
        assert_eq!(causes(with(broken)), ["nitro.certificate.chain"], "broken {at}");
    }
    // The root is ours, so whether it is sent makes no difference.
    accepted(with(bundle[1..].to_vec()));
    let found = causes(asked(hash()).about(&NitroJudge::new(Vec::new()), &fixture.evidence(&padded())));
    assert_eq!(found, ["nitro.certificate.chain"]);
    let found = causes(asked(hash()).about(&NitroJudge::aws(), &fixture.evidence(&padded())));
    assert_eq!(found, ["nitro.certificate.chain"]);
    let foreign = NitroJudge::new(vec![Authority::root("test nitro root").der()]);
    let found = causes(asked(hash()).about(&foreign, &fixture.evidence(&padded())));
    assert_eq!(found, ["nitro.certificate.chain"]);
}

#[test]
fn each_member_that_is_missing_or_wrong_is_refused() {
    const FORMAT: [&str; 1] = ["nitro.document.format"];
    assert_eq!(changed(|map| map.with("module_id", "")), FORMAT);
    assert_eq!(changed(|map| map.with("module_id", 1)), FORMAT);
    assert_eq!(changed(|map| map.with("timestamp", -1)), FORMAT);
    assert_eq!(changed(|map| map.with("timestamp", NULL)), FORMAT);
    assert_eq!(changed(|map| map.with("certificate", &[][..])), FORMAT);
    assert_eq!(changed(|map| map.with("certificate", &[0x30; 1025][..])), FORMAT);
    assert_eq!(changed(|map| map.with("cabundle", cbor::Value::Array(Vec::new()))), FORMAT);
    assert_eq!(changed(|map| map.with("cabundle", cbor::Value::Array(vec![vec![1].into(); 9]))), FORMAT);
    assert_eq!(changed(|map| map.with("cabundle", cbor::Value::Array(vec![1.into()]))), FORMAT);
    assert_eq!(changed(|map| map.with("user_data", "text")), FORMAT);
    assert_eq!(changed(|map| map.with("nonce", &[0; 1025][..])), FORMAT);
    assert_eq!(changed(|map| map.with("public_key", 1)), FORMAT);
    assert_eq!(changed(|map| map.with("digest", NULL)), FORMAT);
    assert_eq!(changed(|_| Map::new()), FORMAT);
    assert_eq!(changed(|map| map.with("digest", "SHA256")), ["nitro.document.digest"]);
    let pcrs = |pcrs: Map| changed(|map| map.with("pcrs", pcrs));
    let three = || (0..3).fold(Map::new(), |map, at| map.with(at, &[1; 48][..]));
    assert_eq!(pcrs(Map::new()), ["nitro.pcrs.format"]);
    assert_eq!(pcrs(three().with(32, &[0; 48][..])), ["nitro.pcrs.format"]);
    assert_eq!(pcrs(three().with(-1, &[0; 48][..])), ["nitro.pcrs.format"]);
    assert_eq!(pcrs(three().with(2, &[0; 32][..])), ["nitro.pcrs.format"]);
    assert_eq!(pcrs(three().with(3, "zero")), ["nitro.pcrs.format"]);
    assert_eq!(pcrs(Map::new().with(0, &[1; 48][..]).with(2, &[1; 48][..])), ["nitro.pcrs.format"]);
    assert_eq!(changed(|map| map.with("pcrs", 1)), FORMAT);
}

#[test]
fn what_is_no_document_is_refused() {
    let fixture = NitroFixture::default();
    let ask = |evidence: &Value| causes(asked(hash()).about(&judge(&fixture), evidence));
    for evidence in [json!({}), json!({ "attestation_document": "*" }), json!(null), json!([1])] {
        assert_eq!(ask(&evidence), ["nitro.evidence.format"]);
    }
    assert_eq!(ask(&wire(&[0; (16 << 10) + 1])), ["nitro.evidence.format"]);
    assert_eq!(ask(&wire(&[])), ["nitro.document.envelope"]);
    assert_eq!(ask(&wire(&[0x84, 0x40, 0xa0, 0x40])), ["nitro.document.envelope"]);
    let document = fixture.sign(fixture.payload(&padded()));
    for end in [0, 1, 2, 6, 7, 10, 500, document.len() - 96, document.len() - 1] {
        assert_eq!(ask(&wire(&document[..end])), ["nitro.document.envelope"], "cut at {end}");
    }
    assert_eq!(ask(&wire(&[&document[..], &[0]].concat())), ["nitro.document.envelope"]);
    // Content that is no CBOR map, correctly signed.
    let signed = |payload: &[u8]| Sign1::sign(Map::new(), payload, &[], fixture.key()).unwrap();
    for payload in [&b""[..], &[0x80], &[0xbf, 0x61], &[0xa2, 0x61, 0x61, 0, 0x61, 0x61, 0]] {
        assert_eq!(ask(&wire(&signed(payload))), ["nitro.document.format"]);
    }
}

#[test]
fn a_debug_enclave_is_genuine_and_is_said_to_be_one() {
    let fixture = NitroFixture::default();
    let zero = (0..16).fold(Map::new(), |map, at| map.with(at, &[u8::from(at == 4); 48][..]));
    let document = fixture.sign(fixture.payload(&padded()).with("pcrs", zero.clone()));
    let verified = accepted(asked(hash()).about(&judge(&fixture), &wire(&document)));
    assert_eq!(verified.get().posture.debug, Some(true));
    assert_eq!(verified.get().json["debug"], true);
    let document = fixture.sign(fixture.payload(&padded()).with("pcrs", zero.with(2, &[1; 48][..])));
    let verified = accepted(asked(hash()).about(&judge(&fixture), &wire(&document)));
    assert_eq!(verified.get().posture.debug, Some(false));
}

#[test]
fn init_data_is_believed_only_if_the_enclave_locked_it_into_its_register() {
    let fixture = NitroFixture::default();
    let init_data = Digest::sha256(b"init-data");
    let ask = |value: Option<Digest>| {
        let payload = fixture.payload(&padded());
        let pcrs = payload.named("pcrs").and_then(cbor::Value::as_map).cloned().unwrap();
        let pcrs = match value {
            Some(value) => pcrs.with(16, value.as_bytes()),
            None => pcrs,
        };
        let document = fixture.sign(payload.with("pcrs", pcrs));
        Asked { init_data: Some(&init_data), ..asked(hash()) }.about(&judge(&fixture), &wire(&document))
    };
    let zero = Digest::zero(Algorithm::Sha384);
    let verified = accepted(ask(Some(zero.extend(init_data.as_bytes()))));
    assert_eq!(verified.get().json["init_data"], init_data.hex());
    for other in [None, Some(zero), Some(zero.extend(b"other"))] {
        assert_eq!(causes(ask(other)), ["nitro.init-data.binding"]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_changed_document_never_panics_and_is_never_accepted(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let fixture = NitroFixture::default();
        let mut document = fixture.sign(fixture.payload(&padded()));
        let at = at.index(document.len());
        document[at] ^= 1 << bit;
        prop_assert!(!causes(asked(hash()).about(&judge(&fixture), &wire(&document))).is_empty());
    }
}
