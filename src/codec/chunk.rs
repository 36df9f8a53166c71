//! A piece of the store's file: a batch behind a checksum.
//!
//! ```text
//! chunk, little-endian
//!  0  u32   CRC-32C of everything behind it
//!  4  u8    version, 1
//!  5  u8    codec           of the records: 0 plain, 1 LZ4 block, 2 Zstandard frame and zeros
//!  6  u16   zero
//!  8  u128  topic id        with the batch header's partition and base offset it tells a misplaced chunk
//! 24        batch header    its length is that of the records when they are plain
//! 84        the records
//! ```
//!
//! A chunk takes whole blocks of 4 KiB in the file, and fills [`MAX_CHUNK`] bytes of them as well as whole records can. A record
//! that is larger has a chunk of its own.
//!
//! Where records are compressed, so many are collected as should fill some blocks, going by the ratio of the chunk before: 32
//! KiB of them or, as no more than [`MAX_PLAIN`] bytes are collected, 16 or 8 KiB. If they do not get small enough, they become
//! several chunks.

use super::batch::{BatchHeader, RecordBatch};
use super::compress::{Compressor, decompress};
use super::piece::Piece;
use super::record;
use super::section::Sections;
use super::walk::{Place, Walk, WalkedRecord};
use super::{DecodeError, Reader, Writer};
use crate::checksum::crc32c;
use crate::config::CompressionType;
use crate::types::{Offset, TimestampType, TopicId};

/// The newest chunk version that this release reads, and the one it writes.
pub(crate) const CHUNK_VERSION: u8 = 1;

/// The size at which a chunk is closed, header included.
pub(crate) const MAX_CHUNK: usize = 32 << 10;

/// A partition's last chunk is rewritten together with what follows it while it is smaller than this: while its block is not full.
pub(crate) const MERGE_CHUNK: usize = 4 << 10;

/// How much is collected for a chunk that will be compressed, at most: reading one record decompresses all of its chunk.
const MAX_PLAIN: usize = 64 << 10;

/// The longest plain chunk that fits into any other one with what follows, compressed or not: also half a chunk's [`MAX_PLAIN`].
pub(crate) const MERGE_PLAIN: usize = 32_000;

const CRC_LEN: usize = 4;
const HEADER_LEN: usize = 24;
pub(super) const PREFIX_LEN: usize = HEADER_LEN + BatchHeader::LEN;

/// Why a chunk can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkError {
    /// Written by a newer release.
    Version(u8),
    /// Compressed in a way that this build is without.
    Unsupported(CompressionType),
    /// Not what was written.
    Damaged(&'static str),
}

impl From<DecodeError> for ChunkError {
    fn from(DecodeError(reason): DecodeError) -> Self {
        ChunkError::Damaged(reason)
    }
}

/// Decodes a chunk of the topic `topic`: checksum first, then version, then identity, then every record.
pub(crate) fn decode_chunk(chunk: Piece, topic: TopicId) -> Result<RecordBatch, ChunkError> {
    let (compression_type, mut reader) = open_chunk(chunk.bytes(), topic)?;
    if compression_type == CompressionType::None {
        return Ok(RecordBatch::decode_piece(chunk, HEADER_LEN)?);
    }
    let header = BatchHeader::decode(&mut reader)?;
    let records = decompress(compression_type, reader.remaining(), header.length as usize)?;
    Ok(RecordBatch::of_records(header, records)?)
}

/// Checks what lies in front of a chunk's batch header, and how its records are compressed.
fn open_chunk(bytes: &[u8], topic: TopicId) -> Result<(CompressionType, Reader<'_>), ChunkError> {
    let mut reader = Reader::new(bytes);
    if reader.u32()? != crc32c(reader.remaining()) {
        return Err(ChunkError::Damaged("its checksum does not match"));
    }
    let version = reader.u8()?;
    if version != CHUNK_VERSION {
        return Err(ChunkError::Version(version));
    }
    let compression_type =
        codec_of(reader.u8()?).ok_or(DecodeError("it has a codec that this release does not know"))?;
    if reader.array()? != [0_u8; 2] {
        return Err(ChunkError::Damaged("it has header bytes that this release does not know"));
    }
    if reader.u128()? != topic.as_u128() {
        return Err(ChunkError::Damaged("it belongs to another topic"));
    }
    Ok((compression_type, reader))
}

/// As a chunk's header says it. A further one comes with a further version of the chunk.
fn codec_number(compression_type: CompressionType) -> u8 {
    match compression_type {
        CompressionType::None => 0,
        CompressionType::Lz4 => 1,
        CompressionType::Zstd => 2,
    }
}

fn codec_of(number: u8) -> Option<CompressionType> {
    let all = [CompressionType::None, CompressionType::Lz4, CompressionType::Zstd];
    all.into_iter().find(|compression_type| codec_number(*compression_type) == number)
}

/// The checksum that a chunk carries.
pub(crate) fn chunk_crc(chunk: &[u8]) -> u32 {
    chunk.first_chunk().map_or(0, |crc| u32::from_le_bytes(*crc))
}

impl BatchHeader {
    /// Length of the chunk that holds the batch when its records are plain.
    pub(crate) fn plain_chunk_len(&self) -> usize {
        PREFIX_LEN + self.length as usize
    }
}

/// A finished chunk: what to store, and what its batch header says.
#[derive(Debug)]
pub(crate) struct Chunk<'a> {
    pub(crate) header: BatchHeader,
    pub(crate) bytes: &'a [u8],
    pub(crate) sections: Sections,
}

/// How large the next chunk may get, header included: chunks do not go over the end of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkRoom {
    /// What the segment under way has left.
    pub(crate) here: usize,
    /// What a new segment has. A record that does not fit into what is left begins one.
    pub(crate) next: usize,
}

impl ChunkRoom {
    /// No end of a segment is near.
    pub(crate) const FULL: ChunkRoom = ChunkRoom { here: MAX_CHUNK, next: MAX_CHUNK };
}

/// How chunks are written, and whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packing {
    pub(crate) topic: TopicId,
    pub(crate) compression_type: CompressionType,
}

impl Packing {
    /// Not compressed.
    pub(crate) fn plain(topic: TopicId) -> Self {
        Self { topic, compression_type: CompressionType::None }
    }
}

/// How many plain bytes are collected for each byte of a chunk, in sixteenths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stretch(usize);

impl Stretch {
    const ONE: usize = 16;
    const MOST: usize = 16 * Self::ONE;
    const NONE: Stretch = Stretch(Self::ONE);

    /// A sixteenth less than `plain` bytes took when they were `stored`: few chunks get too large.
    fn of(plain: usize, stored: usize) -> Self {
        let sixteenths = plain.saturating_mul(Self::ONE - 1) / stored.max(1);
        Self(sixteenths.clamp(Self::ONE, Self::MOST))
    }

    fn halved(self) -> Self {
        Self(self.0 / 2).max(Self::NONE)
    }

    /// How much is collected for a chunk that has `room`.
    fn apply(self, room: usize) -> usize {
        let plain = |bytes: usize| bytes.saturating_mul(self.0) / Self::ONE;
        let runs: [usize; 3] = [32 << 10, 16 << 10, 8 << 10];
        let run = runs.into_iter().find(|run| plain(*run) <= MAX_PLAIN);
        plain(room).min(run.map_or(MAX_PLAIN, plain))
    }
}

/// Packs batches into chunks, in order. Batches are copied as they are, but for the deltas of the first record of each.
#[derive(Debug)]
pub(crate) struct ChunkWriter {
    packing: Packing,
    /// The header so far, and its records behind the space for the chunk's header. `None`: nothing collected.
    header: Option<BatchHeader>,
    bytes: Vec<u8>,
    room: ChunkRoom,
    stretch: Stretch,
    compressor: Compressor,
    /// The chunk, while it is compressed.
    compressed: Vec<u8>,
    /// Where the chunk under way begins, or the next one, while records are being dropped: each chunk covers the offsets from
    /// the end of the one before. `None`: a chunk begins with its first record.
    begin: Option<Offset>,
}

impl ChunkWriter {
    pub(crate) fn new(packing: Packing) -> Self {
        Self {
            packing,
            header: None,
            bytes: Vec::new(),
            room: ChunkRoom::FULL,
            stretch: Stretch::NONE,
            compressor: Compressor::default(),
            compressed: Vec::new(),
            begin: None,
        }
    }

    /// Makes it ready for another partition. Nothing may be left in it.
    pub(crate) fn reset(&mut self, packing: Packing, room: ChunkRoom) {
        debug_assert!(self.header.is_none(), "chunks are flushed before the next partition");
        self.packing = packing;
        self.header = None;
        self.room = room;
        self.stretch = Stretch::NONE;
        self.begin = None;
    }

    /// Lets the next chunk have this room.
    pub(crate) fn set_room(&mut self, room: ChunkRoom) {
        self.room = room;
    }

    /// Lets chunks get as much smaller as one that took `stored` bytes instead of `plain`.
    pub(crate) fn expect_ratio(&mut self, plain: usize, stored: usize) {
        if self.packing.compression_type != CompressionType::None {
            self.stretch = Stretch::of(plain, stored);
        }
    }

    /// Lets the chunks from here on cover all offsets from `begin` on, whatever records are left of them.
    pub(crate) fn begin_at(&mut self, begin: Offset) {
        self.begin = Some(begin);
    }

    /// Lets the chunk under way cover the offsets up to `last`. `false`: there is none, as no record was kept.
    pub(crate) fn cover_up_to(&mut self, last: Offset) -> bool {
        match &mut self.header {
            None => false,
            Some(header) => {
                header.last_offset = header.last_offset.max(last);
                true
            }
        }
    }

    /// The timestamp of the first record of the chunk under way.
    pub(crate) fn first_timestamp(&self) -> Option<i64> {
        self.header.map(|header| header.base_timestamp)
    }

    /// Appends a batch; each chunk that gets full is given to `emit`, which says how large the next one may get.
    pub(crate) fn push<E>(
        &mut self,
        batch: &RecordBatch,
        mut emit: impl FnMut(Chunk<'_>) -> Result<ChunkRoom, E>,
    ) -> Result<(), E> {
        let fits = self.has_room_for(batch.records().len()) && self.takes(batch.header.timestamp_type);
        if fits && batch.header.is_dense() {
            let walk = batch.walk(Place::start(&batch.header));
            self.append(batch, walk, &Run::whole(&batch.header));
            return Ok(());
        }
        self.push_kept(batch, |_| true, &mut emit)
    }

    /// The same for those records of a batch whose offsets are to be kept.
    pub(crate) fn push_kept<E>(
        &mut self,
        batch: &RecordBatch,
        mut keep: impl FnMut(Offset) -> bool,
        mut emit: impl FnMut(Chunk<'_>) -> Result<ChunkRoom, E>,
    ) -> Result<(), E> {
        if !self.takes(batch.header.timestamp_type) {
            self.flush(&mut emit)?;
        }
        let mut walk = batch.walk(Place::start(&batch.header));
        let mut from = walk.clone();
        // Runs end before a record that goes, and the next one begins behind it.
        let mut kept = 0;
        while walk.place().remaining > 0 {
            let Some(record) = walk.next() else { break };
            if keep(record.offset) {
                kept += 1;
                continue;
            }
            self.push_run(batch, from, kept, &mut emit)?;
            from = walk.clone();
            kept = 0;
        }
        self.push_run(batch, from, kept, &mut emit)
    }

    /// Whether records with such timestamps go into the chunk under way: chunks never mix the types.
    fn takes(&self, timestamp_type: TimestampType) -> bool {
        self.header.is_none_or(|header| header.timestamp_type == timestamp_type)
    }

    /// Appends the `count` records from `walk` on.
    fn push_run<E>(
        &mut self,
        batch: &RecordBatch,
        mut walk: Walk<'_>,
        count: u32,
        mut emit: impl FnMut(Chunk<'_>) -> Result<ChunkRoom, E>,
    ) -> Result<(), E> {
        let behind = walk.place().remaining.saturating_sub(count);
        while walk.place().remaining > behind {
            let from = walk.clone();
            match self.fit(&mut walk, behind) {
                Some(run) => self.append(batch, from, &run),
                None => self.flush(&mut emit)?,
            }
        }
        Ok(())
    }

    /// Moves `walk` over the longest run that fits, up to where `behind` records are left. An empty chunk takes at least one
    /// record, whatever its size: if it does not fit into the segment, it is the first one of the next.
    fn fit(&mut self, walk: &mut Walk<'_>, behind: u32) -> Option<Run> {
        let start = walk.place().index();
        let mut run: Option<Run> = None;
        while walk.place().remaining > behind {
            let before = walk.clone();
            let Some(record) = walk.next() else { break };
            let end = walk.place().index();
            let first_of_all = self.header.is_none() && run.is_none();
            if !self.has_room_for(end - start) {
                if !first_of_all {
                    *walk = before;
                    return run;
                }
                self.room.here = self.room.next;
            }
            run.get_or_insert_with(|| Run::before(&record, end)).add(&record, end);
        }
        run
    }

    /// Closes the chunk under way, if there is one.
    pub(crate) fn flush<E>(&mut self, mut emit: impl FnMut(Chunk<'_>) -> Result<ChunkRoom, E>) -> Result<(), E> {
        let Some(mut header) = self.header.take() else { return Ok(()) };
        header.length = u32::try_from(self.bytes.len().saturating_sub(PREFIX_LEN)).unwrap_or(u32::MAX);
        let compression_type = self.compress();
        let plain_len = self.bytes.len();
        let most = self.most();
        let bytes = match compression_type {
            CompressionType::None => &mut self.bytes,
            _ => &mut self.compressed,
        };
        if bytes.len() > most && header.count > 1 && self.stretch > Stretch::NONE {
            return self.split(header, &mut emit);
        }
        seal(bytes, self.packing.topic, compression_type, &header);
        self.stretch = Stretch::of(plain_len, bytes.len());
        let sections = match compression_type {
            CompressionType::None => Sections::of(&header, bytes),
            _ => Sections::default(),
        };
        self.room = emit(Chunk { header, bytes, sections })?;
        self.begin = self.begin.map(|_| header.last_offset.next());
        self.bytes.clear();
        Ok(())
    }

    /// Compresses what is collected, behind the space for the chunk's header. What hardly gets smaller is read faster as it is.
    fn compress(&mut self) -> CompressionType {
        let wanted = self.packing.compression_type;
        if wanted == CompressionType::None {
            return wanted;
        }
        self.compressed.clear();
        self.compressed.resize(PREFIX_LEN, 0);
        let plain = self.bytes.get(PREFIX_LEN..).unwrap_or_default();
        let compressed = self.compressor.compress(wanted, plain, &mut self.compressed);
        let is_smaller = self.compressed.len() < self.bytes.len() - self.bytes.len() / Stretch::ONE;
        compressed.filter(|()| is_smaller).map_or(CompressionType::None, |()| wanted)
    }

    /// What is collected did not get as small as expected: it becomes several chunks. With half the stretch each time, it comes
    /// to an end.
    fn split<E>(
        &mut self,
        header: BatchHeader,
        mut emit: &mut dyn FnMut(Chunk<'_>) -> Result<ChunkRoom, E>,
    ) -> Result<(), E> {
        let batch = RecordBatch::collected(header, std::mem::take(&mut self.bytes), PREFIX_LEN);
        self.stretch = self.stretch.halved();
        self.push_kept(&batch, |_| true, &mut emit)?;
        self.cover_up_to(header.last_offset);
        self.flush(&mut emit)
    }

    /// How large the chunk under way may get.
    fn most(&self) -> usize {
        self.room.here.min(MAX_CHUNK)
    }

    /// Whether a run of `len` bytes fits behind what is collected: a new gap and delta may take 20 bytes more.
    fn has_room_for(&self, len: usize) -> bool {
        const NEW_DELTAS: usize = 20;
        let most = self.stretch.apply(self.most());
        match self.header {
            None => PREFIX_LEN + len <= most,
            Some(_) => self.bytes.len() + len + NEW_DELTAS <= most,
        }
    }

    /// Appends the run that starts where `walk` stands: the first record with new deltas, the rest as it is.
    fn append(&mut self, batch: &RecordBatch, mut walk: Walk<'_>, run: &Run) {
        let Some(first) = walk.next() else { return };
        let (gap, timestamp_delta) = match &mut self.header {
            None => {
                self.bytes.clear();
                self.bytes.resize(PREFIX_LEN, 0);
                let base_offset = self.begin.unwrap_or(first.offset);
                self.header = Some(BatchHeader {
                    base_offset,
                    last_offset: run.last_offset,
                    base_timestamp: first.timestamp,
                    last_timestamp: run.last_timestamp,
                    max_timestamp: run.max_timestamp,
                    count: run.count,
                    ..batch.header
                });
                (first.offset - base_offset, 0)
            }
            Some(header) => {
                let gap = first.offset - header.last_offset.next();
                let timestamp_delta = first.timestamp.wrapping_sub(header.last_timestamp);
                header.last_offset = run.last_offset;
                header.last_timestamp = run.last_timestamp;
                header.max_timestamp = header.max_timestamp.max(run.max_timestamp);
                header.count += run.count;
                (gap, timestamp_delta)
            }
        };
        record::encode_rebased(&mut self.bytes, gap, timestamp_delta, &first.raw);
        let rest = batch.records().get(walk.place().index()..run.end).unwrap_or_default();
        self.bytes.extend_from_slice(rest);
    }
}

/// Writes a chunk's header into the space in front of its records.
fn seal(bytes: &mut [u8], topic: TopicId, compression_type: CompressionType, header: &BatchHeader) {
    let mut prefix = Vec::with_capacity(PREFIX_LEN);
    prefix.put_u32(0);
    prefix.extend_from_slice(&[CHUNK_VERSION, codec_number(compression_type), 0, 0]);
    prefix.put_u128(topic.as_u128());
    header.encode(&mut prefix);
    if let Some(space) = bytes.get_mut(..PREFIX_LEN) {
        space.copy_from_slice(&prefix);
    }
    let crc = crc32c(bytes.get(CRC_LEN..).unwrap_or_default());
    if let Some(space) = bytes.get_mut(..CRC_LEN) {
        space.copy_from_slice(&crc.to_le_bytes());
    }
}

/// A run of a batch's records: what the header of the chunk it is copied into has to know, and where it ends.
#[derive(Debug)]
struct Run {
    last_offset: Offset,
    last_timestamp: i64,
    max_timestamp: i64,
    count: u32,
    /// Index into the batch's records of the first byte behind the run.
    end: usize,
}

impl Run {
    /// The run of all records of a batch.
    fn whole(header: &BatchHeader) -> Self {
        Self {
            last_offset: header.last_offset,
            last_timestamp: header.last_timestamp,
            max_timestamp: header.max_timestamp,
            count: header.count,
            end: header.length as usize,
        }
    }

    /// The run that ends just before its first record.
    fn before(record: &WalkedRecord<'_>, end: usize) -> Self {
        Self {
            last_offset: record.offset,
            last_timestamp: record.timestamp,
            max_timestamp: record.timestamp,
            count: 0,
            end,
        }
    }

    fn add(&mut self, record: &WalkedRecord<'_>, end: usize) {
        self.last_offset = record.offset;
        self.last_timestamp = record.timestamp;
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.count += 1;
        self.end = end;
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::{LOG, batch_of, encoded};
    use super::super::compress::tests::supported;
    use super::super::{BatchBuilder, RawHeader, RecordParts};
    use super::*;
    use proptest::prelude::*;

    const TOPIC: TopicId = TopicId::new(77);

    /// Packs batches and gives back the chunks' bytes.
    fn pack(batches: &[RecordBatch]) -> Vec<Vec<u8>> {
        pack_into(batches, ChunkRoom::FULL, |_| ChunkRoom::FULL)
    }

    fn decode(chunk: &[u8]) -> Result<RecordBatch, ChunkError> {
        decode_chunk(Piece::whole(chunk.to_vec()), TOPIC)
    }

    fn pack_by(compression_type: CompressionType, batches: &[RecordBatch]) -> Vec<Vec<u8>> {
        let packing = Packing { topic: TOPIC, compression_type };
        pack_as(packing, batches, ChunkRoom::FULL, |_| ChunkRoom::FULL)
    }

    /// The same with less room; `next` tells it behind each chunk.
    fn pack_into(batches: &[RecordBatch], room: ChunkRoom, next: impl FnMut(&Chunk<'_>) -> ChunkRoom) -> Vec<Vec<u8>> {
        pack_as(Packing::plain(TOPIC), batches, room, next)
    }

    fn pack_as(
        packing: Packing,
        batches: &[RecordBatch],
        room: ChunkRoom,
        mut next: impl FnMut(&Chunk<'_>) -> ChunkRoom,
    ) -> Vec<Vec<u8>> {
        let mut writer = ChunkWriter::new(Packing::plain(TopicId::new(0)));
        writer.reset(packing, room);
        let mut chunks = Vec::new();
        let mut emit = |chunk: Chunk<'_>| -> Result<ChunkRoom, ()> {
            chunks.push(chunk.bytes.to_vec());
            Ok(next(&chunk))
        };
        for batch in batches {
            writer.push(batch, &mut emit).unwrap();
        }
        writer.flush(&mut emit).unwrap();
        chunks
    }

    fn records(batch: &RecordBatch) -> Vec<(u64, i64, Vec<u8>)> {
        let walk = batch.walk(Place::start(&batch.header));
        walk.map(|r| (r.offset.get(), r.timestamp, r.value().unwrap_or_default().to_vec())).collect()
    }

    #[test]
    fn a_record_larger_than_a_chunk_has_one_of_its_own() {
        let mut builder = BatchBuilder::new(LOG, Offset::ZERO, TimestampType::CreateTime, Vec::new());
        for len in [10, MAX_CHUNK * 3, 10] {
            let value = vec![1; len];
            builder
                .push(0, &RecordParts { key: None, value: Some(&value), headers: std::iter::empty::<RawHeader<'_>>() });
        }
        let chunks = pack(&[builder.finish().unwrap()]);
        let counts: Vec<_> = chunks.into_iter().map(|c| decode(&c).unwrap().header.count).collect();
        assert_eq!(counts, [1, 1, 1]);
    }

    #[test]
    fn a_chunk_ends_with_its_segment_and_a_record_without_room_begins_the_next() {
        let all = pack(&[batch_of(&[1; 10])]).remove(0).len();
        let one = pack(&[batch_of(&[1])]).remove(0).len();
        let six = one + (all - one) / 9 * 5;
        let counts = |chunks: Vec<Vec<u8>>| -> Vec<u32> {
            chunks.into_iter().map(|chunk| decode(&chunk).unwrap().header.count).collect()
        };
        let room = |here, next| ChunkRoom { here, next };
        // Six fit exactly, then the segment is full, and the next one takes the rest.
        assert_eq!(counts(pack_into(&[batch_of(&[1; 10])], room(six, six), |_| room(0, six))), [6, 4]);
        assert_eq!(counts(pack_into(&[batch_of(&[1; 10])], room(six - 1, all), |_| room(0, all))), [5, 5]);
        // What is left of a segment is too little even for one: the chunk is as large as the next one allows.
        assert_eq!(counts(pack_into(&[batch_of(&[1; 10])], room(one - 1, all), |_| room(0, all))), [10]);
        // A segment that has no room for any record takes one.
        assert_eq!(counts(pack_into(&[batch_of(&[1; 3])], room(1, 1), |_| room(0, 1))), [1, 1, 1]);
    }

    #[test]
    fn chunks_never_mix_timestamp_types() {
        let mut other = BatchBuilder::new(LOG, Offset::new(13), TimestampType::LogAppendTime, Vec::new());
        other.push(9, &RecordParts { key: None, value: None, headers: std::iter::empty::<RawHeader<'_>>() });
        assert_eq!(pack(&[batch_of(&[1, 2, 3]), other.finish().unwrap()]).len(), 2);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let plain = pack(&[batch_of(&[1, 2, 3])]);
        for chunk in supported().flat_map(|by| pack_by(by, &[batch_of(&[1; 30])])).chain(plain) {
            for bit in 0..chunk.len() * 8 {
                let mut damaged = chunk.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&damaged).is_err(), "bit {bit}");
            }
        }
    }

    /// A chunk with another byte at `at`, and the right checksum.
    fn forged(chunk: &[u8], at: usize, to: u8) -> Vec<u8> {
        let mut chunk = chunk.to_vec();
        chunk[at] = to;
        let crc = crc32c(&chunk[4..]).to_le_bytes();
        chunk[..4].copy_from_slice(&crc);
        chunk
    }

    /// Records from `base` on; those of a value's size are alike, or all different when `is_random`.
    fn batch_with(base: u64, values: &[(usize, bool)]) -> RecordBatch {
        let mut builder = BatchBuilder::new(LOG, Offset::new(base), TimestampType::CreateTime, Vec::new());
        let mut seed = base;
        for (len, is_random) in values {
            let mut byte = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if *is_random { seed.to_le_bytes()[5] } else { b'x' }
            };
            let value: Vec<u8> = (0..*len).map(|_| byte()).collect();
            let headers = std::iter::empty::<RawHeader<'_>>();
            builder.push(5, &RecordParts { key: None, value: Some(&value), headers });
        }
        builder.finish().unwrap()
    }

    #[test]
    fn records_that_compress_well_share_larger_chunks_and_others_stay_as_they_are() {
        for by in supported() {
            let alike = [(100, false), (20, true)].repeat(2_500);
            let chunks = pack_by(by, &[batch_with(0, &alike)]);
            let bytes: usize = chunks.iter().map(Vec::len).sum();
            assert!(bytes < 5_000 * 60 * 2 / 3, "{by}: {bytes} bytes");
            let middle = &chunks[1..chunks.len() - 1];
            assert!(middle.iter().all(|chunk| chunk[5] == codec_number(by)), "{by}");
            let decoded: Vec<_> = middle.iter().map(|chunk| decode(chunk).unwrap()).collect();
            let plain = decoded.iter().map(|batch| batch.header.plain_chunk_len());
            assert!(plain.clone().all(|plain| (MAX_PLAIN / 2 - 200..=MAX_PLAIN).contains(&plain)), "{by}");

            let random = [(700, true); 200];
            let plain = pack(&[batch_with(0, &random)]);
            assert_eq!(pack_by(by, &[batch_with(0, &random)]), plain, "{by}");
        }
    }

    /// What was expected of the chunk before does not hold: each chunk still keeps its room.
    #[test]
    fn records_that_stop_to_compress_become_several_chunks() {
        for by in supported() {
            let batch = batch_with(0, &[vec![(1_000, false); 200], vec![(1_000, true); 200]].concat());
            let chunks = pack_by(by, std::slice::from_ref(&batch));
            assert!(chunks.iter().all(|chunk| chunk.len() <= MAX_CHUNK), "{by}");
            let decoded: Vec<_> = chunks.iter().map(|chunk| decode(chunk).unwrap()).collect();
            assert_eq!(decoded.iter().flat_map(records).collect::<Vec<_>>(), records(&batch), "{by}");
        }
    }

    #[test]
    fn a_chunk_that_covers_more_than_its_records_covers_it_compressed_and_split_too() {
        for by in supported() {
            // All of it is collected for one chunk, and gets too large for it.
            let batch = batch_with(100, &[(1_000, true); 50]);
            let mut writer = ChunkWriter::new(Packing { topic: TOPIC, compression_type: by });
            let mut chunks = Vec::new();
            let mut emit = |chunk: Chunk<'_>| -> Result<ChunkRoom, ()> {
                chunks.push(decode(chunk.bytes).unwrap().header);
                Ok(ChunkRoom::FULL)
            };
            writer.expect_ratio(4, 1);
            writer.begin_at(Offset::new(90));
            writer.push_kept(&batch, |offset| offset.get() % 9 > 1, &mut emit).unwrap();
            assert!(writer.cover_up_to(Offset::new(600)));
            writer.flush(&mut emit).unwrap();
            assert!(chunks.len() > 1, "{by}");
            let mut next = Offset::new(90);
            for header in chunks {
                assert_eq!(header.base_offset, next, "{by}");
                next = header.last_offset.next();
            }
            assert_eq!(next, 601, "{by}");
        }
    }

    #[test]
    fn a_codec_that_is_unknown_or_not_in_this_build_is_told() {
        let chunk = pack(&[batch_of(&[1])]).remove(0);
        assert!(matches!(decode(&forged(&chunk, 5, 3)), Err(ChunkError::Damaged(_))));
        for by in [CompressionType::Lz4, CompressionType::Zstd] {
            let error = decode(&forged(&chunk, 5, codec_number(by))).unwrap_err();
            assert_eq!(error == ChunkError::Unsupported(by), !by.is_supported(), "{by}: {error:?}");
        }
    }

    #[test]
    fn a_newer_version_and_another_topic_are_told_apart_from_damage() {
        let chunk = pack(&[batch_of(&[1])]).remove(0);
        assert!(matches!(decode_chunk(Piece::whole(chunk.clone()), TopicId::new(5)), Err(ChunkError::Damaged(_))));
        assert_eq!(decode(&forged(&chunk, 4, 2)).unwrap_err(), ChunkError::Version(2));
    }

    proptest! {
        #[test]
        fn packing_keeps_every_record(sizes in proptest::collection::vec(1_usize..1_500, 1..12), gap in 0_u64..5) {
            let mut base = 10;
            let mut batches = Vec::new();
            for size in sizes {
                let timestamps: Vec<i64> = (0..size as i64).map(|i| i * i % 1_000).collect();
                let mut batch = batch_of(&timestamps);
                batch.header.last_offset = Offset::new(base + size as u64 - 1);
                batch.header.base_offset = Offset::new(base);
                batches.push(RecordBatch::decode(encoded(&batch), 0).unwrap());
                base += size as u64 + gap;
            }
            let expected: Vec<_> = batches.iter().flat_map(records).collect();
            let chunks = pack(&batches);
            prop_assert!(chunks.iter().all(|chunk| chunk.len() <= MAX_CHUNK));
            let chunks: Vec<_> = chunks.into_iter().map(|chunk| decode(&chunk).unwrap()).collect();
            prop_assert_eq!(chunks.iter().flat_map(records).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn every_offset_of_a_chunk_is_found_whatever_was_dropped(count in 1_usize..400, dropped in 0_u64..8, from in 0_u64..400) {
            let batch = batch_with(0, &vec![(3, false); count]);
            let mut writer = ChunkWriter::new(Packing::plain(TOPIC));
            let mut chunks = Vec::new();
            let mut emit = |chunk: Chunk<'_>| -> Result<ChunkRoom, ()> {
                chunks.push(decode(chunk.bytes).unwrap());
                Ok(ChunkRoom::FULL)
            };
            writer.push_kept(&batch, |offset| offset.get() % 8 >= dropped && offset.get() >= from, &mut emit).unwrap();
            writer.cover_up_to(Offset::new(500));
            writer.flush(&mut emit).unwrap();
            for batch in &chunks {
                let all = records(batch);
                for offset in batch.header.base_offset.get()..=501 {
                    let left = all.iter().filter(|(other, ..)| *other >= offset).count();
                    let place = batch.find(Offset::new(offset));
                    let found = place.map_or(0, |place| batch.walk(place).count());
                    prop_assert_eq!(found, left, "{}", offset);
                    prop_assert_eq!(place.map_or(0, |place| place.remaining as usize), left, "{}", offset);
                    let alone = batch.pick(Offset::new(offset)).map(|alone| records(&alone));
                    prop_assert_eq!(alone, all.iter().find(|(other, ..)| *other >= offset).map(|found| vec![found.clone()]));
                }
            }
        }

        #[test]
        fn compressed_chunks_keep_every_record_and_their_room(
            values in proptest::collection::vec((0_usize..3_000, any::<bool>()), 1..150),
            segment in 1_usize..100_000,
            ratio in 1_usize..6,
        ) {
            let batches: Vec<_> = (0..).step_by(10).zip(values.chunks(10)).map(|(base, some)| batch_with(base, some)).collect();
            let expected: Vec<_> = batches.iter().flat_map(records).collect();
            for compression_type in supported() {
                let mut left = segment;
                let room = |left| ChunkRoom { here: left, next: segment };
                let packing = Packing { topic: TOPIC, compression_type };
                let mut writer = ChunkWriter::new(packing);
                writer.reset(packing, room(left));
                writer.expect_ratio(ratio, 1);
                let mut chunks = Vec::new();
                let mut emit = |chunk: Chunk<'_>| -> Result<ChunkRoom, ()> {
                    let len = chunk.bytes.len();
                    assert!(chunk.header.count == 1 || len <= MAX_CHUNK.min(segment), "{len} of {segment}");
                    left = if len <= left { left - len } else { segment.saturating_sub(len) };
                    chunks.push(decode(chunk.bytes).unwrap());
                    Ok(room(left))
                };
                batches.iter().for_each(|batch| writer.push(batch, &mut emit).unwrap());
                writer.flush(&mut emit).unwrap();
                prop_assert_eq!(chunks.iter().flat_map(records).collect::<Vec<_>>(), expected.clone());
            }
        }

        #[test]
        fn a_forged_chunk_gives_a_value_or_an_error(at in 4_usize..400, to: u8, times in 1_usize..60) {
            for by in supported() {
                let chunk = pack_by(by, &[batch_of(&vec![3; times])]).remove(0);
                if let Ok(batch) = decode(&forged(&chunk, at % (chunk.len() - 4) + 4, to)) {
                    prop_assert_eq!(records(&batch).len(), batch.header.count as usize);
                }
            }
        }
    }
}
