//! temp
use aws_lc_rs::{agreement, rand::SystemRandom, signature::*};
use std::time::Instant;
fn t(n: &str, mut f: impl FnMut()) {
    for _ in 0..100 {
        f()
    }
    let b = Instant::now();
    for _ in 0..2000 {
        f()
    }
    println!("{n}: {:.1}", b.elapsed().as_secs_f64() * 1e6 / 2000.0);
}
fn main() {
    let r = SystemRandom::new();
    let k = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let m = [7u8; 4000];
    t("sign", || {
        k.sign(&r, &m).unwrap();
    });
    let s = k.sign(&r, &m).unwrap();
    let p = k.public_key().as_ref().to_vec();
    t("verify unparsed", || {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &p).verify(&m, s.as_ref()).unwrap();
    });
    let pp = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &p).unwrap();
    t("parse", || {
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &p).unwrap();
    });
    t("verify parsed", || {
        pp.verify_sig(&m, s.as_ref()).unwrap();
    });
    t("generate", || {
        agreement::PrivateKey::generate(&agreement::ECDH_P256).unwrap();
    });
    let a = agreement::PrivateKey::generate(&agreement::ECDH_P256).unwrap();
    t("compute_public", || {
        a.compute_public_key().unwrap();
    });
    t("agree", || {
        agreement::agree(&a, agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, &p), (), |_| Ok(()))
            .unwrap();
    });
    t("from_private_key", || {
        agreement::PrivateKey::from_private_key(&agreement::ECDH_P256, &[7; 32]).unwrap();
    });
    t("parse agreement", || {
        agreement::ParsedPublicKey::try_from(&agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, &p))
            .unwrap();
    });
    let mut b = [0u8; 32];
    t("rand32", || {
        aws_lc_rs::rand::fill(&mut b).unwrap();
    });
    let ek = Ed25519KeyPair::generate().unwrap();
    t("ed sign", || {
        ek.sign(&m);
    });
}
