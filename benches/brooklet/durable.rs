//! Appending durably: every record, or every batch, is on the disk before the next.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use brooklet::{Broker, Producer};

use crate::harness::payload::{Payload, concatenated, payloads};
use crate::harness::raw::{Appended, Overwritten};
use crate::harness::report::{Figure, Target};
use crate::harness::sample::Samples;
use crate::harness::{Context, Result, per_second, timed};
use crate::store::{Journal, Scratch, record};

/// The file that the baseline overwrites.
const RAW_LEN: u64 = 16 << 20;

pub(crate) fn run(context: &mut Context) -> Result {
    for size in [100, 1024] {
        one_by_one(context, size)?;
    }
    for size in [100, 1024] {
        let figure = threads_waiting(context, size, 8)?;
        context.report.add(&figure.target(Target::RatioAtLeast(5.0)))?;
    }
    for size in [100, 1024] {
        for journal in Journal::BOTH {
            batches(context, size, journal)?;
        }
    }
    Ok(())
}

fn one_by_one(context: &mut Context, size: usize) -> Result {
    let scratch = Scratch::new(context, &Broker::builder(), 1)?;
    let producer = scratch.broker.producer();
    let mut raw = Overwritten::create(&scratch.beside("raw"), RAW_LEN)?;
    let payloads = payloads(size);
    let (mut ours, mut raws) = (Samples::default(), Samples::default());
    let end = Instant::now() + context.pick(Duration::from_millis(500), Duration::from_secs(3));
    for payload in payloads.iter().cycle() {
        ours.push_micros(timed(|| Ok(producer.send(record(payload))?.wait()?))?.1);
        raws.push_micros(timed(|| Ok(raw.write_durably(&payload.bytes)?))?.1);
        if Instant::now() >= end {
            break;
        }
    }
    let figure = Figure::new("durable append", format!("1 thread, {size} B"), ours.median(), "us")
        .against("overwrite + fdatasync", raws.median())
        .target(Target::RatioAtMost(1.05))
        .extra("p99", ours.p99())
        .extra("raw p99", raws.p99());
    context.report.add(&figure)
}

/// `threads` threads, each waiting for its own record, in slices that alternate with one thread that appends raw.
pub(crate) fn threads_waiting(context: &Context, size: usize, threads: usize) -> Result<Figure> {
    let directory = context.directory()?;
    let mut raw = Appended::create(&directory.path().join("raw"))?;
    let payloads = payloads(size);
    let slice = context.pick(Duration::from_millis(100), Duration::from_millis(300));
    let (mut ours, mut raws) = (Samples::default(), Samples::default());
    let mut kept = Vec::new();
    for _ in 0..context.pick(3, 9) {
        let scratch = Scratch::new(context, &Broker::builder(), 1)?;
        let producer = scratch.broker.producer();
        let (count, time) = timed(|| appended_by(&producer, &payloads, threads, slice))?;
        ours.push(per_second(count, time));
        // Its checkpoints would slow the raw file down, and so does the file system for a while after files were removed.
        scratch.broker.close()?;
        kept.push(scratch);
        write_for(&mut raw, &payloads, slice)?;
        let (count, time) = timed(|| write_for(&mut raw, &payloads, slice))?;
        raws.push(per_second(count, time));
    }
    let case = format!("{threads} threads waiting, {size} B");
    Ok(Figure::new("durable append", case, ours.median(), "/s").against("1 thread write + fdatasync", raws.median()))
}

/// How many payloads one thread writes durably in this time, one by one.
pub(crate) fn write_for(raw: &mut Appended, payloads: &[Payload], time: Duration) -> Result<u64> {
    let end = Instant::now() + time;
    let mut count = 0;
    for payload in payloads.iter().cycle().take_while(|_| Instant::now() < end) {
        raw.write_durably(&payload.bytes)?;
        count += 1;
    }
    Ok(count)
}

fn appended_by(producer: &Producer, payloads: &[Payload], threads: usize, slice: Duration) -> Result<u64> {
    let end = Instant::now() + slice;
    let total = AtomicU64::new(0);
    let append = || -> brooklet::Result<()> {
        let mut payloads = payloads.iter().cycle();
        while let Some(payload) = payloads.next().filter(|_| Instant::now() < end) {
            producer.send(record(payload))?.wait()?;
            total.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(append)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?.map_err(Into::into))
    })
    .map(|()| total.load(Ordering::Relaxed))
}

/// A thousand records for each wait: sent one by one, and handed over together.
///
/// In slices with a store of their own, closed while the raw file is written: checkpoints would slow the file down as well, and
/// flatter the ratio.
fn batches(context: &mut Context, size: usize, journal: Journal) -> Result {
    let payloads = payloads(size);
    let bytes = concatenated(&payloads);
    let slice = context.pick(10, 60);
    let (mut sent, mut sent_all, mut raws) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..context.pick(2, 5) {
        let directory = context.directory()?;
        let mut raw = Appended::create(&directory.path().join("raw"))?;
        for _ in 0..slice {
            raws.push_micros(timed(|| Ok(raw.write_durably(&bytes)?))?.1);
        }
        for (samples, append) in [(&mut sent, send_and_wait as Append), (&mut sent_all, send_all_and_wait)] {
            let scratch = Scratch::new(context, &Broker::builder(), 1)?;
            let producer = scratch.broker.producer();
            journal.prepare(context, &producer, &payloads)?;
            for _ in 0..slice {
                samples.push_micros(timed(|| append(&producer, &payloads))?.1);
            }
            scratch.broker.close()?;
        }
    }
    for (how, samples) in [("send", sent), ("send_all", sent_all)] {
        let case = format!("1000 x {size} B, {how}{}", journal.suffix());
        let figure = Figure::new("durable batches", case, samples.median(), "us")
            .against("write + fdatasync", raws.median())
            .extra("records/s", 1e9 / samples.median())
            .extra("p99", samples.p99());
        context.report.add(&match journal {
            Journal::Used => figure.target(Target::RatioAtMost(1.2)),
            Journal::New => figure,
        })?;
    }
    Ok(())
}

type Append = fn(&Producer, &[Payload]) -> Result;

fn send_and_wait(producer: &Producer, payloads: &[Payload]) -> Result {
    let mut last = None;
    for payload in payloads {
        last = Some(producer.send(record(payload))?);
    }
    // Groups are committed in order: the last one done, all are.
    last.map(|delivery| delivery.wait()).transpose()?;
    Ok(())
}

fn send_all_and_wait(producer: &Producer, payloads: &[Payload]) -> Result {
    let last = producer.send_all(payloads.iter().map(record))?.pop();
    last.map(|delivery| delivery.wait()).transpose()?;
    Ok(())
}
