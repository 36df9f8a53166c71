//! One value of the store: a batch behind a checksum.
//!
//! ```text
//! chunk, little-endian
//!  0  u32   CRC-32C of everything behind it
//!  4  u8    version, 1
//!  5  u8;3  zero
//!  8  u128  topic id        with the batch header's partition and base offset it tells a misplaced page
//! 24        batch header and records
//! ```
//!
//! A chunk fills redb's page runs, which are powers of two: [`MAX_CHUNK`] bytes and redb's overhead are just under
//! 32 KiB. A record that is larger has a chunk of its own.

use super::batch::{BatchHeader, Place, RecordBatch, Walk, WalkedRecord};
use super::record;
use super::{DecodeError, Reader, Writer};
use crate::types::{Offset, TopicId};

/// The newest chunk version that this release reads, and the one it writes.
pub(crate) const CHUNK_VERSION: u8 = 1;

/// The size at which a chunk is closed, header included.
pub(crate) const MAX_CHUNK: usize = 32_600;

/// A partition's last chunk is rewritten together with what follows it while it is smaller than this: redb rewrites the
/// whole page of 4 KiB anyway.
pub(crate) const MERGE_CHUNK: usize = 3_900;

const CRC_LEN: usize = 4;
const HEADER_LEN: usize = 24;
const PREFIX_LEN: usize = HEADER_LEN + BatchHeader::LEN;

/// Why a chunk can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkError {
    /// Written by a newer release.
    Version(u8),
    /// Not what was written.
    Damaged(&'static str),
}

impl From<DecodeError> for ChunkError {
    fn from(DecodeError(reason): DecodeError) -> Self {
        ChunkError::Damaged(reason)
    }
}

/// Decodes a chunk of the topic `topic`: checksum first, then version, then identity, then every record.
pub(crate) fn decode_chunk(bytes: Vec<u8>, topic: TopicId) -> Result<RecordBatch, ChunkError> {
    let mut reader = Reader::new(&bytes);
    if reader.u32()? != crc32c::crc32c(reader.remaining()) {
        return Err(ChunkError::Damaged("its checksum does not match"));
    }
    let version = reader.u8()?;
    if version != CHUNK_VERSION {
        return Err(ChunkError::Version(version));
    }
    if reader.array()? != [0_u8; 3] {
        return Err(ChunkError::Damaged("it has header bytes that this release does not know"));
    }
    if reader.u128()? != topic.as_u128() {
        return Err(ChunkError::Damaged("it belongs to another topic"));
    }
    Ok(RecordBatch::decode(bytes, HEADER_LEN)?)
}

/// A finished chunk: what to store, and what its batch header says.
#[derive(Debug)]
pub(crate) struct Chunk<'a> {
    pub(crate) header: BatchHeader,
    pub(crate) bytes: &'a [u8],
}

/// Packs batches into chunks, in order. Batches are copied as they are, but for the deltas of the first record of each.
#[derive(Debug)]
pub(crate) struct ChunkWriter {
    topic: TopicId,
    /// The header so far, and its records behind the space for the chunk's header. `None`: nothing collected.
    header: Option<BatchHeader>,
    bytes: Vec<u8>,
}

impl ChunkWriter {
    pub(crate) fn new(topic: TopicId) -> Self {
        Self { topic, header: None, bytes: Vec::new() }
    }

    /// Makes it ready for another partition. Nothing may be left in it.
    pub(crate) fn reset(&mut self, topic: TopicId) {
        debug_assert!(self.header.is_none(), "chunks are flushed before the next partition");
        self.topic = topic;
        self.header = None;
    }

    /// Appends a batch; each chunk that gets full is given to `emit`.
    pub(crate) fn push<E>(
        &mut self,
        batch: &RecordBatch,
        mut emit: impl FnMut(Chunk<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.header.is_some_and(|header| header.timestamp_type != batch.header.timestamp_type) {
            self.flush(&mut emit)?;
        }
        let mut walk = batch.walk(Place::start(&batch.header));
        if self.has_room_for(batch.records().len()) {
            self.append(batch, walk, &Run::whole(&batch.header));
            return Ok(());
        }
        while walk.place().remaining > 0 {
            let from = walk.clone();
            match self.fit(&mut walk) {
                Some(run) => self.append(batch, from, &run),
                None => self.flush(&mut emit)?,
            }
        }
        Ok(())
    }

    /// Moves `walk` over the longest run that fits. An empty chunk takes at least one record, whatever its size.
    fn fit(&self, walk: &mut Walk<'_>) -> Option<Run> {
        let start = walk.place().index();
        let mut run: Option<Run> = None;
        loop {
            let before = walk.clone();
            let Some(record) = walk.next() else { return run };
            let end = walk.place().index();
            let first_of_all = self.header.is_none() && run.is_none();
            if !first_of_all && !self.has_room_for(end - start) {
                *walk = before;
                return run;
            }
            run.get_or_insert_with(|| Run::before(&record, end)).add(&record, end);
        }
    }

    /// Closes the chunk under way, if there is one.
    pub(crate) fn flush<E>(&mut self, mut emit: impl FnMut(Chunk<'_>) -> Result<(), E>) -> Result<(), E> {
        let Some(mut header) = self.header.take() else { return Ok(()) };
        header.length = u32::try_from(self.bytes.len().saturating_sub(PREFIX_LEN)).unwrap_or(u32::MAX);
        let mut prefix = Vec::with_capacity(PREFIX_LEN);
        prefix.put_u32(0);
        prefix.extend_from_slice(&[CHUNK_VERSION, 0, 0, 0]);
        prefix.put_u128(self.topic.as_u128());
        header.encode(&mut prefix);
        if let Some(space) = self.bytes.get_mut(..PREFIX_LEN) {
            space.copy_from_slice(&prefix);
        }
        let crc = crc32c::crc32c(self.bytes.get(CRC_LEN..).unwrap_or_default());
        if let Some(space) = self.bytes.get_mut(..CRC_LEN) {
            space.copy_from_slice(&crc.to_le_bytes());
        }
        let emitted = emit(Chunk { header, bytes: &self.bytes });
        self.bytes.clear();
        emitted
    }

    /// Whether a run of `len` bytes fits behind what is collected: a new gap and delta may take 20 bytes more.
    fn has_room_for(&self, len: usize) -> bool {
        const NEW_DELTAS: usize = 20;
        match self.header {
            None => PREFIX_LEN + len <= MAX_CHUNK,
            Some(_) => self.bytes.len() + len + NEW_DELTAS <= MAX_CHUNK,
        }
    }

    /// Appends the run that starts where `walk` stands: the first record with new deltas, the rest as it is.
    fn append(&mut self, batch: &RecordBatch, mut walk: Walk<'_>, run: &Run) {
        let Some(first) = walk.next() else { return };
        let (gap, timestamp_delta) = match &mut self.header {
            None => {
                self.bytes.clear();
                self.bytes.resize(PREFIX_LEN, 0);
                self.header = Some(BatchHeader {
                    base_offset: first.offset,
                    last_offset: run.last_offset,
                    base_timestamp: first.timestamp,
                    last_timestamp: run.last_timestamp,
                    max_timestamp: run.max_timestamp,
                    count: run.count,
                    ..batch.header
                });
                (0, 0)
            }
            Some(header) => {
                let gap = first.offset - header.last_offset.next();
                let timestamp_delta = first.timestamp.wrapping_sub(header.last_timestamp);
                header.last_offset = run.last_offset;
                header.last_timestamp = run.last_timestamp;
                header.max_timestamp = header.max_timestamp.max(run.max_timestamp);
                header.count += run.count;
                (gap, timestamp_delta)
            }
        };
        record::encode_rebased(&mut self.bytes, gap, timestamp_delta, &first.raw);
        let rest = batch.records().get(walk.place().index()..run.end).unwrap_or_default();
        self.bytes.extend_from_slice(rest);
    }
}

/// A run of a batch's records: what the header of the chunk it is copied into has to know, and where it ends.
#[derive(Debug)]
struct Run {
    last_offset: Offset,
    last_timestamp: i64,
    max_timestamp: i64,
    count: u32,
    /// Index into the batch's records of the first byte behind the run.
    end: usize,
}

impl Run {
    /// The run of all records of a batch.
    fn whole(header: &BatchHeader) -> Self {
        Self {
            last_offset: header.last_offset,
            last_timestamp: header.last_timestamp,
            max_timestamp: header.max_timestamp,
            count: header.count,
            end: header.length as usize,
        }
    }

    /// The run that ends just before its first record.
    fn before(record: &WalkedRecord<'_>, end: usize) -> Self {
        Self {
            last_offset: record.offset,
            last_timestamp: record.timestamp,
            max_timestamp: record.timestamp,
            count: 0,
            end,
        }
    }

    fn add(&mut self, record: &WalkedRecord<'_>, end: usize) {
        self.last_offset = record.offset;
        self.last_timestamp = record.timestamp;
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.count += 1;
        self.end = end;
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::{LOG, batch_of, encoded};
    use super::super::{BatchBuilder, RawHeader, RecordParts};
    use super::*;
    use crate::types::TimestampType;
    use proptest::prelude::*;

    const TOPIC: TopicId = TopicId::new(77);

    /// Packs batches and gives back the chunks' bytes.
    fn pack(batches: &[RecordBatch]) -> Vec<Vec<u8>> {
        let mut writer = ChunkWriter::new(TOPIC);
        let mut chunks = Vec::new();
        let mut emit = |chunk: Chunk<'_>| -> Result<(), ()> {
            chunks.push(chunk.bytes.to_vec());
            Ok(())
        };
        for batch in batches {
            writer.push(batch, &mut emit).unwrap();
        }
        writer.flush(&mut emit).unwrap();
        chunks
    }

    fn records(batch: &RecordBatch) -> Vec<(u64, i64, Vec<u8>)> {
        let walk = batch.walk(Place::start(&batch.header));
        walk.map(|r| (r.offset.get(), r.timestamp, r.value().unwrap_or_default().to_vec())).collect()
    }

    #[test]
    fn a_record_larger_than_a_chunk_has_one_of_its_own() {
        let mut builder = BatchBuilder::new(LOG, Offset::ZERO, TimestampType::CreateTime, Vec::new());
        for len in [10, MAX_CHUNK * 3, 10] {
            let value = vec![1; len];
            builder
                .push(0, &RecordParts { key: None, value: Some(&value), headers: std::iter::empty::<RawHeader<'_>>() });
        }
        let chunks = pack(&[builder.finish().unwrap()]);
        let counts: Vec<_> = chunks.into_iter().map(|c| decode_chunk(c, TOPIC).unwrap().header.count).collect();
        assert_eq!(counts, [1, 1, 1]);
    }

    #[test]
    fn chunks_never_mix_timestamp_types() {
        let mut other = BatchBuilder::new(LOG, Offset::new(13), TimestampType::LogAppendTime, Vec::new());
        other.push(9, &RecordParts { key: None, value: None, headers: std::iter::empty::<RawHeader<'_>>() });
        assert_eq!(pack(&[batch_of(&[1, 2, 3]), other.finish().unwrap()]).len(), 2);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let chunk = pack(&[batch_of(&[1, 2, 3])]).remove(0);
        for bit in 0..chunk.len() * 8 {
            let mut damaged = chunk.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_chunk(damaged, TOPIC).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_and_another_topic_are_told_apart_from_damage() {
        let chunk = pack(&[batch_of(&[1])]).remove(0);
        assert!(matches!(decode_chunk(chunk.clone(), TopicId::new(5)), Err(ChunkError::Damaged(_))));
        let mut newer = chunk;
        newer[4] = 2;
        let crc = crc32c::crc32c(&newer[4..]).to_le_bytes();
        newer[..4].copy_from_slice(&crc);
        assert_eq!(decode_chunk(newer, TOPIC).unwrap_err(), ChunkError::Version(2));
    }

    proptest! {
        #[test]
        fn packing_keeps_every_record(sizes in proptest::collection::vec(1_usize..1_500, 1..12), gap in 0_u64..5) {
            let mut base = 10;
            let mut batches = Vec::new();
            for size in sizes {
                let timestamps: Vec<i64> = (0..size as i64).map(|i| i * i % 1_000).collect();
                let mut batch = batch_of(&timestamps);
                batch.header.last_offset = Offset::new(base + size as u64 - 1);
                batch.header.base_offset = Offset::new(base);
                batches.push(RecordBatch::decode(encoded(&batch), 0).unwrap());
                base += size as u64 + gap;
            }
            let expected: Vec<_> = batches.iter().flat_map(records).collect();
            let chunks = pack(&batches);
            prop_assert!(chunks.iter().all(|chunk| chunk.len() <= MAX_CHUNK));
            let chunks: Vec<_> = chunks.into_iter().map(|chunk| decode_chunk(chunk, TOPIC).unwrap()).collect();
            prop_assert_eq!(chunks.iter().flat_map(records).collect::<Vec<_>>(), expected);
        }
    }
}
