//! The pages of the store's file, with a checksum that is proven whenever redb reads one.
//!
//! redb believes what it reads: a flipped bit in one of its pages leads a search astray, makes it ask for gigabytes, or
//! makes it panic, and panic again while that unwinds, which ends the process. So no such page reaches it. A page has its
//! checksum beside it, on a page of checksums ([`sums`](super::sums)), and reading one that does not match is an error.
//!
//! Of a page that is longer than a block of 4 KiB, only the first block counts: redb's own fields are at its front. What
//! lies behind them are our values, and each of these has a checksum of its own.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::extent::{BLOCK, BLOCK_LEN};
use super::sums::{COPIES, GROUP, Sums, group_of, place_of, sum_of, write_twice};
use crate::disk::DiskFile;

/// A file as redb sees it, without the blocks of checksums.
pub(super) struct PageFile {
    file: Arc<dyn DiskFile>,
    sums: Mutex<Sums>,
}

impl PageFile {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, sums: Mutex::default() }
    }

    /// Writes redb's first page, its header, as it was read.
    pub(super) fn rewrite_header(&self) -> io::Result<()> {
        let mut header = [0; BLOCK_LEN];
        self.read(0, &mut header)?;
        self.write(0, &header)
    }

    /// Takes all pages as they are, of which `written` bytes with checksums may have been written: writes them as they were
    /// read, and gives them their checksums. The next sync makes both durable.
    pub(super) fn believe_all(&self, written: u64) -> io::Result<()> {
        let mut bytes = [0; BLOCK_LEN];
        for block in 1..len_without_sums(written.min(self.file.len()?)) / BLOCK {
            self.file.read_at(place_of(block), &mut bytes)?;
            let was_written = bytes.iter().any(|&byte| byte != 0);
            if was_written {
                self.file.write_at(place_of(block), &bytes)?;
            }
            self.sums.lock().set(&*self.file, block, if was_written { sum_of(block, &bytes) } else { 0 })?;
        }
        self.write_sums()
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(len_without_sums(self.file.len()?))
    }

    /// Reads a page; `InvalidData` when it is not what was written.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        for (at, range) in pieces(offset, out.len()) {
            self.file.read_at(at, out.get_mut(range).unwrap_or_default())?;
        }
        match (out.first_chunk::<BLOCK_LEN>(), offset / BLOCK) {
            (Some(bytes), block @ 1..) => {
                let sum = self.sums.lock().get(&*self.file, block)?;
                if sum == sum_of(block, bytes) { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
            }
            _ => Ok(()),
        }
    }

    /// Writes bytes to the file, and their checksum to memory. It gets to the file by [`write_sums`](Self::write_sums).
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        for (at, range) in pieces(offset, bytes.len()) {
            self.file.write_at(at, bytes.get(range).unwrap_or_default())?;
        }
        let block = offset / BLOCK;
        // redb writes its header whenever it likes, with checksums of its own.
        if block == 0 {
            return Ok(());
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK_LEN>();
        if !rest.is_empty() || !offset.is_multiple_of(BLOCK) {
            return Err(io::Error::other("redb wrote a part of a page, which its version 4.6 does not"));
        }
        let mut sums = self.sums.lock();
        for ((block, bytes), is_first) in
            (block..).zip(blocks).zip(std::iter::once(true).chain(std::iter::repeat(false)))
        {
            sums.set(&*self.file, block, if is_first { sum_of(block, bytes) } else { 0 })?;
        }
        Ok(())
    }

    /// Writes the checksums that are not in the file yet. They are on the disk when a sync behind it has returned.
    pub(super) fn write_sums(&self) -> io::Result<()> {
        // A reader may need the lock meanwhile.
        let dirty = self.sums.lock().dirty();
        for (group, bytes) in dirty {
            write_twice(&*self.file, group, &bytes)?;
            self.sums.lock().written(group, &bytes);
        }
        Ok(())
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        let len = len_with_sums(len);
        self.file.set_len(len)?;
        self.sums.lock().cut(len);
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// The places of bytes that are adjacent for redb: more than one when checksums lie between them.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut done = 0_usize;
    std::iter::from_fn(move || {
        let offset = offset + done as u64;
        let block = offset / BLOCK;
        // The next block that has checksums before it.
        let end = if block == 0 { 1 } else { (group_of(block).0 + 1) * GROUP + 1 };
        let fits = usize::try_from(end * BLOCK - offset).unwrap_or(usize::MAX);
        let range = done..len.min(done.saturating_add(fits));
        done = range.end;
        (!range.is_empty()).then(|| (place_of(block) + offset % BLOCK, range))
    })
}

/// How long the file is that holds `len` bytes and their checksums.
fn len_with_sums(len: u64) -> u64 {
    len + len.saturating_sub(BLOCK).div_ceil(GROUP * BLOCK) * COPIES * BLOCK
}

/// How many bytes other than checksums are in a file of `len` bytes.
fn len_without_sums(len: u64) -> u64 {
    let behind_first = len.saturating_sub(BLOCK);
    let whole = behind_first / ((COPIES + GROUP) * BLOCK);
    let rest = behind_first % ((COPIES + GROUP) * BLOCK);
    len.min(BLOCK) + whole * GROUP * BLOCK + rest.saturating_sub(COPIES * BLOCK)
}

#[cfg(test)]
mod tests {
    //! Goal: redb reads what it wrote, or an error. Strategy: every place that can be damaged is, and the pages are compared with
    //! those of a plain file, over many small groups.

    use std::path::Path;

    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::super::sums::{MAGIC, place_of_sums};
    use super::*;
    use crate::disk::sim_disk::{Fault, Op, Repeat, SimDisk};
    use crate::disk::{Disk, OpenMode};

    const PATH: &str = "/d/pages";

    fn open(sim: &SimDisk) -> PageFile {
        PageFile::new(sim.open(Path::new(PATH), OpenMode::OrCreate).unwrap())
    }

    fn page(fill: u8, blocks: usize) -> Vec<u8> {
        vec![fill; blocks * BLOCK_LEN]
    }

    /// What a page holds that begins at a block.
    fn fill(block: u64) -> u8 {
        u8::try_from(block).unwrap()
    }

    fn read(pages: &PageFile, block: u64, blocks: usize) -> io::Result<Vec<u8>> {
        let mut bytes = page(0xee, blocks);
        pages.read(block * BLOCK, &mut bytes).map(|()| bytes)
    }

    /// Pages of one, two and four blocks, some over the end of a group.
    fn written(sim: &SimDisk) -> Vec<(u64, usize)> {
        let pages = open(sim);
        let all = vec![(1, 2), (3, 1), (5, 4), (9, 4), (13, 1), (15, 4)];
        pages.set_len(20 * BLOCK).unwrap();
        for &(block, blocks) in &all {
            pages.write(block * BLOCK, &page(fill(block), blocks)).unwrap();
        }
        pages.write_sums().unwrap();
        all
    }

    fn change(sim: &SimDisk, at: u64, change: impl Fn(&mut [u8])) {
        let mut bytes = sim.bytes(PATH).unwrap();
        change(&mut bytes[usize::try_from(at).unwrap()..]);
        sim.put(PATH, &bytes);
    }

    #[test]
    fn checksums_have_their_room_before_the_disk_is_full() {
        for capacity in 1..40 {
            let sim = SimDisk::new();
            let pages = open(&sim);
            pages.set_len(100 * BLOCK).unwrap();
            sim.set_capacity(Some(capacity * BLOCK));
            let written =
                (1..100).take_while(|&block| pages.write(block * BLOCK, &page(fill(block), 1)).is_ok()).count();
            assert!(written < 40);
            pages.write_sums().unwrap();
            pages.sync().unwrap();
            let pages = open(&sim);
            for block in 1..=written as u64 {
                assert_eq!(read(&pages, block, 1).unwrap(), page(fill(block), 1), "{capacity}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_in_the_first_block_of_a_page_is_an_error() {
        let sim = SimDisk::new();
        for (block, blocks) in written(&sim) {
            for at in (place_of(block)..place_of(block) + BLOCK).step_by(97) {
                change(&sim, at, |bytes| bytes[0] ^= 4);
                let error = read(&open(&sim), block, blocks).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData, "block {block}, byte {at}");
                change(&sim, at, |bytes| bytes[0] ^= 4);
                assert_eq!(read(&open(&sim), block, blocks).unwrap(), page(fill(block), blocks));
            }
        }
    }

    #[test]
    fn zeros_and_pages_of_other_places_are_errors() {
        let sim = SimDisk::new();
        written(&sim);
        let sound = sim.bytes(PATH).unwrap();
        let is_error = |sim: &SimDisk| {
            assert_eq!(read(&open(sim), 3, 1).unwrap_err().kind(), io::ErrorKind::InvalidData);
            sim.put(PATH, &sound);
        };
        change(&sim, place_of(3), |bytes| bytes[..BLOCK_LEN].fill(0));
        is_error(&sim);
        let from = usize::try_from(place_of(13) - place_of(3)).unwrap();
        change(&sim, place_of(3), |bytes| bytes.copy_within(from..from + BLOCK_LEN, 0));
        is_error(&sim);
        change(&sim, place_of_sums(0), |bytes| bytes[..2 * BLOCK_LEN].fill(0));
        is_error(&sim);
        // Zeros would match the checksum of zeros in a damaged copy.
        for copy in [0, BLOCK] {
            change(&sim, place_of(3), |bytes| bytes[..BLOCK_LEN].fill(0));
            change(&sim, place_of_sums(0) + copy, |bytes| bytes[..BLOCK_LEN].fill(0));
            is_error(&sim);
        }
    }

    /// As when an older version of a page lies where the newer one should: rows in it have checksums of their own.
    #[test]
    fn a_page_whose_rows_are_others_is_an_error() {
        let page_with = |row: &[u8; 8]| {
            let mut bytes = page(1, 1);
            bytes[100..108].copy_from_slice(row);
            bytes[108..112].copy_from_slice(&crate::checksum::crc32c(row).to_le_bytes());
            bytes
        };
        let sim = SimDisk::new();
        let pages = open(&sim);
        pages.set_len(4 * BLOCK).unwrap();
        pages.write(2 * BLOCK, &page_with(b"the new!")).unwrap();
        pages.write_sums().unwrap();
        assert_eq!(read(&open(&sim), 2, 1).unwrap(), page_with(b"the new!"));
        change(&sim, place_of(2), |bytes| bytes[..BLOCK_LEN].copy_from_slice(&page_with(b"the old!")));
        assert_eq!(read(&open(&sim), 2, 1).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    /// What can happen to a block of checksums.
    fn damages() -> [fn(&mut [u8]); 5] {
        [
            |bytes| bytes[..BLOCK_LEN].fill(0),
            |bytes| bytes[..BLOCK_LEN].fill(0xff),
            |bytes| bytes[..512].fill(0xa5),
            |bytes| bytes[3] ^= 1,
            |bytes| bytes[MAGIC.len() + 4 * 2] ^= 1,
        ]
    }

    #[test]
    fn damage_of_one_copy_of_checksums_harms_no_page_and_is_mended_with_the_next_commit() {
        for (copy, damage) in (0..COPIES).flat_map(|copy| damages().map(|damage| (copy, damage))) {
            let sim = SimDisk::new();
            let all = written(&sim);
            // The other copy, once this one is mended.
            for copy in [copy, 1 - copy] {
                (0..3).for_each(|group| change(&sim, place_of_sums(group) + copy * BLOCK, damage));
                let pages = open(&sim);
                for &(block, blocks) in &all {
                    assert_eq!(read(&pages, block, blocks).unwrap(), page(fill(block), blocks), "{copy}, {block}");
                }
                pages.write_sums().unwrap();
            }
        }
    }

    #[test]
    fn a_copy_of_checksums_that_cannot_be_read_is_not_missed() {
        for copy in 0..2 {
            let sim = SimDisk::new();
            let all = written(&sim);
            let pages = open(&sim);
            // The page is read first, then both copies.
            let nth = 1 + copy;
            let kind = io::ErrorKind::Other;
            sim.fail(Fault { operation: Op::Read, path_contains: None, nth, kind, repeat: Repeat::Once });
            assert_eq!(read(&pages, 3, 1).unwrap(), page(fill(3), 1));
            for &(block, blocks) in &all {
                assert_eq!(read(&pages, block, blocks).unwrap(), page(fill(block), blocks), "{copy}, {block}");
            }
        }
    }

    #[test]
    fn checksums_of_which_no_copy_can_be_read_are_not_taken_for_none() {
        let sim = SimDisk::new();
        written(&sim);
        let pages = open(&sim);
        // The page is read first.
        let kind = io::ErrorKind::Other;
        sim.fail(Fault { operation: Op::Read, path_contains: None, nth: 1, kind, repeat: Repeat::FromNowOn });
        assert_eq!(read(&pages, 3, 1).unwrap_err().kind(), kind);
    }

    #[test]
    fn copies_of_checksums_that_are_both_damaged_harm_only_the_pages_whose_sums_were_hit() {
        let sim = SimDisk::new();
        let all = written(&sim);
        change(&sim, place_of_sums(0), |bytes| bytes[3] ^= 1);
        change(&sim, place_of_sums(0), |bytes| bytes[MAGIC.len() + 4 * 2] ^= 1);
        change(&sim, place_of_sums(0) + BLOCK, |bytes| bytes[MAGIC.len() + 4 * 2] ^= 2);
        let pages = open(&sim);
        for (block, blocks) in all {
            match read(&pages, block, blocks) {
                Ok(bytes) => assert!(block != 3 && bytes == page(fill(block), blocks), "{block}"),
                Err(error) => assert!(block == 3 && error.kind() == io::ErrorKind::InvalidData, "{block}: {error}"),
            }
        }
    }

    #[test]
    fn only_checksums_that_changed_are_written() {
        let sim = SimDisk::new();
        written(&sim);
        let pages = open(&sim);
        let writes = |pages: &PageFile| {
            let before = sim.calls(Op::Write, PATH);
            pages.write_sums().unwrap();
            sim.calls(Op::Write, PATH) - before
        };
        pages.write(3 * BLOCK, &page(9, 1)).unwrap();
        assert_eq!([writes(&pages), writes(&pages)], [1, 0]);
        pages.write(BLOCK, &page(9, 2)).unwrap();
        pages.write(13 * BLOCK, &page(9, 1)).unwrap();
        assert_eq!([writes(&pages), writes(&pages)], [2, 0]);
    }

    #[test]
    fn the_header_is_not_proven() {
        let sim = SimDisk::new();
        written(&sim);
        open(&sim).write(0, &page(7, 1)[..320]).unwrap();
        change(&sim, 9, |bytes| bytes[0] ^= 1);
        assert_eq!(read(&open(&sim), 0, 1).unwrap()[..10], [7, 7, 7, 7, 7, 7, 7, 7, 7, 6]);
    }

    #[test]
    fn pages_may_be_taken_as_they_are() {
        let sim = SimDisk::new();
        let all = written(&sim);
        for (block, _) in &all {
            change(&sim, place_of(*block), |bytes| bytes[0] ^= 1);
        }
        change(&sim, place_of_sums(1), |bytes| bytes[..BLOCK_LEN].fill(0));
        open(&sim).believe_all(u64::MAX).unwrap();
        for (block, blocks) in all {
            assert_eq!(read(&open(&sim), block, blocks).unwrap()[..2], [fill(block) ^ 1, fill(block)]);
        }
    }

    #[test]
    fn a_part_of_a_page_is_refused() {
        let pages = open(&SimDisk::new());
        pages.set_len(4 * BLOCK).unwrap();
        assert!(pages.write(BLOCK, &[1; 100]).is_err());
        assert!(pages.write(BLOCK + 512, &page(1, 1)).is_err());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write { block: u64, blocks: usize, fill: u8 },
        SetLen { blocks: u64 },
        Reopen,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1_u64..60, 0_u32..3, any::<u8>())
                .prop_map(|(block, order, fill)| Step::Write { block, blocks: 1 << order, fill }),
            1 => (0_u64..64).prop_map(|blocks| Step::SetLen { blocks }),
            1 => Just(Step::Reopen),
        ]
    }

    proptest! {
        #[test]
        fn pages_are_those_of_a_plain_file(steps in proptest::collection::vec(step(), 1..60)) {
            let sim = SimDisk::new();
            let mut pages = open(&sim);
            let mut plain: Vec<u8> = Vec::new();
            // Where a page begins that was written, and was not cut off or written over since.
            let mut known: BTreeMap<u64, usize> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Write { block, blocks, fill } => {
                        let at = usize::try_from(block).unwrap() * BLOCK_LEN;
                        if at + blocks * BLOCK_LEN > plain.len() {
                            continue;
                        }
                        pages.write(block * BLOCK, &page(fill, blocks)).unwrap();
                        plain[at..at + blocks * BLOCK_LEN].fill(fill);
                        let end = block + blocks as u64;
                        known.retain(|&start, len| start + *len as u64 <= block || start >= end);
                        known.insert(block, blocks);
                    }
                    Step::SetLen { blocks } => {
                        pages.set_len(blocks * BLOCK).unwrap();
                        plain.resize(usize::try_from(blocks).unwrap() * BLOCK_LEN, 0);
                        known.retain(|&start, len| start + *len as u64 <= blocks);
                    }
                    Step::Reopen => {
                        pages.write_sums().unwrap();
                        pages = open(&sim);
                    }
                }
                prop_assert_eq!(pages.len().unwrap(), plain.len() as u64);
                prop_assert_eq!(len_with_sums(plain.len() as u64), pages.file.len().unwrap());
                for (&block, &blocks) in &known {
                    let at = usize::try_from(block).unwrap() * BLOCK_LEN;
                    prop_assert_eq!(&read(&pages, block, blocks).unwrap(), &plain[at..at + blocks * BLOCK_LEN]);
                }
            }
        }
    }
}
