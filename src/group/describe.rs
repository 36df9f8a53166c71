//! What can be seen of a group from outside.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{GroupName, OffsetAndMetadata};
use crate::error::{Error, Result};
use crate::types::{Offset, TopicPartition};

/// Where a group is on the way to its assignment (KIP-848, G-7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupState {
    /// It has no members. What it committed is kept.
    Empty,
    /// It has members, but its assignor failed to make an assignment for them; the one before stays.
    Assigning,
    /// At least one member is not where the assignment wants it yet: it has to poll.
    Reconciling,
    /// Every member owns what it shall own.
    Stable,
}

impl FromStr for GroupState {
    type Err = Error;

    /// Reads what `Display` writes, as Kafka spells it.
    ///
    /// # Errors
    ///
    /// [`Error::IllegalArgument`], which names the states that there are.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "Empty" => Ok(GroupState::Empty),
            "Assigning" => Ok(GroupState::Assigning),
            "Reconciling" => Ok(GroupState::Reconciling),
            "Stable" => Ok(GroupState::Stable),
            _ => {
                let found = text.escape_debug();
                let reason =
                    format!("`{found}` is no state: `Empty`, `Assigning`, `Reconciling` or `Stable` is expected");
                Err(Error::illegal_argument(reason))
            }
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            GroupState::Empty => "Empty",
            GroupState::Assigning => "Assigning",
            GroupState::Reconciling => "Reconciling",
            GroupState::Stable => "Stable",
        })
    }
}

/// A group in a list (G-59).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupListing {
    /// Its id.
    pub name: GroupName,
    /// Its state.
    pub state: GroupState,
}

/// A group at one moment: [`Broker::describe_group`](crate::Broker::describe_group).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// Its id.
    pub name: GroupName,
    /// Its state.
    pub state: GroupState,
    /// Counted up with every change of its members, of their subscriptions or of the topics they read; kept when the broker
    /// closes.
    pub epoch: u64,
    /// The name of the assignor in use.
    pub assignor: String,
    /// Its members, by id.
    pub members: Vec<MemberDescription>,
    /// The partitions that it committed offsets of, or that a member owns; by topic and number.
    pub partitions: Vec<PartitionLag>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberDescription {
    /// Its id, given when it joined.
    pub member_id: String,
    /// Its own name, if it is a static member (KIP-345).
    pub instance_id: Option<String>,
    /// What its consumer calls itself.
    pub client_id: String,
    /// The epoch that it has reached.
    pub epoch: u64,
    /// What it subscribes to: topics, or a pattern as `/pattern/`.
    pub subscription: Vec<String>,
    /// What it owns.
    pub assignment: Vec<TopicPartition>,
    /// What it will own when the group is stable.
    pub target: Vec<TopicPartition>,
}

/// How far a group got in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionLag {
    /// The partition.
    pub partition: TopicPartition,
    /// What was committed last.
    pub committed: Option<OffsetAndMetadata>,
    /// The smallest offset still readable.
    pub log_start: Offset,
    /// The offset behind the last record.
    pub end: Offset,
    /// Offsets from the committed one to the end, those below the log start left out; `None` when nothing is committed.
    pub lag: Option<u64>,
    /// The member that owns it.
    pub member_id: Option<String>,
}

/// Where committed offsets are reset to (G-64; the modes of `kafka-consumer-groups --reset-offsets`). The outcome always lies
/// within the log: what lies before it goes to its start, what lies behind it to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetTo {
    /// To the log start.
    Earliest,
    /// To the end.
    Latest,
    /// To what is committed; to the end where nothing is.
    Current,
    /// To this offset.
    Offset(Offset),
    /// This many offsets forward, or back. Something has to be committed.
    ShiftBy(i64),
    /// To the first record with this timestamp or a later one, in milliseconds since 1970; to the end when there is none.
    Timestamp(i64),
    /// To the first record that is at most this old; to the end when there is none.
    ByDuration(Duration),
}

/// What a reset does to one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffsetChange {
    /// The partition.
    pub partition: TopicPartition,
    /// What is committed before.
    pub before: Option<Offset>,
    /// What is committed after.
    pub after: Offset,
}

/// Who a consumer is in its group (C-50).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMetadata {
    /// The group's id.
    pub group: GroupName,
    /// The id that it got when it joined; `None` while it is no member.
    pub member_id: Option<String>,
    /// The epoch that it has reached; `None` while it is no member.
    pub epoch: Option<u64>,
    /// Its own name, if it has one.
    pub instance_id: Option<String>,
}

/// What becomes of a member whose consumer is closed (KIP-1092).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GroupMembershipOperation {
    /// A static member stays for its session time-out, so that nothing moves if it comes back; a dynamic one leaves.
    #[default]
    Default,
    /// It leaves: what it owns goes to the others at once.
    LeaveGroup,
    /// It stays for its session time-out. Only a static member can come back to what it owned.
    RemainInGroup,
}
