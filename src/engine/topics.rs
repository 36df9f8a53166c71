//! Creating, changing and deleting topics.
//!
//! A change goes straight into the store, in an update of its own. In `Buffered` mode the journal is synced first, so that
//! nothing acknowledged before the change can be lost while the change is kept: the law of the prefix.

use std::cell::Cell;
use std::sync::Arc;

use parking_lot::{ReentrantMutex, ReentrantMutexGuard};

use super::clean::Waste;
use super::commit::LargeGroups;
use super::topic::Topic;
use super::turns::Turn;
use super::{Engine, check_not_in_clock};
use crate::config::{CleanupPolicy, TopicConfig};
use crate::error::{Error, Result};
use crate::store::{Purpose, TopicRow};
use crate::types::{LogId, MAX_PARTITIONS, Offset, OffsetSpec, TopicId, TopicName, TopicNumber, TopicPartition};

/// Changes of configurations, one at a time.
#[derive(Debug, Default)]
pub(super) struct Alterations(ReentrantMutex<Cell<bool>>);

/// Lasts until it is dropped.
struct Alteration<'a>(ReentrantMutexGuard<'a, Cell<bool>>);

impl Alterations {
    /// Waits for those of other threads. Fails within one of this thread.
    fn begin(&self) -> Result<Alteration<'_>> {
        let within = self.0.lock();
        if within.replace(true) {
            return Err(Error::illegal_state(
                "a change of a configuration can't make another one: call `alter_topic` after it returned",
            ));
        }
        Ok(Alteration(within))
    }
}

impl Drop for Alteration<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// A topic to create.
#[derive(Debug, Clone)]
pub(crate) struct WantedTopic {
    pub(crate) name: TopicName,
    pub(crate) partitions: u32,
    pub(crate) config: TopicConfig,
}

impl WantedTopic {
    fn row(&self, number: TopicNumber, created_ms: i64) -> Result<TopicRow> {
        let overrides = self.config.overrides().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Ok(TopicRow {
            number,
            id: TopicId::new(random_u128()?),
            name: self.name.clone(),
            partitions: self.partitions,
            created_ms,
            overrides,
        })
    }
}

impl Engine {
    /// Creates topics, all or none. They exist when this returns, also after a power loss.
    pub(crate) fn create_topics(&self, wanted: &[WantedTopic]) -> Result<Vec<Arc<Topic>>> {
        let _turn = self.turn_to_change()?;
        self.create_in_turn(wanted)
    }

    /// Creates a topic, or gives one that exists more partitions and other configs, so that it has what is wanted.
    pub(crate) fn ensure_topic(&self, wanted: WantedTopic) -> Result<Arc<Topic>> {
        check_partition_count(wanted.partitions)?;
        wanted.config.check()?;
        self.check_writable()?;
        let _altering = self.alterations.begin()?;
        let _turn = self.turn_to_change()?;
        let Ok(present) = self.topic(wanted.name.as_str()) else {
            self.create_in_turn(std::slice::from_ref(&wanted))?;
            return self.topic(wanted.name.as_str());
        };
        let mut config = present.config.clone();
        for (key, value) in wanted.config.overrides() {
            config = config.set(key, &value)?;
        }
        config.check()?;
        let partitions = wanted.partitions.max(present.partition_count());
        if partitions == present.partition_count() && config == present.config {
            return Ok(present);
        }
        let topic = Arc::new(present.with_partitions(partitions).with_config(config));
        self.change_topic(Arc::clone(&topic))?;
        Ok(topic)
    }

    /// Creates one topic.
    #[cfg(test)]
    pub(crate) fn create_topic(&self, name: &TopicName, partitions: u32, config: TopicConfig) -> Result<Arc<Topic>> {
        let created = self.create_topics(&[WantedTopic { name: name.clone(), partitions, config }])?;
        Ok(created.into_iter().next().unwrap())
    }

    /// Creates topics; `changing_store` is held.
    fn create_in_turn(&self, wanted: &[WantedTopic]) -> Result<Vec<Arc<Topic>>> {
        let first = self.check_new_topics(wanted)?;
        let created_ms = self.options.clock.now_ms();
        let rows =
            wanted.iter().zip(first.0..=u32::MAX).map(|(topic, number)| topic.row(TopicNumber(number), created_ms));
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let load = |row| Topic::load(row, |_| (Offset::ZERO, Offset::ZERO)).map(Arc::new);
        let topics = rows.iter().map(load).collect::<Result<Vec<_>>>()?;
        self.sync_journal()?;
        self.update_store(Purpose::Grow, |update| rows.iter().try_for_each(|row| update.put_topic(row)))?;
        let mut sequencer = self.sequencer.lock();
        topics.iter().for_each(|topic| sequencer.put_topic(Arc::clone(topic)));
        drop(sequencer);
        self.wake_watchers();
        Ok(topics)
    }

    /// Whether these topics could be created now. Returns the number that the first of them would get.
    pub(crate) fn check_new_topics(&self, wanted: &[WantedTopic]) -> Result<TopicNumber> {
        for topic in wanted {
            check_partition_count(topic.partitions)?;
            topic.config.check()?;
        }
        let (existing, next) = {
            let sequencer = self.sequencer.lock();
            (sequencer.topics(), sequencer.next_topic())
        };
        for (index, topic) in wanted.iter().enumerate() {
            let earlier = wanted.iter().take(index).map(|earlier| &earlier.name);
            for other in existing.iter().map(|existing| &existing.name).chain(earlier) {
                if *other == topic.name {
                    return Err(Error::TopicAlreadyExists { name: topic.name.clone() });
                }
                if other.collides_with(&topic.name) {
                    let reason = format!("it collides with `{other}`, as `.` and `_` count as the same");
                    return Err(Error::InvalidTopic { name: topic.name.to_string(), reason });
                }
            }
        }
        Ok(next)
    }

    /// Deletes a topic with its records; its space can be used again when this returns.
    pub(crate) fn delete_topic(&self, name: &str) -> Result<()> {
        let number = self.hide_topic(name)?;
        self.free_after_deletion(Waste::Topic(number));
        Ok(())
    }

    /// The deletion itself; its records still take room.
    fn hide_topic(&self, name: &str) -> Result<TopicNumber> {
        let _turn = self.turn_to_change()?;
        let topic = self.topic(name)?;
        // Later sends fail from here on. What was sent before is committed first: it came before the deletion.
        self.sequencer.lock().remove_topic(&topic.name);
        let deleted = self
            .commit_open_group(LargeGroups::ToJournal)
            .and_then(|()| self.sync_journal())
            .and_then(|()| self.update_store(Purpose::Free, |update| update.delete_topic(topic.number)));
        match deleted {
            Ok(()) => {
                topic.partitions.iter().for_each(|log| log.delete());
                self.add_garbage(topic.number);
                self.forget_offsets_of(&topic);
                self.room_was_made();
                self.wake_watchers();
                Ok(topic.number)
            }
            Err(error) => {
                self.sequencer.lock().put_topic(topic);
                Err(error)
            }
        }
    }

    /// Adds partitions (T-7, T-8).
    pub(crate) fn create_partitions(&self, name: &str, total: u32) -> Result<()> {
        check_partition_count(total)?;
        let _turn = self.turn_to_change()?;
        let topic = self.topic(name)?;
        let present = topic.partition_count();
        if total <= present {
            let reason = format!("topic `{name}` has {present} partitions already, and the count only grows (T-7)");
            return Err(Error::InvalidPartitions { requested: total, reason });
        }
        self.change_topic(Arc::new(topic.with_partitions(total)))
    }

    /// Changes the configuration. `change` sees the present one, and nobody else changes it meanwhile.
    pub(crate) fn alter_topic(
        &self,
        name: &str,
        change: impl FnOnce(TopicConfig) -> Result<TopicConfig>,
    ) -> Result<()> {
        self.check_writable()?;
        // The application's code runs under this lock only: it may call the broker, but not change another configuration.
        let _altering = self.alterations.begin()?;
        let before = self.topic(name)?;
        let config = change(before.config.clone())?;
        config.check()?;
        let _turn = self.turn_to_change()?;
        // It may have got more partitions meanwhile.
        let topic = self.topic(name)?;
        if topic.number != before.number {
            return Err(Error::unknown_topic(name));
        }
        self.change_topic(Arc::new(topic.with_config(config)))
    }

    /// Waits for `changing_store`. A callback is refused before: who holds it may be waiting for the commit that runs the
    /// callback.
    pub(super) fn turn_to_change(&self) -> Result<Turn<'_>> {
        self.check_writable()?;
        let turn = self.changing_store.wait();
        self.check_writable()?;
        Ok(turn)
    }

    /// `changing_store` is held.
    fn change_topic(&self, topic: Arc<Topic>) -> Result<()> {
        self.sync_journal()?;
        let row = topic.row();
        self.update_store(Purpose::Grow, |update| update.put_topic(&row))?;
        topic.put_layout();
        self.sequencer.lock().put_topic(topic);
        self.wake_watchers();
        Ok(())
    }

    /// Moves the log start (L-50): records below it are gone, and their space can be used again when this returns. Gives the
    /// new log start.
    pub(crate) fn delete_records(&self, partition: &TopicPartition, before: OffsetSpec) -> Result<Offset> {
        let (id, log_start) = self.hide_records(partition, before)?;
        self.free_after_deletion(Waste::BelowLogStart(id));
        Ok(log_start)
    }

    /// The deletion itself; what is more than one step frees still takes room.
    fn hide_records(&self, partition: &TopicPartition, before: OffsetSpec) -> Result<(LogId, Offset)> {
        let _turn = self.turn_to_change()?;
        let topic = self.topic(partition.topic())?;
        let log = topic.partition(partition.partition())?;
        if topic.config.policy() == CleanupPolicy::Compact {
            let reason =
                "it is `compact`, which keeps the last record of each key: add `delete` to it first".to_owned();
            return Err(Error::PolicyViolation { topic: topic.name.clone(), reason });
        }
        let start = match before {
            OffsetSpec::Offset(offset) => Offset::new(offset),
            spec => self.offset_of(log, spec)?.0.unwrap_or(log.end()),
        };
        if start > log.end() {
            return Err(Error::OffsetOutOfRange { positions: vec![(partition.clone(), start)] });
        }
        self.cut(log, start)?;
        Ok((log.id, log.log_start()))
    }

    /// The topic of this name.
    pub(crate) fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        check_not_in_clock()?;
        match self.sequencer.lock().topic(name) {
            Some(topic) => Ok(Arc::clone(topic)),
            None => Err(Error::unknown_topic(name)),
        }
    }

    /// All topics, sorted by name.
    pub(crate) fn topics(&self) -> Vec<Arc<Topic>> {
        self.sequencer.lock().topics()
    }
}

fn check_partition_count(partitions: u32) -> Result<()> {
    let reason = match partitions {
        0 => "a topic has at least one partition (T-6)".to_owned(),
        n if n > MAX_PARTITIONS => format!("a topic has at most {MAX_PARTITIONS} partitions"),
        _ => return Ok(()),
    };
    Err(Error::InvalidPartitions { requested: partitions, reason })
}

/// Random bits from the operating system.
pub(super) fn random_u128() -> Result<u128> {
    let mut bits = [0; 16];
    let failed = |error: getrandom::Error| Error::illegal_state(format!("the system gave no random bits: {error}"));
    getrandom::fill(&mut bits).map_err(failed)?;
    Ok(u128::from_le_bytes(bits))
}
