//! Compression: what it must not change, and what it does to sizes.

use std::time::Duration;

use brooklet::{CompressionType, Error, NewTopic, OffsetSpec, ProducerRecord, TopicConfig};

use crate::model::compression_types;
use crate::support::{NOW, Seen, Source, TestBroker, from_tail_and_store, tp};

fn compressed(compression_type: CompressionType) -> TopicConfig {
    TopicConfig::default().compression_type(compression_type)
}

/// Without the one that does not compress.
fn compressing_types() -> impl Iterator<Item = CompressionType> {
    compression_types().into_iter().skip(1)
}

/// Text that compresses well, and is another one for each number.
fn text(number: u64, len: usize) -> Vec<u8> {
    let line = format!("{{\"number\":{number},\"name\":\"a customer of ours\",\"paid\":true}} ");
    line.into_bytes().into_iter().cycle().take(len).collect()
}

/// Bytes that do not compress.
fn noise(number: u64, len: usize) -> Vec<u8> {
    let mut state = number | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Records of all sizes and kinds: small and large ones, such that compress and such that do not, without values and with
/// headers, their times now rising and now falling.
fn mixed() -> Vec<ProducerRecord<'static>> {
    let record = |number: u64| {
        let len = match number % 50 {
            0 => 200_000,
            1..10 => 3_000,
            _ => usize::try_from(number % 200).unwrap(),
        };
        let value = if number.is_multiple_of(3) { noise(number, len) } else { text(number, len) };
        let record = ProducerRecord::to("t").partition(0).timestamp(NOW + i64::try_from(number * 7 % 100).unwrap());
        match number % 7 {
            0 => record.key(number.to_string()),
            1 => record.key("k").value(value).header("h", text(number, 20)).header_without_value("empty"),
            _ => record.value(value),
        }
    };
    (0..400).map(record).collect()
}

/// What a reader gets of a topic, and where it finds times.
fn shown(broker: &TestBroker) -> (Vec<Seen>, Vec<Option<u64>>) {
    let mut specs = vec![OffsetSpec::Earliest, OffsetSpec::Latest, OffsetSpec::MaxTimestamp];
    specs.extend((NOW - 2..NOW + 103).map(OffsetSpec::Timestamp));
    let found = specs.into_iter().map(|spec| broker.offset_of(&tp("t", 0), spec).unwrap().map(|offset| offset.get()));
    (broker.consume_all(&tp("t", 0)), found.collect())
}

/// PlaintextProducerSendTest.testSendCompressedMessageWithCreateTime, testSendRecordBatchWithMaxRequestSizeAndHigher;
/// LogOffsetTest and ListOffsetsIntegrationTest.testThreeRecordsInOneBatchWithMessageConversion over all codecs (P-19).
#[test]
fn compression_changes_nothing_that_a_reader_sees() {
    from_tail_and_store(|source| {
        let by = |compression_type| {
            let mut broker = TestBroker::new().with_configured_topic("t", 1, compressed(compression_type));
            for group in mixed().chunks(90) {
                broker
                    .producer()
                    .send_all(group.iter().cloned())
                    .unwrap()
                    .into_iter()
                    .for_each(|d| drop(d.wait().unwrap()));
            }
            broker.read_from(source);
            (shown(&broker), broker)
        };
        let (plain, _) = by(CompressionType::None);
        assert_eq!(plain.0.len(), 400);
        for compression_type in compressing_types() {
            let (seen, broker) = by(compression_type);
            assert!(seen == plain, "{compression_type}, {source:?}");
            let ratio = broker.stats().unwrap().compression_ratio();
            assert!(source == Source::Tail || ratio > 1.2, "{compression_type}: {ratio}");
        }
    });
}

/// DynamicConfigChangeTest, for `compression.type`.
#[test]
fn a_change_of_the_type_acts_on_what_is_stored_from_then_on() {
    let mut broker = TestBroker::new().with_topic("t", 1);
    let mut expected = Vec::new();
    for compression_type in compression_types().into_iter().chain(compression_types()) {
        broker.alter_topic("t", |config| Ok(config.compression_type(compression_type))).unwrap();
        let before = broker.describe_topic("t").unwrap().partitions()[0];
        for _ in 0..500 {
            let value = text(expected.len() as u64, 400);
            drop(broker.producer().send(ProducerRecord::to("t").value(value.clone())).unwrap());
            expected.push(value);
        }
        broker.reopen();
        let after = broker.describe_topic("t").unwrap().partitions()[0];
        let (stored, plain) = (after.stored_bytes - before.stored_bytes, after.plain_bytes - before.plain_bytes);
        assert!(plain > 500 * 400, "{compression_type}: {plain}");
        assert_eq!(stored * 3 < plain, compression_type != CompressionType::None, "{compression_type}: {stored}");
    }
    let seen: Vec<_> = broker.consume_all(&tp("t", 0)).into_iter().map(|seen| seen.value.unwrap()).collect();
    assert!(seen == expected);
}

/// What is kept by size is what is stored (L-6): compressed records stay for longer.
#[test]
fn retention_counts_what_is_stored() {
    let kept = |compression_type| {
        let config = compressed(compression_type).segment_bytes(5_000).retention_bytes(Some(20_000));
        let broker = TestBroker::new().with_configured_topic("t", 1, config);
        for number in 0..10_000 {
            drop(broker.producer().send(ProducerRecord::to("t").value(text(number, 200))).unwrap());
        }
        broker.producer().flush().unwrap();
        broker.clean(Duration::MAX).unwrap();
        let partition = broker.describe_topic("t").unwrap().partitions()[0];
        assert!((20_000..25_100).contains(&partition.stored_bytes), "{partition:?}");
        partition.end.get() - partition.log_start.get()
    };
    let plain = kept(CompressionType::None);
    for compression_type in compressing_types() {
        let compressed = kept(compression_type);
        assert!(compressed > plain * 2, "{compression_type}: {compressed} of {plain}");
    }
}

/// Records that are compacted are compressed again.
#[test]
fn compaction_keeps_topics_compressed() {
    for compression_type in compressing_types() {
        let config = compressed(compression_type).set("cleanup.policy", "compact").unwrap().segment_bytes(5_000);
        let mut broker = TestBroker::new().with_configured_topic("t", 1, config);
        for number in 0..3_000 {
            let record = ProducerRecord::to("t").key(format!("k{}", number % 400)).value(text(number, 200));
            drop(broker.producer().send(record).unwrap());
        }
        broker.producer().flush().unwrap();
        broker.clean(Duration::MAX).unwrap();
        let partition = broker.describe_topic("t").unwrap().partitions()[0];
        assert!(partition.compression_ratio() > 3.0, "{compression_type}: {partition:?}");
        broker.reopen();
        let seen = broker.consume_all(&tp("t", 0));
        assert!((400..2_000).contains(&seen.len()), "{}", seen.len());
        assert!(seen.iter().all(|seen| seen.value == Some(text(seen.offset, 200))), "{compression_type}");
    }
}

/// TopicConfigs: `compression.type`. DIFFERENCE: producers do not compress, so there is no `producer`; `gzip` and `snappy` are
/// not there.
#[test]
fn the_types_are_those_that_kafka_names_and_this_build_has() {
    let broker = TestBroker::new();
    for (number, name) in ["none", "uncompressed", "lz4", "zstd"].into_iter().enumerate() {
        let config = TopicConfig::default().set("compression.type", name).unwrap();
        let created = broker.create_topic(NewTopic::new(format!("t{number}"), 1).config(config));
        let is_there = number < 2 || compressing_types().any(|compression_type| compression_type.to_string() == name);
        match created {
            Ok(topic) => {
                assert!(is_there, "{name}");
                let shown = topic.config().get("compression.type").unwrap();
                assert_eq!(shown, if number < 2 { "none" } else { name });
            }
            Err(error) => {
                assert!(!is_there && matches!(error, Error::InvalidConfig { .. }), "{name}: {error}");
                assert!(error.to_string().contains(&format!("the feature `{name}`")), "{error}");
            }
        }
    }
    for name in ["producer", "gzip", "snappy", "brotli"] {
        let error = TopicConfig::default().set("compression.type", name).unwrap_err();
        assert!(matches!(error, Error::InvalidConfig { .. }) && error.to_string().contains("`lz4`"), "{error}");
    }
}
