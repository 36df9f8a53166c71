//! Whether the broker may go on writing.
//!
//! After a failed sync nobody knows what is on the disk, so nothing is retried: the first failure is kept, and every
//! later write answers with it until the file is opened again.

use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};

/// The first failure, if there was one.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failure: OnceLock<Arc<Error>>,
}

impl Health {
    /// Fails when the broker has stopped.
    pub(crate) fn check(&self) -> Result<()> {
        match self.failure.get() {
            None => Ok(()),
            Some(source) => Err(Error::ReopenRequired { source: Arc::clone(source) }),
        }
    }

    /// Stops the broker. The first failure stays the reason.
    pub(crate) fn stop(&self, failure: Error) -> Arc<Error> {
        let failure = match failure {
            Error::ReopenRequired { source } => source,
            other => Arc::new(other),
        };
        Arc::clone(self.failure.get_or_init(|| failure))
    }

    /// Watches over a section that must not be left by a panic: if it is, the broker stops.
    pub(crate) fn guard(&self, section: &'static str) -> Guard<'_> {
        Guard { health: self, section, entered_while_panicking: std::thread::panicking() }
    }
}

/// Stops the broker when a panic drops it.
#[derive(Debug)]
pub(crate) struct Guard<'a> {
    health: &'a Health,
    section: &'static str,
    /// The section runs in a destructor while the application's panic unwinds, as when a consumer is dropped. A panic within it
    /// would end the process.
    entered_while_panicking: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.entered_while_panicking {
            self.health.stop(Error::illegal_state(format!("a panic interrupted {}", self.section)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_stays_the_reason() {
        let health = Health::default();
        assert!(health.check().is_ok());
        health.stop(Error::illegal_state("first"));
        health.stop(Error::illegal_state("second"));
        assert!(health.check().unwrap_err().to_string().contains("first"));
    }

    #[test]
    fn a_panic_in_a_guarded_section_stops_the_broker() {
        let health = Health::default();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = health.guard("a test");
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(result.is_err());
        assert!(health.check().unwrap_err().to_string().contains("a panic interrupted a test"));
    }
}
