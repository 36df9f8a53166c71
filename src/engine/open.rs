//! Opening, recovering and closing.
//!
//! Between sessions the store holds everything and the journal is gone; its session row says `Closed`. Opening goes:
//!
//! 1. Is there no store, create one: take the lock on the journal's file, make the store under another name, rename it into
//!    place, sync the directory. A crash before the rename leaves files that the next opener recognises and replaces.
//! 2. Open the store: this takes its lock. Nothing of the journal was read or written before. If the store was not closed,
//!    its root and redb's header are written again and synced first: after a failed sync, memory may show what the disk
//!    does not have.
//! 3. Does the session row say `Open`, recover: replay the journal's frames from the row's mark on, and bring them into the
//!    store together with a row that says `Closed`. **That commit is the commit point of recovery**; nobody has read a
//!    record before it. A crash before it repeats the recovery; after it, the journal is not needed any more. So it does
//!    not matter that memory may hold frames which a failed sync kept from the disk: the commit makes them durable.
//! 4. Start a session: create the journal, or take the one that is still there, under a salt never used before; then
//!    commit the row `Open` with its first mark. **That commit is the commit point of the session**; no record is acknowledged before it.
//!
//! Closing runs a last checkpoint whose row says `Closed`, closes the store and removes the journal.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::background::Bell;
use super::cache::ChunkCache;
use super::checkpoint::Unapplied;
use super::clean::{Cleaner, Cleans, Garbage};
use super::commit::{Durable, LargeGroups, Writer};
use super::groups::Groups;
use super::health::Health;
use super::progress::Progress;
use super::room::Room;
use super::sequencer::Sequencer;
use super::topic::{Topic, config_of};
use super::topics::Alterations;
use super::topics::random_u128;
use super::turns::Turns;
use super::{Engine, Options};
use crate::codec::{Buffers, Entry, GroupChange, GroupChanges, GroupEntry, Mark, RecordBatch, decode_entries};
use crate::disk::{Disk, OpenMode};
use crate::error::{Error, Result};
use crate::journal::{self, Journal};
use crate::process::Process;
use crate::store::{Catalogue, FileLock, Purpose, Session, Store, StoreOptions, TopicRow, Update};
use crate::types::{LogId, Offset, StoreId, TopicNumber};

/// What to do about a file that exists, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum OpenHow {
    /// Open it, or create it.
    #[default]
    OpenOrCreate,
    /// It must not exist.
    CreateNew,
    /// It must exist.
    OpenExisting,
}

/// Room in the journal for more than `buffer_memory` lets in: the last frame's padding.
const JOURNAL_SLACK: usize = 64 << 10;

/// And a byte for each so many: the headers of further batches of a partition in one frame, of which any two that follow each
/// other are larger than a large buffer (256 KiB) together.
const BYTES_PER_HEADER_BYTE: usize = 1 << 10;

impl Engine {
    /// Opens the store at `path`, as the module says.
    pub(crate) fn open(disk: Arc<dyn Disk>, path: &Path, how: OpenHow, options: Options) -> Result<Self> {
        let files = Files { journal: beside(path, "-journal"), store: path.to_owned(), disk };
        files.ensure_store(how, &options)?;
        let store = Store::open(&files.disk, path, options.store_options())?;
        let mut catalogue = store.load()?;
        let sequence = match catalogue.session {
            Session::Closed { sequence } => sequence,
            Session::Open(mark) => {
                let sequence = recover(&files, &store, &catalogue, &mark)?;
                catalogue = store.load()?;
                sequence
            }
        };
        let journal = start_session(&files, &store, catalogue.id, sequence, &options)?;
        Engine::assemble(files.store, files.journal, store, &catalogue, Some(journal), options)
    }

    /// A broker that keeps everything in memory.
    pub(crate) fn in_memory(options: Options) -> Result<Self> {
        let store = Store::in_memory(StoreId(random_u128()?), options.store_options())?;
        let catalogue = store.load()?;
        let path = PathBuf::from(":memory:");
        Engine::assemble(path.clone(), path, store, &catalogue, None, options)
    }

    fn assemble(
        path: PathBuf,
        journal_path: PathBuf,
        store: Store,
        catalogue: &Catalogue,
        journal: Option<Journal>,
        options: Options,
    ) -> Result<Self> {
        let bounds: HashMap<LogId, (Offset, Offset)> =
            catalogue.partitions.iter().map(|(id, row)| (*id, (row.log_start, row.end))).collect();
        let bounds = |id| bounds.get(&id).copied().unwrap_or_default();
        let topics = catalogue.topics.iter().map(|row| Topic::load(row, bounds).map(Arc::new));
        let topics = topics.collect::<Result<Vec<_>>>()?;
        #[expect(clippy::cast_possible_truncation, reason = "64 of the 128 random bits are enough")]
        let random = random_u128()? as u64;
        let buffers = Buffers::new(options.buffer_memory / 2);
        let sequence = journal.as_ref().map_or(0, |journal| journal.end().sequence);
        let garbage = Garbage::of(catalogue);
        Ok(Self {
            path,
            journal_path,
            health: Health::default(),
            sequencer: Mutex::new(Sequencer::new(topics, catalogue.next_topic, buffers, random)),
            room: Room::new(options.buffer_memory),
            durable: Durable::new(sequence, journal.as_ref()),
            progress: Progress::new(Writer::new(journal)),
            unapplied: Mutex::new(Unapplied::new(options.checkpoint_bytes)),
            recycled: AtomicU64::new(0),
            store,
            cache: Mutex::new(ChunkCache::new(options.chunk_cache_size())),
            changing_store: Turns::default(),
            alterations: Alterations::default(),
            cleaner: Mutex::new(Cleaner::default()),
            cleans: Mutex::new(Cleans::new(&options, &garbage)),
            garbage: Mutex::new(garbage),
            storage_full: AtomicBool::new(false),
            probed_at: Mutex::new(None),
            synced_at: Mutex::new(Instant::now()),
            bell: Bell::new(),
            groups: Groups::default(),
            topics_version: AtomicU64::new(0),
            watchers: Mutex::new(Vec::new()),
            closed: AtomicBool::new(false),
            process: Process::current(),
            options,
        })
    }

    /// Commits what was sent, moves everything into the store and closes the files. Later calls do nothing.
    pub(crate) fn close(&self, disk: &dyn Disk, stop_background: impl FnOnce()) -> Result<()> {
        if std::mem::replace(&mut self.sequencer.lock().closed, true) {
            return Ok(());
        }
        let committed = self.commit_open_group(LargeGroups::ToStore);
        self.closed.store(true, Ordering::SeqCst);
        self.wake_watchers();
        stop_background();
        let in_store = committed.and_then(|()| self.checkpoint_and_close_session());
        // It is a convenience: the file is as good without it.
        let _ = in_store.is_ok().then(|| self.vacuum_at_close());
        // Whatever went wrong, the files are let go of; what is not in the store is in the journal.
        let closed = self.store.close();
        let journal = self.progress.lead().journal.take();
        in_store.and(closed)?;
        match journal {
            None => Ok(()),
            Some(journal) => {
                drop(journal);
                // The store does not need it any more; if it can't be removed, the next opener replaces it.
                let _ = disk.remove(&self.journal_path);
                Ok(())
            }
        }
    }
}

impl Options {
    /// Half of the cache holds the store's pages, the other half decoded chunks.
    fn store_options(&self) -> StoreOptions {
        StoreOptions { cache_size: self.cache_size / 2 }
    }

    fn chunk_cache_size(&self) -> usize {
        self.cache_size / 2
    }

    fn journal_capacity(&self) -> u64 {
        let headers = self.buffer_memory / BYTES_PER_HEADER_BYTE;
        (self.buffer_memory.saturating_add(JOURNAL_SLACK + headers) as u64).next_multiple_of(4096)
    }
}

/// The files of a broker, and where they live.
#[derive(Debug)]
struct Files {
    disk: Arc<dyn Disk>,
    store: PathBuf,
    journal: PathBuf,
}

impl Files {
    /// Step 1: makes sure that there is a store.
    fn ensure_store(&self, how: OpenHow, options: &Options) -> Result<()> {
        let exists = self.exists(&self.store)?;
        match how {
            OpenHow::CreateNew if exists => return Err(Error::AlreadyExists { path: self.store.clone() }),
            OpenHow::OpenExisting if !exists => return Err(Error::NotFound { path: self.store.clone() }),
            _ if exists => return Ok(()),
            _ => {}
        }
        let io = |operation| move |error| Error::io(operation, &self.journal, error);
        let journal = self.disk.open(&self.journal, OpenMode::OrCreate).map_err(io("create"))?;
        let Some(_lock) = FileLock::try_take(&journal).map_err(io("lock"))? else {
            return Err(Error::AlreadyOpen { path: self.store.clone() });
        };
        // Another creator may have come and gone between the first look and the lock.
        if self.exists(&self.store)? {
            return match how {
                OpenHow::CreateNew => Err(Error::AlreadyExists { path: self.store.clone() }),
                _ => Ok(()),
            };
        }
        if journal::holds_frames(&*self.disk, &self.journal)? {
            return Err(Error::StoreMissing { path: self.store.clone(), journal: self.journal.clone() });
        }
        Store::create(&self.disk, &self.store, StoreId(random_u128()?), options.store_options())
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.disk.exists(path).map_err(|error| Error::io("look for", path, error))
    }
}

/// How much of a partition is replayed before it goes into the store: what was just decoded is still in the processor's cache.
const REPLAYED_AT_ONCE: usize = 1 << 20;

/// Step 3: brings the journal's frames into the store, in one update. Gives the sequence number of the next frame.
fn recover(files: &Files, store: &Store, catalogue: &Catalogue, from: &Mark) -> Result<u64> {
    store.update(Purpose::Free, |update| {
        let mut replay = Replay::new(catalogue, &files.journal);
        let replayed = journal::replay(&*files.disk, &files.journal, catalogue.id, from, &mut |payload| {
            replay.apply(payload, update)
        })?;
        replay.finish(update)?;
        let sequence = replayed.end.sequence;
        update.set_session(Session::Closed { sequence })?;
        Ok(sequence)
    })
}

/// What was replayed and is not in the store yet.
#[derive(Debug)]
struct Replay<'a> {
    topics: HashMap<TopicNumber, &'a TopicRow>,
    next_topic: TopicNumber,
    journal: &'a Path,
    ends: HashMap<LogId, Offset>,
    /// Sorted, so that the store is written in order.
    batches: BTreeMap<LogId, Collected>,
    groups: GroupChanges,
}

/// Batches of a partition.
#[derive(Debug, Default)]
struct Collected {
    batches: Vec<RecordBatch>,
    bytes: usize,
}

impl<'a> Replay<'a> {
    fn new(catalogue: &'a Catalogue, journal: &'a Path) -> Self {
        let ends = catalogue.partitions.iter().map(|(id, row)| (*id, row.end)).collect();
        let topics = catalogue.topics.iter().map(|topic| (topic.number, topic)).collect();
        Self {
            topics,
            next_topic: catalogue.next_topic,
            journal,
            ends,
            batches: BTreeMap::new(),
            groups: GroupChanges::default(),
        }
    }

    fn apply(&mut self, payload: &[u8], update: &mut Update<'_>) -> Result<()> {
        for entry in decode_entries(payload).map_err(|error| self.damaged(error.0))? {
            match entry {
                Entry::Append(batch) => self.append(batch, update)?,
                Entry::Group(entry) => self.change_group(entry)?,
            }
        }
        Ok(())
    }

    fn append(&mut self, batch: RecordBatch, update: &mut Update<'_>) -> Result<()> {
        let id = batch.header.log;
        let Some(topic) = self.topics.get(&id.topic).copied() else {
            // Deleted since: what was appended went with it.
            return self.check_existed(id, "appends to");
        };
        let base = batch.header.base_offset;
        let end = self.ends.get(&id).copied().unwrap_or_default();
        if base != end {
            return Err(self.damaged(&format!("it appends at offset {base} of {id}, which ends at {end}")));
        }
        self.ends.insert(id, batch.header.last_offset.next());
        let collected = self.batches.entry(id).or_default();
        collected.bytes += batch.size();
        collected.batches.push(batch);
        if collected.bytes >= REPLAYED_AT_ONCE { std::mem::take(collected).store(update, id, topic) } else { Ok(()) }
    }

    fn change_group(&mut self, entry: GroupEntry) -> Result<()> {
        // The store leaves out the offsets of topics that are gone.
        if let GroupChange::Offset { log, .. } = &entry.change {
            self.check_existed(*log, "commits an offset of")?;
        }
        self.groups.add(entry);
        Ok(())
    }

    /// Numbers are never used again: a topic below the next one existed when the entry was written.
    fn check_existed(&self, id: LogId, does: &str) -> Result<()> {
        if id.topic < self.next_topic {
            return Ok(());
        }
        Err(self.damaged(&format!("it {does} {id}, which never existed")))
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::corrupt(format!("a frame of {}", self.journal.display()), reason)
    }

    /// Stores the rest.
    fn finish(self, update: &mut Update<'_>) -> Result<()> {
        for (id, collected) in self.batches {
            if let Some(topic) = self.topics.get(&id.topic) {
                collected.store(update, id, topic)?;
            }
        }
        update.apply_group_changes(&self.groups)
    }
}

impl Collected {
    fn store(self, update: &mut Update<'_>, id: LogId, topic: &TopicRow) -> Result<()> {
        update.append(id, topic.id, config_of(topic)?.layout(), self.batches.iter())
    }
}

/// Step 4: the journal, then the session row.
fn start_session(files: &Files, store: &Store, id: StoreId, sequence: u64, options: &Options) -> Result<Journal> {
    #[expect(clippy::cast_possible_truncation, reason = "64 of the 128 random bits are enough")]
    let salt = random_u128()? as u64;
    let mark = Mark { salt, sequence, position: 0, chain: 0 };
    let capacity = options.journal_capacity();
    let create = || Journal::create(&*files.disk, &files.journal, id, capacity, mark);
    let journal = match Journal::reuse(&*files.disk, &files.journal, id, capacity, mark) {
        Some(journal) => journal,
        None => match create() {
            // Only an open store can delete and so make room. It says that it needs no journal: an old one may go for the new.
            Err(Error::StorageFull { .. }) => {
                let _ = files.disk.remove(&files.journal);
                store.release_ballast();
                create()?
            }
            created => created?,
        },
    };
    store.update(Purpose::Free, |update| update.set_session(Session::Open(mark)))?;
    Ok(journal)
}

/// `app.brooklet` and `-journal` make `app.brooklet-journal`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
