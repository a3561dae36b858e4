//! Refusals of what the transparency log says.

use coffer_lab_testpki::sigstore::{PKCS_ED25519, SIGSTORE_TIME, SigstoreFixture, SigstoreSigner};

use super::*;

fn ed25519() -> Case {
    let fixture = SigstoreFixture::with_log(&PKCS_ED25519, Vec::new());
    Case::with(fixture, &SigstoreSigner::new(WORKFLOW, ISSUER), Of::Message)
}

#[test]
fn a_log_with_an_ed25519_key_is_accepted_and_its_changed_checkpoint_is_not() {
    let mut case = ed25519();
    case.verify().unwrap();
    let (origin, root) = (case.fixture.origin(), case.proof()["rootHash"].clone());
    let other = SigstoreFixture::with_log(&PKCS_ED25519, Vec::new());
    let root = STANDARD.decode(root.as_str().unwrap()).unwrap();
    case.proof()["checkpoint"]["envelope"] = json!(other.checkpoint(&origin, 7, &root));
    assert_eq!(case.code(), "sigstore.checkpoint.signature");
}

#[test]
fn an_entry_of_a_log_that_is_not_trusted_is_refused() {
    let mut case = Case::of(Of::Message);
    case.root["tlogs"] = json!([]);
    assert_eq!(case.code(), "sigstore.log.unknown");
    let mut case = Case::of(Of::Message);
    flip(&mut case.entry()["logId"]["keyId"]);
    assert_eq!(case.code(), "sigstore.log.unknown");
}

#[test]
fn an_entry_outside_of_the_key_s_window_is_refused() {
    for window in [json!({"start": "2026-01-01T00:00:01Z"}), json!({"end": "2025-12-31T23:59:59Z"})] {
        let mut case = Case::of(Of::Message);
        case.root["tlogs"][0]["publicKey"]["validFor"] = window;
        assert_eq!(case.code(), "sigstore.log.window");
    }
    let mut case = Case::of(Of::Message);
    case.root["tlogs"][0]["publicKey"]["validFor"] =
        json!({"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"});
    case.verify().unwrap();
}

#[test]
fn an_entry_without_a_promise_is_refused() {
    let mut case = Case::of(Of::Message);
    case.entry().as_object_mut().unwrap().remove("inclusionPromise");
    assert_eq!(case.code(), "sigstore.promise.missing");
}

#[test]
fn a_promise_over_anything_else_is_refused() {
    type Change = fn(&mut Case);
    let changes: [(&str, Change); 5] = [
        ("signature", |case| flip(&mut case.entry()["inclusionPromise"]["signedEntryTimestamp"])),
        ("time", |case| case.entry()["integratedTime"] = json!((SIGSTORE_TIME + 1).to_string())),
        ("index", |case| case.entry()["logIndex"] = json!("1003")),
        ("body", |case| flip(&mut case.entry()["canonicalizedBody"])),
        ("key", |case| {
            let mut entry = case.entry().clone();
            SigstoreFixture::new().promise(&mut entry);
            *case.entry() = entry;
        }),
    ];
    for (what, change) in changes {
        let mut case = Case::of(Of::Message);
        change(&mut case);
        assert_eq!(case.code(), "sigstore.promise.signature", "{what}");
    }
}

#[test]
fn a_body_that_is_promised_and_not_in_the_tree_is_refused() {
    let mut case = Case::of(Of::Message);
    let mut entry = case.entry().clone();
    flip(&mut entry["canonicalizedBody"]);
    case.fixture.promise(&mut entry);
    *case.entry() = entry;
    assert_eq!(case.code(), "sigstore.inclusion.root");
}

#[test]
fn a_proof_for_another_leaf_path_or_tree_is_refused() {
    type Change = fn(&mut Value);
    let changes: [(&str, &str, Change); 8] = [
        ("index", "sigstore.inclusion.root", |proof| proof["logIndex"] = json!("3")),
        ("index with another path", "sigstore.inclusion.length", |proof| proof["logIndex"] = json!("6")),
        ("index outside", "sigstore.inclusion.index", |proof| proof["logIndex"] = json!("7")),
        ("hash", "sigstore.inclusion.root", |proof| flip(&mut proof["hashes"][1])),
        ("fewer hashes", "sigstore.inclusion.length", |proof| {
            proof["hashes"].as_array_mut().unwrap().pop();
        }),
        ("root", "sigstore.inclusion.root", |proof| flip(&mut proof["rootHash"])),
        ("tree of the same shape", "sigstore.checkpoint.size", |proof| proof["treeSize"] = json!("8")),
        ("tree of another shape", "sigstore.inclusion.length", |proof| proof["treeSize"] = json!("9")),
    ];
    for (what, code, change) in changes {
        let mut case = Case::of(Of::Message);
        change(case.proof());
        assert_eq!(case.code(), code, "{what}");
    }
}

#[test]
fn a_checkpoint_of_another_tree_is_refused() {
    let mut case = Case::of(Of::Message);
    let other = case.fixture.checkpoint(&case.fixture.origin(), 7, &[7; 32]);
    case.proof()["checkpoint"]["envelope"] = json!(other);
    assert_eq!(case.code(), "sigstore.checkpoint.root");
}

#[test]
fn a_checkpoint_that_the_log_did_not_sign_under_its_origin_is_refused() {
    let mut case = Case::of(Of::Message);
    let root = STANDARD.decode(case.proof()["rootHash"].as_str().unwrap()).unwrap();
    let good = case.proof()["checkpoint"]["envelope"].as_str().unwrap().to_owned();
    let mut of = |envelope: String| {
        case.proof()["checkpoint"]["envelope"] = json!(envelope);
        case.verify().map_err(|cause| cause.code())
    };
    assert!(of(good.clone()).is_ok());
    let here = SigstoreFixture::new();
    let elsewhere = here.checkpoint(&here.origin(), 7, &root);
    assert_eq!(of(elsewhere.clone()).unwrap_err(), "sigstore.checkpoint.signature");
    for origin in ["other.test", "log.sigstore.test - x", "log.sigstore.test - ", "log.sigstore.test2", ""] {
        let changed = good.replacen("log.sigstore.test - 1193050959916656506", origin, 1);
        assert_eq!(of(changed).unwrap_err(), "sigstore.checkpoint.origin", "{origin}");
    }
    // The origin is signed: another tree's number is another text.
    let changed = good.replacen("1193050959916656506", "1193050959916656507", 1);
    assert_eq!(of(changed).unwrap_err(), "sigstore.checkpoint.signature");
    let changed = good.replacen("\n7\n", "\n7\n\n", 1);
    assert!(of(changed).is_err());

    // Others' signatures beside the log's are skipped.
    let witness = elsewhere.lines().last().unwrap().replace("log.sigstore.test", "witness.test");
    assert!(of(format!("{good}{witness}\n")).is_ok());
    let before = good.replacen("\n\n", &format!("\n\n{witness}\n"), 1);
    assert!(of(before).is_ok());
}

#[test]
fn a_checkpoint_that_is_no_signed_tree_head_is_refused() {
    let mut case = Case::of(Of::Message);
    let good = case.proof()["checkpoint"]["envelope"].as_str().unwrap().to_owned();
    let wrong = [
        String::new(),
        good.trim_end().to_owned(),
        good.replacen("\n7\n", "\n07\n", 1),
        good.replacen("\n7\n", "\n-7\n", 1),
        good.replacen("=\n\n", "\n\n", 1),
        good.replacen("\n\n", "\n", 1),
        good.replacen('\n', "\r\n", 1),
        format!("{good}{}", "x".repeat(17 << 10)),
    ];
    for (number, envelope) in wrong.into_iter().enumerate() {
        case.proof()["checkpoint"]["envelope"] = json!(envelope);
        assert_eq!(case.code(), "sigstore.checkpoint.malformed", "{number}");
    }
}
