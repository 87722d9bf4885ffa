//! Recovery of barriers after a death.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::barrier_cells::{DEAD, arrived_for, cells, is_free_for};
use super::barrier_state::{BarrierBody, DIED, round};
use super::event::Word;
use crate::arena::recover::{Dead, Found};
use crate::os::futex;
use crate::rules::{self, Rule};

/// Removes the dead process from a barrier to which it has a handle: breaks the barrier, or shrinks it. Returns
/// whether the barrier changed.
pub(crate) fn remove_process(dead: &Dead<'_>, found: &Found) -> bool {
    let (&Dead { arena, slot, returned, .. }, &Found { index, object }) = (dead, found);
    let body: &'static BarrierBody = object.body();
    let Some(cells) = cells(arena, object, index).filter(|_| rules::holds(Rule::BarrierNotified)) else {
        return false;
    };
    let of_dead = |cell: u64| {
        let id = (cell & (DEAD - 1)) as u32;
        cell & DEAD == 0 && id != 0 && arena.slot_of_record(id - 1) == Some(slot)
    };
    let waits = |cell: u64| of_dead(cell) && arrived_for(cell, round(body.state.load(SeqCst)));
    if returned && !cells.iter().any(|cell| waits(cell.load(SeqCst))) {
        return false;
    }
    if body.shrinks.load(SeqCst) == 0 {
        body.break_by(DIED, arena.slot(slot).pid.load(SeqCst) as u32);
    } else {
        let round_now = || round(body.state.load(SeqCst));
        let mut seen = round_now();
        // If the round ends meanwhile, threads may claim the free cells for the next round. Then try again
        // with that round.
        let tombstone = u64::from(arena.incarnation(slot)) << 32 | DEAD | u64::from(slot + 1);
        while !shrink(cells, tombstone, seen, &of_dead) && seen != round_now() {
            seen = round_now();
        }
        Word::count(&body.events);
        futex::wake_all(&body.events); // one of the waiters closes the round
    }
    true
}

/// Turns cells into tombstones: one cell for each of the dead process's threads that took part recently, and
/// at least one cell. Can be called again after an interruption. Returns false if no cell can become a
/// tombstone, because the waiters fill all cells.
fn shrink(cells: &[AtomicU64], tombstone: u64, round: u32, of_dead: &impl Fn(u64) -> bool) -> bool {
    let lately =
        |cell: u64| of_dead(cell) && (arrived_for(cell, round) || arrived_for(cell, round.wrapping_sub(1)));
    for (place, cell) in cells.iter().enumerate() {
        let now = cell.load(SeqCst);
        if !lately(now) {
            continue;
        }
        let again = cells[place + 1..].iter().any(|other| {
            let other = other.load(SeqCst);
            lately(other) && other as u32 == now as u32
        });
        // CRASH: if a thread has two cells, one is cleared before the other becomes a tombstone. So the
        // thread is counted once, even if this starts over several times.
        let _ = cell.compare_exchange(now, if again { 0 } else { tombstone }, SeqCst, SeqCst);
    }
    if cells.iter().any(|cell| cell.load(SeqCst) == tombstone) {
        return true;
    }
    // The process never took part, so a free cell becomes its tombstone. A thread that arrives meanwhile
    // claims another cell.
    cells.iter().any(|cell| {
        let now = cell.load(SeqCst);
        is_free_for(now, round) && cell.compare_exchange(now, tombstone, SeqCst, SeqCst).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOMBSTONE: u64 = DEAD | 9;

    fn arrived(round: u32, thread: u64) -> u64 {
        u64::from(round) << 32 | thread
    }

    fn shrunk(cells: [u64; 3], round: u32, dead: u64) -> (bool, [u64; 3]) {
        let cells = cells.map(AtomicU64::new);
        let of_dead = |cell: u64| cell & DEAD == 0 && cell & (DEAD - 1) == dead;
        (shrink(&cells, TOMBSTONE, round, &of_dead), cells.map(AtomicU64::into_inner))
    }

    #[test]
    fn who_arrives_in_the_next_round_keeps_its_cell_from_the_dead_of_this_one() {
        let next = arrived(6, 1);
        assert_eq!(shrunk([next, arrived(5, 2), arrived(4, 3)], 5, 7).1, [next, arrived(5, 2), TOMBSTONE]);
        assert!(!shrunk([next, arrived(5, 2), arrived(6, 3)], 5, 7).0);
        assert_eq!(shrunk([next, arrived(5, 2), arrived(6, 3)], 6, 7).1, [next, TOMBSTONE, arrived(6, 3)]);
    }

    #[test]
    fn a_cell_is_free_also_after_two_to_the_31_rounds() {
        for round in [1, 1 << 31, u32::MAX, 0] {
            assert!(is_free_for(0, round) && is_free_for(arrived(round.wrapping_sub(1), 1), round));
            assert!(!is_free_for(arrived(round, 1), round));
            assert!(!is_free_for(arrived(round.wrapping_add(1), 1), round));
            assert!(!is_free_for(TOMBSTONE, round));
        }
    }
}
