//! Goal: what groups commit is acknowledged, lost and recovered together with the records, in the one order.
//!
//! Method: an engine on the simulated disk, without a background thread, so that each step of a group's way is called for; and a
//! workload whose power is cut before every single operation.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::super::commit::LargeGroups;
use super::super::sequencer::{GroupNumber, OutcomeCallback};
use super::super::{Engine, Keys, OpenHow, Options};
use crate::clock::{ManualClock, Time};
use crate::codec::{GroupChange, GroupEntry, group_entry_len};
use crate::config::{Durability, TopicConfig};
use crate::disk::sim_disk::{Fault, Op, Repeat, SimDisk};
use crate::error::{Error, Result};
use crate::group::{CommittedOffset, GroupName, KeptState};
use crate::record::{ProducerRecord, RecordMetadata};
use crate::types::{LogId, Offset, TopicName, TopicNumber};

const PATH: &str = "/d/app.brooklet";
const LOG: LogId = LogId { topic: TopicNumber(0), partition: 0 };

fn options() -> Options {
    Options {
        durability: Durability::Sync,
        cache_size: 64 << 10,
        buffer_memory: 64 << 10,
        checkpoint_bytes: 16 << 10,
        checkpoint_interval: Duration::from_secs(10),
        max_block: Duration::ZERO,
        linger: Duration::from_secs(10),
        auto_create_topics: None,
        clean_interval: None,
        max_bytes: None,
        vacuum_at_close: None,
        clean_step: 256,
        compaction_records: 1_000,
        offsets_retention: None,
        clock: Time::of(ManualClock::new(1_000)),
    }
}

fn open(disk: &SimDisk) -> Engine {
    Engine::open(Arc::new(disk.clone()), Path::new(PATH), OpenHow::OpenOrCreate, options()).unwrap()
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn new_engine(disk: &SimDisk) -> Engine {
    let engine = open(disk);
    engine.create_topic(&topic("t"), 2, TopicConfig::default()).unwrap();
    engine
}

fn close(engine: Engine, disk: &SimDisk) {
    engine.close(disk, || ()).unwrap();
}

fn name() -> GroupName {
    GroupName::new("g").unwrap()
}

fn entry(change: GroupChange) -> GroupEntry {
    GroupEntry { group: name(), change }
}

fn commit(log: LogId, offset: u64) -> GroupEntry {
    let committed = CommittedOffset { offset: Offset::new(offset), metadata: "m".into(), committed_ms: 5 };
    entry(GroupChange::Offset { log, committed: Some(committed) })
}

fn set_epoch(epoch: u64) -> GroupEntry {
    entry(GroupChange::State(KeptState { epoch, ..KeptState::default() }))
}

/// Puts these entries into the open group.
fn queue(engine: &Engine, entries: &[GroupEntry], callback: Option<OutcomeCallback>) -> Result<GroupNumber> {
    engine.push_checked(&*engine.group(&name())?, entries, callback, |_, _| Ok(()))
}

/// Journals these entries and waits for it.
fn push(engine: &Engine, entries: &[GroupEntry]) -> Result<()> {
    let group = queue(engine, entries, None)?;
    engine.wait_for(group, None).map(drop)
}

fn send(engine: &Engine, value: &[u8]) -> Result<()> {
    let sequenced = engine.send(&ProducerRecord::to("t").partition(0).value(value), Keys::Choose, None)?;
    engine.wait_for(sequenced.group, None).map(drop)
}

/// What the store has of the group: its epoch, and what it has committed.
fn stored(engine: &Engine) -> Option<(u64, Vec<(LogId, u64)>)> {
    let group = engine.store.read_group(&name()).unwrap()?;
    let offsets = group.offsets.into_iter().map(|(log, committed)| (log, committed.offset.get()));
    Some((group.state.epoch, offsets.collect()))
}

fn assert_healthy(engine: &Engine, label: &str) {
    let report = engine.check().unwrap();
    assert!(report.is_healthy(), "{label}: {report}");
}

#[test]
fn what_a_group_commits_is_there_after_a_kill_and_after_a_close() {
    let disk = SimDisk::new();
    let engine = new_engine(&disk);
    push(&engine, &[commit(LOG, 3), set_epoch(2)]).unwrap();
    push(&engine, &[commit(LOG, 5)]).unwrap();
    assert_eq!(stored(&engine), None, "it is in the journal only");
    let killed = open(&disk.after_kill());
    assert_eq!(stored(&killed), Some((2, vec![(LOG, 5)])));
    assert_healthy(&killed, "after a kill");
    close(engine, &disk);
    assert_eq!(stored(&open(&disk.reboot())), Some((2, vec![(LOG, 5)])));
}

#[test]
fn entries_alone_are_checkpointed_and_give_their_room_back() {
    let disk = SimDisk::new();
    let engine = new_engine(&disk);
    // Together they are larger than the journal.
    for offset in 0..3_000 {
        push(&engine, &[commit(LOG, offset)]).unwrap_or_else(|error| panic!("{offset}: {error}"));
        engine.run_checkpoint_if_due();
    }
    engine.checkpoint().unwrap();
    assert_eq!(stored(&engine), Some((0, vec![(LOG, 2_999)])));
    assert_eq!(engine.stats().unwrap().buffered_bytes, 0);
    assert_healthy(&engine, "after a checkpoint");
    // Nothing is left to replay.
    assert_eq!(engine.check().unwrap().frames, 0);
}

impl Engine {
    /// What the background thread does when the tail is large enough.
    fn run_checkpoint_if_due(&self) {
        if self.unapplied.lock().is_enough() {
            self.checkpoint().unwrap();
        }
    }
}

#[test]
fn a_large_group_goes_straight_into_the_store_with_what_was_committed_in_it() {
    let disk = SimDisk::new();
    let engine = new_engine(&disk);
    push(&engine, &[commit(LOG, 1), set_epoch(1)]).unwrap();
    let value = [7; 20 << 10];
    engine.send(&ProducerRecord::to("t").partition(0).value(&value[..]), Keys::Choose, None).unwrap();
    queue(&engine, &[commit(LOG, 2)], None).unwrap();
    engine.commit_open_group(LargeGroups::ToStore).unwrap();
    assert_eq!(stored(&engine), Some((1, vec![(LOG, 2)])));
    assert_eq!(engine.stats().unwrap().buffered_bytes, 0);
    assert_healthy(&engine, "after a large group");
}

#[test]
fn callbacks_of_records_and_commits_run_in_the_order_of_the_calls() {
    let disk = SimDisk::new();
    let engine = new_engine(&disk);
    let seen = Arc::new(Mutex::new(Vec::new()));
    for i in 0..3 {
        let (of_record, of_commit) = (Arc::clone(&seen), Arc::clone(&seen));
        let record = move |metadata: Result<RecordMetadata>| {
            of_record.lock().push(format!("record {}", metadata.unwrap().offset));
        };
        engine.send(&ProducerRecord::to("t").partition(0), Keys::Choose, Some(Box::new(record))).unwrap();
        let committed = move |outcome: Result<()>| of_commit.lock().push(format!("commit {i} {outcome:?}"));
        queue(&engine, &[commit(LOG, i)], Some(Box::new(committed))).unwrap();
    }
    assert!(seen.lock().is_empty());
    engine.flush().unwrap();
    let expected = ["record 0", "commit 0 Ok(())", "record 1", "commit 1 Ok(())", "record 2", "commit 2 Ok(())"];
    assert_eq!(*seen.lock(), expected);
}

#[test]
fn a_commit_that_may_be_lost_says_so_and_later_ones_are_refused() {
    let disk = SimDisk::new();
    let engine = new_engine(&disk);
    let outcome = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&outcome);
    let callback = move |result: Result<()>| *kept.lock() = Some(result);
    let group = queue(&engine, &[commit(LOG, 1)], Some(Box::new(callback))).unwrap();
    disk.fail(Fault {
        operation: Op::Sync,
        path_contains: Some("-journal".to_owned()),
        nth: 0,
        kind: std::io::ErrorKind::Other,
        repeat: Repeat::Once,
    });
    assert!(matches!(engine.wait_for(group, None), Err(Error::DurabilityUnknown { .. })));
    assert!(matches!(outcome.lock().take(), Some(Err(Error::DurabilityUnknown { .. }))));
    assert!(matches!(push(&engine, &[commit(LOG, 2)]), Err(Error::ReopenRequired { .. })));
    assert!(matches!(engine.try_push_group_entries(&[commit(LOG, 2)], &mut None), Err(Error::ReopenRequired { .. })));
}

#[test]
fn without_room_a_try_leaves_the_callback_and_a_push_makes_room() {
    let disk = SimDisk::new();
    let mut engine = new_engine(&disk);
    engine.options.max_block = Duration::from_secs(60);
    let value = [7; 30 << 10];
    for _ in 0..2 {
        engine.send(&ProducerRecord::to("t").partition(0).value(&value[..]), Keys::Choose, None).unwrap();
    }
    let filler = [7; 4 << 10];
    engine.send(&ProducerRecord::to("t").partition(0).value(&filler[..3_700]), Keys::Choose, None).unwrap();
    let entries: Vec<_> = (0..10).map(|offset| commit(LOG, offset)).collect();
    let mut callback: Option<OutcomeCallback> = Some(Box::new(drop));
    assert_eq!(engine.try_push_group_entries(&entries, &mut callback).unwrap(), None);
    assert!(callback.is_some());
    push(&engine, &entries).unwrap();
    assert!(engine.try_push_group_entries(&entries, &mut callback).unwrap().is_some());
    assert!(callback.is_none());
    engine.flush().unwrap();
    engine.checkpoint().unwrap();
    assert_eq!(stored(&engine), Some((0, vec![(LOG, 9)])));
}

/// A frame's own overhead is counted with the first entry of an empty group, and so only once the group before is committed.
#[test]
fn room_for_the_entries_but_not_for_their_frame_is_no_room() {
    let disk = SimDisk::new();
    let mut engine = new_engine(&disk);
    engine.options.max_block = Duration::from_secs(2);
    let entries = [commit(LOG, 1)];
    let bytes = group_entry_len(&entries[0]);
    let value = vec![7; 60 << 10];
    engine.send(&ProducerRecord::to("t").partition(0).value(&value[..]), Keys::Choose, None).unwrap();
    let left = engine.options.buffer_memory - engine.stats().unwrap().buffered_bytes;
    // Some bytes go to the record's own fields.
    engine.send(&ProducerRecord::to("t").partition(0).value(&value[..left - bytes - 40]), Keys::Choose, None).unwrap();
    let left = engine.options.buffer_memory - engine.stats().unwrap().buffered_bytes;
    assert!((bytes..bytes + 60).contains(&left), "{left} bytes are left for {bytes}");
    engine.flush().unwrap();
    push(&engine, &entries).unwrap();
}

#[test]
fn nothing_to_commit_is_refused_as_nobody_could_wait_for_it() {
    let engine = Engine::in_memory(options()).unwrap();
    assert!(matches!(engine.try_push_group_entries(&[], &mut None), Err(Error::IllegalArgument { .. })));
}

#[test]
fn a_full_disk_keeps_the_order_of_what_was_committed() {
    let other = LogId { partition: 1, ..LOG };
    let mut full = 0;
    for nth in 0..12 {
        let disk = SimDisk::new();
        let engine = new_engine(&disk);
        push(&engine, &[commit(LOG, 1), commit(other, 1)]).unwrap();
        disk.fail(Fault {
            operation: Op::Write,
            path_contains: Some(PATH.to_owned()),
            nth,
            kind: std::io::ErrorKind::StorageFull,
            repeat: Repeat::Once,
        });
        // redb gets along without some of its writes.
        if let Err(error) = engine.checkpoint() {
            assert!(matches!(error, Error::StorageFull { .. }), "write {nth}: {error}");
            assert_eq!(engine.try_push_group_entries(&[commit(LOG, 2)], &mut None).unwrap(), None);
            full += 1;
        }
        disk.clear_faults();
        // It finds out that there is room again, with a checkpoint.
        push(&engine, &[commit(LOG, 2)]).unwrap();
        engine.checkpoint().unwrap();
        assert_eq!(stored(&engine), Some((0, vec![(LOG, 2), (other, 1)])));
        assert_healthy(&engine, "after a full disk");
    }
    assert!(full > 0);
}

/// One acknowledged step of the workload that is cut.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A record, and behind it the offset behind it.
    SendAndCommit,
    /// A record and an offset in one frame.
    Together,
    Epoch(u64),
    TakeBack,
    DeleteGroup,
    Checkpoint,
    /// Commits for a topic that is then deleted.
    DeleteTopic,
}

const STEPS: [Step; 16] = [
    Step::SendAndCommit,
    Step::Epoch(1),
    Step::SendAndCommit,
    Step::DeleteTopic,
    Step::SendAndCommit,
    Step::Checkpoint,
    Step::Together,
    Step::Epoch(2),
    Step::DeleteGroup,
    Step::Together,
    Step::Checkpoint,
    Step::SendAndCommit,
    Step::TakeBack,
    Step::Epoch(3),
    Step::SendAndCommit,
    Step::DeleteGroup,
];

/// What a reader sees: the end of the partition, and the group.
type State = (u64, Option<(u64, Vec<(LogId, u64)>)>);

fn end(engine: &Engine) -> u64 {
    engine.topic("t").map_or(0, |topic| topic.partition(0).unwrap().end().get())
}

/// Runs a step. `note` is told of each acknowledged state on the way.
fn run(engine: &Engine, step: Step, (ends_at, group): &mut State, note: &mut impl FnMut(&State)) {
    let committed = |group: &mut Option<(u64, Vec<(LogId, u64)>)>, offset: Option<u64>| {
        let epoch = group.as_ref().map_or(0, |(epoch, _)| *epoch);
        let offsets: Vec<_> = offset.map(|offset| (LOG, offset)).into_iter().collect();
        *group = (epoch > 0 || !offsets.is_empty()).then_some((epoch, offsets));
    };
    match step {
        Step::SendAndCommit => {
            send(engine, b"value").unwrap();
            *ends_at += 1;
            note(&(*ends_at, group.clone()));
            push(engine, &[commit(LOG, *ends_at)]).unwrap();
            committed(group, Some(*ends_at));
        }
        Step::Together => {
            *ends_at += 1;
            queue(engine, &[commit(LOG, *ends_at)], None).unwrap();
            send(engine, b"value").unwrap();
            committed(group, Some(*ends_at));
        }
        Step::Epoch(epoch) => {
            push(engine, &[set_epoch(epoch)]).unwrap();
            *group = Some((epoch, group.take().map_or(Vec::new(), |(_, offsets)| offsets)));
        }
        Step::TakeBack => {
            push(engine, &[entry(GroupChange::Offset { log: LOG, committed: None })]).unwrap();
            committed(group, None);
        }
        Step::DeleteGroup => {
            push(engine, &[entry(GroupChange::Delete)]).unwrap();
            *group = None;
        }
        Step::Checkpoint => engine.checkpoint().unwrap(),
        Step::DeleteTopic => {
            let other = engine.create_topic(&topic("gone"), 1, TopicConfig::default()).unwrap();
            push(engine, &[commit(LogId { topic: other.number, partition: 0 }, 4)]).unwrap();
            let mut between = group.clone().unwrap_or_default();
            between.1.push((LogId { topic: other.number, partition: 0 }, 4));
            note(&(*ends_at, Some(between)));
            engine.delete_topic("gone").unwrap();
        }
    }
    note(&(*ends_at, group.clone()));
}

#[test]
fn a_power_loss_at_any_point_leaves_a_prefix_of_records_and_commits() {
    let disk = SimDisk::new();
    let engine = new_engine(&disk);
    let mut state = (0, None);
    let mut points = vec![(disk.operations(), state.clone())];
    for step in STEPS {
        run(&engine, step, &mut state, &mut |state| points.push((disk.operations(), state.clone())));
        // Who asks is told what was acknowledged, wherever it is stored by now.
        let known = engine.committed(&engine.group(&name()).unwrap(), LOG).map(|committed| committed.offset.get());
        assert_eq!(known, state.1.as_ref().and_then(|(_, offsets)| offsets.first()).map(|(_, offset)| *offset));
    }
    close(engine, &disk);
    points.push((disk.operations(), state));
    let mut opened = 0;
    for at in points[0].0..=disk.operations() {
        // What was acknowledged last, and what was under way.
        let done = points.iter().rposition(|(done, _)| *done <= at).unwrap();
        let allowed: Vec<_> = points.iter().skip(done).take(2).map(|(_, state)| state).collect();
        for (label, image) in disk.images(at, at as u64) {
            let engine = open(&image);
            let found = (end(&engine), stored(&engine));
            assert!(allowed.contains(&&found), "{label}: {found:?} is none of {allowed:?}");
            assert_healthy(&engine, &label);
            opened += 1;
        }
    }
    assert!(opened > 100, "{opened} images");
}
