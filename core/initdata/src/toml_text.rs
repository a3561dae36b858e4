//! TOML as text: reading with short errors, and writing strings that read back the same.

use serde::de::DeserializeOwned;

pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| {
        let line =
            error.span().and_then(|span| text.get(..span.start)).map(|before| before.lines().count().max(1));
        let message: String = error.message().chars().take(200).collect();
        line.map_or(message.clone(), |line| format!("line {line}: {message}"))
    })
}

/// A basic string on one line. Quotes and everything that is not printable is escaped; three apostrophes are too,
/// because the text may itself stand in a literal string.
pub(crate) fn basic(text: &str) -> String {
    format!("\"{}\"", escaped(text, false))
}

/// A basic string over several lines.
pub(crate) fn lines(text: &str) -> String {
    format!("\"\"\"\n{}\"\"\"", escaped(text, true))
}

/// A list of basic strings on one line.
pub(crate) fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| basic(item)).collect();
    format!("[{}]", items.join(", "))
}

fn escaped(text: &str, multiline: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let apostrophes = text.contains("'''");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' if multiline => out.push('\n'),
            '\n' => out.push_str("\\n"),
            '\'' if apostrophes => out.push_str("\\u0027"),
            other if other.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(other))),
            other => out.push(other),
        }
    }
    out
}
