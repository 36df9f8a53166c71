//! Lines of JSON: records, and what lists hold.

use std::io::{self, Write};

use brooklet::ConsumerRecord;
use serde_json::Value;

use super::escape::is_unsafe;

/// Writes a record as one line. No control character is in it, so that it is fit for a terminal too.
pub(super) fn write_record(out: &mut impl Write, record: &ConsumerRecord<'_>) -> io::Result<()> {
    out.write_all(b"{\"topic\":")?;
    write_string(out, record.topic().as_str())?;
    write!(
        out,
        ",\"partition\":{},\"offset\":{},\"timestamp\":{},\"timestamp_type\":\"{}\",\"key\":",
        record.partition(),
        record.offset(),
        record.timestamp(),
        record.timestamp_type()
    )?;
    write_bytes(out, record.key())?;
    out.write_all(b",\"value\":")?;
    write_bytes(out, record.value())?;
    out.write_all(b",\"headers\":[")?;
    for (i, header) in record.headers().enumerate() {
        out.write_all(if i == 0 { b"{\"key\":" } else { b",{\"key\":" })?;
        write_string(out, header.key)?;
        out.write_all(b",\"value\":")?;
        write_bytes(out, header.value)?;
        out.write_all(b"}")?;
    }
    out.write_all(b"]}\n")
}

/// Writes a value as one line. No control character is in it, whatever the names in it hold.
pub(super) fn write_value(out: &mut impl Write, value: &Value) -> io::Result<()> {
    // Outside of strings, compact JSON has none; within, an escape stands for the character anywhere.
    for c in value.to_string().chars() {
        if is_unsafe(c) {
            write!(out, "\\u{:04x}", u32::from(c))?;
        } else {
            write!(out, "{c}")?;
        }
    }
    out.write_all(b"\n")
}

/// `null`, a string, or what is not UTF-8 as `{"base64": ..}`.
fn write_bytes(out: &mut impl Write, bytes: Option<&[u8]>) -> io::Result<()> {
    let Some(bytes) = bytes else { return out.write_all(b"null") };
    match std::str::from_utf8(bytes) {
        Ok(text) => write_string(out, text),
        Err(_) => {
            out.write_all(b"{\"base64\":\"")?;
            write_base64(out, bytes)?;
            out.write_all(b"\"}")
        }
    }
}

fn write_string(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(b"\"")?;
    let mut plain = text;
    while let Some((at, special)) = plain.char_indices().find(|(_, c)| matches!(c, '"' | '\\') || is_unsafe(*c)) {
        let (before, rest) = plain.split_at(at);
        out.write_all(before.as_bytes())?;
        match special {
            '"' | '\\' => write!(out, "\\{special}")?,
            '\n' => out.write_all(b"\\n")?,
            '\r' => out.write_all(b"\\r")?,
            '\t' => out.write_all(b"\\t")?,
            // All of these lie in the first plane: four digits say them.
            special => write!(out, "\\u{:04x}", u32::from(special))?,
        }
        plain = rest.get(special.len_utf8()..).unwrap_or_default();
    }
    out.write_all(plain.as_bytes())?;
    out.write_all(b"\"")
}

/// RFC 4648, with padding.
fn write_base64(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |i: usize| match ALPHABET.get((bits >> (18 - 6 * i) & 63) as usize) {
            Some(&digit) if i <= group.len() => digit,
            _ => b'=',
        };
        out.write_all(&[digit(0), digit(1), digit(2), digit(3)])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: Option<&[u8]>) -> String {
        let mut out = Vec::new();
        write_bytes(&mut out, bytes).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_json_without_control_characters() {
        let text: String = (0..0x3000_u32).filter_map(char::from_u32).chain("\u{1f980}".chars()).collect();
        let json = written(Some(text.as_bytes()));
        assert!(!json.chars().any(is_unsafe));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        assert_eq!(written(None), "null");
    }

    #[test]
    fn values_are_json_without_control_characters() {
        let text: String = (0..0x3000_u32).filter_map(char::from_u32).chain("\u{1f980}".chars()).collect();
        let value = serde_json::json!([{ text.as_str(): [text, 1, null] }]);
        let mut out = Vec::new();
        write_value(&mut out, &value).unwrap();
        let line = String::from_utf8(out).unwrap();
        assert!(!line.strip_suffix('\n').unwrap().chars().any(is_unsafe));
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }

    /// The examples of RFC 4648, section 10.
    #[test]
    fn base64_is_the_rfcs() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            let mut out = Vec::new();
            write_base64(&mut out, bytes.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
        assert_eq!(written(Some(b"\xff\xfe\xfd")), r#"{"base64":"//79"}"#);
    }
}
