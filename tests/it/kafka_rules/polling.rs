//! `poll`: how much it gives, in which order, and when it returns.

use std::time::Duration;

use brooklet::{Error, OffsetReset, ProducerRecord};

use crate::support::{Source, TestBroker, finishes, from_tail_and_store, offsets, poll_all, poll_now, tp};

/// MockConsumerTest.shouldReturnMaxPollRecords (C32, C-11).
#[test]
fn a_poll_gives_no_more_than_max_poll_records() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        broker.produce_n("t", 0, 10);
        broker.read_from(source);
        let of = |limit| broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(limit);
        let mut two = of(2).assign([("t", 0)]).unwrap();
        assert_eq!((poll_now(&mut two), poll_now(&mut two)), (vec![0, 1], vec![2, 3]));
        let mut rest = of(usize::MAX).assign([("t", 0)]).unwrap();
        rest.seek(&tp("t", 0), 4).unwrap();
        assert_eq!(poll_now(&mut rest), [4, 5, 6, 7, 8, 9]);
        assert!(poll_now(&mut rest).is_empty());
    });
}

/// PlaintextConsumerPollTest.testMaxPollRecords (C32, C-11). A poll may give fewer than there are: it ends where what was
/// read ahead ends, as in Kafka.
#[test]
fn five_thousand_records_come_in_polls_of_at_most_a_hundred() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        broker.produce_n("t", 0, 5_000);
        broker.read_from(source);
        let hundred = broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(100);
        let mut consumer = hundred.assign([("t", 0)]).unwrap();
        let (mut polls, mut next) = (0, 0);
        while next < 5_000 {
            let records = consumer.poll(Duration::ZERO).unwrap();
            assert!((1..=100).contains(&records.len()));
            assert!(offsets(&records).into_iter().eq(next..next + records.len() as u64));
            next += records.len() as u64;
            polls += 1;
        }
        assert!((50..60).contains(&polls), "{polls} polls");
        assert!(poll_now(&mut consumer).is_empty());
    });
}

/// FetcherTest.testFetchMaxPollRecordsUnaligned (C32, C-11).
#[test]
fn the_limit_holds_across_partitions() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 2);
        for (partition, first, end) in [(0, 1, 4), (1, 6, 9)] {
            broker.produce_n("t", partition, end);
            broker.delete_records(&tp("t", partition), first).unwrap();
        }
        broker.read_from(source);
        let two = broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(2);
        let mut consumer = two.assign([("t", 0), ("t", 1)]).unwrap();
        let polls: Vec<_> = (0..3).map(|_| poll_now(&mut consumer)).collect();
        assert!(polls.iter().all(|poll| poll.len() == 2), "{polls:?}");
        let mut all = polls.concat();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 6, 7, 8]);
        assert!(poll_now(&mut consumer).is_empty());
    });
}

/// PlaintextConsumerFetchTest.checkFetchHonoursSizeIfLargeRecordNotFirst, testFetchRecordLargerThanFetchMaxBytes (C33, C-14).
#[test]
fn byte_limits_end_a_poll_but_never_hide_a_large_record() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("alone", 1).with_topic("behind", 1);
        broker.produce(ProducerRecord::to("alone").value(vec![0; 10_241]));
        broker.produce(ProducerRecord::to("behind").value("small"));
        broker.produce(ProducerRecord::to("behind").value(vec![0; 10_240]));
        broker.read_from(source);
        let earliest = broker.consumer().offset_reset(OffsetReset::Earliest);
        for limited in [earliest.clone().fetch_max_bytes(10_240), earliest.max_partition_fetch_bytes(10_240)] {
            let mut alone = limited.assign([("alone", 0)]).unwrap();
            assert_eq!(poll_now(&mut alone), [0]);
            let mut behind = limited.assign([("behind", 0)]).unwrap();
            assert_eq!((poll_now(&mut behind), poll_now(&mut behind)), (vec![0], vec![1]));
            assert!(poll_now(&mut behind).is_empty());
        }
    });
}

/// A partition that reached `max.partition.fetch.bytes` gives way to the others, in the same poll.
#[test]
fn the_limit_of_one_partition_does_not_hold_up_the_others() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 3);
        (0..3).for_each(|partition| broker.produce_n("t", partition, 300));
        broker.read_from(source);
        let limited = broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(900);
        let limited = limited.max_partition_fetch_bytes(1_000);
        let mut consumer = limited.assign((0..3).map(|partition| ("t", partition))).unwrap();
        let mut read = [0; 3];
        while read.iter().sum::<usize>() < 900 {
            let records = consumer.poll(Duration::ZERO).unwrap();
            for (partition, count) in read.iter_mut().enumerate() {
                let polled = records.records(&tp("t", u32::try_from(partition).unwrap())).count();
                assert!((1..=250).contains(&polled), "{polled} of partition {partition}");
                *count += polled;
            }
        }
        assert_eq!(read, [300; 3]);
        assert!(poll_now(&mut consumer).is_empty());
    });
}

/// A record that is larger than the limit of its partition is read in a poll that begins with it, however much the others have
/// (C-14).
#[test]
fn a_large_record_does_not_starve_behind_partitions_that_always_have_more() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 4);
        for partition in [1, 3] {
            for _ in 0..3 {
                broker.produce(ProducerRecord::to("t").partition(partition).value(vec![0; 5_000]));
            }
        }
        for partition in [0, 2] {
            broker.produce_n("t", partition, 500);
        }
        broker.read_from(source);
        for max_bytes in [1_500, 50 << 20] {
            let limited = broker.consumer().offset_reset(OffsetReset::Earliest).fetch_max_bytes(max_bytes);
            let limited = limited.max_partition_fetch_bytes(1_000);
            let mut consumer = limited.assign((0..4).map(|partition| ("t", partition))).unwrap();
            let mut large = 0;
            for _ in 0..12 {
                let records = consumer.poll(Duration::ZERO).unwrap();
                large += [1, 3].iter().map(|partition| records.records(&tp("t", *partition)).count()).sum::<usize>();
            }
            assert_eq!(large, 6, "with {max_bytes}");
        }
    });
}

/// Byte limits of zero give one record at a time (C-14).
#[test]
fn byte_limits_of_zero_give_one_record_at_a_time() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 2);
        (0..2).for_each(|partition| broker.produce_n("t", partition, 3));
        broker.read_from(source);
        let earliest = broker.consumer().offset_reset(OffsetReset::Earliest);
        for limited in [earliest.clone().fetch_max_bytes(0), earliest.max_partition_fetch_bytes(0)] {
            let mut consumer = limited.assign([("t", 0), ("t", 1)]).unwrap();
            let polls: Vec<_> = (0..6).map(|_| poll_now(&mut consumer).len()).collect();
            assert_eq!(polls, [1; 6]);
            assert!(poll_now(&mut consumer).is_empty());
        }
    });
}

/// Within a partition, ascending, without loss or repetition, whatever the limits (C-10).
#[test]
fn every_record_comes_once_and_in_order_under_any_limit() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 3);
        for round in 0..3_u64 {
            for partition in 0..3 {
                broker.produce_n("t", partition, 20 + 10 * round);
            }
            if round == 1 {
                broker.read_from(source);
            }
        }
        for limit in [1, 2, 7, 89, 90, 91, 500] {
            let limited = broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(limit);
            let mut consumer = limited.assign((0..3).map(|partition| tp("t", partition))).unwrap();
            let mut next = [0_u64; 3];
            loop {
                let records = consumer.poll(Duration::ZERO).unwrap();
                for record in &records {
                    let expected = &mut next[record.partition() as usize];
                    assert_eq!(record.offset(), *expected, "limit {limit}");
                    assert_eq!(record.value(), Some(expected.to_string().as_bytes()));
                    *expected += 1;
                }
                for (partition, offset) in records.next_offsets() {
                    assert_eq!(offset, next[partition.partition() as usize]);
                }
                if records.is_empty() {
                    break;
                }
            }
            assert_eq!(next, [90; 3], "limit {limit}");
        }
    });
}

/// FetcherTest, "no starvation": a partition that always has more does not keep the others waiting (C-10).
#[test]
fn a_busy_partition_does_not_starve_the_others() {
    let broker = TestBroker::new().with_topic("t", 2);
    let large = || ProducerRecord::to("t").partition(0).value(vec![0; 50_000]);
    let ten = broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(10);
    let mut consumer = ten.assign([("t", 0), ("t", 1)]).unwrap();
    broker.produce_n("t", 1, 1);
    for round in 0..20 {
        for _ in 0..20 {
            drop(broker.producer().send(large()).unwrap());
        }
        broker.producer().flush().unwrap();
        let records = consumer.poll(Duration::ZERO).unwrap();
        if records.iter().any(|record| record.partition() == 1) {
            return;
        }
        assert_eq!(records.len(), 10, "round {round}");
    }
    panic!("20 polls gave nothing of partition 1");
}

/// KafkaConsumerTest.testPollReturnsRecords, verifyPollTimesOut…: at once when there is something, else after the time-out,
/// and never later with none (C-9).
#[test]
fn a_poll_returns_at_once_or_empty_after_its_timeout() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        broker.produce_n("t", 0, 1);
        broker.read_from(source);
        let mut consumer = broker.consumer_of(&[tp("t", 0)]);
        assert_eq!(offsets(&consumer.poll(Duration::MAX).unwrap()), [0]);
        assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
        let records =
            finishes("a poll with a time-out", move || consumer.poll(Duration::from_millis(1)).unwrap().len());
        assert_eq!(records, 0);
    });
}

/// A consumer can go to another thread, and only one thread at a time can use it (C-17). DIFFERENCE: the compiler sees to
/// it; Kafka answers `ConcurrentModification`.
#[test]
fn a_consumer_goes_to_another_thread() {
    let broker = TestBroker::new().with_topic("t", 1);
    broker.produce_n("t", 0, 3);
    let mut consumer = broker.consumer_of(&[tp("t", 0)]);
    let read = finishes("the thread", move || poll_all(&mut consumer));
    assert_eq!(read, [0, 1, 2]);
}

/// KafkaConsumerTest.testWakeupWithFetchDataAvailable (C41, C-18).
#[test]
fn a_wakeup_ends_one_poll_and_loses_nothing() {
    from_tail_and_store(|source| {
        let mut broker = TestBroker::new().with_topic("t", 1);
        broker.produce_n("t", 0, 5);
        broker.read_from(source);
        let partition = tp("t", 0);
        let mut consumer = broker.consumer_of(std::slice::from_ref(&partition));
        let waker = consumer.waker();
        waker.wake();
        waker.wake();
        assert!(matches!(consumer.poll(Duration::ZERO), Err(Error::Wakeup)));
        assert_eq!(consumer.position(&partition).unwrap(), 0);
        let records = consumer.poll(Duration::ZERO).unwrap();
        assert_eq!(records.len(), 5);
        assert_eq!(records.next_offsets(), [(partition, 5.into())]);
        waker.wake();
        assert!(matches!(consumer.poll(Duration::MAX), Err(Error::Wakeup)));
    });
}

/// Consumers do not disturb each other: each has its own positions (C-10).
#[test]
fn each_consumer_has_its_own_positions() {
    let mut broker = TestBroker::new().with_topic("t", 1);
    broker.produce_n("t", 0, 10);
    broker.read_from(Source::Store);
    broker.produce_n("t", 0, 10);
    let mut consumers: Vec<_> = (0..5).map(|_| broker.consumer_of(&[tp("t", 0)])).collect();
    for (i, consumer) in consumers.iter_mut().enumerate() {
        consumer.seek(&tp("t", 0), 3 * i as u64).unwrap();
    }
    for (i, consumer) in consumers.iter_mut().enumerate() {
        assert_eq!(poll_all(consumer), (3 * i as u64..20).collect::<Vec<_>>());
    }
}

/// KafkaConsumerTest.testSubscribe…, `max.poll.records` is at least 1.
#[test]
fn a_consumer_without_room_for_a_record_is_refused() {
    let broker = TestBroker::new().with_topic("t", 1);
    let refused = broker.consumer().max_poll_records(0).assign([("t", 0)]);
    assert!(matches!(refused, Err(Error::InvalidConfig { .. })));
}
