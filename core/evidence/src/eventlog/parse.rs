//! Reading and writing the bytes of event logs, with every size bounded by what is there.

use coffer_core_digest::{Algorithm, Digest};

use super::{Bank, Event, EventLog, EventType, Form};

/// The longest log that is read: firmware reserves at most this (CCEL of 1 MiB), and the rest is padding.
pub const MAX_LOG: usize = 1 << 20;
/// The most events that are read. Real logs have about a hundred.
pub const MAX_EVENTS: usize = 1 << 14;
/// `HASH_COUNT` of the TPM library is far less.
const MAX_BANKS: u32 = 16;
/// Registers are 0 to 23; some logs of confidential guests and vendors go a little higher.
const MAX_REGISTER: u32 = 31;

pub(super) const SPEC_ID_CRYPTO_AGILE: &[u8] = b"Spec ID Event03\0";
const STARTUP_LOCALITY: &[u8] = b"StartupLocality\0";

/// Why bytes are not an event log.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum EventLogError {
    /// There are no bytes, or only padding.
    #[error("the event log is empty")]
    Empty,
    /// Longer than any firmware makes it.
    #[error("the event log is too long: at most {MAX_LOG} bytes, found {0}")]
    TooLong(usize),
    /// More events than any firmware makes.
    #[error("the event log has more than {MAX_EVENTS} events")]
    TooManyEvents,
    /// A field runs past the end.
    #[error("event {event}: {field} needs {expected} bytes, {found} are left")]
    Truncated {
        /// The event's number, from 0.
        event: usize,
        /// The field.
        field: &'static str,
        /// Bytes needed.
        expected: usize,
        /// Bytes left.
        found: usize,
    },
    /// The header's list of banks makes no sense.
    #[error("the header names {found} banks; expected 1 to {MAX_BANKS}")]
    BankCount {
        /// The number found.
        found: u32,
    },
    /// The header gives a known algorithm another digest size, or names it twice.
    #[error("the header's entry for algorithm {id:#06x} with {size} bytes is wrong or repeated")]
    Bank {
        /// `TPM_ALG_ID`.
        id: u16,
        /// The size given.
        size: u16,
    },
    /// An event has not exactly one digest for each bank.
    #[error("event {event}: expected one digest for each of {expected} banks, found {found}")]
    DigestCount {
        /// The event's number.
        event: usize,
        /// The number of banks.
        expected: usize,
        /// The number of digests.
        found: u32,
    },
    /// An event has a digest of an algorithm that the header does not name, or two of one.
    #[error("event {event}: a digest of algorithm {id:#06x} was not expected")]
    DigestAlgorithm {
        /// The event's number.
        event: usize,
        /// `TPM_ALG_ID`.
        id: u16,
    },
    /// An event names a register that no TPM has.
    #[error("event {event}: register {register} does not exist; expected 0 to {MAX_REGISTER}")]
    Register {
        /// The event's number.
        event: usize,
        /// The register.
        register: u32,
    },
    /// Register 0 cannot begin like this.
    #[error(
        "event {event}: the startup locality is {found}; expected 0, 3 or 4, before register 0 is extended"
    )]
    StartupLocality {
        /// The event's number.
        event: usize,
        /// The locality.
        found: u8,
    },
    /// An event to be added lacks a digest for one of the log's banks.
    #[error("the event to add has no digest for bank {id:#06x} of the log")]
    MissingDigest {
        /// `TPM_ALG_ID`.
        id: u16,
    },
}

/// A cursor that counts events for its errors.
struct Reader<'a> {
    rest: &'a [u8],
    event: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], EventLogError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(EventLogError::Truncated {
            event: self.event,
            field,
            expected: count,
            found: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], EventLogError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(field, N)?);
        Ok(array)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, EventLogError> {
        self.array(field).map(u16::from_le_bytes)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, EventLogError> {
        self.array(field).map(u32::from_le_bytes)
    }

    fn sized(&mut self, field: &'static str) -> Result<&'a [u8], EventLogError> {
        let size = self.u32(field)?;
        self.take(field, usize::try_from(size).unwrap_or(usize::MAX))
    }
}

const fn known(id: u16) -> Option<Algorithm> {
    match id {
        0x0004 => Some(Algorithm::Sha1),
        0x000b => Some(Algorithm::Sha256),
        0x000c => Some(Algorithm::Sha384),
        0x000d => Some(Algorithm::Sha512),
        0x0012 => Some(Algorithm::Sm3),
        _ => None,
    }
}

/// Where the padding begins: the longest tail of 0xFF or of zeros. Found once, so that a log made of padding
/// with one other byte at its end costs no more than its length.
fn padding_start(bytes: &[u8]) -> usize {
    match bytes.last() {
        Some(&filler @ (0x00 | 0xff)) => {
            bytes.iter().rposition(|byte| *byte != filler).map_or(0, |last| last.saturating_add(1))
        }
        _ => bytes.len(),
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<EventLog, EventLogError> {
    scan(bytes).map(|(log, _)| log)
}

/// The log, and where its last event ends.
fn scan(bytes: &[u8]) -> Result<(EventLog, usize), EventLogError> {
    if bytes.len() > MAX_LOG {
        return Err(EventLogError::TooLong(bytes.len()));
    }
    let padding = padding_start(bytes);
    if padding == 0 {
        return Err(EventLogError::Empty);
    }
    let mut reader = Reader { rest: bytes, event: 0 };
    let first = sha1_event(&mut reader)?;
    let agile = first.kind == EventType::NO_ACTION && first.data.starts_with(SPEC_ID_CRYPTO_AGILE);
    let (form, banks) = match agile {
        true => (Form::CryptoAgile, spec_id_banks(&first.data)?),
        false => (Form::Sha1Only, vec![Bank { id: 4, digest_size: 20, algorithm: Some(Algorithm::Sha1) }]),
    };
    let mut log = EventLog { form, banks, startup_locality: 0, begun: false, events: Vec::new() };
    // The header of a crypto-agile log has a digest of zeros in a bank that the log may lack.
    let first = if agile { Event { digests: Vec::new(), ..first } } else { first };
    push(&mut log, first, 0)?;
    loop {
        let at = bytes.len().saturating_sub(reader.rest.len());
        if reader.rest.is_empty() || at >= padding {
            return Ok((log, at));
        }
        reader.event = reader.event.saturating_add(1);
        if reader.event >= MAX_EVENTS {
            return Err(EventLogError::TooManyEvents);
        }
        let event = match form {
            Form::Sha1Only => sha1_event(&mut reader)?,
            Form::CryptoAgile => agile_event(&mut reader, &log.banks)?,
        };
        push(&mut log, event, reader.event)?;
    }
}

fn push(log: &mut EventLog, event: Event, number: usize) -> Result<(), EventLogError> {
    if event.is_extended() && event.register > MAX_REGISTER {
        return Err(EventLogError::Register { event: number, register: event.register });
    }
    if let Some(found) = startup_locality(&event) {
        if log.begun || !matches!(found, 0 | 3 | 4) {
            return Err(EventLogError::StartupLocality { event: number, found });
        }
        log.startup_locality = found;
    }
    log.begun |= event.is_extended() && event.register == 0;
    log.events.push(event);
    Ok(())
}

/// SPEC: PFP 10.4.5.3, `TCG_EfiStartupLocalityEvent`.
pub(super) fn startup_locality(event: &Event) -> Option<u8> {
    let named = event.kind == EventType::NO_ACTION && event.register == 0;
    match event.data.strip_prefix(STARTUP_LOCALITY) {
        Some([found]) if named => Some(*found),
        _ => None,
    }
}

fn digest(algorithm: Algorithm, bytes: &[u8]) -> Vec<Digest> {
    Digest::from_bytes(algorithm, bytes).into_iter().collect()
}

fn sha1_event(reader: &mut Reader<'_>) -> Result<Event, EventLogError> {
    let register = reader.u32("the register")?;
    let kind = EventType(reader.u32("the type")?);
    let digests = digest(Algorithm::Sha1, reader.take("the digest", Algorithm::Sha1.len())?);
    let data = reader.sized("the data")?.to_vec();
    Ok(Event { register, kind, digests, data })
}

fn agile_event(reader: &mut Reader<'_>, banks: &[Bank]) -> Result<Event, EventLogError> {
    let register = reader.u32("the register")?;
    let kind = EventType(reader.u32("the type")?);
    let count = reader.u32("the digest count")?;
    if usize::try_from(count) != Ok(banks.len()) {
        return Err(EventLogError::DigestCount { event: reader.event, expected: banks.len(), found: count });
    }
    let mut digests: Vec<Digest> = Vec::with_capacity(banks.len());
    let mut seen: Vec<u16> = Vec::with_capacity(banks.len());
    for _ in 0..count {
        let id = reader.u16("the digest's algorithm")?;
        let bank = banks.iter().find(|bank| bank.id == id && !seen.contains(&id));
        let bank = bank.ok_or(EventLogError::DigestAlgorithm { event: reader.event, id })?;
        let bytes = reader.take("the digest", usize::from(bank.digest_size))?;
        digests.extend(bank.algorithm.into_iter().flat_map(|algorithm| digest(algorithm, bytes)));
        seen.push(id);
    }
    let data = reader.sized("the data")?.to_vec();
    Ok(Event { register, kind, digests, data })
}

/// SPEC: PFP 10.4.5.1, `TCG_EfiSpecIdEvent`.
fn spec_id_banks(data: &[u8]) -> Result<Vec<Bank>, EventLogError> {
    let mut reader = Reader { rest: data, event: 0 };
    reader.take("the signature", SPEC_ID_CRYPTO_AGILE.len())?;
    reader.take("the platform class and version", 8)?;
    let count = reader.u32("the number of banks")?;
    if count == 0 || count > MAX_BANKS {
        return Err(EventLogError::BankCount { found: count });
    }
    let mut banks: Vec<Bank> = Vec::new();
    for _ in 0..count {
        let id = reader.u16("a bank's algorithm")?;
        let size = reader.u16("a bank's digest size")?;
        let algorithm = known(id);
        let wrong = algorithm.is_some_and(|algorithm| algorithm.len() != usize::from(size));
        if wrong || size == 0 || banks.iter().any(|bank| bank.id == id) {
            return Err(EventLogError::Bank { id, size });
        }
        banks.push(Bank { id, digest_size: size, algorithm });
    }
    Ok(banks)
}

pub(super) fn append(bytes: &[u8], event: &Event) -> Result<Vec<u8>, EventLogError> {
    let (log, end) = scan(bytes)?;
    let mut out = bytes.get(..end).unwrap_or(bytes).to_vec();
    out.extend(event.register.to_le_bytes());
    out.extend(event.kind.0.to_le_bytes());
    if log.form == Form::CryptoAgile {
        out.extend(u32::try_from(log.banks.len()).unwrap_or(u32::MAX).to_le_bytes());
    }
    for bank in &log.banks {
        let own = bank.algorithm.and_then(|algorithm| event.digest(algorithm));
        if log.form == Form::CryptoAgile {
            out.extend(bank.id.to_le_bytes());
        }
        match own {
            Some(digest) => out.extend(digest.as_bytes()),
            // What is not extended has digests of zeros, in every bank.
            None if !event.is_extended() => out.resize(out.len().saturating_add(bank.digest_size.into()), 0),
            None => return Err(EventLogError::MissingDigest { id: bank.id }),
        }
    }
    out.extend(u32::try_from(event.data.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(&event.data);
    match out.len() > MAX_LOG {
        true => Err(EventLogError::TooLong(out.len())),
        false => Ok(out),
    }
}
