//! [`Batch`]: records that one store commits.

use std::sync::atomic::Ordering;

use super::control::{Cursor, Passed, Producers};
use super::produce::{Piece, within};
use super::record::{Header, WORD};
use super::{Refusal, Ring, walk};
use crate::arena::blocks::{self, HEADER};
use crate::arena::{heap, member};
use crate::rules::{self, Rule};

/// Segments do not grow beyond this, unless a single message needs more.
const MAX_SEGMENT: u64 = 1 << 20;
/// A segment smaller than this is followed by a segment four times as large. A larger segment is followed by
/// a segment twice as large.
const QUADRUPLED_BELOW: u64 = 64 << 10;

/// Returns the size of the segment that follows a segment of `size` bytes. The new segment has room for a
/// record of `need` bytes.
fn next_size(size: u64, need: u64) -> u64 {
    let more = if size < QUADRUPLED_BELOW { 4 * size } else { 2 * size };
    more.min(MAX_SEGMENT).max(need + 2 * WORD)
}

/// Records that are being written behind the last committed record. They are invisible, because the header of
/// the first of them is still zero.
pub(super) struct Batch<'a> {
    pub(super) ring: &'a Ring,
    producers: &'static Producers,
    from: Cursor,
    /// The header of the first record. It is stored last.
    first: u64,
    pub(super) at: u64,
    room_to: u64,
    /// The value of `room_to` in shared memory.
    room_before: u64,
    passed: Passed,
    taken: Passed,
    limits: Passed,
    /// Whether some record names a block or a segment.
    blocks: bool,
    /// Whether the batch continues in a new segment.
    grown: bool,
}

impl<'a> Batch<'a> {
    #[inline]
    pub(super) fn begin(ring: &'a Ring) -> Result<Batch<'a>, Refusal> {
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
    pub(super) fn push(&mut self, piece: Piece<'_>) -> Result<(), Refusal> {
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
                // SAFETY: as in `try_put_fast`.
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

    /// Returns how many more messages of `len` bytes surely have room here.
    pub(super) fn room_for(&self, len: u64) -> u64 {
        let records = self.room_to.saturating_sub(self.at + WORD) / Header::Inline { len }.size();
        let items = self.passed.items.saturating_sub(self.taken.items);
        let bytes = self.passed.bytes.saturating_sub(self.taken.bytes);
        let within_items = self.limits.items.saturating_sub(items);
        let within_bytes = self.limits.bytes.saturating_sub(bytes) / len.max(1);
        records.min(within_items).min(within_bytes)
    }

    /// Moves on behind `count` records that were written behind the first record of the batch.
    pub(super) fn advance(&mut self, count: u64, header: Header) {
        debug_assert!(self.first != 0 && self.at + count * header.size() + WORD <= self.room_to);
        let Header::Inline { len } = header else { return };
        self.at += count * header.size();
        self.passed = self.passed.with_run(count, len);
    }

    #[inline]
    fn write_header(&mut self, header: Header) {
        if self.first == 0 {
            self.first = header.word();
        } else {
            self.ring.word(self.at).store(header.word(), Ordering::Relaxed);
        }
    }

    /// Reads again how many messages and bytes the consumers have taken.
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
        // ORDERING: Acquire pairs with the consumers' Release. The consumers have read everything before that
        // offset.
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
            // A batch leaves at most one segment. So the producers' cursor is at most one segment behind the
            // consumers' cursor: see `Ring::leave_by`. The remaining records go into another batch.
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
    pub(super) fn commit(self) {
        if self.first == 0 {
            return;
        }
        let from = self.from.offset();
        self.ring.word(self.at).store(Header::Nothing.word(), Ordering::Relaxed);
        if self.blocks {
            self.hand_over_blocks();
        }
        // ORDERING: Release. A consumer that sees this header sees everything that was written before it.
        // CRASH: if we die before this store, the records do not exist, and the next producer overwrites
        // them. If we die after it, the records exist, and recovery moves the cursor past them.
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
            // CRASH: if we die before the commit, recovery takes the blocks that were already handed over
            // away from the queue.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::classes::CLASSES;
    use crate::queue::ring::SMALL_FIRST;

    /// Every segment of a queue nearly fills its block, and the segments reach the maximum size in a few
    /// steps.
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
