//! The tables, their keys and their rows.

use redb::TableDefinition;

use super::extent::Extent;
use super::index::IndexRow;
use crate::checksum::crc32c_of_parts;
use crate::codec::{DecodeError, Mark, Reader, Writer};
use crate::error::{Error, Result};
use crate::types::{LogId, Offset, TopicId, TopicName, TopicNumber};

/// The newest format of the store that this release reads, and the one it writes.
pub(super) const FORMAT: u32 = 1;

const ROW_VERSION: u8 = 1;
const CRC_LEN: usize = 4;

pub(super) type LogKey = (u32, u32);
pub(super) type ChunkKey = (u32, u32, u64);

pub(super) const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("brooklet:meta");
pub(super) const TOPICS: TableDefinition<'static, u32, &'static [u8]> = TableDefinition::new("brooklet:topics");
/// Topics that are gone and whose chunks are not: a row goes with the last of them.
pub(super) const DELETED: TableDefinition<'static, u32, &'static [u8]> = TableDefinition::new("brooklet:deleted");
pub(super) const PARTITIONS: TableDefinition<'static, LogKey, &'static [u8]> =
    TableDefinition::new("brooklet:partitions");
/// Keyed by the first offset of a chunk, as `segments` is by that of its first chunk.
pub(super) const INDEX: TableDefinition<'static, ChunkKey, &'static [u8]> = TableDefinition::new("brooklet:index");
pub(super) const SEGMENTS: TableDefinition<'static, ChunkKey, &'static [u8]> =
    TableDefinition::new("brooklet:segments");

pub(super) fn log_key(log: LogId) -> LogKey {
    (log.topic.0, log.partition)
}

pub(super) fn log_of((topic, partition): LogKey) -> LogId {
    LogId { topic: TopicNumber(topic), partition }
}

pub(super) fn chunk_key(log: LogId, offset: Offset) -> ChunkKey {
    (log.topic.0, log.partition, offset.get())
}

/// The partition and the offset of a key.
pub(super) fn chunk_of((topic, partition, offset): ChunkKey) -> (LogId, Offset) {
    (log_of((topic, partition)), Offset::new(offset))
}

/// A kind of row: where it lies, and its fields as bytes.
pub(super) trait Row: Sized {
    /// The table's name, or for `meta` the row's name: it goes into the checksum.
    const PLACE: &'static str;
    type Key;

    /// The key as bytes, for the checksum, and as words, for an error.
    fn key_bytes(key: &Self::Key) -> impl AsRef<[u8]>;
    fn key_words(key: &Self::Key) -> String;

    fn encode_fields(&self, out: &mut Vec<u8>);
    fn decode_fields(key: &Self::Key, reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// A row's bytes.
pub(super) fn encode_row<R: Row>(key: &R::Key, row: &R) -> Vec<u8> {
    let mut bytes = vec![ROW_VERSION];
    row.encode_fields(&mut bytes);
    let crc = row_crc::<R>(key, &bytes);
    bytes.put_u32(crc);
    bytes
}

/// A row of any bytes: checksum first, then version, then the fields, to the last byte.
pub(super) fn decode_row<R: Row>(key: &R::Key, bytes: &[u8]) -> Result<R> {
    let mut reader = Reader::new(row_fields::<R>(key, bytes)?);
    let decoded = R::decode_fields(key, &mut reader).map_err(|DecodeError(reason)| damaged_row::<R>(key, reason))?;
    if !reader.is_empty() {
        return Err(damaged_row::<R>(key, "it has bytes behind its last field"));
    }
    Ok(decoded)
}

/// The bytes of a row's fields, once its checksum and its version are checked.
pub(super) fn row_fields<'a, R: Row>(key: &R::Key, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let (row, crc) = bytes.split_last_chunk::<CRC_LEN>().ok_or_else(|| damaged_row::<R>(key, "it is too short"))?;
    if u32::from_le_bytes(*crc) != row_crc::<R>(key, row) {
        return Err(damaged_row::<R>(key, "its checksum does not match"));
    }
    match row.split_first() {
        Some((&ROW_VERSION, fields)) => Ok(fields),
        Some((&version, _)) => Err(Error::UnsupportedVersion {
            what: "store",
            found: u32::from(version),
            supported: u32::from(ROW_VERSION),
        }),
        None => Err(damaged_row::<R>(key, "it is too short")),
    }
}

pub(super) fn damaged_row<R: Row>(key: &R::Key, reason: &str) -> Error {
    Error::corrupt(row_place::<R>(key), reason)
}

fn row_crc<R: Row>(key: &R::Key, row: &[u8]) -> u32 {
    crc32c_of_parts([R::PLACE.as_bytes(), R::key_bytes(key).as_ref(), row])
}

/// What the row is called in an error.
pub(super) fn row_place<R: Row>(key: &R::Key) -> String {
    format!("the row of {} in `{}`", R::key_words(key), R::PLACE)
}

pub(super) fn bytes_of_log_key((topic, partition): LogKey) -> [u8; 16] {
    bytes_of_chunk_key((topic, partition, 0))
}

pub(super) fn bytes_of_chunk_key((topic, partition, base): ChunkKey) -> [u8; 16] {
    (u128::from(topic) << 96 | u128::from(partition) << 64 | u128::from(base)).to_le_bytes()
}

/// The place of a chunk, for an error.
pub(super) fn chunk_words(key: ChunkKey) -> String {
    let (log, base) = chunk_of(key);
    format!("{log}, offset {base}")
}

/// What is in the store, and what in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Session {
    /// The store was closed cleanly and holds everything: the journal is not needed.
    Closed {
        /// The number of the next frame.
        sequence: u64,
    },
    /// The store is open, or was not closed cleanly: the journal's frames from here on belong to it.
    Open(Mark),
}

/// A single value of the table `meta`, under its name.
pub(super) trait MetaRow: Row<Key = ()> {
    const NAME: &'static str = Self::PLACE;
}

impl<R: Row<Key = ()>> MetaRow for R {}

/// The version of the tables' layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format(pub(super) u32);

/// The store's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(pub(super) u128);

/// The number that the next topic gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NextTopic(pub(super) u32);

/// How many updates there have been. A commit that failed tells by it, after the file was opened anew, whether it is
/// in the file all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Updates(pub(super) u64);

/// Implements [`Row`] for a value of `meta`.
macro_rules! meta_row {
    ($row:ty, $name:literal, |$value:ident, $out:ident| $encode:expr, |$reader:ident| $decode:expr) => {
        impl Row for $row {
            const PLACE: &'static str = $name;
            type Key = ();

            fn key_bytes((): &()) -> impl AsRef<[u8]> {
                [0_u8; 16]
            }

            fn key_words((): &()) -> String {
                "the store".to_owned()
            }

            fn encode_fields(&self, $out: &mut Vec<u8>) {
                let $value = self;
                $encode
            }

            fn decode_fields((): &(), $reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                $decode
            }
        }
    };
}

pub(super) use meta_row;

meta_row!(Format, "format", |row, out| out.put_u32(row.0), |reader| reader.u32().map(Format));
meta_row!(Identity, "store", |row, out| out.put_u128(row.0), |reader| reader.u128().map(Identity));
meta_row!(NextTopic, "next_topic", |row, out| out.put_u32(row.0), |reader| reader.u32().map(NextTopic));
meta_row!(Updates, "updates", |row, out| out.put_u64(row.0), |reader| reader.u64().map(Updates));
meta_row!(Session, "session", |row, out| row.encode(out), |reader| Session::decode(reader));

impl Session {
    const CLOSED: u8 = 0;
    const OPEN: u8 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Session::Closed { sequence } => {
                out.push(Self::CLOSED);
                out.put_u64(*sequence);
            }
            Session::Open(mark) => {
                out.push(Self::OPEN);
                mark.encode(out);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8()? {
            Self::CLOSED => Ok(Session::Closed { sequence: reader.u64()? }),
            Self::OPEN => Ok(Session::Open(Mark::decode(reader)?)),
            _ => Err(DecodeError("it is neither of a closed nor of an open store")),
        }
    }
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicRow {
    pub(crate) number: TopicNumber,
    pub(crate) id: TopicId,
    pub(crate) name: TopicName,
    pub(crate) partitions: u32,
    /// Milliseconds since the epoch.
    pub(crate) created_ms: i64,
    /// The configs that were set, in Kafka's spelling. What they mean is checked above the store.
    pub(crate) overrides: Vec<(String, String)>,
}

impl Row for TopicRow {
    const PLACE: &'static str = "topics";
    type Key = u32;

    fn key_bytes(key: &u32) -> impl AsRef<[u8]> {
        u128::from(*key).to_le_bytes()
    }

    fn key_words(key: &u32) -> String {
        format!("topic number {key}")
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        out.put_u128(self.id.as_u128());
        out.put_u32(self.partitions);
        out.put_i64(self.created_ms);
        out.put_sized(self.name.as_str().as_bytes());
        out.put_varint(self.overrides.len() as u64);
        for (key, value) in &self.overrides {
            out.put_sized(key.as_bytes());
            out.put_sized(value.as_bytes());
        }
    }

    fn decode_fields(key: &u32, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let id = TopicId::new(reader.u128()?);
        let (partitions, created_ms) = (reader.u32()?, reader.i64()?);
        let name = TopicName::new(text(reader)?).map_err(|_| DecodeError("a topic has a name that can't be one"))?;
        let mut overrides = Vec::new();
        for _ in 0..reader.varint()? {
            overrides.push((text(reader)?.to_owned(), text(reader)?.to_owned()));
        }
        Ok(Self { number: TopicNumber(*key), id, name, partitions, created_ms, overrides })
    }
}

/// A topic that was deleted and that still has chunks, or rows of partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeletedRow {
    /// Its id: that of its chunks.
    pub(super) id: TopicId,
}

impl Row for DeletedRow {
    const PLACE: &'static str = "deleted";
    type Key = u32;

    fn key_bytes(key: &u32) -> impl AsRef<[u8]> {
        TopicRow::key_bytes(key)
    }

    fn key_words(key: &u32) -> String {
        TopicRow::key_words(key)
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        out.put_u128(self.id.as_u128());
    }

    fn decode_fields(_key: &u32, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: TopicId::new(reader.u128()?) })
    }
}

fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(reader.sized()?).map_err(|_| DecodeError("a text is not UTF-8"))
}

pub(super) fn offset(reader: &mut Reader<'_>) -> Result<Offset, DecodeError> {
    let offset = reader.u64()?;
    if offset > Offset::MAX.get() {
        return Err(DecodeError("an offset exceeds 2^63 - 1"));
    }
    Ok(Offset::new(offset))
}

/// A block of the file, far enough from the largest number for any chunk to follow.
pub(super) fn block(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let block = reader.u64()?;
    if block > Extent::MAX_END {
        return Err(DecodeError("a chunk lies where none can"));
    }
    Ok(block)
}

/// What is stored of a partition. The default is that of one without a row: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PartitionRow {
    /// The smallest offset still readable. It may lie behind `end` when records that only the journal holds were
    /// deleted.
    pub(crate) log_start: Offset,
    /// The offset behind the last record that came here.
    pub(crate) end: Offset,
    /// Records in chunks; those below the log start included, as long as their chunk is there.
    pub(crate) records: u64,
    /// Bytes of the chunks.
    pub(crate) bytes: u64,
    /// What they would be without compression.
    pub(crate) plain_bytes: u64,
    pub(crate) chunks: u64,
    /// No chunk lies wholly below it. While it lags behind the log start, there may be chunks to free.
    pub(crate) freed: Offset,
}

impl Row for PartitionRow {
    const PLACE: &'static str = "partitions";
    type Key = LogKey;

    fn key_bytes(key: &LogKey) -> impl AsRef<[u8]> {
        bytes_of_log_key(*key)
    }

    fn key_words(key: &LogKey) -> String {
        log_of(*key).to_string()
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        out.put_u64(self.log_start.get());
        out.put_u64(self.end.get());
        out.put_u64(self.records);
        out.put_u64(self.bytes);
        out.put_u64(self.plain_bytes);
        out.put_u64(self.chunks);
        out.put_u64(self.freed.get());
    }

    fn decode_fields(_key: &LogKey, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            log_start: offset(reader)?,
            end: offset(reader)?,
            records: reader.u64()?,
            bytes: reader.u64()?,
            plain_bytes: reader.u64()?,
            chunks: reader.u64()?,
            freed: offset(reader)?,
        })
    }
}

impl PartitionRow {
    /// Whether chunks may wait to be freed.
    pub(crate) fn has_garbage(&self) -> bool {
        self.freed < self.log_start
    }

    pub(super) fn add(&mut self, chunk: &IndexRow) {
        self.records = self.records.saturating_add(u64::from(chunk.records));
        self.bytes = self.bytes.saturating_add(u64::from(chunk.bytes));
        self.plain_bytes = self.plain_bytes.saturating_add(u64::from(chunk.plain_bytes));
        self.chunks = self.chunks.saturating_add(1);
    }

    pub(super) fn subtract(&mut self, chunk: &IndexRow) {
        self.records = self.records.saturating_sub(u64::from(chunk.records));
        self.bytes = self.bytes.saturating_sub(u64::from(chunk.bytes));
        self.plain_bytes = self.plain_bytes.saturating_sub(u64::from(chunk.plain_bytes));
        self.chunks = self.chunks.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::groups::{GroupRow, OffsetRow};
    use super::super::index::SegmentRow;
    use super::super::space::{FreeRow, SpaceRow};
    use super::*;
    use crate::codec::Sections;
    use crate::group::{CommittedOffset, GroupName, KeptState};
    use crate::types::TimestampType;
    use proptest::prelude::*;

    fn round_trip<R: Row + PartialEq + std::fmt::Debug>(key: R::Key, row: R) {
        let bytes = encode_row(&key, &row);
        assert_eq!(decode_row::<R>(&key, &bytes).unwrap(), row);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode_row::<R>(&key, &damaged), Err(Error::Corrupt { .. })), "bit {bit}");
        }
    }

    fn topic() -> TopicRow {
        TopicRow {
            number: TopicNumber(4),
            id: TopicId::new(99),
            name: TopicName::new("orders").unwrap(),
            partitions: 12,
            created_ms: -5,
            overrides: vec![("retention.ms".to_owned(), "1000".to_owned())],
        }
    }

    #[test]
    fn every_row_comes_back_and_notices_a_flipped_bit() {
        round_trip((), Format(FORMAT));
        round_trip((), Identity(u128::MAX - 1));
        round_trip((), NextTopic(7));
        round_trip((), Updates(7));
        round_trip((), SpaceRow { end: 7, used: 5 });
        round_trip(4, FreeRow { blocks: 3 });
        round_trip((), Session::Closed { sequence: 9 });
        round_trip((), Session::Open(Mark { salt: 1, sequence: 2, position: 3, chain: 4 }));
        round_trip(4, topic());
        round_trip(4, DeletedRow { id: TopicId::new(99) });
        let partition = PartitionRow {
            log_start: Offset::new(5),
            end: Offset::new(3),
            records: 1,
            bytes: 2,
            plain_bytes: 5,
            chunks: 3,
            freed: Offset::new(4),
        };
        round_trip((4, 1), partition);
        let chunk = IndexRow {
            last_offset: Offset::new(8),
            block: 12,
            records: 4,
            bytes: 100,
            plain_bytes: 300,
            crc: 7,
            first_timestamp: i64::MIN,
            max_timestamp: 50,
            timestamp_type: TimestampType::LogAppendTime,
            sections: Sections::default(),
        };
        round_trip((4, 1, 5), chunk);
        round_trip((4, 1, 5), SegmentRow::of(&chunk));
        let group = GroupName::new("g").unwrap();
        let state =
            KeptState { epoch: 3, emptied_ms: Some(-1), topics: [(TopicNumber(4), 12)].into(), ..KeptState::default() };
        round_trip(b"g".to_vec(), GroupRow { group: group.clone(), offsets: 2, state });
        let committed = CommittedOffset { offset: Offset::MAX, metadata: "m".into(), committed_ms: 1 };
        let log = LogId { topic: TopicNumber(4), partition: 1 };
        round_trip(b"\x01g\0\0\0\x04\0\0\0\x01".to_vec(), OffsetRow { group, log, committed });
    }

    #[test]
    fn a_row_under_another_key_or_in_another_table_is_damage() {
        let bytes = encode_row(&4, &topic());
        assert!(decode_row::<TopicRow>(&5, &bytes).is_err());
        let bytes = encode_row(&(), &NextTopic(3));
        assert!(decode_row::<Format>(&(), &bytes).is_err());
    }

    #[test]
    fn a_newer_row_is_told_from_damage() {
        let mut bytes = vec![ROW_VERSION + 1];
        let crc = row_crc::<NextTopic>(&(), &bytes);
        bytes.put_u32(crc);
        let error = decode_row::<NextTopic>(&(), &bytes).unwrap_err();
        assert!(matches!(error, Error::UnsupportedVersion { what: "store", found: 2, supported: 1 }));
    }

    proptest! {
        #[test]
        fn any_bytes_behind_a_right_checksum_give_a_row_or_an_error(mut bytes: Vec<u8>) {
            bytes.insert(0, ROW_VERSION);
            let crc = row_crc::<TopicRow>(&4, &bytes);
            bytes.put_u32(crc);
            let _ = decode_row::<TopicRow>(&4, &bytes);
        }
    }
}
