//! What compaction keeps of a partition: the table of its keys, what they have superseded, and how far it came.
//!
//! The table of keys is a sorted run of entries, cut into blocks. A block lies under the prefix from which on keys belong into
//! it, so the block of a key is the last one that begins at or before the key's prefix; where there is none, the key is not in
//! the table.
//!
//! An entry moves to a newer record in the same update that notes the older one as superseded. So the record that an entry
//! names is there until the entry has moved on, and what is superseded is known also after a crash.

use std::ops::Bound;

use redb::{ReadTransaction, ReadableTable, TableDefinition};

use super::open::Store;
use super::read::{chunks_of, decode_entry, partition};
use super::schema::{
    ChunkKey, LogKey, Row, bytes_of_chunk_key, bytes_of_log_key, chunk_of, damaged_row, decode_row, encode_row,
    log_key, log_of, offset, row_fields,
};
use super::trouble::FromRedb;
use super::update::Update;
use crate::codec::{DecodeError, Place, Reader, RecordBatch, Writer};
use crate::compaction::{Expired, Horizon, Horizons, KeyEntry, KeyHash, merge};
use crate::error::{Error, Result};
use crate::types::{LogId, Offset, TopicId};

/// Keyed by the partition and the prefix from which on keys lie in a block.
pub(super) const KEYS: TableDefinition<'static, ChunkKey, &'static [u8]> = TableDefinition::new("brooklet:keys");
/// Keyed by the partition and a running number.
pub(super) const SUPERSEDED: TableDefinition<'static, ChunkKey, &'static [u8]> =
    TableDefinition::new("brooklet:superseded");
pub(super) const COMPACTIONS: TableDefinition<'static, LogKey, &'static [u8]> =
    TableDefinition::new("brooklet:compactions");

/// Words of an entry.
const ENTRY_WORDS: usize = 3;
/// Entries of a full block: with redb's overhead it is just under 8 KiB.
const BLOCK_ENTRIES: usize = 330;
/// Entries of a block that one was split into: it has room for more.
const SPLIT_ENTRIES: usize = BLOCK_ENTRIES * 3 / 4;
/// New entries that are merged into one block at once.
const MERGED_AT_ONCE: usize = 16 * SPLIT_ENTRIES;

/// A block of the table of keys, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyBlock(pub(super) Vec<KeyEntry>);

impl Row for KeyBlock {
    const PLACE: &'static str = "keys";
    type Key = ChunkKey;

    fn key_bytes(key: &ChunkKey) -> impl AsRef<[u8]> {
        bytes_of_chunk_key(*key)
    }

    fn key_words(key: &ChunkKey) -> String {
        format!("{}, keys from {:x} on", chunk_of(*key).0, key.2)
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        for entry in &self.0 {
            entry.to_words().into_iter().for_each(|word| out.put_u64(word));
        }
    }

    fn decode_fields(key: &ChunkKey, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut entries = Vec::with_capacity(reader.remaining().len() / (ENTRY_WORDS * size_of::<u64>()));
        while !reader.is_empty() {
            let entry = KeyEntry::from_words([reader.u64()?, reader.u64()?, reader.u64()?]);
            let follows = entries.last().is_none_or(|before: &KeyEntry| before.key < entry.key);
            if !follows || entry.key.prefix < key.2 {
                return Err(DecodeError("its keys are out of order"));
            }
            entries.push(entry);
        }
        Ok(Self(entries))
    }
}

impl KeyBlock {
    /// The entry of a key in the bytes of a block, of which nothing else is decoded.
    fn find(from: &ChunkKey, bytes: &[u8], key: KeyHash) -> Result<Option<KeyEntry>> {
        let (words, behind) = row_fields::<Self>(from, bytes)?.as_chunks::<{ size_of::<u64>() }>();
        let (entries, incomplete) = words.as_chunks::<ENTRY_WORDS>();
        if !behind.is_empty() || !incomplete.is_empty() {
            return Err(damaged_row::<Self>(from, "its last entry is incomplete"));
        }
        let entry = |words: &[[u8; 8]; ENTRY_WORDS]| KeyEntry::from_words(words.map(u64::from_le_bytes));
        let found = entries.binary_search_by_key(&key, |words| entry(words).key);
        Ok(found.ok().and_then(|at| entries.get(at)).map(entry))
    }
}

/// Records that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SupersededRow {
    /// Where the pass began that found them.
    pub(super) since: Offset,
    /// Sorted, each once.
    pub(super) offsets: Vec<Offset>,
}

impl Row for SupersededRow {
    const PLACE: &'static str = "superseded";
    type Key = ChunkKey;

    fn key_bytes(key: &ChunkKey) -> impl AsRef<[u8]> {
        bytes_of_chunk_key(*key)
    }

    fn key_words(key: &ChunkKey) -> String {
        format!("{}, number {}", chunk_of(*key).0, key.2)
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        out.put_u64(self.since.get());
        let mut next = Offset::ZERO;
        for offset in &self.offsets {
            out.put_varint(offset.get().saturating_sub(next.get()));
            next = offset.next();
        }
    }

    fn decode_fields(_key: &ChunkKey, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let since = offset(reader)?;
        let mut offsets = Vec::new();
        let mut next = 0_u64;
        while !reader.is_empty() {
            let offset = next.checked_add(reader.varint()?).filter(|offset| *offset <= Offset::MAX.get());
            let offset = offset.ok_or(DecodeError("an offset exceeds 2^63 - 1"))?;
            offsets.push(Offset::new(offset));
            next = offset.saturating_add(1);
        }
        Ok(Self { since, offsets })
    }
}

/// How far compaction came in a partition. The default is that of one that never was compacted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Compaction {
    /// The table of keys is that of all records below.
    pub(crate) compacted: Offset,
    /// Keys in the table, those of tombstones and of records below the log start included.
    pub(crate) keys: u64,
    /// What lay below this log start has left the table.
    pub(crate) swept: Offset,
    /// When the last pass came to its end, in milliseconds since the epoch.
    pub(crate) last_ms: Option<i64>,
    pub(crate) horizons: Horizons,
}

impl Row for Compaction {
    const PLACE: &'static str = "compactions";
    type Key = LogKey;

    fn key_bytes(key: &LogKey) -> impl AsRef<[u8]> {
        bytes_of_log_key(*key)
    }

    fn key_words(key: &LogKey) -> String {
        log_of(*key).to_string()
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        out.put_u64(self.compacted.get());
        out.put_u64(self.keys);
        out.put_u64(self.swept.get());
        out.push(u8::from(self.last_ms.is_some()));
        out.put_i64(self.last_ms.unwrap_or(0));
        for horizon in &self.horizons.0 {
            out.put_u64(horizon.end.get());
            out.put_i64(horizon.at_ms);
        }
    }

    fn decode_fields(_key: &LogKey, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (compacted, keys, swept) = (offset(reader)?, reader.u64()?, offset(reader)?);
        let last_ms = match (reader.u8()?, reader.i64()?) {
            (0, _) => None,
            (1, last_ms) => Some(last_ms),
            _ => return Err(DecodeError("a time is neither there nor not")),
        };
        let mut horizons = Vec::new();
        while !reader.is_empty() {
            horizons.push(Horizon { end: offset(reader)?, at_ms: reader.i64()? });
        }
        Ok(Self { compacted, keys, swept, last_ms, horizons: Horizons(horizons) })
    }
}

/// How far the merge of new entries into a table came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct MergeCursor {
    /// New entries that are in the table.
    pub(crate) merged: usize,
    /// The prefix at which a merge that looks at all blocks goes on.
    next: u64,
}

/// Which blocks a merge looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocks {
    /// Those that new entries belong into.
    Touched,
    /// All of them: something in them may have expired.
    All,
}

/// What a merge is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyMerge<'a> {
    /// Sorted by key, each key once.
    pub(crate) new: &'a [KeyEntry],
    /// Where the pass began.
    pub(crate) since: Offset,
    pub(crate) expired: Expired,
    pub(crate) blocks: Blocks,
}

impl Update<'_> {
    /// One step of entering keys into a partition's table: about `most` blocks are written. What leaves the table is noted as
    /// superseded. `None` when all are in it.
    pub(crate) fn merge_keys(
        &mut self,
        log: LogId,
        what: &KeyMerge<'_>,
        mut cursor: MergeCursor,
        most: usize,
    ) -> Result<Option<MergeCursor>> {
        let mut row = self.compaction(log)?;
        let mut superseded = Vec::new();
        let mut written = 0;
        let mut more = true;
        while more && written < most {
            let new = what.new.get(cursor.merged..).unwrap_or_default();
            let prefix = match (what.blocks, new.first()) {
                (Blocks::All, _) => cursor.next,
                (Blocks::Touched, Some(entry)) => entry.key.prefix,
                (Blocks::Touched, None) => break,
            };
            let (key, old) = self.block_at(log, prefix)?;
            let next_block = self.block_behind(key)?;
            let here = new.partition_point(|entry| next_block.is_none_or(|next| entry.key.prefix < next.2));
            let taken = new.get(..here.min(MERGED_AT_ONCE)).unwrap_or_default();
            let block = merge(&old, taken, what.expired, &mut superseded);
            row.keys = row.keys.saturating_add(block.len() as u64).saturating_sub(old.len() as u64);
            if block != old {
                written += self.put_blocks(key, &block)?;
            } else {
                // It was read, which takes time as well.
                written += 1;
            }
            cursor.merged += taken.len();
            let rest = new.get(taken.len()..).unwrap_or_default();
            more = match (taken.len() < here, next_block) {
                (true, _) => {
                    cursor.next = rest.first().map_or(u64::MAX, |entry| entry.key.prefix);
                    true
                }
                (false, Some(next)) => {
                    cursor.next = next.2;
                    what.blocks == Blocks::All || !rest.is_empty()
                }
                (false, None) => false,
            };
        }
        self.add_superseded(log, what.since, superseded)?;
        self.put_compaction(log, &row)?;
        let ended = !more || (what.blocks == Blocks::Touched && cursor.merged >= what.new.len());
        Ok((!ended).then_some(cursor))
    }

    /// The block that keys of this prefix belong into, and its entries. Where there is none yet, an empty one in front.
    fn block_at(&self, log: LogId, prefix: u64) -> Result<(ChunkKey, Vec<KeyEntry>)> {
        let (topic, partition) = log_key(log);
        let blocks = self.tables.keys.range((topic, partition, 0)..=(topic, partition, prefix)).redb()?.next_back();
        match blocks.map(decode_entry::<KeyBlock>).transpose()? {
            Some((key, KeyBlock(entries))) => Ok((key, entries)),
            None => Ok(((topic, partition, 0), Vec::new())),
        }
    }

    /// The key of the block behind that one.
    fn block_behind(&self, (topic, partition, prefix): ChunkKey) -> Result<Option<ChunkKey>> {
        let Some(behind) = prefix.checked_add(1) else { return Ok(None) };
        let next = self.tables.keys.range((topic, partition, behind)..=(topic, partition, u64::MAX)).redb()?.next();
        next.map(|entry| entry.redb().map(|(key, _)| key.value())).transpose()
    }

    /// Writes entries as the block at `key`, and as more of them behind it when they are too many for one. Gives their number.
    fn put_blocks(&mut self, key: ChunkKey, entries: &[KeyEntry]) -> Result<usize> {
        if entries.is_empty() {
            self.tables.keys.remove(key).redb()?;
            return Ok(1);
        }
        let each = if entries.len() > BLOCK_ENTRIES { SPLIT_ENTRIES } else { BLOCK_ENTRIES };
        let (mut rest, mut at, mut count) = (entries, key, 0);
        while !rest.is_empty() {
            let mut cut = each.min(rest.len());
            // Keys of one prefix stay together.
            while let (Some(last), Some(next)) = (rest.get(cut.saturating_sub(1)), rest.get(cut))
                && last.key.prefix == next.key.prefix
            {
                cut += 1;
            }
            let (block, behind) = rest.split_at_checked(cut).unwrap_or((rest, &[]));
            self.tables.keys.insert(at, encode_row(&at, &KeyBlock(block.to_vec())).as_slice()).redb()?;
            count += 1;
            rest = behind;
            if let Some(first) = rest.first() {
                at = (key.0, key.1, first.key.prefix);
            }
        }
        Ok(count)
    }

    /// Notes records that may go, of the pass that began at `since`.
    pub(crate) fn add_superseded(&mut self, log: LogId, since: Offset, mut offsets: Vec<Offset>) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        offsets.sort_unstable();
        offsets.dedup();
        let number = {
            let last = self.tables.superseded.range(chunks_of(log)).redb()?.next_back();
            last.transpose().redb()?.map_or(0, |(key, _)| key.value().2.saturating_add(1))
        };
        let key = (log.topic.0, log.partition, number);
        let row = encode_row(&key, &SupersededRow { since, offsets });
        self.tables.superseded.insert(key, row.as_slice()).redb().map(drop)
    }

    /// Forgets the first superseded records that were noted, up to the row of this number: they are gone.
    pub(crate) fn forget_superseded(&mut self, log: LogId, up_to: u64) -> Result<()> {
        let (topic, partition) = log_key(log);
        let rows = (topic, partition, 0)..=(topic, partition, up_to);
        self.tables.superseded.retain_in(rows, |_, _| false).redb()
    }

    /// How far compaction came in a partition.
    pub(crate) fn compaction(&self, log: LogId) -> Result<Compaction> {
        let key = log_key(log);
        match self.tables.compactions.get(key).redb()? {
            Some(bytes) => decode_row(&key, bytes.value()),
            None => Ok(Compaction::default()),
        }
    }

    pub(crate) fn put_compaction(&mut self, log: LogId, row: &Compaction) -> Result<()> {
        let key = log_key(log);
        self.tables.compactions.insert(key, encode_row(&key, row).as_slice()).redb().map(drop)
    }
}

/// Superseded records of a partition, of the rows up to a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Superseded {
    /// Sorted, each once.
    pub(crate) offsets: Vec<Offset>,
    pub(crate) up_to: u64,
}

impl Store {
    /// How far compaction came in a partition.
    pub(crate) fn compaction(&self, log: LogId) -> Result<Compaction> {
        self.view(|transaction| compaction(transaction, log))
    }

    /// The superseded records that were noted first and may be dropped: rows until `most` offsets are reached; `None` when there
    /// is no row.
    pub(crate) fn superseded(&self, log: LogId, most: usize) -> Result<Option<Superseded>> {
        self.view(|transaction| {
            let Compaction { compacted, .. } = compaction(transaction, log)?;
            let mut found: Option<Superseded> = None;
            each_superseded(transaction, log, compacted, |number, row| {
                let found = found.get_or_insert(Superseded { offsets: Vec::new(), up_to: number });
                found.offsets.extend(row.offsets);
                found.up_to = number;
                found.offsets.len() < most
            })?;
            if let Some(found) = &mut found {
                found.offsets.sort_unstable();
                found.offsets.dedup();
            }
            Ok(found)
        })
    }

    /// How far the table of a partition's keys reaches, and which records below are not in it although they are still there.
    pub(crate) fn table_of_keys(&self, log: LogId) -> Result<(Offset, Vec<Offset>)> {
        self.view(|transaction| {
            let Compaction { compacted, .. } = compaction(transaction, log)?;
            let mut superseded = Vec::new();
            each_superseded(transaction, log, compacted, |_, row| {
                superseded.extend(row.offsets);
                true
            })?;
            superseded.sort_unstable();
            superseded.dedup();
            Ok((compacted, superseded))
        })
    }

    /// The last record of a key below the end of the last pass, or of the one under way, as a batch of its own. `None` when
    /// there is none, or when it is a tombstone.
    pub(crate) fn latest(&self, log: LogId, topic: TopicId, key: &[u8]) -> Result<Option<RecordBatch>> {
        let hash = KeyHash::of(topic, key);
        self.view(|snapshot| {
            let Some(entry) = find_key(snapshot, log, hash)?.filter(|entry| !entry.is_tombstone()) else {
                return Ok(None);
            };
            if partition(snapshot, log)?.is_some_and(|row| entry.offset() < row.log_start) {
                return Ok(None);
            }
            let found = snapshot.find_record(log, topic, entry.offset())?;
            let is_it = |batch: &RecordBatch| {
                let record = batch.walk(Place::start(&batch.header)).next();
                record.is_some_and(|record| record.offset == entry.offset() && record.key() == Some(key))
            };
            match found.filter(is_it) {
                Some(record) => Ok(Some(record)),
                None => Err(Error::corrupt(format!("{log}, offset {}", entry.offset()), "it has no record of its key")),
            }
        })
    }
}

fn compaction(transaction: &ReadTransaction, log: LogId) -> Result<Compaction> {
    let key = log_key(log);
    let row = transaction.open_table(COMPACTIONS).redb()?.get(key).redb()?;
    row.map_or(Ok(Compaction::default()), |bytes| decode_row(&key, bytes.value()))
}

/// Shows the rows that passes have left which came to their end, as long as `visit` wants more. What a pass under way
/// supersedes stays: below `compacted` it is still the last of its key.
fn each_superseded(
    transaction: &ReadTransaction,
    log: LogId,
    compacted: Offset,
    mut visit: impl FnMut(u64, SupersededRow) -> bool,
) -> Result<()> {
    for entry in transaction.open_table(SUPERSEDED).redb()?.range(chunks_of(log)).redb()? {
        let (key, row) = decode_entry::<SupersededRow>(entry)?;
        if row.since >= compacted || !visit(key.2, row) {
            break;
        }
    }
    Ok(())
}

/// The entry of a key.
pub(super) fn find_key(transaction: &ReadTransaction, log: LogId, key: KeyHash) -> Result<Option<KeyEntry>> {
    let (topic, partition) = log_key(log);
    let table = transaction.open_table(KEYS).redb()?;
    // A range would load what lies at both of its ends.
    let mut cursor = table.upper_bound(Bound::Included((topic, partition, key.prefix))).redb()?;
    let block = cursor.prev().redb()?.filter(|(found, _)| chunk_of(found.value()).0 == log);
    block.map_or(Ok(None), |(from, bytes)| KeyBlock::find(&from.value(), bytes.value(), key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::schema::encode_row;
    use super::super::tests::{LOG, new_store};
    use super::super::{Purpose, Store};
    use super::*;
    use crate::compaction::keep_last;
    use proptest::prelude::*;

    const NOTHING: Expired = Expired { log_start: Offset::ZERO, tombstones: Offset::ZERO };

    fn entry(number: u64, offset: u64, is_tombstone: bool) -> KeyEntry {
        // Keys spread over all prefixes, and some share one.
        let key = KeyHash { prefix: (number / 2).wrapping_mul(0x9e37_79b9_7f4a_7c15), rest: number };
        KeyEntry::new(key, Offset::new(offset), is_tombstone)
    }

    /// Merges in steps, each of few blocks; how many steps it took.
    fn merge_all(store: &Store, new: &[KeyEntry], expired: Expired, blocks: Blocks) -> usize {
        let what = KeyMerge { new, since: Offset::ZERO, expired, blocks };
        let (mut cursor, mut steps) = (Some(MergeCursor::default()), 0);
        while let Some(at) = cursor {
            cursor = store.update(Purpose::Free, |update| update.merge_keys(LOG, &what, at, 3)).unwrap();
            steps += 1;
        }
        steps
    }

    fn all_keys(store: &Store) -> Vec<KeyEntry> {
        let blocks = store.view(|transaction| {
            let table = transaction.open_table(KEYS).redb()?;
            let (topic, partition) = log_key(LOG);
            let all = (topic, partition, 0)..=(topic, partition, u64::MAX);
            table.range(all).redb()?.map(decode_entry::<KeyBlock>).collect::<Result<Vec<_>>>()
        });
        let blocks = blocks.unwrap();
        assert!(blocks.iter().all(|(_, KeyBlock(entries))| (1..=BLOCK_ENTRIES + 1).contains(&entries.len())));
        blocks.into_iter().flat_map(|(_, KeyBlock(entries))| entries).collect()
    }

    #[test]
    fn rows_come_back_and_notice_a_flipped_bit() {
        fn round_trip<R: Row + PartialEq + std::fmt::Debug>(key: R::Key, row: R) {
            let bytes = encode_row(&key, &row);
            assert_eq!(decode_row::<R>(&key, &bytes).unwrap(), row);
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(decode_row::<R>(&key, &damaged).is_err(), "bit {bit}");
            }
        }
        let offsets = vec![Offset::ZERO, Offset::new(1), Offset::new(500), Offset::MAX];
        round_trip((4, 1, 0), SupersededRow { since: Offset::new(3), offsets });
        let mut entries = vec![entry(1, 5, false), entry(2, 6, true), entry(3, Offset::MAX.get(), true)];
        entries.sort_unstable_by_key(|entry| entry.key);
        round_trip((4, 1, 0), KeyBlock(entries.clone()));
        let horizons = Horizons(vec![Horizon { end: Offset::new(9), at_ms: -1 }]);
        let last_ms = Some(4);
        round_trip((4, 1), Compaction { compacted: Offset::new(9), keys: 3, swept: Offset::new(2), last_ms, horizons });
        round_trip((4, 1), Compaction::default());
        entries.reverse();
        let reversed = encode_row(&(4, 1, 0), &KeyBlock(entries));
        assert!(matches!(decode_row::<KeyBlock>(&(4, 1, 0), &reversed), Err(Error::Corrupt { .. })));
    }

    #[test]
    fn many_keys_are_cut_into_blocks_and_found() {
        let store = new_store();
        let mut twin = BTreeMap::new();
        let mut offset = 0;
        for round in 0..6_u64 {
            let keys = (0..3_000).map(|n| (n * (round + 1)) % 7_001);
            let mut new: Vec<_> = keys
                .map(|number| {
                    offset += 1;
                    entry(number, offset, number % 11 == 0)
                })
                .collect();
            keep_last(&mut new, &mut Vec::new());
            let steps = merge_all(&store, &new, NOTHING, Blocks::Touched);
            assert!(round == 0 || steps > 3, "{steps}");
            twin.extend(new.iter().map(|entry| (entry.key, *entry)));
            assert_eq!(all_keys(&store), twin.values().copied().collect::<Vec<_>>());
        }
        store
            .view(|transaction| {
                for (key, entry) in &twin {
                    assert_eq!(find_key(transaction, LOG, *key)?, Some(*entry));
                }
                assert_eq!(find_key(transaction, LOG, entry(9_000, 0, false).key)?, None);
                Ok(())
            })
            .unwrap();
        assert_eq!(store.compaction(LOG).unwrap().keys, twin.len() as u64);
        // Everything expires: no block is left.
        let gone = Expired { log_start: Offset::MAX, tombstones: Offset::ZERO };
        merge_all(&store, &[], gone, Blocks::All);
        assert_eq!((all_keys(&store), store.compaction(LOG).unwrap().keys), (vec![], 0));
    }

    #[test]
    fn what_a_merge_under_way_supersedes_is_not_dropped_yet() {
        let store = new_store();
        let note = |since: u64, offsets: &[u64]| {
            let offsets: Vec<_> = offsets.iter().copied().map(Offset::new).collect();
            store.update(Purpose::Free, |update| update.add_superseded(LOG, Offset::new(since), offsets.clone()))
        };
        note(0, &[3, 1, 3]).unwrap();
        assert_eq!(store.superseded(LOG, 10).unwrap(), None);
        let done = Compaction { compacted: Offset::new(5), ..Compaction::default() };
        store.update(Purpose::Free, |update| update.put_compaction(LOG, &done)).unwrap();
        note(2, &[4]).unwrap();
        note(5, &[2]).unwrap();
        let expected = |offsets: &[u64], up_to| {
            Some(Superseded { offsets: offsets.iter().copied().map(Offset::new).collect(), up_to })
        };
        assert_eq!(store.superseded(LOG, 10).unwrap(), expected(&[1, 3, 4], 1));
        assert_eq!(store.superseded(LOG, 1).unwrap(), expected(&[1, 3], 0));
        store.update(Purpose::Free, |update| update.forget_superseded(LOG, 0)).unwrap();
        assert_eq!(store.superseded(LOG, 10).unwrap(), expected(&[4], 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn merges_are_those_of_a_map(
            rounds in proptest::collection::vec(
                (proptest::collection::vec((0_u64..2_000, any::<bool>()), 0..1_500), 0_u64..4_000, any::<bool>()), 1..5),
        ) {
            let store = new_store();
            let mut twin: BTreeMap<KeyHash, KeyEntry> = BTreeMap::new();
            let mut offset = 0;
            for (keys, tombstones, sweep) in rounds {
                let expired = Expired { log_start: Offset::ZERO, tombstones: Offset::new(tombstones.min(offset)) };
                let entries = keys.into_iter().map(|(key, dead)| { offset += 1; entry(key, offset, dead) });
                let mut new: Vec<_> = entries.collect();
                keep_last(&mut new, &mut Vec::new());
                merge_all(&store, &new, expired, if sweep { Blocks::All } else { Blocks::Touched });
                if sweep {
                    let replaced = |key: &KeyHash| new.iter().any(|entry| entry.key == *key);
                    twin.retain(|key, entry| {
                        replaced(key) || !entry.is_tombstone() || entry.offset() >= expired.tombstones
                    });
                    twin.extend(new.iter().map(|entry| (entry.key, *entry)));
                    let (found, expected) = (all_keys(&store), twin.values().copied().collect::<Vec<_>>());
                    let differ = found.iter().zip(&expected).find(|(a, b)| a != b);
                    prop_assert_eq!(found.len(), expected.len(), "{:?} {:?}", differ, expired);
                    prop_assert_eq!(differ, None);
                } else {
                    // Blocks that nothing belongs into are not looked at: what has expired there stays.
                    twin.extend(new.iter().map(|entry| (entry.key, *entry)));
                    let found: BTreeMap<_, _> = all_keys(&store).into_iter().map(|entry| (entry.key, entry)).collect();
                    for (key, entry) in &twin {
                        let may_be_gone = entry.is_tombstone() && entry.offset() < expired.tombstones;
                        prop_assert!(found.get(key) == Some(entry) || (may_be_gone && !found.contains_key(key)));
                    }
                    twin = found;
                }
                prop_assert_eq!(store.compaction(LOG).unwrap().keys, twin.len() as u64);
            }
        }
    }
}
