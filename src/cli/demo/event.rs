//! The events: each can be made again from its thread and its number in it.

use std::io::Write;

/// Threads that write.
pub(super) const THREADS: u32 = 4;

/// Partitions that they write to.
pub(super) const PARTITIONS: u32 = 3;

/// Keys that a thread uses in turn.
pub(super) const KEYS: u64 = 8;

/// The topic that they write to.
pub(super) const TOPIC: &str = "events";

/// Which event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) thread: u32,
    /// From 0 within the thread.
    pub(super) sequence: u64,
}

/// Key and value of an event, in memory that the next one uses again.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// The checksum at the value's end.
    pub(super) checksum: u64,
}

/// How many of `events` a thread writes.
pub(super) fn share(events: u64, thread: u32) -> u64 {
    let threads = u64::from(THREADS);
    events / threads + u64::from(u64::from(thread) < events % threads)
}

/// All of `events`.
pub(super) fn all(events: u64) -> impl Iterator<Item = Event> {
    (0..THREADS).flat_map(move |thread| (0..share(events, thread)).map(move |sequence| Event { thread, sequence }))
}

impl Event {
    /// Which of the thread's keys it has.
    pub(super) fn key(self) -> u64 {
        self.sequence % KEYS
    }

    /// Writes its key and its value: about 100 bytes that end with a checksum of what is before.
    pub(super) fn write(self, content: &mut Content) {
        let Event { thread, sequence } = self;
        let Content { key, value, checksum } = content;
        key.clear();
        value.clear();
        let seed = u64::from(thread) << 48 | sequence;
        let (a, b, c) = (scrambled(seed), scrambled(!seed), scrambled(seed.rotate_left(32)));
        // Writing into memory does not fail.
        let _ = write!(key, "sensor-{thread}-{}", self.key());
        let _ = write!(value, "thread {thread} sequence {sequence:08} data {a:016x}{b:016x}{c:016x} sum ");
        *checksum = fnv1a(value);
        let _ = write!(value, "{checksum:016x}");
    }

    /// The event that a value says it is.
    fn named_by(value: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value).ok()?.split(' ');
        let thread = words.nth(1)?.parse().ok()?;
        let sequence = words.nth(1)?.parse().ok()?;
        Some(Event { thread, sequence })
    }

    /// The event that was read, if its key and every byte of its value are right.
    pub(super) fn read(key: Option<&[u8]>, value: Option<&[u8]>, made_again: &mut Content) -> Option<Self> {
        let event = Event::named_by(value?)?;
        event.write(made_again);
        let is_same = key? == made_again.key && value? == made_again.value;
        is_same.then_some(event)
    }
}

/// SplitMix64's mixing: numbers that don't look alike.
fn scrambled(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_back_and_a_changed_one_is_not() {
        let event = Event { thread: 3, sequence: 123_456 };
        let (mut written, mut again) = (Content::default(), Content::default());
        event.write(&mut written);
        assert!((90..=120).contains(&written.value.len()), "{}", written.value.len());
        assert_eq!(Event::read(Some(&written.key), Some(&written.value), &mut again), Some(event));
        for i in 0..written.value.len() {
            let mut changed = written.value.clone();
            changed[i] ^= 1;
            assert_eq!(Event::read(Some(&written.key), Some(&changed), &mut again), None, "byte {i}");
        }
        assert_eq!(Event::read(Some(b"sensor-3-1"), Some(&written.value), &mut again), None);
        assert_eq!(Event::read(None, Some(b""), &mut again), None);
    }

    #[test]
    fn the_shares_of_the_threads_are_everything() {
        for events in [0, 1, 3, 4, 1_001] {
            assert_eq!((0..THREADS).map(|thread| share(events, thread)).sum::<u64>(), events);
            assert_eq!(all(events).count() as u64, events);
        }
    }
}
