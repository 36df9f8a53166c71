//! Disk calls that fail. Goal: whatever call fails, and whenever, the answer is a typed error; what was visible stays
//! readable; nothing is retried behind the caller's back; and once the disk is well again the file opens with everything
//! acknowledged, and with what was under way whole or not at all.
//!
//! A script that recovers, writes, checkpoints, changes topics, closes and reopens runs once to count its disk calls. Then
//! it runs again for every call, which fails once or from then on.

use std::collections::BTreeMap;
use std::io;

use brooklet::{Broker, Durability, Error, NewTopic, OffsetSpec, ProducerRecord, TopicPartition};

use crate::crash::{
    BUFFERED, CLEAN, Knobs, PATH, assert_healthy, compress, create, scale, send_one, sends, states_within,
};
use crate::model::{Model, Step};
use crate::sim_disk::{Fault, Keep, Op, Repeat, SimDisk};

const JOURNAL: &str = "-journal";

/// A disk that a killed process left, with frames in the journal, and its last states: only the first is surely durable.
fn killed(knobs: Knobs) -> (SimDisk, Vec<Model>) {
    let disk = SimDisk::new();
    let broker = knobs.open(&disk).unwrap();
    let mut states = vec![Model::default()];
    for step in [create("a", 2), Step::Send(sends(0, 6, "a", 2, 150)), Step::Maintain, send_one(10), send_one(11)] {
        let id = step.run(&broker).unwrap();
        let mut state = states.last().cloned().unwrap_or_default();
        let durable = step.makes_durable(&state);
        state.apply(&step, id);
        if durable {
            states.clear();
        }
        states.push(state);
    }
    (disk.after_kill(), states)
}

fn script() -> Vec<Step> {
    vec![
        send_one(20),
        Step::Send(sends(50, 4, "a", 2, 200)),
        Step::Maintain,
        Step::DeleteRecords { name: "a", partition: 0, before: Some(3) },
        create("b", 1),
        Step::SendAll([sends(0, 2, "b", 1, 50), sends(60, 2, "a", 2, 50)].concat()),
        Step::CreatePartitions { name: "a", total: 3 },
        Step::Alter { name: "a", max_message_bytes: 3_000 },
        Step::Sync,
        Step::Reopen,
        Step::Send(sends(70, 3, "a", 3, 300)),
        Step::DeleteTopic { name: "b" },
        send_one(45),
        Step::Expire { name: "a", age_ms: 10 },
        compress("a"),
        CLEAN,
        Step::Vacuum,
        Step::Maintain,
        send_one(46),
    ]
}

/// A run of the script on a disk that fails.
struct Run {
    knobs: Knobs,
    disk: SimDisk,
    fault: Fault,
    /// `None` after an opening that failed.
    broker: Option<Broker>,
    /// What is acknowledged.
    state: Model,
    /// What the disk may hold instead: the step whose outcome is unknown is there as well, or in part.
    instead: Vec<Model>,
    /// What a failed sync may have taken.
    not_durable: Vec<Model>,
    stopped: bool,
    /// What a failed step did can't be read.
    out_of_sight: bool,
    label: String,
}

impl Run {
    fn of(knobs: Knobs, base: &(SimDisk, Vec<Model>), fault: &Fault) -> Self {
        let disk = base.0.after_kill();
        disk.fail(fault.clone());
        let mut run = Run {
            knobs,
            disk,
            fault: fault.clone(),
            broker: None,
            state: base.1.last().cloned().unwrap_or_default(),
            instead: Vec::new(),
            not_durable: base.1.clone(),
            stopped: false,
            out_of_sight: false,
            label: format!("{:?}, {fault:?}", knobs.durability),
        };
        run.open();
        run
    }

    fn open(&mut self) {
        match self.knobs.open(&self.disk) {
            Ok(broker) => {
                self.broker = Some(broker);
                self.not_durable.clear();
            }
            Err(error) => self.assert_typed(&error),
        }
    }

    fn play(&mut self, steps: &[Step]) {
        for step in steps {
            let Some(broker) = self.broker.as_ref().filter(|_| !self.out_of_sight) else { return };
            if matches!(step, Step::Reopen) {
                self.reopen();
                continue;
            }
            if !can_run(&self.state, step) {
                continue;
            }
            let syncs = self.disk.calls(Op::Sync, JOURNAL);
            match step.run(broker) {
                Ok(id) => {
                    assert!(!self.stopped || !step.changes(), "{}: {step:?} went on after a failure", self.label);
                    self.not_durable.push(self.state.clone());
                    let durable = self.knobs.durability == Durability::Sync || step.makes_durable(&self.state);
                    match step {
                        Step::Clean { now_ms } => self.look_at_clean(*now_ms),
                        step => self.state.apply(step, id),
                    }
                    if durable {
                        self.not_durable.clear();
                    }
                }
                Err(error) if self.stopped => {
                    let fatal = matches!(error, Error::ReopenRequired { .. });
                    assert!(fatal, "{}: {step:?} answered {error:?} after the broker had stopped", self.label);
                    assert_eq!(self.disk.calls(Op::Sync, JOURNAL), syncs, "{}: {step:?} synced again", self.label);
                }
                Err(error) => self.fail(step, &error),
            }
        }
    }

    /// A clean that found the disk full when it moved the tail into the store left what was in the tail.
    fn look_at_clean(&mut self, now_ms: i64) {
        let Some(broker) = &self.broker else { return };
        for partition in self.state.expired(now_ms) {
            let start = broker.offset_of(&partition, OffsetSpec::Earliest).unwrap().map_or(0, |offset| offset.get());
            let log = self.state.log_mut(partition.topic(), partition.partition()).unwrap();
            assert!(self.fault.kind == io::ErrorKind::StorageFull || start == log.end(), "{}: {partition}", self.label);
            log.delete_below(start);
        }
    }

    /// The first failure, or one that left the broker working.
    fn fail(&mut self, step: &Step, error: &Error) {
        self.assert_typed(error);
        let mut possible = states_within(&self.state, step);
        let mut after = self.state.clone();
        after.apply(step, None);
        self.stopped = error.is_fatal();
        if self.stopped {
            self.instead = possible.clone();
            // What failed may have reached the file, and the store's file is read again behind a failure.
            if matches!(step, Step::DeleteRecords { .. }) {
                possible.push(after.clone());
            }
            self.instead.push(after);
        } else {
            // A clean reads what it may delete.
            let unread = matches!((step, error), (Step::Clean { .. }, Error::Io { operation: "read", .. }));
            assert!(
                unread || matches!(error, Error::StorageFull { .. }),
                "{}: {step:?} answered {error:?}, but the broker goes on",
                self.label
            );
        }
        possible.push(self.state.clone());
        let broker = self.broker.as_ref().unwrap();
        match Model::observe(broker) {
            Ok(seen) => {
                let known = possible.iter().any(|state| state.allows(&seen));
                assert!(known, "{}: {step:?} failed with {error}, then showed {seen:?}", self.label);
                self.state = seen;
            }
            // What is only in the store can't be read while the store's disk fails.
            Err(error) => {
                self.assert_typed(&error);
                let only_journal = self.fault.path_contains.is_some();
                assert!(!only_journal, "{}: {step:?} failed, then reading failed: {error}", self.label);
                // A step that left the broker working: nobody can say what it did before the file is opened again.
                if !self.stopped {
                    self.instead.extend(possible);
                    self.out_of_sight = true;
                }
            }
        }
    }

    fn reopen(&mut self) {
        let Some(broker) = self.broker.take() else { return };
        if let Err(error) = broker.close() {
            self.assert_typed(&error);
        }
        drop(broker);
        self.stopped = false;
        let lost = self.states_after_reopening();
        self.open();
        if let Some(broker) = &self.broker {
            match Model::observe(broker) {
                Ok(seen) => {
                    let known = lost.iter().any(|state| state.allows(&seen));
                    assert!(known, "{}: reopened with {seen:?}, not one of {lost:#?}", self.label);
                    self.state = seen;
                    self.instead.clear();
                }
                Err(error) => self.assert_typed(&error),
            }
        }
    }

    /// What the file may hold when it is opened again in the same boot.
    fn states_after_reopening(&self) -> Vec<Model> {
        let mut states = self.instead.clone();
        states.push(self.state.clone());
        // A failed sync in `Buffered` mode may take what was acknowledged since the last one; that law is the crash
        // tests' business. A failed write takes nothing.
        if self.fault.operation == Op::Sync && self.knobs.durability != Durability::Sync {
            states.extend(self.not_durable.iter().cloned());
        }
        states
    }

    /// The disk is well again: everything must be there and go on.
    fn finish(mut self) {
        if let Some(broker) = self.broker.take()
            && let Err(error) = broker.close()
        {
            self.assert_typed(&error);
        }
        self.disk.clear_faults();
        let states = self.states_after_reopening();
        let broker = self.knobs.open(&self.disk).unwrap_or_else(|error| panic!("{}: {error}", self.label));
        let mut seen = Model::observe(&broker).unwrap_or_else(|error| panic!("{}: {error}", self.label));
        let known = states.iter().any(|state| state.allows(&seen));
        assert!(known, "{}: opened with {seen:?}, not one of {states:#?}", self.label);
        assert_healthy(&broker, &self.label);
        for step in [create("later", 1), Step::Send(sends(0, 1, "later", 1, 10))] {
            let id = step.run(&broker).unwrap_or_else(|error| panic!("{}: {step:?}: {error}", self.label));
            seen.apply(&step, id);
        }
        assert_eq!(Model::observe(&broker).unwrap(), seen, "{}", self.label);
        // What the opening believed is on the disk, and not only in memory, where a failed sync leaves what it has lost.
        if self.knobs.durability == Durability::Sync {
            let without_power = self.disk.image(self.disk.operations(), Keep::None);
            let broker = self.knobs.open(&without_power).unwrap_or_else(|error| panic!("{}: {error}", self.label));
            assert_eq!(Model::observe(&broker).unwrap(), seen, "{}: after a power loss", self.label);
        }
    }

    /// A failing disk is no damage, no bug of the caller's, and no panic.
    fn assert_typed(&self, error: &Error) {
        match error {
            Error::Io { .. } | Error::StorageFull { .. } => {}
            Error::DurabilityUnknown { source } | Error::ReopenRequired { source } => self.assert_typed(source),
            other => panic!("{}: {other:?}", self.label),
        }
    }
}

/// Whether the topics of a step are there; an earlier step may have failed to create them.
fn can_run(state: &Model, step: &Step) -> bool {
    match step {
        Step::Send(sends) | Step::SendAll(sends) => {
            sends.iter().all(|send| state.log(send.name, send.partition).is_some())
        }
        Step::DeleteTopic { name } => state.topics.contains_key(*name),
        _ => true,
    }
}

const OPERATIONS: [Op; 9] =
    [Op::Open, Op::Read, Op::Write, Op::ShortWrite, Op::SetLen, Op::Sync, Op::Rename, Op::Remove, Op::SyncDir];

/// Every call of these kinds fails in a run of its own. Gives the number of runs by operation.
fn fail_every_call(knobs: Knobs, path_contains: Option<&str>, operations: &[Op]) -> BTreeMap<Op, usize> {
    let base = killed(knobs);
    let steps = script();
    let healthy = {
        let fault = Fault {
            operation: Op::Open,
            path_contains: Some("nowhere".to_owned()),
            nth: 0,
            kind: io::ErrorKind::Other,
            repeat: Repeat::Once,
        };
        let mut run = Run::of(knobs, &base, &fault);
        run.play(&steps);
        assert!(run.broker.is_some() && !run.stopped && run.instead.is_empty(), "{}", run.label);
        let disk = run.disk.clone();
        run.broker.take().unwrap().close().unwrap();
        disk
    };
    let mut runs = BTreeMap::new();
    for &operation in operations {
        let counted = if operation == Op::ShortWrite { Op::Write } else { operation };
        let calls = healthy.calls(counted, path_contains.unwrap_or(""));
        for nth in every_nth(calls) {
            for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
                for repeat in [Repeat::Once, Repeat::FromNowOn] {
                    let path_contains = path_contains.map(str::to_owned);
                    let mut run = Run::of(knobs, &base, &Fault { operation, path_contains, nth, kind, repeat });
                    run.play(&steps);
                    run.finish();
                    *runs.entry(operation).or_default() += 1;
                }
            }
        }
    }
    runs
}

/// All calls while they are few; the front, the end and a choice between of many.
fn every_nth(calls: usize) -> impl Iterator<Item = usize> {
    let stride = (calls / (60 * scale())).max(1);
    (0..calls).filter(move |nth| *nth < 12 || nth % stride == 0 || nth + 12 >= calls)
}

fn assert_all_failed(runs: &BTreeMap<Op, usize>, operations: &[Op]) {
    eprintln!("{runs:?}");
    for operation in operations {
        assert!(runs.get(operation).copied().unwrap_or(0) > 0, "{operation:?} was never called: {runs:?}");
    }
}

#[test]
fn writes_fail() {
    let operations = [Op::Write, Op::ShortWrite];
    assert_all_failed(&fail_every_call(Knobs::TINY, None, &operations), &operations);
}

#[test]
fn calls_other_than_writes_fail() {
    let operations = OPERATIONS.map(|op| if matches!(op, Op::Write | Op::ShortWrite) { Op::Sync } else { op });
    let operations: Vec<Op> = operations.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    assert_all_failed(&fail_every_call(Knobs::TINY, None, &operations), &operations);
}

#[test]
fn calls_fail_in_buffered_mode() {
    let knobs = Knobs { durability: BUFFERED, ..Knobs::TINY };
    let operations = [Op::Write, Op::Sync, Op::SetLen];
    assert_all_failed(&fail_every_call(knobs, None, &operations), &operations);
}

/// While only the journal fails, everything visible stays readable.
#[test]
fn calls_on_the_journal_fail() {
    for durability in [Durability::Sync, BUFFERED] {
        let operations = [Op::Open, Op::Read, Op::Write, Op::ShortWrite, Op::Sync, Op::Rename, Op::SyncDir, Op::Remove];
        let runs = fail_every_call(Knobs { durability, ..Knobs::TINY }, Some(JOURNAL), &operations);
        assert_all_failed(&runs, &operations);
    }
}

/// The creation of a store fails at every call; the next one succeeds, whatever the first one left.
#[test]
fn creation_fails() {
    let whole = SimDisk::new();
    Knobs::TINY.open(&whole).unwrap();
    for operation in OPERATIONS {
        let counted = if operation == Op::ShortWrite { Op::Write } else { operation };
        for nth in 0..whole.calls(counted, "") {
            for (kind, repeat) in [
                (io::ErrorKind::Other, Repeat::Once),
                (io::ErrorKind::StorageFull, Repeat::Once),
                (io::ErrorKind::Other, Repeat::FromNowOn),
                (io::ErrorKind::StorageFull, Repeat::FromNowOn),
            ] {
                let fault = Fault { operation, path_contains: None, nth, kind, repeat };
                let run = Run::of(Knobs::TINY, &(SimDisk::new(), Vec::new()), &fault);
                run.finish();
            }
        }
    }
}

fn fail_sync_once(disk: &SimDisk) {
    disk.fail(Fault {
        operation: Op::Sync,
        path_contains: Some(JOURNAL.to_owned()),
        nth: 0,
        kind: io::ErrorKind::Other,
        repeat: Repeat::Once,
    });
}

#[test]
fn a_failed_sync_stops_the_broker_and_is_not_retried() {
    let disk = SimDisk::new();
    let broker = Knobs::TINY.open(&disk).unwrap();
    broker.create_topic(NewTopic::new("a", 1)).unwrap();
    let producer = broker.producer();
    producer.send(ProducerRecord::to("a").value("seen")).unwrap().wait().unwrap();
    let before = Model::observe(&broker).unwrap();
    let (first, second) = (
        producer.send(ProducerRecord::to("a").value("one")).unwrap(),
        producer.send(ProducerRecord::to("a").value("two")).unwrap(),
    );
    fail_sync_once(&disk);
    let syncs = disk.calls(Op::Sync, "");
    assert!(matches!(first.wait(), Err(Error::DurabilityUnknown { .. })));
    assert!(second.is_done());
    assert!(matches!(second.wait(), Err(Error::DurabilityUnknown { .. })));
    assert!(matches!(producer.send(ProducerRecord::to("a").value("x")), Err(Error::ReopenRequired { .. })));
    assert!(matches!(producer.flush(), Err(Error::DurabilityUnknown { .. } | Error::ReopenRequired { .. })));
    assert!(matches!(broker.create_topic(NewTopic::new("b", 1)), Err(Error::ReopenRequired { .. })));
    assert!(matches!(broker.delete_topic("a"), Err(Error::ReopenRequired { .. })));
    assert!(matches!(broker.maintain(), Err(Error::ReopenRequired { .. })));
    assert_eq!(disk.calls(Op::Sync, ""), syncs + 1);
    assert!(broker.stats().unwrap().failure.is_some());
    assert_eq!(Model::observe(&broker).unwrap(), before);
    assert!(matches!(broker.close(), Err(Error::DurabilityUnknown { .. } | Error::ReopenRequired { .. })));
}

#[test]
fn a_failed_sync_in_buffered_mode_is_told_to_who_waits_for_it() {
    let disk = SimDisk::new();
    let broker = Knobs { durability: BUFFERED, ..Knobs::TINY }.open(&disk).unwrap();
    broker.create_topic(NewTopic::new("a", 1)).unwrap();
    let producer = broker.producer();
    let delivery = producer.send(ProducerRecord::to("a").value("one")).unwrap();
    fail_sync_once(&disk);
    assert!(matches!(delivery.wait_durable(), Err(Error::DurabilityUnknown { .. })));
    assert!(matches!(broker.sync(), Err(Error::ReopenRequired { .. })));
    assert!(matches!(producer.send(ProducerRecord::to("a").value("x")), Err(Error::ReopenRequired { .. })));
}

/// Sends records until the disk is full. Gives the state of the twin.
fn fill(broker: &Broker, state: &mut Model) -> Error {
    for number in 0..100_000 {
        let step = Step::Send(sends(number * 2, 1, "a", 2, 700));
        match step.run(broker) {
            Ok(id) => state.apply(&step, id),
            Err(error) => return error,
        }
    }
    panic!("the disk never got full");
}

/// A store with two topics, and its twin.
fn store_with_topics(knobs: Knobs, disk: &SimDisk) -> (Broker, Model) {
    let broker = knobs.open(disk).unwrap();
    let mut state = Model::default();
    for step in [create("a", 2), create("b", 1), Step::Send(sends(0, 40, "b", 1, 700)), Step::Maintain] {
        let id = step.run(&broker).unwrap();
        state.apply(&step, id);
    }
    (broker, state)
}

/// What makes room on a full disk.
fn deletes() -> [Step; 2] {
    [Step::DeleteTopic { name: "b" }, Step::DeleteRecords { name: "a", partition: 0, before: None }]
}

#[test]
fn on_a_full_disk_everything_acknowledged_stays_and_deletes_make_room() {
    for room in [64 << 10, 300 << 10, 1 << 20, (1 << 20) + (100 << 10), 3 << 20] {
        for step in deletes() {
            let label = format!("{room} bytes of room, {step:?}");
            let disk = SimDisk::new();
            let (broker, mut state) = store_with_topics(Knobs::TINY, &disk);
            disk.set_capacity(Some(disk.used() + room));
            let error = fill(&broker, &mut state);
            assert!(matches!(error, Error::StorageFull { .. }), "{label}: {error:?}");
            assert!(broker.stats().unwrap().failure.is_none(), "{label}");
            assert_eq!(Model::observe(&broker).unwrap(), state, "{label}");

            step.run(&broker).unwrap_or_else(|error| panic!("{label}: {error}"));
            state.apply(&step, None);
            assert_eq!(Model::observe(&broker).unwrap(), state, "{label}");

            let next = Step::Send(sends(500_001, 1, "a", 2, 100));
            next.run(&broker).unwrap_or_else(|error| panic!("{label}: sending goes on: {error}"));
            state.apply(&next, None);
            assert_healthy(&broker, &label);

            let killed = disk.after_kill();
            // The reserve may be used up; recovery needs a little room.
            killed.set_capacity(Some(disk.used() + (80 << 10)));
            let reopened = Knobs::TINY.open(&killed).unwrap_or_else(|error| panic!("{label}: {error}"));
            assert_eq!(Model::observe(&reopened).unwrap(), state, "{label}");

            broker.close().unwrap_or_else(|error| panic!("{label}: {error}"));
            drop(broker);
            // The journal is gone now, and a new one needs room.
            disk.set_capacity(Some(disk.used() + (80 << 10)));
            let broker = Knobs::TINY.open(&disk).unwrap_or_else(|error| panic!("{label}: {error}"));
            assert_eq!(Model::observe(&broker).unwrap(), state, "{label}");
        }
    }
}

#[test]
fn a_store_opens_on_a_full_disk_so_that_something_can_be_deleted() {
    let disk = SimDisk::new();
    let (broker, mut state) = store_with_topics(Knobs::TINY, &disk);
    broker.close().unwrap();
    drop(broker);
    disk.set_capacity(Some(disk.used()));
    let broker = Knobs::TINY.open(&disk).unwrap();
    assert_eq!(Model::observe(&broker).unwrap(), state);
    for step in deletes() {
        step.run(&broker).unwrap();
        state.apply(&step, None);
    }
    assert_eq!(Model::observe(&broker).unwrap(), state);
}

#[test]
fn sending_goes_on_when_somebody_else_makes_room() {
    let disk = SimDisk::new();
    let (broker, mut state) = store_with_topics(Knobs::TINY, &disk);
    disk.set_capacity(Some(disk.used() + (200 << 10)));
    assert!(matches!(fill(&broker, &mut state), Error::StorageFull { .. }));
    assert!(broker.stats().unwrap().storage_full);
    disk.set_capacity(None);
    // The disk is looked at again now and then, not at every send.
    let next = Step::Send(sends(500_001, 1, "a", 2, 100));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while let Err(error) = next.run(&broker) {
        assert!(matches!(error, Error::StorageFull { .. }), "{error:?}");
        assert!(std::time::Instant::now() < deadline, "it never went on");
        std::thread::yield_now();
    }
    state.apply(&next, None);
    assert_eq!(Model::observe(&broker).unwrap(), state);
    assert!(!broker.stats().unwrap().storage_full);
    broker.close().unwrap();
}

#[test]
fn a_journal_that_can_not_grow_fails_its_records_and_leaves_no_gap() {
    let knobs = Knobs { buffer_memory: 8 << 20, checkpoint_bytes: 8 << 20, ..Knobs::TINY };
    let disk = SimDisk::new();
    let broker = knobs.open(&disk).unwrap();
    broker.create_topic(NewTopic::new("a", 1)).unwrap();
    let producer = broker.producer();
    disk.set_capacity(Some(disk.used()));
    let big = || ProducerRecord::to("a").value(vec![b'.'; 100_000]);
    let mut acknowledged = 0;
    let failed = loop {
        let (one, two) = (producer.send(big()).unwrap(), producer.send(big()).unwrap());
        match one.wait() {
            Ok(_) => acknowledged = two.wait().unwrap().offset().get() + 1,
            Err(error) => break (error, two.wait().unwrap_err()),
        }
        assert!(acknowledged < 100, "the journal never had to grow");
    };
    assert!(matches!(failed, (Error::StorageFull { .. }, Error::StorageFull { .. })), "{failed:?}");
    assert!(acknowledged > 0);
    let partition = TopicPartition::new("a", 0);
    let end = || broker.offset_of(&partition, OffsetSpec::Latest).unwrap().unwrap();
    assert_eq!(end(), acknowledged);
    // A small record still fits into what the journal has.
    let small = producer.send(ProducerRecord::to("a").value("small")).unwrap().wait().unwrap();
    assert_eq!(small.offset(), acknowledged);
    disk.set_capacity(None);
    assert_eq!(producer.send(big()).unwrap().wait().unwrap().offset(), acknowledged + 1);
    let state = Model::observe(&broker).unwrap();
    assert_eq!(state.record_count() as u64, acknowledged + 2);
    assert_healthy(&broker, "after growing");
    let reopened = knobs.builder(&disk.after_kill()).open(PATH).unwrap();
    assert_eq!(Model::observe(&reopened).unwrap(), state);
}
