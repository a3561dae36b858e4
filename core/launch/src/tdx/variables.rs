//! The secure boot variables in a firmware's variable store, as they are when the guest first begins.
//!
//! SPEC: edk2, MdeModulePkg/Include/Guid/VariableFormat.h (authenticated variables); UEFI 2.10, section 32.

use crate::bytes::{slice, u16_at, u32_at, usize_at};
use crate::events::SecureBootVariables;

/// aaf32c78-947b-439a-a180-2e144ec37792, as stored.
const AUTHENTICATED_STORE: [u8; 16] =
    [0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92];
/// Attributes, counter, time, key index, sizes, vendor.
const HEADER: usize = 60;
const STORE_HEADER: usize = 28;
const START: u16 = 0x55aa;
/// `VAR_ADDED`, and the same while it is replaced.
const VALID: [u8; 2] = [0x3f, 0x3e];
/// Real stores have some thirty.
const MAX_VARIABLES: usize = 1 << 12;

/// What the store says of secure boot. In an empty one nothing is set, but for the state that a build with secure
/// boot sets itself: without a platform key it is in setup mode, and secure boot is off.
pub(super) fn secure_boot(volume: &[u8], knows_secure_boot: bool) -> SecureBootVariables {
    let variables = variables(volume).unwrap_or_default();
    let value = |name: &str| {
        let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        let found = variables.iter().rev().find(|(found, _)| *found == name);
        found.map(|(_, value)| value.to_vec()).unwrap_or_default()
    };
    let pk = value("PK");
    let enabled = value("SecureBootEnable") != [0];
    let state = match (knows_secure_boot, pk.is_empty()) {
        (false, _) => Vec::new(),
        (true, true) => vec![0],
        (true, false) => vec![u8::from(enabled)],
    };
    SecureBootVariables { state, pk, kek: value("KEK"), db: value("db"), dbx: value("dbx") }
}

/// Names and values of the variables that are valid.
fn variables(volume: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    (slice(volume, 0x28, 4)? == b"_FVH").then_some(())?;
    let store = volume.get(usize::from(u16_at(volume, 0x30)?)..)?;
    (slice(store, 0, 16)? == AUTHENTICATED_STORE).then_some(())?;
    let store = store.get(..usize_at(store, 16)?)?;
    let mut rest = store.get(STORE_HEADER..)?;
    let mut found = Vec::new();
    while u16_at(rest, 0) == Some(START) && found.len() < MAX_VARIABLES {
        let (name_size, data_size) = (usize_at(rest, 36)?, usize_at(rest, 40)?);
        let data_at = HEADER.checked_add(name_size)?;
        let (name, data) = (slice(rest, HEADER, name_size)?, slice(rest, data_at, data_size)?);
        if rest.get(2).is_some_and(|state| VALID.contains(state)) && u32_at(rest, 4).is_some() {
            found.push((name, data));
        }
        let next = data_at.checked_add(data_size)?.checked_next_multiple_of(4)?;
        rest = rest.get(next..).unwrap_or_default();
    }
    Some(found)
}
