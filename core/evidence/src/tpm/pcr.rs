//! Selections of platform configuration registers, and the hash over their values.

use std::collections::{BTreeMap, BTreeSet};

use coffer_core_digest::{Algorithm, Digest, Hasher};

use super::TpmError;
use super::read::Reader;

/// How many registers a PC Client TPM has (TCG PC Client Platform TPM Profile, section 4.6).
pub const PCR_COUNT: u8 = 24;

/// `HASH_COUNT`: no TPM lists more banks than it has algorithms.
const MAX_SELECTIONS: u32 = 16;
/// `PCR_SELECT_MAX` is 3 on a PC Client TPM. Four octets still index within a `u8`.
const MAX_SELECT: u8 = 4;

/// `TPMS_PCR_SELECTION` (Part 2, section 10.6.2): some registers of one bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrSelection {
    /// The bank.
    pub bank: Algorithm,
    /// The registers.
    pub pcrs: BTreeSet<u8>,
}

impl PcrSelection {
    /// The structure's bytes, with three octets of bits.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut select = [0u8; 3];
        for (octet, bits) in select.iter_mut().enumerate() {
            for bit in 0..8u8 {
                let selected = self.pcrs.iter().any(|&pcr| usize::from(pcr / 8) == octet && pcr % 8 == bit);
                *bits |= u8::from(selected) << bit;
            }
        }
        let mut bytes = super::alg_id(self.bank).to_be_bytes().to_vec();
        bytes.push(3);
        bytes.extend(select);
        bytes
    }
}

/// Reads a `TPML_PCR_SELECTION` (Part 2, section 10.9.7).
pub(super) fn read_selections(reader: &mut Reader<'_>) -> Result<Vec<PcrSelection>, TpmError> {
    let count = reader.u32("pcrSelect.count")?;
    if count > MAX_SELECTIONS {
        return Err(reader.value("pcrSelect.count", "at most 16 banks", count.into()));
    }
    (0..count).map(|_| read_selection(reader)).collect()
}

fn read_selection(reader: &mut Reader<'_>) -> Result<PcrSelection, TpmError> {
    let bank = reader.hash("pcrSelect.hash")?;
    let octets = reader.u8("pcrSelect.sizeofSelect")?;
    if octets > MAX_SELECT {
        return Err(reader.value("pcrSelect.sizeofSelect", "at most 4 octets", octets.into()));
    }
    let select = reader.take("pcrSelect.pcrSelect", octets.into())?;
    let bit_of = |pcr: &u8| select.get(usize::from(pcr / 8)).is_some_and(|bits| bits >> (pcr % 8) & 1 == 1);
    let pcrs = (0..octets.saturating_mul(8)).filter(bit_of).collect();
    Ok(PcrSelection { bank, pcrs })
}

/// The hash over the selected registers' values, in the order of the quote: bank by bank, ascending.
///
/// SPEC: TPM 2.0 Library, Part 3, TPM2_Quote: hashed with the *signing scheme's* algorithm, whatever the bank.
/// Gives the number of the register that `values` lacks, if it lacks one.
pub fn pcr_digest(
    algorithm: Algorithm,
    selection: &PcrSelection,
    values: &BTreeMap<u8, Digest>,
) -> Result<Digest, u8> {
    let mut hasher = Hasher::new(algorithm);
    for pcr in &selection.pcrs {
        let value = values.get(pcr).filter(|value| value.algorithm() == selection.bank).ok_or(*pcr)?;
        hasher.update(value.as_bytes());
    }
    Ok(hasher.finish())
}
