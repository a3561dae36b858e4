//! Putting a copy of a store into an empty engine.
//!
//! The copy is hostile until its hash was compared. Rows are written in steps under a mark that says that this is no
//! store yet; only the last step, after the whole copy was read and found right, writes what makes it one. A restore
//! that was killed leaves the mark, and the next one begins by removing what it left.
#![deny(clippy::arithmetic_side_effects)]

use std::io::{BufReader, Read};

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;

use crate::StoreError;
use crate::backup::{BackupError, BackupInfo, END, FORM, LAST, MAGIC, ROW, TABLE, tables};
use crate::engine::{Engine, Order};
use crate::inner::write;
use crate::store::{FORMAT, META_FORMAT, META_RESTORING, is_empty};
use crate::table::{self, MAX_NAME, META};

/// The longest key: a tenant, a name, and a number or another name.
const MAX_KEY: usize = 3 * MAX_NAME;
/// The longest sealed value, in bytes.
const MAX_VALUE: usize = 64 << 20;
/// The cluster's own table has a handful of rows.
const MAX_META: usize = 16;
/// How many rows, or bytes of values, are written in one step.
const STEP: usize = 1_000;
const STEP_BYTES: usize = 4 << 20;
const HASH: usize = 32;

/// Reads a whole copy without putting it anywhere; says what it is, or what is wrong with it.
pub fn check_backup(from: &mut dyn Read) -> Result<BackupInfo, BackupError> {
    parse(from, &mut |_, _, _| Ok(())).map(|(info, _)| info)
}

/// Puts a copy into an engine without rows; says what it is. The store is there when this returns, and not before.
pub fn restore(engine: &dyn Engine, from: &mut dyn Read) -> Result<BackupInfo, BackupError> {
    let mut token = [0; 16];
    rand::fill(&mut token).map_err(|_| StoreError::NoRandomness)?;
    begin(engine, &token)?;
    let result = fill(engine, &token, from);
    if result.is_err() {
        // The mark stays if this fails too, and the next restore does it.
        let _ = clear(engine, &token).and_then(|()| unmark(engine, &token));
    }
    result
}

type Row = (&'static str, String, Vec<u8>);

fn fill(engine: &dyn Engine, token: &[u8], from: &mut dyn Read) -> Result<BackupInfo, BackupError> {
    let mut waiting: Vec<Row> = Vec::new();
    let mut bytes = 0_usize;
    let (info, meta) = parse(from, &mut |name, key, value| {
        bytes = bytes.saturating_add(value.len());
        waiting.push((name, key, value));
        if waiting.len() >= STEP || bytes >= STEP_BYTES {
            put(engine, token, &waiting)?;
            waiting.clear();
            bytes = 0;
        }
        Ok(())
    })?;
    put(engine, token, &waiting)?;
    write(engine, |change| {
        if !is_ours(change.get(META, META_RESTORING)?, token) {
            return Ok(false);
        }
        for (key, value) in &meta {
            change.put(META, key, value)?;
        }
        change.discard(META, META_RESTORING)?;
        Ok(true)
    })
    .map_err(BackupError::from)
    .and_then(|ours| ours.then_some(info).ok_or_else(|| overtaken(engine)))
}

fn is_ours(mark: Option<Vec<u8>>, token: &[u8]) -> bool {
    mark.is_some_and(|mark| mark == token)
}

fn overtaken(engine: &dyn Engine) -> BackupError {
    BackupError::Overtaken { place: engine.place() }
}

/// Sets the mark, and removes what an unfinished restore left.
fn begin(engine: &dyn Engine, token: &[u8]) -> Result<(), BackupError> {
    let may = write(engine, |change| {
        if change.get(META, META_FORMAT)?.is_some() {
            return Ok(false);
        }
        if change.get(META, META_RESTORING)?.is_none() {
            for name in tables() {
                if !is_empty(&*change, name)? {
                    return Ok(false);
                }
            }
        }
        change.put(META, META_RESTORING, token)?;
        Ok(true)
    })?;
    match may {
        true => clear(engine, token),
        false => Err(BackupError::NotEmpty { place: engine.place() }),
    }
}

/// Removes all rows but the mark.
fn clear(engine: &dyn Engine, token: &[u8]) -> Result<(), BackupError> {
    // Most are empty, and a look is cheaper than a transaction.
    let mut filled = Vec::new();
    engine.read(&mut |view| {
        filled.clear();
        for name in tables() {
            if !is_empty(view, name)? {
                filled.push(name);
            }
        }
        Ok(())
    })?;
    for name in filled {
        let page = table::page(name);
        loop {
            let removed = write(engine, |change| {
                if !is_ours(change.get(META, META_RESTORING)?, token) {
                    return Ok(None);
                }
                let rows = change.range(name, "", LAST, Order::Ascending, page)?;
                for (key, _) in &rows {
                    if name != META || key != META_RESTORING {
                        change.discard(name, key)?;
                    }
                }
                Ok(Some(rows.len()))
            })?;
            match removed {
                None => return Err(overtaken(engine)),
                Some(removed) if removed == page => {}
                Some(_) => break,
            }
        }
    }
    Ok(())
}

fn unmark(engine: &dyn Engine, token: &[u8]) -> Result<(), BackupError> {
    write(engine, |change| {
        if is_ours(change.get(META, META_RESTORING)?, token) {
            change.discard(META, META_RESTORING)?;
        }
        Ok(())
    })?;
    Ok(())
}

fn put(engine: &dyn Engine, token: &[u8], rows: &[Row]) -> Result<(), BackupError> {
    let ours = write(engine, |change| {
        if !is_ours(change.get(META, META_RESTORING)?, token) {
            return Ok(false);
        }
        for (name, key, value) in rows {
            change.put(name, key, value)?;
        }
        Ok(true)
    })?;
    ours.then_some(()).ok_or_else(|| overtaken(engine))
}

fn damaged(why: impl Into<String>) -> BackupError {
    BackupError::Damaged { why: why.into() }
}

struct Parser<'a> {
    from: &'a mut dyn Read,
    hash: Context,
}

impl Parser<'_> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        self.from.read_exact(bytes).map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => damaged("it ends too early"),
            _ => BackupError::Stream { what: "read", source },
        })?;
        self.hash.update(bytes);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// So many bytes; memory is taken as they come, not as they are announced.
    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, BackupError> {
        let mut bytes = Vec::new();
        let taken = (&mut *self.from).take(length as u64).read_to_end(&mut bytes);
        taken.map_err(|source| BackupError::Stream { what: "read", source })?;
        if bytes.len() != length {
            return Err(damaged("it ends too early"));
        }
        self.hash.update(&bytes);
        Ok(bytes)
    }

    fn sized(&mut self, what: &str, most: usize) -> Result<Vec<u8>, BackupError> {
        let length = usize::try_from(u32::from_be_bytes(self.array()?)).unwrap_or(usize::MAX);
        if length > most {
            return Err(damaged(format!("a {what} of {length} bytes, at most {most} are expected")));
        }
        self.bytes(length)
    }

    fn text(&mut self, length: usize) -> Result<String, BackupError> {
        String::from_utf8(self.bytes(length)?).map_err(|_| damaged("a name is not text"))
    }
}

type Rows<'a> = dyn FnMut(&'static str, String, Vec<u8>) -> Result<(), BackupError> + 'a;
type Meta = Vec<(String, Vec<u8>)>;

/// Reads a copy to its end. The rows that make it a store are given at the end, when all was found right.
fn parse(from: &mut dyn Read, rows: &mut Rows<'_>) -> Result<(BackupInfo, Meta), BackupError> {
    let from = &mut BufReader::new(from);
    let mut parser = Parser { from, hash: Context::new(&SHA256) };
    match parser.array::<8>() {
        Ok(magic) if magic == *MAGIC => {}
        Ok(_) | Err(BackupError::Damaged { .. }) => return Err(BackupError::NotACopy),
        Err(error) => return Err(error),
    }
    let found = u32::from_be_bytes(parser.array()?);
    if found != FORM {
        return Err(BackupError::Form { expected: FORM, found });
    }
    let length = u16::from_be_bytes(parser.array()?);
    let master_key = parser.text(usize::from(length))?;
    let mut expected = tables();
    let mut meta = Meta::new();
    let mut at: Option<&'static str> = None;
    let mut last: Option<String> = None;
    let mut number = 0_u64;
    loop {
        match parser.array::<1>()? {
            [TABLE] => {
                let [length] = parser.array()?;
                let name = parser.text(usize::from(length))?;
                // A table that this program does not know, or one that was there before, is not among the rest.
                at = expected.find(|known| *known == name);
                if at.is_none() {
                    return Err(damaged(format!("the table {name:?} is not one that is expected there")));
                }
                last = None;
            }
            [ROW] => {
                let name = at.ok_or_else(|| damaged("a row before its table"))?;
                let key = parser.sized("key", MAX_KEY)?;
                let key = String::from_utf8(key).map_err(|_| damaged("a key is not text"))?;
                let value = parser.sized("value", MAX_VALUE)?;
                let ascends = last.as_ref().is_none_or(|last| *last < key);
                let placed = name == META || table::split(&key).is_some_and(|(_, rest)| !rest.is_empty());
                if !ascends || !placed {
                    return Err(damaged(format!("the row {key:?} of {name} is not expected there")));
                }
                last = Some(key.clone());
                number = number.saturating_add(1);
                if name != META {
                    rows(name, key, value)?;
                } else if key == META_RESTORING || meta.len() >= MAX_META {
                    return Err(damaged(format!("the row {key:?} of {name} is not expected there")));
                } else {
                    meta.push((key, value));
                }
            }
            [END] => break,
            [other] => return Err(damaged(format!("a part of kind {other}"))),
        }
    }
    let announced = u64::from_be_bytes(parser.array()?);
    if announced != number {
        return Err(damaged(format!("{number} rows, expected {announced}")));
    }
    let hash = parser.hash.clone().finish();
    if parser.array::<HASH>()? != hash.as_ref() {
        return Err(damaged("its SHA-256 is not that of its content"));
    }
    match parser.from.read(&mut [0]) {
        Ok(0) => {}
        Ok(_) => return Err(damaged("there is more after its end")),
        Err(source) => return Err(BackupError::Stream { what: "read", source }),
    }
    match meta.iter().find(|(key, _)| key == META_FORMAT) {
        Some((_, format)) if *format == FORMAT.to_be_bytes() => {}
        _ => return Err(damaged(format!("it is not of a store of format {FORMAT}"))),
    }
    Ok((BackupInfo { master_key, rows: number }, meta))
}
