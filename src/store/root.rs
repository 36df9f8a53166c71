//! The root: what lies where in the store's file, for who does not know anything of it yet.
//!
//! ```text
//! root, 4,096 bytes, at the file's front and once more behind it; little-endian
//!    0  8 bytes  "brook", 0x1a, carriage return, line feed: no text begins like this
//!    8  u32      version, 1
//!   12  u32      number of parts
//!   16  u64      how often it was changed
//!   24  u64      length of redb's pages, with their checksums
//!   32  u32      features that a writer must know: zero
//!   36  u32      features that a reader must know: zero
//!   40           the parts that these lie in, one after the other: first block u64, number of blocks u64
//!    .           zeros
//! 4092  u32      CRC-32C of everything before it
//! ```

use super::extent::{BLOCK, BLOCK_LEN, Extent, Extents};
use crate::checksum::crc32c;
use crate::codec::{DecodeError, Features, Reader, Writer};

/// How a root begins, and so a store's file.
pub(super) const MAGIC: &[u8; 8] = b"brook\x1a\r\n";

/// The newest version that this release reads, and the one it writes.
pub(super) const ROOT_VERSION: u32 = 1;

/// Blocks of a file before everything else: the root, twice.
pub(super) const COPIES: u64 = 2;

const CRC_LEN: usize = 4;
const HEADER_LEN: usize = 32 + Features::LEN;
const PART_LEN: usize = 16;
const MAX_PARTS: usize = (BLOCK_LEN - HEADER_LEN - CRC_LEN) / PART_LEN;

/// What lies where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Root {
    /// How often it was changed: of two copies, the one that was changed more often counts.
    pub(super) changes: u64,
    /// Bytes of redb's pages and their checksums: as much as redb asked for, at most as much as the parts have room for.
    pub(super) len: u64,
    /// Where these are: the first part has the first of them.
    pub(super) parts: Vec<Extent>,
}

/// Why bytes are no root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoot {
    /// Written by a newer release.
    Version(u32),
    /// It has features that this release does not know: their bits.
    Features(u32),
    Damaged,
}

impl Root {
    /// Bytes that the parts have room for.
    pub(super) fn capacity(&self) -> u64 {
        self.parts.iter().map(|part| part.blocks * BLOCK).sum()
    }

    /// The block behind the last part, and behind the root itself.
    pub(super) fn end(&self) -> u64 {
        self.parts.iter().map(Extent::end).max().unwrap_or(0).max(COPIES)
    }

    /// Adds a part behind the others; `false` when there is no place for its row.
    pub(super) fn add(&mut self, part: Extent) -> bool {
        if let Some(last) = self.parts.last_mut().filter(|last| last.end() == part.first) {
            last.blocks += part.blocks;
            return true;
        }
        let has_room = self.parts.len() < MAX_PARTS;
        if has_room {
            self.parts.push(part);
        }
        has_room
    }

    /// Gives up the room behind twice the length: redb doubles it with the next page that it needs.
    pub(super) fn cut(&mut self) -> Vec<Extent> {
        let (mut room, mut before) = (2 * self.len.div_ceil(BLOCK), 0);
        let mut given_up = Vec::new();
        for part in &mut self.parts {
            // No sliver is kept, else parts would become many.
            let wanted = if room == 0 { 0 } else { room.max(before / 2) };
            let kept = part.blocks.min(wanted);
            room = room.saturating_sub(kept);
            before += kept;
            given_up.push(Extent { first: part.first + kept, blocks: part.blocks - kept });
            part.blocks = kept;
        }
        self.parts.retain(|part| part.blocks > 0);
        given_up.retain(|extent| extent.blocks > 0);
        given_up
    }

    /// Where `len` bytes from `offset` on begin in the file, and how many of them lie there in one piece; `None` behind the end.
    pub(super) fn locate(&self, offset: u64, len: usize) -> Option<(u64, usize)> {
        if offset >= self.len {
            return None;
        }
        let mut before = 0;
        for part in &self.parts {
            let bytes = part.blocks * BLOCK;
            if offset - before < bytes {
                let within = offset - before;
                let piece = usize::try_from(bytes - within).unwrap_or(usize::MAX).min(len);
                return Some((part.first * BLOCK + within, piece));
            }
            before += bytes;
        }
        None
    }

    pub(super) fn encode(&self) -> [u8; BLOCK_LEN] {
        let mut bytes = Vec::with_capacity(BLOCK_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.put_u32(ROOT_VERSION);
        bytes.put_u32(u32::try_from(self.parts.len()).unwrap_or(u32::MAX));
        bytes.put_u64(self.changes);
        bytes.put_u64(self.len);
        Features::KNOWN.encode(&mut bytes);
        for part in &self.parts {
            bytes.put_u64(part.first);
            bytes.put_u64(part.blocks);
        }
        bytes.resize(BLOCK_LEN - CRC_LEN, 0);
        let crc = crc32c(&bytes);
        bytes.put_u32(crc);
        bytes.try_into().unwrap_or([0; BLOCK_LEN])
    }

    pub(super) fn decode(bytes: &[u8; BLOCK_LEN]) -> Result<Self, NoRoot> {
        let (root, crc) = bytes.split_last_chunk::<CRC_LEN>().ok_or(NoRoot::Damaged)?;
        if u32::from_le_bytes(*crc) != crc32c(root) {
            return Err(NoRoot::Damaged);
        }
        let mut reader = Reader::new(root);
        let fields = |reader: &mut Reader<'_>| -> Result<(bool, u32), DecodeError> {
            Ok((reader.array()? == *MAGIC, reader.u32()?))
        };
        match fields(&mut reader) {
            Ok((true, ROOT_VERSION)) => Self::decode_fields(&mut reader).unwrap_or(Err(NoRoot::Damaged)),
            Ok((true, version)) => Err(NoRoot::Version(version)),
            _ => Err(NoRoot::Damaged),
        }
    }

    fn decode_fields(reader: &mut Reader<'_>) -> Result<Result<Self, NoRoot>, DecodeError> {
        let count = reader.u32()? as usize;
        let (changes, len) = (reader.u64()?, reader.u64()?);
        if let Some(bits) = Features::decode(reader)?.unknown() {
            return Ok(Err(NoRoot::Features(bits)));
        }
        let mut parts = Vec::new();
        let mut blocks = Extents::default();
        for _ in 0..count.min(MAX_PARTS) {
            let part = Extent { first: reader.u64()?, blocks: reader.u64()? };
            if part.first < COPIES || part.first.checked_add(part.blocks).is_none_or(|end| end > Extent::MAX_END) {
                return Err(DecodeError("a part lies where none can"));
            }
            if part.blocks == 0 || !blocks.add(part) {
                return Err(DecodeError("a part has blocks of another one"));
            }
            parts.push(part);
        }
        let root = Self { changes, len, parts };
        if count > MAX_PARTS || root.len > root.capacity() {
            return Err(DecodeError("the parts have no room for what is in them"));
        }
        if reader.remaining().iter().any(|&byte| byte != 0) {
            return Err(DecodeError("there is something where zeros should be"));
        }
        Ok(Ok(root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Root {
        let parts = vec![Extent { first: 2, blocks: 3 }, Extent { first: 9, blocks: 2 }];
        Root { changes: 7, len: 4 * BLOCK + 1, parts }
    }

    #[test]
    fn a_root_comes_back_and_notices_a_flipped_bit() {
        let bytes = root().encode();
        assert_eq!(Root::decode(&bytes), Ok(root()));
        for bit in 0..8 * BLOCK_LEN {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Root::decode(&damaged), Err(NoRoot::Damaged), "bit {bit}");
        }
    }

    #[test]
    fn lies_under_a_right_checksum_are_refused() {
        let lie = |change: &dyn Fn(&mut [u8; BLOCK_LEN])| {
            let mut bytes = root().encode();
            change(&mut bytes);
            let crc = crc32c(&bytes[..BLOCK_LEN - CRC_LEN]);
            bytes[BLOCK_LEN - CRC_LEN..].copy_from_slice(&crc.to_le_bytes());
            Root::decode(&bytes)
        };
        assert_eq!(lie(&|bytes| bytes[8] = 2), Err(NoRoot::Version(2)));
        // The last ones: a part of nothing, a part within another one, and bytes after the parts.
        let lies = [(0, b'x'), (12, 1), (13, 1), (30, 1), (47, 0x80), (55, 0xff), (40, 1), (64, 0), (56, 4)];
        for (at, value) in lies.into_iter().chain([(72, 1), (BLOCK_LEN - CRC_LEN - 1, 1)]) {
            assert_eq!(lie(&|bytes| bytes[at] = value), Err(NoRoot::Damaged), "byte {at}");
        }
    }

    #[test]
    fn a_feature_that_this_release_does_not_know_is_told_apart_from_damage() {
        for (at, bits) in [(32, 4), (35, 4 << 24), (36, 4), (39, 4 << 24)] {
            let mut bytes = root().encode();
            bytes[at] = 4;
            let crc = crc32c(&bytes[..BLOCK_LEN - CRC_LEN]);
            bytes[BLOCK_LEN - CRC_LEN..].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(Root::decode(&bytes), Err(NoRoot::Features(bits)), "byte {at}");
        }
    }

    #[test]
    fn bytes_are_found_in_their_parts() {
        let root = root();
        assert_eq!(root.locate(0, 10), Some((2 * BLOCK, 10)));
        assert_eq!(root.locate(3 * BLOCK - 4, 10), Some((5 * BLOCK - 4, 4)));
        assert_eq!(root.locate(3 * BLOCK, 10), Some((9 * BLOCK, 10)));
        assert_eq!(root.locate(4 * BLOCK + 1, 1), None);
        assert_eq!((root.end(), root.capacity()), (11, 5 * BLOCK));
    }

    #[test]
    fn parts_that_touch_are_one_and_what_is_behind_the_length_is_given_up() {
        let mut root = root();
        assert!(root.add(Extent { first: 11, blocks: 4 }));
        assert_eq!(root.parts.len(), 2);
        assert_eq!(root.cut(), []);
        root.len = 2 * BLOCK;
        assert_eq!(root.cut(), [Extent { first: 10, blocks: 5 }]);
        root.len = BLOCK - 1;
        assert_eq!(root.cut(), [Extent { first: 4, blocks: 1 }, Extent { first: 9, blocks: 1 }]);
        assert_eq!(root.parts, [Extent { first: 2, blocks: 2 }]);
        for number in 0..MAX_PARTS as u64 - 1 {
            assert!(root.add(Extent { first: 10 + 2 * number, blocks: 1 }));
        }
        assert!(!root.add(Extent { first: 5_000, blocks: 1 }));
        assert_eq!(Root::decode(&root.encode()), Ok(root));
    }
}
