//! A store and its journal with changed bytes.
//!
//! Strategy: a small store with two topics, some records in chunks and some only in the journal, as a kill leaves it, is made
//! once. Each input changes bytes of both files where they are not zero, then everything is done with them that an
//! application may do. Whatever was changed: a record that is read is the one that was written at its offset, and when
//! `check` finds nothing wrong everything can be read. The rest may be errors, but no panic and no endless loop.
//!
//! The files have random identities, other ones in each process. They lie at the same places, so an input does the same again
//! unless it changes just these.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use brooklet::disk::{Disk, DiskFile, OpenMode};
use brooklet::{Broker, Builder, ManualClock, OffsetReset, OffsetSpec, TopicPartition};

use super::bytes::Bytes;
use super::model::{Choices, Model, Record, Send, Step};
use super::sim_disk::SimDisk;

const STORE: &str = "/d/app.brooklet";
const JOURNAL: &str = "/d/app.brooklet-journal";

const PAGE: u64 = 4_096;
const SECTOR: u64 = 512;
const SECTOR_LEN: usize = 512;
const MAX_CHANGES: usize = 48;

/// What every input begins with.
struct Template {
    disk: SimDisk,
    written: Model,
    /// The sectors of both files that are not all zeros.
    sectors: Vec<(&'static str, u64)>,
}

pub fn run(input: &[u8]) {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    let template = TEMPLATE.get_or_init(Template::new);
    let disk = template.disk.after_kill();
    let mut input = Bytes::new(input);
    for _ in 0..MAX_CHANGES {
        if input.is_empty() {
            break;
        }
        template.change(&disk, &mut input);
    }
    let Ok(broker) = builder(&disk).open(STORE) else { return };
    for partition in partitions(&broker) {
        read_rightly(&broker, &partition, &template.written);
    }
    use_everything(&broker);
    let closed = broker.close();
    drop(broker);
    let reopened = closed.and_then(|()| builder(&disk).open_existing().open(STORE));
    if let Ok(broker) = reopened {
        use_everything(&broker);
    }
}

/// A damaged file may make redb panic; brooklet catches that. A fuzz target aborts at any panic, so these are kept from
/// its hook, and all others are not.
#[cfg(fuzzing)]
pub fn let_redb_panic() {
    let abort = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !is_redbs(panic) {
            abort(panic);
        }
    }));
}

/// Whether redb panicked, or the standard library on its behalf.
#[cfg(fuzzing)]
fn is_redbs(panic: &std::panic::PanicHookInfo<'_>) -> bool {
    let file = panic.location().map_or("", std::panic::Location::file);
    if !file.contains("/library/") {
        return file.contains("/redb-");
    }
    let frames = std::backtrace::Backtrace::force_capture().to_string();
    let caller = frames.lines().find(|line| line.contains("redb::") || line.contains(" brooklet::"));
    caller.is_some_and(|line| line.contains("redb::") && !line.contains(" brooklet::"))
}

fn builder(disk: &SimDisk) -> Builder {
    Broker::builder()
        .disk(Arc::new(disk.clone()))
        .background(false)
        .clock(ManualClock::new(1_000_000))
        .buffer_memory(4 << 10)
        .checkpoint_bytes(1 << 10)
        .cache_size(64 << 10)
}

/// A record that tells where it is.
fn send(name: &'static str, partition: u32, number: u32, size: usize) -> Send {
    let mut value = format!("{name}-{partition} {number} ").into_bytes();
    value.resize(value.len().max(size), b'.');
    let mut record = Record::of_value(1_000 + i64::from(number), value);
    record.key = number.is_multiple_of(2).then(|| b"key".to_vec());
    if number.is_multiple_of(3) {
        record.headers = vec![("name".to_owned(), Some(b"value".to_vec())), (String::new(), None)];
    }
    Send { name, partition, record }
}

impl Template {
    fn new() -> Self {
        let disk = SimDisk::new();
        let broker = builder(&disk).open(STORE).unwrap();
        let mut written = Model::default();
        for step in Self::steps() {
            let id = step.run(&broker).unwrap();
            written.apply(&step, id);
        }
        let disk = disk.after_kill();
        drop(broker);
        let sectors = [STORE, JOURNAL].into_iter().flat_map(|path| sectors_in_use(&disk, path)).collect();
        Self { disk, written, sectors }
    }

    fn steps() -> Vec<Step> {
        let mut steps = vec![
            Step::CreateTopic { name: "a", partitions: 2 },
            Step::CreateTopic { name: "b.c", partitions: 1 },
            Step::Alter { name: "b.c", max_message_bytes: 5_000 },
        ];
        for number in 0..24 {
            steps.push(Step::Send(vec![send("a", number % 2, number, 400), send("b.c", 0, number, 30)]));
            if number % 4 == 3 {
                steps.push(Step::Maintain);
            }
        }
        steps.push(Step::DeleteRecords { name: "a", partition: 1, before: Some(3) });
        steps.extend((24..27).map(|number| Step::SendAll(vec![send("a", 0, number, 50), send("b.c", 0, number, 10)])));
        steps
    }

    fn change(&self, disk: &SimDisk, input: &mut Bytes<'_>) {
        let Some(&(path, sector)) = input.pick(&self.sectors) else { return };
        let Ok(file) = disk.open(Path::new(path), OpenMode::Existing) else { return };
        let at = sector + input.below(SECTOR);
        match input.below(8) {
            0 | 1 => write(&*file, at, &[input.byte()]),
            2 => write(&*file, at, &[0x80 >> (input.byte() % 8) ^ read(&*file, at, 1).first().unwrap_or(&0)]),
            3 => write(&*file, at / 8 * 8, &input.number().to_le_bytes()),
            4 => write(&*file, sector, &[0; SECTOR_LEN]),
            5 => self.copy(disk, &*file, sector, SECTOR, input),
            6 => self.copy(disk, &*file, sector / PAGE * PAGE, PAGE, input),
            _ => self.change_file(disk, path, &*file, at, input),
        }
    }

    /// Puts another piece of the files here: perhaps one that was whole at another place or time.
    fn copy(&self, disk: &SimDisk, to: &dyn DiskFile, at: u64, len: u64, input: &mut Bytes<'_>) {
        let Some(&(path, sector)) = input.pick(&self.sectors) else { return };
        let Ok(from) = disk.open(Path::new(path), OpenMode::Existing) else { return };
        write(to, at, &read(&*from, sector / len * len, len));
    }

    fn change_file(&self, disk: &SimDisk, path: &str, file: &dyn DiskFile, at: u64, input: &mut Bytes<'_>) {
        let done = match input.below(3) {
            0 => file.set_len(at),
            1 => file.set_len(file.len().unwrap_or(0) + u64::from(input.byte()) * PAGE),
            _ => disk.remove(Path::new(path)),
        };
        done.unwrap();
    }
}

fn sectors_in_use(disk: &SimDisk, path: &'static str) -> Vec<(&'static str, u64)> {
    let bytes = disk.bytes(path).unwrap();
    let sectors = (0..).step_by(SECTOR_LEN).zip(bytes.chunks(SECTOR_LEN));
    let used = sectors.filter(|(_, sector)| sector.iter().any(|byte| *byte != 0));
    used.map(|(at, _)| (path, at)).collect()
}

fn read(file: &dyn DiskFile, at: u64, len: u64) -> Vec<u8> {
    let len = len.min(file.len().unwrap_or(0).saturating_sub(at));
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    if !bytes.is_empty() {
        file.read_at(at, &mut bytes).unwrap();
    }
    bytes
}

/// Within the file: only a change of its length changes that.
fn write(file: &dyn DiskFile, at: u64, bytes: &[u8]) {
    if at + bytes.len() as u64 <= file.len().unwrap_or(0) {
        file.write_at(at, bytes).unwrap();
    }
}

/// Calls everything that reads, then something that writes.
fn use_everything(broker: &Broker) {
    for partition in partitions(broker) {
        for spec in [OffsetSpec::Earliest, OffsetSpec::Latest, OffsetSpec::MaxTimestamp, OffsetSpec::Timestamp(1_010)] {
            let _ = broker.offset_of(&partition, spec);
        }
    }
    let _ = broker.stats();
    if broker.check().is_ok_and(|report| report.is_healthy()) {
        Model::observe(broker).unwrap();
    }
    for step in [
        Step::Send(vec![send("a", 0, 100, 10)]),
        Step::DeleteRecords { name: "a", partition: 0, before: Some(2) },
        Step::DeleteTopic { name: "b.c" },
        Step::CreateTopic { name: "later", partitions: 1 },
        Step::Send(vec![send("later", 0, 0, 2_000)]),
        Step::Maintain,
    ] {
        let _ = step.run(broker);
    }
}

fn partitions(broker: &Broker) -> Vec<TopicPartition> {
    let topics = broker.topics().unwrap_or_default();
    let descriptions = topics.iter().filter_map(|name| broker.describe_topic(name.as_str()).ok());
    let of = |topic: brooklet::TopicDescription| {
        let partitions = topic.partitions().iter().map(|bounds| bounds.partition);
        partitions.map(|partition| TopicPartition::new(topic.name().as_str(), partition)).collect::<Vec<_>>()
    };
    descriptions.flat_map(of).collect()
}

/// Reads a partition to its end or its first error.
fn read_rightly(broker: &Broker, partition: &TopicPartition, written: &Model) {
    let consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign([partition.clone()]);
    let Ok(mut consumer) = consumer else { return };
    let Some(log) = written.log(partition.topic(), partition.partition()) else { return };
    let mut next = 0;
    while let Ok(records) = consumer.poll(Duration::ZERO) {
        if records.is_empty() {
            return;
        }
        for record in &records {
            let offset = record.offset().get();
            assert!(offset >= next, "{partition}: {offset} comes after {next}");
            next = offset + 1;
            // Below its log start the twin has forgotten them.
            if let Some(expected) = log.get(offset) {
                assert_eq!(&Record::of(&record), expected, "{partition} at {offset}");
            }
        }
    }
}
