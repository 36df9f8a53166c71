//! A number and a name for each error: for scripts, other languages and Kafka's protocol.

use std::fmt;

use super::Error;

/// The kind of an [`Error`] as a number and a name that never change.
///
/// Where Kafka has the error, the number and the name are those of
/// [its protocol](https://kafka.apache.org/protocol#protocol_error_codes). Numbers from 10,000 on are brooklet's own.
///
/// ```
/// use brooklet::Broker;
///
/// let broker = Broker::in_memory()?;
/// let code = broker.describe_topic("nowhere").unwrap_err().code();
/// assert_eq!((code.number(), code.name()), (3, "UNKNOWN_TOPIC_OR_PARTITION"));
/// assert!(code.is_kafka());
/// # Ok::<(), brooklet::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode {
    number: i16,
    name: &'static str,
}

/// The first number that Kafka does not have.
const FIRST_OWN: i16 = 10_000;

impl ErrorCode {
    const fn new(number: i16, name: &'static str) -> Self {
        Self { number, name }
    }

    /// The number.
    pub const fn number(self) -> i16 {
        self.number
    }

    /// The name, in capitals as Kafka writes it.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Whether Kafka's protocol has this error.
    pub const fn is_kafka(self) -> bool {
        self.number < FIRST_OWN
    }
}

impl fmt::Display for ErrorCode {
    /// `UNKNOWN_TOPIC_OR_PARTITION (3)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.number)
    }
}

impl Error {
    /// The kind of this error as a number and a name that never change.
    pub fn code(&self) -> ErrorCode {
        let (number, name) = match self {
            Error::OffsetOutOfRange { .. } => (1, "OFFSET_OUT_OF_RANGE"),
            Error::Corrupt { .. } => (2, "CORRUPT_MESSAGE"),
            Error::UnknownTopicOrPartition { .. } => (3, "UNKNOWN_TOPIC_OR_PARTITION"),
            Error::RecordTooLarge { .. } => (10, "MESSAGE_TOO_LARGE"),
            Error::OffsetMetadataTooLarge { .. } => (12, "OFFSET_METADATA_TOO_LARGE"),
            Error::InvalidTopic { .. } => (17, "INVALID_TOPIC_EXCEPTION"),
            Error::InvalidGroupId { .. } => (24, "INVALID_GROUP_ID"),
            Error::UnknownMemberId { .. } => (25, "UNKNOWN_MEMBER_ID"),
            Error::InvalidTimestamp { .. } => (32, "INVALID_TIMESTAMP"),
            Error::UnsupportedVersion { .. } => (35, "UNSUPPORTED_VERSION"),
            Error::TopicAlreadyExists { .. } => (36, "TOPIC_ALREADY_EXISTS"),
            Error::InvalidPartitions { .. } => (37, "INVALID_PARTITIONS"),
            Error::InvalidConfig { .. } => (40, "INVALID_CONFIG"),
            Error::PolicyViolation { .. } => (44, "POLICY_VIOLATION"),
            Error::Io { .. } => (56, "KAFKA_STORAGE_ERROR"),
            Error::GroupNotEmpty { .. } => (68, "NON_EMPTY_GROUP"),
            Error::GroupIdNotFound { .. } => (69, "GROUP_ID_NOT_FOUND"),
            Error::UnsupportedCompressionType { .. } => (76, "UNSUPPORTED_COMPRESSION_TYPE"),
            Error::GroupSubscribedToTopic { .. } => (86, "GROUP_SUBSCRIBED_TO_TOPIC"),
            Error::InvalidRecord { .. } => (87, "INVALID_RECORD"),
            Error::UnreleasedInstanceId { .. } => (111, "UNRELEASED_INSTANCE_ID"),
            Error::InvalidRegularExpression { .. } => (128, "INVALID_REGULAR_EXPRESSION"),
            Error::BufferExhausted { .. } => (10_000, "BUFFER_EXHAUSTED"),
            Error::NoOffsetForPartition { .. } => (10_001, "NO_OFFSET_FOR_PARTITION"),
            Error::IllegalState { .. } => (10_002, "ILLEGAL_STATE"),
            Error::IllegalArgument { .. } => (10_003, "ILLEGAL_ARGUMENT"),
            Error::CommitFailed { .. } => (10_004, "COMMIT_FAILED"),
            Error::PartitionAssignor { .. } => (10_005, "PARTITION_ASSIGNOR"),
            Error::RebalanceListener { .. } => (10_006, "REBALANCE_LISTENER"),
            Error::Wakeup => (10_007, "WAKEUP"),
            Error::Closed => (10_008, "CLOSED"),
            Error::AlreadyOpen { .. } => (10_009, "ALREADY_OPEN"),
            Error::NotFound { .. } => (10_010, "NOT_FOUND"),
            Error::AlreadyExists { .. } => (10_011, "ALREADY_EXISTS"),
            Error::NotABrooklet { .. } => (10_012, "NOT_A_BROOKLET"),
            Error::JournalMismatch { .. } => (10_013, "JOURNAL_MISMATCH"),
            Error::StoreMissing { .. } => (10_014, "STORE_MISSING"),
            Error::StorageFull { .. } => (10_015, "STORAGE_FULL"),
            Error::DurabilityUnknown { .. } => (10_016, "DURABILITY_UNKNOWN"),
            Error::ReopenRequired { .. } => (10_017, "REOPEN_REQUIRED"),
            Error::Forked => (10_018, "FORKED"),
        };
        ErrorCode::new(number, name)
    }
}
