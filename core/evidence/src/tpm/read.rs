//! A cursor over hostile bytes in the TPM's big-endian form. It never reads past the end and never panics.

use coffer_core_digest::Algorithm;

use super::TpmError;

/// The rest of a structure that is being read.
pub(super) struct Reader<'a> {
    structure: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(structure: &'static str, bytes: &'a [u8]) -> Self {
        Self { structure, rest: bytes }
    }

    pub(super) fn take(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], TpmError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(TpmError::Truncated {
            structure: self.structure,
            field,
            expected: count,
            found: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], TpmError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(field, N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, TpmError> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, TpmError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, TpmError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, TpmError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// A `TPM2B`: a 16-bit size and as many bytes, at most `limit`.
    pub(super) fn sized(&mut self, field: &'static str, limit: u16) -> Result<&'a [u8], TpmError> {
        let size = self.u16(field)?;
        match size > limit {
            true => Err(self.value(field, "a size within the structure's bounds", size.into())),
            false => self.take(field, size.into()),
        }
    }

    pub(super) fn hash(&mut self, field: &'static str) -> Result<Algorithm, TpmError> {
        let id = self.u16(field)?;
        super::algorithm(id)
            .ok_or_else(|| self.value(field, "the id of SHA-1, SHA-256, SHA-384 or SHA-512", id.into()))
    }

    pub(super) const fn value(&self, field: &'static str, expected: &'static str, found: u64) -> TpmError {
        TpmError::Value { structure: self.structure, field, expected, found }
    }

    pub(super) const fn end(self) -> Result<(), TpmError> {
        match self.rest.len() {
            0 => Ok(()),
            found => Err(TpmError::Trailing { structure: self.structure, found }),
        }
    }
}
