//! Reading a volume's header, and unlocking its key.

use std::io::{Read, Seek, SeekFrom};

use coffer_core_secret::{Secret, SecretBytes};
use zeroize::Zeroizing;

use crate::generation::RECORDS;
use crate::metadata::{self, Accepted};
use crate::{Integrity, KEY, LEAST_PASSPHRASE, LuksError, MAC_KEY, area, binary};

/// A volume's header that was read and accepted. Nothing in it is authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    uuid: String,
    label: String,
    accepted: Accepted,
}

/// A volume's key.
pub struct Unlocked {
    /// The key of AES-256-XTS: the first half encrypts data, the second tweaks.
    pub key: Secret<[u8; KEY]>,
    /// The key of each sector's HMAC-SHA-256, if the volume has integrity.
    pub mac: Option<Secret<[u8; MAC_KEY]>>,
}

impl Unlocked {
    /// From the bytes of a volume's key: the cipher's, then the MAC's.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let (key, mac) = bytes.split_first_chunk::<KEY>()?;
        let mac = match mac {
            [] => None,
            mac => Some(Secret::new(<[u8; MAC_KEY]>::try_from(mac).ok()?)),
        };
        Some(Self { key: Secret::new(*key), mac })
    }
}

/// Reads and checks a header: the newer of the two that are valid.
///
/// # Errors
/// When there is none, or the volume is not of the kind that is accepted.
pub fn read(volume: &mut (impl Read + Seek)) -> Result<Volume, LuksError> {
    let header = binary::read(volume)?;
    let accepted = metadata::accept(&header)?;
    Ok(Volume { uuid: header.uuid, label: header.label, accepted })
}

impl Volume {
    /// The volume's UUID as text.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The volume's label; may be empty.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Where the encrypted data begins, in bytes; a multiple of 4096.
    #[must_use]
    pub const fn data_offset(&self) -> u64 {
        self.accepted.offset
    }

    /// The bytes that are encrypted as one piece: 512 or 4096.
    #[must_use]
    pub const fn sector_size(&self) -> u32 {
        self.accepted.sector
    }

    /// Whether each sector has a MAC, which dm-integrity keeps beside it.
    #[must_use]
    pub const fn integrity(&self) -> Integrity {
        if self.accepted.key > KEY { Integrity::HmacSha256 } else { Integrity::None }
    }

    /// How many key slots can be tried.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.accepted.slots.len()
    }

    /// Where the generation records are, in bytes: two blocks of 4096, right before the data.
    ///
    /// # Errors
    /// When the key slots' area leaves no room, as in volumes that `cryptsetup` made.
    pub fn records_offset(&self) -> Result<u64, LuksError> {
        let records = self.accepted.offset.saturating_sub(RECORDS as u64);
        if self.accepted.keyslots_end <= records { Ok(records) } else { Err(LuksError::NoRecords) }
    }

    /// Tries each key slot.
    ///
    /// # Errors
    /// When the key is short, no slot opens with it, or reading fails.
    pub fn unlock(
        &self,
        volume: &mut (impl Read + Seek),
        passphrase: &SecretBytes,
    ) -> Result<Unlocked, LuksError> {
        let passphrase = passphrase.expose();
        if passphrase.len() < LEAST_PASSPHRASE {
            return Err(LuksError::ShortKey { found: passphrase.len() });
        }
        for slot in &self.accepted.slots {
            let mut bytes = Zeroizing::new(vec![0; area::length(self.accepted.key)]);
            volume.seek(SeekFrom::Start(slot.offset))?;
            volume.read_exact(&mut bytes)?;
            let key = area::open(&slot.kdf, slot.af_hash, passphrase, self.accepted.key, bytes)?;
            let mut digest = vec![0; self.accepted.digest.len().min(64)];
            self.accepted.check.derive(&key, &mut digest)?;
            if Secret::new(digest).equals(&self.accepted.digest) {
                return Unlocked::of(&key).ok_or(LuksError::Library);
            }
        }
        Err(LuksError::WrongKey { slots: self.slots() })
    }
}
