//! A record for each thread: its journal, what it waits for, and which object it is creating or freeing.
//!
//! After a death, recovery knows only what the record says. So a thread writes a lock's offset into its
//! journal *before* it acquires the lock. The thread clears the entry *after* it has released the lock and
//! woken a waiter.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use super::Arena;

/// The number of journal entries in a record. A thread that needs more chains a block.
pub(crate) const HELD: usize = 32;
/// The number of journal entries in a chained block.
pub(crate) const HELD_A_CHUNK: usize = 61;

/// A thread's record. Only its thread writes to it. After the process has died, recovery does.
#[repr(C, align(64))]
pub(crate) struct Record {
    /// The offset of the word that the thread sleeps on or is about to sleep on, or 0.
    pub(crate) waits_for: AtomicU64,
    /// When that wait began, on the monotonic clock.
    pub(crate) waits_since_ns: AtomicU64,
    /// The index + 1 of the object that the thread is creating, releasing or freeing, or 0.
    pub(crate) object_intent: AtomicU64,
    /// The kernel's id of the thread, or 0 while no thread uses the record.
    pub(crate) thread: AtomicI32,
    /// An event count for a thread that waits for several words at once.
    pub(crate) select_event: AtomicU32,
    /// The offset of the first [`Chunk`], or 0.
    pub(crate) chunk: AtomicU64,
    _intents: [AtomicU64; 3],
    /// The journal: offsets of locks that the thread holds, is about to acquire, or has just released.
    pub(crate) held: [AtomicU64; HELD],
    /// A stop after the last entry. It is never 0 while a thread uses the record, so it never looks like a
    /// free entry.
    pub(crate) stop: AtomicU64,
    _rest: [AtomicU64; 15],
}

/// Further journal entries, in a separate block.
#[repr(C)]
pub(crate) struct Chunk {
    pub(crate) next: AtomicU64,
    pub(crate) held: [AtomicU64; HELD_A_CHUNK],
    /// As [`Record::stop`].
    pub(crate) stop: AtomicU64,
}

impl Record {
    /// Creates a record outside the arena, for the supervisor.
    pub(crate) fn private() -> Box<Record> {
        // SAFETY: all zeros are a valid record, because a record consists of atomics.
        Box::new(unsafe { std::mem::zeroed() })
    }

    /// Returns the chunk that `link` names.
    pub(crate) fn chunk_at(arena: &Arena, link: &AtomicU64) -> Option<&'static Chunk> {
        let at = link.load(Ordering::Acquire);
        let sound = at.is_multiple_of(8) && arena.layout.has_room_for(at, size_of::<Chunk>() as u64);
        // SAFETY: the chunk lies within the spans, is aligned, and consists of atomics.
        sound.then(|| unsafe { arena.at::<Chunk>(at) })
    }

    /// Calls `f` with every entry of the journal, chained ones included.
    pub(crate) fn for_each_held(&'static self, arena: &Arena, mut f: impl FnMut(&'static AtomicU64)) {
        self.held.iter().for_each(&mut f);
        let mut link = &self.chunk;
        // A chain cannot be longer than the arena has spans. This bounds the loop if the chain is damaged.
        for _ in 0..arena.layout.spans {
            let Some(chunk) = Record::chunk_at(arena, link) else { break };
            chunk.held.iter().for_each(&mut f);
            link = &chunk.next;
        }
    }

    /// Returns whether the thread's journal names any lock.
    pub(crate) fn holds_any(&'static self, arena: &Arena) -> bool {
        let mut any = false;
        self.for_each_held(arena, |held| any |= held.load(Ordering::Relaxed) != 0);
        any
    }

    /// Empties the record for another thread.
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
