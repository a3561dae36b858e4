//! Whether the broker of this folder takes calls, asked over TLS as a client would: for images without other programs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coffer_server_http::BrokerConfig;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use x509_parser::extensions::GeneralName;

use crate::SetupError;

const PATIENCE: Duration = Duration::from_secs(3);
/// The status line is all that counts.
const MAX_ANSWER: u64 = 4096;

/// Asks `/readyz` where the folder's file `url` says that the broker is.
pub fn health(config: &BrokerConfig) -> Result<(), SetupError> {
    let path = config.data_dir.join("url");
    let url =
        std::fs::read_to_string(&path).map_err(SetupError::file("no broker serves: cannot read", &path))?;
    let unhealthy = |why: String| SetupError::Unhealthy { url: url.trim().to_owned(), why };
    ask(config, url.trim()).map_err(unhealthy)
}

fn ask(config: &BrokerConfig, url: &str) -> Result<(), String> {
    let said = |error: &dyn std::error::Error| error.to_string();
    let address: SocketAddr = url
        .strip_prefix("https://")
        .and_then(|rest| rest.parse().ok())
        .ok_or_else(|| "the file url is no address".to_owned())?;
    let (trusted, name) = match config.tls.certificate.as_os_str().is_empty() {
        true => (certificates(&config.data_dir.join("tls/ca.pem"))?, ServerName::from(address.ip())),
        false => {
            let chain = certificates(&config.tls.certificate)?;
            let name = first_name(&chain)?;
            (chain, name)
        }
    };
    let mut roots = RootCertStore::empty();
    // A leaf that another authority issued is trusted through those above it, and one alone by itself.
    roots.add_parsable_certificates(trusted);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| said(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| said(&error))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| said(&error))?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(|error| said(&error))?;
    let connection = ClientConnection::new(Arc::new(client), name).map_err(|error| said(&error))?;
    let mut stream = StreamOwned::new(connection, stream);
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| said(&error))?;
    let mut answer = Vec::new();
    // How the connection ends does not count.
    let _ = stream.take(MAX_ANSWER).read_to_end(&mut answer);
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(format!("/readyz answered {line:?}, expected 200")),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: rustls_pki_types::pem::Error| format!("{}: {error}", path.display());
    CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)
}

/// A name that the broker's certificate is for.
fn first_name(chain: &[CertificateDer<'_>]) -> Result<ServerName<'static>, String> {
    let none = || "the certificate in [tls] has no DNS name".to_owned();
    let leaf = chain.first().ok_or_else(none)?;
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).map_err(|error| error.to_string())?;
    let names = leaf.subject_alternative_name().map_err(|error| error.to_string())?.ok_or_else(none)?;
    let name = names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.replacen('*', "any", 1)),
        _ => None,
    });
    ServerName::try_from(name.ok_or_else(none)?).map_err(|error| error.to_string())
}
