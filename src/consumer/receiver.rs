//! Records through a channel, for `select!`.

use std::fmt;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never};

use super::handle::{Consumer, Waker};
use super::records::OwnedRecord;
use crate::error::{Error, Result};

/// A consumer's records as a crossbeam channel.
///
/// A thread polls the consumer and sends each record; it sleeps while there is none and while the channel is full. An error
/// is sent too and ends it, as does dropping this.
///
/// ```
/// use brooklet::{Broker, NewTopic, OffsetReset, ProducerRecord};
/// use crossbeam_channel::select;
///
/// let broker = Broker::in_memory()?;
/// broker.create_topic(NewTopic::new("orders", 1))?;
/// let consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign([("orders", 0)])?;
/// let records = consumer.into_receiver(100)?;
/// broker.producer().send(ProducerRecord::to("orders").value("3 apples"))?.wait()?;
/// let (_stop, stopped) = crossbeam_channel::bounded::<()>(0);
/// select! {
///     recv(records.receiver()) -> record => {
///         let record = record.expect("the consumer runs")?;
///         assert_eq!(record.get().value(), Some(&b"3 apples"[..]));
///     }
///     recv(stopped) -> _ => unreachable!(),
/// }
/// # Ok::<(), brooklet::Error>(())
/// ```
pub struct RecordReceiver {
    receiver: Receiver<Result<OwnedRecord>>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

/// The most records in a channel, which takes its memory at once: some 100 MiB.
const MOST_RECORDS: usize = 1 << 20;

impl RecordReceiver {
    pub(super) fn start(consumer: Consumer, capacity: usize) -> Result<Self> {
        if capacity > MOST_RECORDS {
            return Err(Error::illegal_argument(format!(
                "a channel of {capacity} records is too large: give a capacity of at most {MOST_RECORDS}"
            )));
        }
        let (sender, receiver) = bounded(capacity);
        let waker = consumer.waker();
        let path = consumer.broker().engine().path().to_owned();
        let thread = thread::Builder::new()
            .name("brooklet-receiver".to_owned())
            .spawn(move || pump(consumer, &sender))
            .map_err(|error| Error::io("start a receiver's thread for", &path, error))?;
        Ok(Self { receiver, waker, thread: Some(thread) })
    }

    /// The channel. It is disconnected after an error was received.
    pub fn receiver(&self) -> &Receiver<Result<OwnedRecord>> {
        &self.receiver
    }
}

/// Sends what the consumer reads until nobody receives any more, or it fails.
fn pump(mut consumer: Consumer, sender: &Sender<Result<OwnedRecord>>) {
    loop {
        let records = match consumer.poll(Duration::MAX) {
            Ok(records) => records,
            Err(error) => {
                // Nobody left to tell is as good an end.
                let _ = sender.send(Err(error));
                return;
            }
        };
        for record in OwnedRecord::split(&records) {
            if sender.send(Ok(record)).is_err() {
                return;
            }
        }
    }
}

impl Drop for RecordReceiver {
    fn drop(&mut self) {
        // Disconnected, so that a thread that sends gives up; woken, so that one that polls does.
        self.receiver = never();
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for RecordReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordReceiver").field("waiting", &self.receiver.len()).finish_non_exhaustive()
    }
}
