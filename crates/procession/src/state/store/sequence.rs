//! A list in shared memory: a table used as a ring buffer (`list_ring.rs`).
//!
//! A change at an end of the list is a store to `ends`. A change in the middle replaces the whole table.
//! Every word that is not between the ends is `EMPTY`. After a death, recovery restores this.

use std::sync::atomic::{AtomicU64, Ordering};

use super::copy::Buffer;
use super::found::Found;
use super::list_ring::{FIRST, ListRing};
use super::node::{self, Encoded, Node};
use super::part::{self, Change, Part, PartGuard, WITH_NODES};
use super::table::{EMPTY, Emptied, Table, naming};
use super::{Old, RetryBudget, make_parts, parts_at};
use crate::arena::blocks::Tag;
use crate::arena::handle::Handle;
use crate::arena::objects::{Body, Kind};
use crate::arena::owned_block::OwnedBlock;
use crate::arena::recover::{Dead, Journaled};
use crate::arena::{Arena, collect, heap, member};
use crate::{Error, Result};

/// The body of a list. All data of the list is in blocks.
#[repr(C)]
pub(crate) struct ListBody(AtomicU64);

// SAFETY: the body is an atomic, and zero is a valid value.
unsafe impl Body for ListBody {
    const KIND: Kind = Kind::List;
}

/// This process's view of a list.
#[derive(Clone, Copy)]
pub(crate) struct Sequence {
    pub(super) arena: &'static Arena,
    parts: &'static [Part; 1],
    object: u32,
}

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Front,
    Back,
}

impl Sequence {
    /// Creates an empty list, and the object that owns it.
    pub(crate) fn make() -> Result<(Handle, Sequence)> {
        let handle = make_parts::<ListBody, 1>()?;
        let sequence = Sequence::of(handle.id().index())?;
        Ok((handle, sequence))
    }

    /// Returns the list that an object owns. The caller holds the object.
    pub(crate) fn of(index: u32) -> Result<Sequence> {
        member::arena()?;
        Sequence::find(index).ok_or_else(|| Error::StaleHandle("this list no longer exists".into()))
    }

    /// As [`of`](Sequence::of), for recovery.
    pub(super) fn find(index: u32) -> Option<Sequence> {
        let arena = member::mapped()?;
        let block = arena.object(index).blocks[0].load(Ordering::Acquire);
        arena.layout.span_of(block)?;
        Some(Sequence { arena, parts: parts_at(arena, block), object: index })
    }

    pub(crate) fn arena(&self) -> &'static Arena {
        self.arena
    }

    pub(super) fn part(&self) -> &'static Part {
        &self.parts[0]
    }

    pub(super) fn acquire(&self) -> Result<PartGuard> {
        self.part().acquire(self.arena, self.parts)
    }

    pub(super) fn ring(&self) -> ListRing {
        // ORDERING: Acquire pairs with the Release in `Part::commit`.
        let table = Table(self.part().table.load(Ordering::Acquire));
        let ends = if table.0 == 0 { None } else { table.cell(self.arena, 0) };
        let ends = ends.map_or(0, |ends| ends.load(Ordering::Acquire));
        ListRing { table, first: ends >> 32, len: ends & u64::from(u32::MAX) }
    }

    pub(super) fn commit(&self, change: Change) {
        self.part().commit(self.arena, Tag::object(self.object), change, FIRST);
    }

    /// Calls `look` without the lock until it returns a result. After too many failed attempts, calls it with
    /// the lock. `look` gets a function that says whether what `look` has read is still valid. It also gets
    /// the budget, which it reduces after a failed copy.
    fn read_without_lock<R>(
        &self,
        mut look: impl FnMut(&dyn Fn() -> bool, &mut RetryBudget) -> Result<Option<R>>,
    ) -> Result<R> {
        loop {
            let mut budget = RetryBudget::new();
            while budget.has_attempt() {
                let now = self.part().begin_read();
                if now.is_unmapped() {
                    member::arena()?;
                }
                if let Some(seen) = look(&|| now.is_current(), &mut budget)? {
                    return Ok(seen);
                }
                std::hint::spin_loop();
            }
            if !part::is_inside(self.parts) {
                let _guard = self.acquire()?;
                if let Some(seen) = look(&|| true, &mut budget)? {
                    return Ok(seen);
                }
            }
        }
    }

    /// Returns the number of items.
    pub(crate) fn len(&self) -> Result<u64> {
        self.read_without_lock(|still, _| {
            let len = self.ring().len;
            Ok(still().then_some(len))
        })
    }

    /// Copies the item at `index`, or returns `None` if there is no such item.
    pub(crate) fn get(&self, index: u64, buffer: &mut Buffer) -> Result<Option<Found>> {
        self.read_without_lock(|still, budget| {
            let Some(at) = self.ring().node(self.arena, index) else { return Ok(still().then_some(None)) };
            let Some(node) = Node::read(self.arena, at) else { return Ok(None) };
            let copied = node.copy(self.arena, buffer, still)?.map(Some);
            if copied.is_none() {
                budget.charge(node.value_len);
            }
            Ok(copied)
        })
    }

    /// Adds an item at one end.
    pub(crate) fn push(&self, end: End, value: Encoded<'_>) -> Result<()> {
        let node = node::make(self.arena, NOTHING, value, false)?;
        let _guard = self.acquire()?;
        self.push_node(end, node)
    }

    fn push_node(&self, end: End, node: OwnedBlock) -> Result<()> {
        let mut ring = self.ring();
        if ring.len == ring.room() {
            ring = self.rebuild(ring, ring.len + 1, None, [None, None], false)?;
        }
        let (index, to) = match end {
            End::Back => (ring.len, ring.moved(0, 1)),
            End::Front => (u64::MAX, ring.moved(-1, 1)),
        };
        let (Some(cell), Some(at)) = (ring.cell(self.arena, index), ring.table.cell(self.arena, 0)) else {
            return Err(node::damaged());
        };
        // CRASH: the word is not between the ends yet. If we die before the commit, recovery makes it `EMPTY`
        // again.
        cell.store(naming(0, node.at()), Ordering::Release);
        self.commit(Change { at, to, fresh: [node.at(), 0], stale: [0; 2] });
        node.into_raw();
        Ok(())
    }

    /// Removes the item at one end, and returns it.
    pub(crate) fn pop(&self, end: End) -> Result<Old> {
        let guard = self.acquire()?;
        self.pop_locked(guard, end)
    }

    fn pop_locked(&self, guard: PartGuard, end: End) -> Result<Old> {
        let ring = self.ring();
        let Some(last) = ring.len.checked_sub(1) else { return Ok(Old::Nothing) };
        let (index, to) = match end {
            End::Back => (last, ring.moved(0, -1)),
            End::Front => (0, ring.moved(1, -1)),
        };
        let (cell, at) = (ring.cell(self.arena, index), ring.table.cell(self.arena, 0));
        let (Some(cell), Some(at), Some(node)) = (cell, at, ring.node(self.arena, index)) else {
            return Err(node::damaged());
        };
        self.commit(Change { at, to, fresh: [0; 2], stale: [node, 0] });
        let old = self.part().take_stale(self.arena, node);
        // CRASH: if we die before this store, recovery makes the word `EMPTY`.
        cell.store(EMPTY, Ordering::Release);
        let emptied = self.shrink();
        drop(guard);
        drop(emptied);
        Ok(Old::Node(old))
    }

    /// Inserts an item before the item that has this index. Returns false if `index` is greater than the
    /// length.
    pub(crate) fn insert(&self, index: u64, value: Encoded<'_>) -> Result<bool> {
        let node = node::make(self.arena, NOTHING, value, false)?;
        let _guard = self.acquire()?;
        let ring = self.ring();
        match index {
            _ if index > ring.len => return Ok(false),
            _ if index == ring.len => self.push_node(End::Back, node)?,
            0 => self.push_node(End::Front, node)?,
            _ => {
                self.rebuild(ring, ring.len + 1, Some((index, node.at())), [Some(node.at()), None], false)?;
                node.into_raw();
            }
        }
        Ok(true)
    }

    /// Removes the item with this index, and returns it.
    pub(crate) fn remove(&self, index: u64) -> Result<Old> {
        let guard = self.acquire()?;
        let ring = self.ring();
        let Some(node) = ring.node(self.arena, index) else { return Ok(Old::Nothing) };
        if index == 0 {
            return self.pop_locked(guard, End::Front);
        }
        if index + 1 == ring.len {
            return self.pop_locked(guard, End::Back);
        }
        self.rebuild(ring, ring.len, Some((index, 0)), [None, Some(node)], false)?;
        Ok(Old::Node(self.part().take_stale(self.arena, node)))
    }

    /// Removes all items.
    pub(crate) fn clear(&self) -> Result<()> {
        let guard = self.acquire()?;
        let emptied = self.drop_table();
        drop(guard);
        if emptied.is_some() {
            drop(emptied);
            collect::alone_if_wanted(self.arena);
            heap::trim(self.arena, member::slot());
        }
        Ok(())
    }

    pub(super) fn drop_table(&self) -> Option<Emptied> {
        let table = self.ring().table;
        if table.0 == 0 {
            return None;
        }
        let at = self.part().table_cell();
        self.commit(Change { at, to: 0, fresh: [0; 2], stale: [table.0 | WITH_NODES, 0] });
        Some(Emptied { arena: self.arena, table, first: FIRST })
    }

    /// Copies all items as they are at one moment. For a node without handles, calls `plain` with its value.
    /// Returns copies of the nodes with handles, each with its index.
    pub(crate) fn copy(&self, mut plain: impl FnMut(&[u8])) -> Result<Vec<(u64, OwnedBlock)>> {
        let (mut carried, mut unused) = (Vec::new(), Buffer::new());
        let guard = self.acquire()?;
        let ring = self.ring();
        for index in 0..ring.len {
            let node = ring.node(self.arena, index).and_then(|at| Node::read(self.arena, at));
            let node = node.ok_or_else(node::damaged)?;
            if node.is_plain() {
                plain(node.value(self.arena)?);
            } else if let Some(Found::Carried(copy)) = node.copy(self.arena, &mut unused, || true)? {
                carried.push((index, copy));
            }
        }
        drop(guard);
        Ok(carried)
    }

    /// Releases the lock that the journal entry names. The dead thread held this lock or was about to acquire
    /// it.
    pub(super) fn release(&self, dead: &Dead<'_>, entry: Journaled) {
        if self.part().is_locked_by_word_at(dead.arena, entry.offset) {
            let owner = Tag::object(self.object);
            self.part().recover(dead, entry, owner, FIRST, || self.empty_beyond_ends());
        }
    }

    fn empty_beyond_ends(&self) {
        let ring = self.ring();
        for index in ring.len..ring.room() {
            if let Some(cell) = ring.cell(self.arena, index) {
                cell.store(EMPTY, Ordering::Release);
            }
        }
    }

    /// Returns every block that can be reached, and how many words beyond the ends are not `EMPTY`.
    #[cfg(feature = "internals")]
    pub(crate) fn inventory(&self) -> (Vec<u64>, usize) {
        let ring = self.ring();
        let mut blocks = vec![self.arena.object(self.object).blocks[0].load(Ordering::Acquire)];
        blocks.extend((ring.table.0 != 0).then(|| ring.table.offset()));
        blocks.extend((0..ring.len).filter_map(|index| ring.node(self.arena, index)));
        let beyond = (ring.len..ring.room()).filter_map(|index| ring.cell(self.arena, index));
        (blocks, beyond.filter(|cell| cell.load(Ordering::Relaxed) != EMPTY).count())
    }
}

/// The key of an item's node. It is empty.
pub(super) const NOTHING: Encoded<'static> = Encoded { bytes: &[], ids: &[] };
