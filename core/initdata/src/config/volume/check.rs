//! What volumes must hold, alone and beside each other.

use super::{Volume, VolumeKind};
use crate::config::ConfigError;

/// The most blocks of a sealed data set (docs/formats/sealed-blocks.md, section 1).
const MOST_BLOCKS: u64 = 1 << 32;

/// Checks each volume, and that none is in another's way.
pub(in crate::config) fn check(volumes: &[Volume]) -> Result<(), ConfigError> {
    for (number, volume) in volumes.iter().enumerate() {
        volume.check()?;
        for other in volumes.iter().take(number) {
            if other.name == volume.name {
                return volume.refused("name", "one that no other volume has", &volume.name);
            }
            // Volumes of one key could be put in each other's place.
            if let Some(key) = volume.key().filter(|key| other.key() == Some(*key)) {
                return volume.refused("key", "one that no other volume has", key);
            }
            if within(&volume.path, &other.path) {
                return volume.refused("path", "one that is not within another volume's", &volume.path);
            }
        }
    }
    Ok(())
}

/// Whether one path is the other, or lies below it.
pub(in crate::config) fn within(one: &str, other: &str) -> bool {
    let below = |one: &str, other: &str| format!("{one}/").starts_with(&format!("{other}/"));
    below(one, other) || below(other, one)
}

impl Volume {
    fn check(&self) -> Result<(), ConfigError> {
        if !Self::is_name(&self.name) {
            return self.refused("name", "up to 16 letters, digits and -", &self.name);
        }
        if let Some(key) =
            self.key().filter(|key| !(key.starts_with("kbs:///") && key.split('/').count() == 6))
        {
            return self.refused("key", "kbs:///repository/type/tag", key);
        }
        if let VolumeKind::Sealed(data) = &self.kind {
            if !(1..=MOST_BLOCKS).contains(&data.data_blocks) {
                return self.refused("data-blocks", "1 to 4294967296", &data.data_blocks.to_string());
            }
            if data.root_hash.algorithm() != crate::Algorithm::Sha256 {
                return self.refused("root-hash", "a SHA-256", &data.root_hash.to_string());
            }
        }
        match check_path(&self.path) {
            Ok(()) => Ok(()),
            Err(expected) => self.refused("path", expected, &self.path),
        }
    }

    fn refused(&self, member: &'static str, expected: &'static str, found: &str) -> Result<(), ConfigError> {
        let short = |text: &str| text.chars().take(64).collect();
        Err(ConfigError::Volume { name: short(&self.name), member, expected, found: short(found) })
    }
}

/// Whether something of the guest's can be mounted there in the container, or what is expected instead.
pub(in crate::config) fn check_path(path: &str) -> Result<(), &'static str> {
    let parts = path.strip_prefix('/').map(|path| path.split('/').collect::<Vec<_>>());
    let usable = |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains(char::is_control);
    match parts {
        Some(parts) if parts.iter().all(usable) => match parts.first() {
            // The container's own file systems are mounted there, over it.
            Some(&("proc" | "sys" | "dev")) => Err("a place that is not in /proc, /sys or /dev"),
            _ => Ok(()),
        },
        _ => Err("an absolute path without ., .. and empty parts"),
    }
}
