//! The runtime event log: what happens after the start, extended into a register and written down (AAEL).
//!
//! SPEC: KBS reference, section "AAEL": the file `eventlog` and, before register and file are touched, the entry
//! `.wal_event_entry` with the file's length, the register's value to come, and the event's text. INVARIANT: the file's
//! entries replay to the register, also if the agent ends between any two steps; what is found half done is finished at
//! the next start, and what cannot be explained is an error. Left out: who may record what, which is `guest/hub`.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use coffer_core_channel::Refusal;
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::eventlog::{
    EventLog, RuntimeEvent, RuntimeEventError, entry_bytes, with_runtime_events,
};

/// Where upstream's attestation agent keeps it, so that what reads it there finds it.
pub const RUNTIME_LOG: &str = "/run/attestation-agent";
const LOG: &str = "eventlog";
const AHEAD: &str = ".wal_event_entry";
/// Together with the firmware's log they stay within what judges read.
const MAX_ENTRIES: usize = 512 << 10;

/// Why an event is not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The machine has no register for it.
    #[error("runtime events cannot be recorded on this machine: {0}")]
    NotSupported(String),
    /// It is no event.
    #[error(transparent)]
    Event(#[from] RuntimeEventError),
    /// There is no more room.
    #[error("the runtime event log is full: it holds {MAX_ENTRIES} bytes")]
    Full,
    /// The register cannot be read or extended.
    #[error("the register for runtime events: {0}")]
    Register(String),
    /// The log cannot be written or read.
    #[error("{step} {}: {cause}", path.display())]
    File {
        /// What was tried.
        step: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: Error,
    },
    /// Log and register do not belong together.
    #[error("the runtime event log and its register do not belong together: {0}")]
    Corrupt(String),
}

impl RecordError {
    /// What the host or the workload is told.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let (code, remedy) = match self {
            Self::NotSupported(_) => (
                "runtime-event.not-supported",
                "Use a machine with a TPM, or a TD under Linux 6.16 or later, if events must be measured.",
            ),
            Self::Event(_) => (
                "runtime-event.malformed",
                "Give domain and operation as single words, and a content without control characters.",
            ),
            Self::Full => ("runtime-event.full", "Record fewer or shorter events."),
            Self::Register(_) | Self::File { .. } => ("runtime-event.failed", "Start the machine again."),
            Self::Corrupt(_) => (
                "runtime-event.corrupt",
                "Something else extended the register or changed the log. Start the machine again.",
            ),
        };
        Refusal {
            code: code.into(),
            message: self.to_string(),
            expected: None,
            found: None,
            remedy: Some(remedy.into()),
            attempt: None,
        }
    }
}

/// The register for runtime events.
pub(crate) trait Registers {
    /// The hash of log and value.
    fn bank(&self) -> Algorithm;
    /// The register's number in the log.
    fn index(&self) -> u32;
    fn value(&mut self) -> Result<Digest, RecordError>;
    fn extend(&mut self, event: &RuntimeEvent) -> Result<(), RecordError>;
}

/// The log.
pub(crate) struct RuntimeLog {
    folder: PathBuf,
    events: Vec<RuntimeEvent>,
    entries: Vec<u8>,
}

impl RuntimeLog {
    /// Opens the log in this folder, and finishes what an earlier agent began.
    pub(crate) fn open(folder: &Path, registers: &mut dyn Registers) -> Result<Self, RecordError> {
        fs::create_dir_all(folder).map_err(failed("making", folder))?;
        let mut log = Self { folder: folder.to_owned(), events: Vec::new(), entries: Vec::new() };
        let mut bytes = log.read(LOG)?;
        let begun = match log.read(AHEAD)? {
            ahead if ahead.is_empty() => None,
            ahead => Ahead::parse(&ahead, registers.bank()),
        };
        if let Some(begun) = &begun {
            // What stands behind the noted length is the entry that was being written.
            if begun.offset > bytes.len() {
                return Err(RecordError::Corrupt("the log is shorter than was noted".into()));
            }
            bytes.truncate(begun.offset);
        }
        log.events = events_of(&bytes, registers)?;
        log.entries = bytes;
        if let Some(begun) = begun {
            log.finish(&begun, registers)?;
        }
        // An entry that cannot be read was not whole when the agent ended, so nothing had been done for it.
        log.forget()?;
        Ok(log)
    }

    /// Extends the register by the event and writes it down.
    pub(crate) fn record(
        &mut self,
        event: &RuntimeEvent,
        registers: &mut dyn Registers,
    ) -> Result<(), RecordError> {
        let entry = entry_of(event, registers);
        if self.entries.len().saturating_add(entry.len()) > MAX_ENTRIES {
            return Err(RecordError::Full);
        }
        let before = registers.value()?;
        let expected = after(&before, event, registers);
        let ahead = Ahead { offset: self.entries.len(), expected, event: event.clone() };
        self.write(AHEAD, &ahead.to_bytes())?;
        if let Err(why) = registers.extend(event) {
            // Whether it was extended all the same, only the register knows.
            match registers.value()? {
                found if found == expected => {}
                found if found == before => {
                    self.forget()?;
                    return Err(why);
                }
                found => return Err(RecordError::Corrupt(format!("the register holds {found}"))),
            }
        }
        self.add(event, &entry)?;
        self.forget()
    }

    /// The entries, in the form of the log.
    pub(crate) fn entries(&self) -> &[u8] {
        &self.entries
    }

    pub(crate) fn events(&self) -> &[RuntimeEvent] {
        &self.events
    }

    fn finish(&mut self, begun: &Ahead, registers: &mut dyn Registers) -> Result<(), RecordError> {
        let found = registers.value()?;
        if found != begun.expected {
            if after(&found, &begun.event, registers) != begun.expected {
                return Err(RecordError::Corrupt(format!("the register holds {found}")));
            }
            registers.extend(&begun.event)?;
        }
        let entry = entry_of(&begun.event, registers);
        self.add(&begun.event, &entry)
    }

    /// One entry more. It is in the register, so it counts even if the file cannot be written.
    fn add(&mut self, event: &RuntimeEvent, entry: &[u8]) -> Result<(), RecordError> {
        let mut entries = std::mem::take(&mut self.entries);
        entries.extend_from_slice(entry);
        let written = self.append(&entries, entry);
        self.entries = entries;
        self.events.push(event.clone());
        written
    }

    fn append(&self, all: &[u8], entry: &[u8]) -> Result<(), RecordError> {
        let path = self.folder.join(LOG);
        let start = u64::try_from(all.len().saturating_sub(entry.len())).unwrap_or(u64::MAX);
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let mut file = open.map_err(failed("opening", &path))?;
        let length = file.metadata().map_err(failed("asking for", &path))?.len();
        // What an interrupted writer left there is cut off; what it failed to write is written now.
        let (start, missing) = if length < start { (0, all) } else { (start, entry) };
        file.set_len(start).map_err(failed("cutting", &path))?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(start))
            .map_err(failed("seeking in", &path))?;
        file.write_all(missing).and_then(|()| file.sync_data()).map_err(failed("writing", &path))
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), RecordError> {
        let path = self.folder.join(name);
        let mut file = File::create(&path).map_err(failed("making", &path))?;
        file.write_all(content).and_then(|()| file.sync_data()).map_err(failed("writing", &path))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, RecordError> {
        let path = self.folder.join(name);
        match fs::read(&path) {
            Ok(content) => Ok(content),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(cause) => Err(RecordError::File { step: "reading", path, cause }),
        }
    }

    fn forget(&self) -> Result<(), RecordError> {
        let path = self.folder.join(AHEAD);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                Err(RecordError::File { step: "removing", path, cause })
            }
            _ => Ok(()),
        }
    }
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(Error) -> RecordError {
    let path = path.to_owned();
    move |cause| RecordError::File { step, path, cause }
}

fn entry_of(event: &RuntimeEvent, registers: &dyn Registers) -> Vec<u8> {
    entry_bytes(&event.to_event(registers.index(), &[registers.bank()]))
}

/// The register's value after the event.
fn after(value: &Digest, event: &RuntimeEvent, registers: &dyn Registers) -> Digest {
    let event = event.to_event(registers.index(), &[registers.bank()]);
    let digest = event.digest(registers.bank()).map(Digest::as_bytes).unwrap_or_default();
    value.extend(digest)
}

fn events_of(entries: &[u8], registers: &dyn Registers) -> Result<Vec<RuntimeEvent>, RecordError> {
    let corrupt = |why: String| RecordError::Corrupt(why);
    let log = EventLog::parse(&with_runtime_events(None, entries, registers.bank()));
    let log = log.map_err(|why| corrupt(why.to_string()))?;
    let own = log.into_events().into_iter().skip(1);
    own.map(|event| RuntimeEvent::of(&event).ok_or_else(|| corrupt("an event is none of ours".into())))
        .collect()
}

/// What is about to be done.
struct Ahead {
    offset: usize,
    expected: Digest,
    event: RuntimeEvent,
}

impl Ahead {
    fn to_bytes(&self) -> Vec<u8> {
        let offset = u64::try_from(self.offset).unwrap_or(u64::MAX).to_be_bytes();
        [offset.as_slice(), self.expected.as_bytes(), self.event.text().as_bytes()].concat()
    }

    fn parse(bytes: &[u8], bank: Algorithm) -> Option<Self> {
        let (offset, rest) = bytes.split_first_chunk::<8>()?;
        let (expected, text) = rest.split_at_checked(bank.len())?;
        Some(Self {
            offset: usize::try_from(u64::from_be_bytes(*offset)).ok()?,
            expected: Digest::from_bytes(bank, expected).ok()?,
            event: RuntimeEvent::parse(std::str::from_utf8(text).ok()?).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BANK: Algorithm = Algorithm::Sha384;

    /// A register in memory, which fails when it is told to.
    struct InMemory {
        value: Digest,
        fails: bool,
    }

    impl Registers for InMemory {
        fn bank(&self) -> Algorithm {
            BANK
        }

        fn index(&self) -> u32 {
            4
        }

        fn value(&mut self) -> Result<Digest, RecordError> {
            Ok(self.value)
        }

        fn extend(&mut self, event: &RuntimeEvent) -> Result<(), RecordError> {
            if self.fails {
                return Err(RecordError::Register("told to fail".into()));
            }
            self.value = after(&self.value, event, self);
            Ok(())
        }
    }

    fn register() -> InMemory {
        InMemory { value: Digest::zero(BANK), fails: false }
    }

    fn event(content: &str) -> RuntimeEvent {
        RuntimeEvent::new("lab.example", "start", content).expect("an event")
    }

    /// The invariant: what is in the file replays to the register.
    fn agree(folder: &Path, register: &InMemory) {
        let bytes = fs::read(folder.join(LOG)).unwrap_or_default();
        let log = EventLog::parse(&with_runtime_events(None, &bytes, BANK)).expect("a log");
        assert_eq!(log.replay(BANK).get(&4).copied().unwrap_or(Digest::zero(BANK)), register.value);
        assert!(!folder.join(AHEAD).exists());
    }

    #[test]
    fn events_are_in_file_and_register_and_survive_a_new_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut register = register();
        let mut log = RuntimeLog::open(folder.path(), &mut register).expect("opened");
        log.record(&event("one"), &mut register).expect("recorded");
        log.record(&event("two"), &mut register).expect("recorded");
        agree(folder.path(), &register);
        let mut log = RuntimeLog::open(folder.path(), &mut register).expect("opened again");
        assert_eq!(log.events(), [event("one"), event("two")]);
        log.record(&event("three"), &mut register).expect("recorded");
        assert_eq!(log.entries(), fs::read(folder.path().join(LOG)).expect("the log"));
        agree(folder.path(), &register);
    }

    #[test]
    fn an_agent_that_ended_at_any_step_leaves_what_the_next_one_finishes() {
        // After the note; after the extension; and after any number of bytes of the entry.
        let length = entry_of(&event("two"), &register()).len();
        let steps = (0..=length).map(|bytes| (true, bytes)).chain([(false, 0)]);
        for (extended, bytes) in steps {
            let folder = tempfile::tempdir().expect("a folder");
            let mut register = register();
            let mut log = RuntimeLog::open(folder.path(), &mut register).expect("opened");
            log.record(&event("one"), &mut register).expect("recorded");
            let ahead = Ahead {
                offset: log.entries().len(),
                expected: after(&register.value, &event("two"), &register),
                event: event("two"),
            };
            fs::write(folder.path().join(AHEAD), ahead.to_bytes()).expect("noted");
            if extended {
                register.extend(&event("two")).expect("extended");
            }
            let entry = entry_of(&event("two"), &register);
            let half = [log.entries(), &entry[..bytes]].concat();
            fs::write(folder.path().join(LOG), half).expect("half written");
            let log = RuntimeLog::open(folder.path(), &mut register).expect("finished");
            assert_eq!(log.events(), [event("one"), event("two")], "extended {extended}, {bytes} bytes");
            agree(folder.path(), &register);
        }
    }

    #[test]
    fn a_note_that_was_not_whole_means_that_nothing_was_done() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut register = register();
        fs::write(folder.path().join(AHEAD), [0; 20]).expect("half noted");
        let log = RuntimeLog::open(folder.path(), &mut register).expect("opened");
        assert!(log.events().is_empty());
        agree(folder.path(), &register);
    }

    #[test]
    fn a_register_that_somebody_else_extended_is_an_error_and_not_explained_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut register = register();
        let expected = after(&register.value, &event("one"), &register);
        let ahead = Ahead { offset: 0, expected, event: event("one") };
        fs::write(folder.path().join(AHEAD), ahead.to_bytes()).expect("noted");
        register.extend(&event("foreign")).expect("extended");
        let error = RuntimeLog::open(folder.path(), &mut register).err().expect("corrupt");
        assert_eq!(error.refusal().code, "runtime-event.corrupt");
        fs::write(folder.path().join(LOG), b"no entries").expect("written");
        fs::remove_file(folder.path().join(AHEAD)).expect("removed");
        assert!(matches!(RuntimeLog::open(folder.path(), &mut register), Err(RecordError::Corrupt(_))));
    }

    #[test]
    fn a_register_that_fails_leaves_no_entry_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut register = register();
        let mut log = RuntimeLog::open(folder.path(), &mut register).expect("opened");
        register.fails = true;
        let error = log.record(&event("one"), &mut register).expect_err("told to fail");
        assert_eq!(error.refusal().code, "runtime-event.failed");
        assert!(log.events().is_empty() && log.entries().is_empty());
        register.fails = false;
        agree(folder.path(), &register);
        log.record(&event("two"), &mut register).expect("recorded");
        agree(folder.path(), &register);
    }

    #[test]
    fn a_log_that_would_outgrow_what_judges_read_takes_no_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut register = register();
        let mut log = RuntimeLog::open(folder.path(), &mut register).expect("opened");
        let long = event(&"x".repeat(8000));
        let refused = (0..100).find_map(|_| log.record(&long, &mut register).err()).expect("full");
        assert_eq!(refused.refusal().code, "runtime-event.full");
        agree(folder.path(), &register);
    }
}
