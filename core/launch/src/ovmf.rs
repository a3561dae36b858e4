//! What OVMF says of itself at its end: the GUIDed table, and the metadata of SEV and TDX that it leads to.
//!
//! SPEC: edk2, OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm (table), X64/OvmfSevMetadata.asm (`ASEV`),
//! X64/IntelTdxMetadata.asm and the TDX Virtual Firmware Design Guide, section 11 (`TDVF`). The table ends 32 bytes
//! before the file's end and is read backwards: data, size, GUID.

use crate::LaunchError;
use crate::bytes::{slice, u16_at, u32_at, u64_at, usize_at};

/// 96b582de-1fb2-45f7-baea-a366c55a082d, as stored, and so the others.
const FOOTER: Guid =
    [0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d];
/// 7255371f-3a3b-4b04-927b-1da6efa8d454
const KERNEL_HASHES: Guid =
    [0x1f, 0x37, 0x55, 0x72, 0x3b, 0x3a, 0x04, 0x4b, 0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54];
/// 00f771de-1a7e-4fcb-890e-68c77e2fb44e
const RESET_BLOCK: Guid =
    [0xde, 0x71, 0xf7, 0x00, 0x7e, 0x1a, 0xcb, 0x4f, 0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e];
/// dc886566-984a-4798-a75e-5585a7bf67cc
const SEV_METADATA: Guid =
    [0x66, 0x65, 0x88, 0xdc, 0x4a, 0x98, 0x98, 0x47, 0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc];
/// e47a6535-984a-4798-865e-4685a7bf8ec2
const TDX_METADATA: Guid =
    [0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2];
/// Behind the table stands the reset vector.
const AFTER_TABLE: usize = 32;
/// Size and GUID of an entry.
const ENTRY: usize = 18;
/// Real firmware has at most seven.
const MAX_SECTIONS: u32 = 64;
/// Firmware ends at 4 GiB; real ones have at most 16 MiB.
const MAX_FIRMWARE: usize = 256 << 20;
const PAGE: u64 = 0x1000;
/// The memory that sections may cover in all: more than any firmware asks for, and soon hashed.
const MAX_SEV_MEMORY: u64 = 16 << 20;
const MAX_TDX_MEMORY: u64 = 64 << 20;

type Guid = [u8; 16];

/// A firmware file with its table.
pub(crate) struct Ovmf<'a> {
    file: &'a [u8],
    table: Vec<(&'a [u8], &'a [u8])>,
}

/// A section of the `ASEV` metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SevSection {
    pub(crate) gpa: u64,
    pub(crate) size: u64,
    pub(crate) kind: u32,
}

impl SevSection {
    pub(crate) const MEMORY: u32 = 1;
    pub(crate) const SECRETS: u32 = 2;
    pub(crate) const CPUID: u32 = 3;
    pub(crate) const SVSM_CAA: u32 = 4;
    pub(crate) const KERNEL_HASHES: u32 = 0x10;
}

/// A section of the `TDVF` metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TdxSection<'a> {
    /// The bytes of the file that are loaded; none for memory that is only added.
    pub(crate) data: &'a [u8],
    pub(crate) gpa: u64,
    pub(crate) size: u64,
    pub(crate) kind: u32,
    attributes: u32,
}

impl TdxSection<'_> {
    pub(crate) const BOOT_VOLUME: u32 = 0;
    pub(crate) const VARIABLES: u32 = 1;
    pub(crate) const TD_HOB: u32 = 2;
    pub(crate) const MEMORY: u32 = 3;

    /// Whether the content is extended into MRTD.
    pub(crate) const fn is_extended(&self) -> bool {
        self.attributes & 1 != 0
    }

    /// Whether pages are added while the TD runs, which leaves no trace in MRTD.
    pub(crate) const fn is_augmented(&self) -> bool {
        self.attributes & 2 != 0
    }
}

impl<'a> Ovmf<'a> {
    pub(crate) fn parse(file: &'a [u8]) -> Result<Self, LaunchError> {
        let no_table = LaunchError::Metadata("there is no GUIDed table at its end; is it OVMF?");
        if file.len() > MAX_FIRMWARE || !file.len().is_multiple_of(0x1000) {
            return Err(LaunchError::Metadata("its size is not a number of pages up to 256 MiB"));
        }
        let table = file.len().checked_sub(AFTER_TABLE).and_then(|end| entries(file, end));
        Ok(Self { file, table: table.ok_or(no_table)? })
    }

    fn entry(&self, guid: &Guid) -> Option<&'a [u8]> {
        self.table.iter().find(|(found, _)| found == guid).map(|(_, data)| *data)
    }

    /// Where the firmware begins in memory.
    pub(crate) fn gpa(&self) -> u64 {
        (1u64 << 32).saturating_sub(self.size())
    }

    fn size(&self) -> u64 {
        u64::try_from(self.file.len()).unwrap_or(u64::MAX)
    }

    pub(crate) const fn bytes(&self) -> &'a [u8] {
        self.file
    }

    /// Where the launcher writes the hashes of kernel, initrd and command line.
    pub(crate) fn kernel_hashes(&self) -> Option<u64> {
        let address = u32_at(self.entry(&KERNEL_HASHES)?, 0)?;
        (address != 0).then_some(u64::from(address))
    }

    /// Where processors other than the first begin.
    pub(crate) fn reset_address(&self) -> Option<u64> {
        u32_at(self.entry(&RESET_BLOCK)?, 0).map(u64::from)
    }

    /// The bytes that an entry's distance from the file's end leads to.
    fn at_distance(&self, entry: &[u8]) -> Option<&'a [u8]> {
        let distance = usize_at(entry, 0)?;
        self.file.get(self.file.len().checked_sub(distance)?..)
    }

    /// The sections that a SEV-SNP launcher prepares.
    pub(crate) fn sev_sections(&self) -> Result<Vec<SevSection>, LaunchError> {
        let none = LaunchError::Metadata("there is no SEV metadata in its table; is it built for SEV-SNP?");
        let damaged = LaunchError::Metadata("its SEV metadata is damaged");
        let metadata = self.entry(&SEV_METADATA).ok_or(none)?;
        let metadata = self.at_distance(metadata).ok_or(damaged.clone())?;
        sev_sections(metadata).ok_or(damaged)
    }

    /// The sections that a TDX launcher prepares.
    pub(crate) fn tdx_sections(&self) -> Result<Vec<TdxSection<'a>>, LaunchError> {
        let none = LaunchError::Metadata("there is no TDX metadata in its table; is it built for TDX?");
        let damaged = LaunchError::Metadata("its TDX metadata is damaged");
        let metadata = self.entry(&TDX_METADATA).ok_or(none)?;
        let metadata = self.at_distance(metadata).ok_or(damaged.clone())?;
        tdx_sections(self.file, metadata).ok_or(damaged)
    }
}

/// The entries of the table that ends at `end`.
fn entries(file: &[u8], end: usize) -> Option<Vec<(&[u8], &[u8])>> {
    let footer = end.checked_sub(ENTRY)?;
    (slice(file, footer.checked_add(2)?, 16)? == FOOTER).then_some(())?;
    let size = usize::from(u16_at(file, footer)?);
    let mut rest = file.get(end.checked_sub(size)?..footer)?;
    let mut table = Vec::new();
    while let Some(tail) = rest.len().checked_sub(ENTRY) {
        let size = usize::from(u16_at(rest, tail)?);
        let begin = rest.len().checked_sub(size)?;
        table.push((rest.get(tail.checked_add(2)?..)?, rest.get(begin..tail)?));
        rest = rest.get(..begin)?;
    }
    Some(table)
}

fn sev_sections(metadata: &[u8]) -> Option<Vec<SevSection>> {
    (slice(metadata, 0, 4)? == b"ASEV").then_some(())?;
    let count = u32_at(metadata, 12).filter(|count| *count <= MAX_SECTIONS)?;
    let mut sections = Vec::new();
    let mut total = 0u64;
    for section in metadata.get(16..)?.chunks_exact(12).take(usize::try_from(count).ok()?) {
        let (gpa, size) = (u64::from(u32_at(section, 0)?), u64::from(u32_at(section, 4)?));
        (gpa.is_multiple_of(PAGE) && size.is_multiple_of(PAGE)).then_some(())?;
        total = total.checked_add(size).filter(|total| *total <= MAX_SEV_MEMORY)?;
        sections.push(SevSection { gpa, size, kind: u32_at(section, 8)? });
    }
    (u32::try_from(sections.len()) == Ok(count)).then_some(sections)
}

fn tdx_sections<'a>(file: &'a [u8], metadata: &[u8]) -> Option<Vec<TdxSection<'a>>> {
    (slice(metadata, 0, 4)? == b"TDVF" && u32_at(metadata, 8)? == 1).then_some(())?;
    let count = u32_at(metadata, 12).filter(|count| *count <= MAX_SECTIONS)?;
    let mut sections = Vec::new();
    let mut total = 0u64;
    for section in metadata.get(16..)?.chunks_exact(32).take(usize::try_from(count).ok()?) {
        let data = slice(file, usize_at(section, 0)?, usize_at(section, 4)?)?;
        let (gpa, size) = (u64_at(section, 8)?, u64_at(section, 16)?);
        gpa.checked_add(size)?;
        (gpa.is_multiple_of(PAGE) && size.is_multiple_of(PAGE)).then_some(())?;
        total = total.checked_add(size).filter(|total| *total <= MAX_TDX_MEMORY)?;
        (u64::try_from(data.len()).ok()? <= size).then_some(())?;
        let (kind, attributes) = (u32_at(section, 24)?, u32_at(section, 28)?);
        sections.push(TdxSection { data, gpa, size, kind, attributes });
    }
    (u32::try_from(sections.len()) == Ok(count)).then_some(sections)
}
