//! Evidence and manifests from real devices, and what was made of them to be refused.

#![allow(clippy::unwrap_used, reason = "tests")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ReportData;
use coffer_verify_api::{
    Check, CollateralKey, Device, DeviceVerifier as _, Document, Fault, Judgement, Question, Shelf, Timestamp,
};
use coffer_verify_nvidia::{NvidiaJudge, Report, Revocation, rim_values};
use serde_json::{Value, json};

/// 2024-06-01: manifests of 2023 are valid.
const IN_2024: i64 = 1_717_200_000;
/// 2026-11-20.
const NOW: i64 = 1_795_132_800;

fn vector(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let read = std::fs::read(format!("{folder}/nvidia/{name}")).ok();
    if read.is_none() {
        println!("skipped: no vectors");
    }
    read
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn challenge(nonce: &str) -> ReportData {
    // The nonce is a hash cut to 32 bytes, so a hash that begins with it stands for the challenge.
    let mut bytes = hex::decode(nonce).unwrap();
    bytes.resize(48, 0);
    ReportData::from_runtime_hash(Digest::from_bytes(Algorithm::Sha384, &bytes).unwrap())
}

/// A report in hexadecimal beside its chain, as one entry.
fn entry(arch: &str, report: &str, chain: &str) -> Option<(Value, ReportData)> {
    let report = hex::decode(vector(report)?.trim_ascii()).unwrap();
    let nonce = hex::encode(&report[4..36]);
    let device = json!({
        "arch": arch, "uuid": "a device", "evidence": STANDARD.encode(report),
        "certificate": STANDARD.encode(vector(chain)?),
    });
    Some((json!({"device_evidence_list": [device]}), challenge(&nonce)))
}

/// A list as NVIDIA's tools write it.
fn list(name: &str) -> Option<(Value, ReportData)> {
    let devices: Value = serde_json::from_slice(&vector(name)?).unwrap();
    let nonce = devices[0]["nonce"].as_str().unwrap().to_owned();
    Some((json!({"device_evidence_list": devices}), challenge(&nonce)))
}

fn shelf(documents: &[(&str, &str)]) -> Option<Shelf> {
    let mut shelf = Shelf::default();
    for (id, file) in documents {
        let key = CollateralKey::NvidiaRim((*id).to_owned());
        shelf.put(key, Document::new(vector(file)?, Vec::new()).into());
    }
    Some(shelf)
}

fn ask(
    judge: &NvidiaJudge,
    evidence: &Value,
    report_data: &ReportData,
    shelf: &Shelf,
    seconds: i64,
) -> Result<Vec<Device>, Fault> {
    judge.verify(&Question { evidence, report_data, init_data: None, collateral: shelf, at: at(seconds) })
}

/// `verified`, the codes of a refusal, or the documents that are missing.
fn answer(evidence: &Value, report_data: &ReportData, shelf: &Shelf, seconds: i64) -> Vec<String> {
    match ask(&NvidiaJudge::new(), evidence, report_data, shelf, seconds) {
        Err(Fault::CollateralUnavailable(keys)) => keys.iter().map(ToString::to_string).collect(),
        Err(other) => panic!("{other}"),
        Ok(devices) => devices
            .iter()
            .map(|device| match &device.judgement {
                Judgement::Verified(_) => "verified".to_owned(),
                Judgement::Rejected(checks) => codes(checks).join(" "),
            })
            .collect(),
    }
}

fn codes(checks: &[Check]) -> Vec<&str> {
    let mut codes: Vec<&str> =
        checks.iter().flat_map(Check::causes).map(|check| check.code.as_str()).collect();
    codes.dedup();
    codes
}

const VBIOS_5E: &str = "NV_GPU_VBIOS_1010_0200_882_96005E0001";
const SWITCH: &str = "NV_SWITCH_BIOS_5612_0002_890_9610550001";
const SWITCH_FILE: &str = "sdk_switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml";

#[test]
fn every_genuine_gpu_asks_for_its_two_manifests() {
    let cases = [
        (
            "nvtrust_hopperAttestationReport.txt",
            "nvtrust_hopperCertChain.txt",
            "550.90.07",
            "1010_0200_882_96009F0001",
        ),
        (
            "nvtrust_hopperAttestationReport.txt",
            "trustee_hopper_cert_chain_case1.txt",
            "550.90.07",
            "1010_0200_882_96009F0001",
        ),
        (
            "sdk_hopperAttestationReport.txt",
            "sdk_hopperCertChain.txt",
            "535.86.09",
            "1010_0200_882_96005E0001",
        ),
        (
            "sdk_hopperAttestationReportExpired.txt",
            "sdk_hopperCertChainExpired.txt",
            "570.124.03",
            "1010_0205_862_96005E0004",
        ),
    ];
    for (report, chain, driver, vbios) in cases {
        let Some((evidence, data)) = entry("HOPPER", report, chain) else { return };
        let wanted =
            [format!("nvidia/rim/NV_GPU_DRIVER_GH100_{driver}"), format!("nvidia/rim/NV_GPU_VBIOS_{vbios}")];
        assert_eq!(answer(&evidence, &data, &Shelf::default(), NOW), wanted, "{report}");
    }
    for file in [
        "sdk_hopper_evidence.json",
        "sdk_evidence_hopper_590_12.json",
        "sdk_multi_gpu_hopper.json",
        "nvtrust_ppcie_gpu_evidence.json",
    ] {
        let Some((evidence, data)) = list(file) else { return };
        let wanted =
            ["nvidia/rim/NV_GPU_DRIVER_GH100_590.12", "nvidia/rim/NV_GPU_VBIOS_G520_0200_885_9600A50001"];
        assert_eq!(answer(&evidence, &data, &Shelf::default(), NOW), wanted, "{file}");
    }
}

#[test]
fn the_vbios_manifest_of_a_real_gpu_matches_all_of_its_measurements() {
    let Some((evidence, data)) =
        entry("HOPPER", "sdk_hopperAttestationReport.txt", "sdk_hopperCertChain.txt")
    else {
        return;
    };
    let file = "nvtrust_1010_0200_882_96005E0001_PROD.swidtag";
    let Some(good) = shelf(&[(VBIOS_5E, file)]) else { return };
    // Nothing is refused: only the driver's manifest is missing.
    let missing = ["nvidia/rim/NV_GPU_DRIVER_GH100_535.86.09"];
    assert_eq!(answer(&evidence, &data, &good, IN_2024), missing);
    let values = rim_values(&vector(file).unwrap()).unwrap();
    let active: Vec<_> = values.measurements.iter().filter(|one| one.active).collect();
    assert_eq!((active.len(), values.measurements.len()), (12, 64));
    let report = hex::decode(vector("sdk_hopperAttestationReport.txt").unwrap().trim_ascii()).unwrap();
    let report = Report::parse(&report, false).unwrap();
    for expected in active {
        let found = &report.measurements[&u8::try_from(expected.index + 1).unwrap()];
        assert!(expected.values.iter().any(|value| value.as_bytes() == found), "{}", expected.index);
    }
    // NVIDIA's sample for runs without a GPU is genuine, and of other firmware.
    let other = shelf(&[(VBIOS_5E, "nvtrust_1010_0200_882_96005E0001_test_no_gpu.swidtag")]).unwrap();
    assert_eq!(answer(&evidence, &data, &other, IN_2024), ["nvidia.measurement.mismatch"]);
}

#[test]
fn a_real_switch_is_verified_with_its_claims() {
    let Some(shelf) = shelf(&[(SWITCH, SWITCH_FILE)]) else { return };
    let cases = [
        entry("LS10", "sdk_switchAttestationReport.txt", "sdk_switchCertChain.txt"),
        list("sdk_switch_evidence_ls10.json"),
        list("sdk_multi_switch_ls10.json"),
    ];
    for (evidence, data) in cases.into_iter().flatten() {
        let devices = ask(&NvidiaJudge::new(), &evidence, &data, &shelf, NOW).unwrap();
        // The list of four repeats one switch byte for byte.
        let [device] = devices.as_slice() else { panic!("{} devices", devices.len()) };
        assert_eq!(device.submodule, "switch0");
        let Judgement::Verified(verified) = &device.judgement else { panic!("rejected") };
        let claims = verified.get();
        assert_eq!(claims.json["arch"], "LS10");
        assert_eq!(claims.json["hwmodel"], "LS_10 A01 FSP BROM");
        assert_eq!(claims.json["x-nvidia-switch-bios-version"], "96.10.55.00.01");
        assert_eq!(claims.json["measres"], "success");
        assert_eq!(claims.json["config"]["device_pdi"], "203eb31ad9ed0008");
        assert_eq!(claims.json["config"]["switch_gpu_pdis"][1], "e2d85b590e713298");
        assert_eq!(claims.json["oemid"], "5703");
        assert_eq!(claims.registers.len(), 31);
        assert_eq!(claims.posture.generation.as_deref(), Some("LS10"));
        let matched = verified
            .checks()
            .iter()
            .flat_map(|check| &check.children)
            .find(|check| check.code == "nvidia.measurement.match");
        assert_eq!(matched.unwrap().title, "31 measurements are those that NVIDIA published");
    }
    let Some((evidence, data)) = list("nvtrust_ppcie_switch_evidence.json") else { return };
    let wanted = ["nvidia/rim/NV_SWITCH_BIOS_5612_0002_890_9610730001"];
    assert_eq!(answer(&evidence, &data, &shelf, NOW), wanted);
}

#[test]
fn claims_have_upstreams_names_and_values() {
    let Some(expected) = vector("trustee_hopperAttestationReport-claims.txt") else { return };
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let report = hex::decode(vector("nvtrust_hopperAttestationReport.txt").unwrap().trim_ascii()).unwrap();
    let report = Report::parse(&report, false).unwrap();
    assert_eq!(report.opaque.vbios_version().unwrap(), "96.00.9F.00.01");
    for (index, value) in &report.measurements {
        assert_eq!(expected["measurements"][index.to_string()], hex::encode(value));
    }
    let config = serde_json::to_value(report.opaque.json()).unwrap();
    for (name, value) in expected["config"].as_object().unwrap() {
        // Upstream wrote these two states as letters, and now writes what they mean.
        match name.as_str() {
            "nvdec0_status" => assert_eq!(config[name], "disabled"),
            "protected_pcie_status" => assert_eq!(config[name], "55"),
            _ => assert_eq!(config[name], *value, "{name}"),
        }
    }
    assert_eq!(config.as_object().unwrap().len(), expected["config"].as_object().unwrap().len());
}

#[test]
fn what_was_broken_is_refused_for_its_own_reason() {
    let empty = Shelf::default();
    let one = |arch, report, chain| {
        entry(arch, report, chain).map(|(evidence, data)| answer(&evidence, &data, &empty, NOW).remove(0))
    };
    let Some(found) =
        one("HOPPER", "sdk_hopperAttestationReportInvalidSignature.txt", "sdk_hopperCertChain.txt")
    else {
        return;
    };
    assert!(found.starts_with("nvidia.report.signature"), "{found}");
    let found =
        one("LS10", "sdk_switchAttestationReportInvalidSignature.txt", "sdk_switchCertChain.txt").unwrap();
    assert_eq!(found, "nvidia.report.signature");
    let report = "nvtrust_hopperAttestationReport.txt";
    let case2 = one("HOPPER", report, "trustee_hopper_cert_chain_case2.txt").unwrap();
    assert!(case2.contains("nvidia.device-certificate.leaf"), "{case2}");
    assert_eq!(
        one("HOPPER", report, "trustee_hopper_cert_chain_case3.txt").unwrap(),
        "nvidia.device-certificate.issuer"
    );
    let case4 = one("HOPPER", report, "trustee_hopper_cert_chain_case4.txt").unwrap();
    assert!(
        case4.contains("nvidia.device-certificate.leaf") && case4.contains("nvidia.device.fwid"),
        "{case4}"
    );
    assert_eq!(
        one("BLACKWELL", report, "nvtrust_hopperCertChain.txt").unwrap(),
        "nvidia.device.architecture"
    );

    let (evidence, data) = entry("HOPPER", report, "nvtrust_hopperCertChain.txt").unwrap();
    assert_eq!(answer(&evidence, &challenge(&"00".repeat(32)), &empty, NOW), ["nvidia.report.freshness"]);
    // Before the device's chain begins.
    assert_eq!(answer(&evidence, &data, &empty, 1_500_000_000), ["nvidia.device-certificate.not-yet-valid"]);
    // Flips of nonce, a measurement, and the vendor's data.
    for byte in [4, 36, 37 + 8 + 7, 37 + 3528, 4117 - 97] {
        let mut report = hex::decode(vector(report).unwrap().trim_ascii()).unwrap();
        report[byte] ^= 1;
        let mut changed = evidence.clone();
        changed["device_evidence_list"][0]["evidence"] = STANDARD.encode(report).into();
        let found = answer(&changed, &data, &empty, NOW).remove(0);
        assert!(found.starts_with("nvidia.report.signature"), "byte {byte}: {found}");
    }
}

#[test]
fn a_report_that_differs_from_its_manifests_is_refused_for_its_own_reason() {
    let hopper = |report, chain| entry("HOPPER", report, chain);
    let Some((evidence, data)) = hopper("sdk_hopperAttestationReport.txt", "sdk_hopperCertChain.txt") else {
        return;
    };
    let with = |id: &str, file: &str, seconds| {
        answer(&evidence, &data, &shelf(&[(id, file)]).unwrap(), seconds).remove(0)
    };
    // This manifest is genuine; the report differs from it.
    let file = "sdk_NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml";
    assert_eq!(with(VBIOS_5E, file, IN_2024), "nvidia.measurement.mismatch");
    // This one was changed after it was signed, and is told to be both.
    let file = "sdk_NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml";
    let found = with("NV_GPU_DRIVER_GH100_535.86.09", file, NOW);
    assert_eq!(found, "nvidia.rim.signature nvidia.measurement.mismatch");
    // An expired manifest, seen now; before, only the driver's is missing.
    let file = "nvtrust_1010_0200_882_96005E0001_PROD.swidtag";
    assert_eq!(with(VBIOS_5E, file, NOW), "nvidia.rim-certificate.expired");
    let file = "nvtrust_1010_0200_882_960074001A_PROD.swidtag";
    assert_eq!(with(VBIOS_5E, file, IN_2024), "nvidia.rim.version nvidia.measurement.mismatch");

    let (evidence, data) =
        hopper("sdk_hopperAttestationReportExpired.txt", "sdk_hopperCertChainExpired.txt").unwrap();
    let with = |id: &str, file: &str, seconds| {
        answer(&evidence, &data, &shelf(&[(id, file)]).unwrap(), seconds).remove(0)
    };
    let found = with("NV_GPU_DRIVER_GH100_570.124.03", "sdk_NV_GPU_DRIVER_GH100_570.124.03_expired.xml", NOW);
    assert!(found.contains("nvidia.rim-certificate.expired"), "{found}");
    let file = "nvtrust_1010_0205_862_96005E0004_PROD.swidtag";
    assert_eq!(with("NV_GPU_VBIOS_1010_0205_862_96005E0004", file, IN_2024), "nvidia.measurement.mismatch");

    let (evidence, data) = list("sdk_switch_evidence_ls10.json").unwrap();
    let broken = "sdk_NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml";
    let found = answer(&evidence, &data, &shelf(&[(SWITCH, broken)]).unwrap(), 1_746_057_600).remove(0);
    assert_eq!(found, "nvidia.rim.signature nvidia.measurement.mismatch");
}

#[test]
fn every_manifest_is_believed_or_refused_for_its_own_reason() {
    /// 2025-05-01.
    const IN_2025: i64 = 1_746_057_600;
    let cases = [
        (SWITCH_FILE, NOW, "96.10.55.00.01"),
        ("sdk_NV_GPU_DRIVER_GH100_550.144.03.xml", IN_2025, "550.144.03"),
        ("nvtrust_1010_0200_882_96005E0001_PROD.swidtag", IN_2024, "96.00.5E.00.01"),
        ("nvtrust_1010_0200_882_960074001A_PROD.swidtag", IN_2024, "96.00.74.00.1A"),
        ("nvtrust_1010_0205_862_96005E0004_PROD.swidtag", IN_2024, "96.00.5E.00.04"),
        ("nvtrust_1010_0200_882_96005E0001_test_no_gpu.swidtag", IN_2024, "96.00.5E.00.01"),
        ("sdk_NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml", IN_2024, "96.00.5E.00.01"),
        ("nvtrust_Driver_RIM_test_no_gpu.swidtag", IN_2024, "545.00"),
        ("nvtrust_Driver_RIM_test_no_gpu.swidtag", NOW, "nvidia.rim-certificate.expired"),
        (
            "nvtrust_1010_0200_882_96005E0001_PROD.swidtag",
            1_600_000_000,
            "nvidia.rim-certificate.not-yet-valid",
        ),
        ("sdk_incorrect_signature_driver_rim.xml", IN_2025, "nvidia.rim.signature"),
        ("sdk_incorrect_cert_chain_driver_rim.xml", IN_2025, "nvidia.rim-certificate.issuer"),
        ("sdk_NV_GPU_DRIVER_GH100_570.124.03_expired.xml", 1_735_732_800, "nvidia.rim.signature"),
        (
            "sdk_NV_GPU_DRIVER_GH100_570.124.03_expired.xml",
            NOW,
            "nvidia.rim.signature nvidia.rim-certificate.expired",
        ),
        ("sdk_NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml", NOW, "nvidia.rim.signature"),
        (
            "sdk_NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml",
            IN_2025,
            "nvidia.rim.signature",
        ),
    ];
    let judge = NvidiaJudge::new();
    for (file, seconds, expected) in cases {
        let Some(xml) = vector(file) else { return };
        let found = match judge.verified_rim(&xml, at(seconds)) {
            Ok(values) => values.version,
            Err(checks) => codes(&checks).join(" "),
        };
        assert_eq!(found, expected, "{file}");
    }
    // Under another root than NVIDIA's, nothing of this is believed.
    let other = coffer_verify_x509::pem_certificates(&vector("sdk_incorrect_rim_root.crt").unwrap()).unwrap();
    let judge = NvidiaJudge::with_roots(Vec::new(), other);
    let checks = judge.verified_rim(&vector(SWITCH_FILE).unwrap(), at(NOW)).unwrap_err();
    assert_eq!(codes(&checks), ["nvidia.rim-certificate.issuer"]);
}

#[test]
fn the_roots_that_are_built_in_are_nvidias() {
    for (built_in, published) in [
        ("device-identity-ca.pem", "nvtrust_verifier_device_root.pem"),
        ("corim-signing-root-ca.pem", "nvtrust_verifier_RIM_root.pem"),
        ("corim-signing-root-ca.pem", "sdk_rim_root.crt"),
    ] {
        let own = std::fs::read(format!("{}/roots/{built_in}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let Some(published) = vector(published) else { return };
        let read = |pem: &[u8]| coffer_verify_x509::pem_certificates(pem).unwrap();
        assert_eq!(read(&own), read(&published));
    }
}

#[test]
fn a_gpu_whose_certificate_is_on_hold_is_not_judged_without_nvidias_answer() {
    let Some((evidence, data)) = list("sdk_hopper_evidence_cert_hold.json") else { return };
    let judge = NvidiaJudge::new().revocation(Revocation::Required);
    let Err(Fault::CollateralUnavailable(keys)) = ask(&judge, &evidence, &data, &Shelf::default(), NOW)
    else {
        panic!("judged")
    };
    let answers = keys.iter().filter(|key| matches!(key, CollateralKey::NvidiaOcsp(_))).count();
    assert_eq!((answers, keys.len()), (3, 5), "{keys:?}");
}
