//! What is on the simulated disk, what memory holds over it, and what a power loss makes of both. Pure: the same
//! operations give the same world.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::content::{Content, PAGE, pages_of};

/// What a disk writes whole or not at all.
const SECTOR: u64 = 512;

pub(crate) type FileId = u64;

/// One change that a power loss may take until it is synced.
#[derive(Clone)]
pub(crate) enum Change {
    Create { path: Arc<Path>, file: FileId },
    Rename { from: Arc<Path>, to: Arc<Path>, file: FileId },
    Remove { path: Arc<Path> },
    Write { file: FileId, offset: u64, bytes: Arc<[u8]> },
    SetLen { file: FileId, len: u64 },
}

impl Change {
    /// The file whose content changes; `None` for a change of names.
    fn content_of(&self) -> Option<FileId> {
        match self {
            Change::Write { file, .. } | Change::SetLen { file, .. } => Some(*file),
            Change::Create { .. } | Change::Rename { .. } | Change::Remove { .. } => None,
        }
    }

    /// Whether it is a change of a name in this directory.
    fn is_in(&self, directory: Option<&Path>) -> bool {
        match self {
            Change::Create { path, .. } | Change::Rename { to: path, .. } | Change::Remove { path } => {
                path.parent() == directory
            }
            Change::Write { .. } | Change::SetLen { .. } => false,
        }
    }
}

/// One step of the total order.
#[derive(Clone)]
pub(crate) enum Operation {
    Change(Change),
    Sync(FileId),
    /// The file's unsynced changes become clean without being written; with a seed, a random half of them is written.
    FailedSync(FileId, Option<u64>),
    /// Syncs the directory that holds this path.
    SyncDir(Arc<Path>),
    /// Memory is needed for something else: clean pages are read from the disk again; with a seed, a random half of them.
    Evict(Option<u64>),
}

/// Which of the unsynced changes a power loss leaves, by their index in the order in which they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    None,
    All,
    /// All but this one.
    Lose(usize),
    /// Nothing but this one.
    Only(usize),
    /// Those whose bit is set.
    Subset(u64),
    /// A random half, a quarter of them torn.
    Random(u64),
    /// All, but the last write is torn.
    Torn(u64),
}

/// What becomes of one unsynced change.
enum Fate {
    Lost,
    Whole,
    /// A write of which some sectors arrive.
    Torn(u64),
}

#[derive(Clone, Default)]
struct File {
    visible: Content,
    durable: Content,
}

/// Files and names, as a process sees them and as they are on the disk.
#[derive(Clone, Default)]
pub(crate) struct World {
    names: BTreeMap<Arc<Path>, FileId>,
    durable_names: BTreeMap<Arc<Path>, FileId>,
    files: BTreeMap<FileId, File>,
    /// What is visible and not durable, in the order in which it was made.
    unsynced: Vec<Change>,
}

impl World {
    pub(crate) fn file(&self, path: &Path) -> Option<FileId> {
        self.names.get(path).copied()
    }

    /// The present name of a file.
    pub(crate) fn name(&self, file: FileId) -> Option<Arc<Path>> {
        self.names.iter().find(|(_, named)| **named == file).map(|(path, _)| Arc::clone(path))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Path> {
        self.names.keys().map(AsRef::as_ref)
    }

    /// A number that no file has had.
    pub(crate) fn next_file(&self) -> FileId {
        self.files.last_key_value().map_or(0, |(file, _)| file + 1)
    }

    /// What a process reads.
    pub(crate) fn visible(&self, file: FileId) -> Content {
        self.files.get(&file).map(|file| file.visible.clone()).unwrap_or_default()
    }

    /// Bytes of the pages that named files take.
    pub(crate) fn used(&self) -> u64 {
        self.names.values().filter_map(|file| self.files.get(file)).map(|file| file.visible.page_count() * PAGE).sum()
    }

    pub(crate) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    pub(crate) fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Change(change) => {
                self.see(change);
                self.unsynced.push(change.clone());
            }
            Operation::Sync(file) => self.sync(*file),
            Operation::FailedSync(file, seed) => self.fail_sync(*file, *seed),
            Operation::SyncDir(path) => {
                let directory = path.parent();
                for change in self.take_unsynced(|change| change.is_in(directory)) {
                    self.persist(&change);
                }
            }
            Operation::Evict(seed) => self.evict(*seed),
        }
    }

    /// The world after a power loss: durable is what was, and what `keep` leaves of the rest.
    pub(crate) fn after_power_loss(&self, keep: Keep) -> World {
        let mut world = World {
            durable_names: self.durable_names.clone(),
            files: self
                .files
                .iter()
                .map(|(id, file)| (*id, File { visible: Content::default(), ..file.clone() }))
                .collect(),
            ..World::default()
        };
        for (change, fate) in self.unsynced.iter().zip(self.fates(keep)) {
            match fate {
                Fate::Lost => {}
                Fate::Whole => world.persist(change),
                Fate::Torn(seed) => world.persist_torn(change, seed),
            }
        }
        world.names = world.durable_names.clone();
        let named: BTreeSet<FileId> = world.names.values().copied().collect();
        world.files.retain(|id, _| named.contains(id));
        for file in world.files.values_mut() {
            file.visible = file.durable.clone();
        }
        world
    }

    fn fates(&self, keep: Keep) -> Vec<Fate> {
        let mut random = Random::new(match keep {
            Keep::Random(seed) | Keep::Torn(seed) => seed,
            _ => 0,
        });
        let last_write = self.unsynced.iter().rposition(|change| matches!(change, Change::Write { .. }));
        let kept = |kept: bool| if kept { Fate::Whole } else { Fate::Lost };
        let mut fate = |i: usize| match keep {
            Keep::None => Fate::Lost,
            Keep::All => Fate::Whole,
            Keep::Lose(lost) => kept(i != lost),
            Keep::Only(only) => kept(i == only),
            Keep::Subset(bits) => kept(u32::try_from(i).is_ok_and(|i| bits.checked_shr(i).unwrap_or(0) & 1 == 1)),
            Keep::Random(_) => match random.below(8) {
                0..4 => Fate::Lost,
                4..7 => Fate::Whole,
                _ => Fate::Torn(random.next()),
            },
            Keep::Torn(_) if Some(i) == last_write => Fate::Torn(random.next()),
            Keep::Torn(_) => Fate::Whole,
        };
        (0..self.unsynced.len()).map(&mut fate).collect()
    }

    /// Makes a change visible.
    fn see(&mut self, change: &Change) {
        name(&mut self.names, change);
        match change {
            Change::Create { file, .. } => {
                self.files.entry(*file).or_default();
            }
            Change::Write { file, offset, bytes } => {
                self.files.entry(*file).or_default().visible.write(*offset, bytes);
            }
            Change::SetLen { file, len } => self.files.entry(*file).or_default().visible.set_len(*len),
            Change::Rename { .. } | Change::Remove { .. } => {}
        }
    }

    /// Makes a change durable.
    fn persist(&mut self, change: &Change) {
        name(&mut self.durable_names, change);
        match change {
            Change::Write { file, offset, bytes } => {
                self.files.entry(*file).or_default().durable.write(*offset, bytes);
            }
            Change::SetLen { file, len } => self.files.entry(*file).or_default().durable.set_len(*len),
            Change::Create { .. } | Change::Rename { .. } | Change::Remove { .. } => {}
        }
    }

    /// Makes some sectors of a write durable: its front, its back, or any.
    fn persist_torn(&mut self, change: &Change, seed: u64) {
        let Change::Write { file, offset, bytes } = change else { return self.persist(change) };
        let mut random = Random::new(seed);
        let (shape, cut) = (random.below(3), random.below(sectors(*offset, bytes).count() as u64 + 1));
        let durable = &mut self.files.entry(*file).or_default().durable;
        for (i, (at, sector)) in (0..).zip(sectors(*offset, bytes)) {
            let arrives = match shape {
                0 => i < cut,
                1 => i >= cut,
                _ => random.below(2) == 0,
            };
            if arrives {
                durable.write(at, sector);
            }
        }
    }

    /// A page is written back whole, also the bytes of it that an earlier sync failed to write.
    fn sync(&mut self, id: FileId) {
        let changes = self.take_unsynced(|change| change.content_of() == Some(id));
        let Some(file) = self.files.get_mut(&id) else { return };
        for change in &changes {
            if let Change::SetLen { len, .. } = change {
                file.durable.set_len(*len);
            }
        }
        file.durable.set_len(file.visible.len());
        for page in dirty_pages(file, &changes) {
            file.durable.adopt(&file.visible, page);
        }
    }

    fn fail_sync(&mut self, id: FileId, seed: Option<u64>) {
        let changes = self.take_unsynced(|change| change.content_of() == Some(id));
        let Some(seed) = seed else { return };
        let mut random = Random::new(seed);
        for change in changes.iter().filter(|_| random.below(2) == 0) {
            self.persist(change);
        }
    }

    fn evict(&mut self, seed: Option<u64>) {
        let mut random = seed.map(Random::new);
        for (id, file) in &mut self.files {
            let of_file = |change: &&Change| change.content_of() == Some(*id);
            let changes: Vec<_> = self.unsynced.iter().filter(of_file).cloned().collect();
            let dirty = dirty_pages(file, &changes);
            let pages: BTreeSet<u64> = file.visible.pages_from(0).chain(file.durable.pages_from(0)).collect();
            let mut read_anew = file.durable.clone();
            read_anew.set_len(file.visible.len());
            for page in pages {
                let evicted = random.as_mut().is_none_or(|random| random.below(2) == 0);
                if !evicted || dirty.contains(&page) {
                    read_anew.adopt(&file.visible, page);
                }
            }
            file.visible = read_anew;
        }
    }

    fn take_unsynced(&mut self, which: impl Fn(&Change) -> bool) -> Vec<Change> {
        let (taken, rest) = std::mem::take(&mut self.unsynced).into_iter().partition(which);
        self.unsynced = rest;
        taken
    }
}

/// Makes a change of names in one view of the directory. A rename needs no earlier change to have arrived.
fn name(names: &mut BTreeMap<Arc<Path>, FileId>, change: &Change) {
    match change {
        Change::Create { path, file } => drop(names.insert(Arc::clone(path), *file)),
        Change::Rename { from, to, file } => {
            names.remove(from);
            names.insert(Arc::clone(to), *file);
        }
        Change::Remove { path } => drop(names.remove(path)),
        Change::Write { .. } | Change::SetLen { .. } => {}
    }
}

/// The pages that unsynced changes of a file's content touch.
fn dirty_pages(file: &File, changes: &[Change]) -> BTreeSet<u64> {
    let mut dirty = BTreeSet::new();
    for change in changes {
        match change {
            Change::Write { offset, bytes, .. } => dirty.extend(pages_of(*offset, bytes.len()).map(|(page, _)| page)),
            Change::SetLen { len, .. } => {
                dirty.extend(file.visible.pages_from(*len));
                dirty.extend(file.durable.pages_from(*len));
            }
            Change::Create { .. } | Change::Rename { .. } | Change::Remove { .. } => {}
        }
    }
    dirty
}

/// Cuts a write at the sector boundaries of the file.
fn sectors(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let (mut at, mut rest) = (offset, bytes);
    std::iter::from_fn(move || {
        let room = usize::try_from(SECTOR - at % SECTOR).unwrap_or(usize::MAX).min(rest.len());
        let (sector, behind) = rest.split_at(room);
        let start = at;
        at += sector.len() as u64;
        rest = behind;
        (!sector.is_empty()).then_some((start, sector))
    })
}

/// SplitMix64: the same seed, the same numbers.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
