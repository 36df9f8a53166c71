//! Uniform: as even as can be, and as few moves as that takes.
//!
//! 1. Everybody keeps what it has, if it may.
//! 2. What nobody has goes to whoever has least.
//! 3. As long as somebody has two more than another who could have one of them, it moves. Each move makes the loads more even,
//!    so this comes to an end; and as only what is too much moves, nothing moves in vain.
//!
//! Partitions are taken in the order of their numbers, all topics' partition 0 first, so that members get equal shares of
//! each topic (G-35).

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeSet, HashMap};

use super::{Assignor, GroupAssignment, GroupSpec};
use crate::error::Result;
use crate::types::TopicPartition;

/// Kafka's `uniform`, the default of KIP-848: every member has as many partitions as every other, give or take one, and as few
/// as possible change hands (G-15). When members subscribe to different topics, as even as moving single partitions gets it.
#[derive(Debug, Clone, Copy, Default)]
pub struct UniformAssignor;

impl Assignor for UniformAssignor {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn assign(&self, group: &GroupSpec) -> Result<GroupAssignment> {
        Ok(assign(group))
    }
}

/// Kafka's `sticky` and `cooperative-sticky`: the same assignment as [`UniformAssignor`] (G-14), under the name that users of
/// the older protocol know. What changes hands is always given up first, so there is one flavour of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct StickyAssignor;

impl Assignor for StickyAssignor {
    fn name(&self) -> &'static str {
        "sticky"
    }

    fn assign(&self, group: &GroupSpec) -> Result<GroupAssignment> {
        Ok(assign(group))
    }
}

fn assign(group: &GroupSpec) -> GroupAssignment {
    let mut shares = Shares::new(group);
    let unowned = shares.keep(group);
    unowned.into_iter().for_each(|partition| shares.give_to_least(partition));
    shares.even_out();
    group.assignment(shares.into_given())
}

/// A partition: by its number first. The topic is its place among the topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Partition {
    number: u32,
    topic: usize,
}

/// A member's place among the members.
type Place = usize;

/// Who says that it has a partition.
#[derive(Debug, Clone, Copy)]
struct Claim {
    generation: u64,
    /// `None`: two do, in the same generation.
    by: Option<Place>,
}

impl Claim {
    fn meet(&mut self, other: Claim) {
        match other.generation.cmp(&self.generation) {
            Ordering::Less => {}
            Ordering::Equal => self.by = None,
            Ordering::Greater => *self = other,
        }
    }
}

/// Topics with the same subscribers: their partitions can be exchanged.
#[derive(Debug)]
struct Class {
    subscribers: Vec<Place>,
    /// The subscribers by how much they have, of all classes.
    by_load: BTreeSet<(usize, Place)>,
    /// What each has of this class.
    held: HashMap<Place, BTreeSet<Partition>>,
}

/// Who has what.
#[derive(Debug)]
struct Shares<'a> {
    topics: Vec<(&'a str, u32)>,
    /// The class of each topic; `None` when nobody subscribes to it.
    class_of: Vec<Option<usize>>,
    classes: Vec<Class>,
    /// The classes that a member is a subscriber in.
    classes_of: Vec<Vec<usize>>,
    loads: Vec<usize>,
}

impl<'a> Shares<'a> {
    fn new(group: &'a GroupSpec) -> Self {
        let members = group.members().len();
        let subscribers = group.subscribers();
        let mut shares = Self {
            topics: group.topics().iter().map(|(topic, count)| (topic.as_str(), *count)).collect(),
            class_of: Vec::new(),
            classes: Vec::new(),
            classes_of: vec![Vec::new(); members],
            loads: vec![0; members],
        };
        let mut numbers: HashMap<&[Place], usize> = HashMap::new();
        for topic in group.topics().keys() {
            let Some(places) = subscribers.get(topic.as_str()) else {
                shares.class_of.push(None);
                continue;
            };
            let number = *numbers.entry(places).or_insert_with(|| shares.add_class(places));
            shares.class_of.push(Some(number));
        }
        shares
    }

    fn add_class(&mut self, subscribers: &[Place]) -> usize {
        let number = self.classes.len();
        for &place in subscribers {
            if let Some(classes) = self.classes_of.get_mut(place) {
                classes.push(number);
            }
        }
        self.classes.push(Class {
            subscribers: subscribers.to_vec(),
            by_load: subscribers.iter().map(|&place| (0, place)).collect(),
            held: HashMap::new(),
        });
        number
    }

    /// Lets everybody keep what it claims and may have. Gives back what nobody has, in order. Of two claims the one of the
    /// larger generation counts, of two in the same generation none.
    fn keep(&mut self, group: &GroupSpec) -> Vec<Partition> {
        let places: HashMap<&str, usize> =
            self.topics.iter().enumerate().map(|(place, (name, _))| (*name, place)).collect();
        let mut claims: HashMap<Partition, Claim> = HashMap::new();
        for (place, member) in group.members().iter().enumerate() {
            for claimed in member.owns().iter().filter(|claimed| member.subscribes(claimed.topic())) {
                let Some(&topic) = places.get(claimed.topic()) else { continue };
                let partition = Partition { number: claimed.partition(), topic };
                let claim = Claim { generation: member.generation, by: Some(place) };
                claims.entry(partition).and_modify(|other| other.meet(claim)).or_insert(claim);
            }
        }
        let mut all: Vec<_> = self
            .topics
            .iter()
            .enumerate()
            .flat_map(|(topic, (_, count))| (0..*count).map(move |number| Partition { number, topic }))
            .collect();
        all.sort_unstable();
        all.retain(|partition| match claims.get(partition) {
            Some(Claim { by: Some(place), .. }) => !self.put(*partition, *place),
            _ => true,
        });
        all
    }

    fn class(&self, partition: Partition) -> Option<usize> {
        self.class_of.get(partition.topic).copied().flatten()
    }

    /// Gives a partition to a member. `false` when nobody subscribes to it.
    fn put(&mut self, partition: Partition, place: Place) -> bool {
        let Some(number) = self.class(partition) else { return false };
        if let Some(class) = self.classes.get_mut(number) {
            class.held.entry(place).or_default().insert(partition);
        }
        self.change_load(place, |load| load + 1);
        true
    }

    fn change_load(&mut self, place: Place, change: impl Fn(usize) -> usize) {
        let Some(load) = self.loads.get_mut(place) else { return };
        let (before, after) = (*load, change(*load));
        *load = after;
        for number in self.classes_of.get(place).into_iter().flatten() {
            if let Some(class) = self.classes.get_mut(*number) {
                class.by_load.remove(&(before, place));
                class.by_load.insert((after, place));
            }
        }
    }

    fn give_to_least(&mut self, partition: Partition) {
        let class = self.class(partition).and_then(|number| self.classes.get(number));
        if let Some(&(_, place)) = class.and_then(|class| class.by_load.first()) {
            self.put(partition, place);
        }
    }

    /// Moves partitions until no single move makes the loads more even.
    fn even_out(&mut self) {
        while (0..self.classes.len()).fold(false, |moved, number| self.even_out_class(number) || moved) {}
    }

    /// `true` if something moved.
    fn even_out_class(&mut self, number: usize) -> bool {
        let mut moved = false;
        while let Some((partition, from, to)) = self.classes.get(number).and_then(Class::improvement) {
            if let Some(held) = self.classes.get_mut(number).and_then(|class| class.held.get_mut(&from)) {
                held.remove(&partition);
            }
            self.change_load(from, |load| load.saturating_sub(1));
            self.put(partition, to);
            moved = true;
        }
        moved
    }

    fn into_given(self) -> Vec<Vec<TopicPartition>> {
        let mut given = vec![Vec::new(); self.loads.len()];
        for class in self.classes {
            for place in class.subscribers {
                let Some(given) = given.get_mut(place) else { continue };
                for partition in class.held.get(&place).into_iter().flatten() {
                    if let Some((topic, _)) = self.topics.get(partition.topic) {
                        given.push(TopicPartition::new(topic, partition.number));
                    }
                }
            }
        }
        given.iter_mut().for_each(|partitions| partitions.sort());
        given
    }
}

impl Class {
    /// A partition whose move from one subscriber to another makes the loads more even: the last one of whoever has most.
    fn improvement(&self) -> Option<(Partition, Place, Place)> {
        let &(least, to) = self.by_load.first()?;
        let heavy = self.by_load.iter().rev().take_while(|(load, _)| *load >= least + 2);
        let with_one = heavy.filter_map(|&(load, place)| Some((load, place, *self.held.get(&place)?.last()?)));
        // The first of those who have most.
        let (_, from, partition) = with_one.min_by_key(|&(load, place, _)| (Reverse(load), place))?;
        Some((partition, from, to))
    }
}
