//! See `pintail::fuzzing::contract`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pintail::fuzzing::contract(data));
