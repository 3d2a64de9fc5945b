//! See `pintail::fuzzing::get_records`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pintail::fuzzing::get_records(data));
