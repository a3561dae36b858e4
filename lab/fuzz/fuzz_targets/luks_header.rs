//! The target `luks_header` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coffer_lab_fuzz_targets::luks_header(data));
