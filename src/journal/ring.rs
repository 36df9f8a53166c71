//! Where positions lie in the file.

use super::header::HEADER_LEN;

/// A ring is a multiple of this, and not smaller.
const GRAIN: u64 = 4096;

/// No ring is larger: recovery reads all of it, and a frame of it at once.
const MAX_CAPACITY: u64 = 1 << 30;

/// The ring behind the header: positions count up for ever, their places repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ring {
    capacity: u64,
}

impl Ring {
    /// Index in the file of the ring's first byte.
    pub(super) const START: u64 = HEADER_LEN as u64;

    /// The smallest ring that has room for so many bytes; the largest, when they are more than it takes.
    pub(super) fn with_room_for(bytes: u64) -> Self {
        Self { capacity: bytes.clamp(GRAIN, MAX_CAPACITY).next_multiple_of(GRAIN) }
    }

    /// The ring of exactly this capacity, if there can be one.
    pub(super) fn of_capacity(capacity: u64) -> Option<Self> {
        let ring = Self::with_room_for(capacity);
        (ring.capacity == capacity).then_some(ring)
    }

    pub(super) fn capacity(self) -> u64 {
        self.capacity
    }

    /// Index in the ring of the byte at `position`.
    pub(super) fn place(self, position: u64) -> u64 {
        position % self.capacity
    }

    /// Index in the file of the byte at `position`.
    pub(super) fn index(self, position: u64) -> u64 {
        Self::START + self.place(position)
    }

    /// How many bytes from `position` on lie before the ring's end.
    pub(super) fn until_end(self, position: u64) -> u64 {
        self.capacity - self.place(position)
    }

    /// How much of the ring a file of this length has.
    pub(super) fn allocated(self, file_len: u64) -> u64 {
        file_len.saturating_sub(Self::START).min(self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_repeat_and_the_file_grows_to_the_ring() {
        let ring = Ring::with_room_for(8_000);
        assert_eq!(ring.capacity(), 8_192);
        assert_eq!((ring.index(0), ring.index(8_191), ring.index(8_192)), (4_096, 12_287, 4_096));
        assert_eq!((ring.until_end(0), ring.until_end(8_200)), (8_192, 8_184));
        assert_eq!([0, 4_096, 5_000, 99_999].map(|len| ring.allocated(len)), [0, 0, 904, 8_192]);
        assert_eq!(Ring::with_room_for(u64::MAX).capacity(), MAX_CAPACITY);
        assert_eq!(Ring::of_capacity(8_000), None);
    }
}
