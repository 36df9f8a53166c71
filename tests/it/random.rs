//! Random steps against the twin. Goal: broker and twin show the same after each step, with sizes so small that
//! checkpoints, full buffers and chunks of a few records happen all the time, and with a close or a kill every hundred
//! steps or so.
//!
//! `BROOKLET_TEST_SEED` runs one seed; a failure prints seed and step.

use std::collections::BTreeMap;
use std::time::Duration;

use brooklet::{
    Broker, Consumer, Durability, Error, ManualClock, NewTopic, Offset, OffsetReset, OffsetSpec, TopicId,
    TopicPartition,
};

use crate::crash::{BUFFERED, Knobs, PATH, assert_healthy, from_env, scale};
use crate::model::{Choices, Model, Record, Send, Step, compression_types, place};
use crate::sim_disk::{Random, SimDisk};

const NAMES: [&str; 3] = ["one", "two", "three"];
const START_MS: i64 = 1_700_000_000_000;

impl Choices for Random {
    fn below(&mut self, limit: u64) -> u64 {
        Random::below(self, limit)
    }
}

/// Where a consumer stands, as the twin sees it.
#[derive(Debug, Clone, Copy)]
struct Position {
    /// The topic that it reads; another one of the same name is read from its start.
    id: Option<TopicId>,
    /// `None`: from the log start on.
    next: Option<u64>,
    paused: bool,
}

/// A consumer and its twin. Both start at the log start wherever they have no valid position.
struct Reader {
    consumer: Consumer,
    positions: BTreeMap<TopicPartition, Position>,
}

struct Twins {
    disk: SimDisk,
    knobs: Knobs,
    clock: ManualClock,
    broker: Broker,
    model: Model,
    readers: Vec<Reader>,
    /// The largest timestamp that came to a partition since it was last empty. A segment that lost its youngest record to
    /// `delete_records` is kept as if it were still there.
    youngest: BTreeMap<TopicPartition, i64>,
    random: Random,
    next_value: u64,
    words: String,
}

impl Twins {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let durability = if Choices::below(&mut random, 2) == 0 { Durability::Sync } else { BUFFERED };
        let knobs = Knobs {
            durability,
            buffer_memory: random.pick(&[4 << 10, 16 << 10]).copied().unwrap_or(4 << 10),
            checkpoint_bytes: random.pick(&[256, 1 << 10, 3 << 10]).copied().unwrap_or(256),
            vacuum_at_close: None,
        };
        let (disk, clock) = (SimDisk::new(), ManualClock::new(START_MS));
        let broker = knobs.builder(&disk).clock(clock.clone()).open(PATH).unwrap();
        let words = format!("seed={seed}");
        let (model, readers) = (Model::default(), Vec::new());
        let youngest = BTreeMap::new();
        Self { disk, knobs, clock, broker, model, readers, youngest, random, next_value: 0, words }
    }

    fn below(&mut self, limit: u64) -> u64 {
        Choices::below(&mut self.random, limit)
    }

    fn step(&mut self) {
        if self.below(4) == 0 {
            self.clock.advance(Duration::from_millis(1));
        }
        match self.below(100) {
            0..35 => self.send(),
            35..42 => self.send_many(),
            42..46 => self.commit(),
            46..65 => self.poll(),
            65..70 => self.seek(),
            70..76 => self.look_up(),
            76..80 => self.delete_records(),
            80..83 => self.create_topic(),
            83 => self.delete_topic(),
            84..86 => self.create_partitions(),
            86..88 => self.alter(),
            88..90 => self.run(&Step::Maintain),
            90 => self.clean(),
            91 => self.run(&Step::Sync),
            92..95 => self.new_reader(),
            95..97 => self.pause_or_resume(),
            _ => self.be_refused(),
        }
        self.compare_bounds();
    }

    /// A step that succeeds on both.
    fn run(&mut self, step: &Step) {
        let id = step.run(&self.broker).unwrap_or_else(|error| panic!("{}: {step:?}: {error}", self.words));
        self.apply(step, id);
    }

    /// The twin does it, too.
    fn apply(&mut self, step: &Step, id: Option<TopicId>) {
        let sends = match step {
            Step::Send(sends) | Step::SendAll(sends) => sends.as_slice(),
            Step::SendAndCommit { send, .. } => std::slice::from_ref(send),
            Step::DeleteTopic { name } => {
                self.youngest.retain(|partition, _| partition.topic() != *name);
                &[]
            }
            _ => &[],
        };
        for Send { name, partition, record } in sends {
            let youngest = self.youngest.entry(TopicPartition::new(name, *partition)).or_insert(i64::MIN);
            *youngest = record.timestamp.max(*youngest);
        }
        self.model.apply(step, id);
    }

    fn any_partition(&mut self) -> Option<TopicPartition> {
        let partitions = self.model.partitions();
        self.random.pick(&partitions).cloned()
    }

    fn any_name(&mut self) -> &'static str {
        self.random.pick(&NAMES).copied().unwrap_or("one")
    }

    /// The name of a partition's topic for as long as the test runs.
    fn name_of(partition: &TopicPartition) -> &'static str {
        NAMES.iter().find(|name| **name == partition.topic()).copied().unwrap_or("one")
    }

    fn any_record(&mut self) -> Record {
        self.next_value += 1;
        let mut value = format!("{} ", self.next_value).into_bytes();
        let size = match self.below(10) {
            0..6 => self.below(40),
            6..9 => self.below(300),
            _ => self.below(2_500),
        };
        value.resize(value.len() + usize::try_from(size).unwrap_or(0), b'.');
        let key = (self.below(2) == 0).then(|| format!("key {}", self.below(5)).into_bytes());
        let header = |i| (format!("h{i}"), (self.below(3) > 0).then(|| vec![b'v'; 3]));
        let headers = (0..3).map(header).skip(1).collect();
        // Mostly rising, sometimes late, sometimes equal.
        let late = i64::try_from(self.below(3) * self.below(50)).unwrap_or(0);
        let timestamp = brooklet::Clock::now_ms(&self.clock) - late;
        Record { timestamp, key, value: (self.below(20) > 0).then_some(value), headers }
    }

    fn any_send(&mut self) -> Option<Send> {
        let partition = self.any_partition()?;
        let send =
            Send { name: Self::name_of(&partition), partition: partition.partition(), record: self.any_record() };
        // A record larger than its topic allows is refused: `be_refused` sees to that.
        let limit = self.model.topics.get(send.name)?.max_message_bytes as usize;
        (send.record.to(send.name, 0).size() <= limit).then_some(send)
    }

    /// One record; its metadata is what the twin expects.
    fn send(&mut self) {
        let Some(send) = self.any_send() else { return };
        let expected = self.model.log(send.name, send.partition).map_or(0, |log| log.end());
        let record = send.record.to(send.name, send.partition);
        let metadata = self.broker.producer().send(record).and_then(brooklet::Delivery::wait);
        let metadata = metadata.unwrap_or_else(|error| panic!("{}: {error}", self.words));
        assert_eq!(place(&metadata), (send.name, send.partition, expected), "{}", self.words);
        assert_eq!(metadata.timestamp(), send.record.timestamp, "{}", self.words);
        self.apply(&Step::Send(vec![send]), None);
    }

    fn send_many(&mut self) {
        let count = 1 + self.below(8);
        let sends: Vec<Send> = (0..count).filter_map(|_| self.any_send()).collect();
        if sends.is_empty() {
            return;
        }
        let bytes: usize = sends.iter().map(|send| send.record.to(send.name, 0).size() + 200).sum();
        let together = bytes < self.knobs.buffer_memory && self.below(2) == 0;
        self.run(&if together { Step::SendAll(sends) } else { Step::Send(sends) });
    }

    /// Any offset: a commit is not checked against the log.
    fn commit(&mut self) {
        let group = self.random.pick(&["g", "h", "a longer name of a group"]).copied().unwrap_or("g");
        let exists = self.model.commits.keys().any(|(other, _)| other == group);
        if exists && self.below(8) == 0 {
            return self.run(&Step::DeleteGroup { group });
        }
        if self.below(3) == 0 {
            if let Some(send) = self.any_send() {
                self.run(&Step::SendAndCommit { group, send });
            }
            return;
        }
        let Some(partition) = self.any_partition() else { return };
        let (name, partition, offset) = (Self::name_of(&partition), partition.partition(), self.below(1 << 20));
        self.run(&Step::Commit { group, name, partition, offset });
    }

    fn create_topic(&mut self) {
        let (name, partitions) = (self.any_name(), 1 + u32::try_from(self.below(3)).unwrap_or(0));
        if !self.model.topics.contains_key(name) {
            return self.run(&Step::CreateTopic { name, partitions });
        }
        let refused = self.broker.create_topic(NewTopic::new(name, partitions));
        assert!(matches!(refused, Err(Error::TopicAlreadyExists { .. })), "{}: {refused:?}", self.words);
    }

    fn delete_topic(&mut self) {
        let name = self.any_name();
        if self.model.topics.contains_key(name) {
            return self.run(&Step::DeleteTopic { name });
        }
        let refused = self.broker.delete_topic(name);
        assert!(matches!(refused, Err(Error::UnknownTopicOrPartition { .. })), "{}: {refused:?}", self.words);
    }

    fn create_partitions(&mut self) {
        let (name, total) = (self.any_name(), 1 + u32::try_from(self.below(4)).unwrap_or(0));
        let Some(topic) = self.model.topics.get(name) else { return };
        if (topic.partitions.len() as u64) < u64::from(total) {
            return self.run(&Step::CreatePartitions { name, total });
        }
        let refused = self.broker.create_partitions(name, total);
        assert!(matches!(refused, Err(Error::InvalidPartitions { .. })), "{}: {refused:?}", self.words);
    }

    /// What goes depends on segments, which the twin does not know. But it is a prefix of what is beyond its age; and a
    /// partition of which everything is beyond it is empty afterwards.
    fn clean(&mut self) {
        let budget = if self.below(2) == 0 { Duration::MAX } else { Duration::ZERO };
        let report = self.broker.clean(budget).unwrap_or_else(|error| panic!("{}: {error}", self.words));
        let now_ms = brooklet::Clock::now_ms(&self.clock);
        let expired = self.model.expired(now_ms);
        for partition in self.model.partitions() {
            let start = self.broker.offset_of(&partition, OffsetSpec::Earliest).unwrap().map_or(0, Offset::get);
            let age = self.model.topics.get(partition.topic()).and_then(|topic| topic.retention_ms);
            let log = self.model.log_mut(partition.topic(), partition.partition()).unwrap();
            let gone = log.iter().take_while(|(offset, _)| *offset < start);
            for (offset, record) in gone {
                let is_old = age.is_some_and(|age| now_ms - record.timestamp > age);
                assert!(is_old, "{}: {partition} at {offset} went too early: {record:?}", self.words);
            }
            assert!((log.start..=log.end()).contains(&start), "{}: {partition} starts at {start}", self.words);
            let all_is_old = age.zip(self.youngest.get(&partition)).is_some_and(|(age, at)| now_ms - at > age);
            let is_due = report.is_complete && budget == Duration::MAX && all_is_old && expired.contains(&partition);
            assert!(!is_due || start == log.end(), "{}: {partition} is kept from {start} on", self.words);
            log.delete_below(start);
            if start == log.end() {
                self.youngest.remove(&partition);
            }
        }
    }

    fn alter(&mut self) {
        if self.below(3) == 0 {
            let (name, age_ms) = (self.any_name(), i64::try_from(self.below(300)).unwrap_or(0));
            if self.model.topics.contains_key(name) {
                return self.run(&Step::Expire { name, age_ms });
            }
        }
        if self.below(3) == 0 {
            let (name, types) = (self.any_name(), compression_types());
            let compression_type = self.random.pick(&types).copied().unwrap_or_default();
            if self.model.topics.contains_key(name) {
                return self.run(&Step::Compress { name, compression_type });
            }
        }
        let (name, max_message_bytes) = (self.any_name(), 100 + u32::try_from(self.below(3_000)).unwrap_or(0));
        if self.model.topics.contains_key(name) {
            self.run(&Step::Alter { name, max_message_bytes });
        }
    }

    fn delete_records(&mut self) {
        let Some(partition) = self.any_partition() else { return };
        let (name, number) = (Self::name_of(&partition), partition.partition());
        let end = self.model.log(name, number).map_or(0, |log| log.end());
        let before = self.below(end + 2);
        if before > end {
            let refused = self.broker.delete_records(&partition, before);
            assert!(matches!(refused, Err(Error::OffsetOutOfRange { .. })), "{}: {refused:?}", self.words);
            return;
        }
        let before = (self.below(10) > 0).then_some(before);
        self.run(&Step::DeleteRecords { name, partition: number, before });
    }

    /// Calls that must fail and change nothing.
    fn be_refused(&mut self) {
        let name = self.any_name();
        let producer = self.broker.producer();
        let Some(topic) = self.model.topics.get(name) else {
            let refused = producer.send(Record::of_value(1, Vec::new()).to(name, 0));
            assert!(matches!(refused, Err(Error::UnknownTopicOrPartition { .. })), "{}: {refused:?}", self.words);
            return;
        };
        let count = u32::try_from(topic.partitions.len()).unwrap_or(0);
        let large = Record::of_value(1, vec![b'.'; (topic.max_message_bytes as usize).min(20_000)]);
        let good = Record::of_value(1, b"x".to_vec());
        let refused = producer.send_all([good.to(name, 0), large.to(name, 0)]);
        assert!(matches!(refused, Err(Error::RecordTooLarge { .. })), "{}: {refused:?}", self.words);
        let refused = producer.send_all([good.to(name, 0), good.to(name, count)]);
        assert!(matches!(refused, Err(Error::UnknownTopicOrPartition { .. })), "{}: {refused:?}", self.words);
        let refused = producer.send(Record { timestamp: -1, ..good }.to(name, 0));
        assert!(matches!(refused, Err(Error::IllegalArgument { .. })), "{}: {refused:?}", self.words);
    }

    /// Offsets by place and by time.
    fn look_up(&mut self) {
        let Some(partition) = self.any_partition() else { return };
        let timestamp = brooklet::Clock::now_ms(&self.clock) - i64::try_from(self.below(200)).unwrap_or(0) + 20;
        let log = self.model.log(partition.topic(), partition.partition()).unwrap();
        for (spec, expected) in [
            (OffsetSpec::Earliest, Some(log.start)),
            (OffsetSpec::Latest, Some(log.end())),
            (OffsetSpec::Timestamp(timestamp), log.find_timestamp(timestamp)),
            (OffsetSpec::Timestamp(0), log.find_timestamp(0)),
            (OffsetSpec::MaxTimestamp, log.max_timestamp()),
        ] {
            let found = self.broker.offset_of(&partition, spec);
            let found = found.unwrap_or_else(|error| panic!("{}: {partition} {spec:?}: {error}", self.words));
            assert_eq!(found.map(Offset::get), expected, "{}: {partition} {spec:?}", self.words);
        }
    }

    fn new_reader(&mut self) {
        let partitions = self.model.partitions();
        let chosen: Vec<TopicPartition> = partitions.into_iter().filter(|_| self.below(2) == 0).collect();
        if chosen.is_empty() {
            return;
        }
        let builder = self
            .broker
            .consumer()
            .offset_reset(OffsetReset::Earliest)
            .max_poll_records(1 + usize::try_from(self.below(20)).unwrap_or(0))
            .fetch_max_bytes(1 + usize::try_from(self.below(5_000)).unwrap_or(0))
            .max_partition_fetch_bytes(1 + usize::try_from(self.below(3_000)).unwrap_or(0));
        let consumer = builder.assign(chosen.iter().cloned()).unwrap();
        let fresh = |partition: TopicPartition| {
            let id = self.model.topics.get(partition.topic()).and_then(|topic| topic.id);
            (partition, Position { id, next: None, paused: false })
        };
        let reader = Reader { consumer, positions: chosen.into_iter().map(fresh).collect() };
        if self.readers.len() < 4 {
            self.readers.push(reader);
        } else {
            let place = usize::try_from(self.below(4)).unwrap_or(0);
            self.readers[place] = reader;
        }
    }

    /// Everything that comes is what comes next, and something comes if there is something.
    fn poll(&mut self) {
        let Some(place) = self.any_reader() else { return };
        let Self { readers, model, words, .. } = self;
        let reader = &mut readers[place];
        let records = reader.consumer.poll(Duration::ZERO).unwrap_or_else(|error| panic!("{words}: {error}"));
        let due = reader.positions.iter_mut().filter_map(|(partition, position)| position.due(model, partition));
        assert_eq!(records.is_empty(), due.count() == 0, "{words}: {:?}", reader.positions);
        for record in &records {
            let partition = record.topic_partition();
            let position = reader.positions.get_mut(partition).unwrap();
            let next = position.due(model, partition);
            assert_eq!(Some(record.offset().get()), next, "{words}: {partition}");
            let expected = model.log(partition.topic(), partition.partition()).and_then(|log| log.get(next?));
            assert_eq!(Some(&Record::of(&record)), expected, "{words}: {partition} at {next:?}");
            position.next = next.map(|next| next + 1);
        }
    }

    fn any_reader(&mut self) -> Option<usize> {
        let count = self.readers.len() as u64;
        (count > 0).then(|| usize::try_from(self.below(count)).unwrap_or(0))
    }

    fn any_assigned(&mut self, place: usize) -> Option<TopicPartition> {
        let assigned: Vec<_> = self.readers[place].positions.keys().cloned().collect();
        self.random.pick(&assigned).cloned()
    }

    /// Within the log, below it and beyond it: the latter two start over at the log start.
    fn seek(&mut self) {
        let Some(place) = self.any_reader() else { return };
        let Some(partition) = self.any_assigned(place) else { return };
        let end = self.model.log(partition.topic(), partition.partition()).map_or(0, |log| log.end());
        let to = self.below(end + 3);
        let reader = &mut self.readers[place];
        let position = reader.positions.get_mut(&partition).unwrap();
        // A topic that was created again is noticed by the next poll, which forgets the position.
        if !position.is_current(&self.model, &partition) {
            return;
        }
        reader.consumer.seek(&partition, to).unwrap();
        position.next = Some(to);
    }

    fn pause_or_resume(&mut self) {
        let Some(place) = self.any_reader() else { return };
        let Some(partition) = self.any_assigned(place) else { return };
        let reader = &mut self.readers[place];
        let position = reader.positions.get_mut(&partition).unwrap();
        position.paused = !position.paused;
        let changed =
            if position.paused { reader.consumer.pause([&partition]) } else { reader.consumer.resume([&partition]) };
        changed.unwrap();
    }

    /// Topics, ids, partitions and their bounds.
    fn compare_bounds(&self) {
        let names: Vec<String> = self.broker.topics().unwrap().iter().map(ToString::to_string).collect();
        assert!(names.iter().eq(self.model.topics.keys()), "{}: {names:?}", self.words);
        for (name, twin) in &self.model.topics {
            let description = self.broker.describe_topic(name).unwrap();
            assert_eq!(Some(description.id()), twin.id, "{}: {name}", self.words);
            let bounds = description.partitions().iter().map(|bounds| (bounds.log_start.get(), bounds.end.get()));
            let expected = twin.partitions.iter().map(|log| (log.start, log.end()));
            assert!(bounds.eq(expected), "{}: {name}: {:?}", self.words, description.partitions());
        }
    }

    fn compare_everything(&self) {
        let seen = Model::observe(&self.broker).unwrap_or_else(|error| panic!("{}: {error}", self.words));
        assert_eq!(seen, self.model, "{}", self.words);
    }

    /// Closes, or kills the process, with records on their way that nobody waits for, and opens the file again.
    fn restart(&mut self) {
        self.compare_everything();
        if self.below(4) == 0 {
            assert_healthy(&self.broker, &self.words);
        }
        let sent: Vec<Send> = (0..self.below(3)).filter_map(|_| self.any_send()).collect();
        for send in &sent {
            drop(self.broker.producer().send(send.record.to(send.name, send.partition)).unwrap());
        }
        let closes = self.below(2) == 0;
        self.readers.clear();
        if closes {
            self.broker.close().unwrap_or_else(|error| panic!("{}: {error}", self.words));
        }
        self.disk = self.disk.after_kill();
        self.broker = self.knobs.builder(&self.disk).clock(self.clock.clone()).open(PATH).unwrap();
        let seen = Model::observe(&self.broker).unwrap_or_else(|error| panic!("{}: {error}", self.words));
        // What nobody waited for is there after a close; after a kill as far as it had come.
        let least = if closes { sent.len() } else { 0 };
        let known = (least..=sent.len()).any(|count| {
            let mut state = self.model.clone();
            state.apply(&Step::Send(sent[..count].to_vec()), None);
            state.allows(&seen)
        });
        assert!(known, "{}: after {}, closes: {closes}", self.words, sent.len());
        self.model = seen;
    }
}

impl Position {
    fn is_current(&self, model: &Model, partition: &TopicPartition) -> bool {
        model.topics.get(partition.topic()).is_some_and(|topic| topic.id == self.id)
    }

    /// The offset that the next poll gives, if it gives one; follows a topic that was created again.
    fn due(&mut self, model: &Model, partition: &TopicPartition) -> Option<u64> {
        let topic = model.topics.get(partition.topic())?;
        let log = topic.partitions.get(partition.partition() as usize)?;
        if topic.id != self.id {
            (self.id, self.next) = (topic.id, None);
        }
        // A paused partition's position is found as well (C-26).
        let valid = self.next.filter(|next| (log.start..=log.end()).contains(next));
        let next = *self.next.insert(valid.unwrap_or(log.start));
        (!self.paused && next < log.end()).then_some(next)
    }
}

fn run(seed: u64, steps: u64) {
    let mut twins = Twins::new(seed);
    let mut until_restart = 100;
    for number in 0..steps {
        twins.words = format!("seed={seed} step={number}");
        twins.step();
        until_restart -= 1;
        if until_restart == 0 {
            twins.restart();
            until_restart = 50 + twins.below(100);
        }
    }
    twins.compare_everything();
    assert_healthy(&twins.broker, &twins.words);
}

/// Each test has seeds of its own, so that they share the processors.
fn run_seeds(offset: u64) {
    const STEPS: u64 = 5_000;
    let first = from_env("BROOKLET_TEST_SEED", 0);
    if first > 0 {
        return run(first, STEPS);
    }
    for seed in 0..7 * scale() as u64 {
        run(offset + seed, STEPS);
    }
}

#[test]
fn broker_and_twin_agree_1() {
    run_seeds(1_000_000);
}

#[test]
fn broker_and_twin_agree_2() {
    run_seeds(2_000_000);
}

#[test]
fn broker_and_twin_agree_3() {
    run_seeds(3_000_000);
}

#[test]
fn broker_and_twin_agree_4() {
    run_seeds(4_000_000);
}
