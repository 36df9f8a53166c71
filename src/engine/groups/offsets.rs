//! Committing offsets, what was committed, and when it is forgotten.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Group, Inner, MemberId};
use crate::codec::{GroupChange, GroupEntry};
use crate::config::millis;
use crate::engine::sequencer::{GroupNumber, OutcomeCallback, Sequencer, cost_of_group_entries};
use crate::engine::{Engine, PartitionLog, Topic};
use crate::error::{Error, Result};
use crate::group::{CommittedOffset, KeptState, OffsetAndMetadata};
use crate::types::{LogId, Offset, TopicPartition};

/// The most bytes of metadata beside an offset (Kafka's `offset.metadata.max.bytes`).
pub(crate) const MAX_METADATA: usize = 4096;

/// How often offsets are looked through for those that nobody uses any more.
const EXPIRY_INTERVAL_MS: i64 = 600_000;

/// Who commits.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Committer<'a> {
    /// A member. It has to be one still, and the partitions its own or nobody's (C-37).
    Member(&'a MemberId),
    /// Nobody in particular: a consumer that was told its partitions, or an administrator. The group has to have no members
    /// (G-49, G-62).
    Outsider,
}

/// A partition, and what is committed of it.
pub(crate) type PartitionOffset = (TopicPartition, LogId, OffsetAndMetadata);

impl Engine {
    /// Commits offsets, all in one group of the sequencer. They are committed when that is.
    pub(crate) fn commit_offsets(
        &self,
        group: &Group,
        committer: Committer<'_>,
        offsets: &[PartitionOffset],
        callback: Option<OutcomeCallback>,
    ) -> Result<GroupNumber> {
        let now_ms = self.options.clock.now_ms();
        let entries: Vec<_> = offsets.iter().map(|offset| entry(group, offset, now_ms)).collect::<Result<_>>()?;
        self.push_checked(group, &entries, callback, |inner, sequencer| {
            check_committer(group, inner, committer, offsets)?;
            // Nothing is committed of a topic after its deletion, which takes it out of the sequencer first: what was committed
            // before is forgotten by the deletion, and what came after would be there for ever.
            let is_gone = |(partition, log, _): &&PartitionOffset| {
                sequencer.topic(partition.topic()).is_none_or(|topic| topic.number != log.topic)
            };
            match offsets.iter().find(is_gone) {
                Some((partition, ..)) => Err(Error::unknown_topic(partition.topic())),
                None => Ok(()),
            }
        })
    }

    /// Puts entries into the open group, and checks under the lock of their consumer group and of the sequencer that they may.
    /// Waits for room, at most `max_block`.
    pub(super) fn push_checked(
        &self,
        group: &Group,
        entries: &[GroupEntry],
        mut callback: Option<OutcomeCallback>,
        check: impl Fn(&Inner, &Sequencer) -> Result<()>,
    ) -> Result<GroupNumber> {
        let mut deadline = None;
        loop {
            self.probe_full_disk()?;
            {
                let mut inner = group.inner.lock();
                let pushed = self.try_push_checked(entries, &mut callback, |sequencer| check(&inner, sequencer))?;
                if let Some(number) = pushed {
                    inner.note_queued(number, entries);
                    return Ok(number);
                }
            }
            self.make_room(cost_of_group_entries(entries), *deadline.get_or_insert_with(|| self.block_deadline()))?;
        }
    }

    /// Of these offsets, those that differ from what the group committed last, be it acknowledged or on its way into the journal.
    pub(crate) fn not_yet_committed(&self, group: &Group, mut offsets: Vec<PartitionOffset>) -> Vec<PartitionOffset> {
        let mut inner = group.inner.lock();
        inner.queued.retain(|_, queued| !self.progress.is_done(queued.number));
        offsets.retain(|(_, log, offset)| inner.last_committed(*log) != Some(offset.offset));
        offsets
    }

    /// What a group committed of a partition.
    pub(crate) fn committed(&self, group: &Group, log: LogId) -> Option<OffsetAndMetadata> {
        group.inner.lock().offsets.get(&log).map(OffsetAndMetadata::from)
    }

    /// Below which offset of a partition every live group has committed: the log's end when no group has to do with it. A group is
    /// live when it has members, or has committed something after `idle_since_ms`.
    pub(in crate::engine) fn committed_by_live_groups(
        &self,
        topic: &Topic,
        log: &PartitionLog,
        idle_since_ms: i64,
    ) -> Result<Offset> {
        let mut committed = log.end();
        for name in self.group_names()? {
            let group = self.group(&name)?;
            let inner = group.inner.lock();
            let commits_later = |offset: &CommittedOffset| offset.committed_ms > idle_since_ms;
            if !inner.coordinator.has_members() && !inner.offsets.values().any(commits_later) {
                continue;
            }
            match inner.offsets.get(&log.id) {
                Some(offset) => committed = committed.min(offset.offset),
                // It may want everything.
                None if inner.coordinator.topics().any(|read| read.number == topic.number) => {
                    return Ok(log.log_start());
                }
                None => {}
            }
        }
        Ok(committed)
    }

    /// When offsets are looked through next for those that nobody uses any more; never, unless they have a retention.
    pub(in crate::engine) fn next_expiry_due(&self) -> Option<Instant> {
        self.options.offsets_retention?;
        let due_ms = self.groups.expired_at_ms.load(Ordering::SeqCst).saturating_add(EXPIRY_INTERVAL_MS);
        let wait_ms = due_ms.saturating_sub(self.options.clock.now_ms());
        Instant::now().checked_add(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)))
    }

    /// Every ten minutes, takes back what nobody used for `offsets_retention`: commits of groups without members, and of
    /// topics that nobody of a group subscribes to (G-55).
    pub(in crate::engine) fn expire_offsets(&self) -> Result<()> {
        let Some(retention) = self.options.offsets_retention else { return Ok(()) };
        let now_ms = self.options.clock.now_ms();
        let due_ms = self.groups.expired_at_ms.load(Ordering::SeqCst).saturating_add(EXPIRY_INTERVAL_MS);
        if now_ms < due_ms {
            return Ok(());
        }
        self.groups.expired_at_ms.store(now_ms, Ordering::SeqCst);
        let oldest_kept = now_ms.saturating_sub(millis(retention));
        for name in self.group_names()? {
            self.expire_offsets_of(&*self.group(&name)?, oldest_kept)?;
        }
        Ok(())
    }

    fn expire_offsets_of(&self, group: &Group, oldest_kept_ms: i64) -> Result<()> {
        let mut inner = group.inner.lock();
        let subscribed = |log: &LogId| inner.coordinator.topics().any(|topic| topic.number == log.topic);
        let emptied_ms = inner.emptied_ms.unwrap_or(i64::MIN);
        let expired = inner
            .offsets
            .iter()
            .filter(|(log, committed)| !subscribed(log) && committed.committed_ms.max(emptied_ms) <= oldest_kept_ms);
        let logs: Vec<_> = expired.map(|(log, _)| *log).collect();
        let is_over = !inner.coordinator.has_members() && logs.len() == inner.offsets.len();
        let changes = if is_over && emptied_ms <= oldest_kept_ms {
            vec![GroupChange::Delete]
        } else {
            logs.into_iter().map(|log| GroupChange::Offset { log, committed: None }).collect()
        };
        if changes.is_empty() {
            return Ok(());
        }
        let entry = |change| GroupEntry { group: group.name.clone(), change };
        // No room now: the next look finds them again.
        let entries: Vec<_> = changes.into_iter().map(entry).collect();
        if let Some(number) = self.try_push_group_entries(&entries, &mut None)? {
            inner.note_queued(number, &entries);
        }
        Ok(())
    }
}

/// A commit on its way into the journal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queued {
    pub(super) number: GroupNumber,
    /// `None`: it takes a commit back.
    offset: Option<Offset>,
}

impl Inner {
    /// Notes what is on its way into the journal.
    fn note_queued(&mut self, number: GroupNumber, entries: &[GroupEntry]) {
        for entry in entries {
            match &entry.change {
                GroupChange::Offset { log, committed } => {
                    let offset = committed.as_ref().map(|committed| committed.offset);
                    // Now, so that every later state of the group has it, as the store will.
                    if offset.is_none() && KeptState::is_added(&self.first_partitions, *log) {
                        self.taken_back.insert(*log);
                    }
                    self.queued.insert(*log, Queued { number, offset });
                }
                GroupChange::Delete => {
                    let logs: Vec<LogId> = self.offsets.keys().chain(self.queued.keys()).copied().collect();
                    self.queued.extend(logs.into_iter().map(|log| (log, Queued { number, offset: None })));
                }
                GroupChange::State(_) => {}
            }
        }
    }

    /// What was committed last of a partition, be it acknowledged or on its way. What is done was taken out of `queued` before.
    fn last_committed(&self, log: LogId) -> Option<Offset> {
        match self.queued.get(&log) {
            Some(queued) => queued.offset,
            None => self.offsets.get(&log).map(|committed| committed.offset),
        }
    }
}

fn entry(group: &Group, (partition, log, offset): &PartitionOffset, now_ms: i64) -> Result<GroupEntry> {
    let size = offset.metadata.len();
    if size > MAX_METADATA {
        return Err(Error::OffsetMetadataTooLarge { partition: partition.clone(), size, limit: MAX_METADATA });
    }
    let committed =
        CommittedOffset { offset: offset.offset, metadata: offset.metadata.as_str().into(), committed_ms: now_ms };
    Ok(GroupEntry { group: group.name.clone(), change: GroupChange::Offset { log: *log, committed: Some(committed) } })
}

fn check_committer(group: &Group, inner: &Inner, committer: Committer<'_>, offsets: &[PartitionOffset]) -> Result<()> {
    let failed = |reason: String| Err(Error::CommitFailed { group: group.name.as_str().to_owned(), reason });
    match committer {
        Committer::Outsider if inner.coordinator.has_members() => {
            Err(Error::UnknownMemberId { group: group.name.as_str().to_owned() })
        }
        Committer::Outsider => Ok(()),
        Committer::Member(id) if inner.coordinator.member(id).is_none() => failed(format!(
            "the member {id} did not poll within `max_poll_interval`, or was removed: its partitions may be another \
             member's; poll to join again"
        )),
        Committer::Member(id) => {
            let taken =
                offsets.iter().find(|(_, log, _)| inner.coordinator.owner(*log).is_some_and(|owner| owner != id));
            match taken {
                Some((partition, ..)) => failed(format!("partition {partition} is another member's by now")),
                None => Ok(()),
            }
        }
    }
}
