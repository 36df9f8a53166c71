//! The simple twin: what brooklet promises about topics, partitions and offsets, said with maps and vectors.
//!
//! The twin is changed by the same steps as the broker, and the two are compared. It knows nothing of files, journals or
//! locks. [`Model::observe`] reads everything that a broker shows into another twin, so that "equal" is one comparison.
//! Nothing in here is made for one harness: random steps, power losses, faults and fuzzing all use it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use brooklet::{
    Broker, CompressionType, ConsumerRecord, NewTopic, OffsetReset, ProducerRecord, RecordMetadata, Result,
    TopicConfig, TopicId, TopicPartition,
};

/// Where choices come from: a seeded generator, or the bytes of a fuzzer.
pub(crate) trait Choices {
    /// A number below `limit`; 0 when `limit` is 0.
    fn below(&mut self, limit: u64) -> u64;

    /// One of a list.
    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let index = usize::try_from(self.below(of.len() as u64)).unwrap_or(0);
        of.get(index)
    }
}

/// A record without its place.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// A record that only has a value.
    pub(crate) fn of_value(timestamp: i64, value: Vec<u8>) -> Self {
        Self { timestamp, key: None, value: Some(value), headers: Vec::new() }
    }

    /// The same as the producer says it.
    pub(crate) fn to(&self, topic: &str, partition: u32) -> ProducerRecord<'static> {
        let mut record = ProducerRecord::to(topic.to_owned()).partition(partition).timestamp(self.timestamp);
        if let Some(key) = &self.key {
            record = record.key(key.clone());
        }
        if let Some(value) = &self.value {
            record = record.value(value.clone());
        }
        for (name, value) in &self.headers {
            record = match value {
                Some(value) => record.header(name.clone(), value.clone()),
                None => record.header_without_value(name.clone()),
            };
        }
        record
    }

    /// What a consumer got.
    pub(crate) fn of(record: &ConsumerRecord<'_>) -> Self {
        let headers = record.headers().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)));
        Self {
            timestamp: record.timestamp(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    }
}

impl fmt::Debug for Record {
    /// Short: values in tests begin with what tells them apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_deref().unwrap_or_default();
        let start = String::from_utf8_lossy(value.get(..16).unwrap_or(value)).into_owned();
        write!(f, "{start:?}+{}@{}", value.len(), self.timestamp)
    }
}

/// One partition.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Log {
    pub(crate) start: u64,
    /// From `start` on, without gaps.
    pub(crate) records: Vec<Arc<Record>>,
}

impl Log {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }

    pub(crate) fn get(&self, offset: u64) -> Option<&Record> {
        let index = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.records.get(index).map(AsRef::as_ref)
    }

    pub(crate) fn append(&mut self, record: Record) -> u64 {
        self.records.push(Arc::new(record));
        self.end() - 1
    }

    /// Removes what lies below `before`, which is not beyond the end.
    pub(crate) fn delete_below(&mut self, before: u64) {
        let gone = before.saturating_sub(self.start).min(self.records.len() as u64);
        self.records.drain(..usize::try_from(gone).unwrap_or(0));
        self.start += gone;
    }

    /// Records with their offsets.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Record)> {
        (self.start..).zip(self.records.iter().map(AsRef::as_ref))
    }

    /// The first record whose timestamp is at least this.
    pub(crate) fn find_timestamp(&self, timestamp: i64) -> Option<u64> {
        self.iter().find(|(_, record)| record.timestamp >= timestamp).map(|(offset, _)| offset)
    }

    /// The first record that carries the largest timestamp.
    pub(crate) fn max_timestamp(&self) -> Option<u64> {
        let largest = self.records.iter().map(|record| record.timestamp).max()?;
        self.iter().find(|(_, record)| record.timestamp == largest).map(|(offset, _)| offset)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{} {:?}", self.start, self.end(), self.records)
    }
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicTwin {
    /// `None` where it could not be known: its creation failed, and may have happened all the same.
    pub(crate) id: Option<TopicId>,
    pub(crate) max_message_bytes: u32,
    /// `retention.ms`; `None`: for ever.
    pub(crate) retention_ms: Option<i64>,
    pub(crate) compression_type: CompressionType,
    pub(crate) partitions: Vec<Log>,
}

/// Everything that a broker shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Model {
    pub(crate) topics: BTreeMap<String, TopicTwin>,
    /// What groups committed, by group and partition.
    pub(crate) commits: BTreeMap<(String, TopicPartition), u64>,
}

/// `max.message.bytes` where nobody set it.
pub(crate) const DEFAULT_MAX_MESSAGE_BYTES: u32 = 1_048_588;

impl Model {
    pub(crate) fn create_topic(&mut self, name: &str, partitions: u32, id: Option<TopicId>) {
        let partitions = vec![Log::default(); partitions as usize];
        let twin = TopicTwin {
            id,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            retention_ms: None,
            compression_type: CompressionType::None,
            partitions,
        };
        self.topics.insert(name.to_owned(), twin);
    }

    /// The log of a partition that exists.
    pub(crate) fn log(&self, name: &str, partition: u32) -> Option<&Log> {
        self.topics.get(name)?.partitions.get(partition as usize)
    }

    pub(crate) fn log_mut(&mut self, name: &str, partition: u32) -> Option<&mut Log> {
        self.topics.get_mut(name)?.partitions.get_mut(partition as usize)
    }

    /// All partitions.
    pub(crate) fn partitions(&self) -> Vec<TopicPartition> {
        let of = |(name, topic): (&String, &TopicTwin)| {
            let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            let name = name.clone();
            (0..count).map(move |partition| TopicPartition::new(&name, partition))
        };
        self.topics.iter().flat_map(of).collect()
    }

    pub(crate) fn record_count(&self) -> usize {
        self.topics.values().flat_map(|topic| &topic.partitions).map(|log| log.records.len()).sum()
    }

    /// Reads everything that the broker shows.
    ///
    /// A gap, a record that comes twice or one that is missing is a panic: no state of a broker may look like that.
    pub(crate) fn observe(broker: &Broker) -> Result<Model> {
        let mut model = Model::describe(broker)?;
        let partitions = model.partitions();
        if partitions.is_empty() {
            return Ok(model);
        }
        let mut consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign(partitions)?;
        loop {
            let records = consumer.poll(Duration::ZERO)?;
            if records.is_empty() {
                break;
            }
            for record in &records {
                let log = model.log_mut(record.topic().as_str(), record.partition());
                let log = log.unwrap_or_else(|| panic!("{record:?} comes from a partition that is not there"));
                assert_eq!(record.offset().get(), log.end(), "{record:?} is not the next of its partition");
                log.append(Record::of(&record));
            }
        }
        for (name, topic) in &model.topics {
            let description = broker.describe_topic(name)?;
            for (log, bounds) in topic.partitions.iter().zip(description.partitions()) {
                assert_eq!(log.end(), bounds.end.get(), "{name}-{} ends elsewhere than it says", bounds.partition);
            }
        }
        Ok(model)
    }

    /// What every group committed.
    fn observe_commits(broker: &Broker) -> Result<BTreeMap<(String, TopicPartition), u64>> {
        let mut commits = BTreeMap::new();
        for group in broker.groups()? {
            for partition in broker.describe_group(group.name.as_str())?.partitions {
                let committed = partition.committed.expect("no member owns anything here");
                commits.insert((group.name.as_str().to_owned(), partition.partition), committed.offset.get());
            }
        }
        Ok(commits)
    }

    /// The committed offsets that lie beyond the end of their log.
    pub(crate) fn commits_beyond_the_end(&self) -> Vec<&(String, TopicPartition)> {
        let beyond = |((_, partition), offset): &(&(String, TopicPartition), &u64)| {
            self.log(partition.topic(), partition.partition()).is_none_or(|log| **offset > log.end())
        };
        self.commits.iter().filter(beyond).map(|(place, _)| place).collect()
    }

    /// The topics and where their partitions start; no records.
    fn describe(broker: &Broker) -> Result<Model> {
        let mut model = Model { commits: Model::observe_commits(broker)?, ..Model::default() };
        for name in broker.topics()? {
            let description = broker.describe_topic(name.as_str())?;
            let partitions = description.partitions().iter();
            let logs = partitions.map(|bounds| Log { start: bounds.log_start.get(), records: Vec::new() });
            let number = |key| description.config().get(key).and_then(|text| text.parse::<i64>().ok());
            let bytes = number("max.message.bytes").and_then(|bytes| u32::try_from(bytes).ok());
            let twin = TopicTwin {
                id: Some(description.id()),
                max_message_bytes: bytes.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES),
                retention_ms: number("retention.ms").filter(|age| *age >= 0),
                compression_type: compression_type_of(description.config()),
                partitions: logs.collect(),
            };
            model.topics.insert(name.as_str().to_owned(), twin);
        }
        Ok(model)
    }

    /// Whether a broker that showed `seen` may be in this state. An id that could not be known fits any.
    pub(crate) fn allows(&self, seen: &Model) -> bool {
        self.topics.len() == seen.topics.len()
            && self.commits == seen.commits
            && self.topics.iter().zip(&seen.topics).all(|((name, twin), (seen_name, seen))| {
                name == seen_name
                    && twin.max_message_bytes == seen.max_message_bytes
                    && twin.retention_ms == seen.retention_ms
                    && twin.compression_type == seen.compression_type
                    && twin.partitions == seen.partitions
                    && twin.id.is_none_or(|id| Some(id) == seen.id)
            })
    }

    /// Applies what a step did. `id`: of the topic it created, where that is known.
    pub(crate) fn apply(&mut self, step: &Step, id: Option<TopicId>) {
        match step {
            Step::CreateTopic { name, partitions } => self.create_topic(name, *partitions, id),
            Step::DeleteTopic { name } => {
                self.topics.remove(*name);
                self.commits.retain(|(_, partition), _| partition.topic() != *name);
            }
            Step::CreatePartitions { name, total } => {
                if let Some(topic) = self.topics.get_mut(*name) {
                    topic.partitions.resize(*total as usize, Log::default());
                }
            }
            Step::Alter { name, max_message_bytes } => {
                if let Some(topic) = self.topics.get_mut(*name) {
                    topic.max_message_bytes = *max_message_bytes;
                }
            }
            Step::Expire { name, age_ms } => {
                if let Some(topic) = self.topics.get_mut(*name) {
                    topic.retention_ms = Some(*age_ms);
                }
            }
            Step::Compress { name, compression_type } => {
                if let Some(topic) = self.topics.get_mut(*name) {
                    topic.compression_type = *compression_type;
                }
            }
            Step::Clean { now_ms } => {
                for partition in self.expired(*now_ms) {
                    self.empty(&partition);
                }
            }
            Step::DeleteRecords { name, partition, before } => {
                if let Some(log) = self.log_mut(name, *partition) {
                    log.delete_below(before.unwrap_or(log.end()));
                }
            }
            Step::Send(sends) | Step::SendAll(sends) => {
                for Send { name, partition, record } in sends {
                    if let Some(log) = self.log_mut(name, *partition) {
                        log.append(record.clone());
                    }
                }
            }
            Step::Commit { group, name, partition, offset } => self.commit(group, name, *partition, *offset),
            Step::SendAndCommit { group, send } => {
                if let Some(log) = self.log_mut(send.name, send.partition) {
                    let offset = log.append(send.record.clone()) + 1;
                    self.commit(group, send.name, send.partition, offset);
                }
            }
            Step::DeleteGroup { group } => self.commits.retain(|(other, _), _| other != group),
            Step::Maintain | Step::Sync | Step::Vacuum | Step::Reopen => {}
        }
    }

    /// The partitions of which every record is beyond its age, in the order in which they are cleaned. Where only some are,
    /// it depends on segments what goes: the twin knows none.
    pub(crate) fn expired(&self, now_ms: i64) -> Vec<TopicPartition> {
        let mut partitions = self.partitions();
        partitions.retain(|partition| {
            let age = self.topics.get(partition.topic()).and_then(|topic| topic.retention_ms);
            let records = self.log(partition.topic(), partition.partition()).map(|log| &log.records);
            let is_old = |age, record: &Record| now_ms - record.timestamp > age;
            age.zip(records)
                .is_some_and(|(age, records)| !records.is_empty() && records.iter().all(|record| is_old(age, record)))
        });
        partitions
    }

    /// Removes all records of a partition.
    pub(crate) fn empty(&mut self, partition: &TopicPartition) {
        if let Some(log) = self.log_mut(partition.topic(), partition.partition()) {
            log.delete_below(log.end());
        }
    }

    fn commit(&mut self, group: &str, name: &str, partition: u32, offset: u64) {
        self.commits.insert((group.to_owned(), TopicPartition::new(name, partition)), offset);
    }
}

/// A record and where it goes.
#[derive(Debug, Clone)]
pub(crate) struct Send {
    pub(crate) name: &'static str,
    pub(crate) partition: u32,
    pub(crate) record: Record,
}

/// One thing that an application does, acknowledged as a whole or not at all.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    CreateTopic {
        name: &'static str,
        partitions: u32,
    },
    DeleteTopic {
        name: &'static str,
    },
    CreatePartitions {
        name: &'static str,
        total: u32,
    },
    Alter {
        name: &'static str,
        max_message_bytes: u32,
    },
    /// Limits the age of its records, and from then on the size of segments to that of a record or two.
    Expire {
        name: &'static str,
        age_ms: i64,
    },
    Compress {
        name: &'static str,
        compression_type: CompressionType,
    },
    /// Everything; `now_ms` is what the broker's clock says.
    Clean {
        now_ms: i64,
    },
    /// Without a bound: everything up to the end.
    DeleteRecords {
        name: &'static str,
        partition: u32,
        before: Option<u64>,
    },
    /// One `send` each, then one flush: one group.
    Send(Vec<Send>),
    /// One `send_all`.
    SendAll(Vec<Send>),
    Commit {
        group: &'static str,
        name: &'static str,
        partition: u32,
        offset: u64,
    },
    /// A record, and the commit of the offset behind it, in one journal frame.
    SendAndCommit {
        group: &'static str,
        send: Send,
    },
    DeleteGroup {
        group: &'static str,
    },
    Maintain,
    Sync,
    Vacuum,
    /// Close and open again; who runs the steps does it.
    Reopen,
}

impl Step {
    /// Does it to a broker; the id of a topic that was created.
    pub(crate) fn run(&self, broker: &Broker) -> Result<Option<TopicId>> {
        match self {
            Step::CreateTopic { name, partitions } => {
                return broker.create_topic(NewTopic::new(*name, *partitions)).map(|topic| Some(topic.id()));
            }
            Step::DeleteTopic { name } => broker.delete_topic(name)?,
            Step::CreatePartitions { name, total } => broker.create_partitions(name, *total)?,
            Step::Alter { name, max_message_bytes } => {
                broker.alter_topic(name, |config| Ok(config.max_message_bytes(*max_message_bytes)))?;
            }
            Step::Expire { name, age_ms } => broker.alter_topic(name, |config| {
                let age = Duration::from_millis(age_ms.unsigned_abs());
                Ok(config.retention(Some(age)).segment_bytes(300))
            })?,
            Step::Compress { name, compression_type } => {
                broker.alter_topic(name, |config| Ok(config.compression_type(*compression_type)))?;
            }
            Step::Clean { .. } => drop(broker.clean(Duration::MAX)?),
            Step::Vacuum => drop(broker.vacuum()?),
            Step::DeleteRecords { name, partition, before } => {
                let before = before.map_or(brooklet::OffsetSpec::Latest, brooklet::OffsetSpec::Offset);
                broker.delete_records(&TopicPartition::new(name, *partition), before)?;
            }
            Step::Send(sends) => {
                let producer = broker.producer();
                let sent = sends.iter().map(|send| producer.send(send.record.to(send.name, send.partition)));
                let deliveries = sent.collect::<Result<Vec<_>>>();
                producer.flush()?;
                for delivery in deliveries? {
                    delivery.wait()?;
                }
            }
            Step::SendAll(sends) => {
                let records = sends.iter().map(|send| send.record.to(send.name, send.partition));
                for delivery in broker.producer().send_all(records)? {
                    delivery.wait()?;
                }
            }
            Step::Commit { group, name, partition, offset } => {
                broker.alter_group_offsets(group, [((*name, *partition), *offset)])?;
            }
            Step::SendAndCommit { group, send } => {
                let partition = TopicPartition::new(send.name, send.partition);
                let mut consumer = broker.consumer().group(*group).assign([partition.clone()])?;
                let behind = consumer.end_offsets([&partition])?[0].1 + 1;
                let delivery = broker.producer().send(send.record.to(send.name, send.partition))?;
                consumer.commit_offsets([(partition, behind)])?;
                delivery.wait()?;
            }
            Step::DeleteGroup { group } => broker.delete_group(group)?,
            Step::Maintain => broker.maintain()?,
            Step::Sync => broker.sync()?,
            Step::Reopen => {}
        }
        Ok(None)
    }

    /// Whether everything acknowledged so far survives a power loss once this is done to a broker that was in this state, in
    /// `Buffered` mode too.
    pub(crate) fn makes_durable(&self, before: &Model) -> bool {
        match self {
            Step::Send(_)
            | Step::SendAll(_)
            | Step::Commit { .. }
            | Step::SendAndCommit { .. }
            | Step::DeleteGroup { .. } => false,
            // A clean that finds nothing to do syncs nothing.
            Step::Clean { .. } | Step::Vacuum => false,
            // Where there is nothing to delete, nothing is written.
            Step::DeleteRecords { name, partition, before: bound } => {
                before.log(name, *partition).is_some_and(|log| bound.unwrap_or(log.end()) > log.start)
            }
            _ => true,
        }
    }

    /// Whether it changes what a broker shows.
    pub(crate) fn changes(&self) -> bool {
        !matches!(self, Step::Maintain | Step::Sync | Step::Vacuum | Step::Reopen)
    }
}

/// Every way of compressing that this build has; one of them is not to.
pub(crate) fn compression_types() -> Vec<CompressionType> {
    let all = [CompressionType::None, CompressionType::Lz4, CompressionType::Zstd];
    all.into_iter().filter(|compression_type| compression_type.is_supported()).collect()
}

fn compression_type_of(config: &TopicConfig) -> CompressionType {
    let name = config.get("compression.type").unwrap_or_default();
    compression_types().into_iter().find(|compression_type| compression_type.to_string() == name).unwrap_or_default()
}

/// Where a record went, as words of the twin.
pub(crate) fn place(metadata: &RecordMetadata) -> (&str, u32, u64) {
    (metadata.topic().as_str(), metadata.partition(), metadata.offset().get())
}
