//! Fields that the host fills at launch with the digest of init-data (KBS protocol, init-data).

use coffer_core_digest::Digest;

use crate::BindError;

/// The digest in a field of this length: cut, or padded with zeros at its right.
pub(super) fn placed(digest: &Digest, length: usize) -> Vec<u8> {
    let mut field = digest.as_bytes().to_vec();
    field.resize(length, 0);
    field
}

/// Compares the field of the machine's own report with what init-data's digest must make it.
pub(super) fn compare(name: &'static str, found: &[u8], init_data: &Digest) -> Result<(), BindError> {
    let expected = placed(init_data, found.len());
    if found == expected {
        return Ok(());
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Err(BindError::Field { name, expected: hex(&expected), found: hex(found) })
}
