//! Power cuts. Goal: after any crash the broker shows the state after some prefix of the acknowledged history, and that
//! prefix contains everything acknowledged as durable; a change that was under way is there whole or not at all.
//!
//! A workload runs on a simulated disk, and after each acknowledged step the number of disk operations and the state of
//! the twin are noted. Then power fails before every single operation, and what the disk may then hold is opened. Some of
//! these openings are themselves cut at every operation.
//!
//! `BROOKLET_TEST_SCALE` multiplies the number of images (1 looks at a choice of them). `BROOKLET_TEST_SEED` changes the
//! choice; a failure prints the seed, and the words that name the image.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use brooklet::{Broker, Builder, Durability, Error, ManualClock};

use crate::model::{Model, Record, Send, Step, compression_types};
use crate::sim_disk::{Fault, Keep, Op, Repeat, SimDisk};

pub(crate) const PATH: &str = "/d/app.brooklet";

pub(crate) const BUFFERED: Durability = Durability::Buffered { flush_interval: Duration::from_secs(3_600) };

/// What the clock says all the time.
const NOW_MS: i64 = 1_000_000;

/// Everything is cleaned.
pub(crate) const CLEAN: Step = Step::Clean { now_ms: NOW_MS };

/// A number from the environment.
pub(crate) fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How much more than in a quick run is to be done.
pub(crate) fn scale() -> usize {
    usize::try_from(from_env("BROOKLET_TEST_SCALE", 1)).unwrap_or(1).max(1)
}

fn seed() -> u64 {
    from_env("BROOKLET_TEST_SEED", 1)
}

/// Sizes of a broker, small so that everything happens often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Knobs {
    pub(crate) durability: Durability,
    pub(crate) buffer_memory: usize,
    pub(crate) checkpoint_bytes: usize,
    pub(crate) vacuum_at_close: Option<f64>,
}

impl Knobs {
    pub(crate) const TINY: Knobs =
        Knobs { durability: Durability::Sync, buffer_memory: 4 << 10, checkpoint_bytes: 512, vacuum_at_close: None };

    pub(crate) fn builder(self, disk: &SimDisk) -> Builder {
        Broker::builder()
            .disk(Arc::new(disk.clone()))
            .background(false)
            .clock(ManualClock::new(NOW_MS))
            .clean_step(1)
            .vacuum_at_close(self.vacuum_at_close)
            .clean_interval(None)
            .durability(self.durability)
            .buffer_memory(self.buffer_memory)
            .checkpoint_bytes(self.checkpoint_bytes)
            .cache_size(64 << 10)
    }

    pub(crate) fn open(self, disk: &SimDisk) -> Result<Broker, Error> {
        self.builder(disk).open(PATH)
    }
}

/// `count` records for partitions `0..partitions` in turn, each with a value that no other one has.
pub(crate) fn sends(first: usize, count: usize, name: &'static str, partitions: u32, size: usize) -> Vec<Send> {
    let send = |i: usize| {
        let mut value = format!("{name} {i} ").into_bytes();
        value.resize(value.len().max(size), b'.');
        let partition = u32::try_from(i).unwrap_or(0) % partitions;
        Send { name, partition, record: Record::of_value(1_000 + i64::try_from(i).unwrap_or(0), value) }
    };
    (first..first + count).map(send).collect()
}

/// An acknowledged step.
struct Point {
    /// So many disk operations had been done.
    at: usize,
    state: Model,
    durable: bool,
    /// The states that a crash during the step may also leave.
    between: Vec<Model>,
}

/// A workload that ran to its end.
struct Recording {
    disk: SimDisk,
    knobs: Knobs,
    points: Vec<Point>,
}

impl Recording {
    /// Runs a workload on a new disk; opening and closing are part of it.
    fn of(knobs: Knobs, steps: &[Step]) -> Self {
        let disk = SimDisk::new();
        let start = Point { at: 0, state: Model::default(), durable: true, between: Vec::new() };
        let mut recording = Recording { disk, knobs, points: vec![start] };
        recording.run(steps);
        recording
    }

    fn run(&mut self, steps: &[Step]) {
        let mut broker = self.knobs.open(&self.disk).unwrap();
        let mut state = Model::default();
        self.note(&state, true, Vec::new());
        for step in steps {
            let between = states_within(&state, step);
            let id = step.run(&broker).unwrap_or_else(|error| panic!("{step:?}: {error}"));
            if matches!(step, Step::Reopen) {
                broker.close().unwrap();
                // The simulated lock goes with the handle.
                drop(broker);
                broker = self.knobs.open(&self.disk).unwrap();
            }
            let durable = self.knobs.durability == Durability::Sync || step.makes_durable(&state);
            state.apply(step, id);
            self.note(&state, durable, between);
        }
        assert_eq!(Model::observe(&broker).unwrap(), state);
        broker.close().unwrap();
        self.note(&state, true, Vec::new());
    }

    fn note(&mut self, state: &Model, durable: bool, between: Vec<Model>) {
        self.points.push(Point { at: self.disk.operations(), state: state.clone(), durable, between });
    }

    /// The states that a crash at this point may leave: from the last durable one to the one under way.
    fn allowed(&self, at: usize) -> Vec<&Model> {
        let done = self.points.iter().rposition(|point| point.at <= at).unwrap_or(0);
        let floor = self.points[..=done].iter().rposition(|point| point.durable).unwrap_or(0);
        let later = self.points.iter().take(done + 2).skip(floor + 1);
        let later = later.flat_map(|point| point.between.iter().chain([&point.state]));
        [&self.points[floor].state].into_iter().chain(later).collect()
    }

    /// Cuts the power at these points, looks at `images` of each, and at `nested` second crashes for one image each.
    fn crash_at(&self, points: Range<usize>, images: usize, nested: usize) -> Tally {
        let mut tally = Tally::default();
        for at in points {
            let allowed = self.allowed(at);
            for (label, image) in choice(self.disk.images(at, seed() + at as u64).collect(), images, at) {
                let label = format!("seed={} {label}", seed());
                let doomed = image.after_kill();
                let seen = recover(self.knobs, &image, &allowed, &label);
                tally.images += 1;
                if nested > 0 && (at + tally.images).is_multiple_of(13) {
                    tally.nested += crash_again(self.knobs, &doomed, &seen, &allowed, nested, &label);
                }
            }
            tally.points += 1;
        }
        tally
    }
}

/// The states that a crash during a step may leave beside the one before and the one after: a group that finds no room
/// is committed in parts, and a clean goes from partition to partition.
pub(crate) fn states_within(before: &Model, step: &Step) -> Vec<Model> {
    let sends = match step {
        Step::Send(sends) => sends,
        Step::SendAndCommit { send, .. } => {
            let mut state = before.clone();
            state.apply(&Step::Send(vec![send.clone()]), None);
            return vec![state];
        }
        Step::Clean { now_ms } => {
            let mut state = before.clone();
            let cleaned = before.expired(*now_ms).into_iter().map(|partition| {
                state.empty(&partition);
                state.clone()
            });
            return cleaned.collect();
        }
        _ => return Vec::new(),
    };
    let part = |count| {
        let mut state = before.clone();
        state.apply(&Step::Send(sends[..count].to_vec()), None);
        state
    };
    (1..sends.len()).map(part).collect()
}

/// How much was looked at.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    points: usize,
    images: usize,
    nested: usize,
}

/// So many of a list, spread over it, other ones at each point.
fn choice<T>(all: Vec<T>, count: usize, turn: usize) -> Vec<T> {
    let stride = all.len().div_ceil(count.max(1)).max(1);
    all.into_iter().skip(turn % stride).step_by(stride).collect()
}

pub(crate) fn assert_healthy(broker: &Broker, label: &str) {
    let report = broker.check().unwrap_or_else(|error| panic!("{label}: {error}"));
    assert!(report.is_healthy(), "{label}: {report}");
}

fn assert_allowed(seen: &Model, allowed: &[&Model], label: &str) {
    let known = allowed.iter().any(|state| state.allows(seen));
    assert!(known, "{label}: not a state of the history\n seen: {seen:?}\n allowed: {allowed:#?}");
}

/// Opens what a crash left, compares, checks, and goes on with it. Gives what was seen first.
fn recover(knobs: Knobs, image: &SimDisk, allowed: &[&Model], label: &str) -> Model {
    let broker = knobs.open(image).unwrap_or_else(|error| panic!("{label}: can't open: {error}"));
    let seen = Model::observe(&broker).unwrap_or_else(|error| panic!("{label}: can't read: {error}"));
    assert_allowed(&seen, allowed, label);
    assert!(seen.commits_beyond_the_end().is_empty(), "{label}: {seen:?}");
    assert_healthy(&broker, label);
    go_on(knobs, image, broker, &seen, label);
    seen
}

/// Appending goes on after a recovery, and survives a kill right afterwards.
fn go_on(knobs: Knobs, image: &SimDisk, broker: Broker, seen: &Model, label: &str) {
    let mut expected = seen.clone();
    // What a deletion has left over is freed by the first clean.
    let mut steps = vec![CLEAN, Step::CreateTopic { name: "later", partitions: 1 }];
    steps.push(Step::Send(sends(0, 1, "later", 1, 10)));
    if let Some(log) = seen.log("a", 0) {
        steps.push(Step::Send(sends(900_000 + log.records.len(), 1, "a", 1, 10)));
    }
    for step in steps {
        let id = step.run(&broker).unwrap_or_else(|error| panic!("{label}: {step:?} after recovery: {error}"));
        expected.apply(&step, id);
    }
    let killed = image.after_kill();
    drop(broker);
    let broker = knobs.open(&killed).unwrap_or_else(|error| panic!("{label}: can't open again: {error}"));
    assert_eq!(Model::observe(&broker).unwrap(), expected, "{label}: appended after recovery, then killed");
}

/// Opens an image and cuts the power at operations of that. Nothing that the first opening showed may be missing once
/// it has returned.
fn crash_again(
    knobs: Knobs,
    doomed: &SimDisk,
    first_seen: &Model,
    allowed: &[&Model],
    points: usize,
    label: &str,
) -> usize {
    let broker = knobs.open(doomed).unwrap_or_else(|error| panic!("{label}: can't open: {error}"));
    let opened = doomed.operations();
    let mut crashes = 0;
    for at in choice((0..=opened).collect(), points, opened) {
        for (words, image) in choice(doomed.images(at, seed() ^ at as u64).collect(), 2, at) {
            let label = format!("{label}; within the recovery: {words}");
            let broker = knobs.open(&image).unwrap_or_else(|error| panic!("{label}: can't open: {error}"));
            let seen = Model::observe(&broker).unwrap_or_else(|error| panic!("{label}: can't read: {error}"));
            if at == opened {
                assert_eq!(&seen, first_seen, "{label}: something that was seen is gone");
            }
            assert_allowed(&seen, allowed, &label);
            crashes += 1;
        }
    }
    drop(broker);
    crashes
}

/// A workload crashed at each of its operations.
fn crash_everywhere(knobs: Knobs, steps: &[Step], images: usize) {
    let recording = Recording::of(knobs, steps);
    let end = recording.disk.operations();
    let tally = recording.crash_at(0..end + 1, images * scale(), 12 * scale());
    eprintln!("{tally:?}");
    assert_eq!(tally.points, end + 1);
    assert!(tally.images > end && tally.nested > 0, "{tally:?}");
}

fn crash_everywhere_in_both_modes(knobs: Knobs, steps: &[Step], images: usize) {
    crash_everywhere(Knobs { durability: Durability::Sync, ..knobs }, steps, images);
    crash_everywhere(Knobs { durability: BUFFERED, ..knobs }, steps, images);
}

pub(crate) fn create(name: &'static str, partitions: u32) -> Step {
    Step::CreateTopic { name, partitions }
}

/// The last way of compressing that this build has.
pub(crate) fn compress(name: &'static str) -> Step {
    Step::Compress { name, compression_type: compression_types().pop().unwrap_or_default() }
}

/// One record to partition 0.
pub(crate) fn send_one(number: usize) -> Step {
    Step::Send(sends(number * 2, 1, "a", 2, 60))
}

#[test]
fn sends_of_every_kind() {
    let steps = [
        create("a", 2),
        send_one(0),
        Step::Send(sends(10, 5, "a", 2, 40)),
        Step::SendAll(sends(20, 6, "a", 2, 30)),
        send_one(15),
        Step::Sync,
        Step::SendAll(sends(40, 3, "a", 2, 100)),
    ];
    crash_everywhere_in_both_modes(Knobs::TINY, &steps, 4);
}

#[test]
fn checkpoints_and_reopening() {
    let steps = [
        create("a", 2),
        compress("a"),
        Step::Send(sends(0, 6, "a", 2, 120)),
        Step::Maintain,
        send_one(10),
        Step::Reopen,
        Step::Send(sends(30, 3, "a", 2, 400)),
        Step::Maintain,
        send_one(20),
    ];
    crash_everywhere_in_both_modes(Knobs::TINY, &steps, 3);
}

#[test]
fn topics_come_change_and_go() {
    let steps = [
        create("a", 2),
        Step::Send(sends(0, 4, "a", 2, 50)),
        Step::CreatePartitions { name: "a", total: 3 },
        Step::Send(sends(10, 3, "a", 3, 50)),
        Step::Alter { name: "a", max_message_bytes: 2_000 },
        create("b", 1),
        Step::SendAll([sends(0, 1, "b", 1, 50), sends(20, 2, "a", 3, 50)].concat()),
        Step::DeleteTopic { name: "a" },
        Step::Send(sends(10, 1, "b", 1, 50)),
        create("a", 2),
        send_one(30),
    ];
    crash_everywhere_in_both_modes(Knobs::TINY, &steps, 2);
}

#[test]
fn records_are_deleted() {
    let steps = [
        create("a", 2),
        Step::Send(sends(0, 8, "a", 2, 200)),
        Step::Maintain,
        Step::DeleteRecords { name: "a", partition: 0, before: Some(2) },
        Step::Send(sends(20, 4, "a", 2, 50)),
        Step::DeleteRecords { name: "a", partition: 0, before: None },
        Step::DeleteRecords { name: "a", partition: 1, before: Some(5) },
        send_one(40),
        Step::Reopen,
        send_one(41),
    ];
    crash_everywhere_in_both_modes(Knobs::TINY, &steps, 2);
}

/// Chunks are freed one by one, each in an update of its own, so that deletions are cut in many places.
#[test]
fn records_expire_and_their_space_is_freed_in_steps() {
    let steps = [
        create("a", 2),
        create("b", 1),
        compress("b"),
        compress("a"),
        Step::Expire { name: "a", age_ms: 10 },
        Step::Send(sends(0, 8, "a", 2, 200)),
        Step::Send(sends(0, 2, "b", 1, 200)),
        Step::Maintain,
        Step::Send(sends(10, 2, "a", 2, 50)),
        CLEAN,
        Step::Send(sends(20, 4, "a", 2, 200)),
        Step::Maintain,
        Step::DeleteTopic { name: "b" },
        Step::DeleteRecords { name: "a", partition: 1, before: Some(6) },
        CLEAN,
        send_one(40),
    ];
    crash_everywhere_in_both_modes(Knobs::TINY, &steps, 2);
}

/// Commits in frames of their own and beside records, over checkpoints, deletions and sessions. A committed offset is never
/// beyond the end: what it covers was journaled before it, or with it.
#[test]
fn groups_commit() {
    let commit = |group, partition, offset| Step::Commit { group, name: "a", partition, offset };
    let with_record =
        |group, number: usize| Step::SendAndCommit { group, send: sends(number * 2, 1, "a", 2, 60).swap_remove(0) };
    let steps = [
        create("a", 2),
        Step::Send(sends(0, 4, "a", 2, 50)),
        commit("g", 0, 2),
        with_record("g", 10),
        Step::Maintain,
        commit("h", 1, 1),
        commit("g", 0, 1),
        with_record("h", 11),
        Step::DeleteGroup { group: "g" },
        commit("g", 1, 2),
        Step::Reopen,
        with_record("g", 12),
        Step::Maintain,
        create("b", 1),
        Step::DeleteTopic { name: "a" },
        Step::SendAndCommit { group: "g", send: sends(90, 1, "b", 1, 60).swap_remove(0) },
    ];
    crash_everywhere_in_both_modes(Knobs::TINY, &steps, 2);
}

#[test]
fn space_is_given_back() {
    let knobs =
        Knobs { buffer_memory: 40 << 10, checkpoint_bytes: 30 << 10, vacuum_at_close: Some(0.0), ..Knobs::TINY };
    let steps = [
        create("a", 2),
        Step::Expire { name: "a", age_ms: 10 },
        Step::Send(sends(0, 20, "a", 2, 1_500)),
        create("b", 1),
        Step::Send(sends(0, 3, "b", 1, 600)),
        CLEAN,
        Step::Send(sends(30, 2, "a", 2, 200)),
        Step::Vacuum,
        send_one(40),
        Step::Reopen,
        send_one(41),
    ];
    crash_everywhere_in_both_modes(knobs, &steps, 1);
}

#[test]
fn a_group_that_finds_no_room_is_committed_in_parts() {
    let knobs = Knobs { buffer_memory: 1 << 10, ..Knobs::TINY };
    let steps = [create("a", 2), Step::Send(sends(0, 12, "a", 2, 300)), Step::Reopen, send_one(40)];
    crash_everywhere_in_both_modes(knobs, &steps, 2);
}

/// Three laps, with frames that go over the ring's end.
#[test]
fn the_journal_goes_round() {
    let knobs = Knobs { buffer_memory: 40 << 10, checkpoint_bytes: 30 << 10, ..Knobs::TINY };
    let mut steps = vec![create("a", 2)];
    for round in 0..12 {
        steps.push(Step::Send(sends(round * 10, 2, "a", 2, 13_001)));
        if round % 2 == 1 {
            steps.push(Step::DeleteRecords { name: "a", partition: 0, before: None });
        }
    }
    crash_everywhere_in_both_modes(knobs, &steps, 2);
}

/// The journal's file grows beyond what it begins with, and the store says so: a file that is shorter then would be refused.
#[test]
fn the_journal_grows() {
    let knobs = Knobs { buffer_memory: 600 << 10, checkpoint_bytes: 600 << 10, ..Knobs::TINY };
    let mut steps = vec![create("a", 2)];
    for round in 0..3 {
        steps.push(Step::Send(sends(round * 10, 1, "a", 2, 250_000)));
    }
    crash_everywhere_in_both_modes(knobs, &steps, 2);
}

/// The small alphabet of the exhaustive workloads.
fn alphabet() -> Vec<Step> {
    vec![
        send_one(0),
        Step::SendAll(sends(10, 4, "a", 2, 300)),
        Step::Maintain,
        Step::DeleteRecords { name: "a", partition: 0, before: None },
        Step::DeleteTopic { name: "a" },
        create("a", 2),
        Step::CreatePartitions { name: "a", total: 3 },
        Step::Commit { group: "g", name: "a", partition: 0, offset: 0 },
        Step::Reopen,
    ]
}

/// Whether a workload can run: a topic is there when it is used, and not when it is created.
fn makes_sense(steps: &[&Step]) -> bool {
    let (mut exists, mut partitions) = (true, 2);
    for step in steps {
        match step {
            Step::CreateTopic { .. } if exists => return false,
            Step::CreateTopic { .. } => (exists, partitions) = (true, 2),
            Step::Maintain | Step::Reopen => {}
            _ if !exists => return false,
            Step::CreatePartitions { .. } if partitions == 3 => return false,
            Step::CreatePartitions { .. } => partitions = 3,
            Step::DeleteTopic { .. } => exists = false,
            _ => {}
        }
    }
    true
}

/// All workloads of three steps; the shorter ones are what a crash in the third one leaves.
fn all_short_workloads() -> Vec<Vec<Step>> {
    let alphabet = alphabet();
    let mut workloads = Vec::new();
    for first in &alphabet {
        for second in &alphabet {
            for third in &alphabet {
                if makes_sense(&[first, second, third]) {
                    let numbered = [first, second, third].into_iter().enumerate().map(|(i, step)| renumbered(step, i));
                    workloads.push([create("a", 2)].into_iter().chain(numbered).collect());
                }
            }
        }
    }
    workloads
}

/// The same step with values of its own.
fn renumbered(step: &Step, number: usize) -> Step {
    let tell_apart = |sends: &[Send]| {
        let mut sends = sends.to_vec();
        sends.iter_mut().for_each(|send| send.record.timestamp += 100_000 * i64::try_from(number).unwrap_or(0));
        sends
    };
    match step {
        Step::Send(sends) => Step::Send(tell_apart(sends)),
        Step::SendAll(sends) => Step::SendAll(tell_apart(sends)),
        other => other.clone(),
    }
}

/// Most crash bugs of file systems and databases show in workloads of up to three operations, so all of them run.
fn crash_short_workloads(durability: Durability) {
    let workloads = all_short_workloads();
    assert!(workloads.len() > 100, "{}", workloads.len());
    let mut total = Tally::default();
    for (number, steps) in workloads.iter().enumerate() {
        let recording = Recording::of(Knobs { durability, ..Knobs::TINY }, steps);
        // What comes before the third step is the same in many workloads, so a few of these points are enough.
        let third = recording.points[4].at;
        let end = recording.disk.operations();
        let mut points: Vec<usize> = (third..end + 1).collect();
        points.extend((0..third).skip(number % 37).step_by(37));
        let turn = number % 4;
        for at in points.into_iter().filter(|at| scale() > 3 || at % 4 == turn) {
            let tally = recording.crash_at(at..at + 1, scale(), 0);
            total.images += tally.images;
            total.points += tally.points;
        }
    }
    eprintln!("{total:?}");
    assert!(total.points > 1_000, "{total:?}");
}

#[test]
fn all_workloads_of_three_steps_in_sync_mode() {
    crash_short_workloads(Durability::Sync);
}

#[test]
fn all_workloads_of_three_steps_in_buffered_mode() {
    crash_short_workloads(BUFFERED);
}

/// A sync fails, the application drops the broker, opens the file again in the same boot, reads, writes, and then power
/// fails: nothing that it saw may vanish, although memory showed more than the disk had. Power fails, and the process is
/// killed, during that opening as well: at every eighth call, and at all of them when the scale is above 3.
#[test]
fn nothing_seen_after_a_failed_sync_vanishes() {
    let steps = [
        create("a", 2),
        Step::Send(sends(0, 4, "a", 2, 100)),
        Step::Maintain,
        send_one(10),
        Step::DeleteRecords { name: "a", partition: 0, before: Some(1) },
        Step::Send(sends(30, 3, "a", 2, 300)),
        Step::Maintain,
        send_one(20),
        Step::Reopen,
        send_one(25),
    ];
    fail_every_sync(Knobs::TINY, &steps);
}

/// The same while the file gets longer and shorter: the root changes, chunks and parts move, redb's pages are compacted.
#[test]
fn nothing_seen_after_a_failed_sync_of_a_vacuum_vanishes() {
    let knobs =
        Knobs { buffer_memory: 40 << 10, checkpoint_bytes: 30 << 10, vacuum_at_close: Some(0.0), ..Knobs::TINY };
    let steps = [
        create("a", 2),
        Step::Expire { name: "a", age_ms: 10 },
        Step::Send(sends(0, 20, "a", 2, 1_500)),
        create("b", 1),
        Step::Send(sends(0, 3, "b", 1, 600)),
        CLEAN,
        Step::Send(sends(30, 2, "a", 2, 200)),
        Step::Vacuum,
        send_one(40),
        Step::Reopen,
        send_one(41),
    ];
    fail_every_sync(knobs, &steps);
}

/// Fails each sync of a workload in both modes.
fn fail_every_sync(knobs: Knobs, steps: &[Step]) {
    let mut runs = 0;
    for durability in [Durability::Sync, BUFFERED] {
        let knobs = Knobs { durability, ..knobs };
        let syncs = {
            let recording = Recording::of(knobs, steps);
            recording.disk.calls(Op::Sync, "")
        };
        for nth in 0..syncs {
            let seeds = 2 * scale() as u64;
            for failed_sync in [None].into_iter().chain((0..seeds).map(|i| Some(seed() + i + 31 * nth as u64))) {
                let memories = match failed_sync {
                    None => vec![Memory::Stays, Memory::Evicted(None)],
                    Some(seed) if seed % 2 == 0 => vec![Memory::Stays],
                    seed => vec![Memory::Evicted(seed)],
                };
                for memory in memories {
                    fail_sync_then_lose_power(knobs, steps, nth, failed_sync, memory);
                    runs += 1;
                }
            }
        }
    }
    eprintln!("{runs} runs");
    assert!(runs > 100, "{runs}");
}

/// What memory shows after a failed sync, of what that sync did not write.
#[derive(Debug, Clone, Copy)]
enum Memory {
    /// All of it.
    Stays,
    /// Nothing of it; with a seed, a random half.
    Evicted(Option<u64>),
}

fn fail_sync_then_lose_power(knobs: Knobs, steps: &[Step], nth: usize, failed_sync: Option<u64>, memory: Memory) {
    let label = format!("seed={} point=sync {nth} image={failed_sync:?} {memory:?} {:?}", seed(), knobs.durability);
    let disk = SimDisk::new();
    disk.set_failed_sync_seed(failed_sync);
    disk.fail(Fault {
        operation: Op::Sync,
        path_contains: None,
        nth,
        kind: io::ErrorKind::Other,
        repeat: Repeat::Once,
    });
    let states = run_until_failure(knobs, &disk, steps);
    disk.clear_faults();
    if let Memory::Evicted(seed) = memory {
        disk.evict(seed);
    }
    let failed_at = disk.operations();
    let broker = knobs.open(&disk).unwrap_or_else(|error| panic!("{label}: can't open: {error}"));
    let mut seen = Model::observe(&broker).unwrap();
    let allowed = states.iter().collect::<Vec<_>>();
    assert_allowed(&seen, &allowed, &label);
    let keeps = [Keep::None, Keep::All, Keep::Random(1)];
    let turn = nth + failed_sync.map_or(0, |seed| (seed % 8) as usize);
    for at in (failed_at..disk.operations()).filter(|at| scale() > 3 || at % 8 == turn % 8) {
        let label = format!("{label}, opening cut at {at}");
        for keep in keeps {
            let opened = knobs.open(&disk.image(at, keep)).unwrap_or_else(|e| panic!("{label}, {keep:?}: {e}"));
            assert_allowed(&Model::observe(&opened).unwrap(), &allowed, &label);
        }
        let killed = disk.killed_at(at);
        let opened = knobs.open(&killed).unwrap_or_else(|e| panic!("{label}, killed: {e}"));
        let seen = Model::observe(&opened).unwrap();
        assert_allowed(&seen, &allowed, &label);
        let opened = knobs.open(&killed.image(killed.operations(), Keep::None)).unwrap();
        assert_eq!(Model::observe(&opened).unwrap(), seen, "{label}: what was seen after it was killed is gone");
    }
    for keep in keeps {
        let opened = knobs.open(&disk.image(disk.operations(), keep)).unwrap_or_else(|e| panic!("{label}: {e}"));
        assert_eq!(Model::observe(&opened).unwrap(), seen, "{label}: what was seen after reopening is gone");
    }
    let reopened_at = disk.operations();
    let mut states = vec![seen.clone()];
    for step in [create("later", 1), Step::Send(sends(0, 3, "later", 1, 50)), Step::Vacuum, Step::Sync] {
        states.extend(states_within(&seen, &step));
        let id = step.run(&broker).unwrap_or_else(|error| panic!("{label}: {step:?} after reopening: {error}"));
        seen.apply(&step, id);
        states.push(seen.clone());
    }
    let allowed = states.iter().collect::<Vec<_>>();
    for at in (reopened_at..disk.operations()).filter(|at| scale() > 3 || at % 8 == turn % 8) {
        let label = format!("{label}, power cut at {at}");
        let random = at as u64;
        for keep in [Keep::None, Keep::Torn(random), Keep::Random(random)] {
            let opened = knobs.open(&disk.image(at, keep)).unwrap_or_else(|e| panic!("{label}, {keep:?}: {e}"));
            assert_allowed(&Model::observe(&opened).unwrap(), &allowed, &label);
        }
    }
    for keep in keeps {
        let opened = knobs.open(&disk.image(disk.operations(), keep)).unwrap_or_else(|e| panic!("{label}: {e}"));
        assert_eq!(Model::observe(&opened).unwrap(), seen, "{label}: what was acknowledged after reopening is gone");
        assert_healthy(&opened, &label);
    }
}

/// Runs steps until one fails, and drops the broker. Gives the states that may be on the disk then: in `Buffered` mode a
/// failed sync may take what was acknowledged since the last one.
fn run_until_failure(knobs: Knobs, disk: &SimDisk, steps: &[Step]) -> Vec<Model> {
    let mut state = Model::default();
    let mut states = vec![state.clone()];
    let Ok(mut broker) = knobs.open(disk) else { return states };
    for step in steps {
        states.extend(states_within(&state, step));
        let done = match step {
            Step::Reopen => {
                let closed = broker.close();
                drop(broker);
                match closed.and_then(|()| knobs.open(disk)) {
                    Ok(opened) => broker = opened,
                    Err(_) => return states,
                }
                Ok(None)
            }
            step => step.run(&broker),
        };
        let failed = done.is_err();
        let durable = knobs.durability == Durability::Sync || step.makes_durable(&state);
        state.apply(step, done.ok().flatten());
        if !failed && durable {
            states.clear();
        }
        states.push(state.clone());
        if failed {
            return states;
        }
    }
    let _ = broker.close();
    states
}
