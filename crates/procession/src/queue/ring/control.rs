//! The control lines of a ring: everything in shared memory besides its segments.
//!
//! Producers and consumers each have a side, on separate cache lines. The two sides meet only in the records.
//! A producer also looks at the consumers' side when it needs room.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::sync::raw::lock::RawLock;

/// The control lines, in a block that belongs to the queue.
#[repr(C, align(128))]
pub(crate) struct Control {
    pub(super) producers: Producers,
    pub(super) consumers: Consumers,
    /// Consumers that wait for a message sleep here.
    pub(crate) filled: Event,
    /// Producers that wait for room sleep here.
    pub(crate) emptied: Event,
    pub(crate) limits: Limits,
    pub(super) leases: LeaseLine,
    /// Threads that wait until every message is done sleep here.
    pub(crate) finished: Event,
}

/// The producers' side. Apart from the cursor, only the holder of the lock uses this side.
#[repr(C, align(128))]
pub(super) struct Producers {
    pub(super) side: Side,
    /// From the cursor up to this offset there is room, and the queue is open. 0 if unknown.
    pub(super) room_to: AtomicU64,
    /// What the consumers had taken when a producer last looked.
    pub(super) taken: Tally,
    /// The cursor at which a batch with blocks is about to be committed, or 0. `intent` is the first header
    /// of that batch.
    pub(super) intent_at: AtomicU64,
    pub(super) intent: AtomicU64,
}

/// The consumers' side. Apart from the cursor, only the holder of the lock uses this side.
#[repr(C, align(128))]
pub(super) struct Consumers {
    pub(super) side: Side,
    /// The number of records, starting at the cursor, that may name blocks that a consumer is taking.
    pub(super) taking: AtomicU64,
    /// A segment that the consumers have left while the producers' cursor was still in it, or 0.
    pub(super) left: AtomicU64,
    /// The segment that is being freed, or 0.
    pub(super) leaving: AtomicU64,
}

/// One side of the ring: its lock, and how far it has progressed.
#[repr(C)]
pub(super) struct Side {
    pub(super) lock: RawLock,
    /// See [`Cursor`].
    pub(super) cursor: AtomicU64,
    /// The totals that have passed this side. The cursor says which of the two is valid.
    pub(super) tallies: [Tally; 2],
}

/// The number of messages and bytes that have passed a side.
#[repr(C)]
pub(super) struct Tally {
    items: AtomicU64,
    bytes: AtomicU64,
}

/// An event count on its own cache line: see `sync/raw/event.rs`.
#[repr(C, align(64))]
pub(crate) struct Event {
    pub(crate) word: AtomicU32,
}

/// The limits that the ring was created with. They never change.
#[repr(C, align(64))]
pub(crate) struct Limits {
    /// The maximum number of messages at a time.
    pub(super) items: AtomicU64,
    /// The maximum number of bytes at a time. A single larger message fits into an empty ring.
    pub(super) bytes: AtomicU64,
}

/// The additional words of a queue with leases: see `leases.rs`.
#[repr(C, align(64))]
pub(super) struct LeaseLine {
    /// The first chunk of cells, or 0.
    pub(super) cells: AtomicU64,
    /// Hint: the chunk that was added last.
    pub(super) last: AtomicU64,
    /// Hint: some cell may be `RETURNED`. If the hint is 0, no cell is `RETURNED`.
    pub(super) returned: AtomicU64,
    /// Hint: a cell that is likely to be free and links to others, or 0.
    pub(super) spare: AtomicU64,
    /// Hint: this cell of the last chunk, and all cells after it, were never used.
    pub(super) fresh: AtomicU64,
    /// Hint: the chunk in which the last search for a cell ended.
    pub(super) searched: AtomicU64,
    pub(super) max_attempts: AtomicU64,
}

/// The content of a [`Tally`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) items: u64,
    pub(crate) bytes: u64,
}

impl Passed {
    #[inline]
    pub(super) fn with(self, bytes: u64) -> Passed {
        // An empty message takes room too.
        Passed { items: self.items + 1, bytes: self.bytes + bytes.max(1) }
    }

    /// As [`with`](Passed::with), for `count` messages of `bytes` bytes each.
    #[inline]
    pub(super) fn with_run(self, count: u64, bytes: u64) -> Passed {
        Passed { items: self.items + count, bytes: self.bytes + count * bytes.max(1) }
    }
}

impl Tally {
    #[inline]
    pub(super) fn load(&self) -> Passed {
        Passed { items: self.items.load(Ordering::Acquire), bytes: self.bytes.load(Ordering::Acquire) }
    }

    #[inline]
    pub(super) fn store(&self, passed: Passed) {
        // ORDERING: Release, so that these stores come after the cursor's last store: see `Side::snapshot`.
        self.items.store(passed.items, Ordering::Release);
        self.bytes.store(passed.bytes, Ordering::Release);
    }
}

/// The position of a side. It is one word, so that position and counts change atomically.
///
/// ```text
///  63            40 39               3     0
/// ┌────────────────┬──────────────────┬─────┐
/// │ items, mod 2²⁴ │ offset of record │which│     which: the tally that is valid
/// └────────────────┴──────────────────┴─────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor(pub(super) u64);

impl Cursor {
    const OFFSET: u64 = (1 << 40) - 8;

    #[inline]
    pub(super) fn new(offset: u64, which: usize, items: u64) -> Cursor {
        Cursor(items << 40 | offset | which as u64)
    }

    #[inline]
    pub(super) fn offset(self) -> u64 {
        self.0 & Cursor::OFFSET
    }

    /// Returns the number of messages, mod 2²⁴.
    pub(super) fn items(self) -> u64 {
        self.0 >> 40
    }

    #[inline]
    pub(super) fn which(self) -> usize {
        (self.0 & 1) as usize
    }

    /// Returns a cursor with the same counts at another offset.
    #[inline]
    pub(super) fn at(self, offset: u64) -> Cursor {
        Cursor(self.0 & !Cursor::OFFSET | offset)
    }
}

impl Side {
    #[inline]
    pub(super) fn cursor(&self) -> Cursor {
        Cursor(self.cursor.load(Ordering::Acquire))
    }

    #[inline]
    pub(super) fn passed(&self, cursor: Cursor) -> Passed {
        self.tallies[cursor.which()].load()
    }

    /// Moves the cursor to `offset` with these totals. The caller holds the lock, or is recovery on behalf of the
    /// holder.
    #[inline]
    pub(super) fn advance(&self, from: Cursor, offset: u64, passed: Passed) {
        let which = from.which() ^ 1;
        // CRASH: until the cursor is stored, the other tally is the valid one.
        self.tallies[which].store(passed);
        self.cursor.store(Cursor::new(offset, which, passed.items).0, Ordering::Release);
    }

    /// Moves the cursor to `offset` and leaves the totals unchanged.
    #[inline]
    pub(super) fn go(&self, from: Cursor, offset: u64) -> Cursor {
        let to = from.at(offset);
        self.cursor.store(to.0, Ordering::Release);
        to
    }

    /// Returns the cursor and the totals as they were at one moment. Needs no lock.
    pub(super) fn snapshot(&self) -> (Cursor, Passed) {
        loop {
            let cursor = self.cursor();
            let passed = self.passed(cursor);
            // ORDERING: a tally is overwritten only after the cursor has selected the other tally, and the
            // cursor changes again before the overwritten tally is valid. So if the cursor is unchanged, so
            // is the tally.
            if self.cursor() == cursor {
                return (cursor, passed);
            }
            std::hint::spin_loop();
        }
    }
}

impl Control {
    #[inline]
    pub(super) fn limits(&self) -> Passed {
        let Limits { items, bytes } = &self.limits;
        Passed { items: items.load(Ordering::Relaxed), bytes: bytes.load(Ordering::Relaxed) }
    }
}
