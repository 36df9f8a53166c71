//! The writer: frames go into the ring one behind the other.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{Frame, frame_len};
use super::header::Header;
use super::replay::check_file;
use super::ring::Ring;
use crate::codec::Mark;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{Error, Result};
use crate::process::Process;
use crate::types::StoreId;

/// What a new journal's ring has at least, in bytes.
const FIRST_ALLOCATION: u64 = 256 * 1024;

/// By how much the file grows during the first lap, in bytes.
const GROWTH: u64 = 1024 * 1024;

/// The ring is filled in pieces of the file of this size. Linux caches a file in pieces as large as the writes that made it, if
/// these lie at multiples of their size. A small write into a large piece looks at all of it: with pieces of 1 MiB, a frame of
/// 200 bytes takes twice as long as with these. Smaller pieces cost large frames: 4096 bytes beside these places, which the
/// file's header would suggest, a frame of 1 MiB and its sync take 1.3 times as long.
const PIECE: usize = 64 * 1024;

static ZEROS: [u8; PIECE] = [0; PIECE];

/// Why a frame was not appended.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// Nothing of the frame was written: the journal is as before and goes on.
    Nothing(Error),
    /// A part of the frame may be in the file, or all of it. Nothing may be appended any more.
    Unknown(Error),
}

/// The journal, open for appending. Whoever writes has it alone; [`file`](Journal::file) lets others sync meanwhile.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    ring: Ring,
    /// Bytes of the ring that the file has. The rest of the ring is behind the end of the file.
    allocated: u64,
    /// A sync after the frame before this sequence makes the file's length durable.
    grown_before: u64,
    /// Where the next frame goes.
    end: Mark,
    /// Position of the first byte that must not be overwritten.
    start: u64,
    /// The process that opened the journal. A forked child has its handles, and must not write to them.
    process: Process,
}

impl Journal {
    /// Makes a new, empty journal whose first frame belongs at `mark`, in place of any file of that name. The ring has
    /// room for `capacity` bytes, rounded up to whole pages.
    ///
    /// The file gets its name when it is complete: a crash leaves the old one or the new one.
    pub(crate) fn create(disk: &dyn Disk, path: &Path, store: StoreId, capacity: u64, mark: Mark) -> Result<Self> {
        let new_path = with_suffix(path, ".new");
        let created =
            Self::create_as(disk, &new_path, path, Header { store, ring: Ring::with_room_for(capacity) }, mark);
        if created.is_err() {
            // It may be what fills the disk. A leftover is harmless: the next creation replaces it.
            let _ = disk.remove(&new_path);
        }
        created
    }

    /// Goes on at `mark` in the file that an unclean end left, if there is one, of this store, with a ring of this capacity.
    /// The mark's salt, never used before, keeps the frames in it apart from the new ones.
    pub(crate) fn reuse(disk: &dyn Disk, path: &Path, store: StoreId, capacity: u64, mark: Mark) -> Option<Self> {
        let file = disk.open(path, OpenMode::Existing).ok()?;
        let (ring, allocated) = check_file(&*file, path, store, &mark).ok()?;
        let mut journal = (ring == Ring::with_room_for(capacity)).then(|| Self::at(mark, file, path, ring))?;
        // Whoever made it may have been killed before its name was durable; the file itself was, before it got the name.
        disk.sync_dir(path).ok()?;
        journal.allocated = allocated;
        // What it has grown by since may not be.
        journal.grown_before = mark.sequence.saturating_add(1);
        Some(journal)
    }

    fn at(mark: Mark, file: Arc<dyn DiskFile>, path: &Path, ring: Ring) -> Self {
        Self {
            file,
            path: path.to_owned(),
            ring,
            allocated: 0,
            grown_before: mark.sequence,
            end: mark,
            start: mark.position,
            process: Process::current(),
        }
    }

    fn create_as(disk: &dyn Disk, new_path: &Path, path: &Path, header: Header, mark: Mark) -> Result<Self> {
        let failed = |error| Error::io("create", path, error);
        let file = disk.open(new_path, OpenMode::Replace).map_err(failed)?;
        let ring = header.ring;
        let mut journal = Self::at(mark, file, path, ring);
        journal.file.write_at(0, &header.encode()).map_err(failed)?;
        // What lies before the mark counts as written: a journal is never shorter than its store's mark says.
        journal.extend(mark.position.max(FIRST_ALLOCATION).min(ring.capacity())).map_err(failed)?;
        journal.file.sync().map_err(failed)?;
        disk.rename(new_path, path).map_err(failed)?;
        disk.sync_dir(path).map_err(failed)?;
        Ok(journal)
    }

    /// Writes a frame behind the last one. `durable` is the sequence before which all frames are known to be on the disk.
    /// The frame is on the disk itself after the next successful sync.
    #[inline]
    pub(crate) fn append(&mut self, frame: &mut Frame, durable: u64) -> Result<(), AppendError> {
        let payload_len = frame.payload_len();
        let len = frame_len(payload_len);
        self.make_room(len).map_err(AppendError::Nothing)?;
        let crc = frame.seal(&self.end, durable);
        let written = self.write(frame.bytes());
        frame.unseal(payload_len);
        written.map_err(|error| AppendError::Unknown(Error::io("write to", &self.path, error)))?;
        self.end.sequence = self.end.sequence.saturating_add(1);
        self.end.position = self.end.position.saturating_add(len);
        self.end.chain = crc;
        Ok(())
    }

    /// Frees the space of the frames before `position`. Call it when the store's update that holds the mark there is durable.
    pub(crate) fn recycle(&mut self, position: u64) {
        self.start = position.clamp(self.start, self.end.position);
    }

    /// Where the next frame goes.
    pub(crate) fn end(&self) -> Mark {
        self.end
    }

    /// Once everything before this sequence is synced, so is the file's length. A mark behind it must not be stored earlier:
    /// recovery refuses a journal that is shorter than the store's mark says.
    pub(crate) fn grown_before(&self) -> u64 {
        self.grown_before
    }

    /// The bytes that a frame with a payload of `payload_len` bytes takes.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn frame_len(payload_len: usize) -> u64 {
        frame_len(payload_len)
    }

    /// Bytes that frames can take before some are recycled.
    pub(crate) fn free(&self) -> u64 {
        self.ring.capacity() - self.used()
    }

    /// Bytes of the frames that are not recycled.
    pub(crate) fn used(&self) -> u64 {
        self.end.position - self.start
    }

    /// Bytes of the whole ring.
    pub(crate) fn capacity(&self) -> u64 {
        self.ring.capacity()
    }

    /// The file, to sync or to verify it while another thread appends.
    pub(crate) fn file(&self) -> Arc<dyn DiskFile> {
        Arc::clone(&self.file)
    }

    /// Returns when everything appended is on the disk. After an error it is unknown what is, and nothing may be appended
    /// any more.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync().map_err(|error| Error::io("sync", &self.path, error))
    }

    /// Makes sure that `len` bytes at the end can be written without touching a frame or growing the file.
    #[inline]
    fn make_room(&mut self, len: u64) -> Result<()> {
        if self.process.is_forked() {
            return Err(Error::Forked);
        }
        if len > self.free() {
            let free = self.free();
            return Err(Error::illegal_state(format!("a frame of {len} bytes does not fit the journal's free {free}")));
        }
        let needed = self.ring.place(self.end.position).saturating_add(len).min(self.ring.capacity());
        if needed <= self.allocated {
            return Ok(());
        }
        let target = needed.max(self.allocated + GROWTH).min(self.ring.capacity());
        self.grown_before = self.end.sequence.saturating_add(1);
        self.extend(target).map_err(|error| Error::io("extend", &self.path, error))
    }

    /// Fills the ring with zeros up to `target`. Zeros and not just a length: on a file that only promises space, each
    /// sync would have to write metadata too. The next sync makes them durable, before or together with frames.
    fn extend(&mut self, target: u64) -> io::Result<()> {
        while self.allocated < target {
            let index = Ring::START + self.allocated;
            let until_next_piece = PIECE as u64 - index % PIECE as u64;
            let missing = usize::try_from(until_next_piece.min(target - self.allocated)).unwrap_or(usize::MAX);
            let zeros = ZEROS.get(..missing).unwrap_or(&ZEROS);
            self.file.write_at(index, zeros)?;
            self.allocated += zeros.len() as u64;
        }
        Ok(())
    }

    /// Writes a sealed frame at the end, in two parts when it goes over the end of the ring.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let position = self.end.position;
        let until_end = usize::try_from(self.ring.until_end(position)).unwrap_or(usize::MAX);
        match bytes.split_at_checked(until_end) {
            Some((front, back)) if !back.is_empty() => {
                self.file.write_at(self.ring.index(position), front)?;
                self.file.write_at(Ring::START, back)
            }
            _ => self.file.write_at(self.ring.index(position), bytes),
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    //! Every journal written here is read back by recovery, mostly after a power loss.

    use proptest::prelude::*;

    use super::super::header::HEADER_LEN;
    use super::super::replay::tests::{FIRST, PATH, SMALL, STORE, append, new_journal, path, recover};
    use super::super::replay::{holds_frames, verify};
    use super::*;
    use crate::disk::sim_disk::{Fault, Keep, Op, Repeat, SimDisk};

    fn frame_of(payload: &[u8]) -> Frame {
        let mut frame = Frame::new();
        frame.payload_mut().extend_from_slice(payload);
        frame
    }

    /// A journal that goes on in the same file at `mark`.
    fn continued(disk: &SimDisk, mark: Mark) -> Journal {
        let bytes = disk.bytes(PATH).unwrap();
        let capacity = Header::decode(bytes[..HEADER_LEN].try_into().unwrap()).unwrap().ring.capacity();
        Journal::reuse(disk, path(), STORE, capacity, mark).unwrap()
    }

    /// A payload that no other frame of a test has.
    fn numbered(number: u64, len: usize) -> Vec<u8> {
        let mut payload = number.to_le_bytes().to_vec();
        payload.resize(len.max(8), 0xaa);
        payload
    }

    fn once(operation: Op, nth: usize) -> Fault {
        Fault { operation, path_contains: None, nth, kind: io::ErrorKind::Other, repeat: Repeat::Once }
    }

    #[test]
    fn a_reused_journal_is_as_long_as_it_says_once_its_first_frame_is_durable() {
        let disk = SimDisk::new();
        let mut old = new_journal(&disk, 4 * GROWTH);
        append(&mut old, &[1; 3 << 19], 0);
        let killed = disk.after_kill();
        let mark = Mark { salt: FIRST.salt + 1, sequence: 9, ..FIRST };
        let mut journal = Journal::reuse(&killed, path(), STORE, 4 * GROWTH, mark).unwrap();
        let at_its_end = Mark { position: journal.allocated, ..mark };
        let checked_after_power_loss = || {
            let disk = killed.image(killed.operations(), Keep::None);
            check_file(&*disk.open(path(), OpenMode::Existing).unwrap(), path(), STORE, &at_its_end).is_ok()
        };
        assert!(!checked_after_power_loss());
        append(&mut journal, b"first", 0);
        assert_eq!(journal.grown_before(), journal.end().sequence);
        journal.sync().unwrap();
        assert!(checked_after_power_loss());
    }

    #[test]
    fn only_this_stores_journal_with_the_wanted_ring_is_reused() {
        let disk = SimDisk::new();
        let reuse = |disk: &SimDisk, store, capacity| Journal::reuse(disk, path(), store, capacity, FIRST).is_some();
        assert!(!reuse(&disk, STORE, SMALL));
        new_journal(&disk, SMALL);
        assert!(reuse(&disk, STORE, SMALL) && reuse(&disk, STORE, SMALL - 1));
        assert!(!reuse(&disk, StoreId(1), SMALL) && !reuse(&disk, STORE, SMALL + 1));
        disk.put(PATH, &[]);
        assert!(!reuse(&disk, STORE, SMALL));
    }

    #[test]
    fn a_new_journal_is_complete_and_durable() {
        let disk = SimDisk::new();
        let journal = new_journal(&disk, 10_000_000);
        assert_eq!((journal.capacity(), journal.used()), (10_002_432, 0));
        let found = disk.image(disk.operations(), Keep::None);
        assert_eq!(found.paths(), [path()]);
        assert_eq!(found.bytes(PATH).unwrap().len() as u64, Ring::START + FIRST_ALLOCATION);
        assert!(!holds_frames(&found, path()).unwrap());
        assert_eq!(recover(&found, &FIRST).unwrap().1.end, FIRST);
    }

    #[test]
    fn a_crash_while_a_journal_is_replaced_leaves_the_old_or_the_new() {
        let disk = SimDisk::new();
        let mut old = new_journal(&disk, SMALL);
        append(&mut old, b"old", 0);
        old.sync().unwrap();
        let start = disk.operations();
        new_journal(&disk, SMALL);
        for at in start..=disk.operations() {
            for (label, image) in disk.images(at, at as u64) {
                let (payloads, replayed) = recover(&image, &FIRST).expect(&label);
                assert!(payloads.is_empty() || payloads == [b"old"], "{label}");
                assert!(!replayed.torn, "{label}");
                assert!(at > start || !payloads.is_empty(), "{label}");
            }
        }
        assert!(recover(&disk, &FIRST).unwrap().0.is_empty());
    }

    #[test]
    fn a_creation_that_fails_leaves_the_old_journal() {
        for operation in [Op::Open, Op::Write, Op::ShortWrite, Op::Sync, Op::Rename] {
            let disk = SimDisk::new();
            append(&mut new_journal(&disk, SMALL), b"old", 0);
            disk.fail(once(operation, 0));
            assert!(Journal::create(&disk, path(), STORE, SMALL, FIRST).is_err(), "{operation:?}");
            assert_eq!(disk.paths(), [path()], "{operation:?}");
            assert_eq!(recover(&disk, &FIRST).unwrap().0, [b"old"], "{operation:?}");
        }
    }

    #[test]
    fn a_journal_that_begins_late_is_as_long_as_its_mark_says() {
        for position in [8, 300_000, 5_000_000, 5_000_008, u64::MAX - 7] {
            let disk = SimDisk::new();
            let mark = Mark { position, ..FIRST };
            let mut journal = Journal::create(&disk, path(), STORE, 4 << 20, mark).unwrap();
            assert_eq!(recover(&disk, &mark).unwrap().1.end, mark);
            if position < u64::MAX / 2 {
                append(&mut journal, b"one", 0);
                assert_eq!(recover(&disk, &mark).unwrap().0, [b"one"]);
            }
        }
    }

    #[test]
    fn the_file_grows_during_the_first_lap_only() {
        let disk = SimDisk::new();
        let mut journal = new_journal(&disk, 3 << 20);
        let mut lengths = vec![disk.bytes(PATH).unwrap().len()];
        for _ in 0..20 {
            append(&mut journal, &[1; 400_000], 0);
            let applied = journal.end();
            journal.recycle(applied.position);
            let len = disk.bytes(PATH).unwrap().len();
            if lengths.last() != Some(&len) {
                lengths.push(len);
            }
        }
        let expected = [1 << 18, (1 << 20) + (1 << 18), (2 << 20) + (1 << 18), 3 << 20];
        assert_eq!(lengths, expected.map(|ring| HEADER + ring));
        assert_eq!(disk.calls(Op::SetLen, ""), 0);
    }

    const HEADER: usize = 4096;

    #[test]
    fn a_full_ring_takes_nothing_until_frames_are_recycled() {
        let disk = SimDisk::new();
        let mut journal = new_journal(&disk, SMALL);
        append(&mut journal, &[1; 2_008], 0);
        let applied = journal.end();
        append(&mut journal, &[2; 2_008], 0);
        assert_eq!((journal.free(), journal.used()), (0, SMALL));
        assert!(matches!(journal.append(&mut Frame::new(), 0), Err(AppendError::Nothing(_))));
        assert_eq!(recover(&disk, &FIRST).unwrap().0.len(), 2);
        journal.recycle(applied.position);
        assert_eq!(journal.free(), 2_048);
        append(&mut journal, &[3; 2_008], 0);
        assert_eq!(recover(&disk, &applied).unwrap().0, [[2; 2_008], [3; 2_008]]);
        verify(&*journal.file(), path(), STORE, &applied, &journal.end()).unwrap();
        let too_large = frame_len(5_000);
        assert!(too_large > journal.capacity());
        assert!(matches!(journal.append(&mut frame_of(&[4; 5_000]), 0), Err(AppendError::Nothing(_))));
    }

    #[test]
    fn recycling_never_goes_back_or_past_the_end() {
        let disk = SimDisk::new();
        let mut journal = new_journal(&disk, SMALL);
        append(&mut journal, b"one", 0);
        let applied = journal.end();
        journal.recycle(applied.position);
        journal.recycle(FIRST.position);
        assert_eq!(journal.used(), 0);
        journal.recycle(4_000);
        assert_eq!((journal.used(), journal.free()), (0, SMALL));
    }

    #[test]
    fn a_forked_child_writes_nothing() {
        let disk = SimDisk::new();
        let mut journal = new_journal(&disk, SMALL);
        journal.process = Process::parent();
        let before = disk.bytes(PATH);
        let result = journal.append(&mut frame_of(b"child"), 0);
        assert!(matches!(result, Err(AppendError::Nothing(Error::Forked))));
        assert_eq!(disk.bytes(PATH), before);
    }

    #[test]
    fn a_disk_without_room_to_grow_leaves_the_journal_usable() {
        let disk = SimDisk::new();
        let mut journal = new_journal(&disk, 2 << 20);
        append(&mut journal, &[1; 200_000], 0);
        disk.set_capacity(Some(disk.used() + 40_960));
        let mut frame = frame_of(&[2; 100_000]);
        for _ in 0..2 {
            let result = journal.append(&mut frame, 0);
            assert!(matches!(result, Err(AppendError::Nothing(Error::StorageFull { .. }))), "{result:?}");
        }
        append(&mut journal, b"small", 0);
        disk.set_capacity(None);
        journal.append(&mut frame, 0).unwrap();
        let (payloads, replayed) = recover(&disk, &FIRST).unwrap();
        assert_eq!(payloads, [vec![1; 200_000], b"small".to_vec(), vec![2; 100_000]]);
        assert_eq!(replayed.end, journal.end());
    }

    /// Frames that are longer than what the file grows by, in its first lap and round its end.
    #[test]
    fn every_crash_of_a_growing_journal_leaves_a_prefix() {
        let disk = SimDisk::new();
        let mut journal = new_journal(&disk, 2_300_000);
        let mut acknowledged = vec![(disk.operations(), 0)];
        let mut durable = journal.end().sequence;
        for (number, len) in (0..).zip([100, 300_000, 66_000, 900_000, 5, 600_000, 70_000, 330_000]) {
            append(&mut journal, &numbered(number, len), durable);
            assert_eq!(journal.file().len().unwrap(), Ring::START + journal.allocated);
            let (payloads, replayed) = recover(&disk, &FIRST).unwrap();
            assert_eq!(payloads.last(), Some(&numbered(number, len)));
            assert_eq!((replayed.end, replayed.torn), (journal.end(), false));
            if number % 3 == 2 {
                journal.sync().unwrap();
                durable = journal.end().sequence;
                acknowledged.push((disk.operations(), number + 1));
            }
        }
        check_prefix(&disk, &acknowledged, &FIRST, 0, &mut |_, _, _| {});
        journal.recycle(journal.end().position);
        let applied = journal.end();
        append(&mut journal, &numbered(9, 400_000), durable);
        assert_eq!(recover(&disk, &applied).unwrap().0, [numbered(9, 400_000)]);
        assert_eq!(journal.file().len().unwrap(), Ring::START + journal.capacity());
    }

    #[test]
    fn a_failed_write_of_a_frame_is_unknown() {
        for operation in [Op::Write, Op::ShortWrite] {
            let disk = SimDisk::new();
            let mut journal = new_journal(&disk, SMALL);
            append(&mut journal, b"one", 0);
            disk.fail(once(operation, 0));
            let result = journal.append(&mut frame_of(&[2; 100]), 0);
            assert!(matches!(result, Err(AppendError::Unknown(Error::Io { .. }))));
            assert_eq!(recover(&disk, &FIRST).unwrap().0, [b"one"]);
        }
    }

    #[test]
    fn frames_behind_a_hole_are_never_taken_again() {
        let disk = SimDisk::new();
        let mut journal = new_journal(&disk, SMALL);
        append(&mut journal, b"kept", 0);
        let hole = journal.end();
        for payload in [b"lost", b"old2", b"old3"] {
            append(&mut journal, payload, 0);
        }
        journal.file().write_at(Ring::START + hole.position, &[0; 48]).unwrap();
        let (payloads, replayed) = recover(&disk, &FIRST).unwrap();
        assert_eq!((payloads, replayed.end, replayed.torn), (vec![b"kept".to_vec()], hole, true));

        let from = Mark { salt: 0x5a18, ..replayed.end };
        let mut journal = continued(&disk, from);
        assert_eq!(recover(&disk, &from).unwrap().0.len(), 0);
        for (appended, payload) in [b"new1", b"new2", b"new3"].iter().enumerate() {
            append(&mut journal, *payload, 0);
            let (payloads, replayed) = recover(&disk, &from).unwrap();
            assert_eq!(payloads.len(), appended + 1);
            assert_eq!((replayed.end, replayed.torn), (journal.end(), false));
        }
        // Even with the old salt the chain tells the old frames from the new.
        let mut journal = continued(&disk, hole);
        append(&mut journal, b"same", 0);
        assert_eq!(recover(&disk, &hole).unwrap().0, [b"same"]);
    }

    /// One of two sessions of a workload: payloads `from..to` are appended, with a sync after every third. Gives the marks
    /// in the crash points' order, and how many payloads were acknowledged as durable at which point.
    fn run(disk: &SimDisk, journal: &mut Journal, from: u64, to: u64) -> Vec<(usize, u64)> {
        let mut acknowledged = vec![(disk.operations(), from)];
        let mut durable = journal.end().sequence;
        for number in from..to {
            append(
                journal,
                &numbered(number, [100, 250, 400, 0, 550, 1_000, 8][usize::try_from(number % 7).unwrap()]),
                durable,
            );
            if number % 3 == 2 {
                journal.sync().unwrap();
                durable = journal.end().sequence;
                acknowledged.push((disk.operations(), number + 1));
            }
        }
        acknowledged
    }

    /// Checks the law of the prefix on everything that a power loss may leave of the session; gives each recovered disk,
    /// the mark of its end, and the number of payloads on it.
    fn check_prefix(
        disk: &SimDisk,
        acknowledged: &[(usize, u64)],
        from: &Mark,
        first: u64,
        each: &mut dyn FnMut(SimDisk, Mark, u64),
    ) {
        for at in acknowledged[0].0..=disk.operations() {
            let durable = acknowledged.iter().rev().find(|(point, _)| *point <= at).unwrap().1;
            for (label, image) in disk.images(at, at as u64) {
                let (payloads, replayed) = recover(&image, from).expect(&label);
                for (i, payload) in payloads.iter().enumerate() {
                    assert_eq!(payload[..8], (first + i as u64).to_le_bytes(), "{label}");
                }
                let count = first + payloads.len() as u64;
                assert!(count >= durable, "{label}: {count} of {durable} durable ones");
                each(image, replayed.end, count);
            }
        }
    }

    #[test]
    fn every_crash_leaves_a_prefix_with_all_that_was_durable_also_a_second_time() {
        let disk = SimDisk::new();
        let mut journal = new_journal(&disk, 16_384);
        let acknowledged = run(&disk, &mut journal, 0, 18);
        let mut crashes = 0_u64;
        check_prefix(&disk, &acknowledged, &FIRST, 0, &mut |image, end, count| {
            crashes += 1;
            if !crashes.is_multiple_of(11) {
                return;
            }
            let from = Mark { salt: FIRST.salt + crashes, ..end };
            let mut journal = continued(&image, from);
            let acknowledged = run(&image, &mut journal, count, count + 7);
            check_prefix(&image, &acknowledged, &from, count, &mut |_, _, _| {});
        });
        assert!(crashes > 100);
    }

    proptest! {
        #[test]
        fn any_sizes_go_round_the_ring(
            sizes in proptest::collection::vec((0_usize..3_000, any::<bool>(), any::<bool>()), 1..60),
        ) {
            let disk = SimDisk::new();
            let mut journal = new_journal(&disk, 2 * SMALL);
            let mut frame = Frame::new();
            let mut waiting: Vec<(Mark, Vec<u8>)> = Vec::new();
            let mut applied = FIRST;
            for (number, (size, recycle, reopen)) in (0..).zip(sizes) {
                let payload = numbered(number, size);
                if recycle || journal.free() < frame_len(payload.len()) {
                    applied = journal.end();
                    waiting.clear();
                    if reopen {
                        applied.salt += 1;
                        journal = continued(&disk, applied);
                    }
                    journal.recycle(applied.position);
                }
                frame.clear();
                frame.payload_mut().extend_from_slice(&payload);
                let before = journal.end();
                journal.append(&mut frame, before.sequence).unwrap();
                prop_assert_eq!(frame.payload_len(), payload.len());
                prop_assert_eq!(journal.end().position - before.position, frame_len(payload.len()));
                waiting.push((before, payload));
                let (payloads, replayed) = recover(&disk, &applied).unwrap();
                prop_assert!(payloads.iter().eq(waiting.iter().map(|(_, payload)| payload)));
                prop_assert_eq!(replayed.end, journal.end());
                prop_assert!(!replayed.torn);
                verify(&*journal.file(), path(), STORE, &applied, &journal.end()).unwrap();
            }
        }
    }
}
