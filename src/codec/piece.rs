//! Bytes that were read together and belong to several: what lies side by side in a file is read by one call.

use std::ops::Range;
use std::sync::Arc;

/// A part of bytes that others may have parts of.
#[derive(Clone)]
pub(crate) struct Piece {
    all: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Piece {
    /// All of these bytes.
    pub(crate) fn whole(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let range = 0..bytes.as_ref().len();
        Self { all: Arc::new(bytes), range }
    }

    /// `len` bytes from `start` on; fewer, where they end.
    pub(crate) fn part(&self, start: usize, len: usize) -> Self {
        let start = self.range.start.saturating_add(start).min(self.range.end);
        Self { all: Arc::clone(&self.all), range: start..start.saturating_add(len).min(self.range.end) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        (*self.all).as_ref().get(self.range.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_those_of_the_whole_and_end_where_it_ends() {
        let whole = Piece::whole(b"abcdef".to_vec());
        let part = whole.part(2, 3);
        assert_eq!((whole.bytes(), part.bytes()), (&b"abcdef"[..], &b"cde"[..]));
        assert_eq!(part.part(1, 9).bytes(), b"de");
        assert_eq!(part.part(9, 9).bytes(), b"");
        assert_eq!(part.part(1, usize::MAX).bytes(), b"de");
    }
}
