//! The integration tests: one binary, its modules are the table of contents.

// Everything in here is a test: helpers may unwrap as tests may.
#![cfg(test)]

mod bad_input;
#[cfg(feature = "cli")]
mod cli;
mod compacted;
mod concurrency;
mod conveniences;
mod corpus;
mod crash;
mod crash_compaction;
mod damage;
mod faults;
mod kafka_rules;
mod kill;
mod members;
mod model;
mod random;
mod sim_disk;
mod space;
mod support;
mod tidy;
mod uncommitted;
