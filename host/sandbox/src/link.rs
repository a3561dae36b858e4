//! The channel at work: yamux, the run stream's two directions, and the blob streams that the guest opens.

use std::io;

use coffer_core_channel::{Event, Frame, FrameReader, Kind, Open, Refusal, RunRequest};
use futures::future::poll_fn;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use yamux::{Config, Connection, Mode, Stream};

use crate::blobs::Blobs;

/// How many streams the guest may have open.
const MAX_STREAMS: usize = 64;
/// How many messages wait for their reader; then the guest waits.
const QUEUE: usize = 64;

/// What came over the run stream.
#[derive(Debug)]
pub(crate) enum Heard {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Event(Event),
    Exit(i32),
    Refusal(Refusal),
    /// The stream ended before the workload did.
    Lost(String),
}

/// The tasks of one channel; they end when this is dropped.
pub(crate) struct Link {
    pub(crate) heard: Receiver<Heard>,
    pub(crate) input: Sender<Frame>,
    _tasks: JoinSet<()>,
}

impl Link {
    /// Opens the run stream over `transport` and asks the guest to run `request`.
    pub(crate) fn open(
        transport: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: RunRequest,
        blobs: Blobs,
    ) -> Self {
        let (told, heard) = channel(QUEUE);
        let (input, orders) = channel(QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let lost = match carry(transport, request, blobs, orders, told.clone()).await {
                Ok(()) => "the guest closed it".to_owned(),
                Err(error) => error.to_string(),
            };
            // Nobody listens any more: then nobody misses it.
            let _ = told.send(Heard::Lost(lost)).await;
        });
        Self { heard, input, _tasks: tasks }
    }
}

async fn carry(
    transport: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: RunRequest,
    blobs: Blobs,
    orders: Receiver<Frame>,
    told: Sender<Heard>,
) -> io::Result<()> {
    let mut config = Config::default();
    config.set_max_num_streams(MAX_STREAMS);
    let mut connection = Connection::new(transport, config, Mode::Client);
    let run = poll_fn(|cx| connection.poll_new_outbound(cx)).await.map_err(io::Error::other)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_guest(connection, blobs));
    let (reader, mut writer) = run.split();
    send(&mut writer, &Frame::json(Kind::Open, &Open::Run(request)).map_err(io::Error::other)?).await?;
    tasks.spawn(async move {
        // Its failure shows at the reader, which says how the stream ended.
        let _ = write_orders(writer, orders).await;
    });
    read_run(reader, told).await
}

/// Drives the connection and serves what the guest opens, until the connection ends.
async fn serve_guest<T: AsyncRead + AsyncWrite + Unpin>(mut connection: Connection<T>, blobs: Blobs) {
    let mut streams = JoinSet::new();
    while let Some(Ok(stream)) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
        let blobs = blobs.clone();
        streams.spawn(async move { serve_blob(stream, blobs).await });
        while streams.try_join_next().is_some() {}
    }
}

async fn serve_blob(stream: Stream, blobs: Blobs) {
    // The guest sees the end of its stream and says what it missed; the host has nothing to add.
    let _ = blobs.serve(stream).await;
}

async fn write_orders(mut writer: impl AsyncWrite + Unpin, mut orders: Receiver<Frame>) -> io::Result<()> {
    while let Some(frame) = orders.recv().await {
        send(&mut writer, &frame).await?;
    }
    // The sandbox is gone; the tasks end with it.
    Ok(())
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    writer.write_all(&frame.encode().map_err(io::Error::other)?).await?;
    writer.flush().await
}

async fn read_run(mut reader: impl AsyncRead + Unpin, told: Sender<Heard>) -> io::Result<()> {
    let mut frames = FrameReader::default();
    let mut piece = vec![0; 64 << 10];
    loop {
        while let Some(frame) = frames.next().map_err(io::Error::other)? {
            let heard = match frame.kind {
                Kind::Stdout => Heard::Stdout(frame.payload),
                Kind::Stderr => Heard::Stderr(frame.payload),
                Kind::Event => Heard::Event(frame.parse().map_err(io::Error::other)?),
                Kind::Exit => Heard::Exit(frame.parse().map_err(io::Error::other)?),
                Kind::Refusal => Heard::Refusal(frame.parse().map_err(io::Error::other)?),
                other => {
                    return Err(io::Error::other(format!(
                        "the guest sent a {other:?} frame on the run stream"
                    )));
                }
            };
            if told.send(heard).await.is_err() {
                return Ok(());
            }
        }
        let read = reader.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        frames.push(piece.get(..read).unwrap_or_default());
    }
}
