//! The target `sealed_stream` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coffer_lab_fuzz_targets::sealed_stream(data));
