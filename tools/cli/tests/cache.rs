//! `coffer cache` with Debian's registry: filled once, listed, verified, pruned.
#![allow(clippy::unwrap_used)]

mod cli;
mod registry;

use cli::Case;
use coffer_core_oci::manifest::{Descriptor, Index, Manifest};
use coffer_core_oci::media;
use registry::registry;
use serde_json::json;

/// An image with one empty layer, as an OCI layout.
fn layout(case: &Case) -> String {
    let blob = |bytes: &[u8], kind: &str| {
        let descriptor = Descriptor::of(kind, bytes);
        case.write(&format!("plain/blobs/sha256/{}", descriptor.digest.hex()), bytes);
        descriptor
    };
    let layer = blob(&[0; 1024], media::OCI_LAYER);
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/x"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
    });
    let config = blob(config.to_string().as_bytes(), media::OCI_CONFIG);
    let manifest = blob(&Manifest::new(config, vec![layer]).to_bytes().unwrap(), media::OCI_MANIFEST);
    let mut named = manifest;
    named.annotations.insert("org.opencontainers.image.ref.name".into(), "1".into());
    case.write("plain/index.json", &serde_json::to_vec(&Index::new(vec![named])).unwrap());
    case.write("plain/oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    format!("oci:{}:1", case.path("plain"))
}

#[test]
fn a_sealed_image_is_filled_once_and_what_changed_is_found() {
    let case = Case::new();
    let Some((_process, address)) = registry(&case) else { return };
    let (plain, image) = (layout(&case), format!("docker://{address}/lab/app:1"));
    let key = case.write("image.key", &(0..64).collect::<Vec<u8>>());
    let uri = "kbs:///default/image-key/app";
    case.run(&["image", "seal", &plain, "--to", &image, "--key", uri, "--key-file", &key]).ends_with(0);
    let json = |words: &[&str]| {
        let done = case.run(&[&["--output", "json", "cache"], words].concat());
        done.ends_with(0);
        done.json()
    };
    let filled = json(&["fill", &image]);
    let size = filled["size"].as_u64().unwrap();
    assert!(filled["transferred"].as_u64().unwrap() >= size, "{filled}");
    assert_eq!(json(&["fill", &image])["transferred"], 0);
    let listed = json(&["list"]);
    let of_sealed = |entry: &&serde_json::Value| entry["size"].as_u64() == Some(size);
    let sealed = listed.as_array().unwrap().iter().find(of_sealed).unwrap();
    assert_eq!((&sealed["present"], &sealed["held"]), (&json!(size), &json!(false)));
    let digest = sealed["digest"].as_str().unwrap().to_owned();
    assert_eq!(json(&["verify"]), json!({"removed": []}));
    let path = case.path(&format!("home/blobs/blobs/{}", digest.replace(':', "/")));
    let mut changed = std::fs::read(&path).unwrap();
    changed[9] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, changed).unwrap();
    assert_eq!(json(&["verify"]), json!({"removed": [digest]}));
    case.run(&["cache", "fill", &image]).ends_with(0);
    let pruned = json(&["prune"]);
    assert_eq!(pruned["removed"].as_array().unwrap().len(), listed.as_array().unwrap().len());
    assert_eq!(json(&["list"]), json!([]));
}

#[test]
fn what_cannot_be_filled_is_told_with_its_code() {
    let case = Case::new();
    let Some((_process, address)) = registry(&case) else { return };
    let absent = format!("docker://{address}/lab/absent:1");
    let done = case.run(&["cache", "fill", &absent]);
    done.ends_with(1);
    assert!(done.err.contains("cache.registry.missing"), "{}", done.err);
    case.write("home/registries.toml", b"mirrors = 1");
    let done = case.run(&["cache", "fill", &absent]);
    done.ends_with(1);
    assert!(done.err.contains("cache.settings") && done.err.contains("registries.toml"), "{}", done.err);
    let done = case.run(&["cache", "fill", "oci:folder:1"]);
    done.ends_with(1);
    case.run(&["cache", "prune", "--to", "much"]).ends_with(2);
}
