//! okaywal: a write-ahead log to put in front of a store. Here it keeps everything: segments of 64 MiB, no checkpoint.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use okaywal::{Configuration, Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};

use super::{Class, Rival, unsupported};
use crate::harness::Result;
use crate::harness::payload::Payload;

struct Okaywal {
    log: WriteAheadLog,
}

/// Counts what recovery hands over.
#[derive(Debug, Default, Clone)]
struct Counted {
    count: Arc<AtomicU64>,
    sum: Arc<AtomicU64>,
}

const CHUNKS_AN_ENTRY: usize = 10_000;

fn connect(directory: &Path, manager: Counted) -> Result<WriteAheadLog> {
    let configuration = Configuration::default_for(directory.join("okaywal"));
    Ok(configuration.preallocate_bytes(64 << 20).checkpoint_after_bytes(u64::MAX).open(manager)?)
}

pub(super) fn open(directory: &Path, _class: Class) -> Result<Box<dyn Rival>> {
    Ok(Box::new(Okaywal { log: connect(directory, Counted::default())? }))
}

impl Okaywal {
    fn write<'a>(&self, payloads: impl Iterator<Item = &'a Payload>) -> Result<usize> {
        let mut entry = self.log.begin_entry()?;
        let mut count = 0;
        for payload in payloads {
            entry.write_chunk(&payload.bytes)?;
            count += 1;
        }
        entry.commit()?;
        Ok(count)
    }
}

impl Rival for Okaywal {
    fn append(&self, payload: &Payload) -> Result {
        self.write(std::iter::once(payload)).map(drop)
    }

    fn append_batch(&self, payloads: &[Payload]) -> Result {
        self.write(payloads.iter()).map(drop)
    }

    fn load(&self, payloads: &mut dyn Iterator<Item = &Payload>) -> Result {
        while self.write(payloads.take(CHUNKS_AN_ENTRY))? == CHUNKS_AN_ENTRY {}
        Ok(())
    }

    fn read(&self, _number: u64) -> Result<usize> {
        unsupported()
    }

    fn close(self: Box<Self>) -> Result {
        Ok(self.log.shutdown()?)
    }
}

/// It reads its log while it opens, and only then.
pub(super) fn scan(directory: &Path) -> Result<u64> {
    let counted = Counted::default();
    let log = connect(directory, counted.clone())?;
    std::hint::black_box(counted.sum.load(Ordering::Relaxed));
    drop(log);
    Ok(counted.count.load(Ordering::Relaxed))
}

impl LogManager for Counted {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        for chunk in entry.read_all_chunks()?.unwrap_or_default() {
            self.count.fetch_add(1, Ordering::Relaxed);
            self.sum.fetch_add(crate::ends(&chunk), Ordering::Relaxed);
        }
        Ok(())
    }

    fn checkpoint_to(&mut self, _last: EntryId, _entries: &mut SegmentReader, _log: &WriteAheadLog) -> io::Result<()> {
        Ok(())
    }
}
