//! Claims about extensions, documents and the memory of what was verified. Whole quotes are judged in `verify/tdx`
//! and `verify/sgx`.

use coffer_core_evidence::dcap::Quote;
use coffer_lab_testpki::dcap::{DcapFixture, ISSUED, NEXT_UPDATE, PlatformContent, TrustDomain};
use coffer_verify_api::{Check, NoCollateral, Timestamp};
use coffer_verify_x509::der::DerError;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::documents::{Identity, TcbInfo};

#[test]
fn the_root_that_is_built_in_is_intels() {
    let dcap = Dcap::intel().unwrap();
    let [root] = dcap.anchors.as_slice() else { panic!("one root") };
    assert_eq!(root.subject_cn(), "Intel SGX Root CA");
    assert_eq!(root.not_after(), 2_524_607_999);
    root.verify_signed_by(root).unwrap();
    let digest = coffer_core_digest::Digest::sha256(root.der());
    assert!(digest.hex().starts_with("44a0196b2b99f889b8e149e95b807a35"));
}

#[test]
fn what_is_no_certificate_is_no_root() {
    assert!(Dcap::new(vec![b"no root".to_vec()]).is_err());
}

#[test]
fn the_extension_is_read_as_its_profile_has_it() {
    let content = PlatformContent::default();
    let read = PckExtension::parse(&content.extension()).unwrap();
    assert_eq!((read.ppid, read.fmspc, read.pce_id), (content.ppid, content.fmspc, content.pce_id));
    assert_eq!((read.components, read.pce_svn), (content.components, content.pce_svn));
    assert_eq!(
        (read.dynamic_platform, read.cached_keys, read.smt_enabled),
        (Some(true), Some(false), Some(true))
    );
    assert_eq!((read.sgx_type, read.platform_instance_id), (1, content.instance));
    let bare = PlatformContent { instance: None, flags: None, ..content };
    let read = PckExtension::parse(&bare.extension()).unwrap();
    assert_eq!((read.sgx_type, read.smt_enabled, read.platform_instance_id), (0, None, None));
}

#[test]
fn an_extension_that_says_something_twice_or_not_at_all_is_refused() {
    let whole = PlatformContent::default().extension();
    let fmspc: Vec<u8> =
        [&[0x30, 20, 6, 10, 0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 1, 13, 1, 4, 4, 6][..], &[9; 6]].concat();
    let position = whole.windows(14).position(|window| window == &fmspc[..14]).unwrap();
    let mut without = whole.clone();
    // Another arc, which later profiles may add.
    without[position + 13] = 99;
    assert_eq!(PckExtension::parse(&without), Err(DerError::Truncated("the SGX extension")));
    let mut twice = whole[4..].to_vec();
    twice.extend(&fmspc);
    let length = u16::try_from(twice.len()).unwrap().to_be_bytes();
    let twice = [&[0x30, 0x82][..], &length, &twice].concat();
    assert_eq!(PckExtension::parse(&twice), Err(DerError::Value("the SGX extension")));
    for length in 0..whole.len() {
        PckExtension::parse(&whole[..length]).unwrap_err();
    }
}

#[test]
fn security_versions_are_of_eight_bits_and_intels_samples_of_sixteen_are_read() {
    let fixture = DcapFixture::tdx();
    let read = |svn: serde_json::Value| {
        let mut info = fixture.tcb_info();
        info["tcbLevels"][0]["tcb"]["sgxtcbcomponents"][0]["svn"] = svn;
        TcbInfo::parse(info.to_string().as_bytes()).map(|info| info.levels[0].sgx[0])
    };
    assert_eq!(read(json!(255)).unwrap(), 255);
    assert_eq!(read(json!(65_473)).unwrap(), 0xc1);
    for wrong in [json!(256), json!(65_000), json!(65_536), json!(-1), json!("5"), json!(null)] {
        read(wrong.clone()).expect_err(&wrong.to_string());
    }
}

#[test]
fn a_document_with_what_cannot_stand_there_is_refused() {
    let fixture = DcapFixture::tdx();
    let info = |change: fn(&mut serde_json::Value)| {
        let mut info = fixture.tcb_info();
        change(&mut info);
        TcbInfo::parse(info.to_string().as_bytes()).unwrap_err().to_string()
    };
    assert!(
        info(|i| i["tcbLevels"][0]["tcbStatus"] = "TDRelaunchAdvised".into()).contains("TDRelaunchAdvised")
    );
    assert!(info(|i| i["tcbLevels"][0]["tcbStatus"] = "Fine".into()).contains("Fine"));
    assert!(info(|i| i["tdxModule"] = json!(null)).contains("tdxModule"));
    assert!(info(|i| i["tdxModuleIdentities"][0]["id"] = "TDX_0G".into()).contains("TDX_0G"));
    assert!(
        info(|i| i["tdxModuleIdentities"][0]["tcbLevels"][0]["tcbStatus"] = "SWHardeningNeeded".into())
            .contains("SWHardeningNeeded")
    );
    assert!(info(|i| i["fmspc"] = "00".into()).contains("6 octets"));
    info(|i| i["nextUpdate"] = "soon".into());
    assert!(
        info(|i| {
            i["tcbLevels"][0]["tcb"]["sgxtcbcomponents"].as_array_mut().unwrap().pop();
        })
        .contains("15 components")
    );
    let twice = fixture.tcb_info().to_string().replacen("\"version\":3", "\"version\":3,\"version\":2", 1);
    assert!(TcbInfo::parse(twice.as_bytes()).unwrap_err().to_string().contains("duplicate"));
    let identity = fixture.identity().to_string().replace("TD_QE", "QVE");
    assert!(Identity::parse(identity.as_bytes()).unwrap_err().to_string().contains("QVE"));
}

#[test]
fn the_dates_of_documents_are_told_without_belief() {
    let fixture = DcapFixture::tdx();
    let expected = Dates { issued: ISSUED.cast_signed(), next_update: NEXT_UPDATE.cast_signed() };
    for document in [
        fixture.document("tcbInfo", &fixture.tcb_info()),
        fixture.document("enclaveIdentity", &fixture.identity()),
    ] {
        assert_eq!(document_dates(document.body()).unwrap(), expected);
    }
    document_dates(b"{}").unwrap_err();
}

#[test]
fn a_platform_that_is_remembered_is_judged_as_one_that_is_not() {
    let fixture = DcapFixture::tdx();
    let dcap = Dcap::new(vec![fixture.root.der().to_vec()]).unwrap();
    let bytes = fixture.quote(4, &TrustDomain::default().body(2));
    let quote = Quote::parse(&bytes).unwrap();
    let shelf = fixture.shelf();
    let day = 86_400;
    for at in [ISSUED + day, ISSUED - day, ISSUED + day, NEXT_UPDATE + day, 4_800_000_000, ISSUED + day] {
        let at = Timestamp::from_second(at.cast_signed()).unwrap();
        let fresh = Dcap::new(vec![fixture.root.der().to_vec()]).unwrap();
        let told = |dcap: &Dcap| {
            let signed = dcap.signatures("tdx", &quote, &shelf, at);
            let appraised = dcap.appraise("tdx", &quote, &signed, &shelf, at);
            // What needs collateral is asked of what was signed well only.
            let more: Vec<Check> = match signed.has_failed() {
                true => Vec::new(),
                false => appraised.unwrap().checks,
            };
            [signed.checks, more].concat()
        };
        assert_eq!(told(&dcap), told(&fresh), "{at}");
        assert_eq!(told(&dcap), told(&fresh), "{at}");
    }
}

#[test]
fn signatures_of_a_failed_quote_ask_for_no_collateral() {
    let fixture = DcapFixture::tdx();
    let other = Dcap::intel().unwrap();
    let bytes = fixture.quote(4, &TrustDomain::default().body(2));
    let at = Timestamp::from_second(ISSUED.cast_signed()).unwrap();
    let signed = other.signatures("x", &Quote::parse(&bytes).unwrap(), &NoCollateral, at);
    let codes: Vec<&str> =
        signed.checks.iter().flat_map(Check::causes).map(|check| check.code.as_str()).collect();
    assert_eq!(codes, ["x.pck.chain"]);
}

proptest! {
    #[test]
    fn a_changed_extension_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut extension = PlatformContent::default().extension();
        let at = at.index(extension.len());
        extension[at] = byte;
        let _ = PckExtension::parse(&extension);
    }
}
