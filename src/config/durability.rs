//! What an acknowledgement means.

use std::time::Duration;

/// When a record counts as acknowledged, and what it then survives.
///
/// | | acknowledged when | survives |
/// |---|---|---|
/// | [`Sync`](Durability::Sync), the default | it is on the disk (`fdatasync`) | a killed process and a power loss |
/// | [`Buffered`](Durability::Buffered) | the operating system has it (`write`) | a killed process |
///
/// # What can a power loss take in `Buffered` mode?
///
/// A suffix of the one total order of everything acknowledged: what was acknowledged within about the last
/// `flush_interval`, in all partitions alike. Never one record without the later ones. Offsets behind that point are then
/// handed out again (P-40), so a system outside that remembered them may disagree; within the file everything agrees.
///
/// Records become visible to consumers when they are acknowledged, never before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Acknowledged when on the disk.
    #[default]
    Sync,
    /// Acknowledged when the operating system has it; the background thread syncs every `flush_interval`.
    Buffered {
        /// How much acknowledged time a power loss may take.
        flush_interval: Duration,
    },
}
