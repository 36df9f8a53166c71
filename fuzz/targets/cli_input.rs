#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| brooklet_fuzz::cli_input::run(input));
