//! The command line that was measured, where its text can be believed.

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::eventlog::{Event, command_line_bytes, noted_command_line};

/// The text whose hash is `measured`. Linux measures the hash without the text; the guest's note of it is believed
/// only if it hashes to that.
pub(crate) fn believed<'a>(events: &'a [Event], bank: Algorithm, measured: &Digest) -> Option<&'a str> {
    let text = noted_command_line(events)?;
    (Digest::of(bank, &command_line_bytes(text)) == *measured).then_some(text)
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
