//! Keys that are made here: signing keys and image keys.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Digest;
use coffer_core_oci::cosign::PublicKey;
use coffer_core_secret::{Secret, SecretBytes};

use crate::error::ImageError;
use crate::seal::SealFormat;

/// A signing key and the public key that goes into policies.
pub struct KeyPair {
    /// PEM, PKCS #8.
    pub private_pem: Secret<String>,
    /// PEM, SubjectPublicKeyInfo.
    pub public_pem: String,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fingerprint: Digest,
}

/// Makes an ECDSA P-256 key, the kind that cosign makes.
pub fn keygen() -> Result<KeyPair, ImageError> {
    let refuse = |_| ImageError::PrivateKey("the system could not make a key".into());
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(refuse)?;
    let private = pair.to_pkcs8v1().map_err(refuse)?;
    let public = pair.public_key().as_der().map_err(refuse)?;
    Ok(KeyPair {
        private_pem: Secret::new(pem("PRIVATE KEY", private.as_ref())),
        public_pem: pem("PUBLIC KEY", public.as_ref()),
        fingerprint: Digest::sha256(public.as_ref()),
    })
}

/// Makes a key of the length that a format needs.
pub fn new_image_key(format: SealFormat) -> Result<SecretBytes, ImageError> {
    let refuse = |error: coffer_core_secret::NoRandomness| ImageError::PrivateKey(error.to_string());
    Ok(match format {
        SealFormat::SealedBlock => {
            SecretBytes::copy_of(coffer_core_seal::sealed::BlockKey::random().map_err(refuse)?.expose())
        }
        SealFormat::Ocicrypt => SecretBytes::copy_of(Secret::<[u8; 32]>::random().map_err(refuse)?.expose()),
    })
}

/// A private key that can sign.
pub(crate) enum Signer {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    /// Reads a PEM `PRIVATE KEY` block (PKCS #8) of ECDSA P-256, Ed25519 or RSA.
    pub(crate) fn from_pem(text: &str) -> Result<Self, ImageError> {
        let refuse = |why: &str| ImageError::PrivateKey(why.into());
        if text.contains("ENCRYPTED") {
            return Err(refuse(
                "it is encrypted; expected a PEM block PRIVATE KEY (PKCS #8) without a password",
            ));
        }
        let body = text
            .trim_ascii()
            .strip_prefix("-----BEGIN PRIVATE KEY-----")
            .and_then(|rest| rest.strip_suffix("-----END PRIVATE KEY-----"))
            .filter(|body| body.len() < 16 << 10)
            .ok_or_else(|| refuse("expected one PEM block PRIVATE KEY (PKCS #8)"))?;
        let compact = Secret::new(body.chars().filter(|c| !c.is_ascii_whitespace()).collect::<String>());
        let der = STANDARD.decode(compact.expose()).map_err(|_| refuse("the PEM block is not base64"))?;
        let der = SecretBytes::new(der);
        if let Ok(key) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.expose()) {
            return Ok(Self::Ecdsa(key));
        }
        if let Ok(key) = Ed25519KeyPair::from_pkcs8(der.expose()) {
            return Ok(Self::Ed25519(key));
        }
        RsaKeyPair::from_pkcs8(der.expose())
            .map(|key| Self::Rsa(Box::new(key)))
            .map_err(|_| refuse("expected ECDSA P-256, Ed25519 or RSA of at least 2048 bits"))
    }

    /// Signs as cosign does: ECDSA (ASN.1) and RSA (PKCS #1 v1.5) over SHA-256, Ed25519 over the message.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ImageError> {
        let refuse = |_| ImageError::PrivateKey("signing failed".into());
        let rng = SystemRandom::new();
        Ok(match self {
            Self::Ecdsa(key) => key.sign(&rng, message).map_err(refuse)?.as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &rng, message, &mut signature).map_err(refuse)?;
                signature
            }
        })
    }

    pub(crate) fn public(&self) -> Result<PublicKey, ImageError> {
        let refuse = |_| ImageError::PrivateKey("it has no public key".into());
        let der = match self {
            Self::Ecdsa(key) => key.public_key().as_der().map_err(refuse)?.as_ref().to_vec(),
            Self::Ed25519(key) => key.public_key().as_der().map_err(refuse)?.as_ref().to_vec(),
            Self::Rsa(key) => key.public_key().as_der().map_err(refuse)?.as_ref().to_vec(),
        };
        Ok(PublicKey::from_pem(&pem("PUBLIC KEY", &der))?)
    }
}

/// PEM with lines of 64 characters (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for (at, c) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    out.push_str(&format!("\n-----END {label}-----\n"));
    out
}
