//! Creating, opening, opening anew and closing a store.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError, TableError, WriteTransaction};

use super::backend::{Backend, Expect, Medium};
use super::ballast::Ballast;
use super::extent::Extent;
use super::file::Foreign;
use super::groups::{GROUPS, OFFSETS};
use super::keys::{COMPACTIONS, KEYS, SUPERSEDED};
use super::read::meta;
use super::root::ROOT_VERSION;
use super::schema::{
    DELETED, FORMAT, Format, INDEX, Identity, META, MetaRow, NextTopic, PARTITIONS, SEGMENTS, Session, TOPICS, Updates,
    encode_row,
};
use super::snapshot::Latest;
use super::space::{FREE, Space};
use super::trouble::{FromRedb, Operation, Severity, Trouble};
use crate::disk::{Disk, OpenMode};
use crate::error::{Error, Result};
use crate::types::StoreId;

/// How to open a store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreOptions {
    /// Bytes of the file that redb keeps in memory.
    pub(crate) cache_size: usize,
}

/// An open store.
pub(crate) struct Store {
    path: PathBuf,
    options: StoreOptions,
    pub(super) writer: Mutex<WriterState>,
    pub(super) handle: RwLock<Handle>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What updates share, one after the other.
pub(super) struct WriterState {
    /// `None` in memory.
    pub(super) ballast: Option<Ballast>,
    /// The failure that ended all updates.
    pub(super) stopped: Option<Error>,
    pub(super) space: Space,
}

impl WriterState {
    /// Ends all updates. Gives the error to answer with.
    pub(super) fn stop(&mut self, failure: Error) -> Error {
        self.stopped = Some(failure.clone());
        match failure {
            // That would promise that the store goes on.
            full @ Error::StorageFull { .. } => Error::ReopenRequired { source: Arc::new(full) },
            failure => failure,
        }
    }

    /// `false` when there is none.
    pub(super) fn release_ballast(&mut self) -> bool {
        self.ballast.as_mut().is_some_and(Ballast::release)
    }
}

/// One redb handle. redb gives a handle up after any I/O error; the store then opens the file anew.
pub(super) struct Handle {
    /// `None` once the store is closed: the file is then, too, whoever still has the store.
    medium: Option<Arc<Medium>>,
    /// `None` once it could not be opened anew.
    database: Option<Database>,
    pub(super) latest: Latest,
    pub(super) trouble: Arc<Trouble>,
    /// Counted up at every opening, so that of many who met the same failure one opens anew.
    pub(super) generation: u64,
    /// A sync failed: the file must not be opened anew, because what it then says may be gone after a power loss.
    unsynced: bool,
}

impl Handle {
    /// redb's handle.
    pub(super) fn database(&self) -> Result<&Database> {
        self.database.as_ref().ok_or_else(|| self.failure())
    }

    /// The same for what needs it alone, and leaves another state.
    pub(super) fn database_mut(&mut self) -> Result<&mut Database> {
        self.latest.let_go_alone();
        let failure = self.failure();
        self.database.as_mut().ok_or(failure)
    }

    pub(super) fn medium(&self) -> Result<&Arc<Medium>> {
        self.medium.as_ref().ok_or(Error::Closed)
    }

    /// Notes what failed below redb, or beside it.
    pub(super) fn noted<T>(&self, operation: Operation, result: io::Result<T>) -> Result<T> {
        result.map_err(|error| match &self.medium {
            None => Error::Closed,
            Some(medium) => {
                self.trouble.note(operation, medium.path(), &error);
                Error::io(operation.words(), medium.path(), error)
            }
        })
    }

    /// Reads the first `len` bytes of an extent of the file. That it ends before is damage.
    pub(super) fn read_extent(&self, extent: Extent, len: usize) -> Result<Vec<u8>> {
        self.read_within(extent, 0..len)
    }

    /// Reads some of the bytes of an extent.
    pub(super) fn read_within(&self, extent: Extent, bytes: Range<usize>) -> Result<Vec<u8>> {
        let file = self.medium()?.file();
        let damaged = || Error::corrupt(format!("the store, block {}", extent.first), "the file ends before it");
        if extent.end() > file.end() {
            return Err(damaged());
        }
        match file.read(extent, bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(damaged()),
            read => self.noted(Operation::Read, read),
        }
    }

    fn failure(&self) -> Error {
        if self.medium.is_none() {
            return Error::Closed;
        }
        self.trouble
            .gravest()
            .map_or_else(|| Error::corrupt("the store", "it can't be opened again"), |(_, error)| error)
    }
}

impl Store {
    /// Makes a new store at `path`, where there is none: under another name first, because redb's own creation does
    /// not survive a power loss halfway. The caller keeps others from doing the same at the same time.
    pub(crate) fn create(disk: &Arc<dyn Disk>, path: &Path, id: StoreId, options: StoreOptions) -> Result<()> {
        let temporary = temporary_path(path);
        let file = disk.open(&temporary, OpenMode::Replace).map_err(|error| Error::io("create", &temporary, error))?;
        let medium = Arc::new(Medium::of_file(&temporary, file)?);
        let mut handle = Handle::open(&medium, options, Expect::Nothing)?;
        handle.write_first_rows(id)?;
        handle.close()?;
        medium.file().settle().map_err(|error| Error::io("create", &temporary, error))?;
        disk.rename(&temporary, path).map_err(|error| Error::io("create", path, error))?;
        disk.sync_dir(path).map_err(|error| Error::io("create", path, error))
    }

    /// Opens the store at `path` and locks it.
    pub(crate) fn open(disk: &Arc<dyn Disk>, path: &Path, options: StoreOptions) -> Result<Self> {
        let file = disk.open(path, OpenMode::Existing).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::NotFound { path: path.to_owned() },
            _ => Error::io("open", path, error),
        })?;
        let medium = Arc::new(Medium::of_file(path, file)?);
        let handle = Handle::open(&medium, options, Expect::Database)?;
        handle.check_format(path)?;
        let store = Self::new(path, options, handle, Some(Ballast::beside(disk, path)));
        if medium.was_open() {
            store.writer.lock().space.doubt();
        }
        Ok(store)
    }

    /// A new store in memory.
    pub(crate) fn in_memory(id: StoreId, options: StoreOptions) -> Result<Self> {
        let medium = Arc::new(Medium::memory());
        let handle = Handle::open(&medium, options, Expect::Nothing)?;
        handle.write_first_rows(id)?;
        Ok(Self::new(medium.path(), options, handle, None))
    }

    fn new(path: &Path, options: StoreOptions, handle: Handle, ballast: Option<Ballast>) -> Self {
        let writer = Mutex::new(WriterState { ballast, stopped: None, space: Space::default() });
        Self { path: path.to_owned(), options, writer, handle: RwLock::new(handle) }
    }

    /// Bytes of the file. It does not shrink by itself; free pages in it are used again.
    pub(crate) fn size_on_disk(&self) -> Result<u64> {
        let medium = Arc::clone(self.handle.read().medium()?);
        medium.file().len().map_err(|error| Error::io("find the length of", self.path(), error))
    }

    /// Gives room on a full disk to something other than an update. The next update takes it back, if there is room then.
    pub(crate) fn release_ballast(&self) {
        self.writer.lock().release_ballast();
    }

    /// Closes the file and gives up its lock. Dropping does the same and ignores errors. Closing again does nothing.
    pub(crate) fn close(&self) -> Result<()> {
        let mut handle = self.handle.write();
        let Some(medium) = handle.medium.take() else { return Ok(()) };
        medium.keep_locks(false);
        let closed = handle.close().and_then(|()| {
            let settled = medium.refuse_forked().and_then(|()| medium.file().settle());
            let cut = settled.and_then(|()| medium.file().truncate());
            cut.map_err(|error| Error::io("close", self.path(), error))
        });
        // After a panic in redb, something of it may live on: it must not keep the file from being opened again.
        medium.release_locks();
        closed
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file anew, unless somebody else has done it since `generation`, or a sync has failed.
    pub(super) fn reopen(&self, generation: u64) -> Result<()> {
        let mut handle = self.handle.write();
        if handle.generation == generation { self.replace(&mut handle) } else { Ok(()) }
    }

    /// The handle, in order and not shared.
    pub(super) fn alone(&self) -> Result<RwLockWriteGuard<'_, Handle>> {
        let mut handle = self.handle.write();
        if handle.trouble.gravest().is_some() {
            self.replace(&mut handle)?;
        }
        Ok(handle)
    }

    /// Opens the file anew for all.
    pub(super) fn replace(&self, handle: &mut Handle) -> Result<()> {
        if handle.unsynced || handle.trouble.gravest().is_some_and(|(severity, _)| severity == Severity::Unsynced) {
            return Err(Error::ReopenRequired { source: Arc::new(handle.failure()) });
        }
        let medium = Arc::clone(handle.medium()?);
        medium.keep_locks(true);
        // Its own last words fail for the same reason as it did; the file is consistent without them.
        let _ = handle.take().map(|database| handle.trouble.guard(|| database.close().redb()));
        let opened = Handle::open(&medium, self.options, Expect::Database);
        medium.keep_locks(false);
        let generation = handle.generation.wrapping_add(1);
        match opened {
            Ok(mut fresh) => {
                fresh.generation = generation;
                *handle = fresh;
                Ok(())
            }
            Err(error) => {
                handle.generation = generation;
                Err(error)
            }
        }
    }

    /// The handle, shared.
    pub(super) fn handle(&self) -> RwLockReadGuard<'_, Handle> {
        self.handle.read()
    }
}

/// Where a store is built before it gets its name.
fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-tmp");
    name.into()
}

impl Handle {
    fn open(medium: &Arc<Medium>, options: StoreOptions, expect: Expect) -> Result<Self> {
        let trouble = Arc::new(Trouble::default());
        let backend = Backend::new(medium, &trouble, expect);
        let opened = trouble.guard(|| {
            let mut builder = Builder::new();
            builder.set_cache_size(options.cache_size);
            builder.create_with_backend(backend).map_err(|error| open_error(medium, error))
        });
        match (opened, trouble.gravest()) {
            (Ok(database), _) => {
                let medium = Some(Arc::clone(medium));
                let latest = Latest::default();
                Ok(Self { medium, database: Some(database), latest, trouble, generation: 0, unsynced: false })
            }
            (Err(_), Some((_, cause))) => Err(cause),
            (Err(error), None) => Err(error),
        }
    }

    fn take(&mut self) -> Option<Database> {
        self.unsynced |= self.trouble.gravest().is_some_and(|(severity, _)| severity == Severity::Unsynced);
        self.latest.let_go_alone();
        self.database.take()
    }

    fn close(&mut self) -> Result<()> {
        let Some(database) = self.take() else { return Ok(()) };
        let closed = self.trouble.guard(|| database.close().redb());
        closed.map_err(|error| self.trouble.gravest().map_or(error, |(_, cause)| cause))
    }

    /// Makes the tables and the rows that every store has.
    fn write_first_rows(&self, id: StoreId) -> Result<()> {
        let written = self.trouble.guard(|| {
            let transaction = begin_write(self.database()?)?;
            {
                let mut meta = transaction.open_table(META).redb()?;
                let mut put = |name: &'static str, row: Vec<u8>| meta.insert(name, row.as_slice()).redb().map(drop);
                put(Format::NAME, encode_row(&(), &Format(FORMAT)))?;
                put(Identity::NAME, encode_row(&(), &Identity(id.0)))?;
                put(Session::NAME, encode_row(&(), &Session::Closed { sequence: 0 }))?;
                put(NextTopic::NAME, encode_row(&(), &NextTopic(0)))?;
                put(Updates::NAME, encode_row(&(), &Updates(0)))?;
                transaction.open_table(FREE).redb()?;
                transaction.open_table(TOPICS).redb()?;
                transaction.open_table(DELETED).redb()?;
                transaction.open_table(PARTITIONS).redb()?;
                for table in [INDEX, SEGMENTS] {
                    transaction.open_table(table).redb()?;
                }
                transaction.open_table(KEYS).redb()?;
                transaction.open_table(SUPERSEDED).redb()?;
                transaction.open_table(COMPACTIONS).redb()?;
                transaction.open_table(GROUPS).redb()?;
                transaction.open_table(OFFSETS).redb()?;
            }
            transaction.commit().redb()
        });
        written.map_err(|error| self.trouble.gravest().map_or(error, |(_, cause)| cause))
    }

    /// Sees to it that this redb file is a store of a format that this release reads.
    fn check_format(&self, path: &Path) -> Result<()> {
        let read = self.trouble.guard(|| {
            let transaction = self.database()?.begin_read().redb()?;
            let table = match transaction.open_table(META) {
                Err(TableError::Storage(error)) => Err(error).redb()?,
                Err(_) => return Err(not_ours(path)),
                Ok(table) => table,
            };
            meta::<Format>(&table)?.ok_or_else(|| not_ours(path))
        });
        match read.map_err(|error| self.trouble.gravest().map_or(error, |(_, cause)| cause))? {
            Format(FORMAT) => Ok(()),
            Format(found) if found > FORMAT => {
                Err(Error::UnsupportedVersion { what: "store", found, supported: FORMAT })
            }
            Format(found) => Err(Error::corrupt("the store", format!("there never was a format {found}"))),
        }
    }
}

impl Drop for Handle {
    /// Closing reads and writes pages too, and damaged ones may make it panic.
    fn drop(&mut self) {
        if let Some(database) = self.take() {
            let _ = self.trouble.guard(|| database.close().redb());
        }
    }
}

/// Begins a transaction whose commit is either in the file or not, and after which the file opens at once, even after a
/// power loss.
pub(super) fn begin_write(database: &Database) -> Result<WriteTransaction> {
    let mut transaction = database.begin_write().redb()?;
    transaction.set_durability(redb::Durability::Immediate).redb()?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn not_ours(path: &Path) -> Error {
    let found = "it is a redb database of another application".to_owned();
    Error::NotABrooklet { path: path.to_owned(), found }
}

fn open_error(medium: &Medium, error: DatabaseError) -> Error {
    let path = medium.path().to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Error::AlreadyOpen { path },
        DatabaseError::UpgradeRequired(version) => {
            Error::NotABrooklet { path, found: format!("it is a redb database of the old format {version}") }
        }
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
            match medium.foreign() {
                Ok(Some(Foreign::Words(found))) => Error::NotABrooklet { path, found: found.to_owned() },
                Ok(Some(Foreign::Version(found))) => {
                    Error::UnsupportedVersion { what: "store", found, supported: ROOT_VERSION }
                }
                Ok(Some(Foreign::Features(found))) => {
                    Error::UnsupportedVersion { what: "store features", found, supported: 0 }
                }
                Ok(Some(Foreign::Damaged)) => Error::corrupt(
                    path.display().to_string(),
                    "both copies of its root, its first two blocks of 4,096 bytes, are damaged; restore the file from a copy",
                ),
                _ => Error::corrupt(path.display().to_string(), error.to_string()),
            }
        }
        error => Error::corrupt(path.display().to_string(), error.to_string()),
    }
}
