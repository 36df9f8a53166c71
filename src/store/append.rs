//! Appending: batches become chunks, chunks become segments.

use redb::{CursorMut, ReadableTable, Table};
use std::ops::Bound;

use super::read::{chunks_of, decode_entry, decode_stored_chunk};
use super::schema::{ChunkKey, IndexRow, PartitionRow, SegmentRow, chunk_key, encode_row};
use super::trouble::FromRedb;
use super::update::{Tables, Update};
use crate::codec::{Chunk, MERGE_CHUNK, RecordBatch};
use crate::error::{Error, Result};
use crate::types::{LogId, Offset, TimestampType, TopicId};

impl Update<'_> {
    /// Appends batches to a partition of the topic `topic`. Each begins where the one before ended, the first one where
    /// the stored part ends; only below the log start something may be missing. What lies below it is not stored.
    pub(crate) fn append<'b>(
        &mut self,
        log: LogId,
        topic: TopicId,
        batches: impl IntoIterator<Item = &'b RecordBatch>,
    ) -> Result<()> {
        let mut row = self.partition(log)?;
        let mut end = row.end;
        let mut batches = batches.into_iter();
        let mut next = || next_batch(&mut batches, log, row.log_start, &mut end);
        self.writer.reset(topic);
        if let Some(first) = next()? {
            let last = self.tables.take_small_last_chunk(log, topic, first.header.timestamp_type)?;
            let mut sink = Sink::open(&mut self.tables, log, row, last.as_ref())?;
            if let Some((_, batch)) = &last {
                self.writer.push(batch, |chunk| sink.put(&chunk))?;
            }
            self.writer.push(first, |chunk| sink.put(&chunk))?;
            while let Some(batch) = next()? {
                self.writer.push(batch, |chunk| sink.put(&chunk))?;
            }
            self.writer.flush(|chunk| sink.put(&chunk))?;
            row = sink.finish()?;
        }
        row.end = end;
        self.put_partition(log, &row)
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
    /// Takes the last chunk out, if it is small and may hold what follows: it is written again together with that.
    fn take_small_last_chunk(
        &mut self,
        log: LogId,
        topic: TopicId,
        timestamp_type: TimestampType,
    ) -> Result<Option<(IndexRow, RecordBatch)>> {
        let Some((key, index)) = self.last_index_row(log)? else { return Ok(None) };
        if index.bytes as usize >= MERGE_CHUNK {
            return Ok(None);
        }
        let chunk_key = chunk_key(log, index.last_offset);
        let batch = match self.chunks.get(chunk_key).redb()? {
            Some(bytes) => decode_stored_chunk(chunk_key, bytes.value(), topic)?,
            None => return Err(Error::corrupt(super::schema::chunk_words(chunk_key), "the chunk is missing")),
        };
        if batch.header.timestamp_type != timestamp_type {
            return Ok(None);
        }
        self.chunks.remove(chunk_key).redb()?;
        self.index.remove(key).redb()?;
        Ok(Some((index, batch)))
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
    chunks: Appender<'a>,
    index: Appender<'a>,
    segments: &'a mut Table<'t, ChunkKey, &'static [u8]>,
    /// The segment under way and its base offset.
    segment: Option<(Offset, SegmentRow)>,
    /// The base offset of the chunk that was taken out. It stays in its segment.
    taken: Option<Offset>,
}

impl<'a, 't> Sink<'a, 't> {
    fn open(
        tables: &'a mut Tables<'t>,
        log: LogId,
        mut row: PartitionRow,
        taken: Option<&(IndexRow, RecordBatch)>,
    ) -> Result<Self> {
        let Tables { chunks, index, segments, .. } = tables;
        let last = segments.range(chunks_of(log)).redb()?.next_back().map(decode_entry::<SegmentRow>);
        let mut segment = last.transpose()?.map(|(key, segment)| (Offset::new(key.2), segment));
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
            chunks: Appender { cursor: Some(chunks.upper_bound_mut(behind).redb()?) },
            index: Appender { cursor: Some(index.upper_bound_mut(behind).redb()?) },
            segments,
            segment,
            taken: taken.map(|(_, batch)| batch.header.base_offset),
        })
    }

    fn put(&mut self, chunk: &Chunk<'_>) -> Result<()> {
        if chunk.header.last_offset < self.row.log_start {
            return Ok(());
        }
        let base = chunk.header.base_offset;
        let key = chunk_key(self.log, base);
        let index = IndexRow::of(&chunk.header, chunk.bytes.len());
        self.chunks.append(chunk_key(self.log, chunk.header.last_offset), chunk.bytes)?;
        self.index.append(key, &encode_row(&key, &index))?;
        self.row.add(&index);
        match &mut self.segment {
            Some((_, segment)) if segment.has_room_for(index.bytes) || self.taken == Some(base) => segment.add(&index),
            _ => {
                self.put_segment()?;
                self.segment = Some((base, SegmentRow::of(&index)));
            }
        }
        Ok(())
    }

    fn put_segment(&mut self) -> Result<()> {
        let Some((base, segment)) = self.segment.take() else { return Ok(()) };
        let key = chunk_key(self.log, base);
        self.segments.insert(key, encode_row(&key, &segment).as_slice()).redb().map(drop)
    }

    fn finish(mut self) -> Result<PartitionRow> {
        self.put_segment()?;
        self.chunks.close()?;
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
