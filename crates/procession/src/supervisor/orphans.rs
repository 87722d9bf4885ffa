//! Which child an adopted orphan descends from.
//!
//! A process that a child puts into the background lives as long as the child. The supervisor adopts it,
//! kills it when the child has died, and reaps it. So a child never has to reap a process that it did not
//! fork itself.

use crate::arena::Arena;
use crate::os::lineage;

use super::child_table::ChildTable;

/// Orphans that have lost their mark.
#[derive(Default)]
pub(super) struct Orphans {
    /// Each orphan, with the number of the last incarnation at the time when the orphan was first seen. The
    /// orphan descends from that incarnation or from an earlier one.
    strangers: Vec<(i32, u32)>,
}

impl Orphans {
    /// Returns whether an orphan descends, or may descend, from a child that is alive.
    pub(super) fn is_owned(&mut self, arena: &Arena, table: &ChildTable, pid: i32) -> bool {
        let mut living = table.children().map(|(_, slot)| arena.incarnation(slot));
        let mark = lineage::mark_of(pid);
        match mark.filter(|mark| mark >> 32 == family(arena)) {
            Some(mark) => living.any(|incarnation| u64::from(incarnation) == mark & u64::from(u32::MAX)),
            None => {
                let last = self.first_seen(arena, pid);
                living.any(|incarnation| incarnation <= last)
            }
        }
    }

    fn first_seen(&mut self, arena: &Arena, pid: i32) -> u32 {
        if let Some((_, last)) = self.strangers.iter().find(|(known, _)| *known == pid) {
            return *last;
        }
        let last = arena.header().incarnations.load(std::sync::atomic::Ordering::Relaxed);
        self.strangers.push((pid, last));
        last
    }

    /// Forgets an orphan that is reaped.
    pub(super) fn forget(&mut self, pid: i32) {
        self.strangers.retain(|(known, _)| *known != pid);
    }
}

/// Returns the half of a mark that differs from family to family.
fn family(arena: &Arena) -> u64 {
    // 31 bits, so that no mark equals the number that means "no limit".
    arena.header().nonce.load(std::sync::atomic::Ordering::Relaxed) >> 33
}

/// Marks this process as the child of a slot.
pub(super) fn mark_child(arena: &Arena, index: u32) {
    lineage::mark(family(arena) << 32 | u64::from(arena.incarnation(index)));
}
