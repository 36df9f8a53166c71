//! Segments, retention and what it does to readers. Sizes are measured: Kafka's `5r` is what five records take as they are
//! stored.

use std::time::Duration;

use brooklet::{
    CleanReport, CleanupPolicy, Error, NewTopic, OffsetReset, OffsetSpec, ProducerRecord, TopicConfig, TopicPartition,
};

use crate::support::{NOW, PATIENCE, TestBroker, bounds, finishes, poll_all, poll_now, seen, tp};

const HOUR: Duration = Duration::from_secs(3_600);
/// Longer than any record of these tests is old.
const AGES: Duration = Duration::from_secs(1 << 40);

/// Cleans until everything is done.
fn clean(broker: &TestBroker) -> CleanReport {
    let report = broker.clean(Duration::MAX).unwrap();
    assert!(report.is_complete, "{report}");
    report
}

/// Log start, end, and segments in the store.
fn shape(broker: &TestBroker, topic: &str) -> (u64, u64, u64) {
    let partition = broker.describe_topic(topic).unwrap().partitions()[0];
    (partition.log_start.get(), partition.end.get(), partition.segments)
}

fn stored_bytes(broker: &TestBroker, topic: &str) -> u64 {
    broker.describe_topic(topic).unwrap().partitions()[0].stored_bytes
}

/// Appends a record for each of these times, all of one size but for how their times are told, and waits for them.
fn produce_at(broker: &TestBroker, topic: &str, partition: u32, timestamps: impl IntoIterator<Item = i64>) {
    let producer = broker.producer();
    for timestamp in timestamps {
        let record = ProducerRecord::to(topic).partition(partition).timestamp(timestamp).value([b'.'; 200]);
        drop(producer.send(record).unwrap());
    }
    producer.flush().unwrap();
}

/// What `count` records take that are sent together and carry the same time.
fn bytes_of(broker: &TestBroker, count: usize) -> u64 {
    let topic = format!("probe-{count}");
    broker.create_topic(NewTopic::new(&topic, 1).config(limited(AGES))).unwrap();
    produce_at(broker, &topic, 0, vec![NOW; count]);
    clean(broker);
    let bytes = stored_bytes(broker, &topic);
    broker.delete_topic(&topic).unwrap();
    bytes
}

fn limited(age: Duration) -> TopicConfig {
    TopicConfig::default().retention(Some(age))
}

/// How much larger five records may get by times that differ: too little for a sixth.
const TIMES: u64 = 100;

/// A broker whose topic `t` has these limits, and segments of five records each. Gives what five take, too.
fn with_segments_of_five(config: TopicConfig) -> (TestBroker, u64) {
    let broker = TestBroker::new();
    let five = bytes_of(&broker, 5);
    broker.create_topic(NewTopic::new("t", 1).config(config.segment_bytes(five + TIMES))).unwrap();
    (broker, five)
}

/// UnifiedLogTest.shouldDeleteSizeBasedSegments (C18, L-4).
#[test]
fn by_size_the_oldest_segments_go_while_the_limit_is_still_reached() {
    let (mut broker, five) = with_segments_of_five(TopicConfig::default());
    broker.alter_topic("t", |config| Ok(config.retention_bytes(Some(2 * five)))).unwrap();
    produce_at(&broker, "t", 0, [NOW; 15]);
    let report = clean(&broker);
    assert_eq!((report.partitions, report.segments, report.records), (1, 1, 5));
    assert_eq!(shape(&broker, "t"), (5, 15, 2));
    assert_eq!(stored_bytes(&broker, "t"), 2 * five);
    assert_eq!(clean(&broker).segments, 0);
    broker.reopen();
    assert_eq!(shape(&broker, "t"), (5, 15, 2));
    assert_eq!(broker.consume_all(&tp("t", 0)).len(), 10);
}

/// UnifiedLogTest.shouldNotDeleteSizeBasedSegmentsWhenUnderRetentionSize (C18, L-4).
#[test]
fn by_size_nothing_goes_up_to_the_limit() {
    let (broker, five) = with_segments_of_five(TopicConfig::default());
    for limit in [3 * five, 3 * five - 1, 2 * five + 1] {
        broker.alter_topic("t", |config| Ok(config.retention_bytes(Some(limit)))).unwrap();
        produce_at(&broker, "t", 0, vec![NOW; if limit == 3 * five { 15 } else { 0 }]);
        assert_eq!(clean(&broker).segments, 0, "limit {limit}");
    }
    assert_eq!(shape(&broker, "t"), (0, 15, 3));
}

/// UnifiedLogTest.shouldDeleteTimeBasedSegmentsReadyToBeDeleted (C19, L-3, L-6). DIFFERENCE: Kafka rolls a new empty segment;
/// here a segment begins with its first record, and there is none.
#[test]
fn what_is_too_old_goes_the_active_segment_too() {
    let broker = TestBroker::new();
    let config = limited(Duration::from_millis(10_000)).segment_bytes(bytes_of(&broker, 15));
    broker.create_topic(NewTopic::new("t", 1).config(config)).unwrap();
    produce_at(&broker, "t", 0, [10; 15]);
    assert_eq!(clean(&broker).segments, 1);
    assert_eq!((shape(&broker, "t"), stored_bytes(&broker, "t")), ((15, 15, 0), 0));
}

/// UnifiedLogTest.shouldNotDeleteTimeBasedSegmentsWhenNoneReadyToBeDeleted (C19, L-3).
#[test]
fn what_is_young_enough_stays() {
    let (broker, _) = with_segments_of_five(limited(Duration::from_millis(10_000_000)));
    produce_at(&broker, "t", 0, [NOW; 15]);
    assert_eq!(clean(&broker).segments, 0);
    assert_eq!(shape(&broker, "t"), (0, 15, 3));
}

/// UnifiedLog.deleteRetentionMsBreachedSegments (L-3): strictly older, by the largest timestamp of a segment's records, and
/// not by when they came (L-7).
#[test]
fn the_largest_timestamp_of_a_segment_decides_to_the_millisecond() {
    let (broker, _) = with_segments_of_five(limited(Duration::from_millis(1_000)));
    produce_at(&broker, "t", 0, [NOW - 5_000, NOW - 5_000, NOW - 1_000, NOW - 5_000, NOW - 5_000]);
    produce_at(&broker, "t", 0, [NOW - 5_000; 5]);
    assert_eq!(clean(&broker).segments, 0);
    broker.clock.advance(Duration::from_millis(1));
    assert_eq!(clean(&broker).segments, 2);
    assert_eq!(shape(&broker, "t"), (10, 10, 0));
}

/// UnifiedLog.deletableSegments (L-1, L-3).
#[test]
fn a_record_from_the_future_keeps_its_segment_and_all_later_ones() {
    let (broker, _) = with_segments_of_five(limited(Duration::from_millis(1_000)));
    let future = NOW + 3_000_000;
    produce_at(&broker, "t", 0, [[10; 5], [10, 10, future, 10, 10], [10; 5]].concat());
    assert_eq!(clean(&broker).segments, 1);
    assert_eq!(shape(&broker, "t"), (5, 15, 2));
    broker.clock.set(future + 1_001);
    assert_eq!(clean(&broker).segments, 2);
}

/// UnifiedLogTest.testRetentionDeletesActiveSegment..., LogOffsetTest (L-6): next offsets 0, 1 and 25 are kept. With
/// `retention.ms` 0 everything older than now goes.
#[test]
fn an_expired_topic_is_empty_and_its_offsets_go_on() {
    for count in [0, 1, 25] {
        let mut broker = TestBroker::new().with_configured_topic("t", 1, limited(Duration::ZERO));
        produce_at(&broker, "t", 0, vec![NOW; count]);
        let count = count as u64;
        assert_eq!(clean(&broker).segments, 0, "as old as now is not older");
        broker.clock.advance(Duration::from_millis(1));
        clean(&broker);
        assert_eq!(shape(&broker, "t"), (count, count, 0));
        broker.reopen();
        assert_eq!(shape(&broker, "t"), (count, count, 0));
        assert_eq!(broker.produce(ProducerRecord::to("t").partition(0)).offset(), count);
        assert_eq!(broker.consume_all(&tp("t", 0)).len(), 1);
    }
}

/// UnifiedLogTest.testLogDeletionAfterDeleteRecords (C20, L-5). DIFFERENCE: Kafka keeps one empty segment.
#[test]
fn segments_below_the_log_start_go_whatever_the_policy() {
    for policy in [CleanupPolicy::Delete, CleanupPolicy::Keep] {
        let (mut broker, _) = with_segments_of_five(TopicConfig::default().cleanup_policy(policy));
        produce_at(&broker, "t", 0, [NOW; 15]);
        broker.reopen();
        for (before, segments, records) in [(1, 3, 15), (6, 2, 10), (15, 0, 0)] {
            assert_eq!(broker.delete_records(&tp("t", 0), before).unwrap(), before);
            clean(&broker);
            assert_eq!(shape(&broker, "t"), (before, 15, segments));
            assert_eq!(broker.stats().unwrap().stored_records, records);
        }
    }
}

/// UnifiedLogTest.testSizeBasedLogRoll (C17, T-18): the tenth does not fit. DIFFERENCE: sizes are those of chunks, so the
/// limit is set to a byte less than ten records take.
#[test]
fn a_segment_is_closed_when_the_next_record_does_not_fit() {
    let broker = TestBroker::new();
    let [two, nine, ten] = [2, 9, 10].map(|count| bytes_of(&broker, count));
    broker.create_topic(NewTopic::new("t", 1).config(limited(AGES).segment_bytes(ten - 1))).unwrap();
    produce_at(&broker, "t", 0, [NOW; 11]);
    clean(&broker);
    assert_eq!((shape(&broker, "t"), stored_bytes(&broker, "t")), ((0, 11, 2), nine + two));
}

/// UnifiedLogTest.testTimeBasedLogRollDuringAppend (C17, T-18): the records' time counts, not the clock's.
#[test]
fn a_segment_is_closed_when_a_record_is_too_young_for_it() {
    let broker = TestBroker::new().with_configured_topic("t", 1, limited(AGES).segment_time(HOUR));
    let segments_after = |timestamp: i64| {
        produce_at(&broker, "t", 0, [timestamp]);
        clean(&broker);
        shape(&broker, "t").2
    };
    assert_eq!(segments_after(NOW), 1);
    broker.clock.advance(HOUR + Duration::from_millis(1));
    assert_eq!(segments_after(NOW), 1);
    assert_eq!(segments_after(NOW + 3_600_000), 1);
    assert_eq!(segments_after(NOW + 3_600_001), 2);
    assert_eq!(segments_after(NOW), 2);
}

/// LogConfig (L-8): with an empty policy there is no retention.
#[test]
fn without_the_policy_delete_limits_mean_nothing() {
    let limits = limited(Duration::ZERO).retention_bytes(Some(0));
    let (broker, _) = with_segments_of_five(limits.cleanup_policy(CleanupPolicy::Keep));
    produce_at(&broker, "t", 0, [10; 15]);
    clean(&broker);
    assert_eq!(shape(&broker, "t").0, 0);
    broker.alter_topic("t", |config| config.set("cleanup.policy", "delete")).unwrap();
    assert_eq!(shape(&broker, "t").0, 0, "a change acts at the next clean");
    clean(&broker);
    assert_eq!(shape(&broker, "t"), (15, 15, 0));
}

/// TopicConfig.RETENTION_MS_DOC. DIFFERENCE: Kafka keeps 7 days by default, brooklet everything.
#[test]
fn by_default_nothing_ever_goes() {
    let broker = TestBroker::new().with_topic("t", 1);
    produce_at(&broker, "t", 0, [0; 10]);
    broker.clock.advance(100 * 365 * 24 * HOUR);
    clean(&broker);
    assert_eq!(broker.consume_all(&tp("t", 0)).len(), 10);
}

/// DynamicConfigChangeTest.testDynamicTopicConfigChange (T-14): a change acts on what is there at the next clean, and
/// what is gone does not come back.
#[test]
fn changed_limits_act_at_the_next_clean() {
    let (mut broker, five) = with_segments_of_five(TopicConfig::default());
    produce_at(&broker, "t", 0, [NOW; 15]);
    clean(&broker);
    broker.reopen();
    for (limit, start) in [(Some(2 * five), 5), (None, 5), (Some(five), 10), (Some(3 * five), 10), (Some(0), 15)] {
        broker.alter_topic("t", |config| Ok(config.retention_bytes(limit))).unwrap();
        clean(&broker);
        assert_eq!(bounds(&broker, "t", 0), (start.into(), 15.into()), "{limit:?}");
    }
}

/// ConsumerTest, UnifiedLogTest.testReadOutOfRange (L-10, C-22): who is left behind gets its reset rule; what it has read
/// stays valid.
#[test]
fn a_reader_that_is_left_behind_is_reset_and_keeps_what_it_has() {
    let (mut broker, _) = with_segments_of_five(limited(Duration::from_millis(1_000)));
    produce_at(&broker, "t", 0, [[10; 5], [NOW; 5]].concat());
    broker.reopen();
    let reader = |reset| broker.consumer().offset_reset(reset).max_poll_records(2).assign([tp("t", 0)]).unwrap();
    let [mut earliest, mut latest, mut none] =
        [OffsetReset::Earliest, OffsetReset::Latest, OffsetReset::None].map(reader);
    for consumer in [&mut earliest, &mut latest, &mut none] {
        consumer.seek(&tp("t", 0), 0).unwrap();
    }
    let kept = earliest.poll(Duration::ZERO).unwrap();
    assert_eq!((poll_now(&mut latest), poll_now(&mut none)), (vec![0, 1], vec![0, 1]));
    clean(&broker);
    assert_eq!(seen(&kept).iter().map(|record| record.offset).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(poll_all(&mut earliest), [5, 6, 7, 8, 9]);
    assert!(poll_all(&mut latest).is_empty());
    assert_eq!(latest.position(&tp("t", 0)).unwrap(), 10);
    let lost = none.poll(Duration::ZERO).unwrap_err();
    assert!(matches!(&lost, Error::OffsetOutOfRange { positions } if positions[0].1 == 2), "{lost:?}");
}

/// UnifiedLog.maybeIncrementLogStartOffset (L-1): the log start never goes back, whatever the clock does.
#[test]
fn the_log_start_never_goes_back() {
    let (mut broker, _) = with_segments_of_five(limited(Duration::from_millis(1_000)));
    produce_at(&broker, "t", 0, [NOW; 15]);
    broker.delete_records(&tp("t", 0), 7).unwrap();
    broker.clock.advance(HOUR);
    clean(&broker);
    assert_eq!(bounds(&broker, "t", 0), (15.into(), 15.into()));
    broker.clock.set(0);
    clean(&broker);
    broker.reopen();
    assert_eq!(broker.delete_records(&tp("t", 0), 3).unwrap(), 15);
    assert_eq!(bounds(&broker, "t", 0), (15.into(), 15.into()));
}

/// LogManager.cleanupLogs (L-9): the background thread does it, and wakes who waits.
#[test]
fn the_background_thread_cleans_now_and_then() {
    let broker = TestBroker::with(|builder| {
        builder.clean_interval(Duration::from_millis(1)).checkpoint_interval(Duration::from_millis(1))
    });
    broker.create_topic(NewTopic::new("t", 1).config(limited(HOUR))).unwrap();
    let mut consumer = broker.consumer().offset_reset(OffsetReset::None).assign([tp("t", 0)]).unwrap();
    consumer.seek(&tp("t", 0), 0).unwrap();
    consumer.pause([&tp("t", 0)]).unwrap();
    produce_at(&broker, "t", 0, [NOW, NOW, NOW + 1]);
    broker.clock.advance(2 * HOUR);
    let lost = finishes("a clean in the background", move || consumer.poll(PATIENCE)).unwrap_err();
    assert!(matches!(&lost, Error::OffsetOutOfRange { .. }), "{lost:?}");
    assert_eq!(bounds(&broker, "t", 0), (3.into(), 3.into()));
}

/// DIFFERENCE: Kafka looks at its interval only. Here a log that grows fast is cleaned before, so that a limit of size holds.
#[test]
fn the_background_thread_cleans_when_much_has_come() {
    let broker = TestBroker::with(|builder| builder.clean_interval(100 * HOUR).checkpoint_bytes(1 << 20));
    let config = TopicConfig::default().retention_bytes(Some(1 << 20)).segment_bytes(1 << 20);
    broker.create_topic(NewTopic::new("t", 1).config(config)).unwrap();
    let mut consumer = broker.consumer().offset_reset(OffsetReset::None).assign([tp("t", 0)]).unwrap();
    consumer.seek(&tp("t", 0), 0).unwrap();
    consumer.pause([&tp("t", 0)]).unwrap();
    for _ in 0..20 {
        let records = (0..64).map(|_| ProducerRecord::to("t").value(vec![b'.'; 16 << 10]));
        broker.producer().send_all(records).unwrap();
    }
    broker.maintain().unwrap();
    let lost = finishes("a clean in the background", move || consumer.poll(PATIENCE)).unwrap_err();
    assert!(matches!(&lost, Error::OffsetOutOfRange { .. }), "{lost:?}");
}

/// A limit of the whole broker, which Kafka does not have: of the oldest segments of all partitions, the one whose youngest
/// record is the oldest goes first.
#[test]
fn a_limit_for_all_topics_takes_the_oldest_first_wherever_it_is() {
    let five = bytes_of(&TestBroker::new(), 5);
    let broker = TestBroker::with(|builder| builder.max_bytes(4 * five).clean_interval(None));
    let config = TopicConfig::default().segment_bytes(five + TIMES);
    for topic in ["a", "b"] {
        broker.create_topic(NewTopic::new(topic, 1).config(config.clone())).unwrap();
    }
    let kept = config.cleanup_policy(CleanupPolicy::Keep);
    broker.create_topic(NewTopic::new("kept", 1).config(kept)).unwrap();
    produce_at(&broker, "kept", 0, [1; 5]);
    produce_at(&broker, "a", 0, [[NOW - 9; 5], [NOW - 3; 5], [NOW - 8; 5]].concat());
    clean(&broker);
    let starts = || ["a", "b", "kept"].map(|topic| shape(&broker, topic).0);
    assert_eq!(starts(), [0, 0, 0], "it fits exactly");
    produce_at(&broker, "b", 0, [NOW - 5; 5]);
    assert_eq!(clean(&broker).segments, 1);
    assert_eq!(starts(), [5, 0, 0]);
    // Now the first of `b` is older than the first that is left of `a`.
    produce_at(&broker, "b", 0, [NOW - 1; 5]);
    clean(&broker);
    assert_eq!(starts(), [5, 5, 0]);
    // Both that are left of `a`, because the one that is old lies behind one that is younger.
    produce_at(&broker, "b", 0, [NOW; 10]);
    clean(&broker);
    assert_eq!(starts(), [15, 5, 0]);
    let bytes: u64 = ["a", "b", "kept"].map(|topic| stored_bytes(&broker, topic)).iter().sum();
    assert_eq!(bytes, 4 * five);
}

/// A clean with a budget ends behind a step, and the next one goes on: what is deleted in the end is the same.
#[test]
fn a_clean_in_parts_comes_to_the_same_end() {
    let mut broker = TestBroker::with(|builder| builder.background(false));
    let five = bytes_of(&broker, 5);
    broker.create_topic(NewTopic::new("t", 1).config(TopicConfig::default().segment_bytes(five + TIMES))).unwrap();
    broker.create_topic(NewTopic::new("u", 3).config(limited(HOUR))).unwrap();
    broker.alter_topic("t", |config| Ok(config.retention_bytes(Some(five)))).unwrap();
    produce_at(&broker, "t", 0, [NOW; 5_000]);
    for partition in 0..3 {
        produce_at(&broker, "u", partition, [10; 3]);
    }
    let mut total = (0, 0);
    let mut calls = 0;
    loop {
        let report = broker.clean(Duration::ZERO).unwrap();
        total = (total.0 + report.segments, total.1 + report.records);
        calls += 1;
        assert!(report.steps <= 2, "{report:?}");
        if calls == 3 {
            // What is under way survives a restart.
            broker.reopen();
        }
        if report.is_complete {
            break;
        }
    }
    assert_eq!(total, (999 + 3, 4_995 + 9));
    assert!(calls > 6, "{calls}");
    assert_eq!(shape(&broker, "t"), (4_995, 5_000, 1));
    assert_eq!(clean(&broker).steps, 0);
    assert_eq!(broker.stats().unwrap().last_clean_ms, Some(NOW));
}

/// Partitions are looked at one by one: each has the limit for itself (T-11).
#[test]
fn the_limit_of_size_is_that_of_each_partition() {
    let broker = TestBroker::new();
    let five = bytes_of(&broker, 5);
    let config = TopicConfig::default().segment_bytes(five).retention_bytes(Some(2 * five));
    broker.create_topic(NewTopic::new("t", 2).config(config)).unwrap();
    produce_at(&broker, "t", 0, [NOW; 10]);
    produce_at(&broker, "t", 1, [NOW; 20]);
    clean(&broker);
    let start =
        |partition| broker.offset_of(&TopicPartition::new("t", partition), OffsetSpec::Earliest).unwrap().unwrap();
    assert_eq!((start(0).get(), start(1).get()), (0, 10));
}
