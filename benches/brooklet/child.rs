//! Processes of their own, of this same program: to be killed, or to have nothing in memory but what is measured.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use brooklet::{Broker, Error};

use crate::harness::payload::payloads;
use crate::harness::raw::Appended;
use crate::harness::report::{Figure, Target};
use crate::harness::{Context, Result, Scale, machine};
use crate::store::{create, record};

/// The first argument of a process that a bench starts.
pub(crate) const ARGUMENT: &str = "--child";

/// Does what the parent wants, prints what it wants to know.
pub(crate) fn run(arguments: &[String]) -> Result {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["append", path, count] => append(Path::new(path), count.parse()?),
        ["append-raw", path, count] => append_raw(Path::new(path), count.parse()?),
        ["fill-journal", path] => fill_journal(Path::new(path)),
        _ => Err("a bench starts this with other arguments".into()),
    }
}

fn start(arguments: &[&str]) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    Ok(command.arg(ARGUMENT).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
}

/// Runs a child to its end and gives the numbers that it printed.
fn numbers(arguments: &[&str]) -> Result<Vec<f64>> {
    let output = start(arguments)?.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("the child {arguments:?} failed").into());
    }
    let text = String::from_utf8(output.stdout)?;
    text.split_whitespace().map(|number| Ok(number.parse::<f64>()?)).collect()
}

/// Memory of a process that appends a lot with default options.
pub(crate) fn memory(context: &mut Context) -> Result {
    let gigabytes = if context.scale == Scale::Large { 5.0 } else { context.pick(0.1, 1.0) };
    let records = format!("{:.0}", gigabytes * 1e9 / 1024.0);
    let directory = context.directory()?;
    let (raw, store) = (directory.path().join("raw"), directory.path().join("store.brooklet"));
    let arguments = |kind: &'static str, path: &Path| numbers(&[kind, &path.to_string_lossy(), &records]);
    let raws = arguments("append-raw", &raw)?;
    let ours = arguments("append", &store)?;
    let (Some(&most_raw), [half_way, most]) = (raws.first(), ours.as_slice()) else {
        return Err("a child printed too little".into());
    };
    let figure = Figure::new("memory", format!("appending {gigabytes} GB"), *most, "MB")
        .against("a process that appends to a file", most_raw)
        .target(Target::AtMost(128.0))
        .extra("half way", *half_way);
    context.report.add(&figure)
}

fn append(path: &Path, count: u64) -> Result {
    let broker = create(&Broker::builder(), path, 1)?;
    let producer = broker.producer();
    let payloads = payloads(1024);
    for (payload, number) in payloads.iter().cycle().zip(0..count) {
        drop(producer.send(record(payload))?);
        if number == count / 2 {
            println!("{}", most_memory());
        }
    }
    producer.flush()?;
    println!("{}", most_memory());
    Ok(broker.close()?)
}

fn append_raw(path: &Path, count: u64) -> Result {
    let payloads = payloads(1024);
    let records = payloads.iter().cycle().zip(0..count).map(|(payload, _)| payload);
    Appended::create(path)?.write_all_durably(records)?;
    println!("{}", most_memory());
    Ok(())
}

fn most_memory() -> f64 {
    machine::memory("VmHWM") as f64 / 1e6
}

/// Opens the store in another process, lets it fill the journal without moving anything into the store, and kills it.
pub(crate) fn kill_with_full_journal(store: &Path) -> Result {
    let mut child = start(&["fill-journal", &store.to_string_lossy()])?;
    let stdout = child.stdout.take().ok_or("the child has no output")?;
    let mut line = String::new();
    let read = BufReader::new(stdout).read_line(&mut line);
    child.kill()?;
    child.wait()?;
    read?;
    if line.trim() == "full" { Ok(()) } else { Err("the child could not fill the journal".into()) }
}

fn fill_journal(path: &Path) -> Result {
    let builder = Broker::builder().checkpoint_bytes(usize::MAX).checkpoint_interval(Duration::from_secs(3_600));
    // A send that finds no room fails, and does not make some by a checkpoint.
    let broker = builder.max_block(Duration::ZERO).open(path)?;
    let producer = broker.producer();
    for (number, payload) in payloads(1024).iter().cycle().enumerate() {
        match producer.send(record(payload)) {
            Ok(delivery) => drop(delivery),
            Err(Error::BufferExhausted { .. }) => break,
            Err(error) => return Err(error.into()),
        }
        // Groups are kept small: a large one goes straight into the store.
        if number % 32 == 0 {
            producer.flush()?;
        }
    }
    producer.flush()?;
    println!("full");
    // Until the parent kills this process.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
