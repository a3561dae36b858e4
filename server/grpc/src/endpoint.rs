//! Where a client connects to, and by what it knows the other end.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_core_secret::SecretBytes;
use hyper::Uri;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// An address with what protects the way to it.
#[derive(Clone)]
pub struct Endpoint {
    target: Target,
    origin: Uri,
}

#[derive(Clone)]
enum Target {
    Tcp { host: String, port: u16, tls: Option<(TlsConnector, ServerName<'static>)> },
    Unix(PathBuf),
}

/// What this end shows of itself.
pub struct ClientIdentity {
    /// The certificate and those above it, in PEM.
    pub chain_pem: Vec<u8>,
    /// The key, in PEM.
    pub key_pem: SecretBytes,
}

/// Whether `http://` may leave the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plaintext {
    /// Only to a loopback address.
    #[default]
    LocalOnly,
    /// To anywhere: secrets can be read on the way.
    InsecureAllowed,
}

/// Why an address is not one.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Of no known form.
    #[error("{found:?} is no endpoint; expected https://host:port, http://127.0.0.1:port or unix:/path")]
    Form {
        /// What was given.
        found: String,
    },
    /// Cleartext that leaves the machine.
    #[error(
        "{host} is reached in cleartext, and secrets would cross the network readable; use https:// or unix:"
    )]
    Cleartext {
        /// The host.
        host: String,
    },
    /// TLS without an authority.
    #[error("https:// needs the authority (PEM) that the other end's certificate comes from; none is given")]
    NoAuthority,
    /// What only TLS has.
    #[error(
        "an authority or a certificate is given for an endpoint without TLS; use https://, or leave them out"
    )]
    WithoutTls,
    /// A certificate or key that cannot be read.
    #[error("the {what} cannot be used: {why}; expected PEM")]
    Pem {
        /// Which.
        what: &'static str,
        /// What the reader says.
        why: String,
    },
}

impl Endpoint {
    /// Reads an address. `authority_pem` is what `https://` is trusted by; there is no other trust.
    pub fn parse(
        text: &str,
        authority_pem: Option<&[u8]>,
        identity: Option<&ClientIdentity>,
        plaintext: Plaintext,
    ) -> Result<Self, EndpointError> {
        let form = || EndpointError::Form { found: text.chars().take(256).collect() };
        let without_tls = authority_pem.is_none() && identity.is_none();
        if let Some(path) = text.strip_prefix("unix:") {
            let path = Path::new(path.strip_prefix("//").unwrap_or(path));
            return match (path.is_absolute(), without_tls) {
                (false, _) => Err(form()),
                (true, false) => Err(EndpointError::WithoutTls),
                (true, true) => Ok(Self {
                    target: Target::Unix(path.to_owned()),
                    origin: Uri::from_static("http://localhost"),
                }),
            };
        }
        let uri: Uri = text.parse().map_err(|_| form())?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(form());
        }
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(form)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match uri.scheme_str() {
            Some("https") => {
                let trusted = authority_pem.ok_or(EndpointError::NoAuthority)?;
                let name = ServerName::try_from(host.clone()).map_err(|_| form())?;
                Some((TlsConnector::from(Arc::new(client_config(trusted, identity)?)), name))
            }
            Some("http") if !without_tls => return Err(EndpointError::WithoutTls),
            Some("http") if is_local(&host) || plaintext == Plaintext::InsecureAllowed => None,
            Some("http") => return Err(EndpointError::Cleartext { host }),
            _ => return Err(form()),
        };
        let port = authority.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        Ok(Self { target: Target::Tcp { host, port, tls }, origin: uri })
    }

    pub(crate) fn origin(&self) -> &Uri {
        &self.origin
    }

    pub(crate) async fn dial(&self) -> std::io::Result<Box<dyn Io>> {
        match &self.target {
            Target::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Target::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                let Some((connector, name)) = tls else { return Ok(Box::new(stream)) };
                let stream = connector.connect(name.clone(), stream).await?;
                match stream.get_ref().1.alpn_protocol() {
                    Some(b"h2") => Ok(Box::new(stream)),
                    _ => Err(std::io::Error::other("the other end does not offer HTTP/2 (ALPN h2)")),
                }
            }
        }
    }
}

/// A connection of any sort.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn client_config(
    authority_pem: &[u8],
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, EndpointError> {
    let wrong = |what, why: String| EndpointError::Pem { what, why };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("authority", authority_pem)? {
        roots.add(certificate).map_err(|error| wrong("authority", error.to_string()))?;
    }
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| wrong("authority", error.to_string()))?
            .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = certificates("client's certificate", &identity.chain_pem)?;
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.expose())
                .map_err(|_| wrong("client's key", "there is no private key in it".to_owned()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| wrong("client's certificate", error.to_string()))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, EndpointError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = read.map_err(|error| EndpointError::Pem { what, why: error.to_string() })?;
    match found.is_empty() {
        false => Ok(found),
        true => Err(EndpointError::Pem { what, why: "there is no certificate in it".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::parse(text, None, None, Plaintext::LocalOnly)
    }

    #[test]
    fn local_addresses_are_read() {
        for text in
            ["http://127.0.0.1:1", "http://[::1]:1/", "http://localhost", "unix:/run/x", "unix:///run/x"]
        {
            assert!(plain(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn cleartext_leaves_the_machine_only_by_name() {
        assert!(matches!(plain("http://10.0.0.1:1"), Err(EndpointError::Cleartext { .. })));
        assert!(matches!(plain("http://localhost.example:1"), Err(EndpointError::Cleartext { .. })));
        assert!(Endpoint::parse("http://10.0.0.1:1", None, None, Plaintext::InsecureAllowed).is_ok());
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in ["", "x", "127.0.0.1:1", "ftp://127.0.0.1", "http://", "http://127.0.0.1/a", "unix:run/x"]
        {
            assert!(matches!(plain(text), Err(EndpointError::Form { .. })), "{text}");
        }
        assert!(matches!(plain("http://127.0.0.1?q"), Err(EndpointError::Form { .. })));
        assert!(matches!(plain("http://u@127.0.0.1"), Err(EndpointError::Form { .. })));
        assert!(matches!(plain("https://127.0.0.1:1"), Err(EndpointError::NoAuthority)));
        let with = |text| Endpoint::parse(text, Some(b"x"), None, Plaintext::LocalOnly);
        assert!(matches!(with("https://127.0.0.1:1"), Err(EndpointError::Pem { .. })));
        assert!(matches!(with("http://127.0.0.1:1"), Err(EndpointError::WithoutTls)));
        assert!(matches!(with("unix:/run/x"), Err(EndpointError::WithoutTls)));
    }
}
