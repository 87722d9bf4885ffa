//! [`Control`]: a pool's control block.
//!
//! The pool's object owns the ring's blocks, this block, the blocks of cells, and the blocks with arguments
//! and results. All of these blocks carry the object's tag, and are freed with the object.
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

/// The maximum number of workers.
pub(crate) const WORKERS: usize = 1000;

/// The values of [`Control::phase`]. The phase only increases.
pub(crate) mod phase {
    pub(crate) const OPEN: u32 = 0;
    /// The pool accepts no more tasks. The workers finish the tasks that it already has.
    pub(crate) const CLOSED: u32 = 1;
    /// All tasks of a closed pool are done, and the workers leave.
    pub(crate) const FINISHED: u32 = 2;
    /// The workers are killed, and unfinished tasks fail.
    pub(crate) const TERMINATED: u32 = 3;
    /// As `TERMINATED`, but because too many workers died.
    pub(crate) const BROKEN: u32 = 4;
}

/// The pool's object. Its first cache line is unused.
#[repr(C)]
pub(crate) struct SharedBody(AtomicU64);

// SAFETY: an atomic, and zero is valid.
unsafe impl Body for SharedBody {
    const KIND: Kind = Kind::PoolShared;
}

/// An event count on a separate cache line.
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
    /// How many workers the pool should have. A worker leaves if its number is not less than this.
    pub(crate) wanted: AtomicU32,
    /// A worker leaves after this many items; 0 if there is no such limit.
    pub(crate) max_tasks: AtomicU32,
    pub(crate) retries: AtomicU32,
    pub(crate) timeout_us: AtomicU64,
    /// The initializer: function, hash of its type, arguments.
    pub(crate) init_entry: AtomicU64,
    pub(crate) init_hash: AtomicU64,
    pub(crate) init_args: AtomicU64,
    /// A block with the text that says why the pool is broken.
    pub(crate) broken_reason: AtomicU64,
    /// 1 when the pool has no workers or tasks left. The keeper sets it, or recovery if the keeper's process
    /// dies.
    pub(crate) shut_down: AtomicU32,
    pub(crate) started: AtomicU32,
    pub(crate) deaths: AtomicU32,
    pub(crate) timeouts: AtomicU32,
    /// A worker that has more private memory than this, in bytes, leaves after its task; 0 for no limit.
    pub(crate) memory: AtomicU64,
    /// A worker that has waited this long for a task leaves; 0 if there is no such limit.
    pub(crate) idle_us: AtomicU64,
    /// Hint: 1 if a worker may have left because it was idle. Submitters then notify the keeper.
    pub(crate) some_idle: AtomicU32,
    _line: [u64; 5],

    pub(super) cells: CellTable,

    /// Hint: a cell may be `RETURNED`. The hint may be set even if no cell is `RETURNED`, but if a cell is,
    /// the hint is set.
    pub(crate) returned: Event,
    pub(crate) returned_list: Returned,
    /// The keeper sleeps on this.
    pub(crate) keeper: Event,
    /// The time of the monotonic clock when the keeper wakes up by itself. The keeper wakes up at the latest
    /// when a running task may exceed its time limit.
    pub(crate) keeper_wakes_ns: AtomicU64,
    /// Threads that wait for any of several tasks sleep on this.
    pub(crate) completed: Event,
    /// Threads that wait for the pool to shut down sleep on this.
    pub(crate) ended: Event,
    /// The process id of each worker whose initializer has returned.
    pub(crate) ready: [AtomicI32; WORKERS],
    /// The process id of each worker, from its start until its death is recovered.
    pub(crate) pids: [AtomicI32; WORKERS],
    /// 1 for each worker that leaves, or has left, because it was idle.
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
    // SAFETY: the line above aligns the offset, and the block still has room for a `Control` there; atomics
    // only.
    Some(unsafe { arena.at(at) })
}

/// Returns the control block of the pool that is object `index`.
pub(crate) fn control_of(arena: &Arena, index: u32) -> Option<&'static Control> {
    control_at(arena, arena.object(index).blocks[1].load(Ordering::Acquire))
}

impl Control {
    /// Returns the entries of [`pids`](Control::pids) for all workers that the pool ever had.
    pub(crate) fn worker_pids(&self) -> impl Iterator<Item = &AtomicI32> {
        self.pids.iter().take(self.claims.rows_used())
    }
}
