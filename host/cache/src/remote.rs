//! A repository at all its places, in order, with bounded retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use coffer_core_digest::Digest;
use coffer_core_oci::Reference;
use coffer_core_oci::manifest::MAX_DOCUMENT;
use coffer_core_oci::media::ACCEPTED;
use futures::future::BoxFuture;
use reqwest::{Response, StatusCode, header};

use crate::CacheError;
use crate::endpoint::{Ask, Endpoint, Trouble};
use crate::patience::Patience;
use crate::settings::Registries;

/// The header by which a registry says a manifest's digest (distribution specification 1.1, "Pulling manifests").
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A repository that blobs are fetched from.
pub struct Remote {
    endpoints: Vec<Endpoint>,
    pub(crate) patience: Patience,
    /// Bytes of bodies that came.
    transferred: Arc<AtomicU64>,
}

/// What a registry gives for a range.
pub(crate) enum Got {
    /// The range.
    Piece(Vec<u8>),
    /// It knows no ranges: the blob from its beginning.
    Whole(Body),
}

/// A blob as it comes.
pub(crate) struct Body {
    reply: Response,
    /// Which endpoint it comes from.
    from: usize,
    rest: Bytes,
}

impl Remote {
    pub(crate) fn new(
        reference: &Reference,
        plain_http: bool,
        registries: &Registries,
        patience: &Patience,
        transferred: Arc<AtomicU64>,
    ) -> Result<Self, CacheError> {
        let places = registries.places(reference.registry(), plain_http);
        let endpoints = places.iter().map(|place| Endpoint::new(place, reference.repository(), patience));
        Ok(Self { endpoints: endpoints.collect::<Result<_, _>>()?, patience: patience.clone(), transferred })
    }

    /// The places, for people.
    pub(crate) fn names(&self) -> String {
        self.endpoints.iter().map(|endpoint| endpoint.host.as_str()).collect::<Vec<_>>().join(" or ")
    }

    /// Bytes `start` to `start + length` of a blob of `size` bytes.
    pub(crate) async fn range(
        &self,
        digest: &Digest,
        start: u64,
        length: u64,
        size: u64,
    ) -> Result<Got, CacheError> {
        let what = format!("the blob {digest}");
        self.ask(&what, |from| {
            let piece = self.range_once(from, *digest, start, length, size);
            Box::pin(async {
                let piece = tokio::time::timeout(self.patience.piece, piece).await;
                piece.unwrap_or_else(|_| Err(again("a piece took too long")))
            })
        })
        .await
    }

    async fn range_once(
        &self,
        from: usize,
        digest: Digest,
        start: u64,
        length: u64,
        size: u64,
    ) -> Result<Got, Trouble> {
        let endpoint = self.endpoint(from)?;
        let last = start.saturating_add(length).saturating_sub(1);
        let path = format!("/blobs/{digest}");
        let ask = Ask { path: &path, accept: "*/*", head: false, range: Some((start, last)) };
        let mut reply = endpoint.get(ask).await?;
        if reply.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(Got::Whole(Body { reply, from, rest: Bytes::new() }));
        }
        is_range(&reply, start, last, size)?;
        let mut piece = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        while let Some(chunk) = endpoint.chunk(&mut reply).await? {
            self.count(&chunk);
            if (piece.len() + chunk.len()) as u64 > length {
                return Err(again("it sends more than was asked for"));
            }
            piece.extend_from_slice(&chunk);
        }
        match piece.len() as u64 == length {
            true => Ok(Got::Piece(piece)),
            false => Err(again("the answer ended early")),
        }
    }

    /// A blob from its beginning, for registries without ranges.
    pub(crate) async fn whole(&self, digest: &Digest) -> Result<Body, CacheError> {
        let what = format!("the blob {digest}");
        let path = format!("/blobs/{digest}");
        self.ask(&what, |from| {
            let ask = Ask { path: &path, accept: "*/*", head: false, range: None };
            Box::pin(async move {
                let reply = self.endpoint(from)?.get(ask).await?;
                Ok(Body { reply, from, rest: Bytes::new() })
            })
        })
        .await
    }

    /// The next `length` bytes of a body.
    pub(crate) async fn next(&self, body: &mut Body, length: usize) -> Result<Vec<u8>, Trouble> {
        let endpoint = self.endpoint(body.from)?;
        let gathered = async {
            let mut piece = Vec::with_capacity(length);
            while piece.len() < length {
                if body.rest.is_empty() {
                    body.rest = match endpoint.chunk(&mut body.reply).await? {
                        Some(chunk) => chunk,
                        None => return Err(again("the answer ended early")),
                    };
                    self.count(&body.rest);
                }
                let wanted = (length - piece.len()).min(body.rest.len());
                piece.extend_from_slice(&body.rest.split_to(wanted));
            }
            Ok(piece)
        };
        let late = || again("a piece took too long");
        tokio::time::timeout(self.patience.piece, gathered).await.unwrap_or_else(|_| Err(late()))
    }

    /// The digest that a tag stands for, if the registry says it without the manifest.
    pub(crate) async fn tag(&self, tag: &str) -> Result<Option<Digest>, CacheError> {
        let path = format!("/manifests/{tag}");
        let accept = ACCEPTED.join(", ");
        self.ask(&format!("manifest {tag}"), |from| {
            let ask = Ask { path: &path, accept: &accept, head: true, range: None };
            Box::pin(async move {
                let reply = self.endpoint(from)?.get(ask).await?;
                let told = reply.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok());
                Ok(told.and_then(|text| text.parse().ok()))
            })
        })
        .await
    }

    /// A document, not longer than any may be: a manifest or an index, or a small blob.
    pub(crate) async fn document(
        &self,
        path: &str,
        what: &str,
        expected: Option<&Digest>,
    ) -> Result<Vec<u8>, CacheError> {
        self.ask(what, |from| Box::pin(self.document_once(from, path, expected))).await
    }

    async fn document_once(
        &self,
        from: usize,
        path: &str,
        expected: Option<&Digest>,
    ) -> Result<Vec<u8>, Trouble> {
        let endpoint = self.endpoint(from)?;
        let accept = format!("{}, */*", ACCEPTED.join(", "));
        let mut reply = endpoint.get(Ask { path, accept: &accept, head: false, range: None }).await?;
        let length = reply.content_length();
        let mut bytes = Vec::new();
        while let Some(chunk) = endpoint.chunk(&mut reply).await? {
            self.count(&chunk);
            if bytes.len() + chunk.len() > MAX_DOCUMENT {
                return Err(Trouble::Stays(format!("a document of more than {MAX_DOCUMENT} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        if length.is_some_and(|length| length != bytes.len() as u64) {
            return Err(again("the answer ended early"));
        }
        match expected.map(|expected| (expected, Digest::of(expected.algorithm(), &bytes))) {
            Some((expected, found)) if *expected != found => {
                Err(Trouble::Stays(format!("its digest is {found}")))
            }
            _ => Ok(bytes),
        }
    }

    /// Asks the places in order, each as often as patience allows; those that failed lately come last.
    async fn ask<'a, T>(
        &'a self,
        what: &str,
        once: impl Fn(usize) -> BoxFuture<'a, Result<T, Trouble>>,
    ) -> Result<T, CacheError> {
        let (resting, ready): (Vec<usize>, Vec<usize>) = (0..self.endpoints.len())
            .partition(|index| self.endpoints.get(*index).is_some_and(Endpoint::rests));
        let mut reasons: Vec<String> = Vec::new();
        let mut missing = true;
        for index in ready.into_iter().chain(resting) {
            let Ok(endpoint) = self.endpoint(index) else { continue };
            let mut number = 1;
            loop {
                match once(index).await {
                    Ok(value) => return Ok(value),
                    Err(Trouble::Again { why, after }) => {
                        missing = false;
                        tracing::debug!(registry = endpoint.host, what, why, number, "a request failed");
                        if number >= self.patience.attempts {
                            reasons.push(format!("{}: {why} ({number} attempts)", endpoint.host));
                            endpoint.rest(self.patience.rest);
                            break;
                        }
                        tokio::time::sleep(self.patience.wait(number, after)).await;
                        number += 1;
                    }
                    Err(Trouble::Stays(why)) => {
                        missing = false;
                        reasons.push(format!("{}: {why}", endpoint.host));
                        endpoint.rest(self.patience.rest);
                        break;
                    }
                    Err(Trouble::Missing) => {
                        reasons.push(format!("{}: it has none", endpoint.host));
                        break;
                    }
                }
            }
        }
        let registry = self.names();
        Err(match missing {
            true => CacheError::Missing { registry, what: what.into() },
            false => CacheError::Registry { registry, what: what.into(), why: reasons.join("; ") },
        })
    }

    fn endpoint(&self, index: usize) -> Result<&Endpoint, Trouble> {
        self.endpoints.get(index).ok_or_else(|| Trouble::Stays("there is no such place".into()))
    }

    fn count(&self, bytes: &Bytes) {
        self.transferred.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
}

fn again(why: &str) -> Trouble {
    Trouble::Again { why: why.into(), after: None }
}

/// Whether the answer is the range that was asked for (RFC 9110, section 14.4).
fn is_range(reply: &Response, first: u64, last: u64, size: u64) -> Result<(), Trouble> {
    let told =
        reply.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let expected = format!("bytes {first}-{last}/{size}");
    if told == expected || told == format!("bytes {first}-{last}/*") {
        return Ok(());
    }
    Err(Trouble::Stays(format!("expected the range {expected:?}, found {told:?}")))
}
