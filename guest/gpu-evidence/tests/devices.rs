//! The program against libraries that the test builds from C, which answer in the structures of NVIDIA's headers.
//!
//! What this cannot show is that NVIDIA's own libraries answer so; no device was there to try.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const NONCE: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

struct Fakes {
    _folder: tempfile::TempDir,
    nvml: PathBuf,
    old: PathBuf,
    nscq: PathBuf,
}

/// None, said aloud, where there is no C compiler.
fn fakes() -> Option<Fakes> {
    let folder = tempfile::tempdir().expect("a folder");
    let build = |source: &str, library: &str, define: &[&str]| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake").join(source);
        let library = folder.path().join(library);
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).args(define);
        match cc.status() {
            Ok(status) => {
                assert!(status.success(), "the stand-in library cannot be built");
                Some(library)
            }
            Err(_) => {
                println!("skipped: no C compiler for the stand-in libraries");
                None
            }
        }
    };
    let nvml = build("nvml.c", "libnvml.so", &[])?;
    let old = build("nvml.c", "libnvml-old.so", &["-DOLD"])?;
    let nscq = build("nscq.c", "libnscq.so", &[])?;
    Some(Fakes { _folder: folder, nvml, old, nscq })
}

fn ask(nvml: &Path, nscq: &Path, defect: &str, nonce: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coffer-gpu-evidence"));
    command.arg("--nvml").arg(nvml).arg("--nscq").arg(nscq).arg(nonce).env("FAKE", defect);
    command.output().expect("the program starts")
}

fn list(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let evidence: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    evidence["device_evidence_list"].as_array().expect("a list").clone()
}

#[test]
fn every_device_answers_for_the_nonce_in_the_form_of_the_protocol() {
    let Some(fakes) = fakes() else { return };
    let devices = list(&ask(&fakes.nvml, &fakes.nscq, "", NONCE));
    let names: Vec<_> = devices.iter().map(|d| (d["arch"].as_str(), d["uuid"].as_str())).collect();
    let expected = [("HOPPER", "GPU-0"), ("BLACKWELL", "GPU-1"), ("LS10", "SWX-1")];
    assert_eq!(names, expected.map(|(arch, uuid)| (Some(arch), Some(uuid))));
    for device in devices {
        let member = |name: &str| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD
                .decode(device[name].as_str().expect(name))
                .expect("base64")
        };
        assert_eq!(hex::encode(&member("evidence")[4..36]), NONCE);
        assert!(matches!(member("evidence").len(), 100 | 200));
        assert_eq!(member("certificate"), b"-----BEGIN CERTIFICATE-----");
    }
}

#[test]
fn a_machine_without_the_libraries_has_no_devices() {
    let nowhere = Path::new("/nowhere/libnvidia.so");
    assert_eq!(list(&ask(nowhere, nowhere, "", NONCE)), Vec::<Value>::new());
}

#[test]
fn a_device_that_fails_is_an_error_with_its_reason_and_never_left_out() {
    let Some(fakes) = fakes() else { return };
    for (defect, reason) in [
        ("driver", "nvmlInit_v2 failed with 9"),
        ("ada", "GPU-0 is of architecture 8"),
        ("refused", "AttestationReport failed with 3"),
        ("long", "expected at most 8192, found 8193"),
        ("empty", "expected at most 8192, found 0"),
        ("chain", "expected at most 5120, found 5121"),
        ("session", "nscq_session_create failed with -7"),
        ("lr10", "SWX-1 is of architecture 1"),
        ("switch-refused", "nscq_session_path_observe failed with -8"),
        ("switch-long", "expected at most 8192, found 8193"),
    ] {
        let output = ask(&fakes.nvml, &fakes.nscq, defect, NONCE);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(reason), "{defect}: {said}");
        assert!(output.stdout.is_empty(), "{defect}");
    }
    let output = ask(&fakes.old, &fakes.nscq, "", NONCE);
    assert!(String::from_utf8_lossy(&output.stderr).contains("has no function nvmlDeviceGetConfCompute"));
}

#[test]
fn a_nonce_of_another_length_is_refused() {
    let nowhere = Path::new("/nowhere/libnvidia.so");
    for nonce in ["", "00", &NONCE[2..], &format!("{NONCE}00"), "zz"] {
        let output = ask(nowhere, nowhere, "", nonce);
        assert!(!output.status.success() && output.stdout.is_empty(), "{nonce}");
    }
}
