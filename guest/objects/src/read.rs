//! GetObject and HeadObject: what the store has is looked at, fetched and opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use coffer_core_sealed_objects::{FOOTER, Kind, ObjectName, Reading, Shape, TRAILER_AT_FIRST, footer};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};
use reqwest::Response as Fetched;

use crate::body::{Pieces, Reply};
use crate::call::header;
use crate::known::Seen;
use crate::upstream::Ask;
use crate::{Gateway, Range, Refusal};

/// The header in which the store has the sealed ones.
pub(crate) const METADATA: &str = "x-amz-meta-coffer";
/// What makes our tags other than the store's: they are of ciphertext, and no digest of what clients see.
const TAG: &str = "-c";
/// Conditions that the store decides on. The tags in them are ours.
const CONDITIONS: [&str; 4] = ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];

/// A client's conditions in the store's words.
pub(crate) fn conditions(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    let own = |name: &'static str| {
        let value = header(headers, name)?;
        let store = |tag: &str| tag.trim().replace(&format!("{TAG}\""), "\"");
        let tags =
            name.ends_with("match").then(|| value.split(',').map(store).collect::<Vec<_>>().join(", "));
        Some((name, tags.unwrap_or_else(|| value.to_owned())))
    };
    CONDITIONS.into_iter().filter_map(own).collect()
}

/// The tag that clients see.
pub(crate) fn shown_tag(store: &str) -> String {
    format!("\"{}{TAG}\"", store.trim_matches('"'))
}

/// As much progress makes up for the attempts that failed.
const PROGRESS: u64 = 64 << 10;

impl Gateway {
    /// HeadObject.
    pub(crate) async fn head(
        &self,
        name: &ObjectName,
        headers: &HeaderMap,
    ) -> Result<Response<Reply>, Refusal> {
        let key = self.keys.seal_name(name)?;
        let seen = match self.look(name, &key, conditions(headers)).await? {
            Looked::Seen(seen) => seen,
            Looked::NotModified(reply) => return Ok(reply),
        };
        let mut reply = self.described(name, &seen)?;
        insert(reply.headers_mut(), "content-length", &seen.shape.size().to_string());
        Ok(reply)
    }

    /// GetObject.
    pub(crate) async fn get(
        self: &Arc<Self>,
        name: &ObjectName,
        range: Option<Range>,
        headers: &HeaderMap,
    ) -> Result<Response<Reply>, Refusal> {
        let conditions = conditions(headers);
        let key = self.keys.seal_name(name)?;
        let mut known =
            self.known.get(name.bucket(), &key).filter(|_| conditions.is_empty() && range.is_some());
        loop {
            let remembered = known.is_some();
            let found = match known.take() {
                Some(seen) => self.open(name, &key, seen, range, None).await,
                None if range.is_none() => self.whole(name, &key, conditions.clone()).await,
                None => match self.look(name, &key, conditions.clone()).await? {
                    Looked::Seen(seen) => self.open(name, &key, seen, range, None).await,
                    Looked::NotModified(reply) => return Ok(reply),
                },
            };
            match found {
                Ok(reply) => return Ok(reply),
                // What was remembered may be of a version that is no more.
                Err(_) if remembered => self.known.forget(name.bucket(), &key),
                Err(refusal) if refusal.is_changed() && conditions.is_empty() => {
                    return Err(Refusal::unavailable("the object changed while it was read; try again"));
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// All of an object, with one request if it has no parts.
    async fn whole(
        self: &Arc<Self>,
        name: &ObjectName,
        key: &str,
        conditions: Vec<(&'static str, String)>,
    ) -> Result<Response<Reply>, Refusal> {
        let mut ask = Ask::new(Method::GET, name.bucket(), key);
        ask.headers = conditions;
        let fetched = self.upstream.send(&ask).await?;
        if fetched.status() == StatusCode::NOT_MODIFIED {
            return not_modified(&fetched);
        }
        let seen = self.seen(name, key, fetched.headers()).await?;
        let body = (Kind::of(seen.sealed_size) == Kind::Whole).then_some(fetched);
        self.open(name, key, seen, None, body).await
    }

    /// Fetches and opens; answers when the first segment was authenticated.
    async fn open(
        self: &Arc<Self>,
        name: &ObjectName,
        key: &str,
        seen: Arc<Seen>,
        range: Option<Range>,
        body: Option<Fetched>,
    ) -> Result<Response<Reply>, Refusal> {
        let size = seen.shape.size();
        let wanted = range.map_or(Ok(0..size), |range| range.of(size))?;
        let mut reply = self.described(name, &seen)?;
        let length = wanted.end - wanted.start;
        insert(reply.headers_mut(), "content-length", &length.to_string());
        if range.is_some() {
            let shown = format!("bytes {}-{}/{size}", wanted.start, wanted.end.saturating_sub(1));
            insert(reply.headers_mut(), "content-range", &shown);
            *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        let mut pump = self.pump(name.bucket(), key, seen, wanted, body).await?;
        let first = pump.next().await?;
        let (pieces, body) = Reply::piped(length);
        let log = Arc::clone(&self.log);
        tokio::spawn(async move {
            if let Some(first) = first
                && pieces.send(Ok(first)).await.is_ok()
                && let Err(refusal) = pump.run(&pieces).await
            {
                log(&format!("{} was being read: {refusal}", pump.key));
                // The answer ends early, which a client takes for a failure.
                let _ = pieces.send(Err(refusal)).await;
            }
        });
        *reply.body_mut() = body;
        Ok(reply)
    }

    /// The plaintext of a range, as it comes.
    pub(crate) async fn pump(
        self: &Arc<Self>,
        bucket: &str,
        key: &str,
        seen: Arc<Seen>,
        wanted: std::ops::Range<u64>,
        body: Option<Fetched>,
    ) -> Result<Pump, Refusal> {
        let mut reading = Reading::new(Arc::clone(&self.keys), Arc::clone(&seen.shape), wanted)?;
        let cover = reading.cover();
        if let Some((stream, place)) = reading.header() {
            let header = match seen.header(stream) {
                Some(header) => header,
                None => {
                    let bytes = self.fetch(bucket, key, &seen.etag, place).await?;
                    let header = bytes.first_chunk().copied();
                    header.ok_or_else(|| Refusal::answer("the store's answer is too short"))?
                }
            };
            reading.set_header(&header)?;
            seen.keep_header(stream, header);
        }
        // All of an object without parts begins at its first byte.
        let body = body.filter(|_| cover.start == 0);
        let (gateway, bucket, key) = (Arc::clone(self), bucket.to_owned(), key.to_owned());
        let at = cover.start;
        Ok(Pump {
            gateway,
            bucket,
            key,
            seen,
            reading,
            at,
            end: cover.end,
            body,
            rest: Bytes::new(),
            failed: 0,
            progress: 0,
        })
    }

    /// Size, tag and parts of an object, which the store is asked for.
    async fn look(
        &self,
        name: &ObjectName,
        key: &str,
        conditions: Vec<(&'static str, String)>,
    ) -> Result<Looked, Refusal> {
        let mut ask = Ask::new(Method::HEAD, name.bucket(), key);
        ask.headers = conditions;
        let reply = self.upstream.send(&ask).await?;
        if reply.status() == StatusCode::NOT_MODIFIED {
            return not_modified(&reply).map(Looked::NotModified);
        }
        Ok(Looked::Seen(self.seen(name, key, reply.headers()).await?))
    }

    /// What the object is, by the store's headers.
    async fn seen(&self, name: &ObjectName, key: &str, headers: &HeaderMap) -> Result<Arc<Seen>, Refusal> {
        let own = |name: &str| header(headers, name).map(str::to_owned);
        let size = own("content-length").and_then(|text| text.parse().ok());
        let size = size.ok_or_else(|| Refusal::answer("the store does not say how long the object is"))?;
        let etag = own("etag").ok_or_else(|| Refusal::answer("the store gives the object no tag"))?;
        let metadata = own(METADATA);
        let known = self.known.get(name.bucket(), key);
        if let Some(seen) = known.filter(|seen| seen.etag == etag && seen.sealed_size == size)
            && seen.metadata == metadata
        {
            return Ok(seen);
        }
        let shape = self.shape(name, key, &etag, size).await?;
        let seen = Arc::new(Seen::new(etag, size, own("last-modified").unwrap_or_default(), metadata, shape));
        self.known.keep(name.bucket(), key, &seen);
        Ok(seen)
    }

    /// The size of an object that was listed.
    pub(crate) async fn size(
        &self,
        name: &ObjectName,
        key: &str,
        etag: &str,
        sealed_size: u64,
    ) -> Result<u64, Refusal> {
        let about = (name.bucket().to_owned(), key.to_owned(), etag.to_owned(), sealed_size);
        if Kind::of(sealed_size) == Kind::Parts
            && let Some(size) = self.known.size(&about)
        {
            return Ok(size);
        }
        let quoted = format!("\"{etag}\"");
        let size = self.shape(name, key, &quoted, sealed_size).await?.size();
        if Kind::of(sealed_size) == Kind::Parts {
            self.known.keep_size(about, size);
        }
        Ok(size)
    }

    async fn shape(
        &self,
        name: &ObjectName,
        key: &str,
        etag: &str,
        sealed_size: u64,
    ) -> Result<Shape, Refusal> {
        if Kind::of(sealed_size) == Kind::Whole {
            return Ok(Shape::whole(name, sealed_size)?);
        }
        let last = |length: u64| sealed_size.saturating_sub(length)..sealed_size;
        let mut end = self.fetch(name.bucket(), key, etag, last(TRAILER_AT_FIRST)).await?;
        if let Some(length) = footer(&end).filter(|length| length + FOOTER > TRAILER_AT_FIRST) {
            end = self.fetch(name.bucket(), key, etag, last(length + FOOTER)).await?;
        }
        Ok(Shape::parts(name, sealed_size, &self.keys.open_index(name, &end)?)?)
    }

    /// A short piece of an object that must not have changed.
    async fn fetch(
        &self,
        bucket: &str,
        key: &str,
        etag: &str,
        range: std::ops::Range<u64>,
    ) -> Result<Vec<u8>, Refusal> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut failed = 0;
        loop {
            let mut reply = self.ranged(bucket, key, etag, &range).await?;
            let mut bytes = Vec::new();
            while let Ok(Some(piece)) = reply.chunk().await {
                bytes.extend_from_slice(&piece);
                if bytes.len() >= length {
                    bytes.truncate(length);
                    return Ok(bytes);
                }
            }
            failed += 1;
            if failed >= self.upstream.retry().attempts {
                return Err(Refusal::unavailable("the store's answers end early; try again"));
            }
            tokio::time::sleep(self.upstream.retry().pause_after(failed, None)).await;
        }
    }

    async fn ranged(
        &self,
        bucket: &str,
        key: &str,
        etag: &str,
        range: &std::ops::Range<u64>,
    ) -> Result<Fetched, Refusal> {
        let wanted = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        let ask = Ask::new(Method::GET, bucket, key).header("range", wanted).header("if-match", etag);
        let reply = self.upstream.send(&ask).await?;
        let begins = header(reply.headers(), "content-range")
            .and_then(|text| text.strip_prefix("bytes ")?.split_once('-')?.0.parse::<u64>().ok());
        let whole = reply.status() == StatusCode::OK && range.start == 0;
        match begins == Some(range.start) || whole {
            true => Ok(reply),
            false => Err(Refusal::answer("the store does not answer range requests")),
        }
    }

    /// An answer with everything that is said of an object but its length.
    fn described(&self, name: &ObjectName, seen: &Seen) -> Result<Response<Reply>, Refusal> {
        let mut reply = Response::new(Reply::of(Bytes::new()));
        let headers = reply.headers_mut();
        insert(headers, "content-type", "binary/octet-stream");
        for (name, value) in self.kept(name, seen)? {
            insert(headers, &name, &value);
        }
        insert(headers, "etag", &shown_tag(&seen.etag));
        insert(headers, "last-modified", &seen.modified);
        insert(headers, "accept-ranges", "bytes");
        Ok(reply)
    }

    /// The client's own headers.
    pub(crate) fn kept(&self, name: &ObjectName, seen: &Seen) -> Result<BTreeMap<String, String>, Refusal> {
        match &seen.metadata {
            Some(sealed) => Ok(self.keys.open_metadata(name, sealed)?),
            None => Ok(BTreeMap::new()),
        }
    }

    /// An object that is to be copied.
    pub(crate) async fn source(&self, name: &ObjectName) -> Result<(String, Arc<Seen>), Refusal> {
        let key = self.keys.seal_name(name)?;
        match self.look(name, &key, Vec::new()).await? {
            Looked::Seen(seen) => Ok((key, seen)),
            Looked::NotModified(_) => Err(Refusal::answer("the store answers a condition that nobody made")),
        }
    }
}

enum Looked {
    Seen(Arc<Seen>),
    NotModified(Response<Reply>),
}

fn not_modified(reply: &Fetched) -> Result<Response<Reply>, Refusal> {
    let mut own = Response::new(Reply::of(Bytes::new()));
    *own.status_mut() = StatusCode::NOT_MODIFIED;
    if let Some(etag) = header(reply.headers(), "etag") {
        insert(own.headers_mut(), "etag", &shown_tag(etag));
    }
    Ok(own)
}

pub(crate) fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    // What has no form of a header nobody can have sent as one.
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// Fetches a range of an object and opens it.
pub(crate) struct Pump {
    gateway: Arc<Gateway>,
    bucket: String,
    key: String,
    seen: Arc<Seen>,
    reading: Reading,
    /// What was fetched, up to here.
    at: u64,
    end: u64,
    body: Option<Fetched>,
    /// Fetched, and not opened yet.
    rest: Bytes,
    failed: u32,
    /// Bytes since an attempt failed.
    progress: u64,
}

impl Pump {
    /// The next segment's plaintext; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        let mut out = Vec::new();
        loop {
            if self.reading.is_done() {
                return Ok((!out.is_empty()).then(|| out.into()));
            }
            if self.rest.is_empty() {
                self.rest = self.more().await?;
            }
            let taken = self.reading.feed(&self.rest, &mut out)?;
            self.rest = self.rest.split_off(taken);
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
    }

    async fn run(&mut self, pieces: &Pieces) -> Result<(), Refusal> {
        while let Some(bytes) = self.next().await? {
            if pieces.send(Ok(bytes)).await.is_err() {
                // The client went away.
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next bytes, over as many requests as it takes.
    async fn more(&mut self) -> Result<Bytes, Refusal> {
        loop {
            if self.body.is_none() {
                let range = self.at..self.end;
                let body = self.gateway.ranged(&self.bucket, &self.key, &self.seen.etag, &range).await?;
                self.body = Some(body);
            }
            let piece = match &mut self.body {
                Some(body) => body.chunk().await,
                None => Ok(None),
            };
            let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
            match piece {
                Ok(Some(mut piece)) if !piece.is_empty() => {
                    piece.truncate(left);
                    self.at += piece.len() as u64;
                    self.progress += piece.len() as u64;
                    if self.progress >= PROGRESS {
                        (self.failed, self.progress) = (0, 0);
                    }
                    return Ok(piece);
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    self.body = None;
                    self.failed += 1;
                    let retry = *self.gateway.upstream.retry();
                    if self.failed >= retry.attempts || left == 0 {
                        return Err(Refusal::unavailable("the store's answers end early; try again"));
                    }
                    tokio::time::sleep(retry.pause_after(self.failed, None)).await;
                }
            }
        }
    }
}
