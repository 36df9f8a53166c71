//! How records look as bytes. Pure functions: no I/O, no clock, no locks, no knowledge of any file.
//!
//! One encoding of a record serves the journal's frames, the tail in memory and the store's chunks. What is
//! decoded comes from a disk and may be anything: every function here is total, gives a value or a
//! [`DecodeError`], and never allocates more than the bytes it was given; of compressed ones, 255 times as many.

mod batch;
mod chunk;
mod compress;
mod entry;
mod features;
mod group;
mod mark;
mod piece;
mod record;
mod section;
mod varint;
mod walk;

pub(crate) use batch::{BatchBuilder, BatchHeader, Buffers, RecordBatch};
pub(crate) use chunk::{
    CHUNK_VERSION, Chunk, ChunkError, ChunkRoom, ChunkWriter, MAX_CHUNK, MERGE_CHUNK, MERGE_PLAIN, Packing, chunk_crc,
    decode_chunk,
};
pub(crate) use entry::{Entry, append_entry_len, decode_entries, encode_append};
pub(crate) use features::Features;
pub(crate) use group::{
    ChangedGroup, GroupChange, GroupChanges, GroupEntry, decode_group_name, encode_group_entry, group_entry_len,
};
pub(crate) use mark::Mark;
pub(crate) use piece::Piece;
pub(crate) use record::{HeaderIter, RawHeader, RecordParts, encoded_len};
pub(crate) use section::{Outline, Part, Sections};
pub(crate) use walk::{Place, Walk, WalkedRecord};

/// Why bytes are not what they should be. The caller knows where they came from and makes an
/// [`Error::Corrupt`](crate::Error::Corrupt) of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DecodeError(pub(crate) &'static str);

/// Takes bytes off the front of a slice; running out is an error, never a panic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn remaining(&self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(DecodeError("a length points past the end"))?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(DecodeError("it ends too early"))?;
        self.bytes = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.bytes.split_first().ok_or(DecodeError("it ends too early"))?;
        self.bytes = rest;
        Ok(byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, DecodeError> {
        self.array().map(u128::from_le_bytes)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        // Nearly every length and delta is below 128, and nearly every other one below 16384.
        match *self.bytes {
            [byte, ref rest @ ..] if byte < 0x80 => {
                self.bytes = rest;
                Ok(u64::from(byte))
            }
            [low, high, ref rest @ ..] if high < 0x80 => {
                self.bytes = rest;
                Ok(u64::from(low & 0x7f) | u64::from(high) << 7)
            }
            _ => {
                let (value, rest) = varint::decode(self.bytes)?;
                self.bytes = rest;
                Ok(value)
            }
        }
    }

    #[inline]
    pub(crate) fn zigzag(&mut self) -> Result<i64, DecodeError> {
        self.varint().map(varint::unzigzag)
    }

    /// A varint that says how many bytes follow, and those bytes.
    #[inline]
    pub(crate) fn sized(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.varint()?;
        self.take(usize::try_from(len).map_err(|_| DecodeError("a length points past the end"))?)
    }
}

/// Writes the fields that [`Reader`] reads.
pub(crate) trait Writer {
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_i64(&mut self, value: i64);
    fn put_u128(&mut self, value: u128);
    fn put_varint(&mut self, value: u64);
    fn put_zigzag(&mut self, value: i64);
    fn put_sized(&mut self, bytes: &[u8]);
}

impl Writer for Vec<u8> {
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_i64(&mut self, value: i64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u128(&mut self, value: u128) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    #[inline]
    fn put_varint(&mut self, value: u64) {
        varint::encode(self, value);
    }

    #[inline]
    fn put_zigzag(&mut self, value: i64) {
        varint::encode(self, varint::zigzag(value));
    }

    #[inline]
    fn put_sized(&mut self, bytes: &[u8]) {
        varint::encode(self, bytes.len() as u64);
        self.extend_from_slice(bytes);
    }
}
