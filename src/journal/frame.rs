//! One frame, as it is built and as it is read.

use crate::checksum::crc32c;
use crate::codec::{DecodeError, Mark, Reader};

/// Bytes in front of the payload.
pub(super) const HEADER_LEN: usize = 40;

/// Frames start at multiples of this. The ring's capacity is one, so a field of 8 bytes never goes over its end.
pub(super) const ALIGNMENT: usize = 8;

/// Index of the salt in a frame.
pub(super) const SALT_INDEX: u64 = 24;

const CRC_LEN: usize = 4;

/// The bytes that a frame with a payload of `payload_len` bytes takes in the ring.
pub(super) fn frame_len(payload_len: usize) -> u64 {
    (HEADER_LEN as u64 + payload_len as u64).next_multiple_of(ALIGNMENT as u64)
}

/// A buffer for one frame after the other. It keeps room for the header in front of the payload, so that what is
/// appended to the payload is written from where it is.
#[derive(Debug)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; HEADER_LEN] }
    }

    /// Empties the payload and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.truncate(HEADER_LEN);
    }

    /// The buffer to append the payload to. What is in it already must stay as it is.
    pub(crate) fn payload_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(crate) fn payload_len(&self) -> usize {
        self.bytes.len().saturating_sub(HEADER_LEN)
    }

    /// Fills in the header and the padding; gives the frame's checksum. [`unseal`](Frame::unseal) undoes it.
    #[inline]
    pub(super) fn seal(&mut self, at: &Mark, durable: u64) -> u32 {
        let length = u32::try_from(self.payload_len()).unwrap_or(u32::MAX);
        self.bytes.resize((HEADER_LEN + self.payload_len()).next_multiple_of(ALIGNMENT), 0);
        if let Some(header) = self.bytes.first_chunk_mut() {
            *header =
                FrameHeader { crc: 0, length, chain: at.chain, sequence: at.sequence, salt: at.salt, durable }.encode();
        }
        let crc = checksum(&self.bytes);
        if let Some(space) = self.bytes.get_mut(..CRC_LEN) {
            space.copy_from_slice(&crc.to_le_bytes());
        }
        crc
    }

    /// The sealed frame, as it goes into the ring.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the padding away, so that the frame can be appended to or sealed again.
    pub(super) fn unseal(&mut self, payload_len: usize) {
        self.bytes.truncate(HEADER_LEN + payload_len);
    }
}

/// The fields in front of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) crc: u32,
    /// Length of the payload in bytes.
    pub(super) length: u32,
    /// The checksum of the frame before.
    pub(super) chain: u32,
    pub(super) sequence: u64,
    pub(super) salt: u64,
    /// Frames before this sequence were known to be durable.
    pub(super) durable: u64,
}

impl FrameHeader {
    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let (words, numbers) = bytes.split_at_mut(HEADER_LEN - 3 * 8);
        for (place, word) in words.chunks_exact_mut(4).zip([self.crc, self.length, self.chain]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        for (place, number) in numbers.chunks_exact_mut(8).zip([self.sequence, self.salt, self.durable]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (crc, length, chain, _zero) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
        Ok(Self { crc, length, chain, sequence: reader.u64()?, salt: reader.u64()?, durable: reader.u64()? })
    }

    /// Whether it is the header of the frame that belongs at `mark`.
    pub(super) fn follows(&self, mark: &Mark) -> bool {
        self.salt == mark.salt && self.sequence == mark.sequence && self.chain == mark.chain
    }

    /// Where the next frame is, when this one is at `mark`.
    pub(super) fn behind(&self, mark: &Mark) -> Mark {
        Mark {
            salt: mark.salt,
            sequence: mark.sequence.saturating_add(1),
            position: mark.position.saturating_add(self.frame_len()),
            chain: self.crc,
        }
    }

    /// The bytes that the frame takes in the ring.
    pub(super) fn frame_len(&self) -> u64 {
        frame_len(self.length as usize)
    }
}

/// The checksum that a whole frame of these bytes begins with.
#[inline]
pub(super) fn checksum(frame: &[u8]) -> u32 {
    crc32c(frame.get(CRC_LEN..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Mark = Mark { salt: 7, sequence: 3, position: 80, chain: 9 };

    #[test]
    fn the_layout_is_the_documented_one() {
        let mut frame = Frame::new();
        frame.payload_mut().extend_from_slice(b"payload: 9");
        let crc = frame.seal(&AT, 2);
        let mut expected = crc.to_le_bytes().to_vec();
        for field in [10, 9, 0_u32] {
            expected.extend_from_slice(&field.to_le_bytes());
        }
        for field in [3, 7, 2_u64] {
            expected.extend_from_slice(&field.to_le_bytes());
        }
        expected.extend_from_slice(b"payload: 9\0\0\0\0\0\0");
        assert_eq!(frame.bytes(), expected);
        assert_eq!(crc, crc32c(&expected[4..]));
        let header = FrameHeader::decode(frame.bytes()).unwrap();
        assert!(header.follows(&AT));
        assert_eq!(header.frame_len(), 56);
    }

    #[test]
    fn sealing_twice_gives_the_same_bytes() {
        let mut frame = Frame::new();
        frame.payload_mut().push(1);
        frame.seal(&AT, 2);
        let first = frame.bytes().to_vec();
        frame.unseal(1);
        assert_eq!(frame.payload_len(), 1);
        frame.seal(&AT, 2);
        assert_eq!(frame.bytes(), first);
        frame.clear();
        assert_eq!(frame.payload_len(), 0);
    }
}
