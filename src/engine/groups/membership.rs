//! Joining a group, moving to its target, leaving it; and what happens to a member that does not poll.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::coordinator::{Fenced, InstanceInUse, Step};
use super::member::Subscription;
use super::{Group, Inner, JoinRequest, MemberId, NEVER};
use crate::codec::{GroupChange, GroupEntry};
use crate::config::millis;
use crate::engine::{Engine, PartitionLog};
use crate::error::{Error, Result};
use crate::group::{GroupMembershipOperation, KeptState};
use crate::types::{LogId, Offset};

/// What a member has to do next.
#[derive(Debug)]
pub(crate) enum Duty {
    /// Stop reading these, then [`release`](Engine::release) them.
    Revoke(Vec<LogId>),
    /// Read these too. Empty: a rebalance changed nothing for it.
    Assign(Vec<Arc<PartitionLog>>),
    /// Nothing, until the group's version changes.
    Settled,
    /// It is a member no more: what it read is lost.
    Lost,
}

/// Where a member begins to read a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Where the group got to.
    Committed(Offset),
    /// At the log start: the partition came to a topic that the group reads already (T-8).
    Beginning,
    /// Where the consumer's reset rule says (C-19).
    Reset,
}

impl Engine {
    /// Joins a group as a new member.
    pub(crate) fn join_group(&self, group: &Group, request: JoinRequest) -> Result<MemberId> {
        let number = self.groups.joins.fetch_add(1, Ordering::SeqCst);
        let id = MemberId::new(format!("{}-{number}", request.client_id));
        let instance_id = request.instance_id.clone();
        let liveness = Arc::clone(&request.liveness);
        let now_ms = self.options.clock.monotonic_ms();
        let mut inner = group.inner.lock();
        match inner.coordinator.join(id.clone(), request, &self.topics(), now_ms) {
            Ok(()) => {}
            Err(InstanceInUse) => {
                return Err(Error::UnreleasedInstanceId {
                    group: group.name.as_str().to_owned(),
                    instance_id: instance_id.unwrap_or_default(),
                });
            }
        }
        inner.had_members = true;
        self.retargeted(group, &mut inner);
        drop(inner);
        self.expect_deadline(liveness.earliest_deadline_ms(now_ms));
        Ok(id)
    }

    /// Changes what a member subscribes to. `false`: it is no member.
    pub(crate) fn resubscribe(&self, group: &Group, member: &MemberId, subscription: Subscription) -> bool {
        let mut inner = group.inner.lock();
        let changed = inner.coordinator.subscribe(member, subscription, &self.topics());
        self.retargeted(group, &mut inner);
        changed.is_ok()
    }

    /// What the member has to do next to get to the group's target.
    pub(crate) fn duty(&self, group: &Group, member: &MemberId) -> Result<Duty> {
        let mut inner = group.inner.lock();
        let version = self.topics_version();
        if inner.topics_version != version {
            inner.topics_version = version;
            if inner.coordinator.refresh(&self.topics()) {
                self.retargeted(group, &mut inner);
            }
        }
        if inner.is_unsaved {
            self.save(group, &mut inner);
        }
        match inner.coordinator.next_step(member) {
            Err(Fenced) => Ok(Duty::Lost),
            Ok(step) => Ok(match step? {
                Step::Revoke(logs) => Duty::Revoke(logs),
                Step::Assign(logs) => Duty::Assign(inner.logs(&logs)),
                Step::Settled => Duty::Settled,
            }),
        }
    }

    /// A member has stopped reading these partitions: others may have them.
    pub(crate) fn release(&self, group: &Group, member: &MemberId, logs: &[LogId]) {
        let mut inner = group.inner.lock();
        if inner.coordinator.release(member, logs).is_ok() {
            group.announce(&inner);
        }
    }

    /// A member's handle goes.
    pub(crate) fn leave_group(&self, group: &Group, member: &MemberId, how: GroupMembershipOperation) {
        let now_ms = self.options.clock.monotonic_ms();
        let mut inner = group.inner.lock();
        let stays = inner.coordinator.member(member).filter(|member| match how {
            GroupMembershipOperation::Default => member.request.instance_id.is_some(),
            GroupMembershipOperation::LeaveGroup => false,
            GroupMembershipOperation::RemainInGroup => true,
        });
        match stays.map(|member| now_ms.saturating_add(millis(member.request.session_timeout))) {
            Some(until_ms) => {
                inner.coordinator.go_away(member, until_ms);
                drop(inner);
                self.expect_deadline(until_ms);
            }
            None => {
                inner.coordinator.leave(member, &self.topics());
                self.retargeted(group, &mut inner);
            }
        }
    }

    /// Removes static members by their instance ids, those that are away and those that are here (G-54).
    pub(crate) fn remove_instances(&self, name: &str, instance_ids: &[&str]) -> Result<()> {
        let group = self.existing_group(name)?;
        let mut inner = group.inner.lock();
        let named = |id: &Option<String>| id.as_deref().is_some_and(|id| instance_ids.contains(&id));
        if inner.coordinator.remove_if(|member| named(&member.request.instance_id), &self.topics()) {
            self.retargeted(&group, &mut inner);
        }
        Ok(())
    }

    /// There may be another target: brings the group's own facts up to date, and tells the members.
    fn retargeted(&self, group: &Group, inner: &mut Inner) {
        for topic in inner.coordinator.topics() {
            inner.first_partitions.entry(topic.number).or_insert(topic.partition_count());
        }
        inner.emptied_ms = if inner.coordinator.has_members() { None } else { Some(self.options.clock.now_ms()) };
        inner.is_unsaved = true;
        self.save(group, inner);
        group.announce(inner);
    }

    /// Puts the state of the group into the journal. Nobody waits for it: when there is no room now, the next duty tries again.
    fn save(&self, group: &Group, inner: &mut Inner) {
        let entry = GroupEntry { group: group.name.clone(), change: GroupChange::State(inner.state()) };
        inner.is_unsaved = !matches!(self.try_push_group_entries(&[entry], &mut None), Ok(Some(_)));
    }

    /// A member may have to be given up at this time.
    fn expect_deadline(&self, deadline_ms: i64) {
        if self.groups.next_deadline_ms.fetch_min(deadline_ms, Ordering::SeqCst) > deadline_ms
            && let Some(due) = self.next_member_due()
        {
            self.bell.ring_unless_awake_by(due);
        }
    }

    /// When a member may have to be given up, at the earliest.
    pub(in crate::engine) fn next_member_due(&self) -> Option<std::time::Instant> {
        let deadline_ms = self.groups.next_deadline_ms.load(Ordering::SeqCst);
        if deadline_ms == NEVER {
            return None;
        }
        let wait_ms = deadline_ms.saturating_sub(self.options.clock.monotonic_ms());
        std::time::Instant::now().checked_add(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)))
    }

    /// Gives up the members that did not poll in time, or did not come back in time.
    pub(in crate::engine) fn expire_members(&self) {
        let now_ms = self.options.clock.monotonic_ms();
        if self.groups.next_deadline_ms.load(Ordering::SeqCst) > now_ms {
            return;
        }
        // From here on whoever joins lowers it again.
        self.groups.next_deadline_ms.store(NEVER, Ordering::SeqCst);
        let groups: Vec<_> = self.groups.loaded.lock().values().cloned().collect();
        for group in groups {
            let mut inner = group.inner.lock();
            if inner.coordinator.remove_if(|member| member.deadline_ms() <= now_ms, &self.topics()) {
                self.retargeted(&group, &mut inner);
            }
            let members = inner.coordinator.members();
            let next = members.map(|(_, member)| member.earliest_deadline_ms(now_ms)).min().unwrap_or(NEVER);
            self.groups.next_deadline_ms.fetch_min(next, Ordering::SeqCst);
        }
    }
}

impl Group {
    /// Where a member begins to read a partition.
    pub(crate) fn start_of(&self, log: LogId) -> Start {
        let inner = self.inner.lock();
        if let Some(committed) = inner.offsets.get(&log) {
            return Start::Committed(committed.offset);
        }
        let is_added = KeptState::is_added(&inner.first_partitions, log) && !inner.taken_back.contains(&log);
        if is_added { Start::Beginning } else { Start::Reset }
    }

    /// The epoch that a member has reached; `None` when it is no member.
    pub(crate) fn member_epoch(&self, member: &MemberId) -> Option<u64> {
        self.inner.lock().coordinator.member(member).map(|member| member.epoch)
    }
}

impl Inner {
    /// The partitions of these ids.
    fn logs(&self, wanted: &[LogId]) -> Vec<Arc<PartitionLog>> {
        let wanted: HashSet<LogId> = wanted.iter().copied().collect();
        let logs = self.coordinator.topics().flat_map(|topic| &topic.partitions);
        logs.filter(|log| wanted.contains(&log.id)).cloned().collect()
    }
}
