//! The command-line tool `brooklet`: a guest of the library, using its public API only.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
