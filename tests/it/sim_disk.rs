//! A simulated disk for crash and fault tests.
//!
//! All operations on files and names have one total order. At each point of it the disk can be had as a power loss would
//! leave it: with everything that was synced, and with any part of what was not. Every call can be made to fail, and the
//! disk can be full.
//!
//! A failed sync does what Linux does: the pages that it should have written become clean. Reads still show them, no later
//! sync writes them, and a power loss takes them. When memory is needed, reads show what the disk has: `SimDisk::evict`.
//!
//! The unsynced changes of names are as much at risk as those of contents: a file that was created and synced is gone
//! unless its directory was synced too.

#[path = "sim_disk/content.rs"]
mod content;
#[path = "sim_disk/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use brooklet::disk::{Disk, DiskFile, OpenMode};

use content::{Content, PAGE, pages_of};
use world::{Change, FileId, Operation, World};
pub(crate) use world::{Keep, Random};

/// The history keeps the whole world every so many operations, to find any point of it quickly.
const CHECKPOINT_EVERY: usize = 64;

/// Up to so many unsynced changes, every subset of them is tried.
const ALL_SUBSETS: usize = 4;

/// The calls that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    Open,
    Read,
    /// A write of which nothing arrives.
    Write,
    /// A write of which the first half arrives.
    ShortWrite,
    SetLen,
    Sync,
    Rename,
    Remove,
    SyncDir,
}

/// How often a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    Once,
    FromNowOn,
}

/// A call that is to fail.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) operation: Op,
    /// Only for files whose path contains this.
    pub(crate) path_contains: Option<String>,
    /// How many such calls succeed before it, counted from now.
    pub(crate) nth: usize,
    pub(crate) kind: io::ErrorKind,
    pub(crate) repeat: Repeat,
}

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    world: World,
    history: History,
    /// Faults to come, each with the number of calls it has seen.
    faults: Vec<(Fault, usize)>,
    calls: BTreeMap<(Op, PathBuf), usize>,
    called: Arc<Condvar>,
    /// The call that panics, once.
    panics: Option<(Op, String)>,
    /// Bytes of pages that all files together may take.
    capacity: Option<u64>,
    /// When set, a failed sync writes a random half of what it should.
    failed_sync_seed: Option<u64>,
    locks: BTreeMap<FileId, u64>,
    handles: u64,
}

/// Everything that happened, and some worlds on the way.
#[derive(Default)]
struct History {
    operations: Vec<Operation>,
    /// The world before operation 0, [`CHECKPOINT_EVERY`], twice that, and so on.
    checkpoints: Vec<World>,
    /// The world before some operation: crash points are mostly visited in order.
    cursor: Option<(usize, World)>,
}

impl SimDisk {
    /// An empty disk.
    pub(crate) fn new() -> Self {
        Self::of(World::default())
    }

    fn of(world: World) -> Self {
        Self { state: Arc::new(Mutex::new(State { world, ..State::default() })) }
    }

    /// The number of changing operations so far. A crash point is a number from 0 to this: so many of them had begun.
    pub(crate) fn operations(&self) -> usize {
        self.state().history.operations.len()
    }

    /// How many of the operations before crash point `at` were not synced there.
    pub(crate) fn unsynced(&self, at: usize) -> usize {
        self.state().world_at(at).unsynced()
    }

    /// The disk as a power loss at crash point `at` leaves it.
    pub(crate) fn image(&self, at: usize, keep: Keep) -> SimDisk {
        let world = self.state().world_at(at);
        Self::of(world.after_power_loss(keep))
    }

    /// The disks that a power loss at crash point `at` may leave: all of them while few changes were unsynced, else a
    /// choice. Each with the words to find it again.
    pub(crate) fn images(&self, at: usize, seed: u64) -> impl Iterator<Item = (String, SimDisk)> + use<> {
        let world = self.state().world_at(at);
        keeps(world.unsynced(), seed).into_iter().map(move |keep| {
            let label = format!("crash point {at}, {} unsynced, {keep:?}", world.unsynced());
            (label, Self::of(world.after_power_loss(keep)))
        })
    }

    /// The disk after a power loss that took nothing.
    pub(crate) fn reboot(&self) -> SimDisk {
        self.image(self.operations(), Keep::All)
    }

    /// The disk as another process finds it after this one was killed: nothing is lost, nothing is synced by it.
    pub(crate) fn after_kill(&self) -> SimDisk {
        self.killed_at(self.operations())
    }

    /// The same, when it was killed at crash point `at`.
    pub(crate) fn killed_at(&self, at: usize) -> SimDisk {
        Self::of(self.state().world_at(at))
    }

    /// Makes calls fail from now on.
    pub(crate) fn fail(&self, fault: Fault) {
        self.state().faults.push((fault, 0));
    }

    /// Makes the disk well again.
    pub(crate) fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// From now on a failed sync writes a random half of what it should; without a seed, nothing of it.
    pub(crate) fn set_failed_sync_seed(&self, seed: Option<u64>) {
        self.state().failed_sync_seed = seed;
    }

    /// Takes memory from the clean pages of all files: they are read from the disk again. With a seed, a random half of them.
    pub(crate) fn evict(&self, seed: Option<u64>) {
        self.state().perform(Operation::Evict(seed));
    }

    /// The next such call panics and does nothing.
    pub(crate) fn panic_at(&self, operation: Op, path_contains: &str) {
        self.state().panics = Some((operation, path_contains.to_owned()));
    }

    /// The number of calls so far, failed ones too. A write counts as [`Op::Write`].
    pub(crate) fn calls(&self, operation: Op, path_contains: &str) -> usize {
        self.state().calls(operation, path_contains)
    }

    /// Returns when there were more than so many calls, and the last of them is done.
    pub(crate) fn wait_for_calls_behind(&self, number: usize, operation: Op, path_contains: &str) {
        let mut state = self.state();
        let called = Arc::clone(&state.called);
        while state.calls(operation, path_contains) <= number {
            state = called.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Limits the bytes that all files together may take, counted in whole pages.
    pub(crate) fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Bytes of the pages that the files take.
    pub(crate) fn used(&self) -> u64 {
        self.state().world.used()
    }

    /// The names of all files.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.state().world.names().map(Path::to_owned).collect()
    }

    /// All bytes of a file as a process sees them; `None` when there is none.
    pub(crate) fn bytes(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.state();
        let content = state.world.visible(state.world.file(path.as_ref())?);
        let mut bytes = vec![0; usize::try_from(content.len()).ok()?];
        content.read(0, &mut bytes).ok()?;
        Some(bytes)
    }

    /// Puts a file with these bytes on the disk, durably, in place of what was there. No fault applies.
    pub(crate) fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let path: Arc<Path> = path.as_ref().into();
        let mut state = self.state();
        let file = state.world.next_file();
        state.perform(Operation::Change(Change::Create { path: Arc::clone(&path), file }));
        state.perform(Operation::Change(Change::Write { file, offset: 0, bytes: bytes.into() }));
        state.perform(Operation::Sync(file));
        state.perform(Operation::SyncDir(path));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sensible choice of what a power loss leaves of so many changes.
fn keeps(unsynced: usize, seed: u64) -> Vec<Keep> {
    const PICKED: usize = 6;
    let mut random = Random::new(seed);
    let mut keeps = Vec::new();
    if unsynced <= ALL_SUBSETS {
        keeps.extend((0..1 << unsynced).map(Keep::Subset));
    } else {
        keeps.extend([Keep::None, Keep::All, Keep::Lose(unsynced - 1), Keep::Only(unsynced - 1)]);
        let mut pick = || usize::try_from(random.below(unsynced as u64)).unwrap_or(0);
        keeps.extend((0..PICKED).flat_map(|_| [Keep::Lose(pick()), Keep::Only(pick())]));
    }
    if unsynced > 0 {
        keeps.extend([Keep::Torn(random.next()), Keep::Torn(random.next())]);
        keeps.extend((0..PICKED).map(|_| Keep::Random(random.next())));
    }
    keeps
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("operations", &self.operations()).finish_non_exhaustive()
    }
}

impl State {
    fn perform(&mut self, operation: Operation) {
        self.history.push(operation.clone(), &self.world);
        self.world.apply(&operation);
    }

    fn change(&mut self, change: Change) {
        self.perform(Operation::Change(change));
    }

    /// The world before operation `at`.
    fn world_at(&mut self, at: usize) -> World {
        if at >= self.history.operations.len() {
            return self.world.clone();
        }
        self.history.world_at(at)
    }

    fn calls(&self, operation: Op, path_contains: &str) -> usize {
        let matching = |(op, path): &(Op, PathBuf)| *op == operation && path.to_string_lossy().contains(path_contains);
        self.calls.iter().filter(|(call, _)| matching(call)).map(|(_, count)| count).sum()
    }

    /// Counts a call; the error that it is to fail with, if it is.
    fn call(&mut self, operation: Op, path: &Path) -> Result<(), io::Error> {
        *self.calls.entry((operation, path.to_owned())).or_default() += 1;
        self.called.notify_all();
        let panics = |(op, part): &mut (Op, String)| *op == operation && path.to_string_lossy().contains(part.as_str());
        assert!(self.panics.take_if(panics).is_none(), "injected panic of {operation:?}");
        self.injected(operation, path)
    }

    fn injected(&mut self, operation: Op, path: &Path) -> io::Result<()> {
        let name = path.to_string_lossy();
        for (fault, seen) in &mut self.faults {
            if fault.operation != operation || fault.path_contains.as_ref().is_some_and(|part| !name.contains(part)) {
                continue;
            }
            let due = match fault.repeat {
                Repeat::Once => *seen == fault.nth,
                Repeat::FromNowOn => *seen >= fault.nth,
            };
            *seen += 1;
            if due {
                return Err(io::Error::new(fault.kind, format!("injected failure of {operation:?}")));
            }
        }
        Ok(())
    }

    /// How many of these bytes the disk still has pages for.
    fn room_for(&self, file: FileId, offset: u64, len: usize) -> usize {
        let Some(capacity) = self.capacity else { return len };
        let content = self.world.visible(file);
        let mut free = capacity.saturating_sub(self.world.used()) / PAGE;
        let mut room = 0;
        for (page, within) in pages_of(offset, len) {
            if !content.has_page(page) {
                if free == 0 {
                    break;
                }
                free -= 1;
            }
            room += within.len();
        }
        room
    }
}

impl History {
    fn push(&mut self, operation: Operation, before: &World) {
        if self.operations.len().is_multiple_of(CHECKPOINT_EVERY) {
            self.checkpoints.push(before.clone());
        }
        self.operations.push(operation);
    }

    fn world_at(&mut self, at: usize) -> World {
        let checkpoint = at / CHECKPOINT_EVERY;
        let checkpointed = checkpoint * CHECKPOINT_EVERY;
        let (reached, mut world) = match self.cursor.take() {
            Some((reached, world)) if (checkpointed..=at).contains(&reached) => (reached, world),
            _ => (checkpointed, self.checkpoints.get(checkpoint).cloned().unwrap_or_default()),
        };
        for operation in self.operations.get(reached..at).unwrap_or_default() {
            world.apply(operation);
        }
        self.cursor = Some((at, world.clone()));
        world
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.call(Op::Open, path)?;
        let file = match (state.world.file(path), mode) {
            (Some(file), OpenMode::Replace) => {
                state.change(Change::SetLen { file, len: 0 });
                file
            }
            (Some(file), OpenMode::Existing | OpenMode::OrCreate) => file,
            (None, OpenMode::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::Replace | OpenMode::OrCreate) => {
                let file = state.world.next_file();
                state.change(Change::Create { path: path.into(), file });
                file
            }
        };
        state.handles += 1;
        Ok(Arc::new(SimFile { disk: self.clone(), file, opened_as: path.into(), handle: state.handles }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.state().world.file(path).is_some())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(Op::Rename, to)?;
        let file = state.world.file(from).ok_or(io::ErrorKind::NotFound)?;
        state.change(Change::Rename { from: from.into(), to: to.into(), file });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(Op::Remove, path)?;
        if state.world.file(path).is_some() {
            state.change(Change::Remove { path: path.into() });
        }
        Ok(())
    }

    fn sync_dir(&self, file: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(Op::SyncDir, file)?;
        state.perform(Operation::SyncDir(file.into()));
        Ok(())
    }
}

/// A handle on a file. The file lives on when its name goes.
struct SimFile {
    disk: SimDisk,
    file: FileId,
    opened_as: Arc<Path>,
    /// The number of this handle: who has the lock.
    handle: u64,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("path", &self.opened_as).finish_non_exhaustive()
    }
}

impl SimFile {
    /// Counts the call under the file's present name.
    fn call(&self, state: &mut State, operation: Op) -> io::Result<()> {
        let path = self.path(state);
        state.call(operation, &path)
    }

    fn path(&self, state: &State) -> Arc<Path> {
        state.world.name(self.file).unwrap_or_else(|| Arc::clone(&self.opened_as))
    }

    fn content(&self) -> Content {
        self.disk.state().world.visible(self.file)
    }

    /// Writes the first `arriving` of the bytes; fails with `error` unless those are all.
    fn write_part(
        &self,
        state: &mut State,
        offset: u64,
        bytes: &[u8],
        arriving: usize,
        error: io::Error,
    ) -> io::Result<()> {
        let part = bytes.get(..arriving).unwrap_or(bytes);
        if !part.is_empty() {
            state.change(Change::Write { file: self.file, offset, bytes: part.into() });
        }
        if part.len() == bytes.len() { Ok(()) } else { Err(error) }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content().len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.call(&mut self.disk.state(), Op::Read)?;
        self.content().read(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        self.call(&mut state, Op::Write)?;
        let path = self.path(&state);
        if let Err(error) = state.injected(Op::ShortWrite, &path) {
            return self.write_part(&mut state, offset, bytes, bytes.len() / 2, error);
        }
        let room = state.room_for(self.file, offset, bytes.len());
        self.write_part(&mut state, offset, bytes, room, io::ErrorKind::StorageFull.into())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        self.call(&mut state, Op::SetLen)?;
        state.change(Change::SetLen { file: self.file, len });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if let Err(error) = self.call(&mut state, Op::Sync) {
            let seed = state.failed_sync_seed;
            state.perform(Operation::FailedSync(self.file, seed));
            return Err(error);
        }
        state.perform(Operation::Sync(self.file));
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.disk.state();
        let owner = *state.locks.entry(self.file).or_insert(self.handle);
        Ok(owner == self.handle)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.locks.get(&self.file) == Some(&self.handle) {
            state.locks.remove(&self.file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/d/file";

    fn file_on(disk: &SimDisk) -> Arc<dyn DiskFile> {
        disk.open(Path::new(PATH), OpenMode::OrCreate).unwrap()
    }

    /// A disk with a durable file of these bytes.
    fn disk_with(bytes: &[u8]) -> SimDisk {
        let disk = SimDisk::new();
        disk.put(PATH, bytes);
        disk
    }

    fn now(disk: &SimDisk, keep: Keep) -> Option<Vec<u8>> {
        disk.image(disk.operations(), keep).bytes(PATH)
    }

    fn failing(operation: Op, nth: usize, repeat: Repeat) -> Fault {
        Fault { operation, path_contains: Some("file".into()), nth, kind: io::ErrorKind::Other, repeat }
    }

    #[test]
    fn contents_agree_with_a_vector() {
        let mut random = Random::new(7);
        let (mut content, mut bytes) = (Content::default(), Vec::new());
        for step in 0..2_000 {
            let mut below = |limit| usize::try_from(random.below(limit)).unwrap();
            let (at, len) = (below(40_000), below(9_000));
            if random.below(5) == 0 {
                content.set_len(at as u64);
                bytes.resize(at, 0);
            } else {
                let part = vec![if step % 3 == 0 { 0 } else { 1 }; len];
                if len > 0 && bytes.len() < at + len {
                    bytes.resize(at + len, 0);
                }
                content.write(at as u64, &part);
                bytes.get_mut(at..at + len).unwrap_or_default().copy_from_slice(&part);
            }
            let mut read = vec![1; bytes.len()];
            content.read(0, &mut read).unwrap();
            assert!(read == bytes, "step {step}");
        }
        assert!(content.read(bytes.len() as u64, &mut [0]).is_err());
    }

    #[test]
    fn a_power_loss_takes_what_was_not_synced() {
        let disk = disk_with(b"abc");
        let file = file_on(&disk);
        file.write_at(0, b"A").unwrap();
        file.sync().unwrap();
        file.write_at(1, b"B").unwrap();
        file.write_at(4, b"E").unwrap();
        assert_eq!(now(&disk, Keep::None).unwrap(), b"Abc");
        assert_eq!(now(&disk, Keep::All).unwrap(), b"ABc\0E");
        assert_eq!(now(&disk, Keep::Lose(0)).unwrap(), b"Abc\0E");
        assert_eq!(now(&disk, Keep::Only(0)).unwrap(), b"ABc");
        assert_eq!(now(&disk, Keep::Subset(0b10)).unwrap(), b"Abc\0E");
    }

    #[test]
    fn names_are_at_risk_until_their_directory_is_synced() {
        let disk = SimDisk::new();
        let file = disk.open(Path::new("/d/new"), OpenMode::Replace).unwrap();
        file.write_at(0, b"x").unwrap();
        file.sync().unwrap();
        disk.rename(Path::new("/d/new"), Path::new(PATH)).unwrap();
        assert_eq!(disk.bytes(PATH).unwrap(), b"x");
        assert_eq!(now(&disk, Keep::None), None);
        assert_eq!(disk.image(disk.operations(), Keep::Only(0)).paths(), [Path::new("/d/new")]);
        disk.sync_dir(Path::new(PATH)).unwrap();
        assert_eq!(now(&disk, Keep::None).unwrap(), b"x");
        disk.remove(Path::new(PATH)).unwrap();
        assert_eq!(disk.bytes(PATH), None);
        assert_eq!(now(&disk, Keep::None).unwrap(), b"x");
    }

    #[test]
    fn every_point_of_the_history_can_be_had_in_any_order() {
        let disk = disk_with(b"");
        let file = file_on(&disk);
        let start = disk.operations();
        for i in 0..200_u8 {
            file.write_at(0, &[i]).unwrap();
            file.sync().unwrap();
        }
        for i in (0..200_u8).chain((0..200).rev()) {
            let after_write = start + 2 * usize::from(i) + 1;
            assert_eq!(disk.image(after_write, Keep::All).bytes(PATH).unwrap(), [i]);
            assert_eq!(disk.image(after_write + 1, Keep::None).bytes(PATH).unwrap(), [i]);
        }
    }

    #[test]
    fn few_unsynced_changes_give_every_subset() {
        let disk = disk_with(b"....");
        let file = file_on(&disk);
        for i in 0..4_u8 {
            file.write_at(u64::from(i), b"x").unwrap();
        }
        assert_eq!(disk.unsynced(disk.operations()), 4);
        let seen: std::collections::BTreeSet<_> =
            disk.images(disk.operations(), 1).filter_map(|(_, image)| image.bytes(PATH)).collect();
        assert_eq!(seen.len(), 16);
        file.write_at(0, b"y").unwrap();
        assert!(disk.images(disk.operations(), 1).count() > 16, "a choice of those of five");
    }

    #[test]
    fn a_torn_write_keeps_whole_sectors_of_the_last_write() {
        let disk = disk_with(&[0; 4096]);
        file_on(&disk).write_at(500, &[1; 2000]).unwrap();
        let mut shapes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let bytes = now(&disk, Keep::Torn(seed)).unwrap();
            let edges = (1..4096).filter(|&i| bytes[i - 1] != bytes[i]);
            assert!(edges.clone().all(|i| i % 512 == 0 || i == 500 || i == 2500));
            shapes.insert(bytes);
        }
        assert!(shapes.len() > 10);
    }

    #[test]
    fn a_failed_sync_forgets_what_reads_show_until_memory_is_needed() {
        let disk = disk_with(&[0; 8192]);
        let file = file_on(&disk);
        file.write_at(0, b"lost").unwrap();
        disk.fail(failing(Op::Sync, 0, Repeat::Once));
        assert!(file.sync().is_err());
        file.write_at(4096, b"kept").unwrap();
        file.sync().unwrap();
        let durable = now(&disk, Keep::All).unwrap();
        assert_eq!((&durable[..4], &durable[4096..4100]), (&[0; 4][..], &b"kept"[..]));
        assert_eq!(&disk.bytes(PATH).unwrap()[..4], b"lost");
        file.write_at(4100, b"dirty").unwrap();
        disk.evict(None);
        let seen = disk.bytes(PATH).unwrap();
        assert_eq!((&seen[..4], &seen[4096..4105]), (&[0; 4][..], &b"keptdirty"[..]));
    }

    #[test]
    fn a_failed_sync_with_a_seed_writes_a_half() {
        let disk = disk_with(&[0; 100]);
        let file = file_on(&disk);
        disk.set_failed_sync_seed(Some(3));
        disk.fail(failing(Op::Sync, 0, Repeat::FromNowOn));
        for i in 0..100 {
            file.write_at(i, b"x").unwrap();
        }
        assert!(file.sync().is_err() && file.sync().is_err());
        let written = now(&disk, Keep::None).unwrap().iter().filter(|byte| **byte == b'x').count();
        assert!((20..80).contains(&written), "{written}");
    }

    #[test]
    fn faults_hit_the_call_they_were_set_for() {
        let disk = disk_with(b"0123");
        let file = file_on(&disk);
        disk.fail(failing(Op::Write, 1, Repeat::Once));
        file.write_at(0, b"a").unwrap();
        assert!(file.write_at(1, b"b").is_err());
        file.write_at(2, b"c").unwrap();
        disk.fail(failing(Op::ShortWrite, 0, Repeat::FromNowOn));
        assert!(file.write_at(0, b"ZZZZ").is_err());
        assert_eq!(disk.bytes(PATH).unwrap(), b"ZZc3");
        disk.clear_faults();
        disk.fail(Fault { path_contains: Some("other".into()), ..failing(Op::Read, 0, Repeat::FromNowOn) });
        file.read_at(0, &mut [0; 4]).unwrap();
        for op in [Op::Open, Op::SetLen, Op::Rename, Op::Remove, Op::SyncDir] {
            disk.fail(failing(op, 0, Repeat::FromNowOn));
        }
        let path = Path::new(PATH);
        assert!(disk.open(path, OpenMode::Existing).is_err() && file.set_len(0).is_err());
        assert!(disk.rename(path, path).is_err() && disk.remove(path).is_err() && disk.sync_dir(path).is_err());
        assert_eq!((disk.calls(Op::Write, "file"), disk.calls(Op::Write, "other")), (4, 0));
        assert_eq!(disk.bytes(PATH).unwrap(), b"ZZc3");
    }

    #[test]
    fn a_call_panics_once_when_it_is_told_to() {
        let disk = SimDisk::new();
        let file = file_on(&disk);
        disk.panic_at(Op::Write, "");
        file.sync().unwrap();
        let write = || file.write_at(0, b"x");
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(write)).is_err());
        assert_eq!(file.len().unwrap(), 0);
        write().unwrap();
    }

    #[test]
    fn a_call_ends_a_wait_for_it() {
        let disk = SimDisk::new();
        let file = file_on(&disk);
        file.sync().unwrap();
        let waiting = disk.clone();
        let waiter = std::thread::spawn(move || {
            waiting.wait_for_calls_behind(0, Op::Sync, "");
            waiting.wait_for_calls_behind(1, Op::Sync, "");
            waiting.calls(Op::Sync, "")
        });
        file.sync().unwrap();
        assert_eq!(waiter.join().unwrap(), 2);
    }

    #[test]
    fn a_full_disk_takes_no_new_page() {
        let disk = SimDisk::new();
        disk.set_capacity(Some(2 * PAGE));
        let file = file_on(&disk);
        file.set_len(100 * PAGE).unwrap();
        file.write_at(PAGE, &[1; 4096]).unwrap();
        let error = file.write_at(0, &[1; 4 * 4096]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        file.write_at(0, &[2; 8192]).unwrap();
        assert_eq!(disk.used(), 2 * PAGE);
        assert!(file.write_at(50 * PAGE, b"x").is_err());
        file.set_len(PAGE).unwrap();
        file.write_at(50 * PAGE, b"x").unwrap();
        disk.remove(Path::new(PATH)).unwrap();
        assert_eq!(disk.used(), 0);
    }

    #[test]
    fn a_lock_lives_as_long_as_its_handle() {
        let disk = disk_with(b"");
        let (first, second) = (file_on(&disk), file_on(&disk));
        assert!(first.try_lock().unwrap() && first.try_lock().unwrap());
        assert!(!second.try_lock().unwrap());
        assert!(file_on(&disk.reboot()).try_lock().unwrap() && file_on(&disk.after_kill()).try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    }

    #[test]
    fn a_kill_loses_nothing_and_syncs_nothing() {
        let disk = disk_with(b"a");
        file_on(&disk).write_at(0, b"b").unwrap();
        let killed = disk.after_kill();
        assert_eq!(killed.bytes(PATH).unwrap(), b"b");
        assert_eq!(now(&killed, Keep::None).unwrap(), b"a");
        assert_eq!(now(&disk.reboot(), Keep::None).unwrap(), b"b");
    }

    #[test]
    fn a_cut_is_at_risk_like_a_write() {
        let disk = disk_with(&[7; 10_000]);
        let file = disk.open(Path::new(PATH), OpenMode::Replace).unwrap();
        file.write_at(9_000, b"x").unwrap();
        assert_eq!(now(&disk, Keep::None).unwrap(), [7; 10_000]);
        disk.evict(None);
        assert_eq!(disk.bytes(PATH).unwrap()[..9_000], [0; 9_000]);
        file.sync().unwrap();
        assert_eq!(now(&disk, Keep::None), disk.bytes(PATH));
    }
}
