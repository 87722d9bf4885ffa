//! A part: a table, its lock, the journal of the change in progress, and a version.
//!
//! A writer holds the lock. A reader does not: it reads the version, searches and copies, and reads the
//! version again. A writer increments the version before it frees a block. So if both reads return the same
//! version, the reader has copied only from blocks that were in use all the time.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::table::{Table, node_of};
use super::word;
use crate::arena::blocks::{self, Tag};
use crate::arena::owned_block::OwnedBlock;
use crate::arena::recover::{Dead, Journaled};
use crate::arena::thread;
use crate::arena::{Arena, member};
use crate::os::clock::Deadline;
use crate::rules::{self, Rule};
use crate::sync::raw::guard::RawGuard;
use crate::sync::raw::lock::{self, RawLock};
use crate::sync::raw::word::Outcome;
use crate::{Error, Result};

/// A part in shared memory: one cache line for writers and one for readers.
#[repr(C, align(64))]
pub(super) struct Part {
    lock: RawLock,
    /// The offset of the word that is being changed, or 0, and the word's new value.
    at: AtomicU64,
    to: AtomicU64,
    /// The blocks that the part gains by the change, and the blocks that it loses: see [`Change`].
    fresh: [AtomicU64; 2],
    stale: [AtomicU64; 2],
    /// The writer increments this before it frees a block that readers could reach. Never 0.
    pub(super) version: AtomicU64,
    /// See `table.rs`.
    pub(super) table: AtomicU64,
    /// The number of words in the table that name a node, and the number of words that are not `EMPTY`.
    /// Recovery recomputes both after a death.
    pub(super) live: AtomicU64,
    pub(super) used: AtomicU64,
    _rest: [AtomicU64; 4],
}

/// A bit that is set in the word of a stale table if the table's nodes are stale, too.
pub(super) const WITH_NODES: u64 = 1;

/// A change: one store, and the blocks that the part gains and loses by it. The offset 0 means no block.
pub(super) struct Change {
    pub(super) at: &'static AtomicU64,
    pub(super) to: u64,
    /// Offsets of blocks of this process that become the object's.
    pub(super) fresh: [u64; 2],
    /// Offsets of nodes, or words of tables, that become this process's.
    pub(super) stale: [u64; 2],
}

thread_local! {
    /// The number of [`UserCode`] values that exist in this thread.
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

/// The lock of a part. Dropping it releases the lock.
pub(super) struct PartGuard {
    pub(super) part: &'static Part,
    _guard: RawGuard,
}

/// While this value exists, the thread runs user code under a lock of a dict or list.
pub(crate) struct UserCode(());

impl UserCode {
    #[inline]
    pub(crate) fn enter() -> UserCode {
        INSIDE.set(INSIDE.get() + 1);
        UserCode(())
    }
}

impl Drop for UserCode {
    #[inline]
    fn drop(&mut self) {
        INSIDE.set(INSIDE.get() - 1);
    }
}

impl Part {
    /// Initializes a part whose words are all zero.
    pub(super) fn initialise(&self) {
        self.version.store(1, Ordering::Relaxed);
    }

    /// Acquires the lock. `parts` are all parts of the same object.
    #[inline]
    pub(super) fn acquire(&'static self, arena: &Arena, parts: &'static [Part]) -> Result<PartGuard> {
        if INSIDE.get() > 0 {
            refuse_inside(parts)?;
        }
        match self.lock.try_lock_fast(arena.offset_of(&raw const self.lock)) {
            Some(guard) => Ok(PartGuard { part: self, _guard: guard }),
            None => self.acquire_slow(arena),
        }
    }

    #[cold]
    fn acquire_slow(&'static self, arena: &Arena) -> Result<PartGuard> {
        let offset = arena.offset_of(&raw const self.lock);
        match self.lock.lock_slow(offset, Deadline::NEVER)? {
            Ok(guard) => Ok(PartGuard { part: self, _guard: guard }),
            Err(Outcome::Relocked) => Err(inside()),
            Err(_) => Err(Error::other("internal error: the lock was not acquired after an unbounded wait")),
        }
    }

    /// Returns the word that names the table.
    pub(super) fn table_cell(&'static self) -> &'static AtomicU64 {
        &self.table
    }

    /// Returns whether the calling thread holds the lock.
    fn is_ours(&self) -> bool {
        thread::owner() != 0 && crate::sync::raw::word::owner(self.lock.load()) == thread::owner()
    }

    /// Begins a read of the part without its lock.
    #[inline]
    pub(super) fn begin_read(&self) -> OptimisticRead<'_> {
        // ORDERING: Acquire pairs with the Release in `increment_version`. A reader that reads a version sees
        // every change that was made before this version was stored.
        OptimisticRead { part: self, version: self.version.load(Ordering::Acquire) }
    }

    /// Makes a change. Afterwards, the stale blocks belong to this process. The caller holds the lock.
    pub(super) fn commit(&self, arena: &Arena, owner: Tag, change: Change, first: u64) {
        let me = Tag::process(member::slot());
        for (to, from) in self.fresh.iter().chain(&self.stale).zip(change.fresh.iter().chain(&change.stale)) {
            // ORDERING: Release, here and below, keeps these stores in program order. Recovery relies on this
            // order: none of these stores comes before the end of the previous change.
            to.store(*from, Ordering::Release);
        }
        self.to.store(change.to, Ordering::Release);
        if rules::holds(Rule::ChangeJournaled) {
            // CRASH: if we die from here on, recovery checks whether the word was changed. If it was not,
            // recovery frees the fresh blocks. If it was, recovery frees the stale blocks. No block is freed
            // before it belongs to a process, so no other process can have allocated one of these blocks
            // meanwhile.
            self.at.store(arena.offset_of(change.at), Ordering::Release);
        }
        for fresh in change.fresh.into_iter().filter(|&block| block != 0) {
            blocks::hand_over(arena, fresh, me, owner);
        }
        // ORDERING: Release, so a reader that reads this word sees the node or table that the word names.
        change.at.store(change.to, Ordering::Release);
        if change.stale != [0; 2] {
            self.increment_version();
            for stale in change.stale {
                transfer(arena, stale, owner, me, first);
            }
        }
        self.at.store(0, Ordering::Release);
    }

    /// Takes ownership of a stale block that the last [`commit`](Part::commit) has given to this process.
    #[inline]
    pub(super) fn take_stale(&self, arena: &'static Arena, at: u64) -> OwnedBlock {
        debug_assert!(
            self.stale
                .iter()
                .any(|stale| { at == Table(stale.load(Ordering::Relaxed) & !WITH_NODES).offset() })
        );
        // SAFETY: the caller holds the lock, and the table no longer names the block.
        unsafe { OwnedBlock::adopt(arena, at) }
    }

    /// Increments the version, so that readers notice that a block may be freed.
    fn increment_version(&self) {
        if !rules::holds(Rule::VersionIncremented) {
            return;
        }
        self.version.store(self.version.load(Ordering::Relaxed).wrapping_add(1).max(1), Ordering::Release);
        fence(Ordering::Release);
    }

    /// Completes or undoes the change that the dead process was making. The lock's word still names the dead thread.
    fn repair(&self, arena: &Arena, owner: Tag, dead: u32, first: u64) {
        let at = self.at.load(Ordering::Acquire);
        if let Some(changed) = word(arena, at).filter(|_| at != 0) {
            let done = changed.load(Ordering::Acquire) == self.to.load(Ordering::Acquire);
            let gone = if done { &self.stale } else { &self.fresh };
            if rules::holds(Rule::ChangeBlocksFreed) {
                for block in gone {
                    // The block becomes the dead process's. Recovery sweeps the blocks of the dead process
                    // next.
                    transfer(arena, block.load(Ordering::Acquire), owner, Tag::process(dead), first);
                }
            }
        }
        self.increment_version();
        self.at.store(0, Ordering::Release);
    }

    /// If the dead thread held the lock, repairs the part and then releases the lock. `recount` recomputes
    /// the counts.
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

/// Transfers a node or a table from one owner to another. If `block` has [`WITH_NODES`] set, also transfers
/// the nodes that the table names, beginning with its word `first`.
fn transfer(arena: &Arena, block: u64, from: Tag, to: Tag, first: u64) {
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

/// Returns whether the calling thread runs user code while it holds the lock of one of these parts.
pub(super) fn is_inside(parts: &[Part]) -> bool {
    INSIDE.get() > 0 && parts.iter().any(Part::is_ours)
}

fn inside() -> Error {
    Error::Unsupported(
        "a closure of a dict or list can read the same dict or list, but not change, iterate over or copy it; do that before or after the call".into(),
    )
}

/// A read of a part without its lock.
pub(super) struct OptimisticRead<'a> {
    pub(super) part: &'a Part,
    version: u64,
}

impl OptimisticRead<'_> {
    /// Returns true only if every block that readers could reach when the read began is still in use.
    #[inline]
    pub(super) fn is_current(&self) -> bool {
        // ORDERING: this fence orders all earlier reads of the caller before the read of the version.
        fence(Ordering::Acquire);
        self.part.version.load(Ordering::Relaxed) == self.version
    }

    /// Returns whether the part reads as zeros. Then this process is a fork that the library did not make.
    #[inline]
    pub(super) fn is_unmapped(&self) -> bool {
        self.version == 0
    }
}
