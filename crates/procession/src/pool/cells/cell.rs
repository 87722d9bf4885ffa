//! [`Cell`]: the memory of one task, from `submit` until its result has been used.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use super::state::State;
use crate::os::memory;

/// Arguments up to this size are stored in the cell itself.
pub(crate) const INLINE_ARGS: usize = 24;
/// So are results up to this one.
pub(crate) const INLINE_RESULT: usize = 8;

/// In [`Cell::args`] and [`Cell::result`]: the bytes are in the cell, and the bits from the eighth on are their number.
pub(crate) const INLINE: u64 = 1;
/// In [`Cell::result`]: the block holds records (see `results.rs`), not numbers side by side.
pub(crate) const RECORDS: u64 = 2;
const TAGS: u64 = 7;

/// Returns the block that a word of a cell names, or 0.
pub(crate) fn block_in(word: u64) -> u64 {
    if word & INLINE != 0 { 0 } else { word & !TAGS }
}

/// A task: two cache lines.
#[repr(C, align(128))]
pub(crate) struct Cell {
    state: AtomicU64,
    /// An event count on which threads wait for the task.
    pub(crate) done: AtomicU32,
    /// The slot of the process that submitted the task, + 1.
    pub(crate) submitter: AtomicU32,
    /// The number of handles that the submitter has.
    pub(crate) handles: AtomicU32,
    /// The number of items of a chunk; 0 for a single call.
    pub(crate) count: AtomicU32,
    /// The function: see `supervisor/entrypoint.rs`.
    pub(crate) entry: AtomicU64,
    pub(crate) type_hash: AtomicU64,
    /// The arguments: a block, or their size if they are in `inline`.
    pub(crate) args: AtomicU64,
    /// The time limit of an item in µs; 0 for none.
    pub(crate) timeout_us: AtomicU64,
    /// How often an item that failed is retried.
    pub(crate) retries: AtomicU32,
    /// The process id of the last worker that died at the task.
    pub(crate) pid: AtomicI32,

    /// The result: a block, or its size if it is in `progress`.
    pub(crate) result: AtomicU64,
    /// Of a chunk: a [`ChunkProgress`](super::progress::ChunkProgress). Of a single call: its result, if that is small.
    pub(crate) progress: AtomicU64,
    /// An [`Attempt`](super::attempt::Attempt).
    pub(crate) attempt: AtomicU64,
    /// With a time limit: when the item began, on its worker's own clock (see `arena/awake.rs`). Without one: how long
    /// the whole chunk took, once it is done.
    pub(crate) clock_ns: AtomicU64,
    /// The block with the [`TaskError`](crate::pool::TaskError) of a failed task.
    pub(crate) note: AtomicU64,
    pub(crate) inline: [AtomicU64; INLINE_ARGS / 8],
}

impl Cell {
    /// Prefetches the cell for writing.
    #[inline]
    pub(crate) fn prefetch(&self) {
        memory::prefetch_to_write(self, 0);
        memory::prefetch_to_write(self, size_of::<Cell>() / 2);
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        State(self.state.load(Ordering::SeqCst))
    }

    /// Stores the state. Only for a phase in which no other process changes it: `NEW` or `FREEING` by this one.
    ///
    /// ORDERING: Release: a process that sees the state sees what was written before it.
    #[inline]
    pub(crate) fn store_release(&self, next: State) {
        self.state.store(next.0, Ordering::Release);
    }

    /// As [`store_release`](Cell::store_release), ordered before everything that this thread loads afterwards.
    #[inline]
    pub(crate) fn store_seq_cst(&self, next: State) {
        self.state.store(next.0, Ordering::SeqCst);
    }

    /// Replaces the state by `to(state)` atomically, and returns the old one. Returns the current state as an error
    /// when `to` returns `None`.
    #[inline]
    pub(crate) fn fetch_update(&self, to: impl Fn(State) -> Option<State>) -> Result<State, State> {
        let mut now = self.state();
        loop {
            let Some(next) = to(now) else { return Err(now) };
            match self.state.compare_exchange_weak(now.0, next.0, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok(now),
                Err(other) => now = State(other),
            }
        }
    }
}

/// Returns the value of [`Cell::args`] in a free cell that links it to the cell that this process freed before: that
/// cell's number + 1, or 0. It does not look like a block.
pub(crate) fn link(to: u32) -> u64 {
    u64::from(to) << 8 | INLINE
}

/// Returns what [`link`] was called with.
#[inline]
pub(crate) fn linked(word: u64) -> u32 {
    (word >> 8) as u32
}
