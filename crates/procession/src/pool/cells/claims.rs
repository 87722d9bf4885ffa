//! [`Claims`]: which worker has claimed which cells. Because of this table, recovery need not look at all
//! cells of the pool, but only at those of the dead process.
//!
//! ```text
//!  63         32 31          0
//! ┌─────────────┬─────────────┐
//! │  slot + 1   │  cell + 1   │   a claim in a worker's row; 0 is a free place
//! └─────────────┴─────────────┘
//! ```
//!
//! INVARIANT (of the pool): if a cell's state names a process, that process has a claim to the cell, or is
//! marked as a *user*. A user has submitted tasks, so any cell may name it. The claim, or the mark, is stored
//! before the state names the process. It is cleared only after the state no longer names the process. By the
//! time a worker takes a task number out of the ring, the worker has a claim to the cell, or the cell's state
//! names the worker.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::control::WORKERS;

/// The number of claims in a row. If a worker runs more tasks than this inside one another, the row does not
/// list all of them, and recovery looks at all cells.
const CLAIMS_PER_ROW: usize = 8;
/// The number of slots that a cell's state can name.
const SLOTS: usize = 1 << 16;

/// The claims of the workers that have or had one number. A row is one cache line.
#[repr(C, align(64))]
struct ClaimRow([AtomicU64; CLAIMS_PER_ROW]);

/// A thread's claim to a cell, or `None` if the row was full. Two threads of one process may be about to take
/// the same cell, so each thread has its own claim.
pub(crate) struct Claim(Option<&'static AtomicU64>);

impl Claim {
    pub(crate) const NONE: Claim = Claim(None);

    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Clears the claim. Call this only when the cell's state no longer names the process.
    #[inline]
    pub(crate) fn clear(self) {
        if let Some(word) = self.0 {
            word.store(0, Ordering::Release);
        }
    }
}

/// The claim table. All zero at first.
#[repr(C)]
pub(crate) struct Claims {
    /// Rows with this number or a higher one were never used.
    rows: AtomicU32,
    /// 1 if some row was ever full. Then the rows do not list all claims.
    incomplete: AtomicU32,
    users: [AtomicU64; SLOTS / 64],
    row: [ClaimRow; WORKERS],
}

impl Claims {
    /// Grows the table, so that it has a row for each of `workers` workers.
    pub(crate) fn grow(&self, workers: u32) {
        self.rows.fetch_max(workers, Ordering::SeqCst);
    }

    /// Returns the number of rows that were ever used. The number of every worker is less than this.
    pub(crate) fn rows_used(&self) -> usize {
        (self.rows.load(Ordering::SeqCst) as usize).min(WORKERS)
    }

    /// Marks a process that is about to submit a task.
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

    /// Adds a claim to `cell` for the process in `slot`, which is worker `number`. Call this before the
    /// process takes the cell.
    #[inline]
    pub(crate) fn add(&'static self, number: u32, slot: u32, cell: u32) -> Claim {
        let claim = claim_word(slot, cell);
        let ClaimRow(row) = &self.row[number as usize % WORKERS];
        let mut free = row.iter().filter(|word| word.load(Ordering::Relaxed) == 0);
        let put = free.find(|free| {
            // ORDERING: SeqCst, before the cell's state is changed. If the keeper misses the claim, the
            // worker notifies it.
            free.compare_exchange(0, claim, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        });
        if put.is_none() {
            self.incomplete.store(1, Ordering::SeqCst);
            self.mark_user(slot);
        }
        Claim(put)
    }

    fn words(&self) -> impl Iterator<Item = &AtomicU64> {
        self.row[..self.rows_used()].iter().flat_map(|row| &row.0)
    }

    /// Returns all claimed cells, or `None` if the rows do not list all claims.
    pub(crate) fn all(&self) -> Option<impl Iterator<Item = u32>> {
        let complete = self.incomplete.load(Ordering::SeqCst) == 0;
        complete.then(|| self.words().filter_map(|word| cell_in(word.load(Ordering::SeqCst))))
    }

    /// Returns the cells that the rows list for the process in `slot`.
    pub(crate) fn of(&self, slot: u32) -> impl Iterator<Item = u32> {
        let claims = self.words().map(|word| word.load(Ordering::SeqCst));
        claims.filter(move |claim| claim >> 32 == u64::from(slot) + 1).filter_map(cell_in)
    }

    /// Clears the claims and the mark of a dead process. Call this only when no cell names the process.
    pub(crate) fn forget(&self, slot: u32) {
        for word in self.words() {
            let seen = word.load(Ordering::SeqCst);
            if seen >> 32 == u64::from(slot) + 1 {
                let _ = word.compare_exchange(seen, 0, Ordering::SeqCst, Ordering::Relaxed);
            }
        }
        self.users[slot as usize % SLOTS / 64].fetch_and(!(1 << (slot % 64)), Ordering::SeqCst);
    }
}

fn claim_word(slot: u32, cell: u32) -> u64 {
    u64::from(slot + 1) << 32 | u64::from(cell + 1)
}

/// Returns the cell that a claim, or an entry of the list of returned tasks, names.
pub(super) fn cell_in(word: u64) -> Option<u32> {
    (word as u32).checked_sub(1)
}
