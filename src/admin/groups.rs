//! Administration of consumer groups.

use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::group::{GroupDescription, GroupListing, OffsetAndMetadata, OffsetChange, ResetTo};
use crate::types::TopicPartition;

/// Groups. What changes a group returns when the change is as durable as the broker's [`Durability`](crate::Durability) says.
impl Broker {
    /// All groups, by name: those with members, and those that committed offsets.
    ///
    /// # Errors
    ///
    /// [`Closed`](Error::Closed), or a failure to read the store.
    pub fn groups(&self) -> Result<Vec<GroupListing>> {
        self.engine().list_groups()
    }

    /// The members of a group, what each owns, and how far the group got.
    ///
    /// ```
    /// use brooklet::{Broker, GroupState, NewTopic, OffsetReset, ProducerRecord};
    /// use std::time::Duration;
    ///
    /// let broker = Broker::in_memory()?;
    /// broker.create_topic(NewTopic::new("orders", 1))?;
    /// for _ in 0..3 {
    ///     broker.producer().send(ProducerRecord::to("orders").value("an order"))?.wait()?;
    /// }
    /// let mut consumer =
    ///     broker.consumer().group("billing").offset_reset(OffsetReset::Earliest).max_poll_records(1).subscribe(["orders"])?;
    /// consumer.poll(Duration::ZERO)?;
    /// consumer.commit()?;
    ///
    /// let group = broker.describe_group("billing")?;
    /// assert_eq!(group.state, GroupState::Stable);
    /// assert_eq!(group.partitions[0].lag, Some(2));
    /// # Ok::<(), brooklet::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`GroupIdNotFound`](Error::GroupIdNotFound), [`InvalidGroupId`](Error::InvalidGroupId), [`Closed`](Error::Closed).
    pub fn describe_group(&self, group: &str) -> Result<GroupDescription> {
        self.engine().describe_group(group)
    }

    /// Deletes a group without members, and what it committed (G-60).
    ///
    /// # Errors
    ///
    /// [`GroupNotEmpty`](Error::GroupNotEmpty), [`GroupIdNotFound`](Error::GroupIdNotFound), and those of every change.
    pub fn delete_group(&self, group: &str) -> Result<()> {
        self.engine().delete_group(group)
    }

    /// Takes commits back (G-61): a consumer of these partitions starts by its reset rule. A partition that nothing was
    /// committed of is no error.
    ///
    /// # Errors
    ///
    /// [`GroupSubscribedToTopic`](Error::GroupSubscribedToTopic) when a member reads the topic;
    /// [`GroupIdNotFound`](Error::GroupIdNotFound), [`UnknownTopicOrPartition`](Error::UnknownTopicOrPartition).
    /// Then nothing changed.
    pub fn delete_group_offsets<'a>(
        &self,
        group: &str,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<()> {
        let partitions: Vec<_> = partitions.into_iter().cloned().collect();
        self.engine().delete_group_offsets(group, &partitions)
    }

    /// Commits offsets in the name of a group without members (G-62), all or none. Makes the group if there is none. As with
    /// every commit the offsets may lie anywhere: what is outside the log is put right when it is read (C-22).
    ///
    /// # Errors
    ///
    /// [`UnknownMemberId`](Error::UnknownMemberId) when the group has members;
    /// [`UnknownTopicOrPartition`](Error::UnknownTopicOrPartition), [`InvalidGroupId`](Error::InvalidGroupId),
    /// [`OffsetMetadataTooLarge`](Error::OffsetMetadataTooLarge). Then nothing changed.
    pub fn alter_group_offsets<P: Into<TopicPartition>, O: Into<OffsetAndMetadata>>(
        &self,
        group: &str,
        offsets: impl IntoIterator<Item = (P, O)>,
    ) -> Result<()> {
        let offsets = self.engine().name_logs(offsets)?;
        self.engine().alter_group_offsets(group, &offsets)
    }

    /// What [`reset_group_offsets`](Broker::reset_group_offsets) would do: a dry run.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn plan_group_reset<'a>(
        &self,
        group: &str,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
        to: ResetTo,
    ) -> Result<Vec<OffsetChange>> {
        let partitions: Vec<_> = partitions.into_iter().cloned().collect();
        let planned = self.engine().plan_reset(group, &partitions, to)?;
        Ok(planned.into_iter().map(|(change, _)| change).collect())
    }

    /// Moves what a group without members committed of these partitions (G-64), all or none, and says from where to where.
    /// [`group_partitions`](Broker::group_partitions) gives all partitions of the topics that it reads.
    ///
    /// ```
    /// use brooklet::{Broker, NewTopic, ProducerRecord, ResetTo, TopicPartition};
    ///
    /// let broker = Broker::in_memory()?;
    /// broker.create_topic(NewTopic::new("orders", 1))?;
    /// broker.producer().send(ProducerRecord::to("orders").value("an order"))?.wait()?;
    /// let orders = TopicPartition::new("orders", 0);
    /// broker.alter_group_offsets("billing", [(orders.clone(), 1)])?;
    ///
    /// let changes = broker.reset_group_offsets("billing", [&orders], ResetTo::ShiftBy(-1))?;
    /// assert_eq!((changes[0].before.unwrap(), changes[0].after), (1.into(), 0.into()));
    /// # Ok::<(), brooklet::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`GroupNotEmpty`](Error::GroupNotEmpty); [`IllegalArgument`](Error::IllegalArgument) for a negative timestamp, or a shift
    /// where nothing is committed; [`UnknownTopicOrPartition`](Error::UnknownTopicOrPartition). Then nothing changed.
    pub fn reset_group_offsets<'a>(
        &self,
        group: &str,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
        to: ResetTo,
    ) -> Result<Vec<OffsetChange>> {
        let partitions: Vec<_> = partitions.into_iter().cloned().collect();
        let engine = self.engine();
        let planned = engine.plan_reset(group, &partitions, to)?;
        let offset =
            |(change, log): &(OffsetChange, _)| (change.partition.clone(), *log, OffsetAndMetadata::new(change.after));
        engine.alter_group_offsets(group, &planned.iter().map(offset).collect::<Vec<_>>()).map_err(|error| {
            // Somebody joined between the plan and the change.
            match error {
                Error::UnknownMemberId { group, .. } => Error::GroupNotEmpty { group, members: 1 },
                other => other,
            }
        })?;
        Ok(planned.into_iter().map(|(change, _)| change).collect())
    }

    /// All partitions of the topics that a group committed offsets of, by topic and number.
    ///
    /// # Errors
    ///
    /// [`GroupIdNotFound`](Error::GroupIdNotFound), [`Closed`](Error::Closed).
    pub fn group_partitions(&self, group: &str) -> Result<Vec<TopicPartition>> {
        self.engine().group_partitions(group)
    }

    /// Removes static members by their instance ids, whether they are here or away (G-54): what they own goes to the others at
    /// once. One that is here joins again at its next `poll`. An instance id that nobody has is no error.
    ///
    /// # Errors
    ///
    /// [`GroupIdNotFound`](Error::GroupIdNotFound), [`Closed`](Error::Closed).
    pub fn remove_group_members<'a>(&self, group: &str, instance_ids: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let instance_ids: Vec<_> = instance_ids.into_iter().collect();
        self.engine().remove_instances(group, &instance_ids)
    }
}
