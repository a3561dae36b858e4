//! Refusals of the signer's certificate: its chain, time, purpose, timestamp and identity.

use coffer_lab_testpki::sigstore::{
    Purpose, SIGSTORE_TIME, SigstoreFixture, SigstoreSigner, SigstoreTimestamp,
};

use super::*;

fn signer() -> SigstoreSigner {
    SigstoreSigner::new(WORKFLOW, ISSUER)
}

fn of(signer: &SigstoreSigner) -> Case {
    Case::with(SigstoreFixture::new(), signer, Of::Message)
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let mut case = of(&signer());
    let other = SigstoreFixture::new().trust_root();
    case.root["certificateAuthorities"] = other["certificateAuthorities"].clone();
    assert_eq!(case.code(), "sigstore.certificate.chain");
    case.root["certificateAuthorities"] = json!([]);
    assert_eq!(case.code(), "sigstore.certificate.chain");

    // One of several authorities is enough, and their certificates may stand in either order.
    let mut case = of(&signer());
    let own = case.root["certificateAuthorities"][0].clone();
    case.root["certificateAuthorities"] = json!([other["certificateAuthorities"][0], own]);
    case.verify().unwrap();
    let chain = &mut case.root["certificateAuthorities"][1]["certChain"]["certificates"];
    chain.as_array_mut().unwrap().reverse();
    case.verify().unwrap();
}

#[test]
fn a_certificate_with_a_changed_signature_is_refused() {
    let mut case = of(&signer());
    flip(&mut case.bundle["verificationMaterial"]["certificate"]["rawBytes"]);
    assert_eq!(case.code(), "sigstore.certificate.chain");
    case.bundle["verificationMaterial"]["certificate"]["rawBytes"] = json!("MAA=");
    assert_eq!(case.code(), "sigstore.certificate.malformed");
}

#[test]
fn a_certificate_that_is_not_valid_at_the_log_s_time_is_refused() {
    for (from, holds) in [(-601, false), (-600, true), (0, true), (1, false)] {
        let from = SIGSTORE_TIME.checked_add_signed(from).unwrap();
        let case = of(&SigstoreSigner { from, ..signer() });
        let found = case.verify().map(|_| ()).map_err(|cause| cause.code());
        assert_eq!(found, if holds { Ok(()) } else { Err("sigstore.certificate.time") }, "{from}");
    }
}

#[test]
fn an_authority_outside_of_its_window_is_refused() {
    for window in [json!({"start": "2026-01-01T00:00:01Z"}), json!({"end": "2025-12-31T23:59:59Z"})] {
        let mut case = of(&signer());
        case.root["certificateAuthorities"][0]["validFor"] = window;
        assert_eq!(case.code(), "sigstore.certificate.authority-window");
    }
}

#[test]
fn a_certificate_for_another_purpose_is_refused() {
    for purposes in [vec![], vec![Purpose::ServerAuth], vec![Purpose::Any]] {
        let case = of(&SigstoreSigner { purposes, ..signer() });
        assert_eq!(case.code(), "sigstore.certificate.purpose");
    }
    of(&SigstoreSigner { purposes: vec![Purpose::ServerAuth, Purpose::CodeSigning], ..signer() })
        .verify()
        .unwrap();
}

#[test]
fn an_intermediate_for_another_purpose_is_refused() {
    let with = |purposes| {
        let fixture = SigstoreFixture::with_log(&coffer_lab_testpki::sigstore::PKCS_ED25519, purposes);
        Case::with(fixture, &signer(), Of::Message)
    };
    with(vec![]).verify().unwrap();
    assert_eq!(with(vec![Purpose::ServerAuth]).code(), "sigstore.certificate.purpose");
}

#[test]
fn a_certificate_without_a_timestamp_of_a_trusted_ct_log_is_refused() {
    let code = |timestamp| of(&SigstoreSigner { timestamp, ..signer() }).code();
    assert_eq!(code(SigstoreTimestamp::Absent), "sigstore.sct.missing");
    assert_eq!(code(SigstoreTimestamp::Changed), "sigstore.sct.signature");
    assert_eq!(code(SigstoreTimestamp::Foreign), "sigstore.sct.unknown-log");
    of(&SigstoreSigner { timestamp: SigstoreTimestamp::Second, ..signer() }).verify().unwrap();

    let mut case = of(&signer());
    case.root["ctlogs"] = json!([]);
    assert_eq!(case.code(), "sigstore.sct.unknown-log");
    let mut case = of(&signer());
    let other = SigstoreFixture::new().trust_root();
    case.root["ctlogs"][0]["publicKey"] = other["ctlogs"][0]["publicKey"].clone();
    assert_eq!(case.code(), "sigstore.sct.signature");
}

#[test]
fn a_timestamp_outside_of_the_ct_log_s_window_is_refused() {
    // The timestamp is a minute before the log's time.
    for window in [json!({"start": "2025-12-31T23:59:00.001Z"}), json!({"end": "2025-12-31T23:58:59.999Z"})] {
        let mut case = of(&signer());
        case.root["ctlogs"][0]["publicKey"]["validFor"] = window;
        assert_eq!(case.code(), "sigstore.sct.window");
    }
}

#[test]
fn a_list_of_timestamps_that_cannot_be_read_is_refused() {
    let code =
        |list: Vec<u8>| of(&SigstoreSigner { timestamp: SigstoreTimestamp::Raw(list), ..signer() }).code();
    for list in
        [vec![], vec![0], vec![0, 0], vec![0, 1, 0], vec![0, 3, 0, 1, 0], [vec![0, 27], vec![0; 27]].concat()]
    {
        assert_eq!(code(list.clone()), "sigstore.sct.malformed", "{list:?}");
    }
    // Of another version only: there is none that counts.
    assert_eq!(code(vec![0, 3, 0, 1, 1]), "sigstore.sct.missing");
}

#[test]
fn another_signer_is_refused() {
    for subject in ["https://forge.test/team/app/.ci/release.yml@refs/tags/v", "someone@example.test", ""] {
        let mut case = of(&signer());
        case.identity.subject = subject.to_owned();
        assert_eq!(case.code(), "sigstore.identity.subject", "{subject}");
    }
    let mut case = of(&SigstoreSigner::new("someone@example.test", ISSUER));
    case.verify().unwrap();
    case.identity.subject = "Someone@example.test".to_owned();
    assert_eq!(case.code(), "sigstore.identity.subject");
}

#[test]
fn a_certificate_with_two_names_or_none_is_refused() {
    let two =
        of(&SigstoreSigner { subjects: vec![WORKFLOW.to_owned(), "a@example.test".to_owned()], ..signer() });
    assert_eq!(two.code(), "sigstore.identity.subject");
    let mut none = of(&signer());
    let certificate = none.fixture.certify(&SigstoreSigner { subjects: vec![], ..signer() });
    none.signer = certificate;
    none.log_member(none.member.clone());
    assert_eq!(none.code(), "sigstore.identity.subject");
}

#[test]
fn another_issuer_is_refused() {
    let mut case = of(&signer());
    case.identity.issuer = "https://issuer.test/".to_owned();
    assert_eq!(case.code(), "sigstore.identity.issuer");

    let named = |issuer: Option<&str>, raw: Option<&str>| {
        let (issuer, issuer_raw) = (issuer.map(str::to_owned), raw.map(str::to_owned));
        of(&SigstoreSigner { issuer, issuer_raw, ..signer() })
            .verify()
            .map(|_| ())
            .map_err(|cause| cause.code())
    };
    let refused = Err("sigstore.identity.issuer");
    assert_eq!(named(Some(ISSUER), None), Ok(()));
    assert_eq!(named(None, Some(ISSUER)), Ok(()));
    assert_eq!(named(None, None), refused);
    assert_eq!(named(Some("https://other.test"), Some(ISSUER)), refused);
    assert_eq!(named(Some(ISSUER), Some("https://other.test")), refused);
}
