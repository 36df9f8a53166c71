//! Range: neighbours stay together.

use super::{Assignor, GroupAssignment, GroupSpec};
use crate::error::Result;
use crate::types::TopicPartition;

/// Kafka's `range`: of each topic, every subscriber gets a run of neighbouring partitions; when they don't come out even, the
/// first ones get one more (G-12).
///
/// Topics of equal partition counts and equal subscribers are shared equally, so that what has the same key in both comes
/// to the same member: choose it to join topics.
#[derive(Debug, Clone, Copy, Default)]
pub struct RangeAssignor;

impl Assignor for RangeAssignor {
    fn name(&self) -> &'static str {
        "range"
    }

    fn assign(&self, group: &GroupSpec) -> Result<GroupAssignment> {
        let mut given = vec![Vec::new(); group.members().len()];
        for (topic, members) in group.subscribers() {
            let partitions = group.topics().get(topic).map_or(0, |&count| count as usize);
            let (each, more) = (partitions / members.len(), partitions % members.len());
            let mut numbers = 0..;
            for (i, &member) in members.iter().enumerate() {
                let share = each + usize::from(i < more);
                if let Some(given) = given.get_mut(member) {
                    given.extend(numbers.by_ref().take(share).map(|partition| TopicPartition::new(topic, partition)));
                }
            }
        }
        given.iter_mut().for_each(|partitions| partitions.sort());
        Ok(group.assignment(given))
    }
}
