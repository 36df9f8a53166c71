//! Sections: a plain chunk is cut, between records, into stretches of some 4 KiB with a checksum each, so that a record is
//! found without reading all of its chunk, and damage takes no more than the section that it is in.
//!
//! Nothing in a chunk tells of its sections. Who knows where the chunk lies knows them as well:
//!
//! ```text
//! section    length     varint   of the section before, less 4096
//!            offset     varint   the first one that it covers, less that of the section before
//!            timestamp  zigzag   of the record before it, less that of the record before the section before
//!            crc        u32      CRC-32C of its bytes
//! ```
//!
//! The first one, which has the chunk's header in it, has its CRC only: it begins where the chunk does, at its base offset and
//! base timestamp.

use std::fmt;
use std::ops::Range;

use super::batch::{BatchHeader, RecordBatch};
use super::chunk::{ChunkError, MAX_CHUNK, PREFIX_LEN};
use super::walk::{Place, Walk};
use super::{DecodeError, Reader, Writer};
use crate::checksum::crc32c;
use crate::types::{LogId, Offset, TimestampType};

/// A section ends with the record that makes it so long.
const SECTION_LEN: usize = 4 << 10;

/// All but the last one are as long as that, or longer.
const MAX_SECTIONS: usize = MAX_CHUNK / SECTION_LEN;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Section {
    /// Its first byte in the chunk.
    start: u16,
    /// The first offset that it covers, less the chunk's base offset.
    offset: u32,
    /// Of the record before it, less the chunk's base timestamp.
    timestamp: i32,
    crc: u32,
}

/// The sections of a chunk. None, when it has to be read whole: it is compressed, or no longer than one section, or its offsets
/// or timestamps are too far apart.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sections {
    all: [Section; MAX_SECTIONS],
    count: u8,
}

impl fmt::Debug for Sections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

impl Sections {
    /// Cuts a plain chunk.
    pub(super) fn of(header: &BatchHeader, chunk: &[u8]) -> Self {
        Self::cut(header, chunk).filter(|sections| sections.count > 1).unwrap_or_default()
    }

    fn cut(header: &BatchHeader, chunk: &[u8]) -> Option<Self> {
        let mut sections = Self::default();
        let mut walk = Walk::over(chunk.get(PREFIX_LEN..)?, Place::start(header));
        let (mut start, mut from) = (0, walk.place());
        while walk.pass().is_some() {
            let end = PREFIX_LEN + walk.place().index();
            if end - start >= SECTION_LEN || walk.place().remaining == 0 {
                sections.push(Section {
                    start: u16::try_from(start).ok()?,
                    offset: u32::try_from(from.next_offset - header.base_offset).ok()?,
                    timestamp: i32::try_from(from.timestamp.checked_sub(header.base_timestamp)?).ok()?,
                    crc: crc32c(chunk.get(start..end)?),
                })?;
                (start, from) = (end, walk.place());
            }
        }
        Some(sections)
    }

    fn push(&mut self, section: Section) -> Option<()> {
        *self.all.get_mut(usize::from(self.count))? = section;
        self.count += 1;
        Some(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn as_slice(&self) -> &[Section] {
        self.all.get(..usize::from(self.count)).unwrap_or_default()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.count);
        let mut before: Option<&Section> = None;
        for section in self.as_slice() {
            if let Some(before) = before.replace(section) {
                let length = u64::from(section.start - before.start);
                out.put_varint(length.saturating_sub(SECTION_LEN as u64));
                out.put_varint(u64::from(section.offset - before.offset));
                out.put_zigzag(i64::from(section.timestamp) - i64::from(before.timestamp));
            }
            out.put_u32(section.crc);
        }
    }

    /// Those of a chunk of `chunk_len` bytes that covers `offsets` offsets behind its first one.
    pub(crate) fn decode(reader: &mut Reader<'_>, chunk_len: usize, offsets: u64) -> Result<Self, DecodeError> {
        const TOO_FAR: DecodeError = DecodeError("a section of it is too far from the one before");
        let mut sections = Self::default();
        let mut section = Section::default();
        let count = reader.u8()?;
        for number in 0..count {
            if number > 0 {
                let length = reader.varint()?.checked_add(SECTION_LEN as u64);
                let start = length.and_then(|length| length.checked_add(section.start.into()));
                let offset = reader.varint()?.checked_add(section.offset.into());
                let timestamp = reader.zigzag()?.checked_add(section.timestamp.into());
                section.start = start.and_then(|start| start.try_into().ok()).ok_or(TOO_FAR)?;
                section.offset = offset.and_then(|offset| offset.try_into().ok()).ok_or(TOO_FAR)?;
                section.timestamp = timestamp.and_then(|timestamp| timestamp.try_into().ok()).ok_or(TOO_FAR)?;
            }
            section.crc = reader.u32()?;
            sections.push(section).ok_or(DecodeError("it has more sections than a chunk can have"))?;
        }
        let lies_within = usize::from(section.start) < chunk_len && u64::from(section.offset) <= offsets;
        if count == 1 || (count > 0 && !lies_within) {
            return Err(DecodeError("its sections are not those of its chunk"));
        }
        Ok(sections)
    }
}

/// What is known of a chunk without reading it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outline {
    pub(crate) log: LogId,
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
    /// Of its first record.
    pub(crate) base_timestamp: i64,
    pub(crate) timestamp_type: TimestampType,
    /// Bytes of the chunk.
    pub(crate) length: usize,
    pub(crate) sections: Sections,
}

/// Some sections of a chunk, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    sections: Range<usize>,
    /// Their bytes in the chunk.
    pub(crate) bytes: Range<usize>,
}

impl Outline {
    /// The sections from the one on that covers `offset`, until they have `max_bytes`; one at least. `None`: the chunk has to be
    /// read whole.
    pub(crate) fn part(&self, offset: Offset, max_bytes: usize) -> Option<Part> {
        let sections = self.sections.as_slice();
        let first = sections.partition_point(|section| self.base_of(section) <= offset).checked_sub(1)?;
        let start = self.start(first);
        let is_enough = |end: &usize| self.start(*end) >= start.saturating_add(max_bytes);
        let end = (first + 1..sections.len()).find(is_enough).unwrap_or(sections.len());
        Some(Part { sections: first..end, bytes: start..self.start(end).max(start) })
    }

    /// Each section by itself.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part> {
        let part = |number| Part { sections: number..number + 1, bytes: self.start(number)..self.start(number + 1) };
        (0..self.sections.as_slice().len()).map(part)
    }

    /// The first offset that each section covers.
    pub(crate) fn bases(self) -> impl Iterator<Item = Offset> {
        (0..self.sections.as_slice().len()).map(move |number| self.covered(&(number..number + 1)).0)
    }

    /// The offsets that a part covers, the first and the last.
    pub(crate) fn offsets(&self, part: &Part) -> (Offset, Offset) {
        self.covered(&part.sections)
    }

    /// Decodes the bytes of a part, up to the first section that is damaged. An error when that is the first one.
    pub(crate) fn decode(&self, part: &Part, mut bytes: Vec<u8>) -> Result<RecordBatch, ChunkError> {
        let start = part.bytes.start;
        let mut sound = part.sections.start..part.sections.start;
        for number in part.sections.clone() {
            let section =
                bytes.get(self.start(number).saturating_sub(start)..self.start(number + 1).saturating_sub(start));
            let crc = self.sections.as_slice().get(number).map(|section| section.crc);
            if section.map(crc32c) != crc {
                break;
            }
            sound.end = number + 1;
        }
        if sound.is_empty() {
            return Err(ChunkError::Damaged("its checksum does not match"));
        }
        let prefix = if sound.start == 0 { PREFIX_LEN } else { 0 };
        bytes.truncate(self.start(sound.end).saturating_sub(start));
        let timestamp = self.sections.as_slice().get(sound.start).map_or(0, |first| i64::from(first.timestamp));
        Ok(RecordBatch::of_middle(
            (self.log, self.timestamp_type),
            self.covered(&sound),
            self.base_timestamp.wrapping_add(timestamp),
            (bytes, prefix),
        )?)
    }

    /// Where a section begins in the chunk; behind the last one, where the chunk ends.
    fn start(&self, number: usize) -> usize {
        self.sections.as_slice().get(number).map_or(self.length, |section| usize::from(section.start))
    }

    fn covered(&self, sections: &Range<usize>) -> (Offset, Offset) {
        let base = |number: usize| self.sections.as_slice().get(number).map(|section| self.base_of(section));
        let before = |next: Offset| Offset::new(next.get().saturating_sub(1));
        (base(sections.start).unwrap_or(self.base_offset), base(sections.end).map_or(self.last_offset, before))
    }

    fn base_of(&self, section: &Section) -> Offset {
        Offset::new(self.base_offset.get().saturating_add(u64::from(section.offset)).min(Offset::MAX.get()))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::super::batch::tests::LOG;
    use super::super::{
        BatchBuilder, Chunk, ChunkRoom, ChunkWriter, Packing, Piece, RawHeader, RecordParts, decode_chunk,
    };
    use super::*;
    use crate::types::TopicId;

    const TOPIC: TopicId = TopicId::new(77);
    const BASE: u64 = 1_000;

    /// A chunk, what its row would tell of it, and its batch.
    struct Cut {
        bytes: Vec<u8>,
        outline: Outline,
        whole: RecordBatch,
    }

    impl Cut {
        /// The bytes of a part.
        fn read(&self, part: &Part) -> Vec<u8> {
            self.bytes[part.bytes.clone()].to_vec()
        }

        fn records_from(&self, offset: u64) -> Vec<Record> {
            records(&self.whole).into_iter().filter(|(other, ..)| *other >= offset).collect()
        }
    }

    type Record = (u64, i64, Vec<u8>);

    fn records(batch: &RecordBatch) -> Vec<Record> {
        let walk = batch.walk(Place::start(&batch.header));
        walk.map(|r| (r.offset.get(), r.timestamp, r.value().unwrap_or_default().to_vec())).collect()
    }

    /// The chunks of records of these timestamps and lengths, from offset [`BASE`] on. Those that are not kept leave gaps.
    fn cut(all: &[(i64, usize)], keep: impl Fn(u64) -> bool) -> Vec<Cut> {
        let mut builder = BatchBuilder::new(LOG, Offset::new(BASE), TimestampType::LogAppendTime, Vec::new());
        for (number, (timestamp, len)) in all.iter().enumerate() {
            let mut value = (number as u64).to_le_bytes().to_vec();
            value.resize(8 + len, 7);
            let headers = std::iter::empty::<RawHeader<'_>>();
            builder.push(*timestamp, &RecordParts { key: None, value: Some(&value), headers });
        }
        let mut chunks = Vec::new();
        let mut emit = |Chunk { header, bytes, sections }: Chunk<'_>| {
            let whole = decode_chunk(Piece::whole(bytes.to_vec()), TOPIC).unwrap();
            let outline = Outline {
                log: header.log,
                base_offset: header.base_offset,
                last_offset: header.last_offset,
                base_timestamp: header.base_timestamp,
                timestamp_type: header.timestamp_type,
                length: bytes.len(),
                sections,
            };
            chunks.push(Cut { bytes: bytes.to_vec(), outline, whole });
            Ok::<_, Infallible>(ChunkRoom::FULL)
        };
        let mut writer = ChunkWriter::new(Packing::plain(TOPIC));
        writer.begin_at(Offset::new(BASE));
        let Ok(()) = writer.push_kept(&builder.finish().unwrap(), |offset| keep(offset.get()), &mut emit);
        let Ok(()) = writer.flush(&mut emit);
        chunks
    }

    fn round_trip(sections: &Sections) -> Sections {
        let mut bytes = Vec::new();
        sections.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        let decoded = Sections::decode(&mut reader, MAX_CHUNK, u64::MAX).unwrap();
        assert!(reader.is_empty());
        decoded
    }

    #[test]
    fn short_and_scattered_chunks_have_none() {
        let sections = |records: &[(i64, usize)]| cut(records, |_| true)[0].outline.sections.as_slice().len();
        assert_eq!(sections(&[(0, 1_020); 3]), 0);
        assert_eq!(sections(&[(0, 60_000)]), 0);
        assert_eq!(sections(&[(0, 1_020); 8]), 2);
        assert_eq!(sections(&[(0, 1_020); 31]), 8);
        let mut records = [(0, 1_020); 8];
        records[2].0 = i64::MAX;
        assert_eq!(sections(&records), 2);
        records[3].0 = i64::MAX;
        assert_eq!(sections(&records), 0);
    }

    #[test]
    fn a_part_has_what_is_wanted_and_no_more() {
        let cut = cut(&[(0, 1_020); 31], |_| true).remove(0);
        let outline = cut.outline;
        let sections = |offset, max_bytes| outline.part(Offset::new(offset), max_bytes).unwrap().sections;
        assert_eq!(
            outline.bases().map(Offset::get).collect::<Vec<_>>(),
            [1_000, 1_004, 1_008, 1_012, 1_016, 1_020, 1_024, 1_028]
        );
        assert_eq!(sections(1_000, 0), 0..1);
        assert_eq!(sections(1_003, SECTION_LEN), 0..1);
        assert_eq!(sections(1_004, SECTION_LEN + 1_000), 1..3);
        assert_eq!(sections(1_030, usize::MAX), 7..8);
        assert_eq!(sections(1_000, usize::MAX), 0..8);
        assert_eq!(sections(1_000, outline.start(2)), 0..2);
        assert_eq!(sections(1_000, outline.start(2) + 1), 0..3);
        assert!(outline.part(Offset::new(999), 0).is_none());
    }

    #[test]
    fn sections_outside_of_their_chunk_are_none_of_it() {
        let cut = cut(&[(0, 1_020); 31], |_| true).remove(0);
        let (list, last) = (cut.outline.sections, cut.outline.start(7));
        let decode = |sections: &Sections, chunk_len, offsets| {
            let mut bytes = Vec::new();
            sections.encode(&mut bytes);
            Sections::decode(&mut Reader::new(&bytes), chunk_len, offsets)
        };
        assert_eq!(decode(&list, last + 1, 28), Ok(list));
        assert!(decode(&list, last, 28).is_err() && decode(&list, last + 1, 27).is_err());
        assert_eq!(decode(&Sections::default(), 0, 0), Ok(Sections::default()));
        assert!(decode(&Sections { count: 1, ..list }, last + 1, 28).is_err());
    }

    #[test]
    fn damage_costs_its_section() {
        let mut cut = cut(&[(5, 1_020); 31], |_| true).remove(0);
        let outline = cut.outline;
        let third = outline.part(Offset::new(1_008), 1).unwrap();
        cut.bytes[third.bytes.start + 50] ^= 1;
        let decode = |offset| {
            let part = outline.part(Offset::new(offset), usize::MAX).unwrap();
            outline
                .decode(&part, cut.read(&part))
                .map(|batch| (batch.header.base_offset.get(), batch.header.last_offset.get()))
        };
        assert_eq!(decode(1_000), Ok((1_000, 1_007)));
        assert_eq!(decode(1_005), Ok((1_004, 1_007)));
        assert!(matches!(decode(1_011), Err(ChunkError::Damaged(_))));
        assert_eq!(decode(1_012), Ok((1_012, 1_030)));
    }

    proptest! {
        #[test]
        fn each_part_has_the_records_of_the_chunk(
            all in proptest::collection::vec((-5_i64..1_000, 0_usize..2_500), 1..120),
            dropped in 0_u64..9,
            max_bytes in 0_usize..20_000,
        ) {
            for cut in cut(&all, |offset| offset % 8 >= dropped) {
                let outline = cut.outline;
                prop_assert_eq!(round_trip(&outline.sections), outline.sections);
                if outline.sections.is_empty() {
                    prop_assert!(cut.bytes.len() < SECTION_LEN + 2_600);
                    continue;
                }
                let mut from = outline.base_offset;
                let mut read = Vec::new();
                while from <= outline.last_offset {
                    let part = outline.part(from, max_bytes).unwrap();
                    let batch = outline.decode(&part, cut.read(&part)).unwrap();
                    prop_assert_eq!((batch.header.base_offset, batch.header.last_offset), outline.offsets(&part));
                    prop_assert_eq!(batch.header.base_offset, from);
                    prop_assert_eq!(batch.header.timestamp_type, TimestampType::LogAppendTime);
                    read.extend(records(&batch));
                    from = batch.header.last_offset.next();
                    // From any offset on, the section that covers it comes first.
                    let middle = outline.part(batch.header.last_offset, usize::MAX).unwrap();
                    let found = records(&outline.decode(&middle, cut.read(&middle)).unwrap());
                    prop_assert_eq!(&found, &cut.records_from(outline.offsets(&middle).0.get()));
                }
                prop_assert_eq!(read, cut.records_from(0));
            }
        }

        #[test]
        fn forged_sections_give_a_batch_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
            at in 0_usize..200,
            to: u8,
            offset in 900_u64..1_100,
        ) {
            let cut = cut(&[(0, 1_020); 31], |_| true).remove(0);
            let mut encoded = Vec::new();
            cut.outline.sections.encode(&mut encoded);
            let at = at % encoded.len();
            encoded[at] = to;
            for forged in [&bytes, &encoded] {
                let Ok(sections) = Sections::decode(&mut Reader::new(forged), MAX_CHUNK, 1_000) else { continue };
                let outline = Outline { sections, ..cut.outline };
                for part in outline.part(Offset::new(offset), 5_000).into_iter().chain(outline.parts()) {
                    let bytes = cut.bytes.get(part.bytes.clone()).unwrap_or_default();
                    if let Ok(batch) = outline.decode(&part, bytes.to_vec()) {
                        prop_assert_eq!(records(&batch).len(), batch.header.count as usize);
                    }
                }
                prop_assert_eq!(outline.bases().count(), sections.as_slice().len());
            }
        }
    }
}
