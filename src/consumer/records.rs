//! What `poll` gives out: records that borrow the chunks they lie in.

use std::fmt;
use std::sync::Arc;

use crate::codec::{HeaderIter, Place, RawHeader, RecordBatch, Walk, WalkedRecord};
use crate::engine::PartitionLog;
use crate::record::ProducerRecord;
use crate::types::{Offset, TimestampType, TopicName, TopicPartition};

/// Records given out by one `poll`, by partition and within each by offset. They share the memory they were read into:
/// no payload is copied.
///
/// ```
/// # use brooklet::{Broker, NewTopic, OffsetReset, ProducerRecord, TopicPartition};
/// # use std::time::Duration;
/// # let broker = Broker::in_memory()?;
/// # broker.create_topic(NewTopic::new("orders", 1))?;
/// # broker.producer().send(ProducerRecord::to("orders").key("c-42").value("3 apples"))?.wait()?;
/// let mut consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign([("orders", 0)])?;
/// for record in &consumer.poll(Duration::ZERO)? {
///     assert_eq!((record.offset().get(), record.key()), (0, Some(&b"c-42"[..])));
/// }
/// # Ok::<(), brooklet::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct ConsumerRecords {
    pub(super) runs: Vec<Run>,
}

/// Some records of one batch, one behind the other.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) log: Arc<PartitionLog>,
    pub(super) batch: Arc<RecordBatch>,
    pub(super) from: Place,
    pub(super) count: u32,
    /// The offset behind the last of them.
    pub(super) next: Offset,
}

impl Run {
    fn walk(&self) -> std::iter::Take<Walk<'_>> {
        self.batch.walk(self.from).take(self.count as usize)
    }
}

impl ConsumerRecords {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.count as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Walks the records.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter { runs: self.runs.iter(), current: None }
    }

    /// The partitions that have records here.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.next_offsets().into_iter().map(|(partition, _)| partition).collect()
    }

    /// The records of one partition.
    pub fn records(&self, partition: &TopicPartition) -> impl Iterator<Item = ConsumerRecord<'_>> {
        self.iter().filter(move |record| record.log.name == *partition)
    }

    /// For each partition here, the offset behind its last record (KIP-1094): what a commit after these would say.
    pub fn next_offsets(&self) -> Vec<(TopicPartition, Offset)> {
        let mut next: Vec<(TopicPartition, Offset)> = Vec::new();
        for run in &self.runs {
            match next.iter_mut().find(|(partition, _)| *partition == run.log.name) {
                Some((_, offset)) => *offset = run.next,
                None => next.push((run.log.name.clone(), run.next)),
            }
        }
        next
    }
}

impl<'a> IntoIterator for &'a ConsumerRecords {
    type Item = ConsumerRecord<'a>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// Walks the records of a `poll`.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    runs: std::slice::Iter<'a, Run>,
    current: Option<(&'a Run, std::iter::Take<Walk<'a>>)>,
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = ConsumerRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<ConsumerRecord<'a>> {
        loop {
            if let Some((run, walk)) = &mut self.current
                && let Some(record) = walk.next()
            {
                let timestamp_type = run.batch.header.timestamp_type;
                return Some(ConsumerRecord { log: &run.log, timestamp_type, record });
            }
            let run = self.runs.next()?;
            self.current = Some((run, run.walk()));
        }
    }
}

/// One record, borrowed from the [`ConsumerRecords`] it came with.
#[derive(Clone, Copy)]
pub struct ConsumerRecord<'a> {
    log: &'a PartitionLog,
    timestamp_type: TimestampType,
    record: WalkedRecord<'a>,
}

impl<'a> ConsumerRecord<'a> {
    /// The topic.
    pub fn topic(&self) -> &'a TopicName {
        &self.log.topic
    }

    /// The partition's number.
    pub fn partition(&self) -> u32 {
        self.log.id.partition
    }

    /// Topic and partition.
    pub fn topic_partition(&self) -> &'a TopicPartition {
        &self.log.name
    }

    /// The record's offset in its partition.
    #[inline]
    pub fn offset(&self) -> Offset {
        self.record.offset
    }

    /// The record's timestamp in milliseconds since the epoch.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.record.timestamp
    }

    /// Whose time that is.
    pub fn timestamp_type(&self) -> TimestampType {
        self.timestamp_type
    }

    /// The key; `None` when it is absent, which differs from empty (R-2).
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.record.key()
    }

    /// The value; `None` when it is absent.
    #[doc(alias = "payload")]
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.record.value()
    }

    /// The headers, in the order in which they were added.
    pub fn headers(&self) -> Headers<'a> {
        Headers { headers: self.record.headers() }
    }
}

impl fmt::Debug for ConsumerRecord<'_> {
    /// Where it is and how long it is: contents stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerRecord")
            .field("topic_partition", &format_args!("{}", self.log.name))
            .field("offset", &self.offset().get())
            .field("timestamp", &self.timestamp())
            .field("key_size", &self.key().map(<[u8]>::len))
            .field("value_size", &self.value().map(<[u8]>::len))
            .finish_non_exhaustive()
    }
}

impl<'a> From<&ConsumerRecord<'a>> for ProducerRecord<'a> {
    /// The same topic, key, value, headers and timestamp, borrowed; without a partition, so that the partitioner chooses.
    ///
    /// ```
    /// # use brooklet::{Broker, NewTopic, OffsetReset, ProducerRecord};
    /// # use std::time::Duration;
    /// # let broker = Broker::in_memory()?;
    /// # broker.create_topics([NewTopic::new("jobs", 1), NewTopic::new("jobs.dead", 1)])?;
    /// # let producer = broker.producer();
    /// # producer.send(ProducerRecord::to("jobs").key("j-1").value("?").header("try", "1"))?.wait()?;
    /// # let mut consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign([("jobs", 0)])?;
    /// for record in &consumer.poll(Duration::ZERO)? {
    ///     let copy = ProducerRecord::from(&record).for_topic("jobs.dead").header("reason", "no such job");
    ///     assert_eq!(copy.headers().count(), 2);
    ///     producer.send(copy)?.wait()?;
    /// }
    /// # Ok::<(), brooklet::Error>(())
    /// ```
    fn from(record: &ConsumerRecord<'a>) -> Self {
        let copy = ProducerRecord::to(record.topic().as_str()).timestamp(record.timestamp());
        let copy = record.key().into_iter().fold(copy, ProducerRecord::key);
        let copy = record.value().into_iter().fold(copy, ProducerRecord::value);
        record.headers().fold(copy, |copy, header| match header.value {
            Some(value) => copy.header(header.key, value),
            None => copy.header_without_value(header.key),
        })
    }
}

/// The headers of a record: an ordered list in which a name may come more than once (R-3).
///
/// ```
/// # use brooklet::{Broker, NewTopic, OffsetReset, ProducerRecord};
/// # use std::time::Duration;
/// # let broker = Broker::in_memory()?;
/// # broker.create_topic(NewTopic::new("orders", 1))?;
/// let record = ProducerRecord::to("orders").header("via", "a").header("via", "b").header_without_value("dry");
/// broker.producer().send(record)?.wait()?;
/// let mut consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign([("orders", 0)])?;
/// let records = consumer.poll(Duration::ZERO)?;
/// let headers = records.iter().next().unwrap().headers();
/// assert_eq!(headers.last("via").unwrap().value, Some(&b"b"[..]));
/// assert_eq!(headers.last("dry").unwrap().value, None);
/// assert_eq!(headers.count(), 3);
/// # Ok::<(), brooklet::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Headers<'a> {
    headers: HeaderIter<'a>,
}

/// One header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header<'a> {
    /// Its name.
    pub key: &'a str,
    /// Its value; `None` when it is absent.
    pub value: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    /// The last header of this name, if there is one.
    pub fn last(self, key: &str) -> Option<Header<'a>> {
        self.filter(|header| header.key == key).last()
    }

    /// All headers of this name, in order.
    pub fn all(self, key: &str) -> impl Iterator<Item = Header<'a>> {
        self.filter(move |header| header.key == key)
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.headers.next().map(|RawHeader { key, value }| Header { key, value })
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.map(|header| header.key)).finish()
    }
}

/// One record that can go anywhere: it keeps the chunk alive that it lies in, and copies nothing.
#[derive(Debug, Clone)]
pub struct OwnedRecord {
    run: Run,
}

impl OwnedRecord {
    /// All records of a `poll`, each on its own.
    #[cfg(feature = "channel")]
    pub(super) fn split(records: &ConsumerRecords) -> impl Iterator<Item = OwnedRecord> {
        records.runs.iter().flat_map(|run| {
            let mut walk = run.batch.walk(run.from);
            (0..run.count).map(move |_| {
                let from = walk.place();
                walk.pass();
                OwnedRecord::at(&run.log, &run.batch, from)
            })
        })
    }

    /// The record at `place` of a batch.
    pub(super) fn at(log: &Arc<PartitionLog>, batch: &Arc<RecordBatch>, place: Place) -> Self {
        let mut walk = batch.walk(place);
        let next = walk.next().map_or(place.next_offset, |_| walk.place().next_offset);
        Self { run: Run { log: Arc::clone(log), batch: Arc::clone(batch), from: place, count: 1, next } }
    }

    /// The record.
    ///
    /// # Panics
    ///
    /// Never: it was read once already.
    pub fn get(&self) -> ConsumerRecord<'_> {
        #[expect(clippy::expect_used, reason = "a run of one record that was walked before")]
        let record = self.run.walk().next().expect("a run of one record has a record");
        ConsumerRecord { log: &self.run.log, timestamp_type: self.run.batch.header.timestamp_type, record }
    }
}
