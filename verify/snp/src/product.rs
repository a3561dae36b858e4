//! Processors by the names under which AMD certifies their keys.

use coffer_core_evidence::snp::Cpuid;

/// The product of a processor (AMD 57230, section 3.2.1): Bergamo and Siena are certified as Genoa.
pub const fn product_of(cpuid: Cpuid) -> Option<&'static str> {
    match (cpuid.family, cpuid.model) {
        (0x19, 0x00..=0x0f) => Some("Milan"),
        (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some("Genoa"),
        (0x1a, 0x00..=0x1f) => Some("Turin"),
        (0x1a, 0x50..=0x5f | 0x90..=0xaf | 0xc0..=0xcf) => Some("Venice"),
        _ => None,
    }
}

/// The product in a certificate's `productName`, which may end with a stepping, as in `Milan-B0`.
pub(crate) fn line(name: &str) -> &str {
    name.split_once('-').map_or(name, |(line, _)| line)
}
