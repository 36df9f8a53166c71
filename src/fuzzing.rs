//! What the fuzz targets need of the decoders, which are private. Not part of the API: it is there when built with
//! `--cfg fuzzing`, and for this crate's own tests.

use std::convert::Infallible;
use std::path::Path;

use crate::codec::{
    ChunkError, ChunkRoom, ChunkWriter, DecodeError, Entry, Mark, Packing, Piece, Place, RecordBatch, decode_chunk,
    decode_entries,
};
use crate::config::CompressionType;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::journal::{self, AppendError, Frame, Journal};
use crate::types::{Offset, StoreId, TopicId};

/// A record, copied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are a record's own words")]
pub struct Record {
    pub offset: u64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Reads a batch, header and records.
///
/// # Errors
///
/// What is wrong with it.
pub fn read_batch(bytes: &[u8]) -> Result<Vec<Record>, &'static str> {
    decode_batch(bytes).map(|batch| records_of(&batch))
}

/// The offset of the batch's first record at or behind `offset`.
pub fn find(bytes: &[u8], offset: u64) -> Option<u64> {
    let batch = decode_batch(bytes).ok()?;
    let place = batch.find(Offset::new(offset))?;
    batch.walk(place).next().map(|record| record.offset.get())
}

/// Reads a chunk of a topic.
///
/// # Errors
///
/// What is wrong with it.
pub fn read_chunk(bytes: &[u8], topic: u128) -> Result<Vec<Record>, &'static str> {
    let topic = TopicId::new(topic);
    match decode_chunk(Piece::whole(bytes.to_vec()), topic) {
        Ok(batch) => {
            let last = batch.walk(Place::start(&batch.header)).last().map(|record| record.offset);
            let found = last.and_then(|last| batch.pick(last));
            assert_eq!(found.map(|found| found.header.base_offset), last, "the last record is found by itself");
            Ok(records_of(&batch))
        }
        Err(ChunkError::Damaged(reason)) => Err(reason),
        Err(ChunkError::Unsupported(_)) => Err("it is compressed in another way"),
        Err(ChunkError::Version(_)) => Err("it has another version"),
    }
}

/// Packs batches of one partition into chunks.
///
/// # Errors
///
/// What is wrong with a batch.
pub fn pack(batches: &[&[u8]], topic: u128, compression_type: CompressionType) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut writer = ChunkWriter::new(Packing { topic: TopicId::new(topic), compression_type });
    let mut chunks = Vec::new();
    let mut emit = |chunk: crate::codec::Chunk<'_>| {
        chunks.push(chunk.bytes.to_vec());
        Ok::<_, Infallible>(ChunkRoom::FULL)
    };
    for batch in batches {
        let Ok(()) = writer.push(&decode_batch(batch)?, &mut emit);
    }
    let Ok(()) = writer.flush(&mut emit);
    Ok(chunks)
}

/// Reads what a frame carries: the records of each append.
///
/// # Errors
///
/// What is wrong with it.
pub fn read_entries(payload: &[u8]) -> Result<Vec<Vec<Record>>, &'static str> {
    let entries = decode_entries(payload).map_err(|DecodeError(reason)| reason)?;
    let records = |entry: &Entry| match entry {
        Entry::Append(batch) => Some(records_of(batch)),
        Entry::Group(_) => None,
    };
    Ok(entries.iter().filter_map(records).collect())
}

/// Writes a journal whose first frame begins at `start`, a multiple of 8, with a frame for each payload while there is room,
/// as if every third one had been waited for. Gives how many there are.
///
/// # Errors
///
/// Those of the disk.
pub fn write_journal(
    disk: &dyn Disk,
    path: &Path,
    capacity: u64,
    start: u64,
    payloads: &[Vec<u8>],
) -> Result<usize, Error> {
    let mut journal = Journal::create(disk, path, STORE, capacity, first(start))?;
    let mut frame = Frame::new();
    for (written, payload) in payloads.iter().enumerate() {
        frame.clear();
        frame.payload_mut().extend_from_slice(payload);
        if Journal::frame_len(payload.len()) > journal.free() {
            return Ok(written);
        }
        let sequence = journal.end().sequence;
        match journal.append(&mut frame, sequence - sequence % 3) {
            Ok(()) => {}
            Err(AppendError::Nothing(error) | AppendError::Unknown(error)) => return Err(error),
        }
    }
    Ok(payloads.len())
}

/// Reads such a journal as recovery does.
///
/// # Errors
///
/// What is wrong with it.
pub fn replay(disk: &dyn Disk, path: &Path, start: u64) -> Result<Vec<Vec<u8>>, Error> {
    let mut payloads = Vec::new();
    journal::replay(disk, path, STORE, &first(start), &mut |payload| {
        payloads.push(payload.to_vec());
        Ok(())
    })?;
    Ok(payloads)
}

const STORE: StoreId = StoreId(5);

fn first(position: u64) -> Mark {
    Mark { salt: 0x5a17_5a17_5a17_5a17, sequence: 1, position, chain: 0 }
}

fn decode_batch(bytes: &[u8]) -> Result<RecordBatch, &'static str> {
    RecordBatch::decode(bytes.to_vec(), 0).map_err(|DecodeError(reason)| reason)
}

fn records_of(batch: &RecordBatch) -> Vec<Record> {
    let walk = batch.walk(Place::start(&batch.header));
    let record = walk.map(|record| Record {
        offset: record.offset.get(),
        timestamp: record.timestamp,
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: record.headers().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect(),
    });
    record.collect()
}

#[cfg(test)]
mod tests;
