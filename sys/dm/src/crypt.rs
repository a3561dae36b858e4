//! Decrypted devices (kernel documentation: device-mapper/dm-crypt).

use crate::control::Control;
use crate::key::LogonKey;
use crate::table::Target;
use crate::verity::path;
use crate::{DmError, Mapped};
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
    let invalid = |why: String| DmError::Invalid { name: name.to_owned(), why };
    if key.len() != KEY {
        return Err(invalid(format!("AES-256-XTS takes a key of {KEY} bytes, this one has {}", key.len())));
    }
    if table.sectors == 0 || !table.sectors.is_multiple_of(8) {
        let sectors = table.sectors;
        return Err(invalid(format!("{sectors} sectors of 512 bytes are not whole sectors of 4096 bytes")));
    }
    let key = LogonKey::add(name, key)?;
    let parameters = parameters(table, key.description())
        .ok_or_else(|| invalid("the name or the device's path has white space".to_owned()))?;
    let target = Target { kind: "crypt", sectors: table.sectors, parameters: &parameters };
    Control::open()?.map(name, &target)
}

fn parameters(table: &CryptTable, key: &str) -> Option<String> {
    let device = path(&table.device)?;
    let key = path(std::path::Path::new(key))?;
    Some(format!("aes-xts-plain64 :{KEY}:logon:{key} 0 {device} 0 2 sector_size:4096 iv_large_sectors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_the_key_and_does_not_hold_it() {
        let table = CryptTable { device: "/dev/dm-0".into(), sectors: 80 };
        assert_eq!(
            parameters(&table, "coffer:image").expect("parameters"),
            "aes-xts-plain64 :64:logon:coffer:image 0 /dev/dm-0 0 2 sector_size:4096 iv_large_sectors"
        );
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
