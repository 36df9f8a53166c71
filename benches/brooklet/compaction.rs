//! Compaction by key: how fast it goes through a log, in what steps, what it does to sends that go on meanwhile, and how fast
//! the last record of a key is found.

use std::time::{Duration, Instant};

use brooklet::{Broker, Builder, CleanReport, CleanupPolicy, ProducerRecord};

use crate::bulk::touch;
use crate::harness::payload::{Payload, Random, payloads};
use crate::harness::report::{Figure, Target};
use crate::harness::sample::Samples;
use crate::harness::{Context, Result, timed};
use crate::retention::beside_sends;
use crate::store::{Scratch, TOPIC, consumer};

pub(crate) fn run(context: &mut Context) -> Result {
    for (size, count) in [(100, context.pick(100_000, 5_000_000)), (1024, context.pick(20_000, 500_000))] {
        through_a_log(context, size, count)?;
    }
    let (count, size) = (context.pick(20_000, 500_000), 1024);
    let scratch = filled(context, &payloads(size), count, count / 2)?;
    beside_sends(context, "compaction", &scratch.broker, &payloads(size), || clean(&scratch.broker))?;
    drop(scratch);
    latest(context)
}

/// Cleans only by hand.
fn builder() -> Builder {
    Broker::builder().clean_interval(None)
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// A compacted topic of `count` records of `keys` keys: each comes once, in order, and then they come at random.
fn filled(context: &Context, payloads: &[Payload], count: u64, keys: u64) -> Result<Scratch> {
    let mut scratch = Scratch::new(context, &builder(), 1)?;
    scratch.broker.alter_topic(TOPIC, |config| {
        Ok(config.cleanup_policy(CleanupPolicy::Compact).min_cleanable_dirty_ratio(0.0).segment_bytes(1 << 20))
    })?;
    let producer = scratch.broker.producer();
    let mut random = Random::new(7);
    for (payload, number) in payloads.iter().cycle().zip(0..count) {
        let number = if number < keys { number } else { random.below(keys) };
        let (_, value) = payload.parts();
        drop(producer.send(ProducerRecord::to(TOPIC).key(key(number)).value(value))?);
    }
    producer.flush()?;
    // What was written goes to the disk now, and not while something is measured.
    drop(producer);
    scratch.reopen(&builder())?;
    Ok(scratch)
}

fn clean(broker: &Broker) -> Result<CleanReport> {
    let report = broker.clean(Duration::MAX)?;
    if !report.is_complete || report.compacted == 0 {
        return Err(format!("nothing was compacted: {report}").into());
    }
    Ok(report)
}

fn stored_bytes(broker: &Broker) -> Result<f64> {
    Ok(broker.describe_topic(TOPIC)?.partitions().iter().map(|partition| partition.stored_bytes).sum::<u64>() as f64)
}

/// Reads everything; bytes of chunks in a second.
fn scan(broker: &Broker) -> Result<f64> {
    let bytes = stored_bytes(broker)?;
    let mut consumer = consumer(broker, 1, 100_000)?;
    let ((), time) = timed(|| {
        loop {
            let records = consumer.poll(Duration::ZERO)?;
            if records.is_empty() {
                return Ok(());
            }
            touch(&records);
        }
    })?;
    Ok(bytes / time.as_secs_f64())
}

/// A log of which each key has two records: a part of it is read, and written again without the older ones.
fn through_a_log(context: &mut Context, size: usize, count: u64) -> Result {
    let scratch = filled(context, &payloads(size), count, count / 2)?;
    let mut scans = Samples::default();
    for _ in 0..3 {
        scans.push(scan(&scratch.broker)? / 1e6);
    }
    let before = stored_bytes(&scratch.broker)?;
    let report = clean(&scratch.broker)?;
    let after = stored_bytes(&scratch.broker)?;
    let rate = (before + after) / 1e6 / report.elapsed.as_secs_f64();
    let figure = Figure::new("compaction", format!("{count} x {size} B, read and written"), rate, "MB/s")
        .against("a scan", scans.median())
        .target(Target::RatioAtLeast(0.33))
        .extra("MB before", before / 1e6)
        .extra("MB after", after / 1e6)
        .extra("ms", report.elapsed.as_secs_f64() * 1e3)
        .extra("steps", report.steps as f64)
        .extra("longest step, ms", report.longest_step.as_secs_f64() * 1e3);
    context.report.add(&figure)
}

/// The last record of keys chosen at random, out of ten million.
fn latest(context: &mut Context) -> Result {
    let keys = context.pick(100_000, 10_000_000);
    let scratch = filled(context, &payloads(64), keys + 300_000, keys)?;
    let report = clean(&scratch.broker)?;
    let mut random = Random::new(11);
    let mut times = Samples::default();
    for turn in 0..context.pick(2_000_u64, 60_000) {
        let number = random.below(keys);
        let start = Instant::now();
        let found = scratch.broker.latest(TOPIC, key(number))?;
        // The first ones bring the index into the operating system's memory.
        if turn > context.pick(1_000, 30_000) {
            times.push_micros(start.elapsed());
        }
        if found.is_none_or(|record| record.get().key() != Some(&key(number))) {
            return Err(format!("key {number} was not found").into());
        }
    }
    let figure = Figure::new("latest", format!("of {keys} keys"), times.median(), "us")
        .target(Target::AtMost(20.0))
        .extra("p99", times.p99())
        .extra("ms of compacting", report.elapsed.as_secs_f64() * 1e3);
    context.report.add(&figure)
}
