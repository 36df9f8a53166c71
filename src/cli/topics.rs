//! `brooklet topics`: creates, lists, describes, changes and deletes topics.

use std::io::{self, BufWriter, Write};

use brooklet::{
    Broker, ConfigSource, Error, MAX_PARTITIONS, NewTopic, PartitionDescription, TopicConfig, TopicDescription,
    TopicName,
};
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::session::{FileArgs, Session, Stopping};

const CREATE_EXAMPLES: &str = "\
Examples:
  brooklet -f app.brooklet topics create orders
  brooklet -f app.brooklet topics create orders -p 3 --config max.message.bytes=2000000";

const DESCRIBE_EXAMPLES: &str = "\
Prints what kafka-topics prints, tab-separated, and for each partition the offsets at which it
starts and ends, its bytes and its segments, and how many times smaller compression made them. Only those configurations
are shown that were set; --json shows all.

Examples:
  brooklet -f app.brooklet topics describe
  brooklet -f app.brooklet topics describe orders --json";

const ALTER_EXAMPLES: &str = "\
Partitions can only be added. Records stay where they are; keys are spread over the new number
from then on.

Examples:
  brooklet -f app.brooklet topics alter orders --partitions 6
  brooklet -f app.brooklet topics alter orders --config retention.ms=604800000
  brooklet -f app.brooklet topics alter orders --delete-config max.message.bytes";

/// Create, list, describe, change and delete topics
#[derive(Debug, Subcommand)]
pub(super) enum TopicsCommand {
    /// Create a topic, and the file if there is none
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// Print the names of all topics
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Print partitions, configuration and offsets of a topic, or of all
    #[command(after_help = DESCRIBE_EXAMPLES)]
    Describe {
        /// The topic; without it, all of them
        name: Option<String>,
        /// Print a JSON array, one object for each topic
        #[arg(long)]
        json: bool,
    },
    /// Add partitions to a topic, or change its configuration
    #[command(after_help = ALTER_EXAMPLES)]
    Alter(AlterArgs),
    /// Delete a topic with all its records
    Delete {
        /// The topic
        name: String,
        /// Succeed if there is no such topic
        #[arg(long)]
        if_exists: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// The topic: up to 249 letters, digits, `.`, `_` and `-`
    name: String,
    /// How many partitions it has
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = partition_count())]
    partitions: u32,
    /// A configuration under Kafka's name; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    config: Vec<(String, String)>,
    /// Succeed if the topic exists, and change nothing
    #[arg(long)]
    if_not_exists: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub(super) struct AlterArgs {
    /// The topic
    name: String,
    /// How many partitions it shall have in all
    #[arg(long, value_name = "N", group = "change", value_parser = partition_count())]
    partitions: Option<u32>,
    /// A configuration to set; may be repeated
    #[arg(long, value_name = "KEY=VALUE", group = "change", value_parser = parse_pair)]
    config: Vec<(String, String)>,
    /// A configuration that gets its default back; may be repeated
    #[arg(long, value_name = "KEY", group = "change")]
    delete_config: Vec<String>,
}

fn partition_count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(MAX_PARTITIONS))
}

/// `key=value`.
pub(super) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("`key=value` is expected".to_owned()),
    }
}

pub(super) fn run(file: &FileArgs, command: &TopicsCommand) -> Result<(), Failure> {
    match command {
        TopicsCommand::Create(args) => create(file, args),
        TopicsCommand::List { json } => on_existing(file, |broker| list(broker, *json)),
        TopicsCommand::Describe { name, json } => on_existing(file, |broker| describe(broker, name.as_deref(), *json)),
        TopicsCommand::Alter(args) => on_existing(file, |broker| alter(broker, args)),
        TopicsCommand::Delete { name, if_exists } => on_existing(file, |broker| delete(broker, name, *if_exists)),
    }
}

fn on_existing(file: &FileArgs, work: impl FnOnce(&Broker) -> Result<(), Failure>) -> Result<(), Failure> {
    Session::start(file.open_existing()?, Stopping::AtOnce)?.run(work)
}

/// Checks everything that can be checked before the file is created.
fn create(file: &FileArgs, args: &CreateArgs) -> Result<(), Failure> {
    let path = file.path()?;
    let name = TopicName::new(&args.name)?;
    let config = configured(TopicConfig::default(), &args.config, &[])?;
    Session::start(Broker::open(path)?, Stopping::AtOnce)?.run(|broker| {
        match broker.create_topic(NewTopic::new(name.as_str(), args.partitions).config(config)) {
            Ok(_) => say(&format!("Created topic {name}.")),
            Err(Error::TopicAlreadyExists { .. }) if args.if_not_exists => {
                say(&format!("Topic {name} exists already."))
            }
            Err(Error::TopicAlreadyExists { .. }) => Err(Failure::failed(format!(
                "topic `{name}` exists already: choose another name, or give --if-not-exists"
            ))),
            Err(error) => Err(error.into()),
        }
    })
}

fn list(broker: &Broker, as_json: bool) -> Result<(), Failure> {
    let names = broker.topics()?;
    if as_json {
        return say(&Value::from_iter(names.iter().map(TopicName::as_str)).to_string());
    }
    let mut out = BufWriter::new(io::stdout().lock());
    names.iter().try_for_each(|name| writeln!(out, "{name}")).and_then(|()| out.flush()).map_err(Failure::output)
}

fn describe(broker: &Broker, name: Option<&str>, as_json: bool) -> Result<(), Failure> {
    let names = match name {
        Some(name) => vec![name.to_owned()],
        None => broker.topics()?.iter().map(ToString::to_string).collect(),
    };
    let topics = names.iter().map(|name| broker.describe_topic(name)).collect::<brooklet::Result<Vec<_>>>()?;
    if as_json {
        return say(&Value::from_iter(topics.iter().map(as_json_object)).to_string());
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let written = topics.iter().try_for_each(|topic| write_description(&mut out, topic));
    written.and_then(|()| out.flush()).map_err(Failure::output)
}

/// As `kafka-topics --describe`, whose readers look for these names; a single file is its only replica.
fn write_description(out: &mut impl Write, topic: &TopicDescription) -> io::Result<()> {
    let name = topic.name();
    let set = topic.config_entries().into_iter().filter(|entry| entry.source == ConfigSource::Topic);
    let configs: Vec<_> = set.map(|entry| format!("{}={}", entry.key, entry.value)).collect();
    writeln!(
        out,
        "Topic: {name}\tTopicId: {}\tPartitionCount: {}\tReplicationFactor: 1\tConfigs: {}",
        topic.id(),
        topic.partitions().len(),
        configs.join(",")
    )?;
    for description in topic.partitions() {
        let PartitionDescription { partition, log_start, end, stored_bytes, segments, compaction, .. } = description;
        write!(
            out,
            "\tTopic: {name}\tPartition: {partition}\tLeader: 0\tReplicas: 0\tIsr: 0\tLogStart: {log_start}\tLogEnd: {end}\t\
             Bytes: {stored_bytes}\tSegments: {segments}"
        )?;
        if description.plain_bytes != *stored_bytes {
            write!(out, "\tCompressed: {:.2}", description.compression_ratio())?;
        }
        if let Some(compaction) = compaction {
            let (compacted, ratio) = (compaction.compacted, compaction.dirty_ratio());
            write!(out, "\tCompacted: {compacted}\tDirtyRatio: {ratio:.2}\tKeys: {}", compaction.keys)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn as_json_object(topic: &TopicDescription) -> Value {
    let partition = |partition: &PartitionDescription| {
        json!({
            "partition": partition.partition,
            "log_start": partition.log_start.get(),
            "log_end": partition.end.get(),
            "bytes": partition.stored_bytes,
            "plain_bytes": partition.plain_bytes,
            "segments": partition.segments,
            "compaction": partition.compaction.map(|compaction| json!({
                "compacted": compaction.compacted.get(),
                "clean_bytes": compaction.clean_bytes,
                "dirty_bytes": compaction.dirty_bytes,
                "dirty_ratio": compaction.dirty_ratio(),
                "keys": compaction.keys,
                "last_ms": compaction.last_ms,
            })),
        })
    };
    let config = topic.config_entries().into_iter().map(|entry| {
        let is_set = entry.source == ConfigSource::Topic;
        (entry.key.to_owned(), json!({ "value": entry.value, "is_default": !is_set }))
    });
    json!({
        "name": topic.name().as_str(),
        "id": topic.id().to_string(),
        "created_ms": topic.created_ms(),
        "partitions": topic.partitions().iter().map(partition).collect::<Vec<_>>(),
        "config": Value::Object(config.collect()),
    })
}

/// Everything is checked before anything is changed.
fn alter(broker: &Broker, args: &AlterArgs) -> Result<(), Failure> {
    let name = &args.name;
    let changed = |config| configured(config, &args.config, &args.delete_config);
    changed(broker.describe_topic(name)?.config().clone())?;
    if let Some(partitions) = args.partitions {
        broker.create_partitions(name, partitions)?;
    }
    if !args.config.is_empty() || !args.delete_config.is_empty() {
        broker.alter_topic(name, changed)?;
    }
    say(&format!("Altered topic {name}."))
}

fn configured(mut config: TopicConfig, set: &[(String, String)], unset: &[String]) -> brooklet::Result<TopicConfig> {
    for (key, value) in set {
        config = config.set(key, value)?;
    }
    for key in unset {
        config = config.unset(key)?;
    }
    Ok(config)
}

fn delete(broker: &Broker, name: &str, if_exists: bool) -> Result<(), Failure> {
    match broker.delete_topic(name) {
        Ok(()) => say(&format!("Deleted topic {name}.")),
        Err(Error::UnknownTopicOrPartition { .. }) if if_exists => {
            // The name may be anything here: it names no topic.
            say(&format!("There is no topic {name:?}."))
        }
        Err(error) => Err(error.into()),
    }
}

fn say(line: &str) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{line}").map_err(Failure::output)
}
