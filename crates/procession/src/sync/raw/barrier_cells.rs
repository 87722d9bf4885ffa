//! The cells that record which parties of a barrier have arrived. Each arrival stores its thread and its
//! round in a cell. So the number of arrivals is counted from the cells rather than stored, and the arrivals
//! of dead threads can be found. Within a round, arrivals are only added. So any thread that finds that all
//! parties have arrived may close the round. It does so by one exchange, which fails if the barrier was
//! broken first.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::arena::Arena;
use crate::arena::objects::Object;
use crate::arena::storage::{self, LINE};

/// Bit in a cell: the cell stands for a party of a dead process. With this bit, the rest of the lower half is
/// the process's slot + 1, and the upper half is the slot's incarnation. Without it, the lower half is a
/// thread, and the upper half is the round for which the thread arrived.
pub(crate) const DEAD: u64 = 1 << 31;

pub(crate) fn arrived_for(cell: u64, round: u32) -> bool {
    cell & DEAD == 0 && (cell >> 32) as u32 == round
}

/// Returns whether a thread that arrives for `round` may claim the cell. A cell of a later round belongs to a
/// waiter of that round, and shows that `round` is over.
pub(crate) fn is_free_for(cell: u64, round: u32) -> bool {
    let older = round.wrapping_sub((cell >> 32) as u32) as i32 > 0;
    cell == 0 || (cell & DEAD == 0 && older)
}

pub(crate) fn cells(arena: &Arena, object: &Object, index: u32) -> Option<&'static [AtomicU64]> {
    let data = storage::find(arena, index, object.blocks[0].load(SeqCst), LINE)?;
    Some(storage::wide_cells(arena, data))
}
