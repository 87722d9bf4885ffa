//! What a ring is in shared memory, besides its segments.
//!
//! Producers and consumers have a side each, on cache lines of its own. They meet only in the records,
//! and where a producer looks how much room there is.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::sync::raw::lock::RawLock;

/// The lines of a ring, in a block that belongs to the queue.
#[repr(C, align(128))]
pub(crate) struct Control {
    pub(super) producers: Producers,
    pub(super) consumers: Consumers,
    /// Who wants a message sleeps here.
    pub(crate) filled: Event,
    /// Who wants room for one sleeps here.
    pub(crate) emptied: Event,
    pub(crate) limits: Limits,
    pub(super) leases: LeaseLine,
    /// Who waits for all messages to be done sleeps here.
    pub(crate) finished: Event,
}

/// The producers' side. All of it but the cursor is touched only by who holds the lock.
#[repr(C, align(128))]
pub(super) struct Producers {
    pub(super) side: Side,
    /// From the cursor up to this offset there is room, and the queue is open; 0 when that is not known.
    pub(super) room_to: AtomicU64,
    /// What the consumers had taken when a producer last looked.
    pub(super) taken: Tally,
    /// The cursor at which a batch with blocks is about to be committed, or 0; and its first header.
    pub(super) intent_at: AtomicU64,
    pub(super) intent: AtomicU64,
}

/// The consumers' side. All of it but the cursor is touched only by who holds the lock.
#[repr(C, align(128))]
pub(super) struct Consumers {
    pub(super) side: Side,
    /// Among how many records from the cursor on are those whose blocks are being taken.
    pub(super) taking: AtomicU64,
    /// A segment that is done, but a producer had not moved its cursor out of it; or 0.
    pub(super) left: AtomicU64,
    /// The segment that is being freed now, or 0.
    pub(super) leaving: AtomicU64,
}

/// A lock, and how far its side has come.
#[repr(C)]
pub(super) struct Side {
    pub(super) lock: RawLock,
    /// See [`Cursor`].
    pub(super) cursor: AtomicU64,
    /// What has passed in all; the cursor says which of the two is true.
    pub(super) tallies: [Tally; 2],
}

/// How much has passed.
#[repr(C)]
pub(super) struct Tally {
    items: AtomicU64,
    bytes: AtomicU64,
}

/// An event count on a cache line of its own: see `sync/raw/event.rs`.
#[repr(C, align(64))]
pub(crate) struct Event {
    pub(crate) word: AtomicU32,
}

/// What a ring was made with; never changes.
#[repr(C, align(64))]
pub(crate) struct Limits {
    /// The most messages at a time.
    pub(super) items: AtomicU64,
    /// The most bytes at a time. One message that is larger goes in alone.
    pub(super) bytes: AtomicU64,
}

/// What a queue with leases has besides: see `leases.rs`.
#[repr(C, align(64))]
pub(super) struct LeaseLine {
    /// The first chunk of cells, or 0.
    pub(super) cells: AtomicU64,
    /// The chunk that was added last.
    pub(super) last: AtomicU64,
    /// Hint: some cell may be `RETURNED`. It errs to one side.
    pub(super) returned: AtomicU64,
    /// Hint: a cell that is likely to be free, and leads to others; or 0.
    pub(super) spare: AtomicU64,
    /// Hint: the cells of the last chunk from this one on were never used.
    pub(super) fresh: AtomicU64,
    /// Hint: the chunk in which a cell was last looked for.
    pub(super) looked: AtomicU64,
    pub(super) most_attempts: AtomicU64,
}

/// A [`Tally`], read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) items: u64,
    pub(crate) bytes: u64,
}

impl Passed {
    #[inline]
    pub(super) fn with(self, bytes: u64) -> Passed {
        // A message of no bytes takes room, too.
        Passed { items: self.items + 1, bytes: self.bytes + bytes.max(1) }
    }
}

impl Tally {
    #[inline]
    pub(super) fn load(&self) -> Passed {
        Passed { items: self.items.load(Ordering::Acquire), bytes: self.bytes.load(Ordering::Acquire) }
    }

    #[inline]
    pub(super) fn store(&self, passed: Passed) {
        // ORDERING: Release, so that these come after the cursor before them: see `Side::snapshot`.
        self.items.store(passed.items, Ordering::Release);
        self.bytes.store(passed.bytes, Ordering::Release);
    }
}

/// Where a side stands: one word, so that position and counts move at once.
///
/// ```text
///  63           40 39              3    0
/// ┌───────────────┬─────────────────┬────┐
/// │ items, mod 2²⁴ │ offset of record │side│     side: which of the two tallies is true
/// └───────────────┴─────────────────┴────┘
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

    /// Messages, mod 2²⁴.
    pub(super) fn items(self) -> u64 {
        self.0 >> 40
    }

    #[inline]
    pub(super) fn which(self) -> usize {
        (self.0 & 1) as usize
    }

    /// The same counts elsewhere.
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

    /// Moves to `offset` with these counts: only for who holds the lock, or recovery in its name.
    #[inline]
    pub(super) fn advance(&self, from: Cursor, offset: u64, passed: Passed) {
        let which = from.which() ^ 1;
        // CRASH: before the cursor's store the other tally is the true one.
        self.tallies[which].store(passed);
        self.cursor.store(Cursor::new(offset, which, passed.items).0, Ordering::Release);
    }

    /// Moves to `offset` with the counts as they are.
    #[inline]
    pub(super) fn go(&self, from: Cursor, offset: u64) -> Cursor {
        let to = from.at(offset);
        self.cursor.store(to.0, Ordering::Release);
        to
    }

    /// Cursor and counts as they were at one moment, without the lock.
    pub(super) fn snapshot(&self) -> (Cursor, Passed) {
        loop {
            let cursor = self.cursor();
            let passed = self.passed(cursor);
            // ORDERING: a tally is written over only after the cursor has moved away from it, and then
            // moved before it is true again; so an unchanged cursor means an unchanged tally.
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
