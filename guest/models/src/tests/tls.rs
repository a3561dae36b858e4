//! HTTPS: an authority of one's own must be named, and nobody else's certificate is good.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair as CertificateKey};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::server::{Manner, Server, registry};
use super::*;

/// Ends TLS before a server, with a certificate of an authority of its own.
struct Tls {
    port: u16,
    authority: String,
}

impl Tls {
    fn before(server: &Server, name: &str) -> Self {
        let key = CertificateKey::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of this test");
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = CertificateKey::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let behind = server.address.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(relay(listener, TlsAcceptor::from(Arc::new(config)), behind));
        });
        Self { port, authority }
    }

    fn access(&self) -> Access {
        Access { authorities: vec![self.authority.clone()], ..access() }
    }
}

async fn relay(listener: std::net::TcpListener, acceptor: TlsAcceptor, behind: String) {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, behind) = (acceptor.clone(), behind.clone());
        tokio::spawn(async move {
            // A client that trusts us not ends the handshake, which is what some tests want.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut other = TcpStream::connect(behind).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut other).await;
        });
    }
}

#[test]
fn an_authority_that_is_named_is_trusted_and_no_other() {
    let sealed = super::small();
    let server = Server::of(&sealed, |_, _| Manner::Good);
    let tls = Tls::before(&server, "localhost");
    let place = format!("https://localhost:{}/m", tls.port);
    check(&sealed.open(&tls.access(), &place).unwrap()).unwrap();
    let before = server.seen.lock().unwrap().len();
    let other = Tls::before(&server, "localhost");
    for stranger in [access(), other.access()] {
        let refused = sealed.open(&stranger, &place).err().unwrap();
        assert_eq!(refused.code(), "source.certificate", "{refused}");
        assert!(refused.to_string().contains("--ca"), "{refused}");
    }
    // Of the authority, and of another host.
    let elsewhere = Tls::before(&server, "other.example");
    let place = format!("https://localhost:{}/m", elsewhere.port);
    let refused = sealed.open(&elsewhere.access(), &place).err().unwrap();
    assert_eq!(refused.code(), "source.certificate", "{refused}");
    assert_eq!(server.seen.lock().unwrap().len(), before, "nothing was asked");
    for text in ["-----BEGIN CERTIFICATE-----\nAA\n", "no certificate", ""] {
        let none = Access { authorities: vec![text.into()], ..access() };
        assert_eq!(sealed.open(&none, &place).err().unwrap().code(), "source.client", "{text}");
    }
}

#[test]
fn a_bucket_behind_https_is_read_with_the_same_authority() {
    let sealed = super::small();
    let objects = sealed.objects.iter().map(|(name, bytes)| (format!("/bucket/m/{name}"), bytes.clone()));
    let server = Server::new(objects.collect(), |_, _| Manner::Good);
    let tls = Tls::before(&server, "localhost");
    let endpoint = format!("https://localhost:{}", tls.port);
    let s3 = S3Access { endpoint: Some(endpoint), ..S3Access::default() };
    check(&sealed.open(&Access { s3: s3.clone(), ..tls.access() }, "s3://bucket/m").unwrap()).unwrap();
    let refused = sealed.open(&Access { s3, ..access() }, "s3://bucket/m").err().unwrap();
    assert_eq!(refused.code(), "source.certificate");
    let seen = server.seen.lock().unwrap();
    assert!(seen.iter().all(|request| request.headers["host"].starts_with("localhost:")));
}

#[test]
fn a_registry_behind_https_is_read_with_the_same_authority() {
    let sealed = super::small();
    let server = Server::new(registry(&sealed, MODEL_ARTIFACT), |_, _| Manner::Good);
    let tls = Tls::before(&server, "registry.example");
    // A registry of this machine is spoken to in plain HTTP, so this one has a name that leads here.
    let place = format!("docker://registry.example:{}/m:v1", tls.port);
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], tls.port));
    let named = |access: &Access| {
        let place = Place::parse(&place).unwrap();
        let Place::Registry(reference) = &place else { panic!("a registry") };
        let builder = client_builder("test", &access.authorities, access.retry).unwrap();
        let http = access
            .http(&place)
            .unwrap()
            .with_client(builder.no_proxy().resolve("registry.example", at).build().unwrap());
        let store = crate::source::registry_at(http, reference, access)?;
        Signed::read(store, std::slice::from_ref(&sealed.signer))
    };
    let signed = named(&tls.access()).unwrap();
    check(&signed.open(Key::new(KEY)).unwrap()).unwrap();
    assert_eq!(named(&access()).err().unwrap().code(), "source.certificate");
}

#[test]
fn a_redirect_that_leaves_https_is_not_followed() {
    let sealed = super::small();
    let plain = Server::of(&sealed, |_, _| Manner::Good);
    let target = format!("http://{}/m/{ENVELOPE}", plain.address);
    let server = Server::redirecting(target.clone());
    let tls = Tls::before(&server, "localhost");
    let refused = sealed.open(&tls.access(), &format!("https://localhost:{}/m", tls.port)).err().unwrap();
    assert_eq!(refused.code(), "source.unreachable", "{refused}");
    assert_eq!(plain.seen.lock().unwrap().len(), 0);
}
