//! Neither sending nor reading allocates once per record.
//!
//! Goal: the hot paths cost no call of the allocator per record, only now and then one for many. Method: the allocations of
//! this thread are counted over many records, so that neither the background thread nor the test's harness counts. In a binary
//! of its own, as the counter replaces the allocator of the whole program.

// Everything in here is a test: helpers may unwrap as tests may.
#![cfg(test)]

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use brooklet::{Broker, NewTopic, OffsetReset, ProducerRecord};

const PAYLOAD: &[u8] = &[7; 100];

const RECORDS: u64 = 20_000;

/// Room for amortised growth: buffers that double, a chunk for many records.
const MOST: u64 = RECORDS / 20;

/// A broker on the disk which does nothing by itself.
fn broker(directory: &tempfile::TempDir) -> Broker {
    let options = Broker::builder().background(false).linger(Duration::MAX);
    let broker = options.open(directory.path().join("test.brooklet")).unwrap();
    broker.create_topic(NewTopic::new("t", 1)).unwrap();
    broker
}

/// Five groups, each with a few batches and the way to the size of a large buffer.
const MOST_SENDING: u64 = 100;

/// Room for what redb allocates: some tens for each chunk of about 300 records.
const MOST_WITH_STORE: u64 = RECORDS / 2;

/// Sends in groups that are small enough for the journal.
fn send_and_flush(broker: &Broker) {
    let producer = broker.producer();
    for i in 1..=RECORDS {
        drop(producer.send(ProducerRecord::to("t").key(b"c-42").value(PAYLOAD)).unwrap());
        if i % 4_000 == 0 {
            producer.flush().unwrap();
        }
    }
}

/// Reads everything, and looks at all of it but the headers.
fn read_all(broker: &Broker) {
    let mut consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign([("t", 0)]).unwrap();
    let mut read = 0;
    while read < RECORDS {
        for record in &consumer.poll(Duration::ZERO).unwrap() {
            assert_eq!((record.offset().get(), record.value().map(<[u8]>::len)), (read, Some(100)));
            read += 1;
        }
    }
}

fn assert_few(what: &str, most: u64, info: AllocationInfo) {
    println!("{what} {RECORDS} records: {} allocations, {} bytes at most", info.count_total, info.bytes_max);
    assert!(info.count_total < most, "{what} {RECORDS} records made {} allocations", info.count_total);
}

#[test]
fn sending_and_reading_allocate_for_many_records_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let broker = broker(&directory);
    assert_few("sending", MOST_SENDING, measure(|| send_and_flush(&broker)));
    assert_few("reading from the tail", MOST, measure(|| read_all(&broker)));
    assert_few("checkpointing", MOST_WITH_STORE, measure(|| broker.close().unwrap()));
    drop(broker);
    let broker = Broker::open(directory.path().join("test.brooklet")).unwrap();
    assert_few("reading from the store", MOST, measure(|| read_all(&broker)));
    assert_few("reading from the cache", MOST, measure(|| read_all(&broker)));
    // The counter counts: each of these is an allocation of its own.
    assert!(measure(|| drop((0..10).map(|i| vec![i]).collect::<Vec<_>>())).count_total >= 10);
}
