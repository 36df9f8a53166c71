//! What became of each group, and who leads: who waits for a record waits here.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::task::Waker;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::commit::Writer;
use super::sequencer::GroupNumber;
use crate::error::{Error, Result};

/// Which groups are done, and who leads.
///
/// At any time at most one thread leads: it has the writer, takes the open group and commits it for everybody. Whoever waits for
/// a group while nobody leads becomes the leader.
#[derive(Debug)]
pub(crate) struct Progress {
    /// All groups below this number are done. Only who leads changes it.
    done: AtomicU64,
    /// Who holds it leads.
    writer: Mutex<Writer>,
    /// Threads that sleep, or are about to: they look once more at what they wait for first.
    waiting: AtomicUsize,
    asleep: Mutex<()>,
    changed: Condvar,
    /// Whether a group has ever failed.
    any_failed: AtomicBool,
    failed: Mutex<Failed>,
    /// Number of `tasks`, to be read without their lock.
    tasks_waiting: AtomicUsize,
    /// Wakers of the futures that wait for a group.
    tasks: Mutex<Vec<(GroupNumber, Waker)>>,
}

/// Runs of failed groups that are remembered. On a full disk one run has all that fail, for as long as it is full.
const MOST_RUNS: usize = 1_000;

/// Groups that are done but failed.
#[derive(Debug, Default)]
struct Failed {
    /// Ascending; each of groups one behind the other that failed alike.
    runs: VecDeque<(Range<u64>, Error)>,
    /// What became of groups below this is not known any more.
    forgotten: u64,
}

impl Failed {
    fn add(&mut self, group: GroupNumber, error: Error) {
        match self.runs.back_mut() {
            Some((run, known)) if run.end == group.0 && known.to_string() == error.to_string() => run.end += 1,
            _ => self.runs.push_back((group.0..group.0 + 1, error)),
        }
        if self.runs.len() > MOST_RUNS {
            self.forgotten = self.runs.pop_front().map_or(0, |(run, _)| run.end);
        }
    }

    fn outcome(&self, group: GroupNumber) -> Result<()> {
        let after = self.runs.partition_point(|(run, _)| run.end <= group.0);
        match self.runs.get(after) {
            Some((run, error)) if run.contains(&group.0) => Err(error.clone()),
            _ if group.0 < self.forgotten => {
                let source = Error::illegal_state("too much has failed since to remember what became of it");
                Err(Error::DurabilityUnknown { source: Arc::new(source) })
            }
            _ => Ok(()),
        }
    }
}

/// What a thread that waits for a group does next.
#[derive(Debug)]
pub(crate) enum Turn<'p> {
    /// The group is done.
    Done(Result<()>),
    /// Nobody leads: the caller does now.
    Lead(Lead<'p>),
    /// The deadline passed.
    TimedOut,
}

/// The lead, and with it the writer. When it is dropped, somebody else may lead.
#[derive(Debug)]
pub(crate) struct Lead<'p> {
    // Given up before the others are told.
    writer: MutexGuard<'p, Writer>,
    _told: Told<'p>,
}

impl Deref for Lead<'_> {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        &self.writer
    }
}

impl DerefMut for Lead<'_> {
    fn deref_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }
}

/// Lets those who wait look again when it is dropped.
#[derive(Debug)]
struct Told<'p>(&'p Progress);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        // With the fence of `Waiting`: either this thread sees that the other one waits, or the other one sees what happened here
        // before.
        fence(Ordering::SeqCst);
        if self.0.waiting.load(Ordering::Relaxed) > 0 {
            // Who looked before this line sleeps behind it.
            drop(self.0.asleep.lock());
            self.0.changed.notify_all();
        }
        if self.0.has_tasks() {
            self.0.wake_tasks();
        }
    }
}

/// Counts a thread that waits.
struct Waiting<'p>(&'p AtomicUsize);

impl<'p> Waiting<'p> {
    fn enter(waiting: &'p AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Progress {
    pub(crate) fn new(writer: Writer) -> Self {
        Self {
            done: AtomicU64::new(0),
            writer: Mutex::new(writer),
            waiting: AtomicUsize::new(0),
            asleep: Mutex::new(()),
            changed: Condvar::new(),
            any_failed: AtomicBool::new(false),
            failed: Mutex::new(Failed::default()),
            tasks_waiting: AtomicUsize::new(0),
            tasks: Mutex::default(),
        }
    }

    /// Whether a group is done, well or badly.
    pub(crate) fn is_done(&self, group: GroupNumber) -> bool {
        group.0 < self.done.load(Ordering::Acquire)
    }

    /// The groups up to `last` that are not done. While the caller leads, only a panic leaves some.
    pub(crate) fn not_done(&self, last: GroupNumber) -> impl Iterator<Item = GroupNumber> {
        (self.done.load(Ordering::Acquire)..=last.0).map(GroupNumber)
    }

    /// Waits until `group` is done or it is the caller's turn to lead.
    #[inline]
    pub(crate) fn wait(&self, group: GroupNumber, deadline: Option<Instant>) -> Turn<'_> {
        if let Some(turn) = self.turn(group) {
            return turn;
        }
        let _waiting = Waiting::enter(&self.waiting);
        loop {
            if let Some(turn) = self.turn(group) {
                return turn;
            }
            let mut asleep = self.asleep.lock();
            if self.is_done(group) || !self.writer.is_locked() {
                continue;
            }
            match deadline {
                None => self.changed.wait(&mut asleep),
                Some(deadline) => {
                    if self.changed.wait_until(&mut asleep, deadline).timed_out() {
                        return Turn::TimedOut;
                    }
                }
            }
        }
    }

    /// Outcome of `group`, if it is done. Otherwise `waker` is woken when it is.
    pub(crate) fn poll(&self, group: GroupNumber, waker: &Waker) -> Option<Result<()>> {
        if !self.is_done(group) {
            let mut tasks = self.tasks.lock();
            if !tasks.iter().any(|(other, known)| *other == group && known.will_wake(waker)) {
                tasks.push((group, waker.clone()));
                self.tasks_waiting.store(tasks.len(), Ordering::Relaxed);
            }
            // With the fence of `Told`: either the leader sees this task, or this thread sees that the group is done.
            fence(Ordering::SeqCst);
        }
        self.is_done(group).then(|| self.outcome(group))
    }

    /// Whether a future waits for a group.
    #[inline]
    pub(crate) fn has_tasks(&self) -> bool {
        self.tasks_waiting.load(Ordering::Relaxed) > 0
    }

    fn wake_tasks(&self) {
        let done = self.done.load(Ordering::Acquire);
        let mut tasks = self.tasks.lock();
        let ready: Vec<_> = tasks.extract_if(.., |(group, _)| group.0 < done).collect();
        self.tasks_waiting.store(tasks.len(), Ordering::Relaxed);
        drop(tasks);
        ready.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// What the caller does now; `None`: it waits.
    #[inline]
    fn turn(&self, group: GroupNumber) -> Option<Turn<'_>> {
        if self.is_done(group) {
            return Some(Turn::Done(self.outcome(group)));
        }
        let lead = self.lead_of(self.writer.try_lock()?);
        // The last leader may have done it meanwhile.
        Some(if self.is_done(group) { Turn::Done(self.outcome(group)) } else { Turn::Lead(lead) })
    }

    /// Waits for the lead: while it lasts nothing is committed.
    pub(crate) fn lead(&self) -> Lead<'_> {
        self.lead_of(self.writer.lock())
    }

    fn lead_of<'p>(&'p self, writer: MutexGuard<'p, Writer>) -> Lead<'p> {
        Lead { writer, _told: Told(self) }
    }

    /// Ends a leadership: every group up to `last` is done; `failures` names those that failed.
    #[inline]
    pub(crate) fn finish(&self, lead: Lead<'_>, last: GroupNumber, failures: Vec<(GroupNumber, Error)>) {
        if !failures.is_empty() {
            self.any_failed.store(true, Ordering::Relaxed);
            let mut failed = self.failed.lock();
            failures.into_iter().for_each(|(group, error)| failed.add(group, error));
        }
        self.done.store(last.next().0, Ordering::Release);
        drop(lead);
    }

    /// Of a group that is done.
    #[inline]
    fn outcome(&self, group: GroupNumber) -> Result<()> {
        if !self.any_failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.failed.lock().outcome(group)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn lead<'p>(progress: &'p Progress, group: u64) -> Lead<'p> {
        match progress.wait(GroupNumber(group), None) {
            Turn::Lead(lead) => lead,
            turn => panic!("{turn:?}"),
        }
    }

    #[test]
    fn one_leads_and_the_failed_groups_are_remembered() {
        let progress = Progress::new(Writer::new(None));
        let leading = lead(&progress, 0);
        assert!(matches!(progress.wait(GroupNumber(0), Some(Instant::now())), Turn::TimedOut));
        progress.finish(leading, GroupNumber(0), Vec::new());
        let failures = vec![(GroupNumber(1), Error::Closed), (GroupNumber(2), Error::Closed)];
        progress.finish(lead(&progress, 1), GroupNumber(2), failures);
        assert!(matches!(progress.wait(GroupNumber(0), None), Turn::Done(Ok(()))));
        assert!(matches!(progress.wait(GroupNumber(2), None), Turn::Done(Err(Error::Closed))));
        assert!(!progress.is_done(GroupNumber(3)));
        drop(lead(&progress, 3));
        drop(progress.lead());
        drop(lead(&progress, 3));
    }

    #[test]
    fn failures_without_end_take_no_memory_and_are_never_taken_for_success() {
        let full = |path: &str| Error::StorageFull { path: path.into() };
        let mut failed = Failed::default();
        (10..1_000_000).for_each(|group| failed.add(GroupNumber(group), full("a")));
        failed.add(GroupNumber(1_000_000), full("b"));
        assert_eq!(failed.runs.len(), 2);
        let outcome = |failed: &Failed, group| failed.outcome(GroupNumber(group)).map_err(|error| error.to_string());
        assert_eq!(outcome(&failed, 9), Ok(()));
        assert_eq!(outcome(&failed, 10), Err(full("a").to_string()));
        assert_eq!(outcome(&failed, 999_999), Err(full("a").to_string()));
        assert_eq!(outcome(&failed, 1_000_000), Err(full("b").to_string()));
        assert_eq!(outcome(&failed, 1_000_001), Ok(()));
        // Every other one.
        let (first, last) = (1_000_002, 1_000_002 + 2 * MOST_RUNS as u64);
        (first..=last).step_by(2).for_each(|group| failed.add(GroupNumber(group), full("c")));
        assert_eq!(failed.runs.len(), MOST_RUNS);
        let is_unknown = |group| matches!(failed.outcome(GroupNumber(group)), Err(Error::DurabilityUnknown { .. }));
        assert!(is_unknown(9) && is_unknown(10) && is_unknown(first));
        assert_eq!(outcome(&failed, first + 2), Err(full("c").to_string()));
        assert_eq!(outcome(&failed, first + 3), Ok(()));
    }

    #[test]
    fn all_who_sleep_are_told() {
        const THREADS: usize = 3;
        let (told, tell) = mpsc::channel();
        let progress = Arc::new(Progress::new(Writer::new(None)));
        let leading = lead(&progress, 0);
        for _ in 0..THREADS {
            let (progress, told) = (Arc::clone(&progress), told.clone());
            thread::spawn(move || told.send(matches!(progress.wait(GroupNumber(0), None), Turn::Done(Ok(())))));
        }
        while progress.waiting.load(Ordering::SeqCst) < THREADS {
            thread::yield_now();
        }
        // They were about to; now they sleep, or nearly always do.
        (0..1_000).for_each(|_| thread::yield_now());
        progress.finish(leading, GroupNumber(0), Vec::new());
        for _ in 0..THREADS {
            assert!(tell.recv_timeout(Duration::from_secs(60)).expect("a thread sleeps"));
        }
    }

    /// Threads that wait for groups of their own while others lead: a wake-up that is lost would leave one asleep.
    #[test]
    fn nobody_sleeps_while_there_is_a_lead_to_take() {
        const THREADS: usize = 4;
        const GROUPS: u64 = 2_000;
        let (ended, end) = mpsc::channel();
        let progress = Arc::new(Progress::new(Writer::new(None)));
        let next = Arc::new(AtomicU64::new(0));
        for _ in 0..THREADS {
            let (progress, next, ended) = (Arc::clone(&progress), Arc::clone(&next), ended.clone());
            thread::spawn(move || {
                loop {
                    let group = GroupNumber(next.fetch_add(1, Ordering::SeqCst));
                    if group.0 >= GROUPS {
                        return ended.send(());
                    }
                    match progress.wait(group, None) {
                        Turn::Done(outcome) => outcome.unwrap(),
                        Turn::Lead(lead) => {
                            // Until the others sleep, if they do.
                            let others_sleep = || progress.waiting.load(Ordering::SeqCst) + 1 == THREADS;
                            let _ = (0..100).find(|_| {
                                thread::yield_now();
                                others_sleep()
                            });
                            // As of an open group: what was taken up to now is done.
                            let last = GroupNumber(next.load(Ordering::SeqCst) - 1);
                            progress.finish(lead, last, Vec::new());
                        }
                        Turn::TimedOut => panic!("without a deadline"),
                    }
                    if group.0.is_multiple_of(7) {
                        drop(progress.lead());
                    }
                }
            });
        }
        for _ in 0..THREADS {
            end.recv_timeout(Duration::from_secs(60)).expect("a thread sleeps, or panicked");
        }
        assert!(progress.is_done(GroupNumber(GROUPS - 1)));
    }
}
