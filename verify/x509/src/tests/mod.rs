//! Claims about paths: what is accepted, and which certificate is blamed for what is not.

mod readers;

use coffer_lab_testpki::{Authority, EKU_SERVER, Leaf as Content, TpmFixture};
use proptest::prelude::*;

use super::*;

/// 2026-11-20.
const NOW: i64 = 1_795_132_800;
const AK: &[Purpose] = &[Purpose::ATTESTATION_KEY, Purpose::ENDORSEMENT_KEY];

struct Chain {
    root: Authority,
    middle: Authority,
    spki: Vec<u8>,
}

fn chain() -> Chain {
    let root = Authority::root("the root");
    let middle = root.intermediate("the middle");
    Chain { root, middle, spki: TpmFixture::default().spki_der() }
}

impl Chain {
    fn leaf(&self, content: &Content) -> Vec<Vec<u8>> {
        vec![self.middle.certify_with(&self.spki, content), self.middle.der()]
    }

    fn refusal(&self, sent: &[Vec<u8>]) -> String {
        verify_path(sent, &[self.root.der()], AK, NOW).expect_err("accepted").to_string()
    }
}

#[test]
fn a_path_gives_the_leafs_key_and_the_anchor_that_it_ends_at() {
    let chain = chain();
    let anchors = [Authority::root("another").der(), chain.root.der()];
    let leaf = verify_path(&chain.leaf(&Content::default()), &anchors, AK, NOW).unwrap();
    assert_eq!(leaf, Leaf { spki_der: chain.spki.clone(), anchor: 1 });
    // A root that is sent along changes nothing.
    let mut with_root = chain.leaf(&Content::default());
    with_root.push(chain.root.der());
    assert_eq!(verify_path(&with_root, &anchors, AK, NOW).unwrap().anchor, 1);
}

#[test]
fn an_expired_certificate_is_named_with_its_end() {
    let chain = chain();
    let ended = Content { until: 1_700_000_000, ..Content::default() };
    assert_eq!(
        chain.refusal(&chain.leaf(&ended)),
        "the leaf certificate (\"test attestation key\") expired at 2023-11-14T22:13:20Z; \
         the time is 2026-11-20T00:00:00Z"
    );
    let early = Content { from: 1_900_000_000, ..Content::default() };
    assert!(chain.refusal(&chain.leaf(&early)).contains("is valid only from 2030-03-17T17:46:40Z"));

    let middle = chain.root.intermediate_until("the old middle", 1_700_000_000);
    let sent = [middle.certify(&chain.spki), middle.der()];
    assert!(chain.refusal(&sent).starts_with("certificate 1 above the leaf (\"the old middle\") expired"));

    let root = Authority::root_until("the old root", 1_700_000_000);
    let refused = verify_path(&[root.certify(&chain.spki)], &[root.der()], AK, NOW).expect_err("accepted");
    assert!(refused.to_string().starts_with("trust anchor 0 (\"the old root\") expired"), "{refused}");
}

#[test]
fn an_issuer_that_nobody_knows_is_named() {
    let chain = chain();
    let sent = chain.leaf(&Content::default());
    assert_eq!(
        chain.refusal(&sent[..1]),
        "the issuer of the leaf certificate (\"test attestation key\"), \"the middle\", \
         is neither a trust anchor nor among the certificates sent"
    );
    let elsewhere = verify_path(&sent, &[Authority::root("elsewhere").der()], AK, NOW).expect_err("accepted");
    assert!(elsewhere.to_string().contains("certificate 1 above the leaf (\"the middle\"), \"the root\""));
}

#[test]
fn a_signature_by_another_key_of_the_same_name_is_blamed_on_the_right_certificate() {
    let chain = chain();
    let namesake = Authority::root("the root");
    let refused = verify_path(&chain.leaf(&Content::default()), &[namesake.der()], AK, NOW);
    assert_eq!(
        refused.expect_err("accepted").to_string(),
        "the signature on certificate 1 above the leaf (\"the middle\") is not by the key of its issuer \"the root\""
    );
    let namesake = chain.root.intermediate("the middle");
    let sent = [namesake.certify(&chain.spki), chain.middle.der()];
    assert!(chain.refusal(&sent).starts_with("the signature on the leaf certificate"));
}

#[test]
fn a_certificate_for_another_purpose_is_refused_and_so_is_one_that_names_none() {
    let chain = chain();
    let server = Content { purposes: vec![EKU_SERVER.to_vec()], ..Content::default() };
    assert!(chain.refusal(&chain.leaf(&server)).ends_with(
        "is not for the purpose tcg-kp-AIKCertificate (2.23.133.8.3) or tcg-kp-EKCertificate (2.23.133.8.1); \
         it is for 1.3.6.1.5.5.7.3.1"
    ));
    let none = Content { purposes: Vec::new(), ..Content::default() };
    assert!(
        chain
            .refusal(&chain.leaf(&none))
            .starts_with("the leaf certificate (\"test attestation key\") is not")
    );
    assert!(chain.refusal(&chain.leaf(&none)).ends_with("it is for no purpose that it names"));
    // Whoever asks for no purpose gets none checked, and one that will do may stand beside others.
    verify_path(&chain.leaf(&none), &[chain.root.der()], &[], NOW).unwrap();
    let purposes = vec![EKU_SERVER.to_vec(), coffer_lab_testpki::EKU_ATTESTATION_KEY.to_vec()];
    let both = Content { purposes, ..Content::default() };
    verify_path(&chain.leaf(&both), &[chain.root.der()], AK, NOW).unwrap();
}

#[test]
fn an_anchor_that_is_not_among_the_trusted_is_not_taken_for_the_first() {
    let (own, foreign) = (Authority::root("own").der(), Authority::root("foreign").der());
    let (own, foreign) = (CertificateDer::from(own), CertificateDer::from(foreign));
    let read = |der| anchor_from_trusted_cert(der).unwrap();
    assert_eq!(place_of(&read(&own), &[read(&foreign), read(&own)]), Ok(1));
    assert!(matches!(place_of(&read(&foreign), &[read(&own)]), Err(PathError::Rule(_))));
}

#[test]
fn what_is_no_certificate_is_refused() {
    let chain = chain();
    assert_eq!(verify_path(&[], &[chain.root.der()], AK, NOW), Err(PathError::NoCertificate));
    assert_eq!(verify_path(&chain.leaf(&Content::default()), &[], AK, NOW), Err(PathError::NoAnchor));
    assert_eq!(verify_path(&[vec![0]], &[chain.root.der()], AK, -1), Err(PathError::Time(-1)));
    assert!(chain.refusal(&[vec![0x30, 0]]).starts_with("the leaf certificate is not a certificate"));
    let authority = Content { is_ca: chain_ca(), ..Content::default() };
    assert!(chain.refusal(&chain.leaf(&authority)).contains("make no path"));
}

fn chain_ca() -> coffer_lab_testpki::IsCa {
    coffer_lab_testpki::IsCa::Ca(coffer_lab_testpki::BasicConstraints::Unconstrained)
}

fn vector(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let Ok(bytes) = std::fs::read(format!("{folder}/tpm/{name}")) else {
        println!("skipped: no vectors ({name})");
        return None;
    };
    match bytes.starts_with(b"-----") {
        true => {
            use rustls_pki_types::pem::PemObject as _;
            Some(CertificateDer::from_pem_slice(&bytes).unwrap().to_vec())
        }
        false => Some(bytes),
    }
}

#[test]
fn the_authorities_of_google_and_of_swtpm_are_read_as_they_are() {
    // Authorities are no leaves, so that is the one rule that they break.
    for (issued, root) in [
        ("gcp_ek_ak_ca_intermediate_v3.crt", "gcp_ek_ak_ca_root.crt"),
        ("tpm_ek_intermediate_3.crt", "tpm_ek_root_1.cer"),
    ] {
        let (Some(issued), Some(root)) = (vector(issued), vector(root)) else { return };
        let refused = verify_path(&[issued], &[root], AK, NOW).expect_err("accepted").to_string();
        assert!(refused.contains("CaUsedAsEndEntity"), "{refused}");
    }
    let (Some(leaf), Some(issuer), Some(root)) = (
        vector("swtpm/ek_cert_rsa.der"),
        vector("swtpm/issuercert.pem"),
        vector("swtpm/swtpm-localca-rootca-cert.pem"),
    ) else {
        return;
    };
    // This authority was made on 2026-11-20, later in the day than the other tests' time.
    verify_path(&[leaf, issuer], &[root], AK, NOW + 3 * 86_400).unwrap();
}

proptest! {
    #[test]
    fn a_changed_certificate_never_panics_and_never_gives_another_key(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let chain = chain();
        let mut sent = chain.leaf(&Content::default());
        let at = at.index(sent[0].len());
        sent[0][at] ^= 1 << bit;
        if let Ok(leaf) = verify_path(&sent, &[chain.root.der()], AK, NOW) {
            prop_assert_eq!(leaf.spki_der, chain.spki);
            prop_assert!(false, "a changed certificate was accepted");
        }
    }
}
