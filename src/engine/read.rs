//! Finding records: by offset and by time, in the tail or in the store.

use std::sync::Arc;

use super::Engine;
use super::log::{PartitionLog, Source};
use super::topic::Topic;
use crate::codec::RecordBatch;
use crate::compaction::Standing;
use crate::error::{Error, Result};
use crate::store::{Compaction, PartitionUsage};
use crate::types::{LogId, Offset, OffsetAndTimestamp, OffsetSpec};

/// What a partition takes, and how it stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    pub(crate) bytes: u64,
    pub(crate) plain_bytes: u64,
    pub(crate) segments: u64,
    /// `None` unless the topic is compacted.
    pub(crate) compaction: Option<(Standing, Compaction)>,
}

impl Engine {
    /// Gives out batches from `from` on, until `max_bytes` are passed; at least one if there is one. Nothing when `from` is
    /// the end or the topic is gone.
    pub(crate) fn read(
        &self,
        log: &PartitionLog,
        from: Offset,
        max_bytes: usize,
        out: &mut Vec<Arc<RecordBatch>>,
    ) -> Result<()> {
        if log.is_deleted() {
            return Ok(());
        }
        let Source::Store { until } = log.read_tail(from, max_bytes, out) else { return Ok(()) };
        if self.cache.lock().read(log.id, from, max_bytes, out) {
            return Ok(());
        }
        let read = self.store.read(log.id, log.topic_id, (from, until), max_bytes, out);
        // A topic that goes while it is read takes its chunks with it.
        if log.is_deleted() {
            out.clear();
            return Ok(());
        }
        read.map_err(|error| name_place(log, from, error))?;
        self.cache.lock().insert(log.id, out);
        Ok(())
    }

    /// The first offset at or behind `from` that is not in a damaged section, or chunk without sections.
    pub(crate) fn first_undamaged(&self, log: &PartitionLog, from: Offset) -> Result<Offset> {
        let (mut at, mut undamaged) = (from, from);
        loop {
            let mut batches = Vec::new();
            match self.read(log, at, 1, &mut batches) {
                Err(Error::Corrupt { .. }) => {
                    let next = self.store.next_section(log.id, at).map_err(|error| name_place(log, at, error))?;
                    // Behind the store's last chunk is the tail.
                    at = next.unwrap_or_else(|| log.end_of_stored());
                    undamaged = at;
                }
                Err(error) => return Err(error),
                // Compaction may have dropped the records at the end of what a chunk covers.
                Ok(()) => match batches.last().filter(|_| batches.iter().all(|batch| batch.find(at).is_none())) {
                    Some(last) => at = last.header.last_offset.next(),
                    None => return Ok(undamaged),
                },
            }
        }
    }

    /// How much of each partition of a topic is in the store.
    pub(crate) fn usage(&self, topic: &Topic) -> Result<Vec<Usage>> {
        let logs: Vec<LogId> = topic.partitions.iter().map(|log| log.id).collect();
        let usage = |(log, usage): (&Arc<PartitionLog>, PartitionUsage)| {
            let compacts = topic.config.policy().compacts();
            let compaction = compacts.then(|| self.standing(topic, log)).transpose()?;
            let PartitionUsage { bytes, plain_bytes, segments } = usage;
            Ok(Usage { bytes, plain_bytes, segments, compaction })
        };
        topic.partitions.iter().zip(self.store.usage(&logs)?).map(usage).collect()
    }

    /// The offset that is meant, and its record's timestamp where the record had to be found; `None` when no record fits
    ///
    pub(crate) fn offset_of(&self, log: &PartitionLog, spec: OffsetSpec) -> Result<(Option<Offset>, Option<i64>)> {
        let found = match spec {
            OffsetSpec::Earliest => return Ok((Some(log.log_start()), None)),
            OffsetSpec::Latest => return Ok((Some(log.end()), None)),
            OffsetSpec::Offset(offset) => {
                let offset = Offset::new(offset);
                if offset < log.log_start() || offset > log.end() {
                    return Err(Error::OffsetOutOfRange { positions: vec![(log.name.clone(), offset)] });
                }
                return Ok((Some(offset), None));
            }
            OffsetSpec::Timestamp(timestamp) => self.find_timestamp(log, timestamp)?,
            OffsetSpec::MaxTimestamp => self.max_timestamp(log)?,
        };
        Ok((found.map(|found| found.offset), found.map(|found| found.timestamp)))
    }

    /// The first record at or behind the log start whose timestamp is at least `timestamp`.
    pub(crate) fn find_timestamp(&self, log: &PartitionLog, timestamp: i64) -> Result<Option<OffsetAndTimestamp>> {
        if timestamp < 0 {
            return Err(Error::illegal_argument(format!(
                "timestamp {timestamp} is negative: give milliseconds since 1970"
            )));
        }
        // The tail is taken first: what leaves it meanwhile is found in the store.
        let tail = log.tail();
        let start = log.log_start();
        let stored = self.store.find_timestamp(log.id, log.topic_id, start, timestamp);
        if let Some(found) = stored.map_err(|error| name_place(log, start, error))? {
            return Ok(Some(found));
        }
        let in_batch = |batch: &Arc<RecordBatch>| {
            if batch.header.max_timestamp < timestamp {
                return None;
            }
            batch.find_record(start, |other| other >= timestamp)
        };
        let found = tail.iter().find_map(in_batch);
        Ok(found.map(|(offset, timestamp)| OffsetAndTimestamp { offset, timestamp }))
    }

    /// The first record that carries the largest timestamp.
    fn max_timestamp(&self, log: &PartitionLog) -> Result<Option<OffsetAndTimestamp>> {
        let tail = log.tail();
        let start = log.log_start();
        let stored = self.store.max_timestamp(log.id, log.topic_id, start);
        let mut best = stored.map_err(|error| name_place(log, start, error))?;
        for batch in &tail {
            let largest_from_start =
                if batch.header.base_offset >= start { batch.header.max_timestamp } else { i64::MAX };
            if best.is_some_and(|best| best.timestamp >= largest_from_start) {
                continue;
            }
            for record in batch.find(start).into_iter().flat_map(|place| batch.walk(place)) {
                if best.is_none_or(|best| record.timestamp > best.timestamp) {
                    best = Some(OffsetAndTimestamp { offset: record.offset, timestamp: record.timestamp });
                }
            }
        }
        Ok(best)
    }
}

/// The store knows numbers; a reader knows names.
fn name_place(log: &PartitionLog, from: Offset, error: Error) -> Error {
    match error {
        Error::Corrupt { place, reason } => {
            Error::Corrupt { place: format!("partition {}, read from offset {from}: {place}", log.name), reason }
        }
        Error::UnsupportedCompressionType { compression_type, .. } => Error::UnsupportedCompressionType {
            place: format!("partition {}, read from offset {from}", log.name),
            compression_type,
        },
        other => other,
    }
}
