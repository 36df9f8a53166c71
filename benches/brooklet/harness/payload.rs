//! What is written: records that look like small JSON documents, about half of each random.

/// Small, fast and the same in every run.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Evenly from 0 to below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// One of these words.
    fn pick(&mut self, of: &[&'static str]) -> &'static str {
        usize::try_from(self.below(of.len() as u64)).ok().and_then(|index| of.get(index)).copied().unwrap_or_default()
    }
}

/// One payload: its first bytes are the key of a record, the rest the value.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Vec<u8>,
}

/// Of payloads large enough to have a key.
const KEY_LEN: usize = 8;

impl Payload {
    /// Key and value. A payload of less than 16 bytes is all value.
    pub(crate) fn parts(&self) -> (Option<&[u8]>, &[u8]) {
        match self.bytes.split_at_checked(KEY_LEN) {
            Some((key, value)) if value.len() >= KEY_LEN => (Some(key), value),
            _ => (None, &self.bytes),
        }
    }
}

/// What all payloads may take, in bytes.
const MOST_MEMORY: usize = 64 << 20;

/// A thousand distinct payloads of `size` bytes; fewer when they are large.
pub(crate) fn payloads(size: usize) -> Vec<Payload> {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let count = (MOST_MEMORY / size.max(1)).clamp(4, 1_000);
    let mut make = |number: usize| {
        let mut text = format!("k-{number:06}{{");
        while text.len() < size {
            text.push_str(&format!("\"item\":\"{:016x}\", ", random.next()));
        }
        text.truncate(size);
        Payload { bytes: text.into_bytes() }
    };
    (0..count).map(&mut make).collect()
}

/// Documents of some 250 bytes as applications write them: names and words that come again and again, and ids, times and amounts
/// that do not.
pub(crate) fn documents(count: u32) -> Vec<Payload> {
    const KINDS: [&str; 5] = ["order.created", "order.paid", "order.shipped", "order.returned", "customer.changed"];
    const CITIES: [&str; 8] = ["Lisbon", "Oslo", "Turin", "Ghent", "Porto", "Bergen", "Leipzig", "Graz"];
    let mut random = Random::new(0x2545_f491_4f6c_dd1d);
    let mut document = |number: u32| {
        let (id, customer, at) = (random.next(), random.below(100_000), 1_700_000_000_000 + u64::from(number) * 37);
        let (sku, items, cents) = (random.below(5_000), 1 + random.below(9), random.below(100_000));
        let (kind, city) = (random.pick(&KINDS), random.pick(&CITIES));
        let text = format!(
            "c-{customer:06}{{\"id\":\"{id:016x}\",\"type\":\"{kind}\",\"at\":{at},\"customer\":{{\"id\":{customer},\"city\":\"{city}\"}},\
             \"lines\":[{{\"sku\":\"AB-{sku:04}\",\"count\":{items},\"price\":{}.{:02}}}],\"currency\":\"EUR\",\"express\":{},\"channel\":\"web\"}}",
            cents / 100,
            cents % 100,
            cents % 3 == 0
        );
        Payload { bytes: text.into_bytes() }
    };
    (0..count).map(&mut document).collect()
}

/// All payloads, one behind the other.
pub(crate) fn concatenated<'a>(payloads: impl IntoIterator<Item = &'a Payload>) -> Vec<u8> {
    payloads.into_iter().flat_map(|payload| payload.bytes.iter().copied()).collect()
}
