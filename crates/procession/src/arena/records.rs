//! A record for each thread: what it holds, what it waits for, and what it is in the middle of.
//!
//! When its process dies, the record is all that recovery has to go by. So a thread writes down
//! the name of a lock *before* it takes it, and strikes it out *after* it has let go and woken.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use super::Arena;

/// Locks that a record has room for before it chains a block.
pub(crate) const HELD: usize = 32;
/// Locks that a chained block has room for, after its link.
pub(crate) const HELD_A_CHUNK: usize = 61;

/// A thread's record. Only its own thread writes to it, or recovery when its process is dead.
#[repr(C, align(64))]
pub(crate) struct Record {
    /// The word that the thread sleeps on, or is about to, as an offset; 0 for none.
    pub(crate) waits_for: AtomicU64,
    /// When that wait began, on the monotonic clock.
    pub(crate) waits_since_ns: AtomicU64,
    /// An object that the thread is making or freeing: its index + 1, or 0.
    pub(crate) object_intent: AtomicU64,
    /// The kernel's number of the thread; 0 while no thread uses the record.
    pub(crate) thread: AtomicI32,
    /// An event count, for a thread that sleeps on several words at once.
    pub(crate) doorbell: AtomicU32,
    /// The offset of the first [`Chunk`], or 0.
    pub(crate) chunk: AtomicU64,
    _intents: [AtomicU64; 3],
    /// Locks that the thread holds, or is about to take, or has just let go, as offsets.
    pub(crate) held: [AtomicU64; HELD],
    /// Never 0 while a thread uses the record, so that it does not run past the entries.
    pub(crate) stop: AtomicU64,
    _rest: [AtomicU64; 15],
}

/// More room for held locks.
#[repr(C)]
pub(crate) struct Chunk {
    pub(crate) next: AtomicU64,
    pub(crate) held: [AtomicU64; HELD_A_CHUNK],
    /// As [`Record::stop`].
    pub(crate) stop: AtomicU64,
}

impl Record {
    /// A record outside the arena, for a process that has none there.
    pub(crate) fn private() -> Box<Record> {
        // SAFETY: all zero is a valid record: it consists of atomics.
        Box::new(unsafe { std::mem::zeroed() })
    }

    /// The next chunk after `link`.
    pub(crate) fn chunk_at(arena: &Arena, link: &AtomicU64) -> Option<&'static Chunk> {
        let at = link.load(Ordering::Acquire);
        let sound = at.is_multiple_of(8) && arena.layout.has_room_for(at, size_of::<Chunk>() as u64);
        // SAFETY: within the spans, aligned, and all atomics.
        sound.then(|| unsafe { arena.at::<Chunk>(at) })
    }

    /// Every entry of the journal, chained ones included.
    pub(crate) fn for_each_held(&'static self, arena: &Arena, mut f: impl FnMut(&'static AtomicU64)) {
        self.held.iter().for_each(&mut f);
        let mut link = &self.chunk;
        // A chain cannot be longer than the arena has spans; a damaged one must not hold us up.
        for _ in 0..arena.layout.spans {
            let Some(chunk) = Record::chunk_at(arena, link) else { break };
            chunk.held.iter().for_each(&mut f);
            link = &chunk.next;
        }
    }

    /// Whether the thread has locks in its journal.
    pub(crate) fn holds_any(&'static self, arena: &Arena) -> bool {
        let mut any = false;
        self.for_each_held(arena, |held| any |= held.load(Ordering::Relaxed) != 0);
        any
    }

    /// Makes the record ready for another thread.
    pub(crate) fn reset(&self) {
        for held in &self.held {
            if held.load(Ordering::Relaxed) != 0 {
                held.store(0, Ordering::Relaxed);
            }
        }
        self.waits_for.store(0, Ordering::Relaxed);
        self.waits_since_ns.store(0, Ordering::Relaxed);
        self.object_intent.store(0, Ordering::Relaxed);
        self.chunk.store(0, Ordering::Relaxed);
        self.thread.store(0, Ordering::Release);
    }
}
