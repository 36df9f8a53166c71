//! Buffers for what is read at once, used again and again: memory that the system has to give first is filled at half the speed,
//! and what an allocator gives back to the system has to be given again.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// Buffers that are kept while nobody uses them.
const KEPT: usize = 4;

/// Buffers that nobody uses.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// A buffer of at least `len` bytes, and of less than twice as many, whatever they are.
    pub(super) fn take(&self, len: usize) -> Vec<u8> {
        let mut kept = self.0.lock();
        // Not a much larger one: what is in it may be kept for long.
        let fits = |bytes: &Vec<u8>| (len..=2 * len).contains(&bytes.len());
        match kept.iter().rposition(fits) {
            Some(found) => kept.swap_remove(found),
            None => vec![0; len],
        }
    }

    /// The first `len` bytes of a buffer, which comes back when nobody has a part of them any more.
    pub(super) fn lend(self: &Arc<Self>, bytes: Vec<u8>, len: usize) -> Lent {
        Lent { bytes, len, buffers: Arc::downgrade(self) }
    }
}

/// Bytes in a buffer that is given back.
#[derive(Debug)]
pub(super) struct Lent {
    bytes: Vec<u8>,
    len: usize,
    buffers: Weak<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(buffers) = self.buffers.upgrade() else { return };
        let mut kept = buffers.0.lock();
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_nobody_has_its_bytes() {
        let buffers = Arc::new(Buffers::default());
        let mut bytes = buffers.take(4);
        bytes[..3].copy_from_slice(b"abc");
        let place = bytes.as_ptr();
        let lent = Arc::new(buffers.lend(bytes, 3));
        let other = Arc::clone(&lent);
        drop(lent);
        assert_eq!((*other).as_ref(), b"abc");
        let another = buffers.take(4);
        assert_ne!(another.as_ptr(), place);
        drop(other);
        assert_eq!(buffers.take(1).len(), 1, "it is too large for that");
        let again = buffers.take(2);
        assert_eq!((again.len(), again.as_ptr()), (4, place));
        let many: Vec<_> = (0..KEPT + 3).map(|_| buffers.lend(vec![0], 1)).collect();
        drop(many);
        assert_eq!(buffers.0.lock().len(), KEPT);
        let late = buffers.lend(vec![1], 1);
        drop(buffers);
        assert_eq!(late.as_ref(), [1]);
    }
}
