//! What a journal frame carries: entries, one behind the other.
//!
//! ```text
//! entry   kind   u8    1: append; 2 to 5: of a group; others are reserved
//!         append: batch header and its records
//!         of a group: see the module `group`
//! ```

use super::batch::{BatchHeader, RecordBatch};
use super::group::{GroupEntry, decode_group_entry};
use super::{DecodeError, Reader};

const APPEND: u8 = 1;

/// One acknowledged change.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Records were appended to a partition.
    Append(RecordBatch),
    /// A consumer group changed.
    Group(GroupEntry),
}

/// How many bytes [`encode_append`] writes for records of `records_len` bytes.
pub(crate) const fn append_entry_len(records_len: usize) -> usize {
    1 + BatchHeader::LEN + records_len
}

/// Appends an entry for a batch to `out`.
#[inline]
pub(crate) fn encode_append(out: &mut Vec<u8>, batch: &RecordBatch) {
    out.push(APPEND);
    batch.header.encode(out);
    out.extend_from_slice(batch.records());
}

/// Decodes all entries of a frame.
pub(crate) fn decode_entries(payload: &[u8]) -> Result<Vec<Entry>, DecodeError> {
    let mut reader = Reader::new(payload);
    let mut entries = Vec::new();
    while !reader.is_empty() {
        entries.push(decode_entry(&mut reader)?);
    }
    Ok(entries)
}

fn decode_entry(reader: &mut Reader<'_>) -> Result<Entry, DecodeError> {
    match reader.u8()? {
        APPEND => {
            let header = BatchHeader::decode(&mut reader.clone())?;
            let batch = reader.take(BatchHeader::LEN + header.length as usize)?;
            Ok(Entry::Append(RecordBatch::decode(batch.to_vec(), 0)?))
        }
        kind => match decode_group_entry(kind, reader) {
            Some(entry) => Ok(Entry::Group(entry?)),
            None => Err(DecodeError("a frame has an entry of a kind that this release does not know")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::batch_of;
    use super::super::group::{GroupChange, encode_group_entry};
    use super::*;
    use crate::group::GroupName;
    use proptest::prelude::*;

    #[test]
    fn entries_come_back_in_order() {
        let batches = [batch_of(&[1]), batch_of(&[2, 3])];
        let mut payload = Vec::new();
        for batch in &batches {
            let before = payload.len();
            encode_append(&mut payload, batch);
            assert_eq!(payload.len() - before, append_entry_len(batch.records().len()));
        }
        let deleted = GroupEntry { group: GroupName::new("g").unwrap(), change: GroupChange::Delete };
        encode_group_entry(&mut payload, &deleted);
        let decoded = decode_entries(&payload).unwrap();
        let [Entry::Append(first), Entry::Append(second), Entry::Group(group)] = &decoded[..] else {
            panic!("{decoded:?}");
        };
        assert_eq!([first.header, second.header], batches.map(|batch| batch.header));
        assert_eq!(*group, deleted);
    }

    #[test]
    fn an_unknown_kind_is_an_error() {
        assert!(decode_entries(&[9, 0, 0]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_entries_or_an_error(payload: Vec<u8>) {
            let _ = decode_entries(&payload);
        }
    }
}
