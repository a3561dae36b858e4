//! HTTP to the one broker: pinned TLS, no redirects, bounded replies, bounded patience.

use std::sync::Arc;
use std::time::Duration;

use coffer_core_protocol::wire::MAX_REPLY;
use reqwest::{Method, Response, StatusCode, header};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::AttestError;

/// How long an absent broker is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How often a step is tried.
    pub attempts: u32,
    /// The pause after the first failure; it doubles up to two seconds.
    pub pause: Duration,
    /// How long one try may take.
    pub timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 8, pause: Duration::from_millis(250), timeout: Duration::from_secs(60) }
    }
}

/// A way to the broker.
pub struct Broker {
    client: reqwest::Client,
    /// Where the KBS protocol is spoken.
    base: String,
    /// Where counters are.
    counters: String,
    patience: Patience,
}

/// A reply whose body was read.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) cookie: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Broker {
    /// A way to `url` that trusts the certificates in `certificate_pem` and no others.
    ///
    /// # Errors
    /// When the address is no URL, or there is no certificate in the PEM text.
    pub fn new(url: &str, certificate_pem: &str, patience: Patience) -> Result<Self, AttestError> {
        let wrong = |why: String| AttestError::Broker { why };
        let parsed = reqwest::Url::parse(url).map_err(|why| wrong(format!("{url:?} is no URL: {why}")))?;
        if !matches!(parsed.scheme(), "https" | "http") {
            return Err(wrong(format!("{url:?} is neither https nor http")));
        }
        let mut roots = RootCertStore::empty();
        add_roots(&mut roots, certificate_pem).map_err(wrong)?;
        // Our own protocol with our own brokers: nobody needs an older version.
        let tls = tls_client(roots, &[&rustls::version::TLS13]).map_err(wrong)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(parsed.scheme() == "https")
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .timeout(patience.timeout)
            .user_agent(concat!("coffer-agent/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|why| wrong(why.to_string()))?;
        let url = url.trim_end_matches('/');
        let (base, counters) = (format!("{url}/kbs/v0"), format!("{url}/coffer/v1/counter"));
        Ok(Self { client, base, counters, patience })
    }

    pub(crate) async fn post(
        &self,
        step: &'static str,
        path: &str,
        cookie: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Reply, AttestError> {
        let url = format!("{}{path}", self.base);
        self.send(step, Method::POST, url, cookie.map(|cookie| (header::COOKIE, cookie.to_owned())), body)
            .await
    }

    pub(crate) async fn get(
        &self,
        step: &'static str,
        path: &str,
        token: &str,
    ) -> Result<Reply, AttestError> {
        let bearer = (header::AUTHORIZATION, format!("Bearer {token}"));
        let url = format!("{}{path}", self.base);
        self.send(step, Method::GET, url, Some(bearer), Vec::new()).await
    }

    /// Reads the counter of a volume, or moves it with this body.
    pub(crate) async fn counter(
        &self,
        step: &'static str,
        path: &str,
        token: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Reply, AttestError> {
        let bearer = (header::AUTHORIZATION, format!("Bearer {token}"));
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let url = format!("{}/{path}", self.counters);
        self.send(step, method, url, Some(bearer), body.unwrap_or_default()).await
    }

    /// One step, again for as long as nobody answers or the broker asks to wait, within bounds.
    async fn send(
        &self,
        step: &'static str,
        method: Method,
        url: String,
        extra: Option<(header::HeaderName, String)>,
        body: Vec<u8>,
    ) -> Result<Reply, AttestError> {
        let mut pause = self.patience.pause;
        let mut attempt = 1;
        loop {
            let mut request = self.client.request(method.clone(), &url);
            if let Some((name, value)) = &extra {
                request = request.header(name, value);
            }
            if method == Method::POST {
                request = request.header(header::CONTENT_TYPE, "application/json").body(body.clone());
            }
            let last = attempt >= self.patience.attempts;
            match request.send().await {
                Ok(reply) if asks_to_wait(reply.status()) && !last => {}
                Ok(reply) => return read(step, reply).await,
                Err(cause) => {
                    let why = reasons(&cause);
                    if is_certificate(&cause) {
                        return Err(AttestError::Certificate { url: self.base.clone(), why });
                    }
                    if last {
                        let url = self.base.clone();
                        return Err(AttestError::Unreachable { url, attempts: attempt, why });
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
            attempt += 1;
        }
    }
}

fn asks_to_wait(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

async fn read(step: &'static str, mut reply: Response) -> Result<Reply, AttestError> {
    let wrong = |why: String| AttestError::Protocol { step, why };
    let status = reply.status().as_u16();
    if reply.status().is_redirection() {
        return Err(wrong(format!("it is a redirection (HTTP {status}), which is not followed")));
    }
    let cookie = reply.headers().get(header::SET_COOKIE).and_then(|value| value.to_str().ok());
    let cookie = cookie.and_then(|text| text.split(';').next()).map(str::to_owned);
    let mut body = Vec::new();
    while let Some(piece) = reply.chunk().await.map_err(|cause| wrong(reasons(&cause)))? {
        if body.len().saturating_add(piece.len()) > MAX_REPLY {
            return Err(wrong(format!("it has more than {MAX_REPLY} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Reply { status, cookie, body })
}

/// Adds the certificates of a PEM text to the roots that are trusted.
///
/// # Errors
/// When the text has no usable certificate.
pub fn add_roots(roots: &mut RootCertStore, pem: &str) -> Result<(), String> {
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|why| format!("its certificate is not PEM: {why}"))?;
        roots.add(certificate).map_err(|why| format!("its certificate is refused: {why}"))?;
    }
    if roots.len() == before {
        return Err("there is no certificate to pin".into());
    }
    Ok(())
}

/// A TLS configuration that trusts these roots and no others (none: nobody), with the hybrid key exchange offered
/// first.
///
/// # Errors
/// When the versions cannot be spoken.
pub fn tls_client(
    roots: RootCertStore,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
    Ok(builder.map_err(|why| why.to_string())?.with_root_certificates(roots).with_no_client_auth())
}

/// Whether the failure is that of the other side's certificate, and not of the way there.
pub fn is_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(_)) = tls_error(error) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    // An error inside `io::Error` is not among its sources.
    let inner = error.downcast_ref::<std::io::Error>()?.get_ref()?;
    tls_error(inner)
}

/// The chain of reasons in one line; the outermost only repeats the address.
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
    if text.is_empty() { error.to_string() } else { text.join(": ") }
}
