//! Power cuts while a topic is compacted. Goal: after any crash, a reader from the start sees the last record of every key, the
//! index agrees with the log, and the next clean ends where one without a crash would have.
//!
//! A workload of appends and cleans runs on a simulated disk, with so little room that every clean takes many steps. Then power
//! fails before every single disk operation, and what the disk may then hold is opened, compared and cleaned.

use std::time::Duration;

use brooklet::{Broker, CleanupPolicy, NewTopic, TopicConfig};

use crate::compacted::{Twin, log};
use crate::crash::{BUFFERED, Knobs, assert_healthy, scale};
use crate::sim_disk::SimDisk;

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
