//! The broker: what an application opens, and how.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Time};
use crate::config::Durability;
use crate::consumer::ConsumerBuilder;
use crate::disk::{Disk, OsDisk};
use crate::engine::{Background, Engine, OpenHow, Options, check_not_in_clock, in_callback, records_within};
use crate::error::{Error, Result};
use crate::inspect::{CleanReport, VacuumReport};
use crate::producer::{Producer, ProducerBuilder};
use crate::types::MAX_PARTITIONS;

/// Topics and partitions in one file, without a server.
///
/// A broker is cheap to clone, and can be used from any thread. Producers and consumers keep it open.
///
/// ```
/// use brooklet::{Broker, NewTopic, OffsetReset, ProducerRecord, TopicPartition};
/// use std::time::Duration;
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("app.brooklet");
///
/// let broker = Broker::open(&path)?;
/// broker.create_topic(NewTopic::new("orders", 3))?;
/// let metadata = broker.producer().send(ProducerRecord::to("orders").key("c-42").value("3 apples"))?.wait()?;
///
/// let partition = TopicPartition::new("orders", metadata.partition());
/// let mut consumer = broker.consumer().offset_reset(OffsetReset::Earliest).assign([partition])?;
/// let records = consumer.poll(Duration::from_millis(100))?;
/// assert_eq!(records.iter().next().unwrap().value(), Some(&b"3 apples"[..]));
/// # Ok::<(), brooklet::Error>(())
/// ```
///
/// # Which files does it make?
///
/// `app.brooklet` is the store. While the broker is open, and after a crash, `app.brooklet-journal` holds what the store does
/// not have yet: the two belong together. `app.brooklet-reserve` keeps 1 MiB of room so that a full disk can be cleaned up; it
/// may be deleted while the broker is closed. After [`close`](Broker::close), the store alone has everything.
///
/// # How many may open it?
///
/// One broker at a time; another one, in this process or any other, gets [`Error::AlreadyOpen`] at once. Share the broker
/// between threads by cloning it. A process forked from the one that opened it gets [`Error::Forked`] for
/// whatever would change the file.
///
/// # When does it close?
///
/// With [`close`](Broker::close), or when its last handle goes: every clone, producer and consumer is one. A process that
/// ends without either loses nothing that was acknowledged.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<Engine>,
    disk: Arc<dyn Disk>,
    background: Mutex<Option<Background>>,
}

impl Broker {
    /// Opens the store at `path` with default options, and creates it when it is not there.
    ///
    /// # Errors
    ///
    /// As [`Builder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Broker::builder().open(path)
    }

    /// A broker that keeps everything in memory and loses it when it closes: for tests.
    ///
    /// # Errors
    ///
    /// As [`Builder::in_memory`].
    pub fn in_memory() -> Result<Self> {
        Broker::builder().in_memory()
    }

    /// Options first.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A producer with default options.
    pub fn producer(&self) -> Producer {
        self.producer_builder().build()
    }

    /// Options of a producer.
    pub fn producer_builder(&self) -> ProducerBuilder {
        ProducerBuilder::new(self.clone())
    }

    /// Options of a consumer.
    pub fn consumer(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone())
    }

    /// Makes everything acknowledged so far durable. In `Sync` mode it is already.
    ///
    /// Blocks for at most one sync under way and one of its own.
    ///
    /// # Errors
    ///
    /// [`Error::DurabilityUnknown`] when the sync fails; the broker then stops.
    pub fn sync(&self) -> Result<()> {
        self.engine().check_open()?;
        self.engine().sync_journal()
    }

    /// Does what the background thread would do: commits what was sent, syncs what is buffered, runs checkpoints and a clean if
    /// they are due. For brokers built with [`background(false)`](Builder::background); harmless otherwise.
    ///
    /// # Errors
    ///
    /// [`Error::StorageFull`] when a checkpoint found no room; the others as [`Delivery::wait`](crate::Delivery::wait).
    pub fn maintain(&self) -> Result<()> {
        self.engine().maintain()
    }

    /// Deletes what is beyond the limits of its topic and of the broker, and frees the space of earlier deletions. The background
    /// thread does it every [`clean_interval`](Builder::clean_interval).
    ///
    /// # When does it end?
    ///
    /// When everything is done, or when the `budget` of time is used up, behind the step under way; a step frees about 8 MB.
    /// The next call goes on where this one was. [`Duration::MAX`] does everything at once, zero one step.
    ///
    /// # Who waits for it?
    ///
    /// Checkpoints and changes of topics wait for one step at most, readers and senders for none. Records already read stay
    /// valid; a consumer whose position is deleted starts over where its [`OffsetReset`](crate::OffsetReset) says (C-22).
    ///
    /// When the disk was full, it ends with a [`vacuum`](Broker::vacuum) of a small file, and with storing what waited for room.
    ///
    /// # What does a crash leave?
    ///
    /// Whole segments are deleted or not at all. Space that was not freed yet is freed after the next opening.
    ///
    /// # What does damage leave?
    ///
    /// What can't be freed, because a page of the file was damaged, keeps its space, and everything else is cleaned. Then each call
    /// ends with [`Error::Corrupt`]; the background thread tries it once after each opening. Only a whole copy of the file gives the
    /// space back.
    ///
    /// ```
    /// use brooklet::{Broker, ManualClock, NewTopic, ProducerRecord, TopicConfig};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new(1_700_000_000_000);
    /// let broker = Broker::builder().clock(clock.clone()).in_memory()?;
    /// let day = Duration::from_secs(86_400);
    /// broker.create_topic(NewTopic::new("readings", 1).config(TopicConfig::default().retention(Some(day))))?;
    /// broker.producer().send(ProducerRecord::to("readings").value("21.5"))?.wait()?;
    /// assert_eq!(broker.clean(Duration::MAX)?.segments, 0);
    /// clock.advance(2 * day);
    /// assert_eq!(broker.clean(Duration::MAX)?.records, 1);
    /// # Ok::<(), brooklet::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::StorageFull`] when not even a deletion finds room; [`Error::ReopenRequired`], [`Error::Closed`], [`Error::Corrupt`],
    /// [`Error::IllegalState`] within a callback of a send.
    pub fn clean(&self, budget: Duration) -> Result<CleanReport> {
        self.engine().clean(budget)
    }

    /// Gives the free space of the file back to the disk: cleaning and deleting leave room that is used again, and a file that does
    /// not shrink.
    ///
    /// # How long does it take, and who waits?
    ///
    /// It moves what lies behind free space to the front: seconds for each GB that stays. Meanwhile nothing goes from the journal into
    /// the store and nothing is read from it: consumers at the head go on, those further back wait; sends go on until
    /// [`buffer_memory`](Builder::buffer_memory) is full. No consumer loses its position. By itself it runs when
    /// [`vacuum_at_close`](Builder::vacuum_at_close) says so, and behind a clean on a full disk, if the file is not longer than 256 MiB
    /// and an eighth of it is unused.
    ///
    /// # What does a crash leave?
    ///
    /// The file is whole at any moment. After a crash on the way, the next opening reads all of it to find what is free: seconds for
    /// each GB.
    ///
    /// ```
    /// use brooklet::Broker;
    ///
    /// let broker = Broker::in_memory()?;
    /// let report = broker.vacuum()?;
    /// assert!(report.bytes_after <= report.bytes_before);
    /// # Ok::<(), brooklet::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::StorageFull`] when there is no room to move anything; [`Error::ReopenRequired`], [`Error::Io`], [`Error::Corrupt`],
    /// [`Error::Closed`], [`Error::IllegalState`] within a callback of a send.
    pub fn vacuum(&self) -> Result<VacuumReport> {
        self.engine().vacuum()
    }

    /// Commits what was sent, moves everything into the store, ends the background thread and closes the files.
    ///
    /// Other handles then get [`Error::Closed`]; sleeping consumers wake up with it. Closing again does nothing. Dropping the
    /// last handle does the same and ignores errors.
    ///
    /// # Errors
    ///
    /// [`Error::StorageFull`] or [`Error::ReopenRequired`] when not everything could be moved into the store. Nothing
    /// acknowledged is lost: it is in the journal, and the next open brings it in.
    pub fn close(&self) -> Result<()> {
        check_not_in_clock()?;
        if in_callback() {
            return Err(Error::illegal_state("a callback of a send can't close the broker: do it in another thread"));
        }
        self.inner.close()
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.inner.engine
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("path", &self.inner.engine.path()).finish_non_exhaustive()
    }
}

impl Inner {
    fn close(&self) -> Result<()> {
        if self.engine.is_forked() {
            return Err(Error::Forked);
        }
        close(&self.engine, &*self.disk, self.background.lock().take())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let background = self.background.get_mut().take();
        if self.engine.is_forked() {
            // The thread is the parent's: there is nobody here to wait for.
            std::mem::forget(background);
            return;
        }
        if !in_callback() {
            let _ = close(&self.engine, &*self.disk, background);
            return;
        }
        // The commit that runs the callback has to end before the broker can close.
        let (engine, disk) = (Arc::clone(&self.engine), Arc::clone(&self.disk));
        let _ = std::thread::Builder::new()
            .name("brooklet-close".to_owned())
            .spawn(move || close(&engine, &*disk, background));
    }
}

fn close(engine: &Engine, disk: &dyn Disk, background: Option<Background>) -> Result<()> {
    let stop = || background.into_iter().for_each(|background| background.stop(engine));
    engine.close(disk, stop)
}

/// Options of a broker.
///
/// ```
/// use brooklet::{Broker, Durability};
/// use std::time::Duration;
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("app.brooklet");
///
/// let broker = Broker::builder()
///     .durability(Durability::Buffered { flush_interval: Duration::from_millis(100) })
///     .buffer_memory(8 << 20)
///     .create_new()
///     .open(&path)?;
/// # Ok::<(), brooklet::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    options: Options,
    how: OpenHow,
    background: bool,
    disk: Arc<dyn Disk>,
}

impl Default for Builder {
    fn default() -> Self {
        let options = Options {
            durability: Durability::default(),
            cache_size: 4 << 20,
            buffer_memory: 32 << 20,
            checkpoint_bytes: 8 << 20,
            checkpoint_interval: Duration::from_secs(10),
            max_block: Duration::from_secs(60),
            linger: Duration::from_millis(5),
            auto_create_topics: None,
            clean_interval: Some(Duration::from_secs(300)),
            max_bytes: None,
            clean_step: CLEAN_STEP,
            vacuum_at_close: None,
            compaction_records: records_within(COMPACTION_MEMORY),
            offsets_retention: None,
            clock: Time::System,
        };
        Self { options, how: OpenHow::default(), background: true, disk: Arc::new(OsDisk) }
    }
}

/// The default of `compaction_memory`, in bytes: four million records at once.
const COMPACTION_MEMORY: usize = 128 << 20;

/// Chunks that a step of a clean frees: some 8 MB of records.
const CLEAN_STEP: usize = 256;

/// The least `buffer_memory`, in bytes: room for one small record.
const MIN_BUFFER_MEMORY: usize = 1 << 10;

/// The most `buffer_memory`, in bytes.
const MAX_BUFFER_MEMORY: usize = 512 << 20;

impl Builder {
    /// When a record counts as acknowledged; default [`Durability::Sync`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.options.durability = durability;
        self
    }

    /// Bytes of memory for what was read from the store lately; default 4 MiB. The operating system caches the file too, and
    /// a cache that fits the processor's makes scans faster: raise it where many consumers read the same older records.
    /// Beside it, checksums of the file's pages take a thousandth of what is read of the file, some 4 MiB at most.
    pub fn cache_size(mut self, bytes: usize) -> Self {
        self.options.cache_size = bytes;
        self
    }

    /// Bytes that records may take from `send` until they are in the store; default 32 MiB, 1 KiB to 512 MiB. The journal is as
    /// large. A `send` that finds no room commits and checkpoints first, for at most [`max_block`](Builder::max_block)
    /// (Kafka's `buffer.memory`).
    pub fn buffer_memory(mut self, bytes: usize) -> Self {
        self.options.buffer_memory = bytes;
        self
    }

    /// Bytes of records after which they are moved from the journal into the store; default 8 MiB. So much is moved at a time:
    /// less lets a `send` that finds no room wait less, and costs more syncs.
    pub fn checkpoint_bytes(mut self, bytes: usize) -> Self {
        self.options.checkpoint_bytes = bytes;
        self
    }

    /// How long records may wait to be moved into the store; default 10 s.
    pub fn checkpoint_interval(mut self, interval: Duration) -> Self {
        self.options.checkpoint_interval = interval;
        self
    }

    /// How long a `send` waits for room; default 60 s, zero fails at once (Kafka's `max.block.ms`).
    pub fn max_block(mut self, time: Duration) -> Self {
        self.options.max_block = time;
        self
    }

    /// How long a record that nobody waits for may wait for others to be committed with; default 5 ms, as in Kafka 4
    /// (`linger.ms`). Waiting for a delivery, or flushing, commits at once.
    pub fn linger(mut self, time: Duration) -> Self {
        self.options.linger = time;
        self
    }

    /// Creates a topic with this many partitions when a record is sent to one that does not exist; off by default (Kafka's
    /// `auto.create.topics.enable`).
    pub fn auto_create_topics(mut self, partitions: u32) -> Self {
        self.options.auto_create_topics = Some(partitions);
        self
    }

    /// How often the background thread [cleans](Broker::clean); default 5 minutes, as in Kafka
    /// (`log.retention.check.interval.ms`). It does so too after every 16 MiB that come into the store, and when the disk is
    /// full. `None`, or zero: never; call [`Broker::clean`].
    pub fn clean_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.options.clean_interval = interval.into().filter(|interval| !interval.is_zero());
        self
    }

    /// How many bytes all topics may have together; by default there is no limit.
    ///
    /// When there are more, a clean deletes the oldest segments, of whatever topic: of the oldest segment of each partition, the
    /// one whose youngest record is the oldest goes first, until the rest fits. Topics whose `cleanup.policy` does not say
    /// `delete` count, and lose nothing.
    ///
    /// Bytes are counted as [`TopicConfig`](crate::TopicConfig) says. The file takes more on the disk: up to 1.3 times that and 2 MiB,
    /// and what comes until the next clean. Its length may be twice as much, with holes that take no room.
    pub fn max_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.options.max_bytes = bytes.into();
        self
    }

    /// Vacuums when the broker closes and at least this share of the file is free, from 0.0 to 1.0; by default it never does. Closing
    /// then takes as long as [`Broker::vacuum`] says.
    pub fn vacuum_at_close(mut self, free_share: impl Into<Option<f64>>) -> Self {
        self.options.vacuum_at_close = free_share.into();
        self
    }

    /// For how long to keep what a group without members committed (`offsets.retention.minutes`), and what a group committed of
    /// topics that none of its members reads; default `None`: for ever. Kafka's default is 7 days, but an application may be
    /// closed for longer than that and has to find its place all the same. Looked at every ten minutes.
    pub fn offsets_retention(mut self, retention: Option<Duration>) -> Self {
        self.options.offsets_retention = retention;
        self
    }

    /// Where timestamps come from; default the operating system's clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.options.clock = Time::of(clock);
        self
    }

    /// Whether a thread named `brooklet` does what nobody waits for; default `true`. Without it, call
    /// [`Broker::maintain`] now and then, or wait for deliveries.
    pub fn background(mut self, on: bool) -> Self {
        self.background = on;
        self
    }

    /// Fails if the store exists.
    pub fn create_new(mut self) -> Self {
        self.how = OpenHow::CreateNew;
        self
    }

    /// Fails if the store does not exist.
    pub fn open_existing(mut self) -> Self {
        self.how = OpenHow::OpenExisting;
        self
    }

    /// How many bytes of memory compaction may use for the keys of new records, 32 for each; default 128 MiB, at least one record.
    /// They are not taken before they are needed. A partition with more new records is compacted in several rounds.
    ///
    /// Kafka's `log.cleaner.dedupe.buffer.size`.
    pub fn compaction_memory(mut self, bytes: usize) -> Self {
        self.options.compaction_records = records_within(bytes);
        self
    }

    /// How many chunks a step of a clean frees: fewer in tests.
    #[doc(hidden)]
    pub fn clean_step(mut self, chunks: usize) -> Self {
        self.options.clean_step = chunks.max(1);
        self
    }

    /// Another place for the files: a simulated disk, in tests.
    #[doc(hidden)]
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// Opens the store at `path`, recovers it if the last session ended badly, and creates it when it is not there.
    ///
    /// Recovery reads the journal, at most `buffer_memory` bytes, whatever the size of the store.
    ///
    /// # Errors
    ///
    /// - [`Error::AlreadyOpen`], at once, when another broker has it;
    /// - [`Error::AlreadyExists`], [`Error::NotFound`] if one of the two was asked for;
    /// - [`Error::NotABrooklet`], [`Error::UnsupportedVersion`] for a file of another kind or a newer release;
    /// - [`Error::JournalMismatch`], [`Error::StoreMissing`] when the two files do not belong together;
    /// - [`Error::Corrupt`] when bytes are not what was written;
    /// - [`Error::InvalidConfig`] for an option out of its range;
    /// - [`Error::StorageFull`] and [`Error::Io`] from the file system. Opening again later is safe.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Broker> {
        self.check()?;
        let engine = Engine::open(Arc::clone(&self.disk), path.as_ref(), self.how, self.options.clone())?;
        self.start(engine)
    }

    /// Starts a broker that keeps everything in memory, with the same semantics; for tests. `durability` and the ways to
    /// open a file mean nothing to it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] for an option out of its range.
    pub fn in_memory(&self) -> Result<Broker> {
        self.check()?;
        self.start(Engine::in_memory(self.options.clone())?)
    }

    fn start(&self, engine: Engine) -> Result<Broker> {
        let engine = Arc::new(engine);
        let inner = Inner { engine, disk: Arc::clone(&self.disk), background: Mutex::new(None) };
        if self.background {
            *inner.background.lock() = Some(Background::start(&inner.engine)?);
        }
        Ok(Broker { inner: Arc::new(inner) })
    }

    fn check(&self) -> Result<()> {
        let invalid = |key: &str, value: usize, reason: String| {
            Err(Error::InvalidConfig { key: key.into(), value: value.to_string(), reason })
        };
        let memory = self.options.buffer_memory;
        if !(MIN_BUFFER_MEMORY..=MAX_BUFFER_MEMORY).contains(&memory) {
            let reason = format!("a number of bytes from {MIN_BUFFER_MEMORY} to {MAX_BUFFER_MEMORY} is expected");
            return invalid("buffer_memory", memory, reason);
        }
        if let Some(share) = self.options.vacuum_at_close.filter(|share| !(0.0..=1.0).contains(share)) {
            let (key, value) = ("vacuum_at_close".to_owned(), share.to_string());
            return Err(Error::InvalidConfig { key, value, reason: "a share from 0.0 to 1.0 is expected".to_owned() });
        }
        match self.options.auto_create_topics {
            Some(partitions) if !(1..=MAX_PARTITIONS).contains(&partitions) => {
                let reason = format!("a number of partitions from 1 to {MAX_PARTITIONS} is expected");
                invalid("auto_create_topics", partitions as usize, reason)
            }
            _ => Ok(()),
        }
    }
}
