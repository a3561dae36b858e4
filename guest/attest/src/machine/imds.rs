//! Azure's instance metadata service, which hands out the chip's certificate and makes TD quotes.
//!
//! The service is the host's. What it gives is evidence or a part of it, and is judged by the broker like the rest.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::http::{reasons, tls_client};

const CERTIFICATES: &str = "/metadata/THIM/amd/certification";
const QUOTES: &str = "/acc/tdquote";
/// Quotes and chains have a few kilobytes.
const MAX_REPLY: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Imds(String);

impl Imds {
    pub(super) fn new(url: &str) -> Self {
        Self(url.to_owned())
    }

    /// The chip's certificate, DER.
    pub(super) fn chip_certificate(&self) -> Result<Vec<u8>, String> {
        let reply = self.ask(CERTIFICATES, None)?;
        let pem = reply.get("vcekCert").and_then(Value::as_str).ok_or("the reply has no vcekCert")?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|why| why.to_string())?;
        Ok(certificate.to_vec())
    }

    /// A quote of the TD report.
    pub(super) fn td_quote(&self, report: &[u8]) -> Result<Vec<u8>, String> {
        let reply = self.ask(QUOTES, Some(json!({"report": URL_SAFE_NO_PAD.encode(report)})))?;
        let quote = reply.get("quote").and_then(Value::as_str).ok_or("the reply has no quote")?;
        URL_SAFE_NO_PAD.decode(quote.trim_end_matches('=')).map_err(|why| format!("its quote: {why}"))
    }

    /// One request. Called where blocking is allowed, on a thread of the runtime's.
    fn ask(&self, path: &str, body: Option<Value>) -> Result<Value, String> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|why| why.to_string())?;
        runtime.block_on(async {
            let told = |why: &reqwest::Error| reasons(why);
            // Nobody is trusted: the service speaks plain HTTP on a link-local address.
            let tls = tls_client(RootCertStore::empty(), &[&rustls::version::TLS13])?;
            let client = reqwest::Client::builder()
                .tls_backend_preconfigured(tls)
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .timeout(PATIENCE)
                .build()
                .map_err(|why| told(&why))?;
            let url = format!("{}{path}", self.0);
            let request = match body {
                Some(body) => client.post(url).json(&body),
                None => client.get(url),
            };
            let mut reply = request.header("Metadata", "true").send().await.map_err(|why| told(&why))?;
            if !reply.status().is_success() {
                return Err(format!("the metadata service answers {}", reply.status()));
            }
            let mut bytes = Vec::new();
            while let Some(piece) = reply.chunk().await.map_err(|why| told(&why))? {
                if bytes.len().saturating_add(piece.len()) > MAX_REPLY {
                    return Err(format!("the reply has more than {MAX_REPLY} bytes"));
                }
                bytes.extend_from_slice(&piece);
            }
            serde_json::from_slice(&bytes).map_err(|why| format!("the reply is no JSON: {why}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A service that answers once.
    async fn answering(reply: String) -> (Imds, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let imds = Imds::new(&format!("http://{}", listener.local_addr().expect("address")));
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a request");
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).await.expect("read");
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", reply.len());
            stream.write_all(format!("{head}{reply}").as_bytes()).await.expect("written");
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        (imds, served)
    }

    #[tokio::test]
    async fn a_td_report_is_sent_and_its_quote_comes_back() {
        let (imds, served) = answering(json!({"quote": "AQID"}).to_string()).await;
        let quote = tokio::task::spawn_blocking(move || imds.td_quote(&[0xfb; 3])).await.expect("ran");
        assert_eq!(quote.expect("a quote"), [1, 2, 3]);
        let request = served.await.expect("served");
        assert!(request.starts_with("POST /acc/tdquote HTTP/1.1"), "{request}");
        assert!(request.to_ascii_lowercase().contains("metadata: true"), "{request}");
    }

    #[tokio::test]
    async fn replies_that_are_no_certificate_are_told_as_such() {
        for (reply, expected) in
            [("{}", "no vcekCert"), ("no JSON", "no JSON"), (r#"{"vcekCert":"-----BEGIN NOTHING-----"}"#, "")]
        {
            let (imds, _served) = answering(reply.into()).await;
            let answer = tokio::task::spawn_blocking(move || imds.chip_certificate()).await.expect("ran");
            assert!(answer.expect_err(reply).contains(expected));
        }
    }
}
