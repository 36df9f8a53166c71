//! Goal: a part of a chunk gives what the whole chunk gives, and damage costs no more than the section that it is in.

use super::super::index::IndexRow;
use super::super::schema::{INDEX, chunk_key, decode_row, encode_row};
use super::*;
use crate::codec::{Reader, Sections};
use redb::ReadableTable;

/// Records of 1 KiB, 31 to a chunk, 4 to a section.
fn store_of(records: usize) -> Store {
    let store = new_store();
    append(&store, LOG, &[batch(LOG, 0, &vec![1; records], 1_021)]).unwrap();
    store
}

fn row(store: &Store, offset: u64) -> IndexRow {
    store.view(|snapshot| Ok(snapshot.chunk_with(LOG, Offset::new(offset))?.unwrap().1)).unwrap()
}

/// Flips a bit in the middle of the records' bytes from `offset` on.
fn damage(store: &Store, offset: u64) {
    let row = row(store, offset);
    let handle = store.handle();
    let mut bytes = handle.read_extent(row.extent(), row.bytes as usize).unwrap();
    let value: Vec<u8> = offset.to_le_bytes().repeat(20);
    let at = bytes.windows(value.len()).position(|window| window == value).unwrap();
    bytes[at + 70] ^= 1;
    handle.medium().unwrap().file().write(row.extent(), &bytes).unwrap();
}

fn read(store: &Store, from: u64, max_bytes: usize) -> Result<Vec<u64>> {
    let mut batches = Vec::new();
    store.read(LOG, TOPIC, (Offset::new(from), Offset::new(100)), max_bytes, &mut batches)?;
    Ok(batches.iter().flat_map(|batch| records(batch)).map(|(offset, ..)| offset).collect())
}

fn next_section(store: &Store, offset: u64) -> Option<u64> {
    store.next_section(LOG, Offset::new(offset)).unwrap().map(Offset::get)
}

#[test]
fn no_more_is_read_than_is_wanted() {
    let store = store_of(100);
    let offsets = |from, max_bytes| read(&store, from, max_bytes).unwrap();
    assert_eq!(offsets(10, 1), [8, 9, 10, 11]);
    assert_eq!(offsets(31, 5_000), (31..39).collect::<Vec<_>>());
    assert_eq!(offsets(29, 20_000), [28, 29, 30]);
    assert_eq!(offsets(10, 40_000), (0..62).collect::<Vec<_>>());
    let next = [3, 4, 29, 99].map(|offset| next_section(&store, offset));
    assert_eq!(next, [Some(4), Some(8), Some(31), None]);
    for max_bytes in [1, 5_000, 40_000] {
        let all = read_all(&store, LOG, 0, max_bytes).unwrap();
        assert_eq!(all.iter().map(|(offset, ..)| *offset).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    }
    assert_eq!(store.check().unwrap().findings, [""; 0]);
}

#[test]
fn what_is_sound_in_a_damaged_chunk_is_read() {
    let store = store_of(100);
    [41, 50, 54].iter().for_each(|offset| damage(&store, *offset));
    for max_bytes in [1, 5_000, usize::MAX] {
        assert_eq!(read(&store, 35, max_bytes).unwrap()[0], 35);
        for lost in [39, 42, 47, 54] {
            let error = read(&store, lost, max_bytes).unwrap_err();
            assert!(error.to_string().contains("checksum"), "{error}");
        }
        assert_eq!(read(&store, 45, max_bytes).unwrap(), [43, 44, 45, 46]);
        assert_eq!(read(&store, 55, max_bytes).unwrap()[..4], [55, 56, 57, 58]);
    }
    let findings = store.check().unwrap().findings;
    let lost = |first: u64, last: u64| {
        findings.iter().any(|found| found.contains(&format!("offsets {first} to {last} can't")))
    };
    assert!(findings.len() == 2 && lost(39, 42) && lost(47, 54), "{findings:?}");
}

/// Lets the row of the first chunk tell of other sections.
fn forge_sections(store: &Store, sections: Sections) {
    forge(store, |transaction| {
        let key = chunk_key(LOG, Offset::ZERO);
        let mut table = transaction.open_table(INDEX).redb()?;
        let row = table.get(key).redb()?.map(|row| decode_row::<IndexRow>(&key, row.value())).unwrap()?;
        table.insert(key, encode_row(&key, &IndexRow { sections, ..row }).as_slice()).redb().map(drop)
    });
}

/// A row can be sound and tell of sections that the chunk does not have, or of sound ones at another time.
#[test]
fn a_row_that_lies_about_sections_is_found() {
    let store = store_of(62);
    let mut bytes = Vec::new();
    row(&store, 0).sections.encode(&mut bytes);
    assert_eq!(bytes[6..8], [4, 0], "offsets that the first section covers, and how much younger it ends");
    bytes[7] = 2;
    forge_sections(&store, Sections::decode(&mut Reader::new(&bytes), usize::MAX, u64::MAX).unwrap());
    let findings = store.check().unwrap().findings;
    assert!(findings.len() == 1 && findings[0].contains("its row in `index` says something else"), "{findings:?}");

    forge_sections(&store, row(&store, 31).sections);
    let error = read(&store, 5, 1).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
    assert_eq!(read(&store, 5, usize::MAX).unwrap().len(), 62);
    let findings = store.check().unwrap().findings;
    assert!(findings.len() == 1 && findings[0].contains("its row in `index` says something else"), "{findings:?}");
}
