//! Keys and signatures written in DER, and the kind of a key that is already in this form.

use super::public::Curve;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
/// `SEQUENCE { OID rsaEncryption, NULL }` (RFC 8017, appendix A.1).
const RSA: [u8; 15] = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
/// `SEQUENCE { OID id-ecPublicKey, OID secp256r1 }` (RFC 5480, section 2.1).
const P256: [u8; 21] =
    [0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// `SEQUENCE { OID id-ecPublicKey, OID secp384r1 }`.
const P384: [u8; 18] = [0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x22];

/// The kind of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA of any size.
    Rsa,
    /// ECC on a curve.
    Ecc(Curve),
}

impl KeyKind {
    /// The kind of a key given as `SubjectPublicKeyInfo`. Says nothing about whether the key itself is good.
    pub fn of_spki(der: &[u8]) -> Option<Self> {
        let (&SEQUENCE, rest) = der.split_first()? else { return None };
        let (&length, rest) = rest.split_first()?;
        // Long form: the low bits count the octets of the length.
        let skip = if length < 0x80 { 0 } else { usize::from(length & 0x7f) };
        let algorithm = rest.get(skip..)?;
        match () {
            () if algorithm.starts_with(&RSA) => Some(Self::Rsa),
            () if algorithm.starts_with(&P256) => Some(Self::Ecc(Curve::P256)),
            () if algorithm.starts_with(&P384) => Some(Self::Ecc(Curve::P384)),
            () => None,
        }
    }
}

pub(super) fn rsa(modulus: &[u8], exponent: u32) -> Vec<u8> {
    info(&RSA, &pair(modulus, &exponent.to_be_bytes()))
}

/// A sequence of two unsigned numbers.
pub(super) fn pair(first: &[u8], second: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[integer(first), integer(second)].concat())
}

pub(super) fn ec(curve: Curve, x: &[u8], y: &[u8]) -> Vec<u8> {
    let algorithm: &[u8] = match curve {
        Curve::P256 => &P256,
        Curve::P384 => &P384,
    };
    // 4: the uncompressed form of a point (SEC 1, section 2.3.3).
    info(algorithm, &[&[4], x, y].concat())
}

fn info(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    // A bit string begins with the count of unused bits.
    let bits = element(BIT_STRING, &[&[0], key].concat());
    element(SEQUENCE, &[algorithm, &bits].concat())
}

/// An unsigned number: without leading zeros, but with one if the first bit would make it negative.
fn integer(number: &[u8]) -> Vec<u8> {
    let significant = number.iter().position(|&byte| byte != 0).unwrap_or(number.len());
    let digits = number.get(significant..).unwrap_or_default();
    let sign: &[u8] = match digits.first() {
        Some(0..=0x7f) => &[],
        _ => &[0],
    };
    element(INTEGER, &[sign, digits].concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut element = vec![tag];
    let length = content.len().to_be_bytes();
    match u8::try_from(content.len()) {
        Ok(short @ 0..=0x7f) => element.push(short),
        _ => {
            let digits: Vec<u8> = length.into_iter().skip_while(|&byte| byte == 0).collect();
            // A usize has at most eight octets, so the count fits beside the form's bit.
            element.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            element.extend(digits);
        }
    }
    element.extend_from_slice(content);
    element
}
