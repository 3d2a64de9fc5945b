//! See `pintail::fuzzing::log_entry`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pintail::fuzzing::log_entry(data));
