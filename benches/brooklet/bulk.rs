//! A bulk load with everything durable at the end, then reading it: from the start, and anywhere.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use brooklet::{Broker, Consumer, ConsumerRecords, OffsetReset, TopicPartition};
use tempfile::TempDir;

use crate::harness::payload::{Payload, Random, payloads};
use crate::harness::raw::{self, Appended};
use crate::harness::report::{Figure, Target};
use crate::harness::sample::Samples;
use crate::harness::{Context, Result, file_len, machine, per_second, timed};
use crate::store::{self, TOPIC, consumer, create};

/// What a consumer's builder has when nobody says otherwise.
const DEFAULT_MAX_POLL_RECORDS: usize = 500;

pub(crate) fn run(context: &mut Context) -> Result {
    for size in [100, 1024] {
        load_and_read(context, size)?;
    }
    Ok(())
}

/// What was loaded, in a store and in a plain file.
struct Loaded {
    store: PathBuf,
    raw: PathBuf,
    size: usize,
    count: u64,
    /// Removes the files.
    _directory: TempDir,
}

fn load_and_read(context: &mut Context, size: usize) -> Result {
    let loaded = load(context, size)?;
    scan(context, &loaded, 100_000, Some(if size == 100 { 25.0 / 69.0 } else { 4.5 / 8.4 }))?;
    scan(context, &loaded, DEFAULT_MAX_POLL_RECORDS, None)?;
    point_reads(context, &loaded, &Broker::open(&loaded.store)?, "")?;
    // Chunks take a little more memory than records, and half of the cache is redb's.
    let cached = Broker::builder().cache_size(usize::try_from(loaded.count)? * loaded.size * 3).open(&loaded.store)?;
    read_all(&mut consumer(&cached, 1, DEFAULT_MAX_POLL_RECORDS)?, loaded.count)?;
    point_reads(context, &loaded, &cached, ", all in `cache_size`")
}

fn load(context: &mut Context, size: usize) -> Result<Loaded> {
    let payloads = payloads(size);
    let count = if size == 100 { context.pick(200_000, 5_000_000) } else { context.pick(20_000, 500_000) };
    let (mut acknowledged, mut closed, mut raws) = (Samples::default(), Samples::default(), Samples::default());
    let mut kept = None;
    for _ in 0..context.pick(1, 5) {
        // Each writes into memory that the other one has just given back: see `touch_memory`.
        drop(kept.take());
        let directory = context.directory()?;
        let raw = directory.path().join("raw");
        raw::touch_memory(&raw, count * size as u64)?;
        let ((), time) = timed(|| load_raw(&raw, &payloads, count))?;
        raws.push(per_second(count, time));
        raw::remove(&raw)?;
        let path = directory.path().join("store.brooklet");
        let broker = create(&Broker::builder(), &path, 1)?;
        let ((), flushed) = timed(|| store::fill(&broker.producer(), &payloads, count))?;
        let ((), moved) = timed(|| Ok(broker.close()?))?;
        acknowledged.push(per_second(count, flushed));
        closed.push(per_second(count, flushed + moved));
        kept = Some(Loaded { store: path, raw, size, count, _directory: directory });
    }
    let loaded = kept.ok_or("nothing was loaded")?;
    load_raw(&loaded.raw, &payloads, count)?;
    let payload = count * size as u64;
    let (least, most) = if size == 100 { (0.4, 1.2) } else { (0.6, 1.1) };
    // Until `close` returns: then the store alone has everything. The best of the rounds, on both sides: in the others a virtual
    // machine got memory or blocks of the disk for the first time, and whose turn it was had to wait for that.
    let figure = Figure::new("bulk load", format!("{count} x {size} B, until closed"), closed.most(), "/s")
        .against("write in blocks + fdatasync", raws.most())
        .target(Target::RatioAtLeast(least))
        .extra("MB/s", closed.most() * size as f64 / 1e6)
        .extra("median, /s", closed.median())
        .extra("slowest, /s", closed.least())
        .extra("raw median, /s", raws.median())
        .extra("until durable, /s", acknowledged.most());
    context.report.add(&figure)?;
    let file = Figure::new("file size", format!("{size} B, after close"), file_len(&loaded.store)? as f64 / 1e6, "MB")
        .against("payload", payload as f64 / 1e6)
        .target(Target::RatioAtMost(most));
    context.report.add(&file)?;
    // The file may have holes.
    let on_disk = machine::bytes_on_disk(&loaded.store) as f64 / 1e6;
    let space = Figure::new("space on disk", format!("{size} B, after close"), on_disk, "MB");
    context.report.add(&space.against("payload", payload as f64 / 1e6))?;
    Ok(loaded)
}

fn load_raw(path: &Path, payloads: &[Payload], count: u64) -> Result {
    let records = payloads.iter().cycle().zip(0..count).map(|(payload, _)| payload);
    Ok(Appended::create(path)?.write_all_durably(records)?)
}

/// Reads everything through a broker that was just opened; the operating system has the file in memory.
fn scan(context: &mut Context, loaded: &Loaded, max_poll_records: usize, target: Option<f64>) -> Result {
    let (mut ours, mut raws) = (Samples::default(), Samples::default());
    for _ in 0..context.pick(2, 5) {
        let ((count, _), time) = timed(|| Ok(raw::scan(&loaded.raw, loaded.size)?))?;
        raws.push(per_second(count, time));
        let broker = Broker::open(&loaded.store)?;
        let mut consumer = consumer(&broker, 1, max_poll_records)?;
        let ((), time) = timed(|| read_all(&mut consumer, loaded.count))?;
        ours.push(per_second(loaded.count, time));
    }
    let case = format!("{} B, {max_poll_records} a poll", loaded.size);
    let figure = Figure::new("scan", case, ours.median(), "/s").against("read in 64 KiB blocks", raws.median());
    context.report.add(&match target {
        Some(least) => figure.target(Target::RatioAtLeast((least * 100.0).round() / 100.0)),
        None => figure,
    })
}

/// Reads so many records, and touches them.
pub(crate) fn read_all(consumer: &mut Consumer, count: u64) -> Result {
    let mut read = 0;
    while read < count {
        let records = consumer.poll(Duration::from_secs(10))?;
        if records.is_empty() {
            return Err("the scan found too few records".into());
        }
        read += touch(&records).0;
    }
    Ok(())
}

/// Touches the ends of every key and value; the checksum of their chunk has read every byte.
pub(crate) fn touch(records: &ConsumerRecords) -> (u64, u64) {
    let ends = |bytes: Option<&[u8]>| {
        let bytes = bytes.unwrap_or_default();
        u64::from(bytes.first().copied().unwrap_or(0)) + u64::from(bytes.last().copied().unwrap_or(0))
    };
    let (mut count, mut sum) = (0, 0_u64);
    for record in records {
        sum = sum.wrapping_add(ends(record.key()) + ends(record.value()));
        count += 1;
    }
    (count, std::hint::black_box(sum))
}

/// Reads single records anywhere, each beside a `pread` of as many bytes.
fn point_reads(context: &mut Context, loaded: &Loaded, broker: &Broker, cached: &str) -> Result {
    let (ours, raws) = sample_point_reads(broker, loaded.count, &loaded.raw, loaded.size, context.pick(2_000, 50_000))?;
    let figure = Figure::new("random read", format!("{} B{cached}", loaded.size), ours.median(), "us")
        .against("pread", raws.median())
        .target(Target::AtMost(5.0))
        .extra("p99", ours.p99());
    context.report.add(&figure)
}

pub(crate) fn sample_point_reads(
    broker: &Broker,
    count: u64,
    raw: &Path,
    size: usize,
    reads: u32,
) -> Result<(Samples, Samples)> {
    let mut consumer =
        broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(1).assign([(TOPIC, 0)])?;
    let partition = TopicPartition::new(TOPIC, 0);
    let raw = File::open(raw)?;
    let mut bytes = vec![0; size];
    let mut random = Random::new(7);
    let (mut ours, mut raws) = (Samples::default(), Samples::default());
    let warm_up = reads / 4;
    for read in 0..reads + warm_up {
        let offset = random.below(count);
        let (found, time) = timed(|| {
            consumer.seek(&partition, offset)?;
            let records = consumer.poll(Duration::ZERO)?;
            touch(&records);
            Ok(records.len())
        })?;
        if found != 1 {
            return Err(format!("no record at offset {offset}").into());
        }
        let ((), raw_time) = timed(|| Ok(raw::read_at(&raw, &mut bytes, offset * size as u64)?))?;
        if read >= warm_up {
            ours.push_micros(time);
            raws.push_micros(raw_time);
        }
    }
    Ok((ours, raws))
}
