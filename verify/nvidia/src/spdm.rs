//! An attestation report: the SPDM 1.1 request for measurements and the signed response (DMTF DSP0274 1.1).
//!
//! The signature is over request and response together and stands at the end, outside the response's own fields.
//! Left out: other messages, and measurements that are not hashes in DMTF's form.

use std::collections::BTreeMap;

use crate::opaque::{Opaque, OpaqueError};

/// ECDSA on P-384: two numbers of 48 bytes.
pub const SIGNATURE: usize = 96;
const SPDM_1_1: u8 = 0x11;
const GET_MEASUREMENTS: u8 = 0xe0;
const MEASUREMENTS: u8 = 0x60;
/// Bit 0 of the request's first parameter: a signature is asked for.
const SIGNED: u8 = 1;
/// The measurement specification of DMTF.
const DMTF: u8 = 1;

/// Why bytes are not a report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// A field runs past the end.
    #[error("{field} needs {expected} bytes, {found} are left")]
    Truncated {
        /// The field.
        field: &'static str,
        /// Bytes it needs.
        expected: usize,
        /// Bytes left.
        found: usize,
    },
    /// A field has a value that it cannot have.
    #[error("{field} is {found:#x}; expected {expected}")]
    Value {
        /// The field.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What was found.
        found: u64,
    },
    /// Bytes follow the last field.
    #[error("{found} bytes follow {field}")]
    Trailing {
        /// The field.
        field: &'static str,
        /// Bytes left.
        found: usize,
    },
    /// An index has two measurements.
    #[error("two measurements have index {0}")]
    Repeated(u8),
    /// The vendor's data cannot be read.
    #[error(transparent)]
    Opaque(#[from] OpaqueError),
}

/// A report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The nonce of who asked.
    pub nonce: [u8; 32],
    /// Values by index, from 1.
    pub measurements: BTreeMap<u8, Vec<u8>>,
    /// What the vendor adds.
    pub opaque: Opaque,
    /// How many bytes are signed, from the first on.
    signed: usize,
}

impl Report {
    /// Reads request, response and signature. Device kinds differ in one field of the vendor's data.
    pub fn parse(bytes: &[u8], is_switch: bool) -> Result<Self, ReportError> {
        let mut reader = Reader(bytes);
        reader.value("the request's SPDM version", "0x11 (1.1)", |found| found == SPDM_1_1)?;
        reader.value("the request's code", "0xe0 (GET_MEASUREMENTS)", |found| found == GET_MEASUREMENTS)?;
        reader.value("the request's attributes", "a signature is asked for", |found| found & SIGNED != 0)?;
        reader.take("the request's operation", 1)?;
        let nonce = reader.array("the request's nonce")?;
        reader.take("the request's slot", 1)?;

        reader.value("the response's SPDM version", "0x11 (1.1)", |found| found == SPDM_1_1)?;
        reader.value("the response's code", "0x60 (MEASUREMENTS)", |found| found == MEASUREMENTS)?;
        reader.take("the response's parameters", 2)?;
        let [blocks] = reader.array("the number of blocks")?;
        let [low, middle, high] = reader.array("the record's length")?;
        let length = u32::from_le_bytes([low, middle, high, 0]);
        let record = reader.take("the measurement record", usize::try_from(length).unwrap_or(usize::MAX))?;
        let measurements = measurements(record, blocks)?;
        // The device's own nonce: nobody has to know it.
        reader.take("the response's nonce", 32)?;
        let length = u16::from_le_bytes(reader.array("the opaque data's length")?);
        let opaque = Opaque::parse(reader.take("the opaque data", usize::from(length))?, is_switch)?;
        let signed = bytes.len().saturating_sub(reader.0.len());
        reader.take("the signature", SIGNATURE)?;
        reader.end("the signature")?;
        Ok(Self { nonce, measurements, opaque, signed })
    }

    /// The signed bytes and the signature of the report that this was read from.
    pub fn split<'a>(&self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        bytes.split_at_checked(self.signed)
    }
}

/// Blocks of index, specification, size, and DMTF's type, size and value (DSP0274 1.1, tables 45 and 46).
fn measurements(record: &[u8], blocks: u8) -> Result<BTreeMap<u8, Vec<u8>>, ReportError> {
    let mut reader = Reader(record);
    let mut found = BTreeMap::new();
    if blocks == 0 {
        return Err(ReportError::Value { field: "the number of blocks", expected: "at least 1", found: 0 });
    }
    for _ in 0..blocks {
        let index = reader.value("a block's index", "1 to 255", |index| index != 0)?;
        reader.value("a block's specification", "1 (DMTF)", |found| found == DMTF)?;
        let size = u16::from_le_bytes(reader.array("a block's size")?);
        let mut block = Reader(reader.take("a block's measurement", usize::from(size))?);
        block.take("a measurement's type", 1)?;
        let size = u16::from_le_bytes(block.array("a measurement's size")?);
        let value = block.take("a measurement's value", usize::from(size))?;
        block.end("a measurement's value")?;
        if found.insert(index, value.to_vec()).is_some() {
            return Err(ReportError::Repeated(index));
        }
    }
    reader.end("the last block")?;
    Ok(found)
}

/// A cursor that never runs past the end.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], ReportError> {
        let truncated = ReportError::Truncated { field, expected: length, found: self.0.len() };
        let (taken, rest) = self.0.split_at_checked(length).ok_or(truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], ReportError> {
        // `take` gives N bytes, so the conversion cannot fail.
        Ok(self.take(field, N)?.try_into().unwrap_or([0; N]))
    }

    fn value(
        &mut self,
        field: &'static str,
        expected: &'static str,
        good: impl FnOnce(u8) -> bool,
    ) -> Result<u8, ReportError> {
        let [found] = self.array(field)?;
        match good(found) {
            true => Ok(found),
            false => Err(ReportError::Value { field, expected, found: u64::from(found) }),
        }
    }

    pub(crate) fn end(&self, field: &'static str) -> Result<(), ReportError> {
        match self.0.len() {
            0 => Ok(()),
            found => Err(ReportError::Trailing { field, found }),
        }
    }
}
