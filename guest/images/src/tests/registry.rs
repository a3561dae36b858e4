//! The registry client against a registry on loopback that asks for tokens and sends blobs from elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_initdata::{Builder, DATA_HUB, RegistryAccess as Entry};
use coffer_core_oci::{Descriptor, Manifest, media};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::source::{read_bounded, read_document};
use crate::{BlobSource, Credentials, Registry, RegistryAccess};

const TOKEN: &str = "anonymous";
const PERSONAL: &str = "personal";

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Paths with what they answer, and the requests that came.
struct Fake {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

async fn serve(documents: HashMap<String, Vec<u8>>) -> Fake {
    serve_over(documents, None).await
}

/// One request for each connection, over TLS where there is an acceptor.
async fn serve_over(documents: HashMap<String, Vec<u8>>, tls: Option<TlsAcceptor>) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("address").to_string();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let scheme = if tls.is_some() { "https" } else { "http" };
    let (own, seen) = (format!("{scheme}://{address}"), Arc::clone(&heads));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream: Box<dyn Stream> = match &tls {
                None => Box::new(stream),
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => Box::new(stream),
                    Err(_) => continue,
                },
            };
            let mut bytes = Vec::new();
            while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
                let mut piece = [0; 1024];
                match stream.read(&mut piece).await {
                    Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
                    _ => break,
                }
            }
            let head = String::from_utf8(bytes).expect("head");
            let (status, extra, body) = answer(&head, &own, &documents);
            seen.lock().expect("heads").push(head);
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{extra}Connection: close\r\n\r\n",
                body.len()
            );
            let _client_gone = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            let _client_gone = stream.shutdown().await;
        }
    });
    Fake { address, heads }
}

fn answer(head: &str, own: &str, documents: &HashMap<String, Vec<u8>>) -> (u16, String, Vec<u8>) {
    let path = head.split(' ').nth(1).expect("path");
    let lower = head.to_ascii_lowercase();
    if path.starts_with("/token?") {
        // name:password
        let token =
            if lower.contains("authorization: basic bmftztpwyxnzd29yza==") { PERSONAL } else { TOKEN };
        return (200, String::new(), format!(r#"{{"token":"{token}"}}"#).into_bytes());
    }
    if let Some(rest) = path.strip_prefix("/v2/private/") {
        let basic = rest.starts_with("basic/");
        let wanted = if basic { "basic bmftztpwyxnzd29yza==".into() } else { format!("bearer {PERSONAL}") };
        let challenge = match basic {
            true => "WWW-Authenticate: Basic realm=\"x\"\r\n".to_owned(),
            false => format!("WWW-Authenticate: Bearer realm=\"{own}/token\",service=\"x\"\r\n"),
        };
        return match lower.contains(&format!("authorization: {wanted}")) {
            true => (200, String::new(), b"private".to_vec()),
            false => (401, challenge, Vec::new()),
        };
    }
    if let Some(content) = path.strip_prefix("/elsewhere/").and_then(|name| documents.get(name)) {
        return (200, String::new(), content.clone());
    }
    if !head.to_ascii_lowercase().contains(&format!("authorization: bearer {TOKEN}")) {
        let challenge = format!("WWW-Authenticate: Bearer realm=\"{own}/token\",service=\"x\"\r\n");
        return (401, challenge, Vec::new());
    }
    match path.rsplit_once('/') {
        Some(("/v2/a/b/blobs", name)) if documents.contains_key(name) => {
            (307, format!("Location: {own}/elsewhere/{name}\r\n"), Vec::new())
        }
        Some(("/v2/a/b/manifests", name)) => match documents.get(name) {
            Some(content) => (200, String::new(), content.clone()),
            None => (404, String::new(), Vec::new()),
        },
        _ => (404, String::new(), Vec::new()),
    }
}

fn registry(fake: &Fake) -> Registry {
    Registry::new(
        &format!("{}/a/b:v1", fake.address),
        true,
        &RegistryAccess::default(),
        &Credentials::default(),
    )
    .expect("registry")
}

#[tokio::test]
async fn a_token_is_fetched_once_and_blobs_are_followed_to_where_they_are() {
    let layer = b"layer".to_vec();
    let digest = Digest::sha256(&layer);
    let manifest =
        Manifest::new(Descriptor::of(media::OCI_CONFIG, b"{}"), Vec::new()).to_bytes().expect("bytes");
    let documents = HashMap::from([("v1".to_owned(), manifest.clone()), (digest.to_string(), layer.clone())]);
    let fake = serve(documents).await;
    let registry = registry(&fake);
    let document = read_bounded(&mut *registry.document().await.expect("found"), "it", 4096).await;
    assert_eq!(document.expect("read"), manifest);
    let blob = read_bounded(&mut *registry.blob(&digest).await.expect("found"), "it", 4096).await;
    assert_eq!(blob.expect("read"), layer);
    let heads = fake.heads.lock().expect("heads");
    let asked = heads.iter().filter(|head| head.starts_with("GET /token?")).count();
    assert_eq!(asked, 1);
    assert!(heads.iter().any(|head| head.contains("scope=repository%3Aa%2Fb%3Apull")));
}

#[tokio::test]
async fn what_is_not_there_is_missing_and_signatures_may_be_absent() {
    let fake = serve(HashMap::new()).await;
    let registry = registry(&fake);
    let error = registry.document().await.err().expect("missing");
    assert_eq!(error.code(), "image.blob.missing");
    let digest = Digest::sha256(b"image");
    assert!(registry.signatures(&digest).await.expect("none").is_empty());
}

#[tokio::test]
async fn a_document_that_is_too_long_or_another_is_refused() {
    let digest = Digest::sha256(b"what was asked for");
    let documents =
        HashMap::from([("v1".to_owned(), vec![b' '; 5000]), (digest.to_string(), b"other".to_vec())]);
    let fake = serve(documents).await;
    let registry = registry(&fake);
    let long = read_bounded(&mut *registry.document().await.expect("found"), "it", 4096).await;
    assert_eq!(long.expect_err("too long").code(), "image.blob.size");
    let other = read_document(&mut *registry.manifest(&digest).await.expect("found"), &digest).await;
    assert_eq!(other.expect_err("another").code(), "image.blob.digest");
}

#[tokio::test]
async fn an_absent_registry_is_unreachable() {
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        listener.local_addr().expect("address").to_string()
    };
    let registry =
        Registry::new(&format!("{nobody}/a/b"), true, &RegistryAccess::default(), &Credentials::default())
            .expect("registry");
    assert_eq!(registry.document().await.err().expect("nobody").code(), "image.registry.unreachable");
}

/// A certificate authority, and a server that has a certificate of it.
fn private_authority() -> (String, TlsAcceptor) {
    let key = rcgen::KeyPair::generate().expect("key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).expect("root").pem();
    let issuer = rcgen::Issuer::new(params, key);
    let leaf_key = rcgen::KeyPair::generate().expect("key");
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let leaf = leaf.signed_by(&leaf_key, &issuer).expect("leaf");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::from_pem_slice(leaf_key.serialize_pem().as_bytes()).expect("key"),
        )
        .expect("certificate");
    (root, TlsAcceptor::from(Arc::new(config)))
}

/// The roots of init-data as `coffer init-data --registry-ca` writes it.
fn roots(pem: String) -> RegistryAccess {
    let entry = Entry { roots: vec![pem], ..Entry::default() }.to_toml().expect("entry");
    let init_data = Builder::new(Algorithm::Sha256).entry(DATA_HUB, entry).build().expect("init-data");
    RegistryAccess::of(&init_data).expect("roots")
}

#[tokio::test]
async fn a_registry_over_https_is_read_with_the_root_of_init_data_and_refused_without_it() {
    let (root, tls) = private_authority();
    let fake = serve_over(HashMap::from([("v1".to_owned(), b"{}".to_vec())]), Some(tls)).await;
    let reference = format!("{}/a/b:v1", fake.address);
    let named = Registry::new(&reference, false, &roots(root), &Credentials::default()).expect("registry");
    let document = read_bounded(&mut *named.document().await.expect("found"), "it", 4096).await;
    assert_eq!(document.expect("read"), b"{}");
    // The public roots alone do not vouch for it, nor does another private one.
    for other in [RegistryAccess::default(), roots(private_authority().0)] {
        let stranger = Registry::new(&reference, false, &other, &Credentials::default()).expect("registry");
        let refusal = stranger.document().await.err().expect("refused").refusal();
        assert_eq!(refusal.code, "image.registry.certificate");
        assert!(refusal.remedy.is_some_and(|remedy| remedy.contains("--registry-ca")));
    }
}

#[test]
fn the_public_roots_are_there_and_a_root_that_is_none_is_refused() {
    assert!(
        Registry::new("registry.example/a:1", false, &RegistryAccess::default(), &Credentials::default())
            .is_ok()
    );
    assert!(webpki_roots::TLS_SERVER_ROOTS.len() > 50);
    let broken = roots("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into());
    let refused = Registry::new("registry.example/a:1", false, &broken, &Credentials::default())
        .err()
        .expect("refused");
    assert_eq!(refused.code(), "image.reference");
}

fn credentials(address: &str) -> Credentials {
    let file = format!(r#"{{"auths":{{"{address}":{{"auth":"bmFtZTpwYXNzd29yZA=="}}}}}}"#);
    Credentials::parse(file.as_bytes()).expect("credentials")
}

#[tokio::test]
async fn credentials_open_what_is_private_over_https_and_go_nowhere_else() {
    let (root, tls) = private_authority();
    let fake = serve_over(HashMap::new(), Some(tls)).await;
    let access = roots(root);
    let with = |repository: &str, credentials: &Credentials| {
        Registry::new(&format!("{}/private/{repository}:v1", fake.address), false, &access, credentials)
            .expect("registry")
    };
    for repository in ["basic/app", "bearer/app"] {
        let own = with(repository, &credentials(&fake.address));
        let document = read_bounded(&mut *own.document().await.expect("found"), "it", 4096).await;
        assert_eq!(document.expect("read"), b"private", "{repository}");
        for other in [Credentials::default(), credentials("registry.example")] {
            let refusal = with(repository, &other).document().await.err().expect("refused").refusal();
            assert_eq!(refusal.code, "image.registry.denied", "{repository}");
        }
    }
    let heads = fake.heads.lock().expect("heads").join("\n").to_ascii_lowercase();
    // The first question is always without; the token service is asked with them, the registry with its token.
    assert!(
        heads.starts_with("get /v2/private/basic/app/manifests/v1")
            && heads.contains("basic bmftztpwyxnzd29yza==")
    );
    let plain = Registry::new(
        &format!("{}/private/basic/app:v1", fake.address),
        true,
        &RegistryAccess::default(),
        &credentials(&fake.address),
    );
    assert!(plain.err().expect("refused").to_string().contains("not sent over plain HTTP"));
}

#[test]
fn a_proxy_and_credentials_of_init_data_are_read_and_what_is_none_is_refused() {
    let entry = Entry {
        credentials: Some("kbs:///default/registry/auth".into()),
        proxy: Some("http://proxy.example:3128".into()),
        ..Entry::default()
    };
    let of = |text: String| {
        let init_data = Builder::new(Algorithm::Sha256).entry(DATA_HUB, text).build().expect("init-data");
        RegistryAccess::of(&init_data)
    };
    let access = of(entry.to_toml().expect("entry")).expect("access");
    assert!(Registry::new("registry.example/a:1", false, &access, &Credentials::default()).is_ok());
    let wrong = of("[image.image_pull_proxy]\nhttps_proxy = \"::\"".into()).expect("TOML");
    let refusal = Registry::new("registry.example/a:1", false, &wrong, &Credentials::default());
    assert!(refusal.err().expect("refused").to_string().contains("image_pull_proxy"));
    assert!(of("[image]\nauthenticated_registry_credentials_uri = 1".into()).is_err());
}

#[tokio::test]
async fn credentials_that_nobody_can_release_are_a_refusal_and_none_are_not_asked_for() {
    let entry = Entry { credentials: Some("kbs:///default/registry/auth".into()), ..Entry::default() };
    let init_data = Builder::new(Algorithm::Sha256).entry(DATA_HUB, entry.to_toml().expect("entry")).build();
    let access = RegistryAccess::of(&init_data.expect("init-data")).expect("access");
    let refusal = access.credentials(None).await.expect_err("refused").refusal();
    assert_eq!(refusal.code, "image.key.no-broker");
    assert!(RegistryAccess::default().credentials(None).await.is_ok());
}

#[tokio::test]
async fn a_registry_that_is_busy_is_asked_again_and_not_without_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("address").to_string();
    let answers = Arc::new(Mutex::new(vec!["200", "503", "429"]));
    let left = Arc::clone(&answers);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut piece = [0; 2048];
            let _head = stream.read(&mut piece).await;
            let status = left.lock().expect("answers").pop().unwrap_or("500");
            let reply = format!(
                "HTTP/1.1 {status} X\r\nRetry-After: 0\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
            );
            let _client_gone = stream.write_all(reply.as_bytes()).await;
        }
    });
    let one = || {
        Registry::new(&format!("{address}/a/b:v1"), true, &RegistryAccess::default(), &Credentials::default())
            .expect("registry")
    };
    let document = read_bounded(&mut *one().document().await.expect("found"), "it", 16).await;
    assert_eq!(document.expect("read"), b"{}");
    let refusal = one().document().await.err().expect("refused").refusal();
    assert_eq!(refusal.code, "image.registry.status");
}

/// What a registry makes of a request for a part.
#[derive(Clone, Copy)]
enum Part {
    Right,
    Whole,
    Cut,
    Another,
    Busy,
}

/// A registry of one blob, that answers each request as the list says, and rightly after its end.
async fn serve_parts(content: Vec<u8>, answers: Vec<Part>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("address").to_string();
    let mut answers = answers.into_iter();
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ranges);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut piece = [0; 2048];
            let count = stream.read(&mut piece).await.unwrap_or_default();
            let head = String::from_utf8_lossy(&piece[..count]).to_ascii_lowercase();
            let range = head.lines().find_map(|line| line.strip_prefix("range: bytes=")).expect("a range");
            let (first, last) = range.split_once('-').expect("two ends");
            let (first, last): (usize, usize) = (first.parse().expect("first"), last.parse().expect("last"));
            seen.lock().expect("seen").push(range.to_owned());
            let part = &content[first..=last];
            let (status, from, body) = match answers.next().unwrap_or(Part::Right) {
                Part::Right => (206, first, part),
                Part::Whole => (200, 0, &content[..]),
                Part::Cut => (206, first, &part[..part.len() / 2]),
                Part::Another => (206, first + 1, part),
                Part::Busy => (429, first, &[][..]),
            };
            let length = if body.is_empty() { 0 } else { part.len().max(body.len()) };
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Range: bytes {from}-{last}/{}\r\nRetry-After: 0\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n",
                content.len()
            );
            let _client_gone = stream.write_all(&[head.as_bytes(), body].concat()).await;
            let _client_gone = stream.shutdown().await;
        }
    });
    (address, ranges)
}

/// A blob of two pieces and a half as a registry gives it in parts: the first, and what lies behind.
async fn parts_of(answers: &[Part]) -> Result<Option<(bytes::Bytes, bytes::Bytes)>, String> {
    let content: Vec<u8> = (0..5 << 19).map(|at: u32| (at / 3) as u8).collect();
    let (address, _) = serve_parts(content.clone(), answers.to_vec()).await;
    let access = RegistryAccess::default();
    let registry = Registry::new(&format!("{address}/a/b:v1"), true, &access, &Credentials::default());
    let blob = Descriptor::new(media::OCI_LAYER, Digest::sha256(&content), content.len() as u64);
    let parts = registry.expect("registry").parts(&blob).await.map_err(|why| why.code())?;
    let Some(parts) = parts else { return Ok(None) };
    assert_eq!((parts.size, &parts.first[..]), (content.len() as u64, &content[..1 << 20]));
    let rest = parts.ranges.range(2 << 20, 1 << 19).await.map_err(|why| why.code())?;
    assert_eq!(rest, content[2 << 20..]);
    Ok(Some((parts.first, rest)))
}

#[tokio::test]
async fn parts_are_what_was_asked_for_and_a_registry_without_them_gives_none() {
    use Part::{Another, Busy, Cut, Right, Whole};
    assert!(parts_of(&[]).await.expect("parts").is_some());
    assert!(parts_of(&[Cut, Busy, Right, Cut, Cut, Busy]).await.expect("after trials").is_some());
    assert!(parts_of(&[Whole]).await.expect("no parts").is_none());
    assert_eq!(parts_of(&[Another]).await.err().as_deref(), Some("image.registry.status"));
    assert_eq!(parts_of(&[Right, Whole]).await.err().as_deref(), Some("image.registry.status"));
    let cut = [Right, Cut, Cut, Cut, Cut];
    assert_eq!(parts_of(&cut).await.err().as_deref(), Some("image.registry.unreachable"));
    let busy = [Busy, Busy, Busy, Busy];
    assert_eq!(parts_of(&busy).await.err().as_deref(), Some("image.registry.status"));
}
