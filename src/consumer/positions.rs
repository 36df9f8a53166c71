//! One assigned partition: its position, and what was read ahead of it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::options::OffsetReset;
use super::records::Run;
use crate::codec::{Place, RecordBatch};
use crate::engine::{Engine, PartitionLog, Waiter};
use crate::error::Result;
use crate::types::{Offset, OffsetSpec};

/// Bytes read from the log at once: a section of a chunk after a seek, twice as much each time reading goes on from there.
const MIN_READ_AHEAD: usize = 4 << 10;
const MAX_READ_AHEAD: usize = 256 << 10;

/// Where the next record is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// At this offset; it may lie outside the log.
    At(Offset),
    /// To be found when it is needed (C-24).
    Seek(OffsetSpec),
    /// Not chosen yet: the reset rule decides.
    Unset,
}

/// Why a partition can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// No position, and the reset rule is `None`.
    NoOffset,
    /// The position is outside the log, and the reset rule is `None`.
    OutOfRange(Offset),
}

/// A partition that a consumer reads.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) log: Arc<PartitionLog>,
    pub(super) position: Position,
    pub(super) paused: bool,
    /// Batches from the position on, the first one entered at `place`.
    fetched: VecDeque<Arc<RecordBatch>>,
    place: Option<Place>,
    read_ahead: usize,
    /// Bytes that the running `poll` has given out.
    pub(super) given: usize,
}

/// Why a partition stopped giving records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// All that was read ahead of it was given out.
    Everything,
    /// It reached its own limit, `max_partition_fetch_bytes`.
    UpToItsLimit,
    /// The budget of the poll is used up.
    UpToTheBudget,
}

/// What one `poll` may still give.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) records: usize,
    pub(super) bytes: usize,
    /// Nothing was given yet: the first record comes whatever its size.
    pub(super) fresh: bool,
}

impl Assigned {
    pub(super) fn new(log: Arc<PartitionLog>, waiter: &Arc<Waiter>) -> Self {
        log.add_waiter(waiter);
        Self {
            log,
            position: Position::Unset,
            paused: false,
            fetched: VecDeque::new(),
            place: None,
            read_ahead: MIN_READ_AHEAD,
            given: 0,
        }
    }

    /// Moves the position. What was read ahead is dropped (C-13).
    pub(super) fn seek(&mut self, position: Position) {
        self.position = position;
        self.fetched.clear();
        self.place = None;
        self.read_ahead = MIN_READ_AHEAD;
    }

    /// Goes over to the topic that was created again under the same name. The old position means nothing in it.
    pub(super) fn follow(&mut self, log: Arc<PartitionLog>, waiter: &Arc<Waiter>) {
        self.log.remove_waiter(waiter);
        log.add_waiter(waiter);
        self.log = log;
        self.seek(Position::Unset);
    }

    /// Finds out where the position is, within the log: `Err` when the reset rule forbids to guess.
    pub(super) fn resolve(&mut self, engine: &Engine, reset: OffsetReset, now_ms: i64) -> Result<Result<Offset, Lost>> {
        let spec = match self.position {
            Position::At(offset) if offset >= self.log.log_start() && offset <= self.log.end() => {
                return Ok(Ok(offset));
            }
            Position::Seek(spec) => spec,
            Position::At(offset) => match reset_spec(reset, now_ms) {
                Some(spec) => spec,
                None => return Ok(Err(Lost::OutOfRange(offset))),
            },
            Position::Unset => match reset_spec(reset, now_ms) {
                Some(spec) => spec,
                None => return Ok(Err(Lost::NoOffset)),
            },
        };
        let offset = engine.offset_of(&self.log, spec)?.0.unwrap_or(self.log.end());
        self.seek(Position::At(offset));
        Ok(Ok(offset))
    }

    /// Whether a record can be read at the position.
    pub(super) fn has_records(&self) -> bool {
        match self.position {
            Position::At(offset) => !self.paused && !self.log.is_deleted() && offset != self.log.end(),
            Position::Seek(_) | Position::Unset => false,
        }
    }

    /// The damaged records before which the position stands, if it does.
    pub(super) fn damage_ahead(&self, engine: &Engine) -> Result<Option<Range<Offset>>> {
        // What was read ahead is sound.
        let Position::At(from) = self.position else { return Ok(None) };
        if self.place.is_some() {
            return Ok(None);
        }
        let next = engine.first_undamaged(&self.log, from)?;
        Ok((next > from).then_some(from..next))
    }

    /// Reads ahead from `offset`, the resolved position, unless something is there already. It is not much more than `most` bytes.
    pub(super) fn fetch(&mut self, engine: &Engine, offset: Offset, most: usize) -> Result<()> {
        if self.place.is_some() {
            return Ok(());
        }
        let mut from = offset;
        loop {
            let mut batches = Vec::new();
            engine.read(&self.log, from, self.read_ahead.min(most.max(MIN_READ_AHEAD)), &mut batches)?;
            self.read_ahead = (self.read_ahead * 2).min(MAX_READ_AHEAD);
            let Some(behind) = batches.last().map(|batch| batch.header.last_offset.next()) else { return Ok(()) };
            self.fetched = batches.into();
            self.enter(offset);
            // Compaction may have dropped the records at the end of what a chunk covers.
            if self.place.is_some() {
                return Ok(());
            }
            from = behind;
        }
    }

    /// Gives out runs until the budget, the limit of the partition or what was read ahead is used up. Moves the position past
    /// them.
    pub(super) fn give(&mut self, budget: &mut Budget, partition_bytes: usize, runs: &mut Vec<Run>) -> Given {
        while let (Some(place), Some(batch)) = (self.place, self.fetched.front()) {
            let own_limit = partition_bytes.saturating_sub(self.given);
            let (count, end) = take(batch, place, budget.records, budget.bytes.min(own_limit), budget.fresh);
            if count == 0 {
                let is_own = budget.records > 0 && own_limit < budget.bytes;
                return if is_own { Given::UpToItsLimit } else { Given::UpToTheBudget };
            }
            let bytes = end.index().saturating_sub(place.index());
            budget.fresh = false;
            budget.records -= count as usize;
            budget.bytes = budget.bytes.saturating_sub(bytes);
            self.given += bytes;
            let (log, batch) = (Arc::clone(&self.log), Arc::clone(batch));
            runs.push(Run { log, batch, from: place, count, next: end.next_offset });
            self.position = Position::At(end.next_offset);
            self.place = Some(end);
            if end.remaining == 0 {
                self.fetched.pop_front();
                self.enter(end.next_offset);
            }
        }
        Given::Everything
    }

    /// Finds the place of `offset` in the first batch that reaches it.
    fn enter(&mut self, offset: Offset) {
        self.place = None;
        while let Some(batch) = self.fetched.front() {
            self.place = batch.find(offset);
            if self.place.is_some() {
                return;
            }
            self.fetched.pop_front();
        }
    }
}

/// How many records from `place` on fit into `records` and `bytes`, and the place behind them. The very first one always
/// fits.
fn take(batch: &RecordBatch, place: Place, records: usize, bytes: usize, fresh: bool) -> (u32, Place) {
    let rest = batch.records().len().saturating_sub(place.index());
    if place.remaining as usize <= records && rest <= bytes {
        return (place.remaining, Place::behind(&batch.header));
    }
    let mut walk = batch.walk(place);
    let mut taken = (0, place);
    while (taken.0 as usize) < records && walk.pass().is_some() {
        let length = walk.place().index().saturating_sub(place.index());
        if length > bytes && !(fresh && taken.0 == 0) {
            break;
        }
        taken = (taken.0 + 1, walk.place());
    }
    taken
}

fn reset_spec(reset: OffsetReset, now_ms: i64) -> Option<OffsetSpec> {
    match reset {
        OffsetReset::Earliest => Some(OffsetSpec::Earliest),
        OffsetReset::Latest => Some(OffsetSpec::Latest),
        OffsetReset::ByDuration(age) => Some(OffsetSpec::Timestamp(before(now_ms, age))),
        OffsetReset::None => None,
    }
}

/// `age` before `now_ms`; not before the epoch.
fn before(now_ms: i64, age: Duration) -> i64 {
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    now_ms.saturating_sub(age).max(0)
}
