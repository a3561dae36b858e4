//! Asking over HTTP with bounds: on time, on length, on attempts, and with respect for a source that is busy.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coffer_verify_api::Document;
use reqwest::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method, StatusCode, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::Instant;

use super::Fetched;
use crate::error::{CacheError, FetchError};
use crate::settings::{Proxy, Settings};

const CONNECT: Duration = Duration::from_secs(10);
/// The first pause after a failure; each next one is four times as long.
const PAUSE: Duration = Duration::from_millis(200);
/// When a busy source does not say.
const BUSY: Duration = Duration::from_secs(10);
/// No source closes itself for longer.
const MAX_BUSY: Duration = Duration::from_secs(3600);

/// No source is closed for longer to the rest because it refused what only evidence names.
const MAX_BUSY_BY_EVIDENCE: Duration = Duration::from_secs(10);

/// The way to all sources. Clones share what is closed.
#[derive(Clone)]
pub(crate) struct Web {
    client: Client,
    attempts: u32,
    timeout: Duration,
    max_document: usize,
    /// Sources that asked to be left alone, and until when; also whether for unproven keys.
    closed: Arc<Mutex<HashMap<(String, bool), Instant>>>,
    /// Whether this way is for keys that only evidence names.
    unproven: bool,
}

/// A successful answer.
pub(crate) struct WebAnswer {
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) max_age: Option<i64>,
}

impl WebAnswer {
    /// The body as it is.
    pub(crate) fn into_fetched(self, issuer_chain: Vec<u8>) -> Fetched {
        Fetched { document: Document::new(self.body, issuer_chain), origin: self.url, max_age: self.max_age }
    }
}

struct Ask<'a> {
    method: Method,
    url: &'a str,
    content: Option<(&'static str, Vec<u8>)>,
}

impl Web {
    pub(crate) fn new(settings: &Settings) -> Result<Self, CacheError> {
        let wrong = |why: String| CacheError::Client(why);
        let mut roots = rustls::RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let extra = &settings.extra_ca;
        if !extra.as_os_str().is_empty() {
            let pem = std::fs::read(extra).map_err(|error| wrong(format!("{}: {error}", extra.display())))?;
            let mut found = 0_usize;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate =
                    certificate.map_err(|error| wrong(format!("{}: {error}", extra.display())))?;
                roots.add(certificate).map_err(|error| wrong(format!("{}: {error}", extra.display())))?;
                found = found.saturating_add(1);
            }
            if found == 0 {
                return Err(wrong(format!("{}: there is no certificate in it", extra.display())));
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let builder = match settings.proxy {
            Proxy::Environment => Client::builder(),
            Proxy::None => Client::builder().no_proxy(),
        };
        let client = builder
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::limited(3))
            .connect_timeout(CONNECT)
            .user_agent(concat!("coffer/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| wrong(causes(&error)))?;
        Ok(Self {
            client,
            attempts: settings.attempts.max(1),
            timeout: settings.timeout.duration(),
            max_document: settings.max_document,
            closed: Arc::default(),
            unproven: false,
        })
    }

    /// The way for keys that only evidence names: what a source answers to those must not close it for the rest.
    pub(crate) fn unproven(&self) -> Self {
        Self { unproven: true, ..self.clone() }
    }

    pub(crate) async fn get(&self, url: &str) -> Result<WebAnswer, FetchError> {
        self.ask(Ask { method: Method::GET, url, content: None }).await
    }

    pub(crate) async fn post(
        &self,
        url: &str,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<WebAnswer, FetchError> {
        self.ask(Ask { method: Method::POST, url, content: Some((content_type, body)) }).await
    }

    /// Asks as often as the settings say and within their time.
    async fn ask(&self, ask: Ask<'_>) -> Result<WebAnswer, FetchError> {
        let end = Instant::now() + self.timeout;
        let mut pause = PAUSE;
        let mut attempt = 1;
        loop {
            self.wait_until_open(ask.url, end).await?;
            let once = tokio::time::timeout_at(end, self.once(&ask)).await;
            let error = match once {
                Err(_) => return Err(FetchError::TimedOut(self.timeout)),
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
            };
            let wait = match &error {
                FetchError::Busy { retry_after, .. } => {
                    self.close(ask.url, *retry_after);
                    *retry_after
                }
                error if error.is_passing() => pause,
                _ => return Err(error),
            };
            if attempt >= self.attempts || Instant::now() + wait >= end {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
            attempt += 1;
            pause *= 4;
        }
    }

    async fn once(&self, ask: &Ask<'_>) -> Result<WebAnswer, FetchError> {
        let source_url = ask.url.to_owned();
        let failed = |why: String| FetchError::Failed { source_url: source_url.clone(), why };
        let mut request = self.client.request(ask.method.clone(), ask.url);
        if let Some((content_type, body)) = &ask.content {
            request = request.header(CONTENT_TYPE, *content_type).body(body.clone());
        }
        let mut response = request.send().await.map_err(|error| failed(causes(&error)))?;
        let status = response.status();
        match status {
            StatusCode::OK => (),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let said = seconds(response.headers(), RETRY_AFTER.as_str());
                // A source that is merely down is asked again like one that failed.
                if said.is_none() && status == StatusCode::SERVICE_UNAVAILABLE {
                    return Err(failed(format!("status {}", status.as_u16())));
                }
                let retry_after = said.map_or(BUSY, Duration::from_secs).min(MAX_BUSY);
                return Err(FetchError::Busy { source_url, status: status.as_u16(), retry_after });
            }
            _ if status.is_client_error() => {
                return Err(FetchError::Absent { source_url, status: status.as_u16() });
            }
            _ => return Err(failed(format!("status {}", status.as_u16()))),
        }
        let headers = response.headers().clone();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(causes(&error)))? {
            if body.len().saturating_add(chunk.len()) > self.max_document {
                return Err(FetchError::TooLong { source_url, limit: self.max_document });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(WebAnswer { url: source_url, max_age: max_age(&headers), headers, body })
    }

    /// Waits for a source that asked to be left alone, if it opens in time.
    async fn wait_until_open(&self, url: &str, end: Instant) -> Result<(), FetchError> {
        let until = {
            let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
            closed.retain(|_, until| *until > Instant::now());
            closed.get(&(host(url), self.unproven)).copied()
        };
        let Some(until) = until else { return Ok(()) };
        if until >= end {
            return Err(FetchError::Busy {
                source_url: url.to_owned(),
                status: StatusCode::TOO_MANY_REQUESTS.as_u16(),
                retry_after: until.saturating_duration_since(Instant::now()),
            });
        }
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    fn close(&self, url: &str, period: Duration) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let (host, now) = (host(url), Instant::now());
        let rest = if self.unproven { period.min(MAX_BUSY_BY_EVIDENCE) } else { period };
        for (unproven, period) in [(true, period), (false, rest)] {
            let until = closed.entry((host.clone(), unproven)).or_insert(now);
            *until = (*until).max(now + period);
        }
    }
}

/// Host and port: what closes itself.
fn host(url: &str) -> String {
    let parsed = Url::parse(url).ok();
    let port = parsed.as_ref().and_then(Url::port_or_known_default).unwrap_or_default();
    parsed.and_then(|url| url.host_str().map(|host| format!("{host}:{port}"))).unwrap_or_default()
}

fn seconds(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// `max-age` (RFC 9111, section 5.2.2.1), unless the answer is not to be kept.
fn max_age(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(CACHE_CONTROL)?.to_str().ok()?.to_ascii_lowercase();
    let mut directives = text.split(',').map(str::trim);
    let age = directives.clone().find_map(|directive| directive.strip_prefix("max-age=")?.parse().ok());
    age.filter(|age: &i64| {
        *age > 0 && !directives.any(|directive| matches!(directive, "no-store" | "no-cache"))
    })
}

/// The whole chain of causes: the first sentence says only that a request failed.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
