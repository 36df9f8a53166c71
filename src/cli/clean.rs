//! `brooklet clean` and `brooklet vacuum`: let go of old records, and of the room they took.

use std::io::{self, Write};
use std::time::Duration;

use brooklet::Broker;
use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use serde_json::json;

use super::failure::Failure;
use super::progress::Busy;
use super::session::{FileArgs, Session, Stopping};

const CLEAN_EXAMPLES: &str = "\
Limits are those of each topic: retention.ms, retention.bytes and cleanup.policy, which may be
`compact` to keep the last record of each key. An application that has the file open does this by itself now and then. The file does not shrink: see `vacuum`.

Examples:
  brooklet -f app.brooklet topics alter orders --config retention.ms=604800000
  brooklet -f app.brooklet clean
  brooklet -f app.brooklet clean --json";

const VACUUM_EXAMPLES: &str = "\
Takes seconds for each GB that stays in the file. It may be interrupted: the file is whole at any
moment, and the next command on it reads all of it once.

Examples:
  brooklet -f app.brooklet clean && brooklet -f app.brooklet vacuum";

/// How long the command cleans before it shows how far it is.
const SLICE: Duration = Duration::from_millis(100);

/// Delete what is beyond the limits of its topic, compact what is to be compacted, and free the space
#[derive(Debug, Args)]
#[command(after_help = CLEAN_EXAMPLES)]
pub(super) struct CleanArgs {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Give the file's free space back to the disk
#[derive(Debug, Args)]
#[command(after_help = VACUUM_EXAMPLES)]
pub(super) struct VacuumArgs {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run_clean(file: &FileArgs, args: &CleanArgs) -> Result<(), Failure> {
    Session::start(file.open_existing()?, Stopping::AtOnce)?.run(|broker| clean(broker, args))
}

pub(super) fn run_vacuum(file: &FileArgs, args: &VacuumArgs) -> Result<(), Failure> {
    Session::start(file.open_existing()?, Stopping::AtOnce)?.run(|broker| vacuum(broker, args))
}

fn clean(broker: &Broker, args: &CleanArgs) -> Result<(), Failure> {
    let busy = Busy::on_terminal("cleaning");
    let (mut segments, mut compacted, mut records, mut bytes, mut elapsed) = (0, 0, 0, 0, Duration::ZERO);
    loop {
        let report = broker.clean(SLICE)?;
        segments += report.segments;
        compacted += report.compacted;
        records += report.records;
        bytes += report.bytes;
        elapsed += report.elapsed;
        busy.say(format!("{} records, {} freed", HumanCount(records), HumanBytes(bytes)));
        if report.is_complete {
            break;
        }
    }
    busy.clear();
    if args.json {
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let object = json!({
            "segments": segments,
            "compacted": compacted,
            "records": records,
            "bytes": bytes,
            "elapsed_ms": millis,
        });
        return say(&object.to_string());
    }
    let (segments, compacted) = (HumanCount(segments), HumanCount(compacted));
    let (records, bytes, seconds) = (HumanCount(records), HumanBytes(bytes), elapsed.as_secs_f64());
    say(&format!(
        "Deleted {segments} segments, compacted {compacted} partitions; freed {bytes} of {records} records in {seconds:.1} s."
    ))
}

fn vacuum(broker: &Broker, args: &VacuumArgs) -> Result<(), Failure> {
    let busy = Busy::on_terminal(format!("vacuuming {}", HumanBytes(broker.stats()?.store_file_bytes)));
    let report = broker.vacuum()?;
    busy.clear();
    let (before, after) = (report.bytes_before, report.bytes_after);
    if args.json {
        let millis = u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX);
        let object = json!({ "bytes_before": before, "bytes_after": after, "elapsed_ms": millis });
        return say(&object.to_string());
    }
    let (before, after) = (HumanBytes(before), HumanBytes(after));
    say(&format!("The file has {after}, before it had {before}; {:.1} s.", report.elapsed.as_secs_f64()))
}

fn say(line: &str) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{line}").map_err(Failure::output)
}
