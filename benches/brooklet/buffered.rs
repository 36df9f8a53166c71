//! Appending in `Buffered` mode, each record acknowledged before the next: a system call for each.

use std::time::Duration;

use brooklet::{Broker, Durability};

use crate::harness::payload::payloads;
use crate::harness::raw::Appended;
use crate::harness::report::{Figure, Target};
use crate::harness::sample::Samples;
use crate::harness::{Context, Result, per_second, timed};
use crate::store::{Journal, Scratch, record};

pub(crate) fn run(context: &mut Context) -> Result {
    for (size, slice) in [(100, context.pick(20_000, 200_000)), (1024, context.pick(5_000, 50_000))] {
        for journal in Journal::BOTH {
            one_by_one(context, size, slice, journal)?;
        }
    }
    Ok(())
}

/// In slices of `slice` records, each on files of its own, the store closed while the raw file is written.
fn one_by_one(context: &mut Context, size: usize, slice: u64, journal: Journal) -> Result {
    let builder = Broker::builder().durability(Durability::Buffered { flush_interval: Duration::from_secs(1) });
    let payloads = payloads(size);
    let records = || payloads.iter().cycle().zip(0..slice).map(|(payload, _)| payload);
    let (mut ours, mut raws) = (Samples::default(), Samples::default());
    for _ in 0..context.pick(2, 7) {
        let directory = context.directory()?;
        let mut raw = Appended::create(&directory.path().join("raw"))?;
        let ((), time) = timed(|| Ok(records().try_for_each(|payload| raw.write(&payload.bytes))?))?;
        raws.push(per_second(slice, time));
        let scratch = Scratch::new(context, &builder, 1)?;
        let producer = scratch.broker.producer();
        journal.prepare(context, &producer, &payloads)?;
        // Checkpoints run meanwhile, and count where they hold a send up.
        let ((), time) = timed(|| {
            for payload in records() {
                producer.send(record(payload))?.wait()?;
            }
            Ok(())
        })?;
        ours.push(per_second(slice, time));
        scratch.broker.close()?;
    }
    let case = format!("one by one, {size} B{}", journal.suffix());
    let figure = Figure::new("buffered append", case, ours.median(), "/s").against("write", raws.median());
    context.report.add(&match journal {
        Journal::Used => figure.target(Target::RatioAtLeast(0.8)),
        Journal::New => figure,
    })
}
