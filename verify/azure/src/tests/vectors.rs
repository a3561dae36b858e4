//! Evidence of machines on Azure.

use std::path::PathBuf;

use coffer_core_evidence::azure::{AzureQuote, HclReport, Platform, PlatformProof, RuntimeClaims};
use coffer_core_evidence::tpm::Attest;

use super::*;

fn vector(path: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let found = std::fs::read(PathBuf::from(folder).join("azure").join(path)).ok();
    if found.is_none() {
        println!("skipped: no vectors ({path})");
    }
    found
}

fn json(path: &str) -> Option<Value> {
    Some(serde_json::from_slice(&vector(path)?).unwrap())
}

const SNP: [(&str, &str); 3] = [
    ("snp-vtpm/evidence-v0.json", "6368616c6c656e6765"),
    ("snp-vtpm/evidence-v1.json", "6368616c6c656e6765"),
    (
        "snp-vtpm/evidence-v2.json",
        "982f5c6e45df0ed3f10b6f60b02f0c8390e281300f3805e2279c16168cd6ae9aa398f647caa2338748cd0fd9f5f819ef",
    ),
];
const TDX: [&str; 2] = ["tdx-vtpm/evidence-v0.json", "tdx-vtpm/evidence-v1.json"];

#[test]
fn evidence_of_snp_machines_is_genuine_in_every_version() {
    for (path, nonce) in SNP {
        let Some(evidence) = json(path) else { return };
        let nonce = hex::decode(nonce).unwrap();
        let verified = accepted(Asked::new(&evidence, &nonce).snp(amd()));
        let claims = verified.get();
        assert_eq!(claims.posture.generation.as_deref(), Some("Milan"), "{path}");
        assert_eq!((claims.posture.debug, claims.posture.vmpl), (Some(false), Some(0)), "{path}");
        assert_eq!(claims.registers.keys().filter(|name| name.starts_with("pcr")).count(), 24, "{path}");
        assert!(claims.registers.contains_key("measurement"), "{path}");
        assert_eq!(claims.json["report_data"], hex::encode(&nonce), "{path}");
        assert_eq!(claims.json["init_data"], claims.registers["pcr8"].hex(), "{path}");
        assert_eq!(claims.json["tpm"]["pcr00"], claims.registers["pcr0"].hex(), "{path}");
        assert_eq!(claims.json["policy_debug_allowed"], "false", "{path}");
        assert_eq!(claims.json["snp"]["policy_debug_allowed"], false, "{path}");
    }
}

#[test]
fn a_question_of_the_protocol_is_bound_to_the_hash_itself() {
    use coffer_verify_api::Verifier as _;
    let (path, nonce) = SNP[2];
    let Some(evidence) = json(path) else { return };
    let digest = Digest::from_bytes(Algorithm::Sha384, &hex::decode(nonce).unwrap()).unwrap();
    let ask = |digest| {
        let report_data = ReportData::from_runtime_hash(digest);
        let at = Timestamp::from_second(NOW).unwrap();
        let question = Question {
            evidence: &evidence,
            report_data: &report_data,
            init_data: None,
            collateral: &NoCollateral,
            at,
        };
        causes(amd().verify(&question))
    };
    assert_eq!(ask(digest), "");
    let other = Digest::of(Algorithm::Sha384, b"other");
    assert_eq!(ask(other), "az-snp-vtpm.quote.freshness az-snp-vtpm.hcl.user-data");
}

#[test]
fn changed_evidence_of_snp_machines_is_refused_each_for_its_change() {
    for (path, nonce) in SNP {
        let Some(evidence) = json(path) else { return };
        let nonce = hex::decode(nonce).unwrap();
        let read = AzureEvidence::parse_snp(&evidence).unwrap();
        let refused =
            |change: fn(&mut AzureEvidence)| causes(Asked::new(&changed(&read, change), &nonce).snp(amd()));
        assert_eq!(refused(|_| ()), "", "{path}");
        assert_eq!(refused(|e| e.quote.signature[9] ^= 1), "az-snp-vtpm.quote.signature");
        assert_eq!(refused(|e| e.quote.signature.truncate(255)), "az-snp-vtpm.quote.signature");
        assert_eq!(refused(|e| e.quote.message[0] ^= 1), "az-snp-vtpm.quote.magic");
        assert_eq!(refused(|e| e.quote.message.truncate(60)), "az-snp-vtpm.quote.format");
        assert_eq!(refused(|e| e.quote.pcrs[9][0] ^= 1), "az-snp-vtpm.pcrs.digest");
        assert_eq!(refused(|e| e.quote.pcrs.swap(4, 5)), "az-snp-vtpm.pcrs.digest");
        assert_eq!(refused(|e| e.quote.pcrs.truncate(23)), "az-snp-vtpm.pcrs.digest");
        assert_eq!(refused(|e| e.quote.pcrs[3].truncate(20)), "az-snp-vtpm.quote.format");
        // The report: its measurement, its own binding, who asked for it, its signature.
        assert_eq!(refused(|e| e.hcl_report[32 + 0x90] ^= 1), "snp.report.signature");
        assert_eq!(
            refused(|e| e.hcl_report[32 + 0x50] ^= 1),
            "az-snp-vtpm.hcl.report-data snp.report.signature"
        );
        assert_eq!(
            refused(|e| e.hcl_report[32 + 0x80] ^= 1),
            "az-snp-vtpm.hcl.report-data snp.report.signature"
        );
        assert_eq!(refused(|e| e.hcl_report[32 + 0x30] ^= 2), "az-snp-vtpm.hcl.vmpl snp.report.signature");
        assert_eq!(refused(|e| e.hcl_report[32 + 0x2a0] ^= 1), "snp.report.signature");
        assert_eq!(refused(|e| e.hcl_report[32] = 9), "snp.report.version");
        // The runtime data: a space, and the attestation key.
        assert_eq!(
            refused(|e| *e.hcl_report.iter_mut().rfind(|byte| **byte != 0).unwrap() = b' '),
            "az-snp-vtpm.runtime.format"
        );
        assert_eq!(
            refused(|e| swap_keys(&mut e.hcl_report)),
            "az-snp-vtpm.quote.signature az-snp-vtpm.hcl.report-data"
        );
        // The headers.
        assert_eq!(refused(|e| e.hcl_report[0] = b'h'), "az-snp-vtpm.hcl.format");
        assert_eq!(refused(|e| e.hcl_report[4] = 3), "az-snp-vtpm.hcl.format");
        assert_eq!(refused(|e| e.hcl_report[16] = 1), "az-snp-vtpm.hcl.format");
        assert_eq!(refused(|e| e.hcl_report[32 + 1184 + 4] = 2), "az-snp-vtpm.hcl.format");
        assert_eq!(refused(|e| e.hcl_report[32 + 1184 + 8] = 3), "az-snp-vtpm.hcl.format");
        assert!(refused(|e| e.hcl_report[32 + 1184 + 8] = 4).starts_with("az-snp-vtpm.hcl.platform"));
        assert_eq!(refused(|e| e.hcl_report[32 + 1184 + 12] = 9), "az-snp-vtpm.hcl.format");
        assert_eq!(refused(|e| e.hcl_report[32 + 1184 + 12] = 2), "az-snp-vtpm.hcl.report-data");
        assert_eq!(refused(|e| e.hcl_report[32 + 1184 + 16] ^= 1), "az-snp-vtpm.hcl.format");
        for length in [0, 31, 32, 1215, 1216, 1235, 1236, 1300, 2345] {
            let mut cut = read.clone();
            cut.hcl_report.truncate(length);
            let found = causes(Asked::new(&changed(&cut, |_| ()), &nonce).snp(amd()));
            assert_eq!(found, "az-snp-vtpm.hcl.format", "{length}");
        }
        // The chip's certificate.
        assert_eq!(refused(|e| certificate(e)[700] ^= 1), "snp.vek.chain");
        assert_eq!(refused(|e| certificate(e).truncate(700)), "snp.vek.format");
        assert!(
            refused(|e| e.proof = PlatformProof::Snp(None))
                .starts_with("collateral is missing: amd/vcek/Milan/")
        );
        assert_eq!(
            causes(Asked::new(&evidence, b"another").snp(amd())).split(' ').next(),
            Some("az-snp-vtpm.quote.freshness")
        );
        assert_eq!(
            causes(Asked::new(&evidence, b"").snp(amd())).split(' ').next(),
            Some("az-snp-vtpm.quote.freshness")
        );
        let late = Asked { at: 2_000_000_000, ..Asked::new(&evidence, &nonce) };
        assert_eq!(causes(late.snp(amd())), "snp.vek.validity");
    }
}

/// The endorsement key takes the attestation key's name, and the other way round.
fn swap_keys(report: &mut [u8]) {
    let text = report.to_vec();
    let find = |name: &[u8]| text.windows(name.len()).position(|window| window == name).unwrap();
    let (first, second) = (find(b"HCLAkPub"), find(b"HCLEkPub"));
    report[first..first + 8].copy_from_slice(b"HCLEkPub");
    report[second..second + 8].copy_from_slice(b"HCLAkPub");
}

fn certificate(evidence: &mut AzureEvidence) -> &mut Vec<u8> {
    match &mut evidence.proof {
        PlatformProof::Snp(Some(der)) => der,
        _ => panic!("no certificate"),
    }
}

#[test]
fn parts_of_two_machines_are_no_evidence() {
    let (Some(one), Some(two)) = (json(SNP[1].0), json(SNP[2].0)) else { return };
    let nonces = SNP.map(|(_, nonce)| hex::decode(nonce).unwrap());
    let (one, two) = (AzureEvidence::parse_snp(&one).unwrap(), AzureEvidence::parse_snp(&two).unwrap());
    let quote = changed(&one, |e| e.quote = two.quote.clone());
    assert_eq!(causes(Asked::new(&quote, &nonces[2]).snp(amd())), "az-snp-vtpm.quote.signature");
    let report = changed(&one, |e| e.hcl_report = two.hcl_report.clone());
    let found = causes(Asked::new(&report, &nonces[1]).snp(amd()));
    assert!(found.starts_with("az-snp-vtpm.quote.signature"), "{found}");
    let registers = changed(&one, |e| e.quote.pcrs = two.quote.pcrs.clone());
    assert_eq!(causes(Asked::new(&registers, &nonces[1]).snp(amd())), "az-snp-vtpm.pcrs.digest");
    // The first machine was asked before the paravisor could be told the hash.
    let mut promised = changed(&one, |_| ());
    promised["version"] = 2.into();
    assert_eq!(causes(Asked::new(&promised, &nonces[1]).snp(amd())), "az-snp-vtpm.hcl.user-data");
}

#[test]
fn evidence_of_tdx_machines_wants_intels_documents_and_says_what_is_wrong_without_them() {
    for path in TDX {
        let Some(evidence) = json(path) else { return };
        let judge = intel();
        let nonce = b"challenge";
        // Within the validity of the platform's certificate.
        let asked =
            |evidence: &Value| causes(Asked { at: 1_750_000_000, ..Asked::new(evidence, nonce) }.tdx(&judge));
        let missing = asked(&evidence);
        assert!(missing.contains("intel/tdx/tcb-info/00806f050000"), "{missing}");
        let read = AzureEvidence::parse_tdx(&evidence).unwrap();
        let refused = |change: fn(&mut AzureEvidence)| asked(&changed(&read, change));
        assert_eq!(refused(|_| ()), missing);
        assert_eq!(refused(|e| e.quote.signature[9] ^= 1), "az-tdx-vtpm.quote.signature");
        assert_eq!(refused(|e| e.quote.message[0] ^= 1), "az-tdx-vtpm.quote.magic");
        assert_eq!(refused(|e| e.quote.pcrs[9][0] ^= 1), "az-tdx-vtpm.pcrs.digest");
        assert_eq!(
            refused(|e| swap_keys(&mut e.hcl_report)),
            "az-tdx-vtpm.quote.signature tdx.quote.report-data"
        );
        assert_eq!(refused(|e| e.hcl_report[32 + 1184 + 8] = 3), "az-tdx-vtpm.hcl.format");
        assert_eq!(refused(|e| td_quote(e)[600] ^= 1), "tdx.quote.report-data tdx.quote.signature");
        assert_eq!(refused(|e| td_quote(e)[200] ^= 1), "tdx.quote.signature");
        assert!(!refused(|e| td_quote(e).truncate(700)).starts_with("collateral"));
        let stale = causes(Asked::new(&evidence, b"another").tdx(&judge));
        assert!(stale.starts_with("az-tdx-vtpm.quote.freshness"), "{stale}");
    }
}

fn td_quote(evidence: &mut AzureEvidence) -> &mut Vec<u8> {
    match &mut evidence.proof {
        PlatformProof::Tdx(quote) => quote,
        PlatformProof::Snp(_) => panic!("no quote"),
    }
}

#[test]
fn evidence_of_one_platform_is_none_of_the_other() {
    let (Some(snp), Some(tdx)) = (json(SNP[1].0), json(TDX[1])) else { return };
    assert_eq!(
        causes(Asked::new(&tdx, b"challenge").snp(amd())).split(' ').next(),
        Some("az-snp-vtpm.hcl.platform")
    );
    assert_eq!(causes(Asked::new(&snp, b"challenge").tdx(&intel())), "az-tdx-vtpm.evidence.format");
}

/// A quote as attesters of version 0 keep it in files: each field behind its length in eight bytes.
fn stored_quote(bytes: &[u8]) -> AzureQuote {
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (signature, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let (length, rest) = rest.split_first_chunk::<8>().unwrap();
    let (message, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let (count, pcrs) = rest.split_first_chunk::<8>().unwrap();
    assert_eq!(pcrs.len() as u64, u64::from_le_bytes(*count) * 32, "registers");
    let pcrs = pcrs.chunks(32).map(<[u8]>::to_vec).collect();
    AzureQuote { signature: signature.to_vec(), message: message.to_vec(), pcrs }
}

#[test]
fn stored_reports_and_quotes_belong_together() {
    for (report, quote, tee) in [
        ("snp-vtpm/hcl-report.bin", "snp-vtpm/quote.bin", coffer_core_evidence::Tee::AzSnpVtpm),
        ("tdx-vtpm/hcl-report.bin", "tdx-vtpm/quote.bin", coffer_core_evidence::Tee::AzTdxVtpm),
    ] {
        let (Some(report), Some(quote)) = (vector(report), vector(quote)) else { return };
        let report = HclReport::parse(&report).unwrap();
        let key = report.runtime_claims().unwrap().attestation_key;
        let quote = crate::quote::parse(tee, &stored_quote(&quote)).unwrap();
        assert_eq!(
            Attest::parse(&stored_quote(&vector("snp-vtpm/quote.bin").unwrap()).message).unwrap().extra_data,
            b"challenge"
        );
        assert!(!quote.signature(tee, &key).has_failed(), "{tee}");
        assert_eq!(quote.registers(tee).unwrap().0.len(), 24, "{tee}");
    }
}

#[test]
fn reports_of_both_platforms_are_read_with_their_runtime_data() {
    for (path, platform, length) in [
        ("cvm-tooling/hcl-report-snp.bin", Platform::Snp, 1184),
        ("cvm-tooling/hcl-report-tdx.bin", Platform::Tdx, 1024),
    ] {
        let Some(bytes) = vector(path) else { return };
        let report = HclReport::parse(&bytes).unwrap();
        assert_eq!((report.platform(), report.platform_report().len()), (platform, length), "{path}");
        let claims = report.runtime_claims().unwrap();
        assert_eq!(claims.attestation_key.modulus.len(), 256, "{path}");
        assert_eq!(claims.attestation_key.exponent, [1, 0, 1], "{path}");
        assert_eq!(claims.configuration.unwrap()["tpm-enabled"], true, "{path}");
        if platform == Platform::Snp {
            let snp = coffer_core_evidence::snp::Report::parse(report.platform_report()).unwrap();
            assert_eq!(snp.report_data(), &crate::paravisor::platform_report_data(&report));
        }
    }
    let Some(data) = vector("cvm-tooling/var-data.bin") else { return };
    let claims = RuntimeClaims::parse(&data).unwrap();
    assert_eq!(claims.attestation_key.modulus.len(), 256);
    let Some(quote) = vector("cvm-tooling/quote.bin") else { return };
    let tee = coffer_core_evidence::Tee::AzSnpVtpm;
    let quote = crate::quote::parse(tee, &stored_quote(&quote)).unwrap();
    assert_eq!(quote.registers(tee).unwrap().0.len(), 24);
}
