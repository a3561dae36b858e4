//! Whom an encrypted layer's key is wrapped for, besides guests: ocicrypt's `jwe` and `pkcs7` recipients, and the
//! words of its key provider protocol.
//!
//! SPEC: containers/ocicrypt, `keywrap/jwe`, `keywrap/pkcs7` and `docs/keyprovider.md`. Left out: PGP and PKCS #11
//! recipients, and keys under a password.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod pkcs7;
pub mod provider;
mod tlv;

use coffer_core_protocol::jwe::JweError;
use coffer_core_protocol::jwe::recipients::{Envelope, RecipientKey, RecipientPrivate};
use coffer_core_seal::ocicrypt::{KeyWrap, OcicryptError};
use coffer_core_secret::SecretBytes;
use zeroize::Zeroizing;

use pkcs7::RsaOpener;

pub use pkcs7::{Certificate, Pkcs7Error};

/// The annotation with messages to holders of keys.
pub const JWE: &str = "org.opencontainers.image.enc.keys.jwe";
/// The annotation with messages to holders of certificates.
pub const PKCS7: &str = "org.opencontainers.image.enc.keys.pkcs7";
/// No key or certificate file is read beyond this.
pub const MAX_FILE: usize = 64 << 10;

/// Why a key, a certificate or a message cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeywrapError {
    /// Not a PEM block.
    #[error("not one block of PEM with lines of 64 characters: {0}")]
    Pem(String),
    /// A block of another kind.
    #[error("the PEM block is {found:?}; expected {expected}")]
    Label {
        /// What is read here.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A JWE or its key.
    #[error(transparent)]
    Jwe(#[from] JweError),
    /// A PKCS #7 message, or its certificate.
    #[error(transparent)]
    Pkcs7(#[from] Pkcs7Error),
}

impl From<KeywrapError> for OcicryptError {
    fn from(error: KeywrapError) -> Self {
        let what = match error {
            KeywrapError::Pkcs7(_) => "a PKCS #7 recipient",
            _ => "a JWE recipient",
        };
        Self::Recipient { what, why: error.to_string() }
    }
}

/// The holders of keys, any of whom opens the layer.
pub struct KeyHolders(Vec<RecipientKey>);

impl KeyHolders {
    /// Takes public keys in PEM (`PUBLIC KEY`).
    pub fn from_pem<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, KeywrapError> {
        let key = |text| Ok(RecipientKey::from_spki(&block(text, "PUBLIC KEY")?)?);
        Ok(Self(texts.into_iter().map(key).collect::<Result<_, KeywrapError>>()?))
    }
}

impl KeyWrap for KeyHolders {
    fn annotation(&self) -> &'static str {
        JWE
    }

    fn wrap(&self, private_options: &SecretBytes) -> Result<Vec<u8>, OcicryptError> {
        let sealed = Envelope::seal(&self.0, private_options.expose()).and_then(|sealed| sealed.to_json());
        Ok(sealed.map_err(KeywrapError::from)?)
    }
}

/// The holders of certificates, any of whom opens the layer.
pub struct CertificateHolders(Vec<Certificate>);

impl CertificateHolders {
    /// Takes certificates with RSA keys in PEM (`CERTIFICATE`).
    pub fn from_pem<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, KeywrapError> {
        let one = |text| Ok(Certificate::from_der(&block(text, "CERTIFICATE")?)?);
        Ok(Self(texts.into_iter().map(one).collect::<Result<_, KeywrapError>>()?))
    }
}

impl KeyWrap for CertificateHolders {
    fn annotation(&self) -> &'static str {
        PKCS7
    }

    fn wrap(&self, private_options: &SecretBytes) -> Result<Vec<u8>, OcicryptError> {
        Ok(pkcs7::seal(&self.0, private_options).map_err(KeywrapError::from)?)
    }
}

/// A private key that opens messages to its holder.
pub struct Holder {
    jwe: RecipientPrivate,
    /// Where the key is RSA, which is what certificates have here.
    pkcs7: Option<RsaOpener>,
}

impl Holder {
    /// Takes a private key in PEM: `PRIVATE KEY` (PKCS #8) or `EC PRIVATE KEY`.
    pub fn from_pem(text: &str) -> Result<Self, KeywrapError> {
        const EXPECTED: &str = "PRIVATE KEY (`openssl pkcs8 -topk8 -nocrypt` makes it of other forms)";
        let (label, der) = decode(text)?;
        if !matches!(label, "PRIVATE KEY" | "EC PRIVATE KEY") {
            return Err(KeywrapError::Label { expected: EXPECTED, found: label.chars().take(64).collect() });
        }
        Ok(Self { jwe: RecipientPrivate::from_der(&der)?, pkcs7: RsaOpener::from_der(&der) })
    }

    /// The private options in an annotation's message; `None` for annotations of other kinds.
    pub fn unwrap(&self, annotation: &str, message: &[u8]) -> Option<Result<SecretBytes, KeywrapError>> {
        match (annotation, &self.pkcs7) {
            (JWE, _) => Some(
                Envelope::from_json(message)
                    .and_then(|sealed| sealed.open(&self.jwe))
                    .map_err(KeywrapError::from),
            ),
            (PKCS7, Some(rsa)) => Some(pkcs7::open(message, rsa).map_err(KeywrapError::from)),
            _ => None,
        }
    }
}

fn block(text: &str, expected: &'static str) -> Result<Zeroizing<Vec<u8>>, KeywrapError> {
    match decode(text)? {
        (label, der) if label == expected => Ok(der),
        (label, _) => Err(KeywrapError::Label { expected, found: label.chars().take(64).collect() }),
    }
}

fn decode(text: &str) -> Result<(&str, Zeroizing<Vec<u8>>), KeywrapError> {
    if text.len() > MAX_FILE {
        return Err(KeywrapError::Pem(format!("more than {MAX_FILE} bytes")));
    }
    let (label, der) =
        der::pem::decode_vec(text.trim().as_bytes()).map_err(|error| KeywrapError::Pem(error.to_string()))?;
    Ok((label, Zeroizing::new(der)))
}

#[cfg(test)]
mod tests;
