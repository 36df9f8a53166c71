//! Which segments a partition may let go of: Kafka's rules L-1 to L-8, and the one for the whole broker.
//!
//! Segments go from the oldest on, and the first one that may not go keeps all behind it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::config::RetentionLimits;
use crate::types::Offset;

/// What the rules want to know of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The offset behind its last record.
    pub(crate) end: Offset,
    /// Bytes of its chunks.
    pub(crate) bytes: u64,
    /// The timestamp of its first record, in milliseconds since the epoch.
    pub(crate) first_timestamp: i64,
    /// The largest timestamp in it, in milliseconds since the epoch.
    pub(crate) max_timestamp: i64,
}

/// How many of a partition's segments, oldest first, are beyond its limits: first by size, then by age (L-1). Only what
/// ends at or before `bound` may go (L-2).
pub(crate) fn beyond_limits(segments: &[Segment], limits: &RetentionLimits, bound: Offset, now_ms: i64) -> usize {
    let may_go = segments.iter().take_while(|segment| segment.end <= bound);
    let by_size = limits.bytes.map_or(0, |limit| beyond_size(segments, limit));
    let by_size = by_size.min(may_go.clone().count());
    let is_old =
        |segment: &&Segment| limits.age_ms.is_some_and(|age| now_ms.saturating_sub(segment.max_timestamp) > age);
    by_size + may_go.skip(by_size).take_while(is_old).count()
}

/// Records that wait for groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Uncommitted {
    /// Every live group has committed what lies below.
    pub(crate) committed: Offset,
    /// Beyond these limits nothing waits.
    pub(crate) caps: RetentionLimits,
}

/// Of the `beyond` segments that are beyond their limits, those that need not wait for groups.
pub(crate) fn without_uncommitted(
    segments: &[Segment],
    beyond: usize,
    uncommitted: &Uncommitted,
    bound: Offset,
    now_ms: i64,
) -> usize {
    let committed = segments.iter().take_while(|segment| segment.end <= uncommitted.committed).count();
    beyond.min(committed.max(beyond_limits(segments, &uncommitted.caps, bound, now_ms)))
}

/// L-4: the oldest go while the limit is still reached without them.
fn beyond_size(segments: &[Segment], limit: u64) -> usize {
    let total: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut excess = total.saturating_sub(limit);
    let mut count = 0;
    for segment in segments {
        match excess.checked_sub(segment.bytes) {
            Some(left) => excess = left,
            None => break,
        }
        count += 1;
    }
    count
}

/// How many segments of each partition have to go for all of them together to have at most `limit` bytes: of the oldest
/// segments of all partitions, the one whose youngest record is the oldest goes first. `other` bytes can't go.
pub(crate) fn beyond_total(partitions: &[Vec<Segment>], other: u64, limit: u64) -> Vec<usize> {
    let mut counts = vec![0; partitions.len()];
    let stored: u64 = partitions.iter().flatten().map(|segment| segment.bytes).sum();
    let mut total = stored.saturating_add(other);
    let candidate = |index: usize, nth: usize| {
        let segment = partitions.get(index).and_then(|segments| segments.get(nth))?;
        Some(Reverse((segment.max_timestamp, index, nth, segment.bytes)))
    };
    let mut oldest: BinaryHeap<_> = (0..partitions.len()).filter_map(|index| candidate(index, 0)).collect();
    while total > limit
        && let Some(Reverse((_, index, nth, bytes))) = oldest.pop()
    {
        total = total.saturating_sub(bytes);
        if let Some(count) = counts.get_mut(index) {
            *count = nth + 1;
        }
        oldest.extend(candidate(index, nth + 1));
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    /// Segments of five records each, one after the other.
    fn segments(of: &[(u64, i64)]) -> Vec<Segment> {
        let segment = |(i, &(bytes, max_timestamp)): (u64, &(u64, i64))| Segment {
            end: Offset::new((i + 1) * 5),
            bytes,
            first_timestamp: max_timestamp,
            max_timestamp,
        };
        (0..).zip(of).map(segment).collect()
    }

    fn beyond(of: &[(u64, i64)], age_ms: Option<i64>, bytes: Option<u64>) -> usize {
        beyond_limits(&segments(of), &RetentionLimits { age_ms, bytes }, Offset::MAX, NOW)
    }

    #[test]
    fn nothing_goes_without_a_limit() {
        assert_eq!(beyond(&[(5, 0), (5, 0)], None, None), 0);
        assert_eq!(beyond(&[], Some(0), Some(0)), 0);
    }

    #[test]
    fn by_size_the_limit_is_still_reached_afterwards() {
        let three = [(5, 0), (5, 0), (5, 0)];
        for (limit, gone) in [(16, 0), (15, 0), (14, 0), (11, 0), (10, 1), (9, 1), (5, 2), (1, 2), (0, 3)] {
            assert_eq!(beyond(&three, None, Some(limit)), gone, "limit {limit}");
        }
    }

    #[test]
    fn by_age_what_is_exactly_as_old_stays() {
        assert_eq!(beyond(&[(5, NOW - 10)], Some(10), None), 0);
        assert_eq!(beyond(&[(5, NOW - 11)], Some(10), None), 1);
        assert_eq!(beyond(&[(5, NOW - 1), (5, NOW)], Some(0), None), 1);
        assert_eq!(beyond(&[(5, i64::MIN), (5, i64::MAX)], Some(i64::MAX), None), 0);
    }

    #[test]
    fn a_young_segment_keeps_all_behind_it() {
        assert_eq!(beyond(&[(5, 0), (5, NOW + 1), (5, 0)], Some(10), None), 1);
        // What goes by size clears the way for what is old.
        assert_eq!(beyond(&[(5, NOW), (5, 0), (5, 0), (5, NOW)], Some(10), Some(15)), 3);
    }

    #[test]
    fn nothing_beyond_the_bound_goes() {
        let limits = RetentionLimits { age_ms: Some(0), bytes: Some(0) };
        for (bound, gone) in [(4, 0), (5, 1), (9, 1), (15, 3)] {
            let segments = segments(&[(5, 0), (5, 0), (5, 0)]);
            assert_eq!(beyond_limits(&segments, &limits, Offset::new(bound), NOW), gone, "bound {bound}");
        }
    }

    #[test]
    fn what_is_not_committed_waits_up_to_the_caps() {
        let segments = segments(&[(5, NOW - 30), (5, NOW - 20), (5, NOW - 10), (5, NOW)]);
        let waits = |beyond, committed, age_ms, bytes| {
            let uncommitted =
                Uncommitted { committed: Offset::new(committed), caps: RetentionLimits { age_ms, bytes } };
            without_uncommitted(&segments, beyond, &uncommitted, Offset::MAX, NOW)
        };
        for (committed, gone) in [(0, 0), (4, 0), (5, 1), (14, 2), (20, 3)] {
            assert_eq!(waits(3, committed, None, None), gone, "committed {committed}");
        }
        // A cap by itself lets nothing go that is within the limits.
        assert_eq!((waits(3, 0, Some(15), None), waits(1, 0, Some(15), None)), (2, 1));
        assert_eq!((waits(3, 0, None, Some(10)), waits(3, 0, Some(25), Some(10))), (2, 2));
        assert_eq!(waits(3, 15, Some(25), None), 3);
    }

    #[test]
    fn in_all_partitions_together_the_oldest_goes_first() {
        let partitions = [segments(&[(5, 10), (5, 40)]), segments(&[(5, 30), (5, 20)]), segments(&[(5, 25)])];
        for (limit, counts) in
            [(25, [0, 0, 0]), (24, [1, 0, 0]), (15, [1, 0, 1]), (14, [1, 1, 1]), (9, [1, 2, 1]), (0, [2, 2, 1])]
        {
            assert_eq!(beyond_total(&partitions, 0, limit), counts, "limit {limit}");
        }
        assert_eq!(beyond_total(&partitions, 100, 100), [2, 2, 1]);
        assert_eq!(beyond_total(&[], 100, 1), Vec::<usize>::new());
    }
}
