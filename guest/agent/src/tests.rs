//! The channel as the host sees it: a yamux client over an in-memory transport.

use std::future::poll_fn;

use coffer_core_channel::{
    BlobReply, Event, Frame, FrameReader, ImageSource, Input, Kind, Open, Refusal, RunRequest,
};
use coffer_core_digest::Digest;
use coffer_guest_images::{BlobSource, Progress};
use futures::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::compat::TokioAsyncReadCompatExt;
use yamux::{Config, Connection, Mode, Stream};

use crate::channel::Link;
use crate::host_blobs::HostBlobs;
use crate::input::{self, Sink};
use crate::outbox;

/// A host that opens the run stream, and hands over the streams that the guest opens.
async fn host() -> (Link, mpsc::Receiver<Stream>, Stream, mpsc::UnboundedReceiver<Stream>) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (link, streams) = Link::start(Box::new(ours));
    let mut connection = Connection::new(theirs.compat(), Config::default(), Mode::Client);
    let run = poll_fn(|cx| connection.poll_new_outbound(cx)).await.expect("a stream");
    let (opened, inbound) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(stream)) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
            if opened.send(stream).is_err() {
                return;
            }
        }
    });
    (link, streams, run, inbound)
}

async fn send(stream: &mut Stream, frame: Frame) {
    stream.write_all(&frame.encode().expect("bytes")).await.expect("written");
    stream.flush().await.expect("flushed");
}

async fn next(stream: &mut Stream, frames: &mut FrameReader) -> Option<Frame> {
    let mut piece = [0; 4096];
    loop {
        if let Some(frame) = frames.next().expect("a frame") {
            return Some(frame);
        }
        match stream.read(&mut piece).await.expect("read") {
            0 => return None,
            count => frames.push(&piece[..count]),
        }
    }
}

fn request() -> RunRequest {
    RunRequest {
        image: "image".into(),
        source: ImageSource::Registry { reference: "image".into(), plain_http: false },
        args: Vec::new(),
        env: Vec::new(),
        input: Input::Empty,
        terminal: None,
        network: None,
    }
}

#[tokio::test]
async fn steps_output_and_the_end_arrive_in_order_and_nothing_after_the_end() {
    let (_link, mut streams, mut run, _inbound) = host().await;
    send(&mut run, Frame::json(Kind::Open, &Open::Run(request())).expect("frame")).await;
    let (outbox, writing, mut orders) = outbox::open(streams.recv().await.expect("the run"));
    let open = orders.next().await.expect("read").expect("the request");
    assert!(matches!(open.parse(), Ok(Open::Run(read)) if read == request()));
    outbox.step("boot", "up".into());
    assert!(outbox.output(Kind::Stdout, b"hello").await);
    outbox.last(Frame::json(Kind::Exit, &7).expect("frame"));
    outbox.step("late", "nobody hears this".into());
    drop(outbox);
    let mut frames = FrameReader::default();
    let step: Event = next(&mut run, &mut frames).await.expect("step").parse().expect("JSON");
    assert_eq!((step.step.as_str(), step.detail.as_str()), ("boot", "up"));
    assert_eq!(next(&mut run, &mut frames).await.expect("output"), Frame::bytes(Kind::Stdout, b"hello"));
    let exit = next(&mut run, &mut frames).await.expect("end");
    assert_eq!((exit.kind, exit.parse::<i32>().ok()), (Kind::Exit, Some(7)));
    assert_eq!(next(&mut run, &mut frames).await, None);
    writing.await.expect("written");
}

#[tokio::test]
async fn the_host_s_hang_up_ends_the_link() {
    let (link, mut streams, run, inbound) = host().await;
    drop((run, inbound));
    // The host's connection goes with its task once the guest opens a stream that nobody takes.
    let mut stream = link.open().await.expect("a stream");
    // A stream that nothing is written to is not announced.
    let _gone_meanwhile = stream.write_all(b"x").await;
    let _gone_meanwhile = stream.flush().await;
    link.ended().await;
    assert!(streams.recv().await.is_none() || streams.recv().await.is_none());
}

/// Answers the guest's next blob stream with these frames, and says what it asked for.
async fn answer(inbound: &mut mpsc::UnboundedReceiver<Stream>, frames: Vec<Frame>) -> String {
    let mut stream = inbound.recv().await.expect("a stream");
    let request = next(&mut stream, &mut FrameReader::default()).await.expect("a request");
    for frame in frames {
        send(&mut stream, frame).await;
    }
    stream.close().await.expect("closed");
    match request.parse() {
        Ok(Open::Blob(request)) => request.digest,
        _ => panic!("not for a blob"),
    }
}

/// What the guest reads of a blob that is answered so.
async fn read(frames: Vec<Frame>) -> Result<Vec<u8>, String> {
    let (link, _streams, _run, mut inbound) = host().await;
    let digest = Digest::sha256(b"blob");
    let source = HostBlobs::new(link, digest, Vec::new());
    let reading = async {
        let code = |error: coffer_guest_images::ImageError| error.code();
        let mut chunks = source.blob(&digest).await.map_err(code)?;
        let mut all = Vec::new();
        while let Some(piece) = chunks.next().await.map_err(code)? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    };
    let (read, asked) = tokio::join!(reading, answer(&mut inbound, frames));
    assert_eq!(asked, digest.to_string());
    read
}

#[tokio::test]
async fn blobs_are_read_to_their_end_and_no_further() {
    let reply = |reply: &BlobReply| Frame::json(Kind::Reply, reply).expect("frame");
    let data = |bytes: &[u8]| Frame::bytes(Kind::Data, bytes);
    let whole = vec![reply(&BlobReply::Size(4)), data(b"ab"), data(b"cd"), data(b""), data(b"more")];
    assert_eq!(read(whole).await.expect("read"), b"abcd");
    assert_eq!(read(vec![reply(&BlobReply::Missing)]).await, Err("image.blob.missing".into()));
    let cut = vec![reply(&BlobReply::Size(4)), data(b"ab")];
    assert_eq!(read(cut).await, Err("image.channel".into()));
    let refusal = Refusal {
        code: String::new(),
        message: String::new(),
        expected: None,
        found: None,
        remedy: None,
        attempt: None,
    };
    let other = vec![Frame::json(Kind::Refusal, &refusal).expect("frame")];
    assert_eq!(read(other).await, Err("image.channel".into()));
}

#[tokio::test]
async fn a_workload_that_does_not_read_holds_back_no_signal_and_not_the_end() {
    let (link, mut streams, mut run, mut inbound) = host().await;
    send(&mut run, Frame::json(Kind::Open, &Open::Run(request())).expect("frame")).await;
    let (_outbox, _writing, mut orders) = outbox::open(streams.recv().await.expect("the run"));
    let _open = orders.next().await.expect("read");
    // The workload's end of this pipe is open, and nobody reads it.
    let (unread, stdin) = tokio::io::duplex(16);
    let feed = input::feed(&link, Input::Sent, stdin, Sink::Pipe);
    let mut typed = inbound.recv().await.expect("the input's stream");
    let asked = next(&mut typed, &mut FrameReader::default()).await.expect("what it is for");
    assert!(matches!(asked.parse(), Ok(Open::Input)));
    let flood = tokio::spawn(async move {
        let piece = Frame::bytes(Kind::Stdin, &[7; 64 << 10]).encode().expect("bytes");
        while typed.write_all(&piece).await.is_ok() && typed.flush().await.is_ok() {}
    });
    tokio::task::yield_now().await;
    send(&mut run, Frame::json(Kind::Signal, &15).expect("frame")).await;
    let signal = orders.next().await.expect("read").expect("a frame");
    assert_eq!(signal.parse::<i32>().ok(), Some(15));
    assert!(!flood.is_finished(), "the input is held back");
    // The end does not wait for the input either.
    drop((feed, unread));
    flood.abort();
}

#[tokio::test]
async fn input_arrives_whole_and_ends_and_what_was_not_admitted_is_not_asked_for() {
    let (link, _streams, _run, mut inbound) = host().await;
    let (mut workload, stdin) = tokio::io::duplex(1 << 10);
    let _feed = input::feed(&link, Input::Sent, stdin, Sink::Pipe);
    let mut typed = inbound.recv().await.expect("the input's stream");
    let _asked = next(&mut typed, &mut FrameReader::default()).await;
    for piece in [&b"hel"[..], b"lo", b""] {
        send(&mut typed, Frame::bytes(Kind::Stdin, piece)).await;
    }
    let mut read = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut workload, &mut read).await.expect("read");
    assert_eq!(read, "hello");
    // Not admitted: the workload's input ends at once, and the host is asked for nothing.
    for (sink, expected) in [(Sink::Pipe, &b""[..]), (Sink::Terminal, &[4])] {
        let (mut workload, stdin) = tokio::io::duplex(1 << 10);
        let _feed = input::feed(&link, Input::Empty, stdin, sink);
        let mut read = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut workload, &mut read).await.expect("read");
        assert_eq!(read, expected);
        assert!(inbound.try_recv().is_err());
    }
}
