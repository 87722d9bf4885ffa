//! The readers of a read-write lock. Each reader has a cell in a block. The cell names the thread that reads.
//!
//! ```text
//! ┌─────────────────────┬────────┬────────┬─ ─ ─┬─────────┐
//! │ line 0: event count │ line 1 │ line 2 │     │ line 32 │     16 cells a line
//! └─────────────────────┴────────┴────────┴─ ─ ─┴─────────┘
//! ```
//!
//! | cell     | meaning           | who moves it                                  |
//! |----------|-------------------|-----------------------------------------------|
//! | 0        | no reader         | a thread, once its journal names the cell → it |
//! | a thread | that thread reads | it → 0; recovery → 0                          |
//!
//! Each thread first tries the line that its id selects. When all cells are full, a block with room for every
//! thread of the family is added. Line 0 counts how many cells of that block were ever in use, and a reader
//! raises the count before it claims a cell. A writer checks no more cells of that block than this count.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::deadlock::Watch;
use super::event;
use super::event::notify;
use super::park::Wait;
use crate::arena::objects::Object;
use crate::arena::recover::{Dead, Found, Journaled};
use crate::arena::storage::{LINE, Room};
use crate::arena::thread::Entry;
use crate::arena::{Arena, member, storage, thread};
use crate::os::clock::Deadline;
use crate::rules::Rule;
use crate::{Error, Result, rules};

const LINES: u32 = 32;
const CELLS_PER_LINE: u32 = LINE as u32 / 4;
/// The number of cells in the further block.
const FURTHER: u64 = 1 << 17;
/// The indexes into [`Object::blocks`] of a read-write lock. Block 0 is the value.
const FIRST: usize = 1;
const MORE: usize = 2;

/// The reader cells of one lock, with this process's pointers to them.
#[derive(Clone)]
pub(crate) struct Cells {
    /// Line 0 holds the event count and other words instead of cells.
    first: &'static [AtomicU32],
    offset: u64,
    /// The word that holds the offset of the further block.
    place: &'static AtomicU64,
    index: u32,
    more: OnceLock<&'static [AtomicU32]>,
}

/// The index of the word in line 0 that counts how many cells of the further block were ever in use.
const USED: usize = 1;

fn used(first: &[AtomicU32], further: &[AtomicU32]) -> usize {
    (first[USED].load(Ordering::SeqCst) as usize).min(further.len())
}

/// Creates the first block.
pub(crate) fn make() -> Result<Room> {
    storage::make(u64::from(LINES + 1) * LINE, LINE)
}

fn find(arena: &Arena, object: &Object, index: u32, which: usize) -> Option<&'static [AtomicU32]> {
    storage::find_cells(arena, index, object.blocks[which].load(Ordering::Acquire))
}

impl Cells {
    pub(crate) fn of(arena: &Arena, object: &'static Object, index: u32) -> Option<Cells> {
        let first = find(arena, object, index, FIRST)?;
        (first.len() == ((LINES + 1) * CELLS_PER_LINE) as usize).then(|| Cells {
            first,
            offset: arena.offset_of(first.as_ptr()),
            place: &object.blocks[MORE],
            index,
            more: OnceLock::new(),
        })
    }

    /// Returns the event count on which a writer waits for readers to leave.
    pub(crate) fn events(&self) -> &'static AtomicU32 {
        &self.first[0]
    }

    /// Returns the cell that this thread tries first, and its offset.
    #[inline]
    pub(crate) fn of_thread(&self, me: u32) -> Option<(&'static AtomicU32, u64)> {
        let place = (1 + me % LINES) * CELLS_PER_LINE + me / LINES % CELLS_PER_LINE;
        let cell = self.first.get(place as usize)?;
        Some((cell, self.offset + u64::from(place) * 4))
    }

    /// Returns every cell, starting with the line of `me`.
    fn all(&self, me: u32) -> impl Iterator<Item = &'static AtomicU32> {
        let cells = &self.first[CELLS_PER_LINE as usize..];
        let (before, from) = cells.split_at((me % LINES * CELLS_PER_LINE) as usize);
        from.iter().chain(before).chain(self.further())
    }

    /// Returns every cell that was ever in use.
    fn used(&self) -> impl Iterator<Item = &'static AtomicU32> {
        let further = self.further();
        self.first[CELLS_PER_LINE as usize..].iter().chain(&further[..used(self.first, further)])
    }

    /// Counts a cell of the further block as used, before it is claimed.
    fn count_used(&self, cell: &'static AtomicU32) {
        // ORDERING: SeqCst. The count is raised before the cell is claimed, and the cell is claimed before
        // the check for a writer. A writer acquires the lock and then reads the count. If the writer does not
        // see this count, we see the writer.
        let place = self.further().element_offset(cell);
        if let Some(place) = place.filter(|&place| place >= used(self.first, self.further())) {
            self.first[USED].fetch_max(place as u32 + 1, Ordering::SeqCst);
        }
    }

    /// Returns the cells of the further block. Another process may have added it since this handle was created.
    fn further(&self) -> &'static [AtomicU32] {
        if let Some(cells) = self.more.get() {
            return cells;
        }
        // ORDERING: Acquire. The block is added under the writers' lock, so every writer sees it. A reader
        // that does not see the block yet finds no free cell, and then tries to add the block itself.
        let at = self.place.load(Ordering::Acquire);
        let found = member::mapped().filter(|_| at != 0).and_then(|a| storage::find_cells(a, self.index, at));
        found.map_or(&[], |cells| self.more.get_or_init(|| cells))
    }

    /// Claims a free cell for this thread, after writing the cell into the journal. Returns `None` if no cell
    /// is free.
    pub(crate) fn claim_any(&self, me: u32) -> Result<Option<(&'static AtomicU32, Entry)>> {
        let arena = member::arena()?;
        for cell in self.all(me).filter(|cell| cell.load(Ordering::Relaxed) == 0) {
            let entry = thread::with_me(|me| me.journal(arena.offset_of(cell.as_ptr())))??;
            self.count_used(cell);
            // ORDERING, CRASH: as in `RwLock::enter`.
            if cell.compare_exchange(0, me, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                return Ok(Some((cell, entry)));
            }
            thread::clear_entry(entry);
        }
        Ok(None)
    }

    /// Returns whether no thread reads.
    pub(crate) fn all_empty(&self) -> bool {
        self.used().all(|cell| cell.load(Ordering::SeqCst) == 0)
    }

    /// Returns whether the thread `me` reads.
    pub(crate) fn names(&self, me: u32) -> bool {
        self.used().any(|cell| cell.load(Ordering::SeqCst) == me)
    }

    /// Waits until no thread reads, or until `cancelled` returns true. Returns false if the wait timed out.
    pub(crate) fn await_empty(&self, deadline: Deadline, cancelled: impl Fn() -> bool) -> Result<bool> {
        let arena = member::arena()?;
        thread::with_me(|me| {
            let mut watch = Watch::begin(deadline);
            while !self.all_empty() && !cancelled() {
                if deadline.passed() {
                    return Ok(false);
                }
                // ORDERING: the wait is announced before we check again: see `wait::until`.
                let wait = Wait::announce_event_since(arena, me.record(), self.events(), watch.stamp());
                let ticket = event::prepare(self.events());
                if self.all_empty() {
                    break;
                }
                wait.sleep(self.events(), ticket, watch.until(arena, deadline));
                if let Some(error) = watch.check(arena, me.owner() - 1) {
                    return Err(error.into());
                }
            }
            Ok(true)
        })?
    }

    /// Adds the further block. The caller holds the lock.
    pub(crate) fn grow(&self) -> Result<()> {
        member::arena()?;
        let seen = self.more.get().is_some();
        if !self.further().is_empty() {
            // Another process may have added the block since we checked.
            let full = || {
                Error::Full(format!(
                    "the lock has {FURTHER} readers, which is the most; release some of them"
                ))
            };
            return if seen { Err(full()) } else { Ok(()) };
        }
        let room = storage::make(FURTHER * 4, LINE)?;
        // CRASH: a block counts only once its tag names the object. If we die before that, the next process
        // that adds a block replaces this one.
        self.place.store(room.at(), Ordering::Release);
        room.give_to(self.index);
        Ok(())
    }
}

/// Clears the reader's cell that the journal names, if the cell still names the dead thread.
pub(crate) fn release(dead: &Dead<'_>, found: &Found, entry: Journaled) {
    let (arena, &Found { index, object }) = (dead.arena, found);
    let Journaled { record: id, offset } = entry;
    let Some(first) = find(arena, object, index, FIRST) else { return };
    for cells in [Some(first), find(arena, object, index, MORE)].into_iter().flatten() {
        let within = offset.checked_sub(arena.offset_of(cells.as_ptr())).map(|bytes| bytes / 4);
        let Some(cell) = within.and_then(|place| cells.get(place as usize)) else { continue };
        if rules::holds(Rule::ReaderCellCleared) {
            let _ = cell.compare_exchange(id + 1, 0, Ordering::SeqCst, Ordering::SeqCst);
            notify(&first[0], i32::MAX);
        }
    }
}

/// Returns the records of the readers, if `offset` is the event count on which writers wait for readers.
pub(crate) fn of_events(arena: &Arena, object: &Object, index: u32, offset: u64) -> Vec<u32> {
    let Some(first) = find(arena, object, index, FIRST) else { return vec![] };
    if arena.offset_of(first.as_ptr()) != offset {
        return vec![];
    }
    let more = find(arena, object, index, MORE).unwrap_or_default();
    let ids = first[CELLS_PER_LINE as usize..]
        .iter()
        .chain(&more[..used(first, more)])
        .map(|cell| cell.load(Ordering::SeqCst));
    ids.filter_map(|id| id.checked_sub(1)).filter(|&id| arena.slot_of_record(id).is_some()).collect()
}
