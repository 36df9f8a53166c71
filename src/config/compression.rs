//! How the records of a topic are compressed in the store.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// How the records of a topic are compressed in the store (`compression.type`).
///
/// Records are compressed when they move from the journal into the store: up to 64 KiB of them into a chunk. So it costs a
/// sender nothing but what the background thread takes of the processor, and offsets, timestamps and everything that is read
/// stay the same (P-19). A chunk that would not get smaller by a sixteenth is stored as it is.
///
/// A change acts on what is stored from then on. What is stored stays as it is and stays readable; one partition may hold
/// chunks of every type.
///
/// ```
/// use brooklet::{Broker, CompressionType, NewTopic, TopicConfig};
///
/// let broker = Broker::in_memory()?;
/// let config = TopicConfig::default().compression_type(CompressionType::None);
/// broker.create_topic(NewTopic::new("orders", 1).config(config))?;
/// # #[cfg(feature = "lz4")]
/// broker.alter_topic("orders", |config| config.set("compression.type", "lz4"))?;
/// # Ok::<(), brooklet::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum CompressionType {
    /// Not at all.
    #[default]
    None,
    /// By LZ4: fast. Needs the feature `lz4`, which is on by default.
    Lz4,
    /// By Zstandard, level 3: smaller, and slower to write and to read. Needs the feature `zstd`, which compiles a C library.
    Zstd,
}

impl CompressionType {
    /// Whether this build of brooklet has it.
    pub fn is_supported(self) -> bool {
        match self {
            CompressionType::None => true,
            CompressionType::Lz4 => cfg!(feature = "lz4"),
            CompressionType::Zstd => cfg!(feature = "zstd"),
        }
    }

    /// The value of a configuration. Kafka spells `none` `uncompressed` there; both are taken.
    pub(super) fn parse(value: &str) -> Result<Self, String> {
        Ok(match value {
            "none" | "uncompressed" => CompressionType::None,
            "lz4" => CompressionType::Lz4,
            "zstd" => CompressionType::Zstd,
            "gzip" | "snappy" => {
                return Err("brooklet does not have it: take `lz4` for speed or `zstd` for size".to_owned());
            }
            "producer" => {
                let reason = "producers do not compress here, records are compressed when they are stored: \
                              choose `none`, `lz4` or `zstd` for the topic";
                return Err(reason.to_owned());
            }
            _ => return Err("`none`, `lz4` or `zstd` is expected".to_owned()),
        })
    }
}

impl FromStr for CompressionType {
    type Err = Error;

    /// Reads the value of `compression.type`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`], which names the values that are allowed.
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text).map_err(|reason| Error::invalid_config(super::COMPRESSION_TYPE, text, reason))
    }
}

impl fmt::Display for CompressionType {
    /// As configurations and cargo features spell it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CompressionType::None => "none",
            CompressionType::Lz4 => "lz4",
            CompressionType::Zstd => "zstd",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_as_it_is_written() {
        for compression_type in [CompressionType::None, CompressionType::Lz4, CompressionType::Zstd] {
            assert_eq!(CompressionType::parse(&compression_type.to_string()), Ok(compression_type));
        }
        assert_eq!(CompressionType::parse("uncompressed"), Ok(CompressionType::None));
    }

    #[test]
    fn what_kafka_has_beside_is_refused_with_what_to_take_instead() {
        for value in ["gzip", "snappy", "producer", "LZ4", ""] {
            let reason = CompressionType::parse(value).unwrap_err();
            assert!(reason.contains("`lz4`") && reason.contains("`zstd`"), "{value}: {reason}");
        }
    }
}
