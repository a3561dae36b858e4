//! Reading from anywhere: only the segments that hold what is asked for are fetched and opened.

use std::io::{self, Read, Seek, SeekFrom};

use crate::layout::{HEADER_LEN, TAG_LEN};
use crate::source::{ReadAt, fill};
use crate::{AssociatedData, Key, Layout, SharedReader, StreamError};
use coffer_core_digest::{Algorithm, Digest, Hasher};

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
