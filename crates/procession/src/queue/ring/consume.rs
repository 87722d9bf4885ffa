//! Taking messages out of the ring.

use std::sync::atomic::{AtomicU64, Ordering};

use super::buffer::Buffer;
use super::control::Cursor;
use super::produce::after_release;
use super::record::{Header, WORD};
use super::{RawGuard, Refusal, Ring};
use crate::arena::blocks::{self, HEADER};
use crate::arena::owned_block::OwnedBlock;
use crate::arena::{member, payload};
use crate::os::clock::Deadline;
use crate::rules::{self, Rule};
use crate::sync::raw::event;

/// A message that was taken.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The message's bytes were copied.
    Inline,
    /// The message's block, which now belongs to this process.
    Block(OwnedBlock),
}

/// A part of a batch that was taken.
#[derive(Debug)]
pub(crate) enum TakenRun {
    /// Messages of `len` bytes each, which were copied.
    Inline { len: usize, count: usize },
    /// A message's block, which now belongs to this process.
    Block(OwnedBlock),
}

/// A sound ring never has this many `GO` records in a row. If a consumer follows this many, a faulty process
/// has corrupted the ring so that these records form a circle.
const MAX_MOVES: u32 = 1000;

impl Ring {
    /// Takes the next message, if there is one. Waits only for the lock.
    #[inline]
    pub(crate) fn take(&self, buffer: &mut Buffer, deadline: Deadline) -> Result<Taken, Refusal> {
        let side = &self.control.consumers.side;
        let guard = self.lock(side, deadline)?;
        let cursor = side.cursor();
        let at = cursor.offset();
        // ORDERING: as in `header`.
        let taken = if let Some(len) = Header::inline_len(self.word(at).load(Ordering::Acquire)) {
            buffer.fill(self.message(at, len));
            // CRASH: as in `step`.
            side.advance(cursor, at + Header::Inline { len }.size(), side.passed(cursor).with(len));
            Taken::Inline
        } else {
            self.take_any(buffer)?
        };
        self.notify_producers(guard, 1);
        Ok(taken)
    }

    /// Takes the next message of any kind. The caller holds the lock.
    #[cold]
    fn take_any(&self, buffer: &mut Buffer) -> Result<Taken, Refusal> {
        let (cursor, header) = self.next()?;
        let taken = if let Header::Inline { len } = header {
            buffer.fill(self.message(cursor.offset(), len));
            Taken::Inline
        } else {
            self.control.consumers.taking.store(1, Ordering::Release);
            Taken::Block(self.owned(self.take_block(cursor.offset())))
        };
        self.step(cursor, header);
        Ok(taken)
    }

    /// Takes the next message, which must be small. Calls `visit` with its bytes before the message leaves
    /// the ring. If we die after the visit but before the message leaves, the message is still in the ring.
    /// Waits only for the lock.
    #[inline]
    pub(crate) fn take_with<R>(
        &self,
        deadline: Deadline,
        visit: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Refusal> {
        let guard = self.lock(&self.control.consumers.side, deadline)?;
        let (cursor, header) = self.next()?;
        let len = if let Header::Inline { len } = header { len } else { 0 };
        let visited = visit(self.message(cursor.offset(), len));
        self.step(cursor, header);
        self.notify_producers(guard, 1);
        Ok(visited)
    }

    /// Takes up to `max` messages in one step. Appends the bytes of small messages to `bytes`.
    pub(crate) fn take_some(
        &self,
        max: usize,
        bytes: &mut Vec<u8>,
        deadline: Deadline,
    ) -> Result<Vec<TakenRun>, Refusal> {
        let guard = self.lock(&self.control.consumers.side, deadline)?;
        let consumers = &self.control.consumers;
        let (cursor, _) = self.next()?;
        let (mut taken, mut count) = (Vec::new(), 0);
        let (mut at, mut passed) = (cursor.offset(), consumers.side.passed(cursor));
        let (mut records, mut moves, mut leaves, mut blocks) = (0, 0, false, false);
        while count < max {
            let header = self.header(at);
            match header {
                Header::Inline { len } => {
                    if taken.is_empty() {
                        // The other messages are likely to be as long as the first.
                        bytes.reserve(max.saturating_mul(len as usize).min(64 << 10));
                    }
                    let run = self.copy_run(at, len as usize, max - count, bytes);
                    taken.push(TakenRun::Inline { len: len as usize, count: run });
                    passed = passed.with_run(run as u64, len);
                    (at, records, count) =
                        (at + run as u64 * header.size(), records + run as u64, count + run);
                    continue;
                }
                Header::Block { len } => {
                    // CRASH: `taking` is stored before the block becomes ours, because recovery looks at only
                    // this many records.
                    consumers.taking.store(records + 1, Ordering::Release);
                    taken.push(TakenRun::Block(self.owned(self.take_block(at))));
                    passed = passed.with(len);
                    (count, blocks) = (count + 1, true);
                }
                // Follows the ring once to the beginning of this segment, and once to the next segment. One commit
                // leaves at most one segment.
                Header::Go { to, leave } if moves < 2 && !(leave && leaves) => {
                    (at, records, moves, leaves) = (to, records + 1, moves + 1, leaves | leave);
                    continue;
                }
                _ => break,
            }
            (at, records) = (at + header.size(), records + 1);
        }
        // CRASH: as in `step`.
        let commit = || consumers.side.advance(cursor, at, passed);
        if leaves {
            self.leave_by(cursor, commit)
        } else {
            commit()
        }
        if blocks {
            // CRASH: if we die before this store, recovery looks at more records than it needs to.
            consumers.taking.store(1, Ordering::Release);
        }
        self.notify_producers(guard, count);
        Ok(taken)
    }

    #[inline]
    pub(super) fn notify_producers(&self, guard: RawGuard, count: usize) {
        drop(guard);
        after_release();
        // With a limit in bytes, the room of one message may be enough for several small ones.
        let bytes_count = self.control.limits().bytes != u64::MAX;
        let count = if bytes_count { i32::MAX } else { count.try_into().unwrap_or(i32::MAX) };
        event::notify(&self.control.emptied.word, count);
    }

    /// Returns the record of the next message. The caller holds the consumers' lock.
    #[inline]
    pub(super) fn next(&self) -> Result<(Cursor, Header), Refusal> {
        let side = &self.control.consumers.side;
        let mut cursor = side.cursor();
        for _ in 0..MAX_MOVES {
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

    /// Moves the cursor past a message. This store takes the message.
    #[inline]
    pub(super) fn step(&self, cursor: Cursor, header: Header) {
        let len = match header {
            Header::Inline { len } | Header::Block { len } => len,
            _ => 0,
        };
        let side = &self.control.consumers.side;
        // CRASH: until the cursor moves, the message belongs to the queue, and recovery hands the message's
        // block back. From then on, the message is ours, and is lost with us.
        side.advance(cursor, cursor.offset() + header.size(), side.passed(cursor).with(len));
    }

    /// Transfers the block of the record at `at` to this process. Returns the block.
    fn take_block(&self, at: u64) -> u64 {
        let block = self.word(at + WORD).load(Ordering::Acquire);
        self.adopt(block);
        block
    }

    /// Returns the bytes of the small message at `at`. The caller holds the consumers' lock.
    #[inline]
    pub(super) fn message(&self, at: u64, len: u64) -> &'static [u8] {
        // SAFETY: the message is published, and its segment stays until a consumer has moved the cursor past
        // the message.
        unsafe { self.arena.bytes(at + WORD, len) }
    }

    /// Returns the [`OwnedBlock`] for a block that [`adopt`](Ring::adopt) has transferred to this process.
    #[inline]
    pub(super) fn owned(&self, block: u64) -> OwnedBlock {
        // SAFETY: no other process can own the block now, and the caller has just taken it out of the ring.
        unsafe { OwnedBlock::adopt(self.arena, block) }
    }

    /// Transfers a block of the queue to this process.
    pub(super) fn adopt(&self, block: u64) {
        blocks::hand_over(self.arena, block, self.owner(), Ring::me());
        if blocks::owner(self.arena, block).has_handles() {
            // The handles in the block move to this process: see `arena/collect.rs`.
            payload::for_each_handle(self.arena, block, u64::MAX, &mut |id| {
                if id.index() < self.arena.layout.objects {
                    self.arena.object(id.index()).touch();
                }
            });
        }
    }

    /// Moves the cursor to the next segment, and frees this one.
    #[cold]
    fn leave(&self, cursor: Cursor, to: u64) -> Cursor {
        self.leave_by(cursor, || self.control.consumers.side.go(cursor, to))
    }

    /// Frees the segment of `cursor`, or keeps it in `left` while the producers' cursor is still in that
    /// segment. `go` moves the cursor to the next segment.
    #[cold]
    fn leave_by<R>(&self, cursor: Cursor, go: impl FnOnce() -> R) -> R {
        let left = &self.control.consumers.left;
        // The producers' cursor cannot still be in the segment before this one, because a batch leaves at
        // most one segment.
        self.free_segment(left);
        let (start, end) = self.segment(cursor.offset());
        let here = start - HEADER;
        left.store(here, Ordering::Release);
        // CRASH: if we die before `go`, `left` names the segment in which the cursor still is. Recovery sees that and
        // keeps the segment.
        let gone = go();
        // A producer that has committed its batch may not have moved its cursor yet. If that producer died,
        // recovery would start from that cursor, so the segment must stay.
        let producer = self.control.producers.side.cursor().offset();
        if !(start..end).contains(&producer) || !rules::holds(Rule::SegmentKept) {
            self.free_segment(left);
        }
        gone
    }

    /// Frees the segment in `left`, if there is one.
    fn free_segment(&self, left: &AtomicU64) {
        let leaving = &self.control.consumers.leaving;
        let block = left.load(Ordering::Acquire);
        if block == 0 {
            return;
        }
        // CRASH: `leaving` names the segment until the segment belongs to this process. If we die after that,
        // the segment is swept with our other blocks.
        leaving.store(block, Ordering::Release);
        left.store(0, Ordering::Release);
        blocks::hand_over(self.arena, block, self.owner(), Ring::me());
        leaving.store(0, Ordering::Release);
        blocks::free(self.arena, member::slot(), block, Ring::me());
    }

    /// Returns whether there is a message, or the ring is closed. Takes no lock, so the answer may be out of
    /// date when this returns.
    pub(crate) fn has_news(&self) -> bool {
        self.peek() != Header::Nothing
    }

    /// Returns whether there is a message. Takes no lock, so the answer may be out of date when this returns.
    pub(crate) fn has_message(&self) -> bool {
        !matches!(self.peek(), Header::Nothing | Header::Closed)
    }

    fn peek(&self) -> Header {
        if member::is_forked() {
            return Header::Nothing; // in a fork the ring's memory reads as zeros
        }
        let side = &self.control.consumers.side;
        loop {
            let cursor = side.cursor();
            let header = self.header(cursor.offset());
            // If the cursor has moved, the segment may have been freed meanwhile. Then read again.
            if side.cursor() == cursor {
                return header;
            }
        }
    }
}
