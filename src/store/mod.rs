//! The store: topics, chunks of records, the state of every partition and what groups committed, in one file: rows in tables of
//! redb, and beside redb's pages the chunks that the rows of `index` tell of. The only room that knows redb.
//!
//! ```text
//! table        key                               value
//! ---------    ------------------------------    -----------------------------------------------------------------
//! meta         name                              format: u32 | store: u128 | session | next_topic: u32 | updates: u64
//!                                                | space
//! free         first block                       FreeRow: how many blocks are free from there on
//! topics       topic number                      TopicRow: id, name, partition count, overrides
//! deleted      topic number                      DeletedRow: the id of a topic whose chunks wait to be freed
//! partitions   topic number, partition           PartitionRow: log start, end, counts; no row: nothing stored yet
//! index        topic number, partition, offset   IndexRow: the chunk that begins there, and where it lies
//! segments     the same, of its first chunk      SegmentRow: a run of chunks, the unit of retention
//! keys         topic number, partition, prefix   KeyBlock: of each key of a compacted partition its last record
//! superseded   topic number, partition, number   SupersededRow: offsets of records that compaction may drop
//! compactions  topic number, partition           Compaction: how far it came; no row: it never ran
//! groups       name                              GroupRow: count of its offsets, state
//! offsets      length of the name: u8, name,     OffsetRow: what the group has committed
//!              topic number, partition
//!
//! row, little-endian
//!  0  u8   version, 1
//!  1       the fields
//! -4  u32  CRC-32C of the table's name, the key and everything before it
//! ```
//!
//! redb does not verify its own pages when it reads them: [`pages`] does. Chunks and rows carry checksums that cover what they
//! belong to, and a read checks that the chunks of a partition follow one another without a hole: damage is an error, never
//! another record, and never a record less.
//!
//! # What holds between the tables
//!
//! 1. A partition's chunks follow one another: each begins at the offset behind the last one of the chunk before, and covers
//!    all up to its last, also those whose records were compacted away. Only below the log start something may be missing.
//! 2. When `log start < end`, the chunks reach from the log start, or before it, to just before `end`. Otherwise none
//!    holds a record at or behind the log start.
//! 3. Chunks wholly below the log start are garbage: nobody reads them, and they wait to be freed. None lies wholly below
//!    `freed`. The same is everything of a topic in `deleted`.
//! 4. Index and segments say of chunks what these say, except that `max_timestamp` is that of whole chunks, also of one that
//!    the log start cuts in two, and for a segment also of chunks that were freed from it or compacted away.
//! 5. Of every key with records below `compacted` and not below the log start, `keys` names the last one; it is there. The
//!    others are in `superseded`, until they are gone. A tombstone's key leaves `keys` when the tombstone gets there. While a
//!    pass is under way, some keys name a record behind `compacted` already.
//! 6. A group with committed offsets has a row that says how many. They are of topics and partitions that exist.
//! 7. Each block of the file below the end that `space` tells has one use: it is the root's, a part's, a chunk's, or free. Behind
//!    a crash, blocks that were a part's, or are by now, may be told wrongly until the next update.
//!
//! # Locks
//!
//! `writer` is held by the one update under way. `handle` is held shared by whoever uses the redb handle, and
//! exclusively while it is replaced or checked; nobody holds it beyond one call. `latest` is held while the state that an update
//! left is opened for its first reader, and by the others for a moment. Order: `writer`, `handle`, `latest`, the checksums of
//! pages, the state of the file. Of the last two, the former is held while checksums are read, the latter while a root is written;
//! none of these three while anything is synced. Behind the buffers nothing is taken.

mod append;
mod backend;
mod ballast;
mod buffers;
mod check;
mod compact;
mod extent;
mod file;
mod free;
mod groups;
mod index;
mod keys;
mod open;
mod pages;
mod read;
mod root;
mod schema;
mod snapshot;
mod space;
mod stats;
mod sums;
mod trouble;
mod update;
mod vacuum;

#[cfg(test)]
mod tests;

pub(crate) use backend::FileLock;
pub(crate) use free::Freed;
pub(crate) use groups::StoredGroup;
pub(crate) use keys::{Blocks, Compaction, KeyMerge, MergeCursor, Superseded};
pub(crate) use open::{Store, StoreOptions};
pub(crate) use read::{Catalogue, PartitionUsage};
pub(crate) use schema::{Session, TopicRow};
pub(crate) use update::{Purpose, Update};
