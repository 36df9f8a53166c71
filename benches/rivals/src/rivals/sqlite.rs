//! A table of SQLite in WAL mode: `synchronous` FULL or NORMAL.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, params};

use super::{Class, Rival};
use crate::harness::Result;
use crate::harness::payload::Payload;

struct Sqlite {
    connection: Mutex<Connection>,
    next: AtomicI64,
}

const INSERT: &str = "INSERT INTO log VALUES (?1, ?2)";
const ROWS_A_TRANSACTION: usize = 10_000;

fn connect(directory: &Path, class: Class) -> Result<Connection> {
    let connection = Connection::open(directory.join("log.sqlite"))?;
    let synchronous = if class == Class::Process { "NORMAL" } else { "FULL" };
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.execute("CREATE TABLE IF NOT EXISTS log (number INTEGER PRIMARY KEY, payload BLOB NOT NULL)", [])?;
    Ok(connection)
}

pub(super) fn open(directory: &Path, class: Class) -> Result<Box<dyn Rival>> {
    Ok(Box::new(Sqlite { connection: Mutex::new(connect(directory, class)?), next: AtomicI64::new(0) }))
}

impl Sqlite {
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert<'a>(&self, connection: &Connection, payloads: impl Iterator<Item = &'a Payload>) -> Result<usize> {
        let mut statement = connection.prepare_cached(INSERT)?;
        let mut count = 0;
        for payload in payloads {
            statement.execute(params![self.next.fetch_add(1, Ordering::Relaxed), payload.bytes])?;
            count += 1;
        }
        Ok(count)
    }
}

impl Rival for Sqlite {
    fn append(&self, payload: &Payload) -> Result {
        self.insert(&self.connection(), std::iter::once(payload)).map(drop)
    }

    fn append_batch(&self, payloads: &[Payload]) -> Result {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        self.insert(&transaction, payloads.iter())?;
        Ok(transaction.commit()?)
    }

    fn load(&self, payloads: &mut dyn Iterator<Item = &Payload>) -> Result {
        let mut connection = self.connection();
        loop {
            let transaction = connection.transaction()?;
            let count = self.insert(&transaction, payloads.take(ROWS_A_TRANSACTION))?;
            transaction.commit()?;
            if count < ROWS_A_TRANSACTION {
                return Ok(());
            }
        }
    }

    fn read(&self, number: u64) -> Result<usize> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached("SELECT payload FROM log WHERE number = ?1")?;
        Ok(statement.query_row([i64::try_from(number)?], |row| Ok(row.get_ref(0)?.as_blob()?.len()))?)
    }

    fn close(self: Box<Self>) -> Result {
        let connection = self.connection.into_inner().unwrap_or_else(PoisonError::into_inner);
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        connection.close().map_err(|(_, error)| error.into())
    }
}

pub(super) fn scan(directory: &Path) -> Result<u64> {
    let connection = connect(directory, Class::Sync)?;
    let mut statement = connection.prepare("SELECT number, payload FROM log ORDER BY number")?;
    let mut rows = statement.query([])?;
    let (mut count, mut sum) = (0, 0);
    while let Some(row) = rows.next()? {
        count += 1;
        sum += crate::ends(row.get_ref(1)?.as_blob()?);
    }
    std::hint::black_box(sum);
    Ok(count)
}
