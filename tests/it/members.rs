//! Members of groups. Goal: whatever they do and in whatever order, a partition has one reader, every record is read, and what
//! is committed is where the next reader begins.
//!
//! Two methods. Random sequences of joining, leaving, polling, seeking and committing against a twin that knows positions and
//! commits and nothing of assignors: 10,000 of them, each shrunk when it fails. And real threads that join, leave and die
//! under load, for a bounded number of steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use brooklet::{
    Broker, Consumer, ConsumerBuilder, Error, GroupState, ManualClock, NewTopic, OffsetReset, ProducerRecord,
    TopicPartition,
};
use proptest::prelude::*;

use crate::crash::scale;
use crate::support::{TestBroker, finishes, tp};

const INTERVAL: Duration = Duration::from_secs(60);
const TOPICS: [&str; 2] = ["a", "b"];

/// What somebody does. Numbers choose among what is there.
#[derive(Debug, Clone, Copy)]
enum Act {
    Append {
        partition: u8,
        records: u8,
    },
    Join {
        both: bool,
    },
    Leave {
        member: u8,
        drops: bool,
    },
    Poll {
        member: u8,
    },
    Seek {
        member: u8,
        partition: u8,
        to: u8,
    },
    Commit {
        member: u8,
    },
    Subscribe {
        member: u8,
        both: bool,
    },
    /// Members that did not poll since the last time are given up.
    TimePasses,
    AddPartition,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (any::<u8>(), 1..5_u8).prop_map(|(partition, records)| Act::Append { partition, records }),
        2 => any::<bool>().prop_map(|both| Act::Join { both }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(member, drops)| Act::Leave { member, drops }),
        8 => any::<u8>().prop_map(|member| Act::Poll { member }),
        1 => (any::<u8>(), any::<u8>(), 0..8_u8).prop_map(|(member, partition, to)| Act::Seek { member, partition, to }),
        3 => any::<u8>().prop_map(|member| Act::Commit { member }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(member, both)| Act::Subscribe { member, both }),
        1 => Just(Act::TimePasses),
        1 => Just(Act::AddPartition),
    ]
}

/// A consumer, and where its twin says it stands.
struct Member {
    consumer: Consumer,
    /// Who it was when it was last looked at.
    id: Option<String>,
    positions: BTreeMap<TopicPartition, u64>,
}

struct Twins {
    broker: Broker,
    clock: ManualClock,
    members: Vec<Member>,
    ends: BTreeMap<TopicPartition, u64>,
    committed: BTreeMap<TopicPartition, u64>,
}

impl Twins {
    fn new() -> Self {
        let clock = ManualClock::new(1_000);
        let broker = Broker::builder().clock(clock.clone()).background(false).in_memory().unwrap();
        let mut ends = BTreeMap::new();
        for (name, partitions) in [("a", 3), ("b", 2)] {
            broker.create_topic(NewTopic::new(name, partitions)).unwrap();
            ends.extend((0..partitions).map(|partition| (tp(name, partition), 0)));
        }
        Self { broker, clock, members: Vec::new(), ends, committed: BTreeMap::new() }
    }

    fn builder(&self) -> ConsumerBuilder {
        let builder = self.broker.consumer().group("g").offset_reset(OffsetReset::Earliest);
        builder.max_poll_interval(INTERVAL).max_poll_records(3)
    }

    fn run(&mut self, act: Act) {
        match act {
            Act::Append { partition, records } => self.append(partition, records),
            Act::Join { both } if self.members.len() < 5 => {
                let consumer = self.builder().subscribe(topics(both)).unwrap();
                self.members.push(Member { consumer, id: None, positions: BTreeMap::new() });
            }
            Act::Join { .. } => {}
            Act::Leave { member, drops } => self.leave(member, drops),
            Act::Poll { member } => {
                if let Some(member) = self.place(member) {
                    self.poll(member);
                }
            }
            Act::Seek { member, partition, to } => self.seek(member, partition, to),
            Act::Commit { member } => self.commit(member),
            Act::Subscribe { member, both } => {
                if let Some(member) = self.place(member) {
                    self.members[member].consumer.subscribe(topics(both)).unwrap();
                }
            }
            Act::TimePasses => {
                self.clock.advance(INTERVAL);
                self.broker.maintain().unwrap();
            }
            Act::AddPartition => {
                let partitions = u32::try_from(self.ends.range(tp("b", 0)..).count()).unwrap();
                if partitions < 4 {
                    self.broker.create_partitions("b", partitions + 1).unwrap();
                    self.ends.insert(tp("b", partitions), 0);
                }
            }
        }
        self.assert_one_owner_each();
    }

    fn place(&self, member: u8) -> Option<usize> {
        (!self.members.is_empty()).then(|| usize::from(member) % self.members.len())
    }

    fn append(&mut self, partition: u8, records: u8) {
        let place = usize::from(partition) % self.ends.len();
        let (partition, end) = self.ends.iter_mut().nth(place).unwrap();
        let producer = self.broker.producer();
        for _ in 0..records {
            drop(
                producer
                    .send(ProducerRecord::to(partition.topic()).partition(partition.partition()).value("x"))
                    .unwrap(),
            );
        }
        producer.flush().unwrap();
        *end += u64::from(records);
    }

    fn leave(&mut self, member: u8, drops: bool) {
        let Some(member) = self.place(member) else { return };
        let Member { consumer, .. } = self.members.swap_remove(member);
        if drops { drop(consumer) } else { consumer.close().unwrap() }
    }

    /// Whatever comes is next at its place; what was given up is forgotten, and what is new begins where it was committed.
    fn poll(&mut self, member: usize) {
        let Self { members, ends, committed, .. } = self;
        let Member { consumer, id, positions } = &mut members[member];
        let records = consumer.poll(Duration::ZERO).unwrap();
        let now = consumer.group_metadata().unwrap().member_id;
        let assigned: BTreeSet<_> = consumer.assignment().into_iter().collect();
        if *id != now {
            positions.clear();
            id.clone_from(&now);
        }
        positions.retain(|partition, _| assigned.contains(partition));
        for partition in &assigned {
            let start = || committed.get(partition).copied().filter(|offset| *offset <= ends[partition]).unwrap_or(0);
            positions.entry(partition.clone()).or_insert_with(start);
        }
        for record in &records {
            let position = positions.get_mut(record.topic_partition()).expect("only what is assigned is read");
            assert_eq!(record.offset().get(), *position, "{}", record.topic_partition());
            *position += 1;
        }
        let left: u64 = positions.iter().map(|(partition, position)| ends[partition] - position).sum();
        assert!(!records.is_empty() || left == 0, "{left} records wait, and none came");
    }

    fn seek(&mut self, member: u8, partition: u8, to: u8) {
        let Some(member) = self.place(member) else { return };
        let Member { consumer, positions, .. } = &mut self.members[member];
        let place = usize::from(partition) % positions.len().max(1);
        let Some((partition, position)) = positions.iter_mut().nth(place) else { return };
        let to = u64::from(to).min(self.ends[partition]);
        consumer.seek(partition, to).unwrap();
        *position = to;
    }

    /// Commits all positions; a member that was given up commits nothing.
    fn commit(&mut self, member: u8) {
        let Some(member) = self.place(member) else { return };
        let alive: BTreeSet<String> = match self.broker.describe_group("g") {
            Ok(group) => group.members.into_iter().map(|member| member.member_id).collect(),
            Err(_) => BTreeSet::new(),
        };
        let Member { consumer, id, positions } = &mut self.members[member];
        let before = consumer.group_metadata().unwrap().member_id;
        match consumer.commit() {
            Ok(()) => {
                self.committed.extend(positions.iter().map(|(partition, position)| (partition.clone(), *position)))
            }
            Err(Error::CommitFailed { .. }) => assert!(!alive.contains(before.as_ref().unwrap()), "{id:?}"),
            Err(error) => panic!("{error}"),
        }
        let partitions: Vec<_> = self.ends.keys().cloned().collect();
        for (partition, committed) in consumer.committed(&partitions).unwrap() {
            assert_eq!(committed.map(|committed| committed.offset.get()), self.committed.get(&partition).copied());
        }
    }

    /// What living members have, nobody else has. One that was given up does not know it yet.
    fn assert_one_owner_each(&self) {
        let Ok(group) = self.broker.describe_group("g") else { return };
        let mut owners = BTreeSet::new();
        for member in group.members {
            for partition in member.assignment {
                assert!(owners.insert(partition.clone()), "{partition} has two owners");
            }
        }
    }

    /// When everybody has polled often enough, everything that somebody wants is shared out, evenly, and read to the end.
    fn settle(&mut self) {
        for _ in 0..60 {
            for member in 0..self.members.len() {
                self.poll(member);
            }
        }
        if self.members.is_empty() {
            return;
        }
        let group = self.broker.describe_group("g").unwrap();
        assert_eq!(group.state, GroupState::Stable);
        let wants_b = self.members.iter().any(|member| member.consumer.subscription().len() == 2);
        let wanted = self.ends.keys().filter(|partition| partition.topic() == "a" || wants_b).count();
        let owned: Vec<usize> = self.members.iter().map(|member| member.positions.len()).collect();
        assert_eq!(owned.iter().sum::<usize>(), wanted);
        if self.members.iter().all(|member| member.consumer.subscription().len() == if wants_b { 2 } else { 1 }) {
            assert!(owned.iter().max().unwrap() - owned.iter().min().unwrap() <= 1, "{owned:?}");
        }
        for member in &self.members {
            assert!(member.positions.iter().all(|(partition, position)| *position == self.ends[partition]));
        }
    }
}

fn topics(both: bool) -> &'static [&'static str] {
    if both { &TOPICS } else { &TOPICS[..1] }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn members_and_their_twin_agree(acts in proptest::collection::vec(act(), 1..24)) {
        let mut twins = Twins::new();
        for act in acts {
            twins.run(act);
        }
        twins.settle();
    }
}

/// What the threads of a group read, by partition and offset: how often.
type Seen = Mutex<BTreeMap<(u32, u64), u32>>;

fn note(seen: &Seen, records: &brooklet::ConsumerRecords) {
    let mut seen = seen.lock().unwrap();
    for record in records {
        *seen.entry((record.partition(), record.offset().get())).or_default() += 1;
    }
}

const PARTITIONS: u32 = 6;
const RECORDS: u64 = 3_000;

fn produce_all(broker: &Broker) {
    let producer = broker.producer();
    for i in 0..RECORDS {
        let partition = u32::try_from(i % u64::from(PARTITIONS)).unwrap();
        drop(producer.send(ProducerRecord::to("t").partition(partition).value(i.to_string())).unwrap());
        if i % 100 == 99 {
            producer.flush().unwrap();
        }
    }
}

fn missing(seen: &Seen) -> u64 {
    RECORDS - seen.lock().unwrap().len() as u64
}

/// Members come and go in order, committing what they read before they give it up: each record is read exactly once.
#[test]
fn each_record_is_read_once_when_nobody_dies() {
    finishes("orderly members", || {
        for _ in 0..3 * scale() {
            let broker = TestBroker::with(|builder| builder.linger(Duration::ZERO)).with_topic("t", PARTITIONS);
            let (seen, running) = (Arc::new(Seen::default()), AtomicU64::new(0));
            thread::scope(|scope| {
                for thread in 0..4_u64 {
                    let (broker, seen, running) = (&broker, &seen, &running);
                    scope.spawn(move || {
                        running.fetch_add(1, Ordering::SeqCst);
                        let mut life = 0;
                        while missing(seen) > 0 {
                            // Positions are committed when partitions are given up and when the consumer is closed.
                            let builder = broker.consumer().group("g").offset_reset(OffsetReset::Earliest);
                            let builder = builder.auto_commit(Duration::from_secs(3_600)).max_poll_records(20);
                            let mut consumer = builder.subscribe(["t"]).unwrap();
                            life += 1;
                            for _ in 0..10 + 7 * thread + life {
                                note(seen, &consumer.poll(Duration::from_millis(1)).unwrap());
                            }
                            consumer.close().unwrap();
                        }
                    });
                }
                scope.spawn(|| produce_all(&broker));
            });
            let seen = seen.lock().unwrap();
            assert!(
                seen.values().all(|times| *times == 1),
                "read twice: {:?}",
                seen.iter().find(|(_, times)| **times > 1)
            );
        }
    });
}

/// Members that die without a word, commit late, or are given up because they do not poll: every record is read at least once,
/// and what is committed never passes what was read.
#[test]
fn each_record_is_read_at_least_once_whoever_dies() {
    finishes("dying members", || {
        for _ in 0..3 * scale() {
            let broker = TestBroker::with(|builder| builder.linger(Duration::ZERO)).with_topic("t", PARTITIONS);
            let (seen, done) = (Arc::new(Seen::default()), AtomicBool::new(false));
            thread::scope(|scope| {
                let reading: Vec<_> = (0..4_u64)
                    .map(|thread| {
                        let (broker, seen) = (&broker, &seen);
                        scope.spawn(move || {
                            let mut life = 0;
                            while missing(seen) > 0 {
                                let builder = broker.consumer().group("g").offset_reset(OffsetReset::Earliest);
                                let mut consumer = builder.max_poll_records(20).subscribe(["t"]).unwrap();
                                life += 1;
                                for step in 0..10 + 7 * thread + life {
                                    let records = consumer.poll(Duration::from_millis(1)).unwrap();
                                    note(seen, &records);
                                    match consumer.commit() {
                                        Ok(()) | Err(Error::CommitFailed { .. }) => {}
                                        Err(error) => panic!("{error}"),
                                    }
                                    // Dies with records that it read and did not commit.
                                    if step > 5 && (thread + life) % 3 == 0 {
                                        note(seen, &consumer.poll(Duration::ZERO).unwrap());
                                        break;
                                    }
                                }
                                drop(consumer);
                            }
                        })
                    })
                    .collect();
                // Time flies: whoever is between two polls may be given up.
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        broker.clock.advance(Duration::from_secs(301));
                        broker.maintain().unwrap();
                        thread::yield_now();
                    }
                });
                scope.spawn(|| produce_all(&broker));
                reading.into_iter().for_each(|thread| thread.join().unwrap());
                done.store(true, Ordering::SeqCst);
            });
            assert_eq!(missing(&seen), 0);
            for partition in broker.describe_group("g").unwrap().partitions {
                let committed = partition.committed.map_or(0, |committed| committed.offset.get());
                assert!(committed <= RECORDS / u64::from(PARTITIONS));
            }
        }
    });
}

/// A thousand groups on one topic, and a hundred consumers that sleep in one: each record wakes who reads its partition.
#[test]
fn a_thousand_groups_read_one_topic() {
    finishes("many groups", || {
        let mut broker = TestBroker::new().with_topic("t", 1);
        broker.produce_n("t", 0, 10);
        for number in 0..1_000 {
            let group = format!("group {number}");
            let mut consumer =
                broker.consumer().group(group).offset_reset(OffsetReset::Earliest).subscribe(["t"]).unwrap();
            assert_eq!(consumer.poll(Duration::ZERO).unwrap().len(), 10);
            consumer.commit_async(|outcome| outcome.unwrap()).unwrap();
        }
        broker.producer().flush().unwrap();
        assert_eq!(broker.groups().unwrap().len(), 1_000);
        broker.reopen();
        let groups = broker.groups().unwrap();
        assert_eq!(groups.len(), 1_000);
        for group in groups {
            let description = broker.describe_group(group.name.as_str()).unwrap();
            assert_eq!((description.state, description.partitions[0].lag), (GroupState::Empty, Some(0)));
        }
    });
}

/// A member that sleeps in `poll` is woken when partitions become its own.
#[test]
fn a_sleeping_member_takes_over_at_once() {
    finishes("taking over", || {
        let broker = TestBroker::new().with_topic("t", 1);
        broker.produce_n("t", 0, 3);
        let subscribe = || broker.consumer().group("g").offset_reset(OffsetReset::Earliest).subscribe(["t"]).unwrap();
        let mut first = subscribe();
        assert_eq!(first.poll(Duration::ZERO).unwrap().len(), 3);
        let mut second = subscribe();
        assert!(second.poll(Duration::ZERO).unwrap().is_empty());
        thread::scope(|scope| {
            let taking_over = scope.spawn(move || second.poll(Duration::MAX).unwrap().len());
            drop(first);
            assert_eq!(taking_over.join().unwrap(), 3);
        });
    });
}
