//! The file under redb: ours, so that a simulated disk can take its place, and so that what fails is known.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use super::extent::BLOCK;
use super::file::{Foreign, Pages, StoreFile};
use super::pages::PageFile;
use super::sums::place_of;
use super::trouble::{Operation, Trouble};
use crate::disk::{DiskFile, MemoryFile};
use crate::error::{Error, Result};
use crate::process::Process;

type Range = (Bound<u64>, Bound<u64>);

/// How a redb file begins.
const MAGIC: &[u8; 9] = b"redb\x1a\x0a\xa9\x0d\x0a";
/// In the byte behind it: the file was not closed cleanly.
const NOT_CLOSED: u8 = 2;
/// In the same byte: the last commit was on the disk before it became the last one.
const TWO_PHASES: u8 = 4;

/// Where the bytes of a store are, for as long as the store is open, whatever redb handles come and go.
pub(super) struct Medium {
    path: PathBuf,
    file: Arc<StoreFile>,
    pages: PageFile,
    locks: Locks,
    /// Whether somebody has looked what lies where.
    looked: AtomicBool,
    /// Whether it was not closed cleanly before.
    was_open: AtomicBool,
    /// The process that opened it. One forked from it shares the file and its locks, and must change neither.
    process: Process,
}

impl fmt::Debug for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Medium").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Medium {
    /// A file.
    pub(super) fn of_file(path: &Path, file: Arc<dyn DiskFile>) -> Result<Self> {
        let locks = Locks::of_file(&file).map_err(|error| Error::io("lock", path, error))?;
        Ok(Self::new(path, file, locks))
    }

    /// Memory.
    pub(super) fn memory() -> Self {
        Self::new(Path::new("(in memory)"), Arc::new(MemoryFile::default()), Locks::new(LockOwner::Nobody))
    }

    fn new(path: &Path, file: Arc<dyn DiskFile>, locks: Locks) -> Self {
        let file = Arc::new(StoreFile::new(file));
        let pages = PageFile::new(Arc::new(Pages(Arc::clone(&file))));
        Self {
            path: path.to_owned(),
            file,
            pages,
            locks,
            looked: AtomicBool::new(false),
            was_open: AtomicBool::new(false),
            process: Process::current(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file with everything that is in it.
    pub(super) fn file(&self) -> &StoreFile {
        &self.file
    }

    fn is_forked(&self) -> bool {
        self.process.is_forked()
    }

    pub(super) fn refuse_forked(&self) -> io::Result<()> {
        if self.is_forked() { Err(io::Error::other(Error::Forked)) } else { Ok(()) }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.pages.read(offset, out).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => {
                let at = self.file.place_of_pages(place_of(offset / BLOCK));
                let words = "is not what was written there; restore the file from a copy";
                io::Error::new(io::ErrorKind::InvalidData, format!("the page at byte {at} {words}"))
            }
            _ => error,
        })
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.refuse_forked()?;
        self.pages.write(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.refuse_forked()?;
        self.pages.set_len(len)
    }

    /// Writes what belongs to the writes before it.
    fn finish_writes(&self) -> io::Result<()> {
        self.refuse_forked()?;
        self.pages.write_sums()
    }

    fn sync(&self) -> io::Result<()> {
        self.refuse_forked()?;
        self.pages.sync()
    }

    /// What is in the file, if it is no store.
    pub(super) fn foreign(&self) -> io::Result<Option<Foreign>> {
        self.file.foreign()
    }

    /// Finds out what lies where.
    ///
    /// After an unclean close, memory may show what the disk does not have: a sync may have failed, and a later one does not
    /// write that again. Of what the last commit needs, only its header and the root can be such: everything else was synced
    /// before the header was written. So these two are written again, before anything else is.
    ///
    /// A commit in one phase, as those of a vacuum are, may have become the last one before its pages or their checksums
    /// were on the disk. All pages are written again then. redb proves them by checksums of its own, and takes the commit
    /// before if it has to.
    fn look(&self) -> io::Result<()> {
        let is_first = !self.looked.swap(true, Ordering::AcqRel);
        self.file.load()?;
        let flags = self.flags()?;
        if flags & NOT_CLOSED != 0 {
            self.was_open.fetch_or(is_first, Ordering::AcqRel);
            self.file.rewrite_root()?;
            self.pages.rewrite_header()?;
            if flags & TWO_PHASES == 0 {
                self.pages.believe_all(self.file.len_of_written_pages()?)?;
            }
            self.pages.sync()?;
        }
        Ok(())
    }

    /// Whether somebody had it open who did not close it.
    pub(super) fn was_open(&self) -> bool {
        self.was_open.load(Ordering::Acquire)
    }

    /// What redb's header says of how the file was left.
    fn flags(&self) -> io::Result<u8> {
        let mut head = [0; MAGIC.len() + 1];
        if self.pages.len()? < head.len() as u64 {
            return Ok(0);
        }
        self.pages.read(0, &mut head)?;
        let flags = head.strip_prefix(MAGIC).and_then(|flags| flags.first()).copied();
        Ok(flags.unwrap_or(0))
    }

    /// Gives up the locks, whoever still uses the file.
    pub(super) fn release_locks(&self) {
        if !self.is_forked() {
            let _ = self.locks.close();
        }
    }

    /// Keeps the locks when redb closes its handle, so that nobody else gets in before the next one is open.
    pub(super) fn keep_locks(&self, keep: bool) {
        self.locks.keep.store(keep, Ordering::Release);
    }
}

/// The bytes that are locked while a store is open: redb's own lock bytes, past any data. On Windows nobody else can read a
/// byte that is locked.
const LOCKED: Range = (Bound::Included(1 << 62), Bound::Excluded((1 << 62) + 896));

/// redb's locks on a file. They belong to the store, not to one redb handle.
///
/// redb locks all bytes of the file, in several ranges. [`LOCKED`] stands for all of them.
struct Locks {
    owner: LockOwner,
    held: Mutex<Vec<Range>>,
    keep: AtomicBool,
}

enum LockOwner {
    /// A byte range of the operating system's file: redb's own backend over a duplicate, which shares its locks. Where the
    /// system has no such locks, one on the whole file.
    System(FileBackend),
    /// One lock on the whole file.
    Simple(Arc<dyn DiskFile>),
    /// Memory is not shared.
    Nobody,
}

impl Locks {
    /// The locks of a file. None is taken yet.
    fn of_file(file: &Arc<dyn DiskFile>) -> io::Result<Self> {
        Ok(Self::new(match file.os_file() {
            Some(os) => LockOwner::System(FileBackend::new(os.try_clone()?).map_err(|error| {
                // Only a read-only handle could be refused.
                io::Error::other(error.to_string())
            })?),
            None => LockOwner::Simple(Arc::clone(file)),
        }))
    }

    fn new(owner: LockOwner) -> Self {
        Self { owner, held: Mutex::new(Vec::new()), keep: AtomicBool::new(false) }
    }

    /// Takes the lock that keeps others from opening the file; `false` when somebody else has it.
    fn try_lock_all(&self) -> io::Result<bool> {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let locked = match self.try_lock(LOCKED) {
            Err(BackendError::Unsupported) => self.try_lock(everything),
            tried => tried,
        };
        locked.or_else(|error| match error {
            // Nothing can be locked there.
            BackendError::Unsupported => Ok(true),
            BackendError::Io(error) => Err(error),
            other => Err(io::Error::other(other.to_string())),
        })
    }

    fn try_lock(&self, range: Range) -> Result<bool, BackendError> {
        let mut held = self.held.lock();
        if held.contains(&range) {
            return Ok(true);
        }
        let locked = match &self.owner {
            LockOwner::System(_) if !is_everything(range) && held.iter().any(|held| !is_everything(*held)) => true,
            LockOwner::System(backend) => {
                let (start, end) = locked_for(range);
                backend.try_lock_range(start, end)?
            }
            LockOwner::Simple(file) if is_everything(range) => file.try_lock()?,
            LockOwner::Simple(_) => return Err(BackendError::Unsupported),
            LockOwner::Nobody => is_everything(range).then_some(true).ok_or(BackendError::Unsupported)?,
        };
        if locked {
            held.push(range);
        }
        Ok(locked)
    }

    fn unlock(&self, range: Range) -> Result<(), BackendError> {
        if self.keep.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut held = self.held.lock();
        held.retain(|held| *held != range);
        match &self.owner {
            LockOwner::System(_) if !is_everything(range) && !held.is_empty() => Ok(()),
            LockOwner::System(backend) => {
                let (start, end) = locked_for(range);
                backend.unlock_range(start, end)
            }
            // Given up with the handle.
            LockOwner::Simple(_) | LockOwner::Nobody => Ok(()),
        }
    }

    fn close(&self) -> io::Result<()> {
        if self.keep.load(Ordering::Acquire) {
            return Ok(());
        }
        self.held.lock().clear();
        match &self.owner {
            LockOwner::System(backend) => backend.close(),
            LockOwner::Simple(_) | LockOwner::Nobody => Ok(()),
        }
    }
}

/// The lock that keeps others from opening a file, for as long as this value lives.
pub(crate) struct FileLock(Locks);

impl FileLock {
    /// Takes the lock of a file; `None` when somebody else has it.
    pub(crate) fn try_take(file: &Arc<dyn DiskFile>) -> io::Result<Option<Self>> {
        let locks = Locks::of_file(file)?;
        Ok(locks.try_lock_all()?.then(|| Self(locks)))
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        let _ = self.0.close();
    }
}

/// The bytes that are locked when redb asks for a range.
fn locked_for(range: Range) -> Range {
    if is_everything(range) { range } else { LOCKED }
}

fn is_everything(range: Range) -> bool {
    matches!(range.0, Bound::Unbounded | Bound::Included(0)) && range.1 == Bound::Unbounded
}

/// Whether redb may make a new database of an empty file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// Yes.
    Nothing,
    /// No: an empty file is not a store.
    Database,
}

/// What one redb handle works on.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) medium: Arc<Medium>,
    pub(super) trouble: Arc<Trouble>,
    expect: Expect,
    /// Whether the file's length was asked for: the first thing redb does once it has its locks.
    looked: AtomicBool,
}

impl Backend {
    pub(super) fn new(medium: &Arc<Medium>, trouble: &Arc<Trouble>, expect: Expect) -> Self {
        Self { medium: Arc::clone(medium), trouble: Arc::clone(trouble), expect, looked: AtomicBool::new(false) }
    }

    fn noted<T>(&self, operation: Operation, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.trouble.note(operation, self.medium.path(), error);
        }
        result
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        if !self.looked.swap(true, Ordering::AcqRel) {
            match self.expect {
                Expect::Nothing => self.noted(Operation::Write, self.medium.file.init())?,
                Expect::Database => {
                    if self.noted(Operation::Read, self.medium.foreign())?.is_some() {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    self.noted(Operation::Sync, self.medium.look())?;
                }
            }
        }
        self.noted(Operation::Len, self.medium.pages.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.noted(Operation::Read, self.medium.read(offset, out))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.trouble.refuse_unsynced()?;
        self.noted(Operation::Write, self.medium.write(offset, data))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.trouble.refuse_unsynced()?;
        self.noted(Operation::SetLen, self.medium.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.trouble.refuse_unsynced()?;
        self.noted(Operation::Write, self.medium.finish_writes())?;
        self.noted(Operation::Sync, self.medium.sync())
    }

    fn close(&self) -> io::Result<()> {
        if self.medium.is_forked() { Ok(()) } else { self.medium.locks.close() }
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.medium.locks.try_lock((start, end))
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        if self.medium.is_forked() { Ok(()) } else { self.medium.locks.unlock((start, end)) }
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        match &self.medium.locks.owner {
            LockOwner::System(backend) => backend.query_lock_range(start, end),
            LockOwner::Simple(_) | LockOwner::Nobody => Err(BackendError::Unsupported),
        }
    }

    // The store has one writing process and no shared readers, so redb asks for none of the locks below.

    fn try_lock_shared_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<bool, BackendError> {
        Err(BackendError::Unsupported)
    }

    fn lock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        Err(BackendError::Unsupported)
    }

    fn lock_shared_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        Err(BackendError::Unsupported)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::super::open::{Store, StoreOptions};
    use super::*;
    use crate::disk::{Disk, OpenMode, OsDisk};
    use crate::types::StoreId;

    const FIRST: u64 = 1 << 62;
    const OPTIONS: StoreOptions = StoreOptions { cache_size: 1 << 20 };

    #[test]
    fn an_open_store_locks_the_bytes_of_the_format_and_none_of_its_data() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.brooklet");
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        Store::create(&disk, &path, StoreId(1), OPTIONS).unwrap();
        let store = Store::open(&disk, &path, OPTIONS).unwrap();
        // As another process sees it.
        let is_free = |first: u64, end: Bound<u64>| {
            let other = FileBackend::new(File::options().read(true).write(true).open(&path).unwrap()).unwrap();
            let locked = other.try_lock_range(Bound::Included(first), end).unwrap();
            other.close().unwrap();
            locked
        };
        assert!(is_free(0, Bound::Excluded(FIRST)) && is_free(FIRST + 896, Bound::Unbounded));
        assert!(std::fs::read(&path).unwrap().starts_with(b"brook"));
        for byte in [FIRST, FIRST + 1, FIRST + 2, FIRST + 895] {
            assert!(!is_free(byte, Bound::Included(byte)), "{byte}");
        }
        assert!(matches!(Store::open(&disk, &path, OPTIONS), Err(Error::AlreadyOpen { .. })));
        store.close().unwrap();
        assert!(is_free(0, Bound::Unbounded));
        Store::open(&disk, &path, OPTIONS).unwrap();
    }

    #[test]
    fn a_file_lock_lives_until_it_is_dropped_and_lets_others_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.brooklet-journal");
        std::fs::write(&path, b"frames").unwrap();
        let take = || FileLock::try_take(&OsDisk.open(&path, OpenMode::Existing).unwrap()).unwrap();
        let lock = take().unwrap();
        assert!(take().is_none());
        assert_eq!(std::fs::read(&path).unwrap(), b"frames");
        drop(lock);
        assert!(take().is_some());
    }
}
