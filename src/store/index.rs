//! The rows that tell of chunks: of each one, and of runs of them.

use super::extent::Extent;
use super::schema::{ChunkKey, Row, block, bytes_of_chunk_key, chunk_of, chunk_words, damaged_row, offset, row_fields};
use crate::codec::{BatchHeader, Chunk, DecodeError, Outline, Reader, Sections, Writer, chunk_crc};
use crate::error::Result;
use crate::types::{Offset, TimestampType};

/// What it takes to read a chunk whole: the front of its row. Scans decode no more of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredChunk {
    pub(super) key: ChunkKey,
    pub(super) last_offset: Offset,
    pub(super) block: u64,
    pub(super) bytes: u32,
    pub(super) plain_bytes: u32,
    pub(super) crc: u32,
}

impl StoredChunk {
    pub(super) fn decode(key: ChunkKey, row: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(row_fields::<IndexRow>(&key, row)?);
        let decoded = Self::decode_front(key, &mut reader);
        decoded.map_err(|DecodeError(reason)| damaged_row::<IndexRow>(&key, reason))
    }

    fn decode_front(key: ChunkKey, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key,
            last_offset: offset(reader)?,
            block: block(reader)?,
            bytes: reader.u32()?,
            plain_bytes: reader.u32()?,
            crc: reader.u32()?,
        })
    }

    /// The blocks that it takes.
    pub(super) fn extent(&self) -> Extent {
        Extent::of_bytes(self.block, self.bytes as usize)
    }
}

/// Where a chunk is, and what can be known of it without loading it. Timestamps are in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexRow {
    pub(super) last_offset: Offset,
    /// The first block of its extent.
    pub(super) block: u64,
    /// Length of the chunk.
    pub(super) bytes: u32,
    /// What it would be without compression.
    pub(super) plain_bytes: u32,
    /// The checksum of the chunk: what lay there before, or elsewhere, is told from it.
    pub(super) crc: u32,
    pub(super) records: u32,
    pub(super) first_timestamp: i64,
    pub(super) max_timestamp: i64,
    pub(super) timestamp_type: TimestampType,
    pub(super) sections: Sections,
}

impl IndexRow {
    /// The row of a chunk at `block`.
    pub(super) fn of(chunk: &Chunk<'_>, block: u64) -> Self {
        let Chunk { header, bytes, sections } = chunk;
        Self {
            last_offset: header.last_offset,
            block,
            bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            plain_bytes: u32::try_from(header.plain_chunk_len()).unwrap_or(u32::MAX),
            crc: chunk_crc(bytes),
            records: header.count,
            first_timestamp: header.base_timestamp,
            max_timestamp: header.max_timestamp,
            timestamp_type: header.timestamp_type,
            sections: *sections,
        }
    }

    /// Whether it says what the batch in its chunk says.
    pub(super) fn is_of(&self, header: &BatchHeader) -> bool {
        let BatchHeader { last_offset, count, base_timestamp, max_timestamp, timestamp_type, .. } = *header;
        let plain_bytes = u32::try_from(header.plain_chunk_len()).unwrap_or(u32::MAX);
        (self.last_offset, self.records, self.plain_bytes) == (last_offset, count, plain_bytes)
            && (self.first_timestamp, self.max_timestamp) == (base_timestamp, max_timestamp)
            && self.timestamp_type == timestamp_type
    }

    /// The blocks that the chunk takes.
    pub(super) fn extent(&self) -> Extent {
        Extent::of_bytes(self.block, self.bytes as usize)
    }

    /// What it takes to read the chunk of this key whole.
    pub(super) fn chunk(&self, key: ChunkKey) -> StoredChunk {
        let Self { last_offset, block, bytes, plain_bytes, crc, .. } = *self;
        StoredChunk { key, last_offset, block, bytes, plain_bytes, crc }
    }

    /// What it tells of the chunk of this key.
    pub(super) fn outline(&self, key: ChunkKey) -> Outline {
        let (log, base_offset) = chunk_of(key);
        Outline {
            log,
            base_offset,
            last_offset: self.last_offset,
            base_timestamp: self.first_timestamp,
            timestamp_type: self.timestamp_type,
            length: self.bytes as usize,
            sections: self.sections,
        }
    }
}

impl Row for IndexRow {
    const PLACE: &'static str = "index";
    type Key = ChunkKey;

    fn key_bytes(key: &ChunkKey) -> impl AsRef<[u8]> {
        bytes_of_chunk_key(*key)
    }

    fn key_words(key: &ChunkKey) -> String {
        chunk_words(*key)
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        out.put_u64(self.last_offset.get());
        out.put_u64(self.block);
        out.put_u32(self.bytes);
        out.put_u32(self.plain_bytes);
        out.put_u32(self.crc);
        out.put_u32(self.records);
        out.put_i64(self.first_timestamp);
        out.put_i64(self.max_timestamp);
        out.push(self.timestamp_type.number());
        self.sections.encode(out);
    }

    fn decode_fields(key: &ChunkKey, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let StoredChunk { last_offset, block, bytes, plain_bytes, crc, .. } = StoredChunk::decode_front(*key, reader)?;
        Ok(Self {
            last_offset,
            block,
            bytes,
            plain_bytes,
            crc,
            records: reader.u32()?,
            first_timestamp: reader.i64()?,
            max_timestamp: reader.i64()?,
            timestamp_type: TimestampType::decode(reader)?,
            sections: Sections::decode(reader, bytes as usize, last_offset - chunk_of(*key).1)?,
        })
    }
}

/// A run of chunks, closed by size and by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentRow {
    pub(super) last_offset: Offset,
    pub(super) records: u64,
    /// Bytes of its chunks.
    pub(super) bytes: u64,
    /// What they would be without compression.
    pub(super) plain_bytes: u64,
    pub(super) chunks: u64,
    /// Of its first record.
    pub(super) first_timestamp: i64,
    /// Of all records that it ever had: what was freed from its front and what was compacted away counts too.
    pub(super) max_timestamp: i64,
}

impl SegmentRow {
    /// The segment of one chunk.
    pub(super) fn of(chunk: &IndexRow) -> Self {
        Self {
            last_offset: chunk.last_offset,
            records: u64::from(chunk.records),
            bytes: u64::from(chunk.bytes),
            plain_bytes: u64::from(chunk.plain_bytes),
            chunks: 1,
            first_timestamp: chunk.first_timestamp,
            max_timestamp: chunk.max_timestamp,
        }
    }

    /// Whether a chunk of `bytes` bytes still belongs to it.
    pub(super) fn has_room_for(&self, bytes: u32, limit: u64) -> bool {
        self.bytes.saturating_add(u64::from(bytes)) <= limit
    }

    /// Takes the chunk behind its last one.
    pub(super) fn add(&mut self, chunk: &IndexRow) {
        self.last_offset = chunk.last_offset;
        self.add_within(chunk);
    }

    /// Gives up a chunk, or takes one, in its midst. Its largest timestamp may have been in what it gave up.
    pub(super) fn subtract(&mut self, chunk: &IndexRow) {
        self.records = self.records.saturating_sub(u64::from(chunk.records));
        self.bytes = self.bytes.saturating_sub(u64::from(chunk.bytes));
        self.plain_bytes = self.plain_bytes.saturating_sub(u64::from(chunk.plain_bytes));
        self.chunks = self.chunks.saturating_sub(1);
    }

    pub(super) fn add_within(&mut self, chunk: &IndexRow) {
        self.records = self.records.saturating_add(u64::from(chunk.records));
        self.bytes = self.bytes.saturating_add(u64::from(chunk.bytes));
        self.plain_bytes = self.plain_bytes.saturating_add(u64::from(chunk.plain_bytes));
        self.chunks = self.chunks.saturating_add(1);
        self.max_timestamp = self.max_timestamp.max(chunk.max_timestamp);
    }

    /// Gives up its first chunk; `next` is the one behind it. The largest timestamp may have been in what it gave up.
    pub(super) fn take_first(&mut self, chunk: &IndexRow, next: &IndexRow) {
        self.subtract(chunk);
        self.first_timestamp = next.first_timestamp;
    }

    /// Gives up its last chunk, which comes back with more records in it: the timestamps stay right.
    pub(super) fn take_last(&mut self, chunk: &IndexRow, base: Offset) {
        self.last_offset = Offset::new(base.get().saturating_sub(1));
        self.subtract(chunk);
    }
}

impl Row for SegmentRow {
    const PLACE: &'static str = "segments";
    type Key = ChunkKey;

    fn key_bytes(key: &ChunkKey) -> impl AsRef<[u8]> {
        bytes_of_chunk_key(*key)
    }

    fn key_words(key: &ChunkKey) -> String {
        chunk_words(*key)
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        out.put_u64(self.last_offset.get());
        out.put_u64(self.records);
        out.put_u64(self.bytes);
        out.put_u64(self.plain_bytes);
        out.put_u64(self.chunks);
        out.put_i64(self.first_timestamp);
        out.put_i64(self.max_timestamp);
    }

    fn decode_fields(_key: &ChunkKey, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            last_offset: offset(reader)?,
            records: reader.u64()?,
            bytes: reader.u64()?,
            plain_bytes: reader.u64()?,
            chunks: reader.u64()?,
            first_timestamp: reader.i64()?,
            max_timestamp: reader.i64()?,
        })
    }
}
