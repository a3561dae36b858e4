//! The JSON area (specification, section 3): what is accepted of it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::area::{Hash, Pbkdf2};
use crate::binary::Header;
use crate::{KEY, LuksError, MAC_KEY};

/// Most iterations that are waited for: some seconds. What a host writes must not keep a guest busy for hours.
const MOST_ITERATIONS: u32 = 10_000_000;
/// The format has at most 32 key slots (specification, 3.2).
const MOST_SLOTS: usize = 32;
pub(crate) const CIPHER: &str = "aes-xts-plain64";
/// The MAC of each sector, in `cryptsetup`'s words: `--integrity hmac-sha256`.
pub(crate) const INTEGRITY: &str = "hmac(sha256)";

#[derive(Serialize, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) keyslots: BTreeMap<String, Keyslot>,
    #[serde(default)]
    pub(crate) tokens: BTreeMap<String, serde_json::Value>,
    pub(crate) segments: BTreeMap<String, Segment>,
    pub(crate) digests: BTreeMap<String, Digest>,
    pub(crate) config: Config,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Keyslot {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) key_size: u32,
    pub(crate) af: Af,
    pub(crate) area: Area,
    pub(crate) kdf: Kdf,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Af {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) stripes: u32,
    pub(crate) hash: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Area {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) offset: String,
    pub(crate) size: String,
    pub(crate) encryption: String,
    pub(crate) key_size: u32,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Kdf {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) salt: String,
    #[serde(default)]
    pub(crate) hash: String,
    #[serde(default)]
    pub(crate) iterations: u32,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Segment {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) offset: String,
    pub(crate) size: String,
    #[serde(default)]
    pub(crate) iv_tweak: String,
    #[serde(default)]
    pub(crate) encryption: String,
    #[serde(default)]
    pub(crate) sector_size: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) integrity: Option<Integrity>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) flags: Vec<String>,
}

/// A segment's `integrity` (specification, 3.3).
#[derive(Serialize, Deserialize)]
pub(crate) struct Integrity {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) journal_encryption: String,
    pub(crate) journal_integrity: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Digest {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) keyslots: Vec<String>,
    pub(crate) segments: Vec<String>,
    pub(crate) hash: String,
    pub(crate) iterations: u32,
    pub(crate) salt: String,
    pub(crate) digest: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) json_size: String,
    pub(crate) keyslots_size: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requirements: Option<Requirements>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Requirements {
    #[serde(default)]
    pub(crate) mandatory: Vec<String>,
}

/// A key slot that can be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) kdf: Pbkdf2,
    pub(crate) af_hash: Hash,
    pub(crate) offset: u64,
}

/// What the metadata comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) slots: Vec<Slot>,
    pub(crate) check: Pbkdf2,
    pub(crate) digest: Vec<u8>,
    pub(crate) offset: u64,
    pub(crate) sector: u32,
    pub(crate) keyslots_end: u64,
    /// The volume's key's bytes: with integrity, the MAC's key stands behind the cipher's.
    pub(crate) key: usize,
}

/// Reads the JSON area, and refuses what is not accepted.
pub(crate) fn accept(header: &Header) -> Result<Accepted, LuksError> {
    let malformed = |why: &str| LuksError::Malformed(why.to_owned());
    let metadata: Metadata =
        serde_json::from_slice(&header.json).map_err(|why| LuksError::Malformed(why.to_string()))?;
    let required = metadata.config.requirements.as_ref().map_or(&[][..], |all| &all.mandatory);
    expect("a requirement", "none", required.first().map_or("none", |first| first))?;
    let mut segments = metadata.segments.iter();
    let (Some((name, segment)), None) = (segments.next(), segments.next()) else {
        return Err(LuksError::not_accepted("segments", "one", &metadata.segments.len().to_string()));
    };
    let (offset, sector) = check_segment(segment)?;
    let key = check_integrity(segment)?;
    let areas = header.size.saturating_mul(2);
    let keyslots_end = areas
        .checked_add(size("the key slots' size", &metadata.config.keyslots_size)?)
        .filter(|end| *end <= offset)
        .ok_or_else(|| malformed("the data begins before the key slots end"))?;
    let mut digests = metadata.digests.values().filter(|digest| digest.segments.contains(name));
    let (Some(digest), None) = (digests.next(), digests.next()) else {
        return Err(malformed("the segment has not one digest"));
    };
    expect("the digest's type", "pbkdf2", &digest.kind)?;
    let check = pbkdf2(&digest.hash, digest.iterations, &digest.salt)?;
    if metadata.keyslots.len() > MOST_SLOTS {
        return Err(malformed("there are more than 32 key slots"));
    }
    let of_segment = metadata.keyslots.iter().filter(|(slot, _)| digest.keyslots.contains(slot));
    let mut slots = Vec::new();
    let mut argon2 = false;
    for (_, slot) in of_segment {
        expect("a key slot's type", "luks2", &slot.kind)?;
        if slot.kdf.kind.starts_with("argon2") {
            argon2 = true;
            continue;
        }
        slots.push(check_slot(slot, key, areas, keyslots_end)?);
    }
    match (slots.is_empty(), argon2) {
        (true, true) => return Err(LuksError::Argon2),
        (true, false) => return Err(malformed("the segment has no key slot")),
        (false, _) => {}
    }
    let digest = base64(&digest.digest)?;
    if digest.len() < 20 {
        return Err(malformed("the digest is short"));
    }
    Ok(Accepted { slots, check, digest, offset, sector, keyslots_end, key })
}

fn check_segment(segment: &Segment) -> Result<(u64, u32), LuksError> {
    expect("a segment of type", "crypt", &segment.kind)?;
    expect("cipher", CIPHER, &segment.encryption)?;
    // With another first tweak, a part of the volume would decrypt as if it were the whole.
    expect("first tweak", "0", &segment.iv_tweak)?;
    expect("size", "dynamic", &segment.size)?;
    expect("segment flags", "none", segment.flags.first().map_or("none", |flag| flag))?;
    if ![512, 4096].contains(&segment.sector_size) {
        return Err(LuksError::not_accepted("sector size", "512 or 4096", &segment.sector_size.to_string()));
    }
    let offset = size("the data's offset", &segment.offset)?;
    match offset.is_multiple_of(4096) {
        true => Ok((offset, segment.sector_size)),
        false => Err(LuksError::not_accepted("data at", "a multiple of 4096", &segment.offset)),
    }
}

/// The length of the volume's key: that of the cipher, and with integrity also that of the MAC.
fn check_integrity(segment: &Segment) -> Result<usize, LuksError> {
    let Some(integrity) = &segment.integrity else { return Ok(KEY) };
    expect("integrity", INTEGRITY, &integrity.kind)?;
    expect("an encrypted journal", "none", &integrity.journal_encryption)?;
    expect("an authenticated journal", "none", &integrity.journal_integrity)?;
    Ok(KEY.saturating_add(MAC_KEY))
}

fn check_slot(slot: &Keyslot, key: usize, from: u64, to: u64) -> Result<Slot, LuksError> {
    let size_of_key = if key == KEY { "64" } else { "96" };
    expect("a key of", size_of_key, &slot.key_size.to_string())?;
    expect("anti-forensic type", "luks1", &slot.af.kind)?;
    expect("anti-forensic stripes", "4000", &slot.af.stripes.to_string())?;
    expect("a key slot's area of type", "raw", &slot.area.kind)?;
    expect("a key slot's cipher", CIPHER, &slot.area.encryption)?;
    expect("a key slot's key size", "64", &slot.area.key_size.to_string())?;
    expect("key derivation", "pbkdf2", &slot.kdf.kind)?;
    let (offset, length) =
        (size("an area's offset", &slot.area.offset)?, size("an area's size", &slot.area.size)?);
    let inside = offset >= from && offset.checked_add(length).is_some_and(|end| end <= to);
    if !inside || length < crate::area::length(key) as u64 {
        return Err(LuksError::Malformed("a key slot is not within the key slots' area".into()));
    }
    Ok(Slot {
        kdf: pbkdf2(&slot.kdf.hash, slot.kdf.iterations, &slot.kdf.salt)?,
        af_hash: Hash::named(&slot.af.hash)?,
        offset,
    })
}

fn pbkdf2(hash: &str, iterations: u32, salt: &str) -> Result<Pbkdf2, LuksError> {
    let hash = Hash::named(hash)?;
    if iterations == 0 || iterations > MOST_ITERATIONS {
        return Err(LuksError::not_accepted("iterations", "1 to 10000000", &iterations.to_string()));
    }
    Ok(Pbkdf2 { hash, iterations, salt: base64(salt)? })
}

fn base64(text: &str) -> Result<Vec<u8>, LuksError> {
    STANDARD.decode(text).map_err(|_| LuksError::Malformed("a value is not base64".into()))
}

/// 64-bit numbers are written as decimal strings (specification, 3.1).
fn size(what: &str, text: &str) -> Result<u64, LuksError> {
    text.parse().map_err(|_| LuksError::Malformed(format!("{what} is no number")))
}

fn expect(member: &'static str, expected: &'static str, found: &str) -> Result<(), LuksError> {
    if expected == found { Ok(()) } else { Err(LuksError::not_accepted(member, expected, found)) }
}
