//! Copies of a whole store: one state of all rows, sealed as they are, in one stream.
//!
//! The form: `COFFERBK`, form (4 bytes), the length of the master key's name (2) and the name; then frames; then the
//! number of rows (8) and the SHA-256 of all before it. A frame is `1`, length (1) and name of a table; `2`, length (4)
//! and key, length (4) and value of a row; or `0`, the end. Numbers are big-endian; tables come in a fixed order and
//! keys ascending, so that nothing can be there twice. The hash finds accidents; what was changed on purpose is found by
//! the records' seals, but a row left out is not. A copy is of use with its master key only.

use std::io::{self, BufWriter, Write};

use aws_lc_rs::digest::{Context, SHA256};

use crate::StoreError;
use crate::engine::{Order, View};
use crate::store::{META_MASTER, META_RESTORING, Store};
use crate::table::{self, META};

pub(crate) const MAGIC: &[u8; 8] = b"COFFERBK";
pub(crate) const FORM: u32 = 1;
pub(crate) const END: u8 = 0;
pub(crate) const TABLE: u8 = 1;
pub(crate) const ROW: u8 = 2;
/// Keys of the cluster's own table have no tenant and sort anywhere; the last character of Unicode ends them all.
pub(crate) const LAST: &str = "\u{10ffff}";

/// What a copy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupInfo {
    /// The name of the master key that opens it.
    pub master_key: String,
    /// How many rows it has.
    pub rows: u64,
}

/// A copy could not be made, or not be put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The stream failed.
    #[error("the copy cannot be {what}: {source}; nothing in the store was changed")]
    Stream {
        /// `read` or `written`.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// It is another kind of file.
    #[error(
        "this is no copy of a store: expected it to begin with COFFERBK; name the file that the backup made"
    )]
    NotACopy,
    /// Made by a later program.
    #[error("the copy has form {found}, this program reads form {expected}; use the version that made it")]
    Form {
        /// What this program reads.
        expected: u32,
        /// What was found.
        found: u32,
    },
    /// It is not what was written.
    #[error("the copy is damaged ({why}); use another copy, nothing of this one was put back")]
    Damaged {
        /// What was found.
        why: String,
    },
    /// There is a store already.
    #[error("{place} is not empty; restore into an empty place, nothing was changed")]
    NotEmpty {
        /// Where.
        place: String,
    },
    /// Another restore into the same place.
    #[error("another restore into {place} was begun meanwhile; let one of them end, then run it again")]
    Overtaken {
        /// Where.
        place: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Counts and hashes what is written.
struct Hashing<'a> {
    to: &'a mut dyn Write,
    hash: Context,
}

impl Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.to.write_all(bytes)
    }

    /// Lengths are those of rows that are in memory and of names; what does not fit is not ours.
    fn sized(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.write(&length.to_be_bytes())?;
        self.write(bytes)
    }
}

/// The tables of a copy, in their order.
pub(crate) fn tables() -> impl Iterator<Item = &'static str> {
    std::iter::once(META).chain(table::all())
}

impl Store {
    /// Writes a copy of one state of the whole store, while it is served; says what it is. The caller makes the file
    /// durable.
    pub fn backup(&self, to: &mut dyn Write) -> Result<BackupInfo, BackupError> {
        let mut failed = None;
        let mut begun = false;
        let info = self.inner.read(|view| {
            if std::mem::replace(&mut begun, true) {
                // What was written cannot be taken back.
                let why = "the connection was lost while the copy was made".to_owned();
                return Err(StoreError::Unavailable { place: self.place(), why });
            }
            let mut to = BufWriter::new(&mut *to);
            let mut to = Hashing { to: &mut to, hash: Context::new(&SHA256) };
            match copy(view, &mut to) {
                Ok(info) => Ok(info),
                Err(CopyError::Store(error)) => Err(error),
                Err(CopyError::Stream(source)) => {
                    failed = Some(source);
                    Err(StoreError::GivenUp)
                }
            }
        });
        match (info, failed) {
            (_, Some(source)) => Err(BackupError::Stream { what: "written", source }),
            (info, None) => Ok(info?),
        }
    }
}

enum CopyError {
    Store(StoreError),
    Stream(io::Error),
}

impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

fn copy(view: &dyn View, to: &mut Hashing<'_>) -> Result<BackupInfo, CopyError> {
    let master = view.get(META, META_MASTER)?.unwrap_or_default();
    to.write(MAGIC)?;
    to.write(&FORM.to_be_bytes())?;
    let length = u16::try_from(master.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    to.write(&length.to_be_bytes())?;
    to.write(&master)?;
    let mut number = 0_u64;
    for name in tables() {
        to.write(&[TABLE, u8::try_from(name.len()).unwrap_or(0)])?;
        to.write(name.as_bytes())?;
        let mut from = String::new();
        loop {
            let page = table::page(name);
            let rows = view.range(name, &from, LAST, Order::Ascending, page)?;
            for (key, value) in &rows {
                if name == META && key == META_RESTORING {
                    continue;
                }
                to.write(&[ROW])?;
                to.sized(key.as_bytes())?;
                to.sized(value)?;
                number = number.saturating_add(1);
            }
            match rows.last() {
                Some((key, _)) if rows.len() == page => from = table::after(key),
                _ => break,
            }
        }
    }
    to.write(&[END])?;
    to.write(&number.to_be_bytes())?;
    let hash = to.hash.clone().finish();
    to.to.write_all(hash.as_ref())?;
    to.to.flush()?;
    Ok(BackupInfo { master_key: String::from_utf8_lossy(&master).into_owned(), rows: number })
}
