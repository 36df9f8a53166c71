//! Calls of the broker from within a callback of a send, which runs in the middle of a commit.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use brooklet::{Broker, Error, NewTopic, OffsetSpec, ProducerRecord};

use crate::support::{PATIENCE, TestBroker, bounds, finishes, poll_now, tp};

/// Runs `work` in a callback of a send to topic `t`, and fails when it, or the commit around it, hangs.
fn in_callback<T: Send + 'static>(broker: &Broker, work: impl FnOnce(&Broker) -> T + Send + 'static) -> T {
    let handle = broker.clone();
    let producer = broker.producer();
    finishes("a call within a callback", move || {
        let (results, result) = mpsc::channel();
        let delivery =
            producer.send_with(ProducerRecord::to("t"), move |_| results.send(work(&handle)).unwrap()).unwrap();
        delivery.wait().unwrap();
        result.recv().unwrap()
    })
}

/// Whatever would wait for the commit that runs the callback, or change the store meanwhile, is refused.
#[test]
fn what_would_wait_is_refused() {
    let broker = TestBroker::new().with_topic("t", 1);
    type Call = fn(&Broker) -> Option<Error>;
    let calls: [(&str, Call); 10] = [
        ("flush", |broker| broker.producer().flush().err()),
        ("close", |broker| broker.close().err()),
        ("maintain", |broker| broker.maintain().err()),
        ("create_topic", |broker| broker.create_topic(NewTopic::new("u", 1)).err()),
        ("delete_topic", |broker| broker.delete_topic("t").err()),
        ("create_partitions", |broker| broker.create_partitions("t", 2).err()),
        ("alter_topic", |broker| broker.alter_topic("t", Ok).err()),
        ("delete_records", |broker| broker.delete_records(&tp("t", 0), 0).err()),
        ("check", |broker| broker.check().err()),
        ("wait", |broker| broker.producer().send(ProducerRecord::to("t")).unwrap().wait().err()),
    ];
    for (name, call) in calls {
        let error = in_callback(&broker, call);
        assert!(matches!(error, Some(Error::IllegalState { .. })), "{name}: {error:?}");
    }
    assert_eq!(broker.topics().unwrap(), ["t"]);
}

/// What only looks, and what only queues, is allowed.
#[test]
fn looking_and_sending_are_allowed() {
    let broker = TestBroker::new().with_topic("t", 1);
    let seen = in_callback(&broker, |broker| {
        let names = broker.topics().unwrap().len();
        let end = broker.offset_of(&tp("t", 0), OffsetSpec::Latest).unwrap();
        let read = poll_now(&mut broker.consumer_from_start());
        drop(broker.producer().send(ProducerRecord::to("t").value("more")).unwrap());
        (names, end, read)
    });
    assert_eq!(seen, (1, Some(1.into()), vec![0]), "the record is visible to its callback");
    broker.producer().flush().unwrap();
    assert_eq!(bounds(&broker, "t", 0).1, 2);
}

/// Counting everything within a callback gives a count or an error, and returns.
#[test]
fn stats_return_within_a_callback() {
    let broker = TestBroker::new().with_topic("t", 1);
    match in_callback(&broker, |broker| broker.stats().map(|stats| stats.topics)) {
        Ok(topics) => assert_eq!(topics, 1),
        Err(error) => assert!(matches!(error, Error::IllegalState { .. }), "{error}"),
    }
}

/// Another thread deletes a topic: it keeps the store's lock and waits for the commit that runs the callback. What the
/// callback calls must not wait for that lock.
#[test]
fn a_callback_does_not_wait_for_who_waits_for_its_commit() {
    type Call = fn(&Broker) -> Option<Error>;
    let calls: [(&str, Call); 6] = [
        ("create_topic", |broker| broker.create_topic(NewTopic::new("u", 1)).err()),
        ("delete_topic", |broker| broker.delete_topic("t").err()),
        ("create_partitions", |broker| broker.create_partitions("t", 2).err()),
        ("alter_topic", |broker| broker.alter_topic("t", Ok).err()),
        ("delete_records", |broker| broker.delete_records(&tp("t", 0), 0).err()),
        ("auto-creation", |broker| broker.producer().send(ProducerRecord::to("v")).err()),
    ];
    for (name, call) in calls {
        let broker = TestBroker::with(|builder| builder.auto_create_topics(1)).with_topic("t", 1).with_topic("gone", 1);
        let handle = (*broker).clone();
        let deleting = thread::spawn({
            let (start, started) = mpsc::channel();
            let deleter = handle.clone();
            let thread = thread::spawn(move || {
                started.recv().unwrap();
                deleter.delete_topic("gone").unwrap();
            });
            move || {
                let error = in_callback(&handle, move |broker| {
                    start.send(()).unwrap();
                    // The deleter has the lock as soon as its topic is out of sight.
                    while broker.topics().unwrap().len() == 2 {
                        thread::yield_now();
                    }
                    call(broker)
                });
                thread.join().unwrap();
                error
            }
        });
        let error = deleting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(matches!(error, Some(Error::IllegalState { .. })), "{name}: {error:?}");
    }
}

/// The last handle may go within a callback: the broker closes once the commit is done.
#[test]
fn the_last_handle_may_be_dropped_within_a_callback() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.brooklet");
    let broker = Broker::builder().background(false).open(&path).unwrap();
    broker.create_topic(NewTopic::new("t", 1)).unwrap();
    let producer = broker.producer();
    let (handles, last) = mpsc::channel::<Broker>();
    let (done, called) = mpsc::channel();
    let callback = move |_| {
        drop(last.recv().unwrap());
        done.send(()).unwrap();
    };
    let delivery = producer.send_with(ProducerRecord::to("t").value("x"), callback).unwrap();
    drop(producer);
    handles.send(broker).unwrap();
    let offset = finishes("the wait", move || delivery.wait().unwrap().offset());
    assert_eq!(offset, 0);
    called.recv_timeout(PATIENCE).unwrap();
    let again = finishes("opening again", move || {
        loop {
            match Broker::open(&path) {
                // It closes in a thread of its own.
                Err(Error::AlreadyOpen { .. }) => thread::yield_now(),
                other => return other.unwrap(),
            }
        }
    });
    assert_eq!(bounds(&again, "t", 0).1, 1);
    assert!(again.check().unwrap().is_healthy());
}

/// A callback that sends again and again does not keep others from being done.
#[test]
fn a_callback_that_sends_for_ever_does_not_hold_up_its_commit() {
    fn again(broker: Broker, left: u32) {
        let next = broker.clone();
        let callback = move |_| {
            if left > 0 {
                again(next, left - 1);
            }
        };
        // Once the broker closes, the chain ends.
        let _ = broker.producer().send_with(ProducerRecord::to("t"), callback);
    }
    let broker = TestBroker::with(|builder| builder.linger(Duration::ZERO)).with_topic("t", 1);
    again((*broker).clone(), 100);
    let end = finishes("the chain", {
        let broker = (*broker).clone();
        move || {
            while bounds(&broker, "t", 0).1 < 101 {
                broker.producer().flush().unwrap();
            }
            bounds(&broker, "t", 0).1
        }
    });
    assert_eq!(end, 101);
}

/// A consumer of partition 0 of `t` from the start.
trait FromStart {
    fn consumer_from_start(&self) -> brooklet::Consumer;
}

impl FromStart for Broker {
    fn consumer_from_start(&self) -> brooklet::Consumer {
        self.consumer().offset_reset(brooklet::OffsetReset::Earliest).assign([("t", 0)]).unwrap()
    }
}
