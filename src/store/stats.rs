//! Counting what the file is used for.

use redb::ReadableTable;

use super::open::{Handle, Store, begin_write};
use super::read::decode_entry;
use super::schema::{PARTITIONS, PartitionRow};
use super::snapshot::Snapshot;
use super::trouble::FromRedb;
use crate::error::{Error, Result};

/// How the file is used, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreStats {
    /// Length of the file.
    pub(crate) file: u64,
    /// Keys and values.
    pub(crate) stored: u64,
    /// What finding them takes.
    pub(crate) metadata: u64,
    /// Room that is in no use: free blocks and pages, and what is left over in the others.
    pub(crate) unused: u64,
}

impl Store {
    /// Counts the bytes of the file. It walks all of redb's pages, and waits for an update under way.
    pub(crate) fn stats(&self) -> Result<StoreStats> {
        let file = self.size_on_disk()?;
        let _writer = self.writer.lock();
        // A reader that meets a bad page fails the handle for all.
        let counted = self.handle().count(file);
        counted.or_else(|error| match error {
            Error::Corrupt { .. } | Error::Io { .. } => self.alone()?.count(file),
            error => Err(error),
        })
    }
}

impl Handle {
    fn count(&self, file: u64) -> Result<StoreStats> {
        let counted = self.trouble.guard(|| {
            let transaction = begin_write(self.database()?)?;
            let stats = transaction.stats().redb()?;
            transaction.abort().redb()?;
            let snapshot = Snapshot::of(self)?;
            let mut chunks = 0_u64;
            for entry in snapshot.open_table(PARTITIONS).redb()?.iter().redb()? {
                chunks = chunks.saturating_add(decode_entry::<PartitionRow>(entry)?.1.bytes);
            }
            let stored = stats.stored_bytes().saturating_add(chunks);
            let metadata = stats.metadata_bytes();
            // What is behind the end, what is free, what is left over in the blocks of chunks and in redb's pages.
            let unused = file.saturating_sub(stored).saturating_sub(metadata);
            Ok(StoreStats { file, stored, metadata, unused })
        });
        counted.map_err(|error| self.trouble.gravest().map_or(error, |(_, cause)| cause))
    }
}
