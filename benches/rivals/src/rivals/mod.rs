//! Everything that is compared, under one trait.

mod fjall;
mod kafko;
mod okaywal;
mod ours;
mod plain;
mod redb;
mod sqlite;
mod walrus;

use std::path::Path;

use crate::harness::Result;
use crate::harness::payload::Payload;

pub(crate) use kafko::wake_up as wake_up_kafko;
pub(crate) use ours::wake_up as wake_up_ours;

/// What an acknowledged record survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Power loss, each payload.
    Sync,
    /// Power loss, each batch.
    Batches,
    /// The kill of the process.
    Process,
}

/// A log of payloads, numbered from 0.
pub(crate) trait Rival: Send + Sync {
    /// Appends one payload. When it returns, the payload survives what the log was opened for.
    fn append(&self, payload: &Payload) -> Result;

    /// Appends payloads. When it returns, they are on the disk.
    fn append_batch(&self, payloads: &[Payload]) -> Result;

    /// Appends many payloads the fastest way there is. They are on the disk when [`close`](Rival::close) returned.
    fn load(&self, payloads: &mut dyn Iterator<Item = &Payload>) -> Result;

    /// Reads one payload. Gives its length.
    fn read(&self, number: u64) -> Result<usize>;

    /// Closes the log in order.
    fn close(self: Box<Self>) -> Result;
}

type Open = fn(&Path, Class) -> Result<Box<dyn Rival>>;

/// One of those that are compared.
#[derive(Clone, Copy)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) open: Open,
    /// The classes that it has.
    pub(crate) classes: &'static [Class],
    /// Reads everything in order, from opening on. Gives how much there is.
    pub(crate) scan: Option<fn(&Path) -> Result<u64>>,
    /// Whether it reads by number, through an index of its own.
    pub(crate) reads: bool,
}

const BOTH: &[Class] = &[Class::Sync, Class::Batches, Class::Process];
const SYNC: &[Class] = &[Class::Sync, Class::Batches];

/// brooklet first.
pub(crate) const CONTENDERS: [Contender; 8] = [
    Contender { name: "brooklet", open: ours::open, classes: BOTH, scan: Some(ours::scan), reads: true },
    Contender { name: "a plain file", open: plain::open, classes: BOTH, scan: None, reads: false },
    Contender { name: "sqlite", open: sqlite::open, classes: BOTH, scan: Some(sqlite::scan), reads: true },
    Contender { name: "redb", open: redb::open, classes: SYNC, scan: Some(redb::scan), reads: true },
    Contender { name: "fjall", open: fjall::open, classes: BOTH, scan: Some(fjall::scan), reads: true },
    Contender { name: "okaywal", open: okaywal::open, classes: SYNC, scan: Some(okaywal::scan), reads: false },
    Contender { name: "walrus", open: walrus::open, classes: BOTH, scan: Some(walrus::scan), reads: false },
    Contender { name: "kafko", open: kafko::open, classes: BOTH, scan: None, reads: false },
];

/// Bytes that the files below `directory` take on the disk.
pub(crate) fn bytes_on_disk(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_on_disk(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// What a contender says to a thing it can't do.
fn unsupported<T>() -> Result<T> {
    Err("it can't do that".into())
}
