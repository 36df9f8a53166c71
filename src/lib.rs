//! brooklet
mod error;
mod types;

mod codec;

#[doc(hidden)]
pub mod disk;

pub use error::{Error, Result};
pub use types::{
    MAX_PARTITIONS, MAX_TOPIC_NAME, Offset, OffsetAndTimestamp, OffsetSpec, TimestampType, TopicId, TopicName,
    TopicPartition,
};
