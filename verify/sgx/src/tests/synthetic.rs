//! Evidence of a platform of our own, and its refusal twins: the same with one named defect.

use coffer_lab_testpki::dcap::{DcapFixture, Enclave, ISSUED, NEXT_UPDATE, TrustDomain, list};
use coffer_verify_api::{CollateralKey, NoCollateral, PckCa, TcbStatus};
use serde_json::json;

use super::*;

const NOW: i64 = ISSUED as i64 + 86_400;

fn session() -> ReportData {
    ReportData::from_runtime_hash(Digest::of(Algorithm::Sha384, b"nonce and key"))
}

fn enclave() -> Enclave {
    Enclave { report_data: session().field(), isv_prod_id: 7, isv_svn: 3, ..Enclave::default() }
}

fn judge(fixture: &DcapFixture) -> SgxJudge {
    SgxJudge::new(Arc::new(Dcap::new(vec![fixture.root.der().to_vec()]).unwrap()))
}

fn asked(quote: Vec<u8>, collateral: &dyn Collateral) -> Asked<'_> {
    Asked { quote, report_data: session(), init_data: None, collateral, at: NOW }
}

#[test]
fn enclaves_in_quotes_of_every_version_are_accepted_with_the_four_obligatory_checks() {
    let fixture = DcapFixture::sgx();
    let (judge, shelf) = (judge(&fixture), fixture.shelf());
    let body = enclave().report();
    for quote in [fixture.quote(3, &body), fixture.quote(4, &body), fixture.quote_v5(1, &body)] {
        let verified = accepted(&judge, &asked(quote, &shelf));
        let claims = verified.get();
        assert_eq!(claims.registers["mrenclave"].hex(), "e1".repeat(32));
        assert_eq!(claims.registers["configid"].as_bytes(), [0; 64]);
        assert_eq!(claims.posture.versions["isvprodid"], 7);
        assert_eq!(claims.posture.versions["isvsvn"], 3);
        assert_eq!(claims.posture.tcb.as_ref().unwrap().status, Some(TcbStatus::UpToDate));
        assert_eq!(claims.json["header"]["vendor_id"], "939a7233f79c4ca9940a0db3957f0607");
        assert_eq!(claims.json["body"]["isv_prod_id"], "0700");
        assert_eq!(claims.json["body"]["attributes.flags"], "1100000000000000");
        for name in coffer_verify_api::OBLIGATORY {
            assert!(verified.checks().iter().any(|check| check.code.ends_with(name)), "{name}");
        }
    }
}

#[test]
fn a_debug_enclave_is_told_and_not_refused() {
    let fixture = DcapFixture::sgx();
    let mut debug = enclave();
    debug.attributes[0] |= 2;
    let verified = accepted(&judge(&fixture), &asked(fixture.quote(3, &debug.report()), &fixture.shelf()));
    assert_eq!(verified.get().posture.debug, Some(true));
}

#[test]
fn a_quoting_enclave_under_debug_is_refused_whatever_its_identity_leaves_open() {
    let mut fixture = DcapFixture::sgx();
    let mut identity = fixture.identity();
    identity["attributesMask"] = json!("00".repeat(16));
    fixture.enclave.attributes[0] |= 2;
    let mut shelf = fixture.shelf();
    shelf.put(fixture.identity_key(), Arc::new(fixture.document("enclaveIdentity", &identity)));
    let quote = fixture.quote(3, &enclave().report());
    assert_eq!(refused(&judge(&fixture), &asked(quote, &shelf)), ["sgx.qe.identity"]);
}

#[test]
fn another_session_or_other_init_data_is_refused() {
    let fixture = DcapFixture::sgx();
    let (judge, shelf) = (judge(&fixture), fixture.shelf());
    let quote = fixture.quote(3, &enclave().report());
    let other = ReportData::from_runtime_hash(Digest::sha256(b"another"));
    assert_eq!(
        refused(&judge, &Asked { report_data: other, ..asked(quote.clone(), &shelf) }),
        ["sgx.quote.freshness"]
    );
    let digest = Digest::of(Algorithm::Sha384, b"init-data");
    let with = |quote: Vec<u8>| Asked { init_data: Some(digest), ..asked(quote, &shelf) };
    assert_eq!(refused(&judge, &with(quote)), ["sgx.init-data.binding"]);
    let mut bound = enclave();
    bound.config_id[..48].copy_from_slice(digest.as_bytes());
    accepted(&judge, &with(fixture.quote(3, &bound.report())));
}

#[test]
fn each_broken_link_has_its_own_refusal() {
    let fixture = DcapFixture::sgx();
    let (judge, shelf) = (judge(&fixture), fixture.shelf());
    let quote = fixture.quote(3, &enclave().report());
    let signature_data = 48 + 384 + 4;
    for (at, code) in [
        (30, "sgx.quote.signature"),
        (48 + 70, "sgx.quote.signature"),
        (signature_data + 1, "sgx.quote.signature"),
        (signature_data + 128 + 64, "sgx.qe-report.signature"),
        (signature_data + 128 + 384, "sgx.qe-report.signature"),
        (signature_data + 128 + 384 + 64 + 3, "sgx.attestation-key.endorsement"),
    ] {
        let mut changed = quote.clone();
        changed[at] ^= 1;
        assert_eq!(refused(&judge, &asked(changed.clone(), &shelf)), [code], "byte {at}");
        assert_eq!(refused(&judge, &asked(changed, &NoCollateral)), [code], "byte {at}");
    }
    for length in (0..quote.len()).step_by(11) {
        assert_eq!(
            refused(&judge, &asked(quote[..length].to_vec(), &shelf)),
            ["sgx.quote.truncated"],
            "{length}"
        );
    }
    let mut version = quote;
    version[0] = 2;
    assert_eq!(refused(&judge, &asked(version, &shelf)), ["sgx.quote.version"]);
    let other = DcapFixture::sgx();
    let foreign = other.quote(3, &enclave().report());
    assert_eq!(refused(&judge, &asked(foreign, &shelf)), ["sgx.pck.chain"]);
}

#[test]
fn a_trust_domains_quote_and_collateral_are_not_an_enclaves() {
    let tdx = DcapFixture::tdx();
    let quote = tdx.quote(4, &TrustDomain::default().body(2));
    assert_eq!(refused(&judge(&tdx), &asked(quote, &NoCollateral)), ["sgx.quote.tee-type"]);

    let fixture = DcapFixture::sgx();
    let quote = fixture.quote(3, &enclave().report());
    let mut info = fixture.tcb_info();
    info["id"] = json!("TDX");
    let mut shelf = fixture.shelf();
    shelf.put(fixture.tcb_info_key(), Arc::new(fixture.document("tcbInfo", &info)));
    // It lacks what TDX's documents have.
    assert_eq!(refused(&judge(&fixture), &asked(quote, &shelf)), ["sgx.collateral.format"]);
}

#[test]
fn tcb_info_of_version_2_is_read() {
    let fixture = DcapFixture::sgx();
    let names = |pce: u16| {
        let mut tcb = json!({"pcesvn": pce});
        for (number, svn) in (1..).zip(fixture.platform.components) {
            tcb[format!("sgxtcbcomp{number:02}svn")] = svn.into();
        }
        tcb
    };
    let mut info = fixture.tcb_info();
    info["version"] = json!(2);
    info.as_object_mut().unwrap().remove("id");
    info["tcbLevels"] = json!([
        {"tcb": names(99), "tcbDate": "2026-05-13T00:00:00Z", "tcbStatus": "UpToDate"},
        {"tcb": names(13), "tcbDate": "2025-05-13T00:00:00Z", "tcbStatus": "SWHardeningNeeded", "advisoryIDs": ["INTEL-SA-00334"]},
    ]);
    let mut shelf = fixture.shelf();
    shelf.put(fixture.tcb_info_key(), Arc::new(fixture.document("tcbInfo", &info)));
    let quote = fixture.quote(3, &enclave().report());
    let verified = accepted(&judge(&fixture), &asked(quote, &shelf));
    let tcb = verified.get().posture.tcb.as_ref().unwrap();
    assert_eq!((tcb.status, tcb.advisories.len()), (Some(TcbStatus::SWHardeningNeeded), 1));
    assert_eq!(tcb.date.as_deref(), Some("2025-05-13T00:00:00Z"));
}

#[test]
fn a_revoked_platform_is_refused() {
    let fixture = DcapFixture::sgx();
    let mut shelf = fixture.shelf();
    let crl = fixture.ca.crl(&[fixture.pck.serial()], ISSUED, NEXT_UPDATE);
    shelf.put(CollateralKey::PckCrl(PckCa::Platform), Arc::new(list(crl)));
    let quote = fixture.quote(3, &enclave().report());
    assert_eq!(refused(&judge(&fixture), &asked(quote, &shelf)), ["sgx.pck.revocation"]);
}

#[test]
fn evidence_that_is_none_is_refused_for_its_form() {
    let judge = judge(&DcapFixture::sgx());
    for evidence in [json!(null), json!([]), json!({"quote": "*"}), json!({"quote": "AAAA".repeat(100_000)})]
    {
        let question = Question {
            evidence: &evidence,
            report_data: &session(),
            init_data: None,
            collateral: &NoCollateral,
            at: Timestamp::from_second(NOW).unwrap(),
        };
        let Judgement::Rejected(checks) = judge.verify(&question).unwrap() else { panic!("accepted") };
        assert_eq!(checks[0].code, "sgx.evidence.format");
    }
}
