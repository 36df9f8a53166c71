//! Which process this is: a fork shares the files of its parent, and must leave them alone.

use forkguard::Guard;

/// The process that opened something.
///
/// Asking the operating system for its number would take an eighth of a `Buffered` send. So libc counts the forks, in the
/// children; one made past libc, by the bare system call, is not seen.
#[derive(Debug)]
pub(crate) struct Process(Option<Guard>);

impl Process {
    /// This one.
    pub(crate) fn current() -> Self {
        Self(Some(Guard::default()))
    }

    /// One that forked this one.
    #[cfg(test)]
    pub(crate) fn parent() -> Self {
        Self(None)
    }

    /// Whether the caller runs in a process that was forked from it since.
    pub(crate) fn is_forked(&self) -> bool {
        self.0.as_ref().is_none_or(|guard| guard.clone().detected_fork())
    }
}
