//! What every bench needs: scratch directories, payloads, raw files to compare with, medians and a report.
//!
//! A figure alone says little on a shared machine. So each one is measured beside a baseline that does the least the hardware
//! must do for the same promise, operation by operation or in short alternating slices, and what counts is their ratio.

pub(crate) mod machine;
pub(crate) mod payload;
pub(crate) mod raw;
pub(crate) mod report;
pub(crate) mod sample;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use report::Report;

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How much work a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// About a minute for everything: whether it runs, not how fast.
    Quick,
    /// Less than ten minutes.
    Full,
    /// Logs of 10 GB, too.
    Large,
}

/// What a bench is given.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) scale: Scale,
    pub(crate) report: Report,
    scratch: PathBuf,
}

impl Context {
    /// `scratch` is where stores go: it should be on the disk that is to be measured.
    pub(crate) fn new(scale: Scale, report: Report, scratch: PathBuf) -> Self {
        Self { scale, report, scratch }
    }

    /// One number for a quick run, one for the others.
    pub(crate) fn pick<T>(&self, quick: T, full: T) -> T {
        if self.scale == Scale::Quick { quick } else { full }
    }

    /// An empty directory that is removed with everything in it.
    pub(crate) fn directory(&self) -> Result<TempDir> {
        std::fs::create_dir_all(&self.scratch)?;
        Ok(TempDir::new_in(&self.scratch)?)
    }
}

/// How long `work` takes.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let result = work()?;
    Ok((result, start.elapsed()))
}

/// How many of something a second.
pub(crate) fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// The file's length in bytes.
pub(crate) fn file_len(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path)?.len())
}
