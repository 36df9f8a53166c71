//! The checkpoint: what only the journal has moves into the store, in one store update that also stores how far it came.
//!
//! 1. Take what is unapplied, batches and changes of consumer groups, and the mark behind it: a whole number of frames.
//! 2. If the journal's file has grown since it was synced, sync it: the mark must lie within the file, also after a crash.
//! 3. Write the batches as chunks, the changes as rows, with the mark, in one store update. **Its commit is the commit point.**
//! 4. Only then: forget the tail's batches, and let the journal use the frames' space again.
//!
//! A crash before the commit point replays the frames; a crash after it finds the mark behind them.
//!
//! A large group takes the same way without a frame: a checkpoint takes it behind everything that was acknowledged before,
//! and the commit point is also that of its acknowledgement.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Engine;
use super::log::PartitionLog;
use super::sequencer::{FinishedBatch, Group, LoggedBatch};
use crate::codec::{GroupChanges, Mark, RecordBatch};
use crate::error::{Error, Result};
use crate::store::{Purpose, Session, Update};

/// What is acknowledged and the store does not have.
#[derive(Debug, Default)]
pub(crate) struct Unapplied {
    /// In the one total order.
    batches: Vec<LoggedBatch>,
    groups: GroupChanges,
    /// Behind the last of it; `None` in memory, or when nothing came since the broker was opened.
    end: Option<Mark>,
    /// What it takes of `buffer_memory`.
    pub(crate) bytes: usize,
    /// When the first of it came.
    pub(crate) since: Option<Instant>,
}

impl Unapplied {
    /// Makes the batches of an acknowledged group visible, and keeps all of it for the next checkpoint.
    pub(crate) fn publish(
        &mut self,
        batches: impl Iterator<Item = FinishedBatch>,
        group: &Group,
        end: Option<Mark>,
        at: Instant,
    ) {
        for (log, batch) in batches {
            let last = self.batches.pop_if(|(last, _)| Arc::ptr_eq(last, &log)).map(|(_, batch)| batch);
            let unapplied = log.publish(last, batch).into_iter().flatten();
            self.batches.extend(unapplied.map(|batch| (Arc::clone(&log), batch)));
        }
        group.entries.iter().for_each(|entry| self.groups.add(entry.clone()));
        self.end = end;
        self.bytes += group.bytes;
        self.since.get_or_insert(at);
    }

    fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.groups.is_empty()
    }

    fn batches(&self) -> impl Iterator<Item = BatchRef<'_>> {
        self.batches.iter().map(|(log, batch)| (log, &**batch))
    }

    fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Puts what was taken back in front.
    fn put_back(&mut self, mut taken: Self) {
        if taken.is_empty() {
            return;
        }
        taken.batches.append(&mut self.batches);
        taken.groups.append(std::mem::take(&mut self.groups));
        taken.end = self.end.or(taken.end);
        taken.bytes += self.bytes;
        *self = taken;
    }
}

impl Engine {
    /// Runs a checkpoint, unless there is nothing to do.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        let _turn = self.changing_store.lock();
        self.checkpoint_locked()
    }

    /// Like [`checkpoint`](Engine::checkpoint), unless somebody else keeps the store busy past the deadline.
    pub(crate) fn checkpoint_until(&self, deadline: Instant) -> Result<()> {
        match self.changing_store.try_lock_until(deadline) {
            Some(_turn) => self.checkpoint_locked(),
            None => Ok(()),
        }
    }

    /// The checkpoint itself; `changing_store` is held.
    fn checkpoint_locked(&self) -> Result<()> {
        self.health.check()?;
        let taken = self.unapplied.lock().take();
        if taken.is_empty() {
            return Ok(());
        }
        let _guard = self.health.guard("a checkpoint");
        let by_partition = sorted_by_partition(taken.batches());
        let session = taken.end.map(Session::Open);
        let applied = self.sync_journal_length().and_then(|()| {
            self.update_store(Purpose::Grow, |update| {
                apply(update, &by_partition)?;
                update.apply_group_changes(&taken.groups)?;
                set_session(update, session)
            })
        });
        drop(by_partition);
        match applied {
            Ok(()) => {
                self.forget(&taken);
                self.reuse_buffers(taken);
            }
            Err(_) => self.unapplied.lock().put_back(taken),
        }
        let is_full = matches!(applied, Err(Error::StorageFull { .. }));
        let was_full = self.storage_full.swap(is_full, Ordering::SeqCst);
        if is_full && !was_full {
            self.clean_soon();
        }
        applied
    }

    /// Commits a group of the leader's by a checkpoint that takes it too, and makes it visible. Everything acknowledged before
    /// goes into the store in the same update, and `end` is the journal's end, so the one order is kept. `false`: nothing
    /// was done and `batches` is as it was, as somebody else is changing the store, or the disk is full.
    ///
    /// The leader must not wait for `changing_store`: who holds it may be waiting for the lead.
    pub(crate) fn checkpoint_with(
        &self,
        batches: &mut Vec<FinishedBatch>,
        group: &Group,
        end: Option<Mark>,
    ) -> Result<bool> {
        let Some(_turn) = self.changing_store.try_lock() else { return Ok(false) };
        self.health.check()?;
        let mut taken = self.unapplied.lock().take();
        let changes: GroupChanges = group.entries.iter().cloned().collect();
        let by_partition = sorted_by_partition(taken.batches().chain(batches.iter().map(|(log, batch)| (log, batch))));
        let session = end.map(Session::Open);
        let applied = self.sync_journal_length().and_then(|()| {
            self.update_store(Purpose::Grow, |update| {
                apply(update, &by_partition)?;
                update.apply_group_changes(&taken.groups)?;
                update.apply_group_changes(&changes)?;
                set_session(update, session)
            })
        });
        drop(by_partition);
        if let Err(error) = applied {
            self.unapplied.lock().put_back(taken);
            return if matches!(error, Error::StorageFull { .. }) { Ok(false) } else { Err(error) };
        }
        taken.end = end;
        taken.bytes += group.bytes;
        // The tail is emptied before the end moves on: else a reader at its end would look for the group's records in it.
        self.forget(&taken);
        batches.iter().for_each(|(log, batch)| log.publish_stored(batch));
        self.reuse_buffers(taken);
        self.sequencer.lock().reuse(batches.drain(..).map(|(_, batch)| batch));
        Ok(true)
    }

    /// Changes the store; `changing_store` is held. A full disk leaves everything as it was; any other failure stops the
    /// broker, as nobody knows what the store holds.
    pub(crate) fn update_store<T>(&self, purpose: Purpose, work: impl Fn(&mut Update<'_>) -> Result<T>) -> Result<T> {
        if self.is_forked() {
            return Err(Error::Forked);
        }
        self.stop_on_failure(self.store.update(purpose, work))
    }

    /// Stops the broker when the store did.
    pub(super) fn stop_on_failure<T>(&self, changed: Result<T>) -> Result<T> {
        match changed {
            Err(error) if !matches!(error, Error::StorageFull { .. } | Error::UnsupportedCompressionType { .. }) => {
                Err(Error::ReopenRequired { source: self.health.stop(error) })
            }
            result => result,
        }
    }

    /// The store has this: the tail and the journal need not keep them.
    fn forget(&self, applied: &Unapplied) {
        for (log, batch) in &applied.batches {
            log.drop_tail_below(batch.header.last_offset.next());
        }
        if let Some(end) = applied.end {
            self.durable.raise(end.sequence);
            *self.recycled.lock() = Some(end);
        }
        self.buffered.fetch_sub(applied.bytes, Ordering::SeqCst);
        self.note_stored(applied.bytes);
    }

    /// Batches that no reader has any more leave their buffers to later ones.
    fn reuse_buffers(&self, forgotten: Unapplied) {
        let batches = forgotten.batches.into_iter();
        self.sequencer.lock().reuse(batches.filter_map(|(_, batch)| Arc::into_inner(batch)));
    }

    /// The last checkpoint: behind it the store needs no journal. Nothing is sent any more.
    pub(crate) fn checkpoint_and_close_session(&self) -> Result<()> {
        let _turn = self.changing_store.lock();
        self.checkpoint_locked()?;
        let Some(sequence) = self.writer.lock().journal.as_ref().map(|journal| journal.end().sequence) else {
            return Ok(());
        };
        self.update_store(Purpose::Free, |update| update.set_session(Session::Closed { sequence }))
    }
}

/// A batch, and the partition that it belongs to.
type BatchRef<'b> = (&'b Arc<PartitionLog>, &'b RecordBatch);

/// A stable sort keeps the order within each partition.
fn sorted_by_partition<'b>(batches: impl Iterator<Item = BatchRef<'b>>) -> Vec<BatchRef<'b>> {
    let mut sorted: Vec<_> = batches.collect();
    sorted.sort_by_key(|(log, _)| log.id);
    sorted
}

fn apply(update: &mut Update<'_>, batches: &[BatchRef<'_>]) -> Result<()> {
    for run in batches.chunk_by(|(a, _), (b, _)| a.id == b.id) {
        let Some((log, _)) = run.first() else { continue };
        // Its topic may have been deleted since.
        if !log.is_deleted() {
            update.append(log.id, log.topic_id, log.layout(), run.iter().map(|(_, batch)| *batch))?;
        }
    }
    Ok(())
}

/// `None` in memory, where nothing is left to recover.
fn set_session(update: &mut Update<'_>, session: Option<Session>) -> Result<()> {
    session.map_or(Ok(()), |session| update.set_session(session))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{GroupChange, GroupEntry};
    use crate::group::{GroupName, KeptState};

    #[test]
    fn what_is_put_back_lies_before_what_came_meanwhile() {
        let entry = |group, change| GroupEntry { group: GroupName::new(group).unwrap(), change };
        let epoch = |epoch| GroupChange::State(KeptState { epoch, ..KeptState::default() });
        let unapplied = |entries: &[GroupEntry], bytes| {
            let groups = entries.iter().cloned().collect();
            Unapplied { groups, bytes, since: Some(Instant::now()), ..Unapplied::default() }
        };
        let first = [entry("a", epoch(1)), entry("b", epoch(1))];
        let later = [entry("a", epoch(2)), entry("b", GroupChange::Delete)];
        let mut later_only = unapplied(&later, 20);
        let taken = unapplied(&first, 10);
        let since = taken.since;
        later_only.put_back(taken);
        assert_eq!(later_only.groups, first.into_iter().chain(later).collect());
        assert_eq!((later_only.bytes, later_only.since), (30, since));
    }
}
