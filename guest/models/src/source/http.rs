//! Ranges of objects over HTTP: bounded retries, and a body that ends early is asked for again from where it ended.
//!
//! SPEC: RFC 9110, sections 10.2.3 (Retry-After) and 14 (ranges). A body that stalls counts as one that ended.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coffer_core_patience::{Schedule, passes};
use coffer_core_sealed_stream::ReadAt;
use reqwest::header::{self, HeaderMap};
use reqwest::{Response, StatusCode, Url, redirect};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::runtime::{Builder, Runtime};

use super::registry::Bearer;
use super::s3;
use crate::SourceError;
use crate::sigv4::Signer;

/// As many hops as stores make to their storage.
const REDIRECTS: usize = 5;
/// No server makes us wait longer than this, whatever it asks for.
const LONGEST_ASKED: Duration = Duration::from_secs(60);
/// An attempt that brought at least this much is not counted among the failed ones.
const PROGRESS: usize = 64 << 10;

/// When to try again and when to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts that bring nothing, in all.
    pub attempts: u32,
    /// The pause after the first; each further one is twice as long, and all are shortened by chance.
    pub pause: Duration,
    /// The longest pause, unless the server asks for a longer one.
    pub longest_pause: Duration,
    /// How long nothing may come.
    pub stall: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let (pause, longest_pause) = (Duration::from_millis(300), Duration::from_secs(10));
        Self { attempts: 7, pause, longest_pause, stall: Duration::from_secs(30) }
    }
}

impl Retry {
    /// How long to wait after so many attempts that failed.
    #[must_use]
    pub fn pause_after(&self, failed: u32, asked: Option<Duration>) -> Duration {
        let schedule =
            Schedule { first: self.pause, longest: self.longest_pause, longest_asked: LONGEST_ASKED };
        let mut chance = [0];
        // Without randomness the pause is the longest.
        let chance = aws_lc_rs::rand::fill(&mut chance).map_or(u8::MAX, |()| chance[0]);
        schedule.wait(failed, chance, asked)
    }
}

/// A client. Its calls wait for their answers, so they may not be made from asynchronous code.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    runtime: Arc<Runtime>,
    retry: Retry,
}

/// An object and who one is there.
#[derive(Clone)]
pub(crate) struct Target {
    pub(super) url: Url,
    pub(super) what: String,
    pub(super) place: String,
    pub(super) signer: Option<Arc<Signer>>,
    pub(super) bearer: Option<Arc<Bearer>>,
}

/// Why an attempt failed, and whether another may go better.
struct Fault {
    error: SourceError,
    again: Again,
}

enum Again {
    Never,
    Soon,
    After(Duration),
}

impl Http {
    /// A client that trusts the public authorities and these (PEM). Proxies are those of the environment.
    pub fn new(place: &str, authorities: &[String], retry: Retry) -> Result<Self, SourceError> {
        Self::build(place, authorities, retry, |client| client)
    }

    /// With another client, which finds a name where a test wants it.
    #[cfg(test)]
    pub(crate) fn with_client(mut self, client: reqwest::Client) -> Self {
        self.client = client;
        self
    }

    /// A client for `http://` addresses of this machine: no proxy, no redirect, whatever the environment says.
    pub fn loopback(address: &str) -> Result<Self, SourceError> {
        let refuse = |why: &str| SourceError::Client { place: address.into(), why: why.into() };
        let url = Url::parse(address).map_err(|why| refuse(&why.to_string()))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let own = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        if url.scheme() != "http" || !own {
            return Err(refuse(
                "it is not http:// and an address of this machine, as http://127.0.0.1:8006 is",
            ));
        }
        Self::build(address, &[], Retry::default(), |client| {
            client.no_proxy().redirect(redirect::Policy::none())
        })
    }

    fn build(
        place: &str,
        authorities: &[String],
        retry: Retry,
        more: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<Self, SourceError> {
        let refuse = |why: String| SourceError::Client { place: place.into(), why };
        let client = client_builder(place, authorities, retry)?;
        let client = more(client).build().map_err(|why| refuse(reasons(&why)))?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = Arc::new(runtime.map_err(|why| refuse(why.to_string()))?);
        Ok(Self { client, runtime, retry })
    }

    /// A document of at most `most` bytes; one byte more is read, so that its reader can refuse it.
    pub(super) fn small(&self, target: &Target, accept: &str, most: u64) -> Result<Vec<u8>, SourceError> {
        self.runtime.block_on(async {
            let mut failed = 0;
            loop {
                match self.document(target, accept, most).await {
                    Ok(bytes) => return Ok(bytes),
                    Err(fault) => self.pause(target, fault, &mut failed).await?,
                }
            }
        })
    }

    /// The size of an object, from the answer to a request for its first byte.
    pub(super) fn size(&self, target: &Target) -> Result<u64, SourceError> {
        self.runtime.block_on(async {
            let mut failed = 0;
            loop {
                match self.ask(target, "*/*", Some("bytes=0-0")).await {
                    Ok(reply) => {
                        let whole = reply.content_length().filter(|_| reply.status() == StatusCode::OK);
                        let found = total_of(reply.headers()).or(whole);
                        return found.ok_or_else(|| SourceError::NoRanges { place: target.place.clone() });
                    }
                    Err(fault) => self.pause(target, fault, &mut failed).await?,
                }
            }
        })
    }

    /// A document from this address.
    pub fn get(&self, url: &str, most: u64) -> Result<Vec<u8>, SourceError> {
        let parsed =
            Url::parse(url).map_err(|why| SourceError::Place { text: url.into(), why: why.to_string() })?;
        let place = parsed.host_str().unwrap_or_default().to_owned();
        let what = parsed.path().to_owned();
        self.small(&Target { url: parsed, what, place, signer: None, bearer: None }, "*/*", most)
    }

    async fn document(&self, target: &Target, accept: &str, most: u64) -> Result<Vec<u8>, Fault> {
        let mut reply = self.ask(target, accept, None).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = reply.chunk().await.map_err(|why| target.broken(&why))? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > most {
                bytes.truncate(usize::try_from(most.saturating_add(1)).unwrap_or(usize::MAX));
                break;
            }
        }
        Ok(bytes)
    }

    /// Fills `buffer` from `offset` on, as far as an object of `size` bytes goes.
    fn fill(&self, target: &Target, buffer: &mut [u8], offset: u64, size: u64) -> Result<usize, SourceError> {
        let there = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(there);
        let buffer = buffer.get_mut(..wanted).unwrap_or_default();
        self.runtime.block_on(async {
            let (mut filled, mut failed) = (0, 0);
            while filled < wanted {
                let before = filled;
                if let Err(fault) = self.piece(target, buffer, &mut filled, offset, size).await {
                    if filled - before >= PROGRESS {
                        failed = 0;
                    }
                    self.pause(target, fault, &mut failed).await?;
                }
            }
            Ok(wanted)
        })
    }

    /// One attempt at what is missing of `buffer`.
    async fn piece(
        &self,
        target: &Target,
        buffer: &mut [u8],
        filled: &mut usize,
        offset: u64,
        size: u64,
    ) -> Result<(), Fault> {
        let (first, last) = (offset + *filled as u64, offset + buffer.len() as u64 - 1);
        let mut reply = self.ask(target, "*/*", Some(&format!("bytes={first}-{last}"))).await?;
        let never = |error| Fault { error, again: Again::Never };
        let length = |found| {
            let (place, what) = (target.place.clone(), target.what.clone());
            never(SourceError::Length { place, what, expected: size, found })
        };
        match (reply.status(), content_range(reply.headers())) {
            (StatusCode::PARTIAL_CONTENT, Some((begins, total))) => {
                if let Some(found) = total.filter(|total| *total != size) {
                    return Err(length(found));
                }
                if begins != first {
                    return Err(target.soon(format!("it sent bytes from {begins}, not from {first}")));
                }
            }
            // All of it is what was asked for.
            (StatusCode::OK, _) if first == 0 => match reply.content_length() {
                Some(found) if found != size => return Err(length(found)),
                _ if last + 1 < size => {
                    return Err(never(SourceError::NoRanges { place: target.place.clone() }));
                }
                _ => {}
            },
            (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
                return Err(length(total_of(reply.headers()).unwrap_or(first)));
            }
            _ => return Err(never(SourceError::NoRanges { place: target.place.clone() })),
        }
        while let Some(piece) = reply.chunk().await.map_err(|why| target.broken(&why))? {
            let rest = buffer.get_mut(*filled..).unwrap_or_default();
            let length = piece.len().min(rest.len());
            if let (Some(to), Some(from)) = (rest.get_mut(..length), piece.get(..length)) {
                to.copy_from_slice(from);
            }
            *filled += length;
            if *filled == buffer.len() {
                return Ok(());
            }
        }
        Err(target.soon("the answer ended early".into()))
    }

    /// One request, with whatever the source wants to know about who asks.
    async fn ask(&self, target: &Target, accept: &str, range: Option<&str>) -> Result<Response, Fault> {
        let mut reply = self.send(target, accept, range).await?;
        if let (StatusCode::UNAUTHORIZED, Some(bearer)) = (reply.status(), &target.bearer) {
            let wanted = reply.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
            let answered = bearer.answer(&self.client, wanted.unwrap_or_default()).await;
            answered.map_err(|error| Fault { error, again: Again::Never })?;
            reply = self.send(target, accept, range).await?;
        }
        let status = reply.status();
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(reply);
        }
        let (place, what) = (target.place.clone(), target.what.clone());
        let again = match status.as_u16() {
            status if passes(status) => retry_after(reply.headers()).map_or(Again::Soon, Again::After),
            _ => Again::Never,
        };
        let error = match status.as_u16() {
            404 | 410 => SourceError::NotFound { place, what },
            401 | 403 => SourceError::Refused { place, what, status: status.as_u16() },
            status => SourceError::Status { place, what, status },
        };
        Err(Fault { error, again })
    }

    async fn send(&self, target: &Target, accept: &str, range: Option<&str>) -> Result<Response, Fault> {
        let mut request = self.client.get(target.url.clone()).header(header::ACCEPT, accept);
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        if let Some(signer) = &target.signer {
            let refuse = |why| Fault {
                error: SourceError::Client { place: target.place.clone(), why },
                again: Again::Never,
            };
            request = request.headers(s3::signed(signer, &target.url, range).map_err(refuse)?);
        }
        if let Some(bearer) = &target.bearer {
            request = bearer.authorize(request);
        }
        request.send().await.map_err(|why| target.broken(&why))
    }

    /// Waits before the next attempt, or gives the fault back.
    async fn pause(&self, target: &Target, fault: Fault, failed: &mut u32) -> Result<(), SourceError> {
        *failed += 1;
        let last = *failed >= self.retry.attempts;
        let asked = match fault.again {
            Again::Never => return Err(fault.error),
            _ if last => {
                let (place, what) = (target.place.clone(), target.what.clone());
                let why = match fault.error {
                    SourceError::Unreachable { why, .. } => why,
                    error => error.to_string(),
                };
                return Err(SourceError::Unreachable { place, what, attempts: *failed, why });
            }
            Again::After(pause) => Some(pause),
            Again::Soon => None,
        };
        let pause = self.retry.pause_after(*failed, asked);
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// A client that trusts the public authorities and these (PEM), and gives up where nothing comes any more.
pub fn client_builder(
    place: &str,
    authorities: &[String],
    retry: Retry,
) -> Result<reqwest::ClientBuilder, SourceError> {
    let refuse = |why: String| SourceError::Client { place: place.into(), why };
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for pem in authorities {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|why| refuse(format!("an authority is not PEM: {why}")))?;
            roots.add(certificate).map_err(|why| refuse(format!("an authority is refused: {why}")))?;
        }
        // A file that was meant to name one and names none would be found out by a failed handshake only.
        if roots.len() == before {
            return Err(refuse("an authority's file has no certificate in PEM".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .map_err(|why| refuse(why.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let hops = redirect::Policy::custom(|attempt| {
        let was_https = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > REDIRECTS {
            attempt.error("too many redirects")
        } else if was_https && attempt.url().scheme() != "https" {
            attempt.error("it leads from HTTPS to something else")
        } else {
            attempt.follow()
        }
    });
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(hops)
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(retry.stall)
        .user_agent(concat!("coffer/", env!("CARGO_PKG_VERSION"))))
}

impl Target {
    fn soon(&self, why: String) -> Fault {
        let (place, what) = (self.place.clone(), self.what.clone());
        Fault { error: SourceError::Unreachable { place, what, attempts: 1, why }, again: Again::Soon }
    }

    fn broken(&self, why: &reqwest::Error) -> Fault {
        let text = reasons(why);
        if is_certificate(why) {
            let error = SourceError::Certificate { place: self.place.clone(), why: text };
            return Fault { error, again: Again::Never };
        }
        self.soon(text)
    }
}

/// An object of known size at a server.
pub struct Remote {
    http: Http,
    target: Target,
    size: u64,
}

impl Remote {
    pub(super) fn new(http: Http, target: Target, size: u64) -> Self {
        Self { http, target, size }
    }

    /// The object's size.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl ReadAt for Remote {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.http.fill(&self.target, buffer, offset, self.size).map_err(SourceError::into_io)
    }
}

/// Where the answer begins, and how long the whole is.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, total) = value.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, total.trim().parse().ok()))
}

fn total_of(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    value.rsplit_once('/')?.1.trim().parse().ok()
}

/// How long a server asks to wait.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    coffer_core_patience::retry_after(headers.get(header::RETRY_AFTER)?.to_str().ok()?, now)
}

/// Looks through errors inside of I/O errors too, which are no sources of theirs.
fn is_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return true;
    }
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inside.is_some_and(|inner| is_certificate(inner)) || error.source().is_some_and(is_certificate)
}

/// The chain of reasons in one line, without addresses, which may carry credentials.
pub fn reasons(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if text.last() != Some(&reason) {
            text.push(reason);
        }
        cause = error.source();
    }
    if text.is_empty() { "the connection failed".into() } else { text.join(": ") }
}
