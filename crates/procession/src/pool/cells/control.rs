//! [`Control`]: a pool's control block.
//!
//! The pool's object owns the ring's blocks, this block, the blocks of cells, and the blocks with arguments and
//! results. All of them carry its tag, and are freed with it.
#![allow(unsafe_code)] // Makes references to control blocks, from checked offsets.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use super::cell_table::CellTable;
use super::claims::Claims;
use super::returned::Returned;
use crate::Result;
use crate::arena::blocks::HEADER;
use crate::arena::objects::{Body, Kind};
use crate::arena::storage::Room;
use crate::arena::{Arena, storage};

/// The most workers.
pub(crate) const WORKERS: usize = 1000;

/// [`Control::phase`]: it only grows.
pub(crate) mod phase {
    pub(crate) const OPEN: u32 = 0;
    /// The pool accepts no more tasks. The workers finish those that it has.
    pub(crate) const CLOSED: u32 = 1;
    /// All tasks of a closed pool are done: the workers leave.
    pub(crate) const FINISHED: u32 = 2;
    /// The workers are killed, and unfinished tasks fail.
    pub(crate) const TERMINATED: u32 = 3;
    /// As `TERMINATED`, because too many workers died.
    pub(crate) const BROKEN: u32 = 4;
}

/// The pool's object. Its first cache line is unused.
#[repr(C)]
pub(crate) struct SharedBody(AtomicU64);

// SAFETY: an atomic, and zero is valid.
unsafe impl Body for SharedBody {
    const KIND: Kind = Kind::PoolShared;
}

/// An event count on a cache line of its own.
#[repr(C, align(64))]
pub(crate) struct Event {
    pub(crate) word: AtomicU32,
}

/// A pool's control block.
#[repr(C, align(128))]
pub(crate) struct Control {
    pub(crate) phase: AtomicU32,
    /// The slot of the keeper's process, + 1.
    pub(crate) creator: AtomicU32,
    /// How many workers the pool should have. A worker leaves if its number is not below this.
    pub(crate) wanted: AtomicU32,
    /// A worker leaves after this many items; 0 for never.
    pub(crate) max_tasks: AtomicU32,
    pub(crate) retries: AtomicU32,
    pub(crate) timeout_us: AtomicU64,
    /// The initializer: function, hash of its type, arguments.
    pub(crate) init_entry: AtomicU64,
    pub(crate) init_hash: AtomicU64,
    pub(crate) init_args: AtomicU64,
    /// A block with the text that says why the pool is broken.
    pub(crate) broken_reason: AtomicU64,
    /// 1 when the pool has no more workers and tasks. The keeper sets it.
    pub(crate) shut_down: AtomicU32,
    pub(crate) started: AtomicU32,
    pub(crate) deaths: AtomicU32,
    pub(crate) timeouts: AtomicU32,
    /// A worker with more private memory than this leaves after its task; 0 for no limit. In bytes.
    pub(crate) memory: AtomicU64,
    /// A worker that has waited this long for a task leaves; 0 for never.
    pub(crate) idle_us: AtomicU64,
    /// Hint: a worker may have left because it was idle. So submitters notify the keeper.
    pub(crate) some_idle: AtomicU32,
    _line: [u64; 5],

    pub(super) cells: CellTable,

    /// Hint: a cell may be `RETURNED`. It may be set without a reason, but is never missing.
    pub(crate) returned: Event,
    pub(crate) returned_list: Returned,
    /// The keeper sleeps on this.
    pub(crate) keeper: Event,
    /// When the keeper wakes up by itself, on the monotonic clock: at the latest when a running task may exceed its
    /// time limit.
    pub(crate) keeper_wakes_ns: AtomicU64,
    /// Threads that wait for any of several tasks sleep on this.
    pub(crate) completed: Event,
    /// Threads that wait for the pool to shut down sleep on this.
    pub(crate) ended: Event,
    /// The process id of each worker whose initializer has returned.
    pub(crate) ready: [AtomicI32; WORKERS],
    /// The process id of each worker, from its start until its death is recovered.
    pub(crate) pids: [AtomicI32; WORKERS],
    /// 1 for each worker that leaves because it was idle.
    pub(crate) idle: [AtomicU32; WORKERS],
    pub(crate) claims: Claims,
}

/// Allocates the control block of a new pool. It belongs to this process.
pub(crate) fn allocate() -> Result<Room> {
    storage::make(size_of::<Control>() as u64, align_of::<Control>() as u64)
}

/// Returns the control block in the block at `at`.
pub(crate) fn control_at(arena: &Arena, at: u64) -> Option<&'static Control> {
    arena.layout.span_of(at)?;
    let at = (at + HEADER).next_multiple_of(align_of::<Control>() as u64);
    // SAFETY: the line above aligns it, and the block has room for it behind the alignment; atomics only.
    Some(unsafe { arena.at(at) })
}

/// Returns the control block of the pool that is object `index`.
pub(crate) fn control_of(arena: &Arena, index: u32) -> Option<&'static Control> {
    control_at(arena, arena.object(index).blocks[1].load(Ordering::Acquire))
}

impl Control {
    /// Returns [`pids`](Control::pids) of all workers that the pool ever had.
    pub(crate) fn worker_pids(&self) -> impl Iterator<Item = &AtomicI32> {
        self.pids.iter().take(self.claims.rows_used())
    }
}
