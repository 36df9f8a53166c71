//! Deleting old records: how long it takes, in what steps, and what it does to sends that go on meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use brooklet::{Broker, Builder, CleanReport, OffsetSpec, TopicPartition};

use crate::harness::payload::{Payload, payloads};
use crate::harness::report::{Figure, Target};
use crate::harness::sample::Samples;
use crate::harness::{Context, Result, timed};
use crate::store::{Scratch, TOPIC, fill, record};

/// How long sends are measured before each clean and after it.
const QUIET: Duration = Duration::from_millis(1_500);

pub(crate) fn run(context: &mut Context) -> Result {
    let megabytes = context.pick(64, 1_000);
    let payloads = payloads(1024);
    let count = megabytes * 1_000_000 / 1024;
    oldest_half(context, &payloads, count)?;
    let scratch = filled(context, &payloads, count)?;
    halve(&scratch.broker)?;
    beside_sends(context, "retention", &scratch.broker, &payloads, || clean(&scratch.broker))?;
    drop(scratch);
    vacuum(context, &payloads, count)
}

/// Cleans only by hand; sends wait for their syncs.
fn builder() -> Builder {
    Broker::builder().clean_interval(None)
}

fn filled(context: &Context, payloads: &[Payload], count: u64) -> Result<Scratch> {
    let mut scratch = Scratch::new(context, &builder(), 1)?;
    fill(&scratch.broker.producer(), payloads, count)?;
    // What was written goes to the disk now, and not while something is measured.
    scratch.reopen(&builder())?;
    Ok(scratch)
}

/// Lets half of what is stored go.
fn halve(broker: &Broker) -> Result {
    let stored: u64 = broker.describe_topic(TOPIC)?.partitions().iter().map(|partition| partition.stored_bytes).sum();
    Ok(broker.alter_topic(TOPIC, |config| Ok(config.retention_bytes(Some(stored / 2))))?)
}

fn clean(broker: &Broker) -> Result<CleanReport> {
    let report = broker.clean(Duration::MAX)?;
    if !report.is_complete || report.segments == 0 {
        return Err(format!("nothing was cleaned: {report}").into());
    }
    Ok(report)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn oldest_half(context: &mut Context, payloads: &[Payload], count: u64) -> Result {
    let scratch = filled(context, payloads, count)?;
    halve(&scratch.broker)?;
    let report = clean(&scratch.broker)?;
    let megabytes = report.bytes as f64 / 1e6;
    let case = format!("the oldest {megabytes:.0} MB of {:.0} MB", count as f64 * 1024.0 / 1e6);
    let figure = Figure::new("retention", case, millis(report.elapsed), "ms")
        .target(Target::AtMost(300.0))
        .extra("steps", report.steps as f64);
    context.report.add(&figure)?;
    let figure = Figure::new("retention", "longest step", millis(report.longest_step), "ms");
    context.report.add(&figure.target(Target::AtMost(20.0)))
}

/// One thread sends durably, one record after the other; another one cleans and, in between, does not.
pub(crate) fn beside_sends(
    context: &mut Context,
    bench: &str,
    broker: &Broker,
    payloads: &[Payload],
    clean: impl FnOnce() -> Result<CleanReport>,
) -> Result {
    let (stop, cleaning) = (AtomicBool::new(false), AtomicBool::new(false));
    let (during, quiet, report) = thread::scope(|scope| -> Result<_> {
        let sender = scope.spawn(|| send_until(broker, payloads, &stop, &cleaning));
        thread::sleep(QUIET);
        cleaning.store(true, Ordering::SeqCst);
        let cleaned = clean();
        cleaning.store(false, Ordering::SeqCst);
        thread::sleep(QUIET);
        stop.store(true, Ordering::SeqCst);
        let (during, quiet) = sender.join().map_err(|_| "the sender panicked")??;
        Ok((during, quiet, cleaned?))
    })?;
    let figure = Figure::new(bench, "a durable send meanwhile", during.median(), "us")
        .against("the same without", quiet.median())
        .target(Target::RatioAtMost(1.2))
        .extra("p99", during.p99())
        .extra("p99 without", quiet.p99())
        .extra("ms of cleaning", millis(report.elapsed))
        .extra("longest step", millis(report.longest_step));
    context.report.add(&figure)
}

/// What each send took, during the clean and otherwise.
fn send_until(
    broker: &Broker,
    payloads: &[Payload],
    stop: &AtomicBool,
    cleaning: &AtomicBool,
) -> Result<(Samples, Samples)> {
    let producer = broker.producer();
    let (mut during, mut quiet) = (Samples::default(), Samples::default());
    for payload in payloads.iter().cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
        let in_clean = cleaning.load(Ordering::Relaxed);
        let start = Instant::now();
        producer.send(record(payload))?.wait()?;
        let samples = if in_clean { &mut during } else { &mut quiet };
        samples.push_micros(start.elapsed());
    }
    Ok((during, quiet))
}

fn vacuum(context: &mut Context, payloads: &[Payload], count: u64) -> Result {
    let scratch = filled(context, payloads, count)?;
    let ((), deleted) = timed(|| {
        scratch.broker.delete_records(&TopicPartition::new(TOPIC, 0), OffsetSpec::Latest)?;
        Ok(())
    })?;
    let report = scratch.broker.vacuum()?;
    let figure = Figure::new("vacuum", "after everything was deleted", report.bytes_after as f64 / 1e6, "MB")
        .target(Target::AtMost(5.0))
        .extra("MB before", report.bytes_before as f64 / 1e6)
        .extra("ms", millis(report.elapsed))
        .extra("ms of deleting", millis(deleted));
    context.report.add(&figure)
}
