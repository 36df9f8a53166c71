//! What an application does when its partitions change.

use super::handle::Consumer;
use crate::types::TopicPartition;

/// What a callback of a [`RebalanceListener`] returns: any error.
pub type ListenerResult = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Is told when partitions come to a consumer of a group, and when they go.
///
/// The callbacks run on the consumer's own thread, only within its [`poll`](Consumer::poll),
/// [`unsubscribe`](Consumer::unsubscribe) and [`close`](Consumer::close); what is taken away is told before what is given
/// (C-44). They get the consumer: they may ask for and set positions, pause, and commit (C-47), but not poll, subscribe,
/// assign or close. The old owner's `on_partitions_revoked` returns before the new owner's `on_partitions_assigned` begins.
///
/// An error does not stop the rebalance; `poll` returns it afterwards as
/// [`Error::RebalanceListener`](crate::Error::RebalanceListener). A callback that panics is treated like one that returns an error.
/// The time in a callback counts towards [`max_poll_interval`](crate::ConsumerBuilder::max_poll_interval). If a callback changes
/// the group itself, as by polling another consumer of it, the group may need another rebalance: this poll or the next does that.
///
/// ```
/// use brooklet::{Broker, Consumer, ListenerResult, NewTopic, OffsetReset, RebalanceListener, TopicPartition};
/// use std::sync::mpsc;
/// use std::time::Duration;
///
/// struct Tell(mpsc::Sender<Vec<TopicPartition>>);
///
/// impl RebalanceListener for Tell {
///     fn on_partitions_assigned(&mut self, _consumer: &mut Consumer, partitions: &[TopicPartition]) -> ListenerResult {
///         Ok(self.0.send(partitions.to_vec())?)
///     }
///
///     fn on_partitions_revoked(&mut self, consumer: &mut Consumer, _partitions: &[TopicPartition]) -> ListenerResult {
///         Ok(consumer.commit()?)
///     }
/// }
///
/// let broker = Broker::in_memory()?;
/// broker.create_topic(NewTopic::new("orders", 2))?;
/// let (sender, assigned) = mpsc::channel();
/// let mut consumer = broker.consumer().group("billing").offset_reset(OffsetReset::Earliest).subscribe(["orders"])?;
/// consumer.set_rebalance_listener(Tell(sender))?;
/// consumer.poll(Duration::ZERO)?;
/// assert_eq!(assigned.recv().unwrap(), consumer.assignment());
/// # Ok::<(), brooklet::Error>(())
/// ```
pub trait RebalanceListener: Send {
    /// The consumer reads these partitions from now on, beside those that it had. Called with none when a rebalance changed
    /// nothing for it.
    ///
    /// # Errors
    ///
    /// Any: `poll` returns it when the rebalance is done.
    fn on_partitions_assigned(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) -> ListenerResult {
        let _ = (consumer, partitions);
        Ok(())
    }

    /// The consumer is about to lose these partitions: the last moment to commit.
    ///
    /// # Errors
    ///
    /// Any: `poll` returns it when the rebalance is done.
    fn on_partitions_revoked(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) -> ListenerResult {
        let _ = (consumer, partitions);
        Ok(())
    }

    /// The consumer has lost these partitions, as it did not poll in time or was removed; they may be another's already, and
    /// commits fail (C-46). Does what `on_partitions_revoked` does, unless it is implemented.
    ///
    /// # Errors
    ///
    /// Any: `poll` returns it when the rebalance is done.
    fn on_partitions_lost(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) -> ListenerResult {
        self.on_partitions_revoked(consumer, partitions)
    }
}
