//! Runtime events: what the guest measures after its start, in the attestation agent's event log (AAEL).
//!
//! An entry is a TCG2 event of type `EV_EVENT_TAG` whose data is the tag "AAEL", a size and the text
//! `domain operation content`; its digest is the hash of that data (KBS reference, section "AAEL"). Entries stand
//! behind the firmware's log, as in `cc_eventlog`. Left out: who may write them, which is `guest/attest`.

use coffer_core_digest::{Algorithm, Digest};

use super::parse::SPEC_ID_CRYPTO_AGILE;
use super::{Event, EventType};
use crate::tpm::alg_id;

/// The tag of a runtime event ("AAEL" read as a big-endian number, written in little-endian).
pub const AAEL_TAG: u32 = 0x4141_454c;
/// The domain of events that confidential containers define.
pub const COCO_DOMAIN: &str = "github.com/confidential-containers";
/// The longest text of an event. An image reference and a digest are far shorter.
pub const MAX_RUNTIME_EVENT: usize = 8 << 10;
/// The measurement register of a CCEL that runtime events are extended into: RTMR3.
pub const RUNTIME_REGISTER: u32 = 4;
/// What ends a log that carries runtime events.
const END: [u8; 8] = [0xff; 8];

/// Why a text is not a runtime event.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RuntimeEventError {
    /// A word is empty, or has a character that would end it.
    #[error("the {0} of a runtime event is one word without spaces and control characters")]
    Word(&'static str),
    /// A line feed or another control character would begin a second event for whoever reads the log as lines.
    #[error("the content of a runtime event has no control characters")]
    Content,
    /// Longer than any honest event.
    #[error("the runtime event is too long: at most {MAX_RUNTIME_EVENT} bytes, found {0}")]
    TooLong(usize),
    /// There are not three parts.
    #[error("a runtime event is a domain, an operation and a content with spaces between them")]
    Parts,
}

/// A runtime event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeEvent {
    text: String,
    domain: usize,
    operation: usize,
}

impl RuntimeEvent {
    /// An event of these parts.
    pub fn new(domain: &str, operation: &str, content: &str) -> Result<Self, RuntimeEventError> {
        let plain = |what, word: &str| match word.is_empty()
            || word.chars().any(|c| c.is_whitespace() || c.is_control())
        {
            true => Err(RuntimeEventError::Word(what)),
            false => Ok(()),
        };
        plain("domain", domain)?;
        plain("operation", operation)?;
        if content.chars().any(char::is_control) {
            return Err(RuntimeEventError::Content);
        }
        let text = format!("{domain} {operation} {content}");
        match text.len() > MAX_RUNTIME_EVENT {
            true => Err(RuntimeEventError::TooLong(text.len())),
            false => Ok(Self { domain: domain.len(), operation: operation.len(), text }),
        }
    }

    /// The event that says that an image was pulled.
    pub fn image_pulled(image: &str, digest: &Digest) -> Result<Self, RuntimeEventError> {
        let content = serde_json::json!({"image": image, "digest": digest.to_string()});
        Self::new(COCO_DOMAIN, "PullImage", &content.to_string())
    }

    /// Reads the text of an event.
    pub fn parse(text: &str) -> Result<Self, RuntimeEventError> {
        let mut parts = text.splitn(3, ' ');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(domain), Some(operation), Some(content)) => Self::new(domain, operation, content),
            _ => Err(RuntimeEventError::Parts),
        }
    }

    /// The event as a log's event tells it, if it is one.
    pub fn of(event: &Event) -> Option<Self> {
        if event.kind != EventType::EVENT_TAG {
            return None;
        }
        let rest = event.data.strip_prefix(&AAEL_TAG.to_le_bytes())?;
        let (size, text) = rest.split_first_chunk::<4>()?;
        if usize::try_from(u32::from_le_bytes(*size)) != Ok(text.len()) {
            return None;
        }
        Self::parse(std::str::from_utf8(text).ok()?).ok()
    }

    /// Whose event it is.
    pub fn domain(&self) -> &str {
        self.text.get(..self.domain).unwrap_or_default()
    }

    /// What was done.
    pub fn operation(&self) -> &str {
        let start = self.domain.saturating_add(1);
        self.text.get(start..start.saturating_add(self.operation)).unwrap_or_default()
    }

    /// What it was done with.
    pub fn content(&self) -> &str {
        let start = self.domain.saturating_add(self.operation).saturating_add(2);
        self.text.get(start..).unwrap_or_default()
    }

    /// The three parts, with spaces between them.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The event in a log's register, with a digest for each of these banks.
    pub fn to_event(&self, register: u32, banks: &[Algorithm]) -> Event {
        let size = u32::try_from(self.text.len()).unwrap_or(u32::MAX).to_le_bytes();
        let data = [AAEL_TAG.to_le_bytes().as_slice(), &size, self.text.as_bytes()].concat();
        let digests = banks.iter().map(|bank| Digest::of(*bank, &data)).collect();
        Event { register, kind: EventType::EVENT_TAG, digests, data }
    }
}

/// The measurement register of a CCEL for a PCR (KBS reference, section "AAEL"). RTMR numbers are one lower.
pub const fn register_of_pcr(pcr: u32) -> u32 {
    match pcr {
        1 | 7 => 1,
        2..=6 => 2,
        8..=15 => 3,
        _ => RUNTIME_REGISTER,
    }
}

/// A log's entry in bytes: `TCG_PCR_EVENT2` with the event's digests.
pub fn entry_bytes(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.data.len().saturating_add(128));
    out.extend(event.register.to_le_bytes());
    out.extend(event.kind.0.to_le_bytes());
    out.extend(u32::try_from(event.digests.len()).unwrap_or(u32::MAX).to_le_bytes());
    for digest in &event.digests {
        out.extend(alg_id(digest.algorithm()).to_le_bytes());
        out.extend(digest.as_bytes());
    }
    out.extend(u32::try_from(event.data.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(&event.data);
    out
}

/// The log that evidence carries: the firmware's log without its padding, or a header alone where there is none, the
/// entries of runtime events, and the end mark.
pub fn with_runtime_events(firmware: Option<&[u8]>, entries: &[u8], bank: Algorithm) -> Vec<u8> {
    let mut log = match firmware {
        // Firmware reserves the log's place and fills it with 0xFF.
        Some(log) => {
            let end = log.iter().rposition(|byte| *byte != 0xff).map_or(0, |last| last.saturating_add(1));
            log.get(..end).unwrap_or(log).to_vec()
        }
        None => header(bank),
    };
    log.extend_from_slice(entries);
    log.extend_from_slice(&END);
    log
}

/// The first event of a crypto-agile log with one bank (PFP, section 10.4.5.1).
fn header(bank: Algorithm) -> Vec<u8> {
    let mut data = SPEC_ID_CRYPTO_AGILE.to_vec();
    // Platform class (client), version 2.0, errata, and the size of an UINTN in 32-bit words.
    data.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    data.extend(1u32.to_le_bytes());
    data.extend(alg_id(bank).to_le_bytes());
    data.extend(u16::try_from(bank.len()).unwrap_or(u16::MAX).to_le_bytes());
    data.push(0);
    let mut out = 1u32.to_le_bytes().to_vec();
    out.extend(EventType::NO_ACTION.0.to_le_bytes());
    out.extend([0; 20]);
    out.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(data);
    out
}

#[cfg(test)]
mod tests {
    use super::super::EventLog;
    use super::*;

    fn pulled() -> RuntimeEvent {
        RuntimeEvent::image_pulled("docker.io/library/web:1", &Digest::sha256(b"manifest")).unwrap()
    }

    #[test]
    fn the_parts_are_kept_and_the_digest_is_the_one_that_the_field_uses() {
        let event = RuntimeEvent::new("domain", "operation", "content with spaces").unwrap();
        assert_eq!(
            (event.domain(), event.operation(), event.content()),
            ("domain", "operation", "content with spaces")
        );
        assert_eq!(RuntimeEvent::parse(event.text()).unwrap(), event);
        // A public answer: the digest of the event "domain operation content".
        let event = RuntimeEvent::new("domain", "operation", "content").unwrap();
        let event = event.to_event(RUNTIME_REGISTER, &[Algorithm::Sha256, Algorithm::Sha384]);
        assert_eq!(
            event.digests[0].hex(),
            "46df8dacf00a07d34a83cdf56d7978697790787cf2ba1432ef7c38f22cd96351"
        );
        assert!(event.digests[1].hex().starts_with("dad5f0e226318ffa9839b75a472c6aa7"));
        assert!(event.is_covered(Algorithm::Sha384));
    }

    #[test]
    fn a_word_with_a_space_and_a_content_with_a_line_are_refused() {
        for (domain, operation, content, expected) in [
            ("", "x", "", RuntimeEventError::Word("domain")),
            ("a b", "x", "", RuntimeEventError::Word("domain")),
            ("a", "x\n", "", RuntimeEventError::Word("operation")),
            ("a", "x", "one\ntwo x y", RuntimeEventError::Content),
        ] {
            assert_eq!(RuntimeEvent::new(domain, operation, content), Err(expected));
        }
        let long = "x".repeat(MAX_RUNTIME_EVENT);
        assert!(matches!(RuntimeEvent::new("a", "b", &long), Err(RuntimeEventError::TooLong(_))));
        assert_eq!(RuntimeEvent::parse("one two"), Err(RuntimeEventError::Parts));
    }

    #[test]
    fn a_log_of_nothing_but_runtime_events_replays_to_their_register() {
        let bank = Algorithm::Sha384;
        let events = [pulled(), RuntimeEvent::new("lab", "start", "").unwrap()];
        let events = events.map(|event| event.to_event(RUNTIME_REGISTER, &[bank]));
        let entries = events.iter().flat_map(entry_bytes).collect::<Vec<_>>();
        let log = with_runtime_events(None, &entries, bank);
        let log = EventLog::parse(&log).unwrap();
        let expected = events.iter().fold(Digest::zero(bank), |register, event| {
            register.extend(event.digest(bank).unwrap().as_bytes())
        });
        assert_eq!(log.replay(bank).get(&RUNTIME_REGISTER), Some(&expected));
        let read: Vec<_> = log.events().iter().filter_map(RuntimeEvent::of).collect();
        assert_eq!(read[0], pulled());
        assert!(read[0].content().contains(r#""image":"docker.io/library/web:1""#));
    }

    #[test]
    fn padding_of_the_firmware_s_log_is_cut_and_its_events_stay() {
        let bank = Algorithm::Sha384;
        let first = pulled().to_event(1, &[bank]);
        let mut firmware = with_runtime_events(None, &entry_bytes(&first), bank);
        firmware.resize(64 << 10, 0xff);
        let second = pulled().to_event(RUNTIME_REGISTER, &[bank]);
        let log = with_runtime_events(Some(&firmware), &entry_bytes(&second), bank);
        assert!(log.len() < 1024);
        let log = EventLog::parse(&log).unwrap();
        assert_eq!(log.events()[1..], [first, second]);
    }

    #[test]
    fn an_event_with_a_wrong_size_or_tag_is_no_runtime_event() {
        let event = pulled().to_event(4, &[Algorithm::Sha256]);
        let changed = |change: fn(&mut Event)| {
            let mut event = event.clone();
            change(&mut event);
            RuntimeEvent::of(&event)
        };
        assert_eq!(changed(|_| ()), Some(pulled()));
        assert_eq!(changed(|event| event.data[0] ^= 1), None);
        assert_eq!(changed(|event| event.data[4] ^= 1), None);
        assert_eq!(changed(|event| event.data.truncate(6)), None);
        assert_eq!(changed(|event| event.kind = EventType::IPL), None);
        assert_eq!([0, 1, 2, 7, 8, 15, 17].map(register_of_pcr), [4, 1, 2, 1, 3, 3, 4]);
    }

    #[test]
    fn runtime_events_in_a_recorded_log_are_read() {
        let folder = std::env::var("COFFER_VECTORS")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
        let Ok(bytes) = std::fs::read(format!("{folder}/ccel/trustee_CCEL_AAEL_alibabacloud")) else {
            println!("skipped: no vectors");
            return;
        };
        let log = EventLog::parse(&bytes).unwrap();
        let bank = Algorithm::Sha384;
        let found: Vec<_> =
            log.events().iter().filter_map(|event| Some((RuntimeEvent::of(event)?, event))).collect();
        assert!(found.iter().any(|(event, _)| event.text() == "coco.com some-operation some-content"));
        for (read, event) in found {
            assert_eq!(read.to_event(event.register, &[bank]), *event);
        }
    }
}
