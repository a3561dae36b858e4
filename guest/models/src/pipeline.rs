//! All files of a model, opened by a few workers and verified in order.
//!
//! Workers fetch runs of segments, open them and write them; one thread takes the runs' ciphertext in order and computes
//! root and digest of each file, which one segment alone cannot show. INVARIANT: a run is not fetched before there is a
//! buffer for it, and buffers are few, so memory is bounded; the lowest run that is missing always has one.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use coffer_core_digest::{Algorithm, Digest, Hasher};
use coffer_core_sealed_stream::{
    Artifact, FileEntry, HEADER_LEN, Header, ReadAt, SegmentOpener, StreamError, TAG_LEN,
};
use zeroize::Zeroizing;

use crate::error::at;
use crate::workplace::Workplace;
use crate::{ModelError, Object, Store};

/// Ciphertext that is fetched at once. With two buffers more than workers, all runs together have at most 12 MiB.
const RUN: u64 = 2 << 20;
/// More workers than this wait for the disk or for memory, not for cryptography.
const MAX_LOCAL: usize = 4;
/// Requests at a time.
const REMOTE: usize = 4;

/// Receives how many bytes of how many are done, in order, from one thread.
pub type Progress<'a> = dyn Fn(u64, u64) + Sync + 'a;

/// What goes along with work that takes long.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Is told how far it is.
    pub progress: &'a Progress<'a>,
    /// Once true, the work ends with [`ModelError::Interrupted`].
    pub stop: &'a AtomicBool,
}

/// A model whose manifest is open, and where its streams are.
pub(crate) struct Sealed<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) artifact: &'a Artifact,
}

impl Sealed<'_> {
    pub(crate) fn object(&self, file: &FileEntry) -> Result<Arc<dyn Object>, ModelError> {
        let object = self.store.stream(file.digest(), file.layout().sealed_size());
        object.map_err(|error| ModelError::of_source(file, error))
    }
}

/// Some segments of one file.
struct Run {
    number: u64,
    file: usize,
    first: u32,
    /// The one behind the last.
    end: u32,
}

/// The next run.
struct Cursor {
    number: u64,
    file: usize,
    segment: u32,
}

impl Cursor {
    fn next(&mut self, files: &[FileEntry]) -> Option<Run> {
        let file = self.file;
        let layout = files.get(file)?.layout();
        let many = (RUN / u64::from(layout.segment_size().bytes())).max(1) as u32;
        let (number, first) = (self.number, self.segment);
        let end = first.saturating_add(many).min(layout.segments());
        (self.number, self.segment) = (number + 1, end);
        if end == layout.segments() {
            (self.file, self.segment) = (file + 1, 0);
        }
        Some(Run { number, file, first, end })
    }
}

/// What a worker hands over: the run, and its ciphertext with the header if it is the file's first.
type Handed = (Run, Result<Vec<u8>, ModelError>);

/// Opens every file of the model, into `place` if there is one.
pub(crate) fn run(model: &Sealed<'_>, place: Option<&Workplace>, job: &Job<'_>) -> Result<(), ModelError> {
    let shared = Shared {
        model,
        place,
        files: model.artifact.manifest().files(),
        cursor: Mutex::new(Cursor { number: 0, file: 0, segment: 0 }),
        opener: Mutex::default(),
        outputs: Mutex::default(),
    };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let workers = if model.store.is_remote() { REMOTE } else { processors.min(MAX_LOCAL) };
    let (give_back, buffers) = channel();
    for _ in 0..workers + 2 {
        let _ = give_back.send(Vec::new());
    }
    let buffers = Mutex::new(buffers);
    let (hand_over, handed) = channel();
    thread::scope(|scope| {
        for _ in 0..workers {
            let (shared, buffers, hand_over) = (&shared, &buffers, hand_over.clone());
            scope.spawn(move || shared.work(buffers, &hand_over));
        }
        drop(hand_over);
        // When it returns, early or not, no buffer comes back any more, and workers end.
        shared.verify(give_back, &handed, job)
    })
}

struct Shared<'a> {
    model: &'a Sealed<'a>,
    place: Option<&'a Workplace>,
    files: &'a [FileEntry],
    cursor: Mutex<Cursor>,
    /// Of the file that is worked on.
    opener: Mutex<Option<(usize, Arc<SegmentOpener>)>>,
    outputs: Mutex<BTreeMap<usize, Arc<File>>>,
}

impl Shared<'_> {
    fn work(&self, buffers: &Mutex<Receiver<Vec<u8>>>, hand_over: &Sender<Handed>) {
        let mut plain = Zeroizing::new(Vec::new());
        loop {
            let buffer = buffers.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(mut buffer) = buffer else { return };
            let next = self.cursor.lock().unwrap_or_else(PoisonError::into_inner).next(self.files);
            let Some(run) = next else { return };
            let Some(file) = self.files.get(run.file) else { return };
            let result = self.open(&run, file, &mut buffer, &mut plain);
            let failed = result.is_err();
            if hand_over.send((run, result.map(|()| buffer))).is_err() || failed {
                return;
            }
        }
    }

    fn open(
        &self,
        run: &Run,
        file: &FileEntry,
        sealed: &mut Vec<u8>,
        plain: &mut Vec<u8>,
    ) -> Result<(), ModelError> {
        let output = self.output(run.file, file)?;
        if let (Some(place), Some(output)) = (self.place, &output)
            && run.number < place.done()
            && self.take_up(run, file, output, sealed)?
        {
            return Ok(());
        }
        let broken = |error| ModelError::of_read(file, error);
        let layout = file.layout();
        let begins = |segment| layout.sealed_range(segment).unwrap_or_default();
        let start = if run.first == 0 { 0 } else { begins(run.first).start };
        let end = begins(run.end.saturating_sub(1)).end;
        sealed.resize(usize::try_from(end.saturating_sub(start)).unwrap_or_default(), 0);
        let object = self.model.object(file)?;
        fill(&object, sealed, start, run.first).map_err(broken)?;
        let opener = match sealed.first_chunk().filter(|_| run.first == 0) {
            Some(header) => self.opener_with(run.file, file, header)?,
            None => self.opener(run.file, file)?,
        };
        for segment in run.first..run.end {
            let (from, to) = (begins(segment), layout.plain_range(segment).unwrap_or_default());
            plain.resize(usize::try_from(to.end.saturating_sub(to.start)).unwrap_or_default(), 0);
            let own = usize::try_from(from.start.saturating_sub(start)).unwrap_or_default();
            let behind = usize::try_from(from.end.saturating_sub(start)).unwrap_or_default();
            let piece = sealed.get(own..behind).unwrap_or_default();
            opener.open(segment, piece, plain).map_err(|error| match error {
                // The file's first segment says by itself whether the key fits.
                StreamError::WrongKeyOrFile if segment > 0 => broken(StreamError::Corrupt { segment }),
                error => broken(error),
            })?;
            if let Some(output) = &output {
                output.write_all_at(plain, to.start).map_err(at(file.path().as_str().as_ref()))?;
            }
        }
        Ok(())
    }

    /// Makes the ciphertext of plaintext that was kept. False if there is none.
    fn take_up(
        &self,
        run: &Run,
        file: &FileEntry,
        output: &File,
        sealed: &mut Vec<u8>,
    ) -> Result<bool, ModelError> {
        let layout = file.layout();
        let opener = self.opener(run.file, file)?;
        sealed.clear();
        if run.first == 0 {
            sealed.extend_from_slice(opener.header().as_bytes());
        }
        let mut piece = Zeroizing::new(Vec::new());
        for segment in run.first..run.end {
            let range = layout.plain_range(segment).unwrap_or_default();
            piece.resize(usize::try_from(range.end.saturating_sub(range.start)).unwrap_or_default(), 0);
            if output.read_exact_at(&mut piece, range.start).is_err() {
                return Ok(false);
            }
            opener.seal_again(segment, &mut piece).map_err(|error| ModelError::of_read(file, error))?;
            sealed.extend_from_slice(&piece);
        }
        Ok(true)
    }

    fn output(&self, index: usize, file: &FileEntry) -> Result<Option<Arc<File>>, ModelError> {
        let Some(place) = self.place else { return Ok(None) };
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(output) = outputs.get(&index) {
            return Ok(Some(Arc::clone(output)));
        }
        let output = Arc::new(place.file(file)?);
        outputs.insert(index, Arc::clone(&output));
        Ok(Some(output))
    }

    fn opener(&self, index: usize, file: &FileEntry) -> Result<Arc<SegmentOpener>, ModelError> {
        if let Some(opener) = self.known(index) {
            return Ok(opener);
        }
        let mut header = [0; HEADER_LEN as usize];
        let object = self.model.object(file)?;
        fill(&object, &mut header, 0, 0).map_err(|error| ModelError::of_read(file, error))?;
        self.opener_with(index, file, &header)
    }

    fn opener_with(
        &self,
        index: usize,
        file: &FileEntry,
        header: &[u8; HEADER_LEN as usize],
    ) -> Result<Arc<SegmentOpener>, ModelError> {
        let header = Header::parse(header).map_err(|error| ModelError::of_read(file, error))?;
        let made = self.model.artifact.segments(file.path().as_str(), header);
        let made = Arc::new(made.map_err(|error| ModelError::of_artifact(file, error))?);
        *self.opener.lock().unwrap_or_else(PoisonError::into_inner) = Some((index, Arc::clone(&made)));
        Ok(made)
    }

    fn known(&self, index: usize) -> Option<Arc<SegmentOpener>> {
        let known = self.opener.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(own, _)| *own == index).map(|(_, opener)| Arc::clone(opener))
    }

    /// Takes runs in order.
    fn verify(
        &self,
        give_back: Sender<Vec<u8>>,
        handed: &Receiver<Handed>,
        job: &Job<'_>,
    ) -> Result<(), ModelError> {
        let sizes = self.files.iter().map(|file| file.layout().size());
        let total = sizes.fold(0, u64::saturating_add);
        let (mut done, mut number) = (0, 0);
        let mut waiting: BTreeMap<u64, Handed> = BTreeMap::new();
        let mut sums = Sums::new();
        (job.progress)(0, total);
        for file in 0..self.files.len() {
            let Some(entry) = self.files.get(file) else { break };
            loop {
                if job.stop.load(Ordering::Relaxed) {
                    return Err(ModelError::Interrupted);
                }
                let (run, result) = match waiting.remove(&number) {
                    Some(found) => found,
                    None => {
                        // Nobody is left to hand over what is missing only if a worker ended early.
                        let Ok(found) = handed.recv() else { return Err(ModelError::Interrupted) };
                        waiting.insert(found.0.number, found);
                        continue;
                    }
                };
                let sealed = result?;
                sums.add(&run, entry, &sealed);
                let _ = give_back.send(sealed);
                number += 1;
                let range = |segment| entry.layout().plain_range(segment).unwrap_or_default();
                done += range(run.end.saturating_sub(1)).end.saturating_sub(range(run.first).start);
                (job.progress)(done, total);
                if run.end == entry.layout().segments() {
                    break;
                }
                self.note(number)?;
            }
            std::mem::replace(&mut sums, Sums::new()).compare(entry)?;
            let output = self.outputs.lock().unwrap_or_else(PoisonError::into_inner).remove(&file);
            if let Some(output) = output {
                output
                    .set_len(entry.layout().size())
                    .and_then(|()| output.sync_all())
                    .map_err(at(entry.path().as_str().as_ref()))?;
            }
            self.note(number)?;
        }
        Ok(())
    }

    fn note(&self, number: u64) -> Result<(), ModelError> {
        match self.place.filter(|place| number > place.done()) {
            Some(place) => place.note(self.model.artifact.verified().digest(), number),
            None => Ok(()),
        }
    }
}

/// Root and digest of a file as far as it was taken.
struct Sums {
    root: Hasher,
    digest: Hasher,
}

impl Sums {
    fn new() -> Self {
        Self { root: Hasher::new(Algorithm::Sha256), digest: Hasher::new(Algorithm::Sha256) }
    }

    fn add(&mut self, run: &Run, file: &FileEntry, sealed: &[u8]) {
        self.digest.update(sealed);
        let mut rest = sealed;
        if run.first == 0 {
            let (header, behind) = rest.split_at_checked(HEADER_LEN as usize).unwrap_or_default();
            self.root.update(header);
            rest = behind;
        }
        for segment in run.first..run.end {
            let range = file.layout().sealed_range(segment).unwrap_or_default();
            let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or_default();
            let (own, behind) = rest.split_at_checked(length).unwrap_or_default();
            self.root.update(own.get(length.saturating_sub(TAG_LEN as usize)..).unwrap_or_default());
            rest = behind;
        }
    }

    fn compare(self, file: &FileEntry) -> Result<(), ModelError> {
        let boxed = |digest: &Digest| Box::new(*digest);
        let found = self.root.finish();
        if found != *file.root() {
            let error = StreamError::Root { expected: boxed(file.root()), found: boxed(&found) };
            return Err(ModelError::of_read(file, error));
        }
        let found = self.digest.finish();
        if found != *file.digest() {
            let (expected, found) = (boxed(file.digest()), boxed(&found));
            return Err(ModelError::Replaced { file: file.path().to_string(), expected, found });
        }
        Ok(())
    }
}

/// Fills `buffer` or says that the stream ends.
fn fill(source: &impl ReadAt, buffer: &mut [u8], offset: u64, segment: u32) -> Result<(), StreamError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read_at(rest, offset + filled as u64) {
            Ok(0) => return Err(StreamError::Truncated { segment }),
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
