//! The consumer itself: assignment, polling, positions.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::assignment::Assignment;
use super::membership::Membership;
use super::options::{ConsumerBuilder, OffsetReset};
use super::positions::{Assigned, Budget, Given, Lost, Position};
#[cfg(feature = "channel")]
use super::receiver::RecordReceiver;
use super::records::ConsumerRecords;
#[cfg(feature = "channel")]
use crate::broker::Broker;
use crate::engine::{Engine, PartitionLog, Start, Subscription, Waiter};
use crate::error::{Error, Result};
use crate::group::{GroupMembershipOperation, GroupName};
use crate::types::{OffsetSpec, TopicPartition};

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
    pub(super) options: ConsumerBuilder,
    pub(super) waiter: Arc<Waiter>,
    pub(super) assignment: Assignment,
    /// `None` without a group id.
    pub(super) membership: Option<Membership>,
    /// A rebalance listener is running: what would call it again is refused.
    pub(super) in_listener: bool,
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
    pub(super) fn new(options: ConsumerBuilder) -> Result<Self> {
        let waiter = Arc::new(Waiter::default());
        let engine = options.broker.engine();
        engine.check_open()?;
        engine.watch(&waiter);
        let membership = match &options.group {
            None => None,
            Some(group) => {
                let group = engine.group(&GroupName::new(group)?)?;
                Some(Membership::new(group, &options, engine.options.clock.monotonic_ms())?)
            }
        };
        let assignment = Assignment::new(Arc::clone(&waiter));
        Ok(Self { options, waiter, assignment, membership, in_listener: false })
    }

    /// Reads these partitions instead of the present ones (C-4), without being a member of a group. Those that stay keep their
    /// position and whether they are paused. None at all ends the assignment. With automatic commits, the positions are
    /// committed first.
    ///
    /// # Errors
    ///
    /// [`UnknownTopicOrPartition`](Error::UnknownTopicOrPartition) and [`Closed`](Error::Closed);
    /// [`IllegalState`](Error::IllegalState) while it subscribes: [`unsubscribe`](Consumer::unsubscribe) first (C-1). The
    /// assignment is then as before.
    pub fn assign<P: Into<TopicPartition>>(&mut self, partitions: impl IntoIterator<Item = P>) -> Result<()> {
        self.check_not_in_listener()?;
        if self.subscribed().is_some() {
            return Err(Error::illegal_state(
                "this consumer subscribes: unsubscribe before assigning partitions (C-1)",
            ));
        }
        let engine = self.engine();
        engine.check_open()?;
        let mut logs = Vec::new();
        for partition in partitions {
            let partition: TopicPartition = partition.into();
            let log = Arc::clone(engine.topic(partition.topic())?.partition(partition.partition())?);
            logs.push(log);
        }
        self.auto_commit()?;
        self.assignment.replace(logs);
        Ok(())
    }

    /// Reads these topics instead of the present ones (C-2), sharing them with the other members of its group: the next `poll`
    /// joins the group, and follows every change. A topic that does not exist is waited for (C-6). No topics at all:
    /// [`unsubscribe`](Consumer::unsubscribe).
    ///
    /// # Errors
    ///
    /// [`InvalidGroupId`](Error::InvalidGroupId) without a group; [`InvalidTopic`](Error::InvalidTopic);
    /// [`IllegalState`](Error::IllegalState) when partitions are assigned (C-1); [`Closed`](Error::Closed).
    pub fn subscribe(&mut self, topics: impl IntoIterator<Item = impl AsRef<str>>) -> Result<()> {
        let subscription = Subscription::topics(topics)?;
        if subscription.is_empty() {
            return self.unsubscribe();
        }
        self.set_subscription(subscription)
    }

    /// Reads all topics whose *whole* name matches a regular expression, also those that come later (C-3).
    ///
    /// # Errors
    ///
    /// [`InvalidRegularExpression`](Error::InvalidRegularExpression); as [`subscribe`](Consumer::subscribe).
    pub fn subscribe_pattern(&mut self, pattern: &str) -> Result<()> {
        self.set_subscription(Subscription::pattern(pattern)?)
    }

    /// Leaves the group and reads nothing any more. The listener is told what is revoked; nothing is committed, not even
    /// automatically (C-7). Ends an assignment, too.
    ///
    /// # Errors
    ///
    /// What the listener failed with; [`IllegalState`](Error::IllegalState) within a listener. It has left all the same.
    pub fn unsubscribe(&mut self) -> Result<()> {
        self.check_not_in_listener()?;
        self.leave(GroupMembershipOperation::Default, true)
    }

    /// The topics that it subscribes to, or the pattern as `/pattern/`; empty when it does not subscribe.
    pub fn subscription(&self) -> Vec<String> {
        self.subscribed().map(Subscription::names).unwrap_or_default()
    }

    /// Commits the positions if that happens automatically, tells the listener, leaves the group, and waits until everything
    /// that was committed is (C-43). Dropping a consumer does the same, but tells nobody and ignores errors.
    ///
    /// # Errors
    ///
    /// What the last commits or the listener failed with. It is closed all the same.
    pub fn close(self) -> Result<()> {
        self.close_with(GroupMembershipOperation::Default)
    }

    /// [`close`](Consumer::close), and says what becomes of the member (KIP-1092).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn close_with(mut self, operation: GroupMembershipOperation) -> Result<()> {
        let committed = self.auto_commit();
        let left = self.leave(operation, true);
        committed.and(left)
    }

    /// The partitions that it reads.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.assignment.names()
    }

    /// Returns records as soon as there are some, or none when `timeout` passes. [`Duration::ZERO`] never waits;
    /// [`Duration::MAX`] waits for ever.
    ///
    /// Within a partition they come in the order of their offsets, each once, from the position on (C-10). What was read ahead of
    /// a partition is given out before the next one's turn; a partition that reached
    /// [`max_partition_fetch_bytes`](ConsumerBuilder::max_partition_fetch_bytes) gives way at once. So none starves. The other
    /// limits of [`ConsumerBuilder`] end the poll.
    ///
    /// # Errors
    ///
    /// Positions do not move when it fails:
    ///
    /// - [`Wakeup`](Error::Wakeup) after [`Waker::wake`];
    /// - [`NoOffsetForPartition`](Error::NoOffsetForPartition), [`OffsetOutOfRange`](Error::OffsetOutOfRange) with
    ///   [`OffsetReset::None`];
    /// - [`IllegalState`](Error::IllegalState) while it neither subscribes nor has partitions assigned (C-8), and within a
    ///   rebalance listener;
    /// - [`RebalanceListener`](Error::RebalanceListener): the listener failed; the new assignment is in force all the same;
    /// - [`UnreleasedInstanceId`](Error::UnreleasedInstanceId): another consumer of the group has this instance id;
    /// - [`PartitionAssignor`](Error::PartitionAssignor): the group's assignor failed;
    /// - [`Corrupt`](Error::Corrupt), naming partition and offset, as long as the position is there:
    ///   [`skip_damaged`](Consumer::skip_damaged) goes on behind it; [`Io`](Error::Io);
    /// - [`Closed`](Error::Closed), also when the broker closes meanwhile.
    pub fn poll(&mut self, timeout: Duration) -> Result<ConsumerRecords> {
        self.check_not_in_listener()?;
        self.enter_poll();
        self.auto_commit_if_due();
        let records = self.poll_within(timeout);
        self.leave_poll();
        records
    }

    fn poll_within(&mut self, timeout: Duration) -> Result<ConsumerRecords> {
        let mut deadline = None;
        loop {
            if self.waiter.take_wake() {
                return Err(Error::Wakeup);
            }
            self.engine().check_open()?;
            self.rebalance()?;
            let records = self.read()?;
            if !records.is_empty() || timeout.is_zero() {
                return Ok(records);
            }
            // `None` inside: a time-out beyond what the clock can say is none.
            let deadline = *deadline.get_or_insert_with(|| Instant::now().checked_add(timeout));
            self.waiter.prepare();
            let look_again = self.should_look_again();
            // Also when there is something to look at: there may always be, as when a rebalance listener changes the group.
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.waiter.cancel();
                return Ok(records);
            }
            if look_again {
                self.waiter.cancel();
            } else {
                self.waiter.wait(deadline);
            }
        }
    }

    /// A handle that ends a `poll` from another thread.
    pub fn waker(&self) -> Waker {
        Waker { waiter: Arc::clone(&self.waiter) }
    }

    /// Moves the consumer to a thread of its own and gives its records through a channel, to be used in crossbeam's `select!`.
    /// The channel holds at most `capacity` records. Its memory is taken at once, about 100 bytes for each.
    ///
    /// # Errors
    ///
    /// [`IllegalArgument`](Error::IllegalArgument) for a `capacity` above 1,048,576; [`Io`](Error::Io) when no thread can be started; [`IllegalState`](Error::IllegalState) with automatic commits: they would
    /// count records as processed that still wait in the channel.
    #[cfg(feature = "channel")]
    pub fn into_receiver(self, capacity: usize) -> Result<RecordReceiver> {
        if self.options.auto_commit_interval.is_some() {
            return Err(Error::illegal_state(
                "automatic commits would cover records that still wait in the channel: poll, or do without them",
            ));
        }
        RecordReceiver::start(self, capacity)
    }

    /// The broker that it reads from.
    #[cfg(feature = "channel")]
    pub(super) fn broker(&self) -> &Broker {
        &self.options.broker
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        self.options.broker.engine()
    }

    pub(super) fn monotonic_ms(&self) -> i64 {
        self.engine().options.clock.monotonic_ms()
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.engine().options.clock.now_ms()
    }

    /// Whether anything changed that the last [`read`](Consumer::read) could not see.
    fn should_look_again(&self) -> bool {
        let engine = self.engine();
        let follows = self.subscribed().is_none();
        let reappeared = |assigned: &Assigned| follows && successor(engine, &assigned.log).is_some();
        engine.check_open().is_err()
            || self.membership.as_ref().is_some_and(|membership| membership.has_news(engine))
            || self.assignment.partitions.iter().any(|assigned| assigned.has_records() || reappeared(assigned))
    }

    /// Gives out what there is now, without waiting.
    fn read(&mut self) -> Result<ConsumerRecords> {
        if self.assignment.is_empty() && self.subscribed().is_none() {
            return Err(Error::illegal_state("nothing to read: subscribe to topics or assign partitions first (C-8)"));
        }
        self.follow_recreated();
        self.start_at_committed();
        let engine = Arc::clone(self.engine());
        self.resolve_positions(&engine)?;
        let mut budget =
            Budget { records: self.options.max_poll_records, bytes: self.options.fetch_max_bytes, fresh: true };
        let mut records = ConsumerRecords::default();
        let mut passed_over = None;
        // Another round as long as each gives something: what was read ahead may end before the budget does.
        loop {
            let before = records.runs.len();
            let within_budget = self.read_round(&engine, &mut budget, &mut records, &mut passed_over)?;
            if !within_budget || records.runs.len() == before {
                break;
            }
        }
        if let Some(first) = passed_over {
            self.assignment.turn = first;
        }
        Ok(records)
    }

    /// Lets every partition give what was read ahead of it, in turn. `false` when the budget ended it. A partition that reaches
    /// its limit gives way to the next. `passed_over` becomes the first whose next record alone is larger than its limit: only
    /// the first record of a poll may be, so the next poll begins there.
    fn read_round(
        &mut self,
        engine: &Engine,
        budget: &mut Budget,
        records: &mut ConsumerRecords,
        passed_over: &mut Option<usize>,
    ) -> Result<bool> {
        let partition_bytes = self.options.max_partition_fetch_bytes;
        for _ in 0..self.assignment.partitions.len() {
            let turn = self.assignment.turn;
            let Some(assigned) = self.assignment.partitions.get_mut(turn) else { break };
            if assigned.has_records()
                && let Position::At(offset) = assigned.position
            {
                if let Err(error) = assigned.fetch(engine, offset, partition_bytes) {
                    // What was given out already is not held back; the next poll meets the error again.
                    return if records.is_empty() { Err(error) } else { Ok(false) };
                }
                match assigned.give(budget, partition_bytes, &mut records.runs) {
                    Given::Everything => {}
                    Given::UpToItsLimit => {
                        if assigned.given == 0 {
                            passed_over.get_or_insert(turn);
                        }
                    }
                    Given::UpToTheBudget => return Ok(false),
                }
            }
            self.assignment.turn = (turn + 1) % self.assignment.partitions.len();
        }
        Ok(true)
    }

    /// Finds the positions of all partitions, paused ones too (C-26).
    fn resolve_positions(&mut self, engine: &Engine) -> Result<()> {
        let reset = self.options.offset_reset;
        let mut no_offset = Vec::new();
        let mut out_of_range = Vec::new();
        let mut now_ms = None;
        for assigned in &mut self.assignment.partitions {
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

    /// Gives the partitions without a position the one that the group left off at (C-19), or the log start where it has to
    /// read everything (T-8).
    pub(super) fn start_at_committed(&mut self) {
        let Some(membership) = &self.membership else { return };
        for assigned in &mut self.assignment.partitions {
            if assigned.position != Position::Unset {
                continue;
            }
            match membership.group.start_of(assigned.log.id) {
                Start::Committed(offset) => assigned.seek(Position::At(offset)),
                Start::Beginning => assigned.seek(Position::Seek(OffsetSpec::Earliest)),
                Start::Reset => {}
            }
        }
    }

    /// Goes over to topics that were deleted and created again. In a group, the rebalance does.
    fn follow_recreated(&mut self) {
        if self.subscribed().is_some() {
            return;
        }
        let engine = Arc::clone(self.options.broker.engine());
        for assigned in &mut self.assignment.partitions {
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

impl Drop for Consumer {
    fn drop(&mut self) {
        // Nobody is left to be told what fails.
        let _ = self.auto_commit();
        let _ = self.leave(GroupMembershipOperation::Default, false);
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let positions =
            self.assignment.partitions.iter().map(|assigned| (assigned.log.name.to_string(), assigned.position));
        f.debug_struct("Consumer").field("positions", &positions.collect::<Vec<_>>()).finish_non_exhaustive()
    }
}
