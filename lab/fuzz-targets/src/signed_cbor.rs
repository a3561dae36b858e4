//! CBOR and what is signed in it: Nitro's documents, CCA's tokens, CoRIM.

use coffer_core_corim::{Corim, PublicKey, from_corim, named_values, open};
use coffer_core_cose::cbor::{Map, NULL, Value, decode, encode};
use coffer_core_cose::{Curve, Sign1};
use coffer_core_evidence::ReportData;
use coffer_core_evidence::cca::CcaEvidence;
use coffer_core_evidence::nitro::NitroEvidence;
use coffer_core_initdata::Digest;
use coffer_verify_api::{Judgement, NoCollateral, Question, Timestamp, Verifier};
use coffer_verify_cca::{CcaJudge, Collection, PlatformClaims, RealmClaims, TrustAnchors};
use coffer_verify_nitro::{Document, NitroJudge};

/// A point on P-256 that is published (RFC 9052, appendix C.7.1).
const POINT: [&[u8]; 2] = [
    b"\xba\xc5\xb1\x1c\xad\x8f\x99\xf9\xc7\x2b\x05\xcf\x4b\x9e\x26\xd2\x44\xdc\x18\x9f\x74\x52\x28\x25\x5a\x21\x9a\x86\xd6\xa0\x9e\xff",
    b"\x20\x13\x8b\xf8\x2d\xc1\xb6\xd5\x62\xbe\x0f\xa5\x4a\xb7\x80\x4a\x3a\x64\xb6\xd7\x2c\xcf\xed\x6b\x6f\xb6\xed\x28\xbb\xfc\x11\x7e",
];

fn key() -> PublicKey {
    PublicKey::from_coordinates(Curve::P256, POINT[0], POINT[1]).unwrap()
}

/// Nobody signed what a fuzzer makes.
fn is_refused(judge: &dyn Verifier, evidence: &serde_json::Value) {
    let report_data = ReportData::from_runtime_hash(Digest::sha256(b""));
    let question = Question {
        evidence,
        report_data: &report_data,
        init_data: Some(report_data.digest()),
        collateral: &NoCollateral,
        at: Timestamp::UNIX_EPOCH,
    };
    assert!(matches!(judge.verify(&question), Ok(Judgement::Rejected(reasons)) if !reasons.is_empty()));
}

/// Reads CBOR, writes it in its one form, and reads keys and signatures out of it.
pub fn cbor(data: &[u8]) {
    let Ok(value) = decode(data) else { return };
    let written = encode(&value);
    // A length that was left open costs two bytes, and told, three from 256 items on.
    assert!(written.len() <= data.len() + data.len() / 256 + 3);
    assert_eq!(encode(&decode(&written).unwrap()), written);
    if let Ok(key) = PublicKey::from_cose_key(&value) {
        assert_eq!(PublicKey::from_cose_key(&key.to_cose_key()), Ok(key));
    }
    if let Ok(signed) = Sign1::from_value(value) {
        assert!(signed.algorithm().is_err() || signed.verify(&key(), &[]).is_err());
    }
}

/// Reads an attestation document, judges it, and reads its content alone.
pub fn nitro_document(data: &[u8]) {
    let _ = Document::parse(data);
    if let Ok(signed) = Sign1::parse(data)
        && let Ok(document) = Document::parse(signed.payload())
    {
        assert!(document.pcrs.len() >= 3);
    }
    if let Ok(evidence) = NitroEvidence::from_document(data.to_vec()) {
        is_refused(&NitroJudge::aws(), &evidence.to_value());
    }
}

/// Reads a token, judges it, and reads each part alone.
pub fn cca_token(data: &[u8]) {
    let _ = PlatformClaims::parse(data);
    let _ = RealmClaims::parse(data);
    let _ = TrustAnchors::from_json(data);
    if let Ok(collection) = Collection::parse(data) {
        for part in [&collection.platform, &collection.realm] {
            if let Ok(signed) = Sign1::parse(part) {
                let _ = PlatformClaims::parse(signed.payload());
                let _ = RealmClaims::parse(signed.payload());
            }
        }
    }
    if let Ok(evidence) = CcaEvidence::from_token(data.to_vec()) {
        is_refused(&CcaJudge::new(TrustAnchors::default()), &evidence.to_value());
    }
}

/// Reads a CoRIM, as reference values and as named values, and tries to open it.
pub fn corim(data: &[u8]) {
    let _ = from_corim(data);
    let _ = named_values(data);
    if let Ok(corim) = Corim::parse(data) {
        let _ = corim.to_bytes();
    }
    assert!(open(data, &[key()]).is_err());
}

fn sign1(algorithm: i64, payload: Map, signature: usize) -> Vec<u8> {
    let header = encode(&Map::new().with(1, algorithm).into());
    let parts =
        vec![header.into(), Map::new().into(), encode(&payload.into()).into(), vec![7; signature].into()];
    encode(&Value::tag(18, Value::Array(parts)))
}

pub(crate) fn cbor_seeds() -> Vec<Vec<u8>> {
    let everything = vec![
        Value::Unsigned(u64::MAX),
        Value::Negative(0),
        "text".into(),
        Map::new().with(-1, NULL).with("a", true).into(),
        Value::Float(1.5_f64.to_bits()),
        Value::Simple(255),
    ];
    vec![
        encode(&Value::Array(everything)),
        encode(&key().to_cose_key()),
        sign1(-7, Map::new(), 64),
        // Of indefinite lengths.
        b"\x9f\x5f\x41\x01\x40\xff\x7f\x61\x61\xff\xbf\x00\x01\xff\xff".to_vec(),
    ]
}

pub(crate) fn nitro_seeds() -> Vec<Vec<u8>> {
    let pcrs = (0..4).fold(Map::new(), |map, pcr| map.with(pcr, &[1; 48][..]));
    let payload = Map::new()
        .with("module_id", "i-0-enc0")
        .with("digest", "SHA384")
        .with("timestamp", 1)
        .with("pcrs", pcrs)
        .with("certificate", coffer_verify_nitro::AWS_ROOT_G1)
        .with("cabundle", Value::Array(vec![coffer_verify_nitro::AWS_ROOT_G1.into()]))
        .with("public_key", NULL)
        .with("user_data", &[2; 64][..])
        .with("nonce", NULL);
    let signed = sign1(-35, payload.clone(), 96);
    vec![signed[1..].to_vec(), signed, encode(&payload.into())]
}

pub(crate) fn cca_seeds() -> Vec<Vec<u8>> {
    let component = Map::new().with(1, "RMM").with(2, &[1; 32][..]).with(4, "1").with(5, &[2; 32][..]);
    let device =
        Map::new().with(2, &[1; 32][..]).with(3, &[2; 48][..]).with(4, true).with(5, "x").with(7, "y");
    let boot_key = Map::new().with(1, "DM").with(2, 0).with(3, 1).with(4, &[3; 32][..]);
    let platform = Map::new()
        .with(10, &[3; 32][..])
        .with(256, &[1; 33][..])
        .with(265, "tag:arm.com,2024:cca_platform#2.0.0")
        .with(2394, 1)
        .with(2395, 0x3000)
        .with(2396, &[4; 32][..])
        .with(2399, Value::Array(vec![component.into()]))
        .with(2401, &[5; 4][..])
        .with(2402, "sha-256")
        .with(2404, Value::Array(vec![device.into()]))
        .with(2405, Value::Array(vec![boot_key.into()]));
    let realm = Map::new()
        .with(10, &[6; 64][..])
        .with(44235, &[0; 64][..])
        .with(44236, "sha-256")
        .with(44237, key().as_bytes())
        .with(44238, &[7; 32][..])
        .with(44239, Value::Array(vec![vec![8; 32].into(); 4]))
        .with(44240, "sha-256");
    let profiled = realm.clone().with(265, "tag:arm.com,2024:realm#2.0.0").with(44243, "private");
    let profiled = profiled.with(44237, encode(&key().to_cose_key()));
    let token = |tag, realm: &Map| {
        let parts =
            Map::new().with(44234, sign1(-7, platform.clone(), 64)).with(44241, sign1(-7, realm.clone(), 64));
        encode(&Value::tag(tag, parts))
    };
    let anchors = br#"[{"pkey":{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"},"instance-id":"01"}]"#;
    vec![
        token(399, &realm),
        token(907, &profiled),
        encode(&platform.into()),
        encode(&realm.into()),
        encode(&profiled.into()),
        anchors.to_vec(),
    ]
}

pub(crate) fn corim_seeds() -> Vec<Vec<u8>> {
    use coffer_core_corim::{
        Class, Comid, Entity, Environment, Hash, Key, Measurement, PROFILE, Svn, Triple, Validity,
    };
    let class = Class { vendor: Some("Coffer".into()), model: Some("snp".into()), ..Class::default() };
    let measurements = vec![
        Measurement { digests: vec![Hash::of(&Digest::sha256(b"m"))], ..Measurement::named("measurement") },
        Measurement { name: Some("sha384".into()), ..Measurement::named("bank") },
        Measurement { svn: Some(Svn::AtLeast(2)), ..Measurement::named("guest-svn") },
    ];
    let other = Measurement {
        key: Some(Key::Uuid([1; 16])),
        version: Some("1".into()),
        registers: vec![(Value::Unsigned(0), vec![Hash::of(&Digest::sha256(b"r"))])],
        ..Measurement::default()
    };
    let environment = Environment { class: Some(class), ..Environment::default() };
    let document = |measurements| Corim {
        id: "seed".into(),
        profiles: vec![PROFILE.into()],
        validity: Some(Validity { not_before: Some(1), not_after: 2 }),
        entities: vec![Entity { name: "seed".into(), uri: Some("urn:x".into()), roles: vec![1] }],
        modules: vec![Comid {
            id: "m".into(),
            references: vec![Triple { environment: environment.clone(), measurements }],
            ..Comid::default()
        }],
        skipped: 0,
    };
    let ours = document(measurements).to_bytes();
    let header = Map::new().with(1, -7).with(3, "application/rim+cbor");
    let meta = encode(&Map::new().with(0, Map::new().with(0, "signer")).into());
    let header = encode(&header.with(8, meta).into());
    let parts = vec![header.into(), Map::new().into(), ours.as_slice().into(), vec![7; 64].into()];
    vec![ours, document(vec![other]).to_bytes(), encode(&Value::tag(18, Value::Array(parts)))]
}
