//! How much of `buffer_memory` is in use.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that were sent and are not in the store yet.
///
/// Two counts instead of one, as a send is the busier side and need not share a word with who gives back: under the
/// sequencer's lock its count takes a plain store.
#[derive(Debug)]
pub(super) struct Room {
    limit: usize,
    /// Of all time. Changed only by who has the sequencer.
    taken: AtomicU64,
    given_back: AtomicU64,
}

impl Room {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, taken: AtomicU64::new(0), given_back: AtomicU64::new(0) }
    }

    pub(super) fn in_use(&self) -> usize {
        // In this order: what was given back had been taken before.
        let given_back = self.given_back.load(Ordering::SeqCst);
        let in_use = self.taken.load(Ordering::SeqCst).saturating_sub(given_back);
        usize::try_from(in_use).unwrap_or(usize::MAX)
    }

    pub(super) fn has(&self, bytes: usize) -> bool {
        self.in_use().saturating_add(bytes) <= self.limit
    }

    /// Takes bytes; `false` when they are not free. The sequencer is locked, so that nobody else takes them meanwhile.
    #[inline]
    pub(super) fn take(&self, bytes: usize) -> bool {
        if !self.has(bytes) {
            return false;
        }
        self.taken.store(self.taken.load(Ordering::Relaxed) + bytes as u64, Ordering::Release);
        true
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.given_back.fetch_add(bytes as u64, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let room = Room::new(10);
        assert!(room.take(6));
        assert!(!room.take(5));
        assert!(room.take(4));
        assert_eq!(room.in_use(), 10);
        room.give_back(6);
        assert!(room.has(6) && !room.has(7));
        assert!(room.take(6));
        assert!(!room.has(usize::MAX));
    }
}
