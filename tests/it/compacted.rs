//! The simple twin of a compacted partition: everything that was ever appended to it, and what compaction must keep of that.
//!
//! Random cleans, power cuts and kafka_rules use it. The topic is `t`, its one partition 0.

use std::collections::BTreeMap;
use std::time::Duration;

use brooklet::{Broker, Consumer, OffsetReset, PartitionCompaction, ProducerRecord, TopicPartition};

use crate::support::{Seen, seen, tp};

pub(crate) fn partition() -> TopicPartition {
    tp("t", 0)
}

/// How the partition stands with compaction.
pub(crate) fn compaction(broker: &Broker) -> PartitionCompaction {
    broker.describe_topic("t").unwrap().partitions()[0].compaction.unwrap()
}

/// The offset of the last record of a key, by the index.
pub(crate) fn latest(broker: &Broker, key: &str) -> Option<u64> {
    broker.latest_in(&partition(), key).unwrap().map(|record| record.get().offset().get())
}

/// All that the index knows, by offset.
pub(crate) fn table(broker: &Broker) -> Vec<u64> {
    broker.table("t").unwrap().map(|record| record.unwrap().get().offset().get()).collect()
}

/// Everything that can be read.
pub(crate) fn log(broker: &Broker) -> Vec<Seen> {
    let reset = OffsetReset::Earliest;
    let mut consumer: Consumer = broker.consumer().offset_reset(reset).assign([partition()]).unwrap();
    let mut all = Vec::new();
    loop {
        let records = consumer.poll(Duration::ZERO).unwrap();
        if records.is_empty() {
            return all;
        }
        all.extend(seen(&records));
    }
}

/// Keys and values by offset; a tombstone has no value.
#[derive(Debug, Default, Clone)]
pub(crate) struct Twin {
    pub(crate) records: Vec<(String, Option<String>)>,
}

impl Twin {
    /// Appends records of these keys, and waits for them; `false` for a tombstone. Values are told apart by their offsets.
    pub(crate) fn append(&mut self, broker: &Broker, records: impl IntoIterator<Item = (String, bool)>) {
        let producer = broker.producer();
        for (key, has_value) in records {
            let value = has_value.then(|| self.records.len().to_string());
            let record = ProducerRecord::to("t").partition(0).key(&key);
            let record = match &value {
                Some(value) => record.value(value),
                None => record,
            };
            drop(producer.send(record).unwrap());
            self.records.push((key.clone(), value));
        }
        producer.flush().unwrap();
    }

    /// The last offset of each key below `end`.
    fn last(&self, end: usize) -> BTreeMap<&str, usize> {
        self.records.iter().take(end).enumerate().map(|(offset, (key, _))| (key.as_str(), offset)).collect()
    }

    /// L-20 to L-23: what is there is what was appended, in order, and the last record of each key is there unless it is a
    /// tombstone. The index says the same, as of where it says, or newer.
    pub(crate) fn check(&self, broker: &Broker) {
        let end = broker.describe_topic("t").unwrap().partitions()[0].end;
        let end = usize::try_from(end.get()).unwrap();
        assert!(end <= self.records.len(), "{end} records of {}", self.records.len());
        let seen = log(broker);
        assert!(seen.windows(2).all(|pair| pair[0].offset < pair[1].offset));
        for record in &seen {
            let (key, value) = &self.records[usize::try_from(record.offset).unwrap()];
            assert_eq!(record.key.as_deref(), Some(key.as_bytes()));
            assert_eq!(record.value.as_deref(), value.as_deref().map(str::as_bytes));
        }
        for (key, offset) in self.last(end) {
            let is_there = seen.iter().any(|record| record.offset == offset as u64);
            assert!(is_there || self.records[offset].1.is_none(), "{key}@{offset} is gone");
        }
        self.check_index(broker, end);
    }

    fn check_index(&self, broker: &Broker, end: usize) {
        let compacted = usize::try_from(compaction(broker).compacted.get()).unwrap();
        let last = self.last(compacted);
        let has_value = |offset: usize| self.records[offset].1.is_some();
        let mut expected: Vec<u64> =
            last.values().filter(|offset| has_value(**offset)).map(|offset| *offset as u64).collect();
        expected.sort_unstable();
        assert_eq!(table(broker), expected, "as of {compacted}");
        // A pass under way has entered some keys already.
        let newer = self.last(end);
        for (key, offset) in &last {
            let allowed = [Some(*offset), newer.get(key).copied()]
                .into_iter()
                .chain((compacted..end).map(|other| (self.records[other].0 == *key).then_some(other)))
                .flatten()
                .map(|offset| has_value(offset).then_some(offset as u64))
                .collect::<Vec<_>>();
            let found = latest(broker, key);
            assert!(allowed.contains(&found), "{key}: {found:?} is none of {allowed:?}");
        }
    }

    /// What is left once everything closed is compacted, and tombstones have had their time: records of the last segment, which
    /// begins at `active`, and the last of each key before it.
    pub(crate) fn compacted(&self, active: usize) -> Vec<u64> {
        let kept = self.last(active).into_values().filter(|offset| self.records[*offset].1.is_some());
        let mut kept: Vec<u64> = kept.chain(active..self.records.len()).map(|offset| offset as u64).collect();
        kept.sort_unstable();
        kept
    }
}
