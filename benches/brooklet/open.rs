//! Opening a store: after a clean close, and after a kill with the journal full.

use std::fs;
use std::path::Path;

use brooklet::Broker;

use crate::child::kill_with_full_journal;
use crate::harness::payload::payloads;
use crate::harness::raw::Appended;
use crate::harness::report::{Figure, Target};
use crate::harness::sample::Samples;
use crate::harness::{Context, Result, Scale, file_len, timed};
use crate::store::{create, fill};

/// The record size of these stores.
const SIZE: u64 = 1024;

pub(crate) fn run(context: &mut Context) -> Result {
    let sizes: &[u64] = match context.scale {
        Scale::Quick => &[20],
        Scale::Full => &[100, 1_000],
        Scale::Large => &[100, 1_000, 10_000],
    };
    for &megabytes in sizes {
        open(context, megabytes)?;
    }
    Ok(())
}

fn open(context: &mut Context, megabytes: u64) -> Result {
    let directory = context.directory()?;
    let path = directory.path().join("store.brooklet");
    let broker = create(&Broker::builder(), &path, 1)?;
    fill(&broker.producer(), &payloads(1024), megabytes * 1_000_000 / SIZE)?;
    broker.close()?;
    let rounds = context.pick(2, 7);
    let case = format!("{megabytes} MB");
    let (opened, raw) = clean(&path, rounds)?;
    let figure = Figure::new("open", format!("{case}, after close"), opened.median(), "ms")
        .against("write + fdatasync", raw.median())
        .target(Target::AtMost(5.0));
    context.report.add(&figure)?;
    let (opened, raw) = killed(&path, rounds)?;
    let figure = Figure::new("open", format!("{case}, killed, journal full"), opened.median(), "ms")
        .against("read and write the journal", raw.median())
        .target(Target::AtMost(100.0));
    context.report.add(&figure)
}

/// The baseline is one durable write to a new file: opening begins a session, which has to be on the disk.
pub(crate) fn clean(path: &Path, rounds: u32) -> Result<(Samples, Samples)> {
    let (mut ours, mut raws) = (Samples::default(), Samples::default());
    let raw_path = path.with_extension("raw");
    for _ in 0..rounds {
        let (broker, time) = timed(|| Ok(Broker::open(path)?))?;
        ours.push(time.as_secs_f64() * 1e3);
        broker.close()?;
        let ((), time) = timed(|| Ok(Appended::create(&raw_path)?.write_durably(&[1; 4096])?))?;
        raws.push(time.as_secs_f64() * 1e3);
        fs::remove_file(&raw_path)?;
    }
    Ok((ours, raws))
}

/// The baseline reads as many bytes as the journal has and writes them durably to another file.
fn killed(path: &Path, rounds: u32) -> Result<(Samples, Samples)> {
    let (mut ours, mut raws) = (Samples::default(), Samples::default());
    let journal = path.with_file_name("store.brooklet-journal");
    let raw_path = path.with_extension("raw");
    for _ in 0..rounds {
        kill_with_full_journal(path)?;
        let len = file_len(&journal)?;
        if len < 16 << 20 {
            return Err(format!("the killed broker left a journal of only {len} bytes").into());
        }
        let ((), time) = timed(|| {
            let bytes = fs::read(&journal)?;
            Ok(Appended::create(&raw_path)?.write_durably(&bytes)?)
        })?;
        raws.push(time.as_secs_f64() * 1e3);
        fs::remove_file(&raw_path)?;
        let (broker, time) = timed(|| Ok(Broker::open(path)?))?;
        ours.push(time.as_secs_f64() * 1e3);
        broker.close()?;
    }
    Ok((ours, raws))
}
