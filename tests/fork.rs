//! A process that is forked from the one that opened the file changes nothing.
//!
//! Goal: whatever a child calls, it gets `Forked`, and the parent goes on as if there were no child. Method: a real fork, in a
//! binary of its own and without a background thread, as a child inherits the locks that other threads hold.

// Everything in here is a test: helpers may unwrap as tests may.
#![cfg(all(test, unix))]

use std::fs;
use std::time::Duration;

use brooklet::{Broker, Delivery, Error, NewTopic, OffsetReset, ProducerRecord, Result};
use fork::Fork;

fn is_forked<T>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Forked))
}

/// What a child tries, by name, and whether it was told that it is one.
fn attempts(broker: &Broker) -> Vec<(&'static str, bool)> {
    let send = broker.producer().send(ProducerRecord::to("t").value("from the child"));
    vec![
        ("send and wait", is_forked(send.and_then(Delivery::wait))),
        ("create a topic", is_forked(broker.create_topic(NewTopic::new("other", 1)))),
        ("delete a topic", is_forked(broker.delete_topic("t"))),
        ("maintain", is_forked(broker.maintain())),
        ("close", is_forked(broker.close())),
    ]
}

#[test]
fn a_forked_child_is_told_so_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.brooklet");
    let files =
        || ["test.brooklet", "test.brooklet-journal"].map(|name| fs::read(directory.path().join(name)).unwrap());
    let broker = Broker::builder().background(false).open(&path).unwrap();
    broker.create_topic(NewTopic::new("t", 1)).unwrap();
    let send = |value: &str| broker.producer().send(ProducerRecord::to("t").value(value)).unwrap().wait().unwrap();
    send("before");

    let before = files();
    match fork::fork().unwrap() {
        Fork::Child => {
            let failed = attempts(&broker).iter().filter(|(_, is_forked)| !is_forked).count();
            drop(broker);
            std::process::exit(i32::try_from(failed).unwrap());
        }
        Fork::Parent(child) => {
            let status = fork::waitpid(child).unwrap();
            assert_eq!(status, 0, "so many attempts did not fail as they should, times 256");
        }
    }
    assert!(before == files(), "the child changed a file");

    send("after");
    broker.close().unwrap();
    let broker = Broker::open(&path).unwrap();
    let mut consumer = broker.consumer().group("g").offset_reset(OffsetReset::Earliest).subscribe(["t"]).unwrap();
    let records = consumer.poll(Duration::ZERO).unwrap();
    let values: Vec<_> = records.iter().map(|record| record.value().unwrap().to_vec()).collect();
    assert_eq!(values, [b"before".to_vec(), b"after".to_vec()]);
    assert!(broker.check().unwrap().is_healthy());
}
