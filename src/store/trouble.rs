//! What went wrong below redb, beside it or inside it.
//!
//! redb answers most calls after a failure with "previous I/O error", and a damaged file can make it panic. So the
//! backend notes what really failed, panics are caught here, and whoever called redb asks this note first.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parking_lot::Mutex;

use crate::error::{Error, Result, is_storage_full};

/// An operation of the file under redb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Len,
    Read,
    Write,
    SetLen,
    Sync,
}

impl Operation {
    pub(super) fn words(self) -> &'static str {
        match self {
            Operation::Len => "find the length of",
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::SetLen => "set the length of",
            Operation::Sync => "sync",
        }
    }
}

/// What one redb handle has met, the graver after the lesser.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// No room to write: nothing is wrong with what was written before.
    Full,
    /// Bytes could not be read.
    Unreadable,
    /// Bytes could not be written, or redb panicked.
    Broken,
    /// A sync failed: what was written before it may be lost, whatever later syncs say.
    Unsynced,
}

/// The gravest thing that happened to one redb handle.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<(Severity, Error)>>);

impl Trouble {
    /// Notes a failed operation.
    pub(super) fn note(&self, operation: Operation, path: &Path, error: &io::Error) {
        let severity = match operation {
            Operation::Write | Operation::SetLen if is_storage_full(error) => Severity::Full,
            Operation::Len | Operation::Read => Severity::Unreadable,
            Operation::Write | Operation::SetLen => Severity::Broken,
            Operation::Sync => Severity::Unsynced,
        };
        if severity == Severity::Unreadable && error.kind() == io::ErrorKind::InvalidData {
            return self.raise(severity, Error::corrupt(path.display().to_string(), error.to_string()));
        }
        // A sync that finds no room has lost what it should have kept: that is not a full disk any more.
        let copy = match error.raw_os_error() {
            Some(code) if severity != Severity::Unsynced => io::Error::from_raw_os_error(code),
            _ if severity == Severity::Unsynced => io::Error::other(error.to_string()),
            _ => io::Error::new(error.kind(), error.to_string()),
        };
        self.raise(severity, Error::io(operation.words(), path, copy));
    }

    fn raise(&self, severity: Severity, error: Error) {
        let mut gravest = self.0.lock();
        if gravest.as_ref().is_none_or(|(known, _)| *known < severity) {
            *gravest = Some((severity, error));
        }
    }

    /// The gravest so far.
    pub(super) fn gravest(&self) -> Option<(Severity, Error)> {
        self.0.lock().clone()
    }

    /// Whether nothing may be written any more: a sync failed, perhaps one that redb knows nothing of.
    pub(super) fn refuse_unsynced(&self) -> io::Result<()> {
        match self.gravest() {
            Some((Severity::Unsynced, error)) => Err(io::Error::other(error)),
            _ => Ok(()),
        }
    }

    /// Forgets a full disk: redb got along, as after a failed write that it had only tried to do early.
    pub(super) fn forget_full(&self) {
        let mut gravest = self.0.lock();
        if gravest.as_ref().is_some_and(|(severity, _)| *severity == Severity::Full) {
            *gravest = None;
        }
    }

    /// Runs `work`, which calls redb. A panic becomes an error and is noted: the handle is dead then.
    pub(super) fn guard<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let error = Error::corrupt("the store", format!("redb panicked: {}", panic_words(&*panic)));
            self.raise(Severity::Broken, error.clone());
            Err(error)
        })
    }
}

fn panic_words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("for a reason it did not give")
}

/// What redb answered, as an error of ours. An I/O error is a stand-in: [`Trouble`] knows what failed.
pub(super) trait FromRedb<T> {
    fn redb(self) -> Result<T>;
}

impl<T, E: Into<redb::Error>> FromRedb<T> for Result<T, E> {
    fn redb(self) -> Result<T> {
        self.map_err(|error| Error::corrupt("the store", error.into().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> io::Error {
        io::ErrorKind::StorageFull.into()
    }

    #[test]
    fn the_gravest_trouble_is_the_one_that_counts() {
        let trouble = Trouble::default();
        let path = Path::new("x");
        trouble.note(Operation::Write, path, &full());
        assert_eq!(trouble.gravest().unwrap().0, Severity::Full);
        trouble.note(Operation::Sync, path, &full());
        let (severity, error) = trouble.gravest().unwrap();
        assert_eq!(severity, Severity::Unsynced);
        assert!(matches!(error, Error::Io { operation: "sync", .. }));
        trouble.note(Operation::Read, path, &full());
        trouble.forget_full();
        assert_eq!(trouble.gravest().unwrap().0, Severity::Unsynced);
    }

    #[test]
    fn a_panic_is_an_error_and_is_noted() {
        let trouble = Trouble::default();
        let result: Result<()> = trouble.guard(|| std::panic::resume_unwind(Box::new("boom")));
        assert!(result.unwrap_err().to_string().contains("boom"));
        assert_eq!(trouble.gravest().unwrap().0, Severity::Broken);
    }
}
