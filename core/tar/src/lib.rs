//! A reader of tar as image layers have it: ustar, pax (POSIX.1-2017, `pax`), GNU long names and numbers.
//!
//! The `tar` crate splits pax records at line feeds, which breaks binary attributes (a file capability may
//! hold the byte 0x0a), so records are read here by their length; header fields are still read by the crate.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::io::{self, Read};

const RECORD: u64 = 512;
/// Extended headers and long names are not read beyond this.
const MAX_EXTENSION: u64 = 1 << 20;

pub use tar::EntryType;

/// Why a layer is not readable.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// Reading failed, or the archive ends early.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// An entry is malformed or of a kind that images do not have.
    #[error("entry {path:?}: {why}")]
    Entry {
        /// Its name.
        path: String,
        /// What is wrong.
        why: String,
    },
}

/// An entry, with extended headers applied.
pub struct Entry {
    /// Its name, as it was written.
    pub path: Vec<u8>,
    /// What a link leads to, as it was written.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: EntryType,
    /// Permission bits with set-uid, set-gid and sticky (`0o7777`).
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Bytes of content; only files have any.
    pub size: u64,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes by their full name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    /// About how much memory the entry takes.
    pub fn memory(&self) -> u64 {
        let names = self.path.len().saturating_add(self.link.len()).saturating_add(128);
        (names as u64).saturating_add(room(&self.xattrs))
    }
}

/// Pax records by keyword.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// About how much memory records take.
fn room(records: &Records) -> u64 {
    records.iter().fold(0, |sum: u64, (name, value)| {
        sum.saturating_add(name.len().saturating_add(value.len()).saturating_add(64) as u64)
    })
}

/// A tar that is read forwards.
pub struct Archive<R> {
    reader: R,
    global: Records,
    /// Bytes of the present entry's content, then of its padding, that were not read.
    content: u64,
    padding: u64,
}

impl<R: Read> Archive<R> {
    /// Begins to read.
    pub fn new(reader: R) -> Self {
        Self { reader, global: Records::new(), content: 0, padding: 0 }
    }

    /// The reader, behind what was read.
    pub fn into_inner(self) -> R {
        self.reader
    }

    /// The present entry's content.
    pub fn content(&mut self) -> Content<'_, R> {
        Content(self)
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// When the archive is cut, or the entry is none that images have.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut local = Records::new();
        let (mut long_path, mut long_link) = (None, None);
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let path = header.path_bytes().into_owned();
            let refuse = |why: &str| TarError::Entry { path: shown(&path), why: why.into() };
            let size = header.entry_size().map_err(|_| refuse("its size is not a number"))?;
            match header.entry_type() {
                EntryType::XHeader => {
                    local.append(&mut self.records(size, &path)?);
                    bounded(&local, &path)?;
                }
                EntryType::XGlobalHeader => {
                    let mut records = self.records(size, &path)?;
                    self.global.append(&mut records);
                    bounded(&self.global, &path)?;
                }
                EntryType::GNULongName => long_path = Some(self.extension(size, &path)?),
                EntryType::GNULongLink => long_link = Some(self.extension(size, &path)?),
                kind => {
                    let mut records = self.global.clone();
                    records.append(&mut local);
                    let link = header.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
                    let names = (long_path.unwrap_or(path), long_link.unwrap_or(link));
                    return self.entry(&header, kind, names, records).map(Some);
                }
            }
        }
    }

    fn entry(
        &mut self,
        header: &tar::Header,
        kind: EntryType,
        (path, link): (Vec<u8>, Vec<u8>),
        mut records: Records,
    ) -> Result<Entry, TarError> {
        let path = records.remove(b"path".as_slice()).unwrap_or(path);
        let link = records.remove(b"linkpath".as_slice()).unwrap_or(link);
        let refuse = |why: &str| TarError::Entry { path: shown(&path), why: why.into() };
        if records.keys().any(|key| key.starts_with(b"GNU.sparse.")) || kind.is_gnu_sparse() {
            return Err(refuse("sparse files are not supported in layers; archive it without --sparse"));
        }
        let number = |key: &[u8], field: io::Result<u64>| match records.get(key) {
            Some(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
            None => field.ok(),
        };
        let size = number(b"size", header.entry_size()).ok_or_else(|| refuse("its size is not a number"))?;
        let id = |key: &[u8], field| number(key, field).and_then(|id| u32::try_from(id).ok());
        let uid = id(b"uid", header.uid()).ok_or_else(|| refuse("its owner is not a number"))?;
        let gid = id(b"gid", header.gid()).ok_or_else(|| refuse("its group is not a number"))?;
        let mtime = match records.get(b"mtime".as_slice()) {
            Some(text) => seconds(text).ok_or_else(|| refuse("its time is not a number"))?,
            None => header.mtime().map_or(0, |time| time as i64),
        };
        let mode = header.mode().map_err(|_| refuse("its mode is not a number"))?;
        let device = match kind {
            EntryType::Char | EntryType::Block => {
                let part = |part: io::Result<Option<u32>>| part.ok().flatten();
                part(header.device_major())
                    .zip(part(header.device_minor()))
                    .ok_or_else(|| refuse("its device number is not a number"))?
            }
            _ => (0, 0),
        };
        let xattrs = records
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(b"SCHILY.xattr.")?.to_vec(), value)))
            .collect();
        self.begin(size);
        let size = if kind.is_file() || kind.is_contiguous() { size } else { 0 };
        let mode = (mode & 0o7777) as u16;
        Ok(Entry { path, link, kind, mode, uid, gid, mtime, size, device, xattrs })
    }

    fn header(&mut self) -> Result<Option<tar::Header>, TarError> {
        let mut header = tar::Header::new_old();
        let bytes = header.as_mut_bytes();
        let mut filled = 0_usize;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest) {
                // Some writers leave the two empty records at the end out.
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(read) => filled = filled.saturating_add(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = bytes
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        if header.cksum().ok() != Some(sum) {
            let why = "its header's checksum is wrong; the layer is not a tar".into();
            return Err(TarError::Entry { path: shown(&header.path_bytes()), why });
        }
        Ok(Some(header))
    }

    fn begin(&mut self, size: u64) {
        self.content = size;
        self.padding = size.wrapping_neg() % RECORD;
    }

    fn skip(&mut self) -> io::Result<()> {
        let left = self.content.saturating_add(self.padding);
        let skipped = io::copy(&mut self.reader.by_ref().take(left), &mut io::sink())?;
        if skipped != left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (self.content, self.padding) = (0, 0);
        Ok(())
    }

    fn extension(&mut self, size: u64, path: &[u8]) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENSION {
            let why = format!("its extended header has {size} bytes; the limit is {MAX_EXTENSION}");
            return Err(TarError::Entry { path: shown(path), why });
        }
        self.begin(size);
        let mut bytes = Vec::new();
        self.content().read_to_end(&mut bytes)?;
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    /// Reads `LENGTH KEYWORD=VALUE\n` records.
    fn records(&mut self, size: u64, path: &[u8]) -> Result<Records, TarError> {
        let bytes = self.extension(size, path)?;
        let refuse = || TarError::Entry { path: shown(path), why: "its extended header is malformed".into() };
        let mut records = Records::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(refuse)?;
            let length: usize = rest
                .get(..space)
                .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
                .ok_or_else(refuse)?;
            let (record, after) = rest.split_at_checked(length).ok_or_else(refuse)?;
            let body = record
                .get(space.saturating_add(1)..)
                .and_then(|body| body.strip_suffix(b"\n"))
                .ok_or_else(refuse)?;
            let equals = body.iter().position(|byte| *byte == b'=').ok_or_else(refuse)?;
            let (key, value) = body.split_at_checked(equals).ok_or_else(refuse)?;
            records.insert(key.to_vec(), value.get(1..).unwrap_or_default().to_vec());
            rest = after;
        }
        Ok(records)
    }
}

/// The content of an archive's present entry.
pub struct Content<'a, R>(&'a mut Archive<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.content == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let want = buffer.len().min(usize::try_from(self.0.content).unwrap_or(usize::MAX));
        let read = self.0.reader.read(buffer.get_mut(..want).unwrap_or_default())?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.0.content = self.0.content.saturating_sub(read as u64);
        Ok(read)
    }
}

/// Several headers may stand before one entry; together they are no longer than one may be.
fn bounded(records: &Records, path: &[u8]) -> Result<(), TarError> {
    match room(records) <= MAX_EXTENSION.saturating_mul(2) {
        true => Ok(()),
        false => Err(TarError::Entry { path: shown(path), why: "its extended headers are too long".into() }),
    }
}

/// A pax time, rounded down to seconds.
fn seconds(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    let below = text.starts_with('-') && fraction.bytes().any(|digit| digit != b'0');
    Some(if below { whole.saturating_sub(1) } else { whole })
}

/// A name for a person: at most 256 characters.
pub fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(256).collect()
}
