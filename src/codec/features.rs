//! Feature words: what a file uses that a release may not know.

use super::{DecodeError, Reader, Writer};

/// The two feature words of a file's header, one bit a feature.
///
/// A release that finds an unknown bit in the first word must not write to the file; in the second, it must not read it
/// either. This release knows no feature, and it writes every file that it opens, so it refuses both alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Features {
    /// What a writer has to know.
    pub(crate) writer: u32,
    /// What a reader has to know.
    pub(crate) reader: u32,
}

impl Features {
    /// The features that this release knows: none.
    pub(crate) const KNOWN: Features = Features { writer: 0, reader: 0 };

    /// Bytes of both words.
    pub(crate) const LEN: usize = 8;

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.put_u32(self.writer);
        out.put_u32(self.reader);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { writer: reader.u32()?, reader: reader.u32()? })
    }

    /// The bits of both words that this release does not know; `None` when it knows all.
    pub(crate) fn unknown(self) -> Option<u32> {
        let bits = self.writer & !Self::KNOWN.writer | self.reader & !Self::KNOWN.reader;
        (bits != 0).then_some(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unknown_bit_of_both_words_is_found() {
        assert_eq!(Features::KNOWN.unknown(), None);
        for bit in (0..32).map(|bit| 1 << bit) {
            for features in [Features { writer: bit, reader: 0 }, Features { writer: 0, reader: bit }] {
                let mut bytes = Vec::new();
                features.encode(&mut bytes);
                assert_eq!(bytes.len(), Features::LEN);
                let decoded = Features::decode(&mut Reader::new(&bytes)).unwrap();
                assert_eq!((decoded, decoded.unknown()), (features, Some(bit)));
            }
        }
    }
}
