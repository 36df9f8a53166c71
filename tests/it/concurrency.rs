//! Real threads, no sleeps: what many producers and consumers at once may rely on.
//!
//! Method: threads run into each other as they like, and what they saw is compared with what is there in the end. What could
//! hang runs under [`finishes`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use brooklet::{Broker, Consumer, Durability, Error, NewTopic, Offset, OffsetSpec, ProducerRecord, TopicConfig};
use crossbeam_channel::select;

use crate::sim_disk::{Keep, Op, SimDisk};
use crate::support::{PATIENCE, TestBroker, bounds, finishes, seen, tp};

/// A record that says who sent it and which of theirs it is.
fn numbered(producer: u64, i: u64) -> ProducerRecord<'static> {
    ProducerRecord::to("t").partition(0).value(format!("{producer}:{i}"))
}

/// What [`numbered`] wrote.
fn who_and_which(value: &[u8]) -> (u64, u64) {
    let (producer, i) = std::str::from_utf8(value).unwrap().split_once(':').unwrap();
    (producer.parse().unwrap(), i.parse().unwrap())
}

/// Reads `total` records of partition 0, as fast as they come.
fn read(mut consumer: Consumer, total: u64) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    while (all.len() as u64) < total {
        for record in &consumer.poll(Duration::MAX).unwrap() {
            assert_eq!(record.offset(), all.len() as u64, "in order, none left out, none twice");
            all.push(who_and_which(record.value().unwrap()));
        }
    }
    all
}

/// The numbers of each producer's records ascend from 0.
fn assert_order_per_producer(log: &[(u64, u64)], producers: u64, each: u64) {
    let mut next = BTreeMap::new();
    for &(producer, i) in log {
        let expected = next.entry(producer).or_insert(0);
        assert_eq!(i, *expected, "producer {producer}");
        *expected += 1;
    }
    assert_eq!(next, (0..producers).map(|producer| (producer, each)).collect());
}

/// Eight producers that wait for each record, four consumers that read along.
#[test]
fn every_record_is_read_once_in_order_at_its_offset() {
    const PRODUCERS: u64 = 8;
    const EACH: u64 = 150;
    finishes("producers and consumers", || {
        let mut broker = TestBroker::with(|builder| builder.checkpoint_bytes(20_000)).with_topic("t", 1);
        let consumers: Vec<_> = (0..4).map(|_| broker.consumer_of(&[tp("t", 0)])).collect();
        let (logs, sent) = thread::scope(|scope| {
            let reading: Vec<_> =
                consumers.into_iter().map(|c| scope.spawn(move || read(c, PRODUCERS * EACH))).collect();
            let sending: Vec<_> = (0..PRODUCERS)
                .map(|producer| {
                    let handle = broker.producer();
                    let send = move |i| handle.send(numbered(producer, i)).unwrap().wait().unwrap().offset().get();
                    scope.spawn(move || (0..EACH).map(|i| (send(i), (producer, i))).collect::<Vec<_>>())
                })
                .collect();
            let sent: Vec<_> = sending.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            (reading.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>(), sent)
        });
        for log in &logs {
            assert_eq!(*log, logs[0]);
        }
        assert_order_per_producer(&logs[0], PRODUCERS, EACH);
        for (offset, record) in sent {
            assert_eq!(logs[0][usize::try_from(offset).unwrap()], record, "at the offset it was told");
        }
        broker.reopen();
        assert_eq!(read(broker.consumer_of(&[tp("t", 0)]), PRODUCERS * EACH), logs[0], "and so in the store");
    });
}

/// Many threads push into next to no memory: every send finds its room in the end.
#[test]
fn a_tiny_buffer_under_many_threads_loses_nothing_and_never_dies() {
    const PRODUCERS: u64 = 6;
    const EACH: u64 = 60;
    finishes("sends into a tiny buffer", || {
        for background in [true, false] {
            let mut broker =
                TestBroker::with(|builder| builder.buffer_memory(2_000).background(background)).with_topic("t", 1);
            thread::scope(|scope| {
                for producer in 0..PRODUCERS {
                    let handle = broker.producer();
                    scope.spawn(move || {
                        for i in 0..EACH {
                            let padded = numbered(producer, i).header("padding", vec![0; 300]);
                            drop(handle.send(padded).unwrap());
                        }
                    });
                }
            });
            broker.producer().flush().unwrap();
            broker.reopen();
            assert_order_per_producer(&read(broker.consumer_of(&[tp("t", 0)]), PRODUCERS * EACH), PRODUCERS, EACH);
        }
    });
}

/// Nobody waits for the sync, and each comes without being asked for.
#[test]
fn what_is_buffered_is_synced_within_the_flush_interval() {
    finishes("a sync in the background", || {
        let disk = SimDisk::new();
        let durability = Durability::Buffered { flush_interval: Duration::from_millis(1) };
        let builder = || Broker::builder().disk(Arc::new(disk.clone())).durability(durability);
        let broker = builder().open("/d/app.brooklet").unwrap();
        broker.create_topic(NewTopic::new("t", 1)).unwrap();
        let producer = broker.producer();
        for i in 0..5 {
            let before = disk.calls(Op::Sync, "-journal");
            producer.send(numbered(0, i)).unwrap().wait().unwrap();
            disk.wait_for_calls_behind(before, Op::Sync, "-journal");
            let found = disk.image(disk.operations(), Keep::None);
            let found = Broker::builder().disk(Arc::new(found)).open("/d/app.brooklet").unwrap();
            let end = found.offset_of(&tp("t", 0), OffsetSpec::Latest).unwrap();
            assert_eq!(end, Some(Offset::new(i + 1)));
        }
    });
}

/// Polls in a thread and says when it is about to sleep for the first time; the result comes through the channel.
fn sleeping_poll(mut consumer: Consumer) -> mpsc::Receiver<brooklet::Result<Vec<u64>>> {
    let (results, result) = mpsc::channel();
    let (ready, started) = mpsc::channel();
    thread::spawn(move || {
        assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
        ready.send(()).unwrap();
        let polled = consumer.poll(Duration::MAX).map(|records| crate::support::offsets(&records));
        // The test may have given up.
        let _ = results.send(polled);
    });
    started.recv().unwrap();
    result
}

#[test]
fn a_sleeping_poll_is_woken_by_an_acknowledgement() {
    for round in 0..50 {
        let broker = TestBroker::new().with_topic("t", 2);
        let result = sleeping_poll(broker.consumer_of(&[tp("t", 0), tp("t", 1)]));
        broker.produce_n("t", round % 2, 1);
        assert_eq!(result.recv_timeout(PATIENCE).unwrap().unwrap(), [0]);
    }
}

#[test]
fn a_sleeping_poll_is_woken_by_its_waker() {
    for _ in 0..50 {
        let broker = Broker::in_memory().unwrap();
        broker.create_topic(NewTopic::new("t", 1)).unwrap();
        let consumer = broker.consumer().assign([("t", 0)]).unwrap();
        let waker = consumer.waker();
        let result = sleeping_poll(consumer);
        waker.wake();
        assert!(matches!(result.recv_timeout(PATIENCE).unwrap(), Err(Error::Wakeup)));
    }
}

#[test]
fn a_sleeping_poll_is_woken_by_the_close() {
    for _ in 0..20 {
        let broker = TestBroker::new().with_topic("t", 1);
        let results: Vec<_> = (0..3).map(|_| sleeping_poll(broker.consumer_of(&[tp("t", 0)]))).collect();
        broker.close().unwrap();
        for result in results {
            assert!(matches!(result.recv_timeout(PATIENCE).unwrap(), Err(Error::Closed)));
        }
    }
}

#[test]
fn a_sleeping_poll_follows_a_topic_that_is_created_again() {
    for _ in 0..20 {
        let broker = TestBroker::new().with_topic("t", 1);
        let result = sleeping_poll(broker.consumer_of(&[tp("t", 0)]));
        broker.delete_topic("t").unwrap();
        broker.create_topic(NewTopic::new("t", 1)).unwrap();
        broker.produce_n("t", 0, 1);
        assert_eq!(result.recv_timeout(PATIENCE).unwrap().unwrap(), [0]);
    }
}

/// The topic comes back without the partition that the consumer reads: it goes on waiting, by its time-out.
#[test]
fn a_poll_of_a_partition_that_did_not_come_back_ends_by_its_timeout() {
    let broker = TestBroker::new().with_topic("t", 3);
    let mut consumer = broker.consumer_of(&[tp("t", 2)]);
    broker.delete_topic("t").unwrap();
    broker.create_topic(NewTopic::new("t", 1)).unwrap();
    let (consumer, records) = finishes("the poll", move || {
        let records = consumer.poll(Duration::from_millis(2)).unwrap().len();
        (consumer, records)
    });
    assert_eq!(records, 0);
    let result = sleeping_poll(consumer);
    broker.create_partitions("t", 3).unwrap();
    broker.produce_n("t", 2, 1);
    assert_eq!(result.recv_timeout(PATIENCE).unwrap().unwrap(), [0], "and it reads it when it comes at last");
}

#[test]
fn a_receiver_works_in_select() {
    let broker = TestBroker::new().with_topic("t", 1);
    let records = broker.consumer_of(&[tp("t", 0)]).into_receiver(4).unwrap();
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let reading = thread::spawn(move || {
        let mut all = Vec::new();
        loop {
            select! {
                recv(records.receiver()) -> record => all.push(record.unwrap().unwrap().get().offset().get()),
                recv(stopped) -> _ => return all,
            }
            if all.len() == 100 {
                return all;
            }
        }
    });
    broker.produce_n("t", 0, 100);
    let all = finishes("the reader", move || reading.join().unwrap());
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    drop(stop);
}

#[test]
fn a_receiver_ends_when_it_is_dropped_or_the_broker_closes() {
    let broker = TestBroker::new().with_topic("t", 1);
    broker.produce_n("t", 0, 100);
    let full = broker.consumer_of(&[tp("t", 0)]).into_receiver(1).unwrap();
    let idle = broker.consumer().assign([("t", 0)]).unwrap().into_receiver(1).unwrap();
    let rendezvous = broker.consumer_of(&[tp("t", 0)]).into_receiver(0).unwrap();
    assert_eq!(rendezvous.receiver().recv().unwrap().unwrap().get().offset(), 0);
    finishes("dropping receivers", move || drop((full, idle, rendezvous)));
    let closing = broker.consumer().assign([("t", 0)]).unwrap().into_receiver(1).unwrap();
    broker.close().unwrap();
    let end = finishes("the close", move || {
        let first = closing.receiver().recv();
        (first, closing.receiver().recv().is_err())
    });
    assert!(matches!(end, (Ok(Err(Error::Closed)), true)), "an error, then nothing: {end:?}");
}

/// The broker closes under its producers. Who was told `Ok` finds the record afterwards; who was not was told `Closed`.
#[test]
fn a_close_under_sending_producers_keeps_what_it_acknowledged() {
    for round in 0..10_u64 {
        let mut broker = TestBroker::new().with_topic("t", 1);
        let barrier = Arc::new(Barrier::new(5));
        let producers: Vec<_> = (0..4)
            .map(|producer| {
                let (handle, barrier) = (broker.producer(), Arc::clone(&barrier));
                thread::spawn(move || {
                    barrier.wait();
                    let mut told = Vec::new();
                    for i in 0.. {
                        let outcome = handle.send(numbered(producer, i)).and_then(brooklet::Delivery::wait);
                        match outcome {
                            Ok(metadata) => told.push((metadata.offset().get(), (producer, i))),
                            Err(Error::Closed) => return told,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    told
                })
            })
            .collect();
        barrier.wait();
        // Some rounds close at once, others after some records.
        let mut consumer = broker.consumer_of(&[tp("t", 0)]);
        while consumer.lag(&tp("t", 0)).unwrap().is_none() || consumer.position(&tp("t", 0)).unwrap() < 5 * round {
            let _ = consumer.poll(Duration::from_millis(100)).unwrap();
        }
        broker.close().unwrap();
        let told: Vec<_> =
            finishes("the producers", || producers.into_iter().flat_map(|thread| thread.join().unwrap()).collect());
        broker.reopen();
        let log = broker.consume_all(&tp("t", 0));
        assert_eq!(log.len(), told.len(), "round {round}: all that is there was acknowledged");
        for (offset, record) in told {
            let value = log[usize::try_from(offset).unwrap()].value.clone().unwrap();
            assert_eq!(who_and_which(&value), record, "round {round}");
        }
    }
}

/// A topic is deleted and created again and again under its producers and consumers.
#[test]
fn topics_come_and_go_under_producers_and_consumers() {
    finishes("topics that come and go", || {
        let broker = TestBroker::with(|builder| builder.checkpoint_bytes(2_000)).with_topic("t", 1);
        let stop = AtomicBool::new(false);
        let acknowledged = AtomicU64::new(0);
        let read = AtomicU64::new(0);
        thread::scope(|scope| {
            for producer in 0..3 {
                let handle = broker.producer();
                let (stop, acknowledged) = (&stop, &acknowledged);
                scope.spawn(move || {
                    for i in 0.. {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        match handle.send(numbered(producer, i)).and_then(brooklet::Delivery::wait) {
                            Ok(_) => drop(acknowledged.fetch_add(1, Ordering::SeqCst)),
                            Err(Error::UnknownTopicOrPartition { .. }) => thread::yield_now(),
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            for _ in 0..2 {
                let mut consumer = broker.consumer_of(&[tp("t", 0)]);
                let (stop, read) = (&stop, &read);
                scope.spawn(move || {
                    let mut last = None;
                    while !stop.load(Ordering::SeqCst) {
                        for record in seen(&consumer.poll(Duration::from_millis(1)).unwrap()) {
                            let follows = last.is_none_or(|last| record.offset == last + 1);
                            assert!(follows || record.offset == 0, "{last:?} then {}", record.offset);
                            last = Some(record.offset);
                            read.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
            for _ in 0..15 {
                let (sent, seen) = (acknowledged.load(Ordering::SeqCst), read.load(Ordering::SeqCst));
                while acknowledged.load(Ordering::SeqCst) < sent + 5 || read.load(Ordering::SeqCst) < seen + 5 {
                    thread::yield_now();
                }
                broker.delete_topic("t").unwrap();
                broker.create_topic(NewTopic::new("t", 1)).unwrap();
            }
            stop.store(true, Ordering::SeqCst);
        });
    });
}

/// Partitions and configurations change under producers; no record is lost or twice.
#[test]
fn a_topic_changes_under_its_producers() {
    const EACH: u64 = 200;
    finishes("changes under producers", || {
        let mut broker = TestBroker::with(|builder| builder.checkpoint_bytes(4_000)).with_topic("t", 1);
        thread::scope(|scope| {
            for producer in 0..3 {
                let handle = broker.producer();
                scope.spawn(move || {
                    for i in 0..EACH {
                        let delivery = handle.send(numbered(producer, i)).unwrap();
                        if i % 3 == 0 {
                            delivery.wait().unwrap();
                        }
                    }
                });
            }
            for count in 2..12 {
                broker.create_partitions("t", count).unwrap();
                broker.alter_topic("t", |config| Ok(config.max_message_bytes(1_000 + count))).unwrap();
                assert!(broker.check().unwrap().is_healthy());
            }
        });
        broker.producer().flush().unwrap();
        assert_order_per_producer(&read(broker.consumer_of(&[tp("t", 0)]), 3 * EACH), 3, EACH);
        broker.reopen();
        assert_order_per_producer(&read(broker.consumer_of(&[tp("t", 0)]), 3 * EACH), 3, EACH);
    });
}

/// Whatever a consumer has seen is on the disk: a power loss at that very moment does not take it.
#[test]
fn a_consumer_sees_only_what_a_power_loss_leaves() {
    const TOTAL: u64 = 40;
    finishes("a consumer on a simulated disk", || {
        let disk = SimDisk::new();
        let path = Path::new("/d/test.brooklet");
        let options = || Broker::builder().background(false).buffer_memory(1 << 16);
        let broker = options().disk(Arc::new(disk.clone())).open(path).unwrap();
        broker.create_topic(NewTopic::new("t", 1)).unwrap();
        let mut consumer = broker.consumer().offset_reset(brooklet::OffsetReset::Earliest).assign([("t", 0)]).unwrap();
        let producers: Vec<_> = (0..2)
            .map(|producer| {
                let handle = broker.producer();
                thread::spawn(move || {
                    for i in 0..TOTAL / 2 {
                        handle.send(numbered(producer, i)).unwrap().wait().unwrap();
                    }
                })
            })
            .collect();
        let mut end = 0;
        while end < TOTAL {
            let records = consumer.poll(Duration::MAX).unwrap();
            let now = disk.image(disk.operations(), Keep::None);
            end = records.next_offsets()[0].1.get();
            let survived = options().disk(Arc::new(now)).open(path).unwrap();
            assert!(bounds(&survived, "t", 0).1 >= end, "offset {end} was seen before it was durable");
        }
        producers.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Deliveries are done soon after their records are seen, and before a later one is: a waiting thread needs nobody else.
#[test]
fn waiting_threads_lead_for_each_other_without_a_background_thread() {
    finishes("waits without a background thread", || {
        let broker = TestBroker::with(|builder| builder.background(false).linger(Duration::MAX)).with_topic("t", 1);
        thread::scope(|scope| {
            for producer in 0..8 {
                let handle = broker.producer();
                scope.spawn(move || {
                    for i in 0..50 {
                        let delivery = handle.send(numbered(producer, i)).unwrap();
                        let done = if i % 2 == 0 {
                            delivery.wait_timeout(PATIENCE).unwrap().is_some() && delivery.is_done()
                        } else {
                            delivery.wait_durable().is_ok()
                        };
                        assert!(done);
                    }
                });
            }
        });
        assert_eq!(bounds(&broker, "t", 0).1, 400);
    });
}

/// Changes of a configuration are made one after the other: each sees the one before, and none fails or is lost.
#[test]
fn concurrent_changes_of_a_topic_are_all_made() {
    let broker = TestBroker::new().with_topic("t", 1);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let broker = (*broker).clone();
            thread::spawn(move || {
                for _ in 0..10 {
                    let add = |config: TopicConfig| {
                        let bytes: u32 = config.get("max.message.bytes").unwrap().parse().unwrap();
                        Ok(config.max_message_bytes(bytes + 1))
                    };
                    broker.alter_topic("t", add).unwrap();
                }
            })
        })
        .collect();
    let before: u32 = TopicConfig::default().get("max.message.bytes").unwrap().parse().unwrap();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let after = broker.describe_topic("t").unwrap().config().get("max.message.bytes");
    assert_eq!(after, Some((before + 40).to_string()));
}
