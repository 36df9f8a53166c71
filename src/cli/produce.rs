//! `brooklet produce`: sends the lines of the standard input as records.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use brooklet::{Broker, Delivery, Durability, MAX_MESSAGE_BYTES_LIMIT, MAX_PARTITIONS, Producer, ProducerRecord};
use clap::{Args, ValueEnum};

use super::consume::{Bytes, parse_bytes};
use super::failure::{Failure, remark};
use super::progress::Progress;
use super::session::{FileArgs, Session, Stopping};
use super::time::parse_millis;
use super::topics::parse_pair;

const EXAMPLES: &str = "\
A line ends with a newline, or where the input ends; its bytes are taken as they are. When the
command exits with 0, every line is on the disk. If a line fails, the error says its number, and
the lines before it were produced.

Examples:
  seq 1000 | brooklet -f app.brooklet produce numbers --create-topic
  echo 'c-42:3 apples' | brooklet -f app.brooklet produce orders --key-separator :
  brooklet -f app.brooklet produce orders -k '\\t' --header source=import < orders.tsv";

/// Send each line of the standard input as a record
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ProduceArgs {
    /// The topic
    topic: String,
    /// What stands between a line's key and its value; `\t` is a tab
    #[arg(short, long, value_name = "SEP", value_parser = parse_bytes)]
    key_separator: Option<Bytes>,
    /// Send lines without the separator as records without a key
    #[arg(long, requires = "key_separator")]
    ignore_missing_key: bool,
    /// The key of all records
    #[arg(long, conflicts_with = "key_separator")]
    key: Option<String>,
    /// A key or value that is this text is sent as absent
    #[arg(long, value_name = "TEXT", value_parser = parse_bytes)]
    null_marker: Option<Bytes>,
    /// A header of all records; may be repeated
    #[arg(short = 'H', long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    header: Vec<(String, String)>,
    /// The partition; without it, the key decides
    #[arg(short, long, value_name = "N")]
    partition: Option<u32>,
    /// The time of all records: milliseconds since 1970, or a time like 2026-01-31T12:00:00Z; without it, that of sending
    #[arg(long, value_name = "TIME", value_parser = parse_millis)]
    timestamp: Option<i64>,
    /// What each batch waits for: the disk, or only the operating system, which is faster. At the end all is on the disk
    #[arg(long, value_name = "HOW", default_value = "sync")]
    durability: DurabilityArg,
    /// Create the topic, with 1 or so many partitions, and the file, when they are missing
    #[arg(long, value_name = "PARTITIONS", num_args = 0..=1, require_equals = true, default_missing_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PARTITIONS)))]
    create_topic: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DurabilityArg {
    Sync,
    Buffered,
}

impl From<DurabilityArg> for Durability {
    fn from(durability: DurabilityArg) -> Self {
        match durability {
            DurabilityArg::Sync => Durability::Sync,
            DurabilityArg::Buffered => Durability::Buffered { flush_interval: Duration::from_millis(100) },
        }
    }
}

/// Deliveries that nobody waited for yet: so many lines may be on their way to the disk.
const WINDOW: usize = 10_000;

pub(super) fn run(file: &FileArgs, args: &ProduceArgs) -> Result<(), Failure> {
    let builder = Broker::builder().durability(args.durability.into());
    let builder = match args.create_topic {
        None => builder.open_existing(),
        Some(partitions) => builder.auto_create_topics(partitions),
    };
    let broker = builder.open(file.path()?)?;
    // Stopped by a signal, closing has sent what was read, and nothing else says how far it came.
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let farewell = move || match counted.load(Ordering::SeqCst) {
        1 => remark("1 record"),
        count => remark(&format!("{count} records")),
    };
    let summary = Session::start(broker, Stopping::WithFarewell(Box::new(farewell)))?.run(|broker| {
        if args.create_topic.is_none() {
            // Also when there is no line at all.
            broker.describe_topic(&args.topic)?;
        }
        produce(broker, args, &sent)
    })?;
    remark(&summary);
    Ok(())
}

/// Sends all lines and gives a summary.
fn produce(broker: &Broker, args: &ProduceArgs, sent: &AtomicU64) -> Result<String, Failure> {
    let input = io::stdin();
    let mut progress = if input.is_terminal() {
        remark("one line is one record; end with Ctrl-D");
        Progress::hidden()
    } else {
        Progress::on_terminal()
    };
    let mut lines = Lines::new(BufReader::with_capacity(64 << 10, input.lock()));
    let mut window = Window::new(broker.producer());
    let produced = send_lines(&mut lines, args, &mut window, sent, &mut progress);
    progress.clear();
    let acknowledged = window.finish();
    // A line that was sent before the one that ended it all failed first.
    acknowledged.and(produced).map(|()| progress.line())
}

fn send_lines(
    lines: &mut Lines<impl BufRead>,
    args: &ProduceArgs,
    window: &mut Window,
    sent: &AtomicU64,
    progress: &mut Progress,
) -> Result<(), Failure> {
    while let Some((number, line)) = lines.next()? {
        let record = record_of(line, args).map_err(|reason| not_produced(number, reason))?;
        window.send(number, record)?;
        sent.fetch_add(1, Ordering::SeqCst);
        progress.add(1, line.len());
    }
    Ok(())
}

/// The lines of the input, one at a time.
#[derive(Debug)]
struct Lines<R> {
    input: R,
    line: Vec<u8>,
    /// Of the line read last, from 1.
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn new(input: R) -> Self {
        Self { input, line: Vec::new(), number: 0 }
    }

    /// The next line's number, and its bytes without the newline. No more is kept in memory than the largest record may have.
    fn next(&mut self) -> Result<Option<(u64, &[u8])>, Failure> {
        let limit = u64::from(MAX_MESSAGE_BYTES_LIMIT);
        self.line.clear();
        let length = self.input.by_ref().take(limit + 1).read_until(b'\n', &mut self.line).map_err(Failure::input)?;
        if length == 0 {
            return Ok(None);
        }
        self.number += 1;
        match self.line.strip_suffix(b"\n") {
            Some(line) => Ok(Some((self.number, line))),
            None if length as u64 > limit => Err(not_produced(
                self.number,
                format!("it is longer than {limit} bytes, the most that a record may have"),
            )),
            None => Ok(Some((self.number, &self.line))),
        }
    }
}

/// The record that a line says.
fn record_of<'a>(line: &'a [u8], args: &'a ProduceArgs) -> Result<ProducerRecord<'a>, String> {
    let all_have = args.key.as_deref().map(str::as_bytes);
    let (key, value) = match &args.key_separator {
        None => (all_have, line),
        Some(separator) => match split_at_first(line, separator) {
            Some((key, value)) => (Some(key), value),
            None if args.ignore_missing_key => (None, line),
            None => return Err("it has no key separator; add one, or give --ignore-missing-key".to_owned()),
        },
    };
    let is_present = |bytes: &&[u8]| Some(*bytes) != args.null_marker.as_deref();
    let mut record = ProducerRecord::to(args.topic.as_str());
    if let Some(key) = key.filter(is_present) {
        record = record.key(key);
    }
    if let Some(value) = Some(value).filter(is_present) {
        record = record.value(value);
    }
    if let Some(partition) = args.partition {
        record = record.partition(partition);
    }
    if let Some(timestamp) = args.timestamp {
        record = record.timestamp(timestamp);
    }
    for (name, value) in &args.header {
        record = record.header(name.as_str(), value);
    }
    Ok(record)
}

fn split_at_first<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = line.windows(separator.len()).position(|window| window == separator)?;
    Some((line.get(..at)?, line.get(at + separator.len()..)?))
}

/// The lines on their way: sent, and not known to be acknowledged.
#[derive(Debug)]
struct Window {
    producer: Producer,
    deliveries: VecDeque<(u64, Delivery)>,
}

impl Window {
    fn new(producer: Producer) -> Self {
        Self { producer, deliveries: VecDeque::new() }
    }

    fn send(&mut self, line: u64, record: ProducerRecord<'_>) -> Result<(), Failure> {
        let delivery = self.producer.send(record).map_err(|error| not_produced(line, error))?;
        self.deliveries.push_back((line, delivery));
        if self.deliveries.len() > WINDOW { self.wait_for_first() } else { Ok(()) }
    }

    fn wait_for_first(&mut self) -> Result<(), Failure> {
        match self.deliveries.pop_front().map(|(line, delivery)| (line, delivery.wait())) {
            Some((line, Err(error))) => Err(self.lost(line, &error)),
            Some((_, Ok(_))) | None => Ok(()),
        }
    }

    /// Waits for all lines.
    fn finish(mut self) -> Result<(), Failure> {
        while !self.deliveries.is_empty() {
            self.wait_for_first()?;
        }
        Ok(())
    }

    /// The failure of a line that was sent. Lines behind it may have been written once there was room again.
    fn lost(&mut self, line: u64, error: &brooklet::Error) -> Failure {
        let behind = self.deliveries.drain(..).filter_map(|(_, delivery)| delivery.wait().ok()).count();
        match behind {
            0 => not_produced(line, error),
            _ => not_produced(line, format!("{error}; {behind} of the lines behind it were produced")),
        }
    }
}

/// A line failed, and all before it did not.
fn not_produced(line: u64, reason: impl std::fmt::Display) -> Failure {
    let others = match line.saturating_sub(1) {
        0 => String::new(),
        1 => ", the one before it was".to_owned(),
        before => format!(", the {before} before it were"),
    };
    Failure::failed(format!("line {line} was not produced{others}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_bytes_and_the_last_one_needs_no_newline() {
        let mut lines = Lines::new(&b"a\r\n\n\xff\0\nend"[..]);
        for expected in [(1, &b"a\r"[..]), (2, b""), (3, b"\xff\0"), (4, b"end")] {
            assert_eq!(lines.next().unwrap(), Some(expected));
        }
        assert_eq!(lines.next().unwrap(), None);
    }

    #[test]
    fn the_first_separator_ends_the_key() {
        assert_eq!(split_at_first(b"k::v::w", b"::"), Some((&b"k"[..], &b"v::w"[..])));
        assert_eq!(split_at_first(b":v", b":"), Some((&b""[..], &b"v"[..])));
        assert_eq!(split_at_first(b"k:", b":"), Some((&b"k"[..], &b""[..])));
        assert_eq!(split_at_first(b"kv", b":"), None);
        assert_eq!(split_at_first(b"", b"::"), None);
    }
}
