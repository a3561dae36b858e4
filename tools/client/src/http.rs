//! HTTP with one pinned certificate authority, time limits, size limits and no redirects.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::error::{ClientError, Refusal};

const CONNECT: Duration = Duration::from_secs(10);
const WHOLE: Duration = Duration::from_secs(60);
/// Between two parts of an answer.
const STALLED: Duration = Duration::from_secs(60);
/// For an answer as long as the broker's store, on a slow line.
pub(crate) const LONG: Duration = Duration::from_secs(12 * 3600);
/// Less than the broker keeps an idle connection, so that no call goes into one that is being closed.
const IDLE: Duration = Duration::from_secs(10);
/// No answer of a broker is longer: a verdict tree with its claims is under a megabyte.
const ANSWER_LIMIT: usize = 16 << 20;

/// A server and the way to reach it.
#[derive(Clone)]
pub(crate) struct Server {
    url: String,
    client: reqwest::Client,
}

/// A successful answer.
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    pub(crate) cookie: Option<String>,
}

/// `https://host[:port]`, and perhaps `/t/` with a tenant's name.
fn is_address(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let (host, tenant) = match rest.split_once("/t/") {
        Some((host, tenant)) => (host, tenant.parse::<coffer_core_admin::TenantName>().is_ok()),
        None => (rest, true),
    };
    tenant && !host.is_empty() && !host.contains(['/', '?', '#', '@'])
}

impl Server {
    /// Over TLS 1.3 or 1.2, with the one authority of `ca_pem`.
    pub(crate) fn pinned(url: &str, ca_pem: &str) -> Result<Self, ClientError> {
        let url = url.trim_end_matches('/');
        if !is_address(url) {
            return Err(ClientError::Address { found: url.to_string() });
        }
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(ca_pem.as_bytes()).collect();
        let certificates = certificates.map_err(|error| ClientError::Authority(error.to_string()))?;
        let [certificate] = certificates.as_slice() else {
            return Err(ClientError::Authority(format!("it has {} certificates", certificates.len())));
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone()).map_err(|error| ClientError::Authority(error.to_string()))?;
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Authority(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
        Self::build(url, reqwest::Client::builder().tls_backend_preconfigured(tls).https_only(true))
    }

    /// Without TLS, for a recorded server on the loopback interface.
    #[cfg(test)]
    pub(crate) fn loopback(url: &str) -> Result<Self, ClientError> {
        // reqwest makes a TLS configuration even for http:// and wants a provider for it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self::build(url, reqwest::Client::builder())
    }

    fn build(url: &str, builder: reqwest::ClientBuilder) -> Result<Self, ClientError> {
        let client = builder
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            .read_timeout(STALLED)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("coffer/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientError::Unreachable { url: url.to_string(), why: chain(&error) })?;
        Ok(Self { url: url.to_string(), client })
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// Sends, and reads an answer of bounded length. A status other than 2xx is a refusal.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Answer, ClientError> {
        self.send_bounded(request, ANSWER_LIMIT).await
    }

    /// As [`Server::send`], with another bound on the answer.
    pub(crate) async fn send_bounded(
        &self,
        request: RequestBuilder,
        limit: usize,
    ) -> Result<Answer, ClientError> {
        let mut body = Vec::new();
        let take = |chunk: &[u8], path: &str| {
            if body.len().saturating_add(chunk.len()) > limit {
                let why = format!("it is longer than {limit} bytes");
                return Err(ClientError::Answer { what: path.to_string(), why });
            }
            body.extend_from_slice(chunk);
            Ok(())
        };
        let cookie = self.exchange(request, take).await?;
        Ok(Answer { body, cookie })
    }

    /// Sends, and gives the answer's parts to `take` as they come. Gives the session's cookie, if there is one.
    pub(crate) async fn exchange(
        &self,
        request: RequestBuilder,
        mut take: impl FnMut(&[u8], &str) -> Result<(), ClientError>,
    ) -> Result<Option<String>, ClientError> {
        let unreachable =
            |error: reqwest::Error| ClientError::Unreachable { url: self.url.clone(), why: chain(&error) };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let path = response.url().path().to_string();
        if status.is_success() {
            let cookie = session_cookie(&response);
            while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
                take(&chunk, &path)?;
            }
            return Ok(cookie);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len().saturating_add(chunk.len()) > ANSWER_LIMIT {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Err(Box::new(Refusal::from_answer(status.as_u16(), &body)).into())
    }
}

fn session_cookie(response: &Response) -> Option<String> {
    let headers = response.headers().get_all(reqwest::header::SET_COOKIE);
    headers.iter().filter_map(|value| value.to_str().ok()).find_map(|text| {
        let pair = text.split(';').next()?.trim();
        let value = pair.strip_prefix("kbs-session-id=")?;
        Some(value.to_string())
    })
}

/// The whole chain of causes: reqwest's own sentence alone says only that a request failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_addresses_are_taken() {
        for url in ["http://127.0.0.1:1", "127.0.0.1:1", "https://", "https://a@b", "https://a/b"] {
            let found = Server::pinned(url, "").err().map(|error| error.to_string()).unwrap_or_default();
            assert!(found.contains("https://host:port"), "{url}: {found}");
        }
    }

    #[test]
    fn an_authority_without_a_certificate_is_refused() {
        let found = Server::pinned("https://127.0.0.1:1", "nothing").err().map(|error| error.to_string());
        assert!(found.unwrap_or_default().contains("0 certificates"));
    }
}
