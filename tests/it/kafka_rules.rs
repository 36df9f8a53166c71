//! Kafka's promises, retold.
//!
//! Goal: whoever knows Kafka finds what they know. Method: each test is a test of Apache Kafka's own suite, or a rule of its
//! documentation, in our words and with its numbers; a comment names it (`Class.method`, and the ids of the cases and
//! rules that the code cites too). What brooklet does otherwise is tagged `DIFFERENCE:` with the reason. What is stored is read
//! twice: from memory, just appended, and from the store, after the broker was closed and opened again.

mod assignors;
mod commits;
mod compaction;
mod compression;
mod consumer;
mod groups;
mod polling;
mod producer;
mod records;
mod retention;
mod topics;
