//! Taking records and other entries in: checks, room, offset.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::commit::{LargeGroups, in_callback};
use super::sequencer::{Callback, Keys, SendContext, Sequenced, Sequencer};
use super::topics::WantedTopic;
use super::{Engine, check_not_in_clock};
use crate::config::TopicConfig;
use crate::error::{Error, Result};
use crate::record::ProducerRecord;
use crate::types::TopicName;

/// While the disk is full, at most one send in this time tries whether it still is.
const FULL_DISK_RETRY: Duration = Duration::from_millis(500);

/// A record that can't be queued, and the topic that it is for.
pub(super) struct Unplanned<'r> {
    topic: &'r str,
    error: Error,
}

impl Engine {
    /// Puts a record into the open group. Waits for room, at most `max_block`.
    #[inline(always)]
    pub(crate) fn send(
        &self,
        record: &ProducerRecord<'_>,
        keys: Keys,
        mut callback: Option<Callback>,
    ) -> Result<Sequenced> {
        self.queue(
            |sequencer, now_ms| {
                let planned = sequencer.plan(record, SendContext { keys, now_ms, index: 0 });
                let plan = planned.map_err(|error| Unplanned { topic: &record.topic, error })?;
                Ok((plan, plan.bytes))
            },
            |sequencer, plan| sequencer.push(record, plan, callback.take()),
        )
    }

    /// Puts records into the open group, all or none, and in one group. An error names the first bad one by its index.
    pub(crate) fn send_all(&self, records: &[ProducerRecord<'_>], keys: Keys) -> Result<Vec<Sequenced>> {
        self.queue(
            |sequencer, now_ms| {
                let plans = records.iter().enumerate().map(|(index, record)| {
                    let planned = sequencer.plan(record, SendContext { keys, now_ms, index });
                    planned.map_err(|error| Unplanned { topic: &record.topic, error })
                });
                let plans = plans.collect::<Result<Vec<_>, _>>()?;
                let bytes = plans.iter().map(|plan| plan.bytes).sum();
                Ok((plans, bytes))
            },
            |sequencer, plans| {
                records.iter().zip(plans).map(|(record, plan)| sequencer.push(record, plan, None)).collect()
            },
        )
    }

    /// Puts something into the open group. `plan` checks it and says how many bytes it takes; `push` does it, once there is
    /// room. While there is none this makes some, for at most `max_block`, and asks `plan` again.
    #[inline(always)]
    pub(super) fn queue<'r, P, T>(
        &self,
        mut plan: impl FnMut(&mut Sequencer, i64) -> Result<(P, usize), Unplanned<'r>>,
        mut push: impl FnMut(&mut Sequencer, P) -> Result<T>,
    ) -> Result<T> {
        let mut deadline = None;
        loop {
            self.probe_full_disk()?;
            let now_ms = self.options.clock.now_ms();
            let mut sequencer = self.sequencer.lock();
            self.check_may_send(&sequencer)?;
            let (planned, bytes) = match plan(&mut sequencer, now_ms) {
                Ok(planned) => planned,
                Err(Unplanned { topic, error }) => {
                    drop(sequencer);
                    self.auto_create(topic, error)?;
                    continue;
                }
            };
            if let Some(queued) = self.push_if_room(sequencer, bytes, |sequencer| push(sequencer, planned))? {
                return Ok(queued);
            }
            self.make_room(bytes, *deadline.get_or_insert_with(|| self.block_deadline()))?;
        }
    }

    /// Takes the room and pushes; `None` when there is no room now.
    #[inline(always)]
    pub(super) fn push_if_room<T>(
        &self,
        mut sequencer: MutexGuard<'_, Sequencer>,
        bytes: usize,
        push: impl FnOnce(&mut Sequencer) -> Result<T>,
    ) -> Result<Option<T>> {
        if !self.reserve(bytes)? {
            return Ok(None);
        }
        let (was_empty, bytes_before) = (sequencer.group().is_empty(), sequencer.group().bytes);
        let queued = push(&mut sequencer)?;
        let gets_large =
            bytes_before < self.options.large_group() && self.options.large_group() <= sequencer.group().bytes;
        // Otherwise the background thread was told before.
        let due = if was_empty || gets_large { self.open_group_due(&sequencer) } else { None };
        drop(sequencer);
        due.into_iter().for_each(|due| self.bell.ring_unless_awake_by(due));
        Ok(Some(queued))
    }

    pub(super) fn check_may_send(&self, sequencer: &Sequencer) -> Result<()> {
        check_not_in_clock()?;
        if sequencer.closed { Err(Error::Closed) } else { self.health.check() }
    }

    /// Creates the topic of a send that failed for want of it, if the broker was told to.
    fn auto_create(&self, topic: &str, error: Error) -> Result<()> {
        match (self.options.auto_create_topics, &error) {
            (Some(partitions), Error::UnknownTopicOrPartition { partition: None, .. }) => {
                let name = TopicName::new(topic)?;
                let wanted = WantedTopic { name, partitions, config: TopicConfig::default() };
                match self.create_topics(&[wanted]) {
                    Ok(_) | Err(Error::TopicAlreadyExists { .. }) => Ok(()),
                    Err(error) => Err(error),
                }
            }
            _ => Err(error),
        }
    }

    /// How many partitions a topic has; it is created first if sends do that.
    pub(crate) fn partition_count(&self, topic: &str) -> Result<u32> {
        match self.topic(topic) {
            Ok(topic) => Ok(topic.partition_count()),
            Err(error) => {
                self.auto_create(topic, error)?;
                self.topic(topic).map(|topic| topic.partition_count())
            }
        }
    }

    /// When the background thread has to commit the open group.
    #[inline]
    fn open_group_due(&self, sequencer: &Sequencer) -> Option<Instant> {
        let group = sequencer.group();
        self.group_due_at(group.opened_at?, group.bytes)
    }

    /// Takes `bytes` of `buffer_memory`; `false` when they are not free. The sequencer is locked.
    fn reserve(&self, bytes: usize) -> Result<bool> {
        let limit = self.options.buffer_memory;
        if bytes > limit {
            return Err(Error::RecordTooLarge { size: bytes, limit, limit_name: "buffer_memory" });
        }
        Ok(self.room.take(bytes))
    }

    /// Commits what is open and moves it into the store, so that it takes no memory; fails when that is not enough by
    /// the deadline (P-10).
    pub(super) fn make_room(&self, bytes: usize, deadline: Instant) -> Result<()> {
        if in_callback() || Instant::now() >= deadline {
            return Err(Error::BufferExhausted { buffer_memory: self.options.buffer_memory });
        }
        // That may be enough, and then the open group can go on growing until it is its turn.
        self.wait_for_group_under_way(deadline);
        if self.room.has(bytes) {
            return Ok(());
        }
        self.commit_open_group(LargeGroups::ToStore)?;
        if self.room.has(bytes) { Ok(()) } else { self.checkpoint_for_room(bytes, deadline) }
    }

    pub(super) fn block_deadline(&self) -> Instant {
        let now = Instant::now();
        // A deadline beyond what the clock can say is as good as none.
        now.checked_add(self.options.max_block).unwrap_or(now + Duration::from_secs(u32::MAX.into()))
    }

    /// On a full disk, finds out whether there is room again; nothing is queued while there is none.
    #[inline]
    pub(super) fn probe_full_disk(&self) -> Result<()> {
        if !self.storage_full.load(Ordering::SeqCst) {
            return Ok(());
        }
        let full = || Err(Error::StorageFull { path: self.path.clone() });
        // A callback can't wait for the store: who changes it may be waiting for the commit that runs the callback.
        if in_callback() {
            return full();
        }
        {
            let mut probed_at = self.probed_at.lock();
            let now = Instant::now();
            if probed_at.is_some_and(|at| now < at + FULL_DISK_RETRY) {
                return full();
            }
            *probed_at = Some(now);
        }
        self.checkpoint_oldest()
    }
}
