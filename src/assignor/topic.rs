//! The topics that there is something to decide about, with who wants and who has them.

use std::collections::BTreeMap;

use super::assignment::GroupAssignment;
use super::spec::GroupSpec;
use crate::types::TopicPartition;

/// The place of a member in the order of G-11. Where two are as good as each other, the first one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Rank(pub(super) usize);

/// A topic that exists and that somebody subscribes to.
#[derive(Debug)]
pub(super) struct SubscribedTopic<'a> {
    pub(super) name: &'a str,
    /// In their order.
    pub(super) subscribers: Vec<Rank>,
    /// What is known of the owner of each partition.
    claims: Vec<Claim>,
}

/// What the members say about who had a partition last.
#[derive(Debug, Clone, Copy)]
enum Claim {
    Nobody,
    /// One of this generation.
    One(Rank, u64),
    /// Several of this generation, so nobody: they can't all be right (G-14).
    Several(u64),
}

impl Claim {
    /// What is known after one more member claimed it.
    fn and(self, rank: Rank, generation: u64) -> Self {
        match self {
            Claim::One(claimer, _) if claimer == rank => self,
            Claim::One(_, known) | Claim::Several(known) if generation < known => self,
            Claim::One(_, known) | Claim::Several(known) if generation == known => Claim::Several(known),
            Claim::Nobody | Claim::One(..) | Claim::Several(_) => Claim::One(rank, generation),
        }
    }
}

impl SubscribedTopic<'_> {
    /// Notes a claim; not that of a member which does not subscribe any more, nor that to a partition which is not there.
    fn claim(&mut self, partition: u32, rank: Rank, generation: u64) {
        if !self.is_for(rank) {
            return;
        }
        if let Some(claim) = usize::try_from(partition).ok().and_then(|at| self.claims.get_mut(at)) {
            *claim = claim.and(rank, generation);
        }
    }

    /// Whether a member subscribes to it.
    pub(super) fn is_for(&self, rank: Rank) -> bool {
        self.subscribers.binary_search(&rank).is_ok()
    }

    pub(super) fn partition_count(&self) -> usize {
        self.claims.len()
    }

    /// Its partitions, in their order.
    pub(super) fn partitions(&self) -> impl Iterator<Item = TopicPartition> {
        (0_u32..).zip(&self.claims).map(|(partition, _)| TopicPartition::new(self.name, partition))
    }

    /// Who has each partition, in their order.
    pub(super) fn owners(&self) -> impl Iterator<Item = Option<Rank>> {
        self.claims.iter().map(|claim| match claim {
            Claim::One(rank, _) => Some(*rank),
            Claim::Nobody | Claim::Several(_) => None,
        })
    }
}

/// The topics that exist and that somebody subscribes to, by name.
pub(super) fn subscribed_topics<'a>(group: &'a GroupSpec) -> Vec<SubscribedTopic<'a>> {
    let unclaimed = |(name, count): (&'a String, &u32)| {
        let claims = (0..*count).map(|_| Claim::Nobody).collect();
        (name.as_str(), SubscribedTopic { name, subscribers: Vec::new(), claims })
    };
    let mut topics: BTreeMap<&str, SubscribedTopic<'_>> = group.topics().iter().map(unclaimed).collect();
    let ranked = || group.members().iter().enumerate().map(|(at, member)| (Rank(at), member));
    for (rank, member) in ranked() {
        for name in member.subscribed() {
            if let Some(topic) = topics.get_mut(name) {
                topic.subscribers.push(rank);
            }
        }
    }
    topics.retain(|_, topic| !topic.subscribers.is_empty());
    for (rank, member) in ranked() {
        for owned in member.owns() {
            if let Some(topic) = topics.get_mut(owned.topic()) {
                topic.claim(owned.partition(), rank, member.owned_in());
            }
        }
    }
    topics.into_values().collect()
}

/// How many of `total` partitions each of some members may have, so that nobody has two more than another. The remainder goes
/// to those that have more than the others' share already, then to the first.
pub(super) fn quotas(members: &[Rank], total: usize, has: impl Fn(Rank) -> usize) -> BTreeMap<Rank, usize> {
    let least = total.checked_div(members.len()).unwrap_or(0);
    let remainder = total.checked_rem(members.len()).unwrap_or(0);
    let (more, others): (Vec<_>, Vec<_>) = members.iter().partition(|rank| has(**rank) > least);
    let in_turn = more.into_iter().chain(others).enumerate();
    in_turn.map(|(turn, rank)| (rank, least + usize::from(turn < remainder))).collect()
}

/// Who gets what, while it is being decided.
#[derive(Debug)]
pub(super) struct Shares(Vec<Vec<TopicPartition>>);

impl Shares {
    /// Nothing for everybody.
    pub(super) fn new(group: &GroupSpec) -> Self {
        Self(group.members().iter().map(|_| Vec::new()).collect())
    }

    pub(super) fn give(&mut self, rank: Rank, partition: TopicPartition) {
        if let Some(share) = self.0.get_mut(rank.0) {
            share.push(partition);
        }
    }

    /// The assignment: an entry for everybody, the partitions in their order.
    pub(super) fn into_assignment(self, group: &GroupSpec) -> GroupAssignment {
        let shares = group.members().iter().zip(self.0).map(|(member, mut share)| {
            share.sort_unstable();
            (member.member_id().to_owned(), share)
        });
        shares.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignor::MemberSpec;

    /// The owners of `t` (2 partitions), from who claims what: generation, whether it subscribes, partitions.
    fn owners(claims: &[(u64, bool, &[u32])]) -> Vec<Option<Rank>> {
        let members = claims.iter().zip('a'..).map(|((generation, subscribes, owned), id)| {
            let owned = owned.iter().map(|&partition| TopicPartition::new("t", partition));
            MemberSpec::new(id).topics(subscribes.then_some("t")).owned(owned).generation(*generation)
        });
        let reader = MemberSpec::new("reader").topics(["t"]);
        let group = GroupSpec::new(members.chain([reader]), [("t", 2)]);
        subscribed_topics(&group).iter().flat_map(|topic| topic.owners().collect::<Vec<_>>()).collect()
    }

    #[test]
    fn the_latest_claim_counts_and_equal_claims_cancel_out() {
        let owner = |rank| Some(Rank(rank));
        assert_eq!(owners(&[(0, true, &[0]), (0, true, &[1])]), [owner(0), owner(1)]);
        assert_eq!(owners(&[(9, true, &[0, 1]), (10, true, &[1])]), [owner(0), owner(1)]);
        assert_eq!(owners(&[(1, true, &[0]), (0, true, &[0])]), [owner(0), None]);
        assert_eq!(owners(&[(3, true, &[0, 1]), (3, true, &[1])]), [owner(0), None]);
        // A later one settles what earlier ones disagree about, and an earlier one does not.
        assert_eq!(owners(&[(3, true, &[0]), (3, true, &[0]), (4, true, &[0])]), [owner(2), None]);
        assert_eq!(owners(&[(3, true, &[0]), (3, true, &[0]), (2, true, &[0])]), [None, None]);
    }

    #[test]
    fn what_is_claimed_in_vain_has_no_owner() {
        assert_eq!(owners(&[(0, true, &[2, u32::MAX])]), [None, None]);
        assert_eq!(owners(&[(0, false, &[0]), (0, true, &[1, 1])]), [None, Some(Rank(1))]);
    }

    #[test]
    fn quotas_leave_the_remainder_where_it_is() {
        let members: Vec<_> = (0..3).map(Rank).collect();
        let of =
            |total, owned: [usize; 3]| quotas(&members, total, |rank| owned[rank.0]).into_values().collect::<Vec<_>>();
        assert_eq!(of(5, [0, 0, 0]), [2, 2, 1]);
        assert_eq!(of(5, [1, 1, 2]), [2, 1, 2]);
        assert_eq!(of(4, [2, 2, 0]), [2, 1, 1]);
        assert_eq!(of(0, [0, 0, 0]), [0, 0, 0]);
        assert!(quotas(&[], 4, |_| 0).is_empty());
    }
}
