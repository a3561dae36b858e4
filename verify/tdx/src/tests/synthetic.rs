//! Evidence of a platform of our own, and its refusal twins: the same with one named defect.

use coffer_core_evidence::dcap::Quote;
use coffer_lab_testpki::EventLogBuilder;
use coffer_lab_testpki::dcap::{
    Carries, Content, DcapFixture, ISSUED, NEXT_UPDATE, PlatformContent, TrustDomain, UNTIL, list,
};
use coffer_verify_api::{CollateralKey, Document, NoCollateral, PckCa, Shelf, TcbStatus};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = ISSUED as i64 + 86_400;

fn session() -> ReportData {
    ReportData::from_runtime_hash(Digest::of(Algorithm::Sha384, b"nonce and key"))
}

fn domain() -> TrustDomain {
    TrustDomain { report_data: session().field(), ..TrustDomain::default() }
}

fn judge(fixture: &DcapFixture) -> TdxJudge {
    judge_of(vec![fixture.root.der().to_vec()])
}

fn asked(quote: Vec<u8>, collateral: &dyn Collateral) -> Asked<'_> {
    Asked { quote, log: None, report_data: session(), init_data: None, collateral, at: NOW }
}

/// The fixture's shelf with one document exchanged.
fn with(fixture: &DcapFixture, key: CollateralKey, document: Document) -> Shelf {
    let mut shelf = fixture.shelf();
    shelf.put(key, Arc::new(document));
    shelf
}

fn with_tcb_info(fixture: &DcapFixture, change: impl Fn(&mut Value)) -> Shelf {
    let mut info = fixture.tcb_info();
    change(&mut info);
    with(fixture, fixture.tcb_info_key(), fixture.document("tcbInfo", &info))
}

fn with_identity(fixture: &DcapFixture, change: impl Fn(&mut Value)) -> Shelf {
    let mut identity = fixture.identity();
    change(&mut identity);
    with(fixture, fixture.identity_key(), fixture.document("enclaveIdentity", &identity))
}

#[test]
fn quotes_of_every_version_and_body_are_accepted_with_the_four_obligatory_checks() {
    let fixture = DcapFixture::tdx();
    let (judge, shelf) = (judge(&fixture), fixture.shelf());
    let quotes = [
        fixture.quote(4, &domain().body(2)),
        fixture.quote_v5(2, &domain().body(2)),
        fixture.quote_v5(3, &domain().body(3)),
        fixture.quote_v5(4, &domain().body(4)),
    ];
    for quote in quotes {
        let verified = accepted(&judge, &asked(quote, &shelf));
        let claims = verified.get();
        assert_eq!(claims.posture.tcb.as_ref().unwrap().status, Some(TcbStatus::UpToDate));
        assert_eq!(claims.posture.tcb.as_ref().unwrap().evaluation, Some(19));
        assert_eq!(claims.posture.smt, Some(true));
        assert_eq!(claims.posture.chip, Some("bb".repeat(16)));
        assert_eq!(claims.registers["mrtd"].hex(), "7d".repeat(48));
        assert_eq!(claims.registers.len(), 10);
        assert_eq!(claims.json["is_dynamic_platform"], true);
        assert_eq!(claims.json["is_cached_keys"], false);
        assert_eq!(claims.json["pck_crl_num"], 7);
        for name in coffer_verify_api::OBLIGATORY {
            let ends = |check: &Check| check.code.ends_with(name);
            assert!(verified.checks().iter().any(ends), "{name}");
        }
    }
}

#[test]
fn what_owners_decide_on_is_told_and_not_refused() {
    let fixture = DcapFixture::tdx();
    let (judge, shelf) = (judge(&fixture), fixture.shelf());
    let posture = |domain: TrustDomain, kind| {
        let quote = fixture.quote_v5(kind, &domain.body(kind));
        accepted(&judge, &asked(quote, &shelf)).get().posture.clone()
    };
    assert_eq!(posture(TrustDomain { attributes: 1, ..domain() }, 2).debug, Some(true));
    assert_eq!(posture(TrustDomain { attributes: 1 << 4, ..domain() }, 3).debug, Some(true));
    assert_eq!(posture(domain(), 3).debug, Some(false));
    assert_eq!(posture(TrustDomain { attributes: 1 << 29, ..domain() }, 3).migration, Some(true));
    assert_eq!(posture(TrustDomain { mr_service_td: [1; 48], ..domain() }, 3).service_td, Some(true));
    assert_eq!(posture(TrustDomain { cur_service_td: [1; 48], ..domain() }, 4).service_td, Some(true));
    assert_eq!(posture(TrustDomain { attributes: 1 << 17, ..domain() }, 3).service_td, Some(true));
    assert_eq!(posture(domain(), 4).service_td, Some(false));
}

#[test]
fn a_td_with_reserved_attributes_is_refused() {
    let fixture = DcapFixture::tdx();
    for bit in [1, 7, 23, 32, 61] {
        let quote = fixture.quote(4, &TrustDomain { attributes: 1 << bit, ..domain() }.body(2));
        assert_eq!(
            refused(&judge(&fixture), &asked(quote, &fixture.shelf())),
            ["tdx.td.attributes"],
            "{bit}"
        );
    }
}

#[test]
fn a_quote_for_another_session_or_other_init_data_is_refused() {
    let fixture = DcapFixture::tdx();
    let (judge, shelf) = (judge(&fixture), fixture.shelf());
    let quote = fixture.quote(4, &domain().body(2));
    let other = ReportData::from_runtime_hash(Digest::sha256(b"another"));
    let stale = Asked { report_data: other, ..asked(quote.clone(), &shelf) };
    assert_eq!(refused(&judge, &stale), ["tdx.quote.freshness"]);

    let init_data = Digest::sha256(b"init-data");
    let mut bound = domain();
    bound.mr_config_id[..32].copy_from_slice(init_data.as_bytes());
    let good = fixture.quote(4, &bound.body(2));
    let asked_with =
        |quote: &[u8], digest| Asked { init_data: Some(digest), ..asked(quote.to_vec(), &shelf) };
    accepted(&judge, &asked_with(&good, init_data));
    assert_eq!(refused(&judge, &asked_with(&quote, init_data)), ["tdx.init-data.binding"]);
    // The field is padded with zeros, and what stands behind the digest is compared, too.
    bound.mr_config_id[47] = 1;
    let longer = fixture.quote(4, &bound.body(2));
    assert_eq!(refused(&judge, &asked_with(&longer, init_data)), ["tdx.init-data.binding"]);
    let long = Digest::of(Algorithm::Sha512, b"init-data");
    let mut cut = domain();
    cut.mr_config_id.copy_from_slice(&long.as_bytes()[..48]);
    accepted(&judge, &asked_with(&fixture.quote(4, &cut.body(2)), long));
}

#[test]
fn each_signature_and_each_link_has_its_own_refusal() {
    let fixture = DcapFixture::tdx();
    let (judge, shelf) = (judge(&fixture), fixture.shelf());
    let quote = fixture.quote(4, &domain().body(2));
    let signature_data = 48 + 584 + 4;
    let inner = signature_data + 128 + 6;
    for (at, code) in [
        (12, "tdx.quote.vendor"),
        (30, "tdx.quote.signature"),
        (48 + 150, "tdx.quote.signature"),
        (signature_data, "tdx.quote.signature"),
        (signature_data + 63, "tdx.quote.signature"),
        (inner + 64, "tdx.qe-report.signature"),
        (inner + 384, "tdx.qe-report.signature"),
        (inner + 384 + 64 + 2, "tdx.attestation-key.endorsement"),
        (inner + 384 + 64, "tdx.quote.truncated"),
        (signature_data + 128, "tdx.quote.certification-data"),
        (inner + 384 + 64 + 34, "tdx.quote.trailing"),
    ] {
        let mut changed = quote.clone();
        changed[at] ^= 1;
        if code == "tdx.quote.trailing" {
            // Type 4: the leaf, which is no chain and is looked for like one.
            changed[at] = 9;
            assert_eq!(refused(&judge, &asked(changed, &shelf)), ["tdx.quote.certification-data"], "{at}");
            continue;
        }
        let codes = refused(&judge, &asked(changed, &shelf));
        assert!(codes.contains(&code.to_owned()), "byte {at}: {codes:?}");
    }
    // Another attestation key signs well, but nobody vouches for it.
    let other = DcapFixture::tdx();
    let forged = other.quote(4, &domain().body(2));
    let mut spliced = quote.clone();
    spliced[signature_data..signature_data + 128]
        .copy_from_slice(&forged[signature_data..signature_data + 128]);
    assert_eq!(refused(&judge, &asked(spliced, &shelf)), ["tdx.attestation-key.endorsement"]);
    // A whole platform under another root.
    assert_eq!(refused(&judge, &asked(forged, &shelf)), ["tdx.pck.chain"]);
}

#[test]
fn a_platform_key_that_is_not_one_is_refused() {
    let mut fixture = DcapFixture::tdx();
    let judge = judge(&fixture);
    let sgx = Some(fixture.platform.extension());
    // Under the root itself, without a CA.
    let leaf = Content { name: "Intel SGX PCK Certificate", is_ca: false, until: UNTIL, sgx: sgx.clone() };
    let direct = fixture.certify(&leaf, 77, true);
    let genuine = std::mem::replace(&mut fixture.pck, direct);
    let quote = fixture.quote(4, &domain().body(2));
    assert_eq!(refused(&judge, &asked(quote, &fixture.shelf())), ["tdx.pck.chain"]);
    // Without the extension.
    let bare = Content { name: "Intel SGX PCK Certificate", is_ca: false, until: UNTIL, sgx: None };
    fixture.pck = fixture.certify(&bare, 78, false);
    let quote = fixture.quote(4, &domain().body(2));
    assert_eq!(refused(&judge, &asked(quote, &fixture.shelf())), ["tdx.pck.extension"]);
    // With one that says nothing of the TCB.
    let cut =
        Content { name: "Intel SGX PCK Certificate", is_ca: false, until: UNTIL, sgx: Some(vec![0x30, 0]) };
    fixture.pck = fixture.certify(&cut, 79, false);
    let quote = fixture.quote(4, &domain().body(2));
    assert_eq!(refused(&judge, &asked(quote, &fixture.shelf())), ["tdx.pck.extension"]);
    // After its end.
    fixture.pck = genuine;
    let ended = DcapFixture::new(true, PlatformContent::default(), u64::try_from(NOW).unwrap() - 1);
    let quote = ended.quote(4, &domain().body(2));
    assert_eq!(
        refused(&super::judge_of(vec![ended.root.der().to_vec()]), &asked(quote, &ended.shelf())),
        ["tdx.pck.chain"]
    );
}

#[test]
fn a_chain_that_is_not_pem_is_refused_and_one_that_is_not_there_is_asked_for() {
    let fixture = DcapFixture::tdx();
    let judge = judge(&fixture);
    let mut quote = fixture.quote(4, &domain().body(2));
    let at = quote.windows(5).position(|window| window == b"BEGIN").unwrap();
    quote[at + 40] = b'*';
    assert_eq!(refused(&judge, &asked(quote, &fixture.shelf())), ["tdx.pck.format"]);

    let named = fixture.quote_with(4, None, &domain().body(2), Carries::Name);
    let key = CollateralKey::PckChain(Digest::sha256(&fixture.name()).as_bytes().try_into().unwrap());
    let Err(Fault::CollateralUnavailable(keys)) = ask(&judge, &asked(named.clone(), &NoCollateral)) else {
        panic!("judged without the chain")
    };
    assert_eq!(keys, [key.clone(), CollateralKey::TdQeIdentity, CollateralKey::IntelRootCrl]);
    let Err(Fault::CollateralUnavailable(keys)) = ask(&judge, &asked(named.clone(), &fixture.shelf())) else {
        panic!("judged without the chain")
    };
    assert_eq!(keys, std::slice::from_ref(&key));
    let shelf = with(&fixture, key, list(fixture.chain_pem().into_bytes()));
    accepted(&judge, &asked(named, &shelf));
}

#[test]
fn each_missing_document_is_named_and_a_forgery_is_refused_without_any() {
    let fixture = DcapFixture::tdx();
    let judge = judge(&fixture);
    let quote = fixture.quote(4, &domain().body(2));
    let whole = fixture.shelf();
    for (missing, _) in whole.iter() {
        let mut shelf = Shelf::default();
        for (key, document) in whole.iter().filter(|(key, _)| *key != missing) {
            shelf.put(key.clone(), document.clone());
        }
        let Err(Fault::CollateralUnavailable(keys)) = ask(&judge, &asked(quote.clone(), &shelf)) else {
            panic!("judged without {missing}")
        };
        assert_eq!(keys, std::slice::from_ref(missing));
    }
    let mut forged = quote;
    forged[100] ^= 1;
    assert_eq!(refused(&judge, &asked(forged, &NoCollateral)), ["tdx.quote.signature"]);
}

#[test]
fn what_is_revoked_is_refused_by_name() {
    let fixture = DcapFixture::tdx();
    let quote = fixture.quote(4, &domain().body(2));
    let pck = fixture.ca.crl(&[fixture.pck.serial()], ISSUED, NEXT_UPDATE);
    let shelf = with(&fixture, CollateralKey::PckCrl(PckCa::Platform), list(pck));
    // A judge that accepted the platform a moment ago refuses it with the new list.
    let judge = judge(&fixture);
    accepted(&judge, &asked(quote.clone(), &fixture.shelf()));
    assert_eq!(refused(&judge, &asked(quote.clone(), &shelf)), ["tdx.pck.revocation"]);
    for (serial, code) in [
        (fixture.ca.serial(), "tdx.pck-ca.revocation"),
        (fixture.signer.serial(), "tdx.collateral.revocation"),
        (fixture.root.serial(), "tdx.root.revocation"),
    ] {
        let crl = fixture.root.crl(&[serial], ISSUED, NEXT_UPDATE);
        let shelf = with(&fixture, CollateralKey::IntelRootCrl, list(crl));
        assert_eq!(refused(&judge, &asked(quote.clone(), &shelf)), [code]);
    }
}

#[test]
fn a_list_by_another_issuer_or_out_of_its_time_is_refused() {
    let fixture = DcapFixture::tdx();
    let judge = judge(&fixture);
    let quote = fixture.quote(4, &domain().body(2));
    let other = DcapFixture::tdx();
    let now = u64::try_from(NOW).unwrap();
    for (crl, code) in [
        (other.ca.crl(&[], ISSUED, NEXT_UPDATE), "tdx.collateral.signature"),
        (fixture.root.crl(&[], ISSUED, NEXT_UPDATE), "tdx.collateral.signature"),
        (fixture.ca.crl(&[], ISSUED, now - 1), "tdx.collateral.expired"),
        (fixture.ca.crl(&[], now + 1, NEXT_UPDATE), "tdx.collateral.not-yet-valid"),
        (b"no list".to_vec(), "tdx.collateral.format"),
    ] {
        let shelf = with(&fixture, CollateralKey::PckCrl(PckCa::Platform), list(crl));
        assert_eq!(refused(&judge, &asked(quote.clone(), &shelf)), [code]);
    }
}

#[test]
fn a_document_with_a_defect_is_refused_by_name() {
    let fixture = DcapFixture::tdx();
    let judge = judge(&fixture);
    let quote = fixture.quote(4, &domain().body(2));
    let refused_with = |shelf: Shelf| refused(&judge, &asked(quote.clone(), &shelf));
    let key = fixture.tcb_info_key();
    let document = fixture.document("tcbInfo", &fixture.tcb_info());
    let text = String::from_utf8(document.body().to_vec()).unwrap();
    let chain = document.issuer_chain().to_vec();
    let exchanged =
        |body: String, chain: Vec<u8>| with(&fixture, key.clone(), Document::new(body.into_bytes(), chain));

    let content = text.replace("\"tcbEvaluationDataNumber\":20", "\"tcbEvaluationDataNumber\":21");
    assert_ne!(content, text);
    assert_eq!(refused_with(exchanged(content, chain.clone())), ["tdx.collateral.signature"]);
    // One space more is another text.
    let spaced = text.replace("\"tcbType\":0", "\"tcbType\": 0");
    assert_eq!(refused_with(exchanged(spaced, chain.clone())), ["tdx.collateral.signature"]);
    assert_eq!(refused_with(exchanged("{}".into(), chain.clone())), ["tdx.collateral.format"]);
    assert_eq!(refused_with(exchanged(text.clone(), b"none".to_vec())), ["tdx.collateral.chain"]);
    let other = DcapFixture::tdx();
    let foreign = other.document("tcbInfo", &fixture.tcb_info());
    assert_eq!(refused_with(with(&fixture, key.clone(), foreign)), ["tdx.collateral.chain"]);
    // The platform's own key is certified under the same root, and signs no documents.
    let body = fixture.tcb_info().to_string();
    let by_pck = hex::encode(fixture.pck.sign(body.as_bytes()));
    let body = format!("{{\"tcbInfo\":{body},\"signature\":\"{by_pck}\"}}");
    let by_platform = [fixture.pck.pem(), fixture.ca.pem(), fixture.root.pem()].concat().into_bytes();
    assert_eq!(refused_with(exchanged(body, by_platform)), ["tdx.collateral.chain"]);

    let now = u64::try_from(NOW).unwrap();
    let time = coffer_lab_testpki::dcap::rfc3339;
    for (member, value, code) in [
        ("nextUpdate", json!(time(now - 1)), "tdx.collateral.expired"),
        ("issueDate", json!(time(now + 1)), "tdx.collateral.not-yet-valid"),
        ("fmspc", json!("00906EA10000"), "tdx.tcb-info.fmspc"),
        ("pceId", json!("0001"), "tdx.tcb-info.pce-id"),
        ("id", json!("SGX"), "tdx.tcb-info.tee"),
        ("version", json!(4), "tdx.collateral.format"),
        ("tcbType", json!(1), "tdx.collateral.format"),
        ("tcbLevels", json!([]), "tdx.tcb.level"),
        ("tdxModuleIdentities", json!([]), "tdx.tcb.module"),
    ] {
        let codes = refused_with(with_tcb_info(&fixture, |info| info[member] = value.clone()));
        assert_eq!(codes[0], code, "{member}: {codes:?}");
    }
    for (member, value, code) in [
        ("nextUpdate", json!(time(now - 1)), "tdx.collateral.expired"),
        ("id", json!("QE"), "tdx.qe-identity.tee"),
        ("version", json!(1), "tdx.collateral.format"),
        ("mrsigner", json!("00".repeat(32)), "tdx.qe.identity"),
        ("isvprodid", json!(1), "tdx.qe.identity"),
        ("attributes", json!("13000000000000000000000000000000"), "tdx.qe.identity"),
        ("miscselect", json!("01000000"), "tdx.qe.identity"),
        ("tcbLevels", json!([]), "tdx.qe.level"),
    ] {
        let codes = refused_with(with_identity(&fixture, |identity| identity[member] = value.clone()));
        assert_eq!(codes, [code], "{member}");
    }
}

#[test]
fn a_module_that_is_not_intels_or_too_old_is_refused() {
    let fixture = DcapFixture::tdx();
    let (judge, shelf) = (judge(&fixture), fixture.shelf());
    let refused_with =
        |domain: TrustDomain| refused(&judge, &asked(fixture.quote(4, &domain.body(2)), &shelf));
    assert_eq!(refused_with(TrustDomain { mr_signer_seam: [1; 48], ..domain() }), ["tdx.tcb.module"]);
    assert_eq!(
        refused_with(TrustDomain { seam_attributes: [1, 0, 0, 0, 0, 0, 0, 0], ..domain() }),
        ["tdx.tcb.module"]
    );
    let mut svn = domain().tee_tcb_svn;
    svn[0] = 3;
    assert_eq!(refused_with(TrustDomain { tee_tcb_svn: svn, ..domain() }), ["tdx.tcb.module-level"]);
    svn[1] = 9;
    assert_eq!(refused_with(TrustDomain { tee_tcb_svn: svn, ..domain() })[0], "tdx.tcb.module");
    svn = domain().tee_tcb_svn;
    svn[2] = 0;
    assert_eq!(refused_with(TrustDomain { tee_tcb_svn: svn, ..domain() }), ["tdx.tcb.level"]);
    let low = TrustDomain { tee_tcb_svn2: svn, ..domain() };
    assert_eq!(refused(&judge, &asked(fixture.quote_v5(3, &low.body(3)), &shelf)), ["tdx.tcb.current-level"]);
}

#[test]
fn statuses_of_platform_module_and_quoting_enclave_become_one() {
    use TcbStatus::{
        ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded, Revoked, TDRelaunchAdvised,
        TDRelaunchAdvisedConfigurationNeeded,
    };
    let mut fixture = DcapFixture::tdx();
    let judge = judge(&fixture);
    let tcb = |fixture: &DcapFixture, domain: TrustDomain, shelf: &Shelf| {
        let quote = fixture.quote_v5(3, &domain.body(3));
        accepted(&judge, &asked(quote, shelf)).get().posture.tcb.clone().unwrap()
    };
    let both = |svn: [u8; 16]| TrustDomain { tee_tcb_svn: svn, tee_tcb_svn2: svn, ..domain() };
    let new = domain().tee_tcb_svn;
    let (mut old_module, mut old_code) = (new, new);
    old_module[0] = 4;
    old_code[2] = 2;

    // The module is old: its advisories and its date are those of the whole.
    let found = tcb(&fixture, both(old_module), &fixture.shelf());
    assert_eq!((found.status, found.advisories), (Some(OutOfDate), vec!["INTEL-SA-01099".to_owned()]));
    assert_eq!(found.date.as_deref(), Some("2024-03-13T00:00:00Z"));
    let found = tcb(&fixture, both(old_code), &fixture.shelf());
    assert_eq!((found.status, found.advisories.len()), (Some(OutOfDate), 2));

    // Launched on the old, running on the new, and the other way round.
    let updated = TrustDomain { tee_tcb_svn: old_module, tee_tcb_svn2: new, ..domain() };
    assert_eq!(tcb(&fixture, updated.clone(), &fixture.shelf()).status, Some(TDRelaunchAdvised));
    let back = TrustDomain { tee_tcb_svn: new, tee_tcb_svn2: old_module, ..domain() };
    assert_eq!(tcb(&fixture, back, &fixture.shelf()).status, Some(OutOfDate));

    let configured =
        with_tcb_info(&fixture, |info| info["tcbLevels"][0]["tcbStatus"] = "ConfigurationNeeded".into());
    assert_eq!(tcb(&fixture, both(new), &configured).status, Some(ConfigurationNeeded));
    assert_eq!(tcb(&fixture, both(old_module), &configured).status, Some(OutOfDateConfigurationNeeded));
    assert_eq!(
        tcb(&fixture, updated.clone(), &configured).status,
        Some(TDRelaunchAdvisedConfigurationNeeded)
    );
    // A revoked level is told, and refused by every policy.
    let revoked = with_tcb_info(&fixture, |info| info["tcbLevels"][0]["tcbStatus"] = "Revoked".into());
    assert_eq!(tcb(&fixture, both(new), &revoked).status, Some(Revoked));

    fixture.enclave.isv_svn = 3;
    let found = tcb(&fixture, both(new), &fixture.shelf());
    assert_eq!((found.status, found.advisories), (Some(OutOfDate), vec!["INTEL-SA-00477".to_owned()]));
    // The new TCB does not help where the quoting enclave is old.
    assert_eq!(tcb(&fixture, updated, &fixture.shelf()).status, Some(OutOfDate));
}

#[test]
fn levels_are_taken_highest_first_whatever_their_order_in_the_document() {
    let fixture = DcapFixture::tdx();
    let shelf = with_tcb_info(&fixture, |info| info["tcbLevels"].as_array_mut().unwrap().reverse());
    let verified = accepted(&judge(&fixture), &asked(fixture.quote(4, &domain().body(2)), &shelf));
    assert_eq!(verified.get().posture.tcb.as_ref().unwrap().status, Some(TcbStatus::UpToDate));
}

#[test]
fn an_enclaves_quote_is_not_a_trust_domains() {
    let fixture = DcapFixture::sgx();
    let quote = fixture.quote(3, &coffer_lab_testpki::dcap::Enclave::default().report());
    assert_eq!(refused(&judge(&fixture), &asked(quote, &NoCollateral)), ["tdx.quote.tee-type"]);
}

#[test]
fn an_event_log_is_believed_if_it_leads_to_all_four_registers() {
    let fixture = DcapFixture::tdx();
    let (judge, shelf) = (judge(&fixture), fixture.shelf());
    let (log, registers) = EventLogBuilder::new(Algorithm::Sha384)
        .event(1, 4, &[0; 4])
        .event(2, 0x8000_0007, b"Calling EFI Application from Boot Option")
        .event(3, 0xd, b"linux")
        .event(4, 6, b"LEAA\x10\0\0\0coco.com op what")
        .finish();
    let mut domain = domain();
    for (rtmr, value) in domain.rtmrs.iter_mut().zip(&registers[1..]) {
        rtmr.copy_from_slice(value.as_bytes());
    }
    let quote = fixture.quote_v5(3, &domain.body(3));
    let asked_with = |log: &[u8]| Asked { log: Some(log.to_vec()), ..asked(quote.clone(), &shelf) };
    // Attesters end the log with octets of 0xff.
    let verified = accepted(&judge, &asked_with(&[&log[..], &[0xff; 8]].concat()));
    let claims = verified.get();
    assert_eq!(claims.events.iter().filter(|event| event.is_extended()).count(), 4);
    assert_eq!(claims.json["uefi_event_logs"].as_array().unwrap().len(), 4);
    let aael = &claims.json["uefi_event_logs"][3];
    assert_eq!(aael["details"]["data"]["operation"], "op");
    assert_eq!(aael["digest_matches_event"], true);

    // Every event that is left out is missed, and every changed digest.
    let (shorter, _) = EventLogBuilder::new(Algorithm::Sha384)
        .event(1, 4, &[0; 4])
        .event(2, 0x8000_0007, b"Calling EFI Application from Boot Option")
        .event(3, 0xd, b"linux")
        .finish();
    let mut flipped = log.clone();
    let at = flipped.len() - b"LEAA\x10\0\0\0coco.com op what".len() - 5;
    flipped[at] ^= 1;
    for log in [shorter, flipped] {
        assert_eq!(refused(&judge, &asked_with(&log)), ["tdx.event-log.replay"]);
    }
    assert_eq!(refused(&judge, &asked_with(&log[..log.len() - 1])), ["tdx.event-log.format"]);
    assert_eq!(refused(&judge, &asked_with(b"no log")), ["tdx.event-log.format"]);
    let (other_bank, _) = EventLogBuilder::new(Algorithm::Sha256).event(1, 4, &[0; 4]).finish();
    assert_eq!(refused(&judge, &asked_with(&other_bank)), ["tdx.event-log.replay"]);
    // What was extended into a register that nobody quotes is not believed.
    let (elsewhere, _) = EventLogBuilder::new(Algorithm::Sha384)
        .event(1, 4, &[0; 4])
        .event(2, 0x8000_0007, b"Calling EFI Application from Boot Option")
        .event(3, 0xd, b"linux")
        .event(4, 6, b"LEAA\x10\0\0\0coco.com op what")
        .event(9, 0xd, b"unproven")
        .finish();
    let verified = accepted(&judge, &asked_with(&elsewhere));
    assert!(verified.get().events.iter().all(|event| event.register <= 4));
}

#[test]
fn evidence_that_is_none_is_refused_for_its_form() {
    let fixture = DcapFixture::tdx();
    let judge = judge(&fixture);
    let report_data = session();
    for evidence in [
        json!(null),
        json!({}),
        json!({"quote": "*"}),
        json!({"quote": 1}),
        json!({"quote": "", "cc_eventlog": "A".repeat(20_000_000)}),
    ] {
        let question = Question {
            evidence: &evidence,
            report_data: &report_data,
            init_data: None,
            collateral: &NoCollateral,
            at: Timestamp::from_second(NOW).unwrap(),
        };
        let Judgement::Rejected(checks) = judge.verify(&question).unwrap() else { panic!("accepted") };
        assert_eq!(checks[0].code, "tdx.evidence.format");
    }
}

#[test]
fn no_cut_of_a_quote_is_accepted_and_the_time_is_asked_again_of_what_was_remembered() {
    let fixture = DcapFixture::new(true, PlatformContent::default(), NEXT_UPDATE - 10);
    let judge = super::judge_of(vec![fixture.root.der().to_vec()]);
    let shelf = fixture.shelf();
    let quote = fixture.quote(4, &domain().body(2));
    accepted(&judge, &asked(quote.clone(), &shelf));
    for length in (0..quote.len()).step_by(7) {
        assert_eq!(
            refused(&judge, &asked(quote[..length].to_vec(), &shelf)),
            ["tdx.quote.truncated"],
            "{length}"
        );
    }
    let at = |at| Asked { at, ..asked(quote.clone(), &shelf) };
    let last = i64::try_from(NEXT_UPDATE).unwrap();
    accepted(&judge, &at(last - 10));
    assert_eq!(refused(&judge, &at(last - 9)), ["tdx.pck.chain"]);
    accepted(&judge, &at(NOW));
    assert_eq!(refused(&judge, &at(i64::try_from(ISSUED).unwrap() - 1)), ["tdx.collateral.not-yet-valid"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_changed_quote_is_never_accepted_but_behind_its_end(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let fixture = DcapFixture::tdx();
        let (judge, shelf) = (judge(&fixture), fixture.shelf());
        let mut quote = fixture.quote_v5(3, &domain().body(3));
        accepted(&judge, &asked(quote.clone(), &shelf));
        let at = at.index(quote.len());
        quote[at] ^= 1 << bit;
        let same_key = Quote::parse(&quote).is_ok();
        match ask(&judge, &asked(quote, &shelf)) {
            Ok(Judgement::Rejected(checks)) => prop_assert!(!codes(&checks).is_empty()),
            // Certificates are text: a changed line end, or a certificate that the path does not need, changes nothing.
            Ok(Judgement::Verified(_)) => prop_assert!(same_key && at > 48 + 6 + 648 + 4 + 128 + 6 + 384 + 64 + 34 + 6),
            // Or it is no longer the text that says where the certificates are.
            Err(Fault::CollateralUnavailable(_)) => prop_assert!(same_key),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
