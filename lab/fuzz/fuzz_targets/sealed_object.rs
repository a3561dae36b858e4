//! The target `sealed_object` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coffer_lab_fuzz_targets::sealed_object(data));
