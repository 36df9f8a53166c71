//! A table of redb, as an application would use it without brooklet: default commits.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Class, Rival};
use crate::harness::Result;
use crate::harness::payload::Payload;

const LOG: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("log");
const ROWS_A_TRANSACTION: usize = 100_000;

struct Redb {
    database: Database,
    next: AtomicU64,
}

fn connect(directory: &Path) -> Result<Database> {
    Ok(Database::create(directory.join("log.redb"))?)
}

/// It has no class between memory and disk.
pub(super) fn open(directory: &Path, _class: Class) -> Result<Box<dyn Rival>> {
    Ok(Box::new(Redb { database: connect(directory)?, next: AtomicU64::new(0) }))
}

impl Redb {
    fn insert<'a>(&self, durability: Durability, payloads: impl Iterator<Item = &'a Payload>) -> Result<usize> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        let mut count = 0;
        {
            let mut table = transaction.open_table(LOG)?;
            for payload in payloads {
                table.insert(self.next.fetch_add(1, Ordering::Relaxed), payload.bytes.as_slice())?;
                count += 1;
            }
        }
        transaction.commit()?;
        Ok(count)
    }
}

impl Rival for Redb {
    fn append(&self, payload: &Payload) -> Result {
        self.insert(Durability::Immediate, std::iter::once(payload)).map(drop)
    }

    fn append_batch(&self, payloads: &[Payload]) -> Result {
        self.insert(Durability::Immediate, payloads.iter()).map(drop)
    }

    fn load(&self, payloads: &mut dyn Iterator<Item = &Payload>) -> Result {
        while self.insert(Durability::None, payloads.take(ROWS_A_TRANSACTION))? == ROWS_A_TRANSACTION {}
        self.insert(Durability::Immediate, std::iter::empty()).map(drop)
    }

    fn read(&self, number: u64) -> Result<usize> {
        let table = self.database.begin_read()?.open_table(LOG)?;
        Ok(table.get(number)?.map_or(0, |payload| payload.value().len()))
    }

    fn close(self: Box<Self>) -> Result {
        Ok(())
    }
}

pub(super) fn scan(directory: &Path) -> Result<u64> {
    let database = connect(directory)?;
    let table = database.begin_read()?.open_table(LOG)?;
    let (mut count, mut sum) = (0, 0);
    for row in table.iter()? {
        count += 1;
        sum += crate::ends(row?.1.value());
    }
    std::hint::black_box(sum);
    Ok(count)
}
