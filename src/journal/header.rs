//! The header of the journal file.

use super::ring::Ring;
use crate::checksum::crc32c;
use crate::codec::{DecodeError, Reader, Writer};
use crate::types::StoreId;

/// Bytes in front of the ring.
pub(super) const HEADER_LEN: usize = 4096;

/// The newest format version that this release reads, and the one it writes.
pub(super) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"brookjnl";

/// Index of the checksum.
const CRC_INDEX: usize = HEADER_LEN - 4;

/// Why a header can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// Written by a newer release.
    Version(u32),
    /// Not what was written.
    Damaged(&'static str),
}

impl From<DecodeError> for HeaderError {
    fn from(DecodeError(reason): DecodeError) -> Self {
        HeaderError::Damaged(reason)
    }
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) store: StoreId,
    pub(super) ring: Ring,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.put_u32(VERSION);
        bytes.put_u32(0);
        bytes.put_u128(self.store.0);
        bytes.put_u64(self.ring.capacity());
        bytes.resize(CRC_INDEX, 0);
        let crc = crc32c(&bytes);
        bytes.put_u32(crc);
        bytes
    }

    /// Decodes a header: that it is a journal's first, then the checksum, then the version. Magic, version and checksum
    /// have the same places in every version.
    pub(super) fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, HeaderError> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != MAGIC {
            return Err(HeaderError::Damaged("it does not begin as a journal does"));
        }
        let (covered, crc) = bytes.split_last_chunk().ok_or(HeaderError::Damaged("it ends too early"))?;
        if crc32c(covered) != u32::from_le_bytes(*crc) {
            return Err(HeaderError::Damaged("the checksum of its header does not match"));
        }
        let version = reader.u32()?;
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let _zero = reader.u32()?;
        let store = StoreId(reader.u128()?);
        let ring = Ring::of_capacity(reader.u64()?).ok_or(HeaderError::Damaged("its ring has an impossible size"))?;
        Ok(Self { store, ring })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { store: StoreId(5), ring: Ring::with_room_for(10_000) }
    }

    fn encoded() -> [u8; HEADER_LEN] {
        header().encode().try_into().unwrap()
    }

    /// A header with a field replaced and a checksum that is right again.
    fn with(index: usize, field: &[u8]) -> [u8; HEADER_LEN] {
        let mut bytes = encoded();
        bytes[index..index + field.len()].copy_from_slice(field);
        let crc = crc32c(&bytes[..CRC_INDEX]);
        bytes[CRC_INDEX..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn a_header_comes_back() {
        assert_eq!(Header::decode(&encoded()), Ok(header()));
        assert_eq!(header().ring.capacity(), 12_288);
    }

    #[test]
    fn every_damaged_bit_is_noticed() {
        for bit in 0..HEADER_LEN * 8 {
            let mut bytes = encoded();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Header::decode(&bytes), Err(HeaderError::Damaged(_))), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_is_told_apart_from_damage() {
        assert_eq!(Header::decode(&with(8, &2_u32.to_le_bytes())), Err(HeaderError::Version(2)));
    }

    #[test]
    fn an_impossible_capacity_is_damage() {
        for capacity in [0, 4095, 4097, u64::MAX, 1 << 40] {
            let decoded = Header::decode(&with(32, &u64::to_le_bytes(capacity)));
            assert!(matches!(decoded, Err(HeaderError::Damaged(_))), "{capacity}");
        }
    }
}
