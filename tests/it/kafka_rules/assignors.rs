//! Assignors: who of a group gets which partition.
//!
//! Kafka has two generations of them, one in its clients and one in its broker (KIP-848), with one table of numbers each. Both
//! tables are told here, of one set of assignors: what a member of an older generation would be given at once, and what has to
//! be given up by others first, is the same in the end. What goes which way is the group's business (`groups`).
//!
//! DIFFERENCE, of all tests of the cooperative assignor: Kafka's leaves a partition that changes hands out of the first of two
//! assignments. brooklet's are the second one, and the group makes the new owner wait.

use brooklet::{
    Assignor, GroupAssignment, GroupSpec, MemberSpec, RangeAssignor, RoundRobinAssignor, StickyAssignor,
    TopicPartition, UniformAssignor, assignor_named,
};

use crate::crash::scale;

/// `"t1-0 t2-3"` as partitions.
fn partitions(text: &str) -> Vec<TopicPartition> {
    let partition = |word: &str| {
        let (topic, partition) = word.rsplit_once('-').unwrap();
        TopicPartition::new(topic, partition.parse().unwrap())
    };
    text.split_whitespace().map(partition).collect()
}

/// A member that subscribes to these topics and has these partitions.
fn member(id: &str, topics: &str, owned: &str) -> MemberSpec {
    MemberSpec::new(id).topics(topics.split_whitespace()).owned(partitions(owned))
}

/// A static one.
fn resident(id: &str, instance: &str, topics: &str) -> MemberSpec {
    member(id, topics, "").instance_id(Some(instance))
}

/// Members with the same subscription, from their ids and what they have.
fn alike(topics: &str, owned: &[(&str, &str)]) -> Vec<MemberSpec> {
    owned.iter().map(|(id, owned)| member(id, topics, owned)).collect()
}

/// Who is assigned what. Every member is named, each partition of a subscribed topic is given once, to a subscriber (G-16).
fn assign(assignor: &dyn Assignor, topics: &[(&str, u32)], members: &[MemberSpec]) -> GroupAssignment {
    let group = GroupSpec::new(members.iter().cloned(), topics.iter().copied());
    let assignment = assignor.assign(&group).unwrap();
    assert_eq!(assignment.iter().count(), members.len());
    for member in members {
        let foreign = assignment.of(member.member_id()).iter().find(|given| !member.subscribes(given.topic()));
        assert_eq!(foreign, None, "{} does not subscribe to it", member.member_id());
    }
    let mut given: Vec<_> = assignment.iter().flat_map(|(_, given)| given).cloned().collect();
    given.sort();
    let wanted = topics.iter().filter(|(topic, _)| members.iter().any(|member| member.subscribes(topic)));
    let mut all: Vec<_> = wanted
        .flat_map(|&(topic, count)| (0..count).map(move |partition| TopicPartition::new(topic, partition)))
        .collect();
    all.sort();
    assert!(given == all, "given are {given:?}");
    assignment
}

/// Asserts who gets what, exactly.
fn assert_assigned(assignor: &dyn Assignor, topics: &[(&str, u32)], members: &[MemberSpec], expected: &[(&str, &str)]) {
    let assignment = assign(assignor, topics, members);
    let expected: GroupAssignment = expected.iter().map(|(id, given)| ((*id).to_owned(), partitions(given))).collect();
    assert_eq!(assignment, expected, "{} over {topics:?}", assignor.name());
}

/// Of the partitions that a member has, those that it keeps.
fn kept<'a>(assignment: &'a GroupAssignment, member: &'a MemberSpec) -> impl Iterator<Item = &'a TopicPartition> {
    member.owns().iter().filter(|owned| assignment.of(member.member_id()).contains(owned))
}

/// Asserts how many each member gets, in any order, and that it keeps so many of its own.
fn assert_sizes(topics: &[(&str, u32)], members: &[MemberSpec], sizes: &[usize], keep: &[usize]) {
    let assignment = assign(&UniformAssignor, topics, members);
    let mut found: Vec<_> = assignment.iter().map(|(_, given)| given.len()).collect();
    found.sort_unstable();
    assert_eq!(found, sizes, "{assignment:?}");
    let kept: Vec<_> = members.iter().map(|member| kept(&assignment, member).count()).collect();
    assert_eq!(kept, keep, "{assignment:?}");
}

/// The same members, each with what it was assigned.
fn settled(members: &[MemberSpec], assignment: &GroupAssignment) -> Vec<MemberSpec> {
    members.iter().map(|member| member.clone().owned(assignment.of(member.member_id()).to_vec())).collect()
}

/// How many of a topic's partitions the members have.
fn counts(assignment: &GroupAssignment, topic: &str) -> Vec<usize> {
    assignment.iter().map(|(_, given)| given.iter().filter(|partition| partition.topic() == topic).count()).collect()
}

/// testOneConsumerNoTopic, testOneConsumerNonexistentTopic, testOnlyAssignsPartitionsFromSubscribedTopics of each assignor's
/// suite (C46, G-16).
#[test]
fn members_without_partitions_have_an_empty_entry() {
    for name in ["range", "roundrobin", "sticky", "cooperative-sticky", "uniform"] {
        let assignor = &*assignor_named(name).unwrap();
        assert_assigned(assignor, &[], &[member("c1", "", "")], &[("c1", "")]);
        assert_assigned(assignor, &[], &[member("c1", "t", "")], &[("c1", "")]);
        assert_assigned(assignor, &[("t", 0)], &[member("c1", "t", "")], &[("c1", "")]);
        let topics = [("t", 3), ("other", 3)];
        assert_assigned(assignor, &topics, &[member("c1", "t unknown", "")], &[("c1", "t-0 t-1 t-2")]);
        // A partition that went, or that it does not want any more, is not its any more.
        assert_assigned(
            assignor,
            &[("t", 1), ("other", 1)],
            &[member("c1", "t", "t-1 other-0 gone-0")],
            &[("c1", "t-0")],
        );
    }
}

/// The server's assignors (G-15). DIFFERENCE: those throw `PartitionAssignorException` when a subscribed topic does not exist.
/// brooklet's leave it out, as the clients' assignors do (G-16): it may be created later.
#[test]
fn an_unknown_topic_is_left_out() {
    let members = alike("t unknown", &[("c1", ""), ("c2", "")]);
    assert_assigned(&UniformAssignor, &[("t", 2)], &members, &[("c1", "t-0"), ("c2", "t-1")]);
    assert_assigned(&RangeAssignor, &[("t", 2)], &members, &[("c1", "t-0"), ("c2", "t-1")]);
}

/// RangeAssignorTest.testOneConsumerOneTopic, testTwoConsumersOneTopicOnePartition, testTwoConsumersOneTopicTwoPartitions
/// (C46, G-17).
#[test]
fn range_divides_one_topic() {
    assert_assigned(&RangeAssignor, &[("t1", 3)], &alike("t1", &[("c1", "")]), &[("c1", "t1-0 t1-1 t1-2")]);
    let two = alike("t", &[("c1", ""), ("c2", "")]);
    assert_assigned(&RangeAssignor, &[("t", 1)], &two, &[("c1", "t-0"), ("c2", "")]);
    assert_assigned(&RangeAssignor, &[("t", 2)], &two, &[("c1", "t-0"), ("c2", "t-1")]);
}

/// RangeAssignorTest.testTwoConsumersTwoTopicsSixPartitions and its static variants (C46, G-18, G-11).
#[test]
fn range_divides_each_topic_by_itself() {
    let topics = [("t1", 3), ("t2", 3)];
    let expected = [("c1", "t1-0 t1-1 t2-0 t2-1"), ("c2", "t1-2 t2-2")];
    assert_assigned(&RangeAssignor, &topics, &alike("t1 t2", &[("c1", ""), ("c2", "")]), &expected);
    // Static members come by instance id, and before the others.
    let residents = [resident("c1", "i1", "t1 t2"), resident("c2", "i2", "t1 t2")];
    assert_assigned(&RangeAssignor, &topics, &residents, &expected);
    let high = [resident("z", "i1", "t1 t2"), resident("a", "i2", "t1 t2")];
    assert_assigned(&RangeAssignor, &topics, &high, &[("z", expected[0].1), ("a", expected[1].1)]);
    let mixed = [member("a", "t1 t2", ""), resident("z", "i1", "t1 t2")];
    assert_assigned(&RangeAssignor, &topics, &mixed, &[("z", expected[0].1), ("a", expected[1].1)]);
}

/// testMultipleConsumersMixedTopics of RangeAssignorTest and RoundRobinAssignorTest (C46, G-19, G-22).
#[test]
fn range_and_round_robin_pass_over_those_that_do_not_subscribe() {
    let members = [member("c1", "t1", ""), member("c2", "t1 t2", ""), member("c3", "t1", "")];
    let expected = [("c1", "t1-0"), ("c2", "t1-1 t2-0 t2-1"), ("c3", "t1-2")];
    assert_assigned(&RangeAssignor, &[("t1", 3), ("t2", 2)], &members, &expected);
    assert_assigned(&RoundRobinAssignor, &[("t1", 3), ("t2", 2)], &members, &expected);
}

/// RangeAssignorTest.testStaticMemberRangeAssignmentPersistent (C46, G-20); also when the members that stay say what they have.
#[test]
fn range_leaves_static_members_alone_when_another_is_replaced() {
    let topics = [("t1", 5), ("t2", 4)];
    let residents = ["c1", "c2", "c3"].map(|id| resident(id, id, "t1 t2"));
    let with = |residents: &[MemberSpec], id| [residents, &[member(id, "t1 t2", "")]].concat();
    let shares = ["t1-0 t1-1 t2-0", "t1-2 t2-1", "t1-3 t2-2", "t1-4 t2-3"];
    let expected = |last| [("c1", shares[0]), ("c2", shares[1]), ("c3", shares[2]), (last, shares[3])];
    assert_assigned(&RangeAssignor, &topics, &with(&residents, "c4"), &expected("c4"));
    assert_assigned(&RangeAssignor, &topics, &with(&residents, "c5"), &expected("c5"));
    let before = assign(&RangeAssignor, &topics, &with(&residents, "c4"));
    assert_assigned(&RangeAssignor, &topics, &with(&settled(&residents, &before), "c5"), &expected("c5"));
}

/// RangeAssignorTest.testStaticMemberRangeAssignmentPersistentAfterMemberIdChanges,
/// RoundRobinAssignorTest.testStaticMemberRoundRobinAssignmentPersistentAfterMemberIdChanges (C46, G-21, G-23).
#[test]
fn static_members_get_the_same_under_new_member_ids() {
    let topics = [("t1", 5), ("t2", 5)];
    let range = ["t1-0 t1-1 t2-0 t2-1", "t1-2 t1-3 t2-2 t2-3", "t1-4 t2-4"];
    let round_robin = ["t1-0 t1-3 t2-1 t2-4", "t1-1 t1-4 t2-2", "t1-2 t2-0 t2-3"];
    for ids in [["c1", "c2", "c3"], ["z", "y", "x"]] {
        let members: Vec<_> = ids.iter().zip(["i1", "i2", "i3"]).map(|(id, i)| resident(id, i, "t1 t2")).collect();
        let expected = |shares: [&'static str; 3]| [0, 1, 2].map(|i| (ids[i], shares[i]));
        assert_assigned(&RangeAssignor, &topics, &members, &expected(range));
        assert_assigned(&RoundRobinAssignor, &topics, &members, &expected(round_robin));
    }
}

/// RoundRobinAssignorTest.testTwoConsumersTwoTopicsSixPartitions (C46, G-22).
#[test]
fn round_robin_deals_over_all_topics() {
    let members = alike("t1 t2", &[("c1", ""), ("c2", "")]);
    let expected = [("c1", "t1-0 t1-2 t2-1"), ("c2", "t1-1 t2-0 t2-2")];
    assert_assigned(&RoundRobinAssignor, &[("t1", 3), ("t2", 3)], &members, &expected);
}

/// RoundRobinAssignorTest.testStaticMemberRoundRobinAssignmentPersistent (C46, G-24).
#[test]
fn round_robin_serves_static_members_first() {
    let residents = ["c1", "c2", "c3"].map(|id| resident(id, id, "t1 t2"));
    for dynamic in ["c4", "a"] {
        let members = [&residents[..], &[member(dynamic, "t1 t2", "")]].concat();
        let expected = [("c1", "t1-0 t2-1"), ("c2", "t1-1 t2-2"), ("c3", "t1-2"), (dynamic, "t2-0")];
        assert_assigned(&RoundRobinAssignor, &[("t1", 3), ("t2", 3)], &members, &expected);
    }
}

/// AbstractStickyAssignorTest.testPoorRoundRobinAssignmentScenario (C46, C47, G-25).
#[test]
fn sticky_is_even_where_round_robin_is_not() {
    let topics = [("topic1", 2), ("topic2", 1), ("topic3", 2), ("topic4", 1), ("topic5", 2)];
    let (all, odd) = ("topic1 topic2 topic3 topic4 topic5", "topic1 topic3 topic5");
    let members = [member("c1", all, ""), member("c2", odd, ""), member("c3", odd, ""), member("c4", all, "")];
    let poor = [
        ("c1", "topic1-0 topic3-0 topic5-0"),
        ("c2", "topic1-1 topic3-1 topic5-1"),
        ("c3", ""),
        ("c4", "topic2-0 topic4-0"),
    ];
    assert_assigned(&RoundRobinAssignor, &topics, &members, &poor);
    assert_sizes(&topics, &members, &[2, 2, 2, 2], &[0, 0, 0, 0]);
    // From there, only what is too much moves.
    let poor = settled(&members, &assign(&RoundRobinAssignor, &topics, &members));
    assert_sizes(&topics, &poor, &[2, 2, 2, 2], &[2, 2, 0, 2]);
}

/// AbstractStickyAssignorTest.testMultipleConsumersMixedTopicSubscriptions (C47, G-26).
#[test]
fn sticky_balances_different_subscriptions() {
    let members = [member("c1", "t1", ""), member("c2", "t1 t2", ""), member("c3", "t1", "")];
    let expected = [("c1", "t1-0 t1-2"), ("c2", "t2-0 t2-1"), ("c3", "t1-1")];
    assert_assigned(&StickyAssignor, &[("t1", 3), ("t2", 2)], &members, &expected);
}

/// AbstractStickyAssignorTest.testAddRemoveConsumerOneTopic (C47, G-27).
#[test]
fn sticky_moves_one_partition_to_the_second_member_and_back() {
    let topics = [("t", 3)];
    let all = "t-0 t-1 t-2";
    assert_assigned(&StickyAssignor, &topics, &alike("t", &[("c1", "")]), &[("c1", all)]);
    let joined = alike("t", &[("c1", all), ("c2", "")]);
    assert_assigned(&StickyAssignor, &topics, &joined, &[("c1", "t-0 t-1"), ("c2", "t-2")]);
    assert_assigned(&StickyAssignor, &topics, &alike("t", &[("c2", "t-2")]), &[("c2", all)]);
}

/// AbstractStickyAssignorTest and CooperativeStickyAssignorTest: what is owned stays, what is not fills up (C47, G-28, G-29,
/// G-30). DIFFERENCE: where one of c1 and c2 has to give up a partition to c3, Kafka's hash order takes t2-0 from c1; here the
/// first member keeps what it has, so that static members are disturbed last.
#[test]
fn sticky_keeps_what_is_owned() {
    let owned = alike("t1 t2", &[("c1", "t1-0 t2-1"), ("c2", "t1-1 t2-2")]);
    let expected = [("c1", "t1-0 t2-0 t2-1"), ("c2", "t1-1 t2-2")];
    assert_assigned(&StickyAssignor, &[("t1", 2), ("t2", 3)], &owned, &expected);

    let joined = alike("t1 t2", &[("c1", "t1-0 t2-0"), ("c2", "t1-1 t2-1"), ("c3", "")]);
    let expected = [("c1", "t1-0 t2-0"), ("c2", "t1-1"), ("c3", "t2-1")];
    assert_assigned(&StickyAssignor, &[("t1", 2), ("t2", 2)], &joined, &expected);

    let joined = alike("t", &[("c1", "t-0 t-1"), ("c2", "t-2"), ("c3", "")]);
    assert_assigned(&StickyAssignor, &[("t", 4)], &joined, &[("c1", "t-0 t-1"), ("c2", "t-2"), ("c3", "t-3")]);
}

/// AbstractStickyAssignorTest.testAddRemoveTwoConsumersTwoTopics (C47, G-31). DIFFERENCE: of the partitions of c1 and c2, who
/// have left, Kafka gives t2-1 to c3 and t1-1, t2-0 to c4; here c4, who has least, is served first. The counts are the same.
#[test]
fn sticky_moves_no_more_than_two_members_joining_and_leaving_need() {
    let topics = [("t1", 3), ("t2", 4)];
    let (c1, c2) = ("t1-0 t1-2 t2-1 t2-3", "t1-1 t2-0 t2-2");
    assert_assigned(&StickyAssignor, &topics, &alike("t1 t2", &[("c1", ""), ("c2", "")]), &[("c1", c1), ("c2", c2)]);
    let joined = alike("t1 t2", &[("c1", c1), ("c2", c2), ("c3", ""), ("c4", "")]);
    let expected = [("c1", "t1-0 t2-1"), ("c2", "t1-1 t2-0"), ("c3", "t1-2 t2-3"), ("c4", "t2-2")];
    assert_assigned(&StickyAssignor, &topics, &joined, &expected);
    let left = alike("t1 t2", &[("c3", "t1-2 t2-3"), ("c4", "t2-2")]);
    let expected = [("c3", "t1-1 t1-2 t2-1 t2-3"), ("c4", "t1-0 t2-0 t2-2")];
    assert_assigned(&StickyAssignor, &topics, &left, &expected);
}

/// AbstractStickyAssignorTest.testEnsurePartitionsAssignedToHighestGeneration (C47, G-32).
#[test]
fn sticky_believes_the_latest_generation() {
    let claims = "t1-0 t1-2 t2-1";
    let members = [member("c1", "t1 t2", claims).generation(10), member("c2", "t1 t2", claims).generation(9)];
    let expected = [("c1", claims), ("c2", "t1-1 t2-0 t2-2")];
    assert_assigned(&StickyAssignor, &[("t1", 3), ("t2", 3)], &members, &expected);
}

/// AbstractStickyAssignorTest, CooperativeStickyAssignorTest: claims of several members in one generation (C47, G-34).
#[test]
fn sticky_believes_none_of_two_claims_of_one_generation() {
    let members = alike("t", &[("c1", "t-0 t-1"), ("c2", "t-0 t-2"), ("c3", "")]);
    assert_assigned(&StickyAssignor, &[("t", 3)], &members, &[("c1", "t-1"), ("c2", "t-2"), ("c3", "t-0")]);
}

/// Two topics of twelve: each by itself is shared evenly as the group grows (G-35).
#[test]
fn sticky_shares_each_topic_evenly_as_the_group_grows() {
    let topics = [("t1", 12), ("t2", 12)];
    let mut members = Vec::new();
    for (joining, each) in [(&["c1"][..], 12), (&["c2"], 6), (&["c3", "c4"], 3)] {
        members.extend(joining.iter().map(|id| member(id, "t1 t2", "")));
        let assignment = assign(&StickyAssignor, &topics, &members);
        for topic in ["t1", "t2"] {
            assert_eq!(counts(&assignment, topic), vec![each; members.len()]);
        }
        members = settled(&members, &assignment);
    }
}

/// A topic comes, another one goes (G-36).
#[test]
fn sticky_keeps_what_is_left_when_topics_come_and_go() {
    for (first, second) in [("t1-0", "t1-1 t1-2"), ("t1-1 t1-2", "t1-0")] {
        let members = alike("t1 t2", &[("c1", first), ("c2", second)]);
        let topics = [("t1", 3), ("t2", 3)];
        let sizes: Vec<_> = members.iter().map(|member| member.owns().len()).collect();
        assert_sizes(&topics, &members, &[3, 3], &sizes);
        let grown = settled(&members, &assign(&StickyAssignor, &topics, &members));
        let shrunk = assign(&StickyAssignor, &topics[1..], &grown);
        for member in &grown {
            let before: Vec<_> = member.owns().iter().filter(|owned| owned.topic() == "t2").cloned().collect();
            assert_eq!(shrunk.of(member.member_id()), before);
        }
    }
}

/// PlaintextConsumerAssignorsTest.testMultiConsumerStickyAssignor (C54, G-37).
#[test]
fn a_tenth_member_takes_one_partition_in_ten() {
    for each in 1_u32..=10 {
        let topics = [("t", 10 * each)];
        let ids: Vec<_> = (1..=9).map(|i| format!("c{i}")).collect();
        let nine: Vec<_> = ids.iter().map(|id| member(id, "t", "")).collect();
        let nine = settled(&nine, &assign(&StickyAssignor, &topics, &nine));
        let ten = [&nine[..], &[member("new", "t", "")]].concat();
        let assignment = assign(&StickyAssignor, &topics, &ten);
        let stayed: usize = ten.iter().map(|member| kept(&assignment, member).count()).sum();
        assert_eq!(10 * each - u32::try_from(stayed).unwrap(), each, "partitions that moved");
        assert_eq!(assignment.of("new").len(), each as usize);
    }
}

/// The server's RangeAssignorTest, first assignments (C48, G-38, G-39).
#[test]
fn server_range_divides_each_topic_over_its_subscribers() {
    let members = alike("t1 t3", &[("A", ""), ("B", "")]);
    assert_assigned(&RangeAssignor, &[("t1", 3), ("t3", 2)], &members, &[("A", "t1-0 t1-1 t3-0"), ("B", "t1-2 t3-1")]);
    let members = [member("A", "t1 t2", ""), member("B", "t3", ""), member("C", "t2 t3", "")];
    let expected = [("A", "t1-0 t1-1 t1-2 t2-0 t2-1"), ("B", "t3-0"), ("C", "t2-2 t3-1")];
    assert_assigned(&RangeAssignor, &[("t1", 3), ("t2", 3), ("t3", 2)], &members, &expected);
}

/// The server's RangeAssignorTest, reassignments (C48, G-40).
#[test]
fn server_range_keeps_what_is_owned() {
    let grown = alike("t1 t2", &[("A", "t1-0 t1-1 t2-0 t2-1"), ("B", "t1-2 t2-2")]);
    let expected = [("A", "t1-0 t1-1 t2-0 t2-1"), ("B", "t1-2 t1-3 t2-2 t2-3")];
    assert_assigned(&RangeAssignor, &[("t1", 4), ("t2", 4)], &grown, &expected);

    let joined = alike("t1 t2", &[("A", "t1-0 t2-0"), ("B", "t1-1 t2-1"), ("C", "")]);
    let expected = [("A", "t1-0 t2-0"), ("B", "t1-1 t2-1"), ("C", "")];
    assert_assigned(&RangeAssignor, &[("t1", 2), ("t2", 2)], &joined, &expected);

    let left = alike("t1 t2", &[("B", "t1-2 t2-2")]);
    assert_assigned(&RangeAssignor, &[("t1", 3), ("t2", 3)], &left, &[("B", "t1-0 t1-1 t1-2 t2-0 t2-1 t2-2")]);
}

/// The server's RangeAssignorTest, static members (C48, G-41): also one that has not the first partitions.
#[test]
fn server_range_knows_a_static_member_that_came_back() {
    let topics = [("t1", 3), ("t2", 3)];
    let owned = partitions("t1-1 t1-2 t2-1 t2-2");
    for id in ["A", "Z"] {
        let members = [resident(id, "i1", "t1 t2").owned(owned.clone()), member("B", "t1 t2", "t1-0 t2-0")];
        assert_assigned(&RangeAssignor, &topics, &members, &[(id, "t1-1 t1-2 t2-1 t2-2"), ("B", "t1-0 t2-0")]);
    }
}

/// UniformHomogeneousAssignmentBuilderTest, first assignments (C48, G-42, G-46). DIFFERENCE: who of them gets more, and which
/// ones, depends on the topics' random ids in Kafka. Here the first members get more, and each topic is spread over all.
#[test]
fn uniform_starts_even() {
    let two = alike("t1 t3", &[("A", ""), ("B", "")]);
    assert_sizes(&[("t1", 3), ("t3", 2)], &two, &[2, 3], &[0, 0]);
    let expected = [("A", "t1-0 t1-2 t3-1"), ("B", "t1-1 t3-0")];
    assert_assigned(&UniformAssignor, &[("t1", 3), ("t3", 2)], &two, &expected);
    // testFirstAssignmentNumMembersGreaterThanTotalNumPartitions
    assert_sizes(&[("t3", 2)], &alike("t3", &[("A", ""), ("B", ""), ("C", "")]), &[0, 1, 1], &[0, 0, 0]);
}

/// UniformHomogeneousAssignmentBuilderTest.testReassignmentForTwoMembersTwoTopicsGivenUnbalancedPrevAssignment (C48, G-43).
#[test]
fn uniform_moves_only_what_is_too_much() {
    let members = alike("t1 t2", &[("A", "t1-0 t1-1 t2-0 t2-1"), ("B", "t1-2 t2-2")]);
    let expected = [("A", "t1-0 t1-1 t2-0"), ("B", "t1-2 t2-1 t2-2")];
    assert_assigned(&UniformAssignor, &[("t1", 3), ("t2", 3)], &members, &expected);
}

/// UniformHomogeneousAssignmentBuilderTest.testReassignmentWhenPartitionsAreAddedForTwoMembersTwoTopics (C48, G-44).
/// DIFFERENCE: Kafka fills up one member with new partitions of t2 and the other one with those of t1, in its hash order. Here
/// each gets some of both.
#[test]
fn uniform_shares_new_partitions() {
    let members = alike("t1 t2", &[("A", "t1-0 t1-2 t2-0"), ("B", "t1-1 t2-1 t2-2")]);
    assert_sizes(&[("t1", 6), ("t2", 5)], &members, &[5, 6], &[3, 3]);
    let expected = [("A", "t1-0 t1-2 t1-3 t1-5 t2-0 t2-4"), ("B", "t1-1 t1-4 t2-1 t2-2 t2-3")];
    assert_assigned(&UniformAssignor, &[("t1", 6), ("t2", 5)], &members, &expected);
}

/// UniformHomogeneousAssignmentBuilderTest.testReassignmentWhenOneMemberRemovedAfterInitialAssignmentWithThreeMembersTwoTopics
/// and the one with changed subscriptions (C48, G-45). DIFFERENCE: which of the free partitions is whose, as in G-44.
#[test]
fn uniform_shares_what_a_member_left() {
    let left = alike("t1 t2", &[("A", "t1-0 t2-0"), ("B", "t1-1 t2-1")]);
    let topics = [("t1", 3), ("t2", 3)];
    assert_sizes(&topics, &left, &[3, 3], &[2, 2]);
    assert_assigned(&UniformAssignor, &topics, &left, &[("A", "t1-0 t1-2 t2-0"), ("B", "t1-1 t2-1 t2-2")]);

    let shrunk = alike("t2", &[("A", "t1-0 t2-0"), ("B", "t1-1 t2-1")]);
    assert_assigned(&UniformAssignor, &[("t1", 2), ("t2", 2)], &shrunk, &[("A", "t2-0"), ("B", "t2-1")]);
}

/// AbstractStickyAssignorTest.testLargeAssignmentAndGroupWithUniformSubscription and its sisters (C47). `BROOKLET_TEST_SCALE`
/// above 1 gives Kafka's own size: 500 topics of 2,000 partitions, 2,000 members. No time is asserted: what takes a square of
/// these numbers does not end.
#[test]
fn large_groups_are_assigned() {
    let (topics, partitions, members) = if scale() > 1 { (500, 2_000, 2_000) } else { (100, 200, 200) };
    let names: Vec<_> = (0..topics).map(|i| format!("t{i:03}")).collect();
    let topics: Vec<_> = names.iter().map(|name| (name.clone(), partitions)).collect();
    let ids = (0..members).map(|i| format!("c{i:04}"));
    // Member i subscribes to every topic; or to all but three or four, other ones than its neighbours.
    let equal = ids.clone().map(|id| MemberSpec::new(id).topics(&names));
    let different = ids.enumerate().map(|(i, id)| {
        let wanted = names.iter().enumerate().filter(|(at, _)| (at + i) % (names.len() / 3) != 0);
        MemberSpec::new(id).topics(wanted.map(|(_, name)| name))
    });
    for members in [equal.collect::<Vec<_>>(), different.collect()] {
        let assign = |members: &[MemberSpec]| {
            UniformAssignor.assign(&GroupSpec::new(members.iter().cloned(), topics.iter().cloned())).unwrap()
        };
        let spread = |assignment: &GroupAssignment| {
            let sizes = || assignment.iter().map(|(_, given)| given.len());
            sizes().max().unwrap() - sizes().min().unwrap()
        };
        let all = assign(&members);
        assert!(spread(&all) <= 1);
        // All but one leave, and come back.
        let few = settled(&members[..2], &assign(&members[..2]));
        let back = assign(&[&few, &members[2..]].concat());
        assert!(spread(&back) <= 1);
        let settled = settled(&members, &back);
        assert_eq!(assign(&settled), back, "what is even stays");
    }
}
