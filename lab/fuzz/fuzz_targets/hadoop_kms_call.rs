//! The target `hadoop_kms_call` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coffer_lab_fuzz_targets::hadoop_kms_call(data));
