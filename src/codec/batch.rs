//! A run of records of one partition: what one append brings, what the tail holds, and what lies in a chunk.
//!
//! ```text
//! batch header, 60 bytes, little-endian
//!  0  u32  topic number
//!  4  u32  partition
//!  8  u64  base offset          where the run begins: of the first record, or before it
//! 16  u64  last offset          where it ends: of the last record, or behind it
//! 24  i64  base timestamp       of the first record, in milliseconds since the epoch
//! 32  i64  last timestamp       of the last record
//! 40  i64  max timestamp        the largest of all
//! 48  u32  count of records     at least 1
//! 52  u32  length of the records in bytes
//! 56  u8   timestamp type       0 CreateTime, 1 LogAppendTime
//! 57  u8;3 zero
//! 60  the records
//! ```
//!
//! A run covers its offsets from the first to the last without saying more than its records do: compaction drops records,
//! and the run still covers their offsets, so that runs follow one another without a hole. The first record has no timestamp
//! delta, as the header says its time, and a gap only when offsets before it were dropped.

use std::fmt;

use super::piece::Piece;
use super::record::{self, RawHeader, RecordParts};
use super::walk::{Place, Walk, WalkedRecord};
use super::{DecodeError, Reader, Writer};
use crate::types::{LogId, Offset, TimestampType, TopicNumber};

/// The fields in front of the records. What they say agrees with the records: [`RecordBatch::decode`] checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) log: LogId,
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) base_timestamp: i64,
    pub(crate) last_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) count: u32,
    /// Length of the records in bytes.
    pub(crate) length: u32,
    pub(crate) timestamp_type: TimestampType,
}

impl BatchHeader {
    /// Length of an encoded header.
    pub(crate) const LEN: usize = 60;

    /// Whether every offset that the run covers has its record.
    pub(crate) fn is_dense(&self) -> bool {
        self.last_offset - self.base_offset == u64::from(self.count).saturating_sub(1)
    }

    #[inline]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(Self::LEN);
        out.put_u32(self.log.topic.0);
        out.put_u32(self.log.partition);
        out.put_u64(self.base_offset.get());
        out.put_u64(self.last_offset.get());
        out.put_i64(self.base_timestamp);
        out.put_i64(self.last_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_u32(self.count);
        out.put_u32(self.length);
        out.extend_from_slice(&[self.timestamp_type.number(), 0, 0, 0]);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let log = LogId { topic: TopicNumber(reader.u32()?), partition: reader.u32()? };
        let base_offset = decode_offset(reader)?;
        let last_offset = decode_offset(reader)?;
        let (base_timestamp, last_timestamp, max_timestamp) = (reader.i64()?, reader.i64()?, reader.i64()?);
        let (count, length) = (reader.u32()?, reader.u32()?);
        let timestamp_type = TimestampType::decode(reader)?;
        if reader.array()? != [0_u8; 3] {
            return Err(DecodeError("a batch has header bytes that this release does not know"));
        }
        if count == 0 || last_offset - base_offset < u64::from(count) - 1 || last_offset < base_offset {
            return Err(DecodeError("a batch's offsets and count disagree"));
        }
        Ok(Self {
            log,
            base_offset,
            last_offset,
            base_timestamp,
            last_timestamp,
            max_timestamp,
            count,
            length,
            timestamp_type,
        })
    }
}

impl TimestampType {
    /// As a batch header says it.
    pub(crate) fn number(self) -> u8 {
        match self {
            TimestampType::CreateTime => 0,
            TimestampType::LogAppendTime => 1,
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(TimestampType::CreateTime),
            1 => Ok(TimestampType::LogAppendTime),
            _ => Err(DecodeError("it has a timestamp type that this release does not know")),
        }
    }
}

pub(super) fn decode_offset(reader: &mut Reader<'_>) -> Result<Offset, DecodeError> {
    let offset = reader.u64()?;
    if offset > Offset::MAX.get() {
        return Err(DecodeError("an offset exceeds 2^63 - 1"));
    }
    Ok(Offset::new(offset))
}

/// A run of records: checked once, never changed, shared by all who read it.
pub(crate) struct RecordBatch {
    pub(crate) header: BatchHeader,
    bytes: Bytes,
    /// Where in `bytes` the records begin.
    start: usize,
    /// Places behind every [`LANDMARK_DISTANCE`] records, as far as they are known: who looks for an offset begins there.
    landmarks: Vec<Place>,
}

enum Bytes {
    Own(Vec<u8>),
    Read(Piece),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Bytes::Own(bytes) => bytes,
            Bytes::Read(piece) => piece.bytes(),
        }
    }
}

impl fmt::Debug for RecordBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordBatch").field("header", &self.header).finish_non_exhaustive()
    }
}

impl RecordBatch {
    /// Decodes a batch whose header starts at `header_at` of `bytes` and whose records end where `bytes` ends. Every record
    /// is looked at, so that reading them later can't fail.
    pub(crate) fn decode(bytes: Vec<u8>, header_at: usize) -> Result<Self, DecodeError> {
        Self::decode_from(Bytes::Own(bytes), header_at)
    }

    /// The same for bytes that others have a part of.
    pub(super) fn decode_piece(piece: Piece, header_at: usize) -> Result<Self, DecodeError> {
        Self::decode_from(Bytes::Read(piece), header_at)
    }

    fn decode_from(bytes: Bytes, header_at: usize) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes.get().get(header_at..).unwrap_or_default());
        let header = BatchHeader::decode(&mut reader)?;
        if reader.remaining().len() != header.length as usize {
            return Err(DecodeError("a batch's length is not that of its records"));
        }
        Self { header, bytes, start: header_at + BatchHeader::LEN, landmarks: Vec::new() }.validated()
    }

    /// The same for a header and records that do not lie behind it.
    pub(super) fn of_records(header: BatchHeader, records: Vec<u8>) -> Result<Self, DecodeError> {
        Self::collected(header, records, 0).validated()
    }

    /// A batch of records that were encoded here, from `start` of `bytes` on.
    pub(super) fn collected(header: BatchHeader, bytes: Vec<u8>, start: usize) -> Self {
        Self { header, bytes: Bytes::Own(bytes), start, landmarks: Vec::new() }
    }

    fn validated(mut self) -> Result<Self, DecodeError> {
        let most = (self.header.count as usize).min(self.records().len());
        let mut landmarks = Vec::with_capacity(most / LANDMARK_DISTANCE as usize);
        let mut walk = Walk::over(self.records(), Place::start(&self.header));
        let mut max_timestamp = i64::MIN;
        while walk.place().remaining > 0 {
            walk.try_skip()?.validate()?;
            max_timestamp = max_timestamp.max(walk.place().timestamp);
            if walk.place().remaining.is_multiple_of(LANDMARK_DISTANCE) && walk.place().remaining > 0 {
                landmarks.push(walk.place());
            }
        }
        let Place { next_offset, timestamp, .. } = walk.place();
        if walk.place().index() != self.records().len() {
            return Err(DecodeError("a batch has bytes behind its last record"));
        }
        if next_offset > self.header.last_offset.next() {
            return Err(DecodeError("a batch's last record lies behind its last offset"));
        }
        if (timestamp, max_timestamp) != (self.header.last_timestamp, self.header.max_timestamp) {
            return Err(DecodeError("a batch's timestamps are not those of its records"));
        }
        self.landmarks = landmarks;
        Ok(self)
    }

    /// The same for records out of the middle of a longer run, from `start` of `bytes` to their end, `timestamp` being that of the
    /// record before them. They cover these offsets. Who looks for an offset begins at the first one.
    pub(super) fn of_middle(
        (log, timestamp_type): (LogId, TimestampType),
        (base_offset, last_offset): (Offset, Offset),
        timestamp: i64,
        (mut bytes, start): (Vec<u8>, usize),
    ) -> Result<Self, DecodeError> {
        let records = bytes.get(start..).unwrap_or_default();
        let mut walk =
            Walk::over(records, Place { index: 0, remaining: u32::MAX, next_offset: base_offset, timestamp });
        walk.try_skip()?.validate()?;
        let base_timestamp = walk.place().timestamp;
        let mut max_timestamp = base_timestamp;
        while !walk.remaining().is_empty() {
            walk.try_skip()?.validate()?;
            max_timestamp = max_timestamp.max(walk.place().timestamp);
        }
        let end = walk.place();
        if end.next_offset > last_offset.next() {
            return Err(DecodeError("records lie behind the last offset of their section"));
        }
        // The first record of a batch has no timestamp delta.
        let start = start + record::drop_timestamp_delta(bytes.get_mut(start..).unwrap_or_default())?;
        let header = BatchHeader {
            log,
            base_offset,
            last_offset,
            base_timestamp,
            last_timestamp: end.timestamp,
            max_timestamp,
            count: u32::MAX - end.remaining,
            length: u32::try_from(bytes.len() - start).unwrap_or(u32::MAX),
            timestamp_type,
        };
        Ok(Self::collected(header, bytes, start))
    }

    /// The first record at or behind `offset`, copied into a batch of its own.
    pub(crate) fn pick(&self, offset: Offset) -> Option<Self> {
        let record = self.walk(self.find(offset)?).next()?;
        Some(Self::of_one(&self.header, &record))
    }

    /// A copy of one record of a batch.
    fn of_one(header: &BatchHeader, record: &WalkedRecord<'_>) -> Self {
        let mut bytes = Vec::with_capacity(1 + record.raw.body.len());
        record::encode_rebased(&mut bytes, 0, 0, &record.raw);
        let header = BatchHeader {
            base_offset: record.offset,
            last_offset: record.offset,
            base_timestamp: record.timestamp,
            last_timestamp: record.timestamp,
            max_timestamp: record.timestamp,
            count: 1,
            length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            ..*header
        };
        Self::collected(header, bytes, 0)
    }

    /// Takes in the records of the batch that follows, up to [`JOINED_BATCH`] bytes; `false` when they do not go into this one.
    #[inline]
    pub(crate) fn join(&mut self, next: &Self) -> bool {
        let (header, other) = (&mut self.header, &next.header);
        let fits = header.length as usize + next.records().len() + record::MAX_DELTAS <= JOINED_BATCH;
        let follows = header.last_offset.next() == other.base_offset && header.timestamp_type == other.timestamp_type;
        let Bytes::Own(bytes) = &mut self.bytes else { return false };
        let before = bytes.len();
        let timestamp_delta = other.base_timestamp.wrapping_sub(header.last_timestamp);
        if !fits || !follows || record::append_run(bytes, timestamp_delta, next.records()).is_err() {
            return false;
        }
        let added = u32::try_from(bytes.len() - before).unwrap_or(u32::MAX);
        header.length = header.length.saturating_add(added);
        header.count = header.count.saturating_add(other.count);
        header.last_offset = other.last_offset;
        header.last_timestamp = other.last_timestamp;
        header.max_timestamp = header.max_timestamp.max(other.max_timestamp);
        // They say how many records are left behind them.
        self.landmarks.clear();
        true
    }

    /// The encoded records.
    #[inline]
    pub(crate) fn records(&self) -> &[u8] {
        self.bytes.get().get(self.start..).unwrap_or_default()
    }

    /// Bytes held in memory; of what was read together, its own.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.get().len() + size_of_val(self.landmarks.as_slice())
    }

    /// The place of the first record at or behind `offset`; `None` when all lie before it, even if the run covers `offset`.
    pub(crate) fn find(&self, offset: Offset) -> Option<Place> {
        if offset > self.header.last_offset {
            return None;
        }
        let passed = self.landmarks.partition_point(|place| place.next_offset <= offset);
        let near = passed.checked_sub(1).and_then(|last| self.landmarks.get(last));
        let mut walk = Walk::over(self.records(), near.copied().unwrap_or_else(|| Place::start(&self.header)));
        loop {
            let before = walk.place();
            walk.pass()?;
            if walk.place().next_offset > offset {
                return Some(before);
            }
        }
    }

    /// The first record at or behind `from` for which `wanted` holds: its offset and timestamp.
    pub(crate) fn find_record(&self, from: Offset, wanted: impl Fn(i64) -> bool) -> Option<(Offset, i64)> {
        let walk = Walk::over(self.records(), self.find(from)?);
        let mut found = walk.map(|record| (record.offset, record.timestamp));
        found.find(|&(_, timestamp)| wanted(timestamp))
    }

    /// Walks the records from `place` on.
    pub(crate) fn walk(&self, place: Place) -> Walk<'_> {
        Walk::over(self.records(), place)
    }
}

/// A batch is closed at this size, but for a record that is larger. Its buffer is worth keeping for the next one: memory that
/// the operating system has to give first costs more than encoding into it.
pub(crate) const LARGE_BUFFER: usize = 256 << 10;

/// How many records lie between two landmarks of a batch.
const LANDMARK_DISTANCE: u32 = 32;

/// Batches are not joined beyond this size: who looks for an offset walks from a batch's start.
const JOINED_BATCH: usize = 16 << 10;

/// Collects the records of one partition into a batch, each encoded as it comes.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    header: BatchHeader,
    bytes: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch whose first record will take `base_offset`, in an empty buffer.
    pub(crate) fn new(log: LogId, base_offset: Offset, timestamp_type: TimestampType, buffer: Vec<u8>) -> Self {
        let header = BatchHeader {
            log,
            base_offset,
            last_offset: base_offset,
            base_timestamp: 0,
            last_timestamp: 0,
            max_timestamp: 0,
            count: 0,
            length: 0,
            timestamp_type,
        };
        Self { header, bytes: buffer }
    }

    /// Whether a record of at most `bytes` goes into this batch. The first one always does.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.header.count == 0 || self.bytes.len() + bytes <= LARGE_BUFFER
    }

    /// Makes room for a record of at most `bytes`.
    #[inline]
    pub(crate) fn reserve(&mut self, bytes: usize, buffers: &mut Buffers) {
        let needed = self.bytes.len() + bytes;
        if needed > self.bytes.capacity() {
            let mut larger = buffers.take(needed, 2 * self.bytes.capacity());
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
    }

    /// Bytes of the records so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a record. It takes the offset behind the last one.
    #[inline]
    pub(crate) fn push<'a, H>(&mut self, timestamp: i64, parts: &RecordParts<'a, H>)
    where
        H: Iterator<Item = RawHeader<'a>> + Clone,
    {
        let header = &mut self.header;
        if header.count == 0 {
            header.base_timestamp = timestamp;
            header.last_timestamp = timestamp;
            header.max_timestamp = timestamp;
        } else {
            header.last_offset = header.last_offset.next();
        }
        record::encode(&mut self.bytes, 0, timestamp.wrapping_sub(header.last_timestamp), parts);
        header.last_timestamp = timestamp;
        header.max_timestamp = header.max_timestamp.max(timestamp);
        header.count += 1;
    }

    pub(crate) fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The batch; `None` when no record came.
    pub(crate) fn finish(mut self) -> Option<RecordBatch> {
        self.header.length = u32::try_from(self.bytes.len()).ok()?;
        (self.header.count > 0).then_some(RecordBatch {
            header: self.header,
            bytes: Bytes::Own(self.bytes),
            start: 0,
            landmarks: Vec::new(),
        })
    }
}

/// Buffers that no batch uses any more, to be used again: large ones, and one small one.
#[derive(Debug)]
pub(crate) struct Buffers {
    large: Vec<Vec<u8>>,
    /// The most large ones that are kept.
    limit: usize,
    /// The one that came last: what comes next is often as long. Without room when there is none.
    small: Vec<u8>,
}

impl Buffers {
    /// Keeps at most so many bytes of large buffers.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { large: Vec::new(), limit: max_bytes / LARGE_BUFFER, small: Vec::new() }
    }

    /// An empty buffer with room for `least` bytes, and better for as many as `wanted`: one that was used before, if half of it
    /// will be used.
    #[inline]
    pub(crate) fn take(&mut self, least: usize, wanted: usize) -> Vec<u8> {
        let bytes = wanted.min(LARGE_BUFFER).max(least);
        if (bytes..=2 * bytes).contains(&self.small.capacity()) {
            return std::mem::take(&mut self.small);
        }
        if bytes <= LARGE_BUFFER / 2 || bytes > LARGE_BUFFER {
            return Vec::with_capacity(bytes);
        }
        self.large.pop().unwrap_or_else(|| Vec::with_capacity(LARGE_BUFFER))
    }

    /// Keeps the buffer of a batch that nobody else has, if it is a large or a small one.
    #[inline]
    pub(crate) fn give_back(&mut self, batch: RecordBatch) {
        let Bytes::Own(mut bytes) = batch.bytes else { return };
        bytes.clear();
        if bytes.capacity() == LARGE_BUFFER && self.large.len() < self.limit {
            self.large.push(bytes);
        } else if bytes.capacity() <= JOINED_BATCH {
            self.small = bytes;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) const LOG: LogId = LogId { topic: TopicNumber(4), partition: 2 };

    /// A batch with a value per timestamp, from offset 10 on.
    pub(crate) fn batch_of(timestamps: &[i64]) -> RecordBatch {
        let mut builder = BatchBuilder::new(LOG, Offset::new(10), TimestampType::CreateTime, Vec::new());
        for timestamp in timestamps {
            let value = timestamp.to_le_bytes();
            let headers = [RawHeader { key: "h", value: None }];
            builder.push(*timestamp, &RecordParts { key: None, value: Some(&value), headers: headers.iter().copied() });
        }
        builder.finish().unwrap()
    }

    pub(crate) fn encoded(batch: &RecordBatch) -> Vec<u8> {
        let mut bytes = Vec::new();
        batch.header.encode(&mut bytes);
        bytes.extend_from_slice(batch.records());
        bytes
    }

    #[test]
    fn an_empty_batch_is_none() {
        assert!(BatchBuilder::new(LOG, Offset::ZERO, TimestampType::CreateTime, Vec::new()).finish().is_none());
    }

    #[test]
    fn finding_an_offset_gives_the_first_record_at_or_behind_it() {
        let batch = batch_of(&[5, 6, 7]);
        assert_eq!(batch.walk(batch.find(Offset::new(11)).unwrap()).next().unwrap().timestamp, 6);
        assert_eq!(batch.walk(batch.find(Offset::new(3)).unwrap()).next().unwrap().timestamp, 5);
        assert!(batch.find(Offset::new(13)).is_none());
    }

    #[test]
    fn a_small_buffer_is_used_again_for_what_fills_half_of_it() {
        let mut buffers = Buffers::new(0);
        let batch = |len| RecordBatch::collected(batch_of(&[1]).header, vec![0; len], 0);
        buffers.give_back(batch(60));
        buffers.give_back(batch(100));
        buffers.give_back(batch(JOINED_BATCH + 1));
        assert_eq!([101, 49, 50, 50].map(|len| buffers.take(len, 0).capacity()), [101, 49, 100, 50]);
    }

    #[test]
    fn a_large_batch_takes_a_buffer_that_was_given_back() {
        let mut buffers = Buffers::new(LARGE_BUFFER);
        let value = vec![1; LARGE_BUFFER / 4];
        let parts = RecordParts { key: None, value: Some(&value), headers: std::iter::empty::<RawHeader<'_>>() };
        let mut places = Vec::new();
        for _ in 0..2 {
            let mut builder = BatchBuilder::new(LOG, Offset::ZERO, TimestampType::CreateTime, Vec::new());
            while builder.has_room_for(value.len() + 24) {
                builder.reserve(value.len() + 24, &mut buffers);
                builder.push(0, &parts);
            }
            let batch = builder.finish().unwrap();
            assert_eq!(batch.header.count, 3);
            places.push(batch.records().as_ptr());
            buffers.give_back(batch);
            buffers.give_back(batch_of(&[1]));
            assert_eq!(buffers.large.len(), 1);
        }
        assert_eq!(places.first(), places.last());
    }

    proptest! {
        #[test]
        fn joined_batches_are_the_batch_of_all_their_records(
            front in proptest::collection::vec(any::<i64>(), 1..80),
            back in proptest::collection::vec(any::<i64>(), 1..20),
        ) {
            let together = batch_of(&[front.clone(), back.clone()].concat());
            let mut joined = RecordBatch::decode(encoded(&batch_of(&front)), 0).unwrap();
            let mut next = batch_of(&back);
            prop_assert!(!joined.join(&next));
            let shift = joined.header.last_offset.next() - next.header.base_offset;
            next.header.base_offset = Offset::new(next.header.base_offset.get() + shift);
            next.header.last_offset = Offset::new(next.header.last_offset.get() + shift);
            prop_assert!(joined.join(&next));
            prop_assert_eq!(encoded(&joined), encoded(&together));
            let last = joined.find(joined.header.last_offset).unwrap();
            prop_assert_eq!(last.remaining, 1);
        }

        #[test]
        fn every_batch_comes_back(timestamps in proptest::collection::vec(any::<i64>(), 1..40)) {
            let batch = batch_of(&timestamps);
            let decoded = RecordBatch::decode(encoded(&batch), 0).unwrap();
            prop_assert_eq!(decoded.header, batch.header);
            let walked: Vec<_> = decoded.walk(Place::start(&decoded.header)).map(|r| (r.offset.get(), r.timestamp)).collect();
            let expected: Vec<_> = (10..).zip(timestamps.iter().copied()).collect();
            prop_assert_eq!(walked, expected);
        }

        #[test]
        fn a_changed_byte_never_panics(timestamps in proptest::collection::vec(any::<i64>(), 1..10), at: usize, to: u8) {
            let mut bytes = encoded(&batch_of(&timestamps));
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(batch) = RecordBatch::decode(bytes, 0) {
                prop_assert!(batch.walk(Place::start(&batch.header)).count() == batch.header.count as usize);
            }
        }

        #[test]
        fn any_bytes_give_a_batch_or_an_error(bytes: Vec<u8>) {
            let _ = RecordBatch::decode(bytes, 0);
        }
    }
}
