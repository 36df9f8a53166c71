//! How a consumer reads.

use std::str::FromStr;
use std::time::Duration;

use super::handle::Consumer;
use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::types::TopicPartition;

/// Where to start when there is no position, or one outside the log (C-19 to C-22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OffsetReset {
    /// At the log start: everything that is there.
    Earliest,
    /// At the end: **only what comes from now on**. The default, as in Kafka.
    #[default]
    Latest,
    /// At the first record that is at most this old (KIP-1106); at the end when there is none.
    ByDuration(Duration),
    /// Nowhere: `poll` fails with [`NoOffsetForPartition`](Error::NoOffsetForPartition) or
    /// [`OffsetOutOfRange`](Error::OffsetOutOfRange).
    None,
}

impl FromStr for OffsetReset {
    type Err = Error;

    /// Kafka's spelling: `earliest`, `latest`, `none`, `by_duration:PT1H30M`; lower case but for the duration, which is ISO-8601
    /// with days, hours, minutes and seconds.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::InvalidConfig {
            key: "auto.offset.reset".to_owned(),
            value: text.to_owned(),
            reason: "`earliest`, `latest`, `none` or `by_duration:` with a duration such as `PT1H` is expected"
                .to_owned(),
        };
        match text {
            "earliest" => Ok(OffsetReset::Earliest),
            "latest" => Ok(OffsetReset::Latest),
            "none" => Ok(OffsetReset::None),
            _ => {
                let duration = text.strip_prefix("by_duration:").and_then(parse_duration);
                duration.map(OffsetReset::ByDuration).ok_or_else(invalid)
            }
        }
    }
}

/// `P[nD][T[nH][nM][nS]]` with at least one part; whole numbers, seconds with up to three decimals.
fn parse_duration(text: &str) -> Option<Duration> {
    let (days, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return None,
        None => (text.strip_prefix('P')?, ""),
    };
    let mut millis = 0_u64;
    let mut parts = 0;
    for (mut rest, units) in
        [(days, &[('D', 86_400_000_u64)][..]), (time, &[('H', 3_600_000), ('M', 60_000), ('S', 1_000)])]
    {
        for &(unit, unit_millis) in units {
            if let Some((number, after)) = rest.split_once(unit) {
                millis = millis.checked_add(parse_units(number, unit_millis)?)?;
                parts += 1;
                rest = after;
            }
        }
        if !rest.is_empty() {
            return None;
        }
    }
    (parts > 0).then(|| Duration::from_millis(millis))
}

fn parse_units(number: &str, unit_millis: u64) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || (number.contains('.') && !(digits(decimals) && decimals.len() <= 3 && unit_millis == 1_000)) {
        return None;
    }
    let millis: u64 = if decimals.is_empty() { 0 } else { format!("{decimals:0<3}").parse().ok()? };
    whole.parse::<u64>().ok()?.checked_mul(unit_millis)?.checked_add(millis)
}

/// Options of a consumer.
#[derive(Debug, Clone)]
#[must_use]
pub struct ConsumerBuilder {
    pub(super) broker: Broker,
    pub(super) offset_reset: OffsetReset,
    pub(super) max_poll_records: usize,
    pub(super) fetch_max_bytes: usize,
    pub(super) max_partition_fetch_bytes: usize,
}

impl ConsumerBuilder {
    pub(crate) fn new(broker: Broker) -> Self {
        Self {
            broker,
            offset_reset: OffsetReset::default(),
            max_poll_records: 500,
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
        }
    }

    /// Where to start without a position. The default is [`OffsetReset::Latest`]: **records that are there already are
    /// skipped**. Choose [`OffsetReset::Earliest`] to read everything.
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.offset_reset = reset;
        self
    }

    /// The most records one `poll` gives; default 500, at least 1 (Kafka's `max.poll.records`).
    pub fn max_poll_records(mut self, records: usize) -> Self {
        self.max_poll_records = records;
        self
    }

    /// Bytes after which one `poll` stops; default 50 MiB (`fetch.max.bytes`). A single larger record is given all the same
    /// (C-14).
    pub fn fetch_max_bytes(mut self, bytes: usize) -> Self {
        self.fetch_max_bytes = bytes;
        self
    }

    /// Bytes after which one `poll` stops reading one partition; default 1 MiB (`max.partition.fetch.bytes`). A single larger
    /// record is given all the same.
    pub fn max_partition_fetch_bytes(mut self, bytes: usize) -> Self {
        self.max_partition_fetch_bytes = bytes;
        self
    }

    /// A consumer that reads these partitions, and commits no offsets.
    ///
    /// # Errors
    ///
    /// - [`UnknownTopicOrPartition`](Error::UnknownTopicOrPartition);
    /// - [`InvalidConfig`](Error::InvalidConfig) for `max_poll_records` 0;
    /// - [`Closed`](Error::Closed).
    pub fn assign<P: Into<TopicPartition>>(&self, partitions: impl IntoIterator<Item = P>) -> Result<Consumer> {
        if self.max_poll_records == 0 {
            return Err(Error::InvalidConfig {
                key: "max.poll.records".to_owned(),
                value: "0".to_owned(),
                reason: "at least 1 is expected".to_owned(),
            });
        }
        let mut consumer = Consumer::new(self.clone());
        consumer.assign(partitions)?;
        Ok(consumer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AutoOffsetResetStrategyTest.testFromString (C31).
    #[test]
    fn offset_reset_parses_kafkas_spelling() {
        let by = |seconds| OffsetReset::ByDuration(Duration::from_secs(seconds));
        for (text, expected) in [
            ("earliest", OffsetReset::Earliest),
            ("latest", OffsetReset::Latest),
            ("none", OffsetReset::None),
            ("by_duration:PT1H", by(3_600)),
            ("by_duration:P1DT1M", by(86_460)),
            ("by_duration:PT0.5S", OffsetReset::ByDuration(Duration::from_millis(500))),
        ] {
            assert_eq!(text.parse::<OffsetReset>().unwrap(), expected, "{text}");
        }
        for text in [
            "invalid",
            "LATEST",
            "",
            "by_duration",
            "by_duration:",
            "by_duration:invalid",
            "by_duration:-PT1H",
            "by_duration:P",
            "by_duration:PT",
            "by_duration:P1H",
            "by_duration:PT1M1H",
            "by_duration:PT1.5H",
            "by_duration:PT99999999999999999999H",
        ] {
            assert!(matches!(text.parse::<OffsetReset>(), Err(Error::InvalidConfig { .. })), "{text}");
        }
    }
}
