//! What every assignment keeps to.
//!
//! Method: random groups, whose claims need not make sense, checked against what the rules say, and against the least number of
//! moves, computed here from counts only. That `check` sees what breaks the rules is tested by itself.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::error::Error;
use crate::types::TopicPartition;

const TOPICS: [&str; 4] = ["t1", "t2", "t3", "t4"];

fn all() -> [Arc<dyn Assignor>; 4] {
    ["uniform", "range", "roundrobin", "sticky"].map(|name| assignor_named(name).unwrap())
}

/// Gives a new id to a member; a third of them are static.
fn named(at: usize, member: MemberSpec) -> MemberSpec {
    let instance = (at % 3 == 1).then(|| format!("i-{}", (at * 3) % 10));
    let topics: Vec<_> = member.subscribed().map(str::to_owned).collect();
    let new = MemberSpec::new(format!("m-{}", (at * 7) % 10)).instance_id(instance).topics(topics);
    new.owned(member.owns().to_vec()).generation(member.owned_in())
}

fn any_member() -> impl Strategy<Value = MemberSpec> {
    let claim = (prop::sample::select(&TOPICS[..]), 0_u32..9).prop_map(TopicPartition::from);
    let claims = prop::collection::vec(claim, 0..9);
    (subsequence(TOPICS.to_vec(), 0..=TOPICS.len()), claims, 0_u64..3)
        .prop_map(|(topics, owned, generation)| MemberSpec::new("").topics(topics).owned(owned).generation(generation))
}

/// Any group: a topic may be missing, a claim may be false.
fn any_group() -> impl Strategy<Value = GroupSpec> {
    let counts = prop::collection::vec(0_u32..8, 1..=TOPICS.len());
    (prop::collection::vec(any_member(), 0..9), counts).prop_map(|(members, counts)| {
        let members = members.into_iter().enumerate().map(|(at, member)| named(at, member));
        GroupSpec::new(members, TOPICS.into_iter().zip(counts))
    })
}

/// A group whose members all subscribe to all topics. Every partition has one owner, or none.
fn equal_group(most_topics: usize) -> impl Strategy<Value = GroupSpec> {
    let owners = prop::collection::vec(prop::collection::vec(prop::option::of(0_usize..9), 0..12), 1..=most_topics);
    (1_usize..9, owners).prop_map(|(members, owners)| {
        let owner_of = |topic: usize, partition: usize| owners.get(topic)?.get(partition).copied().flatten();
        let members = (0..members).map(|at| {
            // An owner that is no member has left.
            let all = (0..owners.len()).flat_map(|topic| (0..12).map(move |partition| (topic, partition)));
            let owned = all.filter(|(topic, partition)| owner_of(*topic, *partition) == Some(at));
            let owned = owned.map(|(topic, n)| TopicPartition::new(TOPICS[topic], u32::try_from(n).unwrap()));
            named(at, MemberSpec::new("").topics(TOPICS).owned(owned))
        });
        let counts = owners.iter().map(|owners| u32::try_from(owners.len()).unwrap());
        GroupSpec::new(members, TOPICS.into_iter().zip(counts))
    })
}

fn assign(assignor: &dyn Assignor, group: &GroupSpec) -> GroupAssignment {
    let assignment = assignor.assign(group).unwrap();
    check(assignor.name(), group, &assignment).unwrap();
    assignment
}

fn group_of(members: impl IntoIterator<Item = MemberSpec>, topics: &BTreeMap<String, u32>) -> GroupSpec {
    GroupSpec::new(members, topics.clone())
}

/// The group once everybody has what it was assigned.
fn settled(group: &GroupSpec, assignment: &GroupAssignment) -> GroupSpec {
    let members = group.members().iter().map(|member| {
        let owned = assignment.of(member.member_id()).to_vec();
        member.clone().owned(owned).generation(7)
    });
    group_of(members, group.topics())
}

/// How many partitions that a member has in the group it loses.
fn moves(group: &GroupSpec, assignment: &GroupAssignment) -> usize {
    let lost = |member: &MemberSpec| {
        let share = assignment.of(member.member_id());
        member.owns().iter().filter(|owned| !share.contains(owned)).count()
    };
    group.members().iter().map(lost).sum()
}

fn loads(assignment: &GroupAssignment) -> Vec<usize> {
    assignment.iter().map(|(_, share)| share.len()).collect()
}

/// The fewest moves that level a group: each member keeps at most the floor of the mean, and as many as there are partitions over
/// one more.
fn fewest_moves(group: &GroupSpec) -> usize {
    let partitions: usize = group.topics().values().map(|count| *count as usize).sum();
    let members = group.members();
    let (least, remainder) = (partitions / members.len(), partitions % members.len());
    let over = |member: &MemberSpec| member.owns().len().saturating_sub(least);
    let total: usize = members.iter().map(over).sum();
    total - remainder.min(members.iter().filter(|member| over(member) > 0).count())
}

/// What a member has of a topic.
fn numbers(assignment: &GroupAssignment, member: &MemberSpec, topic: &str) -> Vec<u32> {
    let of_topic = assignment.of(member.member_id()).iter().filter(|partition| partition.topic() == topic);
    of_topic.map(TopicPartition::partition).collect()
}

proptest! {
    /// G-16; `assign` checks the rest of it.
    #[test]
    fn everybody_has_an_entry_and_every_partition_one_owner(group in any_group()) {
        for assignor in all() {
            prop_assert_eq!(assign(&*assignor, &group).iter().count(), group.members().len());
        }
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(group in any_group(), turn in 0_usize..9) {
        let mut members = group.members().to_vec();
        members.reverse();
        members.rotate_left(turn.min(group.members().len()));
        let members = members.into_iter().map(|member| {
            let owned: Vec<_> = member.owns().iter().rev().cloned().collect();
            member.owned(owned)
        });
        let other = GroupSpec::new(members, group.topics().clone().into_iter().rev());
        for assignor in all() {
            prop_assert_eq!(assign(&*assignor, &group), assign(&*assignor, &other));
        }
    }

    #[test]
    fn equal_subscriptions_are_balanced_within_one(group in equal_group(4)) {
        for name in ["uniform", "sticky", "roundrobin"] {
            let loads = loads(&assign(&*assignor_named(name).unwrap(), &group));
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{}: {:?}", name, loads);
        }
    }

    #[test]
    fn uniform_leaves_nothing_that_a_single_move_could_balance(group in any_group()) {
        let assignment = assign(&UniformAssignor, &group);
        for (giver, share) in assignment.iter() {
            for member in group.members() {
                let lacks = assignment.of(member.member_id()).len() + 2 <= share.len();
                let could_take = share.iter().any(|partition| member.subscribes(partition.topic()));
                prop_assert!(!(lacks && could_take), "{} to {}: {:?}", giver, member.member_id(), assignment);
            }
        }
    }

    #[test]
    fn range_balances_each_topic_over_its_subscribers(group in any_group()) {
        let assignment = assign(&RangeAssignor, &group);
        for topic in group.topics().keys() {
            let subscribers = group.members().iter().filter(|member| member.subscribes(topic));
            let counts: Vec<_> = subscribers.map(|member| numbers(&assignment, member, topic).len()).collect();
            let (least, most) = (counts.iter().min(), counts.iter().max());
            prop_assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1), "{}: {:?}", topic, counts);
        }
    }

    #[test]
    fn range_divides_topics_that_are_alike_the_same_way(group in any_group()) {
        let assignment = assign(&RangeAssignor, &group);
        let alike = |a: (&String, &u32), b: (&String, &u32)| {
            a.1 == b.1 && group.members().iter().all(|member| member.subscribes(a.0) == member.subscribes(b.0))
        };
        for a in group.topics() {
            for b in group.topics().iter().filter(|b| alike(a, *b)) {
                for member in group.members() {
                    prop_assert_eq!(numbers(&assignment, member, a.0), numbers(&assignment, member, b.0));
                }
            }
        }
    }

    #[test]
    fn what_is_assigned_stays_when_nothing_changes(group in any_group()) {
        for assignor in all() {
            let assignment = assign(&*assignor, &group);
            let again = assign(&*assignor, &settled(&group, &assignment));
            prop_assert_eq!(again, assignment, "{}", assignor.name());
        }
    }

    #[test]
    fn uniform_moves_as_few_as_possible(group in equal_group(4)) {
        prop_assert_eq!(moves(&group, &assign(&UniformAssignor, &group)), fewest_moves(&group));
    }

    #[test]
    fn range_moves_as_few_of_a_topic_as_possible(group in equal_group(1)) {
        prop_assert_eq!(moves(&group, &assign(&RangeAssignor, &group)), fewest_moves(&group));
    }

    #[test]
    fn who_joins_and_who_leaves_moves_as_few_as_possible(group in equal_group(4), at in 0_usize..9) {
        let before = settled(&group, &assign(&UniformAssignor, &group));
        let members = before.members();
        let newcomer = MemberSpec::new("m-new").topics(TOPICS);
        let with = group_of(members.iter().cloned().chain([newcomer]), before.topics());
        let gone = at % members.len();
        let stay = members.iter().enumerate().filter(|(i, _)| *i != gone || members.len() == 1);
        let without = group_of(stay.map(|(_, member)| member.clone()), before.topics());
        for after in [with, without] {
            prop_assert_eq!(moves(&after, &assign(&UniformAssignor, &after)), fewest_moves(&after));
        }
    }

    #[test]
    fn a_static_member_keeps_its_partitions_under_a_new_member_id(group in any_group()) {
        let new_id = |member: &MemberSpec| {
            let new = if member.instance().is_some() { "z" } else { "" };
            format!("{new}{}", member.member_id())
        };
        let renamed = group.members().iter().map(|member| {
            let new = MemberSpec::new(new_id(member)).instance_id(member.instance()).topics(member.subscribed());
            new.owned(member.owns().to_vec()).generation(member.owned_in())
        });
        let renamed = group_of(renamed, group.topics());
        for assignor in all() {
            let (before, after) = (assign(&*assignor, &group), assign(&*assignor, &renamed));
            for member in group.members() {
                prop_assert_eq!(before.of(member.member_id()), after.of(&new_id(member)));
            }
        }
    }
}

/// What `check` says of giving this out in a group of `a`, who subscribes to `t` (2 partitions), and `b`, who also subscribes to
/// `u` (1 partition) and `gone`. Nobody wants `v`.
fn breach(shares: &[(&str, &[(&str, u32)])]) -> Option<String> {
    let members = [MemberSpec::new("a").topics(["t"]), MemberSpec::new("b").topics(["t", "u", "gone"])];
    let group = GroupSpec::new(members, [("t", 2), ("u", 1), ("v", 1)]);
    let share = |partitions: &[(&str, u32)]| partitions.iter().map(|&partition| partition.into()).collect();
    let assignment = shares.iter().map(|&(id, partitions)| (id.to_owned(), share(partitions))).collect();
    check("mine", &group, &assignment).err().map(|error| match error {
        Error::PartitionAssignor { assignor, reason } if assignor == "mine" => reason,
        other => panic!("{other}"),
    })
}

#[test]
fn an_assignment_by_the_rules_passes() {
    assert_eq!(breach(&[("a", &[("t", 0)]), ("b", &[("t", 1), ("u", 0)])]), None);
    assert_eq!(breach(&[("b", &[("u", 0), ("t", 1), ("t", 0)])]), None);
}

#[test]
fn each_breach_is_named() {
    let mine: &[_] = &[("t", 0), ("t", 1)];
    type Given<'a> = &'a [(&'a str, &'a [(&'a str, u32)])];
    let wrong: [(Given<'_>, &str); 7] = [
        (&[("a", mine), ("b", &[("u", 0), ("t", 1)])], "t-1 is given to `a` and to `b`"),
        (&[("a", &[("t", 0), ("t", 0)])], "t-0 is given to `a` and to `a`"),
        (&[("a", &[("t", 2)])], "`a` is given t-2, which does not exist"),
        (&[("a", mine), ("b", &[("gone", 0)])], "`b` is given gone-0, which does not exist"),
        (&[("a", &[("u", 0)])], "`a` is given u-0, but does not subscribe to the topic"),
        (&[("a", mine), ("b", &[("u", 0)]), ("c\n", &[])], "the group has no member `c\\n`"),
        (&[("a", mine), ("b", &[])], "u-0 is given to nobody"),
    ];
    for (shares, reason) in wrong {
        assert_eq!(breach(shares).as_deref(), Some(reason));
    }
}
