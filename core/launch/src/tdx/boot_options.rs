//! What a firmware build does before it starts a kernel directly, as the files in its volume tell: its boot options,
//! and whether it knows secure boot.
//!
//! SPEC: edk2, MdeModulePkg/Library/UefiBootManagerLib (`EfiBootManagerGetBootManagerMenu`); UEFI 2.10, section 3.1.3
//! (load options); PI 1.7, volume 3, section 2 (files and sections).

use crate::bytes::{slice, u16_at, u32_at, u64_at, usize_at};
use crate::firmware;

/// The menu program of builds up to edk2-stable202502: 462caa21-7614-4503-836e-8ab6f4662331.
const UI_APP: [u8; 16] =
    [0x21, 0xaa, 0x2c, 0x46, 0x14, 0x76, 0x03, 0x45, 0x83, 0x6e, 0x8a, 0xb6, 0xf4, 0x66, 0x23, 0x31];
/// The menu program of later builds: eec25bdc-67f2-4d95-b1d5-f81b2039d11d.
const BOOT_MANAGER_MENU: [u8; 16] =
    [0xdc, 0x5b, 0xc2, 0xee, 0xf2, 0x67, 0x95, 0x4d, 0xb1, 0xd5, 0xf8, 0x1b, 0x20, 0x39, 0xd1, 0x1d];
/// The set-up page of builds with secure boot, SecureBootConfigDxe: f0e6a44f-7195-41c3-ac64-54f202cd0a21.
const SECURE_BOOT_PAGE: [u8; 16] =
    [0x4f, 0xa4, 0xe6, 0xf0, 0x95, 0x71, 0xc3, 0x41, 0xac, 0x64, 0x54, 0xf2, 0x02, 0xcd, 0x0a, 0x21];
/// `EFI_SECTION_USER_INTERFACE`: the file's name.
const SECTION_NAME: u8 = 0x15;
/// Active, hidden, an application.
const MENU_ATTRIBUTES: u32 = 0x109;
/// Real volumes have some hundred files.
const MAX_FILES: usize = 4096;

/// What a build does before the kernel starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BootOptions {
    /// `BootOrder` 0000 and the menu as `Boot0000`.
    Menu(Vec<u8>),
    /// A later build, which measures more than is known.
    Later,
    /// No menu program was found.
    Unknown,
}

/// A build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Build {
    pub(super) options: BootOptions,
    /// Whether it sets `SecureBoot` to off where no keys are enrolled, or leaves it unset.
    pub(super) knows_secure_boot: bool,
}

/// The build in `code`: the firmware file from its boot volume on.
pub(super) fn of(code: &[u8]) -> Build {
    let Ok(inner) = firmware::decompress(code) else {
        return Build { options: BootOptions::Unknown, knows_secure_boot: false };
    };
    let volumes = firmware::plain_volumes(&inner);
    let with = |guid: &[u8; 16]| volumes.iter().find_map(|volume| Some((*volume, file(volume, guid)?)));
    let options = match with(&BOOT_MANAGER_MENU) {
        Some(_) => BootOptions::Later,
        None => {
            let option = with(&UI_APP).and_then(|(volume, file)| menu(volume, file));
            option.map_or(BootOptions::Unknown, BootOptions::Menu)
        }
    };
    Build { options, knows_secure_boot: with(&SECURE_BOOT_PAGE).is_some() }
}

/// `EFI_LOAD_OPTION` of the menu program.
fn menu(volume: &[u8], file: &[u8]) -> Option<Vec<u8>> {
    let name = firmware::sections(file).find(|section| section.kind == SECTION_NAME)?.body;
    let node = |kind: u8, guid: &[u8]| [&[4, kind, 20, 0], guid].concat();
    let path = [node(7, name_of(volume)?), node(6, &UI_APP), vec![0x7f, 0xff, 4, 0]].concat();
    let length = u16::try_from(path.len()).ok()?;
    // The name ends with a NUL of its own.
    Some([MENU_ATTRIBUTES.to_le_bytes().as_slice(), &length.to_le_bytes(), name, &path].concat())
}

/// The volume's name, from its extended header.
fn name_of(volume: &[u8]) -> Option<&[u8]> {
    let at = usize::from(u16_at(volume, 0x34)?);
    (at != 0).then(|| slice(volume, at, 16))?
}

/// The sections of a file by its name.
fn file<'a>(volume: &'a [u8], name: &[u8; 16]) -> Option<&'a [u8]> {
    (slice(volume, 0x28, 4)? == b"_FVH").then_some(())?;
    let extended = usize::from(u16_at(volume, 0x34)?);
    let mut at = match extended {
        0 => usize::from(u16_at(volume, 0x30)?),
        _ => extended.checked_add(usize_at(volume, extended.checked_add(16)?)?)?,
    };
    for _ in 0..MAX_FILES {
        at = at.checked_next_multiple_of(8)?;
        let file = volume.get(at..)?;
        // FFS_ATTRIB_LARGE_FILE: the size has eight bytes of its own.
        let (size, header) = match file.get(19)? & 1 {
            0 => (usize::try_from(u32_at(file, 20)? & 0xff_ffff).ok()?, 24),
            _ => (usize::try_from(u64_at(file, 24)?).ok()?, 32),
        };
        let body = file.get(header..size)?;
        if slice(file, 0, 16)? == name {
            return Some(body);
        }
        at = at.checked_add(size)?;
    }
    None
}
