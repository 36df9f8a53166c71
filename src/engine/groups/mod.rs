//! Consumer groups.
//!
//! What they commit goes into the open group of the sequencer, beside the records, and so into the same journal frame, the one
//! total order and the same checkpoint.

mod journal;

#[cfg(test)]
mod tests;

use super::Engine;
use crate::codec::GroupEntry;

impl Engine {
    /// Called with the entries of a group of the sequencer that is acknowledged: its records are visible, and no callback has
    /// run yet. The leader calls it, one group after the other, and holds `writer`: this must not wait for a commit.
    pub(super) fn acknowledged(&self, _entries: &[GroupEntry]) {}
}
