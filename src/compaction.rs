//! Compaction by key (Kafka's rules L-20 to L-39): which records it may look at, when it is due, and what it lets go of.
//!
//! A pass looks at the records behind the last one's end, the *dirty* ones, and enters each key with the offset of its last
//! record into the partition's table of keys. What that supersedes, there or among the dirty records themselves, may go, and
//! so may tombstones that readers had time to see.

use std::cmp::Reverse;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::config::CompactionLimits;
use crate::retention::Segment;
use crate::types::{Offset, TopicId};

/// What stands for a key: 128 bits of SipHash-1-3 under the topic's random id. Nobody who does not know that id can make two
/// keys collide, and by chance they do so in one of 10^20 tables of 10^9 keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyHash {
    /// What blocks of the table of keys are ordered by.
    pub(crate) prefix: u64,
    pub(crate) rest: u64,
}

impl KeyHash {
    pub(crate) fn of(topic: TopicId, key: &[u8]) -> Self {
        let mut hasher = SipHasher13::new_with_key(&topic.as_u128().to_le_bytes());
        hasher.write(key);
        let hash = hasher.finish128();
        Self { prefix: hash.h1, rest: hash.h2 }
    }
}

/// The last record of a key. There are many of them at once, so they are small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyEntry {
    pub(crate) key: KeyHash,
    /// Twice the offset, and one more for a record without a value: the key is deleted.
    packed: u64,
}

impl KeyEntry {
    pub(crate) fn new(key: KeyHash, offset: Offset, is_tombstone: bool) -> Self {
        Self { key, packed: offset.get() << 1 | u64::from(is_tombstone) }
    }

    pub(crate) fn offset(&self) -> Offset {
        Offset::new(self.packed >> 1)
    }

    pub(crate) fn is_tombstone(&self) -> bool {
        self.packed & 1 == 1
    }

    /// As a block of the table of keys has it.
    pub(crate) fn to_words(self) -> [u64; 3] {
        [self.key.prefix, self.key.rest, self.packed]
    }

    pub(crate) fn from_words([prefix, rest, packed]: [u64; 3]) -> Self {
        Self { key: KeyHash { prefix, rest }, packed }
    }
}

/// Keeps the last entry of each key, sorted by key. The offsets of the others are added to `superseded`.
pub(crate) fn keep_last(entries: &mut Vec<KeyEntry>, superseded: &mut Vec<Offset>) {
    entries.sort_unstable_by_key(|entry| (entry.key, entry.packed));
    entries.dedup_by(|later, kept| {
        let same = later.key == kept.key;
        if same {
            superseded.push(kept.offset());
            *kept = *later;
        }
        same
    });
}

/// What goes from a table of keys beside what newer entries replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expired {
    /// Records below it are gone already.
    pub(crate) log_start: Offset,
    /// Tombstones below it have been kept long enough.
    pub(crate) tombstones: Offset,
}

impl Expired {
    /// Whether an entry of the table leaves it.
    fn has(self, entry: &KeyEntry) -> bool {
        entry.offset() < self.log_start || (entry.is_tombstone() && entry.offset() < self.tombstones)
    }
}

/// Merges newer entries into a part of the table, both sorted by key, with at most one entry of each. Gives the new part; the
/// offsets of records that may go are added to `superseded`.
pub(crate) fn merge(
    old: &[KeyEntry],
    new: &[KeyEntry],
    expired: Expired,
    superseded: &mut Vec<Offset>,
) -> Vec<KeyEntry> {
    let mut merged = Vec::with_capacity(old.len() + new.len());
    let mut new = new.iter().copied().peekable();
    for entry in old {
        while let Some(before) = new.next_if(|newer| newer.key < entry.key) {
            merged.push(before);
        }
        match new.next_if(|newer| newer.key == entry.key) {
            // A pass that was interrupted meets what it has entered already.
            Some(newer) if newer.offset() <= entry.offset() => merged.push(*entry),
            Some(newer) => {
                superseded.push(entry.offset());
                merged.push(newer);
            }
            None if expired.has(entry) => superseded.push(entry.offset()),
            None => merged.push(*entry),
        }
    }
    merged.extend(new);
    merged
}

/// How a partition stands with compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Bytes of the segments below the dirty records.
    pub(crate) clean_bytes: u64,
    /// Bytes of the segments that a pass would look at.
    pub(crate) dirty_bytes: u64,
    /// Where the next pass begins, and how far it may go (L-24, L-25).
    pub(crate) from: Offset,
    pub(crate) until: Offset,
    /// The timestamp of the oldest dirty record.
    pub(crate) dirty_since_ms: Option<i64>,
}

impl Standing {
    /// `compacted` is where the last pass ended. The last segment is the active one: it is never looked at.
    pub(crate) fn of(
        segments: &[Segment],
        log_start: Offset,
        compacted: Offset,
        limits: &CompactionLimits,
        now_ms: i64,
    ) -> Self {
        let from = compacted.max(log_start);
        let mut standing = Self { clean_bytes: 0, dirty_bytes: 0, from, until: from, dirty_since_ms: None };
        let Some((_, closed)) = segments.split_last() else { return standing };
        let youngest_ms = now_ms.saturating_sub(limits.min_lag_ms);
        for segment in closed {
            if segment.end <= from {
                standing.clean_bytes += segment.bytes;
                continue;
            }
            if limits.min_lag_ms > 0 && segment.max_timestamp > youngest_ms {
                break;
            }
            standing.dirty_bytes += segment.bytes;
            standing.until = segment.end;
            standing.dirty_since_ms.get_or_insert(segment.first_timestamp);
        }
        standing
    }

    /// The share of the bytes that is dirty; 0 of nothing.
    pub(crate) fn dirty_ratio(&self) -> f64 {
        dirty_ratio(self.clean_bytes, self.dirty_bytes)
    }

    /// Whether a pass is due (L-26): enough is dirty, or has been so for too long.
    pub(crate) fn is_due(&self, limits: &CompactionLimits, now_ms: i64) -> bool {
        let waited_ms = self.dirty_since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
        self.until > self.from
            && (self.dirty_ratio() > limits.min_dirty_ratio.as_f64() || waited_ms > limits.max_lag_ms)
    }
}

/// The share that is dirty; 0 of nothing.
pub(crate) fn dirty_ratio(clean_bytes: u64, dirty_bytes: u64) -> f64 {
    match clean_bytes.saturating_add(dirty_bytes) {
        0 => 0.0,
        total => dirty_bytes as f64 / total as f64,
    }
}

/// The order in which partitions are compacted: the dirtiest first (L-26).
pub(crate) fn dirtiest_first<T>(candidates: &mut [(Standing, T)]) {
    candidates.sort_by(|(a, _), (b, _)| b.dirty_ratio().total_cmp(&a.dirty_ratio()));
}

/// Until when tombstones are kept that one pass has met first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Horizon {
    /// Where that pass ended.
    pub(crate) end: Offset,
    /// From then on, in milliseconds since the epoch, they may go.
    pub(crate) at_ms: i64,
}

/// More passes than these are not told apart: tombstones of two neighbours then stay until the later horizon of both.
pub(crate) const MAX_HORIZONS: usize = 64;

/// The horizons of a partition, by `end`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Horizons(pub(crate) Vec<Horizon>);

impl Horizons {
    /// The offset below which tombstones may go now.
    pub(crate) fn expired(&self, now_ms: i64) -> Offset {
        let passed = self.0.iter().take_while(|horizon| horizon.at_ms <= now_ms);
        passed.last().map_or(Offset::ZERO, |horizon| horizon.end)
    }

    /// Forgets those whose tombstones are gone.
    pub(crate) fn forget_below(&mut self, end: Offset) {
        self.0.retain(|horizon| horizon.end > end);
    }

    /// A pass has met tombstones.
    pub(crate) fn add(&mut self, horizon: Horizon) {
        self.0.push(horizon);
        while self.0.len() > MAX_HORIZONS {
            let pairs = self.0.windows(2).enumerate();
            let gap = |pair: &[Horizon]| match pair {
                [a, b] => b.at_ms.abs_diff(a.at_ms),
                _ => u64::MAX,
            };
            let Some((index, _)) = pairs.min_by_key(|(index, pair)| (gap(pair), Reverse(*index))) else { return };
            let earlier = self.0.remove(index);
            if let Some(later) = self.0.get_mut(index) {
                later.at_ms = later.at_ms.max(earlier.at_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DirtyRatio;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const NOTHING: Expired = Expired { log_start: Offset::ZERO, tombstones: Offset::ZERO };
    const HOUR: i64 = 3_600_000;
    const NOW: i64 = 1_000 * HOUR;

    fn entry(key: u64, offset: u64) -> KeyEntry {
        KeyEntry::new(KeyHash { prefix: key, rest: 0 }, Offset::new(offset), false)
    }

    fn tombstone(key: u64, offset: u64) -> KeyEntry {
        KeyEntry::new(entry(key, offset).key, Offset::new(offset), true)
    }

    fn offsets(of: &[u64]) -> Vec<Offset> {
        of.iter().copied().map(Offset::new).collect()
    }

    fn limits(min_lag_ms: i64, max_lag_ms: i64, ratio: f64) -> CompactionLimits {
        CompactionLimits {
            min_lag_ms,
            max_lag_ms,
            min_dirty_ratio: DirtyRatio::new(ratio).unwrap(),
            delete_retention_ms: 0,
        }
    }

    /// Closed segments of ten offsets, and then the active one.
    fn segments(of: &[(u64, i64)]) -> Vec<Segment> {
        let segment = |(i, &(bytes, time)): (u64, &(u64, i64))| Segment {
            end: Offset::new((i + 1) * 10),
            bytes,
            first_timestamp: time,
            max_timestamp: time,
        };
        (0..).zip(of).map(segment).collect()
    }

    #[test]
    fn of_each_key_the_last_record_stays() {
        let mut entries = vec![entry(2, 0), entry(1, 1), entry(2, 2), tombstone(1, 3), entry(3, 4)];
        let mut superseded = Vec::new();
        keep_last(&mut entries, &mut superseded);
        assert_eq!(entries, [tombstone(1, 3), entry(2, 2), entry(3, 4)]);
        assert_eq!(superseded, offsets(&[1, 0]));
    }

    #[test]
    fn merging_gives_up_what_is_newer_elsewhere_and_what_is_expired() {
        let expired = Expired { log_start: Offset::new(5), tombstones: Offset::new(20) };
        let old = [entry(1, 3), tombstone(2, 7), entry(3, 8), tombstone(4, 21), tombstone(6, 9)];
        let new = [entry(0, 30), entry(3, 31), entry(5, 32), entry(6, 33), entry(9, 34)];
        let mut superseded = Vec::new();
        let merged = merge(&old, &new, expired, &mut superseded);
        let expected = [entry(0, 30), entry(3, 31), tombstone(4, 21), entry(5, 32), entry(6, 33), entry(9, 34)];
        assert_eq!(merged, expected);
        assert_eq!(superseded, offsets(&[3, 7, 8, 9]));
    }

    #[test]
    fn merging_twice_changes_nothing() {
        let new = [entry(1, 10), tombstone(2, 11)];
        let mut superseded = Vec::new();
        let once = merge(&[entry(1, 3)], &new, NOTHING, &mut superseded);
        assert_eq!(superseded, offsets(&[3]));
        assert_eq!(merge(&once, &new, NOTHING, &mut superseded), once);
        assert_eq!(superseded.len(), 1);
    }

    /// LogCleanerManagerTest.testCleanableOffsetsActiveSegment, testCleanableOffsetsForTime (C27, L-25).
    #[test]
    fn neither_the_active_segment_nor_what_is_too_young_is_looked_at() {
        let standing = |of: &[(u64, i64)], lag, now| {
            Standing::of(&segments(of), Offset::ZERO, Offset::ZERO, &limits(lag, i64::MAX, 0.0), now).until
        };
        let old = (5, NOW);
        let later = NOW + HOUR + 1;
        assert_eq!(standing(&[], 0, NOW), 0);
        assert_eq!(standing(&[old], 0, NOW), 0);
        assert_eq!(standing(&[old; 8], 0, NOW), 70);
        assert_eq!(standing(&[old, old, old, (5, later), (5, later)], HOUR, later), 30);
        assert_eq!(standing(&[old; 8], HOUR, later), 70);
        assert_eq!(standing(&[old; 8], HOUR, NOW + HOUR - 1), 0);
    }

    /// LogCleanerManagerTest, the first dirty offset (L-24).
    #[test]
    fn a_pass_begins_where_the_last_one_ended_or_at_the_log_start() {
        let from = |log_start, compacted| {
            let (log_start, compacted) = (Offset::new(log_start), Offset::new(compacted));
            Standing::of(&segments(&[(5, NOW); 4]), log_start, compacted, &limits(0, i64::MAX, 0.0), NOW).from
        };
        assert_eq!((from(0, 0), from(0, 15), from(20, 15)), (Offset::ZERO, Offset::new(15), Offset::new(20)));
    }

    /// LogCleanerManagerTest.testGrabFilthiestCompactedLogReturnsLogWithDirtiestRatio (C28, L-26): cleaned up to 20, the ends
    /// are 20, 25 and 30.
    #[test]
    fn the_dirtiest_partition_is_first_and_the_ratio_itself_is_not_enough() {
        let limits = limits(0, i64::MAX, 0.05);
        let of = |dirty: &[(u64, i64)]| {
            let mut of = vec![(10, NOW), (10, NOW)];
            of.extend_from_slice(dirty);
            of.push((1, NOW));
            Standing::of(&segments(&of), Offset::ZERO, Offset::new(20), &limits, NOW)
        };
        let mut candidates = [(of(&[]), 0), (of(&[(5, NOW)]), 1), (of(&[(10, NOW)]), 2)];
        dirtiest_first(&mut candidates);
        assert_eq!(
            candidates.map(|(standing, p)| (p, standing.is_due(&limits, NOW))),
            [(2, true), (1, true), (0, false)]
        );
        let at_limit = of(&[(20, NOW)]);
        assert_eq!(at_limit.dirty_ratio(), 0.5);
        assert!(!at_limit.is_due(&self::limits(0, i64::MAX, 0.5), NOW));
    }

    #[test]
    fn what_has_been_dirty_for_too_long_is_due_whatever_the_ratio() {
        let limits = limits(0, HOUR, 1.0);
        let standing = Standing::of(&segments(&[(5, NOW), (5, NOW)]), Offset::ZERO, Offset::ZERO, &limits, NOW);
        assert!(!standing.is_due(&limits, NOW + HOUR));
        assert!(standing.is_due(&limits, NOW + HOUR + 1));
    }

    #[test]
    fn a_horizon_passes_when_its_time_has_come_and_all_before_it_have_passed() {
        let mut horizons = Horizons::default();
        for (end, at_ms) in [(10, 100), (20, 300), (30, 200)] {
            horizons.add(Horizon { end: Offset::new(end), at_ms });
        }
        let expired: Vec<_> = [99, 100, 299, 300].map(|now| horizons.expired(now).get()).into();
        assert_eq!(expired, [0, 10, 10, 30]);
        horizons.forget_below(Offset::new(10));
        assert_eq!(horizons.0.len(), 2);
    }

    #[test]
    fn more_horizons_than_are_kept_only_make_tombstones_stay_longer() {
        let mut horizons = Horizons::default();
        for n in 0..1_000 {
            horizons.add(Horizon { end: Offset::new(n), at_ms: i64::try_from(n).unwrap() * 10 });
        }
        assert_eq!(horizons.0.len(), MAX_HORIZONS);
        for now in [0, 505, 9_989, 9_990] {
            assert!(horizons.expired(now).get() <= u64::try_from(now).unwrap() / 10);
        }
        assert_eq!(horizons.expired(9_990), 999);
    }

    proptest! {
        #[test]
        fn merging_in_parts_is_the_same_as_keeping_the_last_of_all(
            keys in proptest::collection::vec((0_u64..12, any::<bool>()), 0..60),
            cuts in proptest::collection::vec(0_usize..60, 0..4),
        ) {
            let all: Vec<_> = (0..).zip(&keys)
                .map(|(offset, &(key, has_value))| if has_value { entry(key, offset) } else { tombstone(key, offset) })
                .collect();
            let last: BTreeMap<_, _> = all.iter().map(|entry| (entry.key, *entry)).collect();
            let mut bounds: Vec<_> = cuts.into_iter().map(|cut| cut.min(all.len())).chain([0, all.len()]).collect();
            bounds.sort_unstable();
            let mut table = Vec::new();
            let mut superseded = Vec::new();
            for bound in bounds.windows(2) {
                let mut part = all[bound[0]..bound[1]].to_vec();
                keep_last(&mut part, &mut superseded);
                table = merge(&table, &part, NOTHING, &mut superseded);
            }
            prop_assert_eq!(&table, &last.into_values().collect::<Vec<_>>());
            superseded.extend(table.iter().map(KeyEntry::offset));
            superseded.sort_unstable();
            prop_assert_eq!(superseded, all.iter().map(KeyEntry::offset).collect::<Vec<_>>());
        }
    }
}
