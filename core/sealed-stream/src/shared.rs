//! Reading from anywhere by several threads at once, with one small cache for all.
//!
//! INVARIANT: a segment that was not authenticated is in no cache and in no caller's buffer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use crate::layout::{HEADER_LEN, TAG_LEN};
use crate::source::{ReadAt, fill};
use crate::{AssociatedData, Header, Key, Layout, SegmentOpener, StreamError};

/// As many opened segments are kept: loaders of models jump between a few places.
pub const CACHED_SEGMENTS: usize = 8;

/// Ciphertext buffers that are kept for the next reads.
const SPARE: usize = 4;

/// Reads the plaintext of a stream from anywhere. Holds at most [`CACHED_SEGMENTS`] opened segments, and while they
/// read one sealed segment for each thread.
pub struct SharedReader<S> {
    source: S,
    opener: SegmentOpener,
    /// The one that was used last is last.
    slots: Mutex<Vec<Slot>>,
    spare: Mutex<Vec<Vec<u8>>>,
}

/// A segment that is open, or that somebody is opening.
struct Slot {
    segment: u32,
    plain: Arc<Mutex<Plain>>,
}

/// The plaintext of a segment, in a buffer that is used for one segment after the other.
#[derive(Default)]
struct Plain {
    buffer: Zeroizing<Vec<u8>>,
    /// How much of the buffer is this segment's; 0 if it is not open. Only an empty stream has an empty segment, and
    /// nobody reads that.
    open: usize,
}

impl Plain {
    /// What is open.
    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.open).unwrap_or_default()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: ReadAt> SharedReader<S> {
    /// Reads the header. `layout` comes from the manifest, or from the length of the source.
    pub fn new(source: S, key: &Key, data: &AssociatedData, layout: Layout) -> Result<Self, StreamError> {
        let mut header = [0; HEADER_LEN as usize];
        fill(&source, &mut header, 0, 0)?;
        let opener = SegmentOpener::new(key, Header::parse(&header)?, data, layout)?;
        Ok(Self { source, opener, slots: Mutex::default(), spare: Mutex::default() })
    }

    /// The stream's shape.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        self.opener.layout()
    }

    /// Fills `buffer` with the plaintext from `offset` on; returns less than its length only at the end of the stream.
    ///
    /// An error says nothing about other places of the stream. What is in `buffer` then is not to be used.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, StreamError> {
        let mut filled = 0_usize;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_segment(rest, offset.saturating_add(filled as u64))? {
                0 => break,
                read => filled = filled.saturating_add(read),
            }
        }
        Ok(filled)
    }

    /// Like [`SharedReader::read_at`], up to the end of the segment that holds `offset`.
    pub fn read_segment(&self, buffer: &mut [u8], offset: u64) -> Result<usize, StreamError> {
        let layout = *self.layout();
        let Some(segment) = layout.segment_at(offset).filter(|_| !buffer.is_empty()) else { return Ok(0) };
        let range = layout.plain_range(segment).unwrap_or_default();
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let whole = offset == range.start && buffer.len() >= length;
        let Some(slot) = self.slot(segment, whole) else {
            // The caller wants all of it and nobody else has it: no copy is made.
            return self.fetch(segment, buffer);
        };
        let mut plain = locked(&slot);
        if plain.open == 0 {
            if plain.buffer.len() < length {
                plain.buffer.resize(length, 0);
            }
            plain.open = self.fetch(segment, &mut plain.buffer)?;
        }
        let skipped = usize::try_from(offset.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let found = plain.bytes().get(skipped..).unwrap_or_default();
        let length = found.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), found.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }

    /// The segment's place in the cache; with `only_if_there`, none is made.
    fn slot(&self, segment: u32, only_if_there: bool) -> Option<Arc<Mutex<Plain>>> {
        let mut slots = locked(&self.slots);
        let slot = match slots.iter().position(|slot| slot.segment == segment) {
            Some(place) => slots.remove(place),
            None if only_if_there => return None,
            None => {
                let plain = match slots.len() {
                    // The buffer that was not used for the longest time is used again, unless somebody reads in it.
                    CACHED_SEGMENTS.. => Arc::into_inner(slots.remove(0).plain),
                    _ => None,
                };
                let mut plain = plain.and_then(|plain| plain.into_inner().ok()).unwrap_or_default();
                plain.open = 0;
                Slot { segment, plain: Arc::new(Mutex::new(plain)) }
            }
        };
        let plain = Arc::clone(&slot.plain);
        slots.push(slot);
        Some(plain)
    }

    /// Opens a segment into the beginning of `plain`.
    fn fetch(&self, segment: u32, plain: &mut [u8]) -> Result<usize, StreamError> {
        let layout = self.opener.layout();
        let absent = || StreamError::NoSegment { segment, segments: layout.segments() };
        let range = layout.sealed_range(segment).ok_or_else(absent)?;
        let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(|_| absent())?;
        let expected = length.saturating_sub(TAG_LEN as usize);
        let found = plain.len();
        let plain = plain.get_mut(..expected).ok_or(StreamError::Buffer { expected, found })?;
        let mut sealed = locked(&self.spare).pop().unwrap_or_default();
        sealed.resize(length, 0);
        let read = fill(&self.source, &mut sealed, range.start, segment);
        let opened = read.and_then(|()| self.opener.open(segment, &sealed, plain));
        let mut spare = locked(&self.spare);
        if spare.len() < SPARE {
            spare.push(sealed);
        }
        opened
    }
}
