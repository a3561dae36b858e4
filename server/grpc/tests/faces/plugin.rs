//! Plugins of ours, called as the broker calls them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coffer_core_secret::SecretBytes;
use coffer_server_grpc::{
    Limits, Listener, Plaintext, PluginCall, PluginClient, PluginConfig, PluginConfigError, PluginError,
    Security, Services,
};
use tonic::Code;

use crate::peer::{Echo, Pki, Server, run};

pub(crate) fn config(endpoint: String) -> PluginConfig {
    PluginConfig {
        name: "echo".into(),
        endpoint,
        authority_pem: None,
        identity: None,
        plaintext: Plaintext::LocalOnly,
        timeout: Duration::from_secs(10),
    }
}

pub(crate) fn call(path: &[&str]) -> PluginCall {
    PluginCall {
        method: "GET".into(),
        path: path.iter().map(ToString::to_string).collect(),
        query: [("q".to_owned(), "1".to_owned())].into(),
        body: SecretBytes::copy_of(b"body"),
    }
}

fn echo() -> Services {
    Services::new().plugin(Arc::new(Echo))
}

async fn started() -> (Server, PluginClient) {
    let server = Server::start(echo(), Security::Local, Limits::default()).await;
    let client = PluginClient::connect(&config(format!("http://{}", server.address))).unwrap();
    (server, client)
}

async fn check_all_calls(client: &PluginClient) {
    let reply = client.handle(&call(&["a", "b"]), None).await.unwrap();
    assert_eq!(reply.body.expose(), br#"GET a,b {"q": "1"} 4"#);
    assert_eq!((reply.status, reply.content_type), (200, None));
    let mut admin = call(&["a"]);
    admin.method = "POST".into();
    assert!(client.requires_admin(&admin, None).await.unwrap());
    assert!(!client.requires_admin(&call(&["a"]), None).await.unwrap());
    assert!(client.needs_encryption(&call(&["secret"]), None).await.unwrap());
    assert!(!client.needs_encryption(&call(&["a"]), None).await.unwrap());
}

#[tokio::test]
async fn all_calls_work_over_cleartext_unix_and_mutual_tls() {
    let (_server, client) = started().await;
    check_all_calls(&client).await;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin");
    let listener = Listener::Unix(tokio::net::UnixListener::bind(&path).unwrap());
    let (_stop, _task) = run(listener, echo(), Security::Local, Limits::default());
    check_all_calls(&PluginClient::connect(&config(format!("unix:{}", path.display()))).unwrap()).await;

    let pki = Pki::new();
    let server = Server::start(echo(), Security::Tls(pki.server.clone()), Limits::default()).await;
    let mut over_tls = config(format!("https://{}", server.address));
    over_tls.authority_pem = Some(pki.authority_pem.clone().into_bytes());
    over_tls.identity = Some(pki.identity());
    check_all_calls(&PluginClient::connect(&over_tls).unwrap()).await;

    over_tls.authority_pem = Some(Pki::new().authority_pem.into_bytes());
    let error = PluginClient::connect(&over_tls).unwrap().handle(&call(&["a"]), None).await.err().unwrap();
    assert_eq!(
        (error.code(), error.http_status()),
        ("plugin.unavailable", 503),
        "another authority's plugin"
    );
}

#[tokio::test]
async fn a_plugin_may_come_late_and_come_again() {
    let (server, client) = started().await;
    let address = server.address;
    server.stop().await;
    let error = client.handle(&call(&["a"]), None).await.err().unwrap();
    assert_eq!((error.code(), error.http_status()), ("plugin.unavailable", 503));
    for _ in 0..2 {
        let server = Server::start_at(address, echo(), Security::Local, Limits::default()).await;
        let began = Instant::now();
        while let Err(error) = client.handle(&call(&["a"]), None).await {
            assert!(began.elapsed() < Duration::from_secs(5), "{error}");
            assert_eq!(error.code(), "plugin.unavailable");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Its end is noticed or not before the next call; that one must work in any case.
        server.stop().await;
    }
}

#[tokio::test]
async fn statuses_reach_the_caller_within_bounds() {
    let (_server, client) = started().await;
    for (given, expected) in [("201", 201), ("404", 404), ("401", 403), ("500", 500)] {
        let reply = client.handle(&call(&["status", given]), None).await.unwrap();
        assert_eq!((reply.status, reply.content_type.as_deref()), (expected, Some("text/plain")));
        assert!(reply.body.equals(b"why"));
    }
    let error = client.handle(&call(&["status", "302"]), None).await.err().unwrap();
    assert_eq!((error.code(), error.http_status()), ("plugin.malformed", 502));
    for (path, code, status) in [("missing", Code::NotFound, 404), ("unknown", Code::Unauthenticated, 502)] {
        let error = client.handle(&call(&[path]), None).await.err().unwrap();
        assert!(matches!(&error, PluginError::Refused { code: found, .. } if *found == code), "{error:?}");
        assert_eq!(error.http_status(), status);
        assert!(!error.to_string().contains("its own words") && error.detail().contains("its own words"));
    }
}

#[tokio::test]
async fn what_is_too_long_is_refused_in_both_directions() {
    let (_server, client) = started().await;
    let mut long = call(&["a"]);
    long.body = SecretBytes::new(vec![0; 4 << 20]);
    let error = client.handle(&long, None).await.err().unwrap();
    assert_eq!((error.code(), error.http_status()), ("request.too-large", 413));
    let error = client.handle(&call(&["long"]), None).await.err().unwrap();
    assert_eq!((error.code(), error.http_status()), ("plugin.malformed", 502), "{}", error.detail());
    // The connection outlives it.
    check_all_calls(&client).await;
}

#[tokio::test]
async fn the_shorter_of_timeout_and_deadline_ends_a_call() {
    let (server, client) = started().await;
    let began = Instant::now();
    let deadline = began + Duration::from_millis(100);
    let error = client.handle(&call(&["endless"]), Some(deadline)).await.err().unwrap();
    assert_eq!((error.code(), error.http_status()), ("plugin.timeout", 503));
    let mut short = config(format!("http://{}", server.address));
    short.timeout = Duration::from_millis(100);
    let error = PluginClient::connect(&short).unwrap().handle(&call(&["endless"]), None).await.err().unwrap();
    assert_eq!(error.code(), "plugin.timeout");
    assert!(began.elapsed() < Duration::from_secs(5));
    let past = client.handle(&call(&["a"]), Some(began)).await.err().unwrap();
    assert_eq!(past.code(), "plugin.timeout");
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let good = || config("http://127.0.0.1:1".into());
    for name in ["", "Echo", "a/b", "-a", "\u{e4}", &"a".repeat(64)] {
        let error = PluginClient::connect(&PluginConfig { name: name.into(), ..good() }).err().unwrap();
        assert!(matches!(error, PluginConfigError::Name { .. }), "{name}");
    }
    for timeout in [Duration::ZERO, Duration::from_secs(61)] {
        let error = PluginClient::connect(&PluginConfig { timeout, ..good() }).err().unwrap();
        assert!(matches!(error, PluginConfigError::Timeout { .. }));
    }
    let error = PluginClient::connect(&config("http://10.1.1.1:1".into())).err().unwrap();
    assert!(matches!(error, PluginConfigError::Endpoint { .. }));
}
