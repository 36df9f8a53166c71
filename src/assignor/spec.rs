//! What an assignor is told about a group.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::TopicPartition;

/// The members of a group and the topics that there are: what an [`Assignor`](super::Assignor) decides upon.
///
/// ```
/// use brooklet::{GroupSpec, MemberSpec};
///
/// let members = [MemberSpec::new("m-1"), MemberSpec::new("m-2").instance_id(Some("host-7"))];
/// let group = GroupSpec::new(members, [("orders", 3)]);
/// let ids: Vec<_> = group.members().iter().map(MemberSpec::member_id).collect();
/// assert_eq!(ids, ["m-2", "m-1"]); // static members come first
/// assert_eq!(group.topics().get("orders"), Some(&3));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    /// In the order of G-11, each member id once.
    members: Vec<MemberSpec>,
    /// Partition counts.
    topics: BTreeMap<String, u32>,
}

impl GroupSpec {
    /// A group of these members. `topics` are those that exist, with their partition counts; others that a member subscribes
    /// to are ignored. Neither order matters; of two members with one id, or two topics with one name, the later counts.
    pub fn new<T: Into<String>>(
        members: impl IntoIterator<Item = MemberSpec>,
        topics: impl IntoIterator<Item = (T, u32)>,
    ) -> Self {
        let by_id: BTreeMap<_, _> = members.into_iter().map(|member| (member.member_id.clone(), member)).collect();
        let mut members: Vec<_> = by_id.into_values().collect();
        // Stable, so that those that are equal here stay in the order of their member ids.
        members.sort_by(|a, b| a.seniority().cmp(&b.seniority()));
        Self { members, topics: topics.into_iter().map(|(topic, count)| (topic.into(), count)).collect() }
    }

    /// Its members: first the static ones, by instance id; then the others, by member id (G-11). Where two would do equally
    /// well, Kafka takes the first in this order.
    pub fn members(&self) -> &[MemberSpec] {
        &self.members
    }

    /// The topics and their partition counts, by name. Not each has a subscriber.
    pub fn topics(&self) -> &BTreeMap<String, u32> {
        &self.topics
    }
}

/// A member, as an assignor sees it.
///
/// ```
/// use brooklet::{MemberSpec, TopicPartition};
///
/// let member = MemberSpec::new("m-1").topics(["orders", "bills"]).owned([TopicPartition::new("orders", 0)]);
/// assert!(member.subscribes("bills") && !member.subscribes("payments"));
/// assert_eq!(member.owns(), [TopicPartition::new("orders", 0)]);
/// assert_eq!(member.instance(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSpec {
    member_id: String,
    /// `None`: it is not a static member.
    instance_id: Option<String>,
    topics: BTreeSet<String>,
    owned: Vec<TopicPartition>,
    generation: u64,
}

impl MemberSpec {
    /// A member that subscribes to nothing and has nothing.
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

    /// What it has had so far.
    #[must_use]
    pub fn owned(mut self, partitions: impl IntoIterator<Item = TopicPartition>) -> Self {
        self.owned = partitions.into_iter().collect();
        self
    }

    /// When it had that, 0 at first. Of members who say that they had the same partition, the one with the largest
    /// generation is right; when several have that, none of them (G-14).
    #[must_use]
    pub fn generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// Its id.
    pub fn member_id(&self) -> &str {
        &self.member_id
    }

    /// Kafka's `group.instance.id`, by which a static member is known also under its next member id. `None`: not static.
    pub fn instance(&self) -> Option<&str> {
        self.instance_id.as_deref()
    }

    /// The names of the topics that it subscribes to, sorted. They need not exist.
    pub fn subscribed(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(String::as_str)
    }

    /// Whether it subscribes to a topic.
    pub fn subscribes(&self, topic: &str) -> bool {
        self.topics.contains(topic)
    }

    /// What it has had so far. That is its own claim: a partition may be gone, or claimed by another one too.
    pub fn owns(&self) -> &[TopicPartition] {
        &self.owned
    }

    /// The [`generation`](MemberSpec::generation) in which it had that.
    pub fn owned_in(&self) -> u64 {
        self.generation
    }

    /// G-11, apart from the member id.
    fn seniority(&self) -> (bool, Option<&str>) {
        (self.instance_id.is_none(), self.instance())
    }
}
