//! Plain files: the baselines.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::payload::Payload;

/// A file of written zeros that is overwritten round and round: what a preallocated journal can reach at best.
#[derive(Debug)]
pub(crate) struct Overwritten {
    file: File,
    len: u64,
    position: u64,
}

impl Overwritten {
    pub(crate) fn create(path: &Path, len: u64) -> io::Result<Self> {
        let mut file = File::create_new(path)?;
        io::copy(&mut io::repeat(0).take(len), &mut file)?;
        file.sync_all()?;
        Ok(Self { file, len, position: 0 })
    }

    /// Writes, and returns when it is on the disk.
    pub(crate) fn write_durably(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.position + bytes.len() as u64;
        let at = if end > self.len { 0 } else { self.position };
        write_at(&self.file, bytes, at)?;
        self.position = at + bytes.len() as u64;
        self.file.sync_data()
    }
}

/// A file that grows.
#[derive(Debug)]
pub(crate) struct Appended {
    file: File,
    block: Vec<u8>,
}

/// Bytes that are read or written at once where the baseline may choose.
pub(crate) const BLOCK: usize = 64 << 10;

impl Appended {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create_new(path)?, block: Vec::with_capacity(BLOCK) })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    pub(crate) fn write_durably(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_data()
    }

    /// Writes many payloads in blocks, and one sync behind them.
    pub(crate) fn write_all_durably<'a>(&mut self, payloads: impl Iterator<Item = &'a Payload>) -> io::Result<()> {
        for payload in payloads {
            if self.block.len() + payload.bytes.len() > BLOCK {
                self.file.write_all(&self.block)?;
                self.block.clear();
            }
            self.block.extend_from_slice(&payload.bytes);
        }
        self.file.write_all(&self.block)?;
        self.block.clear();
        self.file.sync_data()
    }
}

/// Has the system touch so much memory and give it back, by a file that comes and goes. A virtual machine pays for the first touch
/// of memory that its host has taken back; without this, whoever writes first pays for both.
pub(crate) fn touch_memory(path: &Path, len: u64) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    io::copy(&mut io::repeat(0).take(len + len / 4), &mut file)?;
    drop(file);
    remove(path)
}

/// Removes a file, and waits until that is on the disk: a file system may tell the disk of each block that gets free, and whoever
/// syncs next would wait for it.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Reads a file of payloads in blocks, and touches the two ends of each. Gives how many there are.
pub(crate) fn scan(path: &Path, size: usize) -> io::Result<(u64, u64)> {
    let mut file = File::open(path)?;
    let mut block = vec![0; (BLOCK / size).max(1) * size];
    let (mut count, mut sum) = (0, 0_u64);
    loop {
        let mut filled = 0;
        while let Some(room) = block.get_mut(filled..).filter(|room| !room.is_empty()) {
            match file.read(room)? {
                0 => break,
                read => filled += read,
            }
        }
        for payload in block.get(..filled).unwrap_or_default().chunks_exact(size) {
            sum += u64::from(payload.first().copied().unwrap_or(0)) + u64::from(payload.last().copied().unwrap_or(0));
            count += 1;
        }
        if filled < block.len() {
            return Ok((count, sum));
        }
    }
}

/// Reads at a position without moving one.
#[cfg(unix)]
pub(crate) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

/// Reads at a position.
#[cfg(windows)]
pub(crate) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::windows::fs::FileExt::seek_read(file, bytes, at).map(drop)
}

#[cfg(windows)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, at).map(drop)
}
