//! Ciphertext in, as it comes; plaintext out, segment by segment. A machine without I/O.

use std::ops::Range;
use std::sync::Arc;

use coffer_core_sealed_stream::{HEADER_LEN, Header, SegmentOpener, StreamError};

use crate::shape::Steps;
use crate::{ObjectError, ObjectKeys, Shape};

/// Opens a range of one object.
pub struct Reading {
    keys: Arc<ObjectKeys>,
    shape: Arc<Shape>,
    wanted: Range<u64>,
    steps: Steps,
    /// Of the stream that is read.
    opener: Option<SegmentOpener>,
    /// Ciphertext of the header or segment that is not whole yet.
    sealed: Vec<u8>,
    /// Zeros between two parts that are still to come.
    skip: u64,
    done: bool,
}

impl Reading {
    /// Reads `range`, which must hold a byte unless the object is empty.
    pub fn new(keys: Arc<ObjectKeys>, shape: Arc<Shape>, range: Range<u64>) -> Result<Self, ObjectError> {
        let steps = shape.steps(&range)?;
        let wanted = range.start..range.end.min(shape.size());
        Ok(Self { keys, shape, wanted, steps, opener: None, sealed: Vec::new(), skip: 0, done: false })
    }

    /// The plaintext that comes out.
    #[must_use]
    pub const fn wanted(&self) -> &Range<u64> {
        &self.wanted
    }

    /// The bytes of the object to feed, in one piece.
    #[must_use]
    pub fn cover(&self) -> Range<u64> {
        self.shape.cover(&self.steps)
    }

    /// The bytes of the object that are wanted before all others, where the range begins in the middle of a stream:
    /// which stream it is, and where its header is.
    #[must_use]
    pub fn header(&self) -> Option<(usize, Range<u64>)> {
        (self.steps.segment > 0 && self.opener.is_none())
            .then(|| (self.steps.extent, self.shape.header(self.steps.extent)))
    }

    /// Takes the header that was wanted.
    pub fn set_header(&mut self, header: &[u8; HEADER_LEN as usize]) -> Result<(), ObjectError> {
        let extent = self.shape.extents.get(self.steps.extent).ok_or(ObjectError::Range)?;
        let header = Header::parse(header)?;
        let opener = SegmentOpener::new(&self.keys.content, header, &extent.data, extent.layout)?;
        self.opener = Some(opener);
        Ok(())
    }

    /// Whether everything came out.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// Takes bytes and appends at most one segment of plaintext to `out`. Returns how many bytes were taken; with
    /// fewer than were given, call it again. Nothing of a segment that is refused is in `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, ObjectError> {
        let mut taken = 0_usize;
        while !self.done {
            let rest = bytes.get(taken..).unwrap_or_default();
            if self.skip > 0 {
                let skipped = rest.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip = self.skip.saturating_sub(skipped as u64);
                taken = taken.saturating_add(skipped);
                if self.skip > 0 {
                    break;
                }
                continue;
            }
            let wanted = self.next_length()?;
            let more = rest.get(..wanted.saturating_sub(self.sealed.len()).min(rest.len()));
            let more = more.unwrap_or_default();
            self.sealed.extend_from_slice(more);
            taken = taken.saturating_add(more.len());
            if self.sealed.len() < wanted {
                break;
            }
            match &self.opener {
                None => {
                    let header = self.sealed.first_chunk().copied();
                    self.sealed.clear();
                    self.set_header(&header.ok_or(StreamError::Truncated { segment: 0 })?)?;
                }
                Some(_) => {
                    self.open(out)?;
                    break;
                }
            }
        }
        Ok(taken)
    }

    /// How many bytes the header or segment has that comes next.
    fn next_length(&self) -> Result<usize, ObjectError> {
        let Some(opener) = &self.opener else { return Ok(HEADER_LEN as usize) };
        let range = opener.layout().sealed_range(self.steps.segment).ok_or(ObjectError::Range)?;
        usize::try_from(range.end.saturating_sub(range.start)).map_err(|_| ObjectError::Range)
    }

    fn open(&mut self, out: &mut Vec<u8>) -> Result<(), ObjectError> {
        let (Some(opener), segment) = (&self.opener, self.steps.segment) else { return Ok(()) };
        let extent = self.shape.extents.get(self.steps.extent).ok_or(ObjectError::Range)?;
        let own = opener.layout().plain_range(segment).ok_or(ObjectError::Range)?;
        let length = usize::try_from(own.end.saturating_sub(own.start)).map_err(|_| ObjectError::Range)?;
        let begins = out.len();
        out.resize(begins.saturating_add(length), 0);
        if let Err(error) = opener.open(segment, &self.sealed, out.get_mut(begins..).unwrap_or_default()) {
            out.truncate(begins);
            return Err(error.into());
        }
        self.sealed.clear();
        // Only what was asked for of the first and the last segment.
        let at = extent.plain.saturating_add(own.start);
        let behind = usize::try_from(self.wanted.end.saturating_sub(at)).unwrap_or(usize::MAX).min(length);
        out.truncate(begins.saturating_add(behind));
        let before = usize::try_from(self.wanted.start.saturating_sub(at)).unwrap_or(usize::MAX).min(behind);
        out.drain(begins..begins.saturating_add(before));
        self.advance();
        Ok(())
    }

    fn advance(&mut self) {
        let steps = self.steps;
        if (steps.extent, steps.segment) == (steps.last_extent, steps.last_segment) {
            self.done = true;
            return;
        }
        let Some(extent) = self.shape.extents.get(steps.extent) else { return };
        if !extent.layout.is_last(steps.segment) {
            self.steps.segment = steps.segment.saturating_add(1);
            return;
        }
        let next = steps.extent.saturating_add(1);
        let ends = extent.start.saturating_add(extent.layout.sealed_size());
        self.skip = self.shape.header(next).start.saturating_sub(ends);
        (self.steps.extent, self.steps.segment, self.opener) = (next, 0, None);
    }
}
