//! The input of a target as a source of choices. When it is used up every choice is the first, so that any prefix of an
//! input is an input too.

use super::model::Choices;

pub(crate) struct Bytes<'a> {
    bytes: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Up to `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(len.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn number(&mut self) -> u64 {
        let mut number = [0; 8];
        let taken = self.take(8);
        number[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(number)
    }
}

impl Choices for Bytes<'_> {
    /// Takes as few bytes as tell so many choices apart.
    fn below(&mut self, limit: u64) -> u64 {
        let (mut number, mut reach) = (0, 1);
        while reach < limit {
            number = number << 8 | u64::from(self.byte());
            reach = reach.saturating_mul(256);
        }
        number % limit.max(1)
    }
}
