#![no_main]

libfuzzer_sys::fuzz_target!(init: brooklet_fuzz::open_store::let_redb_panic(), |input: &[u8]| {
    brooklet_fuzz::open_store::run(input);
});
