//! A file of zeros beside the store, given up when the disk is full: deleting from a copy-on-write store takes room
//! before it frees any.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, OpenMode};

/// 1 MiB: enough for some hundred deletes, checkpoints and the close.
const BALLAST_BYTES: u64 = 1 << 20;

/// The ballast of one store. Everything is best effort: a store without it works as long as there is room.
#[derive(Debug)]
pub(super) struct Ballast {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    loaded: bool,
}

impl Ballast {
    /// The ballast of the store at `store`, made if it is not there.
    pub(super) fn beside(disk: &Arc<dyn Disk>, store: &Path) -> Self {
        let mut name = store.as_os_str().to_owned();
        name.push("-reserve");
        let mut ballast = Self { disk: Arc::clone(disk), path: name.into(), loaded: false };
        ballast.loaded = ballast.is_there();
        ballast.refill();
        ballast
    }

    fn is_there(&self) -> bool {
        let len = || self.disk.open(&self.path, OpenMode::Existing)?.len();
        self.disk.exists(&self.path).unwrap_or(false) && len().is_ok_and(|len| len >= BALLAST_BYTES)
    }

    /// Gives the room back to the disk; `false` when there was none to give.
    pub(super) fn release(&mut self) -> bool {
        std::mem::take(&mut self.loaded) && self.disk.remove(&self.path).is_ok()
    }

    /// Takes the room again, if it was given up and there is room now.
    pub(super) fn refill(&mut self) {
        if !self.loaded {
            self.loaded = self.write().is_ok();
            if !self.loaded {
                // What was written of it takes the room that others need.
                let _ = self.disk.remove(&self.path);
            }
        }
    }

    /// Real zeros, synced: a file that is merely long takes no room.
    fn write(&self) -> io::Result<()> {
        let file = self.disk.open(&self.path, OpenMode::Replace)?;
        let zeros = vec![0; 64 << 10];
        for offset in (0..BALLAST_BYTES).step_by(zeros.len()) {
            file.write_at(offset, &zeros)?;
        }
        file.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OsDisk;

    #[test]
    fn a_ballast_is_made_released_and_refilled() {
        let directory = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let store = directory.path().join("app.brooklet");
        let reserve = directory.path().join("app.brooklet-reserve");
        let mut ballast = Ballast::beside(&disk, &store);
        assert_eq!(std::fs::metadata(&reserve).unwrap().len(), BALLAST_BYTES);
        assert!(ballast.release());
        assert!(!reserve.exists());
        assert!(!ballast.release());
        ballast.refill();
        assert!(Ballast::beside(&disk, &store).loaded);
    }

    #[test]
    fn a_ballast_that_can_not_be_made_is_no_error() {
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let mut ballast = Ballast::beside(&disk, Path::new("/nowhere/at/all/app"));
        assert!(!ballast.loaded);
        assert!(!ballast.release());
    }
}
