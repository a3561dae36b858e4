//! Processor types as launchers name them, and the signature that a processor finds in RDX when it begins.
//!
//! SPEC: AMD CPUID Specification (25481), Fn0000_0001_EAX; QEMU, target/i386/cpu.c (`builtin_x86_defs`).

use std::fmt;
use std::str::FromStr;

use crate::LaunchError;

/// Name, family, model and stepping.
const TYPES: &[(&str, u32, u32, u32)] = &[
    ("EPYC", 0x17, 1, 2),
    ("EPYC-IBPB", 0x17, 1, 2),
    ("EPYC-Rome", 0x17, 49, 0),
    ("EPYC-Milan", 0x19, 1, 1),
    ("EPYC-Genoa", 0x19, 17, 0),
    ("EPYC-Turin", 0x1a, 0, 0),
];

/// A processor type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuType {
    name: String,
    signature: u32,
}

impl CpuType {
    /// The type of a processor by its family, model and stepping, as `CPUID` tells them.
    pub fn of(family: u8, model: u8, stepping: u8) -> Self {
        let (family, model, stepping) = (u32::from(family), u32::from(model), u32::from(stepping));
        Self { name: format!("{family}/{model}/{stepping}"), signature: signature(family, model, stepping) }
    }

    /// The types that have names of their own.
    pub fn known() -> impl Iterator<Item = Self> {
        TYPES.iter().map(|(name, family, model, stepping)| Self {
            name: (*name).to_owned(),
            signature: signature(*family, *model, *stepping),
        })
    }

    /// The name, as in `EPYC-Milan`.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn signature(&self) -> u32 {
        self.signature
    }

    /// Whether guest addresses have 52 bits: from Genoa on.
    pub(crate) const fn has_wide_addresses(&self) -> bool {
        // Family 19h below model 10h is Milan; the extended family is counted from 0fh.
        self.signature >= signature(0x19, 0x10, 0)
    }
}

impl fmt::Display for CpuType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for CpuType {
    type Err = LaunchError;

    /// Reads `EPYC-Milan`, `EPYC-Milan-v2`, or `25/1/1` for family, model and stepping.
    fn from_str(text: &str) -> Result<Self, LaunchError> {
        let numbers: Result<Vec<u8>, _> = text.split('/').map(str::parse).collect();
        if let Ok([family, model, stepping]) = numbers.as_deref() {
            return Ok(Self::of(*family, *model, *stepping));
        }
        // Versions of a type differ in features, not in the signature.
        let plain = match text.rsplit_once("-v") {
            Some((plain, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => plain,
            _ => text,
        };
        Self::known()
            .find(|known| known.name.eq_ignore_ascii_case(plain))
            .map(|known| Self { name: text.to_owned(), ..known })
            .ok_or_else(|| LaunchError::CpuType {
                found: text.chars().take(64).collect(),
                known: TYPES.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", "),
            })
    }
}

const fn signature(family: u32, model: u32, stepping: u32) -> u32 {
    let (low, high) = if family > 0xf { (0xf, family.saturating_sub(0xf) & 0xff) } else { (family, 0) };
    (high << 20) | (((model >> 4) & 0xf) << 16) | (low << 8) | ((model & 0xf) << 4) | (stepping & 0xf)
}
