//! A sealed block as a device: dm-verity over the ciphertext, dm-crypt over that (`docs/formats/sealed-blocks.md`).
//!
//! INVARIANT: [`open`] gives a device only if its first block is what the root says and decrypts to an EROFS file system.
//! Where it fails, no mapping is left. Left out: mounting, and where ciphertext and key come from.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use coffer_core_oci::SealedBlock;
use coffer_core_seal::erofs;
use coffer_core_secret::SecretBytes;
use coffer_sys_dm::{
    CryptTable, DmError, Mapped, VerityTable, map_crypt, map_verity, unmap, verity_is_corrupt,
};

/// Sectors of 512 bytes in a block.
const SECTORS: u64 = 8;
/// A block's bytes.
const BLOCK: usize = 4096;
/// The key of AES-256-XTS.
const KEY: usize = 64;

/// Why a sealed block is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The key is of another kind.
    #[error("a sealed block's key has {KEY} bytes, this one has {found}")]
    KeyLength {
        /// Its bytes.
        found: usize,
    },
    /// The key is another one.
    #[error("what it decrypts to is no EROFS file system")]
    WrongKey,
    /// A block is not what the root says.
    #[error("a block does not match the root hash")]
    Corrupt,
    /// The first block cannot be read.
    #[error("its first block cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The kernel refuses a mapping.
    #[error(transparent)]
    Map(#[from] DmError),
}

/// An opened block.
#[derive(Debug)]
pub struct Opened {
    /// The ciphertext under its tree, which knows whether a block was changed.
    pub verity: Mapped,
    /// The file system.
    pub crypt: Mapped,
}

impl Opened {
    /// Takes the mappings away.
    pub fn undo(&self) {
        [&self.crypt, &self.verity].into_iter().for_each(undone);
    }
}

/// Maps a block under the names `[verity, crypt]`, and reads its first block.
///
/// # Errors
/// When key, ciphertext or root are not of one block, or the kernel refuses.
pub fn open(
    [verity, crypt]: [&str; 2],
    device: &Path,
    block: &SealedBlock,
    key: &SecretBytes,
) -> Result<Opened, OpenError> {
    let found = key.expose().len();
    if found != KEY {
        return Err(OpenError::KeyLength { found });
    }
    let mut root = [0; 32];
    root.iter_mut().zip(block.root_hash.as_bytes()).for_each(|(to, from)| *to = *from);
    let table = VerityTable {
        data_device: device.to_owned(),
        hash_device: device.to_owned(),
        blocks: block.data_blocks,
        hash_start_block: block.data_blocks,
        root,
        salt: block.salt.to_vec(),
    };
    let verity = map_verity(verity, &table)?;
    let sectors = block.data_blocks.saturating_mul(SECTORS);
    let table = CryptTable { device: verity.path.clone(), sectors };
    let crypt = map_crypt(crypt, &table, key.expose()).inspect_err(|_| undone(&verity))?;
    let opened = Opened { verity, crypt };
    match judge(File::open(&opened.crypt.path)) {
        Ok(()) => Ok(opened),
        Err(why) => {
            let why = match verity_is_corrupt(&opened.verity.name) {
                Ok(true) => OpenError::Corrupt,
                _ => why,
            };
            opened.undo();
            Err(why)
        }
    }
}

/// A changed first block, or another root, is an I/O error; another key gives no EROFS.
fn judge(device: io::Result<impl Read>) -> Result<(), OpenError> {
    let mut first = [0; BLOCK];
    device.and_then(|mut device| device.read_exact(&mut first)).map_err(OpenError::Read)?;
    if erofs::has_magic(&first) { Ok(()) } else { Err(OpenError::WrongKey) }
}

fn undone(mapped: &Mapped) {
    // The first error is the one to tell.
    let _first_error_counts = unmap(&mapped.name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_core_oci::SealedBlock;

    #[test]
    fn key_of_another_length_is_refused_before_the_kernel_is_asked() {
        let root_hash = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let block = SealedBlock { data_blocks: 1, salt: [0; 32], root_hash, key: "kbs:///a/b/c".into() };
        for found in [0, 32, 63, 65] {
            let key = SecretBytes::new(vec![1; found]);
            let refused = open(["v", "c"], Path::new("/nowhere"), &block, &key);
            assert!(matches!(refused, Err(OpenError::KeyLength { found: told }) if told == found));
        }
    }

    #[test]
    fn first_block_is_judged_by_the_file_system_s_magic() {
        let mut block = vec![0; BLOCK];
        assert!(matches!(judge(Ok(&block[..])), Err(OpenError::WrongKey)));
        assert!(matches!(judge(Ok(&block[..BLOCK - 1])), Err(OpenError::Read(_))));
        block[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
        assert!(judge(Ok(&block[..])).is_ok());
        let failing: io::Result<&[u8]> = Err(io::ErrorKind::NotFound.into());
        assert!(matches!(judge(failing), Err(OpenError::Read(_))));
    }
}
