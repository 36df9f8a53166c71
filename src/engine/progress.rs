//! What became of each group: who waits for a record waits here.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::sequencer::GroupNumber;
use crate::error::{Error, Result};

/// Which groups are done, and who leads.
///
/// At any time at most one thread leads: it takes the open group and commits it for everybody. Whoever waits for a group
/// while nobody leads becomes the leader.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// All groups below this number are done; the same as in `state`, to look at without the lock.
    done: AtomicU64,
    /// Whether a group has ever failed.
    any_failed: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// All groups below this number are done.
    done: u64,
    /// Groups that are done but failed, ascending; empty unless something went wrong.
    failed: Vec<(Range<u64>, Error)>,
    leading: bool,
}

/// What a thread that waits for a group does next.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The group is done.
    Done(Result<()>),
    /// Nobody leads: the caller does now, and has to call [`Progress::finish`] or [`Progress::step_down`].
    Lead,
    /// The deadline passed.
    TimedOut,
}

impl Progress {
    /// Whether a group is done, well or badly.
    pub(crate) fn is_done(&self, group: GroupNumber) -> bool {
        group.0 < self.done.load(Ordering::Acquire)
    }

    /// Waits until `group` is done or it is the caller's turn to lead.
    pub(crate) fn wait(&self, group: GroupNumber, deadline: Option<Instant>) -> Turn {
        if self.is_done(group) && !self.any_failed.load(Ordering::Acquire) {
            return Turn::Done(Ok(()));
        }
        let mut state = self.state.lock();
        loop {
            if group.0 < state.done {
                return Turn::Done(state.outcome(group));
            }
            if !state.leading {
                state.leading = true;
                return Turn::Lead;
            }
            match deadline {
                None => self.changed.wait(&mut state),
                Some(deadline) => {
                    if self.changed.wait_until(&mut state, deadline).timed_out() {
                        return Turn::TimedOut;
                    }
                }
            }
        }
    }

    /// Ends a leadership: every group up to `last` is done; `failures` names those that failed.
    pub(crate) fn finish(&self, last: GroupNumber, failures: Vec<(GroupNumber, Error)>) {
        let mut state = self.state.lock();
        for (group, error) in failures {
            self.any_failed.store(true, Ordering::Release);
            state.failed.push((group.0..group.0 + 1, error));
        }
        state.done = last.next().0;
        state.leading = false;
        self.done.store(state.done, Ordering::Release);
        drop(state);
        self.changed.notify_all();
    }

    /// Ends a leadership that took no group.
    pub(crate) fn step_down(&self) {
        self.state.lock().leading = false;
        self.changed.notify_all();
    }
}

impl State {
    fn outcome(&self, group: GroupNumber) -> Result<()> {
        let after = self.failed.partition_point(|(range, _)| range.end <= group.0);
        match self.failed.get(after) {
            Some((range, error)) if range.contains(&group.0) => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_leads_and_the_failed_groups_are_remembered() {
        let progress = Progress::default();
        assert!(matches!(progress.wait(GroupNumber(0), None), Turn::Lead));
        assert!(matches!(progress.wait(GroupNumber(0), Some(Instant::now())), Turn::TimedOut));
        progress.finish(GroupNumber(0), Vec::new());
        assert!(matches!(progress.wait(GroupNumber(1), None), Turn::Lead));
        progress.finish(GroupNumber(2), vec![(GroupNumber(1), Error::Closed), (GroupNumber(2), Error::Closed)]);
        assert!(matches!(progress.wait(GroupNumber(0), None), Turn::Done(Ok(()))));
        assert!(matches!(progress.wait(GroupNumber(2), None), Turn::Done(Err(Error::Closed))));
        assert!(!progress.is_done(GroupNumber(3)));
    }
}
