//! Which pieces of a blob are there: a file beside the data, one byte for each, and the locks on these bytes.
//!
//! INVARIANT: a byte becomes 1 only after the piece's data were synchronized, so that a piece that counts is on the
//! disk whatever ended the process or the machine. A byte of any other value is a piece that is not there.
//! Locks are the kernel's, on open file descriptions: they end with the process that holds them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// The first bytes of the file: what it is, and its version.
const MAGIC: &[u8; 8] = b"cfrmap1\n";
/// Magic, the blob's size, the pieces' size.
const HEADER: u64 = 24;
const PRESENT: u8 = 1;
/// Bytes of the header whose locks have meanings of their own.
const FINISH: u64 = 0;
const STREAM: u64 = 1;

/// What is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// One piece, while it is fetched.
    Piece(u32),
    /// The end: the whole blob's digest is computed, and it is moved.
    Finish,
    /// The reading of the blob from its beginning, where a registry knows no ranges.
    Stream,
}

/// The map of one blob's pieces.
pub(crate) struct Pieces {
    file: File,
    size: u64,
    piece: u64,
}

impl Pieces {
    /// Takes an open file; what is not a map of this blob becomes an empty one.
    pub(crate) fn open(file: File, size: u64, piece: u64) -> io::Result<Self> {
        let pieces = Self { file, size, piece };
        let mut found = [0; HEADER as usize];
        let whole = pieces.file.metadata()?.len() == HEADER + u64::from(pieces.count());
        if !whole || pieces.file.read_exact_at(&mut found, 0).is_err() || found != pieces.header() {
            pieces.file.set_len(0)?;
            pieces.file.set_len(HEADER + u64::from(pieces.count()))?;
            pieces.file.write_all_at(&pieces.header(), 0)?;
            pieces.file.sync_all()?;
        }
        Ok(pieces)
    }

    /// The size of a map's file.
    pub(crate) fn length(size: u64, piece: u64) -> u64 {
        HEADER + size.div_ceil(piece)
    }

    fn header(&self) -> [u8; HEADER as usize] {
        let mut header = [0; HEADER as usize];
        let fields = MAGIC.iter().copied().chain(self.size.to_le_bytes()).chain(self.piece.to_le_bytes());
        header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        header
    }

    /// How many pieces there are.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.size.div_ceil(self.piece)).unwrap_or(u32::MAX)
    }

    /// Where a piece is: its first byte and its length.
    pub(crate) fn place(&self, index: u32) -> (u64, u64) {
        let start = u64::from(index).saturating_mul(self.piece);
        (start, self.piece.min(self.size.saturating_sub(start)))
    }

    /// The pieces that hold these bytes.
    pub(crate) fn of(&self, offset: u64, length: u64) -> std::ops::Range<u32> {
        let number = |at: u64| u32::try_from(at).unwrap_or(u32::MAX);
        number(offset / self.piece)
            ..number(offset.saturating_add(length).div_ceil(self.piece)).min(self.count())
    }

    pub(crate) fn has(&self, index: u32) -> io::Result<bool> {
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, HEADER + u64::from(index))?;
        Ok(byte[0] == PRESENT)
    }

    /// The first piece from `index` that is not there.
    pub(crate) fn first_missing(&self, index: u32) -> io::Result<Option<u32>> {
        for index in index..self.count() {
            if !self.has(index)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// How many bytes of the blob are there.
    pub(crate) fn present(&self) -> io::Result<u64> {
        let mut map = vec![0; usize::try_from(self.count()).unwrap_or_default()];
        self.file.read_exact_at(&mut map, HEADER)?;
        let there = (0..).zip(map).filter(|(_, byte)| *byte == PRESENT);
        Ok(there.map(|(index, _)| self.place(index).1).sum())
    }

    /// Says that a piece is there; its data must be synchronized.
    pub(crate) fn set(&self, index: u32) -> io::Result<()> {
        self.file.write_all_at(&[PRESENT], HEADER + u64::from(index))
    }

    /// Locks a place, if no other open map has it.
    pub(crate) fn try_lock(&self, place: Place) -> io::Result<bool> {
        let lock = lock_of(place, libc::F_WRLCK);
        match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether another open map has a place.
    pub(crate) fn is_taken(&self, place: Place) -> io::Result<bool> {
        let mut lock = lock_of(place, libc::F_WRLCK);
        fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut lock))?;
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    }

    /// Locks a place, and waits for it.
    pub(crate) fn lock(&self, place: Place) -> io::Result<()> {
        let lock = lock_of(place, libc::F_WRLCK);
        loop {
            match fcntl(&self.file, FcntlArg::F_OFD_SETLKW(&lock)) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Lets a place go. Closing the file would do it as well.
    pub(crate) fn unlock(&self, place: Place) {
        let lock = lock_of(place, libc::F_UNLCK);
        if let Err(error) = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)) {
            tracing::warn!(file = self.file.as_raw_fd(), %error, "a lock of the cache stays until the file is closed");
        }
    }
}

fn lock_of(place: Place, kind: libc::c_int) -> libc::flock {
    let start = match place {
        Place::Finish => FINISH,
        Place::Stream => STREAM,
        Place::Piece(index) => HEADER + u64::from(index),
    };
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}
