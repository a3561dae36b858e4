//! Claims of the crate, by subject: local keys, issuers, keys, the cache, certificates.

mod cache;
mod certificates;
mod keys;
mod local;
mod oidc;

use std::sync::{Arc, LazyLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_core_admin::Role;
use coffer_verify_x509::der::Reader;
use serde_json::{Value, json};

use crate::roles::RoleSet;
use crate::scope::Scope;

pub(super) const NOW: u64 = 1_800_000_000;

/// An issuer's or an admin's private key.
pub(super) enum Signer {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// One for all tests: making one takes a while.
pub(super) static RSA: LazyLock<Signer> =
    LazyLock::new(|| Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub(super) fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(super) fn p384() -> Self {
        Self::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    pub(super) fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    pub(super) fn jwk(&self, kid: &str) -> Value {
        let ec = |name: &str, pair: &EcdsaKeyPair| {
            let (x, y) = pair.public_key().as_ref()[1..].split_at((pair.public_key().as_ref().len() - 1) / 2);
            json!({"kty": "EC", "crv": name, "x": b64(x), "y": b64(y), "kid": kid})
        };
        match self {
            Self::P256(pair) => ec("P-256", pair),
            Self::P384(pair) => ec("P-384", pair),
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key()), "kid": kid})
            }
            Self::Rsa(pair) => {
                let mut key = Reader::new(pair.public_key().as_ref()).sequence("key").unwrap();
                let (n, e) = (key.unsigned("n").unwrap(), key.unsigned("e").unwrap());
                json!({"kty": "RSA", "n": b64(n), "e": b64(e), "kid": kid})
            }
        }
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::P256(pair) | Self::P384(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                match algorithm {
                    "PS256" => pair.sign(&RSA_PSS_SHA256, &random, message, &mut signature).unwrap(),
                    _ => pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap(),
                }
                signature
            }
        }
    }

    /// Signs what is given, whatever the header says.
    pub(super) fn token(&self, header: &Value, claims: &Value) -> String {
        self.token_of_text(&header.to_string(), &claims.to_string())
    }

    pub(super) fn token_of_text(&self, header: &str, claims: &str) -> String {
        let text = format!("{}.{}", b64(header), b64(claims));
        let algorithm = serde_json::from_str::<Value>(header).unwrap();
        let signature = self.sign(algorithm["alg"].as_str().unwrap_or_default(), text.as_bytes());
        format!("{text}.{}", b64(signature))
    }
}

pub(super) fn tenant(name: &str) -> Scope {
    Scope::Tenant(name.parse().unwrap())
}

pub(super) fn roles(roles: &[Role]) -> RoleSet {
    roles.iter().copied().collect()
}

/// JSON with a member changed, or taken away.
pub(super) fn with(mut value: Value, member: &str, changed: Value) -> Value {
    match changed {
        Value::Null => {
            value.as_object_mut().unwrap().remove(member);
        }
        changed => value[member] = changed,
    }
    value
}

pub(super) fn set(keys: &[Value]) -> Arc<crate::KeySet> {
    Arc::new(crate::KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap())
}
