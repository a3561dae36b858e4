//! Verification of cosign's key-based signatures: a signature over a simple-signing payload that names the
//! manifest by digest.
//!
//! Keys are PEM `PUBLIC KEY` blocks (RFC 5280 SubjectPublicKeyInfo) of ECDSA P-256 or P-384 (SHA-256, ASN.1
//! signatures), Ed25519, or RSA of 2048 to 8192 bits (PKCS #1 v1.5 with SHA-256), as cosign reads them.
//! Left out: certificates and transparency logs.

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Digest;

use crate::simple_signing::Payload;
pub use crate::simple_signing::SignatureError;

/// The largest PEM key file that is read.
pub const MAX_KEY: usize = 16 << 10;
/// The longest signature in base64: that of an 8192-bit RSA key, with room.
pub const MAX_SIGNATURE: usize = 4096;

/// A value that a signature of a known key covers. Only [`verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    value: T,
    key: Digest,
    identity: String,
}

impl<T> Signed<T> {
    /// What was signed.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The fingerprint of the key that signed: SHA-256 of its SubjectPublicKeyInfo.
    pub fn key(&self) -> &Digest {
        &self.key
    }

    /// The name under which it was signed; may be empty.
    pub fn identity(&self) -> &str {
        &self.identity
    }
}

/// A public key that can verify signatures.
pub struct PublicKey {
    parsed: ParsedPublicKey,
    fingerprint: Digest,
    kind: &'static str,
}

/// `id-ecPublicKey` with `prime256v1`, `secp384r1`; `id-Ed25519`; `rsaEncryption` (RFC 5480, 8410, 8017):
/// the AlgorithmIdentifier's contents.
const P256: &[u8] = &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384: &[u8] = &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 34];
const ED25519: &[u8] = &[6, 3, 0x2b, 0x65, 0x70];
const RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];

impl PublicKey {
    /// Reads the one `PUBLIC KEY` block of a PEM text.
    pub fn from_pem(text: &str) -> Result<Self, SignatureError> {
        let der = pem_body(text, "PUBLIC KEY")?;
        let refuse = |why: &str| SignatureError::Key(why.into());
        let algorithm = algorithm_identifier(&der).ok_or_else(|| refuse("not a SubjectPublicKeyInfo"))?;
        let (kind, verifier): (_, &'static dyn VerificationAlgorithm) = match algorithm {
            P256 => ("ECDSA P-256", &signature::ECDSA_P256_SHA256_ASN1),
            P384 => ("ECDSA P-384", &signature::ECDSA_P384_SHA256_ASN1),
            ED25519 => ("Ed25519", &signature::ED25519),
            RSA => ("RSA", &signature::RSA_PKCS1_2048_8192_SHA256),
            _ => return Err(refuse("expected ECDSA P-256, ECDSA P-384, Ed25519 or RSA")),
        };
        let parsed = ParsedPublicKey::new(verifier, &der)
            .map_err(|_| SignatureError::Key(format!("not a valid {kind} key")))?;
        Ok(Self { parsed, fingerprint: Digest::sha256(&der), kind })
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn fingerprint(&self) -> &Digest {
        &self.fingerprint
    }

    /// Verifies a signature of this key over any message. What the message means is the caller's to know.
    pub fn verify_message(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let refused = |_| SignatureError::WrongKey { key: self.fingerprint.to_string() };
        self.parsed.verify_sig(message, signature).map_err(refused)
    }

    /// The kind, as in `ECDSA P-256`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

/// Verifies that `signature_b64` over `payload` was made by the key in `key_pem`, and that the payload names
/// the manifest `expected`.
pub fn verify(
    payload: &[u8],
    signature_b64: &str,
    key_pem: &str,
    expected: &Digest,
) -> Result<Signed<Digest>, SignatureError> {
    verify_with(payload, signature_b64, &PublicKey::from_pem(key_pem)?, expected)
}

/// Like [`verify`], with a key that is already read.
pub fn verify_with(
    payload: &[u8],
    signature_b64: &str,
    key: &PublicKey,
    expected: &Digest,
) -> Result<Signed<Digest>, SignatureError> {
    if signature_b64.len() > MAX_SIGNATURE {
        return Err(SignatureError::Malformed("the signature is longer than that of any key".into()));
    }
    let signature = STANDARD
        .decode(signature_b64.trim_ascii())
        .map_err(|_| SignatureError::Malformed("the signature is not base64".into()))?;
    key.verify_message(payload, &signature)?;
    let payload = Payload::parse(payload)?;
    let found = payload.critical.image.docker_manifest_digest;
    if found != *expected {
        return Err(SignatureError::WrongDigest { expected: Box::new(*expected), found: Box::new(found) });
    }
    Ok(Signed { value: found, key: key.fingerprint, identity: payload.critical.identity.docker_reference })
}

/// The bytes of the one PEM block labelled `label`; text around it is refused (RFC 7468, section 2, strict).
fn pem_body(text: &str, label: &str) -> Result<Vec<u8>, SignatureError> {
    let refuse = |why: String| SignatureError::Key(why);
    if text.len() > MAX_KEY {
        return Err(refuse(format!("the PEM text is larger than {MAX_KEY} bytes")));
    }
    let body = text
        .trim_ascii()
        .strip_prefix(&format!("-----BEGIN {label}-----"))
        .and_then(|rest| rest.strip_suffix(&format!("-----END {label}-----")))
        .ok_or_else(|| refuse(format!("expected one PEM block {label}")))?;
    let compact: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(compact).map_err(|_| refuse("the PEM block is not base64".into()))
}

/// The contents of the AlgorithmIdentifier of a SubjectPublicKeyInfo.
fn algorithm_identifier(der: &[u8]) -> Option<&[u8]> {
    let (outer, rest) = sequence(der)?;
    if !rest.is_empty() {
        return None;
    }
    sequence(outer).map(|(inner, _)| inner)
}

/// The contents of a DER SEQUENCE of less than 64 KiB, and what follows it.
fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = der.strip_prefix(&[0x30])?;
    let (length, rest) = match *rest {
        [short, ref rest @ ..] if short < 0x80 => (usize::from(short), rest),
        [0x81, one, ref rest @ ..] => (usize::from(one), rest),
        [0x82, high, low, ref rest @ ..] => (usize::from(u16::from_be_bytes([high, low])), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
#[path = "cosign_tests.rs"]
mod tests;
