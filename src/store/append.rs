//! Appending: batches become chunks, chunks become segments.

use redb::{CursorMut, ReadableTable, Table};
use std::ops::Bound;

use super::index::{IndexRow, SegmentRow, StoredChunk};
use super::read::{chunks_of, decode_entry};
use super::schema::{ChunkKey, PartitionRow, chunk_key, chunk_of, encode_row};
use super::snapshot::decode_stored_chunk;
use super::space::Places;
use super::trouble::FromRedb;
use super::update::{Tables, Update};
use crate::codec::{Chunk, ChunkRoom, MERGE_CHUNK, MERGE_PLAIN, Packing, Piece, RecordBatch};
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::types::{LogId, Offset, TimestampType, TopicId};

impl Update<'_> {
    /// Appends batches to a partition of the topic `topic`. Each begins where the one before ended, the first one where
    /// the stored part ends; only below the log start something may be missing. What lies below it is not stored. `layout`
    /// says when a segment is closed and the next one begun, and how chunks are compressed.
    pub(crate) fn append<'b>(
        &mut self,
        log: LogId,
        topic: TopicId,
        layout: Layout,
        batches: impl IntoIterator<Item = &'b RecordBatch>,
    ) -> Result<()> {
        let mut row = self.partition(log)?;
        let mut end = row.end;
        let mut batches = batches.into_iter();
        let mut next = || next_batch(&mut batches, log, row.log_start, &mut end);
        if let Some(first) = next()? {
            self.places.open(&self.tables)?;
            let newest = self.tables.last_index_row(log)?;
            let taken = match newest {
                Some(chunk) if self.tables.may_be_rewritten(chunk, &row, layout)? => {
                    self.take_last_chunk(chunk, topic, first.header.timestamp_type)?
                }
                _ => None,
            };
            let mut sink = Sink::open(&mut self.tables, &mut self.places, log, row, layout, taken.as_ref())?;
            self.writer.reset(Packing { topic, compression_type: layout.compression_type }, sink.room());
            if let Some((_, chunk)) = newest {
                self.writer.expect_ratio(chunk.plain_bytes as usize, chunk.bytes as usize);
            }
            if let Some((_, batch)) = &taken {
                // It may cover more than its records.
                self.writer.begin_at(batch.header.base_offset);
                self.writer.push(batch, |chunk| sink.put(&chunk))?;
            }
            let mut following = Some(first);
            while let Some(batch) = following {
                let youngest = batch.header.max_timestamp;
                if sink.is_too_young(youngest, self.writer.first_timestamp()) {
                    self.writer.flush(|chunk| sink.put(&chunk))?;
                    // The chunk that was under way may have begun a segment of its own.
                    if sink.is_too_young(youngest, None) {
                        sink.put_segment()?;
                        self.writer.set_room(sink.room());
                    }
                }
                self.writer.push(batch, |chunk| sink.put(&chunk))?;
                following = next()?;
            }
            self.writer.flush(|chunk| sink.put(&chunk))?;
            row = sink.finish()?;
        }
        row.end = end;
        self.put_partition(log, &row)
    }

    /// Takes the last chunk out, if it may hold what follows: it is written again together with that. One that this build
    /// can't read stays where it is.
    fn take_last_chunk(
        &mut self,
        (key, index): (ChunkKey, IndexRow),
        topic: TopicId,
        timestamp_type: TimestampType,
    ) -> Result<Option<(IndexRow, RecordBatch)>> {
        let batch = match self.read_chunk(&index.chunk(key), topic) {
            Err(Error::UnsupportedCompressionType { .. }) => return Ok(None),
            read => read?,
        };
        if batch.header.timestamp_type != timestamp_type {
            return Ok(None);
        }
        self.places.give_back(index.extent(), &self.tables)?;
        self.tables.index.remove(key).redb()?;
        Ok(Some((index, batch)))
    }

    /// Reads a chunk, which may be of this update.
    pub(super) fn read_chunk(&mut self, chunk: &StoredChunk, topic: TopicId) -> Result<RecordBatch> {
        let bytes = self.places.read(chunk.extent(), chunk.bytes as usize)?;
        decode_stored_chunk(chunk, topic, Piece::whole(bytes))
    }
}

/// The next batch that is not wholly below the log start, its place checked.
fn next_batch<'b>(
    batches: &mut impl Iterator<Item = &'b RecordBatch>,
    log: LogId,
    log_start: Offset,
    end: &mut Offset,
) -> Result<Option<&'b RecordBatch>> {
    for batch in batches {
        let header = &batch.header;
        let follows = header.base_offset == *end || (header.base_offset > *end && header.base_offset <= log_start);
        if header.log != log || !follows {
            let reason = format!("records of {} from offset {} on do not follow it", header.log, header.base_offset);
            return Err(Error::corrupt(format!("{log}, offset {end}"), reason));
        }
        *end = header.last_offset.next();
        if *end > log_start {
            return Ok(Some(batch));
        }
    }
    Ok(None)
}

impl Tables<'_> {
    /// Whether the last chunk is small, and fits into its segment when it is written again, whatever then becomes of its
    /// compression. One that only waits to be freed stays where it is.
    fn may_be_rewritten(&self, (key, index): (ChunkKey, IndexRow), row: &PartitionRow, layout: Layout) -> Result<bool> {
        let is_small = (index.bytes as usize) < MERGE_CHUNK && index.plain_bytes as usize <= MERGE_PLAIN;
        if !is_small || index.last_offset < row.log_start {
            return Ok(false);
        }
        if index.plain_bytes <= index.bytes {
            return Ok(true);
        }
        let (log, _) = chunk_of(key);
        let segment = self.segments.range(chunks_of(log)).redb()?.next_back();
        let used = segment.map(decode_entry::<SegmentRow>).transpose()?.map_or(0, |(_, segment)| segment.bytes);
        let others = used.saturating_sub(u64::from(index.bytes));
        Ok(others.saturating_add(u64::from(index.plain_bytes)) <= layout.segment_bytes)
    }

    fn last_index_row(&self, log: LogId) -> Result<Option<(ChunkKey, IndexRow)>> {
        let last = self.index.range(chunks_of(log)).redb()?.next_back();
        last.map(decode_entry).transpose()
    }
}

/// Takes finished chunks of one partition, in order.
struct Sink<'a, 't> {
    log: LogId,
    row: PartitionRow,
    layout: Layout,
    places: &'a mut Places<'t>,
    index: Appender<'a>,
    segments: &'a mut Table<'t, ChunkKey, &'static [u8]>,
    /// The segment under way and its base offset.
    segment: Option<(Offset, SegmentRow)>,
    /// The base offset and the bytes of the chunk that was taken out. It stays in its segment, also in one that would be
    /// closed by now.
    taken: Option<(Offset, u64)>,
}

impl<'a, 't> Sink<'a, 't> {
    fn open(
        tables: &'a mut Tables<'t>,
        places: &'a mut Places<'t>,
        log: LogId,
        mut row: PartitionRow,
        layout: Layout,
        taken: Option<&(IndexRow, RecordBatch)>,
    ) -> Result<Self> {
        let Tables { index, segments, .. } = tables;
        let last = segments.range(chunks_of(log)).redb()?.next_back().map(decode_entry::<SegmentRow>);
        let last = last.transpose()?.map(|(key, segment)| (Offset::new(key.2), segment));
        // One that only waits to be freed takes nothing more.
        let mut segment = last.filter(|(_, segment)| segment.last_offset >= row.log_start);
        if let (Some((index, batch)), Some((base, under_way))) = (taken, &mut segment) {
            row.subtract(index);
            under_way.take_last(index, batch.header.base_offset);
            if under_way.chunks == 0 {
                segments.remove(chunk_key(log, *base)).redb()?;
                segment = None;
            }
        }
        let behind = Bound::Included(chunk_key(log, Offset::MAX));
        Ok(Self {
            log,
            row,
            layout,
            places,
            index: Appender { cursor: Some(index.upper_bound_mut(behind).redb()?) },
            segments,
            segment,
            taken: taken.map(|(index, batch)| (batch.header.base_offset, u64::from(index.bytes))),
        })
    }

    /// What the segment under way has left, and what the next one will have.
    fn room(&self) -> ChunkRoom {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let used = self.segment.map_or(0, |(_, segment)| segment.bytes);
        let here = self.layout.segment_bytes.saturating_sub(used).max(self.taken.map_or(0, |(_, bytes)| bytes));
        ChunkRoom { here: bytes(here), next: bytes(self.layout.segment_bytes) }
    }

    /// Whether a record of that time does not belong into the segment under way any more (T-18). Where there is none yet,
    /// it is the one that begins with the chunk under way.
    fn is_too_young(&self, timestamp: i64, chunk_under_way: Option<i64>) -> bool {
        let first = self.segment.map(|(_, segment)| segment.first_timestamp).or(chunk_under_way);
        first.is_some_and(|first| timestamp.saturating_sub(first) > self.layout.segment_span_ms)
    }

    /// Gives the room for the next chunk.
    fn put(&mut self, chunk: &Chunk<'_>) -> Result<ChunkRoom> {
        if chunk.header.last_offset < self.row.log_start {
            return Ok(self.room());
        }
        let base = chunk.header.base_offset;
        let key = chunk_key(self.log, base);
        let place = self.places.put(chunk.bytes)?;
        let index = IndexRow::of(chunk, place.first);
        self.index.append(key, &encode_row(&key, &index))?;
        self.row.add(&index);
        let comes_back = self.taken.take().is_some_and(|(taken, _)| taken == base);
        match &mut self.segment {
            Some((_, segment)) if comes_back || segment.has_room_for(index.bytes, self.layout.segment_bytes) => {
                segment.add(&index);
            }
            _ => {
                self.put_segment()?;
                self.segment = Some((base, SegmentRow::of(&index)));
            }
        }
        Ok(self.room())
    }

    /// Closes the segment under way.
    fn put_segment(&mut self) -> Result<()> {
        let Some((base, segment)) = self.segment.take() else { return Ok(()) };
        let key = chunk_key(self.log, base);
        self.segments.insert(key, encode_row(&key, &segment).as_slice()).redb().map(drop)
    }

    fn finish(mut self) -> Result<PartitionRow> {
        self.put_segment()?;
        self.index.close()?;
        Ok(self.row)
    }
}

/// A cursor behind the last key of a partition.
///
/// A cursor that is dropped writes what it still has. While a panic in redb unwinds, that could be a second panic, which ends
/// the process: then it is leaked instead.
struct Appender<'a> {
    /// `None` once closed.
    cursor: Option<CursorMut<'a, ChunkKey, &'static [u8]>>,
}

impl Appender<'_> {
    fn append(&mut self, key: ChunkKey, value: &[u8]) -> Result<()> {
        match &mut self.cursor {
            Some(cursor) => cursor.insert_before(key, value).redb().map(drop),
            None => Ok(()),
        }
    }

    fn close(&mut self) -> Result<()> {
        self.cursor.take().map_or(Ok(()), |cursor| cursor.close().redb())
    }
}

impl Drop for Appender<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::mem::forget(self.cursor.take());
        }
    }
}
