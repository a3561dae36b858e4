//! `[[volumes]]`: the disks that the host attaches, and where the workload finds them.

mod check;
mod written;

use serde::Deserialize;

use crate::Digest;
use crate::toml_text::basic;

pub(super) use check::{check, check_path, within};

/// A disk that the guest opens and mounts. What is not named here is not looked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "written::Written")]
pub struct Volume {
    /// Its name, by which the host attaches it: up to 16 letters, digits and `-`.
    pub name: String,
    /// Where it is mounted in the container: an absolute path without `.`, `..` and empty parts.
    pub path: String,
    /// What it is.
    pub kind: VolumeKind,
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeKind {
    /// It outlasts the guest.
    Persistent(Persistent),
    /// Its key is drawn in the guest and goes with it.
    Ephemeral(Ephemeral),
    /// A data set that was sealed once and is only read.
    Sealed(SealedData),
}

/// A disk that outlasts the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persistent {
    /// The key's address, `kbs:///repository/type/tag`.
    pub key: String,
    /// Whether an old copy is refused.
    pub rollback: Rollback,
    /// Whether the workload may change it.
    pub access: VolumeAccess,
}

/// An empty disk under a key that nobody keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ephemeral {
    /// User and group of its root directory.
    pub owner: (u32, u32),
}

/// A sealed block (docs/formats/sealed-blocks.md) by its root, so that it cannot be another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedData {
    /// The key's address, `kbs:///repository/type/tag`.
    pub key: String,
    /// The root of its hash tree, SHA-256.
    pub root_hash: Digest,
    /// What each hash of the tree begins with.
    pub salt: [u8; 32],
    /// Its blocks of data.
    pub data_blocks: u64,
}

/// Whether an old copy of a volume is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rollback {
    /// The broker counts how often the volume was opened; a copy that counts otherwise is refused.
    Detected,
    /// Nobody counts, and any copy that was ever made opens.
    InsecureNotDetected,
}

/// Whether the workload may change a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeAccess {
    /// It may.
    #[default]
    ReadWrite,
    /// It may not, and the guest does not either.
    ReadOnly,
}

impl Volume {
    /// The longest name: with its prefix it is a virtio disk's serial number, which has 20 bytes.
    const LONGEST_NAME: usize = 16;

    /// Whether a text can be a volume's name.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        (1..=Self::LONGEST_NAME).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    }

    /// The address of its key, if it has one at the broker.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match &self.kind {
            VolumeKind::Persistent(volume) => Some(&volume.key),
            VolumeKind::Sealed(volume) => Some(&volume.key),
            VolumeKind::Ephemeral(_) => None,
        }
    }

    /// Whether the guest writes it, and so the host must let it.
    #[must_use]
    pub fn is_written(&self) -> bool {
        match &self.kind {
            VolumeKind::Persistent(volume) => volume.access == VolumeAccess::ReadWrite,
            VolumeKind::Ephemeral(_) => true,
            VolumeKind::Sealed(_) => false,
        }
    }

    /// The lines of init-data, under a sentence that says what it is.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let (name, path) = (basic(&self.name), basic(&self.path));
        let begin = |what: &str| format!("\n# {what}\n[[volumes]]\nname = {name}\npath = {path}\n");
        match &self.kind {
            VolumeKind::Persistent(volume) => {
                let what = begin(
                    "A disk that outlasts the guest: who has its key, and where the workload finds it.",
                );
                let rollback = match volume.rollback {
                    Rollback::Detected => {
                        "# An old copy of the whole disk is refused: the broker counts how often it was opened.\n\
                         rollback = \"detected\"\n"
                    }
                    Rollback::InsecureNotDetected => {
                        "# Whoever has the disk can put an old copy in its place.\n\
                         rollback = \"insecure-not-detected\"\n"
                    }
                };
                let access = match volume.access {
                    VolumeAccess::ReadWrite => "read-write",
                    VolumeAccess::ReadOnly => "read-only",
                };
                format!(
                    "{what}kind = \"persistent\"\nkey = {}\n{rollback}access = \"{access}\"\n",
                    basic(&volume.key)
                )
            }
            VolumeKind::Ephemeral(volume) => {
                let what = begin("An empty disk under a key that is drawn in the guest and goes with it.");
                let (user, group) = volume.owner;
                format!("{what}kind = \"ephemeral\"\nowner = \"{user}:{group}\"\n")
            }
            VolumeKind::Sealed(volume) => {
                let what = begin("A sealed data set: this one and no other, read only.");
                format!(
                    "{what}kind = \"sealed\"\nkey = {}\nroot-hash = \"{}\"\nsalt = \"{}\"\ndata-blocks = {}\n",
                    basic(&volume.key),
                    volume.root_hash.hex(),
                    hex::encode(volume.salt),
                    volume.data_blocks
                )
            }
        }
    }
}
