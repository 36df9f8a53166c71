//! How a consumer sleeps and what wakes it: one notification, no polling.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Where one consumer sleeps.
///
/// The sleeper says that it will sleep ([`prepare`](Waiter::prepare)), looks once more for records, and then waits. Who
/// publishes makes the record visible first and calls [`notify`](Waiter::notify) then. Both use sequentially consistent
/// stores before their loads, so one of the two sees the other, and no wake-up is lost.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    sleeping: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Something happened since `prepare`.
    notified: bool,
    /// A [`Waker`](crate::Waker) was used and nobody was told yet.
    woken: bool,
}

impl Waiter {
    /// Announces a sleep. Whatever happens from now on ends it.
    pub(crate) fn prepare(&self) {
        self.state.lock().notified = false;
        self.sleeping.store(true, Ordering::SeqCst);
    }

    /// Sleeps until notified, woken, or past `deadline`; `None` sleeps for ever.
    pub(crate) fn wait(&self, deadline: Option<Instant>) {
        let mut state = self.state.lock();
        while !state.notified && !state.woken {
            match deadline {
                None => self.changed.wait(&mut state),
                Some(deadline) => {
                    if self.changed.wait_until(&mut state, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Takes the announcement back: there is something to do already.
    pub(crate) fn cancel(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Ends the sleep, if there is one. Costs a load while nobody sleeps.
    #[inline]
    pub(crate) fn notify(&self) {
        if self.sleeping.load(Ordering::SeqCst) {
            self.state.lock().notified = true;
            self.changed.notify_one();
        }
    }

    /// Makes the running sleep, or else the next call that asks, end with `Wakeup`.
    pub(crate) fn wake(&self) {
        self.state.lock().woken = true;
        self.changed.notify_one();
    }

    /// Whether [`wake`](Waiter::wake) was called; says so once.
    pub(crate) fn take_wake(&self) -> bool {
        std::mem::take(&mut self.state.lock().woken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_notification_between_prepare_and_wait_is_not_lost() {
        let waiter = Waiter::default();
        waiter.prepare();
        waiter.notify();
        waiter.wait(None);
    }

    #[test]
    fn a_wake_before_the_sleep_ends_it_once() {
        let waiter = Waiter::default();
        waiter.wake();
        waiter.prepare();
        waiter.wait(None);
        assert!(waiter.take_wake());
        assert!(!waiter.take_wake());
    }

    #[test]
    fn a_sleeper_is_woken_from_another_thread() {
        let waiter = Arc::new(Waiter::default());
        waiter.prepare();
        let notifier = Arc::clone(&waiter);
        let thread = std::thread::spawn(move || notifier.notify());
        waiter.wait(None);
        thread.join().unwrap();
    }

    #[test]
    fn a_deadline_in_the_past_returns_at_once() {
        let waiter = Waiter::default();
        waiter.prepare();
        waiter.wait(Some(Instant::now()));
    }
}
