//! What happens to old records of a topic.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// What happens to old records of a topic (`cleanup.policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CleanupPolicy {
    /// What is beyond `retention.ms` or `retention.bytes` is deleted. In configurations: `delete`.
    #[default]
    Delete,
    /// Of each key the last record stays. In configurations: `compact`.
    Compact,
    /// Both: of each key the last record stays, until it is beyond `retention.ms` or `retention.bytes`. In configurations:
    /// `compact,delete`.
    CompactAndDelete,
    /// Nothing is deleted, whatever the limits are, but what [`delete_records`](crate::Broker::delete_records) is told to. In
    /// configurations: empty.
    Keep,
}

impl CleanupPolicy {
    /// Whether records go that a later one of their key replaces.
    pub fn compacts(self) -> bool {
        matches!(self, CleanupPolicy::Compact | CleanupPolicy::CompactAndDelete)
    }

    /// Whether records go that are beyond a limit of retention.
    pub fn deletes(self) -> bool {
        matches!(self, CleanupPolicy::Delete | CleanupPolicy::CompactAndDelete)
    }

    /// As Kafka spells it, in any order; what is expected otherwise.
    pub(super) fn parse(value: &str) -> Result<Self, &'static str> {
        let mut policies = (false, false);
        for policy in value.split(',').map(str::trim).filter(|policy| !policy.is_empty()) {
            match policy {
                "compact" => policies.0 = true,
                "delete" => policies.1 = true,
                _ => {
                    return Err("`delete`, `compact`, `compact,delete`, or nothing to keep everything, is expected");
                }
            }
        }
        Ok(match policies {
            (true, true) => CleanupPolicy::CompactAndDelete,
            (true, false) => CleanupPolicy::Compact,
            (false, true) => CleanupPolicy::Delete,
            (false, false) => CleanupPolicy::Keep,
        })
    }
}

impl FromStr for CleanupPolicy {
    type Err = Error;

    /// Reads the value of `cleanup.policy`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`], which names the values that are allowed.
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text).map_err(|reason| Error::invalid_config(super::CLEANUP_POLICY, text, reason))
    }
}

impl fmt::Display for CleanupPolicy {
    /// As Kafka spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CleanupPolicy::Delete => "delete",
            CleanupPolicy::Compact => "compact",
            CleanupPolicy::CompactAndDelete => "compact,delete",
            CleanupPolicy::Keep => "",
        })
    }
}
