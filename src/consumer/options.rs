//! How a consumer reads.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::handle::Consumer;
use crate::assignor::Assignor;
use crate::broker::Broker;
use crate::config::millis;
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
    pub(super) group: Option<String>,
    pub(super) group_instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) assignor: Option<Arc<dyn Assignor>>,
    pub(super) auto_commit_interval: Option<Duration>,
    pub(super) max_poll_interval: Duration,
    pub(super) session_timeout: Duration,
}

impl ConsumerBuilder {
    pub(crate) fn new(broker: Broker) -> Self {
        Self {
            broker,
            offset_reset: OffsetReset::default(),
            max_poll_records: 500,
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
            group: None,
            group_instance_id: None,
            client_id: "consumer".to_owned(),
            assignor: None,
            auto_commit_interval: None,
            max_poll_interval: Duration::from_secs(300),
            session_timeout: Duration::from_secs(45),
        }
    }

    /// The group whose committed offsets it starts at, and in whose name it commits (`group.id`). With
    /// [`subscribe`](ConsumerBuilder::subscribe) it becomes a member, and shares the topics with the others; with
    /// [`assign`](ConsumerBuilder::assign) it reads what it is told.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Makes it a static member of that name (`group.instance.id`, KIP-345): when it is closed, or does not poll within
    /// [`max_poll_interval`](ConsumerBuilder::max_poll_interval), its partitions wait for
    /// [`session_timeout`](ConsumerBuilder::session_timeout) for it or a consumer of the same name, and nothing moves.
    pub fn group_instance_id(mut self, instance_id: impl Into<String>) -> Self {
        self.group_instance_id = Some(instance_id.into());
        self
    }

    /// What it is called in descriptions of its group (`client.id`); default `consumer`. Its member id begins with it.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// How its group shares partitions among the members; default: what the other members ask for, and
    /// [`UniformAssignor`](crate::UniformAssignor) when none does. The group uses the one that most of its members ask for.
    pub fn assignor(mut self, assignor: impl Assignor) -> Self {
        self.assignor = Some(Arc::new(assignor));
        self
    }

    /// Commits the positions by itself, at most this often (`enable.auto.commit`, `auto.commit.interval.ms`); off by default.
    ///
    /// It happens within `poll`, which counts everything that the polls before returned as processed, before partitions are
    /// given up, and when the consumer is closed or dropped (C-36). So records are processed at least once, if all of one poll
    /// are before the next one, or before the consumer goes.
    pub fn auto_commit(mut self, interval: Duration) -> Self {
        self.auto_commit_interval = Some(interval);
        self
    }

    /// How long a member may go without polling; default 5 minutes (`max.poll.interval.ms`, G-4). One that takes longer loses
    /// its partitions to the others, its commits fail, and its next `poll` joins again. A static member keeps its partitions for
    /// [`session_timeout`](ConsumerBuilder::session_timeout) more. Time within `poll` does not count. The background thread watches
    /// over it; without one, [`Broker::maintain`](crate::Broker::maintain) does.
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.max_poll_interval = interval;
        self
    }

    /// How long a static member may be away before its partitions go to the others; default 45 seconds (`session.timeout.ms`).
    /// A dynamic member leaves at once when it is closed or dropped: within a process there is nothing to time out.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
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

    /// Bytes after which one `poll` stops reading one partition and goes on with the next; default 1 MiB
    /// (`max.partition.fetch.bytes`). The first record of a poll is returned even if it is larger. A later one that is larger
    /// waits for the next poll, which begins with its partition.
    pub fn max_partition_fetch_bytes(mut self, bytes: usize) -> Self {
        self.max_partition_fetch_bytes = bytes;
        self
    }

    /// A consumer that reads these partitions, and is no member of a group. It starts at what its
    /// [`group`](ConsumerBuilder::group) committed, if it has one.
    ///
    /// # Errors
    ///
    /// - [`UnknownTopicOrPartition`](Error::UnknownTopicOrPartition);
    /// - [`InvalidConfig`](Error::InvalidConfig) for `max_poll_records` 0; [`InvalidGroupId`](Error::InvalidGroupId);
    /// - [`Closed`](Error::Closed).
    pub fn assign<P: Into<TopicPartition>>(&self, partitions: impl IntoIterator<Item = P>) -> Result<Consumer> {
        let mut consumer = self.build()?;
        consumer.assign(partitions)?;
        Ok(consumer)
    }

    /// A consumer that reads these topics as a member of its group: each partition goes to one of the members. It joins when it
    /// is polled.
    ///
    /// ```
    /// use brooklet::{Broker, NewTopic, OffsetReset, ProducerRecord};
    /// use std::time::Duration;
    ///
    /// let broker = Broker::in_memory()?;
    /// broker.create_topic(NewTopic::new("orders", 4))?;
    /// let billing = broker.consumer().group("billing").offset_reset(OffsetReset::Earliest);
    /// let (mut one, mut other) = (billing.subscribe(["orders"])?, billing.subscribe(["orders"])?);
    /// for consumer in [&mut one, &mut other] {
    ///     consumer.poll(Duration::ZERO)?;
    /// }
    /// // The first had all four; it gives two up when it polls again.
    /// one.poll(Duration::ZERO)?;
    /// other.poll(Duration::ZERO)?;
    /// assert_eq!((one.assignment().len(), other.assignment().len()), (2, 2));
    /// # Ok::<(), brooklet::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`InvalidGroupId`](Error::InvalidGroupId) without a [`group`](ConsumerBuilder::group), or with a bad one;
    /// - [`InvalidTopic`](Error::InvalidTopic) for a name that no topic can have. A topic that does not exist yet is waited for;
    /// - [`InvalidConfig`](Error::InvalidConfig), [`Closed`](Error::Closed).
    pub fn subscribe(&self, topics: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Consumer> {
        let mut consumer = self.build()?;
        consumer.subscribe(topics)?;
        Ok(consumer)
    }

    /// A consumer that reads all topics whose *whole* name matches a regular expression (C-3), as a member of its group.
    ///
    /// # Errors
    ///
    /// [`InvalidRegularExpression`](Error::InvalidRegularExpression), and those of [`subscribe`](ConsumerBuilder::subscribe).
    pub fn subscribe_pattern(&self, pattern: &str) -> Result<Consumer> {
        let mut consumer = self.build()?;
        consumer.subscribe_pattern(pattern)?;
        Ok(consumer)
    }

    fn build(&self) -> Result<Consumer> {
        if self.max_poll_records == 0 {
            return Err(Error::InvalidConfig {
                key: "max.poll.records".to_owned(),
                value: "0".to_owned(),
                reason: "at least 1 is expected".to_owned(),
            });
        }
        Consumer::new(self.clone())
    }

    /// When positions are committed next; never, unless that happens automatically.
    pub(super) fn auto_commit_after(&self, now_ms: i64) -> i64 {
        self.auto_commit_interval.map_or(i64::MAX, |interval| now_ms.saturating_add(millis(interval)))
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
