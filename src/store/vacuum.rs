//! Giving the file's free space back to the disk: what lies at its end moves into free places further in front.
//!
//! Chunks move in updates, a bounded number in each: a crash finds each of them at one place or the other. Then redb makes its
//! pages fewer, and their parts are cut, or move as a whole: the root's change is the commit point. What lies behind all that
//! is cut off.

use std::sync::Arc;

use redb::ReadableTable;

use super::extent::{BLOCK, Extent};
use super::index::IndexRow;
use super::open::{Handle, Store};
use super::read::decode_entry;
use super::schema::{ChunkKey, INDEX, decode_row, encode_row};
use super::space::Space;
use super::trouble::{FromRedb, Operation, Severity};
use super::update::{Ended, Purpose, Update};
use crate::error::{Error, Result};

/// Blocks that a step moves, 8 MiB; or one chunk, if it is longer.
const STEP_BLOCKS: u64 = 2_048;

/// So many chunks are looked for at once: 2 GB of them.
const MOST_PLACES: usize = 1 << 16;

/// What is copied at once.
const COPY_BLOCKS: u64 = 256;

/// redb's pages are not compacted for their own sake as long as they have so few blocks: 256 KiB.
const FEW_BLOCKS: u64 = 64;

/// Where a chunk lies, and its key in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    block: u64,
    key: ChunkKey,
}

impl Store {
    /// Gives the file's free space back to the disk, but for what no chunk fits into. The file is whole at any moment; after
    /// a power loss on the way the next opening may read all of redb's pages.
    ///
    /// # Errors
    ///
    /// As [`update`](Store::update); what was moved by then stays where it is.
    pub(crate) fn vacuum(&self) -> Result<()> {
        if !self.update(Purpose::Free, |update| update.is_dense())? {
            self.close_up()?;
        }
        let _writer = self.writer.lock();
        let cut = self.handle().medium()?.file().truncate();
        cut.map_err(|error| Error::io("set the length of", self.path(), error))
    }

    fn close_up(&self) -> Result<()> {
        // What moved down may have made room for more, and what rested is ready by then.
        while self.move_chunks()? {}
        self.alone_with(|handle, _| handle.database_mut()?.compact().redb().map(drop))?;
        // An update in two phases: the file opens at once again, also after a power loss.
        self.update(Purpose::Free, |_| Ok(()))?;
        self.alone_with(|handle, space| handle.shrink_parts(space))?;
        // Chunks take what the parts have given up, and the file ends with the last one.
        while self.move_chunks()? {}
        self.update(Purpose::Free, |_| Ok(()))
    }

    /// Moves chunks that lie behind where the file could end into free places before it; `true` when one moved.
    fn move_chunks(&self) -> Result<bool> {
        let limit = self.update(Purpose::Free, |update| update.places.shortest_end(&update.tables))?;
        let mut left = self.chunks_behind(limit)?;
        let mut any = false;
        while !left.is_empty() {
            let step = self.update(Purpose::Free, |update| update.move_chunks(&left, limit))?;
            any |= step.moved > 0;
            left.truncate(left.len().saturating_sub(step.seen));
        }
        Ok(any)
    }

    /// The last chunks that do not lie before a block, in the order of the file.
    fn chunks_behind(&self, limit: u64) -> Result<Vec<Place>> {
        self.view(|snapshot| {
            let mut places = Vec::new();
            for row in snapshot.open_table(INDEX).redb()?.iter().redb()? {
                let (key, row) = decode_entry::<IndexRow>(row)?;
                if row.extent().end() > limit {
                    places.push(Place { block: row.block, key });
                }
                if places.len() >= 2 * MOST_PLACES {
                    keep_last(&mut places);
                }
            }
            keep_last(&mut places);
            Ok(places)
        })
    }

    /// Does what nobody else may be beside.
    fn alone_with(&self, work: impl FnOnce(&mut Handle, &mut Space) -> Result<()>) -> Result<()> {
        let mut writer = self.writer.lock();
        if let Some(failure) = &writer.stopped {
            return Err(Error::ReopenRequired { source: Arc::new(failure.clone()) });
        }
        // On a full disk it needs the room, and so does opening the file anew should it fail.
        writer.release_ballast();
        match self.attempt_with(&mut writer.space, work) {
            Ended::Done(()) => Ok(()),
            Ended::Full => Err(Error::StorageFull { path: self.path().to_owned() }),
            Ended::Refused(error) | Ended::Unreadable(error) => Err(error),
            Ended::Failed(error) => Err(writer.stop(error)),
        }
    }

    fn attempt_with(&self, space: &mut Space, work: impl FnOnce(&mut Handle, &mut Space) -> Result<()>) -> Ended<()> {
        let mut handle = match self.alone() {
            Ok(handle) => handle,
            Err(error) => return Ended::Failed(error),
        };
        let trouble = Arc::clone(&handle.trouble);
        let done = trouble.guard(|| {
            handle.noted(Operation::Write, handle.medium()?.refuse_forked())?;
            space.meet(&handle);
            work(&mut handle, space)
        });
        let (error, severity) = match (done, trouble.gravest()) {
            (Ok(()), _) => {
                trouble.forget_full();
                return Ended::Done(());
            }
            (Err(error), None) => return Ended::Failed(error),
            (Err(_), Some((severity, cause))) => (cause, severity),
        };
        space.doubt();
        match severity {
            Severity::Full | Severity::Unreadable => match self.replace(&mut handle) {
                Err(error) => Ended::Failed(error),
                Ok(()) if severity == Severity::Full => Ended::Full,
                Ok(()) => Ended::Unreadable(error),
            },
            Severity::Broken | Severity::Unsynced => Ended::Failed(error),
        }
    }
}

impl Handle {
    /// Makes parts no larger than redb's pages, and moves those that lie behind where the file could end. redb does nothing
    /// meanwhile.
    fn shrink_parts(&self, space: &mut Space) -> Result<()> {
        let file = self.medium()?.file();
        let write = |done| self.noted(Operation::Write, done);
        let sync = || self.noted(Operation::Sync, file.sync());
        let given_up = self.noted(Operation::Write, file.cut_parts())?;
        sync()?;
        space.add(&given_up);
        let (mut parts, _) = file.parts();
        parts.sort_unstable();
        let end = space.shortest_end(file);
        for old in parts.into_iter().rev().filter(|part| part.end() > end) {
            let Some(new) = space.take_below(old.blocks, old.first) else { continue };
            let mut from = 0;
            while from < old.blocks {
                let blocks = COPY_BLOCKS.min(old.blocks - from);
                let len = usize::try_from(blocks * BLOCK).unwrap_or(usize::MAX);
                let read = |part| self.noted(Operation::Read, file.read_part(part, from, len));
                let bytes = read(old)?;
                // A hole stays one. Other bytes are written even where the new place shows them: a sync may have lost them.
                let is_hole = bytes.iter().all(|&byte| byte == 0);
                if !is_hole || bytes != read(new)? {
                    write(file.write(Extent { first: new.first + from, blocks }, &bytes))?;
                }
                from += blocks;
            }
            sync()?;
            write(file.replace_part(old, new))?;
            sync()?;
            space.add(&[old]);
        }
        Ok(())
    }
}

/// Sorts places, and leaves no more than the last [`MOST_PLACES`].
fn keep_last(places: &mut Vec<Place>) {
    places.sort_unstable();
    places.drain(..places.len().saturating_sub(MOST_PLACES));
}

/// What a step of moving chunks has done.
struct Step {
    /// Chunks that it is done with.
    seen: usize,
    moved: usize,
}

impl Update<'_> {
    /// Whether there is nothing to gain: no block is free, and redb's pages are so few that to compact them would rather make
    /// them more.
    fn is_dense(&mut self) -> Result<bool> {
        Ok(!self.places.has_free(&self.tables)? && self.places.part_blocks() <= FEW_BLOCKS)
    }

    /// Moves chunks, the last one first, that still lie where they did and that a free place before `limit` has room for.
    fn move_chunks(&mut self, chunks: &[Place], limit: u64) -> Result<Step> {
        self.places.open(&self.tables)?;
        let mut step = Step { seen: 0, moved: 0 };
        let mut blocks = 0;
        for place in chunks.iter().rev() {
            step.seen += 1;
            let row =
                self.tables.index.get(place.key).redb()?.map(|row| decode_row::<IndexRow>(&place.key, row.value()));
            let Some(row) = row.transpose()?.filter(|row| row.block == place.block) else { continue };
            // Its bytes as they are: damage stays what it is.
            let bytes = self.places.read(row.extent(), row.bytes as usize)?;
            let Some(extent) = self.places.put_below(&bytes, limit)? else { continue };
            self.places.give_back(row.extent(), &self.tables)?;
            let row = IndexRow { block: extent.first, ..row };
            self.tables.index.insert(place.key, encode_row(&place.key, &row).as_slice()).redb()?;
            step.moved += 1;
            blocks += extent.blocks;
            if blocks >= STEP_BLOCKS {
                break;
            }
        }
        Ok(step)
    }
}
