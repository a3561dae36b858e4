//! What a report says, by the names that upstream's policies use.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Algorithm;
use coffer_core_evidence::eventlog::Event;
use serde_json::{Map, Value, json};

use crate::report::Report;
use crate::wire::CsvEvidence;

pub(crate) fn json(evidence: &CsvEvidence, report: &Report, events: Option<&[Event]>) -> Map<String, Value> {
    let policy = report.policy;
    let mut claims = Map::new();
    let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    say("version", report.version.name().into());
    say(
        "policy",
        json!({
            "nodbg": policy.bits(0, 1),
            "noks": policy.bits(1, 1),
            "es": policy.bits(2, 1),
            "nosend": policy.bits(3, 1),
            "domain": policy.bits(4, 1),
            "csv": policy.bits(5, 1),
            "csv3": policy.bits(6, 1),
            "asid_reuse": policy.bits(7, 1),
            "hsk_version": policy.bits(8, 4),
            "cek_version": policy.bits(12, 4),
            "api_major": policy.bits(16, 8),
            "api_minor": policy.bits(24, 8),
        }),
    );
    say("user_pubkey_digest", hex::encode(report.user_pubkey_digest).into());
    say("vm_id", hex::encode(report.vm_id).into());
    say("vm_version", hex::encode(report.vm_version).into());
    say("report_data", hex::encode(report.report_data).into());
    say("mnonce", hex::encode(report.mnonce).into());
    say("measure", hex::encode(report.measure).into());
    say("sig_usage", hex::encode(report.sig_usage.to_le_bytes()).into());
    say("sig_algo", hex::encode(report.sig_algo.to_le_bytes()).into());
    say("serial_number", evidence.serial.clone().into());
    match &report.extension {
        None => {
            say("anonce", hex::encode(report.anonce.to_le_bytes()).into());
        }
        Some(extension) => {
            say("build", extension.build.into());
            say("rtmr_version", extension.rtmr_version.into());
            say("reserved0", hex::encode(extension.reserved0).into());
            for (number, value) in (0_u32..).zip(&extension.rtmr) {
                say(&format!("rtmr{number}"), hex::encode(value).into());
            }
            say("reserved1", hex::encode(&extension.reserved1).into());
        }
    }
    if let Some(events) = events {
        say("uefi_event_logs", events.iter().map(event).collect());
    }
    claims
}

/// One event in the form of upstream's claims.
fn event(event: &Event) -> Value {
    let digest = event.digest(Algorithm::Sm3).map(|digest| digest.hex());
    json!({
        "index": event.register,
        "type_name": event.kind.name().map_or_else(|| format!("{:#x}", event.kind.0), str::to_owned),
        "digests": digest.map(|digest| json!({"alg": "SM3", "digest": digest})).into_iter().collect::<Vec<_>>(),
        "event": STANDARD.encode(&event.data),
        "digest_matches_event": event.is_covered(Algorithm::Sm3),
    })
}
