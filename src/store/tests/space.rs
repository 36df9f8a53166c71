//! Goal: no chunk is written over while somebody may read it, or while a crash could bring it back; and what is free is used
//! again, whatever became of the update that freed it. Every test ends with a check, which finds blocks with two uses.

use super::super::extent::Extent;
use super::super::index::IndexRow;
use super::super::schema::{META, MetaRow, decode_row, encode_row};
use super::super::space::{FREE, FreeRow, SpaceRow};
use redb::ReadableTable;

use super::*;

/// A chunk of its own, and the blocks of it.
const CHUNK: usize = 40_000;
const BLOCKS: u64 = 10;

fn put(store: &Store, base: u64) {
    append(store, LOG, &[batch(LOG, base, &[base as i64], CHUNK)]).unwrap();
}

fn row(store: &Store, offset: u64) -> IndexRow {
    store.view(|snapshot| Ok(snapshot.chunk_with(LOG, Offset::new(offset))?.unwrap().1)).unwrap()
}

fn free(store: &Store) -> Vec<Extent> {
    let rows = |snapshot: &Snapshot<'_>| {
        let table = snapshot.open_table(FREE).redb()?;
        let row = |entry: std::result::Result<_, redb::StorageError>| {
            let (first, row): (redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, &'static [u8]>) = entry.redb()?;
            let first = first.value();
            Ok(Extent { first, blocks: decode_row::<FreeRow>(&first, row.value())?.blocks })
        };
        table.iter().redb()?.map(row).collect()
    };
    store.view(rows).unwrap()
}

fn used(store: &Store) -> SpaceRow {
    store
        .view(|snapshot| Ok(super::super::read::meta(&snapshot.open_table(META).redb()?)?.unwrap_or_default()))
        .unwrap()
}

/// There is no block that nobody knows of.
fn assert_adds_up(store: &Store) {
    let (parts, end_of_parts) = store.handle().medium().unwrap().file().parts();
    let SpaceRow { end, used } = used(store);
    let known = parts.iter().chain(&free(store)).map(|extent| extent.blocks).sum::<u64>();
    assert_eq!(2 + known + used, end.max(end_of_parts));
    assert_in_order(store);
}

#[test]
fn freed_blocks_rest_while_somebody_reads_and_are_used_again_then() {
    let store = new_store();
    put(&store, 0);
    put(&store, 1);
    let old = row(&store, 0);
    let handle = store.handle();
    let snapshot = Snapshot::of(&handle).unwrap();
    let (key, known) = snapshot.chunk_with(LOG, Offset::ZERO).unwrap().unwrap();
    store.update(Purpose::Free, |update| update.set_log_start(LOG, Offset::new(1))).unwrap();
    store.update(Purpose::Free, |update| update.free_below_log_start(LOG, 10)).unwrap();
    assert_eq!(free(&store), [old.extent()]);
    put(&store, 2);
    assert_ne!(row(&store, 2).block, old.block);
    let read = records(&snapshot.read_chunk(&known.chunk(key), TOPIC).unwrap());
    assert_eq!(read, records(&batch(LOG, 0, &[0], CHUNK)));
    // Who comes later holds nothing up.
    let later = Snapshot::of(&handle).unwrap();
    drop(snapshot);
    put(&store, 3);
    assert_eq!(row(&store, 3).block, old.block);
    assert_eq!(free(&store), []);
    drop(later);
    drop(handle);
    assert_in_order(&store);
}

#[test]
fn an_update_that_is_refused_takes_nothing_and_gives_nothing() {
    let store = new_store();
    put(&store, 0);
    let before = (used(&store), free(&store));
    for _ in 0..3 {
        let refused: Result<()> = store.update(Purpose::Grow, |update| {
            update.append(LOG, TOPIC, LAYOUT, [&batch(LOG, 1, &[1], CHUNK)])?;
            update.set_log_start(LOG, Offset::new(1))?;
            update.free_below_log_start(LOG, 10)?;
            Err(Error::illegal_state("no"))
        });
        assert!(refused.is_err());
        assert_eq!((used(&store), free(&store)), before);
        assert_in_order(&store);
    }
    put(&store, 1);
    assert_eq!(used(&store).used, before.0.used + BLOCKS);
    assert_eq!(read_all(&store, LOG, 0, 0).unwrap().len(), 2);
    assert_adds_up(&store);
}

/// What a crash or a moved part leaves: blocks that no row tells of.
#[test]
fn blocks_that_nobody_knows_of_are_found_by_the_next_update() {
    let store = new_store();
    (0..5).for_each(|base| put(&store, base));
    delete_below(&store, LOG, 3, 10);
    let known = free(&store);
    assert_eq!(known.iter().map(|extent| extent.blocks).sum::<u64>(), 3 * BLOCKS);
    forge(&store, |transaction| {
        let mut table = transaction.open_table(FREE).redb()?;
        table.retain(|_, _| false).redb()
    });
    assert_eq!(free(&store), []);
    reopen(&store);
    store.writer.lock().space.doubt();
    put(&store, 5);
    assert_eq!(row(&store, 5).extent(), Extent { first: known[0].first, blocks: BLOCKS });
    assert_eq!(free(&store).iter().map(|extent| extent.blocks).sum::<u64>(), 2 * BLOCKS);
    assert_adds_up(&store);
}

/// A moved part whose old place is not free yet, and whose new one still is; or a bug.
#[test]
fn blocks_that_are_free_and_in_use_are_found_and_not_written_to() {
    for of_a_part in [true, false] {
        let store = new_store();
        (0..3).for_each(|base| put(&store, base));
        let extent = if of_a_part { Extent { first: 2, blocks: 1 } } else { row(&store, 1).extent() };
        forge(&store, |transaction| {
            let row = encode_row(&extent.first, &FreeRow { blocks: extent.blocks });
            transaction.open_table(FREE).redb()?.insert(extent.first, row.as_slice()).redb().map(drop)
        });
        let findings = store.check().unwrap().findings;
        assert!(findings.iter().any(|finding| finding.contains("are free, and in use as well")), "{findings:?}");
        store.writer.lock().space.doubt();
        (3..6).for_each(|base| put(&store, base));
        assert_eq!(read_all(&store, LOG, 0, 0).unwrap().len(), 6);
        assert_adds_up(&store);
    }
}

#[test]
fn a_check_finds_blocks_that_are_counted_wrongly() {
    let store = new_store();
    put(&store, 0);
    forge(&store, |transaction| {
        let row = encode_row(&(), &SpaceRow { end: 5, used: 3 });
        transaction.open_table(META).redb()?.insert(SpaceRow::NAME, row.as_slice()).redb().map(drop)
    });
    let findings = store.check().unwrap().findings;
    assert!(findings.iter().any(|finding| finding.contains("its blocks are in use otherwise")), "{findings:?}");
    assert!(findings.iter().any(|finding| finding.contains("take 10 blocks, and are said to take 3")), "{findings:?}");
}

#[test]
fn a_file_ends_with_what_is_in_use_when_it_is_closed() {
    let (sim, disk) = sim();
    let store = create_and_open(&disk);
    store.update(Purpose::Grow, |update| update.put_topic(&topic(0))).unwrap();
    (0..20).for_each(|base| put(&store, base));
    let long = sim.bytes(PATH).unwrap().len();
    delete_below(&store, LOG, 20, 100);
    store.update(Purpose::Free, |_| Ok(())).unwrap();
    store.close().unwrap();
    let short = sim.bytes(PATH).unwrap().len();
    assert!(short + 19 * CHUNK < long, "{short} of {long}");
    drop(store);
    let store = Store::open(&disk, Path::new(PATH), OPTIONS).unwrap();
    put(&store, 20);
    assert_in_order(&store);
}

#[test]
fn a_vacuum_moves_chunks_to_the_front_and_they_read_as_before() {
    let (sim, disk) = sim();
    let store = create_and_open(&disk);
    store
        .update(Purpose::Grow, |update| update.put_topic(&topic(0)).and_then(|()| update.put_topic(&topic(1))))
        .unwrap();
    let kept = log(1, 0);
    for base in 0..30 {
        put(&store, base);
        append(&store, kept, &[batch(kept, base, &[1], 5_000)]).unwrap();
    }
    let expected = read_all(&store, kept, 0, 0).unwrap();
    delete_below(&store, LOG, 30, 7);
    store.vacuum().unwrap();
    let len = sim.bytes(PATH).unwrap().len();
    let used = used(&store);
    assert!(len < 30 * 8_192 + (1 << 20), "{len}, {:?}, {used:?}", store.handle().medium().unwrap().file().parts());
    assert_eq!(used.used, partition(&store, kept).chunks * 2);
    let unused = free(&store).iter().map(|extent| extent.blocks).sum::<u64>();
    assert!(unused < 2, "no chunk fits into {unused} blocks");
    assert_eq!(read_all(&store, kept, 0, 0).unwrap(), expected);
    assert_in_order(&store);
    store.vacuum().unwrap();
    assert_eq!(sim.bytes(PATH).unwrap().len(), len);
    store.close().unwrap();
    drop(store);
    let store = Store::open(&disk, Path::new(PATH), OPTIONS).unwrap();
    assert_eq!(read_all(&store, kept, 0, 0).unwrap(), expected);
    assert_in_order(&store);
}

#[test]
fn a_power_loss_at_any_point_of_a_vacuum_loses_nothing() {
    let (sim, disk) = sim();
    let store = create_and_open(&disk);
    store.update(Purpose::Grow, |update| update.put_topic(&topic(0))).unwrap();
    (0..12).for_each(|base| put(&store, base));
    delete_below(&store, LOG, 8, 100);
    let first = sim.operations();
    store.vacuum().unwrap();
    put(&store, 12);
    for at in first..=sim.operations() {
        for (label, image) in sim.images(at, at as u64) {
            let disk: Arc<dyn Disk> = Arc::new(image);
            let store = Store::open(&disk, Path::new(PATH), OPTIONS).unwrap_or_else(|error| panic!("{label}: {error}"));
            let end = partition(&store, LOG).end.get();
            assert!(end == 12 || end == 13, "{label}");
            for step in 0..2 {
                let read = read_all(&store, LOG, 8, 0).unwrap_or_else(|error| panic!("{label}: {error}"));
                assert!(read.iter().map(|record| record.0).eq(8..end + step), "{label}");
                put(&store, end + step);
                let findings = store.check().unwrap().findings;
                assert!(findings.is_empty(), "{label}: {findings:?}");
            }
        }
    }
}

#[test]
fn what_is_freed_is_used_again_round_after_round() {
    let (sim, disk) = sim();
    let store = create_and_open(&disk);
    store.update(Purpose::Grow, |update| update.put_topic(&topic(0))).unwrap();
    let mut lengths = Vec::new();
    for base in 0..200 {
        put(&store, base);
        if base >= 10 {
            store.update(Purpose::Free, |update| update.set_log_start(LOG, Offset::new(base - 9))).unwrap();
            store.update(Purpose::Free, |update| update.free_below_log_start(LOG, 10)).unwrap();
        }
        lengths.push(sim.bytes(PATH).unwrap().len());
    }
    assert!(lengths[199] <= lengths[20] + 2 * CHUNK, "{} became {}", lengths[20], lengths[199]);
    assert_in_order(&store);
}

/// As when a reader meets an I/O error: the file is opened anew, and its end with it.
#[test]
fn a_file_opened_anew_between_updates_keeps_what_it_has() {
    let (sim, disk) = sim();
    let store = create_and_open(&disk);
    store.update(Purpose::Grow, |update| update.put_topic(&topic(0))).unwrap();
    let mut start = 0;
    for base in 0..60 {
        put(&store, base);
        if base % 3 == 0 {
            reopen(&store);
        }
        if base % 7 == 6 {
            start = if base % 2 == 0 { base + 1 } else { base - 2 };
            delete_below(&store, LOG, start, 100);
            reopen(&store);
        }
        if base % 13 == 12 {
            store.vacuum().unwrap();
            reopen(&store);
        }
        assert!(read_all(&store, LOG, start, 0).unwrap().iter().map(|record| record.0).eq(start..=base));
        assert_in_order(&store);
    }
    assert_adds_up(&store);
    store.close().unwrap();
    drop(store);
    assert!(sim.bytes(PATH).unwrap().len() < 20 * CHUNK + (1 << 20));
    let store = Store::open(&disk, Path::new(PATH), OPTIONS).unwrap();
    assert!(read_all(&store, LOG, start, 0).unwrap().iter().map(|record| record.0).eq(start..60));
    assert_in_order(&store);
}

#[test]
fn a_root_that_can_not_be_read_once_keeps_no_store_from_opening() {
    for nth in 0..4 {
        let (sim, disk) = sim();
        let store = create_and_open(&disk);
        store.update(Purpose::Grow, |update| update.put_topic(&topic(0))).unwrap();
        put(&store, 0);
        store.close().unwrap();
        drop(store);
        sim.fail(fault(Op::Read, nth, std::io::ErrorKind::Other, Repeat::Once));
        let store = Store::open(&disk, Path::new(PATH), OPTIONS).unwrap_or_else(|error| panic!("read {nth}: {error}"));
        sim.clear_faults();
        assert_eq!(read_all(&store, LOG, 0, 0).unwrap().len(), 1);
        assert_in_order(&store);
    }
}

/// Under checksums that are right.
#[test]
fn rows_that_lie_about_blocks_are_damage_and_nothing_is_written_there() {
    let lies: [(u64, u64); 4] = [(0, 1), (4, 0), (1 << 48, 1), (9, u64::MAX)];
    for (first, blocks) in lies {
        let store = new_store();
        put(&store, 0);
        forge(&store, |transaction| {
            let row = encode_row(&first, &FreeRow { blocks });
            transaction.open_table(FREE).redb()?.insert(first, row.as_slice()).redb().map(drop)
        });
        store.writer.lock().space.doubt();
        let refused = append(&store, LOG, &[batch(LOG, 1, &[1], CHUNK)]);
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{first}, {blocks}: {refused:?}");
        assert!(!store.check().unwrap().findings.is_empty());
        assert_eq!(read_all(&store, LOG, 0, 0).unwrap().len(), 1);
    }
    for (end, used) in [(1 << 52, 0), (0, u64::MAX)] {
        let store = new_store();
        put(&store, 0);
        forge(&store, |transaction| {
            let row = encode_row(&(), &SpaceRow { end, used });
            transaction.open_table(META).redb()?.insert(SpaceRow::NAME, row.as_slice()).redb().map(drop)
        });
        store.writer.lock().space.doubt();
        let refused = append(&store, LOG, &[batch(LOG, 1, &[1], CHUNK)]);
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{end}, {used}: {refused:?}");
        assert_eq!(read_all(&store, LOG, 0, 0).unwrap().len(), 1);
    }
}

/// A chunk that is said to lie where the root does.
#[test]
fn a_chunk_on_other_blocks_than_a_chunk_can_have_is_not_freed() {
    for block in [0, 2, 1 << 40] {
        let store = new_store();
        (0..2).for_each(|base| put(&store, base));
        forge(&store, |transaction| {
            let key = super::super::schema::chunk_key(LOG, Offset::ZERO);
            let mut table = transaction.open_table(super::super::schema::INDEX).redb()?;
            let row = table.get(key).redb()?.map(|row| decode_row::<IndexRow>(&key, row.value())).unwrap()?;
            let row = encode_row(&key, &IndexRow { block, ..row });
            table.insert(key, row.as_slice()).redb().map(drop)
        });
        store.update(Purpose::Free, |update| update.set_log_start(LOG, Offset::new(1))).unwrap();
        let refused = store.update(Purpose::Free, |update| update.free_below_log_start(LOG, 10));
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{block}: {refused:?}");
        assert!(!store.check().unwrap().findings.is_empty());
        put(&store, 2);
        assert_eq!(read_all(&store, LOG, 1, 0).unwrap().len(), 2);
    }
}

#[test]
fn a_vacuum_cuts_off_what_is_behind_the_end_also_when_nothing_else_is_to_be_done() {
    let (sim, disk) = sim();
    let store = create_and_open(&disk);
    store.update(Purpose::Grow, |update| update.put_topic(&topic(0))).unwrap();
    (0..20).for_each(|base| put(&store, base));
    delete_below(&store, LOG, 20, 100);
    (0..3).for_each(|_| store.update(Purpose::Free, |_| Ok(())).unwrap());
    let long = sim.bytes(PATH).unwrap().len();
    store.vacuum().unwrap();
    let short = sim.bytes(PATH).unwrap().len();
    assert!(short + 19 * CHUNK < long, "{short} of {long}");
    assert_adds_up(&store);
}
