//! Reports under a root of the test's own, and the same with one defect each.

#![allow(clippy::unwrap_used, reason = "tests")]

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ReportData;
use coffer_lab_testpki::{CSV_SERIAL, CsvFixture, CsvReport, EventLogBuilder, ca_json, chip_json};
use coffer_verify_api::{
    Check, Claims, CollateralKey, Document, Fault, Judgement, NoCollateral, Question, Shelf, Timestamp,
    Verified, Verifier as _,
};
use coffer_verify_csv::CsvJudge;
use serde_json::{Value, json};

fn bound_to() -> ReportData {
    ReportData::from_runtime_hash(Digest::of(Algorithm::Sha384, b"nonce and key"))
}

fn report() -> CsvReport {
    CsvReport { report_data: bound_to().field(), ..CsvReport::default() }
}

fn ask<'a>(evidence: &'a Value, data: &'a ReportData) -> Question<'a> {
    let at = Timestamp::from_second(1_795_132_800).unwrap();
    Question { evidence, report_data: data, init_data: None, collateral: &NoCollateral, at }
}

fn judge(fixture: &CsvFixture) -> CsvJudge {
    CsvJudge::with_roots(vec![fixture.root()])
}

fn verified(fixture: &CsvFixture, evidence: &Value) -> Verified<Claims> {
    match judge(fixture).verify(&ask(evidence, &bound_to())).unwrap() {
        Judgement::Verified(verified) => verified,
        Judgement::Rejected(checks) => panic!("rejected: {:?}", codes(&checks)),
    }
}

fn codes(checks: &[Check]) -> Vec<&str> {
    checks.iter().flat_map(Check::causes).map(|check| check.code.as_str()).collect()
}

/// The codes of all causes, joined.
fn refused(fixture: &CsvFixture, evidence: &Value) -> String {
    match judge(fixture).verify(&ask(evidence, &bound_to())).unwrap() {
        Judgement::Verified(_) => "accepted".to_owned(),
        Judgement::Rejected(checks) => codes(&checks).join(" "),
    }
}

#[test]
fn a_report_of_each_layout_is_accepted_with_its_claims() {
    let fixture = CsvFixture::default();
    let plain = verified(&fixture, &fixture.evidence(&report(), None));
    let claims = plain.get();
    let measure = Digest::of(Algorithm::Sm3, b"a guest");
    assert_eq!(claims.registers["measure"], measure);
    assert_eq!(claims.json["measure"], measure.hex());
    assert_eq!(claims.json["version"], "1");
    assert_eq!(claims.json["policy"]["nodbg"], 1);
    assert_eq!(claims.json["policy"]["noks"], 0);
    assert_eq!(claims.json["serial_number"], CSV_SERIAL);
    assert_eq!(claims.json["anonce"], "26d7c75d");
    assert_eq!(claims.json["vm_id"], "01".repeat(16));
    assert!(claims.hardware);
    assert_eq!(claims.posture.debug, Some(false));
    assert_eq!(claims.posture.migration, Some(false));
    assert_eq!(claims.posture.generation.as_deref(), Some("CSV3"));
    assert_eq!(claims.posture.open_registers, Some(false));
    assert_eq!(claims.posture.tcb.as_ref().unwrap().components["api-minor"], 4);

    let extended = verified(&fixture, &fixture.evidence(&CsvReport { extended: true, ..report() }, None));
    assert_eq!(extended.get().json["version"], "2");
    assert_eq!(extended.get().json["build"], 2065);
    assert_eq!(extended.get().json["rtmr0"], measure.hex());
    assert_eq!(extended.get().registers["rtmr1"], Digest::zero(Algorithm::Sm3));
}

#[test]
fn a_debug_guest_is_genuine_and_says_so() {
    let fixture = CsvFixture::default();
    let debug = verified(&fixture, &fixture.evidence(&CsvReport { policy: 0, ..report() }, None));
    assert_eq!(debug.get().posture.debug, Some(true));
    assert_eq!(debug.get().posture.migration, Some(true));
    assert_eq!(debug.get().posture.generation.as_deref(), Some("CSV"));
    assert_eq!(debug.get().posture.open_registers, Some(true));
}

#[test]
fn a_log_is_claimed_only_if_it_leads_to_the_registers() {
    let fixture = CsvFixture::default();
    let (log, registers) =
        EventLogBuilder::new(Algorithm::Sm3).event(1, 4, &[0; 4]).event(3, 6, b"event").finish();
    let mut rtmr = CsvReport::default().rtmr;
    for register in [1, 3] {
        rtmr[register] = *registers[register].as_bytes().first_chunk().unwrap();
    }
    let good = CsvReport { extended: true, rtmr, ..report() };
    let accepted = verified(&fixture, &fixture.evidence(&good, Some(&log)));
    assert_eq!(accepted.get().events.len(), 3);
    assert_eq!(accepted.get().json["uefi_event_logs"][1]["digest_matches_event"], true);

    let mut other = good.clone();
    other.rtmr[3] = [9; 32];
    assert_eq!(refused(&fixture, &fixture.evidence(&other, Some(&log))), "csv.event-log.replay");
    let mut more = good.clone();
    more.rtmr[2] = [9; 32];
    assert_eq!(refused(&fixture, &fixture.evidence(&more, Some(&log))), "csv.event-log.replay");
    let (stray, _) = EventLogBuilder::new(Algorithm::Sm3).event(5, 4, &[0; 4]).finish();
    let empty = CsvReport { extended: true, ..report() };
    assert_eq!(refused(&fixture, &fixture.evidence(&empty, Some(&stray))), "csv.event-log.replay");
    let (sha, _) = EventLogBuilder::new(Algorithm::Sha256).event(1, 4, &[0; 4]).finish();
    assert_eq!(refused(&fixture, &fixture.evidence(&empty, Some(&sha))), "csv.event-log.replay");
    assert_eq!(
        refused(&fixture, &fixture.evidence(&empty, Some(&log[..log.len() - 1]))),
        "csv.event-log.format"
    );
    // Without registers nothing binds a log, so nothing of it is claimed.
    let unbound = verified(&fixture, &fixture.evidence(&report(), Some(&log)));
    assert!(unbound.get().events.is_empty() && !unbound.get().json.contains_key("uefi_event_logs"));
}

#[test]
fn every_bound_byte_of_a_report_is_covered_by_its_signature() {
    let fixture = CsvFixture::default();
    for (extended, signed) in [(false, 180_usize), (true, 1024)] {
        let evidence = fixture.evidence(&CsvReport { extended, ..report() }, None);
        for at in (0..signed).step_by(13).chain([signed - 1]) {
            let mut changed = evidence.clone();
            let byte = &mut changed["attestation_report"]["data"][at];
            *byte = (byte.as_u64().unwrap() ^ 1).into();
            let codes = refused(&fixture, &changed);
            assert!(codes.starts_with("csv.report.signature"), "byte {at}: {codes}");
        }
        // The signature's own numbers, and what must be zero in their fields.
        let start = if extended { 1024 } else { 192 };
        for at in [0, 31, 32, 71, 72, 103, 104, 143] {
            let mut changed = evidence.clone();
            let byte = &mut changed["attestation_report"]["data"][start + at];
            *byte = (byte.as_u64().unwrap() ^ 1).into();
            assert_eq!(refused(&fixture, &changed), "csv.report.signature", "byte {at} of the signature");
        }
    }
}

#[test]
fn each_defect_is_refused_for_its_own_reason() {
    let fixture = CsvFixture::default();
    let good = fixture.evidence(&report(), None);
    let stale = CsvReport { report_data: [1; 64], ..report() };
    assert_eq!(refused(&fixture, &fixture.evidence(&stale, None)), "csv.report.freshness");
    for signed_by in [(0x1003, 4), (0x1002, 5)] {
        let wrong = CsvReport { signed_by, ..report() };
        assert_eq!(refused(&fixture, &fixture.evidence(&wrong, None)), "csv.report.signature");
    }
    let change = |change: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        refused(&fixture, &changed)
    };
    assert_eq!(change(&|e| e["serial_number"] = json!([])), "csv.evidence.format");
    assert_eq!(change(&|e| e["serial_number"] = json!(b"OTHER")), "csv.report.signer");
    assert_eq!(change(&|e| e["serial_number"] = json!([0x80])), "csv.evidence.format");
    assert_eq!(change(&|e| e["cc_eventlog"] = "*".into()), "csv.evidence.format");
    assert_eq!(change(&|e| e["cert_chain"]["pek"]["sigs"] = json!([])), "csv.evidence.format");
    assert_eq!(
        change(&|e| e["cert_chain"]["pek"]["body"]["data"]["sid"] = json!([1])),
        "csv.evidence.format"
    );
    assert_eq!(change(&|e| e["attestation_report"]["flags"] = 300.into()), "accepted");
    assert_eq!(change(&|e| e["attestation_report"]["magic"][0] = 1.into()), "csv.report.format");
    assert_eq!(
        change(&|e| {
            e["attestation_report"]["magic"] = json!(b"ATTESTATION_EXT\0");
            e["attestation_report"]["flags"] = 2.into();
        }),
        "csv.report.format"
    );
    // The other layout reads other bytes as the signature.
    assert!(
        change(&|e| {
            e["attestation_report"]["magic"] = json!(b"ATTESTATION_EXT\0");
            e["attestation_report"]["flags"] = 1.into();
        })
        .starts_with("csv.report.signature")
    );
    for length in [0, 1, 180, 335, 2548, 4095] {
        let truncated = change(&|e| e["attestation_report"]["data"].as_array_mut().unwrap().truncate(length));
        assert_eq!(truncated, "csv.report.format", "{length} bytes");
    }
    assert_eq!(
        change(&|e| e["attestation_report"]["data"].as_array_mut().unwrap().push(0.into())),
        "csv.report.format"
    );
}

#[test]
fn each_link_of_the_chain_is_checked() {
    let fixture = CsvFixture::default();
    let other = CsvFixture::default();
    let good = fixture.evidence(&report(), None);
    let with = |member: &str, value: Value| {
        let mut changed = good.clone();
        match member {
            "pek" => changed["cert_chain"]["pek"] = value,
            _ => changed["cert_chain"]["hsk_cek"][member] = value,
        }
        refused(&fixture, &changed)
    };
    assert_eq!(with("hsk", ca_json(&other.hsk())), "csv.chain.hsk csv.chain.cek");
    assert_eq!(with("cek", chip_json(&other.cek())), "csv.chain.cek csv.chain.pek");
    assert_eq!(with("pek", chip_json(&other.pek())), "csv.report.signature csv.report.signer");
    assert_eq!(refused(&other, &good), "csv.chain.hsk");
    // The root in HSK's place, PEK in CEK's.
    assert!(with("hsk", ca_json(&fixture.root())).starts_with("csv.chain.hsk"));
    assert!(with("cek", chip_json(&fixture.pek())).starts_with("csv.chain.cek"));
    // Every part of a certificate is signed, its key's name and use too.
    for at in [0, 4, 20, 36, 40, 64, 68, 140, 212, 214, 300, 468, 575, 576, 648] {
        let mut hsk = fixture.hsk();
        hsk[at] ^= 1;
        let codes = with("hsk", ca_json(&hsk));
        assert!(codes.starts_with("csv.chain.hsk"), "byte {at}: {codes}");
    }
    for at in [0, 4, 6, 8, 12, 16, 20, 92, 164, 166, 300, 420, 436, 1043, 1044, 1048, 1052, 1124] {
        let mut cek = fixture.cek();
        cek[at] ^= 1;
        let codes = with("cek", chip_json(&cek));
        assert!(codes.starts_with("csv.chain.cek"), "byte {at}: {codes}");
    }
    // A signature in another role than the signer's certificate gives it. The report holds the certificate too.
    let mut roles = good.clone();
    let wrong = fixture.pek_signed_as(0x1002);
    roles["cert_chain"]["pek"] = chip_json(&wrong);
    let data = roles["attestation_report"]["data"].as_array_mut().unwrap();
    data.iter_mut().skip(336).zip(&wrong).for_each(|(to, from)| *to = (*from).into());
    assert_eq!(refused(&fixture, &roles), "csv.chain.pek");
}

#[test]
fn a_judge_without_a_valid_root_believes_nothing() {
    let fixture = CsvFixture::default();
    let good = fixture.evidence(&report(), None);
    for roots in [vec![], vec![vec![]], vec![fixture.hsk()], vec![vec![0; 832]]] {
        let judged = CsvJudge::with_roots(roots).verify(&ask(&good, &bound_to())).unwrap();
        let Judgement::Rejected(checks) = judged else { panic!("accepted") };
        assert_eq!(codes(&checks), ["csv.chain.hrk"]);
    }
}

#[test]
fn missing_certificates_are_asked_for_by_serial_number_and_used() {
    let fixture = CsvFixture::default();
    let mut evidence = fixture.evidence(&report(), None);
    evidence["cert_chain"].as_object_mut().unwrap().remove("hsk_cek");
    let data = bound_to();
    let key = CollateralKey::HygonHskCek(CSV_SERIAL.to_owned());
    match judge(&fixture).verify(&ask(&evidence, &data)) {
        Err(Fault::CollateralUnavailable(keys)) => assert_eq!(keys, std::slice::from_ref(&key)),
        _ => panic!("must be unavailable"),
    }
    let answer = |bytes: Vec<u8>| {
        let mut shelf = Shelf::default();
        shelf.put(key.clone(), Document::new(bytes, Vec::new()).into());
        match judge(&fixture).verify(&Question { collateral: &shelf, ..ask(&evidence, &data) }).unwrap() {
            Judgement::Verified(_) => "accepted".to_owned(),
            Judgement::Rejected(checks) => codes(&checks).join(" "),
        }
    };
    assert_eq!(answer([fixture.hsk(), fixture.cek()].concat()), "accepted");
    assert_eq!(answer(fixture.hsk()), "csv.collateral.format");
    assert_eq!(answer(Vec::new()), "csv.collateral.format");
    let other = CsvFixture::default();
    assert_eq!(answer([other.hsk(), other.cek()].concat()), "csv.chain.hsk csv.chain.pek");
    // What can be refused without them is refused without them.
    evidence["attestation_report"]["data"][64] = 0.into();
    let judged = judge(&fixture).verify(&ask(&evidence, &data)).unwrap();
    assert!(matches!(judged, Judgement::Rejected(_)));
    // A serial number that names no chip is never part of an address.
    evidence["serial_number"] = json!(b"../x");
    let judged = judge(&fixture).verify(&ask(&evidence, &data)).unwrap();
    assert!(matches!(judged, Judgement::Rejected(_)));
}

#[test]
fn init_data_is_refused_because_nothing_binds_it() {
    let fixture = CsvFixture::default();
    let good = fixture.evidence(&report(), None);
    let (data, digest) = (bound_to(), Digest::sha256(b"init-data"));
    let judged = judge(&fixture).verify(&Question { init_data: Some(&digest), ..ask(&good, &data) }).unwrap();
    let Judgement::Rejected(checks) = judged else { panic!("accepted") };
    assert_eq!(codes(&checks), ["csv.init-data.binding"]);
}

#[test]
fn a_chain_that_was_verified_before_says_nothing_of_another_report_or_chain() {
    let fixture = CsvFixture::default();
    let judge = judge(&fixture);
    let good = fixture.evidence(&report(), None);
    let data = bound_to();
    for _ in 0..2 {
        assert!(matches!(judge.verify(&ask(&good, &data)).unwrap(), Judgement::Verified(_)));
    }
    let mut changed = good.clone();
    changed["cert_chain"]["hsk_cek"]["cek"] = chip_json(&CsvFixture::default().cek());
    assert!(matches!(judge.verify(&ask(&changed, &data)).unwrap(), Judgement::Rejected(_)));
    let mut changed = good;
    changed["attestation_report"]["data"][150] = 0.into();
    assert!(matches!(judge.verify(&ask(&changed, &data)).unwrap(), Judgement::Rejected(_)));
}
