//! A snapshot of the store: rows, and the chunks that they tell of.

use std::ops::{Bound, Deref};

use redb::{Cursor, ReadTransaction, ReadableDatabase, ReadableTable};

use super::extent::{BLOCK, Extent};
use super::open::Handle;
use super::read::{hole, partition};
use super::schema::{ChunkKey, INDEX, IndexRow, chunk_key, chunk_of, chunk_words, decode_row};
use super::trouble::FromRedb;
use crate::codec::{
    BatchHeader, CHUNK_VERSION, ChunkError, Piece, RecordBatch, chunk_crc, decode_chunk, find_in_chunk,
};
use crate::error::{Error, Result};
use crate::types::{LogId, Offset, TopicId};

/// What the last update left: rows, and the chunks that they tell of.
pub(super) struct Snapshot<'h> {
    transaction: ReadTransaction,
    handle: &'h Handle,
}

impl Deref for Snapshot<'_> {
    type Target = ReadTransaction;

    fn deref(&self) -> &ReadTransaction {
        &self.transaction
    }
}

impl<'h> Snapshot<'h> {
    /// Chunks can be read while an update goes on only by who [entered](super::space::Readers::enter) before.
    pub(super) fn of(handle: &'h Handle) -> Result<Self> {
        Ok(Self { transaction: handle.database()?.begin_read().redb()?, handle })
    }

    /// The rows of the chunks that hold the records from `from` up to `until`, until `max_bytes` are reached; one at least.
    /// Nothing when the log start has passed `from`. What is sound before damage comes without an error.
    pub(super) fn rows_within(
        &self,
        log: LogId,
        (from, until): (Offset, Offset),
        max_bytes: usize,
    ) -> Result<Vec<(ChunkKey, IndexRow)>> {
        let index = self.open_table(INDEX).redb()?;
        let mut chunks = Chunks::from(&index, log, from)?;
        let mut rows: Vec<(ChunkKey, IndexRow)> = Vec::new();
        let mut bytes = 0;
        let mut expected = from;
        while expected < until && (rows.is_empty() || bytes < max_bytes) {
            match chunks.next() {
                Ok(Some((key, row))) if follows(chunk_of(key).1, expected, rows.is_empty()) => {
                    expected = row.last_offset.next();
                    bytes = bytes.saturating_add(row.plain_bytes.max(row.bytes) as usize);
                    rows.push((key, row));
                }
                _ if !rows.is_empty() => break,
                Err(error) => return Err(error),
                Ok(_) if partition(self, log)?.is_some_and(|row| row.log_start > expected) => break,
                Ok(_) => return Err(hole(log, expected)),
            }
        }
        Ok(rows)
    }

    /// Reads chunks that lie side by side.
    pub(super) fn read_run<'r>(
        &'r self,
        run: &'r [(ChunkKey, IndexRow)],
        topic: TopicId,
    ) -> impl Iterator<Item = Result<RecordBatch>> + use<'r, 'h> {
        let first = run.first().map_or(0, |(_, row)| row.block);
        let together = if run.len() > 1 { self.handle.read_together(run) } else { None };
        run.iter().map(move |(key, row)| match &together {
            Some(bytes) => {
                let start = usize::try_from((row.block - first) * BLOCK).unwrap_or(usize::MAX);
                decode_stored_chunk(*key, row, topic, bytes.part(start, row.bytes as usize))
            }
            None => self.handle.read_chunk(*key, row, topic),
        })
    }

    /// The row of the chunk that holds an offset, if it is there.
    pub(super) fn chunk_with(&self, log: LogId, offset: Offset) -> Result<Option<(ChunkKey, IndexRow)>> {
        let index = self.open_table(INDEX).redb()?;
        let found = Chunks::from(&index, log, offset)?.next()?;
        Ok(found.filter(|(key, _)| chunk_of(*key).1 <= offset))
    }

    pub(super) fn read_chunk(&self, key: ChunkKey, row: &IndexRow, topic: TopicId) -> Result<RecordBatch> {
        self.handle.read_chunk(key, row, topic)
    }

    /// Where redb's pages are.
    pub(super) fn parts(&self) -> Result<Vec<Extent>> {
        Ok(self.handle.medium()?.file().parts().0)
    }

    /// The first record at or behind `offset` of a chunk, as a batch of its own.
    pub(super) fn find_in_chunk(
        &self,
        key: ChunkKey,
        row: &IndexRow,
        topic: TopicId,
        offset: Offset,
    ) -> Result<Option<RecordBatch>> {
        let bytes = self.handle.read_extent(row.extent(), row.bytes as usize)?;
        let (header, found) = find_in_chunk(&bytes, topic, offset).map_err(|error| unreadable_chunk(key, error))?;
        check_place(key, row, &header, chunk_crc(&bytes))?;
        Ok(found)
    }
}

impl Handle {
    /// Reads a chunk that is there.
    pub(super) fn read_chunk(&self, key: ChunkKey, row: &IndexRow, topic: TopicId) -> Result<RecordBatch> {
        decode_stored_chunk(key, row, topic, Piece::whole(self.read_extent(row.extent(), row.bytes as usize)?))
    }

    /// Reads what several chunks take together; `None` when that failed: one by one, it shows which can be read.
    fn read_together(&self, run: &[(ChunkKey, IndexRow)]) -> Option<Piece> {
        let ((_, first), (_, last)) = (run.first()?, run.last()?);
        let len = usize::try_from((last.block - first.block) * BLOCK).ok()? + last.bytes as usize;
        let file = self.medium().ok()?.file();
        file.read_together(first.extent(), len).ok().map(Piece::whole)
    }
}

/// Bytes that are read together, at most: what a consumer reads ahead, and a chunk.
const RUN_LEN: u64 = 320 << 10;

/// Cuts rows into runs whose chunks lie side by side in the file.
pub(super) fn runs_of(rows: &[(ChunkKey, IndexRow)]) -> impl Iterator<Item = &[(ChunkKey, IndexRow)]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let (_, first) = rest.first()?;
        let follows = |pair: &&[(ChunkKey, IndexRow)]| match pair {
            [(_, before), (_, row)] => {
                before.extent().end() == row.block && (row.extent().end() - first.block) * BLOCK <= RUN_LEN
            }
            _ => false,
        };
        let (run, others) = rest.split_at(1 + rest.windows(2).take_while(follows).count());
        rest = others;
        Some(run)
    })
}

pub(super) type Index = redb::ReadOnlyTable<ChunkKey, &'static [u8]>;

/// The rows of a partition's chunks, in order.
struct Chunks<'t> {
    log: LogId,
    from: Offset,
    cursor: Cursor<'t, ChunkKey, &'static [u8]>,
}

impl<'t> Chunks<'t> {
    /// From the chunk on that holds `from`, or that is the next one behind it.
    fn from(index: &'t Index, log: LogId, from: Offset) -> Result<Self> {
        // One way down the tree: a range would go to its end as well.
        let mut cursor = index.upper_bound(Bound::Included(chunk_key(log, from))).redb()?;
        cursor.prev().redb()?;
        Ok(Self { log, from, cursor })
    }

    fn next(&mut self) -> Result<Option<(ChunkKey, IndexRow)>> {
        loop {
            let Some((key, row)) = self.cursor.next().redb()? else { return Ok(None) };
            let key = key.value();
            let (log, _) = chunk_of(key);
            if log > self.log {
                return Ok(None);
            }
            if log == self.log {
                let row: IndexRow = decode_row(&key, row.value())?;
                if row.last_offset >= self.from {
                    return Ok(Some((key, row)));
                }
            }
        }
    }
}

/// Whether a chunk goes on at `expected`; the first one of a read may begin before it.
fn follows(base: Offset, expected: Offset, first: bool) -> bool {
    base == expected || (first && base < expected)
}

/// Decodes a chunk, and sees to it that it is the one that its row tells of.
pub(super) fn decode_stored_chunk(key: ChunkKey, row: &IndexRow, topic: TopicId, chunk: Piece) -> Result<RecordBatch> {
    let crc = chunk_crc(chunk.bytes());
    let batch = decode_chunk(chunk, topic).map_err(|error| unreadable_chunk(key, error))?;
    check_place(key, row, &batch.header, crc)?;
    Ok(batch)
}

fn unreadable_chunk(key: ChunkKey, error: ChunkError) -> Error {
    match error {
        ChunkError::Damaged(reason) => Error::corrupt(chunk_words(key), reason),
        ChunkError::Unsupported(compression_type) => {
            Error::UnsupportedCompressionType { place: chunk_words(key), compression_type }
        }
        ChunkError::Version(version) => {
            Error::UnsupportedVersion { what: "chunk", found: u32::from(version), supported: u32::from(CHUNK_VERSION) }
        }
    }
}

/// Sees to it that a sound chunk is the one that its row tells of: not another one, and not one that lay there before.
fn check_place(key: ChunkKey, row: &IndexRow, header: &BatchHeader, crc: u32) -> Result<()> {
    let is_its_own = (header.log, header.base_offset) == chunk_of(key) && header.last_offset == row.last_offset;
    if is_its_own && crc == row.crc {
        return Ok(());
    }
    Err(Error::corrupt(chunk_words(key), "the chunk there is another one"))
}
