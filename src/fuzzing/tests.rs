//! The seeds of the two targets that use this, run by the code of the targets.

#[path = "../../fuzz/src/bytes.rs"]
mod bytes;
#[expect(unreachable_pub, reason = "the fuzz targets are another crate")]
#[path = "../../fuzz/src/frame.rs"]
mod frame;
#[expect(dead_code, reason = "the integration tests use the rest")]
#[path = "../../tests/it/model.rs"]
mod model;
#[expect(unreachable_pub, reason = "the fuzz targets are another crate")]
#[path = "../../fuzz/src/record_batch.rs"]
mod record_batch;

use std::path::Path;

use crate::disk::sim_disk;

fn replay(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut seeds = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("seed-") {
            eprintln!("{}", path.display());
            run(&std::fs::read(&path).unwrap());
            seeds += 1;
        }
    }
    assert!(seeds > 0, "{} has no seeds", directory.display());
}

#[test]
fn batches_come_back_or_are_errors() {
    replay("record_batch", record_batch::run);
}

#[test]
fn journals_come_back_or_are_errors() {
    replay("frame", frame::run);
}
