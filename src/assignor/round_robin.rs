//! One partition after the other, in turns.

use super::spec::GroupSpec;
use super::topic::{Rank, Shares, subscribed_topics};
use super::{Assignor, GroupAssignment};
use crate::error::Result;

/// Kafka's `roundrobin`: deals all partitions of all topics in turns (G-13).
///
/// The turn of a member that does not subscribe to the topic is left out; so with different subscriptions it may come out
/// uneven. What the members have does not count: when one joins or leaves, most partitions move.
/// [`UniformAssignor`](super::UniformAssignor) is better at both.
///
/// ```
/// use brooklet::{Assignor, GroupSpec, MemberSpec, RoundRobinAssignor, TopicPartition};
///
/// let members = ["a", "b"].map(|id| MemberSpec::new(id).topics(["bills", "orders"]));
/// let group = GroupSpec::new(members, [("bills", 1), ("orders", 2)]);
/// let assignment = RoundRobinAssignor.assign(&group)?;
/// assert_eq!(assignment.of("a"), [TopicPartition::new("bills", 0), TopicPartition::new("orders", 1)]);
/// assert_eq!(assignment.of("b"), [TopicPartition::new("orders", 0)]);
/// # Ok::<(), brooklet::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct RoundRobinAssignor;

impl Assignor for RoundRobinAssignor {
    fn name(&self) -> &'static str {
        "roundrobin"
    }

    fn assign(&self, group: &GroupSpec) -> Result<GroupAssignment> {
        let mut shares = Shares::new(group);
        let mut turn = Rank(0);
        for topic in subscribed_topics(group) {
            let first = topic.subscribers.partition_point(|subscriber| *subscriber < turn);
            let in_turn = topic.subscribers.iter().cycle().skip(first);
            for (partition, &rank) in topic.partitions().zip(in_turn) {
                shares.give(rank, partition);
                turn = Rank(rank.0 + 1);
            }
        }
        Ok(shares.into_assignment(group))
    }
}
