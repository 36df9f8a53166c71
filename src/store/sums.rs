//! The checksums of pages, and where both are in the file.
//!
//! There are two copies of each page of checksums, else one that rots would take 4 MiB of sound pages with it. Where they
//! differ, the page tells which is right, and the next commit that writes checksums there writes both.
//!
//! Writing a checksum overwrites a page that holds those of others. These stay the same bytes, so no crash can change them;
//! and a page that no commit points to yet may have any checksum.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use super::extent::{BLOCK, BLOCK_LEN};
use crate::checksum::crc32_of_parts;
use crate::disk::DiskFile;

/// How a block of checksums begins, once it has any.
pub(super) const MAGIC: &[u8; 8] = b"brookcrc";
/// Blocks whose checksums fit behind it. Few in tests, so that a small store has many groups.
pub(super) const GROUP: u64 = if cfg!(test) { 6 } else { 1_022 };
/// Blocks before those of a group: its checksums, twice.
pub(super) const COPIES: u64 = 2;

/// Blocks of checksums that are kept in memory: those of 4 GiB.
const MAX_CLEAN: usize = 1_024;

/// Blocks of checksums in memory, by their number.
#[derive(Default)]
pub(super) struct Sums {
    groups: BTreeMap<u64, Group>,
}

struct Group {
    bytes: Box<[u8; BLOCK_LEN]>,
    is_dirty: bool,
}

impl Sums {
    pub(super) fn get(&mut self, file: &dyn DiskFile, block: u64) -> io::Result<u32> {
        let (group, entry) = self.find(file, block)?;
        Ok(u32::from_le_bytes(group.bytes.get(entry).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default()))
    }

    pub(super) fn set(&mut self, file: &dyn DiskFile, block: u64, sum: u32) -> io::Result<()> {
        let (group, entry) = self.find(file, block)?;
        if !group.bytes.starts_with(MAGIC) {
            group.set_magic(MAGIC);
            // It takes its room with the first page that needs it: a sync must not find the disk full.
            write_twice(file, group_of(block).0, &group.bytes).inspect_err(|_| group.set_magic(&[0; MAGIC.len()]))?;
        }
        group.is_dirty = true;
        if let Some(bytes) = group.bytes.get_mut(entry) {
            bytes.copy_from_slice(&sum.to_le_bytes());
        }
        Ok(())
    }

    /// Where the checksum of a block is.
    fn find(&mut self, file: &dyn DiskFile, block: u64) -> io::Result<(&mut Group, Range<usize>)> {
        let (group, index) = group_of(block);
        if !self.groups.contains_key(&group) {
            if self.groups.len() >= MAX_CLEAN {
                self.drop_clean();
            }
            self.groups.insert(group, Group::read(file, group)?);
        }
        let start = MAGIC.len() + 4 * index;
        let found = self.groups.get_mut(&group).map(|group| (group, start..start + 4));
        found.ok_or_else(|| io::Error::other("a block of checksums that was read is gone"))
    }

    /// Forgets what the file has.
    pub(super) fn drop_clean(&mut self) {
        self.groups.retain(|_, sums| sums.is_dirty);
    }

    /// Forgets what lies behind the end of a file of this length.
    pub(super) fn cut(&mut self, len: u64) {
        self.groups.retain(|&group, _| place_of_sums(group) < len);
    }

    /// Those that the file does not have.
    pub(super) fn dirty(&self) -> Vec<(u64, Box<[u8; BLOCK_LEN]>)> {
        let dirty = self.groups.iter().filter(|(_, group)| group.is_dirty);
        dirty.map(|(&number, group)| (number, group.bytes.clone())).collect()
    }

    /// The file has these bytes. There may be others by now.
    pub(super) fn written(&mut self, group: u64, bytes: &[u8; BLOCK_LEN]) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.is_dirty = *group.bytes != *bytes;
        }
    }
}

impl Group {
    fn read(file: &dyn DiskFile, number: u64) -> io::Result<Self> {
        let copy = |at| {
            let mut bytes = Box::new([0; BLOCK_LEN]);
            file.read_at(at, &mut *bytes).map(|()| bytes)
        };
        let at = place_of_sums(number);
        let (bytes, is_dirty) = match (copy(at), copy(at + BLOCK)) {
            (Ok(first), Ok(second)) if first == second => (first, false),
            (Ok(mut first), Ok(second)) => {
                take_what_is_right(file, number, &mut first, &second)?;
                (first, true)
            }
            (Ok(readable), Err(_)) | (Err(_), Ok(readable)) => (readable, true),
            (Err(error), Err(_)) => return Err(error),
        };
        Ok(Self { bytes, is_dirty })
    }

    fn set_magic(&mut self, magic: &[u8; MAGIC.len()]) {
        if let Some(place) = self.bytes.first_chunk_mut() {
            *place = *magic;
        }
    }
}

/// Makes one block of checksums of two that differ: one is damaged, or a crash came while they were written.
fn take_what_is_right(
    file: &dyn DiskFile,
    group: u64,
    first: &mut [u8; BLOCK_LEN],
    second: &[u8; BLOCK_LEN],
) -> io::Result<()> {
    let (magic, sums) = first.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    let (others, _) = second.split_at(MAGIC.len()).1.as_chunks::<4>();
    let mut bytes = [0; BLOCK_LEN];
    for ((sum, other), block) in sums.as_chunks_mut::<4>().0.iter_mut().zip(others).zip(1 + group * GROUP..) {
        if sum == other || *other == [0; 4] {
            continue;
        }
        // The file may end within the group.
        if *sum != [0; 4] && place_of(block) + BLOCK <= file.len()? {
            file.read_at(place_of(block), &mut bytes)?;
            if sum_of(block, &bytes).to_le_bytes() == *sum {
                continue;
            }
        }
        *sum = *other;
    }
    Ok(())
}

/// Writes both copies of a block of checksums.
pub(super) fn write_twice(file: &dyn DiskFile, group: u64, bytes: &[u8; BLOCK_LEN]) -> io::Result<()> {
    file.write_at(place_of_sums(group), [*bytes, *bytes].as_flattened())
}

/// The checksum of a block: CRC-32 of its number and its bytes, in which rows have their CRC-32C; but never 0: that is of a block
/// which was never written.
pub(super) fn sum_of(block: u64, bytes: &[u8; BLOCK_LEN]) -> u32 {
    crc32_of_parts([&block.to_le_bytes(), bytes]).max(1)
}

/// The group that a block belongs to, and its place in it. The first block belongs to none.
pub(super) fn group_of(block: u64) -> (u64, usize) {
    let behind_first = block.saturating_sub(1);
    (behind_first / GROUP, usize::try_from(behind_first % GROUP).unwrap_or_default())
}

/// Where the checksums of a group are in the file: before its first block. Their copy follows.
pub(super) fn place_of_sums(group: u64) -> u64 {
    (1 + group * (COPIES + GROUP)) * BLOCK
}

/// Where a block is in the file.
pub(super) fn place_of(block: u64) -> u64 {
    if block == 0 { 0 } else { (block + COPIES * (group_of(block).0 + 1)) * BLOCK }
}
