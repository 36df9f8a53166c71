//! Why a command did not succeed, and how the process says so.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use brooklet::Error;

use super::escape::{Escaping, escaped};

/// Why a command ended early.
#[derive(Debug)]
pub(super) enum Failure {
    /// The operation failed: what, and what to do. Exit code 1.
    Failed(String),
    /// The command makes no sense as given. Exit code 2.
    Usage(String),
    /// Nobody reads the standard output any more, as in `brooklet consume orders | head`: a quiet success.
    OutputClosed,
    /// A signal ended it, and the broker was closed cleanly.
    Stopped {
        /// The exit code.
        code: u8,
    },
}

impl Failure {
    pub(super) fn failed(message: impl Display) -> Self {
        Failure::Failed(message.to_string())
    }

    pub(super) fn usage(message: impl Display) -> Self {
        Failure::Usage(message.to_string())
    }

    /// The standard output could not be written.
    pub(super) fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Failed(format!("can't write the output: {error}")),
        }
    }

    /// The standard input could not be read.
    pub(super) fn input(error: io::Error) -> Self {
        Failure::Failed(format!("can't read the input: {error}"))
    }

    /// Says on the standard error what there is to say, in one line, and gives the exit code.
    pub(super) fn report(self) -> ExitCode {
        match self {
            Failure::Failed(message) => {
                complain(&message);
                ExitCode::from(1)
            }
            Failure::Usage(message) => {
                complain(&message);
                ExitCode::from(2)
            }
            Failure::OutputClosed => ExitCode::SUCCESS,
            Failure::Stopped { code } => ExitCode::from(code),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound { path } => Failure::Failed(format!(
                "{} does not exist: check --file, or create it with `brooklet topics create`",
                path.display()
            )),
            error => Failure::Failed(error.to_string()),
        }
    }
}

/// One line on the standard error, whatever the message has in it. A closed standard error is nobody to tell.
pub(super) fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "brooklet: {}", escaped(message.as_bytes(), Escaping::Controls));
}

/// One line on the standard error that is no complaint.
pub(super) fn remark(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}
