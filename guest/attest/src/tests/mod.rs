//! The client against a broker on loopback that runs the protocol's other end.

mod broker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use broker::{FakeBroker, Transport};
use coffer_core_evidence::{ReportData, Tee};
use coffer_core_protocol::error::Code;
use coffer_core_protocol::uri::ResourcePath;
use serde_json::{Value, json};

use super::*;

/// Evidence that only says what it is bound to, and counts how often it was asked for.
#[derive(Default)]
struct Stated {
    asked: AtomicU32,
    with_device: bool,
}

impl EvidenceSource for Stated {
    fn tee(&self) -> Tee {
        Tee::Tpm
    }

    fn evidence(&self, report_data: ReportData) -> Pending<'_, Value> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Ok(json!({"bound-to": report_data.digest().hex()})) })
    }

    fn devices(&self, report_data: ReportData) -> Pending<'_, String> {
        let evidence = json!({"nvidia": {"bound-to": report_data.digest().hex()}}).to_string();
        let evidence = if self.with_device { evidence } else { String::new() };
        Box::pin(async move { Ok(evidence) })
    }
}

const PATIENCE: Patience =
    Patience { attempts: 2, pause: Duration::from_millis(5), timeout: Duration::from_secs(10) };

fn client(url: &str, certificate: &str) -> KeyClient {
    client_of(url, certificate, Arc::new(Stated::default()))
}

fn client_of(url: &str, certificate: &str, source: Arc<Stated>) -> KeyClient {
    let broker = Broker::new(url, certificate, PATIENCE).expect("broker");
    KeyClient::new(broker, source, "algorithm = \"sha256\"".into())
}

fn key() -> ResourcePath {
    ResourcePath::new("default", "key", "1").expect("path")
}

#[tokio::test]
async fn a_resource_is_opened_with_the_key_that_was_in_the_evidence() {
    let broker = FakeBroker::start(Transport::Tls).await;
    let client = client(&broker.url, &broker.certificate);
    let attested = client.attest_as_expected().await.expect("attested");
    assert_eq!(attested.status, coffer_core_protocol::ear::Status::Affirming);
    let secret = client.resource(&key()).await.expect("released");
    assert!(secret.equals(b"the key"));
    assert_eq!(broker.attestations(), 1, "one attestation serves both");
    assert_eq!(broker.init_data().as_deref(), Some("algorithm = \"sha256\""));
    assert_eq!(broker.key_exchange().as_deref(), Some("X25519MLKEM768"));
}

#[tokio::test]
async fn the_device_is_asked_once_for_each_session_key_however_many_resources_are_fetched() {
    let broker = FakeBroker::start(Transport::Plain).await;
    let source = Arc::new(Stated::default());
    let client = Arc::new(client_of(&broker.url, &broker.certificate, Arc::clone(&source)));
    let fetches = (0..16).map(|_| {
        let client = Arc::clone(&client);
        tokio::spawn(async move { client.resource(&key()).await.map(drop) })
    });
    for fetch in fetches.collect::<Vec<_>>() {
        fetch.await.expect("ran").expect("released");
    }
    assert_eq!(source.asked.load(Ordering::SeqCst), 1);
    assert_eq!(broker.key_algorithm().as_deref(), Some("ECDH-ES+ML-KEM-768+A256KW"));
    broker.forget_tokens(1);
    client.resource(&key()).await.expect("released");
    assert_eq!(source.asked.load(Ordering::SeqCst), 2, "a new key, a new quote");
    for _ in 0..2 {
        client.token().await.expect("a token");
    }
    assert_eq!(source.asked.load(Ordering::SeqCst), 3, "the workload's token has a key of its own");
    assert_eq!(broker.key_algorithm().as_deref(), Some("ECDH-ES+A256KW"));
}

#[tokio::test]
async fn a_broker_that_knows_no_hybrid_keys_gets_a_classical_one() {
    let broker = FakeBroker::start(Transport::Plain).await;
    broker.know_no_hybrid();
    let client = client(&broker.url, &broker.certificate);
    assert!(client.resource(&key()).await.expect("released").equals(b"the key"));
    assert_eq!(broker.key_algorithm().as_deref(), Some("ECDH-ES+A256KW"));
}

#[tokio::test]
async fn a_token_that_ends_soon_is_not_lent_again() {
    let broker = FakeBroker::start(Transport::Plain).await;
    broker.live_for(10);
    let client = client(&broker.url, &broker.certificate);
    for attestations in 1..3 {
        client.token().await.expect("a token");
        assert_eq!(broker.attestations(), attestations);
    }
}

#[tokio::test]
async fn the_evidence_of_devices_is_sent_and_bound_by_that_of_the_machine() {
    let broker = FakeBroker::start(Transport::Plain).await;
    let source = Arc::new(Stated { with_device: true, ..Stated::default() });
    let client = client_of(&broker.url, &broker.certificate, source);
    // The broker compares what the machine's evidence is bound to with the hash over what was sent.
    client.attest_as_expected().await.expect("attested");
    let sent: Value = serde_json::from_str(&broker.additional()).expect("a map");
    assert_eq!(sent["nvidia"]["bound-to"].as_str().map(str::len), Some(96));
    let devices = client.additional_evidence(b"abc", Binding::Raw).await.expect("evidence");
    let devices: Value = serde_json::from_slice(&devices).expect("JSON");
    assert!(devices["nvidia"]["bound-to"].as_str().is_some_and(|text| text.starts_with("61626300")));
}

#[tokio::test]
async fn an_old_token_is_renewed_and_no_more_than_three_times() {
    let broker = FakeBroker::start(Transport::Plain).await;
    let client = client(&broker.url, &broker.certificate);
    broker.forget_tokens(1);
    assert!(client.resource(&key()).await.expect("released").equals(b"the key"));
    assert_eq!(broker.attestations(), 2);
    broker.forget_tokens(100);
    let error = client.resource(&key()).await.err().expect("never accepted");
    assert_eq!(error.code(), "token.expired");
    assert_eq!(broker.attestations(), 2 + 3);
}

#[tokio::test]
async fn the_brokers_refusal_keeps_its_causes_and_the_attempts_name() {
    let broker = FakeBroker::start(Transport::Plain).await;
    let client = client(&broker.url, &broker.certificate);
    broker.refuse_resources(Code::PolicyDenied, "platform.software");
    let refusal = client.resource(&key()).await.err().expect("denied").refusal();
    assert_eq!(refusal.code, "platform.software");
    assert!(refusal.message.contains("policy.denied"), "{}", refusal.message);
    assert_eq!(refusal.attempt.map(|attempt| attempt.len()), Some(32));
    assert_eq!(broker.attestations(), 1, "a refusal is final");
}

#[tokio::test]
async fn a_contraindicated_machine_is_refused_with_the_failed_check() {
    let broker = FakeBroker::start(Transport::Plain).await;
    broker.judge("measurement.command-line");
    let client = client(&broker.url, &broker.certificate);
    let refusal = client.attest_as_expected().await.expect_err("contraindicated").refusal();
    assert_eq!(refusal.code, "measurement.command-line");
    assert_eq!(refusal.expected.as_deref(), Some("quiet"));
    assert!(client.attest().await.is_ok(), "the token is genuine all the same");
}

#[tokio::test]
async fn a_machine_that_was_not_judged_is_refused() {
    let broker = FakeBroker::start(Transport::Plain).await;
    broker.leave_undecided();
    let client = client(&broker.url, &broker.certificate);
    let refusal = client.attest_as_expected().await.expect_err("undecided").refusal();
    assert_eq!(refusal.code, "attestation.contraindicated");
}

#[tokio::test]
async fn an_absent_broker_is_told_from_one_with_another_certificate() {
    let broker = FakeBroker::start(Transport::Tls).await;
    let other = FakeBroker::start(Transport::Tls).await;
    let error = client(&broker.url, &other.certificate).attest().await.expect_err("foreign");
    assert_eq!(error.code(), "broker.certificate", "{error}");
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        format!("https://{}", listener.local_addr().expect("address"))
    };
    let error = client(&nobody, &broker.certificate).attest().await.expect_err("nobody");
    assert_eq!(error.code(), "broker.unreachable", "{error}");
    assert!(matches!(error, AttestError::Unreachable { attempts: 2, .. }));
}

#[tokio::test]
async fn a_redirection_is_not_followed() {
    let broker = FakeBroker::start(Transport::Plain).await;
    broker.redirect();
    let error = client(&broker.url, &broker.certificate).attest().await.expect_err("redirected");
    assert_eq!(error.code(), "broker.protocol");
    assert!(error.to_string().contains("redirection"), "{error}");
    assert_eq!(broker.attestations(), 0);
}

#[tokio::test]
async fn evidence_for_the_workload_is_over_its_own_data_and_bounded() {
    let broker = FakeBroker::start(Transport::Plain).await;
    let client = client(&broker.url, &broker.certificate);
    let evidence: Value =
        serde_json::from_slice(&client.evidence(b"abc", Binding::Raw).await.expect("evidence"))
            .expect("JSON");
    assert!(evidence["bound-to"].as_str().is_some_and(|text| text.starts_with("61626300")));
    for binding in [Binding::Raw, Binding::Workload] {
        let error = client.evidence(&[0; 65], binding).await.expect_err("too long");
        assert_eq!(error.code(), "attestation.runtime-data");
    }
}

/// Plays a workload that attests with a key of its own and evidence that it was given for the handshake's report data.
/// Gives what is in the evidence, and what the handshake asks for.
async fn stolen_evidence(client: &KeyClient, binding: Binding) -> (String, String) {
    use coffer_core_protocol::handshake::attester::Attester;
    use coffer_core_protocol::handshake::relying_party::{Challenger, ClusterKey};
    let challenger = Challenger::new(ClusterKey::generate().expect("key"), [Tee::Tpm]);
    let own_key = coffer_core_protocol::tee_key::TeeKey::generate().expect("key");
    let (attester, body) = Attester::begin(Tee::Tpm, own_key).expect("begun");
    let issued = challenger.issue(&body, 1000).expect("issued");
    let (challenged, report_data) = attester.on_challenge(&issued.body).expect("challenged");
    let wanted = report_data.field::<64>();
    let evidence = client.evidence(&wanted, binding).await.expect("evidence");
    let evidence: Value = serde_json::from_slice(&evidence).expect("JSON");
    let (_, body) = challenged.evidence(evidence, "", None).expect("evidence");
    let submission = challenger.accept(&issued.cookie, &body, 1000).expect("accepted");
    let found = submission.primary["bound-to"].as_str().expect("text").to_owned();
    // The TPM's quote has the first 32 bytes of either.
    (found[..64].to_owned(), submission.report_data.digest().hex()[..64].to_owned())
}

#[tokio::test]
async fn evidence_of_the_workload_s_own_kind_completes_no_handshake_and_raw_evidence_does() {
    let broker = FakeBroker::start(Transport::Plain).await;
    let client = client(&broker.url, &broker.certificate);
    let (found, wanted) = stolen_evidence(&client, Binding::Workload).await;
    assert_ne!(found, wanted, "a workload could attest as its guest");
    // Why `/aa/evidence` is denied unless init-data allows it.
    let (found, wanted) = stolen_evidence(&client, Binding::Raw).await;
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn a_workload_gets_the_token_with_the_key_that_it_is_bound_to() {
    let broker = FakeBroker::start(Transport::Plain).await;
    let client = client(&broker.url, &broker.certificate);
    let token = client.token().await.expect("token");
    let token: Value = serde_json::from_slice(token.expose()).expect("JSON");
    assert_eq!(token["token"].as_str().map(|text| text.split('.').count()), Some(3));
    let pair = token["tee_keypair"].as_str().expect("the pair");
    assert!(
        pair.starts_with("-----BEGIN PRIVATE KEY-----\n") && pair.ends_with("-----END PRIVATE KEY-----\n")
    );
}

#[test]
fn a_broker_that_cannot_be_pinned_is_refused() {
    for (url, certificate) in [("https://x", ""), ("ftp://x", "x"), ("no url", "x")] {
        let error = Broker::new(url, certificate, PATIENCE).err().expect(url);
        assert_eq!(error.code(), "broker.config");
    }
}
