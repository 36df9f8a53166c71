//! `brooklet check`: reads everything in a file and says whether it is what was written.

use std::io::Write;

use brooklet::Broker;
use clap::Args;

use super::escape::{Escaping, escaped};
use super::failure::Failure;
use super::session::{FileArgs, Session, Stopping};

const EXAMPLES: &str = "\
Examples:
  brooklet -f app.brooklet check
  brooklet -f app.brooklet check && cp app.brooklet backup/";

/// Read everything in the file, compare every checksum, and report what is damaged
///
/// Prints one line of counts, and a line for each problem. Nothing is repaired or dropped. Exits with 1 when there is a
/// problem.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArgs {}

pub(super) fn run(file: &FileArgs, _: &CheckArgs) -> Result<(), Failure> {
    Session::start(file.open_existing()?, Stopping::AtOnce)?.run(check)
}

fn check(broker: &Broker) -> Result<(), Failure> {
    let report = broker.check()?;
    let mut out = std::io::stdout().lock();
    for line in report.to_string().lines() {
        writeln!(out, "{}", escaped(line.as_bytes(), Escaping::Controls)).map_err(Failure::output)?;
    }
    match report.problems().len() {
        0 => Ok(()),
        1 => Err(Failure::failed(
            "1 problem: restore the file from a copy, or save what can still be read with `consume --skip-damaged`",
        )),
        n => Err(Failure::failed(format!(
            "{n} problems: restore the file from a copy, or save what can still be read with `consume --skip-damaged`"
        ))),
    }
}
