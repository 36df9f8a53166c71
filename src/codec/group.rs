//! What happens to consumer groups: the journal's entries about them, and what many such entries come to.
//!
//! ```text
//! group entry   kind    u8       2: commit, 3: commit taken back, 4: state, 5: deletion
//!               group   varint   length, then UTF-8: 1 to 255 bytes
//!               commit:              log, committed
//!               commit taken back:   log
//!               state:               state
//!               deletion:            nothing
//!
//! log         u32  topic number
//!             u32  partition
//!
//! committed   u64  offset         of the next record to read
//!             i64  commit time    in milliseconds since the epoch
//!                  metadata       varint length, then UTF-8
//!
//! state       u64  epoch
//!             u8   emptied        0: it has members, or never had any; 1: a time follows
//!             i64  empty since    in milliseconds since the epoch, if emptied is 1
//!                  topics         varint count, then for each
//!                  u32  topic number
//!                  u32  partitions   when the group first read it
//!                  taken back     varint count, then for each, ascending
//!                  log            a partition added later, whose commit was taken back
//! ```

use std::collections::btree_map;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::batch::decode_offset;
use super::{DecodeError, Reader, Writer, varint};
use crate::group::{CommittedOffset, GroupName, KeptState};
use crate::types::{LogId, TopicNumber};

const COMMIT: u8 = 2;
const TAKE_BACK: u8 = 3;
const STATE: u8 = 4;
const DELETE: u8 = 5;

const LOG_LEN: usize = 8;

/// A change of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupEntry {
    pub(crate) group: GroupName,
    pub(crate) change: GroupChange,
}

/// What changes in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GroupChange {
    /// An offset is committed for a partition; `None`: there is none any more.
    Offset { log: LogId, committed: Option<CommittedOffset> },
    /// The group is in another state.
    State(KeptState),
    /// The group is deleted, with its offsets and its state.
    Delete,
}

/// How many bytes [`encode_group_entry`] writes.
pub(crate) fn group_entry_len(entry: &GroupEntry) -> usize {
    let change = match &entry.change {
        GroupChange::Offset { committed: Some(committed), .. } => LOG_LEN + 16 + sized_len(committed.metadata.len()),
        GroupChange::Offset { committed: None, .. } => LOG_LEN,
        GroupChange::State(state) => {
            let emptied = if state.emptied_ms.is_some() { 9 } else { 1 };
            let topics = varint::len(state.topics.len() as u64) + 8 * state.topics.len();
            8 + emptied + topics + varint::len(state.taken_back.len() as u64) + LOG_LEN * state.taken_back.len()
        }
        GroupChange::Delete => 0,
    };
    1 + sized_len(entry.group.as_str().len()) + change
}

fn sized_len(len: usize) -> usize {
    varint::len(len as u64) + len
}

/// Appends an entry for a change of a group to `out`.
pub(crate) fn encode_group_entry(out: &mut Vec<u8>, entry: &GroupEntry) {
    out.push(match &entry.change {
        GroupChange::Offset { committed: Some(_), .. } => COMMIT,
        GroupChange::Offset { committed: None, .. } => TAKE_BACK,
        GroupChange::State(_) => STATE,
        GroupChange::Delete => DELETE,
    });
    out.put_sized(entry.group.as_str().as_bytes());
    match &entry.change {
        GroupChange::Offset { log, committed } => {
            out.put_u32(log.topic.0);
            out.put_u32(log.partition);
            if let Some(committed) = committed {
                committed.encode(out);
            }
        }
        GroupChange::State(state) => state.encode(out),
        GroupChange::Delete => {}
    }
}

/// Decodes what follows the kind of an entry; `None` for a kind that is not of a group.
pub(super) fn decode_group_entry(kind: u8, reader: &mut Reader<'_>) -> Option<Result<GroupEntry, DecodeError>> {
    match kind {
        COMMIT | TAKE_BACK | STATE | DELETE => Some(decode_known(kind, reader)),
        _ => None,
    }
}

fn decode_known(kind: u8, reader: &mut Reader<'_>) -> Result<GroupEntry, DecodeError> {
    let group = decode_group_name(reader.sized()?)?;
    let change = match kind {
        COMMIT => GroupChange::Offset { log: decode_log(reader)?, committed: Some(CommittedOffset::decode(reader)?) },
        TAKE_BACK => GroupChange::Offset { log: decode_log(reader)?, committed: None },
        STATE => GroupChange::State(KeptState::decode(reader)?),
        _ => GroupChange::Delete,
    };
    Ok(GroupEntry { group, change })
}

fn decode_log(reader: &mut Reader<'_>) -> Result<LogId, DecodeError> {
    Ok(LogId { topic: TopicNumber(reader.u32()?), partition: reader.u32()? })
}

/// A group's name of any bytes.
pub(crate) fn decode_group_name(bytes: &[u8]) -> Result<GroupName, DecodeError> {
    let name = std::str::from_utf8(bytes).ok().and_then(|name| GroupName::new(name).ok());
    name.ok_or(DecodeError("a group has a name that can't be one"))
}

impl CommittedOffset {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.offset.get());
        out.put_i64(self.committed_ms);
        out.put_sized(self.metadata.as_bytes());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (offset, committed_ms) = (decode_offset(reader)?, reader.i64()?);
        let metadata = std::str::from_utf8(reader.sized()?);
        let metadata = metadata.map_err(|_| DecodeError("the metadata of a committed offset are not UTF-8"))?;
        Ok(Self { offset, metadata: Arc::from(metadata), committed_ms })
    }
}

impl KeptState {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.epoch);
        match self.emptied_ms {
            None => out.push(0),
            Some(emptied_ms) => {
                out.push(1);
                out.put_i64(emptied_ms);
            }
        }
        out.put_varint(self.topics.len() as u64);
        for (topic, partitions) in &self.topics {
            out.put_u32(topic.0);
            out.put_u32(*partitions);
        }
        out.put_varint(self.taken_back.len() as u64);
        for log in &self.taken_back {
            out.put_u32(log.topic.0);
            out.put_u32(log.partition);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let epoch = reader.u64()?;
        let emptied_ms = match reader.u8()? {
            0 => None,
            1 => Some(reader.i64()?),
            _ => return Err(DecodeError("a group is neither empty nor not")),
        };
        let mut topics = BTreeMap::new();
        for _ in 0..reader.varint()? {
            if topics.insert(TopicNumber(reader.u32()?), reader.u32()?).is_some() {
                return Err(DecodeError("a group reads a topic twice"));
            }
        }
        let mut taken_back = BTreeSet::new();
        for _ in 0..reader.varint()? {
            let log = decode_log(reader)?;
            if taken_back.last().is_some_and(|last| *last >= log) {
                return Err(DecodeError("partitions of a group are out of order"));
            }
            taken_back.insert(log);
        }
        Ok(Self { epoch, emptied_ms, topics, taken_back })
    }
}

/// What many changes of groups come to: a million commits for one partition are one offset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct GroupChanges {
    groups: BTreeMap<GroupName, ChangedGroup>,
}

/// What many changes of one group come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ChangedGroup {
    /// It was deleted, before everything else that is said here.
    pub(crate) deleted: bool,
    /// `None`: as it was.
    pub(crate) state: Option<KeptState>,
    /// `None`: the partition has no committed offset any more.
    pub(crate) offsets: BTreeMap<LogId, Option<CommittedOffset>>,
}

impl GroupChanges {
    /// Adds the next change.
    pub(crate) fn add(&mut self, entry: GroupEntry) {
        let group = self.groups.entry(entry.group).or_default();
        match entry.change {
            GroupChange::Offset { log, committed } => {
                group.offsets.insert(log, committed);
            }
            GroupChange::State(state) => group.state = Some(state),
            GroupChange::Delete => *group = ChangedGroup { deleted: true, ..ChangedGroup::default() },
        }
    }
}

impl FromIterator<GroupEntry> for GroupChanges {
    fn from_iter<I: IntoIterator<Item = GroupEntry>>(entries: I) -> Self {
        let mut changes = Self::default();
        entries.into_iter().for_each(|entry| changes.add(entry));
        changes
    }
}

impl<'a> IntoIterator for &'a GroupChanges {
    type Item = (&'a GroupName, &'a ChangedGroup);
    type IntoIter = btree_map::Iter<'a, GroupName, ChangedGroup>;

    /// In the order of the names.
    fn into_iter(self) -> Self::IntoIter {
        self.groups.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Offset;
    use proptest::prelude::*;

    fn committed() -> impl Strategy<Value = CommittedOffset> {
        (0..=Offset::MAX.get(), any::<String>(), any::<i64>()).prop_map(|(offset, metadata, committed_ms)| {
            CommittedOffset { offset: Offset::new(offset), metadata: metadata.into(), committed_ms }
        })
    }

    fn state() -> impl Strategy<Value = KeptState> {
        let topics = proptest::collection::btree_map(any::<u32>().prop_map(TopicNumber), any::<u32>(), 0..150);
        let log =
            (any::<u32>(), any::<u32>()).prop_map(|(topic, partition)| LogId { topic: TopicNumber(topic), partition });
        let taken_back = proptest::collection::btree_set(log, 0..150);
        (any::<u64>(), any::<Option<i64>>(), topics, taken_back)
            .prop_map(|(epoch, emptied_ms, topics, taken_back)| KeptState { taken_back, epoch, emptied_ms, topics })
    }

    fn change() -> impl Strategy<Value = GroupChange> {
        let log = (0_u32..3, 0_u32..3).prop_map(|(topic, partition)| LogId { topic: TopicNumber(topic), partition });
        prop_oneof![
            3 => (log, proptest::option::of(committed()))
                .prop_map(|(log, committed)| GroupChange::Offset { log, committed }),
            1 => state().prop_map(GroupChange::State),
            1 => Just(GroupChange::Delete),
        ]
    }

    fn entry(names: &'static str) -> impl Strategy<Value = GroupEntry> {
        let group = names.prop_filter_map("too long", |name| GroupName::new(name).ok());
        (group, change()).prop_map(|(group, change)| GroupEntry { group, change })
    }

    /// What is left of each group after these entries, one by one.
    type Groups = BTreeMap<GroupName, (Option<KeptState>, BTreeMap<LogId, CommittedOffset>)>;

    fn apply_one(groups: &mut Groups, entry: &GroupEntry) {
        let (state, offsets) = groups.entry(entry.group.clone()).or_default();
        match &entry.change {
            GroupChange::Offset { log, committed: Some(committed) } => drop(offsets.insert(*log, committed.clone())),
            GroupChange::Offset { log, committed: None } => drop(offsets.remove(log)),
            GroupChange::State(new) => *state = Some(new.clone()),
            GroupChange::Delete => (*state, *offsets) = (None, BTreeMap::new()),
        }
    }

    fn apply_all(groups: &mut Groups, changes: &GroupChanges) {
        for (name, changed) in changes {
            let (state, offsets) = groups.entry(name.clone()).or_default();
            if changed.deleted {
                (*state, *offsets) = (None, BTreeMap::new());
            }
            *state = changed.state.clone().or(state.take());
            for (log, committed) in &changed.offsets {
                offsets.remove(log);
                offsets.extend(committed.clone().map(|committed| (*log, committed)));
            }
        }
    }

    proptest! {
        #[test]
        fn every_entry_comes_back(entry in entry(".{1,255}")) {
            let mut bytes = Vec::new();
            encode_group_entry(&mut bytes, &entry);
            prop_assert_eq!(bytes.len(), group_entry_len(&entry));
            let (kind, rest) = bytes.split_first().unwrap();
            let mut reader = Reader::new(rest);
            prop_assert_eq!(decode_group_entry(*kind, &mut reader), Some(Ok(entry)));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_give_an_entry_or_an_error(kind in COMMIT..=DELETE, bytes: Vec<u8>) {
            prop_assert!(decode_group_entry(kind, &mut Reader::new(&bytes)).is_some());
        }

        /// The changes before them are in `groups` already, as the store has what earlier checkpoints brought.
        #[test]
        fn many_changes_come_to_what_they_do_one_by_one(
            before in proptest::collection::vec(entry("[ab]"), 0..6),
            first in proptest::collection::vec(entry("[ab]"), 0..8),
            later in proptest::collection::vec(entry("[ab]"), 0..8),
        ) {
            let mut expected = Groups::new();
            before.iter().for_each(|entry| apply_one(&mut expected, entry));
            let mut groups = expected.clone();
            first.iter().chain(&later).for_each(|entry| apply_one(&mut expected, entry));
            apply_all(&mut groups, &first.into_iter().collect());
            apply_all(&mut groups, &later.into_iter().collect());
            prop_assert_eq!(groups, expected);
        }
    }

    #[test]
    fn a_name_that_can_not_be_one_is_an_error() {
        for name in [&b""[..], &[b'x'; 256], &[0xff]] {
            let mut bytes = Vec::new();
            bytes.put_sized(name);
            assert!(decode_group_entry(DELETE, &mut Reader::new(&bytes)).unwrap().is_err(), "{name:?}");
        }
    }
}
