//! Asking over HTTP with bounds: on time, on length and on attempts.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, StatusCode, Url};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{VaultConfig, VaultError};

/// The longest answer that is read. Vault's own bound on a KV entry is 1 MiB (512 KiB with Consul behind it).
pub(crate) const MAX_BODY: usize = 4 << 20;
/// The first pause before a repetition; each next one is three times as long.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause that a busy server can ask for.
const MAX_PAUSE: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(5);
/// A server's words are cut here.
const MAX_WORDS: usize = 300;

/// The way to one server.
pub(crate) struct Wire {
    client: Client,
    base: Url,
    namespace: Option<HeaderValue>,
    timeout: Duration,
    attempts: u32,
}

/// A call.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    /// What follows `/v1/`, not encoded.
    pub(crate) path: Vec<&'a str>,
    pub(crate) query: Option<(&'static str, String)>,
    /// JSON.
    pub(crate) body: Option<Zeroizing<String>>,
    /// Whether a second one would do no more than the first.
    pub(crate) repeatable: bool,
}

impl Ask<'_> {
    /// The path as the API and its policies write it.
    pub(crate) fn path(&self) -> String {
        self.path.join("/")
    }
}

/// An answer: success, or a refusal that the caller understands better.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Reply {
    /// The server's words for a refusal.
    pub(crate) fn words(&self) -> String {
        words(&self.body)
    }

    /// Whether a 404 is of an engine that looked and found nothing, not of a path that nothing serves.
    pub(crate) fn is_absent(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && errors(&self.body).is_some_and(|errors| errors.is_empty())
    }

    pub(crate) fn parse<'a, T: Deserialize<'a>>(&'a self, ask: &Ask<'_>) -> Result<T, VaultError> {
        // The parser's own message could quote a value, so it is not passed on.
        serde_json::from_slice(&self.body)
            .map_err(|_| VaultError::Malformed { path: ask.path(), why: "its JSON has another form" })
    }
}

/// Whether and when to ask again.
enum Failure {
    Final(VaultError),
    Passing(VaultError, Option<Duration>),
}

impl Wire {
    pub(crate) fn new(config: &VaultConfig) -> Result<Self, VaultError> {
        let base = address(&config.url)?;
        let namespace = match config.namespace.as_deref().map(str::trim) {
            None | Some("") => None,
            Some(text) => Some(
                HeaderValue::from_str(text)
                    .map_err(|_| VaultError::Config(format!("the namespace {text:?} is not plain text")))?,
            ),
        };
        let client = Client::builder()
            .tls_backend_preconfigured(tls(config)?)
            .redirect(reqwest::redirect::Policy::none())
            // A proxy of the environment would see the token.
            .no_proxy()
            .connect_timeout(CONNECT)
            .user_agent(concat!("coffer/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| VaultError::Config(causes(&error.without_url())))?;
        let timeout = Duration::from_secs(config.timeout.clamp(1, 300));
        Ok(Self { client, base, namespace, timeout, attempts: config.attempts.clamp(1, 10) })
    }

    pub(crate) fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Asks, and again if that may help and does no harm.
    pub(crate) async fn ask(&self, ask: &Ask<'_>, token: Option<&HeaderValue>) -> Result<Reply, VaultError> {
        let attempts = if ask.repeatable { self.attempts } else { 1 };
        let mut pause = PAUSE;
        for attempt in 1_u32.. {
            match self.once(ask, token).await {
                Ok(reply) => return Ok(reply),
                Err(Failure::Passing(_, wait)) if attempt < attempts => {
                    tokio::time::sleep(wait.unwrap_or(pause).min(MAX_PAUSE)).await;
                    pause = pause.saturating_mul(3);
                }
                Err(Failure::Final(error) | Failure::Passing(error, _)) => return Err(error),
            }
        }
        Err(self.unreachable("no attempt was made".to_owned()))
    }

    async fn once(&self, ask: &Ask<'_>, token: Option<&HeaderValue>) -> Result<Reply, Failure> {
        let url = self.url_of(ask).map_err(Failure::Final)?;
        let mut request = self.client.request(ask.method.clone(), url).timeout(self.timeout);
        // An agent between us and the server wants to see that no browser was tricked into this.
        request = request.header("X-Vault-Request", "true");
        if let Some(token) = token {
            request = request.header("X-Vault-Token", token.clone());
        }
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace.clone());
        }
        if let Some(body) = &ask.body {
            request = request.header("Content-Type", "application/json").body(body.as_bytes().to_vec());
        }
        let passing =
            |error: reqwest::Error| Failure::Passing(self.unreachable(causes(&error.without_url())), None);
        let response = request.send().await.map_err(passing)?;
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = read_body(response).await.map_err(|failure| match failure {
            Unread::Broken(error) => passing(error),
            Unread::TooLong => {
                Failure::Final(VaultError::Malformed { path: ask.path(), why: "it is longer than 4 MiB" })
            }
        })?;
        self.judge(ask, status, body, wait.map(Duration::from_secs))
    }

    fn judge(
        &self,
        ask: &Ask<'_>,
        status: StatusCode,
        body: Zeroizing<Vec<u8>>,
        wait: Option<Duration>,
    ) -> Result<Reply, Failure> {
        let url = || self.url().to_owned();
        match status.as_u16() {
            200..=299 | 400 | 403 | 404 => Ok(Reply { status, body }),
            300..=399 => Err(Failure::Final(VaultError::Redirect { url: url(), status: status.as_u16() })),
            503 if words(&body).contains("sealed") => Err(Failure::Final(VaultError::Sealed { url: url() })),
            412 | 429 | 472 | 473 | 500 | 502..=599 => {
                let error = VaultError::Busy { url: url(), status: status.as_u16(), why: words(&body) };
                Err(Failure::Passing(error, wait))
            }
            other => Err(Failure::Final(VaultError::Refused {
                path: ask.path(),
                status: other,
                why: words(&body),
            })),
        }
    }

    fn url_of(&self, ask: &Ask<'_>) -> Result<Url, VaultError> {
        let mut url = self.base.clone();
        let path = || VaultError::Path { path: ask.path(), why: "the server's address takes no path" };
        url.path_segments_mut().map_err(|()| path())?.pop_if_empty().push("v1").extend(&ask.path);
        if let Some((name, value)) = &ask.query {
            url.query_pairs_mut().append_pair(name, value);
        }
        Ok(url)
    }

    fn unreachable(&self, why: String) -> VaultError {
        VaultError::Unreachable { url: self.url().to_owned(), why }
    }
}

enum Unread {
    Broken(reqwest::Error),
    TooLong,
}

/// The pieces are put together in one allocation, so that no growing buffer leaves copies of a secret behind.
async fn read_body(mut response: reqwest::Response) -> Result<Zeroizing<Vec<u8>>, Unread> {
    let mut pieces: Vec<Bytes> = Vec::new();
    let mut length = 0_usize;
    while let Some(piece) = response.chunk().await.map_err(Unread::Broken)? {
        length = length.saturating_add(piece.len());
        if length > MAX_BODY {
            return Err(Unread::TooLong);
        }
        pieces.push(piece);
    }
    let mut body = Zeroizing::new(Vec::with_capacity(length));
    for piece in pieces {
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn address(text: &str) -> Result<Url, VaultError> {
    let wrong = |why: &str| VaultError::Config(format!("url: {why}"));
    let url = Url::parse(text).map_err(|error| wrong(&format!("{text:?} is no address ({error})")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it holds a name or password; use auth instead"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it ends in ? or #; expected only scheme, host, port and path"));
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback =
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" if !host.is_empty() => Ok(url),
        "http" if is_loopback => Ok(url),
        "http" => Err(wrong("http is for a loopback address only, the token would be seen; use https")),
        other => Err(wrong(&format!("expected https, found {other:?}"))),
    }
}

fn tls(config: &VaultConfig) -> Result<rustls::ClientConfig, VaultError> {
    let wrong = |path: &Path, why: String| VaultError::Config(format!("{}: {why}", path.display()));
    let mut roots = rustls::RootCertStore::empty();
    match &config.ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| wrong(path, error.to_string()))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| VaultError::Config(error.to_string()))?
        .with_root_certificates(roots);
    match (&config.client_certificate, &config.client_key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| wrong(certificate, error.to_string()))
        }
        _ => Err(VaultError::Config("client_certificate and client_key go together".to_owned())),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, VaultError> {
    let wrong = |why: String| VaultError::Config(format!("{}: {why}", path.display()));
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(error.to_string()))?;
    match found.is_empty() {
        true => Err(wrong("there is no certificate in it".to_owned())),
        false => Ok(found),
    }
}

/// A JSON object of texts, written into one allocation that is wiped.
pub(crate) fn object(fields: &[(&str, &str)]) -> Zeroizing<String> {
    let length: usize = fields.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum();
    let mut text = Zeroizing::new(String::with_capacity(length.saturating_mul(2).saturating_add(64)));
    text.push('{');
    for (index, (name, value)) in fields.iter().enumerate() {
        text.push_str(if index == 0 { "\"" } else { ",\"" });
        text.push_str(name);
        text.push_str("\":\"");
        for c in value.chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                c if c.is_control() => text.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    text.push('}');
    text
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

/// The server's words, or `None` if it is not a Vault's answer, as of a proxy before it.
fn errors(body: &[u8]) -> Option<Vec<String>> {
    serde_json::from_slice::<Errors>(body).map(|body| body.errors).ok()
}

/// What a server says, as one line of bounded length.
fn words(body: &[u8]) -> String {
    let joined = errors(body).unwrap_or_default().join("; ");
    let plain = joined.chars().map(|c| if c.is_control() { ' ' } else { c });
    let cut: String = plain.take(MAX_WORDS).collect();
    let words = cut.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.is_empty() { "without a reason".to_owned() } else { words }
}

/// An error with what caused it; the outermost alone says only that a request failed.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_a_loopback_address_is_an_address() {
        for text in [
            "https://vault.example:8200",
            "http://127.0.0.1:8200",
            "http://[::1]:8200/up/",
            "http://localhost",
        ] {
            assert!(address(text).is_ok(), "{text}");
        }
        for text in [
            "http://vault.example:8200",
            "http://10.0.0.1:8200",
            "http://localhost.example",
            "unix:/run/vault.sock",
            "https://user:pass@vault",
            "https://vault/?x=1",
            "https://vault/#f",
            "vault",
        ] {
            assert!(address(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn an_object_of_texts_is_json_whatever_the_texts_hold() {
        let texts = [("a", "plain"), ("b", "\"quoted\" \\ \n\u{7f}\u{9f} é 🙂"), ("c", "")];
        let read: std::collections::HashMap<String, String> = serde_json::from_str(&object(&texts)).unwrap();
        for (name, value) in texts {
            assert_eq!(read[name], value);
        }
        assert_eq!(object(&[]).as_str(), "{}");
    }

    #[test]
    fn a_servers_words_are_one_bounded_line() {
        assert_eq!(words(br#"{"errors":["a\n\tb","c"]}"#), "a b; c");
        assert_eq!(words(b"<html>"), "without a reason");
        let long = format!(r#"{{"errors":["{}"]}}"#, "x".repeat(9999));
        assert_eq!(words(long.as_bytes()).len(), MAX_WORDS);
    }
}
