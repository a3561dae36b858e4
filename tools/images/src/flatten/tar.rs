//! A reader of tar as image layers have it: ustar, pax (POSIX.1-2017, `pax`), GNU long names and numbers.
//!
//! The `tar` crate splits pax records at line feeds, which breaks binary attributes (a file capability may
//! hold the byte 0x0a), so records are read here by their length; header fields are still read by the crate.

use std::collections::BTreeMap;
use std::io::{self, Read};

const RECORD: usize = 512;
/// Extended headers and long names are not read beyond this.
const MAX_EXTENSION: u64 = 1 << 20;

/// Why a layer is not readable.
pub(super) enum TarError {
    /// Reading failed, or the archive ends early.
    Io(io::Error),
    /// An entry is malformed or of a kind that images do not have.
    Entry {
        /// Its name.
        path: String,
        /// What is wrong.
        why: String,
    },
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// An entry, with extended headers applied.
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: tar::EntryType,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    pub(super) size: u64,
    pub(super) device: (u32, u32),
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    /// About how much memory the entry takes.
    pub(super) fn memory(&self) -> u64 {
        let attributes: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
        (self.path.len() + self.link.len() + attributes + 128) as u64
    }
}

/// Pax records by keyword.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// A tar that is read forwards.
pub(super) struct Archive<R> {
    reader: R,
    global: Records,
    /// Bytes of the present entry's content, then of its padding, that were not read.
    content: u64,
    padding: u64,
}

impl<R: Read> Archive<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, global: Records::new(), content: 0, padding: 0 }
    }

    pub(super) fn into_inner(self) -> R {
        self.reader
    }

    /// The present entry's content.
    pub(super) fn content(&mut self) -> Content<'_, R> {
        Content(self)
    }

    /// The next entry; `None` at the end.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut local = Records::new();
        let (mut long_path, mut long_link) = (None, None);
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let path = header.path_bytes().into_owned();
            let refuse = |why: &str| TarError::Entry { path: shown(&path), why: why.into() };
            let size = header.entry_size().map_err(|_| refuse("its size is not a number"))?;
            match header.entry_type() {
                tar::EntryType::XHeader => local.append(&mut self.records(size, &path)?),
                tar::EntryType::XGlobalHeader => {
                    let mut records = self.records(size, &path)?;
                    self.global.append(&mut records);
                }
                tar::EntryType::GNULongName => long_path = Some(self.extension(size, &path)?),
                tar::EntryType::GNULongLink => long_link = Some(self.extension(size, &path)?),
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
        kind: tar::EntryType,
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
            tar::EntryType::Char | tar::EntryType::Block => {
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
        let mut filled = 0;
        while filled < RECORD {
            match self.reader.read(&mut bytes[filled..]) {
                // Some writers leave the two empty records at the end out.
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(read) => filled += read,
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
        self.padding = size.wrapping_neg() % RECORD as u64;
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
            let length: usize = std::str::from_utf8(&rest[..space])
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(refuse)?;
            let (record, after) = rest.split_at_checked(length).ok_or_else(refuse)?;
            let body =
                record.get(space + 1..).and_then(|body| body.strip_suffix(b"\n")).ok_or_else(refuse)?;
            let equals = body.iter().position(|byte| *byte == b'=').ok_or_else(refuse)?;
            records.insert(body[..equals].to_vec(), body[equals + 1..].to_vec());
            rest = after;
        }
        Ok(records)
    }
}

/// The content of an archive's present entry.
pub(super) struct Content<'a, R>(&'a mut Archive<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.content == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let want = buffer.len().min(usize::try_from(self.0.content).unwrap_or(usize::MAX));
        let read = self.0.reader.read(&mut buffer[..want])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.0.content -= read as u64;
        Ok(read)
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

pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(256).collect()
}
