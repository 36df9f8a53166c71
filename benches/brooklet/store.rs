//! Brokers on scratch files, and records for them.

use std::path::{Path, PathBuf};

use brooklet::{Broker, Builder, Consumer, NewTopic, OffsetReset, Producer, ProducerRecord, TopicConfig};
use tempfile::TempDir;

use crate::harness::payload::Payload;
use crate::harness::{Context, Result};

/// The one topic of a bench.
pub(crate) const TOPIC: &str = "bench";

/// A broker on a file of its own, and room beside it for a baseline's file.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) broker: Broker,
    directory: TempDir,
}

impl Scratch {
    pub(crate) fn new(context: &Context, builder: &Builder, partitions: u32) -> Result<Self> {
        let directory = context.directory()?;
        let broker = create(builder, &store_in(directory.path()), partitions)?;
        Ok(Self { broker, directory })
    }

    pub(crate) fn store(&self) -> PathBuf {
        store_in(self.directory.path())
    }

    /// Where a baseline puts its file.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Closes the broker and opens the file again.
    pub(crate) fn reopen(&mut self, builder: &Builder) -> Result {
        self.broker.close()?;
        self.broker = builder.open(self.store())?;
        Ok(())
    }
}

fn store_in(directory: &Path) -> PathBuf {
    directory.join("store.brooklet")
}

/// A new store with the topic.
pub(crate) fn create(builder: &Builder, path: &Path, partitions: u32) -> Result<Broker> {
    let broker = builder.open(path)?;
    // A payload of 1 MB and what a record counts besides.
    let config = TopicConfig::default().max_message_bytes(2 << 20);
    broker.create_topic(NewTopic::new(TOPIC, partitions).config(config))?;
    Ok(broker)
}

/// A payload as a record.
pub(crate) fn record(payload: &Payload) -> ProducerRecord<'_> {
    let (key, value) = payload.parts();
    let record = ProducerRecord::to(TOPIC).value(value);
    match key {
        Some(key) => record.key(key),
        None => record,
    }
}

/// Sends `count` records without waiting in between; returns when all are acknowledged.
pub(crate) fn fill(producer: &Producer, payloads: &[Payload], count: u64) -> Result {
    for (payload, _) in payloads.iter().cycle().zip(0..count) {
        drop(producer.send(record(payload))?);
    }
    Ok(producer.flush()?)
}

/// More bytes than the journal of a broker with default options holds.
const JOURNAL_LAP: usize = 70_000_000;

/// Whether a broker's journal has its full length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Journal {
    /// It grows while it is written, as that of a broker that has just been created.
    New,
    /// It has been written round, as it stays from then on.
    Used,
}

impl Journal {
    pub(crate) const BOTH: [Journal; 2] = [Journal::Used, Journal::New];

    /// Brings a new broker's journal there.
    pub(crate) fn prepare(self, context: &Context, producer: &Producer, payloads: &[Payload]) -> Result {
        let mut left = if self == Journal::Used { context.pick(1_000_000, JOURNAL_LAP) } else { 0 };
        while left > 0 {
            // Waited for, so that they go into the journal and not straight into the store.
            let last = producer.send_all(payloads.iter().map(record))?.pop();
            last.map(|delivery| delivery.wait()).transpose()?;
            left = left.saturating_sub(payloads.iter().map(|payload| payload.bytes.len()).sum());
        }
        Ok(())
    }

    /// What it adds to a case's name.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Journal::New => ", new journal",
            Journal::Used => "",
        }
    }
}

/// A consumer of partitions 0 to below `partitions`, from the start.
pub(crate) fn consumer(broker: &Broker, partitions: u32, max_poll_records: usize) -> Result<Consumer> {
    let builder = broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(max_poll_records);
    Ok(builder.assign((0..partitions).map(|partition| (TOPIC, partition)))?)
}
