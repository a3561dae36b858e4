//! Quotes of real hardware, at the times at which their collateral was valid.

use coffer_core_evidence::dcap::{Body, Quote, TdAttributes};
use coffer_lab_testpki::dcap::{list, shelf_of};
use coffer_verify_api::{CollateralKey, Document, NoCollateral, PckCa, Shelf, TcbStatus};
use serde_json::Value;

use super::*;

fn file(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let Ok(bytes) = std::fs::read(format!("{folder}/{name}")) else {
        println!("skipped: no vectors ({name})");
        return None;
    };
    Some(match name.ends_with(".hex") {
        true => {
            let text = String::from_utf8(bytes).unwrap();
            hex::decode(text.trim().trim_start_matches("0x")).unwrap()
        }
        false => bytes,
    })
}

fn intel() -> TdxJudge {
    TdxJudge::new(Arc::new(Dcap::intel().unwrap()))
}

fn collateral(name: &str) -> Option<Shelf> {
    Some(shelf_of(&serde_json::from_slice(&file(name)?).unwrap()))
}

fn report_data(quote: &[u8]) -> ReportData {
    match Quote::parse(quote).unwrap().body {
        Body::Td(report) => bound_to(&report.report_data),
        Body::Sgx(_) => panic!("an enclave"),
    }
}

fn asked(quote: Vec<u8>, collateral: &dyn Collateral, at: i64) -> Asked<'_> {
    let report_data = report_data(&quote);
    Asked { quote, log: None, report_data, init_data: None, collateral, at }
}

const DCAP_QVL: i64 = 1_750_414_563;
const OUTDATED: i64 = 1_771_498_731;

#[test]
fn quotes_of_versions_4_and_5_are_accepted_with_their_facts() {
    for (quote, shelf, at, fmspc, mrtd, version) in [
        (
            "tdx/dcapqvl_tdx_quote",
            "tdx/dcapqvl_tdx_quote_collateral.json",
            DCAP_QVL,
            "b0c06f000000",
            "91eb2b44d141",
            "0400",
        ),
        (
            "tdx/gotdx_quote_v5_sample.dat",
            "tdx/dcapqvl_tdx_quote_outdated_collateral.json",
            OUTDATED,
            "90c06f000000",
            "7348651a34b2",
            "0500",
        ),
    ] {
        let (Some(quote), Some(shelf)) = (file(quote), collateral(shelf)) else { return };
        let verified = accepted(&intel(), &asked(quote, &shelf, at));
        let claims = verified.get();
        assert!(claims.registers["mrtd"].hex().starts_with(mrtd));
        assert_eq!(claims.posture.generation.as_deref(), Some(fmspc));
        assert_eq!(claims.posture.debug, Some(false));
        assert_eq!(claims.posture.service_td, Some(false));
        let tcb = claims.posture.tcb.as_ref().unwrap();
        assert_eq!((tcb.status, tcb.advisories.len()), (Some(TcbStatus::UpToDate), 0));
        assert_eq!(claims.json["tcb_status"], "UpToDate");
        assert_eq!(claims.json["collateral_expiration_status"], "0");
        assert_eq!(claims.json["quote"]["header"]["version"], version);
        assert_eq!(claims.json["quote"]["header"]["tee_type"], "81000000");
        assert_eq!(claims.json["earliest_issue_date"], "2018-05-21T10:45:10Z");
        // The hash over Intel's root key, as Intel's own library tells it.
        assert!(claims.json["root_key_id"].as_str().unwrap().starts_with("46e403bd34f05a3f2817ab9badcaacc7"));
        for name in ["pck_crl_num", "root_ca_crl_num", "tcb_eval_num"] {
            assert!(claims.json[name].is_u64(), "{name}");
        }
    }
}

#[test]
fn a_debug_td_with_a_genuine_signature_is_genuine_and_says_so() {
    let Some(quote) = file("tdx/trustee_tdx_quote_4.dat") else { return };
    // No vector has its platform's collateral, so what can be told without is told.
    let judged = intel().dcap;
    let parsed = Quote::parse(&quote).unwrap();
    let at = Timestamp::from_second(DCAP_QVL).unwrap();
    let signed = judged.signatures("tdx", &parsed, &NoCollateral, at);
    assert!(!signed.has_failed(), "{:#?}", signed.checks);
    let Body::Td(report) = &parsed.body else { panic!("an enclave") };
    assert!(report.td_attributes.has(TdAttributes::DEBUG));

    // With another platform's collateral the FMSPC differs.
    let Some(mut shelf) = collateral("tdx/dcapqvl_tdx_quote_collateral.json") else { return };
    let document =
        shelf.iter().find(|(key, _)| matches!(key, CollateralKey::TdxTcbInfo(_))).unwrap().1.clone();
    shelf.put(CollateralKey::TdxTcbInfo([0x50, 0x80, 0x6f, 0, 0, 0]), document);
    let codes = refused(&intel(), &asked(quote, &shelf, DCAP_QVL));
    assert!(codes.contains(&"tdx.tcb-info.fmspc".to_owned()), "{codes:?}");
}

#[test]
fn every_genuine_quote_without_its_collateral_is_unavailable_and_names_what_is_missing() {
    for (name, fmspc) in [
        ("tdx/automata_quotev4.hex", "00806f050000"),
        ("tdx/gotdx_cos-113-tdx-quote.dat", "00806f050000"),
        ("tdx/trustee_tdx_quote_4.dat", "50806f000000"),
        ("tdx/trustee_tdx_quote_5.dat", "90c06f000000"),
        ("tdx/trustee_tdx_quote_6.dat", "00a06d080000"),
        ("tdx/dcapqvl_tdx_quote_outdated", "90c06f000000"),
        ("tdx/dstack_tdx_quote", "b0c06f000000"),
        ("tdx/dcapqvl_tdx-quote.hex", "b0c06f000000"),
        ("tdx/dcapqvl_quote-from-tappd.hex", "b0c06f000000"),
        ("azure/tdx-vtpm/td-quote.bin", "00806f050000"),
    ] {
        let Some(quote) = file(name) else { return };
        let Err(Fault::CollateralUnavailable(keys)) =
            ask(&intel(), &asked(quote, &NoCollateral, 1_776_000_000))
        else {
            panic!("{name}: judged without collateral")
        };
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let tcb_info = format!("intel/tdx/tcb-info/{fmspc}");
        let expected = ["intel/tdx/qe-identity", "intel/root-crl", &tcb_info, "intel/pck-crl/platform"];
        assert_eq!(keys, expected, "{name}");
    }
}

#[test]
fn dstacks_fixtures_hold_genuine_quotes() {
    for (name, member, from) in [
        ("tdx/dstack_quote-report.json", "quote", 0),
        ("tdx/dstack_tdx-lite-attestation.json", "attestation", 4),
    ] {
        let Some(text) = file(name) else { return };
        let value: Value = serde_json::from_slice(&text).unwrap();
        let bytes = hex::decode(value[member].as_str().unwrap()).unwrap();
        let quote = bytes[from..].to_vec();
        let answer = ask(&intel(), &asked(quote, &NoCollateral, 1_795_132_800));
        let Err(Fault::CollateralUnavailable(keys)) = answer else {
            panic!("{name}: judged without collateral")
        };
        assert!(keys.iter().any(|key| matches!(key, CollateralKey::TdxTcbInfo(_))), "{name}: {keys:?}");
    }
}

#[test]
fn platforms_under_every_known_level_are_refused_for_that() {
    for (name, shelf, at) in [
        ("tdx/dcapqvl_tdx_quote_outdated", "tdx/dcapqvl_tdx_quote_outdated_collateral.json", OUTDATED),
        ("tdx/trustee_tdx_quote_5.dat", "tdx/dcapqvl_tdx_quote_outdated_collateral.json", OUTDATED),
        ("tdx/dcapqvl_tdx-quote.hex", "tdx/dcapqvl_tdx_quote_collateral.json", DCAP_QVL),
        ("tdx/dcapqvl_quote-from-tappd.hex", "tdx/dcapqvl_tdx_quote_collateral.json", DCAP_QVL),
        ("tdx/dstack_tdx_quote", "tdx/dcapqvl_tdx_quote_collateral.json", DCAP_QVL),
    ] {
        let (Some(quote), Some(shelf)) = (file(name), collateral(shelf)) else { return };
        assert_eq!(refused(&intel(), &asked(quote, &shelf, at)), ["tdx.tcb.level"], "{name}");
    }
}

#[test]
fn collateral_is_refused_after_its_time_and_accepted_then_only_by_a_judge_made_so() {
    let (Some(quote), Some(shelf)) =
        (file("tdx/dcapqvl_tdx_quote"), collateral("tdx/dcapqvl_tdx_quote_collateral.json"))
    else {
        return;
    };
    let later = 1_795_132_800; // 2026-11-20
    let codes = refused(&intel(), &asked(quote.clone(), &shelf, later));
    assert_eq!(codes, ["tdx.collateral.expired"]);
    let early = refused(&intel(), &asked(quote.clone(), &shelf, DCAP_QVL - 3 * 86_400));
    assert_eq!(early, ["tdx.collateral.not-yet-valid"]);

    let stale = Dcap::intel().unwrap().insecure_accept_stale_collateral(3 * 365 * 86_400);
    let verified = accepted(&TdxJudge::new(Arc::new(stale)), &asked(quote, &shelf, later));
    assert_eq!(verified.get().posture.stale_collateral, Some(true));
    assert_eq!(verified.get().json["collateral_expiration_status"], "1");
    assert!(verified.checks().iter().any(|check| check.code == "tdx.collateral.stale"));
}

#[test]
fn googles_quote_and_log_belong_together_end_to_end() {
    let (Some(quote), Some(log)) =
        (file("tdx/gotdx_cos-113-tdx-quote.dat"), file("ccel/goeventlog_cos-113-intel-tdx.bin"))
    else {
        return;
    };
    let parsed = Quote::parse(&quote).unwrap();
    let Body::Td(report) = &parsed.body else { panic!("an enclave") };
    let (events, check) = crate::log::replay("tdx", &log, report);
    assert!(!check.has_failed(), "{check:#?}");
    let events = events.unwrap();
    let claims = crate::uefi_event_log(&events, Algorithm::Sha384);
    assert!(claims.iter().any(|entry| entry["type_name"] == "EV_EFI_BOOT_SERVICES_APPLICATION"));

    for (name, code) in [
        ("ccel/goeventlog_cos-113-intel-tdx-dupe-separator.bin", "tdx.event-log.replay"),
        ("adversarial/ccel_digest_flip.bin", "tdx.event-log.replay"),
        ("adversarial/ccel_event_size_huge.bin", "tdx.event-log.format"),
        ("ccel/trustee_CCEL_data_gcp", "tdx.event-log.replay"),
        ("ccel/trustee_CCEL_data_csv", "tdx.event-log.replay"),
    ] {
        let Some(log) = file(name) else { return };
        let asked = Asked { log: Some(log), ..asked(quote.clone(), &NoCollateral, 1_776_000_000) };
        assert_eq!(refused(&intel(), &asked), [code], "{name}");
    }

    // Data that no digest covers can be changed without anybody noticing; so nothing is believed of it.
    let Some(changed) = file("adversarial/ccel_event_data_flip.bin") else { return };
    let (changed, check) = crate::log::replay("tdx", &changed, report);
    assert!(!check.has_failed());
    let changed = crate::uefi_event_log(&changed.unwrap(), Algorithm::Sha384);
    let differing: Vec<_> = claims.iter().zip(&changed).filter(|(one, other)| one != other).collect();
    assert_eq!(differing.len(), 1);
    assert_eq!(differing[0].1["digest_matches_event"], false);
}

#[test]
fn the_first_register_of_dstacks_log_is_that_of_its_quote_and_the_rest_is_told_to_differ() {
    let (Some(quote), Some(log)) = (file("tdx/dcapqvl_quote-from-tappd.hex"), file("ccel/dstack_ccel.bin"))
    else {
        return;
    };
    let parsed = Quote::parse(&quote).unwrap();
    let Body::Td(report) = &parsed.body else { panic!("an enclave") };
    let (_, check) = crate::log::replay("tdx", &log, report);
    assert!(!check.children[0].has_failed(), "{check:#?}");
}

#[test]
fn event_logs_are_told_as_upstream_tells_them() {
    for name in ["CCEL_data", "CCEL_data_ovmf", "CCEL_data_grub", "CCEL_AAEL_alibabacloud"] {
        let (Some(log), Some(expected)) =
            (file(&format!("ccel/trustee_{name}")), file(&format!("ccel/trustee_{name}_out.json")))
        else {
            return;
        };
        let log = coffer_core_evidence::eventlog::EventLog::parse(&log).unwrap();
        let told = crate::uefi_event_log(log.events(), Algorithm::Sha384);
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let expected = expected["uefi_event_logs"].as_array().unwrap();
        assert_eq!(told.len(), expected.len(), "{name}");
        for (number, (told, expected)) in told.iter().zip(expected).enumerate() {
            assert_eq!(told, expected, "{name} {number}");
        }
    }
}

#[test]
fn the_claims_of_a_quote_are_those_that_upstream_tells() {
    let (Some(quote), Some(expected)) =
        (file("tdx/trustee_tdx_quote_4.dat"), file("tdx/trustee_parse_tdx_claims_expected.json"))
    else {
        return;
    };
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let parsed = Quote::parse(&quote).unwrap();
    let Body::Td(report) = &parsed.body else { panic!("an enclave") };
    let told = crate::claims::quote_claims(&parsed, report);
    assert_eq!(told["quote"], expected["quote"]);
    assert_eq!(told["report_data"], expected["report_data"]);
    assert_eq!(told["init_data"], expected["init_data"]);
    for (name, value) in expected["td_attributes"].as_object().unwrap() {
        assert_eq!(&told["td_attributes"][name], value, "{name}");
    }
}

#[test]
fn each_derived_defect_is_refused_by_its_own_name() {
    let (Some(base), Some(shelf)) =
        (file("tdx/dcapqvl_tdx_quote"), collateral("tdx/dcapqvl_tdx_quote_collateral.json"))
    else {
        return;
    };
    for (name, code) in [
        ("sig_flip", "tdx.quote.signature"),
        ("mrtd_flip", "tdx.quote.signature"),
        ("debug_bit_set", "tdx.quote.signature"),
        ("qe_report_flip", "tdx.qe-report.signature"),
        ("qe_auth_flip", "tdx.attestation-key.endorsement"),
        ("truncated_sig", "tdx.quote.truncated"),
        ("truncated_header", "tdx.quote.truncated"),
        ("siglen_huge", "tdx.quote.truncated"),
        ("version9", "tdx.quote.version"),
        ("aktype3", "tdx.quote.key-type"),
        ("teetype_sgx", "tdx.quote.truncated"),
        ("attacker_ak", "tdx.attestation-key.endorsement"),
        ("foreign_pck", "tdx.qe-report.signature"),
    ] {
        let Some(quote) = file(&format!("adversarial/tdx_v4_{name}.dat")) else { return };
        // The challenge is the base's, so that only the named defect can be the cause.
        let asked = Asked { quote, ..asked(base.clone(), &shelf, DCAP_QVL) };
        let codes = refused(&intel(), &asked);
        assert_eq!(codes, [code], "{name}");
        // Nothing is asked for to refuse a forgery.
        let bare = Asked { collateral: &NoCollateral, ..asked };
        assert_eq!(refused(&intel(), &bare), [code], "{name}");
    }
}

fn test_pki(folder: &str) -> Option<(TdxJudge, Vec<u8>, Shelf)> {
    let read = |name: &str| file(&format!("{folder}/{name}"));
    let (quote, root) = (read("quote.dat")?, read("trustedRootCaCert.pem")?);
    let root = der_of(&root);
    let chain = [read("pckCert.pem")?, read("pckSignChain.pem")?].join(&b'\n');
    let named = Digest::sha256(Quote::parse(&quote).unwrap().authentication.certification.data());
    let mut shelf = Shelf::default();
    let document = |body, chain| Arc::new(Document::new(body, chain));
    let signers = read("tcbSignChain.pem")?;
    shelf.put(CollateralKey::PckChain(named.as_bytes().try_into().unwrap()), document(chain, Vec::new()));
    shelf.put(
        CollateralKey::TdxTcbInfo([0xed, 0x74, 0x2a, 0xf8, 0xad, 0xf5]),
        document(read("tcbInfo.json")?, signers.clone()),
    );
    shelf.put(CollateralKey::TdQeIdentity, document(read("qeIdentity.json")?, signers));
    shelf.put(CollateralKey::IntelRootCrl, Arc::new(list(read("rootCaCrl.der")?)));
    shelf.put(CollateralKey::PckCrl(PckCa::Processor), Arc::new(list(read("intermediateCaCrl.der")?)));
    Some((judge_of(vec![root]), quote, shelf))
}

fn der_of(pem: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let text = std::str::from_utf8(pem).unwrap();
    let inner: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(inner.trim()).unwrap()
}

#[test]
fn intels_sample_platform_is_followed_to_its_own_root_and_refused_for_its_quoting_enclave() {
    let Some((judge, quote, shelf)) = test_pki("tdx/intel-qvl-testpki") else { return };
    let at = 1_776_000_000; // 2026-04-12
    // The identity in Intel's sample names another MRSIGNER than the report in Intel's sample has, and its TCB info
    // is of a time before modules had identities. All else is right.
    let Judgement::Rejected(checks) = ask(&judge, &asked(quote.clone(), &shelf, at)).unwrap() else {
        panic!("accepted")
    };
    assert_eq!(codes(&checks), ["tdx.qe.identity", "tdx.tcb.module"]);
    let passed = |code: &str| checks.iter().any(|check| check.code == code && !check.has_failed());
    for code in
        ["pck.chain", "qe-report.signature", "quote.signature", "collateral.signature", "pck.revocation"]
    {
        assert!(passed(&format!("tdx.{code}")), "{code}");
    }

    assert_eq!(refused(&intel(), &asked(quote.clone(), &shelf, at)), ["tdx.pck.chain"]);
    let Err(Fault::CollateralUnavailable(keys)) = ask(&judge, &asked(quote, &NoCollateral, at)) else {
        panic!("judged without the chain")
    };
    assert!(matches!(
        keys[..],
        [CollateralKey::PckChain(_), CollateralKey::TdQeIdentity, CollateralKey::IntelRootCrl]
    ));
}

/// Documents of several sources, which Intel signed for the same month.
fn month(tcb_info: &str, identity: &str, pck_crl: &str, root_crl: Option<&str>) -> Option<Shelf> {
    let whole = collateral("tdx/dcapqvl_tdx_quote_collateral.json")?;
    let find =
        |wanted: &CollateralKey| whole.iter().find(|(key, _)| *key == wanted).map(|(_, found)| found.clone());
    let signers = find(&CollateralKey::TdQeIdentity)?.issuer_chain().to_vec();
    let info: Value = serde_json::from_slice(&file(tcb_info)?).unwrap();
    let fmspc = hex::decode(info["tcbInfo"]["fmspc"].as_str()?).ok()?.try_into().ok()?;
    let mut shelf = Shelf::default();
    let document = |name: &str| Some(Arc::new(Document::new(file(name)?, signers.clone())));
    shelf.put(CollateralKey::TdxTcbInfo(fmspc), document(tcb_info)?);
    shelf.put(CollateralKey::TdQeIdentity, document(identity)?);
    shelf.put(CollateralKey::PckCrl(PckCa::Platform), document(pck_crl)?);
    shelf.put(
        CollateralKey::IntelRootCrl,
        match root_crl {
            Some(name) => document(name)?,
            None => find(&CollateralKey::IntelRootCrl)?,
        },
    );
    Some(shelf)
}

#[test]
fn quotes_of_clouds_are_accepted_with_the_documents_of_their_month() {
    let october = 1_761_350_400; // 2025-10-25
    let november = 1_761_955_200; // 2025-11-01
    let (info, identity) = ("tdx/automata_1025_tcb_info.json", "tdx/automata_1025_identity.json");
    let (trustee, enclave) = ("tdx/trustee_tcbInfo.json", "tdx/trustee_enclaveIdentity.json");
    let crl = "tdx/automata_1025_pck_crl.der";
    for (name, info, identity, at, mrtd) in [
        ("tdx/gotdx_cos-113-tdx-quote.dat", info, identity, october, "dae67181d3d6"),
        ("tdx/automata_quotev4.hex", info, identity, october, "935be7742dd8"),
        ("azure/tdx-vtpm/td-quote.bin", info, identity, october, ""),
        ("tdx/trustee_tdx_quote_6.dat", trustee, enclave, november, "21e8dead92d6"),
    ] {
        let (Some(quote), Some(shelf)) = (file(name), month(info, identity, crl, None)) else { return };
        let verified = accepted(&intel(), &asked(quote, &shelf, at));
        let claims = verified.get();
        assert!(claims.registers["mrtd"].hex().starts_with(mrtd), "{name}");
        assert_eq!(claims.json["tcb_eval_num"], 17, "{name}");
        println!("{name}: {:?}", claims.posture.tcb.as_ref().unwrap().status);
    }
    // Google's, whole: quote, log, collateral.
    let (Some(quote), Some(log), Some(nonce), Some(shelf)) = (
        file("tdx/gotdx_cos-113-tdx-quote.dat"),
        file("ccel/goeventlog_cos-113-intel-tdx.bin"),
        file("tdx/gotdx_nonce.dat"),
        month(info, identity, crl, None),
    ) else {
        return;
    };
    let whole = Asked {
        quote,
        log: Some(log),
        report_data: bound_to(&nonce),
        init_data: None,
        collateral: &shelf,
        at: october,
    };
    let verified = accepted(&intel(), &whole);
    assert!(verified.get().json["uefi_event_logs"].as_array().unwrap().len() > 30);
}

#[test]
fn the_debug_td_is_accepted_with_the_documents_of_its_year_and_says_what_it_is() {
    let Some(quote) = file("tdx/trustee_tdx_quote_4.dat") else { return };
    let Some(shelf) = month(
        "tdx/gotdx_sample_tcbInfo_response",
        "tdx/gotdx_sample_qeIdentity_response",
        "tdx/gotdx_pckcrl",
        Some("tdx/gotdx_rootcrl.der"),
    ) else {
        return;
    };
    // The certificate of the signing key that the vectors have began in May 2025, the documents ended in 2023.
    let at = 1_747_000_000; // 2025-05-11
    assert_eq!(refused(&intel(), &asked(quote.clone(), &shelf, at)), ["tdx.collateral.expired"]);
    let stale = Dcap::intel().unwrap().insecure_accept_stale_collateral(2 * 365 * 86_400);
    let verified = accepted(&TdxJudge::new(Arc::new(stale)), &asked(quote, &shelf, at));
    assert_eq!(verified.get().posture.debug, Some(true));
    assert_eq!(verified.get().posture.generation.as_deref(), Some("50806f000000"));
    assert_eq!(verified.get().json["td_attributes"]["debug"], true);
}
