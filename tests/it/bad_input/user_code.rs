//! Code of the application that brooklet calls: it panics, calls the broker, or never comes to an end.

use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use brooklet::{
    Assignor, Broker, Clock, Consumer, Error, GroupAssignment, GroupSpec, ListenerResult, NewTopic, OffsetReset,
    ProducerRecord, RebalanceListener, Result, TopicPartition,
};

use crate::support::{NOW, TestBroker, finishes, poll_all, poll_now, tp};

/// An assignor whose `name` panics.
#[derive(Debug)]
struct Nameless;

impl Assignor for Nameless {
    fn name(&self) -> &str {
        panic!("no name")
    }

    fn assign(&self, _: &GroupSpec) -> Result<GroupAssignment> {
        unreachable!("it has no name")
    }
}

#[test]
fn an_assignor_without_a_name_is_refused_when_its_consumer_is_built() {
    let broker = TestBroker::new().with_topic("t", 1);
    let mut other = broker.consumer().group("g").subscribe(["t"]).unwrap();
    poll_now(&mut other);
    let refused = broker.consumer().group("g").assignor(Nameless).subscribe(["t"]).unwrap_err();
    assert!(matches!(&refused, Error::PartitionAssignor { reason, .. } if reason.contains("no name")), "{refused}");
    assert_eq!(broker.describe_group("g").unwrap().members.len(), 1);
    other.close().unwrap();
}

/// A panic whose payload panics again when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload panics");
    }
}

/// A listener that panics as often as it is told to, one way or the other.
struct Panicking {
    left: u32,
}

impl RebalanceListener for Panicking {
    fn on_partitions_assigned(&mut self, _: &mut Consumer, _: &[TopicPartition]) -> ListenerResult {
        self.left = self.left.saturating_sub(1);
        match self.left {
            0 => Ok(()),
            1 => panic!("a listener's panic"),
            _ => panic_any(Bomb),
        }
    }
}

#[test]
fn a_listener_that_panics_is_a_listener_that_fails() {
    let broker = TestBroker::new().with_topic("t", 1).with_topic("u", 1).with_topic("v", 1);
    for topic in ["t", "u", "v"] {
        broker.produce_n(topic, 0, 2);
    }
    let mut consumer = broker.consumer().group("g").offset_reset(OffsetReset::Earliest).subscribe(["t"]).unwrap();
    consumer.set_rebalance_listener(Panicking { left: 3 }).unwrap();
    for (topics, says) in [(vec!["t"], "it panicked"), (vec!["t", "u"], "a listener's panic")] {
        consumer.subscribe(topics).unwrap();
        let failed = consumer.poll(Duration::ZERO).unwrap_err();
        assert!(matches!(failed, Error::RebalanceListener { .. }), "{failed}");
        assert!(failed.to_string().contains(says), "{failed}");
    }
    // The rebalance is done, and the listener is still there: the next call of it succeeds.
    assert_eq!(poll_all(&mut consumer).len(), 4);
    consumer.subscribe(["t", "u", "v"]).unwrap();
    assert_eq!(poll_all(&mut consumer).len(), 2);
    consumer.commit().unwrap();
    consumer.seek(&tp("t", 0), 0).unwrap();
    consumer.close().unwrap();
}

/// A listener that makes another consumer join the group when it is given partitions, and leave when it gives some up: the group
/// is never settled.
struct Inviting {
    broker: Broker,
    guest: Option<Consumer>,
    called: Arc<AtomicU32>,
}

impl RebalanceListener for Inviting {
    fn on_partitions_assigned(&mut self, _: &mut Consumer, _: &[TopicPartition]) -> ListenerResult {
        self.called.fetch_add(1, Ordering::SeqCst);
        let mut guest = self.broker.consumer().group("g").subscribe(["t"])?;
        drop(guest.poll(Duration::ZERO)?);
        self.guest = Some(guest);
        Ok(())
    }

    fn on_partitions_revoked(&mut self, _: &mut Consumer, _: &[TopicPartition]) -> ListenerResult {
        self.guest = None;
        Ok(())
    }
}

#[test]
fn a_listener_that_changes_the_group_does_not_keep_poll_inside() {
    let broker = TestBroker::new().with_topic("t", 2);
    broker.produce_n("t", 0, 3);
    broker.produce_n("t", 1, 3);
    let handle = (*broker).clone();
    finishes("polls with a listener that makes others join", move || {
        let called = Arc::new(AtomicU32::new(0));
        let builder = handle.consumer().group("g").offset_reset(OffsetReset::Earliest);
        let mut consumer = builder.subscribe(["t"]).unwrap();
        let listener = Inviting { broker: handle.clone(), guest: None, called: Arc::clone(&called) };
        consumer.set_rebalance_listener(listener).unwrap();
        for timeout in [Duration::ZERO, Duration::from_millis(5)] {
            let before = called.load(Ordering::SeqCst);
            drop(consumer.poll(timeout).unwrap());
            assert!(called.load(Ordering::SeqCst) > before);
        }
        drop(consumer);
    });
}

#[cfg(feature = "channel")]
#[test]
fn a_channel_that_takes_all_memory_is_refused() {
    let broker = TestBroker::new().with_topic("t", 1);
    broker.produce_n("t", 0, 1);
    for capacity in [usize::MAX, usize::MAX / 2, 1 << 40, (1 << 20) + 1] {
        let refused = broker.consumer_of(&[tp("t", 0)]).into_receiver(capacity).unwrap_err();
        assert!(matches!(refused, Error::IllegalArgument { .. }), "{refused}");
    }
    for capacity in [0, 1, 1 << 20] {
        let records = broker.consumer_of(&[tp("t", 0)]).into_receiver(capacity).unwrap();
        assert_eq!(records.receiver().recv().unwrap().unwrap().get().offset(), 0);
    }
}

/// A clock that calls the broker that it belongs to, and keeps what went well although it must not.
#[derive(Debug, Clone, Default)]
struct Curious {
    broker: Arc<OnceLock<Broker>>,
    succeeded: Arc<AtomicU32>,
}

impl Clock for Curious {
    fn now_ms(&self) -> i64 {
        if let Some(broker) = self.broker.get() {
            let partition = tp("t", 0);
            let calls = [
                broker.topics().err(),
                broker.describe_topic("t").err(),
                broker.create_topic(NewTopic::new("u", 1)).err(),
                broker.alter_topic("t", Ok).err(),
                broker.delete_records(&partition, 0).err(),
                broker.clean(Duration::MAX).err(),
                broker.maintain().err(),
                broker.check().err(),
                broker.stats().err(),
                broker.close().err(),
                broker.groups().err(),
                broker.describe_group("g").err(),
                broker.delete_group("g").err(),
                broker.alter_group_offsets("g", [(partition.clone(), 1)]).err(),
                broker.latest("t", "k").err(),
                broker.producer().send(ProducerRecord::to("t")).err(),
                broker.producer().flush().err(),
                broker.consumer().group("g").subscribe(["t"]).err(),
            ];
            let refused = |error: &Option<Error>| matches!(error, Some(Error::IllegalState { .. }));
            let allowed = calls.iter().filter(|error| !refused(error)).count();
            self.succeeded.fetch_add(u32::try_from(allowed).unwrap(), Ordering::SeqCst);
        }
        NOW
    }
}

/// Everything that asks for the time.
fn use_everything(broker: &Broker) {
    broker.create_topic(NewTopic::new("t", 1)).unwrap();
    for _ in 0..3 {
        broker.producer().send(ProducerRecord::to("t").key("k").value("x")).unwrap().wait().unwrap();
    }
    let builder = broker.consumer().group("g").offset_reset(OffsetReset::ByDuration(Duration::from_secs(1)));
    let mut consumer = builder.auto_commit(Duration::ZERO).subscribe(["t"]).unwrap();
    assert_eq!(poll_all(&mut consumer).len(), 3);
    consumer.commit().unwrap();
    broker.describe_group("g").unwrap();
    broker.maintain().unwrap();
    broker.clean(Duration::MAX).unwrap();
    consumer.close().unwrap();
    broker.delete_group("g").unwrap();
    broker.delete_topic("t").unwrap();
}

#[test]
fn a_clock_that_calls_the_broker_is_refused_and_hangs_nothing() {
    let clock = Curious::default();
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::builder().clock(clock.clone()).open(directory.path().join("test.brooklet")).unwrap();
    let handle = broker.clone();
    let allowed = finishes("a broker whose clock calls it", move || {
        assert!(clock.broker.set(handle.clone()).is_ok());
        use_everything(&handle);
        clock.succeeded.load(Ordering::SeqCst)
    });
    assert_eq!(allowed, 0, "calls within a clock");
    broker.close().unwrap();
}

/// A clock that panics while it is told to.
#[derive(Debug, Clone, Default)]
struct Broken(Arc<AtomicBool>);

impl Clock for Broken {
    fn now_ms(&self) -> i64 {
        assert!(!self.0.load(Ordering::SeqCst), "a clock's panic");
        NOW
    }
}

#[test]
fn a_clock_that_panics_stands_still() {
    let clock = Broken::default();
    let broker = TestBroker::with(|builder| builder.clock(clock.clone()));
    broker.create_topic(NewTopic::new("before", 1)).unwrap();
    clock.0.store(true, Ordering::SeqCst);
    use_everything(&broker);
    broker.create_topic(NewTopic::new("t", 1)).unwrap();
    let sent = broker.produce(ProducerRecord::to("t").value("x"));
    assert_eq!(sent.timestamp(), NOW);
    // Dropped while a panic unwinds: the clock's panic must not become a second one.
    let handle = (*broker).clone();
    let unwound = std::thread::spawn(move || {
        let builder = handle.consumer().group("g").offset_reset(OffsetReset::Earliest).auto_commit(Duration::ZERO);
        let mut consumer = builder.subscribe(["t"]).unwrap();
        assert_eq!(poll_now(&mut consumer), [0]);
        panic!("the application's panic");
    });
    assert!(unwound.join().is_err());
    assert_eq!(broker.describe_group("g").unwrap().members.len(), 0);
    clock.0.store(false, Ordering::SeqCst);
    broker.produce(ProducerRecord::to("t").value("y"));
}
