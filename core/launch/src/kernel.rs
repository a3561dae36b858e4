//! The kernel as the firmware receives it: QEMU writes the boot protocol's loader fields into its header.
//!
//! SPEC: Linux, Documentation/arch/x86/boot.rst; QEMU, hw/i386/x86.c (`x86_load_linux`). QEMU 7.2 and 10.0 write
//! the same bytes. So the kernel's measured hash depends on the memory size and on the initrd's size.

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};

use crate::bytes::{put, slice, u16_at, u32_at};
use crate::{LaunchError, authenticode};

/// Memory that q35 gives below 4 GiB: all of it, or 2 GiB where that would reach 2.75 GiB (hw/i386/pc_q35.c).
const Q35_LOW_LIMIT: u64 = 0xb000_0000;
const Q35_LOW_SPLIT: u64 = 0x8000_0000;
/// Memory below the low end that QEMU keeps for ACPI tables (`acpi_data_size`).
const ACPI_DATA: u64 = 0x2_8000;
const LOADER_TYPE_QEMU: u8 = 0xb0;
const CAN_USE_HEAP: u8 = 0x80;
const COMMAND_LINE_ADDRESS: u32 = 0x2_0000;
/// From the real-mode code at 0x10000 to the command line, less 0x200.
const HEAP_END: u16 = 0xfe00;
/// All that QEMU writes to lies within.
const HEADER: usize = 0x1000;
/// `XLF_CAN_BE_LOADED_ABOVE_4G`.
const XLF_ABOVE_4G: u16 = 1 << 1;

/// The bytes of memory that a q35 machine has below 4 GiB.
pub const fn low_memory(memory_mib: u32) -> u64 {
    let all = (memory_mib as u64) << 20;
    if all >= Q35_LOW_LIMIT { Q35_LOW_SPLIT } else { all }
}

/// Refuses command lines that are not measured as they are given.
pub(crate) fn check_command_line(line: &str) -> Result<(), LaunchError> {
    /// Linux's `COMMAND_LINE_SIZE` on x86, less what the firmware adds.
    const MOST: usize = 2000;
    let refused = match () {
        () if line.len() > MOST => "is longer than the kernel takes",
        () if !line.bytes().all(|byte| (0x20..0x7f).contains(&byte)) => {
            "has characters other than printable ASCII, which the firmware does not convert faithfully"
        }
        () if line.contains("vga=") => "has vga=, which QEMU writes into the kernel's header",
        () => return Ok(()),
    };
    Err(LaunchError::CommandLine(refused))
}

/// Whether the kernel's boot stub measures command line and initrd into RTMRs (Linux 6.9 and later).
///
/// Only then does it name the protocol for that, 96751a3d-72f4-41a6-a794-ed5d0e67ae6b. The compiler writes such a
/// constant in parts, near each other.
pub fn measures_into_rtmrs(kernel: &[u8]) -> bool {
    const PARTS: [[u8; 4]; 4] = [
        [0x3d, 0x1a, 0x75, 0x96],
        [0xf4, 0x72, 0xa6, 0x41],
        [0xa7, 0x94, 0xed, 0x5d],
        [0x0e, 0x67, 0xae, 0x6b],
    ];
    const NEAR: usize = 128;
    let [first, others @ ..] = PARTS;
    kernel.windows(4).enumerate().filter(|(_, window)| *window == first).any(|(at, _)| {
        let near = kernel.get(at..).map(|rest| rest.get(..NEAR).unwrap_or(rest)).unwrap_or_default();
        others.iter().all(|part| near.windows(4).any(|window| window == part))
    })
}

/// The kernel file as QEMU gives it to the firmware.
pub fn as_loaded(kernel: &[u8], initrd_size: usize, memory_mib: u32) -> Result<Vec<u8>, LaunchError> {
    const SHORT: LaunchError = LaunchError::Kernel("it is shorter than its header");
    if slice(kernel, 0x202, 4) != Some(b"HdrS") {
        return Err(LaunchError::Kernel("there is no setup header"));
    }
    let protocol = u16_at(kernel, 0x206).ok_or(SHORT)?;
    let flags = kernel.get(0x211).copied().ok_or(SHORT)?;
    // Older protocols, and kernels loaded low, take other addresses.
    if protocol < 0x203 || flags & 1 == 0 {
        return Err(LaunchError::Kernel("its boot protocol is older than 2.03"));
    }
    let above_4g = protocol >= 0x20c && u16_at(kernel, 0x236).ok_or(SHORT)? & XLF_ABOVE_4G != 0;
    let limit = match above_4g {
        true => u64::from(u32::MAX),
        false => u64::from(u32_at(kernel, 0x22c).ok_or(SHORT)?),
    };
    let memory = low_memory(memory_mib);
    let refused = LaunchError::Initrd { size: initrd_size, memory };
    let size = u32::try_from(initrd_size).map_err(|_| refused.clone())?;
    let end = memory.saturating_sub(ACPI_DATA);
    let last = if limit >= end { end.saturating_sub(1) } else { limit };
    let address = last.checked_sub(u64::from(size)).map(|address| address & !0xfff);
    // The kernel itself stands from 1 MiB on.
    let address = address.filter(|address| *address > 1 << 20).and_then(|a| u32::try_from(a).ok());
    let (Some(address), true) = (address, size > 0) else { return Err(refused) };

    let mut out = kernel.to_vec();
    let fields: [(usize, &[u8]); 6] = [
        (0x210, &[LOADER_TYPE_QEMU]),
        (0x211, &[flags | CAN_USE_HEAP]),
        (0x218, &address.to_le_bytes()),
        (0x21c, &size.to_le_bytes()),
        (0x224, &HEAP_END.to_le_bytes()),
        (0x228, &COMMAND_LINE_ADDRESS.to_le_bytes()),
    ];
    for (at, value) in fields {
        put(&mut out, at, value).ok_or(SHORT)?;
    }
    Ok(out)
}

/// The Authenticode hash of the kernel as QEMU loads it, by memory size. Sizes into which the initrd does not fit are
/// left out.
pub(crate) fn images(
    bank: Algorithm,
    kernel: &[u8],
    initrd_size: usize,
    sizes: impl IntoIterator<Item = u32>,
) -> Result<BTreeMap<u32, Digest>, LaunchError> {
    let mut images = BTreeMap::new();
    // Many sizes give the same header; the file is hashed once for each that differs.
    let mut by_header: BTreeMap<Vec<u8>, Digest> = BTreeMap::new();
    for size in sizes {
        let Ok(loaded) = as_loaded(kernel, initrd_size, size) else { continue };
        let header = loaded.get(..HEADER).unwrap_or(&loaded).to_vec();
        let hash = match by_header.get(&header) {
            Some(hash) => *hash,
            None => authenticode::hash(bank, &loaded)?,
        };
        by_header.insert(header, hash);
        images.insert(size, hash);
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Vec<u8> {
        let mut kernel = vec![0; 0x300];
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
        kernel[0x211] = 1;
        kernel[0x22c..0x230].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
        kernel[0x236] = 0x7f;
        kernel
    }

    #[test]
    fn the_initrd_ends_below_the_acpi_tables() {
        let out = as_loaded(&header(), 0x1000, 512).unwrap();
        assert_eq!(u32_at(&out, 0x218), Some((0x2000_0000 - 0x28000 - 1 - 0x1000) & !0xfff));
        assert_eq!(u32_at(&out, 0x21c), Some(0x1000));
        assert_eq!((out[0x210], out[0x211]), (0xb0, 0x81));
        assert_eq!(u16_at(&out, 0x224), Some(0xfe00));
    }

    #[test]
    fn memory_beyond_the_split_does_not_move_the_initrd() {
        assert_eq!(as_loaded(&header(), 9, 4096), as_loaded(&header(), 9, 8192));
        assert_ne!(as_loaded(&header(), 9, 512), as_loaded(&header(), 9, 513));
    }

    #[test]
    fn what_is_no_bzimage_is_refused() {
        assert!(matches!(as_loaded(b"", 1, 512), Err(LaunchError::Kernel(_))));
        assert!(matches!(as_loaded(&[0x7f; 0x400], 1, 512), Err(LaunchError::Kernel(_))));
        assert!(matches!(as_loaded(&header()[..0x220], 1, 512), Err(LaunchError::Kernel(_))));
        assert!(matches!(as_loaded(&header(), 0, 512), Err(LaunchError::Initrd { .. })));
        assert!(matches!(as_loaded(&header(), 600 << 20, 512), Err(LaunchError::Initrd { .. })));
    }
}
