//! Damaged files. Goal: whatever happened to the bytes, opening and reading give the records that were written or an error
//! that says what is wrong; never another record, never a panic, never much memory.
//!
//! A store that was closed, and the two files of a process that was killed, are damaged in one place each: a flipped bit, a
//! page that is zero, another page's or anything, an end too early or too late. What redb's tree finds its way by is
//! damaged as well as what the records are in.
//!
//! The end of a journal is special: a last frame that is damaged can't be told from one that a power loss tore, so it may be
//! missing silently. One that a later frame knows as durable may not.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use brooklet::disk::{Disk, OpenMode};
use brooklet::{
    Broker, CleanupPolicy, Error, NewTopic, Offset, OffsetReset, OffsetSpec, ProducerRecord, TopicConfig,
    TopicPartition,
};

use crate::crash::{Knobs, PATH, create, from_env, scale, send_one, sends};
use crate::model::{Choices, Model, Step};
use crate::sim_disk::{Random, SimDisk};

const JOURNAL_PATH: &str = "/d/app.brooklet-journal";
const PAGE: usize = 4096;

/// Where frames begin in the journal.
const RING_START: usize = 4096;
const FRAME_HEADER: usize = 40;
const HEADER_CRC: Range<usize> = 4092..4096;

/// The bytes of both files, and the states that may be found in them.
struct Files {
    store: Vec<u8>,
    journal: Option<Vec<u8>>,
    /// The last one has everything.
    states: Vec<Model>,
}

impl Files {
    /// A store that was closed.
    fn closed() -> Self {
        let (disk, state) = written(true);
        Files { store: disk.bytes(PATH).unwrap(), journal: None, states: vec![state] }
    }

    /// What a process left that was killed with frames in its journal.
    fn killed() -> Self {
        let (disk, _) = written(false);
        // Room for everything, so that nothing is checkpointed and each step is one frame.
        let broker = Knobs { buffer_memory: 64 << 10, checkpoint_bytes: 32 << 10, ..Knobs::TINY }.open(&disk).unwrap();
        let mut states = vec![Model::observe(&broker).unwrap()];
        for number in 0..8 {
            let step = Step::Send(sends(900 + number * 10, 3, "a", 2, 60 + 10 * number));
            step.run(&broker).unwrap();
            states.push(states[number].clone());
            states[number + 1].apply(&step, None);
        }
        Files { store: disk.bytes(PATH).unwrap(), journal: disk.bytes(JOURNAL_PATH), states }
    }

    fn disk(&self) -> SimDisk {
        let disk = SimDisk::new();
        disk.put(PATH, &self.store);
        if let Some(journal) = &self.journal {
            disk.put(JOURNAL_PATH, journal);
        }
        disk
    }

    fn truth(&self) -> &Model {
        self.states.last().unwrap()
    }

    /// The journal's frames from the first on: where each lies in the file.
    fn frames(&self) -> Vec<Range<usize>> {
        let journal = self.journal.as_ref().unwrap();
        let mut frames = Vec::new();
        let mut at = RING_START;
        while let Some(length) = u32_at(journal, at + 4).filter(|&length| length > 0) {
            let end = at + (FRAME_HEADER + length as usize).next_multiple_of(8);
            frames.push(at..end);
            at = end;
        }
        frames
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A store of some history: chunks of several checkpoints, deleted records, a deleted topic.
fn written(close: bool) -> (SimDisk, Model) {
    let disk = SimDisk::new();
    let broker = Knobs { checkpoint_bytes: 3 << 10, ..Knobs::TINY }.open(&disk).unwrap();
    let mut state = Model::default();
    let mut steps = vec![create("a", 2), create("b", 1), Step::Send(sends(0, 10, "b", 1, 100))];
    for round in 0..8 {
        steps.push(Step::Send(sends(20 + round * 20, 20, "a", 2, 150)));
        steps.push(Step::Maintain);
    }
    steps.push(Step::DeleteRecords { name: "a", partition: 0, before: Some(7) });
    steps.push(Step::DeleteTopic { name: "b" });
    steps.push(create("b", 1));
    steps.push(send_one(300));
    for step in steps {
        let id = step.run(&broker).unwrap();
        state.apply(&step, id);
    }
    if close {
        compact(&broker, &mut state);
        broker.close().unwrap();
    }
    drop(broker);
    (disk, state)
}

/// Adds a topic that is compacted. Each key comes once, so that everything stays.
fn compact(broker: &Broker, state: &mut Model) {
    let id = create("c", 1).run(broker).unwrap();
    state.apply(&create("c", 1), id);
    let config = |config: TopicConfig| Ok(config.cleanup_policy(CleanupPolicy::Compact).segment_bytes(600));
    broker.alter_topic("c", config).unwrap();
    let mut records = sends(0, 40, "c", 1, 50);
    for (number, send) in records.iter_mut().enumerate() {
        send.record.key = Some(format!("key {number}").into_bytes());
    }
    let send = Step::Send(records);
    send.run(broker).unwrap();
    state.apply(&send, None);
    let report = broker.clean(Duration::MAX).unwrap();
    assert_eq!((report.compacted, report.records), (1, 0), "{report}");
}

/// Changes the bytes in one place; says how and where.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let len = bytes.len();
    let mut below = |limit: usize| usize::try_from(Choices::below(random, limit as u64)).unwrap();
    let pages = (len / PAGE).max(1);
    let page = |number: usize| number * PAGE..((number + 1) * PAGE).min(len);
    // The front pages, where the tree's roots and most rows are, as often as all others.
    let (kind, wide, near) = (below(8), below(pages), below(pages.min(8)));
    let number = if below(2) == 0 { wide } else { near };
    match kind {
        0..3 => {
            let (at, bit) = ((number * PAGE + below(PAGE)).min(len - 1), below(8));
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        3 => {
            bytes[page(number)].fill(0);
            format!("page {number} zeroed")
        }
        4 => {
            let other = below(pages);
            let (a, b) = (bytes[page(number)].to_vec(), bytes[page(other)].to_vec());
            bytes[page(number)].copy_from_slice(&b[..page(number).len()]);
            bytes[page(other)].copy_from_slice(&a[..page(other).len()]);
            format!("pages {number} and {other} swapped")
        }
        5 => {
            let from = bytes[page(below(pages))].to_vec();
            bytes[page(number)].copy_from_slice(&from[..page(number).len()]);
            format!("page {number} is another's")
        }
        6 => {
            let start = page(number).start + below(PAGE - 64);
            let end = (start + 64).min(len);
            bytes[start..end].iter_mut().for_each(|byte| *byte = u8::try_from(below(256)).unwrap_or(0));
            format!("bytes {start}..{end} are anything")
        }
        _ if below(2) == 0 => {
            let to = below(len);
            bytes.truncate(to);
            format!("cut to {to} of {len} bytes")
        }
        _ => {
            let fill = u8::try_from(below(256)).unwrap_or(0);
            bytes.resize(len + 1 + below(3 * PAGE), fill);
            format!("{} bytes longer", bytes.len() - len)
        }
    }
}

/// What came of opening damaged files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Everything,
    /// All but the end of the journal.
    LessOfTheJournal,
    ErrorAtOpening,
    ErrorAtReading,
}

/// Opens files and reads everything. Panics unless they say what was written, or what is wrong.
fn open_and_read(files: &Files, label: &str) -> Found {
    let run = || {
        let disk = files.disk();
        let broker = match Knobs::TINY.open(&disk) {
            Ok(broker) => broker,
            Err(error) => {
                assert_says_what_is_wrong(&error);
                return Found::ErrorAtOpening;
            }
        };
        let seen = Model::observe(&broker);
        let report = broker.check();
        let found = match seen {
            Err(error) => {
                assert_says_what_is_wrong(&error);
                Found::ErrorAtReading
            }
            Ok(seen) if *files.truth() == seen => Found::Everything,
            Ok(seen) if files.states.contains(&seen) => Found::LessOfTheJournal,
            Ok(seen) => panic!("these are not the records that were written: {seen:?}"),
        };
        if found == Found::ErrorAtReading {
            assert!(
                !report.is_ok_and(|report| report.is_healthy()),
                "a record can't be read, but the check is content"
            );
        }
        // Going on may fail, but it may not panic.
        let _ = broker.create_topic(NewTopic::new("later", 1));
        let _ = Step::Send(sends(0, 2, "later", 1, 10)).run(&broker);
        let _ = broker.maintain();
        let _ = broker.close();
        found
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
        panic!("{label}: {words}")
    })
}

fn assert_says_what_is_wrong(error: &Error) {
    let good = match error {
        Error::Corrupt { place, reason } => !place.is_empty() && !reason.is_empty(),
        Error::NotABrooklet { .. } | Error::UnsupportedVersion { .. } | Error::JournalMismatch { .. } => true,
        Error::ReopenRequired { source } => return assert_says_what_is_wrong(source),
        // A file that ends too early.
        Error::Io { .. } => true,
        _ => false,
    };
    assert!(good, "an unexpected error: {error:?}");
}

/// The seeds to run: one, or as many as asked for.
fn seeds(count: u64) -> Range<u64> {
    let only = from_env("BROOKLET_TEST_SEED", 0);
    let divisor = if std::env::var_os(LITTLE_MEMORY).is_some() { 8 } else { 1 };
    if only > 0 { only..only + 1 } else { 1..1 + count * scale() as u64 / divisor }
}

fn tell(tally: &BTreeMap<Found, usize>) {
    eprintln!("{tally:?}");
}

#[test]
fn a_damaged_store() {
    let whole = Files::closed();
    assert_eq!(open_and_read(&whole, "undamaged"), Found::Everything);
    let mut tally = BTreeMap::new();
    for seed in seeds(2_500) {
        let mut files = Files { store: whole.store.clone(), journal: None, states: whole.states.clone() };
        let words = damage(&mut files.store, &mut Random::new(seed));
        *tally.entry(open_and_read(&files, &format!("seed={seed} store: {words}"))).or_insert(0) += 1;
    }
    tell(&tally);
}

/// The checksums of the store's pages are there twice.
#[test]
fn a_damaged_page_of_checksums_harms_nothing() {
    let whole = Files::closed();
    let is_of_checksums = |at: &usize| whole.store[*at..].starts_with(b"brookcrc");
    let places: Vec<_> = (0..whole.store.len()).step_by(PAGE).filter(is_of_checksums).collect();
    assert_eq!(places, [3 * PAGE, 4 * PAGE]);
    let mut random = Random::new(1);
    for at in places {
        let damaged = |words: &str, change: &mut dyn FnMut(&mut [u8])| {
            let mut files = Files { store: whole.store.clone(), journal: None, states: whole.states.clone() };
            change(&mut files.store[at..at + PAGE]);
            assert_eq!(open_and_read(&files, words), Found::Everything, "{words} at byte {at}");
        };
        damaged("zeros", &mut |page| page.fill(0));
        damaged("a page of records", &mut |page| page.copy_from_slice(&whole.store[5 * PAGE..6 * PAGE]));
        for bit in (0..8 * PAGE).step_by(997) {
            damaged("a flipped bit", &mut |page| page[bit / 8] ^= 1 << (bit % 8));
        }
        for sector in (0..PAGE).step_by(512) {
            damaged("noise in a sector", &mut |page| {
                page[sector..sector + 512].fill_with(|| random.next().to_le_bytes()[0]);
            });
        }
    }
}

#[test]
fn damaged_files_of_a_killed_process() {
    let whole = Files::killed();
    assert_eq!(open_and_read(&whole, "undamaged"), Found::Everything);
    let mut tally = BTreeMap::new();
    for seed in seeds(2_500) {
        let mut files =
            Files { store: whole.store.clone(), journal: whole.journal.clone(), states: whole.states.clone() };
        let mut random = Random::new(seed);
        let words = if seed % 3 == 0 {
            files.states = vec![whole.truth().clone()];
            format!("store: {}", damage(&mut files.store, &mut random))
        } else {
            let end = whole.frames().last().map_or(RING_START, |frame| frame.end);
            let mut front = files.journal.clone().unwrap();
            let rest = front.split_off(end.next_multiple_of(PAGE).min(front.len()));
            let words = damage(&mut front, &mut random);
            front.extend(rest);
            files.journal = Some(front);
            format!("journal: {words}")
        };
        *tally.entry(open_and_read(&files, &format!("seed={seed} {words}"))).or_insert(0) += 1;
    }
    tell(&tally);
}

/// Every bit of every frame but the last: found, because a later frame knows that it was durable. A bit of the last frame
/// may look like a torn write.
#[test]
fn a_flipped_bit_in_a_frame_is_found() {
    let whole = Files::killed();
    let frames = whole.frames();
    assert_eq!(frames.len(), 8);
    let (last, before) = frames.split_last().unwrap();
    let stride = if scale() > 1 { 1 } else { 7 };
    for at in (before[0].start..last.end).step_by(stride) {
        let mut files =
            Files { store: whole.store.clone(), journal: whole.journal.clone(), states: whole.states.clone() };
        files.journal.as_mut().unwrap()[at] ^= 1 << (at % 8);
        let label = format!("byte {at} of the journal");
        let found = open_and_read(&files, &label);
        if last.contains(&at) {
            assert_ne!(found, Found::ErrorAtReading, "{label}");
        } else {
            assert_eq!(found, Found::ErrorAtOpening, "{label}");
        }
    }
}

/// Gives a frame its checksum, and all later ones their place in the chain: damage that only decoding can find.
fn seal_again(journal: &mut [u8], frames: &[Range<usize>]) {
    let mut chain = None;
    for frame in frames {
        if let Some(chain) = chain {
            journal[frame.start + 8..frame.start + 12].copy_from_slice(&u32::to_le_bytes(chain));
        }
        let crc = crc_fast::crc32_iscsi(&journal[frame.start + 4..frame.end]);
        journal[frame.start..frame.start + 4].copy_from_slice(&crc.to_le_bytes());
        chain = Some(crc);
    }
}

/// Lengths, counts and offsets that lie, under checksums that are right. Forged records can't be told from true ones, but
/// nothing may panic, and no length may be believed before the bytes are there.
#[test]
fn lies_under_valid_checksums_do_no_harm() {
    let whole = Files::killed();
    let frames = whole.frames();
    let values = [0, 1, 0x7f, 0x80, 0xff];
    let mut opened = 0;
    for (number, frame) in frames.iter().enumerate().step_by(3) {
        // The length, the durable sequence, and the front of the payload, where batch headers and lengths are.
        let fields = (frame.start + 4..frame.start + 8).chain(frame.start + 32..(frame.start + 130).min(frame.end));
        for at in fields {
            for value in values {
                let mut journal = whole.journal.clone().unwrap();
                journal[at] = value;
                if at + 1 < frame.end && value == 0xff {
                    journal[at + 1] = value;
                }
                seal_again(&mut journal, &frames[number..]);
                let disk = SimDisk::new();
                disk.put(PATH, &whole.store);
                disk.put(JOURNAL_PATH, &journal);
                let tried = catch_unwind(AssertUnwindSafe(|| {
                    let broker = Knobs::TINY.open(&disk)?;
                    broker.check()?;
                    let topics = broker.topics()?.len();
                    broker.close()?;
                    Ok::<_, Error>(topics)
                }));
                match tried {
                    Ok(Ok(_)) => opened += 1,
                    Ok(Err(error)) => assert_says_what_is_wrong(&error),
                    Err(_) => panic!("byte {at} of the journal set to {value}: it panicked"),
                }
            }
        }
    }
    assert!(opened > 0, "no forgery got through: the checksums were not made right");
}

/// Changes fields of the journal's header and makes its checksum right again.
fn with_header(whole: &Files, change: impl FnOnce(&mut [u8])) -> Files {
    let mut journal = whole.journal.clone().unwrap();
    change(&mut journal[..RING_START]);
    let crc = crc_fast::crc32_iscsi(&journal[..HEADER_CRC.start]);
    journal[HEADER_CRC].copy_from_slice(&crc.to_le_bytes());
    Files { store: whole.store.clone(), journal: Some(journal), states: whole.states.clone() }
}

fn error_at_opening(files: &Files) -> Error {
    Knobs::TINY.open(&files.disk()).map(drop).unwrap_err()
}

/// Recovery stores a mebibyte of a partition at a time, and all of it is one update.
#[test]
fn what_was_replayed_goes_back_when_a_frame_behind_it_is_damaged() {
    let (disk, _) = written(false);
    let broker = Knobs { buffer_memory: 8 << 20, checkpoint_bytes: 8 << 20, ..Knobs::TINY }.open(&disk).unwrap();
    let mut state = Model::observe(&broker).unwrap();
    for number in 0..12 {
        let step = Step::Send(sends(900 + number * 20, 20, "a", 2, 20_000));
        step.run(&broker).unwrap();
        state.apply(&step, None);
    }
    let whole = Files { store: disk.bytes(PATH).unwrap(), journal: disk.bytes(JOURNAL_PATH), states: vec![state] };
    let frames = whole.frames();
    assert!(frames.last().unwrap().end > 4 << 20, "{} frames", frames.len());
    let disk = whole.disk();
    let mut journal = whole.journal.clone().unwrap();
    journal[frames[frames.len() - 2].start + 100] ^= 1;
    disk.put(JOURNAL_PATH, &journal);
    let error = Knobs::TINY.open(&disk).map(drop).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { place, .. } if place.contains(JOURNAL_PATH)), "{error:?}");
    disk.put(JOURNAL_PATH, whole.journal.as_ref().unwrap());
    let broker = Knobs::TINY.open(&disk).unwrap();
    assert_eq!(&Model::observe(&broker).unwrap(), whole.truth());
}

#[test]
fn a_journal_of_a_newer_format_is_refused() {
    let files = with_header(&Files::killed(), |header| header[8] = 2);
    let error = error_at_opening(&files);
    assert!(matches!(error, Error::UnsupportedVersion { what: "journal", found: 2, supported: 1 }), "{error:?}");
}

#[test]
fn a_journal_that_claims_to_be_huge_takes_no_memory() {
    let whole = Files::killed();
    for capacity in [0, 1, 4_095, 1 << 30, 1 << 31, u64::MAX - 4_095, u64::MAX] {
        let files = with_header(&whole, |header| header[32..40].copy_from_slice(&capacity.to_le_bytes()));
        match Knobs::TINY.open(&files.disk()) {
            Ok(broker) => {
                let seen = Model::observe(&broker).unwrap();
                assert!(files.states.contains(&seen), "capacity {capacity}: {seen:?}");
            }
            Err(error) => assert_says_what_is_wrong(&error),
        }
    }
}

#[test]
fn a_store_without_its_journal_is_refused_until_it_is_put_back() {
    let whole = Files::killed();
    let alone = Files { store: whole.store.clone(), journal: None, states: whole.states.clone() };
    let disk = alone.disk();
    let error = Knobs::TINY.open(&disk).map(drop).unwrap_err();
    assert!(matches!(&error, Error::JournalMismatch { path, .. } if path.to_str() == Some(JOURNAL_PATH)), "{error:?}");
    disk.put(JOURNAL_PATH, whole.journal.as_ref().unwrap());
    let broker = Knobs::TINY.open(&disk).unwrap();
    assert_eq!(&Model::observe(&broker).unwrap(), whole.truth());
}

#[test]
fn a_store_with_anothers_journal_is_refused() {
    let (one, two) = (Files::killed(), Files::killed());
    let mixed = Files { store: one.store.clone(), journal: two.journal.clone(), states: one.states.clone() };
    let error = error_at_opening(&mixed);
    assert!(matches!(error, Error::JournalMismatch { .. }), "{error:?}");
}

#[test]
fn a_journal_without_its_store_is_not_taken_for_a_new_file() {
    let whole = Files::killed();
    let disk = SimDisk::new();
    disk.put(JOURNAL_PATH, whole.journal.as_ref().unwrap());
    let error = Knobs::TINY.open(&disk).map(drop).unwrap_err();
    assert!(matches!(error, Error::StoreMissing { .. }), "{error:?}");
    assert_eq!(disk.bytes(JOURNAL_PATH), whole.journal, "it was changed");
    disk.put(PATH, &whole.store);
    let broker = Knobs::TINY.open(&disk).unwrap();
    assert_eq!(&Model::observe(&broker).unwrap(), whole.truth());
}

/// A journal that lay around since the store was last opened well is no danger.
#[test]
fn an_old_journal_beside_a_closed_store_is_ignored() {
    let old = Files::killed();
    let disk = old.disk();
    let broker = Knobs::TINY.open(&disk).unwrap();
    let mut state = Model::observe(&broker).unwrap();
    let step = send_one(1_000);
    step.run(&broker).unwrap();
    state.apply(&step, None);
    broker.close().unwrap();
    drop(broker);
    disk.put(JOURNAL_PATH, old.journal.as_ref().unwrap());
    let broker = Knobs::TINY.open(&disk).unwrap();
    assert_eq!(Model::observe(&broker).unwrap(), state);
}

/// Set in the child of the test below.
const LITTLE_MEMORY: &str = "BROOKLET_TEST_LITTLE_MEMORY";

/// The tests above once more, fewer seeds, in a process that can't have much memory: an allocation of any size that a file
/// claims ends it.
#[cfg(target_os = "linux")]
#[test]
fn damaged_files_take_little_memory() {
    if std::env::var_os(LITTLE_MEMORY).is_some() {
        return;
    }
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 524288 && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["damage::", "--test-threads=1"])
        .env(LITTLE_MEMORY, "1")
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}\n{errors}", output.status);
    assert!(said.contains("a_damaged_store"), "{said}");
}

/// Such a page fails redb's handle for everybody, at any time. Without debug assertions only: with them, redb reads all pages
/// of a file that it opens.
#[test]
#[cfg_attr(debug_assertions, ignore = "needs --release")]
fn a_consumer_that_meets_a_damaged_page_again_and_again_does_not_keep_producers_from_going_on() {
    let disk = SimDisk::new();
    let broker = Knobs { buffer_memory: 4 << 20, checkpoint_bytes: 1 << 19, ..Knobs::TINY }.open(&disk).unwrap();
    create("a", 2).run(&broker).unwrap();
    create("b", 1).run(&broker).unwrap();
    // So many chunks that their index is a tree.
    Step::Send(sends(0, 140, "a", 2, 20_000)).run(&broker).unwrap();
    broker.close().unwrap();
    drop(broker);
    let sound = disk.bytes(PATH).unwrap();
    let partition = TopicPartition::new("a", 0);
    let read_all = |broker: &Broker| {
        let mut consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign([partition.clone()])?;
        while !consumer.poll(Duration::ZERO)?.is_empty() {}
        Ok(())
    };
    // Of all pages, one that is read only when records are.
    let broker = (0..sound.len()).step_by(PAGE).filter_map(|page| {
        let mut bytes = sound.clone();
        bytes[page + 20] ^= 1;
        disk.put(PATH, &bytes);
        let broker = Knobs::TINY.open(&disk).ok()?;
        let error: Error = read_all(&broker).err()?;
        error.to_string().contains(&format!("the page at byte {page} ")).then_some(broker)
    });
    let broker = { broker }.next().expect("a page that is read for records");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                let error = read_all(&broker).unwrap_err();
                assert_says_what_is_wrong(&error);
            }
        });
        let gone_on = (0..100).try_for_each(|number| {
            Step::Send(sends(900 + number, 1, "b", 1, 50)).run(&broker)?;
            broker.maintain()
        });
        stop.store(true, Ordering::Release);
        gone_on.unwrap();
    });
}

/// Writes `to` wherever the file has `from`, also while it is open.
fn replace(disk: &SimDisk, from: &[u8], to: &[u8]) {
    let bytes = disk.bytes(PATH).unwrap();
    let file = disk.open(Path::new(PATH), OpenMode::Existing).unwrap();
    for at in (0..bytes.len()).filter(|&at| bytes[at..].starts_with(from)) {
        file.write_at(at as u64, to).unwrap();
    }
}

/// The first and the last offset of a run.
type Offsets = (u64, u64);

/// A consumer of 60 records in chunks of ten and sections of two, of which two are damaged, goes on behind them. `ranges` are the
/// offsets that can't be read then. Gives the first error.
fn go_on_behind_damage(damaged: [u64; 2], ranges: &[Offsets]) -> Error {
    let disk = SimDisk::new();
    let broker = Knobs { buffer_memory: 1 << 20, checkpoint_bytes: 1 << 19, ..Knobs::TINY }.open(&disk).unwrap();
    create("a", 2).run(&broker).unwrap();
    Step::Send(sends(0, 120, "a", 2, 3_000)).run(&broker).unwrap();
    broker.close().unwrap();
    drop(broker);
    for offset in damaged {
        let number = 2 * offset;
        replace(&disk, format!("a {number} ").as_bytes(), format!("x {number} ").as_bytes());
    }

    let broker = Knobs::TINY.open(&disk).unwrap();
    // Everything but the chunks that these are in was counted.
    let report = broker.check().unwrap();
    let chunks = if damaged[0] / 10 == damaged[1] / 10 { 1 } else { 2 };
    assert_eq!((report.chunks, report.records), (12 - chunks, 120 - 10 * chunks), "{report}");
    let said = |words: &str| report.problems().iter().any(|problem| problem.contains(words));
    for (first, last) in ranges {
        assert!(said(&format!("offsets {first} to {last} can't")), "{report}");
    }
    assert!(report.problems().len() <= 3, "nothing that only follows from the damage: {report}");

    let partitions = [0, 1].map(|partition| TopicPartition::new("a", partition));
    let mut consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign(partitions.clone()).unwrap();
    let (mut read, mut lost, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match consumer.poll(Duration::ZERO) {
            Ok(records) if records.is_empty() => break,
            Ok(records) => {
                let of_first = records.iter().filter(|record| *record.topic_partition() == partitions[0]);
                read.extend(of_first.map(|record| record.offset().get()));
            }
            Err(error) => {
                assert_says_what_is_wrong(&error);
                errors.push(error);
                let skipped = consumer.skip_damaged().unwrap();
                assert_eq!(skipped.len(), 1);
                assert_eq!(skipped[0].0, partitions[0]);
                assert_eq!(consumer.position(&partitions[0]).unwrap(), skipped[0].1.end);
                lost.extend(skipped[0].1.start.get()..skipped[0].1.end.get());
                assert!(consumer.skip_damaged().unwrap().is_empty());
            }
        }
    }
    assert_eq!(lost, ranges.iter().flat_map(|&(first, last)| first..=last).collect::<Vec<_>>(), "{damaged:?}");
    read.extend(lost);
    read.sort_unstable();
    assert_eq!(read, (0..60).collect::<Vec<_>>());
    errors.swap_remove(0)
}

#[test]
fn a_consumer_loses_no_more_than_damaged_sections() {
    let cases: [([u64; 2], &[Offsets]); 6] = [
        ([5, 15], &[(4, 5), (14, 15)]),
        ([25, 45], &[(24, 25), (44, 45)]),
        ([5, 59], &[(4, 5), (58, 59)]),
        ([0, 10], &[(0, 1), (10, 11)]),
        ([30, 33], &[(30, 33)]),
        ([31, 37], &[(30, 31), (36, 37)]),
    ];
    for (damaged, lost) in cases {
        let error = go_on_behind_damage(damaged, lost);
        assert!(error.to_string().contains("checksum"), "{error}");
    }
}

/// Compaction has dropped the last record of a chunk, and the position is there; the chunk behind it is damaged.
#[test]
fn a_consumer_between_a_chunk_and_a_damaged_one_goes_on_behind_that() {
    let disk = SimDisk::new();
    let broker = Knobs { buffer_memory: 1 << 20, checkpoint_bytes: 1 << 19, ..Knobs::TINY }.open(&disk).unwrap();
    let config = TopicConfig::default().cleanup_policy(CleanupPolicy::Compact).segment_bytes(31_000);
    broker.create_topic(NewTopic::new("a", 1).config(config.min_cleanable_dirty_ratio(0.0))).unwrap();
    let producer = broker.producer();
    for number in 0..30 {
        let key = if [9, 15].contains(&number) { "twice".to_owned() } else { format!("once {number}") };
        let value = format!("a {number} {}", ".".repeat(3_000));
        drop(producer.send(ProducerRecord::to("a").key(&key).value(&value)).unwrap());
    }
    producer.flush().unwrap();
    broker.maintain().unwrap();
    assert!(broker.clean(Duration::MAX).unwrap().is_complete);
    replace(&disk, b"a 10 ", b"x 10 ");

    let partition = TopicPartition::new("a", 0);
    let mut consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign([partition.clone()]).unwrap();
    // Nothing is damaged at the record before.
    consumer.seek(&partition, 8).unwrap();
    assert!(consumer.skip_damaged().unwrap().is_empty());
    consumer.seek(&partition, 9).unwrap();
    let error = consumer.poll(Duration::ZERO).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    let skipped = consumer.skip_damaged().unwrap();
    assert_eq!(skipped, [(partition, Offset::new(9)..Offset::new(12))]);
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().iter().next().unwrap().offset(), 12);
}

/// A chunk is freed without being read.
#[test]
fn what_is_damaged_can_be_deleted_and_its_room_is_used_again() {
    let disk = SimDisk::new();
    let broker = Knobs::TINY.open(&disk).unwrap();
    create("a", 1).run(&broker).unwrap();
    Step::Send(sends(0, 60, "a", 1, 3_000)).run(&broker).unwrap();
    broker.maintain().unwrap();
    replace(&disk, b"a 0 ", b"x 0 ");
    assert!(!broker.check().unwrap().is_healthy());
    Step::DeleteRecords { name: "a", partition: 0, before: Some(40) }.run(&broker).unwrap();
    assert!(broker.clean(Duration::MAX).unwrap().is_complete);
    assert!(broker.check().unwrap().is_healthy());
    let len = disk.bytes(PATH).unwrap().len();
    Step::Send(sends(60, 20, "a", 1, 3_000)).run(&broker).unwrap();
    broker.maintain().unwrap();
    assert_eq!(disk.bytes(PATH).unwrap().len(), len);
    broker.close().unwrap();
    drop(broker);
    assert!(Knobs::TINY.open(&disk).unwrap().check().unwrap().is_healthy());
}

/// To free chunks redb has to read the pages of their index. Without debug assertions only: with them, redb reads all pages of a
/// file that it opens.
#[test]
#[cfg_attr(debug_assertions, ignore = "needs --release")]
fn a_damaged_page_of_the_index_of_what_was_deleted_keeps_nothing_else_from_being_cleaned() {
    let disk = SimDisk::new();
    let broker = Knobs { buffer_memory: 4 << 20, checkpoint_bytes: 1 << 19, ..Knobs::TINY }.open(&disk).unwrap();
    create("a", 1).run(&broker).unwrap();
    create("b", 1).run(&broker).unwrap();
    Step::Send(sends(0, 140, "a", 1, 20_000)).run(&broker).unwrap();
    Step::Send(sends(0, 20, "b", 1, 3_000)).run(&broker).unwrap();
    broker.close().unwrap();
    drop(broker);
    let sound = disk.bytes(PATH).unwrap();
    let met = (0..sound.len()).step_by(PAGE).find_map(|page| {
        let mut bytes = sound.clone();
        bytes[page + 20] ^= 1;
        disk.put(PATH, &bytes);
        let broker = Knobs::TINY.open(&disk).ok()?;
        for name in ["a", "b"] {
            Step::DeleteRecords { name, partition: 0, before: Some(15) }.run(&broker).ok()?;
        }
        Step::DeleteRecords { name: "a", partition: 0, before: Some(120) }.run(&broker).ok()?;
        let error = broker.clean(Duration::MAX).err()?.to_string();
        error
            .contains(&format!("what was deleted of topic number 0, partition 0: the page at byte {page} "))
            .then_some(broker)
    });
    let broker = met.expect("a page that is read only to free what it tells of");
    let start = |name| broker.offset_of(&TopicPartition::new(name, 0), OffsetSpec::Earliest).unwrap().unwrap();
    assert_eq!((start("a").get(), start("b").get()), (120, 15));
    for number in 0..5 {
        Step::Send(sends(200 + number, 1, "b", 1, 50)).run(&broker).unwrap();
        broker.maintain().unwrap();
        assert_says_what_is_wrong(&broker.clean(Duration::MAX).unwrap_err());
    }
}
