//! walrus-rust: a queue in files of 1 GB. Its directory comes from the environment: see `main`.

use std::path::Path;

use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use super::{Class, Rival, unsupported};
use crate::harness::Result;
use crate::harness::payload::Payload;

const TOPIC: &str = "log";
/// The most it takes.
const ENTRIES_A_BATCH: usize = 2_000;
const BYTES_A_READ: usize = 1 << 20;

struct Queue(Walrus);

fn connect(directory: &Path, class: Class) -> Result<Walrus> {
    let name = directory.file_name().and_then(|name| name.to_str()).ok_or("a directory without a name")?;
    // It syncs each batch whatever the schedule, and with `SyncEach` also each entry of one. The first schedule of a process
    // holds for all that come later.
    let schedule = if class == Class::Sync { FsyncSchedule::SyncEach } else { FsyncSchedule::NoFsync };
    let consistency = ReadConsistency::AtLeastOnce { persist_every: u32::MAX };
    Ok(Walrus::with_consistency_and_schedule_for_key(name, consistency, schedule)?)
}

pub(super) fn open(directory: &Path, class: Class) -> Result<Box<dyn Rival>> {
    Ok(Box::new(Queue(connect(directory, class)?)))
}

impl Rival for Queue {
    fn append(&self, payload: &Payload) -> Result {
        Ok(self.0.append_for_topic(TOPIC, &payload.bytes)?)
    }

    fn append_batch(&self, payloads: &[Payload]) -> Result {
        let batch: Vec<&[u8]> = payloads.iter().map(|payload| payload.bytes.as_slice()).collect();
        Ok(self.0.batch_append_for_topic(TOPIC, &batch)?)
    }

    /// Each batch is synced: there is no sync to call behind several.
    fn load(&self, payloads: &mut dyn Iterator<Item = &Payload>) -> Result {
        loop {
            let batch: Vec<&[u8]> = payloads.take(ENTRIES_A_BATCH).map(|payload| payload.bytes.as_slice()).collect();
            if batch.is_empty() {
                return Ok(());
            }
            self.0.batch_append_for_topic(TOPIC, &batch)?;
        }
    }

    fn read(&self, _number: u64) -> Result<usize> {
        unsupported()
    }

    fn close(self: Box<Self>) -> Result {
        Ok(())
    }
}

/// Reading consumes: what a second scan gets begins where the first one ended.
pub(super) fn scan(directory: &Path) -> Result<u64> {
    let walrus = connect(directory, Class::Batches)?;
    let (mut count, mut sum) = (0, 0);
    loop {
        let entries = walrus.batch_read_for_topic(TOPIC, BYTES_A_READ, true)?;
        if entries.is_empty() {
            std::hint::black_box(sum);
            return Ok(count);
        }
        for entry in entries {
            count += 1;
            sum += crate::ends(&entry.data);
        }
    }
}
