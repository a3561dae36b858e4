//! Reading a volume's header, and unlocking its key.

use std::io::{Read, Seek, SeekFrom};

use coffer_core_secret::{Secret, SecretBytes};
use zeroize::Zeroizing;

use crate::generation::RECORDS;
use crate::metadata::{self, Accepted};
use crate::{KEY, LEAST_PASSPHRASE, LuksError, area, binary};

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
            let mut bytes = Zeroizing::new(vec![0; slot.stripes.saturating_mul(KEY)]);
            volume.seek(SeekFrom::Start(slot.offset))?;
            volume.read_exact(&mut bytes)?;
            let key = area::open(&slot.kdf, slot.af_hash, passphrase, bytes)?;
            let mut digest = vec![0; self.accepted.digest.len().min(64)];
            self.accepted.check.derive(key.expose(), &mut digest)?;
            if Secret::new(digest).equals(&self.accepted.digest) {
                return Ok(Unlocked { key });
            }
        }
        Err(LuksError::WrongKey { slots: self.slots() })
    }
}
