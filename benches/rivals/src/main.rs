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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [part, name, rest @ ..] if part == PART => run(name, scale(rest)),
        _ => run_all(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The first argument of a process that runs one workload.
const PART: &str = "--part";

/// Runs each workload in a process of its own: what walrus-rust was told first holds for a whole process.
fn run_all(arguments: &[String]) -> Result {
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let flags = || arguments.iter().filter(|argument| argument.starts_with('-'));
    std::fs::create_dir_all(scratch()?)?;
    for (name, _) in workloads::ALL {
        if !names.is_empty() && !names.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        let walrus = tempfile::TempDir::new_in(scratch()?)?;
        let mut command = Command::new(std::env::current_exe()?);
        // Unless it is told to be quiet, walrus prints two lines for each record, and would be measured with them.
        command.args([PART, name]).args(flags()).env(WALRUS_DIRECTORY, walrus.path()).env("WALRUS_QUIET", "1");
        if !command.status()?.success() {
            return Err(format!("the workload {name} failed").into());
        }
    }
    Ok(())
}

fn run(name: &str, scale: Scale) -> Result {
    let (_, workload) = workloads::ALL.into_iter().find(|(known, _)| *known == name).ok_or("no such workload")?;
    let json = scratch()?.with_file_name("rivals").join(format!("{name}.jsonl"));
    let mut context = Context::new(scale, Report::begin(&json, scale)?, scratch()?);
    workload(&mut context)?;
    println!("JSON lines: {}\n", context.report.path().display());
    Ok(())
}

fn scale(arguments: &[String]) -> Scale {
    if arguments.iter().any(|argument| argument == "--quick") { Scale::Quick } else { Scale::Full }
}

/// Scratch files, on the disk that holds the target directory.
fn scratch() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().unwrap_or(Path::new(".")).join("rivals-tmp"))
}

/// The ends of a payload, so that a reader has touched it.
fn ends(payload: &[u8]) -> u64 {
    u64::from(payload.first().copied().unwrap_or(0)) + u64::from(payload.last().copied().unwrap_or(0))
}
