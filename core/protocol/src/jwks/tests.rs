//! Sets that are read and written; what is left out; what is refused.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};

use super::*;
use crate::b64;
use crate::jws::{JwsError, SigningKey};

/// A signer of a kind that we do not sign with.
pub(crate) enum Foreign {
    P384(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Foreign {
    pub(crate) fn p384() -> Self {
        Self::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap()))
    }

    pub(crate) fn jwk(&self) -> Value {
        match self {
            Self::P384(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty":"EC","crv":"P-384","x":b64::url(&point[1..49]),"y":b64::url(&point[49..])})
            }
            Self::Rsa(_) => {
                // SubjectPublicKeyInfo of a 2048-bit key: the modulus is 256 bytes before the five of the exponent.
                let spki = self.spki();
                let end = spki.len() - 5;
                let n = &spki[end - 256..end];
                json!({"kty":"RSA","n":b64::url(n),"e":"AQAB"})
            }
        }
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::P384(pair) => pair.public_key().as_der().unwrap(),
            Self::Rsa(pair) => pair.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    pub(crate) fn sign(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P384(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => {
                let scheme = match algorithm {
                    SignatureAlgorithm::Ps256 => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(scheme, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
        }
    }
}

fn read(keys: Value) -> Result<JwkSet, JwksError> {
    JwkSet::from_json(json!({"keys": keys}).to_string().as_bytes())
}

#[test]
fn our_keys_are_published_under_their_thumbprints_and_read_back() {
    let keys = [SigningKey::generate().unwrap(), SigningKey::generate_ed25519().unwrap()];
    let set = JwkSet::of(keys.iter().map(SigningKey::verifying_key));
    let written = set.to_json();
    for (key, written) in keys.iter().zip(written["keys"].as_array().unwrap()) {
        assert_eq!(written["kid"], key.verifying_key().thumbprint());
        assert_eq!(
            (&written["use"], &written["alg"]),
            (&json!("sig"), &json!(key.verifying_key().algorithm()))
        );
        assert!(written.get("d").is_none());
    }
    assert_eq!(JwkSet::from_json(written.to_string().as_bytes()).unwrap(), set);
    let name = keys[0].verifying_key().thumbprint();
    assert_eq!(set.named(&name).count(), 1);
    assert_eq!(set.named("x").count(), 0);
}

#[test]
fn each_algorithm_verifies_its_own_signatures_and_no_others() {
    use SignatureAlgorithm::{EdDsa, Es256, Es384, Ps256, Rs256};
    let (p384, rsa) = (Foreign::p384(), Foreign::rsa());
    for (signer, algorithms) in [(&p384, &[Es384][..]), (&rsa, &[Rs256, Ps256])] {
        let key = SignatureKey::from_jwk(&signer.jwk()).unwrap();
        assert_eq!(key.spki_der().unwrap(), signer.spki());
        for &algorithm in algorithms {
            let signature = signer.sign(algorithm, b"message");
            key.verify(algorithm, b"message", &signature).unwrap();
            assert!(matches!(key.verify(algorithm, b"other", &signature), Err(JwsError::Signature)));
            assert!(key.verify(algorithm, b"message", &signature[1..]).is_err());
        }
        for other in SignatureAlgorithm::ALL.into_iter().filter(|other| !algorithms.contains(other)) {
            assert!(matches!(key.verify(other, b"", b""), Err(JwsError::Algorithm { .. })));
        }
    }
    // A signature in one of RSA's schemes is none in the other.
    let key = SignatureKey::from_jwk(&rsa.jwk()).unwrap();
    assert!(key.verify(Ps256, b"message", &rsa.sign(Rs256, b"message")).is_err());
    for (ours, algorithm) in [(SigningKey::generate(), Es256), (SigningKey::generate_ed25519(), EdDsa)] {
        let ours = ours.unwrap();
        let key = SignatureKey::from(ours.verifying_key().clone());
        key.verify(algorithm, b"message", &ours.sign(b"message").unwrap()).unwrap();
        assert_eq!(key.thumbprint(), ours.verifying_key().thumbprint());
    }
}

#[test]
fn an_rsa_key_is_used_with_the_one_scheme_that_it_names() {
    let mut jwk = Foreign::rsa().jwk();
    jwk["alg"] = json!("PS256");
    let key = SignatureKey::from_jwk(&jwk).unwrap();
    assert!(key.is_for(SignatureAlgorithm::Ps256) && !key.is_for(SignatureAlgorithm::Rs256));
    jwk["alg"] = json!("RS512");
    assert!(matches!(SignatureKey::from_jwk(&jwk), Err(JwsError::Algorithm { .. })));
}

#[test]
fn keys_that_verify_nothing_here_are_left_out_and_named() {
    let good = SignatureKey::from(SigningKey::generate().unwrap().verifying_key().clone()).to_members();
    let with = |member: &str, value: Value| {
        let mut key = good.clone();
        key.insert(member.into(), value);
        Value::Object(key)
    };
    let set = read(json!([
        good,
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("kid", json!(7)),
        with("kid", json!("x".repeat(300))),
        with("alg", json!("HS256")),
        with("y", json!("AAAA")),
        {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "a"},
        {"kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA"},
        {"kty": "RSA", "n": b64::url(&[0xff; 128]), "e": "AQAB"},
        {"kty": "EC", "crv": "P-384", "x": "AAAA", "y": "AAAA"},
        "text",
    ]))
    .unwrap();
    assert_eq!((set.keys().len(), set.left_out().len()), (1, 11));
    assert!(set.left_out()[0].contains("use"), "{:?}", set.left_out());
    let operations = read(json!([with("key_ops", json!(["verify"]))])).unwrap();
    assert!(!operations.is_empty() && operations.left_out().is_empty());
}

#[test]
fn a_set_that_leaks_or_is_no_set_is_refused() {
    let mut leaked = Foreign::rsa().jwk();
    leaked["d"] = json!("AAAA");
    assert!(matches!(read(json!([leaked])), Err(JwksError::Private { number: 0 })));
    assert!(matches!(read(json!(vec![json!({}); 65])), Err(JwksError::TooMany { found: 65 })));
    assert!(matches!(read(json!({})), Err(JwksError::NoKeys)));
    assert!(matches!(JwkSet::from_json(b"[]"), Err(JwksError::Json(_))));
    assert!(matches!(JwkSet::from_json(br#"{"keys":[],"keys":[]}"#), Err(JwksError::Json(_))));
    assert!(matches!(JwkSet::from_json(&vec![b' '; MAX_SET + 1]), Err(JwksError::TooLarge { .. })));
    assert!(read(json!([])).unwrap().is_empty());
}
