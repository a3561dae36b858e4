//! Machines made here: a chip of a test's PKI around a paravisor of a test, and the same for TDX.

use coffer_core_evidence::azure::{AzureQuote, PlatformProof};
use coffer_core_evidence::eventlog::init_data_in_bank;
use coffer_lab_testpki::dcap::{DcapFixture, TrustDomain};
use coffer_lab_testpki::{AzureFixture, SnpAuthority, SnpKey, TpmFixture};
use coffer_verify_snp::{Revocation, Root, Roots, SnpJudge};
use proptest::prelude::*;

use super::*;

const TCB: [u8; 8] = [4, 0, 0, 0, 0, 0, 24, 219];
const CHIP: [u8; 64] = [0xc5; 64];
/// The hash of a session, SHA-384.
const SESSION: [u8; 48] = [0x5e; 48];

struct Machine {
    azure: AzureFixture,
    authority: SnpAuthority,
    key: SnpKey,
}

fn machine() -> &'static Machine {
    static MADE: OnceLock<Machine> = OnceLock::new();
    MADE.get_or_init(|| {
        let authority = SnpAuthority::new("Genoa");
        let key = authority.certify(&authority.content(TCB, &CHIP));
        Machine { azure: AzureFixture::default(), authority, key }
    })
}

fn judge() -> AzureSnpJudge {
    let own = &machine().authority;
    let root = Root { product: "Genoa".into(), ark: own.ark(), ask: Some(own.ask()), asvk: Some(own.asvk()) };
    AzureSnpJudge::new(Arc::new(SnpJudge::new(Roots::default().with(root), Revocation::NotChecked)))
}

fn user_data() -> [u8; 64] {
    let mut field = [0; 64];
    field[..48].copy_from_slice(&SESSION);
    field
}

/// The registers, of which the eighth holds this init-data.
fn pcrs(init_data: &Digest) -> [Digest; 24] {
    let zero = Digest::zero(Algorithm::Sha256);
    let mut pcrs = std::array::from_fn(|number| Digest::sha256(&[number as u8]));
    pcrs[8] = zero.extend(init_data_in_bank(init_data, Algorithm::Sha256).as_bytes());
    pcrs
}

/// Complete evidence around a report that is signed after the change.
fn snp_with(runtime_data: &[u8], quote: AzureQuote, change: impl FnOnce(&mut [u8; 1184])) -> AzureEvidence {
    let Machine { authority, key, .. } = machine();
    let mut report = authority.report(3, TCB, &CHIP, &AzureFixture::report_data(runtime_data));
    change(&mut report);
    key.sign(&mut report);
    AzureEvidence {
        version: 2,
        quote,
        hcl_report: AzureFixture::hcl_report(false, &report, runtime_data),
        proof: PlatformProof::Snp(Some(key.certificate())),
    }
}

fn snp(init_data: &Digest) -> AzureEvidence {
    let azure = &machine().azure;
    snp_with(&azure.runtime_data(&user_data()), azure.quote(&SESSION, &pcrs(init_data)), |_| ())
}

fn ask(evidence: &AzureEvidence) -> String {
    causes(Asked::new(&evidence.to_value(), &SESSION).snp(&judge()))
}

#[test]
fn a_machine_is_genuine_and_its_init_data_is_in_register_8() {
    for digest in [Digest::sha256(b"init-data"), Digest::of(Algorithm::Sha384, b"init-data")] {
        let evidence = snp(&digest).to_value();
        let asked = |init_data| causes(Asked { init_data, ..Asked::new(&evidence, &SESSION) }.snp(&judge()));
        assert_eq!(asked(None), "");
        assert_eq!(asked(Some(&digest)), "");
        assert_eq!(asked(Some(&Digest::sha256(b"other"))), "az-snp-vtpm.init-data.binding");
    }
}

#[test]
fn a_report_that_the_guest_had_made_itself_proves_no_key() {
    let digest = Digest::sha256(b"");
    // The guest's own key under the paravisor's name, in a report of the guest's own level.
    let own = AzureFixture::default();
    let quote = own.quote(&SESSION, &pcrs(&digest));
    let evidence = snp_with(&own.runtime_data(&user_data()), quote, |report| report[0x30] = 2);
    assert_eq!(ask(&evidence), "az-snp-vtpm.hcl.vmpl");
}

#[test]
fn evidence_with_one_defect_is_refused_for_that_one() {
    let azure = &machine().azure;
    let runtime = azure.runtime_data(&user_data());
    let digest = Digest::sha256(b"");
    let quote = || azure.quote(&SESSION, &pcrs(&digest));
    assert_eq!(ask(&snp_with(&runtime, quote(), |_| ())), "");
    // Another machine's key signs the quote, another machine's report is sent.
    let other = AzureFixture::default();
    assert_eq!(
        ask(&snp_with(&runtime, other.quote(&SESSION, &pcrs(&digest)), |_| ())),
        "az-snp-vtpm.quote.signature"
    );
    assert_eq!(
        ask(&snp_with(&runtime, azure.quote(&[1; 48], &pcrs(&digest)), |_| ())),
        "az-snp-vtpm.quote.freshness"
    );
    assert_eq!(
        ask(&snp_with(&runtime, azure.quote(&SESSION[..32], &pcrs(&digest)), |_| ())),
        "az-snp-vtpm.quote.freshness"
    );
    assert_eq!(ask(&snp_with(&azure.runtime_data(&[0; 64]), quote(), |_| ())), "az-snp-vtpm.hcl.user-data");
    let mut tailed = user_data();
    tailed[63] = 1;
    assert_eq!(ask(&snp_with(&azure.runtime_data(&tailed), quote(), |_| ())), "az-snp-vtpm.hcl.user-data");
    assert_eq!(ask(&snp_with(&runtime, quote(), |report| report[0x50] ^= 1)), "az-snp-vtpm.hcl.report-data");
    assert_eq!(ask(&snp_with(&runtime, quote(), |report| report[0x8f] ^= 1)), "az-snp-vtpm.hcl.report-data");
    assert_eq!(ask(&snp_with(&runtime, quote(), |report| report[0x186] = 1)), "snp.vek.tcb");
    assert_eq!(causes(Asked::new(&snp(&digest).to_value(), &SESSION).snp(amd())), "snp.vek.chain");
    // Registers of a bank of another name.
    let sha384: [Digest; 24] = std::array::from_fn(|_| Digest::zero(Algorithm::Sha384));
    let message = TpmFixture::attest(&SESSION, &sha384, Algorithm::Sha256);
    assert_eq!(
        ask(&snp_with(&runtime, azure.quote_of(message, &pcrs(&digest)), |_| ())),
        "az-snp-vtpm.quote.bank"
    );
    // Runtime data that names no key, or two.
    let named = |from: &str, to: &str| {
        let text = String::from_utf8(runtime.clone()).unwrap().replace(from, to);
        ask(&snp_with(text.as_bytes(), quote(), |_| ()))
    };
    assert_eq!(named("HCLAkPub", "HCLOther"), "az-snp-vtpm.runtime.format");
    assert_eq!(named("HCLEkPub", "HCLAkPub"), "az-snp-vtpm.runtime.format");
    assert_eq!(named("RSA", "EC"), "az-snp-vtpm.runtime.format");
    assert_eq!(named("AQAB", "***"), "az-snp-vtpm.runtime.format");
    assert_eq!(named("AQAB", "AQAA"), "az-snp-vtpm.quote.signature");
    assert_eq!(named("5E5E", "5Ex"), "az-snp-vtpm.runtime.format");
}

#[test]
fn forms_that_are_none_are_refused_by_name() {
    let good = snp(&Digest::sha256(b"")).to_value();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        causes(Asked::new(&changed, &SESSION).snp(&judge()))
    };
    assert_eq!(refused(&|_| ()), "");
    for change in [
        &(|e: &mut Value| *e = Value::Null) as &dyn Fn(&mut Value),
        &|e| e["version"] = 3.into(),
        &|e| e["version"] = "2".into(),
        &|e| e["hcl_report"] = "*".into(),
        &|e| e["hcl_report"] = "A".repeat(70_000).into(),
        &|e| e["tpm_quote"]["signature"] = "0".into(),
        &|e| e["tpm_quote"]["message"] = Value::Null,
        &|e| e["tpm_quote"]["pcrs"] = vec!["00".repeat(32); 25].into(),
        &|e| e["vcek"] = "-----BEGIN CERTIFICATE-----".into(),
    ] {
        assert_eq!(refused(change), "az-snp-vtpm.evidence.format");
    }
    // Padded or not, the bytes are the same.
    let trimmed = good["hcl_report"].as_str().unwrap().trim_end_matches('=').to_owned();
    assert_eq!(refused(&|e| e["hcl_report"] = trimmed.clone().into()), "");
}

fn tdx_judge(fixture: &DcapFixture) -> AzureTdxJudge {
    let dcap = coffer_verify_dcap::Dcap::new(vec![fixture.root.der().to_vec()]).unwrap();
    AzureTdxJudge::new(Arc::new(coffer_verify_tdx::TdxJudge::new(Arc::new(dcap))))
}

fn tdx(fixture: &DcapFixture, report_data: Option<[u8; 64]>, attributes: u64) -> AzureEvidence {
    let azure = &machine().azure;
    let runtime = azure.runtime_data(&user_data());
    let bound = AzureFixture::report_data(&runtime);
    let domain =
        TrustDomain { report_data: report_data.unwrap_or(bound), attributes, ..TrustDomain::default() };
    AzureEvidence {
        version: 2,
        quote: azure.quote(&SESSION, &pcrs(&Digest::sha256(b"init-data"))),
        hcl_report: AzureFixture::hcl_report(true, &[0; 1024], &runtime),
        proof: PlatformProof::Tdx(fixture.quote(4, &domain.body(2))),
    }
}

#[test]
fn a_machine_of_tdx_is_genuine_and_refused_for_each_defect() {
    let fixture = DcapFixture::tdx();
    let (judge, shelf) = (tdx_judge(&fixture), fixture.shelf());
    let init_data = Digest::sha256(b"init-data");
    let ask = |evidence: &AzureEvidence, init_data: Option<&Digest>| {
        let evidence = evidence.to_value();
        let asked = Asked { init_data, collateral: &shelf, ..Asked::new(&evidence, &SESSION) };
        asked.tdx(&judge)
    };
    let good = tdx(&fixture, None, 0);
    let verified = accepted(ask(&good, Some(&init_data)));
    let claims = verified.get();
    assert_eq!(claims.tee, coffer_core_evidence::Tee::AzTdxVtpm);
    for name in ["mrtd", "rtmr0", "pcr0", "pcr23"] {
        assert!(claims.registers.contains_key(name), "{name}");
    }
    assert_eq!(claims.json["init_data"], claims.registers["pcr8"].hex());
    assert_eq!(claims.json["report_data"], hex::encode(SESSION));
    assert_eq!(claims.json["tpm"]["pcr08"], claims.registers["pcr8"].hex());
    assert!(claims.json["quote"]["body"]["mr_td"].is_string());
    assert_eq!(claims.posture.debug, Some(false));
    // A debugged TD is genuine; the appraisal refuses it.
    assert_eq!(accepted(ask(&tdx(&fixture, None, 1), None)).get().posture.debug, Some(true));

    assert_eq!(causes(ask(&good, Some(&Digest::sha256(b"other")))), "az-tdx-vtpm.init-data.binding");
    assert_eq!(causes(ask(&tdx(&fixture, Some([1; 64]), 0), None)), "tdx.quote.report-data");
    let refused = |change: fn(&mut AzureEvidence)| {
        let mut changed = good.clone();
        change(&mut changed);
        causes(ask(&changed, None))
    };
    assert_eq!(refused(|e| e.quote.signature[0] ^= 1), "az-tdx-vtpm.quote.signature");
    assert_eq!(refused(|e| e.quote.pcrs[0][0] ^= 1), "az-tdx-vtpm.pcrs.digest");
    let foreign = DcapFixture::tdx();
    assert_ne!(causes(ask(&tdx(&foreign, None, 0), None)), "");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_change_of_any_byte_of_the_paravisors_report_is_refused(at in 0_usize..2346, by in 1_u8..) {
        static GOOD: OnceLock<AzureEvidence> = OnceLock::new();
        static JUDGE: OnceLock<AzureSnpJudge> = OnceLock::new();
        let mut changed = GOOD.get_or_init(|| snp(&Digest::sha256(b""))).clone();
        let end = changed.hcl_report.iter().rposition(|byte| *byte != 0).unwrap();
        changed.hcl_report[at.min(end)] ^= by;
        let found = causes(Asked::new(&changed.to_value(), &SESSION).snp(JUDGE.get_or_init(judge)));
        // Words of the header that say nothing of the report, and the bytes behind the report's signature.
        let unused = matches!(at, 8..=15 | 20..=31) || (32 + 0x330..32 + 1184).contains(&at);
        prop_assert_eq!(found.is_empty(), unused, "byte {}: {}", at, found);
    }
}
