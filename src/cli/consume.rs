//! `brooklet consume`: writes the records of a topic to the standard output.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::str::FromStr;
use std::time::Duration;

use brooklet::{
    Broker, Consumer, ConsumerRecord, ConsumerRecords, OffsetReset, OffsetSpec, PartitionDescription, TopicPartition,
};
use clap::Args;

use super::escape::{Escaping, unescape};
use super::failure::Failure;
use super::json;
use super::layout::{Layout, Part};
use super::session::{FileArgs, Session, Stopping};
use super::time::parse_millis;

const EXAMPLES: &str = "\
--from is one of
  beginning, end
  OFFSET                      that offset, of each partition that is read
  -N                          the last N records of each partition
  @MILLIS, @TIME              the first record at or after a time: milliseconds since 1970,
                              or 2026-01-31T12:00:00Z

--format knows %k key, %v value, %o offset, %p partition, %t topic, %T timestamp, %h headers,
%K and %V the lengths of key and value (-1 if absent), %% a percent sign, and the escapes \\n \\t
\\r \\0 \\\\ \\x1f. No newline is added.

--json writes one object in each line: topic, partition, offset, timestamp, timestamp_type, key,
value, headers. Bytes that are not UTF-8 are {\"base64\": ..}; an absent key or value is null.

A terminal gets control characters as escapes such as \\x1b. A pipe or a file gets the bytes as
they are, unless --escape is given.

Examples:
  brooklet -f app.brooklet consume orders
  brooklet -f app.brooklet consume orders --from -10 --print key,offset
  brooklet -f app.brooklet consume orders --from @2026-01-31T12:00:00Z --json | jq .value
  brooklet -f app.brooklet consume orders --partition 0 --from 42 --max 1 --format '%k\\t%v\\n'";

/// Print the records of a topic
///
/// Without options, the values of all records that are there, one in a line; order holds within each partition. No offsets
/// are committed: reading changes nothing.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ConsumeArgs {
    /// The topic
    topic: String,
    /// Where to start; see below
    #[arg(long, value_name = "WHERE", default_value = "beginning", allow_hyphen_values = true)]
    from: Start,
    /// Read this partition only; may be repeated
    #[arg(short, long, value_name = "N")]
    partition: Vec<u32>,
    /// Stop after so many records
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// Wait at the end for more, until a signal comes. As one process at a time may open a file, nobody else can add records
    /// meanwhile
    #[arg(long)]
    follow: bool,
    /// What to print before each value
    #[arg(long, value_name = "PARTS", value_delimiter = ',', conflicts_with_all = ["format", "json"])]
    print: Vec<Part>,
    /// What stands between the parts that --print asked for
    #[arg(long, value_name = "SEP", default_value = "\\t", value_parser = parse_bytes, conflicts_with_all = ["format", "json"])]
    separator: Bytes,
    /// How to print a record; see below
    #[arg(long, conflicts_with = "json")]
    format: Option<String>,
    /// Print each record as a line of JSON
    #[arg(long)]
    json: bool,
    /// Print control characters and what is not UTF-8 as escapes, and `\` as `\\`
    #[arg(long)]
    escape: bool,
}

/// Bytes given as text with escapes.
pub(super) type Bytes = Box<[u8]>;

pub(super) fn parse_bytes(text: &str) -> Result<Bytes, String> {
    let bytes = unescape(text)?;
    if bytes.is_empty() { Err("at least one character is expected".to_owned()) } else { Ok(bytes.into()) }
}

/// Where to start reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Beginning,
    End,
    Offset(u64),
    /// So many records before the end.
    Last(u64),
    /// Milliseconds since 1970.
    Time(i64),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let is_plain = text.starts_with(|c: char| c.is_ascii_digit());
            if is_plain { text.parse().ok() } else { None }
        };
        let start = match text {
            "beginning" => Some(Start::Beginning),
            "end" => Some(Start::End),
            _ => match (text.strip_prefix('@'), text.strip_prefix('-')) {
                (Some(time), _) => return parse_millis(time).map(Start::Time),
                (_, Some(count)) => number(count).map(Start::Last),
                _ => number(text).map(Start::Offset),
            },
        };
        start.ok_or_else(|| "`beginning`, `end`, an offset, `-N` for the last N, or `@TIME` is expected".to_owned())
    }
}

/// How records are written.
#[derive(Debug)]
enum Printer {
    Json,
    Text(Layout, Escaping),
}

impl Printer {
    fn new(args: &ConsumeArgs) -> Result<Self, Failure> {
        if args.json {
            return Ok(Printer::Json);
        }
        let layout = match &args.format {
            Some(format) => {
                Layout::parse(format).map_err(|reason| Failure::usage(format!("bad --format: {reason}; see --help")))?
            }
            None => Layout::line(&args.print, &args.separator),
        };
        let escaping = match (args.escape, io::stdout().is_terminal()) {
            (true, _) => Escaping::Reversible,
            (false, true) => Escaping::Controls,
            (false, false) => Escaping::Raw,
        };
        Ok(Printer::Text(layout, escaping))
    }

    fn print(&self, out: &mut impl Write, record: &ConsumerRecord<'_>) -> io::Result<()> {
        match self {
            Printer::Json => json::write_record(out, record),
            Printer::Text(layout, escaping) => layout.write(out, record, *escaping),
        }
    }
}

pub(super) fn run(file: &FileArgs, args: &ConsumeArgs) -> Result<(), Failure> {
    let printer = Printer::new(args)?;
    let stopping = Stopping::AfterOutput { follows: args.follow };
    Session::start(file.open_existing()?, stopping)?.run(|broker| {
        let mut consumer = start(broker, args)?;
        let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
        let copied = copy(&mut consumer, &printer, args, &mut out);
        // What was read before it failed is written all the same.
        let flushed = out.flush().map_err(Failure::output);
        copied.and(flushed)
    })
}

/// A consumer that stands where the arguments say.
fn start(broker: &Broker, args: &ConsumeArgs) -> Result<Consumer, Failure> {
    let topic = broker.describe_topic(&args.topic)?;
    let chosen = |description: &&PartitionDescription| {
        args.partition.is_empty() || args.partition.contains(&description.partition)
    };
    let named = args.partition.iter().map(|partition| TopicPartition::new(&args.topic, *partition));
    // An unknown partition is found here.
    let mut consumer = broker.consumer().offset_reset(OffsetReset::None).max_poll_records(5_000).assign(named)?;
    let mut starts = Vec::new();
    for description in topic.partitions().iter().filter(chosen) {
        let partition = TopicPartition::new(&args.topic, description.partition);
        let offset = start_offset(broker, &partition, description, args.from)?;
        starts.push((partition, offset));
    }
    consumer.assign(starts.iter().map(|(partition, _)| partition.clone()))?;
    for (partition, offset) in starts {
        consumer.seek(&partition, OffsetSpec::Offset(offset))?;
    }
    Ok(consumer)
}

fn start_offset(
    broker: &Broker,
    partition: &TopicPartition,
    description: &PartitionDescription,
    from: Start,
) -> Result<u64, Failure> {
    let (log_start, end) = (description.log_start.get(), description.end.get());
    match from {
        Start::Beginning => Ok(log_start),
        Start::End => Ok(end),
        Start::Last(count) => Ok(end.saturating_sub(count).max(log_start)),
        Start::Time(millis) => {
            let found = broker.offset_of(partition, OffsetSpec::Timestamp(millis))?;
            Ok(found.map_or(end, |offset| offset.get()))
        }
        Start::Offset(offset) if (log_start..=end).contains(&offset) => Ok(offset),
        Start::Offset(offset) => Err(Failure::failed(format!(
            "{partition} has no offset {offset}, its log goes from {log_start} to {end}: \
             choose one of these, or name the --partition that is meant"
        ))),
    }
}

/// Writes records until there are no more, or enough.
fn copy(
    consumer: &mut Consumer,
    printer: &Printer,
    args: &ConsumeArgs,
    out: &mut BufWriter<StdoutLock<'_>>,
) -> Result<(), Failure> {
    let mut left = args.max.unwrap_or(u64::MAX);
    while left > 0 {
        let records = next(consumer, args.follow, out)?;
        // Nobody adds records while this process has the file: where there are none, the end is.
        if records.is_empty() {
            break;
        }
        for record in &records {
            if left == 0 {
                break;
            }
            printer.print(out, &record).map_err(Failure::output)?;
            left -= 1;
        }
    }
    Ok(())
}

/// The next records. Before it waits for some, everything read is written out.
fn next(consumer: &mut Consumer, follow: bool, out: &mut impl Write) -> Result<ConsumerRecords, Failure> {
    let records = consumer.poll(Duration::ZERO)?;
    if !records.is_empty() || !follow {
        return Ok(records);
    }
    out.flush().map_err(Failure::output)?;
    Ok(consumer.poll(Duration::MAX)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_parsed() {
        for (text, start) in [
            ("beginning", Start::Beginning),
            ("end", Start::End),
            ("0", Start::Offset(0)),
            ("42", Start::Offset(42)),
            ("-10", Start::Last(10)),
            ("@0", Start::Time(0)),
            ("@1970-01-01T00:00:01Z", Start::Time(1_000)),
        ] {
            assert_eq!(text.parse(), Ok(start), "{text}");
        }
        for text in ["", "-", "--1", "+1", "-+1", "@", "@-1", "earliest", "1.5", "99999999999999999999"] {
            assert!(text.parse::<Start>().is_err(), "{text}");
        }
    }
}
