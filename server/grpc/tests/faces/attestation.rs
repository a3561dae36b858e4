//! The attestation service and the provider of reference values, as their clients see them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use coffer_core_secret::Secret;
use coffer_server_grpc::wire::{attestation as at, reference as rv};
use coffer_server_grpc::{
    CODE_METADATA, CallError, CallOptions, Channel, Endpoint, Limits, Listener, Plaintext, Security, Services,
};
use tonic::{Code, Status};

use crate::peer::{Broker, Pki, Server, WITHIN, run, services};

fn plain(server: &Server) -> Channel {
    let text = format!("http://{}", server.address);
    Channel::lazy(Endpoint::parse(&text, None, None, Plaintext::LocalOnly).unwrap())
}

fn request(tee: &str) -> at::AttestationRequest {
    let one =
        at::IndividualAttestationRequest { tee: tee.into(), evidence: "e30".into(), ..Default::default() };
    at::AttestationRequest { verification_requests: vec![one], policy_ids: vec![] }
}

fn options(bearer: Option<&Secret<String>>) -> CallOptions<'_> {
    CallOptions { within: WITHIN, bearer, tenant: None }
}

async fn evaluate(channel: &Channel, service: &str, tee: &str) -> Result<String, CallError> {
    let answer: at::AttestationResponse =
        channel.unary(service, "AttestationEvaluate", request(tee), options(None)).await?;
    Ok(answer.attestation_token)
}

fn status(error: CallError) -> (Code, String) {
    match error {
        CallError::Status(status) => (status.code(), code(&status)),
        other => panic!("{other}"),
    }
}

fn code(status: &Status) -> String {
    status.metadata().get(CODE_METADATA).map(|code| code.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn evidence_is_judged_over_cleartext_tls_and_unix() {
    let server = Server::start(services(), Security::Local, Limits::default()).await;
    let answer = evaluate(&plain(&server), at::SERVICE, "tdx").await.unwrap();
    assert_eq!(answer, "tdx {} none 127.0.0.1 false");

    let pki = Pki::new();
    let server = Server::start(services(), Security::Tls(pki.server.clone()), Limits::default()).await;
    let text = format!("https://{}", server.address);
    let trusted = Some(pki.authority_pem.as_bytes());
    for (identity, expected) in [(None, "false"), (Some(pki.identity()), "true")] {
        let endpoint = Endpoint::parse(&text, trusted, identity.as_ref(), Plaintext::LocalOnly).unwrap();
        let answer = evaluate(&Channel::lazy(endpoint), at::SERVICE, "snp").await.unwrap();
        assert_eq!(answer, format!("snp {{}} none 127.0.0.1 {expected}"));
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = Listener::Unix(tokio::net::UnixListener::bind(&path).unwrap());
    let (_stop, _task) = run(listener, services(), Security::Local, Limits::default());
    let text = format!("unix:{}", path.display());
    let endpoint = Endpoint::parse(&text, None, None, Plaintext::LocalOnly).unwrap();
    assert!(evaluate(&Channel::lazy(endpoint), at::SERVICE, "tdx").await.is_ok());
}

#[tokio::test]
async fn a_tenant_is_named_by_path_or_metadata_and_not_twice() {
    let server = Server::start(services(), Security::Local, Limits::default()).await;
    let channel = plain(&server);
    let prefixed = format!("t/acme/{}", at::SERVICE);
    assert_eq!(evaluate(&channel, &prefixed, "tdx").await.unwrap(), "tdx {} acme 127.0.0.1 false");
    for (service, expected) in [(at::SERVICE, Ok("other")), (prefixed.as_str(), Err(Code::InvalidArgument))] {
        let tenant = "other".parse().unwrap();
        let options = CallOptions { within: WITHIN, bearer: None, tenant: Some(&tenant) };
        let answer: Result<at::AttestationResponse, _> =
            channel.unary(service, "AttestationEvaluate", request("tdx"), options).await;
        match expected {
            Ok(name) => assert!(answer.unwrap().attestation_token.contains(name)),
            Err(code) => assert_eq!(status(answer.unwrap_err()).0, code),
        }
    }
}

#[tokio::test]
async fn refusals_carry_their_status_and_code() {
    let server = Server::start(services(), Security::Local, Limits::default()).await;
    let channel = plain(&server);
    let refused = status(evaluate(&channel, at::SERVICE, "refused").await.unwrap_err());
    assert_eq!(refused, (Code::FailedPrecondition, "attestation.refused".into()));
    let refused = status(evaluate(&channel, at::SERVICE, "").await.unwrap_err());
    assert_eq!(refused, (Code::InvalidArgument, "request.malformed".into()));
    let refused = status(evaluate(&channel, "attestation.Other", "tdx").await.unwrap_err());
    assert_eq!(refused, (Code::Unimplemented, "request.route".into()));
    // A service without a backend is none.
    let refused = status(evaluate(&channel, "kbs.plugin.v1.KbsPlugin", "tdx").await.unwrap_err());
    assert_eq!(refused.0, Code::Unimplemented);
}

#[tokio::test]
async fn storing_a_policy_or_values_needs_the_backends_consent() {
    let server = Server::start(services(), Security::Local, Limits::default()).await;
    let channel = plain(&server);
    let (right, wrong) = (Secret::new("admin".to_owned()), Secret::new("guest".to_owned()));
    for (bearer, expected) in [
        (None, Some((Code::Unauthenticated, "admin.unauthenticated".to_owned()))),
        (Some(&wrong), Some((Code::PermissionDenied, "admin.denied".to_owned()))),
        (Some(&right), None),
    ] {
        let policy = at::SetPolicyRequest { policy_id: "p".into(), policy: "cGFja2FnZSBw".into() };
        let stored: Result<at::SetPolicyResponse, _> =
            channel.unary(at::SERVICE, "SetAttestationPolicy", policy, options(bearer)).await;
        assert_eq!(stored.err().map(status), expected);
        let message = r#"{"version":"0.1.0","type":"sample","payload":"e30="}"#.to_owned();
        let values = rv::ReferenceValueRegisterRequest { message };
        let stored: Result<rv::ReferenceValueRegisterResponse, _> =
            channel.unary(rv::SERVICE, "RegisterReferenceValue", values, options(bearer)).await;
        assert_eq!(stored.err().map(status), expected);
    }
}

#[tokio::test]
async fn challenges_and_reference_values_are_answered() {
    let server = Server::start(services(), Security::Local, Limits::default()).await;
    let channel = plain(&server);
    let asked = at::ChallengeRequest { inner: [("tee".to_owned(), "se".to_owned())].into() };
    let answer: at::ChallengeResponse =
        channel.unary(at::SERVICE, "GetAttestationChallenge", asked, options(None)).await.unwrap();
    assert_eq!(answer.attestation_challenge, "nonce for se");
    for (name, expected) in [("known", Some(r#"["a",1]"#)), ("other", None)] {
        let asked = rv::ReferenceValueQueryRequest { reference_value_id: name.into() };
        let answer: rv::ReferenceValueQueryResponse =
            channel.unary(rv::SERVICE, "QueryReferenceValue", asked, options(None)).await.unwrap();
        assert_eq!(answer.reference_value_results.as_deref(), expected);
    }
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_the_backend_stops() {
    let broker = Arc::new(Broker::default());
    let services = Services::new().attestation(broker.clone());
    let limits = Limits { call: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(services, Security::Local, limits).await;
    // The server's limit holds where the client would wait longer.
    let refused = status(evaluate(&plain(&server), at::SERVICE, "endless").await.unwrap_err());
    assert_eq!(refused, (Code::DeadlineExceeded, "request.deadline".into()));
    assert_eq!(broker.abandoned.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_orderly_end_waits_for_open_calls() {
    let limits = Limits { call: Duration::from_millis(300), ..Limits::default() };
    let mut server = Server::start(services(), Security::Local, limits).await;
    let channel = plain(&server);
    evaluate(&channel, at::SERVICE, "tdx").await.unwrap();
    let open = tokio::spawn(async move { evaluate(&channel, at::SERVICE, "endless").await });
    tokio::task::yield_now().await;
    server.ask_to_stop();
    // Answered by the server, or refused as not begun; never cut.
    let (code, _) = status(open.await.unwrap().unwrap_err());
    assert!(matches!(code, Code::DeadlineExceeded | Code::Unavailable), "{code:?}");
    server.ended().await;
}
