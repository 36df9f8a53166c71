//! Extents: runs of blocks of the store's file, and sets of them.

use std::collections::{BTreeMap, BTreeSet};

/// What redb calls a page, and what chunks are a multiple of in the file: no chunk shares a block with another one, so that no
/// write touches what was acknowledged before.
pub(super) const BLOCK: u64 = 4_096;
pub(super) const BLOCK_LEN: usize = 4_096;

/// A run of blocks of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Extent {
    pub(super) first: u64,
    pub(super) blocks: u64,
}

impl Extent {
    /// No extent ends behind this block: what the file's length can be, and a sum of such lengths, is a number.
    pub(super) const MAX_END: u64 = 1 << 48;

    /// The extent from `first` on that so many bytes take.
    pub(super) fn of_bytes(first: u64, bytes: usize) -> Self {
        Self { first, blocks: (bytes as u64).div_ceil(BLOCK) }
    }

    /// The block behind the last one.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(self.blocks)
    }

    pub(super) fn overlaps(&self, other: Extent) -> bool {
        self.first < other.end() && other.first < self.end()
    }
}

/// A set of blocks, as the longest runs that there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Extents {
    by_first: BTreeMap<u64, u64>,
    /// Length, first block.
    by_blocks: BTreeSet<(u64, u64)>,
    blocks: u64,
    /// Where runs began or begin that were changed.
    touched: BTreeSet<u64>,
}

impl Extents {
    /// How many blocks there are.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Extent> {
        self.by_first.iter().map(|(&first, &blocks)| Extent { first, blocks })
    }

    /// The run that begins at a block.
    pub(super) fn at(&self, first: u64) -> Option<Extent> {
        self.by_first.get(&first).map(|&blocks| Extent { first, blocks })
    }

    /// Whether all of these blocks are there.
    pub(super) fn has(&self, extent: Extent) -> bool {
        let before = self.by_first.range(..=extent.first).next_back();
        before.is_some_and(|(first, blocks)| first + blocks >= extent.end())
    }

    /// Where runs began or begin that were changed since this was asked last.
    pub(super) fn take_touched(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.touched)
    }

    /// Adds blocks. `false`: some of them are there already, and nothing is added.
    pub(super) fn add(&mut self, extent: Extent) -> bool {
        if extent.blocks == 0 {
            return true;
        }
        let before = self.by_first.range(..=extent.first).next_back().map(|(&first, &blocks)| Extent { first, blocks });
        let behind = self.by_first.range(extent.first..).next().map(|(&first, &blocks)| Extent { first, blocks });
        if before.is_some_and(|before| before.end() > extent.first)
            || behind.is_some_and(|next| next.first < extent.end())
        {
            return false;
        }
        let mut joined = extent;
        if let Some(before) = before.filter(|before| before.end() == extent.first) {
            self.take_run(before);
            joined = Extent { first: before.first, blocks: before.blocks + joined.blocks };
        }
        if let Some(behind) = behind.filter(|behind| behind.first == extent.end()) {
            self.take_run(behind);
            joined.blocks += behind.blocks;
        }
        self.put_run(joined);
        true
    }

    /// Takes those of these blocks out that are there.
    pub(super) fn remove(&mut self, extent: Extent) {
        if extent.blocks == 0 {
            return;
        }
        let from = self.by_first.range(..=extent.first).next_back().map_or(extent.first, |(&first, _)| first);
        let runs: Vec<Extent> =
            self.by_first.range(from..extent.end()).map(|(&first, &blocks)| Extent { first, blocks }).collect();
        for run in runs.into_iter().filter(|run| run.end() > extent.first) {
            self.take_run(run);
            self.put_run(Extent { first: run.first, blocks: extent.first.saturating_sub(run.first) });
            self.put_run(Extent { first: extent.end(), blocks: run.end().saturating_sub(extent.end()) });
        }
    }

    /// Takes so many blocks out of the shortest run that has them below `limit`; of several, out of the first one.
    pub(super) fn take(&mut self, blocks: u64, limit: u64) -> Option<Extent> {
        let fits = |&&(_, first): &&(u64, u64)| first.saturating_add(blocks) <= limit;
        let &(_, first) = self.by_blocks.range((blocks, 0)..).find(fits)?;
        let taken = Extent { first, blocks };
        self.remove(taken);
        Some(taken)
    }

    /// The last run.
    pub(super) fn last(&self) -> Option<Extent> {
        self.iter().next_back()
    }

    fn take_run(&mut self, run: Extent) {
        self.by_first.remove(&run.first);
        self.by_blocks.remove(&(run.blocks, run.first));
        self.blocks -= run.blocks;
        self.touched.insert(run.first);
    }

    fn put_run(&mut self, run: Extent) {
        if run.blocks > 0 {
            self.by_first.insert(run.first, run.blocks);
            self.by_blocks.insert((run.blocks, run.first));
            self.blocks += run.blocks;
            self.touched.insert(run.first);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extent(first: u64, blocks: u64) -> Extent {
        Extent { first, blocks }
    }

    fn set(extents: &[(u64, u64)]) -> Extents {
        let mut set = Extents::default();
        extents.iter().for_each(|&(first, blocks)| assert!(set.add(extent(first, blocks))));
        set
    }

    #[test]
    fn the_shortest_run_that_fits_is_taken() {
        let mut free = set(&[(0, 9), (20, 3), (30, 4), (40, 3)]);
        assert_eq!(free.take(3, u64::MAX), Some(extent(20, 3)));
        assert_eq!(free.take(2, u64::MAX), Some(extent(40, 2)));
        assert_eq!(free.take(3, 30), Some(extent(0, 3)));
        assert_eq!(free.take(8, u64::MAX), None);
        assert_eq!(free.iter().collect::<Vec<_>>(), [extent(3, 6), extent(30, 4), extent(42, 1)]);
    }

    #[test]
    fn changes_are_told_by_where_runs_began_or_begin() {
        let mut free = set(&[(2, 4), (10, 2)]);
        free.take_touched();
        assert!(free.add(extent(6, 4)));
        assert_eq!((free.take_touched(), free.at(2)), ([2, 10].into(), Some(extent(2, 10))));
        free.remove(extent(4, 1));
        assert_eq!(free.take_touched(), [2, 5].into());
        assert_eq!((free.take_touched(), free.at(10)), ([].into(), None));
    }

    proptest! {
        #[test]
        fn it_holds_what_a_set_of_blocks_holds(steps in proptest::collection::vec((0_u64..40, 0_u64..9, any::<bool>()), 1..40)) {
            let mut extents = Extents::default();
            let mut blocks = BTreeSet::new();
            for (first, count, adds) in steps {
                let these = first..first + count;
                if adds {
                    let is_new = these.clone().all(|block| !blocks.contains(&block));
                    prop_assert_eq!(extents.add(extent(first, count)), is_new);
                    if is_new {
                        blocks.extend(these);
                    }
                } else {
                    extents.remove(extent(first, count));
                    blocks.retain(|block| !these.contains(block));
                }
                let runs: Vec<_> = extents.iter().collect();
                prop_assert!(runs.windows(2).all(|pair| pair[0].end() < pair[1].first));
                prop_assert_eq!(runs.iter().flat_map(|run| run.first..run.end()).collect::<BTreeSet<_>>(), blocks.clone());
                prop_assert_eq!(extents.blocks(), blocks.len() as u64);
                prop_assert_eq!(extents.by_blocks.len(), runs.len());
            }
        }
    }
}
