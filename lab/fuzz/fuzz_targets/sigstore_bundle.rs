//! The target `sigstore_bundle` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coffer_lab_fuzz_targets::sigstore_bundle(data));
