//! Sequences of operations against the twin, on a disk that fails and loses power.
//!
//! Strategy: the input chooses the broker's mode and then one step after the other, valid ones and ones that must be
//! refused. Records are read back all the time, through a consumer whose position the twin knows. Calls of the disk fail, the
//! process is killed, and power is cut with any part of what was not synced left: what is opened then has to be one of
//! the states that the history allows, and the run goes on with it. At the end everything is compared, checked, closed, opened
//! and compared again.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use brooklet::{Broker, Consumer, Durability, Error, ManualClock, OffsetReset, OffsetSpec, TopicId, TopicPartition};

use super::bytes::Bytes;
use super::model::{Choices, Log, Model, Record, Send, Step, compression_types};
use super::sim_disk::{Fault, Keep, Op, Repeat, SimDisk};

/// What the clock says all the time.
const NOW_MS: i64 = 1_000_000;

/// Everything is cleaned.
const CLEAN: Step = Step::Clean { now_ms: NOW_MS };

const PATH: &str = "/d/app.brooklet";
const NAMES: [&str; 3] = ["a", "b", "c.d"];
const MAX_STEPS: usize = 60;
const MAX_PARTITIONS: u64 = 3;
const BUFFERED: Durability = Durability::Buffered { flush_interval: Duration::from_secs(3_600) };

pub fn run(input: &[u8]) {
    let mut input = Bytes::new(input);
    let mut run = Run::new(&mut input);
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        run.one(&mut input);
    }
    run.finish();
}

struct Run {
    durability: Durability,
    disk: SimDisk,
    broker: Broker,
    /// What the broker shows.
    state: Model,
    /// The states that a power loss may leave beside the present one.
    before: Vec<Model>,
    /// Calls may fail: an error may have any reason now.
    failing: bool,
    reader: Option<Reader>,
    /// Makes every record another one.
    number: u64,
}

/// A consumer of one partition, and where it stands.
struct Reader {
    consumer: Consumer,
    partition: TopicPartition,
    position: u64,
}

/// What became of a step.
enum Outcome {
    Done(Option<TopicId>),
    /// It was refused for the reason that it had to be.
    Refused,
    Failed,
}

impl Run {
    fn new(input: &mut Bytes<'_>) -> Self {
        let durability = if input.flag() { BUFFERED } else { Durability::Sync };
        let disk = SimDisk::new();
        let broker = open(&disk, durability).unwrap();
        let state = Model::default();
        Self { durability, disk, broker, state, before: Vec::new(), failing: false, reader: None, number: 0 }
    }

    fn one(&mut self, input: &mut Bytes<'_>) {
        match input.below(16) {
            0..=9 => {
                let step = self.choose_step(input);
                self.step(&step);
            }
            10 | 11 => self.poll(input),
            12 => self.look_up(input),
            13 => self.let_fail(input),
            14 => self.reopen(),
            _ if input.flag() => self.power_cut(keep(input)),
            _ => self.kill(),
        }
    }

    fn choose_step(&mut self, input: &mut Bytes<'_>) -> Step {
        let name = *input.pick(&NAMES).unwrap_or(&"a");
        let partition = u32::try_from(input.below(MAX_PARTITIONS)).unwrap();
        match input.below(15) {
            0 => Step::CreateTopic { name, partitions: partition + 1 },
            1 => Step::DeleteTopic { name },
            2 => Step::CreatePartitions { name, total: partition + 1 },
            3 => match input.byte() {
                byte @ 250.. => {
                    let types = compression_types();
                    Step::Compress { name, compression_type: types[usize::from(byte) % types.len()] }
                }
                byte => Step::Alter { name, max_message_bytes: 100 + u32::from(byte) * 8 },
            },
            4 => {
                let end = self.state.log(name, partition).map_or(0, Log::end);
                Step::DeleteRecords { name, partition, before: input.flag().then(|| input.below(end + 2)) }
            }
            5 | 6 => Step::Send(self.choose_sends(input, name, partition)),
            7 => self.choose_commit(input, name, partition),
            8 | 9 => Step::SendAll(self.choose_sends(input, name, partition)),
            10 => Step::Maintain,
            11 => Step::Sync,
            // Every record of these is older.
            12 => Step::Expire { name, age_ms: 10 },
            13 => CLEAN,
            _ => Step::Vacuum,
        }
    }

    /// Any offset: a commit is not checked against the log.
    fn choose_commit(&mut self, input: &mut Bytes<'_>, name: &'static str, partition: u32) -> Step {
        let group = ["g", "h"][usize::from(input.flag())];
        match input.below(8) {
            0 => Step::DeleteGroup { group },
            1..=3 => match self.choose_sends(input, name, partition).into_iter().next() {
                Some(send) => Step::SendAndCommit { group, send },
                None => Step::Sync,
            },
            _ => Step::Commit { group, name, partition, offset: input.below(1 << 40) },
        }
    }

    /// All together fit into `buffer_memory`.
    fn choose_sends(&mut self, input: &mut Bytes<'_>, name: &'static str, partition: u32) -> Vec<Send> {
        let count = 1 + input.below(4);
        let mut send = |_| {
            self.number += 1;
            let mut record = Record::of_value(1_000 + i64::from(input.byte()), self.number.to_string().into_bytes());
            let fill = usize::from(input.byte()) * 2;
            record.value.as_mut().unwrap().extend(std::iter::repeat_n(b'.', fill));
            match input.below(8) {
                0 => record.value = None,
                1 => record.key = Some(Vec::new()),
                2 => record.headers = vec![("h".to_owned(), None), ("h".to_owned(), Some(b"v".to_vec()))],
                _ => record.key = Some(vec![input.byte()]),
            }
            let name = if input.below(8) == 0 { *input.pick(&NAMES).unwrap_or(&name) } else { name };
            Send { name, partition, record }
        };
        (0..count).map(&mut send).collect()
    }

    /// Runs a step and compares what becomes of it with what the twin says.
    fn step(&mut self, step: &Step) {
        let accepted = accepted_part(&self.state, step);
        let within = states_within(&self.state, &accepted);
        let (id, synced) = match self.outcome(step) {
            Outcome::Done(id) => (id, step.makes_durable(&self.state)),
            Outcome::Refused => (None, false),
            Outcome::Failed => return self.after_failure(&accepted, within),
        };
        let before = self.state.clone();
        self.state.apply(&accepted, id);
        // A change that changes nothing writes nothing.
        let synced = synced && !(step.changes() && self.state == before);
        if synced || self.durability == Durability::Sync {
            self.before.clear();
        } else {
            self.before.extend(within);
        }
        if matches!(step, Step::DeleteTopic { .. }) {
            self.reader = None;
        }
    }

    fn outcome(&self, step: &Step) -> Outcome {
        let refusal = refusal(&self.state, step);
        match step.run(&self.broker) {
            Ok(id) => {
                assert!(refusal.is_none(), "{step:?} was done, and should be refused: {refusal:?}");
                Outcome::Done(id)
            }
            Err(_) if self.failing => Outcome::Failed,
            Err(error) => {
                let Some(refusal) = refusal else { panic!("{step:?}: {error}") };
                assert!(refusal.is(&error), "{step:?}: {error}, instead of {refusal:?}");
                Outcome::Refused
            }
        }
    }

    /// After an error of the disk nobody knows whether the step was done. What was shown before is looked at in the next
    /// session.
    fn after_failure(&mut self, accepted: &Step, within: Vec<Model>) {
        self.before.extend(within);
        self.state.apply(accepted, None);
        let killed = self.disk.after_kill();
        self.restart(killed);
    }

    fn poll(&mut self, input: &mut Bytes<'_>) {
        if input.flag() || self.reader.is_none() {
            self.reader = self.new_reader(input);
        }
        let Some(reader) = &mut self.reader else { return };
        let log = self.state.log(reader.partition.topic(), reader.partition.partition());
        let log = log.cloned().unwrap_or_default();
        if input.flag() {
            reader.position = input.below(log.end() + 1);
            reader.consumer.seek(&reader.partition, OffsetSpec::Offset(reader.position)).unwrap();
        }
        let records = match reader.consumer.poll(Duration::ZERO) {
            Ok(records) => records,
            Err(error) => return self.unreadable(&error),
        };
        reader.position = reader.position.max(log.start);
        assert_eq!(
            records.is_empty(),
            reader.position == log.end(),
            "{}: {} of {log:?}",
            reader.partition,
            reader.position
        );
        for record in &records {
            assert_eq!(record.offset().get(), reader.position, "{}", reader.partition);
            assert_eq!(Some(&Record::of(&record)), log.get(reader.position), "{}", reader.partition);
            reader.position += 1;
        }
    }

    fn new_reader(&self, input: &mut Bytes<'_>) -> Option<Reader> {
        let partition = input.pick(&self.state.partitions())?.clone();
        let records = 1 + usize::try_from(input.below(5)).unwrap();
        let builder = self.broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(records);
        Some(Reader { consumer: builder.assign([partition.clone()]).unwrap(), partition, position: 0 })
    }

    fn look_up(&mut self, input: &mut Bytes<'_>) {
        let partitions = self.state.partitions();
        let Some(partition) = input.pick(&partitions) else { return };
        let Some(log) = self.state.log(partition.topic(), partition.partition()) else { return };
        let timestamp = 1_000 + i64::from(input.byte());
        let (spec, expected) = match input.below(4) {
            0 => (OffsetSpec::Earliest, Some(log.start)),
            1 => (OffsetSpec::Latest, Some(log.end())),
            2 => (OffsetSpec::MaxTimestamp, log.max_timestamp()),
            _ => (OffsetSpec::Timestamp(timestamp), log.find_timestamp(timestamp)),
        };
        match self.broker.offset_of(partition, spec) {
            Ok(found) => assert_eq!(found.map(|offset| offset.get()), expected, "{spec:?} of {partition}: {log:?}"),
            Err(error) => self.unreadable(&error),
        }
    }

    /// A read may fail only while the disk does.
    fn unreadable(&mut self, error: &Error) {
        assert!(self.failing, "can't read: {error}");
        let killed = self.disk.after_kill();
        self.restart(killed);
    }

    fn let_fail(&mut self, input: &mut Bytes<'_>) {
        const OPERATIONS: [Op; 9] =
            [Op::Write, Op::Sync, Op::ShortWrite, Op::Read, Op::SetLen, Op::Open, Op::Rename, Op::Remove, Op::SyncDir];
        let fault = Fault {
            operation: *input.pick(&OPERATIONS).unwrap_or(&Op::Write),
            path_contains: [None, Some("-journal".to_owned())][usize::from(input.flag())].clone(),
            nth: usize::try_from(input.below(8)).unwrap(),
            kind: [ErrorKind::Other, ErrorKind::StorageFull][usize::from(input.flag())],
            repeat: [Repeat::Once, Repeat::FromNowOn][usize::from(input.flag())],
        };
        self.disk.set_failed_sync_seed(input.flag().then(|| input.number()));
        self.disk.fail(fault);
        self.failing = true;
    }

    /// Closes and opens. What a close could not bring into the store is in the journal.
    fn reopen(&mut self) {
        self.reader = None;
        let closed = self.broker.close();
        assert!(self.failing || closed.is_ok(), "{closed:?}");
        if closed.is_ok() {
            self.before.clear();
        }
        let reopened = self.disk.after_kill();
        self.restart(reopened);
    }

    fn kill(&mut self) {
        let killed = self.disk.after_kill();
        if !self.failing {
            self.before.clear();
        }
        self.restart(killed);
    }

    fn power_cut(&mut self, keep: Keep) {
        let image = self.disk.image(self.disk.operations(), keep);
        self.restart(image);
    }

    /// Goes on with another disk, which may hold any state since `before`.
    fn restart(&mut self, disk: SimDisk) {
        self.reader = None;
        self.broker = open(&disk, self.durability).unwrap_or_else(|error| panic!("can't open: {error}"));
        self.disk = disk;
        self.failing = false;
        let seen = Model::observe(&self.broker).unwrap_or_else(|error| panic!("can't read: {error}"));
        // What recovery found it has brought into the store.
        let mut allowed = std::mem::take(&mut self.before);
        allowed.push(std::mem::replace(&mut self.state, seen));
        let known = allowed.iter().any(|state| state.allows(&self.state));
        assert!(known, "not a state of the history\n seen: {:?}\n allowed: {allowed:#?}", self.state);
    }

    fn finish(mut self) {
        self.disk.clear_faults();
        if self.failing {
            let killed = self.disk.after_kill();
            self.restart(killed);
        }
        for _ in 0..2 {
            assert_eq!(Model::observe(&self.broker).unwrap(), self.state);
            let report = self.broker.check().unwrap();
            assert!(report.is_healthy(), "{report}");
            self.broker.close().unwrap();
            self.disk = self.disk.after_kill();
            self.broker = open(&self.disk, self.durability).unwrap();
        }
    }
}

fn open(disk: &SimDisk, durability: Durability) -> Result<Broker, Error> {
    Broker::builder()
        .disk(Arc::new(disk.clone()))
        .background(false)
        .clock(ManualClock::new(NOW_MS))
        .clean_step(1)
        .durability(durability)
        .buffer_memory(4 << 10)
        .checkpoint_bytes(1 << 10)
        .cache_size(64 << 10)
        .open(PATH)
}

fn keep(input: &mut Bytes<'_>) -> Keep {
    match input.below(6) {
        0 => Keep::None,
        1 => Keep::All,
        2 => Keep::Subset(input.number()),
        3 => Keep::Torn(input.number()),
        _ => Keep::Random(input.number()),
    }
}

/// Why a step can't be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Exists,
    Unknown,
    Partitions,
    OutOfRange,
    TooLarge,
    Collides,
    NoGroup,
}

impl Refusal {
    fn is(self, error: &Error) -> bool {
        match self {
            Refusal::Exists => matches!(error, Error::TopicAlreadyExists { .. }),
            Refusal::Unknown => matches!(error, Error::UnknownTopicOrPartition { .. }),
            Refusal::Partitions => matches!(error, Error::InvalidPartitions { .. }),
            Refusal::OutOfRange => matches!(error, Error::OffsetOutOfRange { .. }),
            Refusal::TooLarge => matches!(error, Error::RecordTooLarge { .. }),
            Refusal::Collides => matches!(error, Error::InvalidTopic { .. }),
            Refusal::NoGroup => matches!(error, Error::GroupIdNotFound { .. }),
        }
    }
}

/// Why a step can't be done in this state; `None` when it can.
fn refusal(state: &Model, step: &Step) -> Option<Refusal> {
    let unknown = |name: &str| (!state.topics.contains_key(name)).then_some(Refusal::Unknown);
    match step {
        Step::CreateTopic { name, .. } if state.topics.contains_key(*name) => Some(Refusal::Exists),
        Step::CreateTopic { name, .. } => collides(state, name).then_some(Refusal::Collides),
        Step::DeleteTopic { name }
        | Step::Alter { name, .. }
        | Step::Expire { name, .. }
        | Step::Compress { name, .. } => unknown(name),
        Step::CreatePartitions { name, total } => unknown(name).or_else(|| {
            let more = state.topics.get(*name).is_some_and(|topic| *total as usize > topic.partitions.len());
            (!more).then_some(Refusal::Partitions)
        }),
        Step::DeleteRecords { name, partition, before } => match state.log(name, *partition) {
            None => Some(Refusal::Unknown),
            Some(log) => before.is_some_and(|before| before > log.end()).then_some(Refusal::OutOfRange),
        },
        Step::Send(sends) | Step::SendAll(sends) => sends.iter().find_map(|send| refusal_of(state, send)),
        // It looks up the partition's end before it sends.
        Step::SendAndCommit { send, .. } => {
            no_partition(state, send.name, send.partition).or_else(|| refusal_of(state, send))
        }
        Step::Commit { name, partition, .. } => no_partition(state, name, *partition),
        Step::DeleteGroup { group } => {
            let exists = state.commits.keys().any(|(other, _)| other == group);
            (!exists).then_some(Refusal::NoGroup)
        }
        Step::Clean { .. } | Step::Maintain | Step::Sync | Step::Vacuum | Step::Reopen => None,
    }
}

fn refusal_of(state: &Model, send: &Send) -> Option<Refusal> {
    let Some(topic) = state.topics.get(send.name) else { return Some(Refusal::Unknown) };
    if send.record.to(send.name, send.partition).size() > topic.max_message_bytes as usize {
        return Some(Refusal::TooLarge);
    }
    no_partition(state, send.name, send.partition)
}

fn no_partition(state: &Model, name: &str, partition: u32) -> Option<Refusal> {
    state.log(name, partition).is_none().then_some(Refusal::Unknown)
}

/// Whether another topic's name differs only in `.` and `_`.
fn collides(state: &Model, name: &str) -> bool {
    state.topics.keys().any(|other| other != name && other.replace('.', "_") == name.replace('.', "_"))
}

/// What is done of a step, also of one that is refused: single sends before the bad one are sent.
fn accepted_part(state: &Model, step: &Step) -> Step {
    match step {
        Step::Send(sends) => {
            let good = sends.iter().take_while(|send| refusal_of(state, send).is_none());
            Step::Send(good.cloned().collect())
        }
        _ if refusal(state, step).is_some() => Step::Sync,
        _ => step.clone(),
    }
}

/// The states while a step runs, with the one before it: a group that finds no room is committed in parts, and a clean goes
/// from partition to partition.
fn states_within(before: &Model, step: &Step) -> Vec<Model> {
    let mut states = vec![before.clone()];
    let part = |sends: &[Send]| {
        let mut state = before.clone();
        state.apply(&Step::Send(sends.to_vec()), None);
        state
    };
    match step {
        Step::Send(sends) => states.extend((1..sends.len()).map(|count| part(&sends[..count]))),
        Step::SendAndCommit { send, .. } => states.push(part(std::slice::from_ref(send))),
        Step::Clean { now_ms } => {
            let mut state = before.clone();
            for partition in before.expired(*now_ms) {
                state.empty(&partition);
                states.push(state.clone());
            }
        }
        _ => {}
    }
    states
}
