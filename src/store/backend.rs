//! The file under redb: ours, so that a simulated disk can take its place, and so that what fails is known.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{BackendError, StorageBackend};

use super::pages::PageFile;
use super::trouble::{Operation, Trouble};
use crate::disk::DiskFile;
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
    place: Place,
    locks: Locks,
    /// The process that opened it. One forked from it shares the file and its locks, and must change neither.
    process: Process,
}

impl fmt::Debug for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Medium").field("path", &self.path).finish_non_exhaustive()
    }
}

enum Place {
    File(PageFile),
    Memory(InMemoryBackend),
}

impl Medium {
    /// A file.
    pub(super) fn file(path: &Path, file: Arc<dyn DiskFile>) -> Result<Self> {
        let owner = match file.os_file() {
            Some(os) => {
                let os = os.try_clone().map_err(|error| Error::io("open", path, error))?;
                LockOwner::System(FileBackend::new(os).map_err(|error| {
                    // Only a read-only handle could be refused.
                    Error::io("lock", path, io::Error::other(error.to_string()))
                })?)
            }
            None => LockOwner::Simple(Arc::clone(&file)),
        };
        let locks = Locks::new(owner);
        Ok(Self { path: path.to_owned(), place: Place::File(PageFile::new(file)), locks, process: Process::current() })
    }

    /// Memory.
    pub(super) fn memory() -> Self {
        let place = Place::Memory(InMemoryBackend::new());
        let locks = Locks::new(LockOwner::Nobody);
        Self { path: PathBuf::from("(in memory)"), place, locks, process: Process::current() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes it takes.
    pub(super) fn size(&self) -> io::Result<u64> {
        match &self.place {
            Place::File(file) => file.file().len(),
            Place::Memory(memory) => memory.len(),
        }
    }

    /// The length that redb knows.
    fn len(&self) -> io::Result<u64> {
        match &self.place {
            Place::File(file) => file.len(),
            Place::Memory(memory) => memory.len(),
        }
    }

    fn is_forked(&self) -> bool {
        self.process.is_forked()
    }

    fn refuse_forked(&self) -> io::Result<()> {
        if self.is_forked() { Err(io::Error::other(Error::Forked)) } else { Ok(()) }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match &self.place {
            Place::File(file) => file.read(offset, out),
            Place::Memory(memory) => memory.read(offset, out),
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.refuse_forked()?;
        match &self.place {
            Place::File(file) => file.write(offset, bytes),
            Place::Memory(memory) => memory.write(offset, bytes),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.refuse_forked()?;
        match &self.place {
            Place::File(file) => file.set_len(len),
            Place::Memory(memory) => memory.set_len(len),
        }
    }

    /// Writes what belongs to the writes before it.
    fn finish_writes(&self) -> io::Result<()> {
        self.refuse_forked()?;
        match &self.place {
            Place::File(file) => file.write_sums(),
            Place::Memory(_) => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.refuse_forked()?;
        match &self.place {
            Place::File(file) => file.sync(),
            Place::Memory(_) => Ok(()),
        }
    }

    /// What is in the file, if it is no store.
    pub(super) fn foreign(&self) -> io::Result<Option<&'static str>> {
        let Place::File(file) = &self.place else { return Ok(None) };
        let head = head(&**file.file())?;
        Ok(if head.starts_with(MAGIC) {
            let other = "it is a redb database of another application, or the pages at bytes 4096 and 8192 are damaged";
            (!file.has_sums()?).then_some(other)
        } else if head.is_empty() {
            Some("it is empty")
        } else if head.iter().all(|&byte| byte == 0) {
            Some("it begins with zeros")
        } else if head.starts_with(b"SQLite format 3\0") {
            Some("it is an SQLite database")
        } else if head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
            Some("it looks like text")
        } else {
            Some("it holds something else")
        })
    }

    /// After an unclean close, what memory holds of a file may differ from what the disk holds: a sync may have failed
    /// then. So everything is written out and read anew.
    ///
    /// A commit in one phase, as those of a vacuum are, may have become the last one before its pages or their checksums
    /// were on the disk. redb then proves all pages by checksums of its own, and takes the commit before if it has to.
    fn trust_the_disk_only(&self) -> io::Result<()> {
        let Place::File(file) = &self.place else { return Ok(()) };
        let head = head(&**file.file())?;
        let flags = head.get(MAGIC.len()).copied().filter(|_| head.starts_with(MAGIC)).unwrap_or(0);
        if flags & NOT_CLOSED != 0 {
            file.sync()?;
            file.drop_cache();
            if flags & TWO_PHASES == 0 {
                file.believe_all()?;
            }
        }
        Ok(())
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

/// The first bytes of a file, 512 at most.
fn head(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.len()?.min(512)).unwrap_or(512)];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// redb's locks on a file. They belong to the store, not to one redb handle.
struct Locks {
    owner: LockOwner,
    held: Mutex<Vec<Range>>,
    keep: AtomicBool,
}

enum LockOwner {
    /// Byte ranges of the operating system's file: redb's own backend over a duplicate, which shares its locks.
    System(FileBackend),
    /// One lock on the whole file.
    Simple(Arc<dyn DiskFile>),
    /// Memory is not shared.
    Nobody,
}

impl Locks {
    fn new(owner: LockOwner) -> Self {
        Self { owner, held: Mutex::new(Vec::new()), keep: AtomicBool::new(false) }
    }

    fn try_lock(&self, range: Range) -> Result<bool, BackendError> {
        let mut held = self.held.lock();
        if held.contains(&range) {
            return Ok(true);
        }
        let locked = match &self.owner {
            LockOwner::System(backend) => backend.try_lock_range(range.0, range.1)?,
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
        self.held.lock().retain(|held| *held != range);
        match &self.owner {
            LockOwner::System(backend) => backend.unlock_range(range.0, range.1),
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
            if self.expect == Expect::Database && self.noted(Operation::Read, self.medium.foreign())?.is_some() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.noted(Operation::Sync, self.medium.trust_the_disk_only())?;
        }
        self.noted(Operation::Len, self.medium.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.noted(Operation::Read, self.medium.read(offset, out))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.noted(Operation::Write, self.medium.write(offset, data))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.noted(Operation::SetLen, self.medium.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
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
