//! The event log (CCEL, with what the agent measured behind it): believed only as far as it replays.
//!
//! Register 1 to 4 of the log are RTMR0 to RTMR3 (UEFI 2.11, section 38, "Vendor Specific Information").

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::dcap::TdReport;
use coffer_core_evidence::eventlog::{Event, EventLog};
use coffer_verify_api::Check;

const SOURCE: &str = "UEFI 2.11, section 38; TCG PC Client PFP 1.06, section 10";
const BANK: Algorithm = Algorithm::Sha384;

/// Of the log of a quote that is refused for another reason.
pub(crate) fn not_read(prefix: &str) -> Check {
    Check::unavailable(format!("{prefix}.event-log.replay"), "Not told, because the quote is refused")
        .source(SOURCE)
}

/// The events, if the log replays to all four registers.
///
/// A register that was extended must be explained by the log: a log that leaves events out proves nothing of those
/// that it has, since policies ask what is *not* in it, too.
pub(crate) fn replay(prefix: &str, bytes: &[u8], report: &TdReport) -> (Option<Vec<Event>>, Check) {
    let log = match EventLog::parse(bytes) {
        Ok(log) => log,
        Err(cause) => {
            let failed = Check::failed(format!("{prefix}.event-log.format"), "The event log cannot be read");
            return (None, failed.found(cause.to_string()).source(SOURCE));
        }
    };
    let code = format!("{prefix}.event-log.replay");
    if !log.has_bank(BANK) {
        let failed = Check::failed(code, "The event log has no digests of the registers' algorithm");
        return (None, failed.expected(BANK.name()).source(SOURCE));
    }
    let replayed = log.replay(BANK);
    let mut compared = Vec::new();
    let mut differing = Vec::new();
    for ((register, quoted), index) in report.rtmrs.iter().enumerate().zip(1_u32..) {
        let led = replayed.get(&index).copied().unwrap_or(Digest::zero(BANK));
        let (quoted, led) = (hex::encode(quoted), led.hex());
        let title = match (quoted == led, replayed.contains_key(&index)) {
            (true, _) => format!("RTMR{register} is what its events lead to"),
            (false, true) => format!("RTMR{register} is not what its events lead to"),
            (false, false) => format!("RTMR{register} was extended, and the log has no event of it"),
        };
        if quoted != led {
            differing.push(format!("RTMR{register}"));
        }
        compared.push(Check::equal(code.clone(), title, &quoted, &led));
    }
    let title = match differing.is_empty() {
        true => "The event log replays to the quoted registers".to_owned(),
        false => format!("The event log does not replay to the quoted {}", differing.join(", ")),
    };
    let group = Check::group(code, title, compared).source(SOURCE);
    let group = match differing.is_empty() {
        true => group,
        false => group.remedy("send the whole log of this boot: the firmware's, and the agent's behind it"),
    };
    let proven = !group.has_failed();
    // No other register is quoted, so what was extended elsewhere is not proven. What is not extended at all proves
    // nothing by itself either; whoever uses it compares it with what is.
    let believed = |event: &Event| !event.is_extended() || (1..=4).contains(&event.register);
    let proven_part = |mut event: Event| {
        event.digests.retain(|digest| digest.algorithm() == BANK);
        event
    };
    let events = proven.then(|| log.into_events().into_iter().filter(believed).map(proven_part).collect());
    (events, group)
}
