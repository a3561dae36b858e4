//! The structs against bytes computed by hand (encoding of protocol buffers: key is `tag << 3 | type`).

use prost::Message;

use super::{attestation as at, plugin, reference};

fn check<M: Message + Default + PartialEq>(message: &M, bytes: &[u8]) {
    assert_eq!(message.encode_to_vec(), bytes);
    assert!(&M::decode(bytes).unwrap() == message, "what was encoded is not what was decoded");
}

#[test]
fn attestation_messages_have_the_documented_bytes() {
    let individual = at::IndividualAttestationRequest {
        tee: "tdx".into(),
        evidence: "e30".into(),
        runtime_data: Some(at::RuntimeData::RawRuntimeData("AA".into())),
        init_data: Some(at::InitData::InitDataToml("x=1".into())),
        runtime_data_hash_algorithm: "sm3".into(),
    };
    let inner = b"\x0a\x03tdx\x1a\x03e30\x22\x02AA\x3a\x03x=1\x42\x03sm3";
    check(&individual, inner);
    let other = at::IndividualAttestationRequest {
        runtime_data: Some(at::RuntimeData::StructuredRuntimeData("{}".into())),
        init_data: Some(at::InitData::InitDataDigest("AA".into())),
        ..Default::default()
    };
    check(&other, b"\x2a\x02{}\x32\x02AA");
    let request = at::AttestationRequest {
        verification_requests: vec![individual],
        policy_ids: vec!["p".into(), "q".into()],
    };
    check(&request, &[b"\x0a\x18".as_slice(), inner, b"\x12\x01p\x12\x01q"].concat());
    check(&at::AttestationResponse { attestation_token: "a.b.c".into() }, b"\x0a\x05a.b.c");
    check(&at::SetPolicyRequest { policy_id: "p".into(), policy: "cA".into() }, b"\x0a\x01p\x12\x02cA");
    check(&at::SetPolicyResponse {}, b"");
    let inner = [("tee".to_owned(), "se".to_owned())].into();
    check(&at::ChallengeRequest { inner }, b"\x0a\x09\x0a\x03tee\x12\x02se");
    check(&at::ChallengeResponse { attestation_challenge: "n".into() }, b"\x0a\x01n");
}

#[test]
fn reference_messages_have_the_documented_bytes_and_absent_is_not_empty() {
    check(&reference::ReferenceValueQueryRequest { reference_value_id: "k".into() }, b"\x0a\x01k");
    check(&reference::ReferenceValueQueryResponse { reference_value_results: None }, b"");
    check(
        &reference::ReferenceValueQueryResponse { reference_value_results: Some(String::new()) },
        b"\x0a\x00",
    );
    check(&reference::ReferenceValueRegisterRequest { message: "{}".into() }, b"\x0a\x02{}");
    check(&reference::ReferenceValueRegisterResponse {}, b"");
}

#[test]
fn plugin_messages_have_the_documented_bytes() {
    let request = plugin::PluginRequest {
        body: vec![0xff],
        query: [("a".to_owned(), "b".to_owned())].into(),
        path: vec!["x".into(), "y".into()],
        method: "GET".into(),
    };
    check(&request, b"\x0a\x01\xff\x12\x06\x0a\x01a\x12\x01b\x1a\x01x\x1a\x01y\x22\x03GET");
    let response = plugin::PluginResponse { body: vec![1], status_code: 404, content_type: "a/b".into() };
    check(&response, b"\x0a\x01\x01\x10\x94\x03\x1a\x03a/b");
    let negative = plugin::PluginResponse { status_code: -1, ..Default::default() };
    check(&negative, b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    check(&plugin::ValidateAuthResponse { requires_admin_auth: true }, b"\x08\x01");
    check(&plugin::NeedsEncryptionResponse { requires_payload_encryption: true }, b"\x08\x01");
    check(&plugin::NeedsEncryptionResponse::default(), b"");
}

#[test]
fn unknown_fields_are_skipped_and_broken_ones_refused() {
    // Field 9 is of an older form of the protocol.
    let with_unknown = b"\x0a\x03tdx\x4a\x06sha384\x12\x03cpu";
    assert_eq!(at::IndividualAttestationRequest::decode(with_unknown.as_slice()).unwrap().tee, "tdx");
    for broken in [
        b"\x0a\x05tdx".as_slice(),
        b"\x0a\x01\xff",
        b"\x08\x01",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x00",
        b"\x0b",
    ] {
        assert!(at::IndividualAttestationRequest::decode(broken).is_err(), "{broken:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
        let _ = at::AttestationRequest::decode(bytes.as_slice());
        let _ = at::ChallengeRequest::decode(bytes.as_slice());
        let _ = plugin::PluginRequest::decode(bytes.as_slice());
        let _ = plugin::PluginResponse::decode(bytes.as_slice());
    }
}
