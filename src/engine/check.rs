//! Looking at everything: whether it is as it should be, and how much there is of it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::Engine;
use super::log::PartitionLog;
use crate::codec::RecordBatch;
use crate::error::Result;
use crate::inspect::{CheckReport, Stats};
use crate::journal::{self, Journal};
use crate::store::{Catalogue, Session};
use crate::types::{LogId, Offset};

impl Engine {
    /// Checks both files and the memory against each other. Nothing is written meanwhile.
    pub(crate) fn check(&self) -> Result<CheckReport> {
        self.check_open()?;
        self.check_may_wait()?;
        let _no_checkpoint = self.changing_store.wait();
        let lead = self.progress.lead();
        let stored = self.store.check()?;
        let mut report = CheckReport {
            problems: stored.findings,
            topics: stored.topics,
            partitions: stored.partitions,
            chunks: stored.chunks,
            records: stored.records,
            bytes: stored.bytes,
            groups: stored.groups,
            committed_offsets: stored.offsets,
            ..CheckReport::default()
        };
        let catalogue = match self.store.load() {
            Ok(catalogue) => catalogue,
            Err(error) => {
                report.problems.push(error.to_string());
                return Ok(report);
            }
        };
        name_topics(&catalogue, &mut report.problems);
        if let Some(journal) = &lead.journal {
            self.check_journal(journal, &catalogue, &mut report);
        }
        self.check_logs(&catalogue, &mut report);
        Ok(report)
    }

    /// Every frame that the store does not have must still be in the journal.
    fn check_journal(&self, journal: &Journal, catalogue: &Catalogue, report: &mut CheckReport) {
        let Session::Open(from) = catalogue.session else {
            report.problems.push("the store says that it needs no journal, while it is open".to_owned());
            return;
        };
        let end = journal.end();
        report.frames = end.sequence.saturating_sub(from.sequence);
        if let Err(error) = journal::verify(&*journal.file(), &self.journal_path, catalogue.id, &from, &end) {
            report.problems.push(error.to_string());
        }
    }

    /// What readers see must be what the store and the tail have.
    fn check_logs(&self, catalogue: &Catalogue, report: &mut CheckReport) {
        let rows: HashMap<LogId, _> = catalogue.partitions.iter().map(|(id, row)| (*id, row)).collect();
        let topics = self.topics();
        if topics.len() != catalogue.topics.len() {
            let (known, stored) = (topics.len(), catalogue.topics.len());
            report.problems.push(format!("{known} topics are known, but {stored} stored"));
        }
        for log in topics.iter().flat_map(|topic| &topic.partitions) {
            let (start, end) = rows.get(&log.id).map_or((Offset::ZERO, Offset::ZERO), |row| (row.log_start, row.end));
            let tail = log.tail();
            report.tail_records += tail.iter().map(|batch| u64::from(batch.header.count)).sum::<u64>();
            let problem = check_tail(log, start, end, tail.iter().map(|batch| &**batch));
            report.problems.extend(problem.map(|problem| format!("partition {}: {problem}", log.name)));
        }
    }

    /// Counts what there is.
    pub(crate) fn stats(&self) -> Result<Stats> {
        self.check_open()?;
        self.check_may_wait()?;
        let file = self.store.stats()?;
        let catalogue = self.store.load()?;
        let topics = self.topics();
        let (journal_used, journal_capacity) = {
            let lead = self.progress.lead();
            lead.journal.as_ref().map_or((0, 0), |journal| (journal.used(), journal.capacity()))
        };
        Ok(Stats {
            topics: topics.len(),
            partitions: topics.iter().map(|topic| topic.partitions.len()).sum(),
            stored_records: catalogue.partitions.iter().map(|(_, row)| row.records).sum(),
            stored_bytes: catalogue.partitions.iter().map(|(_, row)| row.bytes).sum(),
            plain_bytes: catalogue.partitions.iter().map(|(_, row)| row.plain_bytes).sum(),
            store_file_bytes: file.file,
            store_unused_bytes: file.unused,
            journal_used_bytes: journal_used,
            journal_capacity_bytes: journal_capacity,
            buffered_bytes: self.room.in_use(),
            last_clean_ms: self.cleans.lock().last_ms,
            storage_full: self.storage_full.load(Ordering::SeqCst),
            failure: self.health.check().err(),
        })
    }
}

/// The store knows topics by their numbers; who reads the report knows their names.
fn name_topics(catalogue: &Catalogue, problems: &mut [String]) {
    for topic in &catalogue.topics {
        let number = format!("topic number {},", topic.number.0);
        let name = format!("topic `{}` (number {}),", topic.name, topic.number.0);
        problems.iter_mut().for_each(|problem| *problem = problem.replace(&number, &name));
    }
}

/// Compares the tail with where the stored part ends; says what is wrong.
fn check_tail<'a>(
    log: &PartitionLog,
    start: Offset,
    stored_end: Offset,
    tail: impl Iterator<Item = &'a RecordBatch>,
) -> Option<String> {
    if start != log.log_start() {
        return Some(format!("its log start is {}, but {start} in the store", log.log_start()));
    }
    let mut end = stored_end;
    for batch in tail {
        let base = batch.header.base_offset;
        if base != end {
            return Some(format!("its tail goes on at offset {base} behind offset {end}"));
        }
        end = batch.header.last_offset.next();
    }
    (end.max(start) != log.end()).then(|| format!("it ends at {}, but its records end at {end}", log.end()))
}
