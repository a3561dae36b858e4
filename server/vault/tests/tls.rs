//! Claims about whom the client believes: TLS is put before the peer here.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_lab_vault_peer::Peer;
use coffer_server_vault::{Auth, Vault, VaultConfig, VaultError};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), pem, der }
    }

    /// A certificate and its key.
    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// Serves TLS for localhost before `peer`; gives the address.
async fn before(peer: &Peer, authority: &Authority, clients: Option<&Authority>) -> String {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (certificate, key) = authority.issue("localhost");
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(clients.der.clone()).unwrap();
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = peer.url().trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut other = TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut other).await;
            });
        }
    });
    format!("https://localhost:{port}")
}

fn file(folder: &Path, name: &str, content: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[tokio::test]
async fn only_a_server_of_the_named_authority_gets_the_token() {
    let (peer, folder) = (Peer::start().await, tempfile::tempdir().unwrap());
    let (ours, foreign) = (Authority::new(), Authority::new());
    let token = file(folder.path(), "token", &peer.root_token());
    let url = before(&peer, &ours, None).await;
    let config = |ca: &Authority| VaultConfig {
        url: url.clone(),
        namespace: None,
        auth: Auth::TokenFile(token.clone()),
        ca: Some(file(folder.path(), "ca.pem", &ca.pem)),
        client_certificate: None,
        client_key: None,
        timeout: 5,
        attempts: 1,
    };
    Vault::new(&config(&ours)).unwrap().check().await.unwrap();
    let asked = peer.requests("");
    let refused = Vault::new(&config(&foreign)).unwrap().check().await.unwrap_err();
    assert!(matches!(refused, VaultError::Unreachable { .. }), "{refused}");
    assert!(refused.to_string().contains("certificate"), "{refused}");
    let public = VaultConfig { ca: None, ..config(&ours) };
    assert!(Vault::new(&public).unwrap().check().await.is_err());
    assert_eq!(peer.requests(""), asked);

    let empty = VaultConfig { ca: Some(file(folder.path(), "empty.pem", "")), ..config(&ours) };
    assert!(matches!(Vault::new(&empty), Err(VaultError::Config(_))));
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_gets_ours() {
    let (peer, folder) = (Peer::start().await, tempfile::tempdir().unwrap());
    let (servers, clients) = (Authority::new(), Authority::new());
    let token = file(folder.path(), "token", &peer.root_token());
    let url = before(&peer, &servers, Some(&clients)).await;
    let (certificate, key) = clients.issue("broker");
    let with = VaultConfig {
        url,
        namespace: None,
        auth: Auth::TokenFile(token),
        ca: Some(file(folder.path(), "ca.pem", &servers.pem)),
        client_certificate: Some(file(folder.path(), "client.pem", &certificate.pem())),
        client_key: Some(file(folder.path(), "client.key", &key.serialize_pem())),
        timeout: 5,
        attempts: 1,
    };
    Vault::new(&with).unwrap().check().await.unwrap();
    let without = VaultConfig { client_certificate: None, client_key: None, ..with.clone() };
    assert!(matches!(Vault::new(&without).unwrap().check().await, Err(VaultError::Unreachable { .. })));
    let half = VaultConfig { client_key: None, ..with };
    assert!(matches!(Vault::new(&half), Err(VaultError::Config(_))));
}
