//! Entries of consumer groups on their way into the journal.

use std::sync::atomic::Ordering;

use crate::codec::GroupEntry;
use crate::engine::Engine;
use crate::engine::sequencer::{GroupNumber, OutcomeCallback, Sequencer, cost_of_group_entries};
use crate::error::{Error, Result};

impl Engine {
    /// Puts entries, at least one, into the open group, all into the same. Takes no lock that is held across I/O. `None` when there
    /// is no room now, or the disk is full; the callback is taken only when the entries are.
    pub(crate) fn try_push_group_entries(
        &self,
        entries: &[GroupEntry],
        callback: &mut Option<OutcomeCallback>,
    ) -> Result<Option<GroupNumber>> {
        self.try_push_checked(entries, callback, |_| Ok(()))
    }

    /// [`try_push_group_entries`](Engine::try_push_group_entries) after a check, under the same lock, of the topics as they are
    /// then.
    pub(super) fn try_push_checked(
        &self,
        entries: &[GroupEntry],
        callback: &mut Option<OutcomeCallback>,
        check: impl FnOnce(&Sequencer) -> Result<()>,
    ) -> Result<Option<GroupNumber>> {
        check_not_empty(entries)?;
        let sequencer = self.sequencer.lock();
        self.check_may_send(&sequencer)?;
        check(&sequencer)?;
        if self.storage_full.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let bytes = cost_of_group_entries(entries);
        self.push_if_room(sequencer, bytes, |sequencer| Ok(sequencer.push_group_entries(entries, callback.take())))
    }

    /// Calls a callback that has nothing to wait for, after those that came with the group `pending`.
    pub(crate) fn call_after(&self, pending: Option<GroupNumber>, callback: OutcomeCallback) {
        if let Some(number) = pending.filter(|number| !self.is_done(*number)) {
            let mut sequencer = self.sequencer.lock();
            if sequencer.group().number == number {
                sequencer.push_callback(callback);
                return;
            }
            drop(sequencer);
            // Its frame is being written. What became of it concerns those callbacks only.
            let _ = self.wait_for(number, None);
        }
        callback(Ok(()));
    }
}

/// A group without anything in it is never committed: nobody may wait for it.
fn check_not_empty(entries: &[GroupEntry]) -> Result<()> {
    if entries.is_empty() {
        return Err(Error::illegal_argument("there is nothing to commit"));
    }
    Ok(())
}
