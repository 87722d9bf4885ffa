//! Which tasks are in whose hands, and which came back: so that a death costs what the dead had to do with, and not
//! what the pool has.
//!
//! ```text
//!  63         32 31          0
//! ┌─────────────┬─────────────┐
//! │  slot + 1   │ cell + 1    │   a place in a worker's row
//! ├─────────────┼─────────────┤
//! │ generation  │ cell + 1    │   a place in the list of those that came back
//! └─────────────┴─────────────┘
//! ```
//!
//! INVARIANT (of the pool): a cell that names a process stands in a row in that process's name, or the process is
//! marked as a *user*: one that has submitted tasks, of which any cell may name it. Both are stored before the cell's
//! word names the process, and taken back after it does not. A number that a process takes out of the ring is that of
//! a cell in its row, or of one that names it already.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::cell::RETURNED;
use super::control::{Control, WORKERS};
use crate::arena::Arena;

/// So many tasks a worker may have begun inside of each other, until it is looked for everywhere.
const CLAIMS_PER_ROW: usize = 8;
/// So many tasks may have come back and not be taken yet, until they are looked for everywhere.
const LISTED: usize = 64;
/// As many as a cell's word can name.
const SLOTS: usize = 1 << 16;

/// The tasks that the workers of one number have in their hands: a line of memory.
#[repr(C, align(64))]
struct ClaimRow([AtomicU64; CLAIMS_PER_ROW]);

/// Where it stands that a thread has a cell in its hands; nowhere, if there was no place left. (Two threads of a
/// process may be about to take the same cell, so each keeps its own.)
pub(crate) struct Claim(Option<&'static AtomicU64>);

impl Claim {
    pub(crate) const NONE: Claim = Claim(None);

    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The cell does not name the process any more.
    #[inline]
    pub(crate) fn clear(self) {
        if let Some(word) = self.0 {
            word.store(0, Ordering::Release);
        }
    }
}

/// See the module. All zero at first.
#[repr(C)]
pub(crate) struct Claims {
    /// Rows from this one on were never used.
    rows: AtomicU32,
    /// Some worker had no place left: the rows do not tell all.
    crowded: AtomicU32,
    users: [AtomicU64; SLOTS / 64],
    row: [ClaimRow; WORKERS],
}

impl Claims {
    /// There are workers below this number, from now on.
    pub(crate) fn grow(&self, workers: u32) {
        self.rows.fetch_max(workers, Ordering::SeqCst);
    }

    /// All workers that there ever were are below this number.
    pub(crate) fn rows_used(&self) -> usize {
        (self.rows.load(Ordering::SeqCst) as usize).min(WORKERS)
    }

    /// The process is going to submit tasks.
    #[inline]
    pub(crate) fn mark_user(&self, slot: u32) {
        let (word, bit) = (&self.users[slot as usize % SLOTS / 64], 1 << (slot % 64));
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::SeqCst);
        }
    }

    pub(crate) fn is_user(&self, slot: u32) -> bool {
        self.users[slot as usize % SLOTS / 64].load(Ordering::SeqCst) >> (slot % 64) & 1 != 0
    }

    /// The process, a worker of this number, is about to take a cell.
    #[inline]
    pub(crate) fn add(&'static self, number: u32, slot: u32, cell: u32) -> Claim {
        let claim = claim_word(slot, cell);
        let ClaimRow(row) = &self.row[number as usize % WORKERS];
        let mut free = row.iter().filter(|word| word.load(Ordering::Relaxed) == 0);
        let put = free.find(|free| {
            // ORDERING: SeqCst, before the cell's word: the keeper that does not see this is told by the worker.
            free.compare_exchange(0, claim, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        });
        if put.is_none() {
            self.crowded.store(1, Ordering::SeqCst);
            self.mark_user(slot);
        }
        Claim(put)
    }

    fn entries(&self) -> impl Iterator<Item = &AtomicU64> {
        self.row[..self.rows_used()].iter().flat_map(|row| &row.0)
    }

    /// The cells that workers have in their hands; none if that is not known.
    pub(crate) fn all(&self) -> Option<impl Iterator<Item = u32>> {
        let known = self.crowded.load(Ordering::SeqCst) == 0;
        known.then(|| self.entries().filter_map(|claim| cell_in(claim.load(Ordering::SeqCst))))
    }

    /// Those that this one has.
    pub(crate) fn of(&self, slot: u32) -> impl Iterator<Item = u32> {
        let its = move |claim: u64| claim >> 32 == u64::from(slot) + 1;
        let entries = self.entries().map(|claim| claim.load(Ordering::SeqCst));
        entries.filter(move |claim| its(*claim)).filter_map(cell_in)
    }

    /// No cell names the dead any more.
    pub(crate) fn forget(&self, slot: u32) {
        for claim in self.entries() {
            let seen = claim.load(Ordering::SeqCst);
            if seen >> 32 == u64::from(slot) + 1 {
                let _ = claim.compare_exchange(seen, 0, Ordering::SeqCst, Ordering::Relaxed);
            }
        }
        self.users[slot as usize % SLOTS / 64].fetch_and(!(1 << (slot % 64)), Ordering::SeqCst);
    }
}

fn claim_word(slot: u32, cell: u32) -> u64 {
    u64::from(slot + 1) << 32 | u64::from(cell + 1)
}

fn cell_in(claim: u64) -> Option<u32> {
    (claim as u32).checked_sub(1)
}

/// The tasks that came back. A place that names one stays until it is taken, or can never be.
#[repr(C)]
pub(crate) struct Returned {
    entries: [AtomicU64; LISTED],
    /// Some of them had no place, and recovery has not said so yet.
    crowded: AtomicU32,
    /// How often some of them had no place, and have to be looked for everywhere.
    unlisted: AtomicU64,
    /// At which of these times it was looked in vain behind it.
    looked: AtomicU64,
}

impl Returned {
    /// Recovery is about to return a task.
    ///
    /// CRASH: a place before its task is returned is passed over, and not cleared; so whoever recovers anew, and does
    /// not see any more that the task was the dead one's, need not list it again.
    pub(crate) fn list(&self, control: &Control, arena: &Arena, cell: u32, generation: u32) {
        let claim = u64::from(generation) << 32 | u64::from(cell + 1);
        let is_there = |word: &AtomicU64| word.load(Ordering::SeqCst) == claim;
        if self.entries.iter().any(is_there) {
            return;
        }
        let put = self.entries.iter().any(|word| {
            let seen = word.load(Ordering::SeqCst);
            let free = seen == 0 || is_stale(control, arena, seen);
            free && word.compare_exchange(seen, claim, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        });
        if !put {
            self.crowded.store(1, Ordering::SeqCst);
        }
    }

    /// Recovery has returned all there was.
    pub(crate) fn count_unlisted(&self) {
        if self.crowded.load(Ordering::SeqCst) != 0 {
            self.unlisted.fetch_add(1, Ordering::SeqCst);
            self.crowded.store(0, Ordering::SeqCst);
        }
    }

    /// The first listed task that `take` gets, which takes it.
    pub(crate) fn find<T>(
        &self,
        control: &Control,
        arena: &Arena,
        take: impl Fn(u32, u32) -> Option<T>,
    ) -> Option<T> {
        self.entries.iter().find_map(|word| {
            let seen = word.load(Ordering::SeqCst);
            let (cell, generation) = (cell_in(seen)?, (seen >> 32) as u32);
            let clear = || _ = word.compare_exchange(seen, 0, Ordering::SeqCst, Ordering::Relaxed);
            let state = control.cell(arena, cell)?.state();
            if state.generation() == generation && state.phase() == RETURNED {
                let taken = take(cell, generation)?;
                // CRASH: it is in our hands, listed or not; recovery returns it, and lists it again if need be.
                clear();
                return Some(taken);
            }
            if is_stale(control, arena, seen) {
                clear();
            }
            None
        })
    }

    /// What `look` finds, which looks everywhere, if there may be tasks that are not listed.
    pub(crate) fn find_unlisted<T>(&self, look: impl FnOnce() -> Option<T>) -> Option<T> {
        let times = self.unlisted.load(Ordering::SeqCst);
        if times == self.looked.load(Ordering::SeqCst) {
            return None;
        }
        let found = look();
        if found.is_none() {
            // CRASH: who dies before this has said nothing, and the next one looks as well.
            self.looked.fetch_max(times, Ordering::SeqCst);
        }
        found
    }
}

/// Whether the task that a place names is done, and never comes back.
fn is_stale(control: &Control, arena: &Arena, claim: u64) -> bool {
    cell_in(claim).and_then(|cell| control.cell(arena, cell)).is_none_or(|cell| {
        let state = cell.state();
        state.generation() != (claim >> 32) as u32 || !state.is_unfinished()
    })
}
