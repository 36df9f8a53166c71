//! The only place that asks what time it is.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::panics::caught;

/// Where the time of records comes from.
///
/// Record timestamps, their bounds (R-12) and everything that ages by them use it; waiting and time-outs use the
/// machine's monotonic clock. A clock that jumps back changes timestamps, never offsets or order.
///
/// # What must an own clock not do?
///
/// Call a broker, which asks for the time while it holds locks: every such call fails with
/// [`Error::IllegalState`](crate::Error::IllegalState). Nor panic: if it does, the last time that it gave counts, or the operating
/// system's if it gave none yet.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Milliseconds since 1970-01-01 00:00 UTC; negative before it.
    fn now_ms(&self) -> i64;

    /// Milliseconds since any moment, never set back or forward: for how long something took. A clock that nobody sets may
    /// leave it as it is.
    fn monotonic_ms(&self) -> i64 {
        self.now_ms()
    }
}

/// The clock of the operating system: the default.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => millis(since),
            Err(before) => -millis(before.duration()),
        }
    }

    fn monotonic_ms(&self) -> i64 {
        static STARTED: OnceLock<Instant> = OnceLock::new();
        i64::try_from(STARTED.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

thread_local! {
    /// Whether this thread runs an application's clock.
    static IN_CLOCK: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller is an application's clock.
pub(crate) fn in_clock() -> bool {
    IN_CLOCK.get()
}

/// The clock of a broker. Asking an application's clock never panics, and a clock that asks for the time by way of the broker
/// is not called again.
#[derive(Debug, Clone)]
pub(crate) enum Time {
    System,
    Application { clock: Arc<dyn Clock>, last: Arc<LastTimes> },
}

/// What an application's clock gave last.
#[derive(Debug)]
pub(crate) struct LastTimes {
    now_ms: AtomicI64,
    monotonic_ms: AtomicI64,
}

impl Time {
    pub(crate) fn of(clock: impl Clock) -> Self {
        let now_ms = AtomicI64::new(SystemClock.now_ms());
        let monotonic_ms = AtomicI64::new(SystemClock.monotonic_ms());
        Self::Application { clock: Arc::new(clock), last: Arc::new(LastTimes { now_ms, monotonic_ms }) }
    }

    /// [`Clock::now_ms`].
    #[inline]
    pub(crate) fn now_ms(&self) -> i64 {
        match self {
            Self::System => SystemClock.now_ms(),
            Self::Application { clock, last } => ask(&last.now_ms, || clock.now_ms()),
        }
    }

    /// [`Clock::monotonic_ms`].
    pub(crate) fn monotonic_ms(&self) -> i64 {
        match self {
            Self::System => SystemClock.monotonic_ms(),
            Self::Application { clock, last } => ask(&last.monotonic_ms, || clock.monotonic_ms()),
        }
    }
}

fn ask(last: &AtomicI64, clock: impl FnOnce() -> i64) -> i64 {
    if !IN_CLOCK.replace(true) {
        if let Ok(time) = caught(clock) {
            last.store(time, Ordering::SeqCst);
        }
        IN_CLOCK.set(false);
    }
    last.load(Ordering::SeqCst)
}

/// A clock that moves only when told to, for tests. Clones share the time.
///
/// ```
/// use brooklet::{Broker, ManualClock, NewTopic, ProducerRecord};
///
/// let clock = ManualClock::new(1_000);
/// let broker = Broker::builder().clock(clock.clone()).in_memory()?;
/// broker.create_topic(NewTopic::new("ticks", 1))?;
/// clock.set(2_000);
/// let metadata = broker.producer().send(ProducerRecord::to("ticks").value("tick"))?.wait()?;
/// assert_eq!(metadata.timestamp(), 2_000);
/// # Ok::<(), brooklet::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    now_ms: Arc<AtomicI64>,
}

impl ManualClock {
    /// A clock that stands at `now_ms`.
    pub fn new(now_ms: i64) -> Self {
        Self { now_ms: Arc::new(AtomicI64::new(now_ms)) }
    }

    /// Sets the time; it may go back.
    pub fn set(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }

    /// Moves the time forward.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.set(self.now_ms().saturating_add(by));
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }
}
