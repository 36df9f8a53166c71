//! The partitions that a consumer reads.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::positions::{Assigned, Position};
use crate::engine::{PartitionLog, Waiter};
use crate::error::{Error, Result};
use crate::types::{LogId, Offset, TopicPartition};

/// The partitions that a consumer reads, each once.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) partitions: Vec<Assigned>,
    by_name: HashMap<TopicPartition, usize>,
    /// The partition whose turn it is (C-10).
    pub(super) turn: usize,
    waiter: Arc<Waiter>,
}

impl Assignment {
    pub(super) fn new(waiter: Arc<Waiter>) -> Self {
        Self { partitions: Vec::new(), by_name: HashMap::new(), turn: 0, waiter }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    pub(super) fn names(&self) -> Vec<TopicPartition> {
        self.partitions.iter().map(|assigned| assigned.log.name.clone()).collect()
    }

    pub(super) fn get(&self, partition: &TopicPartition) -> Result<&Assigned> {
        let assigned = self.by_name.get(partition).and_then(|&i| self.partitions.get(i));
        assigned.ok_or_else(|| not_assigned(partition))
    }

    pub(super) fn get_mut(&mut self, partition: &TopicPartition) -> Result<&mut Assigned> {
        let assigned = self.by_name.get(partition).and_then(|&i| self.partitions.get_mut(i));
        assigned.ok_or_else(|| not_assigned(partition))
    }

    /// Replaces everything. What stays keeps its position, and whether it is paused (C-4).
    pub(super) fn replace(&mut self, logs: Vec<Arc<PartitionLog>>) {
        let mut places = HashMap::new();
        for log in &logs {
            let next = places.len();
            places.entry(log.id).or_insert(next);
        }
        self.retain(|assigned| places.contains_key(&assigned.log.id));
        self.add(logs);
        self.partitions.sort_by_key(|assigned| places.get(&assigned.log.id).copied());
        self.index();
    }

    /// Adds partitions, without a position. Those that are here already stay as they are.
    pub(super) fn add(&mut self, logs: Vec<Arc<PartitionLog>>) {
        for log in logs {
            if !self.by_name.contains_key(&log.name) {
                self.by_name.insert(log.name.clone(), self.partitions.len());
                self.partitions.push(Assigned::new(log, &self.waiter));
            }
        }
    }

    /// Takes partitions away.
    pub(super) fn remove(&mut self, logs: &[LogId]) {
        let removed: HashSet<LogId> = logs.iter().copied().collect();
        self.retain(|assigned| !removed.contains(&assigned.log.id));
    }

    pub(super) fn clear(&mut self) {
        self.retain(|_| false);
    }

    fn retain(&mut self, keep: impl Fn(&Assigned) -> bool) {
        let waiter = &self.waiter;
        self.partitions.retain(|assigned| {
            let kept = keep(assigned);
            if !kept {
                assigned.log.remove_waiter(waiter);
            }
            kept
        });
        self.index();
    }

    /// Notes where each partition is.
    fn index(&mut self) {
        let places = self.partitions.iter().enumerate();
        self.by_name = places.map(|(i, assigned)| (assigned.log.name.clone(), i)).collect();
        self.turn = 0;
    }

    /// Where reading has got to, of the partitions that exist and have a position (C-32).
    pub(super) fn offsets(&self) -> Vec<(TopicPartition, LogId, Offset)> {
        let position = |assigned: &Assigned| match assigned.position {
            Position::At(_) if assigned.log.is_deleted() => None,
            Position::At(offset) => Some((assigned.log.name.clone(), assigned.log.id, offset)),
            Position::Seek(_) | Position::Unset => None,
        };
        self.partitions.iter().filter_map(position).collect()
    }
}

impl Drop for Assignment {
    fn drop(&mut self) {
        self.clear();
    }
}

fn not_assigned(partition: &TopicPartition) -> Error {
    Error::illegal_state(format!("partition {partition} is not assigned to this consumer"))
}
