//! brooklet and what a user would take instead, at the same work and the same guarantee.
//!
//! ```text
//! cargo run --release --manifest-path benches/rivals/Cargo.toml -- [--quick] [WORKLOAD...]
//! ```
//!
//! Two classes are compared, each within itself: **sync** survives power loss when the call returns, **process** survives the
//! kill of the process. A contender without a class is left out of its tables: redb and okaywal have nothing between memory
//! and disk, kafko and SQLite reach each class by a setting. Every contender runs in a fresh directory, and in turn with a raw
//! file, operation by operation or slice by slice; the tables are ordered by the ratio to that file.
//!
//! # What is left out, and why
//!
//! - Scans of kafko: to read one record it reads the rest of its segment, so reading a long log takes its square.
//! - Random reads of okaywal, walrus and kafko: by position only, not at all, and for the reason above.
//! - All those that `rivals.md` of the project measured and nobody would take for a log of topics: LMDB, RocksDB, sled,
//!   raft-engine, commitlog, yaque, nano-wal.

#[allow(dead_code, reason = "shared with brooklet's own benches, which use all of it")]
#[path = "../../brooklet/harness/mod.rs"]
mod harness;
mod rivals;
mod table;
mod workloads;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use harness::report::Report;
use harness::{Context, Result, Scale};

/// walrus-rust takes its directory from here, and from nowhere else.
const WALRUS_DIRECTORY: &str = "WALRUS_DATA_DIR";

fn main() -> ExitCode {
    let result = if std::env::var_os(WALRUS_DIRECTORY).is_none() { run_with_walrus_directory() } else { run() };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Scratch files, on the disk that holds the target directory.
fn scratch() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().unwrap_or(Path::new(".")).join("rivals-tmp"))
}

/// Starts this program again with walrus' directory in its environment, and removes that in the end.
fn run_with_walrus_directory() -> Result {
    let scratch = scratch()?;
    std::fs::create_dir_all(&scratch)?;
    let directory = tempfile::TempDir::new_in(&scratch)?;
    let mut command = Command::new(std::env::current_exe()?);
    let command = command.args(std::env::args_os().skip(1));
    // Otherwise walrus prints two lines for each record, and would be measured with them.
    let status = command.env(WALRUS_DIRECTORY, directory.path()).env("WALRUS_QUIET", "1").status()?;
    if status.success() { Ok(()) } else { Err("some contender failed".into()) }
}

fn run() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scale = if arguments.iter().any(|argument| argument == "--quick") { Scale::Quick } else { Scale::Full };
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let report = Report::begin(&scratch()?.with_file_name("rivals.jsonl"), scale)?;
    let mut context = Context::new(scale, report, scratch()?);
    for (name, workload) in workloads::ALL {
        if names.is_empty() || names.iter().any(|wanted| name.contains(wanted.as_str())) {
            workload(&mut context)?;
        }
    }
    println!("JSON lines: {}", context.report.path().display());
    Ok(())
}

/// The ends of a payload, so that a reader has touched it.
fn ends(payload: &[u8]) -> u64 {
    u64::from(payload.first().copied().unwrap_or(0)) + u64::from(payload.last().copied().unwrap_or(0))
}
