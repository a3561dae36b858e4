//! A blob as a device, before it is whole.

use coffer_core_nbd::{Command, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Handle;

use super::registry::{Answer, Registry};
use super::*;

/// A client of a network block device: no more than these tests need.
struct Client(UnixStream);

impl Client {
    async fn connect(socket: &Path) -> Self {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        let go = [&[0, 0, 0, 3][..], b"IHAVEOPT", &[0, 0, 0, 7, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0]].concat();
        stream.write_all(&go).await.unwrap();
        loop {
            let mut head = [0; 20];
            stream.read_exact(&mut head).await.unwrap();
            let mut data = vec![0; u32::from_be_bytes(head[16..].try_into().unwrap()) as usize];
            stream.read_exact(&mut data).await.unwrap();
            if head[12..16] == [0, 0, 0, 1] {
                return Self(stream);
            }
        }
    }

    async fn ask(&mut self, cookie: u64, offset: u64, length: u32) {
        let request = Request { flags: 0, command: Command::Read, cookie, offset, length };
        self.0.write_all(&request.to_bytes()).await.unwrap();
    }

    /// The cookie and the error of the next answer, and its data.
    async fn answer(&mut self, length: usize) -> (u64, u32, Vec<u8>) {
        let mut head = [0; 16];
        self.0.read_exact(&mut head).await.unwrap();
        let error = u32::from_be_bytes(head[4..8].try_into().unwrap());
        let mut data = vec![0; if error == 0 { length } else { 0 }];
        self.0.read_exact(&mut data).await.unwrap();
        (u64::from_be_bytes(head[8..].try_into().unwrap()), error, data)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_byte_does_not_wait_for_the_blob_and_the_rest_follows() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let content = content(1_000_000, 1);
    // Every piece but the one that is read comes late: silence, then again.
    let wanted = 500_000 / PIECE as usize * PIECE as usize;
    registry.behave(move |request| match request.range {
        Some((first, _)) if first == wanted => Answer::Serve,
        _ => Answer::Stall(0),
    });
    let mut settings = settings(folder.path());
    settings.patience.stall = Duration::from_millis(500);
    let cache = Cache::open(settings).unwrap();
    let blob = blob(&cache, &registry, &content).await.unwrap();
    let socket = folder.path().join("disk.sock");
    let served = blob.serve(&Handle::current(), &socket).unwrap();
    let mut client = Client::connect(served.socket()).await;
    client.ask(1, 500_000, 1000).await;
    assert_eq!(client.answer(1000).await, (1, 0, content[500_000..501_000].to_vec()));
    assert!(!blob.is_whole() && blob.present() == PIECE);
    registry.behave(|_| Answer::Serve);
    blob.fill().await.unwrap();
    assert_eq!(file_of(&blob), content);
    let sent = registry.sent();
    client.ask(2, 0, 1_000_000).await;
    assert_eq!(client.answer(1_000_000).await, (2, 0, content));
    assert_eq!(registry.sent(), sent, "what is there is not fetched again");
    drop(served);
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_as_they_are_ready_and_one_that_fails_harms_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let content = content(100_000, 2);
    registry.behave(|request| match request.range {
        Some((0, _)) => Answer::Status(403, ""),
        _ => Answer::Serve,
    });
    let cache = cache(folder.path());
    let blob = blob(&cache, &registry, &content).await.unwrap();
    let served = blob.serve(&Handle::current(), &folder.path().join("disk.sock")).unwrap();
    let mut client = Client::connect(served.socket()).await;
    client.ask(1, 100, 100).await;
    client.ask(2, 50_000, 100).await;
    let mut answers = [client.answer(100).await, client.answer(100).await];
    answers.sort();
    assert_eq!(answers, [(1, 5, Vec::new()), (2, 0, content[50_000..50_100].to_vec())]);
    client.ask(3, 99_999, 2).await;
    assert_eq!(client.answer(2).await, (3, 22, Vec::new()), "outside of the blob");
    // Many at once are answered, each with its own bytes.
    for cookie in 10..200 {
        client.ask(cookie, cookie * 400 + 5000, 300).await;
    }
    for _ in 10..200 {
        let (cookie, error, data) = client.answer(300).await;
        let start = (cookie * 400 + 5000) as usize;
        assert_eq!((error, &data[..]), (0, &content[start..start + 300]));
    }
}

#[tokio::test]
async fn a_client_that_is_none_is_dropped_and_the_next_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let content = content(10_000, 3);
    let cache = cache(folder.path());
    let blob = blob(&cache, &registry, &content).await.unwrap();
    let served = blob.serve(&Handle::current(), &folder.path().join("disk.sock")).unwrap();
    for _ in 0..6 {
        let mut stranger = UnixStream::connect(served.socket()).await.unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut heard = Vec::new();
        let _reset = stranger.read_to_end(&mut heard).await;
        assert!(heard.is_empty() || heard.len() == 18);
    }
    // As many as there may be at once, and one after these are gone.
    let mut together = Vec::new();
    for _ in 0..4 {
        together.push(Client::connect(served.socket()).await);
    }
    drop(together);
    let mut client = Client::connect(served.socket()).await;
    client.ask(1, 0, 10).await;
    assert_eq!(client.answer(10).await, (1, 0, content[..10].to_vec()));
}
