//! The integration tests: one binary, its modules are the table of contents.

mod bad_input;
mod concurrency;
mod crash;
mod kafka_rules;
mod model;
mod sim_disk;
mod support;
mod tidy;
