//! Bytes of the system's random source.

use aws_lc_rs::rand;

/// So many bytes, in hexadecimal.
pub(crate) fn hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    fill(&mut random);
    hex::encode(random)
}

/// An array of them.
pub(crate) fn array<const N: usize>() -> [u8; N] {
    let mut random = [0; N];
    fill(&mut random);
    random
}

/// Fills what is there.
pub(crate) fn fill(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the system's random source");
}
