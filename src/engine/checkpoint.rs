//! The checkpoint: what only the journal has moves into the store, in one store update that also stores how far it came.
//!
//! 1. Take the oldest portion of what is unapplied, batches and changes of consumer groups, and the mark behind it: a whole
//!    number of frames.
//! 2. If the journal's file has grown since it was synced, sync it: the mark must lie within the file, also after a crash.
//! 3. Write the batches as chunks, the changes as rows, with the mark, in one store update. **Its commit is the commit point.**
//! 4. Only then: forget the tail's batches, and let the journal use the frames' space again.
//!
//! A crash before the commit point replays the frames; a crash after it finds the mark behind them.
//!
//! A large group takes the same way without a frame: a checkpoint takes it behind everything that was acknowledged before,
//! and the commit point is also that of its acknowledgement.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Engine;
use super::log::{Last, PartitionLog, Published};
use super::sequencer::{FinishedBatch, Group, LoggedBatch};
use crate::codec::{GroupChanges, GroupEntry, Mark, RecordBatch};
use crate::error::{Error, Result};
use crate::store::{Purpose, Session, Update};

/// What is acknowledged and the store does not have: portions that a checkpoint takes one at a time, oldest first, so that a
/// sender who waits for room waits for one of them.
#[derive(Debug)]
pub(crate) struct Unapplied {
    closed: VecDeque<Portion>,
    /// Takes what comes.
    open: Portion,
    /// A portion of so many bytes is closed.
    portion_bytes: usize,
}

/// A whole number of frames.
#[derive(Debug, Default)]
struct Portion {
    /// In the one total order.
    batches: Vec<LoggedBatch>,
    /// The partition of the batch behind these, which only its tail holds, as it may grow.
    growing: Option<Arc<PartitionLog>>,
    groups: GroupChanges,
    /// Behind the last of it; `None` in memory.
    end: Option<Mark>,
    /// What it takes of `buffer_memory`.
    bytes: usize,
    /// When the first of it came; `None` while it is empty.
    since: Option<Instant>,
}

impl Unapplied {
    pub(crate) fn new(portion_bytes: usize) -> Self {
        Self { closed: VecDeque::new(), open: Portion::default(), portion_bytes }
    }

    /// Makes the batches of an acknowledged group visible, and keeps all of it for a checkpoint. `true`: that gets due by it, or
    /// due sooner. `joined` gets one of the batches that others took in, if there is one.
    #[inline]
    pub(crate) fn publish(
        &mut self,
        batches: impl Iterator<Item = FinishedBatch>,
        joined: &mut Option<RecordBatch>,
        group: &Group,
        end: Option<Mark>,
        at: Instant,
    ) -> bool {
        let was_empty = self.since().is_none();
        let was_enough = self.is_enough();
        let open = &mut self.open;
        for (log, batch) in batches {
            if let Some(batch) = open.publish(log, batch) {
                *joined = Some(batch);
            }
        }
        group.entries.iter().for_each(|entry| open.groups.add(entry.clone()));
        open.end = end;
        open.bytes += group.bytes;
        open.since.get_or_insert(at);
        if open.bytes >= self.portion_bytes {
            self.closed.push_back(open.take());
        }
        was_empty || self.is_enough() != was_enough
    }

    /// When the oldest of it came; `None` while there is nothing.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.closed.front().unwrap_or(&self.open).since
    }

    /// Whether there is as much as a checkpoint takes.
    pub(crate) fn is_enough(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Takes the oldest portion, if there is one.
    fn take_oldest(&mut self) -> Vec<Portion> {
        let open = &mut self.open;
        Vec::from_iter(self.closed.pop_front().or_else(|| open.since.map(|_| open.take())))
    }

    /// Takes everything, oldest first.
    fn take_all(&mut self) -> Vec<Portion> {
        let mut all = Vec::from(std::mem::take(&mut self.closed));
        all.extend(self.open.since.map(|_| self.open.take()));
        all
    }

    /// Puts back what was taken, in the order in which it was.
    fn put_back(&mut self, taken: Vec<Portion>) {
        taken.into_iter().rev().for_each(|portion| self.closed.push_front(portion));
    }
}

impl Portion {
    /// Makes a batch visible that follows. Gives it back where the one before has taken it in.
    fn publish(&mut self, log: Arc<PartitionLog>, batch: RecordBatch) -> Option<RecordBatch> {
        let may_grow = self.growing.as_ref().is_some_and(|growing| Arc::ptr_eq(growing, &log));
        if !may_grow {
            self.settle();
        }
        match log.publish(batch, if may_grow { Last::MayGrow } else { Last::Stays }) {
            Published::Joined(batch) => return Some(batch),
            Published::Added(before) => {
                self.batches.extend(before.map(|before| (Arc::clone(&log), before)));
                self.growing = Some(log);
            }
            Published::Nowhere => {}
        }
        None
    }

    /// Takes hold of the batch that came last: it grows no more.
    fn settle(&mut self) {
        if let Some(log) = self.growing.take() {
            let last = log.last_in_tail();
            self.batches.extend(last.map(|last| (log, last)));
        }
    }

    /// Takes all of it out.
    fn take(&mut self) -> Portion {
        self.settle();
        std::mem::take(self)
    }

    fn batches(&self) -> impl Iterator<Item = BatchRef<'_>> {
        self.batches.iter().map(|(log, batch)| (log, &**batch))
    }
}

impl Engine {
    /// Moves everything that is acknowledged into the store.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        let _turn = self.changing_store.wait();
        self.checkpoint_locked(Unapplied::take_all, Purpose::Grow)
    }

    /// Moves the oldest portion into the store.
    pub(crate) fn checkpoint_oldest(&self) -> Result<()> {
        let _turn = self.changing_store.wait();
        self.checkpoint_locked(Unapplied::take_oldest, Purpose::Grow)
    }

    /// Makes room by a checkpoint, unless somebody else has made some, or keeps the store busy past the deadline.
    pub(crate) fn checkpoint_for_room(&self, bytes: usize, deadline: Instant) -> Result<()> {
        match self.changing_store.wait_until(deadline) {
            Some(_turn) if !self.room.has(bytes) => self.checkpoint_locked(Unapplied::take_oldest, Purpose::Grow),
            _ => Ok(()),
        }
    }

    /// The checkpoint itself; `changing_store` is held.
    fn checkpoint_locked(&self, take: impl FnOnce(&mut Unapplied) -> Vec<Portion>, purpose: Purpose) -> Result<()> {
        self.health.check()?;
        let taken = take(&mut self.unapplied.lock());
        let Some(end) = taken.last().map(|last| last.end) else { return Ok(()) };
        let _guard = self.health.guard("a checkpoint");
        let applied = self.apply(purpose, &taken, (&[], &[]), end);
        let is_full = matches!(applied, Err(Error::StorageFull { .. }));
        let was_full = self.storage_full.swap(is_full, Ordering::SeqCst);
        match applied {
            Ok(()) => self.forget(taken),
            Err(_) => self.put_back(taken),
        }
        match (was_full, is_full) {
            (false, true) => self.clean_soon(),
            (true, false) => self.bell.ring_unless_awake_by(Instant::now()),
            _ => {}
        }
        applied
    }

    /// What was taken waits again. The background thread may not have seen it meanwhile.
    fn put_back(&self, taken: Vec<Portion>) {
        let due = {
            let mut unapplied = self.unapplied.lock();
            unapplied.put_back(taken);
            self.checkpoint_due(&unapplied)
        };
        due.into_iter().for_each(|due| self.bell.ring_unless_awake_by(due));
    }

    /// There may be room on the disk again: what waited for it is due.
    pub(super) fn room_was_made(&self) {
        if self.storage_full.swap(false, Ordering::SeqCst) {
            self.bell.ring_unless_awake_by(Instant::now());
        }
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
        let Some(_turn) = self.changing_store.try_now() else { return Ok(false) };
        self.health.check()?;
        let mut taken = self.unapplied.lock().take_all();
        if let Err(error) = self.apply(Purpose::Grow, &taken, (batches, &group.entries), end) {
            self.put_back(taken);
            return if matches!(error, Error::StorageFull { .. }) { Ok(false) } else { Err(error) };
        }
        // The tail is emptied before the end moves on: else a reader at its end would look for the group's records in it.
        taken.push(Portion { end, bytes: group.bytes, ..Portion::default() });
        self.forget(taken);
        batches.iter().for_each(|(log, batch)| log.publish_stored(batch));
        self.sequencer.lock().reuse(batches.drain(..).map(|(_, batch)| batch));
        Ok(true)
    }

    /// Stores portions and, behind them, a group, in one update that also says how far the journal is applied.
    fn apply(
        &self,
        purpose: Purpose,
        portions: &[Portion],
        (batches, entries): (&[FinishedBatch], &[GroupEntry]),
        end: Option<Mark>,
    ) -> Result<()> {
        let in_group = batches.iter().map(|(log, batch)| (log, batch));
        let mut by_partition: Vec<_> = portions.iter().flat_map(Portion::batches).chain(in_group).collect();
        // A stable sort keeps the order within each partition.
        by_partition.sort_by_key(|(log, _)| log.id);
        let changes: GroupChanges = entries.iter().cloned().collect();
        self.sync_journal_length()?;
        self.update_store(purpose, |update| {
            for run in by_partition.chunk_by(|(a, _), (b, _)| a.id == b.id) {
                let Some((log, _)) = run.first() else { continue };
                // Its topic may have been deleted since.
                if !log.is_deleted() {
                    update.append(log.id, log.topic_id, log.layout(), run.iter().map(|(_, batch)| *batch))?;
                }
            }
            for changes in portions.iter().map(|portion| &portion.groups).chain([&changes]) {
                update.apply_group_changes(changes)?;
            }
            // `None` in memory, where nothing is left to recover.
            end.map_or(Ok(()), |end| update.set_session(Session::Open(end)))
        })
    }

    /// Changes the store; `changing_store` is held. A full disk leaves everything as it was; any other failure stops the
    /// broker: either nobody knows what the store holds, or it is damaged where it must be changed.
    pub(crate) fn update_store<T>(&self, purpose: Purpose, work: impl Fn(&mut Update<'_>) -> Result<T>) -> Result<T> {
        if self.is_forked() {
            return Err(Error::Forked);
        }
        self.stop_on_failure(self.store.update(purpose, work))
    }

    /// Tidies the store up; `changing_store` is held. Damage that is in the way leaves everything as it was, and the broker
    /// goes on: records can be taken and read without that.
    pub(super) fn tidy_store<T>(&self, work: impl Fn(&mut Update<'_>) -> Result<T>) -> Result<T> {
        if self.is_forked() {
            return Err(Error::Forked);
        }
        self.stop_unless_damaged(self.store.update(Purpose::Free, work))
    }

    pub(super) fn stop_unless_damaged<T>(&self, changed: Result<T>) -> Result<T> {
        if matches!(changed, Err(Error::Corrupt { .. })) { changed } else { self.stop_on_failure(changed) }
    }

    fn stop_on_failure<T>(&self, changed: Result<T>) -> Result<T> {
        match changed {
            Err(error) if !matches!(error, Error::StorageFull { .. } | Error::UnsupportedCompressionType { .. }) => {
                Err(Error::ReopenRequired { source: self.health.stop(error) })
            }
            result => result,
        }
    }

    /// The store has this: the tail and the journal need not keep it, and batches that no reader has any more leave their
    /// buffers to later ones.
    fn forget(&self, applied: Vec<Portion>) {
        for portion in &applied {
            for (log, batch) in &portion.batches {
                log.drop_tail_below(batch.header.last_offset.next());
            }
        }
        if let Some(end) = applied.last().and_then(|last| last.end) {
            self.durable.raise(end.sequence);
            self.recycled.fetch_max(end.position, Ordering::AcqRel);
        }
        let bytes = applied.iter().map(|portion| portion.bytes).sum();
        self.room.give_back(bytes);
        self.note_stored(bytes);
        let batches = applied.into_iter().flat_map(|portion| portion.batches);
        self.sequencer.lock().reuse(batches.filter_map(|(_, batch)| Arc::into_inner(batch)));
    }

    /// The last checkpoint: behind it the store needs no journal. Nothing is sent any more.
    pub(crate) fn checkpoint_and_close_session(&self) -> Result<()> {
        let _turn = self.changing_store.wait();
        self.checkpoint_locked(Unapplied::take_all, Purpose::Free)?;
        let Some(sequence) = self.progress.lead().journal.as_ref().map(|journal| journal.end().sequence) else {
            return Ok(());
        };
        self.update_store(Purpose::Free, |update| update.set_session(Session::Closed { sequence }))
    }
}

/// A batch, and the partition that it belongs to.
type BatchRef<'b> = (&'b Arc<PartitionLog>, &'b RecordBatch);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{BatchBuilder, RawHeader, RecordParts};
    use crate::config::TopicConfig;
    use crate::types::{LogId, Offset, TimestampType, TopicId, TopicName, TopicNumber};

    fn portion(bytes: usize) -> Portion {
        Portion { bytes, since: Some(Instant::now()), ..Portion::default() }
    }

    fn bytes(portions: &[Portion]) -> Vec<usize> {
        portions.iter().map(|portion| portion.bytes).collect()
    }

    #[test]
    fn a_portion_has_every_batch_once_and_in_order_whichever_of_them_grow() {
        let log = |partition| {
            let id = LogId { topic: TopicNumber(1), partition };
            let name = TopicName::new("orders").unwrap();
            let layout = TopicConfig::default().layout();
            Arc::new(PartitionLog::new(id, (TopicId::new(1), &name), (Offset::ZERO, Offset::ZERO), layout))
        };
        let batch = |log: &Arc<PartitionLog>| {
            let mut builder = BatchBuilder::new(log.id, log.end(), TimestampType::CreateTime, Vec::new());
            let headers = std::iter::empty::<RawHeader<'_>>();
            builder.push(0, &RecordParts { key: None, value: Some(b"v"), headers });
            builder.finish().unwrap()
        };
        let logs = [log(0), log(1)];
        let mut portion = Portion::default();
        let publish = |portion: &mut Portion, number: usize| {
            let log = &logs[number];
            portion.publish(Arc::clone(log), batch(log)).is_some()
        };
        let joined = [0, 0, 1, 1, 1, 0, 0].map(|number| publish(&mut portion, number));
        assert_eq!(joined, [false, true, false, true, true, false, true]);
        let reading = logs[0].last_in_tail();
        assert_eq!([0, 0].map(|number| publish(&mut portion, number)), [false, true]);
        drop(reading);
        let counts = |portion: Portion| -> Vec<(u32, u64, u32)> {
            let of =
                |(log, batch): BatchRef<'_>| (log.id.partition, batch.header.base_offset.get(), batch.header.count);
            portion.batches().map(of).collect()
        };
        assert_eq!(counts(portion.take()), [(0, 0, 2), (1, 0, 3), (0, 2, 2), (0, 4, 2)]);
        // What comes next is not joined to what was taken, and what is gone is not taken.
        assert_eq!([0, 1, 1].map(|number| publish(&mut portion, number)), [false, false, true]);
        logs[1].delete();
        assert!(!publish(&mut portion, 1));
        assert_eq!(counts(portion.take()), [(0, 6, 1)]);
        assert_eq!(logs[0].tail().iter().map(|batch| batch.header.count).sum::<u32>(), 7);
    }

    #[test]
    fn portions_are_taken_and_put_back_in_their_order() {
        let mut unapplied = Unapplied::new(100);
        assert!(unapplied.take_oldest().is_empty() && unapplied.take_all().is_empty());
        assert_eq!((unapplied.since(), unapplied.is_enough()), (None, false));
        unapplied.closed.extend([portion(100), portion(120)]);
        unapplied.open = portion(7);
        assert_eq!((unapplied.since(), unapplied.is_enough()), (unapplied.closed[0].since, true));

        let oldest = unapplied.take_oldest();
        assert_eq!(bytes(&oldest), [100]);
        unapplied.put_back(oldest);
        let all = unapplied.take_all();
        assert_eq!((bytes(&all), unapplied.since()), (vec![100, 120, 7], None));

        unapplied.open = portion(9);
        unapplied.put_back(all);
        assert_eq!(bytes(&unapplied.take_all()), [100, 120, 7, 9]);
        unapplied.open = portion(3);
        assert_eq!(bytes(&unapplied.take_oldest()), [3]);
    }
}
