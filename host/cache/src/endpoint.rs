//! One place of one repository: requests, tokens, and what each kind of failure means.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use coffer_core_oci::Challenge;
use coffer_core_oci::challenge::read_token;
use coffer_core_patience::passes;
use reqwest::{Response, StatusCode, Url, header};

use crate::CacheError;
use crate::patience::{Patience, retry_after};
use crate::settings::Place;

/// As many hops as registries make to their storage.
const REDIRECTS: usize = 4;
/// The longest answer of a token service, in bytes.
const MAX_TOKEN: usize = 64 << 10;

/// What went wrong, by what is to be done.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It may be better soon.
    Again { why: String, after: Option<Duration> },
    /// It stays so at this place.
    Stays(String),
    /// The place does not have it.
    Missing,
}

/// A request's particulars.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) path: &'a str,
    pub(crate) accept: &'a str,
    pub(crate) head: bool,
    /// First and last byte.
    pub(crate) range: Option<(u64, u64)>,
}

pub(crate) struct Endpoint {
    client: reqwest::Client,
    /// `https://host/v2/repository`.
    base: Url,
    repository: String,
    pub(crate) host: String,
    plain_http: bool,
    stall: Duration,
    token: Mutex<Option<String>>,
    /// Until when other places are asked first.
    rests: Mutex<Option<Instant>>,
}

impl Endpoint {
    pub(crate) fn new(place: &Place, repository: &str, patience: &Patience) -> Result<Self, CacheError> {
        // Without a provider the HTTP client cannot be made; another part of the program may have chosen one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let wrong = |why: String| CacheError::Settings { why: format!("{}: {why}", place.host) };
        let mut builder = reqwest::Client::builder()
            .https_only(!place.plain_http)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS))
            .connect_timeout(patience.stall.min(Duration::from_secs(10)))
            .read_timeout(patience.stall)
            .user_agent(concat!("coffer-cache/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &place.ca {
            let unusable = |why: String| wrong(format!("the certificates in {}: {why}", path.display()));
            let pem = std::fs::read(path).map_err(|why| unusable(why.to_string()))?;
            let roots =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|why| unusable(why.to_string()))?;
            if roots.is_empty() {
                return Err(unusable("expected certificates in PEM, found none".into()));
            }
            builder = builder.tls_certs_merge(roots);
        }
        if let Some(proxy) = &place.proxy {
            let proxy = reqwest::Proxy::all(proxy).map_err(|why| wrong(format!("the proxy: {why}")))?;
            builder = builder.proxy(proxy);
        }
        let client = builder.build().map_err(|why| wrong(reasons(&why)))?;
        let host = match place.host.as_str() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let scheme = if place.plain_http { "http" } else { "https" };
        let repository = format!("{}{repository}", place.prefix);
        let base = Url::parse(&format!("{scheme}://{host}/v2/{repository}"))
            .map_err(|why| wrong(why.to_string()))?;
        Ok(Self {
            client,
            base,
            repository,
            host: place.host.clone(),
            plain_http: place.plain_http,
            stall: patience.stall,
            token: Mutex::new(None),
            rests: Mutex::new(None),
        })
    }

    /// Whether others are to be asked first.
    pub(crate) fn rests(&self) -> bool {
        let until = *self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until > Instant::now())
    }

    pub(crate) fn rest(&self, time: Duration) {
        *self.rests.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + time);
    }

    /// One request, and once more with a token if one is asked for.
    pub(crate) async fn get(&self, ask: Ask<'_>) -> Result<Response, Trouble> {
        let mut reply = self.send(ask).await?;
        if reply.status() == StatusCode::UNAUTHORIZED {
            let challenges = reply.headers().get_all(header::WWW_AUTHENTICATE).iter();
            let challenge = challenges.filter_map(|value| value.to_str().ok()).find_map(Challenge::parse);
            if let Some(challenge) = challenge {
                let token = self.authenticate(&challenge).await?;
                *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
                reply = self.send(ask).await?;
            }
        }
        match reply.status() {
            status if status.is_success() => Ok(reply),
            StatusCode::NOT_FOUND => Err(Trouble::Missing),
            _ => Err(of_status(&reply)),
        }
    }

    async fn send(&self, ask: Ask<'_>) -> Result<Response, Trouble> {
        let url = format!("{}{}", self.base, ask.path);
        let request = if ask.head { self.client.head(url) } else { self.client.get(url) };
        // A body that is compressed on its way has other offsets.
        let mut request =
            request.header(header::ACCEPT, ask.accept).header(header::ACCEPT_ENCODING, "identity");
        if let Some((first, last)) = ask.range {
            request = request.header(header::RANGE, format!("bytes={first}-{last}"));
        }
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        self.patiently(request.send()).await
    }

    /// An anonymous token (distribution's token authentication, "Requesting a token").
    async fn authenticate(&self, challenge: &Challenge) -> Result<String, Trouble> {
        let stays = |why: &str| Trouble::Stays(format!("its token service {why}"));
        let mut url = Url::parse(&challenge.realm).map_err(|_| stays("has no usable address"))?;
        if !self.plain_http && url.scheme() != "https" {
            return Err(stays("is not reached over HTTPS"));
        }
        url.query_pairs_mut().extend_pairs(challenge.query(&self.repository));
        let mut reply = self.patiently(self.client.get(url).send()).await?;
        if !reply.status().is_success() {
            return Err(match of_status(&reply) {
                Trouble::Again { why, after } => {
                    Trouble::Again { why: format!("its token service: {why}"), after }
                }
                _ => stays(&format!(
                    "answers {}; the image may need credentials, which hosts do not have",
                    reply.status()
                )),
            });
        }
        let mut body = Vec::new();
        while let Some(piece) = self.chunk(&mut reply).await? {
            if body.len() + piece.len() > MAX_TOKEN {
                return Err(stays("answers without end"));
            }
            body.extend_from_slice(&piece);
        }
        read_token(&body).ok_or_else(|| stays("gives no token"))
    }

    /// The next bytes of a body.
    pub(crate) async fn chunk(&self, reply: &mut Response) -> Result<Option<Bytes>, Trouble> {
        self.patiently(reply.chunk()).await
    }

    async fn patiently<T>(
        &self,
        work: impl Future<Output = Result<T, reqwest::Error>>,
    ) -> Result<T, Trouble> {
        match tokio::time::timeout(self.stall, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if is_certificate(&error) => Err(Trouble::Stays(reasons(&error))),
            Ok(Err(error)) => Err(Trouble::Again { why: reasons(&error), after: None }),
            Err(_) => {
                let why = format!("silent for {} s", self.stall.as_secs_f32());
                Err(Trouble::Again { why, after: None })
            }
        }
    }
}

fn of_status(reply: &Response) -> Trouble {
    let status = reply.status();
    let why = format!("it answers {status}");
    let after = reply.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    match status {
        status if passes(status.as_u16()) => Trouble::Again { why, after: after.and_then(retry_after) },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Trouble::Stays(format!(
            "{why}; hosts ask anonymously, since owners' credentials are not theirs to have"
        )),
        _ => Trouble::Stays(why),
    }
}

/// Whether asking again is of no use because of the peer's certificate. An error inside of an I/O error is none of its
/// sources, so that is looked at too.
fn is_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return true;
    }
    let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    inside.is_some_and(|inner| is_certificate(inner)) || error.source().is_some_and(is_certificate)
}

/// An error with its causes, without the address that it may name a second time.
fn reasons(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
