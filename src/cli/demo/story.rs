//! What happens in the demonstration, in order.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use brooklet::{Broker, NewTopic, OffsetReset};
use indicatif::{HumanBytes, HumanCount};
use parking_lot::Mutex;

use super::child::CONSUMERS;
use super::event::{PARTITIONS, THREADS, TOPIC};
use super::ledger::{Ledger, Places};
use super::report::{Place, Report};
use crate::cli::failure::Failure;
use crate::cli::progress::{Progress, per_second};
use crate::cli::session::{on_signal, signal_code};

/// About what a key and a value take.
const EVENT_BYTES: usize = 110;

/// Tells the story. Its files are kept when asked for, and when something is wrong.
pub(super) fn tell(events: u64, keep: bool) -> Result<(), Failure> {
    let stage = Arc::new(Stage::build(keep)?);
    let cleared = Arc::clone(&stage);
    on_signal(move |signal| cleared.clear_and_exit(signal))?;
    match play(&stage, events) {
        Ok(()) => stage.clear(),
        // Whoever closed the output does not want the files either.
        Err(Failure::OutputClosed) => stage.clear().and(Err(Failure::OutputClosed)),
        Err(Failure::Failed(reason)) => {
            // A child may still run when the story broke off.
            stage.end_child();
            Err(Failure::failed(format!("{reason}: the files are kept in {}", stage.directory.display())))
        }
        Err(failure) => Err(failure),
    }
}

fn play(stage: &Stage, events: u64) -> Result<(), Failure> {
    say(&format!("The files are in {}", stage.directory.display()))?;
    prepare(&stage.store)?;
    let acknowledged = write_and_kill(stage, events)?;
    let lengths = reopen_and_prove(stage, &acknowledged)?;
    finish(stage, events, acknowledged, &lengths)
}

/// Creates the file and its topic.
fn prepare(store: &Path) -> Result<(), Failure> {
    let broker = Broker::builder().create_new().open(store)?;
    broker.create_topic(NewTopic::new(TOPIC, PARTITIONS))?;
    Ok(broker.close()?)
}

/// Starts a child that writes, and kills it in the middle.
fn write_and_kill(stage: &Stage, events: u64) -> Result<Places, Failure> {
    say(&format!(
        "1. Another process writes {} events: {THREADS} threads, {PARTITIONS} partitions, every batch synced to the disk. \
         {CONSUMERS} consumers read along.",
        HumanCount(events)
    ))?;
    let mut witness = Witness::default();
    let begun = Instant::now();
    let from = vec![0; THREADS as usize];
    let mut killed_at = None;
    stage.watch_child(events, &from, Ending::Killed, &mut witness, &mut |acknowledged| {
        if killed_at.is_none() && acknowledged >= events / 2 {
            stage.kill_child();
            killed_at = Some(begun.elapsed());
        }
    })?;
    let Some(time) = killed_at else {
        return Err(Failure::failed("the writing process ended before it was killed"));
    };
    let acknowledged = witness.acknowledged;
    let read: Vec<_> = witness.read.iter().map(|read| HumanCount(*read).to_string()).collect();
    say(&format!(
        "   Killed after {:.1} s, in the middle of its work: {} events were acknowledged ({} per second), and the consumers \
         had read {}.",
        time.as_secs_f64(),
        HumanCount(acknowledged.len()),
        HumanCount(per_second(acknowledged.len(), time)),
        read.join(" and ")
    ))?;
    Ok(acknowledged)
}

/// Opens what the killed process left, and holds it against what it had acknowledged.
fn reopen_and_prove(stage: &Stage, acknowledged: &Places) -> Result<Vec<u64>, Failure> {
    let begun = Instant::now();
    let broker = Broker::builder().open_existing().open(&stage.store)?;
    let reopened = begun.elapsed();
    let ledger = read_everything(&broker)?;
    ledger.prove(acknowledged).map_err(Failure::Failed)?;
    let lengths = ledger.lengths().map_err(Failure::Failed)?;
    broker.close()?;
    say(&format!(
        "2. Reopened in {:.1} ms. All {} acknowledged events are there, each at its offset, in order, exactly once; and {} \
         more that were on their way.",
        reopened.as_secs_f64() * 1_000.0,
        HumanCount(acknowledged.len()),
        HumanCount(ledger.len().saturating_sub(acknowledged.len()))
    ))?;
    Ok(lengths)
}

/// Has the rest written, and everything read twice.
fn finish(stage: &Stage, events: u64, acknowledged: Places, lengths: &[u64]) -> Result<(), Failure> {
    let begun = Instant::now();
    let rest = events.saturating_sub(lengths.iter().sum());
    let mut witness = Witness { acknowledged, ..Witness::default() };
    stage.watch_child(events, lengths, Ending::Closed, &mut witness, &mut |_| ())?;
    let time = begun.elapsed();
    say(&format!(
        "3. A second process wrote the other {} in {:.1} s ({} per second), while its consumers read all {}.",
        HumanCount(rest),
        time.as_secs_f64(),
        HumanCount(per_second(rest, time)),
        HumanCount(events)
    ))?;

    let broker = Broker::builder().open_existing().open(&stage.store)?;
    let begun = Instant::now();
    let ledgers = read_twice(&broker)?;
    let time = begun.elapsed();
    for ledger in &ledgers {
        ledger.prove(&witness.acknowledged).and_then(|()| ledger.prove_complete(events)).map_err(Failure::Failed)?;
    }
    let report = broker.check()?;
    if !report.is_healthy() {
        return Err(Failure::failed(report));
    }
    broker.close()?;
    let read = u64::try_from(ledgers.len()).unwrap_or(u64::MAX).saturating_mul(events);
    say(&format!(
        "4. Two consumers read all {} each in {:.1} s ({} per second together, every byte compared): same count, same \
         checksum, same order. Every checksum in the file is right.",
        HumanCount(events),
        time.as_secs_f64(),
        HumanCount(per_second(read, time))
    ))?;
    let size = fs::metadata(&stage.store).map_err(|error| stage.failed("look at", &error))?.len();
    say(&format!("   The file has {}, {} bytes for each event.", HumanBytes(size), size / events.max(1)))?;
    say("Nothing is missing, nothing came twice.")
}

/// Two consumers, independent of each other, read everything at the same time.
fn read_twice(broker: &Broker) -> Result<Vec<Ledger>, Failure> {
    thread::scope(|scope| {
        let readers: Vec<_> = (0..CONSUMERS).map(|_| scope.spawn(|| read_everything(broker))).collect();
        let join = |reader: thread::ScopedJoinHandle<'_, _>| {
            reader.join().unwrap_or_else(|_| Err(Failure::failed("a consumer's thread panicked")))
        };
        readers.into_iter().map(join).collect()
    })
}

fn read_everything(broker: &Broker) -> Result<Ledger, Failure> {
    let partitions = (0..PARTITIONS).map(|partition| (TOPIC, partition));
    let mut consumer =
        broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(5_000).assign(partitions)?;
    let mut ledger = Ledger::default();
    loop {
        let records = consumer.poll(Duration::ZERO)?;
        if records.is_empty() {
            return Ok(ledger);
        }
        for record in &records {
            let place = Place { partition: record.partition(), offset: record.offset().get() };
            ledger.take(place, record.key(), record.value()).map_err(Failure::Failed)?;
        }
    }
}

/// What the parent knows from the child's reports.
#[derive(Debug, Default)]
struct Witness {
    acknowledged: Places,
    read: [u64; CONSUMERS],
}

impl Witness {
    fn hear(&mut self, report: Report) -> usize {
        match report {
            Report::Acknowledged { first, places } => {
                for (event, place) in (first.sequence..).zip(&places) {
                    self.acknowledged.insert(super::event::Event { sequence: event, ..first }, *place);
                }
                places.len()
            }
            Report::Read { consumer, records } => {
                if let Some(read) = self.read.get_mut(consumer) {
                    *read = records;
                }
                0
            }
        }
    }
}

/// How a child ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Its parent kills it.
    Killed,
    /// It is done and closes the broker.
    Closed,
}

/// The directory, and the child at work in it.
#[derive(Debug)]
struct Stage {
    directory: PathBuf,
    store: PathBuf,
    keep: bool,
    /// Held for good by the thread that ends the process after a signal: nothing more is said then.
    child: Mutex<Option<Child>>,
}

impl Stage {
    fn build(keep: bool) -> Result<Self, Failure> {
        let process = std::process::id();
        for attempt in 0..1_000 {
            let directory = std::env::temp_dir().join(format!("brooklet-demo-{process}-{attempt}"));
            match fs::create_dir(&directory) {
                Ok(()) => {
                    let store = directory.join("demo.brooklet");
                    return Ok(Self { directory, store, keep, child: Mutex::new(None) });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(Failure::failed(format!(
                        "can't create {}: {error}; set TMPDIR to a directory that can be written",
                        directory.display()
                    )));
                }
            }
        }
        Err(Failure::failed(format!("{} is full of old demonstrations: remove them", std::env::temp_dir().display())))
    }

    /// Runs a child until it ends. What it reports is heard, and `heard` is told how many events were acknowledged by now.
    fn watch_child(
        &self,
        events: u64,
        from: &[u64],
        ending: Ending,
        witness: &mut Witness,
        heard: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        let (output, lifeline) = self.start_child(events, from, ending)?;
        let mut progress = Progress::on_terminal();
        let mut output = BufReader::with_capacity(64 << 10, output);
        let mut line = String::new();
        loop {
            line.clear();
            let length = output.read_line(&mut line).map_err(|error| self.failed("hear of a child in", &error))?;
            // A killed child may leave a line without its end: it does not count.
            let Some(whole) = line.strip_suffix('\n').filter(|_| length > 0) else { break };
            let Some(report) = Report::parse(whole) else {
                return Err(Failure::failed("the writing process said something strange"));
            };
            let count = witness.hear(report);
            progress.add(count as u64, count * EVENT_BYTES);
            heard(witness.acknowledged.len());
        }
        progress.clear();
        let status = self.child.lock().take().map(|mut child| child.wait()).transpose();
        drop(lifeline);
        match status.map_err(|error| self.failed("wait for a child in", &error))? {
            Some(status) if ending == Ending::Closed && !status.success() => {
                Err(Failure::failed(format!("the writing process failed ({status})")))
            }
            _ => Ok(()),
        }
    }

    /// The child's output, and what ends it when it is dropped.
    fn start_child(
        &self,
        events: u64,
        from: &[u64],
        ending: Ending,
    ) -> Result<(ChildStdout, Option<ChildStdin>), Failure> {
        let failed = |error| Failure::failed(format!("can't start another process: {error}"));
        let from: Vec<_> = from.iter().map(ToString::to_string).collect();
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("demo-child").arg("--store").arg(&self.store);
        command.args(["--events", &events.to_string(), "--from", &from.join(",")]);
        if ending == Ending::Killed {
            command.arg("--to-be-killed");
        }
        let mut slot = self.child.lock();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let (output, lifeline) = (child.stdout.take(), child.stdin.take());
        *slot = Some(child);
        let output = output.ok_or_else(|| Failure::failed("can't hear the other process"))?;
        Ok((output, lifeline))
    }

    /// SIGKILL: the child has no say in it.
    fn kill_child(&self) {
        if let Some(child) = &mut *self.child.lock() {
            // It fails only when the child is gone, which its output tells.
            let _ = child.kill();
        }
    }

    fn end_child(&self) {
        self.kill_child();
        if let Some(mut child) = self.child.lock().take() {
            let _ = child.wait();
        }
    }

    fn clear(&self) -> Result<(), Failure> {
        self.end_child();
        if self.keep {
            return Ok(());
        }
        fs::remove_dir_all(&self.directory).map_err(|error| self.failed("remove", &error))
    }

    fn clear_and_exit(&self, signal: i32) {
        let mut child = self.child.lock();
        if let Some(child) = &mut *child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if !self.keep {
            let _ = fs::remove_dir_all(&self.directory);
        }
        std::process::exit(signal_code(signal).into());
    }

    fn failed(&self, operation: &str, error: &io::Error) -> Failure {
        Failure::failed(format!("can't {operation} {}: {error}", self.directory.display()))
    }
}

fn say(line: &str) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{line}").map_err(Failure::output)
}
