//! The list of an object's parts, which is sealed at the object's end.

use coffer_core_sealed_stream::{
    HEADER_LEN, Header, Key, Layout, SegmentOpener, SegmentSealer, StreamError, TAG_LEN,
};

use crate::bound::{FOOTER, MAX_PARTS, RESIDUE, SEGMENT};
use crate::keys::about_index;
use crate::part::PartId;
use crate::{ObjectError, ObjectKeys, ObjectName, Part};

const VERSION: u8 = 1;
const ENTRY: usize = 24;
const HEAD: usize = 5;
/// The longest list: version, count, entries.
const LONGEST: u64 = (HEAD + MAX_PARTS * ENTRY) as u64;

/// The parts of an object, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    parts: Vec<Part>,
}

impl Index {
    /// Lists parts.
    pub fn new(parts: Vec<Part>) -> Result<Self, ObjectError> {
        if parts.is_empty() {
            return Err(ObjectError::Index("it lists no part"));
        }
        if parts.len() > MAX_PARTS {
            return Err(ObjectError::TooManyParts);
        }
        Ok(Self { parts })
    }

    /// The parts.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&u32::try_from(self.parts.len()).unwrap_or_default().to_be_bytes());
        for part in &self.parts {
            bytes.extend_from_slice(part.id.as_bytes());
            bytes.extend_from_slice(&part.size.to_be_bytes());
        }
        bytes
    }

    /// Reads the list from its plaintext.
    pub fn parse(bytes: &[u8]) -> Result<Self, ObjectError> {
        let refused = || ObjectError::Index("its plaintext is not that of a list");
        let (version, rest) = bytes.split_first().ok_or_else(refused)?;
        if *version != VERSION {
            return Err(ObjectError::Index("its version is not 1"));
        }
        let (count, mut rest) = rest.split_first_chunk().ok_or_else(refused)?;
        let count = usize::try_from(u32::from_be_bytes(*count)).map_err(|_| refused())?;
        if count > MAX_PARTS || rest.len() != count.saturating_mul(ENTRY) {
            return Err(refused());
        }
        let mut parts = Vec::with_capacity(count);
        while let Some((id, behind)) = rest.split_first_chunk() {
            let (size, behind) = behind.split_first_chunk().ok_or_else(refused)?;
            parts.push(Part { id: PartId::insecure_from(*id), size: u64::from_be_bytes(*size) });
            rest = behind;
        }
        Self::new(parts)
    }
}

impl ObjectKeys {
    /// What is uploaded behind the last part: zeros, the sealed list, its length. The zeros make the object's length
    /// one that no object without parts has.
    pub fn seal_index(&self, name: &ObjectName, index: &Index) -> Result<Vec<u8>, ObjectError> {
        let mut own = SegmentSealer::new(&self.content, &about_index(name), SEGMENT)?;
        let text = index.to_bytes();
        let mut sealed = own.header().as_bytes().to_vec();
        let mut rest = text.as_slice();
        while rest.len() > own.capacity() {
            let (segment, behind) = rest.split_at_checked(own.capacity()).unwrap_or_default();
            let mut segment = segment.to_vec();
            own.seal(&mut segment)?;
            sealed.append(&mut segment);
            rest = behind;
        }
        let mut last = rest.to_vec();
        own.seal_last(&mut last)?;
        sealed.append(&mut last);
        let length = sealed.len() as u64;
        let mut before = 0_u64;
        for part in index.parts() {
            before = before.saturating_add(part.stored()?);
        }
        let known = before.saturating_add(length).saturating_add(FOOTER);
        let unit = u64::from(SEGMENT.bytes());
        let over = known.checked_rem(unit).unwrap_or_default();
        let filler = unit.saturating_add(RESIDUE).saturating_sub(over).checked_rem(unit).unwrap_or_default();
        let mut trailer = vec![0; usize::try_from(filler).unwrap_or_default()];
        trailer.append(&mut sealed);
        trailer.extend_from_slice(&length.to_be_bytes());
        Ok(trailer)
    }

    /// Opens the list from the object's end, which must hold all of it: see [`footer`].
    pub fn open_index(&self, name: &ObjectName, end: &[u8]) -> Result<Index, ObjectError> {
        let cut = ObjectError::Index("the object's end is not that of an object with parts");
        let Some(length) = footer(end) else { return Err(cut) };
        let from = length.checked_add(FOOTER).and_then(|all| (end.len() as u64).checked_sub(all));
        let Some(from) = from.and_then(|from| usize::try_from(from).ok()) else { return Err(cut) };
        let to = end.len().saturating_sub(FOOTER as usize);
        let sealed = end.get(from..to).unwrap_or_default();
        Index::parse(&open_small(&self.content, &about_index(name), sealed)?)
    }
}

/// How long the sealed list is of an object that ends so. Nothing if that cannot be.
#[must_use]
pub fn footer(end: &[u8]) -> Option<u64> {
    let length = u64::from_be_bytes(*end.last_chunk::<{ FOOTER as usize }>()?);
    let longest = Layout::new(SEGMENT, LONGEST).ok()?.sealed_size();
    (HEADER_LEN.saturating_add(TAG_LEN)..=longest).contains(&length).then_some(length)
}

/// Opens a stream that is in memory.
pub(crate) fn open_small(
    key: &Key,
    data: &coffer_core_sealed_stream::AssociatedData,
    sealed: &[u8],
) -> Result<Vec<u8>, ObjectError> {
    let layout = Layout::of_sealed(SEGMENT, sealed.len() as u64)?;
    let header = sealed.first_chunk().ok_or(StreamError::Truncated { segment: 0 })?;
    let opener = SegmentOpener::new(key, Header::parse(header)?, data, layout)?;
    let mut plain = vec![0; usize::try_from(layout.size()).unwrap_or_default()];
    for segment in 0..layout.segments() {
        let slice = |range: std::ops::Range<u64>| {
            let (start, end) = (usize::try_from(range.start), usize::try_from(range.end));
            start.unwrap_or_default()..end.unwrap_or_default()
        };
        let from = slice(layout.sealed_range(segment).unwrap_or_default());
        let to = slice(layout.plain_range(segment).unwrap_or_default());
        opener.open(segment, sealed.get(from).unwrap_or_default(), plain.get_mut(to).unwrap_or_default())?;
    }
    Ok(plain)
}
