//! The line that shows how far a long command is.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the line changes.
const PERIOD: Duration = Duration::from_millis(100);

/// Counts records and bytes, and shows them with their rate on a terminal's standard error.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    shown: Instant,
    records: u64,
    bytes: u64,
}

impl Progress {
    /// Shows itself if the standard error is a terminal.
    pub(super) fn on_terminal() -> Self {
        if io::stderr().is_terminal() { Self::new(Some(ProgressDrawTarget::stderr())) } else { Self::hidden() }
    }

    /// Only counts.
    pub(super) fn hidden() -> Self {
        Self::new(None)
    }

    fn new(target: Option<ProgressDrawTarget>) -> Self {
        let bar = target.map(|target| {
            let bar = ProgressBar::with_draw_target(None, target);
            ProgressStyle::with_template("{spinner} {msg}").map_or(bar.clone(), |style| bar.with_style(style))
        });
        let now = Instant::now();
        Self { bar, started: now, shown: now, records: 0, bytes: 0 }
    }

    pub(super) fn add(&mut self, records: u64, bytes: usize) {
        self.records += records;
        self.bytes += bytes as u64;
        if let Some(bar) = &self.bar
            && self.shown.elapsed() >= PERIOD
        {
            self.shown = Instant::now();
            bar.set_message(self.line());
            bar.tick();
        }
    }

    /// `1,000 records, 12.5 KiB in 0.4 s, 2,500 records/s`.
    pub(super) fn line(&self) -> String {
        let elapsed = self.started.elapsed();
        let records = HumanCount(self.records);
        let plural = if self.records == 1 { "" } else { "s" };
        let bytes = HumanBytes(self.bytes);
        let rate = HumanCount(per_second(self.records, elapsed));
        format!("{records} record{plural}, {bytes} in {:.1} s, {rate} records/s", elapsed.as_secs_f64())
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line that turns while a command is busy, on a terminal's standard error: for what can't say how far it is.
#[derive(Debug)]
pub(super) struct Busy(Option<ProgressBar>);

impl Busy {
    /// Shows itself, with the time that it takes, if the standard error is a terminal.
    pub(super) fn on_terminal(message: impl Into<String>) -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_message(message.into());
        let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}");
        let bar = style.map_or(bar.clone(), |style| bar.with_style(style));
        bar.enable_steady_tick(PERIOD);
        Self(Some(bar))
    }

    pub(super) fn say(&self, message: String) {
        self.0.iter().for_each(|bar| bar.set_message(message.clone()));
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        self.0.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// A rate in whole things.
pub(super) fn per_second(count: u64, time: Duration) -> u64 {
    let micros = time.as_micros().max(1);
    u64::try_from(u128::from(count) * 1_000_000 / micros).unwrap_or(u64::MAX)
}
