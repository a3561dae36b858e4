//! Signatures of each kind of key are accepted; each twin with one defect is refused with that defect.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
};

use super::*;

struct Case {
    pem: String,
    payload: Vec<u8>,
    signature: String,
    digest: Digest,
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
}

fn cases() -> Vec<Case> {
    let digest = Digest::sha256(b"manifest");
    let payload = Payload::new(digest, "registry.example/app").to_bytes().unwrap();
    let rng = SystemRandom::new();
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let ed = Ed25519KeyPair::generate().unwrap();
    let rsa = aws_lc_rs::signature::RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let mut rsa_signature = vec![0; rsa.public_modulus_len()];
    rsa.sign(&RSA_PKCS1_SHA256, &rng, &payload, &mut rsa_signature).unwrap();
    let parts = [
        (
            ec.public_key().as_der().unwrap().as_ref().to_vec(),
            ec.sign(&rng, &payload).unwrap().as_ref().to_vec(),
        ),
        (ed.public_key().as_der().unwrap().as_ref().to_vec(), ed.sign(&payload).as_ref().to_vec()),
        (rsa.public_key().as_der().unwrap().as_ref().to_vec(), rsa_signature),
    ];
    parts
        .into_iter()
        .map(|(der, signature)| Case {
            pem: pem(&der),
            payload: payload.clone(),
            signature: STANDARD.encode(signature),
            digest,
        })
        .collect()
}

#[test]
fn signatures_of_each_key_kind_are_accepted() {
    let kinds: Vec<_> = cases()
        .iter()
        .map(|case| {
            let signed = verify(&case.payload, &case.signature, &case.pem, &case.digest).unwrap();
            assert_eq!(signed.value(), &case.digest);
            assert_eq!(signed.identity(), "registry.example/app");
            PublicKey::from_pem(&case.pem).unwrap().kind()
        })
        .collect();
    assert_eq!(kinds, ["ECDSA P-256", "Ed25519", "RSA"]);
}

#[test]
fn signature_of_another_key_is_refused_as_such() {
    let (ours, theirs) = (cases(), cases());
    for (case, other) in ours.iter().zip(&theirs) {
        let key = PublicKey::from_pem(&other.pem).unwrap().fingerprint().to_string();
        assert_eq!(
            verify(&case.payload, &case.signature, &other.pem, &case.digest),
            Err(SignatureError::WrongKey { key })
        );
    }
}

#[test]
fn good_signature_over_another_image_is_refused_as_such() {
    for case in cases() {
        let expected = Digest::sha256(b"another");
        let refusal = SignatureError::WrongDigest { expected: expected.into(), found: case.digest.into() };
        assert_eq!(verify(&case.payload, &case.signature, &case.pem, &expected), Err(refusal));
    }
}

#[test]
fn changed_payload_is_refused_before_it_is_read() {
    for case in cases() {
        let mut payload = case.payload.clone();
        payload[0] ^= 1;
        assert!(matches!(
            verify(&payload, &case.signature, &case.pem, &case.digest),
            Err(SignatureError::WrongKey { .. })
        ));
    }
}

#[test]
fn malformed_signatures_and_keys_are_told_apart() {
    let case = &cases()[0];
    let long = "A".repeat(MAX_SIGNATURE + 4);
    for bad in ["no base64!", long.as_str()] {
        assert!(matches!(
            verify(&case.payload, bad, &case.pem, &case.digest),
            Err(SignatureError::Malformed(_))
        ));
    }
    let private = case.pem.replace("PUBLIC KEY", "PRIVATE KEY");
    let two = format!("{}{}", case.pem, case.pem);
    let cut = pem(&[0x30, 3, 0x30, 1]);
    for bad in ["", private.as_str(), two.as_str(), cut.as_str()] {
        assert!(matches!(
            verify(&case.payload, &case.signature, bad, &case.digest),
            Err(SignatureError::Key(_))
        ));
    }
}
