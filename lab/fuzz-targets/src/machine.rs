//! What a guest reads of its own machine and of its workload: runtime events, and the Nitro Security Module's responses.

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::eventlog::{
    EventLog, RUNTIME_REGISTER, RuntimeEvent, entry_bytes, with_runtime_events,
};
use coffer_sys_nsm::request;

/// A text as an event, and a log with it behind whatever the bytes are.
pub fn runtime_event(data: &[u8]) {
    const BANK: Algorithm = Algorithm::Sha384;
    // As entries of a log of their own, which is how an agent finds what an earlier one left.
    if let Ok(log) = EventLog::parse(&with_runtime_events(None, data, BANK)) {
        for event in log.events() {
            if let Some(read) = RuntimeEvent::of(event) {
                assert_eq!(read.to_event(event.register, &[]).data, event.data);
            }
        }
    }
    let Some(event) = std::str::from_utf8(data).ok().and_then(|text| RuntimeEvent::parse(text).ok()) else {
        return;
    };
    assert_eq!(format!("{} {} {}", event.domain(), event.operation(), event.content()), event.text());
    let written = event.to_event(RUNTIME_REGISTER, &[BANK]);
    let log = EventLog::parse(&with_runtime_events(None, &entry_bytes(&written), BANK)).unwrap();
    assert_eq!(log.events().last().and_then(RuntimeEvent::of), Some(event));
    let digest = written.digest(BANK).unwrap();
    let expected = Digest::zero(BANK).extend(digest.as_bytes());
    assert_eq!(log.replay(BANK).get(&RUNTIME_REGISTER), Some(&expected));
}

pub(crate) fn event_seeds() -> Vec<Vec<u8>> {
    let pulled = RuntimeEvent::image_pulled("registry/web:1", &Digest::sha256(b"manifest")).unwrap();
    let entry = entry_bytes(&pulled.to_event(RUNTIME_REGISTER, &[Algorithm::Sha384]));
    vec![pulled.text().into(), b"lab.example start ".into(), entry.repeat(2)]
}

/// Every response of the Nitro Security Module's.
pub fn nsm_response(data: &[u8]) {
    if let Ok(document) = request::document(data) {
        assert!(!document.is_empty() && document.len() < data.len());
        assert!(request::extended(data).is_err());
    }
    let _ = (request::extended(data), request::described(data), request::locked(data));
}

pub(crate) fn response_seeds() -> Vec<Vec<u8>> {
    vec![
        b"\xa1\x6bAttestation\xa1\x68document\x43\x01\x02\x03".into(),
        b"\xa1\x69ExtendPCR\xa1\x64data\x42\x00\x00".into(),
        b"\xa1\x6bDescribePCR\xa2\x64lock\xf5\x64data\x42\x00\x00".into(),
        b"\xa1\x65Error\x6cInvalidIndex".into(),
        b"\x67LockPCR".into(),
    ]
}
