//! One blob: held, read before it is whole, filled, and judged by its digest.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coffer_core_digest::Digest;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::Notify;

use crate::CacheError;
use crate::endpoint::Trouble;
use crate::folder::{Folder, Opened, digest_of};
use crate::pieces::{Pieces, Place};
use crate::remote::{Body, Got, Remote};

/// How often it is looked whether another process is done with a piece.
const LOOK: Duration = Duration::from_millis(20);

/// A blob of the cache. While one of its clones lives, it stays in the cache.
#[derive(Clone)]
pub struct Blob(Arc<Inner>);

pub(crate) struct Inner {
    folder: Arc<Folder>,
    digest: Digest,
    size: u64,
    /// The content; its shared lock is the hold.
    data: File,
    download: Option<Download>,
    whole: AtomicBool,
}

/// What a blob that was not whole has besides.
struct Download {
    pieces: Pieces,
    remote: Arc<Remote>,
    parallel: usize,
    /// Places that a task of this process has.
    busy: Mutex<HashSet<u64>>,
    /// A piece came, or a place became free.
    changed: Notify,
    /// How many reads wait for pieces; the filling waits for them.
    waiting: AtomicUsize,
    /// The registry sends blobs from their beginning only.
    no_ranges: AtomicBool,
    finishing: tokio::sync::Mutex<()>,
}

/// A place that this task has; nobody else fetches or finishes there.
struct Claim {
    inner: Arc<Inner>,
    place: Place,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(download) = &self.inner.download {
            download.pieces.unlock(self.place);
            download.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&number(self.place));
            download.changed.notify_waiters();
        }
    }
}

/// Whether a piece is fetched at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// Somebody reads it.
    Now,
    /// It comes after those that somebody reads.
    WhenCalm,
}

/// A read that waits for pieces.
struct Waiting<'a>(&'a Download);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify_waiters();
        }
    }
}

fn number(place: Place) -> u64 {
    match place {
        Place::Finish => 0,
        Place::Stream => 1,
        Place::Piece(index) => u64::from(index).saturating_add(2),
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob")
            .field("digest", &self.0.digest)
            .field("size", &self.0.size)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest && self.0.size == other.0.size
    }
}

impl Eq for Blob {}

impl Blob {
    pub(crate) fn new(
        folder: Arc<Folder>,
        digest: Digest,
        size: u64,
        opened: Opened,
        remote: Option<Arc<Remote>>,
        parallel: usize,
    ) -> Self {
        let (data, pieces) = match opened {
            Opened::Whole(data) => (data, None),
            Opened::Partial(data, pieces) => (data, Some(pieces)),
        };
        let download = pieces.zip(remote).map(|(pieces, remote)| Download {
            pieces,
            remote,
            parallel,
            busy: Mutex::default(),
            changed: Notify::new(),
            waiting: AtomicUsize::new(0),
            no_ranges: AtomicBool::new(false),
            finishing: tokio::sync::Mutex::default(),
        });
        let whole = AtomicBool::new(download.is_none());
        Self(Arc::new(Inner { folder, digest, size, data, download, whole }))
    }

    pub(crate) fn of(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// Its digest.
    pub fn digest(&self) -> &Digest {
        &self.0.digest
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Whether all of it is there and has its digest.
    pub fn is_whole(&self) -> bool {
        self.0.whole.load(Ordering::Acquire)
    }

    /// How many of its bytes are there.
    pub fn present(&self) -> u64 {
        match &self.0.download {
            Some(download) if !self.is_whole() => download.pieces.present().unwrap_or_default(),
            _ => self.0.size,
        }
    }

    /// Its file, if it is whole: to be opened by others while this holds it.
    pub fn path(&self) -> Option<PathBuf> {
        self.is_whole().then(|| self.0.folder.blob_path(&self.0.digest))
    }

    /// Reads bytes; what is not there yet is fetched first.
    ///
    /// # Errors
    /// When it cannot be fetched, or the range is outside of the blob.
    pub async fn read(&self, offset: u64, length: u32) -> Result<Vec<u8>, CacheError> {
        let inner = Arc::clone(&self.0);
        if offset.checked_add(u64::from(length)).is_none_or(|end| end > inner.size) {
            return Err(inner.failed("read")(io::ErrorKind::InvalidInput.into()));
        }
        if let (false, Some(download)) = (self.is_whole(), &inner.download) {
            download.waiting.fetch_add(1, Ordering::AcqRel);
            let _waiting = Waiting(download);
            let wanted = download.pieces.of(offset, u64::from(length));
            let fetching = Arc::clone(&inner);
            let fetched = futures::stream::iter(wanted)
                .map(move |index| Arc::clone(&fetching).fetch(index, Haste::Now));
            fetched.buffer_unordered(download.parallel).try_collect::<()>().await?;
        }
        blocking(move || {
            let mut bytes = vec![0; length as usize];
            inner.data.read_exact_at(&mut bytes, offset).map_err(inner.failed("read"))?;
            Ok(bytes)
        })
        .await
    }

    /// Fetches all that is missing and compares the whole with its digest.
    ///
    /// # Errors
    /// When it cannot be fetched, or is not what its digest says: then it is thrown away.
    pub async fn fill(&self) -> Result<(), CacheError> {
        let Some(download) = &self.0.download else { return Ok(()) };
        if self.is_whole() {
            return Ok(());
        }
        // The first one alone: it says whether the registry knows ranges.
        let missing = download.pieces.first_missing(0).map_err(self.0.failed("read"))?;
        if let Some(first) = missing {
            Arc::clone(&self.0).fetch(first, Haste::WhenCalm).await?;
            let inner = Arc::clone(&self.0);
            let rest = futures::stream::iter(first..download.pieces.count());
            let rest = rest.map(move |index| Arc::clone(&inner).fetch(index, Haste::WhenCalm));
            rest.buffer_unordered(download.parallel).try_collect::<()>().await?;
        }
        self.0.finish(download).await
    }
}

impl Download {
    /// Waits until no read waits for pieces.
    async fn calm(&self) {
        loop {
            let changed = self.changed.notified();
            if self.waiting.load(Ordering::Acquire) == 0 {
                return;
            }
            changed.await;
        }
    }
}

impl Inner {
    /// Whether nothing can come of it any more, because its file is gone.
    pub(crate) fn is_discarded(&self) -> bool {
        self.data.metadata().is_ok_and(|data| data.nlink() == 0)
    }

    fn failed(&self, what: &'static str) -> impl Fn(io::Error) -> CacheError + use<> {
        let path = self.folder.partial_path(&self.digest, self.size);
        move |error| CacheError::file(what, &path)(error)
    }

    fn fetch(self: Arc<Self>, index: u32, haste: Haste) -> BoxFuture<'static, Result<(), CacheError>> {
        Box::pin(async move {
            let Some(download) = &self.download else { return Ok(()) };
            if haste == Haste::WhenCalm {
                download.calm().await;
            }
            self.piece(download, index).await
        })
    }

    /// Fetches one piece, unless it is there or comes by another hand.
    async fn piece(self: &Arc<Self>, download: &Download, index: u32) -> Result<(), CacheError> {
        let mut trial = 0;
        loop {
            let changed = download.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.whole.load(Ordering::Acquire)
                || download.pieces.has(index).map_err(self.failed("read"))?
            {
                return Ok(());
            }
            // Who reads from the beginning found out that there are no ranges.
            if !download.no_ranges.load(Ordering::Acquire)
                && download.pieces.is_taken(Place::Stream).map_err(self.failed("lock"))?
            {
                download.no_ranges.store(true, Ordering::Release);
            }
            let streamed = download.no_ranges.load(Ordering::Acquire);
            let place = if streamed { Place::Stream } else { Place::Piece(index) };
            let Some(claim) = self.claim(download, place)? else {
                // Another process does not tell when it is done.
                let _either = tokio::time::timeout(LOOK, changed).await;
                continue;
            };
            if download.pieces.has(index).map_err(self.failed("read"))? {
                return Ok(());
            }
            if streamed {
                let body = download.remote.whole(&self.digest).await?;
                self.read_through(download, body, claim, &mut trial).await?;
                continue;
            }
            let (start, length) = download.pieces.place(index);
            match download.remote.range(&self.digest, start, length, self.size).await? {
                Got::Piece(bytes) => return self.store(bytes, claim).await,
                Got::Whole(body) => {
                    download.no_ranges.store(true, Ordering::Release);
                    drop(claim);
                    if let Some(claim) = self.claim(download, Place::Stream)? {
                        self.read_through(download, body, claim, &mut trial).await?;
                    }
                }
            }
        }
    }

    /// Takes every piece from a body that comes from the beginning. An early end is tried again, a few times.
    async fn read_through(
        self: &Arc<Self>,
        download: &Download,
        mut body: Body,
        _claim: Claim,
        trial: &mut u32,
    ) -> Result<(), CacheError> {
        let what = format!("the blob {}", self.digest);
        for index in 0..download.pieces.count() {
            let length = usize::try_from(download.pieces.place(index).1).unwrap_or_default();
            match download.remote.next(&mut body, length).await {
                Ok(bytes) => self.take(download, index, bytes).await?,
                Err(Trouble::Again { why, after }) if *trial + 1 < download.remote.patience.attempts => {
                    *trial += 1;
                    tracing::debug!(%what, why, "a blob ended early");
                    tokio::time::sleep(download.remote.patience.wait(*trial, after)).await;
                    return Ok(());
                }
                Err(Trouble::Again { why, .. } | Trouble::Stays(why)) => {
                    return Err(CacheError::Registry { registry: download.remote.names(), what, why });
                }
                Err(Trouble::Missing) => {
                    return Err(CacheError::Missing { registry: download.remote.names(), what });
                }
            }
        }
        Ok(())
    }

    /// Stores a piece that came unasked. Who has its place gives it back soon: with the piece, or because they found
    /// too that there are no ranges.
    async fn take(
        self: &Arc<Self>,
        download: &Download,
        index: u32,
        bytes: Vec<u8>,
    ) -> Result<(), CacheError> {
        loop {
            let changed = download.changed.notified();
            if download.pieces.has(index).map_err(self.failed("read"))? {
                return Ok(());
            }
            if let Some(claim) = self.claim(download, Place::Piece(index))? {
                return self.store(bytes, claim).await;
            }
            let _either = tokio::time::timeout(LOOK, changed).await;
        }
    }

    fn claim(self: &Arc<Self>, download: &Download, place: Place) -> Result<Option<Claim>, CacheError> {
        if !download.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(number(place)) {
            return Ok(None);
        }
        match download.pieces.try_lock(place) {
            Ok(true) => Ok(Some(Claim { inner: Arc::clone(self), place })),
            taken => {
                download.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&number(place));
                taken.map(|_| None).map_err(self.failed("lock"))
            }
        }
    }

    /// Writes a piece: data, then their synchronization, then the map. The claim goes along to the thread that does it,
    /// so that nothing is written by a task that was given up after the piece became another's.
    async fn store(&self, bytes: Vec<u8>, claim: Claim) -> Result<(), CacheError> {
        blocking(move || {
            let inner = &claim.inner;
            let (Some(download), Place::Piece(index)) = (&inner.download, claim.place) else { return Ok(()) };
            if download.pieces.has(index).map_err(inner.failed("read"))? {
                return Ok(());
            }
            let (start, _) = download.pieces.place(index);
            let written = inner.data.write_all_at(&bytes, start).and_then(|()| inner.data.sync_data());
            written.and_then(|()| download.pieces.set(index)).map_err(inner.failed("write"))
        })
        .await
    }

    /// Judges the whole by its digest, once among all who have it.
    async fn finish(self: &Arc<Self>, download: &Download) -> Result<(), CacheError> {
        let _one = download.finishing.lock().await;
        if self.whole.load(Ordering::Acquire) {
            return Ok(());
        }
        let inner = Arc::clone(self);
        let sources = download.remote.names();
        blocking(move || {
            let Some(download) = &inner.download else { return Ok(()) };
            download.pieces.lock(Place::Finish).map_err(inner.failed("lock"))?;
            let _finishing = Claim { inner: Arc::clone(&inner), place: Place::Finish };
            if inner.folder.is_kept(&inner.digest, &inner.data) {
                inner.whole.store(true, Ordering::Release);
                return Ok(());
            }
            if inner.is_discarded() {
                return Err(CacheError::Discarded { digest: inner.digest });
            }
            let found =
                digest_of(&inner.data, inner.digest.algorithm(), inner.size).map_err(inner.failed("read"))?;
            if found != inner.digest {
                inner.folder.discard(&inner.digest, inner.size)?;
                return Err(CacheError::Digest {
                    expected: Box::new(inner.digest),
                    found: Box::new(found),
                    sources,
                });
            }
            inner.folder.keep(&inner.digest, inner.size, &inner.data)?;
            inner.whole.store(true, Ordering::Release);
            Ok(())
        })
        .await
    }
}

/// Work with files, on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(CacheError::Folder {
            what: "work on",
            path: PathBuf::from("a file"),
            source: io::Error::other(error.to_string()),
        }),
    }
}
