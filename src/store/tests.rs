//! Goal: what was stored is read again, or an error says that it can't be; never a panic, never another record.
//!
//! Method: a store on the simulated disk, whose calls fail and whose power goes at chosen points, beside a vector of the
//! records that should be in it. Damage is done to the bytes of a closed store, thousands of times, with the seed told.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;

use super::groups::{GROUPS, OFFSETS};
use super::open::begin_write;
use super::schema::PartitionRow;
use super::snapshot::Snapshot;
use super::trouble::FromRedb;
use super::*;
use crate::checksum::crc32c;
use crate::codec::{
    BatchBuilder, GroupChange, GroupChanges, GroupEntry, Mark, Place, RawHeader, RecordBatch, RecordParts,
};
use crate::config::{CompressionType, Layout};
use crate::disk::sim_disk::{Fault, Op, Repeat, SimDisk};
use crate::disk::{Disk, OpenMode, OsDisk};
use crate::error::{Error, Result};
use crate::group::{CommittedOffset, GroupName, KeptState};
use crate::types::{LogId, Offset, OffsetAndTimestamp, StoreId, TimestampType, TopicId, TopicName, TopicNumber};

mod sections;
mod space;
mod unsynced;

const PATH: &str = "/d/app.brooklet";
const ID: StoreId = StoreId(7);
const TOPIC: TopicId = TopicId::new(77);
pub(super) const LOG: LogId = LogId { topic: TopicNumber(0), partition: 1 };
const LAYOUT: Layout =
    Layout { segment_bytes: 16 << 20, segment_span_ms: i64::MAX, compression_type: CompressionType::None };
const OPTIONS: StoreOptions = StoreOptions { cache_size: 1 << 20 };

fn topic(number: u32) -> TopicRow {
    TopicRow {
        number: TopicNumber(number),
        id: TOPIC,
        name: TopicName::new(format!("topic-{number}")).unwrap(),
        partitions: 4,
        created_ms: 5,
        overrides: vec![("retention.ms".to_owned(), "10".to_owned())],
    }
}

/// A batch with a record per timestamp, whose values have `value_len` bytes that tell its offset.
fn batch(log: LogId, base: u64, timestamps: &[i64], value_len: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new(log, Offset::new(base), TimestampType::CreateTime, Vec::new());
    for (offset, timestamp) in (base..).zip(timestamps) {
        let value: Vec<u8> = offset.to_le_bytes().into_iter().cycle().take(value_len).collect();
        let headers = std::iter::empty::<RawHeader<'_>>();
        builder.push(*timestamp, &RecordParts { key: None, value: Some(&value), headers });
    }
    builder.finish().unwrap()
}

pub(super) fn new_store() -> Store {
    let store = Store::in_memory(ID, OPTIONS).unwrap();
    store.update(Purpose::Grow, |update| update.put_topic(&topic(0))).unwrap();
    store
}

fn append(store: &Store, log: LogId, batches: &[RecordBatch]) -> Result<()> {
    append_by(CompressionType::None, store, log, batches)
}

fn append_by(compression_type: CompressionType, store: &Store, log: LogId, batches: &[RecordBatch]) -> Result<()> {
    let layout = Layout { compression_type, ..LAYOUT };
    store.update(Purpose::Grow, |update| update.append(log, TOPIC, layout, batches))
}

/// Every way of compressing that this build has; one of them is not to.
fn compression_types() -> Vec<CompressionType> {
    let all = [CompressionType::None, CompressionType::Lz4, CompressionType::Zstd];
    all.into_iter().filter(|compression_type| compression_type.is_supported()).collect()
}

/// Moves the log start and frees what lies below it, `most` chunks at a time; the store is in order after each step.
fn delete_below(store: &Store, log: LogId, log_start: u64, most: usize) {
    store.update(Purpose::Free, |update| update.set_log_start(log, Offset::new(log_start))).unwrap();
    assert_in_order(store);
    while store.update(Purpose::Free, |update| update.free_below_log_start(log, most)).unwrap().more {
        assert_in_order(store);
    }
    assert_in_order(store);
    assert!(!partition(store, log).has_garbage());
}

fn sim() -> (SimDisk, Arc<dyn Disk>) {
    let sim = SimDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    (sim, disk)
}

fn create_and_open(disk: &Arc<dyn Disk>) -> Store {
    Store::create(disk, Path::new(PATH), ID, OPTIONS).unwrap();
    Store::open(disk, Path::new(PATH), OPTIONS).unwrap()
}

type Record = (u64, i64, Vec<u8>);

fn records(batch: &RecordBatch) -> Vec<Record> {
    let walk = batch.walk(Place::start(&batch.header));
    walk.map(|record| (record.offset.get(), record.timestamp, record.value().unwrap().to_vec())).collect()
}

/// All records from `from` on, read `max_bytes` at a time.
fn read_all(store: &Store, log: LogId, from: u64, max_bytes: usize) -> Result<Vec<Record>> {
    let catalogue = store.load()?;
    let row = catalogue.partitions.into_iter().find(|(known, _)| *known == log).map(|(_, row)| row).unwrap_or_default();
    let mut all = Vec::new();
    let mut from = Offset::new(from).max(row.log_start);
    loop {
        let mut batches = Vec::new();
        store.read(log, TOPIC, (from, row.end), max_bytes, &mut batches)?;
        let Some(last) = batches.last() else { return Ok(all) };
        let next = last.header.last_offset.next();
        all.extend(batches.iter().flat_map(|batch| records(batch)).filter(|record| record.0 >= from.get()));
        from = next;
    }
}

fn partition(store: &Store, log: LogId) -> PartitionRow {
    let catalogue = store.load().unwrap();
    catalogue.partitions.into_iter().find(|(known, _)| *known == log).map(|(_, row)| row).unwrap_or_default()
}

fn reopen(store: &Store) {
    let generation = store.handle().generation;
    store.reopen(generation).unwrap();
}

fn assert_in_order(store: &Store) {
    assert_eq!(store.check().unwrap().findings, Vec::<String>::new());
}

fn name(group: &str) -> GroupName {
    GroupName::new(group).unwrap()
}

fn log(topic: u32, partition: u32) -> LogId {
    LogId { topic: TopicNumber(topic), partition }
}

fn committed(offset: u64) -> CommittedOffset {
    CommittedOffset { offset: Offset::new(offset), metadata: "by a test".into(), committed_ms: 9 }
}

fn commit(group: &str, log: LogId, offset: u64) -> GroupEntry {
    GroupEntry { group: name(group), change: GroupChange::Offset { log, committed: Some(committed(offset)) } }
}

fn take_back(group: &str, log: LogId) -> GroupEntry {
    GroupEntry { group: name(group), change: GroupChange::Offset { log, committed: None } }
}

fn state(epoch: u64) -> KeptState {
    KeptState { epoch, emptied_ms: Some(7), topics: [(TopicNumber(0), 4)].into(), ..KeptState::default() }
}

fn set_state(group: &str, epoch: u64) -> GroupEntry {
    GroupEntry { group: name(group), change: GroupChange::State(state(epoch)) }
}

fn delete(group: &str) -> GroupEntry {
    GroupEntry { group: name(group), change: GroupChange::Delete }
}

/// Applies these entries in one update.
fn change_groups(store: &Store, entries: impl IntoIterator<Item = GroupEntry>) {
    let changes: GroupChanges = entries.into_iter().collect();
    store.update(Purpose::Grow, |update| update.apply_group_changes(&changes)).unwrap();
}

/// What the store has of a group: its epoch, and the offsets that it has committed.
fn group(store: &Store, group: &str) -> Option<(u64, Vec<(LogId, u64)>)> {
    let StoredGroup { state, offsets } = store.read_group(&name(group)).unwrap()?;
    Some((state.epoch, offsets.into_iter().map(|(log, committed)| (log, committed.offset.get())).collect()))
}

#[test]
fn groups_come_back_as_they_were() {
    let (_, disk) = sim();
    let store = create_and_open(&disk);
    store
        .update(Purpose::Grow, |update| update.put_topic(&topic(0)).and_then(|()| update.put_topic(&topic(3))))
        .unwrap();
    let entries = [
        commit("b", log(3, 2), 5),
        commit("b", log(0, 1), 6),
        commit("b", log(0, 3), 7),
        commit("bb", log(0, 1), 8),
        set_state("b", 4),
        set_state("a", 2),
    ];
    change_groups(&store, entries);
    // The simulated lock goes with the handle.
    drop(store);
    let store = Store::open(&disk, Path::new(PATH), OPTIONS).unwrap();
    assert_eq!(store.group_names().unwrap(), ["a", "b", "bb"]);
    let offsets = vec![(log(0, 1), committed(6)), (log(0, 3), committed(7)), (log(3, 2), committed(5))];
    assert_eq!(store.read_group(&name("b")).unwrap(), Some(StoredGroup { state: state(4), offsets }));
    assert_eq!(group(&store, "a"), Some((2, vec![])));
    assert_eq!(group(&store, "bb"), Some((0, vec![(log(0, 1), 8)])));
    assert_eq!(group(&store, "c"), None);
    let check = store.check().unwrap();
    assert_eq!((check.findings, check.groups, check.offsets), (Vec::<String>::new(), 3, 4));
}

#[test]
fn the_last_commit_for_a_partition_counts_and_may_be_taken_back() {
    let store = new_store();
    change_groups(&store, [commit("g", LOG, 5), commit("g", log(0, 2), 1), commit("g", LOG, 3)]);
    change_groups(&store, [commit("g", LOG, 2), take_back("g", log(0, 2)), take_back("g", log(0, 3))]);
    assert_eq!(group(&store, "g"), Some((0, vec![(LOG, 2)])));
    assert_in_order(&store);
    change_groups(&store, [take_back("g", LOG)]);
    assert_eq!((group(&store, "g"), store.group_names().unwrap()), (None, vec![]));
    assert_in_order(&store);
}

#[test]
fn a_deleted_group_leaves_nothing_and_may_come_again_in_the_same_update() {
    let store = new_store();
    change_groups(&store, [commit("g", LOG, 5), commit("g", log(0, 2), 1), set_state("g", 3), commit("h", LOG, 6)]);
    change_groups(&store, [commit("g", log(0, 3), 1), delete("g"), commit("g", log(0, 2), 9)]);
    assert_eq!(group(&store, "g"), Some((0, vec![(log(0, 2), 9)])));
    change_groups(&store, [delete("g"), delete("never")]);
    assert_eq!(group(&store, "g"), None);
    assert_eq!(group(&store, "h"), Some((0, vec![(LOG, 6)])));
    assert_in_order(&store);
}

#[test]
fn what_was_committed_for_a_deleted_topic_goes_and_does_not_come_again() {
    let store = new_store();
    store.update(Purpose::Grow, |update| update.put_topic(&topic(1))).unwrap();
    let both = [commit("both", LOG, 5), commit("both", log(0, 2), 5), commit("both", log(1, 0), 6)];
    change_groups(
        &store,
        both.into_iter().chain([commit("one", LOG, 7), set_state("stays", 1), commit("stays", LOG, 1)]),
    );
    store.update(Purpose::Free, |update| update.delete_topic(TopicNumber(0))).unwrap();
    // These were on their way when the topic was deleted.
    change_groups(&store, [commit("one", LOG, 8), commit("both", LOG, 9)]);
    assert_eq!(group(&store, "both"), Some((0, vec![(log(1, 0), 6)])));
    assert_eq!(group(&store, "one"), None);
    assert_eq!(group(&store, "stays"), Some((1, vec![])));
    assert_in_order(&store);
}

/// Changes the tables of groups behind the store's back.
fn forge(store: &Store, work: impl FnOnce(&redb::WriteTransaction) -> Result<()>) {
    let handle = store.handle();
    let transaction = begin_write(handle.database().unwrap()).unwrap();
    work(&transaction).unwrap();
    transaction.commit().unwrap();
    handle.latest.let_go();
}

#[test]
fn a_check_finds_what_is_wrong_with_groups() {
    type Damage = fn(&redb::WriteTransaction) -> Result<()>;
    let damages: [(&str, Damage); 4] = [
        ("1 of 2 committed offsets are there", |transaction| {
            transaction.open_table(OFFSETS).redb()?.pop_first().redb().map(drop)
        }),
        ("it has committed offsets and no row", |transaction| {
            transaction.open_table(GROUPS).redb()?.pop_first().redb().map(drop)
        }),
        ("checksum", |transaction| {
            let mut table = transaction.open_table(OFFSETS).redb()?;
            let first = table.pop_first().redb()?.map(|(key, value)| (key.value().to_vec(), value.value().to_vec()));
            let (mut key, value) = first.unwrap();
            key[1] = b'h';
            table.insert(key.as_slice(), value.as_slice()).redb().map(drop)
        }),
        ("there is no such topic", |transaction| {
            transaction.open_table(super::schema::TOPICS).redb()?.remove(0).redb().map(drop)
        }),
    ];
    for (finding, damage) in damages {
        let store = new_store();
        change_groups(&store, [commit("g", LOG, 5), commit("g", log(0, 2), 1)]);
        assert_in_order(&store);
        forge(&store, damage);
        let findings = store.check().unwrap().findings;
        assert!(findings.iter().any(|found| found.contains(finding) && found.contains("group")), "{findings:?}");
        if finding != "there is no such topic" {
            assert!(matches!(store.read_group(&name("g")), Err(Error::Corrupt { .. })), "{finding}");
        }
    }
    let store = new_store();
    change_groups(&store, [commit("g", log(0, 4), 5)]);
    assert!(store.check().unwrap().findings[0].contains("partition 4: the topic has 4 partitions"));
}

#[test]
fn a_store_without_a_table_is_refused_in_words() {
    let store = new_store();
    forge(&store, |transaction| transaction.delete_table(OFFSETS).redb().map(drop));
    let error = store.load().unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }) && error.to_string().contains("offsets"), "{error}");
}

#[test]
fn a_store_comes_back_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.brooklet");
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    Store::create(&disk, &path, ID, OPTIONS).unwrap();
    let store = Store::open(&disk, &path, OPTIONS).unwrap();
    let empty = store.load().unwrap();
    assert_eq!((empty.id, empty.session, empty.next_topic), (ID, Session::Closed { sequence: 0 }, TopicNumber(0)));

    let mark = Mark { salt: 1, sequence: 2, position: 3, chain: 4 };
    let expected: Vec<_> = (0..40).map(|i| batch(LOG, i * 5, &[9, 8, 7, 6, 5], 900)).collect();
    store
        .update(Purpose::Grow, |update| {
            update.put_topic(&topic(0))?;
            update.put_topic(&topic(3))?;
            update.set_session(Session::Open(mark))?;
            update.append(LOG, TOPIC, LAYOUT, &expected)
        })
        .unwrap();
    store.close().unwrap();

    let store = Store::open(&disk, &path, OPTIONS).unwrap();
    let catalogue = store.load().unwrap();
    assert_eq!((catalogue.session, catalogue.next_topic), (Session::Open(mark), TopicNumber(4)));
    assert_eq!(catalogue.topics, [topic(0), topic(3)]);
    assert_eq!(catalogue.partitions.len(), 1);
    let expected: Vec<_> = expected.iter().flat_map(records).collect();
    for (from, max_bytes) in [(0, 0), (0, usize::MAX), (77, 40_000), (199, 1)] {
        let left: Vec<_> = expected.iter().filter(|record| record.0 >= from).cloned().collect();
        assert_eq!(read_all(&store, LOG, from, max_bytes).unwrap(), left);
    }
    assert_eq!(read_all(&store, LOG, 200, 100).unwrap(), []);
    let check = store.check().unwrap();
    assert_eq!((check.findings.len(), check.topics, check.partitions, check.records), (0, 2, 1, 200));
    let stats = store.stats().unwrap();
    assert!(stats.stored > check.bytes && stats.file >= stats.stored + stats.unused);
}

#[test]
fn a_check_of_a_store_in_order_changes_nothing_in_it() {
    let (sim, disk) = sim();
    let store = create_and_open(&disk);
    store.update(Purpose::Grow, |update| update.put_topic(&topic(0))).unwrap();
    append(&store, LOG, &[batch(LOG, 0, &[1; 500], 100)]).unwrap();
    let before = (sim.bytes(PATH).unwrap().len(), partition(&store, LOG), read_all(&store, LOG, 0, 0).unwrap());
    let check = store.check().unwrap();
    assert_eq!(store.check().unwrap(), check);
    assert_eq!((sim.bytes(PATH).unwrap().len(), partition(&store, LOG), read_all(&store, LOG, 0, 0).unwrap()), before);
    append(&store, LOG, &[batch(LOG, 500, &[1; 500], 100)]).unwrap();
    assert_in_order(&store);
}

#[test]
fn small_appends_are_kept_together() {
    for compression_type in compression_types() {
        let store = new_store();
        for base in 0..200 {
            append_by(compression_type, &store, LOG, &[batch(LOG, base, &[base as i64], 100)]).unwrap();
        }
        let row = partition(&store, LOG);
        assert_eq!((row.records, row.end), (200, Offset::new(200)));
        let most = if compression_type == CompressionType::None { 9 } else { 3 };
        assert!(row.chunks <= most, "{compression_type}: {} chunks", row.chunks);
        assert_eq!(read_all(&store, LOG, 0, 0).unwrap().len(), 200);
        assert_in_order(&store);
    }
}

#[test]
fn rows_say_what_chunks_take_and_what_they_would_take_plain() {
    let batches: Vec<_> = (0..50).map(|i| batch(LOG, i * 50, &[1; 50], 100)).collect();
    let plain = new_store();
    append(&plain, LOG, &batches).unwrap();
    let plain = partition(&plain, LOG);
    assert_eq!(plain.bytes, plain.plain_bytes);
    for compression_type in compression_types().into_iter().skip(1) {
        let store = new_store();
        append_by(compression_type, &store, LOG, &batches).unwrap();
        let row = partition(&store, LOG);
        // Fewer chunks have fewer headers.
        assert!((plain.bytes - 84 * plain.chunks..plain.bytes).contains(&row.plain_bytes), "{row:?}");
        assert!(row.bytes * 3 < row.plain_bytes, "{row:?}");
        let usage = store.usage(&[LOG]).unwrap()[0];
        assert_eq!((usage.bytes, usage.plain_bytes), (row.bytes, row.plain_bytes));
        delete_below(&store, LOG, 2_500, 100);
        let row = partition(&store, LOG);
        assert_eq!((row.bytes, row.plain_bytes), (0, 0));
    }
}

#[test]
fn a_small_last_chunk_that_is_written_again_in_another_way_stays_in_its_segment() {
    let types = compression_types();
    for (from, to) in types.iter().flat_map(|from| types.iter().map(move |to| (*from, *to))) {
        let store = new_store();
        let layout = |compression_type| Layout { segment_bytes: 4_000, compression_type, ..LAYOUT };
        let put = |compression_type, batch: RecordBatch| {
            let layout = layout(compression_type);
            store.update(Purpose::Grow, |update| update.append(LOG, TOPIC, layout, [&batch])).unwrap();
            assert_in_order(&store);
        };
        put(from, batch(LOG, 0, &[9, 1, 2, 3, 4], 100));
        put(from, batch(LOG, 5, &[7; 200], 100));
        put(to, batch(LOG, 205, &[50, 1, 1], 100));
        put(to, batch(LOG, 208, &[4; 100], 100));
        assert_eq!(read_all(&store, LOG, 0, 0).unwrap().len(), 308, "{from} to {to}");
        let found = store.find_timestamp(LOG, TOPIC, Offset::new(5), 8).unwrap().unwrap();
        assert_eq!((found.offset.get(), found.timestamp), (205, 50), "{from} to {to}");
    }
}

/// Chunks that another build has compressed are told from damage, and records still go behind them. (A build that has all
/// of them can read all of them.)
#[test]
fn chunks_that_this_build_can_not_read_are_named_and_stay() {
    let all = [CompressionType::Lz4, CompressionType::Zstd];
    let Some((codec, missing)) = (1_u8..).zip(all).find(|(_, kind)| !kind.is_supported()) else { return };
    let store = new_store();
    append(&store, LOG, &[batch(LOG, 0, &[1; 5], 100)]).unwrap();
    {
        let handle = store.handle();
        let (_, row) = Snapshot::of(&handle).unwrap().chunk_with(LOG, Offset::ZERO).unwrap().unwrap();
        let mut bytes = handle.read_extent(row.extent(), row.bytes as usize).unwrap();
        bytes[5] = codec;
        let crc = crc32c(&bytes[4..]).to_le_bytes();
        bytes[..4].copy_from_slice(&crc);
        handle.medium().unwrap().file().write(row.extent(), &bytes).unwrap();
    }
    append(&store, LOG, &[batch(LOG, 5, &[2; 5], 100)]).unwrap();
    let error = read_all(&store, LOG, 0, 0).unwrap_err();
    assert!(
        matches!(error, Error::UnsupportedCompressionType { compression_type, .. } if compression_type == missing),
        "{error}"
    );
    assert!(error.to_string().contains(&format!("the feature `{missing}`")), "{error}");
    assert_eq!(read_all(&store, LOG, 5, 0).unwrap().len(), 5);
    assert!(store.check().unwrap().findings.iter().all(|finding| !finding.contains("damaged")));
}

#[test]
fn many_partitions_share_an_update() {
    let store = new_store();
    let logs: Vec<_> = (0..4).map(|partition| LogId { partition, ..LOG }).collect();
    for round in 0..5 {
        store
            .update(Purpose::Grow, |update| {
                let batch = |log| batch(log, round * 50, &[1; 50], 1_000);
                logs.iter().try_for_each(|&log| update.append(log, TOPIC, LAYOUT, [&batch(log)]))
            })
            .unwrap();
    }
    for log in logs {
        assert_eq!(read_all(&store, log, 0, 1).unwrap().len(), 250);
    }
    assert_in_order(&store);
}

#[test]
fn records_that_do_not_follow_are_refused() {
    let store = new_store();
    append(&store, LOG, &[batch(LOG, 0, &[1, 2], 10)]).unwrap();
    for base in [0, 1, 3] {
        let wrong = new_store();
        append(&wrong, LOG, &[batch(LOG, 0, &[1, 2], 10)]).unwrap();
        assert!(matches!(append(&wrong, LOG, &[batch(LOG, base, &[1], 10)]), Err(Error::Corrupt { .. })));
        assert_eq!(read_all(&wrong, LOG, 0, 0).unwrap().len(), 2);
        assert_in_order(&wrong);
    }
    append(&store, LOG, &[batch(LOG, 2, &[1], 10)]).unwrap();
}

#[test]
fn work_that_refuses_changes_nothing_and_the_store_goes_on() {
    let store = new_store();
    let refused: Result<()> = store.update(Purpose::Grow, |update| {
        update.put_topic(&topic(1))?;
        Err(Error::illegal_state("no"))
    });
    assert!(matches!(refused, Err(Error::IllegalState { .. })));
    assert_eq!(store.load().unwrap().topics, [topic(0)]);
    store.update(Purpose::Grow, |update| update.put_topic(&topic(1))).unwrap();
}

#[test]
fn a_deleted_topic_leaves_nothing_and_its_number_is_not_given_again() {
    let store = new_store();
    append(&store, LOG, &[batch(LOG, 0, &[1; 300], 1_000)]).unwrap();
    let other = LogId { topic: TopicNumber(1), partition: 0 };
    store
        .update(Purpose::Grow, |update| {
            update.put_topic(&topic(1))?;
            update.append(other, TOPIC, LAYOUT, [&batch(other, 0, &[1; 3], 10)])?;
            update.delete_topic(TopicNumber(0))
        })
        .unwrap();
    let mut steps = 0;
    loop {
        let catalogue = store.load().unwrap();
        assert_eq!((catalogue.topics, catalogue.next_topic), (vec![topic(1)], TopicNumber(2)));
        assert_eq!((catalogue.deleted, catalogue.partitions.len()), (vec![TopicNumber(0)], 1));
        assert_eq!(store.check().unwrap().chunks, 1);
        assert_in_order(&store);
        steps += 1;
        if !store.update(Purpose::Free, |update| update.free_topic(TopicNumber(0), 3)).unwrap().more {
            break;
        }
    }
    assert!(steps > 4, "{steps}");
    assert!(store.load().unwrap().deleted.is_empty());
    assert_in_order(&store);
}

#[test]
fn a_log_start_may_lie_behind_the_end_until_the_records_come() {
    let store = new_store();
    store.update(Purpose::Free, |update| update.set_log_start(LOG, Offset::new(25))).unwrap();
    assert_eq!(partition(&store, LOG).end, Offset::ZERO);
    append(&store, LOG, &[batch(LOG, 0, &[1; 10], 10)]).unwrap();
    assert_eq!((partition(&store, LOG).end, partition(&store, LOG).chunks), (Offset::new(10), 0));
    assert_in_order(&store);
    // What lies below the log start may also be left out.
    append(&store, LOG, &[batch(LOG, 20, &[1; 10], 10)]).unwrap();
    assert_eq!(read_all(&store, LOG, 25, 0).unwrap().len(), 5);
    append(&store, LOG, &[batch(LOG, 30, &[1; 10], 10)]).unwrap();
    assert_eq!(read_all(&store, LOG, 25, 0).unwrap().len(), 15);
    assert_in_order(&store);
}

#[test]
fn segments_are_closed_by_size_and_cut_by_the_log_start() {
    let store = new_store();
    for base in (0..50_000).step_by(1_000) {
        append(&store, LOG, &[batch(LOG, base, &vec![base as i64; 1_000], 1_000)]).unwrap();
    }
    assert_in_order(&store);
    for (log_start, most) in [(10, 1_000), (5_000, 1_000), (6_000, 7), (20_001, 100), (20_000, 1), (49_999, 300)] {
        delete_below(&store, LOG, log_start, most);
    }
    assert_eq!(read_all(&store, LOG, 49_999, 0).unwrap().len(), 1);
    assert_eq!(store.max_timestamp(LOG, TOPIC, Offset::new(49_999)).unwrap().unwrap().timestamp, 49_000);
    delete_below(&store, LOG, 50_000, 1_000);
    assert_eq!(partition(&store, LOG).chunks, 0);
}

/// What was stored as segments: where they end, and their largest timestamps.
fn segments(store: &Store) -> Vec<(u64, i64)> {
    let segments = store.segments(LOG).unwrap();
    segments.iter().map(|segment| (segment.end.get(), segment.max_timestamp)).collect()
}

#[test]
fn segments_are_closed_by_time_at_the_batch_that_is_too_young() {
    let store = new_store();
    let layout = Layout { segment_span_ms: 10, ..LAYOUT };
    let append = |base, timestamps: &[i64]| {
        let batch = batch(LOG, base, timestamps, 50);
        store.update(Purpose::Grow, |update| update.append(LOG, TOPIC, layout, [&batch])).unwrap();
        assert_in_order(&store);
    };
    append(0, &[100]);
    append(1, &[90, 110]);
    assert_eq!(segments(&store), [(3, 110)]);
    append(3, &[111]);
    assert_eq!(segments(&store), [(3, 110), (4, 111)]);
    // A batch stays whole, whatever times it spans.
    append(4, &[121, 100, 122]);
    assert_eq!(segments(&store), [(3, 110), (4, 111), (7, 122)]);
    append(7, &[50]);
    assert_eq!(segments(&store), [(3, 110), (4, 111), (8, 122)]);
    // Several batches of one update.
    let batches = [batch(LOG, 8, &[131], 50), batch(LOG, 9, &[132], 50), batch(LOG, 10, &[140], 50)];
    store.update(Purpose::Grow, |update| update.append(LOG, TOPIC, layout, &batches)).unwrap();
    assert_eq!(segments(&store), [(3, 110), (4, 111), (9, 131), (11, 140)]);
    assert_in_order(&store);
}

#[test]
fn segments_of_any_size_are_cut_out_of_batches_of_any_size() {
    let limits = [1, 200, 500, 4_000, 40_000];
    let cases = compression_types().into_iter().flat_map(|by| limits.map(|limit| (by, limit)));
    for (compression_type, limit) in cases {
        let store = new_store();
        let layout = Layout { segment_bytes: limit, compression_type, ..LAYOUT };
        let mut end = 0;
        for (count, value_len) in [(1, 100), (7, 100), (300, 30), (1, 3_000), (2, 100), (50, 1_000)] {
            let batch = batch(LOG, end, &vec![1; count], value_len);
            end += count as u64;
            store.update(Purpose::Grow, |update| update.append(LOG, TOPIC, layout, [&batch])).unwrap();
            assert_in_order(&store);
        }
        let stored = store.segments(LOG).unwrap();
        let mut start = 0;
        for segment in &stored {
            let records = segment.end.get() - start;
            assert!(segment.bytes <= limit || records == 1, "{segment:?} has {records} records, limit {limit}");
            start = segment.end.get();
        }
        assert_eq!(read_all(&store, LOG, 0, 0).unwrap().len() as u64, end);
        // A smaller limit closes what is under way, and changes nothing that is stored.
        let smaller = Layout { segment_bytes: 1, ..LAYOUT };
        let next = batch(LOG, end, &[1], 10);
        store.update(Purpose::Grow, |update| update.append(LOG, TOPIC, smaller, [&next])).unwrap();
        assert_in_order(&store);
        assert_eq!(store.segments(LOG).unwrap().len(), stored.len() + 1);
    }
}

#[test]
fn garbage_is_neither_read_nor_joined_with_what_follows() {
    let store = new_store();
    append(&store, LOG, &[batch(LOG, 0, &[9; 200], 1_000), batch(LOG, 200, &[1; 3], 10)]).unwrap();
    store.update(Purpose::Free, |update| update.set_log_start(LOG, Offset::new(203))).unwrap();
    assert!(store.segments(LOG).unwrap().is_empty());
    append(&store, LOG, &[batch(LOG, 203, &[5; 2], 10)]).unwrap();
    assert_in_order(&store);
    assert_eq!(segments(&store), [(205, 5)]);
    assert_eq!(read_all(&store, LOG, 0, 0).unwrap().len(), 2);
    assert_eq!(store.find_timestamp(LOG, TOPIC, Offset::new(203), 6).unwrap(), None);
    // What is deleted before it comes here leaves a hole below the log start.
    store.update(Purpose::Free, |update| update.set_log_start(LOG, Offset::new(300))).unwrap();
    append(&store, LOG, &[batch(LOG, 205, &[7; 90], 10), batch(LOG, 295, &[8; 10], 10)]).unwrap();
    assert_in_order(&store);
    assert_eq!(read_all(&store, LOG, 0, 0).unwrap().len(), 5);
    delete_below(&store, LOG, 300, 2);
    assert_eq!(partition(&store, LOG).records, 10);
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<i64>, usize, CompressionType),
    LogStart(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let compression_type = proptest::sample::select(compression_types());
    let append = (proptest::collection::vec(0_i64..50, 1..60), 0_usize..1_500, compression_type);
    prop_oneof![
        4 => append.prop_map(|(timestamps, len, compression_type)| Step::Append(timestamps, len, compression_type)),
        1 => (0_u64..400).prop_map(Step::LogStart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_history_reads_and_finds_as_a_vector_does(steps in proptest::collection::vec(step(), 1..12)) {
        let store = new_store();
        let (mut all, mut log_start): (Vec<Record>, u64) = (Vec::new(), 0);
        for step in steps {
            match step {
                Step::Append(timestamps, len, compression_type) => {
                    let batch = batch(LOG, all.len() as u64, &timestamps, len);
                    all.extend(records(&batch));
                    append_by(compression_type, &store, LOG, &[batch]).unwrap();
                }
                Step::LogStart(to) => {
                    let to = to.min(all.len() as u64);
                    log_start = log_start.max(to);
                    // Some of what lies below it stays for a while.
                    let most = usize::try_from(to % 5).unwrap();
                    store
                        .update(Purpose::Free, |update| {
                            update.set_log_start(LOG, Offset::new(to))?;
                            update.free_below_log_start(LOG, most)
                        })
                        .unwrap();
                }
            }
        }
        assert_in_order(&store);
        for from in log_start..all.len() as u64 + 2 {
            let left = all.get(usize::try_from(from).unwrap()..).unwrap_or_default();
            if from % 7 == 0 {
                prop_assert_eq!(&read_all(&store, LOG, from, 5_000).unwrap(), left);
            }
            let found = |record: Option<&Record>| {
                record.map(|record| OffsetAndTimestamp { offset: Offset::new(record.0), timestamp: record.1 })
            };
            let at_least = (from % 60) as i64 - 2;
            let first = found(left.iter().find(|record| record.1 >= at_least));
            prop_assert_eq!(store.find_timestamp(LOG, TOPIC, Offset::new(from), at_least).unwrap(), first);
            let max = left.iter().map(|record| record.1).max();
            let largest = found(left.iter().find(|record| Some(record.1) == max));
            prop_assert_eq!(store.max_timestamp(LOG, TOPIC, Offset::new(from)).unwrap(), largest);
        }
    }
}

#[test]
fn a_second_opening_finds_it_open_also_from_another_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.brooklet");
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    // The child of the test below.
    if let Some(path) = std::env::var_os("BROOKLET_TEST_OPEN") {
        let opened = Store::open(&disk, Path::new(&path), OPTIONS);
        assert!(matches!(opened, Err(Error::AlreadyOpen { .. })), "{opened:?}");
        return;
    }
    Store::create(&disk, &path, ID, OPTIONS).unwrap();
    let store = Store::open(&disk, &path, OPTIONS).unwrap();
    let open_from_a_child = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "store::tests::a_second_opening_finds_it_open_also_from_another_process"]);
        child.env("BROOKLET_TEST_OPEN", &path).output().unwrap().status.success()
    };
    for reopened in [false, true] {
        if reopened {
            reopen(&store);
        }
        assert!(matches!(Store::open(&disk, &path, OPTIONS), Err(Error::AlreadyOpen { .. })));
        assert!(open_from_a_child());
    }
    store.close().unwrap();
    assert!(!open_from_a_child());
    drop(Store::open(&disk, &path, OPTIONS).unwrap());
    Store::open(&disk, &path, OPTIONS).unwrap();
}

#[test]
fn a_second_opening_on_a_simulated_disk_finds_it_open() {
    let (_, disk) = sim();
    let store = create_and_open(&disk);
    reopen(&store);
    assert!(matches!(Store::open(&disk, Path::new(PATH), OPTIONS), Err(Error::AlreadyOpen { .. })));
    drop(store);
    Store::open(&disk, Path::new(PATH), OPTIONS).unwrap();
}

#[test]
fn other_files_are_told_from_a_store() {
    let (sim, disk) = sim();
    let foreign = |bytes: &[u8]| {
        sim.put(PATH, bytes);
        let error = Store::open(&disk, Path::new(PATH), OPTIONS).unwrap_err();
        assert_eq!(sim.bytes(PATH).unwrap(), bytes);
        match error {
            Error::NotABrooklet { found, .. } => found,
            error => panic!("{error}"),
        }
    };
    assert_eq!(foreign(b""), "it is empty");
    assert_eq!(foreign(&[0; 8_192]), "it begins with zeros");
    assert_eq!(foreign(b"# Notes\n"), "it looks like text");
    assert_eq!(foreign(b"SQLite format 3\0..."), "it is an SQLite database");
    assert_eq!(foreign(&[0xff, 0, 3]), "it holds something else");
    assert!(matches!(Store::open(&disk, Path::new("/d/none"), OPTIONS), Err(Error::NotFound { .. })));
}

#[test]
fn a_redb_file_of_another_application_is_not_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.redb");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<u32, u32>::new("meta")).unwrap().insert(1, 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let error = Store::open(&disk, &path, OPTIONS).unwrap_err();
    assert!(error.to_string().contains("redb database of another application"), "{error}");
}

#[test]
fn a_newer_format_is_refused() {
    let (_, disk) = sim();
    let store = create_and_open(&disk);
    store
        .update(Purpose::Grow, |update| {
            let row = schema::encode_row(&(), &schema::Format(2));
            update
                .tables
                .meta
                .insert("format", row.as_slice())
                .map(drop)
                .map_err(|e| Error::illegal_state(e.to_string()))
        })
        .unwrap();
    drop(store);
    let error = Store::open(&disk, Path::new(PATH), OPTIONS).unwrap_err();
    assert!(matches!(error, Error::UnsupportedVersion { what: "store", found: 2, supported: 1 }), "{error}");
}

#[test]
fn a_leftover_of_an_earlier_creation_is_replaced() {
    let (sim, disk) = sim();
    sim.put(format!("{PATH}-tmp"), &[0; 5_000]);
    drop(create_and_open(&disk));
    assert!(!disk.exists(Path::new(&format!("{PATH}-tmp"))).unwrap());
}

#[test]
fn a_power_loss_at_any_point_of_a_creation_leaves_no_store_or_a_whole_one() {
    let (sim, disk) = sim();
    Store::create(&disk, Path::new(PATH), ID, OPTIONS).unwrap();
    for at in 0..=sim.operations() {
        for (label, image) in sim.images(at, at as u64) {
            let disk: Arc<dyn Disk> = Arc::new(image);
            let exists = disk.exists(Path::new(PATH)).unwrap();
            assert!(exists || at < sim.operations(), "{label}: it was created, and its name was not durable");
            if !exists {
                Store::create(&disk, Path::new(PATH), ID, OPTIONS).unwrap();
            }
            let store = Store::open(&disk, Path::new(PATH), OPTIONS).unwrap_or_else(|error| panic!("{label}: {error}"));
            assert_eq!(store.load().unwrap().id, ID, "{label}");
        }
    }
}

#[test]
fn a_power_loss_at_any_point_leaves_whole_updates() {
    let (sim, disk) = sim();
    let store = create_and_open(&disk);
    store.update(Purpose::Grow, |update| update.put_topic(&topic(0))).unwrap();
    let first = sim.operations();
    let mut done = Vec::new();
    for base in (0..120).step_by(20) {
        append(&store, LOG, &[batch(LOG, base, &[1; 20], 800)]).unwrap();
        done.push((sim.operations(), base + 20));
    }
    store.update(Purpose::Free, |update| update.set_log_start(LOG, Offset::new(70))).unwrap();
    for at in first..=sim.operations() {
        for (label, image) in sim.images(at, at as u64) {
            let disk: Arc<dyn Disk> = Arc::new(image);
            let store = Store::open(&disk, Path::new(PATH), OPTIONS).unwrap_or_else(|error| panic!("{label}: {error}"));
            let row = partition(&store, LOG);
            let acknowledged = done.iter().rev().find(|(done, _)| *done <= at).map_or(0, |(_, end)| *end);
            assert!(row.end.get() >= acknowledged && row.end.get().is_multiple_of(20), "{label}: {row:?}");
            let read = read_all(&store, LOG, row.log_start.get(), 1).unwrap();
            assert_eq!(read.len() as u64, row.end - row.log_start, "{label}");
            assert_in_order(&store);
        }
    }
}

fn fault(operation: Op, nth: usize, kind: std::io::ErrorKind, repeat: Repeat) -> Fault {
    Fault { operation, path_contains: Some(PATH.to_owned()), nth, kind, repeat }
}

#[test]
fn a_full_disk_refuses_appends_and_lets_the_rest_go_on() {
    let (sim, disk) = sim();
    let store = create_and_open(&disk);
    store.update(Purpose::Grow, |update| update.put_topic(&topic(0))).unwrap();
    sim.set_capacity(Some(sim.used() + 400_000));
    let mut end = 0;
    let error = loop {
        match append(&store, LOG, &[batch(LOG, end, &[1; 50], 1_000)]) {
            Ok(()) => end += 50,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::StorageFull { .. }), "{error}");
    assert!(end > 0);
    for _ in 0..3 {
        assert!(append(&store, LOG, &[batch(LOG, end, &[1; 50], 1_000)]).is_err());
        assert_eq!(read_all(&store, LOG, 0, 0).unwrap().len() as u64, end);
    }
    // Deleting takes room before it frees any: the ballast has it.
    store.update(Purpose::Free, |update| update.set_log_start(LOG, Offset::new(end - 10))).unwrap();
    store.update(Purpose::Free, |update| update.set_session(Session::Closed { sequence: 3 })).unwrap();
    sim.set_capacity(None);
    append(&store, LOG, &[batch(LOG, end, &[1; 50], 1_000)]).unwrap();
    assert_eq!(sim.bytes(format!("{PATH}-reserve")).unwrap().len(), 1 << 20);
    assert_in_order(&store);
    store.close().unwrap();
}

#[test]
fn a_write_without_room_at_any_point_changes_all_or_nothing() {
    for nth in 0..60 {
        let (sim, disk) = sim();
        let store = create_and_open(&disk);
        store.update(Purpose::Grow, |update| update.put_topic(&topic(0))).unwrap();
        append(&store, LOG, &[batch(LOG, 0, &[1; 20], 500)]).unwrap();
        let operation = if nth % 3 == 0 { Op::ShortWrite } else { Op::Write };
        sim.fail(fault(operation, nth / 2, std::io::ErrorKind::StorageFull, Repeat::Once));
        let appended = append(&store, LOG, &[batch(LOG, 20, &[1; 20], 500)]);
        let expected = match appended {
            Ok(()) => 40,
            Err(Error::StorageFull { .. }) => 20,
            Err(error) => panic!("{error}"),
        };
        sim.clear_faults();
        assert_eq!(partition(&store, LOG).end, Offset::new(expected), "write {nth}");
        append(&store, LOG, &[batch(LOG, expected, &[1; 20], 500)]).unwrap();
        assert_in_order(&store);
    }
}

#[test]
fn a_failed_sync_ends_all_updates_also_one_for_want_of_room() {
    for kind in [std::io::ErrorKind::Other, std::io::ErrorKind::StorageFull] {
        for nth in 0..2 {
            let (sim, disk) = sim();
            let store = create_and_open(&disk);
            store.update(Purpose::Grow, |update| update.put_topic(&topic(0))).unwrap();
            append(&store, LOG, &[batch(LOG, 0, &[1; 20], 50)]).unwrap();
            sim.fail(fault(Op::Sync, nth, kind, Repeat::Once));
            let error = append(&store, LOG, &[batch(LOG, 20, &[1; 20], 50)]).unwrap_err();
            assert!(matches!(error, Error::Io { operation: "sync", .. }), "{error}");
            let syncs = sim.calls(Op::Sync, PATH);
            let error = store.update(Purpose::Free, |update| update.put_topic(&topic(1))).unwrap_err();
            assert!(matches!(error, Error::ReopenRequired { .. }), "{error}");
            let _ = read_all(&store, LOG, 0, 0);
            assert_eq!(sim.calls(Op::Sync, PATH), syncs, "nothing is synced again");
            drop(store);
            let store = Store::open(&disk, Path::new(PATH), OPTIONS).unwrap();
            let end = partition(&store, LOG).end.get();
            assert!(end == 20 || end == 40);
            assert_in_order(&store);
        }
    }
}

#[test]
fn a_read_that_fails_once_is_tried_again_and_the_store_goes_on() {
    let (sim, disk) = sim();
    let store = create_and_open(&disk);
    store.update(Purpose::Grow, |update| update.put_topic(&topic(0))).unwrap();
    append(&store, LOG, &[batch(LOG, 0, &[1; 2_000], 1_000)]).unwrap();
    drop(store);
    let store = Store::open(&disk, Path::new(PATH), OPTIONS).unwrap();
    for nth in 0..20 {
        sim.fail(fault(Op::Read, nth * 3, std::io::ErrorKind::Other, Repeat::Once));
        assert_eq!(read_all(&store, LOG, 0, 0).unwrap().len(), 2_000, "read {nth}");
        sim.clear_faults();
    }
    sim.clear_faults();
    reopen(&store);
    sim.fail(fault(Op::Read, 8, std::io::ErrorKind::Other, Repeat::FromNowOn));
    assert!(matches!(read_all(&store, LOG, 0, 0), Err(Error::Io { operation: "read", .. })));
    sim.clear_faults();
    assert_eq!(read_all(&store, LOG, 0, 0).unwrap().len(), 2_000);
    append(&store, LOG, &[batch(LOG, 2_000, &[1; 20], 50)]).unwrap();
    assert_in_order(&store);
}

/// A small generator, so that a run can be repeated from its seed.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// Changes some bytes of a closed store: a bit, a few bytes, a page of zeros, two pages for one another, the end.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    const PAGE: usize = 4_096;
    let pages = bytes.len() / PAGE;
    let page = random.next(pages) * PAGE;
    match random.next(10) {
        0 => bytes.truncate(random.next(bytes.len())),
        1 => bytes[page..page + PAGE].fill(0),
        2 => {
            let other = random.next(pages) * PAGE;
            bytes.copy_within(other..other + PAGE, page);
        }
        3 => {
            for _ in 0..8 {
                let at = random.next(bytes.len());
                bytes[at] = u8::try_from(random.next(256)).unwrap();
            }
        }
        _ => {
            // Most of the file is free: aim at what is in use.
            let at = loop {
                let at = random.next(bytes.len());
                if bytes[at] != 0 || random.next(64) == 0 {
                    break at;
                }
            };
            bytes[at] ^= 1 << random.next(8);
        }
    }
}

#[test]
fn a_damaged_store_gives_what_was_stored_or_an_error() {
    let (sim, disk) = sim();
    let store = create_and_open(&disk);
    let logs: Vec<_> = (0..3).map(|partition| LogId { partition, ..LOG }).collect();
    let mut expected: Vec<Vec<Record>> = vec![Vec::new(); logs.len()];
    store.update(Purpose::Grow, |update| update.put_topic(&topic(0))).unwrap();
    for round in 0..6 {
        for ((log, expected), compression_type) in
            logs.iter().zip(&mut expected).zip(compression_types().iter().cycle())
        {
            let batch = batch(*log, round * 30, &(0..30).map(|i| i * 7 % 13).collect::<Vec<_>>(), 300);
            expected.extend(records(&batch));
            append_by(*compression_type, &store, *log, &[batch]).unwrap();
        }
    }
    let groups: Vec<_> = (0..30).map(|i| format!("group-{i}")).collect();
    let commits = |group: &String| logs.iter().map(|log| commit(group, *log, 30)).collect::<Vec<_>>();
    change_groups(&store, groups.iter().flat_map(commits).chain(groups.iter().map(|group| set_state(group, 1))));
    let read_groups =
        |store: &Store| groups.iter().map(|group| store.read_group(&name(group))).collect::<Result<Vec<_>>>();
    let expected_groups = read_groups(&store).unwrap();
    let catalogue = store.load().unwrap();
    store.close().unwrap();
    let sound = sim.bytes(PATH).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged");
    let disk: Arc<dyn Disk> = Arc::new(Bytes);
    let (mut refused, mut right) = (0, 0);
    for seed in 0..2_000 {
        let mut bytes = sound.clone();
        damage(&mut bytes, &mut Random(seed));
        std::fs::write(&path, &bytes).unwrap();
        let use_all = || -> Result<()> {
            let store = Store::open(&disk, &path, OPTIONS)?;
            let loaded = store.load()?;
            assert_eq!((&loaded.topics, &loaded.partitions), (&catalogue.topics, &catalogue.partitions), "seed {seed}");
            for (log, expected) in logs.iter().zip(&expected) {
                assert_eq!(&read_all(&store, *log, 0, 20_000)?, expected, "seed {seed}");
            }
            assert_eq!(read_groups(&store)?, expected_groups, "seed {seed}");
            if seed % 4 == 0 {
                store.check()?;
            }
            let behind = expected.iter().map(|records| records.len() as u64);
            for (log, end) in logs.iter().zip(behind) {
                append(&store, *log, &[batch(*log, end, &[9; 40], 200)])?;
                store.update(Purpose::Free, |update| {
                    update.set_log_start(*log, Offset::new(end / 2))?;
                    update.free_below_log_start(*log, 100)
                })?;
            }
            store.vacuum()
        };
        match use_all() {
            Ok(()) => right += 1,
            Err(error) => {
                // Of all pages, redb's header alone is not proven.
                let is_header = bytes.len() < 4_096 || bytes[..4_096] != sound[..4_096];
                assert!(is_header || !error.to_string().contains("panicked"), "seed {seed}: {error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 200 && right > 200, "{refused} refused, {right} right");
}

/// The operating system's disk without syncs, which only cost time here, and without a ballast.
#[derive(Debug)]
struct Bytes;

impl Disk for Bytes {
    fn open(&self, path: &Path, mode: OpenMode) -> std::io::Result<Arc<dyn crate::disk::DiskFile>> {
        if path.to_string_lossy().ends_with("-reserve") {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        OsDisk.open(path, mode)
    }

    fn exists(&self, path: &Path) -> std::io::Result<bool> {
        OsDisk.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        OsDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        OsDisk.remove(path)
    }

    fn sync_dir(&self, _file: &Path) -> std::io::Result<()> {
        Ok(())
    }
}
