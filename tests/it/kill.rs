//! Processes that are killed. Goal: what a process was told is acknowledged is there when the file is opened again, at its
//! offset, whatever the durability, and opening works at once.
//!
//! A child (this test binary, started again with one test's name) sends from several threads, reads as a member of a group that
//! commits, and prints what is acknowledged. The parent kills it after a random number of lines, looks at the files, and starts the next child over
//! the same files. Options differ from child to child.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use brooklet::{Broker, Builder, Durability, Error, NewTopic, OffsetReset, Producer, ProducerRecord, TopicPartition};

use crate::crash::{assert_healthy, from_env, scale};
use crate::model::{Choices, Model};
use crate::sim_disk::Random;
use crate::support::PATIENCE;

const CHILD: &str = "BROOKLET_KILL_CHILD";
const ROUND: &str = "BROOKLET_KILL_ROUND";
const TOPIC: &str = "kills";
const PARTITIONS: u32 = 3;
const GROUP: &str = "readers";

/// Options that a round runs with.
struct Round {
    number: u64,
    threads: u64,
    durability: Durability,
    buffer_memory: usize,
    checkpoint_bytes: usize,
    value_size: usize,
    kill_after: u64,
}

impl Round {
    /// The same for parent and child.
    fn of(number: u64) -> Self {
        let mut random = Random::new(number);
        let mut pick = |of: &[usize]| *random.pick(of).unwrap();
        let buffered = pick(&[0, 1]) == 1;
        let flush_interval = Duration::from_millis(pick(&[1, 1_000]) as u64);
        Self {
            number,
            threads: pick(&[1, 2, 3]) as u64,
            durability: if buffered { Durability::Buffered { flush_interval } } else { Durability::Sync },
            buffer_memory: pick(&[16 << 10, 64 << 10, 1 << 20]),
            checkpoint_bytes: pick(&[1 << 10, 16 << 10, 1 << 20]),
            value_size: pick(&[20, 300, 3_000]),
            kill_after: pick(&[1, 5, 20, 60, 150]) as u64,
        }
    }

    fn builder(&self) -> Builder {
        Broker::builder()
            .durability(self.durability)
            .buffer_memory(self.buffer_memory)
            .checkpoint_bytes(self.checkpoint_bytes)
    }
}

/// What the child does; in the parent's run of all tests, nothing.
#[test]
fn child() {
    let (Ok(path), number) = (std::env::var(CHILD), from_env(ROUND, 0)) else { return };
    let round = Round::of(number);
    let broker = round.builder().open(path).unwrap();
    match broker.create_topic(NewTopic::new(TOPIC, PARTITIONS)) {
        Ok(_) | Err(Error::TopicAlreadyExists { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    std::thread::scope(|scope| {
        for thread in 0..round.threads {
            let (producer, round) = (broker.producer(), &round);
            scope.spawn(move || send_for_ever(&producer, round, thread));
        }
        scope.spawn(|| commit_for_ever(&broker));
    });
}

/// Commits whatever it read, and prints what is committed then. Ends when nothing comes any more.
fn commit_for_ever(broker: &Broker) {
    let builder = broker.consumer().group(GROUP).offset_reset(OffsetReset::Earliest).max_poll_records(7);
    let mut consumer = builder.subscribe([TOPIC]).unwrap();
    while !consumer.poll(PATIENCE).unwrap().is_empty() {
        consumer.commit().unwrap();
        let partitions = consumer.assignment();
        let line = |partition: &TopicPartition| {
            format!("commit {} {}\n", partition.partition(), consumer.position(partition).unwrap())
        };
        let lines: String = partitions.iter().map(line).collect();
        std::io::stdout().lock().write_all(lines.as_bytes()).unwrap();
    }
}

/// Sends alone, in groups and together, and prints each acknowledged record.
fn send_for_ever(producer: &Producer, round: &Round, thread: u64) {
    let mut random = Random::new(round.number ^ (thread << 32));
    let mut next = 0;
    // Much more than any round waits for; an orphan ends by itself.
    while next < 20_000 {
        let count = random.pick(&[1, 1, 4]).copied().unwrap_or(1);
        let values: Vec<String> = (next..next + count)
            .map(|i| format!("{}/{thread}/{i}/{}", round.number, ".".repeat(round.value_size)))
            .collect();
        next += count;
        let records = values.iter().map(|value| {
            let partition = u32::try_from(random.below(u64::from(PARTITIONS))).unwrap_or(0);
            ProducerRecord::to(TOPIC).partition(partition).value(value)
        });
        let deliveries = if next % 2 == 0 {
            producer.send_all(records.collect::<Vec<_>>()).unwrap()
        } else {
            records.map(|record| producer.send(record).unwrap()).collect()
        };
        let lines = deliveries.into_iter().zip(&values).map(|(delivery, value)| {
            let metadata = delivery.wait().unwrap();
            format!("ack {} {} {value}\n", metadata.partition(), metadata.offset())
        });
        let lines: String = lines.collect();
        std::io::stdout().lock().write_all(lines.as_bytes()).unwrap();
    }
}

/// What was printed.
#[derive(Default)]
struct Acknowledged {
    /// Values by partition and offset.
    records: BTreeMap<(u32, u64), Vec<u8>>,
    /// What was committed last, by partition.
    commits: BTreeMap<u32, u64>,
}

/// Ends a child if a test ends before it.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a child and kills it; notes what it printed, also what it had printed before it died.
fn run_and_kill(path: &Path, round: &Round, acknowledged: &mut Acknowledged) -> u64 {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .env(ROUND, round.number.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = KillOnDrop(child);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap());
    let (mut line, mut count) = (String::new(), 0);
    loop {
        line.clear();
        lines.read_line(&mut line).unwrap();
        if !line.ends_with('\n') {
            break;
        }
        if let Some((_, rest)) = line.trim_end().split_once("commit ") {
            let (partition, offset) = rest.split_once(' ').unwrap();
            acknowledged.commits.insert(partition.parse().unwrap(), offset.parse().unwrap());
            continue;
        }
        // The test runner prints lines of its own.
        let Some(rest) = line.trim_end().split_once("ack ").map(|(_, rest)| rest) else { continue };
        let mut words = rest.splitn(3, ' ');
        let mut number = || words.next().unwrap().parse::<u64>().unwrap();
        let place = (u32::try_from(number()).unwrap(), number());
        let value = words.next().unwrap().as_bytes().to_vec();
        let before = acknowledged.records.insert(place, value);
        assert!(before.is_none(), "round={}: {place:?} was handed out twice", round.number);
        count += 1;
        if count == round.kill_after {
            child.0.kill().unwrap();
        }
    }
    let mut errors = String::new();
    std::io::Read::read_to_string(&mut child.0.stderr.take().unwrap(), &mut errors).unwrap();
    assert!(count >= round.kill_after, "round={}: the child ended by itself: {errors}", round.number);
    count
}

/// Opens the files and compares. Records that nobody printed may be there: they were on their way.
fn compare(path: &Path, round: &Round, acknowledged: &Acknowledged) -> Duration {
    let label = format!("round={}", round.number);
    let opening = Instant::now();
    let broker = round.builder().open(path).unwrap_or_else(|error| panic!("{label}: {error}"));
    let took = opening.elapsed();
    let seen = Model::observe(&broker).unwrap_or_else(|error| panic!("{label}: {error}"));
    for (&(partition, offset), value) in &acknowledged.records {
        let record = seen.log(TOPIC, partition).and_then(|log| log.get(offset));
        let found = record.and_then(|record| record.value.as_ref());
        assert!(found == Some(value), "{label}: {partition}@{offset} is lost or another record");
    }
    for (&partition, &printed) in &acknowledged.commits {
        let committed = seen.commits.get(&(GROUP.to_owned(), TopicPartition::new(TOPIC, partition)));
        assert!(committed.is_some_and(|offset| *offset >= printed), "{label}: {partition}: {committed:?} < {printed}");
    }
    assert!(seen.commits_beyond_the_end().is_empty(), "{label}: {:?}", seen.commits);
    assert_order(&seen, &label);
    assert_healthy(&broker, &label);
    took
}

/// No record comes twice, and those of one thread are in the order in which it sent them.
fn assert_order(seen: &Model, label: &str) {
    let Some(topic) = seen.topics.get(TOPIC) else { return };
    for log in &topic.partitions {
        let mut last = BTreeMap::new();
        for record in &log.records {
            let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
            let mut numbers = value.split('/').map(|number| number.parse::<u64>().unwrap_or(0));
            let mut number = || numbers.next().unwrap_or(0);
            let (sender, sequence) = ((number(), number()), number());
            let before = last.insert(sender, sequence);
            assert!(before.is_none_or(|before| before < sequence), "{label}: {sender:?} sent {before:?}, {sequence}");
        }
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn what_a_killed_process_acknowledged_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.brooklet");
    let first = from_env("BROOKLET_TEST_SEED", 1) * 1_000_000;
    let rounds = 150 * scale() as u64;
    let mut acknowledged = Acknowledged::default();
    let (mut lines, mut slowest) = (0, Duration::ZERO);
    for number in first..first + rounds {
        let round = Round::of(number);
        lines += run_and_kill(&path, &round, &mut acknowledged);
        if number % 2 == 0 {
            slowest = slowest.max(compare(&path, &round, &acknowledged));
        } else {
            // Looks at a copy, so that the next child is who recovers.
            let copy = tempfile::tempdir().unwrap();
            copy_files(directory.path(), copy.path());
            slowest = slowest.max(compare(&copy.path().join("app.brooklet"), &round, &acknowledged));
        }
    }
    assert!(!acknowledged.commits.is_empty());
    eprintln!("{rounds} kills, {lines} acknowledged records, slowest opening {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "opening took {slowest:?}");
}
