//! A keyspace of fjall, an LSM tree. Threads take numbers before they insert, so a later one may become durable first.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Class, Rival};
use crate::harness::Result;
use crate::harness::payload::Payload;

struct Fjall {
    database: Database,
    log: Keyspace,
    class: Class,
    next: AtomicU64,
}

fn connect(directory: &Path) -> Result<(Database, Keyspace)> {
    let database = Database::builder(directory.join("fjall")).open()?;
    let log = database.keyspace("log", KeyspaceCreateOptions::default)?;
    Ok((database, log))
}

pub(super) fn open(directory: &Path, class: Class) -> Result<Box<dyn Rival>> {
    let (database, log) = connect(directory)?;
    Ok(Box::new(Fjall { database, log, class, next: AtomicU64::new(0) }))
}

impl Fjall {
    fn key(&self) -> [u8; 8] {
        self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes()
    }
}

impl Rival for Fjall {
    fn append(&self, payload: &Payload) -> Result {
        self.log.insert(self.key(), payload.bytes.as_slice())?;
        match self.class {
            Class::Sync | Class::Batches => Ok(self.database.persist(PersistMode::SyncData)?),
            Class::Process => Ok(()),
        }
    }

    fn append_batch(&self, payloads: &[Payload]) -> Result {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for payload in payloads {
            batch.insert(&self.log, self.key(), payload.bytes.as_slice());
        }
        Ok(batch.commit()?)
    }

    fn load(&self, payloads: &mut dyn Iterator<Item = &Payload>) -> Result {
        let mut ingestion = self.log.start_ingestion()?;
        for payload in payloads {
            ingestion.write(self.key(), payload.bytes.as_slice())?;
        }
        Ok(ingestion.finish()?)
    }

    fn read(&self, number: u64) -> Result<usize> {
        Ok(self.log.get(number.to_be_bytes())?.map_or(0, |payload| payload.len()))
    }

    fn close(self: Box<Self>) -> Result {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

pub(super) fn scan(directory: &Path) -> Result<u64> {
    let (_database, log) = connect(directory)?;
    let (mut count, mut sum) = (0, 0);
    for row in log.iter() {
        count += 1;
        sum += crate::ends(&row.value()?);
    }
    std::hint::black_box(sum);
    Ok(count)
}
