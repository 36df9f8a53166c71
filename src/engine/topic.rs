//! A topic and its partitions' logs.

use std::sync::Arc;

use super::log::PartitionLog;
use crate::config::TopicConfig;
use crate::error::{Error, Result};
use crate::store::TopicRow;
use crate::types::{LogId, Offset, TopicId, TopicName, TopicNumber};

/// A topic at one moment. A change of its configuration or partition count makes a new one that shares the logs.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) number: TopicNumber,
    pub(crate) id: TopicId,
    pub(crate) name: TopicName,
    pub(crate) created_ms: i64,
    pub(crate) config: TopicConfig,
    pub(crate) partitions: Vec<Arc<PartitionLog>>,
}

impl Topic {
    /// A topic as the store has it; `bounds` gives the log start and the end of each partition.
    pub(crate) fn load(row: &TopicRow, bounds: impl Fn(LogId) -> (Offset, Offset)) -> Result<Self> {
        let config = config_of(row)?;
        let layout = config.layout();
        let log = |partition| {
            let id = LogId { topic: row.number, partition };
            Arc::new(PartitionLog::new(id, (row.id, &row.name), bounds(id), layout))
        };
        Ok(Self {
            number: row.number,
            id: row.id,
            name: row.name.clone(),
            created_ms: row.created_ms,
            config,
            partitions: (0..row.partitions).map(log).collect(),
        })
    }

    /// The row that the store keeps.
    pub(crate) fn row(&self) -> TopicRow {
        let owned = |(key, value): (&'static str, String)| (key.to_owned(), value);
        TopicRow {
            number: self.number,
            id: self.id,
            name: self.name.clone(),
            partitions: self.partition_count(),
            created_ms: self.created_ms,
            overrides: self.config.overrides().into_iter().map(owned).collect(),
        }
    }

    /// Lets the partitions know what this version of the configuration says about the layout of their records.
    pub(crate) fn put_layout(&self) {
        self.partitions.iter().for_each(|log| log.set_layout(self.config.layout()));
    }

    pub(crate) fn partition_count(&self) -> u32 {
        u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn partition(&self, partition: u32) -> Result<&Arc<PartitionLog>> {
        self.partitions.get(partition as usize).ok_or_else(|| Error::unknown_partition(self.name.as_str(), partition))
    }

    /// The same topic with another configuration.
    pub(crate) fn with_config(&self, config: TopicConfig) -> Self {
        Self { name: self.name.clone(), config, partitions: self.partitions.clone(), ..*self }
    }

    /// The same topic with more partitions.
    pub(crate) fn with_partitions(&self, count: u32) -> Self {
        let mut partitions = self.partitions.clone();
        for partition in self.partition_count()..count {
            let id = LogId { topic: self.number, partition };
            let empty = (Offset::ZERO, Offset::ZERO);
            let layout = self.config.layout();
            partitions.push(Arc::new(PartitionLog::new(id, (self.id, &self.name), empty, layout)));
        }
        Self { name: self.name.clone(), config: self.config.clone(), partitions, ..*self }
    }
}

/// The configuration that the store keeps of a topic.
pub(crate) fn config_of(row: &TopicRow) -> Result<TopicConfig> {
    row.overrides.iter().try_fold(TopicConfig::default(), |config, (key, value)| {
        let damaged =
            |error: Error| Error::corrupt(format!("the configuration of topic `{}`", row.name), error.to_string());
        config.set(key, value).map_err(damaged)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::broker::Broker;
    use crate::config::CompressionType;
    use crate::disk::Disk;
    use crate::disk::sim_disk::SimDisk;
    use crate::record::ProducerRecord;
    use crate::store::{Purpose, Store, StoreOptions};
    use crate::types::StoreId;

    /// A topic of a build that has more: only its writing is refused. (A build that has all of them has nothing to refuse.)
    #[test]
    fn a_topic_whose_compression_is_not_in_this_build_takes_no_records() {
        const PATH: &str = "/d/app.brooklet";
        let missing = [CompressionType::Lz4, CompressionType::Zstd].into_iter().find(|kind| !kind.is_supported());
        let Some(missing) = missing.map(|missing| missing.to_string()) else { return };
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
        let options = StoreOptions { cache_size: 1 << 20 };
        Store::create(&disk, Path::new(PATH), StoreId(7), options).unwrap();
        let store = Store::open(&disk, Path::new(PATH), options).unwrap();
        let row = TopicRow {
            number: TopicNumber(0),
            id: TopicId::new(3),
            name: TopicName::new("t").unwrap(),
            partitions: 1,
            created_ms: 0,
            overrides: vec![("compression.type".to_owned(), missing.clone())],
        };
        store.update(Purpose::Grow, |update| update.put_topic(&row)).unwrap();
        store.close().unwrap();
        drop(store);

        let broker = Broker::builder().disk(disk).background(false).open(PATH).unwrap();
        let send =
            || broker.producer().send(ProducerRecord::to("t").value("x")).and_then(crate::producer::Delivery::wait);
        let error = send().unwrap_err();
        assert!(matches!(error, Error::UnsupportedCompressionType { .. }), "{error}");
        assert!(
            error.to_string().contains("topic `t`") && error.to_string().contains(&format!("the feature `{missing}`")),
            "{error}"
        );
        assert_eq!(broker.describe_topic("t").unwrap().config().get("compression.type"), Some(missing));
        let other = |config: TopicConfig| Ok(config.max_message_bytes(5_000));
        assert!(matches!(broker.alter_topic("t", other), Err(Error::InvalidConfig { .. })));
        broker.alter_topic("t", |config| Ok(config.compression_type(CompressionType::None))).unwrap();
        send().unwrap();
        broker.close().unwrap();
    }
}
