//! Power cuts while a topic is compacted. Goal: after any crash, a reader from the start sees the last record of every key, the
//! index agrees with the log, and the next clean ends where one without a crash would have.
//!
//! A workload of appends and cleans runs on a simulated disk, with so little room that every clean takes many steps. Then power
//! fails before every single disk operation, and what the disk may then hold is opened, compared and cleaned.

use std::io;
use std::time::Duration;

use brooklet::{Broker, CleanupPolicy, Error, NewTopic, ProducerRecord, TopicConfig};

use crate::compacted::{Twin, log};
use crate::crash::{BUFFERED, Knobs, assert_healthy, scale};
use crate::sim_disk::{Fault, Op, Repeat, SimDisk};

/// Segments of some records. Tombstones are not kept beyond the clean after the one that met them.
fn config() -> TopicConfig {
    TopicConfig::default()
        .cleanup_policy(CleanupPolicy::Compact)
        .segment_bytes(250)
        .min_cleanable_dirty_ratio(0.0)
        .delete_retention(Duration::ZERO)
}

fn open(knobs: Knobs, disk: &SimDisk, memory: usize) -> Broker {
    knobs.builder(disk).compaction_memory(memory).open(crate::crash::PATH).unwrap()
}

/// Cleans until nothing changes any more.
fn clean(broker: &Broker) {
    for _ in 0..3 {
        let report = broker.clean(Duration::MAX).unwrap();
        assert!(report.is_complete, "{report}");
    }
}

/// `n` records from `first` on: of ten keys each third is a tombstone.
fn records(first: usize, n: usize) -> impl Iterator<Item = (String, bool)> {
    (first..first + n).map(|i| (format!("k{}", i * 7 % 10), i % 3 > 0))
}

/// So many disk operations were done when so many records were acknowledged.
struct Point {
    at: usize,
    acknowledged: usize,
    is_durable: bool,
}

fn crash_everywhere(knobs: Knobs, memory: usize, images: usize) {
    let disk = SimDisk::new();
    let mut twin = Twin::default();
    let mut points = Vec::new();
    let mut broker = open(knobs, &disk, memory);
    broker.create_topic(NewTopic::new("t", 1).config(config())).unwrap();
    let created = disk.operations();
    let note = |points: &mut Vec<Point>, twin: &Twin, is_durable| {
        points.push(Point { at: disk.operations(), acknowledged: twin.records.len(), is_durable });
    };
    note(&mut points, &twin, true);
    for round in 0..3 {
        twin.append(&broker, records(round * 20, 20));
        note(&mut points, &twin, knobs.durability == brooklet::Durability::Sync);
        clean(&broker);
        if round == 1 {
            broker.close().unwrap();
            drop(broker);
            note(&mut points, &twin, true);
            broker = open(knobs, &disk, memory);
        }
    }
    twin.check(&broker);
    broker.close().unwrap();
    let end = disk.operations();
    let mut count = 0;
    for at in created..=end {
        let all: Vec<_> = disk.images(at, at as u64).collect();
        let stride = all.len().div_ceil(images * scale()).max(1);
        for (label, image) in all.into_iter().skip(at % stride).step_by(stride) {
            let acknowledged = points.iter().rfind(|point| point.at <= at && point.is_durable);
            recover(knobs, memory, &image, &twin, acknowledged.map_or(0, |point| point.acknowledged), &label);
            count += 1;
        }
    }
    eprintln!("{count} images of {} operations", end - created);
    assert!(count >= end - created);
}

/// Opens what a crash left, compares it, and goes on with it.
fn recover(knobs: Knobs, memory: usize, image: &SimDisk, twin: &Twin, acknowledged: usize, label: &str) {
    let broker = open(knobs, image, memory);
    let end = broker.describe_topic("t").unwrap().partitions()[0].end.get();
    let end = usize::try_from(end).unwrap();
    assert!(end >= acknowledged, "{label}: {end} of {acknowledged} acknowledged records are there");
    assert_healthy(&broker, label);
    twin.check(&broker);
    // What was appended in vain is not there; other records come instead.
    let mut twin = twin.clone();
    twin.records.truncate(end);
    twin.append(&broker, records(1_000, 9));
    clean(&broker);
    assert_healthy(&broker, label);
    twin.check(&broker);
    let seen: Vec<u64> = log(&broker).into_iter().map(|record| record.offset).collect();
    let active = usize::try_from(crate::compacted::compaction(&broker).compacted.get()).unwrap();
    assert!(active + 30 > twin.records.len(), "{label}: compacted up to {active} of {}", twin.records.len());
    assert_eq!(seen, twin.compacted(active), "{label}");
}

#[test]
fn cleans_that_take_many_steps() {
    crash_everywhere(Knobs::TINY, 120, 2);
}

#[test]
fn cleans_with_room_for_all_keys() {
    crash_everywhere(Knobs { durability: BUFFERED, ..Knobs::TINY }, 1 << 20, 2);
}

/// A store with records to compact, as a process left it that was killed.
fn uncompacted(knobs: Knobs) -> (SimDisk, Twin) {
    let disk = SimDisk::new();
    let mut twin = Twin::default();
    let broker = open(knobs, &disk, 1 << 20);
    broker.create_topic(NewTopic::new("t", 1).config(config())).unwrap();
    twin.append(&broker, records(0, 60));
    (disk.after_kill(), twin)
}

/// Every single disk call of a clean fails once: the answer is a typed error, and the file opens again with everything.
#[test]
fn a_clean_whose_disk_fails() {
    let knobs = Knobs::TINY;
    let (base, twin) = uncompacted(knobs);
    let mut failed = 0;
    for (operation, kind) in [
        (Op::Write, io::ErrorKind::Other),
        (Op::Write, io::ErrorKind::StorageFull),
        (Op::Sync, io::ErrorKind::Other),
        (Op::Read, io::ErrorKind::Other),
    ] {
        for nth in 0.. {
            let disk = base.after_kill();
            let broker = open(knobs, &disk, 300);
            let before = disk.calls(operation, "");
            disk.fail(Fault { operation, path_contains: None, nth, kind, repeat: Repeat::Once });
            let cleaned = (0..3).try_for_each(|_| broker.clean(Duration::MAX).map(drop));
            if let Err(error) = &cleaned {
                let known =
                    matches!(error, Error::ReopenRequired { .. } | Error::StorageFull { .. } | Error::Io { .. });
                assert!(known, "{operation:?} {nth}: {error:?}");
                failed += 1;
            }
            let was_reached = disk.calls(operation, "") - before > nth;
            disk.clear_faults();
            drop(broker);
            let label = format!("{operation:?} {kind:?} {nth}");
            let image = disk.after_kill();
            recover(knobs, 1 << 20, &image, &twin, twin.records.len(), &label);
            if !was_reached {
                break;
            }
        }
    }
    assert!(failed > 20, "{failed} cleans failed");
}

/// Compaction makes room on a full disk, and nothing is lost that a reader of the table needs.
#[test]
fn a_full_disk_is_compacted_and_takes_records_again() {
    for room in [2 << 20, 4 << 20] {
        let disk = SimDisk::new();
        let knobs = Knobs { buffer_memory: 64 << 10, checkpoint_bytes: 16 << 10, ..Knobs::TINY };
        let broker = open(knobs, &disk, 1 << 20);
        let config = config().segment_bytes(32 << 10);
        broker.create_topic(NewTopic::new("t", 1).config(config)).unwrap();
        disk.set_capacity(Some(disk.used() + room));
        let producer = broker.producer();
        let produce = |from: usize| {
            for number in from.. {
                let value = format!("{number} {}", ".".repeat(700));
                let record = ProducerRecord::to("t").key(format!("k{}", number % 50)).value(value);
                match producer.send(record).and_then(brooklet::Delivery::wait) {
                    Ok(metadata) => assert_eq!(metadata.offset(), number as u64),
                    Err(Error::StorageFull { .. }) => return number,
                    Err(error) => panic!("{room}: {error}"),
                }
            }
            unreachable!()
        };
        let first = produce(0);
        assert!(broker.stats().unwrap().storage_full, "{room}");
        let report = broker.clean(Duration::MAX).unwrap();
        assert!(report.is_complete && report.compacted == 1, "{room}: {report}");
        let second = produce(first);
        assert!(second > first + 100, "{room}: {first} records, {report}, then {second}");
        let seen = log(&broker);
        for key in 0..50 {
            let last = (0..second).rev().find(|number| number % 50 == key).unwrap();
            assert!(seen.iter().any(|record| record.offset == last as u64), "{room}: k{key}@{last} is gone");
        }
        assert_healthy(&broker, "after it was full");
    }
}
