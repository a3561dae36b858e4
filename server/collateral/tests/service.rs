//! Claims about fetching and keeping: what is asked, how often, what is given when the source is slow, busy or wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod lab;

use std::time::Duration;

use axum::http::StatusCode;
use coffer_server_collateral::{Hints, Period, Settings, State};
use coffer_verify_api::{Collateral, CollateralKey};
use jiff::SignedDuration;

use lab::{Bench, Manner, Source, WAIT, keys, tdx};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The reason why one document is missing.
async fn why(bench: &Bench, key: &CollateralKey) -> String {
    let gathered = bench.service.gather(std::slice::from_ref(key), &Hints::default(), WAIT).await;
    gathered.missing.first().map(|(_, error)| error.to_string()).unwrap_or_default()
}

async fn has(bench: &Bench, key: &CollateralKey) -> bool {
    let gathered = bench.service.gather(std::slice::from_ref(key), &Hints::default(), WAIT).await;
    gathered.shelf.find(key).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_is_asked_as_it_wants_and_once() {
    let source = Source::start().await;
    let bench = Bench::new(source.settings());
    let gathered = bench.service.gather(&keys(), &Hints::default(), WAIT).await;
    let missing: Vec<String> = gathered.missing.iter().map(|(key, why)| format!("{key}: {why}")).collect();
    assert_eq!(missing, Vec::<String>::new());
    let mut asked = source.asked.lock().unwrap().clone();
    asked.sort();
    let chip = "ab".repeat(64);
    let mut expected = vec![
        "GET /tdx/certification/v4/tcb?fmspc=b0c06f000000".to_owned(),
        "GET /sgx/certification/v4/tcb?fmspc=b0c06f000000".to_owned(),
        "GET /tdx/certification/v4/qe/identity".to_owned(),
        "GET /sgx/certification/v4/qe/identity".to_owned(),
        "GET /sgx/certification/v4/pckcrl?ca=platform&encoding=der".to_owned(),
        "GET /root.der".to_owned(),
        format!("GET /vcek/v1/Milan/{chip}?blSPL=03&teeSPL=01&snpSPL=08&ucodeSPL=115"),
        format!("GET /vcek/v1/Turin/{}?fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=71", "cd".repeat(8)),
        "GET /vcek/v1/Milan/cert_chain".to_owned(),
        "GET /vlek/v1/Milan/cert_chain".to_owned(),
        "GET /vcek/v1/Milan/crl".to_owned(),
        "GET /v1/rim/NV_GPU_DRIVER_GH100_1".to_owned(),
        "GET /hsk_cek?snumber=N1".to_owned(),
    ];
    expected.sort();
    assert_eq!(asked, expected);
    let tcb = gathered.shelf.find(&tdx()).unwrap();
    assert!(tcb.body().starts_with(b"{\"tcbInfo\":{\"id\":\"TDX\""));
    assert!(tcb.issuer_chain().starts_with(b"-----BEGIN CERTIFICATE-----\n"));
    let crl = gathered.shelf.find(&keys()[4]).unwrap();
    assert_eq!(crl.body()[0], 0x30, "hexadecimal digits of a caching service become DER");
    let rim = gathered.shelf.find(&keys()[11]).unwrap();
    assert_eq!(rim.body(), lab::manifest().as_bytes());

    // From memory, and by another process from disk, with the source gone.
    source.is(Manner::Failing(StatusCode::BAD_GATEWAY));
    for service in [bench.service.clone(), bench.reopened(source.settings())] {
        let again = service.gather(&keys(), &Hints::default(), WAIT).await;
        assert!(again.missing.is_empty());
        for (key, document) in gathered.shelf.iter() {
            assert_eq!(again.shelf.find(key).unwrap().digest(), document.digest(), "{key}");
        }
        assert!(service.at_hand().find(&tdx()).is_some());
    }
    assert_eq!(source.times(), expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_fetched_once_however_many_wait() {
    let source = Source::start().await;
    source.is(Manner::Slow(Duration::from_millis(200)));
    let bench = Bench::new(source.settings());
    let key = tdx();
    let waiting = (0..500).map(|_| has(&bench, &key));
    assert!(futures::future::join_all(waiting).await.into_iter().all(|found| found));
    assert_eq!(source.times(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_goes_on_when_those_who_waited_went_away() {
    let source = Source::start().await;
    source.is(Manner::Slow(Duration::from_millis(300)));
    let bench = Bench::new(source.settings());
    let gathered = bench.service.gather(&[tdx()], &Hints::default(), Duration::from_millis(20)).await;
    assert!(gathered.missing[0].1.to_string().contains("did not come within"));
    assert!(has(&bench, &tdx()).await);
    assert_eq!(source.times(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_source_is_asked_again_when_it_says() {
    let source = Source::start().await;
    source.is(Manner::BusyFor(1, "1"));
    let bench = Bench::new(source.settings());
    let begun = std::time::Instant::now();
    assert!(has(&bench, &tdx()).await);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(source.times(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_busy_for_long_is_left_alone_for_all_of_its_documents() {
    for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
        let source = Source::start().await;
        source.is(Manner::Busy(status, Some("3600")));
        let bench = Bench::new(source.settings());
        let found = why(&bench, &tdx()).await;
        assert!(found.contains("asks to come again in 3600 s"), "{found}");
        source.is(Manner::Well);
        assert!(why(&bench, &keys()[1]).await.contains("asks to come again"));
        assert_eq!(source.times(), 1, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_passes_is_survived() {
    let source = Source::start().await;
    source.is(Manner::FailingFor(2));
    let bench = Bench::new(source.settings());
    assert!(has(&bench, &tdx()).await);
    assert_eq!(source.times(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_else_a_source_sends_is_named_and_not_kept() {
    let cases: [(Manner, &str); 9] = [
        (Manner::Garbage(b"<html>sign in</html>"), "gave something else than TCB info"),
        (Manner::Garbage(b""), "gave something else than TCB info"),
        (
            Manner::Garbage(b"{\"tcbInfo\":{\"id\":\"SGX\",\"fmspc\":\"b0c06f000000\",\"nextUpdate\":\"2030-01-01T00:00:00Z\"},\"signature\":\"00\"}"),
            "TCB info of SGX for b0c06f000000, not of TDX",
        ),
        (Manner::Bare, "an issuer chain in the headers"),
        (Manner::Truncated, "gave no document"),
        (Manner::Endless, "gave more than 8388608 bytes"),
        (Manner::Failing(StatusCode::NOT_FOUND), "has no such document (status 404)"),
        (Manner::Failing(StatusCode::INTERNAL_SERVER_ERROR), "status 500"),
        (Manner::Busy(StatusCode::SERVICE_UNAVAILABLE, None), "status 503"),
    ];
    for (manner, expected) in cases {
        let source = Source::start().await;
        source.is(manner.clone());
        let bench = Bench::new(source.settings());
        let found = why(&bench, &tdx()).await;
        assert!(found.contains(expected), "{manner:?}: {found}");
        assert_eq!(bench.service.list().unwrap(), []);
        // It is not asked again at once, however many want it.
        let times = source.times();
        let found = why(&bench, &tdx()).await;
        assert!(found.contains("it is asked for again in"), "{found}");
        assert_eq!(source.times(), times);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_source_is_waited_for_no_longer_than_the_settings_say() {
    let source = Source::start().await;
    source.is(Manner::Slow(Duration::from_secs(60)));
    let bench = Bench::new(Settings { timeout: Period::seconds(1), ..source.settings() });
    let begun = std::time::Instant::now();
    assert!(why(&bench, &tdx()).await.contains("did not come within 1 s"));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn past_its_end_a_document_is_fetched_anew_and_never_given_unless_allowed() {
    for (stale_for, after_days, given) in [(0, 31, false), (2, 31, true), (2, 33, false)] {
        let source = Source::start().await;
        let settings = Settings { stale_for: Period::seconds(stale_for * 24 * 3600), ..source.settings() };
        let bench = Bench::new(settings);
        assert!(has(&bench, &tdx()).await);
        source.is(Manner::Failing(StatusCode::NOT_FOUND));
        bench.clock.forward(DAY * after_days);
        assert!(bench.service.at_hand().find(&tdx()).is_none());
        assert_eq!(has(&bench, &tdx()).await, given, "{stale_for} {after_days}");
        if !given {
            assert!(why(&bench, &tdx()).await.contains("ended at 2026-07-01"));
        }
        assert_eq!(source.times(), 2);
        let source = Source::start().await;
        source.ends("2026-09-01T00:00:00Z");
        let bench = Bench { service: bench.reopened(source.settings()), ..bench };
        assert!(has(&bench, &tdx()).await, "a source that is there again");
        assert_eq!(bench.service.list().unwrap()[0].state, State::Fresh);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_source_gives_past_its_end_is_for_the_judge_to_refuse() {
    let source = Source::start().await;
    source.ends("2026-05-01T00:00:00Z");
    let bench = Bench::new(source.settings());
    assert!(has(&bench, &tdx()).await);
    assert!(has(&bench, &tdx()).await);
    assert!(bench.service.at_hand().find(&tdx()).is_some());
    assert_eq!(source.times(), 1);
    bench.clock.forward(SignedDuration::from_mins(2));
    assert!(bench.service.at_hand().find(&tdx()).is_none());
    assert!(has(&bench, &tdx()).await);
    assert_eq!(source.times(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_given_at_once_and_fetched_behind_the_scenes() {
    let source = Source::start().await;
    let bench = Bench::new(source.settings());
    assert!(has(&bench, &tdx()).await);
    // One day before its end, by the settings.
    bench.clock.forward(DAY * 29 + SignedDuration::from_hours(1));
    source.is(Manner::Slow(Duration::from_millis(300)));
    source.ends("2026-09-01T00:00:00Z");
    assert_eq!(bench.service.list().unwrap()[0].state, State::Due);
    let begun = std::time::Instant::now();
    assert!(has(&bench, &tdx()).await);
    assert!(begun.elapsed() < Duration::from_millis(250));
    for _ in 0..100 {
        if bench.service.list().unwrap()[0].state == State::Fresh {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(bench.service.list().unwrap()[0].state, State::Fresh);
    assert_eq!(source.times(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshing_fetches_what_is_due_and_nothing_else() {
    let source = Source::start().await;
    *source.cache_control.lock().unwrap() = Some("public, max-age=3600");
    let bench = Bench::new(source.settings());
    assert!(bench.service.gather(&keys(), &Hints::default(), WAIT).await.missing.is_empty());
    assert_eq!(bench.service.refresh().await, 0);
    bench.clock.forward(SignedDuration::from_mins(61));
    // TCB infos, identities and revocation lists are replaced; a chip's certificate and a chain are not.
    // The manifest and Hygon's certificates state no end, so the source's word holds for them.
    assert_eq!(bench.service.refresh().await, 9);
    assert_eq!(source.times(), keys().len() + 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_nothing_is_asked_and_what_is_there_is_given_whatever_its_dates() {
    let source = Source::start().await;
    let bench = Bench::new(source.settings());
    assert!(has(&bench, &tdx()).await);
    let offline = Settings { offline: true, ..source.settings() };
    let bench = Bench { service: bench.reopened(offline), ..bench };
    bench.clock.forward(DAY * 1000);
    assert!(has(&bench, &tdx()).await);
    assert!(bench.service.at_hand().find(&tdx()).is_some());
    assert!(why(&bench, &keys()[1]).await.contains("offline"));
    assert_eq!(bench.service.refresh().await, 0);
    assert!(bench.service.fetch(&[tdx()], &Hints::default()).await[0].1.is_err());
    assert_eq!(source.times(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificates_state_is_asked_for_with_what_the_evidence_carries() {
    let source = Source::start().await;
    let bench = Bench::new(source.settings());
    let authority = lab::Authority::new("a device");
    let digest = coffer_core_digest::Digest::sha256(&authority.der);
    let key = CollateralKey::NvidiaOcsp(digest.as_bytes().try_into().unwrap());
    assert!(why(&bench, &key).await.contains("not in the evidence"));
    assert_eq!(source.times(), 0);
    let bench = Bench::new(source.settings());
    let mut hints = Hints::default();
    hints.add_pem(authority.pem.as_bytes());
    let gathered = bench.service.gather(std::slice::from_ref(&key), &hints, WAIT).await;
    assert!(gathered.missing[0].1.to_string().contains("404"));
    assert_eq!(*source.asked.lock().unwrap(), ["POST /ocsp"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_with_a_certificate_of_its_own_is_asked_only_where_the_settings_name_its_authority() {
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 2048];
            let _ = stream.read(&mut head).await;
            let body = lab::manifest();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, certificate.pem()).unwrap();
    let source = Source::start().await;
    let key = CollateralKey::NvidiaRim("NV_1".into());
    for (extra_ca, expected) in [(std::path::PathBuf::new(), false), (authority.clone(), true)] {
        let mut settings = Settings { extra_ca, attempts: 1, ..source.settings() };
        settings.nvidia.rim.clone_from(&url);
        let bench = Bench::new(settings);
        assert_eq!(has(&bench, &key).await, expected, "{}", why(&bench, &key).await);
    }
    for bad in ["not a certificate at all", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"]
    {
        std::fs::write(&authority, bad).unwrap();
        let settings = Settings { extra_ca: authority.clone(), ..source.settings() };
        let opened = coffer_server_collateral::CollateralService::open(folder.path(), settings);
        assert!(opened.is_err(), "{bad}");
    }
}

fn chip(number: u8) -> CollateralKey {
    CollateralKey::AmdVcek { product: "Milan".into(), chip: vec![number; 64], tcb: 0x7308_0000_0000_0103 }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_evidence_names_is_asked_for_so_often_and_no_more() {
    let source = Source::start().await;
    let settings = Settings { unproven_per_minute: 3, ..source.settings() };
    let bench = Bench::new(settings);
    let chips: Vec<CollateralKey> = (1..=20).map(chip).collect();
    let gathered = bench.service.gather(&chips, &Hints::default(), WAIT).await;
    assert_eq!((gathered.missing.len(), source.times()), (17, 3));
    for (_, why) in &gathered.missing {
        assert!(why.to_string().contains("too many documents that only evidence names"), "{why}");
    }
    // What is in the cache, what is proven, and what an owner asks for are not of that number.
    let found: Vec<_> = gathered.shelf.iter().map(|(key, _)| key.clone()).collect();
    let again = bench.service.gather(&found, &Hints::default(), WAIT).await;
    assert!(again.missing.is_empty());
    assert!(has(&bench, &tdx()).await);
    assert!(has(&bench, &CollateralKey::AmdCrl("Milan".into())).await);
    assert!(bench.service.fetch(&[chip(99)], &Hints::default()).await.iter().all(|(_, got)| got.is_ok()));
    assert!(why(&bench, &chip(77)).await.contains("too many"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_refuses_made_up_chips_stays_open_for_the_rest() {
    let source = Source::start().await;
    source.is(Manner::Busy(StatusCode::TOO_MANY_REQUESTS, Some("3600")));
    // So that the rest may wait for the short time after which the source is asked again.
    let bench = Bench::new(Settings { timeout: Period::seconds(30), ..source.settings() });
    assert!(why(&bench, &chip(1)).await.contains("3600 s"));
    source.is(Manner::Well);
    assert!(why(&bench, &chip(2)).await.contains("asks to come again"), "left alone for more made-up chips");
    let crl = [CollateralKey::AmdCrl("Milan".into())];
    let gathered = bench.service.gather(&crl, &Hints::default(), Duration::from_secs(25)).await;
    assert!(gathered.missing.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_chips_take_no_place_from_the_rest() {
    let source = Source::start().await;
    source.is(Manner::Slow(Duration::from_secs(2)));
    let bench = Bench::new(Settings { concurrent: 1, unproven_concurrent: 1, ..source.settings() });
    let chips: Vec<CollateralKey> = (1..=20).map(chip).collect();
    bench.service.gather(&chips, &Hints::default(), Duration::from_millis(100)).await;
    source.is(Manner::Well);
    let begun = std::time::Instant::now();
    assert!(has(&bench, &tdx()).await);
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
}
