//! How init-data travels: on a raw disk, and in a pod's annotation. Both hold the text as one gzip member.
//!
//! Compression is deterministic (no time, no name), so that the same text gives the same disk. The host made what
//! is read here, so every length is bounded before it is believed.

use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};

use crate::{InitData, InitDataError, MAX_TEXT};

const MAGIC: &[u8; 8] = b"initdata";
/// The length of a disk's header: the magic, then the length of what follows (little endian, 8 bytes).
pub const DISK_HEADER: usize = 16;
/// Disks are padded with zeros to a multiple of this.
pub const DISK_SECTOR: usize = 512;
/// The longest compressed text. Compressing what cannot be compressed makes it a little longer.
const MAX_PACKED: u64 = (MAX_TEXT as u64) + 4096;

impl InitData {
    /// The content of the raw disk.
    pub fn to_disk(&self) -> Result<Vec<u8>, InitDataError> {
        let packed = pack(self.text())?;
        let length = u64::try_from(packed.len()).map_err(|_| InitDataError::TooLong)?;
        let mut disk = [MAGIC.as_slice(), &length.to_le_bytes(), &packed].concat();
        disk.resize(disk.len().next_multiple_of(DISK_SECTOR), 0);
        Ok(disk)
    }

    /// Reads a raw disk. What follows its content is not looked at: the digest does not cover it.
    pub fn from_disk(disk: &[u8]) -> Result<Self, InitDataError> {
        let found = u64::try_from(disk.len()).unwrap_or(u64::MAX);
        let Some((header, rest)) = disk.split_first_chunk::<DISK_HEADER>() else {
            return Err(match disk.starts_with(MAGIC) {
                true => InitDataError::Truncated { expected: DISK_HEADER as u64, found },
                false => InitDataError::Magic,
            });
        };
        let expected = Self::disk_length(header)?;
        let packed =
            usize::try_from(expected).ok().and_then(|end| rest.get(..end.saturating_sub(DISK_HEADER)));
        unpack(packed.ok_or(InitDataError::Truncated { expected, found })?)
    }

    /// How many bytes of the disk there are to read, its header included, from the header.
    pub fn disk_length(header: &[u8; DISK_HEADER]) -> Result<u64, InitDataError> {
        let (magic, length) = header.split_first_chunk::<8>().ok_or(InitDataError::Magic)?;
        if magic != MAGIC {
            return Err(InitDataError::Magic);
        }
        let length = length.first_chunk::<8>().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
        match length > MAX_PACKED {
            true => Err(InitDataError::TooLong),
            false => Ok(length.saturating_add(DISK_HEADER as u64)),
        }
    }

    /// The value of Kata's annotation `io.katacontainers.config.hypervisor.cc_init_data`.
    pub fn to_annotation(&self) -> Result<String, InitDataError> {
        Ok(STANDARD.encode(pack(self.text())?))
    }

    /// Reads Kata's annotation.
    pub fn from_annotation(text: &str) -> Result<Self, InitDataError> {
        let longest = usize::try_from(MAX_PACKED).unwrap_or(usize::MAX).saturating_mul(2);
        if text.len() > longest {
            return Err(InitDataError::TooLong);
        }
        unpack(&STANDARD.decode(text).map_err(|_| InitDataError::Base64)?)
    }
}

fn pack(text: &str) -> Result<Vec<u8>, InitDataError> {
    // 255 is "unknown" (RFC 1952, section 2.3.1); the default differs between machines.
    let mut encoder = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    let packed = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
    packed.map_err(|error| InitDataError::Gzip(error.to_string()))
}

fn unpack(packed: &[u8]) -> Result<InitData, InitDataError> {
    let mut text = Vec::new();
    let mut decoder = GzDecoder::new(packed);
    let bound = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX).saturating_add(1);
    decoder
        .by_ref()
        .take(bound)
        .read_to_end(&mut text)
        .map_err(|error| InitDataError::Gzip(error.to_string()))?;
    if text.len() > MAX_TEXT {
        return Err(InitDataError::TooLong);
    }
    if !decoder.into_inner().is_empty() {
        return Err(InitDataError::Gzip("there are bytes after its end".into()));
    }
    InitData::parse(&text)
}
