//! Who reads which partition: the members of one group, and the way from one assignment to the next (KIP-848).
//!
//! Every change of the members, of what they subscribe to, or of the topics makes a new *epoch* of the group with a new
//! *target*: what each member shall own. A member moves there by itself, step by step, whenever it asks:
//!
//! ```text
//!   owned                        target
//!   A {0, 1, 2}   B joins        A {0, 1}  B {2}
//!   A is told to give up 2  ->   A {0, 1}  B {}      only now is 2 free
//!                                A {0, 1}  B {2}
//! ```
//!
//! So a partition never has two owners (G-47), and a member that keeps its partitions is not disturbed.
//!
//! Pure: no I/O, no locks; time and topics come in as arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::member::{JoinRequest, Member, MemberId, Presence, Subscription};
use crate::assignor::{self, GroupSpec, MemberSpec, Named};
use crate::engine::Topic;
use crate::error::{Error, Result};
use crate::group::GroupState;
use crate::panics::caught;
use crate::types::{LogId, TopicName, TopicPartition};

/// The members of one group.
#[derive(Debug)]
pub(super) struct Coordinator {
    /// Counted up by every new target.
    epoch: u64,
    members: BTreeMap<MemberId, Member>,
    /// What each member shall own.
    target: BTreeMap<MemberId, BTreeSet<LogId>>,
    /// Who owns it now.
    owners: BTreeMap<LogId, MemberId>,
    /// What is subscribed to and exists: the target was made for this.
    topics: BTreeMap<TopicName, Arc<Topic>>,
    /// Why the last target could not be made; the one before stays.
    failed: Option<Error>,
}

/// What a member has to do next to get to the target.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Stop reading these, then [`release`](Coordinator::release) them.
    Revoke(Vec<LogId>),
    /// Read these too; they are the member's now. Empty: a new epoch changed nothing for it.
    Assign(Vec<LogId>),
    /// Nothing, until somebody else did something.
    Settled,
}

/// The member is not one any more: it was away for too long, or removed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fenced;

/// A member with this instance id is alive (G-53).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InstanceInUse;

impl Coordinator {
    /// A group without members. `epoch` is the last one that it had.
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            members: BTreeMap::new(),
            target: BTreeMap::new(),
            owners: BTreeMap::new(),
            topics: BTreeMap::new(),
            failed: None,
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&MemberId, &Member)> {
        self.members.iter()
    }

    pub(super) fn member(&self, id: &MemberId) -> Option<&Member> {
        self.members.get(id)
    }

    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// The topics that somebody subscribes to, and which exist.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// What a member shall own.
    pub(super) fn target_of(&self, id: &MemberId) -> impl Iterator<Item = LogId> {
        self.target.get(id).into_iter().flatten().copied()
    }

    pub(super) fn owner(&self, log: LogId) -> Option<&MemberId> {
        self.owners.get(&log)
    }

    /// G-7.
    pub(super) fn state(&self) -> GroupState {
        let on_target = |(id, member): (&MemberId, &Member)| {
            member.epoch == self.epoch && self.target_of(id).eq(member.owned.keys().copied())
        };
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.failed.is_some() {
            GroupState::Assigning
        } else if self.members.iter().all(on_target) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// A new member. One with the instance id of a member that is away takes that one's place, and nothing moves (G-52).
    pub(super) fn join(
        &mut self,
        id: MemberId,
        request: JoinRequest,
        topics: &[Arc<Topic>],
        now_ms: i64,
    ) -> Result<(), InstanceInUse> {
        let before = self.member_of_instance(request.instance_id.as_deref());
        match before {
            None => {
                self.members.insert(id, Member::new(request, 0));
                self.retarget(topics);
            }
            Some(before) => self.return_as(&before, id, request, topics, now_ms)?,
        }
        Ok(())
    }

    fn return_as(
        &mut self,
        before: &MemberId,
        id: MemberId,
        request: JoinRequest,
        topics: &[Arc<Topic>],
        now_ms: i64,
    ) -> Result<(), InstanceInUse> {
        let away = self.members.get(before).is_some_and(|member| member.is_away(now_ms));
        let Some(old) = (if away { self.members.remove(before) } else { None }) else { return Err(InstanceInUse) };
        let same =
            old.request.subscription == request.subscription && old.request.assignor_name() == request.assignor_name();
        // The handle is a new one and reads nothing yet: it is given everything again.
        old.owned.keys().for_each(|log| drop(self.owners.remove(log)));
        if let Some(target) = self.target.remove(before) {
            self.target.insert(id.clone(), target);
        }
        self.members.insert(id, Member::new(request, old.epoch));
        if !same {
            self.retarget(topics);
        }
        Ok(())
    }

    fn member_of_instance(&self, instance_id: Option<&str>) -> Option<MemberId> {
        let instance_id = instance_id?;
        let mut members = self.members.iter();
        members.find(|(_, member)| member.request.instance_id.as_deref() == Some(instance_id)).map(|(id, _)| id.clone())
    }

    /// Another subscription of a member.
    pub(super) fn subscribe(
        &mut self,
        id: &MemberId,
        subscription: Subscription,
        topics: &[Arc<Topic>],
    ) -> Result<(), Fenced> {
        let member = self.members.get_mut(id).ok_or(Fenced)?;
        if member.request.subscription != subscription {
            member.request.subscription = subscription;
            self.retarget(topics);
        }
        Ok(())
    }

    /// A member goes, and what it owned is free.
    pub(super) fn leave(&mut self, id: &MemberId, topics: &[Arc<Topic>]) {
        if self.remove(id) {
            self.retarget(topics);
        }
    }

    /// A member with an instance id goes, to come back before `until_ms`: its partitions wait for it (G-52).
    pub(super) fn go_away(&mut self, id: &MemberId, until_ms: i64) {
        if let Some(member) = self.members.get_mut(id) {
            member.presence = Presence::Away { until_ms };
        }
    }

    /// Removes all members for which `gone` holds. `true` if there was one.
    pub(super) fn remove_if(&mut self, gone: impl Fn(&Member) -> bool, topics: &[Arc<Topic>]) -> bool {
        let ids: Vec<_> = self.members.iter().filter(|(_, member)| gone(member)).map(|(id, _)| id.clone()).collect();
        for id in &ids {
            self.remove(id);
        }
        if !ids.is_empty() {
            self.retarget(topics);
        }
        !ids.is_empty()
    }

    fn remove(&mut self, id: &MemberId) -> bool {
        let Some(member) = self.members.remove(id) else { return false };
        member.owned.keys().for_each(|log| drop(self.owners.remove(log)));
        true
    }

    /// The topics changed. `true` if that makes another target.
    pub(super) fn refresh(&mut self, topics: &[Arc<Topic>]) -> bool {
        let changed = !same_partitions(&self.topics, &self.subscribed(topics));
        if changed {
            self.retarget(topics);
        }
        changed
    }

    /// What the member has to do next.
    pub(super) fn next_step(&mut self, id: &MemberId) -> Result<Result<Step>, Fenced> {
        let none = BTreeSet::new();
        let target = self.target.get(id).unwrap_or(&none);
        let member = self.members.get_mut(id).ok_or(Fenced)?;
        let surplus: Vec<_> = member.owned.keys().filter(|log| !target.contains(log)).copied().collect();
        if !surplus.is_empty() {
            return Ok(Ok(Step::Revoke(surplus)));
        }
        if let Some(error) = &self.failed {
            return Ok(Err(error.clone()));
        }
        let moved = std::mem::replace(&mut member.epoch, self.epoch) != self.epoch;
        let missing: Vec<_> = target.iter().filter(|log| !member.owned.contains_key(log)).copied().collect();
        let free: Vec<_> = missing.iter().filter(|log| !self.owners.contains_key(log)).copied().collect();
        for &log in &free {
            member.owned.insert(log, self.epoch);
            self.owners.insert(log, id.clone());
        }
        Ok(Ok(if free.is_empty() && !(moved && missing.is_empty()) { Step::Settled } else { Step::Assign(free) }))
    }

    /// The member has stopped reading these: others may have them.
    pub(super) fn release(&mut self, id: &MemberId, logs: &[LogId]) -> Result<(), Fenced> {
        let member = self.members.get_mut(id).ok_or(Fenced)?;
        for log in logs {
            if member.owned.remove(log).is_some() {
                self.owners.remove(log);
            }
        }
        let target = self.target.get(id);
        if self.failed.is_none() && member.owned.keys().all(|log| target.is_some_and(|target| target.contains(log))) {
            member.epoch = self.epoch;
        }
        Ok(())
    }

    /// A new epoch with a new target.
    fn retarget(&mut self, topics: &[Arc<Topic>]) {
        self.epoch += 1;
        self.topics = self.subscribed(topics);
        match self.compute_target() {
            Ok(target) => {
                self.target = target;
                self.failed = None;
            }
            Err(error) => {
                // What nobody may own any more must not stay in the old target.
                let Self { target, members, .. } = self;
                target.retain(|id, _| members.contains_key(id));
                self.failed = Some(error);
            }
        }
    }

    fn compute_target(&self) -> Result<BTreeMap<MemberId, BTreeSet<LogId>>> {
        let assignor = self.assignor();
        let spec = self.spec();
        let failed = |reason| Error::PartitionAssignor { assignor: assignor.name.as_ref().to_owned(), reason };
        let assignment = match caught(|| assignor.assignor.assign(&spec)) {
            Err(reason) => return Err(failed(reason)),
            Ok(Err(error @ Error::PartitionAssignor { .. })) => return Err(error),
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Ok(Ok(assignment)) => assignment,
        };
        assignor::check(&assignor.name, &spec, &assignment)?;
        let target = self.members.keys().map(|id| {
            let given = assignment.of(id.as_str()).iter();
            (id.clone(), given.filter_map(|partition| self.log_of(partition)).collect())
        });
        Ok(target.collect())
    }

    /// The one that most members ask for; among equals the first by name. Uniform when nobody asks (G-6).
    pub(super) fn assignor(&self) -> Named {
        let mut votes: BTreeMap<&str, (usize, &Named)> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.request.assignor.as_ref()) {
            votes.entry(&assignor.name).or_insert((0, assignor)).0 += 1;
        }
        let most = votes.into_values().rev().max_by_key(|(count, _)| *count);
        most.map_or_else(Named::uniform, |(_, assignor)| assignor.clone())
    }

    fn spec(&self) -> GroupSpec {
        let topics = self.topics.values().map(|topic| (topic.name.to_string(), topic.partition_count()));
        let names: BTreeMap<LogId, TopicPartition> = self
            .topics
            .values()
            .flat_map(|topic| topic.partitions.iter().map(|log| (log.id, log.name.clone())))
            .collect();
        let members = self.members.iter().map(|(id, member)| {
            let subscribed = self.topics.keys().filter(|name| member.request.subscription.matches(name.as_str()));
            MemberSpec::new(id.as_str())
                .instance_id(member.request.instance_id.as_deref())
                .topics(subscribed.map(TopicName::to_string))
                .owned(self.target_of(id).filter_map(|log| names.get(&log).cloned()))
        });
        GroupSpec::new(members, topics)
    }

    fn log_of(&self, partition: &TopicPartition) -> Option<LogId> {
        let topic = self.topics.get(partition.topic())?;
        (partition.partition() < topic.partition_count())
            .then_some(LogId { topic: topic.number, partition: partition.partition() })
    }

    /// Of `topics`, those that a member subscribes to.
    fn subscribed(&self, topics: &[Arc<Topic>]) -> BTreeMap<TopicName, Arc<Topic>> {
        let wanted = |topic: &&Arc<Topic>| {
            self.members.values().any(|member| member.request.subscription.matches(topic.name.as_str()))
        };
        topics.iter().filter(wanted).map(|topic| (topic.name.clone(), Arc::clone(topic))).collect()
    }
}

/// Whether two choices of topics have the same partitions.
fn same_partitions(a: &BTreeMap<TopicName, Arc<Topic>>, b: &BTreeMap<TopicName, Arc<Topic>>) -> bool {
    let shape = |topic: &Arc<Topic>| (topic.number, topic.partition_count());
    a.values().map(shape).eq(b.values().map(shape))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::assignor::{Assignor, GroupAssignment, RangeAssignor};
    use crate::config::TopicConfig;
    use crate::engine::groups::member::Liveness;
    use crate::engine::{PartitionLog, Waiter};
    use crate::types::{Offset, TopicId, TopicNumber};

    /// A topic's number, and a partition.
    type Number = (u32, u32);

    /// A coordinator with the topics that it is told of.
    struct Group {
        coordinator: Coordinator,
        topics: Vec<Arc<Topic>>,
    }

    fn topic(number: u32, name: &str, partitions: u32) -> Arc<Topic> {
        let (name, id) = (TopicName::new(name).unwrap(), TopicId::new(u128::from(number)));
        let log = |partition| {
            let log = LogId { topic: TopicNumber(number), partition };
            Arc::new(PartitionLog::new(log, (id, &name), (Offset::ZERO, Offset::ZERO), TopicConfig::default().layout()))
        };
        Arc::new(Topic {
            number: TopicNumber(number),
            id,
            name: name.clone(),
            created_ms: 0,
            config: TopicConfig::default(),
            partitions: (0..partitions).map(log).collect(),
        })
    }

    fn request(topics: &[&str], instance_id: Option<&str>) -> JoinRequest {
        JoinRequest {
            instance_id: instance_id.map(str::to_owned),
            client_id: "test".to_owned(),
            subscription: Subscription::topics(topics).unwrap(),
            assignor: Some(named(RangeAssignor)),
            liveness: Arc::new(Liveness::new(Duration::from_secs(300), 0)),
            waiter: Arc::new(Waiter::default()),
            session_timeout: Duration::from_secs(45),
        }
    }

    fn named(assignor: impl Assignor) -> Named {
        Named::new(Arc::new(assignor)).unwrap()
    }

    fn id(name: &str) -> MemberId {
        MemberId::new(name)
    }

    impl Group {
        fn new(topics: Vec<Arc<Topic>>) -> Self {
            Self { coordinator: Coordinator::new(0), topics }
        }

        fn join(&mut self, name: &str, topics: &[&str]) {
            self.coordinator.join(id(name), request(topics, None), &self.topics, 0).unwrap();
        }

        fn step(&mut self, name: &str) -> Step {
            self.coordinator.next_step(&id(name)).unwrap().unwrap()
        }

        /// Everything that a poll does: what is revoked, and what is assigned.
        fn poll(&mut self, name: &str) -> (Vec<Number>, Vec<Number>) {
            let mut moved = (Vec::new(), Vec::new());
            let numbers = |logs: &[LogId]| logs.iter().map(|log| (log.topic.0, log.partition)).collect::<Vec<_>>();
            loop {
                match self.step(name) {
                    Step::Revoke(logs) => {
                        moved.0.extend(numbers(&logs));
                        self.coordinator.release(&id(name), &logs).unwrap();
                    }
                    Step::Assign(logs) => moved.1.extend(numbers(&logs)),
                    Step::Settled => return moved,
                }
            }
        }

        fn owned(&self, name: &str) -> Vec<(u32, u32)> {
            let member = self.coordinator.member(&id(name)).unwrap();
            member.owned.keys().map(|log| (log.topic.0, log.partition)).collect()
        }

        fn epoch(&self, name: &str) -> u64 {
            self.coordinator.member(&id(name)).unwrap().epoch
        }
    }

    const FOO: u32 = 0;
    const BAR: u32 = 1;

    fn foo_and_bar() -> Vec<Arc<Topic>> {
        vec![topic(FOO, "foo", 6), topic(BAR, "bar", 3)]
    }

    /// The targets of Kafka's test: of two members, and of three.
    #[derive(Debug)]
    struct Scripted;

    impl Assignor for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }

        fn assign(&self, group: &GroupSpec) -> Result<GroupAssignment> {
            let (all_foo, all_bar) = (0..group.topics()["foo"], 0..group.topics()["bar"]);
            let shares: &[(&[u32], &[u32])] = match group.members().len() {
                1 => &[(&[0, 1, 2, 3, 4, 5], &[0, 1, 2])],
                2 => &[(&[0, 1, 2], &[0, 1]), (&[3, 4, 5], &[2])],
                _ => &[(&[0, 1], &[0]), (&[2, 3], &[2]), (&[4, 5], &[1])],
            };
            assert!(all_foo.len() == 6 && all_bar.len() == 3);
            let mut assignment = GroupAssignment::default();
            for (member, (foo, bar)) in group.members().iter().zip(shares) {
                assignment.give(member.member_id(), foo.iter().map(|&n| TopicPartition::new("foo", n)));
                assignment.give(member.member_id(), bar.iter().map(|&n| TopicPartition::new("bar", n)));
            }
            Ok(assignment)
        }
    }

    /// GroupMetadataManagerTest.testReconciliationProcess (C51, G-47).
    #[test]
    fn a_partition_is_given_up_before_somebody_else_gets_it() {
        let mut group = Group::new(foo_and_bar());
        group.coordinator.epoch = 8;
        let join = |group: &mut Group, name| {
            let request = JoinRequest { assignor: Some(named(Scripted)), ..request(&["foo", "bar"], None) };
            group.coordinator.join(id(name), request, &group.topics, 0).unwrap();
        };
        join(&mut group, "m1");
        join(&mut group, "m2");
        group.poll("m1");
        group.poll("m2");
        assert_eq!(group.owned("m1"), [(FOO, 0), (FOO, 1), (FOO, 2), (BAR, 0), (BAR, 1)]);
        assert_eq!(group.owned("m2"), [(FOO, 3), (FOO, 4), (FOO, 5), (BAR, 2)]);
        assert_eq!((group.coordinator.epoch(), group.coordinator.state()), (10, GroupState::Stable));

        join(&mut group, "m3");
        assert_eq!((group.coordinator.epoch(), group.coordinator.state()), (11, GroupState::Reconciling));
        // m3 is at the new epoch with nothing, and is not called.
        assert_eq!(group.poll("m3"), (vec![], vec![]));
        assert_eq!(group.epoch("m3"), 11);
        // m1 is told to give up two; until it has, it stays at its epoch, and nobody gets them.
        let Step::Revoke(logs) = group.step("m1") else { panic!("m1 has too much") };
        assert_eq!(logs.iter().map(|log| (log.topic.0, log.partition)).collect::<Vec<_>>(), [(FOO, 2), (BAR, 1)]);
        assert_eq!(group.epoch("m1"), 10);
        assert_eq!(group.poll("m3"), (vec![], vec![]));
        group.coordinator.release(&id("m1"), &logs).unwrap();
        assert_eq!((group.epoch("m1"), group.step("m1")), (11, Step::Settled));
        assert_eq!(group.poll("m3"), (vec![], vec![(BAR, 1)]));
        assert_eq!(group.coordinator.state(), GroupState::Reconciling);
        assert_eq!(group.poll("m2"), (vec![(FOO, 4), (FOO, 5)], vec![(FOO, 2)]));
        assert_eq!(group.epoch("m2"), 11);
        assert_eq!(group.poll("m3"), (vec![], vec![(FOO, 4), (FOO, 5)]));
        assert_eq!(group.coordinator.state(), GroupState::Stable);
        // What was kept is owned since the epoch before, what is new since this one.
        let member = group.coordinator.member(&id("m2")).unwrap();
        let since = |partition| member.owned[&LogId { topic: TopicNumber(FOO), partition }];
        assert_eq!((since(2), since(3)), (11, 10));
    }

    /// ConsumerGroupTest.testGroupState (G-7).
    #[test]
    fn a_group_is_stable_when_everybody_is_on_target() {
        let mut group = Group::new(foo_and_bar());
        assert_eq!(group.coordinator.state(), GroupState::Empty);
        group.join("m1", &["foo"]);
        assert_eq!(group.coordinator.state(), GroupState::Reconciling);
        group.poll("m1");
        assert_eq!(group.coordinator.state(), GroupState::Stable);
        group.coordinator.leave(&id("m1"), &group.topics);
        assert_eq!(group.coordinator.state(), GroupState::Empty);
    }

    /// GroupMetadataManagerTest.testNoGroupEpochBumpWhenStaticMemberTemporarilyLeaves (C54, G-52).
    #[test]
    fn a_static_member_that_comes_back_disturbs_nobody() {
        let mut group = Group::new(foo_and_bar());
        for member in ["m1", "m2"] {
            let request = request(&["foo", "bar"], Some(member));
            group.coordinator.join(id(member), request, &group.topics, 0).unwrap();
        }
        group.poll("m1");
        group.poll("m2");
        let (epoch, owned) = (group.coordinator.epoch(), group.owned("m2"));
        group.coordinator.go_away(&id("m2"), 45_000);
        let request = || request(&["foo", "bar"], Some("m2"));
        group.coordinator.join(id("m2-again"), request(), &group.topics, 0).unwrap();
        assert_eq!(group.coordinator.epoch(), epoch);
        assert_eq!(group.poll("m1"), (vec![], vec![]));
        assert_eq!(group.poll("m2-again"), (vec![], owned));
        // While it is here, nobody else can be it (G-53).
        let joined = group.coordinator.join(id("m2-twice"), request(), &group.topics, 0);
        assert_eq!(joined, Err(InstanceInUse));
    }

    #[test]
    fn who_was_removed_is_told_and_what_it_had_is_free() {
        let mut group = Group::new(foo_and_bar());
        group.join("m1", &["foo"]);
        group.join("m2", &["foo"]);
        group.poll("m1");
        group.poll("m2");
        assert!(group.coordinator.remove_if(
            |member| member.owned.contains_key(&LogId { topic: TopicNumber(FOO), partition: 0 }),
            &group.topics
        ));
        assert!(matches!(group.coordinator.next_step(&id("m1")), Err(Fenced)));
        assert_eq!(group.coordinator.release(&id("m1"), &[]), Err(Fenced));
        group.poll("m2");
        assert_eq!(group.owned("m2").len(), 6);
    }

    #[test]
    fn new_partitions_and_topics_make_a_new_target_and_others_do_not() {
        let mut group = Group::new(vec![topic(FOO, "foo", 2)]);
        group.join("m1", &["foo", "bar"]);
        group.poll("m1");
        let epoch = group.coordinator.epoch();
        group.topics.push(topic(7, "other", 3));
        assert!(!group.coordinator.refresh(&group.topics));
        assert_eq!(group.coordinator.epoch(), epoch);
        group.topics.push(topic(BAR, "bar", 1));
        assert!(group.coordinator.refresh(&group.topics));
        assert_eq!(group.poll("m1"), (vec![], vec![(BAR, 0)]));
        // Deleted and created again: another topic.
        group.topics = vec![topic(FOO, "foo", 2), topic(9, "bar", 1)];
        assert!(group.coordinator.refresh(&group.topics));
        assert_eq!(group.poll("m1"), (vec![(BAR, 0)], vec![(9, 0)]));
    }

    #[test]
    fn an_assignor_that_panics_is_an_error() {
        #[derive(Debug)]
        struct Panicking;

        impl Assignor for Panicking {
            fn name(&self) -> &'static str {
                "panicking"
            }

            fn assign(&self, _: &GroupSpec) -> Result<GroupAssignment> {
                std::panic::resume_unwind(Box::new(()))
            }
        }

        let mut group = Group::new(foo_and_bar());
        let request = JoinRequest { assignor: Some(named(Panicking)), ..request(&["foo"], None) };
        group.coordinator.join(id("m1"), request, &group.topics, 0).unwrap();
        let failed = group.coordinator.next_step(&id("m1")).unwrap().unwrap_err();
        assert!(failed.to_string().contains("it panicked"), "{failed}");
    }

    /// An assignor that gives everything to everybody.
    #[derive(Debug)]
    struct Generous;

    impl Assignor for Generous {
        fn name(&self) -> &'static str {
            "generous"
        }

        fn assign(&self, group: &GroupSpec) -> Result<GroupAssignment> {
            let all = || TopicPartition::new("foo", 0);
            Ok(group.members().iter().map(|member| (member.member_id().to_owned(), vec![all()])).collect())
        }
    }

    #[test]
    fn an_assignment_that_breaks_the_rules_is_refused_and_the_one_before_stays() {
        let mut group = Group::new(foo_and_bar());
        group.join("m1", &["foo"]);
        group.poll("m1");
        let owned = group.owned("m1");
        for member in ["m2", "m3"] {
            let request = JoinRequest { assignor: Some(named(Generous)), ..request(&["foo"], None) };
            group.coordinator.join(id(member), request, &group.topics, 0).unwrap();
        }
        assert_eq!(group.coordinator.state(), GroupState::Assigning);
        let refused = group.coordinator.next_step(&id("m2")).unwrap();
        assert!(matches!(refused, Err(Error::PartitionAssignor { assignor, .. }) if assignor == "generous"));
        assert_eq!(group.owned("m1"), owned);
        for member in ["m2", "m3"] {
            group.coordinator.leave(&id(member), &group.topics);
        }
        assert_eq!(group.coordinator.state(), GroupState::Reconciling);
        group.poll("m1");
        assert_eq!(group.coordinator.state(), GroupState::Stable);
    }
}
