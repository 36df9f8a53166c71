//! Options, each typed and checked once.

mod compression;
mod durability;
mod limits;
mod policy;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::types::TimestampType;

pub use compression::CompressionType;
pub use durability::Durability;
pub(crate) use limits::{CompactionLimits, DirtyRatio, Layout, RetentionLimits, UncommittedLimits};
pub use policy::CleanupPolicy;

/// The configuration of a topic, under Kafka's keys (T-11).
///
/// A key is either set explicitly or has its default; [`entries`](TopicConfig::entries) tells which (T-13).
///
/// | key | default | meaning |
/// |---|---|---|
/// | `max.message.bytes` | 1048588 | the largest record, counted as [`ProducerRecord::size`](crate::ProducerRecord::size) says |
/// | `message.timestamp.type` | `CreateTime` | whose time a record carries: the producer's or, with `LogAppendTime`, brooklet's |
/// | `message.timestamp.before.max.ms` | no limit | how far in the past a producer's timestamp may lie (KIP-937) |
/// | `message.timestamp.after.max.ms` | 3600000 | how far in the future it may lie |
/// | `cleanup.policy` | `delete` | `delete`: what is beyond a limit of retention goes; `compact`: of each key the last record stays; `compact,delete`: both; empty: nothing ever goes by itself |
/// | `retention.ms` | -1: no limit | how old records get before they go. **Kafka's default is 7 days** |
/// | `retention.bytes` | -1: no limit | how many bytes a *partition* holds before its oldest records go |
/// | `brooklet.uncommitted.retention.ms` | 0: not at all | how old records get that a live group has not committed; -1: no cap of age |
/// | `brooklet.uncommitted.retention.bytes` | 0: not at all | how many bytes a partition may have with such records; -1: no cap of size |
/// | `brooklet.uncommitted.idle.ms` | 604800000 | how long after its last commit a group without members counts as live |
/// | `segment.bytes` | 16777216 | the size at which a segment is closed. Kafka's default is 1 GiB |
/// | `segment.ms` | 604800000 | the span of record time after which a segment is closed |
/// | `min.cleanable.dirty.ratio` | 0.5 | compaction: the share of a partition's bytes that has to be new before it is due |
/// | `min.compaction.lag.ms` | 0 | compaction: how long a record is left alone, at least |
/// | `max.compaction.lag.ms` | no limit | compaction: how long a record may wait for it, whatever the ratio |
/// | `compression.type` | `none` | how chunks are compressed: `none`, `lz4` or `zstd`; see [`CompressionType`] |
/// | `delete.retention.ms` | 86400000 | compaction: how long a tombstone is kept after it was first met |
///
/// # When do records go?
///
/// Never, unless somebody sets a limit: an embedded log must not lose data because nobody chose. With a limit, records go a
/// *segment* at a time, the oldest first, when the broker [cleans](crate::Broker::clean): so they may stay longer than the limit
/// says, and never shorter. A segment goes when its youngest record is older than `retention.ms`, or when the
/// partition still has `retention.bytes` without it. Smaller segments keep closer to the limits.
///
/// # Can records wait for slow readers?
///
/// Yes, which Kafka does not offer: with `brooklet.uncommitted.retention.ms`, `brooklet.uncommitted.retention.bytes` or both, a segment that
/// is beyond the topic's limits stays while a live consumer group has not committed all of it. These two are hard caps: beyond
/// either of them it goes all the same. A group is live while it has members, and for `brooklet.uncommitted.idle.ms` after its last
/// commit. A live group that reads the topic and has committed nothing in a partition waits for all of it.
///
/// | a segment | goes |
/// |---|---|
/// | within `retention.ms` and `retention.bytes`, or without limits | no |
/// | beyond them, and every live group has committed it | yes |
/// | beyond them, a live group has not, and it is within the caps | **no** |
/// | beyond them, a live group has not, and it is beyond a cap | yes |
/// | beyond them, and only idle groups have not committed it | yes |
/// | the oldest of a broker above its [`max_bytes`](crate::Builder::max_bytes) | yes, whoever waits for it |
/// | below what [`delete_records`](crate::Broker::delete_records) was told | yes, whoever waits for it |
///
/// # What does compaction keep?
///
/// With `compact`, a reader from the start gets at least the last record of every key, in order and at its offset (L-20 to
/// L-23). When the broker [cleans](crate::Broker::clean) and enough of a partition is new, records go whose key has a later
/// one. A record without a value, a *tombstone*, deletes its key: it goes as well, `delete.retention.ms` after the clean that met
/// it first (KIP-534), so that a reader has that long to see it. A record needs a key: one without is refused (R-17).
///
/// The last segment of a partition is never compacted, so a small topic is not either until it has more than one:
/// lower `segment.bytes` or `max.compaction.lag.ms`, which closes segments too. What a compacted topic says of a key
/// now is found by [`latest`](crate::Broker::latest) and [`table`](crate::Broker::table).
///
/// Bytes are counted as stored: the chunks that records are packed into, compressed if the topic says so, with about 5 bytes for
/// each record and 84 for each chunk of up to 32 KiB beside keys, values and headers.
///
/// ```
/// use brooklet::{TimestampType, TopicConfig};
///
/// let config = TopicConfig::default().timestamp_type(TimestampType::LogAppendTime).set("max.message.bytes", "2000")?;
/// assert_eq!(config.get("max.message.bytes"), Some("2000".to_owned()));
/// assert!(TopicConfig::default().set("max.massage.bytes", "2000").is_err());
/// # Ok::<(), brooklet::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TopicConfig {
    max_message_bytes: Option<u32>,
    timestamp_type: Option<TimestampType>,
    timestamp_before_max_ms: Option<i64>,
    timestamp_after_max_ms: Option<i64>,
    cleanup_policy: Option<CleanupPolicy>,
    compression_type: Option<CompressionType>,
    /// The outer `Option` says whether it was set, the inner one whether there is a limit.
    retention_ms: Option<Option<i64>>,
    retention_bytes: Option<Option<u64>>,
    uncommitted_retention_ms: Option<Option<i64>>,
    uncommitted_retention_bytes: Option<Option<u64>>,
    uncommitted_idle_ms: Option<i64>,
    segment_bytes: Option<u64>,
    segment_ms: Option<i64>,
    min_cleanable_dirty_ratio: Option<DirtyRatio>,
    min_compaction_lag_ms: Option<i64>,
    max_compaction_lag_ms: Option<i64>,
    delete_retention_ms: Option<i64>,
}

/// One configuration of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigEntry {
    /// The key, as Kafka spells it.
    pub key: &'static str,
    /// Its present value.
    pub value: String,
    /// Where the value comes from.
    pub source: ConfigSource,
}

/// Where a configuration's value comes from (T-13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigSource {
    /// It was set on the topic.
    Topic,
    /// It is brooklet's default.
    Default,
}

const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
const TIMESTAMP_TYPE: &str = "message.timestamp.type";
const TIMESTAMP_BEFORE_MAX: &str = "message.timestamp.before.max.ms";
const TIMESTAMP_AFTER_MAX: &str = "message.timestamp.after.max.ms";

const CLEANUP_POLICY: &str = "cleanup.policy";
const COMPRESSION_TYPE: &str = "compression.type";
const RETENTION_MS: &str = "retention.ms";
const RETENTION_BYTES: &str = "retention.bytes";
const UNCOMMITTED_RETENTION_MS: &str = "brooklet.uncommitted.retention.ms";
const UNCOMMITTED_RETENTION_BYTES: &str = "brooklet.uncommitted.retention.bytes";
const UNCOMMITTED_IDLE: &str = "brooklet.uncommitted.idle.ms";
const SEGMENT_BYTES: &str = "segment.bytes";
const SEGMENT_MS: &str = "segment.ms";
const MIN_DIRTY_RATIO: &str = "min.cleanable.dirty.ratio";
const MIN_COMPACTION_LAG: &str = "min.compaction.lag.ms";
const MAX_COMPACTION_LAG: &str = "max.compaction.lag.ms";
const DELETE_RETENTION: &str = "delete.retention.ms";

/// The keys that a topic has, sorted.
const KEYS: [&str; 17] = [
    UNCOMMITTED_IDLE,
    UNCOMMITTED_RETENTION_BYTES,
    UNCOMMITTED_RETENTION_MS,
    CLEANUP_POLICY,
    COMPRESSION_TYPE,
    DELETE_RETENTION,
    MAX_COMPACTION_LAG,
    MAX_MESSAGE_BYTES,
    TIMESTAMP_AFTER_MAX,
    TIMESTAMP_BEFORE_MAX,
    TIMESTAMP_TYPE,
    MIN_DIRTY_RATIO,
    MIN_COMPACTION_LAG,
    RETENTION_BYTES,
    RETENTION_MS,
    SEGMENT_BYTES,
    SEGMENT_MS,
];

const DEFAULT_MAX_MESSAGE_BYTES: u32 = 1_048_588;
const DEFAULT_UNCOMMITTED_IDLE_MS: i64 = 604_800_000;
const DEFAULT_SEGMENT_BYTES: u64 = 16 << 20;
const DEFAULT_SEGMENT_MS: i64 = 604_800_000;
const DEFAULT_MIN_DIRTY_RATIO: DirtyRatio = DirtyRatio::HALF;
const DEFAULT_DELETE_RETENTION_MS: i64 = 86_400_000;
const DEFAULT_TIMESTAMP_AFTER_MAX_MS: i64 = 3_600_000;

/// The largest `max.message.bytes`: 64 MiB.
pub const MAX_MESSAGE_BYTES_LIMIT: u32 = 64 << 20;

impl TopicConfig {
    /// Sets `max.message.bytes`; more than 64 MiB is taken as 64 MiB.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: u32) -> Self {
        self.max_message_bytes = Some(bytes.min(MAX_MESSAGE_BYTES_LIMIT));
        self
    }

    /// Sets `message.timestamp.type`.
    #[must_use]
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.timestamp_type = Some(timestamp_type);
        self
    }

    /// Sets `message.timestamp.before.max.ms`.
    #[must_use]
    pub fn timestamp_before_max(mut self, age: Duration) -> Self {
        self.timestamp_before_max_ms = Some(millis(age));
        self
    }

    /// Sets `message.timestamp.after.max.ms`.
    #[must_use]
    pub fn timestamp_after_max(mut self, ahead: Duration) -> Self {
        self.timestamp_after_max_ms = Some(millis(ahead));
        self
    }

    /// Sets `cleanup.policy`.
    #[must_use]
    pub fn cleanup_policy(mut self, policy: CleanupPolicy) -> Self {
        self.cleanup_policy = Some(policy);
        self
    }

    /// Sets `compression.type`. A topic can only be given what this build [supports](CompressionType::is_supported).
    #[must_use]
    pub fn compression_type(mut self, compression_type: CompressionType) -> Self {
        self.compression_type = Some(compression_type);
        self
    }

    /// Sets `retention.ms`: how old records get before they go; `None` keeps them whatever their age.
    ///
    /// What counts is the time that a record carries, not when it came: one that a producer dates into the future keeps its
    /// segment and all later ones.
    #[must_use]
    pub fn retention(mut self, age: Option<Duration>) -> Self {
        self.retention_ms = Some(age.map(millis));
        self
    }

    /// Sets `retention.bytes`: how many bytes each partition holds before its oldest records go; `None` for no limit.
    #[must_use]
    pub fn retention_bytes(mut self, bytes: Option<u64>) -> Self {
        self.retention_bytes = Some(bytes);
        self
    }

    /// Sets `brooklet.uncommitted.retention.ms`: how old records get that a live group has not committed; `None`: no cap of age.
    #[must_use]
    pub fn uncommitted_retention(mut self, age: Option<Duration>) -> Self {
        self.uncommitted_retention_ms = Some(age.map(millis));
        self
    }

    /// Sets `brooklet.uncommitted.retention.bytes`: how many bytes a partition may have with records that a live group has not
    /// committed; `None`: no cap of size.
    #[must_use]
    pub fn uncommitted_retention_bytes(mut self, bytes: Option<u64>) -> Self {
        self.uncommitted_retention_bytes = Some(bytes);
        self
    }

    /// Sets `brooklet.uncommitted.idle.ms`: how long after its last commit a group without members counts as live.
    #[must_use]
    pub fn uncommitted_idle(mut self, time: Duration) -> Self {
        self.uncommitted_idle_ms = Some(millis(time));
        self
    }

    /// Sets `segment.bytes`; 0 is taken as 1.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = Some(bytes.max(1));
        self
    }

    /// Sets `segment.ms`; less than a millisecond is taken as one.
    #[must_use]
    pub fn segment_time(mut self, span: Duration) -> Self {
        self.segment_ms = Some(millis(span).max(1));
        self
    }

    /// Sets `min.cleanable.dirty.ratio`: the share of a partition's bytes, from 0 to 1, that has to be more than covered by new
    /// records before compaction is due. What is outside is taken as the nearest. A lower share keeps
    /// [`latest`](crate::Broker::latest) nearer to the end, and rewrites more.
    #[must_use]
    pub fn min_cleanable_dirty_ratio(mut self, ratio: f64) -> Self {
        let ratio = if ratio.is_nan() { 0.0 } else { ratio.clamp(0.0, 1.0) };
        self.min_cleanable_dirty_ratio = DirtyRatio::new(ratio);
        self
    }

    /// Sets `min.compaction.lag.ms`: a reader that is not further behind than this sees every record (L-20).
    #[must_use]
    pub fn min_compaction_lag(mut self, lag: Duration) -> Self {
        self.min_compaction_lag_ms = Some(millis(lag));
        self
    }

    /// Sets `max.compaction.lag.ms`: a segment is closed when a record comes so much younger than its first one, and a
    /// closed one is compacted when it is older, whatever the ratio; less than a millisecond is taken as one.
    #[must_use]
    pub fn max_compaction_lag(mut self, lag: Duration) -> Self {
        self.max_compaction_lag_ms = Some(millis(lag).max(1));
        self
    }

    /// Sets `delete.retention.ms`: how long a tombstone is kept after the clean that met it first.
    #[must_use]
    pub fn delete_retention(mut self, time: Duration) -> Self {
        self.delete_retention_ms = Some(millis(time));
        self
    }

    /// Sets a key from text. Limits of retention that are negative mean that there is none.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] when the key is unknown or the value out of its range.
    pub fn set(mut self, key: &str, value: &str) -> Result<Self> {
        let invalid =
            |reason: &str| Error::InvalidConfig { key: key.into(), value: value.into(), reason: reason.into() };
        let not_negative = || match value.parse::<i64>() {
            Ok(number) if number >= 0 => Ok(number),
            _ => Err(invalid("a whole number of milliseconds, 0 or more, is expected")),
        };
        let age_limit = || match value.parse::<i64>() {
            Ok(ms) if ms >= -1 => Ok((ms >= 0).then_some(ms)),
            _ => Err(invalid("a whole number of milliseconds, or -1 for no limit, is expected")),
        };
        let size_limit = || match value.parse::<i64>() {
            Ok(bytes) => Ok(u64::try_from(bytes).ok()),
            Err(_) => Err(invalid("a number of bytes, or -1 for no limit, is expected")),
        };
        match key {
            MAX_MESSAGE_BYTES => match value.parse() {
                Ok(bytes) if bytes <= MAX_MESSAGE_BYTES_LIMIT => self.max_message_bytes = Some(bytes),
                _ => return Err(invalid("a number of bytes from 0 to 67108864 is expected")),
            },
            TIMESTAMP_TYPE => self.timestamp_type = Some(value.parse()?),
            TIMESTAMP_BEFORE_MAX => self.timestamp_before_max_ms = Some(not_negative()?),
            TIMESTAMP_AFTER_MAX => self.timestamp_after_max_ms = Some(not_negative()?),
            CLEANUP_POLICY => self.cleanup_policy = Some(value.parse()?),
            COMPRESSION_TYPE => self.compression_type = Some(value.parse()?),
            RETENTION_MS => self.retention_ms = Some(age_limit()?),
            RETENTION_BYTES => self.retention_bytes = Some(size_limit()?),
            UNCOMMITTED_RETENTION_MS => self.uncommitted_retention_ms = Some(age_limit()?),
            UNCOMMITTED_RETENTION_BYTES => self.uncommitted_retention_bytes = Some(size_limit()?),
            UNCOMMITTED_IDLE => self.uncommitted_idle_ms = Some(not_negative()?),
            SEGMENT_BYTES => match value.parse() {
                Ok(bytes) if (1..=i64::MAX.unsigned_abs()).contains(&bytes) => self.segment_bytes = Some(bytes),
                _ => return Err(invalid("a number of bytes, 1 or more, is expected")),
            },
            SEGMENT_MS => match value.parse() {
                Ok(ms) if ms >= 1 => self.segment_ms = Some(ms),
                _ => return Err(invalid("a whole number of milliseconds, 1 or more, is expected")),
            },
            MIN_DIRTY_RATIO => match value.parse().ok().and_then(DirtyRatio::new) {
                Some(ratio) => self.min_cleanable_dirty_ratio = Some(ratio),
                None => return Err(invalid("a number from 0 to 1 is expected")),
            },
            MIN_COMPACTION_LAG => self.min_compaction_lag_ms = Some(not_negative()?),
            MAX_COMPACTION_LAG => match value.parse() {
                Ok(ms) if ms >= 1 => self.max_compaction_lag_ms = Some(ms),
                _ => return Err(invalid("a whole number of milliseconds, 1 or more, is expected")),
            },
            DELETE_RETENTION => self.delete_retention_ms = Some(not_negative()?),
            _ => return Err(invalid(&unknown_key(key))),
        }
        Ok(self)
    }

    /// Gives a key its default back.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] when the key is unknown.
    pub fn unset(mut self, key: &str) -> Result<Self> {
        match key {
            MAX_MESSAGE_BYTES => self.max_message_bytes = None,
            TIMESTAMP_TYPE => self.timestamp_type = None,
            TIMESTAMP_BEFORE_MAX => self.timestamp_before_max_ms = None,
            TIMESTAMP_AFTER_MAX => self.timestamp_after_max_ms = None,
            CLEANUP_POLICY => self.cleanup_policy = None,
            COMPRESSION_TYPE => self.compression_type = None,
            RETENTION_MS => self.retention_ms = None,
            RETENTION_BYTES => self.retention_bytes = None,
            UNCOMMITTED_RETENTION_MS => self.uncommitted_retention_ms = None,
            UNCOMMITTED_RETENTION_BYTES => self.uncommitted_retention_bytes = None,
            UNCOMMITTED_IDLE => self.uncommitted_idle_ms = None,
            SEGMENT_BYTES => self.segment_bytes = None,
            SEGMENT_MS => self.segment_ms = None,
            MIN_DIRTY_RATIO => self.min_cleanable_dirty_ratio = None,
            MIN_COMPACTION_LAG => self.min_compaction_lag_ms = None,
            MAX_COMPACTION_LAG => self.max_compaction_lag_ms = None,
            DELETE_RETENTION => self.delete_retention_ms = None,
            _ => {
                return Err(Error::InvalidConfig { key: key.into(), value: String::new(), reason: unknown_key(key) });
            }
        }
        Ok(self)
    }

    /// The present value of a key as text; `None` when there is no such key.
    pub fn get(&self, key: &str) -> Option<String> {
        self.entries().into_iter().find(|entry| entry.key == key).map(|entry| entry.value)
    }

    /// Every key with its present value and where that comes from, sorted by key.
    pub fn entries(&self) -> Vec<ConfigEntry> {
        let overrides = self.overrides();
        let defaults = Self::default();
        KEYS.iter()
            .map(|&key| match overrides.get(key) {
                Some(value) => ConfigEntry { key, value: value.clone(), source: ConfigSource::Topic },
                None => ConfigEntry { key, value: defaults.value(key), source: ConfigSource::Default },
            })
            .collect()
    }

    /// The explicitly set keys as text: what the store keeps.
    pub(crate) fn overrides(&self) -> BTreeMap<&'static str, String> {
        let is_set = |key: &str| match key {
            MAX_MESSAGE_BYTES => self.max_message_bytes.is_some(),
            TIMESTAMP_TYPE => self.timestamp_type.is_some(),
            TIMESTAMP_BEFORE_MAX => self.timestamp_before_max_ms.is_some(),
            CLEANUP_POLICY => self.cleanup_policy.is_some(),
            COMPRESSION_TYPE => self.compression_type.is_some(),
            RETENTION_MS => self.retention_ms.is_some(),
            RETENTION_BYTES => self.retention_bytes.is_some(),
            UNCOMMITTED_RETENTION_MS => self.uncommitted_retention_ms.is_some(),
            UNCOMMITTED_RETENTION_BYTES => self.uncommitted_retention_bytes.is_some(),
            UNCOMMITTED_IDLE => self.uncommitted_idle_ms.is_some(),
            SEGMENT_BYTES => self.segment_bytes.is_some(),
            SEGMENT_MS => self.segment_ms.is_some(),
            MIN_DIRTY_RATIO => self.min_cleanable_dirty_ratio.is_some(),
            MIN_COMPACTION_LAG => self.min_compaction_lag_ms.is_some(),
            MAX_COMPACTION_LAG => self.max_compaction_lag_ms.is_some(),
            DELETE_RETENTION => self.delete_retention_ms.is_some(),
            _ => self.timestamp_after_max_ms.is_some(),
        };
        KEYS.iter().filter(|key| is_set(key)).map(|&key| (key, self.value(key))).collect()
    }

    fn value(&self, key: &str) -> String {
        match key {
            MAX_MESSAGE_BYTES => self.max_record_size().to_string(),
            TIMESTAMP_TYPE => self.record_timestamp_type().to_string(),
            TIMESTAMP_BEFORE_MAX => self.timestamp_before_max_ms.unwrap_or(i64::MAX).to_string(),
            CLEANUP_POLICY => self.policy().to_string(),
            COMPRESSION_TYPE => self.compression().to_string(),
            RETENTION_MS => or_minus_one(self.retention_ms.flatten()),
            RETENTION_BYTES => or_minus_one(self.retention_bytes.flatten()),
            UNCOMMITTED_RETENTION_MS => or_minus_one(self.uncommitted_retention_ms.unwrap_or(Some(0))),
            UNCOMMITTED_RETENTION_BYTES => or_minus_one(self.uncommitted_retention_bytes.unwrap_or(Some(0))),
            UNCOMMITTED_IDLE => self.uncommitted_idle_ms.unwrap_or(DEFAULT_UNCOMMITTED_IDLE_MS).to_string(),
            SEGMENT_BYTES => self.layout().segment_bytes.to_string(),
            SEGMENT_MS => self.segment_ms.unwrap_or(DEFAULT_SEGMENT_MS).to_string(),
            MIN_DIRTY_RATIO => self.compaction_limits().min_dirty_ratio.as_f64().to_string(),
            MIN_COMPACTION_LAG => self.compaction_limits().min_lag_ms.to_string(),
            MAX_COMPACTION_LAG => self.compaction_limits().max_lag_ms.to_string(),
            DELETE_RETENTION => self.compaction_limits().delete_retention_ms.to_string(),
            _ => self.timestamp_after_max_ms.unwrap_or(DEFAULT_TIMESTAMP_AFTER_MAX_MS).to_string(),
        }
    }

    /// The largest record in bytes.
    pub(crate) fn max_record_size(&self) -> usize {
        self.max_message_bytes.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES) as usize
    }

    pub(crate) fn record_timestamp_type(&self) -> TimestampType {
        self.timestamp_type.unwrap_or_default()
    }

    pub(crate) fn policy(&self) -> CleanupPolicy {
        self.cleanup_policy.unwrap_or_default()
    }

    /// As it is configured. A topic of another build may want what this one does not have.
    pub(crate) fn compression(&self) -> CompressionType {
        self.compression_type.unwrap_or_default()
    }

    /// With compaction, a segment is also closed in time for `max.compaction.lag.ms`: open ones are not compacted.
    pub(crate) fn layout(&self) -> Layout {
        let span_ms = self.segment_ms.unwrap_or(DEFAULT_SEGMENT_MS);
        let most = if self.policy().compacts() { self.compaction_limits().max_lag_ms } else { i64::MAX };
        let compression_type = Some(self.compression()).filter(|wanted| wanted.is_supported());
        Layout {
            segment_bytes: self.segment_bytes.unwrap_or(DEFAULT_SEGMENT_BYTES),
            segment_span_ms: span_ms.min(most),
            compression_type: compression_type.unwrap_or_default(),
        }
    }

    pub(crate) fn compaction_limits(&self) -> CompactionLimits {
        CompactionLimits {
            min_lag_ms: self.min_compaction_lag_ms.unwrap_or(0),
            max_lag_ms: self.max_compaction_lag_ms.unwrap_or(i64::MAX),
            min_dirty_ratio: self.min_cleanable_dirty_ratio.unwrap_or(DEFAULT_MIN_DIRTY_RATIO),
            delete_retention_ms: self.delete_retention_ms.unwrap_or(DEFAULT_DELETE_RETENTION_MS),
        }
    }

    /// Whether the keys fit together, and this build can do what they say.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`].
    pub(crate) fn check(&self) -> Result<()> {
        let compression = self.compression();
        if !compression.is_supported() {
            return Err(Error::InvalidConfig {
                key: COMPRESSION_TYPE.into(),
                value: compression.to_string(),
                reason: format!("this build of brooklet is without it: build it with the feature `{compression}`"),
            });
        }
        let CompactionLimits { min_lag_ms, max_lag_ms, .. } = self.compaction_limits();
        if min_lag_ms <= max_lag_ms {
            return Ok(());
        }
        Err(Error::InvalidConfig {
            key: MIN_COMPACTION_LAG.into(),
            value: min_lag_ms.to_string(),
            reason: format!("it is more than `{MAX_COMPACTION_LAG}`, which is {max_lag_ms}: raise that, or lower this"),
        })
    }

    /// What its policy lets go of by itself (L-8).
    pub(crate) fn retention_limits(&self) -> RetentionLimits {
        if !self.policy().deletes() {
            return RetentionLimits::default();
        }
        RetentionLimits { age_ms: self.retention_ms.flatten(), bytes: self.retention_bytes.flatten() }
    }

    /// How long records wait for live groups; `None`: not at all.
    pub(crate) fn uncommitted_limits(&self) -> Option<UncommittedLimits> {
        let (age_ms, bytes) = (self.uncommitted_retention_ms, self.uncommitted_retention_bytes);
        let is_off = age_ms.is_none() && bytes.is_none();
        let caps = RetentionLimits { age_ms: age_ms.flatten(), bytes: bytes.flatten() };
        let idle_ms = self.uncommitted_idle_ms.unwrap_or(DEFAULT_UNCOMMITTED_IDLE_MS);
        (!is_off).then_some(UncommittedLimits { caps, idle_ms })
    }

    /// Whether a producer's timestamp is within the bounds (R-12; the bounds themselves are). Says why not.
    pub(crate) fn check_timestamp(&self, timestamp: i64, now_ms: i64) -> Result<(), String> {
        let before_max = self.timestamp_before_max_ms.unwrap_or(i64::MAX);
        let after_max = self.timestamp_after_max_ms.unwrap_or(DEFAULT_TIMESTAMP_AFTER_MAX_MS);
        if timestamp < now_ms.saturating_sub(before_max) {
            return Err(format!(
                "it lies more than `{TIMESTAMP_BEFORE_MAX}` ({before_max}) before the clock ({now_ms})"
            ));
        }
        if timestamp > now_ms.saturating_add(after_max) {
            return Err(format!("it lies more than `{TIMESTAMP_AFTER_MAX}` ({after_max}) after the clock ({now_ms})"));
        }
        Ok(())
    }
}

impl fmt::Debug for TopicConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.overrides()).finish()
    }
}

/// Names those that share a word with it, or else those that are set most.
fn unknown_key(key: &str) -> String {
    let shares_a_word =
        |known: &&&str| known.split('.').any(|word| key.split(['.', '_', '-']).any(|other| other == word));
    let mut like_it: Vec<&str> = KEYS.iter().filter(shares_a_word).copied().collect();
    if like_it.is_empty() {
        like_it = vec![CLEANUP_POLICY, COMPRESSION_TYPE, RETENTION_BYTES, RETENTION_MS, SEGMENT_BYTES];
    }
    format!("there is no such key; keys like it are {}", like_it.join(", "))
}

fn or_minus_one(limit: Option<impl ToString>) -> String {
    limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string())
}

/// As milliseconds; what is too long for them is the longest.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_builder_agree_and_unset_brings_the_default_back() {
        let built = TopicConfig::default()
            .max_message_bytes(7)
            .timestamp_type(TimestampType::LogAppendTime)
            .timestamp_before_max(Duration::from_millis(5))
            .timestamp_after_max(Duration::from_millis(6))
            .cleanup_policy(CleanupPolicy::Keep)
            .compression_type(CompressionType::Zstd)
            .retention(Some(Duration::from_millis(7)))
            .retention_bytes(Some(8))
            .segment_bytes(9)
            .uncommitted_retention(Some(Duration::from_millis(14)))
            .uncommitted_retention_bytes(None)
            .uncommitted_idle(Duration::from_millis(15))
            .segment_time(Duration::from_millis(10))
            .min_cleanable_dirty_ratio(0.25)
            .min_compaction_lag(Duration::from_millis(11))
            .max_compaction_lag(Duration::from_millis(12))
            .delete_retention(Duration::from_millis(13));
        assert_eq!(built.overrides().len(), KEYS.len());
        let mut parsed = TopicConfig::default();
        for (key, value) in built.overrides() {
            parsed = parsed.set(key, &value).unwrap();
        }
        assert_eq!(parsed, built);
        for key in KEYS {
            parsed = parsed.unset(key).unwrap();
        }
        assert_eq!(parsed, TopicConfig::default());
        assert!(parsed.entries().iter().all(|entry| entry.source == ConfigSource::Default));
    }

    #[test]
    fn bad_values_are_refused() {
        for (key, value) in [
            ("max.message.bytes", "-1"),
            ("max.message.bytes", "67108865"),
            ("max.message.bytes", "many"),
            ("message.timestamp.type", "createtime"),
            ("message.timestamp.after.max.ms", "-1"),
            ("message.timestamp.before.max.ms", ""),
            ("segment.index.bytes", "1"),
            ("cleanup.policy", "remove"),
            ("cleanup.policy", "compact,remove"),
            ("min.cleanable.dirty.ratio", "1.1"),
            ("min.cleanable.dirty.ratio", "-0.1"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("min.compaction.lag.ms", "-1"),
            ("max.compaction.lag.ms", "0"),
            ("delete.retention.ms", "-1"),
            ("retention.ms", "-2"),
            ("retention.ms", "1 d"),
            ("retention.bytes", "all"),
            ("brooklet.uncommitted.retention.ms", "-2"),
            ("brooklet.uncommitted.retention.bytes", "all"),
            ("brooklet.uncommitted.idle.ms", "-1"),
            ("compression.type", "gzip"),
            ("segment.bytes", "0"),
            ("segment.ms", "0"),
        ] {
            let error = TopicConfig::default().set(key, value).unwrap_err();
            assert!(matches!(error, Error::InvalidConfig { .. }), "{key}={value}: {error}");
        }
    }

    #[test]
    fn nothing_goes_unless_a_limit_is_set_and_the_policy_lets_it() {
        let none = RetentionLimits::default();
        assert_eq!(TopicConfig::default().retention_limits(), none);
        let limited = TopicConfig::default().set("retention.ms", "0").unwrap().set("retention.bytes", "7").unwrap();
        assert_eq!(limited.retention_limits(), RetentionLimits { age_ms: Some(0), bytes: Some(7) });
        let unlimited = limited.clone().set("retention.ms", "-1").unwrap().set("retention.bytes", "-5").unwrap();
        assert_eq!(unlimited.retention_limits(), none);
        assert_eq!(unlimited.get("retention.bytes"), Some("-1".to_owned()));
        assert_eq!(limited.clone().set("cleanup.policy", "").unwrap().retention_limits(), none);
        for policy in ["compact,delete", "delete, compact"] {
            let both = limited.clone().set("cleanup.policy", policy).unwrap();
            assert_eq!(both.retention_limits(), limited.retention_limits());
            assert_eq!(both.get("cleanup.policy"), Some("compact,delete".to_owned()));
        }
        assert_eq!(limited.set("cleanup.policy", "compact").unwrap().retention_limits(), none);
    }

    #[test]
    fn lags_that_contradict_each_other_are_refused_together_only() {
        let config = TopicConfig::default().min_compaction_lag(Duration::from_millis(9));
        assert!(config.check().is_ok());
        assert!(config.clone().max_compaction_lag(Duration::from_millis(9)).check().is_ok());
        let error = config.max_compaction_lag(Duration::from_millis(8)).check().unwrap_err();
        assert!(error.to_string().contains("max.compaction.lag.ms"), "{error}");
    }

    #[test]
    fn a_compacted_topic_closes_its_segments_in_time() {
        let config = TopicConfig::default().max_compaction_lag(Duration::from_millis(9));
        assert_eq!(config.layout().segment_span_ms, DEFAULT_SEGMENT_MS);
        assert_eq!(config.cleanup_policy(CleanupPolicy::Compact).layout().segment_span_ms, 9);
    }

    #[test]
    fn the_bounds_of_timestamps_pass_themselves() {
        let config = TopicConfig::default()
            .timestamp_before_max(Duration::from_millis(10))
            .timestamp_after_max(Duration::from_millis(20));
        assert!(config.check_timestamp(90, 100).is_ok());
        assert!(config.check_timestamp(120, 100).is_ok());
        assert!(config.check_timestamp(89, 100).is_err());
        assert!(config.check_timestamp(121, 100).is_err());
        assert!(TopicConfig::default().check_timestamp(0, i64::MAX).is_ok());
    }
}
