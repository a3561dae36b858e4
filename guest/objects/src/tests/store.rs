//! An S3-compatible store on loopback, which checks signatures and does as badly as it is told.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use coffer_guest_models::sigv4::{Signed, decoded, is_signed};
use http_body_util::BodyExt;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::credentials;
use crate::body::Reply;
use crate::read::insert;
use crate::xml::Writer;

/// Stores refuse shorter parts, except the last.
const LEAST: usize = 5 << 20;
/// Names on a page, so that there are pages.
const PAGE: usize = 5;

/// What is done with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Good,
    /// Another status.
    Status(u16),
    /// So many bytes of the body, and no more.
    Cut(usize),
    /// A page of a listing without names, behind which there is always another.
    Endless,
}

#[derive(Clone, Default)]
pub(super) struct Object {
    pub(super) bytes: Vec<u8>,
    pub(super) headers: Vec<(String, String)>,
    etag: String,
}

type Choose = dyn Fn(usize, &str, &str) -> Manner + Send + Sync;
/// Headers of the object, and its parts with their tags.
type Upload = (Vec<(String, String)>, BTreeMap<u32, (String, Vec<u8>)>);

#[derive(Default)]
pub(super) struct Held {
    pub(super) objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    /// Methods and paths with queries, in their order.
    pub(super) seen: Vec<String>,
    pub(super) sent: usize,
}

#[derive(Clone)]
pub(super) struct Store {
    pub(super) address: String,
    pub(super) held: Arc<Mutex<Held>>,
    count: Arc<AtomicUsize>,
    choose: Arc<Choose>,
}

impl Store {
    pub(super) async fn start(choose: impl Fn(usize, &str, &str) -> Manner + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let own = Self { address, held: Arc::default(), count: Arc::default(), choose: Arc::new(choose) };
        let store = own.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let store = store.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| {
                        let store = store.clone();
                        async move { Ok::<_, Infallible>(store.answer(request).await) }
                    });
                    let served = hyper::server::conn::http1::Builder::new();
                    let _ = served.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        own
    }

    async fn answer(&self, request: Request<hyper::body::Incoming>) -> Response<Reply> {
        let (head, body) = request.into_parts();
        let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
        let signed = Signed { method: head.method.as_str(), path: &path, query: &query };
        if !is_signed(&credentials(), signed, &head.headers) {
            return error(403, "SignatureDoesNotMatch");
        }
        let manner = (self.choose)(self.count.fetch_add(1, Ordering::SeqCst), head.method.as_str(), &query);
        // A body that ends early is no upload.
        let Ok(body) = body.collect().await.map(|body| body.to_bytes()) else {
            return error(400, "IncompleteBody");
        };
        let shown = format!("{} {path}?{query}", head.method);
        self.held.lock().unwrap().seen.push(shown);
        if let Manner::Status(status) = manner {
            return error(status, "Told");
        }
        if manner == Manner::Endless {
            let mut text = Writer::new("ListBucketResult");
            text.put("IsTruncated", "true").put("NextContinuationToken", "again");
            return Response::new(Reply::of(text.finish()));
        }
        let mut held = self.held.lock().unwrap();
        let reply = held.call(head.method.as_str(), &path, &query, &head.headers, &body);
        let (status, headers, bytes) = reply;
        let length = bytes.len();
        let given = match manner {
            Manner::Cut(most) => Bytes::from(bytes).slice(..most.min(length)),
            _ => Bytes::from(bytes),
        };
        held.sent += given.len();
        let (pieces, body) = Reply::piped(length as u64);
        let mut reply = Response::new(if length == 0 { Reply::of("") } else { body });
        tokio::spawn(async move { pieces.send(Ok(given)).await });
        *reply.status_mut() = status.try_into().unwrap();
        for (name, value) in headers {
            insert(reply.headers_mut(), &name, &value);
        }
        reply
    }

    pub(super) fn object(&self, path: &str) -> Object {
        self.held.lock().unwrap().objects[path].clone()
    }

    pub(super) fn put(&self, path: &str, bytes: &[u8]) {
        let object =
            Object { bytes: bytes.to_vec(), headers: Vec::new(), etag: format!("{:x}", bytes.len()) };
        self.held.lock().unwrap().objects.insert(path.into(), object);
    }

    /// The paths of all objects, by their length.
    pub(super) fn paths(&self) -> Vec<(String, usize)> {
        let held = self.held.lock().unwrap();
        held.objects.iter().map(|(path, object)| (path.clone(), object.bytes.len())).collect()
    }
}

type Answer = (u16, Vec<(String, String)>, Vec<u8>);

fn error(status: u16, word: &str) -> Response<Reply> {
    let mut text = Writer::new("Error");
    text.put("Code", word);
    let mut reply = Response::new(Reply::of(text.finish()));
    *reply.status_mut() = status.try_into().unwrap();
    reply
}

fn plain(status: u16) -> Answer {
    (status, Vec::new(), Vec::new())
}

fn document(text: Writer) -> Answer {
    (200, Vec::new(), text.finish().into_bytes())
}

impl Held {
    fn call(&mut self, method: &str, path: &str, query: &str, headers: &HeaderMap, body: &[u8]) -> Answer {
        let pairs: BTreeMap<String, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.into(), String::from_utf8(decoded(value)).unwrap()))
            .collect();
        let own = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let kept = || {
            let kept = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-amz-meta-"));
            kept.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect::<Vec<_>>()
        };
        let tag = |bytes: &[u8]| tag_of(bytes);
        match (method, pairs.get("uploadId")) {
            ("PUT", None) => {
                let etag = tag(body);
                let object = Object { bytes: body.to_vec(), headers: kept(), etag: etag.clone() };
                self.objects.insert(path.into(), object);
                (200, vec![("etag".into(), format!("\"{etag}\""))], Vec::new())
            }
            ("PUT", Some(upload)) => {
                let Some((_, parts)) = self.uploads.get_mut(upload) else { return plain(404) };
                let etag = tag(body);
                parts.insert(pairs["partNumber"].parse().unwrap(), (etag.clone(), body.to_vec()));
                (200, vec![("etag".into(), format!("\"{etag}\""))], Vec::new())
            }
            ("POST", None) => {
                let upload = format!("up+{}/", self.uploads.len());
                self.uploads.insert(upload.clone(), (kept(), BTreeMap::new()));
                let mut text = Writer::new("InitiateMultipartUploadResult");
                text.put("UploadId", &upload);
                document(text)
            }
            ("POST", Some(upload)) => {
                let Some((headers, parts)) = self.uploads.remove(upload) else { return plain(404) };
                let listed = crate::Completion::parse(std::str::from_utf8(body).unwrap()).unwrap().0;
                let mut bytes = Vec::new();
                for (at, (number, wanted)) in listed.iter().enumerate() {
                    let (etag, part) = &parts[number];
                    assert_eq!(etag, wanted);
                    if at + 1 < listed.len() && part.len() < LEAST {
                        return plain(400);
                    }
                    bytes.extend_from_slice(part);
                }
                let etag = format!("{}-{}", tag(&bytes), listed.len());
                self.objects.insert(path.into(), Object { bytes, headers, etag: etag.clone() });
                let mut text = Writer::new("CompleteMultipartUploadResult");
                text.put("ETag", &format!("\"{etag}\""));
                document(text)
            }
            ("DELETE", Some(upload)) => plain(self.uploads.remove(upload).map_or(404, |_| 204)),
            ("DELETE", None) => {
                self.objects.remove(path);
                plain(204)
            }
            ("GET", _) if pairs.contains_key("list-type") => self.list(path, &pairs),
            ("HEAD", _) if path.ends_with('/') => plain(200),
            _ => self.get(method, path, own("range"), own("if-match"), own("if-none-match")),
        }
    }

    fn get(
        &self,
        method: &str,
        path: &str,
        range: Option<String>,
        matches: Option<String>,
        differs: Option<String>,
    ) -> Answer {
        let Some(object) = self.objects.get(path) else { return plain(404) };
        let quoted = format!("\"{}\"", object.etag);
        if matches.is_some_and(|tag| tag != quoted) {
            return plain(412);
        }
        if differs.is_some_and(|tag| tag == quoted) {
            return (304, vec![("etag".into(), quoted)], Vec::new());
        }
        let mut headers = object.headers.clone();
        headers.push(("etag".into(), quoted));
        headers.push(("last-modified".into(), "Tue, 01 Dec 2026 00:00:00 GMT".into()));
        let length = object.bytes.len();
        if method == "HEAD" {
            headers.push(("content-length".into(), length.to_string()));
            return (200, headers, Vec::new());
        }
        let Some(range) = range else { return (200, headers, object.bytes.clone()) };
        let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (from, to) = (from.parse::<usize>().unwrap(), to.parse::<usize>().unwrap());
        if from >= length {
            return plain(416);
        }
        let to = to.min(length - 1);
        headers.push(("content-range".into(), format!("bytes {from}-{to}/{length}")));
        (206, headers, object.bytes[from..=to].to_vec())
    }

    fn list(&self, path: &str, pairs: &BTreeMap<String, String>) -> Answer {
        let (prefix, after) =
            (&pairs["prefix"], pairs.get("continuation-token").cloned().unwrap_or_default());
        let mut names = BTreeMap::new();
        for (own, object) in &self.objects {
            let Some(key) = own.strip_prefix(path) else { continue };
            let Some(rest) = key.strip_prefix(prefix.as_str()) else { continue };
            match rest.split_once('/').filter(|_| pairs.contains_key("delimiter")) {
                Some((folder, _)) => names.insert(format!("{prefix}{folder}/"), None),
                None => names.insert(key.to_owned(), Some(object)),
            };
        }
        let page: Vec<_> = names.range(after..).collect();
        let mut text = Writer::new("ListBucketResult");
        text.put("IsTruncated", if page.len() > PAGE { "true" } else { "false" });
        for (name, object) in page.iter().take(PAGE) {
            match object {
                Some(object) => text.within("Contents", |one| {
                    let size = object.bytes.len().to_string();
                    let written = "2026-12-01T00:00:00.000Z";
                    one.put("Key", name)
                        .put("LastModified", written)
                        .put("Size", &size)
                        .put("ETag", &format!("\"{}\"", object.etag))
                }),
                None => text.within("CommonPrefixes", |one| one.put("Prefix", name)),
            };
        }
        if let Some((next, _)) = page.get(PAGE) {
            text.put("NextContinuationToken", next);
        }
        document(text)
    }
}

/// A tag that is another one for other bytes.
fn tag_of(bytes: &[u8]) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
