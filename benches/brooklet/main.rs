//! brooklet's own benches: `cargo bench`, or `cargo bench -- --quick` in about a minute.
//!
//! ```text
//! cargo bench [-- [--quick | --large] [NAME...]]     all benches, or those whose names contain one of these
//! cargo bench -- plot                                draws the last scaling figures into benches/plots/
//! ```
//!
//! How to read what they print is in `src/docs/performance.md`.

mod buffered;
mod bulk;
mod child;
mod compaction;
mod compression;
mod durable;
mod groups;
mod harness;
mod open;
mod plot;
mod retention;
mod scaling;
mod store;
mod tail;

use std::path::PathBuf;
use std::process::ExitCode;

use harness::report::Report;
use harness::{Context, Result, Scale, timed};

type Bench = fn(&mut Context) -> Result;

const BENCHES: [(&str, Bench); 13] = [
    ("durable", durable::run),
    ("buffered", buffered::run),
    ("bulk", bulk::run),
    ("tail", tail::run),
    ("groups", groups::run),
    ("open", open::run),
    ("memory", child::memory),
    ("retention", retention::run),
    ("compaction", compaction::run),
    ("compression", compression::run),
    ("scaling-partitions", scaling::partitions),
    ("scaling-threads", scaling::threads),
    ("scaling-sizes", scaling::sizes),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((first, rest)) if first == child::ARGUMENT => child::run(rest),
        _ => run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let names: Vec<&str> = arguments.iter().map(String::as_str).filter(|name| !name.starts_with('-')).collect();
    // `cargo bench` says `--bench`. `cargo test --all-targets` does not, and wants to know only whether it runs.
    let scale = match () {
        () if has("--large") => Scale::Large,
        () if has("--quick") || !has("--bench") => Scale::Quick,
        () => Scale::Full,
    };
    if names == ["plot"] {
        return plot::draw(&output().join("scaling.jsonl"));
    }
    let is_wanted = |bench: &str| names.is_empty() || names.iter().any(|name| bench.contains(name));
    // Scaling figures go into a file of their own, so that a run of the rest does not take the plots away.
    for (file, scaling) in [("brooklet.jsonl", false), ("scaling.jsonl", true)] {
        let wanted: Vec<_> = BENCHES
            .into_iter()
            .filter(|(bench, _)| is_wanted(bench) && bench.starts_with("scaling") == scaling)
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let mut context = Context::new(scale, Report::begin(&output().join(file), scale)?, scratch());
        for (bench, run) in wanted {
            let ((), time) = timed(|| run(&mut context))?;
            println!("{:->78} {bench}: {:.0} s\n", "", time.as_secs_f64());
        }
        println!("JSON lines: {}\n", context.report.path().display());
    }
    Ok(())
}

/// `target/tmp`: on the disk that holds the target directory.
fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// `target/bench`.
fn output() -> PathBuf {
    scratch().with_file_name("bench")
}
