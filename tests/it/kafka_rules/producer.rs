//! Producers: which partition, in which order, and what becomes of a record.

use std::panic;
use std::sync::mpsc;
use std::time::Duration;

use brooklet::{Error, Murmur2Partitioner, Partitioner, ProducerRecord, partition_for_key};

use crate::support::{FOR_EVER, TestBroker, bounds, finishes, from_tail_and_store, tp};

/// UtilsTest.testMurmur2; librdkafka's rdmurmur2.c (C07, P-3, P-4).
#[test]
fn keys_go_where_kafkas_clients_send_them() {
    let broker = TestBroker::new().with_topic("ten", 10).with_topic("hundred", 100);
    for (key, ten, hundred) in [
        ("21", 0, 40),
        ("foobar", 6, 66),
        ("a-little-bit-long-string", 2, 12),
        ("a-little-bit-longer-string", 9, 19),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", 7, 77),
        ("abc", 7, 7),
        ("kafka", 0, 80),
        ("giberish123456789", 0, 20),
        ("1234", 0, 40),
        ("234", 6, 66),
        ("34", 0, 70),
        ("4", 3, 53),
        ("PreAmbleWillBeRemoved,ThePrePartThatIs", 8, 48),
        ("", 1, 81),
        ("key", 1, 81),
        ("a", 4, 24),
    ] {
        assert_eq!(broker.produce(ProducerRecord::to("ten").key(key)).partition(), ten, "{key:?}");
        assert_eq!(broker.produce(ProducerRecord::to("hundred").key(key)).partition(), hundred, "{key:?}");
        assert_eq!(partition_for_key(key.as_bytes(), 1), 0);
    }
}

/// Chooses partition 1 for records with a value, and something else for others.
#[derive(Debug)]
struct ByValue {
    without: Option<u32>,
}

impl Partitioner for ByValue {
    fn partition(&self, _topic: &str, _key: Option<&[u8]>, value: Option<&[u8]>, _partitions: u32) -> Option<u32> {
        if value.is_some() { Some(1) } else { self.without }
    }
}

/// KafkaProducer.partition: the record's own partition, then the partitioner's, then the key's (P-2).
#[test]
fn an_explicit_partition_wins_over_the_partitioner_and_that_over_the_key() {
    let broker = TestBroker::new().with_topic("t", 10);
    let custom = broker.producer_builder().partitioner(ByValue { without: None }).build();
    let partition = |record| custom.send(record).unwrap().wait().unwrap().partition();
    assert_eq!(partition(ProducerRecord::to("t").partition(3).key("foobar").value("x")), 3);
    assert_eq!(partition(ProducerRecord::to("t").key("foobar").value("x")), 1);
    let default = broker.producer_builder().partitioner(Murmur2Partitioner).build();
    assert_eq!(default.send(ProducerRecord::to("t").key("foobar").value("x")).unwrap().wait().unwrap().partition(), 6);
}

/// KafkaProducerTest.testPartitionsForWithBadPartitioner…: a choice that does not exist (P-2). DIFFERENCE: partitions are
/// unsigned, so there is no negative choice; one beyond the count is what fails.
#[test]
fn a_partitioners_bad_choice_fails_the_send() {
    let broker = TestBroker::new().with_topic("t", 2);
    for choice in [2, u32::MAX] {
        let producer = broker.producer_builder().partitioner(ByValue { without: Some(choice) }).build();
        let error = producer.send(ProducerRecord::to("t")).unwrap_err();
        assert!(matches!(error, Error::IllegalArgument { .. }), "{error}");
        assert!(producer.send(ProducerRecord::to("t").value("x")).is_ok(), "the producer goes on");
    }
    broker.producer().flush().unwrap();
    assert_eq!((bounds(&broker, "t", 0).1, bounds(&broker, "t", 1).1), (0.into(), 2.into()));
}

/// BuiltInPartitionerTest.testStickyPartitioning (P-5): records without a key stay where they are until `batch.size` bytes
/// went there.
#[test]
fn records_without_a_key_stick_to_a_partition_for_a_batch() {
    let broker = TestBroker::new().with_topic("t", 3);
    let record = || ProducerRecord::to("t").value(vec![0; 1024 - ProducerRecord::OVERHEAD]);
    let deliveries: Vec<_> = (0..3 * 512).map(|_| broker.producer().send(record()).unwrap()).collect();
    let partitions: Vec<_> = deliveries.into_iter().map(|delivery| delivery.wait().unwrap().partition()).collect();
    for run in partitions.chunk_by(|a, b| a == b) {
        assert_eq!(run.len() % 16, 0, "16 records of 1 KiB make a batch");
    }
    for partition in 0..3 {
        let share = partitions.iter().filter(|&&p| p == partition).count();
        assert!(share >= 160, "partition {partition} got {share} of {}", partitions.len());
    }
}

/// BaseProducerSendTest.testSendOffset (C09, P-12). DIFFERENCE: absent sizes are `None` instead of -1.
#[test]
fn metadata_says_where_a_record_went_and_how_long_it_is() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        let sizes = |record| {
            let metadata = broker.produce(record);
            assert_eq!((metadata.topic().as_str(), metadata.partition()), ("t", 0));
            (metadata.offset().get(), metadata.key_size(), metadata.value_size())
        };
        let to = || ProducerRecord::to("t").partition(0);
        assert_eq!(sizes(to().key("key").value("value")), (0, Some(3), Some(5)));
        assert_eq!(sizes(to().key("key")), (1, Some(3), None));
        assert_eq!(sizes(to().value("value")), (2, None, Some(5)));
        assert_eq!(sizes(ProducerRecord::to("t").key("key").value("value")), (3, Some(3), Some(5)));
        let (calls, called) = mpsc::channel();
        for _ in 0..100 {
            let calls = calls.clone();
            let callback = move |outcome: brooklet::Result<brooklet::RecordMetadata>| {
                calls.send(outcome.unwrap().offset().get()).unwrap();
            };
            drop(broker.producer().send_with(to().key("key").value("value"), callback).unwrap());
        }
        assert_eq!(sizes(to().key("key").value("value")), (104, Some(3), Some(5)));
        assert_eq!(called.try_iter().collect::<Vec<_>>(), (4..104).collect::<Vec<_>>());
        broker.read_from(source);
        assert_eq!(broker.consume_all(&tp("t", 0)).len(), 105);
    });
}

/// BaseProducerSendTest.testClose; MockProducerTest.shouldThrowOnSendIfProducerIsClosed (C09, P-15). DIFFERENCE: it is the
/// broker that is closed, and the error is `Closed` instead of `IllegalState`.
#[test]
fn closing_commits_what_was_sent() {
    let mut broker = TestBroker::new().with_topic("t", 1);
    let producer = broker.producer();
    for _ in 0..100 {
        drop(producer.send(ProducerRecord::to("t").value("x")).unwrap());
    }
    let tracked = producer.send(ProducerRecord::to("t").value("x")).unwrap();
    assert!(!tracked.is_done());
    broker.close().unwrap();
    assert!(tracked.is_done());
    assert_eq!(tracked.wait().unwrap().offset(), 100);
    assert!(matches!(producer.send(ProducerRecord::to("t")), Err(Error::Closed)));
    assert!(matches!(producer.send_all([ProducerRecord::to("t")]), Err(Error::Closed)));
    broker.close().unwrap();
    broker.reopen();
    assert_eq!(broker.consume_all(&tp("t", 0)).len(), 101);
}

/// Dropping the last handle does what closing does (P-15).
#[test]
fn dropping_the_last_handle_commits_what_was_sent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.brooklet");
    let broker = brooklet::Broker::builder().linger(FOR_EVER).open(&path).unwrap();
    broker.create_topic(brooklet::NewTopic::new("t", 1)).unwrap();
    let producer = broker.producer();
    drop(broker);
    let delivery = producer.send(ProducerRecord::to("t").value("x")).unwrap();
    drop(producer);
    assert!(delivery.is_done());
    let again = brooklet::Broker::open(&path).unwrap();
    assert_eq!(bounds(&again, "t", 0).1, 1);
    assert!(again.check().unwrap().is_healthy());
}

/// PlaintextProducerSendTest.testNonBlockingProducer (C10, P-10).
#[test]
fn a_full_buffer_fails_a_send_that_may_not_wait() {
    let broker = TestBroker::with(|builder| builder.buffer_memory(1_500).max_block(Duration::ZERO).background(false))
        .with_topic("t", 1);
    let record = || ProducerRecord::to("t").key("key").value(vec![0; 1_000]);
    let first = broker.producer().send(record()).unwrap();
    let error = broker.producer().send(record()).unwrap_err();
    assert!(matches!(error, Error::BufferExhausted { buffer_memory: 1_500 }) && error.is_retriable(), "{error}");
    assert_eq!(first.wait().unwrap().offset(), 0);
}

/// ProducerSendTest / BufferPoolTest.testDelayedAllocation: a send that may wait makes room (P-10).
#[test]
fn a_full_buffer_makes_a_send_wait_for_room() {
    let mut broker = TestBroker::with(|builder| builder.buffer_memory(1_500)).with_topic("t", 1);
    for _ in 0..20 {
        drop(broker.producer().send(ProducerRecord::to("t").key("key").value(vec![0; 1_000])).unwrap());
    }
    broker.reopen();
    assert_eq!(broker.consume_all(&tp("t", 0)).len(), 20);
}

/// KafkaProducerTest, the order of `send` is the order of offsets, whether or not anybody waits (P-8).
#[test]
fn offsets_follow_the_order_of_sends() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        let (a, b) = (broker.producer(), broker.producer());
        let mut waiting = Vec::new();
        for i in 0..200_u64 {
            let producer = if i % 2 == 0 { &a } else { &b };
            let delivery = producer.send(ProducerRecord::to("t").value(i.to_string())).unwrap();
            if i % 7 == 0 {
                assert_eq!(delivery.wait().unwrap().offset(), i);
            } else {
                waiting.push((i, delivery));
            }
        }
        for (i, delivery) in waiting.into_iter().rev() {
            assert_eq!(delivery.wait().unwrap().offset(), i);
        }
        broker.read_from(source);
        let texts: Vec<_> = broker.consume_all(&tp("t", 0)).iter().map(|seen| seen.text()).collect();
        assert_eq!(texts, (0..200).map(|i| i.to_string()).collect::<Vec<_>>());
    });
}

/// BaseProducerSendTest.testFlush; KafkaProducerTest.testFlushCompleteSendOfInflightBatches (P-15).
#[test]
fn flush_returns_when_everything_before_it_is_done() {
    let broker = TestBroker::new().with_topic("t", 4);
    let producer = broker.producer();
    producer.flush().unwrap();
    for _ in 0..10 {
        let record = |i: u32| ProducerRecord::to("t").partition(i % 4).value("x");
        let deliveries: Vec<_> = (0..50).map(|i| producer.send(record(i)).unwrap()).collect();
        assert!(deliveries.iter().all(|delivery| !delivery.is_done()));
        broker.producer().flush().unwrap();
        assert!(deliveries.iter().all(|delivery| delivery.is_done()));
    }
    producer.flush().unwrap();
}

/// Records that nobody waits for are committed after `linger` (`linger.ms`, P-8).
#[test]
fn a_lingering_record_is_committed_without_anybody_waiting() {
    let broker = TestBroker::with(|builder| builder.linger(Duration::from_millis(1))).with_topic("t", 1);
    let mut consumer = broker.consumer_of(&[tp("t", 0)]);
    drop(broker.producer().send(ProducerRecord::to("t").value("x")).unwrap());
    assert_eq!(finishes("the poll", move || consumer.poll(Duration::MAX).unwrap().len()), 1);
}

/// ProducerBatchTest.testCallbacksInvokedInOrder…; RecordAccumulatorTest: callbacks run once and in order, and a panic in one
/// harms no other record (P-14).
#[test]
fn callbacks_run_once_in_order_and_a_panic_harms_nobody() {
    let broker = TestBroker::new().with_topic("t", 1);
    let (calls, called) = mpsc::channel();
    let mut deliveries = Vec::new();
    for i in 0..10_u64 {
        let calls = calls.clone();
        let callback = move |outcome: brooklet::Result<brooklet::RecordMetadata>| {
            calls.send((i, outcome.unwrap().offset().get())).unwrap();
            if i % 3 == 0 {
                panic::resume_unwind(Box::new("a callback panics"));
            }
        };
        deliveries.push(broker.producer().send_with(ProducerRecord::to("t"), callback).unwrap());
    }
    for (i, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.wait().unwrap().offset(), i as u64);
    }
    assert_eq!(called.try_iter().collect::<Vec<_>>(), (0..10).map(|i| (i, i)).collect::<Vec<_>>());
    assert_eq!(broker.produce(ProducerRecord::to("t")).offset(), 10);
}

/// KafkaProducerTest.testCallbackAndInterceptorHandleError: a send that failed has no callback (P-9). DIFFERENCE: Kafka calls
/// it with the error; here the error is what `send_with` gives.
#[test]
fn a_refused_send_calls_no_callback() {
    let broker = TestBroker::new().with_topic("t", 1);
    let (calls, called) = mpsc::channel();
    let refused = broker.producer().send_with(ProducerRecord::to("t").partition(1), move |_| calls.send(()).unwrap());
    assert!(refused.is_err());
    assert!(called.recv().is_err(), "the callback was dropped");
}

/// BaseProducerSendTest.testCloseWithZeroTimeoutFromSenderThread, testFlush…: what a callback may not do is an error, never a
/// deadlock (P-14). DIFFERENCE: `close` in a callback is refused, where Kafka's acts as `close(0)`.
#[test]
fn a_callback_can_send_but_not_wait_flush_or_close() {
    let broker = TestBroker::new().with_topic("t", 1);
    let (results, result) = mpsc::channel();
    let (handle, producer) = ((*broker).clone(), broker.producer());
    let callback = move |_| {
        let illegal = |error: Error| matches!(error, Error::IllegalState { .. });
        results.send(("flush", illegal(producer.flush().unwrap_err()))).unwrap();
        results.send(("close", illegal(handle.close().unwrap_err()))).unwrap();
        let sent = producer.send(ProducerRecord::to("t").value("from a callback")).unwrap();
        results.send(("wait", illegal(sent.wait().unwrap_err()))).unwrap();
    };
    let delivery = broker.producer().send_with(ProducerRecord::to("t"), callback).unwrap();
    finishes("a callback", move || delivery.wait().unwrap());
    assert_eq!(result.iter().collect::<Vec<_>>(), [("flush", true), ("close", true), ("wait", true)]);
    broker.producer().flush().unwrap();
    assert_eq!(broker.consume_all(&tp("t", 0))[1].text(), "from a callback");
}
