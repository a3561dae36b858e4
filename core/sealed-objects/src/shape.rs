//! Where what is in an object, from its length and its list of parts.

use std::ops::Range;

use coffer_core_sealed_stream::{AssociatedData, HEADER_LEN, Layout};

use crate::bound::{FOOTER, RESIDUE, SEGMENT};
use crate::keys::{about_object, about_part};
use crate::{Index, ObjectError, ObjectName};

/// What an object's length says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is one stream.
    Whole,
    /// It is parts and their list.
    Parts,
}

impl Kind {
    /// By the length that the store tells, which decides only how the object is looked at.
    #[must_use]
    pub fn of(sealed_size: u64) -> Self {
        match sealed_size.checked_rem(u64::from(SEGMENT.bytes())) {
            Some(RESIDUE) => Self::Parts,
            _ => Self::Whole,
        }
    }
}

/// One stream of an object.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Where it begins in the object.
    pub(crate) start: u64,
    /// Where its plaintext begins in the object's plaintext.
    pub(crate) plain: u64,
    pub(crate) layout: Layout,
    pub(crate) data: AssociatedData,
}

/// The streams of an object.
#[derive(Clone, Debug)]
pub struct Shape {
    pub(crate) extents: Vec<Extent>,
    size: u64,
}

/// The segments that hold a range of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) extent: usize,
    pub(crate) segment: u32,
    pub(crate) last_extent: usize,
    pub(crate) last_segment: u32,
}

impl Shape {
    /// Of an object of one stream and this length.
    pub fn whole(name: &ObjectName, sealed_size: u64) -> Result<Self, ObjectError> {
        let layout = Layout::of_sealed(SEGMENT, sealed_size)?;
        let extents = vec![Extent { start: 0, plain: 0, layout, data: about_object(name) }];
        Ok(Self { extents, size: layout.size() })
    }

    /// Of an object of this length with these parts.
    pub fn parts(name: &ObjectName, sealed_size: u64, index: &Index) -> Result<Self, ObjectError> {
        let long = ObjectError::Index("its parts are longer than any object");
        let (mut start, mut plain) = (0_u64, 0_u64);
        let mut extents = Vec::with_capacity(index.parts().len());
        for part in index.parts() {
            let layout = Layout::new(SEGMENT, part.size)?;
            extents.push(Extent { start, plain, layout, data: about_part(name, &part.id) });
            let sums = (start.checked_add(part.stored()?), plain.checked_add(part.size));
            let (Some(behind), Some(more)) = sums else { return Err(long) };
            (start, plain) = (behind, more);
        }
        // Filler, list and footer follow; the filler is shorter than a segment.
        let trailer = sealed_size.checked_sub(start).filter(|rest| *rest > FOOTER);
        if trailer.is_none() || Kind::of(sealed_size) != Kind::Parts {
            return Err(ObjectError::Index("its parts do not have the object's length"));
        }
        Ok(Self { extents, size: plain })
    }

    /// Bytes of plaintext.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// How many streams there are.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.extents.len()
    }

    /// The segments that hold a range of the plaintext; of an empty object its one segment.
    pub(crate) fn steps(&self, range: &Range<u64>) -> Result<Steps, ObjectError> {
        let end = range.end.min(self.size);
        if self.size == 0 && range.start == 0 {
            let last_extent = self.extents.len().saturating_sub(1);
            return Ok(Steps { extent: 0, segment: 0, last_extent, last_segment: 0 });
        }
        let last = end.checked_sub(1).filter(|last| *last >= range.start).ok_or(ObjectError::Range)?;
        let (extent, segment) = self.place(range.start)?;
        let (last_extent, last_segment) = self.place(last)?;
        Ok(Steps { extent, segment, last_extent, last_segment })
    }

    /// Stream and segment of a byte of the plaintext.
    fn place(&self, at: u64) -> Result<(usize, u32), ObjectError> {
        // The last stream that begins there or before and is not empty there.
        let found = self.extents.partition_point(|extent| extent.plain <= at).checked_sub(1);
        let extent = found.and_then(|found| self.extents.get(found)).ok_or(ObjectError::Range)?;
        let segment = extent.layout.segment_at(at.saturating_sub(extent.plain)).ok_or(ObjectError::Range)?;
        Ok((found.unwrap_or_default(), segment))
    }

    /// The ciphertext to fetch for these segments, in one piece; with the header where it begins a stream.
    pub(crate) fn cover(&self, steps: &Steps) -> Range<u64> {
        let sealed = |extent: usize, segment: u32| {
            let extent = self.extents.get(extent)?;
            let range = extent.layout.sealed_range(segment)?;
            let from = if segment == 0 { 0 } else { range.start };
            Some((extent.start.saturating_add(from), extent.start.saturating_add(range.end)))
        };
        let (start, _) = sealed(steps.extent, steps.segment).unwrap_or_default();
        let (_, end) = sealed(steps.last_extent, steps.last_segment).unwrap_or_default();
        start..end
    }

    /// Where the header of a stream is.
    pub(crate) fn header(&self, extent: usize) -> Range<u64> {
        let start = self.extents.get(extent).map_or(0, |extent| extent.start);
        start..start.saturating_add(HEADER_LEN)
    }
}
