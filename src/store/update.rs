//! Changing the store: one redb transaction an update, and what happens when it fails.

use std::ops::Deref;
use std::sync::Arc;

use redb::{ReadableTable, Table, WriteTransaction};

use super::extent::Extent;
use super::groups::{GROUPS, OFFSETS};
use super::keys::{COMPACTIONS, KEYS, SUPERSEDED};
use super::open::{Handle, Store, begin_write};
use super::read::meta;
use super::schema::{
    ChunkKey, DELETED, INDEX, LogKey, META, MetaRow, NextTopic, PARTITIONS, PartitionRow, SEGMENTS, Session, TOPICS,
    TopicRow, Updates, decode_row, encode_row, log_key,
};
use super::snapshot::Snapshot;
use super::space::{FREE, Places, Resting, Space};
use super::trouble::{FromRedb, Severity};
use crate::codec::{ChunkWriter, Packing};
use crate::error::{Error, Result};
use crate::types::{LogId, TopicId};

/// What an update is for: who may use the last room on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It stores more. On a full disk it fails.
    Grow,
    /// It deletes, recovers or closes. On a full disk it gets the ballast.
    Free,
}

/// How one attempt at an update ended.
pub(super) enum Ended<T> {
    Done(T),
    /// Nothing changed, and the same would happen again.
    Refused(Error),
    /// Nothing changed, for want of room.
    Full,
    /// Nothing changed, because a page could not be read.
    Unreadable(Error),
    /// It may or may not have happened.
    Failed(Error),
}

impl Store {
    /// Does `work` in one transaction. When it returns `Ok`, all of it is on the disk.
    ///
    /// `work` may run more than once, each time on the state before; it must not call the store.
    ///
    /// # Errors
    ///
    /// [`Error::StorageFull`], something that can't be read, an error of `work`: nothing changed, and the store goes on. Every
    /// other error ends all updates, because what is on the disk is not known: later ones get [`Error::ReopenRequired`].
    pub(crate) fn update<T>(&self, purpose: Purpose, work: impl Fn(&mut Update<'_>) -> Result<T>) -> Result<T> {
        let mut writer = self.writer.lock();
        if let Some(failure) = &writer.stopped {
            return Err(Error::ReopenRequired { source: Arc::new(failure.clone()) });
        }
        let mut ended = self.attempt(self.handle(), &mut writer.space, &work);
        // Perhaps it was a reader that met a bad page, which fails the handle for all, and may meet it again.
        if matches!(ended, Ended::Unreadable(_)) {
            ended = self.attempt_alone(&mut writer.space, &work);
        }
        let may_release = purpose == Purpose::Free && matches!(ended, Ended::Full);
        if may_release && writer.release_ballast() {
            ended = self.attempt_alone(&mut writer.space, &work);
        }
        match ended {
            Ended::Done(value) => {
                if let Some(ballast) = &mut writer.ballast {
                    ballast.refill();
                }
                Ok(value)
            }
            Ended::Refused(error) | Ended::Unreadable(error) => Err(error),
            Ended::Full => Err(Error::StorageFull { path: self.path().to_owned() }),
            Ended::Failed(error) => Err(writer.stop(error)),
        }
    }

    fn attempt_alone<T>(&self, space: &mut Space, work: &impl Fn(&mut Update<'_>) -> Result<T>) -> Ended<T> {
        self.alone().map_or_else(Ended::Failed, |handle| self.attempt(handle, space, work))
    }

    fn attempt<T>(
        &self,
        handle: impl Deref<Target = Handle>,
        space: &mut Space,
        work: &impl Fn(&mut Update<'_>) -> Result<T>,
    ) -> Ended<T> {
        // Known once the commit is under way.
        let mut outcome = None;
        let result = handle.trouble.guard(|| {
            // With a reader beside it, redb leaves the pages that this update frees to the next one. Alone, it frees them by
            // a second commit that it keeps in memory; until the next update, each page that is read from the file then
            // makes it look through all that it has to write.
            let beside = Snapshot::of(&handle)?;
            let transaction = begin_write(handle.database()?)?;
            let mut update = Update::new(&transaction, space, &handle)?;
            let value = work(&mut update)?;
            let (number, freed) = update.finish()?;
            outcome = Some((value, number, Resting { extents: freed, seen_by: beside.watch() }));
            transaction.commit().redb()?;
            handle.latest.let_go();
            Ok(())
        });
        let trouble = handle.trouble.gravest();
        drop(handle);
        let (severity, cause) = match (result, trouble, outcome) {
            (Ok(()), _, Some((value, _, freed))) => {
                let handle = self.handle();
                handle.trouble.forget_full();
                if let Ok(medium) = handle.medium() {
                    space.committed(freed, medium.file());
                }
                return Ended::Done(value);
            }
            (Ok(()), ..) => return Ended::Failed(Error::corrupt("the store", "a commit came to no end")),
            // The transaction was rolled back.
            (Err(error), None, _) => {
                space.doubt();
                return Ended::Refused(error);
            }
            (Err(_), Some((severity, cause)), Some((value, number, freed))) if severity <= Severity::Unreadable => {
                match self.alone().and_then(|handle| handle.count_of_updates()) {
                    Err(error) => return Ended::Failed(error),
                    Ok(Updates(found)) if found == number => {
                        space.rest(freed);
                        space.doubt();
                        return Ended::Done(value);
                    }
                    Ok(_) => (severity, cause),
                }
            }
            (Err(_), Some((severity, cause)), _) if severity <= Severity::Unreadable => match self.alone() {
                Err(error) => return Ended::Failed(error),
                Ok(_) => (severity, cause),
            },
            (Err(_), Some(trouble), _) => trouble,
        };
        space.doubt();
        match severity {
            Severity::Full => Ended::Full,
            Severity::Unreadable => Ended::Unreadable(cause),
            Severity::Broken | Severity::Unsynced => Ended::Failed(cause),
        }
    }
}

impl Handle {
    fn count_of_updates(&self) -> Result<Updates> {
        self.trouble.guard(|| {
            let table = Snapshot::of(self)?.open_table(META).redb()?;
            meta::<Updates>(&table)?.ok_or_else(|| Error::corrupt("the store", "the count of updates is missing"))
        })
    }
}

/// An update under way. Nothing of it is seen by readers before it is committed.
pub(crate) struct Update<'t> {
    pub(super) tables: Tables<'t>,
    pub(super) places: Places<'t>,
    pub(super) writer: ChunkWriter,
}

/// All tables, each opened once.
pub(super) struct Tables<'t> {
    pub(super) meta: Table<'t, &'static str, &'static [u8]>,
    pub(super) topics: Table<'t, u32, &'static [u8]>,
    pub(super) deleted: Table<'t, u32, &'static [u8]>,
    pub(super) partitions: Table<'t, LogKey, &'static [u8]>,
    pub(super) free: Table<'t, u64, &'static [u8]>,
    pub(super) index: Table<'t, ChunkKey, &'static [u8]>,
    pub(super) segments: Table<'t, ChunkKey, &'static [u8]>,
    pub(super) keys: Table<'t, ChunkKey, &'static [u8]>,
    pub(super) superseded: Table<'t, ChunkKey, &'static [u8]>,
    pub(super) compactions: Table<'t, LogKey, &'static [u8]>,
    pub(super) groups: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) offsets: Table<'t, &'static [u8], &'static [u8]>,
}

impl std::fmt::Debug for Update<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Update").finish_non_exhaustive()
    }
}

impl<'t> Update<'t> {
    fn new(transaction: &'t WriteTransaction, space: &'t mut Space, handle: &'t Handle) -> Result<Self> {
        let tables = Tables {
            meta: transaction.open_table(META).redb()?,
            topics: transaction.open_table(TOPICS).redb()?,
            deleted: transaction.open_table(DELETED).redb()?,
            partitions: transaction.open_table(PARTITIONS).redb()?,
            free: transaction.open_table(FREE).redb()?,
            index: transaction.open_table(INDEX).redb()?,
            segments: transaction.open_table(SEGMENTS).redb()?,
            keys: transaction.open_table(KEYS).redb()?,
            superseded: transaction.open_table(SUPERSEDED).redb()?,
            compactions: transaction.open_table(COMPACTIONS).redb()?,
            groups: transaction.open_table(GROUPS).redb()?,
            offsets: transaction.open_table(OFFSETS).redb()?,
        };
        let places = Places::new(space, handle, &tables)?;
        Ok(Self { tables, places, writer: ChunkWriter::new(Packing::plain(TopicId::new(0))) })
    }

    /// Writes what is left to write, and counts this update. Gives its number, and what it has freed.
    fn finish(mut self) -> Result<(u64, Vec<Extent>)> {
        let freed = self.places.finish(&mut self.tables)?;
        let Updates(before) = meta(&self.tables.meta)?.unwrap_or(Updates(0));
        let number = before.wrapping_add(1);
        let updates = encode_row(&(), &Updates(number));
        self.tables.meta.insert(Updates::NAME, updates.as_slice()).redb()?;
        Ok((number, freed))
    }

    fn put_meta<R: MetaRow>(&mut self, row: &R) -> Result<()> {
        let bytes = encode_row(&(), row);
        self.tables.meta.insert(R::NAME, bytes.as_slice()).redb().map(drop)
    }

    /// Says where the journal stands.
    pub(crate) fn set_session(&mut self, session: Session) -> Result<()> {
        self.put_meta(&session)
    }

    /// Stores a topic, new or changed. Its number will not be given again.
    pub(crate) fn put_topic(&mut self, row: &TopicRow) -> Result<()> {
        let key = row.number.0;
        self.tables.topics.insert(key, encode_row(&key, row).as_slice()).redb()?;
        let NextTopic(next) = meta(&self.tables.meta)?.unwrap_or(NextTopic(0));
        if key < next {
            return Ok(());
        }
        let next = key.checked_add(1).ok_or_else(|| Error::illegal_state("no topic numbers are left"))?;
        self.put_meta(&NextTopic(next))
    }

    /// The row of a partition; the default when there is none.
    pub(super) fn partition(&self, log: LogId) -> Result<PartitionRow> {
        let key = log_key(log);
        match self.tables.partitions.get(key).redb()? {
            Some(bytes) => decode_row(&key, bytes.value()),
            None => Ok(PartitionRow::default()),
        }
    }

    pub(super) fn put_partition(&mut self, log: LogId, row: &PartitionRow) -> Result<()> {
        let key = log_key(log);
        self.tables.partitions.insert(key, encode_row(&key, row).as_slice()).redb().map(drop)
    }
}
