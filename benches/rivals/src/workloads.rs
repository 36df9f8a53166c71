//! The work: the rows of brooklet's targets that others can do, too.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::payload::{Payload, Random, concatenated, payloads};
use crate::harness::raw::{self, Appended, Overwritten};
use crate::harness::sample::Samples;
use crate::harness::{Context, Result, per_second, timed};
use crate::rivals::{CONTENDERS, Class, Contender, Rival, bytes_on_disk, wake_up_kafko, wake_up_ours};
use crate::table::{Better, Table};

type Workload = fn(&mut Context) -> Result;

/// All workloads by name.
pub(crate) const ALL: [(&str, Workload); 6] = [
    ("durable", durable),
    ("threads", threads),
    ("batches", batches),
    ("buffered", buffered),
    ("bulk", bulk),
    ("tail", tail),
];

const SIZES: [usize; 2] = [100, 1024];

fn of_class(class: Class) -> impl Iterator<Item = Contender> {
    CONTENDERS.into_iter().filter(move |contender| contender.classes.contains(&class))
}

/// One thread, one record for each wait, against overwriting a preallocated file, operation by operation.
fn durable(context: &mut Context) -> Result {
    for size in SIZES {
        let title = format!("durable append, 1 thread, {size} B (sync)");
        let mut table = Table::new(title, "us", "overwrite + fdatasync, us", Better::Less);
        let payloads = payloads(size);
        for contender in of_class(Class::Sync) {
            let directory = context.directory()?;
            let mut raw = Overwritten::create(&directory.path().join("raw"), 16 << 20)?;
            let rival = (contender.open)(directory.path(), Class::Sync)?;
            let (mut theirs, mut raws) = (Samples::default(), Samples::default());
            let end = Instant::now() + context.pick(Duration::from_millis(200), Duration::from_secs(2));
            for payload in payloads.iter().cycle() {
                theirs.push_micros(timed(|| rival.append(payload))?.1);
                raws.push_micros(timed(|| Ok(raw.write_durably(&payload.bytes)?))?.1);
                if Instant::now() >= end {
                    break;
                }
            }
            rival.close()?;
            table.add(contender.name, theirs.median(), raws.median(), vec![("p99", theirs.p99())]);
        }
        table.print(context)?;
    }
    Ok(())
}

const SLICE: Duration = Duration::from_millis(200);

/// Eight threads, each waiting for its own record, against one thread that appends to a file, in slices.
fn threads(context: &mut Context) -> Result {
    for size in SIZES {
        let title = format!("durable append, 8 threads, {size} B (sync)");
        let mut table = Table::new(title, "/s", "1 thread write + fdatasync, /s", Better::More);
        let payloads = payloads(size);
        for contender in of_class(Class::Sync) {
            let directory = context.directory()?;
            let mut raw = Appended::create(&directory.path().join("raw"))?;
            let (mut theirs, mut raws) = (Samples::default(), Samples::default());
            for _ in 0..context.pick(2, 10) {
                let log = context.directory()?;
                let rival = (contender.open)(log.path(), Class::Sync)?;
                let (count, time) = timed(|| slice_of_threads(&*rival, &payloads))?;
                theirs.push(per_second(count, time));
                // What it does in the background would slow the raw file down.
                rival.close()?;
                let end = Instant::now() + SLICE;
                let (count, time) = timed(|| {
                    let mut count = 0;
                    for payload in payloads.iter().cycle().take_while(|_| Instant::now() < end) {
                        raw.write_durably(&payload.bytes)?;
                        count += 1;
                    }
                    Ok(count)
                })?;
                raws.push(per_second(count, time));
            }
            table.add(contender.name, theirs.median(), raws.median(), Vec::new());
        }
        table.print(context)?;
    }
    Ok(())
}

fn slice_of_threads(rival: &dyn Rival, payloads: &[Payload]) -> Result<u64> {
    let end = Instant::now() + SLICE;
    let total = AtomicU64::new(0);
    let append = || {
        for payload in payloads.iter().cycle().take_while(|_| Instant::now() < end) {
            rival.append(payload)?;
            total.fetch_add(1, Ordering::Relaxed);
        }
        Result::Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(append)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?)
    })?;
    Ok(total.into_inner())
}

/// A thousand records for each sync: in a log that has been used for a while, whose files are used again, and in a new one, whose
/// files grow.
fn batches(context: &mut Context) -> Result {
    for size in SIZES {
        batches_behind(context, size, context.pick(1, 80), "")?;
        batches_behind(context, size, 0, ", new log")?;
    }
    Ok(())
}

/// Commits behind so many of a megabyte, against appending the same bytes to a file, in slices. The contender is closed while the
/// raw file is written: what it does in the background would slow the file down as well, and flatter the ratio.
fn batches_behind(context: &mut Context, size: usize, megabytes: usize, which: &str) -> Result {
    let earlier = payloads(1024);
    let title = format!("1,000 records a commit, {size} B{which} (sync)");
    let mut table = Table::new(title, "us", "write + fdatasync, us", Better::Less);
    let payloads = payloads(size);
    let bytes = concatenated(&payloads);
    for contender in of_class(Class::Batches) {
        let (mut theirs, mut raws) = (Samples::default(), Samples::default());
        for _ in 0..context.pick(1, 4) {
            let directory = context.directory()?;
            let mut raw = Appended::create(&directory.path().join("raw"))?;
            let slice = context.pick(10, 50);
            for _ in 0..slice {
                raws.push_micros(timed(|| Ok(raw.write_durably(&bytes)?))?.1);
            }
            let rival = (contender.open)(directory.path(), Class::Batches)?;
            (0..megabytes).try_for_each(|_| rival.append_batch(&earlier))?;
            for _ in 0..slice {
                theirs.push_micros(timed(|| rival.append_batch(&payloads))?.1);
            }
            rival.close()?;
        }
        table.add(contender.name, theirs.median(), raws.median(), vec![("p99", theirs.p99())]);
    }
    table.print(context)
}

/// One thread, one record for each wait, nothing synced, against plain writes, in slices as above.
fn buffered(context: &mut Context) -> Result {
    for (size, slice) in [(100, context.pick(5_000, 100_000)), (1024, context.pick(1_000, 30_000))] {
        let title = format!("append one by one, {size} B (process)");
        let mut table = Table::new(title, "/s", "write, /s", Better::More);
        let payloads = payloads(size);
        let records = || payloads.iter().cycle().zip(0..slice).map(|(payload, _)| payload);
        for contender in of_class(Class::Process) {
            let (mut theirs, mut raws) = (Samples::default(), Samples::default());
            for _ in 0..context.pick(1, 3) {
                let directory = context.directory()?;
                let mut raw = Appended::create(&directory.path().join("raw"))?;
                let ((), time) = timed(|| Ok(records().try_for_each(|payload| raw.write(&payload.bytes))?))?;
                raws.push(per_second(slice, time));
                let rival = (contender.open)(directory.path(), Class::Process)?;
                let ((), time) = timed(|| records().try_for_each(|payload| rival.append(payload)))?;
                theirs.push(per_second(slice, time));
                rival.close()?;
            }
            table.add(contender.name, theirs.median(), raws.median(), Vec::new());
        }
        table.print(context)?;
    }
    Ok(())
}

/// A bulk load that is on the disk in the end, closing included; then reading it all, and single records.
fn bulk(context: &mut Context) -> Result {
    for (size, count) in [(100, context.pick(100_000, 5_000_000)), (1024, context.pick(10_000, 500_000))] {
        let mut load = Table::new(format!("bulk load, {count} x {size} B"), "/s", "a file, /s", Better::More);
        let mut scan = Table::new(format!("open and scan, {count} x {size} B"), "/s", "read, /s", Better::More);
        let mut read = Table::new(format!("random read, {size} B"), "us", "pread, us", Better::Less);
        let payloads = payloads(size);
        for contender in of_class(Class::Batches) {
            let directory = context.directory()?;
            let (raw, log) = (directory.path().join("raw"), context.directory()?);
            let records = || payloads.iter().cycle().zip(0..count).map(|(payload, _)| payload);
            let ((), raw_time) = timed(|| Ok(Appended::create(&raw)?.write_all_durably(records())?))?;
            let rival = (contender.open)(log.path(), Class::Batches)?;
            let ((), time) = timed(|| {
                rival.load(&mut records())?;
                rival.close()
            })?;
            let on_disk = bytes_on_disk(log.path()) as f64 / (count * size as u64) as f64;
            // walrus has its files elsewhere.
            let extras = if on_disk > 0.1 { vec![("disk/payload", on_disk)] } else { Vec::new() };
            load.add(contender.name, per_second(count, time), per_second(count, raw_time), extras);
            if let Some(scan_all) = contender.scan {
                let (_, raw_time) = timed(|| Ok(raw::scan(&raw, size)?))?;
                let (found, time) = timed(|| scan_all(log.path()))?;
                if found != count {
                    return Err(format!("{} has {found} of {count} payloads", contender.name).into());
                }
                scan.add(contender.name, per_second(count, time), per_second(count, raw_time), Vec::new());
            }
            if contender.reads {
                let rival = (contender.open)(log.path(), Class::Batches)?;
                let (theirs, raws) = reads(&*rival, &raw, size, count, context.pick(1_000, 20_000))?;
                rival.close()?;
                read.add(contender.name, theirs.median(), raws.median(), vec![("p99", theirs.p99())]);
            }
        }
        for table in [load, scan, read] {
            table.print(context)?;
        }
    }
    Ok(())
}

fn reads(rival: &dyn Rival, raw: &Path, size: usize, count: u64, number: u32) -> Result<(Samples, Samples)> {
    let file = std::fs::File::open(raw)?;
    let mut bytes = vec![0; size];
    let mut random = Random::new(7);
    let (mut theirs, mut raws) = (Samples::default(), Samples::default());
    for done in 0..number + number / 4 {
        let at = random.below(count);
        let (len, time) = timed(|| rival.read(at))?;
        if len != size {
            return Err(format!("payload {at} has {len} bytes").into());
        }
        let ((), raw_time) = timed(|| Ok(raw::read_at(&file, &mut bytes, at * size as u64)?))?;
        if done >= number / 4 {
            theirs.push_micros(time);
            raws.push_micros(raw_time);
        }
    }
    Ok((theirs, raws))
}

type WakeUp = fn(&Path, Instant, &Receiver<()>, &Sender<Duration>) -> Result;

/// From before an append until a sleeping reader has the record, in turn with a channel between two threads.
fn tail(context: &mut Context) -> Result {
    let mut table = Table::new("append to a sleeping reader, 100 B (process)", "us", "channel, us", Better::Less);
    for (name, wake_up) in [("brooklet", wake_up_ours as WakeUp), ("kafko", wake_up_kafko)] {
        let directory = context.directory()?;
        let started = Instant::now();
        let (go, goes) = channel();
        let (arrived, arrivals) = channel();
        let (raw, raw_out) = channel::<()>();
        let (raw_arrived, raw_arrivals) = channel();
        let (mut theirs, mut raws) = (Samples::default(), Samples::default());
        thread::scope(|scope| {
            let sender = scope.spawn(move || wake_up(directory.path(), started, &goes, &arrived));
            scope.spawn(move || raw_out.iter().try_for_each(|()| raw_arrived.send(started.elapsed())));
            let (_never, pace) = channel::<()>();
            for _ in 0..context.pick(300, 4_000) {
                let _ = pace.recv_timeout(Duration::from_micros(300));
                let sent = started.elapsed();
                go.send(())?;
                theirs.push_micros(arrivals.recv()?.saturating_sub(sent));
                let _ = pace.recv_timeout(Duration::from_micros(300));
                let sent = started.elapsed();
                raw.send(())?;
                raws.push_micros(raw_arrivals.recv()?.saturating_sub(sent));
            }
            drop((go, raw));
            sender.join().map_err(|_| "the sender panicked")?
        })?;
        // The order to append goes through a channel itself.
        let extras = vec![("without the order's way", theirs.median() - raws.median()), ("p99", theirs.p99())];
        table.add(name, theirs.median(), raws.median(), extras);
    }
    table.print(context)
}
