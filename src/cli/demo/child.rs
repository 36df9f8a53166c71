//! The process that is killed: threads that write and report, consumers that read along.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use brooklet::{Broker, Delivery, OffsetReset, Producer, ProducerRecord};

use super::ChildArgs;
use super::event::{Content, Event, PARTITIONS, THREADS, TOPIC, share};
use super::report::{Place, Report};
use crate::cli::failure::Failure;

/// Consumers that read along.
pub(super) const CONSUMERS: usize = 2;

/// The most events of one report. A thread has two such batches on their way.
const MAX_BATCH: u64 = 500;

/// How many reports a thread makes at least, so that there is a middle at which to be killed.
const MIN_REPORTS: u64 = 50;

/// Records after which a consumer says how far it is.
const READ_REPORT: u64 = 5_000;

pub(super) fn run(args: &ChildArgs) -> Result<(), Failure> {
    end_with_parent()?;
    let broker = Broker::builder().open_existing().open(&args.store)?;
    thread::scope(|scope| {
        let consumers: Vec<_> = (0..CONSUMERS)
            .map(|consumer| {
                let broker = &broker;
                scope.spawn(move || read_along(broker, consumer, args.events))
            })
            .collect();
        let producers: Vec<_> = (0..THREADS)
            .zip(args.from.iter().copied())
            .map(|(thread, from)| {
                let producer = broker.producer();
                scope.spawn(move || write(&producer, thread, from, args.events))
            })
            .collect();
        let written = producers.into_iter().map(join).collect::<Result<Vec<_>, _>>();
        if written.is_err() {
            // The consumers would wait for ever for what was not written.
            let _ = broker.close();
        }
        let read = consumers.into_iter().map(join).collect::<Result<Vec<_>, _>>();
        written.and(read)
    })?;
    if args.to_be_killed {
        loop {
            thread::park();
        }
    }
    Ok(broker.close()?)
}

fn join(thread: thread::ScopedJoinHandle<'_, Result<(), Failure>>) -> Result<(), Failure> {
    thread.join().unwrap_or_else(|_| Err(Failure::failed("a thread panicked")))
}

/// Ends this process when its parent is gone: the parent holds the other end of the standard input.
fn end_with_parent() -> Result<(), Failure> {
    let watch = || {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(1);
    };
    let started = thread::Builder::new().name("parent".to_owned()).spawn(watch);
    started.map(drop).map_err(|error| Failure::failed(format!("can't start a thread: {error}")))
}

/// Writes a thread's events from number `from` on. While one batch is on its way to the disk, the next one is sent.
fn write(producer: &Producer, thread: u32, from: u64, events: u64) -> Result<(), Failure> {
    let end = share(events, thread);
    let batch = (end / MIN_REPORTS).clamp(1, MAX_BATCH);
    let mut content = Content::default();
    let mut on_their_way = VecDeque::new();
    let mut first = from;
    while first < end {
        let behind = end.min(first + batch);
        let mut deliveries = Vec::new();
        for sequence in first..behind {
            Event { thread, sequence }.write(&mut content);
            deliveries.push(producer.send(ProducerRecord::to(TOPIC).key(&content.key).value(&content.value))?);
        }
        on_their_way.push_back((Event { thread, sequence: first }, deliveries));
        if on_their_way.len() > 1 {
            report_first(&mut on_their_way)?;
        }
        first = behind;
    }
    while !on_their_way.is_empty() {
        report_first(&mut on_their_way)?;
    }
    Ok(())
}

/// Waits until a batch is acknowledged, and says so.
fn report_first(on_their_way: &mut VecDeque<(Event, Vec<Delivery>)>) -> Result<(), Failure> {
    let Some((first, deliveries)) = on_their_way.pop_front() else { return Ok(()) };
    let place = |delivery: Delivery| {
        let metadata = delivery.wait()?;
        Ok(Place { partition: metadata.partition(), offset: metadata.offset().get() })
    };
    let places = deliveries.into_iter().map(place).collect::<brooklet::Result<Vec<_>>>()?;
    say(&Report::Acknowledged { first, places })
}

/// Reads everything from the beginning, sleeping whenever there is no more.
fn read_along(broker: &Broker, consumer: usize, events: u64) -> Result<(), Failure> {
    let partitions = (0..PARTITIONS).map(|partition| (TOPIC, partition));
    let mut reader =
        broker.consumer().offset_reset(OffsetReset::Earliest).max_poll_records(5_000).assign(partitions)?;
    let mut next_offsets: HashMap<u32, u64> = HashMap::new();
    let (mut read, mut said) = (0, 0);
    while read < events {
        for record in &reader.poll(Duration::MAX)? {
            let next = next_offsets.entry(record.partition()).or_default();
            if record.offset() != *next {
                let partition = record.partition();
                return Err(Failure::failed(format!(
                    "consumer {consumer} read offset {} of partition {partition}, where {next} was expected",
                    record.offset()
                )));
            }
            *next += 1;
            read += 1;
        }
        if read - said >= READ_REPORT || read >= events {
            said = read;
            say(&Report::Read { consumer, records: read })?;
        }
    }
    Ok(())
}

/// A whole line or, if this process is killed meanwhile, one without its end.
fn say(report: &Report) -> Result<(), Failure> {
    let line = format!("{report}\n");
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(Failure::output)
}
