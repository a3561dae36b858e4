//! What a person or a program reads: text with a tree, or JSON.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use clap::ValueEnum;
use coffer_verify_api::{Check, Outcome, Status, Verdict};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// How results are written to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a person.
    #[default]
    Text,
    /// For a program: one JSON value.
    Json,
}

/// How much of a verdict is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Every check.
    All,
    /// Every check, but what is deep inside something that passed is only counted.
    Usual,
    /// What failed.
    Failed,
}

/// Writes results in the chosen form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    colour: bool,
}

impl Output {
    /// Colour only on a terminal, and never with `NO_COLOR`.
    pub(crate) fn new(format: Format) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { format, colour }
    }

    /// Writes `value` as JSON, or what `text` makes of it.
    pub(crate) fn show<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        let mut out = std::io::stdout().lock();
        match self.format {
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(value)?)?,
            Format::Text => write!(out, "{}", ending_in_newline(text(value)))?,
        }
        Ok(())
    }

    /// Draws a verdict.
    pub(crate) fn verdict(self, verdict: &Verdict, detail: Detail) -> String {
        let mut text = String::new();
        let status = match verdict.status {
            Status::Affirming => self.paint("32", "affirming"),
            Status::Warning => self.paint("33", "warning"),
            Status::Contraindicated => self.paint("31", "contraindicated"),
            Status::None => self.paint("33", "not judged"),
        };
        // Of evidence that is not genuine nothing is known, not even that.
        let by = match (verdict.hardware, verdict.claims.is_empty()) {
            (true, _) => " (hardware)",
            (false, true) => "",
            (false, false) => " (software, which protects nothing from its host)",
        };
        text.push_str(&format!("{} evidence{by}: {status}\n", verdict.tee));
        self.checks(&mut text, &verdict.checks, "", detail);
        text
    }

    fn checks(self, text: &mut String, checks: &[Check], indent: &str, detail: Detail) {
        let shown: Vec<&Check> =
            checks.iter().filter(|check| detail != Detail::Failed || check.has_failed()).collect();
        for (index, check) in shown.iter().enumerate() {
            let last = index + 1 == shown.len();
            let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let mark = match check.outcome {
                Outcome::Passed => self.paint("32", "✓"),
                Outcome::Warning => self.paint("33", "!"),
                Outcome::Failed => self.paint("31", "✗"),
                Outcome::Unavailable => self.paint("33", "?"),
                Outcome::Informational => self.paint("36", "i"),
            };
            text.push_str(&format!("{indent}{branch}{mark} {}", check.title));
            let counted = detail == Detail::Usual && !indent.is_empty() && check.outcome == Outcome::Passed;
            if counted && !check.children.is_empty() {
                text.push_str(&format!("  ({} checks)", check.children.len()));
            }
            if check.outcome != Outcome::Passed {
                text.push_str(&format!("  [{}]", check.code));
            }
            text.push('\n');
            let deeper = format!("{indent}{below}");
            if check.outcome != Outcome::Passed {
                let lines =
                    [("expected", &check.expected), ("found", &check.found), ("remedy", &check.remedy)];
                for (name, value) in lines {
                    if let Some(value) = value {
                        text.push_str(&format!("{deeper}    {name:<9}{value}\n"));
                    }
                }
            }
            if !counted {
                self.checks(text, &check.children, &deeper, detail);
            }
        }
    }

    pub(crate) fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }
}

/// Writes text that has one form only.
pub(crate) fn plain(text: &str) -> Result<()> {
    Ok(std::io::stdout().lock().write_all(ending_in_newline(text.to_owned()).as_bytes())?)
}

fn ending_in_newline(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Progress on standard error: a bar where the total is known, a spinner where it is not, nothing off a terminal.
pub(crate) fn progress(what: &str, total: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let form = match total {
        Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes}",
        None => "{spinner} {msg} {elapsed}",
    };
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style);
    }
    bar.set_message(what.to_string());
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar
}

/// A table with a heading, columns as wide as their longest cell.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(heading.get(column).map(|name| name.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    let mut lines = vec![line(heading.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_shows_code_expected_found_and_remedy() {
        let check = Check::failed("measurement.command-line", "The command line differs")
            .expected("quiet")
            .found("quiet debug")
            .remedy("Measure again.");
        let mut text = String::new();
        Output { format: Format::Text, colour: false }.checks(&mut text, &[check], "", Detail::All);
        for part in [
            "✗ The command line differs  [measurement.command-line]",
            "expected quiet",
            "found    quiet debug",
            "remedy   Measure again.",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn what_passed_is_left_out_of_a_refusal() {
        let checks =
            [Check::passed("a", "fine"), Check::group("b", "group", vec![Check::failed("c", "wrong")])];
        let mut text = String::new();
        Output { format: Format::Text, colour: false }.checks(&mut text, &checks, "", Detail::Failed);
        assert!(text.contains("wrong") && !text.contains("fine"), "{text}");
    }

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let rows = [vec!["a".to_string(), "1".to_string()], vec!["long".to_string(), "2".to_string()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME  N\na     1\nlong  2");
    }
}
