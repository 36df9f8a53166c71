//! What was read, held against what was promised.

use std::collections::HashMap;

use super::event::{Content, Event, KEYS, PARTITIONS, THREADS, all};
use super::report::Place;

/// Where each event of each thread is, as far as it is known.
#[derive(Debug, Default, Clone)]
pub(super) struct Places {
    by_thread: HashMap<u32, Vec<Option<Place>>>,
    known: u64,
}

impl Places {
    pub(super) fn insert(&mut self, event: Event, place: Place) {
        let thread = self.by_thread.entry(event.thread).or_default();
        // A sequence is no more than the number of events in memory.
        let at = usize::try_from(event.sequence).unwrap_or(usize::MAX);
        if thread.len() <= at {
            thread.resize(at.saturating_add(1), None);
        }
        if let Some(slot) = thread.get_mut(at) {
            self.known += u64::from(slot.is_none());
            *slot = Some(place);
        }
    }

    fn get(&self, event: Event) -> Option<Place> {
        let at = usize::try_from(event.sequence).ok()?;
        self.by_thread.get(&event.thread)?.get(at).copied().flatten()
    }

    /// How many events have a place.
    pub(super) fn len(&self) -> u64 {
        self.known
    }

    fn iter(&self) -> impl Iterator<Item = (Event, Place)> {
        self.by_thread.iter().flat_map(|(&thread, places)| {
            let event = move |sequence: usize| Event { thread, sequence: sequence as u64 };
            places.iter().enumerate().filter_map(move |(i, place)| place.map(|place| (event(i), place)))
        })
    }
}

/// Everything that one consumer read from the beginning on, checked record by record.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The offset that comes next in each partition.
    next_offsets: HashMap<u32, u64>,
    /// For each thread and key, the sequence that comes next and the partition of the key.
    next_by_key: HashMap<(u32, u64), (u64, u32)>,
    places: Places,
    /// The sum of the checksums of all events.
    checksum: u64,
    made_again: Content,
}

impl Ledger {
    /// Takes the next record of a partition.
    ///
    /// # Errors
    ///
    /// The promise that it breaks: offsets go up by one, a key keeps its partition, the events of a key come in order, each
    /// once, none left out, and not a bit is changed.
    pub(super) fn take(&mut self, place: Place, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), String> {
        let Place { partition, offset } = place;
        let at = format_args!("partition {partition}, offset {offset}").to_string();
        let expected = self.next_offsets.entry(partition).or_default();
        if partition >= PARTITIONS || offset != *expected {
            return Err(format!("{at}: offset {expected} was expected"));
        }
        *expected += 1;
        let event = Event::read(key, value, &mut self.made_again).filter(|event| event.thread < THREADS);
        let event = event.ok_or_else(|| format!("{at}: the record is not what was written"))?;
        let next = self.next_by_key.entry((event.thread, event.key())).or_insert((event.key(), partition));
        if *next != (event.sequence, partition) {
            let Event { thread, sequence } = event;
            return Err(format!(
                "{at}: event {sequence} of thread {thread}, where event {} in partition {} was expected",
                next.0, next.1
            ));
        }
        next.0 += KEYS;
        self.places.insert(event, place);
        self.checksum = self.checksum.wrapping_add(self.made_again.checksum);
        Ok(())
    }

    /// How many events were read.
    pub(super) fn len(&self) -> u64 {
        self.places.len()
    }

    /// How many events of each thread there are: the first ones of each, as a thread writes one after the other.
    ///
    /// # Errors
    ///
    /// A thread's event is missing, and a later one is there.
    pub(super) fn lengths(&self) -> Result<Vec<u64>, String> {
        let next = |thread, key| self.next_by_key.get(&(thread, key)).map_or(key, |next| next.0);
        let length = |thread| {
            let first_missing = (0..KEYS).map(|key| next(thread, key)).min().unwrap_or(0);
            let has_later = (0..KEYS).any(|key| next(thread, key) >= first_missing + KEYS);
            match has_later {
                true => Err(format!("event {first_missing} of thread {thread} is missing, and a later one is there")),
                false => Ok(first_missing),
            }
        };
        (0..THREADS).map(length).collect()
    }

    /// That every acknowledged event was read where it was acknowledged to be.
    ///
    /// # Errors
    ///
    /// One that was not.
    pub(super) fn prove(&self, acknowledged: &Places) -> Result<(), String> {
        for (event, promised) in acknowledged.iter() {
            let Event { thread, sequence } = event;
            let Place { partition, offset } = promised;
            match self.places.get(event) {
                Some(place) if place == promised => {}
                Some(place) => {
                    return Err(format!(
                        "event {sequence} of thread {thread} was acknowledged at offset {offset} of partition {partition} \
                         and is at offset {} of partition {}",
                        place.offset, place.partition
                    ));
                }
                None => {
                    return Err(format!(
                        "event {sequence} of thread {thread} was acknowledged at offset {offset} of partition {partition} \
                         and is missing"
                    ));
                }
            }
        }
        Ok(())
    }

    /// That exactly the first `events` are there, unchanged.
    ///
    /// # Errors
    ///
    /// How it differs.
    pub(super) fn prove_complete(&self, events: u64) -> Result<(), String> {
        let mut content = Content::default();
        let checksum = all(events).fold(0_u64, |sum, event| {
            event.write(&mut content);
            sum.wrapping_add(content.checksum)
        });
        if (self.len(), self.checksum) == (events, checksum) {
            return Ok(());
        }
        Err(format!(
            "{events} events with the checksum {checksum:016x} were written, {} with {:016x} were read",
            self.len(),
            self.checksum
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The partition is the key modulo their number; offsets are counted.
    #[derive(Default)]
    struct Log {
        ledger: Ledger,
        ends: [u64; PARTITIONS as usize],
        acknowledged: Places,
    }

    impl Log {
        fn append(&mut self, thread: u32, sequence: u64) -> Result<(), String> {
            let event = Event { thread, sequence };
            let mut content = Content::default();
            event.write(&mut content);
            let partition = u32::try_from(event.key()).unwrap() % PARTITIONS;
            let end = &mut self.ends[partition as usize];
            let place = Place { partition, offset: *end };
            *end += 1;
            self.acknowledged.insert(event, place);
            self.ledger.take(place, Some(&content.key), Some(&content.value))
        }

        fn of(events: u64) -> Self {
            let mut log = Log::default();
            all(events).for_each(|event| log.append(event.thread, event.sequence).unwrap());
            log
        }
    }

    #[test]
    fn what_was_written_is_proven() {
        let log = Log::of(103);
        log.ledger.prove(&log.acknowledged).unwrap();
        log.ledger.prove_complete(103).unwrap();
        assert_eq!(log.ledger.lengths().unwrap(), [26, 26, 26, 25]);
    }

    #[test]
    fn an_event_that_comes_twice_or_too_early_is_found() {
        assert!(Log::of(103).append(0, 25).is_err(), "twice");
        assert!(Log::of(103).append(0, 26 + KEYS).is_err(), "one of its key left out");
    }

    #[test]
    fn a_hole_between_the_keys_of_a_thread_is_found() {
        let mut log = Log::of(8);
        log.append(0, 3).unwrap();
        assert!(log.ledger.lengths().is_err());
    }

    #[test]
    fn an_offset_left_out_is_found() {
        let mut log = Log::of(103);
        log.ends.iter_mut().for_each(|end| *end += 1);
        assert!(log.append(0, 26).is_err());
    }

    #[test]
    fn an_acknowledged_event_that_is_missing_or_elsewhere_is_found() {
        let log = Log::of(103);
        let mut more = log.acknowledged.clone();
        more.insert(Event { thread: 0, sequence: 26 }, Place { partition: 0, offset: 50 });
        assert!(log.ledger.prove(&more).unwrap_err().ends_with("is missing"));
        let mut elsewhere = log.acknowledged.clone();
        elsewhere.insert(Event { thread: 0, sequence: 25 }, Place { partition: 0, offset: 50 });
        assert!(log.ledger.prove(&elsewhere).is_err());
        assert!(log.ledger.prove_complete(102).is_err());
        assert!(log.ledger.prove_complete(104).is_err());
    }

    #[test]
    fn a_changed_record_is_found() {
        let place = Place { partition: 0, offset: 0 };
        assert!(Ledger::default().take(place, Some(b"sensor-0-0"), Some(b"thread 0 sequence 0")).is_err());
        assert!(Ledger::default().take(place, None, None).is_err());
    }
}
