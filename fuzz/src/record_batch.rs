//! Any bytes as a record batch, and as the chunk that holds it.
//!
//! Strategy: the input is a batch, header and records. The harness writes the chunk's header and checksum in front of it, and
//! if the input asks for it the batch's own length, so that what lies behind these is reached. Both decoders have to agree.
//! What they accept is walked, looked up and packed again, plain and compressed, alone and together with a copy that follows it,
//! and has to come back the same. If the input asks for it, what lies behind the batch's header is taken as compressed: it
//! may be anything, and gives records or an error.

use brooklet::CompressionType;
use brooklet::fuzzing::{self, Record};

use super::bytes::Bytes;

const TOPIC: u128 = 0x0123_4567_89ab_cdef;

const BASE_OFFSET: usize = 8;
const LAST_OFFSET: usize = 16;
const LENGTH: usize = 52;
const HEADER_LEN: usize = 60;

/// The size at which a chunk is closed; one record alone may be larger.
const MAX_CHUNK: usize = 32 << 10;

pub fn run(input: &[u8]) {
    let mut input = Bytes::new(input);
    let choices = input.byte();
    let (fix_length, codec) = (choices & 1 == 1, choices / 2 % 3);
    let mut batch = input.take(usize::MAX).to_vec();
    if fix_length && batch.len() >= HEADER_LEN {
        let length = u32::try_from(batch.len() - HEADER_LEN).unwrap();
        batch[LENGTH..LENGTH + 4].copy_from_slice(&length.to_le_bytes());
    }
    if codec > 0 {
        let records = fuzzing::read_chunk(&chunk_of(&batch, codec), TOPIC);
        assert!(records.is_err() || records.is_ok_and(|records| !records.is_empty()));
        return;
    }
    let records = fuzzing::read_batch(&batch);
    let from_chunk = fuzzing::read_chunk(&chunk_of(&batch, codec), TOPIC);
    assert_eq!(records.as_ref().ok(), from_chunk.as_ref().ok(), "the chunk holds the same as the batch");
    let Ok(records) = records else { return };

    assert!(!records.is_empty());
    assert!(records.windows(2).all(|pair| pair[0].offset < pair[1].offset));
    // A lookup walks from the start: all of many records would take long.
    for record in records.iter().take(64) {
        assert_eq!(fuzzing::find(&batch, record.offset), Some(record.offset));
    }
    repacked(&[&batch], &records);
    // What it covers, which may be more than its records.
    let offset_at = |at: usize| u64::from_le_bytes(batch[at..at + 8].try_into().unwrap());
    let (first, last) = (offset_at(BASE_OFFSET), offset_at(LAST_OFFSET));
    assert!(first <= records[0].offset && records[records.len() - 1].offset <= last);
    if let Some(distance) = (last + 1).checked_sub(first).filter(|distance| last + distance <= i64::MAX as u64) {
        let mut next = batch.clone();
        next[BASE_OFFSET..LAST_OFFSET].copy_from_slice(&(first + distance).to_le_bytes());
        next[LAST_OFFSET..LAST_OFFSET + 8].copy_from_slice(&(last + distance).to_le_bytes());
        let later = records.iter().map(|record| Record { offset: record.offset + distance, ..record.clone() });
        let both: Vec<_> = records.iter().cloned().chain(later).collect();
        repacked(&[&batch, &next], &both);
    }
}

fn repacked(batches: &[&[u8]], expected: &[Record]) {
    for compression_type in [CompressionType::None, CompressionType::Lz4, CompressionType::Zstd] {
        let mut records = Vec::new();
        for chunk in fuzzing::pack(batches, TOPIC, compression_type).unwrap() {
            let some = fuzzing::read_chunk(&chunk, TOPIC).unwrap();
            assert!(chunk.len() <= MAX_CHUNK || some.len() == 1, "{} records in {} bytes", some.len(), chunk.len());
            records.extend(some);
        }
        assert_eq!(records, expected, "{compression_type}");
    }
}

/// The batch as a chunk: checksum, version and topic are right.
fn chunk_of(batch: &[u8], codec: u8) -> Vec<u8> {
    let mut covered = vec![1, codec, 0, 0];
    covered.extend_from_slice(&TOPIC.to_le_bytes());
    covered.extend_from_slice(batch);
    let mut chunk = crc_fast::crc32_iscsi(&covered).to_le_bytes().to_vec();
    chunk.append(&mut covered);
    chunk
}
