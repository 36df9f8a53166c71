//! What compression does to the size of the file, and to the rates of loading, scanning and reading single records. The
//! baseline is the same without; each round goes through all types this build has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use brooklet::{Broker, CompressionType, OffsetReset, TopicPartition};
use tempfile::TempDir;

use crate::bulk::touch;
use crate::harness::payload::{Payload, Random, documents};
use crate::harness::report::Figure;
use crate::harness::sample::Samples;
use crate::harness::{Context, Result, machine, per_second, timed};
use crate::store::{self, TOPIC, consumer, create};

const TYPES: [CompressionType; 3] = [CompressionType::None, CompressionType::Lz4, CompressionType::Zstd];

/// What was measured of one type.
#[derive(Default)]
struct Measured {
    megabytes: Samples,
    ratio: Samples,
    loads: Samples,
    scans: Samples,
    reads: Samples,
}

pub(crate) fn run(context: &mut Context) -> Result {
    let documents = documents(50_000);
    let count = context.pick(100_000, 1_000_000);
    let types: Vec<_> = TYPES.into_iter().filter(|kind| kind.is_supported()).collect();
    let mut measured: Vec<_> = types.iter().map(|_| Measured::default()).collect();
    for _ in 0..context.pick(1, 5) {
        for (kind, measured) in types.iter().zip(&mut measured) {
            let (path, _directory) = load(context, *kind, &documents, count, measured)?;
            measured.megabytes.push(machine::bytes_on_disk(&path) as f64 / 1e6);
            scan(&path, count, measured)?;
            read_anywhere(&path, count, context.pick(500, 5_000), measured)?;
        }
    }
    let Some((plain, compressed)) = measured.split_first() else { return Ok(()) };
    for (kind, measured) in types.iter().skip(1).zip(compressed) {
        let figure = |what: &str, unit, of: fn(&Measured) -> &Samples| {
            let case = format!("{what}, {kind}");
            Figure::new("compression", case, of(measured).median(), unit).against("none", of(plain).median())
        };
        let size = figure("file on disk", "MB", |measured| &measured.megabytes);
        context.report.add(&size.extra("ratio of the chunks", measured.ratio.median()))?;
        context.report.add(&figure("load until closed", "/s", |measured| &measured.loads))?;
        context.report.add(&figure("scan", "/s", |measured| &measured.scans))?;
        let reads = figure("random read", "us", |measured| &measured.reads);
        context.report.add(&reads.extra("p99", measured.reads.p99()))?;
    }
    Ok(())
}

fn load(
    context: &Context,
    kind: CompressionType,
    documents: &[Payload],
    count: u64,
    measured: &mut Measured,
) -> Result<(PathBuf, TempDir)> {
    let directory = context.directory()?;
    let path = directory.path().join("store.brooklet");
    let broker = create(&Broker::builder(), &path, 1)?;
    broker.alter_topic(TOPIC, |config| Ok(config.compression_type(kind)))?;
    let ((), time) = timed(|| {
        store::fill(&broker.producer(), documents, count)?;
        Ok(broker.close()?)
    })?;
    measured.loads.push(per_second(count, time));
    Ok((path, directory))
}

fn scan(path: &Path, count: u64, measured: &mut Measured) -> Result {
    let broker = Broker::open(path)?;
    measured.ratio.push(broker.stats()?.compression_ratio());
    let mut consumer = consumer(&broker, 1, 100_000)?;
    let ((), time) = timed(|| {
        let mut read = 0;
        while read < count {
            read += touch(&consumer.poll(Duration::from_secs(10))?).0;
        }
        Ok(())
    })?;
    measured.scans.push(per_second(count, time));
    Ok(())
}

fn read_anywhere(path: &Path, count: u64, reads: u32, measured: &mut Measured) -> Result {
    let broker = Broker::open(path)?;
    let mut consumer =
        broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(1).assign([(TOPIC, 0)])?;
    let partition = TopicPartition::new(TOPIC, 0);
    let mut random = Random::new(7);
    for _ in 0..reads {
        let offset = random.below(count);
        let (found, time) = timed(|| {
            consumer.seek(&partition, offset)?;
            Ok(touch(&consumer.poll(Duration::ZERO)?).0)
        })?;
        if found != 1 {
            return Err(format!("no record at offset {offset}").into());
        }
        measured.reads.push_micros(time);
    }
    Ok(())
}
