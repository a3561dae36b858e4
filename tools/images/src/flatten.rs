//! A stack of layers becomes one tree (image-spec 1.1, `layer.md`), without root and without unpacking.
//!
//! File contents go to one nameless spool file; the tree remembers where. Layers are hostile: `..` is refused,
//! links are followed only within the image, and what layers may hold is bounded.

mod apply;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use coffer_core_seal::tree::{Contents, Extent, Meta, Tree};
use coffer_core_tar::{Archive, TarError};

use crate::error::{ImageError, at};
use apply::Change;

/// How much layers may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes after decompression, of all layers together.
    pub bytes: u64,
    /// Entries of all layers together.
    pub entries: u64,
}

impl Default for Limits {
    /// 64 GiB and two million entries.
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 2_000_000 }
    }
}

/// Names and extended attributes of all layers together, which are held in memory.
const MAX_NAMES: u64 = 512 << 20;

/// A flattened image: its tree and where the contents are.
pub struct Flat {
    /// The tree.
    pub tree: Tree,
    /// The contents of its files.
    pub contents: Box<dyn Contents + Send>,
}

/// Takes layers, lowest first.
pub(crate) struct Flattener {
    tree: Tree,
    spool: BufWriter<File>,
    position: u64,
    limits: Limits,
    left: Limits,
    names: u64,
}

impl Flattener {
    /// Spools in `directory`, which should have room for the whole image.
    pub(crate) fn new(directory: &Path, limits: Limits) -> Result<Self, ImageError> {
        let spool = tempfile::tempfile_in(directory).map_err(at(directory))?;
        let root = Meta { mode: 0o755, ..Meta::default() };
        let spool = BufWriter::with_capacity(256 << 10, spool);
        Ok(Self { tree: Tree::new(root), spool, position: 0, limits, left: limits, names: MAX_NAMES })
    }

    /// Applies one layer: a tar, plain or compressed with gzip or zstd.
    pub(crate) fn layer(&mut self, bytes: impl Read) -> Result<(), ImageError> {
        let mut bytes = BufReader::with_capacity(256 << 10, bytes);
        let reader = Bounded { inner: decompress(&mut bytes)?, left: self.left.bytes };
        let mut archive = Archive::new(reader);
        let mut changes = Vec::new();
        while let Some(entry) = archive.next_entry().map_err(|error| self.refuse(error))? {
            self.left.entries = self.left.entries.checked_sub(1).ok_or(self.over_entries())?;
            self.names = self
                .names
                .checked_sub(entry.memory())
                .ok_or(ImageError::Limit { what: "bytes of names and attributes", limit: MAX_NAMES })?;
            let extent = match entry.size {
                0 => Extent::default(),
                size => {
                    let extent = Extent { offset: self.position, len: size };
                    let copied = io::copy(&mut archive.content(), &mut self.spool)
                        .map_err(|error| self.refuse(error.into()))?;
                    self.position += copied;
                    extent
                }
            };
            changes.push(Change::of(entry, extent)?);
        }
        self.left.bytes = archive.into_inner().left;
        apply::apply(&mut self.tree, changes)
    }

    /// Takes away what an eStargz layer has for runtimes: its table of contents and the marks of what is fetched first.
    pub(crate) fn forget_stargz(&mut self) {
        for name in [&b"stargz.index.json"[..], b".prefetch.landmark", b".no.prefetch.landmark"] {
            self.tree.remove(Tree::ROOT, name);
        }
    }

    /// The tree and its contents.
    pub(crate) fn finish(self) -> Result<Flat, ImageError> {
        let path = Path::new("the spool file");
        let mut contents = self.spool.into_inner().map_err(|error| at(path)(error.into_error()))?;
        contents.rewind().map_err(at(path))?;
        Ok(Flat { tree: self.tree, contents: Box::new(contents) })
    }

    fn over_entries(&self) -> ImageError {
        ImageError::Limit { what: "entries", limit: self.limits.entries }
    }

    /// An I/O error of the layer, of the spool or of the limit.
    fn refuse(&self, error: TarError) -> ImageError {
        match error {
            TarError::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<Exceeded>()) => {
                ImageError::Limit { what: "bytes", limit: self.limits.bytes }
            }
            TarError::Io(error) => at(Path::new("the layer"))(error),
            TarError::Entry { path, why } => ImageError::Entry { path, why },
        }
    }
}

/// What the first bytes say, whatever the media type says: registries hold both mistakes.
fn decompress<'a>(bytes: &'a mut BufReader<impl Read>) -> Result<Box<dyn Read + 'a>, ImageError> {
    use std::io::BufRead;
    let layer = Path::new("the layer");
    let head = bytes.fill_buf().map_err(at(layer))?;
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(zstd::Decoder::new(bytes).map_err(at(layer))?)
        }
        _ => Box::new(bytes),
    })
}

#[derive(Debug, thiserror::Error)]
#[error("more bytes than allowed")]
struct Exceeded;

/// Fails where a limit of bytes is passed.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other(Exceeded))?;
        Ok(read)
    }
}

/// Writes a flattened image as EROFS.
pub(crate) fn write_erofs(flat: Flat, out: &mut dyn Write) -> Result<(), ImageError> {
    let Flat { tree, mut contents } = flat;
    let options = coffer_core_seal::erofs::Options::default();
    coffer_core_seal::erofs::write(&tree, &mut *contents, &options, out)?;
    Ok(())
}

#[cfg(test)]
mod tests;
