//! What a person sees of work that takes more than a moment.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// Work that ends before this says nothing.
const QUIET: Duration = Duration::from_secs(1);

/// Told how much was done; passes on at most one word a second, and none within the first.
pub struct Progress<'a> {
    what: &'static str,
    last: Instant,
    tell: Box<dyn FnMut(&str) + Send + 'a>,
}

impl<'a> Progress<'a> {
    /// `tell` gets lines for a person.
    pub fn new(what: &'static str, tell: impl FnMut(&str) + Send + 'a) -> Self {
        Self { what, last: Instant::now(), tell: Box::new(tell) }
    }

    /// Tells nobody.
    pub fn silent() -> Self {
        Self::new("", |_| ())
    }

    /// So many of `unit` were done.
    pub fn done(&mut self, so_far: u64, unit: &str) {
        if self.last.elapsed() >= QUIET {
            self.last = Instant::now();
            (self.tell)(&format!("{}: {so_far} {unit}", self.what));
        }
    }
}

/// Counts what goes through.
pub(crate) struct Counting<'a, 'b, S> {
    pub(crate) stream: S,
    pub(crate) bytes: u64,
    pub(crate) progress: &'a mut Progress<'b>,
}

impl<'a, 'b, S> Counting<'a, 'b, S> {
    pub(crate) fn new(stream: S, progress: &'a mut Progress<'b>) -> Self {
        Self { stream, bytes: 0, progress }
    }

    fn count(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.progress.done(self.bytes >> 20, "MiB");
    }
}

impl<S: Write> Write for Counting<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes)?;
        self.count(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl<S: Read> Read for Counting<'_, '_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(bytes)?;
        self.count(read);
        Ok(read)
    }
}

/// A result for a person: its members one a line, those of a list one after the other; what is not there is left out.
pub fn to_text(value: &serde_json::Value) -> String {
    use serde_json::Value;
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match value {
        Value::Array(items) => items.iter().map(to_text).collect::<Vec<_>>().join("\n\n"),
        Value::Object(members) => {
            let lines = members.iter().filter(|(_, value)| !value.is_null()).flat_map(|(name, value)| {
                let name = name.replace('_', " ");
                match value {
                    Value::Array(items) => {
                        items.iter().map(|item| format!("{name}: {}", plain(item))).collect()
                    }
                    other => vec![format!("{name}: {}", plain(other))],
                }
            });
            lines.collect::<Vec<_>>().join("\n")
        }
        other => plain(other),
    }
}
