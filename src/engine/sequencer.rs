//! Where every record gets its offset and its place in the one total order.
//!
//! `send` encodes a record into the open batch of its partition; all open batches together are the open group. Whoever
//! commits takes the whole group and leaves an empty one behind. A group becomes one journal frame, so it is
//! acknowledged, lost or kept as one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::log::PartitionLog;
use super::topic::Topic;
use crate::codec::{
    BatchBuilder, Buffers, GroupEntry, RawHeader, RecordBatch, RecordParts, append_entry_len, encoded_len,
    group_entry_len,
};
use crate::error::{Error, Result};
use crate::partitioner::{StickyPartition, partition_for_key};
use crate::record::{ProducerRecord, RecordMetadata};
use crate::types::{Offset, TimestampType, TopicName, TopicNumber};

/// What a frame costs beside its entries: header and padding, rounded up.
const FRAME_OVERHEAD: usize = 64;

/// Called once with what became of a record.
pub(crate) type Callback = Box<dyn FnOnce(Result<RecordMetadata>) + Send>;

/// Called once with what became of entries of consumer groups.
pub(crate) type OutcomeCallback = Box<dyn FnOnce(Result<()>) + Send>;

/// Who is told what became of a group.
pub(crate) enum Listener {
    Record(Callback, RecordMetadata),
    Entries(OutcomeCallback),
}

impl Listener {
    pub(crate) fn tell(self, outcome: Result<()>) {
        match self {
            Listener::Record(callback, metadata) => callback(outcome.map(|()| metadata)),
            Listener::Entries(callback) => callback(outcome),
        }
    }
}

/// The number of a group: counted up from 0 since the broker was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupNumber(pub(crate) u64);

impl GroupNumber {
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The group before; `None` when it is the first.
    pub(crate) fn before(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }
}

/// The topics as producers see them, and the open group.
#[derive(Debug)]
pub(crate) struct Sequencer {
    slots: Vec<TopicSlot>,
    /// Where in `slots` a topic is.
    by_name: HashMap<TopicName, usize>,
    /// Where the last record went: the next one often goes to the same topic, and is then spared the look-up.
    last: usize,
    next_topic: TopicNumber,
    group: Group,
    /// Buffers of batches that went into the store.
    buffers: Buffers,
    /// The state of a small generator for sticky partitions.
    random: u64,
    /// No more sends: the broker is closing.
    pub(crate) closed: bool,
}

/// A topic, and where each of its partitions stands.
#[derive(Debug)]
struct TopicSlot {
    topic: Arc<Topic>,
    partitions: Vec<PartitionSlot>,
    sticky: StickyPartition,
}

#[derive(Debug)]
struct PartitionSlot {
    log: Arc<PartitionLog>,
    /// The offset of the next record sent; runs ahead of the log's end by what is not acknowledged yet.
    next_offset: Offset,
    /// Its batch in the open group: valid while the group has this number.
    open: Option<(GroupNumber, usize)>,
    /// Bytes of records in its last batch. The next one is given as much room at once.
    last_len: usize,
}

/// A batch that takes records, and the partition that it belongs to.
pub(crate) type OpenBatch = (Arc<PartitionLog>, BatchBuilder);

/// A finished batch that nobody has seen, and the partition that it belongs to.
pub(crate) type FinishedBatch = (Arc<PartitionLog>, RecordBatch);

/// A batch that readers may have, and the partition that it belongs to.
pub(crate) type LoggedBatch = (Arc<PartitionLog>, Arc<RecordBatch>);

/// Records, and entries of consumer groups, that will be acknowledged together.
pub(crate) struct Group {
    pub(crate) number: GroupNumber,
    batches: Vec<OpenBatch>,
    /// They lie behind the batches in its frame.
    pub(crate) entries: Vec<GroupEntry>,
    /// In the order of the calls.
    listeners: Vec<Listener>,
    /// What its frame takes in the journal, at most.
    pub(crate) bytes: usize,
    /// When the first of it came; `None` while it is empty.
    pub(crate) opened_at: Option<Instant>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("number", &self.number).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// What a key says about the partition of a record that names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Its hash chooses (P-3).
    Choose,
    /// Nothing: somebody else was asked and had no choice.
    DontMatter,
}

/// What a record needs to be told where to go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendContext {
    pub(crate) keys: Keys,
    pub(crate) now_ms: i64,
    /// The index of the record within the call, for errors.
    pub(crate) index: usize,
}

/// A record that passed every check, and where it will go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Its topic's place among the slots.
    slot: usize,
    partition: u32,
    timestamp: i64,
    timestamp_type: TimestampType,
    /// What it takes in the journal, at most.
    pub(crate) bytes: usize,
}

/// A record that is in the open group.
#[derive(Debug)]
pub(crate) struct Sequenced {
    pub(crate) group: GroupNumber,
    pub(crate) metadata: RecordMetadata,
}

impl Sequencer {
    pub(crate) fn new(topics: Vec<Arc<Topic>>, next_topic: TopicNumber, buffers: Buffers, random: u64) -> Self {
        let mut sequencer = Self {
            slots: Vec::new(),
            by_name: HashMap::new(),
            last: 0,
            next_topic,
            group: Group::new(GroupNumber(0), Vec::new()),
            buffers,
            random,
            closed: false,
        };
        topics.into_iter().for_each(|topic| sequencer.put_topic(topic));
        sequencer
    }

    /// Checks a record against its topic and chooses its partition. Nothing is queued.
    //
    // Inlined, as `push` is: to hand results on through memory took a quarter of the time of a send.
    #[inline(always)]
    pub(crate) fn plan(&mut self, record: &ProducerRecord<'_>, context: SendContext) -> Result<Plan> {
        let found = self.find(&record.topic);
        let random = &mut self.random;
        let Some((index, slot)) = found.and_then(|index| Some((index, self.slots.get_mut(index)?))) else {
            return Err(match TopicName::new(&record.topic) {
                Ok(name) => Error::unknown_topic(name.as_str()),
                Err(invalid) => invalid,
            });
        };
        self.last = index;
        let config = &slot.topic.config;
        let (size, limit) = (record.size(), config.max_record_size());
        if size > limit {
            return Err(Error::RecordTooLarge { size, limit, limit_name: "max.message.bytes" });
        }
        if record.key.is_none() && config.policy().compacts() {
            let reason = "a compacted topic takes records with a key only".to_owned();
            return Err(Error::InvalidRecord { index: context.index, reason });
        }
        let compression_type = config.compression();
        if !compression_type.is_supported() {
            let place = format!("topic `{}`", slot.topic.name);
            return Err(Error::UnsupportedCompressionType { place, compression_type });
        }
        let timestamp_type = config.record_timestamp_type();
        let timestamp = match (timestamp_type, record.timestamp) {
            (TimestampType::LogAppendTime, _) | (_, None) => context.now_ms,
            (TimestampType::CreateTime, Some(timestamp)) => {
                check_timestamp(&slot.topic, timestamp, &context)?;
                timestamp
            }
        };
        let partition = slot.choose_partition(record, size, context.keys, || next_random(random))?;
        let bytes = encoded_len(&parts(record)) + slot.cost_of_opening(partition, self.group.number);
        Ok(Plan { slot: index, partition, timestamp, timestamp_type, bytes })
    }

    /// Puts a planned record into the open group. `plan` was made under the same lock, so the topic is still there.
    #[inline(always)]
    pub(crate) fn push(
        &mut self,
        record: &ProducerRecord<'_>,
        plan: Plan,
        callback: Option<Callback>,
    ) -> Result<Sequenced> {
        let slot = self.slots.get_mut(plan.slot).ok_or_else(|| Error::unknown_topic(&record.topic))?;
        let topic = &slot.topic;
        let partition = slot
            .partitions
            .get_mut(plan.partition as usize)
            .ok_or_else(|| Error::unknown_partition(topic.name.as_str(), plan.partition))?;
        let group = &mut self.group;
        let offset = partition.next_offset;
        let batch = group.batch_for(partition, plan.timestamp_type, plan.bytes, &mut self.buffers);
        batch.push(plan.timestamp, &parts(record));
        partition.last_len = batch.len();
        partition.next_offset = offset.next();
        group.bytes += plan.bytes;
        group.opened_at.get_or_insert_with(Instant::now);
        let metadata = RecordMetadata {
            topic: topic.name.clone(),
            partition: plan.partition,
            offset,
            timestamp: plan.timestamp,
            timestamp_type: plan.timestamp_type,
            key_size: record.key.as_ref().map(|key| key.as_bytes().len()),
            value_size: record.value.as_ref().map(|value| value.as_bytes().len()),
        };
        if let Some(callback) = callback {
            group.listeners.push(Listener::Record(callback, metadata.clone()));
        }
        Ok(Sequenced { group: group.number, metadata })
    }

    /// Puts entries of consumer groups, at least one, into the open group.
    pub(crate) fn push_group_entries(
        &mut self,
        entries: &[GroupEntry],
        callback: Option<OutcomeCallback>,
    ) -> GroupNumber {
        let bytes = cost_of_group_entries(entries);
        let group = &mut self.group;
        group.entries.extend_from_slice(entries);
        group.bytes += bytes;
        group.opened_at.get_or_insert_with(Instant::now);
        group.listeners.extend(callback.map(Listener::Entries));
        group.number
    }

    /// Adds a callback to the open group, which is not empty.
    pub(crate) fn push_callback(&mut self, callback: OutcomeCallback) {
        self.group.listeners.push(Listener::Entries(callback));
    }

    /// The group that takes records now.
    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// Takes the open group and opens the next one. `spare` is an emptied vector of an earlier group, to be used again.
    pub(crate) fn take_group(&mut self, spare: Vec<OpenBatch>) -> Group {
        let next = Group::new(self.group.number.next(), spare);
        std::mem::replace(&mut self.group, next)
    }

    /// Takes back the buffers of batches that nobody reads any more.
    pub(crate) fn reuse(&mut self, batches: impl Iterator<Item = RecordBatch>) {
        batches.for_each(|batch| self.buffers.give_back(batch));
    }

    /// Gives the offsets back that a group had taken, as nothing of it was written. Every later record must fail with it,
    /// so the open group is taken too.
    pub(crate) fn rewind(&mut self, failed: &[FinishedBatch]) -> Group {
        let open = self.take_group(Vec::new());
        for log in failed.iter().map(|(log, _)| log).chain(open.batches.iter().map(|(log, _)| log)) {
            let slot = self.find(log.topic.as_str()).and_then(|index| self.slots.get_mut(index));
            if let Some(partition) = slot.and_then(|slot| slot.partitions.get_mut(log.id.partition as usize))
                && Arc::ptr_eq(&partition.log, log)
            {
                partition.next_offset = log.end();
            }
        }
        open
    }

    #[inline]
    fn find(&self, name: &str) -> Option<usize> {
        match self.slots.get(self.last) {
            Some(slot) if slot.topic.name == *name => Some(self.last),
            _ => self.by_name.get(name).copied(),
        }
    }

    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.find(name).and_then(|index| self.slots.get(index)).map(|slot| &slot.topic)
    }

    /// All topics, sorted by name.
    pub(crate) fn topics(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<_> = self.slots.iter().map(|slot| Arc::clone(&slot.topic)).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    pub(crate) fn next_topic(&self) -> TopicNumber {
        self.next_topic
    }

    /// Adds a topic, or replaces it by a version with another configuration or more partitions.
    pub(crate) fn put_topic(&mut self, topic: Arc<Topic>) {
        self.next_topic = self.next_topic.max(TopicNumber(topic.number.0.saturating_add(1)));
        let partition = |log: &Arc<PartitionLog>| PartitionSlot {
            log: Arc::clone(log),
            next_offset: log.end(),
            open: None,
            last_len: 0,
        };
        match self.find(topic.name.as_str()).and_then(|index| self.slots.get_mut(index)) {
            Some(slot) => {
                let added = topic.partitions.iter().skip(slot.partitions.len());
                slot.partitions.extend(added.map(partition));
                slot.topic = topic;
            }
            None => {
                self.by_name.insert(topic.name.clone(), self.slots.len());
                let partitions = topic.partitions.iter().map(partition).collect();
                self.slots.push(TopicSlot { topic, partitions, sticky: StickyPartition::default() });
            }
        }
    }

    /// Takes a topic out: sends to it fail from now on.
    pub(crate) fn remove_topic(&mut self, name: &TopicName) {
        let Some(index) = self.by_name.remove(name) else { return };
        self.slots.swap_remove(index);
        if let Some(moved) = self.slots.get(index) {
            self.by_name.insert(moved.topic.name.clone(), index);
        }
    }
}

impl TopicSlot {
    /// P-2: explicit partition, then the key's hash, then the sticky choice.
    #[inline]
    fn choose_partition(
        &mut self,
        record: &ProducerRecord<'_>,
        size: usize,
        keys: Keys,
        random: impl FnOnce() -> u64,
    ) -> Result<u32> {
        let count = self.topic.partition_count();
        match (record.partition, &record.key) {
            (Some(partition), _) if partition < count => Ok(partition),
            (Some(partition), _) => Err(Error::unknown_partition(self.topic.name.as_str(), partition)),
            (None, Some(key)) if keys == Keys::Choose => Ok(partition_for_key(key.as_bytes(), count)),
            (None, _) => Ok(self.sticky.choose(size, count, random)),
        }
    }

    /// What the journal takes for a batch that is not open yet.
    fn cost_of_opening(&self, partition: u32, group: GroupNumber) -> usize {
        let open = self.partitions.get(partition as usize).and_then(|slot| slot.open);
        if open.is_some_and(|(number, _)| number == group) { 0 } else { append_entry_len(0) + FRAME_OVERHEAD }
    }
}

impl Group {
    fn new(number: GroupNumber, batches: Vec<OpenBatch>) -> Self {
        Self { number, batches, entries: Vec::new(), listeners: Vec::new(), bytes: 0, opened_at: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.entries.is_empty()
    }

    /// The open batch of a partition. A full one, and another timestamp type after the topic's configuration changed, opens
    /// another.
    #[inline]
    fn batch_for(
        &mut self,
        partition: &mut PartitionSlot,
        timestamp_type: TimestampType,
        bytes: usize,
        buffers: &mut Buffers,
    ) -> &mut BatchBuilder {
        let open =
            partition.open.filter(|&(number, _)| number == self.number).map(|(_, index)| index).filter(|&index| {
                let batch = self.batches.get(index);
                batch.is_some_and(|(_, batch)| {
                    batch.header().timestamp_type == timestamp_type && batch.has_room_for(bytes)
                })
            });
        let index = open.unwrap_or_else(|| {
            let log = &partition.log;
            let buffer = buffers.take(bytes, partition.last_len);
            let builder = BatchBuilder::new(log.id, partition.next_offset, timestamp_type, buffer);
            self.batches.push((Arc::clone(log), builder));
            self.batches.len() - 1
        });
        partition.open = Some((self.number, index));
        #[expect(clippy::indexing_slicing, reason = "the index was checked or made just above")]
        let batch = &mut self.batches[index].1;
        batch.reserve(bytes, buffers);
        batch
    }

    /// Closes the batches and puts them into `finished`. Gives back the emptied vector, to be used again.
    #[inline]
    pub(crate) fn finish(&mut self, finished: &mut Vec<FinishedBatch>) -> Vec<OpenBatch> {
        let mut batches = std::mem::take(&mut self.batches);
        for (log, batch) in batches.drain(..) {
            finished.extend(batch.finish().map(|batch| (log, batch)));
        }
        batches
    }

    pub(crate) fn take_listeners(&mut self) -> Vec<Listener> {
        std::mem::take(&mut self.listeners)
    }
}

/// What entries of consumer groups take in the journal, at most.
pub(crate) fn cost_of_group_entries(entries: &[GroupEntry]) -> usize {
    entries.iter().map(group_entry_len).sum::<usize>() + FRAME_OVERHEAD
}

fn check_timestamp(topic: &Topic, timestamp: i64, context: &SendContext) -> Result<()> {
    if timestamp < 0 {
        let reason = format!("timestamp {timestamp} is negative: give milliseconds since 1970, or none");
        return Err(Error::IllegalArgument { reason });
    }
    let checked = topic.config.check_timestamp(timestamp, context.now_ms);
    checked.map_err(|reason| Error::InvalidTimestamp { index: context.index, timestamp, reason })
}

/// What of a record is encoded.
fn parts<'a>(record: &'a ProducerRecord<'_>) -> RecordParts<'a, impl Iterator<Item = RawHeader<'a>> + Clone> {
    RecordParts {
        key: record.key.as_ref().map(|key| key.as_bytes()),
        value: record.value.as_ref().map(|value| value.as_bytes()),
        headers: record
            .headers
            .iter()
            .map(|(key, value)| RawHeader { key, value: value.as_ref().map(|value| value.as_bytes()) }),
    }
}

/// SplitMix64: enough to spread records without a key.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
