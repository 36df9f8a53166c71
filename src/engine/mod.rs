//! The engine: from `send` to the journal, the tail, the store, and back to the readers.
//!
//! | file | what it is about |
//! |---|---|
//! | `open` | opening, recovering and closing the files |
//! | `sequencer` | offsets and the one total order |
//! | `send` | taking records and other entries in: checks, room |
//! | `commit` | group commit: one leader writes for all that wait |
//! | `room` | how much of `buffer_memory` is in use |
//! | `progress` | what became of each group, and who leads |
//! | `log`, `topic` | a partition as its readers see it, with its tail; topics |
//! | `read` | finding records by offset and by time |
//! | `cache` | chunks that were read lately, shared by all consumers |
//! | `checkpoint` | the tail moves into the store |
//! | `clean` | retention, and freeing what deletions have hidden, in steps |
//! | `compact` | compaction by key, in steps |
//! | `table` | what a compacted topic says of its keys |
//! | `background` | what happens without anybody waiting for it |
//! | `check` | looking at everything, and counting it |
//! | `topics` | creating, changing and deleting topics |
//! | `waiting` | how a consumer sleeps and wakes |
//! | `groups` | consumer groups: members, assignment, committed offsets, and what is journaled of them |
//! | `turns` | whose turn it is to change the store |
//! | `health` | whether the broker may go on writing |
//!
//! # Locks
//!
//! In this order; a lock further down is never held while one further up is taken.
//!
//! 0. `alterations`: one change of a configuration at a time. Held while the application's code makes it.
//!    `cleaner`: one clean at a time. Held across its steps, each of which takes `changing_store` and gives it back.
//! 1. `changing_store`: one checkpoint, topic change or step of a clean at a time, in turn. Held across the store's commit.
//! 2. The lead (in `progress`), with the journal and its frame. Held across the journal's write and sync.
//! 3. A consumer group: the map of the groups, then the group. Never held across a sync.
//! 4. `sequencer`: offsets and the open group. Never held across I/O.
//! 5. `unapplied`: what the next checkpoint takes.
//! 6. A partition's `tail`, a consumer's waiter, the bell of the background thread, who sleeps and what failed in `progress`,
//!    `garbage`, `cleans`.
//!
//! A reader takes only the last kind, the sequencer's for looking a topic up, and a snapshot of the store. None of these
//! is held across a sync.

mod background;
mod cache;
mod check;
mod checkpoint;
mod clean;
mod commit;
mod compact;
mod groups;
mod health;
mod log;
mod open;
mod progress;
mod read;
mod room;
mod send;
mod sequencer;
mod table;
mod topic;
mod topics;
mod turns;
mod waiting;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub(crate) use background::Background;
pub(crate) use commit::in_callback;
pub(crate) use compact::records_within;
pub(crate) use groups::{
    Committer, Duty, Group, JoinRequest, Liveness, MemberId, PartitionOffset, Start, Subscription,
};
pub(crate) use log::PartitionLog;
pub(crate) use open::OpenHow;
pub(crate) use sequencer::{GroupNumber, Keys, Sequenced};
pub(crate) use topic::Topic;
pub(crate) use topics::WantedTopic;
pub(crate) use waiting::Waiter;

use crate::clock::{Time, in_clock};
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::process::Process;
pub(crate) use crate::store::Compaction;
use crate::store::Store;
use background::Bell;
use cache::ChunkCache;
use checkpoint::Unapplied;
use clean::{Cleaner, Cleans, Garbage};
use commit::Durable;
use groups::Groups;
use health::Health;
use progress::Progress;
pub(crate) use read::Usage;
use room::Room;
use sequencer::Sequencer;
use topics::Alterations;
use turns::Turns;

/// The options of a broker, checked.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) durability: Durability,
    pub(crate) cache_size: usize,
    pub(crate) buffer_memory: usize,
    pub(crate) checkpoint_bytes: usize,
    pub(crate) checkpoint_interval: Duration,
    pub(crate) max_block: Duration,
    pub(crate) linger: Duration,
    /// Partitions of a topic that is created by sending to it; `None`: such a send fails.
    pub(crate) auto_create_topics: Option<u32>,
    /// How often the background thread cleans; `None`: only by hand.
    pub(crate) clean_interval: Option<Duration>,
    /// Bytes of chunks that all topics may have together; `None`: no limit.
    pub(crate) max_bytes: Option<u64>,
    /// The share of the file that is free from which on closing gives it back; `None`: never.
    pub(crate) vacuum_at_close: Option<f64>,
    /// Chunks that a step of a clean frees.
    pub(crate) clean_step: usize,
    /// Records that compaction reads before it goes on with them.
    pub(crate) compaction_records: usize,
    /// How long what a group without members committed is kept; `None`: for ever.
    pub(crate) offsets_retention: Option<Duration>,
    pub(crate) clock: Time,
}

/// A group of this many bytes is large.
const LARGE_GROUP: usize = 2 << 20;

impl Options {
    /// Chunks that a step of a compaction writes again: reading and writing one takes longer than freeing it.
    fn drop_step(&self) -> usize {
        (self.clean_step / 2).max(1)
    }

    /// Bytes from which on a group does not linger, and goes straight into the store: it is written once instead of twice.
    fn large_group(&self) -> usize {
        LARGE_GROUP.min(self.checkpoint_bytes)
    }
}

/// Everything behind a broker's handles.
pub(crate) struct Engine {
    pub(crate) options: Options,
    /// The store's path; `:memory:` in memory.
    path: PathBuf,
    journal_path: PathBuf,
    health: Health,
    sequencer: Mutex<Sequencer>,
    progress: Progress,
    durable: Durable,
    unapplied: Mutex<Unapplied>,
    /// The position in the journal before which the store has everything: the leader may use that space again.
    recycled: AtomicU64,
    pub(crate) store: Store,
    /// Innermost; never held across I/O.
    cache: Mutex<ChunkCache>,
    changing_store: Turns,
    alterations: Alterations,
    cleaner: Mutex<Cleaner>,
    garbage: Mutex<Garbage>,
    cleans: Mutex<Cleans>,
    room: Room,
    /// The last checkpoint found the disk full.
    storage_full: AtomicBool,
    probed_at: Mutex<Option<Instant>>,
    /// When the background last synced in `Buffered` mode.
    synced_at: Mutex<Instant>,
    bell: Bell,
    groups: Groups,
    /// Counted up whenever topics change.
    topics_version: AtomicU64,
    /// All consumers: they look again when a topic comes or the broker closes.
    watchers: Mutex<Vec<Weak<Waiter>>>,
    closed: AtomicBool,
    /// The process that opened the files.
    process: Process,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Fails when the broker is closed, and when the caller is its clock: that is called while locks are held.
    pub(crate) fn check_open(&self) -> Result<()> {
        check_not_in_clock()?;
        if self.closed.load(Ordering::SeqCst) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Whether this process was forked from the one that opened the files. It shares them, and must leave them alone.
    pub(crate) fn is_forked(&self) -> bool {
        self.process.is_forked()
    }

    /// Fails when the caller is a callback: it runs within a commit, and would wait for itself.
    fn check_may_wait(&self) -> Result<()> {
        check_not_in_clock()?;
        if in_callback() {
            return Err(Error::illegal_state("a callback of a send can't do this: do it in another thread"));
        }
        Ok(())
    }

    /// Fails when the caller may not change anything: the broker is closed or stopped by a failure, or the caller is a
    /// forked process or a callback.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        self.health.check()?;
        if self.is_forked() {
            return Err(Error::Forked);
        }
        self.check_may_wait()
    }

    /// Whether a group is done, well or badly.
    pub(crate) fn is_done(&self, group: GroupNumber) -> bool {
        self.progress.is_done(group)
    }

    /// Registers a consumer, to be woken when topics change or the broker closes.
    pub(crate) fn watch(&self, waiter: &Arc<Waiter>) {
        let mut watchers = self.watchers.lock();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(Arc::downgrade(waiter));
    }

    /// Counted up whenever topics change.
    pub(crate) fn topics_version(&self) -> u64 {
        self.topics_version.load(Ordering::SeqCst)
    }

    /// Topics changed, or the broker closes: every consumer looks again.
    fn wake_watchers(&self) {
        self.topics_version.fetch_add(1, Ordering::SeqCst);
        for watcher in self.watchers.lock().iter().filter_map(Weak::upgrade) {
            watcher.notify();
        }
    }
}

/// Fails when the caller is an application's clock.
pub(crate) fn check_not_in_clock() -> Result<()> {
    if in_clock() {
        return Err(Error::illegal_state("a clock can't call a broker, which calls it while it holds locks"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TopicConfig;
    use crate::disk::OsDisk;
    use crate::types::TopicName;

    pub(super) fn options() -> Options {
        Options {
            durability: Durability::Sync,
            cache_size: 1 << 20,
            buffer_memory: 1 << 20,
            checkpoint_bytes: 1 << 19,
            checkpoint_interval: Duration::from_secs(10),
            max_block: Duration::ZERO,
            linger: Duration::ZERO,
            auto_create_topics: None,
            clean_interval: None,
            max_bytes: None,
            clean_step: 256,
            compaction_records: 1_000,
            vacuum_at_close: None,
            offsets_retention: None,
            clock: Time::System,
        }
    }

    #[test]
    fn a_forked_process_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.brooklet");
        let mut engine = Engine::open(Arc::new(OsDisk), &path, OpenHow::CreateNew, options()).unwrap();
        let name = TopicName::new("orders").unwrap();
        engine.create_topic(&name, 1, TopicConfig::default()).unwrap();
        let opened_by = std::mem::replace(&mut engine.process, Process::parent()); // as if this were a child of the process that opened it
        assert!(matches!(engine.create_topic(&name, 1, TopicConfig::default()), Err(Error::Forked)));
        assert!(matches!(engine.delete_topic("orders"), Err(Error::Forked)));
        assert!(matches!(engine.maintain(), Err(Error::Forked)));
        engine.process = opened_by;
        assert!(engine.check().unwrap().is_healthy());
    }
}
