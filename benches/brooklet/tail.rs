//! At the head of the log: how soon a sleeping consumer has a record, and what sleeping costs.

use std::thread;
use std::time::{Duration, Instant};

use brooklet::{Broker, Consumer, Durability, Error, TopicPartition};
use crossbeam_channel::{Receiver, Sender, bounded, never, unbounded};

use crate::harness::report::{Figure, Target};
use crate::harness::sample::Samples;
use crate::harness::{Context, Result, machine};
use crate::store::{Scratch, TOPIC};

pub(crate) fn run(context: &mut Context) -> Result {
    wake_up(context)?;
    idle(context)
}

/// Between sends, so that the consumer sleeps when the next one comes.
const PACE: Duration = Duration::from_micros(300);

/// From before `send` until the consumer's `poll` returned with the record, in turn with a bare channel between two threads.
fn wake_up(context: &mut Context) -> Result {
    let builder = Broker::builder().durability(Durability::Buffered { flush_interval: Duration::from_secs(1) });
    let scratch = Scratch::new(context, &builder, 1)?;
    let producer = scratch.broker.producer();
    let started = Instant::now();
    let (arrivals_in, arrivals) = unbounded();
    let mut consumer = scratch.broker.consumer().assign([(TOPIC, 0)])?;
    // Now, and not at the first `poll`: that may come behind the first record.
    consumer.position(&TopicPartition::new(TOPIC, 0))?;
    let waker = consumer.waker();
    let (channel, channel_out) = bounded::<u64>(16);
    let (raw_arrivals_in, raw_arrivals) = unbounded();
    let (mut ours, mut raws) = (Samples::default(), Samples::default());
    thread::scope(|scope| {
        let reader = scope.spawn(move || read(consumer, started, &arrivals_in));
        scope.spawn(move || receive(&channel_out, started, &raw_arrivals_in));
        for _ in 0..context.pick(500, 8_000) {
            pace();
            let sent = Instant::now();
            producer.send(brooklet::ProducerRecord::to(TOPIC).value([7; 100]))?.wait()?;
            ours.push_micros((started + arrivals.recv()?).saturating_duration_since(sent));
            pace();
            let sent = Instant::now();
            channel.send(1)?;
            raws.push_micros((started + raw_arrivals.recv()?).saturating_duration_since(sent));
        }
        drop(channel);
        waker.wake();
        reader.join().map_err(|_| "the reader panicked")?
    })?;
    let figure = Figure::new("append to poll", "sleeping consumer, 100 B", ours.median(), "us")
        .against("channel hand-over", raws.median())
        .target(Target::AtMost(30.0))
        .extra("p99", ours.p99())
        .extra("raw p99", raws.p99());
    context.report.add(&figure)
}

/// Waits for a channel on which nothing comes.
fn pace() {
    let _ = never::<()>().recv_timeout(PACE);
}

fn read(mut consumer: Consumer, started: Instant, arrivals: &Sender<Duration>) -> Result {
    loop {
        match consumer.poll(Duration::MAX) {
            Ok(records) => {
                let now = started.elapsed();
                for _ in &records {
                    arrivals.send(now)?;
                }
            }
            Err(Error::Wakeup) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn receive(channel: &Receiver<u64>, started: Instant, arrivals: &Sender<Duration>) {
    for _ in channel {
        if arrivals.send(started.elapsed()).is_err() {
            return;
        }
    }
}

const SLEEPERS: usize = 100;

/// Processor time of a broker with sleeping consumers. Doing nothing is what is measured.
fn idle(context: &mut Context) -> Result {
    let scratch = Scratch::new(context, &Broker::builder(), 1)?;
    let (wakers, threads): (Vec<_>, Vec<_>) = (0..SLEEPERS)
        .map(|_| {
            let mut consumer = scratch.broker.consumer().assign([(TOPIC, 0)])?;
            let waker = consumer.waker();
            let thread = thread::spawn(move || while consumer.poll(Duration::MAX).is_ok() {});
            Ok((waker, thread))
        })
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .unzip();
    let period = context.pick(Duration::from_millis(500), Duration::from_secs(2));
    // The threads go to sleep first.
    let _ = never::<()>().recv_timeout(Duration::from_millis(100));
    let before = machine::cpu_time_of_others();
    let _ = never::<()>().recv_timeout(period);
    let spent = machine::cpu_time_of_others().saturating_sub(before);
    wakers.iter().for_each(brooklet::Waker::wake);
    threads
        .into_iter()
        .try_for_each(|thread: thread::JoinHandle<()>| thread.join().map_err(|_| "a consumer panicked"))?;
    let micros = spent.as_secs_f64() * 1e6 / period.as_secs_f64();
    let figure =
        Figure::new("idle", format!("{SLEEPERS} sleeping consumers"), micros, "us/s").target(Target::AtMost(100.0));
    context.report.add(&figure)
}
