//! TCG event logs, crypto-agile and SHA-1 only, parsed from hostile bytes and replayed.

use coffer_core_digest::Digest;

/// One event of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The register index, as in PCR 9 (or MR index in a CCEL).
    pub register: u32,
    /// The event type (TCG PC Client PFP, table "Events").
    pub kind: EventType,
    /// One digest for each bank of the log.
    pub digests: Vec<Digest>,
    /// The event's data. Only what its digest covers can be believed.
    pub data: Vec<u8>,
}

/// An event type by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(pub u32);
