//! Space. Goal: what is deleted is used again, so that a file under steady production does not grow; and it is given back
//! to the disk when somebody asks. `BROOKLET_TEST_SCALE` makes the logs larger.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use brooklet::{
    Broker, Builder, CleanReport, Error, NewTopic, OffsetReset, Producer, ProducerRecord, TopicConfig, TopicPartition,
};

use crate::crash::{Knobs, assert_healthy, scale};
use crate::sim_disk::SimDisk;
use crate::support::{TestBroker, bounds};

const MIB: u64 = 1 << 20;

/// What a file has beside its records, whatever their number: the tables' own pages, and what a checkpoint writes before it
/// may use again what it replaces.
const CONSTANT: u64 = 2 * MIB;

fn builder(builder: Builder) -> Builder {
    builder.background(false).clean_interval(None).checkpoint_bytes(256 << 10).buffer_memory(1 << 20)
}

/// Appends `bytes` of records of 1 KiB.
fn append(producer: &Producer, bytes: u64) {
    for _ in 0..bytes / 1024 {
        drop(producer.send(ProducerRecord::to("t").value([b'.'; 1024])).unwrap());
    }
    producer.flush().unwrap();
}

fn clean(broker: &Broker) -> CleanReport {
    let report = broker.clean(Duration::MAX).unwrap();
    assert!(report.is_complete, "{report}");
    report
}

#[cfg(unix)]
fn stored(broker: &Broker) -> u64 {
    broker.describe_topic("t").unwrap().partitions().iter().map(|partition| partition.stored_bytes).sum()
}

fn file(broker: &Broker) -> u64 {
    broker.stats().unwrap().store_file_bytes
}

/// What the file takes on the disk: it grows by doubling, and what it has not used yet is a hole.
#[cfg(unix)]
fn on_disk(broker: &TestBroker) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(broker.path()).unwrap()) * 512
}

/// A topic under steady production with a limit of size stays within 1.3 times its limit on disk.
#[cfg(unix)]
#[test]
fn a_file_does_not_grow_over_a_hundred_turnovers() {
    let limit = 4 * MIB * scale() as u64;
    let broker = TestBroker::with(builder);
    let config = TopicConfig::default().retention_bytes(Some(limit)).segment_bytes(limit / 32);
    broker.create_topic(NewTopic::new("t", 2).config(config.retention_bytes(Some(limit / 2)))).unwrap();
    let producer = broker.producer();
    let mut most = 0;
    for turnover in 0..100 {
        for _ in 0..16 {
            append(&producer, limit / 16);
            clean(&broker);
            most = most.max(on_disk(&broker));
        }
        assert!(most <= limit * 13 / 10 + CONSTANT, "{most} bytes after {turnover} turnovers of {limit}");
    }
    eprintln!("{most} bytes on disk for a limit of {limit}");
    assert!(file(&broker) <= 2 * most + CONSTANT, "the rest is what it grew by when it was doubled");
    assert!(stored(&broker) >= limit * 9 / 10, "it holds what it should");
}

/// After everything is gone the file is small, whatever it was, and readers go on where they were.
#[test]
fn an_emptied_log_leaves_a_small_file() {
    let size = 64 * MIB * scale() as u64;
    let mut broker = TestBroker::with(builder);
    broker.create_topic(NewTopic::new("t", 1)).unwrap();
    broker.create_topic(NewTopic::new("kept", 1)).unwrap();
    append(&broker.producer(), size / 2);
    broker.produce_n("kept", 0, 100);
    append(&broker.producer(), size / 2);
    let mut consumer =
        broker.consumer().offset_reset(OffsetReset::None).max_poll_records(10).assign([("kept", 0)]).unwrap();
    consumer.seek(&TopicPartition::new("kept", 0), 0).unwrap();
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().iter().count(), 10);

    broker.clock.advance(Duration::from_secs(60));
    broker.alter_topic("t", |config| Ok(config.retention(Some(Duration::from_secs(1))))).unwrap();
    assert_eq!(clean(&broker).records, size / 1024);
    assert!(file(&broker) >= size, "cleaning alone does not shrink it");
    let report = broker.vacuum().unwrap();
    assert!(report.bytes_before >= size && report.bytes_after == file(&broker), "{report}");
    assert!(report.bytes_after < 5 * MIB, "{report}");
    assert_eq!(broker.vacuum().unwrap().bytes_after, report.bytes_after, "a second one finds nothing");

    let rest: usize = (0..9).map(|_| consumer.poll(Duration::ZERO).unwrap().iter().count()).sum();
    assert_eq!(rest, 90);
    append(&broker.producer(), MIB);
    broker.reopen();
    assert_eq!(broker.consume_all(&TopicPartition::new("kept", 0)).len(), 100);
    assert_eq!(broker.consume_all(&TopicPartition::new("t", 0)).len(), 1024);
}

/// Each record fills a portion of its own.
#[test]
fn maintaining_moves_all_that_is_due_into_the_store() {
    let broker = Broker::builder().background(false).checkpoint_bytes(1 << 10).in_memory().unwrap();
    broker.create_topic(NewTopic::new("t", 1)).unwrap();
    for _ in 0..10 {
        broker.producer().send(ProducerRecord::to("t").value([b'.'; 1 << 10])).unwrap().wait().unwrap();
    }
    assert_eq!(broker.check().unwrap().tail_records, 10);
    broker.maintain().unwrap();
    assert_eq!(broker.check().unwrap().tail_records, 0);
}

/// A checkpoint of many bytes makes a clean due, which the same call does.
#[test]
fn maintaining_once_cleans_what_its_checkpoint_made_due() {
    let broker = Broker::builder().background(false).buffer_memory(64 << 20).checkpoint_bytes(32 << 20);
    let broker = broker.in_memory().unwrap();
    let config = TopicConfig::default().retention_bytes(Some(1)).segment_bytes(1);
    broker.create_topic(NewTopic::new("t", 1).config(config)).unwrap();
    for _ in 0..33 {
        drop(broker.producer().send(ProducerRecord::to("t").value(vec![b'.'; 1 << 20 >> 1])).unwrap());
    }
    broker.producer().flush().unwrap();
    // The first call moves nothing yet when the records are younger than `checkpoint_interval`.
    drop(broker.producer().send(ProducerRecord::to("t").value(vec![b'.'; 1 << 20 >> 1])).unwrap());
    while broker.check().unwrap().tail_records > 0 {
        assert_eq!(bounds(&broker, "t", 0).0, 0);
        broker.producer().send(ProducerRecord::to("t").value(vec![b'.'; 1 << 19])).unwrap().wait().unwrap();
        broker.maintain().unwrap();
    }
    assert!(bounds(&broker, "t", 0).0 > 0);
}

/// What takes commits back writes to the journal, which the same call commits.
#[test]
fn maintaining_once_forgets_what_is_too_old() {
    const DAY: Duration = Duration::from_secs(24 * 3_600);
    let broker = TestBroker::with(|builder| builder.background(false).offsets_retention(Some(DAY))).with_topic("t", 1);
    broker.alter_group_offsets("g", [(TopicPartition::new("t", 0), 1)]).unwrap();
    broker.maintain().unwrap();
    broker.clock.advance(2 * DAY);
    broker.maintain().unwrap();
    assert!(broker.groups().unwrap().is_empty());
}

/// Only a broker that was told to, and only when enough is free.
#[test]
fn closing_gives_space_back_from_a_share_on() {
    let len_after = |share: Option<f64>, deletes: bool| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.brooklet");
        let broker = builder(Broker::builder()).vacuum_at_close(share).open(&path).unwrap();
        broker.create_topic(NewTopic::new("t", 1)).unwrap();
        append(&broker.producer(), 8 * MIB);
        // Behind the rest of the file, so that what gets free does not lie at its end.
        broker.maintain().unwrap();
        broker.create_topic(NewTopic::new("kept", 1)).unwrap();
        broker.producer().send(ProducerRecord::to("kept").value([b'.'; 100_000])).unwrap().wait().unwrap();
        broker.maintain().unwrap();
        if deletes {
            broker.delete_topic("t").unwrap();
        }
        broker.close().unwrap();
        let len = std::fs::metadata(&path).unwrap().len();
        assert!(Broker::open(&path).unwrap().check().unwrap().is_healthy());
        len
    };
    assert!(len_after(None, true) > 8 * MIB);
    assert!(len_after(Some(0.5), true) < 2 * MIB);
    assert!(len_after(Some(0.9), false) > 8 * MIB);
    for share in [-0.1, 1.1, f64::NAN] {
        let refused = Broker::builder().vacuum_at_close(share).in_memory();
        assert!(matches!(refused, Err(Error::InvalidConfig { .. })), "{share}");
    }
}

/// A file that is removed while it is open keeps its space, on Windows its name as well.
#[cfg(target_os = "linux")]
#[test]
fn closing_lets_go_of_the_files_whatever_handles_live() {
    let directory = tempfile::tempdir().unwrap();
    let open_files = || -> Vec<_> {
        let of_this_process = std::fs::read_dir("/proc/self/fd").unwrap();
        let targets = of_this_process.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
        targets.filter(|target| target.starts_with(directory.path())).collect()
    };
    let broker = builder(Broker::builder()).open(directory.path().join("app.brooklet")).unwrap();
    broker.create_topic(NewTopic::new("t", 1)).unwrap();
    let (producer, mut consumer) = (broker.producer(), broker.consumer().group("g").subscribe(["t"]).unwrap());
    append(&producer, MIB);
    assert!(!open_files().is_empty());
    broker.close().unwrap();
    assert_eq!(open_files(), Vec::<std::path::PathBuf>::new());
    assert!(matches!(producer.send(ProducerRecord::to("t")), Err(Error::Closed)));
    assert!(matches!(consumer.commit(), Err(Error::Closed)));
    assert!(matches!(broker.stats(), Err(Error::Closed)));
}

/// What was deleted is free at once: as much again fits into the same file.
#[test]
fn space_of_deleted_topics_and_records_is_used_again() {
    let broker = TestBroker::with(builder);
    for round in 0..12 {
        broker.create_topic(NewTopic::new("t", 1)).unwrap();
        append(&broker.producer(), 4 * MIB);
        broker.delete_records(&TopicPartition::new("t", 0), 2_048).unwrap();
        append(&broker.producer(), 2 * MIB);
        let bytes = file(&broker);
        broker.delete_topic("t").unwrap();
        // Never two rounds' worth, and at most doubled.
        assert!(bytes <= 2 * (4 * MIB + CONSTANT), "round {round}: {bytes} bytes");
    }
}

/// Producers, a consumer that reads everything it can get, and cleans, all at once: offsets only rise, and each record is what
/// was sent under its offset.
#[test]
fn readers_and_writers_go_on_while_a_log_is_cleaned() {
    let broker = TestBroker::with(|options| builder(options).clean_step(4).background(true));
    let config = TopicConfig::default().retention_bytes(Some(256 << 10)).segment_bytes(32 << 10);
    broker.create_topic(NewTopic::new("t", 1).config(config)).unwrap();
    let done = AtomicBool::new(false);
    let value = |offset: u64| format!("{offset} {}", ".".repeat(200));
    let read = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign([("t", 0)]).unwrap();
            let (mut next, mut count) = (0, 0_u64);
            while !done.load(Ordering::SeqCst) {
                for record in &consumer.poll(Duration::ZERO).unwrap() {
                    assert!(record.offset() >= next, "{} after {next}", record.offset());
                    assert_eq!(record.value(), Some(value(record.offset().get()).as_bytes()));
                    next = record.offset().get() + 1;
                    count += 1;
                }
            }
            count
        });
        let cleaner = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                broker.clean(Duration::from_millis(1)).unwrap();
            }
        });
        let producer = broker.producer();
        let partition = TopicPartition::new("t", 0);
        // At least so many, and on until so much of it is gone.
        for offset in 0.. {
            drop(producer.send(ProducerRecord::to("t").value(value(offset))).unwrap());
            if offset >= 20_000 && offset % 100 == 0 {
                let start = broker.offset_of(&partition, brooklet::OffsetSpec::Earliest).unwrap();
                if start.is_some_and(|start| start > 10_000) {
                    break;
                }
            }
        }
        producer.flush().unwrap();
        done.store(true, Ordering::SeqCst);
        cleaner.join().unwrap();
        reader.join().unwrap()
    });
    assert!(read > 0);
}

/// The background thread cleans as soon as the disk is full, and whoever sends goes on.
#[test]
fn a_disk_that_gets_full_is_cleaned_by_itself() {
    let room = 3 * MIB;
    let disk = SimDisk::new();
    let knobs = Knobs { buffer_memory: 64 << 10, checkpoint_bytes: 16 << 10, ..Knobs::TINY };
    let an_hour = Duration::from_secs(3_600);
    let options = knobs.builder(&disk).background(true).clean_interval(an_hour).checkpoint_interval(an_hour);
    let broker = options.open(crate::crash::PATH).unwrap();
    let config = TopicConfig::default().segment_bytes(32 << 10).retention_bytes(Some(room / 8));
    broker.create_topic(NewTopic::new("t", 1).config(config)).unwrap();
    disk.set_capacity(Some(disk.used() + room));
    let in_a_minute = || std::time::Instant::now() + Duration::from_secs(60);
    let mut deadline = in_a_minute();
    let mut sent = 0;
    while sent < 2 * room / 700 {
        match broker.producer().send(ProducerRecord::to("t").value([b'.'; 700])).and_then(brooklet::Delivery::wait) {
            Ok(_) => (sent, deadline) = (sent + 1, in_a_minute()),
            Err(Error::StorageFull { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
        assert!(std::time::Instant::now() < deadline, "it stays full after {sent} records");
    }
    assert!(broker.describe_topic("t").unwrap().partitions()[0].log_start > 0);
    assert_healthy(&broker, "after it was full");
}

/// Whatever room a vacuum finds, it gives space back or leaves everything as it is, and the broker goes on.
#[test]
fn a_vacuum_on_a_full_disk_stops_nothing() {
    for room in (0..24).step_by(2).map(|pages| pages << 12) {
        let disk = SimDisk::new();
        let broker = Knobs::TINY.open(&disk).unwrap();
        let config = TopicConfig::default().segment_bytes(32 << 10);
        broker.create_topic(NewTopic::new("t", 1).config(config)).unwrap();
        let producer = broker.producer();
        let send = || producer.send(ProducerRecord::to("t").value(vec![b'.'; 700]));
        for _ in 0..600 {
            drop(send().unwrap());
        }
        broker.maintain().unwrap();
        let partition = TopicPartition::new("t", 0);
        broker.delete_records(&partition, 500).unwrap();
        // The reserve is gone too, as after a deletion that needed all of it.
        disk.put("/d/app.brooklet-reserve", &[]);
        disk.set_capacity(Some(disk.used() + room));
        match broker.vacuum() {
            Ok(_) | Err(Error::StorageFull { .. }) => {}
            Err(error) => panic!("{room} bytes of room: {error}"),
        }
        assert_healthy(&broker, &format!("{room} bytes of room"));
        disk.set_capacity(None);
        assert_eq!(send().unwrap().wait().unwrap().offset(), 600);
        broker.close().unwrap();
        drop((broker, producer));
        let broker = Knobs::TINY.open(&disk).unwrap();
        assert_eq!(broker.offset_of(&partition, brooklet::OffsetSpec::Latest).unwrap().unwrap(), 601);
        assert_healthy(&broker, &format!("{room} bytes of room, reopened"));
    }
}

/// Retention makes room on a full disk, and nothing acknowledged is lost but what it deletes.
#[test]
fn a_full_disk_is_cleaned_and_takes_records_again() {
    for room in [1 << 20, 3 << 20, 5 << 20] {
        let disk = SimDisk::new();
        let knobs = Knobs { buffer_memory: 64 << 10, checkpoint_bytes: 16 << 10, ..Knobs::TINY };
        let broker = knobs.open(&disk).unwrap();
        let config = TopicConfig::default().segment_bytes(32 << 10).retention_bytes(Some(room / 8));
        broker.create_topic(NewTopic::new("t", 1).config(config)).unwrap();
        disk.set_capacity(Some(disk.used() + room));
        let producer = broker.producer();
        let value = |offset: u64| format!("{offset} {}", ".".repeat(700));
        let mut end = 0;
        let mut produce = || {
            loop {
                let record = ProducerRecord::to("t").value(value(end)).timestamp(1_000);
                match producer.send(record).and_then(brooklet::Delivery::wait) {
                    Ok(metadata) => assert_eq!(metadata.offset(), end),
                    Err(Error::StorageFull { .. }) => return end,
                    Err(error) => panic!("{room}: {error}"),
                }
                end += 1;
            }
        };
        let first = produce();
        assert!(broker.stats().unwrap().storage_full, "{room}");
        let cleaned = clean(&broker);
        let mut second = produce();
        eprintln!("{room} bytes of room: {first} records, {cleaned}, then {} more", second - first);
        let partition = TopicPartition::new("t", 0);
        assert!(cleaned.segments > 0 && second > first + 100, "{room}: {first}, {cleaned}, {second}");
        // Again and again: the room that deletes need is not used up.
        for round in 0..12 {
            let (cleaned, before) = (clean(&broker), second);
            second = produce();
            assert!(second > before, "{room}, round {round}: {cleaned}, then no more");
        }
        let killed = disk.after_kill();
        killed.set_capacity(None);
        for broker in [broker, knobs.open(&killed).unwrap()] {
            let start = broker.offset_of(&partition, brooklet::OffsetSpec::Earliest).unwrap().unwrap().get();
            let mut consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign([("t", 0)]).unwrap();
            let mut next = start;
            loop {
                let records = consumer.poll(Duration::ZERO).unwrap();
                if records.is_empty() {
                    break;
                }
                for record in &records {
                    assert_eq!(record.value(), Some(value(next).as_bytes()), "{room}: offset {next}");
                    next += 1;
                }
            }
            assert_eq!(next, second, "{room}: what was acknowledged is there");
            assert_healthy(&broker, &format!("{room} bytes of room"));
        }
    }
}
