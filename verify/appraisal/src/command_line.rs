//! The command line that was measured, where its text can be believed.

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::eventlog::{Event, command_line_bytes, noted_command_line};

/// The text whose hash was measured by `event`. Some loaders write it into the event; Linux writes only its hash,
/// and the guest notes the text beside it. Either is believed only if it hashes to what was measured.
pub(crate) fn believed(event: &Event, events: &[Event], bank: Algorithm) -> Option<String> {
    let measured = event.digest(bank)?;
    let covers = |text: &String| Digest::of(bank, &command_line_bytes(text)) == *measured;
    let noted = noted_command_line(events).map(str::to_owned);
    own_text(&event.data).into_iter().chain(noted).find(covers)
}

/// The text that an event's data is, in UTF-16 with a NUL at the end.
pub(crate) fn own_text(data: &[u8]) -> Option<String> {
    let (units, odd) = data.as_chunks::<2>();
    let units: Vec<u16> = units.iter().copied().map(u16::from_le_bytes).collect();
    let (0, text) = units.split_last()? else { return None };
    let text = String::from_utf16(text).ok()?;
    let printable = !text.is_empty() && !text.chars().any(char::is_control);
    (odd.is_empty() && printable).then_some(text)
}

/// The first word in which two command lines differ.
pub(crate) fn first_difference(expected: &str, found: &str) -> Option<String> {
    let mut expected = expected.split(' ');
    let mut found = found.split(' ');
    loop {
        return Some(match (expected.next(), found.next()) {
            (None, None) => return None,
            (Some(own), Some(other)) if own == other => continue,
            (Some(own), Some(other)) => {
                format!("the first word that differs is `{other}` instead of `{own}`")
            }
            (None, Some(other)) => format!("`{other}` was added"),
            (Some(own), None) => format!("`{own}` is missing"),
        });
    }
}
