//! Why a volume is not opened or not closed, and what the host is told.

use std::io;

use coffer_core_channel::Refusal;
use coffer_core_luks::LuksError;
use coffer_guest_attest::AttestError;
use coffer_sys_dm::DmError;
use coffer_sys_mount::MountError;

/// Why a volume is not opened or not closed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// There are no keys.
    #[error("init-data names volumes, and nobody is attested to who could release their keys")]
    NoKeys,
    /// The host attached no such disk.
    #[error("the host attached no disk for volume {name:?}: {why}")]
    Missing {
        /// The volume.
        name: String,
        /// The disk's serial number.
        serial: String,
        /// What was found.
        why: MountError,
    },
    /// The key's address is none.
    #[error("the key of volume {name:?} has no usable address: {why}")]
    Key {
        /// The volume.
        name: String,
        /// Why.
        why: String,
    },
    /// The broker did not release the key, or did not count.
    #[error("volume {name:?}: {why}")]
    Broker {
        /// The volume.
        name: String,
        /// Why.
        why: Box<AttestError>,
    },
    /// Disk or file.
    #[error("{step} volume {name:?}: {source}")]
    Disk {
        /// The volume.
        name: String,
        /// What was done.
        step: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The header, or the key for it.
    #[error("volume {name:?}: {why}")]
    Luks {
        /// The volume.
        name: String,
        /// Why.
        why: LuksError,
    },
    /// No record is authentic.
    #[error("volume {name:?} has no authentic generation record")]
    NoRecord {
        /// The volume.
        name: String,
    },
    /// An old copy.
    #[error(
        "volume {name:?} is an old copy: the broker counts to {expected}, the disk to {found}, of another history"
    )]
    RolledBack {
        /// The volume.
        name: String,
        /// The broker's counter.
        expected: u64,
        /// The disk's generation.
        found: u64,
    },
    /// The broker is older than the disk.
    #[error("volume {name:?} was opened {found} times and the broker knows of {expected}")]
    CounterBehind {
        /// The volume.
        name: String,
        /// The broker's counter.
        expected: u64,
        /// The disk's generation.
        found: u64,
    },
    /// The broker moved the counter elsewhere.
    #[error("the broker moved the counter of volume {name:?} to another value than was asked for")]
    CounterReply {
        /// The volume.
        name: String,
    },
    /// There is no next generation.
    #[error("no new generation can be made for volume {name:?}")]
    NoNext {
        /// The volume.
        name: String,
    },
    /// The kernel does not map it.
    #[error("volume {name:?}: {why}")]
    Map {
        /// The volume.
        name: String,
        /// Why.
        why: DmError,
    },
    /// The kernel does not mount it.
    #[error("volume {name:?}: {why}")]
    Mount {
        /// The volume.
        name: String,
        /// Why.
        why: MountError,
    },
    /// The host shortened it.
    #[error("volume {name:?} was shortened: it has {found} bytes, and what is in it takes {expected}")]
    Shrunk {
        /// The volume.
        name: String,
        /// The bytes that it had.
        expected: u64,
        /// The bytes that it has.
        found: u64,
    },
    /// No file system fits.
    #[error("volume {name:?} has {found} bytes, which is too small for a file system")]
    TooSmall {
        /// The volume.
        name: String,
        /// Its bytes.
        found: u64,
    },
    /// It would be written over.
    #[error(
        "volume {name:?} is ephemeral in init-data, and the disk holds a LUKS volume, which would be lost"
    )]
    NotEmpty {
        /// The volume.
        name: String,
    },
    /// There is no scratch disk.
    #[error("init-data puts the writable layer on a scratch disk, and the host attached none: {why}")]
    NoScratch {
        /// What was found.
        why: MountError,
    },
    /// Other bytes than were sealed.
    #[error("volume {name:?} holds other bytes than were sealed, or init-data pins another root")]
    Corrupt {
        /// The volume.
        name: String,
    },
    /// The key is not the data set's.
    #[error("the key of volume {name:?} does not open it: {why}")]
    SealedKey {
        /// The volume.
        name: String,
        /// Why.
        why: String,
    },
    /// There are no MACs.
    #[error("volume {name:?} has no superblock of dm-integrity, or one that is not its own")]
    NotFormatted {
        /// The volume.
        name: String,
    },
    /// The image has something else at the path.
    #[error("volume {name:?} cannot be mounted at {path}: a part of the path is no folder in the image")]
    Place {
        /// The volume.
        name: String,
        /// Where.
        path: String,
    },
}

impl VolumeError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoKeys => "volume.no-broker",
            Self::Missing { .. } => "volume.missing",
            Self::Key { .. } => "volume.key",
            Self::Broker { .. } => "volume.broker",
            Self::Disk { .. } => "volume.io",
            Self::Luks { why, .. } => why.code(),
            Self::NoRecord { .. } => "volume.no-record",
            Self::RolledBack { .. } => "volume.rolled-back",
            Self::CounterBehind { .. } => "volume.counter-behind",
            Self::CounterReply { .. } => "volume.counter",
            Self::NoNext { .. } => "volume.crypto",
            Self::Map { .. } => "volume.map",
            Self::Mount { .. } => "volume.mount",
            Self::Place { .. } => "volume.path",
            Self::Shrunk { .. } => "volume.shrunk",
            Self::TooSmall { .. } => "volume.too-small",
            Self::NotEmpty { .. } => "volume.not-empty",
            Self::NoScratch { .. } => "scratch.missing",
            Self::Corrupt { .. } => "volume.corrupt",
            Self::NotFormatted { .. } => "volume.not-formatted",
            Self::SealedKey { .. } => "volume.wrong-key",
        }
    }

    /// What the host is told.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let (mut expected, mut found) = (None, None);
        let remedy = match self {
            Self::Broker { why, .. } => {
                return Refusal { message: self.to_string(), ..why.refusal() };
            }
            Self::NoKeys => "Name a broker in init-data, and measure again.",
            Self::Missing { name, serial, .. } => {
                expected = Some(format!("a disk with the serial number {serial}"));
                return self.told(
                    &format!(
                        "Start it with `coffer run --volume {name}=FILE` (an ephemeral one: `--scratch {name}=SIZE`), or \
                         take the volume out of init-data."
                    ),
                    expected,
                    None,
                );
            }
            Self::Key { .. } => "Write the key's address as kbs:///repository/type/tag in init-data.",
            Self::Disk { .. } => "Look at the disk that backs the volume on the host.",
            Self::Luks { why: LuksError::WrongKey { .. }, .. } => {
                "Name the key that the volume was made with, or attach the volume that was made with this key."
            }
            Self::Luks { .. } => {
                "Attach a volume made by `coffer volume create`; `coffer volume inspect FILE` says what a file is."
            }
            Self::NoRecord { .. } => {
                "Attach the volume as it was made; if its records are lost, make a new volume and restore the files."
            }
            Self::RolledBack { expected: counter, found: generation, .. } => {
                expected = Some(format!("generation {counter}"));
                found = Some(format!("generation {generation}"));
                "Attach the volume's newest file. If this copy was restored from a backup on purpose, say so with \
                 `coffer volume accept FILE --key URI`."
            }
            Self::CounterBehind { expected: counter, found: generation, .. } => {
                expected = Some(format!("generation {counter}"));
                found = Some(format!("generation {generation}"));
                "The broker was restored from an older backup. If this file is the newest, say so with \
                 `coffer volume accept FILE --key URI`."
            }
            Self::CounterReply { .. } => "Use a broker of the same version as the guest.",
            Self::NoNext { .. } => "Start the machine again.",
            Self::Map { .. } => "Build the guest again: its kernel needs dm-crypt and dm-verity.",
            Self::Mount { .. } => {
                "Check the volume's file system. A volume that is opened read-only must have been closed, or be \
                 opened once for writing."
            }
            Self::Shrunk { expected: had, found: has, .. } => {
                expected = Some(format!("{had} bytes or more"));
                found = Some(format!("{has} bytes"));
                "Attach the whole file. What was cut off is lost; a copy of before still has it."
            }
            Self::TooSmall { .. } => "Attach a larger disk.",
            Self::NotEmpty { .. } => "Attach another file, or write kind = \"persistent\" in init-data.",
            Self::NoScratch { .. } => {
                "Start it with `coffer run --scratch SIZE`, or write overlay = \"memory\" in init-data."
            }
            Self::Corrupt { .. } => {
                "Attach the file as `coffer volume seal` wrote it, and pin the root that it printed."
            }
            Self::NotFormatted { .. } => {
                "Attach the file as it was left. A new volume is opened first for writing, with rollback = \"detected\"."
            }
            Self::SealedKey { .. } => "Name the key that the data set was sealed with.",
            Self::Place { .. } => "Name another path in init-data, or take the link out of the image.",
        };
        self.told(remedy, expected, found)
    }

    fn told(&self, remedy: &str, expected: Option<String>, found: Option<String>) -> Refusal {
        Refusal {
            code: self.code().into(),
            message: self.to_string(),
            expected,
            found,
            remedy: Some(remedy.into()),
            attempt: None,
        }
    }
}
