//! The attestation service's calls over gRPC and REST, reference values that are registered, and plugins' answers.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_server_grpc::wire::{attestation as wire, plugin, reference};
use coffer_server_grpc::{EvaluateRequest, InitData, Registration, RuntimeData, SetPolicy, rest};
use prost::Message;
use serde_json::Value;

/// Decodes each message that is read; of those that are requests, makes the request.
pub fn grpc_message(data: &[u8]) {
    if let Some(message) = decoded::<wire::AttestationRequest>(data)
        && let Ok(request) = EvaluateRequest::from_wire(message)
    {
        check(&request);
    }
    if let Some(message) = decoded::<wire::SetPolicyRequest>(data)
        && let Ok(policy) = SetPolicy::from_wire(message)
    {
        assert!((1..=256).contains(&policy.id.len()));
    }
    let _ = decoded::<wire::ChallengeRequest>(data);
    let _ = decoded::<reference::ReferenceValueQueryRequest>(data);
    let _ = decoded::<plugin::PluginRequest>(data);
    let _ = decoded::<plugin::PluginResponse>(data);
    if let Some(message) = decoded::<reference::ReferenceValueRegisterRequest>(data) {
        let _ = Registration::parse(&message.message);
    }
}

/// Reads a body as that of each REST call. What is taken there is what gRPC would have taken.
pub fn rest_body(data: &[u8]) {
    if let Ok(request) = rest::attestation(data) {
        check(&request);
        let again = EvaluateRequest::from_wire(to_wire(&request)).unwrap();
        // A number with a fraction is not always written and read back to the last bit.
        assert!(again == request || fractions(&request));
    }
    if let Ok(policy) = rest::policy(data) {
        let message = wire::SetPolicyRequest {
            policy_id: policy.id.clone(),
            policy: URL_SAFE_NO_PAD.encode(&policy.rego),
        };
        assert!(SetPolicy::from_wire(message).unwrap() == policy);
    }
    if let Ok(parameters) = rest::challenge(data) {
        assert!(parameters.len() <= 16 && parameters.keys().all(|name| !name.is_empty()));
    }
}

/// Reads what is registered as reference values.
pub fn reference_registration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Registration::parse(text) {
        Ok(Registration::Message { payload, .. }) => assert!(payload.len() < text.len()),
        Ok(Registration::Own(value)) => assert!(value.is_object()),
        Err(error) => assert_eq!(error.code, "reference.invalid"),
    }
}

/// Decodes; what was read is written and read back the same.
fn decoded<M: Message + Default + PartialEq>(data: &[u8]) -> Option<M> {
    let message = M::decode(data).ok()?;
    assert!(M::decode(message.encode_to_vec().as_slice()).unwrap() == message);
    Some(message)
}

fn check(request: &EvaluateRequest) {
    assert!((1..=16).contains(&request.requests.len()) && request.policy_ids.len() <= 16);
    for individual in &request.requests {
        assert_ne!(individual.hash.name(), "sha1");
        if let InitData::Digest(digest) = &individual.init_data {
            assert!((1..=64).contains(&digest.len()));
        }
    }
}

fn fractions(request: &EvaluateRequest) -> bool {
    fn any<'a>(mut values: impl Iterator<Item = &'a Value>) -> bool {
        values.any(|value| match value {
            Value::Number(number) => number.is_f64(),
            Value::Array(members) => any(members.iter()),
            Value::Object(members) => any(members.values()),
            _ => false,
        })
    }
    request.requests.iter().any(|one| match &one.runtime_data {
        RuntimeData::Structured(members) => any([&one.evidence].into_iter().chain(members.values())),
        _ => any([&one.evidence].into_iter()),
    })
}

fn to_wire(request: &EvaluateRequest) -> wire::AttestationRequest {
    let individual = |one: &coffer_server_grpc::IndividualRequest| wire::IndividualAttestationRequest {
        tee: one.tee.clone(),
        evidence: URL_SAFE_NO_PAD.encode(one.evidence.to_string()),
        runtime_data: match &one.runtime_data {
            RuntimeData::None => None,
            RuntimeData::Raw(bytes) => Some(wire::RuntimeData::RawRuntimeData(URL_SAFE_NO_PAD.encode(bytes))),
            RuntimeData::Structured(members) => {
                let text = serde_json::to_string(members).unwrap();
                Some(wire::RuntimeData::StructuredRuntimeData(text))
            }
        },
        init_data: match &one.init_data {
            InitData::None => None,
            InitData::Digest(digest) => Some(wire::InitData::InitDataDigest(URL_SAFE_NO_PAD.encode(digest))),
            InitData::Toml(text) => Some(wire::InitData::InitDataToml(text.clone())),
        },
        runtime_data_hash_algorithm: one.hash.name().to_owned(),
    };
    wire::AttestationRequest {
        verification_requests: request.requests.iter().map(individual).collect(),
        policy_ids: request.policy_ids.clone(),
    }
}

const REST: &str = r#"{"verification_requests":[{"tee":"tdx","evidence":"eyJxdW90ZSI6IkFBQSJ9","runtime_data":{"structured":{"nonce":"AA","tee-pubkey":{"kty":"EC"}}},"init_data":{"init_data_digest":"AAAA"},"runtime_data_hash_algorithm":"sha384"},{"tee":"nvidia","evidence":"e30","runtime_data":{"raw":"AAEC"},"init_data":{"init_data_toml":"version = \"0.1.0\""}}],"policy_ids":["default"]}"#;

pub(crate) fn message_seeds() -> Vec<Vec<u8>> {
    let request = rest::attestation(REST.as_bytes()).unwrap();
    let text = |text: &str| text.to_owned();
    vec![
        to_wire(&request).encode_to_vec(),
        wire::SetPolicyRequest { policy_id: text("p"), policy: text("cGFja2FnZSBw") }.encode_to_vec(),
        wire::ChallengeRequest {
            inner: [(text("tee"), text("se")), (text("tee_params"), text("{}"))].into(),
        }
        .encode_to_vec(),
        reference::ReferenceValueRegisterRequest { message: text(r#"{"type":"sample","payload":"e30"}"#) }
            .encode_to_vec(),
        plugin::PluginRequest {
            body: vec![0xff],
            query: [(text("a"), text("b"))].into(),
            path: vec![text("x"), text("y")],
            method: text("GET"),
        }
        .encode_to_vec(),
        plugin::PluginResponse { body: vec![1], status_code: 404, content_type: text("a/b") }.encode_to_vec(),
    ]
}

pub(crate) fn body_seeds() -> Vec<Vec<u8>> {
    let policy = r#"{"policy_id":"p","policy":"cGFja2FnZSBw"}"#;
    [REST, policy, r#"{"tee":"se","tee_params":"{\"a\":1}"}"#].map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(crate) fn registration_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"version":"0.1.0","type":"sample","payload":"eyJhIjpbIjEiXX0="}"#,
        r#"{"type":"corim","payload":"-_8"}"#,
        r#"{"platform":"tdx","registers":[{"index":0,"values":["aa"]}]}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
