//! The one error type: what was wrong, and what to do about it.

mod code;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::CompressionType;
use crate::types::{Offset, TopicName, TopicPartition};

pub use code::ErrorCode;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
///
/// Names are those of the Kafka protocol where Kafka has the error. Every text says what was wrong and, where
/// there is a choice, what to do. No variant holds a value or a key of a record.
///
/// # Can I try again?
///
/// [`is_retriable`](Error::is_retriable) says that the same call may succeed later on the same handle;
/// [`is_fatal`](Error::is_fatal) says that this broker will not write any more and has to be reopened.
///
/// ```
/// use brooklet::{Broker, Error};
///
/// let broker = Broker::in_memory()?;
/// let error = broker.describe_topic("nowhere").unwrap_err();
/// assert!(matches!(error, Error::UnknownTopicOrPartition { .. }));
/// assert!(!error.is_retriable() && !error.is_fatal());
/// assert_eq!(error.to_string(), "unknown topic `nowhere`: create it first, or check the spelling");
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Error {
    /// A topic name breaks rule T-1, or collides with an existing one (T-2).
    InvalidTopic {
        /// The name as given.
        name: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// A group id that is empty or longer than 255 bytes.
    InvalidGroupId {
        /// The id as given.
        group: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A topic of this name exists already.
    TopicAlreadyExists {
        /// The name.
        name: TopicName,
    },
    /// No such topic, or no such partition of it.
    UnknownTopicOrPartition {
        /// The topic's name as given.
        topic: String,
        /// The partition, when the topic exists but the partition does not.
        partition: Option<u32>,
    },
    /// A partition count that is zero, too large, or not larger than the present one (T-7).
    InvalidPartitions {
        /// What was asked for.
        requested: u32,
        /// Why it can't be.
        reason: String,
    },
    /// A topic configuration or an option with an unknown key or a bad value (T-12).
    InvalidConfig {
        /// The key, in Kafka's spelling.
        key: String,
        /// The value as given.
        value: String,
        /// What would be right.
        reason: String,
    },
    /// One record, or one atomic append, is larger than a limit (R-16, P-9).
    RecordTooLarge {
        /// Its size in bytes, counted as [`ProducerRecord::size`](crate::ProducerRecord::size) says.
        size: usize,
        /// The limit in bytes.
        limit: usize,
        /// The name of the limit.
        limit_name: &'static str,
    },
    /// A record breaks a rule of its topic (R-17).
    InvalidRecord {
        /// The index of the record within the call; 0 for a single one.
        index: usize,
        /// Which rule.
        reason: String,
    },
    /// A timestamp outside the topic's bounds (R-12).
    InvalidTimestamp {
        /// The index of the record within the call; 0 for a single one.
        index: usize,
        /// Milliseconds since the epoch.
        timestamp: i64,
        /// Which bound.
        reason: String,
    },
    /// No room in `buffer_memory` within `max_block` (P-10).
    BufferExhausted {
        /// `buffer_memory`, in bytes.
        buffer_memory: usize,
    },
    /// Positions outside the log, while the reset rule is [`OffsetReset::None`](crate::OffsetReset::None) (C-22);
    /// or an offset given to an admin call that lies beyond the end.
    OffsetOutOfRange {
        /// The partitions and their out-of-range positions. The positions are kept: seek, then poll again.
        positions: Vec<(TopicPartition, Offset)>,
    },
    /// No position, and the reset rule is [`OffsetReset::None`](crate::OffsetReset::None) (C-20).
    NoOffsetForPartition {
        /// The partitions without a position.
        partitions: Vec<TopicPartition>,
    },
    /// The call does not fit the state of the handle.
    IllegalState {
        /// What state, and what to do.
        reason: String,
    },
    /// An argument that is never valid.
    IllegalArgument {
        /// Which, and what would be right.
        reason: String,
    },
    /// A commit of a consumer that lost its membership, or one of the partitions to another member (C-37). Nothing was
    /// committed: the records will be read again by whoever has the partitions now.
    CommitFailed {
        /// The group.
        group: String,
        /// What happened, and what to do.
        reason: String,
    },
    /// A commit from outside, by an administrator or by a consumer that was assigned its partitions, while the group has
    /// members (G-49, G-62).
    UnknownMemberId {
        /// The group.
        group: String,
    },
    /// No such group.
    GroupIdNotFound {
        /// The group as given.
        group: String,
    },
    /// The group has members, and this can only be done without (G-60, G-64).
    GroupNotEmpty {
        /// The group.
        group: String,
        /// How many members it has.
        members: usize,
    },
    /// The topic's `cleanup.policy` does not go with what was asked for (L-51).
    PolicyViolation {
        /// The topic.
        topic: TopicName,
        /// What its policy is, and what to do.
        reason: String,
    },
    /// A member of the group reads the topic, so that its commits can't be taken back (G-61).
    GroupSubscribedToTopic {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
    },
    /// Another consumer of the group is alive under this instance id (G-53).
    UnreleasedInstanceId {
        /// The group.
        group: String,
        /// The instance id.
        instance_id: String,
    },
    /// The metadata beside a committed offset are too long (C-31).
    OffsetMetadataTooLarge {
        /// The partition.
        partition: TopicPartition,
        /// Their size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A pattern to subscribe to that is no regular expression (C-3).
    InvalidRegularExpression {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An assignor failed, or its assignment breaks a rule (G-16). The group keeps the one before.
    PartitionAssignor {
        /// The assignor's name.
        assignor: String,
        /// What is wrong.
        reason: String,
    },
    /// A rebalance listener failed (C-47). The new assignment is in force all the same.
    RebalanceListener {
        /// What it failed with.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// [`Waker::wake`](crate::Waker::wake) ended this blocking call (C-18). No position moved.
    Wakeup,
    /// The broker was closed.
    Closed,
    /// Another broker, in this process or another one, has the file open for writing.
    AlreadyOpen {
        /// The store's path.
        path: PathBuf,
    },
    /// The file does not exist, and [`open_existing`](crate::Builder::open_existing) was asked for.
    NotFound {
        /// The store's path.
        path: PathBuf,
    },
    /// The file exists, and [`create_new`](crate::Builder::create_new) was asked for.
    AlreadyExists {
        /// The store's path.
        path: PathBuf,
    },
    /// The file is something else.
    NotABrooklet {
        /// The path.
        path: PathBuf,
        /// What was found in it.
        found: String,
    },
    /// The file was written by a newer release.
    UnsupportedVersion {
        /// Which part: `store`, `journal` or `chunk`; or `store features`, whose bits are what was found.
        what: &'static str,
        /// The version found. Of features: the bits that this release does not know.
        found: u32,
        /// The newest version that this release reads. Of features: 0.
        supported: u32,
    },
    /// Records are compressed, or are to be, in a way that this build of brooklet is without. Records of the topic that are
    /// stored in other ways can be read.
    UnsupportedCompressionType {
        /// What is compressed: a topic, or a chunk of it.
        place: String,
        /// In which way; the cargo feature has the same name.
        compression_type: CompressionType,
    },
    /// The store was not closed cleanly, and the journal that belongs to it is missing, shorter than it was, or
    /// another store's. Acknowledged records may be in it: put it back.
    JournalMismatch {
        /// The journal's path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A journal with frames in it lies where a new store would be created. Its store is missing: put it back, or
    /// move the journal away.
    StoreMissing {
        /// The store's path.
        path: PathBuf,
        /// The journal's path.
        journal: PathBuf,
    },
    /// Bytes on the disk are not what was written. Nothing was repaired or dropped.
    Corrupt {
        /// What and where: file, partition, offsets.
        place: String,
        /// What is wrong there.
        reason: String,
    },
    /// The disk is full. What was acknowledged is safe and readable; appends go on once there is room.
    StorageFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// A file operation failed.
    Io {
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// The write or sync that should have made this record durable failed. It *may* be on the disk: reopen the
    /// broker and look. Nothing was retried.
    DurabilityUnknown {
        /// The failed write or sync.
        source: Arc<Error>,
    },
    /// A failure of this call or an earlier one stopped this broker for good. What was visible stays readable from memory;
    /// drop the broker and open the file again to go on. Whether the call that failed has happened shows then.
    ReopenRequired {
        /// The failure.
        source: Arc<Error>,
    },
    /// The process was forked after the broker was opened. Open the file anew in the child, after the parent closed it.
    Forked,
}

impl Error {
    /// Whether the same call may succeed later on the same handle, without any change.
    ///
    /// True of [`BufferExhausted`](Error::BufferExhausted), [`StorageFull`](Error::StorageFull),
    /// [`Wakeup`](Error::Wakeup) and [`AlreadyOpen`](Error::AlreadyOpen).
    pub fn is_retriable(&self) -> bool {
        matches!(
            self,
            Error::BufferExhausted { .. } | Error::StorageFull { .. } | Error::Wakeup | Error::AlreadyOpen { .. }
        )
    }

    /// Whether this broker has stopped writing for good: drop it and open the file again.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Error::DurabilityUnknown { .. } | Error::ReopenRequired { .. } | Error::Closed | Error::Forked)
    }

    /// The error of an unknown topic.
    pub(crate) fn unknown_topic(name: &str) -> Self {
        Error::UnknownTopicOrPartition { topic: name.to_owned(), partition: None }
    }

    /// The error of an unknown partition of a known topic.
    pub(crate) fn unknown_partition(topic: &str, partition: u32) -> Self {
        Error::UnknownTopicOrPartition { topic: topic.to_owned(), partition: Some(partition) }
    }

    /// A failed file operation. A full disk becomes [`Error::StorageFull`].
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        if is_storage_full(&source) {
            return Error::StorageFull { path: path.to_owned() };
        }
        Error::Io { operation, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Damage found in `place`.
    pub(crate) fn corrupt(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Corrupt { place: place.into(), reason: reason.into() }
    }

    /// Damage of a file, where it is known what is there.
    pub(crate) fn at(self, path: &Path, what: impl FnOnce() -> String) -> Self {
        match self {
            Error::Corrupt { place, reason } if Path::new(&place) == path => Error::corrupt(what(), reason),
            error => error,
        }
    }

    /// A value that a configuration key does not take.
    pub(crate) fn invalid_config(key: &str, value: &str, reason: impl Into<String>) -> Self {
        Error::InvalidConfig { key: key.to_owned(), value: value.to_owned(), reason: reason.into() }
    }

    /// A call that does not fit the state of its handle.
    pub(crate) fn illegal_state(reason: impl Into<String>) -> Self {
        Error::IllegalState { reason: reason.into() }
    }

    /// An argument that is never valid.
    pub(crate) fn illegal_argument(reason: impl Into<String>) -> Self {
        Error::IllegalArgument { reason: reason.into() }
    }
}

/// Whether the file system has no room: `ENOSPC`, a quota, or the limit on one file's size.
pub(crate) fn is_storage_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

impl fmt::Debug for Error {
    /// Code and text, as a `main` that returns an error prints it: ``NOT_FOUND: app.brooklet does not exist``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.code().name())
    }
}

impl From<Error> for io::Error {
    /// The kind is that of the failed file operation, or the one that fits best; the error itself is the source.
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io { source, .. } => source.kind(),
            Error::NotFound { .. } | Error::StoreMissing { .. } | Error::UnknownTopicOrPartition { .. } => {
                io::ErrorKind::NotFound
            }
            Error::AlreadyExists { .. } | Error::TopicAlreadyExists { .. } => io::ErrorKind::AlreadyExists,
            Error::StorageFull { .. } => io::ErrorKind::StorageFull,
            Error::AlreadyOpen { .. } => io::ErrorKind::ResourceBusy,
            Error::Corrupt { .. } | Error::NotABrooklet { .. } | Error::JournalMismatch { .. } => {
                io::ErrorKind::InvalidData
            }
            Error::UnsupportedVersion { .. } | Error::UnsupportedCompressionType { .. } => io::ErrorKind::Unsupported,
            Error::IllegalArgument { .. } | Error::InvalidConfig { .. } => io::ErrorKind::InvalidInput,
            Error::BufferExhausted { .. } => io::ErrorKind::TimedOut,
            Error::Wakeup => io::ErrorKind::Interrupted,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InvalidTopic { name, reason } => write!(f, "invalid topic name {name:?}: {reason}"),
            Error::InvalidGroupId { group, reason } => {
                write!(f, "invalid group id `{}`: {reason}", group.escape_debug())
            }
            Error::TopicAlreadyExists { name } => write!(f, "topic `{name}` exists already"),
            Error::UnknownTopicOrPartition { topic, partition: None } => {
                write!(f, "unknown topic `{}`: create it first, or check the spelling", topic.escape_debug())
            }
            Error::UnknownTopicOrPartition { topic, partition: Some(partition) } => {
                write!(f, "topic `{topic}` has no partition {partition}: see its partition count, or add partitions")
            }
            Error::InvalidPartitions { requested, reason } => {
                write!(f, "invalid partition count {requested}: {reason}")
            }
            Error::InvalidConfig { key, value, reason } => {
                write!(f, "invalid config {}={}: {reason}", key.escape_debug(), value.escape_debug())
            }
            Error::RecordTooLarge { size, limit, limit_name } => {
                write!(
                    f,
                    "{size} bytes are more than `{limit_name}` allows ({limit}): send less at once, or raise the limit"
                )
            }
            Error::InvalidRecord { index, reason } => write!(f, "invalid record (index {index}): {reason}"),
            Error::InvalidTimestamp { index, timestamp, reason } => {
                write!(f, "invalid timestamp {timestamp} (index {index}): {reason}")
            }
            Error::BufferExhausted { buffer_memory } => write!(
                f,
                "no room in `buffer_memory` ({buffer_memory} bytes) within `max_block`: send slower, or raise one of them"
            ),
            Error::OffsetOutOfRange { positions } => {
                write!(f, "offset out of range: ")?;
                write_list(f, positions.iter().map(|(partition, offset)| format!("{partition} at {offset}")))?;
                write!(f, "; seek to an offset of the log, or choose an offset reset")
            }
            Error::NoOffsetForPartition { partitions } => {
                write!(f, "no position for ")?;
                write_list(f, partitions.iter().map(ToString::to_string))?;
                write!(f, ": seek first, or choose an offset reset")
            }
            Error::IllegalState { reason } => write!(f, "{reason}"),
            Error::IllegalArgument { reason } => write!(f, "{reason}"),
            Error::CommitFailed { group, reason } => {
                write!(f, "commit of group `{}` failed: {reason}", group.escape_debug())
            }
            Error::UnknownMemberId { group } => write!(
                f,
                "group `{}` has members, and only they may commit: close them first, or commit through them",
                group.escape_debug()
            ),
            Error::GroupIdNotFound { group } => {
                write!(f, "unknown group `{}`: check the spelling", group.escape_debug())
            }
            Error::GroupNotEmpty { group, members } => {
                write!(f, "group `{}` has members ({members}): close them first", group.escape_debug())
            }
            Error::PolicyViolation { topic, reason } => write!(f, "policy of topic `{topic}`: {reason}"),
            Error::GroupSubscribedToTopic { group, topic } => write!(
                f,
                "group `{}` has a member that reads topic `{topic}`: unsubscribe it first",
                group.escape_debug()
            ),
            Error::UnreleasedInstanceId { group, instance_id } => write!(
                f,
                "group `{}` has a living member with the instance id `{}`: close that one first, or choose another id",
                group.escape_debug(),
                instance_id.escape_debug()
            ),
            Error::OffsetMetadataTooLarge { partition, size, limit } => {
                write!(f, "the metadata committed for {partition} have {size} bytes, and at most {limit} are kept")
            }
            Error::InvalidRegularExpression { pattern, reason } => {
                write!(f, "invalid regular expression `{}`: {}", pattern.escape_debug(), reason.escape_debug())
            }
            Error::PartitionAssignor { assignor, reason } => {
                write!(f, "the assignor `{}` made no valid assignment: {reason}", assignor.escape_debug())
            }
            Error::RebalanceListener { source } => write!(f, "the rebalance listener failed: {source}"),
            Error::Wakeup => write!(f, "woken by its waker"),
            Error::Closed => write!(f, "the broker is closed: open the file again"),
            Error::AlreadyOpen { path } => write!(
                f,
                "{} is open already, here or in another process: close it there first, one process at a time may open it",
                path.display()
            ),
            Error::NotFound { path } => write!(f, "{} does not exist", path.display()),
            Error::AlreadyExists { path } => write!(f, "{} exists already", path.display()),
            Error::NotABrooklet { path, found } => write!(f, "{} is not a brooklet file: {found}", path.display()),
            Error::UnsupportedVersion { what, found, .. } if what.ends_with(" features") => write!(
                f,
                "the {what} have the bits {found:#x}, which this release does not know: use a newer release of brooklet"
            ),
            Error::UnsupportedVersion { what, found, supported } => write!(
                f,
                "the {what} has format version {found}, and this release reads up to {supported}: use a newer release of brooklet"
            ),
            Error::UnsupportedCompressionType { place, compression_type } => write!(
                f,
                "{place}: `{compression_type}` compression is not in this build of brooklet: build it with the feature \
                 `{compression_type}`"
            ),
            Error::JournalMismatch { path, reason } => write!(
                f,
                "the store was not closed cleanly and needs its journal {}, but {reason}: put the right one back",
                path.display()
            ),
            Error::StoreMissing { path, journal } => write!(
                f,
                "{} does not exist, but its journal {} holds frames: put the store back, or move the journal away to start empty",
                path.display(),
                journal.display()
            ),
            Error::Corrupt { place, reason } => write!(f, "damaged: {place}: {reason}"),
            Error::StorageFull { path } => write!(
                f,
                "no space left for {}: make room; everything acknowledged is safe and readable meanwhile",
                path.display()
            ),
            Error::Io { operation, path, source } => {
                write!(f, "can't {operation} {}: {source}{}", path.display(), hint(source.kind()))
            }
            Error::DurabilityUnknown { source } => {
                write!(f, "the record may or may not be on the disk ({source}): reopen the broker and look")
            }
            Error::ReopenRequired { source } => {
                write!(f, "the broker stopped after a failure ({source}): drop it and open the file again")
            }
            Error::Forked => write!(f, "this process was forked from the one that opened the broker: open it anew"),
        }
    }
}

/// What to do about a failed file operation, where there is something to do.
fn hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => ": create its directory first",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ": brooklet has to write the file and beside it, see its permissions"
        }
        io::ErrorKind::IsADirectory => ": give the path of a file",
        _ => "",
    }
}

/// `a, b, c and 7 more`: a list that stays on one line.
fn write_list(f: &mut fmt::Formatter<'_>, items: impl ExactSizeIterator<Item = String>) -> fmt::Result {
    const SHOWN: usize = 5;
    let hidden = items.len().saturating_sub(SHOWN);
    for (i, item) in items.take(SHOWN).enumerate() {
        let separator = if i == 0 { "" } else { ", " };
        write!(f, "{separator}{item}")?;
    }
    if hidden > 0 {
        write!(f, " and {hidden} more")?;
    }
    Ok(())
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(&**source),
            Error::DurabilityUnknown { source } | Error::ReopenRequired { source } => Some(&**source),
            Error::RebalanceListener { source } => Some(&**source),
            _ => None,
        }
    }
}
