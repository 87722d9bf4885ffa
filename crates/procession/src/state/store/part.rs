//! What one lock guards: a table, the journal of the one change that is being made to it, and a version.
//!
//! Who changes something holds the lock. Who only looks does not: it reads the version, looks, copies, and
//! reads the version again. Blocks are given back only after the version has grown, so what was copied under
//! one version was copied from blocks that were there all the time.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::table::{Table, node_of};
use super::word;
use crate::arena::blocks::{self, Tag};
use crate::arena::owned_block::OwnedBlock;
use crate::arena::recover::{Dead, Journaled};
use crate::arena::thread::{self, Entry, with_me};
use crate::arena::{Arena, member};
use crate::os::clock::Deadline;
use crate::rules::{self, Rule};
use crate::sync::raw::lock::{self, RawLock};
use crate::sync::raw::word::Outcome;
use crate::{Error, Result};

/// A part in shared memory: the writers' line and the readers' line.
#[repr(C, align(64))]
pub(super) struct Part {
    lock: RawLock,
    /// The word that is being changed, as an offset, or 0; and what it becomes.
    at: AtomicU64,
    to: AtomicU64,
    /// Blocks that the part gets by that, and blocks that it loses: see [`Change`].
    fresh: [AtomicU64; 2],
    stale: [AtomicU64; 2],
    /// Grows before a block that could be reached is given back. Never 0.
    pub(super) version: AtomicU64,
    /// See `table.rs`.
    pub(super) table: AtomicU64,
    /// Words of the table that name a node, and words that are not empty. Counted anew after a death.
    pub(super) live: AtomicU64,
    pub(super) used: AtomicU64,
    _rest: [AtomicU64; 4],
}

/// In a stale table's word: the nodes that it names go with it.
pub(super) const WITH_NODES: u64 = 1;

/// One change: a store, and the blocks that come and go with it. 0 stands for none.
pub(super) struct Change {
    pub(super) at: &'static AtomicU64,
    pub(super) to: u64,
    /// Offsets of blocks of this process, which become the object's.
    pub(super) fresh: [u64; 2],
    /// Offsets of nodes, or words of tables, that become this process's.
    pub(super) stale: [u64; 2],
}

thread_local! {
    /// How many calls of `update` this thread is inside of.
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

/// The lock of a part, held until this is dropped.
pub(super) struct Turn {
    pub(super) part: &'static Part,
    held: Entry,
}

impl Drop for Turn {
    #[inline]
    fn drop(&mut self) {
        self.part.lock.release(self.held);
    }
}

/// As long as this lives, the thread runs code of the user's that may call us.
pub(crate) struct Inside(());

impl Inside {
    #[inline]
    pub(crate) fn enter() -> Inside {
        INSIDE.set(INSIDE.get() + 1);
        Inside(())
    }
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        INSIDE.set(INSIDE.get() - 1);
    }
}

impl Part {
    /// Makes a part of zeros ready for use.
    pub(super) fn initialise(&self) {
        self.version.store(1, Ordering::Relaxed);
    }

    /// Takes the lock. `parts` are all of the same object.
    #[inline]
    pub(super) fn turn(&'static self, arena: &Arena, parts: &'static [Part]) -> Result<Turn> {
        if INSIDE.get() > 0 {
            refuse_inside(parts)?;
        }
        match self.lock.try_acquire_fast(arena.offset_of(&raw const self.lock)) {
            Some(held) => Ok(Turn { part: self, held }),
            None => self.await_turn(arena),
        }
    }

    #[cold]
    fn await_turn(&'static self, arena: &Arena) -> Result<Turn> {
        let offset = arena.offset_of(&raw const self.lock);
        match with_me(|me| self.lock.acquire(me, offset, true, Deadline::NEVER))?? {
            (_, Some(held)) => Ok(Turn { part: self, held }),
            (Outcome::Relocked, None) => Err(inside()),
            (_, None) => {
                Err(Error::other("internal error: the lock was not acquired after an unbounded wait"))
            }
        }
    }

    /// The word that names the table.
    pub(super) fn table_cell(&'static self) -> &'static AtomicU64 {
        &self.table
    }

    /// Whether the calling thread holds the lock.
    fn is_ours(&self) -> bool {
        thread::owner() != 0 && crate::sync::raw::word::owner(self.lock.load()) == thread::owner()
    }

    /// What a look at the part begins with.
    #[inline]
    pub(super) fn look(&self) -> Look<'_> {
        // ORDERING: Acquire pairs with the Release in `commit`: who reads a version sees every change that
        // came before it.
        Look { part: self, version: self.version.load(Ordering::Acquire) }
    }

    /// Makes a change. Its stale blocks are this process's then. For who holds the lock.
    pub(super) fn commit(&self, arena: &Arena, owner: Tag, change: Change, first: u64) {
        let me = Tag::process(member::slot());
        for (to, from) in self.fresh.iter().chain(&self.stale).zip(change.fresh.iter().chain(&change.stale)) {
            // ORDERING: Release, here and below, keeps the order of the program, which is what recovery relies
            // on: none of these comes before the end of the previous change.
            to.store(*from, Ordering::Release);
        }
        self.to.store(change.to, Ordering::Release);
        if rules::holds(Rule::ChangeNoted) {
            // CRASH: from here on recovery looks whether the word was changed: if not, the fresh blocks go,
            // and if so, the stale ones. No block is free before it is in the hands of a process, so
            // nobody else can have got one of these meanwhile.
            self.at.store(arena.offset_of(change.at), Ordering::Release);
        }
        for fresh in change.fresh.into_iter().filter(|&block| block != 0) {
            blocks::hand_over(arena, fresh, me, owner);
        }
        // ORDERING: Release: who sees this word sees the node or table that it names.
        change.at.store(change.to, Ordering::Release);
        if change.stale != [0; 2] {
            self.outdate();
            for stale in change.stale {
                pass_on(arena, stale, owner, me, first);
            }
        }
        self.at.store(0, Ordering::Release);
    }

    /// Takes charge of a block that the last [`commit`](Part::commit) has made this process's.
    #[inline]
    pub(super) fn left(&self, arena: &'static Arena, at: u64) -> OwnedBlock {
        debug_assert!(
            self.stale
                .iter()
                .any(|stale| { at == Table(stale.load(Ordering::Relaxed) & !WITH_NODES).offset() })
        );
        // SAFETY: the caller holds the lock, and the table does not name the block any longer.
        unsafe { OwnedBlock::adopt(arena, at) }
    }

    /// Whoever is looking finds out that something may be gone.
    fn outdate(&self) {
        if !rules::holds(Rule::VersionGrows) {
            return;
        }
        self.version.store(self.version.load(Ordering::Relaxed).wrapping_add(1).max(1), Ordering::Release);
        fence(Ordering::Release);
    }

    /// Ends what the dead process was in the middle of. While the lock's word names it.
    fn repair(&self, arena: &Arena, owner: Tag, dead: u32, first: u64) {
        let at = self.at.load(Ordering::Acquire);
        if let Some(changed) = word(arena, at).filter(|_| at != 0) {
            let done = changed.load(Ordering::Acquire) == self.to.load(Ordering::Acquire);
            let gone = if done { &self.stale } else { &self.fresh };
            if rules::holds(Rule::ChangeSettled) {
                for block in gone {
                    // To the dead, whose blocks are swept next.
                    pass_on(arena, block.load(Ordering::Acquire), owner, Tag::process(dead), first);
                }
            }
        }
        self.outdate();
        self.at.store(0, Ordering::Release);
    }

    /// Releases the lock if the dead thread held it. `recount` restores what is counted.
    pub(super) fn recover(
        &'static self,
        dead: &Dead<'_>,
        entry: Journaled,
        owner: Tag,
        first: u64,
        recount: impl Fn(),
    ) {
        lock::recover(entry.record, &self.lock, || {
            self.repair(dead.arena, owner, dead.slot, first);
            if rules::holds(Rule::Recounted) {
                recount();
            }
            false
        });
    }

    #[cfg(feature = "internals")]
    pub(super) fn is_locked(&self) -> bool {
        crate::sync::raw::word::owner(self.lock.load()) != 0
    }

    pub(super) fn is_locked_by_word_at(&self, arena: &Arena, offset: u64) -> bool {
        arena.offset_of(&raw const self.lock) == offset
    }
}

/// Hands a node or a table from one owner to another; with the nodes that a table names, from its word
/// `first` on, if it says so.
fn pass_on(arena: &Arena, block: u64, from: Tag, to: Tag, first: u64) {
    let table = Table(block & !WITH_NODES);
    if block & WITH_NODES != 0 {
        table.words(arena).skip(first as usize).filter_map(node_of).for_each(|node| {
            blocks::hand_over(arena, node, from, to);
        });
    }
    if block != 0 {
        blocks::hand_over(arena, table.offset(), from, to);
    }
}

#[cold]
fn refuse_inside(parts: &[Part]) -> Result<()> {
    if is_inside(parts) { Err(inside()) } else { Ok(()) }
}

/// Whether the calling thread runs code of the user's under one of these locks.
pub(super) fn is_inside(parts: &[Part]) -> bool {
    INSIDE.get() > 0 && parts.iter().any(Part::is_ours)
}

fn inside() -> Error {
    Error::Unsupported(
        "inside of `update` or `get_or_insert_with` the same dict or list can be looked at, but not changed, gone through or copied: do it before or after".into(),
    )
}

/// A look at a part without its lock.
pub(super) struct Look<'a> {
    pub(super) part: &'a Part,
    version: u64,
}

impl Look<'_> {
    /// Whether nothing that could be reached since the look began can have been given back.
    #[inline]
    pub(super) fn holds(&self) -> bool {
        // ORDERING: whatever was read before this was read before the version is.
        fence(Ordering::Acquire);
        self.part.version.load(Ordering::Relaxed) == self.version
    }

    /// A part that was never made: this process is a stray fork, and sees nothing.
    #[inline]
    pub(super) fn is_nowhere(&self) -> bool {
        self.version == 0
    }
}
