//! The superblock of dm-integrity, which stands at the begin of a segment with integrity (Linux,
//! drivers/md/dm-integrity.c, `struct superblock`).

use crate::TAG;

/// The superblock's room (`SB_SECTORS`).
pub const SUPERBLOCK: usize = 4096;

/// The sectors of 512 bytes that a superblock provides, whole sectors of the volume; none if it is not that of a volume
/// with sectors of this length and MACs of [`TAG`] bytes. It is the host's word, like the header.
#[must_use]
pub fn provided_sectors(superblock: &[u8], sector_size: u32) -> Option<u64> {
    // Magic, version, the interleave's logarithm, the MAC's length, journal sections, sectors, flags, and the logarithm of
    // a sector's length in units of 512.
    let tag = superblock.get(10..)?.first_chunk::<2>().map(|tag| u16::from_le_bytes(*tag))?;
    let sectors = superblock.get(16..)?.first_chunk::<8>().map(|sectors| u64::from_le_bytes(*sectors))?;
    let unit = u64::from(sector_size) / 512;
    let length = 1_u64.checked_shl(u32::from(*superblock.get(28)?))?;
    let fits = superblock.starts_with(b"integrt\0") && u32::from(tag) == TAG && length == unit;
    let whole = sectors.checked_div(unit)?.checked_mul(unit)?;
    (fits && whole > 0).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> Vec<u8> {
        let mut bytes = vec![0; SUPERBLOCK];
        bytes[..8].copy_from_slice(b"integrt\0");
        bytes[8] = 4;
        bytes[10..12].copy_from_slice(&32_u16.to_le_bytes());
        bytes[16..24].copy_from_slice(&100_003_u64.to_le_bytes());
        bytes[28] = 3;
        bytes
    }

    #[test]
    fn superblock_says_whole_sectors_of_the_volume_s_length_with_its_macs() {
        assert_eq!(provided_sectors(&superblock(), 4096), Some(100_000));
        assert_eq!(provided_sectors(&superblock(), 512), None, "of another length");
        assert_eq!(provided_sectors(&superblock(), 0), None);
        assert_eq!(provided_sectors(&superblock()[..28], 4096), None);
        for (at, value) in [(0, 0), (10, 48), (11, 1), (28, 0), (28, 64), (28, 255)] {
            let mut other = superblock();
            other[at] = value;
            assert_eq!(provided_sectors(&other, 4096), None, "{at}");
        }
        let mut none = superblock();
        none[16..24].fill(0);
        assert_eq!(provided_sectors(&none, 4096), None);
        none[16..24].fill(0xff);
        assert!(provided_sectors(&none, 4096).is_some_and(|sectors| sectors.is_multiple_of(8)));
    }
}
