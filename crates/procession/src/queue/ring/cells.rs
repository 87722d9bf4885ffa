//! Where messages stand that are being worked on: in cells, which never move. One word of a cell says all:
//!
//! ```text
//!  63          32 31           8 7     0
//! ┌──────────────┬──────────────┬───────┐
//! │   attempt    │ slot + 1     │ phase │      and a second word: the block
//! └──────────────┴──────────────┴───────┘
//! ```
//!
//! A third one leads from a free cell to another that is likely to be free, so that none has to be looked for however
//! many there are. That list is a hint: it may lack free cells, and name others; who takes a cell from it looks at
//! its phase. Anybody puts a cell in front, and only who has the consumers' lock takes one away.
//!
//! | phase      | meaning                                   | who moves it                                     |
//! |------------|-------------------------------------------|--------------------------------------------------|
//! | `FREE`     | nothing                                   | a consumer, with the lock → `LEASED` by itself    |
//! | `LEASED`   | that process works on it                  | it → `FREE`, `RETURNED`; its death → `RETURNED`   |
//! | `RETURNED` | to be taken again, before all others      | a consumer, with the lock → `LEASED` by itself    |
//! | `GIVEN_UP` | returned too often                        | who takes dead letters, with the lock → `FREE`    |

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Refusal, Ring};
use crate::arena::blocks::{self, HEADER};
use crate::arena::{heap, member};

pub(super) const FREE: u64 = 0;
pub(super) const LEASED: u64 = 1;
pub(super) const RETURNED: u64 = 2;
pub(super) const GIVEN_UP: u64 = 3;

/// Cells of a chunk: with the link and the block's header they fill 1,024 bytes, or nearly.
const CELLS: usize = 41;
/// In so many chunks a free cell is looked for that no list names, before there is a new chunk.
const LOOKS: usize = 2;

/// A place for a message that is being worked on.
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
        // SAFETY: links are written by this module alone, and lead to chunks; atomics only.
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

    /// A cell of which `fits` says so, in the next so many chunks from the one in which one was found last; those
    /// before it are all the likelier to have none. For who holds the consumers' lock.
    pub(super) fn look_for(&self, fits: impl Fn(&Cell) -> bool, chunks: usize) -> Option<&'static Cell> {
        let looked = &self.control.leases.looked;
        let from = looked.load(Ordering::Relaxed);
        let before = self.chunks().take_while(|&(at, _)| at != from);
        // All, if the hint is none of them.
        let rest = std::iter::successors(self.chunk(from).map(|chunk| (from, chunk)), |(_, chunk)| {
            let next = chunk.next.load(Ordering::Acquire);
            self.chunk(next).map(|chunk| (next, chunk))
        });
        for (at, chunk) in rest.chain(before).take(chunks) {
            looked.store(at, Ordering::Relaxed);
            if let Some(cell) = chunk.cells.iter().find(|cell| fits(cell)) {
                return Some(cell);
            }
        }
        None
    }

    /// Puts a cell that has just become free in front of the list.
    pub(super) fn offer(&self, cell: &Cell) {
        let (spare, at) = (&self.control.leases.spare, self.arena.offset_of(cell));
        let mut first = spare.load(Ordering::Relaxed);
        loop {
            cell.spare.store(first, Ordering::Relaxed);
            // ORDERING: Release, so that who takes this cell finds where it leads.
            // CRASH: before it the cell is on no list, and is found by looking.
            match spare.compare_exchange_weak(first, at, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }

    /// The first of the list, for who holds the consumers' lock: nobody else takes one away, so one that is first
    /// again has led to the same all the time.
    fn take_offered(&self) -> Option<&'static Cell> {
        let spare = &self.control.leases.spare;
        loop {
            let first = spare.load(Ordering::Acquire);
            let cell = self.cell_at(first)?;
            let next = cell.spare.load(Ordering::Relaxed);
            if spare.compare_exchange(first, next, Ordering::Acquire, Ordering::Relaxed).is_err() {
                continue; // another was put in front
            }
            if is_free(cell) {
                return Some(cell);
            }
            // It was found by looking before its finisher had put it here. What follows is not known any more.
            spare.store(0, Ordering::Relaxed);
            return None;
        }
    }

    fn cell_at(&self, at: u64) -> Option<&'static Cell> {
        let sound = at != 0 && at.is_multiple_of(8) && self.arena.layout.span_of(at).is_some();
        // SAFETY: hints are written by this module alone, and lead to cells; atomics only.
        sound.then(|| unsafe { self.arena.at(at) })
    }

    /// A free cell, for who holds the consumers' lock.
    pub(super) fn free_cell(&self) -> Result<&'static Cell, Refusal> {
        let leases = &self.control.leases;
        if let Some(cell) = self.take_offered() {
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
        match self.look_for(is_free, LOOKS) {
            Some(cell) => Ok(cell),
            None => self.add_chunk(),
        }
    }

    fn add_chunk(&self) -> Result<&'static Cell, Refusal> {
        let (slot, leases) = (member::slot(), &self.control.leases);
        let at = heap::allocate_now(self.arena, slot, size_of::<Chunk>() as u64)?;
        self.arena.write(at + HEADER, &[0; size_of::<Chunk>()]);
        let Some(chunk) = self.chunk(at) else { return Err(Refusal::NoMemory) };
        // CRASH: who died before it had said which is the last leaves it one before the last.
        let last = self.chunk(leases.last.load(Ordering::Relaxed)).map_or(&leases.cells, |last| &last.next);
        let follow = |link: &AtomicU64| self.chunk(link.load(Ordering::Acquire)).map(|chunk| &chunk.next);
        let end = std::iter::successors(Some(last), |link| follow(link)).last().unwrap_or(last);
        // CRASH: linked and still ours: recovery, because we hold the lock, gives it to the queue.
        end.store(at, Ordering::Release);
        blocks::hand_over(self.arena, at, Ring::me(), self.owner());
        leases.last.store(at, Ordering::Relaxed);
        leases.fresh.store(self.arena.offset_of(&raw const chunk.cells[1]), Ordering::Relaxed);
        Ok(&chunk.cells[0])
    }
}
