//! [`Cell`]: the memory of one task, from `submit` until its result has been used.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use super::state::State;
use crate::os::memory;

/// Arguments up to this size are stored in the cell itself.
pub(crate) const INLINE_ARGS: usize = 24;
/// Results up to this size are stored in the cell itself.
pub(crate) const INLINE_RESULT: usize = 8;

/// A flag in [`Cell::args`] and [`Cell::result`]: the bytes are in the cell, and bit 8 and the bits above it
/// hold the number of bytes.
pub(crate) const INLINE: u64 = 1;
/// A flag in [`Cell::result`]: the block holds records (see `results.rs`) rather than adjacent numbers.
pub(crate) const RECORDS: u64 = 2;
const TAGS: u64 = 7;

/// Returns the block that a word of a cell names, or 0.
pub(crate) fn block_in(word: u64) -> u64 {
    if word & INLINE != 0 { 0 } else { word & !TAGS }
}

/// The memory of a task. It occupies two cache lines.
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
    /// How often a failed item is retried.
    pub(crate) retries: AtomicU32,
    /// The process id of the last worker that died while it ran the task.
    pub(crate) pid: AtomicI32,

    /// The result: a block, or the size of the result if the result is in `progress`.
    pub(crate) result: AtomicU64,
    /// For a chunk: a [`ChunkProgress`](super::progress::ChunkProgress). For a single call: the result, if it
    /// is small.
    pub(crate) progress: AtomicU64,
    /// An [`Attempt`](super::attempt::Attempt).
    pub(crate) attempt: AtomicU64,
    /// If there is a time limit: the time when the current item began, on the worker's own clock (see
    /// `arena/awake.rs`). If there is none: how long the whole chunk took, once the chunk is done.
    pub(crate) clock_ns: AtomicU64,
    /// The block with the [`TaskError`](crate::pool::TaskError) of a failed task. While a task waits to be
    /// retried because a panic aborted its worker: the block with the text of the panic.
    pub(crate) note: AtomicU64,
    /// For a single call: the arguments, if they are small. For a chunk: see `chunk_counts.rs`.
    pub(crate) inline: [AtomicU64; INLINE_ARGS / 8],
}

impl Cell {
    /// Of a chunk: counts the items that have failed.
    pub(crate) fn failures(&self) -> &AtomicU64 {
        &self.inline[0]
    }

    /// Of a chunk: counts the retries of items.
    pub(crate) fn retried(&self) -> &AtomicU64 {
        &self.inline[1]
    }

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

    /// Stores the state. Call this only if no other process can change the state: the phase is `NEW` or
    /// `FREEING`, and the state names this process.
    ///
    /// ORDERING: Release. A process that sees the new state also sees everything that was written before it.
    #[inline]
    pub(crate) fn store_release(&self, next: State) {
        self.state.store(next.0, Ordering::Release);
    }

    /// As [`store_release`](Cell::store_release), but as a SeqCst store: later SeqCst loads of this thread cannot
    /// be reordered before it.
    #[inline]
    pub(crate) fn store_seq_cst(&self, next: State) {
        self.state.store(next.0, Ordering::SeqCst);
    }

    /// Replaces the state by `to(state)` atomically, and returns the old one. If `to` returns `None`, returns
    /// the current state as an error.
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

/// Returns the value of [`Cell::args`] for a free cell. The value links the cell to the cell that this
/// process freed before it. `to` is the number of that other cell + 1, or 0. The value cannot be mistaken for
/// a block.
pub(crate) fn link(to: u32) -> u64 {
    u64::from(to) << 8 | INLINE
}

/// Returns the argument that [`link`] was called with.
#[inline]
pub(crate) fn linked(word: u64) -> u32 {
    (word >> 8) as u32
}
