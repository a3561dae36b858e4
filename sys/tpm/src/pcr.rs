//! Platform configuration registers: read, extend, allocate.

use std::collections::{BTreeMap, BTreeSet};

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::tpm::{PcrSelection, alg_id, algorithm};

use crate::command::{Command, Parameters};
use crate::{Hierarchy, Tpm, TpmError};

impl Tpm {
    /// TPM2_PCR_Read, repeated until all the registers are read, since a TPM gives at most eight at once.
    ///
    /// A register that the bank does not have is not in the answer; an absent bank gives an empty one.
    pub fn pcr_read(&mut self, bank: Algorithm, pcrs: &[u8]) -> Result<BTreeMap<u8, Digest>, TpmError> {
        let mut missing: BTreeSet<u8> = pcrs.iter().copied().collect();
        let mut values = BTreeMap::new();
        while !missing.is_empty() {
            let selection = PcrSelection { bank, pcrs: missing.clone() };
            let command = Command::new("TPM2_PCR_Read", 0x17e).u32(1).raw(&selection.to_bytes());
            let response = self.run(&command)?;
            let mut parameters = response.parameters();
            parameters.u32()?;
            let read = read_selection(&mut parameters, bank)?;
            let count = parameters.u32()?;
            let given: Vec<u8> = missing.intersection(&read).copied().collect();
            if given.len() != read.len() || usize::try_from(count) != Ok(given.len()) {
                return Err(parameters.malformed("it has other registers than asked"));
            }
            if given.is_empty() {
                break;
            }
            for pcr in given {
                let bytes = parameters.sized()?;
                let wrong = |_| parameters.malformed("a register has not the length of its bank's digests");
                values.insert(pcr, Digest::from_bytes(bank, bytes).map_err(wrong)?);
                missing.remove(&pcr);
            }
            parameters.end()?;
        }
        Ok(values)
    }

    /// TPM2_PCR_Extend, with one digest for each bank.
    pub fn pcr_extend(&mut self, pcr: u8, digests: &[Digest]) -> Result<(), TpmError> {
        let mut command = Command::new("TPM2_PCR_Extend", 0x182)
            .authorized(pcr.into())
            .u32(u32::try_from(digests.len()).unwrap_or(u32::MAX));
        for digest in digests {
            command = command.u16(alg_id(digest.algorithm())).raw(digest.as_bytes());
        }
        self.run(&command).map(drop)
    }

    /// TPM2_PCR_Allocate: all 24 registers of these banks and none of the others. Works after a restart.
    pub fn pcr_allocate(&mut self, banks: &[Algorithm]) -> Result<(), TpmError> {
        const ALL: [Algorithm; 4] =
            [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];
        let mut command = Command::new("TPM2_PCR_Allocate", 0x12b)
            .authorized(Hierarchy::Platform.handle())
            .u32(u32::try_from(ALL.len()).unwrap_or(4));
        for bank in ALL {
            let pcrs = if banks.contains(&bank) { (0..24).collect() } else { BTreeSet::new() };
            command = command.raw(&PcrSelection { bank, pcrs }.to_bytes());
        }
        let response = self.run(&command)?;
        let mut parameters = response.parameters();
        match parameters.u8()? {
            1 => Ok(()),
            _ => Err(parameters.malformed("the TPM cannot allocate these banks")),
        }
    }

    /// The banks that have registers (TPM2_GetCapability, `TPM_CAP_PCRS`).
    pub fn banks(&mut self) -> Result<Vec<Algorithm>, TpmError> {
        let command = Command::new("TPM2_GetCapability", 0x17a).u32(5).u32(0).u32(16);
        let response = self.run(&command)?;
        let mut parameters = response.parameters();
        parameters.u8()?;
        if parameters.u32()? != 5 {
            return Err(parameters.malformed("it has another capability than asked"));
        }
        let mut banks = Vec::new();
        for _ in 0..parameters.u32()?.min(16) {
            let bank = algorithm(parameters.u16()?);
            let octets = parameters.u8()?;
            if parameters.take(octets.into())?.iter().any(|&bits| bits != 0) {
                banks.extend(bank);
            }
        }
        Ok(banks)
    }
}

/// A `TPML_PCR_SELECTION` of the one bank, or an empty one.
fn read_selection(parameters: &mut Parameters<'_>, bank: Algorithm) -> Result<BTreeSet<u8>, TpmError> {
    let mut pcrs = BTreeSet::new();
    for _ in 0..parameters.u32()?.min(16) {
        let found = parameters.u16()?;
        let octets = parameters.u8()?.min(4);
        let select = parameters.take(octets.into())?;
        if found != alg_id(bank) {
            return Err(parameters.malformed("it has another bank than asked"));
        }
        let bit_of =
            |pcr: &u8| select.get(usize::from(pcr / 8)).is_some_and(|bits| bits >> (pcr % 8) & 1 == 1);
        pcrs.extend((0..octets.saturating_mul(8)).filter(bit_of));
    }
    Ok(pcrs)
}
