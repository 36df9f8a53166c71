//! A snapshot of the store: rows, and the chunks that they tell of.

use std::ops::{Bound, Deref};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use redb::{Cursor, ReadTransaction, ReadableDatabase, ReadableTable};

use super::extent::{BLOCK, Extent};
use super::index::{IndexRow, StoredChunk};
use super::open::Handle;
use super::read::{hole, partition};
use super::schema::{ChunkKey, INDEX, chunk_key, chunk_of, chunk_words, decode_row};
use super::trouble::FromRedb;
use crate::codec::{CHUNK_VERSION, ChunkError, Part, Piece, RecordBatch, chunk_crc, decode_chunk};
use crate::error::{Error, Result};
use crate::types::{LogId, Offset, TopicId};

/// The rows that an update left. The chunks that they tell of stay where they are for as long as it lives.
pub(super) struct State {
    transaction: ReadTransaction,
    /// Opened by who needs it first.
    index: OnceLock<Index>,
}

/// The state that the last update left, from the first look at it until the next update is committed: to open it takes longer than
/// to find a row in it.
///
/// Of each state there is one for all who look at it, or what an update frees would be [free](super::space) too early.
#[derive(Default)]
pub(super) struct Latest(Mutex<Option<Arc<State>>>);

impl Latest {
    fn get(&self, open: impl FnOnce() -> Result<State>) -> Result<Arc<State>> {
        let mut latest = self.0.lock();
        match &*latest {
            Some(state) => Ok(Arc::clone(state)),
            None => Ok(Arc::clone(latest.insert(Arc::new(open()?)))),
        }
    }

    /// There is a later one: who looks from now on sees that.
    pub(super) fn let_go(&self) {
        let passed = self.0.lock().take();
        // Not under the lock.
        drop(passed);
    }

    /// The same for who is alone, as in a process that was forked while somebody had the lock.
    pub(super) fn let_go_alone(&mut self) {
        *self.0.get_mut() = None;
    }
}

/// What an update left, as one reader looks at it: rows, and the chunks that they tell of.
pub(super) struct Snapshot<'h> {
    state: Arc<State>,
    handle: &'h Handle,
}

impl Deref for Snapshot<'_> {
    type Target = ReadTransaction;

    fn deref(&self) -> &ReadTransaction {
        &self.state.transaction
    }
}

impl<'h> Snapshot<'h> {
    pub(super) fn of(handle: &'h Handle) -> Result<Self> {
        let state = handle.latest.get(|| {
            let transaction = handle.database()?.begin_read().redb()?;
            Ok(State { transaction, index: OnceLock::new() })
        })?;
        Ok(Self { state, handle })
    }

    /// Dead once nobody sees this state any more.
    pub(super) fn watch(&self) -> Weak<State> {
        Arc::downgrade(&self.state)
    }

    /// The table of chunks.
    pub(super) fn index(&self) -> Result<&Index> {
        if let Some(index) = self.state.index.get() {
            return Ok(index);
        }
        let index = self.open_table(INDEX).redb()?;
        Ok(self.state.index.get_or_init(|| index))
    }

    /// The chunks that hold the records from `from` up to `until`, until `max_bytes` are reached; one at least, or a part of one,
    /// read, where that is enough. None when the log start has passed `from`. What is sound before damage comes without an error.
    pub(super) fn chunks_within(
        &self,
        log: LogId,
        (from, until): (Offset, Offset),
        max_bytes: usize,
    ) -> Result<Within> {
        if from >= until {
            return Ok(Within::Chunks(Vec::new()));
        }
        let mut rows = Rows::from(self.index()?, log, from)?;
        let Some((key, row)) = rows.first()?.filter(|(key, _)| chunk_of(*key).1 <= from) else {
            let is_gone = partition(self, log)?.is_some_and(|row| row.log_start > from);
            return if is_gone { Ok(Within::Chunks(Vec::new())) } else { Err(hole(log, from)) };
        };
        let mut bytes = row.plain_bytes.max(row.bytes) as usize;
        if max_bytes < bytes
            && let Some(part) = row.outline(key).part(from, max_bytes)
        {
            return Ok(Within::Part(self.read_part((key, &row), &part)?));
        }
        let mut expected = row.last_offset.next();
        let mut chunks = vec![row.chunk(key)];
        while expected < until && bytes < max_bytes {
            // What can't be read, or is missing, is met by the read that begins there.
            let Ok(Some(chunk)) = rows.next() else { break };
            if chunk_of(chunk.key).1 != expected {
                break;
            }
            expected = chunk.last_offset.next();
            bytes = bytes.saturating_add(chunk.plain_bytes.max(chunk.bytes) as usize);
            chunks.push(chunk);
        }
        Ok(Within::Chunks(chunks))
    }

    /// Reads chunks that lie side by side.
    pub(super) fn read_run<'r>(
        &'r self,
        run: &'r [StoredChunk],
        topic: TopicId,
    ) -> impl Iterator<Item = Result<RecordBatch>> + use<'r, 'h> {
        let first = run.first().map_or(0, |chunk| chunk.block);
        let together = if run.len() > 1 { self.handle.read_together(run) } else { None };
        run.iter().map(move |chunk| match &together {
            Some(bytes) => {
                let start = usize::try_from((chunk.block - first) * BLOCK).unwrap_or(usize::MAX);
                decode_stored_chunk(chunk, topic, bytes.part(start, chunk.bytes as usize))
            }
            None => self.handle.read_chunk(chunk, topic),
        })
    }

    /// The row of the chunk that holds an offset, if it is there.
    pub(super) fn chunk_with(&self, log: LogId, offset: Offset) -> Result<Option<(ChunkKey, IndexRow)>> {
        let first = Rows::from(self.index()?, log, offset)?.first()?;
        Ok(first.filter(|(key, _)| chunk_of(*key).1 <= offset))
    }

    pub(super) fn read_chunk(&self, chunk: &StoredChunk, topic: TopicId) -> Result<RecordBatch> {
        self.handle.read_chunk(chunk, topic)
    }

    /// Where redb's pages are.
    pub(super) fn parts(&self) -> Result<Vec<Extent>> {
        Ok(self.handle.medium()?.file().parts().0)
    }

    /// The first record at or behind an offset, as a batch of its own, if the chunk that holds it is there and has one.
    pub(super) fn find_record(&self, log: LogId, topic: TopicId, offset: Offset) -> Result<Option<RecordBatch>> {
        let Some((key, row)) = self.chunk_with(log, offset)? else { return Ok(None) };
        let batch = match row.outline(key).part(offset, 1) {
            Some(part) => self.read_part((key, &row), &part)?,
            None => self.read_chunk(&row.chunk(key), topic)?,
        };
        Ok(batch.pick(offset))
    }

    pub(super) fn read_part(&self, row: (ChunkKey, &IndexRow), part: &Part) -> Result<RecordBatch> {
        self.handle.read_part(row, part)
    }

    /// Of a chunk that can't be read whole, the sections from the one of `from` on, up to one that is damaged. `error` is what was
    /// found of all of it.
    pub(super) fn read_what_is_left(&self, log: LogId, from: Offset, error: Error) -> Result<RecordBatch> {
        if !matches!(error, Error::Corrupt { .. }) {
            return Err(error);
        }
        let Some((key, row)) = self.chunk_with(log, from)? else { return Err(error) };
        match row.outline(key).part(from, usize::MAX) {
            Some(part) => self.read_part((key, &row), &part),
            None => Err(error),
        }
    }
}

impl Handle {
    /// Reads a chunk that is there.
    pub(super) fn read_chunk(&self, chunk: &StoredChunk, topic: TopicId) -> Result<RecordBatch> {
        let bytes = self.read_extent(chunk.extent(), chunk.bytes as usize)?;
        decode_stored_chunk(chunk, topic, Piece::whole(bytes))
    }

    /// Reads the sections of a part, up to the first one that is damaged; an error when that is the first one of all.
    pub(super) fn read_part(&self, (key, row): (ChunkKey, &IndexRow), part: &Part) -> Result<RecordBatch> {
        let bytes = self.read_within(row.extent(), part.bytes.clone())?;
        row.outline(key).decode(part, bytes).map_err(|error| unreadable_chunk(key, error))
    }

    /// Reads what several chunks take together; `None` when that failed: one by one, it shows which can be read.
    fn read_together(&self, run: &[StoredChunk]) -> Option<Piece> {
        let (first, last) = (run.first()?, run.last()?);
        let len = usize::try_from((last.block - first.block) * BLOCK).ok()? + last.bytes as usize;
        let file = self.medium().ok()?.file();
        file.read_together(first.extent(), len).ok().map(Piece::whole)
    }
}

/// Bytes that are read together, at most: what a consumer reads ahead, and a chunk.
const RUN_LEN: u64 = 320 << 10;

/// What there is of the records that are wanted.
pub(super) enum Within {
    /// These, out of a chunk that has more than is wanted.
    Part(RecordBatch),
    /// Chunks that are not read yet.
    Chunks(Vec<StoredChunk>),
}

/// Cuts chunks into runs of those that lie side by side in the file.
pub(super) fn runs_of(chunks: &[StoredChunk]) -> impl Iterator<Item = &[StoredChunk]> {
    let mut rest = chunks;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let follows = |pair: &&[StoredChunk]| match pair {
            [before, chunk] => {
                before.extent().end() == chunk.block && (chunk.extent().end() - first.block) * BLOCK <= RUN_LEN
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
struct Rows<'t> {
    log: LogId,
    from: Offset,
    cursor: Cursor<'t, ChunkKey, &'static [u8]>,
}

impl<'t> Rows<'t> {
    /// From the chunk on that holds `from`, or that is the next one behind it.
    fn from(index: &'t Index, log: LogId, from: Offset) -> Result<Self> {
        // One way down the tree: a range would go to its end as well.
        let mut cursor = index.upper_bound(Bound::Included(chunk_key(log, from))).redb()?;
        cursor.prev().redb()?;
        Ok(Self { log, from, cursor })
    }

    /// To be called first.
    fn first(&mut self) -> Result<Option<(ChunkKey, IndexRow)>> {
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

    fn next(&mut self) -> Result<Option<StoredChunk>> {
        let Some((key, row)) = self.cursor.next().redb()? else { return Ok(None) };
        let key = key.value();
        if chunk_of(key).0 != self.log {
            return Ok(None);
        }
        StoredChunk::decode(key, row.value()).map(Some)
    }
}

/// Decodes a chunk, and sees to it that it is the one that its row tells of.
pub(super) fn decode_stored_chunk(chunk: &StoredChunk, topic: TopicId, bytes: Piece) -> Result<RecordBatch> {
    let crc = chunk_crc(bytes.bytes());
    let batch = decode_chunk(bytes, topic).map_err(|error| unreadable_chunk(chunk.key, error))?;
    let header = &batch.header;
    // Not another one, and not one that lay there before.
    let is_its_own = (header.log, header.base_offset) == chunk_of(chunk.key) && header.last_offset == chunk.last_offset;
    if is_its_own && crc == chunk.crc {
        return Ok(batch);
    }
    Err(Error::corrupt(chunk_words(chunk.key), "the chunk there is another one"))
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
