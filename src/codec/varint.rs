//! Unsigned LEB128, 1 to 10 bytes; signed numbers zigzag first, so that small ones stay short.

use super::DecodeError;

/// The longest varint: 64 bits in groups of 7.
const MAX_LEN: usize = 10;

#[inline]
pub(super) fn encode(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

/// Decodes a varint at the front of `bytes`, and gives what follows it.
pub(super) fn decode(bytes: &[u8]) -> Result<(u64, &[u8]), DecodeError> {
    let mut value = 0_u64;
    for (i, &byte) in bytes.iter().take(MAX_LEN).enumerate() {
        if i == MAX_LEN - 1 && byte > 1 {
            return Err(DecodeError("a varint exceeds 64 bits"));
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Ok((value, bytes.get(i + 1..).unwrap_or_default()));
        }
    }
    Err(if bytes.len() < MAX_LEN {
        DecodeError("it ends within a varint")
    } else {
        DecodeError("a varint exceeds 64 bits")
    })
}

/// How many bytes `encode` writes.
#[inline]
pub(super) fn len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[inline]
pub(super) fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

#[inline]
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[inline]
fn low_bits(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn boundaries_take_the_expected_length() {
        for (value, expected) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (u64::MAX, 10)] {
            let mut out = Vec::new();
            encode(&mut out, value);
            assert_eq!((out.len(), len(value)), (expected, expected), "{value}");
            assert_eq!(decode(&out), Ok((value, &[][..])));
        }
    }

    #[test]
    fn more_than_64_bits_are_refused() {
        assert!(decode(&[0xff; 10]).is_err());
        assert!(decode(&[0x80; 11]).is_err());
        assert!(decode(&[0x80]).is_err());
        assert!(decode(&[]).is_err());
    }

    proptest! {
        #[test]
        fn every_number_comes_back(value: u64, signed: i64, rest: Vec<u8>) {
            let mut out = Vec::new();
            encode(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            out.extend_from_slice(&rest);
            prop_assert_eq!(decode(&out), Ok((value, &rest[..])));
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
