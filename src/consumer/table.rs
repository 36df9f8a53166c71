//! What a compacted topic says of its keys: of one, or of all of them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::records::OwnedRecord;
use crate::broker::Broker;
use crate::codec::{Place, RecordBatch};
use crate::engine::{Engine, PartitionLog};
use crate::error::{Error, Result};
use crate::partitioner::partition_for_key;
use crate::types::{Offset, TopicPartition};

/// Bytes of chunks that a table reads at once.
const READ_AHEAD: usize = 1 << 20;

impl Broker {
    /// The last record of a key in a compacted topic, found by an index: two reads of the store, whatever the number of keys.
    /// `None` when there is none, or when it is a tombstone.
    ///
    /// # Of which moment is it?
    ///
    /// Of the last clean that compacted the key's partition, and no older: records behind
    /// [`PartitionCompaction::compacted`](crate::PartitionCompaction::compacted) are not looked at. Whoever needs what came since
    /// reads on from there. How far that may be from the end is what `segment.bytes`, `max.compaction.lag.ms` and
    /// `min.cleanable.dirty.ratio` say.
    ///
    /// The key's partition is the one that Kafka's partitioner chooses; for records that were sent elsewhere there is
    /// [`latest_in`](Broker::latest_in).
    ///
    /// ```
    /// use brooklet::{Broker, CleanupPolicy, NewTopic, ProducerRecord, TopicConfig};
    /// use std::time::Duration;
    ///
    /// let broker = Broker::in_memory()?;
    /// // Segments this small hold one record each, so that all but the last are compacted.
    /// let config = TopicConfig::default().cleanup_policy(CleanupPolicy::Compact).segment_bytes(1);
    /// broker.create_topic(NewTopic::new("stock", 1).config(config))?;
    /// let producer = broker.producer();
    /// for (key, value) in [("apples", "3"), ("pears", "5"), ("apples", "2"), ("plums", "9")] {
    ///     producer.send(ProducerRecord::to("stock").key(key).value(value))?;
    /// }
    /// producer.flush()?;
    /// broker.clean(Duration::MAX)?;
    ///
    /// let apples = broker.latest("stock", "apples")?.expect("there are apples");
    /// assert_eq!((apples.get().offset().get(), apples.get().value()), (2, Some(&b"2"[..])));
    /// assert!(broker.latest("stock", "figs")?.is_none());
    /// # Ok::<(), brooklet::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`PolicyViolation`](crate::Error::PolicyViolation) for a topic that is not compacted;
    /// [`UnknownTopicOrPartition`](crate::Error::UnknownTopicOrPartition), [`Closed`](crate::Error::Closed),
    /// [`Io`](crate::Error::Io), [`Corrupt`](crate::Error::Corrupt).
    pub fn latest(&self, topic: &str, key: impl AsRef<[u8]>) -> Result<Option<OwnedRecord>> {
        let topic = self.engine().topic(topic)?;
        let partition = partition_for_key(key.as_ref(), topic.partition_count());
        latest(self.engine(), topic.partition(partition)?, key.as_ref())
    }

    /// The same in one partition, for keys that a producer put where it wanted them.
    ///
    /// # Errors
    ///
    /// Those of [`latest`](Broker::latest).
    pub fn latest_in(&self, partition: &TopicPartition, key: impl AsRef<[u8]>) -> Result<Option<OwnedRecord>> {
        let topic = self.engine().topic(partition.topic())?;
        latest(self.engine(), topic.partition(partition.partition())?, key.as_ref())
    }

    /// What a compacted topic says of all its keys: of each the last record, tombstones left out, by partition and offset.
    ///
    /// It is the table of one moment: exactly the records below [`Table::as_of`] that are the last of their key there. To follow
    /// it, read on from these offsets. As long as it is not dropped, compaction of the topic drops no records.
    ///
    /// ```
    /// # use brooklet::{Broker, CleanupPolicy, NewTopic, ProducerRecord, TopicConfig};
    /// # use std::time::Duration;
    /// # let broker = Broker::in_memory()?;
    /// # let config = TopicConfig::default().cleanup_policy(CleanupPolicy::Compact).segment_bytes(1);
    /// # broker.create_topic(NewTopic::new("stock", 1).config(config))?;
    /// # for (key, value) in [("apples", "3"), ("pears", "5"), ("apples", "2"), ("plums", "9")] {
    /// #     broker.producer().send(ProducerRecord::to("stock").key(key).value(value))?;
    /// # }
    /// # broker.producer().flush()?;
    /// # broker.clean(Duration::MAX)?;
    /// let table = broker.table("stock")?;
    /// let as_of = table.as_of();
    /// let offsets: Vec<u64> = table.map(|record| Ok(record?.get().offset().get())).collect::<Result<_, brooklet::Error>>()?;
    /// assert_eq!(offsets, [1, 2]);
    ///
    /// let mut consumer = broker.consumer().assign(as_of.iter().map(|(partition, _)| partition.clone()))?;
    /// for (partition, offset) in &as_of {
    ///     consumer.seek(partition, *offset)?;
    /// }
    /// assert_eq!(consumer.poll(Duration::ZERO)?.len(), 1);
    /// # Ok::<(), brooklet::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`latest`](Broker::latest).
    pub fn table(&self, topic: &str) -> Result<Table> {
        let topic = self.engine().topic(topic)?;
        let parts = topic.partitions.iter().map(|log| TablePart::open(self.engine(), log));
        Ok(Table { engine: Arc::clone(self.engine()), parts: parts.collect::<Result<_>>()?, current: 0 })
    }
}

fn latest(engine: &Engine, log: &Arc<PartitionLog>, key: &[u8]) -> Result<Option<OwnedRecord>> {
    let found = engine.latest(log, key)?;
    let record = |batch: RecordBatch| {
        let place = Place::start(&batch.header);
        OwnedRecord::at(log, &Arc::new(batch), place)
    };
    Ok(found.map(record))
}

/// The last record of each key of a compacted topic: see [`Broker::table`].
///
/// After an error it ends.
pub struct Table {
    engine: Arc<Engine>,
    parts: Vec<TablePart>,
    /// The part that is read.
    current: usize,
}

impl Table {
    /// The moment: for each partition the offset behind the last record that counts.
    pub fn as_of(&self) -> Vec<(TopicPartition, Offset)> {
        self.parts.iter().map(|part| (part.log.name.clone(), part.as_of)).collect()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("as_of", &self.as_of()).finish_non_exhaustive()
    }
}

impl Iterator for Table {
    type Item = Result<OwnedRecord>;

    fn next(&mut self) -> Option<Result<OwnedRecord>> {
        while let Some(part) = self.parts.get_mut(self.current) {
            match part.next(&self.engine) {
                Ok(Some(record)) => return Some(Ok(record)),
                Ok(None) => self.current += 1,
                Err(error) => {
                    self.current = self.parts.len();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// The part of a table that is in one partition.
struct TablePart {
    log: Arc<PartitionLog>,
    as_of: Offset,
    /// Records below that are not the last ones of their keys, sorted.
    superseded: Vec<Offset>,
    /// Where the next read begins.
    next: Offset,
    batches: VecDeque<Arc<RecordBatch>>,
    /// Where to go on in the first of them.
    place: Option<Place>,
}

impl TablePart {
    fn open(engine: &Engine, log: &Arc<PartitionLog>) -> Result<Self> {
        let (log, next) = (Arc::clone(log), log.log_start());
        // From here on nothing is dropped that counts. What is being dropped now is superseded already.
        log.add_reader_of_table();
        let mut part = Self { log, as_of: next, superseded: Vec::new(), next, batches: VecDeque::new(), place: None };
        (part.as_of, part.superseded) = engine.table_of(&part.log)?;
        Ok(part)
    }

    fn next(&mut self, engine: &Engine) -> Result<Option<OwnedRecord>> {
        loop {
            while let (Some(place), Some(batch)) = (self.place, self.batches.front()) {
                let mut walk = batch.walk(place);
                let Some(record) = walk.next() else {
                    self.batches.pop_front();
                    self.enter_next_batch();
                    continue;
                };
                if record.offset >= self.as_of {
                    return Ok(None);
                }
                self.place = Some(walk.place());
                if record.value().is_some() && self.superseded.binary_search(&record.offset).is_err() {
                    return Ok(Some(OwnedRecord::at(&self.log, batch, place)));
                }
            }
            if !self.read(engine)? {
                return Ok(None);
            }
        }
    }

    /// Reads on; `false` at the end.
    fn read(&mut self, engine: &Engine) -> Result<bool> {
        engine.check_open()?;
        // Retention goes on meanwhile.
        self.next = self.next.max(self.log.log_start());
        if self.next >= self.as_of {
            return Ok(false);
        }
        let mut batches = Vec::new();
        engine.read(&self.log, self.next, READ_AHEAD, &mut batches)?;
        self.batches = batches.into();
        let from = self.next;
        match self.batches.back() {
            Some(last) => self.next = last.header.last_offset.next(),
            None if self.log.is_deleted() => return Err(Error::unknown_topic(self.log.topic.as_str())),
            None => return Ok(self.log.log_start() > from),
        }
        while let Some(batch) = self.batches.front() {
            self.place = batch.find(from);
            if self.place.is_some() {
                break;
            }
            self.batches.pop_front();
        }
        Ok(true)
    }

    fn enter_next_batch(&mut self) {
        self.place = self.batches.front().map(|batch| Place::start(&batch.header));
    }
}

impl Drop for TablePart {
    fn drop(&mut self) {
        self.log.remove_reader_of_table();
    }
}
