//! Group commit: one leader writes, syncs and publishes for all that wait.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::thread;
use std::time::Instant;

use parking_lot::Mutex;

use super::progress::{Lead, Turn};
use super::sequencer::{FinishedBatch, Group, GroupNumber, Listener, OpenBatch};
use super::{Engine, check_not_in_clock};
use crate::clock::in_clock;
use crate::codec::{RecordBatch, encode_append, encode_group_entry};
use crate::config::Durability;
use crate::disk::DiskFile;
use crate::error::{Error, Result};
use crate::journal::{AppendError, Frame, Journal};

/// Where a leader puts a large group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LargeGroups {
    /// Into the journal: it takes one sync, and the leader waits for it.
    ToJournal,
    /// Straight into the store, if nobody else is changing that: it is written once instead of twice.
    ToStore,
}

/// What only the leader touches.
#[derive(Debug)]
pub(crate) struct Writer {
    /// `None` in memory.
    pub(crate) journal: Option<Journal>,
    frame: Frame,
    /// The batches of the group under way; empty between commits, and kept for its room.
    batches: Vec<FinishedBatch>,
    /// An emptied vector for the next open group.
    spare: Vec<OpenBatch>,
    /// A batch that another one has taken in: its buffer is for a batch of the next open group.
    joined: Option<RecordBatch>,
}

impl Writer {
    pub(crate) fn new(journal: Option<Journal>) -> Self {
        Self { journal, frame: Frame::new(), batches: Vec::new(), spare: Vec::new(), joined: None }
    }
}

/// How far the journal is written and synced, in frame sequence numbers: everything below is.
#[derive(Debug)]
pub(crate) struct Durable {
    written: AtomicU64,
    synced: AtomicU64,
    /// When everything below is synced, so is the length of the file.
    grown_before: AtomicU64,
    /// Held by whoever syncs outside a group commit, so that others wait for that one sync. Innermost but for I/O; no reader
    /// takes it.
    turn: Mutex<()>,
    /// The journal's, which closes it: a file that is removed keeps its space, on Windows its name as well, while it is open.
    file: Option<Weak<dyn DiskFile>>,
}

impl Durable {
    pub(crate) fn new(sequence: u64, journal: Option<&Journal>) -> Self {
        let at = || AtomicU64::new(sequence);
        let file = journal.map(|journal| Arc::downgrade(&journal.file()));
        Self { written: at(), synced: at(), grown_before: at(), turn: Mutex::new(()), file }
    }

    /// Everything below this sequence number is on the disk.
    fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Whether something is acknowledged that a power loss could take.
    pub(crate) fn is_behind(&self) -> bool {
        self.synced() < self.written.load(Ordering::Acquire)
    }

    /// The store has everything below `sequence`, durably.
    pub(crate) fn raise(&self, sequence: u64) {
        self.synced.fetch_max(sequence, Ordering::AcqRel);
    }
}

thread_local! {
    /// Whether this thread runs a user's callback: it must not wait for the commit that it is part of.
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller is a callback of a send, or a clock, which must not wait either.
pub(crate) fn in_callback() -> bool {
    IN_CALLBACK.get() || in_clock()
}

impl Engine {
    /// Waits until `group` is committed. Leads if nobody does. `Ok(false)`: the deadline passed.
    pub(crate) fn wait_for(&self, group: GroupNumber, deadline: Option<Instant>) -> Result<bool> {
        self.commit_through(group, deadline, LargeGroups::ToJournal)
    }

    /// Outcome of `group`, if it is done. Otherwise the background thread commits it at once, and `waker` is woken then.
    pub(crate) fn poll_group(&self, group: GroupNumber, waker: &Waker) -> Option<Result<()>> {
        let outcome = self.progress.poll(group, waker);
        if outcome.is_none() {
            self.bell.ring_unless_awake_by(Instant::now());
        }
        outcome
    }

    fn commit_through(&self, group: GroupNumber, deadline: Option<Instant>, large: LargeGroups) -> Result<bool> {
        if in_callback() && !self.progress.is_done(group) {
            return Err(Error::illegal_state("a callback can't wait for a record: it runs within the commit"));
        }
        loop {
            match self.progress.wait(group, deadline) {
                Turn::Done(outcome) => return outcome.map(|()| true),
                Turn::TimedOut => return Ok(false),
                Turn::Lead(lead) => self.commit_as_leader(lead, large),
            }
        }
    }

    /// Commits everything sent so far, for a caller that waits for it.
    pub(crate) fn flush(&self) -> Result<()> {
        check_not_in_clock()?;
        self.commit_open_group(LargeGroups::ToJournal)
    }

    /// Waits for the group that is under way, if there is one, at most until `deadline`. What becomes of it is not the
    /// caller's business.
    pub(crate) fn wait_for_group_under_way(&self, deadline: Instant) {
        let before = self.sequencer.lock().group().number.before();
        let _ = before.map(|group| self.commit_through(group, Some(deadline), LargeGroups::ToStore));
    }

    /// Commits everything sent so far.
    pub(crate) fn commit_open_group(&self, large: LargeGroups) -> Result<()> {
        let group = {
            let sequencer = self.sequencer.lock();
            let open = sequencer.group();
            // An empty group is never committed, but the one before it may be under way.
            if open.is_empty() { open.number.before() } else { Some(open.number) }
        };
        match group {
            None => Ok(()),
            Some(group) => self.commit_through(group, None, large).map(drop),
        }
    }

    /// Takes the open group through its commit.
    fn commit_as_leader(&self, mut lead: Lead<'_>, large: LargeGroups) {
        let _guard = self.health.guard("a group commit");
        let writer = &mut *lead;
        let mut group = {
            let mut sequencer = self.sequencer.lock();
            let before = sequencer.group().number.before();
            if let Some(lost) = before.filter(|before| !self.progress.is_done(*before)) {
                drop(sequencer);
                return self.fail_lost(lead, lost);
            }
            if sequencer.group().is_empty() {
                return;
            }
            sequencer.reuse(writer.joined.take().into_iter());
            sequencer.take_group(std::mem::take(&mut writer.spare))
        };
        writer.spare = group.finish(&mut writer.batches);
        match self.commit(writer, &group, large) {
            Ok(()) => {
                if !group.entries.is_empty() {
                    self.acknowledged(&group.entries);
                }
                tell(group.take_listeners(), &Ok(()));
                self.progress.finish(lead, group.number, Vec::new());
            }
            Err(AppendError::Nothing(error)) => self.fail(lead, group, error.clone(), error),
            Err(AppendError::Unknown(error)) => {
                let source = self.health.stop(error);
                let unknown = Error::DurabilityUnknown { source: Arc::clone(&source) };
                self.fail(lead, group, unknown, Error::ReopenRequired { source });
            }
        }
    }

    /// Makes a group acknowledged and visible: by a frame, or by a checkpoint of its own.
    fn commit(&self, writer: &mut Writer, group: &Group, large: LargeGroups) -> Result<(), AppendError> {
        if large == LargeGroups::ToStore && group.bytes >= self.options.large_group() {
            let end = writer.journal.as_ref().map(Journal::end);
            let committed = self.checkpoint_with(&mut writer.batches, group, end);
            if committed.map_err(AppendError::Unknown)? {
                return Ok(());
            }
        }
        self.write(writer, group)?;
        self.publish(writer, group);
        Ok(())
    }

    /// Writes the group as one frame and, in `Sync` mode, makes it durable.
    fn write(&self, writer: &mut Writer, group: &Group) -> Result<(), AppendError> {
        self.health.check().map_err(AppendError::Nothing)?;
        let Some(journal) = &mut writer.journal else { return Ok(()) };
        journal.recycle(self.recycled.load(Ordering::Acquire));
        writer.frame.clear();
        for (_, batch) in &writer.batches {
            encode_append(writer.frame.payload_mut(), batch);
        }
        for entry in &group.entries {
            encode_group_entry(writer.frame.payload_mut(), entry);
        }
        journal.append(&mut writer.frame, self.durable.synced())?;
        let end = journal.end().sequence;
        self.durable.grown_before.store(journal.grown_before(), Ordering::Release);
        self.durable.written.store(end, Ordering::Release);
        if self.options.durability == Durability::Sync {
            journal.sync().map_err(AppendError::Unknown)?;
            self.durable.raise(end);
        }
        Ok(())
    }

    /// Makes acknowledged batches visible, and hands the group to the next checkpoint. The background thread is told when
    /// that and a sync are due, unless it knows of the former.
    fn publish(&self, writer: &mut Writer, group: &Group) {
        let end = writer.journal.as_ref().map(Journal::end);
        let at = group.opened_at.unwrap_or_else(Instant::now);
        let checkpoint_due = {
            let mut unapplied = self.unapplied.lock();
            let is_news = unapplied.publish(writer.batches.drain(..), &mut writer.joined, group, end, at);
            if is_news { self.checkpoint_due(&unapplied) } else { None }
        };
        // A sync under way may have come too early for this group and still leave nothing that the thread would wait for.
        let sync_due = self.flush_interval().and_then(|interval| at.checked_add(interval));
        for due in [checkpoint_due, sync_due].into_iter().flatten() {
            self.bell.ring_unless_awake_by(due);
        }
    }

    /// Fails a group of which nothing can be said, or nothing was written, and all that was sent after it.
    fn fail(&self, mut lead: Lead<'_>, mut group: Group, error: Error, later: Error) {
        let mut open = self.sequencer.lock().rewind(&lead.batches);
        lead.batches.clear();
        self.room.give_back(group.bytes + open.bytes);
        tell(group.take_listeners(), &Err(error.clone()));
        tell(open.take_listeners(), &Err(later.clone()));
        self.progress.finish(lead, open.number, vec![(group.number, error), (open.number, later)]);
    }

    /// Fails the groups up to `last` that a panic took from their leader. Nobody knows how far they came, and the broker has
    /// stopped.
    fn fail_lost(&self, lead: Lead<'_>, last: GroupNumber) {
        let source = self.health.stop(no_end());
        let unknown = |group| (group, Error::DurabilityUnknown { source: Arc::clone(&source) });
        let failures = self.progress.not_done(last).map(unknown).collect();
        self.progress.finish(lead, last, failures);
    }

    /// Makes the length of the journal's file durable, before the store says that a mark lies in it.
    pub(crate) fn sync_journal_length(&self) -> Result<()> {
        let durable = &self.durable;
        if durable.synced() < durable.grown_before.load(Ordering::Acquire) { self.sync_journal() } else { Ok(()) }
    }

    /// Makes everything acknowledged so far durable.
    pub(crate) fn sync_journal(&self) -> Result<()> {
        let target = self.durable.written.load(Ordering::Acquire);
        if self.durable.synced() >= target {
            return Ok(());
        }
        let Some(file) = &self.durable.file else { return Ok(()) };
        let _turn = self.durable.turn.lock();
        if self.durable.synced() >= target {
            return Ok(());
        }
        self.health.check()?;
        // Whatever was written before this line is covered by the sync.
        let covered = self.durable.written.load(Ordering::Acquire);
        let file = file.upgrade().ok_or(Error::Closed)?;
        if let Err(error) = file.sync() {
            let source = self.health.stop(Error::io("sync", &self.journal_path, error));
            return Err(Error::DurabilityUnknown { source });
        }
        self.durable.raise(covered);
        Ok(())
    }
}

/// Calls each callback once, in the order of the calls that brought them. One that panics harms nobody else (P-14).
fn tell(listeners: Vec<Listener>, outcome: &Result<()>) {
    if listeners.is_empty() {
        return;
    }
    let before = IN_CALLBACK.replace(true);
    for listener in listeners {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| listener.tell(outcome.clone()))) {
            // It is the user's, and may panic again when it is dropped.
            std::mem::forget(panic);
        }
    }
    IN_CALLBACK.set(before);
}

impl Drop for Group {
    /// When a panic takes the group from its leader, whoever was not told yet is told now.
    fn drop(&mut self) {
        let listeners = self.take_listeners();
        if !listeners.is_empty() && thread::panicking() {
            tell(listeners, &Err(Error::DurabilityUnknown { source: Arc::new(no_end()) }));
        }
    }
}

fn no_end() -> Error {
    Error::illegal_state("a group commit came to no end")
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use super::super::sequencer::{Callback, Keys};
    use super::super::tests::options;
    use super::super::{Engine, OpenHow};
    use super::*;
    use crate::config::TopicConfig;
    use crate::disk::sim_disk::{Op, SimDisk};
    use crate::record::ProducerRecord;
    use crate::types::TopicName;

    /// Nothing of its group is acknowledged, nobody waits in vain, and what comes later is refused.
    #[test]
    fn a_group_whose_leader_panics_is_not_acknowledged() {
        let disk = SimDisk::new();
        let open = |disk: &SimDisk| {
            Engine::open(Arc::new(disk.clone()), Path::new("/d/app.brooklet"), OpenHow::OpenOrCreate, options())
                .unwrap()
        };
        let engine = Arc::new(open(&disk));
        engine.create_topic(&TopicName::new("t").unwrap(), 1, TopicConfig::default()).unwrap();
        let send = |engine: &Engine, callback| {
            let sent = engine.send(&ProducerRecord::to("t").partition(0), Keys::Choose, callback);
            sent.map(|sent| sent.group)
        };
        let first = send(&engine, None).unwrap();
        assert!(engine.wait_for(first, None).unwrap());
        let (told, outcomes) = mpsc::channel();
        let handle = Arc::clone(&engine);
        let callback: Callback = Box::new(move |outcome| {
            let later = send(&handle, None).unwrap();
            told.send((outcome.map(drop), later)).unwrap();
        });
        let lost = send(&engine, Some(callback)).unwrap();
        disk.panic_at(Op::Write, "-journal");
        let waits: Vec<_> = thread::scope(|scope| {
            let wait = || scope.spawn(|| engine.wait_for(lost, None));
            let waiters = [wait(), wait()];
            waiters.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        assert_eq!(waits.iter().filter(|wait| wait.is_err()).count(), 1);
        let unknown = |outcome: &Result<bool>| matches!(outcome, Err(Error::DurabilityUnknown { .. }));
        assert!(waits.iter().flatten().all(unknown));
        let (outcome, later) = outcomes.recv().unwrap();
        assert!(unknown(&outcome.map(|()| true)));
        assert!(matches!(engine.wait_for(later, None), Err(Error::ReopenRequired { .. })));
        assert!(engine.wait_for(first, None).unwrap());
        assert!(matches!(send(&engine, None), Err(Error::ReopenRequired { .. })));
        drop(engine);
        let log = Arc::clone(&open(&disk.after_kill()).topic("t").unwrap().partitions[0]);
        assert_eq!(log.end().get(), 1);
    }

    /// A panic between a failed group and the open one that fails with it.
    #[test]
    fn all_groups_that_a_panic_took_are_failed() {
        let engine =
            Engine::open(Arc::new(SimDisk::new()), Path::new("/d/a.brooklet"), OpenHow::CreateNew, options()).unwrap();
        engine.create_topic(&TopicName::new("t").unwrap(), 1, TopicConfig::default()).unwrap();
        let send = || engine.send(&ProducerRecord::to("t").partition(0), Keys::Choose, None).unwrap().group;
        let take = || drop(engine.sequencer.lock().take_group(Vec::new()));
        let lost = [send(), {
            take();
            send()
        }];
        take();
        for group in lost {
            assert!(matches!(engine.wait_for(group, None), Err(Error::DurabilityUnknown { .. })));
        }
    }
}
