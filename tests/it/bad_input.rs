//! Whatever a user does wrong gives an error that says what to do; never a panic, a hang or a damaged file.
//!
//! Method: the smallest, the largest and what lies just beyond; calls at the wrong time and from the wrong place; files that
//! are something else. Every broker is checked when it goes.

mod callbacks;
mod files;
mod user_code;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use brooklet::{
    Broker, Durability, Error, MAX_MESSAGE_BYTES_LIMIT, NewTopic, OffsetReset, OffsetSpec, Partitioner, ProducerRecord,
    TopicConfig, TopicName,
};

use crate::support::{NOW, Source, TestBroker, bounds, finishes, from_tail_and_store, poll_all, poll_now, tp};

#[test]
fn names_have_1_to_249_characters() {
    for (length, valid) in [(0, false), (1, true), (249, true), (250, false), (1_000_000, false)] {
        let name = "n".repeat(length);
        assert_eq!(TopicName::new(&name).is_ok(), valid, "{length}");
        let error = Broker::in_memory().unwrap().create_topic(NewTopic::new(name, 1)).err();
        assert_eq!(error.is_none(), valid, "{length}");
        assert!(error.is_none_or(|error| error.to_string().len() < 1_000), "a long name makes no long message");
    }
}

#[test]
fn odd_characters_are_shown_escaped() {
    let broker = Broker::in_memory().unwrap();
    for name in ["a\nb", "a\u{1b}[31mb", "\0", "a\u{202e}b", "\u{0}\r\n"] {
        let errors = [
            broker.create_topic(NewTopic::new(name, 1)).unwrap_err(),
            broker.describe_topic(name).unwrap_err(),
            broker.delete_topic(name).unwrap_err(),
            broker.producer().send(ProducerRecord::to(name)).unwrap_err(),
            broker.consumer().assign([(name, 0)]).unwrap_err(),
            broker.offset_of(&tp(name, 0), OffsetSpec::Latest).unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
        }
    }
}

#[test]
fn records_of_any_size_up_to_the_largest_come_back_whole() {
    from_tail_and_store(|source| {
        let largest = MAX_MESSAGE_BYTES_LIMIT as usize - ProducerRecord::OVERHEAD;
        let config = TopicConfig::default().max_message_bytes(MAX_MESSAGE_BYTES_LIMIT);
        let mut broker =
            TestBroker::with(|builder| builder.buffer_memory(256 << 20)).with_configured_topic("t", 1, config);
        let sizes = [0, 1, 4_095, 4_096, 32_767, 65_535, 65_536, 1 << 20, largest];
        for (i, size) in sizes.into_iter().enumerate() {
            broker.produce(ProducerRecord::to("t").value(vec![u8::try_from(i).unwrap(); size]));
        }
        let beyond = broker.producer().send(ProducerRecord::to("t").value(vec![0; largest + 1])).unwrap_err();
        assert!(matches!(beyond, Error::RecordTooLarge { limit_name: "max.message.bytes", .. }), "{beyond}");
        broker.read_from(source);
        let seen = broker.consume_all(&tp("t", 0));
        assert_eq!(seen.len(), sizes.len());
        for (i, (seen, size)) in seen.iter().zip(sizes).enumerate() {
            let value = seen.value.as_deref().unwrap();
            assert!(value.len() == size && value.iter().all(|&byte| usize::from(byte) == i), "{size}");
        }
    });
}

#[test]
fn keys_and_headers_may_be_as_large_as_values() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        let bytes = |len: usize| vec![9_u8; len];
        let name = "h".repeat(100_000);
        broker
            .produce(ProducerRecord::to("t").key(bytes(500_000)).header("a", bytes(300_000)).header(&*name, bytes(1)));
        let many = (0..10_000).fold(ProducerRecord::to("t"), |record, i| record.header(i.to_string(), ""));
        broker.produce(many);
        broker.read_from(source);
        let seen = broker.consume_all(&tp("t", 0));
        assert_eq!(seen[0].key, Some(bytes(500_000)));
        assert_eq!(seen[0].headers, [("a".to_owned(), Some(bytes(300_000))), (name.clone(), Some(bytes(1)))]);
        assert_eq!(seen[1].headers.len(), 10_000);
        assert_eq!(seen[1].headers[9_999].0, "9999");
    });
}

#[test]
fn a_record_that_buffer_memory_can_never_hold_is_refused_at_once() {
    let broker = TestBroker::with(|builder| builder.buffer_memory(4_096)).with_topic("t", 1);
    let send = |size: usize| broker.producer().send(ProducerRecord::to("t").value(vec![0; size]));
    let error = send(5_000).unwrap_err();
    assert!(matches!(error, Error::RecordTooLarge { limit: 4_096, limit_name: "buffer_memory", .. }), "{error}");
    let together = (0..5).map(|_| ProducerRecord::to("t").value(vec![0; 1_000]));
    assert!(matches!(broker.producer().send_all(together), Err(Error::RecordTooLarge { .. })));
    for _ in 0..20 {
        send(3_000).unwrap().wait().unwrap();
    }
    assert_eq!(broker.consume_all(&tp("t", 0)).len(), 20);
}

#[test]
fn ten_thousand_partitions_work() {
    const COUNT: u32 = 10_000;
    let mut broker = TestBroker::new().with_topic("t", COUNT);
    let producer = broker.producer();
    for partition in 0..COUNT {
        drop(producer.send(ProducerRecord::to("t").partition(partition).value(partition.to_string())).unwrap());
    }
    producer.flush().unwrap();
    drop(producer);
    broker.read_from(Source::Store);
    let description = broker.describe_topic("t").unwrap();
    assert_eq!(description.partitions().len(), COUNT as usize);
    assert!(description.partitions().iter().all(|partition| partition.end == 1));
    let mut consumer =
        broker.consumer().offset_reset(OffsetReset::Earliest).assign((0..COUNT).map(|p| tp("t", p))).unwrap();
    let mut read = vec![false; COUNT as usize];
    loop {
        let records = consumer.poll(Duration::ZERO).unwrap();
        for record in &records {
            assert_eq!(record.value(), Some(record.partition().to_string().as_bytes()));
            assert!(!std::mem::replace(&mut read[record.partition() as usize], true));
        }
        if records.is_empty() {
            break;
        }
    }
    assert!(read.into_iter().all(|read| read));
}

#[test]
fn options_out_of_their_range_are_refused() {
    let refused = |builder: brooklet::Builder, key: &str| {
        let error = builder.in_memory().unwrap_err();
        assert!(matches!(&error, Error::InvalidConfig { key: found, .. } if found == key), "{error}");
    };
    for bytes in [0, 1_023, (1 << 30) + 1, usize::MAX] {
        refused(Broker::builder().buffer_memory(bytes), "buffer_memory");
    }
    for partitions in [0, brooklet::MAX_PARTITIONS + 1, u32::MAX] {
        refused(Broker::builder().auto_create_topics(partitions), "auto_create_topics");
    }
}

/// Every option at both ends of its range, with a few records through each.
#[test]
fn options_at_the_ends_of_their_range_work() {
    let interval = |flush_interval| Durability::Buffered { flush_interval };
    type Change = fn(brooklet::Builder) -> brooklet::Builder;
    let changes: [Change; 12] = [
        |builder| builder.cache_size(0),
        |builder| builder.cache_size(usize::MAX),
        |builder| builder.buffer_memory(1_024),
        |builder| builder.checkpoint_bytes(0),
        |builder| builder.checkpoint_bytes(usize::MAX),
        |builder| builder.checkpoint_interval(Duration::ZERO),
        |builder| builder.checkpoint_interval(Duration::MAX),
        |builder| builder.max_block(Duration::MAX),
        |builder| builder.linger(Duration::ZERO),
        |builder| builder.linger(Duration::MAX),
        |builder| builder.background(false),
        |builder| builder.background(false).linger(Duration::MAX).checkpoint_bytes(0),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        for durability in [Durability::Sync, interval(Duration::ZERO), interval(Duration::MAX)] {
            finishes(&format!("option {i} with {durability:?}"), move || {
                let mut broker = TestBroker::with(|builder| change(builder).durability(durability)).with_topic("t", 2);
                for round in 1..3 {
                    broker.produce_n("t", 0, 20);
                    broker.maintain().unwrap();
                    broker.sync().unwrap();
                    assert_eq!(broker.consume_all(&tp("t", 0)).len(), 20 * round);
                    broker.reopen();
                }
            });
        }
    }
}

#[test]
fn a_clock_that_jumps_changes_timestamps_only() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        let times = [NOW, NOW - 1_000_000, 0, NOW + 10_000_000, i64::MAX, 1];
        for (offset, time) in times.into_iter().enumerate() {
            broker.clock.set(time);
            assert_eq!(broker.produce(ProducerRecord::to("t")).offset(), offset as u64);
        }
        broker.read_from(source);
        let seen: Vec<_> = broker.consume_all(&tp("t", 0)).into_iter().map(|seen| seen.timestamp).collect();
        assert_eq!(seen, times);
        assert_eq!(broker.offset_of(&tp("t", 0), OffsetSpec::MaxTimestamp).unwrap(), Some(4.into()));
    });
}

/// A clock before 1970 is a broken one; nothing else may break with it.
#[test]
fn a_clock_before_1970_harms_nothing_else() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new();
        for (name, time) in [("first", -1), ("second", i64::MIN)] {
            broker.clock.set(time);
            broker.create_topic(NewTopic::new(name, 1)).unwrap();
            broker.produce(ProducerRecord::to(name).value("x"));
            broker.clock.set(NOW);
            broker.produce(ProducerRecord::to(name).value("y"));
        }
        broker.read_from(source);
        for (name, time) in [("first", -1), ("second", i64::MIN)] {
            let times: Vec<_> = broker.consume_all(&tp(name, 0)).iter().map(|seen| seen.timestamp).collect();
            assert_eq!(times, [time, NOW]);
            assert_eq!(broker.offset_of(&tp(name, 0), OffsetSpec::MaxTimestamp).unwrap(), Some(1.into()), "{name}");
            assert_eq!(broker.offset_of(&tp(name, 0), OffsetSpec::Timestamp(0)).unwrap(), Some(1.into()), "{name}");
        }
        let hour = OffsetReset::ByDuration(Duration::from_secs(3_600));
        let mut consumer = broker.consumer().offset_reset(hour).assign([("first", 0)]).unwrap();
        assert!(poll_all(&mut consumer).len() <= 2);
    });
}

#[test]
fn negative_and_far_timestamps_are_refused() {
    let config = TopicConfig::default().timestamp_before_max(Duration::ZERO).timestamp_after_max(Duration::ZERO);
    let broker = TestBroker::new().with_configured_topic("now", 1, config).with_topic("t", 1);
    let send = |topic: &'static str, timestamp| broker.producer().send(ProducerRecord::to(topic).timestamp(timestamp));
    for negative in [-1, i64::MIN] {
        assert!(matches!(send("t", negative), Err(Error::IllegalArgument { .. })));
    }
    for outside in [NOW - 1, NOW + 1, i64::MAX] {
        assert!(matches!(send("now", outside), Err(Error::InvalidTimestamp { .. })));
    }
    assert!(send("now", NOW).is_ok());
    let partition = tp("t", 0);
    for spec in [OffsetSpec::Timestamp(-1), OffsetSpec::Timestamp(i64::MIN)] {
        assert!(matches!(broker.offset_of(&partition, spec), Err(Error::IllegalArgument { .. })));
        assert!(matches!(broker.delete_records(&partition, spec), Err(Error::IllegalArgument { .. })));
    }
    assert_eq!(broker.offset_of(&partition, OffsetSpec::Timestamp(i64::MAX)).unwrap(), None);
}

#[test]
fn offsets_out_of_range_are_refused_or_reset() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        broker.produce_n("t", 0, 10);
        broker.read_from(source);
        let partition = tp("t", 0);
        for offset in [11, u64::from(u32::MAX) + 1, i64::MAX as u64, u64::MAX] {
            let spec = OffsetSpec::Offset(offset);
            assert!(matches!(broker.offset_of(&partition, spec), Err(Error::OffsetOutOfRange { .. })));
            assert!(matches!(broker.delete_records(&partition, spec), Err(Error::OffsetOutOfRange { .. })));
            let mut consumer = broker.consumer_of(std::slice::from_ref(&partition));
            consumer.seek(&partition, offset).unwrap();
            assert_eq!(consumer.lag(&partition).unwrap(), Some(0));
            assert_eq!(poll_now(&mut consumer).first(), Some(&0));
        }
        assert_eq!(bounds(&broker, "t", 0), (0.into(), 10.into()));
    });
}

/// Everything answers `Closed` after the broker was closed; nothing panics or hangs.
#[test]
fn after_close_every_call_says_so() {
    let broker = TestBroker::new().with_topic("t", 1);
    broker.produce_n("t", 0, 3);
    let mut consumer = broker.consumer_of(&[tp("t", 0)]);
    let records = consumer.poll(Duration::ZERO).unwrap();
    let producer = broker.producer();
    let delivery = producer.send(ProducerRecord::to("t")).unwrap();
    broker.close().unwrap();
    broker.close().unwrap();
    let partition = tp("t", 0);
    let calls = [
        ("create_topic", broker.create_topic(NewTopic::new("u", 1)).err()),
        ("delete_topic", broker.delete_topic("t").err()),
        ("create_partitions", broker.create_partitions("t", 2).err()),
        ("alter_topic", broker.alter_topic("t", Ok).err()),
        ("topics", broker.topics().err()),
        ("describe_topic", broker.describe_topic("t").err()),
        ("offset_of", broker.offset_of(&partition, OffsetSpec::Latest).err()),
        ("delete_records", broker.delete_records(&partition, 1).err()),
        ("check", broker.check().err()),
        ("stats", broker.stats().err()),
        ("sync", broker.sync().err()),
        ("maintain", broker.maintain().err()),
        ("send", producer.send(ProducerRecord::to("t")).err()),
        ("send to nowhere", producer.send(ProducerRecord::to("nowhere")).err()),
        ("send_all", producer.send_all([ProducerRecord::to("t")]).err()),
        ("poll", consumer.poll(Duration::MAX).err()),
        ("assign", consumer.assign([("t", 0)]).err()),
        ("new consumer", broker.consumer().assign([("t", 0)]).err()),
        ("beginning_offsets", consumer.beginning_offsets([&partition]).err()),
        ("end_offsets", consumer.end_offsets([&partition]).err()),
        ("offsets_for_times", consumer.offsets_for_times([(("t", 0), 0)]).err()),
    ];
    for (call, error) in calls {
        assert!(matches!(error, Some(Error::Closed)), "{call}: {error:?}");
    }
    assert_eq!(delivery.wait().unwrap().offset(), 3, "it was committed by the close");
    producer.flush().unwrap();
    assert_eq!(records.iter().count(), 3, "what was polled stays");
}

#[derive(Debug, Default)]
struct PanicsAtFirst {
    calls: AtomicU32,
}

impl Partitioner for PanicsAtFirst {
    fn partition(&self, _topic: &str, _key: Option<&[u8]>, _value: Option<&[u8]>, _partitions: u32) -> Option<u32> {
        assert!(self.calls.fetch_add(1, Ordering::SeqCst) > 0, "a user's partitioner panics");
        Some(0)
    }
}

#[test]
fn a_panic_in_a_partitioner_reaches_its_caller_and_harms_nobody() {
    let broker = TestBroker::new().with_topic("t", 1);
    let producer = broker.producer_builder().partitioner(PanicsAtFirst::default()).build();
    let panicking = producer.clone();
    let panicked = std::thread::spawn(move || drop(panicking.send(ProducerRecord::to("t")))).join();
    assert!(panicked.is_err());
    let offset = finishes("a send", move || producer.send(ProducerRecord::to("t")).unwrap().wait().unwrap().offset());
    assert_eq!(offset, 0);
}

/// A user's code in `alter_topic` that panics, or calls the broker.
#[test]
fn a_change_of_a_topic_may_panic_or_call_the_broker() {
    let broker = TestBroker::new().with_topic("t", 1);
    let handle = (*broker).clone();
    let panicked = std::thread::spawn(move || handle.alter_topic("t", |_| panic!("a user's change panics"))).join();
    assert!(panicked.is_err());
    let handle = (*broker).clone();
    let changed = finishes("alter_topic", move || {
        let inner = handle.clone();
        handle.alter_topic("t", move |config| {
            inner.create_topic(NewTopic::new("u", 1))?;
            inner.alter_topic("t", |config| Ok(config.max_message_bytes(7)))?;
            Ok(config.max_message_bytes(8))
        })
    });
    assert!(matches!(changed, Err(Error::IllegalState { .. })), "a change within a change is refused");
    let handle = (*broker).clone();
    finishes("alter_topic", move || {
        let inner = handle.clone();
        handle.alter_topic("t", move |config| {
            inner.create_partitions("t", 2)?;
            Ok(config.max_message_bytes(8))
        })
    })
    .unwrap();
    let altered = broker.describe_topic("t").unwrap();
    assert_eq!((altered.partitions().len(), altered.config().get("max.message.bytes")), (2, Some("8".to_owned())));
    // Deleted and created again within the change: another topic, which is left alone.
    let again = (*broker).clone();
    let gone = broker.alter_topic("t", move |config| {
        again.delete_topic("t")?;
        again.create_topic(NewTopic::new("t", 1))?;
        Ok(config.max_message_bytes(9))
    });
    assert!(matches!(gone, Err(Error::UnknownTopicOrPartition { .. })), "{gone:?}");
    assert_ne!(broker.describe_topic("t").unwrap().config().get("max.message.bytes"), Some("9".to_owned()));
    assert_eq!(broker.topics().unwrap(), ["t", "u"]);
}

/// What an error says, and what it says to do.
#[test]
fn errors_say_what_to_do() {
    let broker =
        TestBroker::with(|b| b.buffer_memory(1_024).max_block(Duration::ZERO).background(false).linger(Duration::MAX))
            .with_topic("t", 1);
    let partition = tp("t", 0);
    let mut strict = broker.consumer().offset_reset(OffsetReset::None).assign([("t", 0)]).unwrap();
    let no_offset = strict.poll(Duration::ZERO).unwrap_err();
    strict.seek(&partition, 99).unwrap();
    let out_of_range = strict.poll(Duration::ZERO).unwrap_err();
    let send = |record: ProducerRecord<'_>| broker.producer().send(record);
    let _filling = send(ProducerRecord::to("t").value(vec![0; 600])).unwrap();
    for (error, advice) in [
        (send(ProducerRecord::to("t").value(vec![0; 600])).unwrap_err(), "send slower, or raise"),
        (send(ProducerRecord::to("t").value(vec![0; 2_000])).unwrap_err(), "send less at once, or raise the limit"),
        (send(ProducerRecord::to("u")).unwrap_err(), "create it first, or check the spelling"),
        (send(ProducerRecord::to("t").partition(9)).unwrap_err(), "add partitions"),
        (send(ProducerRecord::to("t").timestamp(-1)).unwrap_err(), "give milliseconds since 1970"),
        (send(ProducerRecord::to("t").timestamp(i64::MAX)).unwrap_err(), "message.timestamp.after.max.ms"),
        (broker.create_topic(NewTopic::new("a b", 1)).unwrap_err(), "is not one of the letters"),
        (broker.create_topic(NewTopic::new("u", 0)).unwrap_err(), "at least one partition"),
        (broker.create_partitions("t", 1).unwrap_err(), "the count only grows"),
        (broker.alter_topic("t", |config| config.set("retention", "1")).unwrap_err(), "keys like it are"),
        (no_offset, "seek first, or choose an offset reset"),
        (out_of_range, "t-0 at 99; seek to an offset of the log"),
        (
            strict.assign([("t", 0); 0]).and_then(|()| strict.poll(Duration::ZERO)).unwrap_err(),
            "assign partitions first",
        ),
        (strict.seek(&partition, 0).unwrap_err(), "t-0 is not assigned"),
        (Broker::builder().open_existing().open(broker.directory().join("none")).unwrap_err(), "does not exist"),
        (Broker::builder().create_new().open(broker.path()).unwrap_err(), "exists already"),
        (Broker::open(broker.path()).unwrap_err(), "close it there first"),
    ] {
        let text = error.to_string();
        assert!(text.contains(advice), "{text:?} does not say {advice:?}");
        assert!(text.len() < 400 && !text.contains('\n') && !text.ends_with('.'), "{text:?}");
    }
}
