//! LUKS2 volumes: their headers and key slots, read and written.
//!
//! SPEC: LUKS2 On-Disk Format Specification 1.1 (cryptsetup). One data segment of `aes-xts-plain64` with keys of 512
//! bits; key slots of PBKDF2 with SHA-256. Left out: Argon2 slots, detached headers, reencryption, integrity, and
//! changing slots of a volume that is there.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod af;
mod binary;
mod metadata;
mod slot;

use std::io::{self, Read, Seek, SeekFrom, Write};

use coffer_core_seal::xts::XtsError;
use coffer_core_secret::{NoRandomness, Secret, SecretBytes};

use binary::Binary;
use metadata::Metadata;

pub use binary::Copy;

/// The length of a volume's key: two AES-256 keys.
pub const KEY: usize = 64;
/// The key that data is encrypted with.
pub type VolumeKey = Secret<[u8; KEY]>;
/// Rounds of PBKDF2 in slots that are written here. What opens them has 256 bits of chance, which no number of rounds
/// makes stronger; cryptsetup takes no fewer.
pub const ITERATIONS: u32 = 1000;
/// Where data begins, in bytes: cryptsetup's own choice.
pub const DATA_OFFSET: u64 = 16 << 20;

/// Why a volume cannot be opened or made.
#[derive(Debug, thiserror::Error)]
pub enum LuksError {
    /// There is no header.
    #[error("not a LUKS2 volume: neither of its headers begins with LUKS's mark")]
    Magic,
    /// The volume is of the first version.
    #[error("the volume is LUKS version {0}; expected 2 (`cryptsetup convert --type luks2` makes one of it)")]
    Version(u16),
    /// Both copies of the header are broken.
    #[error("both copies of the volume's header are broken: {primary}; {secondary}")]
    Broken {
        /// What is wrong with the first.
        primary: String,
        /// What is wrong with the second.
        secondary: String,
    },
    /// The header says what no volume of ours has.
    #[error("the volume's header is malformed: {0}")]
    Malformed(String),
    /// Something that is not read here.
    #[error("the volume has {found}; expected {expected}")]
    Unsupported {
        /// What is read.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// The key opens no slot.
    #[error(
        "the key opens none of the volume's {0} key slots; it is another volume's, or a slot was changed"
    )]
    WrongKey(usize),
    /// A label, UUID or address is too long for its place.
    #[error("{what} has {found} bytes; at most {most} fit")]
    TooLong {
        /// What.
        what: &'static str,
        /// Its place.
        most: usize,
        /// Its length.
        found: usize,
    },
    /// There is no randomness for keys.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// A key cannot be used.
    #[error(transparent)]
    Xts(#[from] XtsError),
    /// Reading or writing failed.
    #[error("the volume could not be read or written: {0}")]
    Io(#[from] io::Error),
}

/// What a new volume is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Its label; at most 47 bytes.
    pub label: String,
    /// The address of its key at the broker, as in `kbs:///default/volume-key/data`. It is public.
    pub key_address: Option<String>,
}

/// A volume's header.
#[derive(Clone, Debug)]
pub struct Volume {
    binary: Binary,
    metadata: Metadata,
    recovered: Option<Copy>,
}

impl Volume {
    /// Writes the headers and the one key slot of a new volume, and gives it with its key. What stood in the data is
    /// not touched; with the new key it is noise.
    ///
    /// # Errors
    /// When a name does not fit or writing fails.
    pub fn create<W: Write + Seek>(
        out: &mut W,
        options: &Options,
        passphrase: &SecretBytes,
    ) -> Result<(Self, VolumeKey), LuksError> {
        let key = VolumeKey::random()?;
        let slot = slot::Slot::new(&key)?;
        let metadata = Metadata::new(&slot, options.key_address.as_deref());
        let binary = Binary::new(options)?;
        out.seek(SeekFrom::Start(slot::AREA_OFFSET))?;
        out.write_all(&slot.seal(&key, passphrase)?)?;
        let json = metadata.to_json()?;
        for copy in [Copy::Secondary, Copy::Primary] {
            out.seek(SeekFrom::Start(binary.offset(copy)))?;
            out.write_all(&binary.encode(copy, &json)?)?;
        }
        out.flush()?;
        Ok((Self { binary, metadata, recovered: None }, key))
    }

    /// Reads a volume's header.
    ///
    /// # Errors
    /// When it is none, or says what is not read here.
    pub fn open<R: Read + Seek>(volume: &mut R) -> Result<Self, LuksError> {
        let (primary, secondary) =
            (Binary::read(volume, Copy::Primary), Binary::read(volume, Copy::Secondary));
        let ended = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
        let (binary, json, recovered) = match (primary, secondary) {
            (Err(LuksError::Io(error)), _) | (_, Err(LuksError::Io(error))) if !ended(&error) => {
                return Err(error.into());
            }
            (Ok((first, json)), Ok((second, _))) if first.sequence() == second.sequence() => {
                (first, json, None)
            }
            (Ok((first, _)), Ok((second, json))) if first.sequence() < second.sequence() => {
                (second, json, Some(Copy::Primary))
            }
            (Ok((first, json)), _) => (first, json, Some(Copy::Secondary)),
            (Err(_), Ok((second, json))) => (second, json, Some(Copy::Primary)),
            (Err(error @ LuksError::Version(_)), Err(_)) => return Err(error),
            (Err(LuksError::Magic | LuksError::Io(_)), Err(LuksError::Magic | LuksError::Io(_))) => {
                return Err(LuksError::Magic);
            }
            (Err(primary), Err(secondary)) => {
                return Err(LuksError::Broken {
                    primary: primary.to_string(),
                    secondary: secondary.to_string(),
                });
            }
        };
        let metadata = Metadata::parse(&json)?;
        Ok(Self { binary, metadata, recovered })
    }

    /// The volume's key, by what opens one of its slots.
    ///
    /// # Errors
    /// When it opens none, or all slots are of kinds that are not read here.
    pub fn unlock<R: Read + Seek>(
        &self,
        volume: &mut R,
        passphrase: &SecretBytes,
    ) -> Result<VolumeKey, LuksError> {
        let slots = self.metadata.slots()?;
        for slot in &slots {
            let mut area = vec![0; slot.area_length()];
            volume.seek(SeekFrom::Start(slot.area_offset()))?;
            volume.read_exact(&mut area)?;
            if let Some(key) = slot.open(area, passphrase)? {
                return Ok(key);
            }
        }
        Err(LuksError::WrongKey(slots.len()))
    }

    /// Where data begins, in bytes.
    pub fn data_offset(&self) -> u64 {
        self.metadata.data_offset()
    }

    /// Bytes in a sector of the data: 512 or 4096.
    pub fn sector_size(&self) -> u32 {
        self.metadata.sector_size()
    }

    /// The address of its key, if it was written into the volume.
    pub fn key_address(&self) -> Option<&str> {
        self.metadata.key_address()
    }

    /// Its UUID, as text.
    pub fn uuid(&self) -> &str {
        self.binary.uuid()
    }

    /// Its label; may be empty.
    pub fn label(&self) -> &str {
        self.binary.label()
    }

    /// The copy of the header that was broken or old, if one was.
    pub fn recovered(&self) -> Option<Copy> {
        self.recovered
    }
}

#[cfg(test)]
mod tests;
