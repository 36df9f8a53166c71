//! Consumer groups: who reads what, what it is told, and what happens to who is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brooklet::{
    Consumer, ConsumerBuilder, Error, GroupMembershipOperation, GroupState, ListenerResult, NewTopic, OffsetReset,
    RebalanceListener, TopicPartition, UniformAssignor,
};

use crate::support::{TestBroker, poll_all, poll_now, tp};

const MINUTE: Duration = Duration::from_secs(60);

fn of_group(broker: &TestBroker) -> ConsumerBuilder {
    broker.consumer().group("g").offset_reset(OffsetReset::Earliest)
}

fn tps(topic: &str, partitions: impl IntoIterator<Item = u32>) -> Vec<TopicPartition> {
    partitions.into_iter().map(|partition| tp(topic, partition)).collect()
}

fn sorted(mut partitions: Vec<TopicPartition>) -> Vec<TopicPartition> {
    partitions.sort();
    partitions
}

/// Polls all in turn until nobody's assignment changes any more.
fn settle(consumers: &mut [&mut Consumer]) {
    for _ in 0..3 {
        for consumer in consumers.iter_mut() {
            poll_now(consumer);
        }
    }
}

/// What a listener was told, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
}

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Scribe {
    told: Arc<Mutex<Vec<Told>>>,
}

impl Scribe {
    /// A consumer that tells a scribe.
    fn of(mut consumer: Consumer) -> (Consumer, Self) {
        let scribe = Self::default();
        consumer.set_rebalance_listener(scribe.clone()).unwrap();
        (consumer, scribe)
    }

    /// What it was told since it was last asked.
    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    fn write(&self, told: Told) -> ListenerResult {
        self.told.lock().unwrap().push(told);
        Ok(())
    }
}

impl RebalanceListener for Scribe {
    fn on_partitions_assigned(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) -> ListenerResult {
        self.write(Told::Assigned(sorted(partitions.to_vec())))
    }

    fn on_partitions_revoked(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) -> ListenerResult {
        self.write(Told::Revoked(sorted(partitions.to_vec())))
    }

    fn on_partitions_lost(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) -> ListenerResult {
        self.write(Told::Lost(sorted(partitions.to_vec())))
    }
}

/// PlaintextConsumerSubscriptionTest.testPatternSubscription, testPatternUnsubscription (C39, C-3).
#[test]
fn a_pattern_matches_whole_names_also_of_topics_that_come_later() {
    let mut broker = TestBroker::new();
    for name in ["topic", "tblablac", "tblablak", "tblab1"] {
        broker = broker.with_topic(name, 2);
    }
    let mut consumer = of_group(&broker).subscribe_pattern("t.*c").unwrap();
    assert!(consumer.assignment().is_empty(), "not before a poll (C-2)");
    poll_now(&mut consumer);
    let both = || [tps("tblablac", 0..2), tps("topic", 0..2)].concat();
    assert_eq!(sorted(consumer.assignment()), both());
    broker.create_topic(NewTopic::new("tsomec", 2)).unwrap();
    poll_now(&mut consumer);
    assert_eq!(sorted(consumer.assignment()), [both(), tps("tsomec", 0..2)].concat());
    broker.delete_topic("tsomec").unwrap();
    poll_now(&mut consumer);
    assert_eq!(sorted(consumer.assignment()), both());
    consumer.unsubscribe().unwrap();
    assert!(consumer.assignment().is_empty());
}

/// KafkaConsumerTest.testSubscriptionOnEmptyTopic..., C-2, C-6: another list replaces the first, and a topic that does not exist is
/// waited for.
#[test]
fn a_list_replaces_the_one_before_and_waits_for_topics() {
    let broker = TestBroker::new().with_topic("a", 1).with_topic("b", 1);
    let mut consumer = of_group(&broker).subscribe(["a", "later"]).unwrap();
    assert_eq!(consumer.subscription(), ["a", "later"]);
    poll_now(&mut consumer);
    assert_eq!(consumer.assignment(), tps("a", [0]));
    broker.create_topic(NewTopic::new("later", 1)).unwrap();
    broker.produce_n("later", 0, 3);
    assert_eq!(poll_all(&mut consumer), [0, 1, 2]);
    consumer.subscribe(["b"]).unwrap();
    poll_now(&mut consumer);
    assert_eq!(consumer.assignment(), tps("b", [0]));
}

/// T-8: a partition that comes to a topic which the group reads is read from its start, whatever the reset rule says.
#[test]
fn a_new_partition_is_read_from_its_start() {
    let mut broker = TestBroker::new().with_topic("t", 1);
    broker.produce_n("t", 0, 5);
    let latest = |broker: &TestBroker| broker.consumer().group("g").offset_reset(OffsetReset::Latest).subscribe(["t"]);
    let mut consumer = latest(&broker).unwrap();
    assert!(poll_all(&mut consumer).is_empty());
    broker.create_partitions("t", 2).unwrap();
    broker.produce_n("t", 1, 3);
    assert_eq!(poll_all(&mut consumer), [0, 1, 2]);
    // Also when it comes while nobody of the group is there, in another session.
    consumer.commit().unwrap();
    drop(consumer);
    broker.reopen();
    broker.create_partitions("t", 3).unwrap();
    broker.produce_n("t", 2, 2);
    let mut consumer = latest(&broker).unwrap();
    assert_eq!(poll_all(&mut consumer), [0, 1]);
    // A group that never read the topic begins by its rule.
    let mut other = broker.consumer().group("other").offset_reset(OffsetReset::Latest).subscribe(["t"]).unwrap();
    assert!(poll_all(&mut other).is_empty());
}

/// partitions of a deleted topic go, and what is created again under the name is another topic.
#[test]
fn a_topic_that_was_created_again_is_read_anew() {
    let broker = TestBroker::new().with_topic("t", 2).with_topic("other", 1);
    broker.produce_n("t", 0, 5);
    let (mut consumer, scribe) = Scribe::of(of_group(&broker).subscribe(["t", "other"]).unwrap());
    assert_eq!(poll_all(&mut consumer).len(), 5);
    consumer.commit().unwrap();
    scribe.take();
    broker.delete_topic("t").unwrap();
    assert!(poll_all(&mut consumer).is_empty());
    assert_eq!(scribe.take(), [Told::Revoked(tps("t", 0..2))]);
    assert_eq!(consumer.assignment(), tps("other", [0]));
    broker.create_topic(NewTopic::new("t", 1)).unwrap();
    broker.produce_n("t", 0, 2);
    assert_eq!(poll_all(&mut consumer), [0, 1]);
    assert_eq!(scribe.take(), [Told::Assigned(tps("t", [0]))]);
}

/// PlaintextConsumerCallbackTest.testOnPartitionsAssignedCalledWithExpectedPartitions (C42, C-45). DIFFERENCE: every assignor
/// is incremental (KIP-848); there is no eager mode that gives up everything first.
#[test]
fn only_what_is_new_is_told() {
    let broker = TestBroker::new().with_topic("topic", 1).with_topic("newTopic", 1);
    let (mut consumer, scribe) = Scribe::of(of_group(&broker).subscribe(["topic"]).unwrap());
    poll_now(&mut consumer);
    assert_eq!(scribe.take(), [Told::Assigned(tps("topic", [0]))]);
    consumer.subscribe(["topic", "newTopic"]).unwrap();
    poll_now(&mut consumer);
    assert_eq!(scribe.take(), [Told::Assigned(tps("newTopic", [0]))]);
    assert_eq!(sorted(consumer.assignment()), [tps("newTopic", [0]), tps("topic", [0])].concat());
    consumer.close().unwrap();
    assert_eq!(scribe.take(), [Told::Revoked([tps("newTopic", [0]), tps("topic", [0])].concat())]);
}

/// MockConsumerTest.testRebalanceListener (C43, C-44): what goes is told before what comes.
#[test]
fn revoked_is_told_before_assigned() {
    let broker = TestBroker::new().with_topic("a", 1).with_topic("b", 1);
    let (mut consumer, scribe) = Scribe::of(of_group(&broker).subscribe(["a"]).unwrap());
    poll_now(&mut consumer);
    consumer.subscribe(["b"]).unwrap();
    poll_now(&mut consumer);
    let expected = [Told::Assigned(tps("a", [0])), Told::Revoked(tps("a", [0])), Told::Assigned(tps("b", [0]))];
    assert_eq!(scribe.take(), expected);
    consumer.unsubscribe().unwrap();
    assert_eq!(scribe.take(), [Told::Revoked(tps("b", [0]))]);
}

/// PlaintextConsumerCallbackTest.testSeekPositionAndPauseNewlyAssignedPartitionOnPartitionsAssignedCallback (C42, C-47, C-48).
#[test]
fn a_listener_may_seek_and_pause_and_commit() {
    struct SeekAndPause;

    impl RebalanceListener for SeekAndPause {
        fn on_partitions_assigned(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) -> ListenerResult {
            for partition in partitions {
                assert_eq!(consumer.position(partition)?, 0);
                consumer.seek(partition, 100)?;
                consumer.commit()?;
                assert!(consumer.committed([partition])?[0].1.is_some());
            }
            consumer.pause(partitions)?;
            for refused in [
                consumer.poll(Duration::ZERO).map(drop),
                consumer.subscribe(["other"]),
                consumer.unsubscribe(),
                consumer.assign([("t", 0)]),
                consumer.set_rebalance_listener(SeekAndPause),
            ] {
                assert!(matches!(refused, Err(Error::IllegalState { .. })), "{refused:?}");
            }
            Ok(())
        }
    }

    let broker = TestBroker::new().with_topic("t", 1);
    broker.produce_n("t", 0, 120);
    let mut consumer = of_group(&broker).subscribe(["t"]).unwrap();
    consumer.set_rebalance_listener(SeekAndPause).unwrap();
    assert!(poll_all(&mut consumer).is_empty());
    assert_eq!(consumer.paused(), tps("t", [0]));
    consumer.resume(&tps("t", [0])).unwrap();
    assert_eq!(poll_all(&mut consumer), (100..120).collect::<Vec<_>>());
}

/// C-47: the error comes out of `poll`, after everything else, and the assignment is in force.
#[test]
fn a_listener_that_fails_does_not_stop_the_rebalance() {
    struct Failing;

    impl RebalanceListener for Failing {
        fn on_partitions_assigned(&mut self, _: &mut Consumer, _: &[TopicPartition]) -> ListenerResult {
            Err("out of paper".into())
        }
    }

    let broker = TestBroker::new().with_topic("t", 1);
    broker.produce_n("t", 0, 1);
    let mut consumer = of_group(&broker).subscribe(["t"]).unwrap();
    consumer.set_rebalance_listener(Failing).unwrap();
    let failed = consumer.poll(Duration::ZERO).unwrap_err();
    assert!(matches!(failed, Error::RebalanceListener { .. }));
    assert!(failed.to_string().contains("out of paper"), "{failed}");
    assert_eq!(consumer.assignment(), tps("t", [0]));
    assert_eq!(poll_now(&mut consumer), [0]);
}

/// GroupMetadataManagerTest.testReconciliationProcess (C51, G-47), with three handles polled in turn. DIFFERENCE: the uniform
/// assignor decides who gives up what; the order of the steps and the counts are Kafka's.
#[test]
fn a_partition_has_one_owner_at_every_moment_of_a_rebalance() {
    let broker = TestBroker::new().with_topic("foo", 6).with_topic("bar", 3);
    let join = || Scribe::of(of_group(&broker).assignor(UniformAssignor).subscribe(["foo", "bar"]).unwrap());
    let ((mut m1, told1), (mut m2, told2)) = (join(), join());
    settle(&mut [&mut m1, &mut m2]);
    assert_eq!(broker.describe_group("g").unwrap().state, GroupState::Stable);
    let epoch = broker.describe_group("g").unwrap().epoch;
    let owned_before = m1.assignment().len();
    told1.take();
    told2.take();

    let (mut m3, told3) = join();
    let mut owners: BTreeMap<TopicPartition, usize> = BTreeMap::new();
    let mut check = |consumers: [&Consumer; 3]| {
        owners.clear();
        for (i, consumer) in consumers.into_iter().enumerate() {
            for partition in consumer.assignment() {
                assert_eq!(owners.insert(partition, i), None);
            }
        }
        let state = broker.describe_group("g").unwrap().state;
        assert_eq!(
            state == GroupState::Stable,
            owners.len() == 9 && consumers.iter().all(|one| one.assignment().len() == 3)
        );
    };
    poll_now(&mut m3);
    assert!(told3.take().is_empty(), "it waits for the others");
    check([&m1, &m2, &m3]);
    poll_now(&mut m1);
    check([&m1, &m2, &m3]);
    poll_now(&mut m3);
    let freed = told3.take();
    assert!(matches!(&freed[..], [Told::Assigned(some)] if some.len() == owned_before - 3), "{freed:?}");
    check([&m1, &m2, &m3]);
    poll_now(&mut m2);
    check([&m1, &m2, &m3]);
    poll_now(&mut m3);
    poll_now(&mut m1);
    poll_now(&mut m2);
    check([&m1, &m2, &m3]);
    let group = broker.describe_group("g").unwrap();
    assert_eq!((group.state, group.epoch), (GroupState::Stable, epoch + 1));
    for told in [told1.take(), told2.take()] {
        assert!(
            matches!(&told[..], [Told::Revoked(_)]),
            "least movement: nothing came, and one callback told what went: {told:?}"
        );
    }
}

/// PlaintextConsumerAssignorsTest.testMultiConsumerStickyAssignor (C54, G-37).
#[test]
fn a_member_that_joins_moves_only_what_balance_needs() {
    let broker = TestBroker::new().with_topic("t", 30);
    let mut members: Vec<_> = (0..9).map(|_| of_group(&broker).subscribe(["t"]).unwrap()).collect();
    settle(&mut members.iter_mut().collect::<Vec<_>>());
    let before: Vec<_> = members.iter().map(|member| sorted(member.assignment())).collect();
    members.push(of_group(&broker).subscribe(["t"]).unwrap());
    settle(&mut members.iter_mut().collect::<Vec<_>>());
    assert_eq!(members[9].assignment().len(), 3);
    let moved = |(before, after): (&Vec<TopicPartition>, &Consumer)| {
        let after = after.assignment();
        assert!(after.iter().all(|partition| before.contains(partition)), "nothing moves between the old ones");
        before.len() - after.len()
    };
    assert_eq!(before.iter().zip(&members).map(moved).sum::<usize>(), 3);
}

/// GroupMetadataManagerTest.testNoGroupEpochBumpWhenStaticMemberTemporarilyLeaves (C54, G-52, G-53, G-54).
#[test]
fn a_static_member_keeps_its_partitions_while_it_is_away() {
    let broker = TestBroker::with(|builder| builder.background(false)).with_topic("t", 4);
    let named = |name: &str| of_group(&broker).group_instance_id(name).subscribe(["t"]).unwrap();
    let ((mut m1, told1), mut m2) = (Scribe::of(named("m1")), named("m2"));
    settle(&mut [&mut m1, &mut m2]);
    told1.take();
    let (epoch, owned) = (broker.describe_group("g").unwrap().epoch, sorted(m2.assignment()));

    m2.close().unwrap();
    poll_now(&mut m1);
    let mut m2 = named("m2");
    poll_now(&mut m2);
    poll_now(&mut m1);
    assert_eq!(sorted(m2.assignment()), owned);
    assert_eq!(broker.describe_group("g").unwrap().epoch, epoch);
    assert!(told1.take().is_empty());

    // Alive twice.
    let refused = named("m2").poll(Duration::ZERO).unwrap_err();
    assert!(matches!(refused, Error::UnreleasedInstanceId { .. }), "{refused}");

    // Away for too long.
    drop(m2);
    broker.clock.advance(Duration::from_secs(44));
    broker.maintain().unwrap();
    poll_now(&mut m1);
    assert_eq!(m1.assignment().len(), 2);
    broker.clock.advance(Duration::from_secs(1));
    broker.maintain().unwrap();
    poll_now(&mut m1);
    assert_eq!(m1.assignment().len(), 4);

    // Closed for good, and removed by an administrator.
    let mut m2 = named("m2");
    settle(&mut [&mut m1, &mut m2]);
    assert_eq!(m1.assignment().len(), 2);
    m2.close_with(GroupMembershipOperation::LeaveGroup).unwrap();
    poll_now(&mut m1);
    assert_eq!(m1.assignment().len(), 4);
    let mut m2 = named("m2");
    settle(&mut [&mut m1, &mut m2]);
    drop(m2);
    broker.remove_group_members("g", ["m2"]).unwrap();
    poll_now(&mut m1);
    assert_eq!(m1.assignment().len(), 4);
}

/// PlaintextConsumerPollTest.testMaxPollIntervalMs, ...DelayInRevocation (G-4, C-37, C-46).
#[test]
fn who_does_not_poll_in_time_loses_its_partitions_and_joins_again() {
    let broker = TestBroker::with(|builder| builder.background(false)).with_topic("t", 2);
    broker.produce_n("t", 0, 4);
    broker.produce_n("t", 1, 4);
    let join = || of_group(&broker).max_poll_interval(MINUTE).subscribe(["t"]).unwrap();
    let ((mut stuck, told), mut other) = (Scribe::of(join()), join());
    settle(&mut [&mut stuck, &mut other]);
    assert_eq!((stuck.assignment().len(), other.assignment().len()), (1, 1));
    told.take();

    broker.clock.advance(MINUTE - Duration::from_millis(1));
    poll_now(&mut other);
    broker.maintain().unwrap();
    assert_eq!(broker.describe_group("g").unwrap().members.len(), 2);
    broker.clock.advance(Duration::from_millis(1));
    broker.maintain().unwrap();
    assert_eq!(broker.describe_group("g").unwrap().members.len(), 1);
    poll_all(&mut other);
    assert_eq!(other.assignment().len(), 2);
    other.commit().unwrap();

    // Its late commit fails and overwrites nothing.
    let late = stuck.commit().unwrap_err();
    assert!(matches!(late, Error::CommitFailed { .. }), "{late}");
    let lost = sorted(stuck.assignment());
    settle(&mut [&mut stuck, &mut other]);
    let told = told.take();
    assert_eq!(told[0], Told::Lost(lost));
    assert!(matches!(&told[1..], [Told::Assigned(some)] if some.len() == 1), "{told:?}");
    assert_eq!((stuck.assignment().len(), other.assignment().len()), (1, 1));
    stuck.commit().unwrap();
}

/// KIP-345: a static member that polls too late does not leave; its partitions wait until the session time-out has passed as
/// well (G-52).
#[test]
fn a_static_member_that_polls_too_late_keeps_its_partitions_for_the_session_time_out() {
    let broker = TestBroker::with(|builder| builder.background(false)).with_topic("t", 2);
    broker.produce_n("t", 0, 4);
    broker.produce_n("t", 1, 4);
    let named = |name: &str| {
        let builder = of_group(&broker).group_instance_id(name).max_poll_interval(MINUTE);
        Scribe::of(builder.session_timeout(3 * MINUTE).subscribe(["t"]).unwrap())
    };
    let ((mut late, told), (mut other, _)) = (named("late"), named("other"));
    settle(&mut [&mut late, &mut other]);
    told.take();
    let (epoch, owned) = (broker.describe_group("g").unwrap().epoch, late.assignment());
    let wait = |other: &mut Consumer| {
        broker.clock.advance(MINUTE);
        broker.maintain().unwrap();
        poll_all(other);
    };
    // Late, but within the session: nothing moved, and it commits as ever.
    (0..3).for_each(|_| wait(&mut other));
    late.commit().unwrap();
    poll_all(&mut late);
    assert_eq!((late.assignment(), broker.describe_group("g").unwrap().epoch), (owned.clone(), epoch));
    assert!(told.take().is_empty());
    // Late, and a consumer of the same name takes its place.
    wait(&mut other);
    let (mut again, _) = named("late");
    poll_all(&mut again);
    assert_eq!((again.assignment(), broker.describe_group("g").unwrap().epoch), (owned.clone(), epoch));
    let refused = late.commit().unwrap_err();
    assert!(matches!(refused, Error::CommitFailed { .. }), "{refused}");
    let refused = late.poll(Duration::ZERO).unwrap_err();
    assert!(matches!(refused, Error::UnreleasedInstanceId { .. }), "{refused}");
    assert_eq!(told.take(), [Told::Lost(owned)]);
    late.close().unwrap();
    // Later than the session time-out.
    (0..3).for_each(|_| wait(&mut other));
    assert_eq!(other.assignment().len(), 1);
    wait(&mut other);
    assert_eq!(other.assignment().len(), 2);
}

/// G-61, T-8: whose commit was taken back starts by the reset rule, also in a partition that came later; the others of those are
/// still read from their start.
#[test]
fn a_commit_taken_back_brings_the_reset_rule_back() {
    let mut broker = TestBroker::new().with_topic("t", 1);
    let latest = |broker: &TestBroker| broker.consumer().group("g").offset_reset(OffsetReset::Latest).subscribe(["t"]);
    let mut consumer = latest(&broker).unwrap();
    poll_now(&mut consumer);
    broker.create_partitions("t", 4).unwrap();
    (0..4).for_each(|partition| broker.produce_n("t", partition, 3));
    assert_eq!(poll_all(&mut consumer).len(), 12);
    consumer.commit_offsets([(tp("t", 0), 3), (tp("t", 1), 3), (tp("t", 3), 3)]).unwrap();
    consumer.close().unwrap();
    broker.delete_group_offsets("g", [&tp("t", 0), &tp("t", 1)]).unwrap();
    for reopened in [false, true] {
        if reopened {
            broker.reopen();
        }
        let mut consumer = latest(&broker).unwrap();
        assert_eq!(poll_all(&mut consumer), [0, 1, 2], "of partition 2, reopened: {reopened}");
        consumer.close().unwrap();
    }
    // Whoever commits there again goes on from there.
    let mut consumer = latest(&broker).unwrap();
    poll_all(&mut consumer);
    consumer.commit().unwrap();
    consumer.close().unwrap();
    broker.produce_n("t", 1, 1);
    assert_eq!(poll_all(&mut latest(&broker).unwrap()), [3]);
    // A group that is deleted knows nothing any more.
    broker.delete_group("g").unwrap();
    assert!(poll_all(&mut latest(&broker).unwrap()).is_empty());
}

/// C-37: a member can't commit what is another's by now.
#[test]
fn a_commit_of_a_partition_that_moved_fails() {
    let broker = TestBroker::new().with_topic("t", 2);
    let mut one = of_group(&broker).subscribe(["t"]).unwrap();
    poll_now(&mut one);
    one.commit_offsets([(tp("t", 0), 1), (tp("t", 1), 1)]).unwrap();
    let mut other = of_group(&broker).subscribe(["t"]).unwrap();
    settle(&mut [&mut other, &mut one]);
    let moved = other.assignment();
    other.commit_offsets([(moved[0].clone(), 5)]).unwrap();
    let refused = one.commit_offsets([(moved[0].clone(), 2)]).unwrap_err();
    assert!(matches!(refused, Error::CommitFailed { .. }), "{refused}");
    assert_eq!(other.committed(&moved).unwrap()[0].1.as_ref().unwrap().offset, 5);
}

/// The next owner starts at what the one before committed while it gave the partition up (C-44, C-36).
#[test]
fn what_is_committed_on_the_way_out_is_where_the_next_begins() {
    struct CommitOnRevoke;

    impl RebalanceListener for CommitOnRevoke {
        fn on_partitions_revoked(&mut self, consumer: &mut Consumer, _: &[TopicPartition]) -> ListenerResult {
            Ok(consumer.commit()?)
        }
    }

    for automatic in [false, true] {
        let broker = TestBroker::new().with_topic("t", 2);
        broker.produce_n("t", 0, 5);
        broker.produce_n("t", 1, 5);
        let builder = of_group(&broker);
        let builder = if automatic { builder.auto_commit(MINUTE) } else { builder };
        let mut one = builder.subscribe(["t"]).unwrap();
        if !automatic {
            one.set_rebalance_listener(CommitOnRevoke).unwrap();
        }
        assert_eq!(poll_all(&mut one).len(), 10);
        let mut other = builder.subscribe(["t"]).unwrap();
        assert!(poll_all(&mut other).is_empty(), "the first has not given anything up yet");
        poll_now(&mut one);
        assert!(poll_all(&mut other).is_empty(), "automatic: {automatic}");
        assert_eq!(other.assignment().len(), 1);
        // Dropping tells no listener (C-43), so that only automatic commits cover what came last.
        let left = one.assignment()[0].partition();
        broker.produce_n("t", left, 3);
        assert_eq!(poll_all(&mut one), [5, 6, 7]);
        drop(one);
        assert_eq!(poll_all(&mut other).len(), if automatic { 0 } else { 3 });
    }
}

/// C-50: who a consumer is.
#[test]
fn a_consumer_knows_who_it_is() {
    let broker = TestBroker::new().with_topic("t", 1);
    assert!(broker.consumer().assign([("t", 0)]).unwrap().group_metadata().is_none());
    let mut consumer = of_group(&broker).group_instance_id("i").client_id("billing-7").subscribe(["t"]).unwrap();
    let before = consumer.group_metadata().unwrap();
    assert_eq!((before.group.as_str(), before.member_id, before.epoch), ("g", None, None));
    poll_now(&mut consumer);
    let after = consumer.group_metadata().unwrap();
    assert!(after.member_id.unwrap().starts_with("billing-7-"));
    assert_eq!((after.epoch, after.instance_id.as_deref()), (Some(1), Some("i")));
}

/// The epoch goes on where it was when the file is opened again.
#[test]
fn the_epoch_survives_the_session() {
    let mut broker = TestBroker::new().with_topic("t", 1);
    poll_now(&mut of_group(&broker).subscribe(["t"]).unwrap());
    let epoch = broker.describe_group("g").unwrap().epoch;
    assert_eq!((epoch, broker.describe_group("g").unwrap().state), (2, GroupState::Empty));
    broker.reopen();
    assert_eq!(broker.describe_group("g").unwrap().epoch, epoch);
}
