//! What the fuzz targets do with their input, one module each, with its strategy at its head.
//!
//! The tests of brooklet include the same modules and run them over the seeds in `corpus/`, so that a stable toolchain
//! notices when one does not pass any more.

// Shared with the tests, which use more of it.
#[allow(dead_code)]
#[path = "../../tests/it/model.rs"]
mod model;
#[allow(dead_code)]
#[path = "../../tests/it/sim_disk.rs"]
mod sim_disk;

// The command line's own parsers, which need nothing of it.
#[allow(dead_code)]
#[path = "../../src/cli/escape.rs"]
mod escape;
#[allow(dead_code)]
#[path = "../../src/cli/time.rs"]
mod time;

mod bytes;

pub mod cli_input;
#[cfg(fuzzing)]
pub mod frame;
pub mod open_store;
pub mod operations;
#[cfg(fuzzing)]
pub mod record_batch;
