//! See `pintail::fuzzing::aggregated`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pintail::fuzzing::aggregated(data));
