//! The seeds of the fuzz targets, run by the code of the targets. Goal: a stable toolchain, and whoever never fuzzes, notices
//! when a seed does not pass any more. Those of the decoders, which are private, are run by `src/fuzzing.rs`.

#[path = "../../fuzz/src/bytes.rs"]
mod bytes;
#[expect(unreachable_pub, reason = "the fuzz targets are another crate")]
#[path = "../../fuzz/src/cli_input.rs"]
mod cli_input;
#[path = "../../src/cli/escape.rs"]
mod escape;
#[expect(unreachable_pub, reason = "the fuzz targets are another crate")]
#[path = "../../fuzz/src/open_store.rs"]
mod open_store;
#[expect(unreachable_pub, reason = "the fuzz targets are another crate")]
#[path = "../../fuzz/src/operations.rs"]
mod operations;
#[path = "../../src/cli/time.rs"]
mod time;

use std::path::Path;

use crate::{model, sim_disk};

/// Runs a target over its seeds, and says which one fails. What a fuzzer left beside them is not looked at.
fn replay(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut seeds = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("seed-") {
            eprintln!("{}", path.display());
            run(&std::fs::read(&path).unwrap());
            seeds += 1;
        }
    }
    assert!(seeds > 0, "{} has no seeds", directory.display());
}

#[test]
fn what_users_type_gives_a_value_or_an_error() {
    replay("cli_input", cli_input::run);
}

#[test]
fn changed_files_give_the_right_records_or_an_error() {
    replay("open_store", open_store::run);
}

#[test]
fn operations_do_what_the_twin_says() {
    replay("operations", operations::run);
}
