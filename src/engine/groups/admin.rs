//! Looking at groups, and changing them from outside.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::offsets::{Committer, PartitionOffset};
use super::{Group, Inner};
use crate::codec::{GroupChange, GroupEntry};
use crate::config::millis;
use crate::engine::sequencer::Sequencer;
use crate::engine::{Engine, PartitionLog, Topic};
use crate::error::{Error, Result};
use crate::group::{
    GroupDescription, GroupListing, GroupName, MemberDescription, OffsetAndMetadata, OffsetChange, PartitionLag,
    ResetTo,
};
use crate::types::{LogId, Offset, OffsetSpec, TopicPartition};

impl Engine {
    /// All groups, by name.
    pub(crate) fn list_groups(&self) -> Result<Vec<GroupListing>> {
        self.check_open()?;
        let mut listed = Vec::new();
        for name in self.group_names()? {
            let group = self.group(&name)?;
            let inner = group.inner.lock();
            if inner.exists() {
                listed.push(GroupListing { name, state: inner.coordinator.state() });
            }
        }
        Ok(listed)
    }

    /// The names of all groups, also of some that do not exist any more.
    pub(super) fn group_names(&self) -> Result<BTreeSet<GroupName>> {
        let mut names: BTreeSet<GroupName> = self.store.group_names()?.into_iter().collect();
        names.extend(self.groups.loaded.lock().keys().cloned());
        Ok(names)
    }

    /// A group that exists.
    pub(crate) fn existing_group(&self, name: &str) -> Result<Arc<Group>> {
        self.check_open()?;
        let group = self.group(&GroupName::new(name)?)?;
        if group.inner.lock().exists() { Ok(group) } else { Err(Error::GroupIdNotFound { group: name.to_owned() }) }
    }

    /// The members of a group, and how far it got.
    pub(crate) fn describe_group(&self, name: &str) -> Result<GroupDescription> {
        let group = self.existing_group(name)?;
        let topics = self.topics();
        let inner = group.inner.lock();
        let logs: Vec<&PartitionLog> =
            topics.iter().flat_map(|topic| topic.partitions.iter()).map(|log| &**log).collect();
        let names: HashMap<LogId, &TopicPartition> = logs.iter().map(|log| (log.id, &log.name)).collect();
        let name_of = |log: LogId| names.get(&log).map(|name| TopicPartition::clone(name));
        let members = inner.coordinator.members().map(|(id, member)| MemberDescription {
            member_id: id.to_string(),
            instance_id: member.request.instance_id.clone(),
            client_id: member.request.client_id.clone(),
            epoch: member.epoch,
            subscription: member.request.subscription.names(),
            assignment: member.owned.keys().filter_map(|log| name_of(*log)).collect(),
            target: inner.coordinator.target_of(id).filter_map(name_of).collect(),
        });
        let partitions = logs.iter().filter_map(|log| inner.lag_of(log));
        Ok(GroupDescription {
            name: group.name.clone(),
            state: inner.coordinator.state(),
            epoch: inner.coordinator.epoch(),
            assignor: inner.coordinator.assignor().name.as_ref().to_owned(),
            members: members.collect(),
            partitions: partitions.collect(),
        })
    }

    /// G-60.
    pub(crate) fn delete_group(&self, name: &str) -> Result<()> {
        self.check_writable()?;
        let group = self.existing_group(name)?;
        let entry = GroupEntry { group: group.name.clone(), change: GroupChange::Delete };
        let number = self.push_checked(&group, &[entry], None, |inner, _| check_empty(&group, inner))?;
        self.wait_for(number, None).map(drop)
    }

    /// G-61.
    pub(crate) fn delete_group_offsets(&self, name: &str, partitions: &[TopicPartition]) -> Result<()> {
        self.check_writable()?;
        let group = self.existing_group(name)?;
        let mut entries = Vec::new();
        for partition in partitions {
            let log = self.topic(partition.topic())?.partition(partition.partition())?.id;
            let change = GroupChange::Offset { log, committed: None };
            entries.push(GroupEntry { group: group.name.clone(), change });
        }
        let check = |inner: &Inner, _: &Sequencer| {
            let subscribed = |topic: &str| inner.coordinator.topics().any(|read| read.name.as_str() == topic);
            match partitions.iter().find(|partition| subscribed(partition.topic())) {
                Some(partition) => {
                    Err(Error::GroupSubscribedToTopic { group: name.to_owned(), topic: partition.topic().to_owned() })
                }
                None => Ok(()),
            }
        };
        if entries.is_empty() {
            return Ok(());
        }
        let number = self.push_checked(&group, &entries, None, check)?;
        self.wait_for(number, None).map(drop)
    }

    /// G-62. Makes the group if there is none.
    pub(crate) fn alter_group_offsets(&self, name: &str, offsets: &[PartitionOffset]) -> Result<()> {
        self.check_writable()?;
        let group = self.group(&GroupName::new(name)?)?;
        if offsets.is_empty() {
            return Ok(());
        }
        let number = self.commit_offsets(&group, Committer::Outsider, offsets, None)?;
        self.wait_for(number, None).map(drop)
    }

    /// Where a reset would bring the group's partitions (G-64). Nothing is changed.
    pub(crate) fn plan_reset(
        &self,
        name: &str,
        partitions: &[TopicPartition],
        to: ResetTo,
    ) -> Result<Vec<(OffsetChange, LogId)>> {
        self.check_open()?;
        let group = self.group(&GroupName::new(name)?)?;
        check_empty(&group, &group.inner.lock())?;
        let mut outcomes = Vec::new();
        for partition in partitions {
            let topic = self.topic(partition.topic())?;
            let log = topic.partition(partition.partition())?;
            let before = self.committed(&group, log.id).map(|committed| committed.offset);
            let after = self.reset_target(log, before, to)?;
            let after = after.clamp(log.log_start(), log.end());
            outcomes.push((OffsetChange { partition: partition.clone(), before, after }, log.id));
        }
        Ok(outcomes)
    }

    fn reset_target(&self, log: &PartitionLog, committed: Option<Offset>, to: ResetTo) -> Result<Offset> {
        let time = |timestamp: i64| {
            let found = self.offset_of(log, OffsetSpec::Timestamp(timestamp.max(0)))?.0;
            Ok(found.unwrap_or(log.end()))
        };
        match to {
            ResetTo::Earliest => Ok(log.log_start()),
            ResetTo::Latest => Ok(log.end()),
            ResetTo::Current => Ok(committed.unwrap_or(log.end())),
            ResetTo::Offset(offset) => Ok(offset),
            ResetTo::ShiftBy(by) => match committed {
                Some(offset) => Ok(Offset::new(offset.get().saturating_add_signed(by))),
                None => Err(Error::illegal_argument(format!(
                    "nothing is committed for partition {}: there is nothing to shift, choose an offset or a time",
                    log.name
                ))),
            },
            ResetTo::Timestamp(timestamp) if timestamp < 0 => {
                Err(Error::illegal_argument(format!("timestamp {timestamp} is negative: give milliseconds since 1970")))
            }
            ResetTo::Timestamp(timestamp) => time(timestamp),
            ResetTo::ByDuration(age) => time(self.options.clock.now_ms().saturating_sub(millis(age))),
        }
    }

    /// All partitions of the topics that the group committed offsets of.
    pub(crate) fn group_partitions(&self, name: &str) -> Result<Vec<TopicPartition>> {
        let group = self.existing_group(name)?;
        let topics = self.topics();
        let inner = group.inner.lock();
        let is_read = |topic: &&Arc<Topic>| inner.offsets.keys().any(|log| log.topic == topic.number);
        let logs = topics.iter().filter(is_read).flat_map(|topic| &topic.partitions);
        Ok(logs.map(|log| log.name.clone()).collect())
    }

    /// Finds the partitions that offsets are for.
    pub(crate) fn name_logs<P: Into<TopicPartition>, O: Into<OffsetAndMetadata>>(
        &self,
        offsets: impl IntoIterator<Item = (P, O)>,
    ) -> Result<Vec<PartitionOffset>> {
        let find = |(partition, offset): (P, O)| {
            let partition: TopicPartition = partition.into();
            let log = self.topic(partition.topic())?.partition(partition.partition())?.id;
            Ok((partition, log, offset.into()))
        };
        offsets.into_iter().map(find).collect()
    }
}

fn check_empty(group: &Group, inner: &Inner) -> Result<()> {
    match inner.coordinator.members().count() {
        0 => Ok(()),
        members => Err(Error::GroupNotEmpty { group: group.name.as_str().to_owned(), members }),
    }
}

impl Inner {
    /// How far the group got in a partition; `None` when it neither committed there nor reads it.
    fn lag_of(&self, log: &PartitionLog) -> Option<PartitionLag> {
        let committed = self.offsets.get(&log.id);
        let owner = self.coordinator.owner(log.id);
        if committed.is_none() && owner.is_none() {
            return None;
        }
        let end = log.end();
        Some(PartitionLag {
            partition: log.name.clone(),
            committed: committed.map(OffsetAndMetadata::from),
            log_start: log.log_start(),
            end,
            lag: committed.map(|committed| end - committed.offset.max(log.log_start())),
            member_id: owner.map(ToString::to_string),
        })
    }
}
