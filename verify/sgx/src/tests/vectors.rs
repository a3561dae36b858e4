//! Quotes of real hardware and of Intel's sample platform.

use coffer_core_evidence::dcap::{Body, Quote};
use coffer_lab_testpki::dcap::{list, shelf_of};
use coffer_verify_api::{CollateralKey, Document, NoCollateral, PckCa, Shelf, TcbStatus};

use super::*;

fn file(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let Ok(bytes) = std::fs::read(format!("{folder}/sgx/{name}")) else {
        println!("skipped: no vectors ({name})");
        return None;
    };
    Some(match name.ends_with(".hex") {
        true => hex::decode(String::from_utf8(bytes).unwrap().trim().trim_start_matches("0x")).unwrap(),
        false => bytes,
    })
}

fn intel() -> SgxJudge {
    SgxJudge::new(Arc::new(Dcap::intel().unwrap()))
}

fn asked(quote: Vec<u8>, collateral: &dyn Collateral, at: i64) -> Asked<'_> {
    let report_data = match Quote::parse(&quote).unwrap().body {
        Body::Sgx(report) => bound_to(&report.report_data),
        Body::Td(_) => panic!("a trust domain"),
    };
    Asked { quote, report_data, init_data: None, collateral, at }
}

const DCAP_QVL: i64 = 1_750_416_971;

#[test]
fn an_enclave_of_real_hardware_is_accepted_with_its_facts() {
    let (Some(quote), Some(text)) = (file("dcapqvl_sgx_quote"), file("dcapqvl_sgx_quote_collateral.json"))
    else {
        return;
    };
    let shelf = shelf_of(&serde_json::from_slice(&text).unwrap());
    let verified = accepted(&intel(), &asked(quote.clone(), &shelf, DCAP_QVL));
    let claims = verified.get();
    assert!(claims.registers["mrenclave"].hex().starts_with("33d8736db756"));
    assert!(claims.registers["mrsigner"].hex().starts_with("815f42f11cf64430"));
    assert_eq!(claims.posture.generation.as_deref(), Some("00a067110000"));
    assert_eq!(claims.posture.debug, Some(false));
    let tcb = claims.posture.tcb.as_ref().unwrap();
    assert_eq!(tcb.status, Some(TcbStatus::ConfigurationAndSWHardeningNeeded));
    assert_eq!(tcb.advisories, ["INTEL-SA-00289", "INTEL-SA-00615"]);
    assert_eq!(claims.json["tcb_status"], "ConfigurationAndSWHardeningNeeded");
    assert_eq!(claims.json["body"]["report_data"], hex::encode([&b"Hello, world!"[..], &[0; 51]].concat()));

    assert_eq!(refused(&intel(), &asked(quote, &shelf, 1_795_132_800)), ["sgx.collateral.expired"]);
}

#[test]
fn genuine_quotes_without_collateral_are_unavailable_and_name_their_platform() {
    for (name, fmspc, ca) in [
        ("automata_quotev3.hex", "00606a000000", "platform"),
        ("automata_quote_sgx.bin", "00a067110000", "processor"),
        ("trustee_occlum_quote.dat", "00606a000000", "platform"),
    ] {
        let Some(quote) = file(name) else { return };
        let at = 1_740_000_000; // 2025-02-19
        let Err(Fault::CollateralUnavailable(keys)) = ask(&intel(), &asked(quote, &NoCollateral, at)) else {
            panic!("{name}: judged without collateral")
        };
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let (tcb_info, crl) = (format!("intel/sgx/tcb-info/{fmspc}"), format!("intel/pck-crl/{ca}"));
        assert_eq!(keys, ["intel/sgx/qe-identity", "intel/root-crl", &tcb_info, &crl], "{name}");
    }
}

#[test]
fn debug_enclaves_with_genuine_signatures_are_seen_to_be_such() {
    for name in ["automata_quote_sgx.bin", "trustee_occlum_quote.dat"] {
        let Some(bytes) = file(name) else { return };
        let quote = Quote::parse(&bytes).unwrap();
        let at = Timestamp::from_second(1_740_000_000).unwrap();
        let signed = Dcap::intel().unwrap().signatures("sgx", &quote, &NoCollateral, at);
        assert!(!signed.has_failed(), "{name}");
        let Body::Sgx(report) = &quote.body else { panic!("{name}: a trust domain") };
        assert!(report.is_debug(), "{name}");
    }
    // The same platform model as that of the collateral: genuine, and debug is told to whoever decides.
    let (Some(quote), Some(text)) =
        (file("automata_quote_sgx.bin"), file("dcapqvl_sgx_quote_collateral.json"))
    else {
        return;
    };
    let shelf = shelf_of(&serde_json::from_slice(&text).unwrap());
    let verified = accepted(&intel(), &asked(quote, &shelf, DCAP_QVL));
    assert_eq!(verified.get().posture.debug, Some(true));
}

#[test]
fn intels_sample_platform_is_accepted_under_its_own_root_and_no_other() {
    let read = |name: &str| file(&format!("intel-qvl-testpki/{name}"));
    let (Some(quote), Some(root)) = (read("quote.dat"), read("trustedRootCaCert.pem")) else { return };
    let root = coffer_verify_x509::pem_certificates(&root).unwrap();
    let chain = [read("pckCert.pem").unwrap(), read("pckSignChain.pem").unwrap()].join(&b'\n');
    let signers = read("tcbSignChain.pem").unwrap();
    let named = Digest::sha256(Quote::parse(&quote).unwrap().authentication.certification.data());
    let key = CollateralKey::PckChain(named.as_bytes().try_into().unwrap());
    let mut shelf = Shelf::default();
    let mut put = |key, body, chain| shelf.put(key, Arc::new(Document::new(body, chain)));
    put(key.clone(), chain, Vec::new());
    let fmspc = [0, 0x70, 0x7f, 0, 0, 0];
    put(CollateralKey::SgxTcbInfo(fmspc), read("tcbInfo.json").unwrap(), signers.clone());
    put(CollateralKey::SgxQeIdentity, read("qeIdentity.json").unwrap(), signers);
    shelf.put(CollateralKey::IntelRootCrl, Arc::new(list(read("rootCaCrl.der").unwrap())));
    shelf
        .put(CollateralKey::PckCrl(PckCa::Processor), Arc::new(list(read("intermediateCaCrl.der").unwrap())));

    let judge = SgxJudge::new(Arc::new(Dcap::new(root).unwrap()));
    let at = 1_740_000_000;
    let verified = accepted(&judge, &asked(quote.clone(), &shelf, at));
    let tcb = verified.get().posture.tcb.clone().unwrap();
    assert_eq!(tcb.status, Some(TcbStatus::UpToDate));
    assert_eq!(verified.get().json["sgx_type"], "Standard");
    assert_eq!(refused(&intel(), &asked(quote.clone(), &shelf, at)), ["sgx.pck.chain"]);
    let Err(Fault::CollateralUnavailable(keys)) = ask(&judge, &asked(quote, &NoCollateral, at)) else {
        panic!("judged without the chain")
    };
    assert_eq!(keys, [key, CollateralKey::SgxQeIdentity, CollateralKey::IntelRootCrl]);
}
