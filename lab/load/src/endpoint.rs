//! Where a broker is, and how its certificate is checked.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What is spoken over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// HTTP/1.1, one call at a time on a connection.
    Http1,
    /// HTTP/2, many calls at a time.
    Http2,
}

/// One base URL, resolved.
#[derive(Clone, Debug)]
pub struct Endpoint {
    address: SocketAddr,
    name: ServerName<'static>,
    authority: String,
    from: Option<IpAddr>,
}

impl Endpoint {
    /// Reads `https://host:port`.
    pub fn parse(url: &str) -> Result<Self> {
        let authority = url.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
        let Some(authority) = authority.filter(|text| !text.contains(['/', '@', '?', '#'])) else {
            bail!("{url:?} is not of the form https://host:port");
        };
        let (host, _) = authority.rsplit_once(':').with_context(|| format!("{url:?} names no port"))?;
        let host = host.trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_string()).with_context(|| format!("{host:?} is no name"))?;
        let address =
            authority.to_socket_addrs().with_context(|| format!("{authority} is not known"))?.next();
        let address = address.with_context(|| format!("{authority} has no address"))?;
        Ok(Self { address, name, authority: authority.to_string(), from: None })
    }

    /// The same place, reached from this local address: 127.0.0.2 is another client than 127.0.0.1.
    #[must_use]
    pub fn from(mut self, local: IpAddr) -> Self {
        self.from = Some(local);
        self
    }

    /// `host:port`, as requests name it.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// A TCP connection.
    pub async fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(local) = self.from {
            socket.bind(SocketAddr::new(local, 0))?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A TLS connection.
    pub async fn connect_tls(&self, tls: &Tls, protocol: Protocol) -> std::io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(tls.config(protocol));
        connector.connect(self.name.clone(), self.connect().await?).await
    }
}

/// An endpoint on this machine. What is hostile takes nothing else, so that no mistyped address is attacked.
#[derive(Clone, Debug)]
pub struct Loopback(Endpoint);

impl Loopback {
    /// Takes an endpoint whose address is a loopback one, and no other.
    pub fn new(endpoint: Endpoint) -> Result<Self> {
        ensure!(
            endpoint.is_loopback(),
            "{} is not a loopback address; what is hostile is sent to this machine only",
            endpoint.address
        );
        Ok(Self(endpoint))
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0
    }
}

/// A client's TLS, with the broker's own authority pinned. Sessions are not resumed, because guests that were never
/// here before have none to resume.
#[derive(Clone)]
pub struct Tls {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl Tls {
    /// Trusts the certificates of this PEM text.
    pub fn pinned(ca_pem: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            roots.add(certificate.context("the authority's text is no PEM")?)?;
        }
        ensure!(!roots.is_empty(), "the authority's text holds no certificate");
        let config = |alpn: &[u8]| -> Result<Arc<ClientConfig>> {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder =
                ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
            let mut config = builder.with_root_certificates(roots.clone()).with_no_client_auth();
            config.resumption = Resumption::disabled();
            config.alpn_protocols = vec![alpn.to_vec()];
            Ok(Arc::new(config))
        };
        Ok(Self { http1: config(b"http/1.1")?, http2: config(b"h2")? })
    }

    fn config(&self, protocol: Protocol) -> Arc<ClientConfig> {
        match protocol {
            Protocol::Http1 => self.http1.clone(),
            Protocol::Http2 => self.http2.clone(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hostile_is_sent_to_loopback_addresses_only() {
        for url in ["https://127.0.0.1:1", "https://127.9.9.9:8443", "https://[::1]:8443"] {
            assert!(Loopback::new(Endpoint::parse(url).unwrap()).is_ok(), "{url}");
        }
        for url in [
            "https://192.0.2.1:8443",
            "https://10.0.2.2:8443",
            "https://[2001:db8::1]:1",
            "https://0.0.0.0:1",
        ] {
            let error = Loopback::new(Endpoint::parse(url).unwrap()).unwrap_err();
            assert!(error.to_string().contains("not a loopback address"), "{url}: {error}");
        }
    }

    #[test]
    fn addresses_of_another_form_are_refused() {
        for url in
            ["http://127.0.0.1:1", "https://127.0.0.1", "https://a@127.0.0.1:1", "https://127.0.0.1:1/x", ""]
        {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn an_authority_without_a_certificate_is_refused() {
        assert!(Tls::pinned("nothing").is_err());
    }
}
