//! The target `ocicrypt_annotations` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coffer_lab_fuzz_targets::ocicrypt_annotations(data));
