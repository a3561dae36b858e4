//! Event logs in the crypto-agile form (TCG PC Client PFP 1.05, section 10.2).

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::tpm::alg_id;

/// `EV_NO_ACTION`.
const NO_ACTION: u32 = 3;

/// A log that is being written.
pub struct EventLogBuilder {
    bank: Algorithm,
    bytes: Vec<u8>,
    registers: [Digest; 24],
}

impl EventLogBuilder {
    /// A log of one bank.
    pub fn new(bank: Algorithm) -> Self {
        let mut data = b"Spec ID Event03\0".to_vec();
        // Platform class; version 2.0, errata 0; size of UINTN.
        data.extend([0, 0, 0, 0, 0, 2, 0, 2]);
        data.extend(1u32.to_le_bytes());
        data.extend(alg_id(bank).to_le_bytes());
        data.extend(u16::try_from(bank.len()).expect("a digest's length").to_le_bytes());
        data.push(0);
        let mut bytes = 0u32.to_le_bytes().to_vec();
        bytes.extend(NO_ACTION.to_le_bytes());
        bytes.extend([0; 20]);
        bytes.extend(u32::try_from(data.len()).expect("a short header").to_le_bytes());
        bytes.extend(data);
        Self { bank, bytes, registers: [Digest::zero(bank); 24] }
    }

    /// Adds an event whose digest is the hash of its data.
    #[must_use]
    pub fn event(self, register: u8, kind: u32, data: &[u8]) -> Self {
        let digest = Digest::of(self.bank, data);
        self.event_with(register, kind, &digest, data)
    }

    /// Adds an event whose digest is of something else.
    #[must_use]
    pub fn event_with(mut self, register: u8, kind: u32, digest: &Digest, data: &[u8]) -> Self {
        self.bytes.extend(u32::from(register).to_le_bytes());
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(1u32.to_le_bytes());
        self.bytes.extend(alg_id(self.bank).to_le_bytes());
        self.bytes.extend_from_slice(digest.as_bytes());
        self.bytes.extend(u32::try_from(data.len()).expect("a short event").to_le_bytes());
        self.bytes.extend_from_slice(data);
        if kind != NO_ACTION {
            let value = &mut self.registers[usize::from(register)];
            *value = value.extend(digest.as_bytes());
        }
        self
    }

    /// The log's bytes, and the registers after it.
    pub fn finish(self) -> (Vec<u8>, [Digest; 24]) {
        (self.bytes, self.registers)
    }
}
