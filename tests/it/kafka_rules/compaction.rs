//! Compaction by key: what stays, what goes and when, and what an index says of the keys.
//!
//! Segments hold one record each unless a test says otherwise, so that everything is closed but the last record.

use std::time::Duration;

use brooklet::{
    CleanReport, CleanupPolicy, Error, NewTopic, Offset, OffsetReset, OffsetSpec, ProducerRecord, TopicConfig,
};
use proptest::prelude::*;

use crate::compacted::{Twin, compaction, latest, table};
use crate::support::{NOW, TestBroker, bounds, poll_all, tp};

const DAY: Duration = Duration::from_secs(86_400);

/// A compacted topic that is always dirty enough, with a record in each segment.
fn compacted() -> TopicConfig {
    TopicConfig::default().cleanup_policy(CleanupPolicy::Compact).segment_bytes(1).min_cleanable_dirty_ratio(0.0)
}

fn broker_with(config: TopicConfig) -> TestBroker {
    TestBroker::new().with_configured_topic("t", 1, config)
}

/// Cleans until everything is done.
fn clean(broker: &TestBroker) -> CleanReport {
    let report = broker.clean(Duration::MAX).unwrap();
    assert!(report.is_complete, "{report}");
    report
}

/// Appends a record for each of these keys, with its offset as value; `-k` is a tombstone of `k`.
fn append(broker: &TestBroker, keys: &str) {
    let end = bounds(broker, "t", 0).1.get();
    let producer = broker.producer();
    for (offset, word) in (end..).zip(keys.split_whitespace()) {
        let record = ProducerRecord::to("t").partition(0);
        let value = offset.to_string();
        let record = match word.strip_prefix('-') {
            Some(key) => record.key(key),
            None => record.key(word).value(&value),
        };
        drop(producer.send(record).unwrap());
    }
    producer.flush().unwrap();
}

/// The log, as `key@offset` with tombstones as `-key@offset`.
fn log(broker: &TestBroker) -> String {
    let word = |seen: crate::support::Seen| {
        let key = String::from_utf8(seen.key.unwrap_or_default()).unwrap();
        match seen.value {
            Some(value) => {
                assert_eq!(value, seen.offset.to_string().into_bytes());
                format!("{key}@{}", seen.offset)
            }
            None => format!("-{key}@{}", seen.offset),
        }
    };
    broker.consume_all(&tp("t", 0)).into_iter().map(word).collect::<Vec<_>>().join(" ")
}

fn offsets(broker: &TestBroker) -> Vec<u64> {
    broker.consume_all(&tp("t", 0)).into_iter().map(|seen| seen.offset).collect()
}

/// LogCleanerTest.testDuplicateCheckAfterCleaning, without producer ids (C21, L-35).
#[test]
fn the_last_record_of_each_key_stays_at_its_offset_and_in_order() {
    let mut broker = broker_with(compacted());
    append(&broker, "1 2 3 3 1 4 1 4 end");
    let report = clean(&broker);
    assert_eq!((report.compacted, report.records), (1, 4), "{report}");
    assert_eq!(log(&broker), "2@1 3@3 1@6 4@7 end@8");
    broker.reopen();
    assert_eq!(log(&broker), "2@1 3@3 1@6 4@7 end@8");
    append(&broker, "2 end");
    clean(&broker);
    assert_eq!(log(&broker), "3@3 1@6 4@7 end@8 2@9 end@10");
    assert_eq!(bounds(&broker, "t", 0), (Offset::ZERO, Offset::new(11)));
}

/// LogCleanerTest.testPartialSegmentClean (C23, L-28): there is room for one record.
#[test]
fn without_room_for_all_keys_a_pass_does_a_part_and_is_right() {
    let broker = TestBroker::with(|builder| builder.compaction_memory(0)).with_configured_topic("t", 1, compacted());
    append(&broker, "0 1 0");
    clean(&broker);
    assert_eq!((offsets(&broker), compaction(&broker).compacted.get()), (vec![0, 1, 2], 2));
    append(&broker, "1 0 end");
    let mut states = vec![offsets(&broker)];
    while !broker.clean(Duration::ZERO).unwrap().is_complete {
        let state = offsets(&broker);
        if states.last() != Some(&state) {
            states.push(state);
        }
    }
    assert_eq!(states, [vec![0, 1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5], vec![2, 3, 4, 5], vec![3, 4, 5]]);
}

/// LogCleanerTest.testCleaningWithUnkeyedMessages (C24, L-31).
#[test]
fn records_without_a_key_go_and_later_ones_are_refused() {
    let broker = broker_with(compacted().cleanup_policy(CleanupPolicy::Delete));
    broker.produce_n("t", 0, 3);
    append(&broker, "3 4 end");
    broker.alter_topic("t", |config| Ok(config.cleanup_policy(CleanupPolicy::Compact))).unwrap();
    clean(&broker);
    assert_eq!(log(&broker), "3@3 4@4 end@5");
    let error = broker.producer().send(ProducerRecord::to("t").value("x")).unwrap_err();
    assert!(matches!(&error, Error::InvalidRecord { index: 0, reason } if reason.contains("key")), "{error}");
    let records = [ProducerRecord::to("t").key("k"), ProducerRecord::to("t").value("x")];
    assert!(matches!(broker.producer().send_all(records), Err(Error::InvalidRecord { index: 1, .. })));
    assert_eq!(bounds(&broker, "t", 0).1, 6);
}

/// LogCleanerTest.testCleaningWithUncleanableSection (C24, L-25, L-20).
#[test]
fn what_is_too_young_keeps_every_record() {
    let broker = broker_with(compacted().min_compaction_lag(Duration::from_secs(3_600)));
    append(&broker, "a b a b");
    broker.clock.advance(Duration::from_millis(3_600_001));
    append(&broker, "a b a b end");
    clean(&broker);
    assert_eq!(log(&broker), "a@2 b@3 a@4 b@5 a@6 b@7 end@8");
    broker.clock.advance(Duration::from_millis(3_600_000));
    clean(&broker);
    assert_eq!(log(&broker), "a@6 b@7 end@8");
}

/// LogCleanerTest.testCleanTombstone (C25, L-30).
#[test]
fn a_tombstone_stays_for_its_time_after_the_clean_that_met_it_whatever_it_is_dated() {
    let after = Duration::from_secs(2 * 86_400);
    let broker = broker_with(compacted().delete_retention(DAY).timestamp_after_max(after));
    let day = i64::try_from(DAY.as_millis()).unwrap();
    let at = |time| ProducerRecord::to("t").partition(0).key("0").timestamp(time);
    broker.produce(at(NOW + day + 10_000).value("0"));
    append(&broker, "end");
    clean(&broker);
    broker.produce(at(NOW - day - 10_000));
    append(&broker, "end");
    clean(&broker);
    assert_eq!(log(&broker), "end@1 -0@2 end@3");
    append(&broker, "1 end");
    clean(&broker);
    assert_eq!(log(&broker), "-0@2 end@3 1@4 end@5");
    broker.clock.advance(DAY - Duration::from_millis(1));
    clean(&broker);
    assert_eq!(latest(&broker, "0"), None);
    assert_eq!(log(&broker), "-0@2 end@3 1@4 end@5");
    broker.clock.advance(Duration::from_millis(1));
    clean(&broker);
    assert_eq!(log(&broker), "end@3 1@4 end@5");
    assert_eq!(latest(&broker, "0"), None);
    assert_eq!(compaction(&broker).keys, 2);
}

/// L-30: with no retention at all it takes two cleans, and a tombstone that a newer value replaces goes at once.
#[test]
fn a_tombstone_goes_with_the_second_clean_or_when_it_is_replaced() {
    let broker = broker_with(compacted().delete_retention(Duration::ZERO));
    append(&broker, "a -a b -b b end");
    clean(&broker);
    assert_eq!(log(&broker), "-a@1 b@4 end@5");
    clean(&broker);
    assert_eq!(log(&broker), "b@4 end@5");
}

/// L-37, L-21: the end stays, and every offset between start and end is a valid position.
#[test]
fn every_offset_stays_a_valid_position() {
    let mut broker = broker_with(compacted());
    append(&broker, "a b a b a b a b c end");
    clean(&broker);
    assert_eq!(log(&broker), "a@6 b@7 c@8 end@9");
    for _ in 0..2 {
        for start in 0..10 {
            let mut consumer = broker.consumer().offset_reset(OffsetReset::None).assign([tp("t", 0)]).unwrap();
            consumer.seek(&tp("t", 0), OffsetSpec::Offset(start)).unwrap();
            let expected: Vec<u64> = (start.max(6)..10).collect();
            assert_eq!(poll_all(&mut consumer), expected, "from {start}");
        }
        broker.reopen();
    }
}

/// L-38.
#[test]
fn cleaning_again_changes_nothing() {
    let broker = broker_with(compacted());
    append(&broker, "a b a c b end");
    clean(&broker);
    let before = (log(&broker), compaction(&broker), broker.describe_topic("t").unwrap());
    let report = clean(&broker);
    assert_eq!((report.compacted, report.records, report.steps), (0, 0, 0), "{report}");
    let after = (log(&broker), compaction(&broker), broker.describe_topic("t").unwrap());
    assert_eq!((before.0, before.1), (after.0, after.1));
    assert_eq!(before.2.partitions(), after.2.partitions());
}

/// L-26.
#[test]
fn nothing_happens_below_the_dirty_ratio_until_the_lag_is_over() {
    let broker = broker_with(compacted().min_cleanable_dirty_ratio(0.5).max_compaction_lag(DAY));
    append(&broker, "a b c d e f end");
    clean(&broker);
    assert_eq!(compaction(&broker).compacted, 6);
    append(&broker, "a end");
    assert!(compaction(&broker).dirty_ratio() < 0.5);
    clean(&broker);
    assert_eq!((offsets(&broker).len(), compaction(&broker).compacted.get()), (9, 6));
    broker.clock.advance(DAY + Duration::from_millis(1));
    clean(&broker);
    assert_eq!(log(&broker), "b@1 c@2 d@3 e@4 f@5 end@6 a@7 end@8");
    assert_eq!(compaction(&broker).last_ms, Some(brooklet::Clock::now_ms(&broker.clock)));
}

/// The end of a segment, and whole segments, are gone: the records before and behind them are found.
#[test]
fn whole_chunks_and_segments_can_go() {
    let mut broker = broker_with(compacted().segment_bytes(400));
    let keys: Vec<String> = (0..600).map(|n| format!("k{}", n % 3)).collect();
    append(&broker, &keys.join(" "));
    append(&broker, "x y z");
    broker.reopen();
    let before = broker.describe_topic("t").unwrap().partitions()[0];
    clean(&broker);
    let after = broker.describe_topic("t").unwrap().partitions()[0];
    assert!(after.segments * 4 < before.segments, "{before:?} {after:?}");
    assert!(after.stored_bytes * 4 < before.stored_bytes, "{before:?} {after:?}");
    let kept = offsets(&broker);
    assert!(kept.len() < 60 && kept.ends_with(&[597, 598, 599, 600, 601, 602]), "{kept:?}");
    broker.reopen();
    assert_eq!(offsets(&broker), kept);
    append(&broker, "k0 k1 k2");
    assert_eq!(offsets(&broker).len(), kept.len() + 3);
}

/// L-8: with `compact,delete`, retention cuts what compaction keeps, and the index forgets it.
#[test]
fn compacted_and_deleted_both_ways_go() {
    let config = compacted().cleanup_policy(CleanupPolicy::CompactAndDelete).retention(Some(DAY));
    let broker = broker_with(config);
    append(&broker, "a b a end");
    clean(&broker);
    assert_eq!(log(&broker), "b@1 a@2 end@3");
    broker.clock.advance(DAY + Duration::from_millis(1));
    append(&broker, "c d end");
    clean(&broker);
    assert_eq!(log(&broker), "c@4 d@5 end@6");
    assert_eq!((latest(&broker, "a"), latest(&broker, "c")), (None, Some(4)));
    assert_eq!(table(&broker), [4, 5]);
    assert_eq!(compaction(&broker).keys, 2);
}

/// L-51.
#[test]
fn records_of_a_topic_that_is_only_compacted_are_not_deleted() {
    let broker = broker_with(compacted());
    append(&broker, "a b end");
    let error = broker.delete_records(&tp("t", 0), 1).unwrap_err();
    assert!(matches!(&error, Error::PolicyViolation { topic, .. } if topic == "t"), "{error}");
    broker.alter_topic("t", |config| Ok(config.cleanup_policy(CleanupPolicy::CompactAndDelete))).unwrap();
    assert_eq!(broker.delete_records(&tp("t", 0), 1).unwrap(), 1);
}

#[test]
fn latest_and_table_are_of_what_is_compacted() {
    let mut broker = broker_with(compacted());
    append(&broker, "a b a -b c end");
    assert_eq!((latest(&broker, "a"), table(&broker)), (None, vec![]));
    clean(&broker);
    for _ in 0..2 {
        let found: Vec<_> = ["a", "b", "c", "end", "nobody"].map(|key| latest(&broker, key)).into();
        assert_eq!(found, [Some(2), None, Some(4), None, None]);
        assert_eq!(table(&broker), [2, 4]);
        assert_eq!(broker.table("t").unwrap().as_of(), [(tp("t", 0), Offset::new(5))]);
        broker.reopen();
    }
    append(&broker, "a end");
    assert_eq!((latest(&broker, "a"), table(&broker)), (Some(2), vec![2, 4]));
    clean(&broker);
    assert_eq!((latest(&broker, "a"), table(&broker)), (Some(6), vec![4, 5, 6]));
}

#[test]
fn a_table_stays_that_of_its_moment_while_cleans_go_on() {
    let broker = broker_with(compacted());
    append(&broker, "a b a c end");
    clean(&broker);
    let mut table = broker.table("t").unwrap();
    let first = table.next().unwrap().unwrap();
    assert_eq!(first.get().offset(), 1);
    append(&broker, "b c d end");
    clean(&broker);
    assert_eq!(latest(&broker, "c"), Some(6));
    let rest: Vec<u64> = table.by_ref().map(|record| record.unwrap().get().offset().get()).collect();
    assert_eq!(rest, [2, 3]);
    assert_eq!(log(&broker), "b@1 a@2 c@3 end@4 b@5 c@6 d@7 end@8");
    drop(table);
    clean(&broker);
    assert_eq!(log(&broker), "a@2 end@4 b@5 c@6 d@7 end@8");
}

#[test]
fn a_table_says_when_its_topic_or_its_broker_is_gone() {
    let broker = broker_with(compacted());
    append(&broker, "a b c end");
    clean(&broker);
    let mut table = broker.table("t").unwrap();
    broker.delete_topic("t").unwrap();
    assert!(matches!(table.next(), Some(Err(Error::UnknownTopicOrPartition { .. }))));
    assert!(table.next().is_none());
    broker.create_topic(NewTopic::new("t", 1).config(compacted())).unwrap();
    append(&broker, "a b c end");
    clean(&broker);
    let mut table = broker.table("t").unwrap();
    broker.close().unwrap();
    assert!(matches!(table.next(), Some(Err(Error::Closed))));
    assert!(table.next().is_none());
}

#[test]
fn a_key_is_looked_for_where_the_partitioner_puts_it() {
    let broker = TestBroker::new().with_configured_topic("t", 4, compacted());
    let producer = broker.producer();
    for n in 0..40 {
        let key = format!("k{}", n % 20);
        drop(producer.send(ProducerRecord::to("t").key(&key).value(n.to_string())).unwrap());
    }
    for partition in 0..4 {
        drop(producer.send(ProducerRecord::to("t").partition(partition).key("end").value("end")).unwrap());
    }
    producer.flush().unwrap();
    clean(&broker);
    for n in 0..20 {
        let record = broker.latest("t", format!("k{n}")).unwrap().unwrap();
        assert_eq!(record.get().value(), Some((n + 20).to_string().as_bytes()));
    }
    assert_eq!(broker.table("t").unwrap().count(), 20);
}

#[test]
fn only_compacted_topics_have_a_table() {
    let broker = TestBroker::new().with_topic("plain", 1);
    let violated = |error: Error| assert!(matches!(error, Error::PolicyViolation { .. }), "{error}");
    violated(broker.latest("plain", "k").unwrap_err());
    violated(broker.table("plain").unwrap_err());
    assert!(matches!(broker.latest("nowhere", "k"), Err(Error::UnknownTopicOrPartition { .. })));
    assert!(matches!(broker.latest_in(&tp("plain", 7), "k"), Err(Error::UnknownTopicOrPartition { .. })));
    broker.close().unwrap();
    assert!(matches!(broker.latest("plain", "k"), Err(Error::Closed | Error::UnknownTopicOrPartition { .. })));
}

#[test]
fn lags_that_contradict_each_other_are_refused() {
    let broker = TestBroker::new();
    let config = compacted().min_compaction_lag(DAY).max_compaction_lag(Duration::from_secs(1));
    let error = broker.create_topic(NewTopic::new("t", 1).config(config)).unwrap_err();
    assert!(matches!(error, Error::InvalidConfig { .. }), "{error}");
    broker.create_topic(NewTopic::new("t", 1).config(compacted().min_compaction_lag(DAY))).unwrap();
    let lower = broker.alter_topic("t", |config| Ok(config.max_compaction_lag(Duration::from_secs(1))));
    assert!(matches!(lower, Err(Error::InvalidConfig { .. })));
}

#[test]
fn what_a_deleted_topic_knew_of_its_keys_is_gone_with_it() {
    let broker = broker_with(compacted());
    append(&broker, "a b a end");
    clean(&broker);
    broker.delete_topic("t").unwrap();
    broker.create_topic(NewTopic::new("t", 1).config(compacted())).unwrap();
    assert_eq!((latest(&broker, "a"), compaction(&broker).keys), (None, 0));
}

/// One step of a random life of a compacted topic.
#[derive(Debug, Clone)]
enum Step {
    /// Keys, and whether each record has a value.
    Append(Vec<(u8, bool)>),
    Clean,
    /// A clean without time: it does one thing.
    CleanALittle,
    Advance(u16),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => proptest::collection::vec((0_u8..12, proptest::bool::weighted(0.8)), 1..30).prop_map(Step::Append),
        2 => Just(Step::Clean),
        3 => Just(Step::CleanALittle),
        1 => (0_u16..2_000).prop_map(Step::Advance),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// For random workloads and random cleans (L-20 to L-23), with little memory and segments of some records.
    #[test]
    fn a_reader_from_the_start_sees_the_last_record_of_every_key(
        steps in steps(),
        memory in prop_oneof![Just(0_usize), Just(200), Just(1 << 20)],
        segment in prop_oneof![Just(1_u64), Just(300), Just(2_000)],
        step in 1_usize..9,
    ) {
        let config = compacted().segment_bytes(segment).delete_retention(Duration::from_millis(1_000));
        let mut broker = TestBroker::with(|builder| builder.compaction_memory(memory).clean_step(step).background(false))
            .with_configured_topic("t", 1, config);
        let mut twin = Twin::default();
        for step in steps {
            match step {
                Step::Append(records) => {
                    twin.append(&broker, records.into_iter().map(|(key, has_value)| (format!("k{key}"), has_value)));
                }
                Step::Clean => drop(clean(&broker)),
                Step::CleanALittle => drop(broker.clean(Duration::ZERO).unwrap()),
                Step::Advance(ms) => broker.clock.advance(Duration::from_millis(u64::from(ms))),
                Step::Reopen => broker.reopen(),
            }
            twin.check(&broker);
        }
        clean(&broker);
        twin.check(&broker);
    }
}
