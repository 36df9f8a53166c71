//! Calls that programs make at each start or in each loop: they do what a caller expects when repeated, mixed and failed.
//!
//! Each test uses a broker as an application does, then reopens it where the result has to last.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use brooklet::{
    Broker, CleanupPolicy, CompressionType, ConfigSource, Error, GroupState, NewTopic, ProducerRecord, TimestampType,
    TopicConfig, TopicPartition,
};

use crate::sim_disk::{Fault, Op, Repeat, SimDisk};
use crate::support::{PATIENCE, TestBroker, tp};

#[test]
fn ensure_topic_creates_once_and_then_changes_nothing() {
    let mut broker = TestBroker::new();
    let orders = || NewTopic::new("orders", 2).config(TopicConfig::default().max_message_bytes(5_000));
    let id = broker.ensure_topic(orders()).unwrap().id();
    broker.produce_n("orders", 1, 3);
    for _ in 0..2 {
        let description = broker.ensure_topic(orders()).unwrap();
        assert_eq!((description.id(), description.partitions().len()), (id, 2));
        assert_eq!(description.partitions()[1].end, 3);
        broker.reopen();
    }
}

#[test]
fn ensure_topic_adds_partitions_and_sets_only_the_configs_that_it_names() {
    let mut broker = TestBroker::new();
    let config = TopicConfig::default().max_message_bytes(5_000).retention_bytes(Some(1 << 20));
    broker.create_topic(NewTopic::new("orders", 3).config(config)).unwrap();
    let wanted = TopicConfig::default().max_message_bytes(6_000);
    broker.ensure_topic(NewTopic::new("orders", 5).config(wanted)).unwrap();
    broker.ensure_topic(NewTopic::new("orders", 1)).unwrap();
    broker.reopen();
    let description = broker.describe_topic("orders").unwrap();
    assert_eq!(description.partitions().len(), 5, "partitions are never taken away");
    assert_eq!(description.config().get("max.message.bytes").unwrap(), "6000");
    assert_eq!(description.config().get("retention.bytes").unwrap(), (1 << 20).to_string());
    let set = description.config_entries().into_iter().filter(|entry| entry.source == ConfigSource::Topic);
    assert_eq!(set.count(), 2);
    broker.producer().send(ProducerRecord::to("orders").partition(4).value("x")).unwrap().wait().unwrap();
}

#[test]
fn ensure_topic_refuses_what_create_topic_refuses_and_changes_nothing() {
    let broker = TestBroker::new().with_topic("or.ders", 1);
    assert!(matches!(broker.ensure_topic(NewTopic::new("or_ders", 1)), Err(Error::InvalidTopic { .. })));
    assert!(matches!(broker.ensure_topic(NewTopic::new("a b", 1)), Err(Error::InvalidTopic { .. })));
    assert!(matches!(broker.ensure_topic(NewTopic::new("or.ders", 0)), Err(Error::InvalidPartitions { .. })));
    let lags = TopicConfig::default().set("min.compaction.lag.ms", "9").unwrap().set("max.compaction.lag.ms", "5");
    let refused = broker.ensure_topic(NewTopic::new("or.ders", 4).config(lags.unwrap()));
    assert!(matches!(refused, Err(Error::InvalidConfig { .. })));
    assert_eq!(broker.describe_topic("or.ders").unwrap().partitions().len(), 1);
    assert_eq!(broker.topics().unwrap().len(), 1);
}

#[test]
fn threads_that_ensure_the_same_topic_agree() {
    let broker = TestBroker::new();
    thread::scope(|scope| {
        let ensure = |partitions| broker.ensure_topic(NewTopic::new("orders", partitions)).unwrap();
        for partitions in 1..=8 {
            scope.spawn(move || ensure(partitions));
        }
    });
    assert_eq!(broker.describe_topic("orders").unwrap().partitions().len(), 8);
}

#[test]
fn several_topics_are_created_together_or_not_at_all() {
    let mut broker = TestBroker::new().with_topic("here", 1);
    let topics = |names: &[&str]| names.iter().map(|name| NewTopic::new(*name, 2)).collect::<Vec<_>>();
    for refused in [["a", "here"], ["a", "a"], ["a.b", "a_b"], ["a", "not a name"]] {
        assert!(broker.validate_topics(topics(&refused)).is_err());
        assert!(broker.create_topics(topics(&refused)).is_err());
        assert_eq!(broker.topics().unwrap(), ["here"]);
    }
    broker.validate_topics(topics(&["a", "b"])).unwrap();
    assert_eq!(broker.topics().unwrap(), ["here"], "a validation creates nothing");
    assert_eq!(broker.create_topics(topics(&["b", "a"])).unwrap().len(), 2);
    assert!(broker.create_topics([]).unwrap().is_empty());
    broker.reopen();
    assert_eq!(broker.topics().unwrap(), ["a", "b", "here"]);
    let described = broker.describe_topics(["b", "a"]).unwrap();
    assert_eq!(described.iter().map(|topic| topic.name().as_str()).collect::<Vec<_>>(), ["b", "a"]);
    broker.produce_n("a", 1, 2);
    broker.produce_n("b", 0, 1);

    assert!(matches!(broker.delete_topics(["a", "none"]), Err(Error::UnknownTopicOrPartition { .. })));
    assert_eq!(broker.topics().unwrap().len(), 3, "nothing was deleted");
    broker.delete_topics(["a", "b", "a"]).unwrap();
    assert_eq!(broker.topics().unwrap(), ["here"]);
}

/// Wakes a thread: the smallest async runtime.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: IntoFuture>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future.into_future());
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(PATIENCE),
        }
    }
}

#[test]
fn a_delivery_that_is_awaited_is_committed_at_once() {
    // Nothing else commits within the life of this test.
    let broker = TestBroker::new().with_topic("t", 1);
    for offset in 0..100 {
        let delivery = broker.producer().send(ProducerRecord::to("t").value("x")).unwrap();
        assert_eq!(block_on(delivery).unwrap().offset(), offset);
    }
}

#[test]
fn deliveries_are_awaited_by_many_threads_while_others_wait() {
    let broker = TestBroker::new().with_topic("t", 1);
    thread::scope(|scope| {
        for thread in 0..6 {
            let producer = broker.producer();
            scope.spawn(move || {
                for _ in 0..50 {
                    let delivery = producer.send(ProducerRecord::to("t").value("x")).unwrap();
                    if thread % 2 == 0 { block_on(delivery).map(drop) } else { delivery.wait().map(drop) }.unwrap();
                }
            });
        }
    });
    assert_eq!(broker.describe_topic("t").unwrap().partitions()[0].end, 300);
}

#[test]
fn a_task_without_a_background_thread_is_woken_by_whoever_commits() {
    let broker = Broker::builder().background(false).in_memory().unwrap();
    broker.create_topic(NewTopic::new("t", 1)).unwrap();
    let delivery = broker.producer().send(ProducerRecord::to("t").value("x")).unwrap();
    let (done, outcome) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || done.send(block_on(delivery).unwrap().offset().get()).unwrap());
        broker.producer().flush().unwrap();
        assert_eq!(outcome.recv_timeout(PATIENCE), Ok(0));
    });
}

#[test]
fn an_awaited_delivery_fails_as_a_waiting_one_does() {
    let disk = SimDisk::new();
    let broker = Broker::builder().disk(Arc::new(disk.clone())).open("app.brooklet").unwrap();
    broker.create_topic(NewTopic::new("t", 1)).unwrap();
    disk.fail(Fault {
        operation: Op::Sync,
        nth: 0,
        repeat: Repeat::Once,
        kind: io::ErrorKind::Other,
        path_contains: None,
    });
    let delivery = broker.producer().send(ProducerRecord::to("t").value("x")).unwrap();
    let error = block_on(delivery).unwrap_err();
    assert!(matches!(error, Error::DurabilityUnknown { .. } | Error::ReopenRequired { .. }), "{error}");
}

#[test]
fn a_record_that_was_read_is_copied_to_another_topic_with_all_that_it_has() {
    let broker = TestBroker::new().with_topic("jobs", 1).with_topic("jobs.dead", 3);
    let producer = broker.producer();
    let record = ProducerRecord::to("jobs").key("k").value("v").timestamp(5).header("a", "1").header_without_value("b");
    producer.send(record.header("a", "2")).unwrap().wait().unwrap();
    producer.send(ProducerRecord::to("jobs").timestamp(6)).unwrap().wait().unwrap();
    let mut jobs = broker.consumer_of(&[tp("jobs", 0)]);
    for record in &jobs.poll(PATIENCE).unwrap() {
        let copy = ProducerRecord::from(&record).for_topic("jobs.dead").partition(2).without_headers("b");
        producer.send(copy.header("reason", "refused")).unwrap().wait().unwrap();
    }
    let mut dead = broker.consumer_of(&[tp("jobs.dead", 2)]);
    let records = dead.poll(PATIENCE).unwrap();
    let records: Vec<_> = records.iter().collect();
    assert_eq!((records[0].key(), records[0].value(), records[0].timestamp()), (Some(&b"k"[..]), Some(&b"v"[..]), 5));
    let headers: Vec<_> = records[0].headers().map(|header| (header.key, header.value)).collect();
    assert_eq!(headers, [("a", Some(&b"1"[..])), ("a", Some(&b"2"[..])), ("reason", Some(&b"refused"[..]))]);
    assert_eq!((records[1].key(), records[1].value(), records[1].timestamp()), (None, None, 6));
}

#[test]
fn enums_and_names_are_read_as_they_are_written() {
    for policy in ["delete", "compact", "compact,delete", ""] {
        assert_eq!(policy.parse::<CleanupPolicy>().unwrap().to_string(), policy);
    }
    for compression in ["none", "lz4", "zstd"] {
        assert_eq!(compression.parse::<CompressionType>().unwrap().to_string(), compression);
    }
    for kind in ["CreateTime", "LogAppendTime"] {
        assert_eq!(kind.parse::<TimestampType>().unwrap().to_string(), kind);
    }
    for state in ["Empty", "Assigning", "Reconciling", "Stable"] {
        assert_eq!(state.parse::<GroupState>().unwrap().to_string(), state);
    }
    for partition in ["orders-0", "a-b-17"] {
        assert_eq!(partition.parse::<TopicPartition>().unwrap().to_string(), partition);
    }
    assert!("gzip".parse::<CompressionType>().unwrap_err().to_string().contains("`lz4`"));
    assert!("remove".parse::<CleanupPolicy>().unwrap_err().to_string().contains("`compact`"));
    assert!("createtime".parse::<TimestampType>().unwrap_err().to_string().contains("`CreateTime`"));
    assert!("Dead".parse::<GroupState>().unwrap_err().to_string().contains("`Stable`"));
    for bad in ["orders", "orders-", "orders-x", "-1", "or ders-1", "orders-4294967296"] {
        assert!(bad.parse::<TopicPartition>().is_err(), "{bad}");
    }
}

#[test]
fn an_error_has_a_code_a_debug_text_for_main_and_an_io_kind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none.brooklet");
    let error = Broker::builder().open_existing().open(&path).unwrap_err();
    assert_eq!((error.code().name(), error.code().is_kafka()), ("NOT_FOUND", false));
    assert_eq!(format!("{error:?}"), format!("NOT_FOUND: {} does not exist", path.display()));
    let broker = TestBroker::new().with_topic("t", 1);
    let exists = broker.create_topic(NewTopic::new("t", 1)).unwrap_err();
    assert_eq!(exists.code().to_string(), "TOPIC_ALREADY_EXISTS (36)");
    let error = io::Error::from(exists);
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(error.to_string(), "topic `t` exists already");
    assert!(matches!(error.downcast::<Error>(), Ok(Error::TopicAlreadyExists { .. })));
}
