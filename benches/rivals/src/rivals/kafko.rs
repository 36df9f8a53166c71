//! kafko on a tokio runtime. A send is in the operating system's memory; a sync of the partition puts it on the disk.
//!
//! There is no scan: to read one record it reads the whole rest of its segment, of up to 1 GiB.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafko::{Kafko, Partition, Producer};
use tokio::runtime::{Builder, Runtime};

use super::{Class, Rival, unsupported};
use crate::harness::Result;
use crate::harness::payload::Payload;

const TOPIC: &str = "log";
const RECORDS_A_BATCH: usize = 10_000;

struct Broker {
    runtime: Runtime,
    kafko: Kafko,
    producer: Producer,
    partition: Arc<Partition>,
    class: Class,
}

fn connect(directory: &Path, class: Class) -> Result<Broker> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (kafko, producer, partition) = runtime.block_on(async {
        let kafko = Kafko::open(directory.join("kafko")).await?;
        kafko.create_topic(TOPIC).await?;
        let producer = kafko.producer_for(TOPIC).await?;
        let topic = kafko.topic(TOPIC).await.ok_or("the topic is not there")?;
        let partition = Arc::clone(topic.partition(0).ok_or("the partition is not there")?);
        Result::Ok((kafko, producer, partition))
    })?;
    Ok(Broker { runtime, kafko, producer, partition, class })
}

pub(super) fn open(directory: &Path, class: Class) -> Result<Box<dyn Rival>> {
    Ok(Box::new(connect(directory, class)?))
}

fn value(payload: &Payload) -> Bytes {
    Bytes::copy_from_slice(&payload.bytes)
}

impl Rival for Broker {
    fn append(&self, payload: &Payload) -> Result {
        self.runtime.block_on(async {
            self.producer.send(None, value(payload)).await?;
            match self.class {
                Class::Sync | Class::Batches => Ok(self.partition.sync().await?),
                Class::Process => Ok(()),
            }
        })
    }

    fn append_batch(&self, payloads: &[Payload]) -> Result {
        self.runtime.block_on(async {
            self.producer.send_batch(payloads.iter().map(|payload| (None, value(payload))).collect()).await?;
            Ok(self.partition.sync().await?)
        })
    }

    fn load(&self, payloads: &mut dyn Iterator<Item = &Payload>) -> Result {
        loop {
            let batch: Vec<_> = payloads.take(RECORDS_A_BATCH).map(|payload| (None, value(payload))).collect();
            if batch.is_empty() {
                return self.runtime.block_on(async { Ok(self.partition.sync().await?) });
            }
            self.runtime.block_on(self.producer.send_batch(batch))?;
        }
    }

    fn read(&self, _number: u64) -> Result<usize> {
        unsupported()
    }

    fn close(self: Box<Self>) -> Result {
        let Broker { runtime, kafko, producer, partition, .. } = *self;
        drop((producer, partition));
        Ok(runtime.block_on(kafko.shutdown())?)
    }
}

/// Times when a sleeping reader had the record, for each `()` of `go`.
pub(crate) fn wake_up(directory: &Path, started: Instant, go: &Receiver<()>, arrived: &Sender<Duration>) -> Result {
    let broker = connect(directory, Class::Process)?;
    let arrived = arrived.clone();
    let mut consumer = broker.runtime.block_on(broker.kafko.consumer_for(TOPIC))?;
    let reader = broker
        .runtime
        .spawn(async move { while consumer.next_record().await.is_ok() && arrived.send(started.elapsed()).is_ok() {} });
    for () in go {
        broker.runtime.block_on(broker.producer.send(None, Bytes::from_static(&[7; 100])))?;
    }
    reader.abort();
    Ok(())
}
