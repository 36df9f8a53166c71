//! The store's file: the root at its front, redb's pages in parts, and chunks in whatever extents they were given.
//!
//! A part is a run of blocks that belongs to redb; only a vacuum takes some back. redb asks for a longer file by doubling it, so
//! there are few. Everything behind the last extent in use is free; a part, or the chunks of an update that finds no free extent, begin there.
//!
//! # Changing the root
//!
//! There are two copies. A change is written to one of them, and to the other one behind the sync that makes the first durable.
//! So whenever power fails one of them is whole; and whichever rots later, the other says the same. Who changes the root also syncs,
//! before anybody else changes it: the store's one writer.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::RwLock;

use super::buffers::{Buffers, Lent};
use super::extent::{BLOCK, BLOCK_LEN, Extent};
use super::root::{MAGIC, NoRoot, Root};
use crate::disk::DiskFile;

/// The file of one store, for as long as it is open.
#[derive(Debug)]
pub(super) struct StoreFile {
    file: Arc<dyn DiskFile>,
    state: RwLock<State>,
    buffers: Arc<Buffers>,
}

#[derive(Debug, Default)]
struct State {
    root: Root,
    /// The copy that the root was read from.
    copy: u64,
    /// The copy of the root that was written and not synced yet.
    unsynced_copy: Option<u64>,
    /// Behind every extent in use.
    end: u64,
}

/// Longer reads are made only where there is as much.
const BELIEVED_LEN: usize = 1 << 20;

/// A part has half as many blocks as those before it, or at least so many, 256 MiB.
const LEAST_BLOCKS: u64 = 1 << 16;

/// What a file is that has no root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    Words(&'static str),
    /// A store of a newer release.
    Version(u32),
    /// A store with features that this release does not know: their bits.
    Features(u32),
    /// A store whose roots are damaged.
    Damaged,
}

impl StoreFile {
    /// A file, not looked at yet.
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, state: RwLock::default(), buffers: Arc::default() }
    }

    /// The length in bytes of all of it.
    pub(super) fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    /// What is in the file, if it is no store that this release reads.
    pub(super) fn foreign(&self) -> io::Result<Option<Foreign>> {
        let [first, second] = [0, 1].map(|copy| self.read_copy(copy));
        let newer = |copy: &io::Result<Result<Root, NoRoot>>| match copy {
            Ok(Err(NoRoot::Version(version))) => Some(Foreign::Version(*version)),
            Ok(Err(NoRoot::Features(bits))) => Some(Foreign::Features(*bits)),
            _ => None,
        };
        // Also when the other copy is of this release: a newer one may have begun to change the file.
        if let Some(newer) = newer(&first).or_else(|| newer(&second)) {
            return Ok(Some(newer));
        }
        Ok(match (first, second) {
            (Ok(Ok(_)), _) | (_, Ok(Ok(_))) => None,
            (Err(error), _) | (_, Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {
                let head = head(&*self.file)?;
                let is_ours = head.starts_with(MAGIC);
                Some(if is_ours { Foreign::Damaged } else { Foreign::Words(words_of(&head)) })
            }
        })
    }

    /// Begins an empty store in an empty file.
    pub(super) fn init(&self) -> io::Result<()> {
        let mut state = self.state.write();
        *state = State { end: Root::default().end(), ..State::default() };
        // Both at once: nobody knows of the file yet.
        let root = state.root.encode();
        self.file.write_at(0, [root, root].as_flattened())
    }

    /// Reads the root. Where the copies differ, both become the newer one.
    pub(super) fn load(&self) -> io::Result<()> {
        let copies = [0, 1].map(|copy| self.read_copy(copy));
        let changes = |copy: &io::Result<Result<Root, NoRoot>>| match copy {
            Ok(Ok(root)) => Some(root.changes),
            _ => None,
        };
        let (root, copy, is_same) = match copies {
            [Ok(Ok(first)), ref second] if Some(first.changes) >= changes(second) => {
                let is_same = matches!(second, Ok(Ok(second)) if *second == first);
                (first, 0, is_same)
            }
            [_, Ok(Ok(second))] => (second, 1, false),
            [Err(error), _] | [_, Err(error)] => return Err(error),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "both copies of its root are damaged")),
        };
        let end = self.file.len()?.div_ceil(BLOCK).max(root.end());
        *self.state.write() = State { root, copy, unsynced_copy: None, end };
        if is_same {
            return Ok(());
        }
        self.rewrite_root()?;
        self.sync()
    }

    /// Writes the root as it was read. The next sync makes both copies durable.
    ///
    /// After a failed sync, memory may show a copy that is not on the disk, or only in part. The copy that was read counts, so
    /// it is written first: until it is durable, the other one is the only one that is whole.
    pub(super) fn rewrite_root(&self) -> io::Result<()> {
        let mut state = self.state.write();
        self.write_copy(state.copy, &state.root)?;
        state.unsynced_copy = Some(state.copy);
        Ok(())
    }

    fn read_copy(&self, copy: u64) -> io::Result<Result<Root, NoRoot>> {
        let mut bytes = [0; BLOCK_LEN];
        self.file.read_at(copy * BLOCK, &mut bytes)?;
        Ok(Root::decode(&bytes))
    }

    fn write_copy(&self, copy: u64, root: &Root) -> io::Result<()> {
        self.file.write_at(copy * BLOCK, &root.encode())
    }

    /// Returns when everything written so far is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync()?;
        let Some(copy) = self.state.read().unsynced_copy else { return Ok(()) };
        let mut state = self.state.write();
        self.write_copy(1 - copy, &state.root)?;
        state.unsynced_copy = None;
        drop(state);
        self.file.sync()
    }

    /// Reads some of the bytes of an extent.
    pub(super) fn read(&self, extent: Extent, bytes: Range<usize>) -> io::Result<Vec<u8>> {
        let (at, len) = ((extent.first * BLOCK).saturating_add(bytes.start as u64), bytes.len());
        // Memory is not taken before the bytes are there.
        if len > BELIEVED_LEN && self.file.len()? < at.saturating_add(len as u64) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_vec_at(at, len)
    }

    /// Reads `len` bytes from the first block of an extent on, also of those that follow, into a buffer that is used again.
    pub(super) fn read_together(&self, extent: Extent, len: usize) -> io::Result<Lent> {
        let mut bytes = self.buffers.take(len);
        self.file.read_at(extent.first * BLOCK, bytes.get_mut(..len).unwrap_or_default())?;
        Ok(self.buffers.lend(bytes, len))
    }

    /// Writes into an extent, which belongs to who writes.
    pub(super) fn write(&self, extent: Extent, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(extent.first * BLOCK, bytes)
    }

    /// The block behind every extent in use.
    pub(super) fn end(&self) -> u64 {
        self.state.read().end
    }

    /// Where the parts are, and the block behind the last of them.
    pub(super) fn parts(&self) -> (Vec<Extent>, u64) {
        let state = self.state.read();
        (state.root.parts.clone(), state.root.end())
    }

    /// Says what is the end, so far as the chunks are concerned. Behind them there may be parts.
    pub(super) fn set_end(&self, end: u64) {
        let mut state = self.state.write();
        state.end = end.max(state.root.end());
    }

    /// Lets the file end before an extent that is at its end; `false` when something is behind it.
    pub(super) fn cut(&self, last: Extent) -> bool {
        let mut state = self.state.write();
        let is_last = state.end == last.end();
        if is_last {
            state.end = last.first;
        }
        is_last
    }

    /// Takes blocks at the end.
    pub(super) fn extend(&self, blocks: u64) -> io::Result<Extent> {
        let mut state = self.state.write();
        let extent = Extent { first: state.end, blocks };
        if extent.end() > Extent::MAX_END {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.end = extent.end();
        Ok(extent)
    }

    /// Cuts off what lies behind the end. Nobody uses it.
    pub(super) fn truncate(&self) -> io::Result<()> {
        let end = self.end() * BLOCK;
        if self.file.len()? > end { self.file.set_len(end) } else { Ok(()) }
    }

    /// Lets both copies of the root say the same on the disk, whatever comes of the file now.
    pub(super) fn settle(&self) -> io::Result<()> {
        let is_settled = self.state.read().unsynced_copy.is_none();
        if is_settled { Ok(()) } else { self.sync() }
    }

    /// Gives up room that redb's pages will not need soon. What it was is free once a sync has returned.
    pub(super) fn cut_parts(&self) -> io::Result<Vec<Extent>> {
        let mut given_up = Vec::new();
        self.change_locked(&mut self.state.write(), |root| {
            given_up = root.cut();
            Ok(())
        })?;
        Ok(given_up)
    }

    /// Reads `len` bytes of a part from its block `from` on; where nothing was written yet, zeros.
    pub(super) fn read_part(&self, part: Extent, from: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        read_or_zeros(&*self.file, (part.first + from) * BLOCK, &mut bytes)?;
        Ok(bytes)
    }

    /// Where a byte of redb's pages is in the file.
    pub(super) fn place_of_pages(&self, offset: u64) -> u64 {
        self.state.read().root.locate(offset, 1).map_or(offset, |(at, _)| at)
    }

    /// How much of redb's pages may have been written: what lies behind is not in the file.
    pub(super) fn len_of_written_pages(&self) -> io::Result<u64> {
        let len = self.file.len()?;
        let state = self.state.read();
        let (mut before, mut written) = (0, 0);
        for part in &state.root.parts {
            let bytes = part.blocks * BLOCK;
            let there = len.saturating_sub(part.first * BLOCK).min(bytes);
            if there > 0 {
                written = before + there;
            }
            before += bytes;
        }
        Ok(written.min(state.root.len))
    }

    /// Lets a part lie where it was copied to, and that was synced. Where it was is free once another sync has returned.
    pub(super) fn replace_part(&self, part: Extent, by: Extent) -> io::Result<()> {
        self.change_locked(&mut self.state.write(), |root| {
            root.parts.iter_mut().filter(|other| **other == part).for_each(|other| *other = by);
            Ok(())
        })
    }

    /// Changes the root: one copy of it now, the other one behind the next sync.
    fn change_locked(&self, state: &mut State, change: impl FnOnce(&mut Root) -> io::Result<()>) -> io::Result<()> {
        let mut root = state.root.clone();
        change(&mut root)?;
        if root == state.root {
            return Ok(());
        }
        root.changes += 1;
        let copy = state.unsynced_copy.unwrap_or(0);
        state.unsynced_copy = Some(copy);
        self.write_copy(copy, &root)?;
        state.root = root;
        Ok(())
    }
}

/// The first bytes of a file, 512 at most.
fn head(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.len()?.min(512)).unwrap_or(512)];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// What a file is that begins like this.
fn words_of(head: &[u8]) -> &'static str {
    if head.starts_with(b"redb\x1a\x0a\xa9\x0d\x0a") {
        "it is a redb database of another application"
    } else if head.is_empty() {
        "it is empty"
    } else if head.iter().all(|&byte| byte == 0) {
        "it begins with zeros"
    } else if head.starts_with(b"SQLite format 3\0") {
        "it is an SQLite database"
    } else if head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        "it looks like text"
    } else {
        "it holds something else"
    }
}

/// Reads what may lie behind the file's end, where nothing was written yet.
fn read_or_zeros(file: &dyn DiskFile, offset: u64, out: &mut [u8]) -> io::Result<()> {
    let left = file.len()?.saturating_sub(offset);
    let there = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
    let (bytes, behind) = out.split_at_mut(there);
    behind.fill(0);
    if bytes.is_empty() { Ok(()) } else { file.read_at(offset, bytes) }
}

/// redb's pages with their checksums: the parts, as one file.
#[derive(Debug)]
pub(super) struct Pages(pub(super) Arc<StoreFile>);

impl Pages {
    /// Calls `work` with the place of each piece, and which of the bytes it has.
    fn each_piece(
        &self,
        offset: u64,
        len: usize,
        mut work: impl FnMut(u64, std::ops::Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.0.state.read().root.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < len {
            let piece = self.0.state.read().root.locate(offset + done as u64, len - done);
            let Some((at, piece)) = piece else { return Err(io::ErrorKind::UnexpectedEof.into()) };
            work(at, done..done + piece)?;
            done += piece;
        }
        Ok(())
    }
}

impl DiskFile for Pages {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.state.read().root.len)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.each_piece(offset, out.len(), |at, range| {
            let out = out.get_mut(range).unwrap_or_default();
            match self.0.file.read_at(at, out) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => read_or_zeros(&*self.0.file, at, out),
                read => read,
            }
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.each_piece(offset, bytes.len(), |at, range| self.0.file.write_at(at, bytes.get(range).unwrap_or_default()))
    }

    /// A longer file takes no room yet; a shorter one keeps its room, and what is in it. redb reads no page that it has not written.
    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.state.write();
        let capacity = state.root.capacity();
        let missing = len.saturating_sub(capacity).div_ceil(BLOCK);
        // However redb asks for it, there are few parts.
        let blocks = missing.max((capacity / 2 / BLOCK).min(LEAST_BLOCKS));
        let part = Extent { first: state.end, blocks };
        if missing > 0 && part.end() > Extent::MAX_END {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if missing > 0 && self.0.file.len()? > part.first * BLOCK {
            // What an update left there that came to no end.
            self.0.file.set_len(part.first * BLOCK)?;
        }
        self.0.change_locked(&mut state, |root| {
            root.len = len;
            if missing > 0 && !root.add(part) {
                return Err(io::Error::other("the store has too many parts: vacuum it"));
            }
            Ok(())
        })?;
        state.end = state.end.max(state.root.end());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.0.file.try_lock()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a root that was synced is found again, whatever happens to a later one or to one of its copies. Method: every
    //! crash of some changes, and damage to each copy.

    use std::path::Path;

    use super::super::root::ROOT_VERSION;
    use super::*;
    use crate::checksum::crc32c;
    use crate::disk::sim_disk::SimDisk;
    use crate::disk::{Disk, MemoryFile, OpenMode};

    const PATH: &str = "/d/store";

    fn open(disk: &SimDisk) -> Arc<StoreFile> {
        Arc::new(StoreFile::new(disk.open(Path::new(PATH), OpenMode::OrCreate).unwrap()))
    }

    fn loaded(disk: &SimDisk) -> Arc<StoreFile> {
        let file = open(disk);
        file.load().unwrap();
        file
    }

    fn new() -> (SimDisk, Arc<StoreFile>, Pages) {
        let disk = SimDisk::new();
        let file = open(&disk);
        file.init().unwrap();
        disk.sync_dir(Path::new(PATH)).unwrap();
        let pages = Pages(Arc::clone(&file));
        (disk, file, pages)
    }

    fn block(fill: u8) -> [u8; BLOCK_LEN] {
        [fill; BLOCK_LEN]
    }

    fn page(pages: &Pages, number: u64) -> io::Result<u8> {
        let mut bytes = block(0xee);
        pages.read_at(number * BLOCK, &mut bytes)?;
        assert!(bytes.iter().all(|byte| *byte == bytes[0]));
        Ok(bytes[0])
    }

    #[test]
    fn pages_go_around_chunks_and_come_back() {
        let (disk, file, pages) = new();
        pages.set_len(2 * BLOCK).unwrap();
        let chunk = file.extend(1).unwrap();
        file.write(chunk, &block(9)).unwrap();
        pages.set_len(5 * BLOCK).unwrap();
        let other = file.extend(2).unwrap();
        file.write(other, &block(8)).unwrap();
        pages.write_at(BLOCK, &[block(1), block(2), block(3)].concat()).unwrap();
        pages.sync().unwrap();
        for file in [file, loaded(&disk)] {
            let pages = Pages(Arc::clone(&file));
            assert_eq!(pages.len().unwrap(), 5 * BLOCK);
            // The last one was never written.
            assert_eq!([1, 2, 3, 4].map(|number| page(&pages, number).unwrap()), [1, 2, 3, 0]);
            assert_eq!(page(&pages, 5).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert!(pages.write_at(4 * BLOCK, &[block(1), block(1)].concat()).is_err());
            for (extent, fill) in [(chunk, 9), (other, 8)] {
                assert_eq!(file.read(extent, 0..BLOCK_LEN).unwrap(), block(fill));
            }
            let parts = vec![Extent { first: 2, blocks: 2 }, Extent { first: 5, blocks: 3 }];
            assert_eq!(file.parts(), (parts, 8));
            // Of the last extent, the second block was never written.
            assert!([9, 10].contains(&file.end()));
        }
    }

    #[test]
    fn shorter_pages_keep_their_room_until_it_is_cut_off() {
        let (_, file, pages) = new();
        pages.set_len(6 * BLOCK).unwrap();
        pages.write_at(0, &block(1)).unwrap();
        pages.set_len(2 * BLOCK).unwrap();
        assert!(page(&pages, 2).is_err());
        pages.set_len(6 * BLOCK).unwrap();
        assert_eq!(file.parts().0, [Extent { first: 2, blocks: 6 }]);
        pages.set_len(BLOCK + 1).unwrap();
        assert_eq!(file.cut_parts().unwrap(), [Extent { first: 6, blocks: 2 }]);
        assert_eq!(file.parts(), (vec![Extent { first: 2, blocks: 4 }], 6));
        assert_eq!(file.cut_parts().unwrap(), []);
        assert_eq!(page(&pages, 0).unwrap(), 1);
    }

    #[test]
    fn a_part_moves_with_its_holes() {
        let (disk, file, pages) = new();
        pages.set_len(BLOCK).unwrap();
        let free = file.extend(3).unwrap();
        file.write(free, &block(7)).unwrap();
        file.extend(1).unwrap();
        pages.set_len(4 * BLOCK).unwrap();
        pages.write_at(2 * BLOCK, &block(5)).unwrap();
        let old = Extent { first: 7, blocks: 3 };
        assert_eq!(file.parts().0[1], old);
        let bytes = file.read_part(old, 0, 3 * BLOCK_LEN).unwrap();
        assert_eq!([0, 1, 2].map(|number| bytes[number * BLOCK_LEN]), [0, 5, 0]);
        assert_eq!(file.len_of_written_pages().unwrap(), 3 * BLOCK);
        file.write(free, &bytes).unwrap();
        file.sync().unwrap();
        file.replace_part(old, free).unwrap();
        file.sync().unwrap();
        for file in [file, loaded(&disk)] {
            assert_eq!(file.parts().0, [Extent { first: 2, blocks: 1 }, free]);
            assert_eq!([1, 2, 3].map(|number| page(&Pages(Arc::clone(&file)), number).unwrap()), [0, 5, 0]);
        }
    }

    #[test]
    fn a_new_part_has_none_of_what_lay_there() {
        let (disk, file, pages) = new();
        pages.set_len(BLOCK).unwrap();
        let chunk = file.extend(2).unwrap();
        file.write(chunk, &[block(3), block(3)].concat()).unwrap();
        file.set_end(0);
        assert_eq!(file.end(), 3);
        pages.set_len(3 * BLOCK).unwrap();
        assert_eq!([1, 2].map(|number| page(&pages, number).unwrap()), [0, 0]);
        pages.sync().unwrap();
        assert_eq!(loaded(&disk).end(), 5);
    }

    #[test]
    fn a_crash_at_any_point_leaves_a_root_that_is_not_older_than_the_last_sync() {
        let (disk, file, pages) = new();
        let mut synced = Vec::new();
        let mut all = vec![0];
        for round in 0..4 {
            for step in 0..=round {
                let len = (1 + 3 * round + step) * BLOCK;
                pages.set_len(len).unwrap();
                all.push(len);
            }
            file.sync().unwrap();
            synced.push((disk.operations(), *all.last().unwrap()));
        }
        let first = synced[0].0;
        for at in first..=disk.operations() {
            for (label, image) in disk.images(at, at as u64) {
                for damaged in [None, Some(0), Some(1)] {
                    let image = image.after_kill();
                    // A copy that rots once both are on the disk.
                    if let Some(copy) = damaged {
                        if !synced.iter().any(|(done, _)| *done == at) {
                            continue;
                        }
                        let mut bytes = image.bytes(PATH).unwrap();
                        bytes[copy * BLOCK_LEN + 20] ^= 1;
                        image.put(PATH, &bytes);
                    }
                    let len = Pages(loaded(&image)).len().unwrap();
                    let least = synced.iter().rev().find(|(done, _)| *done <= at).map_or(0, |(_, len)| *len);
                    assert!(len >= least && all.contains(&len), "{label}: {len} of {least}");
                    assert_eq!(Pages(loaded(&image)).len().unwrap(), len, "{label}: once more");
                }
            }
        }
    }

    #[test]
    fn a_damaged_copy_is_mended_and_two_are_told() {
        let (disk, file, pages) = new();
        pages.set_len(3 * BLOCK).unwrap();
        pages.sync().unwrap();
        let sound = disk.bytes(PATH).unwrap();
        assert_eq!(sound[..BLOCK_LEN], sound[BLOCK_LEN..2 * BLOCK_LEN]);
        drop((file, pages));
        let damage = |copies: &[usize], change: &dyn Fn(&mut [u8])| {
            let mut bytes = sound.clone();
            copies.iter().for_each(|copy| change(&mut bytes[copy * BLOCK_LEN..(copy + 1) * BLOCK_LEN]));
            disk.put(PATH, &bytes);
        };
        for copy in [0, 1] {
            for change in [|bytes: &mut [u8]| bytes.fill(0), |bytes: &mut [u8]| bytes[17] ^= 4] {
                damage(&[copy], &change);
                assert_eq!(open(&disk).foreign().unwrap(), None);
                assert_eq!(Pages(loaded(&disk)).len().unwrap(), 3 * BLOCK);
                assert_eq!(disk.bytes(PATH).unwrap(), sound);
            }
        }
        damage(&[0, 1], &|bytes| bytes[17] ^= 4);
        assert_eq!(open(&disk).foreign().unwrap(), Some(Foreign::Damaged));
        assert_eq!(open(&disk).load().unwrap_err().kind(), io::ErrorKind::InvalidData);
        for copies in [&[0, 1][..], &[0], &[1]] {
            let newer = |at: usize, value: u32| {
                damage(copies, &|bytes| {
                    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                    let crc = crc32c(&bytes[..BLOCK_LEN - 4]);
                    bytes[BLOCK_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
                });
                open(&disk).foreign().unwrap()
            };
            assert_eq!(newer(8, ROOT_VERSION + 1), Some(Foreign::Version(ROOT_VERSION + 1)));
            assert_eq!(newer(32, 2), Some(Foreign::Features(2)));
            assert_eq!(newer(36, 2), Some(Foreign::Features(2)));
        }
    }

    #[test]
    fn pages_that_grow_one_by_one_have_few_parts() {
        let file = Arc::new(StoreFile::new(Arc::new(MemoryFile::default())));
        file.init().unwrap();
        let pages = Pages(Arc::clone(&file));
        for number in 1..1_000 {
            file.extend(1).unwrap();
            pages.set_len(number * BLOCK).unwrap();
        }
        assert!(file.parts().0.len() < 20, "{:?}", file.parts());
        let refused = pages.set_len(u64::MAX).unwrap_err();
        assert_eq!((refused.kind(), pages.len().unwrap()), (io::ErrorKind::StorageFull, 999 * BLOCK));
    }
}
