//! One signature over one structure, by the key and the algorithm that X.509 names.

use rustls_pki_types::SignatureVerificationAlgorithm;

use crate::ALGORITHMS;
use crate::der::{Reader, tag};
use crate::error::CertificateError;

/// Verifies `signature` over `message` with the key in `spki_der`. `algorithm` is an `AlgorithmIdentifier` in DER.
pub fn verify(
    spki_der: &[u8],
    algorithm: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), CertificateError> {
    let identifier =
        Reader::new(algorithm).expect(tag::SEQUENCE, "signatureAlgorithm").map(|found| found.content);
    let key = key_identifier(spki_der);
    let (Ok(identifier), Some(key), Some(bits)) = (identifier, key, key_bits(spki_der)) else {
        return Err(CertificateError::Algorithm);
    };
    let fits = |one: &&dyn SignatureVerificationAlgorithm| {
        one.signature_alg_id().as_ref() == identifier && one.public_key_alg_id().as_ref() == key
    };
    let one = ALGORITHMS.iter().copied().find(|one| fits(one)).ok_or(CertificateError::Algorithm)?;
    one.verify_signature(bits, message, signature).map_err(|_| CertificateError::Signature)
}

fn key_identifier(spki_der: &[u8]) -> Option<&[u8]> {
    let mut info = Reader::new(spki_der).sequence("subjectPublicKeyInfo").ok()?;
    info.expect(tag::SEQUENCE, "algorithm").ok().map(|element| element.content)
}

/// The key's bits in a `SubjectPublicKeyInfo`.
pub(crate) fn key_bits(spki_der: &[u8]) -> Option<&[u8]> {
    let mut info = Reader::new(spki_der).sequence("subjectPublicKeyInfo").ok()?;
    info.any("algorithm").ok()?;
    info.bits("subjectPublicKey").ok()
}
