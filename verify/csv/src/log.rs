//! The event log against the registers of the second layout.

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::eventlog::{Event, EventLog};
use coffer_verify_api::Check;

use crate::report::Report;

const SOURCE: &str = "UEFI 2.10, section 38 (confidential computing); Hygon CSV, registers";

/// The events, if they lead to the registers. Register n of the log is register n of the report; the first register
/// equals the measurement at launch and is never extended.
pub(crate) fn replay(log: Option<&[u8]>, report: &Report) -> (Option<Vec<Event>>, Vec<Check>) {
    const FORMAT: &str = "csv.event-log.format";
    const REPLAY: &str = "csv.event-log.replay";
    let Some(bytes) = log else { return (None, Vec::new()) };
    let Some(extension) = &report.extension else {
        let unbound = Check::informational(
            "csv.event-log.unbound",
            "The report has no registers, so the event log is the attester's word and is not used",
        );
        return (None, vec![unbound.source(SOURCE)]);
    };
    let log = match EventLog::parse(bytes) {
        Ok(log) => log,
        Err(cause) => {
            let failed = Check::failed(FORMAT, "The event log cannot be read").found(cause.to_string());
            return (None, vec![failed.source(SOURCE)]);
        }
    };
    let mut checks = vec![Check::passed(FORMAT, "The event log can be read").source(SOURCE)];
    let replayed = log.replay(Algorithm::Sm3);
    let zero = Digest::zero(Algorithm::Sm3);
    for (number, value) in (0_u32..).zip(&extension.rtmr).skip(1) {
        let reached = replayed.get(&number).unwrap_or(&zero).hex();
        let found = hex::encode(value);
        if reached != found {
            checks.push(
                Check::failed(REPLAY, format!("The event log does not lead to register {number}"))
                    .expected(found)
                    .found(reached)
                    .source(SOURCE)
                    .remedy("send the complete log of this boot"),
            );
        }
    }
    let stray = |register: &&u32| !(1..=4).contains(*register);
    if let Some(register) = replayed.keys().find(stray) {
        let failed =
            Check::failed(REPLAY, "The event log extends a register that the platform does not have");
        checks.push(failed.expected("1 to 4").found(register.to_string()).source(SOURCE));
    }
    if log.events().iter().any(Event::is_extended) && !log.has_bank(Algorithm::Sm3) {
        checks.push(Check::failed(REPLAY, "The event log has no digests in SM3").source(SOURCE));
    }
    match checks.iter().any(Check::has_failed) {
        true => (None, checks),
        false => {
            checks
                .push(Check::passed(REPLAY, "The event log leads to the report's registers").source(SOURCE));
            (Some(log.into_events()), checks)
        }
    }
}
