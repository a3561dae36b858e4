//! TCG event logs, crypto-agile and SHA-1 only, parsed from hostile bytes and replayed.
//!
//! Layouts follow the TCG PC Client Platform Firmware Profile 1.06 (PFP), section 10. A log is a claim: it
//! becomes evidence only when its replay equals quoted registers, and then only digests are covered, not the
//! events' data. Left out: canonical event logs (CEL), which nothing of ours writes.

mod aael;
mod describe;
mod kind;
mod note;
mod parse;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use coffer_core_digest::{Algorithm, Digest};

pub use aael::{
    AAEL_TAG, COCO_DOMAIN, MAX_RUNTIME_EVENT, RUNTIME_REGISTER, RuntimeEvent, RuntimeEventError, entry_bytes,
    register_of_pcr, with_runtime_events,
};
pub use describe::{Description, LINUX_INITRD_TAG, LINUX_LOAD_OPTIONS_TAG, command_line_bytes, device_path};
pub use kind::EventType;
pub use note::{INIT_DATA_TAG, command_line_note, init_data_event, init_data_in_bank, noted_command_line};
pub use parse::{EventLogError, MAX_EVENTS, MAX_LOG};

/// One event of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The register index, as in PCR 9 (or MR index in a CCEL).
    pub register: u32,
    /// The event type (TCG PC Client PFP, table "Events").
    pub kind: EventType,
    /// One digest for each bank of the log whose algorithm is known.
    pub digests: Vec<Digest>,
    /// The event's data. Only what its digest covers can be believed.
    pub data: Vec<u8>,
}

impl Event {
    /// The digest in one bank.
    pub fn digest(&self, bank: Algorithm) -> Option<&Digest> {
        self.digests.iter().find(|digest| digest.algorithm() == bank)
    }

    /// Whether the event was extended into its register. `EV_NO_ACTION` never is (PFP, section 10.4.5).
    pub fn is_extended(&self) -> bool {
        self.kind != EventType::NO_ACTION
    }

    /// Whether the digest in `bank` is the hash of the event's data, which can then be believed.
    pub fn is_covered(&self, bank: Algorithm) -> bool {
        self.digest(bank).is_some_and(|digest| *digest == Digest::of(bank, &self.data))
    }
}

/// A bank of a log: the algorithm's TPM id, and the algorithm where it is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bank {
    /// `TPM_ALG_ID`.
    pub id: u16,
    /// Bytes in a digest, as the log's header gives it.
    pub digest_size: u16,
    /// The algorithm, or none where it is unknown: its digests are skipped.
    pub algorithm: Option<Algorithm>,
}

/// The two forms of logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `TCG_PCClientPCREvent`: one SHA-1 digest for each event.
    Sha1Only,
    /// `TCG_PCR_EVENT2`: one digest for each bank that the header names.
    CryptoAgile,
}

/// An event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    form: Form,
    banks: Vec<Bank>,
    startup_locality: u8,
    /// Whether register 0 was extended: from then on no locality can be told. Kept, so that a log made of such
    /// events costs no more than its length.
    begun: bool,
    events: Vec<Event>,
}

impl EventLog {
    /// Reads a log. What follows the last event may only be padding, all 0xFF or all zero.
    pub fn parse(bytes: &[u8]) -> Result<Self, EventLogError> {
        parse::parse(bytes)
    }

    /// The form.
    pub const fn form(&self) -> Form {
        self.form
    }

    /// The events in their order, with those that were not extended.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The events, taken out.
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// The banks that the log's header names.
    pub fn banks(&self) -> &[Bank] {
        &self.banks
    }

    /// Whether every extended event has a digest in this bank.
    pub fn has_bank(&self, bank: Algorithm) -> bool {
        self.banks.iter().any(|known| known.algorithm == Some(bank))
    }

    /// The locality that the TPM was started from, which register 0 begins with (PFP, section 10.4.5.3).
    pub const fn startup_locality(&self) -> u8 {
        self.startup_locality
    }

    /// The registers that the log extends, with the values it leads to. Empty for a bank that it lacks.
    pub fn replay(&self, bank: Algorithm) -> BTreeMap<u32, Digest> {
        if !self.has_bank(bank) {
            return BTreeMap::new();
        }
        replay(&self.events, bank, self.startup_locality)
    }

    /// The log's bytes with `event` behind them. Padding is cut off.
    ///
    /// `bytes` must be a log that [`EventLog::parse`] accepts, and the event must have a digest for each of its
    /// banks. The guest's agent adds in this way what it extends after the firmware and the kernel.
    pub fn append(bytes: &[u8], event: &Event) -> Result<Vec<u8>, EventLogError> {
        parse::append(bytes, event)
    }
}

/// The locality that the events say the TPM was started from; 0 where they do not.
pub fn startup_locality(events: &[Event]) -> u8 {
    events.iter().find_map(parse::startup_locality).unwrap_or(0)
}

/// Replays events into registers that were zero but for the locality in register 0.
pub fn replay(events: &[Event], bank: Algorithm, startup_locality: u8) -> BTreeMap<u32, Digest> {
    let mut registers = BTreeMap::new();
    for event in events.iter().filter(|event| event.is_extended()) {
        let Some(digest) = event.digest(bank) else { continue };
        let register = registers
            .entry(event.register)
            .or_insert_with(|| initial(bank, event.register, startup_locality));
        *register = register.extend(digest.as_bytes());
    }
    registers
}

/// A register before the first extension.
fn initial(bank: Algorithm, register: u32, startup_locality: u8) -> Digest {
    let mut bytes = vec![0; bank.len()];
    if register == 0
        && let Some(last) = bytes.last_mut()
    {
        *last = startup_locality;
    }
    Digest::from_bytes(bank, &bytes).unwrap_or_else(|_| Digest::zero(bank))
}

/// The set of registers that any event was extended into.
pub fn extended_registers(events: &[Event]) -> BTreeSet<u32> {
    events.iter().filter(|event| event.is_extended()).map(|event| event.register).collect()
}
