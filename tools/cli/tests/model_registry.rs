//! `coffer model seal --to docker://…` with Debian's registry: what is pushed is verified and opened from there.
#![allow(clippy::unwrap_used)]

mod cli;
mod registry;

use std::fs;
use std::path::{Path, PathBuf};

use cli::Case;
use registry::registry;
use serde_json::Value;

const URI: &str = "kbs:///default/model-key/test";

/// A model of three files, pushed; its place, and what was told.
fn pushed(case: &Case, address: &str) -> (String, Value) {
    let weights: Vec<u8> = (0..3_000_000_usize).map(|at| (at * at % 251) as u8).collect();
    case.write("model/weights/model.safetensors", &weights);
    case.write("model/config.json", b"{\"hidden_size\":384}");
    case.write("model/empty", b"");
    let (private, public) = (case.path("signer"), case.path("signer.pub"));
    if !Path::new(&private).exists() {
        case.run(&["image", "keygen", "--private", &private, "--public", &public]).ends_with(0);
    }
    let (key, model) = (case.write("key", &[7; 32]), case.path("model"));
    let place = format!("docker://{address}/models/minilm:1");
    let usual = ["--output", "json", "model", "seal", &model, "--to", &place, "--key-uri", URI];
    let done = case.run(&[&usual[..], &["--key-file", &key, "--sign-key", &private]].concat());
    done.ends_with(0);
    (place, done.json())
}

/// The registry's file of a blob.
fn blob(case: &Case, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").unwrap();
    let store = case.path("registry/docker/registry/v2/blobs/sha256");
    Path::new(&store).join(&hex[..2]).join(hex).join("data")
}

#[test]
fn a_model_that_is_pushed_is_verified_and_opened_from_the_registry() {
    let case = Case::new();
    let Some((_registry, address)) = registry(&case) else { return };
    let (place, told) = pushed(&case, &address);
    let (key, signer) = (case.path("key"), case.path("signer.pub"));
    let verify = |place: &str| {
        case.run(&["--output", "json", "model", "verify", place, "--signer", &signer, "--key-file", &key])
    };
    let done = verify(&place);
    done.ends_with(0);
    assert_eq!(done.json()["statement"], told["statement"]);
    // By the manifest's digest, and by the names that KServe has for it.
    let digest = told["manifest"].as_str().unwrap();
    verify(&format!("docker://{address}/models/minilm@{digest}")).ends_with(0);
    verify(&format!("cc+oci://{address}/models/minilm:1")).ends_with(0);
    let out = case.path("out");
    case.run(&["model", "open", &place, "--out", &out, "--signer", &signer, "--key-file", &key]).ends_with(0);
    for path in ["weights/model.safetensors", "config.json", "empty"] {
        let from = fs::read(case.path(&format!("model/{path}"))).unwrap();
        assert!(from == fs::read(format!("{out}/{path}")).unwrap(), "{path}");
    }
    // What the registry has of it says nothing of names and contents.
    let manifest = fs::read_to_string(blob(&case, digest)).unwrap();
    assert!(manifest.contains("application/vnd.cncf.model.manifest.v1+json"), "{manifest}");
    assert!(!manifest.contains("safetensors") && !manifest.contains("config.json"), "{manifest}");
    // Pushed again, it is another artifact under the same name.
    let again = pushed(&case, &address).1;
    assert_ne!(again["statement"], told["statement"]);
    assert_eq!(verify(&place).json()["statement"], again["statement"]);
}

#[test]
fn what_the_registry_changes_or_lacks_is_refused() {
    let case = Case::new();
    let Some((_registry, address)) = registry(&case) else { return };
    let (place, _) = pushed(&case, &address);
    let (key, signer) = (case.path("key"), case.path("signer.pub"));
    let usual = ["--output", "json", "model", "verify"];
    let keys = ["--signer", &signer, "--key-file", &key];
    let verify = |place: &str| case.run(&[&usual[..], &[place], &keys].concat());
    let files = verify(&place).json()["files"].clone();
    let weights = files.as_array().unwrap().iter().find(|file| file["path"] == "weights/model.safetensors");
    let data = blob(&case, weights.unwrap()["digest"].as_str().unwrap());
    let good = fs::read(&data).unwrap();
    let refused = |code: &str| {
        let done = verify(&place);
        done.ends_with(1);
        assert!(done.err.contains(&format!("[{code}]")), "{}", done.err);
    };
    let mut bad = good.clone();
    bad[2_000_000] ^= 1;
    fs::write(&data, &bad).unwrap();
    refused("stream.corrupt");
    fs::write(&data, &good[..2_000_000]).unwrap();
    refused("stream.truncated");
    fs::remove_file(&data).unwrap();
    refused("model.missing");
    let absent = verify(&format!("docker://{address}/models/minilm:2"));
    absent.ends_with(1);
    assert!(absent.err.contains("[source.missing]"), "{}", absent.err);
}
