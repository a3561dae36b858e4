//! Many files at once, and how far they are.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use crate::SealError;

/// More threads than this wait for the disk or for memory, not for cryptography.
const MAX_THREADS: usize = 4;

/// Receives how many bytes of how many are done, from any thread.
pub type Progress<'a> = dyn Fn(u64, u64) + Sync + 'a;

/// Counts bytes of all files together.
pub(crate) struct Counter<'a> {
    done: AtomicU64,
    total: u64,
    progress: &'a Progress<'a>,
}

impl<'a> Counter<'a> {
    pub(crate) fn new(total: u64, progress: &'a Progress<'a>) -> Self {
        progress(0, total);
        Self { done: AtomicU64::new(0), total, progress }
    }

    pub(crate) fn add(&self, bytes: usize) {
        let done = self.done.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        (self.progress)(done, self.total);
    }
}

/// Does `work` for each item, results in order. The first failure stops what has not begun.
pub(crate) fn each<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, SealError> + Sync,
) -> Result<Vec<R>, SealError> {
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(items.len());
    let run = || {
        let mut own = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return Ok(own) };
            match work(item) {
                Ok(result) => own.push((at, result)),
                Err(error) => {
                    next.store(items.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    };
    let parts = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let ends = handles.into_iter().map(|handle| handle.join().unwrap_or(Err(SealError::Interrupted)));
        // All are joined before the first error is returned.
        ends.collect::<Vec<_>>().into_iter().collect::<Result<Vec<_>, _>>()
    })?;
    let mut results: Vec<_> = parts.into_iter().flatten().collect();
    results.sort_by_key(|(at, _)| *at);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}
