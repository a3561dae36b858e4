//! `coffer` as a person calls it, on evidence of authorities of our own: verdicts, exit codes, texts and JSON.
//!
//! The command runs with a home of its own and no network. Left out: what needs a broker or a guest, which
//! `lab/e2e` runs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod cli;

use coffer_lab_testpki::SnpAuthority;
use coffer_lab_testpki::dcap::{DcapFixture, TrustDomain};
use serde_json::{Value, json};

use crate::cli::{Case, snp_firmware};

/// Within the lifetime of the test collateral and of the test certificates.
const AT: &str = "2026-11-10T00:00:00Z";
const TCB: [u8; 8] = [4, 0, 0, 0, 0, 0, 24, 219];
const CHIP: [u8; 64] = [0x42; 64];

/// A quote, its root and all the documents that its judge asks for.
fn tdx(case: &Case, td: &TrustDomain) -> [String; 2] {
    let fixture = DcapFixture::tdx();
    case.write("documents/tdx.json", &serde_json::to_vec(&collateral(&fixture)).unwrap());
    let quote = case.write("quote.bin", &fixture.quote(4, &td.body(2)));
    [quote, case.write("root.pem", fixture.root.pem().as_bytes())]
}

/// The documents in the one file that quote libraries write.
fn collateral(fixture: &DcapFixture) -> Value {
    let shelf = fixture.shelf();
    let document =
        |key| shelf.iter().find(|(found, _)| **found == key).map(|(_, document)| document).unwrap();
    let body = |key, member: &str| {
        let document = document(key);
        let text = std::str::from_utf8(document.body()).unwrap().to_owned();
        let whole: Value = serde_json::from_str(&text).unwrap();
        let begin = text.find(&format!("\"{member}\":")).unwrap() + member.len() + 3;
        let end = text.rfind(",\"signature\"").unwrap();
        let chain = String::from_utf8(document.issuer_chain().to_vec()).unwrap();
        (text[begin..end].to_owned(), whole["signature"].clone(), chain)
    };
    let (info, info_signature, chain) = body(fixture.tcb_info_key(), "tcbInfo");
    let (identity, identity_signature, _) = body(fixture.identity_key(), "enclaveIdentity");
    json!({
        "tcb_info": info, "tcb_info_signature": info_signature, "tcb_info_issuer_chain": chain,
        "qe_identity": identity, "qe_identity_signature": identity_signature, "qe_identity_issuer_chain": chain,
        "root_ca_crl": hex::encode(fixture.root.crl(&[], 1_735_689_600, 1_798_761_600)),
        "pck_crl": hex::encode(fixture.ca.crl(&[], 1_735_689_600, 1_798_761_600)),
        "pck_crl_issuer_chain": format!("{}{}", fixture.ca.pem(), fixture.root.pem()),
    })
}

/// A report over a measurement, signed by a chip of our own product line, with certificates beside it.
fn snp(case: &Case, measurement: &[u8]) -> [String; 3] {
    let authority = SnpAuthority::new("Milan");
    let key = authority.certify(&authority.content(TCB, &CHIP));
    let mut report = authority.report(3, TCB, &CHIP, &[9; 64]);
    report[0x90..0xc0].copy_from_slice(measurement);
    report[0xc0..0xe0].fill(0);
    key.sign(&mut report);
    let roots = SnpAuthority::pem(&[authority.ask(), authority.ark()]);
    [
        case.write("report.bin", &report),
        case.write("vcek.der", &key.certificate()),
        case.write("roots.pem", &roots),
    ]
}

fn predicted(case: &Case, vcpus: &str, line: &str, name: &str) -> (String, Vec<u8>) {
    let firmware = case.write("firmware.fd", &snp_firmware());
    let kernel = case.write("vmlinuz", b"a kernel");
    let out = case.path(name);
    let measure =
        ["measure", "--platform", "snp", "--firmware", &firmware, "--kernel", &kernel, "--cpus", vcpus];
    let done = case.run(&[&measure[..], &["--command-line", line, "-o", &out]].concat());
    done.ends_with(0);
    let values: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    let measurement = values["registers"]["measurement"].as_str().unwrap();
    let hex = measurement.rsplit(':').next().unwrap();
    (out, hex::decode(hex).unwrap())
}

#[test]
fn evidence_as_predicted_is_affirming() {
    let case = Case::new();
    let (expected, measurement) = predicted(&case, "4", "console=ttyS0 quiet", "guest.json");
    let [report, vcek, roots] = snp(&case, &measurement);
    let explain = [
        "explain",
        &report,
        "--certificate",
        &vcek,
        "--root",
        &roots,
        "--at",
        AT,
        "--offline",
        "--expect",
        &expected,
    ];
    let done = case.run(&explain);
    done.ends_with(0);
    assert!(done.out.contains("cpu0: snp evidence (hardware): affirming"), "{}", done.out);
    let json = case.run(&[&explain[..], &["--output", "json"]].concat()).json();
    assert_eq!((&json[0]["submodule"], &json[0]["status"]), (&json!("cpu0"), &json!("affirming")));
    assert!(json[0]["checks"].is_array() && json[0]["claims"].is_object(), "{json}");
}

#[test]
fn a_guest_with_fewer_processors_or_another_command_line_is_told_so() {
    let case = Case::new();
    let (expected, _) = predicted(&case, "4", "console=ttyS0 quiet", "guest.json");
    let others = [
        (("2", "console=ttyS0 quiet"), "2 vCPUs instead of 4"),
        (("4", "console=ttyS0"), "the command line without `quiet`"),
    ];
    for ((vcpus, line), text) in others {
        let (_, measurement) = predicted(&case, vcpus, line, "other.json");
        let [report, vcek, roots] = snp(&case, &measurement);
        let done = case.run(&[
            "explain",
            &report,
            "--certificate",
            &vcek,
            "--root",
            &roots,
            "--at",
            AT,
            "--offline",
            "--expect",
            &expected,
        ]);
        done.ends_with(120);
        assert!(done.out.contains(text), "{text:?} is not in\n{}", done.out);
    }
}

#[test]
fn evidence_that_is_compared_with_nothing_is_said_to_be_genuine() {
    let case = Case::new();
    let [report, vcek, roots] = snp(&case, &[1; 48]);
    let done =
        case.run(&["explain", &report, "--certificate", &vcek, "--root", &roots, "--at", AT, "--offline"]);
    done.ends_with(120);
    for text in ["The snp evidence is genuine", "was compared with nothing", "coffer measure --platform snp"]
    {
        assert!(done.out.contains(text), "{text:?} is not in\n{}", done.out);
    }
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let case = Case::new();
    let [report, vcek, _] = snp(&case, &[1; 48]);
    let done = case.run(&["explain", &report, "--certificate", &vcek, "--at", AT, "--offline"]);
    done.ends_with(120);
    assert!(done.out.contains("[snp."), "{}", done.out);
}

#[test]
fn collateral_that_is_missing_is_named_and_ends_with_121() {
    let case = Case::new();
    let [quote, root] = tdx(&case, &TrustDomain::default());
    let done = case.run(&["explain", &quote, "--root", &root, "--at", AT, "--offline"]);
    done.ends_with(121);
    assert!(done.out.contains("not judged") && done.out.contains("collateral.unavailable"), "{}", done.out);
    assert!(done.err.contains("nothing is fetched offline"), "{}", done.err);
    assert!(!done.err.contains("broker"), "{}", done.err);
}

#[test]
fn collateral_is_imported_listed_exported_and_judged_by_elsewhere() {
    let case = Case::new();
    let [quote, root] = tdx(&case, &TrustDomain::default());
    case.run(&["collateral", "import", &case.path("documents/tdx.json")]).ends_with(0);
    let listed = case.run(&["collateral", "list", "--output", "json"]).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(4), "{listed}");
    assert!(listed[0]["key"].is_string() && listed[0]["state"].is_string(), "{listed}");
    let bundle = case.path("bundle.tar");
    case.run(&["collateral", "export", &bundle]).ends_with(0);

    let elsewhere = Case::new();
    elsewhere.run(&["collateral", "import", &bundle]).ends_with(0);
    let explain = ["explain", &quote, "--root", &root, "--at", AT, "--offline"];
    let done = elsewhere.run(&explain);
    done.ends_with(120);
    assert!(done.out.contains("The tdx evidence is genuine"), "{}", done.out);
    // A file that is named for once does the same without a cache.
    let named = Case::new().run(&[&explain[..], &["--collateral", &bundle]].concat());
    assert_eq!(named.out, done.out);
}

#[test]
fn a_guest_that_its_host_may_debug_is_refused_unless_the_owner_accepts_it() {
    let case = Case::new();
    let td = TrustDomain { attributes: 1 << 28 | 1, ..TrustDomain::default() };
    let [quote, root] = tdx(&case, &td);
    let documents = case.path("documents/tdx.json");
    let explain = ["explain", &quote, "--root", &root, "--at", AT, "--offline", "--collateral", &documents];
    let done = case.run(&explain);
    done.ends_with(120);
    assert!(done.out.contains("[platform.debug]"), "{}", done.out);
    let lab = case.write("lab.toml", b"debug = \"accept\"\n");
    let done = case.run(&[&explain[..], &["--platform-policy", &lab]].concat());
    assert!(!done.out.contains("✗ The host can debug the guest"), "{}", done.out);
}

#[test]
fn what_is_no_evidence_is_refused_with_a_reason() {
    let case = Case::new();
    let deep = [vec![b'['; 100], vec![b']'; 100]].concat();
    let files = [
        ("empty", &b""[..], "--tee"),
        ("text", b"hello", "--tee"),
        ("deep.json", &deep, "--tee"),
        ("object.json", b"{}", "--tee"),
    ];
    for (name, content, text) in files {
        let file = case.write(name, content);
        let done = case.run(&["explain", &file]);
        done.ends_with(1);
        assert!(done.err.contains(text) && done.out.is_empty(), "{name}: {}", done.err);
    }
    let folder = case.run(&["explain", &case.path("")]);
    folder.ends_with(1);
    assert!(folder.err.contains("is a folder"), "{}", folder.err);
    let missing = case.run(&["explain", &case.path("nowhere.bin")]);
    missing.ends_with(1);
    assert!(missing.err.contains("there is no such file"), "{}", missing.err);
    case.run(&["explain", "--tee", "quantum", &case.path("text")]).ends_with(2);
}
