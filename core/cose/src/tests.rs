//! Claims about keys and COSE_Sign1, and refusal twins.

use crate::cbor::{Map, Value, decode, encode};
use crate::{Algorithm, CoseError, Curve, KeyError, PublicKey, Sign1, SigningKey, label};

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap()).collect()
}

/// The key "11" of RFC 9052's examples (appendix C.7.1), and what it signed in appendix C.2.1.
fn published() -> (PublicKey, Vec<u8>) {
    let key = PublicKey::from_coordinates(
        Curve::P256,
        &unhex("bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff"),
        &unhex("20138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e"),
    );
    let message = unhex(
        "d28443a10126a10442313154546869732069732074686520636f6e74656e742e58408eb33e4ca31d1c465ab05aac34cc6b23d58f\
         ef5c083106c4d25a91aef0b0117e2af9a291aa32e14ab834dc56ed2a223444547e01f11d3b0916e5a4c345cacb36",
    );
    (key.unwrap(), message)
}

fn altered(message: &[u8], change: impl FnOnce(&mut Vec<Value>)) -> Vec<u8> {
    let Value::Tag(18, inner) = decode(message).unwrap() else { panic!("no tag") };
    let Value::Array(mut parts) = *inner else { panic!("no array") };
    change(&mut parts);
    encode(&Value::Array(parts))
}

fn protected(map: Map) -> Value {
    encode(&map.into()).into()
}

#[test]
fn the_published_example_is_verified_and_every_changed_byte_of_it_is_refused() {
    let (key, message) = published();
    let signed = Sign1::parse(&message).unwrap();
    signed.verify(&key, b"").unwrap();
    assert_eq!(signed.payload(), b"This is the content.");
    assert_eq!(signed.unprotected().at(label::KEY_ID), Some(&Value::Bytes(b"11".to_vec())));
    Sign1::parse(&message[1..]).unwrap().verify(&key, b"").expect("the tag may be left out");
    for at in 0..message.len() {
        // The key's identifier is not protected.
        if (7..11).contains(&at) {
            continue;
        }
        for bit in 0..8 {
            let mut changed = message.clone();
            changed[at] ^= 1 << bit;
            let verified = Sign1::parse(&changed).and_then(|signed| signed.verify(&key, b""));
            assert!(verified.is_err(), "byte {at} bit {bit}");
        }
    }
    for end in 0..message.len() {
        assert!(Sign1::parse(&message[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn what_is_signed_here_is_verified_with_every_curve_and_with_no_other_key() {
    for curve in [Curve::P256, Curve::P384, Curve::P521] {
        let (key, other) = (SigningKey::generate(curve).unwrap(), SigningKey::generate(curve).unwrap());
        let header = Map::new().with(label::CONTENT_TYPE, "text/plain");
        let message = Sign1::sign(header, b"content", b"beside", &key).unwrap();
        let signed = Sign1::parse(&message).unwrap();
        assert_eq!(signed.algorithm(), Ok(curve.algorithm()));
        assert_eq!(signed.header().at(label::CONTENT_TYPE), Some(&"text/plain".into()));
        assert_eq!(signed.verify(key.public(), b"beside"), Ok(()));
        assert_eq!(signed.verify(key.public(), b""), Err(CoseError::Signature));
        assert_eq!(signed.verify(other.public(), b"beside"), Err(CoseError::Signature));
    }
}

#[test]
fn ed25519_is_verified() {
    // RFC 8032, section 7.1, test 1: the key; the signature is over another message, so it is refused.
    let key = unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    let key = PublicKey::from_point(Curve::Ed25519, &key).unwrap();
    let (_, message) = published();
    let ed = altered(&message, |parts| parts[0] = protected(Map::new().with(1, -8)));
    assert_eq!(Sign1::parse(&ed).unwrap().verify(&key, b""), Err(CoseError::Signature));
    let pair = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
    let public = aws_lc_rs::signature::KeyPair::public_key(&pair).as_ref();
    let key = PublicKey::from_point(Curve::Ed25519, public).unwrap();
    let header = encode(&Map::new().with(1, -8).into());
    let parts =
        ["Signature1".into(), header.as_slice().into(), b"".as_slice().into(), b"x".as_slice().into()];
    let signature = pair.sign(&encode(&Value::Array(parts.to_vec())));
    let parts = [header.into(), Map::new().into(), b"x".as_slice().into(), signature.as_ref().into()];
    Sign1::from_value(Value::Array(parts.to_vec())).unwrap().verify(&key, b"").unwrap();
    assert_eq!(PublicKey::from_cose_key(&key.to_cose_key()), Ok(key.clone()));
    assert_eq!(PublicKey::from_spki_der(&key.to_spki_der()), Ok(key));
}

#[test]
fn the_key_decides_the_algorithm() {
    let (key, message) = published();
    let with = |map: Map| Sign1::parse(&altered(&message, |parts| parts[0] = protected(map))).unwrap();
    let other = CoseError::Algorithm { expected: Algorithm::Es256, found: Algorithm::Es384 };
    assert_eq!(with(Map::new().with(1, -35)).verify(&key, b""), Err(other));
    for unknown in [Map::new().with(1, -37), Map::new().with(1, "ES256"), Map::new().with(3, 0)] {
        let refused = with(unknown).verify(&key, b"");
        assert!(matches!(refused, Err(CoseError::UnknownAlgorithm { .. })), "{refused:?}");
    }
    // An algorithm that nothing protects is none.
    let loose = altered(&message, |parts| {
        parts[0] = Value::Bytes(Vec::new());
        parts[1] = Map::new().with(1, -7).into();
    });
    let refused = Sign1::parse(&loose).unwrap().verify(&key, b"");
    assert!(matches!(refused, Err(CoseError::UnknownAlgorithm { .. })), "{refused:?}");
    // RFC 9864 gives ES256 on P-256 a number of its own.
    assert_eq!(with(Map::new().with(1, -9)).verify(&key, b""), Err(CoseError::Signature));
}

#[test]
fn headers_that_could_be_understood_in_two_ways_are_refused() {
    let (_, message) = published();
    let parse = |map: Map, loose: Map| {
        Sign1::parse(&altered(&message, |parts| {
            parts[0] = protected(map);
            parts[1] = loose.into();
        }))
    };
    let list = |labels: &[i64]| Value::Array(labels.iter().map(|one| (*one).into()).collect());
    let es256 = || Map::new().with(1, -7);
    assert!(matches!(parse(es256().with(4, 1), Map::new().with(4, 1)), Err(CoseError::Twice(_))));
    assert!(matches!(
        parse(es256().with(2, list(&[99])).with(99, 0), Map::new()),
        Err(CoseError::Critical(_))
    ));
    assert!(matches!(parse(es256().with(2, list(&[4])), Map::new()), Err(CoseError::Critical(_))));
    assert!(matches!(parse(es256().with(2, list(&[])), Map::new()), Err(CoseError::Form { .. })));
    assert!(matches!(parse(es256(), Map::new().with(2, list(&[1]))), Err(CoseError::Critical(_))));
    assert!(parse(es256().with(2, list(&[4])).with(4, 1), Map::new()).is_ok());
}

#[test]
fn what_is_no_sign1_is_refused() {
    let (_, message) = published();
    let refused = |change: fn(&mut Vec<Value>)| {
        let refused = Sign1::parse(&altered(&message, change)).expect_err("accepted");
        assert!(matches!(refused, CoseError::Form { .. } | CoseError::Cbor(_)), "{refused}");
    };
    refused(|parts| parts.truncate(3));
    refused(|parts| parts.push(0.into()));
    refused(|parts| parts[0] = 0.into());
    refused(|parts| parts[0] = Value::Bytes(vec![0x80]));
    refused(|parts| parts[0] = Value::Bytes(vec![0xa0, 0xa0]));
    refused(|parts| parts[1] = 0.into());
    refused(|parts| parts[2] = crate::cbor::NULL);
    refused(|parts| parts[3] = "signature".into());
    assert!(Sign1::parse(&[0xd8, 98, 0x80]).is_err(), "another tag");
}

#[test]
fn keys_are_read_in_every_form_and_read_back() {
    for curve in [Curve::P256, Curve::P384, Curve::P521] {
        let key = SigningKey::generate(curve).unwrap().public().clone();
        assert_eq!(Curve::of_length(key.as_bytes().len()), Some(curve));
        assert_eq!(Curve::from_name(curve.name()), Some(curve));
        assert_eq!(PublicKey::from_spki_der(&key.to_spki_der()), Ok(key.clone()));
        assert_eq!(PublicKey::from_cose_key(&key.to_cose_key()), Ok(key.clone()));
        let (x, y) = key.as_bytes()[1..].split_at(curve.coordinate());
        assert_eq!(PublicKey::from_coordinates(curve, x, y), Ok(key.clone()));
        // Aws-lc writes the same SubjectPublicKeyInfo.
        let parsed = aws_lc_rs::signature::ParsedPublicKey::new(curve_algorithm(curve), key.to_spki_der());
        assert!(parsed.is_ok(), "{curve:?}");
    }
}

fn curve_algorithm(curve: Curve) -> &'static dyn aws_lc_rs::signature::VerificationAlgorithm {
    match curve {
        Curve::P256 => &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED,
        Curve::P384 => &aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED,
        _ => &aws_lc_rs::signature::ECDSA_P521_SHA512_FIXED,
    }
}

#[test]
fn private_keys_are_read_from_pem_and_never_shown() {
    use aws_lc_rs::encoding::{AsBigEndian as _, AsDer as _};
    use base64::Engine as _;
    let algorithm = &aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING;
    let pair = aws_lc_rs::signature::EcdsaKeyPair::generate(algorithm).unwrap();
    let pkcs8 = pair.to_pkcs8v1().unwrap();
    let sec1: aws_lc_rs::encoding::EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().unwrap();
    let pem = |label: &str, der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{}\n{}\n-----END {label}-----\n", &text[..64], &text[64..])
    };
    let key = SigningKey::from_pem(&pem("PRIVATE KEY", pkcs8.as_ref())).unwrap();
    assert_eq!(key.public().curve(), Curve::P384);
    let same = SigningKey::from_pem(&pem("EC PRIVATE KEY", sec1.as_ref())).unwrap();
    assert_eq!(key.public(), same.public());
    let secret: aws_lc_rs::encoding::EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().unwrap();
    assert!(!format!("{key:?}").contains(&format!("{:?}", &secret.as_ref()[..2]).replace(['[', ']'], "")));
    assert!(SigningKey::from_pem("no key").is_err());
    assert!(SigningKey::from_pem(&pem("PUBLIC KEY", &key.public().to_spki_der())).is_err());
    let public = PublicKey::from_pem(&pem("PUBLIC KEY", &key.public().to_spki_der())).unwrap();
    assert_eq!(&public, key.public());
}

#[test]
fn what_is_no_key_is_refused_with_its_reason() {
    let (key, _) = published();
    let mut off = key.as_bytes().to_vec();
    off[40] ^= 1;
    assert_eq!(PublicKey::from_point(Curve::P256, &off), Err(KeyError::OffCurve(Curve::P256)));
    let length = KeyError::Length { curve: Curve::P384, expected: 97, found: 65 };
    assert_eq!(PublicKey::from_point(Curve::P384, key.as_bytes()), Err(length));
    off[0] = 2;
    assert!(matches!(PublicKey::from_point(Curve::P256, &off), Err(KeyError::Form(_))));
    assert!(matches!(PublicKey::from_spki_der(&[0x30, 0]), Err(KeyError::Form(_))));
    assert!(matches!(
        PublicKey::from_coordinates(Curve::P256, &[1; 33], &[1; 32]),
        Err(KeyError::Length { found: 33, .. })
    ));
    let Value::Map(good) = key.to_cose_key() else { panic!("a map") };
    for bad in [
        good.clone().with(-1, 2),
        good.clone().with(-1, 9),
        good.clone().with(1, 1),
        good.clone().with(-2, "x"),
        good.clone().with(3, -35),
    ] {
        assert!(PublicKey::from_cose_key(&bad.into()).is_err());
    }
    assert!(PublicKey::from_cose_key(&good.with(3, -7).into()).is_ok());
    assert!(PublicKey::from_cose_key(&0.into()).is_err());
}
