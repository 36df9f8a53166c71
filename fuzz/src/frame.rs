//! Any bytes as a journal.
//!
//! Strategy: a real journal is written with payloads from the input, so that salt, sequence and chain are right and the
//! payloads' decoder is reached, often with a ring that was gone round. Then bytes of the file are changed and cut. Without
//! changes recovery gives the payloads, with them a prefix or an error. If the input asks for it the changed frame gets a
//! checksum that is right again; then anything may come, but no panic, and no memory beyond the file's length.

use std::path::Path;

use brooklet::Error;
use brooklet::fuzzing;

use super::bytes::Bytes;
use super::model::Choices;
use super::sim_disk::SimDisk;

const PATH: &str = "/d/app.brooklet-journal";

/// The ring's size, and where its first frame begins: both are the smallest that let frames go over its end.
const CAPACITY: u64 = 8_192;
const STARTS: [u64; 4] = [0, 4_096, 8_000, 1 << 40];

const HEADER_LEN: usize = 4_096;
const FRAME_HEADER_LEN: usize = 40;
const MAX_FRAMES: u64 = 12;
const MAX_CHANGES: usize = 32;

pub fn run(input: &[u8]) {
    let mut input = Bytes::new(input);
    let start = *input.pick(&STARTS).unwrap();
    let payloads = payloads(&mut input);
    let disk = SimDisk::new();
    let written = fuzzing::write_journal(&disk, Path::new(PATH), CAPACITY, start, &payloads).unwrap();
    let payloads = &payloads[..written];
    let mut file = disk.bytes(PATH).unwrap();
    let changes = change(&mut input, &mut file);
    disk.put(PATH, &file);

    let replayed = fuzzing::replay(&disk, Path::new(PATH), start);
    match (&replayed, changes) {
        (Ok(found), Changes::None) => assert_eq!(found, payloads),
        (Ok(found), Changes::Noticed) => assert!(payloads.starts_with(found), "not a prefix of what was written"),
        (Err(error), Changes::None) => panic!("a whole journal: {error}"),
        (Err(error), _) => assert!(matches!(
            error,
            Error::Corrupt { .. } | Error::JournalMismatch { .. } | Error::UnsupportedVersion { .. }
        )),
        (Ok(_), Changes::Forged) => {}
    }
    for payload in replayed.unwrap_or_default() {
        if let Ok(batches) = fuzzing::read_entries(&payload) {
            assert!(batches.iter().all(|records| !records.is_empty()));
        }
    }
}

fn payloads(input: &mut Bytes<'_>) -> Vec<Vec<u8>> {
    let count = input.below(MAX_FRAMES);
    let payload = |_| {
        let len = usize::from(input.byte()) * if input.flag() { 16 } else { 1 };
        input.take(len).to_vec()
    };
    (0..count).map(payload).collect()
}

/// What was done to a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Changes {
    None,
    /// Nobody could mistake them for what was written.
    Noticed,
    /// A frame was changed and its checksum with it.
    Forged,
}

fn change(input: &mut Bytes<'_>, file: &mut Vec<u8>) -> Changes {
    let mut changes = Changes::None;
    for _ in 0..MAX_CHANGES {
        if input.is_empty() || file.len() <= HEADER_LEN {
            break;
        }
        changes = if changes == Changes::Forged { Changes::Forged } else { Changes::Noticed };
        let frames = file.len() - HEADER_LEN;
        let at = HEADER_LEN + usize::try_from(input.below(frames as u64)).unwrap();
        match input.below(6) {
            0 => file[at] = file[at].wrapping_add(input.byte()),
            1 => write(file, at, &input.number().to_le_bytes()),
            2 => file.truncate(at),
            3 => {
                let at = usize::try_from(input.below(HEADER_LEN as u64)).unwrap();
                file[at] ^= input.byte();
            }
            4 => {
                let from = HEADER_LEN + usize::try_from(input.below(frames as u64)).unwrap();
                let piece = file[from..file.len().min(from + 128)].to_vec();
                write(file, at, &piece);
            }
            _ => {
                write(file, at / 8 * 8 + usize::from(input.byte() % 32), &input.number().to_le_bytes());
                seal(file, at / 8 * 8);
                changes = Changes::Forged;
            }
        }
    }
    changes
}

fn write(file: &mut [u8], at: usize, bytes: &[u8]) {
    for (place, byte) in file.iter_mut().skip(at).zip(bytes) {
        *place = *byte;
    }
}

/// Makes the checksum of a frame right, if one that does not go over the ring's end may begin there.
fn seal(file: &mut [u8], at: usize) {
    let Some(length) = file.get(at + 4..).and_then(|bytes| bytes.first_chunk()) else { return };
    let len = (FRAME_HEADER_LEN + u32::from_le_bytes(*length) as usize).next_multiple_of(8);
    let Some(frame) = file.get(at + 4..).and_then(|rest| rest.get(..len - 4)) else { return };
    let crc = crc_fast::crc32_iscsi(frame);
    write(file, at, &crc.to_le_bytes());
}
