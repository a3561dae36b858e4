//! The published vectors, both ends against each other, and each defect with its reason.

use serde_json::{Value, json};
use tiny_keccak::{Hasher, Kmac};

use super::*;
use crate::b64;
use crate::jwe::{Jwe, Sealer, seal};
use crate::jwk::PublicKey;
use crate::tee_key::{EcPrivate, Kind, TeeKey};

pub(crate) fn kmac(key: &[u8], input: &[u8], output: &mut [u8]) {
    let mut kmac = Kmac::v256(key, b"");
    kmac.update(input);
    kmac.finalize(output);
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../testdata/kem.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn kem(vectors: &Value) -> MlKemPrivate {
    MlKemPrivate::from_expanded(&b64::from_url(vectors["decapsulation_key"].as_str().unwrap()).unwrap())
}

fn ml_kem_key(vectors: &Value) -> TeeKey {
    TeeKey(Kind::MlKem(kem(vectors), kmac))
}

fn hybrid_key(vectors: &Value) -> TeeKey {
    let scalar = SecretBytes::new(bytes(&vectors["p256_scalar"]));
    TeeKey::hybrid_of(EcPrivate::from_scalar(Curve::P256, scalar).unwrap(), kem(vectors)).unwrap()
}

fn keys(vectors: &Value) -> [(&'static str, TeeKey); 2] {
    [("ml_kem_768", ml_kem_key(vectors)), ("hybrid", hybrid_key(vectors))]
}

fn ek(vector: &Value) -> Vec<u8> {
    let header = b64::from_url(vector["jwe"]["protected"].as_str().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    b64::from_url(header["ek"].as_str().unwrap()).unwrap()
}

fn refused(key: &TeeKey, jwe: &Value) -> JweError {
    match Jwe::from_json(jwe.to_string().as_bytes()).and_then(|jwe| key.open(&jwe)) {
        Ok(_) => panic!("it must be refused"),
        Err(error) => error,
    }
}

/// The vector's message with another header.
fn with_header(jwe: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let header = b64::from_url(jwe["protected"].as_str().unwrap()).unwrap();
    let mut header: Value = serde_json::from_slice(&header).unwrap();
    change(&mut header);
    let mut jwe = jwe.clone();
    jwe["protected"] = b64::url(header.to_string().as_bytes()).into();
    jwe
}

/// NIST's sample 4 of KMAC256: the function that tests bring is the one that the protocol means.
#[test]
fn the_tests_kmac_is_that_of_the_published_samples() {
    let mut kmac = Kmac::v256(&(0x40..0x60).collect::<Vec<u8>>(), b"My Tagged Application");
    kmac.update(&[0, 1, 2, 3]);
    let mut output = [0; 64];
    kmac.finalize(&mut output);
    assert_eq!(hex::encode(&output[..8]), "20c570c31346f703");
}

#[test]
fn the_vectors_messages_are_opened() {
    let vectors = vectors();
    for (form, key) in keys(&vectors) {
        let vector = &vectors[form];
        assert_eq!(serde_json::to_value(key.public()).unwrap(), vector["jwk"]);
        let jwe = Jwe::from_json(vector["jwe"].to_string().as_bytes()).unwrap();
        assert!(key.open(&jwe).unwrap().equals(vectors["plaintext"].as_str().unwrap().as_bytes()), "{form}");
    }
}

#[test]
fn the_vectors_keys_are_derived_and_their_wraps_reproduced() {
    let vectors = vectors();
    let cek = Secret::new(bytes(&vectors["cek"]).try_into().unwrap());
    let vector = &vectors["ml_kem_768"];
    let secret = kem(&vectors).decapsulate(&ek(vector)).unwrap();
    assert!(secret.equals(&bytes(&vector["shared_secret"])));
    let kek = from_ml_kem(&kem(&vectors), &ek(vector), kmac).unwrap();
    assert!(kek.equals(&bytes(&vector["kek"])));
    assert_eq!(crate::jwe::wrapping::wrap_192(&kek, &cek).unwrap(), bytes(&vector["wrapped"]));
    let vector = &vectors["hybrid"];
    let TeeKey(Kind::Hybrid(key)) = hybrid_key(&vectors) else { panic!("not hybrid") };
    let kek = from_hybrid(&key, &ek(vector)).unwrap();
    assert!(kek.equals(&bytes(&vector["kek"])));
    assert_eq!(crate::jwe::wrapping::wrap(&kek, &cek).unwrap(), bytes(&vector["wrapped"]));
}

#[test]
fn what_is_sealed_to_an_encapsulation_key_is_opened_by_it_and_by_no_other() {
    let sealer = Sealer::new().with_kmac256(kmac);
    let make: [fn() -> TeeKey; 2] =
        [|| TeeKey::generate_hybrid().unwrap(), || TeeKey::generate_ml_kem(kmac).unwrap()];
    for make in make {
        let own = make();
        let jwe = sealer.seal(&own.public(), b"secret").unwrap();
        let jwe = Jwe::from_json(&jwe.to_json().unwrap()).unwrap();
        assert!(own.open(&jwe).unwrap().equals(b"secret"));
        assert!(matches!(make().open(&jwe), Err(JweError::Unwrap)));
    }
}

#[test]
fn a_program_without_kmac_says_that_it_has_none() {
    let own = TeeKey::generate_ml_kem(kmac).unwrap();
    assert!(matches!(seal(&own.public(), b"x"), Err(JweError::NoKmac)));
    assert!(seal(&TeeKey::generate_hybrid().unwrap().public(), b"x").is_ok());
}

#[test]
fn a_key_of_one_form_refuses_the_header_of_every_other() {
    let vectors = vectors();
    let forms = keys(&vectors);
    for (form, key) in &forms {
        for (other, _) in forms.iter().filter(|(other, _)| other != form) {
            assert!(matches!(refused(key, &vectors[*other]["jwe"]), JweError::Algorithm { .. }));
        }
        let classical = seal(&TeeKey::generate().unwrap().public(), b"x").unwrap();
        assert!(matches!(key.open(&classical), Err(JweError::Algorithm { .. })));
        let jwe = Jwe::from_json(vectors[*form]["jwe"].to_string().as_bytes()).unwrap();
        let refusal = TeeKey::generate().unwrap().open(&jwe);
        assert!(matches!(refusal, Err(JweError::Algorithm { expected: "ECDH-ES+A256KW", .. })));
    }
}

#[test]
fn each_defect_of_an_encapsulation_is_refused_with_its_reason() {
    let vectors = vectors();
    for (form, key) in keys(&vectors) {
        let jwe = &vectors[form]["jwe"];
        let good = ek(&vectors[form]);
        let with = |ek: Value| refused(&key, &with_header(jwe, |header| header["ek"] = ek));
        let bytes = |bytes: &[u8]| json!(b64::url(bytes));
        assert!(matches!(
            refused(&key, &with_header(jwe, |header| drop(header.as_object_mut().unwrap().remove("ek")))),
            JweError::NoEncapsulation
        ));
        assert!(matches!(with(json!("%")), JweError::Base64("ek")));
        for wrong in [&good[1..], &[], &[&good[..], &[0]].concat(), &good[..POINT]] {
            assert!(matches!(with(bytes(wrong)), JweError::Length { part: "ek", .. }), "{form}");
        }
        // Another ciphertext gives another key, which unwraps nothing.
        let mut changed = good.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(matches!(with(bytes(&changed)), JweError::Unwrap), "{form}");
        let mut unwrapped = jwe.clone();
        unwrapped["encrypted_key"] = json!(b64::url(&[0; 40]));
        assert!(matches!(refused(&key, &unwrapped), JweError::Unwrap));
        unwrapped["encrypted_key"] = json!("AAAA");
        assert!(matches!(refused(&key, &unwrapped), JweError::Length { part: "encrypted_key", .. }));
        // The same header, written otherwise: the tag covers its text.
        let spaced = with_header(jwe, |header| header["more"] = json!(1));
        assert!(matches!(refused(&key, &spaced), JweError::Tag));
    }
}

#[test]
fn the_points_of_a_hybrid_encapsulation_are_on_the_curve_and_enter_the_key() {
    let vectors = vectors();
    let (key, jwe) = (hybrid_key(&vectors), &vectors["hybrid"]["jwe"]);
    let good = ek(&vectors["hybrid"]);
    let with = |ek: &[u8]| refused(&key, &with_header(jwe, |header| header["ek"] = b64::url(ek).into()));
    let mut off = good.clone();
    off[40] ^= 1;
    assert!(matches!(with(&off), JweError::EphemeralKey(_)));
    let mut compressed = good.clone();
    compressed[0] = 2;
    assert!(matches!(with(&compressed), JweError::EphemeralKey(_)));
    let PublicKey::Ec(other) = TeeKey::generate().unwrap().public() else { panic!("not on a curve") };
    assert!(matches!(with(&[&other.to_point()[..], &good[POINT..]].concat()), JweError::Unwrap));
}

#[test]
fn half_of_a_hybrid_key_opens_nothing() {
    let vectors = vectors();
    let jwe = Jwe::from_json(vectors["hybrid"]["jwe"].to_string().as_bytes()).unwrap();
    let scalar = SecretBytes::new(bytes(&vectors["p256_scalar"]));
    let TeeKey(Kind::Hybrid(stranger)) = TeeKey::generate_hybrid().unwrap() else { panic!("not hybrid") };
    let HybridPrivate { ec, kem: other, .. } = *stranger;
    let with_their_kem = TeeKey::hybrid_of(EcPrivate::from_scalar(Curve::P256, scalar).unwrap(), other);
    assert!(matches!(with_their_kem.unwrap().open(&jwe), Err(JweError::Unwrap)));
    let with_their_point = TeeKey::hybrid_of(ec, kem(&vectors)).unwrap();
    assert!(matches!(with_their_point.open(&jwe), Err(JweError::Unwrap)));
}
