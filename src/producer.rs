//! Sending records.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::engine::{Engine, GroupNumber, Keys, Sequenced};
use crate::error::{Error, Result};
use crate::partitioner::Partitioner;
use crate::record::{Payload, ProducerRecord, RecordMetadata};

/// Sends records. Cheap to clone; can be used from any thread.
///
/// ```
/// use brooklet::{Broker, NewTopic, ProducerRecord};
///
/// let broker = Broker::in_memory()?;
/// broker.create_topic(NewTopic::new("orders", 1))?;
/// let producer = broker.producer();
/// let first = producer.send(ProducerRecord::to("orders").key("c-42").value("3 apples"))?;
/// let second = producer.send(ProducerRecord::to("orders").key("c-42").value("1 pear"))?;
/// assert_eq!(first.wait()?.offset(), 0);
/// assert_eq!(second.wait()?.offset(), 1);
/// # Ok::<(), brooklet::Error>(())
/// ```
///
/// # In which order do records get their offsets?
///
/// In the order of the calls of `send`, within each partition (P-8), also when nobody waits in between.
///
/// # What does `send` wait for?
///
/// Only for room, when `buffer_memory` is used up: see [`Builder::buffer_memory`](crate::Builder::buffer_memory). Waiting for
/// the acknowledgement is the [`Delivery`]'s business. Threads that wait at the same time share one sync.
#[derive(Debug, Clone)]
pub struct Producer {
    broker: Broker,
    /// `None`: Kafka's own choice, which needs nobody's code.
    partitioner: Option<Arc<dyn Partitioner>>,
}

/// Options of a producer.
#[derive(Debug, Clone)]
#[must_use]
pub struct ProducerBuilder {
    broker: Broker,
    partitioner: Option<Arc<dyn Partitioner>>,
}

impl ProducerBuilder {
    pub(crate) fn new(broker: Broker) -> Self {
        Self { broker, partitioner: None }
    }

    /// Who chooses the partition of records that name none; default Kafka's own choice (P-2).
    pub fn partitioner(mut self, partitioner: impl Partitioner) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }

    /// The producer.
    pub fn build(self) -> Producer {
        Producer { broker: self.broker, partitioner: self.partitioner }
    }
}

impl Producer {
    /// Queues a record and gives back its delivery. The record is copied, so it may borrow what it carries.
    ///
    /// # Errors
    ///
    /// Nothing is queued when it fails:
    ///
    /// - [`UnknownTopicOrPartition`](crate::Error::UnknownTopicOrPartition), [`InvalidTopic`](crate::Error::InvalidTopic) (R-18);
    /// - [`RecordTooLarge`](crate::Error::RecordTooLarge) beyond `max.message.bytes` or `buffer_memory` (R-16);
    /// - [`InvalidTimestamp`](crate::Error::InvalidTimestamp) (R-12), [`IllegalArgument`](crate::Error::IllegalArgument) for a
    ///   negative one or a partitioner's bad choice;
    /// - [`BufferExhausted`](crate::Error::BufferExhausted) after `max_block` (P-10), [`StorageFull`](crate::Error::StorageFull);
    /// - [`Closed`](crate::Error::Closed), [`ReopenRequired`](crate::Error::ReopenRequired).
    pub fn send(&self, mut record: ProducerRecord<'_>) -> Result<Delivery> {
        self.place(&mut record)?;
        let sequenced = self.engine().send(&record, self.keys(), None)?;
        Ok(Delivery::new(self.engine(), sequenced))
    }

    /// Queues a record and calls `callback` once with what became of it.
    ///
    /// Callbacks run in the order of the sends, on whichever thread commits, while it commits: keep them short. Within one,
    /// waiting, flushing, closing and changing topics are errors, never a deadlock; sending is fine. One that panics harms no
    /// other record (P-14).
    ///
    /// # Errors
    ///
    /// As [`send`](Producer::send); the callback is then not called.
    pub fn send_with(
        &self,
        mut record: ProducerRecord<'_>,
        callback: impl FnOnce(Result<RecordMetadata>) + Send + 'static,
    ) -> Result<Delivery> {
        self.place(&mut record)?;
        let sequenced = self.engine().send(&record, self.keys(), Some(Box::new(callback)))?;
        Ok(Delivery::new(self.engine(), sequenced))
    }

    /// Queues records together: all are acknowledged or none, also across partitions and after a crash, and within a
    /// partition no other record comes between them (R-6).
    ///
    /// Together they have to fit into `buffer_memory`.
    ///
    /// # Errors
    ///
    /// As [`send`](Producer::send), with the index of the first bad record where the error has one. Nothing is queued then.
    pub fn send_all<'a>(&self, records: impl IntoIterator<Item = ProducerRecord<'a>>) -> Result<Vec<Delivery>> {
        let mut records: Vec<_> = records.into_iter().collect();
        records.iter_mut().try_for_each(|record| self.place(record))?;
        let sequenced = self.engine().send_all(&records, self.keys())?;
        Ok(sequenced.into_iter().map(|sequenced| Delivery::new(self.engine(), sequenced)).collect())
    }

    /// Commits everything sent so far, by any producer of this broker, and returns when that is done (P-15).
    ///
    /// # Errors
    ///
    /// Unlike Kafka's, it also fails when the last of these commits failed: [`StorageFull`](crate::Error::StorageFull),
    /// [`DurabilityUnknown`](crate::Error::DurabilityUnknown), [`ReopenRequired`](crate::Error::ReopenRequired).
    pub fn flush(&self) -> Result<()> {
        self.engine().flush()
    }

    /// Asks the partitioner, if there is one, before any lock is taken: it may use the broker.
    #[inline]
    fn place(&self, record: &mut ProducerRecord<'_>) -> Result<()> {
        if let (Some(partitioner), None) = (&self.partitioner, record.partition) {
            let count = self.engine().partition_count(&record.topic)?;
            let key = record.key.as_ref().map(Payload::as_bytes);
            let value = record.value.as_ref().map(Payload::as_bytes);
            let chosen = partitioner.partition(&record.topic, key, value, count);
            if let Some(partition) = chosen.filter(|&partition| partition >= count) {
                let topic = &record.topic;
                return Err(Error::illegal_argument(format!(
                    "the partitioner chose partition {partition} of topic `{topic}`, which has {count}"
                )));
            }
            record.partition = chosen;
        }
        Ok(())
    }

    /// A partitioner that was asked and had no choice leaves the record to the sticky rule.
    fn keys(&self) -> Keys {
        if self.partitioner.is_some() { Keys::DontMatter } else { Keys::Choose }
    }

    fn engine(&self) -> &Arc<Engine> {
        self.broker.engine()
    }
}

/// The acknowledgement of one record, to wait for.
///
/// Dropping it changes nothing: the record is committed all the same, and [`Producer::flush`] waits for all of them.
///
/// # How do I wait in async code?
///
/// `await` it, in any runtime: a delivery turns into a [`DeliveryFuture`]. The broker's background thread commits at once
/// when a future waits, and wakes the task. Without that thread
/// ([`background(false)`](crate::Builder::background)) the task sleeps until another thread commits.
///
/// ```
/// use brooklet::{Broker, NewTopic, ProducerRecord};
///
/// # fn block_on<F: Future>(future: F) -> F::Output {
/// #     struct Unpark(std::thread::Thread);
/// #     impl std::task::Wake for Unpark {
/// #         fn wake(self: std::sync::Arc<Self>) {
/// #             self.0.unpark();
/// #         }
/// #     }
/// #     let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
/// #     let mut future = std::pin::pin!(future);
/// #     loop {
/// #         match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
/// #             std::task::Poll::Ready(output) => return output,
/// #             std::task::Poll::Pending => std::thread::park(),
/// #         }
/// #     }
/// # }
/// # block_on(async {
/// let broker = Broker::in_memory()?;
/// broker.create_topic(NewTopic::new("orders", 1))?;
/// let metadata = broker.producer().send(ProducerRecord::to("orders").value("3 apples"))?.await?;
/// assert_eq!(metadata.offset(), 0);
/// # Ok::<(), brooklet::Error>(())
/// # })?;
/// # Ok::<(), brooklet::Error>(())
/// ```
pub struct Delivery {
    engine: Arc<Engine>,
    group: GroupNumber,
    metadata: RecordMetadata,
}

impl Delivery {
    fn new(engine: &Arc<Engine>, sequenced: Sequenced) -> Self {
        Self { engine: Arc::clone(engine), group: sequenced.group, metadata: sequenced.metadata }
    }

    /// Waits until the record is acknowledged, as the broker's [`Durability`](crate::Durability) says.
    ///
    /// If nobody is committing, this thread commits for all that wait; else it sleeps until it is its turn or its record is
    /// done.
    ///
    /// # Errors
    ///
    /// - [`StorageFull`](crate::Error::StorageFull): it was not written, and took no offset;
    /// - [`DurabilityUnknown`](crate::Error::DurabilityUnknown): it may be on the disk or not;
    /// - [`ReopenRequired`](crate::Error::ReopenRequired): it was not written, as an earlier write failed;
    /// - [`IllegalState`](crate::Error::IllegalState) within a callback.
    pub fn wait(self) -> Result<RecordMetadata> {
        self.engine.wait_for(self.group, None)?;
        Ok(self.metadata)
    }

    /// Like [`wait`](Delivery::wait) for at most `timeout`, measured while another thread commits; `None` when it passed.
    ///
    /// # Errors
    ///
    /// As [`wait`](Delivery::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<RecordMetadata>> {
        let deadline = Instant::now().checked_add(timeout);
        let done = self.engine.wait_for(self.group, deadline)?;
        Ok(done.then(|| self.metadata.clone()))
    }

    /// Waits until the record is on the disk, also in `Buffered` mode. Threads that wait share syncs.
    ///
    /// # Errors
    ///
    /// As [`wait`](Delivery::wait).
    pub fn wait_durable(self) -> Result<RecordMetadata> {
        self.engine.wait_for(self.group, None)?;
        self.engine.sync_journal()?;
        Ok(self.metadata)
    }

    /// Whether the record is done: acknowledged or failed. Never blocks.
    pub fn is_done(&self) -> bool {
        self.engine.is_done(self.group)
    }
}

impl IntoFuture for Delivery {
    type Output = Result<RecordMetadata>;
    type IntoFuture = DeliveryFuture;

    fn into_future(self) -> DeliveryFuture {
        DeliveryFuture { delivery: self }
    }
}

/// A [`Delivery`] that a task of any async runtime waits for. It ends as [`Delivery::wait`] does.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct DeliveryFuture {
    delivery: Delivery,
}

impl Future for DeliveryFuture {
    type Output = Result<RecordMetadata>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Delivery { engine, group, metadata } = &self.delivery;
        match engine.poll_group(*group, context.waker()) {
            None => Poll::Pending,
            Some(outcome) => Poll::Ready(outcome.map(|()| metadata.clone())),
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("metadata", &self.metadata)
            .field("done", &self.is_done())
            .finish_non_exhaustive()
    }
}
