//! Putting messages into the ring: one commit per batch.

use std::sync::atomic::Ordering;

use super::batch::Batch;
use super::control::{Control, Passed, Producers};
use super::record::{BLOCK_RECORD, Header, WORD};
use super::{RawGuard, Refusal, Ring};
use crate::arena::blocks::HEADER;
use crate::arena::member;
use crate::os::clock::Deadline;
use crate::os::memory;
use crate::sync::raw::event;

const LINE: u64 = 64;
/// How far ahead of the cursor a producer requests cache lines.
const AHEAD: usize = 6 * LINE as usize;

/// A message to put.
#[derive(Clone, Copy)]
pub(crate) enum Piece<'a> {
    /// At most `INLINE_MAX` bytes.
    Inline(&'a [u8]),
    /// A block of this process that contains `len` bytes.
    Block { at: u64, len: u64 },
}

/// A part of a batch.
#[derive(Clone, Copy)]
pub(crate) enum Part<'a> {
    /// Messages of `len` bytes each, one after the other. `len` is neither 0 nor above `INLINE_MAX`.
    Run {
        bytes: &'a [u8],
        len: usize,
    },
    One(Piece<'a>),
}

impl Ring {
    /// Puts one message, if there is room. Waits only for the lock.
    pub(crate) fn put(&self, piece: Piece<'_>, deadline: Deadline) -> Result<(), Refusal> {
        let guard = self.lock(&self.control.producers.side, deadline)?;
        self.put_slow(piece)?;
        self.notify_consumers(guard, 1);
        Ok(())
    }

    /// Puts a message of at most `INLINE_MAX` bytes, if there is room. Waits only for the lock.
    #[inline]
    pub(crate) fn put_small(&self, bytes: &[u8], deadline: Deadline) -> Result<(), Refusal> {
        let guard = self.lock(&self.control.producers.side, deadline)?;
        if !self.try_put_fast(bytes) {
            self.put_slow(Piece::Inline(bytes))?;
        }
        self.notify_consumers(guard, 1);
        Ok(())
    }

    /// Puts a small message at the cursor, if the known room is enough. Does the same as a [`Batch`] of one
    /// message, but in registers. The caller holds the lock.
    #[inline]
    fn try_put_fast(&self, bytes: &[u8]) -> bool {
        let Producers { side, room_to, taken, .. } = &self.control.producers;
        let (from, len) = (side.cursor(), bytes.len() as u64);
        let (at, header) = (from.offset(), Header::Inline { len });
        let (end, passed) = (at + header.size(), side.passed(from));
        // INVARIANT: where room is known, the queue is open. So we need not read the header at the cursor,
        // whose cache line a consumer may be reading.
        if end + WORD > room_to.load(Ordering::Relaxed)
            || !within(self.control.limits(), passed, taken.load(), len)
        {
            return false;
        }
        self.prepare_lines(at, end);
        // SAFETY: this is room behind the cursor. Only the producer that holds the lock writes to it, and no
        // thread reads it before the header is written.
        unsafe { self.arena.write_words(at + WORD, bytes) };
        self.word(end).store(Header::Nothing.word(), Ordering::Relaxed);
        // ORDERING, CRASH: as in `Batch::commit`.
        self.word(at).store(header.word(), Ordering::Release);
        side.advance(from, end, passed.with(len));
        true
    }

    /// Requests the cache lines that will be written a few messages from now. A consumer has read these
    /// lines, and getting them back takes longer than writing a message.
    #[inline]
    pub(super) fn prepare_lines(&self, from: u64, to: u64) {
        (from / LINE..=to / LINE).for_each(|line| memory::prefetch_to_write(self.word(line * LINE), AHEAD));
    }

    #[cold]
    fn put_slow(&self, piece: Piece<'_>) -> Result<(), Refusal> {
        let mut batch = Batch::begin(self)?;
        batch.push(piece)?;
        batch.commit();
        Ok(())
    }

    /// Puts as many of these messages as there is room for, in one step. Returns how many were put, or the
    /// refusal if none was put.
    pub(crate) fn put_some<'a>(
        &self,
        parts: impl Iterator<Item = Part<'a>>,
        deadline: Deadline,
    ) -> Result<usize, Refusal> {
        let guard = self.lock(&self.control.producers.side, deadline)?;
        let (mut batch, mut count) = (Batch::begin(self)?, 0);
        for part in parts {
            let (put, wanted) = match part {
                Part::Run { bytes, len } => (batch.push_run(bytes, len), bytes.len() / len),
                Part::One(piece) => (batch.push(piece).map(|()| 1), 1),
            };
            match put {
                Err(refusal) if count == 0 => return Err(refusal),
                Ok(put) if put == wanted => count += put,
                stopped => {
                    count += stopped.unwrap_or(0);
                    break;
                }
            }
        }
        batch.commit();
        self.notify_consumers(guard, count);
        Ok(count)
    }

    #[inline]
    fn notify_consumers(&self, guard: RawGuard, count: usize) {
        // ORDERING: the release of the lock is a locked instruction between our commit and the check for
        // sleepers.
        // CRASH: if we die before the wake, the death sweep wakes the sleepers.
        drop(guard);
        after_release();
        event::notify(&self.control.filled.word, count.try_into().unwrap_or(i32::MAX));
    }

    /// Closes the ring: messages that are left can still be taken. Returns false if it was already closed.
    pub(crate) fn close(&self, deadline: Deadline) -> Result<bool, Refusal> {
        let producers = &self.control.producers;
        let guard = self.lock(&producers.side, deadline)?;
        let at = producers.side.cursor().offset();
        let open = self.header(at) == Header::Nothing;
        if open {
            // CRASH: if we die between these two stores, the next producer knows of no room. So it reads the
            // header, and finds that the ring is open.
            producers.room_to.store(0, Ordering::Release);
            self.word(at).store(Header::Closed.word(), Ordering::Release);
        }
        drop(guard);
        after_release();
        let Control { filled, emptied, .. } = self.control;
        [filled, emptied].into_iter().for_each(|event| event::notify(&event.word, i32::MAX));
        Ok(open)
    }

    /// Returns whether the ring was closed. The answer may be out of date when this returns.
    pub(crate) fn is_closed(&self) -> bool {
        let side = &self.control.producers.side;
        loop {
            if member::is_forked() {
                return false; // in a fork the ring's memory reads as zeros
            }
            let cursor = side.cursor();
            let header = self.header(cursor.offset());
            if side.cursor() == cursor {
                return header == Header::Closed;
            }
        }
    }

    /// Returns whether the limits admit a message of `len` bytes. A hint.
    pub(crate) fn admits(&self, len: u64) -> bool {
        let (put, taken) = self.passed();
        within(self.control.limits(), put, taken, len)
    }
}

/// Makes sure that stores before a locked instruction come before loads after that instruction. The locked
/// instruction is the release of a lock, or a SeqCst store. On x86, the instruction itself orders these
/// stores and loads. Elsewhere, a fence does.
#[inline]
pub(super) fn after_release() {
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(Ordering::SeqCst);
    #[cfg(target_arch = "x86_64")]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
}

/// Returns whether one more message of `len` bytes is within the limits.
#[inline]
pub(super) fn within(limits: Passed, put: Passed, taken: Passed, len: u64) -> bool {
    let items = put.items.saturating_sub(taken.items);
    let bytes = put.bytes.saturating_sub(taken.bytes);
    items < limits.items && (items == 0 || bytes.saturating_add(len.max(1)) <= limits.bytes)
}

impl Ring {
    /// Returns the block or segment that the record at `at` names.
    pub(super) fn block_named(&self, at: u64, header: Header) -> Option<u64> {
        const { assert!(BLOCK_RECORD == 2 * WORD) };
        match header {
            Header::Block { .. } => Some(self.word(at + WORD).load(Ordering::Acquire)),
            Header::Go { to, leave: true } => Some(to - HEADER),
            _ => None,
        }
    }
}
