//! Taking messages out.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};

use super::control::Cursor;
use super::produce::after_release;
use super::record::{Header, INLINE_MAX, WORD};
use super::{Refusal, Ring, Turn};
use crate::arena::blocks::{self, HEADER};
use crate::arena::bytes::copy_few;
use crate::arena::{member, payload};
use crate::os::clock::Deadline;
use crate::rules::{self, Rule};
use crate::sync::raw::event;

/// The bytes of a small message on its way in or out.
pub(crate) struct Buffer {
    bytes: [MaybeUninit<u8>; INLINE_MAX],
    len: usize,
}

impl Buffer {
    #[inline]
    pub(crate) fn new() -> Buffer {
        Buffer { bytes: [const { MaybeUninit::uninit() }; INLINE_MAX], len: 0 }
    }

    #[inline]
    fn fill(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(INLINE_MAX);
        // SAFETY: the buffer is at least as long, and another place than the ring.
        unsafe { copy_few(bytes.as_ptr(), self.bytes.as_mut_ptr().cast(), len) };
        self.len = len;
    }

    /// `len` bytes to write to, `INLINE_MAX` at most.
    #[inline]
    pub(crate) fn zeros(&mut self, len: usize) -> &mut [u8] {
        // By lines, because the length is not known where this is compiled, and most messages are short.
        const LINE: usize = 64;
        for line in self.bytes.chunks_exact_mut(LINE).take(len.div_ceil(LINE)) {
            line.fill(MaybeUninit::new(0));
        }
        self.len = len.min(INLINE_MAX);
        // SAFETY: so many were just written, and a byte has no alignment.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_mut_ptr().cast(), self.len) }
    }

    /// What was copied last.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `fill` or `zeros` has written so many.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast(), self.len) }
    }
}

/// A message that was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Taken {
    /// Its bytes were copied, so many.
    Inline(usize),
    /// A block that belongs to this process now.
    Block(u64),
}

/// More records that only lead elsewhere are not written one behind the other: who finds more is led in a circle, by
/// somebody who wrote where he must not.
const MOST_MOVES: u32 = 1000;

impl Ring {
    /// Takes the next message, if there is one. Waits only for its turn.
    #[inline]
    pub(crate) fn take(&self, buffer: &mut Buffer, deadline: Deadline) -> Result<Taken, Refusal> {
        let side = &self.control.consumers.side;
        let turn = self.turn(side, deadline)?;
        let cursor = side.cursor();
        let at = cursor.offset();
        // ORDERING: as in `header`.
        let taken = if let Some(len) = Header::inline_len(self.word(at).load(Ordering::Acquire)) {
            buffer.fill(self.arena.bytes(at + WORD, len));
            // CRASH: as in `step`.
            side.advance(cursor, at + Header::Inline { len }.size(), side.passed(cursor).with(len));
            Taken::Inline(len as usize)
        } else {
            self.take_any(buffer)?
        };
        self.tell_producers(turn, 1);
        Ok(taken)
    }

    /// As [`take`](Ring::take), by who has the turn, whatever comes next.
    #[cold]
    fn take_any(&self, buffer: &mut Buffer) -> Result<Taken, Refusal> {
        let (cursor, header) = self.next()?;
        let taken = if let Header::Inline { len } = header {
            buffer.fill(self.arena.bytes(cursor.offset() + WORD, len));
            Taken::Inline(len as usize)
        } else {
            self.control.consumers.taking.store(1, Ordering::Release);
            Taken::Block(self.take_block(cursor.offset()))
        };
        self.step(cursor, header);
        Ok(taken)
    }

    /// Takes the next message, which is small, and calls `mark` with its bytes before it leaves the ring: if
    /// we die in between, it is marked and still there. Waits only for its turn.
    #[inline]
    pub(crate) fn take_marked<R>(
        &self,
        deadline: Deadline,
        mark: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Refusal> {
        let turn = self.turn(&self.control.consumers.side, deadline)?;
        let (cursor, header) = self.next()?;
        let len = if let Header::Inline { len } = header { len } else { 0 };
        let marked = mark(self.arena.bytes(cursor.offset() + WORD, len));
        self.step(cursor, header);
        self.tell_producers(turn, 1);
        Ok(marked)
    }

    /// Takes up to `max` messages at once: the bytes of small ones are appended to `bytes`.
    pub(crate) fn take_some(
        &self,
        max: usize,
        bytes: &mut Vec<u8>,
        deadline: Deadline,
    ) -> Result<Vec<Taken>, Refusal> {
        let turn = self.turn(&self.control.consumers.side, deadline)?;
        let consumers = &self.control.consumers;
        let (cursor, _) = self.next()?;
        let mut taken = Vec::with_capacity(max.min(256));
        let (mut at, mut passed) = (cursor.offset(), consumers.side.passed(cursor));
        let (mut records, mut moves, mut leaves, mut blocks) = (0, 0, false, false);
        while taken.len() < max {
            let header = self.header(at);
            records += 1;
            match header {
                Header::Inline { len } => {
                    if taken.is_empty() {
                        // The others are likely to be as long.
                        bytes.reserve(max.saturating_mul(len as usize).min(64 << 10));
                    }
                    bytes.extend_from_slice(self.arena.bytes(at + WORD, len));
                    taken.push(Taken::Inline(len as usize));
                    passed = passed.with(len);
                }
                Header::Block { len } => {
                    // CRASH: before the block is ours. Recovery looks at no more records than we have come to.
                    consumers.taking.store(records, Ordering::Release);
                    taken.push(Taken::Block(self.take_block(at)));
                    passed = passed.with(len);
                    blocks = true;
                }
                // To the beginning of this segment, and to the next one; but one commit leaves one segment at most.
                Header::Go { to, leave } if moves < 2 && !(leave && leaves) => {
                    (at, moves, leaves) = (to, moves + 1, leaves | leave);
                    continue;
                }
                _ => break,
            }
            at += header.size();
        }
        // CRASH: as in `step`.
        let commit = || consumers.side.advance(cursor, at, passed);
        if leaves {
            self.leave_by(cursor, commit)
        } else {
            commit()
        }
        if blocks {
            // CRASH: until this store recovery looks at as many records in vain as were taken.
            consumers.taking.store(1, Ordering::Release);
        }
        self.tell_producers(turn, taken.len());
        Ok(taken)
    }

    #[inline]
    pub(super) fn tell_producers(&self, turn: Turn, count: usize) {
        drop(turn);
        after_release();
        // Room counted in bytes may do for several small messages.
        let bytes_count = self.control.limits().bytes != u64::MAX;
        let count = if bytes_count { i32::MAX } else { count.try_into().unwrap_or(i32::MAX) };
        event::notify(&self.control.emptied.word, count);
    }

    /// The next message's record, as seen by who holds the consumers' lock.
    #[inline]
    pub(super) fn next(&self) -> Result<(Cursor, Header), Refusal> {
        let side = &self.control.consumers.side;
        let mut cursor = side.cursor();
        for _ in 0..MOST_MOVES {
            match self.header(cursor.offset()) {
                Header::Nothing => break,
                Header::Closed => return Err(Refusal::Closed),
                Header::Go { to, leave: false } => cursor = side.go(cursor, to),
                Header::Go { to, leave: true } => cursor = self.leave(cursor, to),
                header => return Ok((cursor, header)),
            }
        }
        Err(Refusal::Empty)
    }

    /// Moves behind a message: from here on it is taken.
    #[inline]
    pub(super) fn step(&self, cursor: Cursor, header: Header) {
        let len = match header {
            Header::Inline { len } | Header::Block { len } => len,
            _ => 0,
        };
        let side = &self.control.consumers.side;
        // CRASH: until the cursor moves the message is the queue's, and recovery takes its block back
        // from us; from then on it is ours, and goes with us.
        side.advance(cursor, cursor.offset() + header.size(), side.passed(cursor).with(len));
    }

    /// Makes the block of the record at `at` this process's own.
    fn take_block(&self, at: u64) -> u64 {
        let block = self.word(at + WORD).load(Ordering::Acquire);
        self.adopt(block);
        block
    }

    /// Makes a block of the queue's this process's own.
    pub(super) fn adopt(&self, block: u64) {
        blocks::hand_over(self.arena, block, self.owner(), Ring::me());
        if blocks::owner(self.arena, block).has_handles() {
            // A move of what it carries: see `arena/collect.rs`.
            payload::for_each_handle(self.arena, block, u64::MAX, &mut |id| {
                if id.index() < self.arena.layout.objects {
                    self.arena.object(id.index()).touch();
                }
            });
        }
    }

    /// Continues in the next segment, and frees this one.
    #[cold]
    fn leave(&self, cursor: Cursor, to: u64) -> Cursor {
        self.leave_by(cursor, || self.control.consumers.side.go(cursor, to))
    }

    /// Frees the segment of `cursor`, from which `go` moves the cursor to the next one.
    #[cold]
    fn leave_by<R>(&self, cursor: Cursor, go: impl FnOnce() -> R) -> R {
        let left = &self.control.consumers.left;
        // No producer can be in the segment before this one any more: a batch leaves one at most.
        self.free_segment(left);
        let (start, end) = self.segment(cursor.offset());
        let here = start - HEADER;
        left.store(here, Ordering::Release);
        // CRASH: named as `left` and stayed in: `free_segment` sees that the cursor is in it.
        let gone = go();
        // A producer that has committed its move may not have moved its own cursor yet, from which
        // recovery would go on if it died.
        let producer = self.control.producers.side.cursor().offset();
        if !(start..end).contains(&producer) || !rules::holds(Rule::SegmentKept) {
            self.free_segment(left);
        }
        gone
    }

    /// Frees the segment that was left, if there is one.
    fn free_segment(&self, left: &AtomicU64) {
        let leaving = &self.control.consumers.leaving;
        let block = left.load(Ordering::Acquire);
        if block == 0 {
            return;
        }
        // CRASH: named in `leaving` until it is this process's, and would be swept.
        leaving.store(block, Ordering::Release);
        left.store(0, Ordering::Release);
        blocks::hand_over(self.arena, block, self.owner(), Ring::me());
        leaving.store(0, Ordering::Release);
        blocks::free(self.arena, member::slot(), block, Ring::me());
    }

    /// Whether there is a message, or there will be none: a snapshot without the lock.
    pub(crate) fn has_news(&self) -> bool {
        self.peek() != Header::Nothing
    }

    /// Whether there is a message: a snapshot without the lock.
    pub(crate) fn has_message(&self) -> bool {
        !matches!(self.peek(), Header::Nothing | Header::Closed)
    }

    fn peek(&self) -> Header {
        if member::is_forked() {
            return Header::Nothing; // there are zeros where the ring was
        }
        let side = &self.control.consumers.side;
        loop {
            let cursor = side.cursor();
            let header = self.header(cursor.offset());
            // A segment that was left is freed after the cursor has moved: then look again.
            if side.cursor() == cursor {
                return header;
            }
        }
    }
}
