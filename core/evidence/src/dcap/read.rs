//! A cursor over hostile bytes in Intel's little-endian form. It never reads past the end and never panics.

use super::DcapError;

/// The rest of a structure that is being read.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    structure: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(structure: &'static str, bytes: &'a [u8]) -> Self {
        Self { structure, rest: bytes }
    }

    pub(super) fn take(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], DcapError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DcapError::Truncated {
            structure: self.structure,
            field,
            expected: count,
            found: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DcapError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(field, N)?);
        Ok(array)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, DcapError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DcapError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// A 32-bit size and as many bytes.
    pub(super) fn sized(&mut self, field: &'static str) -> Result<&'a [u8], DcapError> {
        let size = self.u32(field)?;
        // What does not fit into usize does not fit into memory either.
        self.take(field, usize::try_from(size).unwrap_or(usize::MAX))
    }

    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) const fn end(self) -> Result<(), DcapError> {
        match self.rest.len() {
            0 => Ok(()),
            found => Err(DcapError::Trailing { structure: self.structure, found }),
        }
    }
}
