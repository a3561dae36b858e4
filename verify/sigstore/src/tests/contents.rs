//! Refusals of the entry's body, and of what is signed.

use coffer_lab_testpki::sigstore::{
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SigstoreFixture, SigstoreSigner,
};

use super::*;

const BOTH: [Of; 2] = [Of::Message, Of::Envelope];

/// Where the body says hash, signature and certificate.
fn pointers(of: Of) -> [&'static str; 3] {
    match of {
        Of::Message => {
            ["/spec/data/hash/value", "/spec/signature/content", "/spec/signature/publicKey/content"]
        }
        Of::Envelope => {
            ["/spec/payloadHash/value", "/spec/signatures/0/signature", "/spec/signatures/0/verifier"]
        }
    }
}

#[test]
fn a_body_about_another_certificate_signature_or_hash_is_refused() {
    for of in BOTH {
        let mut case = Case::of(of);
        let [hash, signature, certificate] = pointers(of);
        let body = case.fixture.body(&case.signer, &case.member);

        let mut changed = body.clone();
        *changed.pointer_mut(hash).unwrap() = json!(Digest::sha256(b"other").hex());
        case.log_body(&changed);
        assert_eq!(case.code(), "sigstore.entry.hash", "{of:?}");

        let mut changed = body.clone();
        flip(changed.pointer_mut(signature).unwrap());
        case.log_body(&changed);
        assert_eq!(case.code(), "sigstore.entry.signature", "{of:?}");

        let other = case.fixture.certify(&SigstoreSigner::new(WORKFLOW, ISSUER));
        let mut changed = body.clone();
        let theirs = case.fixture.body(&other, &case.member);
        *changed.pointer_mut(certificate).unwrap() = theirs.pointer(certificate).unwrap().clone();
        case.log_body(&changed);
        assert_eq!(case.code(), "sigstore.entry.certificate", "{of:?}");

        case.log_body(&body);
        case.verify().unwrap();
    }
}

#[test]
fn a_body_of_another_kind_or_version_is_refused() {
    for (of, other) in [(Of::Message, Of::Envelope), (Of::Envelope, Of::Message)] {
        let mut case = Case::of(of);
        let body = case.fixture.body(&case.signer, &case.member);
        for (field, value) in [("kind", "intoto"), ("apiVersion", "0.0.2")] {
            let mut changed = body.clone();
            changed[field] = json!(value);
            case.log_body(&changed);
            assert_eq!(case.code(), "sigstore.entry.kind", "{of:?} {value}");
        }
        let swapped = member(&case.fixture, &case.signer, other);
        case.log_body(&case.fixture.body(&case.signer, &swapped));
        assert_eq!(case.code(), "sigstore.entry.kind", "{of:?}");

        // What the bundle says beside the body must agree with it.
        case.log_body(&body);
        case.entry()["kindVersion"]["version"] = json!("0.0.2");
        assert_eq!(case.code(), "sigstore.entry.kind", "{of:?}");
    }
}

#[test]
fn a_body_that_cannot_be_read_is_refused() {
    for of in BOTH {
        let mut case = Case::of(of);
        let mut body = case.fixture.body(&case.signer, &case.member);
        body["spec"] = json!({});
        case.log_body(&body);
        assert_eq!(case.code(), "sigstore.entry.malformed", "{of:?}");
    }
    let mut case = Case::of(Of::Envelope);
    let mut body = case.fixture.body(&case.signer, &case.member);
    let one = body["spec"]["signatures"][0].clone();
    body["spec"]["signatures"] = json!([one, one]);
    case.log_body(&body);
    assert_eq!(case.code(), "sigstore.entry.malformed");
}

#[test]
fn a_signature_by_another_key_or_over_other_bytes_is_refused() {
    for of in BOTH {
        let mut case = Case::of(of);
        let other = case.fixture.certify(&SigstoreSigner::new(WORKFLOW, ISSUER));
        let theirs = member(&case.fixture, &other, of);
        case.log_member(theirs);
        assert_eq!(case.code(), "sigstore.signature", "{of:?}");
    }
    let mut case = Case::of(Of::Envelope);
    let mut changed = case.member.clone();
    let mut payload = statement();
    payload["predicate"] = json!({"changed": true});
    changed["dsseEnvelope"]["payload"] = json!(STANDARD.encode(payload.to_string()));
    case.log_member(changed);
    assert_eq!(case.code(), "sigstore.signature");
}

#[test]
fn signatures_of_every_kind_of_key_are_accepted_and_changed_ones_are_not() {
    for key in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519, &PKCS_RSA_SHA256] {
        let signer = SigstoreSigner { key, ..SigstoreSigner::new(WORKFLOW, ISSUER) };
        let mut case = Case::with(SigstoreFixture::new(), &signer, Of::Envelope);
        case.verify().unwrap();
        let mut changed = case.member.clone();
        flip(&mut changed["dsseEnvelope"]["signatures"][0]["sig"]);
        case.log_member(changed);
        assert_eq!(case.code(), "sigstore.signature");
    }
    let of_message = |key| {
        let signer = SigstoreSigner { key, ..SigstoreSigner::new(WORKFLOW, ISSUER) };
        Case::with(SigstoreFixture::new(), &signer, Of::Message)
    };
    of_message(&PKCS_RSA_SHA256).verify().unwrap();
    assert_eq!(of_message(&PKCS_ED25519).code(), "sigstore.signature.key");
    // The log's hash is SHA-256, and this signature is over SHA-384.
    assert_eq!(of_message(&PKCS_ECDSA_P384_SHA384).code(), "sigstore.signature");
}

#[test]
fn an_envelope_of_another_type_is_refused() {
    let mut case = Case::of(Of::Envelope);
    let payload = statement().to_string();
    let signed = case.fixture.envelope(&case.signer, "application/json", payload.as_bytes());
    case.log_member(signed);
    assert_eq!(case.code(), "sigstore.payload.type");
}

fn signed_statement(payload: &[u8]) -> Case {
    let mut case = Case::of(Of::Envelope);
    case.log_member(case.fixture.envelope(&case.signer, IN_TOTO, payload));
    case
}

#[test]
fn a_statement_of_another_version_or_form_is_refused() {
    let with = |change: fn(&mut Value)| {
        let mut payload = statement();
        change(&mut payload);
        signed_statement(payload.to_string().as_bytes())
    };
    with(|payload| payload["_type"] = json!("https://in-toto.io/Statement/v0.1")).verify().unwrap();
    let changes: [fn(&mut Value); 3] = [
        |payload| payload["_type"] = json!("https://in-toto.io/Statement/v2"),
        |payload| payload["subject"] = json!({}),
        |payload| {
            payload.as_object_mut().unwrap().remove("predicateType");
        },
    ];
    for change in changes {
        assert_eq!(with(change).code(), "sigstore.payload.statement");
    }
    assert_eq!(signed_statement(b"not JSON").code(), "sigstore.payload.statement");
}

#[test]
fn a_statement_about_other_subjects_is_refused() {
    let hex = Digest::sha256(ARTIFACT).hex();
    let subjects = [
        json!([]),
        json!([{"digest": {"sha512": hex}}]),
        json!([{"name": hex}]),
        json!([{"digest": {"sha256": hex.to_uppercase()}}]),
    ];
    for subject in subjects {
        let mut payload = statement();
        payload["subject"] = subject;
        assert_eq!(signed_statement(payload.to_string().as_bytes()).code(), "sigstore.artifact.other");
    }
}

#[test]
fn another_artifact_is_refused() {
    for of in BOTH {
        let mut case = Case::of(of);
        case.artifact = Digest::sha256(b"another artifact");
        assert_eq!(case.code(), "sigstore.artifact.other", "{of:?}");
        case.artifact = Digest::of(coffer_core_digest::Algorithm::Sha384, ARTIFACT);
        assert_eq!(case.code(), "sigstore.artifact.algorithm", "{of:?}");
    }
}
