//! Sealing and opening of image bytes: sealed blocks, EROFS, dm-verity trees and ocicrypt layers.
//!
//! SPEC: `docs/formats/sealed-blocks.md`. Left out: where the bytes come from and go to, and who may have keys.
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

pub mod erofs;
pub mod ocicrypt;
pub mod sealed;
pub mod tree;
pub mod verity;
pub mod xts;

/// Blocks of images, hash trees and ciphertext have this many bytes.
pub const BLOCK: usize = 4096;
/// The same, to count with offsets.
pub(crate) const BLOCK_LEN: u64 = 4096;

/// Reads until `buffer` is full or the input ends; returns how much was read.
pub(crate) fn fill(reader: &mut dyn std::io::Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0_usize;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
