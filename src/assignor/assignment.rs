//! What an assignor decides.

use std::collections::{BTreeMap, HashMap};

use super::spec::{GroupSpec, MemberSpec};
use super::topic::{SubscribedTopic, subscribed_topics};
use crate::error::{Error, Result};
use crate::types::TopicPartition;

/// Who shall have what, by member id. [`Assignor`](super::Assignor) has an example.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupAssignment {
    given: BTreeMap<String, Vec<TopicPartition>>,
}

impl GroupAssignment {
    /// Gives partitions to a member, besides those that it was given before.
    pub fn give(&mut self, member_id: impl Into<String>, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.given.entry(member_id.into()).or_default().extend(partitions);
    }

    /// What a member was given.
    pub fn of(&self, member_id: &str) -> &[TopicPartition] {
        self.given.get(member_id).map_or(&[], Vec::as_slice)
    }

    /// The members, by id, and what each was given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[TopicPartition])> {
        self.given.iter().map(|(member, given)| (member.as_str(), given.as_slice()))
    }
}

/// From member ids with what each is given; one that comes twice is given both.
impl FromIterator<(String, Vec<TopicPartition>)> for GroupAssignment {
    fn from_iter<I: IntoIterator<Item = (String, Vec<TopicPartition>)>>(members: I) -> Self {
        let mut assignment = Self::default();
        members.into_iter().for_each(|(member, given)| assignment.give(member, given));
        assignment
    }
}

/// Makes sure that an assignment keeps the rules (G-16). An own assignor may have made it, so anything may be in it.
pub(crate) fn check(assignor: &str, group: &GroupSpec, assignment: &GroupAssignment) -> Result<()> {
    breach(group, assignment)
        .map_or(Ok(()), |reason| Err(Error::PartitionAssignor { assignor: assignor.to_owned(), reason }))
}

/// The first rule that it breaks.
fn breach(group: &GroupSpec, assignment: &GroupAssignment) -> Option<String> {
    let members: HashMap<_, _> = group.members().iter().map(|member| (member.member_id(), member)).collect();
    let mut owners: HashMap<&TopicPartition, &str> = HashMap::new();
    for (id, given) in assignment.iter() {
        let Some(member) = members.get(id) else {
            return Some(format!("the group has no member `{}`", id.escape_debug()));
        };
        for partition in given {
            if let Some(reason) = must_not_have(group, member, partition) {
                return Some(reason);
            }
            if let Some(other) = owners.insert(partition, id) {
                let (other, id) = (other.escape_debug(), id.escape_debug());
                return Some(format!("{partition} is given to `{other}` and to `{id}`"));
            }
        }
    }
    let topics = subscribed_topics(group);
    let mut partitions = topics.iter().flat_map(SubscribedTopic::partitions);
    let left = partitions.find(|partition| !owners.contains_key(partition))?;
    Some(format!("{left} is given to nobody"))
}

/// Why the member can't have the partition, whoever else has it.
fn must_not_have(group: &GroupSpec, member: &MemberSpec, partition: &TopicPartition) -> Option<String> {
    let id = member.member_id().escape_debug();
    let exists = group.topics().get(partition.topic()).is_some_and(|count| partition.partition() < *count);
    if !exists {
        return Some(format!("`{id}` is given {partition}, which does not exist"));
    }
    let subscribes = member.subscribes(partition.topic());
    (!subscribes).then(|| format!("`{id}` is given {partition}, but does not subscribe to the topic"))
}
