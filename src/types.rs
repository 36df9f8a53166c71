//! Names, ids and offsets, each checked on construction.

use std::borrow::Borrow;
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The longest topic name, in characters (T-1).
pub const MAX_TOPIC_NAME: usize = 249;

/// The most partitions that one topic may have.
pub const MAX_PARTITIONS: u32 = 100_000;

/// Names that Kafka keeps for itself (T-4).
const RESERVED: [&str; 4] = ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"];

/// A topic's name: 1 to 249 of `[A-Za-z0-9._-]`, neither `.` nor `..` (T-1). Cheap to clone.
///
/// ```
/// use brooklet::TopicName;
///
/// assert_eq!(TopicName::new("orders")?.as_str(), "orders");
/// assert!(TopicName::new("foo bar").is_err());
/// # Ok::<(), brooklet::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTopic`] when the name breaks T-1 or is one of Kafka's internal names (T-4).
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        match invalid_reason(name) {
            Some(reason) => Err(Error::InvalidTopic { name: name.chars().take(300).collect(), reason }),
            None => Ok(Self(name.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether two different names would be one metric name in Kafka: equal once every `.` is a `_` (T-2).
    pub(crate) fn collides_with(&self, other: &TopicName) -> bool {
        let folded = |c: u8| if c == b'.' { b'_' } else { c };
        self.0.len() == other.0.len() && self.0.bytes().map(folded).eq(other.0.bytes().map(folded))
    }
}

fn invalid_reason(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a name has at least one character".into());
    }
    if name == "." || name == ".." {
        return Some("`.` and `..` can't be names".into());
    }
    if let Some(c) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        return Some(format!("{c:?} is not one of the letters a-z, A-Z, the digits, `.`, `_` and `-`"));
    }
    if name.len() > MAX_TOPIC_NAME {
        return Some(format!("{} characters are more than {MAX_TOPIC_NAME}", name.len()));
    }
    RESERVED.contains(&name).then(|| "Kafka keeps this name for itself".into())
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for TopicName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        TopicName::new(name)
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for TopicName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for TopicName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

/// The identity of a topic: 128 random bits, fresh at every creation (T-5, KIP-516). A topic that is deleted and
/// created again under the same name is another topic with another id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(u128);

impl TopicId {
    pub(crate) const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// The 128 bits.
    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One partition of a topic, by name: the address of a log.
///
/// The name is not checked here; a call that looks the topic up says what is wrong with it.
///
/// ```
/// use brooklet::TopicPartition;
///
/// assert_eq!(TopicPartition::new("orders", 2).to_string(), "orders-2");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    topic: Arc<str>,
    partition: u32,
}

impl TopicPartition {
    /// Names a partition; the first one is 0.
    pub fn new(topic: impl AsRef<str>, partition: u32) -> Self {
        Self { topic: topic.as_ref().into(), partition }
    }

    /// The same, sharing the name.
    pub(crate) fn of(topic: &TopicName, partition: u32) -> Self {
        Self { topic: Arc::clone(&topic.0), partition }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition's number, from 0.
    pub fn partition(&self) -> u32 {
        self.partition
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic.escape_debug(), self.partition)
    }
}

impl FromStr for TopicPartition {
    type Err = Error;

    /// Reads what `Display` writes, as Kafka's tools do: `orders-0`. The name may contain dashes itself.
    ///
    /// # Errors
    ///
    /// [`Error::IllegalArgument`] when there is no dash with a number after it; [`Error::InvalidTopic`] for a bad name.
    fn from_str(text: &str) -> Result<Self> {
        let parts = text.rsplit_once('-').and_then(|(topic, partition)| Some((topic, partition.parse().ok()?)));
        let Some((topic, partition)) = parts else {
            let reason = format!("`{}` is not a partition: write it as `orders-0`", text.escape_debug());
            return Err(Error::illegal_argument(reason));
        };
        Ok(TopicPartition::of(&TopicName::new(topic)?, partition))
    }
}

impl<T: AsRef<str>> From<(T, u32)> for TopicPartition {
    fn from((topic, partition): (T, u32)) -> Self {
        TopicPartition::new(topic, partition)
    }
}

/// The place of a record in its partition: 0 for the first record ever appended, one more for each next (R-6).
///
/// ```
/// use brooklet::Offset;
///
/// let offset = Offset::new(41);
/// assert_eq!(offset + 1, 42);
/// assert_eq!(Offset::new(50) - offset, 9);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Offset(u64);

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Offset = Offset(0);

    /// The largest offset, as in Kafka: 2^63 - 1.
    pub const MAX: Offset = Offset(i64::MAX as u64);

    /// An offset; more than [`Offset::MAX`] is taken as that.
    pub const fn new(offset: u64) -> Self {
        if offset > Self::MAX.0 { Self::MAX } else { Self(offset) }
    }

    /// The plain number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The offset after this one.
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<u64> for Offset {
    fn from(offset: u64) -> Self {
        Self::new(offset)
    }
}

impl From<Offset> for u64 {
    fn from(offset: Offset) -> Self {
        offset.0
    }
}

impl PartialEq<u64> for Offset {
    fn eq(&self, other: &u64) -> bool {
        self.0 == *other
    }
}

impl PartialOrd<u64> for Offset {
    fn partial_cmp(&self, other: &u64) -> Option<std::cmp::Ordering> {
        self.0.partial_cmp(other)
    }
}

impl Add<u64> for Offset {
    type Output = Offset;

    /// Stops at [`Offset::MAX`].
    fn add(self, records: u64) -> Offset {
        Offset::new(self.0.saturating_add(records))
    }
}

impl Sub for Offset {
    type Output = u64;

    /// How far `other` lies behind this one; 0 when it does not.
    fn sub(self, other: Offset) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

/// Which offset is meant: Kafka's `ListOffsets` specs (A-2, R-11), as words instead of negative numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// The log start: the smallest offset still readable.
    Earliest,
    /// The end: the offset that the next record will get.
    Latest,
    /// The first record that carries the largest timestamp.
    MaxTimestamp,
    /// The smallest offset whose timestamp, in milliseconds since the epoch, is at least this (R-14).
    Timestamp(i64),
    /// This very offset.
    Offset(u64),
}

impl From<Offset> for OffsetSpec {
    fn from(offset: Offset) -> Self {
        OffsetSpec::Offset(offset.get())
    }
}

impl From<u64> for OffsetSpec {
    fn from(offset: u64) -> Self {
        OffsetSpec::Offset(offset)
    }
}

/// A record's offset together with its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OffsetAndTimestamp {
    /// The record's offset.
    pub offset: Offset,
    /// The record's timestamp, in milliseconds since the epoch.
    pub timestamp: i64,
}

/// What a record's timestamp tells (R-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// The producer's time: given with the record, or the time of `send`.
    #[default]
    CreateTime,
    /// The time at which brooklet took the record.
    LogAppendTime,
}

impl FromStr for TimestampType {
    type Err = Error;

    /// Reads the value of `message.timestamp.type`: `CreateTime` or `LogAppendTime`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`], which names the values that are allowed.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "CreateTime" => Ok(TimestampType::CreateTime),
            "LogAppendTime" => Ok(TimestampType::LogAppendTime),
            _ => {
                let reason = "`CreateTime` or `LogAppendTime` is expected";
                Err(Error::invalid_config("message.timestamp.type", text, reason))
            }
        }
    }
}

impl fmt::Display for TimestampType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        })
    }
}

/// The number by which journal and store know a topic. Counted up at every creation and never used again, so that
/// a late frame can't touch a re-created topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TopicNumber(pub(crate) u32);

/// One partition, as journal and store know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LogId {
    pub(crate) topic: TopicNumber,
    pub(crate) partition: u32,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic number {}, partition {}", self.topic.0, self.partition)
    }
}

/// The identity of one store and its journal: 128 random bits in both files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreId(pub(crate) u128);
