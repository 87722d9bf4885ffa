//! The cells of leased messages. A cell never moves, and one of its words holds its whole state:
//!
//! ```text
//!  63          32 31           8 7     0
//! ┌──────────────┬──────────────┬───────┐
//! │   attempt    │ slot + 1     │ phase │      and a second word: the block
//! └──────────────┴──────────────┴───────┘
//! ```
//!
//! A third word links a free cell to another that is likely to be free, so that a free cell is found without
//! a search. This list is a hint: it may miss free cells and contain cells in use. So a consumer that takes a
//! cell from the list checks the cell's phase. Any process may add a cell at the front. Only the holder of
//! the consumers' lock removes one.
//!
//! | phase      | meaning                                   | who moves it                                     |
//! |------------|-------------------------------------------|--------------------------------------------------|
//! | `FREE`     | no message                                | a consumer with the lock → `LEASED` by itself     |
//! | `LEASED`   | that process works on the message         | it → `FREE`, `RETURNED`; recovery → `RETURNED`    |
//! | `RETURNED` | to be leased again, before other messages | a consumer with the lock → `LEASED` by itself     |
//! | `GIVEN_UP` | leased too often                          | a taker of dead letters, with the lock → `FREE`   |

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Refusal, Ring};
use crate::arena::blocks::HEADER;
use crate::arena::owned_block::OwnedBlock;

pub(super) const FREE: u64 = 0;
pub(super) const LEASED: u64 = 1;
pub(super) const RETURNED: u64 = 2;
pub(super) const GIVEN_UP: u64 = 3;

/// The number of cells in a chunk. Together with the link and the block's header, the cells nearly fill 1,024
/// bytes.
const CELLS: usize = 41;
/// The number of chunks that are searched for a free cell that the list misses, before a new chunk is added.
const MAX_SEARCHED_CHUNKS: usize = 2;

/// A place for a leased message.
#[repr(C)]
pub(super) struct Cell {
    pub(super) state: AtomicU64,
    pub(super) block: AtomicU64,
    /// Hint: see `LeaseLine::spare`.
    spare: AtomicU64,
}

#[repr(C)]
pub(super) struct Chunk {
    next: AtomicU64,
    cells: [Cell; CELLS],
}

pub(super) fn state(phase: u64, slot: u32, attempt: u32) -> u64 {
    u64::from(attempt) << 32 | u64::from(slot + 1) << 8 | phase
}

pub(super) fn phase(state: u64) -> u64 {
    state & 0xff
}

pub(super) fn attempt(state: u64) -> u32 {
    (state >> 32) as u32
}

pub(super) fn is_leased_by(state: u64, slot: u32) -> bool {
    phase(state) == LEASED && (state >> 8) as u32 & 0xff_ffff == slot + 1
}

pub(super) fn is_free(cell: &Cell) -> bool {
    phase(cell.state.load(Ordering::Acquire)) == FREE
}

impl Cell {
    pub(super) fn is_unfinished(&self) -> bool {
        matches!(phase(self.state.load(Ordering::SeqCst)), LEASED | RETURNED)
    }
}

impl Ring {
    fn chunk(&self, at: u64) -> Option<&'static Chunk> {
        let sound = at.is_multiple_of(8) && self.arena.layout.span_of(at).is_some();
        // SAFETY: only this module writes links, and they lead to chunks. A chunk consists of atomics.
        sound.then(|| unsafe { self.arena.at(at + HEADER) })
    }

    pub(super) fn chunks(&self) -> impl Iterator<Item = (u64, &'static Chunk)> {
        let ring = *self;
        let load = move |link: &AtomicU64| {
            let at = link.load(Ordering::Acquire);
            ring.chunk(at).map(|chunk| (at, chunk))
        };
        std::iter::successors(load(&self.control.leases.cells), move |(_, chunk)| load(&chunk.next))
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = &'static Cell> {
        self.chunks().flat_map(|(_, chunk)| &chunk.cells)
    }

    /// Returns a cell that `fits` accepts. Searches at most `chunks` chunks, starting with the chunk in which
    /// the last search ended, because earlier chunks are less likely to contain such a cell. The caller holds
    /// the consumers' lock.
    pub(super) fn find_cell(&self, fits: impl Fn(&Cell) -> bool, chunks: usize) -> Option<&'static Cell> {
        let searched = &self.control.leases.searched;
        let from = searched.load(Ordering::Relaxed);
        let before = self.chunks().take_while(|&(at, _)| at != from);
        // If the hint names no chunk of the list, `before` contains all chunks.
        let rest = std::iter::successors(self.chunk(from).map(|chunk| (from, chunk)), |(_, chunk)| {
            let next = chunk.next.load(Ordering::Acquire);
            self.chunk(next).map(|chunk| (next, chunk))
        });
        for (at, chunk) in rest.chain(before).take(chunks) {
            searched.store(at, Ordering::Relaxed);
            if let Some(cell) = chunk.cells.iter().find(|cell| fits(cell)) {
                return Some(cell);
            }
        }
        None
    }

    /// Adds, at the front of the list, a cell that has just become free.
    pub(super) fn add_to_list(&self, cell: &Cell) {
        let (spare, at) = (&self.control.leases.spare, self.arena.offset_of(cell));
        let mut first = spare.load(Ordering::Relaxed);
        loop {
            cell.spare.store(first, Ordering::Relaxed);
            // ORDERING: Release, so that the consumer that takes this cell sees its link.
            // CRASH: if we die before this exchange, the cell is not on the list, but a search finds it.
            match spare.compare_exchange_weak(first, at, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }

    /// Removes the first cell of the list. The caller holds the consumers' lock, and no other process removes cells.
    /// So if the cell is still first at the exchange, its link has not changed since it was read.
    fn take_from_list(&self) -> Option<&'static Cell> {
        let spare = &self.control.leases.spare;
        loop {
            let first = spare.load(Ordering::Acquire);
            let cell = self.cell_at(first)?;
            let next = cell.spare.load(Ordering::Relaxed);
            if spare.compare_exchange(first, next, Ordering::Acquire, Ordering::Relaxed).is_err() {
                continue; // another process added a cell at the front
            }
            if is_free(cell) {
                return Some(cell);
            }
            // A search took this cell before the process that finished the cell's message added the cell to
            // the list. So the rest of the list is lost.
            spare.store(0, Ordering::Relaxed);
            return None;
        }
    }

    fn cell_at(&self, at: u64) -> Option<&'static Cell> {
        let sound = at != 0 && at.is_multiple_of(8) && self.arena.layout.span_of(at).is_some();
        // SAFETY: only this module writes hints, and they lead to cells. A cell consists of atomics.
        sound.then(|| unsafe { self.arena.at(at) })
    }

    /// Returns a free cell. The caller holds the consumers' lock.
    pub(super) fn free_cell(&self) -> Result<&'static Cell, Refusal> {
        let leases = &self.control.leases;
        if let Some(cell) = self.take_from_list() {
            return Ok(cell);
        }
        if let Some(cell) = self.cell_at(leases.fresh.load(Ordering::Relaxed)).filter(|cell| is_free(cell)) {
            let next = self.arena.offset_of(cell) + size_of::<Cell>() as u64;
            let end = self.chunk(leases.last.load(Ordering::Relaxed)).map_or(0, |last| {
                self.arena.offset_of(&raw const last.cells) + size_of_val(&last.cells) as u64
            });
            leases.fresh.store(if next < end { next } else { 0 }, Ordering::Relaxed);
            return Ok(cell);
        }
        match self.find_cell(is_free, MAX_SEARCHED_CHUNKS) {
            Some(cell) => Ok(cell),
            None => self.add_chunk(),
        }
    }

    fn add_chunk(&self) -> Result<&'static Cell, Refusal> {
        let leases = &self.control.leases;
        let mut block = OwnedBlock::allocate_now(size_of::<Chunk>() as u64)?;
        block.room_mut(size_of::<Chunk>() as u64).fill(0);
        let at = block.at();
        let Some(chunk) = self.chunk(at) else { return Err(Refusal::NoMemory) };
        // CRASH: a process that died before it stored `last` has left this hint one chunk behind the last
        // chunk.
        let last = self.chunk(leases.last.load(Ordering::Relaxed)).map_or(&leases.cells, |last| &last.next);
        let follow = |link: &AtomicU64| self.chunk(link.load(Ordering::Acquire)).map(|chunk| &chunk.next);
        let end = std::iter::successors(Some(last), |link| follow(link)).last().unwrap_or(last);
        // CRASH: if we die after this store, the chunk is linked but still ours. We hold the lock, so
        // recovery hands the chunk to the queue.
        end.store(at, Ordering::Release);
        block.give_to(self.owner());
        leases.last.store(at, Ordering::Relaxed);
        leases.fresh.store(self.arena.offset_of(&raw const chunk.cells[1]), Ordering::Relaxed);
        Ok(&chunk.cells[0])
    }
}
