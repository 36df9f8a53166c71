//! Committing offsets: consumers of a group that commit after every record.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use brooklet::{Broker, Consumer, NewTopic, OffsetReset};

use crate::durable::write_for;
use crate::harness::payload::payloads;
use crate::harness::raw::Appended;
use crate::harness::report::{Figure, Target};
use crate::harness::sample::Samples;
use crate::harness::{Context, Result, per_second, timed};
use crate::store::{Scratch, TOPIC, record};

const MEMBERS: u32 = 8;

pub(crate) fn run(context: &mut Context) -> Result {
    for members in [1, MEMBERS] {
        let figure = commits(context, members)?;
        let figure = if members == MEMBERS { figure.target(Target::RatioAtLeast(5.0)) } else { figure };
        context.report.add(&figure)?;
    }
    let figure = rebalance(context)?;
    context.report.add(&figure)
}

/// Each member is a thread that polls one record, commits, and waits for that, in slices that alternate with one thread that
/// appends raw.
fn commits(context: &Context, members: u32) -> Result<Figure> {
    let directory = context.directory()?;
    let mut raw = Appended::create(&directory.path().join("raw"))?;
    let payloads = payloads(100);
    let slice = context.pick(Duration::from_millis(100), Duration::from_millis(300));
    let (mut ours, mut raws) = (Samples::default(), Samples::default());
    let mut kept = Vec::new();
    for _ in 0..context.pick(3, 9) {
        let scratch = Scratch::new(context, &Broker::builder(), members)?;
        let producer = scratch.broker.producer();
        for payload in payloads.iter().cycle().take(60_000) {
            drop(producer.send(record(payload))?);
        }
        producer.flush()?;
        let (count, time) = timed(|| committed_by(&scratch.broker, members, slice))?;
        ours.push(per_second(count, time));
        scratch.broker.close()?;
        kept.push(scratch);
        write_for(&mut raw, &payloads, slice)?;
        let (count, time) = timed(|| write_for(&mut raw, &payloads, slice))?;
        raws.push(per_second(count, time));
    }
    let case = format!("{members} member{} committing each record", if members == 1 { "" } else { "s" });
    Ok(Figure::new("commits", case, ours.median(), "/s").against("1 thread write + fdatasync", raws.median()))
}

fn member(broker: &Broker) -> brooklet::Result<Consumer> {
    broker.consumer().group("g").offset_reset(OffsetReset::Earliest).max_poll_records(1).subscribe([TOPIC])
}

fn committed_by(broker: &Broker, members: u32, slice: Duration) -> Result<u64> {
    let mut consumers = (0..members).map(|_| member(broker)).collect::<brooklet::Result<Vec<_>>>()?;
    settle(&mut consumers)?;
    let end = Instant::now() + slice;
    let total = AtomicU64::new(0);
    let work = |mut consumer: Consumer| -> brooklet::Result<()> {
        while Instant::now() < end && !consumer.poll(Duration::ZERO)?.is_empty() {
            consumer.commit()?;
            total.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = consumers.into_iter().map(|consumer| scope.spawn(|| work(consumer))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?.map_err(Into::into))
    })
    .map(|()| total.load(Ordering::Relaxed))
}

/// Polls until everybody has what it shall have.
fn settle(consumers: &mut [Consumer]) -> Result {
    for _ in 0..2 {
        for consumer in consumers.iter_mut() {
            drop(consumer.poll(Duration::ZERO)?);
        }
    }
    Ok(())
}

/// From the joining of an eleventh member until everybody has its share of 1,000 partitions.
fn rebalance(context: &Context) -> Result<Figure> {
    let broker = Broker::in_memory()?;
    broker.create_topic(NewTopic::new(TOPIC, 1_000))?;
    let mut consumers = (0..10).map(|_| member(&broker)).collect::<brooklet::Result<Vec<_>>>()?;
    settle(&mut consumers)?;
    let mut times = Samples::default();
    for _ in 0..context.pick(3, 30) {
        consumers.push(member(&broker)?);
        times.push_micros(timed(|| settle(&mut consumers))?.1);
        consumers.pop();
        settle(&mut consumers)?;
    }
    Ok(Figure::new("rebalance", "11th member, 1,000 partitions".to_owned(), times.median(), "us"))
}
