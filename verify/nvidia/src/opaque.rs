//! NVIDIA's own data in a report: versions, identifiers and states, as typed fields one behind the other.
//!
//! SPEC: field numbers are those that NVIDIA's attestation tools publish. Newer devices put a header in front
//! (`NVDAOD`) and a value type into each field. Unknown fields are kept: devices learn new ones.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

const MAGIC: &[u8; 6] = b"NVDAOD";
/// A field that holds a security version (value type in the newer form).
const MIN_SVN: u16 = 0x87;
const MAX_FIELDS: usize = 256;

/// Numbers of fields.
pub(crate) mod field {
    pub(crate) const DRIVER_VERSION: u16 = 3;
    pub(crate) const VBIOS_VERSION: u16 = 6;
    pub(crate) const NVDEC0_STATUS: u16 = 11;
    pub(crate) const CHIP_SKU: u16 = 15;
    pub(crate) const PROJECT: u16 = 17;
    pub(crate) const PROJECT_SKU: u16 = 18;
    pub(crate) const FWID: u16 = 20;
    pub(crate) const CHIP_INFO: u16 = 35;
}

/// Why bytes are not opaque data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpaqueError {
    /// A field runs past the end.
    #[error("opaque data: field {field} needs {expected} bytes, {found} are left")]
    Truncated {
        /// Its number, or 0 for the header and for fields' heads.
        field: u16,
        /// Bytes it needs.
        expected: usize,
        /// Bytes left.
        found: usize,
    },
    /// A field stands there twice.
    #[error("opaque data: field {0} stands there twice")]
    Repeated(u16),
    /// More fields than any device sends.
    #[error("opaque data: more than {MAX_FIELDS} fields")]
    TooMany,
    /// A form that is not known here.
    #[error("opaque data: profile {profile}, version {major}; expected profile 0, version 0 or 1")]
    Version {
        /// The profile.
        profile: u16,
        /// The major version.
        major: u64,
    },
    /// A field that must be there is not, or is not text.
    #[error("opaque data: {0} is missing or not readable")]
    Missing(&'static str),
    /// A state that is neither on nor off.
    #[error("opaque data: the state of NVDEC0 is {0:#x}; expected 0xaa (enabled) or 0x55 (disabled)")]
    Nvdec(u8),
}

/// The fields of one report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// Value type (0 in the older form) and bytes, by number.
    fields: BTreeMap<u16, (u16, Vec<u8>)>,
    is_switch: bool,
}

impl Opaque {
    /// Reads all fields.
    pub fn parse(bytes: &[u8], is_switch: bool) -> Result<Self, OpaqueError> {
        let (mut rest, typed) = match bytes.strip_prefix(MAGIC) {
            None => (bytes, false),
            Some(header) => {
                let [a, b, major, _, _, _, rest @ ..] = header else {
                    return Err(OpaqueError::Truncated { field: 0, expected: 6, found: header.len() });
                };
                let profile = u16::from_le_bytes([*a, *b]);
                if profile != 0 || *major > 1 {
                    return Err(OpaqueError::Version { profile, major: u64::from(*major) });
                }
                (rest, true)
            }
        };
        let mut fields = BTreeMap::new();
        while !rest.is_empty() {
            let head = if typed { 6 } else { 4 };
            let short = |field, expected| OpaqueError::Truncated { field, expected, found: rest.len() };
            let (head, after) = rest.split_at_checked(head).ok_or(short(0, head))?;
            let (number, kind, size) = match *head {
                [a, b, c, d, e, f] => (word(a, b), word(c, d), word(e, f)),
                [a, b, c, d] => (word(a, b), 0, word(c, d)),
                _ => return Err(short(0, head.len())),
            };
            let size = usize::from(size);
            let short = OpaqueError::Truncated { field: number, expected: size, found: after.len() };
            let (value, after) = after.split_at_checked(size).ok_or(short)?;
            if fields.len() >= MAX_FIELDS {
                return Err(OpaqueError::TooMany);
            }
            if fields.insert(number, (kind, value.to_vec())).is_some() {
                return Err(OpaqueError::Repeated(number));
            }
            rest = after;
        }
        let read = Self { fields, is_switch };
        // The older form has its version in a field of its own.
        let version = read.number(34).unwrap_or(0);
        match !typed && version > 1 {
            true => Err(OpaqueError::Version { profile: 0, major: version }),
            false => Ok(read),
        }
    }

    /// A field's bytes.
    pub fn bytes(&self, number: u16) -> Option<&[u8]> {
        self.fields.get(&number).map(|(_, value)| value.as_slice())
    }

    /// A field as text, up to the zeros behind it.
    pub(crate) fn text(&self, number: u16, name: &'static str) -> Result<String, OpaqueError> {
        let bytes = self.bytes(number).ok_or(OpaqueError::Missing(name))?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let text = bytes.get(..end).unwrap_or_default();
        let good = !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
        match std::str::from_utf8(text) {
            Ok(text) if good => Ok(text.to_owned()),
            _ => Err(OpaqueError::Missing(name)),
        }
    }

    fn number(&self, number: u16) -> Option<u64> {
        let bytes = self.bytes(number).filter(|bytes| bytes.len() <= 8)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// The security version in a field, if the field is one.
    pub(crate) fn svn(&self, number: u16) -> Option<u64> {
        let typed =
            self.fields.get(&number).is_some_and(|(kind, value)| *kind == MIN_SVN && value.len() == 2);
        typed.then(|| self.number(number)).flatten()
    }

    /// The driver's version, as in `550.90.07`.
    pub fn driver_version(&self) -> Result<String, OpaqueError> {
        self.text(field::DRIVER_VERSION, "the driver's version")
    }

    /// The firmware's version, as in `96.00.9F.00.01`. Switches send it as text, GPUs as eight bytes.
    pub fn vbios_version(&self) -> Result<String, OpaqueError> {
        const NAME: &str = "the firmware's version";
        if self.is_switch {
            return Ok(self.text(field::VBIOS_VERSION, NAME)?.to_ascii_uppercase());
        }
        let bytes = self.bytes(field::VBIOS_VERSION).ok_or(OpaqueError::Missing(NAME))?;
        match *bytes {
            [a, b, c, d, e, _, _, _] => Ok(format!("{d:02X}.{c:02X}.{b:02X}.{a:02X}.{e:02X}")),
            _ => Err(OpaqueError::Missing(NAME)),
        }
    }

    /// Whether the video decoder is on. Off, measurement 35 says nothing.
    pub fn nvdec_enabled(&self) -> Result<bool, OpaqueError> {
        match self.bytes(field::NVDEC0_STATUS) {
            None | Some([0xaa]) => Ok(true),
            Some([0x55]) => Ok(false),
            Some(other) => Err(OpaqueError::Nvdec(other.first().copied().unwrap_or(0))),
        }
    }

    /// All fields by upstream's names, with upstream's forms.
    pub fn json(&self) -> Map<String, Value> {
        let one = |(number, (_, bytes)): (&u16, &(u16, Vec<u8>))| {
            let name = name(*number, self.is_switch);
            (name.map_or_else(|| format!("field_{number}"), str::to_owned), self.value(*number, bytes))
        };
        self.fields.iter().map(one).collect()
    }

    fn value(&self, number: u16, bytes: &[u8]) -> Value {
        let text = || String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
        match (number, self.is_switch) {
            (field::VBIOS_VERSION, _) => self.vbios_version().unwrap_or_default().to_ascii_lowercase().into(),
            (3 | 15..=18 | 35, _) => text().into(),
            (11, _) => match bytes {
                [0xaa] => "enabled".into(),
                [0x55] => "disabled".into(),
                other => hex::encode(other).into(),
            },
            (12, _) => {
                let counts = bytes
                    .chunks_exact(4)
                    .filter_map(|four| four.first_chunk().copied())
                    .map(u32::from_le_bytes);
                (1_u32..).zip(counts).map(|(index, count)| (index.to_string(), Value::from(count))).collect()
            }
            (22, false) | (26, true) => bytes.chunks(8).map(hex::encode).map(Value::from).collect(),
            (34, _) => self.number(34).map_or(Value::Null, Value::from),
            (36, _) => match self.number(36) {
                Some(0) => "SPT".into(),
                Some(1) => "MPT".into(),
                Some(2) => "PPCIE".into(),
                _ => "unknown".into(),
            },
            _ => hex::encode(bytes).into(),
        }
    }
}

const fn word(low: u8, high: u8) -> u16 {
    u16::from_le_bytes([low, high])
}

fn name(number: u16, is_switch: bool) -> Option<&'static str> {
    Some(match (number, is_switch) {
        (1, _) => "cert_issuer_name",
        (2, _) => "cert_authority_key_identifier",
        (3, _) => "driver_version",
        (4, false) => "gpu_info",
        (5, _) => "id_sku",
        (6, _) => "vbios_version",
        (7, _) => "manufacturer_id",
        (8, _) => "tamper_detection",
        (9, _) => "smc",
        (10, _) => "vpr",
        (11, _) => "nvdec0_status",
        (12, _) => "measurement_count",
        (13, _) => "cpr_info",
        (14, _) => "board_id",
        (15, _) => "chip_sku",
        (16, _) => "chip_sku_mod",
        (17, _) => "project",
        (18, _) => "project_sku",
        (19, _) => "project_sku_mod",
        (20, _) => "fwid",
        (21, _) => "protected_pcie_status",
        (22, false) => "switch_pdi",
        (22, true) => "device_pdi",
        (23, _) => "floorswept_ports",
        (24, _) => "position_id",
        (25, _) => "lock_switch_status",
        (26, true) => "switch_gpu_pdis",
        (32, _) => "gpu_link_conn",
        (33, _) => "sys_enable_status",
        (34, _) => "opaque_data_version",
        (35, _) => "chip_info",
        (36, _) => "feature_flag",
        _ => return None,
    })
}
