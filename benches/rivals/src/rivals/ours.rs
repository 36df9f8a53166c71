//! brooklet, with default options but for durability.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use brooklet::{Broker, Consumer, Durability, Error, NewTopic, OffsetReset, Producer, ProducerRecord, TopicPartition};

use super::{Class, Rival};
use crate::harness::Result;
use crate::harness::payload::Payload;

const TOPIC: &str = "log";

struct Ours {
    broker: Broker,
    producer: Producer,
    partition: TopicPartition,
    /// Reads one record a poll.
    reader: Mutex<Consumer>,
}

fn record(payload: &Payload) -> ProducerRecord<'_> {
    ProducerRecord::to(TOPIC).value(&payload.bytes)
}

fn open_broker(directory: &Path, class: Class) -> Result<Broker> {
    let durability = match class {
        Class::Sync | Class::Batches => Durability::Sync,
        Class::Process => Durability::Buffered { flush_interval: Duration::from_secs(1) },
    };
    let broker = Broker::builder().durability(durability).open(directory.join("log.brooklet"))?;
    match broker.create_topic(NewTopic::new(TOPIC, 1)) {
        Ok(_) | Err(Error::TopicAlreadyExists { .. }) => Ok(broker),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn open(directory: &Path, class: Class) -> Result<Box<dyn Rival>> {
    let broker = open_broker(directory, class)?;
    let reader = broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(1).assign([(TOPIC, 0)])?;
    let (producer, partition) = (broker.producer(), TopicPartition::new(TOPIC, 0));
    Ok(Box::new(Ours { broker, producer, partition, reader: Mutex::new(reader) }))
}

impl Rival for Ours {
    fn append(&self, payload: &Payload) -> Result {
        self.producer.send(record(payload))?.wait()?;
        Ok(())
    }

    fn append_batch(&self, payloads: &[Payload]) -> Result {
        let last = self.producer.send_all(payloads.iter().map(record))?.pop();
        last.map(|delivery| delivery.wait()).transpose()?;
        Ok(())
    }

    fn load(&self, payloads: &mut dyn Iterator<Item = &Payload>) -> Result {
        for payload in payloads {
            drop(self.producer.send(record(payload))?);
        }
        Ok(self.producer.flush()?)
    }

    fn read(&self, number: u64) -> Result<usize> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader.seek(&self.partition, number)?;
        let records = reader.poll(Duration::ZERO)?;
        Ok(records.iter().next().and_then(|record| record.value()).map_or(0, <[u8]>::len))
    }

    fn close(self: Box<Self>) -> Result {
        Ok(self.broker.close()?)
    }
}

pub(super) fn scan(directory: &Path) -> Result<u64> {
    let broker = open_broker(directory, Class::Sync)?;
    let mut consumer =
        broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(100_000).assign([(TOPIC, 0)])?;
    let (mut count, mut sum) = (0, 0);
    loop {
        let records = consumer.poll(Duration::ZERO)?;
        if records.is_empty() {
            std::hint::black_box(sum);
            return Ok(count);
        }
        for record in &records {
            count += 1;
            sum += crate::ends(record.value().unwrap_or_default());
        }
    }
}

/// Times when a sleeping reader had the record, for each `()` of `go`.
pub(crate) fn wake_up(directory: &Path, started: Instant, go: &Receiver<()>, arrived: &Sender<Duration>) -> Result {
    let broker = open_broker(directory, Class::Process)?;
    let producer = broker.producer();
    let mut consumer = broker.consumer().assign([(TOPIC, 0)])?;
    // Now, and not at the first `poll`: that may come behind the first record.
    consumer.position(&TopicPartition::new(TOPIC, 0))?;
    let (waker, arrived) = (consumer.waker(), arrived.clone());
    let reader =
        std::thread::spawn(
            move || {
                while consumer.poll(Duration::MAX).is_ok() && arrived.send(started.elapsed()).is_ok() {}
            },
        );
    for () in go {
        producer.send(ProducerRecord::to(TOPIC).value(&[7; 100]))?.wait()?;
    }
    waker.wake();
    reader.join().map_err(|_| "the reader panicked")?;
    Ok(())
}
