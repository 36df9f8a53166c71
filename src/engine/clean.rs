//! Cleaning: records beyond the limits of their topic are deleted, and what deletions have hidden is freed.
//!
//! A clean is a round over all partitions that have limits, and then, if the broker has a limit of its own, over all of
//! them together. It goes in steps: each is one store update of bounded size, and `changing_store` is free between two of
//! them, so that checkpoints and changes of topics go on. The first step of a deletion moves the log start, and **its commit
//! is the commit point**; the others free what then lies below, now or after the next opening. So a clean may end behind any
//! step: the next one goes on where it was.
//!
//! Only what is in the store is looked at: what lies in the tail is younger, and stays.
//!
//! What can't be freed because a page of it is damaged is set aside, so that it does not keep the rest from being cleaned. It
//! keeps its space; who calls for a clean is told.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::compact::Pass;
use super::log::PartitionLog;
use super::topic::Topic;
use super::{Engine, Options};
use crate::config::UncommittedLimits;
use crate::error::{Error, Result};
use crate::inspect::{CleanReport, VacuumReport};
use crate::retention::{Segment, Uncommitted, beyond_limits, beyond_total, without_uncommitted};
use crate::store::{Catalogue, Freed};
use crate::types::{LogId, Offset, TopicNumber};

/// Bytes that move into the store before the background thread cleans, whatever the interval says: limits of size are kept
/// also when records come fast.
const CLEAN_AFTER_BYTES: usize = 16 << 20;

/// Behind a clean on a full disk, the store's file is vacuumed if this part of it is unused: an eighth,
const VACUUMED_SHARE: u64 = 8;

/// and if it is not longer than this, as readers wait meanwhile. A longer one is left to [`Engine::vacuum`] by hand.
const VACUUMED_LENGTH: u64 = 256 << 20;

/// What waits to be freed.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    /// Partitions with chunks below their log start.
    logs: BTreeSet<LogId>,
    /// Topics that were deleted.
    topics: BTreeSet<TopicNumber>,
    /// What damage keeps from being freed.
    set_aside: Vec<Waste>,
}

/// One thing that waits to be freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waste {
    BelowLogStart(LogId),
    Topic(TopicNumber),
}

impl fmt::Display for Waste {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waste::BelowLogStart(log) => write!(f, "what was deleted of {log}"),
            Waste::Topic(topic) => write!(f, "what was deleted with topic number {}", topic.0),
        }
    }
}

impl Garbage {
    /// What the last session has left.
    pub(super) fn of(catalogue: &Catalogue) -> Self {
        let logs = catalogue.partitions.iter().filter(|(_, row)| row.has_garbage());
        let topics = catalogue.deleted.iter().copied();
        Self { logs: logs.map(|(log, _)| *log).collect(), topics: topics.collect(), set_aside: Vec::new() }
    }

    /// Whether nothing is left to free but what was set aside.
    pub(super) fn is_empty(&self) -> bool {
        self.logs.is_empty() && self.topics.is_empty()
    }

    fn first(&self) -> Option<Waste> {
        let log = self.logs.first().copied().map(Waste::BelowLogStart);
        log.or_else(|| self.topics.first().copied().map(Waste::Topic))
    }

    fn has(&self, waste: Waste) -> bool {
        match waste {
            Waste::BelowLogStart(log) => self.logs.contains(&log),
            Waste::Topic(topic) => self.topics.contains(&topic),
        }
    }

    fn add(&mut self, waste: Waste) {
        match waste {
            Waste::BelowLogStart(log) => self.logs.insert(log),
            // Its partitions go with it.
            Waste::Topic(topic) => {
                self.logs.retain(|log| log.topic != topic);
                self.topics.insert(topic)
            }
        };
    }

    fn remove(&mut self, waste: Waste) {
        match waste {
            Waste::BelowLogStart(log) => self.logs.remove(&log),
            Waste::Topic(topic) => self.topics.remove(&topic),
        };
    }

    fn set_aside(&mut self, waste: Waste) {
        self.remove(waste);
        self.set_aside.push(waste);
    }

    /// It may be that what was damaged is gone since.
    fn take_up_again(&mut self) {
        let set_aside = std::mem::take(&mut self.set_aside);
        set_aside.into_iter().for_each(|waste| self.add(waste));
    }
}

/// Who cleans: one at a time.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    /// The background thread's clean under way.
    round: Option<Round>,
    /// The compaction under way, whoever began it.
    pass: Option<Pass>,
}

/// What a clean has not looked at yet.
#[derive(Debug)]
struct Round {
    /// Partitions with limits.
    limited: VecDeque<Arc<PartitionLog>>,
    /// Partitions to be compacted; `None`: not looked for yet.
    to_compact: Option<VecDeque<Arc<PartitionLog>>>,
    /// Whether the disk was full when it began.
    disk_was_full: bool,
}

/// When cleans are due, and when one was done.
#[derive(Debug)]
pub(super) struct Cleans {
    /// When the background thread cleans next.
    pub(super) due: Option<Instant>,
    /// When the last one came to its end, in milliseconds since the epoch; `None`: none since the broker was opened.
    pub(super) last_ms: Option<i64>,
    /// What has moved into the store since the last one began.
    stored_bytes: usize,
    /// Whether a full disk made a clean vacuum since something was stored last.
    vacuumed: bool,
    /// Whether one was asked for since the last one began: that one may have passed what is to be cleaned.
    asked_for: bool,
}

impl Cleans {
    /// What the last session has left is freed at once.
    pub(super) fn new(options: &Options, garbage: &Garbage) -> Self {
        let due = if garbage.is_empty() { next_clean(options) } else { Some(Instant::now()) };
        Self { due, last_ms: None, stored_bytes: 0, vacuumed: false, asked_for: false }
    }
}

/// A full disk is what is being dealt with.
fn unless_full(done: Result<()>) -> Result<()> {
    if matches!(done, Err(Error::StorageFull { .. })) { Ok(()) } else { done }
}

fn next_clean(options: &Options) -> Option<Instant> {
    Instant::now().checked_add(options.clean_interval?)
}

/// What a call of clean may still do, and has done.
#[derive(Debug)]
pub(super) struct Work {
    started: Instant,
    budget: Duration,
    pub(super) report: CleanReport,
    /// The first damage that kept something from being freed.
    damage: Option<Error>,
}

impl Work {
    fn within(budget: Duration) -> Self {
        Self { started: Instant::now(), budget, report: CleanReport::default(), damage: None }
    }

    pub(super) fn is_over(&self) -> bool {
        self.started.elapsed() >= self.budget
    }

    pub(super) fn step(&mut self, freed: Freed, since: Instant) {
        let report = &mut self.report;
        report.steps += 1;
        report.records += freed.records;
        report.bytes += freed.bytes;
        report.longest_step = report.longest_step.max(since.elapsed());
    }
}

/// Who asks for a clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Somebody who expects it to look at everything acknowledged.
    User,
    /// The background thread, which moves the tail into the store soon enough anyhow.
    Background,
}

impl Engine {
    /// Cleans until everything is done, or the budget is used up: the step under way then is the last.
    pub(crate) fn clean(&self, budget: Duration) -> Result<CleanReport> {
        self.check_writable()?;
        let mut cleaner = self.cleaner.lock();
        self.clean_as(Caller::User, &mut cleaner, budget)
    }

    /// The background thread's clean, or a part of it. Somebody else's clean does as well.
    pub(super) fn clean_in_background(&self, budget: Duration) -> Result<()> {
        match self.cleaner.try_lock() {
            Some(mut cleaner) => self.clean_as(Caller::Background, &mut cleaner, budget).map(drop),
            None => {
                self.cleans.lock().due = next_clean(&self.options);
                Ok(())
            }
        }
    }

    /// When the background thread has to clean.
    pub(super) fn clean_due(&self) -> Option<Instant> {
        self.cleans.lock().due
    }

    /// So much more is in the store.
    pub(super) fn note_stored(&self, bytes: usize) {
        let mut cleans = self.cleans.lock();
        cleans.stored_bytes = cleans.stored_bytes.saturating_add(bytes);
        cleans.vacuumed = false;
        if cleans.stored_bytes >= CLEAN_AFTER_BYTES {
            drop(cleans);
            self.clean_soon();
        }
    }

    /// Makes a clean due, unless they are only made by hand.
    pub(super) fn clean_soon(&self) {
        if self.options.clean_interval.is_some() {
            let now = Instant::now();
            let mut cleans = self.cleans.lock();
            cleans.due = Some(now);
            cleans.asked_for = true;
            drop(cleans);
            self.bell.ring_unless_awake_by(now);
        }
    }

    fn clean_as(&self, caller: Caller, cleaner: &mut Cleaner, budget: Duration) -> Result<CleanReport> {
        let mut work = Work::within(budget);
        if caller == Caller::User {
            self.garbage.lock().take_up_again();
        }
        let cleaned = self.go_on_cleaning(caller, cleaner, &mut work);
        let cleaned = cleaned.and_then(|()| work.damage.take().map_or(Ok(()), Err));
        work.report.elapsed = work.started.elapsed();
        let mut cleans = self.cleans.lock();
        // What was interrupted stays due.
        if work.report.is_complete || cleaned.is_err() {
            cleans.due = next_clean(&self.options);
        }
        if work.report.is_complete && !self.only_frees(caller) {
            cleans.last_ms = Some(self.options.clock.now_ms());
        }
        let again = cleans.asked_for && cleaned.is_ok();
        drop(cleans);
        if again {
            self.clean_soon();
        }
        cleaned.map(|()| work.report)
    }

    /// Does at least one thing, whatever the budget: each call comes nearer to the end.
    fn go_on_cleaning(&self, caller: Caller, cleaner: &mut Cleaner, work: &mut Work) -> Result<()> {
        self.free_garbage(work)?;
        if !self.garbage.lock().is_empty() {
            return Ok(());
        }
        if self.only_frees(caller) {
            work.report.is_complete = true;
            return Ok(());
        }
        // The background thread goes on with the round that it left. Who calls may have changed limits since: everything is
        // looked at again, which takes microseconds for each partition, so that only what is deleted counts as work.
        if caller == Caller::User || cleaner.round.is_none() {
            cleaner.round = Some(self.begin_round(caller)?);
        }
        while let Some(log) = cleaner.round.as_mut().and_then(|round| round.limited.pop_front()) {
            self.clean_log(&log, work)?;
            if work.is_over() && (work.report.steps > 0 || caller == Caller::Background) {
                return Ok(());
            }
        }
        if !self.compact_all(cleaner, work)? {
            return Ok(());
        }
        if self.fit_into_max_bytes(work)? && self.garbage.lock().is_empty() {
            if cleaner.round.take().is_some_and(|round| round.disk_was_full) {
                self.use_what_was_freed()?;
            }
            work.report.is_complete = true;
        }
        Ok(())
    }

    /// Compacts what is due. `false`: there was no time for all of it.
    fn compact_all(&self, cleaner: &mut Cleaner, work: &mut Work) -> Result<bool> {
        loop {
            let pass = match (cleaner.pass.take(), &mut cleaner.round) {
                (Some(pass), _) => pass,
                (None, Some(Round { to_compact: Some(to_compact), .. })) => match to_compact.pop_front() {
                    Some(log) => match self.pass_due(&log)? {
                        Some(pass) => pass,
                        None => continue,
                    },
                    None => return Ok(true),
                },
                (None, Some(Round { to_compact, .. })) => {
                    *to_compact = Some(self.passes_due()?);
                    continue;
                }
                (None, None) => return Ok(true),
            };
            cleaner.pass = self.go_on_compacting(pass, work)?;
            if work.is_over() {
                return Ok(false);
            }
        }
    }

    /// Whether nothing is deleted but what was deleted before: where cleans are made by hand only, the background thread still
    /// frees what the last session has left.
    fn only_frees(&self, caller: Caller) -> bool {
        caller == Caller::Background && self.options.clean_interval.is_none()
    }

    /// What a round looks at one by one.
    fn begin_round(&self, caller: Caller) -> Result<Round> {
        {
            let mut cleans = self.cleans.lock();
            (cleans.stored_bytes, cleans.asked_for) = (0, false);
        }
        let has_limits = |topic: &&Arc<Topic>| topic.config.retention_limits().is_any();
        let topics = self.topics();
        let limited: VecDeque<_> =
            topics.iter().filter(has_limits).flat_map(|topic| topic.partitions.clone()).collect();
        let compacts = topics.iter().any(|topic| topic.config.policy().compacts());
        let looks_at_something = !limited.is_empty() || compacts || self.options.max_bytes.is_some();
        if caller == Caller::User && looks_at_something {
            // What is in the store can be cleaned, and that makes room.
            unless_full(self.checkpoint())?;
        }
        Ok(Round { limited, to_compact: None, disk_was_full: self.storage_full.load(Ordering::SeqCst) })
    }

    /// Moves on what waited for room. redb takes the smallest pieces of the file first, also those that were never written,
    /// for which a full disk has no room; so a file with much unused gives it back to the disk before.
    fn use_what_was_freed(&self) -> Result<()> {
        let stats = self.store.stats()?;
        let is_worth_it = stats.file <= VACUUMED_LENGTH && stats.unused >= stats.file / VACUUMED_SHARE;
        // Once, until something was stored: it did not help otherwise.
        if is_worth_it && !std::mem::replace(&mut self.cleans.lock().vacuumed, true) {
            unless_full(self.vacuum().map(drop))?;
        }
        unless_full(self.checkpoint_oldest())
    }

    /// Deletes what is beyond the limits of one partition.
    fn clean_log(&self, log: &Arc<PartitionLog>, work: &mut Work) -> Result<()> {
        let Some(topic) = self.topic_of(log) else { return Ok(()) };
        let segments = self.store.segments(log.id)?;
        let now_ms = self.options.clock.now_ms();
        // Nothing that is not acknowledged goes (L-2).
        let bound = log.end();
        let mut count = beyond_limits(&segments, &topic.config.retention_limits(), bound, now_ms);
        if count > 0
            && let Some(UncommittedLimits { caps, idle_ms }) = topic.config.uncommitted_limits()
        {
            let committed = self.committed_by_live_groups(&topic, log, now_ms.saturating_sub(idle_ms))?;
            count = without_uncommitted(&segments, count, &Uncommitted { committed, caps }, bound, now_ms);
        }
        self.drop_segments(&topic, log, &segments, count, work)
    }

    /// Deletes the oldest segments of all partitions while they are more than `max_bytes` together. What is kept for ever
    /// counts and stays. `false`: there was no time for all of it.
    fn fit_into_max_bytes(&self, work: &mut Work) -> Result<bool> {
        let Some(limit) = self.options.max_bytes else { return Ok(true) };
        let mut other: u64 = self.store.load()?.partitions.iter().map(|(_, row)| row.bytes).sum();
        if other <= limit {
            return Ok(true);
        }
        let mut candidates = Vec::new();
        for topic in self.topics().iter().filter(|topic| topic.config.policy().deletes()) {
            for log in &topic.partitions {
                let bound = log.end();
                let mut segments = self.store.segments(log.id)?;
                segments.retain(|segment| segment.end <= bound);
                other = segments.iter().fold(other, |other, segment| other.saturating_sub(segment.bytes));
                candidates.push((Arc::clone(topic), Arc::clone(log), segments));
            }
        }
        let segments: Vec<_> = candidates.iter().map(|(.., segments)| segments.clone()).collect();
        let counts = beyond_total(&segments, other, limit);
        let mut to_cut = candidates.iter().zip(counts).filter(|(_, count)| *count > 0).peekable();
        while let Some(((topic, log, segments), count)) = to_cut.next() {
            self.drop_segments(topic, log, segments, count, work)?;
            if work.is_over() {
                return Ok(to_cut.peek().is_none());
            }
        }
        Ok(true)
    }

    /// Deletes the first `count` segments of a partition, unless its topic was changed since it was looked at.
    fn drop_segments(
        &self,
        topic: &Arc<Topic>,
        log: &Arc<PartitionLog>,
        segments: &[Segment],
        count: usize,
        work: &mut Work,
    ) -> Result<()> {
        let Some(last) = count.checked_sub(1).and_then(|last| segments.get(last)) else { return Ok(()) };
        {
            let turn = self.turn_to_change()?;
            if !self.topic_of(log).is_some_and(|now| Arc::ptr_eq(&now, topic)) {
                return Ok(());
            }
            let started = Instant::now();
            let freed = self.cut(log, last.end)?;
            drop(turn);
            work.step(freed, started);
        }
        work.report.partitions += 1;
        work.report.segments += count as u64;
        self.free_garbage(work)
    }

    /// Moves a partition's log start, and frees what one step can; `changing_store` is held.
    pub(super) fn cut(&self, log: &PartitionLog, log_start: Offset) -> Result<Freed> {
        if log_start <= log.log_start() {
            return Ok(Freed::default());
        }
        self.sync_journal()?;
        let mut cut = self.tidy_store(|update| {
            update.set_log_start(log.id, log_start)?;
            update.free_below_log_start(log.id, self.options.clean_step)
        });
        if matches!(cut, Err(Error::Corrupt { .. })) {
            // To hide what is damaged, nothing of it has to be read.
            let hidden = self.tidy_store(|update| update.set_log_start(log.id, log_start));
            cut = hidden.map(|()| Freed { more: true, ..Freed::default() });
        }
        if cut.is_err()
            && let Ok(stored) = self.store.log_start(log.id)
        {
            // It may have happened all the same. Then nothing is left to read below.
            log.set_log_start(stored);
        }
        let freed = cut?;
        log.set_log_start(log_start);
        if freed.more {
            self.garbage.lock().add(Waste::BelowLogStart(log.id));
        }
        self.room_was_made();
        Ok(freed)
    }

    /// A topic is gone, and everything in it is to be freed.
    pub(super) fn add_garbage(&self, topic: TopicNumber) {
        self.garbage.lock().add(Waste::Topic(topic));
    }

    /// Frees everything that waits for it, until the budget is used up.
    fn free_garbage(&self, work: &mut Work) -> Result<()> {
        while let Some(waste) = self.first_garbage() {
            match self.free_some(waste, work) {
                Err(error @ Error::Corrupt { .. }) => {
                    self.garbage.lock().set_aside(waste);
                    work.damage.get_or_insert(error);
                }
                freed => freed?,
            }
            if work.is_over() {
                break;
            }
        }
        Ok(())
    }

    fn first_garbage(&self) -> Option<Waste> {
        self.garbage.lock().first()
    }

    /// Frees what a deletion has hidden. The deletion is done: what fails here is kept in `health`, or tried again by the
    /// next clean.
    pub(super) fn free_after_deletion(&self, waste: Waste) {
        let mut work = Work::within(Duration::MAX);
        while self.garbage.lock().has(waste) && self.free_some(waste, &mut work).is_ok() {}
    }

    /// One step.
    fn free_some(&self, waste: Waste, work: &mut Work) -> Result<()> {
        let turn = self.turn_to_change()?;
        // Somebody else may have done it meanwhile.
        if !self.garbage.lock().has(waste) {
            return Ok(());
        }
        let started = Instant::now();
        let freed = self.tidy_store(|update| match waste {
            Waste::BelowLogStart(log) => update.free_below_log_start(log, self.options.clean_step),
            Waste::Topic(topic) => update.free_topic(topic, self.options.clean_step),
        });
        let freed = freed.map_err(|error| error.at(&self.path, || waste.to_string()))?;
        if !freed.more {
            self.garbage.lock().remove(waste);
        }
        self.room_was_made();
        drop(turn);
        work.step(freed, started);
        Ok(())
    }

    /// Gives the free space of the store's file back to the disk. Checkpoints, changes of topics and readers of the store wait
    /// meanwhile.
    pub(crate) fn vacuum(&self) -> Result<VacuumReport> {
        self.check_writable()?;
        let started = Instant::now();
        self.free_garbage(&mut Work::within(Duration::MAX))?;
        let _turn = self.turn_to_change()?;
        let bytes_before = self.store.size_on_disk()?;
        self.stop_unless_damaged(self.store.vacuum())?;
        let bytes_after = self.store.size_on_disk()?;
        self.room_was_made();
        Ok(VacuumReport { bytes_before, bytes_after, elapsed: started.elapsed() })
    }

    /// Vacuums if so much is free that it was asked for. Nobody else uses the store any more.
    pub(super) fn vacuum_at_close(&self) -> Result<()> {
        let Some(share) = self.options.vacuum_at_close else { return Ok(()) };
        let stats = self.store.stats()?;
        if stats.unused as f64 >= share * stats.file as f64 {
            self.store.vacuum()?;
        }
        Ok(())
    }

    /// The present version of a log's topic; `None` when it is gone.
    pub(super) fn topic_of(&self, log: &PartitionLog) -> Option<Arc<Topic>> {
        let topic = self.topic(log.topic.as_str()).ok()?;
        (topic.number == log.id.topic).then_some(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::options;
    use super::*;
    use crate::config::TopicConfig;
    use crate::types::TopicName;

    #[test]
    fn a_clean_asked_for_during_another_is_done_behind_it() {
        let an_hour = Duration::from_secs(3_600);
        let engine = Engine::in_memory(Options { clean_interval: Some(an_hour), ..options() }).unwrap();
        let config = TopicConfig::default().retention_bytes(Some(1));
        engine.create_topic(&TopicName::new("orders").unwrap(), 2, config).unwrap();
        let is_due = || engine.clean_due().unwrap() <= Instant::now();
        engine.clean_in_background(Duration::ZERO).unwrap();
        assert!(engine.cleaner.lock().round.is_some(), "a partition is left");
        engine.clean_soon();
        engine.clean_in_background(Duration::MAX).unwrap();
        assert!(is_due());
        engine.clean_in_background(Duration::MAX).unwrap();
        assert!(!is_due());
    }
}
