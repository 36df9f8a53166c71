//! Compression of a chunk's records, behind the features `lz4` and `zstd`.
//!
//! Nobody can make a few bytes claim to be many: what is decompressed is at most [`MAX_RATIO`] times what it came from. LZ4
//! can't do better than that, and Zstandard's frame is followed by zeros where it does.

use std::fmt;

use super::DecodeError;
use super::chunk::ChunkError;
use crate::config::CompressionType;

/// The most that decompression may make of a byte.
pub(super) const MAX_RATIO: usize = 255;

#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 3;

/// Compresses one thing after the other.
#[derive(Default)]
pub(super) struct Compressor {
    /// Its tables take longer to get from the operating system than to clear. `None`: not used yet.
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    /// Appends `plain` to `out`, compressed. `None`: it could not be, and `out` is of no use.
    pub(super) fn compress(&mut self, by: CompressionType, plain: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let start = out.len();
        out.resize(start + max_len(by, plain.len())?, 0);
        let written = self.compress_into(by, plain, out.get_mut(start..)?)?;
        out.truncate(start + written);
        out.resize(start + written.max(plain.len().div_ceil(MAX_RATIO)), 0);
        Some(())
    }

    /// Gives how much it wrote.
    #[cfg_attr(
        not(any(feature = "lz4", feature = "zstd")),
        expect(unused_variables, clippy::unused_self, reason = "there is nothing to do")
    )]
    fn compress_into(&mut self, by: CompressionType, plain: &[u8], out: &mut [u8]) -> Option<usize> {
        match by {
            #[cfg(feature = "lz4")]
            CompressionType::Lz4 => lz4_flex::block::compress_into(plain, out).ok(),
            #[cfg(feature = "zstd")]
            CompressionType::Zstd => {
                let compressor = match &mut self.zstd {
                    Some(compressor) => compressor,
                    none => none.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL).ok()?),
                };
                compressor.compress_to_buffer(plain, out).ok()
            }
            _ => None,
        }
    }
}

/// The most that `len` bytes may be when they are compressed.
#[cfg_attr(not(any(feature = "lz4", feature = "zstd")), expect(unused_variables, reason = "there is nothing to do"))]
fn max_len(by: CompressionType, len: usize) -> Option<usize> {
    match by {
        #[cfg(feature = "lz4")]
        CompressionType::Lz4 => Some(lz4_flex::block::get_maximum_output_size(len)),
        #[cfg(feature = "zstd")]
        CompressionType::Zstd => Some(zstd::zstd_safe::compress_bound(len)),
        _ => None,
    }
}

/// What `bytes` were before they were compressed: `len` bytes.
pub(super) fn decompress(by: CompressionType, bytes: &[u8], len: usize) -> Result<Vec<u8>, ChunkError> {
    if !by.is_supported() {
        return Err(ChunkError::Unsupported(by));
    }
    if len.div_ceil(MAX_RATIO) > bytes.len() {
        return Err(DecodeError("its records can't be as long as it says").into());
    }
    let mut plain = vec![0; len];
    if decompress_into(by, bytes, &mut plain) != Some(len) {
        return Err(DecodeError("its records do not decompress to what they were").into());
    }
    Ok(plain)
}

/// Gives how much it wrote.
#[cfg_attr(not(any(feature = "lz4", feature = "zstd")), expect(unused_variables, reason = "there is nothing to do"))]
fn decompress_into(by: CompressionType, bytes: &[u8], plain: &mut [u8]) -> Option<usize> {
    match by {
        #[cfg(feature = "lz4")]
        CompressionType::Lz4 => lz4_flex::block::decompress_into(bytes, plain).ok(),
        #[cfg(feature = "zstd")]
        CompressionType::Zstd => {
            let frame = zstd::zstd_safe::find_frame_compressed_size(bytes).ok()?;
            zstd::bulk::decompress_to_buffer(bytes.get(..frame)?, plain).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What this build has.
    pub(crate) fn supported() -> impl Iterator<Item = CompressionType> {
        [CompressionType::Lz4, CompressionType::Zstd].into_iter().filter(|by| by.is_supported())
    }

    fn round_trip(by: CompressionType, plain: &[u8]) -> usize {
        let mut out = b"in front".to_vec();
        Compressor::default().compress(by, plain, &mut out).unwrap();
        let compressed = &out[8..];
        assert_eq!(decompress(by, compressed, plain.len()).unwrap(), plain, "{by}");
        for wrong in [plain.len() + 1, plain.len().saturating_sub(1)] {
            assert!(wrong == plain.len() || decompress(by, compressed, wrong).is_err(), "{by}");
        }
        compressed.len()
    }

    #[test]
    fn what_compresses_too_well_is_made_longer() {
        for by in supported() {
            let plain = vec![7; 10 << 20];
            let len = round_trip(by, &plain);
            assert!((plain.len().div_ceil(MAX_RATIO)..plain.len() / 200).contains(&len), "{by}: {len}");
        }
    }

    #[test]
    fn a_length_that_can_not_be_is_refused_before_anything_is_allocated() {
        for by in supported() {
            for (bytes, len) in [(&[0; 100][..], 25_501), (&[], u32::MAX as usize), (&[], 1)] {
                let Err(ChunkError::Damaged(reason)) = decompress(by, bytes, len) else { panic!("{by}") };
                assert!(reason.contains("can't be as long"), "{by}: {reason}");
            }
        }
    }

    #[test]
    fn what_this_build_is_without_is_told_from_damage() {
        for by in [CompressionType::Lz4, CompressionType::Zstd].into_iter().filter(|by| !by.is_supported()) {
            assert_eq!(decompress(by, &[1, 2, 3], 5), Err(ChunkError::Unsupported(by)));
            assert_eq!(Compressor::default().compress(by, b"plain", &mut Vec::new()), None);
        }
    }

    proptest! {
        #[test]
        fn everything_comes_back(parts in proptest::collection::vec((any::<[u8; 3]>(), 1_usize..2_000), 0..20)) {
            let plain: Vec<u8> = parts.into_iter().flat_map(|(part, times)| part.repeat(times)).collect();
            supported().for_each(|by| { round_trip(by, &plain); });
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes: Vec<u8>, len in 0_usize..100_000) {
            for by in supported() {
                if let Ok(plain) = decompress(by, &bytes, len) {
                    prop_assert_eq!(plain.len(), len);
                }
            }
        }

        #[test]
        fn changed_bytes_give_a_value_or_an_error(times in 1_usize..500, at: usize, to: u8) {
            let plain = b"{\"id\":17,\"name\":\"x\"}".repeat(times);
            for by in supported() {
                let mut bytes = Vec::new();
                Compressor::default().compress(by, &plain, &mut bytes).unwrap();
                let at = at % bytes.len();
                bytes[at] = to;
                let _ = decompress(by, &bytes, plain.len());
            }
        }
    }
}
