//! Retention that waits for slow consumer groups: each row of the table in `TopicConfig`'s documentation.
//!
//! Segments hold one record of an hour each. The topic's own limit lets everything go that is older than two hours.

use std::time::Duration;

use brooklet::{OffsetReset, ProducerRecord, TopicConfig};

use crate::support::{NOW, TestBroker, bounds, poll_all, tp};

const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MS: i64 = 3_600_000;

fn config() -> TopicConfig {
    TopicConfig::default().segment_bytes(1).retention(Some(2 * HOUR)).uncommitted_retention(Some(6 * HOUR))
}

/// Ten records, the first one ten hours old and the last one just one.
fn broker_with(config: TopicConfig) -> TestBroker {
    let broker = TestBroker::new().with_configured_topic("t", 1, config);
    let producer = broker.producer();
    for hours in (1..=10).rev() {
        let record = ProducerRecord::to("t").partition(0).timestamp(NOW - hours * HOUR_MS).value("x");
        drop(producer.send(record).unwrap());
    }
    producer.flush().unwrap();
    broker
}

/// Cleans; where the log starts then.
fn start_after_clean(broker: &TestBroker) -> u64 {
    assert!(broker.clean(Duration::MAX).unwrap().is_complete);
    bounds(broker, "t", 0).0.get()
}

/// What a record takes in the store.
fn bytes_of_one() -> u64 {
    let mut broker = broker_with(TopicConfig::default().segment_bytes(1));
    broker.reopen();
    broker.describe_topic("t").unwrap().partitions()[0].stored_bytes / 10
}

fn commit(broker: &TestBroker, group: &str, offset: u64) {
    broker.alter_group_offsets(group, [(("t", 0), offset)]).unwrap();
}

#[test]
fn without_groups_only_the_limits_count() {
    assert_eq!(start_after_clean(&broker_with(config())), 8);
    let unlimited = config().retention(None);
    assert_eq!(start_after_clean(&broker_with(unlimited)), 0);
}

#[test]
fn what_a_live_group_has_not_committed_waits_up_to_the_cap_of_age() {
    let mut broker = broker_with(config());
    commit(&broker, "fast", 9);
    commit(&broker, "slow", 6);
    assert_eq!(start_after_clean(&broker), 6);
    commit(&broker, "slow", 5);
    assert_eq!(start_after_clean(&broker), 6);
    // The record at 6 is four hours old, and gets older.
    broker.clock.advance(2 * HOUR);
    assert_eq!(start_after_clean(&broker), 6);
    broker.reopen();
    assert_eq!(start_after_clean(&broker), 6);
    broker.clock.advance(Duration::from_millis(1));
    assert_eq!(start_after_clean(&broker), 7);
    commit(&broker, "slow", 9);
    assert_eq!(start_after_clean(&broker), 9);
}

#[test]
fn a_cap_comes_first() {
    let broker = broker_with(config());
    commit(&broker, "slow", 0);
    assert_eq!(start_after_clean(&broker), 4);
}

#[test]
fn a_cap_of_size_comes_first_and_never_takes_what_the_limits_keep() {
    let each = bytes_of_one();
    let config = config().uncommitted_retention(None).uncommitted_retention_bytes(Some(5 * each + each / 2));
    let broker = broker_with(config);
    commit(&broker, "slow", 0);
    assert_eq!(start_after_clean(&broker), 4);
    // Two records are within the topic's own limits.
    broker.alter_topic("t", |config| Ok(config.uncommitted_retention_bytes(Some(0)))).unwrap();
    assert_eq!(start_after_clean(&broker), 8);
}

#[test]
fn an_idle_group_is_not_waited_for_unless_it_has_members() {
    let broker = broker_with(config().uncommitted_retention(None).uncommitted_idle(HOUR));
    commit(&broker, "slow", 3);
    assert_eq!(start_after_clean(&broker), 3);
    let builder = broker.consumer().group("members").offset_reset(OffsetReset::Earliest);
    // The background thread may look at it behind the hour.
    let mut member = builder.max_poll_interval(2 * HOUR).subscribe(["t"]).unwrap();
    assert_eq!(poll_all(&mut member).len(), 7);
    member.commit_offsets([(tp("t", 0), 5)]).unwrap();
    broker.clock.advance(HOUR);
    assert_eq!(start_after_clean(&broker), 5);
    member.close().unwrap();
    assert_eq!(start_after_clean(&broker), 9);
}

#[test]
fn a_member_that_has_committed_nothing_may_want_everything() {
    let broker = broker_with(config().uncommitted_retention(None));
    let mut member = broker.consumer().group("new").offset_reset(OffsetReset::Earliest).subscribe(["t"]).unwrap();
    assert_eq!(poll_all(&mut member).len(), 10);
    assert_eq!(start_after_clean(&broker), 0);
    member.commit().unwrap();
    assert_eq!(start_after_clean(&broker), 8);
}

#[test]
fn a_deleted_group_is_not_waited_for() {
    let broker = broker_with(config());
    commit(&broker, "slow", 6);
    assert_eq!(start_after_clean(&broker), 6);
    broker.delete_group("slow").unwrap();
    assert_eq!(start_after_clean(&broker), 8);
}

#[test]
fn the_brokers_limit_and_a_deletion_wait_for_nobody() {
    let each = bytes_of_one();
    let broker = TestBroker::with(|builder| builder.max_bytes(Some(3 * each + each / 2))).with_configured_topic(
        "t",
        1,
        config().uncommitted_retention(None),
    );
    let producer = broker.producer();
    for hours in (1..=10).rev() {
        let record = ProducerRecord::to("t").partition(0).timestamp(NOW - hours * HOUR_MS).value("x");
        drop(producer.send(record).unwrap());
    }
    producer.flush().unwrap();
    commit(&broker, "slow", 2);
    assert_eq!(start_after_clean(&broker), 7);
    assert_eq!(broker.delete_records(&tp("t", 0), 9).unwrap(), 9);
}
