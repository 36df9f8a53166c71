//! What a user types, and what an application hands in unchecked.
//!
//! Strategy: the input chooses one of the parsers that a command line leads to, and gives it its text; what is accepted has to
//! be within the documented bounds and to come back the same when it is written out and read again. Or it makes a record
//! of any topic, partition, time, key, value and headers, and sends it to a broker in memory: it is refused with an
//! error that fits, or read back as it was.

use std::sync::OnceLock;
use std::time::Duration;

use brooklet::{
    Broker, Error, ManualClock, NewTopic, OffsetReset, OffsetSpec, ProducerRecord, RecordMetadata, TopicConfig,
    TopicName, TopicPartition, partition_for_key,
};

use super::bytes::Bytes;
use super::model::{Choices, Record};

const NOW: i64 = 1_000_000;
const TOPIC: &str = "t";
const PARTITIONS: u32 = 2;
const MAX_HEADERS: u64 = 4;

pub fn run(input: &[u8]) {
    let mut input = Bytes::new(input);
    match input.below(8) {
        0 => topic_name(&rest(&mut input)),
        1 => offset_reset(&rest(&mut input)),
        2 => topic_config(&rest(&mut input)),
        3 => time(&rest(&mut input)),
        4 => escaped(&rest(&mut input)),
        5 => came_back_unescaped(input.take(usize::MAX)),
        _ => record(&mut input),
    }
}

fn rest(input: &mut Bytes<'_>) -> String {
    String::from_utf8_lossy(input.take(usize::MAX)).into_owned()
}

fn topic_name(text: &str) {
    match TopicName::new(text) {
        Ok(name) => {
            assert_eq!(name.as_str(), text);
            assert!((1..=249).contains(&text.len()) && text != "." && text != "..");
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
        }
        Err(error) => assert!(matches!(error, Error::InvalidTopic { .. }) && error.to_string().len() < 20_000),
    }
}

fn offset_reset(text: &str) {
    match text.parse::<OffsetReset>() {
        Ok(OffsetReset::ByDuration(age)) => {
            assert!(text.starts_with("by_duration:P"));
            let seconds = format!("by_duration:PT{}.{:03}S", age.as_secs(), age.subsec_millis());
            assert_eq!(seconds.parse::<OffsetReset>().unwrap(), OffsetReset::ByDuration(age));
            let mut consumer =
                broker().consumer().offset_reset(OffsetReset::ByDuration(age)).assign([(TOPIC, 0)]).unwrap();
            let _ = consumer.poll(Duration::ZERO).unwrap();
        }
        Ok(_) => assert!(["earliest", "latest", "none"].contains(&text)),
        Err(error) => assert!(matches!(error, Error::InvalidConfig { .. })),
    }
}

/// Lines of `key=value`, each set on what the lines before made.
fn topic_config(text: &str) {
    let mut config = TopicConfig::default();
    for line in text.lines() {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        match config.clone().set(key, value) {
            Ok(changed) => {
                let shown = changed.get(key).unwrap();
                assert_eq!(changed.clone().set(key, &shown).unwrap(), changed, "{key}={shown}");
                config = changed;
            }
            Err(error) => assert!(matches!(error, Error::InvalidConfig { .. })),
        }
        if let Ok(changed) = config.clone().unset(key) {
            config = changed;
            assert!(config.get(key).is_some(), "{key} has a default");
        }
    }
}

/// A moment on the command line.
fn time(text: &str) {
    if let Ok(millis) = super::time::parse_millis(text) {
        assert!(millis >= 0);
        assert_eq!(super::time::parse_millis(&millis.to_string()), Ok(millis));
    }
}

/// Text with escapes on the command line.
fn escaped(text: &str) {
    if let Ok(bytes) = super::escape::unescape(text) {
        assert!(bytes.len() <= text.len());
        came_back_unescaped(&bytes);
    }
}

/// Bytes as the command line shows them: nothing in it moves the cursor, and it reads them back.
fn came_back_unescaped(bytes: &[u8]) {
    let mut shown = Vec::new();
    super::escape::Escaping::Reversible.write(&mut shown, bytes).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    assert_eq!(super::escape::unescape(&shown).unwrap(), bytes);
}

fn record(input: &mut Bytes<'_>) {
    let broker = broker();
    let mut text = || {
        let len = usize::from(input.byte());
        String::from_utf8_lossy(input.take(len)).into_owned()
    };
    let (topic, value, header) = (text(), text(), text());
    let mut record = ProducerRecord::to(if topic.len() < 2 { TOPIC } else { &topic });
    if input.flag() {
        record = record.key(input.take(40));
    }
    if input.flag() {
        record = record.value(&value);
    }
    for _ in 0..input.below(MAX_HEADERS) {
        record = if input.flag() { record.header(&header, input.take(3)) } else { record.header_without_value("") };
    }
    if input.flag() {
        record =
            record.partition(u32::try_from(input.below(PARTITIONS.into())).unwrap() + u32::from(input.byte() / 255));
    }
    if input.flag() {
        record = record.timestamp(input.number().cast_signed());
    }
    let size = record.size();
    match broker.producer().send(record.clone()).and_then(|delivery| delivery.wait()) {
        Ok(metadata) => came_back(broker, &record, &metadata),
        Err(error) => assert!(
            matches!(
                error,
                Error::InvalidTopic { .. }
                    | Error::UnknownTopicOrPartition { .. }
                    | Error::IllegalArgument { .. }
                    | Error::InvalidTimestamp { .. }
            ),
            "{size} bytes: {error}"
        ),
    }
}

/// Reads the record back. Now and then all are removed.
fn came_back(broker: &Broker, sent: &ProducerRecord<'_>, metadata: &RecordMetadata) {
    let partition = TopicPartition::new(TOPIC, metadata.partition());
    let mut consumer = broker.consumer().assign([partition.clone()]).unwrap();
    consumer.seek(&partition, metadata.offset()).unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    let read = records.iter().next().unwrap();
    assert_eq!(read.timestamp(), metadata.timestamp());
    assert!(metadata.timestamp() >= 0 && metadata.partition() < PARTITIONS);
    // What the producer left open the broker has chosen.
    let completed = sent.clone().partition(metadata.partition()).timestamp(metadata.timestamp());
    assert_eq!(Record::of(&read).to(TOPIC, metadata.partition()), completed);
    if let Some(key) = read.key() {
        assert!(partition_for_key(key, PARTITIONS) < PARTITIONS);
    }
    if metadata.offset().get() % 1_024 == 1_023 {
        broker.delete_records(&partition, OffsetSpec::Latest).unwrap();
    }
}

/// One for all inputs.
fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| {
        let builder = Broker::builder().background(false).clock(ManualClock::new(NOW)).checkpoint_bytes(16 << 10);
        let broker = builder.in_memory().unwrap();
        broker.create_topic(NewTopic::new(TOPIC, PARTITIONS)).unwrap();
        broker
    })
}
