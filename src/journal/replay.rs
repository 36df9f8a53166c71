//! Reading the journal: recovery, and the check that it still holds what it should.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::header::{HEADER_LEN, Header, HeaderError, VERSION};
use super::lap::Lap;
use super::ring::Ring;
use crate::codec::Mark;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{Error, Result};
use crate::types::StoreId;

/// How much is read at a time of a file that should be empty.
const READ: usize = 256 * 1024;

/// What recovery found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// Behind the last frame. Take a new salt before appending there.
    pub(crate) end: Mark,
    /// How many frames there were.
    pub(crate) frames: u64,
    /// Whether traces of later frames were found and left out: what was being written when the power failed.
    pub(crate) torn: bool,
}

/// Gives `each` the payload of every frame from `from` on, in order. After a failed sync, memory may hold frames that the
/// disk does not: make what is read here durable elsewhere before anybody builds on it.
///
/// # Errors
///
/// [`Error::JournalMismatch`] when the file is not there, too short, or another store's; [`Error::Corrupt`] when a frame
/// that was durable, or the header, is damaged; [`Error::UnsupportedVersion`]; a failed read; and what `each` returns.
/// Some frames may have been given to `each` before the error: they must not be used then.
pub(crate) fn replay(
    disk: &dyn Disk,
    path: &Path,
    store: StoreId,
    from: &Mark,
    each: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Replayed> {
    let file = open_existing(disk, path)?;
    let mut lap = lap(&*file, path, store, from)?;
    let mut end = *from;
    let mut frames = 0;
    while let Some((header, payload)) = lap.next_frame(&end)? {
        each(payload)?;
        end = header.behind(&end);
        frames += 1;
    }
    let torn = lap.traces_behind(&end)?;
    Ok(Replayed { end, frames, torn })
}

/// Checks every frame between two marks of the open journal.
///
/// # Errors
///
/// [`Error::Corrupt`] when one is not as it was written, and those of [`replay`] about the file.
pub(crate) fn verify(file: &dyn DiskFile, path: &Path, store: StoreId, from: &Mark, to: &Mark) -> Result<()> {
    let mut lap = lap(file, path, store, from)?;
    let mut end = *from;
    while end.position < to.position {
        let Some((header, _)) = lap.next_frame(&end)? else {
            return Err(lap.damaged(&end, "it is not the frame that was written there"));
        };
        end = header.behind(&end);
    }
    if end == *to { Ok(()) } else { Err(lap.damaged(&end, "the frames end elsewhere than they did")) }
}

/// The lap from `from` on of a file that passes [`check_file`].
fn lap<'a>(file: &'a dyn DiskFile, path: &'a Path, store: StoreId, from: &Mark) -> Result<Lap<'a>> {
    let (ring, allocated) = check_file(file, path, store, from)?;
    Ok(Lap::new(file, path, ring, allocated, from.position))
}

/// Opens the journal, which must be there.
pub(super) fn open_existing(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>> {
    match disk.open(path, OpenMode::Existing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(mismatch(path, "it does not exist")),
        opened => opened.map_err(|error| Error::io("open", path, error)),
    }
}

/// Checks that the file is this store's journal, and that it has all that was written before `from`. Gives the ring, and
/// how many bytes of it the file has.
pub(super) fn check_file(file: &dyn DiskFile, path: &Path, store: StoreId, from: &Mark) -> Result<(Ring, u64)> {
    let len = file.len().map_err(|error| Error::io("read", path, error))?;
    if len < Ring::START {
        return Err(mismatch(path, "it ends within its header"));
    }
    let ring = match Header::decode(&read_header(file, path)?) {
        Ok(header) if header.store == store => header.ring,
        Ok(_) => return Err(mismatch(path, "that one belongs to another store")),
        Err(HeaderError::Version(found)) => {
            return Err(Error::UnsupportedVersion { what: "journal", found, supported: VERSION });
        }
        Err(HeaderError::Damaged(reason)) => return Err(Error::corrupt(path.display().to_string(), reason)),
    };
    let allocated = ring.allocated(len);
    if allocated < from.position.min(ring.capacity()) {
        return Err(mismatch(path, "it is shorter than it was"));
    }
    Ok((ring, allocated))
}

/// Whether the file, found without its store, may hold frames. A file that a creator left behind when it died holds
/// none: it is empty, or all zeros, or zeros behind a whole header.
pub(crate) fn holds_frames(disk: &dyn Disk, path: &Path) -> Result<bool> {
    let failed = |error| Error::io("read", path, error);
    let file = match disk.open(path, OpenMode::Existing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(failed)?,
    };
    let len = file.len().map_err(failed)?;
    let mut index = 0;
    if len >= Ring::START && Header::decode(&read_header(&*file, path)?).is_ok() {
        index = Ring::START;
    }
    let mut buffer = vec![0; READ];
    while index < len {
        let missing = usize::try_from(len - index).unwrap_or(usize::MAX);
        let part = match buffer.get_mut(..missing) {
            Some(part) => part,
            None => &mut buffer,
        };
        file.read_at(index, part).map_err(failed)?;
        if part.iter().any(|byte| *byte != 0) {
            return Ok(true);
        }
        index += part.len() as u64;
    }
    Ok(false)
}

fn mismatch(path: &Path, reason: &str) -> Error {
    Error::JournalMismatch { path: path.to_owned(), reason: reason.into() }
}

fn read_header(file: &dyn DiskFile, path: &Path) -> Result<[u8; HEADER_LEN]> {
    let mut bytes = [0; HEADER_LEN];
    file.read_at(0, &mut bytes).map_err(|error| Error::io("read", path, error))?;
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    //! States are built with the writer, then bent byte by byte.

    use proptest::prelude::*;

    use super::super::frame::Frame;
    use super::super::writer::Journal;
    use super::*;
    use crate::checksum::crc32c;
    use crate::disk::sim_disk::SimDisk;

    pub(in super::super) const PATH: &str = "/d/app.brooklet-journal";
    pub(in super::super) const STORE: StoreId = StoreId(0xb00c);
    pub(in super::super) const FIRST: Mark = Mark { salt: 0x5a17, sequence: 1, position: 0, chain: 0 };

    /// The smallest ring.
    pub(in super::super) const SMALL: u64 = 4096;

    pub(in super::super) fn path() -> &'static Path {
        Path::new(PATH)
    }

    pub(in super::super) fn new_journal(disk: &SimDisk, capacity: u64) -> Journal {
        Journal::create(disk, path(), STORE, capacity, FIRST).unwrap()
    }

    pub(in super::super) fn append(journal: &mut Journal, payload: &[u8], durable: u64) {
        let mut frame = Frame::new();
        frame.payload_mut().extend_from_slice(payload);
        journal.append(&mut frame, durable).unwrap();
    }

    /// What recovery finds: the payloads and the summary.
    pub(in super::super) fn recover(disk: &SimDisk, from: &Mark) -> Result<(Vec<Vec<u8>>, Replayed)> {
        let mut payloads = Vec::new();
        let replayed = replay(disk, path(), STORE, from, &mut |payload| {
            payloads.push(payload.to_vec());
            Ok(())
        })?;
        assert_eq!(replayed.frames, payloads.len() as u64);
        Ok((payloads, replayed))
    }

    /// A journal of frames with these payloads, each of which knew all before it to be durable or, if not, none; and the
    /// marks before each frame and behind the last.
    fn journal_of(payloads: &[&[u8]], all_durable: bool) -> (Vec<u8>, Vec<Mark>) {
        let disk = SimDisk::new();
        let mut journal = new_journal(&disk, SMALL);
        let mut marks = vec![FIRST];
        for payload in payloads {
            let durable = if all_durable { journal.end().sequence } else { 0 };
            append(&mut journal, payload, durable);
            marks.push(journal.end());
        }
        (disk.bytes(PATH).unwrap(), marks)
    }

    fn disk_with(bytes: &[u8]) -> SimDisk {
        let disk = SimDisk::new();
        disk.put(PATH, bytes);
        disk
    }

    /// Index in the file of the byte at a position of the first lap.
    fn index(position: u64) -> usize {
        usize::try_from(Ring::START + position).unwrap()
    }

    fn is_corrupt<T>(result: &Result<T>) -> bool {
        matches!(result, Err(Error::Corrupt { place, .. }) if place.contains(PATH))
    }

    fn is_mismatch<T>(result: &Result<T>) -> bool {
        matches!(result, Err(Error::JournalMismatch { path: named, .. }) if named == path())
    }

    #[test]
    fn frames_come_back_in_order_from_any_mark() {
        let payloads: [&[u8]; 4] = [b"one", b"", b"three three", &[7; 500]];
        let (bytes, marks) = journal_of(&payloads, false);
        for (i, mark) in marks.iter().enumerate() {
            let (found, replayed) = recover(&disk_with(&bytes), mark).unwrap();
            assert_eq!(found, payloads[i..]);
            assert_eq!((replayed.end, replayed.torn), (marks[4], false));
        }
    }

    #[test]
    fn an_error_of_the_callback_ends_the_replay() {
        let (bytes, _) = journal_of(&[b"one", b"two"], false);
        let mut seen = 0;
        let result = replay(&disk_with(&bytes), path(), STORE, &FIRST, &mut |_| {
            seen += 1;
            Err(Error::Wakeup)
        });
        assert!(matches!(result, Err(Error::Wakeup)));
        assert_eq!(seen, 1);
    }

    #[test]
    fn a_last_frame_torn_at_any_byte_is_cut_silently() {
        let (bytes, marks) = journal_of(&[b"one", b"two", b"the last one"], true);
        let (start, end) = (index(marks[2].position), index(marks[3].position));
        for torn_at in start..end {
            let mut torn = bytes.clone();
            torn[torn_at..end].fill(0);
            let (found, replayed) = recover(&disk_with(&torn), &FIRST).unwrap();
            if torn == bytes {
                // Only padding was cut off.
                continue;
            }
            assert_eq!(found.len(), 2, "byte {torn_at}");
            assert_eq!(replayed.end, marks[2]);
            // The salt is random and seldom ends in zeros, as this one does.
            assert_eq!(replayed.torn, torn_at >= start + 26, "byte {torn_at}");
        }
    }

    #[test]
    fn a_last_frame_of_which_only_the_back_arrived_is_cut_silently() {
        let (bytes, marks) = journal_of(&[b"one", b"two", b"the last one"], true);
        let (start, end) = (index(marks[2].position), index(marks[3].position));
        for torn_at in start + 1..end {
            let mut torn = bytes.clone();
            torn[start..torn_at].fill(0);
            assert_eq!(recover(&disk_with(&torn), &FIRST).unwrap().1.end, marks[2], "byte {torn_at}");
        }
    }

    #[test]
    fn a_damaged_byte_of_a_durable_frame_is_an_error() {
        let (bytes, marks) = journal_of(&[b"one", b"damaged", b"three", b"four"], true);
        for index in index(marks[1].position)..index(marks[2].position) {
            for damage in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[index] ^= damage;
                let result = recover(&disk_with(&damaged), &FIRST);
                assert!(is_corrupt(&result), "byte {index}: {result:?}");
                let disk = disk_with(&damaged);
                let file = open_existing(&disk, path()).unwrap();
                assert!(is_corrupt(&verify(&*file, path(), STORE, &FIRST, &marks[4])), "byte {index}");
            }
        }
        let mut erased = bytes;
        erased[index(marks[1].position)..index(marks[2].position)].fill(0);
        let Err(Error::Corrupt { place, reason }) = recover(&disk_with(&erased), &FIRST) else { panic!("not noticed") };
        assert_eq!(place, format!("{PATH}, frame 2 at byte {}", index(marks[1].position)));
        assert_eq!(reason, "it was durable when frame 3 was written");
    }

    #[test]
    fn a_hole_that_nobody_knew_to_be_durable_ends_the_journal() {
        let (mut bytes, marks) = journal_of(&[b"one", b"hole", b"three", b"four"], false);
        bytes[index(marks[1].position)..index(marks[2].position)].fill(0);
        let (found, replayed) = recover(&disk_with(&bytes), &FIRST).unwrap();
        assert_eq!(found, [b"one"]);
        assert!(replayed.torn);
        assert_eq!(replayed.end, marks[1]);
    }

    #[test]
    fn verify_wants_every_frame_and_the_same_end() {
        let (bytes, marks) = journal_of(&[b"one", b"two"], true);
        let disk = disk_with(&bytes);
        let file = open_existing(&disk, path()).unwrap();
        let verified = |from: &Mark, to: &Mark| verify(&*file, path(), STORE, from, to);
        verified(&FIRST, &marks[2]).unwrap();
        verified(&marks[1], &marks[1]).unwrap();
        assert!(is_corrupt(&verified(&FIRST, &Mark { position: marks[2].position + 8, ..marks[2] })));
        assert!(is_corrupt(&verified(&FIRST, &Mark { chain: 1, ..marks[2] })));
        assert!(is_corrupt(&verified(&FIRST, &Mark { position: marks[2].position - 8, ..marks[2] })));
    }

    #[test]
    fn a_mark_of_another_salt_sequence_or_chain_takes_nothing() {
        let (bytes, _) = journal_of(&[b"one", b"two"], false);
        for mark in [Mark { salt: 1, ..FIRST }, Mark { sequence: 2, ..FIRST }, Mark { chain: 1, ..FIRST }] {
            let (found, replayed) = recover(&disk_with(&bytes), &mark).unwrap();
            assert!(found.is_empty());
            assert_eq!(replayed.end, mark);
        }
    }

    #[test]
    fn a_damaged_header_is_an_error_that_names_the_journal() {
        let (bytes, _) = journal_of(&[b"one"], false);
        for index in (0..64).chain([1000, HEADER_LEN - 4, HEADER_LEN - 1]) {
            let mut damaged = bytes.clone();
            damaged[index] ^= 0x10;
            assert!(is_corrupt(&recover(&disk_with(&damaged), &FIRST)), "byte {index}");
        }
    }

    #[test]
    fn a_newer_version_is_an_error_of_its_own() {
        let (mut bytes, _) = journal_of(&[b"one"], false);
        bytes[8] = 2;
        let crc = crc32c(&bytes[..HEADER_LEN - 4]);
        bytes[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
        let result = recover(&disk_with(&bytes), &FIRST);
        assert!(matches!(result, Err(Error::UnsupportedVersion { what: "journal", found: 2, supported: VERSION })));
        assert!(holds_frames(&disk_with(&bytes), path()).unwrap());
    }

    #[test]
    fn a_missing_foreign_or_shortened_file_does_not_match() {
        let (bytes, marks) = journal_of(&[b"one", &[1; 600]], false);
        let end = marks[2];
        assert!(is_mismatch(&recover(&SimDisk::new(), &end)));
        let disk = disk_with(&bytes);
        assert!(is_mismatch(&replay(&disk, path(), StoreId(1), &end, &mut |_| Ok(()))));
        for len in 0..index(end.position) {
            assert!(is_mismatch(&recover(&disk_with(&bytes[..len]), &end)), "length {len}");
        }
        assert!(recover(&disk_with(&bytes[..index(end.position)]), &end).is_ok());
        let second_lap = Mark { position: SMALL + 8, ..end };
        assert!(is_mismatch(&recover(&disk_with(&bytes[..bytes.len() - 1]), &second_lap)));
    }

    #[test]
    fn a_file_cut_behind_the_mark_is_a_torn_end_unless_frames_were_durable() {
        let (bytes, marks) = journal_of(&[b"one", &[1; 600]], false);
        let (found, _) = recover(&disk_with(&bytes[..index(marks[2].position) - 1]), &FIRST).unwrap();
        assert_eq!(found, [b"one"]);
    }

    #[test]
    fn what_a_dead_creator_left_holds_no_frames() {
        let (full, _) = journal_of(&[b"one"], false);
        let (empty, _) = journal_of(&[], false);
        let holds = |bytes: &[u8]| holds_frames(&disk_with(bytes), path()).unwrap();
        assert!(!holds_frames(&SimDisk::new(), path()).unwrap());
        assert!(!holds(&[]) && !holds(&[0; 100]) && !holds(&[0; 9_000]));
        assert!(!holds(&empty) && !holds(&empty[..HEADER_LEN]));
        assert!(holds(&full));
        assert!(holds(b"something else") && holds(&empty[..HEADER_LEN - 1]));
        let mut damaged = empty;
        damaged[20] ^= 1;
        assert!(holds(&damaged));
    }

    #[test]
    fn a_file_made_to_waste_time_is_refused() {
        let header = Header { store: STORE, ring: Ring::with_room_for(1 << 20) };
        let mut bytes = header.encode();
        let mut frame = Frame::new();
        frame.seal(&Mark { sequence: 9, ..FIRST }, 8);
        let mut claim = frame.bytes().to_vec();
        claim[4..8].copy_from_slice(&500_000_u32.to_le_bytes());
        while bytes.len() < 1 << 20 {
            bytes.extend_from_slice(&claim);
        }
        assert!(is_corrupt(&recover(&disk_with(&bytes), &FIRST)));
    }

    fn any_mark() -> impl Strategy<Value = Mark> {
        let position = prop_oneof![0_u64..20_000, any::<u64>()];
        let fields =
            (prop_oneof![Just(FIRST.salt), any::<u64>()], prop_oneof![0_u64..5, any::<u64>()], position, any::<u32>());
        fields.prop_map(|(salt, sequence, position, chain)| Mark { salt, sequence, position, chain })
    }

    proptest! {
        #[test]
        fn any_ring_and_any_mark_give_frames_or_an_error(
            ring in proptest::collection::vec(any::<u8>(), 0..9_000),
            capacity in prop_oneof![Just(4_096_u64), Just(8_192), any::<u64>()],
            mark in any_mark(),
        ) {
            let mut bytes = Header { store: STORE, ring: Ring::with_room_for(capacity) }.encode();
            bytes.extend_from_slice(&ring);
            let disk = disk_with(&bytes);
            let _ = recover(&disk, &mark);
            let _ = holds_frames(&disk, path());
        }

        #[test]
        fn any_file_gives_frames_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..6_000)) {
            let disk = disk_with(&bytes);
            prop_assert!(recover(&disk, &FIRST).is_err());
            let _ = holds_frames(&disk, path());
        }

        #[test]
        fn a_bent_journal_never_shows_what_was_not_written(
            at in 0_usize..8_192,
            patch in proptest::collection::vec(any::<u8>(), 1..40),
            all_durable: bool,
            mark in any_mark(),
        ) {
            let payloads: [&[u8]; 5] = [b"one", b"two", &[3; 700], b"", &[5; 2_000]];
            let (mut bytes, _) = journal_of(&payloads, all_durable);
            for (byte, new) in bytes.iter_mut().skip(at).zip(patch) {
                *byte = new;
            }
            let disk = disk_with(&bytes);
            if let Ok((found, _)) = recover(&disk, &FIRST) {
                prop_assert_eq!(&found, &payloads[..found.len()]);
                // A patch may reach over the last two frames, and then there is nothing behind it to tell.
                prop_assert!(!all_durable || found.len() >= 3, "a durable frame is gone");
            }
            let _ = recover(&disk, &mark);
        }
    }
}
