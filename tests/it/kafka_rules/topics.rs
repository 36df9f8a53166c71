//! Topics, partitions and their administration.

use std::time::Duration;

use brooklet::{
    ConfigSource, Error, ManualClock, NewTopic, OffsetReset, OffsetSpec, ProducerRecord, TimestampType, TopicConfig,
};

use crate::support::{Source, TestBroker, bounds, from_tail_and_store, poll_all, poll_now, tp};

/// The numbers of a topic's partitions, with start and end.
fn partitions_of(broker: &TestBroker, topic: &str) -> Vec<(u32, u64, u64)> {
    let description = broker.describe_topic(topic).unwrap();
    description.partitions().iter().map(|p| (p.partition, p.log_start.get(), p.end.get())).collect()
}

/// TopicTest.shouldAcceptValidTopicNames (C01, T-1, A-3).
#[test]
fn valid_topic_names_are_accepted_and_listed_in_order() {
    let mut broker = TestBroker::new();
    let long = "a".repeat(249);
    let mut names = vec!["valid", "TOPIC", "nAmEs", "ar6", "VaL1d", "_0-9_.", "...", &long];
    for name in &names {
        broker.create_topic(NewTopic::new(*name, 1)).unwrap();
    }
    names.sort_unstable();
    assert_eq!(broker.topics().unwrap(), names);
    broker.reopen();
    assert_eq!(broker.topics().unwrap(), names);
}

/// TopicTest.shouldThrowOnInvalidTopicNames (C01, T-1).
#[test]
fn invalid_topic_names_are_refused() {
    let broker = TestBroker::new();
    let mut names: Vec<String> = ["", "foo bar", "..", "foo:bar", "foo=bar", "."].map(str::to_owned).into();
    names.push("a".repeat(250));
    names.extend("/\\,\0:\"';*? \t\r\n=äé語".chars().map(|c| format!("Is{c}illegal")));
    for name in names {
        let error = broker.create_topic(NewTopic::new(name.clone(), 1)).unwrap_err();
        assert!(matches!(error, Error::InvalidTopic { .. }), "{name:?}: {error}");
    }
    assert!(broker.topics().unwrap().is_empty());
}

/// TopicTest.testTopicHasCollision; ReplicationControlManagerTest.testCreateTopicWithCollisionChars (C01, T-2, T-3).
#[test]
fn names_that_differ_only_in_dots_and_underscores_collide() {
    let broker = TestBroker::new().with_topic("foo.bar", 2);
    for name in ["foo_bar", "foo_bar"] {
        let error = broker.create_topic(NewTopic::new(name, 1)).unwrap_err();
        assert!(matches!(error, Error::InvalidTopic { .. }), "{error}");
        assert!(error.to_string().contains("foo.bar"), "it names the other topic: {error}");
    }
    broker.create_topic(NewTopic::new("foo", 1)).unwrap();
    broker.delete_topic("foo.bar").unwrap();
    broker.create_topic(NewTopic::new("foo_bar", 1)).unwrap();
    assert!(broker.create_topic(NewTopic::new("foo.bar", 1)).is_err());
}

/// Topic.INTERNAL_TOPICS (T-4). DIFFERENCE: Kafka has these topics and refuses sends to them; brooklet keeps that state
/// elsewhere, and refuses the names.
#[test]
fn names_that_kafka_keeps_for_itself_are_refused() {
    let broker = TestBroker::new();
    for name in ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"] {
        assert!(matches!(broker.create_topic(NewTopic::new(name, 1)), Err(Error::InvalidTopic { .. })));
        assert!(matches!(broker.producer().send(ProducerRecord::to(name)), Err(Error::InvalidTopic { .. })));
    }
    broker.create_topic(NewTopic::new("__mine", 1)).unwrap();
}

/// ReplicationControlManagerTest.testCreateTopicWithCollisionChars (C01, T-3, T-5, A-4).
#[test]
fn a_topic_that_is_deleted_and_created_again_is_another_one() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("foo.bar", 2);
        broker.produce_n("foo.bar", 0, 10);
        broker.read_from(source);
        let before = broker.describe_topic("foo.bar").unwrap();
        broker.delete_topic("foo.bar").unwrap();
        assert!(matches!(broker.describe_topic("foo.bar"), Err(Error::UnknownTopicOrPartition { .. })));
        let after = broker.create_topic(NewTopic::new("foo.bar", 4)).unwrap();
        assert_ne!(after.id(), before.id());
        assert_eq!(partitions_of(&broker, "foo.bar"), [(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)]);
        broker.read_from(source);
        assert_eq!(broker.describe_topic("foo.bar").unwrap().id(), after.id());
        assert!(broker.consume_all(&tp("foo.bar", 0)).is_empty());
        assert_eq!(broker.produce(ProducerRecord::to("foo.bar").partition(0)).offset(), 0);
    });
}

/// CreateTopicsRequestTest.testErrorCreateTopicsRequests: a topic that exists, and no partitions (T-6).
#[test]
fn a_topic_is_created_once_and_with_partitions() {
    let broker = TestBroker::new().with_topic("t", 1);
    assert!(matches!(broker.create_topic(NewTopic::new("t", 3)), Err(Error::TopicAlreadyExists { .. })));
    assert_eq!(partitions_of(&broker, "t").len(), 1);
    for count in [0, brooklet::MAX_PARTITIONS + 1, u32::MAX] {
        let error = broker.create_topic(NewTopic::new("u", count)).unwrap_err();
        assert!(matches!(error, Error::InvalidPartitions { requested, .. } if requested == count), "{error}");
    }
    assert_eq!(broker.topics().unwrap(), ["t"]);
    assert!(matches!(broker.delete_topic("u"), Err(Error::UnknownTopicOrPartition { .. })));
}

/// ReplicationControlManagerTest.testCreatePartitions (C02, T-7). DIFFERENCE: one call names one topic, as the results are
/// independent anyway.
#[test]
fn the_partition_count_only_grows() {
    let mut broker = TestBroker::new().with_topic("foo", 3).with_topic("bar", 4).with_topic("quux", 2);
    broker.create_partitions("foo", 5).unwrap();
    assert!(matches!(broker.create_partitions("bar", 3), Err(Error::InvalidPartitions { requested: 3, .. })));
    assert!(matches!(broker.create_partitions("baz", 3), Err(Error::UnknownTopicOrPartition { .. })));
    assert!(matches!(broker.create_partitions("quux", 2), Err(Error::InvalidPartitions { requested: 2, .. })));
    assert!(matches!(broker.create_partitions("quux", 0), Err(Error::InvalidPartitions { requested: 0, .. })));
    broker.reopen();
    let counts = ["foo", "bar", "quux"].map(|name| partitions_of(&broker, name).len());
    assert_eq!(counts, [5, 4, 2]);
}

/// BaseProducerSendTest.testSendBeforeAndAfterPartitionExpansion (C03, T-8, P-18).
#[test]
fn new_partitions_start_at_zero_and_old_ones_go_on() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        broker.produce_n("t", 0, 100);
        assert_eq!(broker.consume_all(&tp("t", 0)).len(), 100);
        let to_new = || ProducerRecord::to("t").partition(1).value("x");
        assert!(matches!(
            broker.producer().send(to_new()),
            Err(Error::UnknownTopicOrPartition { partition: Some(1), .. })
        ));
        broker.create_partitions("t", 2).unwrap();
        broker.read_from(source);
        for offset in 0..100 {
            assert_eq!(broker.produce(to_new()).offset(), offset);
        }
        for offset in 100..200 {
            assert_eq!(broker.produce(ProducerRecord::to("t").partition(0)).offset(), offset);
        }
        broker.read_from(source);
        assert_eq!(partitions_of(&broker, "t"), [(0, 0, 200), (1, 0, 100)]);
        assert_eq!(broker.consume_all(&tp("t", 1)).len(), 100);
    });
}

/// Growing moves no record, and keys are spread over the new count from then on (T-8).
#[test]
fn keys_follow_the_new_partition_count() {
    let broker = TestBroker::new().with_topic("t", 2);
    assert_eq!(broker.produce(ProducerRecord::to("t").key("foobar")).partition(), 0);
    broker.create_partitions("t", 10).unwrap();
    assert_eq!(broker.produce(ProducerRecord::to("t").key("foobar")).partition(), 6);
    assert_eq!(broker.consume_all(&tp("t", 0)).len(), 1);
}

/// PlaintextAdminIntegrationTest.testSeekAfterDeleteRecords (C04, L-50). DIFFERENCE: Kafka's -1 is `OffsetSpec::Latest`.
#[test]
fn the_beginning_is_behind_the_deleted_records() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        let partition = tp("t", 0);
        broker.produce_n("t", 0, 10);
        broker.read_from(source);
        let mut consumer = broker.consumer_of(std::slice::from_ref(&partition));
        consumer.seek(&partition, OffsetSpec::Earliest).unwrap();
        assert_eq!(consumer.position(&partition).unwrap(), 0);
        assert_eq!(broker.delete_records(&partition, 5).unwrap(), 5);
        consumer.seek(&partition, OffsetSpec::Earliest).unwrap();
        assert_eq!(consumer.position(&partition).unwrap(), 5);
        consumer.seek(&partition, 7).unwrap();
        assert_eq!(consumer.position(&partition).unwrap(), 7);
        assert_eq!(broker.delete_records(&partition, OffsetSpec::Latest).unwrap(), 10);
        consumer.seek(&partition, OffsetSpec::Earliest).unwrap();
        assert_eq!(consumer.position(&partition).unwrap(), 10);
    });
}

/// PlaintextAdminIntegrationTest.testConsumeAfterDeleteRecords (C04, C-22, L-52).
#[test]
fn a_position_below_the_start_is_reset_to_the_start() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        let partition = tp("t", 0);
        broker.produce_n("t", 0, 10);
        broker.read_from(source);
        let mut consumer = broker.consumer_of(std::slice::from_ref(&partition));
        assert_eq!(poll_all(&mut consumer).len(), 10);
        for (before, left) in [(3, 3..10), (8, 8..10)] {
            broker.delete_records(&partition, before).unwrap();
            consumer.seek(&partition, 1).unwrap();
            assert_eq!(poll_all(&mut consumer), left.collect::<Vec<u64>>());
        }
    });
}

/// PlaintextAdminIntegrationTest.testDeleteRecordsWithException; DeleteRecordsRequestTest (C04, C05, L-50). DIFFERENCE: an
/// error instead of a low watermark of -1.
#[test]
fn records_beyond_the_end_cant_be_deleted() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        let partition = tp("t", 0);
        broker.produce_n("t", 0, 10);
        broker.read_from(source);
        assert!(matches!(broker.delete_records(&partition, 15), Err(Error::OffsetOutOfRange { .. })));
        assert_eq!(bounds(&broker, "t", 0).0, 0);
        assert_eq!(broker.delete_records(&partition, 2).unwrap(), 2);
        assert_eq!(broker.delete_records(&partition, 5).unwrap(), 5);
        assert!(matches!(broker.delete_records(&partition, 20), Err(Error::OffsetOutOfRange { .. })));
        assert_eq!(broker.delete_records(&partition, 1).unwrap(), 5, "the start never goes back");
        broker.read_from(source);
        assert_eq!(bounds(&broker, "t", 0), (5.into(), 10.into()));
        for unknown in [tp("nowhere", 0), tp("t", 1)] {
            assert!(matches!(broker.delete_records(&unknown, 0), Err(Error::UnknownTopicOrPartition { .. })));
        }
    });
}

/// UnifiedLogTest.testThatGarbageCollectingSegmentsDoesntChangeOffset: offsets survive that all records go (C14 without
/// retention, R-6, R-10).
#[test]
fn an_emptied_partition_goes_on_where_it_ended() {
    for n in [1, 25] {
        from_tail_and_store(|source| {
            let mut broker = TestBroker::new().with_topic("t", 1);
            broker.produce_n("t", 0, n);
            broker.read_from(source);
            broker.delete_records(&tp("t", 0), n).unwrap();
            for _ in 0..2 {
                broker.read_from(source);
                assert_eq!(bounds(&broker, "t", 0), (n.into(), n.into()));
                assert!(broker.consume_all(&tp("t", 0)).is_empty());
            }
            assert_eq!(broker.produce(ProducerRecord::to("t")).offset(), n);
        });
    }
}

/// ListOffsetsIntegrationTest.testListMaxTimestampWithEmptyLog (C06, A-2). DIFFERENCE: `None` instead of -1.
#[test]
fn an_empty_log_has_no_largest_timestamp() {
    let broker = TestBroker::new().with_topic("t", 1);
    let partition = tp("t", 0);
    assert_eq!(broker.offset_of(&partition, OffsetSpec::MaxTimestamp).unwrap(), None);
    assert_eq!(broker.offset_of(&partition, OffsetSpec::Timestamp(0)).unwrap(), None);
    assert_eq!(broker.offset_of(&partition, OffsetSpec::Earliest).unwrap(), Some(0.into()));
    assert_eq!(broker.offset_of(&partition, OffsetSpec::Latest).unwrap(), Some(0.into()));
}

/// The three offsets of [`OffsetSpec`] that name a place of the log.
fn listed(broker: &TestBroker, topic: &str) -> [u64; 3] {
    let specs = [OffsetSpec::Earliest, OffsetSpec::Latest, OffsetSpec::MaxTimestamp];
    specs.map(|spec| broker.offset_of(&tp(topic, 0), spec).unwrap().unwrap().get())
}

/// ListOffsetsIntegrationTest.testThreeNonCompressedRecordsInOneBatch, …InSeparateBatch (C06, A-2).
#[test]
fn the_largest_timestamp_is_found_in_one_batch_and_in_several() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("one", 1).with_topic("several", 1).with_topic("twice", 1);
        let record = |topic: &'static str, timestamp| ProducerRecord::to(topic).timestamp(timestamp).value("x");
        let deliveries = broker.producer().send_all([100, 999, 200].map(|time| record("one", time))).unwrap();
        assert_eq!(deliveries.len(), 3);
        broker.producer().flush().unwrap();
        for timestamp in [100, 999, 200] {
            broker.produce(record("several", timestamp));
        }
        for timestamp in [7, 999, 999, 200] {
            broker.produce(record("twice", timestamp));
        }
        broker.read_from(source);
        assert_eq!(listed(&broker, "one"), [0, 3, 1]);
        assert_eq!(listed(&broker, "several"), [0, 3, 1]);
        assert_eq!(listed(&broker, "twice"), [0, 4, 1], "the first one that carries it");
        broker.delete_records(&tp("several", 0), 2).unwrap();
        assert_eq!(listed(&broker, "several"), [2, 3, 2], "only what can still be read counts");
    });
}

/// ListOffsetsIntegrationTest, its topics with LogAppendTime (C06, R-13).
#[test]
fn under_append_time_the_first_of_a_batch_or_the_last_batch_is_the_newest() {
    from_tail_and_store(|source| {
        let config = TopicConfig::default().timestamp_type(TimestampType::LogAppendTime);
        let mut broker = TestBroker::new()
            .with_configured_topic("one", 1, config.clone())
            .with_configured_topic("several", 1, config);
        let deliveries = broker.producer().send_all([100, 999, 200].map(|t| ProducerRecord::to("one").timestamp(t)));
        assert_eq!(deliveries.unwrap().len(), 3);
        for timestamp in [100, 999, 200] {
            broker.clock.advance(Duration::from_millis(10));
            broker.produce(ProducerRecord::to("several").timestamp(timestamp));
        }
        broker.read_from(source);
        assert_eq!(listed(&broker, "one"), [0, 3, 0]);
        assert_eq!(listed(&broker, "several"), [0, 3, 2]);
    });
}

/// Consumers whose topic is deleted read nothing, and begin anew in the next one of the name.
#[test]
fn an_old_position_means_nothing_in_a_topic_created_again() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        broker.produce_n("t", 0, 10);
        broker.read_from(source);
        let mut earliest = broker.consumer_of(&[tp("t", 0)]);
        let mut none = broker.consumer().offset_reset(OffsetReset::None).assign([tp("t", 0)]).unwrap();
        none.seek(&tp("t", 0), 5).unwrap();
        assert_eq!(poll_all(&mut earliest).len(), 10);
        assert_eq!(poll_now(&mut none), (5..10).collect::<Vec<_>>());
        broker.delete_topic("t").unwrap();
        for consumer in [&mut earliest, &mut none] {
            assert!(poll_now(consumer).is_empty());
            assert!(consumer.poll(Duration::from_millis(1)).unwrap().is_empty());
        }
        broker.create_topic(NewTopic::new("t", 1)).unwrap();
        broker.produce_n("t", 0, 12);
        assert_eq!(poll_all(&mut earliest), (0..12).collect::<Vec<_>>());
        assert!(matches!(none.poll(Duration::ZERO), Err(Error::NoOffsetForPartition { .. })));
    });
}

/// What was read ahead of a deleted topic is not given out.
#[test]
fn records_of_a_deleted_topic_are_not_given_out() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        broker.produce_n("t", 0, 10);
        broker.read_from(source);
        let slow = broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(1);
        let mut consumer = slow.assign([tp("t", 0)]).unwrap();
        assert_eq!(poll_now(&mut consumer), [0]);
        broker.delete_topic("t").unwrap();
        assert!(poll_now(&mut consumer).is_empty());
    });
}

/// LogConfigTest; PlaintextAdminIntegrationTest.testDescribeAndAlterConfigs (T-12, T-13, T-14).
#[test]
fn configs_are_set_inherited_and_refused_by_key() {
    let mut broker = TestBroker::new().with_topic("t", 1);
    broker.alter_topic("t", |config| config.set("max.message.bytes", "100")).unwrap();
    let refused = broker.alter_topic("t", |config| config.set("max.message.bytes", "200")?.set("no.such.key", "1"));
    assert!(matches!(refused, Err(Error::InvalidConfig { .. })));
    broker.reopen();
    let sources = |broker: &TestBroker| {
        let entries = broker.describe_topic("t").unwrap().config_entries();
        let set = entries.into_iter().filter(|entry| entry.source == ConfigSource::Topic);
        set.map(|entry| (entry.key, entry.value)).collect::<Vec<_>>()
    };
    assert_eq!(sources(&broker), [("max.message.bytes", "100".to_owned())]);
    broker.alter_topic("t", |config| config.unset("max.message.bytes")).unwrap();
    assert!(sources(&broker).is_empty());
    broker.produce(ProducerRecord::to("t").value(vec![0; 1000]));
}

/// A lower limit leaves what is stored as it is (T-14).
#[test]
fn a_lower_limit_does_not_touch_stored_records() {
    let mut broker = TestBroker::new().with_topic("t", 1);
    broker.produce(ProducerRecord::to("t").value(vec![1; 1000]));
    broker.alter_topic("t", |config| Ok(config.max_message_bytes(100))).unwrap();
    assert!(matches!(
        broker.producer().send(ProducerRecord::to("t").value(vec![1; 1000])),
        Err(Error::RecordTooLarge { limit: 100, .. })
    ));
    broker.reopen();
    assert_eq!(broker.consume_all(&tp("t", 0)).len(), 1);
}

/// Sends to an unknown topic create it only where that was asked for, and with so many partitions.
#[test]
fn auto_creation_has_to_be_asked_for() {
    let off = TestBroker::new();
    assert!(matches!(
        off.producer().send(ProducerRecord::to("t")),
        Err(Error::UnknownTopicOrPartition { partition: None, .. })
    ));
    let on = TestBroker::with(|builder| builder.auto_create_topics(2));
    assert_eq!(on.produce(ProducerRecord::to("t").partition(1)).offset(), 0);
    assert_eq!(partitions_of(&on, "t").len(), 2);
    let beyond = on.producer().send(ProducerRecord::to("t").partition(2)).unwrap_err();
    assert!(matches!(beyond, Error::UnknownTopicOrPartition { partition: Some(2), .. }), "{beyond}");
    assert!(matches!(on.producer().send(ProducerRecord::to("a b")), Err(Error::InvalidTopic { .. })));
    let both = ["u", "v"].map(|topic| ProducerRecord::to(topic).partition(0));
    assert_eq!(on.producer().send_all(both).unwrap().len(), 2);
    assert_eq!(on.topics().unwrap(), ["t", "u", "v"]);
}

/// The time of a creation is the clock's.
#[test]
fn a_topic_knows_when_it_was_created() {
    let clock = ManualClock::new(42);
    let mut broker = TestBroker::with(|builder| builder.clock(clock.clone())).with_topic("t", 1);
    clock.set(99);
    broker.read_from(Source::Store);
    assert_eq!(broker.describe_topic("t").unwrap().created_ms(), 42);
}
