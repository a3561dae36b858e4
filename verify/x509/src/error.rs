//! Why a certificate or a revocation list cannot be used.

use crate::der::DerError;

/// Why bytes are not a certificate or a revocation list.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CertificateError {
    /// Not the DER of one.
    #[error(transparent)]
    Der(#[from] DerError),
    /// Longer than any honest one.
    #[error("{0} bytes are more than a certificate or list may have here")]
    TooLong(usize),
    /// A text in PEM is none.
    #[error("not PEM: {0}")]
    Pem(String),
    /// A signature is not by the key it should be by.
    #[error("the signature is not by the key of the issuer")]
    Signature,
    /// The algorithm is unknown, or too weak.
    #[error("the signature's algorithm is unknown, does not go with the key, or is too weak")]
    Algorithm,
}
