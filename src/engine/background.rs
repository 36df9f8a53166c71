//! What happens without anybody waiting for it: lingering records are committed, `Buffered` frames synced, the tail is moved
//! into the store, and the store is cleaned.
//!
//! One thread does it, or whoever calls [`Engine::maintain`]. The thread sleeps until the next thing is due and is rung up
//! only when something gets due before that; while nothing is written it sleeps for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Engine;
use super::checkpoint::Unapplied;
use super::commit::LargeGroups;
use crate::config::Durability;
use crate::error::{Error, Result};

/// Where the background thread sleeps.
#[derive(Debug)]
pub(crate) struct Bell {
    started: Instant,
    /// When the thread will wake by itself, in nanoseconds since `started`: 0 while it is awake, `NEVER` when it will not.
    wakes_at: AtomicU64,
    state: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct BellState {
    rung: bool,
    stop: bool,
}

/// How long the thread cleans before it looks whether something else is due: it ends with the step under way.
const CLEAN_SLICE: Duration = Duration::from_millis(5);

const NEVER: u64 = u64::MAX;
const AWAKE: u64 = 0;

impl Bell {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            wakes_at: AtomicU64::new(AWAKE),
            state: Mutex::new(BellState::default()),
            rung: Condvar::new(),
        }
    }

    /// Wakes the thread unless it is awake, or will be by `due`. What is due was made known before this call.
    #[inline]
    pub(crate) fn ring_unless_awake_by(&self, due: Instant) {
        if self.wakes_at.load(Ordering::SeqCst) > self.nanos(due) {
            self.wakes_at.store(AWAKE, Ordering::SeqCst);
            self.state.lock().rung = true;
            self.rung.notify_one();
        }
    }

    /// Ends the thread.
    fn stop(&self) {
        self.state.lock().stop = true;
        self.rung.notify_one();
    }

    /// Announces a sleep until `due`: who makes something due earlier rings from now on.
    fn announce(&self, due: Option<Instant>) {
        let wakes_at = due.map_or(NEVER, |due| self.nanos(due).max(1));
        self.wakes_at.store(wakes_at, Ordering::SeqCst);
    }

    /// Sleeps as announced. `false`: the thread should end.
    fn sleep(&self, due: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        while !state.rung && !state.stop {
            match due {
                None => self.rung.wait(&mut state),
                Some(due) => {
                    if self.rung.wait_until(&mut state, due).timed_out() {
                        break;
                    }
                }
            }
        }
        state.rung = false;
        self.wakes_at.store(AWAKE, Ordering::SeqCst);
        !state.stop
    }

    #[inline]
    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_nanos()).unwrap_or(NEVER)
    }
}

/// The background thread of a broker.
#[derive(Debug)]
pub(crate) struct Background {
    thread: JoinHandle<()>,
}

impl Background {
    /// Starts the thread.
    pub(crate) fn start(engine: &Arc<Engine>) -> Result<Self> {
        let worker = Arc::clone(engine);
        let thread = thread::Builder::new()
            .name("brooklet".to_owned())
            .spawn(move || worker.run_background())
            .map_err(|error| Error::io("start the background thread for", engine.path(), error))?;
        Ok(Self { thread })
    }

    /// Ends the thread and waits for it.
    pub(crate) fn stop(self, engine: &Engine) {
        engine.bell.stop();
        // A panic in it was kept by `health`.
        let _ = self.thread.join();
    }
}

impl Engine {
    fn run_background(&self) {
        let mut group_before = None;
        loop {
            // What fails here is kept in `health` or `storage_full`, where the next caller meets it.
            let _ = self.run_due(Instant::now(), CLEAN_SLICE);
            let group = self.sequencer.lock().group().number;
            let busy = group_before.replace(group) != Some(group);
            // While records keep coming it looks again after `linger`, so that they need not ring for each group.
            let soon = if busy { Instant::now().checked_add(self.options.linger) } else { None };
            let due = [self.next_due(), soon].into_iter().flatten().min();
            self.bell.announce(due);
            if self.next_due().is_some_and(|again| due.is_none_or(|due| again < due)) {
                continue;
            }
            if !self.bell.sleep(due) {
                return;
            }
        }
    }

    /// Does everything the background thread would do by now or soon: commits what was sent, syncs what is buffered, and
    /// runs a checkpoint and a clean if they are due.
    pub(crate) fn maintain(&self) -> Result<()> {
        self.check_writable()?;
        // First what puts entries into the journal: what follows commits, syncs and stores them as well.
        self.expire_members();
        self.expire_offsets()?;
        self.commit_open_group(LargeGroups::ToStore)?;
        self.sync_journal()?;
        let now = Instant::now();
        while self.checkpoint_if_due(now)? {}
        // A checkpoint may make a clean due, and on a full disk a clean makes room for a checkpoint.
        if self.clean_due().is_some_and(|due| due <= Instant::now()) {
            self.clean_in_background(Duration::MAX)?;
            while self.checkpoint_if_due(now)? {}
        }
        Ok(())
    }

    fn run_due(&self, now: Instant, clean_budget: Duration) -> Result<()> {
        if self.health.check().is_err() {
            return Ok(());
        }
        if self.group_due().is_some_and(|due| due <= now) {
            self.commit_open_group(LargeGroups::ToStore)?;
        }
        if self.sync_due().is_some_and(|due| due <= now) {
            *self.synced_at.lock() = now;
            self.sync_journal()?;
        }
        // One portion, as a sync may be due behind it.
        self.checkpoint_if_due(now)?;
        if self.clean_due().is_some_and(|due| due <= now) {
            self.clean_in_background(clean_budget)?;
        }
        self.expire_members();
        self.expire_offsets()
    }

    /// Whether a portion was due, which is in the store now.
    fn checkpoint_if_due(&self, now: Instant) -> Result<bool> {
        let due = self.checkpoint_due(&self.unapplied.lock());
        let is_due = due.is_some_and(|due| due <= now);
        if is_due {
            self.checkpoint_oldest()?;
        }
        Ok(is_due)
    }

    /// When the next thing is due; `None` while there is nothing to do.
    fn next_due(&self) -> Option<Instant> {
        if self.health.check().is_err() {
            return None;
        }
        let checkpoint = self.checkpoint_due(&self.unapplied.lock());
        [
            self.group_due(),
            self.sync_due(),
            checkpoint,
            self.next_member_due(),
            self.next_expiry_due(),
            self.clean_due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// When the open group has lingered long enough.
    fn group_due(&self) -> Option<Instant> {
        let sequencer = self.sequencer.lock();
        let group = sequencer.group();
        let opened_at = group.opened_at?;
        if self.progress.has_tasks() { Some(opened_at) } else { self.group_due_at(opened_at, group.bytes) }
    }

    /// When a group opened at `opened_at` is committed without anybody waiting.
    pub(crate) fn group_due_at(&self, opened_at: Instant, bytes: usize) -> Option<Instant> {
        if bytes >= self.options.large_group() { Some(opened_at) } else { opened_at.checked_add(self.options.linger) }
    }

    fn sync_due(&self) -> Option<Instant> {
        let interval = self.flush_interval().filter(|_| self.durable.is_behind())?;
        self.synced_at.lock().checked_add(interval)
    }

    /// How long what is acknowledged may stay unsynced; `None` when it is synced at once.
    pub(crate) fn flush_interval(&self) -> Option<Duration> {
        match self.options.durability {
            Durability::Buffered { flush_interval } => Some(flush_interval),
            Durability::Sync => None,
        }
    }

    /// When what is unapplied should be moved into the store. On a full disk only who sends tries again.
    pub(crate) fn checkpoint_due(&self, unapplied: &Unapplied) -> Option<Instant> {
        let since = unapplied.since()?;
        if self.storage_full.load(Ordering::SeqCst) {
            None
        } else if unapplied.is_enough() {
            Some(since)
        } else {
            since.checked_add(self.options.checkpoint_interval)
        }
    }
}
