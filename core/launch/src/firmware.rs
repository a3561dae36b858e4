//! What OVMF measures of itself: its two firmware volumes, as they are in memory at that time.
//!
//! The volumes come out of the firmware file (an LZMA section in the file's first volume). The DXE volume is
//! measured as it is in the file. Into the PEI volume a module has written its globals by then: what it found
//! out about memory, processors and the address space. [`Profile`] says where and the rule says what, so that
//! the digest is computed for any memory size.
//!
//! To add a firmware build: boot it with `-S`, copy the guest's memory at the place and length that the log's
//! first firmware event gives at short intervals until the copy has that event's digest, compare the copy with
//! the volume in the file, and find [`PlatformInfo`]'s fields among the bytes that differ (they are packed, in
//! the order in which they are written here). Then compare the prediction with boots of several shapes.

use std::fmt;
use std::io::Read as _;

use coffer_core_digest::Digest;
use serde::{Deserialize, Serialize};

use crate::bytes::{put, slice, u16_at, u32_at, u64_at, usize_at};
use crate::{LaunchError, kernel};

/// OVMF's volumes are 13 MiB; a section that grows beyond this is not OVMF.
const MAX_DECOMPRESSED: u64 = 64 << 20;
/// In KiB, as the decoder takes it.
const MAX_DECODER_MEMORY: u32 = 64 << 10;
const GIB: u64 = 1 << 30;
const MAX_VOLUMES: usize = 8;

/// `EFI_FV_FILETYPE_FIRMWARE_VOLUME_IMAGE` (PI 1.7, volume 3, section 2.1.4.1).
const FILE_VOLUME_IMAGE: u8 = 0x0b;
/// `EFI_SECTION_GUID_DEFINED`.
const SECTION_GUIDED: u8 = 0x02;
/// `EFI_SECTION_FIRMWARE_VOLUME_IMAGE`.
const SECTION_VOLUME: u8 = 0x17;
/// The GUID ee4e5898-3914-4259-9d6e-dc7bd79403cf of LZMA sections, as stored.
const LZMA_GUID: [u8; 16] =
    [0x98, 0x58, 0x4e, 0xee, 0x14, 0x39, 0x59, 0x42, 0x9d, 0x6e, 0xdc, 0x7b, 0xd7, 0x94, 0x03, 0xcf];

/// What is known of one firmware build.
pub struct Profile {
    /// The build, for people.
    pub name: &'static str,
    /// SHA-256 of the whole file.
    pub sha256: &'static str,
    /// Where `PlatformInfo` stands in the PEI volume.
    platform_info: usize,
    /// The firmware's version string, UTF-16 with its NUL: the S-CRTM version event.
    pub(crate) version: &'static [u8],
    /// `Boot0000`, which BDS makes for the firmware's own menu before a kernel is started directly.
    pub(crate) boot_option: &'static [u8],
}

/// The known builds.
pub const PROFILES: &[Profile] = &[Profile {
    name: "Debian ovmf 2022.11-6+deb12u2, OVMF_CODE_4M.fd",
    sha256: "b157d97b1f69729514feb7f201d2cbe4957f23ab77920e361fe9f822ba49ca4c",
    platform_info: 0xe0d8,
    version: &[0, 0],
    boot_option: &[
        0x09, 0x01, 0x00, 0x00, 0x2c, 0x00, 0x55, 0x00, 0x69, 0x00, 0x41, 0x00, 0x70, 0x00, 0x70, 0x00, 0x00,
        0x00, 0x04, 0x07, 0x14, 0x00, 0xc9, 0xbd, 0xb8, 0x7c, 0xeb, 0xf8, 0x34, 0x4f, 0xaa, 0xea, 0x3e, 0xe4,
        0xaf, 0x65, 0x16, 0xa1, 0x04, 0x06, 0x14, 0x00, 0x21, 0xaa, 0x2c, 0x46, 0x14, 0x76, 0x03, 0x45, 0x83,
        0x6e, 0x8a, 0xb6, 0xf4, 0x66, 0x23, 0x31, 0x7f, 0xff, 0x04, 0x00,
    ],
}];

/// The profile of a firmware file. Any changed byte makes it another file.
pub fn profile(firmware: &[u8]) -> Result<&'static Profile, LaunchError> {
    let found = Digest::sha256(firmware);
    let hex = found.hex();
    PROFILES.iter().find(|profile| profile.sha256 == hex).ok_or_else(|| LaunchError::UnknownFirmware {
        found,
        known: PROFILES.iter().map(|profile| profile.name).collect::<Vec<_>>().join("; "),
    })
}

/// The physical address width that the processor reports, where OVMF believes it.
///
/// OVMF takes 40 bits on an Intel processor, and less than 40 on an AMD one, for QEMU's default rather than for
/// the truth, and then uses a width of its own. A launcher that arranges for that gets one set of reference
/// values for every host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressWidth {
    /// Not believed: `phys-bits=39` on an AMD or emulated processor, `phys-bits=40` on an Intel one.
    #[default]
    Unreported,
    /// Believed.
    Bits(u8),
}

impl fmt::Display for AddressWidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreported => f.write_str("an address width that is not reported"),
            Self::Bits(bits) => write!(f, "an address width of {bits} bits"),
        }
    }
}

/// A machine's shape, as far as the firmware writes it into its volume.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors, present ones and possible ones being as many.
    pub vcpus: u32,
    /// The physical address width.
    pub address_width: AddressWidth,
}

/// The volumes as they are measured, out of the decompressed section: first the PEI volume, then the DXE volume.
pub(crate) fn volumes<'a>(
    profile: &Profile,
    inner: &'a [u8],
    shape: Shape,
) -> Result<(Vec<u8>, &'a [u8]), LaunchError> {
    let volumes = plain_volumes(inner);
    let [pei, dxe] = volumes.as_slice() else {
        return Err(LaunchError::Firmware("expected a PEI volume and a DXE volume"));
    };
    let mut pei = pei.to_vec();
    PlatformInfo::of(shape)?
        .write(&mut pei, profile.platform_info)
        .ok_or(LaunchError::Firmware("the PEI volume is shorter than its profile says"))?;
    Ok((pei, dxe))
}

/// The volumes as they are in the decompressed section. A build for TDX alone has no PEI volume.
pub(crate) fn plain_volumes(inner: &[u8]) -> Vec<&[u8]> {
    let volumes = sections(inner).filter(|section| section.kind == SECTION_VOLUME);
    volumes.map(|section| section.body).take(MAX_VOLUMES).collect()
}

/// One section of a firmware file (PI 1.7, volume 3, section 2.2.4).
pub(crate) struct Section<'a> {
    pub(crate) kind: u8,
    /// The whole section, from which guided sections count their data's offset.
    whole: &'a [u8],
    pub(crate) body: &'a [u8],
}

/// Splits off the sections until the bytes end or make no sense.
pub(crate) fn sections(bytes: &[u8]) -> impl Iterator<Item = Section<'_>> {
    let mut at = 0usize;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..)?;
        let word = u32_at(rest, 0)?;
        let kind = rest.get(3).copied()?;
        let short = usize::try_from(word & 0xff_ffff).ok()?;
        let (size, header) = if short == 0xff_ffff { (usize_at(rest, 4)?, 8) } else { (short, 4) };
        let whole = rest.get(..size)?;
        let body = whole.get(header..)?;
        at = at.checked_add(size)?.checked_next_multiple_of(4)?;
        Some(Section { kind, whole, body })
    })
}

/// The content of the LZMA section that holds the volumes.
pub(crate) fn decompress(firmware: &[u8]) -> Result<Vec<u8>, LaunchError> {
    let packed = packed_volumes(firmware).ok_or(LaunchError::Firmware("no LZMA section with volumes"))?;
    let broken = LaunchError::Firmware("its LZMA section cannot be decompressed");
    let reader = lzma_rust2::LzmaReader::new_mem_limit(packed, MAX_DECODER_MEMORY, None);
    let mut out = Vec::new();
    let read = reader.map(|reader| reader.take(MAX_DECOMPRESSED).read_to_end(&mut out));
    match read {
        Ok(Ok(size)) if u64::try_from(size).is_ok_and(|size| size < MAX_DECOMPRESSED) => Ok(out),
        _ => Err(broken),
    }
}

fn packed_volumes(firmware: &[u8]) -> Option<&[u8]> {
    (slice(firmware, 0x28, 4)? == b"_FVH").then_some(())?;
    let length = usize::try_from(u64_at(firmware, 0x20)?).ok()?;
    let volume = firmware.get(..length)?;
    let header = usize::from(u16_at(volume, 0x30)?);
    let extended = usize::from(u16_at(volume, 0x34)?);
    let mut at = match extended {
        0 => header,
        _ => extended.checked_add(usize_at(volume, extended.checked_add(16)?)?)?,
    };
    loop {
        at = at.checked_next_multiple_of(8)?;
        let file = volume.get(at..)?;
        let size = usize::try_from(u32_at(file, 20)? & 0xff_ffff).ok()?;
        let body = file.get(24..size)?;
        if file.get(18).copied()? == FILE_VOLUME_IMAGE {
            let guided = sections(body).find(|section| {
                section.kind == SECTION_GUIDED && section.body.get(..16) == Some(LZMA_GUID.as_slice())
            })?;
            let data = usize::from(u16_at(guided.body, 16)?);
            return guided.whole.get(data..);
        }
        at = at.checked_add(size)?;
    }
}

/// The globals that OVMF's platform module has written into its image when the volume is measured
/// (`EFI_HOB_PLATFORM_INFO` of edk2-stable202211, without the HOB header, for a q35 machine).
struct PlatformInfo {
    first_free_address: u64,
    address_bits: u8,
    uncached_from: u32,
    mmio_base: u64,
    mmio_size: u64,
    processors: u32,
    reserved_base: u32,
    reserved_size: u32,
}

impl PlatformInfo {
    fn of(shape: Shape) -> Result<Self, LaunchError> {
        let low = kernel::low_memory(shape.memory_mib);
        let all = u64::from(shape.memory_mib) << 20;
        let top = (4 * GIB).saturating_add(all.saturating_sub(low));
        // A 64-bit window for devices of 32 GiB, aligned to its size, above all memory ...
        let mut mmio_size = 32 * GIB;
        let mut mmio_base = top.next_multiple_of(mmio_size);
        let first_free_address = mmio_base.saturating_add(mmio_size);
        let address_bits = match shape.address_width {
            AddressWidth::Bits(found) if !(36..=47).contains(&found) => {
                return Err(LaunchError::AddressWidth { found });
            }
            // ... or the last eighth of the address space, where the width is believed and that is more.
            AddressWidth::Bits(bits) => {
                let space = 1u64 << bits;
                if space / 8 > mmio_size && first_free_address < space {
                    mmio_size = space / 8;
                    mmio_base = space.saturating_sub(mmio_size);
                }
                bits
            }
            AddressWidth::Unreported => {
                let bits = u64::BITS.saturating_sub(first_free_address.saturating_sub(1).leading_zeros());
                u8::try_from(bits.max(36)).unwrap_or(u8::MAX)
            }
        };
        // Room for S3 resume: 512 KiB and a stack of 32 KiB for each processor.
        let reserved_size = shape.vcpus.saturating_mul(0x8000).saturating_add(0x8_0000);
        let low_end = u32::try_from(low).unwrap_or(u32::MAX);
        Ok(Self {
            first_free_address,
            address_bits,
            uncached_from: if low <= 2 * GIB { 0x8000_0000 } else { 0xb000_0000 },
            mmio_base,
            mmio_size,
            processors: shape.vcpus,
            reserved_base: low_end.saturating_sub(reserved_size),
            reserved_size,
        })
    }

    fn write(&self, volume: &mut [u8], at: usize) -> Option<()> {
        /// The host bridge's PCI device id on q35.
        const HOST_BRIDGE: u16 = 0x29c0;
        /// 32-bit window for devices, between the extended configuration space and the I/O APIC.
        const MMIO32: (u32, u32) = (0xc000_0000, 0x3c00_0000);
        const IO_PORTS: (u64, u64) = (0x6000, 0xa000);
        const DEFAULT_PROCESSORS: u32 = 64;
        let fields: [(usize, &[u8]); 17] = [
            (0x00, &HOST_BRIDGE.to_le_bytes()),
            // S3 is supported.
            (0x0f, &[1]),
            (0x14, &self.first_free_address.to_le_bytes()),
            (0x1c, &[self.address_bits]),
            (0x1d, &self.uncached_from.to_le_bytes()),
            (0x2e, &self.mmio_base.to_le_bytes()),
            (0x36, &self.mmio_size.to_le_bytes()),
            (0x3e, &MMIO32.0.to_le_bytes()),
            (0x42, &MMIO32.1.to_le_bytes()),
            (0x46, &IO_PORTS.0.to_le_bytes()),
            (0x4e, &IO_PORTS.1.to_le_bytes()),
            (0x5e, &self.processors.to_le_bytes()),
            (0x62, &self.processors.to_le_bytes()),
            (0x66, &DEFAULT_PROCESSORS.to_le_bytes()),
            (0x6a, &self.reserved_base.to_le_bytes()),
            (0x6e, &self.reserved_size.to_le_bytes()),
            // Two flags of the same module behind the structure, set when memory was installed.
            (0x72, &[1, 1]),
        ];
        for (offset, value) in fields {
            put(volume, at.checked_add(offset)?, value)?;
        }
        Some(())
    }
}
