//! Sealing segment by segment, where the caller has the buffers and the counting of digests is nobody's business.

use crate::segment::{Cipher, Place};
use crate::{AssociatedData, Header, Key, SegmentSize, StreamError};

/// Seals the segments of one stream in their order, each in its own buffer. There is no way back: a number is used once.
pub struct SegmentSealer {
    cipher: Cipher,
    size: SegmentSize,
    segment: u32,
    failed: bool,
}

impl SegmentSealer {
    /// Begins a stream with a new header.
    pub fn new(key: &Key, data: &AssociatedData, size: SegmentSize) -> Result<Self, StreamError> {
        Self::insecure_with_header(key, data, size, Header::random()?)
    }

    /// Begins a stream with a given header: for vectors. See [`Header::insecure_with`].
    pub fn insecure_with_header(
        key: &Key,
        data: &AssociatedData,
        size: SegmentSize,
        header: Header,
    ) -> Result<Self, StreamError> {
        Ok(Self { cipher: Cipher::new(key, header, data)?, size, segment: 0, failed: false })
    }

    /// What the stream begins with.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.cipher.header()
    }

    /// Bytes of plaintext of the next segment, if it is full.
    #[must_use]
    pub fn capacity(&self) -> usize {
        let bytes = if self.segment == 0 { self.size.first_plain() } else { self.size.plain() };
        // At most 1 MiB.
        bytes as usize
    }

    /// Seals the next segment, which is full and behind which another one follows. The tag is appended.
    pub fn seal(&mut self, plain: &mut Vec<u8>) -> Result<(), StreamError> {
        let (expected, found) = (self.capacity(), plain.len());
        if expected != found {
            return Err(StreamError::Buffer { expected, found });
        }
        self.put(plain, Place::Inner)
    }

    /// Seals the last segment, which is empty only if it is also the first. The tag is appended.
    pub fn seal_last(mut self, plain: &mut Vec<u8>) -> Result<(), StreamError> {
        let (expected, found) = (self.capacity(), plain.len());
        if found > expected || (found == 0 && self.segment > 0) {
            return Err(StreamError::Buffer { expected, found });
        }
        self.put(plain, Place::Last)
    }

    fn put(&mut self, plain: &mut Vec<u8>, place: Place) -> Result<(), StreamError> {
        if self.failed {
            return Err(StreamError::Failed);
        }
        let segment = self.segment;
        let size = u64::from(segment).saturating_mul(self.size.plain());
        let next = segment.checked_add(1);
        // INVARIANT: a number is used once, also if what follows fails.
        self.failed = next.is_none();
        self.segment = next.ok_or(StreamError::TooLarge { size, segment: self.size.bytes() })?;
        let tag = self.cipher.seal(segment, place, plain)?;
        plain.extend_from_slice(&tag);
        Ok(())
    }
}
