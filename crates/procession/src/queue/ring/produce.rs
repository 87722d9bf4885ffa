//! Putting messages into the ring: one commit per batch.

use std::sync::atomic::Ordering;

use super::control::{Control, Cursor, Passed, Producers};
use super::record::{BLOCK_RECORD, Header, WORD};
use super::{RawGuard, Refusal, Ring, walk};
use crate::arena::blocks::{self, HEADER};
use crate::arena::{heap, member};
use crate::os::clock::Deadline;
use crate::os::memory;
use crate::rules::{self, Rule};
use crate::sync::raw::event;

/// Segments do not grow beyond this, unless a single message needs more.
const MAX_SEGMENT: u64 = 1 << 20;
/// A segment smaller than this is followed by one four times as large, a larger one by one twice as large.
const QUADRUPLED_BELOW: u64 = 64 << 10;

/// Returns the size of the segment after one of `size` bytes. It has room for a record of `need` bytes.
fn next_size(size: u64, need: u64) -> u64 {
    let more = if size < QUADRUPLED_BELOW { 4 * size } else { 2 * size };
    more.min(MAX_SEGMENT).max(need + 2 * WORD)
}

const LINE: u64 = 64;
/// How far ahead of the cursor cache lines are requested.
const AHEAD: usize = 6 * LINE as usize;

/// A message to put.
#[derive(Clone, Copy)]
pub(crate) enum Piece<'a> {
    /// At most `INLINE_MAX` bytes.
    Inline(&'a [u8]),
    /// A block of this process that contains `len` bytes.
    Block { at: u64, len: u64 },
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

    /// Puts a small message at the cursor, if there is known to be room. Does the same as a [`Batch`] of one, in
    /// registers. The caller holds the lock.
    #[inline]
    fn try_put_fast(&self, bytes: &[u8]) -> bool {
        let Producers { side, room_to, taken, .. } = &self.control.producers;
        let (from, len) = (side.cursor(), bytes.len() as u64);
        let (at, header) = (from.offset(), Header::Inline { len });
        let (end, passed) = (at + header.size(), side.passed(from));
        // INVARIANT: where room is known, the queue is open. So we need not read the header at the cursor, whose line
        // a consumer may be reading.
        if end + WORD > room_to.load(Ordering::Relaxed)
            || !within(self.control.limits(), passed, taken.load(), len)
        {
            return false;
        }
        self.prepare_lines(at, end);
        // SAFETY: room behind the cursor, which only the producer whose turn it is writes to; nobody reads it before
        // the header is written.
        unsafe { self.arena.write_words(at + WORD, bytes) };
        self.word(end).store(Header::Nothing.word(), Ordering::Relaxed);
        // ORDERING, CRASH: as in `Batch::commit`.
        self.word(at).store(header.word(), Ordering::Release);
        side.advance(from, end, passed.with(len));
        true
    }

    /// Requests the cache lines that will be written some messages from now. A consumer has read them, and getting
    /// them back takes longer than writing a message.
    #[inline]
    fn prepare_lines(&self, from: u64, to: u64) {
        (from / LINE..=to / LINE).for_each(|line| memory::prefetch_to_write(self.word(line * LINE), AHEAD));
    }

    #[cold]
    fn put_slow(&self, piece: Piece<'_>) -> Result<(), Refusal> {
        let mut batch = Batch::begin(self)?;
        batch.push(piece)?;
        batch.commit();
        Ok(())
    }

    /// Puts as many of these messages as there is room for, in one step. Returns how many, or the refusal if it is
    /// none.
    pub(crate) fn put_some<'a>(
        &self,
        pieces: impl Iterator<Item = Piece<'a>>,
        deadline: Deadline,
    ) -> Result<usize, Refusal> {
        let guard = self.lock(&self.control.producers.side, deadline)?;
        let (mut batch, mut count) = (Batch::begin(self)?, 0);
        for piece in pieces {
            match batch.push(piece) {
                Ok(()) => count += 1,
                Err(refusal) if count == 0 => return Err(refusal),
                Err(_) => break,
            }
        }
        batch.commit();
        self.notify_consumers(guard, count);
        Ok(count)
    }

    #[inline]
    fn notify_consumers(&self, guard: RawGuard, count: usize) {
        // ORDERING: the release of the lock is a locked instruction between our commit and the look for sleepers.
        // CRASH: the death sweep wakes the sleepers.
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
            // CRASH: a producer that knows of no room reads the header, and finds the ring open or closed.
            producers.room_to.store(0, Ordering::Release);
            self.word(at).store(Header::Closed.word(), Ordering::Release);
        }
        drop(guard);
        after_release();
        let Control { filled, emptied, .. } = self.control;
        [filled, emptied].into_iter().for_each(|event| event::notify(&event.word, i32::MAX));
        Ok(open)
    }

    /// Returns whether the ring was closed. A snapshot.
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

/// Orders the stores before a locked instruction before the loads after it. The locked instruction is the release of
/// a lock, or a SeqCst store. On x86 it already orders them. Elsewhere a fence does.
#[inline]
pub(super) fn after_release() {
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(Ordering::SeqCst);
    #[cfg(target_arch = "x86_64")]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
}

/// Returns whether one more message of `len` bytes is within the limits.
#[inline]
fn within(limits: Passed, put: Passed, taken: Passed, len: u64) -> bool {
    let items = put.items.saturating_sub(taken.items);
    let bytes = put.bytes.saturating_sub(taken.bytes);
    items < limits.items && (items == 0 || bytes.saturating_add(len.max(1)) <= limits.bytes)
}

/// Records that are being written behind the last one. They are invisible, because the header of the first one is
/// still zero.
struct Batch<'a> {
    ring: &'a Ring,
    producers: &'static Producers,
    from: Cursor,
    /// The header of the first record. It is stored last.
    first: u64,
    at: u64,
    room_to: u64,
    /// The value of `room_to` in shared memory.
    room_before: u64,
    passed: Passed,
    taken: Passed,
    limits: Passed,
    /// Some record names a block or a segment.
    blocks: bool,
    /// The batch continues in a new segment.
    grown: bool,
}

impl<'a> Batch<'a> {
    #[inline]
    fn begin(ring: &'a Ring) -> Result<Batch<'a>, Refusal> {
        let producers = &ring.control.producers;
        let from = producers.side.cursor();
        if ring.header(from.offset()) != Header::Nothing {
            return Err(Refusal::Closed);
        }
        let room_to = producers.room_to.load(Ordering::Relaxed);
        Ok(Batch {
            ring,
            producers,
            from,
            first: 0,
            at: from.offset(),
            room_to,
            room_before: room_to,
            passed: producers.side.passed(from),
            taken: producers.taken.load(),
            limits: ring.control.limits(),
            blocks: false,
            grown: false,
        })
    }

    /// Writes one more record, if there is room.
    #[inline]
    fn push(&mut self, piece: Piece<'_>) -> Result<(), Refusal> {
        let (header, len) = match piece {
            Piece::Inline(bytes) => {
                let len = bytes.len() as u64;
                (Header::Inline { len }, len)
            }
            Piece::Block { len, .. } => (Header::Block { len }, len),
        };
        if !within(self.limits, self.passed, self.taken, len) {
            self.refresh_taken(len)?;
        }
        // Behind the record there must be room for the next header, which stays zero for now.
        if self.at + header.size() + WORD > self.room_to {
            self.make_room(header.size())?;
        }
        match piece {
            Piece::Inline(bytes) => {
                self.ring.prepare_lines(self.at, self.at + header.size());
                // SAFETY: as in `put_simply`.
                unsafe { self.ring.arena.write(self.at + WORD, bytes) };
            }
            Piece::Block { at, .. } => {
                self.ring.word(self.at + WORD).store(at, Ordering::Relaxed);
                self.blocks = true;
            }
        }
        self.write_header(header);
        self.at += header.size();
        self.passed = self.passed.with(len);
        Ok(())
    }

    #[inline]
    fn write_header(&mut self, header: Header) {
        if self.first == 0 {
            self.first = header.word();
        } else {
            self.ring.word(self.at).store(header.word(), Ordering::Relaxed);
        }
    }

    /// Reads again how much was taken.
    #[cold]
    fn refresh_taken(&mut self, len: u64) -> Result<(), Refusal> {
        self.taken = self.ring.control.consumers.side.snapshot().1;
        self.producers.taken.store(self.taken);
        if within(self.limits, self.passed, self.taken, len) { Ok(()) } else { Err(Refusal::Full) }
    }

    /// Finds a place for a record of `need` bytes: here, at the beginning of the segment, or in a new segment.
    #[cold]
    fn make_room(&mut self, need: u64) -> Result<(), Refusal> {
        let (start, end) = self.ring.segment(self.at);
        // ORDERING: Acquire pairs with the consumers' Release. They have read everything before that offset.
        let head = self.ring.control.consumers.side.cursor().offset();
        let fits = |at: u64, to: u64| at + need + WORD <= to;
        let ahead = !(start..end).contains(&head);
        if (ahead || head <= self.at) && fits(self.at, end) {
            self.room_to = end;
        } else if !ahead && head > self.at && fits(self.at, head) {
            self.room_to = head;
        } else if !ahead && head <= self.at && fits(start, head) {
            self.go(start, false, head);
        } else {
            self.grow(need, end - start)?;
        }
        Ok(())
    }

    fn go(&mut self, to: u64, leave: bool, room_to: u64) {
        // CRASH: the known room is not valid at the new place. 0 says that none is known.
        self.producers.room_to.store(0, Ordering::Release);
        self.room_before = 0;
        self.write_header(Header::Go { to, leave });
        (self.at, self.room_to) = (to, room_to);
    }

    /// Continues in a new, larger segment.
    fn grow(&mut self, need: u64, size: u64) -> Result<(), Refusal> {
        if self.grown {
            // A batch leaves at most one segment. So the segment of the producers' cursor is at most one behind that
            // of the consumers: see `Ring::leave_by`. The rest goes into another batch.
            return Err(Refusal::Full);
        }
        let block = heap::allocate_now(self.ring.arena, member::slot(), next_size(size, need))?;
        let (start, end) = self.ring.segment(block + HEADER);
        self.go(start, true, end);
        (self.blocks, self.grown) = (true, true);
        Ok(())
    }

    /// Makes all records visible, by one store.
    #[inline]
    fn commit(self) {
        if self.first == 0 {
            return;
        }
        let from = self.from.offset();
        self.ring.word(self.at).store(Header::Nothing.word(), Ordering::Relaxed);
        if self.blocks {
            self.hand_over_blocks();
        }
        // ORDERING: Release. A consumer that sees this header sees everything that was written before it.
        // CRASH: until this store the records do not exist, and the next producer overwrites them. From it on they
        // do, and recovery moves the cursor past them.
        self.ring.word(from).store(self.first, Ordering::Release);
        self.producers.side.advance(self.from, self.at, self.passed);
        if self.blocks {
            self.producers.intent_at.store(0, Ordering::Release);
        }
        if self.room_to != self.room_before {
            self.producers.room_to.store(self.room_to, Ordering::Release);
        }
    }

    /// Hands the blocks and segments to the queue, before the records that name them exist.
    #[cold]
    fn hand_over_blocks(&self) {
        let (ring, first) = (self.ring, Header::read(self.first));
        if rules::holds(Rule::BatchIntent) {
            // CRASH: if we die before the commit, recovery frees what was already handed over.
            self.producers.intent.store(self.first, Ordering::Release);
            self.producers.intent_at.store(self.from.0, Ordering::Release);
        }
        walk(ring, self.from.offset(), first, |at, header| {
            if let Some(block) = ring.block_named(at, header) {
                blocks::hand_over(ring.arena, block, Ring::me(), ring.owner());
            }
            true
        });
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::classes::CLASSES;
    use crate::queue::ring::SMALL_FIRST;

    /// From the first segment of a queue on, each segment fills its block, and a few steps lead to the largest.
    #[test]
    fn segments_grow_in_a_few_steps() {
        let (mut size, mut steps) = (SMALL_FIRST, 0);
        while size < MAX_SEGMENT {
            size = next_size(size, 16);
            let block =
                match CLASSES.iter().map(|&class| u64::from(class)).find(|class| size + HEADER <= *class) {
                    Some(class) => class,
                    None => (size + HEADER).next_multiple_of(64 << 10),
                };
            assert!(size >= MAX_SEGMENT || size * 8 > block * 7, "{size} bytes in a block of {block}");
            (size, steps) = (block - HEADER, steps + 1);
        }
        assert!(steps <= 7, "{steps}");
        assert_eq!(
            next_size(MAX_SEGMENT, 10 * MAX_SEGMENT),
            10 * MAX_SEGMENT + 2 * WORD,
            "a record that is larger has room"
        );
    }
}
