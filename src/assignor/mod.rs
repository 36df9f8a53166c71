//! How the partitions of a group's topics are shared among its members: pure functions.

mod range;
mod round_robin;
mod uniform;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

pub use range::RangeAssignor;
pub use round_robin::RoundRobinAssignor;
pub use uniform::{StickyAssignor, UniformAssignor};

use crate::error::{Error, Result};
use crate::types::TopicPartition;

/// Shares the partitions of a group's topics among its members (KIP-848).
///
/// The group calls it whenever its members, their subscriptions or the topics change, and moves to the new assignment step by
/// step: a partition is given up by its old owner before its new one gets it, whatever the assignor says. So an assignor is
/// a pure function: it must not block, must not use the broker, and gives equal answers to equal questions.
///
/// Every partition of a topic that somebody subscribes to goes to exactly one member who does (G-16). An assignment that
/// breaks this is refused with [`Error::PartitionAssignor`], and the one before stays.
///
/// ```
/// use brooklet::{Assignor, Broker, GroupAssignment, GroupSpec, Result, TopicPartition};
///
/// /// Everything goes to one member; the others stand by.
/// #[derive(Debug)]
/// struct Leader;
///
/// impl Assignor for Leader {
///     fn name(&self) -> &str {
///         "leader"
///     }
///
///     fn assign(&self, group: &GroupSpec) -> Result<GroupAssignment> {
///         let mut assignment = GroupAssignment::default();
///         for topic in group.topics() {
///             if let Some(leader) = group.members().iter().find(|member| member.subscribes(topic.0)) {
///                 let partitions = (0..*topic.1).map(|partition| TopicPartition::new(topic.0, partition));
///                 assignment.give(leader.member_id(), partitions);
///             }
///         }
///         Ok(assignment)
///     }
/// }
///
/// let broker = Broker::in_memory()?;
/// let consumer = broker.consumer().group("billing").assignor(Leader).subscribe(["orders"])?;
/// # Ok::<(), brooklet::Error>(())
/// ```
pub trait Assignor: fmt::Debug + Send + Sync + 'static {
    /// Its name, as Kafka's tools print it.
    fn name(&self) -> &str;

    /// Who shall own what. Members that are given nothing need not be named.
    fn assign(&self, group: &GroupSpec) -> Result<GroupAssignment>;
}

/// The assignor of a name that Kafka knows: `range`, `roundrobin`, `sticky`, `cooperative-sticky` or `uniform`.
pub fn assignor_named(name: &str) -> Option<Arc<dyn Assignor>> {
    match name {
        "range" => Some(Arc::new(RangeAssignor)),
        "roundrobin" => Some(Arc::new(RoundRobinAssignor)),
        "sticky" | "cooperative-sticky" => Some(Arc::new(StickyAssignor)),
        "uniform" => Some(Arc::new(UniformAssignor)),
        _ => None,
    }
}

/// A group that partitions are shared in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    members: Vec<MemberSpec>,
    topics: BTreeMap<String, u32>,
}

impl GroupSpec {
    /// A group of these members. `topics` are those that exist, with their partition counts; others that a member subscribes
    /// to are ignored.
    pub fn new<T: Into<String>>(
        members: impl IntoIterator<Item = MemberSpec>,
        topics: impl IntoIterator<Item = (T, u32)>,
    ) -> Self {
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort_by(|a, b| a.rank().cmp(&b.rank()));
        Self { members, topics: topics.into_iter().map(|(topic, count)| (topic.into(), count)).collect() }
    }

    /// Its members: first those with an instance id, by that; then the others, by member id (G-11).
    pub fn members(&self) -> &[MemberSpec] {
        &self.members
    }

    /// The topics and their partition counts, by name.
    pub fn topics(&self) -> &BTreeMap<String, u32> {
        &self.topics
    }

    /// The members that subscribe to a topic, in order: their places among [`members`](GroupSpec::members).
    pub(crate) fn subscribers(&self) -> HashMap<&str, Vec<usize>> {
        let mut subscribers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, member) in self.members.iter().enumerate() {
            for topic in member.topics.iter().filter(|topic| self.topics.contains_key(*topic)) {
                subscribers.entry(topic).or_default().push(place);
            }
        }
        subscribers
    }

    /// Makes an assignment of what each member is given, by its place.
    pub(crate) fn assignment(&self, given: Vec<Vec<TopicPartition>>) -> GroupAssignment {
        self.members.iter().zip(given).map(|(member, given)| (member.member_id.clone(), given)).collect()
    }
}

/// A member, as an assignor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSpec {
    member_id: String,
    instance_id: Option<String>,
    topics: BTreeSet<String>,
    owned: Vec<TopicPartition>,
    generation: u64,
}

impl MemberSpec {
    /// A member that subscribes to nothing and owns nothing.
    pub fn new(member_id: impl Into<String>) -> Self {
        Self {
            member_id: member_id.into(),
            instance_id: None,
            topics: BTreeSet::new(),
            owned: Vec::new(),
            generation: 0,
        }
    }

    /// Makes it a static member (KIP-345).
    #[must_use]
    pub fn instance_id(mut self, instance_id: Option<impl Into<String>>) -> Self {
        self.instance_id = instance_id.map(Into::into);
        self
    }

    /// What it subscribes to.
    #[must_use]
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// What it had so far.
    #[must_use]
    pub fn owned(mut self, partitions: impl IntoIterator<Item = TopicPartition>) -> Self {
        self.owned = partitions.into_iter().collect();
        self
    }

    /// When it had that: of two who claim a partition, the one with the larger generation had it last (G-14).
    #[must_use]
    pub fn generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// Its id.
    pub fn member_id(&self) -> &str {
        &self.member_id
    }

    /// Its own name, if it is a static member.
    pub fn instance(&self) -> Option<&str> {
        self.instance_id.as_deref()
    }

    /// Whether it wants the records of a topic.
    pub fn subscribes(&self, topic: &str) -> bool {
        self.topics.contains(topic)
    }

    /// What it had so far.
    pub fn owns(&self) -> &[TopicPartition] {
        &self.owned
    }

    /// G-11.
    fn rank(&self) -> (bool, Option<&str>, &str) {
        (self.instance_id.is_none(), self.instance(), &self.member_id)
    }
}

/// Who shall own what, by member id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupAssignment {
    given: BTreeMap<String, Vec<TopicPartition>>,
}

impl GroupAssignment {
    /// Gives partitions to a member, beside those that it was given before.
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

impl FromIterator<(String, Vec<TopicPartition>)> for GroupAssignment {
    fn from_iter<I: IntoIterator<Item = (String, Vec<TopicPartition>)>>(members: I) -> Self {
        let mut assignment = Self::default();
        members.into_iter().for_each(|(member, given)| assignment.give(member, given));
        assignment
    }
}

/// Makes sure that an assignment keeps the rules (G-16).
pub(crate) fn check(assignor: &str, group: &GroupSpec, assignment: &GroupAssignment) -> Result<()> {
    let broken = |reason: String| Err(Error::PartitionAssignor { assignor: assignor.to_owned(), reason });
    let members: HashMap<&str, &MemberSpec> = group.members.iter().map(|member| (member.member_id(), member)).collect();
    let mut owners: HashMap<&TopicPartition, &str> = HashMap::new();
    for (id, given) in assignment.iter() {
        let Some(member) = members.get(id) else { return broken(format!("the group has no member `{id}`")) };
        for partition in given {
            let count = group.topics.get(partition.topic()).copied().unwrap_or(0);
            if partition.partition() >= count {
                return broken(format!("partition {partition} does not exist"));
            }
            if !member.subscribes(partition.topic()) {
                return broken(format!("member `{id}` is given {partition}, which it does not subscribe to"));
            }
            if let Some(other) = owners.insert(partition, id) {
                return broken(format!("partition {partition} is given to `{other}` and to `{id}`"));
            }
        }
    }
    let expected: usize =
        group.subscribers().keys().map(|topic| group.topics.get(*topic).map_or(0, |&n| n as usize)).sum();
    match expected - owners.len() {
        0 => Ok(()),
        missing => broken(format!("{missing} of {expected} partitions are given to nobody")),
    }
}
