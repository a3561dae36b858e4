//! Claims about what outlives a call: decisions that must be written, and what owners decided.

use coffer_core_admin::TenantName;
use coffer_server_store::{AttemptEntry, JournalEntry, MAX_ATTEMPTS, MAX_DECISIONS, Table};
use reqwest::Method;
use serde_json::{Value, json};

use super::lab::{COMMAND_LINE, Lab, pem, reference, refusal};
use crate::{Broker, BrokerConfig, TrustAnchorFile};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_released_on_an_attempt_that_is_no_longer_kept() {
    let lab = Lab::start(true).await;
    let session = lab.attest(COMMAND_LINE).await;
    assert_eq!(lab.resource(session.token(), "default/key/1").await.status(), 200);
    let entry = |number: u64| {
        let at_ms = jiff::Timestamp::now().as_millisecond();
        let entry = AttemptEntry { id: format!("{number:08}"), refused: false, at_ms, body: vec![1] };
        (TenantName::default(), JournalEntry::Attempt(entry))
    };
    let flood: Vec<_> = (0..MAX_ATTEMPTS).map(entry).collect();
    let store = lab.broker.inner().store().clone();
    assert_eq!(store.journal(&flood).unwrap().len() as u64, MAX_ATTEMPTS);
    assert!(store.tenant(&TenantName::default()).attempt(session.attempt()).unwrap().is_none());
    for path in ["default/key/1", "default/key/none"] {
        let (status, code, body) = refusal(lab.resource(session.token(), path).await).await;
        assert_eq!((status, code.as_str()), (401, "token.attempt"), "{path}");
        assert_eq!(body["attempt"], session.attempt());
        assert!(body.get("ciphertext").is_none());
    }
    // As clients do at 401.
    let session = lab.attest(COMMAND_LINE).await;
    assert_eq!(lab.resource(session.token(), "default/key/1").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_not_pushed_out_by_what_is_asked_for_afterwards() {
    let lab = Lab::start(true).await;
    let session = lab.attest(COMMAND_LINE).await;
    assert_eq!(lab.resource(session.token(), "default/key/1").await.status(), 200);
    let refused = json!({"at": "", "resource": "x/y/z", "outcome": "refused", "causes": []}).to_string();
    let entry = |_| {
        let (attempt, body) = (session.attempt().to_string(), refused.clone().into_bytes());
        (TenantName::default(), JournalEntry::Decision { attempt, body })
    };
    let many: Vec<_> = (1..MAX_DECISIONS).map(entry).collect();
    assert_eq!(lab.broker.inner().store().journal(&many).unwrap().len() as u64, MAX_DECISIONS - 1);
    let (status, code, _) = refusal(lab.resource(session.token(), "default/key/1").await).await;
    assert_eq!((status, code.as_str()), (401, "token.attempt"));
    let attempt = lab.admin_json(&format!("/coffer/v1/attempts/{}", session.attempt())).await;
    assert_eq!(attempt["decisions"].as_array().unwrap().len() as u64, MAX_DECISIONS);
    assert_eq!(attempt["decisions"][0]["outcome"], "released");
}

/// A configuration that names the lab's root, in a file.
fn configured(lab: &Lab, hardware: bool) -> BrokerConfig {
    let certificate = lab.folder.path().join("root.pem");
    std::fs::write(&certificate, pem(&lab.tpm.root_der())).unwrap();
    let file = TrustAnchorFile { name: "lab".into(), certificate, hardware };
    BrokerConfig { trust_anchors: vec![file], ..BrokerConfig::new(lab.folder.path()) }
}

/// The roots that the broker of this lab has after it was stopped and started with the configuration.
async fn after_restart(lab: &mut Lab, config: BrokerConfig) -> Vec<(String, bool)> {
    lab.stop().await;
    // The old broker keeps the store as long as any of it lives.
    let other = tempfile::tempdir().unwrap();
    lab.broker = Broker::open(BrokerConfig::new(other.path())).unwrap();
    let broker = Broker::open(config).unwrap();
    let list = broker.inner().store().tenant(&TenantName::default()).list(Table::TrustAnchors).unwrap();
    let read = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["hardware"].as_bool().unwrap();
    list.into_iter().map(|(name, body)| (name, read(body.expose()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_root_is_taken_when_nobody_decided_about_its_name() {
    let mut lab = Lab::bare(crate::all_judges(), None).await;
    let config = configured(&lab, false);
    assert_eq!(after_restart(&mut lab, config).await, [("lab".to_string(), false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_an_admin_removed_does_not_come_back_by_a_restart() {
    let mut lab = Lab::start(true).await;
    lab.admin_ok(Method::DELETE, "/coffer/v1/trust-anchors/lab", "").await;
    let config = configured(&lab, true);
    assert_eq!(after_restart(&mut lab, config).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_an_admin_put_is_not_changed_by_the_configuration() {
    let mut lab = Lab::start(false).await;
    lab.admin_ok(Method::DELETE, "/coffer/v1/trust-anchors/lab", "").await;
    let body = json!({"certificate": pem(&lab.tpm.root_der()), "hardware": false}).to_string();
    lab.admin_ok(Method::PUT, "/coffer/v1/trust-anchors/lab", body).await;
    let config = configured(&lab, true);
    assert_eq!(after_restart(&mut lab, config).await, [("lab".to_string(), false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_policy_gives_a_listed_guest_its_own_path_and_no_other_guest() {
    const EXAMPLE: &str = include_str!("../../policies/examples/separate.rego");
    let lab = Lab::start(true).await;
    let other = serde_json::to_string(&reference("quiet")).unwrap();
    lab.admin_ok(Method::POST, "/coffer/v1/reference-values", other).await;
    for path in ["a/key/1", "b/key/1"] {
        lab.admin_ok(Method::POST, &format!("/kbs/v0/resource/{path}"), "x").await;
    }
    let own = EXAMPLE.replace("tpm-000000000000000000000000", reference(COMMAND_LINE).id());
    assert_ne!(own, EXAMPLE);
    lab.admin_ok(Method::PUT, "/coffer/v1/policies/resource", json!({"rego": own}).to_string()).await;
    let (listed, stranger) = (lab.attest(COMMAND_LINE).await, lab.attest("quiet").await);
    // Both are affirmed, which is all that the built-in policies ask.
    assert_eq!(stranger.verdict().unwrap()["status"], "affirming");
    assert_eq!(lab.resource(listed.token(), "a/key/1").await.status(), 200);
    for (session, path) in [(&listed, "b/key/1"), (&stranger, "a/key/1"), (&stranger, "b/key/1")] {
        let (status, code, _) = refusal(lab.resource(session.token(), path).await).await;
        assert_eq!((status, code.as_str()), (403, "policy.not-listed"), "{path}");
    }
}
