//! `brooklet demo`: writes events, kills the writer, and proves that nothing is missing.
//!
//! | file | what it is about |
//! |---|---|
//! | `story` | what happens, in order, told to the person who watches |
//! | `child` | the process that is killed: it writes, reads along, and reports what was acknowledged |
//! | `report` | the lines it says that with |
//! | `ledger` | what was read, held against the promises |
//! | `event` | the events: each can be made again from its number |

mod child;
mod event;
mod ledger;
mod report;
mod story;

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  brooklet demo
  brooklet demo --events 100000 --keep        leaves the file for a look";

/// Write a million events, kill the writer, reopen, and prove that nothing is missing
///
/// Everything happens in a directory of its own below the system's directory for temporary files, which is removed at the
/// end. It takes some seconds and, for a million events, about 200 MB.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DemoArgs {
    /// How many events
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    events: u64,
    /// Leave the files there
    #[arg(long)]
    keep: bool,
}

/// What `demo` tells the processes that it starts.
#[derive(Debug, Args)]
pub(super) struct ChildArgs {
    #[arg(long)]
    store: PathBuf,
    /// How many events there shall be in all
    #[arg(long)]
    events: u64,
    /// The first event of each thread
    #[arg(long, value_delimiter = ',')]
    from: Vec<u64>,
    /// Instead of closing at the end, wait to be killed
    #[arg(long)]
    to_be_killed: bool,
}

pub(super) fn run(args: &DemoArgs) -> Result<(), Failure> {
    story::tell(args.events, args.keep)
}

pub(super) fn run_child(args: &ChildArgs) -> Result<(), Failure> {
    child::run(args)
}
