//! What a compacted topic says of its keys.

use super::Engine;
use super::log::PartitionLog;
use crate::codec::RecordBatch;
use crate::error::{Error, Result};
use crate::types::Offset;

impl Engine {
    /// The last record of a key, as far as the partition is compacted, as a batch of its own.
    pub(crate) fn latest(&self, log: &PartitionLog, key: &[u8]) -> Result<Option<RecordBatch>> {
        self.check_compacted(log)?;
        let found = self.store.latest(log.id, log.topic_id, key);
        // A topic that goes while it is read takes its chunks with it.
        if log.is_deleted() {
            return Err(Error::unknown_topic(log.topic.as_str()));
        }
        found
    }

    /// How far a partition is compacted, and which records below are not the last ones of their keys.
    pub(crate) fn table_of(&self, log: &PartitionLog) -> Result<(Offset, Vec<Offset>)> {
        self.check_compacted(log)?;
        self.store.table_of_keys(log.id)
    }

    fn check_compacted(&self, log: &PartitionLog) -> Result<()> {
        self.check_open()?;
        let topic = self.topic_of(log).ok_or_else(|| Error::unknown_topic(log.topic.as_str()))?;
        if topic.config.policy().compacts() {
            return Ok(());
        }
        let reason = "its `cleanup.policy` is not `compact`, so nothing is known of its keys".to_owned();
        Err(Error::PolicyViolation { topic: log.topic.clone(), reason })
    }
}
