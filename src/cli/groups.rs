//! `brooklet groups`: lists, describes, resets and deletes consumer groups.

use std::io::{self, BufWriter, Write};
use std::str::FromStr;
use std::time::Duration;

use brooklet::{
    Broker, GroupDescription, GroupListing, GroupState, MemberDescription, Offset, OffsetReset, PartitionLag, ResetTo,
    TopicPartition,
};
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use super::failure::{Failure, remark};
use super::json::write_value;
use super::session::{FileArgs, Session, Stopping};
use super::table::{Table, number, number_or_nothing, text, text_or_nothing};
use super::time::parse_millis;

const STATES: [GroupState; 4] = [GroupState::Empty, GroupState::Assigning, GroupState::Reconciling, GroupState::Stable];

const DESCRIBE_EXAMPLES: &str = "\
LAG counts the offsets from the committed one to the end. `-` stands where there is nothing.

The members of a group live in the process that has the file open. This tool opens it alone, so it
finds no members: every group is Empty here.

Examples:
  brooklet -f app.brooklet groups describe billing
  brooklet -f app.brooklet groups describe --json";

const RESET_EXAMPLES: &str = "\
Without --execute nothing is changed. What is printed is where each partition would go: always
within its log, at its start or end at the farthest. All partitions are moved, or none. A group
that does not exist is made when --topic says what it is to read.

--by-duration is ISO 8601: P1DT2H, PT30M, PT0.5S.

Examples:
  brooklet -f app.brooklet groups reset-offsets billing --to-earliest --all-topics
  brooklet -f app.brooklet groups reset-offsets billing --shift-by -10 --topic orders:0,2 --execute
  brooklet -f app.brooklet groups reset-offsets billing --by-duration PT1H --topic orders";

const DELETE_OFFSETS_EXAMPLES: &str = "\
Afterwards the group starts in these partitions as if it had never read them. All of them are
deleted, or none. A partition that nothing is committed for is no error.

Examples:
  brooklet -f app.brooklet groups delete-offsets billing --topic orders
  brooklet -f app.brooklet groups delete-offsets billing --topic orders:0,2";

/// List, describe, reset and delete consumer groups
#[derive(Debug, Subcommand)]
pub(super) enum GroupsCommand {
    /// Print the names and states of all groups
    List {
        /// Only groups in this state: Empty, Assigning, Reconciling or Stable; may be repeated
        #[arg(long, value_delimiter = ',', value_parser = parse_state)]
        state: Vec<GroupState>,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Print how far a group got in each partition, or all groups
    #[command(after_help = DESCRIBE_EXAMPLES)]
    Describe {
        /// The group; without it, all of them
        group: Option<String>,
        /// Print a JSON array, one object for each group
        #[arg(long)]
        json: bool,
    },
    /// Move what a group committed, or show where it would go
    #[command(after_help = RESET_EXAMPLES)]
    ResetOffsets(ResetArgs),
    /// Delete groups with all that they committed
    ///
    /// One that can't be deleted does not keep the others.
    Delete {
        /// The groups
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// Take back what a group committed for some partitions
    #[command(after_help = DELETE_OFFSETS_EXAMPLES)]
    DeleteOffsets {
        /// The group
        group: String,
        /// A topic, or some of its partitions; may be repeated
        #[arg(long, required = true, value_name = "TOPIC[:P,P]")]
        topic: Vec<Scope>,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("to").required(true), group = ArgGroup::new("scope").required(true))]
pub(super) struct ResetArgs {
    /// The group
    group: String,
    #[command(flatten)]
    to: ResetMode,
    /// A topic, or some of its partitions; may be repeated
    #[arg(long, value_name = "TOPIC[:P,P]", group = "scope")]
    topic: Vec<Scope>,
    /// All topics that the group committed offsets for
    #[arg(long, group = "scope")]
    all_topics: bool,
    /// Do it: without this it is a dry run
    #[arg(long)]
    execute: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Where to: exactly one of them is given.
#[derive(Debug, Args)]
struct ResetMode {
    /// To the first record that is there
    #[arg(long, group = "to")]
    to_earliest: bool,
    /// To the end
    #[arg(long, group = "to")]
    to_latest: bool,
    /// To what is committed, and to the end where nothing is
    #[arg(long, group = "to")]
    to_current: bool,
    /// To this offset
    #[arg(long, value_name = "N", group = "to")]
    to_offset: Option<u64>,
    /// By so many offsets forward, or back
    #[arg(long, value_name = "N", group = "to", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// To the first record at or after a time: 2026-01-31T12:00:00Z, or milliseconds since 1970
    #[arg(long, value_name = "TIME", group = "to", value_parser = parse_millis)]
    to_datetime: Option<i64>,
    /// To the first record that is at most this old: PT1H
    #[arg(long, value_name = "DURATION", group = "to", value_parser = parse_duration)]
    by_duration: Option<Duration>,
}

impl ResetMode {
    fn to(&self) -> ResetTo {
        if self.to_earliest {
            return ResetTo::Earliest;
        }
        if self.to_latest {
            return ResetTo::Latest;
        }
        let offset = self.to_offset.map(|offset| ResetTo::Offset(offset.into()));
        let shift = || self.shift_by.map(ResetTo::ShiftBy);
        let time = || self.to_datetime.map(ResetTo::Timestamp);
        let duration = || self.by_duration.map(ResetTo::ByDuration);
        offset.or_else(shift).or_else(time).or_else(duration).unwrap_or(ResetTo::Current)
    }
}

/// A topic, or some of its partitions: `orders`, `orders:0,2`.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    topic: String,
    /// None at all means all of them.
    partitions: Vec<u32>,
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "a topic, or a topic and partitions like `orders:0,2` is expected".to_owned();
        let (topic, partitions) = match text.split_once(':') {
            Some((topic, partitions)) => {
                let partitions: Result<_, _> = partitions.split(',').map(u32::from_str).collect();
                (topic, partitions.map_err(|_| expected())?)
            }
            None => (text, Vec::new()),
        };
        if topic.is_empty() { Err(expected()) } else { Ok(Self { topic: topic.to_owned(), partitions }) }
    }
}

impl Scope {
    fn partitions(&self, broker: &Broker) -> brooklet::Result<Vec<TopicPartition>> {
        let named = |partition: &u32| TopicPartition::new(&self.topic, *partition);
        if !self.partitions.is_empty() {
            return Ok(self.partitions.iter().map(named).collect());
        }
        let topic = broker.describe_topic(&self.topic)?;
        Ok(topic.partitions().iter().map(|description| named(&description.partition)).collect())
    }
}

/// Each partition that is meant, once.
fn partitions_of(broker: &Broker, scopes: &[Scope]) -> brooklet::Result<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for scope in scopes {
        partitions.extend(scope.partitions(broker)?);
    }
    partitions.sort();
    partitions.dedup();
    Ok(partitions)
}

fn parse_state(text: &str) -> Result<GroupState, String> {
    let state = STATES.into_iter().find(|state| state.to_string().eq_ignore_ascii_case(text));
    state.ok_or_else(|| "Empty, Assigning, Reconciling or Stable is expected".to_owned())
}

/// As the library reads it.
fn parse_duration(text: &str) -> Result<Duration, String> {
    match format!("by_duration:{text}").parse() {
        Ok(OffsetReset::ByDuration(duration)) => Ok(duration),
        _ => Err("a duration like PT1H, P1DT12H or PT0.5S is expected".to_owned()),
    }
}

pub(super) fn run(file: &FileArgs, command: &GroupsCommand) -> Result<(), Failure> {
    Session::start(file.open_existing()?, Stopping::AtOnce)?.run(|broker| match command {
        GroupsCommand::List { state, json } => list(broker, state, *json),
        GroupsCommand::Describe { group, json } => describe(broker, group.as_deref(), *json),
        GroupsCommand::ResetOffsets(args) => reset(broker, args),
        GroupsCommand::Delete { groups } => delete(broker, groups),
        GroupsCommand::DeleteOffsets { group, topic, json } => delete_offsets(broker, group, topic, *json),
    })
}

fn list(broker: &Broker, states: &[GroupState], as_json: bool) -> Result<(), Failure> {
    let mut groups = broker.groups()?;
    groups.retain(|group| states.is_empty() || states.contains(&group.state));
    print(|out| {
        if as_json {
            let object =
                |group: &GroupListing| json!({ "name": group.name.as_str(), "state": group.state.to_string() });
            return write_value(out, &groups.iter().map(object).collect());
        }
        let mut table = Table::new(["GROUP", "STATE"]);
        for group in &groups {
            table.row([text(group.name.as_str()), group.state.to_string()]);
        }
        table.write(out)
    })
}

fn describe(broker: &Broker, group: Option<&str>, as_json: bool) -> Result<(), Failure> {
    let groups = match group {
        Some(group) => vec![broker.describe_group(group)?],
        None => {
            let names = broker.groups()?.into_iter().map(|group| group.name);
            names.map(|name| broker.describe_group(name.as_str())).collect::<brooklet::Result<_>>()?
        }
    };
    print(|out| {
        if as_json {
            return write_value(out, &groups.iter().map(as_json_object).collect());
        }
        for (i, group) in groups.iter().enumerate() {
            if i > 0 {
                writeln!(out)?;
            }
            write_description(out, group)?;
        }
        Ok(())
    })
}

/// The state, then what `kafka-consumer-groups --describe` prints. All hosts are this one.
fn write_description(out: &mut impl Write, group: &GroupDescription) -> io::Result<()> {
    let name = text(group.name.as_str());
    writeln!(
        out,
        "Group: {name}\tState: {}\tEpoch: {}\tAssignor: {}\tMembers: {}",
        group.state,
        group.epoch,
        text(&group.assignor),
        group.members.len()
    )?;
    let mut table = Table::new([
        "GROUP",
        "TOPIC",
        "PARTITION",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "CLIENT-ID",
    ]);
    for lag in &group.partitions {
        table.row([
            name.clone(),
            text(lag.partition.topic()),
            number(lag.partition.partition()),
            number_or_nothing(lag.committed.as_ref().map(|committed| committed.offset)),
            number(lag.end),
            number_or_nothing(lag.lag),
            text_or_nothing(lag.member_id.as_deref()),
            text_or_nothing(owner(group, lag).map(|member| member.client_id.as_str())),
        ]);
    }
    table.write(out)
}

fn owner<'a>(group: &'a GroupDescription, lag: &PartitionLag) -> Option<&'a MemberDescription> {
    let id = lag.member_id.as_ref()?;
    group.members.iter().find(|member| member.member_id == *id)
}

fn as_json_object(group: &GroupDescription) -> Value {
    let names = |partitions: &[TopicPartition]| -> Value {
        partitions.iter().map(|name| json!({ "topic": name.topic(), "partition": name.partition() })).collect()
    };
    let member = |member: &MemberDescription| {
        json!({
            "member_id": member.member_id,
            "instance_id": member.instance_id,
            "client_id": member.client_id,
            "epoch": member.epoch,
            "subscription": member.subscription,
            "assignment": names(&member.assignment),
            "target": names(&member.target),
        })
    };
    let partition = |lag: &PartitionLag| {
        let committed = lag.committed.as_ref();
        json!({
            "topic": lag.partition.topic(),
            "partition": lag.partition.partition(),
            "committed": committed.map(|committed| committed.offset.get()),
            "metadata": committed.map(|committed| committed.metadata.as_str()),
            "log_start": lag.log_start.get(),
            "log_end": lag.end.get(),
            "lag": lag.lag,
            "member_id": lag.member_id,
        })
    };
    json!({
        "name": group.name.as_str(),
        "state": group.state.to_string(),
        "epoch": group.epoch,
        "assignor": group.assignor,
        "members": group.members.iter().map(member).collect::<Vec<_>>(),
        "partitions": group.partitions.iter().map(partition).collect::<Vec<_>>(),
    })
}

fn reset(broker: &Broker, args: &ResetArgs) -> Result<(), Failure> {
    let partitions =
        if args.all_topics { broker.group_partitions(&args.group)? } else { partitions_of(broker, &args.topic)? };
    let to = args.to.to();
    let changes = match args.execute {
        true => broker.reset_group_offsets(&args.group, &partitions, to)?,
        false => broker.plan_group_reset(&args.group, &partitions, to)?,
    };
    let moves = changes.into_iter().map(|change| Move {
        partition: change.partition,
        before: change.before,
        after: Some(change.after),
    });
    print_moves(&args.group, &moves.collect::<Vec<_>>(), args.json)?;
    if !args.execute {
        remark("dry run: nothing was changed; give --execute to commit the new offsets");
    }
    Ok(())
}

fn delete(broker: &Broker, groups: &[String]) -> Result<(), Failure> {
    let mut failures = Vec::new();
    let mut deleted = Vec::new();
    for group in groups {
        match broker.delete_group(group) {
            Ok(()) => deleted.push(group),
            Err(error) => failures.push(error.to_string()),
        }
    }
    let printed = print(|out| deleted.iter().try_for_each(|group| writeln!(out, "Deleted group {}.", text(group))));
    if failures.is_empty() { printed } else { Err(Failure::failed(failures.join("; "))) }
}

fn delete_offsets(broker: &Broker, group: &str, scopes: &[Scope], as_json: bool) -> Result<(), Failure> {
    let partitions = partitions_of(broker, scopes)?;
    let described = broker.describe_group(group)?;
    broker.delete_group_offsets(group, &partitions)?;
    let before = |partition: &TopicPartition| {
        let lag = described.partitions.iter().find(|lag| lag.partition == *partition)?;
        Some(lag.committed.as_ref()?.offset)
    };
    let moves = partitions.iter().map(|partition| Move {
        partition: partition.clone(),
        before: before(partition),
        after: None,
    });
    print_moves(group, &moves.collect::<Vec<_>>(), as_json)
}

/// What is committed for a partition before and after.
struct Move {
    partition: TopicPartition,
    before: Option<Offset>,
    after: Option<Offset>,
}

fn print_moves(group: &str, moves: &[Move], as_json: bool) -> Result<(), Failure> {
    print(|out| {
        if as_json {
            let object = |moved: &Move| {
                json!({
                    "group": group,
                    "topic": moved.partition.topic(),
                    "partition": moved.partition.partition(),
                    "old_offset": moved.before.map(Offset::get),
                    "new_offset": moved.after.map(Offset::get),
                })
            };
            return write_value(out, &moves.iter().map(object).collect());
        }
        let mut table = Table::new(["GROUP", "TOPIC", "PARTITION", "OLD-OFFSET", "NEW-OFFSET"]);
        for moved in moves {
            table.row([
                text(group),
                text(moved.partition.topic()),
                number(moved.partition.partition()),
                number_or_nothing(moved.before),
                number_or_nothing(moved.after),
            ]);
        }
        table.write(out)
    })
}

/// Writes to the standard output.
fn print(write: impl FnOnce(&mut BufWriter<io::StdoutLock<'_>>) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    write(&mut out).and_then(|()| out.flush()).map_err(Failure::output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_parsed() {
        for (text, topic, partitions) in
            [("orders", "orders", &[][..]), ("orders:0", "orders", &[0]), ("a.b:3,1", "a.b", &[3, 1])]
        {
            let scope: Scope = text.parse().unwrap();
            assert_eq!((scope.topic.as_str(), &scope.partitions[..]), (topic, partitions), "{text}");
        }
        for text in ["", ":0", "orders:", "orders:,", "orders:0,", "orders:-1", "orders:0:1", "orders:x"] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }

    #[test]
    fn states_are_read_in_any_case() {
        for state in STATES {
            assert_eq!(parse_state(&state.to_string().to_uppercase()), Ok(state));
        }
        assert!(parse_state("Dead").is_err());
    }
}
