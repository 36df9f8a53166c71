//! `brooklet consume`: writes the records of a topic to the standard output.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::str::FromStr;
use std::time::Duration;

use brooklet::{
    Broker, Consumer, ConsumerBuilder, ConsumerRecord, Error, OffsetReset, OffsetSpec, PartitionDescription,
    RecordIter, TopicPartition,
};
use clap::Args;

use super::escape::{Escaping, unescape};
use super::failure::{Failure, complain};
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

With --group it starts at the offsets that the group committed. --from, `beginning` or `end`, then
only says where to start in partitions that nothing is committed for, or whose committed offset is
not in the log any more. What was read is committed again and again, each time after it was
written to the standard output: every record is printed at least once. Those that were written
last, but not committed when the process was killed or the output was closed, are printed again.
SIGINT and SIGTERM leave a second for writing and committing. A reader such as `head` may drop
what was written and committed already: to read a few records, give --max. A group is moved with
`brooklet groups reset-offsets`.

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
  brooklet -f app.brooklet consume orders --group billing --max 100
  brooklet -f app.brooklet consume orders --partition 0 --from 42 --max 1 --format '%k\\t%v\\n'";

/// Print the records of a topic
///
/// Without options, the values of all records that are there, one in a line; order holds within each partition. Reading
/// changes nothing, unless it is for a --group: then it goes on where the group was, and commits how far it came.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ConsumeArgs {
    /// The topic
    topic: String,
    /// Where to start; see below
    #[arg(long, value_name = "WHERE", default_value = "beginning", allow_hyphen_values = true)]
    from: Start,
    /// Read as a member of this consumer group, or with --partition on its behalf; see below
    #[arg(short, long)]
    group: Option<String>,
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
    /// Go on behind damaged records instead of ending there. What is left out is reported, and the exit code is 1 then
    #[arg(long)]
    skip_damaged: bool,
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
    let reset = reset_rule(args)?;
    let broker = file.open_existing()?;
    let mut consumer = start(&broker, args, reset)?;
    let stopping = Stopping::AfterOutput { follows: args.follow, waker: consumer.waker() };
    Session::start(broker, stopping)?.run(|_| {
        let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
        let mut lost = 0;
        let copied = copy(&mut consumer, &printer, args, &mut out, &mut lost);
        // What was read before it failed is written all the same.
        let flushed = out.flush().map_err(Failure::output);
        // It leaves its group before the broker is closed.
        drop(consumer);
        copied.and(flushed)?;
        match lost {
            0 => Ok(()),
            lost => Err(Failure::failed(format!("{lost} offsets were left out, as what was there is damaged"))),
        }
    })
}

/// What decides where no position is known. Without a group each is.
fn reset_rule(args: &ConsumeArgs) -> Result<OffsetReset, Failure> {
    match (&args.group, args.from) {
        (None, _) => Ok(OffsetReset::None),
        (Some(_), Start::Beginning) => Ok(OffsetReset::Earliest),
        (Some(_), Start::End) => Ok(OffsetReset::Latest),
        (Some(_), Start::Offset(_) | Start::Last(_) | Start::Time(_)) => Err(Failure::usage(
            "--group starts where the group was, and --from can only be `beginning` or `end` with it, for partitions \
             that nothing is committed for: leave one of the two out, or move the group with `brooklet groups \
             reset-offsets` first",
        )),
    }
}

/// A consumer that stands where the arguments say.
fn start(broker: &Broker, args: &ConsumeArgs, reset: OffsetReset) -> Result<Consumer, Failure> {
    let builder = broker.consumer().offset_reset(reset).max_poll_records(5_000);
    match &args.group {
        Some(group) => start_in_group(broker, args, builder.group(group)),
        None => start_alone(broker, args, &builder),
    }
}

fn start_in_group(broker: &Broker, args: &ConsumeArgs, builder: ConsumerBuilder) -> Result<Consumer, Failure> {
    // Whoever reads the output may take their time: nobody else is here to take over.
    let builder = builder.max_poll_interval(Duration::MAX);
    if args.partition.is_empty() {
        // A topic that does not exist would be waited for.
        broker.describe_topic(&args.topic)?;
        return Ok(builder.subscribe([&args.topic])?);
    }
    Ok(builder.assign(named_partitions(args))?)
}

fn start_alone(broker: &Broker, args: &ConsumeArgs, builder: &ConsumerBuilder) -> Result<Consumer, Failure> {
    let topic = broker.describe_topic(&args.topic)?;
    let chosen = |description: &&PartitionDescription| {
        args.partition.is_empty() || args.partition.contains(&description.partition)
    };
    // An unknown partition is found here.
    let mut consumer = builder.assign(named_partitions(args))?;
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

fn named_partitions(args: &ConsumeArgs) -> impl Iterator<Item = TopicPartition> {
    args.partition.iter().map(|partition| TopicPartition::new(&args.topic, *partition))
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

/// Writes records until there are no more, or enough, or a signal comes. For a group it commits what was written, and nothing
/// else. Counts in `lost` the offsets that it left out.
fn copy(
    consumer: &mut Consumer,
    printer: &Printer,
    args: &ConsumeArgs,
    out: &mut BufWriter<StdoutLock<'_>>,
    lost: &mut u64,
) -> Result<(), Failure> {
    let mut left = args.max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
    let mut timeout = Duration::ZERO;
    loop {
        let records = match consumer.poll(timeout) {
            Err(Error::Wakeup) => return Ok(()),
            Err(error @ Error::Corrupt { .. }) if args.skip_damaged => {
                *lost += skip_damaged(consumer, error)?;
                continue;
            }
            polled => polled?,
        };
        let mut rest = records.iter();
        for record in rest.by_ref().take(left) {
            printer.print(out, &record).map_err(Failure::output)?;
        }
        left = left.saturating_sub(records.len());
        // Nobody adds records while this process has the file: where there are none, the end is.
        let is_end = records.is_empty();
        if is_end || args.group.is_some() {
            out.flush().map_err(Failure::output)?;
        }
        if args.group.is_some() {
            put_back(consumer, rest)?;
            commit(consumer)?;
        }
        if left == 0 || (is_end && !args.follow) {
            return Ok(());
        }
        timeout = if is_end { Duration::MAX } else { Duration::ZERO };
    }
}

/// Goes on behind what `poll` failed with; gives the count of offsets that were left out.
fn skip_damaged(consumer: &mut Consumer, error: Error) -> Result<u64, Failure> {
    let skipped = consumer.skip_damaged()?;
    if skipped.is_empty() {
        return Err(error.into());
    }
    complain(&error.to_string());
    let mut lost = 0;
    for (partition, offsets) in skipped {
        let (start, end) = (offsets.start.get(), offsets.end.get());
        complain(&format!("{partition}: the offsets {start} to {} are left out", end.saturating_sub(1)));
        lost += end.saturating_sub(start);
    }
    Ok(lost)
}

/// Moves the positions back to records that were read and not printed.
fn put_back(consumer: &mut Consumer, rest: RecordIter<'_>) -> Result<(), Failure> {
    let mut firsts = BTreeMap::new();
    for record in rest {
        firsts.entry(record.topic_partition()).or_insert(record.offset());
    }
    for (partition, offset) in firsts {
        consumer.seek(partition, OffsetSpec::Offset(offset.get()))?;
    }
    Ok(())
}

/// Commits the positions that are not what is committed, and waits until that is done.
fn commit(consumer: &mut Consumer) -> Result<(), Failure> {
    let partitions = consumer.assignment();
    let mut moved = Vec::new();
    for (partition, committed) in consumer.committed(&partitions)? {
        let position = consumer.position(&partition)?;
        if committed.is_none_or(|committed| committed.offset != position) {
            moved.push((partition, position));
        }
    }
    Ok(consumer.commit_offsets(moved)?)
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
