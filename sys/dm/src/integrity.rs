//! Devices with a MAC for each sector: dm-integrity keeps the MACs and its journal beside the data, dm-crypt makes and
//! checks them (kernel documentation: device-mapper/dm-integrity, dm-crypt `integrity:`).

use crate::control::Control;
use crate::key::LogonKey;
use crate::table::Target;
use crate::verity::path;
use crate::{Access, DmError, Mapped};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// The key of AES-256-XTS, then that of HMAC-SHA-256.
const KEY: usize = 96;
/// A MAC's bytes.
const TAG: u32 = 32;

/// A part of a device in which dm-integrity keeps sectors and their MACs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntegrityTable {
    /// The device.
    pub device: PathBuf,
    /// Where the part begins, with its superblock, in sectors of 512 bytes. It reaches to the device's end.
    pub offset: u64,
    /// The sectors of 512 bytes that are provided.
    pub sectors: u64,
    /// A sector's bytes: 512 or 4096.
    pub sector_size: u32,
    /// Whether the device may be written. If not, what its journal still holds is not seen.
    pub access: Access,
}

/// Maps sectors that have room for a MAC. A device whose superblock is all zero is formatted: its sectors then have no
/// valid MAC before they are written.
///
/// # Errors
/// When the table is not as described, or the kernel refuses.
pub fn map_integrity(name: &str, table: &IntegrityTable) -> Result<Mapped, DmError> {
    check(name, table.sectors, table.sector_size)?;
    let parameters = parameters(table).ok_or_else(|| invalid(name, "the device's path has white space"))?;
    let target = Target { kind: "integrity", sectors: table.sectors, parameters: &parameters };
    Control::open()?.map(name, table.access, &target)
}

/// Lets the next read of an open device come from the device: a mapping writes past what the kernel cached of it.
///
/// # Errors
/// When the kernel refuses.
pub fn forget_cached(device: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call; the call takes numbers and touches no memory of ours.
    match unsafe { libc::posix_fadvise(device.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Maps a device that decrypts and checks what [`map_integrity`] gave, and encrypts what is written. A sector that is not
/// what was written is an I/O error. Cipher and MAC are those of `cryptsetup --integrity hmac-sha256`.
///
/// The key, 96 bytes, takes the way that [`crate::map_crypt`] tells.
///
/// # Errors
/// As [`map_integrity`].
pub fn map_authenticated(name: &str, table: &IntegrityTable, key: &[u8]) -> Result<Mapped, DmError> {
    check(name, table.sectors, table.sector_size)?;
    if key.len() != KEY {
        return Err(invalid(name, &format!("the key has {} bytes; expected {KEY}", key.len())));
    }
    let key = LogonKey::add(name, key)?;
    let parameters = authenticated_parameters(table, key.description())
        .ok_or_else(|| invalid(name, "the name or the device's path has white space"))?;
    let target = Target { kind: "crypt", sectors: table.sectors, parameters: &parameters };
    Control::open()?.map(name, table.access, &target)
}

fn invalid(name: &str, why: &str) -> DmError {
    DmError::Invalid { name: name.to_owned(), why: why.to_owned() }
}

fn check(name: &str, sectors: u64, size: u32) -> Result<(), DmError> {
    if ![512, 4096].contains(&size) || sectors == 0 || !sectors.is_multiple_of(u64::from(size) / 512) {
        return Err(invalid(
            name,
            &format!("{sectors} sectors of 512 bytes are not whole sectors of {size}"),
        ));
    }
    Ok(())
}

fn parameters(table: &IntegrityTable) -> Option<String> {
    let (device, offset) = (path(&table.device)?, table.offset);
    // A journal, or without it and without writing.
    let mode = match table.access {
        Access::ReadWrite => "J",
        Access::ReadOnly => "R",
    };
    let options = if table.sector_size == 4096 { "2 block_size:4096 fix_padding" } else { "1 fix_padding" };
    Some(format!("{device} {offset} {TAG} {mode} {options}"))
}

fn authenticated_parameters(table: &IntegrityTable, key: &str) -> Option<String> {
    let device = path(&table.device)?;
    let key = path(std::path::Path::new(key))?;
    let options = if table.sector_size == 4096 {
        "2 integrity:32:aead sector_size:4096"
    } else {
        "1 integrity:32:aead"
    };
    let cipher = "capi:authenc(hmac(sha256),xts(aes))-plain64";
    Some(format!("{cipher} :{KEY}:logon:{key} 0 {device} 0 {options}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_those_that_cryptsetup_loads() {
        let (device, access) = ("/dev/vdb".into(), Access::ReadWrite);
        let table = IntegrityTable { device, offset: 32768, sectors: 80, sector_size: 4096, access };
        assert_eq!(
            parameters(&table).expect("parameters"),
            "/dev/vdb 32768 32 J 2 block_size:4096 fix_padding"
        );
        let above = IntegrityTable { device: "/dev/dm-0".into(), ..table.clone() };
        assert_eq!(
            authenticated_parameters(&above, "coffer:v").expect("parameters"),
            "capi:authenc(hmac(sha256),xts(aes))-plain64 :96:logon:coffer:v 0 /dev/dm-0 0 2 integrity:32:aead \
             sector_size:4096"
        );
        let small = IntegrityTable { sector_size: 512, access: Access::ReadOnly, ..table.clone() };
        assert_eq!(parameters(&small).expect("parameters"), "/dev/vdb 32768 32 R 1 fix_padding");
        for wrong in [
            IntegrityTable { sectors: 81, ..table.clone() },
            IntegrityTable { sectors: 0, ..table.clone() },
            IntegrityTable { sector_size: 1024, ..table.clone() },
        ] {
            assert!(matches!(map_integrity("x", &wrong), Err(DmError::Invalid { .. })));
            assert!(matches!(map_authenticated("x", &wrong, &[0; 96]), Err(DmError::Invalid { .. })));
        }
        assert!(matches!(map_authenticated("x", &table, &[0; 64]), Err(DmError::Invalid { .. })));
    }
}
