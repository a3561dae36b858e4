//! The page with the hashes of kernel, initrd and command line, by which firmware checks what the host loads.
//!
//! SPEC: QEMU, target/i386/sev.c (`SevHashTable`); OVMF, OvmfPkg/AmdSev/BlobVerifierLibSevHashes.

use coffer_core_digest::Digest;

use crate::bytes::put;

/// 9438d606-4f22-4cc9-b479-a793d411fd21, as stored, and so the others.
const TABLE: [u8; 16] =
    [0x06, 0xd6, 0x38, 0x94, 0x22, 0x4f, 0xc9, 0x4c, 0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21];
/// 97d02dd8-bd20-4c94-aa78-e7714d36ab2a
const COMMAND_LINE: [u8; 16] =
    [0xd8, 0x2d, 0xd0, 0x97, 0x20, 0xbd, 0x94, 0x4c, 0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a];
/// 44baf731-3a2f-4bd7-9af1-41e29169781d
const INITRD: [u8; 16] =
    [0x31, 0xf7, 0xba, 0x44, 0x2f, 0x3a, 0xd7, 0x4b, 0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d];
/// 4de79437-abd2-427f-b835-d5b172d2045b
const KERNEL: [u8; 16] =
    [0x37, 0x94, 0xe7, 0x4d, 0xd2, 0xab, 0x7f, 0x42, 0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b];
const ENTRY_SIZE: u16 = 50;
const TABLE_SIZE: u16 = 168;
const PADDED_SIZE: usize = 176;

/// What the launcher hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KernelHashes {
    pub(crate) kernel: Digest,
    /// Of no bytes if there is none.
    pub(crate) initrd: Digest,
    pub(crate) command_line: Digest,
}

impl KernelHashes {
    /// The digest of a command line: its bytes with a NUL.
    pub(crate) fn command_line(text: &str) -> Digest {
        Digest::sha256(&[text.as_bytes(), &[0]].concat())
    }

    /// The page with the table at `offset`.
    pub(crate) fn page(&self, offset: usize) -> Option<Vec<u8>> {
        let mut page = vec![0; super::vmsa::PAGE];
        let end = offset.checked_add(PADDED_SIZE)?;
        let table = page.get_mut(offset..end)?;
        put(table, 0, &TABLE)?;
        put(table, 16, &TABLE_SIZE.to_le_bytes())?;
        let entries = [(COMMAND_LINE, &self.command_line), (INITRD, &self.initrd), (KERNEL, &self.kernel)];
        for (slot, (guid, digest)) in table.get_mut(18..)?.chunks_exact_mut(50).zip(entries) {
            put(slot, 0, &guid)?;
            put(slot, 16, &ENTRY_SIZE.to_le_bytes())?;
            put(slot, 18, digest.as_bytes())?;
        }
        Some(page)
    }
}
