//! A consumer as a member of its group: joining, following the assignment, leaving.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::handle::Consumer;
use super::listener::{ListenerResult, RebalanceListener};
use super::options::ConsumerBuilder;
use crate::assignor::Named;
use crate::engine::{
    Committer, Duty, Engine, Group, GroupNumber, JoinRequest, Liveness, MemberId, Subscription, Waiter,
};
use crate::error::{Error, Result};
use crate::group::{GroupMembershipOperation, GroupMetadata};
use crate::panics::caught;
use crate::types::{LogId, TopicPartition};

/// Steps that one look at the group may take. A rebalance has up to four: lost, revoked, assigned, settled.
const MOST_STEPS: usize = 8;

/// What a consumer with a group id knows of its group.
pub(super) struct Membership {
    pub(super) group: Arc<Group>,
    /// `None`: the consumer was assigned its partitions, and only commits in the group's name.
    pub(super) subscription: Option<Subscription>,
    state: State,
    /// What it asks the group to share partitions by.
    assignor: Option<Named>,
    liveness: Arc<Liveness>,
    listener: Option<Box<dyn RebalanceListener>>,
    /// The newest commit that nobody has waited for.
    pub(super) pending: Option<GroupNumber>,
    /// When positions are committed next, if they are automatically.
    pub(super) auto_commit_at_ms: i64,
}

/// Whether the consumer is a member.
#[derive(Debug)]
enum State {
    /// Not yet, or not any more by its own wish.
    Outside,
    Member {
        id: MemberId,
        /// The versions of the group and of the topics when it had nothing left to do.
        settled: Option<(u64, u64)>,
    },
    /// It was a member, and was given up.
    Lost,
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("group", &self.group.name)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Membership {
    pub(super) fn new(group: Arc<Group>, options: &ConsumerBuilder, now_ms: i64) -> Result<Self> {
        Ok(Self {
            group,
            subscription: None,
            state: State::Outside,
            assignor: options.assignor.clone().map(Named::new).transpose()?,
            liveness: Arc::new(Liveness::new(options.max_poll_interval, now_ms)),
            listener: None,
            pending: None,
            auto_commit_at_ms: options.auto_commit_after(now_ms),
        })
    }

    /// In whose name the consumer commits; fails when it lost its membership.
    pub(super) fn committer(&self) -> Result<Committer<'_>> {
        match &self.state {
            State::Member { id, .. } => Ok(Committer::Member(id)),
            State::Outside => Ok(Committer::Outsider),
            State::Lost => Err(Error::CommitFailed {
                group: self.group.name.as_str().to_owned(),
                reason: "this consumer lost its membership, and its partitions may be another's: poll to join again"
                    .to_owned(),
            }),
        }
    }

    /// Whether there may be something to do.
    pub(super) fn has_news(&self, engine: &Engine) -> bool {
        match (&self.subscription, &self.state) {
            (None, _) => false,
            (Some(_), State::Member { settled, .. }) => *settled != Some(self.versions(engine)),
            (Some(_), State::Outside | State::Lost) => true,
        }
    }

    fn versions(&self, engine: &Engine) -> (u64, u64) {
        (self.group.version(), engine.topics_version())
    }

    fn member_id(&self) -> Option<&MemberId> {
        match &self.state {
            State::Member { id, .. } => Some(id),
            State::Outside | State::Lost => None,
        }
    }

    /// Joins the group if the consumer is no member; gives its member id.
    fn join(
        &mut self,
        engine: &Engine,
        options: &ConsumerBuilder,
        subscription: &Subscription,
        waiter: &Arc<Waiter>,
    ) -> Result<MemberId> {
        if let Some(id) = self.member_id() {
            return Ok(id.clone());
        }
        let request = JoinRequest {
            instance_id: options.group_instance_id.clone(),
            client_id: options.client_id.clone(),
            subscription: subscription.clone(),
            assignor: self.assignor.clone(),
            liveness: Arc::clone(&self.liveness),
            waiter: Arc::clone(waiter),
            session_timeout: options.session_timeout,
        };
        let id = engine.join_group(&self.group, request)?;
        self.state = State::Member { id: id.clone(), settled: None };
        Ok(id)
    }
}

impl Consumer {
    /// A poll begins: it may take as long as it likes.
    pub(super) fn enter_poll(&self) {
        if let Some(membership) = &self.membership {
            membership.liveness.enter_poll();
        }
    }

    /// A poll ended, or calls the application: the time until the next poll counts (G-4).
    pub(super) fn leave_poll(&self) {
        if let Some(membership) = &self.membership {
            membership.liveness.leave_poll(self.monotonic_ms());
        }
    }

    /// Goes to the group's present target, as far as the other members allow. What a listener fails with is returned at the
    /// end, when everything is done.
    ///
    /// It ends after [`MOST_STEPS`] even if the group changed again meanwhile, as it does when a listener makes others join:
    /// `poll` then reads what it has, looks at the time, and goes on from there.
    pub(super) fn rebalance(&mut self) -> Result<()> {
        let engine = Arc::clone(self.engine());
        let mut failure = None;
        for _ in 0..MOST_STEPS {
            let Some(membership) = &mut self.membership else { break };
            if !membership.has_news(&engine) {
                break;
            }
            let Some(subscription) = membership.subscription.clone() else { break };
            let id = membership.join(&engine, &self.options, &subscription, &self.waiter)?;
            let group = Arc::clone(&membership.group);
            // Before the look: what comes later is news again.
            let versions = membership.versions(&engine);
            match engine.duty(&group, &id)? {
                Duty::Settled => membership.state = State::Member { id, settled: Some(versions) },
                Duty::Lost => self.lose(&mut failure),
                Duty::Revoke(logs) => {
                    self.give_up(&logs, &mut failure);
                    engine.release(&group, &id, &logs);
                }
                Duty::Assign(logs) => {
                    let names: Vec<_> = logs.iter().map(|log| log.name.clone()).collect();
                    self.assignment.add(logs);
                    self.tell(&mut failure, |listener, consumer| listener.on_partitions_assigned(consumer, &names));
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Stops reading partitions: commits, if that happens automatically, tells the listener, and waits until everything that
    /// was committed is.
    fn give_up(&mut self, logs: &[LogId], failure: &mut Option<Error>) {
        // A commit that fails now is like one that was never made: the next owner reads the records again.
        let _ = self.auto_commit();
        let names = self.names_of(logs);
        if !names.is_empty() {
            self.tell(failure, |listener, consumer| listener.on_partitions_revoked(consumer, &names));
        }
        let _ = self.wait_for_commits();
        self.assignment.remove(logs);
    }

    /// The group gave this member up.
    fn lose(&mut self, failure: &mut Option<Error>) {
        if let Some(membership) = &mut self.membership {
            membership.state = State::Lost;
        }
        let names = self.assignment.names();
        if !names.is_empty() {
            self.tell(failure, |listener, consumer| listener.on_partitions_lost(consumer, &names));
        }
        self.assignment.clear();
    }

    /// Leaves the group: first the listener, then the others get what this consumer had.
    pub(super) fn leave(&mut self, how: GroupMembershipOperation, with_listener: bool) -> Result<()> {
        let mut failure = None;
        let names = self.assignment.names();
        let is_subscribed = self.membership.as_ref().is_some_and(|membership| membership.subscription.is_some());
        if with_listener && is_subscribed && !names.is_empty() {
            self.tell(&mut failure, |listener, consumer| listener.on_partitions_revoked(consumer, &names));
        }
        let committed = self.wait_for_commits();
        self.assignment.clear();
        let engine = Arc::clone(self.engine());
        if let Some(membership) = &mut self.membership {
            membership.subscription = None;
            if let State::Member { id, .. } = std::mem::replace(&mut membership.state, State::Outside) {
                engine.leave_group(&membership.group, &id, how);
            }
        }
        failure.map_or(committed, Err)
    }

    /// Calls the listener, if there is one.
    fn tell(
        &mut self,
        failure: &mut Option<Error>,
        call: impl FnOnce(&mut dyn RebalanceListener, &mut Consumer) -> ListenerResult,
    ) {
        let Some(mut listener) = self.membership.as_mut().and_then(|membership| membership.listener.take()) else {
            return;
        };
        self.leave_poll();
        self.in_listener = true;
        let told = caught(|| call(&mut *listener, self)).unwrap_or_else(|panic| Err(panic.into()));
        self.in_listener = false;
        self.enter_poll();
        if let Some(membership) = &mut self.membership {
            membership.listener = Some(listener);
        }
        if let Err(source) = told {
            failure.get_or_insert(Error::RebalanceListener { source: source.into() });
        }
    }

    /// Sets what is told when partitions come and go. Replaces the one before.
    ///
    /// # Errors
    ///
    /// [`InvalidGroupId`](Error::InvalidGroupId) without a group; [`IllegalState`](Error::IllegalState) within a listener.
    pub fn set_rebalance_listener(&mut self, listener: impl RebalanceListener + 'static) -> Result<()> {
        self.check_not_in_listener()?;
        self.membership_mut()?.listener = Some(Box::new(listener));
        Ok(())
    }

    /// Who this consumer is in its group; `None` without a group id (C-50).
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        let membership = self.membership.as_ref()?;
        let member = membership.member_id();
        let epoch = member.and_then(|id| membership.group.member_epoch(id));
        Some(GroupMetadata {
            group: membership.group.name.clone(),
            member_id: member.map(ToString::to_string),
            epoch,
            instance_id: self.options.group_instance_id.clone(),
        })
    }

    /// The topics or the pattern that it subscribes to; `None` when it does not subscribe.
    pub(super) fn subscribed(&self) -> Option<&Subscription> {
        self.membership.as_ref()?.subscription.as_ref()
    }

    /// Replaces the subscription; the next `poll` follows it.
    pub(super) fn set_subscription(&mut self, subscription: Subscription) -> Result<()> {
        self.check_not_in_listener()?;
        self.engine().check_open()?;
        if self.subscribed().is_none() && !self.assignment.is_empty() {
            return Err(Error::illegal_state(
                "this consumer was assigned its partitions: unsubscribe before subscribing (C-1)",
            ));
        }
        let engine = Arc::clone(self.engine());
        let membership = self.membership_mut()?;
        if let Some(id) = membership.member_id() {
            // One that was given up meanwhile finds out when it polls.
            engine.resubscribe(&membership.group, id, subscription.clone());
        }
        membership.subscription = Some(subscription);
        Ok(())
    }

    pub(super) fn membership_ref(&self) -> Result<&Membership> {
        self.membership.as_ref().ok_or_else(no_group)
    }

    pub(super) fn membership_mut(&mut self) -> Result<&mut Membership> {
        self.membership.as_mut().ok_or_else(no_group)
    }

    pub(super) fn check_not_in_listener(&self) -> Result<()> {
        if self.in_listener {
            return Err(Error::illegal_state("a rebalance listener can't do this: it runs within a poll or close"));
        }
        Ok(())
    }

    fn names_of(&self, logs: &[LogId]) -> Vec<TopicPartition> {
        let logs: HashSet<LogId> = logs.iter().copied().collect();
        let given_up = self.assignment.partitions.iter().filter(|assigned| logs.contains(&assigned.log.id));
        given_up.map(|assigned| assigned.log.name.clone()).collect()
    }
}

fn no_group() -> Error {
    Error::InvalidGroupId {
        group: String::new(),
        reason: "this consumer has no group: give its builder a `group` to subscribe or to commit".to_owned(),
    }
}
