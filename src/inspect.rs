//! What a check and a count of everything say.

use std::fmt;
use std::time::Duration;

use crate::error::Error;

/// What [`Broker::check`](crate::Broker::check) found.
///
/// ```
/// let broker = brooklet::Broker::in_memory()?;
/// let report = broker.check()?;
/// assert!(report.is_healthy(), "{report}");
/// # Ok::<(), brooklet::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CheckReport {
    pub(crate) problems: Vec<String>,
    /// Topics in the store.
    pub topics: u64,
    /// Partitions that hold or held records.
    pub partitions: u64,
    /// Chunks read and decoded.
    pub chunks: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of chunks.
    pub bytes: u64,
    /// Consumer groups in the store.
    pub groups: u64,
    /// Offsets that they have committed.
    pub committed_offsets: u64,
    /// Acknowledged records that are not in the store yet.
    pub tail_records: u64,
    /// Journal frames read that the store does not need any more after the next checkpoint.
    pub frames: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_healthy(&self) -> bool {
        self.problems.is_empty()
    }

    /// What is wrong, in words, each with its place.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for CheckReport {
    /// A line of counts, then a line for each problem.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} topics, {} partitions, {} chunks with {} records in {} bytes, {} groups with {} committed offsets, \
             {} records in {} journal frames",
            if self.is_healthy() { "healthy" } else { "DAMAGED" },
            self.topics,
            self.partitions,
            self.chunks,
            self.records,
            self.bytes,
            self.groups,
            self.committed_offsets,
            self.tail_records,
            self.frames
        )?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n- {problem}"))
    }
}

/// What a call of [`Broker::clean`](crate::Broker::clean) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CleanReport {
    /// Whether everything was looked at and nothing is left to free. If not, the next call goes on where this one was.
    pub is_complete: bool,
    /// Partitions whose log start moved.
    pub partitions: u64,
    /// Segments deleted.
    pub segments: u64,
    /// Partitions that were compacted.
    pub compacted: u64,
    /// Records whose space was freed, those of earlier deletions included.
    pub records: u64,
    /// Bytes of chunks that were freed. They are used again; the file does not shrink.
    pub bytes: u64,
    /// Store updates that it took.
    pub steps: u64,
    /// How long the longest of them took. Checkpoints and changes of topics wait for one of them at most.
    pub longest_step: Duration,
    /// How long all of it took.
    pub elapsed: Duration,
}

impl fmt::Display for CleanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segments, partitions, compacted, records, bytes, .. } = self;
        write!(
            f,
            "{segments} segments of {partitions} partitions deleted, {compacted} partitions compacted, {bytes} bytes of {records} records freed in {} ms",
            self.elapsed.as_millis()
        )?;
        if self.is_complete { Ok(()) } else { write!(f, "; there is more to do") }
    }
}

/// What [`Broker::vacuum`](crate::Broker::vacuum) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct VacuumReport {
    /// Length of the store's file before.
    pub bytes_before: u64,
    /// Length of the store's file now.
    pub bytes_after: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl fmt::Display for VacuumReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (self.bytes_before, self.bytes_after);
        write!(f, "the file has {after} bytes, before it had {before}; {} ms", self.elapsed.as_millis())
    }
}

/// How much there is of everything: [`Broker::stats`](crate::Broker::stats).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stats {
    /// Topics.
    pub topics: usize,
    /// Partitions of all topics.
    pub partitions: usize,
    /// Records in the store; those in the tail are not counted.
    pub stored_records: u64,
    /// Bytes of chunks in the store.
    pub stored_bytes: u64,
    /// What `stored_bytes` would be without compression: the same when nothing is compressed.
    pub plain_bytes: u64,
    /// Length of the store's file in bytes. Parts that were never written take no room on most file systems.
    pub store_file_bytes: u64,
    /// Bytes of that file which hold nothing: they are used again before it grows.
    pub store_unused_bytes: u64,
    /// Bytes of the journal that wait for a checkpoint.
    pub journal_used_bytes: u64,
    /// Bytes that the journal can hold; 0 in memory.
    pub journal_capacity_bytes: u64,
    /// Bytes of `buffer_memory` in use: records sent and not yet in the store.
    pub buffered_bytes: usize,
    /// When the last clean came to its end, in milliseconds since the epoch; `None`: not since the broker was opened.
    pub last_clean_ms: Option<i64>,
    /// Whether the disk was full at the last checkpoint. Sends fail until there is room.
    pub storage_full: bool,
    /// Why the broker stopped; `None` while it works.
    pub failure: Option<Error>,
}

impl Stats {
    /// How many times less the chunks take than they would without compression; 1 when there are none.
    pub fn compression_ratio(&self) -> f64 {
        ratio(self.plain_bytes, self.stored_bytes)
    }
}

/// How much larger what is plain is than what is stored of it.
pub(crate) fn ratio(plain: u64, stored: u64) -> f64 {
    if stored == 0 { 1.0 } else { plain as f64 / stored as f64 }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} topics, {} partitions, {} records stored in {} bytes (compressed {:.2} times); store file {} bytes ({} unused), \
             journal {} of {} bytes",
            self.topics,
            self.partitions,
            self.stored_records,
            self.stored_bytes,
            self.compression_ratio(),
            self.store_file_bytes,
            self.store_unused_bytes,
            self.journal_used_bytes,
            self.journal_capacity_bytes
        )?;
        if self.storage_full {
            write!(f, "; DISK FULL")?;
        }
        match &self.failure {
            None => Ok(()),
            Some(failure) => write!(f, "; STOPPED: {failure}"),
        }
    }
}
