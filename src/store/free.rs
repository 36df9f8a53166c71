//! Deleting: first a row says that records are gone, then their chunks are freed, a bounded number in each update.
//!
//! A row is enough to hide any number of chunks, so deleting takes one small update whatever its extent. What the row hides
//! is garbage until it is freed, also after a crash: the rows say where it is.

use redb::{Key, ReadableTable, Table};
use std::ops::RangeInclusive;

use super::index::{IndexRow, SegmentRow};
use super::read::{chunks_of, decode_entry};
use super::schema::{ChunkKey, DeletedRow, TopicRow, chunk_key, chunk_of, decode_row, encode_row};
use super::trouble::FromRedb;
use super::update::{Tables, Update};
use crate::error::Result;
use crate::types::{LogId, Offset, TopicNumber};

/// What a step has freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Freed {
    pub(crate) records: u64,
    /// Bytes of the chunks.
    pub(crate) bytes: u64,
    pub(crate) chunks: u64,
    /// There may be more of it.
    pub(crate) more: bool,
}

impl Freed {
    fn add(&mut self, chunk: &IndexRow) {
        self.records += u64::from(chunk.records);
        self.bytes += u64::from(chunk.bytes);
        self.chunks += 1;
    }
}

/// Chunks at the front of a range: their keys in the index, and their rows.
type Front = Vec<(ChunkKey, IndexRow)>;

impl Update<'_> {
    /// Moves a partition's log start; it never goes back. What lies below it is garbage from now on.
    pub(crate) fn set_log_start(&mut self, log: LogId, log_start: Offset) -> Result<()> {
        let mut row = self.partition(log)?;
        if log_start <= row.log_start {
            return Ok(());
        }
        row.log_start = log_start;
        self.put_partition(log, &row)
    }

    /// Deletes a topic, and what was committed for it. Everything in it is garbage from now on.
    pub(crate) fn delete_topic(&mut self, topic: TopicNumber) -> Result<()> {
        let TopicNumber(number) = topic;
        let Some(row) = self.tables.topics.remove(number).redb()? else { return Ok(()) };
        let TopicRow { id, .. } = decode_row(&number, row.value())?;
        drop(row);
        let deleted = encode_row(&number, &DeletedRow { id });
        self.tables.deleted.insert(number, deleted.as_slice()).redb()?;
        self.delete_offsets_of(topic)
    }

    /// Frees up to `most` chunks of a partition that lie wholly below its log start.
    pub(crate) fn free_below_log_start(&mut self, log: LogId, most: usize) -> Result<Freed> {
        let mut row = self.partition(log)?;
        if !row.has_garbage() {
            return Ok(Freed::default());
        }
        let (front, next) = self.front(chunks_of(log), most, |chunk| chunk.last_offset < row.log_start)?;
        let mut freed = Freed::default();
        for (_, chunk) in &front {
            row.subtract(chunk);
            freed.add(chunk);
        }
        if let Some((last, _)) = front.last() {
            self.tables.cut_segments(log, &front, next.as_ref())?;
            self.remove_chunks(&front, chunk_key(log, Offset::ZERO), *last)?;
        }
        freed.more = next.as_ref().is_some_and(|(_, chunk)| chunk.last_offset < row.log_start);
        row.freed = match &next {
            Some((key, _)) if freed.more => chunk_of(*key).1,
            _ => row.log_start,
        };
        self.put_partition(log, &row)?;
        Ok(freed)
    }

    /// Frees up to `most` chunks or rows of a deleted topic.
    pub(crate) fn free_topic(&mut self, topic: TopicNumber, most: usize) -> Result<Freed> {
        let TopicNumber(number) = topic;
        let first = (number, 0, 0);
        let (front, _) = self.front(first..=(number, u32::MAX, u64::MAX), most, |_| true)?;
        let mut freed = Freed { more: true, ..Freed::default() };
        front.iter().for_each(|(_, chunk)| freed.add(chunk));
        if let Some((last, _)) = front.last() {
            self.remove_chunks(&front, first, *last)?;
            return Ok(freed);
        }
        let Tables { segments, partitions, keys, superseded, compactions, deleted, .. } = &mut self.tables;
        let all = first..=(number, u32::MAX, u64::MAX);
        let logs = (number, 0)..=(number, u32::MAX);
        let rows = remove_front(segments, all.clone(), most)?
            + remove_front(keys, all.clone(), most)?
            + remove_front(superseded, all, most)?
            + remove_front(compactions, logs.clone(), most)?
            + remove_front(partitions, logs, most)?;
        if rows == 0 {
            deleted.remove(number).redb()?;
            freed.more = false;
        }
        Ok(freed)
    }

    /// Up to `most` chunks at the front of a range, as long as `is_garbage`, and the one behind them.
    fn front(
        &self,
        range: RangeInclusive<ChunkKey>,
        most: usize,
        is_garbage: impl Fn(&IndexRow) -> bool,
    ) -> Result<(Front, Option<(ChunkKey, IndexRow)>)> {
        let mut front = Front::new();
        for entry in self.tables.index.range(range).redb()? {
            let (key, chunk) = decode_entry::<IndexRow>(entry)?;
            if front.len() >= most || !is_garbage(&chunk) {
                return Ok((front, Some((key, chunk))));
            }
            front.push((key, chunk));
        }
        Ok((front, None))
    }

    /// Removes chunks, and their rows of the index: everything from `first` to `last`, a key of the index.
    fn remove_chunks(&mut self, front: &Front, first: ChunkKey, last: ChunkKey) -> Result<()> {
        for (_, chunk) in front {
            self.places.give_back(chunk.extent(), &self.tables)?;
        }
        self.tables.index.retain_in(first..=last, |_, _| false).redb()
    }
}

impl Tables<'_> {
    /// Takes chunks off the front of a partition's segments; `next` is the chunk behind them.
    fn cut_segments(&mut self, log: LogId, front: &Front, next: Option<&(ChunkKey, IndexRow)>) -> Result<()> {
        let Some((last, _)) = front.last() else { return Ok(()) };
        let up_to = chunk_key(log, Offset::ZERO)..=*last;
        let cut = self.segments.range(up_to.clone()).redb()?.next_back().map(decode_entry::<SegmentRow>);
        self.segments.retain_in(up_to, |_, _| false).redb()?;
        // The last of them lives on if it has the chunk that is next.
        let (Some((base, mut segment)), Some((key, next))) = (cut.transpose()?, next) else { return Ok(()) };
        if segment.last_offset < chunk_of(*key).1 {
            return Ok(());
        }
        for (_, chunk) in front.iter().filter(|(chunk, _)| *chunk >= base) {
            segment.take_first(chunk, next);
        }
        self.segments.insert(*key, encode_row(key, &segment).as_slice()).redb().map(drop)
    }
}

/// Removes up to `most` rows at the front of a range; how many it removed.
fn remove_front<K>(table: &mut Table<'_, K, &'static [u8]>, range: RangeInclusive<K>, most: usize) -> Result<usize>
where
    K: for<'a> Key<SelfType<'a> = K> + Copy + 'static,
{
    let mut last = None;
    let mut count = 0;
    for entry in table.range(range.clone()).redb()?.take(most) {
        last = Some(entry.redb()?.0.value());
        count += 1;
    }
    if let Some(last) = last {
        table.retain_in(*range.start()..=last, |_, _| false).redb()?;
    }
    Ok(count)
}
