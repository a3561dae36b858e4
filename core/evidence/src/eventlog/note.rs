//! What the guest's agent adds to the log: the init-data that it extended, and a note of its command line.
//!
//! Linux's EFI stub extends the command line's digest without its text. The note gives the text in an event
//! that is not extended. It is believed only where its hash is the measured one.

use coffer_core_digest::{Algorithm, Digest};

use super::{Event, EventType};

/// The tag of the event by which the agent extends the init-data's digest into register 8 ("CFFR").
pub const INIT_DATA_TAG: u32 = 0x5246_4643;
/// The register for init-data.
const INIT_DATA_REGISTER: u32 = 8;
const COMMAND_LINE_NOTE: &[u8] = b"coffer command line\0";

/// What is extended into register 8 of a bank for init-data of this digest: the digest itself, cut to the bank's
/// length or padded with zeros at its right (KBS protocol, init-data). Guest, prediction and judges all ask here.
pub fn init_data_in_bank(digest: &Digest, bank: Algorithm) -> Digest {
    let mut bytes = digest.as_bytes().to_vec();
    bytes.resize(bank.len(), 0);
    // It has the bank's length, so it is a digest of the bank.
    Digest::from_bytes(bank, &bytes).unwrap_or(Digest::zero(bank))
}

/// The event that says that `digest`, the init-data's, was extended into register 8.
///
/// `banks` are the banks that the TPM has.
pub fn init_data_event(digest: &Digest, banks: &[Algorithm]) -> Event {
    let digests = banks.iter().map(|bank| init_data_in_bank(digest, *bank)).collect();
    let text = digest.to_string().into_bytes();
    let size = u32::try_from(text.len()).unwrap_or(0).to_le_bytes();
    let data = [INIT_DATA_TAG.to_le_bytes().as_slice(), &size, &text].concat();
    Event { register: INIT_DATA_REGISTER, kind: EventType::EVENT_TAG, digests, data }
}

/// An event, not extended, that tells the kernel's command line as `/proc/cmdline` shows it.
pub fn command_line_note(text: &str) -> Event {
    let data = [COMMAND_LINE_NOTE, text.trim_end_matches('\n').as_bytes()].concat();
    Event { register: 9, kind: EventType::NO_ACTION, digests: Vec::new(), data }
}

/// The command line's text that the log notes. The caller must compare its hash with a measured event's digest.
pub fn noted_command_line(events: &[Event]) -> Option<&str> {
    events
        .iter()
        .filter(|event| event.kind == EventType::NO_ACTION)
        .find_map(|event| event.data.strip_prefix(COMMAND_LINE_NOTE))
        .and_then(|text| std::str::from_utf8(text).ok())
}
