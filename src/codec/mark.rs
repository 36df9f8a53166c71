//! A mark in the journal: where the next frame goes, and what it has to follow.

use super::{DecodeError, Reader, Writer};

/// Where a frame begins, and what makes it the next one. The store keeps the mark of the first frame that it has not
/// applied yet; the journal keeps the mark of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Drawn anew each time the store is opened: frames of earlier sessions carry another one.
    pub(crate) salt: u64,
    /// The number of the frame at this place; counted up by one, never reset.
    pub(crate) sequence: u64,
    /// Bytes of frames written before this place since the journal was created; the place in the ring is this modulo its
    /// capacity.
    pub(crate) position: u64,
    /// The checksum of the frame before; 0 for the first of a journal.
    pub(crate) chain: u32,
}

impl Mark {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.salt);
        out.put_u64(self.sequence);
        out.put_u64(self.position);
        out.put_u32(self.chain);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { salt: reader.u64()?, sequence: reader.u64()?, position: reader.u64()?, chain: reader.u32()? })
    }
}
