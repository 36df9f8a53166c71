//! The files that brooklet needs, as a trait: the operating system's files in an application, a simulated disk in the
//! crash tests. This is the only room that touches the file system.
//!
//! What is assumed of a disk: what was written before a successful [`DiskFile::sync`] is there after a power loss; what
//! was written after it may be there, in any order, whole or in part; a write does not change bytes beside it, also not
//! when power fails during it ("powersafe overwrite"); a rename is atomic, and durable after [`Disk::sync_dir`].

mod memory;
mod os;
#[cfg(test)]
#[path = "../../tests/it/sim_disk.rs"]
pub(crate) mod sim_disk;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub(crate) use memory::MemoryFile;
pub use os::OsDisk;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file; `NotFound` when there is none.
    Existing,
    /// An existing file as it is, or a new, empty one (mode 0600).
    OrCreate,
    /// A new, empty file; one that exists already is emptied. Readable and writable by its owner only (mode 0600).
    Replace,
}

/// A place where files live.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Whether a file of this name exists.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Gives a file another name, atomically, in the same directory. Durable after [`sync_dir`](Disk::sync_dir).
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; one that does not exist is no error. Durable after [`sync_dir`](Disk::sync_dir).
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in the directory that holds `file` durable.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn sync_dir(&self, file: &Path) -> io::Result<()>;
}

/// An open file. Dropping the last handle closes it and gives up its lock.
pub trait DiskFile: fmt::Debug + Send + Sync + 'static {
    /// The length in bytes.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn len(&self) -> io::Result<u64>;

    /// Whether the length is 0.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `out` from `offset` on; `UnexpectedEof` when the file is shorter.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Reads `len` bytes from `offset` on; `UnexpectedEof` when the file is shorter.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn read_vec_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes all of `bytes` at `offset`; the file grows as needed.
    ///
    /// # Errors
    ///
    /// Those of the file system. A part may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts or extends the file; new bytes are zero.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns when everything written so far, and the length, is on the disk.
    ///
    /// # Errors
    ///
    /// Those of the file system. What was not synced before may then be lost, even if a later sync succeeds, and
    /// reads may show it all the same until the system needs the memory.
    fn sync(&self) -> io::Result<()>;

    /// Takes an exclusive lock that lives as long as the handle; `false` when another handle has it.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn try_lock(&self) -> io::Result<bool>;

    /// The operating system's file behind this one, if there is one: the store's engine locks byte ranges of it.
    fn os_file(&self) -> Option<&File> {
        None
    }
}
