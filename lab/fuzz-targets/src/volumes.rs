//! Volumes: a disk that the host wrote.

use std::io::Cursor;

use coffer_core_digest::Digest;
use coffer_core_luks::{Integrity, LuksError, Making, make, read};
use coffer_core_secret::SecretBytes;

const HEADER: usize = 0x4000;

/// Reads a LUKS2 header, as it is and with its checksum made right: a host can compute one.
pub fn luks2_header(data: &[u8]) {
    let _ = read(&mut Cursor::new(data));
    let mut bytes = data.to_vec();
    bytes.resize(bytes.len().max(HEADER), 0);
    bytes[448..512].fill(0);
    let sum = Digest::sha256(&bytes[..HEADER]);
    bytes[448..480].copy_from_slice(sum.as_bytes());
    let mut cursor = Cursor::new(bytes);
    let Ok(volume) = read(&mut cursor) else { return };
    assert!([512, 4096].contains(&volume.sector_size()) && volume.data_offset() >= HEADER as u64);
    assert!(volume.slots() > 0);
    let short = SecretBytes::copy_of(&[7; 31]);
    assert!(matches!(volume.unlock(&mut cursor, &short), Err(LuksError::ShortKey { .. })));
}

pub(crate) fn header_seeds() -> Vec<Vec<u8>> {
    let mut volume = Cursor::new(Vec::new());
    let passphrase = SecretBytes::copy_of(&[7; 32]);
    let uuid = "1e8d6f0c-6a3a-4c0b-9e0b-6c7c1d2a3b4c";
    let making = Making { uuid, label: "", passphrase: &passphrase, integrity: Integrity::None };
    make(
        &making,
        &mut |bytes| {
            bytes.fill(3);
            bytes.iter_mut().step_by(2).for_each(|b| *b = 5);
            bytes[0] = 1;
            Ok(())
        },
        &mut volume,
    )
    .unwrap();
    let mut bytes = volume.into_inner();
    bytes.truncate(HEADER);
    vec![bytes]
}
