//! One record as bytes.
//!
//! ```text
//! record    flags      u8       bit 0 gap, 1 timestamp, 2 key, 3 value, 4 headers; the others are zero
//!           gap        varint   offsets left out between the record before and this one      if bit 0
//!           timestamp  zigzag   milliseconds since the record before                         if bit 1
//!           key        varint   length, then the bytes                                       if bit 2
//!           value      varint   length, then the bytes                                       if bit 3
//!           headers    varint   length in bytes of what follows, then each header            if bit 4
//!
//! header    name       varint   length, then UTF-8
//!           value      varint   0: absent; else length + 1, then the bytes
//! ```
//!
//! An absent key or value has no bit; an empty one has its bit and length 0 (R-2). Both deltas are against the record
//! before in the same run, so runs can be joined by copying all but the first record's deltas.

use super::varint;
use super::{DecodeError, Reader, Writer};

const GAP: u8 = 1 << 0;
const TIMESTAMP: u8 = 1 << 1;
const KEY: u8 = 1 << 2;
const VALUE: u8 = 1 << 3;
const HEADERS: u8 = 1 << 4;
const KNOWN: u8 = GAP | TIMESTAMP | KEY | VALUE | HEADERS;

/// What a record consists of, apart from its place in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordParts<'a, H> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    /// The headers in order, duplicates kept (R-3); iterated three times, so cheap to clone.
    pub(crate) headers: H,
}

/// One header, borrowed from the bytes it was decoded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawHeader<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: Option<&'a [u8]>,
}

/// One decoded record: slices of the run it lies in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawRecord<'a> {
    /// Offsets left out between the record before and this one.
    pub(super) gap: u64,
    /// Milliseconds since the record before.
    pub(super) timestamp_delta: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: HeaderIter<'a>,
    /// The flags without those of the deltas, and the bytes behind the deltas: what joining runs copies as it is.
    pub(super) body_flags: u8,
    pub(super) body: &'a [u8],
}

/// Appends a record to `out`. `gap` and `timestamp_delta` are against the record before it in the run.
#[inline]
pub(super) fn encode<'a, H>(out: &mut Vec<u8>, gap: u64, timestamp_delta: i64, parts: &RecordParts<'a, H>)
where
    H: Iterator<Item = RawHeader<'a>> + Clone,
{
    let headers_len = headers_len(parts.headers.clone());
    let mut flags = 0;
    flags |= if parts.key.is_some() { KEY } else { 0 };
    flags |= if parts.value.is_some() { VALUE } else { 0 };
    flags |= if headers_len > 0 { HEADERS } else { 0 };
    encode_deltas(out, flags, gap, timestamp_delta);
    if let Some(key) = parts.key {
        out.put_sized(key);
    }
    if let Some(value) = parts.value {
        out.put_sized(value);
    }
    if headers_len > 0 {
        out.put_varint(headers_len as u64);
        parts.headers.clone().for_each(|header| encode_header(out, &header));
    }
}

/// Appends a decoded record with other deltas: how the first record of a run is joined to another run.
pub(super) fn encode_rebased(out: &mut Vec<u8>, gap: u64, timestamp_delta: i64, record: &RawRecord<'_>) {
    encode_deltas(out, record.body_flags, gap, timestamp_delta);
    out.extend_from_slice(record.body);
}

/// Appends a run of records whose first one gets this timestamp delta instead of its own.
#[inline]
pub(super) fn append_run(out: &mut Vec<u8>, timestamp_delta: i64, records: &[u8]) -> Result<(), DecodeError> {
    let mut reader = Reader::new(records);
    let (flags, gap, _) = decode_front(&mut reader)?;
    encode_deltas(out, flags & !(GAP | TIMESTAMP), gap, timestamp_delta);
    out.extend_from_slice(reader.remaining());
    Ok(())
}

/// Takes the timestamp delta from the first record of a run, in place. Gives where the run begins then.
pub(super) fn drop_timestamp_delta(run: &mut [u8]) -> Result<usize, DecodeError> {
    let mut reader = Reader::new(run);
    let (flags, gap, _) = decode_front(&mut reader)?;
    let body = run.len() - reader.remaining().len();
    let mut front = Vec::with_capacity(MAX_DELTAS);
    encode_deltas(&mut front, flags & !(GAP | TIMESTAMP), gap, 0);
    // It does not get longer.
    let start = body.saturating_sub(front.len());
    run.iter_mut().skip(start).zip(front).for_each(|(byte, new)| *byte = new);
    Ok(start)
}

/// The most bytes that flags and deltas take.
pub(super) const MAX_DELTAS: usize = 1 + 10 + 10;

/// The most bytes that a record with these parts can take, whatever its deltas.
#[inline]
pub(crate) fn encoded_len<'a, H>(parts: &RecordParts<'a, H>) -> usize
where
    H: Iterator<Item = RawHeader<'a>> + Clone,
{
    let sized = |bytes: &[u8]| varint::len(bytes.len() as u64) + bytes.len();
    let headers = headers_len(parts.headers.clone());
    let headers = if headers > 0 { varint::len(headers as u64) + headers } else { 0 };
    MAX_DELTAS + parts.key.map_or(0, sized) + parts.value.map_or(0, sized) + headers
}

#[inline]
fn encode_deltas(out: &mut Vec<u8>, body_flags: u8, gap: u64, timestamp_delta: i64) {
    let gap_flag = if gap != 0 { GAP } else { 0 };
    let timestamp_flag = if timestamp_delta != 0 { TIMESTAMP } else { 0 };
    out.push(body_flags | gap_flag | timestamp_flag);
    if gap != 0 {
        out.put_varint(gap);
    }
    if timestamp_delta != 0 {
        out.put_zigzag(timestamp_delta);
    }
}

fn encode_header(out: &mut Vec<u8>, header: &RawHeader<'_>) {
    out.put_sized(header.key.as_bytes());
    match header.value {
        None => out.put_varint(0),
        Some(value) => {
            out.put_varint(value.len() as u64 + 1);
            out.extend_from_slice(value);
        }
    }
}

fn headers_len<'a>(headers: impl Iterator<Item = RawHeader<'a>>) -> usize {
    headers
        .map(|header| {
            let key = header.key.len();
            let value = header.value.map_or(1, |value| varint::len(value.len() as u64 + 1) + value.len());
            varint::len(key as u64) + key + value
        })
        .sum()
}

/// Decodes the record at the front of `reader`. Headers are found but not looked into: see [`HeaderIter::validate`].
#[inline(always)]
pub(super) fn decode<'a>(reader: &mut Reader<'a>) -> Result<RawRecord<'a>, DecodeError> {
    let (flags, gap, timestamp_delta) = decode_front(reader)?;
    let before_body = reader.remaining();
    let key = if flags & KEY != 0 { Some(reader.sized()?) } else { None };
    let value = if flags & VALUE != 0 { Some(reader.sized()?) } else { None };
    let headers = HeaderIter { reader: Reader::new(if flags & HEADERS != 0 { reader.sized()? } else { &[] }) };
    let body_len = before_body.len().saturating_sub(reader.remaining().len());
    let body = before_body.get(..body_len).unwrap_or_default();
    Ok(RawRecord { gap, timestamp_delta, key, value, headers, body_flags: flags & !(GAP | TIMESTAMP), body })
}

/// What [`skip`] tells of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Skipped<'a> {
    pub(super) gap: u64,
    pub(super) timestamp_delta: i64,
    pub(super) headers: HeaderIter<'a>,
}

/// Goes past the record at the front of `reader`: what [`decode`] accepts and nothing else.
#[inline(always)]
pub(super) fn skip<'a>(reader: &mut Reader<'a>) -> Result<Skipped<'a>, DecodeError> {
    let (flags, gap, timestamp_delta) = decode_front(reader)?;
    if flags & KEY != 0 {
        reader.sized()?;
    }
    if flags & VALUE != 0 {
        reader.sized()?;
    }
    let headers = if flags & HEADERS != 0 { reader.sized()? } else { &[] };
    Ok(Skipped { gap, timestamp_delta, headers: HeaderIter { reader: Reader::new(headers) } })
}

/// Decodes the flags and the deltas.
#[inline(always)]
fn decode_front(reader: &mut Reader<'_>) -> Result<(u8, u64, i64), DecodeError> {
    let flags = reader.u8()?;
    if flags & !KNOWN != 0 {
        return Err(DecodeError("a record has flags that this release does not know"));
    }
    let gap = if flags & GAP != 0 { reader.varint()? } else { 0 };
    let timestamp_delta = if flags & TIMESTAMP != 0 { reader.zigzag()? } else { 0 };
    Ok((flags, gap, timestamp_delta))
}

/// Walks the headers of a record, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderIter<'a> {
    reader: Reader<'a>,
}

impl<'a> HeaderIter<'a> {
    /// Checks every header, so that walking them later can't meet damage.
    pub(super) fn validate(mut self) -> Result<(), DecodeError> {
        while !self.reader.is_empty() {
            self.decode_next()?;
        }
        Ok(())
    }

    fn decode_next(&mut self) -> Result<RawHeader<'a>, DecodeError> {
        let key = self.reader.sized()?;
        let key = std::str::from_utf8(key).map_err(|_| DecodeError("a header's name is not UTF-8"))?;
        let value = match self.reader.varint()?.checked_sub(1) {
            None => None,
            Some(len) => {
                let len = usize::try_from(len).map_err(|_| DecodeError("a length points past the end"))?;
                Some(self.reader.take(len)?)
            }
        };
        Ok(RawHeader { key, value })
    }
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = RawHeader<'a>;

    /// Ends at damage; [`validate`](HeaderIter::validate) has seen to it that there is none.
    fn next(&mut self) -> Option<RawHeader<'a>> {
        if self.reader.is_empty() {
            return None;
        }
        self.decode_next().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type OwnedHeader = (String, Option<Vec<u8>>);

    fn borrowed(headers: &[OwnedHeader]) -> Vec<RawHeader<'_>> {
        headers.iter().map(|(key, value)| RawHeader { key, value: value.as_deref() }).collect()
    }

    proptest! {
        #[test]
        fn every_record_comes_back(
            gap: u64,
            timestamp_delta: i64,
            key: Option<Vec<u8>>,
            value: Option<Vec<u8>>,
            headers: Vec<OwnedHeader>,
        ) {
            let headers = borrowed(&headers);
            let parts = RecordParts { key: key.as_deref(), value: value.as_deref(), headers: headers.iter().copied() };
            let mut bytes = Vec::new();
            encode(&mut bytes, gap, timestamp_delta, &parts);
            prop_assert!(bytes.len() <= encoded_len(&parts));

            let mut reader = Reader::new(&bytes);
            let record = decode(&mut reader).unwrap();
            prop_assert!(reader.is_empty());
            prop_assert_eq!((record.gap, record.timestamp_delta), (gap, timestamp_delta));
            prop_assert_eq!((record.key, record.value), (key.as_deref(), value.as_deref()));
            prop_assert_eq!(record.headers.validate(), Ok(()));
            prop_assert_eq!(record.headers.collect::<Vec<_>>(), headers);

            let mut rebased = Vec::new();
            encode_rebased(&mut rebased, 3, -4, &record);
            let record = decode(&mut Reader::new(&rebased)).unwrap();
            prop_assert_eq!((record.gap, record.timestamp_delta, record.value), (3, -4, value.as_deref()));

            let mut run = Vec::new();
            prop_assert!(append_run(&mut run, 9, &[bytes.as_slice(), &rebased].concat()).is_ok());
            let mut reader = Reader::new(&run);
            let (first, second) = (decode(&mut reader).unwrap(), decode(&mut reader).unwrap());
            prop_assert_eq!((first.gap, first.timestamp_delta, first.value), (gap, 9, value.as_deref()));
            prop_assert_eq!((second.gap, second.timestamp_delta, reader.is_empty()), (3, -4, true));
        }

        #[test]
        fn any_bytes_give_a_record_or_an_error(bytes: Vec<u8>) {
            let (mut decoding, mut skipping) = (Reader::new(&bytes), Reader::new(&bytes));
            let (decoded, skipped) = (decode(&mut decoding), skip(&mut skipping));
            let deltas = decoded.map(|record| (record.gap, record.timestamp_delta));
            prop_assert_eq!(skipped.map(|record| (record.gap, record.timestamp_delta)), deltas);
            prop_assert_eq!(skipping.remaining(), decoding.remaining());
            if let Ok(record) = decoded {
                let _ = record.headers.validate();
                prop_assert!(record.headers.count() <= bytes.len());
            }
            let (mut run, mut in_place) = (Vec::new(), bytes.clone());
            let appended = append_run(&mut run, 0, &bytes).map(|()| run);
            let dropped = drop_timestamp_delta(&mut in_place);
            prop_assert_eq!(dropped.map(|start| in_place[start..].to_vec()), appended);
        }
    }

    #[test]
    fn a_plain_record_costs_two_bytes_more_than_its_value() {
        let parts = RecordParts { key: None, value: Some(&[7; 100]), headers: std::iter::empty() };
        let mut bytes = Vec::new();
        encode(&mut bytes, 0, 0, &parts);
        assert_eq!(bytes.len(), 102);
    }
}
