//! Each arrival is a cell that names its thread and its round, so the number of those who have arrived is
//! counted, not stored, and the dead can be told apart. Within a round cells are only added, so whoever
//! counts all of them may close the round, by one exchange that fails when the barrier was broken before.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::arena::Arena;
use crate::arena::objects::Object;
use crate::arena::storage::{self, LINE};

/// In a cell: it stands for a party of a dead process; the rest of the lower half is its slot + 1, the upper
/// half its incarnation. Otherwise the lower half is a thread and the upper half the round it arrived for.
pub(crate) const DEAD: u64 = 1 << 31;

pub(crate) fn arrived_for(cell: u64, round: u32) -> bool {
    cell & DEAD == 0 && (cell >> 32) as u32 == round
}

/// Whether who arrives for `round` may take the cell. One of a later round is somebody who waits: the round
/// that we saw is over.
pub(crate) fn is_free_for(cell: u64, round: u32) -> bool {
    let older = round.wrapping_sub((cell >> 32) as u32) as i32 > 0;
    cell == 0 || (cell & DEAD == 0 && older)
}

pub(crate) fn cells(arena: &Arena, object: &Object, index: u32) -> Option<&'static [AtomicU64]> {
    let data = storage::find(arena, index, object.blocks[0].load(SeqCst), LINE)?;
    Some(storage::wide_cells(arena, data))
}
