//! A file of zeros beside the store, given up when the disk is full: deleting from a copy-on-write store takes room
//! before it frees any.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, OpenMode};

/// 1 MiB: enough for some hundred deletes, checkpoints and the close.
const BALLAST_BYTES: u64 = 1 << 20;

/// It is written in pieces of this size, as many as there is room for.
const PIECE: usize = 16 << 10;

/// The ballast of one store. Everything is best effort: a store without it works as long as there is room.
#[derive(Debug)]
pub(super) struct Ballast {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// How much of it is there.
    held: u64,
}

impl Ballast {
    /// The ballast of the store at `store`, made if it is not there.
    pub(super) fn beside(disk: &Arc<dyn Disk>, store: &Path) -> Self {
        let mut name = store.as_os_str().to_owned();
        name.push("-reserve");
        let mut ballast = Self { disk: Arc::clone(disk), path: name.into(), held: 0 };
        ballast.held = ballast.found();
        ballast.refill();
        ballast
    }

    fn found(&self) -> u64 {
        let len = || self.disk.open(&self.path, OpenMode::Existing)?.len();
        if self.disk.exists(&self.path).unwrap_or(false) { len().unwrap_or(0) } else { 0 }
    }

    /// Gives the room back to the disk; `false` when there was none to give.
    pub(super) fn release(&mut self) -> bool {
        std::mem::take(&mut self.held) > 0 && self.disk.remove(&self.path).is_ok()
    }

    /// Takes as much of the room again as there is, if it was given up: what an update that stores more would leave to the
    /// next that deletes is less.
    pub(super) fn refill(&mut self) {
        if self.held < BALLAST_BYTES {
            let _ = self.write();
        }
    }

    /// Real zeros, synced: a file that is merely long takes no room.
    fn write(&mut self) -> io::Result<()> {
        let mode = if self.held == 0 { OpenMode::Replace } else { OpenMode::Existing };
        let file = self.disk.open(&self.path, mode)?;
        let before = self.held;
        while self.held < BALLAST_BYTES && file.write_at(self.held, &[0; PIECE]).is_ok() {
            self.held += PIECE as u64;
        }
        if self.held > before { file.sync() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OsDisk;
    use crate::disk::sim_disk::SimDisk;

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
        assert_eq!(Ballast::beside(&disk, &store).held, BALLAST_BYTES);
    }

    #[test]
    fn a_ballast_takes_what_room_there_is() {
        let sim = SimDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let store = Path::new("/d/app.brooklet");
        sim.set_capacity(Some(300 << 10));
        let mut ballast = Ballast::beside(&disk, store);
        assert_eq!(ballast.held, 288 << 10);
        ballast = Ballast::beside(&disk, store);
        assert!(ballast.held >= 288 << 10, "found again: {}", ballast.held);
        assert!(ballast.release());
        assert_eq!(sim.used(), 0);
        sim.set_capacity(Some(100 << 10));
        ballast.refill();
        assert_eq!(ballast.held, 96 << 10);
        sim.set_capacity(None);
        ballast.refill();
        assert_eq!(ballast.held, BALLAST_BYTES);
        assert_eq!(sim.used(), BALLAST_BYTES);
    }

    #[test]
    fn a_ballast_that_can_not_be_made_is_no_error() {
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let mut ballast = Ballast::beside(&disk, Path::new("/nowhere/at/all/app"));
        assert_eq!(ballast.held, 0);
        assert!(!ballast.release());
    }
}
