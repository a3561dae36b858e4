//! The session's key pair: for the handshake, and in the form in which the attestation agent gives it to a workload.
//!
//! A `kbs` token is of use only with the key that it is bound to, so the local API hands out both (KBS reference,
//! `GetToken`). The workload is within the TEE, and who has the pair can read what is released for this session.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_protocol::jwk::PublicKey;
use coffer_core_protocol::tee_key::TeeKey;
use coffer_core_secret::{Secret, SecretBytes};

use crate::AttestError;

/// PKCS #8 of a P-256 key around an `ECPrivateKey` (RFC 5958, RFC 5915), up to the scalar.
const HEAD: [u8; 36] = [
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01,
    0x04, 0x20,
];
/// Between scalar and point: `[1]` with a bit string.
const MIDDLE: [u8; 5] = [0xa1, 0x44, 0x03, 0x42, 0x00];
/// A random scalar is out of range once in 2^32.
const ATTEMPTS: usize = 8;

/// A new key, and its pair as PEM.
pub(crate) fn generate() -> Result<(TeeKey, SecretBytes), AttestError> {
    let failed = |why: String| AttestError::Provider { why };
    let mut refusal = String::new();
    for _ in 0..ATTEMPTS {
        let scalar = Secret::<[u8; 32]>::random().map_err(|why| failed(why.to_string()))?;
        let copy = SecretBytes::copy_of(scalar.expose());
        match TeeKey::from_p256_scalar(scalar) {
            Ok(key) => {
                let pem = pem(&copy, &key)?;
                return Ok((key, pem));
            }
            Err(why) => refusal = why.to_string(),
        }
    }
    Err(failed(refusal))
}

fn pem(scalar: &SecretBytes, key: &TeeKey) -> Result<SecretBytes, AttestError> {
    let PublicKey::Ec(point) = key.public() else {
        return Err(AttestError::Provider { why: "the session's key is not on a curve".into() });
    };
    let parts: [&[u8]; 4] = [&HEAD, scalar.expose(), &MIDDLE, &point.to_point()];
    let der = SecretBytes::new(parts.concat());
    let text = SecretBytes::new(STANDARD.encode(der.expose()).into_bytes());
    let mut pem = Vec::with_capacity(256);
    pem.extend_from_slice(b"-----BEGIN PRIVATE KEY-----\n");
    for line in text.expose().chunks(64) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    pem.extend_from_slice(b"-----END PRIVATE KEY-----\n");
    Ok(SecretBytes::new(pem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

    #[test]
    fn the_pair_is_a_pkcs8_document_of_the_same_key() {
        let (key, pem) = generate().expect("key");
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.expose()).expect("PEM");
        let signer = rcgen::KeyPair::try_from(&der).expect("a key that another library reads");
        let PublicKey::Ec(point) = key.public() else { panic!("not on a curve") };
        assert_eq!(rcgen::PublicKeyData::der_bytes(&signer), point.to_point());
    }
}
