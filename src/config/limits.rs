//! What the configuration of a topic comes to, for those who act on it.

use super::CompressionType;

/// How records are laid out in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes of a segment's chunks, at most (T-18); a chunk that is larger has a segment of its own.
    pub(crate) segment_bytes: u64,
    /// Milliseconds from a segment's first record to its youngest, at most.
    pub(crate) segment_span_ms: i64,
    /// Of chunks written from now on. This build has it.
    pub(crate) compression_type: CompressionType,
}

/// How much of a partition is kept; `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RetentionLimits {
    /// The age in milliseconds up to which records stay.
    pub(crate) age_ms: Option<i64>,
    pub(crate) bytes: Option<u64>,
}

impl RetentionLimits {
    pub(crate) fn is_any(&self) -> bool {
        *self != Self::default()
    }
}

/// How long records wait that a live group has not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UncommittedLimits {
    /// Beyond either of them they go.
    pub(crate) caps: RetentionLimits,
    /// How long after its last commit a group without members is live.
    pub(crate) idle_ms: i64,
}

/// When a partition is compacted, and what that lets go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CompactionLimits {
    pub(crate) min_lag_ms: i64,
    pub(crate) max_lag_ms: i64,
    pub(crate) min_dirty_ratio: DirtyRatio,
    /// How long tombstones are kept after the pass that met them first.
    pub(crate) delete_retention_ms: i64,
}

/// A share from 0 to 1, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirtyRatio(u32);

impl DirtyRatio {
    pub(super) const HALF: Self = Self(500_000);
    const MILLIONTHS: f64 = 1_000_000.0;

    /// `None` for what is no share.
    pub(crate) fn new(ratio: f64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1,000,000")]
        (0.0..=1.0).contains(&ratio).then(|| Self((ratio * Self::MILLIONTHS).round() as u32))
    }

    pub(crate) fn as_f64(self) -> f64 {
        f64::from(self.0) / Self::MILLIONTHS
    }
}
