//! Committed offsets: what a restart resumes at.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use brooklet::{
    Consumer, ConsumerBuilder, Error, GroupState, NewTopic, OffsetAndMetadata, OffsetReset, ResetTo, TopicPartition,
};

use crate::support::{TestBroker, poll_now, tp};

/// A consumer of group `g` that reads from the start where nothing is committed.
fn of_group(broker: &TestBroker) -> ConsumerBuilder {
    broker.consumer().group("g").offset_reset(OffsetReset::Earliest)
}

fn committed(consumer: &Consumer, partition: &TopicPartition) -> Option<u64> {
    let found = consumer.committed([partition]).unwrap();
    found[0].1.as_ref().map(|committed| committed.offset.get())
}

/// What group `g` committed of partition 0 of `t`, as another consumer of it sees it.
fn committed_by_g(broker: &TestBroker) -> Option<u64> {
    committed(&of_group(broker).assign([("t", 0)]).unwrap(), &tp("t", 0))
}

fn broker_with(records: u64) -> TestBroker {
    let broker = TestBroker::new().with_topic("t", 2);
    broker.produce_n("t", 0, records);
    broker
}

/// PlaintextConsumerCommitTest.testPositionAndCommit (C36, C-25, C-38).
#[test]
fn another_consumer_of_the_group_starts_where_the_first_committed() {
    let mut broker = broker_with(5);
    let partition = tp("t", 0);
    let mut consumer = of_group(&broker).assign([partition.clone()]).unwrap();
    assert_eq!(committed(&consumer, &tp("t", 15)), None);
    assert!(matches!(consumer.position(&tp("t", 15)), Err(Error::IllegalState { .. })));
    assert_eq!(consumer.position(&partition).unwrap(), 0);
    consumer.commit().unwrap();
    assert_eq!(committed(&consumer, &partition), Some(0));
    assert_eq!(poll_now(&mut consumer).len(), 5);
    assert_eq!(consumer.position(&partition).unwrap(), 5);
    consumer.commit().unwrap();
    assert_eq!(committed(&consumer, &partition), Some(5));
    broker.produce_n("t", 0, 1);
    let mut other = of_group(&broker).assign([partition.clone()]).unwrap();
    assert_eq!(poll_now(&mut other), [5]);
    // Also in the next session.
    drop((consumer, other));
    broker.reopen();
    let mut later = of_group(&broker).assign([partition]).unwrap();
    assert_eq!(poll_now(&mut later), [5]);
}

/// PlaintextConsumerCommitTest.testCommitMetadata, testNoCommittedOffsets (C35, C-31, C-34). DIFFERENCE: there are no leader
/// epochs, as there are no leaders.
#[test]
fn metadata_come_back_and_what_was_never_committed_is_none() {
    let broker = broker_with(5);
    let partition = tp("t", 0);
    let mut consumer = of_group(&broker).assign([partition.clone()]).unwrap();
    let foo = OffsetAndMetadata::new(5).metadata("foo");
    consumer.commit_offsets([(partition.clone(), foo.clone())]).unwrap();
    assert_eq!(consumer.committed([&partition]).unwrap()[0].1, Some(foo));
    let bar = OffsetAndMetadata::new(10).metadata("bar");
    consumer.commit_offsets_async([(partition.clone(), bar.clone())], |outcome| outcome.unwrap()).unwrap();
    consumer.commit_offsets([] as [(TopicPartition, u64); 0]).unwrap();
    assert_eq!(consumer.committed([&partition]).unwrap()[0].1, Some(bar));
    consumer.commit_offsets([(partition.clone(), 5)]).unwrap();
    assert_eq!(consumer.committed([&partition]).unwrap()[0].1, Some(OffsetAndMetadata::new(5)));
    let all = consumer.committed([&partition, &tp("t", 1), &tp("t", 9), &tp("nowhere", 0)]).unwrap();
    assert_eq!(all.iter().filter(|(_, committed)| committed.is_none()).count(), 3);
}

/// `offset.metadata.max.bytes` (C-31).
#[test]
fn metadata_that_are_too_long_are_refused_and_nothing_is_committed() {
    let broker = broker_with(5);
    let mut consumer = of_group(&broker).assign([("t", 0)]).unwrap();
    let with = |bytes| OffsetAndMetadata::new(1).metadata("x".repeat(bytes));
    consumer.commit_offsets([(tp("t", 0), with(4096))]).unwrap();
    let refused = consumer.commit_offsets([(tp("t", 1), with(0)), (tp("t", 0), with(4097))]).unwrap_err();
    assert!(matches!(refused, Error::OffsetMetadataTooLarge { size: 4097, limit: 4096, .. }), "{refused}");
    assert_eq!(committed(&consumer, &tp("t", 1)), None);
}

/// A commit may go back and beyond the end (C-33); reading then starts by the reset rule (C-22).
#[test]
fn a_commit_is_not_checked_against_the_log() {
    let broker = broker_with(5);
    let mut consumer = of_group(&broker).assign([("t", 0)]).unwrap();
    for offset in [3, 1, 100] {
        consumer.commit_offsets([(tp("t", 0), offset)]).unwrap();
        assert_eq!(committed_by_g(&broker), Some(offset));
    }
    let mut beyond = of_group(&broker).assign([("t", 0)]).unwrap();
    assert_eq!(poll_now(&mut beyond).first(), Some(&0));
}

/// PlaintextConsumerCommitTest.testAsyncCommit, testCommitAsyncCompletedBeforeCommitSyncReturns (C37, C-35). DIFFERENCE: the
/// callbacks run in the thread that writes the commits, as those of sends do, not within `poll`.
#[test]
fn callbacks_come_in_order_and_before_a_later_commit_returns() {
    let broker = broker_with(5);
    let (one, two) = (tp("t", 0), tp("t", 1));
    let mut consumer = of_group(&broker).assign([one.clone(), two.clone()]).unwrap();
    let called = Arc::new(Mutex::new(Vec::new()));
    let tell = |number: u64| {
        let called = Arc::clone(&called);
        move |outcome: Result<(), Error>| called.lock().unwrap().push((number, outcome.is_ok()))
    };
    for offset in 1..=5 {
        consumer.commit_offsets_async([(one.clone(), offset)], tell(offset)).unwrap();
    }
    let nothing = [] as [(TopicPartition, u64); 0];
    consumer.commit_offsets(nothing.clone()).unwrap();
    assert_eq!(*called.lock().unwrap(), [(1, true), (2, true), (3, true), (4, true), (5, true)]);
    assert_eq!(committed(&consumer, &one), Some(5));
    consumer.commit_offsets_async([(one.clone(), 2)], tell(6)).unwrap();
    consumer.commit_offsets([(two.clone(), 2)]).unwrap();
    assert_eq!((committed(&consumer, &one), committed(&consumer, &two)), (Some(2), Some(2)));
    assert_eq!(called.lock().unwrap().len(), 6);
    consumer.commit_offsets_async([(one, 3)], tell(7)).unwrap();
    consumer.close().unwrap();
    assert_eq!(called.lock().unwrap().len(), 7, "closing waits for them, too");
    assert_eq!(committed_by_g(&broker), Some(3));
}

/// PlaintextConsumerAssignTest.testAssignAndCommitSyncNotCommitted, testAssignAndCommitSyncAllConsumed,
/// testAssignAndConsumeFromCommittedOffsets, testAssignAndConsumeSkippingPosition (C38, C-19, C-32).
#[test]
fn only_partitions_with_a_position_are_committed() {
    let broker = broker_with(100);
    let partition = tp("t", 0);
    let mut consumer = of_group(&broker).assign([partition.clone()]).unwrap();
    consumer.commit().unwrap();
    assert_eq!(committed(&consumer, &partition), None);
    consumer.seek(&partition, 0).unwrap();
    assert_eq!(poll_now(&mut consumer).len(), 100);
    consumer.commit().unwrap();
    assert_eq!(committed(&consumer, &partition), Some(100));
    consumer.commit_offsets([(partition.clone(), 10)]).unwrap();
    let mut other = of_group(&broker).assign([partition.clone()]).unwrap();
    let read = poll_now(&mut other);
    assert_eq!((read.len(), read.first()), (90, Some(&10)));
    other.seek(&partition, 91).unwrap();
    assert_eq!(poll_now(&mut other).len(), 9);
    assert_eq!(other.position(&partition).unwrap(), 100);
}

/// PlaintextConsumerCommitTest.testAutoCommitOnClose, testAutoCommitOnCloseAfterWakeup (C34, C-36).
#[test]
fn automatic_commits_happen_on_close_also_after_a_wakeup() {
    for wakes in [false, true] {
        let broker = TestBroker::new().with_topic("t", 2);
        broker.produce_n("t", 0, 1000);
        broker.produce_n("t", 1, 1000);
        let mut consumer = of_group(&broker).auto_commit(Duration::from_secs(5)).subscribe(["t"]).unwrap();
        poll_now(&mut consumer);
        consumer.seek(&tp("t", 0), 300).unwrap();
        consumer.seek(&tp("t", 1), 500).unwrap();
        if wakes {
            consumer.waker().wake();
        }
        consumer.close().unwrap();
        let other = of_group(&broker).assign([("t", 0)]).unwrap();
        assert_eq!((committed(&other, &tp("t", 0)), committed(&other, &tp("t", 1))), (Some(300), Some(500)));
    }
}

/// PlaintextConsumerTest.testUnsubscribeDoesNotCommitOffsetsWithAutoCommitEnabled (C34, C-7).
#[test]
fn unsubscribing_commits_nothing() {
    let broker = broker_with(10);
    let mut consumer = of_group(&broker).auto_commit(Duration::from_secs(5)).subscribe(["t"]).unwrap();
    assert_eq!(poll_now(&mut consumer).len(), 10);
    consumer.unsubscribe().unwrap();
    assert!(consumer.assignment().is_empty());
    assert_eq!(committed_by_g(&broker), None);
}

/// At the first poll after the interval, and only what the polls before returned (C-36).
#[test]
fn automatic_commits_cover_what_earlier_polls_returned() {
    let broker = broker_with(10);
    let mut consumer =
        of_group(&broker).auto_commit(Duration::from_secs(5)).max_poll_records(4).assign([("t", 0)]).unwrap();
    assert_eq!(poll_now(&mut consumer).len(), 4);
    broker.clock.advance(Duration::from_secs(4));
    assert_eq!(poll_now(&mut consumer).len(), 4);
    broker.producer().flush().unwrap();
    assert_eq!(committed_by_g(&broker), None);
    broker.clock.advance(Duration::from_secs(1));
    assert_eq!(poll_now(&mut consumer).len(), 2);
    broker.producer().flush().unwrap();
    assert_eq!(committed_by_g(&broker), Some(8));
    // Another assignment commits the positions first.
    consumer.assign([("t", 1)]).unwrap();
    broker.producer().flush().unwrap();
    assert_eq!(committed_by_g(&broker), Some(10));
}

/// Records in a channel are not processed yet.
#[test]
fn a_receiver_does_not_commit_by_itself() {
    let broker = broker_with(1);
    let consumer = of_group(&broker).auto_commit(Duration::from_secs(5)).subscribe(["t"]).unwrap();
    assert!(matches!(consumer.into_receiver(1), Err(Error::IllegalState { .. })));
    let receiver = of_group(&broker).subscribe(["t"]).unwrap().into_receiver(1).unwrap();
    assert_eq!(receiver.receiver().recv().unwrap().unwrap().get().offset(), 0);
}

/// C-8, C-1: what needs a group, and what excludes what.
#[test]
fn the_modes_exclude_each_other_and_need_what_they_need() {
    let broker = broker_with(1);
    let no_group = |error: Error| assert!(matches!(error, Error::InvalidGroupId { .. }), "{error}");
    no_group(broker.consumer().subscribe(["t"]).unwrap_err());
    no_group(broker.consumer().group("").subscribe(["t"]).unwrap_err());
    let mut alone = broker.consumer().assign([("t", 0)]).unwrap();
    no_group(alone.commit().unwrap_err());
    no_group(alone.commit_offsets([(tp("t", 0), 1)]).unwrap_err());
    no_group(alone.committed([&tp("t", 0)]).unwrap_err());
    let illegal = |error: Error| assert!(matches!(error, Error::IllegalState { .. }), "{error}");
    let mut assigned = of_group(&broker).assign([("t", 0)]).unwrap();
    illegal(assigned.subscribe(["t"]).unwrap_err());
    illegal(assigned.subscribe_pattern("t.*").unwrap_err());
    assigned.unsubscribe().unwrap();
    illegal(assigned.poll(Duration::ZERO).unwrap_err());
    assigned.subscribe(["t"]).unwrap();
    illegal(assigned.assign([("t", 0)]).unwrap_err());
    // Unlike in Kafka's broker, the other order is one mode: the list replaces the pattern (C-2).
    assigned.subscribe_pattern("t.*").unwrap();
    assert_eq!(assigned.subscription(), ["/t.*/"]);
    assigned.subscribe([] as [&str; 0]).unwrap();
    assert!(assigned.subscription().is_empty());
    illegal(assigned.poll(Duration::ZERO).unwrap_err());
    assert!(matches!(of_group(&broker).subscribe(["a/b"]).unwrap_err(), Error::InvalidTopic { .. }));
    let pattern = of_group(&broker).subscribe_pattern("a)|(b").unwrap_err();
    assert!(matches!(pattern, Error::InvalidRegularExpression { .. }), "{pattern}");
}

/// A topic takes its commits with it (G-57, A-4).
#[test]
fn deleting_a_topic_removes_what_was_committed_of_it() {
    let mut broker = broker_with(5).with_topic("other", 1);
    let mut consumer = of_group(&broker).assign([("t", 0), ("other", 0)]).unwrap();
    consumer.commit_offsets([(tp("t", 0), 5), (tp("other", 0), 0)]).unwrap();
    broker.delete_topic("t").unwrap();
    assert_eq!(committed(&consumer, &tp("t", 0)), None);
    broker.create_topic(NewTopic::new("t", 2)).unwrap();
    broker.produce_n("t", 0, 3);
    assert_eq!(committed(&consumer, &tp("t", 0)), None);
    drop(consumer);
    broker.reopen();
    assert_eq!(committed_by_g(&broker), None);
    let description = broker.describe_group("g").unwrap();
    assert_eq!(description.partitions.len(), 1);
}

/// A group that never had members and has nothing committed any more is gone (G-57), in this session as in the next.
#[test]
fn a_group_disappears_with_its_last_offset() {
    let mut broker = broker_with(1).with_topic("other", 1);
    for (group, topic) in [("g", "other"), ("h", "t")] {
        broker.alter_group_offsets(group, [(tp(topic, 0), 1)]).unwrap();
    }
    broker.delete_topic("other").unwrap();
    broker.delete_group_offsets("h", [&tp("t", 0)]).unwrap();
    for _ in 0..2 {
        assert!(broker.groups().unwrap().is_empty());
        assert!(matches!(broker.delete_group("g"), Err(Error::GroupIdNotFound { .. })));
        broker.reopen();
    }
}

/// OffsetMetadataManagerTest.testCleanupExpiredOffsets; G-55, G-56, G-57: kept at 999, gone at 1000. DIFFERENCE: nothing expires
/// unless `offsets_retention` is set.
#[test]
fn offsets_of_idle_groups_expire_when_they_have_a_retention() {
    let minute = Duration::from_secs(60);
    let broker = TestBroker::with(|builder| builder.offsets_retention(Some(10 * minute)).background(false));
    broker.create_topic(NewTopic::new("t", 1)).unwrap();
    broker.maintain().unwrap();
    broker.alter_group_offsets("g", [(tp("t", 0), 5)]).unwrap();
    broker.clock.advance(10 * minute - Duration::from_millis(1));
    broker.maintain().unwrap();
    broker.maintain().unwrap();
    assert_eq!(committed_by_g(&broker), Some(5));
    broker.clock.advance(10 * minute);
    // The first finds it, the second commits what it found.
    broker.maintain().unwrap();
    broker.maintain().unwrap();
    assert!(matches!(broker.describe_group("g"), Err(Error::GroupIdNotFound { .. })));
    assert!(broker.groups().unwrap().is_empty());
}

/// ResetConsumerGroupOffsetTest (C53, G-64).
#[test]
fn a_reset_goes_where_the_tool_goes() {
    let broker = TestBroker::new().with_topic("t", 1).with_topic("empty", 1);
    let (partition, empty) = (tp("t", 0), tp("empty", 0));
    broker.produce_n("t", 0, 200);
    let to = |to| {
        broker.alter_group_offsets("g", [(partition.clone(), 100)]).unwrap();
        let planned = broker.plan_group_reset("g", [&partition], to).unwrap();
        assert_eq!(committed_by_g(&broker), Some(100), "a dry run changes nothing");
        let changes = broker.reset_group_offsets("g", [&partition], to).unwrap();
        assert_eq!(changes, planned);
        assert_eq!(changes[0].before.unwrap(), 100);
        assert_eq!(committed_by_g(&broker), Some(changes[0].after.get()));
        changes[0].after.get()
    };
    assert_eq!([50, -50, -150, 150].map(|by| to(ResetTo::ShiftBy(by))), [150, 50, 0, 200]);
    assert_eq!([ResetTo::Current, ResetTo::Earliest, ResetTo::Latest].map(to), [100, 0, 200]);
    assert_eq!([1_u64, 300].map(|offset| to(ResetTo::Offset(offset.into()))), [1, 200]);
    assert_eq!(to(ResetTo::ByDuration(Duration::from_secs(60))), 0);
    assert_eq!(to(ResetTo::Timestamp(i64::MAX)), 200);
    let of_empty = broker.reset_group_offsets("g", [&empty], ResetTo::ByDuration(Duration::from_secs(60))).unwrap();
    assert_eq!((of_empty[0].before, of_empty[0].after.get()), (None, 0));
    assert_eq!(broker.group_partitions("g").unwrap(), [empty.clone(), partition.clone()]);

    let shift = broker.reset_group_offsets("new", [&partition], ResetTo::ShiftBy(1)).unwrap_err();
    assert!(matches!(shift, Error::IllegalArgument { .. }), "{shift}");
    let mut member = of_group(&broker).subscribe(["t"]).unwrap();
    poll_now(&mut member);
    let before = committed(&member, &partition);
    let refused = broker.reset_group_offsets("g", [&partition], ResetTo::Latest).unwrap_err();
    assert!(matches!(refused, Error::GroupNotEmpty { members: 1, .. }), "{refused}");
    assert_eq!(committed(&member, &partition), before);
}

/// G-60, G-61, G-62: what an administrator may do to a group, and when.
#[test]
fn groups_are_listed_altered_and_deleted() {
    let mut broker = broker_with(5);
    let partition = tp("t", 0);
    let unknown = |error: Error| assert!(matches!(error, Error::GroupIdNotFound { .. }), "{error}");
    unknown(broker.describe_group("g").unwrap_err());
    unknown(broker.delete_group("g").unwrap_err());
    unknown(broker.delete_group_offsets("g", [&partition]).unwrap_err());
    assert!(broker.groups().unwrap().is_empty());
    let nowhere = broker.alter_group_offsets("g", [(tp("nowhere", 0), 1)]).unwrap_err();
    assert!(matches!(nowhere, Error::UnknownTopicOrPartition { .. }));
    broker.alter_group_offsets("g", [(partition.clone(), 3)]).unwrap();

    let mut member = of_group(&broker).subscribe(["t"]).unwrap();
    assert_eq!(poll_now(&mut member), [3, 4]);
    let listed = broker.groups().unwrap();
    assert_eq!((listed[0].name.as_str(), listed[0].state), ("g", GroupState::Stable));
    assert!(matches!(broker.delete_group("g"), Err(Error::GroupNotEmpty { members: 1, .. })));
    assert!(matches!(
        broker.delete_group_offsets("g", [&partition]),
        Err(Error::GroupSubscribedToTopic { topic, .. }) if topic == "t"
    ));
    assert!(matches!(broker.alter_group_offsets("g", [(partition.clone(), 1)]), Err(Error::UnknownMemberId { .. })));
    let described = broker.describe_group("g").unwrap();
    assert_eq!(described.members[0].assignment, [tp("t", 0), tp("t", 1)]);
    assert_eq!(described.partitions[0].lag, Some(2));
    assert_eq!(described.partitions[1].lag, None, "nothing is committed of it");
    member.close().unwrap();

    broker.delete_group_offsets("g", [&partition, &tp("t", 1)]).unwrap();
    assert_eq!(committed_by_g(&broker), None);
    broker.alter_group_offsets("g", [(partition.clone(), 1)]).unwrap();
    broker.reopen();
    assert_eq!(committed_by_g(&broker), Some(1));
    broker.delete_group("g").unwrap();
    unknown(broker.describe_group("g").unwrap_err());
    broker.reopen();
    unknown(broker.describe_group("g").unwrap_err());
    assert_eq!(committed_by_g(&broker), None);
}

/// ClassicGroupTest.testValidateOffsetCommit (C49, G-49, C-5). DIFFERENCE: a handle is its member, so there are no generations to
/// get wrong; who was replaced or removed is no member.
#[test]
fn while_a_group_has_members_only_they_commit() {
    let broker = broker_with(5);
    let mut outsider = of_group(&broker).assign([("t", 0)]).unwrap();
    outsider.commit_offsets([(tp("t", 0), 1)]).unwrap();
    let mut member = of_group(&broker).group_instance_id("i").subscribe(["t"]).unwrap();
    poll_now(&mut member);
    assert!(matches!(outsider.commit_offsets([(tp("t", 0), 2)]), Err(Error::UnknownMemberId { .. })));
    member.commit_offsets([(tp("t", 0), 3)]).unwrap();
    broker.remove_group_members("g", ["i"]).unwrap();
    assert!(matches!(member.commit_offsets([(tp("t", 0), 4)]), Err(Error::CommitFailed { .. })));
    assert_eq!(committed_by_g(&broker), Some(3));
    outsider.commit_offsets([(tp("t", 0), 2)]).unwrap();
    assert_eq!(committed_by_g(&broker), Some(2));
}

/// A consumer of `t` that commits within every poll.
fn committing(broker: &TestBroker) -> ConsumerBuilder {
    of_group(broker).auto_commit(Duration::ZERO).max_poll_records(1)
}

/// Kafka commits every position again, so what another member committed meanwhile does not stay (C-36).
#[test]
fn an_automatic_commit_replaces_what_another_member_committed_meanwhile() {
    let mut broker = TestBroker::new().with_topic("t", 1);
    broker.produce_n("t", 0, 10);
    let mut a = of_group(&broker).auto_commit(Duration::ZERO).client_id("a").subscribe(["t"]).unwrap();
    assert_eq!(poll_now(&mut a).len(), 10);
    assert!(poll_now(&mut a).is_empty());
    a.commit_offsets([] as [(TopicPartition, u64); 0]).unwrap();
    assert_eq!(committed_by_g(&broker), Some(10));
    // B is the only one that reads `t` for a while.
    a.subscribe(["elsewhere"]).unwrap();
    assert!(poll_now(&mut a).is_empty());
    let mut b = of_group(&broker).client_id("b").subscribe(["t"]).unwrap();
    poll_now(&mut b);
    assert_eq!(b.assignment(), [tp("t", 0)]);
    b.commit_offsets([(tp("t", 0), 3)]).unwrap();
    b.close().unwrap();
    a.subscribe(["t"]).unwrap();
    assert_eq!(poll_now(&mut a), [3, 4, 5, 6, 7, 8, 9]);
    a.close().unwrap();
    assert_eq!(committed_by_g(&broker), Some(10));
    broker.reopen();
    assert_eq!(committed_by_g(&broker), Some(10));
}

/// The same for everything else that changes what is committed: an administrator, another handle, a deletion (C-36).
#[test]
fn an_automatic_commit_replaces_whatever_changed_the_group_meanwhile() {
    type Change = fn(&TestBroker);
    let changes: [(&str, Change, Option<u64>); 5] = [
        ("alter", |broker| broker.alter_group_offsets("g", [(tp("t", 0), 1)]).unwrap(), Some(1)),
        ("reset", |broker| drop(broker.reset_group_offsets("g", [&tp("t", 0)], ResetTo::Earliest).unwrap()), Some(0)),
        ("delete offsets", |broker| broker.delete_group_offsets("g", [&tp("t", 0)]).unwrap(), None),
        ("delete group", |broker| broker.delete_group("g").unwrap(), None),
        (
            "commit",
            |broker| of_group(broker).assign([("t", 0)]).unwrap().commit_offsets([(tp("t", 0), 2)]).unwrap(),
            Some(2),
        ),
    ];
    for (what, change, after) in changes {
        let broker = broker_with(5);
        let latest = || broker.consumer().group("g").auto_commit(Duration::ZERO).offset_reset(OffsetReset::Latest);
        let mut consumer = latest().assign([("t", 0)]).unwrap();
        poll_now(&mut consumer);
        poll_now(&mut consumer);
        consumer.commit_offsets([] as [(TopicPartition, u64); 0]).unwrap();
        assert_eq!(committed_by_g(&broker), Some(5), "{what}");
        change(&broker);
        assert_eq!(committed_by_g(&broker), after, "{what}");
        consumer.close().unwrap();
        assert_eq!(committed_by_g(&broker), Some(5), "{what}");
        // What comes while nobody reads is not skipped.
        broker.produce_n("t", 0, 1);
        assert_eq!(poll_now(&mut latest().assign([("t", 0)]).unwrap()), [5], "{what}");
    }
}

/// A commit on its way into the journal counts, whoever made it.
#[test]
fn an_automatic_commit_sees_commits_that_nobody_has_waited_for() {
    let broker = broker_with(5);
    let mut consumer = committing(&broker).assign([("t", 0)]).unwrap();
    poll_now(&mut consumer);
    poll_now(&mut consumer);
    consumer.commit().unwrap();
    assert_eq!(committed_by_g(&broker), Some(2));
    let mut other = of_group(&broker).assign([("t", 0)]).unwrap();
    other.commit_offsets_async([(tp("t", 0), 0)], |outcome| outcome.unwrap()).unwrap();
    consumer.close().unwrap();
    other.close().unwrap();
    assert_eq!(committed_by_g(&broker), Some(2));
}

/// An idle consumer writes nothing.
#[test]
fn an_automatic_commit_of_what_is_committed_writes_nothing() {
    let broker = broker_with(5);
    let mut consumer = committing(&broker).assign([("t", 0), ("t", 1)]).unwrap();
    while !poll_now(&mut consumer).is_empty() {}
    broker.producer().flush().unwrap();
    let used = broker.stats().unwrap().journal_used_bytes;
    for _ in 0..3 {
        assert!(poll_now(&mut consumer).is_empty());
        broker.producer().flush().unwrap();
    }
    assert_eq!(broker.stats().unwrap().journal_used_bytes, used);
}

/// PlaintextConsumerCommitTest: a commit of an empty map is one as well (C-35).
#[test]
fn a_commit_of_nothing_calls_its_callback_in_its_turn() {
    let broker = broker_with(5);
    let called = Arc::new(Mutex::new(Vec::new()));
    let note = |number: u32| {
        let called = Arc::clone(&called);
        move |outcome: brooklet::Result<()>| {
            outcome.unwrap();
            called.lock().unwrap().push(number);
        }
    };
    // An idle worker: it has no partition, or none with a position.
    let mut idle = of_group(&broker).subscribe(["nowhere"]).unwrap();
    poll_now(&mut idle);
    idle.commit_async(note(1)).unwrap();
    assert_eq!(*called.lock().unwrap(), [1]);
    idle.close().unwrap();
    let mut consumer = of_group(&broker).assign([("t", 0)]).unwrap();
    consumer.commit_async(note(2)).unwrap();
    consumer.commit_offsets_async([(tp("t", 0), 1)], note(3)).unwrap();
    consumer.commit_offsets_async([] as [(TopicPartition, u64); 0], note(4)).unwrap();
    assert_eq!(*called.lock().unwrap(), [1, 2], "the third is not written yet, and the fourth comes after it");
    consumer.commit().unwrap();
    consumer.commit_offsets_async([] as [(TopicPartition, u64); 0], note(5)).unwrap();
    assert_eq!(*called.lock().unwrap(), [1, 2, 3, 4, 5]);
}

/// Deleting a topic removes its offsets in all groups, and a group without any disappears (G-57).
#[test]
fn a_commit_after_the_deletion_of_its_topic_does_not_revive_the_group() {
    let mut broker = broker_with(5);
    let mut consumer = of_group(&broker).auto_commit(Duration::ZERO).assign([("t", 0)]).unwrap();
    poll_now(&mut consumer);
    consumer.commit().unwrap();
    broker.delete_topic("t").unwrap();
    assert!(broker.groups().unwrap().is_empty());
    consumer.commit().unwrap();
    consumer.commit_async(|outcome| outcome.unwrap()).unwrap();
    let refused = consumer.commit_offsets([(tp("t", 0), 1)]).unwrap_err();
    assert!(matches!(refused, Error::UnknownTopicOrPartition { .. }), "{refused}");
    poll_now(&mut consumer);
    assert!(broker.groups().unwrap().is_empty());
    // Nor does it commit for the topic that has the name later.
    broker.create_topic(NewTopic::new("t", 1)).unwrap();
    consumer.commit().unwrap();
    consumer.close().unwrap();
    assert!(broker.groups().unwrap().is_empty());
    broker.reopen();
    assert!(broker.groups().unwrap().is_empty());
}
