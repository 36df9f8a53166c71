//! Committing: what a restart resumes at.

use super::handle::Consumer;
use crate::engine::PartitionOffset;
use crate::error::Result;
use crate::group::OffsetAndMetadata;
use crate::types::TopicPartition;

/// Committing. A commit is an entry of the journal like a record, behind the records that it covers: it is as durable as the
/// broker's [`Durability`](crate::Durability) says, and commits of many threads share syncs.
///
/// # Errors
///
/// All of these fail with
/// - [`InvalidGroupId`](crate::Error::InvalidGroupId) without a group id;
/// - [`CommitFailed`](crate::Error::CommitFailed) when this consumer lost its membership, or one of the partitions to another
///   member (C-37): what it read will be read again there;
/// - [`UnknownMemberId`](crate::Error::UnknownMemberId) when this consumer was assigned its partitions and the group has
///   members (C-5);
/// - [`OffsetMetadataTooLarge`](crate::Error::OffsetMetadataTooLarge),
///   [`UnknownTopicOrPartition`](crate::Error::UnknownTopicOrPartition);
/// - [`BufferExhausted`](crate::Error::BufferExhausted), [`StorageFull`](crate::Error::StorageFull) and the other failures of a
///   send.
///
/// Then nothing was committed.
impl Consumer {
    /// Commits the positions of all assigned partitions that have one (C-32), and waits until that is done and every commit
    /// before it. Partitions of a topic that was deleted are left out.
    ///
    /// Commit *after* the records were processed, and each is processed at least once; commit before, and each is processed at
    /// most once.
    ///
    /// # Errors
    ///
    /// As every commit: see above. Then nothing was committed.
    pub fn commit(&mut self) -> Result<()> {
        let positions = self.positions_to_commit();
        self.commit_and_wait(&positions)
    }

    /// Commits these offsets, all or none, and waits until that is done and every commit before it. An offset is that of the
    /// *next* record to read: the last processed one's plus 1. It may go back, and is not checked against the log (C-33).
    ///
    /// ```
    /// # use brooklet::{Broker, NewTopic, OffsetAndMetadata, TopicPartition};
    /// # let broker = Broker::in_memory()?;
    /// # broker.create_topic(NewTopic::new("orders", 1))?;
    /// let orders = TopicPartition::new("orders", 0);
    /// let mut consumer = broker.consumer().group("billing").assign([orders.clone()])?;
    /// consumer.commit_offsets([(orders.clone(), OffsetAndMetadata::new(5).metadata("by host 7"))])?;
    /// assert_eq!(consumer.committed([&orders])?[0].1.as_ref().unwrap().offset, 5);
    /// # Ok::<(), brooklet::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As every commit: see above. Then nothing was committed.
    pub fn commit_offsets<P: Into<TopicPartition>, O: Into<OffsetAndMetadata>>(
        &mut self,
        offsets: impl IntoIterator<Item = (P, O)>,
    ) -> Result<()> {
        let offsets = self.engine().name_logs(offsets)?;
        self.commit_and_wait(&offsets)
    }

    /// Commits the positions like [`commit`](Consumer::commit), without waiting. `callback` is called once with what became of
    /// it, in the order of the commits (C-35), in the thread that writes them, as a
    /// [send's](crate::Producer::send_with): it must not wait for the broker. When no partition has a position there is nothing to
    /// commit: the callback is called all the same, after those of earlier commits.
    ///
    /// # Errors
    ///
    /// As every commit: see above. Then nothing was committed, and the callback is not called.
    pub fn commit_async(&mut self, callback: impl FnOnce(Result<()>) + Send + 'static) -> Result<()> {
        let positions = self.positions_to_commit();
        self.push_commit(&positions, Some(Box::new(callback)))
    }

    /// Commits these offsets like [`commit_offsets`](Consumer::commit_offsets), without waiting; with a callback as
    /// [`commit_async`](Consumer::commit_async).
    ///
    /// # Errors
    ///
    /// As every commit: see above. Then nothing was committed.
    pub fn commit_offsets_async<P: Into<TopicPartition>, O: Into<OffsetAndMetadata>>(
        &mut self,
        offsets: impl IntoIterator<Item = (P, O)>,
        callback: impl FnOnce(Result<()>) + Send + 'static,
    ) -> Result<()> {
        let offsets = self.engine().name_logs(offsets)?;
        self.push_commit(&offsets, Some(Box::new(callback)))
    }

    /// What the group committed of these partitions; `None` where it did not, and for partitions that do not exist (C-34).
    ///
    /// # Errors
    ///
    /// [`InvalidGroupId`](crate::Error::InvalidGroupId) without a group id; [`Closed`](crate::Error::Closed).
    pub fn committed<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<Vec<(TopicPartition, Option<OffsetAndMetadata>)>> {
        let engine = self.engine();
        engine.check_open()?;
        let group = &self.membership_ref()?.group;
        let committed = |partition: &TopicPartition| {
            let topic = engine.topic(partition.topic()).ok()?;
            engine.committed(group, topic.partition(partition.partition()).ok()?.id)
        };
        Ok(partitions.into_iter().map(|partition| (partition.clone(), committed(partition))).collect())
    }

    fn positions_to_commit(&self) -> Vec<PartitionOffset> {
        let with_metadata = |(partition, log, offset)| (partition, log, OffsetAndMetadata::new(offset));
        self.assignment.offsets().into_iter().map(with_metadata).collect()
    }

    fn commit_and_wait(&mut self, offsets: &[PartitionOffset]) -> Result<()> {
        self.push_commit(offsets, None)?;
        self.wait_for_commits()
    }

    fn push_commit(
        &mut self,
        offsets: &[PartitionOffset],
        callback: Option<Box<dyn FnOnce(Result<()>) + Send>>,
    ) -> Result<()> {
        let engine = std::sync::Arc::clone(self.engine());
        engine.check_open()?;
        let membership = self.membership_mut()?;
        let committer = membership.committer()?;
        if offsets.is_empty() {
            if let Some(callback) = callback {
                engine.call_after(membership.pending, callback);
            }
            return Ok(());
        }
        let number = engine.commit_offsets(&membership.group, committer, offsets, callback)?;
        membership.pending = Some(number);
        Ok(())
    }

    /// Waits until everything that this consumer committed is.
    pub(super) fn wait_for_commits(&mut self) -> Result<()> {
        let pending = self.membership.as_mut().and_then(|membership| membership.pending.take());
        match pending {
            Some(number) => self.engine().wait_for(number, None).map(drop),
            None => Ok(()),
        }
    }

    /// Commits the positions if that happens automatically and is due. What fails is tried again by the next poll.
    pub(super) fn auto_commit_if_due(&mut self) {
        let now_ms = self.monotonic_ms();
        if self.membership.as_ref().is_some_and(|membership| membership.auto_commit_at_ms <= now_ms)
            && self.auto_commit().is_ok()
        {
            let next_ms = self.options.auto_commit_after(now_ms);
            if let Some(membership) = &mut self.membership {
                membership.auto_commit_at_ms = next_ms;
            }
        }
    }

    /// Commits the positions that differ from what the group committed, without waiting, if commits are automatic (C-36). What
    /// counts is the group's own record of it: others may have changed it since this consumer committed last.
    pub(super) fn auto_commit(&mut self) -> Result<()> {
        if self.options.auto_commit_interval.is_none() {
            return Ok(());
        }
        let Some(membership) = &self.membership else { return Ok(()) };
        let positions = self.positions_to_commit();
        let moved = self.engine().not_yet_committed(&membership.group, positions);
        if moved.is_empty() { Ok(()) } else { self.push_commit(&moved, None) }
    }
}
