//! The binary header (specification, section 2.1) with its JSON area.

use std::io::{Read, Seek, SeekFrom};

use aws_lc_rs::digest;

use crate::LuksError;

/// The binary header's length; the JSON area follows.
pub(crate) const LENGTH: usize = 4096;
/// Sizes of header and JSON area that the format has, each also a place of the secondary header.
const SIZES: [u64; 9] =
    [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];
const CHECKSUM: std::ops::Range<usize> = 448..512;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Primary,
    Secondary,
}

impl Place {
    const fn magic(self) -> &'static [u8; 6] {
        match self {
            Self::Primary => b"LUKS\xba\xbe",
            Self::Secondary => b"SKUL\xba\xbe",
        }
    }
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Header and JSON area in bytes.
    pub(crate) size: u64,
    /// Grows with each change.
    pub(crate) sequence: u64,
    pub(crate) label: String,
    pub(crate) uuid: String,
    /// Makes checksums of equal headers differ.
    pub(crate) salt: [u8; 64],
    /// The JSON text, without its padding.
    pub(crate) json: Vec<u8>,
}

/// Reads the newer of the valid headers.
pub(crate) fn read(volume: &mut (impl Read + Seek)) -> Result<Header, LuksError> {
    let primary = read_at(volume, Place::Primary, 0);
    let secondary = match &primary {
        Ok(header) => read_at(volume, Place::Secondary, header.size),
        Err(_) => {
            let mut found = SIZES.iter().map(|&offset| read_at(volume, Place::Secondary, offset));
            found.find(Result::is_ok).unwrap_or_else(|| Err("there is no secondary header either".into()))
        }
    };
    match (primary, secondary) {
        (Ok(primary), Ok(secondary)) if secondary.sequence > primary.sequence => Ok(secondary),
        (Ok(header), _) | (Err(_), Ok(header)) => Ok(header),
        (Err(why), Err(_)) => Err(LuksError::NotLuks { why }),
    }
}

fn read_at(volume: &mut (impl Read + Seek), place: Place, offset: u64) -> Result<Header, String> {
    let mut bytes = vec![0; LENGTH];
    let mut read = |at: u64, bytes: &mut [u8]| {
        volume.seek(SeekFrom::Start(at)).and_then(|_| volume.read_exact(bytes)).map_err(|e| e.to_string())
    };
    read(offset, &mut bytes)?;
    if bytes.first_chunk::<6>() != Some(place.magic()) {
        return Err("the magic number is missing".into());
    }
    if number(&bytes, 6, 2) != 2 {
        return Err(format!("version {}; expected 2", number(&bytes, 6, 2)));
    }
    let size = number(&bytes, 8, 8);
    if !SIZES.contains(&size) {
        return Err(format!("a header of {size} bytes is not one of the format's sizes"));
    }
    if number(&bytes, 256, 8) != offset || (place == Place::Secondary && offset != size) {
        return Err(format!("the header is at {offset} and says it is elsewhere"));
    }
    let algorithm = text(&bytes, 72, 32)?;
    if algorithm != "sha256" {
        return Err(format!("checksum algorithm {algorithm:?}; expected sha256"));
    }
    // The largest of the sizes is 4 MiB.
    bytes.resize(usize::try_from(size).map_err(|_| "the size does not fit")?, 0);
    let area = bytes.get_mut(LENGTH..).ok_or("the size is less than a header")?;
    read(offset.saturating_add(LENGTH as u64), area)?;
    let found = bytes.get(CHECKSUM).map(<[u8]>::to_vec).unwrap_or_default();
    if checksum(&mut bytes) != found.first_chunk::<32>().copied() {
        return Err("the checksum does not match".into());
    }
    let area = bytes.get(LENGTH..).unwrap_or_default();
    let json = area.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
    let mut salt = [0; 64];
    salt.copy_from_slice(bytes.get(104..168).ok_or("the salt is missing")?);
    let (label, uuid) = (text(&bytes, 24, 48)?, text(&bytes, 168, 40)?);
    Ok(Header { size, sequence: number(&bytes, 16, 8), label, uuid, salt, json })
}

/// The header's bytes, its JSON area included. Gives nothing when the JSON or a text does not fit.
pub(crate) fn encode(header: &Header, place: Place) -> Option<Vec<u8>> {
    let size = usize::try_from(header.size).ok()?;
    let mut bytes = vec![0; size];
    let offset = if place == Place::Primary { 0 } else { header.size };
    let parts: [(usize, usize, &[u8]); 10] = [
        (0, 6, place.magic()),
        (6, 2, &2_u16.to_be_bytes()),
        (8, 8, &header.size.to_be_bytes()),
        (16, 8, &header.sequence.to_be_bytes()),
        // Texts end with NUL.
        (24, 47, header.label.as_bytes()),
        (72, 31, b"sha256"),
        (104, 64, &header.salt),
        (168, 39, header.uuid.as_bytes()),
        (256, 8, &offset.to_be_bytes()),
        (LENGTH, size.checked_sub(LENGTH)?.checked_sub(1)?, &header.json),
    ];
    for (at, room, part) in parts {
        if part.len() > room {
            return None;
        }
        bytes.get_mut(at..)?.get_mut(..part.len())?.copy_from_slice(part);
    }
    let sum = checksum(&mut bytes)?;
    bytes.get_mut(CHECKSUM)?.get_mut(..32)?.copy_from_slice(&sum);
    Some(bytes)
}

/// SHA-256 over header and JSON area, with the checksum's field zero; it is left so.
fn checksum(bytes: &mut [u8]) -> Option<[u8; 32]> {
    bytes.get_mut(CHECKSUM)?.fill(0);
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().ok()
}

/// A big-endian number of at most eight bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let field = bytes.get(at..).and_then(|rest| rest.get(..length)).unwrap_or_default();
    field.iter().fold(0, |number, &byte| (number << 8) | u64::from(byte))
}

fn text(bytes: &[u8], at: usize, room: usize) -> Result<String, String> {
    let field = bytes.get(at..).and_then(|rest| rest.get(..room)).unwrap_or_default();
    let end = field.iter().position(|&byte| byte == 0).ok_or("a text has no end")?;
    let text = field.get(..end).unwrap_or_default();
    match text.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
        true => Ok(String::from_utf8_lossy(text).into_owned()),
        false => Err("a text is not printable ASCII".into()),
    }
}
