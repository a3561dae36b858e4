//! Published vectors, both ends against each other, and each defect with its reason.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use serde_json::json;

use super::*;
use crate::jwk::Curve;

fn key(curve: Curve) -> TeeKey {
    TeeKey::generate_on(curve).unwrap()
}

fn ec(key: &TeeKey) -> &EcPrivate {
    match &key.0 {
        Kind::Ec(key) => key,
        _ => panic!("not on a curve"),
    }
}

fn point(key: &TeeKey) -> EcKey {
    ec(key).public().clone()
}

/// Seals with a header that the test chose.
fn sealed_with(to: &TeeKey, header: Value) -> Jwe {
    let ephemeral = key(ec(to).curve());
    let PublicKey::Ec(public) = to.public() else { panic!("an EC key") };
    let kek = derive_kek(ec(&ephemeral), &public, &[], &[]).unwrap();
    let cek = Secret::<[u8; KEY_LEN]>::random().unwrap();
    let mut jwe =
        encrypt(ec_header(&point(&ephemeral)).unwrap(), &wrap(&kek, &cek).unwrap(), &cek, b"x").unwrap();
    let mut members = serde_json::to_value(ec_header(&point(&ephemeral)).unwrap()).unwrap();
    for (name, value) in header.as_object().unwrap() {
        members[name] = value.clone();
    }
    jwe.protected = b64::url(members.to_string().as_bytes());
    jwe
}

fn refused(jwe: &Jwe, key: &TeeKey) -> JweError {
    match key.open(jwe) {
        Ok(_) => panic!("it must be refused"),
        Err(error) => error,
    }
}

#[test]
fn what_is_sealed_to_a_key_is_opened_by_it_and_by_no_other() {
    for curve in [Curve::P256, Curve::P521] {
        for plaintext in [&b""[..], b"secret", &[7; 100_000]] {
            let own = key(curve);
            let jwe = seal(&own.public(), plaintext).unwrap();
            let again = Jwe::from_json(&jwe.to_json().unwrap()).unwrap();
            assert!(own.open(&again).unwrap().equals(plaintext));
            assert!(matches!(refused(&jwe, &key(curve)), JweError::Unwrap));
        }
    }
}

#[test]
fn the_wire_form_has_upstream_s_members() {
    let jwe = seal(&key(Curve::P256).public(), b"x").unwrap();
    let value: Value = serde_json::from_slice(&jwe.to_json().unwrap()).unwrap();
    let names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["ciphertext", "encrypted_key", "iv", "protected", "tag"]);
    let header: Value =
        serde_json::from_slice(&b64::from_url(value["protected"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!((&header["alg"], &header["enc"]), (&json!("ECDH-ES+A256KW"), &json!("A256GCM")));
    let epk: Vec<&str> = header["epk"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(epk, ["crv", "kty", "x", "y"]);
}

#[test]
fn rsa_keys_are_sealed_to_with_oaep_and_sha_256() {
    let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    let spki = private.public_key().as_der().unwrap().as_ref().to_vec();
    // SubjectPublicKeyInfo of a 2048-bit key: the modulus is 256 bytes before the five bytes of the exponent.
    let end = spki.len() - 5;
    let jwk = json!({"kty":"RSA","alg":"RSA-OAEP-256","n":b64::url(&spki[end - 256..end]),"e":"AQAB"});
    let jwe = seal(&PublicKey::from_json(&jwk).unwrap(), b"secret").unwrap();
    let pkcs8: Pkcs8V1Der<'_> = private.as_der().unwrap();
    let private =
        OaepPrivateDecryptingKey::new(PrivateDecryptingKey::from_pkcs8(pkcs8.as_ref()).unwrap()).unwrap();
    let mut room = vec![0; private.min_output_size()];
    let wrapped = b64::from_url(&jwe.encrypted_key).unwrap();
    let cek = private.decrypt(&OAEP_SHA256_MGF1SHA256, &wrapped, &mut room, None).unwrap();
    let cek = Secret::new(exact::<KEY_LEN>("cek", cek).unwrap());
    assert!(jwe.decrypt(&cek).unwrap().equals(b"secret"));
    let refusal = refused(&jwe, &key(Curve::P256));
    assert!(matches!(refusal, JweError::Algorithm { expected: ECDH_ES_A256KW, .. }));
}

/// RFC 7518, appendix C.
#[test]
fn concat_kdf_gives_the_published_key() {
    let scalar = |text: &str| SecretBytes::new(b64::from_url(text).unwrap());
    let alice =
        TeeKey::from_scalar(Curve::P256, scalar("0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo")).unwrap();
    let bob =
        TeeKey::from_scalar(Curve::P256, scalar("VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw")).unwrap();
    let PublicKey::Ec(bob) = bob.public() else { panic!("an EC key") };
    assert_eq!(bob.coordinates().0, "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ");
    let z = ec(&alice).agree(&bob).unwrap();
    assert_eq!(z.expose()[..4], [158, 86, 217, 29]);
    let key = concat_kdf(&z, "A128GCM", b"Alice", b"Bob", 128);
    assert_eq!(b64::url(&key.expose()[..16]), "VqqN6vgjbSBcIijNcacQGg");
}

/// RFC 7516, appendix A.1: the content encryption with its published key.
#[test]
fn content_encryption_gives_the_published_text_and_tag() {
    let cek = Secret::new([
        177, 161, 244, 128, 84, 143, 225, 115, 63, 180, 3, 255, 107, 154, 212, 246, 138, 7, 110, 91, 112, 46,
        34, 105, 47, 130, 203, 46, 122, 234, 64, 252,
    ]);
    let jwe = Jwe {
        protected: "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ".into(),
        encrypted_key: String::new(),
        aad: None,
        iv: "48V1_ALb6US04U3b".into(),
        ciphertext: "5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6jiSdiwkIr3ajwQzaBtQD_A"
            .into(),
        tag: "XFBoMYUZodetZdvTiFvSkQ".into(),
    };
    let text = b"The true sign of intelligence is not knowledge but imagination.";
    assert!(jwe.decrypt(&cek).unwrap().equals(text));
    let iv = exact("iv", &b64::from_url(&jwe.iv).unwrap()).unwrap();
    let (ciphertext, tag) = encrypt_content(&cek, iv, &aad(&jwe.protected, None), text).unwrap();
    assert_eq!((b64::url(&ciphertext), b64::url(&tag)), (jwe.ciphertext, jwe.tag));
}

#[test]
fn additional_authenticated_data_is_covered_by_the_tag() {
    let own = key(Curve::P256);
    let ephemeral = key(Curve::P256);
    let PublicKey::Ec(public) = own.public() else { panic!("an EC key") };
    let kek = derive_kek(ec(&ephemeral), &public, &[], &[]).unwrap();
    let cek = Secret::<[u8; KEY_LEN]>::random().unwrap();
    let mut jwe =
        encrypt(ec_header(&point(&ephemeral)).unwrap(), &wrap(&kek, &cek).unwrap(), &cek, b"").unwrap();
    let (ciphertext, tag) =
        encrypt_content(&cek, [9; 12], &aad(&jwe.protected, Some("bW9yZQ")), b"secret").unwrap();
    jwe.iv = b64::url(&[9; 12]);
    jwe.ciphertext = b64::url(&ciphertext);
    jwe.tag = b64::url(&tag);
    assert!(matches!(refused(&jwe, &own), JweError::Tag));
    jwe.aad = Some("bW9yZQ".into());
    let read = Jwe::from_json(&jwe.to_json().unwrap()).unwrap();
    assert!(own.open(&read).unwrap().equals(b"secret"));
    jwe.aad = Some("bW9yZg".into());
    assert!(matches!(refused(&jwe, &own), JweError::Tag));
}

#[test]
fn party_information_enters_the_key() {
    let own = key(Curve::P256);
    let ephemeral = key(Curve::P256);
    let PublicKey::Ec(public) = own.public() else { panic!("an EC key") };
    let kek = derive_kek(ec(&ephemeral), &public, b"Alice", b"Bob").unwrap();
    let cek = Secret::<[u8; KEY_LEN]>::random().unwrap();
    let header = |apv: &str| Header {
        apu: Some(b64::url(b"Alice")),
        apv: Some(apv.to_owned()),
        ..ec_header(&point(&ephemeral)).unwrap()
    };
    let wrapped = wrap(&kek, &cek).unwrap();
    let jwe = encrypt(header(&b64::url(b"Bob")), &wrapped, &cek, b"x").unwrap();
    assert!(own.open(&jwe).unwrap().equals(b"x"));
    let other = encrypt(header(&b64::url(b"Eve")), &wrapped, &cek, b"x").unwrap();
    assert!(matches!(refused(&other, &own), JweError::Unwrap));
    assert!(matches!(
        refused(&encrypt(header("%"), &wrapped, &cek, b"x").unwrap(), &own),
        JweError::Base64("apv")
    ));
}

#[test]
fn each_defect_of_a_header_is_refused_with_its_reason() {
    let own = key(Curve::P256);
    let with = |header: Value| refused(&sealed_with(&own, header), &own);
    assert!(matches!(with(json!({"zip": "DEF"})), JweError::Compressed));
    assert!(matches!(with(json!({"crit": ["exp"]})), JweError::Critical));
    assert!(matches!(with(json!({"crit": null})), JweError::Critical));
    for alg in ["RSA1_5", "RSA-OAEP", "dir", "ECDH-ES", "ECDH-ES+A128KW", "none", ""] {
        assert!(matches!(with(json!({"alg": alg})), JweError::Algorithm { .. }), "{alg}");
    }
    for enc in ["A128GCM", "A256CBC-HS512", ""] {
        assert!(matches!(with(json!({"enc": enc})), JweError::Encryption(_)), "{enc}");
    }
    assert!(matches!(with(json!({"epk": null})), JweError::EphemeralKey(JwkError::Missing("epk"))));
    let foreign = key(Curve::P521);
    let mut epk = serde_json::to_value(foreign.public()).unwrap();
    assert!(matches!(
        with(json!({"epk": epk})),
        JweError::EphemeralCurve { expected: "P-256", found: "P-521" }
    ));
    epk = serde_json::to_value(key(Curve::P256).public()).unwrap();
    epk["y"] = epk["x"].clone();
    assert!(matches!(with(json!({"epk": epk})), JweError::EphemeralKey(JwkError::OffCurve("P-256"))));
    let doubled = format!(r#"{{"alg":"{ECDH_ES_A256KW}","enc":"A256GCM","alg":"{ECDH_ES_A256KW}"}}"#);
    let jwe = Jwe { protected: b64::url(doubled.as_bytes()), ..sealed_with(&own, json!({})) };
    assert!(matches!(refused(&jwe, &own), JweError::Json(_)));
}

#[test]
fn each_defect_of_a_part_is_refused_with_its_reason() {
    let own = key(Curve::P256);
    let jwe = seal(&own.public(), b"secret").unwrap();
    let changed = |change: &dyn Fn(&mut Jwe)| {
        let mut jwe = jwe.clone();
        change(&mut jwe);
        refused(&jwe, &own)
    };
    let flipped = |text: &str| {
        let mut bytes = b64::from_url(text).unwrap();
        bytes[0] ^= 1;
        b64::url(&bytes)
    };
    assert!(matches!(changed(&|jwe| jwe.encrypted_key = flipped(&jwe.encrypted_key)), JweError::Unwrap));
    assert!(matches!(changed(&|jwe| jwe.ciphertext = flipped(&jwe.ciphertext)), JweError::Tag));
    assert!(matches!(changed(&|jwe| jwe.tag = flipped(&jwe.tag)), JweError::Tag));
    assert!(matches!(changed(&|jwe| jwe.iv = flipped(&jwe.iv)), JweError::Tag));
    assert!(matches!(changed(&|jwe| jwe.iv.push_str("AAAA")), JweError::Length { part: "iv", .. }));
    assert!(matches!(changed(&|jwe| jwe.tag.clear()), JweError::Length { part: "tag", found: 0, .. }));
    assert!(matches!(
        changed(&|jwe| jwe.encrypted_key.clear()),
        JweError::Length { part: "encrypted_key", .. }
    ));
    assert!(matches!(changed(&|jwe| jwe.ciphertext.push('=')), JweError::Base64("ciphertext")));
    for member in ["header", "unprotected", "recipients"] {
        let mut value: Value = serde_json::to_value(&jwe).unwrap();
        value[member] = json!({"alg": "dir"});
        let refusal = Jwe::from_json(value.to_string().as_bytes()).unwrap_err();
        assert!(matches!(refusal, JweError::UnprotectedHeader), "{member}");
    }
}
