//! Devices under a root of the test's own, and the same with one defect each.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ReportData;
use coffer_lab_testpki::{
    NvidiaCertificate, NvidiaDevice, NvidiaKey, NvidiaReport, NvidiaRim, NvidiaState, nvidia_answer,
    nvidia_pem,
};
use coffer_verify_api::{
    Check, CollateralKey, DeviceVerifier as _, Document, Fault, Judgement, Question, Shelf, Timestamp,
};
use coffer_verify_nvidia::{NvidiaJudge, Revocation};
use serde_json::{Value, json};

/// 2026-11-20.
const NOW: u64 = 1_795_132_800;
const DAY: u64 = 86_400;
const DRIVER: &str = "NV_GPU_DRIVER_GH100_550.90.07";
const VBIOS: &str = "NV_GPU_VBIOS_1010_0200_882_96009F000A";
const SWITCH: &str = "NV_SWITCH_BIOS_5612_0002_890_961055000A";

/// Roots, a signer of manifests, a GPU.
struct World {
    root: Arc<NvidiaKey>,
    rim_root: NvidiaKey,
    signer: NvidiaKey,
    gpu: NvidiaDevice,
}

fn key(name: &str, authority: bool) -> NvidiaCertificate {
    NvidiaCertificate::new(name, authority)
}

fn data() -> ReportData {
    ReportData::from_runtime_hash(Digest::of(Algorithm::Sha384, b"nonce and key"))
}

impl World {
    fn new() -> Self {
        let root = Arc::new(NvidiaKey::root(&key("test device root", true)));
        let rim_root = NvidiaKey::root(&key("test manifest root", true));
        let signer = rim_root.issue(&key("test signer", false));
        let gpu = NvidiaDevice::new(&root, "GH100", "48B02D92494BADF4");
        Self { root, rim_root, signer, gpu }
    }

    fn judge(&self) -> NvidiaJudge {
        NvidiaJudge::with_roots(vec![self.root.der().to_vec()], vec![self.rim_root.der().to_vec()])
    }

    fn report(&self) -> NvidiaReport {
        NvidiaReport::hopper(data().field(), &self.gpu.fwid)
    }

    fn driver(&self) -> NvidiaRim {
        NvidiaRim::of("GH100", "550.90.07", &self.report(), &[20, 21, 35])
    }

    fn vbios(&self) -> NvidiaRim {
        NvidiaRim::of("GH100", "96.00.9f.00.0a", &self.report(), &[0, 1, 2, 9])
    }

    fn sign(&self, rim: &NvidiaRim) -> Vec<u8> {
        rim.sign(&[&self.signer, &self.rim_root])
    }

    fn shelf(&self) -> Shelf {
        shelf(&[(DRIVER, self.sign(&self.driver())), (VBIOS, self.sign(&self.vbios()))])
    }

    fn evidence(&self, report: &NvidiaReport) -> Value {
        wire(vec![self.gpu.entry("HOPPER", report)])
    }

    /// What is said of the GPU with this driver manifest.
    fn with_driver(&self, document: Vec<u8>) -> String {
        let shelf = shelf(&[(DRIVER, document), (VBIOS, self.sign(&self.vbios()))]);
        said(&self.judge(), &self.evidence(&self.report()), &shelf, NOW)
    }

    fn refused(&self, entry: Value) -> String {
        said(&self.judge(), &wire(vec![entry]), &self.shelf(), NOW)
    }
}

fn wire(devices: Vec<Value>) -> Value {
    json!({"device_evidence_list": devices})
}

fn put(shelf: &mut Shelf, id: &str, document: Vec<u8>) {
    shelf.put(CollateralKey::NvidiaRim(id.to_owned()), Document::new(document, Vec::new()).into());
}

fn shelf(documents: &[(&str, Vec<u8>)]) -> Shelf {
    let mut shelf = Shelf::default();
    for (id, document) in documents {
        put(&mut shelf, id, document.clone());
    }
    shelf
}

fn codes(checks: &[Check]) -> String {
    let mut codes: Vec<&str> =
        checks.iter().flat_map(Check::causes).map(|check| check.code.as_str()).collect();
    codes.dedup();
    codes.join(" ")
}

/// For each device `name=verified` or the codes of its refusal; or what is missing.
fn said(judge: &NvidiaJudge, evidence: &Value, shelf: &Shelf, seconds: u64) -> String {
    let at = Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap();
    let data = data();
    let question = Question { evidence, report_data: &data, init_data: None, collateral: shelf, at };
    let words: Vec<String> = match judge.verify(&question) {
        Err(Fault::CollateralUnavailable(keys)) => keys.iter().map(|key| format!("missing {key}")).collect(),
        Err(other) => panic!("{other}"),
        Ok(devices) => devices
            .iter()
            .map(|device| match &device.judgement {
                Judgement::Verified(_) => format!("{}=verified", device.submodule),
                Judgement::Rejected(checks) => format!("{}={}", device.submodule, codes(checks)),
            })
            .collect(),
    };
    words.join(", ")
}

#[test]
fn a_gpu_of_each_generation_is_verified_with_its_claims() {
    let world = World::new();
    let evidence = world.evidence(&world.report());
    let at = Timestamp::from_second(i64::try_from(NOW).unwrap()).unwrap();
    let (data, shelf_of) = (data(), world.shelf());
    let question =
        Question { evidence: &evidence, report_data: &data, init_data: None, collateral: &shelf_of, at };
    let devices = world.judge().verify(&question).unwrap();
    let Judgement::Verified(verified) = &devices[0].judgement else { panic!("rejected") };
    let claims = verified.get();
    assert_eq!(claims.json["arch"], "Hopper");
    assert_eq!(claims.json["config"]["nvdec0_status"], "enabled");
    assert_eq!(claims.json["config"]["driver_version"], "550.90.07");
    assert_eq!(claims.json["config"]["vbios_version"], "96.00.9f.00.0a");
    assert_eq!(claims.json["x-nvidia-gpu-vbios-version"], "96.00.9F.00.0A");
    assert_eq!(claims.json["x-nvidia-gpu-driver-rim-signature-verified"], true);
    assert_eq!(claims.json["x-nvidia-gpu-attestation-report-nonce-match"], true);
    assert_eq!(
        claims.json["x-nvidia-gpu-attestation-report-cert-chain"]["x-nvidia-cert-ocsp-status"],
        Value::Null
    );
    assert_eq!(claims.json["hwmodel"], "GH100 A01 GSP BROM");
    assert_eq!(claims.json["oemid"], "5703");
    assert_eq!(claims.json["measurements"]["1"], Digest::of(Algorithm::Sha384, &[1]).hex());
    assert_eq!(claims.registers["measurement0"], Digest::of(Algorithm::Sha384, &[1]));
    assert_eq!(claims.posture.chip.as_deref(), Some("48b02d92494badf4"));
    assert_eq!(claims.posture.generation.as_deref(), Some("HOPPER"));
    assert_eq!(claims.posture.debug, Some(false));

    // Blackwell: another form of certificate, another name of the driver's manifest, security versions.
    let gpu = NvidiaDevice::new(&world.root, "GB100", "1");
    let mut report = world.report().field(35, b"GB102\0");
    report.header = true;
    report.opaque.push((40, 0x87, vec![5, 0]));
    let mut driver = NvidiaRim::of("GB102", "550.90.07", &report, &[20]);
    driver.minimum_svn = vec![(40, 5)];
    let vbios = NvidiaRim::of("GB100", "96.00.9F.00.0A", &report, &[1]);
    let id = "NV_GPU_CC_DRIVER_GB102_550.90.07";
    let evidence = wire(vec![gpu.entry("BLACKWELL", &report)]);
    let documents = |driver: &NvidiaRim| shelf(&[(id, world.sign(driver)), (VBIOS, world.sign(&vbios))]);
    assert_eq!(said(&world.judge(), &evidence, &documents(&driver), NOW), "gpu0=verified");
    driver.minimum_svn = vec![(40, 6)];
    assert_eq!(said(&world.judge(), &evidence, &documents(&driver), NOW), "gpu0=nvidia.measurement.svn");
    driver.minimum_svn = vec![(41, 0)];
    assert_eq!(said(&world.judge(), &evidence, &documents(&driver), NOW), "gpu0=nvidia.measurement.svn");
    // A manifest of the other generation is validly signed and still the wrong one.
    let wrong = NvidiaRim::of("GH100", "550.90.07", &report, &[20]);
    assert_eq!(said(&world.judge(), &evidence, &documents(&wrong), NOW), "gpu0=nvidia.rim.product");
}

#[test]
fn several_devices_are_named_in_their_order_and_none_counts_twice() {
    let world = World::new();
    let second = NvidiaDevice::new(&world.root, "GH100", "48B02D92494BADF5");
    let switch = NvidiaDevice::new(&world.root, "LS_10", "7");
    let report = NvidiaReport::switch(data().field());
    let mut shelf = world.shelf();
    put(&mut shelf, SWITCH, world.sign(&NvidiaRim::of("LS10", "96.10.55.00.0A", &report, &[0, 30])));
    let one = world.gpu.entry("HOPPER", &world.report());
    let two = second.entry("Hopper", &world.report());
    let three = switch.entry("LS10", &report);
    let list = |entries: &[&Value]| wire(entries.iter().map(|entry| (*entry).clone()).collect());
    let judge = world.judge();
    let all = said(&judge, &list(&[&three, &one, &two]), &shelf, NOW);
    assert_eq!(all, "switch0=verified, gpu0=verified, gpu1=verified");
    // The same bytes again are the same device.
    assert_eq!(said(&judge, &list(&[&one, &one, &two]), &shelf, NOW), "gpu0=verified, gpu1=verified");
    // Another report, or another name, by the same device is an attempt to count it twice.
    let again = world.gpu.entry("HOPPER", &world.report());
    let mut renamed = one.clone();
    renamed["uuid"] = "another".into();
    for twin in [again, renamed] {
        let found = said(&judge, &list(&[&one, &two, &twin]), &shelf, NOW);
        assert_eq!(found, "gpu0=nvidia.device.duplicate, gpu1=verified, gpu2=nvidia.device.duplicate");
    }
    // A fresh leaf by the same device has the same serial number.
    let about = NvidiaCertificate {
        fwid: Some((world.gpu.fwid, false)),
        device: Some(("GH100".into(), "48B02D92494BADF4".into())),
        ..key("GH100 A01 GSP FMC LF", false)
    };
    let leaf = world.gpu.chain[1].issue(&about);
    let mut chain = world.gpu.chain.clone();
    chain[0] = Arc::new(leaf);
    let fresh = NvidiaDevice { chain, fwid: world.gpu.fwid }.entry("HOPPER", &world.report());
    let found = said(&judge, &list(&[&one, &fresh]), &shelf, NOW);
    assert_eq!(found, "gpu0=nvidia.device.duplicate, gpu1=nvidia.device.duplicate");
    // One that is refused does not hide what is missing, nor wait for it.
    let stale = world.gpu.entry("HOPPER", &NvidiaReport { nonce: [1; 32], ..world.report() });
    let found = said(&judge, &list(&[&stale, &two]), &Shelf::default(), NOW);
    assert_eq!(found, "gpu0=nvidia.report.freshness, gpu1=");
    assert_eq!(
        said(&judge, &list(&[&one, &two, &three]), &Shelf::default(), NOW),
        format!("missing nvidia/rim/{DRIVER}, missing nvidia/rim/{VBIOS}, missing nvidia/rim/{SWITCH}")
    );
}

#[test]
fn eight_gpus_are_judged_in_one_request() {
    let world = World::new();
    let entries = (0..8).map(|number| NvidiaDevice::new(&world.root, "GH100", &format!("{number:016X}")));
    let evidence = wire(entries.map(|gpu| gpu.entry("HOPPER", &world.report())).collect());
    let expected: Vec<String> = (0..8).map(|number| format!("gpu{number}=verified")).collect();
    assert_eq!(said(&world.judge(), &evidence, &world.shelf(), NOW), expected.join(", "));
}

#[test]
fn every_signed_byte_of_a_report_is_covered() {
    let world = World::new();
    let entry = world.gpu.entry("HOPPER", &world.report());
    let report = STANDARD.decode(entry["evidence"].as_str().unwrap()).unwrap();
    for at in (0..report.len()).step_by(41).chain([
        0,
        1,
        2,
        4,
        35,
        36,
        37,
        38,
        41,
        42,
        report.len() - 96,
        report.len() - 1,
    ]) {
        let mut changed = report.clone();
        changed[at] ^= 1;
        let mut entry = entry.clone();
        entry["evidence"] = STANDARD.encode(changed).into();
        let found = world.refused(entry);
        let known = ["gpu0=nvidia.report.format", "gpu0=nvidia.report.signature"];
        assert!(known.iter().any(|code| found.starts_with(code)), "byte {at}: {found}");
    }
}

#[test]
fn every_truncation_of_a_report_is_refused_as_one() {
    let world = World::new();
    let entry = world.gpu.entry("HOPPER", &world.report());
    let report = STANDARD.decode(entry["evidence"].as_str().unwrap()).unwrap();
    let edges = [
        0,
        1,
        4,
        36,
        37,
        38,
        41,
        42,
        45,
        49,
        52,
        100,
        3565,
        3566,
        3597,
        3598,
        3599,
        report.len() - 97,
        report.len() - 96,
        report.len() - 1,
    ];
    for length in edges.into_iter().chain((0..report.len()).step_by(97)) {
        let mut entry = entry.clone();
        entry["evidence"] = STANDARD.encode(&report[..length]).into();
        assert_eq!(world.refused(entry), "gpu0=nvidia.report.format", "{length} bytes");
    }
    let mut longer = entry;
    longer["evidence"] = STANDARD.encode([report, vec![0]].concat()).into();
    assert_eq!(world.refused(longer), "gpu0=nvidia.report.format");
}

#[test]
fn each_defect_of_a_report_is_refused_for_its_own_reason() {
    let world = World::new();
    let with = |report: NvidiaReport| world.refused(world.gpu.entry("HOPPER", &report));
    assert_eq!(with(world.report()), "gpu0=verified");
    assert_eq!(with(NvidiaReport { nonce: [0; 32], ..world.report() }), "gpu0=nvidia.report.freshness");
    assert_eq!(with(world.report().field(20, &[1; 48])), "gpu0=nvidia.device.fwid");
    assert_eq!(with(world.report().field(20, &[])), "gpu0=nvidia.device.fwid");
    assert_eq!(with(world.report().field(3, b"")), "gpu0=nvidia.report.version");
    assert_eq!(with(world.report().field(3, b"../x")), "gpu0=nvidia.report.version");
    assert_eq!(with(world.report().field(6, &[1; 7])), "gpu0=nvidia.report.version");
    assert_eq!(with(world.report().field(17, b"a b")), "gpu0=nvidia.report.version");
    assert_eq!(with(world.report().field(11, &[1])), "gpu0=nvidia.report.nvdec");
    assert_eq!(with(world.report().field(34, &[2])), "gpu0=nvidia.report.format");
    // Older firmware does not name itself.
    let mut older = world.report();
    older.opaque.retain(|(number, _, _)| *number != 20);
    assert_eq!(with(older), "gpu0=verified");
    let mut repeated = world.report();
    repeated.opaque.push((3, 0, b"1".to_vec()));
    assert_eq!(with(repeated), "gpu0=nvidia.report.format");
    let mut other = world.report();
    other.measurements.get_mut(&10).unwrap()[0] ^= 1;
    assert_eq!(with(other), "gpu0=nvidia.measurement.mismatch");
    let mut short = world.report();
    short.measurements.get_mut(&10).unwrap().truncate(47);
    assert_eq!(with(short), "gpu0=nvidia.measurement.mismatch");
    let mut fewer = world.report();
    fewer.measurements.remove(&10);
    assert_eq!(with(fewer), "gpu0=nvidia.measurement.missing");
    let mut none = world.report();
    none.measurements.clear();
    assert_eq!(with(none), "gpu0=nvidia.report.format");
    // Measurement 35 counts only where the decoder is on.
    let mut decoder = world.report();
    decoder.measurements.get_mut(&36).unwrap()[0] ^= 1;
    assert_eq!(with(decoder.clone()), "gpu0=nvidia.measurement.mismatch");
    assert_eq!(with(decoder.field(11, &[0x55])), "gpu0=verified");

    let mut entry = world.gpu.entry("BLACKWELL", &world.report());
    assert!(world.refused(entry.clone()).starts_with("gpu0=nvidia.device.architecture"));
    entry["arch"] = "RUBIN".into();
    assert_eq!(world.refused(entry), "gpu0=nvidia.evidence.format");
    assert_eq!(said(&world.judge(), &json!([]), &world.shelf(), NOW), "gpu0=nvidia.evidence.format");
}

#[test]
fn each_link_of_a_devices_chain_is_checked() {
    let world = World::new();
    let good = world.gpu.entry("HOPPER", &world.report());
    let chain: Vec<&NvidiaKey> = world.gpu.chain.iter().map(AsRef::as_ref).collect();
    let with = |chain: &[&NvidiaKey]| {
        let mut entry = good.clone();
        entry["certificate"] = STANDARD.encode(nvidia_pem(chain)).into();
        world.refused(entry)
    };
    assert_eq!(with(&chain), "gpu0=verified");
    assert_eq!(with(&chain[..3]), "gpu0=verified", "without the root, which is known");
    assert_eq!(with(&[chain[0], chain[2], chain[1]]), "gpu0=verified", "in another order");
    assert_eq!(with(&[chain[0], chain[2]]), "gpu0=nvidia.device-certificate.issuer");
    assert_eq!(with(&[chain[0]]), "gpu0=nvidia.device-certificate.issuer");
    assert!(with(&chain[1..]).contains("nvidia.device-certificate.leaf"));
    assert_eq!(with(&[]), "gpu0=nvidia.device-certificate.malformed");
    let twelve: Vec<&NvidiaKey> = std::iter::repeat_n(chain[1], 12).collect();
    assert!(with(&[&chain[..1], &twelve].concat()).contains("nvidia.device-certificate.missing"));
    // Each certificate's bytes: whatever breaks, nothing is accepted.
    for (place, certificate) in chain.iter().enumerate().take(3) {
        for at in (0..certificate.der().len()).step_by(9) {
            let mut der: Vec<Vec<u8>> = chain.iter().map(|key| key.der().to_vec()).collect();
            der[place][at] ^= 1;
            let pem: String = der
                .iter()
                .map(|der| {
                    format!(
                        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                        STANDARD.encode(der)
                    )
                })
                .collect();
            let mut entry = good.clone();
            entry["certificate"] = STANDARD.encode(pem).into();
            let found = world.refused(entry);
            assert!(found.starts_with("gpu0=nvidia."), "certificate {place}, byte {at}: {found}");
        }
    }

    let device = |change: &dyn Fn(&mut NvidiaCertificate)| {
        let mut about = NvidiaCertificate {
            fwid: Some(([0x77; 48], false)),
            device: Some(("GH100".into(), "9".into())),
            ..key("GH100 A01 GSP FMC LF", false)
        };
        change(&mut about);
        let gpu = NvidiaDevice::with_leaf(&world.root, "GH100", [0x77; 48], &about);
        world.refused(gpu.entry("HOPPER", &world.report()))
    };
    assert_eq!(device(&|_| ()), "gpu0=verified");
    assert_eq!(device(&|about| about.until = NOW - 1), "gpu0=nvidia.device-certificate.expired");
    assert_eq!(device(&|about| about.from = NOW + 1), "gpu0=nvidia.device-certificate.not-yet-valid");
    assert_eq!(device(&|about| about.stray = true), "gpu0=nvidia.device-certificate.extension");
    assert_eq!(device(&|about| about.authority = true), "gpu0=nvidia.device-certificate.leaf");
    assert_eq!(device(&|about| about.fwid = None), "gpu0=nvidia.device.fwid");
    assert_eq!(device(&|about| about.fwid = Some(([1; 48], true))), "gpu0=nvidia.device.fwid");
    assert_eq!(
        device(&|about| about.device = Some(("GB100".into(), "9".into()))),
        "gpu0=nvidia.device.architecture"
    );

    // An authority that is none, and one with too many below it.
    let below = |about: &NvidiaCertificate| {
        let above = world.root.issue(about);
        let middle = above.issue(&key("GH100 A01 GSP BROM", true));
        let leaf =
            middle.issue(&NvidiaCertificate { fwid: Some(([0x77; 48], false)), ..key("GH100 LF", false) });
        let chain = vec![leaf, middle, above].into_iter().map(Arc::new).collect();
        let gpu = NvidiaDevice { chain, fwid: [0x77; 48] };
        world.refused(gpu.entry("HOPPER", &world.report()))
    };
    assert_eq!(below(&key("an authority", true)), "gpu0=verified");
    assert_eq!(below(&key("no authority", false)), "gpu0=nvidia.device-certificate.authority");
    let narrow = NvidiaCertificate { path_length: Some(0), ..key("an authority", true) };
    assert_eq!(below(&narrow), "gpu0=nvidia.device-certificate.authority");
    let wide = NvidiaCertificate { path_length: Some(1), ..key("an authority", true) };
    assert_eq!(below(&wide), "gpu0=verified");

    // Another root: one with another name, and one with the same.
    let other = Arc::new(NvidiaKey::root(&key("another root", true)));
    let foreign = NvidiaDevice::new(&other, "GH100", "1").entry("HOPPER", &world.report());
    assert_eq!(world.refused(foreign), "gpu0=nvidia.device-certificate.issuer");
    let other = Arc::new(NvidiaKey::root(&key("test device root", true)));
    let foreign = NvidiaDevice::new(&other, "GH100", "1").entry("HOPPER", &world.report());
    assert_eq!(world.refused(foreign), "gpu0=nvidia.device-certificate.signature-invalid");
    let none = NvidiaJudge::with_roots(vec![vec![1]], vec![]);
    assert_eq!(said(&none, &wire(vec![good]), &world.shelf(), NOW), "gpu0=nvidia.device-certificate.issuer");
}

#[test]
fn each_defect_of_a_manifest_is_refused_for_its_own_reason() {
    let world = World::new();
    let driver = world.driver();
    let good = world.sign(&driver);
    assert_eq!(world.with_driver(good.clone()), "gpu0=verified");
    let text = String::from_utf8(good).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        world.with_driver(text.replacen(from, to, 1).into_bytes())
    };
    // What is the same document in XML is the same document.
    assert_eq!(changed("></ns0:Meta>", " />"), "gpu0=verified");
    assert_eq!(changed("name=\"GH100\" tagId=\"tag\"", "tagId='tag'   name='GH100'"), "gpu0=verified");
    assert_eq!(
        changed("<SoftwareIdentity", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<SoftwareIdentity"),
        "gpu0=verified"
    );
    // What is not is not.
    assert_eq!(changed("A &amp; B", "A &amp; C"), "gpu0=nvidia.rim.signature");
    assert_eq!(changed("<ns0:Payload>\n", "<ns0:Payload>\n "), "gpu0=nvidia.rim.signature");
    assert_eq!(changed("active=\"True\"", "active=\"False\""), "gpu0=nvidia.rim.signature");
    assert_eq!(changed("xmlns:ns3=", "xmlns:ns4=\"x\" xmlns:ns3="), "gpu0=nvidia.rim.signature");
    assert_eq!(changed("enveloped-signature", "enveloped"), "gpu0=nvidia.rim.signature");
    assert_eq!(changed("URI=\"\"", "URI=\"#a\""), "gpu0=nvidia.rim.signature");
    assert_eq!(changed("#ecdsa-sha384", "#ecdsa-sha1"), "gpu0=nvidia.rim.signature");
    assert_eq!(changed("<ds:KeyInfo>", "<ds:Object></ds:Object><ds:KeyInfo>"), "gpu0=nvidia.rim.signature");
    assert_eq!(changed("<ds:X509Data>", "<ds:X509Date>").as_str(), "gpu0=nvidia.rim.format");
    assert_eq!(changed("</ns0:Payload>", "<!-- c --></ns0:Payload>"), "gpu0=nvidia.rim.format");
    assert_eq!(changed("index=\"20\"", "index=\"21\""), "gpu0=nvidia.rim.format");
    assert_eq!(changed("alternatives=\"2\"", "alternatives=\"3\""), "gpu0=nvidia.rim.format");
    assert_eq!(changed("size=\"48\"", "size=\"47\""), "gpu0=nvidia.rim.format");
    assert_eq!(
        changed("colloquialVersion=\"550.90.07\"", "colloquialVersion=\"\""),
        "gpu0=nvidia.rim.format"
    );
    // Two signatures, and a signature that is not in the root.
    let start = text.find("<ds:Signature ").unwrap();
    let end = text.find("</SoftwareIdentity>").unwrap();
    let signature = &text[start..end];
    let twice = text.replacen("</SoftwareIdentity>", &format!("{signature}</SoftwareIdentity>"), 1);
    assert_eq!(world.with_driver(twice.into_bytes()), "gpu0=nvidia.rim.signature");
    let deeper =
        text.replacen(signature, "", 1).replacen("</ns0:Payload>", &format!("{signature}</ns0:Payload>"), 1);
    assert_eq!(world.with_driver(deeper.into_bytes()), "gpu0=nvidia.rim.signature");
    let unsigned = text.replacen(signature, "", 1);
    assert_eq!(world.with_driver(unsigned.into_bytes()), "gpu0=nvidia.rim.signature");
    for length in [0, 1, 100, text.len() / 2, text.len() - 1] {
        assert_eq!(
            world.with_driver(text.as_bytes()[..length].to_vec()),
            "gpu0=nvidia.rim.format",
            "{length} bytes"
        );
    }
    // The root's own certificate may be sent, but the configured one is used.
    let root = text.rfind("<ds:X509Certificate>").unwrap()..text.rfind("</ds:X509Certificate>").unwrap();
    for at in (0..text.len()).step_by(61).filter(|at| !root.contains(at)) {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let found = world.with_driver(bytes);
        assert!(found.starts_with("gpu0=nvidia.rim"), "byte {at}: {found}");
    }

    let refused = |rim: &NvidiaRim| world.with_driver(world.sign(rim));
    assert_eq!(
        refused(&NvidiaRim { version: "550.90.08".into(), ..driver.clone() }),
        "gpu0=nvidia.rim.version"
    );
    assert_eq!(refused(&NvidiaRim { product: "GB100".into(), ..driver.clone() }), "gpu0=nvidia.rim.product");
    assert_eq!(refused(&NvidiaRim { measurements: Vec::new(), ..driver.clone() }), "gpu0=nvidia.rim.format");
    let conflict = NvidiaRim::of("GH100", "550.90.07", &world.report(), &[1]);
    assert_eq!(refused(&conflict), "gpu0=nvidia.rim.conflict");
    let mut inactive = conflict;
    inactive.measurements =
        vec![(1, false, vec!["00".repeat(48)]), (20, true, driver.measurements[0].2.clone())];
    assert_eq!(refused(&inactive), "gpu0=verified");
    let mut wrong = driver.clone();
    wrong.measurements[0].2 = vec!["00".repeat(48), "11".repeat(48)];
    assert_eq!(refused(&wrong), "gpu0=nvidia.measurement.mismatch");

    // The signer's chain.
    let root = &world.rim_root;
    let by = |about: &NvidiaCertificate| {
        let signer = root.issue(about);
        world.with_driver(driver.sign(&[&signer, root]))
    };
    assert_eq!(by(&key("a signer", false)), "gpu0=verified");
    let expired = NvidiaCertificate { until: NOW - 1, ..key("a signer", false) };
    assert_eq!(by(&expired), "gpu0=nvidia.rim-certificate.expired");
    let early = NvidiaCertificate { from: NOW + 1, ..key("a signer", false) };
    assert_eq!(by(&early), "gpu0=nvidia.rim-certificate.not-yet-valid");
    assert_eq!(by(&key("an authority", true)), "gpu0=nvidia.rim-certificate.leaf");
    let other = NvidiaKey::root(&key("another root", true));
    let signer = other.issue(&key("a signer", false));
    assert_eq!(world.with_driver(driver.sign(&[&signer, &other])), "gpu0=nvidia.rim-certificate.issuer");
    // The device's root vouches for devices only.
    let signer = world.root.issue(&key("a signer", false));
    assert_eq!(world.with_driver(driver.sign(&[&signer, &world.root])), "gpu0=nvidia.rim-certificate.issuer");
    // A foreign signer in front of the true chain.
    let foreign = NvidiaKey::root(&key("test signer", false));
    let found = world.with_driver(driver.sign(&[&foreign, &world.signer, root]));
    assert_eq!(found, "gpu0=nvidia.rim-certificate.signature-invalid");
}

#[test]
fn what_was_verified_before_is_judged_by_the_time_again() {
    let world = World::new();
    let signer = world.rim_root.issue(&NvidiaCertificate { until: NOW + DAY, ..key("a signer", false) });
    let shelf = shelf(&[
        (DRIVER, world.driver().sign(&[&signer, &world.rim_root])),
        (VBIOS, world.sign(&world.vbios())),
    ]);
    let about = NvidiaCertificate {
        fwid: Some(([0x77; 48], false)),
        until: NOW + 2 * DAY,
        ..key("GH100 A01 GSP FMC LF", false)
    };
    let gpu = NvidiaDevice::with_leaf(&world.root, "GH100", [0x77; 48], &about);
    let evidence = wire(vec![gpu.entry("HOPPER", &world.report())]);
    let judge = world.judge();
    for _ in 0..2 {
        assert_eq!(said(&judge, &evidence, &shelf, NOW), "gpu0=verified");
        assert_eq!(said(&judge, &evidence, &shelf, NOW + DAY + 1), "gpu0=nvidia.rim-certificate.expired");
        assert_eq!(
            said(&judge, &evidence, &shelf, NOW + 2 * DAY + 1),
            "gpu0=nvidia.device-certificate.expired"
        );
    }
}

/// The GPU with answers about the certificate of its device and of its authority.
fn answered(world: &World, seconds: u64, change: impl Fn(&NvidiaKey, &NvidiaKey) -> Vec<u8>) -> String {
    let mut shelf = world.shelf();
    let good = |about: &NvidiaKey, issuer: &NvidiaKey| {
        nvidia_answer(about, issuer, issuer, NvidiaState::Good, NOW - DAY, Some(NOW + DAY))
    };
    let chain = &world.gpu.chain;
    let pairs = [(&*chain[1], &*chain[2]), (&*chain[2], &*chain[3]), (&world.signer, &world.rim_root)];
    for (place, (about, issuer)) in pairs.into_iter().enumerate() {
        let answer = if place == 0 { change(about, issuer) } else { good(about, issuer) };
        let digest: [u8; 32] = Digest::sha256(about.der()).as_bytes().try_into().unwrap();
        shelf.put(CollateralKey::NvidiaOcsp(digest), Document::new(answer, Vec::new()).into());
    }
    let judge = world.judge().revocation(Revocation::Required);
    said(&judge, &world.evidence(&world.report()), &shelf, seconds)
}

#[test]
fn answers_about_certificates_decide() {
    let world = World::new();
    let with = |state: NvidiaState| {
        answered(&world, NOW, |about, issuer| {
            nvidia_answer(about, issuer, issuer, state, NOW - DAY, Some(NOW + DAY))
        })
    };
    assert_eq!(with(NvidiaState::Good), "gpu0=verified");
    assert_eq!(with(NvidiaState::Revoked(6)), "gpu0=nvidia.certificate.on-hold");
    assert_eq!(with(NvidiaState::Revoked(1)), "gpu0=nvidia.certificate.revoked");
    assert_eq!(with(NvidiaState::Unknown), "gpu0=nvidia.certificate.unknown");

    // Who answers: a key that the issuer certified for answering, and no other.
    let delegate = |about: &NvidiaCertificate| {
        answered(&world, NOW, |subject, issuer| {
            let by = world.gpu.chain[2].issue(about);
            nvidia_answer(subject, issuer, &by, NvidiaState::Good, NOW - DAY, Some(NOW + DAY))
        })
    };
    let answers = NvidiaCertificate { answers: true, ..key("who answers", false) };
    assert_eq!(delegate(&answers), "gpu0=verified");
    assert_eq!(delegate(&key("anybody", false)), "gpu0=nvidia.ocsp.responder");
    let expired = NvidiaCertificate { until: NOW - 1, ..answers.clone() };
    assert_eq!(delegate(&expired), "gpu0=nvidia.ocsp.stale");
    let foreign = answered(&world, NOW, |about, issuer| {
        let by = world.root.issue(&answers);
        nvidia_answer(about, issuer, &by, NvidiaState::Good, NOW - DAY, Some(NOW + DAY))
    });
    assert_eq!(foreign, "gpu0=nvidia.ocsp.responder");

    // When, and about what.
    let good = |about: &NvidiaKey, issuer: &NvidiaKey, from, until| {
        nvidia_answer(about, issuer, issuer, NvidiaState::Good, from, until)
    };
    assert_eq!(answered(&world, NOW, |a, i| good(a, i, NOW + 1, None)), "gpu0=nvidia.ocsp.stale");
    assert_eq!(answered(&world, NOW, |a, i| good(a, i, NOW - DAY, Some(NOW - 1))), "gpu0=nvidia.ocsp.stale");
    assert_eq!(answered(&world, NOW, |a, i| good(a, i, NOW - DAY, None)), "gpu0=verified");
    let other = answered(&world, NOW, |_, issuer| good(&world.gpu.chain[0], issuer, NOW - DAY, None));
    assert_eq!(other, "gpu0=nvidia.ocsp.mismatch");
    let unsuccessful = answered(&world, NOW, |_, _| vec![0x30, 3, 10, 1, 6]);
    assert_eq!(unsuccessful, "gpu0=nvidia.ocsp.unsuccessful");
    assert_eq!(answered(&world, NOW, |_, _| Vec::new()), "gpu0=nvidia.ocsp.format");
    let whole = good(&world.gpu.chain[1], &world.gpu.chain[2], NOW - DAY, Some(NOW + DAY));
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        let found = answered(&world, NOW, |_, _| changed.clone());
        assert!(found.starts_with("gpu0=nvidia.ocsp."), "byte {at}: {found}");
    }
    for length in (0..whole.len()).step_by(7) {
        let found = answered(&world, NOW, |_, _| whole[..length].to_vec());
        assert_eq!(found, "gpu0=nvidia.ocsp.format", "{length} bytes");
    }
}

#[test]
fn answers_are_missed_only_where_they_are_required() {
    let world = World::new();
    let evidence = world.evidence(&world.report());
    assert_eq!(said(&world.judge(), &evidence, &world.shelf(), NOW), "gpu0=verified");
    let required = world.judge().revocation(Revocation::Required);
    let found = said(&required, &evidence, &world.shelf(), NOW);
    // The device's certificate, its authority's, and the signer's of both manifests.
    assert_eq!(found.matches("missing nvidia/ocsp/").count(), 3, "{found}");
    let before = said(&required, &evidence, &Shelf::default(), NOW);
    assert_eq!(
        (before.matches("nvidia/ocsp/").count(), before.matches("nvidia/rim/").count()),
        (2, 2),
        "{before}"
    );
    // One that is there and says "on hold" refuses, whether the others are there or not.
    let mut shelf = world.shelf();
    let (about, issuer) = (&world.gpu.chain[1], &world.gpu.chain[2]);
    let answer = nvidia_answer(about, issuer, issuer, NvidiaState::Revoked(6), NOW - DAY, None);
    let digest: [u8; 32] = Digest::sha256(about.der()).as_bytes().try_into().unwrap();
    shelf.put(CollateralKey::NvidiaOcsp(digest), Document::new(answer, Vec::new()).into());
    for judge in [world.judge(), required] {
        assert_eq!(said(&judge, &evidence, &shelf, NOW), "gpu0=nvidia.certificate.on-hold");
    }
}

#[test]
fn a_verified_manifest_gives_its_values_and_a_broken_one_its_reasons() {
    let world = World::new();
    let at = Timestamp::from_second(i64::try_from(NOW).unwrap()).unwrap();
    let xml = world.sign(&world.driver());
    let values = world.judge().verified_rim(&xml, at).unwrap();
    assert_eq!((values.product.as_str(), values.version.as_str()), ("GH100", "550.90.07"));
    assert_eq!(values.measurements.len(), 3);
    assert_eq!(values.measurements[0].values[1], Digest::of(Algorithm::Sha384, &[21]));
    let other = NvidiaJudge::new().verified_rim(&xml, at).unwrap_err();
    assert_eq!(codes(&other), "nvidia.rim-certificate.issuer");
    let broken = world.judge().verified_rim(b"<a/>", at).unwrap_err();
    assert_eq!(codes(&broken), "nvidia.rim.format");
}
