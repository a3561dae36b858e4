//! The event log: believed only as far as it replays to the quoted registers.

use coffer_core_evidence::eventlog::{Event, EventLog};
use coffer_verify_api::Check;

use crate::quote::Registers;

const SOURCE: &str = "TCG PC Client PFP 1.05, section 10";
const CODE: &str = "tpm.event-log.replay";

/// Of the log of a quote that is refused for another reason.
pub(crate) fn not_read() -> Check {
    Check::unavailable(CODE, "Not told, because the quote is refused").source(SOURCE)
}

/// The events that the quote proves, if a log was sent and replays.
pub(crate) fn replay(
    bytes: Option<&[u8]>,
    registers: Option<&Registers>,
) -> (Option<Vec<Event>>, Option<Check>) {
    let Some(bytes) = bytes else { return (None, None) };
    let log = match EventLog::parse(bytes) {
        Ok(log) => log,
        Err(cause) => {
            let failed = Check::failed("tpm.event-log.format", "The event log cannot be read");
            return (None, Some(failed.found(cause.to_string()).source(SOURCE)));
        }
    };
    let Some((registers, bank)) =
        registers.and_then(|registers| Some((registers, registers.values().next()?.algorithm())))
    else {
        let unknown = Check::unavailable(CODE, "Not told, because no register is proven").source(SOURCE);
        return (None, Some(unknown));
    };
    if !log.has_bank(bank) {
        let failed = Check::failed(CODE, "The event log has no digests of the quoted bank")
            .expected(bank.name())
            .source(SOURCE)
            .remedy("send the firmware's log of the quoted bank, or quote a bank that the log has");
        return (None, Some(failed));
    }

    let mut compared = Vec::new();
    let mut differing = Vec::new();
    for (register, replayed) in log.replay(bank) {
        let Some(quoted) = u8::try_from(register).ok().and_then(|pcr| registers.get(&pcr)) else { continue };
        let title = match *quoted == replayed {
            true => format!("PCR {register} is what its events lead to"),
            false => {
                differing.push(register.to_string());
                format!("PCR {register} is not what its events lead to")
            }
        };
        compared.push(Check::equal(CODE, title, &quoted.to_string(), &replayed.to_string()));
    }
    let title = match differing.is_empty() {
        true => "The event log replays to the quoted registers".to_owned(),
        false => format!("The event log does not replay to the quoted PCR {}", differing.join(", ")),
    };
    let group = Check::group(CODE, title, compared).source(SOURCE);
    let proven = !group.has_failed();
    // What is not extended proves nothing by itself; whoever uses it compares it with what is (the startup locality
    // with PCR 0, the note of the command line with its measured hash).
    let believed = |event: &Event| {
        !event.is_extended() || u8::try_from(event.register).is_ok_and(|pcr| registers.contains_key(&pcr))
    };
    // The quote says nothing of the digests that the log has for other banks.
    let proven_part = |mut event: Event| {
        event.digests.retain(|digest| digest.algorithm() == bank);
        event
    };
    let events = proven.then(|| log.into_events().into_iter().filter(believed).map(proven_part).collect());
    (events, Some(group))
}
