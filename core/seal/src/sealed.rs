//! The sealed-block format: ciphertext blocks, then the hash tree over the ciphertext.
//!
//! SPEC: `docs/formats/sealed-blocks.md`. [`Sealer`] writes, [`Reader`] reads without a kernel's help. The
//! guest lets dm-verity and dm-crypt read; both see the same bytes.

use std::io::{self, Read, Seek, SeekFrom, Write};

use aws_lc_rs::hmac;
use coffer_core_digest::{Algorithm, Digest, Hasher};
use coffer_core_oci::SealedBlock;
use coffer_core_secret::{NoRandomness, Secret, SecretBytes};

use crate::verity::{TreeBuilder, Verifier, VerityError};
use crate::xts::{KEY, Xts, XtsError};
use crate::{BLOCK, BLOCK_LEN};

const SALT_LABEL: &[u8] = b"coffer sealed-block v1 salt";

/// Why an image could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] XtsError),
    /// There was nothing to seal.
    #[error("an empty image cannot be sealed")]
    Empty,
    /// Reading or writing failed.
    #[error("sealing stopped: {0}")]
    Io(#[from] io::Error),
}

/// The key of one sealed-block image: 64 bytes, two AES-256 keys.
pub struct BlockKey(Secret<[u8; KEY]>);

impl BlockKey {
    /// Takes the bytes of a key, as the broker hands them out.
    pub fn from_bytes(bytes: &SecretBytes) -> Result<Self, XtsError> {
        let bytes = bytes.expose();
        let key = <[u8; KEY]>::try_from(bytes.as_slice()).map_err(|_| XtsError::KeyLength(bytes.len()))?;
        let key = Secret::new(key);
        Xts::new(&key)?;
        Ok(Self(key))
    }

    /// A new key.
    pub fn random() -> Result<Self, NoRandomness> {
        Secret::random().map(Self)
    }

    /// The key's bytes, to store at the broker or to hand to dm-crypt.
    pub fn expose(&self) -> &[u8; KEY] {
        self.0.expose()
    }

    /// The salt of the image's hash tree. It is a function of the key, so that sealing is repeatable and two
    /// keys never share a tree.
    fn salt(&self) -> [u8; 32] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.expose()), SALT_LABEL);
        let mut salt = [0; 32];
        salt.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        salt
    }
}

/// A sealed image: its parameters, and the blob's digest and size for a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The parameters.
    pub block: SealedBlock,
    /// SHA-256 of the blob.
    pub digest: Digest,
    /// The blob's length in bytes.
    pub size: u64,
}

/// Seals what is written to it; [`Sealer::finish`] adds the hash tree.
pub struct Sealer<W> {
    out: Counted<W>,
    xts: Xts,
    tree: TreeBuilder,
    salt: [u8; 32],
    buffer: Vec<u8>,
}

/// Sectors that are encrypted at a time.
const BATCH: usize = 64 * BLOCK;

impl<W: Write> Sealer<W> {
    /// Begins a blob.
    pub fn new(key: &BlockKey, out: W) -> Result<Self, SealError> {
        let salt = key.salt();
        Ok(Self {
            out: Counted { inner: out, hasher: Hasher::new(Algorithm::Sha256), size: 0 },
            xts: Xts::new(&key.0)?,
            tree: TreeBuilder::new(salt),
            salt,
            buffer: Vec::with_capacity(BATCH),
        })
    }

    /// Pads the last block with zeros, writes the hash tree and gives back the output.
    pub fn finish(mut self, key_name: &str) -> Result<(Sealed, W), SealError> {
        self.buffer.resize(self.buffer.len().next_multiple_of(BLOCK), 0);
        self.emit()?;
        let data_blocks = self.tree.blocks();
        if data_blocks == 0 {
            return Err(SealError::Empty);
        }
        let root_hash = self.tree.finish(&mut self.out)?;
        self.out.flush()?;
        let block = SealedBlock { data_blocks, salt: self.salt, root_hash, key: key_name.into() };
        let Counted { inner, hasher, size } = self.out;
        Ok((Sealed { block, digest: hasher.finish(), size }, inner))
    }

    fn emit(&mut self) -> io::Result<()> {
        self.xts.encrypt(self.tree.blocks(), &mut self.buffer).map_err(io::Error::other)?;
        for block in self.buffer.chunks_exact(BLOCK) {
            self.tree.push(block);
        }
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BATCH.saturating_sub(self.buffer.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() >= BATCH {
            self.emit()?;
        }
        Ok(taken.len())
    }

    /// Does nothing: a part of a block cannot be written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Seals a whole image.
pub fn seal(
    image: &mut dyn Read,
    key: &BlockKey,
    key_name: &str,
    out: &mut dyn Write,
) -> Result<Sealed, SealError> {
    let mut sealer = Sealer::new(key, out)?;
    io::copy(image, &mut sealer)?;
    Ok(sealer.finish(key_name)?.0)
}

struct Counted<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or(bytes));
        self.size = self.size.saturating_add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reads a sealed image: each block is checked against the root hash before it is decrypted.
///
/// A changed byte is an [`io::ErrorKind::InvalidData`] error whose source is a [`VerityError`] that names the
/// block.
pub struct Reader<R> {
    blocks: Verifier<R>,
    xts: Xts,
    size: u64,
    position: u64,
    current: Option<(u64, Box<[u8; BLOCK]>)>,
}

impl<R: Read + Seek> Reader<R> {
    /// Opens a blob with the parameters of a manifest whose signature was checked.
    pub fn new(blob: R, parameters: &SealedBlock, key: &BlockKey) -> Result<Self, XtsError> {
        Ok(Self {
            blocks: Verifier::new(blob, parameters.data_blocks, parameters.salt, parameters.root_hash),
            xts: Xts::new(&key.0)?,
            size: parameters.hash_offset(),
            position: 0,
            current: None,
        })
    }

    /// The image's length in bytes, a multiple of the block size.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn block(&mut self, index: u64) -> io::Result<&[u8; BLOCK]> {
        let fresh = match self.current.take() {
            Some((have, bytes)) if have == index => bytes,
            _ => {
                let mut bytes = Box::new(self.blocks.read(index).map_err(changed)?);
                self.xts.decrypt(index, bytes.as_mut_slice()).map_err(io::Error::other)?;
                bytes
            }
        };
        Ok(&self.current.insert((index, fresh)).1)
    }
}

fn changed(error: VerityError) -> io::Error {
    match error {
        VerityError::Io(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

impl<R: Read + Seek> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        let (index, offset) = (self.position / BLOCK_LEN, (self.position % BLOCK_LEN) as usize);
        let block = self.block(index)?;
        let rest = block.get(offset..).unwrap_or(&[]);
        let count = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        self.position = self.position.saturating_add(count as u64);
        Ok(count)
    }
}

impl<R: Read + Seek> Seek for Reader<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
#[path = "sealed_tests.rs"]
mod tests;
