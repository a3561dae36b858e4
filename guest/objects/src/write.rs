//! PutObject, CopyObject and DeleteObject: plaintext is sealed as it comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use coffer_core_sealed_objects::{ObjectName, SEGMENT};
use coffer_core_sealed_stream::{Layout, SegmentSealer};
use hyper::body::{Body, Incoming};
use hyper::header::HeaderMap;
use hyper::{Method, Response, StatusCode};

use crate::body::{Pieces, Reply};
use crate::call::header;
use crate::chunked::Chunks;
use crate::read::{METADATA, Pump, conditions, insert, shown_tag};
use crate::upstream::{Ask, document};
use crate::xml::{Writer, element, error_word};
use crate::{Gateway, Refusal};

/// Ciphertext of at most this length is kept until the store has it, so that it can be sent again.
const KEPT: u64 = 256 << 10;
/// What of a client's headers the store is told: they say how it keeps ciphertext.
const PASSED: [&str; 5] = [
    "x-amz-acl",
    "x-amz-storage-class",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
];
/// What of a client's headers is sealed and given back.
const SEALED: [&str; 6] = [
    "content-type",
    "content-encoding",
    "content-language",
    "content-disposition",
    "cache-control",
    "expires",
];
const OWN: &str = "x-amz-meta-";

/// Where plaintext comes from.
pub(crate) enum Plain {
    /// A client's body, and what takes it apart if it is in the form aws-chunked.
    Client(Incoming, Option<Chunks>),
    /// An object that is copied.
    Object(Box<Pump>),
}

impl Plain {
    /// A client's body and how long its content will be.
    pub(crate) fn of_client(headers: &HeaderMap, body: Incoming) -> Result<(Self, u64), Refusal> {
        let number = |name: &str| header(headers, name).and_then(|text| text.parse::<u64>().ok());
        let streaming =
            header(headers, "x-amz-content-sha256").is_some_and(|own| own.starts_with("STREAMING-"));
        let length = match streaming {
            true => number("x-amz-decoded-content-length"),
            false => number("content-length").or_else(|| body.size_hint().exact()),
        };
        let length = length.ok_or_else(|| {
            let why = "the request does not say how long its content is";
            Refusal::new(StatusCode::LENGTH_REQUIRED, "MissingContentLength", "objects.body", why)
        })?;
        Ok((Self::Client(body, streaming.then(Chunks::default)), length))
    }

    /// The next bytes; of several pieces that came at once, all.
    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, Refusal> {
        match self {
            Self::Object(pump) => Ok(pump.next().await?.map(|bytes| vec![bytes])),
            Self::Client(body, chunks) => loop {
                let frame =
                    std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context));
                let Some(frame) = frame.await else {
                    return match chunks {
                        Some(chunks) if !chunks.is_whole() => Err(Refusal::body("the body ended early")),
                        _ => Ok(None),
                    };
                };
                let frame = frame.map_err(|_| Refusal::body("the client's body ended early"))?;
                let Ok(bytes) = frame.into_data() else { continue };
                let mut pieces = Vec::new();
                match chunks {
                    Some(chunks) => chunks.feed(bytes, &mut pieces)?,
                    None => pieces.push(bytes),
                }
                if !pieces.is_empty() {
                    return Ok(Some(pieces));
                }
            },
        }
    }
}

/// Seals all of `plain`, which has `size` bytes, and zeros behind it up to `stored` bytes.
async fn seal(
    mut plain: Plain,
    size: u64,
    stored: u64,
    mut sealer: SegmentSealer,
    out: Pieces,
) -> Result<(), Refusal> {
    // An error here is that the store listens no more; it says itself why.
    let gone = || Refusal::unavailable("the store ended the upload");
    let (mut left, mut sent) = (size, sealer.header().as_bytes().len() as u64);
    out.send(Ok(Bytes::copy_from_slice(sealer.header().as_bytes()))).await.map_err(|_| gone())?;
    let mut segment = Vec::new();
    while let Some(pieces) = plain.next().await? {
        for mut bytes in pieces {
            left = left
                .checked_sub(bytes.len() as u64)
                .ok_or_else(|| Refusal::body("the body is longer than it was said to be"))?;
            while !bytes.is_empty() {
                if segment.len() == sealer.capacity() {
                    // More follows, so this is not the last one.
                    sealer.seal(&mut segment)?;
                    sent += segment.len() as u64;
                    out.send(Ok(std::mem::take(&mut segment).into())).await.map_err(|_| gone())?;
                }
                let room = (sealer.capacity() - segment.len()).min(bytes.len());
                segment.extend_from_slice(&bytes.split_to(room));
            }
        }
    }
    if left > 0 {
        return Err(Refusal::body("the body is shorter than it was said to be"));
    }
    sealer.seal_last(&mut segment)?;
    sent += segment.len() as u64;
    out.send(Ok(segment.into())).await.map_err(|_| gone())?;
    let zeros = Bytes::from_static(&[0; 64 << 10]);
    while sent < stored {
        let more = zeros.slice(..usize::try_from(stored - sent).unwrap_or(usize::MAX).min(zeros.len()));
        sent += more.len() as u64;
        out.send(Ok(more)).await.map_err(|_| gone())?;
    }
    Ok(())
}

/// Runs `work` and hands over what it fails with, so that the body it makes ends with it.
async fn report(work: impl Future<Output = Result<(), Refusal>>, out: Pieces) {
    if let Err(refusal) = work.await {
        let _ = out.send(Err(refusal)).await;
    }
}

impl Gateway {
    /// Sends a body that is sealed on its way: from memory if it is short.
    pub(crate) async fn upload(
        &self,
        ask: &Ask<'_>,
        (plain, size): (Plain, u64),
        sealer: SegmentSealer,
        least: u64,
    ) -> Result<reqwest::Response, Refusal> {
        let stored = Layout::new(SEGMENT, size)?.sealed_size().max(least);
        let (out, body) = Reply::piped(stored);
        let work = report(seal(plain, size, stored, sealer, out.clone()), out);
        if stored > KEPT {
            tokio::spawn(work);
            return self.upstream.send_piped(ask, body).await;
        }
        let Reply::Piped { mut pieces, .. } = body else { return Err(Refusal::answer("no body was made")) };
        let collect = async {
            let mut whole = Vec::new();
            while let Some(piece) = pieces.recv().await {
                whole.extend_from_slice(&piece?);
            }
            Ok::<_, Refusal>(whole)
        };
        let (whole, ()) = tokio::join!(collect, work);
        self.upstream.send_bytes(ask, whole?.into()).await
    }

    /// PutObject.
    pub(crate) async fn put(
        &self,
        name: &ObjectName,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Response<Reply>, Refusal> {
        let key = self.keys.seal_name(name)?;
        let ask = self.described_by(Ask::new(Method::PUT, name.bucket(), &key), name, headers)?;
        let plain = Plain::of_client(headers, body)?;
        let reply = self.upload(&ask, plain, self.keys.object(name)?, 0).await?;
        self.known.forget(name.bucket(), &key);
        tagged(&reply)
    }

    /// CopyObject: what is copied is opened and sealed again, because it is bound to its name.
    pub(crate) async fn copy(
        self: &Arc<Self>,
        from: &ObjectName,
        to: &ObjectName,
        headers: &HeaderMap,
    ) -> Result<Response<Reply>, Refusal> {
        let (source_key, seen) = self.source(from).await?;
        let key = self.keys.seal_name(to)?;
        let replaced = header(headers, "x-amz-metadata-directive")
            .is_some_and(|own| own.eq_ignore_ascii_case("REPLACE"));
        let kept = if replaced { own_headers(headers) } else { self.kept(from, &seen)? };
        let ask = self.with_metadata(passed(Ask::new(Method::PUT, to.bucket(), &key), headers), to, &kept)?;
        let size = seen.shape.size();
        let pump = self.pump(from.bucket(), &source_key, seen, 0..size, None).await?;
        let plain = (Plain::Object(Box::new(pump)), size);
        let reply = self.upload(&ask, plain, self.keys.object(to)?, 0).await?;
        self.known.forget(to.bucket(), &key);
        Ok(copied("CopyObjectResult", &shown_tag(tag_of(&reply)?)))
    }

    /// DeleteObject.
    pub(crate) async fn delete(&self, name: &ObjectName) -> Result<Response<Reply>, Refusal> {
        let key = self.keys.seal_name(name)?;
        self.upstream.send(&Ask::new(Method::DELETE, name.bucket(), &key)).await?;
        self.known.forget(name.bucket(), &key);
        let mut reply = Response::new(Reply::of(Bytes::new()));
        *reply.status_mut() = StatusCode::NO_CONTENT;
        Ok(reply)
    }

    /// A request with a client's headers: some sealed, some as they are, some for the store to decide on.
    pub(crate) fn described_by<'a>(
        &self,
        ask: Ask<'a>,
        name: &ObjectName,
        headers: &HeaderMap,
    ) -> Result<Ask<'a>, Refusal> {
        let mut ask = self.with_metadata(passed(ask, headers), name, &own_headers(headers))?;
        ask.headers.extend(conditions(headers).into_iter().filter(|(name, _)| name.ends_with("match")));
        Ok(ask)
    }

    fn with_metadata<'a>(
        &self,
        ask: Ask<'a>,
        name: &ObjectName,
        kept: &BTreeMap<String, String>,
    ) -> Result<Ask<'a>, Refusal> {
        let ask = ask.header("content-type", "application/octet-stream");
        match kept.is_empty() {
            true => Ok(ask),
            false => Ok(ask.header(METADATA, self.keys.seal_metadata(name, kept)?)),
        }
    }
}

fn passed<'a>(mut ask: Ask<'a>, headers: &HeaderMap) -> Ask<'a> {
    let own = PASSED.iter().filter_map(|name| Some((*name, header(headers, name)?.to_owned())));
    ask.headers.extend(own);
    ask
}

/// The headers that a client wants to have back.
fn own_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut kept = BTreeMap::new();
    for (name, value) in headers {
        let Ok(value) = value.to_str() else { continue };
        let name = name.as_str();
        if !SEALED.contains(&name) && !name.starts_with(OWN) {
            continue;
        }
        // How the body was sent is no property of the object.
        let words = value.split(',').map(str::trim).filter(|word| *word != "aws-chunked");
        let value =
            if name == "content-encoding" { words.collect::<Vec<_>>().join(", ") } else { value.into() };
        if !value.is_empty() {
            kept.insert(name.to_owned(), value);
        }
    }
    kept
}

pub(crate) fn tag_of(reply: &reqwest::Response) -> Result<&str, Refusal> {
    let tag = header(reply.headers(), "etag");
    tag.ok_or_else(|| Refusal::answer("the store gives what was written no tag"))
}

fn tagged(reply: &reqwest::Response) -> Result<Response<Reply>, Refusal> {
    let mut own = Response::new(Reply::of(Bytes::new()));
    insert(own.headers_mut(), "etag", &shown_tag(tag_of(reply)?));
    Ok(own)
}

/// What a copy is answered with.
pub(crate) fn copied(root: &'static str, etag: &str) -> Response<Reply> {
    let mut text = Writer::new(root);
    // When it was written only the store's clock knows; a listing says it.
    text.put("ETag", etag);
    xml(text)
}

/// An answer that is a document.
pub(crate) fn xml(text: Writer) -> Response<Reply> {
    let mut reply = Response::new(Reply::of(text.finish()));
    insert(reply.headers_mut(), "content-type", "application/xml");
    reply
}

/// A body that is a document of a client's.
pub(crate) async fn text_of(headers: &HeaderMap, body: Incoming, most: u64) -> Result<String, Refusal> {
    let (mut plain, length) = Plain::of_client(headers, body)?;
    if length > most {
        return Err(Refusal::malformed(format!("the document has more than {most} bytes")));
    }
    let mut bytes = Vec::new();
    while let Some(pieces) = plain.next().await? {
        for piece in pieces {
            if (bytes.len() + piece.len()) as u64 > length {
                return Err(Refusal::body("the body is longer than it was said to be"));
            }
            bytes.extend_from_slice(&piece);
        }
    }
    String::from_utf8(bytes).map_err(|_| Refusal::malformed("the document is not UTF-8"))
}

/// A store's answer to what it may say is done although it is not: its status is 200 either way.
pub(crate) async fn done(mut reply: reqwest::Response) -> Result<String, Refusal> {
    let text = document(&mut reply).await?;
    if let Some(word) = error_word(&text) {
        let why = format!("the store could not finish this ({word}); try again");
        return Err(Refusal::unavailable(why));
    }
    let etag = element(&text, "ETag");
    etag.ok_or_else(|| Refusal::answer("the store's answer names nothing that was written"))
}
