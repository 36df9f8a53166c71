//! One partition as its readers see it: where it starts and ends, and its tail.
//!
//! The tail holds the acknowledged batches that the store does not have yet. A batch enters it when it is acknowledged
//! and leaves it after the checkpoint that stored it, so that an offset is always found in one of the two.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::waiting::Waiter;
use crate::codec::RecordBatch;
use crate::config::Layout;
use crate::types::{LogId, Offset, TopicId, TopicName, TopicPartition};

/// A partition's log.
///
/// Lock order: `tail`, `waiters` and `layout` are innermost; none is held while another is taken, nor across any
/// I/O.
#[derive(Debug)]
pub(crate) struct PartitionLog {
    pub(crate) id: LogId,
    pub(crate) topic_id: TopicId,
    pub(crate) topic: TopicName,
    pub(crate) name: TopicPartition,
    /// The smallest readable offset. Never goes back.
    log_start: AtomicU64,
    /// The end: the offset behind the last acknowledged record.
    high_watermark: AtomicU64,
    /// The topic was deleted; nothing is read or written any more.
    deleted: AtomicBool,
    /// As the topic's configuration says; the next checkpoint goes by them.
    layout: Mutex<Layout>,
    /// Acknowledged batches, oldest first, without holes among them. The last one may grow while no reader has it.
    tail: Mutex<VecDeque<Arc<RecordBatch>>>,
    /// The consumers that read this partition.
    waiters: Mutex<Vec<Arc<Waiter>>>,
    /// Whether there are any, to look at without the lock.
    is_read: AtomicBool,
    /// How many read what a compacted partition says of its keys. Compaction drops nothing meanwhile.
    readers_of_table: AtomicUsize,
}

/// Where the records from an offset on are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// In the tail; they were given out.
    Tail,
    /// In the store, which has everything below `until`.
    Store { until: Offset },
    /// Nowhere: the offset is the end.
    End,
}

/// Whether the last batch of a tail may take in what follows. It does while it is small and no reader has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    MayGrow,
    /// It may be on its way into the store.
    Stays,
}

/// What became of a batch that was published.
#[derive(Debug)]
pub(crate) enum Published {
    /// The last batch has taken it in, and it is of no more use.
    Joined(RecordBatch),
    /// It is the last batch now. The one before grows no more, if it might have.
    Added(Option<Arc<RecordBatch>>),
    /// The topic was deleted.
    Nowhere,
}

impl PartitionLog {
    /// A log of the topic of this id and name, from `log_start` to `end`.
    pub(crate) fn new(
        id: LogId,
        (topic_id, topic): (TopicId, &TopicName),
        (log_start, end): (Offset, Offset),
        layout: Layout,
    ) -> Self {
        Self {
            id,
            topic_id,
            topic: topic.clone(),
            name: TopicPartition::of(topic, id.partition),
            log_start: AtomicU64::new(log_start.get()),
            high_watermark: AtomicU64::new(end.max(log_start).get()),
            deleted: AtomicBool::new(false),
            layout: Mutex::new(layout),
            tail: Mutex::new(VecDeque::new()),
            waiters: Mutex::new(Vec::new()),
            is_read: AtomicBool::new(false),
            readers_of_table: AtomicUsize::new(0),
        }
    }

    pub(crate) fn log_start(&self) -> Offset {
        Offset::new(self.log_start.load(Ordering::SeqCst))
    }

    /// The offset that the next acknowledged record will have.
    pub(crate) fn end(&self) -> Offset {
        Offset::new(self.high_watermark.load(Ordering::SeqCst))
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::SeqCst)
    }

    pub(crate) fn layout(&self) -> Layout {
        *self.layout.lock()
    }

    pub(crate) fn set_layout(&self, layout: Layout) {
        *self.layout.lock() = layout;
    }

    /// Makes an acknowledged batch visible, and wakes who waits for it.
    #[inline]
    pub(crate) fn publish(&self, batch: RecordBatch, last: Last) -> Published {
        let end = batch.header.last_offset.next();
        let published;
        {
            let mut tail = self.tail.lock();
            // Its topic is gone: the store will not take it either.
            if self.is_deleted() {
                return Published::Nowhere;
            }
            let mut before = if last == Last::MayGrow { tail.back_mut() } else { None };
            let joined =
                before.as_mut().and_then(|before| Arc::get_mut(before)).is_some_and(|before| before.join(&batch));
            published = if joined {
                Published::Joined(batch)
            } else {
                let before = before.map(|before| Arc::clone(before));
                tail.push_back(Arc::new(batch));
                Published::Added(before)
            };
            self.high_watermark.store(end.get(), Ordering::SeqCst);
        }
        self.notify();
        published
    }

    /// The batch that came last, if it is in the tail.
    pub(crate) fn last_in_tail(&self) -> Option<Arc<RecordBatch>> {
        self.tail.lock().back().map(Arc::clone)
    }

    /// Makes a batch visible that the store has already.
    pub(crate) fn publish_stored(&self, batch: &RecordBatch) {
        if !self.is_deleted() {
            self.high_watermark.fetch_max(batch.header.last_offset.next().get(), Ordering::SeqCst);
            self.notify();
        }
    }

    /// Forgets the batches that end below `stored`: the store has them.
    pub(crate) fn drop_tail_below(&self, stored: Offset) {
        let mut tail = self.tail.lock();
        while tail.front().is_some_and(|batch| batch.header.last_offset < stored) {
            tail.pop_front();
        }
    }

    /// Gives out the tail's batches from `from` on, until `max_bytes` of records are passed (at least one batch), or
    /// says where else to look.
    pub(crate) fn read_tail(&self, from: Offset, max_bytes: usize, out: &mut Vec<Arc<RecordBatch>>) -> Source {
        let tail = self.tail.lock();
        let end = self.end();
        if from >= end {
            return Source::End;
        }
        let until = tail.front().map_or(end, |front| front.header.base_offset);
        if from < until {
            return Source::Store { until };
        }
        let first = tail.partition_point(|batch| batch.header.last_offset < from);
        let mut bytes = 0;
        for batch in tail.range(first..) {
            out.push(Arc::clone(batch));
            bytes += batch.header.length as usize;
            if bytes >= max_bytes {
                break;
            }
        }
        Source::Tail
    }

    /// Where the tail begins: everything below is in the store.
    pub(crate) fn end_of_stored(&self) -> Offset {
        let tail = self.tail.lock();
        tail.front().map_or_else(|| self.end(), |front| front.header.base_offset)
    }

    /// Everything in the tail, oldest first.
    pub(crate) fn tail(&self) -> Vec<Arc<RecordBatch>> {
        self.tail.lock().iter().cloned().collect()
    }

    /// Moves the log start forward; `start` lies within the log.
    pub(crate) fn set_log_start(&self, start: Offset) {
        self.log_start.fetch_max(start.get(), Ordering::SeqCst);
        self.notify();
    }

    /// The topic is gone: its records with it.
    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::SeqCst);
        self.tail.lock().clear();
        self.notify();
    }

    pub(crate) fn add_waiter(&self, waiter: &Arc<Waiter>) {
        let mut waiters = self.waiters.lock();
        waiters.push(Arc::clone(waiter));
        self.is_read.store(true, Ordering::SeqCst);
    }

    pub(crate) fn remove_waiter(&self, waiter: &Arc<Waiter>) {
        let mut waiters = self.waiters.lock();
        if let Some(i) = waiters.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            waiters.swap_remove(i);
        }
        self.is_read.store(!waiters.is_empty(), Ordering::SeqCst);
    }

    pub(crate) fn add_reader_of_table(&self) {
        self.readers_of_table.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn remove_reader_of_table(&self) {
        self.readers_of_table.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn has_readers_of_table(&self) -> bool {
        self.readers_of_table.load(Ordering::SeqCst) > 0
    }

    #[inline]
    fn notify(&self) {
        if !self.is_read.load(Ordering::SeqCst) {
            return;
        }
        for waiter in self.waiters.lock().iter() {
            waiter.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{BatchBuilder, RawHeader, RecordParts};
    use crate::config::TopicConfig;
    use crate::types::{TimestampType, TopicNumber};

    const LOG: LogId = LogId { topic: TopicNumber(1), partition: 0 };

    fn log() -> PartitionLog {
        let name = TopicName::new("orders").unwrap();
        PartitionLog::new(LOG, (TopicId::new(1), &name), (Offset::ZERO, Offset::ZERO), TopicConfig::default().layout())
    }

    fn batch(offset: u64, value_len: usize) -> RecordBatch {
        let mut builder = BatchBuilder::new(LOG, Offset::new(offset), TimestampType::CreateTime, Vec::new());
        let value = vec![7; value_len];
        let headers = std::iter::empty::<RawHeader<'_>>();
        builder.push(0, &RecordParts { key: None, value: Some(&value), headers });
        builder.finish().unwrap()
    }

    fn counts(log: &PartitionLog) -> Vec<u32> {
        log.tail().iter().map(|batch| batch.header.count).collect()
    }

    #[test]
    fn small_batches_are_joined_while_no_reader_has_the_last_one() {
        let log = log();
        let publish = |offset, len, last| matches!(log.publish(batch(offset, len), last), Published::Joined(_));
        assert!(!publish(0, 100, Last::Stays));
        assert!(publish(1, 100, Last::MayGrow));
        assert_eq!((counts(&log), log.end()), (vec![2], Offset::new(2)));

        let mut read = Vec::new();
        assert_eq!(log.read_tail(Offset::new(1), 1, &mut read), Source::Tail);
        assert!(!publish(2, 100, Last::MayGrow));
        assert_eq!(read.first().unwrap().header.count, 2);
        assert_eq!((counts(&log), log.end()), (vec![2, 1], Offset::new(3)));

        assert!(!publish(3, 20_000, Last::MayGrow) && !publish(4, 100, Last::MayGrow) && !publish(5, 100, Last::Stays));
        assert_eq!((counts(&log), log.end()), (vec![2, 1, 1, 1, 1], Offset::new(6)));
    }

    #[test]
    fn a_deleted_log_takes_nothing() {
        let log = log();
        log.delete();
        assert!(matches!(log.publish(batch(0, 100), Last::MayGrow), Published::Nowhere));
        assert_eq!((counts(&log), log.end()), (vec![], Offset::ZERO));
    }
}
