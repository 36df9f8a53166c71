//! Consumer groups: members, assignment, committed offsets.
//!
//! | file | what it is about |
//! |---|---|
//! | `member` | one member: its subscription, and whether it is alive |
//! | `coordinator` | who owns which partition, and the way from one assignment to the next |
//! | `membership` | joining, moving to the target, leaving; what happens to who does not poll |
//! | `offsets` | committing, and what was committed |
//! | `admin` | looking at groups and changing them from outside |
//! | `journal` | putting a change into the open group of the sequencer |
//!
//! Members live in memory: when the process ends, all of them are gone. Committed offsets, the epoch and the time of the last
//! leave are changes like records: an entry of the journal first, a row of the store later. What a consumer is told was
//! committed is what was acknowledged.
//!
//! # Locks
//!
//! A group's `inner` stands between the lead and the `sequencer`: the leader takes it to apply what it wrote, and
//! who commits holds it while the entry gets its place in the one order, so that a member that lost a partition can't
//! overwrite what its successor commits. It is never held across I/O. The map of the groups stands before it.

mod admin;
mod coordinator;
mod journal;
mod member;
mod membership;
mod offsets;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

pub(crate) use member::{JoinRequest, Liveness, MemberId, Subscription};
pub(crate) use membership::{Duty, Start};
pub(crate) use offsets::{Committer, PartitionOffset};

use super::{Engine, Topic};
use crate::codec::{GroupChange, GroupEntry};
use crate::error::Result;
use crate::group::{CommittedOffset, GroupName, KeptState};
use crate::store::StoredGroup;
use crate::types::{LogId, TopicNumber};
use coordinator::Coordinator;
use offsets::Queued;

/// All groups that were used since the broker was opened. The others are in the store.
#[derive(Debug)]
pub(crate) struct Groups {
    loaded: Mutex<HashMap<GroupName, Arc<Group>>>,
    /// When the next member may have to be given up, at the earliest.
    next_deadline_ms: AtomicI64,
    /// Counts joins, for member ids.
    joins: AtomicU64,
    /// When offsets were last looked through for those that are too old.
    expired_at_ms: AtomicI64,
}

const NEVER: i64 = i64::MAX;

/// A group.
pub(crate) struct Group {
    pub(crate) name: GroupName,
    /// Counted up whenever its members have something to look at.
    version: AtomicU64,
    inner: Mutex<Inner>,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Inner {
    coordinator: Coordinator,
    /// What was committed and acknowledged.
    offsets: BTreeMap<LogId, CommittedOffset>,
    /// The last commit of each partition that is on its way into the journal. Some are done already: who looks takes those out.
    queued: BTreeMap<LogId, Queued>,
    /// Topics that it reads, and how many partitions each had when it first did (T-8).
    first_partitions: BTreeMap<TopicNumber, u32>,
    /// Of the partitions that came later, those whose commit was taken back, or soon is.
    taken_back: BTreeSet<LogId>,
    /// When its last member left.
    emptied_ms: Option<i64>,
    /// The topics that the coordinator knows, by their version.
    topics_version: u64,
    /// Whether its epoch changed since it was last put into the journal.
    is_unsaved: bool,
    /// Whether it ever had a member, and was not deleted since.
    had_members: bool,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            loaded: Mutex::new(HashMap::new()),
            next_deadline_ms: AtomicI64::new(NEVER),
            joins: AtomicU64::new(0),
            expired_at_ms: AtomicI64::new(i64::MIN),
        }
    }
}

impl Group {
    fn load(name: &GroupName, stored: Option<StoredGroup>, now_ms: i64) -> Self {
        let (state, offsets) = stored.map(|stored| (stored.state, stored.offsets)).unwrap_or_default();
        let inner = Inner {
            coordinator: Coordinator::new(state.epoch),
            offsets: offsets.into_iter().collect(),
            queued: BTreeMap::new(),
            first_partitions: state.topics,
            taken_back: state.taken_back,
            // Whoever was a member when the process ended is none now.
            emptied_ms: state.emptied_ms.or(Some(now_ms)),
            topics_version: 0,
            is_unsaved: false,
            had_members: state.epoch > 0,
        };
        Self { name: name.clone(), version: AtomicU64::new(0), inner: Mutex::new(inner) }
    }

    /// Counted up whenever its members have something to look at.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// Makes every member look again, and wakes those that sleep.
    fn announce(&self, inner: &Inner) {
        self.version.fetch_add(1, Ordering::SeqCst);
        inner.coordinator.members().for_each(|(_, member)| member.request.waiter.notify());
    }
}

impl Inner {
    fn state(&self) -> KeptState {
        KeptState {
            epoch: self.coordinator.epoch(),
            emptied_ms: self.emptied_ms,
            topics: self.first_partitions.clone(),
            taken_back: self.taken_back.clone(),
        }
    }

    /// Whether there is such a group: one that never had members is there as long as something is committed (G-57).
    fn exists(&self) -> bool {
        self.had_members || !self.offsets.is_empty()
    }

    fn apply(&mut self, change: &GroupChange) {
        match change {
            GroupChange::Offset { log, committed: Some(committed) } => {
                self.offsets.insert(*log, committed.clone());
            }
            GroupChange::Offset { log, committed: None } => drop(self.offsets.remove(log)),
            GroupChange::State(_) => self.had_members = true,
            GroupChange::Delete => {
                self.offsets.clear();
                self.first_partitions.clear();
                self.taken_back.clear();
                self.had_members = self.coordinator.has_members();
            }
        }
    }
}

impl Engine {
    /// A group, loaded from the store when it was not used yet. It need not exist.
    pub(crate) fn group(&self, name: &GroupName) -> Result<Arc<Group>> {
        if let Some(group) = self.groups.loaded.lock().get(name) {
            return Ok(Arc::clone(group));
        }
        // What is not loaded has no changes under way, so the store has all of it. Should two load it at the same time, the
        // first one counts: the second may have read before a change of the first.
        let stored = self.store.read_group(name)?;
        let now_ms = self.options.clock.now_ms();
        let mut loaded = self.groups.loaded.lock();
        let group = loaded.entry(name.clone()).or_insert_with(|| Arc::new(Group::load(name, stored, now_ms)));
        Ok(Arc::clone(group))
    }

    /// Changes of groups were acknowledged, in this order.
    pub(super) fn acknowledged(&self, entries: &[GroupEntry]) {
        for run in entries.chunk_by(|a, b| a.group == b.group) {
            let Some(first) = run.first() else { continue };
            let group = self.groups.loaded.lock().get(&first.group).cloned();
            if let Some(group) = group {
                let mut inner = group.inner.lock();
                run.iter().for_each(|entry| inner.apply(&entry.change));
            }
        }
    }

    /// A topic is gone, and with it what was committed of it (G-57).
    pub(super) fn forget_offsets_of(&self, topic: &Topic) {
        let groups: Vec<_> = self.groups.loaded.lock().values().cloned().collect();
        for group in groups {
            let mut inner = group.inner.lock();
            inner.offsets.retain(|log, _| log.topic != topic.number);
            inner.queued.retain(|log, _| log.topic != topic.number);
            inner.first_partitions.remove(&topic.number);
            inner.taken_back.retain(|log| log.topic != topic.number);
        }
    }
}
