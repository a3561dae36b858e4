//! The target `object_chunks` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coffer_lab_fuzz_targets::object_chunks(data));
