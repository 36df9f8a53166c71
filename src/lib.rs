//! brooklet
// The tests' simulated disk says `brooklet::disk`, from inside this crate and from outside.
#[cfg(test)]
extern crate self as brooklet;

mod clock;
mod config;
mod error;
mod inspect;
mod record;
mod types;

mod codec;
mod partitioner;

#[doc(hidden)]
pub mod disk;
mod journal;
mod store;

mod engine;

mod admin;
mod broker;
mod consumer;
mod producer;

pub use admin::{NewTopic, PartitionDescription, TopicDescription};
pub use broker::{Broker, Builder};
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{ConfigEntry, ConfigSource, Durability, MAX_MESSAGE_BYTES_LIMIT, TopicConfig};
pub use consumer::{
    Consumer, ConsumerBuilder, ConsumerRecord, ConsumerRecords, Header, Headers, OffsetReset, OwnedRecord, RecordIter,
    RecordReceiver, Waker,
};
pub use error::{Error, Result};
pub use inspect::{CheckReport, Stats};
pub use partitioner::{Murmur2Partitioner, Partitioner, partition_for_key};
pub use producer::{Delivery, Producer, ProducerBuilder};
pub use record::{Payload, ProducerRecord, RecordMetadata};
pub use types::{
    MAX_PARTITIONS, MAX_TOPIC_NAME, Offset, OffsetAndTimestamp, OffsetSpec, TimestampType, TopicId, TopicName,
    TopicPartition,
};
