//! A small QMP client: enough to ask a machine how it is, to change its disks and to end it. Replies are bounded.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

/// The longest line that QEMU may answer with.
const MAX_LINE: u64 = 1 << 20;
/// How many events may come before a reply.
const MAX_EVENTS: usize = 1000;
/// How many devices that are gone are remembered until somebody asks.
const MAX_DELETED: usize = 64;

/// A connection to a machine's monitor.
pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    /// Devices that QEMU said are gone.
    deleted: VecDeque<String>,
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
        let mut qmp =
            Self { writer: stream.try_clone()?, reader: BufReader::new(stream), deleted: VecDeque::new() };
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
    pub fn execute(&mut self, command: &str) -> Result<Value, QmpError> {
        self.execute_with(command, json!({}), None)
    }

    /// Runs a command with arguments, and with a descriptor where it takes one, and returns its value.
    pub fn execute_with(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Value, QmpError> {
        let mut request = json!({ "execute": command, "arguments": arguments }).to_string();
        request.push('\n');
        self.send(request.as_bytes(), descriptor)?;
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
            self.note(&line);
        }
        Err(QmpError::Form(format!("{MAX_EVENTS} events and no reply to {command}")))
    }

    /// Whether QEMU said, up to its last answer, that a device is gone. It is told once.
    pub fn was_deleted(&mut self, device: &str) -> bool {
        let found = self.deleted.iter().position(|gone| gone == device);
        found.is_some_and(|index| self.deleted.remove(index).is_some())
    }

    /// The descriptor goes with the first byte (QEMU docs, QMP reference, `add-fd`).
    fn send(&mut self, request: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let Some(descriptor) = descriptor else { return self.writer.write_all(request) };
        let numbers = [descriptor.as_raw_fd()];
        let message = [ControlMessage::ScmRights(&numbers)];
        let parts = [IoSlice::new(request)];
        let sent = sendmsg::<()>(self.writer.as_raw_fd(), &parts, &message, MsgFlags::empty(), None)?;
        self.writer.write_all(request.get(sent..).unwrap_or_default())
    }

    /// `DEVICE_DELETED` (QEMU docs, QMP reference); of parts of a device QEMU names only the path.
    fn note(&mut self, event: &Value) {
        let device = event.get("data").and_then(|data| data.get("device")).and_then(Value::as_str);
        let deleted = event.get("event").and_then(Value::as_str) == Some("DEVICE_DELETED");
        if let (true, Some(device)) = (deleted, device) {
            self.deleted.truncate(MAX_DELETED - 1);
            self.deleted.push_front(device.to_owned());
        }
    }

    fn line(&mut self) -> Result<Value, QmpError> {
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
