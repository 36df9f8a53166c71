//! Bytes as text that no terminal takes for a command, and text with `\t` in it as bytes.

use std::io::{self, Write};

/// How keys, values and headers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escaping {
    /// As they are: for pipes and files.
    Raw,
    /// Control characters and bytes that are not UTF-8 as `\n` or `\x1b`: for a person at a terminal, who wants JSON to stay
    /// readable and must not have the terminal told what to do.
    Controls,
    /// As [`Controls`](Escaping::Controls), and `\` as `\\`: [`unescape`] gives the bytes back.
    Reversible,
}

impl Escaping {
    /// Writes `bytes`.
    pub(super) fn write(self, out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        if self == Escaping::Raw {
            return out.write_all(bytes);
        }
        for chunk in bytes.utf8_chunks() {
            let mut plain = chunk.valid();
            // Runs of harmless characters are written at once.
            while let Some((at, special)) = plain.char_indices().find(|(_, c)| self.is_special(*c)) {
                let (before, rest) = plain.split_at(at);
                out.write_all(before.as_bytes())?;
                write_escape(out, special)?;
                plain = rest.get(special.len_utf8()..).unwrap_or_default();
            }
            out.write_all(plain.as_bytes())?;
            chunk.invalid().iter().try_for_each(|byte| write!(out, "\\x{byte:02x}"))?;
        }
        Ok(())
    }

    fn is_special(self, c: char) -> bool {
        is_unsafe(c) || (c == '\\' && self == Escaping::Reversible)
    }
}

/// Whether a terminal, or a reader of one, may be misled by it: control characters, those that turn the direction of text,
/// and those that end a line.
pub(super) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn write_escape(out: &mut impl Write, c: char) -> io::Result<()> {
    match c {
        '\n' => out.write_all(b"\\n"),
        '\r' => out.write_all(b"\\r"),
        '\t' => out.write_all(b"\\t"),
        '\\' => out.write_all(b"\\\\"),
        c => {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().try_for_each(|byte| write!(out, "\\x{byte:02x}"))
        }
    }
}

/// `bytes` as text.
pub(super) fn escaped(bytes: &[u8], escaping: Escaping) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    // Writing into memory does not fail.
    let _ = escaping.write(&mut out, bytes);
    String::from_utf8_lossy(&out).into_owned()
}

/// Text in which `\t`, `\n`, `\r`, `\0`, `\\` and `\x1f` stand for bytes, as bytes.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match chars.next() {
            Some('t') => b'\t',
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digit = |c: Option<char>| c.and_then(|c| c.to_digit(16)).and_then(|digit| u8::try_from(digit).ok());
                match (digit(chars.next()), digit(chars.next())) {
                    (Some(high), Some(low)) => high << 4 | low,
                    _ => return Err("`\\x` needs two hexadecimal digits".to_owned()),
                }
            }
            _ => return Err("after `\\` one of t, n, r, 0, x and `\\` is expected".to_owned()),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_command() {
        for (bytes, shown) in [
            (&b"\x1b[2Jplain"[..], "\\x1b[2Jplain"),
            (b"a\tb\r\n\0\x7f", "a\\tb\\r\\n\\x00\\x7f"),
            ("\u{9b}2J \u{202e}evil".as_bytes(), "\\xc2\\x9b2J \\xe2\\x80\\xaeevil"),
            (b"\xff\xfe caf\xc3\xa9", "\\xff\\xfe caf\u{e9}"),
            (b"{\"a\":\"b\\n\"}", "{\"a\":\"b\\n\"}"),
        ] {
            assert_eq!(escaped(bytes, Escaping::Controls), shown);
        }
    }

    #[test]
    fn a_reversible_escape_can_be_undone_for_all_bytes() {
        let bytes: Vec<u8> = (0..=255).chain(*b"\\n \\\\ x").collect();
        let text = escaped(&bytes, Escaping::Reversible);
        assert!(!text.chars().any(is_unsafe));
        assert_eq!(unescape(&text).unwrap(), bytes);
    }

    #[test]
    fn bad_escapes_are_refused() {
        for text in ["\\", "\\q", "\\x1", "\\xzz"] {
            assert!(unescape(text).is_err(), "{text}");
        }
    }
}
