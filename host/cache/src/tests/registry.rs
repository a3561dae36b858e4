//! A registry on loopback that misbehaves as it is told, and counts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use coffer_core_digest::Digest;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// What a request is answered with.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Serve,
    /// The whole blob, whatever range was asked for.
    NoRanges,
    /// A status with header lines.
    Status(u16, &'static str),
    /// So many bytes of the body, then the end.
    Truncate(usize),
    /// So many bytes of the whole blob, whatever range was asked for.
    TruncateWhole(usize),
    /// So many bytes of the body, then silence.
    Stall(usize),
    /// Other bytes in place of the content.
    Other(Vec<u8>),
    /// A range that nobody asked for.
    WrongRange,
    /// More bytes than were asked for.
    TooLong,
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) head: String,
    pub(super) range: Option<(usize, usize)>,
    /// How many came before.
    pub(super) number: usize,
}

type Behave = Box<dyn FnMut(&Request) -> Answer + Send>;

pub(super) struct Registry {
    pub(super) address: String,
    state: Arc<State>,
}

struct State {
    content: Mutex<HashMap<String, Vec<u8>>>,
    behave: Mutex<Behave>,
    requests: Mutex<Vec<Request>>,
    sent: AtomicU64,
    told: watch::Sender<u64>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Registry {
    pub(super) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(super) async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            content: Mutex::default(),
            behave: Mutex::new(Box::new(|_| Answer::Serve)),
            requests: Mutex::default(),
            sent: AtomicU64::new(0),
            told: watch::channel(0).0,
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    let mut stream: Box<dyn Stream> = match tls {
                        None => Box::new(stream),
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => Box::new(stream),
                            Err(_) => return,
                        },
                    };
                    let _client_gone = shared.converse(&mut *stream).await;
                });
            }
        });
        Self { address, state }
    }

    pub(super) fn put(&self, path: &str, content: &[u8]) {
        self.state.content.lock().unwrap().insert(path.into(), content.to_vec());
    }

    pub(super) fn put_blob(&self, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        self.put(&format!("/v2/a/b/blobs/{digest}"), content);
        digest
    }

    pub(super) fn behave(&self, behave: impl FnMut(&Request) -> Answer + Send + 'static) {
        *self.state.behave.lock().unwrap() = Box::new(behave);
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Bytes of bodies that were sent.
    pub(super) fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    /// Waits until so many bytes were sent altogether.
    pub(super) async fn has_sent(&self, bytes: u64) {
        let mut told = self.state.told.subscribe();
        told.wait_for(|sent| *sent >= bytes).await.unwrap();
    }

    pub(super) fn reference(&self) -> coffer_core_oci::Reference {
        format!("{}/a/b:v1", self.address).parse().unwrap()
    }
}

impl State {
    async fn converse(&self, stream: &mut dyn Stream) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
            let mut piece = [0; 1024];
            match stream.read(&mut piece).await? {
                0 => return Ok(()),
                count => bytes.extend_from_slice(&piece[..count]),
            }
        }
        let head = String::from_utf8(bytes).unwrap();
        let mut words = head.split(' ');
        let method = words.next().unwrap().to_owned();
        let target = words.next().unwrap();
        // A proxy is asked for whole addresses.
        let path = match target.strip_prefix("http://") {
            Some(rest) => &rest[rest.find('/').unwrap()..],
            None => target,
        };
        let range = head.lines().find_map(|line| {
            let (first, last) = line
                .to_ascii_lowercase()
                .strip_prefix("range: bytes=")?
                .split_once('-')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))?;
            Some((first.parse().unwrap(), last.parse().unwrap()))
        });
        let request = {
            let mut requests = self.requests.lock().unwrap();
            let request =
                Request { method, path: path.into(), range, number: requests.len(), head: head.clone() };
            requests.push(request.clone());
            request
        };
        let answer = (self.behave.lock().unwrap())(&request);
        let content = self.content.lock().unwrap().get(path).cloned();
        self.answer(stream, &request, answer, content).await
    }

    async fn answer(
        &self,
        stream: &mut dyn Stream,
        request: &Request,
        answer: Answer,
        content: Option<Vec<u8>>,
    ) -> std::io::Result<()> {
        if let Answer::Status(status, lines) = answer {
            let head =
                format!("HTTP/1.1 {status} X\r\n{lines}Content-Length: 0\r\nConnection: close\r\n\r\n");
            return stream.write_all(head.as_bytes()).await;
        }
        let Some(mut content) = content else {
            let head = "HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            return stream.write_all(head.as_bytes()).await;
        };
        if let Answer::Other(other) = &answer {
            content = other.clone();
        }
        let digest = Digest::sha256(&content);
        let total = content.len();
        let (status, lines, mut body) = match (request.range, &answer) {
            (Some((first, last)), answer)
                if !matches!(answer, Answer::NoRanges | Answer::TruncateWhole(_)) =>
            {
                let shown = if matches!(answer, Answer::WrongRange) { first + 1 } else { first };
                let line = format!("Content-Range: bytes {shown}-{last}/{total}\r\n");
                (206, line, content[first..=last.min(total - 1)].to_vec())
            }
            _ => (200, format!("Docker-Content-Digest: {digest}\r\n"), content),
        };
        if matches!(answer, Answer::TooLong) {
            body.push(0);
        }
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} X\r\n{lines}Content-Length: {length}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        if request.method == "HEAD" {
            return stream.shutdown().await;
        }
        let (Answer::Truncate(limit) | Answer::TruncateWhole(limit) | Answer::Stall(limit)) = answer else {
            return self.send(stream, &body).await;
        };
        self.send(stream, &body[..limit.min(length)]).await?;
        if matches!(answer, Answer::Stall(_)) {
            // Until the client gives up.
            let _gone = stream.read(&mut [0; 1]).await;
        }
        Ok(())
    }

    async fn send(&self, stream: &mut dyn Stream, body: &[u8]) -> std::io::Result<()> {
        for piece in body.chunks(16 << 10) {
            stream.write_all(piece).await?;
            let sent = self.sent.fetch_add(piece.len() as u64, Ordering::SeqCst) + piece.len() as u64;
            self.told.send_replace(sent);
        }
        stream.shutdown().await
    }
}
