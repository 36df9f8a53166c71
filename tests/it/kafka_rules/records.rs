//! Records, offsets and timestamps.

use std::time::Duration;

use brooklet::{Error, OffsetReset, OffsetSpec, ProducerRecord, TimestampType, TopicConfig};

use crate::support::{NOW, Source, TestBroker, bounds, from_tail_and_store, poll_now, tp};

/// RecordHeadersTest.testHeaders, testLastHeader (C11, R-3). DIFFERENCE: a record is given away when it is sent, so nobody
/// can change its headers then; Kafka answers `IllegalState`.
#[test]
fn headers_keep_their_order_and_may_repeat() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        let record = ProducerRecord::to("t")
            .header("key", "value")
            .header("key1", "key1value")
            .header("key", "value2")
            .header_without_value("key2")
            .header("", "")
            .header("key", b"\xff\x00");
        broker.produce(record);
        broker.produce(ProducerRecord::to("t"));
        broker.read_from(source);
        let mut consumer = broker.consumer_of(&[tp("t", 0)]);
        let records = consumer.poll(Duration::ZERO).unwrap();
        let headers = records.iter().next().unwrap().headers();
        let all: Vec<_> = headers.all("key").map(|header| header.value.unwrap()).collect();
        assert_eq!(all, [&b"value"[..], b"value2", b"\xff\x00"]);
        assert_eq!(headers.last("key").unwrap().value, Some(&b"\xff\x00"[..]));
        assert_eq!(headers.last("key1").unwrap().value, Some(&b"key1value"[..]));
        assert_eq!(headers.last("key2").unwrap().value, None);
        assert_eq!(headers.last("").unwrap().value, Some(&b""[..]));
        assert!(headers.last("key3").is_none());
        let names: Vec<_> = headers.map(|header| header.key).collect();
        assert_eq!(names, ["key", "key1", "key", "key2", "", "key"]);
        assert_eq!(records.iter().nth(1).unwrap().headers().count(), 0);
    });
}

/// DefaultRecordTest.testSerdeNoSequence: keys and values may be absent, which differs from empty.
#[test]
fn absent_is_not_empty() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        let parts = [None, Some(""), Some("x")];
        for key in parts {
            for value in parts {
                let mut record = ProducerRecord::to("t").partition(0);
                record = if let Some(key) = key { record.key(key) } else { record };
                record = if let Some(value) = value { record.value(value) } else { record };
                let metadata = broker.produce(record);
                assert_eq!(metadata.key_size(), key.map(str::len));
                assert_eq!(metadata.value_size(), value.map(str::len));
            }
        }
        broker.read_from(source);
        let seen = broker.consume_all(&tp("t", 0));
        let expected = parts.iter().flat_map(|key| parts.iter().map(move |value| (key, value)));
        assert_eq!(seen.len(), 9);
        for (seen, (key, value)) in seen.iter().zip(expected) {
            assert_eq!(seen.key.as_deref(), key.map(str::as_bytes));
            assert_eq!(seen.value.as_deref(), value.map(str::as_bytes));
        }
    });
}

/// UnifiedLogTest.testAppendAndReadWithSequentialOffsets; a batch is appended wholly or not at all.
#[test]
fn offsets_are_consecutive_and_a_bad_record_keeps_the_whole_batch_out() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 2);
        let record = |partition: u32| ProducerRecord::to("t").partition(partition).value("x");
        let deliveries = broker.producer().send_all([0, 1, 0, 0, 1].map(record)).unwrap();
        let places: Vec<_> = deliveries.into_iter().map(|delivery| delivery.wait().unwrap().to_string()).collect();
        assert_eq!(places, ["t-0@0", "t-1@0", "t-0@1", "t-0@2", "t-1@1"]);
        broker.read_from(source);
        for bad in [record(2), ProducerRecord::to("nowhere"), record(0).timestamp(-1), record(0).timestamp(i64::MAX)] {
            assert!(broker.producer().send_all([record(0), record(1), bad]).is_err());
        }
        assert!(broker.producer().send_all([]).unwrap().is_empty());
        broker.producer().flush().unwrap();
        broker.read_from(source);
        assert_eq!((bounds(&broker, "t", 0).1, bounds(&broker, "t", 1).1), (3.into(), 2.into()));
        assert_eq!(broker.produce(record(0)).offset(), 3);
    });
}

/// LogValidatorTest.testBatchWithInvalidRecordsAndInvalidTimestamp: the error names the bad record. DIFFERENCE: the
/// first one only, and by the index within the call.
#[test]
fn the_error_of_a_batch_names_the_index_of_the_bad_record() {
    let broker = TestBroker::new().with_topic("t", 1);
    let at = |timestamp| ProducerRecord::to("t").timestamp(timestamp);
    let error = broker.producer().send_all([at(NOW), at(NOW), at(i64::MAX)]).unwrap_err();
    assert!(matches!(error, Error::InvalidTimestamp { index: 2, timestamp: i64::MAX, .. }), "{error}");
}

/// UnifiedLogTest.testReadOutOfRange (C13, R-9).
#[test]
fn reads_outside_the_log_are_refused_and_at_its_end_are_empty() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        let partition = tp("t", 0);
        broker.produce_n("t", 0, 1025);
        broker.delete_records(&partition, 1024).unwrap();
        broker.read_from(source);
        let mut consumer = broker.consumer().offset_reset(OffsetReset::None).assign([("t", 0)]).unwrap();
        let mut read = |offset: u64| {
            consumer.seek(&partition, offset).unwrap();
            consumer.poll(Duration::ZERO).map(|records| crate::support::offsets(&records))
        };
        assert!(read(1025).unwrap().is_empty());
        assert_eq!(read(1024).unwrap(), [1024]);
        for outside in [0, 1023, 1026, u64::MAX] {
            let expected = brooklet::Offset::new(outside);
            match read(outside) {
                Err(Error::OffsetOutOfRange { positions }) => assert_eq!(positions, [(tp("t", 0), expected)]),
                other => panic!("{outside}: {other:?}"),
            }
        }
    });
}

/// LogValidatorTest.testCreateTimeUpConversion…, testInvalidCreateTime… (R-12, KIP-937).
#[test]
fn timestamps_outside_the_bounds_are_refused_and_the_bounds_pass() {
    let config = TopicConfig::default()
        .timestamp_before_max(Duration::from_millis(10))
        .timestamp_after_max(Duration::from_millis(20));
    let broker = TestBroker::new().with_configured_topic("bounded", 1, config).with_topic("default", 1);
    let send =
        |topic: &'static str, timestamp: i64| broker.producer().send(ProducerRecord::to(topic).timestamp(timestamp));
    for inside in [NOW - 10, NOW, NOW + 20] {
        assert_eq!(send("bounded", inside).unwrap().wait().unwrap().timestamp(), inside);
    }
    for outside in [0, NOW - 11, NOW + 21, i64::MAX] {
        let error = send("bounded", outside).unwrap_err();
        assert!(
            matches!(error, Error::InvalidTimestamp { index: 0, timestamp, .. } if timestamp == outside),
            "{error}"
        );
    }
    assert!(send("default", 0).is_ok(), "no limit in the past");
    assert!(send("default", NOW + 3_600_000).is_ok() && send("default", NOW + 3_600_001).is_err(), "an hour ahead");
}

/// BaseProducerSendTest.sendAndVerifyTimestamp (C09, R-12, R-13).
#[test]
fn timestamps_are_the_producers_or_the_logs() {
    from_tail_and_store(|source| {
        let append_time = TopicConfig::default().timestamp_type(TimestampType::LogAppendTime);
        let mut broker = TestBroker::new().with_topic("create", 1).with_configured_topic("append", 1, append_time);
        for i in 0..100 {
            let at = 123_457 + i;
            let created = broker.produce(ProducerRecord::to("create").timestamp(at).value("x"));
            assert_eq!((created.timestamp(), created.timestamp_type()), (at, TimestampType::CreateTime));
            let appended = broker.produce(ProducerRecord::to("append").timestamp(at).value("x"));
            assert_eq!((appended.timestamp(), appended.timestamp_type()), (NOW, TimestampType::LogAppendTime));
        }
        assert_eq!(broker.produce(ProducerRecord::to("create")).timestamp(), NOW, "the time of `send`");
        broker.read_from(source);
        let times = |topic| broker.consume_all(&tp(topic, 0)).iter().map(|seen| seen.timestamp).collect::<Vec<_>>();
        assert_eq!(times("create"), (123_457..123_557).chain([NOW]).collect::<Vec<_>>());
        assert_eq!(times("append"), [NOW; 100]);
    });
}

/// The records of one topic whose `message.timestamp.type` was changed keep theirs (T-14).
#[test]
fn a_changed_timestamp_type_is_for_later_records() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        let at_7 = || ProducerRecord::to("t").timestamp(7);
        let first = broker.producer().send(at_7()).unwrap();
        broker.alter_topic("t", |config| Ok(config.timestamp_type(TimestampType::LogAppendTime))).unwrap();
        let second = broker.producer().send(at_7()).unwrap();
        assert_eq!((first.wait().unwrap().timestamp(), second.wait().unwrap().timestamp()), (7, NOW));
        broker.read_from(source);
        let mut consumer = broker.consumer_of(&[tp("t", 0)]);
        let records = consumer.poll(Duration::ZERO).unwrap();
        let types: Vec<_> = records.iter().map(|record| (record.timestamp(), record.timestamp_type())).collect();
        assert_eq!(types, [(7, TimestampType::CreateTime), (NOW, TimestampType::LogAppendTime)]);
    });
}

/// UnifiedLogTest.testFetchOffsetByTimestamp…: the smallest offset whose timestamp is at least the one asked for, in
/// whatever order they came.
#[test]
fn the_first_offset_of_a_time_is_found_among_unordered_timestamps() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        let times = [50, 40, 60, 10, 60, 70, 5];
        broker.produce_at("t", 0, times);
        broker.read_from(source);
        for asked in 0..=80 {
            let expected = times.iter().position(|&time| time >= asked).map(|index| (index as u64).into());
            assert_eq!(broker.offset_of(&tp("t", 0), OffsetSpec::Timestamp(asked)).unwrap(), expected, "{asked}");
        }
        broker.delete_records(&tp("t", 0), 3).unwrap();
        assert_eq!(broker.offset_of(&tp("t", 0), OffsetSpec::Timestamp(0)).unwrap(), Some(3.into()));
        assert_eq!(broker.offset_of(&tp("t", 0), OffsetSpec::Timestamp(55)).unwrap(), Some(4.into()));
    });
}

/// ProducerFailureHandlingTest.testTooLargeRecordWithAckZero, testPartitionTooLargeForReplicationWithAckAll; UnifiedLogTest.
/// testMessageSizeCheck (P-9, R-16). DIFFERENCE: `send` fails itself, so there is no future to ask; the size that counts is
/// the record's own, not its batch's.
#[test]
fn records_over_the_limit_are_refused_and_the_limit_passes() {
    from_tail_and_store(|source| {
        let config = TopicConfig::default().max_message_bytes(1_000);
        let mut broker = TestBroker::new().with_configured_topic("t", 1, config);
        let of_size = |size: usize| ProducerRecord::to("t").value(vec![7; size - ProducerRecord::OVERHEAD]);
        let error = broker.producer().send(of_size(1_001)).unwrap_err();
        assert!(matches!(error, Error::RecordTooLarge { size: 1_001, limit: 1_000, .. }), "{error}");
        assert!(broker.producer().send_all([of_size(100), of_size(1_001)]).is_err());
        assert_eq!(broker.produce(of_size(1_000)).offset(), 0);
        assert_eq!(broker.producer().send_all((0..10).map(|_| of_size(1_000))).unwrap().len(), 10);
        broker.producer().flush().unwrap();
        broker.read_from(source);
        let seen = broker.consume_all(&tp("t", 0));
        assert_eq!(seen.len(), 11);
        assert!(seen.iter().all(|seen| seen.value.as_deref() == Some(&[7; 968][..])));
    });
}

/// Sends to what does not exist fail at once (P-11, R-18). DIFFERENCE: Kafka waits `max.block.ms` for metadata; here nothing
/// has to be asked.
#[test]
fn sends_to_what_does_not_exist_fail_at_once() {
    let broker = TestBroker::new().with_topic("t", 3);
    let send = |record| broker.producer().send(record).unwrap_err();
    assert!(matches!(send(ProducerRecord::to("u")), Error::UnknownTopicOrPartition { partition: None, .. }));
    for partition in [3, u32::MAX] {
        let error = send(ProducerRecord::to("t").partition(partition));
        assert!(matches!(error, Error::UnknownTopicOrPartition { partition: Some(p), .. } if p == partition));
    }
    assert!(matches!(send(ProducerRecord::to("")), Error::InvalidTopic { .. }));
}

/// Records of one partition that lie partly in the store and partly in the tail read as one log.
#[test]
fn store_and_tail_read_as_one_log() {
    let mut broker = TestBroker::new().with_topic("t", 1);
    for round in 0..4 {
        broker.produce_n("t", 0, 50);
        if round < 3 {
            broker.read_from(Source::Store);
        }
    }
    let values: Vec<_> = broker.consume_all(&tp("t", 0)).iter().map(|seen| seen.text()).collect();
    assert_eq!(values, (0..200).map(|offset| offset.to_string()).collect::<Vec<_>>());
    let mut consumer = broker.consumer_of(&[tp("t", 0)]);
    for offset in [149, 150, 151, 49, 50, 0, 199] {
        consumer.seek(&tp("t", 0), offset).unwrap();
        assert_eq!(poll_now(&mut consumer).first(), Some(&offset));
    }
}
