//! MRENCLAVE of a page stream.
//!
//! SPEC: Intel SDM, volume 3D, section 38.4.1 (records of ECREATE, EADD and EEXTEND). The stream is those records one
//! after the other, as Fortanix's tools write it, with further records of chunks that are loaded but not measured.

use coffer_core_digest::{Algorithm, Digest, Hasher};

use crate::LaunchError;
use crate::bytes::{slice, u32_at, u64_at};

const RECORD: usize = 64;
const CHUNK: usize = 256;
const PAGE: u64 = 0x1000;
const CREATE: &[u8] = b"ECREATE\0";
const UNSIZED: &[u8] = b"UNSIZED\0";
const ADD: &[u8] = b"EADD\0\0\0\0";
const EXTEND: &[u8] = b"EEXTEND\0";
const UNMEASURED: &[u8] = b"UNMEASRD";
/// `SECINFO.FLAGS`: read, write, execute; and the page type of a thread control structure.
const PERMISSIONS: u64 = 0b111;
const PAGE_TYPE: u64 = 0xff00;
const THREAD_CONTROL: u64 = 0x0100;

/// The measurement of an enclave's pages.
pub fn mrenclave(stream: &[u8]) -> Result<Digest, LaunchError> {
    let create = stream.get(..RECORD).ok_or(LaunchError::Enclave("it is shorter than a record"))?;
    let mut pages = Pages::begin(create)?;
    let mut rest = stream.get(RECORD..).unwrap_or_default();
    while !rest.is_empty() {
        let length = pages.record(rest)?;
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(pages.hasher.finish())
}

/// The pages so far.
struct Pages {
    hasher: Hasher,
    size: u64,
    /// The page added last.
    page: Option<u64>,
    /// Its chunks, a bit for each.
    seen: u16,
}

impl Pages {
    fn begin(create: &[u8]) -> Result<Self, LaunchError> {
        let tag = slice(create, 0, 8).unwrap_or_default();
        if tag == UNSIZED {
            return Err(LaunchError::Enclave("its size is still open; set it before measuring"));
        }
        if tag != CREATE || !is_zero(create, 20) {
            return Err(LaunchError::Enclave("it does not begin with ECREATE; is it an .sgxs file?"));
        }
        let (frame, size) = (u32_at(create, 8).unwrap_or_default(), u64_at(create, 12).unwrap_or_default());
        if frame == 0 || !size.is_power_of_two() || size < PAGE {
            return Err(LaunchError::Enclave(
                "its size is no power of two, or its state save frames have none",
            ));
        }
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(create);
        Ok(Self { hasher, size, page: None, seen: 0 })
    }

    /// Takes one record and gives its length.
    fn record(&mut self, rest: &[u8]) -> Result<usize, LaunchError> {
        const CUT: LaunchError = LaunchError::Enclave("it is cut off in a record");
        let record = rest.get(..RECORD).ok_or(CUT)?;
        let offset = u64_at(record, 8).ok_or(CUT)?;
        let tag = slice(record, 0, 8).ok_or(CUT)?;
        if tag == ADD {
            self.add(record, offset)?;
            return Ok(RECORD);
        }
        if tag != EXTEND && tag != UNMEASURED {
            return Err(LaunchError::Enclave("it has a record of unknown kind"));
        }
        let length = RECORD.checked_add(CHUNK).ok_or(CUT)?;
        let whole = rest.get(..length).ok_or(CUT)?;
        self.chunk(record, offset)?;
        if tag == EXTEND {
            self.hasher.update(whole);
        }
        Ok(length)
    }

    /// Pages come in the order of their addresses, each once.
    fn add(&mut self, record: &[u8], offset: u64) -> Result<(), LaunchError> {
        let inside = offset.is_multiple_of(PAGE) && offset < self.size;
        if !inside || self.page.is_some_and(|last| offset <= last) || !is_zero(record, 24) {
            return Err(LaunchError::Enclave("a page lies outside, out of order, or has reserved bits"));
        }
        let flags = u64_at(record, 16).unwrap_or_default();
        if flags & PAGE_TYPE == THREAD_CONTROL && flags & PERMISSIONS != 0 {
            return Err(LaunchError::Enclave("a thread control structure has permissions"));
        }
        (self.page, self.seen) = (Some(offset), 0);
        self.hasher.update(record);
        Ok(())
    }

    /// Chunks belong to the page added last, each once.
    fn chunk(&mut self, record: &[u8], offset: u64) -> Result<(), LaunchError> {
        const WRONG: LaunchError =
            LaunchError::Enclave("a chunk is not of the page before it, comes twice, or has reserved bits");
        let page = self.page.ok_or(WRONG)?;
        let number =
            offset.checked_sub(page).filter(|at| *at < PAGE && at.is_multiple_of(0x100)).ok_or(WRONG)? >> 8;
        let bit = 1u16 << number;
        if self.seen & bit != 0 || !is_zero(record, 16) {
            return Err(WRONG);
        }
        self.seen |= bit;
        Ok(())
    }
}

fn is_zero(record: &[u8], from: usize) -> bool {
    record.get(from..).is_some_and(|reserved| reserved.iter().all(|byte| *byte == 0))
}
