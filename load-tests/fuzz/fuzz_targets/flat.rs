//! See `pintail::fuzzing::flat`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pintail::fuzzing::flat(data));
