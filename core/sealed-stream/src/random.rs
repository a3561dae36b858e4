//! Reading from anywhere: only the segments that hold what is asked for are fetched and opened.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use crate::layout::{HEADER_LEN, TAG_LEN};
use crate::{AssociatedData, Key, Layout, SharedReader, StreamError};
use coffer_core_digest::{Algorithm, Digest, Hasher};

/// As many opened segments are kept: loaders of models jump between a few places.
pub const CACHED_SEGMENTS: usize = 8;

/// Ciphertext that can be read from anywhere: a file, a memory map, a server that answers range requests.
pub trait ReadAt {
    /// Reads into `buffer` from `offset` on and returns how much; 0 only at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        rest.read(buffer)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_slice().read_at(buffer, offset)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        T::read_at(self, buffer, offset)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Arc<T> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        T::read_at(self, buffer, offset)
    }
}

/// Fills `buffer` or says that the source ends in `segment`.
pub(crate) fn fill(
    source: &impl ReadAt,
    buffer: &mut [u8],
    offset: u64,
    segment: u32,
) -> Result<(), StreamError> {
    let mut filled = 0_usize;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => return Err(StreamError::Truncated { segment }),
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// SHA-256 over the header and all tags of a stream, which its manifest names. Reads nothing else and needs no key.
pub fn root_of(source: &impl ReadAt, layout: &Layout) -> Result<Digest, StreamError> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut header = [0; HEADER_LEN as usize];
    fill(source, &mut header, 0, 0)?;
    hasher.update(&header);
    for segment in 0..layout.segments() {
        let mut tag = [0; TAG_LEN as usize];
        let end = layout.sealed_range(segment).unwrap_or_default().end;
        fill(source, &mut tag, end.saturating_sub(TAG_LEN), segment)?;
        hasher.update(&tag);
    }
    Ok(hasher.finish())
}

/// Reads and seeks in the plaintext of a stream, with the memory of a [`SharedReader`].
pub struct SeekReader<S> {
    shared: SharedReader<S>,
    at: u64,
}

impl<S: ReadAt> SeekReader<S> {
    /// Reads the header. `layout` comes from the manifest, or from the length of the source.
    pub fn new(source: S, key: &Key, data: &AssociatedData, layout: Layout) -> Result<Self, StreamError> {
        Ok(SharedReader::new(source, key, data, layout)?.into())
    }

    /// The stream's shape.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        self.shared.layout()
    }
}

impl<S> From<SharedReader<S>> for SeekReader<S> {
    fn from(shared: SharedReader<S>) -> Self {
        Self { shared, at: 0 }
    }
}

impl<S: ReadAt> Read for SeekReader<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not beyond a segment: a bad one behind it must not take away what was opened.
        let length = self.shared.read_segment(buffer, self.at)?;
        self.at = self.at.saturating_add(length as u64);
        Ok(length)
    }
}

impl<S: ReadAt> Seek for SeekReader<S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.layout().size().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = target.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the place is before the stream's beginning")
        })?;
        Ok(self.at)
    }
}
