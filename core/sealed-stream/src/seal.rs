//! Sealing: plaintext in, ciphertext out, one segment in memory.

use std::io::{self, Write};

use coffer_core_digest::{Algorithm, Digest, Hasher};
use zeroize::Zeroizing;

use crate::segment::{Cipher, Place};
use crate::{AssociatedData, Header, Key, SegmentSize, StreamError};

/// What was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Bytes of plaintext.
    pub size: u64,
    /// Bytes of ciphertext.
    pub sealed_size: u64,
    /// SHA-256 over the header and all tags.
    pub root: Digest,
    /// SHA-256 over the ciphertext.
    pub digest: Digest,
}

/// Seals what is written to it. Nothing is whole before [`Sealer::finish`].
pub struct Sealer<W> {
    writer: W,
    cipher: Cipher,
    segment_size: SegmentSize,
    /// Plaintext of the segment that is being filled.
    plain: Zeroizing<Vec<u8>>,
    segment: u32,
    size: u64,
    sealed_size: u64,
    root: Hasher,
    digest: Hasher,
    failed: bool,
}

impl<W: Write> Sealer<W> {
    /// Begins a stream with a new header.
    pub fn new(
        writer: W,
        key: &Key,
        data: &AssociatedData,
        segment: SegmentSize,
    ) -> Result<Self, StreamError> {
        Self::insecure_with_header(writer, key, data, segment, Header::random()?)
    }

    /// Begins a stream with a given header: for vectors. See [`Header::insecure_with`].
    pub fn insecure_with_header(
        writer: W,
        key: &Key,
        data: &AssociatedData,
        segment_size: SegmentSize,
        header: Header,
    ) -> Result<Self, StreamError> {
        let mut own = Self {
            writer,
            cipher: Cipher::new(key, header, data)?,
            segment_size,
            plain: Zeroizing::new(Vec::with_capacity(segment_size.bytes() as usize)),
            segment: 0,
            size: 0,
            sealed_size: 0,
            root: Hasher::new(Algorithm::Sha256),
            digest: Hasher::new(Algorithm::Sha256),
            failed: false,
        };
        own.root.update(header.as_bytes());
        own.put(header.as_bytes())?;
        Ok(own)
    }

    /// Seals the last segment, flushes, and gives the writer back.
    pub fn finish(mut self) -> Result<(Sealed, W), StreamError> {
        if self.failed {
            return Err(StreamError::Failed);
        }
        self.seal(Place::Last)?;
        self.writer.flush()?;
        let sealed = Sealed {
            size: self.size,
            sealed_size: self.sealed_size,
            root: self.root.finish(),
            digest: self.digest.finish(),
        };
        Ok((sealed, self.writer))
    }

    fn capacity(&self) -> usize {
        let bytes =
            if self.segment == 0 { self.segment_size.first_plain() } else { self.segment_size.plain() };
        // At most 1 MiB.
        bytes as usize
    }

    fn seal(&mut self, place: Place) -> Result<(), StreamError> {
        let long = StreamError::TooLarge { size: self.size, segment: self.segment_size.bytes() };
        let next = self.segment.checked_add(1).ok_or(long)?;
        let mut bytes = std::mem::take(&mut self.plain);
        let tag = self.cipher.seal(self.segment, place, &mut bytes)?;
        // INVARIANT: a number is used once, also if what follows fails.
        self.segment = next;
        self.root.update(&tag);
        bytes.extend_from_slice(&tag);
        self.put(&bytes)?;
        bytes.clear();
        self.plain = bytes;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        self.digest.update(bytes);
        self.sealed_size = self.sealed_size.saturating_add(bytes.len() as u64);
        Ok(self.writer.write_all(bytes)?)
    }

    fn push(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
        if self.plain.len() >= self.capacity() {
            // More follows, so this is not the last segment.
            self.seal(Place::Inner)?;
        }
        let room = self.capacity().saturating_sub(self.plain.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.plain.extend_from_slice(taken);
        self.size = self.size.saturating_add(taken.len() as u64);
        Ok(taken.len())
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(StreamError::Failed.into());
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        let pushed = self.push(bytes);
        self.failed = pushed.is_err();
        Ok(pushed?)
    }

    /// Does nothing: a segment cannot be written before it is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
