//! The consumer itself: assignment, polling, positions.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::options::{ConsumerBuilder, OffsetReset};
use super::positions::{Assigned, Budget, Lost, Position};
use super::receiver::RecordReceiver;
use super::records::ConsumerRecords;
use crate::broker::Broker;
use crate::engine::{Engine, PartitionLog, Waiter};
use crate::error::{Error, Result};
use crate::types::{Offset, OffsetAndTimestamp, OffsetSpec, TopicPartition};

/// Reads records from the partitions that it was assigned, each from a position of its own.
///
/// ```
/// use brooklet::{Broker, NewTopic, OffsetReset, OffsetSpec, ProducerRecord, TopicPartition};
/// use std::time::Duration;
///
/// let broker = Broker::in_memory()?;
/// broker.create_topic(NewTopic::new("orders", 1))?;
/// for value in ["a", "b", "c"] {
///     broker.producer().send(ProducerRecord::to("orders").value(value))?.wait()?;
/// }
/// let partition = TopicPartition::new("orders", 0);
/// let mut consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign([partition.clone()])?;
/// assert_eq!(consumer.poll(Duration::ZERO)?.len(), 3);
/// consumer.seek(&partition, OffsetSpec::Offset(1))?;
/// assert_eq!(consumer.poll(Duration::ZERO)?.iter().next().unwrap().value(), Some(&b"b"[..]));
/// # Ok::<(), brooklet::Error>(())
/// ```
///
/// # When does `poll` wait, and what wakes it?
///
/// While no assigned partition has a record at its position, `poll` sleeps: it costs no CPU. The acknowledgement of a record in
/// one of them wakes it, the [`Waker`], the creation of a topic that it was assigned and that was deleted, and the closing of the
/// broker. A consumer never waits for a producer, a sync or another consumer.
///
/// # How do many consumers share a log?
///
/// Each has its own positions. They share the tail in memory and the chunks read from the store, so one more reader of the same
/// records costs next to nothing. One that falls behind or stops delays nobody, and keeps no space from being reused.
///
/// # What if its topic is deleted?
///
/// `poll` returns nothing from it. When a topic is created again under the name, it is another topic: reading starts anew by
/// the offset reset (A-5).
pub struct Consumer {
    options: ConsumerBuilder,
    waiter: Arc<Waiter>,
    assigned: Vec<Assigned>,
    by_name: HashMap<TopicPartition, usize>,
    /// The partition whose turn it is (C-10).
    turn: usize,
}

/// Ends a [`Consumer::poll`] from another thread. Cheap to clone.
///
/// ```
/// # use brooklet::{Broker, Error, NewTopic};
/// # use std::time::Duration;
/// # let broker = Broker::in_memory()?;
/// # broker.create_topic(NewTopic::new("orders", 1))?;
/// let mut consumer = broker.consumer().assign([("orders", 0)])?;
/// let waker = consumer.waker();
/// let thread = std::thread::spawn(move || waker.wake());
/// assert!(matches!(consumer.poll(Duration::MAX), Err(Error::Wakeup)));
/// # thread.join().unwrap();
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Waker {
    waiter: Arc<Waiter>,
}

impl Waker {
    /// Makes the running `poll`, or else the next one, fail with [`Error::Wakeup`], once (C-18). No record is lost.
    pub fn wake(&self) {
        self.waiter.wake();
    }
}

impl Consumer {
    pub(super) fn new(options: ConsumerBuilder) -> Self {
        let waiter = Arc::new(Waiter::default());
        options.broker.engine().watch(&waiter);
        Self { options, waiter, assigned: Vec::new(), by_name: HashMap::new(), turn: 0 }
    }

    /// Reads these partitions instead of the present ones (C-4). Those that stay keep their position and whether they are
    /// paused. None at all ends the assignment.
    ///
    /// # Errors
    ///
    /// [`UnknownTopicOrPartition`](Error::UnknownTopicOrPartition) and [`Closed`](Error::Closed); the assignment is then as before.
    pub fn assign<P: Into<TopicPartition>>(&mut self, partitions: impl IntoIterator<Item = P>) -> Result<()> {
        let engine = self.engine();
        engine.check_open()?;
        let mut logs = Vec::new();
        for partition in partitions {
            let partition: TopicPartition = partition.into();
            let log = Arc::clone(engine.topic(partition.topic())?.partition(partition.partition())?);
            logs.push(log);
        }
        let mut before: HashMap<TopicPartition, Assigned> =
            self.assigned.drain(..).map(|assigned| (assigned.log.name.clone(), assigned)).collect();
        self.by_name.clear();
        for log in logs {
            if self.by_name.contains_key(&log.name) {
                continue;
            }
            self.by_name.insert(log.name.clone(), self.assigned.len());
            let kept = before.remove(&log.name).filter(|kept| Arc::ptr_eq(&kept.log, &log));
            self.assigned.push(kept.unwrap_or_else(|| Assigned::new(log, &self.waiter)));
        }
        before.values().for_each(|removed| removed.log.remove_waiter(&self.waiter));
        self.turn = 0;
        Ok(())
    }

    /// The partitions that it reads.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.assigned.iter().map(|assigned| assigned.log.name.clone()).collect()
    }

    /// Returns records as soon as there are some, or none when `timeout` passes. [`Duration::ZERO`] never waits;
    /// [`Duration::MAX`] waits for ever.
    ///
    /// Within a partition they come in the order of their offsets, each once, from the position on (C-10). A partition that was
    /// read ahead is given out before the next one's turn, so none starves. The limits of [`ConsumerBuilder`] apply.
    ///
    /// # Errors
    ///
    /// Positions do not move when it fails:
    ///
    /// - [`Wakeup`](Error::Wakeup) after [`Waker::wake`];
    /// - [`NoOffsetForPartition`](Error::NoOffsetForPartition), [`OffsetOutOfRange`](Error::OffsetOutOfRange) with
    ///   [`OffsetReset::None`];
    /// - [`IllegalState`](Error::IllegalState) while nothing is assigned (C-8);
    /// - [`Corrupt`](Error::Corrupt), naming partition and offset, [`Io`](Error::Io);
    /// - [`Closed`](Error::Closed), also when the broker closes meanwhile.
    pub fn poll(&mut self, timeout: Duration) -> Result<ConsumerRecords> {
        let mut deadline = None;
        loop {
            if self.waiter.take_wake() {
                return Err(Error::Wakeup);
            }
            self.engine().check_open()?;
            let records = self.read()?;
            if !records.is_empty() || timeout.is_zero() {
                return Ok(records);
            }
            // `None` inside: a time-out beyond what the clock can say is none.
            let deadline = *deadline.get_or_insert_with(|| Instant::now().checked_add(timeout));
            self.waiter.prepare();
            if self.should_look_again() {
                self.waiter.cancel();
                continue;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.waiter.cancel();
                return Ok(records);
            }
            self.waiter.wait(deadline);
        }
    }

    /// Moves a position (C-23). Wins over the offset reset. An offset outside the log is accepted, the next `poll` judges it;
    /// the other specs are looked up when the position is needed (C-24).
    ///
    /// # Errors
    ///
    /// [`IllegalState`](Error::IllegalState) when the partition is not assigned; [`IllegalArgument`](Error::IllegalArgument)
    /// for a negative time.
    pub fn seek(&mut self, partition: &TopicPartition, to: impl Into<OffsetSpec>) -> Result<()> {
        let position = match to.into() {
            OffsetSpec::Offset(offset) => Position::At(Offset::new(offset)),
            OffsetSpec::Timestamp(timestamp) if timestamp < 0 => {
                return Err(Error::illegal_argument(format!(
                    "timestamp {timestamp} is negative: give milliseconds since 1970"
                )));
            }
            spec => Position::Seek(spec),
        };
        self.assigned_mut(partition)?.seek(position);
        Ok(())
    }

    /// The offset of the next record that `poll` will give of a partition (C-12, C-25). Finds the start position if it has
    /// none yet.
    ///
    /// # Errors
    ///
    /// [`IllegalState`](Error::IllegalState) when the partition is not assigned;
    /// [`NoOffsetForPartition`](Error::NoOffsetForPartition) with [`OffsetReset::None`].
    pub fn position(&mut self, partition: &TopicPartition) -> Result<Offset> {
        let (reset, now_ms) = (self.options.offset_reset, self.now_ms());
        let engine = Arc::clone(self.engine());
        let assigned = self.assigned_mut(partition)?;
        if let Position::At(offset) = assigned.position {
            return Ok(offset);
        }
        match assigned.resolve(&engine, reset, now_ms)? {
            Ok(offset) | Err(Lost::OutOfRange(offset)) => Ok(offset),
            Err(Lost::NoOffset) => Err(Error::NoOffsetForPartition { partitions: vec![partition.clone()] }),
        }
    }

    /// Stops giving records of these partitions; positions stay (C-26).
    ///
    /// # Errors
    ///
    /// [`IllegalState`](Error::IllegalState) when one is not assigned; then none is paused.
    pub fn pause<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Result<()> {
        self.set_paused(partitions, true)
    }

    /// Gives records of these partitions again.
    ///
    /// # Errors
    ///
    /// As [`pause`](Consumer::pause).
    pub fn resume<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Result<()> {
        self.set_paused(partitions, false)
    }

    /// The partitions that are paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.assigned.iter().filter(|assigned| assigned.paused).map(|assigned| assigned.log.name.clone()).collect()
    }

    /// How many offsets lie between the position and the end (C-27); `None` until the position is known.
    ///
    /// # Errors
    ///
    /// [`IllegalState`](Error::IllegalState) when the partition is not assigned.
    pub fn lag(&self, partition: &TopicPartition) -> Result<Option<u64>> {
        let assigned = self.assigned(partition)?;
        Ok(match assigned.position {
            Position::At(offset) => Some(assigned.log.end() - offset),
            Position::Seek(_) | Position::Unset => None,
        })
    }

    /// The log starts of partitions, assigned or not (C-29).
    ///
    /// # Errors
    ///
    /// [`UnknownTopicOrPartition`](Error::UnknownTopicOrPartition), [`Closed`](Error::Closed).
    pub fn beginning_offsets<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<Vec<(TopicPartition, Offset)>> {
        self.offsets(partitions, OffsetSpec::Earliest)
    }

    /// The ends of partitions, assigned or not: the offsets that their next records will get (C-29).
    ///
    /// # Errors
    ///
    /// As [`beginning_offsets`](Consumer::beginning_offsets).
    pub fn end_offsets<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<Vec<(TopicPartition, Offset)>> {
        self.offsets(partitions, OffsetSpec::Latest)
    }

    /// For each partition the first record whose timestamp is at least the given one, in milliseconds since the epoch; `None`
    /// when there is none (C-28). The partitions need not be assigned; positions do not move.
    ///
    /// # Errors
    ///
    /// [`IllegalArgument`](Error::IllegalArgument) for a negative time; as [`beginning_offsets`](Consumer::beginning_offsets);
    /// [`Corrupt`](Error::Corrupt).
    pub fn offsets_for_times<P: Into<TopicPartition>>(
        &self,
        times: impl IntoIterator<Item = (P, i64)>,
    ) -> Result<Vec<(TopicPartition, Option<OffsetAndTimestamp>)>> {
        let engine = self.engine();
        engine.check_open()?;
        let mut found = Vec::new();
        for (partition, timestamp) in times {
            let partition: TopicPartition = partition.into();
            let topic = engine.topic(partition.topic())?;
            let record = engine.find_timestamp(topic.partition(partition.partition())?, timestamp)?;
            found.push((partition, record));
        }
        Ok(found)
    }

    /// A handle that ends a `poll` from another thread.
    pub fn waker(&self) -> Waker {
        Waker { waiter: Arc::clone(&self.waiter) }
    }

    /// Moves the consumer to a thread of its own and gives its records through a channel, to be used in crossbeam's `select!`.
    /// The channel holds at most `capacity` records.
    ///
    /// # Errors
    ///
    /// [`Io`](Error::Io) when no thread can be started.
    pub fn into_receiver(self, capacity: usize) -> Result<RecordReceiver> {
        RecordReceiver::start(self, capacity)
    }

    /// The broker that it reads from.
    pub(super) fn broker(&self) -> &Broker {
        &self.options.broker
    }

    fn engine(&self) -> &Arc<Engine> {
        self.options.broker.engine()
    }

    fn now_ms(&self) -> i64 {
        self.engine().options.clock.now_ms()
    }

    fn assigned(&self, partition: &TopicPartition) -> Result<&Assigned> {
        let assigned = self.by_name.get(partition).and_then(|&i| self.assigned.get(i));
        assigned.ok_or_else(|| not_assigned(partition))
    }

    fn assigned_mut(&mut self, partition: &TopicPartition) -> Result<&mut Assigned> {
        let assigned = self.by_name.get(partition).and_then(|&i| self.assigned.get_mut(i));
        assigned.ok_or_else(|| not_assigned(partition))
    }

    fn set_paused<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>, paused: bool) -> Result<()> {
        let partitions: Vec<_> = partitions.into_iter().collect();
        for partition in &partitions {
            self.assigned(partition)?;
        }
        for partition in partitions {
            self.assigned_mut(partition)?.paused = paused;
        }
        Ok(())
    }

    fn offsets<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
        spec: OffsetSpec,
    ) -> Result<Vec<(TopicPartition, Offset)>> {
        let engine = self.engine();
        engine.check_open()?;
        let mut offsets = Vec::new();
        for partition in partitions {
            let topic = engine.topic(partition.topic())?;
            let log = topic.partition(partition.partition())?;
            let offset = engine.offset_of(log, spec)?.0.unwrap_or(log.end());
            offsets.push((partition.clone(), offset));
        }
        Ok(offsets)
    }

    /// Whether anything changed that the last [`read`](Consumer::read) could not see.
    fn should_look_again(&self) -> bool {
        let reappeared = |assigned: &Assigned| successor(self.engine(), &assigned.log).is_some();
        self.engine().check_open().is_err()
            || self.assigned.iter().any(|assigned| assigned.has_records() || reappeared(assigned))
    }

    /// Gives out what there is now, without waiting.
    fn read(&mut self) -> Result<ConsumerRecords> {
        if self.assigned.is_empty() {
            return Err(Error::illegal_state("nothing is assigned: assign partitions first (C-8)"));
        }
        self.follow_recreated();
        let engine = Arc::clone(self.engine());
        self.resolve_positions(&engine)?;
        let mut budget =
            Budget { records: self.options.max_poll_records, bytes: self.options.fetch_max_bytes, fresh: true };
        let mut records = ConsumerRecords::default();
        // Another round as long as each gives something: what was read ahead may end before the budget does.
        loop {
            let before = records.runs.len();
            let within_budget = self.read_round(&engine, &mut budget, &mut records)?;
            if !within_budget || records.runs.len() == before {
                return Ok(records);
            }
        }
    }

    /// Lets every partition give what was read ahead of it, in turn. `false` when the budget ended it.
    fn read_round(&mut self, engine: &Engine, budget: &mut Budget, records: &mut ConsumerRecords) -> Result<bool> {
        let partition_bytes = self.options.max_partition_fetch_bytes;
        for _ in 0..self.assigned.len() {
            let turn = self.turn;
            let Some(assigned) = self.assigned.get_mut(turn) else { break };
            if assigned.has_records()
                && let Position::At(offset) = assigned.position
            {
                if let Err(error) = assigned.fetch(engine, offset) {
                    // What was given out already is not held back; the next poll meets the error again.
                    return if records.is_empty() { Err(error) } else { Ok(false) };
                }
                if !assigned.give(budget, partition_bytes, &mut records.runs) {
                    return Ok(false);
                }
            }
            self.turn = (turn + 1) % self.assigned.len();
        }
        Ok(true)
    }

    /// Finds the positions of all partitions, paused ones too (C-26).
    fn resolve_positions(&mut self, engine: &Engine) -> Result<()> {
        let reset = self.options.offset_reset;
        let mut no_offset = Vec::new();
        let mut out_of_range = Vec::new();
        let mut now_ms = None;
        for assigned in &mut self.assigned {
            assigned.given = 0;
            if assigned.log.is_deleted() {
                continue;
            }
            let now_ms = match reset {
                OffsetReset::ByDuration(_) => *now_ms.get_or_insert_with(|| engine.options.clock.now_ms()),
                _ => 0,
            };
            match assigned.resolve(engine, reset, now_ms)? {
                Ok(_) => {}
                Err(Lost::NoOffset) => no_offset.push(assigned.log.name.clone()),
                Err(Lost::OutOfRange(offset)) => out_of_range.push((assigned.log.name.clone(), offset)),
            }
        }
        if !no_offset.is_empty() {
            return Err(Error::NoOffsetForPartition { partitions: no_offset });
        }
        if !out_of_range.is_empty() {
            return Err(Error::OffsetOutOfRange { positions: out_of_range });
        }
        Ok(())
    }

    /// Goes over to topics that were deleted and created again.
    fn follow_recreated(&mut self) {
        let engine = Arc::clone(self.options.broker.engine());
        for assigned in &mut self.assigned {
            if let Some(log) = successor(&engine, &assigned.log) {
                assigned.follow(log, &self.waiter);
            }
        }
    }
}

/// The partition of the same name, if `log` was deleted and one was created again: a topic may come back with fewer.
fn successor(engine: &Engine, log: &PartitionLog) -> Option<Arc<PartitionLog>> {
    if !log.is_deleted() {
        return None;
    }
    engine.topic(log.topic.as_str()).ok()?.partition(log.id.partition).ok().cloned()
}

fn not_assigned(partition: &TopicPartition) -> Error {
    Error::illegal_state(format!("partition {partition} is not assigned to this consumer"))
}

impl Drop for Consumer {
    fn drop(&mut self) {
        for assigned in &self.assigned {
            assigned.log.remove_waiter(&self.waiter);
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let positions = self.assigned.iter().map(|assigned| (assigned.log.name.to_string(), assigned.position));
        f.debug_struct("Consumer").field("positions", &positions.collect::<Vec<_>>()).finish_non_exhaustive()
    }
}
