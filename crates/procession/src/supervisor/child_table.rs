//! Which child is in which slot, as the supervisor records it.
//!
//! | entry  | meaning                                        |
//! |--------|------------------------------------------------|
//! | 0      | the slot is unused                             |
//! | -1     | the slot is in use, and has no child           |
//! | n      | child n, which is not reaped                   |
//!
//! The table lies in memory that children do not inherit. Every fork and every reaping changes the table, and
//! the kernel would copy an inherited page at every change.

use std::io;

use crate::arena::slots;
use crate::os::memory;

const UNUSED: i32 = 0;
const NO_CHILD: i32 = -1;

pub(super) struct ChildTable {
    entries: &'static mut [i32],
    /// The entry at this index and all later ones were never used.
    used: usize,
}

impl ChildTable {
    /// Creates a table of `slots` slots, of which main uses one.
    pub(super) fn new(slots: u32) -> io::Result<ChildTable> {
        let entries = memory::unforked_ints(slots as usize)?;
        entries[slots::MAIN as usize] = NO_CHILD;
        Ok(ChildTable { entries, used: slots::MAIN as usize + 1 })
    }

    /// Returns the first unused slot.
    pub(super) fn vacant(&self) -> Option<u32> {
        self.entries.iter().position(|&entry| entry == UNUSED).map(|index| index as u32)
    }

    pub(super) fn enter(&mut self, slot: u32, pid: i32) {
        self.entries[slot as usize] = pid;
        if slot as usize >= self.used {
            self.used = slot as usize + 1;
        }
    }

    /// Removes a child that is about to be reaped. Its slot stays in use.
    pub(super) fn clear_child(&mut self, slot: u32) {
        self.entries[slot as usize] = NO_CHILD;
    }

    pub(super) fn clear_slot(&mut self, slot: u32) {
        self.entries[slot as usize] = UNUSED;
    }

    /// Returns the slot of a child.
    pub(super) fn slot_of(&self, pid: i32) -> Option<u32> {
        self.entries[..self.used].iter().position(|&entry| entry == pid && pid > 0).map(|index| index as u32)
    }

    /// Returns every child with its slot.
    pub(super) fn children(&self) -> impl Iterator<Item = (i32, u32)> {
        self.entries[..self.used]
            .iter()
            .zip(0..)
            .filter(|(entry, _)| **entry > 0)
            .map(|(&pid, slot)| (pid, slot))
    }
}
