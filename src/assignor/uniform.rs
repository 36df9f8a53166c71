//! Everybody as much as everybody else, with as few moves as that takes (G-14, G-15), in four steps:
//!
//! 1. **Keep.** Everybody has what it had.
//! 2. **Shed.** When all subscribe to the same topics it is known how much each may have, and who has more gives up the rest: of
//!    the topic that it has most of, so that the topics are shared evenly too.
//! 3. **Deal.** What nobody has goes, one partition after the other, to the subscriber that has least; topics with few
//!    subscribers first, as the others leave more choice.
//! 4. **Level.** While one has two partitions more than another one that subscribes to the topic of one of them, it gives that
//!    away. Each such move lessens the sum of the squares of what the members have, so this ends.
//!
//! With equal subscriptions the third step fills everybody up to its share and the fourth finds nothing to do: only what is shed
//! moves, the least that a balance can do with. With different subscriptions nobody's share is known beforehand, and the fourth
//! step makes the balance.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::spec::GroupSpec;
use super::topic::{Rank, Shares, SubscribedTopic, quotas, subscribed_topics};
use super::{Assignor, GroupAssignment};
use crate::error::Result;
use crate::types::TopicPartition;

/// Kafka's `uniform`, the default of KIP-848: every member has as many partitions as every other, give or take one, and no more
/// of them change hands than that takes (G-15).
///
/// When members subscribe to different topics, no single partition could go to another member and make it more even; then more
/// may move than the least possible.
///
/// ```
/// use brooklet::{Assignor, GroupSpec, MemberSpec, TopicPartition, UniformAssignor};
///
/// let orders = |partition| TopicPartition::new("orders", partition);
/// let a = MemberSpec::new("a").topics(["orders"]).owned([orders(0), orders(1), orders(2)]);
/// let b = MemberSpec::new("b").topics(["orders"]);
/// let assignment = UniformAssignor.assign(&GroupSpec::new([a, b], [("orders", 3)]))?;
/// assert_eq!(assignment.of("a"), [orders(0), orders(1)]);
/// assert_eq!(assignment.of("b"), [orders(2)]);
/// # Ok::<(), brooklet::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct UniformAssignor;

impl Assignor for UniformAssignor {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn assign(&self, group: &GroupSpec) -> Result<GroupAssignment> {
        Ok(balance(group))
    }
}

/// Kafka's `sticky` and `cooperative-sticky`: the same assignment as [`UniformAssignor`]'s (G-14), under the name that users of
/// the older protocol know. What changes hands is always given up first, so there is one flavour of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct StickyAssignor;

impl Assignor for StickyAssignor {
    fn name(&self) -> &'static str {
        "sticky"
    }

    fn assign(&self, group: &GroupSpec) -> Result<GroupAssignment> {
        Ok(balance(group))
    }
}

fn balance(group: &GroupSpec) -> GroupAssignment {
    let mut balance = Balance::keep(group);
    balance.shed();
    balance.deal();
    balance.level();
    balance.into_assignment(group)
}

/// A topic, by its place among the subscribed ones.
type TopicIndex = usize;

/// Numbers of partitions by topic. No topic has none.
type Held = BTreeMap<TopicIndex, Vec<u32>>;

/// What a member has.
#[derive(Debug, Default)]
struct Share {
    /// How many partitions are in `held`.
    load: usize,
    held: Held,
    /// The topics in `held`, by how many partitions of them are.
    by_count: BTreeSet<(usize, TopicIndex)>,
}

impl Share {
    fn add(&mut self, topic: TopicIndex, partition: u32) {
        let partitions = self.held.entry(topic).or_default();
        self.by_count.remove(&(partitions.len(), topic));
        partitions.push(partition);
        self.by_count.insert((partitions.len(), topic));
        self.load += 1;
    }

    /// Takes the last partition of the topic that it has most of, among those that are wanted.
    fn take(&mut self, is_wanted: impl Fn(TopicIndex) -> bool) -> Option<(TopicIndex, u32)> {
        let (count, topic) = self.by_count.iter().copied().rev().find(|(_, topic)| is_wanted(*topic))?;
        let partitions = self.held.get_mut(&topic)?;
        let partition = partitions.pop()?;
        self.by_count.remove(&(count, topic));
        if partitions.is_empty() {
            self.held.remove(&topic);
        } else {
            self.by_count.insert((partitions.len(), topic));
        }
        self.load -= 1;
        Some((topic, partition))
    }
}

#[derive(Debug)]
struct Balance<'a> {
    topics: Vec<SubscribedTopic<'a>>,
    /// By rank.
    shares: Vec<Share>,
    /// What nobody has.
    unowned: Held,
}

impl<'a> Balance<'a> {
    /// Step 1.
    fn keep(group: &'a GroupSpec) -> Self {
        let topics = subscribed_topics(group);
        let mut shares: Vec<_> = group.members().iter().map(|_| Share::default()).collect();
        let mut unowned = Held::new();
        for (index, topic) in topics.iter().enumerate() {
            for (partition, owner) in (0_u32..).zip(topic.owners()) {
                match owner.and_then(|rank| shares.get_mut(rank.0)) {
                    Some(share) => share.add(index, partition),
                    None => unowned.entry(index).or_default().push(partition),
                }
            }
        }
        Self { topics, shares, unowned }
    }

    fn load(&self, rank: Rank) -> usize {
        self.shares.get(rank.0).map_or(0, |share| share.load)
    }

    fn give(&mut self, rank: Rank, topic: TopicIndex, partition: u32) {
        if let Some(share) = self.shares.get_mut(rank.0) {
            share.add(topic, partition);
        }
    }

    /// Step 2.
    fn shed(&mut self) {
        let Some(subscribers) = self.common_subscribers() else { return };
        let partitions = self.topics.iter().map(SubscribedTopic::partition_count).sum();
        for (rank, quota) in quotas(subscribers, partitions, |rank| self.load(rank)) {
            let Some(share) = self.shares.get_mut(rank.0) else { continue };
            while share.load > quota {
                let Some((topic, partition)) = share.take(|_| true) else { break };
                self.unowned.entry(topic).or_default().push(partition);
            }
        }
        self.unowned.values_mut().for_each(|partitions| partitions.sort_unstable());
    }

    /// The subscribers, when all topics have the same ones.
    fn common_subscribers(&self) -> Option<&[Rank]> {
        let first = &self.topics.first()?.subscribers;
        self.topics.iter().all(|topic| topic.subscribers == *first).then_some(first)
    }

    /// Step 3.
    fn deal(&mut self) {
        let unowned = std::mem::take(&mut self.unowned);
        let subscribers =
            |topic: TopicIndex| self.topics.get(topic).map_or(Vec::new(), |topic| topic.subscribers.clone());
        let mut by_choice: Vec<_> =
            unowned.into_iter().map(|(topic, partitions)| (subscribers(topic), topic, partitions)).collect();
        by_choice.sort_by_key(|(subscribers, topic, _)| (subscribers.len(), *topic));
        for (subscribers, topic, partitions) in by_choice {
            let loads = subscribers.into_iter().map(|rank| Reverse((self.load(rank), rank)));
            let mut least_first: BinaryHeap<_> = loads.collect();
            for partition in partitions {
                if let Some(mut least) = least_first.peek_mut() {
                    let Reverse((load, rank)) = &mut *least;
                    *load += 1;
                    self.give(*rank, topic, partition);
                }
            }
        }
    }

    /// Step 4.
    fn level(&mut self) {
        let loads = (0..self.shares.len()).map(|at| (self.load(Rank(at)), Rank(at)));
        let mut by_load: BTreeSet<_> = loads.collect();
        // Who finds nobody to give to may find one after others gave: so again, until nobody does.
        while self.level_once(&mut by_load) {}
    }

    /// Lets everybody give what it can, who has most first. Whether anything moved.
    fn level_once(&mut self, by_load: &mut BTreeSet<(usize, Rank)>) -> bool {
        let mut most_first: BinaryHeap<_> = by_load.iter().map(|&(load, rank)| (load, Reverse(rank))).collect();
        let mut moved = false;
        while let Some((load, Reverse(giver))) = most_first.pop() {
            // Not when this is from before its load changed: there is a later one.
            if load != self.load(giver) {
                continue;
            }
            let Some(taker) = self.taker_from(giver, by_load) else { continue };
            let before = [giver, taker].map(|rank| (self.load(rank), rank));
            self.move_one(giver, taker);
            for (load, rank) in before {
                by_load.remove(&(load, rank));
                by_load.insert((self.load(rank), rank));
                most_first.push((self.load(rank), Reverse(rank)));
            }
            moved = true;
        }
        moved
    }

    /// Who has least of those that could take a partition from `giver`, if it has at least two less.
    fn taker_from(&self, giver: Rank, by_load: &BTreeSet<(usize, Rank)>) -> Option<Rank> {
        let giving = self.shares.get(giver.0)?;
        let mut lacking = by_load.iter().take_while(|(load, _)| load + 2 <= giving.load).map(|(_, rank)| *rank);
        lacking.find(|rank| giving.held.keys().any(|topic| self.is_for(*topic, *rank)))
    }

    fn is_for(&self, topic: TopicIndex, rank: Rank) -> bool {
        self.topics.get(topic).is_some_and(|topic| topic.is_for(rank))
    }

    fn move_one(&mut self, giver: Rank, taker: Rank) {
        let Self { topics, shares, .. } = self;
        let is_wanted = |topic: TopicIndex| topics.get(topic).is_some_and(|topic| topic.is_for(taker));
        if let Some((topic, partition)) = shares.get_mut(giver.0).and_then(|share| share.take(is_wanted)) {
            self.give(taker, topic, partition);
        }
    }

    fn into_assignment(self, group: &GroupSpec) -> GroupAssignment {
        let mut shares = Shares::new(group);
        for (at, share) in self.shares.into_iter().enumerate() {
            for (topic, partitions) in share.held {
                let Some(topic) = self.topics.get(topic) else { continue };
                for partition in partitions {
                    shares.give(Rank(at), TopicPartition::new(topic.name, partition));
                }
            }
        }
        shares.into_assignment(group)
    }
}
