//! Walking the records of a batch.

use super::batch::BatchHeader;
use super::record::{self, HeaderIter, RawRecord};
use super::{DecodeError, Reader};
use crate::types::Offset;

/// A place between two records of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index into the records' bytes of the next record.
    pub(super) index: usize,
    /// Records from here to the batch's end.
    pub(crate) remaining: u32,
    /// The smallest offset that the next record can have.
    pub(crate) next_offset: Offset,
    /// The timestamp of the record before; of the first record when there is none before.
    pub(super) timestamp: i64,
}

impl Place {
    /// Index into the records' bytes of the next record.
    pub(crate) fn index(self) -> usize {
        self.index
    }

    /// The place behind the last record of a batch.
    pub(crate) fn behind(header: &BatchHeader) -> Self {
        Self {
            index: header.length as usize,
            remaining: 0,
            next_offset: header.last_offset.next(),
            timestamp: header.last_timestamp,
        }
    }

    pub(crate) fn start(header: &BatchHeader) -> Self {
        Self { index: 0, remaining: header.count, next_offset: header.base_offset, timestamp: header.base_timestamp }
    }
}

/// One record met on a walk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WalkedRecord<'a> {
    pub(crate) offset: Offset,
    pub(crate) timestamp: i64,
    pub(super) raw: RawRecord<'a>,
}

impl<'a> WalkedRecord<'a> {
    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        self.raw.key
    }

    pub(crate) fn value(&self) -> Option<&'a [u8]> {
        self.raw.value
    }

    pub(crate) fn headers(&self) -> HeaderIter<'a> {
        self.raw.headers
    }

    /// Whether the other one has the same offset, timestamp and contents.
    pub(crate) fn is_same_as(&self, other: &WalkedRecord<'_>) -> bool {
        (self.offset, self.timestamp) == (other.offset, other.timestamp)
            && (self.raw.body_flags, self.raw.body) == (other.raw.body_flags, other.raw.body)
    }
}

/// Walks a batch's records.
#[derive(Debug, Clone)]
pub(crate) struct Walk<'a> {
    reader: Reader<'a>,
    total: usize,
    place: Place,
}

impl<'a> Walk<'a> {
    pub(super) fn over(records: &'a [u8], place: Place) -> Self {
        Self { reader: Reader::new(records.get(place.index..).unwrap_or_default()), total: records.len(), place }
    }

    /// Where the walk stands.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// The records from there on.
    pub(super) fn remaining(&self) -> &'a [u8] {
        self.reader.remaining()
    }

    /// Goes past the next record without looking into it; `None` behind the last one.
    #[inline]
    pub(crate) fn pass(&mut self) -> Option<()> {
        if self.place.remaining == 0 {
            return None;
        }
        self.try_skip().ok().map(drop)
    }

    /// Gives the skipped record's headers.
    #[inline(always)]
    pub(super) fn try_skip(&mut self) -> Result<HeaderIter<'a>, DecodeError> {
        let skipped = record::skip(&mut self.reader)?;
        self.step(skipped.gap, skipped.timestamp_delta)?;
        Ok(skipped.headers)
    }

    #[inline(always)]
    pub(super) fn try_next(&mut self) -> Result<WalkedRecord<'a>, DecodeError> {
        let raw = record::decode(&mut self.reader)?;
        let offset = self.step(raw.gap, raw.timestamp_delta)?;
        Ok(WalkedRecord { offset, timestamp: self.place.timestamp, raw })
    }

    /// Moves the place behind the record that the reader has just passed. Gives that record's offset.
    #[inline(always)]
    fn step(&mut self, gap: u64, timestamp_delta: i64) -> Result<Offset, DecodeError> {
        let offset = self.place.next_offset.get().saturating_add(gap);
        if offset > Offset::MAX.get() {
            return Err(DecodeError("an offset exceeds 2^63 - 1"));
        }
        let offset = Offset::new(offset);
        self.place = Place {
            index: self.total.saturating_sub(self.reader.remaining().len()),
            remaining: self.place.remaining.saturating_sub(1),
            next_offset: offset.next(),
            timestamp: self.place.timestamp.wrapping_add(timestamp_delta),
        };
        Ok(offset)
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = WalkedRecord<'a>;

    /// Ends behind the last record. Damage would end it too, but [`RecordBatch::decode`](super::RecordBatch::decode) has let none in.
    #[inline]
    fn next(&mut self) -> Option<WalkedRecord<'a>> {
        if self.place.remaining == 0 {
            return None;
        }
        self.try_next().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.place.remaining as usize))
    }
}
