//! Compaction: records whose key has a later one go.
//!
//! A pass over a partition goes in three phases, each in bounded steps:
//!
//! 1. **Read** the dirty records: their keys and offsets, as many as `compaction_memory` has room for.
//! 2. **Merge** them into the partition's table of keys, a number of blocks in each store update, which also notes what they
//!    supersede. The last of these updates says how far the table reaches now: **its commit is the commit point**.
//! 3. **Drop** the superseded records: chunks are written again without them, a number of them in each store update.
//!
//! A crash or an error in the first two phases leaves nothing that doing them again would not find as it should be, and one in
//! the third leaves superseded records, noted, for the next pass. So a pass may end behind any step.
//!
//! While somebody reads the table of a partition, its third phase waits for a later clean.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::Engine;
use super::clean::Work;
use super::log::PartitionLog;
use super::topic::Topic;
use super::turns::Turn;
use crate::codec::{Packing, RecordBatch};
use crate::compaction::{Expired, Horizon, KeyEntry, KeyHash, Standing, dirtiest_first, keep_last};
use crate::error::Result;
use crate::store::{Blocks, Compaction, Freed, KeyMerge, MergeCursor, Superseded};
use crate::types::{Offset, TopicId};

/// Bytes of chunks that one step of reading takes.
const READ_STEP: usize = 1 << 20;

/// Blocks of the table of keys that one step writes, about 2 MiB.
const MERGE_STEP: usize = 256;

/// Offsets of superseded records that one step notes, beside those that the merge does.
const NOTE_STEP: usize = 64 << 10;

/// How many records can be read into `compaction_memory`: each takes an entry, and the offset of a record that it supersedes.
pub(crate) fn records_within(compaction_memory: usize) -> usize {
    (compaction_memory / (size_of::<KeyEntry>() + size_of::<Offset>())).max(1)
}

/// A pass over a partition, under way.
#[derive(Debug)]
pub(super) struct Pass {
    log: Arc<PartitionLog>,
    /// Up to where records are dirty. Those that do not all fit into memory take several rounds through the phases.
    until: Offset,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Read(Dirty),
    Merge(Merge),
    Drop(Drops),
}

/// Dirty records, while they are read.
#[derive(Debug)]
struct Dirty {
    /// The next one to read.
    next: Offset,
    entries: Vec<KeyEntry>,
    /// Those that go because of others among them, or for want of a key.
    superseded: Vec<Offset>,
    /// How far the table of keys reaches.
    since: Offset,
    /// Tombstones below it go.
    expired: Offset,
}

/// What was read, on its way into the table of keys.
#[derive(Debug)]
struct Merge {
    dirty: Dirty,
    has_tombstones: bool,
    log_start: Offset,
    blocks: Blocks,
    /// `None`: all entries are in the table.
    cursor: Option<MergeCursor>,
    /// How many of the superseded offsets have been noted.
    noted: usize,
}

/// Superseded records on their way out.
#[derive(Debug, Default)]
struct Drops {
    /// `None`: to be looked up.
    superseded: Option<Superseded>,
    done: usize,
}

/// Whether a pass goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    More,
    Done,
}

impl Dirty {
    fn new(next: Offset, since: Offset, expired: Offset) -> Self {
        Self { next, entries: Vec::new(), superseded: Vec::new(), since, expired }
    }

    /// Takes a batch's records until there are `most`.
    fn take(&mut self, topic: TopicId, batch: &RecordBatch, most: usize) {
        for record in batch.find(self.next).into_iter().flat_map(|place| batch.walk(place)) {
            if self.is_full(most) {
                return;
            }
            match record.key() {
                // It was written before the topic was compacted (L-31).
                None => self.superseded.push(record.offset),
                Some(key) => {
                    let key = KeyHash::of(topic, key);
                    self.entries.push(KeyEntry::new(key, record.offset, record.value().is_none()));
                }
            }
            self.next = record.offset.next();
        }
        if !self.is_full(most) {
            self.next = batch.header.last_offset.next();
        }
    }

    fn is_full(&self, most: usize) -> bool {
        self.entries.len() + self.superseded.len() >= most
    }
}

impl Engine {
    /// The partitions that are to be compacted, the dirtiest first.
    pub(super) fn passes_due(&self) -> Result<VecDeque<Arc<PartitionLog>>> {
        let mut due = Vec::new();
        for topic in self.topics().iter().filter(|topic| topic.config.policy().compacts()) {
            for log in &topic.partitions {
                if self.pass_due(log)?.is_some() {
                    due.push((self.standing(topic, log)?.0, Arc::clone(log)));
                }
            }
        }
        dirtiest_first(&mut due);
        Ok(due.into_iter().map(|(_, log)| log).collect())
    }

    /// The pass that is due for a partition now.
    pub(super) fn pass_due(&self, log: &Arc<PartitionLog>) -> Result<Option<Pass>> {
        let Some(topic) = self.compacted_topic_of(log) else { return Ok(None) };
        let now_ms = self.options.clock.now_ms();
        let (standing, compaction) = self.standing(&topic, log)?;
        let expired = compaction.horizons.expired(now_ms);
        let (phase, until) = if standing.is_due(&topic.config.compaction_limits(), now_ms) {
            (Phase::Read(Dirty::new(standing.from, compaction.compacted, expired)), standing.until)
        } else if expired > Offset::ZERO {
            // Nobody misses a tombstone, so it may go before the pass has come to its end.
            (Phase::Read(Dirty::new(compaction.compacted, Offset::ZERO, expired)), compaction.compacted)
        } else if !log.has_readers_of_table() && self.store.superseded(log.id, 1)?.is_some() {
            (Phase::Drop(Drops::default()), standing.from)
        } else {
            return Ok(None);
        };
        Ok(Some(Pass { log: Arc::clone(log), until, phase }))
    }

    /// How a partition stands with compaction.
    pub(crate) fn standing(&self, topic: &Topic, log: &PartitionLog) -> Result<(Standing, Compaction)> {
        let compaction = self.store.compaction(log.id)?;
        let segments = self.store.segments(log.id)?;
        let limits = topic.config.compaction_limits();
        let now_ms = self.options.clock.now_ms();
        Ok((Standing::of(&segments, log.log_start(), compaction.compacted, &limits, now_ms), compaction))
    }

    /// Goes on with a pass until it is done, or the budget is used up; gives back what is left of it.
    pub(super) fn go_on_compacting(&self, mut pass: Pass, work: &mut Work) -> Result<Option<Pass>> {
        loop {
            if self.compaction_step(&mut pass, work)? == Step::Done {
                return Ok(None);
            }
            if work.is_over() {
                return Ok(Some(pass));
            }
        }
    }

    fn compaction_step(&self, pass: &mut Pass, work: &mut Work) -> Result<Step> {
        let Some(topic) = self.compacted_topic_of(&pass.log) else { return Ok(Step::Done) };
        match &mut pass.phase {
            Phase::Read(dirty) => {
                if self.read_dirty(&pass.log, dirty, pass.until)? == Step::Done {
                    let dirty = std::mem::replace(dirty, Dirty::new(Offset::ZERO, Offset::ZERO, Offset::ZERO));
                    pass.phase = Phase::Merge(self.begin_merge(&pass.log, dirty)?);
                }
                Ok(Step::More)
            }
            Phase::Merge(merge) => {
                if self.merge_step(&topic, &pass.log, merge, work)? == Step::Done {
                    pass.phase = Phase::Drop(Drops::default());
                }
                Ok(Step::More)
            }
            Phase::Drop(drops) => {
                if self.drop_step(&pass.log, drops, work)? == Step::More {
                    return Ok(Step::More);
                }
                let Compaction { compacted, .. } = self.store.compaction(pass.log.id)?;
                if compacted < pass.until {
                    let from = compacted.max(pass.log.log_start());
                    pass.phase = Phase::Read(Dirty::new(from, compacted, Offset::ZERO));
                    return Ok(Step::More);
                }
                work.report.compacted += 1;
                Ok(Step::Done)
            }
        }
    }

    /// Reads some dirty records; `Done` when there are no more, or no room for more.
    fn read_dirty(&self, log: &PartitionLog, dirty: &mut Dirty, until: Offset) -> Result<Step> {
        // Somebody may have deleted records meanwhile.
        dirty.next = dirty.next.max(log.log_start());
        let most = self.options.compaction_records;
        if dirty.next >= until || dirty.is_full(most) {
            return Ok(Step::Done);
        }
        let mut batches = Vec::new();
        self.store.read(log.id, log.topic_id, (dirty.next, until), READ_STEP, &mut batches)?;
        batches.iter().for_each(|batch| dirty.take(log.topic_id, batch, most));
        Ok(Step::More)
    }

    fn begin_merge(&self, log: &PartitionLog, mut dirty: Dirty) -> Result<Merge> {
        keep_last(&mut dirty.entries, &mut dirty.superseded);
        let log_start = log.log_start();
        let sweeps = dirty.expired > Offset::ZERO || log_start > self.store.compaction(log.id)?.swept;
        let blocks = if sweeps { Blocks::All } else { Blocks::Touched };
        let has_tombstones = dirty.entries.iter().any(|entry| entry.is_tombstone());
        let cursor = Some(MergeCursor::default());
        Ok(Merge { dirty, has_tombstones, log_start, blocks, cursor, noted: 0 })
    }

    /// Enters some keys, notes some of what goes, or does what is left: a small pass needs one step.
    fn merge_step(&self, topic: &Topic, log: &Arc<PartitionLog>, merge: &mut Merge, work: &mut Work) -> Result<Step> {
        let Some(turn) = self.turn_to_compact(log)? else { return Ok(Step::Done) };
        let started = Instant::now();
        let Dirty { next, entries, superseded, since, expired } = &merge.dirty;
        let what = KeyMerge {
            new: entries,
            since: *since,
            expired: Expired { log_start: merge.log_start, tombstones: *expired },
            blocks: merge.blocks,
        };
        let horizon = merge.has_tombstones.then(|| Horizon {
            end: *next,
            at_ms: self.options.clock.now_ms().saturating_add(topic.config.compaction_limits().delete_retention_ms),
        });
        let to_note = superseded.get(merge.noted..).unwrap_or_default();
        let (to_note, behind) = to_note.split_at_checked(NOTE_STEP).unwrap_or((to_note, &[]));
        let (cursor, noted) = self.tidy_store(|update| {
            if let Some(cursor) = merge.cursor
                && let Some(cursor) = update.merge_keys(log.id, &what, cursor, MERGE_STEP)?
            {
                return Ok((Some(cursor), 0));
            }
            update.add_superseded(log.id, *since, to_note.to_vec())?;
            if behind.is_empty() {
                let mut row = update.compaction(log.id)?;
                row.compacted = row.compacted.max(*next);
                if merge.blocks == Blocks::All {
                    row.swept = merge.log_start;
                }
                row.last_ms = Some(self.options.clock.now_ms());
                row.horizons.forget_below(*expired);
                horizon.into_iter().for_each(|horizon| row.horizons.add(horizon));
                update.put_compaction(log.id, &row)?;
            }
            Ok((None, to_note.len()))
        })?;
        let is_done = cursor.is_none() && behind.is_empty();
        merge.cursor = cursor;
        merge.noted += noted;
        drop(turn);
        work.step(Freed::default(), started);
        Ok(if is_done { Step::Done } else { Step::More })
    }

    /// Drops some records; `Done` when none is left to drop, or somebody reads the partition's table.
    fn drop_step(&self, log: &Arc<PartitionLog>, drops: &mut Drops, work: &mut Work) -> Result<Step> {
        let superseded = match &drops.superseded {
            Some(superseded) => superseded,
            None => match self.store.superseded(log.id, self.options.compaction_records)? {
                Some(superseded) => drops.superseded.insert(superseded),
                None => return Ok(Step::Done),
            },
        };
        let Some(turn) = self.turn_to_compact(log)? else { return Ok(Step::Done) };
        if log.has_readers_of_table() {
            return Ok(Step::Done);
        }
        let started = Instant::now();
        let rest = superseded.offsets.get(drops.done..).unwrap_or_default();
        let dropped = self.tidy_store(|update| {
            let packing = Packing { topic: log.topic_id, compression_type: log.layout().compression_type };
            let dropped = update.drop_records(log.id, packing, rest, self.options.drop_step())?;
            if dropped.done >= rest.len() {
                update.forget_superseded(log.id, superseded.up_to)?;
            }
            Ok(dropped)
        })?;
        drops.done += dropped.done;
        if dropped.done >= rest.len() {
            *drops = Drops::default();
        }
        self.cache.lock().forget(log.id);
        self.room_was_made();
        drop(turn);
        work.step(dropped.freed, started);
        Ok(Step::More)
    }

    /// Waits for `changing_store`; `None` when the topic is gone or not compacted any more.
    fn turn_to_compact(&self, log: &Arc<PartitionLog>) -> Result<Option<Turn<'_>>> {
        let turn = self.turn_to_change()?;
        Ok(self.compacted_topic_of(log).map(|_| turn))
    }

    fn compacted_topic_of(&self, log: &PartitionLog) -> Option<Arc<Topic>> {
        // Chunks that this build can't read it can't compact either.
        let is_compacted =
            |topic: &Arc<Topic>| topic.config.policy().compacts() && topic.config.compression().is_supported();
        self.topic_of(log).filter(is_compacted)
    }
}
