//! What one of several keys opens no other does; each defect is refused with its reason.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use serde_json::json;

use super::*;

fn rsa(size: KeySize) -> (RecipientKey, RecipientPrivate) {
    let pair = PrivateDecryptingKey::generate(size).unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    (RecipientKey::from_spki(public.as_ref()).unwrap(), RecipientPrivate::from_der(private.as_ref()).unwrap())
}

fn ec(curve: Curve) -> (RecipientKey, RecipientPrivate) {
    let algorithm = if curve == Curve::P256 { &ECDH_P256 } else { &ECDH_P521 };
    let pair = PrivateKey::generate(algorithm).unwrap();
    let public = pair.compute_public_key().unwrap();
    let spki: PublicKeyX509Der<'_> = public.as_der().unwrap();
    let private: aws_lc_rs::encoding::EcPrivateKeyRfc5915Der<'_> = pair.as_der().unwrap();
    (RecipientKey::from_spki(spki.as_ref()).unwrap(), RecipientPrivate::from_der(private.as_ref()).unwrap())
}

#[test]
fn each_recipient_opens_and_a_stranger_does_not() {
    let keys = [rsa(KeySize::Rsa2048), ec(Curve::P256), ec(Curve::P521)];
    let public: Vec<RecipientKey> = keys.iter().map(|(public, _)| public.clone()).collect();
    let several =
        Envelope::from_json(&Envelope::seal(&public, b"the key").unwrap().to_json().unwrap()).unwrap();
    for (public, private) in &keys {
        assert!(several.open(private).unwrap().equals(b"the key"));
        let one = Envelope::seal(std::slice::from_ref(public), b"alone").unwrap().to_json().unwrap();
        assert!(!String::from_utf8(one.clone()).unwrap().contains("recipients"));
        assert!(Envelope::from_json(&one).unwrap().open(private).unwrap().equals(b"alone"));
    }
    for (_, stranger) in [rsa(KeySize::Rsa2048), ec(Curve::P256)] {
        assert!(matches!(several.open(&stranger), Err(JweError::Unwrap)));
    }
}

#[test]
fn a_guest_s_key_opens_what_image_tools_write_for_one_recipient() {
    let key = TeeKey::generate().unwrap();
    let crate::jwk::PublicKey::Ec(public) = key.public() else { panic!("not on a curve") };
    let written = Envelope::seal(&[RecipientKey::Ec(public)], b"same form").unwrap().to_json().unwrap();
    assert!(key.open(&super::super::Jwe::from_json(&written).unwrap()).unwrap().equals(b"same form"));
}

#[test]
fn each_defect_is_refused_with_its_reason() {
    let (public, private) = ec(Curve::P256);
    let (other, _) = rsa(KeySize::Rsa2048);
    let good = serde_json::to_value(Envelope::seal(&[public.clone(), other.clone()], b"x").unwrap()).unwrap();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut twin = good.clone();
        change(&mut twin);
        let read = Envelope::from_json(twin.to_string().as_bytes());
        read.and_then(|read| read.open(&private).map(drop)).unwrap_err().to_string()
    };
    let protected = |header: Value| json!(b64::url(header.to_string().as_bytes()));
    let first =
        |twin: &mut Value, member: &str, value: Value| twin["recipients"][0]["header"][member] = value;
    assert!(refused(&|twin| twin["unprotected"] = json!({"zip": "DEF"})).contains("unprotected"));
    assert!(refused(&|twin| twin["protected"] = protected(json!({}))).contains("none in the protected"));
    assert!(refused(&|twin| twin["protected"] = protected(json!({"enc": "A128GCM"}))).contains("A128GCM"));
    assert!(
        refused(&|twin| twin["protected"] = protected(json!({"enc": "A256GCM", "zip": "DEF"})))
            .contains("compressed")
    );
    assert!(refused(&|twin| first(twin, "crit", json!(["b64"]))).contains("crit"));
    assert!(refused(&|twin| first(twin, "enc", json!("A256GCM"))).contains("unprotected"));
    assert!(refused(&|twin| first(twin, "alg", json!("ECDH-ES"))).contains("not encrypted to this key"));
    assert!(refused(&|twin| twin["recipients"][0]["encrypted_key"] = json!("AAAA")).contains("3 bytes"));
    assert!(refused(&|twin| twin["tag"] = json!(b64::url(&[0; 16]))).contains("changed"));
    assert!(refused(&|twin| twin["aad"] = json!("AAAA")).contains("changed"));
    assert!(refused(&|twin| twin["recipients"] = json!([])).contains("0 recipients"));
    let many = vec![good["recipients"][0].clone(); MAX_RECIPIENTS + 1];
    assert!(refused(&|twin| twin["recipients"] = json!(many)).contains("33 recipients"));
    assert!(matches!(Envelope::seal(&[], b""), Err(JweError::Recipients { found: 0, .. })));
    // PKCS #1 v1.5 is an oracle, so it is no way to wrap a key.
    let (_, rsa_private) = rsa(KeySize::Rsa2048);
    let mut old = serde_json::to_value(Envelope::seal(&[other], b"x").unwrap()).unwrap();
    old["protected"] = protected(json!({"alg": "RSA1_5", "enc": "A256GCM"}));
    let old = Envelope::from_json(old.to_string().as_bytes()).unwrap();
    assert!(matches!(old.open(&rsa_private), Err(JweError::Algorithm { .. })));
}

#[test]
fn keys_of_other_kinds_are_refused() {
    for der in [&b""[..], b"0", &[0x30, 0x59], P256_SPKI] {
        assert!(RecipientKey::from_spki(der).is_err());
        assert!(RecipientPrivate::from_der(der).is_err());
    }
    let off_curve = [P256_SPKI, &[4], &[1; 64]].concat();
    assert!(matches!(
        RecipientKey::from_spki(&off_curve),
        Err(JweError::Key("its point is not on its curve"))
    ));
}
