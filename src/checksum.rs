//! The checksums of all that is written: CRC-32C, and CRC-32 for what has parts with a CRC-32C of their own. A CRC does not notice that such
//! a part was exchanged for another one of its length, if both have theirs by the same polynomial: each part with its CRC adds the
//! same to the whole.

use crc_fast::{CrcAlgorithm, Digest};

/// The checksum of bytes.
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of bytes that lie in several places, as if they lay one behind the other.
pub(crate) fn crc32c_of_parts<const N: usize>(parts: [&[u8]; N]) -> u32 {
    of_parts(CrcAlgorithm::Crc32Iscsi, parts)
}

/// The same by the other polynomial: CRC-32 as in zip files.
pub(crate) fn crc32_of_parts<const N: usize>(parts: [&[u8]; N]) -> u32 {
    of_parts(CrcAlgorithm::Crc32IsoHdlc, parts)
}

fn of_parts<const N: usize>(algorithm: CrcAlgorithm, parts: [&[u8]; N]) -> u32 {
    let mut digest = Digest::new(algorithm);
    parts.iter().for_each(|part| digest.update(part));
    // It has 32 bits.
    u32::try_from(digest.finalize()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_one_of_the_catalogues() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32_of_parts([b"123456789"]), 0xcbf4_3926);
    }

    /// Bit by bit, as the polynomial says. The library has other code for each processor and for short and long inputs.
    fn by_definition(polynomial: u32, bytes: &[u8]) -> u32 {
        let shift = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ polynomial } else { crc >> 1 };
        !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), shift))
    }

    #[test]
    fn a_part_that_was_exchanged_with_its_checksum_is_noticed_by_the_other_one_only() {
        let whole = |part: &[u8; 8]| [b"front".as_slice(), part, &crc32c(part).to_le_bytes(), b"back"].concat();
        let [a, b] = [whole(b"one part"), whole(b"or other")];
        assert_eq!(crc32c(&a), crc32c(&b));
        assert_ne!(crc32_of_parts([&a]), crc32_of_parts([&b]));
    }

    #[test]
    fn it_is_the_same_for_every_length_and_however_it_is_cut() {
        let bytes: Vec<u8> = (0..40_000_u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
        for len in (0..1_200).chain([4_095, 4_096, 4_104, 32_700, 40_000]) {
            let [expected, other] =
                [0x82f6_3b78, 0xedb8_8320].map(|polynomial| by_definition(polynomial, &bytes[..len]));
            assert_eq!(crc32c(&bytes[..len]), expected, "{len} bytes");
            for cut in [0, len / 3, len / 2, len] {
                let (front, back) = bytes[..len].split_at(cut);
                assert_eq!(crc32c_of_parts([front, back]), expected, "{len} bytes, cut at {cut}");
                assert_eq!(crc32_of_parts([front, back]), other, "{len} bytes, cut at {cut}");
            }
        }
    }
}
