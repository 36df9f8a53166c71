//! Options, each typed and checked once.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::types::TimestampType;

/// When a record counts as acknowledged, and what it then survives.
///
/// | | acknowledged when | survives |
/// |---|---|---|
/// | [`Sync`](Durability::Sync), the default | it is on the disk (`fdatasync`) | a killed process and a power loss |
/// | [`Buffered`](Durability::Buffered) | the operating system has it (`write`) | a killed process |
///
/// # What can a power loss take in `Buffered` mode?
///
/// A suffix of the one total order of everything acknowledged: what was acknowledged within about the last
/// `flush_interval`, in all partitions alike. Never one record without the later ones. Offsets behind that point are then
/// handed out again (P-40), so a system outside that remembered them may disagree; within the file everything agrees.
///
/// Records become visible to consumers when they are acknowledged, never before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Acknowledged when on the disk.
    #[default]
    Sync,
    /// Acknowledged when the operating system has it; the background thread syncs every `flush_interval`.
    Buffered {
        /// How much acknowledged time a power loss may take.
        flush_interval: Duration,
    },
}

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

/// The keys that a topic has.
const KEYS: [&str; 4] = [MAX_MESSAGE_BYTES, TIMESTAMP_AFTER_MAX, TIMESTAMP_BEFORE_MAX, TIMESTAMP_TYPE];

const DEFAULT_MAX_MESSAGE_BYTES: u32 = 1_048_588;
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

    /// Sets a key from text.
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
        match key {
            MAX_MESSAGE_BYTES => match value.parse() {
                Ok(bytes) if bytes <= MAX_MESSAGE_BYTES_LIMIT => self.max_message_bytes = Some(bytes),
                _ => return Err(invalid("a number of bytes from 0 to 67108864 is expected")),
            },
            TIMESTAMP_TYPE => match value {
                "CreateTime" => self.timestamp_type = Some(TimestampType::CreateTime),
                "LogAppendTime" => self.timestamp_type = Some(TimestampType::LogAppendTime),
                _ => return Err(invalid("`CreateTime` or `LogAppendTime` is expected")),
            },
            TIMESTAMP_BEFORE_MAX => self.timestamp_before_max_ms = Some(not_negative()?),
            TIMESTAMP_AFTER_MAX => self.timestamp_after_max_ms = Some(not_negative()?),
            _ => return Err(invalid(&unknown_key())),
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
            _ => {
                return Err(Error::InvalidConfig { key: key.into(), value: String::new(), reason: unknown_key() });
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
            _ => self.timestamp_after_max_ms.is_some(),
        };
        KEYS.iter().filter(|key| is_set(key)).map(|&key| (key, self.value(key))).collect()
    }

    fn value(&self, key: &str) -> String {
        match key {
            MAX_MESSAGE_BYTES => self.max_record_size().to_string(),
            TIMESTAMP_TYPE => self.record_timestamp_type().to_string(),
            TIMESTAMP_BEFORE_MAX => self.timestamp_before_max_ms.unwrap_or(i64::MAX).to_string(),
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

fn unknown_key() -> String {
    format!("there is no such key; the keys are {}", KEYS.join(", "))
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
            .timestamp_after_max(Duration::from_millis(6));
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
        ] {
            let error = TopicConfig::default().set(key, value).unwrap_err();
            assert!(matches!(error, Error::InvalidConfig { .. }), "{key}={value}: {error}");
        }
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
