//! Uploads: in parts, cut short, and in the form aws-chunked.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const MIB: usize = 1 << 20;

/// Uploads parts in the opposite of their order, and completes.
async fn upload(peer: &Peer, target: &str, parts: &[Vec<u8>]) -> (String, Vec<String>) {
    let begun = peer.send("POST", &format!("{target}?uploads="), &[("x-amz-meta-k", "v")], Vec::new()).await;
    let text = begun.text().await.unwrap();
    let id = all_between(&text, "<UploadId>", "<").pop().unwrap().replace('+', "%2B").replace('/', "%2F");
    let mut tags = Vec::new();
    for (at, part) in parts.iter().enumerate().rev() {
        tags.push(peer.put(&format!("{target}?partNumber={}&uploadId={id}", at + 1), part.clone()).await);
    }
    tags.reverse();
    (id, tags)
}

fn completion(tags: &[String]) -> Vec<u8> {
    let part = |(at, tag): (usize, &String)| {
        format!("<Part><PartNumber>{}</PartNumber><ETag>{tag}</ETag></Part>", at + 1)
    };
    let parts: String = tags.iter().enumerate().map(part).collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>").into_bytes()
}

#[tokio::test]
async fn an_upload_in_parts_is_one_object() {
    let peer = Peer::good().await;
    let parts = [plain(5 * MIB), plain(6 * MIB + 3), plain(777)];
    let (id, tags) = upload(&peer, "/lake/big", &parts).await;
    let done = peer.send("POST", &format!("/lake/big?uploadId={id}"), &[], completion(&tags)).await;
    assert_eq!(done.status(), 200);
    let whole = parts.concat();
    let read = peer.get("/lake/big").await;
    assert_eq!(read.headers()["x-amz-meta-k"], "v");
    assert!(read.bytes().await.unwrap() == whole);
    for from in [0, 5 * MIB - 2, 11 * MIB, whole.len() - 5] {
        let to = (from + 100_000).min(whole.len() - 1);
        let range = format!("bytes={from}-{to}");
        let read = peer.send("GET", "/lake/big", &[("range", &range)], Vec::new()).await;
        assert!(read.bytes().await.unwrap() == whole[from..=to], "{range}");
    }
    let head = peer.send("HEAD", "/lake/big", &[], Vec::new()).await;
    assert_eq!(head.headers()["content-length"], whole.len().to_string().as_str());
    let text = peer.get("/lake?list-type=2").await.text().await.unwrap();
    assert_eq!(all_between(&text, "<Size>", "<"), [whole.len().to_string()]);
    // A copy of it has no parts, and is the same.
    let copied = peer.send("PUT", "/lake/c", &[("x-amz-copy-source", "/lake/big")], Vec::new()).await;
    assert_eq!(copied.status(), 200);
    assert!(peer.get("/lake/c").await.bytes().await.unwrap() == whole);
}

#[tokio::test]
async fn a_part_that_the_store_puts_in_anothers_place_does_not_open() {
    let peer = Peer::good().await;
    let parts = [plain(5 * MIB), plain(5 * MIB), plain(9)];
    let (id, tags) = upload(&peer, "/lake/big", &parts).await;
    peer.send("POST", &format!("/lake/big?uploadId={id}"), &[], completion(&tags)).await;
    let path = peer.store.paths()[0].0.clone();
    let mut bytes = peer.store.object(&path).bytes;
    let stored = 5 * MIB + 40 + 81 * 16;
    let (one, two) = bytes.split_at_mut(stored);
    one.swap_with_slice(&mut two[..stored]);
    peer.store.put(&path, &bytes);
    assert_eq!(code(&peer.get("/lake/big").await), (422, "stream.wrong-key-or-file".into()));
    let cut = &bytes[stored..];
    peer.store.put(&path, cut);
    let refused = peer.get("/lake/big").await;
    assert_eq!(refused.status(), 422);
    // A list of parts that is not authentic: a listing that has it fails, rather than hide it or guess its size.
    let last = bytes.len() - 9;
    bytes[last] ^= 1;
    peer.store.put(&path, &bytes);
    assert_eq!(code(&peer.get("/lake?list-type=2").await), (422, "stream.wrong-key-or-file".into()));
}

#[tokio::test]
async fn a_completion_that_names_other_parts_is_refused() {
    let peer = Peer::good().await;
    let (id, tags) = upload(&peer, "/lake/big", &[plain(100), plain(100)]).await;
    let complete = async |body: Vec<u8>| {
        let reply = peer.send("POST", &format!("/lake/big?uploadId={id}"), &[], body).await;
        let refused = code(&reply);
        (refused.1, all_between(&reply.text().await.unwrap(), "<Code>", "<").pop().unwrap_or_default())
    };
    let of = |code: &str, word: &str| (code.to_owned(), word.to_owned());
    assert_eq!(complete(completion(&tags)).await, of("objects.parts", "EntityTooSmall"));
    let foreign = ["\"d41d8cd98f00b204e9800998ecf8427e\"".to_owned()];
    assert_eq!(complete(completion(&foreign)).await, of("objects.parts", "InvalidPart"));
    assert_eq!(complete(b"<CompleteMultipartUpload/>".to_vec()).await, of("objects.request", "MalformedXML"));
    assert_eq!(peer.store.paths().len(), 0);
    assert_eq!(peer.send("DELETE", &format!("/lake/big?uploadId={id}"), &[], Vec::new()).await.status(), 204);
    let again = peer.put_code(&format!("/lake/big?partNumber=1&uploadId={id}")).await;
    assert_eq!(again, (404, "objects.missing".into()));
}

impl Peer {
    async fn put_code(&self, target: &str) -> (u16, String) {
        code(&self.send("PUT", target, &[], plain(10)).await)
    }
}

/// A request whose body is sent as it is given.
async fn raw(peer: &Peer, head: &str, body: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(&peer.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    // Who promised more says by this that no more comes.
    if !head.contains("Connection: close") {
        stream.shutdown().await.unwrap();
    }
    let mut reply = String::new();
    let _ = stream.read_to_string(&mut reply).await;
    reply
}

#[tokio::test]
async fn a_body_that_ends_early_writes_nothing() {
    let peer = Peer::with(|_, _, _| Manner::Good, Clients::InsecureAnyone).await;
    for length in [10_000, 1_000_000] {
        let head = format!("PUT /lake/a HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
        let reply = raw(&peer, &head, &plain(length - 1)).await;
        assert!(!reply.starts_with("HTTP/1.1 200"), "{reply}");
        assert_eq!(peer.store.paths().len(), 0);
    }
    let head = "PUT /lake/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(raw(&peer, head, b"0\r\n\r\n").await.contains("MissingContentLength"));
}

#[tokio::test]
async fn chunks_of_clients_are_taken_apart() {
    let peer = Peer::with(|_, _, _| Manner::Good, Clients::InsecureAnyone).await;
    let body = b"5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
    let head = |length: usize| {
        format!(
            "PUT /lake/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\nContent-Encoding: aws-chunked\r\n\
             x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\nx-amz-decoded-content-length: {length}\r\n\r\n",
            body.len()
        )
    };
    let reply = raw(&peer, &head(11), body).await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    let read = peer.get("/lake/a").await;
    assert!(!read.headers().contains_key("content-encoding"));
    assert_eq!(read.bytes().await.unwrap(), "hello world");
    for length in [10, 12] {
        assert!(raw(&peer, &head(length), body).await.contains("objects.body"));
    }
}
