//! Reading: the catalogue at opening, runs of records, and offsets by time. Every call looks at what the last update left.

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::sync::Arc;

use redb::{AccessGuard, Key, ReadTransaction, ReadableTable, ReadableTableMetadata, StorageError};

use super::groups::{OFFSETS, all_groups};
use super::index::{IndexRow, SegmentRow};
use super::keys::{COMPACTIONS, KEYS, SUPERSEDED};
use super::open::Store;
use super::schema::{
    ChunkKey, DELETED, DeletedRow, INDEX, Identity, META, MetaRow, NextTopic, PARTITIONS, PartitionRow, Row, SEGMENTS,
    Session, TOPICS, TopicRow, chunk_key, chunk_of, decode_row, log_key, log_of,
};
use super::snapshot::{Snapshot, Within, runs_of};
use super::space::FREE;
use super::trouble::FromRedb;
use crate::codec::{Place, RecordBatch};
use crate::error::{Error, Result};
use crate::retention::Segment;
use crate::types::{LogId, Offset, OffsetAndTimestamp, StoreId, TopicId, TopicNumber};

/// What a broker knows of its store when it opens it.
#[derive(Debug, Clone)]
pub(crate) struct Catalogue {
    pub(crate) id: StoreId,
    pub(crate) session: Session,
    pub(crate) next_topic: TopicNumber,
    /// By number.
    pub(crate) topics: Vec<TopicRow>,
    /// Those that have a row, by number of topic and partition. The others are empty.
    pub(crate) partitions: Vec<(LogId, PartitionRow)>,
    /// Topics that are gone, but for what waits to be freed.
    pub(crate) deleted: Vec<TopicNumber>,
}

/// How much of a partition is in the store, garbage not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PartitionUsage {
    pub(crate) bytes: u64,
    /// What they would be without compression.
    pub(crate) plain_bytes: u64,
    pub(crate) segments: u64,
}

impl Store {
    /// Reads the catalogue.
    pub(crate) fn load(&self) -> Result<Catalogue> {
        self.view(|transaction| {
            let table = transaction.open_table(META).redb()?;
            let Identity(id) = required_meta(&table)?;
            let session = required_meta(&table)?;
            let NextTopic(next_topic) = required_meta(&table)?;
            let topics = all_rows(&transaction.open_table(TOPICS).redb()?)?;
            let deleted = all_rows::<DeletedRow>(&transaction.open_table(DELETED).redb()?)?;
            let partitions = all_rows(&transaction.open_table(PARTITIONS).redb()?)?;
            let partitions = partitions.into_iter().map(|(key, row)| (log_of(key), row));
            let is_gone = |log: LogId| deleted.iter().any(|(number, _)| *number == log.topic.0);
            // One that is missing is an error here, and would be made by an update.
            transaction.open_table(FREE).redb()?;
            for table in [INDEX, SEGMENTS, KEYS, SUPERSEDED] {
                transaction.open_table(table).redb()?;
            }
            transaction.open_table(OFFSETS).redb()?;
            transaction.open_table(COMPACTIONS).redb()?;
            // A group that is missing could not be told later from one that never was.
            all_groups(transaction)?;
            Ok(Catalogue {
                id: StoreId(id),
                session,
                next_topic: TopicNumber(next_topic),
                topics: topics.into_iter().map(|(_, row)| row).collect(),
                partitions: partitions.filter(|(log, _)| !is_gone(*log)).collect(),
                deleted: deleted.iter().map(|(number, _)| TopicNumber(*number)).collect(),
            })
        })
    }

    /// Reads the records of a partition from `from` up to `until`, which the store has: whole chunks, the first one holding
    /// `from`, until `max_bytes` are reached. Where these are less than the first chunk has, a part of it, if it has
    /// sections: the one that holds `from` and what of those behind it is wanted. Nothing when the log start has passed `from`.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when `from` should be there and is not, or is not what was written. What is sound before damage is
    /// read; the next read meets the damage.
    pub(crate) fn read(
        &self,
        log: LogId,
        topic: TopicId,
        (from, until): (Offset, Offset),
        max_bytes: usize,
        out: &mut Vec<Arc<RecordBatch>>,
    ) -> Result<()> {
        let reached = Cell::new(from);
        let read = self.view(|snapshot| {
            reached.set(from);
            let chunks = match snapshot.chunks_within(log, (from, until), max_bytes)? {
                Within::Part(part) => return Ok(vec![Arc::new(part)]),
                Within::Chunks(chunks) => chunks,
            };
            let mut batches = Vec::with_capacity(chunks.len());
            for run in runs_of(&chunks) {
                for batch in snapshot.read_run(run, topic) {
                    match batch {
                        Ok(batch) => {
                            reached.set(batch.header.last_offset.next());
                            batches.push(Arc::new(batch));
                        }
                        Err(error) if batches.is_empty() => {
                            let part = snapshot.read_what_is_left(log, from, error)?;
                            return Ok(vec![Arc::new(part)]);
                        }
                        Err(_) => return Ok(batches),
                    }
                }
            }
            Ok(batches)
        });
        out.append(&mut read.map_err(|error| error.at(self.path(), || format!("{log}, offset {}", reached.get())))?);
        Ok(())
    }

    /// Where the section begins that follows the one with `offset`, in its chunk or the next one; `None` behind the last one.
    /// No chunk is read for it.
    pub(crate) fn next_section(&self, log: LogId, offset: Offset) -> Result<Option<Offset>> {
        self.view(|snapshot| {
            // A row that can't be read tells of no sections.
            let here = snapshot.chunk_with(log, offset).ok().flatten();
            let mut sections = here.into_iter().flat_map(|(key, row)| row.outline(key).bases());
            if let Some(next) = sections.find(|base| *base > offset) {
                return Ok(Some(next));
            }
            let behind = chunk_key(log, offset.next())..=chunk_key(log, Offset::MAX);
            let next = snapshot.index()?.range(behind).redb()?.next();
            Ok(next.map(decode_entry::<IndexRow>).transpose()?.map(|(key, _)| chunk_of(key).1))
        })
    }

    /// The segments of a partition that hold records at or behind the log start, oldest first.
    pub(crate) fn segments(&self, log: LogId) -> Result<Vec<Segment>> {
        let segment = |row: SegmentRow| Segment {
            end: row.last_offset.next(),
            bytes: row.bytes,
            first_timestamp: row.first_timestamp,
            max_timestamp: row.max_timestamp,
        };
        self.view(|transaction| live_segments(transaction, log)?.map(|row| row.map(segment)).collect())
    }

    /// Where a partition starts.
    pub(crate) fn log_start(&self, log: LogId) -> Result<Offset> {
        self.view(|transaction| Ok(partition(transaction, log)?.unwrap_or_default().log_start))
    }

    /// How much of each of these partitions is stored.
    pub(crate) fn usage(&self, logs: &[LogId]) -> Result<Vec<PartitionUsage>> {
        self.view(|transaction| {
            let of = |log: &LogId| {
                let mut usage = PartitionUsage::default();
                for segment in live_segments(transaction, *log)? {
                    let segment = segment?;
                    usage.bytes = usage.bytes.saturating_add(segment.bytes);
                    usage.plain_bytes = usage.plain_bytes.saturating_add(segment.plain_bytes);
                    usage.segments += 1;
                }
                Ok(usage)
            };
            logs.iter().map(of).collect()
        })
    }

    /// The smallest offset at or behind `from` whose record has a timestamp of at least `timestamp`.
    pub(crate) fn find_timestamp(
        &self,
        log: LogId,
        topic: TopicId,
        from: Offset,
        timestamp: i64,
    ) -> Result<Option<OffsetAndTimestamp>> {
        self.view(|transaction| {
            let lookup = Lookup::open(transaction, log, topic)?;
            let mut found = None;
            lookup.each_segment(from, |segment, chunks| {
                if segment.max_timestamp < timestamp {
                    return Ok(Search::Continue);
                }
                lookup.each_chunk(chunks, |key, chunk| {
                    if chunk.last_offset >= from && chunk.max_timestamp >= timestamp {
                        found = lookup.find_record((key, chunk), from, |candidate| candidate >= timestamp)?;
                    }
                    Ok(if found.is_some() { Search::Stop } else { Search::Continue })
                })
            })?;
            Ok(found)
        })
    }

    /// The first record with the largest timestamp at or behind `from`.
    pub(crate) fn max_timestamp(&self, log: LogId, topic: TopicId, from: Offset) -> Result<Option<OffsetAndTimestamp>> {
        self.view(|transaction| {
            let lookup = Lookup::open(transaction, log, topic)?;
            // The largest so far, and the chunk that it is in.
            let mut best: Option<(i64, (ChunkKey, IndexRow))> = None;
            lookup.each_segment(from, |segment, chunks| {
                if best.is_some_and(|(max, _)| segment.max_timestamp <= max) {
                    return Ok(Search::Continue);
                }
                lookup.each_chunk(chunks, |key, chunk| {
                    let max = match chunk.last_offset < from {
                        true => None,
                        // What lies before `from` does not count.
                        false if chunk_of(key).1 < from => lookup.max_from((key, chunk), from)?,
                        false => Some(chunk.max_timestamp),
                    };
                    if let Some(max) = max.filter(|max| best.is_none_or(|(best, _)| *max > best)) {
                        best = Some((max, (key, chunk)));
                    }
                    Ok(Search::Continue)
                })
            })?;
            match best {
                Some((max, chunk)) => lookup.find_record(chunk, from, |candidate| candidate == max),
                None => Ok(None),
            }
        })
    }

    /// Runs `work` on a snapshot. When redb's handle fails on the way, the file is opened anew, once, and `work` runs
    /// again.
    pub(super) fn view<T>(&self, work: impl Fn(&Snapshot<'_>) -> Result<T>) -> Result<T> {
        match self.view_once(&work) {
            Ok(value) => Ok(value),
            Err(Unread::Answer(error)) => Err(error),
            Err(Unread::Handle { generation, error }) => {
                // What failed says more than why the file did not open again.
                self.reopen(generation).map_err(|_| error)?;
                self.view_once(&work).map_err(|again| match again {
                    Unread::Answer(error) | Unread::Handle { error, .. } => error,
                })
            }
        }
    }

    fn view_once<T>(&self, work: &impl Fn(&Snapshot<'_>) -> Result<T>) -> Result<T, Unread> {
        let handle = self.handle();
        let result = handle.trouble.guard(|| work(&Snapshot::of(&handle)?));
        result.map_err(|error| match handle.trouble.gravest() {
            Some((_, cause)) => Unread::Handle { generation: handle.generation, error: cause },
            None => Unread::Answer(error),
        })
    }
}

/// Why a read gave nothing.
enum Unread {
    /// That is what is in the file.
    Answer(Error),
    /// redb's handle failed.
    Handle { generation: u64, error: Error },
}

/// Whether a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    Continue,
    Stop,
}

/// The tables that a look-up by time needs.
struct Lookup<'s> {
    snapshot: &'s Snapshot<'s>,
    log: LogId,
    topic: TopicId,
    segments: redb::ReadOnlyTable<ChunkKey, &'static [u8]>,
}

impl<'s> Lookup<'s> {
    fn open(snapshot: &'s Snapshot<'_>, log: LogId, topic: TopicId) -> Result<Self> {
        let transaction = &**snapshot;
        Ok(Self { snapshot, log, topic, segments: transaction.open_table(SEGMENTS).redb()? })
    }

    /// Shows the segments with a record at or behind `from`, in order, and the keys of their chunks.
    fn each_segment(
        &self,
        from: Offset,
        mut visit: impl FnMut(&SegmentRow, RangeInclusive<ChunkKey>) -> Result<Search>,
    ) -> Result<()> {
        let up_to = chunk_key(self.log, Offset::ZERO)..=chunk_key(self.log, from);
        let first = self.segments.range(up_to).redb()?.next_back();
        let behind = chunk_key(self.log, from.next())..=chunk_key(self.log, Offset::MAX);
        for entry in first.into_iter().chain(self.segments.range(behind).redb()?) {
            let (key, segment) = decode_entry::<SegmentRow>(entry)?;
            let chunks = key..=chunk_key(self.log, segment.last_offset);
            if segment.last_offset >= from && visit(&segment, chunks)? == Search::Stop {
                break;
            }
        }
        Ok(())
    }

    fn each_chunk(
        &self,
        chunks: RangeInclusive<ChunkKey>,
        mut visit: impl FnMut(ChunkKey, IndexRow) -> Result<Search>,
    ) -> Result<Search> {
        for entry in self.snapshot.index()?.range(chunks).redb()? {
            let (key, chunk) = decode_entry::<IndexRow>(entry)?;
            if visit(key, chunk)? == Search::Stop {
                return Ok(Search::Stop);
            }
        }
        Ok(Search::Continue)
    }

    fn load(&self, (key, row): (ChunkKey, IndexRow)) -> Result<RecordBatch> {
        self.snapshot.read_chunk(&row.chunk(key), self.topic)
    }

    fn find_record(
        &self,
        chunk: (ChunkKey, IndexRow),
        from: Offset,
        wanted: impl Fn(i64) -> bool,
    ) -> Result<Option<OffsetAndTimestamp>> {
        let found = self.load(chunk)?.find_record(from, wanted);
        Ok(found.map(|(offset, timestamp)| OffsetAndTimestamp { offset, timestamp }))
    }

    /// The largest timestamp in a chunk at or behind `from`.
    fn max_from(&self, chunk: (ChunkKey, IndexRow), from: Offset) -> Result<Option<i64>> {
        let batch = self.load(chunk)?;
        let records = batch.walk(Place::start(&batch.header)).filter(|record| record.offset >= from);
        Ok(records.map(|record| record.timestamp).max())
    }
}

pub(super) fn hole(log: LogId, offset: Offset) -> Error {
    Error::corrupt(format!("{log}, offset {offset}"), "records are missing")
}

/// The keys of all chunks of a partition.
pub(super) fn chunks_of(log: LogId) -> RangeInclusive<ChunkKey> {
    chunk_key(log, Offset::ZERO)..=chunk_key(log, Offset::MAX)
}

/// What a range of a table gives.
type Entry<'a, K> = Result<(AccessGuard<'a, K>, AccessGuard<'a, &'static [u8]>), StorageError>;

/// Decodes what a range of a table of rows gave.
pub(super) fn decode_entry<R: Row>(
    entry: Entry<'_, impl for<'a> Key<SelfType<'a>: Into<R::Key>> + 'static>,
) -> Result<(R::Key, R)> {
    let (key, value) = entry.redb()?;
    let key = key.value().into();
    let row = decode_row(&key, value.value())?;
    Ok((key, row))
}

/// All rows of a table, as many as redb says there are.
pub(super) fn all_rows<R: Row>(
    table: &redb::ReadOnlyTable<impl for<'a> Key<SelfType<'a>: Into<R::Key>> + 'static, &'static [u8]>,
) -> Result<Vec<(R::Key, R)>> {
    let rows = table.iter().redb()?.map(decode_entry::<R>).collect::<Result<Vec<_>>>()?;
    let expected = table.len().redb()?;
    if rows.len() as u64 != expected {
        let reason = format!("{} of {expected} rows are there", rows.len());
        return Err(Error::corrupt(format!("the table `{}`", R::PLACE), reason));
    }
    Ok(rows)
}

/// A row of `meta`.
pub(super) fn meta<R: MetaRow>(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Option<R>> {
    let row = table.get(R::NAME).redb()?;
    row.map(|bytes| decode_row(&(), bytes.value())).transpose()
}

pub(super) fn required_meta<R: MetaRow>(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<R> {
    meta(table)?.ok_or_else(|| Error::corrupt("the store", format!("the row `{}` is missing", R::NAME)))
}

/// The segments of a partition that hold records at or behind the log start, in order.
fn live_segments(
    transaction: &ReadTransaction,
    log: LogId,
) -> Result<impl Iterator<Item = Result<SegmentRow>> + use<>> {
    let log_start = partition(transaction, log)?.unwrap_or_default().log_start;
    let rows = transaction.open_table(SEGMENTS).redb()?.range(chunks_of(log)).redb()?;
    let segments = rows.map(|entry| decode_entry::<SegmentRow>(entry).map(|(_, segment)| segment));
    Ok(segments.filter(move |segment| segment.as_ref().map_or(true, |segment| segment.last_offset >= log_start)))
}

/// The row of a partition, if it has one.
pub(super) fn partition(transaction: &ReadTransaction, log: LogId) -> Result<Option<PartitionRow>> {
    let key = log_key(log);
    let row = transaction.open_table(PARTITIONS).redb()?.get(key).redb()?;
    row.map(|bytes| decode_row(&key, bytes.value())).transpose()
}
