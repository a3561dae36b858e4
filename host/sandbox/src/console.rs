//! The guest's serial console, as far as the host needs it: its end, for errors.
//!
//! TRUST: the guest writes it, so control characters are taken out before it reaches a terminal.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// How much of the console is looked at.
const WINDOW: u64 = 64 << 10;
/// How many lines an error shows.
const LINES: usize = 20;
/// The longest line that an error shows.
const LINE_LENGTH: usize = 200;

/// The last lines, without control characters.
pub(crate) fn tail(path: &Path) -> Vec<String> {
    let text = read_end(path);
    let lines: Vec<String> = text.split(['\n', '\r']).map(clean).filter(|l| !l.is_empty()).collect();
    lines.into_iter().rev().take(LINES).rev().collect()
}

/// The kernel's own word for why it panicked, if it did.
pub(crate) fn panic_reason(path: &Path) -> Option<String> {
    const MARK: &str = "Kernel panic - not syncing: ";
    let text = read_end(path);
    text.lines().find_map(|line| line.split_once(MARK).map(|(_, reason)| clean(reason)))
}

fn read_end(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let end = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(end.saturating_sub(WINDOW)))?;
        file.take(WINDOW).read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        // No console yet is an empty console.
        Err(_) => String::new(),
    }
}

/// Takes terminal sequences (ECMA-48, section 5.4) and control characters out.
fn clean(line: &str) -> String {
    let mut out = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next() == Some('[') {
                characters.by_ref().find(|c| ('@'..='~').contains(c));
            }
        } else if !character.is_control() {
            out.push(character);
        }
        if out.len() >= LINE_LENGTH {
            break;
        }
    }
    out.trim().to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn terminal_sequences_of_the_guest_do_not_reach_the_host() {
        assert_eq!(clean("\u{1b}[2J\u{1b}[01;01HBdsDxe: loading\u{7}\u{1b}c"), "BdsDxe: loading");
    }

    #[test]
    fn the_last_lines_and_the_panic_are_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut text: String = (0..50).map(|n| format!("line {n}\r\n")).collect();
        text.push_str("[    1.5] Kernel panic - not syncing: Attempted to kill init!\r\n");
        std::fs::write(file.path(), text).unwrap();
        let lines = tail(file.path());
        assert_eq!(lines.len(), LINES);
        assert_eq!(panic_reason(file.path()).as_deref(), Some("Attempted to kill init!"));
    }

    #[test]
    fn a_console_that_is_not_there_is_empty() {
        assert!(tail(Path::new("/nonexistent")).is_empty());
    }
}
