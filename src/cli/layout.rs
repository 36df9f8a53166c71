//! A record as text: which of its parts are written, and what stands between them.

use std::io::{self, Write};

use brooklet::ConsumerRecord;
use clap::ValueEnum;

use super::escape::{Escaping, unescape};

/// A part of a record that can be written before its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Part {
    // In the order in which Kafka's console consumer writes them.
    Timestamp,
    Partition,
    Offset,
    Headers,
    Key,
}

/// How records are written.
#[derive(Debug)]
pub(super) struct Layout {
    pieces: Vec<Piece>,
    /// What stands for an absent key or value.
    absent: &'static [u8],
    /// What stands for no headers at all.
    no_headers: &'static [u8],
    /// What stands between a header's name and its value.
    header_sign: &'static [u8],
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    TimestampType,
    Key,
    KeySize,
    Value,
    ValueSize,
    Headers,
}

impl Layout {
    /// A line for each record, as Kafka's console consumer writes it: the parts in its order, then the value.
    pub(super) fn line(parts: &[Part], separator: &[u8]) -> Self {
        let text = |text: &str| Piece::Text(text.as_bytes().to_vec());
        let mut parts = parts.to_vec();
        parts.sort_unstable();
        parts.dedup();
        let mut pieces = Vec::new();
        for part in parts {
            match part {
                Part::Timestamp => pieces.extend([Piece::TimestampType, text(":"), Piece::Timestamp]),
                Part::Partition => pieces.extend([text("Partition:"), Piece::Partition]),
                Part::Offset => pieces.extend([text("Offset:"), Piece::Offset]),
                Part::Headers => pieces.push(Piece::Headers),
                Part::Key => pieces.push(Piece::Key),
            }
            pieces.push(Piece::Text(separator.to_vec()));
        }
        pieces.extend([Piece::Value, text("\n")]);
        Self { pieces, absent: b"null", no_headers: b"NO_HEADERS", header_sign: b":" }
    }

    /// kcat's format: `%k` and the like, and escapes such as `\n`, which has to be given.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn parse(format: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut split = format.split('%');
        push_text(&mut pieces, split.next().unwrap_or_default())?;
        while let Some(rest) = split.next() {
            let mut chars = rest.chars();
            match chars.next() {
                Some(letter) => {
                    pieces.push(piece_of(letter)?);
                    push_text(&mut pieces, chars.as_str())?;
                }
                // `%%` leaves nothing between the two, and the text behind the second one is the next in turn.
                None => {
                    let behind = split.next().ok_or("a single `%` ends it: `%%` stands for a percent sign")?;
                    pieces.push(Piece::Text(b"%".to_vec()));
                    push_text(&mut pieces, behind)?;
                }
            }
        }
        Ok(Self { pieces, absent: b"", no_headers: b"", header_sign: b"=" })
    }

    pub(super) fn write(
        &self,
        out: &mut impl Write,
        record: &ConsumerRecord<'_>,
        escaping: Escaping,
    ) -> io::Result<()> {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.write_all(text)?,
                Piece::Topic => write!(out, "{}", record.topic())?,
                Piece::Partition => write!(out, "{}", record.partition())?,
                Piece::Offset => write!(out, "{}", record.offset())?,
                Piece::Timestamp => write!(out, "{}", record.timestamp())?,
                Piece::TimestampType => write!(out, "{}", record.timestamp_type())?,
                Piece::Key => self.write_bytes(out, record.key(), escaping)?,
                Piece::KeySize => write_size(out, record.key())?,
                Piece::Value => self.write_bytes(out, record.value(), escaping)?,
                Piece::ValueSize => write_size(out, record.value())?,
                Piece::Headers => self.write_headers(out, record, escaping)?,
            }
        }
        Ok(())
    }

    fn write_bytes(&self, out: &mut impl Write, bytes: Option<&[u8]>, escaping: Escaping) -> io::Result<()> {
        match bytes {
            Some(bytes) => escaping.write(out, bytes),
            None => out.write_all(self.absent),
        }
    }

    fn write_headers(&self, out: &mut impl Write, record: &ConsumerRecord<'_>, escaping: Escaping) -> io::Result<()> {
        let mut headers = record.headers().peekable();
        if headers.peek().is_none() {
            return out.write_all(self.no_headers);
        }
        for (i, header) in headers.enumerate() {
            if i > 0 {
                out.write_all(b",")?;
            }
            escaping.write(out, header.key.as_bytes())?;
            out.write_all(self.header_sign)?;
            match header.value {
                Some(value) => escaping.write(out, value)?,
                None => out.write_all(b"null")?,
            }
        }
        Ok(())
    }
}

/// As kcat, -1 for what is absent.
fn write_size(out: &mut impl Write, bytes: Option<&[u8]>) -> io::Result<()> {
    match bytes {
        Some(bytes) => write!(out, "{}", bytes.len()),
        None => out.write_all(b"-1"),
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) -> Result<(), String> {
    if !text.is_empty() {
        pieces.push(Piece::Text(unescape(text)?));
    }
    Ok(())
}

fn piece_of(letter: char) -> Result<Piece, String> {
    Ok(match letter {
        't' => Piece::Topic,
        'p' => Piece::Partition,
        'o' => Piece::Offset,
        'T' => Piece::Timestamp,
        'k' => Piece::Key,
        'K' => Piece::KeySize,
        'v' | 's' => Piece::Value,
        'V' | 'S' => Piece::ValueSize,
        'h' => Piece::Headers,
        _ => return Err("after `%` one of k, v, o, p, t, T, h, K, V and `%` is expected".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_parsed() {
        let text = |text: &str| Piece::Text(text.as_bytes().to_vec());
        for (format, pieces) in [
            ("%k=%v\\n", vec![Piece::Key, text("="), Piece::Value, text("\n")]),
            ("%%", vec![text("%")]),
            ("%%k%s", vec![text("%"), text("k"), Piece::Value]),
            ("a%%%o", vec![text("a"), text("%"), Piece::Offset]),
            ("", vec![]),
        ] {
            assert_eq!(Layout::parse(format).unwrap().pieces, pieces, "{format}");
        }
        for format in ["%", "%q", "x%", "%%%", "\\q"] {
            assert!(Layout::parse(format).is_err(), "{format}");
        }
    }
}
