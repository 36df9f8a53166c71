//! The only room that knows the journal file: a header that is written once, and a ring of frames behind it.
//!
//! ```text
//! app.brooklet-journal, little-endian
//!    0  header   4096 bytes, never rewritten
//!         0  u8;8  magic, "brookjnl"
//!         8  u32   format version, 1
//!        12  u32   zero
//!        16  u128  store id         the same as in the store it belongs to
//!        32  u64   capacity         bytes of the ring, a multiple of 4096
//!        40  zeros
//!      4092  u32   CRC-32C of all bytes before
//! 4096  ring     position p lies at 4096 + p % capacity; a frame may go over the ring's end and on at its start
//!
//! frame, starts at a multiple of 8
//!    0  u32   CRC-32C of everything behind it, padding included
//!    4  u32   length of the payload in bytes
//!    8  u32   chain: the CRC of the frame before
//!   12  u32   zero
//!   16  u64   sequence         one more than that of the frame before
//!   24  u64   salt             another one each time the store is opened
//!   32  u64   durable          frames before this sequence were known to be on the disk when this one was written
//!   40        payload
//!             zeros up to a multiple of 8
//! ```
//!
//! The file holds no pointer to its first or last frame. The store keeps the [`Mark`](crate::codec::Mark) of the first
//! frame that it has not applied, in the same update that applies those before; the last frame is found by reading.
//! Where the ring was never written the file is extended with real zeros, so that a sync of frames changes no metadata.
//!
//! # Recovery
//!
//!  1. The store is opened and locked. It says whether the journal is needed, and its mark.
//!  2. The header must be whole, of a known version, and of this store; the file must not be shorter than it was at the
//!     mark.
//!  3. Frames are taken from the mark on, while salt, sequence, chain and CRC are those of the next frame.
//!  4. At the first that is not, the rest of the lap is searched. A whole frame of the same salt that knew the missing one
//!     to be durable proves damage: nothing is served. Without such a frame it is the torn end of what nobody was told
//!     to be durable.
//!  5. The store takes the frames and, in the same update, the word that it needs no journal. *This is the commit point of
//!     recovery*; a crash before it recovers the same frames again. Nothing is served before it, so frames that memory holds
//!     and the disk does not, as a failed sync leaves them, do no harm.
//!  6. The store takes the mark of the ring's beginning, with a new salt. The file stays, unless its ring has another
//!     capacity than it is wanted now: then a new one takes its name first.
//!
//! A frame that recovery left behind a hole never comes back: its salt is not that of any later mark, and were it the same,
//! the chain would end at the hole.
//!
//! # What is absent
//!
//! This room decides nothing about when to sync, when to checkpoint, or what a payload means, and it has no lock.

mod frame;
mod header;
mod lap;
mod replay;
mod ring;
mod writer;

pub(crate) use frame::Frame;
pub(crate) use replay::{holds_frames, replay, verify};
pub(crate) use writer::{AppendError, Journal};
