//! Opening from beginning to end: ciphertext in, plaintext out, one segment in memory.

use std::io::{self, Read};

use coffer_core_digest::{Algorithm, Digest, Hasher};
use zeroize::Zeroizing;

use crate::layout::{HEADER_LEN, TAG_LEN};
use crate::segment::{Cipher, Place};
use crate::{AssociatedData, Header, Key, Layout, SegmentSize, StreamError};

const HEADER: usize = HEADER_LEN as usize;
const TAG: usize = TAG_LEN as usize;

/// Reads the plaintext of a stream. The end of input is reported only after the last segment was opened, nothing
/// followed it, and size and root were those expected.
pub struct Opener<R> {
    reader: R,
    cipher: Cipher,
    segment_size: SegmentSize,
    expected: Option<(u64, Digest)>,
    /// Ciphertext of one segment, and one byte more that says whether another follows.
    sealed: Vec<u8>,
    /// How much of `sealed` is there.
    filled: usize,
    plain: Zeroizing<Vec<u8>>,
    /// What of `plain` was read.
    at: usize,
    segment: u32,
    size: u64,
    root: Hasher,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Done,
    Failed,
}

impl<R: Read> Opener<R> {
    /// Begins with a stream of which nothing is known.
    pub fn new(
        reader: R,
        key: &Key,
        data: &AssociatedData,
        segment: SegmentSize,
    ) -> Result<Self, StreamError> {
        Self::begin(reader, key, data, segment, u64::from(segment.bytes()), None)
    }

    /// Begins with a stream whose size and root are known.
    pub fn expecting(
        reader: R,
        key: &Key,
        data: &AssociatedData,
        layout: &Layout,
        root: &Digest,
    ) -> Result<Self, StreamError> {
        let only = layout.sealed_size().saturating_sub(HEADER_LEN);
        let longest = if layout.segments() == 1 { only } else { layout.segment_size().long() };
        Self::begin(reader, key, data, layout.segment_size(), longest, Some((layout.size(), *root)))
    }

    /// `longest` is what the longest segment has, so that a short stream needs a short buffer.
    fn begin(
        mut reader: R,
        key: &Key,
        data: &AssociatedData,
        segment_size: SegmentSize,
        longest: u64,
        expected: Option<(u64, Digest)>,
    ) -> Result<Self, StreamError> {
        let mut header = [0; HEADER];
        if fill(&mut reader, &mut header)? < HEADER {
            return Err(StreamError::Truncated { segment: 0 });
        }
        let header = Header::parse(&header)?;
        let buffer = segment_size.long().min(longest).saturating_add(1);
        let mut root = Hasher::new(Algorithm::Sha256);
        root.update(header.as_bytes());
        Ok(Self {
            reader,
            cipher: Cipher::new(key, header, data)?,
            segment_size,
            expected,
            // At most 1 MiB and a byte.
            sealed: vec![0; buffer as usize],
            filled: 0,
            plain: Zeroizing::new(Vec::new()),
            at: 0,
            segment: 0,
            size: 0,
            root,
            state: State::Reading,
        })
    }

    /// Reads and opens the next segment.
    fn next(&mut self) -> Result<(), StreamError> {
        let segment = self.segment;
        let own = if segment == 0 { HEADER_LEN } else { 0 };
        let full =
            (self.segment_size.long().saturating_sub(own) as usize).min(self.sealed.len().saturating_sub(1));
        let more = self.sealed.get_mut(self.filled..=full).unwrap_or_default();
        let read = fill(&mut self.reader, more)?;
        let there = self.filled.saturating_add(read);
        let place = if there > full { Place::Inner } else { Place::Last };
        let sealed = self.sealed.get(..there.min(full)).unwrap_or_default();
        let Some(length) = sealed.len().checked_sub(TAG) else {
            return Err(StreamError::Truncated { segment });
        };
        self.plain.resize(length, 0);
        if self.cipher.open(segment, place, sealed, &mut self.plain).is_none() {
            let found = self.cipher.refusal(segment, place, sealed, &mut self.plain);
            self.plain.clear();
            return Err(found);
        }
        if length == 0 && segment > 0 {
            // No writer of the format makes an empty segment behind a full one.
            return Err(StreamError::Corrupt { segment });
        }
        self.root.update(sealed.get(length..).unwrap_or_default());
        self.size = self.size.saturating_add(length as u64);
        self.at = 0;
        if let Some((expected, _)) = self.expected.filter(|(expected, _)| *expected < self.size) {
            return Err(StreamError::Size { expected, found: self.size });
        }
        if place == Place::Last {
            return self.end();
        }
        let long = StreamError::TooLarge { size: self.size, segment: self.segment_size.bytes() };
        self.segment = segment.checked_add(1).ok_or(long)?;
        // The byte that was read ahead begins the next segment.
        let ahead = self.sealed.get(full).copied().unwrap_or_default();
        if let Some(first) = self.sealed.first_mut() {
            *first = ahead;
        }
        self.filled = 1;
        Ok(())
    }

    fn end(&mut self) -> Result<(), StreamError> {
        self.state = State::Done;
        let hasher = std::mem::replace(&mut self.root, Hasher::new(Algorithm::Sha256));
        let root = hasher.finish();
        match self.expected {
            Some((expected, _)) if expected != self.size => {
                Err(StreamError::Size { expected, found: self.size })
            }
            Some((_, expected)) if expected != root => {
                Err(StreamError::Root { expected: Box::new(expected), found: Box::new(root) })
            }
            _ => Ok(()),
        }
    }
}

impl Cipher {
    /// Why a segment does not open. What is opened here to find out is thrown away.
    fn refusal(&self, segment: u32, place: Place, sealed: &[u8], plain: &mut [u8]) -> StreamError {
        let (other, found) = match place {
            Place::Last => (Place::Inner, StreamError::Truncated { segment }),
            Place::Inner => (Place::Last, StreamError::Extended { segment }),
        };
        let opens = self.open(segment, other, sealed, plain).is_some();
        plain.fill(0);
        match (opens, segment) {
            (true, _) => found,
            (false, 0) => StreamError::WrongKeyOrFile,
            (false, _) => StreamError::Corrupt { segment },
        }
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.at >= self.plain.len() {
            match self.state {
                State::Done => return Ok(0),
                State::Failed => return Err(StreamError::Failed.into()),
                State::Reading => {}
            }
            if let Err(error) = self.next() {
                self.state = State::Failed;
                self.plain.clear();
                self.at = 0;
                return Err(error.into());
            }
        }
        let mut rest = self.plain.get(self.at..).unwrap_or_default();
        let length = rest.read(buffer)?;
        self.at = self.at.saturating_add(length);
        Ok(length)
    }
}

/// Reads until `buffer` is full or the input ends; returns how much was read.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0_usize;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
