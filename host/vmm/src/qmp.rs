//! A small QMP client: enough to ask a machine how it is and to end it. Replies are bounded.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The longest line that QEMU may answer with.
const MAX_LINE: u64 = 1 << 20;
/// How many events may come before a reply.
const MAX_EVENTS: usize = 1000;

/// A connection to a machine's monitor.
pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

/// What the monitor says of the machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Status {
    /// Whether virtual processors run.
    pub running: bool,
    /// QEMU's word: `running`, `paused`, `shutdown`, `guest-panicked`, …
    pub status: String,
}

/// Why the monitor did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The connection failed, or the machine ended.
    #[error("the machine's monitor is gone: {0}")]
    Gone(#[from] io::Error),
    /// The answer is not QMP.
    #[error("the machine's monitor answered what is not QMP: {0}")]
    Form(String),
    /// QEMU refused the command.
    #[error("the machine's monitor refused {command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's sentence.
        reason: String,
    },
}

impl Qmp {
    /// Reads the greeting and leaves negotiation mode. `patience` bounds every read from here on.
    pub fn connect(stream: UnixStream, patience: Duration) -> Result<Self, QmpError> {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut qmp = Self { writer: stream.try_clone()?, reader: BufReader::new(stream) };
        let greeting = qmp.line()?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Form("expected the greeting".into()));
        }
        qmp.execute("qmp_capabilities")?;
        Ok(qmp)
    }

    /// `query-status`.
    pub fn status(&mut self) -> Result<Status, QmpError> {
        let value = self.execute("query-status")?;
        serde_json::from_value(value).map_err(|error| QmpError::Form(error.to_string()))
    }

    /// `system_powerdown`: presses the power button; the guest may ignore it.
    pub fn power_down(&mut self) -> Result<(), QmpError> {
        self.execute("system_powerdown").map(drop)
    }

    /// `quit`: ends QEMU at once.
    pub fn quit(&mut self) -> Result<(), QmpError> {
        self.execute("quit").map(drop)
    }

    /// Runs a command without arguments and returns its value; events on the way are skipped.
    pub fn execute(&mut self, command: &str) -> Result<serde_json::Value, QmpError> {
        let mut request = serde_json::json!({ "execute": command }).to_string();
        request.push('\n');
        self.writer.write_all(request.as_bytes())?;
        for _ in 0..MAX_EVENTS {
            let mut line = self.line()?;
            if let Some(error) = line.get("error") {
                let reason =
                    error.get("desc").and_then(|d| d.as_str()).unwrap_or("no reason given").to_owned();
                return Err(QmpError::Refused { command: command.into(), reason });
            }
            if let Some(value) = line.get_mut("return") {
                return Ok(value.take());
            }
        }
        Err(QmpError::Form(format!("{MAX_EVENTS} events and no reply to {command}")))
    }

    fn line(&mut self) -> Result<serde_json::Value, QmpError> {
        let mut line = Vec::new();
        self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(QmpError::Gone(io::ErrorKind::UnexpectedEof.into()));
        }
        if line.last() != Some(&b'\n') {
            return Err(QmpError::Form(format!("a line of more than {MAX_LINE} bytes")));
        }
        serde_json::from_slice(&line).map_err(|error| QmpError::Form(error.to_string()))
    }
}
