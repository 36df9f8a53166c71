//! What the child tells its parent, a line at a time.

use std::fmt;

use super::event::Event;

/// Where an event was acknowledged to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: u32,
    pub(super) offset: u64,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    /// These events of a thread, from `first` on, were acknowledged at these places: `acknowledged 2 500 0@166 1@170 ..`.
    Acknowledged { first: Event, places: Vec<Place> },
    /// So many records were read by a consumer: `read 1 5000`.
    Read { consumer: usize, records: u64 },
}

impl Report {
    /// `None` for what is no report.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        match words.next()? {
            "acknowledged" => {
                let thread = words.next()?.parse().ok()?;
                let first = Event { thread, sequence: words.next()?.parse().ok()? };
                Some(Report::Acknowledged { first, places: words.map(Place::parse).collect::<Option<_>>()? })
            }
            "read" => {
                let consumer = words.next()?.parse().ok()?;
                Some(Report::Read { consumer, records: words.next()?.parse().ok()? })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Acknowledged { first, places } => {
                write!(f, "acknowledged {} {}", first.thread, first.sequence)?;
                places.iter().try_for_each(|place| write!(f, " {}@{}", place.partition, place.offset))
            }
            Report::Read { consumer, records } => write!(f, "read {consumer} {records}"),
        }
    }
}

impl Place {
    fn parse(word: &str) -> Option<Self> {
        let (partition, offset) = word.split_once('@')?;
        Some(Place { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_back() {
        let places = vec![Place { partition: 0, offset: 166 }, Place { partition: 2, offset: 0 }];
        for report in [
            Report::Acknowledged { first: Event { thread: 2, sequence: 500 }, places },
            Report::Read { consumer: 1, records: 5_000 },
        ] {
            assert_eq!(Report::parse(&report.to_string()), Some(report));
        }
        for line in ["", "acknowledged", "acknowledged 1 2 3", "read 1", "panic"] {
            assert_eq!(Report::parse(line), None, "{line}");
        }
    }
}
