//! Volumes: a disk that the host wrote.

use std::io::Cursor;

use coffer_core_digest::Digest;
use coffer_core_ext4::{self as ext4, Journal, Making, extent};
use coffer_core_luks::{Integrity, LuksError, make, provided_sectors, read};
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

/// Reads what the first bytes of a volume say of its size: an ext4's superblock, and dm-integrity's.
pub fn volume_superblocks(data: &[u8]) {
    if let Some(extent) = extent(data) {
        assert!(data.len() >= 2048 && (1024..=65536).contains(&extent.block));
        assert!(extent.bytes() >= extent.blocks);
    }
    for (size, unit) in [(512, 1), (4096, 8)] {
        let sectors = provided_sectors(data, size);
        assert!(sectors.is_none_or(|sectors| sectors > 0 && sectors.is_multiple_of(unit)));
    }
}

pub(crate) fn superblock_seeds() -> Vec<Vec<u8>> {
    let (size, uuid, hash_seed) = (8 << 20, [3; 16], [5; 16]);
    let making = Making { size, uuid, hash_seed, label: "", time: 0, owner: (0, 0), journal: Journal::Kept };
    let mut first = Vec::new();
    let kept = &mut first;
    ext4::make(&making, &mut |block, bytes| {
        if block == 0 {
            *kept = bytes[..2048].to_vec();
        }
        Ok(())
    })
    .unwrap();
    let mut macs = b"integrt\0\x04\x0f\x20\0\x10\0\0\0".to_vec();
    macs.extend([0xa0, 0x86, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
    vec![first, macs]
}

pub(crate) fn header_seeds() -> Vec<Vec<u8>> {
    vec![header(Integrity::None), header(Integrity::HmacSha256)]
}

fn header(integrity: Integrity) -> Vec<u8> {
    let mut volume = Cursor::new(Vec::new());
    let passphrase = SecretBytes::copy_of(&[7; 32]);
    let uuid = "1e8d6f0c-6a3a-4c0b-9e0b-6c7c1d2a3b4c";
    let making = coffer_core_luks::Making { uuid, label: "", passphrase: &passphrase, integrity };
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
    bytes
}
