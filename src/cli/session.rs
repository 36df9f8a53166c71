//! From opening the file to closing it, whatever happens in between.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use brooklet::{Broker, Waker};
use clap::Args;
use parking_lot::Mutex;

use super::failure::Failure;

/// Which file to use.
#[derive(Debug, Args)]
pub(super) struct FileArgs {
    /// The file that holds the topics
    #[arg(short, long, global = true, value_name = "PATH", env = "BROOKLET_FILE")]
    file: Option<PathBuf>,
}

impl FileArgs {
    pub(super) fn path(&self) -> Result<&Path, Failure> {
        self.file.as_deref().ok_or_else(|| Failure::usage("no file was named: give --file PATH, or set BROOKLET_FILE"))
    }

    /// For commands that must not create a file by a misspelt name.
    pub(super) fn open_existing(&self) -> Result<Broker, Failure> {
        Ok(Broker::builder().open_existing().open(self.path()?)?)
    }
}

/// How long a command may take to write out what it has read: its reader may be gone to lunch.
const PATIENCE: Duration = Duration::from_secs(1);

/// What SIGINT and SIGTERM do.
pub(super) enum Stopping {
    /// They close the broker and end the process: the command may hang in a read, and has nothing more to say.
    AtOnce,
    /// As `AtOnce`, and this is said in between.
    WithFarewell(Box<dyn Fn() + Send + Sync>),
    /// They end its reading, and let the command write out and commit what it has read. One that follows a log was meant to be
    /// stopped: that is a success.
    AfterOutput {
        /// Whether the command follows a log.
        follows: bool,
        /// Ends its reading.
        waker: Waker,
    },
}

impl Stopping {
    fn exit_code(&self, signal: i32) -> u8 {
        match self {
            Stopping::AfterOutput { follows: true, .. } => 0,
            _ => signal_code(signal),
        }
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stopping::AtOnce => "AtOnce",
            Stopping::WithFarewell(_) => "WithFarewell",
            Stopping::AfterOutput { .. } => "AfterOutput",
        })
    }
}

/// An open broker that is closed when its work is done, and when a signal comes.
#[derive(Debug)]
pub(super) struct Session {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    broker: Broker,
    stopping: Stopping,
    signal: OnceLock<i32>,
    /// What closing gave, once it is done. Held while closing, so that neither the thread of the signals nor the main one ends
    /// the process before the broker is closed.
    closed: Mutex<Option<brooklet::Result<()>>>,
}

impl Session {
    /// Watches for signals from now on. Before, they end the process: opening is safe to interrupt.
    pub(super) fn start(broker: Broker, stopping: Stopping) -> Result<Self, Failure> {
        let shared = Arc::new(Shared { broker, stopping, signal: OnceLock::new(), closed: Mutex::new(None) });
        let stopped = Arc::clone(&shared);
        on_signal(move |signal| stopped.stop(signal))?;
        Ok(Self { shared })
    }

    /// Does the work, then closes the broker. A signal wins over what became of the work, a failure of the work over one of
    /// closing.
    pub(super) fn run<T>(self, work: impl FnOnce(&Broker) -> Result<T, Failure>) -> Result<T, Failure> {
        let outcome = work(&self.shared.broker);
        let closed = self.shared.close(|| ());
        if let Some(signal) = self.shared.signal.get() {
            closed?;
            return Err(Failure::Stopped { code: self.shared.stopping.exit_code(*signal) });
        }
        let done = outcome?;
        closed?;
        Ok(done)
    }
}

impl Shared {
    /// Closes the broker, if nobody did, and then says farewell.
    fn close(&self, farewell: impl FnOnce()) -> brooklet::Result<()> {
        let mut closed = self.closed.lock();
        match &*closed {
            Some(result) => result.clone(),
            None => {
                let result = self.broker.close();
                farewell();
                closed.insert(result).clone()
            }
        }
    }

    /// Runs in the thread of the signals. Where the command is given the time to end by itself, the main thread closes the
    /// broker and ends the process. Otherwise, and if that takes too long, this does.
    fn stop(&self, signal: i32) -> ! {
        let _ = self.signal.set(signal);
        if let Stopping::AfterOutput { waker, .. } = &self.stopping {
            waker.wake();
            std::thread::park_timeout(PATIENCE);
        }
        let farewell = || match &self.stopping {
            Stopping::WithFarewell(say) => say(),
            Stopping::AtOnce | Stopping::AfterOutput { .. } => {}
        };
        let closed = self.close(farewell);
        match closed {
            Ok(()) => std::process::exit(self.stopping.exit_code(signal).into()),
            Err(error) => {
                super::failure::complain(&error.to_string());
                std::process::exit(1)
            }
        }
    }
}

/// Calls `act` in a thread of its own when the first SIGINT or SIGTERM comes. On systems without them, never.
pub(super) fn on_signal(act: impl FnOnce(i32) + Send + 'static) -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGINT, SIGTERM};

        let failed = |error| Failure::failed(format!("can't watch for signals: {error}"));
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
        let watch = move || {
            if let Some(signal) = signals.forever().next() {
                act(signal);
            }
        };
        std::thread::Builder::new().name("brooklet-signals".to_owned()).spawn(watch).map_err(failed)?;
    }
    #[cfg(not(unix))]
    drop(act);
    Ok(())
}

/// The exit code of a process that a signal ended, as shells give it.
pub(super) fn signal_code(signal: i32) -> u8 {
    u8::try_from(signal).unwrap_or(0).saturating_add(128)
}
