//! `coffer policy`, `measure` and `ref` without a broker: findings, replays, predictions and their exit codes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod cli;

use coffer_lab_testpki::SnpAuthority;
use serde_json::json;

use crate::cli::{Case, snp_firmware};

const ENCLAVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../core/launch/testdata/enclave.sgxs");
const SIGSTRUCT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../core/launch/testdata/enclave.sig");
const TCB: [u8; 8] = [4, 0, 0, 0, 0, 0, 24, 219];

#[test]
fn a_policy_with_a_mistake_is_told_by_line_and_ends_with_1() {
    let case = Case::new();
    let broken = case.write("broken.rego", b"package policy\n\ndeny contains \"x\" if {\n");
    let done = case.run(&["policy", "check", &broken]);
    done.ends_with(1);
    assert!(
        done.out.contains("[lint.syntax]") && done.err.contains("cannot be put in force"),
        "{}",
        done.out
    );
    let json = case.run(&["policy", "check", &broken, "--output", "json"]);
    json.ends_with(1);
    assert_eq!(json.json()["findings"][0]["code"], "lint.syntax");
}

#[test]
fn a_policy_for_anyone_is_a_warning() {
    let case = Case::new();
    let open = case.write("open.rego", b"package policy\nimport rego.v1\n\ndefault allow := true\n");
    let done = case.run(&["policy", "check", &open]);
    done.ends_with(0);
    assert!(done.out.contains("[lint.allows-anyone]"), "{}", done.out);
}

#[test]
fn a_replay_tells_who_gets_in_and_who_is_kept_out() {
    let case = Case::new();
    let authority = SnpAuthority::new("Milan");
    let key = authority.certify(&authority.content(TCB, &[0x42; 64]));
    let mut report = authority.report(3, TCB, &[0x42; 64], &[9; 64]);
    key.sign(&mut report);
    let evidence = [&report[..], &table(&key.certificate())].concat();
    case.write("attempts/one.bin", &evidence);
    let roots = case.write("roots.pem", &SnpAuthority::pem(&[authority.ask(), authority.ark()]));
    let none = case.write("none.rego", b"package policy\nimport rego.v1\n\ndefault allow := false\n");
    let all = case.write("all.rego", b"package policy\nimport rego.v1\n\ndefault allow := true\n");
    let replay = |old: &str, new: &str| {
        let folder = case.path("attempts");
        let common = ["--root", &roots, "--offline", "--at", "2025-06-20T10:00:00Z", "--output", "json"];
        let done =
            case.run(&[&["policy", "replay", &folder, "--new", new, "--against", old], &common[..]].concat());
        done.ends_with(0);
        done.json()
    };
    let opened = replay(&none, &all);
    assert_eq!(opened["newly_accepted"][0]["attempt"], "one cpu0", "{opened}");
    assert_eq!(replay(&all, &none)["newly_refused"].as_array().map(Vec::len), Some(1));
    assert_eq!(replay(&all, &all)["unchanged"], 1);
}

/// The host's table with one entry, the VCEK (GHCB specification, section 4.1.8.1).
fn table(vcek: &[u8]) -> Vec<u8> {
    let identifier =
        [0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd];
    let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    [&identifier[..], &number(48), &number(vcek.len()), &[0; 24], vcek].concat()
}

#[test]
fn the_example_of_a_platform_policy_is_commented() {
    let done = Case::new().run(&["policy", "platform", "example"]);
    done.ends_with(0);
    assert!(done.out.contains("# A guest that its host may debug"), "{}", done.out);
}

#[test]
fn an_enclave_and_a_guest_are_predicted_as_json_and_as_corim() {
    let case = Case::new();
    let done = case.run(&["measure", "--platform", "sgx", "--enclave", ENCLAVE, "--sigstruct", SIGSTRUCT]);
    done.ends_with(0);
    let values = done.json();
    assert_eq!(values["platform"], "sgx");
    assert!(values["registers"]["mrenclave"].as_str().unwrap().contains("5fdb335dba7ad013"), "{values}");

    let firmware = case.write("firmware.fd", &snp_firmware());
    let out = case.path("guest.corim");
    let measure =
        ["measure", "--platform", "snp", "--firmware", &firmware, "-o", &out, "--corim", "--output", "json"];
    let done = case.run(&measure);
    done.ends_with(0);
    assert_eq!(done.json()["platform"], json!("snp"));
    assert!(!std::fs::read(&out).unwrap().is_empty());
}

#[test]
fn what_a_prediction_lacks_is_named() {
    let case = Case::new();
    let without = [("snp", "--firmware"), ("tdx", "--firmware"), ("sgx", "--enclave")];
    for (platform, option) in without {
        let done = case.run(&["measure", "--platform", platform]);
        done.ends_with(1);
        assert!(done.err.contains(option), "{}", done.err);
    }
}

#[test]
fn every_shell_gets_a_completion_script() {
    for shell in ["bash", "zsh", "fish"] {
        let done = Case::new().run(&["completion", shell]);
        done.ends_with(0);
        assert!(done.out.contains("coffer"));
    }
}
