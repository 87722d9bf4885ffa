//! Which child is in which slot, as its parent keeps it.
//!
//! | entry  | meaning                                        |
//! |--------|------------------------------------------------|
//! | 0      | nobody uses the slot                           |
//! | -1     | it is in use, but no child of ours lives there |
//! | n      | child n, which we have not reaped              |
//!
//! It lies in memory that children do not get: it changes with every fork and every burial, and the
//! kernel would copy its page each time.

use std::io;

use crate::arena::slots;
use crate::os::memory;

const NOBODY: i32 = 0;
const CHILDLESS: i32 = -1;

pub(super) struct ChildTable {
    entries: &'static mut [i32],
    /// Entries from here on were never used.
    used: usize,
}

impl ChildTable {
    /// Room for `slots` slots, of which main has its own.
    pub(super) fn new(slots: u32) -> io::Result<ChildTable> {
        let entries = memory::unforked_ints(slots as usize)?;
        entries[slots::MAIN as usize] = CHILDLESS;
        Ok(ChildTable { entries, used: slots::MAIN as usize + 1 })
    }

    /// The first slot that nobody uses.
    pub(super) fn vacant(&self) -> Option<u32> {
        self.entries.iter().position(|&entry| entry == NOBODY).map(|index| index as u32)
    }

    pub(super) fn enter(&mut self, slot: u32, pid: i32) {
        self.entries[slot as usize] = pid;
        if slot as usize >= self.used {
            self.used = slot as usize + 1;
        }
    }

    /// The child is about to be reaped; its slot stays in use.
    pub(super) fn bereave(&mut self, slot: u32) {
        self.entries[slot as usize] = CHILDLESS;
    }

    pub(super) fn vacate(&mut self, slot: u32) {
        self.entries[slot as usize] = NOBODY;
    }

    /// The slot of a child.
    pub(super) fn slot_of(&self, pid: i32) -> Option<u32> {
        self.entries[..self.used].iter().position(|&entry| entry == pid && pid > 0).map(|index| index as u32)
    }

    /// Every child and its slot.
    pub(super) fn children(&self) -> impl Iterator<Item = (i32, u32)> {
        self.entries[..self.used]
            .iter()
            .zip(0..)
            .filter(|(entry, _)| **entry > 0)
            .map(|(&pid, slot)| (pid, slot))
    }
}
