//! A file in memory, for a broker that keeps nothing.

use std::io;

use parking_lot::RwLock;

use super::DiskFile;

/// Bytes that live as long as the handle.
#[derive(Debug, Default)]
pub(crate) struct MemoryFile {
    bytes: RwLock<Vec<u8>>,
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.read().len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.read();
        let start = index(offset)?;
        let end = start.checked_add(out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, new: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes.write();
        let start = index(offset)?;
        let end = start.checked_add(new.len()).ok_or(io::ErrorKind::StorageFull)?;
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes.get_mut(start..end).unwrap_or_default().copy_from_slice(new);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = index(len)?;
        let mut bytes = self.bytes.write();
        bytes.resize(len, 0);
        if bytes.capacity() / 2 > len {
            bytes.shrink_to_fit();
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::StorageFull.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_holes_are_zeros() {
        let file = MemoryFile::default();
        file.write_at(3, b"abc").unwrap();
        assert_eq!(file.len().unwrap(), 6);
        let mut out = [9; 4];
        file.read_at(1, &mut out).unwrap();
        assert_eq!(&out, b"\0\0ab");
        for (offset, len) in [(3, 4), (7, 1), (u64::MAX, 1)] {
            assert!(file.read_at(offset, &mut vec![0; len]).is_err(), "{offset}, {len}");
        }
        file.set_len(4).unwrap();
        file.set_len(8).unwrap();
        let mut out = [9; 5];
        file.read_at(3, &mut out).unwrap();
        assert_eq!(&out, b"a\0\0\0\0");
    }
}
