//! What registries do wrong, and what comes of it.

use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use tokio_rustls::TlsAcceptor;

use super::registry::{Answer, Registry};
use super::*;
use crate::Registries;
use crate::folder::Opened;

#[tokio::test]
async fn a_blob_is_fetched_in_ranges_once_and_the_second_user_transfers_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let content = content(100_000, 1);
    let first = blob(&cache(folder.path()), &registry, &content).await.unwrap();
    assert!(!first.is_whole() && first.path().is_none() && first.present() == 0);
    first.fill().await.unwrap();
    assert!(first.is_whole());
    assert_eq!(file_of(&first), content);
    assert_eq!(registry.sent(), 100_000);
    assert!(registry.requests().iter().all(|request| request.range.is_some()));
    assert_eq!(partials(folder.path()), 0);
    let other = cache(folder.path());
    let second = blob(&other, &registry, &content).await.unwrap();
    assert!(second.is_whole());
    second.fill().await.unwrap();
    assert_eq!(second.path(), first.path());
    assert_eq!((registry.sent(), other.transferred()), (100_000, 0));
}

#[tokio::test]
async fn troubles_that_pass_are_waited_for() {
    let registry = Registry::start().await;
    for trouble in [
        Answer::Status(429, "Retry-After: 0\r\n"),
        Answer::Status(500, ""),
        Answer::Status(503, "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        Answer::Truncate(100),
        Answer::TooLong,
        Answer::Stall(100),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let content = content(20_000, 2);
        let shown = format!("{trouble:?}");
        let mut settings = settings(folder.path());
        if matches!(trouble, Answer::Stall(_)) {
            settings.patience.stall = Duration::from_millis(500);
        }
        let mut left = 2;
        registry.behave(move |_| match left {
            0 => Answer::Serve,
            _ => {
                left -= 1;
                trouble.clone()
            }
        });
        let blob = blob(&Cache::open(settings).unwrap(), &registry, &content).await.unwrap();
        blob.fill().await.unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!(file_of(&blob), content, "{shown}");
    }
}

#[tokio::test]
async fn troubles_that_stay_are_told_after_a_bounded_number_of_requests() {
    for (trouble, requests, told) in [
        (Answer::Status(429, "Retry-After: 100000\r\n"), 4, "429"),
        (Answer::Status(500, ""), 4, "500"),
        (Answer::Truncate(100), 4, ""),
        (Answer::Status(403, ""), 1, "anonymously"),
        (Answer::WrongRange, 1, "range"),
    ] {
        let registry = Registry::start().await;
        let folder = tempfile::tempdir().unwrap();
        registry.behave(move |_| trouble.clone());
        let blob = blob(&cache(folder.path()), &registry, &content(20_000, 3)).await.unwrap();
        let error = blob.fill().await.unwrap_err();
        assert_eq!(error.code(), "cache.registry.failed");
        assert!(error.to_string().contains(told), "{error}");
        assert_eq!(registry.requests().len(), requests, "{error}");
    }
}

#[tokio::test]
async fn a_registry_without_ranges_is_read_through_once() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    registry.behave(|_| Answer::NoRanges);
    let content = content(100_000, 4);
    let blob = blob(&cache(folder.path()), &registry, &content).await.unwrap();
    let (filled, read) = tokio::join!(blob.fill(), blob.read(90_000, 5_000));
    filled.unwrap();
    assert_eq!(read.unwrap(), content[90_000..95_000]);
    assert_eq!(file_of(&blob), content);
    // The first piece and the three of the read find out at once that there are no ranges; one of them reads on.
    assert!(registry.requests().len() <= 4, "{} bodies for one blob", registry.requests().len());
}

#[tokio::test]
async fn a_body_without_ranges_that_ends_early_is_tried_again_and_what_came_counts() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    registry.behave(|request| match request.number {
        0 | 1 => Answer::TruncateWhole(60_000),
        _ => Answer::NoRanges,
    });
    let content = content(100_000, 5);
    let whole = blob(&cache(folder.path()), &registry, &content).await.unwrap();
    whole.fill().await.unwrap();
    assert_eq!(file_of(&whole), content);
}

#[tokio::test]
async fn what_has_another_digest_is_thrown_away_and_the_right_one_comes_after() {
    let content = content(50_000, 6);
    let mut one_byte = content.clone();
    one_byte[49_999] ^= 1;
    // Changed content, and another blob or an older version of the same length.
    for other in [one_byte, super::content(50_000, 7)] {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::start().await;
        let cache = cache(folder.path());
        registry.behave(move |_| Answer::Other(other.clone()));
        let wrong = blob(&cache, &registry, &content).await.unwrap();
        let error = wrong.fill().await.unwrap_err();
        assert_eq!(error.code(), "cache.digest");
        assert!(error.to_string().contains(&registry.address), "{error}");
        assert_eq!((partials(folder.path()), cache.list().unwrap().len()), (0, 0));
        assert_eq!(wrong.fill().await.unwrap_err().code(), "cache.digest", "what was thrown away stays so");
        registry.behave(|_| Answer::Serve);
        let right = blob(&cache, &registry, &content).await.unwrap();
        right.fill().await.unwrap();
        assert_eq!(file_of(&right), content);
    }
}

#[tokio::test]
async fn a_shorter_or_longer_blob_than_the_manifest_says_is_refused() {
    let registry = Registry::start().await;
    let short = content(30_000, 8);
    for size in [29_999, 30_001, 40_000] {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let digest = registry.put_blob(&short);
        let remote = cache.remote(&registry.reference(), true).unwrap();
        let blob = cache.blob(&remote, &digest, size).await.unwrap();
        assert!(blob.fill().await.is_err(), "{size}");
        assert!(!blob.is_whole());
        // The right size is another download, and once it is whole the wrong one is refused by its size.
        let right = cache.blob(&remote, &digest, 30_000).await.unwrap();
        right.fill().await.unwrap();
        drop(blob);
        let error = cache.blob(&remote, &digest, size).await.unwrap_err();
        assert_eq!(error.code(), "cache.size", "{size}");
    }
}

#[tokio::test]
async fn a_map_that_lies_costs_the_download_and_never_gives_other_content() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let content = content(20_000, 9);
    let cache = cache(folder.path());
    let digest = registry.put_blob(&content);
    let inside = crate::folder::Folder::open(folder.path(), 1 << 30).unwrap();
    let Opened::Partial(_, pieces) = inside.open_blob(&digest, 20_000, PIECE).unwrap() else {
        panic!("a download")
    };
    (0..pieces.count()).for_each(|index| pieces.set(index).unwrap());
    let lied = blob(&cache, &registry, &content).await.unwrap();
    assert_eq!(lied.present(), 20_000);
    assert_eq!(lied.fill().await.unwrap_err().code(), "cache.digest");
    let honest = blob(&cache, &registry, &content).await.unwrap();
    honest.fill().await.unwrap();
    assert_eq!(file_of(&honest), content);
    // A map of another form is an empty one.
    let other = super::content(20_000, 10);
    let digest = registry.put_blob(&other);
    drop(inside.open_blob(&digest, 20_000, PIECE).unwrap());
    let map = inside.partial_path(&digest, 20_000).with_extension("map");
    std::fs::write(&map, [1; 24 + 5]).unwrap();
    let fresh = blob(&cache, &registry, &other).await.unwrap();
    assert_eq!(fresh.present(), 0);
    fresh.fill().await.unwrap();
    assert_eq!(file_of(&fresh), other);
}

#[tokio::test]
async fn mirrors_are_asked_first_and_others_when_they_fail() {
    let content = content(20_000, 11);
    for trouble in
        [None, Some(Answer::Status(500, "")), Some(Answer::Status(404, "")), Some(Answer::Status(401, ""))]
    {
        let folder = tempfile::tempdir().unwrap();
        let (mirror, origin) = (Registry::start().await, Registry::start().await);
        let text = format!("[registry.\"{}\"]\nmirrors = [\"{}/hub\"]", origin.address, mirror.address);
        let registries = Registries::from_toml(&text).unwrap();
        let cache = Cache::open(Settings { registries, ..settings(folder.path()) }).unwrap();
        let digest = origin.put_blob(&content);
        mirror.put(&format!("/v2/hub/a/b/blobs/{digest}"), &content);
        let fails = trouble.is_some();
        mirror.behave(move |_| trouble.clone().unwrap_or(Answer::Serve));
        let blob = blob(&cache, &origin, &content).await.unwrap();
        blob.fill().await.unwrap();
        assert_eq!(file_of(&blob), content);
        assert!(!mirror.requests().is_empty(), "the mirror is asked first");
        assert_eq!((mirror.sent(), origin.sent()), if fails { (0, 20_000) } else { (20_000, 0) });
    }
}

#[tokio::test]
async fn a_token_is_asked_for_without_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let content = content(10_000, 12);
    registry.put("/token?scope=repository%3Aa%2Fb%3Apull", br#"{"token":"anonymous"}"#);
    let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\"\r\n", registry.address);
    let challenge: &'static str = Box::leak(challenge.into_boxed_str());
    registry.behave(move |request| {
        let head = request.head.to_ascii_lowercase();
        match request.path.starts_with("/token") || head.contains("authorization: bearer anonymous") {
            true => Answer::Serve,
            false => Answer::Status(401, challenge),
        }
    });
    let blob = blob(&cache(folder.path()), &registry, &content).await.unwrap();
    blob.fill().await.unwrap();
    let asked = registry.requests();
    assert_eq!(asked.iter().filter(|request| request.path.starts_with("/token")).count(), 1);
    assert!(
        asked
            .iter()
            .filter(|r| r.path.starts_with("/token"))
            .all(|r| !r.head.to_ascii_lowercase().contains("authorization"))
    );
}

#[tokio::test]
async fn a_proxy_of_the_settings_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Registry::start().await;
    let content = content(10_000, 13);
    let digest = proxy.put_blob(&content);
    let text =
        format!("[registry.\"registry.invalid\"]\nproxy = \"http://{}\"\nplain-http = true", proxy.address);
    let registries = Registries::from_toml(&text).unwrap();
    let cache = Cache::open(Settings { registries, ..settings(folder.path()) }).unwrap();
    let remote = cache.remote(&"registry.invalid/a/b:v1".parse().unwrap(), false).unwrap();
    let blob = cache.blob(&remote, &digest, 10_000).await.unwrap();
    blob.fill().await.unwrap();
    assert_eq!(file_of(&blob), content);
    assert!(proxy.requests().iter().all(|request| request.head.contains("http://registry.invalid/v2/a/b/")));
}

/// Not a test of its own: the process that the next test starts with a proxy in its environment.
#[tokio::test]
async fn fetcher() {
    let Ok(told) = std::env::var("COFFER_TEST_FETCHER") else { return };
    let (reference, digest) = told.split_once(' ').unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path());
    let remote = cache.remote(&reference.parse().unwrap(), true).unwrap();
    let blob = cache.blob(&remote, &digest.parse().unwrap(), 10_000).await.unwrap();
    blob.fill().await.unwrap();
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used_except_where_no_proxy_says_so() {
    let (proxy, registry) = (Registry::start().await, Registry::start().await);
    let content = content(10_000, 15);
    let digest = proxy.put_blob(&content);
    registry.put_blob(&content);
    for (reference, excepted) in
        [("registry.invalid/a/b:v1".into(), ""), (registry.reference().to_string(), "127.0.0.1")]
    {
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "tests::fetching::fetcher"]).stdout(std::process::Stdio::null());
        process.env("COFFER_TEST_FETCHER", format!("{reference} {digest}"));
        process.env("HTTP_PROXY", format!("http://{}", proxy.address)).env("NO_PROXY", excepted);
        let ended = tokio::task::spawn_blocking(move || process.status()).await.unwrap().unwrap();
        assert!(ended.success(), "{reference}");
    }
    assert!(proxy.requests().iter().all(|request| request.head.contains("http://registry.invalid/v2/")));
    assert_eq!((proxy.sent(), registry.sent()), (10_000, 10_000));
}

#[tokio::test]
async fn a_private_root_is_trusted_where_the_settings_name_it_and_nowhere_else() {
    let (root, tls) = authority();
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start_with(Some(tls)).await;
    let content = content(10_000, 14);
    let digest = registry.put_blob(&content);
    let pem = folder.path().join("root.pem");
    std::fs::write(&pem, root).unwrap();
    // A name, because this machine's addresses are reached over plain HTTP; it leads to loopback all the same.
    let name = registry.address.replace("127.0.0.1", "localhost.localdomain");
    let remote_of = |text: &str| {
        let registries = Registries::from_toml(text).unwrap();
        let cache = Cache::open(Settings { registries, ..settings(&folder.path().join("cache")) }).unwrap();
        let remote = cache.remote(&format!("{name}/a/b:v1").parse().unwrap(), false).unwrap();
        (cache, remote)
    };
    let proxy = tunnel(&registry.address).await;
    let way = |more: &str| format!("[registry.\"{name}\"]\nproxy = \"http://{proxy}\"\n{more}");
    let (cache, remote) = remote_of(&way(""));
    let stranger = cache.blob(&remote, &digest, 10_000).await.unwrap();
    assert_eq!(stranger.fill().await.unwrap_err().code(), "cache.registry.failed");
    assert_eq!(registry.requests().len(), 0);
    drop(stranger);
    let (cache, remote) = remote_of(&way(&format!("ca = {:?}", pem.display().to_string())));
    let blob = cache.blob(&remote, &digest, 10_000).await.unwrap();
    blob.fill().await.unwrap();
    assert_eq!(file_of(&blob), content);
    for unusable in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&pem, unusable).unwrap();
        let text = way(&format!("ca = {:?}", pem.display().to_string()));
        let cache = Cache::open(Settings {
            registries: Registries::from_toml(&text).unwrap(),
            ..settings(folder.path())
        });
        let refused = cache.unwrap().remote(&format!("{name}/a/b:v1").parse().unwrap(), false).err().unwrap();
        assert_eq!(refused.code(), "cache.settings");
    }
}

/// A proxy that leads every tunnel to one address.
async fn tunnel(to: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let to = to.to_owned();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                assert!(head.starts_with(b"CONNECT "));
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut server = tokio::net::TcpStream::connect(&to).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

/// A certificate authority, and a server with a certificate of it.
fn authority() -> (String, TlsAcceptor) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, key);
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost.localdomain".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::from_pem_slice(leaf_key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    (root, TlsAcceptor::from(Arc::new(config)))
}
