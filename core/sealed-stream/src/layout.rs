//! Where what is in a stream: arithmetic between offsets of plaintext and ranges of ciphertext.
//!
//! SPEC: `docs/formats/sealed-stream.md`, section 1. The first segment is shorter by the header, so that every other
//! segment begins at a multiple of the segment size.

use std::ops::Range;

use crate::StreamError;

/// A header has this many bytes: its length, a salt of 32 bytes, a nonce prefix of 7.
pub const HEADER_LEN: u64 = 40;
/// Each segment ends with a tag of this many bytes.
pub const TAG_LEN: u64 = 16;

/// How many bytes of ciphertext a full segment has, with its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// For data sets, objects and manifests: little is read beside what is asked for.
    pub const KIB_64: Self = Self(64 << 10);
    /// For models: least overhead for whole reads.
    pub const MIB_1: Self = Self(1 << 20);

    /// A power of two from 4 KiB to 1 MiB.
    pub fn new(bytes: u64) -> Result<Self, StreamError> {
        match u32::try_from(bytes) {
            Ok(own) if own.is_power_of_two() && (4096..=1 << 20).contains(&own) => Ok(Self(own)),
            _ => Err(StreamError::SegmentSize { found: bytes }),
        }
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    pub(crate) const fn long(self) -> u64 {
        self.0 as u64
    }

    /// Plaintext of the first segment, when it is full.
    pub(crate) const fn first_plain(self) -> u64 {
        self.long().saturating_sub(HEADER_LEN.saturating_add(TAG_LEN))
    }

    /// Plaintext of every other full segment.
    pub(crate) const fn plain(self) -> u64 {
        self.long().saturating_sub(TAG_LEN)
    }
}

/// The shape of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    segment: SegmentSize,
    size: u64,
    segments: u32,
}

impl Layout {
    /// The stream that holds `size` bytes of plaintext.
    pub fn new(segment: SegmentSize, size: u64) -> Result<Self, StreamError> {
        let more = size.saturating_sub(segment.first_plain()).div_ceil(segment.plain());
        let segments = more.checked_add(1).and_then(|count| u32::try_from(count).ok());
        let segments = segments.ok_or(StreamError::TooLarge { size, segment: segment.bytes() })?;
        Ok(Self { segment, size, segments })
    }

    /// The stream that has `sealed` bytes of ciphertext.
    pub fn of_sealed(segment: SegmentSize, sealed: u64) -> Result<Self, StreamError> {
        let refused = StreamError::SealedSize { found: sealed };
        let tags = sealed.div_ceil(segment.long()).saturating_mul(TAG_LEN);
        let Some(size) = sealed.checked_sub(tags.saturating_add(HEADER_LEN)) else { return Err(refused) };
        let own = Self::new(segment, size)?;
        if sealed == 0 || own.sealed_size() != sealed { Err(refused) } else { Ok(own) }
    }

    /// The segment size.
    #[must_use]
    pub const fn segment_size(&self) -> SegmentSize {
        self.segment
    }

    /// Bytes of plaintext.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// How many segments there are; never 0.
    #[must_use]
    pub const fn segments(&self) -> u32 {
        self.segments
    }

    /// Bytes of ciphertext: header, segments and tags.
    #[must_use]
    pub const fn sealed_size(&self) -> u64 {
        // INVARIANT: at most 2^32 segments of at most 2^20 bytes, so nothing here reaches 2^53.
        self.size.saturating_add(HEADER_LEN).saturating_add(TAG_LEN.saturating_mul(self.segments as u64))
    }

    /// Whether the segment is the last one.
    #[must_use]
    pub const fn is_last(&self, segment: u32) -> bool {
        segment == self.segments.saturating_sub(1)
    }

    /// The segment that holds the byte at `offset` of the plaintext.
    #[must_use]
    pub fn segment_at(&self, offset: u64) -> Option<u32> {
        if offset >= self.size {
            return None;
        }
        let Some(behind) = offset.checked_sub(self.segment.first_plain()) else { return Some(0) };
        let further = behind.checked_div(self.segment.plain())?;
        u32::try_from(further.checked_add(1)?).ok()
    }

    /// The plaintext of a segment.
    #[must_use]
    pub fn plain_range(&self, segment: u32) -> Option<Range<u64>> {
        if segment >= self.segments {
            return None;
        }
        let full = u64::from(segment).saturating_mul(self.segment.plain());
        let end = full.saturating_add(self.segment.first_plain()).min(self.size);
        // The first segment has fewer bytes than the others, by the header.
        let start = if segment == 0 { 0 } else { full.saturating_sub(HEADER_LEN) };
        Some(start..end)
    }

    /// The ciphertext of a segment, with its tag and without the header.
    #[must_use]
    pub fn sealed_range(&self, segment: u32) -> Option<Range<u64>> {
        if segment >= self.segments {
            return None;
        }
        let full = u64::from(segment).saturating_mul(self.segment.long());
        let start = if segment == 0 { HEADER_LEN } else { full };
        Some(start..full.saturating_add(self.segment.long()).min(self.sealed_size()))
    }

    /// The ciphertext to fetch for a range of the plaintext: whole segments, in one piece. The header is not in it.
    ///
    /// `None` if the range holds no byte of the plaintext.
    #[must_use]
    pub fn sealed_cover(&self, plain: Range<u64>) -> Option<Range<u64>> {
        let end = plain.end.min(self.size);
        if plain.start >= end {
            return None;
        }
        let first = self.sealed_range(self.segment_at(plain.start)?)?;
        let last = self.sealed_range(self.segment_at(end.checked_sub(1)?)?)?;
        Some(first.start..last.end)
    }
}
