//! One member of a group: what it subscribes to, what it owns, and whether it is alive.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use regex_lite::Regex;

use crate::assignor::Named;
use crate::config::millis;
use crate::engine::Waiter;
use crate::error::{Error, Result};
use crate::types::{LogId, TopicName};

/// What tells the members of a group apart. Given at each joining, so that a member that was removed is not mistaken for
/// the one that it is after it joined again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberId(Arc<str>);

impl MemberId {
    pub(super) fn new(id: impl AsRef<str>) -> Self {
        Self(id.as_ref().into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which topics a member wants.
#[derive(Debug, Clone)]
pub(crate) enum Subscription {
    Topics(BTreeSet<TopicName>),
    /// A regular expression that has to match the whole name (C-3).
    Pattern {
        text: String,
        regex: Regex,
    },
}

impl Subscription {
    pub(crate) fn topics(names: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        names.into_iter().map(TopicName::new).collect::<Result<_>>().map(Self::Topics)
    }

    pub(crate) fn pattern(text: &str) -> Result<Self> {
        // Alone first: `a)|(b` is none, but would become one.
        match Regex::new(text).and_then(|_| Regex::new(&format!("^(?:{text})$"))) {
            Ok(regex) => Ok(Self::Pattern { text: text.to_owned(), regex }),
            Err(error) => Err(Error::InvalidRegularExpression { pattern: text.to_owned(), reason: error.to_string() }),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Topics(names) if names.is_empty())
    }

    /// The topics, or the pattern as `/pattern/`.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::Topics(names) => names.iter().map(TopicName::to_string).collect(),
            Self::Pattern { text, .. } => vec![format!("/{text}/")],
        }
    }

    /// Whether a topic of this name is wanted.
    pub(crate) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Topics(names) => names.contains(name),
            Self::Pattern { regex, .. } => regex.is_match(name),
        }
    }
}

impl PartialEq for Subscription {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Topics(a), Self::Topics(b)) => a == b,
            (Self::Pattern { text: a, .. }, Self::Pattern { text: b, .. }) => a == b,
            _ => false,
        }
    }
}

/// A group that somebody wants to join, and how.
#[derive(Debug, Clone)]
pub(crate) struct JoinRequest {
    /// Names a static member (KIP-345).
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) subscription: Subscription,
    /// `None`: whatever the others want.
    pub(crate) assignor: Option<Named>,
    pub(crate) liveness: Arc<Liveness>,
    /// Where its consumer sleeps.
    pub(crate) waiter: Arc<Waiter>,
    /// How long a static member may be away.
    pub(crate) session_timeout: Duration,
}

impl JoinRequest {
    pub(super) fn assignor_name(&self) -> Option<&str> {
        self.assignor.as_ref().map(|assignor| &*assignor.name)
    }
}

/// A member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) request: JoinRequest,
    /// The group's epoch whose target it has reached, but for partitions that others still own; 0 after joining.
    pub(super) epoch: u64,
    /// What it owns, and since which epoch.
    pub(super) owned: BTreeMap<LogId, u64>,
    pub(super) presence: Presence,
}

/// Whether a member has a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    /// A static member whose handle was closed. Its partitions wait until then.
    Away {
        until_ms: i64,
    },
}

impl Member {
    pub(super) fn new(request: JoinRequest, epoch: u64) -> Self {
        Self { request, epoch, owned: BTreeMap::new(), presence: Presence::Here }
    }

    /// When it is given up for lost, if nothing is heard of it before.
    pub(super) fn deadline_ms(&self) -> i64 {
        match self.presence {
            Presence::Here => self.request.liveness.deadline_ms().saturating_add(self.grace_ms()),
            Presence::Away { until_ms } => until_ms,
        }
    }

    /// The earliest deadline that it can have from now on.
    pub(super) fn earliest_deadline_ms(&self, now_ms: i64) -> i64 {
        match self.presence {
            Presence::Here => self.request.liveness.earliest_deadline_ms(now_ms).saturating_add(self.grace_ms()),
            Presence::Away { until_ms } => until_ms,
        }
    }

    /// Whether another handle may take its place: it is a static member whose handle was closed, or did not poll in time.
    pub(super) fn is_away(&self, now_ms: i64) -> bool {
        match self.presence {
            Presence::Here => self.request.instance_id.is_some() && self.request.liveness.deadline_ms() <= now_ms,
            Presence::Away { .. } => true,
        }
    }

    /// How long its partitions wait for it after it did not poll in time. A static member that polls too late stops its
    /// heartbeats and does not leave (KIP-345), so the session time-out has to pass as well.
    fn grace_ms(&self) -> i64 {
        self.request.instance_id.as_ref().map_or(0, |_| millis(self.request.session_timeout))
    }
}

/// When the handle of a member has to poll again (`max.poll.interval.ms`, G-4). Shared by the handle and the group, without
/// a lock.
#[derive(Debug)]
pub(crate) struct Liveness {
    max_poll_interval_ms: i64,
    /// [`WITHIN_POLL`] while a poll is under way: it may take as long as it likes.
    deadline_ms: AtomicI64,
}

const WITHIN_POLL: i64 = i64::MAX;

impl Liveness {
    pub(crate) fn new(max_poll_interval: Duration, now_ms: i64) -> Self {
        let max_poll_interval_ms = millis(max_poll_interval);
        Self { max_poll_interval_ms, deadline_ms: AtomicI64::new(now_ms.saturating_add(max_poll_interval_ms)) }
    }

    /// A poll begins.
    pub(crate) fn enter_poll(&self) {
        self.deadline_ms.store(WITHIN_POLL, Ordering::SeqCst);
    }

    /// A poll ended, or calls the user's code: the time until the next one counts.
    pub(crate) fn leave_poll(&self, now_ms: i64) {
        self.deadline_ms.store(now_ms.saturating_add(self.max_poll_interval_ms), Ordering::SeqCst);
    }

    fn deadline_ms(&self) -> i64 {
        self.deadline_ms.load(Ordering::SeqCst)
    }

    /// The earliest deadline that it can have from now on.
    pub(super) fn earliest_deadline_ms(&self, now_ms: i64) -> i64 {
        self.deadline_ms().min(now_ms.saturating_add(self.max_poll_interval_ms))
    }
}
