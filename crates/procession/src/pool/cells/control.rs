//! What a pool is in shared memory: a ring of numbers, and the cells that they name.
//!
//! The object owns the ring's parts, this block, the chunks of cells, and the blocks with arguments and
//! results: all of them carry its tag, and go with it.
#![allow(unsafe_code)] // Makes references to cells, from checked offsets.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use super::cell;
use super::cell::Cell;
use super::claims::{Claims, Returned};
use crate::arena::blocks::{HEADER, Tag};
use crate::arena::objects::{Body, Kind};
use crate::arena::owned_block::OwnedBlock;
use crate::arena::storage::Room;
use crate::arena::{Arena, blocks, storage};
use crate::rules::Rule;
use crate::{Result, rules};

/// Cells of the first chunk; each further one has twice as many, until they are large enough. (They fill whole spans.)
const FIRST: u32 = 508;
const DOUBLINGS: u32 = 9;
const LARGEST: u32 = FIRST << DOUBLINGS;
/// Cells of all chunks before the first of the largest.
const SMALLER: u32 = LARGEST - FIRST;
/// Room for 130 million tasks.
const CHUNKS: usize = 512;
/// The most workers.
pub(crate) const WORKERS: usize = 1000;

/// [`Control::phase`]: it only grows.
pub(crate) mod phase {
    pub(crate) const OPEN: u32 = 0;
    /// No more tasks; those that are there are done.
    pub(crate) const CLOSED: u32 = 1;
    /// All are done: the workers leave.
    pub(crate) const FINISHED: u32 = 2;
    /// The workers are killed, and what is not done never will be.
    pub(crate) const TERMINATED: u32 = 3;
    /// As terminated, because workers do not last.
    pub(crate) const BROKEN: u32 = 4;
}

/// The object's hot line holds nothing.
#[repr(C)]
pub(crate) struct SharedBody(AtomicU64);

// SAFETY: an atomic, and zero is valid.
unsafe impl Body for SharedBody {
    const KIND: Kind = Kind::PoolShared;
}

/// An event count on a line of its own.
#[repr(C, align(64))]
pub(crate) struct Event {
    pub(crate) word: AtomicU32,
}

/// See the module.
#[repr(C, align(128))]
pub(crate) struct Control {
    pub(crate) phase: AtomicU32,
    /// The keeper's process: its slot + 1.
    pub(crate) creator: AtomicU32,
    /// How many workers there should be. One whose number is not below it leaves.
    pub(crate) wanted: AtomicU32,
    /// After so many tasks a worker leaves; 0 for never.
    pub(crate) max_tasks: AtomicU32,
    pub(crate) retries: AtomicU32,
    pub(crate) timeout_us: AtomicU64,
    /// What a worker does first: function, hash of its type, arguments.
    pub(crate) init_entry: AtomicU64,
    pub(crate) init_hash: AtomicU64,
    pub(crate) init_args: AtomicU64,
    /// A block with the text that says why the pool is broken.
    pub(crate) why: AtomicU64,
    /// Set by the keeper when all is over.
    pub(crate) shut_down: AtomicU32,
    pub(crate) started: AtomicU32,
    pub(crate) deaths: AtomicU32,
    pub(crate) timeouts: AtomicU32,
    /// A worker that has more bytes to itself than this leaves after its task; 0 for no limit.
    pub(crate) memory: AtomicU64,
    /// A worker that has had nothing to do for so long leaves; 0 for never.
    pub(crate) idle_us: AtomicU64,
    /// Some worker may have left because of that: who submits a task tells the keeper.
    pub(crate) some_idle: AtomicU32,
    _line: [u64; 5],

    /// Cells from this one on were never used.
    used: AtomicU32,
    /// Hint: where the last `RETURNED` cell was found that was not listed.
    pub(crate) returned_from: AtomicU32,
    chunks: [AtomicU64; CHUNKS],

    /// Hint: some cell may be `RETURNED`. It errs to one side.
    pub(crate) returned: Event,
    /// Which.
    pub(crate) returned_list: Returned,
    /// The keeper sleeps here.
    pub(crate) keeper: Event,
    /// When the keeper looks again by itself, on the monotonic clock: no later than a task that runs can have had its
    /// time.
    pub(crate) watching_until_ns: AtomicU64,
    /// Who waits for one of several tasks sleeps here.
    pub(crate) completed: Event,
    /// Who waits for the pool's end sleeps here.
    pub(crate) ended: Event,
    /// Of each worker: its process id, when its initializer has returned.
    pub(crate) ready: [AtomicI32; WORKERS],
    /// The same from its first moment on; until its death is recovered.
    pub(crate) pids: [AtomicI32; WORKERS],
    /// Of each worker: 1 when it leaves because it had nothing to do.
    pub(crate) idle: [AtomicU32; WORKERS],
    /// What they work on.
    pub(crate) claims: Claims,
}

/// The control block of a pool that does not run yet, belonging to this process.
pub(crate) fn allocate() -> Result<Room> {
    storage::make(size_of::<Control>() as u64, align_of::<Control>() as u64)
}

/// The control block in the block at `at`.
pub(crate) fn control_at(arena: &Arena, at: u64) -> Option<&'static Control> {
    arena.layout.span_of(at)?;
    let at = (at + HEADER).next_multiple_of(align_of::<Control>() as u64);
    // SAFETY: aligned just now, in a block that has room for it behind the alignment; atomics only.
    Some(unsafe { arena.at(at) })
}

/// The control block of the pool that is object `index`.
pub(crate) fn control_of(arena: &Arena, index: u32) -> Option<&'static Control> {
    control_at(arena, arena.object(index).blocks[1].load(Ordering::Acquire))
}

/// The cell at an offset that [`Control::cell`] gave in another process.
pub(crate) fn cell_at(arena: &Arena, offset: u64) -> Option<&'static Cell> {
    let sound = offset.is_multiple_of(align_of::<Cell>() as u64) && arena.layout.span_of(offset).is_some();
    // SAFETY: aligned, within a span; atomics only.
    sound.then(|| unsafe { arena.at(offset) })
}

/// In which chunk a cell is, and at which place there.
fn locate(index: u32) -> (usize, u32) {
    if index >= SMALLER {
        let beyond = index - SMALLER;
        return ((DOUBLINGS + beyond / LARGEST) as usize, beyond % LARGEST);
    }
    let chunk = (index / FIRST + 1).ilog2();
    (chunk as usize, index - FIRST * ((1 << chunk) - 1))
}

impl Control {
    /// How many cells were ever used.
    pub(crate) fn used(&self) -> u32 {
        self.used.load(Ordering::SeqCst)
    }

    /// [`pids`](Control::pids), up to the highest number that there ever was.
    pub(crate) fn worker_pids(&self) -> impl Iterator<Item = &AtomicI32> {
        self.pids.iter().take(self.claims.rows_used())
    }

    #[inline]
    pub(crate) fn cell(&self, arena: &Arena, index: u32) -> Option<&'static Cell> {
        let (chunk, within) = locate(index);
        let at = self.chunks.get(chunk)?.load(Ordering::Acquire);
        if at == 0 {
            return None;
        }
        let first = (at + HEADER).next_multiple_of(align_of::<Cell>() as u64);
        cell_at(arena, first + u64::from(within) * size_of::<Cell>() as u64)
    }

    /// Every cell that was ever used, with its number.
    pub(crate) fn cells(&self, arena: &'static Arena) -> impl Iterator<Item = (u32, &'static Cell)> {
        (0..self.used()).filter_map(move |index| Some((index, self.cell(arena, index)?)))
    }

    /// Takes a cell that was never used, for this process.
    pub(crate) fn fresh(&self, arena: &'static Arena, owner: Tag) -> Result<u32> {
        loop {
            let index = self.used();
            if self.cell(arena, index).is_none() {
                self.add_chunk(owner, index)?;
            }
            if self.used.compare_exchange(index, index + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return Ok(index);
            }
        }
    }

    #[cold]
    fn add_chunk(&self, owner: Tag, index: u32) -> Result<()> {
        let (chunk, _) = locate(index);
        let full =
            || crate::Error::Full(format!("the pool has {index} tasks, which is the most it can have"));
        let link = self.chunks.get(chunk).ok_or_else(full)?;
        let cells = u64::from(FIRST) << chunk.min(DOUBLINGS as usize);
        let bytes = cells * size_of::<Cell>() as u64 + align_of::<Cell>() as u64;
        // (Not `storage::make`: each page of it will be used soon, by several processes.)
        let mut block = OwnedBlock::allocate(bytes)?;
        block.bytes_mut(HEADER + bytes).fill(0);
        // CRASH: linked and still ours: recovery gives it to the pool.
        if link.compare_exchange(0, block.at(), Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            block.give_to(owner);
        }
        Ok(())
    }

    /// Gives the pool the chunks that the dead process had just linked.
    pub(crate) fn adopt_chunks(&self, arena: &Arena, dead: Tag, owner: Tag) {
        let links = self.chunks.iter().map(|link| link.load(Ordering::Acquire));
        for at in links.take_while(|&at| at != 0) {
            if blocks::owner(arena, at).same_owner(dead) && rules::holds(Rule::ChunkAdopted) {
                blocks::hand_over(arena, at, dead, owner);
            }
        }
    }
}

/// Makes the blocks that a cell names the process's own, to be freed by it; the cell names none then.
/// Exclusive to who has the cell in its hands.
pub(crate) fn detach_blocks(arena: &Arena, owner: Tag, to: Tag, cell: &Cell) -> Vec<u64> {
    let words = [&cell.args, &cell.result, &cell.note];
    let mut taken = Vec::new();
    super::results::for_each_block(arena, cell, &mut |block| taken.push(block));
    taken.extend(words.iter().map(|word| cell::block_in(word.load(Ordering::Acquire))).filter(|&at| at != 0));
    // CRASH: from here on they are swept with us. The words are cleared before anything is freed: what is
    // freed may be this pool's again, for another task, before recovery looks.
    taken.retain(|&block| blocks::hand_over(arena, block, owner, to));
    words.iter().for_each(|word| word.store(0, Ordering::Release));
    taken
}
