//! Whose turn it is to change the store.

use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

/// A lock that goes to who waits for it, not to who asks for it again at once: the background thread would make one checkpoint
/// after the other while a sender waits for the room that the first one made.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<()>);

/// Lasts until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'t>(Option<MutexGuard<'t, ()>>);

impl Turns {
    pub(super) fn wait(&self) -> Turn<'_> {
        Turn(Some(self.0.lock()))
    }

    /// `None` when it is somebody else's turn.
    pub(super) fn try_now(&self) -> Option<Turn<'_>> {
        self.0.try_lock().map(|guard| Turn(Some(guard)))
    }

    /// `None` when it is somebody else's turn until the deadline.
    pub(super) fn wait_until(&self, deadline: Instant) -> Option<Turn<'_>> {
        self.0.try_lock_until(deadline).map(|guard| Turn(Some(guard)))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(MutexGuard::unlock_fair);
    }
}
