//! What proven evidence says, by names that policies and tokens use.

use coffer_core_digest::Algorithm;
use coffer_core_evidence::eventlog::Event;
use coffer_core_evidence::tpm::Attest;
use coffer_verify_api::Question;
use serde_json::{Map, Value, json};

use crate::quote::Registers;

pub(crate) fn json(
    attest: &Attest,
    bank: Algorithm,
    registers: &Registers,
    events: Option<&[Event]>,
    question: &Question<'_>,
    hardware: bool,
) -> Map<String, Value> {
    let mut claims = Map::new();
    let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    say("hardware", hardware.into());
    say("report_data", hex::encode(&attest.extra_data).into());
    say(
        "quote",
        json!({
            "bank": bank.name(),
            "signer": hex::encode(&attest.qualified_signer),
            "clock": attest.clock.clock,
            "reset_count": attest.clock.reset_count,
            "restart_count": attest.clock.restart_count,
            "safe": attest.clock.safe == 1,
            "firmware_version": format!("{:#x}", attest.firmware_version),
        }),
    );
    for (pcr, value) in registers {
        say(&format!("pcr{pcr:02}"), value.hex().into());
    }
    if let Some(digest) = question.init_data {
        say("init_data", digest.hex().into());
    }
    if let Some(events) = events {
        let event = |event: &Event| {
            json!({
                "register": event.register,
                "type": event.kind.name().map_or_else(|| format!("{:#x}", event.kind.0), str::to_owned),
                "digest": event.digest(bank).map(|digest| digest.hex()),
            })
        };
        say("event_log", events.iter().map(event).collect());
    }
    claims
}
