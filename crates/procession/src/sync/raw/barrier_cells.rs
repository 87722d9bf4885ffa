//! Which parties of a barrier have arrived. Each arrival is a cell with its thread and its round, so arrivals are
//! counted, not stored, and those of dead threads can be found. Within a round cells are only added. So any thread
//! that finds all parties arrived may close the round. It does so by one exchange, which fails if the barrier was
//! broken first.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::arena::Arena;
use crate::arena::objects::Object;
use crate::arena::storage::{self, LINE};

/// In a cell: the cell stands for a party of a dead process. Then the rest of the lower half is the process's slot +
/// 1, and the upper half its incarnation. Otherwise the lower half is a thread, and the upper half is the round for
/// which it arrived.
pub(crate) const DEAD: u64 = 1 << 31;

pub(crate) fn arrived_for(cell: u64, round: u32) -> bool {
    cell & DEAD == 0 && (cell >> 32) as u32 == round
}

/// Returns whether a thread that arrives for `round` may claim the cell. A cell of a later round belongs to a waiter,
/// and means that the round that we saw is over.
pub(crate) fn is_free_for(cell: u64, round: u32) -> bool {
    let older = round.wrapping_sub((cell >> 32) as u32) as i32 > 0;
    cell == 0 || (cell & DEAD == 0 && older)
}

pub(crate) fn cells(arena: &Arena, object: &Object, index: u32) -> Option<&'static [AtomicU64]> {
    let data = storage::find(arena, index, object.blocks[0].load(SeqCst), LINE)?;
    Some(storage::wide_cells(arena, data))
}
