//! The command-line tool: one file per command, and what they share.
//!
//! | file | what it is about |
//! |---|---|
//! | `topics`, `groups`, `produce`, `consume`, `check`, `demo` | a command each: its arguments and what it does |
//! | `session` | opening the file, closing it at the end and at signals |
//! | `failure` | exit codes, and errors in one line |
//! | `layout`, `json`, `table` | a record as text and as JSON; lists as aligned tables |
//! | `escape`, `time`, `progress` | bytes fit for a terminal; moments as people write them; the line that shows progress |
//!
//! It uses the library as any application does. What is in a record never goes into an error.

mod check;
mod consume;
mod demo;
mod escape;
mod failure;
mod groups;
mod json;
mod layout;
mod produce;
mod progress;
mod session;
mod table;
mod time;
mod topics;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use failure::Failure;
use session::FileArgs;

const EXAMPLES: &str = "\
Examples:
  brooklet demo             see it work: a million events, a kill, a recovery
  brooklet -f app.brooklet topics create orders -p 3
  echo 'c-42:3 apples' | brooklet -f app.brooklet produce orders --key-separator :
  brooklet -f app.brooklet consume orders --json

One process at a time may open a file. Exit codes: 0 done, 1 failed, 2 wrong usage; 130 and 143
after SIGINT and SIGTERM, which close the file cleanly.";

/// Topics and partitions in one file: Apache Kafka's semantics without a server
#[derive(Debug, Parser)]
#[command(name = "brooklet", version, after_help = EXAMPLES, max_term_width = 120, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    file: FileArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(subcommand)]
    Topics(topics::TopicsCommand),
    #[command(subcommand)]
    Groups(groups::GroupsCommand),
    Produce(produce::ProduceArgs),
    Consume(consume::ConsumeArgs),
    Check(check::CheckArgs),
    Demo(demo::DemoArgs),
    #[command(hide = true)]
    DemoChild(demo::ChildArgs),
}

/// Runs the command that the arguments say.
pub(super) fn run() -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(error) => show_help_or_usage(&error),
    };
    done.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}

impl Cli {
    fn run(&self) -> Result<(), Failure> {
        match &self.command {
            Command::Topics(command) => topics::run(&self.file, command),
            Command::Groups(command) => groups::run(&self.file, command),
            Command::Produce(args) => produce::run(&self.file, args),
            Command::Consume(args) => consume::run(&self.file, args),
            Command::Check(args) => check::run(&self.file, args),
            Command::Demo(args) => demo::run(args),
            Command::DemoChild(args) => demo::run_child(args),
        }
    }
}

/// Help is printed as it is; what is wrong with the arguments is said in one line.
fn show_help_or_usage(error: &clap::Error) -> Result<(), Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.print().map_err(Failure::output),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Err(Failure::usage("no command was given: choose one of those above"))
        }
        _ => Err(Failure::usage(one_line(&error.to_string()))),
    }
}

/// The error and its tips without the usage text behind them.
fn one_line(message: &str) -> String {
    let is_usage = |line: &&str| line.starts_with("Usage:") || line.starts_with("For more");
    let mut said = String::new();
    for line in message.lines().map(str::trim).take_while(|line| !is_usage(line)).filter(|line| !line.is_empty()) {
        said.push_str(match (said.is_empty(), line.starts_with("tip:")) {
            (true, _) => "",
            (false, true) => "; ",
            (false, false) => " ",
        });
        said.push_str(line);
    }
    format!("{}: see --help", said.strip_prefix("error: ").unwrap_or(&said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
