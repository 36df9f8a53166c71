//! Topic by topic, neighbours together.

use std::collections::BTreeMap;

use super::spec::GroupSpec;
use super::topic::{Rank, Shares, SubscribedTopic, quotas, subscribed_topics};
use super::{Assignor, GroupAssignment};
use crate::error::Result;
use crate::types::TopicPartition;

/// Kafka's `range`: divides each topic among its subscribers (G-12), in the sticky form that KIP-848 gave it (G-15).
///
/// In a new group the first subscriber gets the first partitions of the topic, the second one the next, and so on; when they
/// don't come out even, the first subscribers get one more each. So a topic with fewer partitions than subscribers leaves the
/// last ones without: choose it when topics belong together, and [`UniformAssignor`](super::UniformAssignor) when not.
///
/// # Which topics are divided the same way?
///
/// Those with the same number of partitions and the same subscribers: partition 4 has one owner in all of them. Records whose
/// keys are equal meet there, which is what a join needs.
///
/// # What moves when a member joins or leaves?
///
/// Everybody keeps what it has as far as its share allows, so that shares need not be neighbours any more; what is over fills
/// up the others in their order.
///
/// ```
/// use brooklet::{Assignor, GroupSpec, MemberSpec, RangeAssignor, TopicPartition};
///
/// let members = ["a", "b"].map(|id| MemberSpec::new(id).topics(["bills", "orders"]));
/// let group = GroupSpec::new(members, [("bills", 3), ("orders", 3)]);
/// let assignment = RangeAssignor.assign(&group)?;
/// assert_eq!(assignment.of("b"), [TopicPartition::new("bills", 2), TopicPartition::new("orders", 2)]);
/// # Ok::<(), brooklet::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct RangeAssignor;

impl Assignor for RangeAssignor {
    fn name(&self) -> &'static str {
        "range"
    }

    fn assign(&self, group: &GroupSpec) -> Result<GroupAssignment> {
        let topics = subscribed_topics(group);
        let mut alike: BTreeMap<_, Vec<&SubscribedTopic<'_>>> = BTreeMap::new();
        for topic in &topics {
            alike.entry((&topic.subscribers, topic.partition_count())).or_default().push(topic);
        }
        let mut shares = Shares::new(group);
        for ((subscribers, partitions), topics) in alike {
            let owners = divide(subscribers, owners_of_all(partitions, &topics));
            for topic in topics {
                for (partition, owner) in (0_u32..).zip(&owners) {
                    shares.give(*owner, TopicPartition::new(topic.name, partition));
                }
            }
        }
        Ok(shares.into_assignment(group))
    }
}

/// The owner of each partition number, in topics that are divided the same way: that of the first topic in which it has one.
fn owners_of_all(partitions: usize, topics: &[&SubscribedTopic<'_>]) -> Vec<Option<Rank>> {
    let nobody = std::iter::repeat_n(None, partitions).collect();
    topics.iter().fold(nobody, |known: Vec<Option<Rank>>, topic| {
        known.into_iter().zip(topic.owners()).map(|(known, owner)| known.or(owner)).collect()
    })
}

/// Divides the partitions of a topic that are owned like this among its subscribers.
fn divide(subscribers: &[Rank], owners: Vec<Option<Rank>>) -> Vec<Rank> {
    let mut owned = BTreeMap::new();
    for rank in owners.iter().flatten() {
        *owned.entry(*rank).or_insert(0_usize) += 1;
    }
    let mut room = quotas(subscribers, owners.len(), |rank| owned.get(&rank).copied().unwrap_or(0));
    // Everybody keeps the first of what it has, as many as it may.
    let mut keeps = |owner: &Rank| match room.get_mut(owner) {
        Some(room @ 1..) => {
            *room -= 1;
            true
        }
        Some(0) | None => false,
    };
    let kept: Vec<_> = owners.into_iter().map(|owner| owner.filter(&mut keeps)).collect();
    // The room that is left is exactly what is missing.
    let mut next = room.iter().flat_map(|(rank, room)| std::iter::repeat_n(*rank, *room));
    kept.into_iter().filter_map(|owner| owner.or_else(|| next.next())).collect()
}
