//! See `pintail::fuzzing::clean`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pintail::fuzzing::clean(data));
