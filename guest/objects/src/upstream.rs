//! Requests to the store: signed, and repeated where that is safe.

use std::time::Duration;

use bytes::Bytes;
use coffer_core_patience::passes;
use coffer_guest_models::sigv4::{NO_BODY, Signed, Signer, UNSIGNED};
use coffer_guest_models::{Retry, S3Access, SourceError, client_builder, host_of, reasons, retry_after};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use reqwest::Response;

use crate::Refusal;
use crate::body::Reply;
use crate::xml::error_word;

/// The longest document that is read of a store, errors and listings. A listing's page has at most 1000 names.
const MAX_DOCUMENT: usize = 4 << 20;
/// How long a store may think about a request, as after the last byte of a long body.
const PATIENCE: Duration = Duration::from_secs(120);

/// One request to the store.
#[derive(Clone)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) bucket: &'a str,
    /// The sealed key; empty for the bucket itself.
    pub(crate) key: &'a str,
    /// Percent-encoded, without `?`.
    pub(crate) query: String,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(method: Method, bucket: &'a str, key: &'a str) -> Self {
        Self { method, bucket, key, query: String::new(), headers: Vec::new() }
    }

    pub(crate) fn query(mut self, query: String) -> Self {
        self.query = query;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

pub(crate) struct Upstream {
    client: reqwest::Client,
    access: S3Access,
    retry: Retry,
}

impl Upstream {
    pub(crate) fn new(access: S3Access, authorities: &[String], retry: Retry) -> Result<Self, SourceError> {
        const PLACE: &str = "the object store";
        let builder = client_builder(PLACE, authorities, Retry { stall: PATIENCE, ..retry })?;
        // A signature is for one address, so nothing is followed.
        let builder = builder.redirect(reqwest::redirect::Policy::none());
        let client =
            builder.build().map_err(|why| SourceError::Client { place: PLACE.into(), why: reasons(&why) })?;
        // An endpoint that is no address is known now, not at the first call.
        access.at("bucket", "")?;
        Ok(Self { client, access, retry })
    }

    /// A request without a body.
    pub(crate) async fn send(&self, ask: &Ask<'_>) -> Result<Response, Refusal> {
        self.send_bytes(ask, Bytes::new()).await
    }

    /// A request with a short body: repeated while the store fails.
    pub(crate) async fn send_bytes(&self, ask: &Ask<'_>, body: Bytes) -> Result<Response, Refusal> {
        let mut failed = 0;
        loop {
            let found = match self.once(ask, Reply::of(body.clone())).await {
                Ok(reply) => match again(&reply) {
                    None => return checked(ask, reply).await,
                    Some(asked) => {
                        let status = reply.status();
                        (asked, format!("the store answers {status}; try again later"))
                    }
                },
                Err(Failure::Never(refusal)) => return Err(refusal),
                Err(Failure::Soon(why)) => (None, why),
            };
            failed += 1;
            if failed >= self.retry.attempts {
                return Err(Refusal::unavailable(found.1));
            }
            tokio::time::sleep(self.retry.pause_after(failed, found.0)).await;
        }
    }

    /// A request with a body that comes but once. That it failed is told to the client, who has the body.
    pub(crate) async fn send_piped(&self, ask: &Ask<'_>, body: Reply) -> Result<Response, Refusal> {
        match self.once(ask, body).await {
            Ok(reply) if again(&reply).is_some() => {
                Err(Refusal::unavailable(format!("the store answers {}; try again", reply.status())))
            }
            Ok(reply) => checked(ask, reply).await,
            Err(Failure::Never(refusal)) => Err(refusal),
            Err(Failure::Soon(why)) => Err(Refusal::unavailable(why)),
        }
    }

    /// How many attempts at one thing, and the pauses between them.
    pub(crate) const fn retry(&self) -> &Retry {
        &self.retry
    }

    async fn once(&self, ask: &Ask<'_>, body: Reply) -> Result<Response, Failure> {
        let refuse =
            |why: String| Failure::Never(Refusal::answer(format!("the store cannot be asked: {why}")));
        let (mut url, signer) = self.access.at(ask.bucket, "").map_err(|error| refuse(error.to_string()))?;
        let path = format!("{}{}", url.path(), ask.key);
        url.set_path(&path);
        url.set_query((!ask.query.is_empty()).then_some(ask.query.as_str()));
        let mut headers = HeaderMap::new();
        for (name, value) in &ask.headers {
            let value = HeaderValue::from_str(value).map_err(|_| refuse(format!("{name} has no text")))?;
            headers.insert(*name, value);
        }
        if let Some(signer) = signer {
            headers.extend(signature(&signer, ask, &url, &body).map_err(refuse)?);
        }
        let request = self.client.request(ask.method.clone(), url).headers(headers);
        let request = request.body(reqwest::Body::wrap(body));
        request.send().await.map_err(|error| match body_refusal(&error) {
            Some(refusal) => Failure::Never(refusal),
            None => Failure::Soon(format!("the store cannot be reached: {}", reasons(&error))),
        })
    }
}

enum Failure {
    Never(Refusal),
    Soon(String),
}

fn signature(signer: &Signer, ask: &Ask<'_>, url: &reqwest::Url, body: &Reply) -> Result<HeaderMap, String> {
    let host = host_of(url).ok_or("its address has no host")?;
    let headers: Vec<_> = ask.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let request =
        Signed { method: ask.method.as_str(), path: url.path(), query: url.query().unwrap_or_default() };
    // What a body holds authenticates itself when it is read; a digest would have to be known before it is sent.
    let digest = if matches!(body, Reply::Whole(None)) { NO_BODY } else { UNSIGNED };
    signer.headers(request, &host, &headers, digest)
}

/// What our own body said, inside of what the client says.
fn body_refusal(error: &(dyn std::error::Error + 'static)) -> Option<Refusal> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            return Some(refusal.clone());
        }
        cause = error.source();
    }
    None
}

/// Whether another attempt may go better, and when the store wants it.
fn again(reply: &Response) -> Option<Option<Duration>> {
    passes(reply.status().as_u16()).then(|| retry_after(reply.headers()))
}

/// Turns what the store refuses into S3's words and ours.
async fn checked(ask: &Ask<'_>, mut reply: Response) -> Result<Response, Refusal> {
    let status = reply.status();
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return Ok(reply);
    }
    let text = document(&mut reply).await.unwrap_or_default();
    let word = error_word(&text).filter(|word| {
        (1..64).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    let word = word.as_deref();
    let (s3, code, why) = match (status.as_u16(), word) {
        (404, Some("NoSuchBucket")) => ("NoSuchBucket", "objects.missing", "there is no such bucket"),
        (404, Some("NoSuchUpload")) => ("NoSuchUpload", "objects.missing", "there is no such upload"),
        (404, _) if ask.key.is_empty() => ("NoSuchBucket", "objects.missing", "there is no such bucket"),
        (404, _) => ("NoSuchKey", "objects.missing", "there is no such object"),
        (401 | 403, word) => (
            word.unwrap_or("AccessDenied"),
            "objects.store-refused",
            "the store refuses this; are the gateway's credentials, region and clock right, and may they do it?",
        ),
        (412, _) => {
            ("PreconditionFailed", "objects.precondition", "the object is not as the condition wants it")
        }
        (416, _) => ("InvalidRange", "objects.range", "the range begins behind the object's end"),
        (300..=399, _) => (
            "PermanentRedirect",
            "objects.store-answer",
            "the store sends elsewhere; set the region or endpoint of the bucket",
        ),
        (400..=499, Some(word)) => (word, "objects.store-refused", "the store refuses this request"),
        (501, _) => ("NotImplemented", "objects.store-refused", "the store does not do this"),
        _ => ("InternalError", "objects.store-answer", "the store answers what no store does"),
    };
    let status =
        if status.is_client_error() || status.is_server_error() { status } else { StatusCode::BAD_GATEWAY };
    Err(Refusal::new(status, s3, code, why))
}

/// A short document of the store.
pub(crate) async fn document(reply: &mut Response) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    let broken = |error: reqwest::Error| {
        Refusal::unavailable(format!("the store's answer ended early: {}", reasons(&error)))
    };
    while let Some(piece) = reply.chunk().await.map_err(broken)? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > MAX_DOCUMENT {
            return Err(Refusal::answer("the store's answer is longer than any of its kind"));
        }
    }
    String::from_utf8(bytes).map_err(|_| Refusal::answer("the store's answer is not UTF-8"))
}
