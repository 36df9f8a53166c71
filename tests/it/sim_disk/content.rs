//! The bytes of one file: pages that copies share until one of them writes.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

/// What the page cache keeps, loses and writes back as one, and what a full disk counts.
pub(crate) const PAGE: u64 = 4096;

const PAGE_LEN: usize = 4096;

type Page = [u8; PAGE_LEN];

/// Preallocated files are mostly zeros: all such pages are this one.
static ZEROS: LazyLock<Arc<Page>> = LazyLock::new(|| Arc::new([0; PAGE_LEN]));

/// A file's length and its pages. A page that is not there is a hole: it reads as zeros and takes no space.
#[derive(Clone, Default)]
pub(crate) struct Content {
    len: u64,
    pages: Arc<BTreeMap<u64, Arc<Page>>>,
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn page_count(&self) -> u64 {
        self.pages.len() as u64
    }

    pub(crate) fn has_page(&self, page: u64) -> bool {
        self.pages.contains_key(&page)
    }

    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.saturating_add(out.len() as u64) > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = out;
        for (page, within) in pages_of(offset, rest.len()) {
            let (part, behind) = std::mem::take(&mut rest).split_at_mut(within.len());
            match self.pages.get(&page).and_then(|page| page.get(within)) {
                Some(bytes) => part.copy_from_slice(bytes),
                None => part.fill(0),
            }
            rest = behind;
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let pages = Arc::make_mut(&mut self.pages);
        let mut rest = bytes;
        for (page, within) in pages_of(offset, bytes.len()) {
            let (part, behind) = rest.split_at(within.len());
            rest = behind;
            if part == ZEROS.as_slice() {
                pages.insert(page, Arc::clone(&ZEROS));
                continue;
            }
            let page = Arc::make_mut(pages.entry(page).or_insert_with(|| Arc::clone(&ZEROS)));
            if let Some(space) = page.get_mut(within) {
                space.copy_from_slice(part);
            }
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    /// Cuts or extends. What is cut off is gone: extending again brings zeros.
    pub(crate) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let pages = Arc::make_mut(&mut self.pages);
            pages.split_off(&len.div_ceil(PAGE));
            let within = usize::try_from(len % PAGE).unwrap_or(0);
            if let Some(page) = pages.get_mut(&(len / PAGE)) {
                Arc::make_mut(page).iter_mut().skip(within).for_each(|byte| *byte = 0);
            }
        }
        self.len = len;
    }

    /// Makes one page the same as in `other`.
    pub(crate) fn adopt(&mut self, other: &Content, page: u64) {
        let pages = Arc::make_mut(&mut self.pages);
        match other.pages.get(&page) {
            Some(bytes) => drop(pages.insert(page, Arc::clone(bytes))),
            None => drop(pages.remove(&page)),
        }
    }

    /// The numbers of the pages from the one that holds byte `offset` on.
    pub(crate) fn pages_from(&self, offset: u64) -> impl Iterator<Item = u64> {
        self.pages.range(offset / PAGE..).map(|(page, _)| *page)
    }
}

/// The pages that a range of bytes touches, each with the part of it that is touched.
pub(crate) fn pages_of(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let end = offset.saturating_add(len as u64);
    (offset / PAGE..end.div_ceil(PAGE)).filter_map(move |page| {
        let start = offset.max(page * PAGE) - page * PAGE;
        let stop = end.min((page + 1) * PAGE) - page * PAGE;
        Some((page, usize::try_from(start).ok()?..usize::try_from(stop).ok()?))
    })
}
