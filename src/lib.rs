//! *SQLite is to PostgreSQL what brooklet is to Apache Kafka.*
//!
//! brooklet keeps topics and partitions in one file and lets many consumers in your process read them, each at its own
//! position: Kafka's semantics as a synchronous library, without a server and without an async runtime. It is for desktop and
//! edge applications, local event sourcing and offline-first replay.
//!
//! # One story
//!
//! ```
//! use brooklet::{Broker, NewTopic, OffsetReset, OffsetSpec, ProducerRecord};
//! use std::time::Duration;
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("app.brooklet");
//!
//! // A file. It is created when it is not there.
//! let broker = Broker::open(&path)?;
//! broker.create_topic(NewTopic::new("orders", 3))?;
//!
//! // Records with the same key go to the same partition, in the order of the sends.
//! let producer = broker.producer();
//! for value in ["created", "paid", "shipped"] {
//!     producer.send(ProducerRecord::to("orders").key("c-42").value(value))?;
//! }
//! producer.flush()?; // on the disk now
//!
//! // Any number of consumers read independently, from wherever they like.
//! let partitions = [("orders", 0), ("orders", 1), ("orders", 2)];
//! let mut consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign(partitions)?;
//! let mut story = Vec::new();
//! while story.len() < 3 {
//!     for record in &consumer.poll(Duration::from_secs(1))? {
//!         assert_eq!(record.key(), Some(&b"c-42"[..]));
//!         story.push(String::from_utf8_lossy(record.value().unwrap()).into_owned());
//!     }
//! }
//! assert_eq!(story, ["created", "paid", "shipped"]);
//!
//! // A process that is killed here has lost nothing: the next `open` brings everything back.
//! broker.close()?;
//! # Ok::<(), brooklet::Error>(())
//! ```
//!
//! # The nouns
//!
//! | | |
//! |---|---|
//! | [`Broker`] | the open file; creates, describes and deletes topics. [`Builder`] has its options |
//! | [`Producer`] | sends a [`ProducerRecord`], gives back a [`Delivery`] to wait for, which gives [`RecordMetadata`] |
//! | [`Consumer`] | [`poll`](Consumer::poll)s [`ConsumerRecords`] from the topics that its group shares out, or from the partitions that it was assigned; commits how far it got |
//! | [`RebalanceListener`], [`Assignor`] | what to do when partitions come and go, and who gets which |
//! | [`TopicPartition`], [`Offset`], [`OffsetSpec`] | where a record is, and how to say where to read |
//! | [`Durability`] | when a record counts as acknowledged, and what it then survives |
//! | [`TopicConfig`] | what can be set on a topic, under Kafka's keys |
//! | [`Error`] | what was wrong, and what to do |
//!
//! # What is promised
//!
//! - **Order.** Within a partition, records have ascending offsets, in the order of the sends, without gaps unless the topic is
//!   compacted. An offset never names another record, also not after records were deleted.
//! - **A prefix.** After a crash at any point the file holds exactly a prefix of what was acknowledged, in the one order in which
//!   it was acknowledged; in `Sync` mode that is all of it. [`Durability`] says it exactly.
//! - **What is seen is acknowledged.** A consumer sees a record when it is acknowledged, never before.
//! - **Damage is told.** Every record is behind a checksum. Bytes that are not what was written give [`Error::Corrupt`], never
//!   another record. (A last journal frame that is damaged looks like one that was never finished: see [`docs::format`].)
//! - **Readers never wait for writers**, and never keep space from being reused.
//!
//! # What it is not
//!
//! It is not a server, does not replicate, and has no network code. One process opens the file at a time. Transactions
//! are not there yet.
//!
//! It deletes nothing unless it is told to: by default a topic keeps its records for ever, where Kafka keeps them 7 days. See
//! [`TopicConfig`] and [`Broker::clean`].
//!
//! # Platforms
//!
//! Developed on Linux with 64 bits, where everything is tested and measured. The tests have also been run for Windows, though under
//! Wine, for Linux with 32 bits, and, the unit tests alone, for a big-endian machine; for macOS they have only been
//! compiled. On macOS a sync is `F_FULLFSYNC`, on Windows `FlushFileBuffers`, as std's `sync_data` does it. Build with `panic = "unwind"`, the default: damage of the file's first page, the only one of the
//! store that has no checksum of ours, can make the store's engine panic. That is then an [`Error::Corrupt`]; with `panic = "abort"` it
//! ends the process.

// The tests' simulated disk says `brooklet::disk`, from inside this crate and from outside.
#[cfg(test)]
extern crate self as brooklet;

mod checksum;
mod clock;
mod config;
mod error;
mod inspect;
mod process;
mod record;
mod types;

mod assignor;
mod codec;
mod compaction;
mod group;
mod panics;
mod partitioner;
mod retention;

#[doc(hidden)]
pub mod disk;
mod journal;
mod store;

mod engine;

mod admin;
mod broker;
mod consumer;
mod producer;

#[cfg(any(doc, doctest))]
pub mod docs;

#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;

pub use admin::{NewTopic, PartitionCompaction, PartitionDescription, TopicDescription};
pub use assignor::{
    Assignor, GroupAssignment, GroupSpec, MemberSpec, RangeAssignor, RoundRobinAssignor, StickyAssignor,
    UniformAssignor, assignor_named,
};
pub use broker::{Broker, Builder};
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{
    CleanupPolicy, CompressionType, ConfigEntry, ConfigSource, Durability, MAX_MESSAGE_BYTES_LIMIT, TopicConfig,
};
#[cfg(feature = "channel")]
pub use consumer::RecordReceiver;
pub use consumer::{
    Consumer, ConsumerBuilder, ConsumerRecord, ConsumerRecords, Header, Headers, ListenerResult, OffsetReset,
    OwnedRecord, RebalanceListener, RecordIter, Table, Waker,
};
pub use error::{Error, ErrorCode, Result};
pub use group::{
    GroupDescription, GroupListing, GroupMembershipOperation, GroupMetadata, GroupName, GroupState, MemberDescription,
    OffsetAndMetadata, OffsetChange, PartitionLag, ResetTo,
};
pub use inspect::{CheckReport, CleanReport, Stats, VacuumReport};
pub use partitioner::{Murmur2Partitioner, Partitioner, partition_for_key};
pub use producer::{Delivery, DeliveryFuture, Producer, ProducerBuilder};
pub use record::{Payload, ProducerRecord, RecordMetadata};
pub use types::{
    MAX_PARTITIONS, MAX_TOPIC_NAME, Offset, OffsetAndTimestamp, OffsetSpec, TimestampType, TopicId, TopicName,
    TopicPartition,
};
