//! The words of consumer groups: names, committed offsets, and what outlives a group's members.

mod describe;

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::types::{LogId, Offset, TopicNumber};

pub use describe::{
    GroupDescription, GroupListing, GroupMembershipOperation, GroupMetadata, GroupState, MemberDescription,
    OffsetChange, PartitionLag, ResetTo,
};

/// The longest group id, in bytes.
const MAX_GROUP_ID: usize = 255;

/// The id of a consumer group: 1 to 255 bytes of any text. Cheap to clone.
///
/// It is shown with its control characters escaped; [`as_str`](GroupName::as_str) gives it as it is.
///
/// ```
/// use brooklet::GroupName;
///
/// assert_eq!(GroupName::new("billing")?.as_str(), "billing");
/// assert!(GroupName::new("").is_err());
/// # Ok::<(), brooklet::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// Checks an id.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidGroupId`] when it is empty, or longer than 255 bytes.
    pub fn new(group: impl AsRef<str>) -> Result<Self> {
        let group = group.as_ref();
        let reason = match group.len() {
            0 => "an id has at least one character".to_owned(),
            1..=MAX_GROUP_ID => return Ok(Self(group.into())),
            len => format!("{len} bytes are more than {MAX_GROUP_ID}"),
        };
        Err(Error::InvalidGroupId { group: group.chars().take(300).collect(), reason })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.as_str().escape_debug().to_string())
    }
}

impl FromStr for GroupName {
    type Err = Error;

    fn from_str(group: &str) -> Result<Self> {
        GroupName::new(group)
    }
}

impl AsRef<str> for GroupName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for GroupName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for GroupName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for GroupName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

/// What a consumer commits for a partition: the offset of the next record to read, and a word about it (C-31).
///
/// ```
/// use brooklet::OffsetAndMetadata;
///
/// let committed = OffsetAndMetadata::new(5).metadata("by host 7");
/// assert_eq!(committed.offset, 5);
/// assert_eq!(OffsetAndMetadata::from(5).metadata, "");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OffsetAndMetadata {
    /// The offset of the next record to read.
    pub offset: Offset,
    /// Whatever the committer likes to keep with it; empty when there is nothing to say.
    pub metadata: String,
}

impl OffsetAndMetadata {
    /// An offset without metadata.
    pub fn new(offset: impl Into<Offset>) -> Self {
        Self { offset: offset.into(), metadata: String::new() }
    }

    /// The same offset with this metadata.
    #[must_use]
    pub fn metadata(self, metadata: impl Into<String>) -> Self {
        Self { metadata: metadata.into(), ..self }
    }
}

impl From<Offset> for OffsetAndMetadata {
    fn from(offset: Offset) -> Self {
        Self::new(offset)
    }
}

impl From<u64> for OffsetAndMetadata {
    fn from(offset: u64) -> Self {
        Self::new(offset)
    }
}

impl From<&CommittedOffset> for OffsetAndMetadata {
    fn from(committed: &CommittedOffset) -> Self {
        Self { offset: committed.offset, metadata: committed.metadata.as_ref().to_owned() }
    }
}

impl fmt::Display for OffsetAndMetadata {
    /// The offset, and behind it the metadata if there is any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.offset)?;
        if self.metadata.is_empty() { Ok(()) } else { write!(f, " {:?}", self.metadata) }
    }
}

/// A committed offset of one group and partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    /// Of the next record to read. Nobody checked it against the log (C-33).
    pub(crate) offset: Offset,
    /// Empty when there is none.
    pub(crate) metadata: Arc<str>,
    /// When it was committed, in milliseconds since the epoch.
    pub(crate) committed_ms: i64,
}

/// What is kept of a group beside its committed offsets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KeptState {
    /// Counted up whenever its members or what they read change.
    pub(crate) epoch: u64,
    /// When its last member left, in milliseconds since the epoch; `None` while it has members, and when it never had any.
    pub(crate) emptied_ms: Option<i64>,
    /// The topics it reads, and how many partitions each had when the group first read it: a later one is read from its
    /// start (T-8).
    pub(crate) topics: BTreeMap<TopicNumber, u32>,
    /// Of those later ones, the partitions whose commit was taken back: they start by the reset rule again.
    pub(crate) taken_back: BTreeSet<LogId>,
}

impl KeptState {
    /// Whether a partition was added after the group first read its topic.
    pub(crate) fn is_added(topics: &BTreeMap<TopicNumber, u32>, log: LogId) -> bool {
        topics.get(&log.topic).is_some_and(|first| log.partition >= *first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_1_to_255_bytes() {
        for group in ["a", "with space", "\u{1b}[31m", &"x".repeat(255)] {
            assert_eq!(GroupName::new(group).unwrap(), group);
        }
        for group in ["", &"x".repeat(256), &"ü".repeat(128)] {
            assert!(matches!(GroupName::new(group), Err(Error::InvalidGroupId { .. })), "{group}");
        }
    }

    #[test]
    fn control_characters_are_shown_escaped() {
        let group = GroupName::new("a\u{1b}b").unwrap();
        assert_eq!((group.to_string().as_str(), group.as_str()), ("a\\u{1b}b", "a\u{1b}b"));
        assert!(!GroupName::new("\u{1b}".repeat(300)).unwrap_err().to_string().contains('\u{1b}'));
        assert_eq!(OffsetAndMetadata::new(5).metadata("a\u{1b}").to_string(), "5 \"a\\u{1b}\"");
        assert_eq!(OffsetAndMetadata::from(5).to_string(), "5");
    }
}
