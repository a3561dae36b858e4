//! Every target over its seeds, over real evidence where it is at hand, and over thousands of changed inputs.
//!
//! The numbers are fixed, so a failure names the target and the input and happens again.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use coffer_lab_fuzz_targets::{TARGETS, Target, mutate::mutation};

const MUTATIONS: u64 = 3000;
/// Far above what any input takes; below what a person would call hanging.
const PATIENCE: Duration = Duration::from_secs(20);

fn run(target: &Target, input: &[u8]) {
    let began = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let shown: String = input.iter().take(4096).map(|byte| format!("{byte:02x}")).collect();
    assert!(result.is_ok(), "{} panics on {shown}", target.name);
    assert!(began.elapsed() < PATIENCE, "{} takes {:?} on {shown}", target.name, began.elapsed());
}

/// Real evidence for a target, from the vectors.
fn vectors(name: &str) -> Vec<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let folder = PathBuf::from(folder);
    let read = |path: &str| std::fs::read(folder.join(path)).ok();
    let all = |paths: &[&str]| paths.iter().filter_map(|path| read(path)).collect();
    match name {
        "tpm_attest" => all(&["tpm/swtpm/ecc_quote.msg", "tpm/swtpm/rsa_quote.msg"]),
        "tpm_signature" => all(&["tpm/swtpm/ecc_quote.sig", "tpm/swtpm/rsa_quote.sig"]),
        "tpm_public" => all(&["tpm/swtpm/ak.pub", "tpm/swtpm/akrsa.pub", "tpm/swtpm/ek.pub"]),
        "tpm_evidence" => all(&["tpm/trustee_tpm_evidence.json"]),
        "event_log" => {
            let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join("tpm/eventlogs"))
                .map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect())
                .unwrap_or_default();
            files.sort();
            files.iter().filter_map(|file| std::fs::read(file).ok()).collect()
        }
        "nvidia_rim" => all(&["nvidia/sdk_NV_GPU_DRIVER_GH100_550.144.03.xml"]),
        "csv_evidence" => all(&["csv/csv_evidence.json"]),
        "nitro_document" => all(&["nitro/dstack_attest_nitro_attestation.cose"]),
        "cca_token" => all(&["cca/tfrmm_cca_token.cbor", "cca/rustccatoken_cca-token-draft-ffm-00.cbor"]),
        "corim" => all(&["corim/unsigned-good-corim.cbor", "corim/signed-example-corim.cbor"]),
        _ => Vec::new(),
    }
}

#[test]
fn no_target_panics_or_hangs_on_its_seeds_or_on_mutations_of_them() {
    for target in TARGETS {
        let mut seeds = (target.seeds)();
        let own = seeds.len();
        seeds.extend(vectors(target.name));
        assert!(own > 0, "{} has no seeds", target.name);
        run(target, &[]);
        for seed in &seeds {
            run(target, seed);
        }
        for number in 0..MUTATIONS {
            let seed = &seeds[(number % seeds.len() as u64) as usize];
            let other = &seeds[(number / 7 % seeds.len() as u64) as usize];
            run(target, &mutation(seed, other, number));
        }
    }
}

/// What fuzzers found worth keeping is run again in every test run.
#[test]
fn the_committed_corpus_is_taken() {
    let corpus = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus"));
    for target in TARGETS {
        let files = std::fs::read_dir(corpus.join(target.name)).map(|entries| entries.filter_map(Result::ok));
        let files: Vec<_> = files.map(Iterator::collect).unwrap_or_default();
        assert!(!files.is_empty(), "{} has no corpus", target.name);
        for file in files {
            run(target, &std::fs::read(file.path()).unwrap());
        }
    }
}

#[test]
fn every_cut_of_a_short_seed_is_taken() {
    for target in TARGETS {
        for seed in (target.seeds)().iter().filter(|seed| seed.len() <= 2048) {
            for length in 0..seed.len() {
                run(target, &seed[..length]);
            }
        }
    }
}

#[test]
fn a_target_that_panics_is_noticed() {
    let broken = Target { name: "broken", run: |data| assert!(data.is_empty()), seeds: Vec::new };
    assert!(catch_unwind(|| run(&broken, b"x")).is_err());
}

#[test]
fn mutations_are_deterministic_and_differ() {
    let inputs: std::collections::BTreeSet<Vec<u8>> =
        (0..500).map(|number| mutation(b"a seed of some length", b"other", number)).collect();
    assert!(inputs.len() > 400);
    assert_eq!(mutation(b"seed", b"other", 7), mutation(b"seed", b"other", 7));
}

#[test]
fn every_target_has_its_program() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz"));
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for target in TARGETS {
        let program = std::fs::read_to_string(folder.join(format!("fuzz_targets/{}.rs", target.name)));
        assert!(program.is_ok_and(|text| text.contains(target.name)), "{} has no program", target.name);
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{} is not listed", target.name);
    }
    let programs = std::fs::read_dir(folder.join("fuzz_targets")).unwrap().count();
    assert_eq!(programs, TARGETS.len());
}
