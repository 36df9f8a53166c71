//! One lap of the ring, read through a window: memory is needed for the longest frame, not for the ring.

use std::path::Path;

use super::frame::{self, ALIGNMENT, FrameHeader, SALT_INDEX};
use super::ring::Ring;
use crate::codec::Mark;
use crate::disk::DiskFile;
use crate::error::{Error, Result};

/// How much is read at a time, unless a frame is longer. It stays in the processor's cache.
const WINDOW: u64 = 256 * 1024;

/// The positions that the ring holds while the first frame is at `start`: one lap from there.
pub(super) struct Lap<'a> {
    file: &'a dyn DiskFile,
    path: &'a Path,
    ring: Ring,
    /// How much of the ring the file has.
    allocated: u64,
    start: u64,
    /// Bytes of the lap, from position `window_at` on.
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Lap<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, path: &'a Path, ring: Ring, allocated: u64, start: u64) -> Self {
        Self { file, path, ring, allocated, start, window: Vec::new(), window_at: start }
    }

    /// The position behind the lap.
    fn end(&self) -> u64 {
        self.start.saturating_add(self.ring.capacity())
    }

    /// The header and the payload of the frame that belongs at `mark`.
    pub(super) fn next_frame(&mut self, mark: &Mark) -> Result<Option<(FrameHeader, &[u8])>> {
        let Some(header) = self.header_at(mark.position)?.filter(|header| header.follows(mark)) else {
            return Ok(None);
        };
        let frame = self.whole_frame(mark.position, &header)?;
        let payload = frame.and_then(|frame| frame.get(frame::HEADER_LEN..)?.get(..header.length as usize));
        Ok(payload.map(|payload| (header, payload)))
    }

    /// Whether anything of the same salt lies behind the last frame: what was being written at the end.
    ///
    /// Anything goes unless one of those frames is whole and knew the frame at `end` to be durable: then that one is
    /// damaged.
    pub(super) fn traces_behind(&mut self, end: &Mark) -> Result<bool> {
        let mut torn = false;
        // Frames don't overlap, so what is checked is about a lap. Only a file made to waste time has more.
        let mut patience = 4 * self.ring.capacity();
        let mut at = end.position;
        while at < self.end() {
            let (positions, next) = self.positions_with_salt(at, end.salt)?;
            at = next;
            for position in positions.into_iter().filter(|position| *position >= end.position) {
                let Some(header) = self.header_at(position)? else { continue };
                if header.sequence < end.sequence {
                    continue;
                }
                torn = true;
                if header.sequence == end.sequence || header.durable <= end.sequence {
                    continue;
                }
                let Some(left) = patience.checked_sub(header.frame_len().min(self.ring.capacity())) else {
                    return Err(self.damaged(end, "more frames claim to follow it than there is room for"));
                };
                patience = left;
                if self.whole_frame(position, &header)?.is_some() {
                    let reason = format!("it was durable when frame {} was written", header.sequence);
                    return Err(self.damaged(end, &reason));
                }
            }
        }
        Ok(torn)
    }

    /// Positions at which a frame of this salt may begin, as a window of words from `at` on shows them; and where the next
    /// window begins.
    fn positions_with_salt(&mut self, at: u64, salt: u64) -> Result<(Vec<u64>, u64)> {
        let until_end = self.ring.until_end(at);
        let in_file = self.allocated.saturating_sub(self.ring.place(at)).min(until_end).min(self.end() - at);
        if in_file == 0 {
            return Ok((Vec::new(), at.saturating_add(until_end)));
        }
        let len = in_file.min(WINDOW);
        let words = self.view(at, len)?.unwrap_or_default().chunks_exact(ALIGNMENT);
        let salt = salt.to_le_bytes();
        let salts = (0_u64..).step_by(ALIGNMENT).zip(words).filter(|(_, word)| *word == salt);
        let positions = salts.filter_map(|(distance, _)| (at + distance).checked_sub(SALT_INDEX));
        Ok((positions.collect(), at.saturating_add(len)))
    }

    fn header_at(&mut self, position: u64) -> Result<Option<FrameHeader>> {
        let bytes = self.view(position, frame::HEADER_LEN as u64)?;
        Ok(bytes.and_then(|bytes| FrameHeader::decode(bytes).ok()))
    }

    /// The frame of this header, padding included, if it is as it was written.
    fn whole_frame(&mut self, position: u64, header: &FrameHeader) -> Result<Option<&[u8]>> {
        let bytes = self.view(position, header.frame_len())?;
        Ok(bytes.filter(|bytes| frame::checksum(bytes) == header.crc))
    }

    /// Bytes of the lap; `None` when the lap or the file has not so many, which is found out before memory is taken.
    fn view(&mut self, position: u64, len: u64) -> Result<Option<&[u8]>> {
        let in_lap = position >= self.start && position.checked_add(len).is_some_and(|end| end <= self.end());
        let in_file = match self.ring.place(position).checked_add(len) {
            Some(end) if end <= self.ring.capacity() => end <= self.allocated,
            _ => self.allocated == self.ring.capacity(),
        };
        if !in_lap || !in_file {
            return Ok(None);
        }
        let window_end = self.window_at.saturating_add(self.window.len() as u64);
        if position < self.window_at || position + len > window_end {
            self.move_window(position, len)?;
        }
        let front = position - self.window_at;
        let range = usize::try_from(front).ok().zip(usize::try_from(front + len).ok());
        Ok(range.and_then(|(front, back)| self.window.get(front..back)))
    }

    /// Reads from `position` on: so many bytes, which the file has, or a window of those before the ring's end.
    fn move_window(&mut self, position: u64, len: u64) -> Result<()> {
        let in_one_piece = (self.allocated - self.ring.place(position)).min(len.max(WINDOW));
        self.window.resize(usize::try_from(in_one_piece.max(len)).unwrap_or(usize::MAX), 0);
        self.window_at = position;
        let (front, back) = self.window.split_at_mut(usize::try_from(in_one_piece).unwrap_or(usize::MAX));
        let read = |position, bytes: &mut [u8]| self.file.read_at(self.ring.index(position), bytes);
        let done = read(position, front).and_then(|()| match back {
            [] => Ok(()),
            back => read(position + in_one_piece, back),
        });
        done.map_err(|error| {
            self.window.clear();
            Error::io("read", self.path, error)
        })
    }

    pub(super) fn damaged(&self, at: &Mark, reason: &str) -> Error {
        let index = self.ring.index(at.position);
        Error::corrupt(format!("{}, frame {} at byte {index}", self.path.display(), at.sequence), reason)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Frame;
    use super::super::header::{HEADER_LEN, Header};
    use super::super::replay::check_file;
    use super::super::replay::tests::{FIRST, PATH, STORE, append, new_journal, path, recover};
    use super::*;
    use crate::disk::{Disk, OpenMode, sim_disk::SimDisk};

    #[test]
    fn frames_lie_across_windows_and_may_be_longer_than_one() {
        let disk = SimDisk::new();
        let window = usize::try_from(WINDOW).unwrap();
        let mut journal = new_journal(&disk, 3 * WINDOW);
        let mut from = FIRST;
        // Each round leaves the ring at another place, also across its end.
        for (round, lens) in
            [[window - 100, 60, 200], [7, window + 9, 50_000], [2 * window, 0, 30_011]].iter().enumerate()
        {
            let payloads = lens.map(|len| vec![u8::try_from(round + 1).unwrap(); len]);
            for payload in &payloads {
                append(&mut journal, payload, from.sequence);
            }
            let (found, replayed) = recover(&disk, &from).unwrap();
            assert!(found == payloads, "round {round}");
            assert_eq!(replayed.end, journal.end());
            from = journal.end();
            journal.recycle(from.position);
        }
    }

    #[test]
    fn a_huge_ring_and_a_huge_length_cost_nothing() {
        let header = Header { store: STORE, ring: Ring::with_room_for(u64::MAX) };
        let mut bytes = header.encode();
        let mut frame = Frame::new();
        frame.seal(&FIRST, 0);
        bytes.extend_from_slice(frame.bytes());
        bytes[HEADER_LEN + 4..HEADER_LEN + 8].fill(0xff);
        let disk = SimDisk::new();
        disk.put(PATH, &bytes);
        let file = disk.open(path(), OpenMode::Existing).unwrap();
        let (ring, allocated) = check_file(&*file, path(), STORE, &FIRST).unwrap();
        let mut lap = Lap::new(&*file, path(), ring, allocated, FIRST.position);
        assert!(lap.next_frame(&FIRST).unwrap().is_none());
        assert!(lap.window.capacity() <= bytes.len());
        assert_eq!(recover(&disk, &FIRST).unwrap().0.len(), 0);
    }
}
