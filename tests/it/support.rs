//! Brokers for tests, and words to bring them into a state.
//!
//! A [`TestBroker`] lives in a directory of its own, under a clock that stands still. When it goes, everything it wrote is
//! checked: while open, and once more after it was closed and opened again. When that fails, or the test did, the directory
//! stays and its path is printed.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use brooklet::{
    Broker, Builder, Consumer, ConsumerRecord, ConsumerRecords, Error, ManualClock, NewTopic, Offset, OffsetReset,
    ProducerRecord, RecordMetadata, TopicConfig, TopicPartition,
};
use tempfile::TempDir;

/// What the clock of a [`TestBroker`] says at first: some day in November 2023, in milliseconds.
pub(crate) const NOW: i64 = 1_700_000_000_000;

/// A linger that no test lives to see the end of.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(3_600);

/// How long a call may take before it counts as hanging. Only a test that fails waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A broker that is checked when it goes.
pub(crate) struct TestBroker {
    broker: Broker,
    /// What time the broker thinks it is.
    pub(crate) clock: ManualClock,
    builder: Builder,
    /// `None` once it is kept.
    directory: Option<TempDir>,
}

/// Where the records of a scenario are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Memory: they were just appended.
    Tail,
    /// The store: the broker was closed and opened again.
    Store,
}

/// Runs a scenario over records in the tail, and once more over records in the store.
pub(crate) fn from_tail_and_store(scenario: impl Fn(Source)) {
    [Source::Tail, Source::Store].into_iter().for_each(scenario);
}

impl TestBroker {
    /// A broker with default options, but that it commits only when somebody waits: so each test has as many commits as it
    /// says, however slow the machine is.
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    /// A broker with other options.
    pub(crate) fn with(options: impl FnOnce(Builder) -> Builder) -> Self {
        let clock = ManualClock::new(NOW);
        let builder = options(Broker::builder().clock(clock.clone()).linger(FOR_EVER));
        let directory = tempfile::tempdir().unwrap();
        let broker = builder.open(directory.path().join("test.brooklet")).unwrap();
        Self { broker, clock, builder, directory: Some(directory) }
    }

    /// Creates a topic.
    pub(crate) fn with_topic(self, name: &str, partitions: u32) -> Self {
        self.with_configured_topic(name, partitions, TopicConfig::default())
    }

    /// Creates a topic with a configuration.
    pub(crate) fn with_configured_topic(self, name: &str, partitions: u32, config: TopicConfig) -> Self {
        self.create_topic(NewTopic::new(name, partitions).config(config)).unwrap();
        self
    }

    /// Where the store is.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory().join("test.brooklet")
    }

    /// The directory of its files.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
    }

    /// Closes the broker and opens the file again.
    pub(crate) fn reopen(&mut self) {
        self.broker.close().unwrap();
        self.broker = self.builder.clone().open_existing().open(self.path()).unwrap();
    }

    /// Makes sure that what was appended is read from there.
    pub(crate) fn read_from(&mut self, source: Source) {
        if source == Source::Store {
            self.reopen();
        }
    }

    /// Appends `n` records whose values are their offsets as text, and waits for the last.
    pub(crate) fn produce_n(&self, topic: &str, partition: u32, n: u64) {
        let end = self.describe_topic(topic).unwrap().partitions()[partition as usize].end.get();
        let producer = self.producer();
        for offset in end..end + n {
            let record = ProducerRecord::to(topic).partition(partition).value(offset.to_string());
            drop(producer.send(record).unwrap());
        }
        producer.flush().unwrap();
    }

    /// Appends a record for each of these times, and waits for the last.
    pub(crate) fn produce_at(&self, topic: &str, partition: u32, timestamps: impl IntoIterator<Item = i64>) {
        let producer = self.producer();
        for timestamp in timestamps {
            let record = ProducerRecord::to(topic).partition(partition).timestamp(timestamp).value("x");
            drop(producer.send(record).unwrap());
        }
        producer.flush().unwrap();
    }

    /// Appends one record and waits for it.
    pub(crate) fn produce(&self, record: ProducerRecord<'_>) -> RecordMetadata {
        self.producer().send(record).unwrap().wait().unwrap()
    }

    /// A consumer from the start.
    pub(crate) fn consumer_of(&self, partitions: &[TopicPartition]) -> Consumer {
        self.consumer().offset_reset(OffsetReset::Earliest).assign(partitions.iter().cloned()).unwrap()
    }

    /// Everything in a partition.
    pub(crate) fn consume_all(&self, partition: &TopicPartition) -> Vec<Seen> {
        let mut consumer = self.consumer_of(std::slice::from_ref(partition));
        let mut all = Vec::new();
        loop {
            let records = consumer.poll(Duration::ZERO).unwrap();
            if records.is_empty() {
                return all;
            }
            all.extend(seen(&records));
        }
    }

    /// Everything that is wrong with its files, in words.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match self.broker.check() {
            Ok(report) => problems.extend(report.problems().iter().map(|problem| format!("while open: {problem}"))),
            Err(Error::Closed) => {}
            Err(error) => problems.push(format!("check: {error}")),
        }
        if let Err(error) = self.broker.close() {
            problems.push(format!("close: {error}"));
        }
        match self.builder.clone().open_existing().open(self.path()).and_then(|broker| broker.check()) {
            Ok(report) => problems.extend(report.problems().iter().map(|problem| format!("after close: {problem}"))),
            Err(error) => problems.push(format!("open again: {error}")),
        }
        problems
    }
}

/// A test broker stands for its broker as a lock's guard stands for what it locks.
impl Deref for TestBroker {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        let problems = if thread::panicking() { vec!["the test failed".to_owned()] } else { self.problems() };
        if problems.is_empty() {
            return;
        }
        let kept = self.directory.take().map(TempDir::keep);
        eprintln!("kept {kept:?}: {problems:#?}");
        assert!(thread::panicking(), "{problems:#?}");
    }
}

/// One record as a consumer saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) offset: u64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Seen {
    pub(crate) fn of(record: ConsumerRecord<'_>) -> Self {
        let header = |header: brooklet::Header<'_>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
        Self {
            offset: record.offset().get(),
            timestamp: record.timestamp(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: record.headers().map(header).collect(),
        }
    }

    /// Its value as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.value.clone().unwrap()).unwrap()
    }
}

/// The records of a `poll`, copied.
pub(crate) fn seen(records: &ConsumerRecords) -> Vec<Seen> {
    records.iter().map(Seen::of).collect()
}

/// The offsets of the records of a `poll`.
pub(crate) fn offsets(records: &ConsumerRecords) -> Vec<u64> {
    records.iter().map(|record| record.offset().get()).collect()
}

/// What one `poll` gives at once, by offset.
pub(crate) fn poll_now(consumer: &mut Consumer) -> Vec<u64> {
    offsets(&consumer.poll(Duration::ZERO).unwrap())
}

/// Polls until nothing comes any more; the offsets.
pub(crate) fn poll_all(consumer: &mut Consumer) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let some = poll_now(consumer);
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

/// Names a partition.
pub(crate) fn tp(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

/// Where a partition starts and ends.
pub(crate) fn bounds(broker: &Broker, topic: &str, partition: u32) -> (Offset, Offset) {
    let description = broker.describe_topic(topic).unwrap();
    let partition = description.partitions()[partition as usize];
    (partition.log_start, partition.end)
}

/// Runs `work` in a thread of its own, and fails when it hangs.
pub(crate) fn finishes<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || {
        // A test that gave up does not listen any more.
        let _ = done.send(work());
    });
    match result.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("a thread that ends well has sent its result"),
        },
    }
}
