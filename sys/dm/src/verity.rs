//! Verified devices: a hash tree over the data (kernel documentation: device-mapper/verity).

use crate::control::Control;
use crate::table::Target;
use crate::{Access, DmError, Mapped};
use std::fmt::Write;
use std::path::PathBuf;

/// Bytes in a block, of data and of hashes.
const BLOCK: u64 = 4096;

/// A device under a hash tree of SHA-256 over blocks of 4096 bytes, hash type 1 (salt first).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerityTable {
    /// The device with the data.
    pub data_device: PathBuf,
    /// The device with the tree; may be the same.
    pub hash_device: PathBuf,
    /// How many blocks of data there are.
    pub blocks: u64,
    /// The block of the hash device at which the tree begins.
    pub hash_start_block: u64,
    /// The root of the tree.
    pub root: [u8; 32],
    /// What each hash begins with; may be empty.
    pub salt: Vec<u8>,
}

/// Maps a device that gives the data back only where it is what the root says, else an I/O error.
///
/// # Errors
/// When the kernel refuses; a wrong root shows only when the device is read.
pub fn map_verity(name: &str, table: &VerityTable) -> Result<Mapped, DmError> {
    let invalid = |why: &str| DmError::Invalid { name: name.to_owned(), why: why.to_owned() };
    let sectors =
        table.blocks.checked_mul(BLOCK / 512).ok_or_else(|| invalid("more blocks than a device can have"))?;
    let parameters = parameters(table).ok_or_else(|| invalid("a device's path has white space"))?;
    Control::open()?.map(name, Access::ReadOnly, &Target { kind: "verity", sectors, parameters: &parameters })
}

fn parameters(table: &VerityTable) -> Option<String> {
    let (data, hashes) = (path(&table.data_device)?, path(&table.hash_device)?);
    // The kernel's word for an empty salt is a dash.
    let salt = if table.salt.is_empty() { "-".to_owned() } else { hex(&table.salt) };
    let (blocks, start, root) = (table.blocks, table.hash_start_block, hex(&table.root));
    Some(format!("1 {data} {hashes} {BLOCK} {BLOCK} {blocks} {start} sha256 {root} {salt}"))
}

/// A path as a word of a table: the kernel splits at white space and reads backslashes.
pub(crate) fn path(path: &std::path::Path) -> Option<&str> {
    path.to_str().filter(|text| !text.contains(|c: char| c.is_whitespace() || c == '\\'))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> VerityTable {
        VerityTable {
            data_device: "/dev/vda".into(),
            hash_device: "/dev/vdb".into(),
            blocks: 10,
            hash_start_block: 1,
            root: [0xab; 32],
            salt: vec![1, 2],
        }
    }

    #[test]
    fn parameters_are_those_of_the_kernel_documentation() {
        let root = "ab".repeat(32);
        assert_eq!(
            parameters(&table()).expect("parameters"),
            format!("1 /dev/vda /dev/vdb 4096 4096 10 1 sha256 {root} 0102")
        );
        let unsalted = VerityTable { salt: Vec::new(), ..table() };
        assert!(parameters(&unsalted).expect("parameters").ends_with(" -"));
    }

    #[test]
    fn device_path_with_white_space_is_refused() {
        let table = VerityTable { data_device: "/dev/v a".into(), ..table() };
        assert!(matches!(map_verity("x", &table), Err(DmError::Invalid { .. })));
    }

    #[test]
    fn device_beyond_the_kernels_sectors_is_refused() {
        let table = VerityTable { blocks: u64::MAX, ..table() };
        assert!(matches!(map_verity("x", &table), Err(DmError::Invalid { .. })));
    }
}
