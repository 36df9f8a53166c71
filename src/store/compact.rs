//! Dropping superseded records: the chunks that hold them are written again without them.
//!
//! A run of neighbouring chunks becomes fewer, or smaller, ones that cover the same offsets. So chunks still follow one
//! another without a hole, and every offset between the log start and the end is still a valid position. When nothing is left
//! of a run, the chunk behind it takes its offsets over; there always is one, as the last segment is never compacted.

use redb::ReadableTable;

use super::free::Freed;
use super::index::{IndexRow, SegmentRow};
use super::read::decode_entry;
use super::schema::{ChunkKey, PartitionRow, chunk_key, chunk_of, chunk_words, encode_row};
use super::space::Places;
use super::trouble::FromRedb;
use super::update::Update;
use crate::codec::{Chunk, ChunkRoom, MAX_CHUNK, Packing, RecordBatch};
use crate::error::{Error, Result};
use crate::types::{LogId, Offset, TopicId};

/// A neighbour of a chunk that is written again is written with it when it is smaller than this: else the chunks of a topic
/// would shrink with every pass.
const SMALL_CHUNK: usize = MAX_CHUNK / 2;

/// What one step has dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Dropped {
    pub(crate) freed: Freed,
    /// How many of the offsets are done with.
    pub(crate) done: usize,
}

/// A chunk and its row of the index.
type Indexed = (ChunkKey, IndexRow);

impl Update<'_> {
    /// One step of dropping records: from `superseded`, sorted offsets, as many as lie in about `most` chunks. What is gone
    /// already, or lies below the log start, is passed over.
    pub(crate) fn drop_records(
        &mut self,
        log: LogId,
        packing: Packing,
        superseded: &[Offset],
        most: usize,
    ) -> Result<Dropped> {
        let mut row = self.partition(log)?;
        let mut dropped = Dropped::default();
        let mut written = 0;
        while written < most {
            let rest = superseded.get(dropped.done..).unwrap_or_default();
            let below = rest.partition_point(|offset| *offset < row.log_start);
            dropped.done += below;
            let Some(first) = rest.get(below) else { break };
            let run = self.run_of(log, *first, superseded, most.saturating_sub(written))?;
            let Some((_, last)) = run.last() else {
                dropped.done = superseded.len();
                break;
            };
            dropped.done += rest.get(below..).unwrap_or_default().partition_point(|offset| *offset <= last.last_offset);
            written += run.len();
            self.rewrite(log, packing, run, superseded, &mut row, &mut dropped.freed)?;
        }
        self.put_partition(log, &row)?;
        dropped.freed.more = dropped.done < superseded.len();
        Ok(dropped)
    }

    /// Neighbouring chunks of one segment that are written again together: from the one that holds `first` on, while they
    /// hold something superseded or are small.
    fn run_of(&self, log: LogId, first: Offset, superseded: &[Offset], most: usize) -> Result<Vec<Indexed>> {
        let up_to = chunk_key(log, Offset::ZERO)..=chunk_key(log, first);
        let start = self.tables.index.range(up_to).redb()?.next_back().map(decode_entry::<IndexRow>).transpose()?;
        let Some((start, _)) = start.filter(|(_, chunk)| chunk.last_offset >= first) else { return Ok(Vec::new()) };
        let (_, segment) = self.segment_of(start)?;
        let mut run = Vec::new();
        for entry in self.tables.index.range(start..=chunk_key(log, segment.last_offset)).redb()? {
            let (key, chunk) = decode_entry::<IndexRow>(entry)?;
            let (_, base) = chunk_of(key);
            let first_behind = superseded.partition_point(|offset| *offset < base);
            let holds_any = superseded.get(first_behind).is_some_and(|offset| *offset <= chunk.last_offset);
            if run.len() >= most.max(1) || !(holds_any || (chunk.bytes as usize) < SMALL_CHUNK) {
                break;
            }
            run.push((key, chunk));
        }
        Ok(run)
    }

    /// The segment of a chunk, by the chunk's key in the index.
    fn segment_of(&self, chunk: ChunkKey) -> Result<(ChunkKey, SegmentRow)> {
        let (log, base) = chunk_of(chunk);
        let up_to = chunk_key(log, Offset::ZERO)..=chunk;
        let segment =
            self.tables.segments.range(up_to).redb()?.next_back().map(decode_entry::<SegmentRow>).transpose()?;
        let segment = segment.filter(|(_, segment)| segment.last_offset >= base);
        segment.ok_or_else(|| Error::corrupt(chunk_words(chunk), "the chunk is in no segment"))
    }

    /// Writes a run again without what is superseded, and without what lies below the log start. While nothing is left of it,
    /// the chunk behind it becomes part of it.
    fn rewrite(
        &mut self,
        log: LogId,
        packing: Packing,
        run: Vec<Indexed>,
        superseded: &[Offset],
        row: &mut PartitionRow,
        freed: &mut Freed,
    ) -> Result<()> {
        let Some((first, chunk)) = run.first().copied() else { return Ok(()) };
        let mut keep = Keep::from(chunk_of(first).1.max(row.log_start), superseded);
        self.places.open(&self.tables)?;
        let mut new: Vec<Indexed> = Vec::new();
        let mut put = |places: &mut Places<'_>, chunk: &Chunk<'_>| -> Result<ChunkRoom> {
            let place = places.put(chunk.bytes)?;
            let row = IndexRow::of(chunk, place.first);
            new.push((chunk_key(log, chunk.header.base_offset), row));
            Ok(ChunkRoom::FULL)
        };
        let mut old: Vec<Indexed> = Vec::with_capacity(run.len());
        self.writer.reset(packing, ChunkRoom::FULL);
        self.writer.expect_ratio(chunk.plain_bytes as usize, chunk.bytes as usize);
        self.writer.begin_at(chunk_of(first).1);
        let mut to_take = run;
        loop {
            for (key, chunk) in to_take.drain(..) {
                let batch = self.take_chunk(packing.topic, key, &chunk)?;
                self.writer.push_kept(&batch, |offset| keep.keeps(offset), |chunk| put(&mut self.places, &chunk))?;
                old.push((key, chunk));
            }
            let end = old.last().map_or(Offset::ZERO, |(_, chunk)| chunk.last_offset);
            if self.writer.cover_up_to(end) {
                break;
            }
            to_take.push(self.chunk_behind(log, end)?);
        }
        self.writer.flush(|chunk| put(&mut self.places, &chunk))?;
        self.move_between_segments(&old, &new)?;
        for (_, chunk) in &old {
            row.subtract(chunk);
            freed.records += u64::from(chunk.records);
            freed.bytes += u64::from(chunk.bytes);
        }
        for (key, chunk) in &new {
            self.tables.index.insert(*key, encode_row(key, chunk).as_slice()).redb()?;
            row.add(chunk);
            freed.records = freed.records.saturating_sub(u64::from(chunk.records));
            freed.bytes = freed.bytes.saturating_sub(u64::from(chunk.bytes));
        }
        freed.chunks += old.len().saturating_sub(new.len()) as u64;
        Ok(())
    }

    /// Takes a chunk out, and its row of the index.
    fn take_chunk(&mut self, topic: TopicId, key: ChunkKey, chunk: &IndexRow) -> Result<RecordBatch> {
        let batch = self.read_chunk(&chunk.chunk(key), topic)?;
        self.places.give_back(chunk.extent(), &self.tables)?;
        self.tables.index.remove(key).redb()?;
        Ok(batch)
    }

    /// The chunk behind an offset.
    fn chunk_behind(&self, log: LogId, offset: Offset) -> Result<Indexed> {
        let behind = chunk_key(log, offset.next())..=chunk_key(log, Offset::MAX);
        match self.tables.index.range(behind).redb()?.next() {
            Some(entry) => decode_entry::<IndexRow>(entry),
            None => Err(Error::corrupt(format!("{log}, offset {offset}"), "no chunk follows a compacted one")),
        }
    }

    /// Lets segments have the new chunks instead of the old ones: all of them are in the segment of the last old one, and those
    /// before it keep what they had before.
    fn move_between_segments(&mut self, old: &[Indexed], new: &[Indexed]) -> Result<()> {
        let (Some((first, _)), Some((last, _)), Some((_, first_new))) = (old.first(), old.last(), new.first()) else {
            return Ok(());
        };
        let (log, begin) = chunk_of(*first);
        let (home_key, mut home) = self.segment_of(*last)?;
        let mut left = self.segment_of(*first)?;
        while left.0 != home_key {
            let (key, mut segment) = left;
            let behind = chunk_key(log, segment.last_offset.next());
            if key < *first {
                old.iter().filter(|(chunk, _)| *chunk < behind).for_each(|(_, chunk)| segment.subtract(chunk));
                segment.last_offset = Offset::new(begin.get().saturating_sub(1));
                self.tables.segments.insert(key, encode_row(&key, &segment).as_slice()).redb()?;
            } else {
                self.tables.segments.remove(key).redb()?;
            }
            left = self.segment_of(behind)?;
        }
        old.iter().filter(|(chunk, _)| *chunk >= home_key).for_each(|(_, chunk)| home.subtract(chunk));
        new.iter().for_each(|(_, chunk)| home.add_within(chunk));
        self.tables.segments.remove(home_key).redb()?;
        let key = home_key.min(*first);
        if key == *first {
            home.first_timestamp = first_new.first_timestamp;
        }
        self.tables.segments.insert(key, encode_row(&key, &home).as_slice()).redb().map(drop)
    }
}

/// Says of offsets, each larger than the one before, which are kept.
struct Keep<'a> {
    log_start: Offset,
    /// Those that were not passed yet.
    superseded: &'a [Offset],
}

impl<'a> Keep<'a> {
    fn from(log_start: Offset, superseded: &'a [Offset]) -> Self {
        let below = superseded.partition_point(|offset| *offset < log_start);
        Self { log_start, superseded: superseded.get(below..).unwrap_or_default() }
    }

    fn keeps(&mut self, offset: Offset) -> bool {
        while let Some((next, rest)) = self.superseded.split_first()
            && *next < offset
        {
            self.superseded = rest;
        }
        offset >= self.log_start && self.superseded.first() != Some(&offset)
    }
}
