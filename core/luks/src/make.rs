//! Making a volume's header.

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_core_secret::SecretBytes;
use zeroize::Zeroizing;

use crate::area::{self, Hash, Pbkdf2};
use crate::binary::{self, Header, Place};
use crate::generation::RECORDS;
use crate::metadata::{
    Af, Area, CIPHER, Config, Digest, INTEGRITY, Integrity as SegmentIntegrity, Kdf, Keyslot, Metadata,
    Segment,
};
use crate::{Integrity, KEY, LEAST_PASSPHRASE, LuksError, MAC_KEY, Unlocked};

/// Where the data of a volume that is made here begins: 16 MiB, as `cryptsetup` has it.
pub const DATA_OFFSET: u64 = 16 << 20;
/// The least of the format's header sizes: 4 KiB and 12 KiB of JSON.
const HEADER: u64 = 0x4000;
/// The least that `cryptsetup` accepts. The passphrase is a random key, which nobody guesses.
const ITERATIONS: u32 = 1000;

/// What a volume is made with.
pub struct Making<'a> {
    /// 8-4-4-4-12 hexadecimal digits.
    pub uuid: &'a str,
    /// At most 47 bytes of ASCII.
    pub label: &'a str,
    /// The volume's key as the broker keeps it: at least 32 random bytes.
    pub passphrase: &'a SecretBytes,
    /// Whether each sector gets a MAC.
    pub integrity: Integrity,
}

/// Writes headers and key slot; the data at [`DATA_OFFSET`] is the caller's. `random` fills what it is given with
/// randomness, and is the only source of any: with the same bytes the same header is made. Gives the volume's key, for
/// [`coffer_core_seal::xts::Xts`] with large sectors from the tweak 0 on.
///
/// # Errors
/// When the passphrase is short, a text does not fit, there is no randomness, or writing fails.
pub fn make(
    making: &Making<'_>,
    random: &mut dyn FnMut(&mut [u8]) -> Result<(), LuksError>,
    volume: &mut (impl Write + Seek),
) -> Result<Unlocked, LuksError> {
    let passphrase = making.passphrase.expose();
    if passphrase.len() < LEAST_PASSPHRASE {
        return Err(LuksError::ShortKey { found: passphrase.len() });
    }
    let length = match making.integrity {
        Integrity::None => KEY,
        Integrity::HmacSha256 => KEY.saturating_add(MAC_KEY),
    };
    let mut key = Zeroizing::new(vec![0; length]);
    random(key.as_mut_slice())?;
    let mut salts = [[0; 32]; 2];
    salts.iter_mut().try_for_each(|salt| random(salt))?;
    let [slot, check] =
        salts.map(|salt| Pbkdf2 { hash: Hash::Sha256, iterations: ITERATIONS, salt: salt.into() });
    let mut digest = [0; 32];
    check.derive(&key, &mut digest)?;
    let mut stripes = Zeroizing::new(vec![0; area::length(length)]);
    random(&mut stripes)?;
    let sealed = area::close(&slot, Hash::Sha256, passphrase, &key, stripes)?;
    let json = serde_json::to_vec(&metadata(making.integrity, length, &slot, &check, &digest))
        .map_err(|why| LuksError::Malformed(why.to_string()))?;
    for (place, at) in [(Place::Primary, 0), (Place::Secondary, HEADER)] {
        let mut salt = [0; 64];
        random(&mut salt)?;
        let (label, uuid) = (making.label.to_owned(), making.uuid.to_owned());
        let header = Header { size: HEADER, sequence: 1, label, uuid, salt, json: json.clone() };
        let bytes = binary::encode(&header, place)
            .ok_or_else(|| LuksError::Malformed("label or UUID does not fit".into()))?;
        volume.seek(SeekFrom::Start(at))?;
        volume.write_all(&bytes)?;
    }
    volume.write_all(&sealed)?;
    Unlocked::of(&key).ok_or(LuksError::Library)
}

fn metadata(integrity: Integrity, key: usize, slot: &Pbkdf2, check: &Pbkdf2, digest: &[u8]) -> Metadata {
    let one = || "0".to_owned();
    let areas = HEADER.saturating_mul(2);
    let keyslot = Keyslot {
        kind: "luks2".into(),
        key_size: key as u32,
        af: Af { kind: "luks1".into(), stripes: area::STRIPES as u32, hash: "sha256".into() },
        area: Area {
            kind: "raw".into(),
            offset: areas.to_string(),
            size: (area::length(key) as u64).next_multiple_of(4096).to_string(),
            encryption: CIPHER.into(),
            key_size: KEY as u32,
        },
        kdf: Kdf {
            kind: "pbkdf2".into(),
            salt: STANDARD.encode(&slot.salt),
            hash: "sha256".into(),
            iterations: ITERATIONS,
        },
    };
    let segment = Segment {
        kind: "crypt".into(),
        offset: DATA_OFFSET.to_string(),
        size: "dynamic".into(),
        iv_tweak: "0".into(),
        encryption: CIPHER.into(),
        sector_size: 4096,
        integrity: match integrity {
            Integrity::None => None,
            Integrity::HmacSha256 => Some(SegmentIntegrity {
                kind: INTEGRITY.into(),
                journal_encryption: "none".into(),
                journal_integrity: "none".into(),
            }),
        },
        flags: Vec::new(),
    };
    let digest = Digest {
        kind: "pbkdf2".into(),
        keyslots: vec![one()],
        segments: vec![one()],
        hash: "sha256".into(),
        iterations: ITERATIONS,
        salt: STANDARD.encode(&check.salt),
        digest: STANDARD.encode(digest),
    };
    let keyslots = DATA_OFFSET.saturating_sub(areas).saturating_sub(RECORDS as u64);
    Metadata {
        keyslots: BTreeMap::from([(one(), keyslot)]),
        tokens: BTreeMap::new(),
        segments: BTreeMap::from([(one(), segment)]),
        digests: BTreeMap::from([(one(), digest)]),
        config: Config {
            json_size: HEADER.saturating_sub(binary::LENGTH as u64).to_string(),
            keyslots_size: keyslots.to_string(),
            requirements: None,
        },
    }
}
