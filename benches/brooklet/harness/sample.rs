//! Medians and other quantiles.

use std::time::Duration;

/// Measured values of one thing.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// In microseconds.
    pub(crate) fn push_micros(&mut self, time: Duration) {
        self.push(time.as_secs_f64() * 1e6);
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(1, 2)
    }

    pub(crate) fn least(&self) -> f64 {
        self.quantile(0, 1)
    }

    pub(crate) fn most(&self) -> f64 {
        self.quantile(1, 1)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.quantile(99, 100)
    }

    fn quantile(&self, part: usize, of: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let index = (sorted.len() * part / of).min(sorted.len().saturating_sub(1));
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }
}
