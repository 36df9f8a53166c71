//! Chunks, and parts of chunks, that were read from the store lately, so that many consumers of the same records share one copy.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::codec::RecordBatch;
use crate::types::{LogId, Offset};

/// A partition and an offset, in that order. One number, as the cache is searched for each read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u128);

impl Key {
    fn of(log: LogId, offset: Offset) -> Self {
        Self(u128::from(log.topic.0) << 96 | u128::from(log.partition) << 64 | u128::from(offset.get()))
    }

    fn is_of(self, log: LogId) -> bool {
        self.0 >> 64 == Self::of(log, Offset::ZERO).0 >> 64
    }
}

/// Decoded chunks and parts of them by partition and base offset; the one that came first goes first.
#[derive(Debug)]
pub(crate) struct ChunkCache {
    chunks: BTreeMap<Key, Arc<RecordBatch>>,
    /// In the order in which they came.
    order: VecDeque<Key>,
    bytes: usize,
    limit: usize,
}

impl ChunkCache {
    /// A cache of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { chunks: BTreeMap::new(), order: VecDeque::new(), bytes: 0, limit }
    }

    /// Gives out the chunk that holds `from` and those that follow it without a gap, until `max_bytes` are passed. `false`
    /// when the first one is not here.
    pub(crate) fn read(&self, log: LogId, from: Offset, max_bytes: usize, out: &mut Vec<Arc<RecordBatch>>) -> bool {
        let Some((found, chunk)) = self.chunks.range(..=Key::of(log, from)).next_back() else { return false };
        if !found.is_of(log) || chunk.header.last_offset < from {
            return false;
        }
        let mut next = chunk;
        let mut bytes = 0;
        loop {
            out.push(Arc::clone(next));
            bytes += next.header.length as usize;
            match self.chunks.get(&Key::of(log, next.header.last_offset.next())) {
                Some(chunk) if bytes < max_bytes => next = chunk,
                _ => return true,
            }
        }
    }

    /// Forgets the chunks of a partition: they were written again with fewer records in them.
    pub(crate) fn forget(&mut self, log: LogId) {
        let keys = self.chunks.range(Key::of(log, Offset::ZERO)..=Key::of(log, Offset::MAX)).map(|(key, _)| *key);
        for key in keys.collect::<Vec<_>>() {
            if let Some(chunk) = self.chunks.remove(&key) {
                self.bytes -= chunk.size();
            }
        }
        self.order.retain(|key| !key.is_of(log));
    }

    /// Takes chunks in, or parts of them, and lets the oldest go.
    pub(crate) fn insert(&mut self, log: LogId, chunks: &[Arc<RecordBatch>]) {
        for chunk in chunks {
            let key = Key::of(log, chunk.header.base_offset);
            // What was a part of it would hide the rest.
            let last = Key::of(log, chunk.header.last_offset);
            while let Some((&part, _)) = self.chunks.range(..=last).next_back()
                && part > key
            {
                self.bytes -= self.chunks.remove(&part).map_or(0, |part| part.size());
            }
            self.bytes += chunk.size();
            match self.chunks.insert(key, Arc::clone(chunk)) {
                // It was a part of the chunk, or a checkpoint rewrote that with more records in it.
                Some(old) => self.bytes -= old.size(),
                None => self.order.push_back(key),
            }
        }
        while self.bytes > self.limit {
            let Some(key) = self.order.pop_front() else { return };
            if let Some(chunk) = self.chunks.remove(&key) {
                self.bytes -= chunk.size();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{BatchBuilder, RawHeader, RecordParts};
    use crate::types::{TimestampType, TopicNumber};

    const LOG: LogId = LogId { topic: TopicNumber(1), partition: 0 };

    fn chunk(base: u64, records: u64) -> Arc<RecordBatch> {
        let mut builder = BatchBuilder::new(LOG, Offset::new(base), TimestampType::CreateTime, Vec::new());
        for _ in 0..records {
            builder.push(0, &RecordParts { key: None, value: None, headers: std::iter::empty::<RawHeader<'_>>() });
        }
        Arc::new(builder.finish().unwrap())
    }

    fn bases(cache: &ChunkCache, from: u64) -> Vec<u64> {
        let mut out = Vec::new();
        cache.read(LOG, Offset::new(from), usize::MAX, &mut out);
        out.iter().map(|chunk| chunk.header.base_offset.get()).collect()
    }

    #[test]
    fn neighbours_are_given_out_together_up_to_the_first_gap() {
        let mut cache = ChunkCache::new(1 << 20);
        cache.insert(LOG, &[chunk(0, 5), chunk(5, 5), chunk(12, 1)]);
        assert_eq!(bases(&cache, 3), [0, 5]);
        assert_eq!(bases(&cache, 5), [5]);
        assert!(bases(&cache, 10).is_empty());
        assert_eq!(bases(&cache, 12), [12]);
    }

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let mut cache = ChunkCache::new(chunk(0, 5).size() * 2);
        cache.insert(LOG, &[chunk(0, 5), chunk(5, 5), chunk(10, 5)]);
        assert!(bases(&cache, 0).is_empty());
        assert_eq!(bases(&cache, 5), [5, 10]);
    }

    #[test]
    fn a_chunk_takes_the_place_of_its_parts() {
        let mut cache = ChunkCache::new(1 << 20);
        cache.insert(LOG, &[chunk(2, 3)]);
        cache.insert(LOG, &[chunk(7, 2)]);
        assert_eq!(bases(&cache, 4), [2]);
        cache.insert(LOG, &[chunk(0, 9)]);
        assert_eq!(bases(&cache, 6), [0]);
        assert_eq!(cache.bytes, chunk(0, 9).size());
    }

    #[test]
    fn a_rewritten_chunk_replaces_its_shorter_self() {
        let mut cache = ChunkCache::new(1 << 20);
        cache.insert(LOG, &[chunk(0, 5)]);
        assert!(bases(&cache, 5).is_empty());
        cache.insert(LOG, &[chunk(0, 9)]);
        assert_eq!(bases(&cache, 5), [0]);
    }
}
