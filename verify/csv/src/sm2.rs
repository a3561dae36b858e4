//! SM2 signatures with SM3 (GB/T 32918.2-2016), with numbers as Hygon writes them: little endian, in 72 bytes.

use sm2::dsa;
use sm2::dsa::signature::Verifier as _;

/// Bytes in a number of the curve.
const LEN: usize = 32;

/// A key that verifies, with the name that its signatures are bound to.
#[derive(Clone, Debug)]
pub struct PublicKey(dsa::VerifyingKey);

impl PublicKey {
    /// A key from its coordinates; none if they are not a point of the curve.
    pub fn from_fields(user_id: &str, x: &[u8], y: &[u8]) -> Option<Self> {
        let mut point = vec![4];
        point.extend(number(x)?);
        point.extend(number(y)?);
        dsa::VerifyingKey::from_sec1_bytes(user_id, &point).ok().map(Self)
    }

    /// Whether the key signed the message.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        signature.0.as_ref().is_some_and(|signature| self.0.verify(message, signature).is_ok())
    }
}

/// A signature, or numbers that cannot be one.
#[derive(Clone, Debug)]
pub struct Signature(Option<dsa::Signature>);

impl Signature {
    /// A signature from its two numbers.
    pub fn from_fields(r: &[u8], s: &[u8]) -> Self {
        let read = || {
            let bytes = [number(r)?, number(s)?].concat();
            dsa::Signature::from_slice(&bytes).ok()
        };
        Self(read())
    }
}

/// The number in a field, big endian; none if it is too large for the curve.
fn number(field: &[u8]) -> Option<Vec<u8>> {
    let (low, high) = field.split_at_checked(LEN)?;
    high.iter().all(|byte| *byte == 0).then(|| low.iter().rev().copied().collect())
}
