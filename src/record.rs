//! What a producer sends, and what it learns about it.

use std::borrow::Cow;
use std::fmt;

use crate::types::{Offset, TimestampType, TopicName};

/// Bytes of a key, a value or a header: borrowed or owned, from text or bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Payload<'a>(Cow<'a, [u8]>);

impl Payload<'_> {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn into_owned(self) -> Payload<'static> {
        Payload(Cow::Owned(self.0.into_owned()))
    }
}

impl fmt::Debug for Payload<'_> {
    /// The length only: contents stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl<'a> From<&'a Vec<u8>> for Payload<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Payload<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Cow::Owned(bytes))
    }
}

impl<const N: usize> From<[u8; N]> for Payload<'_> {
    fn from(bytes: [u8; N]) -> Self {
        Self(Cow::Owned(bytes.to_vec()))
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }
}

impl<'a> From<&'a String> for Payload<'a> {
    fn from(text: &'a String) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<String> for Payload<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text.into_bytes()))
    }
}

impl<'a> From<Cow<'a, [u8]>> for Payload<'a> {
    fn from(bytes: Cow<'a, [u8]>) -> Self {
        Self(bytes)
    }
}

/// A record on its way into a topic.
///
/// Only the topic is required. A key and a value may be absent, which differs from empty (R-2). Headers are an ordered list
/// of names, not necessarily distinct, each with or without a value (R-3).
///
/// ```
/// use brooklet::ProducerRecord;
///
/// let record = ProducerRecord::to("orders").key("c-42").value(vec![1, 2, 3]).header("trace", "7f").timestamp(1_700_000_000_000);
/// assert_eq!(record.size(), 4 + 3 + 5 + 2 + ProducerRecord::OVERHEAD);
/// ```
///
/// # How is its size counted?
///
/// Key, value, names and values of headers, and [`OVERHEAD`](ProducerRecord::OVERHEAD) bytes for the rest. `max.message.bytes`
/// limits this number (T-16, R-16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerRecord<'a> {
    pub(crate) topic: Cow<'a, str>,
    pub(crate) partition: Option<u32>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Payload<'a>>,
    pub(crate) value: Option<Payload<'a>>,
    pub(crate) headers: Vec<(Cow<'a, str>, Option<Payload<'a>>)>,
}

impl<'a> ProducerRecord<'a> {
    /// What every record counts, whatever is in it, in bytes.
    pub const OVERHEAD: usize = 32;

    /// A record for this topic, with nothing in it yet.
    pub fn to(topic: impl Into<Cow<'a, str>>) -> Self {
        Self { topic: topic.into(), partition: None, timestamp: None, key: None, value: None, headers: Vec::new() }
    }

    /// Names the partition; without this the partitioner chooses (P-2).
    #[must_use]
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the time, in milliseconds since the epoch, 0 or more; without this it is the time of `send` (R-12).
    #[must_use]
    pub fn timestamp(mut self, millis: i64) -> Self {
        self.timestamp = Some(millis);
        self
    }

    /// Sets the key. Records with the same key go to the same partition while the partition count stays (P-3, T-8).
    #[must_use]
    pub fn key(mut self, key: impl Into<Payload<'a>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the value.
    #[doc(alias = "payload")]
    #[must_use]
    pub fn value(mut self, value: impl Into<Payload<'a>>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Adds a header behind those that are there, also if one has the same name.
    #[must_use]
    pub fn header(mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Payload<'a>>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Adds a header without a value.
    #[must_use]
    pub fn header_without_value(mut self, name: impl Into<Cow<'a, str>>) -> Self {
        self.headers.push((name.into(), None));
        self
    }

    /// Sends the record to another topic: for a copy of a record that was read.
    #[must_use]
    pub fn for_topic(mut self, topic: impl Into<Cow<'a, str>>) -> Self {
        self.topic = topic.into();
        self
    }

    /// Names and values of the headers, in order. A header without a value has `None`.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.headers.iter().map(|(name, value)| (name.as_ref(), value.as_ref().map(Payload::as_bytes)))
    }

    /// Removes all headers of this name.
    #[must_use]
    pub fn without_headers(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self
    }

    /// Its size in bytes, as the limits count it.
    pub fn size(&self) -> usize {
        let len = |payload: &Option<Payload<'_>>| payload.as_ref().map_or(0, |payload| payload.as_bytes().len());
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + len(value)).sum();
        Self::OVERHEAD + len(&self.key) + len(&self.value) + headers
    }

    /// The same record, borrowing from nobody.
    pub fn into_owned(self) -> ProducerRecord<'static> {
        let owned = |(name, value): (Cow<'_, str>, Option<Payload<'_>>)| {
            (Cow::Owned(name.into_owned()), value.map(Payload::into_owned))
        };
        ProducerRecord {
            topic: Cow::Owned(self.topic.into_owned()),
            partition: self.partition,
            timestamp: self.timestamp,
            key: self.key.map(Payload::into_owned),
            value: self.value.map(Payload::into_owned),
            headers: self.headers.into_iter().map(owned).collect(),
        }
    }
}

/// Where a record went (P-12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    pub(crate) topic: TopicName,
    pub(crate) partition: u32,
    pub(crate) offset: Offset,
    pub(crate) timestamp: i64,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) key_size: Option<usize>,
    pub(crate) value_size: Option<usize>,
}

impl RecordMetadata {
    /// The topic.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// The partition's number.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The record's offset in the partition.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// The record's timestamp in milliseconds since the epoch: under `LogAppendTime` brooklet's, else the producer's.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// Whose time that is.
    pub fn timestamp_type(&self) -> TimestampType {
        self.timestamp_type
    }

    /// The key's length in bytes; `None` when there is no key.
    pub fn key_size(&self) -> Option<usize> {
        self.key_size
    }

    /// The value's length in bytes; `None` when there is no value.
    pub fn value_size(&self) -> Option<usize> {
        self.value_size
    }
}

impl fmt::Display for RecordMetadata {
    /// As Kafka prints it: `orders-0@41`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}@{}", self.topic, self.partition, self.offset)
    }
}
