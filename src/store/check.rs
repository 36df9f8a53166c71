//! Checking everything that is in the store.
//!
//! A check goes on behind damage. A page that can't be read fails redb's handle, so each part of the check has a snapshot of its
//! own, and the file is opened anew behind one that failed. The row of the index says which records a chunk has that can't be read.
//! What would be found of its partition for want of these is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::RwLockWriteGuard;
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::extent::{Extent, Extents};
use super::index::{IndexRow, SegmentRow};
use super::keys::{COMPACTIONS, Compaction, KEYS, KeyBlock, SUPERSEDED, SupersededRow, find_key};
use super::open::{Handle, Store};
use super::read::{decode_entry, meta, required_meta};
use super::root::COPIES;
use super::schema::{
    ChunkKey, DELETED, DeletedRow, INDEX, Identity, LogKey, META, NextTopic, PARTITIONS, PartitionRow, Row, SEGMENTS,
    Session, TOPICS, TopicRow, chunk_of, chunk_words, log_key, log_of,
};
use super::snapshot::Snapshot;
use super::space::{FREE, FreeRow, SpaceRow};
use super::trouble::FromRedb;
use crate::codec::{Place, RecordBatch};
use crate::compaction::KeyHash;
use crate::error::Result;
use crate::types::{LogId, Offset, TopicId};

/// What a check has found and counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct StoreCheck {
    /// What is wrong, in words; empty for a store in order.
    pub(crate) findings: Vec<String>,
    pub(crate) topics: u64,
    /// Partitions with a row.
    pub(crate) partitions: u64,
    pub(crate) chunks: u64,
    pub(crate) records: u64,
    /// Bytes of chunks.
    pub(crate) bytes: u64,
    /// Consumer groups.
    pub(crate) groups: u64,
    /// Offsets that they have committed.
    pub(crate) offsets: u64,
}

/// After more findings than these the rest is not looked for.
const MAX_FINDINGS: usize = 100;

impl Store {
    /// Checks every page, row, chunk and record. Nobody else can use the store meanwhile. In a store in order only
    /// redb's own header is written.
    ///
    /// # Errors
    ///
    /// When the check itself can't go on. Damage is a finding.
    pub(crate) fn check(&self) -> Result<StoreCheck> {
        let mut check = StoreCheck::default();
        {
            let _writer = self.writer.lock();
            let mut alone = Alone { store: self, handle: self.alone()? };
            match alone.run(|handle| handle.database_mut()?.check_integrity().redb())? {
                Ok(true) => {}
                Ok(false) => {
                    check.find("redb's pages were not as they should be; they were repaired");
                    self.replace(&mut alone.handle)?;
                }
                Err(error) => check.find(format!("redb's pages can't be checked: {error}")),
            }
            check.walk(&mut alone)?;
        }
        let hidden = check.findings.len().saturating_sub(MAX_FINDINGS);
        if hidden > 0 {
            check.findings.truncate(MAX_FINDINGS);
            check.findings.push("and more".to_owned());
        }
        Ok(check)
    }
}

/// The store with nobody beside.
struct Alone<'s> {
    store: &'s Store,
    handle: RwLockWriteGuard<'s, Handle>,
}

impl Alone<'_> {
    /// Runs `work`; `Ok(Err(..))` is what kept it from its end. The outer error is that the file does not open again.
    fn run<T>(&mut self, work: impl FnOnce(&mut Handle) -> Result<T>) -> Result<Result<T>> {
        let trouble = Arc::clone(&self.handle.trouble);
        let done = trouble.guard(|| work(&mut self.handle));
        let Err(error) = done else { return Ok(done) };
        let Some((_, cause)) = trouble.gravest() else { return Ok(Err(error)) };
        self.store.replace(&mut self.handle)?;
        Ok(Err(cause))
    }

    /// Runs `work` on a snapshot.
    fn view<T>(&mut self, work: impl FnOnce(&Snapshot<'_>) -> Result<T>) -> Result<Result<T>> {
        self.run(|handle| work(&Snapshot::of(handle)?))
    }
}

/// The offsets of a damaged chunk that can't be read: those of its damaged sections, if it has any, or all.
fn lost_of(alone: &mut Alone<'_>, (key, row): (ChunkKey, &IndexRow)) -> Result<Vec<(Offset, Offset)>> {
    let outline = row.outline(key);
    let mut lost: Vec<(Offset, Offset)> = Vec::new();
    for part in outline.parts() {
        if alone.run(|handle| handle.read_part((key, row), &part))?.is_err() {
            let (first, last) = outline.offsets(&part);
            match lost.last_mut() {
                Some((_, before)) if before.next() == first => *before = last,
                _ => lost.push((first, last)),
            }
        }
    }
    Ok(if lost.is_empty() { vec![(outline.base_offset, outline.last_offset)] } else { lost })
}

/// Whether the sections of a chunk, if it has any, hold what the chunk does.
fn are_sections_of(handle: &Handle, (key, row): (ChunkKey, &IndexRow), batch: &RecordBatch) -> Result<bool> {
    let outline = row.outline(key);
    if outline.sections.is_empty() {
        return Ok(true);
    }
    let bytes = handle.read_extent(row.extent(), row.bytes as usize)?;
    let mut walk = batch.walk(Place::start(&batch.header));
    for part in outline.parts() {
        let decoded = outline.decode(&part, bytes.get(part.bytes.clone()).unwrap_or_default().to_vec());
        let Ok(part) = decoded else { return Ok(false) };
        let mut records = part.walk(Place::start(&part.header));
        if !records.all(|record| walk.next().is_some_and(|other| other.is_same_as(&record))) {
            return Ok(false);
        }
    }
    Ok(walk.next().is_none())
}

/// What the catalogue says, while everything else is compared with it.
struct Known {
    topics: BTreeMap<u32, TopicRow>,
    /// Topics whose rows and chunks wait to be freed: they are read, and need not fit together.
    deleted: BTreeMap<u32, DeletedRow>,
    partitions: BTreeMap<LogKey, PartitionRow>,
    compactions: BTreeMap<LogKey, Compaction>,
}

impl Known {
    fn is_compacted(&self, log: LogId) -> bool {
        self.compactions.contains_key(&log_key(log))
    }

    /// The id that the chunks of a topic carry.
    fn id(&self, topic: u32) -> Option<TopicId> {
        let deleted = || self.deleted.get(&topic).map(|topic| topic.id);
        self.topics.get(&topic).map(|topic| topic.id).or_else(deleted)
    }

    fn log_start(&self, log: LogId) -> Offset {
        self.partitions.get(&log_key(log)).map_or(Offset::ZERO, |row| row.log_start)
    }
}

/// What is known of the table of keys of one partition.
#[derive(Debug, Default)]
struct KeyCheck {
    row: Compaction,
    log_start: Offset,
    keys: u64,
    /// Keys whose record does not lie below the log start.
    live: u64,
    /// Keys whose record was found.
    found: u64,
    /// Sorted.
    superseded: Vec<Offset>,
}

/// What was seen of the chunks.
#[derive(Debug, Default)]
struct Seen {
    /// What those of each partition add up to.
    walked: BTreeMap<LogKey, Walked>,
    /// The row of the index of each.
    rows: BTreeMap<ChunkKey, IndexRow>,
    /// Partitions with chunks that can't be read.
    unreadable: BTreeSet<LogKey>,
}

impl Seen {
    fn is_whole(&self, key: ChunkKey) -> bool {
        !self.unreadable.contains(&log_key(chunk_of(key).0))
    }
}

/// What the chunks of one partition add up to.
#[derive(Debug)]
struct Walked {
    row: PartitionRow,
    /// Where the first chunk begins, and where it ends.
    first: Offset,
    first_end: Offset,
    last: Offset,
}

impl StoreCheck {
    pub(super) fn find(&mut self, finding: impl Into<String>) {
        self.findings.push(finding.into());
    }

    /// Whether enough was found. A walk over damaged pages ends then: it may never end by itself.
    fn is_enough(&self) -> bool {
        self.findings.len() > MAX_FINDINGS
    }

    fn walk(&mut self, alone: &mut Alone<'_>) -> Result<()> {
        let known = alone.view(|transaction| self.catalogue(transaction))?;
        let Some(known) = self.found(known) else { return Ok(()) };
        let keys = alone.view(|transaction| self.keys(transaction, &known))?;
        // Where they can't be read, no record is looked up in them.
        let keys = self.found(keys).unwrap_or_default();
        let index = alone.view(|snapshot| self.rows::<IndexRow>(&snapshot.open_table(INDEX).redb()?))?;
        if let Some(index) = self.found(index) {
            let blocks = alone.view(|snapshot| self.check_blocks(snapshot, &index))?;
            self.found(blocks);
            self.check_chunks(alone, &known, keys, index)?;
        }
        let groups = alone.view(|transaction| self.walk_groups(transaction, &known.topics))?;
        self.found(groups);
        Ok(())
    }

    /// Reads every chunk that the index knows, and compares with it what tells of chunks.
    fn check_chunks(
        &mut self,
        alone: &mut Alone<'_>,
        known: &Known,
        mut keys: BTreeMap<LogKey, KeyCheck>,
        index: BTreeMap<ChunkKey, IndexRow>,
    ) -> Result<()> {
        let mut seen = Seen::default();
        for (key, row) in index {
            if self.is_enough() {
                break;
            }
            let (log, _) = chunk_of(key);
            let Some(topic) = known.id(key.0) else {
                self.find(format!("{}: there is no such topic", chunk_words(key)));
                continue;
            };
            let batch = match alone.run(|handle| handle.read_chunk(&row.chunk(key), topic))? {
                Ok(batch) => batch,
                Err(error) => {
                    for (first, last) in lost_of(alone, (key, &row))? {
                        self.find(format!("{log}: the offsets {first} to {last} can't be read: {error}"));
                    }
                    seen.unreadable.insert(log_key(log));
                    continue;
                }
            };
            if known.deleted.contains_key(&key.0) {
                continue;
            }
            self.chunks += 1;
            self.records += u64::from(row.records);
            self.bytes += u64::from(row.bytes);
            let sections = alone.run(|handle| are_sections_of(handle, (key, &row), &batch))?;
            if !row.is_of(&batch.header) || !sections.unwrap_or(false) {
                self.find(format!("{}: its row in `index` says something else", chunk_words(key)));
            }
            if seen.is_whole(key) {
                let walked = seen.walked.entry(log_key(log)).or_insert_with(|| Walked::before(&batch));
                self.follow(walked, &batch, &row, known.log_start(log));
            }
            if let Some(keys) = keys.get_mut(&log_key(log)) {
                let looked_up = alone.view(|snapshot| self.look_up_keys(snapshot, &batch, topic, keys))?;
                self.found(looked_up);
            }
            seen.rows.insert(key, row);
        }
        keys.retain(|key, _| !seen.unreadable.contains(key));
        self.check_keys(&keys);
        let segments = alone.view(|transaction| self.check_segments(transaction, known, &mut seen))?;
        self.found(segments);
        self.check_partitions(&known.partitions, seen);
        Ok(())
    }

    /// Sees to it that no block has two uses.
    fn check_blocks(&mut self, snapshot: &Snapshot<'_>, index: &BTreeMap<ChunkKey, IndexRow>) -> Result<()> {
        let free: BTreeMap<u64, FreeRow> = self.rows(&snapshot.open_table(FREE).redb()?)?;
        let SpaceRow { end, used } = meta(&snapshot.open_table(META).redb()?)?.unwrap_or_default();
        let mut blocks = Extents::default();
        blocks.add(Extent { first: 0, blocks: COPIES });
        for part in snapshot.parts()? {
            if !blocks.add(part) {
                self.find(format!("the part at block {} has blocks of another one", part.first));
            }
        }
        let mut counted = 0;
        for (key, row) in index {
            let extent = row.extent();
            counted += extent.blocks;
            if extent.end() > end || !blocks.add(extent) {
                self.find(format!("{}: its blocks are in use otherwise", chunk_words(*key)));
            }
        }
        if counted != used {
            self.find(format!("chunks take {counted} blocks, and are said to take {used}"));
        }
        for (first, row) in free {
            let extent = Extent { first, blocks: row.blocks };
            if extent.end() > end || !blocks.add(extent) {
                self.find(format!("the blocks {first} to {} are free, and in use as well", extent.end()));
            }
        }
        Ok(())
    }

    fn catalogue(&mut self, transaction: &ReadTransaction) -> Result<Known> {
        let meta = transaction.open_table(META).redb()?;
        self.found(required_meta::<Identity>(&meta));
        self.found(required_meta::<Session>(&meta));
        let next = self.found(required_meta::<NextTopic>(&meta));
        let topics: BTreeMap<u32, TopicRow> = self.rows(&transaction.open_table(TOPICS).redb()?)?;
        self.topics = topics.len() as u64;
        if let (Some(NextTopic(next)), Some((last, _))) = (next, topics.last_key_value())
            && next <= *last
        {
            self.find(format!("topic number {last} would be given again"));
        }
        let deleted: BTreeMap<u32, DeletedRow> = self.rows(&transaction.open_table(DELETED).redb()?)?;
        for number in deleted.keys().filter(|number| topics.contains_key(number)) {
            self.find(format!("topic number {number} is there, and deleted as well"));
        }
        let mut partitions: BTreeMap<LogKey, PartitionRow> = self.rows(&transaction.open_table(PARTITIONS).redb()?)?;
        partitions.retain(|key, _| !deleted.contains_key(&key.0));
        self.partitions = partitions.len() as u64;
        let mut compactions: BTreeMap<LogKey, Compaction> = self.rows(&transaction.open_table(COMPACTIONS).redb()?)?;
        compactions.retain(|key, _| !deleted.contains_key(&key.0));
        let known = Known { topics, deleted, partitions, compactions };
        for key in known.partitions.keys().chain(known.compactions.keys()) {
            self.check_known(&known.topics, "", log_of(*key));
        }
        Ok(known)
    }

    /// The value, or a finding.
    fn found<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.find(error.to_string())).ok()
    }

    /// All rows of a table that can be read.
    pub(super) fn rows<R: Row<Key: Ord>>(
        &mut self,
        table: &redb::ReadOnlyTable<impl for<'a> redb::Key<SelfType<'a>: Into<R::Key>> + 'static, &'static [u8]>,
    ) -> Result<BTreeMap<R::Key, R>> {
        let mut rows = BTreeMap::new();
        let mut count = 0_u64;
        for entry in table.iter().redb()? {
            count += 1;
            if self.is_enough() {
                return Ok(rows);
            }
            if let Some((key, row)) = self.found(decode_entry::<R>(entry)) {
                rows.insert(key, row);
            }
        }
        let expected = table.len().redb()?;
        if count != expected {
            self.find(format!("the table `{}` has {count} rows of {expected}", R::PLACE));
        }
        Ok(rows)
    }

    /// Sees to it that there is such a partition. `of` stands before it in a finding.
    pub(super) fn check_known(&mut self, topics: &BTreeMap<u32, TopicRow>, of: &str, log: LogId) {
        match topics.get(&log.topic.0) {
            None => self.find(format!("{of}{log}: there is no such topic")),
            Some(topic) if log.partition >= topic.partitions => {
                self.find(format!("{of}{log}: the topic has {} partitions", topic.partitions));
            }
            Some(_) => {}
        }
    }

    /// Adds a chunk to what its partition adds up to.
    fn follow(&mut self, walked: &mut Walked, batch: &RecordBatch, row: &IndexRow, log_start: Offset) {
        let header = &batch.header;
        let may_be_missing = walked.last < log_start && (walked.last..=log_start).contains(&header.base_offset);
        if walked.row.chunks > 0 && header.base_offset != walked.last.next() && !may_be_missing {
            let expected = walked.last.next();
            self.find(format!("{}, offset {}: the chunk should begin at {expected}", header.log, header.base_offset));
        }
        walked.row.add(row);
        walked.last = header.last_offset;
    }

    /// Sees to it that two tables say the same.
    fn compare<R: Row<Key = ChunkKey> + PartialEq>(
        &mut self,
        table: &str,
        expected: &BTreeMap<ChunkKey, R>,
        found: &BTreeMap<ChunkKey, R>,
    ) {
        for (key, row) in expected {
            match found.get(key) {
                None => self.find(format!("{}: no row in `{table}`", chunk_words(*key))),
                Some(known) if known != row => {
                    self.find(format!("{}: its row in `{table}` says something else", chunk_words(*key)));
                }
                Some(_) => {}
            }
        }
        for key in found.keys().filter(|key| !expected.contains_key(key)) {
            self.find(format!("{}: a row in `{table}` of nothing", chunk_words(*key)));
        }
    }

    /// Adds the chunks up to segments, which begin where the table says they do.
    fn check_segments(&mut self, transaction: &ReadTransaction, known: &Known, seen: &mut Seen) -> Result<()> {
        let mut found: BTreeMap<ChunkKey, SegmentRow> = self.rows(&transaction.open_table(SEGMENTS).redb()?)?;
        found.retain(|key, _| !known.deleted.contains_key(&key.0) && seen.is_whole(*key));
        let mut chunks = std::mem::take(&mut seen.rows);
        chunks.retain(|key, _| seen.is_whole(*key));
        let mut expected: BTreeMap<ChunkKey, SegmentRow> = BTreeMap::new();
        for (key, chunk) in chunks {
            let under_way = expected.last_entry().filter(|segment| chunk_of(*segment.key()).0 == chunk_of(key).0);
            match under_way {
                Some(mut segment) if !found.contains_key(&key) => segment.get_mut().add(&chunk),
                _ => {
                    expected.insert(key, SegmentRow::of(&chunk));
                }
            }
        }
        // What was freed from a partition's first segment is still in its largest timestamp, and what was compacted away from
        // any of them.
        let mut log = None;
        for (key, segment) in &mut expected {
            let is_first = log.replace(chunk_of(*key).0) != Some(chunk_of(*key).0);
            if is_first || known.is_compacted(chunk_of(*key).0) {
                let max = found.get(key).map_or(segment.max_timestamp, |row| row.max_timestamp);
                segment.max_timestamp = segment.max_timestamp.max(max);
            }
        }
        self.compare("segments", &expected, &found);
        Ok(())
    }

    /// Counts the tables of keys, and sees to it that their blocks are in order.
    fn keys(&mut self, transaction: &ReadTransaction, known: &Known) -> Result<BTreeMap<LogKey, KeyCheck>> {
        let mut checks: BTreeMap<LogKey, KeyCheck> = BTreeMap::new();
        for (key, compaction) in &known.compactions {
            let log_start = known.log_start(log_of(*key));
            checks.insert(*key, KeyCheck { row: compaction.clone(), log_start, ..KeyCheck::default() });
        }
        let mut last: Option<(LogKey, u64)> = None;
        for entry in transaction.open_table(KEYS).redb()?.iter().redb()? {
            if self.is_enough() {
                break;
            }
            let Some((key, KeyBlock(entries))) = self.found(decode_entry::<KeyBlock>(entry)) else { continue };
            let log = (key.0, key.1);
            if last.is_some_and(|(other, prefix)| other == log && prefix >= key.2) {
                self.find(format!("{}: a key lies in the wrong block", log_of(log)));
            }
            last = entries.last().map(|entry| (log, entry.key.prefix));
            match checks.get_mut(&log) {
                Some(check) => {
                    check.keys += entries.len() as u64;
                    let live = entries.iter().filter(|entry| entry.offset() >= check.log_start);
                    check.live += live.count() as u64;
                }
                None if known.deleted.contains_key(&key.0) => {}
                None => self.find(format!("{}: it has keys and was not compacted", log_of(log))),
            }
        }
        for entry in transaction.open_table(SUPERSEDED).redb()?.iter().redb()? {
            if self.is_enough() {
                break;
            }
            let Some((key, row)) = self.found(decode_entry::<SupersededRow>(entry)) else { continue };
            if let Some(check) = checks.get_mut(&(key.0, key.1)) {
                check.superseded.extend(row.offsets);
            }
        }
        checks.values_mut().for_each(|check| check.superseded.sort_unstable());
        Ok(checks)
    }

    /// Compares the records of a chunk with the table of keys.
    fn look_up_keys(
        &mut self,
        transaction: &ReadTransaction,
        batch: &RecordBatch,
        topic: TopicId,
        check: &mut KeyCheck,
    ) -> Result<()> {
        for record in batch.walk(Place::start(&batch.header)).filter(|record| record.offset >= check.log_start) {
            let log = batch.header.log;
            let key = record.key().map(|key| KeyHash::of(topic, key));
            let entry = key.map(|key| find_key(transaction, log, key)).transpose()?.flatten();
            if entry.is_some_and(|entry| entry.offset() == record.offset) {
                check.found += 1;
            } else if record.offset < check.row.compacted {
                let is_newer = entry.is_none_or(|entry| entry.offset() > record.offset);
                if !is_newer || check.superseded.binary_search(&record.offset).is_err() {
                    self.find(format!("{log}, offset {}: the table of keys does not know of it", record.offset));
                }
            }
        }
        Ok(())
    }

    fn check_keys(&mut self, checks: &BTreeMap<LogKey, KeyCheck>) {
        for (key, check) in checks {
            let log = log_of(*key);
            if check.keys != check.row.keys {
                self.find(format!("{log}: it has {} keys and counts {}", check.keys, check.row.keys));
            }
            if check.found != check.live {
                self.find(format!("{log}: {} of {} keys have their record", check.found, check.live));
            }
        }
    }

    fn check_partitions(&mut self, partitions: &BTreeMap<LogKey, PartitionRow>, mut seen: Seen) {
        seen.walked.retain(|key, _| !seen.unreadable.contains(key));
        let Seen { mut walked, unreadable, .. } = seen;
        for (key, row) in partitions.iter().filter(|(key, _)| !unreadable.contains(key)) {
            let log = log_of(*key);
            if row.freed > row.log_start {
                self.find(format!("{log}: its log start is {}, but it is freed up to {}", row.log_start, row.freed));
            }
            match walked.remove(key) {
                None if row.log_start < row.end => self.find(format!("{log}: its records are missing")),
                None if (row.records, row.bytes, row.chunks) != (0, 0, 0) => {
                    self.find(format!("{log}: it counts chunks and has none"));
                }
                None => {}
                Some(found) => self.check_partition(log, row, &found),
            }
        }
        for key in walked.keys() {
            self.find(format!("{}: it has chunks and no row", log_of(*key)));
        }
    }

    fn check_partition(&mut self, log: LogId, row: &PartitionRow, found: &Walked) {
        if found.last.next() != row.end && row.log_start < row.end {
            self.find(format!("{log}: its last record is at {}, its end at {}", found.last, row.end));
        }
        if found.first_end < row.freed {
            let (first, freed) = (found.first, row.freed);
            self.find(format!("{log}: it is freed up to {freed}, and the chunk at {first} is still there"));
        }
        if found.first > row.log_start {
            self.find(format!("{log}: its first record is at {}, its log start at {}", found.first, row.log_start));
        }
        if (row.records, row.bytes, row.chunks) != (found.row.records, found.row.bytes, found.row.chunks) {
            self.find(format!("{log}: it counts other records, bytes or chunks than there are"));
        }
    }
}

impl Walked {
    /// Nothing yet of the partition whose first chunk this is.
    fn before(batch: &RecordBatch) -> Self {
        let base = batch.header.base_offset;
        Self { row: PartitionRow::default(), first: base, first_end: batch.header.last_offset, last: base }
    }
}
