//! Going on behind damage.

use std::ops::Range;
use std::sync::Arc;

use super::handle::Consumer;
use super::positions::{Assigned, Position};
use crate::error::Result;
use crate::types::{Offset, TopicPartition};

impl Consumer {
    /// Goes on behind damage, where there is no copy to restore: the position of each partition whose next record is in a damaged
    /// section moves behind that, and behind those that follow it and are damaged as well. Returns the offsets that were left out;
    /// nothing, when every next record can be read.
    ///
    /// A section has some 4 KiB of records and the one that ends it. It is all of a chunk, some 32 KiB, where timestamps are weeks
    /// apart, and where records are compressed, up to 64 KiB of them. Nothing of a damaged one is given out, as nobody knows
    /// which of its bytes are wrong.
    ///
    /// ```
    /// # use brooklet::{Broker, Consumer, ConsumerRecords, Error};
    /// # use std::time::Duration;
    /// fn poll_what_is_left(consumer: &mut Consumer) -> brooklet::Result<ConsumerRecords> {
    ///     loop {
    ///         match consumer.poll(Duration::ZERO) {
    ///             Err(error @ Error::Corrupt { .. }) => {
    ///                 let skipped = consumer.skip_damaged()?;
    ///                 if skipped.is_empty() {
    ///                     return Err(error);
    ///                 }
    ///                 for (partition, offsets) in skipped {
    ///                     eprintln!("{partition}: offsets {}..{} are lost: {error}", offsets.start, offsets.end);
    ///                 }
    ///             }
    ///             polled => return polled,
    ///         }
    ///     }
    /// }
    /// # let broker = Broker::in_memory()?;
    /// # broker.create_topic(brooklet::NewTopic::new("orders", 1))?;
    /// # poll_what_is_left(&mut broker.consumer().assign([("orders", 0)])?)?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// No position moves: [`Corrupt`](crate::Error::Corrupt) when even the index of the chunks is damaged there, [`Io`](crate::Error::Io);
    /// [`Closed`](crate::Error::Closed); [`IllegalState`](crate::Error::IllegalState) within a rebalance listener.
    pub fn skip_damaged(&mut self) -> Result<Vec<(TopicPartition, Range<Offset>)>> {
        self.check_not_in_listener()?;
        let engine = Arc::clone(self.engine());
        engine.check_open()?;
        let damage = |assigned: &Assigned| assigned.damage_ahead(&engine);
        let damaged = self.assignment.partitions.iter().map(damage).collect::<Result<Vec<_>>>()?;
        let mut skipped = Vec::new();
        for (assigned, offsets) in self.assignment.partitions.iter_mut().zip(damaged) {
            if let Some(offsets) = offsets {
                assigned.seek(Position::At(offsets.end));
                skipped.push((assigned.log.name.clone(), offsets));
            }
        }
        Ok(skipped)
    }
}
