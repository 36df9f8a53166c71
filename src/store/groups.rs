//! What is stored of consumer groups: a row for each, and one for each of its committed offsets.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable, TableDefinition};

use super::check::StoreCheck;
use super::open::Store;
use super::read::{all_rows, decode_entry};
use super::schema::{Row, TopicRow, decode_row, encode_row};
use super::trouble::FromRedb;
use super::update::Update;
use crate::codec::{ChangedGroup, DecodeError, GroupChanges, Reader, Writer, decode_group_name};
use crate::error::{Error, Result};
use crate::group::{CommittedOffset, GroupName, KeptState};
use crate::types::{LogId, TopicNumber};

/// Keyed by the bytes of the group's name. A key of any bytes can be compared, so a damaged one is an error and no panic.
pub(super) const GROUPS: TableDefinition<'static, &'static [u8], &'static [u8]> =
    TableDefinition::new("brooklet:groups");
/// Keyed by [`offset_key`].
pub(super) const OFFSETS: TableDefinition<'static, &'static [u8], &'static [u8]> =
    TableDefinition::new("brooklet:offsets");

/// The key of a committed offset: length of the group's name, `u8`; the name; topic number and partition, `u32` big-endian,
/// so that a group's offsets lie together, sorted.
fn offset_key(group: &GroupName, log: LogId) -> Vec<u8> {
    let name = group.as_str().as_bytes();
    let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
    [&[len], name, &log.topic.0.to_be_bytes(), &log.partition.to_be_bytes()].concat()
}

fn decode_offset_key(key: &[u8]) -> Result<(GroupName, LogId), DecodeError> {
    let mut reader = Reader::new(key);
    let len = reader.u8()?;
    let group = decode_group_name(reader.take(usize::from(len))?)?;
    let topic = TopicNumber(u32::from_be_bytes(reader.array()?));
    let log = LogId { topic, partition: u32::from_be_bytes(reader.array()?) };
    if reader.is_empty() { Ok((group, log)) } else { Err(DecodeError("its key has bytes behind the partition")) }
}

/// The keys of the first and the last offset that a group can have.
fn offsets_of(group: &GroupName) -> (Vec<u8>, Vec<u8>) {
    let of = |number| offset_key(group, LogId { topic: TopicNumber(number), partition: number });
    (of(0), of(u32::MAX))
}

/// What is stored of a group beside its offsets. Each group with an offset has a row; a group without one has a row unless
/// its state is that of a group which never was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupRow {
    pub(super) group: GroupName,
    /// How many committed offsets it has. One that is missing is noticed by this.
    pub(super) offsets: u64,
    pub(super) state: KeptState,
}

impl Row for GroupRow {
    const PLACE: &'static str = "groups";
    type Key = Vec<u8>;

    fn key_bytes(key: &Vec<u8>) -> impl AsRef<[u8]> {
        key
    }

    fn key_words(key: &Vec<u8>) -> String {
        format!("group `{}`", String::from_utf8_lossy(key).escape_debug())
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        out.put_u64(self.offsets);
        self.state.encode(out);
    }

    fn decode_fields(key: &Vec<u8>, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let group = decode_group_name(key)?;
        Ok(Self { group, offsets: reader.u64()?, state: KeptState::decode(reader)? })
    }
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OffsetRow {
    pub(super) group: GroupName,
    pub(super) log: LogId,
    pub(super) committed: CommittedOffset,
}

impl Row for OffsetRow {
    const PLACE: &'static str = "offsets";
    type Key = Vec<u8>;

    fn key_bytes(key: &Vec<u8>) -> impl AsRef<[u8]> {
        key
    }

    fn key_words(key: &Vec<u8>) -> String {
        match decode_offset_key(key) {
            Ok((group, log)) => format!("group `{group}`, {log}"),
            Err(_) => format!("key {}", key.escape_ascii()),
        }
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        self.committed.encode(out);
    }

    fn decode_fields(key: &Vec<u8>, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (group, log) = decode_offset_key(key)?;
        Ok(Self { group, log, committed: CommittedOffset::decode(reader)? })
    }
}

/// What the store has of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredGroup {
    pub(crate) state: KeptState,
    /// By number of topic and partition.
    pub(crate) offsets: Vec<(LogId, CommittedOffset)>,
}

impl Store {
    /// Reads a group; `None` when the store has nothing of it.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for an offset that should be there and is not, or is not what was written.
    pub(crate) fn read_group(&self, group: &GroupName) -> Result<Option<StoredGroup>> {
        self.view(|transaction| {
            let row = group_row(&transaction.open_table(GROUPS).redb()?, group)?;
            let (first, last) = offsets_of(group);
            let table = transaction.open_table(OFFSETS).redb()?;
            let mut offsets = Vec::new();
            for entry in table.range::<&[u8]>(first.as_slice()..=last.as_slice()).redb()? {
                let (_, row) = decode_entry::<OffsetRow>(entry)?;
                offsets.push((row.log, row.committed));
            }
            let expected = row.as_ref().map_or(0, |row| row.offsets);
            if offsets.len() as u64 != expected {
                let reason = format!("{} of {expected} committed offsets are there", offsets.len());
                return Err(Error::corrupt(format!("group `{group}`"), reason));
            }
            Ok(row.map(|row| StoredGroup { state: row.state, offsets }))
        })
    }

    /// The groups of which the store has something, sorted.
    pub(crate) fn group_names(&self) -> Result<Vec<GroupName>> {
        self.view(|transaction| Ok(all_groups(transaction)?.into_iter().map(|(_, row)| row.group).collect()))
    }
}

/// The rows of all groups.
pub(super) fn all_groups(transaction: &ReadTransaction) -> Result<Vec<(Vec<u8>, GroupRow)>> {
    all_rows(&transaction.open_table(GROUPS).redb()?)
}

fn group_row(table: &impl ReadableTable<&'static [u8], &'static [u8]>, group: &GroupName) -> Result<Option<GroupRow>> {
    let key = group.as_str().as_bytes().to_vec();
    let row = table.get(key.as_slice()).redb()?;
    row.map(|bytes| decode_row(&key, bytes.value())).transpose()
}

impl Update<'_> {
    /// Changes groups. Offsets of topics that are gone are left out: their numbers are never given again.
    pub(crate) fn apply_group_changes(&mut self, changes: &GroupChanges) -> Result<()> {
        changes.into_iter().try_for_each(|(group, changed)| self.change_group(group, changed))
    }

    fn change_group(&mut self, group: &GroupName, changed: &ChangedGroup) -> Result<()> {
        let none = GroupRow { group: group.clone(), offsets: 0, state: KeptState::default() };
        let mut row = if changed.deleted {
            let (first, last) = offsets_of(group);
            self.tables.offsets.retain_in::<&[u8], _>(first.as_slice()..=last.as_slice(), |_, _| false).redb()?;
            none
        } else {
            group_row(&self.tables.groups, group)?.unwrap_or(none)
        };
        if let Some(state) = &changed.state {
            row.state = state.clone();
        }
        for (log, committed) in &changed.offsets {
            self.change_offset(&mut row, *log, committed.as_ref())?;
        }
        self.put_group(&row)
    }

    fn change_offset(&mut self, row: &mut GroupRow, log: LogId, committed: Option<&CommittedOffset>) -> Result<()> {
        let key = offset_key(&row.group, log);
        match committed {
            Some(_) if self.tables.topics.get(log.topic.0).redb()?.is_none() => {}
            Some(committed) => {
                let offset = OffsetRow { group: row.group.clone(), log, committed: committed.clone() };
                let bytes = encode_row(&key, &offset);
                if self.tables.offsets.insert(key.as_slice(), bytes.as_slice()).redb()?.is_none() {
                    row.offsets = row.offsets.saturating_add(1);
                }
            }
            None => {
                if self.tables.offsets.remove(key.as_slice()).redb()?.is_some() {
                    row.offsets = row.offsets.saturating_sub(1);
                }
                if KeptState::is_added(&row.state.topics, log) {
                    row.state.taken_back.insert(log);
                }
            }
        }
        Ok(())
    }

    /// Stores a group's row, or removes it when there is nothing to say.
    fn put_group(&mut self, row: &GroupRow) -> Result<()> {
        let key = row.group.as_str().as_bytes().to_vec();
        if row.offsets == 0 && row.state == KeptState::default() {
            return self.tables.groups.remove(key.as_slice()).redb().map(drop);
        }
        self.tables.groups.insert(key.as_slice(), encode_row(&key, row).as_slice()).redb().map(drop)
    }

    /// Deletes what was committed for a topic, in all groups (G-57).
    pub(super) fn delete_offsets_of(&mut self, topic: TopicNumber) -> Result<()> {
        let mut deleted: BTreeMap<GroupName, u64> = BTreeMap::new();
        let keep = |key: &[u8], _: &[u8]| match decode_offset_key(key) {
            Ok((group, log)) if log.topic == topic => {
                *deleted.entry(group).or_default() += 1;
                false
            }
            // A damaged key is left for who reads it.
            _ => true,
        };
        self.tables.offsets.retain(keep).redb()?;
        for (group, deleted) in deleted {
            if let Some(mut row) = group_row(&self.tables.groups, &group)? {
                row.offsets = row.offsets.saturating_sub(deleted);
                self.put_group(&row)?;
            }
        }
        Ok(())
    }
}

impl StoreCheck {
    /// Reads every row of a group, and sees to it that they agree with each other and with the topics.
    pub(super) fn walk_groups(
        &mut self,
        transaction: &ReadTransaction,
        topics: &BTreeMap<u32, TopicRow>,
    ) -> Result<()> {
        let groups: BTreeMap<Vec<u8>, GroupRow> = self.rows(&transaction.open_table(GROUPS).redb()?)?;
        let offsets: BTreeMap<Vec<u8>, OffsetRow> = self.rows(&transaction.open_table(OFFSETS).redb()?)?;
        self.groups = groups.len() as u64;
        self.offsets = offsets.len() as u64;
        let mut counted: BTreeMap<GroupName, u64> = BTreeMap::new();
        for OffsetRow { group, log, .. } in offsets.into_values() {
            self.check_known(topics, &format!("group `{group}`, "), log);
            *counted.entry(group).or_default() += 1;
        }
        for GroupRow { group, offsets, .. } in groups.into_values() {
            let found = counted.remove(&group).unwrap_or(0);
            if found != offsets {
                self.find(format!("group `{group}`: {found} of {offsets} committed offsets are there"));
            }
        }
        for group in counted.keys() {
            self.find(format!("group `{group}`: it has committed offsets and no row"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_comes_back_and_lies_among_those_of_its_group(
            name in ".{1,60}", other in ".{1,60}", topic: u32, partition: u32,
        ) {
            let log = LogId { topic: TopicNumber(topic), partition };
            let (group, other) = (GroupName::new(name).unwrap(), GroupName::new(other).unwrap());
            let key = offset_key(&group, log);
            prop_assert_eq!(decode_offset_key(&key).unwrap(), (group.clone(), log));
            for (of, expected) in [(&group, true), (&other, group == other)] {
                let (first, last) = offsets_of(of);
                prop_assert_eq!((first..=last).contains(&key), expected);
            }
        }

        #[test]
        fn any_bytes_give_a_key_or_an_error(bytes: Vec<u8>) {
            if let Ok((group, log)) = decode_offset_key(&bytes) {
                prop_assert_eq!(offset_key(&group, log), bytes);
            }
        }
    }

    #[test]
    fn a_name_with_the_first_bytes_of_another_one_has_keys_of_its_own() {
        let log = LogId { topic: TopicNumber(7), partition: 8 };
        let (short, long) = (GroupName::new("a").unwrap(), GroupName::new("a\0\0\0\u{1}b").unwrap());
        let (first, last) = offsets_of(&short);
        assert!(!(first..=last).contains(&offset_key(&long, log)));
    }
}
