//! Who of a group reads which partition.
//!
//! An assignor is a pure function: it gets the members with what they subscribe to and what they have, and the topics with their
//! partitions, and says which partitions each member shall have. How and when a partition changes hands is not its business.
//!
//! | | |
//! |---|---|
//! | `range` | topic by topic, neighbours together |
//! | `round_robin` | one partition after the other, in turns |
//! | `uniform` | everybody as much as everybody else, with as few moves as that takes |

mod assignment;
mod range;
mod round_robin;
mod spec;
mod topic;
mod uniform;

use std::fmt;
use std::sync::Arc;

pub use assignment::GroupAssignment;
pub(crate) use assignment::check;
pub use range::RangeAssignor;
pub use round_robin::RoundRobinAssignor;
pub use spec::{GroupSpec, MemberSpec};
pub use uniform::{StickyAssignor, UniformAssignor};

use crate::error::{Error, Result};
use crate::panics::caught;

/// Shares the partitions of a group's topics among its members (KIP-848).
///
/// There are four, as in Kafka: [`UniformAssignor`], the default, [`RangeAssignor`], [`RoundRobinAssignor`] and
/// [`StickyAssignor`].
///
/// # When is it called?
///
/// Whenever the members, their subscriptions or the topics change. The group then moves to the new assignment step by step: a
/// partition is given up by its old owner before its new one gets it, whatever the assignor says. It is called while the
/// group is locked: it must neither block nor use the broker.
///
/// # What must an own assignor do?
///
/// Give every partition of every topic that exists and that somebody subscribes to, to exactly one member who does; a member
/// may be given nothing (G-16). An assignment that breaks this is refused with
/// [`Error::PartitionAssignor`](crate::Error::PartitionAssignor), as is one that panics: the one before stays, and the members'
/// `poll`s say so until the group changes again. It should also give equal answers
/// to equal questions, and leave partitions where they are, because nobody reads them while they move.
///
/// ```
/// use brooklet::{Assignor, Broker, GroupAssignment, GroupSpec, MemberSpec, Result, TopicPartition};
///
/// /// One member reads a topic; the others stand by.
/// #[derive(Debug)]
/// struct Leader;
///
/// impl Assignor for Leader {
///     fn name(&self) -> &str {
///         "leader"
///     }
///
///     fn assign(&self, group: &GroupSpec) -> Result<GroupAssignment> {
///         let mut assignment = GroupAssignment::default();
///         for (topic, &partitions) in group.topics() {
///             // A topic that nobody subscribes to is left out.
///             if let Some(leader) = group.members().iter().find(|member| member.subscribes(topic)) {
///                 let all = (0..partitions).map(|partition| TopicPartition::new(topic, partition));
///                 assignment.give(leader.member_id(), all);
///             }
///         }
///         Ok(assignment)
///     }
/// }
///
/// let members = ["a", "b"].map(|id| MemberSpec::new(id).topics(["orders"]));
/// let assignment = Leader.assign(&GroupSpec::new(members, [("orders", 2)]))?;
/// assert_eq!(assignment.of("a").len(), 2);
/// assert!(assignment.of("b").is_empty());
///
/// let broker = Broker::in_memory()?;
/// let consumer = broker.consumer().group("billing").assignor(Leader).subscribe(["orders"])?;
/// # drop(consumer);
/// # Ok::<(), brooklet::Error>(())
/// ```
pub trait Assignor: fmt::Debug + Send + Sync + 'static {
    /// The name by which the members of a group agree on one, and which a description of the group shows: Kafka's own for those
    /// that Kafka has. A consumer asks for it once, when it is built; if it panics, that fails with
    /// [`Error::PartitionAssignor`](crate::Error::PartitionAssignor).
    fn name(&self) -> &str;

    /// Who shall have what. Members that are given nothing need not be named.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from making an assignment; the group keeps the one before. Those of this crate never fail.
    fn assign(&self, group: &GroupSpec) -> Result<GroupAssignment>;
}

/// An assignor with its name, which it was asked for once.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: Arc<str>,
    pub(crate) assignor: Arc<dyn Assignor>,
}

impl Named {
    /// Asks an assignor for its name.
    ///
    /// # Errors
    ///
    /// [`Error::PartitionAssignor`] when that panics.
    pub(crate) fn new(assignor: Arc<dyn Assignor>) -> Result<Self> {
        match caught(|| assignor.name().into()) {
            Ok(name) => Ok(Self { name, assignor }),
            Err(reason) => {
                let reason = format!("its method `name` has to return a name, but {reason}");
                Err(Error::PartitionAssignor { assignor: "?".to_owned(), reason })
            }
        }
    }

    /// The one of a group whose members ask for none.
    pub(crate) fn uniform() -> Self {
        Self { name: UniformAssignor.name().into(), assignor: Arc::new(UniformAssignor) }
    }
}

/// The assignor of a name that Kafka knows: `uniform`, `range`, `roundrobin`, `sticky` or `cooperative-sticky`. The last two are
/// the same [`StickyAssignor`].
///
/// ```
/// use brooklet::assignor_named;
///
/// assert_eq!(assignor_named("range").unwrap().name(), "range");
/// assert_eq!(assignor_named("cooperative-sticky").unwrap().name(), "sticky");
/// assert!(assignor_named("fair").is_none());
/// ```
pub fn assignor_named(name: &str) -> Option<Arc<dyn Assignor>> {
    match name {
        "uniform" => Some(Arc::new(UniformAssignor)),
        "range" => Some(Arc::new(RangeAssignor)),
        "roundrobin" => Some(Arc::new(RoundRobinAssignor)),
        "sticky" | "cooperative-sticky" => Some(Arc::new(StickyAssignor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
