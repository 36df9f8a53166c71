//! Round robin: one after the other.

use super::{Assignor, GroupAssignment, GroupSpec};
use crate::error::Result;
use crate::types::TopicPartition;

/// Kafka's `roundrobin`: all partitions in order, dealt around the members; who does not subscribe to the topic is passed over
/// (G-13).
///
/// When members subscribe to different topics it may come out uneven (G-25), and any change moves much:
/// [`UniformAssignor`](super::UniformAssignor) is better at both.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoundRobinAssignor;

impl Assignor for RoundRobinAssignor {
    fn name(&self) -> &'static str {
        "roundrobin"
    }

    fn assign(&self, group: &GroupSpec) -> Result<GroupAssignment> {
        let mut given = vec![Vec::new(); group.members().len()];
        let subscribers = group.subscribers();
        let mut next = 0;
        for (topic, &count) in group.topics() {
            let Some(members) = subscribers.get(topic.as_str()) else { continue };
            for partition in 0..count {
                // The first subscriber whose turn it is or comes; behind the last one it is the first one's again.
                let turn = members.partition_point(|&member| member < next);
                let Some(&member) = members.get(turn).or(members.first()) else { continue };
                if let Some(given) = given.get_mut(member) {
                    given.push(TopicPartition::new(topic, partition));
                }
                next = member + 1;
            }
        }
        Ok(group.assignment(given))
    }
}
