//! Which blocks of the file are free, and where chunks go.
//!
//! ```text
//! update      takes blocks that are ready ---> writes chunks there ---> its commit makes them the chunks' own
//!             gives blocks back -------------> its commit makes them free, in the table `free`
//!                                              they rest until nobody reads what was there
//!                                              they are ready
//! ```
//!
//! The table has all free runs below the end that the row `space` tells; what lies behind that is free, but for parts. An
//! update writes into blocks that are free in the state before it, so whatever becomes of it, that state is whole; and its
//! commit syncs the file before it counts, so what it names is there.
//!
//! Parts come and go by the root, not by an update: so after a crash a row may say of a part's blocks that they are free, or no row
//! may know of blocks that are. Whether all of them add up tells, and the index then says which are free.

use std::collections::VecDeque;
use std::sync::Weak;

use redb::{ReadableTable, TableDefinition};

use super::extent::{BLOCK, BLOCK_LEN, Extent, Extents};
use super::file::StoreFile;
use super::index::IndexRow;
use super::open::Handle;
use super::read::{decode_entry, meta};
use super::root::COPIES;
use super::schema::{MetaRow, Row, encode_row, meta_row};
use super::snapshot::State;
use super::trouble::{FromRedb, Operation};
use super::update::Tables;
use crate::codec::{DecodeError, Reader, Writer};
use crate::error::{Error, Result};

/// Keyed by the first block of a run.
pub(super) const FREE: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("brooklet:free");

/// Chunks that lie one behind the other are written together: in pieces of so many blocks, 1 MiB, that begin at a multiple of
/// them. Linux keeps a file in memory in pieces as large as the writes that made it, if they begin so; and the larger these are,
/// the less it has to look for them.
const WRITE_BLOCKS: u64 = 256;

/// Blocks that are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FreeRow {
    pub(super) blocks: u64,
}

impl Row for FreeRow {
    const PLACE: &'static str = "free";
    type Key = u64;

    fn key_bytes(key: &u64) -> impl AsRef<[u8]> {
        u128::from(*key).to_le_bytes()
    }

    fn key_words(key: &u64) -> String {
        format!("block {key}")
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        out.put_u64(self.blocks);
    }

    fn decode_fields(key: &u64, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let blocks = reader.u64()?;
        let is_sound = blocks > 0 && *key >= COPIES && key.saturating_add(blocks) <= Extent::MAX_END;
        if is_sound { Ok(Self { blocks }) } else { Err(DecodeError("such blocks can't be free")) }
    }
}

/// How the file's blocks are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SpaceRow {
    /// Behind it nothing is in use but parts.
    pub(super) end: u64,
    /// Blocks that chunks take.
    pub(super) used: u64,
}

meta_row!(
    SpaceRow,
    "space",
    |row, out| {
        out.put_u64(row.end);
        out.put_u64(row.used);
    },
    |reader| {
        let (end, used) = (reader.u64()?, reader.u64()?);
        if end.max(used) > Extent::MAX_END {
            return Err(DecodeError("the file can't be that long"));
        }
        Ok(SpaceRow { end, used })
    }
);

/// The blocks of a store's file. One update at a time has it.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// `None`: it is in the tables.
    known: Option<Known>,
    /// The tables may not fit to what the file has, as after a crash: the next update looks.
    in_doubt: bool,
    /// Of the handle that it was last used with.
    generation: u64,
    /// What was freed and may still be read, the oldest first.
    resting: VecDeque<Resting>,
    /// Memory for what an update writes, kept for the next one.
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Known {
    /// What the table `free` has.
    free: Extents,
    /// What of it may be written to.
    ready: Extents,
    /// Blocks that chunks take.
    used: u64,
    /// As the row `space` says.
    row: SpaceRow,
    /// Free blocks at the end of the file that are behind the end once the update under way is committed: until then they are
    /// free in the state before it, and no part may lie there.
    cut: Option<Extent>,
}

/// What one update has freed, if anything. It is seen in the state before that update, and in those before that.
#[derive(Debug)]
pub(super) struct Resting {
    pub(super) extents: Vec<Extent>,
    pub(super) seen_by: Weak<State>,
}

impl Space {
    /// What is known is in doubt, as behind an update that came to no good end: it will be read again.
    pub(super) fn doubt(&mut self) {
        self.known = None;
        self.in_doubt = true;
    }

    /// It is used with a handle. One that was opened since may have gone back to the commit before, and the file's end is not
    /// what it was.
    pub(super) fn meet(&mut self, handle: &Handle) {
        if self.generation != handle.generation {
            self.generation = handle.generation;
            self.doubt();
        }
    }

    /// An update is committed that has freed these.
    pub(super) fn rest(&mut self, freed: Resting) {
        self.resting.push_back(freed);
    }

    /// What nobody sees any more has rested. A state that is seen keeps what later updates have freed, too.
    fn wake(&mut self) {
        while self.resting.front().is_some_and(|freed| freed.seen_by.strong_count() == 0) {
            let rested = self.resting.pop_front().map_or(Vec::new(), |freed| freed.extents);
            let Some(known) = &mut self.known else { continue };
            for extent in rested {
                // What was cut off at the end meanwhile is not there any more.
                if known.free.has(extent) {
                    known.ready.add(extent);
                }
            }
        }
    }

    /// An update is committed, and what is known still holds.
    pub(super) fn committed(&mut self, freed: Resting, file: &StoreFile) {
        self.rest(freed);
        if let Some(known) = &mut self.known
            && let Some(cut) = known.cut.take()
            && !file.cut(cut)
        {
            // A part lies behind it since.
            let _ = known.free.add(cut) && known.ready.add(cut);
        }
    }

    /// Blocks that were a part's, and that nobody uses any more, are free. The next update writes that down.
    pub(super) fn add(&mut self, extents: &[Extent]) {
        if let Some(known) = &mut self.known {
            for extent in extents {
                let _ = known.free.add(*extent) && known.ready.add(*extent);
            }
        }
    }

    /// Takes so many free blocks that all lie below `limit`.
    pub(super) fn take_below(&mut self, blocks: u64, limit: u64) -> Option<Extent> {
        let known = self.known.as_mut()?;
        let taken = known.ready.take(blocks, limit)?;
        known.free.remove(taken);
        Some(taken)
    }

    /// Where the file would end if it had no free blocks.
    pub(super) fn shortest_end(&self, file: &StoreFile) -> u64 {
        let free = self.known.as_ref().map_or(0, |known| known.free.blocks());
        file.end().saturating_sub(free)
    }

    /// What is known; it is read if it has to be.
    fn known(&mut self, file: &StoreFile, tables: &Tables<'_>) -> Result<&mut Known> {
        let known = match self.known.take() {
            Some(known) => known,
            None => Known::read(file, tables, self.resting.iter().flat_map(|freed| &freed.extents))?,
        };
        self.in_doubt = false;
        Ok(self.known.insert(known))
    }
}

impl Known {
    fn read<'e>(file: &StoreFile, tables: &Tables<'_>, resting: impl Iterator<Item = &'e Extent>) -> Result<Self> {
        let row = meta::<SpaceRow>(&tables.meta)?.unwrap_or_default();
        let (parts, end_of_parts) = file.parts();
        file.set_end(row.end);
        let mut known = Self { free: Extents::default(), ready: Extents::default(), used: row.used, row, cut: None };
        let mut fits = true;
        for entry in tables.free.iter().redb()? {
            let (first, FreeRow { blocks }) = decode_entry::<FreeRow>(entry)?;
            let extent = Extent { first, blocks };
            fits &= extent.end() <= row.end && !parts.iter().any(|part| part.overlaps(extent));
            fits &= known.free.add(extent);
        }
        known.free.take_touched();
        let in_parts: u64 = parts.iter().map(|part| part.blocks).sum();
        let end = row.end.max(end_of_parts);
        if !fits || COPIES + in_parts + known.used + known.free.blocks() != end {
            known.count(file, &parts, end, tables)?;
        }
        known.ready = known.free.clone();
        known.ready.take_touched();
        resting.for_each(|extent| known.ready.remove(*extent));
        Ok(known)
    }

    /// Finds what is free from what is not.
    fn count(&mut self, file: &StoreFile, parts: &[Extent], end: u64, tables: &Tables<'_>) -> Result<()> {
        let mut free = Extents::default();
        free.add(Extent { first: COPIES, blocks: end.saturating_sub(COPIES) });
        parts.iter().for_each(|part| free.remove(*part));
        self.used = 0;
        for entry in tables.index.iter().redb()? {
            let extent = decode_entry::<IndexRow>(entry)?.1.extent();
            free.remove(extent);
            self.used += extent.blocks;
            if extent.end() > file.end() {
                file.set_end(extent.end());
            }
        }
        // All rows that may have to change.
        let old: Vec<Extent> = self.free.iter().collect();
        old.into_iter().for_each(|extent| self.free.remove(extent));
        free.iter().for_each(|extent| {
            self.free.add(extent);
        });
        Ok(())
    }
}

fn damaged(extent: Extent, reason: &str) -> Error {
    Error::corrupt(format!("the store, blocks {} to {}", extent.first, extent.end()), reason)
}

/// Where the chunks of one update go, and where those that it gives up were.
pub(super) struct Places<'s> {
    space: &'s mut Space,
    file: &'s StoreFile,
    handle: &'s Handle,
    taken: u64,
    freed: Vec<Extent>,
    /// Chunks that were not written yet, one behind the other, and the block where the first of them goes.
    bytes: Vec<u8>,
    at: u64,
}

impl<'s> Places<'s> {
    pub(super) fn new(space: &'s mut Space, handle: &'s Handle, tables: &Tables<'_>) -> Result<Self> {
        let medium = handle.medium()?;
        handle.noted(Operation::Write, medium.refuse_forked())?;
        let file = medium.file();
        space.meet(handle);
        space.wake();
        if space.in_doubt {
            space.known(file, tables)?;
        }
        let mut bytes = std::mem::take(&mut space.buffer);
        bytes.clear();
        Ok(Self { space, file, handle, taken: 0, freed: Vec::new(), bytes, at: 0 })
    }

    /// Where the file would end if it had no free blocks.
    pub(super) fn shortest_end(&mut self, tables: &Tables<'_>) -> Result<u64> {
        self.open(tables)?;
        Ok(self.space.shortest_end(self.file))
    }

    /// Whether a block before the end of the file is free.
    pub(super) fn has_free(&mut self, tables: &Tables<'_>) -> Result<bool> {
        Ok(self.space.known(self.file, tables)?.free.blocks() > 0)
    }

    /// Blocks of redb's pages.
    pub(super) fn part_blocks(&self) -> u64 {
        self.file.parts().0.iter().map(|part| part.blocks).sum()
    }

    /// To be called before chunks are put.
    pub(super) fn open(&mut self, tables: &Tables<'_>) -> Result<()> {
        self.space.known(self.file, tables).map(drop)
    }

    /// Finds a place for a chunk and writes it there, by the end of the update at the latest.
    pub(super) fn put(&mut self, chunk: &[u8]) -> Result<Extent> {
        let blocks = Extent::of_bytes(0, chunk.len()).blocks;
        let extent = match self.space.take_below(blocks, u64::MAX) {
            Some(extent) => extent,
            None => self.noted(Operation::Write, self.file.extend(blocks))?,
        };
        self.put_at(extent, chunk)?;
        Ok(extent)
    }

    /// The same for a place below `limit`; `None` when no free one is large enough.
    pub(super) fn put_below(&mut self, chunk: &[u8], limit: u64) -> Result<Option<Extent>> {
        let blocks = Extent::of_bytes(0, chunk.len()).blocks;
        let extent = self.space.take_below(blocks, limit);
        extent.map(|extent| self.put_at(extent, chunk).map(|()| extent)).transpose()
    }

    fn put_at(&mut self, extent: Extent, chunk: &[u8]) -> Result<()> {
        self.taken += extent.blocks;
        if self.pending().is_none_or(|pending| pending.end() != extent.first) {
            self.write()?;
            self.at = extent.first;
        }
        self.bytes.extend_from_slice(chunk);
        let padded = self.bytes.len().next_multiple_of(BLOCK_LEN);
        self.bytes.resize(padded, 0);
        let whole_pieces = self.pending().map_or(0, |pending| pending.end() / WRITE_BLOCKS * WRITE_BLOCKS);
        self.write_up_to(whole_pieces)
    }

    /// What was put and not written.
    fn pending(&self) -> Option<Extent> {
        (!self.bytes.is_empty()).then(|| Extent::of_bytes(self.at, self.bytes.len()))
    }

    /// A chunk goes, and its row of the index behind this call. What is there stays until the update is committed and nobody
    /// reads it.
    pub(super) fn give_back(&mut self, extent: Extent, tables: &Tables<'_>) -> Result<()> {
        self.open(tables)?;
        self.freed.push(extent);
        Ok(())
    }

    /// Reads the first `len` bytes of an extent; also of what was put there just now.
    pub(super) fn read(&mut self, extent: Extent, len: usize) -> Result<Vec<u8>> {
        if self.pending().is_some_and(|pending| pending.overlaps(extent)) {
            self.write()?;
        }
        self.handle.read_extent(extent, len)
    }

    /// Writes what was put.
    fn write(&mut self) -> Result<()> {
        self.write_up_to(u64::MAX)
    }

    /// Writes what was put into the blocks before `end`.
    fn write_up_to(&mut self, end: u64) -> Result<()> {
        let Some(pending) = self.pending() else { return Ok(()) };
        let blocks = end.min(pending.end()).saturating_sub(pending.first);
        let len = usize::try_from(blocks * BLOCK).unwrap_or(usize::MAX);
        if let Some(bytes) = self.bytes.get(..len).filter(|bytes| !bytes.is_empty()) {
            self.noted(Operation::Write, self.file.write(pending, bytes))?;
            self.bytes.drain(..len);
            self.at = pending.first + blocks;
        }
        Ok(())
    }

    /// Brings everything into the file, and into the tables. Gives what was freed.
    pub(super) fn finish(mut self, tables: &mut Tables<'_>) -> Result<Vec<Extent>> {
        self.write()?;
        if self.space.known.is_none() {
            return Ok(Vec::new());
        }
        let file = self.file;
        let known = self.space.known(file, tables)?;
        known.used += self.taken;
        let (parts, _) = file.parts();
        for extent in &self.freed {
            let is_elsewhere = extent.first < COPIES || extent.end() > file.end();
            if is_elsewhere || parts.iter().any(|part| part.overlaps(*extent)) || !known.free.add(*extent) {
                return Err(damaged(*extent, "a chunk was there, and they are in use otherwise or free"));
            }
            known.used = known.used.saturating_sub(extent.blocks);
        }
        let mut end = file.end();
        if let Some(last) = known.ready.last().filter(|last| last.end() == end) {
            known.ready.remove(last);
            known.free.remove(last);
            known.cut = Some(last);
            end = last.first;
        }
        for first in known.free.take_touched() {
            match known.free.at(first) {
                Some(Extent { blocks, .. }) => {
                    tables.free.insert(first, encode_row(&first, &FreeRow { blocks }).as_slice()).redb()?
                }
                None => tables.free.remove(first).redb()?,
            };
        }
        let row = SpaceRow { end, used: known.used };
        if row != known.row {
            tables.meta.insert(SpaceRow::NAME, encode_row(&(), &row).as_slice()).redb()?;
            known.row = row;
        }
        if self.bytes.capacity() as u64 <= 2 * WRITE_BLOCKS * BLOCK {
            self.space.buffer = self.bytes;
        }
        Ok(self.freed)
    }

    fn noted<T>(&self, operation: Operation, result: std::io::Result<T>) -> Result<T> {
        self.handle.noted(operation, result)
    }
}
