//! The cache of issuers' keys, against servers on loopback.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use coffer_core_admin::Role;
use serde_json::{Value, json};

use super::{NOW, Signer, roles, tenant};
use crate::authenticator::{Authenticator, Presented};
use crate::cache::{CacheTimes, KeyCache};
use crate::error::FetchError;
use crate::error::Unauthenticated;
use crate::fetch::{FetchSettings, Proxy, Reach};
use crate::identity::Identity;
use crate::issuer::{Issuer, IssuerSettings};
use crate::key_set::KeySource;
use crate::scope::Scope;
use crate::verifier::{Asked, Verifier};

/// An issuer that answers what it is told to, and counts.
struct Peer {
    url: String,
    says: Arc<Mutex<(StatusCode, Vec<u8>)>>,
    asked: Arc<AtomicUsize>,
}

impl Peer {
    async fn start(keys: &[Value]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let says = Arc::new(Mutex::new((StatusCode::OK, json!({ "keys": keys }).to_string().into_bytes())));
        let asked = Arc::new(AtomicUsize::new(0));
        let (own, count, says_too) = (url.clone(), Arc::clone(&asked), Arc::clone(&says));
        let answer = async move || {
            count.fetch_add(1, Ordering::SeqCst);
            says_too.lock().unwrap().clone()
        };
        let discovery = async move || json!({"issuer": own, "jwks_uri": format!("{own}/keys")}).to_string();
        let routes = Router::new()
            .route("/keys", get(answer))
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/moved", get(async || (StatusCode::FOUND, [("location", "/keys")])))
            .route("/never", get(std::future::pending::<String>))
            .route(
                "/other/.well-known/openid-configuration",
                get(async || r#"{"issuer":"https://x","jwks_uri":"https://x"}"#),
            );
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, says, asked }
    }

    fn say(&self, status: StatusCode, body: impl Into<Vec<u8>>) {
        *self.says.lock().unwrap() = (status, body.into());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn settings(issuer: &str, keys: KeySource) -> IssuerSettings {
    let mut settings: IssuerSettings = serde_json::from_value(json!({
        "name": "corp", "issuer": issuer, "audiences": ["coffer"],
        "roles": [{"claim": "groups", "value": "admins", "roles": ["owner"]}],
        "speaks_for": {"tenant": "a"},
    }))
    .unwrap();
    settings.keys = keys;
    settings
}

fn issuer(url: &str, keys: KeySource) -> Issuer {
    Issuer::new(settings(url, keys), &Scope::Cluster).unwrap()
}

fn cache_with(tenants: Reach) -> KeyCache {
    let fetch =
        FetchSettings { timeout: Duration::from_secs(2), proxy: Proxy::None, tenants, extra_ca: None };
    KeyCache::new(&fetch, CacheTimes { refresh_after_s: 600, refetch_after_s: 30, keep_for_s: 3600 }).unwrap()
}

/// Waits until no fetch of the cache is under way, by asking as one who must wait: for a key that is not there.
async fn settled(cache: &KeyCache, issuer: &Issuer, now: u64) {
    let _ = cache.keys(issuer, Some("no such key"), now).await;
}

fn with_path(peer: &Peer, path: &str) -> Issuer {
    issuer(&peer.url, KeySource::Url(format!("{}{path}", peer.url)))
}

#[tokio::test]
async fn many_who_ask_at_once_cost_one_fetch() {
    let signer = Signer::p256();
    let peer = Peer::start(&[signer.jwk("1")]).await;
    let (cache, issuer) = (cache_with(Reach::Public), Arc::new(with_path(&peer, "/keys")));
    let mut calls = Vec::new();
    for _ in 0..100 {
        let (cache, issuer) = (cache.clone(), Arc::clone(&issuer));
        calls.push(tokio::spawn(async move { cache.keys(&issuer, Some("1"), NOW).await.unwrap().len() }));
    }
    for call in calls {
        assert_eq!(call.await.unwrap(), 1);
    }
    assert_eq!((peer.asked(), cache.len()), (1, 1));
}

#[tokio::test]
async fn an_unknown_key_is_looked_for_once_in_a_while_and_a_rotated_one_is_found() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let peer = Peer::start(&[old.jwk("old")]).await;
    let (cache, issuer) = (cache_with(Reach::Public), with_path(&peer, "/keys"));
    assert!(cache.keys(&issuer, Some("old"), NOW).await.is_ok());
    for n in 0..200 {
        let keys = cache.keys(&issuer, Some(&format!("made up {n}")), NOW + 29).await.unwrap();
        assert_eq!(keys.len(), 1, "the others are still there, so that the verifier can say what is unknown");
    }
    assert_eq!(peer.asked(), 1);
    peer.say(StatusCode::OK, json!({"keys": [old.jwk("old"), new.jwk("new")]}).to_string());
    let keys = cache.keys(&issuer, Some("new"), NOW + 30).await.unwrap();
    assert_eq!((keys.len(), peer.asked()), (2, 2));
    // And what was withdrawn is gone at the next fetch.
    peer.say(StatusCode::OK, json!({"keys": [new.jwk("new")]}).to_string());
    settled(&cache, &issuer, NOW + 60).await;
    assert!(!cache.keys(&issuer, Some("old"), NOW + 60).await.unwrap().has("old"));
    assert_eq!(peer.asked(), 3);
}

#[tokio::test]
async fn keys_whose_source_fails_serve_until_their_bound_and_no_longer() {
    let signer = Signer::p256();
    let peer = Peer::start(&[signer.jwk("1")]).await;
    let (cache, issuer) = (cache_with(Reach::Public), with_path(&peer, "/keys"));
    assert!(cache.keys(&issuer, Some("1"), NOW).await.is_ok());
    for (status, body) in [
        (StatusCode::INTERNAL_SERVER_ERROR, "{}".to_owned()),
        (StatusCode::OK, "<html>".to_owned()),
        (StatusCode::OK, json!({"keys": []}).to_string()),
        (StatusCode::OK, "x".repeat(300 << 10)),
    ] {
        peer.say(status, body);
        let at = NOW + 600 + 30 * u64::try_from(peer.asked()).unwrap();
        assert!(cache.keys(&issuer, Some("1"), at).await.is_ok());
        settled(&cache, &issuer, at).await;
    }
    assert_eq!(peer.asked(), 5);
    assert!(cache.keys(&issuer, Some("1"), NOW + 3600).await.is_ok());
    settled(&cache, &issuer, NOW + 3600).await;
    let stale = cache.keys(&issuer, Some("1"), NOW + 3601).await;
    assert!(matches!(stale, Err(FetchError::Stale { age_s: 3601, .. })), "{stale:?}");
    peer.say(StatusCode::OK, json!({"keys": [signer.jwk("1")]}).to_string());
    assert!(cache.keys(&issuer, Some("1"), NOW + 3700).await.is_ok(), "and it heals");
}

#[tokio::test]
async fn a_source_that_fails_is_not_asked_again_at_once() {
    let peer = Peer::start(&[]).await;
    let (cache, issuer) = (cache_with(Reach::Public), with_path(&peer, "/keys"));
    for _ in 0..50 {
        assert!(matches!(cache.keys(&issuer, None, NOW).await, Err(FetchError::Keys { .. })));
    }
    assert_eq!(peer.asked(), 1);
}

#[tokio::test]
async fn discovery_leads_to_the_keys_of_the_same_issuer_only() {
    let signer = Signer::p256();
    let peer = Peer::start(&[signer.jwk("1")]).await;
    let cache = cache_with(Reach::Public);
    assert!(cache.keys(&issuer(&peer.url, KeySource::Discovery), None, NOW).await.is_ok());
    let other = issuer(&format!("{}/other", peer.url), KeySource::Discovery);
    let refused = cache.keys(&other, None, NOW).await.unwrap_err();
    assert!(refused.to_string().contains("another issuer"), "{refused}");
}

#[tokio::test]
async fn redirects_are_not_followed_and_a_source_that_never_answers_is_left() {
    let peer = Peer::start(&[Signer::p256().jwk("1")]).await;
    let cache = cache_with(Reach::Public);
    let moved = cache.keys(&with_path(&peer, "/moved"), None, NOW).await.unwrap_err();
    assert!(moved.to_string().contains("302"), "{moved}");
    let never = cache.keys(&with_path(&peer, "/never"), None, NOW).await.unwrap_err();
    assert!(matches!(never, FetchError::TimedOut { .. } | FetchError::Failed { .. }), "{never}");
    assert_eq!(peer.asked(), 0);
}

#[tokio::test]
async fn a_tenant_s_issuer_does_not_reach_the_broker_s_own_network() {
    let peer = Peer::start(&[Signer::p256().jwk("1")]).await;
    let own = |keys| {
        let settings = IssuerSettings { speaks_for: None, ..settings(&peer.url, keys) };
        Issuer::new(settings, &tenant("a")).unwrap()
    };
    let by_address = own(KeySource::Url(format!("{}/keys", peer.url)));
    let refused = cache_with(Reach::Public).keys(&by_address, None, NOW).await;
    assert!(matches!(refused, Err(FetchError::Unreachable(_))), "{refused:?}");
    let by_name = own(KeySource::Url("https://localhost:1/keys".to_owned()));
    let refused = cache_with(Reach::Public).keys(&by_name, None, NOW).await.unwrap_err();
    assert!(refused.to_string().contains("no public address"), "{refused}");
    assert_eq!(peer.asked(), 0);
    assert!(cache_with(Reach::Anywhere).keys(&by_address, None, NOW).await.is_ok());
}

#[tokio::test]
async fn keys_are_read_from_a_file_and_its_change_is_seen() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(json!({"keys": [old.jwk("old")]}).to_string().as_bytes()).unwrap();
    let (cache, issuer) = (cache_with(Reach::Public), issuer("k8s", KeySource::File(file.path().to_owned())));
    assert!(cache.keys(&issuer, Some("old"), NOW).await.unwrap().has("old"));
    std::fs::write(file.path(), json!({"keys": [new.jwk("new")]}).to_string()).unwrap();
    assert!(cache.keys(&issuer, Some("new"), NOW + 30).await.unwrap().has("new"));
    drop(file);
    settled(&cache, &issuer, NOW + 60).await;
    assert!(cache.keys(&issuer, Some("new"), NOW + 700).await.unwrap().has("new"));
}

async fn ask(
    gate: &Authenticator,
    verifiers: &[&Verifier],
    token: &str,
) -> Result<Identity, Unauthenticated> {
    let asked = Asked { target: &tenant("a"), certificate: None, now: NOW };
    gate.authenticate(verifiers, Presented { token: Some(token) }, asked).await
}

#[tokio::test]
async fn a_request_is_authenticated_by_its_tenant_or_by_the_cluster_s_issuer_for_it() {
    let signer = Signer::p256();
    let peer = Peer::start(&[signer.jwk("1")]).await;
    let gate = Authenticator::new(cache_with(Reach::Public));
    let own = Verifier::new(&tenant("a"), vec![], vec![], vec![]).unwrap();
    let cluster = vec![settings(&peer.url, KeySource::Discovery)];
    let cluster = Verifier::new(&Scope::Cluster, vec![], cluster, vec![]).unwrap();
    let claims = json!({"iss": peer.url, "aud": "coffer", "sub": "ann", "iat": NOW, "exp": NOW + 60, "groups": "admins"});
    let token = signer.token(&json!({"alg": "ES256", "kid": "1"}), &claims);
    let who = ask(&gate, &[&own, &cluster], &token).await.unwrap();
    assert_eq!((who.scope(), who.roles()), (&tenant("a"), roles(&[Role::Owner])));
    assert!(matches!(ask(&gate, &[&own], &token).await, Err(Unauthenticated::UnknownSigner(_))));
    // Of nobody's issuer: nothing is fetched for it.
    let asked = peer.asked();
    let foreign = signer
        .token(&json!({"alg": "ES256"}), &json!({"iss": "https://eve.example", "iat": NOW, "exp": NOW + 60}));
    assert!(matches!(ask(&gate, &[&own, &cluster], &foreign).await, Err(Unauthenticated::UnknownSigner(_))));
    assert_eq!(peer.asked(), asked);
    // An issuer that is down is not the caller's fault.
    let down = vec![settings(&peer.url, KeySource::Url("http://127.0.0.1:9/keys".to_owned()))];
    let down = Verifier::new(&Scope::Cluster, vec![], down, vec![]).unwrap();
    assert_eq!(ask(&gate, &[&own, &down], &token).await.unwrap_err().status(), 503);
}
