//! Keys and sets of keys.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{RSA, Signer, b64, with};
use crate::certificate::ClientCertificate;
use crate::error::KeyError;
use crate::key::PublicKey;
use crate::key_set::KeySet;
use crate::token::Token;

fn jwk(value: &Value) -> Result<PublicKey, KeyError> {
    PublicKey::from_text(&value.to_string())
}

#[test]
fn a_key_is_the_same_as_jwk_and_as_pem() {
    for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let pem = PublicKey::from_text(&pair.public_key_pem()).unwrap();
        let raw = pair.public_key_raw();
        let again = match raw.len() {
            32 => jwk(&json!({"kty": "OKP", "crv": "Ed25519", "x": b64(raw)})),
            length => {
                let (x, y) = raw[1..].split_at(length / 2);
                let curve = if length == 65 { "P-256" } else { "P-384" };
                jwk(&json!({"kty": "EC", "crv": curve, "x": b64(x), "y": b64(y)}))
            }
        };
        assert_eq!(pem.thumbprint(), again.unwrap().thumbprint());
    }
}

#[test]
fn an_rsa_key_is_read_from_pem() {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::signature::KeyPair;
    use base64::Engine;
    let Signer::Rsa(pair) = &*RSA else { panic!("it is RSA") };
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n");
    let key = PublicKey::from_text(&pem).unwrap();
    assert_eq!(key.thumbprint(), jwk(&RSA.jwk("")).unwrap().thumbprint());
}

/// RFC 7638, section 3.1.
#[test]
fn the_published_thumbprint_is_ours() {
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let key = jwk(&json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"})).unwrap();
    assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_eq!((key.id(), key.algorithms().count()), (Some("2011-04-29"), 1));
}

#[test]
fn each_defect_of_a_key_is_refused_with_its_reason() {
    let p256 = Signer::p256().jwk("1");
    let change = |member: &str, value: Value| jwk(&with(p256.clone(), member, value)).unwrap_err();
    assert!(matches!(change("kty", "oct".into()), KeyError::Kind(_)));
    assert!(matches!(change("crv", "secp256k1".into()), KeyError::Kind(_)));
    assert!(matches!(change("crv", "P-384".into()), KeyError::Material(_)));
    assert!(matches!(change("x", Value::Null), KeyError::Member("x")));
    assert!(matches!(change("x", "%".into()), KeyError::Member("x")));
    assert!(matches!(change("y", p256["x"].clone()), KeyError::Material(_)));
    assert!(matches!(change("alg", "RS256".into()), KeyError::Algorithm(_)));
    assert!(matches!(change("alg", "HS256".into()), KeyError::Algorithm(_)));
    assert!(matches!(change("use", "enc".into()), KeyError::Use));
    assert!(matches!(change("key_ops", json!(["sign"])), KeyError::Use));
    assert!(matches!(change("d", "AAAA".into()), KeyError::Private));
    assert!(matches!(jwk(&json!({"kty": "oct", "k": "AAAA"})), Err(KeyError::Private)));
    let rsa = |n: Vec<u8>, e: &[u8]| jwk(&json!({"kty": "RSA", "n": b64(n), "e": b64(e)}));
    let weak = |result| matches!(result, Err(KeyError::Material(_)));
    assert!(weak(rsa(vec![0xff; 128], &[1, 0, 1])), "1024 bits");
    assert!(weak(rsa([vec![0x7f], vec![0xff; 255]].concat(), &[1, 0, 1])), "2047 bits");
    assert!(weak(rsa([vec![0], vec![0xff; 256]].concat(), &[1, 0, 1])), "a leading zero");
    assert!(weak(rsa(vec![0xff; 1025], &[1, 0, 1])), "8200 bits");
    assert!(weak(rsa([vec![0xff; 255], vec![0xfe]].concat(), &[1, 0, 1])), "even");
    for exponent in [&[1][..], &[2], &[], &[1, 0, 0], &[0xff; 9]] {
        assert!(weak(rsa(vec![0xff; 256], exponent)), "{exponent:?}");
    }
    assert!(rsa(vec![0xff; 256], &[1, 0, 1]).is_ok());
    let long = format!("{{\"kty\":\"{}\"}}", "x".repeat(9000));
    for bad in ["", "{", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", long.as_str()] {
        assert!(matches!(PublicKey::from_text(bad), Err(KeyError::Form(_))), "{bad:.60}");
    }
    let private = rcgen::KeyPair::generate().unwrap().serialize_pem();
    assert!(PublicKey::from_text(&private).is_err());
}

#[test]
fn a_set_skips_what_is_of_no_use_and_is_bounded() {
    let good = Signer::p256().jwk("1");
    let weak = json!({"kty": "RSA", "n": b64([0xff; 128]), "e": "AQAB", "kid": "weak"});
    let parse = |keys: &[Value]| KeySet::parse(json!({"keys": keys, "x": 1}).to_string().as_bytes());
    let others =
        [good.clone(), weak.clone(), json!({"kty": "oct", "k": "AAAA"}), json!(7), json!({"kty": "new"})];
    let set = parse(&others).unwrap();
    assert_eq!((set.len(), set.skipped()), (1, 4));
    assert!(parse(&[weak]).is_err() && parse(&[]).is_err());
    assert!(parse(&vec![good.clone(); 100]).is_ok());
    assert!(matches!(parse(&vec![good.clone(); 101]), Err(KeyError::Form(_))));
    assert!(matches!(parse(&vec![good; 10_000]), Err(KeyError::Form(_))));
    for bad in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
        assert!(KeySet::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

/// Every parser of the crate on one input; what it takes must keep what it promises.
fn feed(bytes: &[u8]) {
    if let Ok(set) = KeySet::parse(bytes) {
        assert!((1..=crate::MAX_KEYS).contains(&set.len()));
    }
    let _ = ClientCertificate::from_verified_der(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = PublicKey::from_text(text) {
        assert_eq!(key.thumbprint().len(), 43);
    }
    if let Ok(token) = Token::parse(text) {
        assert!(text.len() <= crate::MAX_TOKEN && !token.algorithm().is_empty());
    }
    let parts = text.split('\u{1}').map(b64).collect::<Vec<_>>();
    let _ = Token::parse(&parts.join("."));
}

fn seeds() -> Vec<Vec<u8>> {
    let signer = Signer::p256();
    let token =
        signer.token(&json!({"alg": "ES256", "kid": "1", "jwk": signer.jwk("1")}), &json!({"iat": 1}));
    let pem = rcgen::KeyPair::generate().unwrap().public_key_pem();
    let keys = json!({"keys": [signer.jwk("1"), RSA.jwk("2")]}).to_string();
    let parts = "{\"alg\":\"ES256\"}\u{1}{\"iat\":1,\"exp\":2}\u{1}x".to_owned();
    let der = super::certificates::certificate(&["Ann"]);
    [token, pem, keys, signer.jwk("1").to_string(), parts]
        .map(String::into_bytes)
        .into_iter()
        .chain([der])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_a_parser_panic(
        which in 0_usize..6,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 0..6),
    ) {
        thread_local!(static SEEDS: Vec<Vec<u8>> = seeds());
        let mut bytes = SEEDS.with(|seeds| seeds[which].clone());
        for (at, byte, how) in changes {
            let at = at.index(bytes.len().max(1));
            match how {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, byte),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ => {
                    if let Some(one) = bytes.get_mut(at) {
                        *one = byte;
                    }
                }
            }
        }
        feed(&bytes);
    }
}
