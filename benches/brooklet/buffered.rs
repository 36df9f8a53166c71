//! Appending in `Buffered` mode, each record acknowledged before the next: a system call for each.

use std::time::Duration;

use brooklet::{Broker, Durability};

use crate::harness::payload::payloads;
use crate::harness::raw::Appended;
use crate::harness::report::{Figure, Target};
use crate::harness::sample::Samples;
use crate::harness::{Context, Result, per_second, timed};
use crate::store::{Scratch, record};

/// Records of a slice, a few milliseconds.
const SLICE: u64 = 5_000;

pub(crate) fn run(context: &mut Context) -> Result {
    for size in [100, 1024] {
        one_by_one(context, size)?;
    }
    Ok(())
}

fn one_by_one(context: &mut Context, size: usize) -> Result {
    let builder = Broker::builder().durability(Durability::Buffered { flush_interval: Duration::from_secs(1) });
    let scratch = Scratch::new(context, &builder, 1)?;
    let producer = scratch.broker.producer();
    let payloads = payloads(size);
    let mut raw = Appended::create(&scratch.beside("raw"))?;
    let (mut ours, mut raws) = (Samples::default(), Samples::default());
    let slices = context.pick(20, 300) * 100 / size.max(100) + 10;
    for _ in 0..slices {
        let slice = || payloads.iter().cycle().zip(0..SLICE).map(|(payload, _)| payload);
        let ((), time) = timed(|| {
            for payload in slice() {
                producer.send(record(payload))?.wait()?;
            }
            Ok(())
        })?;
        ours.push(time.as_secs_f64());
        let ((), time) = timed(|| Ok(slice().try_for_each(|payload| raw.write(&payload.bytes))?))?;
        raws.push(time.as_secs_f64());
    }
    // Over all slices, so that checkpoints count; the medians leave out the slices that had to wait for one.
    let rate = |seconds: f64| per_second(SLICE, Duration::from_secs_f64(seconds));
    let figure = Figure::new("buffered append", format!("one by one, {size} B"), rate(ours.mean()), "/s")
        .against("write", rate(raws.mean()))
        .target(Target::RatioAtLeast(0.8))
        .extra("ratio of medians", raws.median() / ours.median());
    context.report.add(&figure)
}
