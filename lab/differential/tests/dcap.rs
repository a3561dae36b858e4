//! Our judges of Intel's quotes beside dcap-qvl, on real quotes, on quotes of our own, and on ten thousand changes.
//!
//! Both must accept or both must refuse, and what both accept must have the same TCB status and advisories. Where we
//! mean to differ stands in [`meant`], with the reason; nothing else may differ.

#![allow(clippy::unwrap_used, reason = "a test")]

// The same changes as the fuzz targets' tests make, without all that those depend on.
#[path = "../../fuzz-targets/src/mutate.rs"]
#[allow(unreachable_pub, reason = "it is public there")]
mod mutate;

use std::sync::Arc;

use coffer_core_evidence::ReportData;
use coffer_core_evidence::dcap::{Body, Quote, SgxEvidence, TdAttributes, TdxEvidence};
use coffer_lab_testpki::dcap::{DcapFixture, Enclave, ISSUED, TrustDomain, shelf_of};
use coffer_verify_api::{
    Check, Claims, Fault, Judgement, Question, Shelf, TcbStatus, Timestamp, Verified, Verifier,
};
use coffer_verify_dcap::Dcap;
use coffer_verify_sgx::SgxJudge;
use coffer_verify_tdx::TdxJudge;
use coffer_verify_x509::pem_certificates;
use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::verify::QuoteVerifier;
use serde_json::{Value, json};

/// Of all changes together.
const CHANGES: u64 = 10_000;

/// A quote with its collateral, and the root that both trust.
struct Subject {
    name: &'static str,
    quote: Vec<u8>,
    collateral: QuoteCollateralV3,
    shelf: Shelf,
    dcap: Arc<Dcap>,
    root: Vec<u8>,
    at: i64,
}

impl Subject {
    fn of_vectors(name: &'static str, collateral: &str, at: i64) -> Option<Self> {
        let folder = std::env::var("COFFER_VECTORS")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
        let read = |file: &str| std::fs::read(format!("{folder}/{file}")).ok();
        let (Some(quote), Some(text)) = (read(name), read(collateral)) else {
            println!("skipped: no vectors ({name})");
            return None;
        };
        let quote = match name.ends_with(".hex") {
            true => hex::decode(String::from_utf8(quote).unwrap().trim().trim_start_matches("0x")).unwrap(),
            false => quote,
        };
        Some(Self {
            name,
            quote,
            collateral: serde_json::from_slice(&text).unwrap(),
            shelf: shelf_of(&serde_json::from_slice(&text).unwrap()),
            dcap: Arc::new(Dcap::intel().unwrap()),
            root: include_bytes!("../../../verify/dcap/src/data/intel-sgx-root-ca.der").to_vec(),
            at,
        })
    }

    fn of_fixture(
        name: &'static str,
        fixture: &DcapFixture,
        quote: Vec<u8>,
        info: &Value,
        identity: &Value,
    ) -> Self {
        let chain = [fixture.signer.pem(), fixture.root.pem()].concat();
        let sign = |content: &Value| hex::encode(fixture.signer.sign(content.to_string().as_bytes()));
        let crl = |by: &coffer_lab_testpki::dcap::Certified| {
            hex::encode(by.crl(&[], ISSUED, coffer_lab_testpki::dcap::NEXT_UPDATE))
        };
        let collateral = json!({
            "pck_crl_issuer_chain": format!("{}{}", fixture.ca.pem(), fixture.root.pem()),
            "root_ca_crl": crl(&fixture.root),
            "pck_crl": crl(&fixture.ca),
            "tcb_info_issuer_chain": chain,
            "tcb_info": info.to_string(),
            "tcb_info_signature": sign(info),
            "qe_identity_issuer_chain": chain,
            "qe_identity": identity.to_string(),
            "qe_identity_signature": sign(identity),
        });
        Self {
            name,
            quote,
            shelf: shelf_of(&collateral),
            collateral: serde_json::from_value(collateral).unwrap(),
            dcap: Arc::new(Dcap::new(vec![fixture.root.der().to_vec()]).unwrap()),
            root: fixture.root.der().to_vec(),
            at: i64::try_from(ISSUED).unwrap() + 86_400,
        }
    }
}

/// What one of the two says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Accepted { status: String, advisories: Vec<String> },
    Refused(String),
}

fn theirs(subject: &Subject, quote: &[u8]) -> Said {
    // Debug and service TDs are for the owner's policy with us, so they are allowed there.
    let verifier = QuoteVerifier::new(subject.root.clone()).allow_debug(true).allow_service_td(true);
    match verifier.verify(quote, &subject.collateral, u64::try_from(subject.at).unwrap()) {
        Ok(report) => Said::Accepted { status: report.status, advisories: report.advisory_ids },
        Err(cause) => Said::Refused(format!("{cause:#}")),
    }
}

fn ours(subject: &Subject, quote: &[u8]) -> Said {
    let parsed = Quote::parse(quote);
    // The challenge is whatever the quote answers: the other verifier leaves it to its caller.
    let field = match parsed.as_ref().map(|quote| &quote.body) {
        Ok(Body::Td(report)) => report.report_data,
        Ok(Body::Sgx(report)) => report.report_data,
        Err(_) => [0; 64],
    };
    let algorithm = coffer_core_digest::Algorithm::Sha512;
    let digest = coffer_core_digest::Digest::from_bytes(algorithm, &field).unwrap();
    let report_data = ReportData::from_runtime_hash(digest);
    let is_sgx = matches!(parsed.as_ref().map(|quote| &quote.body), Ok(Body::Sgx(_)));
    let quote = quote.to_vec();
    let (judge, evidence): (Box<dyn Verifier>, Value) = match is_sgx {
        true => (Box::new(SgxJudge::new(Arc::clone(&subject.dcap))), SgxEvidence { quote }.to_wire()),
        false => (
            Box::new(TdxJudge::new(Arc::clone(&subject.dcap))),
            TdxEvidence { quote, cc_eventlog: None }.to_wire(),
        ),
    };
    let judgement = judge.verify(&Question {
        evidence: &evidence,
        report_data: &report_data,
        init_data: None,
        collateral: &subject.shelf,
        at: Timestamp::from_second(subject.at).unwrap(),
    });
    match judgement {
        Ok(Judgement::Verified(verified)) => told(&verified),
        Ok(Judgement::Rejected(checks)) => {
            let codes: Vec<&str> =
                checks.iter().flat_map(Check::causes).map(|check| check.code.as_str()).collect();
            Said::Refused(codes.join(" "))
        }
        Err(Fault::CollateralUnavailable(keys)) => Said::Refused(format!("unavailable {keys:?}")),
        Err(fault) => panic!("{fault}"),
    }
}

fn told(verified: &Verified<Claims>) -> Said {
    let tcb = verified.get().posture.tcb.as_ref().unwrap();
    Said::Accepted { status: tcb.status.unwrap().name().into(), advisories: tcb.advisories.clone() }
}

/// Why the two differ where we mean to; none where they must not.
fn meant(quote: &[u8], ours: &Said, theirs: &Said) -> Option<&'static str> {
    let parsed = Quote::parse(quote).ok();
    match (ours, theirs) {
        (Said::Accepted { status, .. }, Said::Refused(cause)) => {
            let body = &parsed.as_ref()?.body;
            let version = parsed.as_ref()?.header.version;
            let attributes = match body {
                Body::Td(report) => Some(report.td_attributes),
                Body::Sgx(_) => None,
            };
            let has = |bits| attributes.is_some_and(|attributes| attributes.has(bits));
            match () {
                () if status == TcbStatus::Revoked.name() && cause.contains("Revoked") => {
                    Some("a revoked level is told, and refused by the appraisal")
                }
                () if has(TdAttributes::MIGRATABLE) && cause.contains("migration") => {
                    Some("migration is for the owner's policy")
                }
                () if !has(TdAttributes::SEPT_VE_DISABLE) && cause.contains("SEPT_VE_DISABLE") => {
                    Some("SEPT_VE_DISABLE is told as a claim; Azure's guests do not set it")
                }
                () if has(TdAttributes::SERVTD_EXT) && cause.contains("SERVTD_EXT") => {
                    Some("service TDs are for the owner's policy")
                }
                () if matches!(body, Body::Sgx(_)) && version > 3 => {
                    Some("enclaves are quoted in versions 4 and 5, too")
                }
                () if parsed.as_ref()?.authentication.qe_authentication.len() != 32 => {
                    Some("authentication data may have any length; its hash is compared")
                }
                () => None,
            }
        }
        (Said::Refused(code), Said::Accepted { .. }) => match code.as_str() {
            code if code.ends_with("quote.trailing") => {
                Some("bytes behind the last field inside a sized structure are a defect")
            }
            code if code.ends_with("quote.certification-data") => {
                Some("version 4 and 5 wrap the quoting enclave's data as type 6, and as nothing else")
            }
            code if code.ends_with("pck.format") => {
                Some("every certificate that is sent must be one, also those that the path does not need")
            }
            code if code.ends_with("pck.chain") && has_boundary_within_a_line(quote) => Some(
                "a certificate's boundary begins a line (RFC 7468, section 2); one that does not names none",
            ),
            code if code.ends_with("tcb-info.pce-id") => {
                Some("the TCB info's provisioning enclave is compared as well as its FMSPC")
            }
            _ => None,
        },
        (Said::Accepted { status: own, advisories }, Said::Accepted { status: their, advisories: same }) => {
            let rank = |status: &str| STATUSES_BY_RANK.iter().position(|known| *known == status);
            (advisories == same && rank(own)? > rank(their)?)
                .then_some("what a part lacks the whole lacks; they keep the platform's own status")
        }
        _ => None,
    }
}

/// The certificates of a quote, in DER.
fn certificates(quote: &[u8]) -> Option<Vec<Vec<u8>>> {
    pem_certificates(Quote::parse(quote).ok()?.authentication.certification.data()).ok()
}

/// Whether another certificate than the first begins within a line.
fn has_boundary_within_a_line(quote: &[u8]) -> bool {
    const BOUNDARY: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let windows = quote.windows(BOUNDARY.len() + 1);
    windows.filter(|window| window.ends_with(BOUNDARY)).skip(1).any(|window| !window.starts_with(b"\n"))
}

/// The worst last.
const STATUSES_BY_RANK: [&str; 9] = [
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
];

/// Both say the same, or differ as they are meant to. Gives whether both accepted.
fn agree(subject: &Subject, quote: &[u8], context: &str) -> bool {
    let (ours, theirs) = (ours(subject, quote), theirs(subject, quote));
    let same = match (&ours, &theirs) {
        (Said::Refused(_), Said::Refused(_)) => true,
        _ => ours == theirs,
    };
    let explained = same || meant(quote, &ours, &theirs).is_some();
    assert!(explained, "{} {context}: ours {ours:?}, theirs {theirs:?}", subject.name);
    matches!((ours, theirs), (Said::Accepted { .. }, Said::Accepted { .. }))
}

const B0: &str = "tdx/dcapqvl_tdx_quote_collateral.json";
const C0: &str = "tdx/dcapqvl_tdx_quote_outdated_collateral.json";
const SGX: &str = "sgx/dcapqvl_sgx_quote_collateral.json";
const AT_B0: i64 = 1_750_414_563;
const AT_C0: i64 = 1_771_498_731;
const AT_SGX: i64 = 1_750_416_971;

#[test]
fn every_vector_is_judged_alike() {
    let accepted = [
        ("tdx/dcapqvl_tdx_quote", B0, AT_B0),
        ("tdx/gotdx_quote_v5_sample.dat", C0, AT_C0),
        ("sgx/dcapqvl_sgx_quote", SGX, AT_SGX),
        ("sgx/automata_quote_sgx.bin", SGX, AT_SGX),
    ];
    for (name, collateral, at) in accepted {
        let Some(subject) = Subject::of_vectors(name, collateral, at) else { return };
        assert!(agree(&subject, &subject.quote, "as it is"), "{name} is not accepted");
        for at in [at - 40 * 86_400, at + 400 * 86_400] {
            let Some(elsewhen) = Subject::of_vectors(name, collateral, at) else { return };
            assert!(!agree(&elsewhen, &subject.quote, "at another time"), "{name} is accepted at {at}");
        }
    }
    let refused = [
        ("tdx/dcapqvl_tdx_quote_outdated", C0, AT_C0),
        ("tdx/trustee_tdx_quote_5.dat", C0, AT_C0),
        ("tdx/dcapqvl_tdx-quote.hex", B0, AT_B0),
        ("tdx/dcapqvl_quote-from-tappd.hex", B0, AT_B0),
        ("tdx/dstack_tdx_quote", B0, AT_B0),
        ("tdx/trustee_tdx_quote_4.dat", B0, AT_B0),
        ("tdx/trustee_tdx_quote_6.dat", B0, AT_B0),
        ("tdx/automata_quotev4.hex", B0, AT_B0),
        ("tdx/gotdx_cos-113-tdx-quote.dat", B0, AT_B0),
        ("azure/tdx-vtpm/td-quote.bin", B0, AT_B0),
        ("sgx/automata_quotev3.hex", SGX, AT_SGX),
        ("sgx/trustee_occlum_quote.dat", SGX, AT_SGX),
        ("tdx/intel-qvl-testpki/quote.dat", B0, AT_B0),
        ("sgx/intel-qvl-testpki/quote.dat", SGX, AT_SGX),
        ("adversarial/tdx_v4_sig_flip.dat", B0, AT_B0),
        ("adversarial/tdx_v4_mrtd_flip.dat", B0, AT_B0),
        ("adversarial/tdx_v4_debug_bit_set.dat", B0, AT_B0),
        ("adversarial/tdx_v4_qe_report_flip.dat", B0, AT_B0),
        ("adversarial/tdx_v4_qe_auth_flip.dat", B0, AT_B0),
        ("adversarial/tdx_v4_truncated_sig.dat", B0, AT_B0),
        ("adversarial/tdx_v4_truncated_header.dat", B0, AT_B0),
        ("adversarial/tdx_v4_siglen_huge.dat", B0, AT_B0),
        ("adversarial/tdx_v4_version9.dat", B0, AT_B0),
        ("adversarial/tdx_v4_aktype3.dat", B0, AT_B0),
        ("adversarial/tdx_v4_teetype_sgx.dat", B0, AT_B0),
        ("adversarial/tdx_v4_attacker_ak.dat", B0, AT_B0),
        ("adversarial/tdx_v4_foreign_pck.dat", B0, AT_B0),
    ];
    for (name, collateral, at) in refused {
        let Some(subject) = Subject::of_vectors(name, collateral, at) else { return };
        assert!(!agree(&subject, &subject.quote, "as it is"), "{name} is accepted");
    }
}

#[test]
fn another_spelling_of_the_same_certificates_is_refused_by_both() {
    for (_, subject) in own_subjects() {
        let text = subject.quote.windows(11).position(|boundary| boundary == b"-----BEGIN ").unwrap();
        let padded = subject.quote.iter().enumerate().filter(|(at, byte)| **byte == b'=' && *at > text);
        // The last symbol before the padding holds bits that belong to no byte.
        for at in padded.map(|(at, _)| at - 1).filter(|at| subject.quote[*at] != b'=') {
            let mut respelled = subject.quote.clone();
            respelled[at] = match respelled[at] {
                symbol @ (b'A'..=b'Y' | b'a'..=b'y' | b'0'..=b'8') => symbol + 1,
                _ => continue,
            };
            assert_eq!(certificates(&respelled), None, "{}", subject.name);
            assert!(!agree(&subject, &respelled, "respelled"));
            let mut other = subject.quote.clone();
            other[at - 8] = if other[at - 8] == b'A' { b'B' } else { b'A' };
            assert_ne!(certificates(&other), certificates(&subject.quote), "{}", subject.name);
            agree(&subject, &other, "another certificate");
        }
    }
}

fn own_subjects() -> Vec<(DcapFixture, Subject)> {
    let mut subjects = Vec::new();
    let mut add = |name, fixture: DcapFixture, quote| {
        let (info, identity) = (fixture.tcb_info(), fixture.identity());
        let subject = Subject::of_fixture(name, &fixture, quote, &info, &identity);
        subjects.push((fixture, subject));
    };
    for (name, kind) in
        [("version 4", 0), ("version 5, TDX 1.0", 2), ("version 5, TDX 1.5", 3), ("version 5, extended", 4)]
    {
        let fixture = DcapFixture::tdx();
        let quote = match kind {
            0 => fixture.quote(4, &TrustDomain::default().body(2)),
            kind => fixture.quote_v5(kind, &TrustDomain::default().body(kind)),
        };
        add(name, fixture, quote);
    }
    let fixture = DcapFixture::sgx();
    let quote = fixture.quote(3, &Enclave::default().report());
    add("version 3", fixture, quote);
    subjects
}

#[test]
fn ten_thousand_changes_of_quotes_and_collateral_are_judged_alike() {
    let own = own_subjects();
    let vectors = [
        ("tdx/dcapqvl_tdx_quote", B0, AT_B0),
        ("tdx/gotdx_quote_v5_sample.dat", C0, AT_C0),
        ("sgx/dcapqvl_sgx_quote", SGX, AT_SGX),
    ];
    let real: Vec<Subject> =
        vectors.into_iter().filter_map(|(name, file, at)| Subject::of_vectors(name, file, at)).collect();
    let subjects: Vec<&Subject> = own.iter().map(|(_, subject)| subject).chain(&real).collect();
    let mut accepted = 0;
    for subject in &subjects {
        assert!(agree(subject, &subject.quote, "unchanged"), "{} is not accepted", subject.name);
    }
    // Bytes of the quote, most of them in what is signed.
    for number in 0..CHANGES * 6 / 10 {
        let subject = subjects[(number % subjects.len() as u64) as usize];
        let other = subjects[(number / 3 % subjects.len() as u64) as usize];
        let changed = mutate::mutation(&subject.quote, &other.quote, number);
        accepted += u64::from(agree(subject, &changed, &format!("change {number}")));
    }
    // What is said before it is signed: genuine quotes of other states, judged by genuine documents of other content.
    for number in 0..CHANGES * 4 / 10 {
        let (fixture, _) = &own[(number % own.len() as u64) as usize];
        let subject = resigned(fixture, number);
        accepted += u64::from(agree(&subject, &subject.quote, &format!("content {number}")));
    }
    // Were nothing accepted, agreement would mean little.
    assert!(accepted > CHANGES / 20, "{accepted} accepted");
    println!("{CHANGES} changes, {accepted} accepted by both");
}

/// A genuine quote with another state, and genuine documents with other levels.
fn resigned(fixture: &DcapFixture, number: u64) -> Subject {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |end: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % end
    };
    const STATUSES: [&str; 7] = [
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "Revoked",
    ];
    let mut domain = TrustDomain::default();
    for svn in [&mut domain.tee_tcb_svn, &mut domain.tee_tcb_svn2] {
        svn[0] = 3 + below(6) as u8;
        svn[1] = u8::from(below(3) > 0);
        svn[2] = 3 - u8::from(below(3) == 0) - u8::from(below(12) == 0);
    }
    for bit in [0, 4, 28, 29, 17, 31, 62, 63] {
        if below(30) == 0 {
            domain.attributes ^= 1 << bit;
        }
    }
    if below(20) == 0 {
        domain.attributes |= 1 << below(64);
    }
    domain.seam_attributes[0] = u8::from(below(25) == 0);
    domain.mr_signer_seam[0] = u8::from(below(25) == 0);
    domain.mr_service_td[0] = u8::from(below(10) == 0);

    let (mut info, mut identity) = (fixture.tcb_info(), fixture.identity());
    for level in info["tcbLevels"].as_array_mut().unwrap() {
        level["tcbStatus"] = STATUSES[(below(13) % 7) as usize].into();
        let at = below(16) as usize;
        if below(4) == 0 {
            level["tcb"]["sgxtcbcomponents"][at]["svn"] = below(7).into();
        }
        if fixture.is_tdx && below(4) == 0 {
            level["tcb"]["tdxtcbcomponents"][at % 3]["svn"] = below(7).into();
        }
        if below(5) == 0 {
            level["tcb"]["pcesvn"] = (10 + below(5)).into();
        }
    }
    if let Some(modules) = info["tdxModuleIdentities"].as_array_mut() {
        for level in modules[0]["tcbLevels"].as_array_mut().unwrap() {
            level["tcbStatus"] =
                ["UpToDate", "OutOfDate", "OutOfDate", "UpToDate", "Revoked"][below(9) as usize % 5].into();
        }
    }
    // The highest first, as Intel writes them: the other verifier takes them as they stand.
    for (level, lowest) in identity["tcbLevels"].as_array_mut().unwrap().iter_mut().zip([3, 1]) {
        level["tcbStatus"] = ["UpToDate", "OutOfDate", "ConfigurationNeeded", "UpToDate", "Revoked"]
            [below(9) as usize % 5]
            .into();
        level["tcb"]["isvsvn"] = (lowest + below(2)).into();
    }
    match below(60) {
        0 => info["fmspc"] = "00906EA10000".into(),
        1 => identity["isvprodid"] = 9.into(),
        2 => identity["mrsigner"] = "11".repeat(32).into(),
        3 => info["nextUpdate"] = "2026-11-01T12:00:00Z".into(),
        4 => identity["issueDate"] = "2026-11-20T00:00:00Z".into(),
        5 => info["id"] = if fixture.is_tdx { "SGX".into() } else { "TDX".into() },
        6 => info["pceId"] = "0001".into(),
        7 => identity["attributes"] = "13000000000000000000000000000000".into(),
        _ => {}
    }
    let mut enclave = Enclave::default();
    enclave.attributes[0] ^= if below(3) == 0 { 2 } else { 0 };
    let quote = match (fixture.is_tdx, below(4)) {
        (false, _) => fixture.quote(3, &enclave.report()),
        (true, 0) => fixture.quote(4, &domain.body(2)),
        (true, 1) => fixture.quote_v5(2, &domain.body(2)),
        (true, 2) => fixture.quote_v5(3, &domain.body(3)),
        (true, _) => fixture.quote_v5(4, &domain.body(4)),
    };
    Subject::of_fixture("content", fixture, quote, &info, &identity)
}
