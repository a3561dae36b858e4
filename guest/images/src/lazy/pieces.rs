//! The pieces of a blob that are in memory: a bounded number, the longest unused go first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore};

use super::{Parts, Ranges};
use crate::{ImageError, ImageFault};

/// The unit that is fetched, in bytes. Small enough that a first read does not wait, large enough that the way to the
/// registry and back is a small part of it.
pub(crate) const PIECE: usize = 1 << 20;
/// How many are kept. The kernel keeps what was read, decrypted, in its page cache; this is for what is on its way.
const KEPT: usize = 32;
/// How many are fetched at once.
const AT_ONCE: usize = 8;
/// How many are fetched ahead of a program that reads on.
const AHEAD: u64 = 4;

type Cell = Arc<OnceCell<Bytes>>;

pub(super) struct Pieces {
    size: u64,
    ranges: Box<dyn Ranges>,
    kept: Mutex<Kept>,
    turns: Semaphore,
}

struct Kept {
    cells: HashMap<u64, (u64, Cell)>,
    clock: u64,
}

impl Kept {
    /// The piece's place, used just now. Whether it is new.
    fn cell(&mut self, number: u64) -> (Cell, bool) {
        self.clock = self.clock.saturating_add(1);
        if let Some((used, cell)) = self.cells.get_mut(&number) {
            *used = self.clock;
            return (Arc::clone(cell), false);
        }
        if self.cells.len() >= KEPT {
            let oldest = self.cells.iter().min_by_key(|(_, (used, _))| *used).map(|(number, _)| *number);
            // Whoever waits for it holds its place, and gets it.
            oldest.map(|number| self.cells.remove(&number));
        }
        let cell = Cell::default();
        self.cells.insert(number, (self.clock, Arc::clone(&cell)));
        (cell, true)
    }
}

impl Pieces {
    pub(super) fn new(parts: Parts) -> Self {
        let first = Arc::new(OnceCell::new_with(Some(parts.first)));
        let kept = Kept { cells: HashMap::from([(0, (0, first))]), clock: 0 };
        Self {
            size: parts.size,
            ranges: parts.ranges,
            kept: Mutex::new(kept),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Reads within the blob, and gives what should be fetched next by somebody who has time.
    pub(super) async fn read(&self, offset: u64, length: u32) -> Result<(Vec<u8>, Vec<u64>), ImageError> {
        let end = offset.saturating_add(u64::from(length)).min(self.size);
        let (first, last) = (offset / PIECE as u64, end.saturating_sub(1) / PIECE as u64);
        let reads_on = first > 0 && self.kept().cells.contains_key(&(first - 1)) || first == 0 && last > 0;
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        let mut new = false;
        for number in first..=last {
            let (cell, is_new) = self.kept().cell(number);
            new |= is_new;
            let piece = self.fetched(number, &cell).await?;
            let start = number.saturating_mul(PIECE as u64);
            let within =
                |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(PIECE).min(piece.len());
            bytes.extend_from_slice(piece.get(within(offset)..within(end)).unwrap_or_default());
        }
        let ahead = match new && reads_on {
            true => self.missing_after(last),
            false => Vec::new(),
        };
        Ok((bytes, ahead))
    }

    /// Fetches a piece, unless it is here.
    pub(super) async fn fetch(&self, number: u64) -> Result<(), ImageError> {
        let (cell, _) = self.kept().cell(number);
        self.fetched(number, &cell).await.map(drop)
    }

    /// One asks, and who wants the same meanwhile waits for it; after a failure the next one asks again.
    async fn fetched(&self, number: u64, cell: &Cell) -> Result<Bytes, ImageError> {
        let start = number.saturating_mul(PIECE as u64);
        let length = usize::try_from(self.size.saturating_sub(start)).unwrap_or(PIECE).min(PIECE);
        let get = async || {
            let _turn = self.turns.acquire().await;
            let piece = self.ranges.range(start, length).await?;
            match piece.len() == length {
                true => Ok(piece),
                false => Err(Box::new(ImageFault::Size {
                    what: format!("the piece at {start}"),
                    expected: length as u64,
                    found: piece.len() as u64,
                })),
            }
        };
        cell.get_or_try_init(get).await.cloned()
    }

    fn missing_after(&self, last: u64) -> Vec<u64> {
        let kept = self.kept();
        let within = |number: &u64| number.saturating_mul(PIECE as u64) < self.size;
        let next = last.saturating_add(1)..=last.saturating_add(AHEAD);
        next.filter(within).filter(|number| !kept.cells.contains_key(number)).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
