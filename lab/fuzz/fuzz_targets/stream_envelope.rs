//! The target `stream_envelope` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coffer_lab_fuzz_targets::stream_envelope(data));
