//! Where a consumer reads: positions, pauses, and where partitions begin and end.

use std::sync::Arc;

use super::handle::Consumer;
use super::positions::{Assigned, Lost, Position};
use crate::error::{Error, Result};
use crate::types::{Offset, OffsetAndTimestamp, OffsetSpec, TopicPartition};

impl Consumer {
    /// Moves a position (C-23). Wins over the offset reset. An offset outside the log is accepted, the next `poll` judges it;
    /// the other specs are looked up when the position is needed (C-24).
    ///
    /// # Errors
    ///
    /// [`IllegalState`](Error::IllegalState) when the partition is not assigned; [`IllegalArgument`](Error::IllegalArgument)
    /// for a negative time.
    pub fn seek(&mut self, partition: &TopicPartition, to: impl Into<OffsetSpec>) -> Result<()> {
        let position = match to.into() {
            OffsetSpec::Offset(offset) => Position::At(Offset::new(offset)),
            OffsetSpec::Timestamp(timestamp) if timestamp < 0 => {
                return Err(Error::illegal_argument(format!(
                    "timestamp {timestamp} is negative: give milliseconds since 1970"
                )));
            }
            spec => Position::Seek(spec),
        };
        self.assignment.get_mut(partition)?.seek(position);
        Ok(())
    }

    /// Moves to the log starts of these partitions, or of all assigned ones when none is named (C-24).
    ///
    /// ```
    /// # use brooklet::{Broker, NewTopic, ProducerRecord};
    /// # use std::time::Duration;
    /// # let broker = Broker::in_memory()?;
    /// # broker.create_topic(NewTopic::new("orders", 1))?;
    /// # broker.producer().send(ProducerRecord::to("orders").value("an order"))?.wait()?;
    /// let mut consumer = broker.consumer().assign([("orders", 0)])?;
    /// consumer.seek_to_beginning([])?;
    /// assert_eq!(consumer.poll(Duration::ZERO)?.len(), 1);
    /// # Ok::<(), brooklet::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`IllegalState`](Error::IllegalState) when one is not assigned; then no position moves.
    pub fn seek_to_beginning<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Result<()> {
        self.seek_all(partitions, OffsetSpec::Earliest)
    }

    /// Moves to the ends of these partitions, or of all assigned ones when none is named (C-24). The end is that of the moment when
    /// the position is needed: by the next `poll` or [`position`](Consumer::position).
    ///
    /// # Errors
    ///
    /// As [`seek_to_beginning`](Consumer::seek_to_beginning).
    pub fn seek_to_end<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Result<()> {
        self.seek_all(partitions, OffsetSpec::Latest)
    }

    /// The offset of the next record that `poll` will give of a partition (C-12, C-25). Finds the start position if it has
    /// none yet.
    ///
    /// # Errors
    ///
    /// [`IllegalState`](Error::IllegalState) when the partition is not assigned;
    /// [`NoOffsetForPartition`](Error::NoOffsetForPartition) with [`OffsetReset::None`](crate::OffsetReset::None).
    pub fn position(&mut self, partition: &TopicPartition) -> Result<Offset> {
        let (reset, now_ms) = (self.options.offset_reset, self.now_ms());
        let engine = Arc::clone(self.engine());
        let assigned = self.assignment.get_mut(partition)?;
        if let Position::At(offset) = assigned.position {
            return Ok(offset);
        }
        self.start_at_committed();
        let assigned = self.assignment.get_mut(partition)?;
        match assigned.resolve(&engine, reset, now_ms)? {
            Ok(offset) | Err(Lost::OutOfRange(offset)) => Ok(offset),
            Err(Lost::NoOffset) => Err(Error::NoOffsetForPartition { partitions: vec![partition.clone()] }),
        }
    }

    /// Stops giving records of these partitions; positions stay (C-26).
    ///
    /// # Errors
    ///
    /// [`IllegalState`](Error::IllegalState) when one is not assigned; then none is paused.
    pub fn pause<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Result<()> {
        self.set_paused(partitions, true)
    }

    /// Gives records of these partitions again.
    ///
    /// # Errors
    ///
    /// As [`pause`](Consumer::pause).
    pub fn resume<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Result<()> {
        self.set_paused(partitions, false)
    }

    /// The partitions that are paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        let paused = self.assignment.partitions.iter().filter(|assigned| assigned.paused);
        paused.map(|assigned| assigned.log.name.clone()).collect()
    }

    /// How many offsets lie between the position and the end (C-27); `None` until the position is known.
    ///
    /// # Errors
    ///
    /// [`IllegalState`](Error::IllegalState) when the partition is not assigned.
    pub fn lag(&self, partition: &TopicPartition) -> Result<Option<u64>> {
        let assigned = self.assignment.get(partition)?;
        Ok(match assigned.position {
            Position::At(offset) => Some(assigned.log.end() - offset),
            Position::Seek(_) | Position::Unset => None,
        })
    }

    /// The log starts of partitions, assigned or not (C-29).
    ///
    /// # Errors
    ///
    /// [`UnknownTopicOrPartition`](Error::UnknownTopicOrPartition), [`Closed`](Error::Closed).
    pub fn beginning_offsets<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<Vec<(TopicPartition, Offset)>> {
        self.offsets(partitions, OffsetSpec::Earliest)
    }

    /// The ends of partitions, assigned or not: the offsets that their next records will get (C-29).
    ///
    /// # Errors
    ///
    /// As [`beginning_offsets`](Consumer::beginning_offsets).
    pub fn end_offsets<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<Vec<(TopicPartition, Offset)>> {
        self.offsets(partitions, OffsetSpec::Latest)
    }

    /// For each partition the first record whose timestamp is at least the given one, in milliseconds since the epoch; `None`
    /// when there is none (C-28). The partitions need not be assigned; positions do not move.
    ///
    /// # Errors
    ///
    /// [`IllegalArgument`](Error::IllegalArgument) for a negative time; as [`beginning_offsets`](Consumer::beginning_offsets);
    /// [`Corrupt`](Error::Corrupt).
    pub fn offsets_for_times<P: Into<TopicPartition>>(
        &self,
        times: impl IntoIterator<Item = (P, i64)>,
    ) -> Result<Vec<(TopicPartition, Option<OffsetAndTimestamp>)>> {
        let engine = self.engine();
        engine.check_open()?;
        let mut found = Vec::new();
        for (partition, timestamp) in times {
            let partition: TopicPartition = partition.into();
            let topic = engine.topic(partition.topic())?;
            let record = engine.find_timestamp(topic.partition(partition.partition())?, timestamp)?;
            found.push((partition, record));
        }
        Ok(found)
    }

    fn seek_all<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>, to: OffsetSpec) -> Result<()> {
        let named: Vec<_> = partitions.into_iter().collect();
        for partition in &named {
            self.assignment.get(partition)?;
        }
        let is_meant = |assigned: &&mut Assigned| named.is_empty() || named.contains(&&assigned.log.name);
        self.assignment.partitions.iter_mut().filter(is_meant).for_each(|assigned| assigned.seek(Position::Seek(to)));
        Ok(())
    }

    fn set_paused<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>, paused: bool) -> Result<()> {
        let partitions: Vec<_> = partitions.into_iter().collect();
        for partition in &partitions {
            self.assignment.get(partition)?;
        }
        for partition in partitions {
            self.assignment.get_mut(partition)?.paused = paused;
        }
        Ok(())
    }

    fn offsets<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
        spec: OffsetSpec,
    ) -> Result<Vec<(TopicPartition, Offset)>> {
        let engine = self.engine();
        engine.check_open()?;
        let mut offsets = Vec::new();
        for partition in partitions {
            let topic = engine.topic(partition.topic())?;
            let log = topic.partition(partition.partition())?;
            let offset = engine.offset_of(log, spec)?.0.unwrap_or(log.end());
            offsets.push((partition.clone(), offset));
        }
        Ok(offsets)
    }
}
