//! `[[volumes]]`: the disks that outlast a guest, and where the workload finds them.

use serde::Deserialize;

use super::ConfigError;
use crate::toml_text::basic;

/// A volume that the guest unlocks and mounts. What is not named here is not looked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its name, by which the host attaches it: up to 16 letters, digits and `-`.
    pub name: String,
    /// The key's address, `kbs:///repository/type/tag`.
    pub key: String,
    /// Where it is mounted in the container: an absolute path without `.`, `..` and empty parts.
    pub path: String,
    /// Whether an old copy is refused.
    pub rollback: Rollback,
    /// Whether the workload may change it.
    #[serde(default)]
    pub access: VolumeAccess,
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

    fn check(&self) -> Result<(), ConfigError> {
        let value = |member, expected, found: &str| {
            let short = |text: &str| text.chars().take(64).collect();
            Err(ConfigError::Volume { name: short(&self.name), member, expected, found: short(found) })
        };
        if !Self::is_name(&self.name) {
            return value("name", "up to 16 letters, digits and -", &self.name);
        }
        if !(self.key.starts_with("kbs:///") && self.key.split('/').count() == 6) {
            return value("key", "kbs:///repository/type/tag", &self.key);
        }
        let parts = self.path.strip_prefix('/').map(|path| path.split('/').collect::<Vec<_>>());
        let usable = |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains(char::is_control);
        match parts {
            Some(parts) if parts.iter().all(usable) => match parts.first() {
                // The container's own file systems are mounted there, over the volume.
                Some(&("proc" | "sys" | "dev")) => {
                    value("path", "a folder that is not in /proc, /sys or /dev", &self.path)
                }
                _ => Ok(()),
            },
            _ => value("path", "an absolute path without ., .. and empty parts", &self.path),
        }
    }

    pub(super) fn write(&self, text: &mut String) {
        let (rollback, access) = (
            match self.rollback {
                Rollback::Detected => {
                    "# An old copy of the whole disk is refused: the broker counts how often it was opened.\n\
                     rollback = \"detected\"\n"
                }
                Rollback::InsecureNotDetected => {
                    "# Whoever has the disk can put an old copy in its place.\n\
                     rollback = \"insecure-not-detected\"\n"
                }
            },
            match self.access {
                VolumeAccess::ReadWrite => "read-write",
                VolumeAccess::ReadOnly => "read-only",
            },
        );
        text.push_str(&format!(
            "\n# A disk that outlasts the guest: who has its key, and where the workload finds it.\n\
             [[volumes]]\nname = {}\nkey = {}\npath = {}\n{rollback}access = \"{access}\"\n",
            basic(&self.name),
            basic(&self.key),
            basic(&self.path)
        ));
    }
}

/// Checks each volume, and that none is in another's way.
pub(super) fn check(volumes: &[Volume]) -> Result<(), ConfigError> {
    for (number, volume) in volumes.iter().enumerate() {
        volume.check()?;
        for other in volumes.iter().take(number) {
            let below = |one: &str, other: &str| format!("{one}/").starts_with(&format!("{other}/"));
            let clash = |member, expected, found: &str| {
                Err(ConfigError::Volume {
                    name: volume.name.clone(),
                    member,
                    expected,
                    found: found.chars().take(64).collect(),
                })
            };
            if other.name == volume.name {
                return clash("name", "one that no other volume has", &volume.name);
            }
            if other.key == volume.key {
                // Volumes of one key could be put in each other's place.
                return clash("key", "one that no other volume has", &volume.key);
            }
            if below(&volume.path, &other.path) || below(&other.path, &volume.path) {
                return clash("path", "one that is not within another volume's", &volume.path);
            }
        }
    }
    Ok(())
}
