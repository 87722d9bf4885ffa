//! The readers of a read-write lock: cells in blocks, each of which names the thread that reads.
//!
//! ```text
//! ┌─────────────────────┬────────┬────────┬─ ─ ─┬─────────┐
//! │ line 0: event count │ line 1 │ line 2 │     │ line 32 │     16 cells a line
//! └─────────────────────┴────────┴────────┴─ ─ ─┴─────────┘
//! ```
//!
//! | cell     | meaning           | who moves it                                  |
//! |----------|-------------------|-----------------------------------------------|
//! | 0        | nobody reads here | a thread, once its journal names the cell → it |
//! | a thread | it reads          | it → 0; its death → 0                         |
//!
//! A thread begins in a line of its own. When all are full, a block with room for every thread of the family
//! is added. Of that block, who writes looks only at as many cells as ever were in use: that is counted in line
//! 0, and before a cell is taken.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::deadlock::Watch;
use super::event;
use super::event::notify;
use super::park::Wait;
use crate::arena::blocks::Tag;
use crate::arena::objects::Object;
use crate::arena::recover::{Dead, Found, Journaled};
use crate::arena::storage::{Data, LINE};
use crate::arena::thread::Entry;
use crate::arena::{Arena, blocks, member, storage, thread};
use crate::os::clock::Deadline;
use crate::rules::Rule;
use crate::{Error, Result, rules};

const LINES: u32 = 32;
const A_LINE: u32 = LINE as u32 / 4;
/// Cells in the further block.
const FURTHER: u64 = 1 << 17;
/// [`Object::blocks`] of a read-write lock: after the value.
const FIRST: usize = 1;
const MORE: usize = 2;

/// The reader cells of one lock, as this process sees them.
#[derive(Clone)]
pub(crate) struct Cells {
    /// The first line is no cells.
    first: &'static [AtomicU32],
    offset: u64,
    /// Where the lock says that its further block lies.
    place: &'static AtomicU64,
    index: u32,
    more: OnceLock<&'static [AtomicU32]>,
}

/// In line 0: how many cells of the further block were ever in use.
const USED: usize = 1;

fn used(first: &[AtomicU32], further: &[AtomicU32]) -> usize {
    (first[USED].load(Ordering::SeqCst) as usize).min(further.len())
}

/// Makes the first block.
pub(crate) fn make(arena: &Arena) -> Result<(u64, Data)> {
    storage::make(arena, u64::from(LINES + 1) * LINE, LINE)
}

fn find(arena: &Arena, object: &Object, index: u32, which: usize) -> Option<&'static [AtomicU32]> {
    storage::find_cells(arena, index, object.blocks[which].load(Ordering::Acquire))
}

impl Cells {
    pub(crate) fn of(arena: &Arena, object: &'static Object, index: u32) -> Option<Cells> {
        let first = find(arena, object, index, FIRST)?;
        (first.len() == ((LINES + 1) * A_LINE) as usize).then(|| Cells {
            first,
            offset: arena.offset_of(first.as_ptr()),
            place: &object.blocks[MORE],
            index,
            more: OnceLock::new(),
        })
    }

    /// Where a writer waits for readers to leave.
    pub(crate) fn events(&self) -> &'static AtomicU32 {
        &self.first[0]
    }

    /// The cell in which this thread looks first, and its offset.
    #[inline]
    pub(crate) fn of_thread(&self, me: u32) -> Option<(&'static AtomicU32, u64)> {
        let place = (1 + me % LINES) * A_LINE + me / LINES % A_LINE;
        let cell = self.first.get(place as usize)?;
        Some((cell, self.offset + u64::from(place) * 4))
    }

    /// Every cell, from `me`'s own on.
    fn all(&self, me: u32) -> impl Iterator<Item = &'static AtomicU32> {
        let cells = &self.first[A_LINE as usize..];
        let (before, from) = cells.split_at((me % LINES * A_LINE) as usize);
        from.iter().chain(before).chain(self.further())
    }

    /// Every cell that was ever in use.
    fn used(&self) -> impl Iterator<Item = &'static AtomicU32> {
        let further = self.further();
        self.first[A_LINE as usize..].iter().chain(&further[..used(self.first, further)])
    }

    /// Counts a cell of the further block as used, before it is.
    fn count_used(&self, cell: &'static AtomicU32) {
        // ORDERING: SeqCst, before the cell is taken, and that before the look for a writer, who looks at the
        // cells after it has taken the lock. If it does not see this, we see it.
        let place = self.further().element_offset(cell);
        if let Some(place) = place.filter(|&place| place >= used(self.first, self.further())) {
            self.first[USED].fetch_max(place as u32 + 1, Ordering::SeqCst);
        }
    }

    /// The cells of the further block, which anyone may have added since this handle was made.
    fn further(&self) -> &'static [AtomicU32] {
        if let Some(cells) = self.more.get() {
            return cells;
        }
        // ORDERING: Acquire. The block is added under the writers' lock, so who writes sees it; a reader that
        // does not see it yet finds no free cell, and comes to add it.
        let at = self.place.load(Ordering::Acquire);
        let found = member::mapped().filter(|_| at != 0).and_then(|a| storage::find_cells(a, self.index, at));
        found.map_or(&[], |cells| self.more.get_or_init(|| cells))
    }

    /// Takes a free cell for this thread, noted in its journal; `None` if there is none.
    pub(crate) fn take_any(&self, me: u32) -> Result<Option<(&'static AtomicU32, Entry)>> {
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

    /// Whether nobody reads.
    pub(crate) fn all_empty(&self) -> bool {
        self.used().all(|cell| cell.load(Ordering::SeqCst) == 0)
    }

    /// Whether this thread reads.
    pub(crate) fn names(&self, me: u32) -> bool {
        self.used().any(|cell| cell.load(Ordering::SeqCst) == me)
    }

    /// Waits until nobody reads, or that is of `no_use` any more. False when the time was up before.
    pub(crate) fn await_empty(&self, deadline: Deadline, no_use: impl Fn() -> bool) -> Result<bool> {
        let arena = member::arena()?;
        thread::with_me(|me| {
            let mut watch = Watch::begin(deadline);
            while !self.all_empty() && !no_use() {
                if deadline.passed() {
                    return Ok(false);
                }
                // ORDERING: announced before we look again: see `wait::until`.
                let wait = Wait::announce_event_since(arena, me.record(), self.events(), watch.stamp());
                let ticket = event::prepare(self.events());
                if self.all_empty() {
                    break;
                }
                wait.sleep(self.events(), ticket, watch.until(arena, deadline));
                if let Some(error) = watch.look(arena, me.owner() - 1) {
                    return Err(error.into());
                }
            }
            Ok(true)
        })?
    }

    /// Adds the further block. Only whoever holds the lock calls this.
    pub(crate) fn grow(&self) -> Result<()> {
        let arena = member::arena()?;
        let seen = self.more.get().is_some();
        if !self.further().is_empty() {
            // Somebody else may have added it since we looked.
            let full = || Error::Full(format!("more than {FURTHER} read a lock at once"));
            return if seen { Err(full()) } else { Ok(()) };
        }
        let (at, _) = storage::make(arena, FURTHER * 4, LINE)?;
        // CRASH: a block that is not tagged as the object's does not count, and the next one puts another
        // in its place.
        self.place.store(at, Ordering::Release);
        blocks::hand_over(arena, at, Tag::process(member::slot()), Tag::object(self.index));
        Ok(())
    }
}

/// Clears the reader's cell that the journal names, if the dead thread read there.
pub(crate) fn release(dead: &Dead<'_>, found: &Found, entry: Journaled) {
    let (arena, &Found { index, object }) = (dead.arena, found);
    let Journaled { record: id, offset } = entry;
    let Some(first) = find(arena, object, index, FIRST) else { return };
    for cells in [Some(first), find(arena, object, index, MORE)].into_iter().flatten() {
        let within = offset.checked_sub(arena.offset_of(cells.as_ptr())).map(|bytes| bytes / 4);
        let Some(cell) = within.and_then(|place| cells.get(place as usize)) else { continue };
        if rules::holds(Rule::ReadersLeave) {
            let _ = cell.compare_exchange(id + 1, 0, Ordering::SeqCst, Ordering::SeqCst);
            notify(&first[0], i32::MAX);
        }
    }
}

/// Who reads, if `offset` is where writers wait for them.
pub(crate) fn of_events(arena: &Arena, object: &Object, index: u32, offset: u64) -> Vec<u32> {
    let Some(first) = find(arena, object, index, FIRST) else { return vec![] };
    if arena.offset_of(first.as_ptr()) != offset {
        return vec![];
    }
    let more = find(arena, object, index, MORE).unwrap_or_default();
    let ids = first[A_LINE as usize..]
        .iter()
        .chain(&more[..used(first, more)])
        .map(|cell| cell.load(Ordering::SeqCst));
    ids.filter_map(|id| id.checked_sub(1)).filter(|&id| arena.slot_of_record(id).is_some()).collect()
}
