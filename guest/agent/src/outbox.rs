//! The run stream: what goes to the host, in order and bounded, and what comes from it.

use std::sync::Arc;

use coffer_core_channel::{Event, Frame, FrameReader, Kind};
use coffer_guest_images::Progress;
use coffer_sys_process::uptime_us;
use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use yamux::Stream;

use crate::console;
use crate::stop::Stop;

/// How many pieces of output wait for the host; then the workload waits.
const PIECES: usize = 16;
/// What is read from the stream at once.
const PIECE: usize = 32 << 10;

/// Where frames to the host go.
#[derive(Clone)]
pub(crate) struct Outbox {
    frames: mpsc::UnboundedSender<(Frame, Option<OwnedSemaphorePermit>)>,
    room: Arc<Semaphore>,
}

/// What the host orders.
pub(crate) struct Orders {
    stream: ReadHalf<Stream>,
    frames: FrameReader,
}

/// Takes the run stream apart. The handle ends when everything was written and the stream is closed.
pub(crate) fn open(stream: Stream) -> (Outbox, JoinHandle<()>, Orders) {
    let (reader, writer) = stream.split();
    let (frames, queued) = mpsc::unbounded_channel();
    let writing = tokio::spawn(write(writer, queued));
    let outbox = Outbox { frames, room: Arc::new(Semaphore::new(PIECES)) };
    (outbox, writing, Orders { stream: reader, frames: FrameReader::default() })
}

async fn write(
    mut stream: WriteHalf<Stream>,
    mut queued: mpsc::UnboundedReceiver<(Frame, Option<OwnedSemaphorePermit>)>,
) {
    while let Some((frame, room)) = queued.recv().await {
        let last = matches!(frame.kind, Kind::Exit | Kind::Refusal);
        let Ok(bytes) = frame.encode() else { continue };
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        drop(room);
        if last {
            break;
        }
    }
    // The host reads up to here.
    let _closed_either_way = stream.close().await;
}

impl Outbox {
    /// Sends output, waiting while the host is behind; false if it is gone.
    pub(crate) async fn output(&self, kind: Kind, bytes: &[u8]) -> bool {
        let Ok(room) = Arc::clone(&self.room).acquire_owned().await else { return false };
        self.frames.send((Frame::bytes(kind, bytes), Some(room))).is_ok()
    }

    /// Sends the end. Nothing after it is sent.
    pub(crate) fn last(&self, frame: Frame) {
        let _host_gone = self.frames.send((frame, None));
    }
}

impl Progress for Outbox {
    /// A step for the timeline and the console. Public.
    fn step(&self, step: &str, detail: String) {
        console::line(&format!("{step}: {detail}"));
        let event = Event { step: step.to_owned(), detail, at_us: uptime_us() };
        if let Ok(frame) = Frame::json(Kind::Event, &event) {
            let _host_gone = self.frames.send((frame, None));
        }
    }
}

impl Orders {
    /// The next frame from the host; `None` when it closed its side.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, Stop> {
        let broken = |why: String| {
            crate::refusal("channel.frame", why, "Use a launcher of the same version as the guest.")
        };
        let mut piece = vec![0; PIECE];
        loop {
            if let Some(frame) = self.frames.next().map_err(|why| broken(why.to_string()))? {
                return Ok(Some(frame));
            }
            match self.stream.read(&mut piece).await {
                Ok(0) => return Ok(None),
                Ok(count) => self.frames.push(piece.get(..count).unwrap_or_default()),
                Err(_) => return Err(Stop::HostGone),
            }
        }
    }
}
