//! Consumers: assignment, positions, resets, pausing.

use std::time::Duration;

use brooklet::{Consumer, Error, OffsetReset, OffsetSpec, ProducerRecord};

use crate::support::{NOW, Source, TestBroker, from_tail_and_store, poll_all, poll_now, tp};

const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MS: i64 = 3_600_000;

/// A consumer of partition 0 of `t`, by another reset rule.
fn consumer_by(broker: &TestBroker, reset: OffsetReset) -> Consumer {
    broker.consumer().offset_reset(reset).assign([("t", 0)]).unwrap()
}

/// A broker whose topic `t` has `n` records in its one partition.
fn broker_with(n: u64, source: Source) -> TestBroker {
    let mut broker = TestBroker::new().with_topic("t", 1);
    broker.produce_n("t", 0, n);
    broker.read_from(source);
    broker
}

/// PlaintextConsumerTest.testSeek (C29, C-23, C-24).
#[test]
fn seek_moves_to_the_beginning_the_end_or_an_offset() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        broker.produce_at("t", 0, 0..50);
        broker.read_from(source);
        let partition = tp("t", 0);
        let mut consumer = consumer_by(&broker, OffsetReset::None);
        consumer.seek(&partition, OffsetSpec::Latest).unwrap();
        assert_eq!(consumer.position(&partition).unwrap(), 50);
        assert!(poll_now(&mut consumer).is_empty());
        consumer.seek(&partition, OffsetSpec::Earliest).unwrap();
        assert_eq!(consumer.position(&partition).unwrap(), 0);
        assert_eq!(poll_now(&mut consumer).first(), Some(&0));
        consumer.seek(&partition, 25).unwrap();
        assert_eq!(consumer.position(&partition).unwrap(), 25);
        let records = consumer.poll(Duration::ZERO).unwrap();
        let first = records.iter().next().unwrap();
        assert_eq!((first.offset().get(), first.timestamp()), (25, 25));
        consumer.seek(&partition, OffsetSpec::Timestamp(30)).unwrap();
        assert_eq!(poll_now(&mut consumer).first(), Some(&30));
        consumer.seek(&partition, OffsetSpec::MaxTimestamp).unwrap();
        assert_eq!(poll_now(&mut consumer), [49]);
        consumer.seek(&partition, OffsetSpec::Timestamp(1_000)).unwrap();
        assert_eq!(consumer.position(&partition).unwrap(), 50, "behind every record");
    });
}

/// KafkaConsumerTest.testSeekNegative, SubscriptionStateTest: seeking needs an assignment (C-23, C-24, C-25). DIFFERENCE:
/// offsets are unsigned, so none is negative; times can be.
#[test]
fn what_is_not_assigned_has_no_position() {
    let broker = broker_with(5, Source::Tail);
    let mut consumer = consumer_by(&broker, OffsetReset::Earliest);
    let other = tp("t", 15);
    let illegal = |error: Error| assert!(matches!(error, Error::IllegalState { .. }), "{error}");
    illegal(consumer.seek(&other, 0).unwrap_err());
    illegal(consumer.seek(&other, OffsetSpec::Latest).unwrap_err());
    illegal(consumer.position(&other).unwrap_err());
    illegal(consumer.lag(&other).unwrap_err());
    illegal(consumer.pause([&other]).unwrap_err());
    illegal(consumer.resume([&other]).unwrap_err());
    let negative = consumer.seek(&tp("t", 0), OffsetSpec::Timestamp(-1)).unwrap_err();
    assert!(matches!(negative, Error::IllegalArgument { .. }), "{negative}");
    assert_eq!(poll_now(&mut consumer).len(), 5, "nothing moved");
}

/// SubscriptionStateTest: a list with one partition that is not assigned pauses none (C-26).
#[test]
fn pausing_is_all_or_none() {
    let broker = broker_with(5, Source::Tail);
    let mut consumer = consumer_by(&broker, OffsetReset::Earliest);
    assert!(consumer.pause([&tp("t", 0), &tp("t", 1)]).is_err());
    assert!(consumer.paused().is_empty());
}

/// PlaintextConsumerTest.testPartitionPauseAndResume (C29, C-13, C-26).
#[test]
fn a_paused_partition_gives_nothing_and_goes_on_where_it_was() {
    from_tail_and_store(|source| {
        let broker = broker_with(5, source);
        let partition = tp("t", 0);
        let mut consumer = consumer_by(&broker, OffsetReset::Earliest);
        assert_eq!(poll_now(&mut consumer), [0, 1, 2, 3, 4]);
        consumer.pause([&partition]).unwrap();
        assert_eq!(consumer.paused(), std::slice::from_ref(&partition));
        broker.produce_n("t", 0, 5);
        assert!(consumer.poll(Duration::from_millis(5)).unwrap().is_empty());
        consumer.resume([&partition]).unwrap();
        assert!(consumer.paused().is_empty());
        assert_eq!(poll_now(&mut consumer), [5, 6, 7, 8, 9]);
    });
}

/// KafkaConsumerTest.fetchResponseWithUnexpectedPartitionIsIgnored, FetcherTest.testFetchDiscardedAfterPausedPartition…: what
/// was read ahead is kept by a pause and dropped by a seek (C-13).
#[test]
fn what_was_read_ahead_survives_a_pause_but_not_a_seek() {
    from_tail_and_store(|source| {
        let broker = broker_with(10, source);
        let partition = tp("t", 0);
        let two = broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(2);
        let mut consumer = two.assign([("t", 0)]).unwrap();
        assert_eq!(poll_now(&mut consumer), [0, 1]);
        consumer.pause([&partition]).unwrap();
        assert!(poll_now(&mut consumer).is_empty());
        consumer.resume([&partition]).unwrap();
        assert_eq!(poll_now(&mut consumer), [2, 3]);
        consumer.seek(&partition, 8).unwrap();
        assert_eq!(poll_now(&mut consumer), [8, 9]);
    });
}

/// FetcherTest.testUpdateFetchPositionOfPausedPartitionsWithoutAValidPosition: paused partitions get their position too (C-26).
#[test]
fn the_position_of_a_paused_partition_is_found() {
    let broker = broker_with(5, Source::Tail);
    let mut consumer = consumer_by(&broker, OffsetReset::Latest);
    consumer.pause([&tp("t", 0)]).unwrap();
    assert!(poll_now(&mut consumer).is_empty());
    broker.produce_n("t", 0, 5);
    consumer.resume([&tp("t", 0)]).unwrap();
    assert_eq!(poll_now(&mut consumer), [5, 6, 7, 8, 9], "`latest` was the end at the first poll");
}

/// SubscriptionStateTest.partitionPause, assignFromUser: what stays assigned keeps position and pause (C-4).
#[test]
fn a_new_assignment_keeps_the_positions_of_what_stays() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 3);
        (0..3).for_each(|partition| broker.produce_n("t", partition, 4));
        broker.read_from(source);
        let partitions = [0, 1, 2].map(|partition| tp("t", partition));
        let [first, second, third] = &partitions;
        let mut consumer = broker.consumer_of(&[first.clone(), second.clone(), first.clone()]);
        assert_eq!(consumer.assignment(), [first.clone(), second.clone()], "named twice, assigned once");
        consumer.seek(first, 3).unwrap();
        consumer.seek(second, 2).unwrap();
        consumer.pause([second]).unwrap();
        consumer.assign([third.clone(), second.clone()]).unwrap();
        assert_eq!(consumer.assignment(), [third.clone(), second.clone()]);
        assert_eq!((consumer.paused(), consumer.position(second).unwrap()), (vec![second.clone()], 2.into()));
        assert!(matches!(consumer.position(first), Err(Error::IllegalState { .. })));
        assert_eq!(poll_all(&mut consumer), [0, 1, 2, 3], "of the third only");
        consumer.assign([first.clone()]).unwrap();
        assert_eq!(consumer.position(first).unwrap(), 0, "it came back as new");
        assert!(consumer.paused().is_empty());
    });
}

/// KafkaConsumerTest.testAssignOnUnknownTopic…; C-4, C-8. DIFFERENCE: what does not exist can't be assigned; Kafka waits for
/// it to appear.
#[test]
fn a_bad_assignment_changes_nothing_and_an_empty_one_ends_polling() {
    let broker = broker_with(5, Source::Tail);
    let mut consumer = consumer_by(&broker, OffsetReset::Earliest);
    for unknown in [tp("t", 1), tp("u", 0), tp("", 0), tp("a b", 0)] {
        let error = consumer.assign([tp("t", 0), unknown.clone()]).unwrap_err();
        assert!(matches!(error, Error::UnknownTopicOrPartition { .. }), "{unknown}: {error}");
    }
    assert_eq!(poll_now(&mut consumer).len(), 5);
    consumer.assign::<brooklet::TopicPartition>([]).unwrap();
    assert!(consumer.assignment().is_empty());
    for timeout in [Duration::ZERO, Duration::MAX] {
        assert!(matches!(consumer.poll(timeout), Err(Error::IllegalState { .. })));
    }
    let nothing = broker.consumer().assign::<brooklet::TopicPartition>([]).unwrap();
    assert!(nothing.assignment().is_empty());
}

/// PlaintextConsumerFetchTest.testFetchInvalidOffset (C30, C-20, C-22).
#[test]
fn without_a_reset_rule_a_lost_position_is_an_error_until_the_user_seeks() {
    from_tail_and_store(|source| {
        let broker = broker_with(2, source);
        let partition = tp("t", 0);
        let mut consumer = consumer_by(&broker, OffsetReset::None);
        for _ in 0..2 {
            match consumer.poll(Duration::ZERO) {
                Err(Error::NoOffsetForPartition { partitions }) => {
                    assert_eq!(partitions, std::slice::from_ref(&partition))
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(consumer.position(&partition), Err(Error::NoOffsetForPartition { .. })));
        consumer.seek(&partition, 3).unwrap();
        for _ in 0..2 {
            match consumer.poll(Duration::MAX) {
                Err(Error::OffsetOutOfRange { positions }) => assert_eq!(positions, [(partition.clone(), 3.into())]),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(consumer.position(&partition).unwrap(), 3, "the position is kept");
        consumer.seek(&partition, 1).unwrap();
        assert_eq!(poll_now(&mut consumer), [1]);
    });
}

/// PlaintextConsumerFetchTest.testFetchOutOfRangeOffsetResetConfigEarliest, …Latest (C30, C-22).
#[test]
fn a_position_beyond_the_end_is_reset_by_the_rule() {
    from_tail_and_store(|source| {
        let broker = broker_with(10, source);
        let partition = tp("t", 0);
        let mut earliest = consumer_by(&broker, OffsetReset::Earliest);
        assert_eq!(poll_all(&mut earliest).len(), 10);
        earliest.seek(&partition, 11).unwrap();
        assert_eq!(poll_now(&mut earliest).first(), Some(&0));
        let mut latest = broker.consumer().max_poll_records(5).assign([("t", 0)]).unwrap();
        latest.seek(&partition, 0).unwrap();
        assert_eq!(poll_now(&mut latest), [0, 1, 2, 3, 4]);
        latest.seek(&partition, 27).unwrap();
        assert!(poll_now(&mut latest).is_empty());
        assert_eq!(latest.position(&partition).unwrap(), 10);
        broker.produce_n("t", 0, 10);
        assert_eq!(poll_now(&mut latest).first(), Some(&10));
    });
}

/// PlaintextConsumerFetchTest.testFetchOutOfRangeOffsetResetConfigByDuration (C31, C-21). The clock moves on by a millisecond
/// before the reads, as the wall clock does in Kafka's test: a record of exactly one hour ago would count.
#[test]
fn a_reset_by_duration_starts_at_the_first_record_young_enough() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1).with_topic("hourly", 1);
        broker.produce_n("t", 0, 10);
        broker.produce_at("hourly", 0, (0..25).map(|i| NOW - (24 - i) * HOUR_MS));
        broker.read_from(source);
        broker.clock.advance(Duration::from_millis(1));
        let by_hour = broker.consumer().offset_reset("by_duration:PT1H".parse().unwrap());
        let mut fresh = by_hour.assign([("t", 0)]).unwrap();
        assert_eq!(poll_all(&mut fresh).len(), 10);
        fresh.seek(&tp("t", 0), 11).unwrap();
        assert_eq!(poll_now(&mut fresh).first(), Some(&0));
        let mut hourly = by_hour.assign([("hourly", 0)]).unwrap();
        assert_eq!(poll_now(&mut hourly), [24]);
        hourly.seek(&tp("hourly", 0), 26).unwrap();
        assert_eq!(poll_now(&mut hourly), [24]);
        broker.clock.advance(HOUR);
        let late = by_hour.assign([("hourly", 0)]).unwrap().position(&tp("hourly", 0)).unwrap();
        assert_eq!(late, 25, "none is young enough: the end");
        let longer_than_time = OffsetReset::ByDuration(Duration::MAX);
        let mut all = broker.consumer().offset_reset(longer_than_time).assign([("hourly", 0)]).unwrap();
        assert_eq!(poll_now(&mut all).len(), 25);
    });
}

/// PlaintextConsumerCommitTest.testPositionAndCommit, the part without commits (C36, C-25).
#[test]
fn the_position_is_the_offset_of_the_next_record() {
    from_tail_and_store(|source| {
        let broker = broker_with(5, source);
        let partition = tp("t", 0);
        let mut consumer = consumer_by(&broker, OffsetReset::Earliest);
        assert!(matches!(consumer.position(&tp("t", 15)), Err(Error::IllegalState { .. })));
        assert_eq!(consumer.position(&partition).unwrap(), 0);
        assert_eq!(poll_now(&mut consumer).len(), 5);
        assert_eq!(consumer.position(&partition).unwrap(), 5);
        broker.produce_n("t", 0, 1);
        let mut another = consumer_by(&broker, OffsetReset::None);
        another.seek(&partition, 5).unwrap();
        assert_eq!(poll_now(&mut another), [5]);
    });
}

/// PlaintextConsumerAssignTest.testAssignAndConsumeSkippingPosition, …AllConsumed, the parts without commits (C38, C-19).
#[test]
fn a_consumer_reads_all_from_where_it_was_put() {
    from_tail_and_store(|source| {
        let broker = broker_with(10_000, source);
        let partition = tp("t", 0);
        let mut consumer = consumer_by(&broker, OffsetReset::None);
        consumer.seek(&partition, 0).unwrap();
        assert!(poll_all(&mut consumer).into_iter().eq(0..10_000));
        assert_eq!(consumer.position(&partition).unwrap(), 10_000);
        consumer.seek(&partition, 9_991).unwrap();
        assert_eq!(poll_all(&mut consumer), (9_991..10_000).collect::<Vec<_>>());
        assert_eq!(consumer.position(&partition).unwrap(), 10_000);
    });
}

/// Where a consumer without a position starts (C-19, C-20).
#[test]
fn earliest_starts_at_the_log_start_and_latest_at_the_end() {
    from_tail_and_store(|source| {
        let broker = broker_with(10, source);
        broker.delete_records(&tp("t", 0), 4).unwrap();
        assert_eq!(poll_now(&mut consumer_by(&broker, OffsetReset::Earliest)), (4..10).collect::<Vec<_>>());
        let mut latest = broker.consumer().assign([("t", 0)]).unwrap();
        assert!(poll_now(&mut latest).is_empty(), "`latest` is the default");
        assert_eq!(latest.position(&tp("t", 0)).unwrap(), 10);
        broker.produce_n("t", 0, 1);
        assert_eq!(poll_now(&mut latest), [10]);
    });
}

/// KafkaConsumerTest.testCurrentLag, testListOffsetShouldUpdateSubscriptions (C40, C-12, C-27).
#[test]
fn the_lag_is_known_once_the_position_is() {
    from_tail_and_store(|source| {
        let broker = broker_with(90, source);
        let partition = tp("t", 0);
        let five = broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(5);
        let mut consumer = five.assign([("t", 0)]).unwrap();
        assert_eq!(consumer.lag(&partition).unwrap(), None);
        consumer.seek(&partition, 50).unwrap();
        assert_eq!(consumer.lag(&partition).unwrap(), Some(40));
        broker.produce_n("t", 0, 10);
        let records = consumer.poll(Duration::ZERO).unwrap();
        assert_eq!(records.next_offsets(), [(partition.clone(), 55.into())]);
        assert_eq!(consumer.position(&partition).unwrap(), 55);
        assert_eq!(consumer.lag(&partition).unwrap(), Some(45));
    });
}

/// PlaintextConsumerTest.testFetchOffsetsForTime (C44, C-28). DIFFERENCE: no leader epoch, as there is one leader for ever.
#[test]
fn offsets_are_found_by_time_in_many_partitions_at_once() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 2).with_topic("u", 1);
        (0..2).for_each(|partition| broker.produce_at("t", partition, 0..100));
        broker.read_from(source);
        let consumer = broker.consumer().assign([("u", 0)]).unwrap();
        assert!(matches!(consumer.offsets_for_times([(("t", 0), -1)]), Err(Error::IllegalArgument { .. })));
        let found = |times: &[(u32, i64)]| {
            let times = times.iter().map(|&(partition, time)| (("t", partition), time));
            let found = consumer.offsets_for_times(times).unwrap();
            found.into_iter().map(|(_, at)| at.map(|at| (at.offset.get(), at.timestamp))).collect::<Vec<_>>()
        };
        assert_eq!(found(&[(0, 0), (1, 20)]), [Some((0, 0)), Some((20, 20))]);
        assert_eq!(found(&[(0, 1_000)]), [None]);
        broker.delete_records(&tp("t", 0), 50).unwrap();
        assert_eq!(found(&[(0, 0), (0, 60)]), [Some((50, 50)), Some((60, 60))]);
        assert!(consumer.offsets_for_times([(("t", 2), 0)]).is_err());
    });
}

/// ConsumerTest.testBeginningOffsets, testEndOffsets: looking does not move (C-29).
#[test]
fn beginning_and_end_are_told_without_moving() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 2);
        broker.produce_n("t", 1, 10);
        broker.delete_records(&tp("t", 1), 4).unwrap();
        broker.read_from(source);
        let both = [tp("t", 0), tp("t", 1)];
        let mut consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign([("t", 1)]).unwrap();
        let plain = |offsets: Vec<(brooklet::TopicPartition, brooklet::Offset)>| {
            offsets.into_iter().map(|(_, offset)| offset.get()).collect::<Vec<_>>()
        };
        assert_eq!(plain(consumer.beginning_offsets(&both).unwrap()), [0, 4]);
        assert_eq!(plain(consumer.end_offsets(&both).unwrap()), [0, 10]);
        assert_eq!(consumer.lag(&tp("t", 1)).unwrap(), None);
        assert!(consumer.end_offsets([&tp("t", 2)]).is_err());
        assert_eq!(poll_now(&mut consumer), (4..10).collect::<Vec<_>>());
    });
}

/// A seek wins over a reset that is not done yet (C-23).
#[test]
fn a_seek_wins_over_the_reset() {
    let broker = broker_with(10, Source::Tail);
    let mut consumer = consumer_by(&broker, OffsetReset::Latest);
    consumer.seek(&tp("t", 0), 3).unwrap();
    consumer.seek(&tp("t", 0), OffsetSpec::Latest).unwrap();
    consumer.seek(&tp("t", 0), 7).unwrap();
    assert_eq!(poll_now(&mut consumer), [7, 8, 9]);
}

/// `seek` to the end is resolved when the position is needed, not before (C-24).
#[test]
fn the_end_is_looked_up_when_it_is_needed() {
    let broker = broker_with(10, Source::Tail);
    let mut consumer = consumer_by(&broker, OffsetReset::Earliest);
    consumer.seek(&tp("t", 0), OffsetSpec::Latest).unwrap();
    broker.produce(ProducerRecord::to("t"));
    assert_eq!(consumer.position(&tp("t", 0)).unwrap(), 11);
}

/// PlaintextConsumerTest.testSeek (C-24): to the beginning and to the end, of some partitions or of all.
#[test]
fn seeking_to_both_ends_moves_the_named_partitions_or_all() {
    let broker = TestBroker::new().with_topic("t", 2);
    (0..2).for_each(|partition| broker.produce_n("t", partition, 3));
    let mut consumer = broker.consumer_of(&[tp("t", 0), tp("t", 1)]);
    consumer.seek_to_end([]).unwrap();
    assert_eq!(
        (consumer.position(&tp("t", 0)).unwrap(), consumer.position(&tp("t", 1)).unwrap()),
        (3.into(), 3.into())
    );
    consumer.seek_to_beginning([&tp("t", 1)]).unwrap();
    assert_eq!(poll_all(&mut consumer), [0, 1, 2]);
    let refused = consumer.seek_to_beginning([&tp("t", 0), &tp("t", 2)]).unwrap_err();
    assert!(matches!(refused, Error::IllegalState { .. }), "{refused}");
    assert!(poll_all(&mut consumer).is_empty(), "no position moved");
    // The end is looked up when it is needed.
    consumer.seek_to_end([&tp("t", 0)]).unwrap();
    broker.produce_n("t", 0, 1);
    assert_eq!(consumer.position(&tp("t", 0)).unwrap(), 4);
}
