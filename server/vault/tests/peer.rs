//! Claims about the client, shown against `lab/vault-peer`.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coffer_lab_vault_peer::{Fault, Peer};
use coffer_server_source::{Source, SourceError};
use coffer_server_vault::{Auth, KvConfig, Vault, VaultConfig, VaultError, VaultSource};
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3600);

struct Bench {
    peer: Peer,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self { peer: Peer::start().await, folder: tempfile::tempdir().unwrap() }
    }

    /// Writes a file as a careful program does: beside, then renamed.
    fn file(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.folder.path().join(name);
        let beside = self.folder.path().join(format!("{name}.new"));
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&beside).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        std::fs::rename(beside, &path).unwrap();
        path
    }

    fn config(&self, auth: Auth) -> VaultConfig {
        let url = self.peer.url().to_owned();
        VaultConfig {
            url,
            namespace: None,
            auth,
            ca: None,
            client_certificate: None,
            client_key: None,
            timeout: 5,
            attempts: 3,
        }
    }

    fn with_token(&self, token: &str) -> Vault {
        let path = self.file("token", &format!("{token}\n"), 0o600);
        Vault::new(&self.config(Auth::TokenFile(path))).unwrap()
    }

    fn root(&self) -> Vault {
        self.with_token(&self.peer.root_token())
    }

    fn approle(&self, uses: u32, ttl: Duration) -> Vault {
        self.peer.policy("reader", &[("secret/data/*", &["read"])]);
        let (role_id, secret_id) = self.peer.approle(&["reader"], ttl, HOUR, uses);
        let secret_id_file = self.file("secret-id", &secret_id, 0o640);
        let auth = Auth::Approle { mount: "approle".into(), role_id, secret_id_file };
        Vault::new(&self.config(auth)).unwrap()
    }
}

async fn text(vault: &Vault, path: &str, field: &str) -> Result<Option<String>, VaultError> {
    let read = vault.kv("secret")?.read(path, Some(field)).await?;
    Ok(read.map(|value| String::from_utf8(value.expose().clone()).unwrap()))
}

#[tokio::test]
async fn a_value_is_read_by_field_as_a_whole_and_by_version() {
    let bench = Bench::new().await;
    let vault = bench.root();
    bench.peer.put("", "a/b/c", json!({ "value": "one" }));
    bench.peer.put("", "a/b/c", json!({ "value": "two", "n": 1 }));
    let kv = vault.kv("secret").unwrap();
    assert_eq!(text(&vault, "a/b/c", "value").await.unwrap().as_deref(), Some("two"));
    assert_eq!(kv.read_version("a/b/c", 1, Some("value")).await.unwrap().unwrap().expose(), b"one");
    let whole = kv.read("a/b/c", None).await.unwrap().unwrap();
    let whole: serde_json::Value = serde_json::from_slice(whole.expose()).unwrap();
    assert_eq!(whole, json!({ "value": "two", "n": 1 }));

    assert!(kv.read("a/b/c", Some("absent")).await.unwrap().is_none());
    assert!(kv.read("a/b/d", None).await.unwrap().is_none());
    assert!(kv.read_version("a/b/c", 3, None).await.unwrap().is_none());
    assert!(matches!(kv.read("a/b/c", Some("n")).await, Err(VaultError::Malformed { .. })));

    let metadata = kv.metadata("a/b/c").await.unwrap().unwrap();
    assert_eq!((metadata.current_version, metadata.oldest_version, metadata.versions.len()), (2, 1, 2));
    assert!(kv.metadata("a/b/d").await.unwrap().is_none());
}

#[tokio::test]
async fn a_deleted_or_destroyed_version_is_absent_and_not_an_error() {
    let bench = Bench::new().await;
    let vault = bench.root();
    bench.peer.put("", "s", json!({ "v": "one" }));
    bench.peer.put("", "s", json!({ "v": "two" }));
    let token = bench.peer.root_token();
    let call = |method: &'static str, path: &'static str, body: serde_json::Value| {
        let (url, token) = (format!("{}/v1/secret/{path}", bench.peer.url()), token.clone());
        async move {
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            client.request(method, url).header("X-Vault-Token", token).json(&body).send().await.unwrap()
        }
    };
    // The test's own client needs a provider too.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    assert_eq!(call("DELETE", "data/s", json!({})).await.status().as_u16(), 204);
    assert_eq!(text(&vault, "s", "v").await.unwrap(), None);
    assert!(!vault.kv("secret").unwrap().metadata("s").await.unwrap().unwrap().versions[&2].destroyed);
    call("POST", "undelete/s", json!({ "versions": [2] })).await;
    assert_eq!(text(&vault, "s", "v").await.unwrap().as_deref(), Some("two"));
    call("POST", "destroy/s", json!({ "versions": [2] })).await;
    assert_eq!(text(&vault, "s", "v").await.unwrap(), None);
    let one = vault.kv("secret").unwrap().read_version("s", 1, Some("v")).await.unwrap();
    assert_eq!(one.unwrap().expose(), b"one");
    assert!(vault.kv("secret").unwrap().metadata("s").await.unwrap().unwrap().versions[&2].destroyed);
}

#[tokio::test]
async fn no_part_of_a_path_leads_to_another_place() {
    let bench = Bench::new().await;
    let vault = bench.root();
    bench.peer.put("", "a b/ü+&=;:@", json!({ "v": "odd" }));
    assert_eq!(text(&vault, "a b/ü+&=;:@", "v").await.unwrap().as_deref(), Some("odd"));
    bench.peer.forget_requests();
    for path in ["../../sys/health", "a/../b", "a//b", "a?version=1", "a#b", "a%2fb", "", "/a", "a/", "a\\b"]
    {
        assert!(matches!(text(&vault, path, "v").await, Err(VaultError::Path { .. })), "{path}");
    }
    assert!(vault.kv("secret/../transit").is_err() && vault.transit("..").is_err());
    let transit = vault.transit("transit").unwrap();
    assert!(matches!(transit.key("a/b").await, Err(VaultError::Path { .. })));
    assert_eq!(bench.peer.requests(""), 0, "something was asked");
}

#[tokio::test]
async fn what_a_policy_lacks_is_said_as_the_policy_to_write() {
    let bench = Bench::new().await;
    bench.peer.put("", "mine/k", json!({ "v": "1" }));
    bench.peer.put("", "other/k", json!({ "v": "1" }));
    bench.peer.policy("mine", &[("secret/data/mine/*", &["read"])]);
    let vault = bench.with_token(&bench.peer.token(&["mine"], HOUR, HOUR));
    assert_eq!(text(&vault, "mine/k", "v").await.unwrap().as_deref(), Some("1"));
    let refused = text(&vault, "other/k", "v").await.unwrap_err();
    assert!(
        refused.to_string().ends_with("path \"secret/data/other/k\" { capabilities = [\"read\"] }"),
        "{refused}"
    );
    bench.peer.create_key("k");
    let refused = vault.transit("transit").unwrap().encrypt("k", b"x", b"").await.unwrap_err();
    assert!(refused.to_string().contains("transit/encrypt/k"), "{refused}");
    assert!(refused.to_string().contains("update"), "{refused}");
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_not_an_absent_value() {
    let bench = Bench::new().await;
    let vault = bench.root();
    let refused = vault.kv("kv").unwrap().read("a", None).await.err().unwrap();
    assert!(matches!(refused, VaultError::NoEngine { .. }), "{refused}");
    let refused = vault.transit("kms").unwrap().key("k").await.unwrap_err();
    assert!(matches!(refused, VaultError::NoEngine { .. }), "{refused}");
}

#[tokio::test]
async fn a_namespace_is_another_world() {
    let bench = Bench::new().await;
    bench.peer.put("", "k", json!({ "v": "root" }));
    bench.peer.put("team/a", "k", json!({ "v": "a" }));
    let path = bench.file("token", &bench.peer.root_token(), 0o600);
    let config = |namespace: &str| VaultConfig {
        namespace: Some(namespace.to_owned()),
        ..bench.config(Auth::TokenFile(path.clone()))
    };
    let of = |namespace: &str| Vault::new(&config(namespace)).unwrap();
    assert_eq!(text(&of("team/a"), "k", "v").await.unwrap().as_deref(), Some("a"));
    assert_eq!(text(&of(""), "k", "v").await.unwrap().as_deref(), Some("root"));
    assert!(matches!(text(&of("team/b"), "k", "v").await, Err(VaultError::NoEngine { .. })));
    assert!(Vault::new(&config("a\nb")).is_err());
}

#[tokio::test]
async fn one_login_serves_many_calls_and_a_dead_token_is_replaced_once() {
    let bench = Bench::new().await;
    bench.peer.put("", "k", json!({ "v": "1" }));
    let vault = bench.approle(2, HOUR);
    let calls = (0..32).map(|_| {
        let vault = vault.clone();
        tokio::spawn(async move { text(&vault, "k", "v").await.unwrap() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().as_deref(), Some("1"));
    }
    assert_eq!(bench.peer.requests("auth/approle/login"), 1);

    bench.peer.revoke_all();
    assert_eq!(text(&vault, "k", "v").await.unwrap().as_deref(), Some("1"));
    assert_eq!(bench.peer.requests("auth/approle/login"), 2);

    // The secret id is used up, and a refusal at once after a replacement asks for no third login.
    bench.peer.revoke_all();
    assert!(matches!(text(&vault, "k", "v").await, Err(VaultError::Forbidden { .. })));
    assert_eq!(bench.peer.requests("auth/approle/login"), 2);
}

#[tokio::test]
async fn calls_that_waited_for_a_login_share_its_failure() {
    let bench = Bench::new().await;
    let vault = bench.approle(5, HOUR);
    bench.peer.seal(true);
    // Long enough that all calls have come before the answer.
    bench.peer.fail_next(1, Fault::Delay(Duration::from_secs(1)));
    let calls = (0..32).map(|_| {
        let vault = vault.clone();
        tokio::spawn(async move { vault.check().await.unwrap_err() })
    });
    for call in calls.collect::<Vec<_>>() {
        let error = call.await.unwrap();
        assert!(error.is_temporary() && error.to_string().contains("sealed"), "{error}");
    }
    assert_eq!(bench.peer.requests("auth/approle/login"), 1);
    bench.peer.seal(false);
    vault.check().await.unwrap();
}

#[tokio::test]
async fn a_refusal_by_policy_is_no_reason_to_log_in_again() {
    let bench = Bench::new().await;
    let vault = bench.approle(5, HOUR);
    for _ in 0..3 {
        let refused = vault.transit("transit").unwrap().key("k").await;
        assert!(matches!(refused, Err(VaultError::Forbidden { .. })));
    }
    assert_eq!(bench.peer.requests("auth/approle/login"), 1);
}

#[tokio::test]
async fn a_token_that_ended_in_the_server_is_replaced() {
    let bench = Bench::new().await;
    bench.peer.put("", "k", json!({ "v": "1" }));
    let vault = bench.approle(5, Duration::from_secs(60));
    vault.check().await.unwrap();
    bench.peer.advance(Duration::from_secs(61));
    assert_eq!(text(&vault, "k", "v").await.unwrap().as_deref(), Some("1"));
    assert_eq!(bench.peer.requests("auth/approle/login"), 2);
}

#[tokio::test]
async fn a_wrong_login_says_which_credential_to_renew() {
    let bench = Bench::new().await;
    let vault = bench.approle(1, HOUR);
    bench.file("secret-id", "wrong", 0o600);
    let refused = vault.check().await.unwrap_err();
    assert!(matches!(refused, VaultError::Login { status: 400, .. }), "{refused}");
    assert!(refused.to_string().contains("secret-id"), "{refused}");
    let auth = Auth::Approle {
        mount: "elsewhere".into(),
        role_id: "r".into(),
        secret_id_file: bench.file("secret-id", "s", 0o600),
    };
    let refused = Vault::new(&bench.config(auth)).unwrap().check().await.unwrap_err();
    assert!(matches!(refused, VaultError::NoEngine { .. }), "{refused}");
}

#[tokio::test]
async fn a_service_account_logs_in_with_its_newest_token() {
    let bench = Bench::new().await;
    bench.peer.policy("reader", &[("secret/data/*", &["read"])]);
    bench.peer.put("", "k", json!({ "v": "1" }));
    bench.peer.kubernetes("coffer", "jwt-2", &["reader"], HOUR);
    let jwt_file = bench.file("jwt", "jwt-1", 0o644);
    let auth = Auth::Kubernetes { mount: "kubernetes".into(), role: "coffer".into(), jwt_file };
    let vault = Vault::new(&bench.config(auth)).unwrap();
    assert!(matches!(vault.check().await, Err(VaultError::Login { status: 403, .. })));
    bench.file("jwt", "jwt-2", 0o644);
    assert_eq!(text(&vault, "k", "v").await.unwrap().as_deref(), Some("1"));
}

#[tokio::test]
async fn a_token_file_is_read_again_when_it_changes() {
    let bench = Bench::new().await;
    bench.peer.put("", "k", json!({ "v": "1" }));
    let first = bench.peer.token(&["root"], HOUR, HOUR);
    let vault = bench.with_token(&first);
    vault.check().await.unwrap();
    let second = bench.peer.root_token();
    bench.file("token", &second, 0o600);
    bench.peer.revoke(&first);
    assert_eq!(text(&vault, "k", "v").await.unwrap().as_deref(), Some("1"));

    // A file that vanished, or that holds a dead token, does not take the living one away.
    std::fs::remove_file(bench.folder.path().join("token")).unwrap();
    assert_eq!(text(&vault, "k", "v").await.unwrap().as_deref(), Some("1"));
    bench.file("token", "hvs.dead", 0o600);
    assert_eq!(text(&vault, "k", "v").await.unwrap().as_deref(), Some("1"));
}

#[tokio::test]
async fn a_credential_that_everybody_may_read_is_refused() {
    let bench = Bench::new().await;
    for (content, mode) in
        [("hvs.x", 0o604), ("", 0o600), (" \n", 0o600), ("a\u{0}b", 0o600), ("unknown", 0o600)]
    {
        let vault = Vault::new(&bench.config(Auth::TokenFile(bench.file("t", content, mode)))).unwrap();
        let refused = vault.check().await.unwrap_err();
        assert!(matches!(refused, VaultError::Credential { .. }), "{content:?}: {refused}");
        assert!(!refused.to_string().contains("hvs.x"));
    }
    let vault = Vault::new(&bench.config(Auth::TokenFile(Path::new("/absent").into()))).unwrap();
    assert!(matches!(vault.check().await, Err(VaultError::File { .. })));
}

#[tokio::test]
async fn a_passing_fault_is_tried_again_and_a_lasting_one_is_told() {
    let bench = Bench::new().await;
    bench.peer.put("", "k", json!({ "v": "1" }));
    let vault = bench.root();
    vault.check().await.unwrap();
    for fault in [Fault::Status(500), Fault::Status(429), Fault::Cut, Fault::Busy(503, 0), Fault::Status(412)]
    {
        bench.peer.fail_next(2, fault.clone());
        assert_eq!(text(&vault, "k", "v").await.unwrap().as_deref(), Some("1"), "{fault:?}");
    }
    bench.peer.fail_next(3, Fault::Status(502));
    let failed = text(&vault, "k", "v").await.unwrap_err();
    assert!(matches!(failed, VaultError::Busy { status: 502, .. }), "{failed}");
    assert!(failed.is_temporary());
    // A server that asks for an hour gets two seconds.
    bench.peer.fail_next(1, Fault::Busy(429, 3600));
    let begun = Instant::now();
    assert!(text(&vault, "k", "v").await.is_ok());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_login_is_not_repeated() {
    let bench = Bench::new().await;
    let vault = bench.approle(5, HOUR);
    bench.peer.fail_next(1, Fault::Status(500));
    assert!(matches!(vault.check().await, Err(VaultError::Busy { .. })));
    assert_eq!(bench.peer.requests("auth/approle/login"), 1);
    vault.check().await.unwrap();
}

#[tokio::test]
async fn what_is_no_answer_of_a_vault_is_refused() {
    let bench = Bench::new().await;
    bench.peer.put("", "k", json!({ "v": "1" }));
    let vault = bench.root();
    vault.check().await.unwrap();
    for fault in [Fault::Long, Fault::Nonsense] {
        bench.peer.fail_next(1, fault.clone());
        assert!(matches!(text(&vault, "k", "v").await, Err(VaultError::Malformed { .. })), "{fault:?}");
    }
    bench.peer.fail_next(1, Fault::Redirect(format!("{}/v1/secret/data/k", bench.peer.url())));
    let refused = text(&vault, "k", "v").await.unwrap_err();
    assert!(matches!(refused, VaultError::Redirect { status: 307, .. }), "{refused}");
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let bench = Bench::new().await;
    let path = bench.file("token", &bench.peer.root_token(), 0o600);
    let config = VaultConfig { timeout: 1, attempts: 1, ..bench.config(Auth::TokenFile(path)) };
    let vault = Vault::new(&config).unwrap();
    bench.peer.fail_next(1, Fault::Delay(Duration::from_secs(60)));
    let begun = Instant::now();
    assert!(matches!(vault.check().await, Err(VaultError::Unreachable { .. })));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_sealed_or_absent_server_is_said_to_be_so() {
    let bench = Bench::new().await;
    let vault = bench.root();
    bench.peer.seal(true);
    let failed = vault.check().await.unwrap_err();
    assert!(matches!(failed, VaultError::Sealed { .. }), "{failed}");
    assert_eq!(bench.peer.requests(""), 1, "a sealed server was asked again");
    bench.peer.seal(false);
    vault.check().await.unwrap();

    let path = bench.file("t", "t", 0o600);
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let config = VaultConfig { url: format!("http://{gone}"), ..bench.config(Auth::TokenFile(path)) };
    let failed = Vault::new(&config).unwrap().check().await.unwrap_err();
    assert!(matches!(failed, VaultError::Unreachable { .. }), "{failed}");
}

#[tokio::test]
async fn transit_opens_what_it_made_through_rotation_and_nothing_else() {
    let bench = Bench::new().await;
    let transit = bench.root().transit("transit").unwrap();
    assert!(transit.key("k").await.unwrap().is_none());
    bench.peer.create_key("k");
    bench.peer.create_key("other");
    let key = transit.key("k").await.unwrap().unwrap();
    assert_eq!((key.kind.as_str(), key.latest_version, key.exportable), ("aes256-gcm96", 1, false));

    let old = transit.encrypt("k", b"plain", b"place").await.unwrap();
    assert!(old.starts_with("vault:v1:"));
    bench.peer.rotate_key("k");
    let new = transit.rewrap("k", &old, b"place").await.unwrap();
    assert!(new.starts_with("vault:v2:"));
    for ciphertext in [&old, &new] {
        assert_eq!(transit.decrypt("k", ciphertext, b"place").await.unwrap().expose(), b"plain");
    }
    for (key, ciphertext, associated) in [
        ("other", &new, &b"place"[..]),
        ("k", &new, b"elsewhere"),
        ("k", &format!("{}A", &new[..40]), b"place"),
    ] {
        let refused = transit.decrypt(key, ciphertext, associated).await.err().unwrap();
        assert!(matches!(refused, VaultError::Ciphertext { .. }), "{refused}");
    }
    bench.peer.min_decryption_version("k", 2);
    let refused = transit.decrypt("k", &old, b"place").await.err().unwrap();
    assert!(refused.to_string().contains("too old"), "{refused}");
    assert!(transit.decrypt("k", &new, b"place").await.is_ok());

    let made = transit.data_key("k").await.unwrap();
    assert_eq!(made.plaintext.expose().len(), 32);
    assert!(made.plaintext.equals(transit.decrypt("k", &made.ciphertext, b"").await.unwrap().expose()));

    bench.peer.delete_key("k");
    let refused = transit.decrypt("k", &new, b"place").await.err().unwrap();
    assert!(matches!(refused, VaultError::NoKey { .. }), "{refused}");
}

#[tokio::test]
async fn a_source_gives_values_and_tells_apart_what_failed() {
    let bench = Bench::new().await;
    bench.peer.put("", "coffer/prod/default/key/1", json!({ "value.b64": "AAEC" }));
    bench.peer.put("", "default/key/1", json!({ "value": "another place" }));
    let vault = bench.root();
    let config = KvConfig {
        prefix: Some("/coffer/prod/".into()),
        field: Some("value".into()),
        base64_suffix: Some(".b64".into()),
        ..KvConfig::default()
    };
    let source = VaultSource::new("vault", &vault, &config).unwrap();
    assert_eq!(source.name(), "vault");
    assert_eq!(source.get("default/key/1").await.unwrap().unwrap().expose(), &[0, 1, 2]);
    assert!(source.get("default/key/2").await.unwrap().is_none());
    assert!(matches!(source.get("../default/key/1").await, Err(SourceError::Path { .. })));
    bench.peer.seal(true);
    assert!(matches!(source.get("default/key/1").await, Err(SourceError::Unavailable { .. })));
    bench.peer.seal(false);
    let config = KvConfig { mount: "absent".into(), ..config };
    let source = VaultSource::new("vault", &vault, &config).unwrap();
    assert!(matches!(source.get("default/key/1").await, Err(SourceError::Refused { .. })));
}
