//! What happens with more of everything: partitions, threads, consumers, larger records, longer logs. These figures are plotted.

use std::thread;
use std::time::{Duration, Instant};

use brooklet::{Broker, Producer};

use crate::bulk::{read_all, sample_point_reads, touch};
use crate::durable::threads_waiting;
use crate::harness::payload::{Payload, payloads};
use crate::harness::raw::{self, Appended};
use crate::harness::report::Figure;
use crate::harness::{Context, Result, Scale, per_second, timed};
use crate::open::clean;
use crate::store::{Scratch, consumer, create, fill, record};

/// Appending to and reading from more and more partitions, each record to the next one.
pub(crate) fn partitions(context: &mut Context) -> Result {
    let size = 100;
    let payloads = payloads(size);
    let count = context.pick(20_000, 1_000_000);
    for partitions in [1, 10, 100, 1_000, 10_000] {
        let mut scratch = Scratch::new(context, &Broker::builder(), partitions)?;
        let raw = raw_append(&scratch, &payloads, count)?;
        let producer = scratch.broker.producer();
        let ((), time) = timed(|| {
            let numbers = (0..partitions).cycle();
            for ((payload, partition), _) in payloads.iter().cycle().zip(numbers).zip(0..count) {
                drop(producer.send(record(payload).partition(partition))?);
            }
            producer.flush()?;
            Ok(scratch.broker.close()?)
        })?;
        let case = format!("{partitions} partitions, {size} B");
        let x = f64::from(partitions);
        let figure = Figure::new("append", &case, per_second(count, time), "/s")
            .against("write in blocks + fdatasync", per_second(count, raw))
            .plotted("partitions", "append", x);
        context.report.add(&figure)?;
        scratch.reopen(&Broker::builder())?;
        let (_, raw) = timed(|| Ok(raw::scan(&scratch.beside("raw"), size)?))?;
        let mut consumer = consumer(&scratch.broker, partitions, 10_000)?;
        let (_, time) = timed(|| read_all(&mut consumer, count))?;
        let figure = Figure::new("scan", &case, per_second(count, time), "/s")
            .against("read in 64 KiB blocks", per_second(count, raw))
            .plotted("partitions", "scan", x);
        context.report.add(&figure)?;
    }
    Ok(())
}

fn raw_append(scratch: &Scratch, payloads: &[Payload], count: u64) -> Result<Duration> {
    let records = payloads.iter().cycle().zip(0..count).map(|(payload, _)| payload);
    let (_, time) = timed(|| Ok(Appended::create(&scratch.beside("raw"))?.write_all_durably(records)?))?;
    Ok(time)
}

/// More producers, waiting for each record or not; more consumers of one partition.
pub(crate) fn threads(context: &mut Context) -> Result {
    for threads in [1, 8, 64] {
        let figure = threads_waiting(context, 100, threads)?.plotted("producers", "each waits", threads as f64);
        context.report.add(&figure)?;
    }
    let payloads = payloads(100);
    let count = context.pick(20_000, 1_000_000);
    for threads in [1, 8, 64] {
        let scratch = Scratch::new(context, &Broker::builder(), 1)?;
        let raw = raw_append(&scratch, &payloads, count)?;
        let producer = scratch.broker.producer();
        let ((), time) = timed(|| pipelined_by(&producer, &payloads, threads, count))?;
        let figure =
            Figure::new("append", format!("{threads} threads, nobody waits, 100 B"), per_second(count, time), "/s")
                .against("write in blocks + fdatasync", per_second(count, raw))
                .plotted("producers", "nobody waits", threads as f64);
        context.report.add(&figure)?;
    }
    consumers(context, &payloads, count)
}

fn pipelined_by(producer: &Producer, payloads: &[Payload], threads: u64, count: u64) -> Result {
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| fill(producer, payloads, count / threads))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a producer panicked")?)
    })
}

/// Consumers of one partition read it together, one poll each in turn: what they read is in the cache after the first.
fn consumers(context: &mut Context, payloads: &[Payload], count: u64) -> Result {
    let mut scratch = Scratch::new(context, &Broker::builder(), 1)?;
    fill(&scratch.broker.producer(), payloads, count)?;
    let mut alone = None;
    for number in [1, 10, 100] {
        scratch.reopen(&Broker::builder())?;
        let mut consumers = (0..number).map(|_| consumer(&scratch.broker, 1, 10_000)).collect::<Result<Vec<_>>>()?;
        let start = Instant::now();
        let mut left = count;
        while left > 0 {
            let mut step = 0;
            for consumer in &mut consumers {
                step = touch(&consumer.poll(Duration::ZERO)?).0;
            }
            left = left.saturating_sub(step);
            if step == 0 {
                return Err("the scan found too few records".into());
            }
        }
        let each = start.elapsed().as_secs_f64() * 1e9 / (count * number) as f64;
        let figure = Figure::new("scan", format!("{number} consumers of a partition, 100 B"), each, "ns each")
            .against("one consumer alone", *alone.get_or_insert(each))
            .plotted("consumers", "a record, for each", number as f64);
        context.report.add(&figure)?;
    }
    Ok(())
}

/// Larger records, longer logs.
pub(crate) fn sizes(context: &mut Context) -> Result {
    for size in [10, 100, 1_000, 10_000, 100_000, 1_000_000] {
        record_size(context, size)?;
    }
    let megabytes: &[u64] = match context.scale {
        Scale::Quick => &[1, 10],
        Scale::Full => &[10, 100, 1_000],
        Scale::Large => &[10, 100, 1_000, 10_000],
    };
    for &megabytes in megabytes {
        log_size(context, megabytes)?;
    }
    Ok(())
}

fn record_size(context: &mut Context, size: usize) -> Result {
    let payloads = payloads(size);
    let bytes = context.pick(4_000_000, 200_000_000_u64).min(2_000_000 * size as u64);
    let count = (bytes / size as u64).max(4);
    let megabytes = |time: Duration| (count * size as u64) as f64 / 1e6 / time.as_secs_f64();
    let mut scratch = Scratch::new(context, &Broker::builder(), 1)?;
    let raw = raw_append(&scratch, &payloads, count)?;
    let producer = scratch.broker.producer();
    let ((), time) = timed(|| {
        fill(&producer, &payloads, count)?;
        Ok(scratch.broker.close()?)
    })?;
    let x = size as f64;
    let figure = Figure::new("append", format!("records of {size} B"), megabytes(time), "MB/s")
        .against("write in blocks + fdatasync", megabytes(raw))
        .plotted("record size", "append", x);
    context.report.add(&figure)?;
    scratch.reopen(&Broker::builder())?;
    let (_, raw) = timed(|| Ok(raw::scan(&scratch.beside("raw"), size)?))?;
    let mut consumer = consumer(&scratch.broker, 1, 100_000)?;
    let ((), time) = timed(|| read_all(&mut consumer, count))?;
    let figure = Figure::new("scan", format!("records of {size} B"), megabytes(time), "MB/s")
        .against("read in blocks", megabytes(raw))
        .plotted("record size", "scan", x);
    context.report.add(&figure)
}

fn log_size(context: &mut Context, megabytes: u64) -> Result {
    let size = 1_000;
    let payloads = payloads(size);
    let count = megabytes * 1_000_000 / size as u64;
    let directory = context.directory()?;
    let (raw, path) = (directory.path().join("raw"), directory.path().join("store.brooklet"));
    let records = payloads.iter().cycle().zip(0..count).map(|(payload, _)| payload);
    let ((), raw_time) = timed(|| Ok(Appended::create(&raw)?.write_all_durably(records)?))?;
    let broker = create(&Broker::builder(), &path, 1)?;
    let ((), time) = timed(|| {
        fill(&broker.producer(), &payloads, count)?;
        Ok(broker.close()?)
    })?;
    let (x, case) = (megabytes as f64, format!("a log of {megabytes} MB"));
    let figure = Figure::new("append", &case, x / time.as_secs_f64(), "MB/s")
        .against("write in blocks + fdatasync", x / raw_time.as_secs_f64())
        .plotted("log size", "append", x);
    context.report.add(&figure)?;
    let (opened, raw_opened) = clean(&path, 3)?;
    let figure = Figure::new("open", &case, opened.median(), "ms")
        .against("write + fdatasync", raw_opened.median())
        .plotted("opening", "open", x);
    context.report.add(&figure)?;
    let broker = Broker::open(&path)?;
    let (reads, raw_reads) = sample_point_reads(&broker, count, &raw, size, 5_000)?;
    let figure = Figure::new("random read", &case, reads.median(), "us").against("pread", raw_reads.median()).plotted(
        "random reads",
        "read",
        x,
    );
    context.report.add(&figure)
}
