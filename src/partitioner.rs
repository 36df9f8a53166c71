//! Which partition a record goes to (P-2 to P-6).

use std::fmt;

/// Chooses the partition of a record that names none.
///
/// The default is [`Murmur2Partitioner`]; another one is given to
/// [`ProducerBuilder::partitioner`](crate::ProducerBuilder::partitioner).
pub trait Partitioner: fmt::Debug + Send + Sync + 'static {
    /// Chooses one of `partitions` partitions. `None` leaves the choice to the sticky rule for records without a key
    /// (P-5). A choice that is not below `partitions` fails the `send`. Called before any lock is taken: it may use the broker.
    fn partition(&self, topic: &str, key: Option<&[u8]>, value: Option<&[u8]>, partitions: u32) -> Option<u32>;
}

/// Kafka's own choice: the murmur2 hash of the key, also of an empty one; records without a key stick to a random
/// partition for a while (P-3, P-5).
#[derive(Debug, Clone, Copy, Default)]
pub struct Murmur2Partitioner;

impl Partitioner for Murmur2Partitioner {
    fn partition(&self, _topic: &str, key: Option<&[u8]>, _value: Option<&[u8]>, partitions: u32) -> Option<u32> {
        key.map(|key| partition_for_key(key, partitions))
    }
}

/// The partition that Kafka's clients give to a key: `(murmur2(key) & 0x7fffffff) mod partitions` (P-3); 0 when
/// `partitions` is 0.
///
/// ```
/// assert_eq!(brooklet::partition_for_key(b"foobar", 10), 6);
/// ```
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff).checked_rem(partitions).unwrap_or(0)
}

/// The 32-bit murmur2 hash with the seed that Kafka uses.
pub(crate) fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // The reference hashes lengths of 32 bits; a key is far shorter than that.
    let mut h = SEED ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let folded = tail.iter().rev().fold(0_u32, |folded, &byte| (folded << 8) | u32::from(byte));
        h = (h ^ folded).wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// Bytes after which records without a key move on to another partition: Kafka's `batch.size`.
const STICKY_BYTES: usize = 16_384;

/// The partition that records without a key stick to (KIP-480, KIP-794).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StickyPartition {
    partition: Option<u32>,
    bytes: usize,
}

impl StickyPartition {
    /// The partition for a record of `size` bytes; a new random one is drawn once enough bytes went to the last.
    pub(crate) fn choose(&mut self, size: usize, partitions: u32, random: impl FnOnce() -> u64) -> u32 {
        let current = self.partition.filter(|&partition| partition < partitions && self.bytes < STICKY_BYTES);
        let partition = current.unwrap_or_else(|| {
            self.bytes = 0;
            let drawn = random().checked_rem(u64::from(partitions)).unwrap_or(0);
            u32::try_from(drawn).unwrap_or(0)
        });
        self.bytes = self.bytes.saturating_add(size);
        self.partition = Some(partition);
        partition
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-4: the hash, and the partition for 2, 3, 4, 5, 6, 10, 12 and 100 partitions.
    const VECTORS: [(&str, i32, [u32; 8]); 16] = [
        ("21", -973_932_308, [0, 0, 0, 0, 0, 0, 0, 40]),
        ("foobar", -790_332_482, [0, 0, 2, 1, 0, 6, 6, 66]),
        ("a-little-bit-long-string", -985_981_536, [0, 2, 0, 2, 2, 2, 8, 12]),
        ("a-little-bit-longer-string", -1_486_304_829, [1, 2, 3, 4, 5, 9, 11, 19]),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971, [1, 2, 1, 2, 5, 7, 5, 77]),
        ("abc", 479_470_107, [1, 0, 3, 2, 3, 7, 3, 7]),
        ("kafka", -798_503_068, [0, 1, 0, 0, 4, 0, 4, 80]),
        ("giberish123456789", -1_890_243_828, [0, 2, 0, 0, 2, 0, 8, 20]),
        ("1234", -1_614_185_708, [0, 0, 0, 0, 0, 0, 0, 40]),
        ("234", -406_844_982, [0, 2, 2, 1, 2, 6, 2, 66]),
        ("34", -2_026_295_078, [0, 0, 2, 0, 0, 0, 6, 70]),
        ("4", 1_514_888_353, [1, 1, 1, 3, 1, 3, 1, 53]),
        ("PreAmbleWillBeRemoved,ThePrePartThatIs", 2_017_611_548, [0, 2, 0, 3, 2, 8, 8, 48]),
        ("", 275_646_681, [1, 0, 1, 1, 3, 1, 9, 81]),
        ("key", -1_079_937_367, [1, 1, 1, 1, 1, 1, 1, 81]),
        ("a", -1_563_381_124, [0, 1, 0, 4, 4, 4, 4, 24]),
    ];

    #[test]
    fn murmur2_gives_kafkas_hashes_and_partitions() {
        for (key, hash, partitions) in VECTORS {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
            let chosen = [2, 3, 4, 5, 6, 10, 12, 100].map(|n| partition_for_key(key.as_bytes(), n));
            assert_eq!(chosen, partitions, "{key}");
            assert_eq!(partition_for_key(key.as_bytes(), 1), 0);
        }
    }

    #[test]
    fn unaligned_keys_hash_the_same() {
        let buffer = b"1234";
        for (start, hash) in [(0, -1_614_185_708), (1, -406_844_982), (2, -2_026_295_078), (3, 1_514_888_353)] {
            assert_eq!(murmur2(&buffer[start..]).cast_signed(), hash);
        }
    }

    #[test]
    fn records_without_a_key_stick_until_a_batch_went_there() {
        let mut sticky = StickyPartition::default();
        let mut draws = 0..;
        let mut choose = |size| sticky.choose(size, 3, || draws.next().unwrap());
        assert_eq!([choose(STICKY_BYTES / 2), choose(STICKY_BYTES / 2), choose(1), choose(1)], [0, 0, 1, 1]);
    }

    #[test]
    fn a_topic_with_one_partition_always_gives_it() {
        let mut sticky = StickyPartition::default();
        assert!((0..10).all(|draw| sticky.choose(STICKY_BYTES, 1, || draw) == 0));
    }
}
