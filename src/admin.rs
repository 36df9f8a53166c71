//! Administration: Kafka's verbs, on the broker.

mod groups;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::broker::Broker;
use crate::compaction::{Standing, dirty_ratio};
use crate::config::{ConfigEntry, TopicConfig};
use crate::engine::{Compaction, PartitionLog, Topic, Usage, WantedTopic};
use crate::error::{Error, Result};
use crate::inspect::{CheckReport, Stats, ratio};
use crate::types::{Offset, OffsetSpec, TopicId, TopicName, TopicPartition};

/// A topic to create.
///
/// ```
/// use brooklet::{Broker, NewTopic, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// let topic = NewTopic::new("orders", 3).config(TopicConfig::default().max_message_bytes(10_000));
/// assert_eq!(broker.create_topic(topic)?.partitions().len(), 3);
/// # Ok::<(), brooklet::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct NewTopic {
    name: String,
    partitions: u32,
    config: TopicConfig,
}

impl NewTopic {
    /// A topic of this name, with 1 to 100,000 partitions. Checked when it is created.
    pub fn new(name: impl Into<String>, partitions: u32) -> Self {
        Self { name: name.into(), partitions, config: TopicConfig::default() }
    }

    /// Sets its configuration.
    pub fn config(mut self, config: TopicConfig) -> Self {
        self.config = config;
        self
    }

    fn checked(self) -> Result<WantedTopic> {
        Ok(WantedTopic { name: TopicName::new(self.name)?, partitions: self.partitions, config: self.config })
    }
}

/// What a topic looks like now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TopicDescription {
    name: TopicName,
    id: TopicId,
    created_ms: i64,
    partitions: Vec<PartitionDescription>,
    config: TopicConfig,
}

impl TopicDescription {
    fn of(topic: &Topic, usage: &[Usage]) -> Self {
        let partition = |(log, usage): (&Arc<PartitionLog>, &Usage)| PartitionDescription {
            partition: log.id.partition,
            log_start: log.log_start(),
            end: log.end(),
            stored_bytes: usage.bytes,
            plain_bytes: usage.plain_bytes,
            segments: usage.segments,
            compaction: usage.compaction.as_ref().map(|(standing, row)| PartitionCompaction::of(standing, row)),
        };
        Self {
            name: topic.name.clone(),
            id: topic.id,
            created_ms: topic.created_ms,
            partitions: topic.partitions.iter().zip(usage).map(partition).collect(),
            config: topic.config.clone(),
        }
    }

    /// The topic's name.
    pub fn name(&self) -> &TopicName {
        &self.name
    }

    /// Its identity: another one after it is deleted and created again (T-5).
    pub fn id(&self) -> TopicId {
        self.id
    }

    /// When it was created, in milliseconds since the epoch.
    pub fn created_ms(&self) -> i64 {
        self.created_ms
    }

    /// Its partitions, by number.
    pub fn partitions(&self) -> &[PartitionDescription] {
        &self.partitions
    }

    /// Its configuration.
    pub fn config(&self) -> &TopicConfig {
        &self.config
    }

    /// Every configuration with its value and source (T-13).
    pub fn config_entries(&self) -> Vec<ConfigEntry> {
        self.config.entries()
    }
}

impl fmt::Display for TopicDescription {
    /// As `kafka-topics` prints it: `orders (3 partitions)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.partitions.len();
        write!(f, "{} ({count} partition{})", self.name, if count == 1 { "" } else { "s" })
    }
}

/// Where a partition starts and ends, and what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its number.
    pub partition: u32,
    /// The smallest readable offset.
    pub log_start: Offset,
    /// The offset that the next record will get.
    pub end: Offset,
    /// Bytes of its chunks in the store: what `retention.bytes` counts. Records that are still in the journal only are not
    /// in it, up to `checkpoint_bytes` of them.
    pub stored_bytes: u64,
    /// What `stored_bytes` would be without compression: the same when nothing is compressed.
    pub plain_bytes: u64,
    /// Segments in the store.
    pub segments: u64,
    /// How it stands with compaction; `None` unless its topic is compacted.
    pub compaction: Option<PartitionCompaction>,
}

impl PartitionDescription {
    /// How many times less its chunks take than they would without compression; 1 when there are none.
    pub fn compression_ratio(&self) -> f64 {
        ratio(self.plain_bytes, self.stored_bytes)
    }
}

/// How a partition stands with compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionCompaction {
    /// Where the last clean that compacted it came to: [`latest`](Broker::latest) and [`table`](Broker::table) know the records
    /// below.
    pub compacted: Offset,
    /// Bytes of the segments that were compacted.
    pub clean_bytes: u64,
    /// Bytes of the segments that the next clean may compact: closed ones, older than `min.compaction.lag.ms`.
    pub dirty_bytes: u64,
    /// Keys in the index, those of tombstones included.
    pub keys: u64,
    /// When it was compacted last, in milliseconds since the epoch.
    pub last_ms: Option<i64>,
}

impl PartitionCompaction {
    fn of(standing: &Standing, compaction: &Compaction) -> Self {
        Self {
            compacted: compaction.compacted,
            clean_bytes: standing.clean_bytes,
            dirty_bytes: standing.dirty_bytes,
            keys: compaction.keys,
            last_ms: compaction.last_ms,
        }
    }

    /// The share of these bytes that is dirty: what `min.cleanable.dirty.ratio` is compared with (L-26). 0 of nothing.
    pub fn dirty_ratio(&self) -> f64 {
        dirty_ratio(self.clean_bytes, self.dirty_bytes)
    }
}

impl Broker {
    /// Creates a topic. When this returns it exists durably, in every [`Durability`](crate::Durability).
    ///
    /// # Errors
    ///
    /// - [`InvalidTopic`](crate::Error::InvalidTopic) for a bad name or one that collides with another topic's (T-1, T-2);
    /// - [`TopicAlreadyExists`](crate::Error::TopicAlreadyExists);
    /// - [`InvalidPartitions`](crate::Error::InvalidPartitions) for a count outside 1 to 100,000;
    /// - [`StorageFull`](crate::Error::StorageFull); nothing was created;
    /// - [`Closed`](crate::Error::Closed), [`ReopenRequired`](crate::Error::ReopenRequired).
    pub fn create_topic(&self, topic: NewTopic) -> Result<TopicDescription> {
        let created = self.create_topics([topic])?.into_iter().next();
        created.ok_or_else(|| Error::illegal_state("the topic was deleted while it was created: create it again"))
    }

    /// Creates several topics, all or none. When this returns they exist durably.
    ///
    /// ```
    /// use brooklet::{Broker, NewTopic};
    ///
    /// let broker = Broker::in_memory()?;
    /// broker.create_topics([NewTopic::new("orders", 3), NewTopic::new("payments", 1)])?;
    /// assert!(broker.create_topics([NewTopic::new("refunds", 1), NewTopic::new("orders", 3)]).is_err());
    /// assert_eq!(broker.topics()?.len(), 2);
    /// # Ok::<(), brooklet::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`create_topic`](Broker::create_topic), of the first topic that can't be created.
    pub fn create_topics(&self, topics: impl IntoIterator<Item = NewTopic>) -> Result<Vec<TopicDescription>> {
        let wanted = topics.into_iter().map(NewTopic::checked).collect::<Result<Vec<_>>>()?;
        let created = self.engine().create_topics(&wanted)?;
        let describe =
            |topic: &Arc<Topic>| TopicDescription::of(topic, &vec![Usage::default(); topic.partitions.len()]);
        Ok(created.iter().map(describe).collect())
    }

    /// Checks whether [`create_topics`](Broker::create_topics) would succeed now, and creates nothing (Kafka's `validateOnly`).
    ///
    /// # Errors
    ///
    /// Those of [`create_topics`](Broker::create_topics), but for a full disk.
    pub fn validate_topics(&self, topics: impl IntoIterator<Item = NewTopic>) -> Result<()> {
        let wanted = topics.into_iter().map(NewTopic::checked).collect::<Result<Vec<_>>>()?;
        self.engine().check_open()?;
        self.engine().check_new_topics(&wanted).map(drop)
    }

    /// Creates a topic, or changes the one of this name to match: what a program calls at each start.
    ///
    /// A topic that exists gets more partitions if it has fewer, and the configs that `topic` sets explicitly. It keeps its
    /// records, further partitions, and all other configs. Where everything matches already, nothing is written.
    ///
    /// ```
    /// use brooklet::{Broker, NewTopic, TopicConfig};
    ///
    /// let broker = Broker::in_memory()?;
    /// let orders = || NewTopic::new("orders", 3).config(TopicConfig::default().max_message_bytes(2_000));
    /// broker.ensure_topic(orders())?;
    /// assert_eq!(broker.ensure_topic(orders())?.partitions().len(), 3);
    /// # Ok::<(), brooklet::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`create_topic`](Broker::create_topic), but for a topic that exists.
    pub fn ensure_topic(&self, topic: NewTopic) -> Result<TopicDescription> {
        let topic = self.engine().ensure_topic(topic.checked()?)?;
        Ok(TopicDescription::of(&topic, &self.engine().usage(&topic)?))
    }

    /// Deletes a topic with its records and offsets. Their space is reused; the file does not shrink.
    ///
    /// The topic is gone with one small write. Its space is freed behind that, in steps that others' work goes between, and can be
    /// used again when this returns; what a crash leaves over is freed after the next opening.
    ///
    /// Producers of it fail from now on, consumers of it get nothing more. A topic created again under the same name is
    /// another one: it has another id and starts at offset 0 (T-5, A-4).
    ///
    /// # Errors
    ///
    /// [`UnknownTopicOrPartition`](crate::Error::UnknownTopicOrPartition), and those of [`create_topic`](Broker::create_topic)
    /// for a full disk and a stopped broker; nothing was deleted then.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.engine().delete_topic(name)
    }

    /// Deletes several topics, as [`delete_topic`](Broker::delete_topic) does, one after the other.
    ///
    /// # Errors
    ///
    /// [`UnknownTopicOrPartition`](crate::Error::UnknownTopicOrPartition) if one of them does not exist; nothing was deleted
    /// then. Otherwise those of [`delete_topic`](Broker::delete_topic): the topics before that one were deleted.
    pub fn delete_topics<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        self.engine().check_open()?;
        let names: BTreeSet<_> = names.into_iter().collect();
        for name in &names {
            self.engine().topic(name)?;
        }
        names.into_iter().try_for_each(|name| self.delete_topic(name))
    }

    /// The names of all topics, sorted.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::Error::Closed).
    pub fn topics(&self) -> Result<Vec<TopicName>> {
        self.engine().check_open()?;
        Ok(self.engine().topics().iter().map(|topic| topic.name.clone()).collect())
    }

    /// What a topic looks like now.
    ///
    /// # Errors
    ///
    /// [`UnknownTopicOrPartition`](crate::Error::UnknownTopicOrPartition), [`Closed`](crate::Error::Closed);
    /// [`Io`](crate::Error::Io), [`Corrupt`](crate::Error::Corrupt) when the store can't be read.
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        self.engine().check_open()?;
        let topic = self.engine().topic(name)?;
        Ok(TopicDescription::of(&topic, &self.engine().usage(&topic)?))
    }

    /// What several topics look like now, in the order of the names.
    ///
    /// # Errors
    ///
    /// Those of [`describe_topic`](Broker::describe_topic), of the first topic that can't be described.
    pub fn describe_topics<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<TopicDescription>> {
        names.into_iter().map(|name| self.describe_topic(name)).collect()
    }

    /// Gives a topic more partitions: `total` in all (T-7). Old records stay where they are; keys are spread over the new
    /// count from now on (T-8).
    ///
    /// # Errors
    ///
    /// [`InvalidPartitions`](crate::Error::InvalidPartitions) unless `total` is more than now, and those of
    /// [`delete_topic`](Broker::delete_topic).
    pub fn create_partitions(&self, name: &str, total: u32) -> Result<()> {
        self.engine().create_partitions(name, total)
    }

    /// Changes a topic's configuration: `change` gets the present one and gives the new one. It is kept on disk, and acts on
    /// records sent from now on; limits of retention act at the next clean (T-14). Changes by several threads are made one after
    /// the other, so none is lost: `change` must not wait for a thread that calls this as well.
    ///
    /// ```
    /// use brooklet::{Broker, NewTopic};
    ///
    /// let broker = Broker::in_memory()?;
    /// broker.create_topic(NewTopic::new("orders", 1))?;
    /// broker.alter_topic("orders", |config| Ok(config.max_message_bytes(2_000)))?;
    /// assert!(broker.alter_topic("orders", |config| config.set("no.such.key", "1")).is_err());
    /// # Ok::<(), brooklet::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What `change` gives; [`IllegalState`](crate::Error::IllegalState) when it is called within such a change;
    /// those of [`delete_topic`](Broker::delete_topic).
    pub fn alter_topic(&self, name: &str, change: impl FnOnce(TopicConfig) -> Result<TopicConfig>) -> Result<()> {
        self.engine().alter_topic(name, change)
    }

    /// The offset that is meant: the start, the end, the first record at or after a time, or the first one with the largest
    /// timestamp; `None` when no record fits (A-2).
    ///
    /// Times are found by an index; at most one chunk is read.
    ///
    /// # Errors
    ///
    /// [`UnknownTopicOrPartition`](crate::Error::UnknownTopicOrPartition); [`OffsetOutOfRange`](crate::Error::OffsetOutOfRange)
    /// for an offset outside the log; [`IllegalArgument`](crate::Error::IllegalArgument) for a negative time;
    /// [`Corrupt`](crate::Error::Corrupt).
    pub fn offset_of(&self, partition: &TopicPartition, spec: OffsetSpec) -> Result<Option<Offset>> {
        let engine = self.engine();
        engine.check_open()?;
        let topic = engine.topic(partition.topic())?;
        Ok(engine.offset_of(topic.partition(partition.partition())?, spec)?.0)
    }

    /// Removes the records below an offset, for good, and gives the new log start (L-50). An offset below the present start
    /// changes nothing. Offsets are not used again. Space is freed as [`delete_topic`](Broker::delete_topic) does it, in whole
    /// chunks of up to 32 KiB.
    ///
    /// ```
    /// use brooklet::{Broker, NewTopic, OffsetSpec, ProducerRecord, TopicPartition};
    ///
    /// let broker = Broker::in_memory()?;
    /// broker.create_topic(NewTopic::new("orders", 1))?;
    /// broker.producer().send(ProducerRecord::to("orders").value("x"))?.wait()?;
    /// let partition = TopicPartition::new("orders", 0);
    /// assert_eq!(broker.delete_records(&partition, OffsetSpec::Latest)?, 1);
    /// # Ok::<(), brooklet::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OffsetOutOfRange`](crate::Error::OffsetOutOfRange) beyond the end, and those of [`delete_topic`](Broker::delete_topic).
    pub fn delete_records(&self, partition: &TopicPartition, before: impl Into<OffsetSpec>) -> Result<Offset> {
        self.engine().delete_records(partition, before.into())
    }

    /// Reads everything and says in words what is wrong: every page, row, chunk, record and journal frame, their checksums,
    /// order and counts.
    ///
    /// It goes on behind damage, and says which offsets can't be read; beyond a hundred problems it ends. Writers wait until it is
    /// done, readers of the store too; it takes about as long as reading the file. A store in order is not changed by it.
    ///
    /// # Errors
    ///
    /// Damage is a problem in the report, not an error. [`Io`](crate::Error::Io) when the files can't be read,
    /// [`Closed`](crate::Error::Closed), [`IllegalState`](crate::Error::IllegalState) within a callback of a send.
    pub fn check(&self) -> Result<CheckReport> {
        self.engine().check()
    }

    /// Counts topics, records and bytes. Waits for a checkpoint under way, and holds the next one up while it walks the pages
    /// of the store that are not chunks: it takes longer the more there are.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::Error::Closed), [`Io`](crate::Error::Io), [`Corrupt`](crate::Error::Corrupt),
    /// [`IllegalState`](crate::Error::IllegalState) within a callback of a send.
    pub fn stats(&self) -> Result<Stats> {
        self.engine().stats()
    }
}
