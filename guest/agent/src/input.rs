//! The workload's input: asked of the host on a stream of its own and passed on in a task of its own.
//!
//! A workload that does not read stops this task and nothing else: signals, sizes, the channel's end and the watch
//! over the image do not wait for it. Input that the gate did not admit is never asked for.

use coffer_core_channel::{Frame, FrameReader, Input, Kind, Open};
use futures::{AsyncReadExt, AsyncWriteExt as _};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;
use yamux::Stream;

use crate::channel::Link;

/// What is read from the stream at once.
const PIECE: usize = 32 << 10;
/// What a terminal's line discipline takes for the end of the input.
const END_OF_INPUT: u8 = 4;

/// Where the input goes, which decides how its end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// A pipe, which is closed.
    Pipe,
    /// A terminal, which is told.
    Terminal,
}

/// The task; it ends when this is dropped.
pub(crate) struct Feed(JoinHandle<()>);

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Passes the host's input on where the gate admitted it, and otherwise ends the workload's input at once.
pub(crate) fn feed(
    link: &Link,
    admitted: Input,
    stdin: impl AsyncWrite + Send + Unpin + 'static,
    sink: Sink,
) -> Feed {
    let link = link.clone();
    Feed(tokio::spawn(async move {
        let mut stdin = stdin;
        if admitted == Input::Sent && !pass(&link, &mut stdin).await {
            // It does not read any more.
            return;
        }
        if sink == Sink::Terminal {
            let _reads_no_more = stdin.write_all(&[END_OF_INPUT]).await;
        }
    }))
}

/// Until the input's end; false if the workload went first.
async fn pass(link: &Link, stdin: &mut (impl AsyncWrite + Unpin)) -> bool {
    let Some(mut stream) = link.open().await else { return true };
    if ask(&mut stream).await.is_none() {
        return true;
    }
    let mut frames = FrameReader::default();
    let mut piece = vec![0; PIECE];
    loop {
        match frames.next() {
            Ok(Some(frame)) if frame.kind == Kind::Stdin && !frame.payload.is_empty() => {
                if stdin.write_all(&frame.payload).await.is_err() {
                    return false;
                }
                continue;
            }
            Ok(None) => {}
            // The end; or a host that says what it must not, which is heard no further.
            Ok(Some(_)) | Err(_) => return true,
        }
        match stream.read(&mut piece).await {
            Ok(count) if count > 0 => frames.push(piece.get(..count).unwrap_or_default()),
            _ => return true,
        }
    }
}

async fn ask(stream: &mut Stream) -> Option<()> {
    let request = Frame::json(Kind::Open, &Open::Input).ok()?.encode().ok()?;
    stream.write_all(&request).await.ok()?;
    stream.flush().await.ok()
}
