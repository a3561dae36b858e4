//! Decrypted devices: sealed blocks and the segments of LUKS2 volumes (kernel documentation: device-mapper/dm-crypt).

use crate::control::Control;
use crate::key::LogonKey;
use crate::table::Target;
use crate::verity::path;
use crate::{Access, DmError, Mapped};
use std::path::PathBuf;

/// The key of AES-256-XTS: two AES keys.
const KEY: usize = 64;

/// A device of AES-256-XTS over sectors of 4096 bytes, the IV being the sector's number (`plain64`, counted in
/// these sectors).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CryptTable {
    /// The device with the ciphertext.
    pub device: PathBuf,
    /// Its length in sectors of 512 bytes; a multiple of 8.
    pub sectors: u64,
}

/// Maps a read-only device that decrypts another.
///
/// The key passes through the calling thread's kernel keyring, and is taken out before this returns. It is the
/// caller's to wipe.
///
/// # Errors
/// When the key has not 64 bytes, the length is no multiple of 4096 bytes, or the kernel refuses.
pub fn map_crypt(name: &str, table: &CryptTable, key: &[u8]) -> Result<Mapped, DmError> {
    map_large(name, table, key, Access::ReadOnly)
}

fn map_large(name: &str, table: &CryptTable, key: &[u8], access: Access) -> Result<Mapped, DmError> {
    let invalid = |why: String| DmError::Invalid { name: name.to_owned(), why };
    if key.len() != KEY {
        return Err(invalid(format!("AES-256-XTS takes a key of {KEY} bytes, this one has {}", key.len())));
    }
    if table.sectors == 0 || !table.sectors.is_multiple_of(8) {
        let sectors = table.sectors;
        return Err(invalid(format!("{sectors} sectors of 512 bytes are not whole sectors of 4096 bytes")));
    }
    let key = LogonKey::add(name, key)?;
    let parameters = parameters(table, key.description(), access)
        .ok_or_else(|| invalid("the name or the device's path has white space".to_owned()))?;
    let target = Target { kind: "crypt", sectors: table.sectors, parameters: &parameters };
    Control::open()?.map(name, access, &target)
}

/// A LUKS2 segment of AES-256-XTS (`aes-xts-plain64`): the IV counts from 0 in units of 512 bytes, whatever a
/// sector's size is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeTable {
    /// The device with the ciphertext.
    pub device: PathBuf,
    /// Where the segment begins, in sectors of 512 bytes.
    pub offset: u64,
    /// The segment's length in sectors of 512 bytes; whole sectors of the segment.
    pub sectors: u64,
    /// A sector's bytes: 512 or 4096.
    pub sector_size: u32,
    /// Whether the device may be written.
    pub access: Access,
}

/// Maps a device that decrypts a volume, and encrypts what is written.
///
/// The key takes the way that [`map_crypt`] tells.
///
/// # Errors
/// When key, length or sector size are not as described, or the kernel refuses.
pub fn map_volume(name: &str, table: &VolumeTable, key: &[u8]) -> Result<Mapped, DmError> {
    let invalid = |why: String| DmError::Invalid { name: name.to_owned(), why };
    if key.len() != KEY {
        return Err(invalid(format!("AES-256-XTS takes a key of {KEY} bytes, this one has {}", key.len())));
    }
    let (sectors, size) = (table.sectors, table.sector_size);
    if ![512, 4096].contains(&size) || sectors == 0 || !sectors.is_multiple_of(u64::from(size) / 512) {
        return Err(invalid(format!("{sectors} sectors of 512 bytes are not whole sectors of {size} bytes")));
    }
    let key = LogonKey::add(name, key)?;
    let parameters = volume_parameters(table, key.description())
        .ok_or_else(|| invalid("the name or the device's path has white space".to_owned()))?;
    let target = Target { kind: "crypt", sectors, parameters: &parameters };
    Control::open()?.map(name, table.access, &target)
}

/// Maps a disk whose content nobody knows or keeps: it is written, and what is freed on it is told to whoever holds it.
///
/// The cipher is that of [`map_crypt`], and the key takes the same way.
///
/// # Errors
/// As [`map_crypt`].
pub fn map_scratch(name: &str, table: &CryptTable, key: &[u8]) -> Result<Mapped, DmError> {
    map_large(name, table, key, Access::ReadWrite)
}

fn volume_parameters(table: &VolumeTable, key: &str) -> Option<String> {
    let device = path(&table.device)?;
    let key = path(std::path::Path::new(key))?;
    let offset = table.offset;
    let sectors = if table.sector_size == 4096 { " 1 sector_size:4096" } else { "" };
    Some(format!("aes-xts-plain64 :{KEY}:logon:{key} 0 {device} {offset}{sectors}"))
}

fn parameters(table: &CryptTable, key: &str, access: Access) -> Option<String> {
    let device = path(&table.device)?;
    let key = path(std::path::Path::new(key))?;
    let options = match access {
        Access::ReadOnly => "2 sector_size:4096 iv_large_sectors",
        Access::ReadWrite => "3 sector_size:4096 iv_large_sectors allow_discards",
    };
    Some(format!("aes-xts-plain64 :{KEY}:logon:{key} 0 {device} 0 {options}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_the_key_and_does_not_hold_it() {
        let table = CryptTable { device: "/dev/dm-0".into(), sectors: 80 };
        assert_eq!(
            parameters(&table, "coffer:image", Access::ReadOnly).expect("parameters"),
            "aes-xts-plain64 :64:logon:coffer:image 0 /dev/dm-0 0 2 sector_size:4096 iv_large_sectors"
        );
        let scratch = parameters(&table, "coffer:image", Access::ReadWrite).expect("parameters");
        assert!(scratch.ends_with(" 3 sector_size:4096 iv_large_sectors allow_discards"), "{scratch}");
    }

    #[test]
    fn volume_s_table_begins_at_its_segment_and_counts_in_small_sectors() {
        let (device, access) = ("/dev/vdb".into(), Access::ReadWrite);
        let table = VolumeTable { device, offset: 32768, sectors: 80, sector_size: 4096, access };
        let large = volume_parameters(&table, "coffer:v").expect("parameters");
        assert_eq!(large, "aes-xts-plain64 :64:logon:coffer:v 0 /dev/vdb 32768 1 sector_size:4096");
        let small = VolumeTable { sector_size: 512, ..table.clone() };
        let small = volume_parameters(&small, "coffer:v").expect("parameters");
        assert_eq!(small, "aes-xts-plain64 :64:logon:coffer:v 0 /dev/vdb 32768");
        for wrong in
            [VolumeTable { sectors: 81, ..table.clone() }, VolumeTable { sector_size: 1024, ..table }]
        {
            assert!(matches!(map_volume("x", &wrong, &[0; 64]), Err(DmError::Invalid { .. })));
        }
    }

    #[test]
    fn short_key_and_broken_length_are_refused() {
        let table = CryptTable { device: "/dev/dm-0".into(), sectors: 80 };
        let error = map_crypt("x", &table, &[0; 32]).expect_err("half a key");
        assert!(error.to_string().contains("64 bytes"), "{error}");
        let odd = CryptTable { sectors: 81, ..table };
        assert!(matches!(map_crypt("x", &odd, &[0; 64]), Err(DmError::Invalid { .. })));
    }
}
