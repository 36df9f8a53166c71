//! The integration tests: one binary, its modules are the table of contents.

mod sim_disk;
