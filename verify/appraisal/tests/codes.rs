//! The page of codes names every code that judges, the appraisal, policies and collateral can answer with.
//!
//! What looks like a code in the sources counts as one. Codes that are put together from a name and a tail are found by
//! the tail. What is put together from names in data (registers, claims of trust) is not found here.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use coffer_core_evidence::ar4si::TrustVector;

/// What codes of evidence and of its appraisal begin with.
const AREAS: [&str; 19] = [
    "appraisal",
    "az-snp-vtpm",
    "az-tdx-vtpm",
    "cca",
    "collateral",
    "csv",
    "evidence",
    "init-data",
    "lint",
    "measurement",
    "nitro",
    "nvidia",
    "platform",
    "policy",
    "reference",
    "sgx",
    "snp",
    "tdx",
    "tpm",
];

/// Names of files and beginnings of codes, which look like codes.
const NO_CODES: [&str; 8] = [
    "collateral.json",
    "collateral.toml",
    "nvidia.device-certificate",
    "nvidia.rim-certificate",
    "platform.pem",
    "platform.toml",
    "policy.rego",
    "reference.json",
];

/// Folders whose codes are put together: what stands for the name at the beginning, and the names that it stands for.
const COMPOSED: [(&str, &[&str], &[&str]); 3] = [
    ("verify/dcap", &["prefix"], &["tdx", "sgx"]),
    ("verify/tdx", &["prefix"], &["tdx"]),
    ("verify/azure", &["tee", "TEE"], &["az-snp-vtpm", "az-tdx-vtpm"]),
];

/// The one code that only SNP has of Azure's two.
const ONLY_SNP: [&str; 2] = ["hcl.report-data", "hcl.vmpl"];

/// What differs where a measurement differs: `Component` of `core/launch`.
const COMPONENTS: [&str; 17] = [
    "firmware",
    "firmware-settings",
    "secure-boot",
    "kernel",
    "command-line",
    "initrd",
    "init-data",
    "boot-sequence",
    "vcpus",
    "memory",
    "cpu",
    "guest-features",
    "vmm",
    "acpi-tables",
    "kernel-hashes",
    "enclave",
    "signer",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page() -> String {
    fs::read_to_string(root().join("docs/codes.md")).unwrap()
}

/// Production sources of a folder, with their paths from the root.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["tests", "testdata", "target"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let shown = path.strip_prefix(root()).unwrap().display().to_string();
                let text = fs::read_to_string(&path).unwrap();
                let production = text.split("\n#[cfg(test)]\nmod ").next().unwrap().to_owned();
                found.push((shown, production));
            }
        }
    }
    found
}

/// The literals of a source. Escapes do not stand in codes.
fn literals(source: &str) -> impl Iterator<Item = &str> {
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split('"').skip(1).step_by(2))
}

fn is_dotted_kebab(text: &str) -> bool {
    text.split('.').all(|part| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    })
}

/// The codes that a literal states.
fn stated(file: &str, literal: &str) -> Vec<String> {
    let Some((head, tail)) = literal.split_once('.') else { return Vec::new() };
    if !is_dotted_kebab(tail) {
        return Vec::new();
    }
    let composed = COMPOSED.iter().find(|(folder, _, _)| file.starts_with(folder));
    let Some((_, placeholders, names)) = composed else {
        return if AREAS.contains(&head) { vec![literal.to_owned()] } else { Vec::new() };
    };
    let begins = |names: &[&str], form: fn(&str) -> String| names.iter().any(|name| head == form(name));
    let tail = match head {
        _ if begins(placeholders, |name| format!("{{{name}}}")) => tail,
        _ if AREAS.contains(&head) && head != "collateral" => return vec![literal.to_owned()],
        // A tail without its name, which is put before it elsewhere. Numbers are of object identifiers.
        _ if is_dotted_kebab(head) && head.starts_with(|first: char| first.is_ascii_lowercase()) => literal,
        _ => return Vec::new(),
    };
    let is_there = |name: &&&str| !(ONLY_SNP.contains(&tail) && **name == "az-tdx-vtpm");
    names.iter().filter(is_there).map(|name| format!("{name}.{tail}")).collect()
}

/// Codes by where they were found.
fn codes() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for folder in ["verify", "core", "tools/cli", "tools/client", "server"] {
        for (file, source) in sources(folder) {
            for literal in literals(&source) {
                for code in stated(&file, literal) {
                    found.entry(code).or_insert_with(|| file.clone());
                }
            }
        }
    }
    for (file, source) in sources("core/policy/src/lint") {
        for call in ["report.add(", "tell("] {
            for rest in source.split(call).skip(1) {
                let Some(rest) = rest.trim_start().strip_prefix('"') else { continue };
                let name = rest.split('"').next().unwrap();
                found.insert(format!("lint.{name}"), file.clone());
            }
        }
    }
    let components = COMPONENTS.iter().map(|name| format!("measurement.{name}"));
    let claims = TrustVector::NAMES.iter().map(|name| format!("appraisal.{name}"));
    for code in components.chain(claims) {
        found.insert(code, "data".to_owned());
    }
    found.retain(|code, _| !NO_CODES.contains(&code.as_str()));
    found
}

#[test]
fn the_page_of_codes_names_every_code_in_the_sources() {
    let (page, codes) = (page(), codes());
    assert!(codes.len() > 250, "only {} codes were found, so the search is wrong", codes.len());
    for known in ["snp.report.signature", "sgx.pck.chain", "az-tdx-vtpm.hcl.platform", "lint.never-fires"] {
        assert!(codes.contains_key(known), "{known} was not found, so the search is wrong");
    }
    let is_missing = |(code, _): &(&String, &String)| {
        !page.contains(&format!("`{code}`")) && !page.contains(&family(code))
    };
    let missing: Vec<_> = codes.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "docs/codes.md lacks {missing:#?}");
}

/// A family stands with its prefix, as `init-data.broker.*`.
fn family(code: &str) -> String {
    let prefix = code.rsplit_once('.').map_or(code, |(prefix, _)| prefix);
    format!("`{prefix}.*`")
}

#[test]
fn the_page_names_no_code_twice() {
    let page = page();
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cell = line.split('|').nth(1).unwrap();
        for code in cell.split('`').skip(1).step_by(2) {
            *lines.entry(code).or_default() += 1;
        }
    }
    lines.retain(|_, times| *times > 1);
    // Answers of the broker are in a table of their own, and may be told of in their area too.
    for answer in ["policy.denied", "reference.incomplete", "collateral.unavailable"] {
        lines.remove(answer);
    }
    assert!(lines.is_empty(), "{lines:?}");
}
