//! The channel at work: yamux, the run stream's two directions, and the blob streams that the guest opens.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use coffer_core_channel::{Event, Frame, FrameReader, Kind, Open, Refusal, RunRequest};
use futures::future::poll_fn;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use yamux::{Config, Connection, Mode, Stream};

use crate::blobs::{Blobs, read_open};

/// How many streams the guest may have open.
const MAX_STREAMS: usize = 64;
/// What the guest may have on its way to us in all its streams: as much as each stream begins with.
const RECEIVE_WINDOW: usize = MAX_STREAMS * yamux::DEFAULT_CREDIT as usize;
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
    /// What the guest is told on the run stream.
    pub(crate) orders: Sender<Frame>,
    /// The workload's input, on the stream that the guest opens for it: it waits for a workload that does not read,
    /// and nothing else does.
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
        let (orders, ordered) = channel(QUEUE);
        let (input, typed) = channel(QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let lost = match carry(transport, request, blobs, ordered, typed, told.clone()).await {
                Ok(()) => "the guest closed it".to_owned(),
                Err(error) => error.to_string(),
            };
            // Nobody listens any more: then nobody misses it.
            let _ = told.send(Heard::Lost(lost)).await;
        });
        Self { heard, orders, input, _tasks: tasks }
    }
}

async fn carry(
    transport: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: RunRequest,
    blobs: Blobs,
    orders: Receiver<Frame>,
    input: Receiver<Frame>,
    told: Sender<Heard>,
) -> io::Result<()> {
    let mut config = Config::default();
    config.set_max_num_streams(MAX_STREAMS);
    config.set_max_connection_receive_window(Some(RECEIVE_WINDOW));
    let mut connection = Connection::new(transport, config, Mode::Client);
    let run = poll_fn(|cx| connection.poll_new_outbound(cx)).await.map_err(io::Error::other)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_guest(connection, blobs, input));
    let (reader, mut writer) = run.split();
    send(&mut writer, &Frame::json(Kind::Open, &Open::Run(request)).map_err(io::Error::other)?).await?;
    tasks.spawn(async move {
        // Its failure shows at the reader, which says how the stream ended.
        let _ = write_orders(writer, orders).await;
    });
    read_run(reader, told).await
}

/// Drives the connection and serves what the guest opens, until the connection ends.
async fn serve_guest<T: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<T>,
    blobs: Blobs,
    input: Receiver<Frame>,
) {
    let input = Arc::new(Mutex::new(Some(input)));
    let mut streams = JoinSet::new();
    while let Some(Ok(stream)) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
        let (blobs, input) = (blobs.clone(), Arc::clone(&input));
        streams.spawn(async move {
            // The guest sees the end of its stream and says what it missed; the host has nothing to add.
            let _ = serve(stream, &blobs, &input).await;
        });
        while streams.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: Stream, blobs: &Blobs, input: &Mutex<Option<Receiver<Frame>>>) -> io::Result<()> {
    match read_open(&mut stream).await? {
        Open::Blob(request) => blobs.serve(stream, &request).await,
        Open::Input => {
            let input = input.lock().unwrap_or_else(PoisonError::into_inner).take();
            let input = input.ok_or_else(|| io::Error::other("the guest asked for the input twice"))?;
            write_orders(stream, input).await
        }
        Open::Run(_) => Err(io::Error::other("the guest asked the host to run something")),
    }
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
            // After the last frame the host closes the channel: only then the guest knows that the frame arrived, and
            // may power off. What it had only queued would be lost with it.
            let last = matches!(heard, Heard::Exit(_) | Heard::Refusal(_));
            if told.send(heard).await.is_err() || last {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use coffer_core_channel::{BlobReply, BlobRequest, ImageSource, Input};
    use coffer_core_digest::Digest;
    use tokio_util::compat::TokioAsyncReadCompatExt;

    fn request() -> RunRequest {
        RunRequest {
            image: "image".into(),
            source: ImageSource::Registry { reference: "image".into(), plain_http: false },
            args: Vec::new(),
            env: Vec::new(),
            input: Input::Sent,
            terminal: None,
            network: None,
        }
    }

    async fn read_frame(stream: &mut Stream, frames: &mut FrameReader) -> Option<Frame> {
        let mut piece = [0; 4096];
        loop {
            if let Some(frame) = frames.next().unwrap() {
                return Some(frame);
            }
            match stream.read(&mut piece).await.unwrap() {
                0 => return None,
                read => frames.push(&piece[..read]),
            }
        }
    }

    /// The guest's end as the agent plays it: the first stream that comes is the run, blobs are asked for.
    async fn guest(
        socket: tokio::io::DuplexStream,
        play: impl AsyncFnOnce(&mut Stream, &mut FrameReader, Option<Stream>),
        blob: bool,
    ) {
        let mut connection = Connection::new(socket.compat(), Config::default(), Mode::Server);
        let mut run = poll_fn(|cx| connection.poll_next_inbound(cx)).await.unwrap().unwrap();
        let asked =
            if blob { Some(poll_fn(|cx| connection.poll_new_outbound(cx)).await.unwrap()) } else { None };
        let driver = tokio::spawn(async move {
            while let Some(Ok(_)) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {}
        });
        let mut frames = FrameReader::default();
        let open = read_frame(&mut run, &mut frames).await.unwrap();
        assert!(matches!(open.parse().unwrap(), Open::Run(asked) if asked == request()));
        play(&mut run, &mut frames, asked).await;
        drop(run);
        driver.abort();
    }

    fn link(layout: Option<std::path::PathBuf>) -> (Link, tokio::io::DuplexStream) {
        let (host, guest) = tokio::io::duplex(1 << 16);
        (Link::open(host.compat(), request(), Blobs::new(layout, Vec::new())), guest)
    }

    #[tokio::test]
    async fn what_the_guest_says_is_heard_in_order_and_what_it_is_told_arrives() {
        let (mut link, socket) = link(None);
        let playing = tokio::spawn(guest(
            socket,
            async |run, frames, _| {
                let told = read_frame(run, frames).await.unwrap();
                assert_eq!(told.kind, Kind::Signal);
                send(run, &Frame::bytes(Kind::Stdout, &told.payload)).await.unwrap();
                send(run, &Frame::bytes(Kind::Stderr, b"err")).await.unwrap();
                send(run, &Frame::json(Kind::Exit, &7).unwrap()).await.unwrap();
                assert!(read_frame(run, frames).await.is_none());
            },
            false,
        ));
        link.orders.send(Frame::bytes(Kind::Signal, b"hello")).await.unwrap();
        assert!(matches!(link.heard.recv().await, Some(Heard::Stdout(bytes)) if bytes == b"hello"));
        assert!(matches!(link.heard.recv().await, Some(Heard::Stderr(bytes)) if bytes == b"err"));
        assert!(matches!(link.heard.recv().await, Some(Heard::Exit(7))));
        drop(link);
        playing.abort();
    }

    #[tokio::test]
    async fn input_that_nobody_reads_holds_no_signal_back() {
        let (link, socket) = link(None);
        let (input, orders) = (link.input.clone(), link.orders.clone());
        let playing = tokio::spawn(guest(
            socket,
            async |run, frames, typed| {
                let mut typed = typed.unwrap();
                send(&mut typed, &Frame::json(Kind::Open, &Open::Input).unwrap()).await.unwrap();
                let first = read_frame(&mut typed, &mut FrameReader::default()).await.unwrap();
                assert_eq!(first.kind, Kind::Stdin);
                // From here on the workload does not read; its stream stays open.
                let signal = read_frame(run, frames).await.unwrap();
                assert_eq!(signal, Frame::json(Kind::Signal, &15).unwrap());
                drop(typed);
            },
            true,
        ));
        let piece = Frame::bytes(Kind::Stdin, &[7; 64 << 10]);
        // As much as the queue and all windows take: the sender now waits.
        let patience = std::time::Duration::from_millis(200);
        while tokio::time::timeout(patience, input.send(piece.clone())).await.is_ok() {}
        orders.send(Frame::json(Kind::Signal, &15).unwrap()).await.unwrap();
        playing.await.unwrap();
        drop(link);
    }

    #[tokio::test]
    async fn a_blob_larger_than_any_window_reaches_the_guest() {
        let root = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0u32..3_000_000).map(|n| (n % 251) as u8).collect();
        let digest = Digest::sha256(&content);
        std::fs::create_dir_all(root.path().join("blobs/sha256")).unwrap();
        std::fs::write(root.path().join("blobs/sha256").join(digest.hex()), &content).unwrap();
        let (mut link, socket) = link(Some(root.path().into()));
        let playing = tokio::spawn(guest(
            socket,
            async move |run, _, blob| {
                let mut blob = blob.unwrap();
                let open = Open::Blob(BlobRequest { digest: digest.to_string() });
                send(&mut blob, &Frame::json(Kind::Open, &open).unwrap()).await.unwrap();
                let mut frames = FrameReader::default();
                let reply = read_frame(&mut blob, &mut frames).await.unwrap();
                assert!(matches!(reply.parse().unwrap(), BlobReply::Size(3_000_000)));
                let mut got = Vec::new();
                loop {
                    let frame = read_frame(&mut blob, &mut frames).await.unwrap();
                    if frame.payload.is_empty() {
                        break;
                    }
                    got.extend(frame.payload);
                }
                assert_eq!(Digest::sha256(&got), digest);
                send(run, &Frame::json(Kind::Exit, &0).unwrap()).await.unwrap();
                std::future::pending::<()>().await;
            },
            true,
        ));
        assert!(matches!(link.heard.recv().await, Some(Heard::Exit(0))));
        playing.abort();
    }

    #[tokio::test]
    async fn a_guest_that_goes_without_an_end_is_lost() {
        let (mut link, socket) = link(None);
        let playing = tokio::spawn(guest(socket, async |_, _, _| {}, false));
        assert!(matches!(link.heard.recv().await, Some(Heard::Lost(_))));
        playing.await.unwrap();
    }

    #[tokio::test]
    async fn a_frame_that_only_the_host_sends_ends_the_run() {
        let (mut link, socket) = link(None);
        let playing = tokio::spawn(guest(
            socket,
            async |run, _, _| {
                send(run, &Frame::bytes(Kind::Stdin, b"no")).await.unwrap();
                std::future::pending::<()>().await;
            },
            false,
        ));
        assert!(matches!(link.heard.recv().await, Some(Heard::Lost(reason)) if reason.contains("Stdin")));
        playing.abort();
    }
}
